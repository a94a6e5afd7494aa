# SPDX-License-Identifier: Apache-2.0
"""k3sup-certs on the certificates that a stand-in k3s made: each era, what can go wrong with them, and what openssl(1) says of the same files."""
import json
import os
import re
import subprocess
import time

import pytest

from node import TOP
from sandbox import until

DATA = "/var/lib/rancher/k3s"
ERAS = [("2020", "v1.19.16+k3s1", 90), ("2021", "v1.21.3+k3s1", 90), ("2023", "v1.26.3+k3s1", 90), ("2024", "v1.30.4+k3s1", 90), ("2025", "v1.34.1+k3s1", 120)]


def check(node, *args):
    return node.finish(node.begin("k3sup-certs", "check", "--json", *args))


def printed(node, *args):
    return node.sb.wait(node.begin("k3sup-certs", *args))


def problems(answer):
    return sorted("%(path)s %(problem)s %(remedy)s" % p for p in answer["problems"] if p["remedy"] != "note")


def files(node, *dirs):
    """Every certificate file below the data-dir, as openssl sees it: {path: [notAfter of each certificate]}."""
    found = {}
    for directory in dirs:
        for name in node.sb.listdir(node.at(DATA + "/" + directory)):
            if not name.endswith(".crt") or "nochain" in name:
                continue
            path = directory + "/" + name
            pems = re.findall("-----BEGIN CERT.*?-----END CERTIFICATE-----\n", node.sb.read(node.at(DATA + "/" + path)).decode(), flags=re.S)
            found[path] = [end_of(pem) for pem in pems]
    return found


def end_of(pem):
    text = subprocess.run(["openssl", "x509", "-noout", "-enddate"], input=pem, stdout=subprocess.PIPE, universal_newlines=True, check=True).stdout
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.strptime(text.strip(), "notAfter=%b %d %H:%M:%S %Y GMT"))


def started(make, standin, era, version, *args):
    """A node whose k3s has made its certificates, and runs."""
    node = make(binds={"/mnt/python": os.path.join(TOP, "bindings", "python")})
    node.install(standin(version, era))
    node.start(*(args or ("server",)))
    last = DATA + ("/agent/k3scontroller.kubeconfig" if "--disable-agent" not in args else "/server/cred/admin.kubeconfig")
    until(lambda: node.sb.exists(node.at(last)), why="its certificates")
    if not args or args[0] == "server":
        until(lambda: node.sb.exists(node.at(DATA + "/server/tls/dynamic-cert.json")), why="its listener's certificate")
    return node


@pytest.mark.parametrize("era,version,window", ERAS, ids=[e[0] for e in ERAS])
def test_a_fresh_server_of_each_era(make, standin, era, version, window):
    """k3sup-certs check: 0, nothing to do, nothing unknown; the same certificates and dates as openssl reads in the same files."""
    node = started(make, standin, era, version)
    answer = check(node)
    assert answer.exit == 0 and answer["needs_action"] is False and problems(answer) == [], answer
    assert answer["role"] == "server" and answer["unknown"] == [] and answer["data_dir"] == dict(answer["data_dir"], path=DATA, source="process")
    seen = {}
    for row in answer["certificates"]:
        if row["kind"] in ("leaf", "ca"):
            seen.setdefault(row["path"], []).append(row["not_after"])
        assert row["status"] == "OK" and row["residual_seconds"] > 0
    dirs = ["server/tls", "server/tls/etcd", "agent"] + (["server/tls/kube-scheduler", "server/tls/kube-controller-manager"] if era == "2025" else [])
    assert seen == files(node, *dirs)
    assert [r["cn"] for r in answer["certificates"] if r["kind"] == "listener"][:1] == ["k3s"]
    # The window is told by the version of the file once a leaf ends in between.
    near = check(node, "--warn-days", "366")
    leafs = {r["path"] for r in near["certificates"] if r["kind"] in ("leaf", "listener") and r["position"] == 0}
    assert near.exit == 9 and {p.split()[0] for p in problems(near)} >= leafs and all(p.endswith(" expiring start") for p in problems(near)), near
    assert window in (90, 120)


