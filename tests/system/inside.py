# SPDX-License-Identifier: Apache-2.0
"""Runs k3sup_service() or k3sup_rotate() inside a machine, through the Python binding, and prints its result as one line: inside.py ROOT ACTION [KEY=VALUE]...

The action "cycle" is a stop and then a start.
"""
import sys

import k3sup

TEXTS = ("name", "key")

root, action = sys.argv[1:3]
more = {key: value if key in TEXTS or key.endswith("_command") else None if value == "none" else float(value) for key, value in (a.split("=", 1) for a in sys.argv[3:])}


def begin(node, one):
    if one == "rotate":
        return node.rotate(**dict(more, stable=0.1, probe=k3sup.Probe.NONE))
    return node.service(k3sup.ServiceAction[one.upper()], **dict(more, stable=0.1) if action == "cycle" else more)


with k3sup.Context(inline=True) as context, context.node(root=root) as node:
    for one in ("stop", "start") if action == "cycle" else (action,):
        op = begin(node, one)
        try:
            op.wait()
        except (k3sup.K3supError, OSError):
            break
    print(op.result.json)
