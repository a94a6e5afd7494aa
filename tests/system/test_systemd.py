# SPDX-License-Identifier: Apache-2.0
"""Upgrades under a real systemd, with units as k3s's installer writes them."""
import os
import re

import pytest

from machine import K3S, UNIT, told
from node import content_of
from sandbox import until


@pytest.mark.parametrize("view, channel", [("host", "direct"), ("pod", "chroot"), ("bare", "mount-namespace")])
def test_C01_upgrade(machine, old, new, view, channel):
    """C01 under systemd: one restart job, told through each of the ways to reach the manager.

    k3sup-upgrade FILE: 0; service.manager systemd, service.channel as the view has it; another pid, no NRestarts (it was a job, not a respawn); a second run: changed false.
    """
    machine.install(old)
    before = machine.start()
    machine.wait_active()

    answer = machine.upgrade(machine.payload(new), view=view)

    assert answer.exit == 0 and answer["changed"] is True, told(answer)
    now = machine.assert_runs(new, but=before)
    assert machine.read(K3S) == content_of(new)
    service = answer["service"]
    assert (service["manager"], service["channel"], service["name"], service["restarted_by"]) == ("systemd", channel, "k3s.service", "service")
    assert answer["running"]["pid"] == now["pid"] and answer["state"] == "current"
    unit = machine.show("k3s", "MainPID", "NRestarts")
    assert unit == {"MainPID": str(now["pid"]), "NRestarts": "0"}
    assert "k3s.service" in now["cgroup"]

    again = machine.upgrade("/opt/payload/k3s", view=view)
    assert again.exit == 0 and again["changed"] is False and machine.assert_runs(new)["pid"] == now["pid"], told(again)


def unit_with(command="server", **settings):
    """The installer's unit with other settings."""
    text = UNIT % command
    for key, value in settings.items():
        text = re.sub(r"(?m)^%s=.*$" % key, "%s=%s" % (key, value), text)
    return text


LIMITED = unit_with(RestartSec="100ms").replace("[Unit]\n", "[Unit]\nStartLimitIntervalSec=1h\nStartLimitBurst=3\n")


def test_C08_containers_go_on(machine, old, new):
    """C08: the shims outlive the restart, in the unit's cgroup, and are not counted as k3s.

    k3sup-upgrade FILE: 0; the same shim processes.
    """
    machine.install(old, shims=2)
    before = machine.start()
    shims = until(lambda: len(shims_of(machine)) == 2 and shims_of(machine), 60, "shims")

    answer = machine.upgrade(machine.payload(new))

    assert answer.exit == 0, told(answer)
    machine.assert_runs(new, but=before)
    assert set(shims) <= set(shims_of(machine)), "a shim ended"


def shims_of(machine):
    """Those that have left whoever started them."""
    return sorted(p["pid"] for p in machine.processes() if p["comm"].startswith("containerd-shim") and p["ppid"] == 1)


def test_C01_log_unit_never_answers(machine, old, new):
    """C01 with --log and Type=notify: systemd never answers the restart job; the proof decides.

    k3sup-upgrade FILE: 0, while the unit may stay "activating".
    """
    machine.install(old, command="server --log /var/log/k3s.log", never_ready=1)
    before = machine.start()

    answer = machine.upgrade(machine.payload(new), view="pod")

    assert answer.exit == 0, told(answer)
    machine.assert_runs(new, but=before)


@pytest.mark.parametrize("setting", ["on-failure", "no", "on-success"])
def test_C03_restart_setting(machine, old, new, setting):
    """C03: the unit would not start k3s again after SIGTERM. By signal: refused before anything is touched; by its manager: done.

    k3sup-upgrade --restart signal FILE: 3, K3SUP_E_NOT_SUPERVISED. k3sup-upgrade FILE: 0, service.restart as the unit has it.
    """
    machine.install(old, unit=unit_with(Restart=setting))
    before = machine.start()

    check = machine.upgrade("--check", "--restart", "signal", machine.payload(new))
    assert (check.exit, check.error) == (3, "K3SUP_E_NOT_SUPERVISED"), told(check)
    assert check["checks"][-1]["name"] == "restart" and check["checks"][-1]["decision"] == "refuse"
    check = machine.upgrade("--check", machine.payload(new))
    assert check.exit == 0 and check["checks"][-1] == {"name": "restart", "decision": "pass", "text": "k3s would be restarted by k3s.service"}, told(check)

    refused = machine.upgrade("--restart", "signal", machine.payload(new))
    assert (refused.exit, refused.error) == (3, "K3SUP_E_NOT_SUPERVISED"), told(refused)
    assert machine.read(K3S) == content_of(old) and machine.running()[0]["pid"] == before["pid"]

    answer = machine.upgrade("/opt/payload/k3s")
    assert answer.exit == 0 and answer["service"]["restart"] == setting and answer["service"]["restarted_by"] == "service", told(answer)
    machine.assert_runs(new, but=before)


