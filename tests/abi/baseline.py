#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The frozen ABI: libk3sup.abi.

    baseline.py check [LIBRARY]   compares a library with it; every difference counts, additions too
    baseline.py refresh           writes it anew from the headers: in the commit that adds to the interface, so that the review sees what was added

The baseline is made from a library whose functions are empty, so it holds what the headers promise and nothing of the inside; what is checked is the real
library. Nothing is filtered by header (abidiff 2.2 then misses swapped fields), and any exit code but 0 is a failure (a changed signature is 4, not 12).
"""
import re
import sys
import tempfile
from pathlib import Path

from abi_tools import LIBRARY, TOP, run, stub_library

ABI = "tests/abi/libk3sup.abi"
OPAQUE = "tests/abi/opaque.ini"


def dump(top=TOP):
    """The ABI of a tree's headers, without anything that differs between machines."""
    with tempfile.TemporaryDirectory() as where:
        library = stub_library(top, where)
        result = run("abidw", "--no-corpus-path", "--no-comp-dir-path", "--no-show-locs", "--no-elf-needed", library)
    assert result.returncode == 0, result.stderr
    return result.stdout


def differences(baseline, library, top=TOP):
    """What abidiff has to say; empty if the library has exactly this ABI."""
    if ".debug_info" not in run("readelf", "-SW", library).stdout:
        return f"{library} has no debug information: abidiff would compare names only, and find nothing"
    result = run("abidiff", "--suppressions", top / OPAQUE, baseline, library)
    return "" if result.returncode == 0 else f"abidiff says {result.returncode}\n{result.stdout}{result.stderr}"


def suppressed(top=TOP):
    return set(re.findall(r"^\s*name = (\w+)$", (top / OPAQUE).read_text(), flags=re.M))


def main(words):
    if words == ["refresh"]:
        (TOP / ABI).write_text(dump())
        return 0
    if words[:1] == ["check"] and len(words) <= 2:
        text = differences(TOP / ABI, Path(words[1]) if words[1:] else LIBRARY)
        print(text or "the ABI is the frozen one")
        return 1 if text else 0
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
