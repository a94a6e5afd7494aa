#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Kills and fails one replacement of the k3s file, or one way back, at every system call it makes, and looks what is left.

    every_syscall.py [--build-dir DIR] [--full] [-k WORD]

A traced run without a fault lists the points: (call, occurrence), from the program's own first call to its end. Then, for each point and each fault,
on a fresh node: strike there, look, run once more, look, run a third time, look. strace counts occurrences per thread (measured), so the program is
single-threaded: the library in an inline context, which inline.c gives to the installed program, too. A point that does not strike tests nothing: it
makes the whole run VOID.

Without a fault    each file that gets its name by a rename was synced after its last change, and each directory in which a name was made, afterwards

After the fault    the target is the whole old or the whole new file, with mode, owner and extended attributes; the old one is there in full, under the
                   target's or the backup's name; who says that the goal is reached is right; no failed fsync(2), rename or link is passed over; what
                   failed, but was not killed, has tidied up
After one more run the target is new (rolled back: old), the backup is old, neither shares its inode with anything, and nothing else lies about
After a third run  nothing has changed

Where versions lie beside each other, the link leads to a whole file, the new version has its name only when it is whole, and the old one stays what it is.
Images (the verb stage) are judged alike: agent/images never holds anything but whole old or new files under their own names; the old one is there or kept, until
the new ones are all there; a run that fails leaves what it found, or what it was to reach; see crash_nodes.py.

