# SPDX-License-Identifier: Apache-2.0
"""Evidence that the tests under a real systemd can fail: each is played with a machine on which an upgrade makes one mistake, and must say so."""
import pytest

import test_systemd
from machine import K3S


class Mistaken:
    """A machine whose upgrade() is right but for what happens after it."""

    def __init__(self, machine, mistake):
        self.machine, self.mistake = machine, mistake

    def __getattr__(self, name):
        return getattr(self.machine, name)

    def upgrade(self, *args, **more):
        answer = self.machine.upgrade(*args, **more)
        self.mistake(self.machine, answer)
        return answer


def claims_success(machine, answer):
    answer.exit = 0
    answer.json.pop("error", None)


def writes_all_the_same(machine, answer):
    machine.copy(machine.path("/opt/payload/k3s"), K3S)


def ends_shims(machine, answer):
    for pid in test_systemd.shims_of(machine):
        machine.run("kill", "-9", str(pid), check=False)


def unmasks(machine, answer):
    machine.systemctl("unmask", "k3s.service")


def forgets_drop_ins(machine, answer):
    answer.json["service"]["drop_ins"] = []


CONTROLS = [
    (test_systemd.test_C02_its_stop_would_end_us, {"mode": "mixed", "how": "signal"}, claims_success, "0, None"),
    (test_systemd.test_C02_started_by_hand, {}, writes_all_the_same, "assert"),
    (test_systemd.test_C03_restart_setting, {"setting": "no"}, claims_success, "0, None"),
    (test_systemd.test_C03_a_drop_in_counts, {}, forgets_drop_ins, "10-no.conf"),
    (test_systemd.test_C06_masked_leftovers, {}, unmasks, "masked"),
    (test_systemd.test_C08_containers_go_on, {}, ends_shims, "a shim ended"),
]


@pytest.mark.parametrize("test, arguments, mistake, says", CONTROLS, ids=["%s-%s" % (c[0].__name__.split("_")[1], c[2].__name__) for c in CONTROLS])
def test_the_mistake_is_found(machine, old, new, test, arguments, mistake, says):
    with pytest.raises(AssertionError, match=says):
        test(machine=Mistaken(machine, mistake), old=old, new=new, **arguments)
