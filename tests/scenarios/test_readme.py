# SPDX-License-Identifier: Apache-2.0
"""The README's example in C: compiled as a user would, and run on a node. It tells newcomers what the library looks like, so it has to be true."""
import json
import os
import re
import subprocess

from node import BUILD, TOP
from sandbox import LIBRARY


def example():
    with open(os.path.join(TOP, "README.md")) as f:
        blocks = re.findall(r"^```c\n(.*?)^```$", f.read(), re.M | re.S)
    assert len(blocks) == 1, "%d C examples in the README" % len(blocks)
    assert len(blocks[0].strip().split("\n")) <= 24, "the README speaks of a short example"
    return blocks[0]


def test_readme_example_upgrades_a_node(make, old, new, tmp_path):
    env = dict(os.environ, PKG_CONFIG_PATH=os.path.join(BUILD, "pkgconfig"))
    flags = subprocess.check_output(["pkg-config", "--cflags", "--libs", "libk3sup"], env=env, text=True).split()
    program = str(tmp_path / "upgrade")
    subprocess.run(["cc", "-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-x", "c", "-", "-o", program] + flags, input=example(), text=True, check=True)

    node = make()
    node.install(old)
    before = node.start()
    node.sb.copy(program, "/opt/upgrade")
    argv = ["/opt/upgrade", node.payload(new)]
    said = [node.sb.run(argv, env={"LD_LIBRARY_PATH": LIBRARY}) for _ in range(2)]

    assert [s.status for s in said] == [0, 0], said[0].out + said[0].err
    results = [json.loads(s.out.split(": ", 1)[1]) for s in said]
    assert [r["changed"] for r in results] == [True, False]
    assert results[0]["running"]["pid"] == results[1]["running"]["pid"] != before["pid"]
    assert results[0]["running"]["version"] == "v1.30.5+k3s1"
