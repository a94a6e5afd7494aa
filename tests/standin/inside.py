# SPDX-License-Identifier: Apache-2.0
"""What test_standin.py does inside a sandbox: run a stand-in, look at /proc and
the disk, print what was seen as JSON. The expectations are in the test.

Call: inside.py SCENARIO BINARY [BINARY...], in a fresh pid, mount and network
namespace as root. It mounts empty file systems over /var/lib, /usr/local/bin
and /mnt, so nothing of the host is seen or touched.
"""
import ctypes
import fcntl
import json
import os
import shutil
import signal
import socket
import ssl
import stat
import struct
import subprocess
import sys
import time

K3S = "/usr/local/bin/k3s"
ROOT = "/var/lib/rancher/k3s"
DATA = ROOT + "/data"
CONF = "/mnt/standin.conf"
KUBECONFIG = "/mnt/k3s.yaml"
PORT = 16443
FLAGS = ["--write-kubeconfig", KUBECONFIG, "--https-listen-port", str(PORT), "--token", "sesame"]
libc = ctypes.CDLL(None, use_errno=True)


def sandbox():
    libc.prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: orphans come to us
    for where in ("/var/lib", "/usr/local/bin", "/mnt"):
        subprocess.check_call(["mount", "-t", "tmpfs", "-o", "size=400m,mode=0755", "t", where])
    os.umask(0o022)


def loopback(up):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    fcntl.ioctl(s, 0x8914, struct.pack("16sH14s", b"lo", 0x1 if up else 0, b""))


def install(binary):
    shutil.copy(binary, K3S + ".new")
    os.chmod(K3S + ".new", 0o755)
    os.rename(K3S + ".new", K3S)


def switches(**kw):
    kw.setdefault("ready_after_ms", 300)
    kw.setdefault("rsa", 0)
    with open(CONF, "w") as f:
        f.writelines("%s=%s\n" % i for i in kw.items())


def env(**kw):
    e = {"AAA_FIRST": "wiped", "PATH": "/usr/bin:/bin", "HOME": "/mnt", "K3S_STANDIN_CONF": CONF,
         "K3S_CONFIG_FILE": "/mnt/config.yaml"}
    e.update(kw)
    return e


def run(args, **kw):
    """Run to the end; returns exit code (negative: signal) and output."""
    p = subprocess.run([K3S] + args, env=env(**kw), stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=20)
    return {"rc": p.returncode, "out": p.stdout.decode(), "err": p.stderr.decode()}


def start(args, argv0=K3S, **kw):
    out = open("/mnt/out.log", "ab")
    return subprocess.Popen([argv0] + args, executable=K3S, env=env(**kw), stdout=out, stderr=out)


def slurp(path):
    with open(path, "rb") as f:
        return f.read()


def look(pid):
    """One look at a process; empty if it is gone. The files are read until two
    looks agree: an exec or a title may come in between."""
    d = "/proc/%d/" % pid
    before = None
    while True:
        try:
            now = {"comm": slurp(d + "comm").decode().strip(), "exe": os.readlink(d + "exe"), "cmdline": slurp(d + "cmdline").decode(),
                   "ppid": int(slurp(d + "stat").rsplit(b")", 1)[1].split()[1])}
        except OSError:
            return {}
        if now == before:
            return now
        before = now


def until(what, limit=8.0):
    end = time.time() + limit
    while time.time() < end:
        got = what()
        if got:
            return got
        time.sleep(0.01)
    raise SystemExit("waited in vain: " + what.__name__ + "\n" + slurp("/mnt/out.log").decode())


def get(path, known=False, port=PORT):
    """GET over TLS: status code and body; 0 if nobody listens, or the certificate to show is not there (whole) yet."""
    ctx = ssl._create_unverified_context()
    try:
        if known:
            ctx.load_cert_chain(ROOT + "/server/tls/client-admin.crt", ROOT + "/server/tls/client-admin.key")
        with socket.create_connection(("127.0.0.1", port), 2) as c, ctx.wrap_socket(c) as s:
            s.sendall(b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % path.encode())
            data = b""
            while True:
                more = s.recv(65536)
                if not more:
                    break
                data += more
    except OSError:
        return 0, ""
    head, _, body = data.partition(b"\r\n\r\n")
    return int(head.split()[1]), body.decode()