@pytest.mark.parametrize("era,version", [(e[0], e[1]) for e in ERAS[1:]], ids=[e[0] for e in ERAS[1:]])
def test_E04_an_agent_alone(make, standin, era, version):
    """E04: a worker has eight files and copies of two authorities. check: 0, role agent."""
    node = started(make, standin, era, version, "agent", "--token", "x", "--server", "https://127.0.0.1:1")
    answer = check(node)
    assert answer.exit == 0 and answer["role"] == "agent" and problems(answer) == [], answer
    assert {r["path"] for r in answer["certificates"]} == set(files(node, "agent"))
    # A service that has none here: as Go prints a list that was never made.
    assert printed(node, "check", "--service", "etcd", "--output", "json").out == '{"Certificates":null}\n'


def test_E02_a_wrong_data_dir(make, standin):
    """k3s lives in a directory of its own; somebody names the default one, or one in which only an agent has been.

    check --data-dir WRONG: 3, K3SUP_E_DATA_DIR with both; without --data-dir: 0, observed.
    """
    node = make()
    node.install(standin("v1.30.4+k3s1", "2024"))
    node.start("server", "--data-dir", "/mnt/pool")
    until(lambda: node.sb.exists("/mnt/pool/agent/k3scontroller.kubeconfig"), why="its certificates")
    until(lambda: node.sb.exists("/mnt/pool/server/tls/dynamic-cert.json"), why="its listener's certificate")
    answer = check(node)
    assert answer.exit == 0 and answer["data_dir"]["path"] == "/mnt/pool", answer
    wrong = check(node, "--data-dir", DATA)
    assert (wrong.exit, wrong.error) == (3, "K3SUP_E_DATA_DIR") and DATA in wrong.message, wrong
    node.sb.makedirs(DATA + "/agent")
    wrong = check(node, "--data-dir", DATA)
    assert (wrong.exit, wrong.error) == (3, "K3SUP_E_DATA_DIR") and "server" in wrong.message, wrong


DAMAGE = [
    ("an empty certificate", "server/tls/client-scheduler.crt", lambda text: b"", ["server/tls/client-scheduler.crt empty act"]),
    ("a torn certificate", "server/tls/client-admin.crt", lambda text: text[:300], ["server/tls/client-admin.crt damaged act"]),
    ("an empty key", "server/tls/client-controller.key", lambda text: b"", ["server/tls/client-controller.key empty act"]),
    ("no certificate", "server/tls/etcd/client.crt", None, ["server/tls/etcd/client.crt missing start"]),
    ("no key", "agent/client-kubelet.key", None, ["agent/client-kubelet.key missing start"]),
    ("no authority's key", "server/tls/server-ca.key", None, ["server/tls/server-ca.key missing act"]),
    ("a torn listener", "server/tls/dynamic-cert.json", lambda text: text[:400], ["server/tls/dynamic-cert.json damaged act"]),
    ("no kubeconfig", "server/cred/admin.kubeconfig", None, ["server/cred/admin.kubeconfig missing act"]),
]


def test_damage_and_what_mends_it(make, standin):
    """Each kind of damage is named, with who can mend it. Put back, all is well. What the node's k3s does at a start is in the same words: a half pair is mended by it."""
    node = started(make, standin, "2024", "v1.30.4+k3s1")
    for what, path, change, wanted in DAMAGE:
        at = node.at(DATA + "/" + path)
        text, stat = node.sb.read(at), os.stat(node.sb.path(at))
        os.unlink(node.sb.path(at))
        if change:
            node.sb.write(at, change(text))
            os.chmod(node.sb.path(at), stat.st_mode & 0o777)
        answer = check(node)
        named = [p for p in problems(answer) if not p.endswith(" reference start")]
        assert answer.exit == 9 and named == wanted, "%s: %r" % (what, answer)
        node.sb.write(at, text)
        os.chmod(node.sb.path(at), stat.st_mode & 0o777)
    assert check(node).exit == 0
    for name in ("client-admin.key", "client-admin.crt"):
        os.unlink(node.sb.path(node.at(DATA + "/server/tls/" + name)))
    node.sb.kill(node.main_process()["pid"])
    until(lambda: len(node.unit()["starts"]) == 2 and node.sb.exists(node.at(DATA + "/server/tls/client-admin.crt")), why="a new certificate")
    until(lambda: check(node).exit == 0, why="all to be well again")


