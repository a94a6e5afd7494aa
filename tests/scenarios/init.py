# SPDX-License-Identifier: Apache-2.0
"""Process 1 of a sandbox: mounts, reaps, starts what it is asked to start, and supervises like systemd does (Restart=always).

Started by sandbox.py in fresh pid and mount namespaces; descriptor 3 is a socket on which requests come, one JSON object per line, and
answers go. It ends, and the kernel with it everything in its namespaces, when the other end is closed.
"""
import ctypes
import fcntl
import json
import os
import select
import signal
import socket
import struct
import sys
import time

libc = ctypes.CDLL(None, use_errno=True)
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_REMOUNT, MS_BIND = 1, 2, 4, 32, 4096
SIOCSIFFLAGS, IFF_UP = 0x8914, 1
# Copied into the empty /etc.
ETC = ("passwd", "group", "nsswitch.conf", "ld.so.cache", "ld.so.conf", "localtime")


def mount(source, target, kind=None, flags=0, data=None):
    arguments = [a.encode() if a is not None else None for a in (source, target, kind)]
    if libc.mount(*arguments, ctypes.c_ulong(flags), data.encode() if data else None) < 0:
        raise OSError(ctypes.get_errno(), "mount %s on %s" % (source, target))


def make_world(binds, usr):
    """Empties every directory that anything here writes to, and makes the rest of the host's files read-only. usr: is laid over /usr."""
    fds = {to: os.open(what, os.O_PATH) for to, what in binds.items()}
    etc = {}
    for name in ETC:
        if os.path.isfile("/etc/" + name):
            with open("/etc/" + name, "rb") as f:
                etc[name] = f.read()
    if usr:
        mount("usr", "/usr", "overlay", MS_RDONLY, "lowerdir=%s:/usr" % usr)
    for top, mode in (("/usr/local", "0755"), ("/opt", "0755"), ("/etc", "0755"), ("/var", "0755"), ("/run", "0755"), ("/srv", "0755"),
                      ("/mnt", "0755"), ("/tmp", "1777")):
        mount("sandbox", top, "tmpfs", MS_NOSUID | MS_NODEV, "mode=%s,size=600m" % mode)
    for made in ("/usr/local/bin", "/opt/bin", "/var/lib/rancher", "/var/log", "/etc/rancher/k3s", "/run/openrc", "/mnt/out"):
        os.makedirs(made)
    os.symlink("/run", "/var/run")
    for name, content in etc.items():
        with open("/etc/" + name, "wb") as f:
            f.write(content)
    for to, fd in fds.items():
        if os.path.isdir("/proc/self/fd/%d" % fd):
            os.makedirs(to)
        else:
            os.makedirs(os.path.dirname(to), exist_ok=True)
            os.close(os.open(to, os.O_CREAT | os.O_WRONLY, 0o755))
        mount("/proc/self/fd/%d" % fd, to, None, MS_BIND)
        mount(None, to, None, MS_REMOUNT | MS_BIND | MS_RDONLY)
        os.close(fd)
    mount(None, "/", None, MS_REMOUNT | MS_BIND | MS_RDONLY)


def loopback_up():
    """A network of its own: k3s has its usual ports there, and nobody else has any."""
    with socket.socket() as s:
        fcntl.ioctl(s, SIOCSIFFLAGS, struct.pack("16sH14s", b"lo", IFF_UP, b""))


