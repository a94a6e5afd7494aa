# SPDX-License-Identifier: Apache-2.0
"""A full server's tree of certificates, made with openssl(1), and what certs.c measures of it."""
import os
import subprocess

DATA = "var/lib/rancher/k3s"
T, E, A = "server/tls/", "server/tls/etcd/", "agent/"
CAS = [T + "client-ca", T + "server-ca", T + "request-header-ca", E + "server-ca", E + "peer-ca"]
NAMES = "DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:localhost,IP:127.0.0.1"
# (path, authority, subject, usages, names)
PAIRS = [(T + "client-admin", T + "client-ca", "/O=system:masters/CN=system:admin", "clientAuth", None),
         (T + "client-kube-apiserver", T + "client-ca", "/O=system:masters/CN=system:apiserver", "clientAuth", None),
         (T + "serving-kube-apiserver", T + "server-ca", "/CN=kube-apiserver", "serverAuth", NAMES),
         (T + "client-auth-proxy", T + "request-header-ca", "/CN=system:auth-proxy", "clientAuth", None),
         (T + "client-k3s-cloud-controller", T + "client-ca", "/CN=k3s-cloud-controller-manager", "clientAuth", None),
         (T + "client-controller", T + "client-ca", "/CN=system:kube-controller-manager", "clientAuth", None),
         (T + "kube-controller-manager/kube-controller-manager", T + "server-ca", "/CN=kube-controller-manager", "serverAuth", NAMES),
         (E + "client", E + "server-ca", "/CN=etcd-client", "clientAuth", None),
         (E + "server-client", E + "server-ca", "/CN=etcd-server", "serverAuth,clientAuth", NAMES),
         (E + "peer-server-client", E + "peer-ca", "/CN=etcd-peer", "serverAuth,clientAuth", NAMES),
         (T + "client-k3s-controller", T + "client-ca", "/CN=system:k3s-controller", "clientAuth", None),
         (A + "client-k3s-controller", A + "client-ca", "/CN=system:k3s-controller", "clientAuth", None),
         (T + "client-kube-proxy", T + "client-ca", "/CN=system:kube-proxy", "clientAuth", None),
         (A + "client-kube-proxy", A + "client-ca", "/CN=system:kube-proxy", "clientAuth", None),
         (A + "client-kubelet", A + "client-ca", "/O=system:nodes/CN=system:node:n", "clientAuth", None),
         (A + "serving-kubelet", A + "server-ca", "/CN=n", "serverAuth", NAMES),
         (T + "client-scheduler", T + "client-ca", "/CN=system:kube-scheduler", "clientAuth", None),
         (T + "kube-scheduler/kube-scheduler", T + "server-ca", "/CN=kube-scheduler", "serverAuth", NAMES),
         (T + "client-supervisor", T + "client-ca", "/O=system:masters/CN=system:k3s-supervisor", "clientAuth", None)]
KEYS = [T + "client-kubelet", T + "serving-kubelet"]


