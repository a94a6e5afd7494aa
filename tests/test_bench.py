# SPDX-License-Identifier: Apache-2.0
"""That what tests/bench measures can be measured: one round, nothing is judged. And what needs no clock: that waiting costs nothing."""
import importlib.util
import os
import re
import shutil
import subprocess
import time

import pytest

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BENCH = os.path.join(TOP, "tests", "bench")
BUILD = os.path.abspath(os.environ.get("K3SUP_BUILD_DIR") or os.path.join(TOP, "build", "dev"))
RUN = os.path.join(BENCH, "run")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: the library wants files that are root's")
@pytest.mark.skipif(not shutil.which("go"), reason="needs Go for the stand-ins")
def test_one_round():
    p = subprocess.run([RUN, "--once"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    said = p.stdout.decode(errors="replace")
    print(said)
    assert p.returncode == 0
    assert "bench: not judged" in said
    assert "TOO MUCH" not in said


@pytest.fixture
def exits():
    spec = importlib.util.spec_from_file_location("exits", os.path.join(BENCH, "exits.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: for a process table of its own")
def test_exits_are_noticed(exits, tmp_path):
    command = exits.build(BUILD, str(tmp_path))
    for how in "library", "polling":
        exits.measure(command, how, 3)


def ready(trace):
    """Waits until what is traced waits: the library in poll(2), which strace writes down when it is over, the control in its pause."""
    end, size, since = time.monotonic() + 120, -1, time.monotonic()
    while time.monotonic() < end:
        text = trace.read_text() if trace.exists() else ""
        if len(text) != size:
            size, since = len(text), time.monotonic()
        if "clock_nanosleep(CLOCK_REALTIME, 0, {tv_sec=0, tv_nsec=50000000}" in text or "pidfd_open" in text and time.monotonic() - since > 1:
            return size
        time.sleep(0.05)
    raise AssertionError("it does not come to wait")


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("strace"), reason="needs root, and strace")
@pytest.mark.parametrize("how", ["quiet", "watching"])
def test_waiting_makes_no_system_call(exits, tmp_path, how):
    """Between the call that waits and the end of the process: none in 5 s. The control looks each 50 ms and is seen doing so."""
    trace = tmp_path / "trace"
    command = exits.build(BUILD, str(tmp_path))
    at = next(i for i, word in enumerate(command) if word.endswith("/exits"))
    command[at:at] = ["strace", "-f", "-o", str(trace)]
    p = subprocess.Popen(command + [how], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        before = ready(trace)
        time.sleep(5)
        calls = trace.read_text()[before:]
        assert (calls == "") == (how == "quiet"), calls[-2000:]
        p.stdin.write(b"x")
        p.stdin.close()
        assert re.fullmatch(rb"[0-9]+\n", p.stdout.read()) and p.wait(60) == 0
    finally:
        p.kill()
        p.wait()


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("systemd-nspawn"), reason="needs root and systemd-nspawn")
@pytest.mark.skipif(not shutil.which("go"), reason="needs Go for the stand-ins")
def test_one_round_of_downtime():
    """What is unpacked ahead is not waited for: an upgrade to a build that was never there is down for as long as a restart, not for as long as a supervisor's pause."""
    p = subprocess.run([os.path.join(BENCH, "downtime.py"), "--once"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    said = p.stdout.decode(errors="replace")
    print(said)
    assert p.returncode in (0, 2) and "TOO MUCH" not in said
    assert p.returncode == 2 or "not judged" in said
