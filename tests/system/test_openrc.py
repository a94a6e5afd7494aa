# SPDX-License-Identifier: Apache-2.0
"""Under OpenRC, with its real rc-service and supervise-daemon: stop and start from the host and from a container, the start guard, what is refused; upgrades."""
import os
import random
import re
import time

import pytest

from cuts import cuts_in, inject, strike
from node import K3S, content_of
from sandbox import PROGRAMS, until

FULL = os.environ.get("K3SUP_TEST_FULL")
VIEWS = ["host", "pod"]


def link(machine, pid, name):
    return os.readlink(machine.sb.path("/proc/%d/%s" % (pid, name)))


def assert_of_the_host(machine, pid):
    """Neither in our control group nor in our mount namespace, and with process 1's limits."""
    assert "/pod" not in machine.cgroup(pid), machine.cgroup(pid)
    assert link(machine, pid, "ns/mnt") == link(machine, 1, "ns/mnt")
    assert machine.sb.read("/proc/%d/oom_score_adj" % pid) == machine.sb.read("/proc/1/oom_score_adj")
    assert machine.sb.read("/proc/%d/limits" % pid) == machine.sb.read("/proc/1/limits")


@pytest.mark.parametrize("view, kind", [("host", "unified"), ("host", "none"), ("pod", "hybrid"), ("pod", "v1")])
def test_stop_and_start(boot, old, view, kind):
    """A stop is proven: neither k3s nor its supervise-daemon is left. What is started belongs to the host, whoever starts it, and the guard goes."""
    machine = boot(kind)
    machine.install(old)
    before = machine.start()

    told = machine.service("stop", view=view)
    assert told["ok"] and told["changed"] and told["service"]["channel"] == ("direct" if view == "host" else "mount-namespace"), told
    assert told["service"]["state"] == "stopped" and told["service"]["guard"] == {"name": "k3sup-guard-k3s", "delay_ms": 30000}, told
    assert not machine.running() and not machine.daemons() and machine.state() == "stopped"
    guards = machine.guards()
    assert len(guards) == 1, guards
    assert_of_the_host(machine, guards[0]["pid"])
    assert machine.service("stop", view=view)["changed"] is False and machine.guards() == guards

    told = machine.service("start", view=view)
    assert told["ok"] and told["changed"], told
    now = machine.running()[0]
    assert now["pid"] != before["pid"] and told["service"]["main_pid"] == now["pid"] and machine.state() == "started"
    assert machine.unguarded() and machine.sb.listdir("/run/k3sup") == []
    for pid in (now["pid"], now["ppid"]):
        assert_of_the_host(machine, pid)
    environ = machine.sb.read("/proc/%d/environ" % now["pid"]).split(b"\0")
    assert b"K3S_SECRET=a b" in environ and not [e for e in environ if e.startswith(b"LD_")], environ

    told = machine.service("start", view=view)
    assert told["ok"] and not told["changed"] and machine.running()[0]["pid"] == now["pid"], told
    told = machine.service("restart", view=view)
    assert told["ok"] and told["changed"] and machine.running()[0]["pid"] != now["pid"] and machine.unguarded(), told
    assert_of_the_host(machine, machine.daemons()[0]["pid"])


def test_status(boot, old):
    """What is it? Nothing is changed, whether it runs or not."""
    machine = boot()
    machine.install(old)
    told = machine.service("status")
    assert told["ok"] and told["service"]["state"] == "stopped" and told["service"]["name"] == "k3s" and told["service"]["respawns"], told
    process = machine.start()
    told = machine.service("status")
    assert told["service"]["state"] == "running" and told["service"]["main_pid"] == process["pid"] and told["changed"] is False, told
    machine.sb.kill(process["pid"], 9)
    until(lambda: machine.service("status")["service"]["state"] == "running" and machine.running(), 10, "the respawn")
    assert machine.unguarded()


