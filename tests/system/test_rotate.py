# SPDX-License-Identifier: Apache-2.0
"""Rotation under a real systemd: one stop and one start, new certificates, nothing twice, and k3s runs again whatever kills us."""
import os
import shutil

import pytest

from leafs import DATA, LISTENER, assert_renewed, lasting, leaf_tree, leafs
from machine import COMMANDS, PROGRAMS, UNIT, told
from sandbox import until

GUARD = "k3sup-guard-k3s"


def guard(machine):
    return machine.show(GUARD + ".timer", "ActiveState")["ActiveState"]


def certs(machine, command, *args, **more):
    return machine.finish(machine.begin(None, "--json", *args, argv=[PROGRAMS + "/k3sup-certs", command], **more))


def rotate(machine, *args, stable="0.3", timeout="60", probe="none", view="host", **more):
    argv = ["rotate", "--json", "--probe", probe, "--stable", stable, "--timeout", timeout] + list(args)
    return machine.finish(machine.begin(None, view=view, argv=[PROGRAMS + "/k3sup-certs"] + argv, **more))


def running_k3s(machine, binary, **more):
    machine.install(binary, **more)
    process = machine.start()
    machine.wait_active()
    return process


def tree(machine, data=DATA):
    return leaf_tree(machine.path, data)


@pytest.mark.parametrize("view", ["host", "pod"])
def test_rotate(machine, old, view):
    """k3sup-certs rotate --rotate-key K: 0; another pid by one stop and one start, new leafs and keys, served; authorities untouched. The same key again: 0, nothing done."""
    before = running_k3s(machine, old, port=6443)
    was = tree(machine)

    answer = rotate(machine, "--rotate-key", "k1", probe="auto", view=view)

    assert answer.exit == 0 and answer["changed"] is True and answer["state"] == "current", told(answer)
    now = machine.running()[0]
    assert now["pid"] != before["pid"] and machine.show("k3s", "NRestarts")["NRestarts"] == "0" and guard(machine) == "inactive"
    assert_renewed(was, tree(machine))
    assert answer["stopped"] and answer["started"] and answer["left_stopped"] is False and answer["issued_by"] == "itself" and answer["key"] == "k1"
    assert {row["path"] for row in answer["renewed"]} == {p for p in leafs(was) if not p.endswith(".key")}, told(answer)
    assert all(row["from"] != row["to"] for row in answer["renewed"]) and answer["downtime_ms"] > 0
    renewed = {row["path"]: row["to"] for row in answer["renewed"]}
    served = [row for row in answer["served"] if row["service"] == "k3s-server"]
    assert served and all(row["sha256"] == renewed[LISTENER] and row["matches"] for row in served), told(answer)
    checked = certs(machine, "check", "--wire")
    assert checked.exit == 0 and not [p for p in checked["problems"] if p["remedy"] != "note"], told(checked)

    again = rotate(machine, "--rotate-key", "k1", view=view)
    assert again.exit == 0 and again["changed"] is False and machine.running()[0]["pid"] == now["pid"], told(again)
    assert len(os.listdir(machine.path("/var/lib/k3sup/certs"))) == 1

    other = rotate(machine, "--rotate-key", "k2", view=view)
    assert other.exit == 0 and other["changed"] is True and machine.running()[0]["pid"] != now["pid"], told(other)


def test_one_stop_one_start(machine, old, strace):
    """A trace of all that is asked of systemd: one stop, one start, no restart, and the guard around them."""
    running_k3s(machine, old)
    argv = ["strace", "-f", "-qq", "-s", "300", "-e", "trace=execve", "-o", "/var/rotate.trace", PROGRAMS + "/k3sup-certs", "rotate", "--json", "--probe", "none", "--stable", "0.1",
            "--rotate-key", "k"]

    answer = machine.finish(machine.begin(None, argv=argv))

    assert answer.exit == 0, told(answer)
    ran = [line for line in machine.read("/var/rotate.trace").decode().splitlines() if "systemctl" in line and "= 0" in line]
    orders = [word for line in ran for word in ("stop", "start", "restart") if '"%s"' % word in line and '"k3s.service"' in line and "--on-active" not in line]
    assert orders == ["stop", "start"], "\n".join(ran)
    first = next(i for i, line in enumerate(ran) if "--on-active" in line)
    assert first < next(i for i, line in enumerate(ran) if '"stop"' in line), "the guard was armed too late"


