# SPDX-License-Identifier: Apache-2.0
"""An upgrade with a rotation under a real systemd: one stop and one start for both, each only where it is due, nothing twice, and k3s runs again whatever kills us."""
import hashlib
import json
import os
import time

import pytest

from leafs import DATA, LISTENER, assert_renewed, lasting, leafs
from machine import COMMANDS, PROGRAMS, START, told
from sandbox import until
from test_rotate import certs, guard, rotate, running_k3s, tree

TRACE = "/var/upgrade-rotate.trace"


def upgrade(machine, *args, view="host", **more):
    return machine.upgrade("--rotate-certs", *args, view=view, **more)


def orders(machine):
    """What systemd was told of k3s.service, in this order, from the trace; "guard" is the arming of the first start guard."""
    ran = [line for line in machine.read(TRACE).decode().splitlines() if "execve(" in line and "= 0" in line and ("/systemctl" in line or "/systemd-run" in line)]
    found = []
    for line in ran:
        if "--on-active" in line:
            found += [] if "guard" in found else ["guard"]
        elif '"k3s.service"' in line:
            found += [word for word in ("stop", "start", "restart") if '"%s"' % word in line]
    return found


def traced(machine, *args):
    argv = ["strace", "-f", "-qq", "-s", "300", "-e", "trace=execve", "-o", TRACE, PROGRAMS + "/k3sup-upgrade", "--json", "--probe", "none", "--stable", "0.2"]
    return machine.finish(machine.begin(None, argv=argv + list(args)))


@pytest.mark.parametrize("view", ["host", "pod"])
def test_both(machine, old, new, view):
    """k3sup-upgrade --rotate-certs FILE: 0; the new build runs, all leafs are new, of the wire, too. Again, with the same file: 0, nothing."""
    before = running_k3s(machine, old)
    was, payload = tree(machine), machine.payload(new)

    answer = upgrade(machine, payload, view=view)

    assert answer.exit == 0 and answer["changed"] and answer["stopped"] and answer["started"] and not answer["left_stopped"], told(answer)
    assert answer["state"] == "current" and answer["issued_by"] == "itself", told(answer)
    now = machine.assert_runs(new, but=before)
    assert_renewed(was, tree(machine))
    assert answer["key"] and answer["kept"] and {row["path"] for row in answer["renewed"]} == {p for p in leafs(was) if not p.endswith(".key")}
    assert all(row["matches"] for row in answer["served"]) and answer["downtime_ms"] > 0
    assert guard(machine) == "inactive" and certs(machine, "check", "--wire").exit == 0

    again = upgrade(machine, payload, view=view)
    assert again.exit == 0 and again["changed"] is False and again["state"] == "current", told(again)
    assert machine.running()[0]["pid"] == now["pid"] and len(os.listdir(machine.path("/var/lib/k3sup/certs"))) == 1


def test_one_stop_one_start(machine, old, new, strace):
    """A trace of all that is asked of systemd: with --rotate-certs one stop and one start, the guard before them, and no restart; without it, or with a key that was used, one restart job;
    with the file in place and another key one stop and one start; with neither due nothing."""
    running_k3s(machine, old)
    payload = machine.payload(new)

    answer = traced(machine, "--rotate-certs", "--rotate-key", "k", payload)
    assert answer.exit == 0 and orders(machine) == ["guard", "stop", "start"], (orders(machine), told(answer))
    was = tree(machine)

    payload = machine.payload(old)
    answer = traced(machine, "--allow-downgrade", payload)
    assert answer.exit == 0 and orders(machine) == ["restart"], (orders(machine), told(answer))

    payload = machine.payload(new)
    answer = traced(machine, "--rotate-certs", "--rotate-key", "k", payload)
    assert answer.exit == 0 and answer["changed"] and orders(machine) == ["restart"], (orders(machine), told(answer))
    assert lasting(tree(machine)) == lasting(was)

    answer = traced(machine, "--rotate-certs", "--rotate-key", "other", payload)
    assert answer.exit == 0 and answer["changed"] and orders(machine) == ["guard", "stop", "start"], (orders(machine), told(answer))
    assert_renewed(was, tree(machine))
    machine.assert_runs(new)

    answer = traced(machine, "--rotate-certs", "--rotate-key", "other", payload)
    assert answer.exit == 0 and answer["changed"] is False and orders(machine) == [], (orders(machine), told(answer))


