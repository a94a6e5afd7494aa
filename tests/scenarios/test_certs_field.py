# SPDX-License-Identifier: Apache-2.0
"""Failures from the field where certificates are concerned: expired ones, what is served, half-rotated nodes, hooks that run again; and the forms of output for them."""
import json
import os
import re
import subprocess

import pytest

from sandbox import until
from test_certs import DATA, check, leafs, printed, problems, retire, started, stop

TLS = DATA + "/server/tls/"
# An authority that issues with any dates: of openssl(1) only `ca` can.
ISSUE = r"""set -e
: >db; echo 01 >serial
printf '[ca]\ndefault_ca=x\n[x]\ndatabase=db\nserial=serial\nnew_certs_dir=.\ndefault_md=sha256\npolicy=p\nunique_subject=no\n[p]\nCN=supplied\nO=optional\n[req]\ndistinguished_name=d\n[d]\n' >cnf
printf 'keyUsage=critical,digitalSignature,keyEncipherment\nextendedKeyUsage=%s\nauthorityKeyIdentifier=keyid\n' "$6" >ext
openssl ecparam -name prime256v1 -genkey -noout -out k
openssl req -utf8 -config cnf -new -key k -subj "$3" -out csr
openssl ca -config cnf -batch -notext -preserveDN -cert "$1.crt" -keyfile "$1.key" -in csr -extfile ext -startdate "$4" -enddate "$5" -out leaf
cat leaf "$1.crt" >"$2.crt.new"; cat k >"$2.key"; cat "$2.crt.new" >"$2.crt"; rm "$2.crt.new"
"""


def issue(node, tmp_path, pair, subject, start, end, ca="client-ca", usage="clientAuth"):
    """The pair is another one from here on: of these dates (YYYYMMDDHHMMSSZ), by the node's own authority."""
    tls = node.sb.path(node.at(TLS))
    subprocess.run(["sh", "-c", ISSUE, "sh", tls + ca, tls + pair, subject, start, end, usage], cwd=str(tmp_path), check=True, stdout=subprocess.DEVNULL,
                   stderr=subprocess.PIPE)


def restarted(node, wanted=2):
    node.sb.kill(node.main_process()["pid"])
    until(lambda: len(node.unit()["starts"]) == wanted and node.running(), 30, "k3s to run again")


@pytest.fixture
def mixed(make, standin, tmp_path):
    """A node of which one leaf has expired, one is not valid yet, and one ends in 30 days."""
    node = started(make, standin, "2025", "v1.34.1+k3s1")
    soon = subprocess.check_output(["date", "-u", "-d", "30 days", "+%Y%m%d%H%M%SZ"], text=True).strip()
    issue(node, tmp_path, "client-admin", "/O=system:masters/CN=system:admin", "20200101000000Z", "20210203040506Z")
    issue(node, tmp_path, "client-scheduler", "/CN=system:kube-scheduler", "20491231000000Z", "20500101000000Z")
    issue(node, tmp_path, "client-controller", "/CN=system:kube-controller-manager", "20250101000000Z", soon)
    return node


def test_E05_expired_and_not_yet_valid(mixed):
    """check: 9, each named with what mends it; a retire does not mind dates; the start behind it makes all well."""
    node = mixed
    answer = check(node)
    assert answer.exit == 9 and problems(answer) == ["server/tls/client-admin.crt expired start", "server/tls/client-controller.crt expiring start",
                                                     "server/tls/client-scheduler.crt not-yet-valid act"], answer
    assert (answer["counts"]["expired"], answer["counts"]["warning"], answer["counts"]["not_yet_valid"]) == (1, 1, 1)
    stop(node)
    assert retire(node)["changed"] is True and leafs(node) == {}
    node.unit(active=True, due=0.01)
    until(lambda: node.running() and check(node).exit == 0, 30, "new certificates")


