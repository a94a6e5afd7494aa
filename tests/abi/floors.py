#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The floors of the house: calls go down only, and each foreign library has its own few files.

    floors.py [TREE [OBJECTS]]    prints what breaks the rules; exit 1 if anything does

Checked twice: by what the sources include, and by what the compiled objects want from elsewhere.
"""
import re
import sys
from pathlib import Path

from abi_tools import BUILD, TOP, run

# Who may include whose private headers. Three rooms do not know each other.
BELOW = {
    "base": {"base"},
    "node": {"base", "node"},
    "swap": {"base", "node", "swap"},
    "process": {"base", "node", "process"},
    "certs": {"base", "node", "certs"},
    "upgrade": {"base", "node", "swap", "process", "certs", "upgrade"},
}

# Public headers that belong to a floor. The others (api, ctx, doc, error, op, and process for its handles) are everybody's.
PUBLIC_ROOM = {"k3sup/node.h": "node", "k3sup/swap.h": "swap", "k3sup/upgrade.h": "upgrade", "k3sup/certs.h": "certs"}

# Foreign library: (its headers, its symbols, the files that may use it).
FOREIGN = {
    "jansson": (r"jansson\.h", r"json(_|p_)\w+", {"base/json.c"}),
    "libyaml": (r"yaml\.h", r"yaml_\w+", {"base/yaml.c"}),
    "libuv": (r"uv\.h|uv/.*", r"uv_\w+", {"base/engine.h", "base/ctx.c", "base/watch.c", "base/worker.c"}),
    "OpenSSL": (r"openssl/.*", r"(EVP|OSSL|OPENSSL|CRYPTO|ERR|SHA\d*|X509|ASN1|BIO|PEM|SSL|TLS|d2i|i2d|BN|OBJ|GENERAL_NAMES|EXTENDED_KEY_USAGE)_\w+|SHA\d+", {"base/digest.c", "base/signature.c", "base/tls.c", "base/x509.c"}),
    "zlib": (r"zlib\.h|zconf\.h", r"crc32\w*|adler32\w*|(in|de)flate\w*|gz[a-z]+|(un)?compress2?|zlib\w+", {"base/inflate.c", "base/journal.c"}),
}


def sources(tree):
    """Every source file below libk3sup/ as room/file."""
    root = tree / "libk3sup"
    return {str(path.relative_to(root)): path.read_text() for path in sorted(root.rglob("*.[ch]"))}


def include_complaints(tree):
    found = []
    files = sources(tree)
    for name, text in files.items():
        room = name.split("/")[0]
        if room not in BELOW or name.count("/") != 1:
            found.append(f"{name}: no such room")
            continue
        for included in re.findall(r'^\s*#\s*include\s+"([^"]+)"', text, flags=re.M):
            if included not in files:
                found.append(f"{name}: \"{included}\" is not named as room/file.h")
            elif included.split("/")[0] not in BELOW[room]:
                found.append(f"{name}: includes {included}, which is not below it")
        for included in re.findall(r"^\s*#\s*include\s+<([^>]+)>", text, flags=re.M):
            if included == "k3sup.h" and room != "upgrade" or PUBLIC_ROOM.get(included, room) not in BELOW[room]:
                found.append(f"{name}: includes <{included}>, which is not below it")
            for library, (headers, _, users) in FOREIGN.items():
                if re.fullmatch(headers, included) and name not in users:
                    found.append(f"{name}: includes <{included}>; {library} belongs to {', '.join(sorted(users))}")
    return found + one_each(files)


def one_each(files):
    """At most one foreign library in a file."""
    found = []
    for name, text in files.items():
        used = [library for library, (headers, _, _) in FOREIGN.items() if re.search(rf"^\s*#\s*include\s+<({headers})>", text, flags=re.M)]
        if len(used) > 1:
            found.append(f"{name}: uses {' and '.join(used)}")
    return found


def symbols(paths, *options):
    """{room/file.c: names} of these objects."""
    listed = {object_name(path): set() for path in paths}
    for line in run("nm", "-A", "--format=posix", *options, *paths).stdout.splitlines():
        path, _, rest = line.partition(": ")
        listed[object_name(Path(path))].add(rest.split()[0].split("@")[0])
    return listed


def object_name(path):
    return "/".join(path.parts[-2:])[:-2]


def object_complaints(tree, objects):
    """What the objects want: foreign functions, and functions of rooms above. An include can be avoided by a declaration of one's own, this cannot."""
    compiled = {name for name in sources(tree) if name.endswith(".c")}
    paths = [path for path in sorted(Path(objects).rglob("*.o")) if object_name(path) in compiled]  # others are left over from files that are gone
    wanted = symbols(paths, "--undefined-only")
    owner = {symbol: name for name, names in symbols(paths, "--defined-only", "--extern-only").items() for symbol in names}
    missing = compiled - wanted.keys()
    found = [f"{name}: was not compiled" for name in sorted(missing)]
    for name, names in wanted.items():
        room = name.split("/")[0]
        for symbol in sorted(names):
            for library, (_, pattern, users) in FOREIGN.items():
                if symbol not in owner and re.fullmatch(pattern, symbol) and name not in users:
                    found.append(f"{name}: calls {symbol}; {library} belongs to {', '.join(sorted(users))}")
            above = owner.get(symbol, name).split("/")[0]
            if room in BELOW and above not in BELOW[room]:
                found.append(f"{name}: calls {symbol} of {owner[symbol]}, which is not below it")
    return found


def main(words):
    tree = Path(words[0]) if words else TOP
    objects = Path(words[1]) if words[1:] else BUILD / "CMakeFiles/k3sup_objects.dir"
    found = include_complaints(tree) + object_complaints(tree, objects)
    print("\n".join(found) or "every call goes down")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