def openssl(*args, cwd):
    subprocess.run(["openssl", *args], cwd=cwd, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def key(data, path):
    os.makedirs(os.path.dirname(os.path.join(data, path)), mode=0o755, exist_ok=True)
    openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", path + ".key", cwd=data)


def read(data, path):
    with open(os.path.join(data, path), "rb") as f:
        return f.read()


def write(data, path, content):
    with open(os.path.join(data, path), "wb") as f:
        f.write(content)


def make(root, certificates=0):
    """Lines for certs.c, and how many certificates there are: two in each leaf's file, or as many as make up that number."""
    data = os.path.join(root, DATA)
    os.makedirs(os.path.join(data, "server/cred"), mode=0o755)
    write(data, "openssl.cnf", b"[req]\ndistinguished_name=dn\n[dn]\n")
    for name in ("admin", "api-server", "cloud-controller", "controller", "scheduler", "supervisor"):
        write(data, "server/cred/%s.kubeconfig" % name, b"users: []\n")
    config = ["req", "-config", "openssl.cnf", "-new", "-x509"]
    for ca in CAS:
        key(data, ca)
        openssl(*config, "-key", ca + ".key", "-subj", "/CN=" + ca.replace("/", "-"), "-days", "3650", "-addext", "basicConstraints=critical,CA:TRUE",
                "-addext", "keyUsage=critical,digitalSignature,keyCertSign", "-addext", "subjectKeyIdentifier=hash", "-out", ca + ".crt", cwd=data)
    for ca in (T + "client-ca", T + "server-ca"):
        os.makedirs(os.path.join(data, "agent"), exist_ok=True)
        write(data, A + os.path.basename(ca) + ".crt", read(data, ca + ".crt"))
    more = max(1, (certificates - len(CAS) - 2) // len(PAIRS) - 1)
    for path, ca, subject, usages, names in PAIRS:
        key(data, path)
        signer = T + os.path.basename(ca) if ca.startswith(A) else ca
        openssl("req", "-config", "openssl.cnf", "-new", "-key", path + ".key", "-subj", subject, "-out", "csr", cwd=data)
        write(data, "ext", ("keyUsage=critical,digitalSignature\nextendedKeyUsage=%s\nauthorityKeyIdentifier=keyid\n" % usages +
                            ("subjectAltName=%s\n" % names if names else "")).encode())
        openssl("x509", "-req", "-in", "csr", "-CA", signer + ".crt", "-CAkey", signer + ".key", "-days", "365", "-set_serial", "7", "-extfile", "ext",
                "-out", path + ".crt", cwd=data)
        write(data, path + ".crt", read(data, path + ".crt") + read(data, ca + ".crt") * more)
    for path in KEYS:
        key(data, path)
    for where, _, files in os.walk(data):
        for name in files:
            os.chmod(os.path.join(where, name), 0o600 if name.endswith(".key") else 0o644)
    lines = ["%s.crt %s.key -" % (ca, ca) for ca in CAS] + ["%sclient-ca.crt - -" % A, "%sserver-ca.crt - -" % A]
    lines += ["%s.crt %s.key %s.crt" % (path, path, ca) for path, ca, _, _, _ in PAIRS]
    return "\n".join(lines) + "\n", len(CAS) + 2 + len(PAIRS) * (1 + more)


def measure(driver, root, rounds, lines, certificates, *only):
    """{contestant: (median, low, high)} in ms. Without a process table of others' in it."""
    out = subprocess.run(["unshare", "-pfm", "--mount-proc", "--propagation", "private", driver, root, str(rounds), str(certificates), *only], input=lines,
                         stdout=subprocess.PIPE, text=True, check=True).stdout
    return {name: tuple(int(n) / 1e3 for n in numbers) for name, *numbers in (line.split() for line in out.splitlines())}


def bench(driver, work, rounds, judged):
    """Prints; True if the bounds hold: 1.5 times the control for a full server's tree, and cost that grows as the number of certificates does."""
    lines, n = make(os.path.join(work, "tree"))
    times = measure(driver, os.path.join(work, "tree"), rounds, lines, n)
    for name, (median, low, high) in times.items():
        print("%-18s median %7.1f ms, %7.1f to %7.1f (%d), %d certificates" % (name, median, low, high, rounds, n))
    grown, few, many = {}, 1000 if judged else 100, 10000 if judged else 300
    for wanted in (few, many):
        lines, n = make(os.path.join(work, str(wanted)), wanted)
        grown[wanted] = measure(driver, os.path.join(work, str(wanted)), max(3, rounds // 3) if judged else 1, lines, n, "check")["check"][0]
        print("%-18s median %7.1f ms, %d certificates" % ("check", grown[wanted], n))
    fine = True
    for what, value, bound in (("check / control", times["check"][0] / times["control"][0], 1.5), ("check / openssl x509", times["check"][0] / times["openssl"][0], None),
                               ("%d / %d certificates" % (many, few), grown[many] / grown[few], 1.5 * many / few)):
        held = bound is None or value <= bound
        print("%-28s %6.2f %-5s %s" % (what, value, "times", "" if bound is None else "at most %.2f" % bound + ((": ok" if held else ": TOO MUCH") if judged else "")))
        fine = fine and held
    return fine or not judged