def ready():
    return get("/readyz", True)[0] == 200


def server(args=(), **kw):
    p = start(["server"] + FLAGS + list(args), **kw)
    until(ready)
    return p


def finish(p, sig=signal.SIGTERM):
    t = time.time()
    p.send_signal(sig)
    rc = p.wait(15)
    return {"rc": rc, "seconds": time.time() - t}


def tree(top, depth=9):
    """Path -> "mode target" below top."""
    seen = {}
    for d, dirs, files in os.walk(top):
        for n in dirs + files:
            p = os.path.join(d, n)
            rel = os.path.relpath(p, top)
            if rel.count("/") < depth:
                st = os.lstat(p)
                text = stat.filemode(st.st_mode)
                if stat.S_ISLNK(st.st_mode):
                    text += " " + os.readlink(p)
                seen[rel] = text
    return seen


def links():
    return {n: os.path.basename(os.readlink(DATA + "/" + n)) if os.path.islink(DATA + "/" + n) else None
            for n in ("current", "previous")}


# ---- scenarios ----

def versions(a):
    install(a)
    os.symlink(K3S, "/mnt/weird")
    got = {"-v": run(["-v"]), "--version": run(["--version"]), "none": run([]), "--help": run(["--help"]),
           "server --help": run(["server", "--help"]), "bogus": run(["bogus"])}
    got["weird"] = subprocess.check_output(["/mnt/weird", "--version"]).decode()
    got["touched"] = os.listdir("/var/lib")
    return got


def process(a):
    install(a)
    switches(full_argv_ms=300, blank_argv_ms=300, extract_delay_ms=300, ready_after_ms=1500)
    p = start(["server"] + FLAGS)
    phases, answers = [], []

    def titled():
        now = look(p.pid)
        if now and now["comm"] != "python3" and (not phases or phases[-1] != now):
            phases.append(now)
        return now.get("cmdline", "").rstrip("\0").endswith("k3s server")
    until(titled)

    def up():
        known = os.path.exists(ROOT + "/server/tls/client-admin.key")
        now = get("/readyz", True)[0] if known else 0
        if now and (not answers or answers[-1] != now):
            answers.append(now)
        return now == 200
    until(up)
    d = "/proc/%d/" % p.pid
    got = {"phases": phases, "answers": answers, "environ": slurp(d + "environ").decode(), "cwd": os.readlink(d + "cwd"),
           "argbytes": sum(len(x) + 1 for x in [K3S, "server"] + FLAGS), "pid": p.pid,
           "ping": get("/ping"), "anonymous": get("/readyz")[0], "cacerts": get("/cacerts")[1],
           "raw": run(["kubectl", "get", "--raw", "/readyz"], KUBECONFIG=KUBECONFIG), "term": finish(p)}
    p = server()
    got["hup"] = finish(p, signal.SIGHUP)
    switches(term_delay_ms=5000)
    p = server()
    p.send_signal(signal.SIGTERM)
    time.sleep(0.1)
    got["second"] = finish(p)
    switches(ready_after_ms=3000, term_delay_ms=50)
    p = start(["server"] + FLAGS)
    until(lambda: get("/ping")[0] == 200)
    got["early"] = finish(p)["rc"]
    return got