def test_E05_in_every_form(mixed):
    """What k3s certificate check prints for such certificates, field by field: json, yaml, table, text; metrics; the timeline on a terminal."""
    node = mixed
    listed = {}
    for form in json.loads(printed(node, "check", "--output", "json").out)["Certificates"]:
        assert list(form) == ["Filename", "Subject", "Issuer", "Usages", "ExpiryTime", "ResidualTime", "Status"] and isinstance(form["ResidualTime"], int)
        if form["Subject"] not in listed: # the leaf is before its authority, the server's before the agent's
            listed[form["Subject"]] = form
    admin, scheduler, controller = (listed[n] for n in ("system:admin", "system:kube-scheduler", "system:kube-controller-manager"))
    assert (admin["Filename"], admin["Usages"], admin["Status"], admin["ExpiryTime"]) == ("client-admin.crt", ["ClientAuth"], "EXPIRED", "2021-02-03T04:05:06Z")
    assert admin["ResidualTime"] < -86400 * 10 ** 9 and admin["Issuer"].startswith("k3s-client-ca@")
    # Not yet valid: k3s prints the beginning as ExpiryTime, and what is left until the end.
    assert (scheduler["Status"], scheduler["ExpiryTime"]) == ("NOT YET VALID", "2049-12-31T00:00:00Z") and scheduler["ResidualTime"] > 20 * 365 * 86400 * 10 ** 9
    assert controller["Status"] == "WARNING" and 29 * 86400 * 10 ** 9 < controller["ResidualTime"] <= 30 * 86400 * 10 ** 9
    table = printed(node, "check").out
    assert re.search(r"^client-admin\.crt +system:admin +ClientAuth +Feb 03, 2021 04:05 UTC +\d+ years ago +EXPIRED$", table, flags=re.M), table
    assert re.search(r"^client-scheduler\.crt +system:kube-scheduler +ClientAuth +Dec 31, 2049 00:00 UTC +\d+ years +NOT YET VALID$", table, flags=re.M), table
    assert " | in 400 days" not in table and "expired |" not in table
    text = printed(node, "check", "--output", "text").out
    for line in (r"client-admin\.crt: certificate system:admin \(ClientAuth\) expired at 2021-02-03T04:05:06Z",
                 r"client-scheduler\.crt: certificate system:kube-scheduler \(ClientAuth\) is not valid before 2049-12-31T00:00:00Z",
                 r"client-controller\.crt: certificate system:kube-controller-manager \(ClientAuth\) will expire within 120 days at \S+Z"):
        assert re.search("^%s$" % line, text, flags=re.M), text
    yaml = printed(node, "check", "--output", "yaml").out
    assert re.search(r'^- filename: "client-admin\.crt"\n  subject: "system:admin"\n  issuer: "k3s-client-ca@\d+"\n  usages:\n  - ClientAuth\n'
                     r"  expirytime: 2021-02-03T04:05:06Z\n  residualtime: -\d+h\d+m\d+s\n  status: EXPIRED$", yaml, flags=re.M), yaml
    metrics = printed(node, "check", "--output", "metrics").out
    assert re.search(r'file="server/tls/client-admin\.crt",position="0",status="EXPIRED"\} -\d+$', metrics, flags=re.M), metrics
    assert 'k3sup_certificate_problems{remedy="start"} 2\n' in metrics and 'k3sup_certificate_problems{remedy="act"} 1\n' in metrics
    seen = node.sb.run(["script", "-qec", "/mnt/programs/k3sup-certs check", "/dev/null"], env={"LD_LIBRARY_PATH": "/mnt/library"}).out
    line = re.search(r"^(\d+) expired \|([0-9w.+]{60})\| in 400 days\r?$", seen, flags=re.M)
    # 400 days in 60 columns: 30 days are in the fifth; all others in the 55th.
    assert line and line[1] == "1" and line[2][4] == "1" and line[2][:4] == "wwww" and line[2][54] in "+9876" and line[2][18:54] == "." * 36, seen


