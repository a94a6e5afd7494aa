# SPDX-License-Identifier: Apache-2.0
"""k3sup_service() under a real systemd: a stop that holds, a start that is proven, and the start guard between them."""
import os
import random
import time

import pytest

from cuts import cuts_in, inject, strike
from machine import COMMANDS, PROGRAMS, START
from sandbox import until

FULL = os.environ.get("K3SUP_TEST_FULL")
GUARD = "k3sup-guard-k3s"


def guard(machine):
    return machine.show(GUARD + ".timer", "ActiveState")["ActiveState"]


@pytest.mark.parametrize("view, channel", [("host", "direct"), ("pod", "chroot"), ("bare", "mount-namespace")])
def test_stop_and_start(machine, old, view, channel):
    """A stop is proven: no process, the unit stopped, Restart=always does not bring it back; the shims go on. A start is proven, and disarms the guard."""
    machine.install(old)
    before = machine.start()
    machine.wait_active()

    told = machine.service("stop", view=view)
    assert told["ok"] and told["changed"] and told["service"]["channel"] == channel, told
    assert told["service"]["state"] == "stopped" and told["service"]["guard"] == {"name": GUARD, "delay_ms": 30000}, told
    assert not machine.running() and machine.show("k3s", "ActiveState")["ActiveState"] in ("inactive", "failed")
    assert [p for p in machine.processes() if p["comm"].startswith("containerd-shim")], "no shim is left"
    assert guard(machine) == "active"
    assert machine.service("stop", view=view)["changed"] is False

    told = machine.service("start", "stable=0.3", view=view)
    assert told["ok"] and told["changed"], told
    now = machine.running()[0]
    assert now["pid"] != before["pid"] and "k3s.service" in now["cgroup"] and told["service"]["main_pid"] == now["pid"], told
    assert guard(machine) == "inactive"

    told = machine.service("start", "stable=0.3", view=view)
    assert told["ok"] and not told["changed"] and machine.running()[0]["pid"] == now["pid"], told

    told = machine.service("restart", "stable=0.3", view=view)
    assert told["ok"] and told["changed"] and machine.running()[0]["pid"] != now["pid"], told


def test_status(machine, old):
    """What is it? Nothing is changed, whether it runs or not."""
    machine.install(old)
    told = machine.service("status")
    assert told["ok"] and told["service"]["state"] == "stopped" and told["service"]["name"] == "k3s.service", told
    process = machine.start()
    machine.wait_active()
    told = machine.service("status")
    assert told["service"]["state"] == "running" and told["service"]["main_pid"] == process["pid"] and told["changed"] is False, told
    assert machine.running()[0]["pid"] == process["pid"]


def test_failed_after_a_clean_stop(machine, standin):
    """k3s up to 2021 ends with 1 on SIGTERM: the unit is "failed", and that is a stop like any other."""
    machine.install(standin("v1.21.3+k3s1", "2021"))
    machine.start()
    machine.wait_active()

    told = machine.service("stop")

    assert told["ok"] and told["service"]["active"] == "failed" and told["service"]["state"] == "stopped", told
    assert machine.service("start", "stable=0.3")["ok"]


def test_a_log_pair_is_stopped(machine, old):
    """Both of a --log pair are gone when a stop says so, though systemd knows only the parent."""
    machine.install(old, command="server --log /var/log/k3s.log", term_delay_ms=1500)
    machine.start()

    told = machine.service("stop")

    assert told["ok"], told
    assert not [p for p in machine.processes() if p["exe"].endswith("/bin/k3s")]


def test_the_guard_starts_it(machine, old):
    """Whoever stopped it and was killed: the guard starts it. A start that comes later finds it running."""
    machine.install(old)
    machine.start()
    machine.wait_active()

    assert machine.service("stop", "guard_delay=1")["ok"]

    until(machine.running, 60, "the guard to start k3s")
    told = machine.service("start", "stable=0.3")
    assert told["ok"] and told["changed"] is False, told


def test_a_slow_stop_outlasts_the_guards_time(machine, old):
    """A stop may take longer than the guard's time, which begins anew meanwhile: it is a stop, and the guard still waits when it is proven."""
    machine.install(old, term_delay_ms=4000)
    machine.start()
    machine.wait_active()

    told = machine.service("stop", "guard_delay=2")

    assert told["ok"] and told["service"]["state"] == "stopped", told
    until(machine.running, 60, "the guard to start k3s")


def test_control_without_a_guard_it_stays_down(machine, old):
    """What the guard is for: systemd does not start what was stopped, whatever its Restart= says."""
    machine.install(old)
    machine.start()
    machine.wait_active()

    told = machine.service("stop", "guard_delay=none")

    assert told["ok"] and "guard" not in told["service"] and guard(machine) == "inactive", told
    time.sleep(2)
    assert not machine.running()