def test_the_guardian_has_nothing_of_ours(boot, old):
    """It holds no lock, no file and no output of whoever made it, and has a session of its own."""
    machine = boot()
    machine.install(old)
    machine.start()
    told = machine.service("stop")
    assert told["ok"], told
    pid = machine.guards()[0]["pid"]
    files = {link(machine, pid, "fd/" + n) for n in machine.sb.listdir("/proc/%d/fd" % pid)}
    mine = {f for f in files if not re.match(r"/dev/null$|socket:|anon_inode:|pidfd:|/run/k3sup$", f)}
    assert not mine, files
    stat = machine.sb.read("/proc/%d/stat" % pid).decode().rsplit(")", 1)[1].split()
    assert stat[1] == "1" and int(stat[3]) not in (0, 1), stat
    # So another run has the lock at once, and the guardian obeys it.
    assert machine.service("start")["ok"] and machine.unguarded()


def test_the_guard_starts_it(boot, old):
    """Its time is over: k3s runs. A start that comes later finds it running; a second guardian never comes."""
    machine = boot()
    machine.install(old)
    machine.start()
    assert machine.service("stop", guard=1000)["ok"]
    assert not machine.running()
    until(machine.running, 60, "the guard to start k3s")
    until(lambda: not machine.guards(), 60, "the guardian to go")
    told = machine.service("start")
    assert told["ok"] and told["changed"] is False, told


def test_control_without_a_guard_it_stays_down(boot, old):
    """What the guard is for: OpenRC does not start what was stopped."""
    machine = boot()
    machine.install(old)
    machine.start()
    told = machine.service("stop", guard=-1)
    assert told["ok"] and "guard" not in told["service"] and machine.unguarded(), told
    time.sleep(2)
    assert not machine.running()
    assert machine.service("start")["ok"] and machine.unguarded()


def test_a_log_pair_is_stopped(boot, old):
    """Both of a --log pair are gone when a stop says so, though supervise-daemon knows only the parent."""
    machine = boot()
    machine.install(old, command="server --log /var/log/k3s-own.log", term_delay_ms=1500)
    machine.start()
    until(lambda: len([p for p in machine.sb.processes() if p["exe"].endswith("/bin/k3s")]) == 2, 10, "the pair")
    told = machine.service("stop")
    assert told["ok"], told
    assert not [p for p in machine.sb.processes() if p["exe"].endswith("/bin/k3s")]
    assert machine.service("start")["ok"]


def test_a_slow_end(boot, old):
    """It outlives its supervise-daemon, which gives up before it: that is no stop yet."""
    machine = boot()
    machine.install(old, term_delay_ms=8000)
    machine.start()
    told = machine.service("stop")
    assert told["ok"] and not machine.running() and not [p for p in machine.sb.processes() if p["exe"].endswith("/bin/k3s")], told


def test_crash_loop(boot, standin):
    """It dies again and again: no start is proven; and a stop holds in the pause between two of its starts."""
    machine = boot()
    machine.install(standin("v1.30.5+k3s1", "2024", "small", "die_after_ms=10"))
    machine.rc("k3s", "start")
    told = machine.service("restart", guard=-1, env={"STABLE_MS": "3000"})
    assert told["error"]["name"] == "K3SUP_E_NOT_STABLE", told
    machine.rc("k3s", "stop")

    machine.install(standin("v1.30.5+k3s1", "2024", "small", "die_after_ms=10"), delay=60)
    machine.rc("k3s", "start")
    until(lambda: machine.service("status")["service"]["state"] == "paused", 30, "the pause between two starts")
    told = machine.service("stop", guard=-1)
    assert told["ok"] and told["changed"] and machine.daemons() == [] and machine.state() == "stopped", told


