# SPDX-License-Identifier: Apache-2.0
"""What test_binding_upgrade.py does inside a sandbox: a node with a stand-in k3s and a supervisor, upgraded through the binding.

Call: inside.py SCENARIO ROOT OLD NEW, as pid 1 of a fresh pid, mount and network namespace with its own /proc. All processes seen and signalled
are of this namespace.
"""
import asyncio
import os
import shutil
import subprocess
import sys
import threading
import time

import k3sup
from k3sup import Code

EXAMPLE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "examples", "upgrade.py")


class Host:
    """ROOT/usr/local/bin/k3s, kept running as a service manager would: started again 0.3 s after each end."""

    def __init__(self, root, binary):
        self.root, self.k3s = root, root + "/usr/local/bin/k3s"
        for path in "/usr/local/bin", "/var/lib/rancher/k3s", "/etc", "/tmp":
            os.makedirs(root + path)
        shutil.copy(binary, self.k3s)
        os.chmod(self.k3s, 0o755)
        with open(root + "/etc/standin.conf", "w") as f:
            f.write("rsa=0\n")
        self.starts = 0
        threading.Thread(target=self.supervise, daemon=True).start()

    def supervise(self):
        env = {"PATH": "/usr/bin:/bin", "K3S_STANDIN_CONF": self.root + "/etc/standin.conf",
               "K3S_CONFIG_FILE": self.root + "/etc/none.yaml"}
        args = [self.k3s, "server", "--data-dir", self.root + "/var/lib/rancher/k3s", "--write-kubeconfig", self.root + "/etc/k3s.yaml"]
        while True:
            with open(self.root + "/tmp/k3s.log", "ab") as log:
                self.starts += 1
                subprocess.run(args, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            time.sleep(0.3)


def sha256(path):
    return subprocess.check_output(["sha256sum", path]).decode().split()[0]


def running(node, hash=None, stable=0.0, previous=None):
    """The one process that is the node's k3s."""
    op = node.wait_running(timeout=20, stable=stable, asset_hash=hash, previous=previous)
    op.wait()
    process, = op.processes
    return process


def upgrade(host, old, new):
    with k3sup.Context() as ctx, ctx.node(root=host.root) as node:
        wanted = ctx.build_read(new).wait()
        first = running(node)
        before = node.state(new, sha256=sha256(new)).wait()
        assert before["/authenticated"] == "digest"
        assert before["/state"] == "outdated" and before["/running/version"] == "v1.30.4+k3s1", before

        told = []
        image = os.path.join(host.root, "tmp", "some.tar.gz")
        with open(image, "w") as f:
            f.write("images")
        op = node.upgrade(new, stable=1.5, timeout=60, images=[image])
        op.set_progress(told.append)
        result = op.wait()
        assert op.status == 1 and result["/ok"] is True and result["/changed"] is True
        assert result["/state"] == "current"
        assert result["/running/version"] == "v1.31.2+k3s1" == wanted["/version"]
        assert result["/running/asset_hash"] == wanted["/asset_hash"] == result["/installed/asset_hash"]
        assert result["/wanted/sha256"] == wanted["/sha256"] == sha256(host.k3s)
        assert result["/backup/sha256"] == sha256(old) == sha256(host.root + result["/backup/path"])
        assert result["/images/0/action"] == "create" and os.path.exists(host.root + result["/images/0/path"])
        assert result["/running/pid"] != first.pid
        assert 250 <= result["/downtime_ms"] < 10000, "the supervisor's pause is 300 ms"
        assert host.starts == 2

        percents = [p.percent for p in told]
        assert percents == sorted(percents) and percents[0] < 10 and percents[-1] > 50, percents
        steps = list(dict.fromkeys(p.step for p in told))
        plan = ["lock", "images", "stage", "swap", "restart", "prove"]
        assert [s for s in steps if s in plan] == plan, steps
        assert told[0].downtime is None and told[-1].downtime >= 0.25
        assert {s["name"] for s in result["/steps"]} >= {"stage", "swap", "restart", "prove"}

        assert result["/unpacked/action"] == "skip", "its k3s is not chrooted there"
        again = node.upgrade(new, stable=1.5, timeout=60)
        same = again.wait()
        assert again.status == 0 and same["/changed"] is False and same["/running/pid"] == result["/running/pid"] and host.starts == 2

        image = os.path.join(host.root, "tmp", "k3s-airgap-images.tar.zst")
        with open(image, "w") as f:
            f.write("images")
        staged = node.stage(image, sha256=sha256(image), commit=True)
        told = staged.wait()
        assert staged.status == 1 and told["/images/0/action"] == "create" and told["/authenticated"] == "digest", told
        assert sha256(host.root + "/var/lib/rancher/k3s/agent/images/k3s-airgap-images.tar.zst") == sha256(image)
        with open(image, "w") as f:
            f.write("others")
        assert node.stage([image]).wait()["/images/0/kept"] is True
        assert node.stage(restore=True).wait()["/images/0/action"] == "restore"
        assert node.stage([image]).wait()["/images/0/action"] == "replace"
        unpacked = node.unpack()
        assert unpacked.wait()["/unpacked/action"] == "none" and unpacked.status == 0
        with open(old, "rb") as f:
            assert node.unpack(f, sha256=sha256(old)).wait()["/unpacked/checked"] is True
        print("changed, then already so")


def cancel(host, old, new):
    with k3sup.Context() as ctx, ctx.node(root=host.root) as node:
        first = running(node)

        # Before the point of no return: nothing has happened.
        op = node.upgrade(new, stable=1.5)
        op.set_progress(lambda p: op.cancel() if p.step == "stage" else None)
        try:
            op.wait()
            raise AssertionError("cancelled and went on")
        except k3sup.K3supError as e:
            assert e.code == Code.CANCELLED, e
        assert sha256(host.k3s) == sha256(old) and os.listdir(os.path.dirname(host.k3s)) == ["k3s"]
        assert running(node).pid == first.pid and op.result["/changed"] is False

        # After it: the wait gives up, a cancel is ignored, the operation reaches its goal.
        op = node.upgrade(new, stable=3.0, timeout=60)
        restarting = []
        op.set_progress(lambda p: restarting.append(p) if p.step == "restart" else None)
        while not restarting:
            try:
                op.wait(0.05)
                raise AssertionError("ended without a restart")
            except TimeoutError:
                pass
        op.cancel()
        try:
            op.wait(0.5)
            raise AssertionError("was cancelled past its point of no return")
        except TimeoutError:
            assert op.running
        result = op.wait(60)
        assert result["/changed"] is True and result["/running/version"] == "v1.31.2+k3s1" and host.starts == 2
        print("cancelled, then not")


def certificates(host, old, new):
    """Lists, texts and times arrive as they were given."""
    with k3sup.Context() as ctx, ctx.node(root=host.root) as node:
        running(node, stable=1)
        result = node.certs_check(services=["admin", "k3s-server"], kubeconfigs=["/etc/none", b"/etc/none2"], at=86400, warn_days=7).wait()
        assert {row.get("service") for row in result["/certificates"] if row["kind"] != "ca"} <= {"admin", "k3s-server"}
        assert result["/reference_time"] == "1970-01-02T00:00:00Z" and result["/warn_days"] == 7
        paths = {p["path"] for p in result["/problems"]}
        assert {"/etc/none", "/etc/none2", "server/tls/client-admin.crt"} <= paths, paths
        assert node.certs_check(k3s_version="v1.20.0+k3s1").wait()["/warn_days"] == 90
        served = node.certs_check(wire=True).wait()["/served"]
        assert [s["matches"] for s in served if s["service"] == "k3s-server"] == [True], served
        print("checked")


def processes(host, old, new):
    with k3sup.Context(inline=True) as ctx, ctx.node(root=host.root) as node:
        first = running(node)
        found = node.identify()
        assert found.wait()["/candidates/0/pid"] == first.pid
        process, = found.processes
        for key in "/boot_id", "/start_time", "/pid_ns":
            assert process.info[key] == first.info[key]
        assert os.readlink("/proc/self/fd/%d" % process.fileno()) == "anon_inode:[pidfd]"
        exit = node.wait_exit(process)
        try:
            exit.wait(0.2)
            raise AssertionError("has not ended yet")
        except TimeoutError:
            pass
        late = node.wait_exit(process, timeout=0.1)
        try:
            late.wait()
            raise AssertionError("has not ended yet")
        except k3sup.K3supError as e:
            assert e.code == Code.TIMEOUT
        sent = node.signal(process)
        assert sent.wait()["/changed"] is True and sent.status == 1
        exit.wait()
        assert exit.status == 1
        gone = node.signal(process)
        gone.wait()
        assert gone.status == 0
        second = running(node, previous=process, stable=0.5)
        assert second.pid != process.pid and host.starts == 2
        outlives = process.info
        process.close()
        assert outlives.integer("/pid") == first.pid
        try:
            process.fileno()
            raise AssertionError("is closed")
        except ValueError:
            pass
        print("signalled and started again")


def aio(host, old, new):
    async def main(ctx, node):
        first = running(node)
        told = []
        op = node.upgrade(new, stable=1.0, timeout=60)
        op.set_progress(told.append)
        exit = node.wait_exit(first)
        started = asyncio.ensure_future(node.wait_running(stable=0.5, previous=first).async_wait())
        results = await asyncio.gather(op, exit, ctx.build_read(new))
        assert results[0]["/running/version"] == results[2]["/version"] == "v1.31.2+k3s1"
        assert told[-1].step == "prove" and told[-1].percent > 50
        assert (await started)["/running/0/pid"] == results[0]["/running/pid"]
        endless = node.wait_exit(running(node))
        task = asyncio.ensure_future(endless.async_wait())
        await asyncio.sleep(0.1)
        task.cancel()
        try:
            await task
            raise AssertionError("was cancelled")
        except asyncio.CancelledError:
            assert endless.status == Code.CANCELLED
    with k3sup.Context() as ctx, ctx.node(root=host.root) as node:
        asyncio.run(main(ctx, node))
        print("awaited")


def example(host, old, new):
    command = [sys.executable, EXAMPLE, "--root", host.root, "--stable", "1", new]
    with k3sup.Context() as ctx, ctx.node(root=host.root) as node:
        running(node)
    first = subprocess.run(command, stdout=subprocess.PIPE, timeout=60)
    lines = first.stdout.decode().splitlines()
    assert first.returncode == 0 and lines[-1].startswith("upgraded: k3s is v1.31.2+k3s1, process "), lines
    assert any("stage" in line for line in lines) and any("down for" in line for line in lines), lines
    second = subprocess.run(command, stdout=subprocess.PIPE, timeout=60)
    assert second.returncode == 0 and second.stdout.decode().splitlines()[-1] == lines[-1].replace("upgraded", "already so")
    wrong = subprocess.run(command[:-1] + [host.root + "/nothing"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
    assert wrong.returncode == 1 and b"K3SUP_E_PAYLOAD_MISSING" in wrong.stderr
    print("shown")


if __name__ == "__main__":
    assert os.getpid() == 1, "only in a pid namespace of its own"
    scenario, root, old, new = sys.argv[1:]
    os.umask(0o022)
    subprocess.check_call(["/sbin/ip", "link", "set", "lo", "up"])
    globals()[scenario](Host(root, old), old, new)
    sys.stdout.flush()
    os._exit(0)  # the supervisor never ends; with pid 1 the namespace goes
