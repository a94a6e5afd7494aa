# SPDX-License-Identifier: Apache-2.0
"""A machine: a real systemd in a container, booted from this host's own files. Nothing is downloaded, nothing on the host is changed.

systemd-nspawn boots the host's / read-only with a throw-away layer over it, in namespaces and a cgroup of its own; only basic.target is started. Programs are run in it
with nsenter, files are reached through /proc/PID/root of its process 1.
"""
import ctypes
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.normpath(os.path.join(HERE, "..", "scenarios")))

from node import BUILD, TOP, Answer, asset_hash, schema  # noqa: E402
from sandbox import Done, until  # noqa: E402

K3S = "/usr/local/bin/k3s"
PATIENCE = 60
PROGRAMS = "/mnt/programs"
# As k3s's install.sh writes them.
UNIT = """[Unit]
Description=Lightweight Kubernetes
Documentation=https://k3s.io
Wants=network-online.target

[Install]
WantedBy=multi-user.target

[Service]
Type=notify
EnvironmentFile=-/etc/default/%%N
EnvironmentFile=-/etc/sysconfig/%%N
EnvironmentFile=-/etc/systemd/system/k3s.service.env
KillMode=process
Delegate=yes
User=root
LimitNOFILE=1048576
LimitNPROC=infinity
LimitCORE=infinity
TasksMax=infinity
TimeoutStartSec=0
Restart=always
RestartSec=5s
ExecStartPre=-/sbin/modprobe br_netfilter
ExecStart=/usr/local/bin/k3s \\
    %s
"""
# A container's view: a root and a mount namespace of its own, the host's root at /host, the host's pid namespace.
POD = r"""set -e
mount -t tmpfs pod /tmp
cd /tmp
mkdir host usr proc dev mnt mnt/programs mnt/python mnt/system opt opt/payload out old
mount %s / host
mount --bind /usr usr
for d in bin sbin lib lib32 lib64; do
	if [ -L /$d ]; then cp -a /$d $d; elif [ -d /$d ]; then mkdir $d; mount --bind /$d $d; fi
done
for d in programs python system; do mount --bind /mnt/$d mnt/$d; done
mount --bind /opt/payload opt/payload
mount -t proc proc proc
mount --rbind /dev dev
pivot_root . old
umount -l /old
cd /
exec "$@"
"""


def why_not():
    """Why no machine can be booted here, or None."""
    if os.geteuid() != 0:
        return "needs root to boot a machine"
    for tool in ("systemd-nspawn", "nsenter", "unshare"):
        if not shutil.which(tool):
            return "no %s here" % tool
    if not os.path.isdir("/sys/fs/cgroup"):
        return "no cgroups here"
    return None


def hierarchies():
    """(mount point, our path in it) of the hierarchies that systemd uses for services."""
    mounts = {}
    with open("/proc/self/mountinfo") as f:
        for line in f:
            left, right = line.split(" - ")
            kind, _, options = right.split()[:3]
            if kind == "cgroup2" or (kind == "cgroup" and "name=systemd" in options.split(",")):
                mounts[kind] = left.split()[4]
    found = []
    with open("/proc/self/cgroup") as f:
        for line in f:
            number, controllers, path = line.rstrip("\n").split(":", 2)
            kind = "cgroup2" if number == "0" else "cgroup" if controllers == "name=systemd" else None
            if kind in mounts:
                found.append(mounts[kind] + path.rstrip("/"))
    return found


def children(pid):
    return [int(p) for p in subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], stdout=subprocess.PIPE, text=True).stdout.split()]


# A k3s of which systemd knows nothing by name, and the commands of whoever runs it so.
START = "pidof k3s-server >/dev/null || exec systemd-run -q --collect --unit=k3s-by-hand-$$ -p KillMode=process /usr/local/bin/k3s server"
COMMANDS = ["stop_command=kill $K3SUP_PID", "start_command=" + START, "status_command=pidof k3s-server >/dev/null || exit 3"]


