# SPDX-License-Identifier: Apache-2.0
"""certs_cut.py's campaigns: a slice of the points in every run, all of them with K3SUP_TEST_FULL=1; and programs with one mistake each."""
import os
import re
import shutil
import subprocess
import sys

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
from every_syscall import ERRNOS  # noqa: E402

TOP = os.path.dirname(os.path.dirname(HERE))
BUILD = os.path.abspath(os.environ.get("K3SUP_BUILD_DIR") or os.path.join(TOP, "build", "dev"))
FULL = bool(os.environ.get("K3SUP_TEST_FULL"))
# (fault, each how many-th point) of an ordinary run.
PLAN = [("KILL", 1 if FULL else 61)] + [(fault, 1 if FULL else 211) for fault in ERRNOS]
# The mistake, at which points it is looked for (0: it shows without a fault), and how it shows.
MISTAKES = [("wrong-order", 1, "a key without its certificate"), ("no-fsync", 0, "was not synced after"), ("new-ca", 0, "an authority is not what it was"),
            ("open-copy", 0, "client-admin.key was made with mode 0644"), ("plain-copy", 1, "a key that does not fit")]

pytestmark = [pytest.mark.skipif(os.geteuid() != 0, reason="needs root for namespaces"), pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")]


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    out = str(tmp_path_factory.mktemp("driver") / "driver-certs")
    subprocess.check_call(["cc", "-I", os.path.join(TOP, "include"), "-o", out, os.path.join(HERE, "driver-certs.c"), "-L", BUILD, "-lk3sup"])
    return out


def campaign(driver, work, verb, fault, step):
    env = dict(os.environ, LD_LIBRARY_PATH=BUILD, PYTHONDONTWRITEBYTECODE="1")
    done = subprocess.run(["unshare", "-pfm", "--mount-proc", "--kill-child", sys.executable, os.path.join(HERE, "certs_cut.py"), driver, str(work), verb, fault,
                           str(step)], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    said = done.stdout.decode(errors="replace")
    print(said)
    match = re.search(r"^(\d+) points, (\d+) struck, (\d+) bad$", said, flags=re.M)
    assert done.returncode == 0 and match, said
    return [int(n) for n in match.groups()], said


@pytest.mark.parametrize("fault,step", PLAN, ids=[fault for fault, _ in PLAN])
@pytest.mark.parametrize("verb", ["retire", "restore"])
def test_every_point(driver, tmp_path, verb, fault, step):
    (points, struck, bad), said = campaign(driver, tmp_path, verb, fault, step)
    assert points > 7 and struck == points and bad == 0, said


@pytest.mark.parametrize("verb,step,how", MISTAKES, ids=[m[0] for m in MISTAKES])
def test_a_mistake_is_found_out(driver, tmp_path, verb, step, how):
    """Programs with one mistake each: what the campaign looks at would show them."""
    (_, _, bad), said = campaign(driver, tmp_path, verb, "KILL", step)
    assert bad > 0 and how in said, said
