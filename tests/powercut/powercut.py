#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Cuts the power of a machine while it replaces its k3s file, or an image, or has a payload unpack itself, many times, and looks at the disk afterwards.

    powercut.py [--build-dir DIR] [--full] [--fs WORD] [--how WORD] [--cuts N] [--machines N] [-v]

The machine is user-mode Linux. Its root is this host's root (hostfs, read-only); the disk under test is a file, mounted at /mnt inside, where the worker
(driver.c) swaps in payload 1, 2, 3, ... and says so for each one that the library promised to be durable. The cut is SIGKILL to the machine's whole process
group at a random instant: what its kernel had not written is gone. Then the disk is mounted here, which replays its journal, and looked at:

torn, missing   the k3s file, or the image, is not one whole payload, or not there
lost            it is older than the last one acknowledged
backup          there is no whole file of the version before it (or its own: the cut came between the link and the rename); of images: of the first version,
                where the run does not commit
visible         something else lies in agent/images, where k3s would import it
unreadable      k3sup_state() cannot say what the node is in
stuck           one more run does not reach the goal, or leaves litter
ended           the worker gave up before the power went: a verb failed without any fault. Its words are printed
unmountable     the file system cannot be mounted any more
noboot          no machine came up, or stayed whole, tried three times: says nothing about swaps, and so proves nothing
unseen          looking failed, by no fault of the disk