def upgrade(a, b):
    got = {}
    install(a)
    switches()
    p = server()
    got["first"] = links()
    install(b)  # over the running server: the wrapper file is not in use
    got["kubectl"] = run(["kubectl", "version", "--client"])
    got["after kubectl"] = links()
    got["still"] = look(p.pid)["exe"]
    finish(p, signal.SIGKILL)
    p = server()
    got["upgraded"] = look(p.pid)["exe"]
    got["listing"] = tree(DATA, 2)
    finish(p, signal.SIGKILL)
    install(a)
    p = server()
    got["rolled back"] = look(p.pid)["exe"]
    got["after rollback"] = links()
    try:
        open(look(p.pid)["exe"], "r+b").close()
        got["busy"] = False
    except OSError as e:
        got["busy"] = e.errno == 26
    finish(p, signal.SIGKILL)
    return got


def torn(a):
    install(a)
    switches()
    got = {"first": run(["kubectl", "version", "--client"])["rc"]}
    bin_dir = os.path.realpath(DATA + "/current") + "/bin/"
    real = os.path.realpath(bin_dir + "kubectl")
    os.truncate(real, 100000)
    got["truncated"] = run(["kubectl", "version", "--client"])["rc"]
    got["size after"] = os.path.getsize(real)
    os.unlink(real)
    got["missing"] = run(["server"] + FLAGS)
    got["still missing"] = not os.path.exists(real)
    return got


def extraction(a):
    install(a)
    switches(extract_delay_ms=3000)
    p = start(["kubectl", "version"])
    until(lambda: [n for n in os.listdir(DATA) if n.endswith("-tmp")] if os.path.isdir(DATA) else [])
    time.sleep(0.2)
    comm = look(p.pid)
    try:
        open(K3S, "r+b").close()
        busy = False
    except OSError as e:
        busy = e.errno == 26
    p.kill()
    got = {"wrapper": comm, "busy": busy, "rc": p.wait(), "left": sorted(n[64:] or n for n in os.listdir(DATA) if n != ".lock")}
    switches()
    got["healed"] = run(["kubectl", "version", "--client"])["rc"]
    got["then"] = sorted(n if len(n) < 64 else "H" + n[64:] for n in os.listdir(DATA))
    shutil.rmtree(ROOT)
    switches(enospc=1)
    got["switch"] = run(["kubectl", "version", "--client"])
    got["switch left"] = os.listdir(DATA)
    switches()
    os.mkdir("/mnt/full")
    subprocess.check_call(["mount", "-t", "tmpfs", "-o", "size=2m", "t", "/mnt/full"])
    got["real"] = run(["--data-dir", "/mnt/full/d", "kubectl", "version", "--client"])
    got["real left"] = os.listdir("/mnt/full/d/data")
    return got


def pair(a):
    install(a)
    switches(term_delay_ms=300)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.bind("/mnt/notify")
    sock.setsockopt(socket.SOL_SOCKET, 16, 1)  # SO_PASSCRED
    got = {}
    for name, who, sig in (("parent", 0, signal.SIGTERM), ("child", 1, signal.SIGTERM), ("kill child", 1, signal.SIGKILL)):
        p = server(["--log", "/mnt/k3s.log"], NOTIFY_SOCKET="/mnt/notify")
        kids = slurp("/proc/%d/task/%d/children" % (p.pid, p.pid)).split()
        child = int(kids[0])
        time.sleep(0.2)
        if "parent seen" not in got:
            got.update({"parent seen": look(p.pid), "child seen": look(child), "pid": p.pid, "children": len(kids),
                        "child env": slurp("/proc/%d/environ" % child).decode(), "log": slurp("/mnt/k3s.log").decode(),
                        "log mode": oct(os.stat("/mnt/k3s.log").st_mode & 0o777)})
            sock.setblocking(False)
            msg, anc, _, _ = sock.recvmsg(100, 100)
            got["notify"] = [msg.decode(), "child" if struct.unpack("iii", anc[0][2][:12])[0] == child else "parent"]
        os.kill((p.pid, child)[who], sig)
        t = time.time()
        rc = p.wait(10)
        alive = look(child).get("comm") == "exe"

        def gone():
            s = slurp("/proc/%d/stat" % child).rsplit(b")", 1)[1].split()[0] if os.path.exists("/proc/%d" % child) else b"Z"
            return s == b"Z"
        until(gone)
        got[name] = {"rc": rc, "seconds": time.time() - t, "child outlived": alive}
        try:
            os.waitpid(child, 0)
        except ChildProcessError:
            pass
    return got


