# SPDX-License-Identifier: Apache-2.0
"""The tables of the binding against the headers, the version script and the compiler."""
import ctypes
import os
import re
import subprocess
import sys

import pytest

import k3sup
from k3sup import _ffi, constants

TOP = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "..", ".."))
LAYOUT = """
#include <k3sup.h>
#include <stddef.h>
#include <stdio.h>
int main(void)
{
%s	return 0;
}
"""


def structs(headers):
    """name -> fields, in order."""
    found = {}
    for text in headers.values():
        for name, body in re.findall(r"^struct (k3sup_\w+) \{(.*?)^\};", text, flags=re.S | re.M):
            found[name] = re.findall(r"(\w+)\s*;", body)
    return found


def test_every_symbol_is_in_the_table():
    with open(os.path.join(TOP, "libk3sup", "libk3sup.sym")) as f:
        symbols = set(re.findall(r"^\s*(k3sup_\w+);", f.read(), flags=re.M))
    assert len(symbols) >= 45
    assert symbols == set(_ffi.FUNCTIONS)


def test_every_function_has_as_many_parameters_as_in_its_header(headers):
    seen = set()
    for text in headers.values():
        for name, parameters in re.findall(r"^K3SUP_API [^;(]*?\b(k3sup_\w+)\(([^;]*?)\)(?: K3SUP_MUST_CHECK)?;", text, flags=re.M):
            seen.add(name)
            count = 0 if parameters.strip() == "void" else parameters.count(",") + 1
            assert len(_ffi.FUNCTIONS[name][1]) == count, name
    assert seen == set(_ffi.FUNCTIONS)


def test_every_struct_is_in_the_table_with_the_fields_of_its_header(headers):
    found = structs(headers)
    assert set(found) == set(_ffi.STRUCTS)
    for name, fields in found.items():
        assert [field[0] for field in _ffi.STRUCTS[name]._fields_] == fields, name


def test_layouts_are_those_of_the_compiler(headers, tmp_path):
    lines, expected = "", []
    for name, struct in sorted(_ffi.STRUCTS.items()):
        lines += '\tprintf("%s %%zu\\n", sizeof(struct %s));\n' % (name, name)
        expected.append("%s %d" % (name, ctypes.sizeof(struct)))
        for field in (field[0] for field in struct._fields_):
            member = "((struct %s *)0)->%s" % (name, field)
            lines += '\tprintf("%s.%s %%zu %%zu\\n", offsetof(struct %s, %s), sizeof(%s));\n' % (name, field, name, field, member)
            at = getattr(struct, field)
            expected.append("%s.%s %d %d" % (name, field, at.offset, at.size))
    source = tmp_path / "layout.c"
    source.write_text(LAYOUT % lines)
    subprocess.check_call(["cc", "-I", os.path.join(TOP, "include"), "-o", str(tmp_path / "layout"), str(source)])
    assert subprocess.check_output([str(tmp_path / "layout")]).decode().splitlines() == expected


def test_constants_are_those_of_the_headers(headers):
    there = {}
    for text in headers.values():
        for name, value in re.findall(r"^#define (K3SUP_\w+) \(?(-?\d+)u?\)?\s*$", text, flags=re.M):
            there[name] = int(value)
    version = tuple(there.pop("K3SUP_VERSION_" + part) for part in ("MAJOR", "MINOR", "PATCH"))
    assert version == _ffi.BUILT_FOR
    ours = {"K3SUP_" + name: value for name, value in vars(constants).items() if name.isupper()}
    for prefix, kind in (("K3SUP_E_", k3sup.Code), ("K3SUP_LOG_", k3sup.LogLevel), ("K3SUP_PROBE_", k3sup.Probe),
                         ("K3SUP_RESTART_", k3sup.Restart), ("K3SUP_ROLLBACK_", k3sup.Rollback), ("K3SUP_SERVICE_", k3sup.ServiceAction)):
        ours.update({prefix + member.name: member.value for member in kind})
    assert ours == there


def test_the_package_has_the_version_of_the_headers():
    with open(os.path.join(TOP, "bindings", "python", "pyproject.toml")) as f:
        assert re.search(r'^version = "(.*)"$', f.read(), flags=re.M)[1] == "%d.%d.%d" % _ffi.BUILT_FOR


def test_names_and_sentences_come_from_the_library():
    for code in k3sup.Code:
        assert k3sup.error_name(code) == "K3SUP_E_" + code.name
        assert k3sup.strerror(code) not in ("", "unknown error")
    assert k3sup.error_name(-2) == "ENOENT"


# ---- loading ----

def load(path, **environment):
    env = dict(os.environ, PYTHONPATH=os.path.join(TOP, "bindings", "python"), K3SUP_LIBRARY=path, **environment)
    command = [sys.executable, "-c", "import k3sup; print(k3sup.version())"]
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    return done.returncode, (done.stdout + done.stderr).decode()


def library(tmp_path, version, names=()):
    source = 'const char *k3sup_version(void) { return "%s"; }\n' % version
    source += "".join("int %s(void) { return 0; }\n" % name for name in names if name != "k3sup_version")
    (tmp_path / "fake.c").write_text(source)
    out = str(tmp_path / "libfake.so")
    subprocess.check_call(["cc", "-shared", "-fPIC", "-w", "-o", out, str(tmp_path / "fake.c")])
    return out


@pytest.mark.parametrize("version", ["0.0.9", "1.0.0", "1.1.0", "nonsense"])
def test_a_library_that_is_too_old_or_of_another_major_is_refused(tmp_path, version):
    code, said = load(library(tmp_path, version, _ffi.FUNCTIONS))
    assert code == 1 and "ImportError" in said and version in said and "0.1" in said


@pytest.mark.parametrize("version", ["0.1.0", "0.1.7", "0.12.0"])
def test_a_library_of_the_same_or_a_later_minor_is_taken(tmp_path, version):
    assert load(library(tmp_path, version, _ffi.FUNCTIONS)) == (0, version + "\n")


@pytest.mark.parametrize("missing", ["k3sup_version_compare", "k3sup_doc_i64"])
def test_a_missing_function_is_named(tmp_path, missing):
    code, said = load(library(tmp_path, "0.1.0", set(_ffi.FUNCTIONS) - {missing}))
    assert code == 1 and "ImportError" in said and missing in said


@pytest.mark.parametrize("path", ["libk3sup.so", "./libk3sup.so", "/nowhere/libk3sup.so"])
def test_the_library_is_named_by_an_absolute_path(path):
    code, said = load(path)
    assert code == 1 and "ImportError" in said
