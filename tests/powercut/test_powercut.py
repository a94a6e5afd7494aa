# SPDX-License-Identifier: Apache-2.0
"""The swap and the upgrade, with the power cut at random instants. What is checked, and how, is in powercut.py."""
import collections
import os
import subprocess
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import powercut  # noqa: E402
import replay  # noqa: E402

BUILD = os.path.abspath(os.environ.get("K3SUP_BUILD_DIR") or os.path.join(powercut.TOP, "build", "dev"))

pytestmark = pytest.mark.skipif(powercut.cannot_run() is not None, reason=str(powercut.cannot_run()))


def test_power_cuts():
    if not os.path.exists(os.path.join(BUILD, "libk3sup.so.0")):
        pytest.skip("there is no library in %s: build first" % BUILD)
    p = subprocess.run([sys.executable, powercut.__file__, "--build-dir", BUILD], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    print(p.stdout.decode(errors="replace"))
    assert p.returncode == 0


@pytest.mark.skipif(replay.cannot_run() is not None, reason=str(replay.cannot_run()))
def test_replay_of_what_was_written():
    if not os.path.exists(os.path.join(BUILD, "libk3sup.so.0")):
        pytest.skip("there is no library in %s: build first" % BUILD)
    p = subprocess.run([sys.executable, replay.__file__, "--build-dir", BUILD], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    print(p.stdout.decode(errors="replace"))
    assert p.returncode == 0


@pytest.mark.parametrize("how, words, right", [("swap", ["ok"], True), ("upgrade", ["ok", "lost"], False), ("upgrade", ["ok", "unmountable"], False),
                                               ("lazy", ["ok", "lost"], True), ("lazy", ["ok"], False), ("cp", ["ok", "torn", "unseen"], False)])
def test_what_a_replay_says_is_judged(how, words, right):
    assert replay.judge(how, collections.Counter(words)) == right


CUTS = [("ext4", "swap", "ok"), ("ext4", "cp", "torn"), ("ext4", "stage", "ok"), ("ext4", "cp-image", "lost"), ("ext4", "unpack", "ok"), ("ext4", "unpack-lazy", "torn")]


@pytest.mark.parametrize("how", ["swap", "stage", "unpack"])
@pytest.mark.parametrize("bad", ["torn", "missing", "lost", "backup", "visible", "unreadable", "stuck", "ended", "unmountable", "noboot", "unseen"])
def test_one_bad_cut_is_enough(bad, how):
    made = [powercut.Cut(fs, how, verdict, 9, "") for fs, how, verdict in CUTS]
    assert powercut.judge(made)[1] == []
    assert powercut.judge(made + [powercut.Cut("ext4", how, bad, 9, "")])[1] == ["ext4 %s: %s" % (how, bad)]


@pytest.mark.parametrize("bad", ["missing", "ended", "unmountable", "noboot", "unseen"])
def test_a_control_is_caught_for_its_own_mistake(bad):
    made = [powercut.Cut(fs, how, verdict, 9, "") for fs, how, verdict in CUTS]
    assert powercut.judge(made + [powercut.Cut("ext4", "cp", bad, 9, "")])[1] == ["ext4 cp: " + bad]


@pytest.mark.parametrize("how", ["cp", "cp-image", "unpack-lazy"])
def test_a_control_that_survives_is_wrong(how):
    made = [powercut.Cut("ext4", "swap", "ok", 9, ""), powercut.Cut("ext4", how, "ok", 9, "")]
    assert len(powercut.judge(made)[1]) == 1
