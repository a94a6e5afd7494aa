# SPDX-License-Identifier: Apache-2.0
"""Each fuzz target under libFuzzer with ASan and UBSan for a while: 10 s, or K3SUP_TEST_FULL=1: 10 minutes. The corpora alone are ctest's (fuzz-*)."""
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
TOP = HERE.parent.parent
BUILD = Path(os.environ.get("K3SUP_BUILD_DIR") or TOP / "build" / "dev").resolve()
SECONDS = 600 if os.environ.get("K3SUP_TEST_FULL") else 10
TARGETS = sorted(path.stem[len("fuzz-"):] for path in HERE.glob("fuzz-*.c"))
SANITIZERS = "-fsanitize=address,undefined", "-fno-sanitize-recover=all"


def flags(what):
    packages = ["libuv", "libssl", "libcrypto", "zlib", "jansson", "yaml-0.1"]
    return subprocess.check_output(["pkg-config", what, *packages], text=True).split()


@pytest.fixture(scope="module")
def clang():
    found = shutil.which("clang-14") or shutil.which("clang")
    if not found:
        pytest.skip("needs clang")
    # libFuzzer comes in a package of its own.
    probe = subprocess.run([found, "-x", "c", "-fsanitize=fuzzer", "-o", "/dev/null", "-"], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                           input="#include <stddef.h>\nint LLVMFuzzerTestOneInput(const char *, size_t);\n"
                                 "int LLVMFuzzerTestOneInput(const char *p, size_t n) { return p && n > 9; }\n")
    if probe.returncode != 0:
        pytest.skip("needs libFuzzer: " + probe.stdout.strip().split("\n")[-1])
    return found


def compile_(clang, source, out, more):
    subprocess.check_call([clang, "-std=c17", "-O1", "-g", "-D_GNU_SOURCE", "-D_FILE_OFFSET_BITS=64", "-D_TIME_BITS=64", "-DK3SUP__BUILT=0",
                           "-fno-omit-frame-pointer",
                           *SANITIZERS, "-I", TOP / "include", "-I", TOP / "libk3sup", *flags("--cflags"), *more, "-c", source, "-o", out])


@pytest.fixture(scope="module")
def objects(clang):
    """The library, instrumented. Kept from run to run; a file is compiled anew when any source is newer."""
    where = BUILD / "fuzz"
    sources = sorted((TOP / "libk3sup").glob("*/*.c"))
    newest = max(path.stat().st_mtime for path in [*TOP.glob("libk3sup/*/*.[ch]"), *TOP.glob("include/k3sup/*.h")])
    where.mkdir(parents=True, exist_ok=True)
    made = []
    for source in sources:
        out = where / ("%s-%s.o" % (source.parent.name, source.stem))
        if not out.exists() or out.stat().st_mtime < newest:
            compile_(clang, source, out, ["-fsanitize=fuzzer-no-link"])
        made.append(out)
    return made


@pytest.mark.parametrize("target", TARGETS)
def test_target(clang, objects, tmp_path, target):
    program, found = tmp_path / target, tmp_path / "found"
    compile_(clang, HERE / ("fuzz-%s.c" % target), tmp_path / "target.o", ["-fsanitize=fuzzer-no-link"])
    subprocess.check_call([clang, "-fsanitize=fuzzer", *SANITIZERS, tmp_path / "target.o", *objects, *flags("--libs"), "-lpthread", "-o", program])
    found.mkdir()
    # setarch: the sanitizers of clang 14 do not know as much address randomisation as new kernels do.
    done = subprocess.run(["setarch", "-R", program, "-max_total_time=%d" % SECONDS, "-timeout=20", "-max_len=65536", "-print_final_stats=1",
                           "-artifact_prefix=%s/" % tmp_path, found, HERE / "corpus" / target],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-6000:]
    runs = int(re.search(r"stat::number_of_executed_units: (\d+)", done.stdout)[1])
    print("%s: %d runs" % (target, runs))
    assert runs > 100, done.stdout[-2000:]
