# SPDX-License-Identifier: Apache-2.0
"""A rotation, an upgrade, both, or a roll back that is killed at each of its steps, and nobody runs it again: k3s runs within the guard's delay. Then somebody does, and it is finished."""
import json
import os
import random
import signal
import time

import pytest

from cuts import FULL, WHATS, Cuts
from machine import COMMANDS, PROGRAMS, UNIT, children, told
from sandbox import until
from test_rotate import certs
from test_service import by_hand

STEPS = ("identify", "stage", "verify", "unpack", "swap", "restart", "prove")
LATE = STEPS[4:]
GUARD_DELAY = 2
AGENT = "agent --server https://127.0.0.1:1 --token x"


def kill_all(pid):
    """The program and all that it has started, as a container's runtime ends them."""
    for child in children(pid):
        kill_all(child)
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def cut_at(machine, step, delay, *args):
    """Runs k3sup-upgrade until it says that this step begins, and so many seconds more. True if it was killed then."""
    p = machine.begin("k3sup-upgrade", "--events", "1", "--probe", "none", "--stable", "0.3", "--timeout", "120", *args)
    program, = until(lambda: children(p.pid), 60, "the program")
    for line in p.stdout:
        if line.startswith("{") and json.loads(line)["step"] == step:
            break
    time.sleep(delay)
    kill_all(program)
    p.communicate(timeout=60)
    return p.returncode != 0


def assert_runs_again(machine, why):
    """In any case: one k3s, and nobody who still owes it a start."""
    until(lambda: not machine.commands_guards() and machine.show("k3sup-guard-k3s.timer", "ActiveState")["ActiveState"] == "inactive", 60, "the guard's time to be over after " + why)
    until(lambda: len(machine.running()) == 1, 60, "one k3s after " + why)


def install(machine, binary, command="server", **more):
    """So many restarts in so few seconds are a crash loop to systemd, which would give up."""
    machine.install(binary, unit=(UNIT % command).replace("[Unit]\n", "[Unit]\nStartLimitIntervalSec=0\n"), shims=0, ready_after_ms=10, term_delay_ms=10, **more)


class Under(Cuts):
    """Of systemd: its unit ends with all that it has begun."""
    TRACE = "/var/cut.trace"

    def begin_driver(self, prefix, words, **more):
        return self.machine.begin(None, argv=prefix + [PROGRAMS + "/tests/driver-service", "/", str(GUARD_DELAY * 1000), words], **more)

    def traced(self, strace, words):
        p = self.begin_driver(strace, words, unit="cut")
        p.communicate(timeout=120)
        return self.machine.read(self.TRACE).decode(errors="replace")

    def plain(self, words):
        p = self.begin_driver([], words)
        return json.loads(p.communicate(timeout=120)[0])

    def settled(self, why):
        until(lambda: self.machine.show("k3sup-guard-%s.timer" % self.name, "ActiveState")["ActiveState"] == "inactive", 60, "the guard's time to be over: " + why, every=0.05)
        until(lambda: self.machine.running() and self.machine.show(self.name, "ActiveState")["ActiveState"] == "active", 60, "k3s to run: " + why, every=0.05)
        assert len(self.machine.running()) == 1, why

    def check(self):
        return certs(self.machine, "check")


@pytest.mark.parametrize("what, part", WHATS)
def test_killed_anywhere(machine, old, new, strace, what, part):
    """SIGKILL of the whole cgroup: without a second run k3s runs again, its certificates whole; one more run finishes, and is the last.

    With K3SUP_TEST_FULL at every system call that others can see, and at some of the thousands of looks between.
    """
    cuts = Under(machine, what, [machine.payload(old, "/opt/payload/old"), machine.payload(new, "/opt/payload/new")])
    install(machine, old, AGENT if what == "agent" else "server", name=cuts.name)
    machine.start(cuts.name)
    machine.wait_active(cuts.name)
    cuts.everywhere(part)


@pytest.mark.parametrize("how", ["service", "commands"])
def test_killed_at_each_step(machine, old, new, how):
    """k3sup-upgrade --restart service, or commands with --guard-delay 2, killed with all that it has started: k3s runs. Again: 0, state current; the wanted build runs, no flag is left.

    Some steps, chosen by a seed; with K3SUP_TEST_FULL=1 each of them, several times.
    """
    seed = int(os.environ.get("K3SUP_TEST_SEED") or time.time())
    chosen = random.Random(seed)
    args = ["--restart", how, "--allow-downgrade"]
    if how == "service":
        install(machine, old)
        machine.start()
        machine.wait_active()
    else:
        by_hand(machine, old)
        args += [w for c in COMMANDS for w in ("--" + c.split("=", 1)[0].replace("_", "-"), c.split("=", 1)[1])]
        args += ["--guard-delay", str(GUARD_DELAY)]
    steps = [(s, d) for s in STEPS for d in (0, 0.05, 0.2, 0.5)] if FULL else [(s, chosen.random() * 0.2) for s in [chosen.choice(STEPS[:4])] + chosen.sample(LATE, 2)]
    struck = 0
    for i, (step, delay) in enumerate(steps):
        why = "a cut %.3f s after the beginning of the step %s (seed %d)" % (delay, step, seed)
        payload = machine.payload((new, old)[i % 2])
        struck += cut_at(machine, step, delay, *args, payload)
        assert_runs_again(machine, why)
        answer = machine.upgrade(*args, payload)
        assert answer.exit == 0 and answer["state"] == "current" and answer["flags"] == [], why + told(answer)
        machine.assert_runs((new, old)[i % 2])
        assert not machine.commands_guards(), why
    print("%d of %d cuts struck, %s, seed %d" % (struck, len(steps), how, seed))
    assert struck >= len(steps) // 2, "only %d of %d cuts struck" % (struck, len(steps))


def test_control_without_a_guard_it_stays_down(machine, old, new):
    """--guard-delay 0: nobody owes k3s a start; killed by its own stop command, which has ended k3s, it leaves the node without one. Again: 0."""
    by_hand(machine, old)
    payload = machine.payload(new)
    stop = "kill $K3SUP_PID; while kill -0 $K3SUP_PID 2>/dev/null; do sleep 0.05; done; pkill -9 -x k3sup-upgrade"
    args = [w for c in COMMANDS for w in ("--" + c.split("=", 1)[0].replace("_", "-"), c.split("=", 1)[1])]
    p = machine.begin("k3sup-upgrade", "--json", "--probe", "none", "--stable", "0.3", "--restart", "commands", "--guard-delay", "0",
                      *[stop if w == COMMANDS[0].split("=", 1)[1] else w for w in args], payload)
    p.communicate(timeout=120)
    assert p.returncode != 0 and not machine.running()
    time.sleep(GUARD_DELAY + 1)
    assert not machine.running(), "something started it, so the rest proves nothing"
    answer = machine.upgrade("--restart", "commands", *args, payload)
    assert answer.exit == 0 and answer["resumed"] is True, told(answer)
    machine.assert_runs(new)
