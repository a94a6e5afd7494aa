# SPDX-License-Identifier: Apache-2.0
"""Compares the stand-in k3s with what was observed of real ones.

The expected values are in ERAS (what differs from release to release) and in
the tests (what does not). What is looked at, and how, is in inside.py, which
runs in a private pid, mount and network namespace; it needs root.
"""
import concurrent.futures
import hashlib
import json
import os
import re
import subprocess
import sys

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
BUILD = os.environ.get("K3SUP_BUILD_DIR") or os.path.join(HERE, "..", "..", "build")
OUT = os.path.join(BUILD, "standin-test")
ROOT = "/var/lib/rancher/k3s"
COMMIT = "0123abcd"

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root for namespaces")

VERSIONS = {"2020": "v1.19.2+k3s1", "2021": "v1.21.3+k3s1", "2023": "v1.26.9+k3s1", "2024": "v1.30.4+k3s1", "2025": "v1.34.2+k3s1"}
NEXT = {"2021": "v1.21.4+k3s1", "2025": "v1.34.3+k3s1"}
ERAS = {
    # real file, prefix of the embedded name, exit code and seconds of a SIGTERM,
    # PATH starts with data/cni, K3S_DATA_DIR set, --log parent's title,
    # renewal signs, who sends READY, parent's fate on SIGTERM
    "2021": {"real": "containerd", "asset": "build/data", "term": (1, 0.03, 2), "cni": False, "datadir": True,
             "parent": "/usr/local/bin/k3s ", "notify": "child", "parent term": -15, "log mode": "0o644", "conf mode": "-rw-r--r--",
             "orphan": True, "variable": ["conf"], "drop-in": ["conf"], "both": "default"},
    "2023": {"parent": "/usr/local/bin/k3s init", "notify": "parent", "parent term": -15, "log mode": "0o600", "orphan": True},
    "2025": {"real": "k3s", "asset": "embed", "term": (0, 4.9, 8), "cni": True, "datadir": False,
             "parent": "/usr/local/bin/k3s init", "notify": "parent", "parent term": 0, "log mode": "0o600", "conf mode": "-rw-------",
             "orphan": False, "variable": ["var"], "drop-in": ["dropin"], "both": "cli"},
}
BOTH = ["2021", "2025"]
LINKS = {"2021": "crictl ctr k3s k3s-agent k3s-etcd-snapshot k3s-server kubectl",
         "2025": "containerd crictl ctr k3s-agent k3s-certificate k3s-completion k3s-etcd-snapshot k3s-secrets-encrypt k3s-server k3s-token kubectl"}
PLUGINS = {"2021": "bridge flannel host-local loopback portmap",
           "2025": "bandwidth bridge firewall flannel host-local loopback portmap"}
CLIENTS = {  # name below server/tls: subject, authority
    "client-admin.crt": ("CN=system:admin,O=system:masters", "client"),
    "client-controller.crt": ("CN=system:kube-controller-manager", "client"),
    "client-scheduler.crt": ("CN=system:kube-scheduler", "client"),
    "client-k3s-cloud-controller.crt": ("CN=k3s-cloud-controller-manager", "client"),
    "client-auth-proxy.crt": ("CN=system:auth-proxy", "request"),
    "etcd/client.crt": ("CN=etcd-client", "etcd"),
}
CLIENTS_OF = {
    "2021": {"client-kube-apiserver.crt": ("CN=kube-apiserver", "client"), "client-kube-proxy.crt": ("CN=system:kube-proxy", "client"),
             "client-k3s-controller.crt": ("CN=system:k3s-controller", "client")},
    "2025": {"client-kube-apiserver.crt": ("CN=system:apiserver,O=system:masters", "client"),
             "client-supervisor.crt": ("CN=system:k3s-supervisor,O=system:masters", "client")},
}
SERVING = {"serving-kube-apiserver.crt": ("CN=kube-apiserver", "server")}
SERVING_OF = {"2021": {}, "2025": {"kube-scheduler/kube-scheduler.crt": ("CN=kube-scheduler", "server"),
                                   "kube-controller-manager/kube-controller-manager.crt": ("CN=kube-controller-manager", "server")}}
