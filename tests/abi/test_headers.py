# SPDX-License-Identifier: Apache-2.0
"""The public headers in every language and by every compiler that may include them, and the layout of their structs."""
import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from abi_tools import TOP, copy_tree, headers, replace, run, structs, without_comments

C = ["c99", "c11", "c17"]
CXX = ["c++11", "c++17", "c++20"]
WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Wundef", "-Wpadded", "-Werror", "-fsyntax-only"]
COMPILERS = [(compiler, language) for compiler in ("gcc", "clang-14") for language in C + CXX]
# Without a libc: clang brings stddef.h and stdint.h, and the headers need no more.
MACHINES = ["x86_64-linux-gnu", "arm-linux-gnueabihf", "i386-linux-gnu", "s390x-linux-gnu"]


def compile_text(top, text, compiler, language):
    kind = ["-x", "c", "-Wc++-compat"] if language in C else ["-x", "c++"]
    return run(compiler, *kind, f"-std={language}", *WARNINGS, f"-I{top}/include", "-", input=text)


def complaints(top, compilers=tuple(COMPILERS)):
    """Each header alone and twice, and all in reverse order: with every compiler, in every language."""
    texts = [f"#include <{name}>\n#include <{name}>\n" for name in headers(top)]
    texts.append("".join(f"#include <{name}>\n" for name in reversed(headers(top))))
    jobs = [(text, compiler, language) for text in texts for compiler, language in compilers]
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda job: compile_text(top, *job), jobs))
    return [f"{job}: {result.stderr}" for job, result in zip(jobs, results) if result.returncode]


def layout_complaints(top):
    found = []
    for machine in MACHINES:
        result = run("clang-14", f"--target={machine}", "-ffreestanding", "-std=c17", "-Wall", "-Wextra", "-Wpadded", "-Werror", "-fsyntax-only",
                     f"-I{top}/include", top / "tests/abi/layout.c")
        if result.returncode:
            found.append(f"{machine}: {result.stderr}")
    text = without_comments((top / "tests/abi/layout.c").read_text())
    for name, fields in structs(top).items():
        if re.findall(rf"^AT\({name}, (\w+),", text, flags=re.M) != fields:
            found.append(f"layout.c does not have the fields of struct {name}")
        if not re.search(rf"^END\({name}, {fields[-1]},", text, flags=re.M):
            found.append(f"layout.c does not have the end of struct {name}")
    return found + type_complaints(top)


def type_complaints(top):
    """Fields are fixed-width integers, const char *, objects, and callbacks; every options struct begins with its size and flags."""
    found = []
    allowed = re.compile(r"(u?int(32|64)_t|(const char|k3sup_\w+) \*|const char \*const \*)\s*\w+$")
    for header in headers(top):
        for name, body in re.findall(r"^struct (\w+) \{(.*?)^\};", without_comments((top / "include" / header).read_text()), flags=re.M | re.S):
            for field in (part.strip() for part in body.split(";")):
                if field and not allowed.match(field):
                    found.append(f"struct {name} has a field that not every binding can read: {field}")
    for name, fields in structs(top).items():
        if name.endswith("_opts") and fields[:2] != ["struct_size", "flags"]:
            found.append(f"struct {name} does not begin with struct_size and flags")
    return found


def test_headers_compile_everywhere():
    assert complaints(TOP) == []


def test_layout_is_what_callers_were_built_with():
    assert layout_complaints(TOP) == []


HEADER_BREAKAGES = {
    "a header that needs another one": ("include/k3sup/swap.h", "#include <k3sup/api.h>\n", ""),
    "a guard that is missing": ("include/k3sup/swap.h", "#ifndef K3SUP_SWAP_H\n#define K3SUP_SWAP_H\n", "#if 1\n"),
    "a word that C++ keeps for itself": ("include/k3sup/op.h", "const char *step;", "const char *class;"),
    "a comment of C99 in C++ clothes": ("include/k3sup/op.h", "const char *step;", "const char *step = nullptr;"),
    "padding at the end": ("include/k3sup/swap.h", "	uint32_t keep_backups; /* how many builds that were installed before are kept; 0: 1 */\n", ""),
    "padding inside": ("include/k3sup/swap.h", "	uint32_t flags;        /* K3SUP_SWAP_* */\n", ""),
}


@pytest.mark.parametrize("what", HEADER_BREAKAGES)
def test_control_headers_find(what, tmp_path):
    tree = copy_tree(tmp_path)
    file, old, new = HEADER_BREAKAGES[what]
    replace(tree / file, old, new)
    assert complaints(tree, [("gcc", "c17"), ("clang-14", "c++11")]) != []


LAYOUT_BREAKAGES = {
    "two fields swapped": ("const char *payload;   /* the new k3s file, a path of the caller */\n	const char *reserved;  /* NULL */",
                           "const char *reserved;  /* NULL */\n	const char *payload;   /* the new k3s file, a path of the caller */"),
    "a field renamed": ("uint32_t keep_backups;", "uint32_t reserved3;"),
    "a field of another width": ("int32_t payload_fd;", "int64_t payload_fd;"),
    "a field that layout.c does not know": ("uint32_t keep_backups; /* how many builds that were installed before are kept; 0: 1 */", "uint32_t keep_backups; /* how many builds that were installed before are kept; 0: 1 */\n	int64_t more;"),
    "a field whose width depends on the machine": ("uint32_t keep_backups;", "unsigned keep_backups;"),
}


@pytest.mark.parametrize("what", LAYOUT_BREAKAGES)
def test_control_layout_finds(what, tmp_path):
    tree = copy_tree(tmp_path)
    replace(tree / "include/k3sup/swap.h", *LAYOUT_BREAKAGES[what])
    assert layout_complaints(tree) != []
