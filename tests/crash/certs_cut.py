#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Kills and fails the retiring and the restoring of certificates at every system call, and looks what is left.

    certs_cut.py DRIVER WORK VERB FAULT STEP     as process 1 of a pid namespace with its own /proc

Without a fault    what got its name was synced before, each directory behind it; no copy and no key could be read by others for an instant (the trace tells
                   with which mode each thing was made, under umask 0)
After the fault    each pair is whole and of one of both sets, or its key is not there; authorities are as they were; a backup that has its name is whole;
                   nothing that was kept can be read by others. Who says that the goal is reached is right; a failed fsync(2) is not passed over
After one more run the goal is reached, with one backup of each set and no litter
After a third run  nothing has changed

Each STEP-th point is struck, on a fresh node. Prints what is wrong, then "POINTS STRUCK BAD".
"""
import hashlib
import json
import os
import re
import shutil
import stat
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from every_syscall import MAY_ABORT, unsynced  # noqa: E402

DATA = "var/lib/rancher/k3s"
KEPT = "var/lib/k3sup/certs"
PAIRS = {"server/tls/client-admin": "server/tls/client-ca", "server/tls/serving-kube-apiserver": "server/tls/server-ca",
         "server/tls/etcd/client": "server/tls/etcd/server-ca", "agent/client-kubelet": "server/tls/client-ca"}
CAS = ["server/tls/client-ca", "server/tls/server-ca", "server/tls/request-header-ca", "server/tls/etcd/server-ca", "server/tls/etcd/peer-ca"]
CALL = re.compile(r"^([a-z_0-9]+)\((.*)")
TRIES = 10  # how often memory is asked for depends on where it lies
NEVER = {"exit_group", "exit", "execve", "rt_sigreturn", "restart_syscall", "brk"}


def openssl(*args, cwd):
    subprocess.run(["openssl", *args], cwd=cwd, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def make_cas(data):
    for name in CAS:
        os.makedirs(os.path.dirname(os.path.join(data, name)), mode=0o755, exist_ok=True)
        openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", name + ".key", cwd=data)
        openssl("req", "-new", "-x509", "-key", name + ".key", "-days", "3650", "-subj", "/CN=" + name.replace("/", "-"), "-addext", "keyUsage=critical,keyCertSign", "-out", name + ".crt", cwd=data)


def make_leafs(data):
    os.makedirs(os.path.join(data, "agent"), mode=0o755, exist_ok=True)
    for name, ca in PAIRS.items():
        openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", name + ".key", cwd=data)
        openssl("req", "-new", "-key", name + ".key", "-subj", "/CN=leaf", "-out", "csr", cwd=data)
        openssl("x509", "-req", "-in", "csr", "-CA", ca + ".crt", "-CAkey", ca + ".key", "-set_serial", "7", "-days", "365", "-out", name + ".crt", cwd=data)
        os.chmod(os.path.join(data, name + ".key"), 0o600)
    os.unlink(os.path.join(data, "csr"))


def read_file(path):
    try:
        with open(path, "rb") as f:
            return f.read()
    except FileNotFoundError:
        return None


def read(root, name):
    return read_file(os.path.join(root, DATA, name))


def leafs(root):
    return {name: (read(root, name + ".crt"), read(root, name + ".key")) for name in PAIRS}


def cas(root):
    return {name: (read(root, name + ".crt"), read(root, name + ".key")) for name in CAS}


def backups(root):
    """{name: True if it is whole} of those that have their name, and what is wrong with modes."""
    found, wrong, top = {}, [], os.path.join(root, KEPT)
    for where, _, names in os.walk(top):
        for path, mode in [(where, 0o700)] + [(os.path.join(where, n), 0o600) for n in names]:
            if stat.S_IMODE(os.lstat(path).st_mode) & ~mode:
                wrong.append("%s can be read by others" % path)
    for name in os.listdir(top) if os.path.isdir(top) else []:
        if name.startswith("."):
            continue
        try:
            with open(os.path.join(top, name, "manifest.json")) as f:
                files = json.load(f)["files"]
            found[name] = bool(files)
            for file in files:
                with open(os.path.join(top, name, file["path"]), "rb") as f:
                    found[name] &= hashlib.sha256(f.read()).hexdigest() == file["sha256"]
        except (OSError, ValueError):
            found[name] = False
    return found, wrong


MADE = re.compile(r'(?:\d+|AT_FDCWD)<([^>]*)>, "([^"]*)"')
MODE = re.compile(r", (0[0-7]*)\)? ")


def readable(calls, root):
    """What others could read for an instant: all that is made is made for us alone; only a certificate on its way to its place is opened to all."""
    wrong, opened = [], {}
    for call, args in calls:
        made, mode = MADE.match(args), MODE.search(args + " ")
        if call in ("openat", "mkdirat") and made and mode and (call == "mkdirat" or "O_CREAT" in args) and made[1].startswith(root) and int(mode[1], 8) & 0o077:
            wrong.append("%s was made with mode %s" % (os.path.join(made[1], made[2]), mode[1]))
        if call == "fchmod" and mode and int(mode[1], 8) & 0o077:
            opened[re.match(r"\d+<([^>]*)>", args)[1]] = mode[1]
        if call.startswith("renameat"):
            names = re.findall(r'<([^>]*)>, "([^"]*)"', args)
            how = opened.pop(os.path.join(*names[0]), None)
            if how and (not names[1][1].endswith(".crt") or KEPT in names[1][0]):
                wrong.append("%s got its name with mode %s" % (os.path.join(*names[1]), how))
    return wrong + ["%s was opened to others" % path for path in opened if path.startswith(root)]


UNLINK = re.compile(r'\d+<([^>]*)>, "([^"]*\.(?:key|crt))"')


def unordered(calls, root):
    """Which certificate was taken away before its directory was told for good that the keys are gone, and which removal was never told."""
    dirty, wrong = {}, []
    for call, args in calls:
        gone = UNLINK.match(args) if call == "unlinkat" else None
        if gone and gone[1].startswith(os.path.join(root, DATA)):
            if gone[2].endswith(".crt") and any(name.endswith(".key") for name in dirty.get(gone[1], [])):
                wrong.append("%s was taken away before the keys beside it were gone for good" % os.path.join(gone[1], gone[2]))
            dirty.setdefault(gone[1], []).append(gone[2])
        if call == "fsync":
            dirty.pop(re.match(r"\d+<([^>]*)>", args)[1], None)
    return wrong + ["%s was not synced after %s was taken away" % (where, names[-1]) for where, names in dirty.items()]


class Campaign:
    def __init__(self, driver, work, verb, fault):
        self.driver, self.work, self.verb, self.fault = driver, work, verb, fault
        self.root, self.template = os.path.join(work, "root"), os.path.join(work, "template")
        shutil.rmtree(self.template, ignore_errors=True)
        os.makedirs(os.path.join(self.template, DATA), mode=0o755)
        make_cas(os.path.join(self.template, DATA))
        make_leafs(os.path.join(self.template, DATA))
        self.sets, self.args = [leafs(self.template)], [verb, self.root]
        if verb in ("restore", "plain-copy"):
            assert subprocess.run([driver, "retire", self.template], stdout=subprocess.DEVNULL).returncode == 10
            make_leafs(os.path.join(self.template, DATA))
            self.sets.append(leafs(self.template))
            self.args.append(os.listdir(os.path.join(self.template, KEPT))[0])
        self.cas = cas(self.template)

    def fresh(self):
        shutil.rmtree(self.root, ignore_errors=True)
        shutil.copytree(self.template, self.root, symlinks=True)

    def run(self, *strace):
        prefix = ["strace", "-o", os.path.join(self.work, "trace")] + list(strace) if strace else []
        return subprocess.run(prefix + [self.driver] + self.args, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)

    def points(self):
        """[(call, occurrence)] of a run without a fault, and what is wrong with that."""
        self.fresh()
        end = self.run("-y", "-e", "trace=all")
        counts, found, calls, begun = {}, [], [], False
        with open(os.path.join(self.work, "trace"), errors="replace") as f:
            for line in f:
                call = CALL.match(line)
                if not call:
                    continue
                name, args = call.groups()
                counts[name] = counts.get(name, 0) + 1
                if begun and name not in NEVER:
                    found.append((name, counts[name]))
                if begun and " = -1 " not in line:
                    calls.append((name, args))
                begun = begun or args.startswith('-1, "begin"')
        wrong = self.at_the_goal() if end.returncode == 10 else ["it fails: " + end.stdout.decode(errors="replace").strip()]
        return found, wrong + unsynced(calls, self.root) + unordered(calls, self.root) + readable(calls, self.root)

    def after_the_fault(self):
        wrong = [] if cas(self.root) == self.cas else ["an authority is not what it was"]
        for name, (crt, key) in leafs(self.root).items():
            if key is not None and (crt, key) not in [s[name] for s in self.sets]:
                wrong.append("%s: a key %s" % (name, "without its certificate" if crt is None else "that does not fit"))
        found, modes = backups(self.root)
        return wrong + modes + ["the backup %s is not whole" % n for n, whole in found.items() if not whole]

    def at_the_goal(self):
        now, wrong = leafs(self.root), self.after_the_fault()
        if self.verb == "restore" and now != self.sets[0]:
            wrong.append("not what was to be restored")
        if self.verb != "restore" and any(half for pair in now.values() for half in pair):
            wrong.append("there are leafs")
        found, _ = backups(self.root)
        if len(found) != len(self.sets):
            wrong.append("%d backups" % len(found))
        litter = [os.path.join(w, n) for w, d, names in os.walk(os.path.join(self.root, "var/lib")) for n in names + d
                  if n.startswith(".tls-") or "k3sup-tmp" in n]
        return wrong + ["litter: %s" % n for n in litter]

    def ended(self, done, call):
        """What is wrong with how it ended."""
        said = done.stdout.decode(errors="replace").strip()
        if done.returncode in (0, 10):
            late = ["although fsync failed, it says: " + said] if call == "fsync" and self.fault != "EINTR" else []
            return late + ["it says '%s', but %s" % (said, w) for w in self.at_the_goal() if not w.startswith("litter")]
        if done.returncode < 0 and self.fault != "KILL" and call not in MAY_ABORT | {"read", "write"}:
            return ["it ends by signal %d" % -done.returncode]
        return []

    def strike(self, call, when):
        """None: it was not struck."""
        self.fresh()
        how = "error=EIO:signal=KILL" if self.fault == "KILL" else "error=" + self.fault
        faster = [] if self.fault == "KILL" else ["-f", "--seccomp-bpf"]  # where it stops then, no signal can be sent
        done = self.run(*faster, "-e", "trace=" + call, "-e", "inject=%s:%s:when=%d" % (call, how, when))
        with open(os.path.join(self.work, "trace")) as f:
            if "(INJECTED)" not in f.read() and done.returncode != -9:
                return None
        wrong = self.after_the_fault() + ([] if done.returncode == -9 else self.ended(done, call))
        again = self.run()
        if again.returncode not in (0, 10):
            wrong.append("one more run fails: %s" % again.stdout.decode(errors="replace").strip())
        wrong += self.at_the_goal()
        if not wrong and self.run().returncode != 0:
            wrong.append("a third run changes something")
        return wrong


def main():
    driver, work, verb, fault, step = sys.argv[1:]
    subprocess.check_call(["mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", work])  # goes with the namespace
    campaign = Campaign(driver, work, verb, fault)
    points, wrong = campaign.points()
    struck, bad = 0, len(wrong)
    for one in wrong:
        print("without a fault: " + one)
    points = points[::int(step)] if int(step) else []
    for call, when in points:
        for _ in range(TRIES):
            wrong = campaign.strike(call, when)
            if wrong is not None:
                break
        struck += wrong is not None
        if wrong is None:
            print("%s %d: VOID, never struck" % (call, when))
        bad += bool(wrong)
        if wrong:
            print("%s %d: %s" % (call, when, "; ".join(wrong)))
    print("%d points, %d struck, %d bad" % (len(points), struck, bad))


if __name__ == "__main__":
    main()
