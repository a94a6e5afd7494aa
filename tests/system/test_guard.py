# SPDX-License-Identifier: Apache-2.0
"""The start guard by itself, under a real systemd."""
from machine import PROGRAMS
from sandbox import until


def drive(machine, *words):
    """{word: what came of it}"""
    p = machine.begin(None, argv=[PROGRAMS + "/tests/driver-guard", "/", "k3s.service"] + list(words))
    out, err = p.communicate(timeout=120)
    assert not err, err
    return dict(line.split() for line in out.splitlines())


def stopped(machine, old):
    machine.install(old)
    machine.start()
    machine.wait_active()
    assert drive(machine, "arm=30000", "stop")["stop"] == "0"
    until(lambda: machine.show("k3s", "ActiveState")["ActiveState"] in ("inactive", "failed"), 60, "k3s to stop")


def test_rearm_begins_anew(machine, old):
    """Its time is counted from the last rearm: it is not over after the time that it was armed with."""
    machine.install(old)
    told = drive(machine, "arm=2000", "sleep=1200", "rearm=2000", "sleep=1200", "rearm=2000", "disarm")
    assert set(told.values()) == {"0", "1"} and told["disarm"] == "1", told
    assert not machine.running()


def test_rearm_without_one(machine, old):
    """Disarmed, or never armed: nobody owes a start, so nothing begins anew."""
    machine.install(old)
    assert drive(machine, "rearm=2000") == {"rearm=2000": "K3SUP_E_GUARD"}
    assert drive(machine, "arm=2000", "disarm", "rearm=3000")["rearm=3000"] == "K3SUP_E_GUARD"


def test_rearm_too_late(machine, old):
    """Its time was over: k3s is no longer stopped by us."""
    machine.install(old)
    assert drive(machine, "arm=100")["arm=100"] == "0"
    until(machine.running, 60, "the guard to start k3s")
    assert drive(machine, "rearm=100") == {"rearm=100": "K3SUP_E_GUARD"}


def test_rearm_after_somebody_started_it(machine, old):
    """The guard waits, and k3s was started by hand."""
    stopped(machine, old)
    assert drive(machine, "rearm=30000") == {"rearm=30000": "0"}
    machine.start()
    assert drive(machine, "rearm=30000") == {"rearm=30000": "K3SUP_E_GUARD"}
    assert drive(machine, "disarm") == {"disarm": "1"}