class Machine:
    """boot() it, run() in it, close() it."""

    def __init__(self):
        self.directory = tempfile.mkdtemp(prefix="k3sup-machine-")
        self.cgroups = ["%s/%s" % (at, os.path.basename(self.directory)) for at in hierarchies()]
        self.ran = 0
        for path in self.cgroups:
            os.mkdir(path)
        script = """for c in %s; do echo 0 >$c/cgroup.procs; done
mount --make-rprivate / && mkdir %s/root && mount --bind / %s/root &&
exec systemd-nspawn -D %s/root --volatile=overlay --boot --register=no --keep-unit --console=pipe --link-journal=no --private-network \
    --bind-ro=%s:%s --bind-ro=%s:/mnt/python --bind-ro=%s:/mnt/system -- systemd.unit=basic.target systemd.mask=dev-hugepages.mount""" % (
            " ".join(self.cgroups), self.directory, self.directory, self.directory, BUILD, PROGRAMS, os.path.join(TOP, "bindings", "python"),
            HERE)
        with open(self.directory + "/log", "wb") as log:
            self.unshare = subprocess.Popen(["unshare", "-mpf", "--kill-child", "--mount-proc", "sh", "-c", script], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                           preexec_fn=lambda: ctypes.CDLL(None).prctl(1, signal.SIGKILL))
        self.leader = 0
        try:
            until(self.is_up, PATIENCE, "the machine to boot")
            self.makedirs("/opt/payload")
        except BaseException:
            with open(self.directory + "/log", errors="replace") as f:
                sys.stderr.write(f.read())
            self.close()
            raise

    def is_up(self):
        assert self.unshare.poll() is None, "systemd-nspawn has ended"
        self.leader = self.process_1()
        if not self.leader:
            return False
        # Asked too early, before the container has its own /run, it may never be answered.
        try:
            return self.run("systemctl", "is-system-running", check=False, seconds=3).stdout.strip() in ("running", "degraded")
        except subprocess.TimeoutExpired:
            return False

    def process_1(self):
        """unshare's child is nspawn; its children come and go until the last one is process 1 of a pid namespace of its own."""
        for nspawn in children(self.unshare.pid):
            for pid in children(nspawn):
                try:
                    with open("/proc/%d/status" % pid) as f:
                        numbers = re.search(r"^NSpid:\s+(.*)$", f.read(), flags=re.M)[1].split()
                except OSError:
                    continue
                if len(numbers) > 2 and numbers[-1] == "1":
                    return pid
        return 0

    def close(self):
        self.unshare.kill()  # nspawn dies with it, and is process 1 of a pid namespace: all others go with that
        self.unshare.wait()
        for path in self.cgroups:
            until(lambda path=path: self.remove(path), PATIENCE, "the machine's cgroups to be empty")
        shutil.rmtree(self.directory, ignore_errors=True)

    @staticmethod
    def remove(path):
        for where, _, _ in os.walk(path, topdown=False):
            try:
                os.rmdir(where)
            except OSError:
                return False
        return True

    # ---- running ----

    def inside(self, argv):
        return ["nsenter", "-t", str(self.leader), "-a"] + list(argv)

    def run(self, *argv, check=True, seconds=PATIENCE):
        p = subprocess.run(self.inside(argv), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=seconds)
        assert not check or p.returncode == 0, "%s: exit %d: %s%s" % (argv, p.returncode, p.stdout, p.stderr)
        return p

    def systemctl(self, *args, check=True):
        return self.run("systemctl", *args, check=check).stdout.strip()

    def show(self, unit, *keys):
        out = self.run("systemctl", "show", unit, *[a for k in keys for a in ("-p", k)]).stdout
        return dict(line.split("=", 1) for line in out.splitlines() if "=" in line)

    @staticmethod
    def seen_from(view, argv):
        """This program as it is to be started for this view."""
        return argv if view == "host" else ["unshare", "-m", "sh", "-c", POD % ("--rbind" if view == "pod" else "--bind"), "sh"] + argv

    def begin(self, tool, *args, view="host", unit=None, cgroup=None, env=None, argv=None):
        """Starts a program: on the host, or as a pod ("pod": the host's root is at /host, with all that is mounted there; "bare": without). unit: as this transient service."""
        argv = argv or [PROGRAMS + "/" + tool]
        if view != "host":
            argv = self.seen_from(view, argv + ["--root", "/host"])
        argv += list(args)
        env = dict({"LD_LIBRARY_PATH": PROGRAMS}, **(env or {}))
        if unit:
            argv = ["systemd-run", "-q", "--wait", "--pipe", "--collect", "-p", "KillSignal=SIGKILL", "--unit", unit] + ["--setenv=%s=%s" % kv for kv in env.items()] + argv
        elif cgroup:
            argv = ["sh", "-c", "for f in /sys/fs/cgroup%s/cgroup.procs /sys/fs/cgroup/systemd%s/cgroup.procs /sys/fs/cgroup/unified%s/cgroup.procs; do "
                    "[ ! -e $f ] || echo $$ >$f; done; exec \"$@\"" % (cgroup, cgroup, cgroup), "sh"] + argv
        began = time.monotonic()
        p = subprocess.Popen(self.inside(argv), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                             env=dict({"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}, **env))
        p.began = began
        return p

    def finish(self, p, seconds=PATIENCE * 2):
        out, err = p.communicate(timeout=seconds)
        return Answer(Done(p.returncode, out, err, time.monotonic() - p.began))

    def upgrade(self, *args, stable="0.3", timeout="60", **more):
        return self.finish(self.begin("k3sup-upgrade", "--json", "--probe", "none", "--stable", stable, "--timeout", timeout, *args, **more))

    def python(self, *args, view="host", prefix=(), **more):
        """Starts inside.py with these arguments behind its ROOT."""
        argv = list(prefix) + ["/usr/bin/python3", "-B", "/mnt/system/inside.py", "/" if view == "host" else "/host"] + list(args)
        return self.begin(None, argv=self.seen_from(view, argv), env={"PYTHONPATH": "/mnt/python", "K3SUP_LIBRARY": PROGRAMS + "/libk3sup.so.0"}, **more)

    def service(self, *args, seconds=PATIENCE * 2, **more):
        p = self.python(*args, **more)
        out, err = p.communicate(timeout=seconds)
        assert p.returncode == 0 and out.count("\n") == 1, "exit %d: %s%s" % (p.returncode, out, err)
        told = json.loads(out)
        wrong = [e.message for e in schema().iter_errors(told)]
        assert not wrong, "%s: %s" % (wrong, out)
        return told

    # ---- files ----

    def path(self, inside):
        return "/proc/%d/root%s" % (self.leader, inside)

    def read(self, inside):
        with open(self.path(inside), "rb") as f:
            return f.read()

    def write(self, inside, text, mode=0o644):
        self.makedirs(os.path.dirname(inside))
        with open(self.path(inside), "w") as f:
            f.write(text)
        os.chmod(self.path(inside), mode)

    def makedirs(self, inside):
        os.makedirs(self.path(inside), exist_ok=True)

    def copy(self, host, inside):
        self.makedirs(os.path.dirname(inside))
        shutil.copyfile(host, self.path(inside) + ".new")
        os.chmod(self.path(inside) + ".new", 0o755)
        os.rename(self.path(inside) + ".new", self.path(inside))

    def exists(self, inside):
        return os.path.lexists(self.path(inside))

    # ---- k3s ----

    def install(self, binary, command="server", name="k3s", unit=None, **switches):
        """k3s as its installer leaves it, not started."""
        switches = dict({"port": 0, "rsa": 0, "ready_after_ms": 50, "term_delay_ms": 50, "shims": 1}, **switches)
        self.write("/etc/rancher/k3s/standin.conf", "".join("%s=%s\n" % kv for kv in switches.items()))
        self.copy(binary, K3S)
        self.write("/etc/systemd/system/%s.service" % name, unit or UNIT % command)
        self.systemctl("daemon-reload")

    def payload(self, binary, path="/opt/payload/k3s"):
        self.copy(binary, path)
        return path

    def reset(self):
        """Nothing of k3s is left."""
        units = {"k3s.service", "k3s-agent.service"} | {n for n in os.listdir(self.path("/etc/systemd/system")) if n.startswith("k3s")}
        guards = self.systemctl("list-units", "--all", "--no-legend", "--plain", "k3sup-*", check=False)
        for unit in [line.split()[0] for line in guards.splitlines()] + sorted(u for u in units if u.endswith(".service")):
            self.systemctl("kill", "-s", "KILL", unit, check=False)
            self.systemctl("stop", unit, check=False)
            self.systemctl("reset-failed", unit, check=False)
        for name in units:
            for at in ("/etc/systemd/system/", "/run/systemd/system/"):
                path = self.path(at + name)
                if os.path.islink(path) or os.path.isfile(path):
                    os.unlink(path)
                shutil.rmtree(path + ".d", ignore_errors=True)
        self.systemctl("daemon-reload")
        for pid in [p["pid"] for p in self.processes() if "/data/" in p["exe"] or p["exe"].startswith(K3S)]:
            self.run("kill", "-KILL", str(pid), check=False)
        until(lambda: not self.running(), PATIENCE, "k3s to be gone")
        for path in ("/var/lib/rancher", "/var/lib/k3sup", "/etc/rancher", "/opt/payload"):
            shutil.rmtree(self.path(path), ignore_errors=True)
        for name in os.listdir(self.path("/usr/local/bin")):
            if "k3s" in name:
                os.unlink(self.path("/usr/local/bin/" + name))
        self.makedirs("/opt/payload")

    def processes(self):
        proc, found = self.path("/proc"), []
        for name in os.listdir(proc):
            try:
                d = "%s/%s/" % (proc, name)
                with open(d + "stat", "rb") as f:
                    fields = f.read().rsplit(b")", 1)[1].split()
                with open(d + "comm") as f:
                    comm = f.read().strip()
                with open(d + "cgroup") as f:
                    cgroup = f.read()
                found.append({"pid": int(name), "comm": comm, "ppid": int(fields[1]), "state": fields[0].decode(), "start_time": int(fields[19]),
                              "exe": os.readlink(d + "exe"), "cgroup": cgroup})
            except (OSError, ValueError):
                pass
        return found

    def running(self):
        """[process] of all k3s: of a pair the parent."""
        seen = [p for p in self.processes() if p["comm"] in ("k3s-server", "k3s-agent", "exe") and re.search(r"/data/[0-9a-f]{64}/bin/", p["exe"]) and p["state"] != "Z"]
        return [p for p in seen if p["ppid"] not in [q["pid"] for q in seen]]

    def start(self, name="k3s"):
        self.systemctl("start", "--no-block", name)
        return until(self.running, PATIENCE, "k3s to come up")[0]

    def wait_active(self, name="k3s"):
        until(lambda: self.show(name, "ActiveState")["ActiveState"] == "active", PATIENCE, name + " to be active")

    def leave_to_a_shell(self):
        """It runs, but nobody's service is it any more: a shell has started it."""
        self.systemctl("kill", "-s", "KILL", "k3s", check=False)
        self.systemctl("stop", "k3s")
        self.run("systemd-run", "-q", "--scope", "sh", "-c", "setsid %s server >/dev/null 2>&1 </dev/null &" % K3S)
        return until(self.running, PATIENCE, "k3s")[0]

    def start_by_command(self):
        """It runs as nobody's service that is known by name."""
        self.run("sh", "-c", START)
        return until(self.running, PATIENCE, "k3s")[0]

    def commands_guards(self):
        return self.systemctl("list-units", "--no-legend", "--plain", "k3sup-guard-commands-*.timer", check=False)

    def assert_runs(self, binary, but=None):
        now = until(self.running, PATIENCE, "k3s to run")
        assert len(now) == 1, now
        assert asset_hash(binary) in now[0]["exe"], "%s does not run, but %s" % (binary, now[0]["exe"])
        assert but is None or (now[0]["pid"], now[0]["start_time"]) != (but["pid"], but["start_time"]), "it was not restarted"
        return now[0]


def told(answer):
    return json.dumps(answer.json, indent=1)
