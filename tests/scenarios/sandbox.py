# SPDX-License-Identifier: Apache-2.0
"""A sandbox: fresh pid and mount namespaces with a process 1 of our own (init.py), in which k3s nodes are played.

Inside, /usr/local /opt /etc /var /run /srv /mnt /tmp are empty file systems, everything else is the host's and read-only. What is inside is
looked at from outside through /proc/PID/root, so no helper has to run there. No process outside is ever signalled.
"""
import json
import os
import socket
import stat
import subprocess
import time

HERE = os.path.dirname(os.path.abspath(__file__))
PROGRAMS = "/mnt/programs"  # where the programs under test are seen inside
LIBRARY = "/mnt/library"


PATIENCE = 6.0  # machines are busy; test_controls.py has less


def until(what, seconds=10, why="something that did not happen", every=0.01):
    """Calls what() until it gives something true, and returns that."""
    seconds *= PATIENCE
    end = time.monotonic() + seconds
    while True:
        got = what()
        if got:
            return got
        assert time.monotonic() < end, "waited %g s in vain for %s" % (seconds, why)
        time.sleep(every)


class Done:
    """A program that was run to its end."""

    def __init__(self, status, out, err, seconds):
        self.status, self.out, self.err, self.seconds = status, out, err, seconds


class Sandbox:
    def __init__(self, programs, library, binds=None, usr="", cgroups=None):
        """usr: a directory whose files are laid over those of /usr. cgroups: it lives in these, and they are the root groups that it sees."""
        ours, theirs = socket.socketpair()
        binds = dict(binds or {}, **{PROGRAMS: programs, LIBRARY: library})
        self.sock, self.buffer, self.outputs = ours, b"", 0
        # Its own time is cut short by init's parent-death signal, and by the closed socket.
        self.unshare = subprocess.Popen(
            (["sh", "-c", 'for c in %s; do echo 0 >$c/cgroup.procs; done; exec "$@"' % " ".join(cgroups), "sh"] if cgroups else []) +
            ["unshare", "-pfmn" + ("C" if cgroups else ""), "--mount-proc", "--kill-child", "/usr/bin/python3", "-I", os.path.join(HERE, "init.py"),
             str(theirs.fileno()), json.dumps(binds), usr],
            pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
        theirs.close()
        try:
            self.pid_ns = self.reply(60)
            with open("/proc/%d/task/%d/children" % (self.unshare.pid, self.unshare.pid)) as f:
                self.init = int(f.read().split()[0])
        except BaseException:
            self.close()
            raise

    def close(self):
        self.sock.close()
        self.unshare.kill()
        self.unshare.wait()

    # ---- asking process 1 ----

    def reply(self, seconds):
        self.sock.settimeout(seconds)
        while b"\n" not in self.buffer:
            data = self.sock.recv(65536)
            assert data, "the sandbox's process 1 has ended"
            self.buffer += data
        line, self.buffer = self.buffer.split(b"\n", 1)
        got = json.loads(line)
        assert "error" not in got, got.get("error")
        return got["ok"]

    def ask(self, what, answer_within=60, **more):
        self.sock.sendall(json.dumps(dict(more, ask=what)).encode() + b"\n")
        return self.reply(answer_within)

    def spec(self, argv, **more):
        self.outputs += 1
        env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/mnt", "LANG": "C.UTF-8"}
        env.update(more.pop("env", {}))
        return dict({"argv": argv, "env": env, "out": "/mnt/out/%d.out" % self.outputs, "err": "/mnt/out/%d.err" % self.outputs}, **more)

    def spawn(self, argv, **more):
        """Starts a program. Returns its specification, with its pid in the sandbox."""
        spec = self.spec(argv, **more)
        spec["pid"] = self.ask("spawn", **spec)
        spec["began"] = time.monotonic()
        return spec

    def wait(self, spec, seconds=150):
        status = self.ask("wait", answer_within=seconds + 60, pid=spec["pid"], seconds=seconds)
        assert status is not None, "%s has not ended within %g s" % (spec["argv"], seconds)
        return Done(status, self.read(spec["out"]).decode(), self.read(spec["err"]).decode(), time.monotonic() - spec["began"])

    def run(self, argv, seconds=150, **more):
        return self.wait(self.spawn(argv, **more), seconds)

    def kill(self, pid, signo=15):
        assert pid > 1
        self.ask("kill", pid=pid, signo=int(signo))

    # ---- its files ----

    def path(self, inside):
        assert inside.startswith("/"), inside
        return "/proc/%d/root%s" % (self.init, inside)

    def read(self, inside):
        with open(self.path(inside), "rb") as f:
            return f.read()

    def write(self, inside, content, mode=0o644):
        if isinstance(content, str):
            content = content.encode()
        fd = os.open(self.path(inside), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(fd, "wb") as f:
            f.write(content)
        os.chmod(self.path(inside), mode)

    def copy(self, host, inside, mode=0o755):
        with open(host, "rb") as f:
            self.write(inside, f.read(), mode)

    def makedirs(self, inside, mode=0o755):
        """Makes the directory, and gives it this mode."""
        at = ""
        for part in inside.strip("/").split("/"):
            at += "/" + part
            if not os.path.isdir(self.path(at)):
                try:
                    os.mkdir(self.path(at), 0o755)
                except FileExistsError:
                    pass  # a k3s that starts there was faster
        os.chmod(self.path(inside), mode)

    def symlink(self, text, inside):
        os.symlink(text, self.path(inside))

    def exists(self, inside):
        return os.path.lexists(self.path(inside))

    def listdir(self, inside):
        return sorted(os.listdir(self.path(inside)))

    def snapshot(self, tops, without=()):
        """All that can be told about everything below some directories. The times of directories count, those of reading do not."""
        seen = {}
        for top in [t for t in tops if t not in without]:
            for where, dirs, files in os.walk(self.path(top)):
                inside = where[len(self.path("/")) - 1:]
                dirs[:] = [d for d in dirs if os.path.join(inside, d) not in without]
                for name in ["."] + files + [d for d in dirs if os.path.islink(os.path.join(where, d))]:
                    if os.path.normpath(os.path.join(inside, name)) not in without:
                        seen[os.path.normpath(os.path.join(inside, name))] = self.describe(os.path.join(inside, name))
        return seen

    def describe(self, inside):
        path = self.path(inside)
        st = os.lstat(path)
        told = {"mode": oct(st.st_mode), "owner": (st.st_uid, st.st_gid), "mtime": st.st_mtime_ns, "inode": st.st_ino, "links": st.st_nlink,
                "xattrs": {n: os.getxattr(path, n, follow_symlinks=False) for n in os.listxattr(path, follow_symlinks=False)}}
        if stat.S_ISREG(st.st_mode):
            with open(path, "rb") as f:
                content = f.read()
            told.update(size=len(content), content=hash(content))
        elif stat.S_ISLNK(st.st_mode):
            told["link"] = os.readlink(path)
        return told

    # ---- its processes ----

    def process(self, pid, proc="/proc"):
        """What a process looks like, or None if it is gone."""
        d = self.path("%s/%d/" % (proc, pid))
        try:
            with open(d + "stat", "rb") as f:
                fields = f.read().rsplit(b")", 1)[1].split()
            with open(d + "comm") as f:
                comm = f.read().strip()
            with open(d + "cmdline", "rb") as f:
                cmdline = f.read()
            return {"pid": pid, "comm": comm, "cmdline": cmdline, "state": fields[0].decode(), "ppid": int(fields[1]),
                    "start_time": int(fields[19]), "exe": os.readlink(d + "exe")}
        except OSError:
            return None

    def processes(self):
        found = [self.process(int(n)) for n in os.listdir(self.path("/proc")) if n.isdigit() and n != "1"]
        return [p for p in found if p]


def difference(before, after):
    """What differs between two snapshots, for people."""
    lines = ["gone: " + p for p in before if p not in after] + ["new: " + p for p in after if p not in before]
    for p in before:
        for key in before[p]:
            if p in after and before[p][key] != after[p].get(key):
                lines.append("%s: %s was %s, is %s" % (p, key, before[p][key], after[p].get(key)))
    return lines