PEERS = {"etcd/server-client.crt": ("CN=etcd-server", "etcd"), "etcd/peer-server-client.crt": ("CN=etcd-peer", "peer")}
AUTHORITIES = {"client-ca.crt": "k3s-client-ca", "server-ca.crt": "k3s-server-ca", "request-header-ca.crt": "k3s-request-header-ca",
               "etcd/server-ca.crt": "etcd-server-ca", "etcd/peer-ca.crt": "etcd-peer-ca"}


def build(version, era, *more):
    name = "-".join([version.replace("+", "_"), era] + [re.sub(r"\W+", "_", m) for m in more])
    out = os.path.join(OUT, name, "k3s")
    subprocess.check_call([os.path.join(HERE, "build.sh"), "--version", version, "--commit", COMMIT, "--era", era,
                           "--size", "small", "-o", out] + list(more))
    return out


@pytest.fixture(scope="session")
def binary():
    made = {}

    def get(version, era, *more):
        key = (version, era) + more
        if key not in made:
            made[key] = build(*key)
        return made[key]
    return get


# What the tests will ask for: started together when the whole file runs, since
# most of the time is spent waiting.
PLAN = [("process", "2025"), ("process", "2021"), ("certificates", "2025"), ("certificates", "2021"), ("pair", "2025"), ("pair", "2023"),
        ("pair", "2021"), ("notify", "2021"), ("notify", "2025"), ("children", "2021"), ("children", "2025"), ("agent", "2025"),
        ("torn", "2021"), ("rotate", "2023"), ("rotate", "2025"), ("extraction", "2025"), ("datadirs", "2021"), ("datadirs", "2025")]