@pytest.mark.parametrize("restart, error", [("none", "K3SUP_E_RUNNING"), ("signal", "K3SUP_E_NO_SERVICE")])
def test_refused_while_it_runs(machine, old, restart, error):
    """Not to be stopped, or only to be signalled: k3sup-certs rotate --restart none: 3, nothing touched."""
    before = running_k3s(machine, old)
    was = tree(machine)

    answer = rotate(machine, "--rotate-key", "k", "--restart", restart)

    assert (answer.exit, answer.error) == (3, error) and answer["changed"] is False, told(answer)
    assert tree(machine) == was and machine.running()[0]["pid"] == before["pid"] and guard(machine) == "inactive"
    assert answer["state"] == "current" and not machine.exists("/var/lib/k3sup/certs")


@pytest.mark.parametrize("how", ["masked", "by hand", "no guard"])
def test_refused_where_no_stop_can_be_had(machine, old, how):
    """Nobody could start it again: refused before anything is touched, exit 3."""
    before = running_k3s(machine, old)
    was = tree(machine)
    run = "/usr/bin/systemd-run"
    if how == "masked":
        os.unlink(machine.path("/etc/systemd/system/k3s.service"))
        machine.systemctl("mask", "k3s.service")
    elif how == "by hand":
        before = machine.leave_to_a_shell()
        was = tree(machine)
    else:
        machine.run("mv", run, run + ".away")
    try:
        answer = rotate(machine, "--rotate-key", "k")
    finally:
        if how == "no guard":
            machine.run("mv", run + ".away", run)

    assert answer.exit == 3 and answer.error == {"masked": "K3SUP_E_SERVICE_MASKED", "by hand": "K3SUP_E_NO_SERVICE", "no guard": "K3SUP_E_GUARD"}[how], told(answer)
    assert lasting(tree(machine)) == lasting(was) and machine.running()[0]["pid"] == before["pid"] and not machine.exists("/var/lib/k3sup/certs")
    assert answer["state"] == "current", told(answer)


def test_if_within(machine, old):
    """--if-within alone is about dates: nothing ends that soon: 0, nothing done. --dry-run: 9, nothing done. What is new ends that soon, too: 11, k3s runs."""
    before = running_k3s(machine, old)
    was = tree(machine)

    answer = rotate(machine, "--if-within", "100")
    assert answer.exit == 0 and answer["changed"] is False and tree(machine) == was, told(answer)
    answer = rotate(machine, "--if-within", "365", "--rotate-key", "k", "--dry-run")
    assert answer.exit == 9 and answer["would_change"] and set(answer["retires"]) == set(leafs(was)), told(answer)
    assert tree(machine) == was and machine.running()[0]["pid"] == before["pid"] and not machine.exists("/var/lib/k3sup/certs")

    answer = rotate(machine, "--if-within", "365")
    assert (answer.exit, answer.error) == (11, "K3SUP_E_NOT_ROTATED") and answer["changed"] and answer["started"], told(answer)
    assert_renewed(was, tree(machine))
    assert machine.running()[0]["pid"] != before["pid"]


def test_soon_over(machine, old):
    """Certificates of a few days are renewed once; a second run finds that nothing ends so soon."""
    machine.write("/etc/systemd/system/k3s.service.d/days.conf", "[Service]\nEnvironment=CATTLE_NEW_SIGNED_CERT_EXPIRATION_DAYS=200\n")
    running_k3s(machine, old)
    machine.write("/etc/systemd/system/k3s.service.d/days.conf", "")
    machine.systemctl("daemon-reload")
    was = tree(machine)

    answer = rotate(machine, "--if-within", "250")
    assert answer.exit == 0 and answer["changed"], told(answer)
    assert_renewed(was, tree(machine))
    assert rotate(machine, "--if-within", "250")["changed"] is False