Controls in the same run are programs with one mistake each (driver-inplace.c), which must be caught, and one without, which must not.
Everything happens in pid and mount namespaces of its own, on a tmpfs that goes with them; needs root and strace.
Exit status: 0 passed, 1 something is wrong, 2 cannot run here, 3 void.
"""
import argparse
import collections
import json
import os
import random
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from crash_nodes import node_for  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
WORKERS = 2
TRIES = 3
CALL = re.compile(r"^(?:(\d+) +)?([a-z_0-9]+)\((.*)")
# brk(2) has no errors: the C library would take the number of one for an address.
NEVER_FAIL = {"exit_group", "exit", "execve", "rt_sigreturn", "restart_syscall", "brk"}
# Where libuv or the C library end the process, since this cannot fail in its eyes; of read(2) and write(2) it is the loop's wake-up descriptor.
MAY_ABORT = {"epoll_create1", "epoll_ctl", "epoll_wait", "epoll_pwait", "eventfd2", "pipe2", "futex"}
# What a child says, and when it ends, comes in as many pieces as it likes: these calls are more or fewer from run to run.
OF_A_CHILD = {"poll", "recvfrom", "read"}
ERRNOS = ("EIO", "ENOSPC", "EDQUOT", "EROFS", "EINTR", "EMFILE", "ENOMEM", "EPERM")

Case = collections.namedtuple("Case", "name program verb begin earlier wanted versioned torn")
Case.__new__.__defaults__ = (r'^-1, "begin"', False, "new", False, False)


def library(verb, **kw):
    return Case(verb + (" over an earlier backup" if kw.get("earlier") else "") + (" of versions" if kw.get("versioned") else "") + (" over a torn one" if kw.get("torn") else ""), "driver-swap", [verb], **kw)


SWAP, UPGRADE = library("swap"), library("upgrade")
STAGE, COMMIT, RESTORE = library("stage"), library("commit"), library("restore")
EARLIER = library("swap", earlier=True)
# From where a swap led: what it recorded is there.
ROLLBACK = library("rollback", wanted="old")
# k3s is a link to k3s-VERSION.
VERSIONS, VERSIONS_BACK = library("swap", versioned=True), library("rollback", versioned=True, wanted="old")
# The payload is executed: what it does itself is not struck at.
UNPACK, UNPACK_TORN = library("unpack"), library("unpack", torn=True)
# With commands of the caller's, which are not struck at either; and what those may do.
HOOKS, MARK = library("hooks"), library("mark")
PROGRAM = Case("k3sup-upgrade --restart none", "k3sup-upgrade", None, begin=r"^EPOLL_CLOEXEC")
# The mistake, the fault that shows it ("": it shows without one), and how.
MISTAKES = {"lazy": ("", "usr/local/bin was not synced after"), "hasty": ("", "got its name before it was synced"),
            "inplace": ("KILL", "the target is ('torn'"), "gap": ("KILL", "the target is gone"), "late": ("KILL", "the old file is lost"),
            "litter": ("KILL", "one more run leaves"), "deaf": ("EIO", "although fsync failed"), "visible": ("KILL", "k3s would see")}
PLAN = [(SWAP, "KILL"), (SWAP, "ENOSPC"), (UPGRADE, "KILL"), (PROGRAM, "KILL"), (COMMIT, "KILL"), (STAGE, "ENOSPC"), (RESTORE, "KILL"),
        (ROLLBACK, "KILL"), (ROLLBACK, "ENOSPC"), (VERSIONS, "KILL"), (VERSIONS, "ENOSPC"), (VERSIONS_BACK, "KILL"),
        (UNPACK, "KILL"), (UNPACK_TORN, "KILL"), (UNPACK_TORN, "EIO"), (HOOKS, "KILL"), (MARK, "KILL"), (MARK, "ENOSPC")]
# "+": from that occurrence on, as on a disk that stays full.
FULL = [(case, fault) for case in (SWAP, UPGRADE, ROLLBACK) for fault in ERRNOS + ("ENOSPC+", "EIO+") if (case, fault) not in PLAN] + \
    [(case, fault) for case in (STAGE, COMMIT, RESTORE, VERSIONS, VERSIONS_BACK, UNPACK, UNPACK_TORN, HOOKS, MARK) for fault in ("KILL",) + ERRNOS if (case, fault) not in PLAN] + \
    [(EARLIER, fault) for fault in ("KILL", "ENOSPC", "EIO")] + [(PROGRAM, fault) for fault in ERRNOS]


def mistake(name):
    return Case("mistake " + name, "driver-inplace", [name])


def compile_drivers(build, into):
    """The drivers see what users of the library see: pkg-config."""
    env = dict(os.environ, PKG_CONFIG_PATH=os.path.join(build, "pkgconfig"))
    flags = subprocess.check_output(["pkg-config", "--cflags", "--libs", "libk3sup"], env=env).decode().split()
    for name in ("driver-swap", "driver-inplace"):
        subprocess.check_call([os.environ.get("CC", "cc"), "-std=c17", "-D_GNU_SOURCE", "-D_FILE_OFFSET_BITS=64", "-O2", "-Wall", "-Wextra", "-Werror",
                               "-o", os.path.join(into, name), os.path.join(HERE, name + ".c")] + flags + ["-Wl,-rpath," + build])
    subprocess.check_call([os.environ.get("CC", "cc"), "-std=c17", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC",
                           "-o", os.path.join(into, "inline.so"), os.path.join(HERE, "inline.c"), "-ldl"] + [f for f in flags if f.startswith("-I")])
    subprocess.check_call([os.environ.get("CC", "cc"), "-std=c17", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-Werror", "-static",
                           "-o", os.path.join(into, "unpacker"), os.path.join(HERE, "..", "unpacker.c")])


# ---- one worker: a pid namespace, a mount namespace, a node on a tmpfs ----

def strike(node, trace, call, n, fault):
    """Returns how the run ended, and what the fault struck: the call's arguments, None if it did not."""
    what = "signal=KILL" if fault == "KILL" else "error=" + fault.rstrip("+")
    more = "+" if fault.endswith("+") else ""
    faster = [] if fault == "KILL" else ["--seccomp-bpf"]  # where it stops then, no signal can be sent
    for _ in range(TRIES):
        node.reset()
        end = node.run("strace", *faster, "-f", "-o", trace, "-y", "-e", "trace=" + call, "-e", "inject=%s:%s:when=%d%s" % (call, what, n, more))
        count, struck = 0, None
        with open(trace, errors="replace") as f:
            for made in filter(None, map(CALL.match, f)):
                count += 1
                if count == n and ("(INJECTED)" in made[3] or (fault == "KILL" and end == "killed")):
                    struck = made[3]
                elif struck is not None and "(INJECTED)" in made[3]:
                    struck = made[3]  # the last one that failed is the one that it ended at
        if struck is not None:
            return end, struck
    return end, None


def try_point(node, trace, call, n, fault):
    end, struck = strike(node, trace, call, n, fault)
    if struck is None:
        return {"end": end, "idle": True}
    bad = node.after_fault(end, call, fault)
    if not bad and end == "killed" and fault != "KILL":
        end = "aborted"
        bad = None if call in MAY_ABORT or "<anon_inode:" in struck or "<pipe:" in struck else "ends by a signal"
    if not bad:
        bad = node.after_rerun(node.run())
    if not bad:
        seen, third = node.look(), node.run()
        if third not in ("already", "done") or node.look()[0] != seen[0]:
            bad = "a third run is not idle: " + third
    return {"end": end, "bad": bad}


