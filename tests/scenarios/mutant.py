# SPDX-License-Identifier: Apache-2.0
"""A program that upgrades a node as others do: the known mistakes of k3s upgrade scripts, told again in our own words, one switch each. It stands in for
k3sup-upgrade in test_controls.py, where the scenarios must find it out. It prints what it believes as the same kind of JSON line.

    mutant.py SWITCH,... [OPTION]... FILE

Always: looks in the process list for lines with k3s and server or agent, takes the first word of the one it found for the file's path, compares
checksums, copies over it, sends SIGTERM, and calls that a success.

    ancient     any line with k3s and server or agent in it counts (else: k3s as a word of its own, followed by such a word, not supervise-daemon)
    tight       only a line in which such a word comes right behind k3s
    init        a line with "init" in it is the parent of a --log pair, and does not count
    any         of several the first one
    parent      if the parent's line speaks of k3s, that is the process
    exe         the file to replace is /proc/PID/exe
    no-check    a file that is not there counts as equal
    follow      links are followed as the caller's root has them, not the node's
"""
import hashlib
import json
import os
import re
import shutil
import signal
import sys


def say(exit_, changed, message=None, **more):
    line = dict({"schema": 1, "tool": "k3sup-upgrade", "exit": exit_, "ok": exit_ == 0, "changed": changed, "downtime_ms": 0, "authenticated": "none"}, **more)
    if message:
        line["error"] = {"code": -1, "name": "EPERM", "message": message, "evidence": {}}
    elif "state" not in line:
        line.update(state="current", flags=[], steps=[])
    print(json.dumps(line))
    sys.exit(exit_)


def lines():
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) in (1, os.getpid()):
            continue
        try:
            with open("/proc/%s/cmdline" % name, "rb") as f:
                text = f.read().rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace")
            with open("/proc/%s/stat" % name) as f:
                parent = int(f.read().rsplit(")", 1)[1].split()[1])
        except OSError:
            continue
        if text and "mutant" not in text:
            yield int(name), parent, text


def find(how):
    pattern = r"k3s.*(server|agent)" if "ancient" in how else r"(^|[ /])k3s (server|agent)( |$)" if "tight" in how else r"(^|[ /])k3s (.*[ ])?(server|agent)( |$)"
    found = [(pid, parent, text) for pid, parent, text in lines() if re.search(pattern, text) and ("ancient" in how or "supervise-daemon" not in text)]
    if "init" in how:
        found = [f for f in found if "init" not in f[2]]
    if not found:
        say(1, False, "No K3s pids found")
    if len(found) > 1 and "any" not in how:
        say(1, False, "Found multiple K3s pids")
    pid, parent, text = found[0]
    if "parent" in how:
        for other, _, line in lines():
            if other == parent and "k3s" in line:
                pid, text = other, line
    return pid, text.split(" ")[0]


def digest(path):
    with open(path, "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()


def main():
    how = sys.argv[1].split(",")
    args, root, file = sys.argv[2:], "", None
    while args:
        word = args.pop(0)
        if word == "--root":
            root = args.pop(0)
        elif word in ("--stable", "--timeout", "--k3s", "--wait-lock", "--restart", "--rollback", "--before-write", "--before-stop"):
            args.pop(0)
        elif not word.startswith("--"):
            file = word
    pid, path = find(how)
    target = os.readlink("/proc/%d/exe" % pid) if "exe" in how else root + path
    if not os.path.exists(target):
        if "no-check" in how:
            say(0, False)
        say(1, False, "The K3s binary %s does not exist" % target)
    if digest(target) == digest(file):
        say(0, False)
    try:
        if "exe" in how:
            os.unlink(target)
        shutil.copyfile(file, target)
        os.chmod(target, 0o755)
    except OSError as e:
        say(1, True, "cp: %s: %s" % (target, os.strerror(e.errno)))
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        pass
    say(0, True)


main()
