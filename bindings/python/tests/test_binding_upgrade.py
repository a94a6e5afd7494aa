# SPDX-License-Identifier: Apache-2.0
"""Whole upgrades of a stand-in node, each in a pid and mount namespace of its own. What is done there is in inside.py."""
import os
import subprocess
import sys

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root for namespaces")


@pytest.mark.parametrize("scenario, last", [
    ("upgrade", "changed, then already so"),
    ("cancel", "cancelled, then not"),
    ("processes", "signalled and started again"),
    ("certificates", "checked"),
    ("aio", "awaited"),
    ("example", "shown"),
])
def test_a_node_is_upgraded(scenario, last, standin, tmp_path):
    root = tmp_path / "host"
    root.mkdir(mode=0o755)
    command = ["unshare", "--pid", "--fork", "--kill-child", "--mount", "--mount-proc", "--net", sys.executable, os.path.join(HERE, "inside.py"),
               scenario, str(root), standin("v1.30.4+k3s1"), standin("v1.31.2+k3s1")]
    env = dict(os.environ, PYTHONPATH=os.path.dirname(HERE), PYTHONDONTWRITEBYTECODE="1")
    done = subprocess.run(command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120)
    said = done.stdout.decode(errors="replace")
    assert done.returncode == 0 and said.splitlines()[-1:] == [last], said
