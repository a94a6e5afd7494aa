# SPDX-License-Identifier: Apache-2.0
"""Runs examples/demo.sh as a newcomer would, and looks that it shows what happened and that nothing of it is left.

Needs root for namespaces. No network: the demo runs in a network namespace without any.
"""
import fcntl
import os
import pty
import re
import shutil
import subprocess
import time
import uuid

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
DEMO = os.path.join(TOP, "examples", "demo.sh")
BUILD = os.path.join(os.environ.get("K3SUP_BUILD_DIR") or os.path.join(TOP, "build"), "demo")
SANDBOX = ["unshare", "-pfmn", "--mount-proc", "--kill-child"]
# What the sandbox has, and the host must not get from it.
PLACES = ["/usr/local/bin", "/opt", "/var/lib/rancher", "/var/lib/k3sup", "/var/log/k3s.log", "/run/demo", "/run/openrc", "/run/k3s.pid", "/etc/rancher"]

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root for namespaces")


def installed():
    return subprocess.run(["sh", TOP + "/tests/deps.sh", "check", "build", "demo"], stdout=subprocess.DEVNULL).returncode == 0


@pytest.fixture(scope="module", autouse=True)
def daemon():
    """The demo downloads what it lacks; here it must have everything."""
    if os.geteuid() != 0:
        return None
    p = subprocess.run(["sh", TOP + "/tests/deps.sh", "openrc"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    if not installed() or p.returncode != 0:
        pytest.skip("packages are missing: sh tests/deps.sh install build demo")
    return p.stdout.decode().strip()


@pytest.fixture(autouse=True)
def alone(tmp_path_factory):
    """Tests run side by side, and all demos build in the same directory."""
    os.makedirs(os.path.dirname(BUILD), exist_ok=True)
    with open(BUILD + ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture
def built(alone, daemon):
    """What the demo builds, whichever test comes first."""
    if not os.path.exists(os.path.join(BUILD, "k3sup-upgrade")):
        subprocess.run(["sh", DEMO], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)


class Traces:
    """What a run leaves: processes (known by a variable of their environment), mounts, files."""

    def __init__(self, tmp):
        self.mark = "K3SUP_TEST_MARK=%s" % uuid.uuid4()
        self.tmp = str(tmp)
        self.mounts, self.places = self.mounted(), self.found()

    def env(self, **kw):
        name, _, value = self.mark.partition("=")
        return dict(os.environ, TMPDIR=self.tmp, TERM="xterm", **{name: value}, **kw)

    @staticmethod
    def mounted():
        with open("/proc/self/mounts") as f:
            return f.read()

    @staticmethod
    def found():
        return {place: sorted(os.listdir(place)) if os.path.isdir(place) else os.path.exists(place) for place in PLACES}

    def processes(self):
        alive = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open("/proc/%s/environ" % pid, "rb") as f:
                    if self.mark.encode() in f.read():
                        alive.append(pid)
            except OSError:
                pass
        return alive

    def check(self):
        end = time.monotonic() + 5
        while self.processes() and time.monotonic() < end:
            time.sleep(0.05)
        assert self.processes() == []
        assert self.mounted() == self.mounts
        assert self.found() == self.places
        assert os.listdir(self.tmp) == []


def on_terminal(traces, until=None):
    """Runs the demo on a terminal of 100 columns; presses Ctrl-C once `until` is on it. Exit status and what was on the terminal."""
    pid, fd = pty.fork()
    if pid == 0:
        try:
            os.execvpe("sh", ["sh", "-c", "stty cols 100 rows 40; exec sh " + DEMO], traces.env())
        finally:
            os._exit(127)
    out = b""
    try:
        while True:
            try:
                more = os.read(fd, 65536)
            except OSError:  # its last process has closed the terminal
                break
            if not more:
                break
            out += more
            if until and until in out:
                assert traces.processes() != []
                os.write(fd, b"\x03")
                until = None
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), out.decode()
    finally:
        os.close(fd)


def check_story(text):
    text = re.sub(r"\x1b\[[0-9;]*[mK]", "", text).replace("\r", "\n")
    wide = [line for line in text.split("\n") if len(line) > 100]
    assert wide == []
    # the states, in their order
    assert re.findall(r"^ *state +([a-z-]+)", text, re.M) == ["current", "current", "restart-pending", "current"]
    assert len(re.findall(r"^ *upgraded: /usr/local/bin/k3s is ", text, re.M)) == 2
    assert len(re.findall(r"^ *already so: /usr/local/bin/k3s is v1.31.0\+k3s1 and runs", text, re.M)) == 1
    pids = re.findall(r"^ +pid (\d+), server", text, re.M)
    assert len(pids) == 4
    assert pids[0] != pids[1] == pids[2] != pids[3]
    assert "nothing of the host is touched" in text
    assert text.count("$ k3sup-upgrade --stable 3") == 3
    assert "All as it should be" in text


@needs_root
def test_without_a_terminal_and_without_network(tmp_path):
    traces = Traces(tmp_path)
    p = subprocess.run(["unshare", "-n", "sh", DEMO], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=traces.env(),
                       timeout=300)
    out = p.stdout.decode()
    assert p.returncode == 0, out
    check_story(out)
    assert "\x1b" not in out and "\r" not in out
    assert "telling k3s (process" in out
    traces.check()


@needs_root
def test_on_a_terminal(tmp_path):
    traces = Traces(tmp_path)
    status, out = on_terminal(traces)
    assert status == 0, out
    check_story(out)
    bars = re.findall(r"\[(#* *)\] +(\d+)% ([^\r\n\x1b]*)", out)
    assert len(bars) > 10
    assert {len(bar) for bar, _, _ in bars} == {30}
    assert any("copying" in text and 0 < int(percent) < 40 for _, percent, text in bars)
    # half-drawn while it copies: as full as the percentage says
    assert all(bar.count("#") == int(percent) * 30 // 100 for bar, percent, _ in bars)
    traces.check()


@needs_root
def test_ctrl_c_in_the_middle(tmp_path):
    traces = Traces(tmp_path)
    status, out = on_terminal(traces, until=b"telling k3s (process")
    assert status == 130, out
    assert "nothing is left of the sandbox" in out
    assert "All as it should be" not in out
    traces.check()


@needs_root
@pytest.mark.parametrize("name, change, complaint", [
    ("strikes nobody", ("signal=KILL", "signal=CONT"), "exit status 0 instead of 137"),
    ("never says pending", ("state restart-pending", "state current"), 'state is "restart-pending", not current'),
])
def test_control_changed_demo(name, change, complaint, daemon, built, tmp_path):
    """The demo's own checks can fail."""
    with open(DEMO) as f:
        text = f.read()
    assert text.count(change[0]) == 1
    script = tmp_path / "demo.sh"
    script.write_text(text.replace(*change))
    check_fails(script, BUILD, daemon, complaint)


@needs_root
def test_control_lying_program(daemon, built, tmp_path):
    for name in os.listdir(BUILD):
        if name.startswith("k3s-v") or name == "k3sup-status":
            os.symlink(os.path.join(BUILD, name), str(tmp_path / name))
    liar = tmp_path / "k3sup-upgrade"
    liar.write_text("#!/bin/sh\necho upgraded: everything\n")
    liar.chmod(0o755)
    check_fails(DEMO, tmp_path, daemon, "installed.version is \"v1.30.4+k3s1\", not v1.31.0+k3s1")


def check_fails(script, build, daemon, complaint):
    p = subprocess.run(SANDBOX + ["sh", str(script), "--inside", str(build), daemon], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT, timeout=120)
    out = p.stdout.decode()
    assert p.returncode == 1, out
    assert complaint in out
    assert "All as it should be" not in out


def test_without_root_it_says_what_it_needs():
    kw = {}
    if os.geteuid() == 0:
        if not shutil.which("setpriv"):
            pytest.skip("needs setpriv to stop being root")
        readable = subprocess.run(["setpriv", "--reuid", "65534", "--clear-groups", "test", "-r", DEMO]).returncode == 0
        if not readable:
            pytest.skip("this checkout can only be read by root")
        kw["prefix"] = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
    p = subprocess.run(kw.get("prefix", []) + ["sh", DEMO], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
    assert p.returncode == 2
    assert b"needs root" in p.stdout and b"namespaces" in p.stdout