class Init:
    def __init__(self, sock):
        self.sock = sock
        self.buffer = b""
        self.ended = {}    # pid -> wait status
        self.waiters = []  # (pid, deadline)
        self.units = {}    # name -> {spec, delay, active, starts, ends, due}
        self.wake, self.waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self.waker)

    # ---- processes ----

    def spawn(self, spec):
        pid = os.fork()
        if pid:
            return pid
        try:
            self.become(spec)
        except BaseException as e:  # the child must never come back from here
            os.write(2, ("cannot start %s: %r\n" % (spec["argv"], e)).encode())
        os._exit(127)

    def become(self, spec):
        signal.set_wakeup_fd(-1)
        for signo in (signal.SIGCHLD, signal.SIGPIPE, signal.SIGINT):
            signal.signal(signo, signal.SIG_DFL)
        os.setsid()
        os.umask(0o022)
        null = os.open("/dev/null", os.O_RDONLY)
        out = os.open(spec["out"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        err = os.open(spec["err"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        for i, fd in enumerate((null, out, err)):
            os.dup2(fd, i)
        os.closerange(3, 64)
        if spec.get("chroot"):
            os.chroot(spec["chroot"])
        os.chdir(spec.get("cwd") or "/")
        if spec.get("uid"):
            os.setgroups([])
            os.setresgid(spec["uid"], spec["uid"], spec["uid"])
            os.setresuid(spec["uid"], spec["uid"], spec["uid"])
        os.execvpe(spec.get("exe") or spec["argv"][0], spec["argv"], spec["env"])

    def reap(self):
        try:
            os.read(self.wake, 4096)
        except BlockingIOError:
            pass
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self.ended[pid] = os.waitstatus_to_exitcode(status)
            for unit in self.units.values():
                if unit["starts"] and unit["starts"][-1]["pid"] == pid:
                    unit["ends"].append({"pid": pid, "status": self.ended[pid], "at": time.monotonic()})
                    unit["due"] = time.monotonic() + unit["delay"] if unit["active"] else None

    def start_due(self):
        now = time.monotonic()
        for unit in self.units.values():
            if unit["due"] is not None and unit["due"] <= now:
                unit["due"] = None
                unit["starts"].append({"pid": self.spawn(unit["spec"]), "at": now})

    # ---- requests ----

    def answer(self, request):
        kind = request.pop("ask")
        if kind == "spawn":
            return self.spawn(request)
        if kind == "kill":
            os.kill(request["pid"], request["signo"])
            return None
        if kind == "supervise":
            self.units[request["name"]] = {"spec": request["spec"], "delay": request["delay"], "active": True, "starts": [], "ends": [],
                                           "due": time.monotonic() + request.get("first", 0)}
            self.start_due()
            return None
        if kind == "unit":
            unit = self.units[request["name"]]
            unit.update(request.get("set", {}))
            if not unit["active"]:
                unit["due"] = None
            return unit
        if kind == "mount":
            mount(request["source"], request["target"], request.get("kind"), request.get("flags", 0), request.get("data"))
            return None
        if kind == "umount":
            if libc.umount2(request["target"].encode(), 2) < 0:
                raise OSError(ctypes.get_errno(), "umount " + request["target"])
            return None
        if kind == "ended":
            return self.ended.get(request["pid"])
        raise ValueError(kind)

    def send(self, reply):
        self.sock.sendall(json.dumps(reply).encode() + b"\n")

    def serve(self, line):
        request = json.loads(line)
        if request["ask"] == "wait":
            self.waiters.append((request["pid"], time.monotonic() + request["seconds"]))
            return
        try:
            reply = {"ok": self.answer(request)}
        except Exception as e:
            reply = {"error": repr(e)}
        self.send(reply)

    def answer_waiters(self):
        left = []
        for pid, deadline in self.waiters:
            if pid in self.ended or time.monotonic() >= deadline:
                self.send({"ok": self.ended.get(pid)})
            else:
                left.append((pid, deadline))
        self.waiters = left

    def run(self):
        while True:
            self.reap()
            self.start_due()
            self.answer_waiters()
            times = [u["due"] for u in self.units.values() if u["due"] is not None] + [deadline for _, deadline in self.waiters]
            timeout = max(0, min(times) - time.monotonic()) if times else None
            readable, _, _ = select.select([self.sock, self.wake], [], [], timeout)
            if self.sock in readable:
                data = self.sock.recv(65536)
                if not data:
                    return
                self.buffer += data
                while b"\n" in self.buffer:
                    line, self.buffer = self.buffer.split(b"\n", 1)
                    self.serve(line)


def main():
    assert os.getpid() == 1, "only for process 1 of a pid namespace"
    sock = socket.socket(fileno=int(sys.argv[1]))
    os.umask(0o022)
    init = Init(sock)
    try:
        make_world(json.loads(sys.argv[2]), sys.argv[3])
        loopback_up()
        init.send({"ok": os.readlink("/proc/self/ns/pid")})
    except Exception as e:
        init.send({"error": repr(e)})
        return
    init.run()


main()