def test_E06_copies_of_before_a_rotation(make, standin):
    """~/.kube/config holds the administrator's certificate of before. check: still 0, a note that names the copy; k3s's own file was written anew."""
    node = started(make, standin, "2024", "v1.30.4+k3s1")
    until(lambda: node.sb.exists("/var/log/k3s.yaml"), why="its kubeconfig")
    node.sb.makedirs("/mnt/ci")
    node.sb.copy(node.sb.path("/var/log/k3s.yaml"), "/mnt/ci/config", 0o600)
    for name in ("client-admin.key", "client-admin.crt"):
        os.unlink(node.sb.path(node.at(DATA + "/server/tls/" + name)))
    os.unlink(node.sb.path("/var/log/k3s.yaml"))
    node.sb.kill(node.main_process()["pid"])
    until(lambda: len(node.unit()["starts"]) == 2 and node.sb.exists("/var/log/k3s.yaml"), why="the start after the rotation")
    answer = check(node, "--kubeconfig", "/mnt/ci/config", "--kubeconfig", "/var/log/k3s.yaml")
    assert answer.exit == 0, answer
    assert [(p["path"], p["problem"], p["remedy"]) for p in answer["problems"]] == [("/mnt/ci/config", "stale-copy", "note")], answer
    gone = check(node, "--kubeconfig", "/mnt/ci/none")
    assert gone.exit == 9 and problems(gone) == ["/mnt/ci/none missing act"], gone


def test_E10_modes_wider_than_k3s_writes(make, standin):
    """A tool has restored keys as 0644. check: 9, each is named; the loopback key, 0644 by design, is not."""
    node = started(make, standin, "2021", "v1.21.3+k3s1")
    key = node.sb.path(node.at(DATA + "/server/tls/client-admin.key"))
    loopback = node.sb.path(node.at(DATA + "/server/tls/temporary-certs/apiserver-loopback-client__.key"))
    assert os.stat(loopback).st_mode & 0o777 == 0o644
    os.chmod(key, 0o644)
    answer = check(node)
    assert answer.exit == 9 and problems(answer) == ["server/tls/client-admin.key mode act"], answer


def assert_as_k3s(node, ours):
    """Row by row and field by field what the stand-in's `k3s certificate check` says, which leaves out the listener's certificate; ours says of keys nothing, as k3s."""
    done = node.sb.run([node.at("/usr/local/bin/k3s"), "certificate", "check", "--data-dir", DATA, "--output", "json"], env={"K3S_STANDIN_CONF": "/etc/rancher/k3s/standin.conf"})
    theirs = json.loads(done.out)["Certificates"]

    def key(form):
        return form["Filename"], form["Subject"], form["Issuer"], form["ExpiryTime"]
    assert len(ours) == len(theirs) > 30
    for mine, its in zip(sorted(ours, key=key), sorted(theirs, key=key)):
        assert list(mine) == list(its) and {k: v for k, v in mine.items() if k != "ResidualTime"} == {k: v for k, v in its.items() if k != "ResidualTime"}
        assert abs(mine["ResidualTime"] - its["ResidualTime"]) <= 60 * 10 ** 9


def test_forms_of_output(make, standin):
    """table, text, json and yaml as k3s certificate check prints them, metrics for Prometheus; --json is one line and excludes the others."""
    node = started(make, standin, "2025", "v1.34.1+k3s1")
    rows = [r for r in check(node)["certificates"] if r["kind"] in ("leaf", "listener")]
    done = printed(node, "check", "--output", "json")
    assert done.status == 0 and done.out.count("\n") == 1
    listed = json.loads(done.out)
    assert list(listed) == ["Certificates"] and len(listed["Certificates"]) == len(rows)
    for form, row in zip(listed["Certificates"], rows):
        assert list(form) == ["Filename", "Subject", "Issuer", "Usages", "ExpiryTime", "ResidualTime", "Status"]
        assert form["Filename"] == os.path.basename(row["path"]) and form["Subject"] == row["cn"] and form["Issuer"] == row["issuer_cn"]
        assert form["Usages"] == row["usages"] and form["ExpiryTime"] == row["not_after"] and form["Status"] == row["status"]
        assert abs(form["ResidualTime"] - row["residual_seconds"] * 10 ** 9) <= 60 * 10 ** 9
    assert_as_k3s(node, [form for form, row in zip(listed["Certificates"], rows) if row["kind"] == "leaf"])
    table = printed(node, "check").out.split("\n")
    assert table[0] == "" and re.split(" {2,}", table[1]) == ["FILENAME", "SUBJECT", "USAGES", "EXPIRES", "RESIDUAL TIME", "STATUS"]
    assert set(table[2]) == {"-", " "} and len(table) == 3 + len(rows) + 1
    assert re.match(r"client-admin\.crt +system:admin +ClientAuth +[A-Z][a-z]{2} \d\d, \d{4} \d\d:\d\d UTC +\d+ \w+ +OK$", table[3]), table[3]
    text = printed(node, "check", "--output", "text").out.splitlines()
    assert re.match(r"client-admin\.crt: certificate system:admin \(ClientAuth\) is ok, expires at \S+Z$", text[0]) and len(text) == len(rows)
    yaml = printed(node, "check", "--output", "yaml").out
    assert yaml.startswith('certificates:\n- filename: "client-admin.crt"\n  subject: "system:admin"\n') and yaml.count("\n- filename:") == len(rows)
    assert re.search(r"^  residualtime: \d+h\d+m\d+s$", yaml, flags=re.M)
    metrics = printed(node, "check", "--output", "metrics").out
    assert re.search(r'^k3s_certificate_expiration_seconds\{subject="CN=system:admin,O=system:masters",usages="ClientAuth",'
                     r'file="server/tls/client-admin.crt",position="0",status="OK"\} \d+$', metrics, flags=re.M)
    assert 'k3sup_certificate_problems{remedy="act"} 0\n' in metrics
    for args in (["check", "--json", "--output", "json"], ["check", "--output", "xml"], ["check", "--service", "nonsense"], ["rotate"], [], ["check", "more"],
                 ["check", "--kubeconfig", "relative"]):
        assert printed(node, *args).status == 2, args


