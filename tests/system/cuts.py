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