# What changes the file of a descriptor: the first one, or the second one of copy_file_range(2).
CHANGES = {"write", "pwrite64", "writev", "ftruncate", "fallocate", "fchmod", "fchown", "fsetxattr", "fremovexattr", "ioctl", "sendfile", "copy_file_range"}
FD = r"(?:\d+|AT_FDCWD)<([^>]*)>"
NAMES = re.compile(r'%s, "([^"]*)", %s, "([^"]*)"' % (FD, FD))
MADE = re.compile(r'%s, "([^"]*)"' % FD)


def unsynced(calls, root):
    """What a power cut could take although the run is over: [(call, its arguments with paths)] in their order."""
    dirty, wrong = {}, []
    for call, args in calls:
        fds = re.findall(FD, args)
        if call in ("fsync", "fdatasync"):
            dirty.pop(fds[0], None)
        elif call in ("syncfs", "sync"):
            dirty.clear()
        elif call in CHANGES and fds:
            dirty[fds[-1 if call == "copy_file_range" else 0]] = call
        elif call in ("renameat", "renameat2", "linkat"):
            old_dir, old, new_dir, new = NAMES.match(args).groups()
            if call != "linkat" and dirty.pop(os.path.join(old_dir, old), None):
                wrong.append("%s got its name before it was synced" % os.path.join(new_dir, new))
            for where in {old_dir, new_dir} if call != "linkat" else {new_dir}:
                dirty[where] = "the %s of %s" % (call, new)
        elif call == "mkdirat" and MADE.match(args):
            dirty[MADE.match(args)[1]] = "the mkdirat of " + MADE.match(args)[2]
        elif call in ("rename", "link", "mkdir"):
            wrong.append("%s: a path, where a descriptor would be safe" % call)
    wrong += ["%s was not synced after %s" % (path, why) for path, why in dirty.items() if why.startswith("the ")]
    return [w for w in wrong if root in w]


def reference(node, trace):
    """The points of a run without a fault: {(call, n)}, in their order; and what is wrong with it."""
    node.reset()
    end = node.run("strace", "-f", "-y", "-o", trace)
    bad = node.after_rerun(end)
    points, counts, calls, begun = {}, collections.Counter(), [], False
    with open(trace, errors="replace") as f:
        for line in f:
            made = CALL.match(line)
            if not made:
                continue
            thread, call, args = made.groups()
            counts[thread, call] += 1
            if begun:
                points[call, counts[thread, call]] = None
                calls += [(call, args)] if " = -1 " not in line else []
            begun = begun or re.search(node.case.begin, args) is not None
    threads = len({thread for thread, _ in counts})
    if not points:
        raise SystemExit("the trace has no beginning")
    if threads > 1:
        raise SystemExit("%d threads: which of them makes the nth call would be up to the scheduler" % threads)
    return list(points), [bad] if bad else unsynced(calls, node.root)


def worker():
    """Reads one job from stdin, writes its results to stdout."""
    job = json.load(sys.stdin)
    subprocess.check_call(["mount", "-t", "tmpfs", "-o", "mode=0755,size=64m", "tmpfs", os.path.join(job["work"], "node")])
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.umask(0o022)
    node = node_for(os.path.join(job["work"], "node"), Case(*job["case"]))
    os.symlink("../bin", os.path.join(job["work"], "node/bin"))
    trace = os.path.join(job["work"], "node/trace")
    if "points" not in job:
        points, bad = reference(node, trace)
        json.dump({"points": points, "bad": bad}, sys.stdout)
        return
    json.dump([dict(try_point(node, trace, call, n, job["fault"]), call=call, n=n) for call, n in job["points"]], sys.stdout)


# ---- the whole ----

