# SPDX-License-Identifier: Apache-2.0
"""A k3s node inside a sandbox, and the programs under test run on it.

Layouts: "host" (the root is /), "tree" (--root DIR, k3s sees the real root), "chroot" (--root DIR, k3s was started chrooted there), "pod" (k3s as on
a host; the programs see that host at /host, from a mount namespace and a root of their own, as the privileged pods of an upgrade do).
"""
import functools
import hashlib
import json
import os
import re

import jsonschema

from sandbox import HERE, LIBRARY, PROGRAMS, Sandbox, difference, until

TOP = os.path.normpath(os.path.join(HERE, "..", ".."))
BUILD = os.path.abspath(os.environ.get("K3SUP_BUILD_DIR") or os.path.join(TOP, "build", "dev"))
PROGRAM_DIR = os.path.abspath(os.environ.get("K3SUP_PROGRAM_DIR") or BUILD)
SCHEMA = os.path.join(TOP, "libk3sup", "k3sup.schema.json")
DATA_EXE = re.compile(r"/data/([0-9a-f]{64})/bin/(k3s|containerd)( \(deleted\))?$")
TITLE = re.compile(rb"k3s (server|agent)\0*$")
LAYOUTS = {"host": "", "tree": "/srv/node", "chroot": "/srv/node", "pod": ""}
# Makes a root like a container's, with the host's at /host, and executes its arguments there.
POD = r"""set -e
mount -t tmpfs pod /tmp
cd /tmp
mkdir host usr proc dev mnt mnt/programs mnt/library opt opt/payload out old
mount --rbind / host
mount --bind /usr usr
for d in bin sbin lib lib32 lib64; do
	if [ -L /$d ]; then cp -a /$d $d; elif [ -d /$d ]; then mkdir $d; mount --bind /$d $d; fi
done
mount --bind /mnt/programs mnt/programs
mount --bind /mnt/library mnt/library
mount --bind /opt/payload opt/payload
mount -t proc proc proc
mount --rbind /dev dev
pivot_root . old
umount -l /old
cd /
exec "$@"
"""
K3S = "/usr/local/bin/k3s"
BACKUP = K3S + ".k3sup-backup"
STATE_DIR = "/var/lib/k3sup"
# The time a supervisor of ours waits before it starts k3s again.
PAUSE = 0.2


@functools.lru_cache(maxsize=None)
def schema():
    with open(SCHEMA) as f:
        text = json.load(f)
    jsonschema.Draft202012Validator.check_schema(text)
    return jsonschema.Draft202012Validator(text)


@functools.lru_cache(maxsize=None)
def asset_hash(binary):
    """H of a wrapper: which build it is, read without the library."""
    with open(binary, "rb") as f:
        found = set(re.findall(rb"(?:embed|build/data)/([0-9a-f]{64})\.t", f.read()))
    assert len(found) == 1, "%s: %d archives" % (binary, len(found))
    return found.pop().decode()


def content_of(path):
    with open(path, "rb") as f:
        return f.read()


def sha256(path):
    return hashlib.sha256(content_of(path)).hexdigest()


class Answer:
    """What a program said with --json, checked against everything that all programs promise."""

    def __init__(self, done):
        self.exit, self.seconds, self.err = done.status, done.seconds, done.err
        lines = done.out.split("\n")
        assert len(lines) == 2 and lines[1] == "", "not exactly one line on stdout: %r (stderr: %r)" % (done.out, done.err)
        self.json = json.loads(lines[0])
        wrong = ["%s: %s" % ("/".join(map(str, e.absolute_path)), e.message) for e in schema().iter_errors(self.json)]
        assert not wrong, "does not follow the schema: %s\n%s" % (wrong, lines[0])
        for key in ("schema", "tool", "exit"):
            assert key in self.json, "no %s in %s" % (key, lines[0])
        assert self.json["exit"] == self.exit, "exit status %d, in the JSON %d" % (self.exit, self.json["exit"])
        if self.json["tool"] == "k3sup-upgrade" and self.exit != 9: # a dry run
            assert self.json["ok"] == (self.exit == 0), "ok is %s with exit status %d" % (self.json["ok"], self.exit)

    def __getitem__(self, key):
        return self.json[key]

    @property
    def error(self):
        return self.json.get("error", {}).get("name")

    @property
    def message(self):
        return self.json.get("error", {}).get("message", "")

    def __repr__(self):
        return "exit %d after %.1f s: %s %s" % (self.exit, self.seconds, json.dumps(self.json), self.err)