def certificates(a):
    install(a)
    switches(rsa=1)
    p = server()
    got = {"server": tree(ROOT + "/server"), "agent": tree(ROOT + "/agent"), "modes": tree(ROOT, 1)}
    tls = ROOT + "/server/tls/"
    cas = {"client": "client-ca", "server": "server-ca", "request": "request-header-ca", "etcd": "etcd/server-ca", "peer": "etcd/peer-ca"}
    got["certs"] = {}
    for d, _, files in os.walk(ROOT + "/server/tls"):
        for n in files:
            if n.endswith(".crt"):
                text = subprocess.check_output(["openssl", "x509", "-in", d + "/" + n, "-noout", "-subject", "-serial", "-nameopt", "RFC2253",
                                                "-ext", "extendedKeyUsage,basicConstraints,subjectAltName"], stderr=subprocess.DEVNULL).decode()
                ca = [k for k, f in cas.items() if subprocess.run(
                    ["openssl", "verify", "-CAfile", tls + f + ".crt", d + "/" + n], stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL).returncode == 0]
                got["certs"][os.path.relpath(d + "/" + n, tls)] = [text, ca, slurp(d + "/" + n).count(b"BEGIN")]
    got["keys"] = {n: slurp(tls + n).decode().split("\n")[0] for n in ("client-admin.key", "service.key")}
    got["key size"] = os.path.getsize(tls + "client-admin.key")
    got["token"] = slurp(ROOT + "/server/token").decode()
    got["kubeconfig"] = [slurp(KUBECONFIG).decode(), oct(os.stat(KUBECONFIG).st_mode & 0o777)]
    finish(p, signal.SIGKILL)

    def restart():
        before = {n: slurp(tls + n) for n in sorted(os.listdir(tls)) if os.path.isfile(tls + n)}
        change()
        q = server()
        finish(q, signal.SIGKILL)
        after = {n: slurp(tls + n) for n in sorted(os.listdir(tls)) if os.path.isfile(tls + n)}
        return sorted(n for n in set(before) | set(after) if before.get(n) != after.get(n))

    change = lambda: None
    got["plain restart"] = restart()
    change = lambda: [os.unlink(tls + n) for n in ("client-scheduler.crt", "client-scheduler.key", "client-controller.crt")]
    got["deleted"] = restart()
    change = lambda: open(tls + "client-scheduler.crt", "w").close()
    got["emptied"] = restart()
    change = lambda: open(tls + "dynamic-cert-regenerate", "w").close()
    got["trigger"] = restart()
    got["trigger gone"] = not os.path.exists(tls + "dynamic-cert-regenerate")
    os.unlink(tls + "client-scheduler.crt")
    open(tls + "client-scheduler.key", "w").close()
    got["torn key"] = run(["server"] + FLAGS)
    return got


def rotate(a):
    install(a)
    switches()
    tls = ROOT + "/server/tls/"
    finish(server(), signal.SIGKILL)
    before = {n: slurp(tls + n) for n in os.listdir(tls) if os.path.isfile(tls + n)}
    got = {"wrong service": run(["certificate", "rotate", "--service", "nonsense"])["rc"],
           "json": run(["certificate", "check", "--output", "json"]), "bad format": run(["certificate", "check", "-o", "xml"])["rc"],
           "rotate": run(["certificate", "rotate"])}
    got["removed"] = sorted(n for n in before if not os.path.exists(tls + n))
    got["kept"] = sorted(n for n in before if os.path.exists(tls + n) and slurp(tls + n) == before[n])
    backup = [n for n in os.listdir(ROOT + "/server") if n.startswith("tls-")]
    got["backups"] = len(backup)
    got["backup complete"] = set(before) <= set(os.listdir(ROOT + "/server/" + backup[0]))
    got["backup mode"] = oct(os.stat(ROOT + "/server/" + backup[0]).st_mode & 0o777)
    got["agent removed"] = not [n for n in os.listdir(ROOT + "/agent") if n.endswith(".key")]
    got["trigger"] = os.path.getsize(tls + "dynamic-cert-regenerate") if os.path.exists(tls + "dynamic-cert-regenerate") else None
    finish(server(), signal.SIGKILL)
    after = {n: slurp(tls + n) for n in os.listdir(tls) if os.path.isfile(tls + n)}
    got["same names"] = set(before) == set(after)
    got["renewed"] = sorted(n for n in before if before[n] != after.get(n))
    got["elsewhere"] = run(["certificate", "rotate", "--data-dir", "/mnt/empty"])
    return got


