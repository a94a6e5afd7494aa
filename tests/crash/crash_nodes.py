# SPDX-License-Identifier: Apache-2.0
"""The nodes of every_syscall.py: what is put on them, what a run has to leave there, and what is there."""
import json
import os
import random
import shutil
import stat
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from archive import archive  # noqa: E402

TIMEOUT = 30
XATTR = "trusted.k3sup"
DRIVEN = {0: "already", 10: "changed"}
# A failure of these must never look like success. (Of a write(2) it may: the lock's description is a courtesy.)
MUST_HEAR = {"fsync", "fdatasync", "rename", "renameat", "renameat2", "link", "linkat"}
NO_LINKS = ("linkat", "EPERM")  # what link(2) says of a file system that has none: there the backup is a copy


def image(version, size):
    """What passes for a k3s: a program that names an embedded archive. Several chunks long, so that there is a middle."""
    with open("/bin/true", "rb") as f:
        program = f.read()
    frame, name = archive(version.encode())
    return program + frame + name + ("\0%s\0" % version).encode() + random.Random(version).randbytes(size)


class Node:
    """The node, what it should hold, and what it does hold."""
    OLD = "k3s"

    def __init__(self, work, case):
        self.work, self.case = work, case
        self.root = os.path.join(work, "root")
        self.bin = os.path.join(self.root, "usr/local/bin")
        self.payload = os.path.join(work, "payload")
        self.images = {"old": image("v1.30.4+k3s1", 600001), "new": image("v1.31.0+k3s1", 700003), "older": image("v1.29.1+k3s1", 100)}
        self.known = {data: name for name, data in self.images.items()}
        self.write(self.payload, "new", False)
        program = os.path.join(job_bin(work, case), case.program)
        self.env = dict(os.environ)
        if case.verb:
            self.argv = [program] + case.verb + [self.root, "/usr/local/bin/k3s", self.payload]
        else:
            self.argv = [program, "--root", self.root, "--k3s", "/usr/local/bin/k3s", "--restart", "none", "--json", self.payload]
            self.env["LD_PRELOAD"] = os.path.join(work, "bin", "inline.so")

    def write(self, path, what, dressed=True):
        with open(path, "wb") as f:
            f.write(self.images[what])
        os.chmod(path, 0o755)
        if dressed:
            os.chown(path, 0, 1)
            os.chmod(path, 0o750)
            os.setxattr(path, XATTR, b"kept")

    def put_old(self):
        self.write(os.path.join(self.bin, self.OLD), "old")
        if self.case.earlier:
            self.write(os.path.join(self.bin, "k3s.k3sup-backup"), "older")

    def reset(self):
        shutil.rmtree(self.root, ignore_errors=True)
        if os.path.isdir(self.root + ".swapped"):
            subprocess.check_call(["cp", "-a", self.root + ".swapped", self.root])
            return
        os.makedirs(self.bin)
        self.put_old()
        if self.case.wanted == "old":
            swap = [self.argv[0], "swap"] + self.argv[2:]
            if subprocess.run(swap, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL).returncode != 10:
                raise SystemExit("there is nothing to go back from")
            subprocess.check_call(["cp", "-a", self.root, self.root + ".swapped"])

    def look(self):
        """{name: (which image, well dressed, inode, links, mtime)} of the directory, and the names in the state directory."""
        seen = {}
        for name in os.listdir(self.bin):
            path = os.path.join(self.bin, name)
            st = os.lstat(path)
            dressed = (stat.S_IMODE(st.st_mode), st.st_uid, st.st_gid) == (0o750, 0, 1) and \
                {a: os.getxattr(path, a) for a in os.listxattr(path)} == {XATTR: b"kept"}
            with open(path, "rb") as f:
                seen[name] = (self.known.get(f.read(), "torn"), dressed, st.st_ino, st.st_nlink, st.st_mtime_ns)
        state = os.path.join(self.root, "var/lib/k3sup")
        return seen, sorted(os.listdir(state)) if os.path.isdir(state) else []

    def after_fault(self, end, call, fault):
        return after_fault(self.look()[0], end, call, fault, self.case.wanted)

    def after_rerun(self, end):
        seen, state = self.look()
        return after_rerun(seen, state, end, self.case.wanted)

    def run(self, *tracing):
        try:
            p = subprocess.run(list(tracing) + self.argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=TIMEOUT,
                               env=self.env)
        except subprocess.TimeoutExpired:
            return "hangs"
        if p.returncode in DRIVEN or (p.returncode == 0 and not self.case.verb):
            return DRIVEN[p.returncode] if self.case.verb else "done"
        return "killed" if p.returncode < 0 or p.returncode > 128 else "failed"


