# SPDX-License-Identifier: Apache-2.0
"""Calls go down only, and each foreign library has its own few files."""
import shutil

import pytest
from abi_tools import BUILD, TOP, copy_tree, run
from floors import include_complaints, object_complaints

OBJECTS = BUILD / "CMakeFiles/k3sup_objects.dir"


def test_includes_go_down():
    assert include_complaints(TOP) == []


def test_calls_go_down():
    assert object_complaints(TOP, OBJECTS) == []


PLANTED = {
    "base includes node": ("libk3sup/base/json.c", '#include "node/node.h"\n'),
    "one room includes its neighbour": ("libk3sup/swap/swap.c", '#include "process/running.h"\n'),
    "node includes upgrade": ("libk3sup/node/node.c", '#include "upgrade/view.h"\n'),
    "base includes a public header of swap": ("libk3sup/base/json.c", "#include <k3sup/swap.h>\n"),
    "base includes everything": ("libk3sup/base/json.c", "#include <k3sup.h>\n"),
    "a header without its room": ("libk3sup/base/json.c", '#include "json.h"\n'),
    "jansson outside of json.c": ("libk3sup/base/util.c", "#include <jansson.h>\n"),
    "libuv outside of its files": ("libk3sup/node/node.c", "#include <uv.h>\n"),
    "OpenSSL outside of digest.c": ("libk3sup/swap/swap.c", "#include <openssl/evp.h>\n"),
    "two libraries in one file": ("libk3sup/base/json.c", "#include <yaml.h>\n"),
    "an include with blanks": ("libk3sup/base/util.c", "#  include  <zlib.h>\n"),
}


@pytest.mark.parametrize("what", PLANTED)
def test_control_includes_find(what, tmp_path):
    tree = copy_tree(tmp_path)
    assert include_complaints(tree) == []
    file, line = PLANTED[what]
    path = tree / file
    path.write_text(line + path.read_text())
    assert include_complaints(tree) != []


def test_control_includes_find_a_stray_file(tmp_path):
    tree = copy_tree(tmp_path)
    (tree / "libk3sup/stray.c").write_text("/* no room */\n")
    assert include_complaints(tree) != []


ROGUES = {
    "base calls swap": ("base/rogue.c", "k3sup_swap"),
    "one room calls its neighbour": ("swap/rogue.c", "k3sup_signal"),
    "libuv outside of its files": ("base/rogue.c", "uv_fs_open"),
    "jansson outside of json.c": ("node/rogue.c", "json_object"),
    "libyaml outside of yaml.c": ("node/rogue.c", "yaml_parser_parse"),
    "OpenSSL outside of digest.c": ("node/rogue.c", "EVP_DigestInit_ex"),
    "zlib outside of journal.c": ("swap/rogue.c", "inflateInit2_"),
}


@pytest.mark.parametrize("what", ROGUES)
def test_control_objects_find(what, tmp_path):
    file, symbol = ROGUES[what]
    objects = tmp_path / "objects"
    shutil.copytree(OBJECTS / "libk3sup", objects)
    tree = copy_tree(tmp_path / "tree")
    assert object_complaints(tree, objects) == []
    text = f"int rogue(void);\nint {symbol}(void);\nint rogue(void)\n{{\n\treturn {symbol}();\n}}\n"
    (tree / "libk3sup" / file).write_text(text)
    result = run("gcc", "-x", "c", "-c", "-o", objects / f"{file}.o", "-", input=text)
    assert result.returncode == 0, result.stderr
    assert any(symbol in complaint for complaint in object_complaints(tree, objects))


def test_control_objects_find_what_was_not_compiled(tmp_path):
    tree = copy_tree(tmp_path)
    (tree / "libk3sup/base/forgotten.c").write_text("/* nobody compiles this */\n")
    assert object_complaints(tree, OBJECTS) == ["base/forgotten.c: was not compiled"]
