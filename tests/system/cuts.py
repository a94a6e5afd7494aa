# SPDX-License-Identifier: Apache-2.0
"""The system calls of one process at which a run of its own can be cut with `strace -e inject=NAME:signal=KILL:when=N`. N counts the calls of that name, not all of them."""
import itertools
import json
import os
import random
import re
import time

FULL = bool(os.environ.get("K3SUP_TEST_FULL"))
PARTS = 4 if FULL else 1  # side by side: most of the time somebody waits for a guard
# What is cut. "agent": a rotation of one; "both": an upgrade with a rotation, in one window.
ROTATE = ("rotate", "agent", "both")
WHATS = [(what, part) for what in ("rotate", "agent", "upgrade", "both", "rollback") for part in range(PARTS)]
LOOKING = ("newfstatat", "fstat", "openat", "close", "fcntl", "read", "pread64", "readlinkat", "readlink", "getdents64", "fstatfs", "statx", "lseek", "mmap", "munmap", "brk", "mprotect",
           "clock_gettime", "access", "faccessat", "faccessat2", "getpid", "geteuid", "getsockopt", "rt_sigprocmask", "getrandom", "pidfd_open", "socket", "epoll_ctl", "ioctl")


def cuts_in(trace, first):
    """([(system call, its number among those of its name)] of what others can see, the same of the looking between), from the first line with this text on."""
    seen, found = {}, []
    for line in trace.splitlines():
        name = re.match(r"(\w+)\(", line)
        if name:
            seen[name[1]] = seen.get(name[1], 0) + 1
            if found or first in line:
                found.append((name[1], seen[name[1]]))
    return [c for c in found if c[0] not in LOOKING], [c for c in found if c[0] in LOOKING]


def inject(trace, name, n):
    """strace with this cut, and what it writes down: where that ends says whether it struck."""
    return ["strace", "-q", "-o", trace, "-e", "trace=" + name, "-e", "inject=%s:signal=KILL:when=%d" % (name, n)]


def strike(name, n, run):
    """The number of the call at which a run was cut: n, or where that run had fewer (how often it waits differs from run to run) the last one of a run. run(name, n): its trace."""
    for _ in range(20):
        trace = run(name, n)
        if "+++ killed by SIGKILL" in trace:
            return n
        made = len(re.findall(r"^%s\(" % name, trace, re.M))
        if "+++ exited with 0 +++" in trace and made > 0: # else it was too slow for its guard, and no whole run
            n = min(n, made)
    raise AssertionError("%s %d never struck:\n%s" % (name, n, trace[-2000:]))


class Cuts:
    """Runs of driver-service that are cut. Of a manager's own: traced(strace, words) (the trace; all that was begun is killed with it), plain(words) (what was said), settled(why) (returns
    when k3s runs again without us, and asserts that), check() (of k3sup-certs, as json)."""

    def __init__(self, machine, what, payloads):
        self.machine, self.what, self.payloads, self.turns = machine, what, payloads, itertools.count()
        self.name = "k3s-agent" if what == "agent" else "k3s"

    def begin(self):
        """The words for one more run that has something to do."""
        i = next(self.turns)
        if self.what == "rollback":
            assert self.plain("upgrade=," + self.payloads[1])["ok"]
        return {"rotate": "rotate=%d" % i, "agent": "rotate=%d" % i, "rollback": "rollback", "upgrade": "upgrade=," + self.payloads[(i + 1) % 2], "both": "upgrade=%d,%s" % (i, self.payloads[(i + 1) % 2])}[self.what]

    def cut(self, name, n):
        why, words = "%s, cut at %s %d (seed %d)" % (self.what, name, n, self.seed), self.begin()
        trace = self.traced(inject(self.TRACE, name, n), words)
        self.settled(why)
        if self.what in ROTATE:
            self.assert_whole(why)
        done = self.plain(words)
        assert done["ok"] and done["state"] == "current" and done["flags"] == [], "%s: %r" % (why, done)
        assert self.plain(words)["changed"] is False, why
        return trace

    def assert_whole(self, why):
        wrong = [p for p in self.check()["problems"] if p["remedy"] != "note"]
        assert not wrong, "%s: %r" % (why, wrong)

    def everywhere(self, part):
        """From the first thing on that is for good: some points, or all that others can see and some of the looks between; this part of them."""
        self.seed = int(os.environ.get("K3SUP_TEST_SEED") or time.time())
        for _ in range(1 if self.what in ("rotate", "agent") else 2): # both builds are unpacked then, and one is kept
            assert self.plain(self.begin())["ok"]
        words = self.begin()
        doing, looking = cuts_in(self.traced(["strace", "-q", "-o", self.TRACE], words), "fsync(")
        assert doing and self.plain(words)["changed"] is False, "the run to look at was no whole one"
        chosen = random.Random(self.seed)
        points = doing[part::PARTS] + chosen.sample(looking, 10) if FULL else chosen.sample(doing, 1)
        for name, n in points:
            strike(name, n, self.cut)
        print("%s: %d cuts, each struck, none bad (of %d that others can see), part %d of %d, seed %d" % (self.what, len(points), len(doing), part + 1, PARTS, self.seed))