@pytest.mark.parametrize("how", ["masked", "by hand", "control-group"])
def test_refused(machine, old, how):
    """What could not be started again, or would end us, is not stopped."""
    machine.install(old)
    before = machine.start()
    more = {}
    if how == "masked":
        os.unlink(machine.path("/etc/systemd/system/k3s.service"))
        machine.systemctl("mask", "k3s.service")
    elif how == "by hand":
        before = machine.leave_to_a_shell()
    else:
        machine.write("/etc/systemd/system/k3s.service.d/kill.conf", "[Service]\nKillMode=control-group\n")
        machine.systemctl("daemon-reload")
        more = {"cgroup": "/system.slice/k3s.service"}

    told = machine.service("stop", **more)

    assert told["error"]["name"] == {"masked": "K3SUP_E_SERVICE_MASKED", "by hand": "K3SUP_E_NO_SERVICE",
                                     "control-group": "K3SUP_E_SERVICE_TAKES_US"}[how], told
    assert machine.running()[0]["pid"] == before["pid"] and guard(machine) == "inactive"


def test_server_and_agent(machine, old):
    """Both run on one host: both are meant, unless one is named. Each has a guard of its own; once both are stopped, a start has to name one."""
    names = ("k3s.service", "k3s-agent.service")
    machine.install(old, command="server --disable-agent")
    machine.install(old, command="agent --server https://127.0.0.1:1 --token x --data-dir /var/lib/rancher/agent", name="k3s-agent")
    before = {}
    for name in names:
        machine.systemctl("start", "--no-block", name)
        machine.wait_active(name)
        before[name] = main_pid(machine, name)
    told = machine.service("status")
    assert {s["name"]: s["main_pid"] for s in told["services"]} == before and told["service"] is None, told

    told = machine.service("restart", "stable=0.3")
    assert told["ok"] and told["changed"] and sorted(s["name"] for s in told["services"]) == sorted(names), told
    now = {name: main_pid(machine, name) for name in names}
    assert len(machine.running()) == 2 and not set(now.values()) & set(before.values()) and all(now.values())

    told = machine.service("stop", "name=k3s-agent.service")
    assert told["ok"] and told["service"]["name"] == "k3s-agent.service" and told["service"]["state"] == "stopped", told
    assert [p["pid"] for p in machine.running()] == [now["k3s.service"]] and guard(machine) == "inactive"
    told = machine.service("start", "name=k3s-agent.service", "stable=0.3")
    assert told["ok"] and told["changed"] and main_pid(machine, "k3s.service") == now["k3s.service"] and len(machine.running()) == 2, told

    told = machine.service("stop", "guard_delay=8")
    assert told["ok"] and [s["state"] for s in told["services"]] == ["stopped"] * 2 and not machine.running(), told
    assert sorted(s["guard"]["name"] for s in told["services"]) == [GUARD, GUARD + "-agent"], told
    assert machine.service("start")["error"]["name"] == "K3SUP_E_AMBIGUOUS"
    until(lambda: len(machine.running()) == 2, 60, "the guards to start both")


def main_pid(machine, name):
    return int(machine.show(name, "MainPID")["MainPID"])


def test_a_log_unit_under_a_restart_job_with_an_old_build(machine, standin):
    """A build of 2021 with --log as Type=notify: systemd never learns that it is ready, and its restart job stays. The proof decides, and a stop ends the job."""
    machine.install(standin("v1.21.3+k3s1", "2021"), command="server --log /var/log/k3s.log", never_ready=1)
    before = machine.start()
    machine.systemctl("restart", "--no-block", "k3s")
    before = until(lambda: [p for p in machine.running() if p["pid"] != before["pid"]], 60, "the restart")[0]
    assert machine.show("k3s", "ActiveState")["ActiveState"] == "activating" and machine.show("k3s", "Job")["Job"] not in ("", "0")

    told = machine.service("restart", "stable=0.5")
    assert told["ok"] and told["changed"] and told["service"]["active"] == "activating", told
    now = machine.running()
    assert len(now) == 1 and now[0]["pid"] != before["pid"], now

    told = machine.service("stop")
    assert told["ok"] and told["service"]["state"] == "stopped", told
    assert not [p for p in machine.processes() if p["exe"].endswith("/bin/k3s")]
    told = machine.service("start", "stable=0.5")
    assert told["ok"] and told["changed"] and len(machine.running()) == 1 and guard(machine) == "inactive", told


TRACE = "/var/cut.trace"


def stop_and_start(machine, view, delay_ms, prefix, **more):
    """A stop and then a start, under strace. (exit status, what was said, the trace)"""
    argv = list(prefix) + [PROGRAMS + "/tests/driver-service", "/" if view == "host" else "/host", str(delay_ms), "stop", "start"]
    p = machine.begin(None, argv=machine.seen_from(view, argv), **more)
    said = p.communicate(timeout=120)
    return p.returncode, said, machine.read(TRACE).decode(errors="replace")


def assert_guarded(machine, why):
    """The guard's time is over, or it was disarmed; k3s runs, once, and nothing waits to be done."""
    until(lambda: guard(machine) == "inactive", 60, "the guard's time to be over: " + why)
    until(lambda: machine.running() and machine.show("k3s", "ActiveState")["ActiveState"] in ("active", "activating"), 60, why)
    assert len(machine.running()) == 1, why


