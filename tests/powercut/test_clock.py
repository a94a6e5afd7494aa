# SPDX-License-Identifier: Apache-2.0
"""A rotation on a machine whose clock is wrong. The machine is powercut.py's: user-mode Linux has a clock of its own, so that nothing has to pretend."""
import json
import os
import re
import subprocess
import sys
import time

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import certs_power  # noqa: E402, F401 (finds certs_cut)
import powercut  # noqa: E402
from certs_cut import DATA, make_cas, make_leafs  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
BUILD = os.path.abspath(os.environ.get("K3SUP_BUILD_DIR") or os.path.join(powercut.TOP, "build", "dev"))
DAY = 86400

pytestmark = pytest.mark.skipif(powercut.cannot_run() is not None, reason=str(powercut.cannot_run()))


def runs(work, *times):
    """[(what k3sup-certs rotate said, a digest of all files but the lock)] of a stopped server at each of these times."""
    tree = os.path.join(work, "tree")
    os.makedirs(os.path.join(tree, DATA))
    make_cas(os.path.join(tree, DATA))
    make_leafs(os.path.join(tree, DATA))
    powercut.compile_programs(BUILD, work)
    argv = ["linux.uml", "mem=192M", "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro", "init=" + os.path.join(HERE, "init-clock.sh"), "con=null", "con0=null,fd:1", "quiet",
            "k3sup_tree=" + tree, "k3sup_times=" + ",".join(map(str, times)), "k3sup_program=" + os.path.join(BUILD, "k3sup-certs")]
    text = ""
    for _ in range(powercut.BOOTS):
        p = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=powercut.machine_env(work), timeout=300)
        text = p.stdout.decode(errors="replace").replace("\r", "")
        if "\nDONE" in text:
            break
    said = re.findall(r"^AT (\d+)\n(\{.*\})\nEXIT (\d+)\n([0-9a-f]{64})", text, flags=re.M)
    assert [int(at) for at, *_ in said] == list(times), text
    return [(dict(json.loads(answer), exit=int(status)), digest) for _, answer, status, digest in said]


def test_a_clock_that_cannot_be_right(tmp_path):
    """Before the library was built, in 1970, and ten minutes before the authorities were made: 3, K3SUP_E_CLOCK, nothing touched. As it should be (the control): the files are done, and
    k3s, which did not run, is left stopped."""
    now = int(time.time())
    said = runs(str(tmp_path), now - 400 * DAY, 60, now - 600, now + 60)
    for (answer, files), why in zip(said, ["before this library was built"] * 2 + ["before this cluster's authorities were made"]):
        assert (answer["exit"], answer["error"]["name"]) == (3, "K3SUP_E_CLOCK") and why in answer["error"]["message"] and answer["changed"] is False, answer
        assert files == said[0][1]
    answer, files = said[-1]
    assert answer["exit"] == 9 and answer["left_stopped"] and len(answer["retired"]) == 8 and files != said[0][1], answer