def test_C03_a_drop_in_counts(machine, old, new):
    """C03: what counts is the unit as loaded, with its drop-ins.

    k3sup-upgrade --restart signal FILE: 3, K3SUP_E_NOT_SUPERVISED; the drop-in is named.
    """
    machine.install(old)
    machine.write("/etc/systemd/system/k3s.service.d/10-no.conf", "[Service]\nRestart=no\n")
    machine.systemctl("daemon-reload")
    machine.start()

    refused = machine.upgrade("--restart", "signal", machine.payload(new))

    assert (refused.exit, refused.error) == (3, "K3SUP_E_NOT_SUPERVISED"), told(refused)
    assert refused["service"]["drop_ins"] == ["/etc/systemd/system/k3s.service.d/10-no.conf"]


def test_changed_on_disk(machine, old, new):
    """A unit that was edited and not loaded: what is loaded counts, and it is said.

    k3sup-upgrade FILE: 0, service.changed_on_disk true, a warning.
    """
    machine.install(old)
    before = machine.start()
    machine.write("/etc/systemd/system/k3s.service", unit_with(Restart="no"))

    answer = machine.upgrade(machine.payload(new))

    assert answer.exit == 0 and answer["service"]["changed_on_disk"] is True and answer["service"]["restart"] == "always", told(answer)
    assert any("daemon-reload" in w for w in answer["warnings"])
    machine.assert_runs(new, but=before)


@pytest.mark.parametrize("how", ["auto", "service", "signal"])
def test_masked(machine, old, new, how):
    """The operator masked the unit while it runs: nothing would start it again.

    k3sup-upgrade FILE: 3, K3SUP_E_SERVICE_MASKED; nothing touched.
    """
    machine.install(old)
    before = machine.start()
    os.unlink(machine.path("/etc/systemd/system/k3s.service"))
    machine.systemctl("mask", "k3s.service")

    answer = machine.upgrade("--restart", how, machine.payload(new))

    assert (answer.exit, answer.error) == (3, "K3SUP_E_SERVICE_MASKED"), told(answer)
    assert machine.read(K3S) == content_of(old) and machine.running()[0]["pid"] == before["pid"]
    assert not machine.exists("/var/lib/k3sup/journal") or b'"open"' not in machine.read("/var/lib/k3sup/journal")


def test_C06_masked_leftovers(machine, old, new):
    """C06: a masked k3s.service is left on an agent's node: it is not the one that runs.

    k3sup-upgrade FILE: 0 by k3s-agent.service; the set of enabled units is what it was.
    """
    machine.install(old, command="agent --server https://127.0.0.1:1 --token x", name="k3s-agent")
    machine.systemctl("mask", "k3s.service")
    machine.systemctl("enable", "k3s-agent")
    enabled = machine.systemctl("list-unit-files", "--no-legend", "k3s*")
    before = machine.start("k3s-agent")

    answer = machine.upgrade(machine.payload(new))

    assert answer.exit == 0 and answer["service"]["name"] == "k3s-agent.service" and answer["service"]["enabled"] == "enabled", told(answer)
    machine.assert_runs(new, but=before)
    assert machine.systemctl("list-unit-files", "--no-legend", "k3s*") == enabled


@pytest.mark.parametrize("how", ["auto", "signal"])
@pytest.mark.parametrize("mode", ["control-group", "mixed"])
def test_C02_its_stop_would_end_us(machine, old, new, mode, how):
    """KillMode is not "process" and this program runs in k3s's cgroup: its own restart would kill it.

    k3sup-upgrade FILE: 3, K3SUP_E_SERVICE_TAKES_US; from outside: 0, with a warning that containers end.
    """
    machine.install(old, unit=unit_with(KillMode=mode))
    before = machine.start()
    machine.payload(new)

    inside = machine.upgrade("--restart", how, "/opt/payload/k3s", cgroup="/system.slice/k3s.service")
    assert (inside.exit, inside.error) == (3, "K3SUP_E_SERVICE_TAKES_US"), told(inside)
    assert machine.read(K3S) == content_of(old) and machine.running()[0]["pid"] == before["pid"]

    if how == "auto" and mode == "mixed":
        outside = machine.upgrade("/opt/payload/k3s")
        assert outside.exit == 0 and any("containers" in w for w in outside["warnings"]), told(outside)
        machine.assert_runs(new, but=before)


