# SPDX-License-Identifier: Apache-2.0
"""Rotation under OpenRC's real rc-service and supervise-daemon: server and agent, from the host and from a container; k3s runs again whatever kills us."""
import json

import pytest

from cuts import WHATS, Cuts
from leafs import DATA, LISTENER, assert_renewed, leaf_tree, leafs
from node import Answer
from sandbox import PROGRAMS, until

FAST = {"port": 0, "rsa": 0, "shims": 0, "ready_after_ms": 10, "term_delay_ms": 10}


def certs(machine, command, *args, view="host"):
    argv = [PROGRAMS + "/k3sup-certs", command, "--json"] + (["--root", "/host"] if view != "host" else [])
    return Answer(machine.sb.wait(machine.begin(argv + list(args), view=view)))


def rotate(machine, *args, **more):
    return certs(machine, "rotate", "--probe", "none", "--stable", "0.3", "--timeout", "60", *args, **more)


def tree(machine):
    return leaf_tree(machine.sb.path)


def started(machine, old, role="server", name="k3s", last="/server/cred/admin.kubeconfig"):
    """It runs, and has made its certificates."""
    machine.install(old, command=role, name=name, **FAST)
    process = machine.start(name)
    until(lambda: machine.sb.exists(DATA + last) and machine.sb.exists(DATA + "/agent/k3scontroller.kubeconfig"), 10, "its certificates")
    if role == "server":
        until(lambda: machine.sb.exists(DATA + "/" + LISTENER), 10, "its listener's certificate")
    return process


def assert_finished(machine, key, why=""):
    """One run under this key comes to its end, and the next one does nothing."""
    answer = rotate(machine, "--rotate-key", key)
    assert answer.exit == 0 and answer["state"] == "current", "%s %r" % (why, answer)
    again = rotate(machine, "--rotate-key", key)
    assert again.exit == 0 and again["changed"] is False, "%s %r" % (why, again)
    assert machine.guards() == [] and machine.state() == "started"
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
    assert now["pid"] != before["pid"] and now["ppid"] != before["ppid"] and "/pod" not in machine.cgroup(now["pid"]) and machine.guards() == []
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
    assert now["pid"] != before["pid"] and now["ppid"] != before["ppid"] and answer["running"]["version"] == answer["wanted"]["version"] and machine.guards() == []
    assert_renewed(was, tree(machine))
    again = machine.upgrade(*args)
    assert again.exit == 0 and again["changed"] is False and machine.running()[0]["pid"] == now["pid"], again


def test_agent(boot, old):
    """An agent: all eight of its files are new; that its server has issued them is said."""
    machine = boot()
    before = started(machine, old, role="agent --server https://127.0.0.1:1 --token x", name="k3s-agent", last="/agent/client-kubelet.crt")
    was = tree(machine)

    answer = rotate(machine, "--rotate-key", "k")

    assert answer.exit == 0 and answer["issued_by"] == "server" and answer["role"] == "agent" and machine.running()[0]["pid"] != before["pid"], answer
    assert len(leafs(was)) == 8 and machine.state("k3s-agent") == "started" and machine.guards() == []
    assert_renewed(was, tree(machine))


def test_stopped_by_the_operator(boot, old):
    """The files are done, k3s is left stopped: 9. After the operator's start: 0, proven."""
    machine = boot()
    started(machine, old)
    was = tree(machine)
    machine.rc("k3s", "stop")

    answer = rotate(machine, "--rotate-key", "k")
    assert answer.exit == 9 and answer["left_stopped"] and answer["state"] == "rotation-pending" and not machine.running() and machine.guards() == [], answer

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
    assert tree(machine) == was and machine.running()[0]["pid"] == before["pid"] and machine.guards() == []


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
    started(machine, old)
    Under(machine, what, [machine.node.payload(old, "/opt/payload/old"), machine.node.payload(new, "/opt/payload/new")]).everywhere(part)