@pytest.mark.parametrize("restart, error", [("none", "K3SUP_E_RUNNING"), ("signal", "K3SUP_E_NO_SERVICE")])
def test_refused_where_it_cannot_be_stopped(machine, old, new, restart, error):
    """Not to be stopped, or only to be signalled: k3sup-upgrade --rotate-certs --restart none: 3, nothing touched; --check says so, too."""
    before = running_k3s(machine, old)
    was, payload = tree(machine), machine.payload(new)

    for more in (["--check"], ["--dry-run"], []):
        answer = upgrade(machine, "--restart", restart, *more, payload)
        assert (answer.exit, answer.error) == (3, error) and answer["changed"] is False, told(answer)
        if more:
            assert ["refuse"] == [c["decision"] for c in answer["checks"] if c["name"] == "rotate-certs"], told(answer)
    assert tree(machine) == was and guard(machine) == "inactive" and not machine.exists("/var/lib/k3sup/certs")
    assert machine.assert_runs(old)["pid"] == before["pid"] and answer["state"] == "outdated", told(answer)


def test_said_and_not_done(machine, old, new):
    """--dry-run: 9, each step and each leaf; --check: 0, the rotation's decision. With a key that was used: none."""
    before = running_k3s(machine, old)
    was, payload = tree(machine), machine.payload(new)

    answer = upgrade(machine, "--dry-run", payload)
    assert answer.exit == 9 and set(answer["retires"]) == set(leafs(was)) and answer["key"] == "payload:" + hashlib.sha256(machine.read(payload)).hexdigest(), told(answer)
    steps = [one["step"] for one in answer["plan"]]
    assert [s for s in steps if s in ("stop", "retire", "swap", "start", "prove", "certificates", "restart")] == ["stop", "retire", "swap", "start", "prove", "certificates"], told(answer)
    answer = upgrade(machine, "--check", payload)
    assert answer.exit == 0 and ["pass"] == [c["decision"] for c in answer["checks"] if c["name"] == "rotate-certs"], told(answer)
    assert tree(machine) == was and machine.running()[0]["pid"] == before["pid"] and not machine.exists("/var/lib/k3sup/certs")

    assert rotate(machine, "--rotate-key", "k").exit == 0
    answer = upgrade(machine, "--rotate-key", "k", "--dry-run", payload)
    assert answer.exit == 9 and answer["retires"] == [] and "restart" in [one["step"] for one in answer["plan"]], told(answer)
    assert upgrade(machine, "--rotate-key", "k", payload).exit == 0
    answer = upgrade(machine, "--rotate-key", "k", "--dry-run", payload)
    assert answer.exit == 0 and answer["plan"] == [], told(answer)


def test_stopped_by_the_operator(machine, old, new):
    """File and certificates are done, k3s is left stopped: 9. Again: 9, nothing. After the operator's start: 0, proven."""
    running_k3s(machine, old)
    was, payload = tree(machine), machine.payload(new)
    machine.systemctl("stop", "k3s")

    answer = upgrade(machine, payload)
    assert answer.exit == 9 and answer["changed"] and answer["left_stopped"] and answer["state"] == "rotation-pending", told(answer)
    assert not machine.running() and guard(machine) == "inactive"
    with open(new, "rb") as f:
        assert machine.read("/usr/local/bin/k3s") == f.read()
    answer = upgrade(machine, payload)
    assert answer.exit == 9 and answer["changed"] is False and answer["left_stopped"] and not machine.running(), told(answer)

    machine.start()
    machine.wait_active()
    answer = upgrade(machine, payload)
    assert answer.exit == 0 and answer["resumed"] and not answer["left_stopped"] and answer["state"] == "current", told(answer)
    assert_renewed(was, {p: t for p, t in tree(machine).items() if "regenerate" not in p})


def test_rolled_back(machine, standin, old):
    """The new build dies again and again: 7, the old one runs, with the new certificates, which are proven; nothing is pending."""
    bad = standin("v1.30.5+k3s1", "2024", "small", "die_after_ms=100")
    running_k3s(machine, old)
    machine.write("/etc/systemd/system/k3s.service.d/soon.conf", "[Service]\nRestartSec=100ms\n[Unit]\nStartLimitIntervalSec=0\n")
    machine.systemctl("daemon-reload")
    was = tree(machine)

    answer = upgrade(machine, machine.payload(bad), stable="1", timeout="120")

    assert (answer.exit, answer.error) == (7, "K3SUP_E_ROLLED_BACK"), told(answer)
    machine.assert_runs(old)
    assert_renewed(was, {p: t for p, t in tree(machine).items() if "regenerate" not in p})
    assert "rotation-open" not in answer["flags"] and "rolled-back" in answer["flags"] and answer["renewed"], told(answer)
    assert any("certificates stay" in text for text in answer["warnings"]) and guard(machine) == "inactive", told(answer)


