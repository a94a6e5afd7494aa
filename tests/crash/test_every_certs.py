# SPDX-License-Identifier: Apache-2.0
"""certs_cut.py's campaigns: a slice in every run, all points and more faults with K3SUP_TEST_FULL=1; and its control."""
import os
import re
import shutil
import subprocess
import sys

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
BUILD = os.path.abspath(os.environ.get("K3SUP_BUILD_DIR") or os.path.join(TOP, "build", "dev"))
FULL = bool(os.environ.get("K3SUP_TEST_FULL"))
FAULTS = ("KILL", "ENOSPC", "EIO") if FULL else ("KILL",)

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


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("verb", ["retire", "restore"])
def test_every_point(driver, tmp_path, verb, fault):
    (points, struck, bad), said = campaign(driver, tmp_path, verb, fault, 1 if FULL else 19)
    assert points > 20 and struck == points and bad == 0, said


def test_the_wrong_order_is_caught(driver, tmp_path):
    """A pair that is taken away certificate first, cut in between, leaves a key that no start mends."""
    (_, _, bad), said = campaign(driver, tmp_path, "wrong-order", "KILL", 1)
    assert bad > 0 and "a key without its certificate" in said
