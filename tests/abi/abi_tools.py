# SPDX-License-Identifier: Apache-2.0
"""What the ABI gates share: reading the public headers, compiling, and a tree to plant breakages in."""
import os
import re
import shutil
import subprocess
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("K3SUP_BUILD_DIR", TOP / "build" / "dev"))
LIBRARY = BUILD / "libk3sup.so.0"


def run(*command, **options):
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False, **options)


def headers(top=TOP):
    """The public headers by the name a user writes: k3sup.h, k3sup/api.h, ..."""
    include = top / "include"
    return ["k3sup.h"] + sorted(str(path.relative_to(include)) for path in include.glob("k3sup/*.h"))


def without_comments(text):
    return re.sub(r"/\*.*?\*/", " ", text, flags=re.S)


def declarations(top=TOP):
    """Every K3SUP_API declaration: {name: (what stands before the name, its arguments)}."""
    found = {}
    for header in headers(top):
        text = without_comments((top / "include" / header).read_text())
        text = re.sub(r"^#.*(?:\\\n.*)*$", "", text, flags=re.M)
        for returns, name, args in re.findall(r"^K3SUP_API\s+([^;{}]*?)(\w+)\s*\(([^;{}]*?)\)[^;()]*;", text, flags=re.M):
            found[name] = (returns.strip(), args)
    return found


def structs(top=TOP):
    """Every struct that a header defines: {name: [fields in order]}."""
    found = {}
    for header in headers(top):
        text = without_comments((top / "include" / header).read_text())
        for name, body in re.findall(r"^struct (\w+) \{(.*?)^\};", text, flags=re.M | re.S):
            found[name] = re.findall(r"(\w+)\s*(?:\[[^]]*\])?\s*;", body)
    return found


def opaque_structs(top=TOP):
    """The structs that headers name but never define."""
    names = set()
    for header in headers(top):
        names.update(re.findall(r"^typedef struct (\w+) \w+;", (top / "include" / header).read_text(), flags=re.M))
    return names - structs(top).keys()


def copy_tree(where):
    """A copy of what the gates look at, to be broken."""
    where = Path(where)
    for part in ("include", "libk3sup"):
        shutil.copytree(TOP / part, where / part)
    (where / "tests").mkdir()
    shutil.copytree(TOP / "tests" / "abi", where / "tests" / "abi", ignore=shutil.ignore_patterns("__pycache__"))
    return where


def replace(path, old, new):
    """Plants a breakage. The text must be there, or the control would prove nothing."""
    text = path.read_text()
    assert old in text, f"{path.name} does not contain {old!r}"
    path.write_text(text.replace(old, new, 1))


def stub_library(top, where, extra=""):
    """A shared library with debug information whose functions do nothing: the ABI that the headers of a tree promise."""
    where = Path(where)
    source = where / "stub.c"
    bodies = [f"K3SUP_API {returns} {name}({args}) {{ __builtin_trap(); }}" for name, (returns, args) in declarations(top).items()]
    # Opaque structs have contents in the library, and some contents are other opaque structs.
    insides = [f"struct {name} {{ int inside; }};" for name in sorted(opaque_structs(top)) if f"struct {name} {{" not in extra]
    source.write_text("#include <k3sup.h>\n" + "\n".join(insides) + "\n" + extra + "\n" + "\n".join(bodies) + "\n")
    library = where / "libk3sup.so.0"
    result = run("gcc", "-std=gnu17", "-w", "-g", "-O0", "-fPIC", "-shared", "-fvisibility=hidden", f"-I{top}/include", "-Wl,-soname,libk3sup.so.0",
                 f"-Wl,--version-script={top}/libk3sup/libk3sup.sym", "-o", library, source.name, cwd=where)  # the name without its path: it goes into the debug information
    assert result.returncode == 0, result.stderr
    return library