class Node:
    def __init__(self, sandbox, layout="host"):
        self.sb, self.layout, self.root = sandbox, layout, LAYOUTS[layout]
        self.host_pid = True # of a pod: it shares the node's processes
        self.ran = []
        if self.root:
            for made in ("/usr/local/bin", "/var/lib/rancher", "/var/log", "/etc/rancher/k3s", "/proc", "/dev"):
                sandbox.makedirs(self.root + made)
        if layout == "chroot":
            sandbox.ask("mount", source="proc", target=self.root + "/proc", kind="proc")
            sandbox.write(self.root + "/dev/null", "")
        sandbox.makedirs("/opt/payload")
        self.behave()

    def at(self, inside):
        """A path inside the node, as the sandbox sees it."""
        return self.root + inside

    def behave(self, **switches):
        """Switches of the stand-in, see its README. Its ports are those of a real one."""
        switches = dict({"kubelet_port": 10248, "rsa": 0, "ready_after_ms": 50, "term_delay_ms": 50}, **switches)
        self.sb.write(self.at("/etc/rancher/k3s/standin.conf"), "".join("%s=%s\n" % kv for kv in switches.items()))

    def install(self, binary, path=K3S, mode=0o755):
        self.sb.makedirs(os.path.dirname(self.at(path)))
        self.sb.copy(binary, self.at(path), mode)

    def payload(self, binary, path="/opt/payload/k3s", mode=0o755):
        """The FILE of an upgrade, a path of the sandbox."""
        self.sb.makedirs(os.path.dirname(path), os.stat(self.sb.path(os.path.dirname(path))).st_mode & 0o7777 if
                         self.sb.exists(os.path.dirname(path)) else 0o755)
        self.sb.copy(binary, path, mode)
        return path

    def content(self, path=K3S):
        return self.sb.read(self.at(path))

    # ---- k3s ----

    def k3s_spec(self, args=("server",), path=K3S, **more):
        env = {"K3S_STANDIN_CONF": "/etc/rancher/k3s/standin.conf"}
        prefix = ""
        if self.layout == "chroot":
            more["chroot"] = self.root
        else:
            prefix = self.root
            env["K3S_STANDIN_CONF"] = self.at("/etc/rancher/k3s/standin.conf")
        argv = [prefix + path] + list(args)
        if args[0] == "server": # it writes late: where nobody compares
            argv += ["--write-kubeconfig", prefix + "/var/log/k3s.yaml"]
        if self.layout == "tree":
            argv += ["--data-dir", self.at("/var/lib/rancher/k3s")]
        env.update(more.pop("env", {}))
        return self.sb.spec(argv, env=env, **more)

    def start(self, *args, delay=PAUSE, first=0, name="k3s", path=K3S, up=True, **more):
        """Puts k3s under a supervisor (process 1, as under systemd), and waits until it has unpacked itself."""
        spec = self.k3s_spec(args or ("server",), path, **more)
        self.sb.ask("supervise", name=name, spec=spec, delay=delay, first=first)
        if up:
            return until(lambda: self.main_process(name), 15, "k3s to come up")

    def unit(self, name="k3s", **change):
        return self.sb.ask("unit", name=name, set=change)

    def main_process(self, name="k3s"):
        """The supervised process, once it is unpacked and titled (of a --log pair: the child is)."""
        starts = self.unit(name)["starts"]
        pid = starts[-1]["pid"] if starts else 0
        seen = [p for p in self.sb.processes() if pid in (p["pid"], p["ppid"]) and DATA_EXE.search(p["exe"]) and TITLE.search(p["cmdline"])]
        return self.sb.process(pid) if seen else None

    def running(self):
        """Every k3s server and agent, by what the process table says: a list of (process, H). Children of a --log pair do not count."""
        seen = [p for p in self.sb.processes() if p["comm"] in ("k3s-server", "k3s-agent") and DATA_EXE.search(p["exe"])]
        pids = [p["pid"] for p in seen]
        return [(p, DATA_EXE.search(p["exe"]).group(1)) for p in seen if p["ppid"] not in pids]

    # ---- the programs ----

    def begin(self, tool, *args, prefix=(), **more):
        """Starts a program with this node's --root."""
        env = dict({"LD_LIBRARY_PATH": LIBRARY}, **more.pop("env", {}))
        if "strace" in prefix: # of a build with sanitizers: leaks cannot be looked for while it is traced
            env["ASAN_OPTIONS"] = "detect_leaks=0"
        root = "/host" if self.layout == "pod" else self.root
        if self.layout == "pod":
            prefix = ["unshare", "-m"] + ([] if self.host_pid else ["-pf"]) + ["sh", "-c", POD, "sh"] + list(prefix)
        argv = list(prefix) + [PROGRAMS + "/" + tool] + list(args) + (["--root", root] if root else [])
        return self.sb.spawn(argv, env=env, **more)

    def finish(self, spec, seconds=60):
        answer = Answer(self.sb.wait(spec, seconds))
        self.ran.append((spec["argv"], answer))
        return answer

    def upgrade(self, *args, stable="0.3", timeout="30", **more):
        return self.finish(self.begin("k3sup-upgrade", "--json", "--stable", stable, "--timeout", timeout, *args, **more))

    def status(self, *args, **more):
        return self.finish(self.begin("k3sup-status", "--json", *args, **more))

    def snapshot(self, *without):
        """Everything on the node's disk that an upgrade could touch; what a running k3s writes by itself is left out."""
        without = [self.at(p) for p in ("/var/lib/rancher", "/var/log", "/proc") + without]
        tops = [self.root] if self.root else ["/usr/local", "/opt", "/etc", "/var", "/run", "/srv", "/tmp"]
        return self.sb.snapshot(tops + ([] if not self.root else ["/opt"]), without)

    # ---- what tests say about it ----

    def assert_nothing_changed(self, before, *without, lock=False, journal=False, staged=False):
        """lock: the run took the lock, for which /var/lib/k3sup and the file in it may have been made. journal: it got as far as opening an entry.
        staged: a temp file came and went, which its directory's time tells."""
        ours = [self.at(STATE_DIR)] + [self.at(STATE_DIR + n) for n in (["/lock"] if lock else []) + (["/journal"] if journal else [])]
        parent = os.path.dirname(ours[0])
        after = self.snapshot(*without)
        if lock and ours[0] in after:
            assert after[ours[0]]["mode"] == "0o40700" and after[ours[1]]["mode"] == "0o100600", after
            for path in ours:
                before = dict(before, **{path: after.get(path)}) if path in after else before
            if ours[0] not in before or parent in before:
                before = dict(before, **{parent: dict(before[parent], mtime=after[parent]["mtime"], links=after[parent]["links"])})
        if staged:
            directory = self.at("/usr/local/bin")
            before = dict(before, **{directory: dict(before[directory], mtime=after[directory]["mtime"])})
        lines = difference(before, after)
        assert not lines, "something on disk changed: " + "; ".join(lines)

    def assert_no_litter(self, path=K3S):
        directory, name = os.path.split(self.at(path))
        left = [n for n in self.sb.listdir(directory) if n.startswith("." + name)]
        assert not left, "litter beside the installed file: %s" % left

    def assert_runs(self, binary, but=None, count=1):
        """Exactly one k3s runs, and it is this build. Returns it. but: a process that must not be it."""
        running = self.running()
        assert len(running) == count, "%d k3s run: %s" % (len(running), running)
        for process, hash_ in running:
            assert hash_ == asset_hash(binary), "the running k3s is not the wanted build but %s" % process["exe"]
            assert but is None or process["pid"] != but["pid"], "k3s was not restarted: still process %d" % process["pid"]
            assert but is None or process["start_time"] > but["start_time"], "k3s was not started anew"
        return running[0][0]

    def assert_upgraded(self, answer, old, new, process, path=K3S, starts=2, restarted_by_us=True):
        """The whole promise: new file, new process, old file kept, all of it said."""
        assert answer.exit == 0, "the upgrade failed: %r" % answer
        assert self.content(path) == content_of(new), "the installed file is not the payload"
        now = self.assert_runs(new, but=process)
        if starts:
            assert len(self.unit()["starts"]) == starts, "k3s was started %d times, not %d" % (len(self.unit()["starts"]), starts)
        assert answer["changed"] is True, "something changed, and it was not said"
        assert answer["state"] == "current" and answer["flags"] == [], "state %s, flags %s" % (answer["state"], answer["flags"])
        assert answer["running"]["pid"] == now["pid"], "it names process %d, k3s is %d" % (answer["running"]["pid"], now["pid"])
        assert answer["running"]["start_time"] == now["start_time"], "it names another start time"
        assert answer["running"]["asset_hash"] == asset_hash(new) and answer["running"]["is_installed_build"] is True
        assert answer["installed"]["path"] == path and answer["installed"]["asset_hash"] == asset_hash(new)
        assert answer["wanted"]["asset_hash"] == asset_hash(new)
        if old is not None:
            assert self.content(path + ".k3sup-backup") == content_of(old), "the backup is not the old file"
            assert answer["backup"]["path"] == path + ".k3sup-backup" and answer["backup"]["sha256"] == sha256(old)
        if restarted_by_us:
            assert answer["downtime_ms"] > 0, "k3s was down, and no downtime is told"
        self.assert_no_litter(path)
        return now


class Maker:
    """Makes nodes, each in a sandbox of its own, and throws them away."""

    def __init__(self, programs=PROGRAM_DIR):
        self.programs, self.sandboxes = programs, []

    def __call__(self, layout="host", **more):
        self.sandboxes.append(Sandbox(self.programs, BUILD, **more))
        return Node(self.sandboxes[-1], layout)

    def close(self):
        while self.sandboxes:
            self.sandboxes.pop().close()