def test_E07_what_is_served_is_not_what_the_file_holds(make, standin):
    """The file has a fresh certificate, the listener still shows the old one. A check of files: 0 (the control). check --wire: 9, served-differs; after a start: 0.

    The trigger of a retire is named until a start has followed it, and gone then.
    """
    node = started(make, standin, "2024", "v1.30.4+k3s1")
    until(lambda: check(node, "--wire").exit == 0, 30, "the listener")
    well = check(node, "--wire")
    row, = [r for r in well["served"] if r["service"] == "k3s-server"]
    filed, = [r for r in well["certificates"] if r["kind"] == "listener" and r["position"] == 0]
    assert row["matches"] is True and row["sha256"] == filed["sha256"] and row["serial"] == filed["serial"] and row["cn"] == "k3s", row
    other = started(make, standin, "2024", "v1.30.4+k3s1")
    for name in ("server-ca.crt", "server-ca.key", "dynamic-cert.json"):
        node.sb.copy(other.sb.path(other.at(TLS + name)), node.at(TLS + name), 0o600)
    text = node.sb.read(node.at(TLS + "server-ca.crt"))
    node.sb.write(node.at(TLS + "server-ca.nochain.crt"), text)
    node.sb.write(node.at(DATA + "/agent/server-ca.crt"), text)
    answer = check(node, "--wire", "--service", "k3s-server")
    row, = answer["served"]
    assert answer.exit == 9 and row["matches"] is False and row["sha256"] == filed["sha256"], answer
    assert problems(answer) == ["server/tls/dynamic-cert.json served-differs start"], answer
    assert problems(check(node, "--service", "k3s-server")) == []
    stop(node)
    still = check(node, "--wire", "--service", "k3s-server")
    assert still["served"] == [] and "nothing is served" in still["warnings"][0], still
    retire(node)
    assert "server/tls/dynamic-cert-regenerate pending start" in problems(check(node))
    node.unit(active=True, due=0.01)
    until(lambda: node.running() and check(node, "--wire").exit == 0, 30, "all to be well")
    row, = [r for r in check(node, "--wire")["served"] if r["service"] == "k3s-server"]
    assert row["matches"] is True and row["sha256"] != filed["sha256"] and not node.sb.exists(node.at(TLS + "dynamic-cert-regenerate"))


def test_E08_what_people_add_to_k3s_yaml(make, standin):
    """A context was added to k3s's own kubeconfig, and others may read it: two notes, still 0, and the file is what it was. Without them: none (the control)."""
    node = started(make, standin, "2024", "v1.30.4+k3s1")
    path = "/etc/rancher/k3s/k3s.yaml"
    node.sb.makedirs("/etc/rancher/k3s")
    until(lambda: node.sb.exists("/var/log/k3s.yaml"), why="its kubeconfig")
    text = node.sb.read("/var/log/k3s.yaml").decode()
    node.sb.write(node.at(path), text, 0o600)
    assert [p["problem"] for p in check(node)["problems"]] == []
    node.sb.write(node.at(path), text.replace("contexts:\n", "contexts:\n- context:\n    cluster: default\n    user: mine\n  name: mine\n"), 0o644)
    before = node.sb.snapshot(["/etc/rancher"])
    answer = check(node)
    assert answer.exit == 0 and [(p["path"], p["problem"], p["remedy"]) for p in answer["problems"]] == [(path, "additions", "note"), (path, "mode", "note")], answer
    assert node.sb.snapshot(["/etc/rancher"]) == before


def test_E04_an_agents_certificates(make, standin):
    """A worker alone: retired while it is stopped (k3s's own failed there), named as missing until its start, made anew by it; there is no listener and no trigger."""
    node = started(make, standin, "2024", "v1.30.4+k3s1", "agent", "--token", "x", "--server", "https://127.0.0.1:1")
    before = {n: node.sb.read(node.at(DATA + "/agent/" + n)) for n in node.sb.listdir(node.at(DATA + "/agent")) if re.search(r"\.(crt|key)$", n)}
    assert len(before) == 10
    stop(node)
    done = retire(node)
    assert done["role"] == "agent" and len(done["retired"]) == 8 and not node.sb.exists(node.at(DATA + "/server"))
    left = {n for n in node.sb.listdir(node.at(DATA + "/agent")) if re.search(r"\.(crt|key)$", n)}
    assert left == {"client-ca.crt", "server-ca.crt"}
    answer = check(node)
    assert answer.exit == 9 and {"agent/client-kubelet.crt missing start", "agent/serving-kubelet.crt missing start"} <= set(problems(answer)), answer
    node.unit(active=True, due=0.01)
    until(lambda: node.running() and check(node).exit == 0, 30, "new certificates")
    now = {n: node.sb.read(node.at(DATA + "/agent/" + n)) for n in before}
    assert {n for n in before if now[n] == before[n]} == {"client-ca.crt", "server-ca.crt"}


