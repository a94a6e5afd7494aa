#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Kills and fails the retiring, the restoring and the rotation of certificates at every system call, and looks what is left.

    certs_cut.py DRIVER VERB FAULT STEP [WORKER OF]     as process 1 of a pid namespace with its own /proc

Without a fault    what got its name was synced before, each directory behind it; no copy and no key could be read by others for an instant (the trace tells
                   with which mode each thing was made, under umask 0)
After the fault    each pair is whole and of one of both sets, or its key is not there; authorities are as they were; a backup that has its name is whole;
                   nothing that was kept can be read by others. Who says that the goal is reached is right; a failed fsync(2) is not passed over
After one more run the goal is reached, with one backup of each set and no litter
After a third run  nothing has changed
A rotation, besides: two minutes after a kill, without a second run, k3s runs, and each pair is there and whole; after a failure it runs at once. Once the goal is reached, all
                   leafs are other ones, and all that were there can be had back

Each STEP-th point is struck, on a fresh node; of several workers each strikes at some of them. What it looks like and what comes afterwards depends on what lies there alone: where a
fault leaves what an earlier one has left, neither is judged again. strace strikes, or, of a rotation and where it can (amd64), the driver itself, which is started once for all points;
K3SUP_CUT_BY=strace: strace always. The driver also says at which calls a kill leaves what it has left at the one before; there it does not strike again. The fault "memory" is no system call's: each allocation of a rotation fails, "memory+": all after it, too, so that only
the guard can start k3s again.
Prints what is wrong, then "POINTS STRUCK BAD".
"""
import errno
import hashlib
import json
import os
import platform
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
CALL = re.compile(r"^(?:(\d+) +)?(?:\[ *(\d+)\] )?([a-z_0-9]+)\((.*)")
TRIES = 10  # how often memory is asked for depends on where it lies
PLACE = "/mnt"  # of the namespace's own; paths are short there
SECRETS = (rb'"op":"[0-9a-f]*"', rb"^[0-9a-f]{8} ", rb'"(?:at|made)":[^,}]*', rb"tls-\d+(?:-\d+)?", rb"k3sup-tmp-[0-9a-f]+")  # names and times that are new in each run
SECRET, NEW_NAME = re.compile(b"|".join(SECRETS), flags=re.M), re.compile(SECRETS[-2] + b"|" + SECRETS[-1])
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


def leafs(root, pairs=PAIRS):
    return {name: (read(root, name + ".crt"), read(root, name + ".key")) for name in pairs}


def cas(root, names=CAS):
    return {name: (read(root, name + ".crt"), read(root, name + ".key")) for name in names}


def whole_node(root):
    """All pairs and authorities of a node that driver-rotate has made."""
    data, found = os.path.join(root, DATA), []
    for where, _, names in os.walk(data):
        found += [os.path.relpath(os.path.join(where, n[:-4]), data) for n in names if n.endswith(".key")]
    return sorted(n for n in found if not n.endswith("-ca")), sorted(n for n in found if n.endswith("-ca"))


def leaf_set(top, one, pairs):
    return {name: tuple(read_file(os.path.join(top, one, name + kind)) for kind in (".crt", ".key")) for name in pairs}


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
            if how and not names[1][0].endswith("/bin") and (not names[1][1].endswith(".crt") or KEPT in names[1][0]):
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


def everything(top):
    """A digest of all that lies there, but for names and times that no two runs have in common."""
    digest = hashlib.sha256()
    for where, dirs, names in os.walk(top):
        dirs.sort()
        for name in sorted(names) + dirs:
            path = os.path.join(where, name)
            text = b"" if name in dirs or name == "lock" else read_file(path)
            if KEPT in path or "/var/lib/k3sup" in path:
                text = SECRET.sub(b"", text)
            shown = NEW_NAME.sub(b"", path.encode())
            digest.update(b"%s %o %d\n" % (shown, os.lstat(path).st_mode, len(text)) + text)
    return digest.digest()


class Campaign:
    """Of retire and restore, and of programs with a mistake."""

    def __init__(self, driver, verb, fault):
        self.driver, self.verb, self.fault, self.known, self.numbers = driver, verb, fault, {}, {}
        self.top, self.template, self.trace = PLACE + "/top", PLACE + "/template", PLACE + "/trace"
        self.root = self.top + "/root"
        self.pairs, self.authorities = PAIRS, CAS
        self.make(self.template + "/root")

    def make(self, root):
        os.makedirs(os.path.join(root, DATA), mode=0o755)
        make_cas(os.path.join(root, DATA))
        make_leafs(os.path.join(root, DATA))
        self.sets, self.args = [leafs(root)], [self.verb, self.root]
        if self.verb in ("restore", "plain-copy"):
            assert subprocess.run([self.driver, "retire", root], stdout=subprocess.DEVNULL).returncode == 10
            make_leafs(os.path.join(root, DATA))
            self.sets.append(leafs(root))
            self.args.append("tls-1700000000")  # whether the next one's name is free is not up to the second then
            os.rename(os.path.join(root, KEPT, os.listdir(os.path.join(root, KEPT))[0]), os.path.join(root, KEPT, self.args[-1]))
        self.cas = cas(root)

    def copy(self, source, to):
        shutil.rmtree(to, ignore_errors=True)
        shutil.copytree(source, to, symlinks=True)

    def fresh(self):
        self.copy(self.template, self.top)

    def end(self):
        pass

    def run(self, *strace, args=None):
        prefix = ["strace", "-o", self.trace] + list(strace) if strace else []
        return subprocess.run(prefix + [self.driver] + (args or self.args), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)

    def traced(self):
        """A run without a fault, whose calls are in the trace."""
        self.fresh()
        return self.run("-y", "-e", "trace=all")

    from_the_beginning = True  # how calls are numbered: strace's way, or from where ours begin, without those of others

    def points(self):
        """[(call, occurrence)] of a run without a fault, and what is wrong with that."""
        end = self.traced()
        counts, found, calls, begun, ours = {}, [], [], False, None
        with open(self.trace, errors="replace") as f:
            for line in f:
                call = CALL.match(line)
                if not call:
                    continue
                pid, number, name, args = call.groups()
                if args.startswith('-1, "begin"'):
                    ours, begun, found, calls = pid, True, [], []  # the last one counts
                    counts = counts if self.from_the_beginning else {}
                    counts[name] = counts.get(name, 0) + self.from_the_beginning
                    continue
                begun = begun and not args.startswith('-1, "others"')
                if ours in (None, pid) and (begun or self.from_the_beginning):
                    counts[name] = counts.get(name, 0) + 1
                self.numbers[name] = number
                if begun and ours == pid and name not in NEVER:
                    found.append((name, counts[name]))
                if begun and ours == pid and " = -1 " not in line:
                    calls.append((name, args))
                begun = begun or args.startswith('-1, "ours"')
        wrong = self.at_the_goal() if end.returncode == 10 else ["it fails: " + end.stdout.decode(errors="replace").strip()]
        return found, wrong + unsynced(calls, self.root) + unordered(calls, self.root) + readable(calls, self.root)

    def worth_it(self, found, wrong):
        """Of these points those that have to be struck."""
        return found, wrong

    def after_the_fault(self):
        wrong = [] if cas(self.root, self.authorities) == self.cas else ["an authority is not what it was"]
        for name, (crt, key) in leafs(self.root, self.pairs).items():
            if key is not None and (crt, key) not in [s[name] for s in self.sets]:
                wrong.append("%s: a key %s" % (name, "without its certificate" if crt is None else "that does not fit"))
        found, modes = backups(self.root)
        return wrong + modes + ["the backup %s is not whole" % n for n, whole in found.items() if not whole]

    def leafs_at_the_goal(self):
        now, found = leafs(self.root, self.pairs), backups(self.root)[0]
        wrong = ["%d backups" % len(found)] if len(found) != len(self.sets) else []
        if self.verb == "restore" and now != self.sets[0]:
            wrong.append("not what was to be restored")
        if self.verb != "restore" and any(half for pair in now.values() for half in pair):
            wrong.append("there are leafs")
        return wrong

    def at_the_goal(self):
        litter = [os.path.join(w, n) for w, d, names in os.walk(os.path.join(self.root, "var/lib")) for n in names + d
                  if n.startswith(".tls-") or "k3sup-tmp" in n]
        return self.after_the_fault() + self.leafs_at_the_goal() + ["litter: %s" % n for n in litter]

    def once(self, state, judge, *args):
        """What a judge says of what lies there."""
        key = (state, judge.__name__) + args
        if key not in self.known:
            self.known[key] = judge(*args)
        return self.known[key]

    def ended(self, done, call, state):
        """What is wrong with how it ended."""
        said = done.stdout.decode(errors="replace").strip()
        if done.returncode in (0, 10):
            late = ["although fsync failed, it says: " + said] if call == "fsync" and self.fault != "EINTR" else []
            return late + ["it says '%s', but %s" % (said, w) for w in self.once(state, self.at_the_goal) if not w.startswith("litter")]
        if done.returncode < 0 and self.fault != "KILL" and call not in MAY_ABORT | {"read", "write"}:
            return ["it ends by signal %d" % -done.returncode]
        return []

    def without_us(self, killed):
        """What is wrong if nobody runs it again."""
        return []

    def further_runs(self):
        """What one more run and a third one come to."""
        again = self.run(args=self.again())
        wrong = [] if again.returncode in (0, 10) else ["one more run fails: %s" % again.stdout.decode(errors="replace").strip()]
        wrong += self.at_the_goal()
        if not wrong and self.run(args=self.again()).returncode != 0:
            wrong.append("a third run changes something")
        return wrong

    def afterwards(self, killed):
        """What comes of what is there now."""
        return self.without_us(killed) + self.further_runs()

    def again(self):
        return self.args

    def struck(self, call, when):
        """How a run on a fresh node ended that was struck at this point; None: it was not struck."""
        self.fresh()
        how = "error=EIO:signal=KILL" if self.fault == "KILL" else "error=" + self.fault
        faster = [] if self.fault == "KILL" else ["-f", "--seccomp-bpf"]  # where it stops then, no signal can be sent
        done = self.run(*faster, "-e", "trace=" + call, "-e", "inject=%s:%s:when=%d" % (call, how, when))
        with open(self.trace) as f:
            return done if "(INJECTED)" in f.read() or done.returncode == -9 else None

    def strike(self, call, when):
        """What is wrong after this fault; None: it was not struck."""
        done = self.struck(call, when)
        if done is None:
            return None
        died = done.returncode < 0  # also where the loop cannot go on: whether it may is said by ended()
        state = everything(self.top)
        wrong = self.once(state, self.after_the_fault) + ([] if done.returncode == -9 else self.ended(done, call, state))
        return wrong + self.once(state, self.afterwards, died or self.fault == "memory+")


class Server:
    """The driver as it serves: all runs are its children."""

    def __init__(self, driver):
        self.driver = subprocess.Popen([driver, "serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def ask(self, *words):
        """The end of a run, and was it struck?"""
        self.driver.stdin.write((" ".join(words) + "\n").encode())
        self.driver.stdin.flush()
        said = []
        for line in self.driver.stdout:
            if line.startswith(b"= "):
                _, status, struck = line.split()
                return subprocess.CompletedProcess(words, int(status), b"".join(said), None), struck == b"1"
            said.append(line)
        raise RuntimeError("the driver has ended: " + b"".join(said).decode(errors="replace"))

    def end(self):
        self.driver.stdin.close()
        self.driver.wait()


class Rotation(Campaign):
    """On a machine that the driver keeps in a file: k3s, its service manager and the clock."""

    done_with = ("pool", "payload")
    memory = "memory"

    def make(self, root):
        self.server = Server(self.driver) if platform.machine() == "x86_64" and os.environ.get("K3SUP_CUT_BY") != "strace" else None
        self.args = [self.verb, self.top]
        assert subprocess.run([self.driver, "make", self.top]).returncode == 10
        os.rename(self.top, self.template)
        for one in "abcd":  # nobody writes there
            os.rename(os.path.join(self.template, one), os.path.join(PLACE, one))
            os.symlink(os.path.join(PLACE, one), os.path.join(self.template, one))
        for done_with in self.done_with:
            shutil.rmtree(os.path.join(self.template, done_with))
        self.pairs, self.authorities = whole_node(root)
        self.sets, self.cas = [leaf_set(PLACE, one, self.pairs) for one in "ab"], cas(root, self.authorities)
        if self.server:
            self.from_the_beginning = False
            self.fresh()
            assert self.server.ask("learn", self.top)[0].returncode == 10
        assert len(self.pairs) > 15 and all(self.sets[0][n][1] != self.sets[1][n][1] for n in self.pairs)

    def copy(self, source, to):
        if not self.server:
            return super().copy(source, to)
        assert self.server.ask("copy", source, to)[0].returncode == 0

    def run(self, *strace, args=None):
        if strace or not self.server:
            return super().run(*strace, args=args)
        return self.run_with("-1", args)

    def run_with(self, call, args=None):
        return self.server.ask("run", call, "0", "0", *(args or self.args))[0]

    def end(self):
        if self.server:
            self.server.end()

    def traced(self):
        if not self.server:
            return super().traced()
        self.fresh()
        # -D: strace is no ancestor, as it is none where the driver strikes; an upgrade looks at all of them.
        lines = ["learn " + self.top, "copy %s %s" % (self.template, self.top), " ".join(["run -1 0 0"] + self.args), ""]
        done = subprocess.run(["strace", "-D", "-f", "-n", "-y", "-o", self.trace, self.driver, "serve"], input="\n".join(lines).encode(), stdout=subprocess.PIPE)
        return subprocess.CompletedProcess(lines, int(done.stdout.split()[-2]), done.stdout)

    def leafs_at_the_goal(self):
        wrong = [] if leafs(self.root, self.pairs) == self.sets[1] else ["not all leafs are other ones"]
        kept = {name: set() for name in self.pairs}
        for one in backups(self.root)[0]:
            for name in self.pairs:
                kept[name].add(tuple(read_file(os.path.join(self.root, KEPT, one, name + kind)) for kind in (".crt", ".key")))
        return wrong + ["%s of before cannot be had back" % n for n in self.pairs if self.sets[0][n] not in kept[n]]

    def again(self):
        return ["rotate", self.top]

    def without_us(self, killed):
        """k3s has to run again, with certificates, though no second run comes; what is there then is looked at, and undone."""
        aside = PLACE + "/aside"
        self.copy(self.top, aside)
        done = self.run(args=["later", self.top, "120" if killed else "0"])
        wrong = [] if done.returncode == 10 else ["nobody has started k3s again" if killed else "it fails, and leaves k3s stopped"]
        if not wrong:
            wrong = ["without a second run: " + w for w in self.after_the_fault()]
            wrong += ["without a second run: %s is not there" % n for n, (crt, key) in leafs(self.root, self.pairs).items()
                      if key is None or (crt is None) != (self.sets[0][n][0] is None)]
        shutil.rmtree(self.top)
        os.rename(aside, self.top)
        return wrong

    def worth_it(self, found, wrong):
        """Of all points those before which something has changed since the one before: at the others a kill leaves the same."""
        if self.fault != "KILL" or not self.server:
            return found, wrong
        self.fresh()
        listed = re.findall(rb"^(\d+) (\d+)$", self.run_with("-2").stdout, flags=re.M)
        names, places = {number: name for name, number in self.numbers.items()}, {point: i for i, point in enumerate(found)}
        differ = [(names[number.decode()], int(when)) for number, when in listed]
        differ = [places.get(point, -1) for point in differ if point[0] not in NEVER]
        if differ != sorted(set(differ)) or differ[0] != 0:
            wrong.append("the driver makes other calls than strace has seen")
        return [found[i] for i in differ], wrong

    def points(self):
        if not self.fault.startswith("memory"):
            return super().points()
        self.fresh()
        said = self.run(args=[self.memory, self.top, "0"]).stdout.decode()
        return [("allocation", n + 1) for n in range(int(re.search(r"^(\d+) allocations", said, flags=re.M)[1]))], self.at_the_goal()

    def struck(self, call, when):
        if call != "allocation" and not self.server:
            return super().struck(call, when)
        self.fresh()
        if call != "allocation":
            done, struck = self.server.ask("run", self.numbers[call], str(when), str(0 if self.fault == "KILL" else getattr(errno, self.fault)), *self.args)
            return done if struck else None
        done = self.run(args=[self.memory, self.top, str(-when if self.fault.endswith("+") else when)])
        return None if b", 0 failed," in done.stdout else done

    def ended(self, done, call, state):
        said = done.stdout.decode(errors="replace")
        leaks = ["blocks are not freed: " + said.strip()] if call == "allocation" and ", 0 kept\n" not in said else []
        other = ["it fails for another reason: " + said.strip()] if call == "allocation" and done.returncode == 1 and not said.startswith("-12 ") else []
        return leaks + other + super().ended(done, call, state)


class Both(Rotation):
    """An upgrade with a rotation: a new build, new leafs, and one restart for both."""
    done_with = ("pool",)
    memory = "upgrade-memory"

    def make(self, root):
        super().make(root)
        self.file = os.path.join(self.root, "usr/local/bin/k3s")
        self.builds = [read_file(os.path.join(self.template, name)) for name in ("root/usr/local/bin/k3s", "payload/2/k3s")]
        assert all(self.builds) and self.builds[0] != self.builds[1]

    def after_the_fault(self):
        now, kept = read_file(self.file), read_file(self.file + ".k3sup-backup")
        wrong = [] if now in self.builds else ["the installed file is torn, or not there"]
        if self.builds[0] not in (now, kept):
            wrong.append("the old file is lost")
        return wrong + super().after_the_fault()

    def said(self):
        """(the build that runs, how often a k3s was started)"""
        text = self.run(args=["later", self.top, "0"]).stdout.decode()
        return tuple(int(n) for n in re.search(r"^build (\d+), (\d+) starts$", text, flags=re.M).groups())

    def leafs_at_the_goal(self):
        build, starts = self.said()
        wrong = [] if build == 2 and read_file(self.file) == self.builds[1] else ["build %d runs" % build]
        if self.fault == "without" and starts != 2:
            wrong.append("k3s was started %d times" % starts)
        return wrong + super().leafs_at_the_goal()

    def points(self):
        fault, self.fault = self.fault, "without"
        found = super().points() if not fault.startswith("memory") else None
        self.fault = fault
        return found or super().points()

    def again(self):
        return [self.verb if self.verb != "twice" else "upgrade", self.top]


def main():
    driver, verb, fault, step, worker, of = (sys.argv[1:] + ["0", "1"])[:6]
    subprocess.check_call(["mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", PLACE])  # goes with the namespace
    kind = Both if verb in ("upgrade", "twice", "no-key") else Rotation if "driver-rotate" in driver else Campaign
    campaign = kind(driver, verb, fault)
    points, wrong = campaign.worth_it(*campaign.points())
    struck, bad = 0, len(wrong)
    for one in wrong:
        print("without a fault: " + one)
    points = [point for point in (points[::int(step)] if int(step) else []) if point[1] % int(of) == int(worker)]
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
    campaign.end()
    print("%d points, %d struck, %d bad" % (len(points), struck, bad))


if __name__ == "__main__":
    main()
