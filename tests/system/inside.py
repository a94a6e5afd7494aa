# SPDX-License-Identifier: Apache-2.0
"""Runs k3sup_service() inside a machine, through the Python binding, and prints its result as one line: inside.py ROOT ACTION [KEY=VALUE]..."""
import sys

import k3sup

root, action = sys.argv[1:3]
more = {key: value if key == "name" or key.endswith("_command") else None if value == "none" else float(value) for key, value in (a.split("=", 1) for a in sys.argv[3:])}

with k3sup.Context(inline=True) as context, context.node(root=root) as node:
    op = node.service(k3sup.ServiceAction[action.upper()], **more)
    try:
        op.wait()
    except (k3sup.K3supError, OSError):
        pass
    print(op.result.json)