def in_sandbox(job):
    # Of the interpreter's own processes none is visible to the program but this one: what it sees in /proc is the same in each run.
    p = subprocess.Popen(["unshare", "-pfm", "--mount-proc", "--kill-child", sys.executable, os.path.abspath(__file__), "--worker"],
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    p.stdin.write(json.dumps(job).encode())
    p.stdin.close()
    p.stdin = None
    return p


def answer(p):
    out, err = p.communicate()
    if p.returncode != 0:
        raise RuntimeError("worker: " + err.decode(errors="replace"))
    return json.loads(out)


class Result:
    def __init__(self, case, fault, points, bad, results, seconds):
        self.case, self.fault, self.points, self.seconds = case, fault, points, seconds
        idle = [r for r in results if r.get("idle")]
        idle, results = ([r for r in idle if r["call"] not in OF_A_CHILD], [r for r in results if not r.get("idle") or r["call"] not in OF_A_CHILD]) \
            if case.verb in (["unpack"], ["hooks"]) else (idle, results)
        self.void = ["%s#%d" % (r["call"], r["n"]) for r in idle]
        self.bad = ["without a fault: " + b for b in bad] + ["%s#%d: %s" % (r["call"], r["n"], r["bad"]) for r in results if r.get("bad")]
        self.struck = len(results) - len(idle)
        self.ends = collections.Counter(r["end"] for r in results if not r.get("idle"))

    def __str__(self):
        ends = ", ".join("%d %s" % (n, end) for end, n in sorted(self.ends.items()))
        lines = ["%-30s %-8s %4d points, %4d struck, %3d bad  (%s; %.0f s)" %
                 (self.case.name, self.fault, len(self.points), self.struck, len(self.bad), ends, self.seconds)]
        return "\n".join(lines + ["    bad: " + b for b in self.bad[:10]] + ["    VOID, never struck: " + v for v in self.void[:10]])


def slice_of(case, full):
    """Of some cases one point in so many is tried in an ordinary run, which ones is up to chance; --full tries all."""
    return 1 if full or case not in (STAGE, COMMIT, RESTORE, VERSIONS, VERSIONS_BACK, UNPACK, UNPACK_TORN, HOOKS, MARK) else 16 if case == HOOKS else 4


def campaign(case, fault, build, programs, every=1):
    """All points of one case with one fault, or one in `every`."""
    began = time.time()
    work = tempfile.mkdtemp(prefix="k3sup-crash-")
    os.environ["K3SUP_BUILD_DIR"] = build
    try:
        jobs = []
        for i in range(WORKERS):
            place = os.path.join(work, str(i))
            os.makedirs(os.path.join(place, "node"))
            os.symlink(programs, os.path.join(place, "bin"))
            jobs.append({"work": place, "case": case, "fault": fault})
        ref = answer(in_sandbox(jobs[0]))
        points = [p for p in ref["points"] if fault and (fault == "KILL" or p[0] not in NEVER_FAIL)]
        points = points[random.randrange(every)::every]
        # Alternately: what is slow is all in one place.
        running = [in_sandbox(dict(job, points=points[i::WORKERS])) for i, job in enumerate(jobs)] if points else []
        results = [r for p in running for r in answer(p)]
    finally:
        shutil.rmtree(work)
    return Result(case, fault, points, ref["bad"], results, time.time() - began)


def control(name, build, programs):
    """Whether a program with this mistake, or with none, is told from a good one."""
    if name == "none":
        results = [campaign(mistake(name), fault, build, programs) for fault in ("KILL", "EIO")]
        return results, not any(r.bad or r.void for r in results)
    fault, sign = MISTAKES[name]
    result = campaign(mistake(name), fault, build, programs)
    return [result], not result.void and any(sign in b for b in result.bad)


def cannot_run():
    if os.geteuid() != 0:
        return "needs root for namespaces"
    if not shutil.which("strace"):
        return "needs strace"
    return None


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--build-dir", default=os.environ.get("K3SUP_BUILD_DIR") or os.path.join(TOP, "build", "dev"))
    p.add_argument("--full", action="store_true", default=bool(os.environ.get("K3SUP_TEST_FULL")), help="more faults, more cases")
    p.add_argument("-k", metavar="WORD", default="", help="only what has WORD in its name or fault; no controls")
    p.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    a = p.parse_args()
    if a.worker:
        return worker()
    reason = cannot_run()
    if reason:
        print("every_syscall.py: " + reason, file=sys.stderr)
        return 2
    build, status = os.path.abspath(a.build_dir), 0
    plan = [(c, f) for c, f in PLAN + (FULL if a.full else []) if a.k in c.name or a.k == f]
    if not plan:
        p.error("nothing has '%s' in its name" % a.k)
    with tempfile.TemporaryDirectory(prefix="k3sup-crash-") as programs:
        compile_drivers(build, programs)
        for case, fault in plan:
            result = campaign(case, fault, build, programs, slice_of(case, a.full))
            print(result, flush=True)
            status = 3 if result.void else status or int(bool(result.bad))
        for name in [] if a.k else list(MISTAKES) + ["none"]:
            results, right = control(name, build, programs)
            print(*results, sep="\n", flush=True)
            print("    as it must be" if right else "    THIS CONTROL FAILED: the results above prove nothing", flush=True)
            status = status or int(not right)
    print("every_syscall.py: " + {0: "passed", 1: "FAILED", 3: "VOID"}[status])
    return status


if __name__ == "__main__":
    sys.exit(main())
