# SPDX-License-Identifier: Apache-2.0
"""Rotation under OpenRC's real rc-service and supervise-daemon: server and agent, from the host and from a container; k3s runs again whatever kills us."""
import json
import shutil

import pytest

from cuts import WHATS, Cuts
from leafs import DATA, LISTENER, assert_renewed, leaf_tree, leafs
from node import Answer
from sandbox import PROGRAMS, until

FAST = {"port": 0, "rsa": 0, "shims": 0, "ready_after_ms": 10, "term_delay_ms": 10}
AGENT = "agent --server https://127.0.0.1:1 --token x"


def certs(machine, command, *args, view="host"):
    argv = [PROGRAMS + "/k3sup-certs", command, "--json"] + (["--root", "/host"] if view != "host" else [])
    return Answer(machine.sb.wait(machine.begin(argv + list(args), view=view)))


def rotate(machine, *args, **more):
    return certs(machine, "rotate", "--probe", "none", "--stable", "0.3", "--timeout", "60", *args, **more)


def tree(machine, data=DATA):
    return leaf_tree(machine.sb.path, data)


def started(machine, old, command="server", data=DATA):
    """It runs, and has made its certificates."""
    agent = command.startswith("agent")
    machine.install(old, command=command, name="k3s-agent" if agent else "k3s", **FAST)
    process = machine.start("k3s-agent" if agent else "k3s")
    until(lambda: machine.sb.exists(data + ("/agent/client-kubelet.crt" if agent else "/server/cred/admin.kubeconfig")) and
          machine.sb.exists(data + "/agent/k3scontroller.kubeconfig"), 10, "its certificates")
    if not agent:
        until(lambda: machine.sb.exists(data + "/" + LISTENER), 10, "its listener's certificate")
    return process


def assert_finished(machine, key, why=""):
    """One run under this key comes to its end, and the next one does nothing."""
    answer = rotate(machine, "--rotate-key", key)
    assert answer.exit == 0 and answer["state"] == "current", "%s %r" % (why, answer)
    again = rotate(machine, "--rotate-key", key)
    assert again.exit == 0 and again["changed"] is False, "%s %r" % (why, again)
    assert machine.unguarded() and machine.state() == "started"
    return answer


@pytest.mark.parametrize("view", ["host", "pod"])
def test_rotate(boot, old, view):
    """k3sup-certs rotate --rotate-key K: 0; another k3s and another supervise-daemon, new leafs and keys, authorities untouched. The same key again: 0, nothing done."""
    machine = boot("hybrid")
    before = started(machine, old)
    was = tree(machine)

    answer = rotate(machine, "--rotate-key", "k1", view=view)

    assert answer.exit == 0 and answer["changed"] is True and answer["state"] == "current" and answer["issued_by"] == "itself", answer
    assert answer["stopped"] and answer["started"] and answer["service"]["manager"] == "openrc" and answer["downtime_ms"] > 0, answer
    now = machine.running()[0]
    assert now["pid"] != before["pid"] and now["ppid"] != before["ppid"] and "/pod" not in machine.cgroup(now["pid"]) and machine.unguarded()
    assert_renewed(was, tree(machine))
    assert certs(machine, "check").exit == 0
    again = rotate(machine, "--rotate-key", "k1", view=view)
    assert again.exit == 0 and again["changed"] is False and machine.running()[0]["pid"] == now["pid"], again
    assert len(machine.sb.listdir("/var/lib/k3sup/certs")) == 1


def test_with_an_upgrade(boot, old, new):
    """k3sup-upgrade --rotate-certs FILE: 0; the new build under another supervise-daemon, new leafs and keys, one restart. The same again: 0, nothing done."""
    machine = boot()
    before = started(machine, old)
    was, args = tree(machine), ["--rotate-certs", "--probe", "none", machine.node.payload(new)]

    answer = machine.upgrade(*args)

    assert answer.exit == 0 and answer["changed"] is True and answer["state"] == "current" and answer["stopped"] and answer["started"], answer
    now = machine.running()[0]
    assert now["pid"] != before["pid"] and now["ppid"] != before["ppid"] and answer["running"]["version"] == answer["wanted"]["version"] and machine.unguarded()
    assert_renewed(was, tree(machine))
    again = machine.upgrade(*args)
    assert again.exit == 0 and again["changed"] is False and machine.running()[0]["pid"] == now["pid"], again


def test_agent(boot, old):
    """An agent: all eight of its files are new; that its server has issued them is said."""
    machine = boot()
    before = started(machine, old, AGENT)
    was = tree(machine)

    answer = rotate(machine, "--rotate-key", "k")

    assert answer.exit == 0 and answer["issued_by"] == "server" and answer["role"] == "agent" and machine.running()[0]["pid"] != before["pid"], answer
    assert len(leafs(was)) == 8 and machine.state("k3s-agent") == "started" and machine.unguarded()
    assert_renewed(was, tree(machine))