Every cut is one machine; some run side by side. Half of the cuts come after something was acknowledged. Controls in the same run: cp over the live
file must be torn, or lost, on each file system; what a payload unpacks without us must be torn somewhere (unpacked.py); with --full, a rename without a sync of the directory must lose what was acknowledged. Models a disk
without a volatile cache (replay.py has one): what the machine's kernel wrote counts as written.
Exit status: 0 passed, 1 something is wrong, 2 cannot run here.
"""
import argparse
import collections
import concurrent.futures
import ctypes
import fcntl
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from archive import archive  # noqa: E402
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import unpacked  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
# Small disks: they are copied for each cut. 300 MB is the least that mkfs.xfs makes, 109 MiB the least of mkfs.btrfs.
DISKS = {"ext4": (96, ["mkfs.ext4", "-q", "-F"], "loop"), "xfs": (320, ["mkfs.xfs", "-q"], "loop,nouuid"), "btrfs": (160, ["mkfs.btrfs", "-q"], "loop")}
BLOCKS = 700
PAGE = 4096
LONGEST_RUN = 1.0
BOOT = 90
BOOTS = 3
BROKEN = "userspace - ptrace"  # user-mode Linux ends a process of its own when the host fails its ptrace(2) with EAGAIN: seen once in 500 machines
READY, ACK = b"READY", b"\nACK "
BIN, IMAGES, KEPT = "usr/local/bin", "var/lib/rancher/k3s/agent/images", "var/lib/rancher/k3s/agent/.k3sup-images"
VERBS, IMAGE_VERBS, UNPACKS = ("swap", "upgrade"), ("stage", "commit"), ("unpack",)
CONTROLS = {"cp": {"torn", "lost"}, "cp-image": {"torn", "lost"}, "lazy": {"lost"}, "unpack-lazy": {"torn", "lost"}}
NOT_ALWAYS = ("lazy", "unpack-lazy")  # caught on some file system
Cut = collections.namedtuple("Cut", "fs how verdict acks note")


def cannot_run():
    if os.geteuid() != 0:
        return "needs root for loop mounts"
    lacking = [p for p in ("linux.uml", "mkfs.ext4", "mkfs.xfs", "mkfs.btrfs", "btrfs", "unshare", "losetup", "cc", "pkg-config") if not shutil.which(p)]
    if lacking:
        return "needs " + ", ".join(lacking)
    if not os.path.exists("/bin/busybox"):
        return "needs /bin/busybox"
    if not os.path.exists("/dev/loop-control"):
        return "needs loop devices"
    with open("/proc/filesystems") as f:
        known = f.read().split()
    lacking = [fs for fs in DISKS if fs not in known and subprocess.call(["modprobe", "-q", fs], stderr=subprocess.DEVNULL) != 0]
    return "this kernel cannot mount " + ", ".join(lacking) if lacking else None


def compile_programs(build, into):
    env = dict(os.environ, PKG_CONFIG_PATH=os.path.join(build, "pkgconfig"))
    flags = subprocess.check_output(["pkg-config", "--cflags", "--libs", "libk3sup"], env=env).decode().split()
    cc = [os.environ.get("CC", "cc"), "-std=c17", "-D_GNU_SOURCE", "-D_FILE_OFFSET_BITS=64", "-O2", "-Wall", "-Wextra", "-Werror"]
    subprocess.check_call(cc + ["-o", os.path.join(into, "driver"), os.path.join(HERE, "driver.c")] + flags + ["-Wl,-rpath," + build])
    subprocess.check_call(cc + ["-shared", "-fPIC", "-o", os.path.join(into, "uml-ptrace.so"), os.path.join(HERE, "uml-ptrace.c"), "-ldl"])


def make_template(path):
    """What passes for a k3s: a program that names an embedded archive and a version."""
    with open("/bin/true", "rb") as f:
        data = f.read() + b"".join(archive(b"power")) + b"\0v1.30.4+k3s1\0"
    with open(path, "wb") as f:
        f.write(data + b"\0" * (-len(data) % PAGE))


def payload(template, n):
    return template + n.to_bytes(8, sys.byteorder) * (PAGE // 8 * BLOCKS)


def number_of(path, template):
    """Which payload a file is, or None if it is not one."""
    with open(path, "rb") as f:
        data = f.read()
    n = int.from_bytes(data[-8:], sys.byteorder)
    return n if data == payload(template, n) else None


# ---- in a mount namespace of its own: nothing stays mounted, whatever happens ----

def inside(action, *args):
    argv = ["unshare", "--mount", "--propagation", "private", sys.executable, os.path.abspath(__file__), "--inside", action] + [str(a) for a in args]
    p = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300)
    if p.returncode != 0:
        return ["unseen", p.stdout.decode(errors="replace")[-2000:]]
    return json.loads(p.stdout.decode().splitlines()[-1])


def mount(fs, image, mnt):
    os.makedirs(mnt, exist_ok=True)
    if fs == "btrfs":
        # All copies say that they are the same file system, and the kernel remembers the last one.
        subprocess.run(["btrfs", "device", "scan", "--forget"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    # A loop device, or the memory of a btrfs with the same name, may take a moment to go: what is wrong with the disk itself stays wrong.
    for pause in (0, 1, 3):
        time.sleep(pause)
        p = subprocess.run(["mount", "-t", fs, "-o", DISKS[fs][2], image, mnt], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if p.returncode == 0:
            return
    raise OSError(p.stdout.decode(errors="replace").strip())


def format_disk(fs, image, programs):
    size, mkfs, _ = DISKS[fs]
    with open(image, "wb") as f:
        f.truncate(size << 20)
    subprocess.check_call(mkfs + [image], stdout=subprocess.DEVNULL)
    mnt = image + ".mnt"
    mount(fs, image, mnt)
    with open(os.path.join(programs, "template"), "rb") as f:
        first = payload(f.read(), 0)
    for where, name in ((BIN, "k3s"), (IMAGES, "images.tar")):
        os.makedirs(os.path.join(mnt, where))
        path = os.path.join(mnt, where, name)
        with open(path, "wb") as f:
            f.write(first)
        os.chmod(path, 0o755)
    subprocess.check_call(["umount", mnt])
    return ["made", ""]


def look_at(how, mnt, last, programs):
    with open(os.path.join(programs, "template"), "rb") as f:
        template = f.read()
    path = os.path.join(mnt, BIN, "k3s")
    backup = path + ".k3sup-backup"
    if not os.path.exists(path):
        return ["missing", str(os.listdir(os.path.join(mnt, BIN)))]
    n = number_of(path, template)
    if n is None:
        return ["torn", "%d bytes" % os.path.getsize(path)]
    if n < last:
        return ["lost", "%d, acknowledged %d" % (n, last)]
    if how in CONTROLS:
        return ["ok", str(n)]
    if os.path.exists(backup):
        kept = number_of(backup, template)
        if kept not in (n - 1, n) or (kept == n) != os.path.samefile(path, backup):
            return ["backup", "%s beside %d" % (kept, n)]
    elif n > 0:
        return ["backup", "none beside %d" % n]
    return finish(how, mnt, n, template, programs)


def numbers_in(where, template):
    return {name: number_of(os.path.join(where, name), template) for name in os.listdir(where)} if os.path.isdir(where) else {}


def look_at_images(how, mnt, last, programs):
    with open(os.path.join(programs, "template"), "rb") as f:
        template = f.read()
    there = numbers_in(os.path.join(mnt, IMAGES), template)
    path, kept = os.path.join(mnt, IMAGES, "images.tar"), os.path.join(mnt, KEPT, "images.tar.k3sup-backup")
    n = there.pop("images.tar", -1)
    if there:
        return ["visible", str(there)]
    if n is None or n < 0:
        return ["torn", "%d bytes" % os.path.getsize(path)] if n is None else ["missing", ""]
    if n < last:
        return ["lost", "%d, acknowledged %d" % (n, last)]
    if how in CONTROLS:
        return ["ok", str(n)]
    if os.path.exists(kept):
        old, same = number_of(kept, template), os.path.samefile(path, kept)
        if old not in ((n - 1, n) if how == "commit" else (0,)) or same != (old == n):
            return ["backup", "%s beside %d" % (old, n)]
    elif how == "stage" and n > 0:
        return ["backup", "none beside %d" % n]
    return finish(how, mnt, n, template, programs)


def goal_of(how, goal, before):
    """What one more run has to leave: where images and k3s files are, and what is kept."""
    if how in VERBS:
        return {BIN: {"k3s": goal, "k3s.k3sup-backup": before}}
    return {IMAGES: {"images.tar": goal}, KEPT: {"images.tar.k3sup-backup": 0} if how == "stage" else {}}


def finish(how, mnt, n, template, programs):
    driver = [os.path.join(programs, "driver")]
    p = subprocess.run(driver + ["state", mnt, "-", "0", "0", "0"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    said = p.stdout.decode(errors="replace")
    state = json.loads(said) if p.returncode == 0 else {}
    if p.returncode != 0 or "journal-damaged" in state.get("flags", []) or "journal" in json.dumps(state.get("warnings", [])):
        return ["unreadable", said[-600:]]
    goal = n + 1000
    p = subprocess.run(driver + [how, mnt, os.path.join(programs, "template"), str(BLOCKS), str(goal), "1"], stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT, env=dict(os.environ, TMPDIR=os.path.dirname(mnt)))
    wanted = goal_of(how, goal, n)
    there = {where: numbers_in(os.path.join(mnt, where), template) for where in wanted}
    if p.returncode != 0 or there != wanted:
        return ["stuck", "%s %s" % (there, p.stdout.decode(errors="replace")[-600:])]
    return ["ok", "%d, state %s" % (n, state.get("state"))]


def look(fs, image, how, last, programs):
    mnt = image + ".mnt"
    with open(os.path.join(programs, "lock"), "w") as lock:
        if fs == "btrfs":
            fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            mount(fs, image, mnt)
        except OSError as e:
            return ["unmountable", str(e)]
        try:
            look_for = unpacked.look_at if how.startswith("unpack") else look_at_images if how in IMAGE_VERBS + ("cp-image",) else look_at
            return look_for(how, mnt, int(last), programs)
        finally:
            subprocess.check_call(["umount", mnt])


# ---- machines ----

def reap(group):
    """Until nothing of it lives: what does may still write the disk. We are its subreaper, so all of it ends as our child."""
    while True:
        try:
            os.waitpid(-group, 0)
        except ChildProcessError:
            break
    for _ in range(3000):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.01)
    raise RuntimeError("processes of a machine do not end")


def machine(fs, how, image, programs, init):
    return ["linux.uml", "mem=192M", "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro", "ubda=" + image, "init=" + os.path.join(HERE, init),
            "con=null", "con0=null,fd:1", "quiet", "k3sup_fs=" + fs, "k3sup_how=" + how, "k3sup_blocks=%d" % BLOCKS,
            "k3sup_driver=" + os.path.join(programs, "driver"), "k3sup_template=" + os.path.join(programs, "template")]


def machine_env(programs):
    return dict(os.environ, LD_PRELOAD=os.path.join(programs, "uml-ptrace.so"), HOME=programs)


def boot_and_cut(fs, how, word, image, programs):
    """Text that the machine said, or None if it did not boot, or broke. The cut comes at a random instant after it said the word."""
    log = image + ".log"
    with open(log, "wb") as out:
        p = subprocess.Popen(machine(fs, how, image, programs, "init.sh"), stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
                             env=machine_env(programs), start_new_session=True)
    deadline = time.monotonic() + BOOT
    while time.monotonic() < deadline and not any(w in said(log) for w in (word, b"MOUNTFAIL", b"Kernel panic", b"WORKER ENDED")):
        time.sleep(0.02)
    booted = b"READY" in said(log)
    if booted:
        time.sleep(random.uniform(0.0, LONGEST_RUN))
    try:
        os.killpg(p.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    reap(p.pid)
    p.returncode = -9
    text = said(log).decode(errors="replace").replace("\r", "")
    return text if booted and BROKEN not in text else None


def said(log):
    with open(log, "rb") as f:
        return f.read()


def one_cut(fs, how, word, base, programs):
    with tempfile.TemporaryDirectory(prefix="cut-", dir=programs) as work:
        image = os.path.join(work, "disk")
        text = None
        for _ in range(BOOTS):
            subprocess.check_call(["cp", "--sparse=always", "--reflink=auto", base, image])
            text = boot_and_cut(fs, how, word, image, programs)
            if text:
                break
        if not text:
            return Cut(fs, how, "noboot", 0, said(image + ".log").decode(errors="replace")[-600:])
        acks = [int(n) for n in re.findall(r"^ACK (\d+)$", text, re.M)]
        if "WORKER ENDED" in text:
            return Cut(fs, how, "ended", 0, text[-600:])
        verdict, note = inside("look", fs, image, how, acks[-1] if acks else 0, programs)
        return Cut(fs, how, verdict, len(acks), note)


def plan(full, cuts):
    """[(fs, how, after which word)]: half of the cuts in each verb, half of those with something acknowledged; as many of images, or a few; and the controls."""
    todo = [(fs, VERBS[i % 2], (READY, ACK)[i // 2 % 2]) for i in range(cuts or (300 if full else 20)) for fs in DISKS]
    todo += [(fs, IMAGE_VERBS[i % 2], (READY, ACK)[i // 2 % 2]) for i in range(cuts or (300 if full else 4)) for fs in DISKS]
    todo += [(fs, "unpack", (READY, ACK)[i % 2]) for i in range(cuts or (100 if full else 3)) for fs in DISKS]
    todo += [(fs, how, ACK) for fs in DISKS for how in ("cp", "cp-image") for _ in range(4 if full else 2)]
    todo += [(fs, "unpack-lazy", ACK) for fs in DISKS for _ in range(10 if full else 1)]
    if full:
        todo += [(fs, "lazy", ACK) for fs in DISKS for _ in range(20)]
    return todo


def campaign(todo, prepare, format_disk, cut_one, accepted, machines, verbose):
    """The cuts made: prepare(programs) once, a disk of each kind, then machines at a time. accepted: {how: verdicts besides "ok"}. Interrupted or not, nothing is left behind."""
    ctypes.CDLL(None, use_errno=True).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
    made = []
    with tempfile.TemporaryDirectory(prefix="k3sup-power-") as programs:
        os.chmod(programs, 0o755)
        prepare(programs)
        bases = {fs: os.path.join(programs, fs) for fs in sorted({fs for fs, _, _ in todo})}
        for fs, base in bases.items():
            word, note = format_disk("format", fs, base, programs)
            if word != "made":
                raise RuntimeError("cannot make a disk with %s: %s" % (fs, note))
        with concurrent.futures.ThreadPoolExecutor(machines) as pool:
            for cut in pool.map(lambda c: cut_one(*c, bases[c[0]], programs), todo):
                made.append(cut)
                if verbose or cut.verdict not in accepted.get(cut.how, set()) | {"ok"}:
                    print(*cut, flush=True)
    return made


def run(build, todo, machines=3, verbose=False):
    def prepare(programs):
        compile_programs(build, programs)
        make_template(os.path.join(programs, "template"))
        unpacked.make_payloads(programs)

    return campaign(todo, prepare, inside, one_cut, CONTROLS, machines, verbose)


def judge(made):
    """(lines to print, what is wrong)"""
    lines, wrong = [], []
    for fs, how in sorted({(c.fs, c.how) for c in made}):
        cuts = [c for c in made if (c.fs, c.how) == (fs, how)]
        words = collections.Counter(c.verdict for c in cuts)
        acks = sum(c.acks for c in cuts)
        lines.append("%-6s %-8s %4d cuts, %5d acknowledged: %s" % (fs, how, len(cuts), acks, ", ".join("%d %s" % (n, w) for w, n in sorted(words.items()))))
        if how in VERBS + IMAGE_VERBS + UNPACKS:
            wrong += ["%s %s: %s" % (fs, how, w) for w in words if w != "ok"]
            wrong += ["%s %s: nothing was ever acknowledged" % (fs, how)] if acks == 0 else []
            continue
        wrong += ["%s %s: %s" % (fs, how, w) for w in words if w not in CONTROLS[how] | {"ok"}]
        if how not in NOT_ALWAYS and not CONTROLS[how] & set(words):
            wrong.append("%s %s: not caught, so the rest proves nothing" % (fs, how))
    for how in NOT_ALWAYS:
        words = {c.verdict for c in made if c.how == how}
        if words and not words & CONTROLS[how]:
            wrong.append("%s: not caught, so the rest proves nothing" % how)
    return lines, wrong


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--build-dir", default=os.environ.get("K3SUP_BUILD_DIR") or os.path.join(TOP, "build", "dev"))
    p.add_argument("--full", action="store_true", default=bool(os.environ.get("K3SUP_TEST_FULL")), help="300 cuts each, and one more control")
    p.add_argument("--fs", choices=sorted(DISKS), help="only this one")
    p.add_argument("--how", choices=VERBS + IMAGE_VERBS + UNPACKS + tuple(CONTROLS), help="only this one")
    p.add_argument("--cuts", type=int, help="on each file system")
    p.add_argument("--machines", type=int, default=3, help="side by side")
    p.add_argument("-v", action="store_true", help="tell each cut")
    p.add_argument("--inside", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    a = p.parse_args()
    if a.inside:
        print(json.dumps((look if a.inside[0] == "look" else format_disk)(*a.inside[1:])))
        return 0
    reason = cannot_run()
    if reason:
        print("powercut.py: " + reason, file=sys.stderr)
        return 2
    todo = [(fs, a.how or how, word) for fs, how, word in plan(a.full, a.cuts) if a.fs in (None, fs)]
    if a.how:
        todo = todo[:(a.cuts or (300 if a.full else 20)) * (1 if a.fs else 3)]
    began = time.monotonic()
    lines, wrong = judge(run(os.path.abspath(a.build_dir), todo, a.machines, a.v))
    print(*lines, sep="\n")
    print("powercut.py: %s, %d s" % ("; ".join(wrong) or "passed", time.monotonic() - began))
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
