# SPDX-License-Identifier: Apache-2.0
"""The system calls of one process at which a run of its own can be cut with `strace -e inject=NAME:signal=KILL:when=N`. N counts the calls of that name, not all of them."""
import re

LOOKING = ("newfstatat", "fstat", "openat", "close", "fcntl", "read", "pread64", "readlinkat", "readlink", "getdents64", "fstatfs", "statx", "lseek", "mmap", "munmap", "brk", "mprotect",
           "clock_gettime", "access", "faccessat", "faccessat2")


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