def test_E01_the_first_start_dies_once(machine, old, new):
    """As after a rotation under a running server: the new build's first start ends at once, systemd starts it again. k3sup-upgrade --rotate-certs FILE: 0, one start was ours, nothing is put
    back, all leafs are new. Again: 0, nothing.
    """
    before = running_k3s(machine, old)
    with open(machine.path(DATA + "/standin-starts")) if machine.exists(DATA + "/standin-starts") else open(os.devnull) as f:
        started = int(f.read() or 0)
    machine.write("/etc/rancher/k3s/standin.conf", "port=0\nrsa=0\nready_after_ms=50\nterm_delay_ms=50\nflap=%d\n" % (started + 1))
    machine.write("/etc/systemd/system/k3s.service.d/soon.conf", "[Service]\nRestartSec=100ms\n")
    machine.systemctl("daemon-reload")
    was, payload = tree(machine), machine.payload(new)

    answer = upgrade(machine, payload, stable="1")

    assert answer.exit == 0 and machine.show("k3s", "NRestarts")["NRestarts"] == "1", told(answer)
    now = machine.assert_runs(new, but=before)
    assert_renewed(was, tree(machine))
    again = upgrade(machine, payload, stable="1")
    assert again.exit == 0 and again["changed"] is False and machine.running()[0]["pid"] == now["pid"], told(again)


def test_E04_an_agent(machine, old, new):
    """A worker: its certificates come from its server. k3sup-upgrade --rotate-certs FILE: 0, issued_by server, role agent; one stop and one start, all of its leafs are new. Again: 0, nothing."""
    machine.install(old, command="agent --server https://127.0.0.1:1 --token x", name="k3s-agent")
    before = machine.start("k3s-agent")
    machine.wait_active("k3s-agent")
    was, payload = tree(machine), machine.payload(new)

    answer = upgrade(machine, payload)

    assert answer.exit == 0 and answer["issued_by"] == "server" and answer["role"] == "agent" and answer["stopped"] and answer["started"], told(answer)
    now = machine.assert_runs(new, but=before)
    assert set(leafs(was)) <= set(leafs(tree(machine))) and not [p for p in leafs(was) if tree(machine)[p] == was[p]]
    assert guard(machine) == "inactive" and machine.show("k3s-agent", "NRestarts")["NRestarts"] == "0"
    again = upgrade(machine, payload)
    assert again.exit == 0 and again["changed"] is False and machine.running()[0]["pid"] == now["pid"], told(again)


def cut_while_stopped(machine, payload, *more):
    """SIGKILL of the whole unit when k3s has been stopped and the certificates are away, long before the guard's time."""
    machine.write("/opt/payload/hold", "", mode=0o755)
    argv = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "inject=rename,renameat,renameat2:signal=KILL:when=1", "-P", "/usr/local/bin", PROGRAMS + "/k3sup-upgrade", "--json", "--rotate-certs"]
    p = machine.begin(None, argv=argv + ["--probe", "none", "--stable", "0.2", "--guard-delay", "600", *more, payload], unit="cut")
    p.communicate(timeout=120)


@pytest.mark.parametrize("how", ["with", "without", "rotate"])
def test_a_start_is_owed(machine, old, new, strace, how):
    """Killed between stop and start, and the guard's time is far away: the next run starts k3s, whether it rotates or not; and what is pending stays so until it was proven."""
    running_k3s(machine, old)
    was, payload = tree(machine), machine.payload(new)
    cut_while_stopped(machine, payload)
    assert not machine.running() and guard(machine) == "active" and not [p for p in lasting(leafs(tree(machine))) if p.endswith("client-admin.crt")]
    state = machine.finish(machine.begin("k3sup-status", "--json"))
    assert state["state"] in ("interrupted", "rotation-pending") and "rotation-open" in state["flags"], told(state)

    if how == "with":
        answer = upgrade(machine, payload)
        assert answer.exit == 0 and answer["resumed"] and answer["state"] == "current", told(answer)
        assert not [w for w in answer.json.get("warnings", []) if "it was stopped" in w], told(answer)
    elif how == "without":
        answer = machine.upgrade(payload)
        assert answer.exit == 0 and answer["changed"] and answer["state"] == "rotation-pending", told(answer)
        now = machine.assert_runs(new)
        answer = upgrade(machine, payload)
        assert answer.exit == 0 and answer["resumed"] and answer["state"] == "current" and machine.running()[0]["pid"] == now["pid"], told(answer)
    else:
        answer = rotate(machine, "--rotate-key", answer_key(machine))
        assert answer.exit == 0 and answer["resumed"], told(answer)
        machine.assert_runs(old)
        answer = upgrade(machine, payload)
        assert answer.exit == 0 and answer["state"] == "current", told(answer)
    machine.assert_runs(new)
    assert_renewed(was, tree(machine))
    assert guard(machine) == "inactive"
    machine.systemctl("stop", "k3s")
    again = upgrade(machine, payload)
    assert not machine.running(), "the operator's stop was not honoured: " + told(again)