@pytest.mark.parametrize("how", ["unsupervised", "cleanup", "no_new_privs", "capabilities"])
def test_refused(boot, old, how):
    """What nobody would start again, what would end us, what would be confined if we started it: not stopped."""
    machine, prefix, group = boot("hybrid"), [], "pod"
    machine.install(old, script=None if how != "unsupervised" else
                    "#!/sbin/openrc-run\nname=k3s\ncommand=/usr/local/bin/k3s\ncommand_args=server\ncommand_background=yes\npidfile=/run/k3s.pid\n")
    if how == "cleanup":
        machine.write("/etc/conf.d/k3s", "rc_cgroup_cleanup=yes\n")
        group = "k3s"
    before = machine.start()
    if how == "unsupervised": # Debian's start-stop-daemon is not OpenRC's, which leaves this record
        machine.write("/run/openrc/daemons/k3s/001", "exec=/usr/local/bin/k3s\npidfile=/run/k3s.pid\n")
    if how == "no_new_privs":
        prefix = ["setpriv", "--no-new-privs"]
    if how == "capabilities":
        prefix = ["setpriv", "--bounding-set", "-sys_boot"]

    told = machine.service("stop", prefix=prefix, group=group)

    assert told["error"]["name"] == {"unsupervised": "K3SUP_E_NOT_SUPERVISED", "cleanup": "K3SUP_E_SERVICE_TAKES_US"}.get(how, "K3SUP_E_CONFINED"), told
    assert machine.running()[0]["pid"] == before["pid"] and machine.unguarded()
    if how == "cleanup":
        told = machine.service("stop")
        assert told["ok"] and any("containers" in w for w in told["warnings"]), told


def test_two_scripts(boot, old):
    """An agent's node with a script for a server left over: the one that runs counts; and if none runs, none is chosen."""
    machine = boot()
    machine.install(old, "agent --server https://127.0.0.1:1 --token x", "k3s-agent")
    machine.install(old)
    told = machine.service("start")
    assert told["error"]["name"] == "K3SUP_E_AMBIGUOUS" and not machine.running(), told
    before = machine.start("k3s-agent")
    told = machine.service("restart")
    assert told["ok"] and told["service"]["name"] == "k3s-agent" and machine.running()[0]["pid"] != before["pid"], told
    assert machine.state("k3s") == "stopped"


@pytest.mark.parametrize("files, wins", [
    (("rc.conf",), "rc.conf"), (("rc.conf", "rc.conf.d/a.conf"), "rc.conf.d/a.conf"), (("rc.conf", "rc.conf.d/a.conf", "conf.d/k3s"), "conf.d/k3s"),
    (("conf.d/k3s.default", "conf.d/k3s", "rc.conf"), "conf.d/k3s.default"), (("conf.d/k3s.boot", "rc.conf.d/a.txt"), None)], ids=lambda v: v if isinstance(v, str) else "")
def test_G02_whose_setting_counts(boot, old, files, wins):
    """Several files of OpenRC set the arguments: what the real openrc-run makes of them is what k3s runs with, and what its init script is read as.

    k3sup-status --json: 0; data_dir.sources of the unit names the directory that the process has.
    """
    machine = boot()
    machine.install(old)
    for name in files:
        machine.write("/etc/" + name, machine.sb.read("/etc/rc.conf").decode() * (name == "rc.conf") + "command_args_foreground='--data-dir /srv/%s'\n" % name)
    exe = machine.start()["exe"]
    answer = machine.node.status()
    told = [s["path"] for s in answer["data_dir"]["sources"] if s["source"] == "unit"]
    assert answer.exit == 0 and exe.startswith("/srv/%s/data/" % wins if wins else "/var/lib/rancher/k3s/data/"), (exe, answer)
    assert told == (["/srv/" + wins] if wins else []), answer