def test_service_subset(machine, old):
    """--service admin: only that pair is new."""
    running_k3s(machine, old)
    was = tree(machine)

    answer = rotate(machine, "--rotate-key", "k", "--service", "admin")

    assert answer.exit == 0, told(answer)
    now, was = lasting(tree(machine)), lasting(was)
    assert {p for p in was if now[p] != was[p]} == {"server/tls/client-admin.crt", "server/tls/client-admin.key"}


def test_hooks(machine, old):
    """--before-write, --before-stop: asked in this order while k3s runs and nothing is written; who refuses ends it with 3 and nothing touched; neither is asked where nothing is to be done."""
    process = running_k3s(machine, old)
    was = tree(machine)

    refused = rotate(machine, "--rotate-key", "k", "--before-write", "true", "--before-stop", "echo no >&2; exit 4")

    assert (refused.exit, refused.error) == (3, "K3SUP_E_HOOK") and refused["changed"] is False, told(refused)
    assert [(h["name"], h["ok"]) for h in refused["hooks"]] == [("before-write", True), ("before-stop", False)]
    assert tree(machine) == was and machine.running()[0]["pid"] == process["pid"] and not os.path.exists(machine.path("/var/lib/k3sup/certs"))
    assert not os.path.exists(machine.path("/var/lib/k3sup/journal")) or "rotation-pending" not in str(refused["flags"])

    say = "printf '%s %s [%s]\\n' $K3SUP_HOOK $K3SUP_PID $K3SUP_TO >>/run/hooks"
    for _ in range(2):
        done = rotate(machine, "--rotate-key", "k", "--before-write", say, "--before-stop", say)
        assert done.exit == 0, told(done)
        with open(machine.path("/run/hooks")) as f:
            assert f.read() == "before-write %(pid)d []\nbefore-stop %(pid)d []\n" % process
    assert lasting(tree(machine)) != lasting(was) and done["changed"] is False


def test_agent(machine, old):
    """An agent: its keys are new, its certificates come from its server; that is said."""
    machine.install(old, command="agent --server https://127.0.0.1:1 --token x", name="k3s-agent")
    before = machine.start("k3s-agent")
    machine.wait_active("k3s-agent")
    was = tree(machine)

    answer = rotate(machine, "--rotate-key", "k")

    assert answer.exit == 0 and answer["issued_by"] == "server" and answer["role"] == "agent", told(answer)
    assert machine.running()[0]["pid"] != before["pid"]
    now = tree(machine)
    for path in leafs(was):
        assert now[path] != was[path], path


def test_decoy(machine, old):
    """E01: another tree lies in the default data-dir: the running k3s's own is rotated, the decoy is not touched."""
    data = "/srv/k3s-data"
    machine.install(old, unit=UNIT % ("server --data-dir " + data))
    machine.start()
    machine.wait_active()
    shutil.copytree(machine.path(data + "/server/tls"), machine.path(DATA + "/server/tls"))
    was, decoy = tree(machine, data), tree(machine)
    assert leafs(decoy)
    try:
        answer = rotate(machine, "--rotate-key", "k")
        assert answer.exit == 0 and answer["data_dir"]["path"] == data, told(answer)
        assert_renewed(was, tree(machine, data))
        assert tree(machine) == decoy
    finally:
        machine.systemctl("kill", "-s", "KILL", "k3s", check=False)
        machine.systemctl("stop", "k3s")
        shutil.rmtree(machine.path(data), ignore_errors=True)


def test_by_commands(machine, old):
    """k3s is nobody's service that is known here by name. k3sup-certs rotate --restart commands: 0; stopped and started by the caller's commands, guarded; the same key again: 0, nothing done."""
    machine.install(old)
    before = machine.start_by_command()
    for made_last in ("server/cred/admin.kubeconfig", "agent/k3scontroller.kubeconfig", LISTENER):
        until(lambda path="%s/%s" % (DATA, made_last): machine.exists(path), 60, made_last)
    was = tree(machine)
    args = ["--rotate-key", "k", "--restart", "commands"] + [w for c in COMMANDS for w in ("--" + c.split("=", 1)[0].replace("_", "-"), c.split("=", 1)[1])]

    answer = rotate(machine, *args)

    assert answer.exit == 0 and answer["service"]["manager"] == "commands" and answer["stopped"] and answer["started"], told(answer)
    now = machine.running()[0]
    assert now["pid"] != before["pid"] and not machine.commands_guards()
    assert_renewed(was, tree(machine))
    again = rotate(machine, *args)
    assert again.exit == 0 and again["changed"] is False and machine.running()[0]["pid"] == now["pid"], told(again)


