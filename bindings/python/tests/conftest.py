# SPDX-License-Identifier: Apache-2.0
import os
import re
import subprocess
import sys

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(os.path.dirname(HERE)))
BUILD = os.environ.get("K3SUP_BUILD_DIR") or os.path.join(TOP, "build", "dev")
os.environ.setdefault("K3SUP_LIBRARY", os.path.join(BUILD, "libk3sup.so"))
sys.path.insert(0, os.path.dirname(HERE))


@pytest.fixture(scope="session")
def headers():
    """The public headers, without comments."""
    where = os.path.join(TOP, "include", "k3sup")
    texts = {}
    for name in sorted(os.listdir(where)):
        with open(os.path.join(where, name)) as f:
            texts[name] = re.sub(r"/\*.*?\*/", " ", f.read(), flags=re.S)
    return texts


@pytest.fixture(scope="session")
def standin(tmp_path_factory):
    """standin("v1.30.4+k3s1"): the path of such a stand-in k3s. Each run has files of its own: runs side by side would replace each other's."""
    top = tmp_path_factory.mktemp("standins")

    def get(version):
        out = str(top / version / "k3s")
        subprocess.check_call(["sh", os.path.join(TOP, "tests", "standin", "build.sh"), "--version", version, "--era", "2024",
                               "--size", "small", "-o", out])
        return out
    return get


@pytest.fixture
def root(tmp_path):
    """A node's root with an installed file that is no k3s."""
    where = tmp_path / "root" / "usr" / "local" / "bin"
    where.mkdir(parents=True)
    (where / "k3s").write_bytes(b"\x7fELF" + bytes(5000))
    for path in (where / "k3s", where, where.parent, where.parent.parent, tmp_path / "root"):
        path.chmod(0o755)
    return str(tmp_path / "root")
