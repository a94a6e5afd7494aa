# SPDX-License-Identifier: Apache-2.0
"""Runs k3sup_service() or k3sup_rotate() inside a machine, through the Python binding, and prints its result as one line: inside.py ROOT ACTION [KEY=VALUE]..."""
import sys

import k3sup

TEXTS = ("name", "key")

root, action = sys.argv[1:3]
more = {key: value if key in TEXTS or key.endswith("_command") else None if value == "none" else float(value) for key, value in (a.split("=", 1) for a in sys.argv[3:])}


def begin(node):
    if action == "rotate":
        return node.rotate(**dict(more, stable=0.1, probe=k3sup.Probe.NONE))
    return node.service(k3sup.ServiceAction[action.upper()], **more)


with k3sup.Context(inline=True) as context, context.node(root=root) as node:
    op = begin(node)
    try:
        op.wait()
    except (k3sup.K3supError, OSError):
        pass
    print(op.result.json)
