# SPDX-License-Identifier: Apache-2.0
"""k3s that no service manager which is known here owns, stopped and started by commands of the caller's: what they say is a hint, what runs is the proof."""
import pytest

from node import content_of
from sandbox import until

START = "pidof k3s-server >/dev/null || { K3S_STANDIN_CONF=/etc/rancher/k3s/standin.conf setsid /usr/local/bin/k3s server --write-kubeconfig /var/log/k3s.yaml </dev/null >/dev/null 2>&1 & }"
STOP = "kill $K3SUP_PID"
STATUS = "for f in /proc/[0-9]*/comm; do read -r c 2>/dev/null <$f && [ \"$c\" = k3s-server ] && exit 0; done; exit 3"


@pytest.fixture
def node(make, old):
    """k3s runs, and nobody would start it again."""
    node = make()
    node.install(old)
    node.sb.spawn(["sh", "-c", START])
    node.process = until(node.running, 60, "k3s to come up")[0][0]
    return node


def commands(stop=STOP, start=START, status=STATUS):
    return ["--restart", "commands", "--stop-command", stop, "--start-command", start, "--status-command", status]


def guards(node):
    return [p for p in node.sb.processes() if p["comm"] == "k3sup-guard"]


def kill_us(node):
    """SIGKILL for k3sup-upgrade and its commands, not for what is outside of it."""
    ours = [p["pid"] for p in node.sb.processes() if p["comm"] != "k3sup-guard" and any(w in p["cmdline"] for w in (b"k3sup-upgrade", b"sleep\x00600", b"sleep 600"))]
    node.sb.run(["sh", "-c", "kill -9 %s 2>/dev/null; :" % " ".join(map(str, ours))]) # one may end with another


@pytest.mark.parametrize("guard", [[], ["--guard-delay", "0"]])
def test_upgrade(node, old, new, guard):
    """k3sup-upgrade --restart commands FILE: 0; the new build runs, started once. Again: 0, already so, the same process. The guard, if one was wanted, has gone."""
    payload = node.payload(new)

    answer = node.upgrade(*guard, *commands("echo stopping $K3SUP_ROOT; " + STOP), payload)

    now = node.assert_upgraded(answer, old, new, node.process, starts=None)
    service = answer["service"]
    assert (service["manager"], service["restarted_by"]) == ("commands", "commands") and "guard" not in service and not guards(node), answer
    assert service["stop"] == {"ok": True, "exit_code": 0, "output": "stopping /\n"} and service["start"]["ok"], answer
    again = node.upgrade(*guard, *commands(), payload)
    assert again.exit == 0 and again["changed"] is False and node.assert_runs(new)["pid"] == now["pid"], again


def test_refused_without_a_guard(node, old, new):
    """Nobody who is not confined could start k3s if the program ended between the two commands: 3, K3SUP_E_CONFINED, by --check and by the upgrade, and nothing was touched."""
    payload, before = node.payload(new), node.snapshot()
    for lock, more in ((False, ["--check"]), (True, [])):
        answer = node.upgrade(*more, *commands(), payload, prefix=["setpriv", "--no-new-privs"])
        assert (answer.exit, answer.error, answer["changed"]) == (3, "K3SUP_E_CONFINED", False), answer
        node.assert_nothing_changed(before, lock=lock)
    assert node.assert_runs(old)["pid"] == node.process["pid"]


@pytest.mark.parametrize("slow", [False, True])
def test_the_guard_starts_it(node, old, new, slow):
    """Killed while k3s is stopped, or while it still ends: the guard runs the start command when it has ended, without a second run; which then finds it so."""
    payload = node.payload(new)
    # What ends later is told to by a process of its own, so that the killing of the command changes nothing.
    stop = "setsid sh -c 'while [ ! -e /tmp/end ]; do sleep 0.05; done; kill '$K3SUP_PID </dev/null >/dev/null 2>&1 &" if slow else STOP
    spec = node.begin("k3sup-upgrade", "--json", "--stable", "0.3", *commands(stop + "\ntouch /tmp/stopping; sleep 600"), payload)
    until(lambda: node.sb.exists("/tmp/stopping") and (slow or not node.running()), 60, "the stop")

    kill_us(node)
    node.sb.wait(spec)
    if slow:
        assert guards(node) and node.assert_runs(old)["pid"] == node.process["pid"]
        node.sb.write("/tmp/end", "")

    until(lambda: not guards(node), 60, "the guard to go")
    until(node.running, 60, "k3s")
    assert node.assert_runs(new, but=node.process)
    answer = node.upgrade(*commands(), payload)
    assert answer.exit == 0 and answer["resumed"] is True and len(node.running()) == 1 and not guards(node), answer