class Versioned(Node):
    """A node on which k3s is a link to a file that ends in its version: the new one comes to lie beside it, and the link changes."""
    OLD, NEW = "k3s-v1.30.4+k3s1", "k3s-v1.31.0+k3s1"

    def put_old(self):
        super().put_old()
        os.symlink(self.OLD, os.path.join(self.bin, "k3s"))

    def look(self):
        seen, state = super().look()
        link = os.path.join(self.bin, "k3s")
        seen["k3s"] = os.readlink(link) if os.path.islink(link) else None
        return seen, state

    def goal(self, seen):
        return set(seen) == {"k3s", self.OLD, self.NEW} and seen["k3s"] == (self.NEW if self.case.wanted == "new" else self.OLD)

    def after_fault(self, end, call, fault):
        seen = self.look()[0]
        back = self.case.wanted == "old"
        if seen["k3s"] not in (self.OLD, self.NEW) or not whole(seen.get(seen["k3s"]), "old" if seen["k3s"] == self.OLD else "new"):
            return "the link leads to %s: %s" % (seen["k3s"], seen.get(seen["k3s"]))
        if not whole(seen.get(self.OLD), "old") or (back and not whole(seen.get(self.NEW), "new")):
            return "a version is lost or changed: %s" % seen
        if self.NEW in seen and not whole(seen[self.NEW], "new"):
            return "the new version has its name, and is %s" % (seen[self.NEW],)
        if end == "hangs":
            return "hangs"
        if end in ("already", "changed", "done") and not self.goal(seen):
            return "says '%s', but the goal does not hold: %s" % (end, seen)
        if end in ("already", "changed", "done") and call in MUST_HEAR and fault != "EINTR" and (call, fault) != NO_LINKS:
            return "says '%s' although %s failed" % (end, call)
        if end == "failed" and not call.startswith("unlink") and set(seen) not in ({"k3s", self.OLD}, {"k3s", self.OLD, self.NEW}):
            return "failed, and left %s" % sorted(seen)
        if end == "failed" and not call.startswith("unlink") and self.NEW in seen and seen["k3s"] == self.OLD and not back:
            return "failed, and left the new version"
        return None

    def after_rerun(self, end):
        seen, state = self.look()
        if end not in ("already", "changed", "done"):
            return "one more run does not reach the goal: " + end
        if not self.goal(seen) or not whole(seen[self.OLD], "old") or not whole(seen[self.NEW], "new") or seen[self.OLD][3] != 1 or seen[self.NEW][3] != 1:
            return "one more run leaves %s" % seen
        return litter(state)


class Images(Node):
    """A node whose agent/images has an old file that is to be replaced; a second one is to be added. For restore, both were staged."""
    NAMES = ("images.tar", "images.tar.more.tar")

    def __init__(self, work, case):
        super().__init__(work, case)
        self.agent = os.path.join(self.root, "var/lib/rancher/k3s/agent")
        self.payload = os.path.join(work, self.NAMES[0])
        self.argv[-1] = self.payload
        for name, what in zip(self.NAMES, ("new", "older")):
            self.write(os.path.join(work, name), what, False)

    def reset(self):
        super().reset()
        os.makedirs(os.path.join(self.agent, "images"))
        self.write(os.path.join(self.agent, "images", self.NAMES[0]), "old")
        if self.case.verb == ["restore"]:
            p = subprocess.run(self.argv[:1] + ["stage"] + self.argv[2:], stdout=subprocess.PIPE)
            assert p.returncode == 10, p.stdout

    def look(self):
        """({name: which image, "!" behind it if it is not dressed as it was}, the same of what is kept, None without the directory)."""
        def names(where):
            seen = {} if os.path.isdir(where) else None
            for name in sorted(os.listdir(where)) if seen is not None else []:
                path = os.path.join(where, name)
                with open(path, "rb") as f:
                    what = self.known.get(f.read(), "torn")
                st = os.lstat(path)
                dress = (stat.S_IMODE(st.st_mode), st.st_gid, os.listxattr(path))
                seen[name] = what + "!" * (dress != ((0o644, 0, []) if name == self.NAMES[1] else (0o750, 1, [XATTR])))
            return seen
        return names(os.path.join(self.agent, "images")), names(os.path.join(self.agent, ".k3sup-images"))

    BEGIN = ({"images.tar": "old"}, None)
    STAGED = ({"images.tar": "new", "images.tar.more.tar": "older"}, {"images.tar.k3sup-backup": "old"})
    COMMITTED = (STAGED[0], None)
    RESTORED = ({"images.tar": "old", "images.tar.more.tar": "older"}, None)

    def ends(self):
        """What is there before, and what may be there when it is over."""
        return {"stage": (self.BEGIN, self.STAGED), "restore": (self.STAGED, self.RESTORED)}.get(self.case.verb[0], (self.BEGIN, self.COMMITTED))

    def after_fault(self, end, call, fault):
        images, kept = self.look()
        begin, goal = self.ends()
        if end == "hangs":
            return "hangs"
        if set(images) - set(self.NAMES) or images.get("images.tar") not in ("old", "new") or images.get("images.tar.more.tar", "older") != "older":
            return "k3s would see %s" % images
        if images["images.tar"] != "old" and (kept or {}).get("images.tar.k3sup-backup") != "old" and (self.case.verb[0] in ("stage", "restore") or images != goal[0]):
            return "the old file is lost: %s, kept %s" % (images, kept)
        if end in ("already", "changed") and (images, kept) != goal:
            return "says '%s', but there is %s, kept %s" % (end, images, kept)
        if end == "changed" and call in MUST_HEAR and fault != "EINTR" and (call, fault) != NO_LINKS:
            return "says '%s' although %s failed" % (end, call)
        if end == "failed" and call != "unlinkat" and (images, kept) not in (begin, goal, self.STAGED):
            return "failed, and left %s, kept %s" % (images, kept)
        return None

    def after_rerun(self, end):
        if end not in ("already", "changed"):
            return "one more run does not reach the goal: " + end
        return None if self.look() == self.ends()[1] else "one more run leaves %s, kept %s" % self.look()