def test_stopped_by_the_operator(boot, old):
    """The files are done, k3s is left stopped: 9. After the operator's start: 0, proven."""
    machine = boot()
    started(machine, old)
    was = tree(machine)
    machine.rc("k3s", "stop")

    answer = rotate(machine, "--rotate-key", "k")
    assert answer.exit == 9 and answer["left_stopped"] and answer["state"] == "rotation-pending" and not machine.running() and machine.unguarded(), answer

    machine.start()
    answer = assert_finished(machine, "k")
    assert answer["resumed"], answer
    assert_renewed(was, {p: t for p, t in tree(machine).items() if "regenerate" not in p})


def test_refused_while_it_runs(boot, old):
    """Only to be signalled: supervise-daemon would start it again at once: 3, nothing touched."""
    machine = boot()
    before = started(machine, old)
    was = tree(machine)
    answer = rotate(machine, "--rotate-key", "k", "--restart", "signal")
    assert (answer.exit, answer.error) == (3, "K3SUP_E_NO_SERVICE"), answer
    assert tree(machine) == was and machine.running()[0]["pid"] == before["pid"] and machine.unguarded()


def test_decoy(boot, old):
    """E01: another tree lies in the default data-dir: the running k3s's own is rotated, the decoy is not touched."""
    machine, data = boot(), "/srv/k3s-data"
    started(machine, old, "server --data-dir " + data, data)
    shutil.copytree(machine.sb.path(data + "/server/tls"), machine.sb.path(DATA + "/server/tls"))
    was, decoy = tree(machine, data), tree(machine)
    assert leafs(decoy)

    answer = rotate(machine, "--rotate-key", "k")

    assert answer.exit == 0 and answer["data_dir"]["path"] == data, answer
    assert_renewed(was, tree(machine, data))
    assert tree(machine) == decoy


def starts(machine):
    path = DATA + "/standin-starts"
    return int(machine.sb.read(path) or 0) if machine.sb.exists(path) else 0


def test_start_fails_once(boot, old):
    """The first start after the stop dies; supervise-daemon starts it again: 0."""
    machine = boot()
    started(machine, old)
    was, before = tree(machine), starts(machine)
    machine.node.behave(**dict(FAST, flap=before + 1))

    answer = rotate(machine, "--rotate-key", "k", "--stable", "1")

    assert answer.exit == 0 and starts(machine) == before + 2, answer
    assert_renewed(was, tree(machine))


def test_restore(boot, old):
    """What was retired can be had back: k3sup-certs restore, while k3s is stopped; the old leafs are live again, and the key's goal does not hold any more."""
    machine = boot()
    started(machine, old)
    was = tree(machine)
    answer = rotate(machine, "--rotate-key", "k")
    assert answer.exit == 0, answer
    machine.rc("k3s", "stop")

    restored = certs(machine, "restore", answer["kept"])

    assert restored.exit == 0 and restored["changed"], restored
    machine.start()
    now = tree(machine)
    assert all(now[p] == was[p] for p in leafs(was) if not p.startswith("agent/") and p != LISTENER)
    assert rotate(machine, "--rotate-key", "k")["changed"] is True


class Under(Cuts):
    """Of OpenRC: our control group ends as a whole."""
    TRACE = "/mnt/out/cut.trace"

    def driver(self, words, prefix=()):
        return self.machine.sb.wait(self.machine.begin([PROGRAMS + "/tests/driver-service", "/", "5000", words], prefix=prefix))

    def traced(self, strace, words):
        self.driver(words, strace)
        self.machine.kill_group()
        return self.machine.sb.read(self.TRACE).decode(errors="replace")

    def plain(self, words):
        return json.loads(self.driver(words).out)

    def settled(self, why):
        until(lambda: not self.machine.guards(), 60, "the guardian to go: " + why)
        until(lambda: self.machine.running() and self.machine.daemons(), 60, "k3s to run: " + why)
        assert len(self.machine.running()) == 1 and len(self.machine.daemons()) == 1, why

    def assert_whole(self, why):
        # Certificates are made early in a start.
        until(lambda: not [p for p in certs(self.machine, "check")["problems"] if p["remedy"] != "note"], 60, "its certificates: " + why, every=0.1)


@pytest.mark.parametrize("what, part", WHATS)
def test_killed_anywhere(boot, old, new, strace, what, part):
    """SIGKILL of our whole group: k3s runs again without a second run, its certificates whole; one more run finishes, and is the last.

    With K3SUP_TEST_FULL at every system call that others can see, and at some of the thousands of looks between.
    """
    machine = boot()
    started(machine, old, *[AGENT] * (what == "agent"))
    Under(machine, what, [machine.node.payload(old, "/opt/payload/old"), machine.node.payload(new, "/opt/payload/new")]).everywhere(part)
