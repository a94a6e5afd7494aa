# SPDX-License-Identifier: Apache-2.0
"""Retire, restore and rotation, by itself and with an upgrade, with the power cut at random instants: a few cuts in every run, 300 of each on each file system with K3SUP_TEST_FULL=1. What is checked, and how, is in certs_power.py."""
import os
import subprocess
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import certs_power  # noqa: E402
import powercut  # noqa: E402

BUILD = os.path.abspath(os.environ.get("K3SUP_BUILD_DIR") or os.path.join(powercut.TOP, "build", "dev"))

pytestmark = pytest.mark.skipif(powercut.cannot_run() is not None, reason=str(powercut.cannot_run()))


def test_power_cuts():
    if not os.path.exists(os.path.join(BUILD, "libk3sup.so.0")):
        pytest.skip("there is no library in %s: build first" % BUILD)
    p = subprocess.run([sys.executable, certs_power.__file__, "--build-dir", BUILD], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    print(p.stdout.decode(errors="replace"))
    assert p.returncode == 0


GOOD = [powercut.Cut("ext4", how, verdict, 9, "") for how, verdict in (("certs", "ok"), ("certs-lazy", "lost"), ("certs-upgrade-lazy", "lost"), ("certs-cp", "torn"))]


@pytest.mark.parametrize("bad", ["torn", "authority", "lost", "backup", "stuck", "ended", "unmountable", "noboot", "unseen"])
def test_one_bad_cut_is_enough(bad):
    assert certs_power.judge(GOOD)[1] == []
    assert certs_power.judge(GOOD + [powercut.Cut("ext4", "certs", bad, 9, "")])[1] == ["ext4 certs: " + bad]


@pytest.mark.parametrize("how", sorted(certs_power.CONTROLS))
def test_a_control_that_survives_is_wrong(how):
    made = [cut._replace(verdict="ok") if cut.how == how else cut for cut in GOOD]
    assert certs_power.judge(made)[1] == [how + ": not caught, so the rest proves nothing"]