class Unpacked(Node):
    """A node into whose data-dir a payload unpacks itself; there may be a torn directory, as a power cut leaves it. What k3s does is told by tests/unpacker.c."""

    def __init__(self, work, case):
        super().__init__(work, case)
        self.data = os.path.join(self.root, "var/lib/rancher/k3s/data")
        self.hash = self.whole = None

    def make(self):
        with open(os.path.join(job_bin(self.work, self.case), "unpacker"), "rb") as f:
            program = f.read()
        frame, name = archive(b"unpacker")
        self.hash = name.split(b"/")[1].split(b".")[0].decode()
        with open(self.payload, "wb") as f:
            f.write(program + frame + name + b"\0v1.31.0+k3s1\0")

    def reset(self):
        super().reset()
        if self.hash is None:
            self.make()
        with open(os.path.join(self.root, "unpacker"), "w") as f:
            f.write(self.hash + "\n")
        if self.whole is None:
            assert super().run() == "changed"
            self.whole = self.tree(self.hash)
            assert len(self.whole) > 4
            return self.reset()
        if self.case.torn:
            os.makedirs(os.path.join(self.data, self.hash, "bin"))
            with open(os.path.join(self.data, self.hash, "bin/k3s"), "w"):
                pass
        self.torn = self.tree(self.hash) if self.case.torn else None
        return None

    def tree(self, name):
        """{path: content, "-> TEXT" of a link}; None: there is nothing."""
        top, seen = os.path.join(self.data, name), {}
        for where, _, names in os.walk(top):
            for one in names:
                path = os.path.join(where, one)
                if os.path.islink(path):
                    seen[path] = "-> " + os.readlink(path)
                else:
                    with open(path, "rb") as f:
                        seen[path] = f.read()
        return seen if os.path.isdir(top) else None

    def names(self):
        return set(os.listdir(self.data)) - {".lock", "current", "previous"} if os.path.isdir(self.data) else set()

    def look(self):
        state = os.path.join(self.root, "var/lib/k3sup")
        return (self.tree(self.hash), self.names(), super().look()[0]), sorted(os.listdir(state)) if os.path.isdir(state) else []

    def run(self, *tracing):
        return super().run(*[t for t in tracing if t not in ("-f", "--seccomp-bpf")])

    def after_fault(self, end, call, fault):
        there, names, beside = self.look()[0]
        if not whole(beside.get("k3s"), "old") or len(beside) != 1:
            return "the installed file is %s" % beside
        if end == "hangs":
            return "hangs"
        if end == "killed":  # the payload may be at work still; what it makes has its name when it is whole
            return None if there in (None, self.torn, self.whole) else "there is %s" % sorted(there)
        if end in ("already", "changed") and (there != self.whole or (names != {self.hash} and not call.startswith("unlink"))):
            return "says '%s', but there is %s" % (end, sorted(names))
        if end == "changed" and (call in MUST_HEAR or call == "syncfs") and fault != "EINTR":
            return "says '%s' although %s failed" % (end, call)
        if end == "failed" and there not in (None, self.torn, self.whole):
            return "failed, and left %s" % sorted(there)
        if end == "failed" and names - {self.hash} and not call.startswith(("unlink", "rename", "flock")):
            return "failed, and left %s" % sorted(names)
        return None

    def after_rerun(self, end):
        (there, names, _), state = self.look()
        if end not in ("already", "changed"):
            return "one more run does not reach the goal: " + end
        if there != self.whole or names != {self.hash}:
            return "one more run leaves %s: %s" % (sorted(names), there and sorted(there))
        return "one more run leaves %s in the state directory" % state if set(state) - {"lock"} else None


