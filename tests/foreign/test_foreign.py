# SPDX-License-Identifier: Apache-2.0
"""Roots that others fill and change: random link forests against a chroot, a racer, a renamer. What is checked, and how, is in *.c beside this."""
import os
import random
import re
import subprocess

import pytest

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PROGRAM = os.path.join(os.path.abspath(os.environ.get("K3SUP_BUILD_DIR") or os.path.join(TOP, "build", "dev")), "tests", "foreign")
FULL = bool(os.environ.get("K3SUP_TEST_FULL"))
# 100,000 in parts, so that two of them can run side by side.
PARTS = 20 if FULL else 1
FORESTS = 5000 if FULL else 1000

pytestmark = [pytest.mark.skipif(os.geteuid() != 0, reason="needs root for a mount namespace"),
              pytest.mark.skipif(not os.path.exists(PROGRAM), reason="there is no " + PROGRAM + ": build first")]


def run(*args):
    done = subprocess.run([PROGRAM] + [str(a) for a in args], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    print(done.stdout)
    assert done.returncode == 0, done.stdout[-3000:]
    return done.stdout


@pytest.mark.parametrize("part", range(PARTS))
def test_forests_look_as_they_do_to_a_chrooted_process(part):
    seed = random.SystemRandom().randrange(1 << 31)
    said = run("forests", FORESTS, seed)
    assert re.search(r"forests: %d from seed %d: 0 differences, \d+ opens, 0 outside" % (FORESTS, seed), said)


def test_a_racer_never_changes_a_canary_outside():
    assert "canaries outside: untouched" in run("racer", 20000 if FULL else 500)


def test_a_renamer_never_causes_a_refusal():
    assert " 0 refused" in run("renamer", 100000 if FULL else 5000)
