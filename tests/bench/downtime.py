#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How long k3s is away under a real systemd: from the old process's exit to the new program's exec, which is when it has unpacked itself.

    downtime.py [--build-dir DIR] [--once] [--rounds N]

Three contestants in turn, each on a node made anew: `k3sup-upgrade` to a build that was never unpacked there, `systemctl restart` of the build that runs, and what upgrade scripts do,
a copy over the file and SIGTERM. Bound: the median of the first at most that of the second and 100 ms. --once: one round, nothing is judged. The k3s is a stand-in (64 MB).
Exit status: 0 within the bound, 1 not, 2 cannot run here.
"""
import argparse
import os
import statistics
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
BOUND = 100  # ms


class Watch(threading.Thread):
    """Sees when a process ends, and when a program of data/<H> is executed by another one."""

    def __init__(self, machine, old, wanted):
        super().__init__()
        self.proc, self.old, self.wanted = machine.path("/proc"), str(old), "/data/%s/bin/" % wanted
        self.began = self.ended = self.came = None
        self.over = threading.Event()

    def runs(self, pid):
        try:
            with open("%s/%s/stat" % (self.proc, pid)) as f:
                return f.read().rsplit(")", 1)[1].split()[0] not in "ZX"
        except OSError:
            return False

    def is_new(self, pid):
        try:
            with open("%s/%s/comm" % (self.proc, pid)) as f:
                return self.wanted in os.readlink("%s/%s/exe" % (self.proc, pid)) and f.read().startswith("k3s-")
        except OSError:
            return False

    def run(self):
        while self.runs(self.old) and not self.over.is_set():
            time.sleep(0.0005)
        self.ended = time.monotonic()
        while not self.over.is_set():
            for pid in os.listdir(self.proc):
                if pid.isdigit() and pid != self.old and self.is_new(pid):
                    self.came = time.monotonic()
                    return
            time.sleep(0.0005)


def upgrade(machine, old, new, scripts):
    answer = machine.upgrade("/opt/payload/k3s")
    assert answer.exit == 0 and answer["unpacked"]["action"] == "unpack", answer


def restart(machine, old, new, scripts):
    machine.systemctl("restart", "k3s")


def by_hand(machine, old, new, scripts):
    machine.run("sh", "-c", "cp /opt/payload/k3s /usr/local/bin/k3s && kill -TERM %d" % old["pid"])


CONTESTANTS = {"k3sup-upgrade": upgrade, "systemctl restart": restart, "copy and signal": by_hand}


def one(machine, name, old, new, scripts):
    """Milliseconds."""
    machine.reset()
    machine.install(old)
    process = machine.start()
    machine.wait_active()
    machine.payload(new)
    watch = Watch(machine, process["pid"], scripts[old if name == "systemctl restart" else new])
    watch.start()
    try:
        CONTESTANTS[name](machine, process, new, scripts)
        watch.join(60)
    finally:
        watch.over.set()
        watch.join()
    assert watch.came, "%s: no new k3s" % name
    return (watch.came - watch.ended) * 1000


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--build-dir", default=os.environ.get("K3SUP_BUILD_DIR") or os.path.join(TOP, "build", "dev"))
    p.add_argument("--once", action="store_true")
    p.add_argument("--rounds", type=int, default=15)
    a = p.parse_args()
    os.environ["K3SUP_BUILD_DIR"] = os.path.abspath(a.build_dir)
    sys.path[:0] = [os.path.join(TOP, "tests", "system"), os.path.join(TOP, "tests", "scenarios")]
    import conftest
    import machine as machines
    import node
    reason = machines.why_not()
    if reason:
        print("downtime: " + reason, file=sys.stderr)
        return 2
    size = "small" if a.once else "64"
    # From tests/system: two folders have a file of that name.
    standin = conftest.standins()
    old, new = standin("v1.30.4+k3s1", "2024", size), standin("v1.30.5+k3s1", "2024", size)
    hashes = {binary: node.asset_hash(binary) for binary in (old, new)}
    times = {name: [] for name in CONTESTANTS}
    machine = machines.Machine()
    try:
        print("load %.1f" % os.getloadavg()[0], flush=True)
        for _ in range(1 if a.once else a.rounds):
            for name in CONTESTANTS:
                times[name].append(one(machine, name, old, new, hashes))
    finally:
        machine.close()
    medians = {name: statistics.median(all_) for name, all_ in times.items()}
    for name, all_ in times.items():
        print("%-18s down for: median %7.1f ms, %7.1f to %7.1f (%d)" % (name, medians[name], min(all_), max(all_), len(all_)))
    more = medians["k3sup-upgrade"] - medians["systemctl restart"]
    verdict = "not judged" if a.once else "ok" if more <= BOUND else "TOO MUCH"
    print("k3sup-upgrade - systemctl restart %+.1f ms, at most +%d: %s" % (more, BOUND, verdict))
    print("k3sup-upgrade / copy and signal %.2f times" % (medians["k3sup-upgrade"] / medians["copy and signal"]))
    return int(verdict == "TOO MUCH")


if __name__ == "__main__":
    sys.exit(main())