def test_a_dead_guardians_name(boot, old):
    """It was killed: its name is left, and nobody answers. The next run makes another one, and only one."""
    machine = boot()
    machine.install(old)
    machine.start()
    assert machine.service("stop")["ok"]
    machine.sb.kill(machine.guards()[0]["pid"], 9)
    machine.unguarded()
    assert machine.sb.exists("/run/k3sup/guard-k3s")
    assert machine.service("start", "stop")["ok"]
    assert len(machine.guards()) == 1
    assert machine.service("start")["ok"] and machine.unguarded() and machine.sb.listdir("/run/k3sup") == []


def test_a_strangers_directory(boot, old):
    """Others could put a guard there: none is believed, and nothing is stopped."""
    machine = boot()
    machine.install(old)
    before = machine.start()
    machine.sb.makedirs("/run/k3sup", 0o777)
    told = machine.service("stop")
    assert told["error"]["name"] in ("K3SUP_E_UNTRUSTED", "K3SUP_E_GUARD"), told
    assert machine.running()[0]["pid"] == before["pid"] and machine.unguarded()


# ---- the guard by itself ----

def drive(machine, *words):
    """[(word, what came of it)]"""
    done = machine.sb.wait(machine.begin([PROGRAMS + "/tests/driver-guard", "/", "k3s"] + list(words)))
    assert not done.err, done.err
    return [tuple(line.split()) for line in done.out.splitlines()]


def test_rearm_begins_anew(boot, old):
    """Its time is counted from the last rearm: it is not over after the time that it was armed with."""
    machine = boot()
    machine.install(old)
    told = drive(machine, "arm=2500", "sleep=1500", "rearm=2500", "sleep=1500", "rearm=2500", "disarm")
    assert [r for _, r in told] == ["0"] * 5 + ["1"], told
    assert not machine.running() and machine.unguarded()


def test_rearm_without_one(boot, old):
    """Disarmed, or never armed: nobody owes a start, so nothing begins anew."""
    machine = boot()
    machine.install(old)
    assert drive(machine, "rearm=2000") == [("rearm=2000", "K3SUP_E_GUARD")]
    assert drive(machine, "arm=2000", "disarm", "rearm=3000")[-1] == ("rearm=3000", "K3SUP_E_GUARD")


def test_rearm_too_late(boot, old):
    """Its time was over: k3s is no longer stopped by us."""
    machine = boot()
    machine.install(old)
    told = drive(machine, "arm=100", "sleep=3000", "rearm=100")
    assert told[-1] == ("rearm=100", "K3SUP_E_GUARD"), told
    until(machine.running, 60, "the guard to start k3s")


def test_rearm_after_somebody_started_it(boot, old):
    """The guard waits, and k3s was started by hand."""
    machine = boot()
    machine.install(old)
    assert drive(machine, "arm=30000", "rearm=30000", "start", "rearm=30000", "disarm") == [
        ("arm=30000", "0"), ("rearm=30000", "0"), ("start", "0"), ("rearm=30000", "K3SUP_E_GUARD")]
    until(machine.running, 60, "k3s")


@pytest.mark.parametrize("word, soon", [("release", False), ("rearm=30000", True)])
def test_whoever_armed_it_ends(boot, old, word, soon):
    """With its owner's end k3s is started at once, unless it was released: then only the time counts."""
    machine = boot()
    machine.install(old)
    assert drive(machine, "arm=30000", word)[-1] == (word, "0")
    if soon:
        until(machine.running, 60, "the guard to start k3s")
        until(lambda: not machine.guards(), 60, "its end")
    else:
        time.sleep(1)
        assert len(machine.guards()) == 1 and not machine.running()
        assert drive(machine, "disarm") == [("disarm", "1")] and machine.unguarded()


# ---- upgrades ----

