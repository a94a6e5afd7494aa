# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the scenario tests.

K3SUP_BUILD_DIR      where the library and the programs were built (default build/dev)
K3SUP_PROGRAM_DIR    where k3sup-status and k3sup-upgrade are (default: the same); test_controls.py points it at programs that do as others do
K3SUP_STANDIN_CACHE  where built stand-ins are kept (default: in the build directory)
"""
import os
import shutil
import subprocess

import pytest

from node import BUILD, TOP, Maker, asset_hash
from sandbox import HERE

COMMIT = "0123abcd"


def why_not():
    if os.geteuid() != 0:
        return "needs root for namespaces"
    if subprocess.run(["unshare", "-pfm", "--mount-proc", "true"], stderr=subprocess.DEVNULL).returncode != 0:
        return "namespaces cannot be made here"
    for path in ("/usr/bin/k3s", "/bin/k3s"):
        if os.path.lexists(path):
            return "this machine has a k3s of its own: " + path
    return None


def pytest_collection_modifyitems(items):
    mine = [i for i in items if str(i.fspath).startswith(HERE + os.sep)]
    reason = why_not() if mine else None
    for item in mine:
        if reason:
            item.add_marker(pytest.mark.skip(reason=reason))


class Standins:
    """Stand-ins for k3s releases, built when they are asked for."""

    def __init__(self, directory):
        self.directory, self.made = directory, {}

    def __call__(self, version, era="2024", size="small", *misbehave, built=None):
        key = (version, era, size) + misbehave + ((built,) if built else ())
        if key not in self.made:
            out = os.path.join(self.directory, "-".join(key).replace("+", "_"), "k3s")
            more = [word for m in misbehave for word in ("--default-misbehave", m)] + (["--build-date", built] if built else [])
            env = dict(os.environ, K3SUP_BUILD_DIR=BUILD)
            subprocess.check_call(["sh", os.path.join(TOP, "tests", "standin", "build.sh"), "--version", version, "--commit", COMMIT, "--era", era,
                                   "--size", size, "-o", out] + more, env=env)
            self.made[key] = out
        return self.made[key]


@pytest.fixture(scope="session")
def standin():
    return Standins(os.path.join(BUILD, "scenario-standins"))


@pytest.fixture(scope="session")
def old(standin):
    """What is installed."""
    return standin("v1.30.4+k3s1")


@pytest.fixture(scope="session")
def new(standin):
    """What it is to become."""
    return standin("v1.30.5+k3s1")


@pytest.fixture(scope="session")
def other(standin):
    """A third build."""
    return standin("v1.30.6+k3s1")


@pytest.fixture(scope="session")
def minor(standin):
    """The same sources as `new`, one minor version on."""
    return standin("v1.31.2+k3s1")


@pytest.fixture(scope="session")
def sleeper(tmp_path_factory):
    """A program that does nothing, whatever its arguments are."""
    out = str(tmp_path_factory.mktemp("sleeper") / "sleeper")
    subprocess.run(["cc", "-x", "c", "-o", out, "-"], input=b"#include <unistd.h>\nint main(void) { for (;;) pause(); }\n", check=True)
    return out


@pytest.fixture(scope="session")
def clock(tmp_path_factory):
    """clock(RATE, SECONDS): the environment of a program whose clock of deadlines goes that much faster, and is ahead by so many seconds. In a sandbox it lies in /mnt."""
    out = str(tmp_path_factory.mktemp("clock") / "clock.so")
    subprocess.run([os.environ.get("CC", "cc"), "-std=c17", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", out,
                    os.path.join(HERE, "clock.c"), "-ldl"], check=True)

    def of(node, rate=1, seconds=0):
        node.sb.copy(out, "/mnt/clock.so")
        return {"LD_PRELOAD": "/mnt/clock.so", "K3SUP_TEST_CLOCK": "%d %d" % (rate, seconds), "ASAN_OPTIONS": "verify_asan_link_order=0"}
    return of


@pytest.fixture(scope="session")
def inner(tmp_path_factory):
    """The program that a wrapper unpacks, as a file of its own."""
    top, made = tmp_path_factory.mktemp("inner"), {}

    def unpack(binary):
        if binary not in made:
            maker = Maker()
            try:
                node = maker()
                node.install(binary)
                made[binary] = str(top / asset_hash(binary))
                with open(made[binary], "wb") as f:
                    f.write(node.sb.read(node.start()["exe"]))
            finally:
                maker.close()
        return made[binary]
    return unpack


@pytest.fixture
def make():
    maker = Maker()
    yield maker
    maker.close()


@pytest.fixture(scope="session")
def supervise_daemon():
    """OpenRC's real one, unpacked somewhere: (program, library path)."""
    p = subprocess.run(["sh", os.path.join(TOP, "tests", "deps.sh"), "openrc"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if p.returncode != 0:
        pytest.skip("no supervise-daemon: " + p.stderr.strip().split("\n")[-1])
    return p.stdout.strip(), p.stderr.strip().split("LD_LIBRARY_PATH=")[-1]


@pytest.fixture(scope="session")
def strace():
    found = shutil.which("strace")
    if not found:
        pytest.skip("needs strace")
    return found
