# SPDX-License-Identifier: Apache-2.0
"""An upgrade with a rotation where certificates, clock, data-dir, configuration or disk are not as they should be: what stands in the way is said before anything is stopped or changed, and
what is no reason to refuse refuses nothing.
"""
import os
import subprocess
import time

import pytest

from node import content_of
from sandbox import until
from test_certs import DATA, check, leafs, problems
from test_certs_field import issue
from test_commands import START, STOP, commands, guards, kill_us

PAYLOAD = "/opt/payload/k3s"
KEPT = "/var/lib/k3sup/certs"
ASKED = "/tmp/asked"
# An authority of the same key and name, of other dates.
RENEW = r"""set -e
: >db; echo 01 >serial
printf '[ca]\ndefault_ca=x\n[x]\ndatabase=db\nserial=serial\nnew_certs_dir=.\ndefault_md=sha256\npolicy=p\nunique_subject=no\n[p]\nCN=supplied\n[req]\ndistinguished_name=d\n[d]\n' >cnf
printf 'keyUsage=critical,digitalSignature,keyEncipherment,keyCertSign\nbasicConstraints=critical,CA:TRUE\nsubjectKeyIdentifier=hash\n' >ext
openssl req -config cnf -new -key "$1.key" -subj "$(openssl x509 -noout -subject -nameopt compat -in "$1.crt" | sed 's/^subject= *//; s/^\([^/]\)/\/\1/')" -out csr
openssl ca -config cnf -batch -notext -selfsign -keyfile "$1.key" -in csr -extfile ext -startdate 20200101000000Z -enddate "$2" -out ca
cat ca >"$1.crt"
"""


class Case:
    """A node whose k3s runs the old build, and is stopped and started by commands that write down that they were run."""

    rotates = ("--rotate-certs",)

    def __init__(self, make, old, new, args=""):
        self.node = node = make()
        self.old, self.new, self.data = old, new, "/mnt/pool" if "data-dir" in args else DATA
        node.install(old)
        self.start = START.replace(" --write", " %s --write" % args)
        node.sb.spawn(["sh", "-c", self.start])
        node.process = until(node.running, 60, "k3s to come up")[0][0]
        for made_last in ("/server/tls/dynamic-cert.json", "/server/cred/admin.kubeconfig", "/agent/k3scontroller.kubeconfig"):
            until(lambda path=made_last: node.sb.exists(self.data + path), 60, "its certificates")
        node.payload(new)

    def commands(self):
        return commands("echo stop >>%s; " % ASKED + STOP, "echo start >>%s; " % ASKED + self.start)

    def upgrade(self, *args, **more):
        return self.node.upgrade(*self.rotates, *self.commands(), *args, PAYLOAD, **dict({"timeout": "60"}, **more))

    def rotate(self, *args, timeout="60"):
        """Of the certificates alone."""
        return self.node.finish(self.node.begin("k3sup-certs", "rotate", "--json", "--rotate-key", "x", "--stable", "0.3", "--timeout", timeout, *self.commands(), *args))

    def asked(self):
        return self.node.sb.read(ASKED).decode().split() if self.node.sb.exists(ASKED) else []

    def assert_refused(self, error, *args, env=None):
        """By --check, --dry-run and the upgrade itself: 3; nobody was asked for anything, and all is what it was. Returns the last answer."""
        node, was, before = self.node, leafs(self.node) if self.data == DATA else None, self.node.snapshot("/tmp")
        for more in (["--check"], ["--dry-run"], []):
            answer = self.upgrade(*more, *args, env=env or {})
            assert (answer.exit, answer.error, answer["changed"]) == (3, error, False), answer
            node.assert_nothing_changed(before, "/tmp", lock=not more)
        assert self.asked() == [] and node.assert_runs(self.old)["pid"] == node.process["pid"] and not guards(node)
        assert was is None or leafs(node) == was
        return answer

    def assert_done(self, answer, was):
        """One stop, one start; the new build, and all leafs are other ones."""
        assert answer.exit == 0 and answer["state"] == "current" and self.asked() == ["stop", "start"], answer
        self.node.assert_runs(self.new, but=self.node.process)
        now = leafs(self.node)
        assert set(now) >= set(was) and not [p for p in was if now[p] == was[p]], sorted(p for p in was if now.get(p) == was[p])
        assert len(self.node.sb.listdir(KEPT)) == 1 and not guards(self.node)