@pytest.mark.parametrize("view", VIEWS)
def test_C01_upgrade(boot, old, new, view):
    """C01 under OpenRC: by a signal, after which supervise-daemon starts it again; on demand by its rc-service, from outside of us.

    k3sup-upgrade FILE: 0, service.restarted_by signal, the same supervise-daemon. --restart service: 0, restarted_by service, a new one, on the host.
    """
    machine = boot("hybrid")
    machine.install(old)
    before = machine.start()
    payload = machine.node.payload(new)

    answer = machine.upgrade(payload, view=view)
    assert answer.exit == 0 and answer["changed"] is True and answer["service"]["restarted_by"] == "signal", answer
    now = machine.node.assert_runs(new, but=before)
    assert now["ppid"] == before["ppid"] and machine.unguarded()
    again = machine.upgrade(payload, view=view)
    assert again.exit == 0 and again["changed"] is False, again

    answer = machine.upgrade("--restart", "service", "--allow-downgrade", machine.node.payload(old), view=view)
    assert answer.exit == 0 and answer["service"]["restarted_by"] == "service", answer
    last = machine.node.assert_runs(old, but=now)
    assert last["ppid"] != before["ppid"] and machine.unguarded()
    assert_of_the_host(machine, last["ppid"])


def test_C01_log_form(boot, old, new):
    """C01 with --log: the pair is replaced by a pair."""
    machine = boot()
    machine.install(old, command="server --log /var/log/k3s-own.log")
    before = machine.start()
    answer = machine.upgrade(machine.node.payload(new))
    assert answer.exit == 0, answer
    machine.node.assert_runs(new, but=before)


def test_C04_crash_loop(boot, standin, old):
    """C04: the new build dies again and again under supervise-daemon: no success.

    k3sup-upgrade --rollback never --timeout 12 FILE: 6 or 11.
    """
    machine = boot()
    machine.install(old)
    machine.start()
    bad = standin("v1.30.5+k3s1", "2024", "small", "die_after_ms=300")
    answer = machine.upgrade("--rollback", "never", machine.node.payload(bad), stable="3", timeout="12")
    assert answer.exit in (6, 11) and answer.error in ("K3SUP_E_NOT_STABLE", "K3SUP_E_NOT_RESTARTED"), answer


def test_C04_crash_loop_is_rolled_back(boot, standin, old):
    """C04: the same, and the old build of the same minor runs again.

    k3sup-upgrade --timeout 120 FILE: 7, K3SUP_E_ROLLED_BACK.
    """
    machine = boot()
    machine.install(old)
    machine.start()
    bad = standin("v1.30.5+k3s1", "2024", "small", "die_after_ms=300")
    answer = machine.upgrade(machine.node.payload(bad), stable="3", timeout="120")
    assert (answer.exit, answer.error) == (7, "K3SUP_E_ROLLED_BACK"), answer
    assert machine.node.content(K3S) == content_of(old) and len(machine.running()) == 1


def test_C02_no_service_for_the_confined(boot, old, new):
    """A container that may not all: on demand it is refused before anything is touched; by a signal it goes.

    k3sup-upgrade --restart service FILE: 3, K3SUP_E_CONFINED. k3sup-upgrade FILE: 0.
    """
    machine = boot()
    machine.install(old)
    before = machine.start()
    payload = machine.node.payload(new)
    refused = machine.upgrade("--restart", "service", payload, prefix=["setpriv", "--no-new-privs"])
    assert (refused.exit, refused.error) == (3, "K3SUP_E_CONFINED"), refused
    assert machine.node.content(K3S) == content_of(old) and machine.running()[0]["pid"] == before["pid"]
    answer = machine.upgrade(payload, prefix=["setpriv", "--no-new-privs"])
    assert answer.exit == 0, answer
    machine.node.assert_runs(new, but=before)


# ---- killed ----

TRACE = "/mnt/out/cut.trace"


def stop_and_start(machine, view, prefix):
    argv = [PROGRAMS + "/tests/driver-service", "/" if view == "host" else "/host", "1500", "stop", "start"]
    done = machine.sb.wait(machine.begin(argv, view=view, prefix=prefix))
    return done, machine.sb.read(TRACE).decode(errors="replace")