# ---- by the caller's commands ----

STOP = COMMANDS[0].split("=", 1)[1]
ENDED = "; while kill -0 $K3SUP_PID 2>/dev/null; do sleep 0.05; done"


def by_commands(stop=STOP, start=START):
    """Each of them writes down that it was run."""
    return ["--restart", "commands", "--stop-command", "echo stop >>/var/asked; " + stop, "--start-command", "echo start >>/var/asked; " + start,
            "--status-command", COMMANDS[2].split("=", 1)[1]]


def asked(machine):
    """What the commands were asked for, in this order, since the last time."""
    words = machine.read("/var/asked").decode().split() if machine.exists("/var/asked") else []
    machine.run("rm", "-f", "/var/asked")
    return words


def k3s_of_commands(machine, old):
    """(k3s, which nobody's service is that is known here by name; its certificates)."""
    machine.install(old)
    asked(machine)
    process = machine.start_by_command()
    for made_last in ("server/cred/admin.kubeconfig", "agent/k3scontroller.kubeconfig", LISTENER):
        until(lambda path="%s/%s" % (DATA, made_last): machine.exists(path), 60, made_last)
    return process, tree(machine)


def test_by_commands(machine, old, new):
    """k3sup-upgrade --rotate-certs --restart commands FILE: 0; the commands are run once each, for both; again: 0, neither. Without a guard's delay likewise, for a key of its own."""
    before, was = k3s_of_commands(machine, old)
    payload = machine.payload(new)

    answer = upgrade(machine, *by_commands(), payload)

    assert answer.exit == 0 and answer["stopped"] and answer["started"] and answer["state"] == "current" and asked(machine) == ["stop", "start"], told(answer)
    assert answer["service"]["manager"] == "commands" and answer["service"]["stop"]["ok"] and answer["service"]["start"]["ok"] and answer["services"] == [answer["service"]], told(answer)
    now, done = machine.assert_runs(new, but=before), tree(machine)
    assert_renewed(was, done)
    assert not machine.commands_guards() and {row["path"] for row in answer["renewed"]} == {p for p in leafs(was) if not p.endswith(".key")}
    again = upgrade(machine, *by_commands(), payload)
    assert again.exit == 0 and again["changed"] is False and asked(machine) == [] and machine.running()[0]["pid"] == now["pid"], told(again)

    other = upgrade(machine, "--rotate-key", "other", "--guard-delay", "0", *by_commands(), payload)
    assert other.exit == 0 and asked(machine) == ["stop", "start"], told(other)
    machine.assert_runs(new, but=now)
    assert_renewed(done, tree(machine))


def test_a_start_command_that_fails_once(machine, old, new):
    """It starts nothing, and says so; the guard, which was armed before, runs it again. 0, with what it had said: both goals hold, and are proven. Once more: 0, nothing."""
    before, was = k3s_of_commands(machine, old)
    payload = machine.payload(new)
    machine.run("rm", "-f", "/var/tried")
    commands = by_commands(start="[ -e /var/tried ] || { echo no such service; >/var/tried; exit 5; }; " + START)

    answer = upgrade(machine, "--guard-delay", "4", *commands, payload)

    assert answer.exit == 0 and answer["state"] == "current", told(answer)
    assert answer["service"]["start"] == {"ok": False, "exit_code": 5, "output": "no such service\n"} and answer["changed"], told(answer)
    now = machine.assert_runs(new, but=before)
    until(lambda: not machine.commands_guards(), 60, "the guard's time to be over")
    assert asked(machine) == ["stop", "start", "start"]
    again = upgrade(machine, *commands, payload)
    assert again.exit == 0 and again["changed"] is False and again["flags"] == [] and asked(machine) == [], told(again)
    assert machine.running()[0]["pid"] == now["pid"]
    assert_renewed(was, tree(machine))