def lasting(files):
    """All but what is new after each start: an agent's certificates come from its server."""
    return {path: text for path, text in files.items() if not (path.startswith("agent/") and path.endswith(".crt"))}


def renew(case, tmp_path, authority, end):
    path = case.node.sb.path(DATA + "/server/tls/" + authority)
    subprocess.run(["sh", "-c", RENEW, "sh", path, end], cwd=str(tmp_path), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def test_E05_leafs_have_expired(make, old, new, tmp_path):
    """Two of them long ago, one begins only in 2049: no reason to refuse, a start is the cure. k3sup-upgrade --rotate-certs FILE: 0, one stop and one start, all new, check is content."""
    case = Case(make, old, new)
    issue(case.node, tmp_path, "client-admin", "/O=system:masters/CN=system:admin", "20200101000000Z", "20210203040506Z")
    issue(case.node, tmp_path, "client-scheduler", "/CN=system:kube-scheduler", "20491231000000Z", "20500101000000Z")
    assert problems(check(case.node)) == ["server/tls/client-admin.crt expired start", "server/tls/client-scheduler.crt not-yet-valid act"]
    was = leafs(case.node)
    case.assert_done(case.upgrade(), was)
    assert problems(check(case.node)) == []


def test_E05_an_authority_has_expired(make, old, new, tmp_path):
    """No start could issue anything. k3sup-upgrade --rotate-certs [--check|--dry-run] FILE: 3, K3SUP_E_AUTHORITY names it; nothing is touched. Without --rotate-certs: 0, the file alone."""
    case = Case(make, old, new)
    renew(case, tmp_path, "client-ca", "20210203040506Z")
    answer = case.assert_refused("K3SUP_E_AUTHORITY")
    assert "server/tls/client-ca.crt" in answer.message and "20210203040506" not in answer.message, answer
    answer = case.node.upgrade(*commands(), PAYLOAD)
    assert answer.exit == 0 and case.node.assert_runs(case.new, but=case.node.process), answer


def test_E11_an_authority_ends_soon(make, old, new, tmp_path):
    """It is nobody's to change here. k3sup-upgrade --rotate-certs FILE: 0, and a warning names it; the authority is what it was."""
    case = Case(make, old, new)
    renew(case, tmp_path, "server-ca", subprocess.check_output(["date", "-u", "-d", "40 days", "+%Y%m%d%H%M%SZ"], text=True).strip())
    was, authority = leafs(case.node), case.node.sb.read(DATA + "/server/tls/server-ca.crt")
    answer = case.upgrade()
    case.assert_done(answer, was)
    assert case.node.sb.read(DATA + "/server/tls/server-ca.crt") == authority
    assert len([w for w in answer["warnings"] if "server/tls/server-ca.crt expires at" in w]) == 1, answer
    assert problems(check(case.node)) == ["server/tls/server-ca.crt expiring act"]


def test_E02_a_wrong_data_dir(make, old, new):
    """k3s lives elsewhere than somebody says; or where he says only an agent has been, so that the server looks like one. --data-dir WRONG: 3, K3SUP_E_DATA_DIR; with none: 0, observed."""
    case = Case(make, old, new, "--data-dir /mnt/pool")
    case.assert_refused("K3SUP_E_DATA_DIR", "--data-dir", DATA)
    case.node.sb.makedirs(DATA + "/agent")
    answer = case.assert_refused("K3SUP_E_DATA_DIR", "--data-dir", DATA)
    assert DATA in answer.message, answer
    admin = case.node.sb.read("/mnt/pool/server/tls/client-admin.crt")
    answer = case.upgrade()
    assert answer.exit == 0 and answer["data_dir"]["path"] == "/mnt/pool" and case.asked() == ["stop", "start"], answer
    assert case.node.sb.read("/mnt/pool/server/tls/client-admin.crt") != admin and case.node.sb.listdir(DATA + "/agent") == []


def test_E02_a_data_dir_that_only_the_stopped_k3s_knew(make, old, new):
    """k3s was started by hand with --data-dir, and the run is killed while it is stopped: no process, unit or file says where it worked. k3sup-status: /mnt/pool, by the journal. The same
    again, without a guard: 0, resumed, all leafs there are other ones; the default place is not touched.
    """
    case = Case(make, old, new, "--data-dir /mnt/pool")
    node, admin = case.node, case.node.sb.read("/mnt/pool/server/tls/client-admin.crt")
    spec = node.begin("k3sup-upgrade", "--json", "--stable", "0.3", "--guard-delay", "0", "--rotate-certs",
                      *commands(STOP + "; sleep 0.5; touch /tmp/stopped; sleep 600", case.start), PAYLOAD)
    until(lambda: node.sb.exists("/tmp/stopped") and not node.running(), 60, "k3s to be stopped")
    kill_us(node)
    node.sb.wait(spec)
    seen = node.status("--payload", PAYLOAD)["data_dir"]
    assert (seen["path"], seen["source"]) == ("/mnt/pool", "journal") and not node.running(), seen
    answer = case.upgrade("--guard-delay", "0")
    assert answer.exit == 0 and answer["resumed"] is True and answer["data_dir"]["path"] == "/mnt/pool" and case.asked() == ["start"], answer
    assert case.node.assert_runs(new, but=node.process) and node.sb.read("/mnt/pool/server/tls/client-admin.crt") != admin and not node.sb.exists(DATA + "/server")
    assert node.status("--payload", PAYLOAD)["data_dir"]["source"] == "process"


@pytest.mark.parametrize("when, why", [("1970", "before this library was built"), ("before the authorities", "before this cluster's authorities")])
def test_E05_a_clock_that_cannot_be(make, old, new, clock, tmp_path, when, why):
    """k3sup-upgrade --rotate-certs [--check|--dry-run] FILE: 3, K3SUP_E_CLOCK, which says why; nothing is touched. As it should be: 0."""
    case = Case(make, old, new)
    if when != "1970":
        renew(case, tmp_path, "client-ca", "20700101000000Z")
    env = dict(clock(case.node), K3SUP_TEST_TIME="3600" if when == "1970" else str(int(time.time()) - 600))
    answer = case.assert_refused("K3SUP_E_CLOCK", env=env)
    assert why in answer.message, answer
    was = leafs(case.node)
    case.assert_done(case.upgrade(), was)


def test_G01_configuration_that_cannot_be_told(make, old, new):
    """k3s reads a tag that we do not; where its data-dir is was seen while it ran. k3sup-upgrade --rotate-certs FILE: 0, with a warning; it is not looked for anew while k3s is stopped."""
    case = Case(make, old, new)
    case.node.sb.write("/etc/rancher/k3s/config.yaml", "token: !!str sesame\n")
    was = leafs(case.node)
    answer = case.upgrade()
    case.assert_done(answer, was)
    assert any("/etc/rancher/k3s/config.yaml" in w for w in answer["warnings"]) and "sesame" not in str(answer.json), answer


@pytest.mark.parametrize("alone", [False, True], ids=["both", "upgrade"])
def test_G01_configuration_that_k3s_does_not_start_with(make, old, new, alone):
    """Somebody has broken config.yaml while k3s ran. k3sup-upgrade [--rotate-certs] [--check|--dry-run] FILE: 3, K3SUP_E_CONFIG, with the line; nobody is asked, k3s runs on. Mended: 0."""
    case = Case(make, old, new)
    node, mended = case.node, "node-label:\n- a=b\n"
    if alone:
        case.rotates = ()
    node.sb.write("/etc/rancher/k3s/config.yaml", mended + "token: sesame\n\tdata-dir: /x\n")
    answer = case.assert_refused("K3SUP_E_CONFIG", "--before-write", "echo asked >>" + ASKED)
    assert "/etc/rancher/k3s/config.yaml" in answer.message and "line 4" in answer.message and "sesame" not in str(answer.json), answer
    node.sb.write("/etc/rancher/k3s/config.yaml", mended)
    answer = case.upgrade()
    assert answer.exit == 0 and answer["state"] == "current" and case.asked() == ["stop", "start"], answer
    node.assert_runs(new, but=node.process)


def test_G01_a_rotation_alone_is_refused_alike(make, old, new):
    """k3s would not start again with its configuration, or the backup has no room. k3sup-certs rotate [--dry-run]: 3, K3SUP_E_CONFIG, ENOSPC; k3s runs on with its certificates. Mended: 0."""
    case = Case(make, old, new)
    node, was, config, filler = case.node, leafs(case.node), "/etc/rancher/k3s/config.yaml", "/var/lib/k3sup/filler"

    def assert_refused(error):
        for more in (["--dry-run"], []):
            answer = case.rotate(*more)
            assert (answer.exit, answer.error) == (3, error) and leafs(node) == was and case.asked() == [], answer
            assert node.assert_runs(old)["pid"] == node.process["pid"] and not guards(node)

    node.sb.write(config, "- token\n")
    assert_refused("K3SUP_E_CONFIG")
    node.sb.write(config, "token: x\n")
    node.sb.makedirs("/var/lib/k3sup")
    node.sb.ask("mount", source="state", target="/var/lib/k3sup", kind="tmpfs", data="size=512k,mode=0700")
    node.sb.run(["dd", "if=/dev/zero", "of=" + filler, "bs=4k"])
    node.sb.run(["truncate", "-s", "-16K", filler])
    assert_refused("ENOSPC")
    os.unlink(node.sb.path(filler))
    answer = case.rotate()
    assert answer.exit == 0 and answer["changed"] and case.asked() == ["stop", "start"], answer


def test_B07_the_disk_is_full_at_the_backup(make, old, new):
    """Somebody fills the state directory's disk right before the stop. k3sup-upgrade --rotate-certs FILE: 1, ENOSPC; k3s was started again, the old build with the old certificates. With
    room: 0, all of both.
    """
    case = Case(make, old, new)
    node = case.node
    node.sb.makedirs("/var/lib/k3sup")
    node.sb.ask("mount", source="state", target="/var/lib/k3sup", kind="tmpfs", data="size=512k,mode=0700")
    was = leafs(node)
    answer = case.upgrade("--before-stop", "dd if=/dev/zero of=/var/lib/k3sup/filler bs=4k; truncate -s -16K /var/lib/k3sup/filler")
    assert (answer.exit, answer.error) == (1, "ENOSPC") and answer["started"] and answer["state"] == "rotation-pending", answer
    assert case.asked() == ["stop", "start"] and lasting(leafs(node)) == lasting(was) and node.content() == content_of(case.old) and not guards(node)
    node.process = node.assert_runs(case.old, but=node.process)
    for name in ("/var/lib/k3sup/filler", ASKED):
        os.unlink(node.sb.path(name))
    answer = case.upgrade()
    assert answer["resumed"] is True, answer
    case.assert_done(answer, was)


def test_B07_no_room_for_the_backup(make, old, new):
    """The state directory's disk is full before anything begins. k3sup-upgrade --rotate-certs [--check|--dry-run] FILE: 3, ENOSPC with the numbers; nobody is asked, k3s runs on.

    Without --rotate-certs nothing is kept there. With room: 0, all of both. Without the check k3s is stopped and started for nothing.
    """
    case = Case(make, old, new)
    node, filler = case.node, "/var/lib/k3sup/filler"
    node.sb.makedirs("/var/lib/k3sup")
    node.sb.ask("mount", source="state", target="/var/lib/k3sup", kind="tmpfs", data="size=512k,mode=0700")
    node.sb.run(["dd", "if=/dev/zero", "of=" + filler, "bs=4k"])
    node.sb.run(["truncate", "-s", "-16K", filler])
    was = leafs(node)
    answer = case.assert_refused("ENOSPC", "--before-write", "echo asked >>" + ASKED)
    assert "/var/lib/k3sup" in answer.message and answer["error"]["evidence"]["free_bytes"] < answer["error"]["evidence"]["needed_bytes"], answer
    os.unlink(node.sb.path(filler))
    case.assert_done(case.upgrade(), was)


def test_E06_copies_of_before(make, old, new):
    """~/.kube/config holds the administrator's certificate of before. k3sup-upgrade --rotate-certs FILE: 0; the copy is nobody's to change, and check names it; k3s's own is new."""
    case = Case(make, old, new)
    node, copy, own = case.node, "/mnt/ci/config", "/var/log/k3s.yaml"
    until(lambda: node.sb.exists(own), 60, "its kubeconfig")
    node.sb.makedirs("/mnt/ci")
    node.sb.copy(node.sb.path(own), copy, 0o600)
    was, before = leafs(node), node.sb.read(copy)
    case.assert_done(case.upgrade(), was)
    until(lambda: node.sb.read(own) != before, 60, "the start to write its kubeconfig")
    answer = check(node, "--kubeconfig", copy, "--kubeconfig", own)
    assert answer.exit == 0 and [(p["path"], p["problem"], p["remedy"]) for p in answer["problems"]] == [(copy, "stale-copy", "note")], answer
    assert node.sb.read(copy) == before


def test_F01_cut_by_the_start_that_it_causes(make, old, new):
    """A Job's first pod ends when the new k3s starts, its second one is run to the end, and a third one comes, too. k3sup-upgrade --rotate-certs FILE, three times: killed; 0, resumed, proven;
    0, nothing. One stop, one start, one rotation.
    """
    case = Case(make, old, new)
    node, was = case.node, leafs(case.node)
    stop, start = "echo stop >>%s; " % ASKED + STOP, "echo start >>%s; " % ASKED + START
    spec = node.begin("k3sup-upgrade", "--json", "--stable", "0.3", "--rotate-certs", *commands(stop, start + "; until pidof k3s-server >/dev/null; do sleep 0.05; done; sleep 600"), PAYLOAD)
    until(lambda: case.asked() == ["stop", "start"] and node.running(), 60, "the start")
    kill_us(node)
    node.sb.wait(spec)
    until(lambda: len(node.running()) == 1, 60, "k3s")
    answer = case.upgrade()
    assert answer["resumed"] is True, answer
    case.assert_done(answer, was)
    now, third = node.running()[0][0]["pid"], case.upgrade()
    assert third.exit == 0 and third["changed"] is False and node.running()[0][0]["pid"] == now and case.asked() == ["stop", "start"], third


@pytest.mark.parametrize("tool, often", [("k3sup-upgrade", False), ("k3sup-upgrade", True), ("k3sup-certs", False)])
def test_E07_the_listener_keeps_its_certificate(make, old, new, tool, often):
    """Somebody takes the trigger away before the start: all files are new, and the listener goes on with the certificate that was retired. k3sup-upgrade --rotate-certs FILE: 11,
    K3SUP_E_NOT_ROTATED names it, the new build runs, the rotation is pending. The same again: retired once more, one stop and one start, 0; or, if it is taken away each time, 11; and then
    k3s is not stopped any more.
    """
    case = Case(make, old, new)
    node, listener, asked = case.node, DATA + "/server/tls/dynamic-cert.json", ["stop", "start"]
    before, start = node.sb.read(listener), case.start
    if tool == "k3sup-certs":
        case.upgrade, new = case.rotate, old
    case.start = "rm -f %s/server/tls/dynamic-cert-regenerate; %s" % (DATA, start)

    for n in (1, 2, 2) if often else (1,):
        answer = case.upgrade(timeout="8")
        assert (answer.exit, answer.error, answer["state"]) == (11, "K3SUP_E_NOT_ROTATED", "rotation-pending") and "dynamic-cert.json" in answer.message, answer
        assert node.sb.read(listener) == before and case.asked() == n * asked and node.assert_runs(new, but=node.process), answer
    if not often:
        case.start = start
        answer = case.upgrade()
        assert answer.exit == 0 and answer["state"] == "current" and answer["resumed"] and case.asked() == 2 * asked and node.assert_runs(new), answer
        assert node.sb.read(listener) != before
        answer = case.upgrade()
        assert answer.exit == 0 and answer["changed"] is False and case.asked() == 2 * asked, answer