@pytest.mark.parametrize("kind, view", [("unified", "host"), ("v1", "pod")])
def test_killed_anywhere_between_stop_and_start(boot, old, strace, kind, view):
    """SIGKILL of our whole group at system calls from the making of the guardian to the end of the start: k3s runs again within the guard's delay, without a second run.

    With K3SUP_TEST_FULL at every one that others can see, from the first look for the guard's socket on, and at some of the looks between.
    """
    seed = int(os.environ.get("K3SUP_TEST_SEED") or time.time())
    machine = boot(kind)
    machine.install(old, shims=0, ready_after_ms=10, term_delay_ms=10)
    machine.start()
    done, trace = stop_and_start(machine, view, ["strace", "-q", "-s", "200", "-o", TRACE])
    assert done.status == 0, done.out + done.err
    doing, looking = cuts_in(trace, "guard-k3s")
    chosen = random.Random(seed)
    points = doing + looking[chosen.randrange(16)::16] if FULL else chosen.sample(doing, 3) + chosen.sample(looking, 2)

    def run(name, n):
        _, trace = stop_and_start(machine, view, inject(TRACE, name, n))
        machine.kill_group()
        why = "k3s to run after a cut at %s %d (seed %d)" % (name, n, seed)
        # It may be stopping still; and what is started has no name at first.
        machine.unguarded()
        until(lambda: machine.running() and machine.daemons(), 10, why)
        assert len(machine.running()) == 1 and len(machine.daemons()) == 1, why
        assert_of_the_host(machine, machine.daemons()[0]["pid"])
        return trace

    struck = set()
    for i, (name, n) in enumerate(points):
        struck.add((name, strike(name, n, run)))
        if i % 8 == 0:
            assert machine.state() == "started" and machine.service("start")["ok"], (name, n, seed)
    print("%d cuts, at %d calls (%d of what others can see), %s, %s, seed %d" % (len(points), len(struck), len(doing), kind, view, seed))


@pytest.mark.parametrize("how", ["service", "auto"])
def test_an_upgrade_killed_at_its_steps(boot, old, new, how):
    """k3sup-upgrade --restart service (a stop and a start by somebody else than us) or auto (a signal), whose whole group is killed at the beginning of its late steps, or a little later: k3s
    runs, once, without a second run. Again: 0, state current, the wanted build runs.
    """
    seed = int(os.environ.get("K3SUP_TEST_SEED") or time.time())
    chosen = random.Random(seed)
    machine = boot("unified")
    machine.install(old, shims=0, ready_after_ms=10, term_delay_ms=10)
    machine.start()
    steps = [(s, d) for s in ("swap", "restart", "prove") for d in ((0, 0.05, 0.2, 0.5) if FULL else (chosen.random() * 0.2,))]
    args, struck = ["--restart", how, "--allow-downgrade", "--probe", "none"], 0
    for i, (step, delay) in enumerate(steps):
        why = "k3s to run after a cut %.3f s after the beginning of the step %s (seed %d)" % (delay, step, seed)
        payload = machine.node.payload((new, old)[i % 2])
        run = machine.begin([PROGRAMS + "/k3sup-upgrade", "--events", "1", "--stable", "0.3", "--timeout", "120"] + args + [payload])
        until(lambda: machine.sb.ask("ended", pid=run["pid"]) is not None or (machine.sb.exists(run["out"]) and b'"step":"%s"' % step.encode() in machine.sb.read(run["out"])), 60, step)
        time.sleep(delay)
        machine.kill_group()
        struck += machine.sb.wait(run).status != 0
        machine.unguarded()
        until(lambda: len(machine.running()) == 1 and machine.daemons(), 10, why)
        answer = machine.upgrade(*args, payload)
        assert answer.exit == 0 and answer["state"] == "current", "%s: %r" % (why, answer)
        machine.node.assert_runs((new, old)[i % 2])
    print("%d of %d cuts struck, seed %d" % (struck, len(steps), seed))
    assert struck >= 1, "no cut struck"
