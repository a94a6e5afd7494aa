#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Cuts the power of a machine while it retires and restores leaf certificates, or rotates them, by itself or with an upgrade, many times, and looks at the disk afterwards.

    certs_power.py [--build-dir DIR] [--full] [--fs WORD] [--how WORD] [--cuts N] [--machines N] [-v]

The machines are powercut.py's, the worker is driver-certs.c, or of a rotation crash/driver-rotate.c, whose k3s and service manager are scripted. After the cut:

torn        a key whose certificate is not there, or is not its own; or the k3s file is not one whole build
authority   an authority is not byte for byte what it was
lost        what was acknowledged does not hold: leafs that were retired are there, others than those that were restored are, or their backup is not there. A rotation's next one
            may have begun, of which new leafs come; so three sets take turns, and as many builds
backup      a backup that has its name is not whole, or others can read it
stuck       one more retire fails, or leaves leafs or litter; one more rotation, after the start of k3s that a boot is, fails, or leaves old leafs, another build or litter
ended, unmountable, noboot, unseen    as in powercut.py

Controls: the same without any fsync must lose something (of an upgrade with --full); a restore by plain copy must tear a pair, or lose something.
Exit status: 0 passed, 1 something is wrong, 2 cannot run here.
"""
import argparse
import collections
import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

import powercut

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "crash"))
import certs_cut  # noqa: E402
from certs_cut import CAS, DATA, KEPT, PAIRS, backups, cas, leaf_set, leafs, whole_node  # noqa: E402

ROTATIONS = ("certs-rotate", "certs-upgrade")
VERBS = ("certs",) + ROTATIONS
K3S = "usr/local/bin/k3s"
CONTROLS = {"certs-lazy": {"lost", "torn", "backup"}, "certs-upgrade-lazy": {"lost", "torn", "backup", "stuck"}, "certs-cp": {"torn", "lost"}}
THIRD = {"a": "c", "b": "a", "c": "b"}  # neither this one nor the next
Cut = powercut.Cut


def compile_driver(build, into):
    powercut.compile_programs(build, into)
    env = dict(os.environ, PKG_CONFIG_PATH=os.path.join(build, "pkgconfig"))
    flags = subprocess.check_output(["pkg-config", "--cflags", "--libs", "libk3sup"], env=env).decode().split()
    subprocess.check_call([os.environ.get("CC", "cc"), "-std=c17", "-D_GNU_SOURCE", "-D_FILE_OFFSET_BITS=64", "-O2", "-Wall", "-Wextra", "-Werror",
                           "-o", os.path.join(into, "driver"), os.path.join(HERE, "driver-certs.c")] + flags + ["-Wl,-rpath," + build])
    shutil.copy(os.path.join(build, "tests", "driver-rotate"), os.path.join(into, "driver-rotate"))


# ---- in a mount namespace of its own ----

def inside(action, *args):
    argv = ["unshare", "--mount", "--propagation", "private", sys.executable, os.path.abspath(__file__), "--inside", action] + [str(a) for a in args]
    p = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300)
    if p.returncode != 0:
        return ["unseen", p.stdout.decode(errors="replace")[-2000:]]
    return json.loads(p.stdout.decode().splitlines()[-1])


def make_tree(where):
    """Authorities, and two sets of leafs under them. Also kept beside the disk, to compare with."""
    data = os.path.join(where, DATA)
    os.makedirs(data, mode=0o755)
    certs_cut.make_cas(data)
    for name in "ab":
        certs_cut.make_leafs(data)
        for pair in PAIRS:
            for suffix in (".crt", ".key"):
                to = os.path.join(where, "sets", name, DATA, pair + suffix)
                os.makedirs(os.path.dirname(to), exist_ok=True)
                os.rename(os.path.join(data, pair + suffix), to)
    # The worker takes them from /sets/a/server/...
    for name in "ab":
        os.makedirs(os.path.join(where, "sets", name), exist_ok=True)
        for top in ("server", "agent"):
            os.symlink(os.path.join(DATA, top), os.path.join(where, "sets", name, top))


def make_rotated(programs):
    """What rotations begin with: a node, three sets of leafs, and as many builds."""
    top = os.path.join(programs, "tree/rotated")
    assert subprocess.run([os.path.join(programs, "driver-rotate"), "make", top]).returncode == 10
    shutil.rmtree(os.path.join(top, "pool"))


def format_disk(fs, image, programs):
    size, mkfs, _ = powercut.DISKS[fs]
    with open(image, "wb") as f:
        f.truncate(size << 20)
    subprocess.check_call(mkfs + [image], stdout=subprocess.DEVNULL)
    powercut.mount(fs, image, image + ".mnt")
    shutil.copytree(os.path.join(programs, "tree"), image + ".mnt", symlinks=True, dirs_exist_ok=True)
    subprocess.check_call(["umount", image + ".mnt"])
    return ["made", ""]


def look_at(how, word, name, mnt, programs):
    rotates, upgrades = how.startswith(ROTATIONS), how.startswith("certs-upgrade")
    tree = os.path.join(programs, "tree", "rotated" if rotates else "")
    node, made = (os.path.join(mnt, "rotated/root"), os.path.join(tree, "root")) if rotates else (mnt, tree)
    pairs, authorities = whole_node(made) if rotates else (list(PAIRS), CAS)
    sets = {one: leaf_set(tree, one, pairs) for one in "abcd"} if rotates else {one: leafs(os.path.join(tree, "sets", one)) for one in "ab"}
    now = leafs(node, pairs)
    if cas(node, authorities) != cas(made, authorities):
        return ["authority", ""]
    builds = {one: certs_cut.read_file(os.path.join(tree, "payload", "123"["abc".index(one)], "k3s")) for one in "abc" if upgrades}
    installed = certs_cut.read_file(os.path.join(node, K3S))
    if upgrades and installed not in builds.values():
        return ["torn", "%s: %s" % (K3S, "missing" if installed is None else "%d bytes" % len(installed))]
    for pair, (crt, key) in now.items():
        if key is not None and (crt, key) not in [sets[one][pair] for one in sets]:
            return ["torn", "%s: %s" % (pair, "no certificate" if crt is None else "%d and %d bytes" % (len(crt), len(key)))]
    found, modes = backups(node)
    if modes or not all(found.values()):
        return ["backup", "%s %s" % (modes, found)]
    # What may be there behind the last acknowledgement: what the worker was about to do then.
    forbidden = {"restored": {"a": "b", "b": "a"}, "gone": {"a": "a", "b": "b"}, "rotated": THIRD, "upgraded": THIRD}.get(word, {}).get(name)
    for pair, (crt, key) in now.items():
        if key is not None and forbidden and (crt, key) == sets[forbidden][pair]:
            return ["lost", "%s of set %s behind '%s %s'" % (pair, forbidden, word, name)]
    if upgrades and forbidden and installed == builds[forbidden]:
        return ["lost", "the build of set %s behind '%s %s'" % (forbidden, word, name)]
    kept = forbidden if rotates else name
    if word and not holds(node, found, sets[kept]):
        return ["lost", "there is no backup of set %s: %s" % (kept, found)]
    return finish(mnt, programs, how, node, sets, builds.get("a"))


def holds(node, found, leafs_of_set):
    for name in found:
        if all(certs_cut.read_file(os.path.join(node, KEPT, name, pair + suffix)) == half for pair, pair_of_set in leafs_of_set.items()
               for suffix, half in zip((".crt", ".key"), pair_of_set)):
            return True
    return False


def finish(mnt, programs, how, node, sets, build):
    rotates = how.startswith(ROTATIONS)
    argv = [os.path.join(programs, "driver-rotate"), "finish-upgrade" if build else "finish", os.path.join(mnt, "rotated")] if rotates else \
        [os.path.join(programs, "driver"), "certs-finish", mnt, "-", "0", "1", "1"]
    p = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    left = [os.path.join(where, n) for where, dirs, names in os.walk(os.path.join(node, "var/lib")) for n in names + dirs if n.startswith(".tls-") or "k3sup-tmp" in n]
    now = leafs(node, sets["a"])
    right = now == sets["d"] and build in (None, certs_cut.read_file(os.path.join(node, K3S))) if rotates else not any(half for pair in now.values() for half in pair)
    if p.returncode != (10 if rotates else 0) or left or not right:
        return ["stuck", "%s %s" % (left, p.stdout.decode(errors="replace")[-600:])]
    return ["ok", ""]


def look(fs, image, how, word, name, programs):
    mnt = image + ".mnt"
    with open(os.path.join(programs, "lock"), "w") as lock:
        if fs == "btrfs":
            fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            powercut.mount(fs, image, mnt)
        except OSError as e:
            return ["unmountable", str(e)]
        try:
            return look_at(how, word, name, mnt, programs)
        finally:
            subprocess.check_call(["umount", mnt])


# ---- cuts ----

def one_cut(fs, how, word, base, programs):
    with tempfile.TemporaryDirectory(prefix="cut-", dir=programs) as work:
        image, text = os.path.join(work, "disk"), None
        for _ in range(powercut.BOOTS):
            subprocess.check_call(["cp", "--sparse=always", "--reflink=auto", base, image])
            text = powercut.boot_and_cut(fs, how, word, image, programs)
            if text:
                break
        if not text:
            return Cut(fs, how, "noboot", 0, powercut.said(image + ".log").decode(errors="replace")[-600:])
        if "WORKER ENDED" in text:
            return Cut(fs, how, "ended", 0, text[-600:])
        acks = re.findall(r"^ACK \d+ (retired|restored|gone|rotated|upgraded) ([abc])$", text, re.M)
        verdict, note = inside("look", fs, image, how, acks[-1][0] if acks else "", acks[-1][1] if acks else "", programs)
        return Cut(fs, how, verdict, len(acks), note)


def plan(full, cuts):
    todo = [(fs, "certs", (powercut.READY, powercut.ACK)[i % 2]) for i in range(cuts or (300 if full else 3)) for fs in powercut.DISKS]
    todo += [(fs, how, (powercut.ACK, powercut.READY)[i % 2]) for how in ROTATIONS for i in range(cuts or (300 if full else 1)) for fs in powercut.DISKS]
    todo += [(fs, "certs-lazy", powercut.ACK) for fs in powercut.DISKS for _ in range(8 if full else 2)]
    todo += [(fs, "certs-upgrade-lazy", powercut.ACK) for fs in powercut.DISKS for _ in range(8 if full else 0)]
    # btrfs commits nothing of others when one file is synced: there it would take many more cuts.
    return todo + [(fs, "certs-cp", powercut.ACK) for fs in ("ext4", "xfs") for _ in range(8 if full else 3)]


def run(build, todo, machines=3, verbose=False):
    def prepare(programs):
        compile_driver(build, programs)
        make_tree(os.path.join(programs, "tree"))
        make_rotated(programs)

    return powercut.campaign(todo, prepare, inside, one_cut, CONTROLS, machines, verbose)


def judge(made):
    lines, wrong = [], []
    for fs, how in sorted({(c.fs, c.how) for c in made}):
        cuts = [c for c in made if (c.fs, c.how) == (fs, how)]
        words = collections.Counter(c.verdict for c in cuts)
        acks = sum(c.acks for c in cuts)
        lines.append("%-6s %-10s %4d cuts, %5d acknowledged: %s" % (fs, how, len(cuts), acks, ", ".join("%d %s" % (n, w) for w, n in sorted(words.items()))))
        wrong += ["%s %s: %s" % (fs, how, w) for w in words if w not in CONTROLS.get(how, set()) | {"ok"}]
        if how in VERBS and acks == 0:
            wrong.append("%s %s: nothing was ever acknowledged" % (fs, how))
    for how, words in CONTROLS.items():
        cuts = [c for c in made if c.how == how]
        if cuts and not words & {c.verdict for c in cuts}:
            wrong.append("%s: not caught, so the rest proves nothing" % how)
    return lines, wrong


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--build-dir", default=os.environ.get("K3SUP_BUILD_DIR") or os.path.join(powercut.TOP, "build", "dev"))
    p.add_argument("--full", action="store_true", default=bool(os.environ.get("K3SUP_TEST_FULL")), help="300 cuts of each on each")
    p.add_argument("--fs", choices=sorted(powercut.DISKS), help="only this one")
    p.add_argument("--how", choices=VERBS + tuple(CONTROLS), help="only this one")
    p.add_argument("--cuts", type=int, help="on each file system")
    p.add_argument("--machines", type=int, default=3, help="side by side")
    p.add_argument("-v", action="store_true", help="tell each cut")
    p.add_argument("--inside", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    a = p.parse_args()
    if a.inside:
        print(json.dumps((look if a.inside[0] == "look" else format_disk)(*a.inside[1:])))
        return 0
    reason = powercut.cannot_run()
    if reason:
        print("certs_power.py: " + reason, file=sys.stderr)
        return 2
    todo = [c for c in plan(a.full, a.cuts) if a.fs in (None, c[0]) and a.how in (None, c[1])]
    began = time.monotonic()
    lines, wrong = judge(run(os.path.abspath(a.build_dir), todo, a.machines, a.v))
    print(*lines, sep="\n")
    print("certs_power.py: %s, %d s" % ("; ".join(wrong) or "passed", time.monotonic() - began))
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
