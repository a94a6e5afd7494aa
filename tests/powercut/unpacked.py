# SPDX-License-Identifier: Apache-2.0
"""The part of powercut.py that is about data/<H>: payloads that unpack themselves (tests/unpacker.c), and what a cut may leave of what they made.

Of what was acknowledged nothing may be missing or torn. What comes behind it may be torn, as k3s syncs nothing: one more run has to put it aside and to unpack it anew. So it has to with
what unpack-lazy leaves, which is what k3s itself does: that is torn almost always.
"""
import os
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from archive import archive  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
DATA = "var/lib/rancher/k3s/data"
COUNT = 150  # more than can be unpacked before the longest cut
MOST = 10
WHOLE = {"k3s", ".sha256sums", ".links", "containerd", "k3s-server"}


def make_payloads(programs):
    """template.N, and its hash in template.N.hash."""
    unpacker = os.path.join(programs, "unpacker")
    subprocess.check_call([os.environ.get("CC", "cc"), "-std=c17", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-Werror", "-static", "-s", "-o", unpacker,
                           os.path.join(os.path.dirname(HERE), "unpacker.c")])
    with open(unpacker, "rb") as f:
        program = f.read()
    for n in range(COUNT):
        frame, name = archive(b"unpacked %d" % n)
        with open(os.path.join(programs, "template.%d" % n), "wb") as f:
            f.write(program + frame + name + b"\0v1.31.%d+k3s1\0" % n)
        os.chmod(os.path.join(programs, "template.%d" % n), 0o755)
        with open(os.path.join(programs, "template.%d.hash" % n), "wb") as f:
            f.write(name.split(b"/")[1].split(b".")[0])


def hash_of(programs, n):
    with open(os.path.join(programs, "template.%d.hash" % n)) as f:
        return f.read()


def what_is_wrong(where):
    """With a data/<H>: "lost", "torn" and why, or None."""
    if not os.path.isdir(where):
        return "lost", where
    try:
        there = set(os.listdir(os.path.join(where, "bin")))
        with open(os.path.join(where, "bin", ".sha256sums")) as f:
            lines = f.read().splitlines()
        p = subprocess.run(["sha256sum", "--quiet", "-c", ".sha256sums"], cwd=os.path.join(where, "bin"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    except OSError as e:
        return "torn", str(e)
    if there != WHOLE or len(lines) != 1 or p.returncode != 0:
        return "torn", "%s: %s, %d lines, %s" % (where, sorted(there), len(lines), p.stdout.decode(errors="replace"))
    return None


def heal(mnt, programs, first, count):
    """The library unpacks these, torn or not. What is wrong then, or None."""
    data = os.path.join(mnt, DATA)
    # Who uses a torn one is looked up in /proc, where others on this machine may not let themselves be looked at.
    p = subprocess.run(["unshare", "-pf", "--mount-proc", os.path.join(programs, "driver"), "unpack", mnt, os.path.join(programs, "template"), "0", str(first), str(count)],
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    wrong = [w for w in (what_is_wrong(os.path.join(data, hash_of(programs, n))) for n in range(first, first + count)) if w]
    litter = [n for n in os.listdir(data) if len(n) != 64 and n not in (".lock", "current", "previous")]
    return "%s %s %s" % (wrong, litter, p.stdout.decode(errors="replace")[-600:]) if p.returncode != 0 or wrong or litter else None


def look_at(how, mnt, last, programs):
    found = ["ok", ""]
    for n in range(1, last + 1):
        wrong = what_is_wrong(os.path.join(mnt, DATA, hash_of(programs, n)))
        if wrong:
            found = [wrong[0], "number %d, acknowledged %d: %s" % (n, last, wrong[1])]
            break
    if how == "unpack" and found[0] != "ok":
        return found
    # What k3s would have left torn for ever: of the last acknowledged ones, where nothing was synced.
    behind = what_is_wrong(os.path.join(mnt, DATA, hash_of(programs, last + 1)))
    first = last + 1 if how == "unpack" else max(1, last - MOST)
    wrong = heal(mnt, programs, first, last + 3 - first)
    return ["stuck", wrong] if wrong else [found[0], found[1] or "%d, behind it: %s" % (last, behind[0] if behind else "whole")]
