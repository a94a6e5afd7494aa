#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""upgrade.py [--root DIR] [--stable SECONDS] FILE - make the running k3s of this node be the build in FILE, and show how far it is."""
import argparse
import asyncio
import signal
import sys

import k3sup


def show(progress: k3sup.Progress) -> None:
    down = "" if progress.downtime is None else ", down for %.1f s" % progress.downtime
    print("%3d %% %s: %s%s" % (progress.percent, progress.step, progress.text, down), flush=True)


async def upgrade(node: k3sup.Node, args: argparse.Namespace) -> k3sup.Document:
    op = node.upgrade(args.file, stable=args.stable, wait_lock=60)
    op.set_progress(show)
    # The first SIGTERM or Ctrl-C stops it where that is safe. Once k3s was told to end, it is seen through.
    for signo in signal.SIGINT, signal.SIGTERM:
        asyncio.get_running_loop().add_signal_handler(signo, op.cancel)
    return await op


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", help="the node's root directory, such as /host in a pod")
    parser.add_argument("--stable", type=float, default=20, help="seconds the new k3s must have stayed")
    parser.add_argument("file")
    args = parser.parse_args()
    with k3sup.Context() as ctx, ctx.node(root=args.root) as node:
        try:
            result = asyncio.run(upgrade(node, args))
        except k3sup.K3supError as e:
            print("upgrade.py: %s" % e, file=sys.stderr)
            return 5 if e.code == k3sup.Code.BUSY else 1
    how = "upgraded" if result["/changed"] else "already so"
    print("%s: k3s is %s, process %d" % (how, result["/running/version"], result["/running/pid"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