def test_a_stop_command_that_lies(node, old, new):
    """It says that all is well, and k3s runs on: that is no stop, and no second k3s is started beside the first. 8, and one more run reaches the goal."""
    payload = node.payload(new)

    answer = node.upgrade("--guard-delay", "0", *commands(stop="true"), payload, timeout="4")

    assert (answer.exit, answer.error) == (8, "K3SUP_E_TIMEOUT"), answer
    assert node.assert_runs(old)["pid"] == node.process["pid"] and "start" not in answer["service"], answer
    answer = node.upgrade("--guard-delay", "0", *commands(), payload)
    assert answer.exit == 0 and node.assert_runs(new, but=node.process), answer


def test_commands_that_say_that_they_failed(node, new):
    """What counts is that k3s has ended, and that the new one runs."""
    answer = node.upgrade("--guard-delay", "0", *commands(stop=STOP + "; exit 7", start=START + "; false"), node.payload(new))

    assert answer.exit == 0 and node.assert_runs(new, but=node.process), answer
    assert answer["service"]["stop"]["exit_code"] == 7 and any("stop command" in w for w in answer["warnings"]), answer


def test_a_stop_that_does_not_hold(node, new):
    """Somebody starts k3s again before its stop was proven: said at once, and no second k3s is started. 11, and one more run finds it current."""
    payload = node.payload(new)

    answer = node.upgrade("--guard-delay", "0", *commands(stop=STOP + "; while kill -0 $K3SUP_PID 2>/dev/null; do sleep 0.05; done; " + START + "; until pidof k3s-server >/dev/null; do sleep 0.05; done"), payload)

    assert (answer.exit, answer.error) == (11, "K3SUP_E_GUARD") and "start" not in answer["service"], answer
    assert until(node.running, 60) and node.assert_runs(new, but=node.process)
    answer = node.upgrade(*commands(), payload)
    assert answer.exit == 0 and answer["resumed"] is True, answer


def test_a_status_command_that_does_not_know(node, new):
    """Neither 0 nor 3: a stop is believed when no k3s was seen for a while."""
    answer = node.upgrade("--guard-delay", "0", *commands(status="exit 1"), node.payload(new))

    assert answer.exit == 0 and node.assert_runs(new, but=node.process) and answer["downtime_ms"] >= 7000, answer


def test_a_start_command_that_does_nothing(node, new):
    """11 or 6 and its reason, soon after the command said that it failed; the next run starts it."""
    payload = node.payload(new)

    answer = node.upgrade("--guard-delay", "0", *commands(start="echo no such service; exit 5"), payload, timeout="120")

    assert (answer.exit, answer.error) == (6, "K3SUP_E_NOT_RESTARTED") and answer.seconds < 60, answer
    assert answer["service"]["start"] == {"ok": False, "exit_code": 5, "output": "no such service\n"}, answer
    assert not node.running() and content_of(new) == node.content()
    answer = node.upgrade("--guard-delay", "0", *commands(), payload)
    assert answer.exit == 0 and node.assert_runs(new), answer


def test_cut_between_stop_and_start(node, old, new):
    """Killed while k3s is stopped, and no guard was wanted: the next run starts it."""
    payload = node.payload(new)
    spec = node.begin("k3sup-upgrade", "--json", "--stable", "0.3", "--guard-delay", "0",
                      *commands(stop=STOP + "; sleep 0.5; touch /tmp/stopped; sleep 600"), payload)
    until(lambda: node.sb.exists("/tmp/stopped") and not node.running(), 60, "k3s to be stopped")
    kill_us(node)
    node.sb.wait(spec)
    assert not node.running()

    answer = node.upgrade("--guard-delay", "0", *commands(), payload)

    assert answer.exit == 0 and answer["resumed"] and node.assert_runs(new, but=node.process), answer


def test_a_stop_of_the_operators_is_honoured(node, old, new):
    """k3s was stopped before, by somebody else: it is not started."""
    payload = node.payload(new)
    assert node.upgrade("--guard-delay", "0", *commands(), payload).exit == 0
    node.sb.kill(node.running()[0][0]["pid"], 9)
    until(lambda: not node.running(), 60, "k3s to be gone")

    answer = node.upgrade("--guard-delay", "0", *commands(), payload)

    assert (answer.exit, answer.error) == (4, "K3SUP_E_NO_K3S") and not node.running(), answer


@pytest.mark.parametrize("args", [["--restart", "commands"], ["--restart", "commands", "--stop-command", "true", "--start-command", "true"], ["--stop-command", "true"],
                                  ["--restart", "commands", "--stop-command", "", "--start-command", "true", "--status-command", "true"]])
def test_usage(node, new, args):
    """All three with --restart commands, or none: 2."""
    assert node.upgrade(*args, node.payload(new)).exit == 2