def agent(a):
    install(a)
    switches(kubelet_port=11248)
    p = start(["agent", "--server", "https://192.0.2.1:6443", "--token", "sesame", "--node-name", "n1"])

    def healthy():
        with socket.socket() as s:
            if s.connect_ex(("127.0.0.1", 11248)):
                return False
            s.sendall(b"GET /healthz HTTP/1.1\r\n\r\n")
            return b"\r\n\r\nok" in s.recv(1000)
    until(healthy)
    got = {"seen": look(p.pid), "cwd": os.readlink("/proc/%d/cwd" % p.pid), "tree": tree(ROOT, 2),
           "verify": subprocess.run(["openssl", "verify", "-CAfile", ROOT + "/agent/client-ca.crt", ROOT + "/agent/client-kubelet.crt"],
                                    stdout=subprocess.PIPE).stdout.decode(),
           "subject": subprocess.check_output(["openssl", "x509", "-in", ROOT + "/agent/client-kubelet.crt", "-noout", "-subject",
                                               "-nameopt", "RFC2253"]).decode().strip()}
    ca = slurp(ROOT + "/agent/client-ca.crt")
    finish(p, signal.SIGKILL)
    p = start(["agent", "--server", "https://192.0.2.1:6443", "--token", "sesame", "--node-name", "n1"])
    until(healthy)
    got["same CA"] = slurp(ROOT + "/agent/client-ca.crt") == ca
    finish(p, signal.SIGKILL)
    return got


def children(a):
    install(a)
    switches(containerd=1, shims=2)
    p = server()
    kids = [look(int(x)) for x in slurp("/proc/%d/task/%d/children" % (p.pid, p.pid)).split()]

    def shims():
        seen = [look(int(n)) for n in os.listdir("/proc") if n.isdigit()]
        return [s for s in seen if s.get("comm") == "containerd-shim"]
    got = {"kids": kids, "shims": shims()}
    finish(p, signal.SIGKILL)
    time.sleep(0.1)
    got["left"] = shims()
    got["containerd left"] = [n for n in os.listdir("/proc") if n.isdigit() and look(int(n)).get("comm") == "containerd"]
    p = server()
    got["again"] = len(shims())
    finish(p, signal.SIGKILL)
    return got


def faults(a, broken):
    install(a)
    got = {}
    for name, kw in (("die_at_start", {"die_at_start": 7}), ("other version", {"die_at_start@v9.9.9+k3s1": 7, "die_after_ms": 50}),
                     ("die_after_ms", {"die_after_ms": 200, "exit_code": 4}), ("signal", {"die_at_start": 1, "die_signal": 11})):
        switches(**kw)
        got[name] = run(["server"] + FLAGS)["rc"]
    switches(flap=2)
    got["flap"] = [run(["server"] + FLAGS)["rc"] for _ in range(2)]
    p = server()
    got["flap over"] = p.poll()
    finish(p, signal.SIGKILL)
    switches(never_ready=1, ignore_sigterm=1, ready_after_ms=100)
    p = start(["server"] + FLAGS)
    until(lambda: get("/ping")[0] == 200)
    time.sleep(0.3)
    got["never"] = get("/readyz", True)[0]
    p.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    got["ignores"] = p.poll()
    finish(p, signal.SIGKILL)
    for title in ("wrong-role", "untitled"):
        switches(title=title)
        p = server()
        got[title] = look(p.pid)
        finish(p, signal.SIGKILL)
    switches()
    p = server()
    got["port taken"] = run(["server"] + FLAGS + ["--data-dir", "/mnt/second"])
    finish(p, signal.SIGKILL)
    loopback(False)
    p = start(["server"] + FLAGS)
    time.sleep(0.8)
    got["lo down"] = p.poll()
    finish(p, signal.SIGKILL)
    switches(need_lo=1)
    got["need_lo"] = run(["server"] + FLAGS)["rc"]
    loopback(True)
    switches()
    install(broken)
    got["stamped"] = run(["server"] + FLAGS)["rc"]
    got["stamped version"] = run(["--version"])["rc"]
    return got