class Hooked(Node):
    """An upgrade with commands of the caller's: what they do themselves is not struck at."""

    def run(self, *tracing):
        return super().run(*[t for t in tracing if t not in ("-f", "--seccomp-bpf")])


class Marked(Node):
    """A node on which a step of the caller's was marked before; another one is to be."""
    EARLIER, KEY = "earlier", "key-2"

    def __init__(self, work, case):
        super().__init__(work, case)
        self.state = os.path.join(self.root, "var/lib/k3sup")
        self.argv[-1] = self.KEY

    def reset(self):
        super().reset()
        os.makedirs(self.state)
        os.chmod(self.state, 0o700)
        with open(os.path.join(self.state, "marks"), "w") as f:
            json.dump([{"key": self.EARLIER, "at": 1, "boot_id": "00000000-0000-0000-0000-000000000000"}], f)
        os.chmod(f.name, 0o600)

    def look(self):
        try:
            with open(os.path.join(self.state, "marks")) as f:
                keys = [mark["key"] for mark in json.load(f)]
        except (OSError, ValueError) as e:
            keys = str(e)
        return (keys, super().look()[0]["k3s"][:2]), sorted(os.listdir(self.state))

    def after_fault(self, end, call, fault):
        (keys, installed), state = self.look()
        if keys not in ([self.EARLIER], [self.EARLIER, self.KEY]) or not whole(installed, "old"):
            return "the marks are %s, the installed file %s" % (keys, installed)
        if end == "hangs":
            return "hangs"
        if end in ("already", "changed") and self.KEY not in keys:
            return "says '%s', and it is not marked" % end
        if end == "changed" and call in MUST_HEAR and fault != "EINTR":
            return "says '%s' although %s failed" % (end, call)
        if end == "failed" and not call.startswith("unlink") and set(state) - {"marks", "marks-lock"}:
            return "failed, and left %s" % state
        return None

    def after_rerun(self, end):
        (keys, _), state = self.look()
        if end not in ("already", "changed"):
            return "one more run does not reach the goal: " + end
        return None if keys == [self.EARLIER, self.KEY] and state == ["marks", "marks-lock"] else "one more run leaves %s, %s" % (keys, state)


def node_for(work, case):
    special = {"unpack": Unpacked, "hooks": Hooked, "mark": Marked}
    if case.verb and case.verb[0] in special:
        return special[case.verb[0]](work, case)
    if case.verb and case.verb[0] in ("stage", "commit", "restore", "visible"):
        return Images(work, case)
    return (Versioned if case.versioned else Node)(work, case)


def job_bin(work, case):
    return os.path.join(work, "bin") if case.verb else os.environ["K3SUP_BUILD_DIR"]


def whole(entry, what):
    return bool(entry) and entry[:2] == (what, True)


def goal(seen, wanted):
    return set(seen) == {"k3s", "k3s.k3sup-backup"} and whole(seen["k3s"], wanted) and whole(seen["k3s.k3sup-backup"], "old") and \
        all(entry[3] == 1 for entry in seen.values())


def after_fault(seen, end, call, fault, wanted):
    target, backup = seen.get("k3s"), seen.get("k3s.k3sup-backup")
    if not whole(target, "old") and not whole(target, "new"):
        return "the target is %s" % (target[:2] if target else "gone",)
    if not whole(target, "old") and not whole(backup, "old"):
        return "the old file is lost"
    if backup and backup[0] not in ("old", "older"):
        return "the backup is " + backup[0]
    if end == "hangs":
        return "hangs"
    if wanted == "old" and not whole(backup, "old"):
        return "the backup is lost on the way back to it"
    if end in ("already", "changed", "done") and not goal(seen, wanted):
        return "says '%s', but the goal does not hold: %s" % (end, sorted((n, e[0]) for n, e in seen.items()))
    if end in ("already", "changed", "done") and call in MUST_HEAR and fault != "EINTR" and (call, fault) != NO_LINKS:
        return "says '%s' although %s failed" % (end, call)
    if end == "failed" and not call.startswith("unlink") and set(seen) - {"k3s", "k3s.k3sup-backup"}:
        return "failed, and left %s" % sorted(seen)
    return None


def after_rerun(seen, state, end, wanted):
    if end not in ("already", "changed", "done"):
        return "one more run does not reach the goal: " + end
    if not goal(seen, wanted):
        return "one more run leaves %s" % sorted((n,) + e[:2] + e[3:4] for n, e in seen.items())
    return litter(state)


def litter(state):
    if ("floor" not in state and "lock" in state) or set(state) - {"lock", "journal", "floor"}:
        return "one more run leaves %s in the state directory" % state
    return None