@pytest.mark.parametrize("view", ["host", "pod", "bare"])
def test_killed_anywhere_between_stop_and_start(machine, old, strace, view):
    """SIGKILL of the whole cgroup at system calls from the arming of the guard to the end of the start: k3s runs again within the guard's delay, without a second run.

    From the host; chrooted into it, from a container; in the namespaces of process 1, from a container that sees less of it.
    With K3SUP_TEST_FULL at every one that others can see, and at some of the thousands of looks between.
    """
    seed = int(os.environ.get("K3SUP_TEST_SEED") or time.time())
    machine.install(old, shims=0, ready_after_ms=10, term_delay_ms=10)
    machine.start()
    machine.wait_active()
    trace = ("" if view == "host" else "/host") + TRACE
    status, said, seen = stop_and_start(machine, view, 30000, ["strace", "-q", "-s", "200", "-o", trace])
    assert status == 0, said
    # From the first look for systemd-run on: a child of ours executes it.
    doing, looking = cuts_in(seen, "systemd-run")
    chosen = random.Random(seed)
    points = doing + chosen.sample(looking, 60) if FULL else chosen.sample(doing, 2) + chosen.sample(looking, int(view == "host"))

    def run(name, n):
        _, _, seen = stop_and_start(machine, view, 2000, inject(trace, name, n), unit="cut")
        assert_guarded(machine, "k3s to run after a cut at %s %d, seen from %s (seed %d)" % (name, n, view, seed))
        return seen

    struck = set()
    for i, (name, n) in enumerate(points):
        struck.add((name, strike(name, n, run)))
        if not FULL or i % 8 == 0:
            assert machine.service("start", "stable=0.1")["ok"], (name, n, seed)
    print("%d cuts, at %d calls (%d of what others can see), %s, seed %d" % (len(points), len(struck), len(doing), view, seed))


def by_hand(machine, binary):
    machine.install(binary)
    return machine.start_by_command()


def test_commands_and_their_guard(machine, old):
    """By the caller's commands: a stop is proven and guarded by a timer that runs the start command; a start disarms it; a restart is both."""
    before = by_hand(machine, old)

    told = machine.service("stop", *COMMANDS)
    assert told["ok"] and told["service"]["manager"] == "commands" and told["service"]["stop"]["ok"], told
    assert not machine.running() and told["service"]["guard"]["name"] in machine.commands_guards(), told
    told = machine.service("start", "stable=0.3", *COMMANDS)
    assert told["ok"] and told["changed"] and machine.running()[0]["pid"] != before["pid"] and not machine.commands_guards(), told
    told = machine.service("restart", "stable=0.3", *COMMANDS)
    assert told["ok"] and told["changed"] and told["service"]["stop"]["ok"] and told["service"]["start"]["ok"] and not machine.commands_guards(), told

    told = machine.service("stop", "guard_delay=1", *COMMANDS)
    assert told["ok"], told
    now = until(machine.running, 60, "the guard to run the start command")[0]
    until(lambda: not machine.commands_guards(), 60, "the guard to be gone")
    assert machine.running()[0]["pid"] == now["pid"] and "guard" not in now["cgroup"]


def test_a_guard_of_commands_asks_first(machine, old):
    """k3s runs when the guard's time is over: the start command, which would start a second one, is not run."""
    by_hand(machine, old)
    start = "start_command=touch /var/started; " + START

    assert machine.service("stop", "guard_delay=3", COMMANDS[0], start, COMMANDS[2])["ok"]
    machine.run("rm", "-f", "/var/started")
    machine.run("sh", "-c", START)
    until(lambda: not machine.commands_guards(), 60, "the guard's time to be over")
    until(machine.running, 60, "k3s")
    assert not machine.exists("/var/started") and len(machine.running()) == 1


def test_upgrade_by_commands(machine, old, new):
    """k3sup-upgrade --restart commands: guarded, proven; killed between stop and start, the guard starts it; from a container it is refused, as nobody could run them there."""
    before = by_hand(machine, old)
    payload = machine.payload(new)
    args = ["--restart", "commands"] + [w for c in COMMANDS for w in ("--" + c.split("=", 1)[0].replace("_", "-"), c.split("=", 1)[1])]

    refused = machine.upgrade(*args, payload, view="pod")
    assert (refused.exit, refused.error) == (3, "K3SUP_E_GUARD") and machine.running()[0]["pid"] == before["pid"], refused

    cut = ["kill $K3SUP_PID; while kill -0 $K3SUP_PID 2>/dev/null; do sleep 0.05; done; pkill -9 -x k3sup-upgrade" if w == COMMANDS[0].split("=", 1)[1] else w for w in args]
    p = machine.begin("k3sup-upgrade", "--json", "--probe", "none", "--stable", "0.3", "--guard-delay", "2", *cut, payload)
    said = p.communicate(timeout=120)
    assert p.returncode != 0, said
    machine.assert_runs(new, but=before)

    answer = machine.upgrade(*args, payload)
    assert answer.exit == 0 and answer["resumed"] is True and not machine.commands_guards(), answer