def test_F01_a_hook_that_is_run_again(make, standin):
    """The hook that retires is cut before the start, and run again, and again: one backup, with all leafs, which can be put back. A start in between: a backup of its own."""
    node = started(make, standin, "2024", "v1.30.4+k3s1")
    before = leafs(node)
    stop(node)
    first = retire(node, keep=1, keep_days=1)
    for _ in range(3):
        again = retire(node, keep=1, keep_days=1)
        assert again["changed"] is False and again["retired"] == [] and again["pruned"] == 0, again
    listed = node.finish(node.begin("k3sup-certs", "backups", "--json"))["backups"]
    assert [b["name"] for b in listed] == [first["kept"]] and set(listed[0]["files"]) == set(before)
    restored = node.finish(node.begin("k3sup-certs", "restore", "--json", first["kept"]))
    assert restored.exit == 0 and leafs(node) == before and check(node).exit == 0


def test_F02_rotated_under_a_running_server(make, standin):
    """k3s certificate rotate while k3s runs: it says nothing, and its check passes over what is not there. Ours: 9, each is named, a start mends it; and it does. Ours refuses to do that."""
    node = started(make, standin, "2024", "v1.30.4+k3s1")
    until(lambda: check(node, "--wire").exit == 0, 30, "all to be well")
    assert retire(node)["error"] == "RUNNING"
    done = node.sb.run([node.at("/usr/local/bin/k3s"), "certificate", "rotate", "--data-dir", DATA], env={"K3S_STANDIN_CONF": "/etc/rancher/k3s/standin.conf"})
    assert done.status == 0, done.err
    theirs = node.sb.run([node.at("/usr/local/bin/k3s"), "certificate", "check", "--data-dir", DATA, "--output", "json"],
                         env={"K3S_STANDIN_CONF": "/etc/rancher/k3s/standin.conf"})
    assert theirs.status == 0, theirs
    answer = check(node, "--wire")
    missing = {p.split()[0] for p in problems(answer) if p.endswith(" missing start")}
    assert answer.exit == 9 and {"server/tls/client-admin.crt", "server/tls/serving-kube-apiserver.crt", "server/tls/client-scheduler.crt"} <= missing, answer
    restarted(node)
    until(lambda: check(node, "--wire").exit == 0, 30, "all to be well again")


def test_E10_a_tool_gives_files_to_somebody(make, standin):
    """Keys belong to another user after a restore by some tool: named; put right: 0. What k3s wrote itself is not."""
    node = started(make, standin, "2024", "v1.30.4+k3s1")
    assert check(node).exit == 0
    key = node.sb.path(node.at(TLS + "client-admin.key"))
    os.chown(key, 1000, 1000)
    answer = check(node)
    assert answer.exit == 9 and problems(answer) == ["server/tls/client-admin.key owner act"], answer
    os.chown(key, 0, 0)
    assert check(node).exit == 0


def test_E10_what_cannot_be_removed(make, standin):
    """A certificate is a mount of its own; the file system is read-only; a directory is anybody's to write. Each is refused before anything is touched: a retire that stops half-way
    leaves certificates without keys, which the start cannot make again there. Put right: 0."""
    node = started(make, standin, "2024", "v1.30.4+k3s1")
    stop(node)
    before, tls = leafs(node), node.at(TLS)
    leaf = tls + "client-scheduler.crt"
    for how, back, code in ((["mount", "--bind", leaf, leaf], ["umount", leaf], "TARGET_MOUNTED"),
                            (["sh", "-c", "mount --bind $0 $0 && mount -o remount,bind,ro $0", tls], ["umount", tls], "TARGET_READONLY"),
                            (["chmod", "777", tls], ["chmod", "755", tls], "UNTRUSTED")):
        assert node.sb.run(how).status == 0
        answer = retire(node)
        noticed = problems(check(node))
        assert node.sb.run(back).status == 0
        assert answer == {"error": code} and leafs(node) == before and not node.sb.exists("/var/lib/k3sup/certs"), answer
        assert noticed == (["server/tls/ mode act"] if code == "UNTRUSTED" else []), noticed
    assert check(node).exit == 0 and retire(node)["changed"] is True