def test_C02_started_by_hand(machine, old, new):
    """C02: k3s was started by hand; no service owns it, nothing would start it again.

    k3sup-upgrade FILE: 3, K3SUP_E_NOT_SUPERVISED; --restart service: 3, K3SUP_E_NO_SERVICE. Nothing touched.
    """
    machine.install(old)
    machine.run("systemd-run", "-q", "--scope", "--unit=session-c7", "sh", "-c", "setsid %s server >/dev/null 2>&1 </dev/null &" % K3S)
    before = until(machine.running, 60, "k3s")[0]
    assert "session-c7.scope" in before["cgroup"]

    for how, error in (("auto", "K3SUP_E_NOT_SUPERVISED"), ("service", "K3SUP_E_NO_SERVICE")):
        answer = machine.upgrade("--restart", how, machine.payload(new))
        assert (answer.exit, answer.error) == (3, error), told(answer)
        assert "belongs to no service" in answer.message
    assert machine.read(K3S) == content_of(old) and machine.running()[0]["pid"] == before["pid"]


def test_an_instance(machine, old, new):
    """k3s@east.service is written as k3s@.service: it names the file, and is restarted under its own name."""
    machine.install(old, name="k3s@", unit=unit_with())
    before = machine.start("k3s@east")

    answer = machine.upgrade(machine.payload(new))

    assert answer.exit == 0 and answer["service"]["name"] == "k3s@east.service", told(answer)
    assert answer["processes"][0]["unit"] == "k3s@east.service" and answer["processes"][0]["target"] == K3S, told(answer)
    machine.assert_runs(new, but=before)
    machine.systemctl("stop", "k3s@east")


def test_C04_crash_loop(machine, standin, old):
    """C04: the new build dies again and again under systemd: no success.

    k3sup-upgrade --rollback never --timeout 8 FILE: 6 or 11, K3SUP_E_NOT_STABLE or K3SUP_E_NOT_RESTARTED; what systemd says is in the report.
    """
    bad = standin("v1.30.5+k3s1", "2024", "small", "die_after_ms=300")
    machine.install(old)
    machine.start()

    answer = machine.upgrade("--rollback", "never", machine.payload(bad), stable="3", timeout="8")

    assert answer.exit in (6, 11) and answer.error in ("K3SUP_E_NOT_STABLE", "K3SUP_E_NOT_RESTARTED"), told(answer)
    assert answer["changed"] is True


@pytest.mark.parametrize("die", ["die_after_ms=300", "die_at_start=7"])
def test_C04_start_limit(machine, standin, old, die):
    """C04: systemd gives up by its start limit (whose Result= is still that of the first failure, in 252): said at once, long before the time is over, with its last exit status.

    k3sup-upgrade --rollback never --timeout 600 FILE: 6, K3SUP_E_NOT_STABLE. Then k3sup-upgrade --rollback-now: 0, though systemd refuses any start; the old build runs.
    """
    bad = standin("v1.30.5+k3s1", "2024", "small", die, *(["exit_code=7"] if die.startswith("die_after") else []))
    machine.install(old, unit=LIMITED)
    machine.start()

    answer = machine.upgrade("--rollback", "never", machine.payload(bad), stable="3", timeout="600")

    assert (answer.exit, answer.error) == (6, "K3SUP_E_NOT_STABLE") and answer.seconds < 120, told(answer)
    assert "k3s.service has given up" in answer.message and "status 7" in answer.message, told(answer)
    assert answer["error"]["evidence"]["service"]["exit_code"] == 7, told(answer)
    # Whoever only looks is told, too, and what to do; from a container that sees the node's root likewise.
    for view in ("host", "pod"):
        seen = machine.finish(machine.begin("k3sup-status", "--json", view=view))
        assert (seen.exit, seen["state"]) == (0, "not-running") and "service-failed" in seen["flags"], told(seen)
        assert "k3s.service, which failed (status 7)" in seen["next"] and "systemctl reset-failed k3s.service" in seen["next"], told(seen)
        service = seen["service"]
        assert (service["gave_up"], service["active"], service["exit_code"], service["unit_state"]) == (True, "failed", 7, "loaded"), told(seen)
    metrics = machine.begin("k3sup-status", "--output", "metrics").communicate(timeout=60)[0]
    assert "\nk3sup_service_failed 1\n" in metrics, metrics
    machine.systemctl("start", "k3s", check=False)
    assert not machine.running() and machine.show("k3s", "ActiveState")["ActiveState"] == "failed"

    answer = machine.upgrade("--rollback-now")

    assert answer.exit == 0 and answer["changed"] is True and answer["state"] == "current", told(answer)
    machine.assert_runs(old)
    assert machine.read(K3S) == content_of(old) and machine.read("/var/lib/k3sup/floor") == b"v1.30.4+k3s1\n"
    again = machine.upgrade("--rollback-now")
    assert again.exit == 0 and again["changed"] is False, told(again)


