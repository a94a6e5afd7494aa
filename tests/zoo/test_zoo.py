# SPDX-License-Identifier: Apache-2.0
"""Runs the zoo (README.md), pid reuse and hostile process tables: C programs in namespaces of their own, built with everything else."""
import os
import subprocess
import time

import pytest

TOP = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
BUILD = os.path.abspath(os.environ.get("K3SUP_BUILD_DIR") or os.path.join(TOP, "build", "dev"))
FULL = os.environ.get("K3SUP_TEST_FULL") == "1"
SEED = int(os.environ.get("K3SUP_ZOO_SEED") or time.time())
PARTS = 4 # side by side under pytest-xdist


def run(program, *arguments):
    done = subprocess.run([os.path.join(BUILD, "tests", program)] + [str(a) for a in arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, timeout=3600)
    print(done.stdout)
    if done.returncode == 77:
        pytest.skip(done.stdout.strip().split("\n")[-1])
    assert done.returncode == 0, "%s %s: exit status %d\n%s" % (program, " ".join(map(str, arguments)), done.returncode, done.stdout)
    return done.stdout


@pytest.mark.parametrize("part", range(PARTS))
def test_zoo(part):
    """No wrong target, no refusal because of a stranger, no file that a stranger chose; and each known mistake is caught in the same run."""
    tables = (5000 if FULL else 500) // PARTS
    out = run("zoo", SEED, part * tables, tables)
    assert "%d tables" % tables in out and " 0 wrong targets, 0 refusals, 0 times" in out, out
    assert out.count(": caught after") == 5, out


def test_reuse():
    """A number that is given to somebody else before the library takes hold, before it signals, or in between: nobody else is hit; kill(2) by number does hit."""
    count = 10000 if FULL else 1000
    out = run("reuse", count)
    assert "reuse: %d forced, 0 innocents hit; by number 3 of 3" % count in out, out


def test_hostile():
    """Processes that vanish at each read, storms of forks, 2 MB of arguments, arguments that are never answered: the genuine one is found, in bounded time."""
    assert "200 scans in a storm" in run("hostile")
