# SPDX-License-Identifier: Apache-2.0
"""A node's leaf certificates before and after a rotation."""
import os

DATA = "/var/lib/rancher/k3s"
LISTENER = "server/tls/dynamic-cert.json"


def leaf_tree(path, data=DATA):
    """{path: content} of all certificates, keys and the listener's, below the data-dir. path(inside): where a file of the node is found."""
    found = {}
    for top in ("server/tls", "agent"):
        for where, _, files in os.walk(path("%s/%s" % (data, top))):
            for name in files:
                if name.endswith((".crt", ".key")) or name.startswith("dynamic-cert"):
                    whole = os.path.join(where, name)
                    with open(whole, "rb") as f:
                        found[whole[len(path(data)) + 1:]] = f.read()
    return found


def is_leaf(path):
    name = os.path.basename(path)
    stays = name.startswith("service.") or "-ca." in name or "temporary-certs" in path
    return not stays and name != "client-ca.nochain.crt" and name != "server-ca.nochain.crt"


def leafs(files):
    return {path: text for path, text in files.items() if is_leaf(path)}


def lasting(files):
    """All but what is new after each start: an agent's certificates come from its server."""
    return {path: text for path, text in files.items() if not (path.startswith("agent/") and path.endswith(".crt"))}


def assert_renewed(was, now):
    """Every leaf and key is another one, all else is what it was (an agent's copies of the authorities, too)."""
    assert leafs(was) and set(leafs(now)) >= set(leafs(was))
    for path, text in was.items():
        assert (now[path] != text) == is_leaf(path), path
