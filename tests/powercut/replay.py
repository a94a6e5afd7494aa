#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Records what a swap writes to a disk, and cuts the power after each single write.

    replay.py [--build-dir DIR] [--full] [--fs WORD] [--how WORD] [--swaps N] [-v]

The machine is powercut.py's, with dm-log-writes (a module of user-mode Linux's kernel) between file system and disk: it logs each write when the
disk has it for sure, that is, before the flush that follows it, and a mark for each swap that was acknowledged. The log is replayed on a copy of the
disk as it was, write by write; after each, the disk is mounted here and looked at as in powercut.py. So this models a disk with a volatile cache, and
leaves no instant out.

Controls: cp over the live file, and a rename without a sync of the directory, must be caught.
Exit status: 0 passed, 1 something is wrong, 2 cannot run here.
"""
import argparse
import collections
import glob
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import time

import powercut

HERE = os.path.dirname(os.path.abspath(__file__))
SECTOR = 512
LOG_MB = 512
MAGIC = 0x6a736677736872
FLUSH, FUA, DISCARD, MARK = 1, 2, 4, 8
VERBS = powercut.VERBS + powercut.IMAGE_VERBS
Entry = collections.namedtuple("Entry", "sector data flags mark")


def cannot_run():
    reason = powercut.cannot_run()
    if not reason and not os.path.exists("/usr/sbin/dmsetup"):
        reason = "needs dmsetup"
    if not reason and not glob.glob("/usr/lib/uml/modules/*/kernel/drivers/md/dm-log-writes.ko"):
        reason = "needs a user-mode Linux with dm-log-writes"
    return reason


def record(fs, how, swaps, disk, log, programs):
    """The disk is changed, too."""
    with open(log, "wb") as f:
        f.truncate(LOG_MB << 20)
    argv = powercut.machine(fs, how, disk, programs, "init-log.sh") + ["ubdb=" + log, "k3sup_count=%d" % swaps]
    p = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=powercut.machine_env(programs), timeout=600)
    if b"RECORDED" not in p.stdout:
        raise RuntimeError("nothing was recorded: " + p.stdout.decode(errors="replace")[-1500:])


def read_log(path):
    """Linux drivers/md/dm-log-writes.c: a super block; then for each write a sector that says what it is, and its data."""
    entries = []
    with open(path, "rb") as f:
        magic, version, count, size = struct.unpack("<QQQI", f.read(28))
        if magic != MAGIC or version != 1 or size != SECTOR:
            raise RuntimeError("this is no log: %x, %d, %d" % (magic, version, size))
        f.seek(SECTOR)
        for _ in range(count):
            head = f.read(SECTOR)
            sector, sectors, flags, length = struct.unpack("<QQQQ", head[:32])
            mark = head[32:32 + length].decode() if flags & MARK else None
            data = f.read(sectors * SECTOR) if not flags & (DISCARD | MARK) else b"\0" * (sectors * SECTOR if flags & DISCARD else 0)
            entries.append(Entry(sector, data, flags, mark))
    return entries


def replay(fs, how, swaps, every, base, programs, verbose):
    """(how often the disk changed, {verdict: how often})"""
    verdicts, last, states, first = collections.Counter(), 0, 0, random.randrange(every)
    with tempfile.TemporaryDirectory(prefix="log-", dir=programs) as work:
        disk, log, image = (os.path.join(work, n) for n in ("disk", "log", "image"))
        shutil.copyfile(base, disk)
        record(fs, how, swaps, disk, log, programs)
        shutil.copyfile(base, disk)
        for i, entry in enumerate(read_log(log)):
            if entry.mark and entry.mark.startswith("ACK-"):
                last = int(entry.mark[4:])
            elif not entry.data:
                continue  # a flush alone changes nothing
            with open(disk, "r+b") as f:
                f.seek(entry.sector * SECTOR)
                f.write(entry.data)
            if i % every != first:
                continue
            subprocess.check_call(["cp", "--sparse=always", "--reflink=auto", disk, image])
            verdict, note = powercut.inside("look", fs, image, how, last, programs)
            states += 1
            verdicts[verdict] += 1
            if verbose or (verdict != "ok" and how in VERBS):
                print(fs, how, "after write", i, "flags", entry.flags, "acknowledged", last, verdict, note, flush=True)
        if last != swaps:
            raise RuntimeError("%d swaps were acknowledged, not %d" % (last, swaps))
    return states, verdicts


def judge(how, verdicts):
    if how in VERBS:
        return set(verdicts) == {"ok"}
    return bool(set(verdicts) & powercut.CONTROLS[how]) and not set(verdicts) - powercut.CONTROLS[how] - {"ok"}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--build-dir", default=os.environ.get("K3SUP_BUILD_DIR") or os.path.join(powercut.TOP, "build", "dev"))
    p.add_argument("--full", action="store_true", default=bool(os.environ.get("K3SUP_TEST_FULL")), help="each file system, each verb, three swaps")
    p.add_argument("--fs", choices=sorted(powercut.DISKS), help="only this one")
    p.add_argument("--how", choices=VERBS + tuple(powercut.CONTROLS), help="only this one")
    p.add_argument("--swaps", type=int, help="how many, one after the other")
    p.add_argument("--every", type=int, metavar="N", help="look after every Nth write only, from a random one on (default 5, of verbs; with --full 1)")
    p.add_argument("-v", action="store_true", help="tell each write")
    a = p.parse_args()
    reason = cannot_run()
    if reason:
        print("replay.py: " + reason, file=sys.stderr)
        return 2
    status, began = 0, time.monotonic()
    todo = [(fs, how) for fs in (sorted(powercut.DISKS) if a.full else ["ext4"]) for how in VERBS + tuple(powercut.CONTROLS)]
    todo = [(fs, how) for fs, how in todo if (a.full or how in ("swap", "lazy") or a.how) and a.how in (None, how)]
    if a.fs:
        todo = [(a.fs, how) for how in dict.fromkeys(how for _, how in todo)]
    with tempfile.TemporaryDirectory(prefix="k3sup-replay-") as programs:
        os.chmod(programs, 0o755)
        powercut.compile_programs(os.path.abspath(a.build_dir), programs)
        powercut.make_template(os.path.join(programs, "template"))
        for fs, how in todo:
            base = os.path.join(programs, fs)
            if not os.path.exists(base):
                word, note = powercut.inside("format", fs, base, programs)
                if word != "made":
                    raise RuntimeError("cannot make a disk with %s: %s" % (fs, note))
            states, verdicts = replay(fs, how, a.swaps or (3 if a.full else 1), a.every or (5 if how in VERBS and not a.full else 1), base, programs, a.v)
            right = judge(how, verdicts)
            print("%-6s %-8s %4d prefixes: %s%s" % (fs, how, states, ", ".join("%d %s" % (n, w) for w, n in sorted(verdicts.items())),
                                                    "" if right else "  THIS IS WRONG"), flush=True)
            status = status or int(not right)
    print("replay.py: %s, %d s" % ("FAILED" if status else "passed", time.monotonic() - began))
    return status


if __name__ == "__main__":
    sys.exit(main())
