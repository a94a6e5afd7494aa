#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How soon after a process has ended the library notices it, beside a control that looks each 50 ms.

    exits.py [--build-dir DIR] [--once] [--count N]

--once: a few only, nothing is judged. Exit status: 0 within the bounds (and the control is not), 1 not, 2 cannot run here.
"""
import argparse
import os
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
BIN = "var/lib/rancher/k3s/data/91c5255cd9e1a0963458722d37dec9477c99a25602c838b553f2cb852bde4dde/bin/k3s-server"
MEDIAN, P99 = 2.0, 20.0  # ms


def build(build_dir, work):
    """The driver, and a root with a k3s of its own. Returns the command to which its arguments are added."""
    driver, root = os.path.join(work, "exits"), os.path.join(work, "root")
    env = dict(os.environ, PKG_CONFIG_PATH=os.path.join(build_dir, "pkgconfig") + ":" + os.environ.get("PKG_CONFIG_PATH", ""))
    flags = subprocess.check_output(["pkg-config", "--cflags", "--libs", "libk3sup"], env=env).decode().split()
    subprocess.check_call([os.environ.get("CC", "cc"), "-std=c17", "-D_GNU_SOURCE", "-D_FILE_OFFSET_BITS=64", "-O2", "-Wall", "-Wextra", "-Werror",
                           "-o", driver, os.path.join(HERE, "exits.c")] + flags + ["-Wl,-rpath," + build_dir])
    os.makedirs(os.path.join(root, os.path.dirname(BIN)))
    shutil.copy(driver, os.path.join(root, os.path.dirname(BIN), "k3s"))
    os.symlink("k3s", os.path.join(root, BIN))
    return ["unshare", "-pfm", "--mount-proc", "--kill-child", driver, root]


def measure(command, how, count):
    """Milliseconds, sorted."""
    text = subprocess.check_output(command + [how, str(count)], stdin=subprocess.DEVNULL).decode()
    times = sorted(int(line) / 1000 for line in text.split())
    assert len(times) == count, "%d of %d" % (len(times), count)
    median, p99 = times[len(times) // 2], times[min(len(times) - 1, len(times) * 99 // 100)]
    print("%-8s %4d exits noticed: median %6.2f ms, p99 %6.2f ms, worst %6.2f ms" % (how, count, median, p99, times[-1]), flush=True)
    return median <= MEDIAN and p99 <= P99


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--build-dir", default=os.environ.get("K3SUP_BUILD_DIR") or os.path.join(TOP, "build", "dev"))
    p.add_argument("--once", action="store_true")
    p.add_argument("--count", type=int, default=1000)
    a = p.parse_args()
    if os.geteuid() != 0:
        print("exits: needs root: for a process table of its own", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="k3sup-bench-") as work:
        command = build(os.path.abspath(a.build_dir), work)
        print("load %.1f" % os.getloadavg()[0], flush=True)
        fine = measure(command, "library", 5 if a.once else a.count)
        control = measure(command, "polling", 5 if a.once else 100)
    if a.once:
        print("exits: not judged")
        return 0
    print("exits: median at most %.0f ms, p99 at most %.0f ms: %s; the control: %s" % (
        MEDIAN, P99, "ok" if fine else "TOO LATE", "within them, so they say nothing" if control else "not within them, as it has to be"))
    return int(not fine or control)


if __name__ == "__main__":
    sys.exit(main())
