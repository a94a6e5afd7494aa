# SPDX-License-Identifier: Apache-2.0
"""A node of OpenRC: Debian's real rc-service, openrc-run and supervise-daemon in a sandbox, with the init script that k3s's installer writes.

The package is unpacked and laid over /usr in the sandbox's mount namespace; nothing is installed. Its control groups are the sandbox's own.
"""
import ctypes
import json
import os
import re
import shutil
import subprocess
import tempfile

from machine import hierarchies
from node import BUILD, K3S, PROGRAM_DIR, TOP, Answer, Node, schema
from sandbox import LIBRARY, PROGRAMS, Sandbox, until

# As k3s's install.sh writes it (create_openrc_service_file), but the pause before a respawn, which is 5 there.
SCRIPT = """#!/sbin/openrc-run

depend() {
    after network-online
    want cgroups
}

start_pre() {
    rm -f /tmp/k3s.*
}

supervisor=supervise-daemon
name=%(name)s
command="/usr/local/bin/k3s"
command_args="%(command)s \\
    >>/var/log/%(name)s.log 2>&1"

output_log=/var/log/%(name)s.log
error_log=/var/log/%(name)s.log

pidfile="/var/run/%(name)s.pid"
respawn_delay=%(delay)d
respawn_max=0

set -o allexport
if [ -f /etc/environment ]; then . /etc/environment; fi
if [ -f /etc/rancher/k3s/%(name)s.env ]; then . /etc/rancher/k3s/%(name)s.env; fi
set +o allexport
"""
# A container's view, as in node.py, in a control group and a mount namespace of its own.
POD = r"""set -e
mount -t tmpfs pod /tmp
cd /tmp
mkdir host usr proc sys dev mnt mnt/programs mnt/library mnt/out opt opt/payload out old
mount --rbind / host
mount --bind /usr usr
for d in bin sbin lib lib32 lib64; do
	if [ -L /$d ]; then cp -a /$d $d; elif [ -d /$d ]; then mkdir $d; mount --bind /$d $d; fi
done
for d in mnt/programs mnt/library mnt/out opt/payload; do mount --bind /$d $d; done
mount -t proc proc proc
mount --rbind /dev dev
pivot_root . old
umount -l /old
cd /
exec "$@"
"""


