# SPDX-License-Identifier: Apache-2.0
"""Rotation under OpenRC's real rc-service and supervise-daemon: server and agent, from the host and from a container; k3s runs again whatever kills us."""
import os
import random
import time

import pytest

from cuts import cuts_in
from leafs import DATA, LISTENER, assert_renewed, leaf_tree, leafs
from node import Answer
from sandbox import PROGRAMS, until

FULL = os.environ.get("K3SUP_TEST_FULL")
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


def cut_at(machine, key, *tracing):
    """One run under strace, which may end it and all its group."""
    argv = [PROGRAMS + "/tests/driver-service", "/", "5000", "rotate=" + key]
    return machine.sb.wait(machine.begin(argv, prefix=["strace", "-q", "-s", "200"] + list(tracing)))


def test_killed_anywhere(boot, old, strace):
    """SIGKILL of our whole group at system calls from the making of the guardian on: k3s runs again without a second run, its certificates whole; one more run finishes."""
    seed = int(os.environ.get("K3SUP_TEST_SEED") or time.time())
    machine = boot()
    started(machine, old)
    done = cut_at(machine, "first", "-o", "/mnt/out/cut.trace")
    assert done.status == 0, done.out + done.err
    doing, looking = cuts_in(machine.sb.read("/mnt/out/cut.trace").decode(errors="replace"), "guard-k3s")
    chosen = random.Random(seed)
    points = doing + looking[chosen.randrange(64)::64] if FULL else chosen.sample(doing, 3) + chosen.sample(looking, 1)
    struck = 0
    for i, (name, n) in enumerate(points):
        why, key = "k3s to run after a cut at %s %d (seed %d)" % (name, n, seed), str(i)
        done = cut_at(machine, key, "-o", "/dev/null", "-e", "inject=%s:signal=KILL:when=%d" % (name, n))
        machine.kill_group()
        struck += done.status != 0
        until(lambda: not machine.guards(), 10, "the guardian to go: " + why)
        until(lambda: machine.running() and machine.daemons(), 10, why)
        # Certificates are made early in a start.
        until(lambda: not [p for p in certs(machine, "check")["problems"] if p["remedy"] != "note"], 10, "its certificates: " + why, every=0.1)
        assert_finished(machine, key, why)
    print("%d of %d cuts struck (%d of what others can see), seed %d" % (struck, len(points), len(doing), seed))
    assert struck >= len(points) // 2, "only %d of %d cuts struck" % (struck, len(points))