def test_commands_are_cut(machine, old, new):
    """Killed when its stop command has ended k3s: the guard starts that. Killed when the certificates are away and the file is not new yet: likewise. Once more: 0, both are done."""
    _, was = k3s_of_commands(machine, old)
    payload = machine.payload(new)

    p = machine.begin("k3sup-upgrade", "--json", "--rotate-certs", "--probe", "none", "--stable", "0.2", "--guard-delay", "2",
                      *by_commands(stop=STOP + ENDED + "; pkill -9 -x k3sup-upgrade"), payload)
    p.communicate(timeout=120)
    assert p.returncode != 0
    machine.assert_runs(old)
    until(lambda: not machine.commands_guards(), 60, "the guard's time to be over")
    assert asked(machine) == ["stop", "start"] and lasting(tree(machine)) == lasting(was)

    cut_while_stopped(machine, payload, "--guard-delay", "2", *by_commands())
    machine.assert_runs(old)
    until(lambda: not machine.commands_guards(), 60, "the guard's time to be over")
    assert asked(machine) == ["stop", "start"]
    until(lambda: not certs(machine, "check")["problems"], 60, "whole certificates")
    answer = upgrade(machine, *by_commands(), payload)
    assert answer.exit == 0 and answer["resumed"] and answer["state"] == "current" and asked(machine) in (["stop", "start"], ["start"]), told(answer)
    machine.assert_runs(new)
    assert_renewed(was, tree(machine))
    assert not machine.commands_guards()


def test_the_file_is_replaced_while_k3s_is_stopped(machine, old, new, standin):
    """The stop command puts another build there: 1, K3SUP_E_TARGET_CHANGED, with the swap's own evidence; that file stays, k3s was started. Once more: 0, the wanted build runs."""
    _, was = k3s_of_commands(machine, old)
    payload, other = machine.payload(new), machine.payload(standin("v1.30.4+k3s2"), "/opt/payload/other")
    replace = STOP + ENDED + "; cp %s /usr/local/bin/x && mv /usr/local/bin/x /usr/local/bin/k3s" % other

    answer = upgrade(machine, *by_commands(stop=replace), payload)

    assert (answer.exit, answer.error) == (1, "K3SUP_E_TARGET_CHANGED") and answer["started"], told(answer)
    assert answer["error"]["evidence"]["target"] == "/usr/local/bin/k3s" and answer["state"] == "rotation-pending", told(answer)
    assert machine.read("/usr/local/bin/k3s") == machine.read(other) and asked(machine) == ["stop", "start"]
    machine.assert_runs(standin("v1.30.4+k3s2"))
    answer = upgrade(machine, *by_commands(), payload)
    assert answer.exit == 0 and answer["resumed"] and answer["state"] == "current", told(answer)
    machine.assert_runs(new)
    assert_renewed(was, tree(machine))


class Mistaken:
    """A machine on which a program does one thing wrong."""

    def __init__(self, machine, **wrong):
        self.machine = machine
        self.__dict__.update(wrong)

    def __getattr__(self, name):
        return getattr(self.machine, name)


def test_two_restarts_are_found_out(machine, old, new, strace):
    """The mutant: an upgrade, and then a rotation of its own."""
    both = "for payload; do :; done; cd %s && ./k3sup-upgrade --json --probe none --stable 0.2 $payload >/dev/null && exec ./k3sup-certs rotate --json --probe none --stable 0.2 --rotate-key k" % PROGRAMS

    def begin(tool, *args, argv=None, **more):
        at = argv.index(PROGRAMS + "/k3sup-upgrade")
        return machine.begin(tool, *args, argv=argv[:at] + ["sh", "-c", both, "sh"] + argv[at + 1:], **more)

    with pytest.raises(AssertionError, match="'restart', 'guard', 'stop', 'start'"):
        test_one_stop_one_start(Mistaken(machine, begin=begin), old, new, strace)


def test_a_rotation_without_key_is_found_out(machine, old, new):
    """The mutant: each run rotates under a key of its own."""
    def upgrade_anew(*args, **more):
        return machine.upgrade("--rotate-key", "%f" % time.time(), *args, **more)

    with pytest.raises(AssertionError, match='"changed": true'):
        test_both(Mistaken(machine, upgrade=upgrade_anew), old, new, "host")


def answer_key(machine):
    """The key of the open rotation, as the journal has it."""
    for line in machine.read("/var/lib/k3sup/journal").decode().splitlines():
        record = json.loads(line.split(" ", 1)[1])
        if record.get("verb") == "rotate" and record["event"] == "open":
            return record["key"]
    raise AssertionError("no rotation is open")