def test_stopped_by_the_operator(machine, old):
    """The files are done, k3s is left stopped: 9. Again: 9. After the operator's start: 0, proven."""
    running_k3s(machine, old)
    was = tree(machine)
    machine.systemctl("stop", "k3s")

    answer = rotate(machine, "--rotate-key", "k")
    assert answer.exit == 9 and answer["changed"] and answer["left_stopped"] and answer["state"] == "rotation-pending", told(answer)
    assert not [p for p in leafs(tree(machine)) if p != LISTENER and not p.endswith("dynamic-cert-regenerate")] and not machine.running() and guard(machine) == "inactive"
    answer = rotate(machine, "--rotate-key", "k")
    assert answer.exit == 9 and answer["changed"] is False and answer["left_stopped"], told(answer)
    assert not machine.running()

    machine.start()
    machine.wait_active()
    answer = rotate(machine, "--rotate-key", "k")
    assert answer.exit == 0 and answer["changed"] is False and answer["resumed"] and answer["state"] == "current", told(answer)
    assert_renewed(was, {p: t for p, t in tree(machine).items() if "regenerate" not in p})


def test_start_fails_once(machine, old):
    """The first start after the stop dies; its manager starts it again: 0, and it is said."""
    running_k3s(machine, old)
    started = 0
    path = machine.path(DATA + "/standin-starts")
    if os.path.exists(path):
        with open(path) as f:
            started = int(f.read() or 0)
    machine.write("/etc/rancher/k3s/standin.conf", "port=0\nrsa=0\nready_after_ms=50\nterm_delay_ms=50\nflap=%d\n" % (started + 1))
    machine.write("/etc/systemd/system/k3s.service.d/soon.conf", "[Service]\nRestartSec=100ms\n")
    machine.systemctl("daemon-reload")
    was = tree(machine)

    answer = rotate(machine, "--rotate-key", "k", stable="1")

    assert answer.exit == 0 and machine.show("k3s", "NRestarts")["NRestarts"] == "1", told(answer)
    assert_renewed(was, tree(machine))


def test_the_guard_was_too_quick(machine, old):
    """The guard's time is over before the files are touched: 11, K3SUP_E_GUARD; nothing is retired under a k3s that runs, and one more run does all."""
    running_k3s(machine, old)
    was = tree(machine)

    answer = rotate(machine, "--rotate-key", "k", "--guard-delay", "0.001")

    assert answer.exit == 11 and answer.error == "K3SUP_E_GUARD" and answer["changed"] and answer["started"], told(answer)
    assert lasting(tree(machine)) == lasting(was) and machine.running() and answer["state"] == "rotation-pending"
    again = rotate(machine, "--rotate-key", "k")
    assert again.exit == 0 and again["resumed"] and again["state"] == "current", told(again)
    assert_renewed(was, tree(machine))


def test_slow_to_stop(machine, old):
    """A stop that takes longer than the guard's time: that begins anew meanwhile."""
    running_k3s(machine, old, term_delay_ms=2500)
    was = tree(machine)

    answer = rotate(machine, "--rotate-key", "k", "--guard-delay", "1.5")

    assert answer.exit == 0, told(answer)
    assert_renewed(was, tree(machine))


def test_restore(machine, old):
    """What was retired can be had back: k3sup-certs restore, while k3s is stopped; the old leafs are live again, and the key's goal does not hold any more."""
    running_k3s(machine, old)
    was = tree(machine)
    answer = rotate(machine, "--rotate-key", "k")
    assert answer.exit == 0, told(answer)
    machine.systemctl("stop", "k3s")

    restored = certs(machine, "restore", answer["kept"])

    assert restored.exit == 0 and restored["changed"], told(restored)
    machine.start()
    machine.wait_active()
    now = tree(machine)
    assert all(now[p] == was[p] for p in leafs(was) if not p.startswith("agent/") and p != LISTENER)
    assert rotate(machine, "--rotate-key", "k")["changed"] is True
