# SPDX-License-Identifier: Apache-2.0
"""The library has the frozen ABI, and the comparison would see if it had not."""
import pytest
from abi_tools import LIBRARY, TOP, copy_tree, opaque_structs, replace, run, stub_library
from baseline import ABI, OPAQUE, differences, dump, suppressed


def test_the_library_has_the_frozen_abi():
    assert differences(TOP / ABI, LIBRARY) == "", "if this was meant: tests/abi/baseline.py refresh, in the same commit"


def test_the_headers_promise_the_frozen_abi(tmp_path):
    assert differences(TOP / ABI, stub_library(TOP, tmp_path)) == "", "if this was meant: tests/abi/baseline.py refresh, in the same commit"


def test_only_opaque_structs_are_suppressed():
    assert suppressed() == opaque_structs()


def test_the_suppressions_know_no_other_kind():
    lines = [line.strip() for line in (TOP / OPAQUE).read_text().splitlines()]
    assert all(not line or line[0] == "#" or line == "[suppress_type]" or line.startswith("name = ") for line in lines)


PAYLOAD = "	const char *payload;   /* the new k3s file, a path of the caller */\n"
RESERVED = "	const char *reserved;  /* NULL */\n"
BREAKAGES = {
    "two fields of one kind swapped": [("include/k3sup/swap.h", PAYLOAD + RESERVED, RESERVED + PAYLOAD)],
    "a field added at the end": [("include/k3sup/swap.h", "keep_backups; /* how many builds that were installed before are kept; 0: 1 */", "keep_backups; /* how many builds that were installed before are kept; 0: 1 */\n	uint64_t more;")],
    "a field of another type": [("include/k3sup/swap.h", "uint32_t keep_backups;", "int32_t keep_backups;")],
    "a function removed": [("include/k3sup/doc.h", "K3SUP_API int64_t k3sup_doc_len(k3sup_doc *doc, const char *path);", ""),
                           ("libk3sup/libk3sup.sym", "\tk3sup_doc_len;\n", "")],
    "a function added": [("include/k3sup/doc.h", "K3SUP_END_DECLS", "K3SUP_API int k3sup_new(void);\nK3SUP_END_DECLS"),
                         ("libk3sup/libk3sup.sym", "\tk3sup_swap;\n", "\tk3sup_new;\n\tk3sup_swap;\n")],
    "another return type": [("include/k3sup/doc.h", "K3SUP_API int64_t k3sup_doc_len(", "K3SUP_API int k3sup_doc_len(")],
    "another parameter type": [("include/k3sup/op.h", "k3sup_op_wait(k3sup_op *op, int64_t timeout_ms)", "k3sup_op_wait(k3sup_op *op, int32_t timeout_ms)")],
    "a parameter more": [("include/k3sup/op.h", "k3sup_op_wait(k3sup_op *op, ", "k3sup_op_wait(k3sup_op *op, int more, ")],
    "a callback with another signature": [("include/k3sup/op.h", "typedef int32_t (*k3sup_progress_fn)", "typedef void (*k3sup_progress_fn)")],
    "another symbol version": [("libk3sup/libk3sup.sym", "K3SUP_0.1 {", "K3SUP_0.0 {")],
}


def frozen(tmp_path):
    """A baseline in the control's own tree, clean before anything is planted."""
    tree = copy_tree(tmp_path)
    (tree / ABI).write_text(dump(tree))
    assert differences(tree / ABI, stub_library(tree, tmp_path), tree) == ""
    return tree


@pytest.mark.parametrize("what", BREAKAGES)
def test_control_finds(what, tmp_path):
    tree = frozen(tmp_path)
    for file, old, new in BREAKAGES[what]:
        replace(tree / file, old, new)
    assert differences(tree / ABI, stub_library(tree, tmp_path), tree) != ""


def test_control_finds_a_library_without_debug_information(tmp_path):
    tree = frozen(tmp_path)
    library = stub_library(tree, tmp_path)
    assert run("strip", "--strip-debug", library).returncode == 0
    assert differences(tree / ABI, library, tree) != ""


def test_control_lets_opaque_structs_change(tmp_path):
    tree = frozen(tmp_path)
    library = stub_library(tree, tmp_path, "struct k3sup_ctx { long a; k3sup_op *b; char c[99]; };")
    assert differences(tree / ABI, library, tree) == ""