def layer():
    """The package's files as they are on a host where /sbin, /bin and /lib are links into /usr."""
    p = subprocess.run(["sh", os.path.join(TOP, "tests", "deps.sh"), "openrc"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if p.returncode != 0:
        return None, p.stderr.strip().split("\n")[-1]
    top, out = os.path.dirname(os.path.dirname(p.stdout.strip())), os.path.join(BUILD, "openrc-layer")
    if not os.path.isdir(out):
        made = tempfile.mkdtemp(dir=BUILD)
        os.chmod(made, 0o755)
        for name in ("sbin", "bin", "lib", "usr"):
            if os.path.isdir(os.path.join(top, name)):
                shutil.copytree(os.path.join(top, name), os.path.join(made, "" if name == "usr" else name), symlinks=True, dirs_exist_ok=True)
        try:
            os.rename(made, out)
        except OSError: # another worker was faster
            shutil.rmtree(made)
    return out, None


def why_not():
    if os.geteuid() != 0:
        return "needs root for namespaces"
    return None if hierarchies() else "no cgroups here"


class Machine:
    """A sandbox in which OpenRC has booted. kind: how control groups are mounted: "unified", "hybrid" (both), "v1", "none"."""

    def __init__(self, usr, kind="unified"):
        self.kind, self.groups = kind, []
        self.name = "k3sup-openrc-%d-%d" % (os.getpid(), id(self))
        for at in hierarchies():
            self.groups.append(os.path.join(at, self.name))
            os.mkdir(self.groups[-1])
        try:
            self.sb = Sandbox(PROGRAM_DIR, BUILD, usr=usr, cgroups=self.groups)
        except BaseException:
            self.remove_groups()
            raise
        self.node = Node(self.sb)
        self.boot()

    def boot(self):
        sb = self.sb
        for made in ("/etc/init.d", "/etc/conf.d", "/etc/runlevels/default", "/run/openrc", "/run/lock", "/mnt/out"):
            sb.makedirs(made)
        sb.write("/run/openrc/softlevel", "default")
        for name in ("starting", "started", "stopping", "inactive", "wasinactive", "failed", "hotplugged", "daemons", "options", "exclusive", "scheduled", "tmp"):
            sb.makedirs("/run/openrc/" + name)
        sb.ask("mount", source="cg", target="/sys/fs/cgroup", kind="tmpfs")
        unified = {"unified": "/sys/fs/cgroup", "hybrid": "/sys/fs/cgroup/unified"}.get(self.kind)
        if unified:
            sb.makedirs(unified)
            sb.ask("mount", source="cg", target=unified, kind="cgroup2")
        if self.kind in ("hybrid", "v1"):
            sb.makedirs("/sys/fs/cgroup/systemd")
            sb.ask("mount", source="cg", target="/sys/fs/cgroup/systemd", kind="cgroup", data="none,name=systemd")
        self.write("/etc/rc.conf", "rc_cgroup_mode=%s\n" % {"v1": "legacy", "none": "legacy"}.get(self.kind, self.kind))
        self.mounts = [unified] * bool(unified) + ["/sys/fs/cgroup/systemd"] * (self.kind in ("hybrid", "v1"))

    def close(self):
        self.sb.close()
        self.remove_groups()

    def remove_groups(self):
        for group in self.groups:
            for where, _, _ in os.walk(group, topdown=False):
                until(lambda where=where: self.gone(where), 10, where + " to be empty")

    @staticmethod
    def gone(where):
        try:
            os.rmdir(where)
        except OSError:
            pass
        return not os.path.isdir(where)

    def write(self, path, text, mode=0o644):
        self.sb.makedirs(os.path.dirname(path))
        self.sb.write(path, text, mode)

    # ---- k3s ----

    def install(self, binary, command="server", name="k3s", delay=1, script=None, **switches):
        if switches:
            self.node.behave(**switches)
        self.node.install(binary)
        self.write("/etc/rancher/k3s/%s.env" % name, "K3S_STANDIN_CONF=/etc/rancher/k3s/standin.conf\nK3S_SECRET='a b'\n", 0o600)
        self.write("/etc/init.d/" + name, script or SCRIPT % {"name": name, "command": command, "delay": delay}, 0o755)

    def rc(self, *args, check=True):
        done = self.sb.run(["/sbin/rc-service"] + list(args))
        assert not check or done.status == 0, "rc-service %s: %d %s%s" % (args, done.status, done.out, done.err)
        return done

    def start(self, name="k3s"):
        self.rc(name, "start")
        return until(self.running, 10, "k3s to come up")[0]

    def running(self):
        return [p for p, _ in self.node.running()]

    def daemons(self):
        return [p for p in self.sb.processes() if p["comm"] == "supervise-daemo"]

    def guards(self):
        return [p for p in self.sb.processes() if p["comm"] == "k3sup-guard"]

    def unguarded(self):
        """Whoever was told to go answers first and ends then: its last instructions are waited for, far less than a guard's time."""
        return until(lambda: not self.guards(), 10, "the guardian to be gone")

    def state(self, name="k3s"):
        return {3: "stopped", 0: "started", 4: "stopping", 8: "starting", 32: "crashed"}.get(self.rc(name, "status", check=False).status, "?")

    def cgroup(self, pid):
        return self.sb.read("/proc/%d/cgroup" % pid).decode()

    # ---- us ----

    def make_group(self, name="pod"):
        for at in self.mounts:
            self.sb.makedirs("%s/%s" % (at, name))

    def begin(self, argv, view="host", group="pod", prefix=(), **more):
        """Starts a program in a control group of its own, as on the host or as a pod sees it ("pod": at /host)."""
        self.make_group(group)
        entering = "".join("echo 0 >%s/%s/cgroup.procs && " % (at, group) for at in self.mounts)
        argv = list(prefix) + list(argv)
        if view != "host":
            argv = ["unshare", "-m", "sh", "-c", POD, "sh"] + argv
        env = dict({"LD_LIBRARY_PATH": LIBRARY}, **more.pop("env", {}))
        return self.sb.spawn(["sh", "-c", entering + 'exec "$@"', "sh"] + argv, env=env, **more)

    def service(self, *actions, guard=30000, view="host", **more):
        """The result of k3sup_service()."""
        argv = [PROGRAMS + "/tests/driver-service", "/" if view == "host" else "/host", str(guard)] + list(actions)
        done = self.sb.wait(self.begin(argv, view=view, **more))
        assert done.out.count("\n") == 1, done.out + done.err
        told = json.loads(done.out)
        wrong = [e.message for e in schema().iter_errors(told)]
        assert not wrong, "%s: %s" % (wrong, done.out)
        return told

    def upgrade(self, *args, view="host", stable="0.3", timeout="30", **more):
        argv = [PROGRAMS + "/k3sup-upgrade", "--json", "--stable", stable, "--timeout", timeout] + (["--root", "/host"] if view != "host" else [])
        return Answer(self.sb.wait(self.begin(argv + list(args), view=view, **more)))

    def kill_group(self, name="pod"):
        """SIGKILL for all that is in it."""
        for at in self.mounts:
            if self.sb.exists("%s/%s/cgroup.kill" % (at, name)):
                self.sb.write("%s/%s/cgroup.kill" % (at, name), "1")
                return
        # By those inside: who reads a list of processes gets the numbers of its own pid namespace.
        lists = " ".join("%s/%s/cgroup.procs" % (at, name) for at in self.mounts)
        self.sb.run(["sh", "-c", "while p=$(cat %s) && [ \"$p\" ]; do kill -9 $p 2>/dev/null; done; :" % lists])