def test_C04_back_over_a_start_limit(machine, standin, old):
    """C04: systemd has given up the new build, and would start nothing any more: the build before is put back and started all the same. Other versions than that one are no downgrades then.

    k3sup-upgrade FILE: 7, K3SUP_E_ROLLED_BACK; the old build runs; the floor is its version again.
    """
    bad = standin("v1.30.6+k3s1", "2024", "small", "die_after_ms=300")
    machine.install(old, unit=LIMITED)
    machine.start()

    answer = machine.upgrade(machine.payload(bad), stable="3", timeout="600")

    assert (answer.exit, answer.error) == (7, "K3SUP_E_ROLLED_BACK") and answer["rollback"]["decision"] == "done", told(answer)
    machine.assert_runs(old)
    assert machine.read(K3S) == content_of(old) and machine.read("/var/lib/k3sup/floor") == b"v1.30.4+k3s1\n"
    machine.wait_active()


def test_a_stop_by_the_operator_stays_one_on_the_way_back(machine, old, new):
    """Only a failed unit is started by --rollback-now; one that somebody has stopped is not.

    k3sup-upgrade --rollback-now: not 0; nothing runs.
    """
    machine.install(old)
    machine.start()
    answer = machine.upgrade("--restart", "none", machine.payload(new))
    assert answer.exit == 0, told(answer)
    machine.systemctl("stop", "k3s")
    until(lambda: not machine.running(), 60, "k3s to be gone")

    answer = machine.upgrade("--rollback-now", timeout="5")

    assert answer.exit != 0 and not machine.running(), told(answer)


def test_state_of_a_k3s_that_does_not_run(machine, standin):
    """systemd waits between two starts: k3sup-status says so; state not-running, service.state paused, no flag. Stopped by somebody: nothing of the kind."""
    machine.install(standin("v1.30.5+k3s1", "2024", "small", "die_at_start=7"), unit=unit_with(RestartSec="1h"))
    machine.systemctl("start", "--no-block", "k3s")
    until(lambda: machine.show("k3s", "SubState")["SubState"] == "auto-restart", 60, "systemd to wait")
    seen = machine.finish(machine.begin("k3sup-status", "--json"))
    assert seen["state"] == "not-running" and seen["flags"] == [] and (seen["service"]["state"], seen["service"]["gave_up"]) == ("paused", False), told(seen)
    assert "systemd is about to start k3s.service again" in seen["next"] and "status 7" in seen["next"], told(seen)
    machine.systemctl("stop", "k3s")
    machine.systemctl("reset-failed", "k3s", check=False)
    seen = machine.finish(machine.begin("k3sup-status", "--json"))
    assert seen["state"] == "not-running" and seen["flags"] == [] and seen["service"]["state"] == "stopped" and seen["next"].startswith("start k3s"), told(seen)


def test_no_systemctl_of_others(machine, old, new):
    """A systemctl that others than root could have put there is not executed; the upgrade goes on by what else is known, or refuses.

    k3sup-upgrade FILE: 3, nothing executed, nothing touched.
    """
    machine.install(old)
    before = machine.start()
    machine.run("sh", "-c", "cp -a /usr/bin/systemctl /usr/bin/systemctl.real; printf '#!/bin/sh\\necho ran >/run/ran\\n' >/run/fake; "
                "cat /run/fake >/usr/bin/systemctl; chown 65534 /usr/bin/systemctl; chmod 755 /usr/bin/systemctl")
    try:
        answer = machine.upgrade(machine.payload(new))
    finally:
        machine.run("mv", "/usr/bin/systemctl.real", "/usr/bin/systemctl")

    assert answer.exit == 3 and answer.error == "K3SUP_E_NOT_SUPERVISED", told(answer)
    assert not machine.exists("/run/ran") and machine.running()[0]["pid"] == before["pid"]