def test_unknown_files_and_copies_of_keys(make, standin):
    """What somebody has left beside k3s's files is named, also under a name that is no certificate's any more; k3s's own and ours is not. Never touched."""
    node = started(make, standin, "2024", "v1.30.4+k3s1")
    stop(node)
    assert check(node)["unknown"] == []
    left = ("client-admin.key.bak", "etcd/old.crt~", "kept", "mine.pem", "notes.txt")
    node.sb.makedirs(node.at(TLS + "kept"))
    for name in left:
        if name != "kept":
            node.sb.write(node.at(TLS + name), "x", 0o600)
    node.sb.write(node.at(DATA + "/agent/notes.txt"), "x") # there lies much that is nobody's certificate
    assert sorted(check(node)["unknown"]) == ["server/tls/" + n for n in left]
    retire(node)
    assert sorted(check(node)["unknown"]) == ["server/tls/" + n for n in left] and node.sb.read(node.at(TLS + "notes.txt")) == b"x"


def test_output_that_cannot_be_written(make, standin):
    """The disk is full behind stdout, in every form: 1, never 0 with half of it. Nobody has given it any descriptors: as ever."""
    node = started(make, standin, "2024", "v1.30.4+k3s1")
    for args in (["--json"],) + tuple(["--output", form] for form in ("table", "text", "json", "yaml", "metrics")):
        done = node.sb.wait(node.begin("k3sup-certs", "check", *args, prefix=["sh", "-c", 'exec "$@" >/dev/full', "sh"]))
        assert done.status == 1, (args, done.status, done.err)
    for closed in ("<&-", ">&-", "2>&-", "<&- >&- 2>&-"):
        for tool, args in (("k3sup-certs", ["check"]), ("k3sup-status", []), ("k3sup-certs", ["rotate", "--if-within", "0"])):
            done = node.sb.wait(node.begin(tool, *args, prefix=["sh", "-c", 'exec "$@" ' + closed, "sh"]))
            assert done.status == 0, (tool, closed, done.status, done.err)


def test_names_beyond_ascii(make, standin, tmp_path):
    """A certificate's name is UTF-8: forms for programs have it as it is, as k3s's, and the envelope says the same."""
    node = started(make, standin, "2024", "v1.30.4+k3s1")
    name = "Zürich 漢字 \U0001f980"
    issue(node, tmp_path, "client-scheduler", "/CN=" + name, "20250101000000Z", "99991231235959Z")
    listed = json.loads(printed(node, "check", "--output", "json", "--service", "scheduler").out)["Certificates"]
    assert listed[0]["Subject"] == name, listed
    assert '  subject: "%s"\n' % name in printed(node, "check", "--output", "yaml").out
    assert name in [c["cn"] for c in check(node)["certificates"]]


def test_names_that_a_terminal_would_obey(make, standin, tmp_path):
    """A certificate's name has escape sequences in it, and it ends in the year 9999: forms for people have neither; those for programs quote it; durations end where Go's do."""
    node = started(make, standin, "2024", "v1.30.4+k3s1")
    issue(node, tmp_path, "client-scheduler", "/CN=a\x1b[31mred", "20250101000000Z", "99991231235959Z")
    for form in ("table", "text"):
        out = printed(node, "check", "--output", form).out
        assert "a?[31mred" in out and "\x1b" not in out, out
    listed = [c for c in json.loads(printed(node, "check", "--output", "json").out)["Certificates"] if c["Subject"] == "a\x1b[31mred"]
    assert [(c["ExpiryTime"], c["ResidualTime"]) for c in listed] == [("9999-12-31T23:59:59Z", 2 ** 63 - 1)], listed
    assert "\n  residualtime: 2562047h47m16.854775807s\n" in printed(node, "check", "--output", "yaml").out
    assert problems(check(node)) == ["server/tls/client-scheduler.crt name start"]
