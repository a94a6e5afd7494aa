# SPDX-License-Identifier: Apache-2.0
"""The functions in the headers, in the version script and in the library are the same, and each can be linked."""
import re

import pytest
from abi_tools import BUILD, LIBRARY, TOP, copy_tree, declarations, headers, replace, run, stub_library


def script_nodes(top):
    """The version script: [(node, its names, the node it is built upon)]."""
    text = re.sub(r"/\*.*?\*/", " ", (top / "libk3sup" / "libk3sup.sym").read_text(), flags=re.S)
    nodes = []
    for node, body, parent in re.findall(r"(\w[\w.]*)\s*\{(.*?)\}\s*(\w[\w.]*)?\s*;", text, flags=re.S):
        listed = body.split("local:")[0].replace("global:", "")
        nodes.append((node, [name for name in re.findall(r"\w+", listed)], parent))
    return nodes


def exported(library):
    """The dynamic symbols of a library: {name: node}."""
    names = {}
    for line in run("nm", "-D", "--defined-only", library).stdout.splitlines():
        word, kind = line.split()[-1], line.split()[-2]
        if kind != "A":
            name, _, node = word.partition("@")
            names[name] = node.lstrip("@")
    return names


def complaints(top, library, where):
    """Everything that is wrong, as sentences."""
    found = []
    declared = set(declarations(top))
    nodes = script_nodes(top)
    listed = [name for _, names, _ in nodes for name in names]
    there = exported(library)
    found += [f"{name} is in the headers but not in the version script" for name in declared - set(listed)]
    found += [f"{name} is in the version script but not in the headers" for name in set(listed) - declared]
    found += [f"{name} is in the version script but not in the library" for name in set(listed) - there.keys()]
    found += [f"{name} is in the library but not in the version script" for name in there.keys() - set(listed)]
    found += [f"{name} is listed twice" for name in set(listed) if listed.count(name) > 1]
    found += [f"{name} lacks the prefix" for name in there if not name.startswith("k3sup_") or name.startswith("k3sup__")]
    found += [f"{name} has the version {there[name]}, not {node}" for node, names, _ in nodes for name in names if there.get(name, node) != node]
    found += node_complaints(top, nodes)
    found += since_complaints(top)
    return found + link_complaints(top, library, where)


def node_complaints(top, nodes):
    """Nodes are chained, and none is newer than the version."""
    text = (top / "include" / "k3sup" / "version.h").read_text()
    version = tuple(int(re.search(rf"VERSION_{part} (\d+)", text).group(1)) for part in ("MAJOR", "MINOR"))
    found = []
    for (node, _, parent), before in zip(nodes, [""] + [name for name, _, _ in nodes]):
        if parent != before:
            found.append(f"node {node} is not built upon {before}")
        if not re.fullmatch(r"K3SUP_\d+\.\d+", node) or tuple(map(int, node[6:].split("."))) > version:
            found.append(f"node {node} is newer than the version")
    return found


def since_complaints(top):
    """Every function says since when it is there, and no later node has an earlier function."""
    found = []
    node_of = {name: node[6:] for node, names, _ in script_nodes(top) for name in names}
    for header in headers(top):
        text = (top / "include" / header).read_text()
        for comment, declaration in re.findall(r"/\*\*((?:(?!\*/).)*?)\*/\n(K3SUP_API [^;{]*);", text, flags=re.S):
            name = re.search(r"(\w+)\s*\(", declaration).group(1)
            since = re.search(r"Since: (\S+)", comment)
            if not since or since.group(1) != node_of.get(name, since.group(1)):
                found.append(f"{name} does not say since which version it is there")
            if f"{name}()" not in comment:
                found.append(f"{name} has the comment of another function")
        documented = len(re.findall(r"\*/\nK3SUP_API ", text))
        if documented != len(re.findall(r"^K3SUP_API ", text, flags=re.M)):
            found.append(f"{header} has a function without a comment")
    return found