def notify(a):
    install(a)
    switches(ready_after_ms=2000)
    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    s.bind("/mnt/notify")
    s.settimeout(5)
    p = start(["server"] + FLAGS, NOTIFY_SOCKET="/mnt/notify")
    got = {"text": s.recv(100).decode(), "readyz then": get("/readyz", True)[0]}
    finish(p, signal.SIGKILL)
    return got


def datadirs(a):
    """Where each way of naming a data-dir leads; one sub-directory each."""
    install(a)
    switches()
    got = {}

    def where():
        return sorted(n for n in os.listdir("/mnt") if os.path.isdir("/mnt/" + n + "/data")) + \
            (["default"] if os.path.isdir(DATA) else [])

    def clean():
        for n in where():
            shutil.rmtree("/mnt/" + n if n != "default" else ROOT)

    def case(name, args, config="", **kw):
        with open("/mnt/config.yaml", "w") as f:
            f.write(config)
        run(args, **kw)
        got[name] = where()
        clean()
    case("nothing", ["kubectl", "version", "--client"])
    case("global flag", ["--data-dir", "/mnt/cli", "kubectl", "version", "--client"])
    case("flag with =", ["etcd-snapshot", "ls", "--data-dir=/mnt/cli"])
    case("short flag", ["etcd-snapshot", "ls", "-d", "/mnt/cli"])
    case("config", ["etcd-snapshot", "ls"], "# x\ntoken: t\ndata-dir: \"/mnt/conf\" # there\n")
    case("flag over config", ["etcd-snapshot", "ls", "--data-dir", "/mnt/cli"], "data-dir: /mnt/conf\n")
    case("variable", ["etcd-snapshot", "ls"], "data-dir: /mnt/conf\n", K3S_DATA_DIR="/mnt/var")
    os.mkdir("/mnt/config.yaml.d")
    with open("/mnt/config.yaml.d/a.yaml", "w") as f:
        f.write("data-dir: /mnt/dropin\n")
    case("drop-in", ["etcd-snapshot", "ls"], "data-dir: /mnt/conf\n")
    shutil.rmtree("/mnt/config.yaml.d")
    open("/mnt/config.yaml", "w").close()
    cli = ["--data-dir", "/mnt/cli"]
    run(cli + ["kubectl", "version", "--client"])
    run(["kubectl", "version", "--client"])
    p = start(["server", "--write-kubeconfig", KUBECONFIG, "--https-listen-port", "0"] + cli)
    seen = until(lambda: os.path.exists("/mnt/cli/server/tls") and look(p.pid))
    got["both present"] = "cli" if seen["exe"].startswith("/mnt/cli") else "default"
    got["server dir"] = os.readlink("/proc/%d/cwd" % p.pid)
    finish(p, signal.SIGKILL)
    shutil.rmtree("/mnt/cli")
    run(cli + ["kubectl", "version", "--client"])
    got["default present"] = where()
    return got


def main():
    sandbox()
    loopback(True)
    json.dump(globals()[sys.argv[1]](*sys.argv[2:]), sys.stdout)


if __name__ == "__main__":
    main()