def test_E11_ca_check(make, standin):
    """E11: authorities are prepared. One signed by the present one is taken, a stranger's is not, the live directory is refused. Nothing is changed."""
    node = started(make, standin, "2024", "v1.30.4+k3s1")
    tls, work = node.at(DATA + "/server/tls/"), node.sb.path("/mnt/new/tls")
    os.makedirs(work)
    script = r"""set -e
ca() { # NAME SUBJECT [SIGNER]
	openssl ecparam -name prime256v1 -genkey -noout -out $1.key
	openssl req -new -key $1.key -subj "$2" -out $1.csr
	printf 'basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n' >ext
	if [ "${3-}" ]; then set -- "$1" "$2" -CA "$3.crt" -CAkey "$3.key" -set_serial 7; else set -- "$1" "$2" -signkey "$1.key"; fi
	n=$1; shift 2
	openssl x509 -req -in "$n.csr" -days 3000 -extfile ext "$@" -out "$n.crt"
}
cp "$1/client-ca.crt" old.crt; cp "$1/client-ca.key" old.key
ca cross /CN=cross old
ca new /CN=new cross
cat new.crt cross.crt >client-ca.crt; cp new.key client-ca.key
"""
    subprocess.run(["sh", "-c", script, "sh", node.sb.path(tls)], cwd=work, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    before = node.sb.snapshot([DATA + "/server/tls"])
    taken = node.finish(node.begin("k3sup-certs", "ca-check", "--json", "/mnt/new"))
    assert taken.exit == 0 and taken["takes"] is True and taken["problems"] == [], taken
    subprocess.run(["sh", "-c", "openssl req -new -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout client-ca.key -subj /CN=k3s -days 3000 "
                    "-out client-ca.crt && cat client-ca.crt >>client-ca.crt.2 && cat client-ca.crt.2 >>client-ca.crt"], cwd=work, check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    refused = node.finish(node.begin("k3sup-certs", "ca-check", "--json", "/mnt/new"))
    assert refused.exit == 9 and refused["takes"] is False and problems(refused) == ["tls/client-ca.crt chain act"], refused
    live = node.finish(node.begin("k3sup-certs", "ca-check", "--json", DATA + "/server"))
    assert (live.exit, live.error) == (3, "K3SUP_E_DATA_DIR") and "live" in live.message, live
    # The data-dir is a link, absolute as the node sees it, and the node is seen from elsewhere: it is still found.
    node.sb.makedirs("/mnt/seen/var/lib/rancher")
    os.symlink("/pool", node.sb.path("/mnt/seen/var/lib/rancher/k3s"))
    node.sb.makedirs("/mnt/seen/pool")
    assert node.sb.run(["cp", "-a", node.at(DATA) + "/server", "/mnt/seen/pool/"]).status == 0
    linked = node.finish(node.begin("k3sup-certs", "ca-check", "--json", "--root", "/mnt/seen", "/mnt/new"))
    assert linked.exit == 9 and problems(linked) == ["tls/client-ca.crt chain act"], linked
    assert node.sb.snapshot([DATA + "/server/tls"]) == before


RETIRE = """import k3sup, sys, json
with k3sup.Context() as ctx, ctx.node() as node:
    try:
        result = node.certs_retire(**json.loads(sys.argv[1])).wait()
        print(json.dumps(result.as_python()))
    except k3sup.K3supError as e:
        print(json.dumps({"error": str(k3sup.Code(e.code).name)}))
"""


def retire(node, **options):
    """The verb itself, through the Python binding: a program for it would be `k3s certificate rotate` again, in the wrong order."""
    env = {"PYTHONPATH": "/mnt/python", "K3SUP_LIBRARY": "/mnt/library/libk3sup.so.0", "PYTHONDONTWRITEBYTECODE": "1"}
    done = node.sb.run(["/usr/bin/python3", "-c", RETIRE, json.dumps(options)], env=env)
    assert done.status == 0, done.err
    return json.loads(done.out)


def leafs(node):
    """{path: content} of all leafs and keys."""
    found = {}
    for directory in ("server/tls", "server/tls/etcd", "agent"):
        for name in node.sb.listdir(node.at(DATA + "/" + directory)):
            if re.search(r"\.(crt|key)$", name) and not re.search(r"(^|-)ca\.|nochain|^service", name):
                found[directory + "/" + name] = node.sb.read(node.at(DATA + "/" + directory + "/" + name))
    return found


def stop(node):
    """Ended, and not started again."""
    node.unit(active=False)
    node.sb.kill(node.main_process()["pid"])
    until(lambda: not node.running(), why="k3s to end")


def test_E01_retire_stop_first_and_restore(make, standin):
    """Certificates are retired only while k3s is stopped; the next start makes new ones; the old ones can be had back.

    retire while it runs: K3SUP_E_RUNNING, nothing touched. Stopped: leafs gone, authorities as they were, a backup that only root can read; again: nothing. Started: all new. Restored.
    """
    node = started(make, standin, "2024", "v1.30.4+k3s1")
    before = leafs(node)
    assert retire(node)["error"] == "RUNNING" and leafs(node) == before and not node.sb.exists("/var/lib/k3sup/certs")
    stop(node)
    authorities = node.sb.snapshot([DATA + "/server/tls/server-ca.crt", DATA + "/server/tls/server-ca.key", DATA + "/server/tls/service.key", DATA + "/server/cred"])
    first = retire(node)
    assert first["changed"] is True and {r["path"] for r in first["retired"]} == set(before) and leafs(node) == {}
    again = retire(node)
    assert again["changed"] is False and again["retired"] == [] and "kept" not in again
    assert node.sb.exists(DATA + "/server/tls/dynamic-cert-regenerate")
    where = node.sb.path("/var/lib/k3sup/certs/" + first["kept"])
    for top, dirs, names in os.walk(where):
        assert os.stat(top).st_mode & 0o777 == 0o700
        assert all(os.stat(os.path.join(top, n)).st_mode & 0o777 == 0o600 for n in names)
    assert node.sb.snapshot([DATA + "/server/tls/server-ca.crt", DATA + "/server/tls/server-ca.key", DATA + "/server/tls/service.key", DATA + "/server/cred"]) == authorities

    node.unit(active=True, due=0.01)
    until(lambda: node.running(), 15, "k3s to run again")
    until(lambda: check(node).exit == 0 and not node.sb.exists(DATA + "/server/tls/dynamic-cert-regenerate"), why="new certificates")
    renewed = leafs(node)
    # An agent's keys that lie in its directory stay as long as they are there: here they were retired, too.
    assert set(renewed) == set(before) and all(renewed[p] != before[p] for p in before)
    refused = node.finish(node.begin("k3sup-certs", "restore", "--json", first["kept"]))
    assert (refused.exit, refused.error) == (3, "K3SUP_E_RUNNING") and leafs(node) == renewed

    stop(node)
    restored = node.finish(node.begin("k3sup-certs", "restore", "--json", first["kept"]))
    assert restored.exit == 0 and restored["changed"] is True and leafs(node) == before
    assert check(node).exit == 0
    twice = node.finish(node.begin("k3sup-certs", "restore", "--json", first["kept"]))
    assert twice.exit == 0 and twice["changed"] is False and twice["restored"] == []
    listed = node.finish(node.begin("k3sup-certs", "backups", "--json"))
    assert {b["name"] for b in listed["backups"]} == {first["kept"], restored["kept"]} and all(b["whole"] for b in listed["backups"])
    assert printed(node, "restore", "../x").status == 2 and printed(node, "restore").status == 2
    none = node.finish(node.begin("k3sup-certs", "restore", "--json", "tls-1"))
    assert (none.exit, none.error) == (3, "K3SUP_E_BACKUP")


def test_E07_the_listeners_certificate_alone(make, standin):
    """retire of the service k3s-server, which has no file: as k3s does it, its trigger is set, once; no file is touched; the next start makes a new one and takes the trigger away."""
    node = started(make, standin, "2024", "v1.30.4+k3s1")
    stop(node)
    before, listener = leafs(node), node.sb.read(node.at(DATA + "/server/tls/dynamic-cert.json"))
    first = retire(node, services=["k3s-server"])
    trigger = node.sb.path(node.at(DATA + "/server/tls/dynamic-cert-regenerate"))
    assert first["changed"] is True and first["retired"] == [] and leafs(node) == before, first
    assert os.stat(trigger).st_size == 0 and os.stat(trigger).st_mode & 0o777 == 0o600
    assert retire(node, services=["k3s-server"])["changed"] is False
    node.unit(active=True, due=0.01)
    until(lambda: node.running() and not os.path.exists(trigger), 30, "a start that follows it")
    until(lambda: node.sb.read(node.at(DATA + "/server/tls/dynamic-cert.json")) != listener, 30, "a new one")
    now = leafs(node) # an agent's certificates are new after each start
    assert {p for p in before if now.get(p) != before[p]} <= {p for p in before if p.startswith("agent/")}


def test_a_backup_of_other_authorities_is_refused(make, standin):
    """The authorities were changed after the backup. restore: 3, K3SUP_E_BACKUP; nothing touched. A missing authority: retire refuses, K3SUP_E_AUTHORITY."""
    node = started(make, standin, "2024", "v1.30.4+k3s1")
    stop(node)
    first = retire(node, services=["admin"])
    assert {r["path"] for r in first["retired"]} == {"server/tls/client-admin.crt", "server/tls/client-admin.key"}
    for name in ("client-ca.crt", "client-ca.key"):
        os.unlink(node.sb.path(node.at(DATA + "/server/tls/" + name)))
    assert retire(node)["error"] == "AUTHORITY"
    node.unit(active=True, due=0.01)
    until(lambda: node.sb.exists(DATA + "/server/tls/client-admin.crt") and node.sb.exists(DATA + "/agent/k3scontroller.kubeconfig"), 15, "new ones")
    until(lambda: check(node).exit == 0, why="all to be well")
    stop(node)
    before = leafs(node)
    refused = node.finish(node.begin("k3sup-certs", "restore", "--json", first["kept"]))
    assert (refused.exit, refused.error) == (3, "K3SUP_E_BACKUP") and "authority" in refused.message and leafs(node) == before, refused


MIXED = [side + name for side in ("agent/", "server/tls/") for name in ("client-k3s-controller.crt", "client-k3s-controller.key", "client-kube-proxy.crt",
                                                                        "client-kube-proxy.key")] + ["server/tls/client-kubelet.key", "server/tls/serving-kubelet.key"]


def test_backups_of_k3s_are_listed(make, standin):
    """k3s certificate rotate has left its own: listed, with what can be had back (compared with openssl), and the names that cannot be told apart. A link is no backup."""
    node = started(make, standin, "2024", "v1.30.4+k3s1")
    before = leafs(node)
    stop(node)
    done = node.sb.run([node.at("/usr/local/bin/k3s"), "certificate", "rotate", "--data-dir", DATA], env={"K3S_STANDIN_CONF": "/etc/rancher/k3s/standin.conf"})
    assert done.status == 0, done.err
    os.symlink("tls", node.sb.path(node.at(DATA + "/server/tls-77")))
    listed = node.finish(node.begin("k3sup-certs", "backups", "--json"))
    link, mine = sorted(listed["backups"], key=lambda b: len(b["name"]))
    assert mine["kind"] == "k3s" and re.match(r"server/tls-\d+$", mine["name"]) and mine["whole"] is False, listed
    assert sorted(mine["lost"]) == MIXED, mine
    assert set(mine["files"]) == set(before) - set(MIXED), mine
    assert (link["name"], link["files"], link["lost"]) == ("server/tls-77", [], []) and "link" in link["text"], link
    # What it says can be copied back, can.
    for path in mine["files"]:
        node.sb.copy(node.sb.path(node.at(DATA + "/" + mine["name"] + "/" + re.sub("^(server/tls|agent)/", "", path))), node.at(DATA + "/" + path), 0o600 if path.endswith("key") else 0o644)
    assert {p: leafs(node)[p] for p in mine["files"]} == {p: before[p] for p in mine["files"]}
    assert not [p for p in problems(check(node)) if p.split()[0] in mine["files"]]
    # Another authority since then: nothing of it is of use.
    for name in ("client-ca.crt", "client-ca.key"):
        node.sb.copy(node.sb.path(node.at(DATA + "/server/tls/server-ca" + name[-4:])), node.at(DATA + "/server/tls/" + name), 0o600)
    listed = node.finish(node.begin("k3sup-certs", "backups", "--json"))
    mine, = [b for b in listed["backups"] if b["name"] == mine["name"]]
    assert "server/tls/client-admin.crt" in mine["lost"] and "server/tls/serving-kube-apiserver.crt" in mine["files"], mine


def test_a_wrong_data_dir_names_all_who_say_where_it_is(make, standin):
    """A server runs in one data-dir, and another one is asked about: an error that names both, never "nothing to do"."""
    node = started(make, standin, "2024", "v1.30.4+k3s1")
    node.sb.makedirs("/srv/decoy/agent")

    answer = check(node, "--data-dir", "/srv/decoy")

    assert answer.exit != 0 and answer.error == "K3SUP_E_DATA_DIR", answer
    assert "/srv/decoy" in answer.message and DATA in answer.message, answer.message
    assert {s["path"] for s in answer["error"]["evidence"]["sources"]} >= {"/srv/decoy", DATA}, answer


def test_E02_a_decoy_while_k3s_is_stopped(make, standin):
    """A server is stopped, and a directory that looks like an agent's is given, or written in its configuration: refused, nothing retired. Its own directory: 0."""
    node = started(make, standin, "2024", "v1.30.4+k3s1")
    stop(node)
    node.sb.makedirs("/srv/decoy/agent")
    before = leafs(node)
    for how in (["--data-dir", "/srv/decoy"], []):
        if not how:
            node.sb.makedirs("/etc/rancher/k3s")
            node.sb.write("/etc/rancher/k3s/config.yaml", "data-dir: /srv/decoy\n")
        answer = check(node, *how)
        assert (answer.exit, answer.error) == (3, "K3SUP_E_DATA_DIR") and "/srv/decoy" in answer.message and "server" in answer.message, answer
        rotated = node.finish(node.begin("k3sup-certs", "rotate", "--json", "--rotate-key", "x", "--restart", "none", *how))
        assert (rotated.exit, rotated.error) == (3, "K3SUP_E_DATA_DIR") and leafs(node) == before, rotated
    assert check(node, "--data-dir", DATA).exit == 0


def test_E02_a_directory_that_k3s_itself_has_made(make, standin):
    """k3s certificate rotate was given the wrong data-dir, and made agent/tls-<seconds> there; nothing says where the right one is. 3, never "retired": no certificate is in there."""
    node = started(make, standin, "2024", "v1.30.4+k3s1")
    stop(node)
    os.rename(node.sb.path(node.at(DATA)), node.sb.path(node.at("/var/lib/moved")))
    done = node.sb.run([node.at("/usr/local/bin/k3s"), "certificate", "rotate", "--data-dir", "/srv/wrong"], env={"K3S_STANDIN_CONF": "/etc/rancher/k3s/standin.conf"})
    if not node.sb.exists("/srv/wrong/agent"):
        node.sb.makedirs("/srv/wrong/agent/tls-1700000000")
    assert done.status == 0 or "/srv/wrong" in done.err, done.err
    for args in (["check"], ["backups"], ["rotate", "--rotate-key", "x", "--restart", "none"]):
        answer = node.finish(node.begin("k3sup-certs", *(args + ["--json", "--data-dir", "/srv/wrong"])))
        assert (answer.exit, answer.error) == (3, "K3SUP_E_DATA_DIR") and "/srv/wrong" in answer.message and answer["error"]["evidence"]["sources"], answer


def test_E04_an_agent_that_was_a_server(make, standin):
    """An agent runs, and the directory of the server that it was before is still there, with expired things in it. check looks at the agent's: 0."""
    node = started(make, standin, "2024", "v1.30.4+k3s1", "agent", "--token", "x", "--server", "https://127.0.0.1:1")
    node.sb.makedirs(node.at(DATA + "/server/tls"))
    answer = check(node)
    assert answer.exit == 0 and answer["role"] == "agent" and answer["problems"] == [], answer
    os.unlink(node.sb.path(node.at(DATA + "/agent/client-ca.crt")))
    answer = check(node)
    assert answer.exit == 9 and problems(answer) == ["agent/client-ca.crt missing start"], answer


def test_F02_a_moved_data_dir(make, standin):
    """The data-dir was copied elsewhere and k3s is to use that: its kubeconfigs still name the old place, which no start mends, but a retire does. A kubeconfig lost: the same."""
    node = started(make, standin, "2024", "v1.30.4+k3s1")
    stop(node)
    os.rename(node.sb.path(node.at(DATA)), node.sb.path(node.at("/var/lib/moved")))
    answer = check(node, "--data-dir", "/var/lib/moved")
    named = {p["path"]: p["remedy"] for p in answer["problems"] if p["problem"] == "reference"}
    assert answer.exit == 9 and named["server/cred/admin.kubeconfig"] == "act" and named["agent/kubelet.kubeconfig"] == "start", answer
    os.rename(node.sb.path(node.at("/var/lib/moved")), node.sb.path(node.at(DATA)))
    assert check(node).exit == 0
    os.unlink(node.sb.path(node.at(DATA + "/server/cred/scheduler.kubeconfig")))
    answer = check(node)
    assert answer.exit == 9 and problems(answer) == ["server/cred/scheduler.kubeconfig missing act"], answer
    retire(node, services=["scheduler"])
    node.unit(active=True, due=0.01)
    until(lambda: node.running() and check(node).exit == 0, 30, "it to be made again")


def test_services_as_k3s_takes_them(make, standin):
    """--service: several, or a list with commas, as in k3s's documentation; the environment's list does not count beside it. One that k3s does not have: 2, and which ones it has."""
    node = started(make, standin, "2024", "v1.30.4+k3s1")
    both = {"server/tls/client-admin.crt", "server/tls/client-scheduler.crt"}
    for args in (["--service", "admin,scheduler"], ["--service", "admin", "--service", "scheduler"]):
        rows = check(node, *args)["certificates"]
        assert {r["path"] for r in rows if r["kind"] == "leaf"} == both, rows
    answer = node.finish(node.begin("k3sup-certs", "check", "--json", "--service", "admin", env={"K3SUP_SERVICE": "scheduler,etcd"}))
    assert {r["path"] for r in answer["certificates"] if r["kind"] == "leaf"} == {"server/tls/client-admin.crt"}, answer
    for bad in ("admin,nope", "certificate-authority", "admin,", ""):
        assert printed(node, "check", "--service", bad).status == 2, bad
    assert "kube-proxy" in printed(node, "check", "--service", "nope").err


def test_E06_several_clusters_in_one_kubeconfig(make, standin):
    """A person's kubeconfig is for this and for another cluster, with the same names: metrics have no line twice, and the other's is a note, whatever is wrong with it."""
    node, other = started(make, standin, "2024", "v1.30.4+k3s1"), started(make, standin, "2024", "v1.30.4+k3s1")
    texts = []
    for one in (node, other):
        until(lambda one=one: one.sb.exists("/var/log/k3s.yaml"), why="its kubeconfig")
        texts.append(one.sb.read("/var/log/k3s.yaml").decode())
    user = texts[1][texts[1].index("users:\n") + len("users:\n"):]
    mine = "/etc/rancher/mine.yaml"
    node.sb.makedirs("/etc/rancher")
    node.sb.write(node.at(mine), texts[0].rstrip("\n") + "\n" + user, 0o600)
    answer = check(node, "--kubeconfig", mine, "--kubeconfig", mine)
    assert answer.exit == 0 and [(p["path"], p["problem"], p["remedy"]) for p in answer["problems"]] == [(mine, "other-ca", "note")], answer
    lines = [line.rsplit(" ", 1)[0] for line in printed(node, "check", "--output", "metrics", "--kubeconfig", mine).out.splitlines()
             if not line.startswith("#")]
    assert len(lines) == len(set(lines)) and len([line for line in lines if mine in line]) == 4, lines