def link_complaints(top, library, where):
    """A program that takes the address of every function, as the umbrella header shows them, can be built and run."""
    source = where / "addresses.c"
    names = sorted(declarations(top))
    source.write_text("#include <k3sup.h>\ntypedef void (*any)(void);\nint main(void)\n{\n\tany all[] = {\n"
                      + "".join(f"\t\t(any){name},\n" for name in names)
                      + "\t};\n\tfor (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)\n\t\tif (!all[i])\n\t\t\treturn 1;\n\treturn 0;\n}\n")
    built = run("gcc", "-std=c17", "-Wall", "-Wextra", "-Werror", f"-I{top}/include", "-o", where / "addresses", source, library,
                f"-Wl,-rpath,{library.parent}")
    if built.returncode:
        return [f"cannot be linked: {built.stderr}"]
    return [] if run(where / "addresses").returncode == 0 else ["a function has no address"]


def test_headers_script_and_library_agree(tmp_path):
    assert complaints(TOP, LIBRARY, tmp_path) == []


def test_soname():
    assert "Library soname: [libk3sup.so.0]" in run("readelf", "-d", LIBRARY).stdout
    assert (BUILD / "libk3sup.so").resolve() == LIBRARY.resolve()


def test_linked_with_everything_bound_and_read_only():
    text = run("readelf", "-dlW", LIBRARY).stdout
    assert "BIND_NOW" in text and "GNU_RELRO" in text
    assert re.search(r"GNU_STACK.* RW ", text), "the stack is executable"


PLANTED = {
    "a function only in a header": ("include/k3sup/swap.h", "K3SUP_END_DECLS", "/** k3sup_new() - new. Since: 0.1 */\nK3SUP_API int k3sup_new(void);\nK3SUP_END_DECLS"),
    "a function only in the script": ("libk3sup/libk3sup.sym", "\tk3sup_swap;\n", "\tk3sup_swap;\n\tk3sup_swop;\n"),
    "a function left out of the script": ("libk3sup/libk3sup.sym", "\tk3sup_swap;\n", ""),
    "a function left out of the umbrella": ("include/k3sup.h", "#include <k3sup/swap.h>\n", ""),
    "a node newer than the version": ("libk3sup/libk3sup.sym", "K3SUP_0.1 {", "K3SUP_0.2 {"),
    "a node that is not chained": ("libk3sup/libk3sup.sym", "\tk3sup_swap;\n", "local:\n\t*;\n};\nK3SUP_0.1 {\nglobal:\n\tk3sup_swap;\n"),
    "a function without Since": ("include/k3sup/node.h", "while an operation uses it. Since: 0.1 */", "while an operation uses it. */"),
    "a function without a comment": ("include/k3sup/doc.h", "/** k3sup_doc_ref() - take one more reference. NULL is fine. Since: 0.1 */\n", ""),
}


@pytest.mark.parametrize("what", PLANTED)
def test_control_finds(what, tmp_path):
    file, old, new = PLANTED[what]
    tree = copy_tree(tmp_path)
    library = stub_library(tree, tmp_path)
    assert complaints(tree, library, tmp_path) == [], "the control's tree was not clean before"
    replace(tree / file, old, new)
    assert complaints(tree, library, tmp_path) != []


def test_control_finds_a_private_function_that_got_out(tmp_path):
    tree = copy_tree(tmp_path)
    replace(tree / "libk3sup/libk3sup.sym", "\tk3sup_swap;\n", "\tk3sup_swap;\n\tk3sup__inner;\n\tstray;\n")
    library = stub_library(tree, tmp_path, "K3SUP_API int k3sup__inner(void) { return 0; } K3SUP_API int stray(void) { return 0; }")
    text = "\n".join(complaints(tree, library, tmp_path))
    assert "k3sup__inner lacks the prefix" in text and "stray lacks the prefix" in text
