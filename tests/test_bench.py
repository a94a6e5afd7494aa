# SPDX-License-Identifier: Apache-2.0
"""That what tests/bench measures can be measured: one round, nothing is judged."""
import os
import shutil
import subprocess

import pytest

RUN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "bench", "run")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: the library wants files that are root's")
@pytest.mark.skipif(not shutil.which("go"), reason="needs Go for the stand-ins")
def test_one_round():
    p = subprocess.run([RUN, "--once"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    said = p.stdout.decode(errors="replace")
    print(said)
    assert p.returncode == 0
    assert "bench: not judged" in said
    assert "TOO MUCH" not in said