@pytest.fixture(scope="session")
def inside(binary, request):
    pool = concurrent.futures.ThreadPoolExecutor(4)

    def call(scenario, *binaries):
        p = subprocess.run(["unshare", "-pfmn", "--mount-proc", "/usr/bin/python3", os.path.join(HERE, "inside.py"), scenario] +
                           list(binaries), stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
        return p.returncode, p.stdout.decode(), p.stderr.decode()
    started = {}
    if len(request.session.items) > 15:
        for scenario, era in PLAN:
            started[scenario, era] = pool.submit(call, scenario, binary(VERSIONS[era], era))

    def run(scenario, era, *others):
        job = started.get((scenario, era)) or pool.submit(call, scenario, binary(VERSIONS[era], era), *others)
        rc, out, err = job.result()
        assert rc == 0, err
        return json.loads(out)
    yield run
    pool.shutdown()


def payload(path, era):
    """Name and frame of the embedded archive, found the way a reader must."""
    data = open(path, "rb").read()
    found = set(re.findall(rb"(embed|build/data)/([0-9a-f]{64})\.tar\.zst", data))
    assert len(found) == 1, found
    prefix, name = found.pop()
    at = data.index(b"\x28\xb5\x2f\xfd\x84\x78")
    pos = at + 10
    while True:
        head = int.from_bytes(data[pos:pos + 3], "little")
        pos += 3 + (1 if head >> 1 & 3 == 1 else head >> 3)
        if head & 1:
            break
    return prefix.decode(), name.decode(), data[at:pos + 4]


@pytest.mark.parametrize("era", BOTH)
def test_archive(binary, tmp_path, era):
    prefix, name, frame = payload(binary(VERSIONS[era], era), era)
    assert prefix == ERAS[era]["asset"]
    assert hashlib.sha256(frame).hexdigest() == name
    (tmp_path / "a.zst").write_bytes(frame)
    subprocess.check_call(["zstd", "-dq", "--long=25", "a.zst", "-o", "a.tar"], cwd=tmp_path)  # checks the checksum, too
    subprocess.check_call(["tar", "xf", "a.tar"], cwd=tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["a.tar", "a.zst", "bin", "etc"]
    subprocess.check_call(["sha256sum", "--quiet", "-c", ".sha256sums"], cwd=tmp_path / "bin")
    want = {n: ERAS[era]["real"] for n in LINKS[era].split()}
    want.update({n: "cni" for n in PLUGINS[era].split()})
    have = {n: os.readlink(tmp_path / "bin" / n) for n in os.listdir(tmp_path / "bin") if os.path.islink(tmp_path / "bin" / n)}
    assert have == want
    assert (tmp_path / "bin" / ".links").read_text() == "".join("%s %s\n" % i for i in sorted(want.items()))


@pytest.mark.parametrize("era,recorded", [("2021", False), ("2023", True), ("2025", True)])
def test_build_info(binary, era, recorded):
    """Releases before Go 1.18 carry the version as bytes only, later ones in
    the recorded linker flags as well."""
    data = open(binary(VERSIONS[era], era), "rb").read()
    flag = b"-X github.com/k3s-io/k3s/pkg/version.Version=" + VERSIONS[era].encode()
    assert (flag in data) is recorded
    assert VERSIONS[era].encode() in data
    assert b"\xff Go buildinf:" in data


def test_equal_builds_are_equal(binary, tmp_path):
    a = binary(VERSIONS["2021"], "2021")
    env = dict(os.environ, K3SUP_STANDIN_CACHE=str(tmp_path))
    subprocess.check_call([os.path.join(HERE, "build.sh"), "--version", VERSIONS["2021"], "--commit", COMMIT, "--era", "2021",
                           "--size", "small", "-o", str(tmp_path / "k3s")], env=env)
    assert payload(a, "2021")[1] == payload(str(tmp_path / "k3s"), "2021")[1]


@pytest.mark.parametrize("era,lines", [("2020", 1), ("2021", 2), ("2025", 2)])
def test_version_without_disk(inside, era, lines):
    got = inside("versions", era)
    for flag in ("-v", "--version"):
        out = got[flag]["out"].splitlines()
        assert out[0] == "k3s version %s (%s)" % (VERSIONS[era], COMMIT)
        assert len(out) == lines and (lines == 1 or re.match(r"go version go1\.\d+", out[1]))
        assert (got[flag]["rc"], got[flag]["err"]) == (0, "")
    assert got["weird"].startswith("weird version %s " % VERSIONS[era])
    for call in ("none", "--help", "server --help"):
        assert got[call]["rc"] == 0 and "USAGE" in got[call]["out"]
    assert (got["bogus"]["rc"], got["bogus"]["out"]) == (3, "No help topic for 'bogus'\n")
    assert got["touched"] == []


@pytest.mark.parametrize("era", BOTH)
def test_process(inside, era):
    e, got = ERAS[era], inside("process", era)
    real = re.compile(ROOT + r"/data/[0-9a-f]{64}/bin/" + e["real"] + "$")
    phases = got["phases"]
    full = "\0".join(["/usr/local/bin/k3s", "server", "--write-kubeconfig", "/mnt/k3s.yaml", "--https-listen-port", "16443",
                      "--token", "sesame"]) + "\0"
    # One pid goes through four faces: wrapper, full argv, argv[0] alone, title. A look while it overwrites its own arguments sees a mixture of two.
    faces = [text.ljust(got["argbytes"], "\0") for text in (full, "/usr/local/bin/k3s ", "/usr/local/bin/k3s server")]
    # Where one program has gone and the next has not come, there is none.
    phases = [p for p in phases if p["cmdline"]]
    mixed = [p for p in phases if p["cmdline"] not in faces]
    assert len(mixed) <= 2 and all(p["comm"] == "k3s-server" for p in mixed), mixed
    phases = [p for p in phases if p not in mixed]
    assert [p["comm"] for p in phases] == ["k3s", "k3s-server", "k3s-server", "k3s-server"]
    assert phases[0]["exe"] == "/usr/local/bin/k3s"
    assert all(real.match(p["exe"]) for p in phases[1:])
    for phase, text in zip(phases, (full, full, "/usr/local/bin/k3s ", "/usr/local/bin/k3s server")):
        assert phase["cmdline"] == text.ljust(got["argbytes"], "\0")
    wiped = len("AAA_FIRST=wiped") + 1
    assert got["environ"][:wiped] == "\0" * wiped and got["environ"][wiped] != "\0"
    variables = dict(v.split("=", 1) for v in got["environ"].strip("\0").split("\0"))
    hash_dir = os.path.dirname(os.path.dirname(phases[-1]["exe"]))
    assert variables.get("K3S_DATA_DIR") == (hash_dir if e["datadir"] else None)
    path = [hash_dir + "/bin", "/usr/bin", "/bin", hash_dir + "/bin/aux"]
    assert variables["PATH"].split(":") == ([ROOT + "/data/cni"] if e["cni"] else []) + path
    assert got["cwd"] == ROOT + "/server"
    assert got["answers"] == [503, 500, 200]
    assert got["ping"] == [200, "pong"] and got["anonymous"] == 401 and "BEGIN CERTIFICATE" in got["cacerts"]
    assert (got["raw"]["rc"], got["raw"]["out"]) == (0, "ok")
    rc, least, most = e["term"]
    assert got["term"]["rc"] == rc and least <= got["term"]["seconds"] <= most + 30
    assert got["hup"]["rc"] == -1
    assert got["second"]["rc"] == 1 and got["second"]["seconds"] < 30
    assert got["early"] == 0


@pytest.mark.parametrize("era", BOTH)
def test_upgrade_and_rollback(inside, binary, era):
    new = binary(NEXT[era], era)
    got = inside("upgrade", era, new)
    old_h, new_h = payload(binary(VERSIONS[era], era), era)[1], payload(new, era)[1]
    assert old_h != new_h
    assert got["first"] == {"current": old_h, "previous": None}
    # One kubectl call moves current; the server still runs the old program.
    assert got["kubectl"]["rc"] == 0 and "Client Version: " + NEXT[era] in got["kubectl"]["out"]
    assert re.search(r'^time="[^"]+Z" level=info msg="Acquiring lock file %s/data/.lock"\n'
                     r'time="[^"]+Z" level=info msg="Preparing data dir %s/data/%s"\n$' % (ROOT, ROOT, new_h), got["kubectl"]["err"])
    assert got["after kubectl"] == {"current": new_h, "previous": old_h}
    assert old_h in got["still"] and new_h in got["upgraded"] and old_h in got["rolled back"]
    # Returning to a version that is already unpacked moves nothing.
    assert got["after rollback"] == {"current": new_h, "previous": old_h}
    assert got["busy"] is True
    want = {".lock": "-rw-------", old_h: "drwxr-xr-x", new_h: "drwxr-xr-x",
            "current": "lrwxrwxrwx %s/data/%s" % (ROOT, new_h), "previous": "lrwxrwxrwx %s/data/%s" % (ROOT, old_h)}
    for h in (old_h, new_h):
        want.update({h + "/bin": "drwxr-xr-x", h + "/etc": "drwxr-xr-x"})
    if ERAS[era]["cni"]:
        want["cni"] = "drwxr-xr-x"
        for n in PLUGINS[era].split() + ["cni"]:
            want["cni/" + n] = "lrwxrwxrwx %s/data/%s/bin/cni" % (ROOT, new_h)
    assert got["listing"] == want


def test_torn_data_dir_is_never_repaired(inside):
    got = inside("torn", "2021")
    assert got["first"] == 0
    assert got["truncated"] == -11 and got["size after"] == 100000
    assert got["missing"]["rc"] == 1 and got["still missing"] is True
    assert r'level=fatal msg="exec: \"k3s-server\": executable file not found in $PATH"' in got["missing"]["err"]
    assert "Acquiring" in got["missing"]["err"] and "Preparing" not in got["missing"]["err"]


def test_interrupted_extraction(inside):
    got = inside("extraction", "2025")
    assert got["wrapper"]["comm"] == "k3s" and got["wrapper"]["exe"] == "/usr/local/bin/k3s" and got["busy"] is True
    assert got["rc"] == -9 and got["left"] == ["-tmp"]
    assert got["healed"] == 0 and got["then"] == [".lock", "H", "cni", "current"]
    for how, left in (("switch", "switch left"), ("real", "real left")):
        assert got[how]["rc"] == 1 and got[left] == [".lock"]
        assert re.search(r'level=fatal msg="extracting data: error writing to (\S+-tmp/bin/\S+): write \1: no space left on device"',
                         got[how]["err"])


@pytest.mark.parametrize("era", ["2021", "2023", "2025"])
def test_log_pair(inside, era):
    e, got = ERAS[era], inside("pair", era)
    parent, child = got["parent seen"], got["child seen"]
    assert parent["comm"] == "k3s-server" and parent["cmdline"].rstrip("\0") == e["parent"]
    assert child["comm"] == "exe" and child["cmdline"].rstrip("\0") == "k3s server"
    assert child["ppid"] == got["pid"] and child["exe"] == parent["exe"] and got["children"] == 1
    assert "_K3S_LOG_REEXEC_=true\0" in got["child env"]
    assert "NOTIFY_SOCKET=%s\0" % ("/mnt/notify" if era == "2021" else "") in got["child env"]
    assert "Starting k3s " + VERSIONS[era] in got["log"] and got["log mode"] == e["log mode"]
    assert got["notify"] == ["READY=1\n", e["notify"]]
    assert got["parent"]["rc"] == e["parent term"]
    # The child's own shutdown is set to 0.3 s. A parent without a handler dies
    # first, and its threads may send the death signal more than once: then the
    # child takes the second one as an order to leave at once.
    slow = 0.25 < got["parent"]["seconds"] < 30
    assert (slow and got["parent"]["child outlived"]) or not slow if e["orphan"] else slow and not got["parent"]["child outlived"]
    assert got["child"]["rc"] == (1 if era == "2021" else 0)
    assert got["kill child"]["rc"] == 255


@pytest.mark.parametrize("era", BOTH)
def test_certificates(inside, era):
    e, got = ERAS[era], inside("certificates", era)
    leafs = {}
    for group, usage in (({**CLIENTS, **CLIENTS_OF[era]}, "Client"), ({**SERVING, **SERVING_OF[era]}, "Server"), (PEERS, "Server, Client")):
        for name, (subject, ca) in group.items():
            leafs[name] = (subject, ca, ", ".join("TLS Web %s Authentication" % u for u in usage.split(", ")))
    for name, (subject, ca, usage) in leafs.items():
        text, issuers, count = got["certs"].pop(name)
        assert text.startswith("subject=" + subject + "\n"), name
        assert usage + "\n" in text and "Basic Constraints" not in text, name
        assert issuers == [ca] and count == 2, name
        assert got["server"]["tls/" + name] == "-rw-r--r--"
        assert got["server"]["tls/" + name.replace(".crt", ".key")] == "-rw-------"
    for name, cn in AUTHORITIES.items():
        text, issuers, count = got["certs"].pop(name)
        assert re.match(r"subject=CN=%s@\d{10}\nserial=00\n" % cn, text) and len(issuers) == 1 and count == 1
        assert "Basic Constraints: critical\n    CA:TRUE\n" in text
    text = got["certs"].pop("temporary-certs/apiserver-loopback-client__.crt")[0]
    assert "CA:FALSE" in text
    if era == "2025":
        assert got["certs"].pop("client-ca.nochain.crt")[2] == got["certs"].pop("server-ca.nochain.crt")[2] == 1
    assert got["certs"] == {}  # and nothing else
    assert got["keys"] == {"client-admin.key": "-----BEGIN EC PRIVATE KEY-----", "service.key": "-----BEGIN RSA PRIVATE KEY-----"}
    assert got["key size"] == 227
    modes = {"tls": "drwx------", "cred": "drwx------", "db": "drwx------", "tls/etcd": "drwxr-xr-x", "tls/temporary-certs": "drwx------",
             "tls/temporary-certs/apiserver-loopback-client__.key": "-rw-r--r--", "token": "-rw-------", "kine.sock": "srw-------",
             "node-token": "lrwxrwxrwx %s/server/token" % ROOT, "tls/dynamic-cert.json": e["conf mode"],
             "cred/admin.kubeconfig": e["conf mode"], "cred/passwd": "-rw-------", "tls/client-kubelet.key": "-rw-------"}
    assert {n: got["server"].get(n) for n in modes} == modes
    assert ("cred/supervisor.kubeconfig" in got["server"]) is (era == "2025")
    assert got["modes"] == {"data": "drwxr-xr-x", "server": "drwx------", "agent": "drwx------"}
    assert {m for n, m in got["agent"].items() if n.endswith((".crt", ".key"))} == {"-rw-------"}
    assert re.match(r"K10[0-9a-f]{64}::server:sesame\n$", got["token"])
    text, mode = got["kubeconfig"]
    assert mode == "0o600" and "client-key-data: " in text and "server: https://127.0.0.1:16443" in text
    # Restarts: nothing changes by itself; what is missing comes back (a lone
    # key is used again), what is broken stays broken.
    assert got["plain restart"] == []
    assert got["deleted"] == ["client-controller.crt", "client-scheduler.crt", "client-scheduler.key"]
    assert got["emptied"] == ["client-scheduler.crt"]  # our own truncation, unrepaired
    assert got["trigger"] == ["dynamic-cert.json"] and got["trigger gone"] is True
    assert got["torn key"]["rc"] == 1
    assert "error loading key from %s/server/tls/client-scheduler.key: <nil>" % ROOT in got["torn key"]["err"]


@pytest.mark.parametrize("era", ["2023", "2025"])
def test_rotate(inside, era):
    got = inside("rotate", era)
    assert got["wrong service"] == 1
    gone = ["client-admin", "client-auth-proxy", "client-controller", "client-k3s-cloud-controller", "client-kube-apiserver",
            "client-scheduler", "serving-kube-apiserver"] + (["client-supervisor"] if era == "2025" else [])
    both = ["client-k3s-controller", "client-kube-proxy"]
    want = [n + x for n in gone + (both if era == "2023" else []) for x in (".crt", ".key")] + ["client-kubelet.key", "serving-kubelet.key"]
    if era == "2025":
        want += [n + ".key" for n in both]
    assert got["removed"] == sorted(want)
    assert {"client-ca.crt", "client-ca.key", "server-ca.crt", "service.key", "dynamic-cert.json"} <= set(got["kept"])
    assert got["rotate"]["rc"] == 0 and "Server detected, rotating" in got["rotate"]["err"]
    assert re.search(r"backed up certificates to %s/server/tls-\d{10}, please restart" % ROOT, got["rotate"]["err"])
    assert (got["backups"], got["backup complete"], got["backup mode"]) == (1, True, "0o700")
    assert got["agent removed"] is True and got["trigger"] == 0
    assert got["same names"] is True
    assert got["renewed"] == sorted(want + ["dynamic-cert.json"])
    if era == "2023":
        assert got["json"]["rc"] == 3  # no such command yet
        assert got["elsewhere"]["rc"] == 1 and "/mnt/empty/server/token" in got["elsewhere"]["err"]
        return
    rows = json.loads(got["json"]["out"])["Certificates"]
    admin = [r for r in rows if r["Filename"] == "client-admin.crt"]
    assert [r["Subject"].split("@")[0] for r in admin] == ["system:admin", "k3s-client-ca"]
    assert (admin[0]["Usages"], admin[1]["Usages"], admin[0]["Status"]) == (["ClientAuth"], ["CertSign"], "OK")
    assert got["bad format"] == 1
    # The trap: a wrong data-dir is an agent without files, and a success.
    assert got["elsewhere"]["rc"] == 0 and "Agent detected" in got["elsewhere"]["err"]


def test_agent(inside):
    got = inside("agent", "2025")
    assert got["seen"]["comm"] == "k3s-agent" and got["seen"]["cmdline"].rstrip("\0") == "/usr/local/bin/k3s agent"
    assert got["cwd"] != ROOT + "/server"
    assert "server" not in got["tree"]
    for n in ("client-kubelet", "serving-kubelet", "client-kube-proxy", "client-k3s-controller"):
        assert got["tree"]["agent/%s.crt" % n] == got["tree"]["agent/%s.key" % n] == "-rw-------"
    assert got["verify"].endswith(": OK\n")
    assert got["subject"] == "subject=CN=system:node:n1,O=system:nodes"
    assert got["same CA"] is True


@pytest.mark.parametrize("era", BOTH)
def test_containerd_and_shims(inside, era):
    got = inside("children", era)
    assert [(k["comm"], os.path.basename(k["exe"]), k["cmdline"].rstrip("\0")) for k in got["kids"]] == \
        [("containerd", ERAS[era]["real"], "containerd ")]
    assert len(got["shims"]) == len(got["left"]) == got["again"] == 2
    for s in got["left"]:
        assert s["ppid"] == 1 and s["exe"].endswith("/bin/containerd-shim-runc-v2")
        assert s["cmdline"].startswith(s["exe"] + "\0-namespace\0k8s.io\0-id\0")
    assert got["containerd left"] == []


def test_switches(inside, binary):
    broken = binary(NEXT["2021"], "2021", "--default-misbehave", "die_at_start=9")
    got = inside("faults", "2021", broken)
    assert (got["die_at_start"], got["other version"], got["die_after_ms"], got["signal"]) == (7, 1, 4, -11)
    assert got["flap"] == [1, 1] and got["flap over"] is None
    assert got["never"] == 500 and got["ignores"] is None
    assert got["wrong-role"]["cmdline"].rstrip("\0") == "/usr/local/bin/k3s agent" and got["wrong-role"]["comm"] == "k3s-server"
    assert got["untitled"]["cmdline"].startswith("/usr/local/bin/k3s\0server\0--write-kubeconfig\0")
    assert got["port taken"]["rc"] == 1
    assert 'level=fatal msg="starting kubernetes: preparing server: init cluster datastore and https: listen tcp 127.0.0.1:16443: ' \
        'bind: address already in use"' in got["port taken"]["err"]
    assert got["lo down"] is None and got["need_lo"] == 1
    assert got["stamped"] == 9 and got["stamped version"] == 0


def test_wrong_role_follows_from_the_version(binary):
    script = ("import sys; sys.path.insert(0, %r); import inside as i; i.sandbox(); i.loopback(True); i.install(sys.argv[1]); "
              "i.switches(); p = i.server(); print(i.look(p.pid)['cmdline'].rstrip('\\0')); p.kill()" % HERE)
    out = subprocess.check_output(["unshare", "-pfmn", "--mount-proc", "/usr/bin/python3", "-c", script, binary("v1.29.6+k3s1", "2024")])
    assert out == b"/usr/local/bin/k3s agent\n"


def test_ready_notification(inside):
    assert inside("notify", "2021") == {"text": "READY=1\n", "readyz then": 500}  # READY before ready
    assert inside("notify", "2025") == {"text": "READY=1\n", "readyz then": 200}


@pytest.mark.parametrize("era", BOTH)
def test_data_dir(inside, era):
    e, got = ERAS[era], inside("datadirs", era)
    assert got == {"nothing": ["default"], "global flag": ["cli"], "flag with =": ["cli"], "short flag": ["cli"], "config": ["conf"],
                   "flag over config": ["cli"], "variable": e["variable"], "drop-in": e["drop-in"], "both present": e["both"],
                   "server dir": "/mnt/cli/server", "default present": ["default"]}


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
