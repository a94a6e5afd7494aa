# SPDX-License-Identifier: Apache-2.0
"""Whose process and whose file: services, other commands of k3s, what is not taken care of, and containers that are nodes."""
import os

import pytest

from node import BACKUP, K3S, PROGRAMS, Answer, asset_hash, content_of
from sandbox import difference, until

NOBODY = 65534
MS_BIND = 4096


def service(node, name, target, role="server"):
    node.sb.makedirs("/etc/systemd/system")
    node.sb.write("/etc/systemd/system/%s.service" % name, "[Service]\nType=notify\nKillMode=process\nRestart=always\nExecStart=%s \\\n    %s \\\n" % (target, role))


def put_into_group(node, pid, group):
    """What the process's control group is, without any."""
    path = "/mnt/group-%d" % pid
    node.sb.write(path, group)
    node.sb.ask("mount", source=path, target="/proc/%d/cgroup" % pid, flags=MS_BIND)


def unpacked(node, sleeper, top, letter, *names):
    """A directory as a wrapper makes it, with programs that do nothing."""
    bin_ = "%s/data/%s/bin" % (top, letter * 64)
    node.sb.makedirs(bin_)
    node.sb.copy(sleeper, bin_ + "/k3s")
    for name in names:
        node.sb.symlink("k3s", bin_ + "/" + name)
    return bin_


def test_A14_short_lived_commands(make, old, new, sleeper):
    """`k3s etcd-snapshot save --server https://x:6443` and its like run as root from k3s's own directory; each made two hits.

    k3sup-upgrade FILE: 0 beside the real one. Alone: 4, K3SUP_E_NO_K3S.
    """
    node = make()
    node.install(old)
    process = node.start()
    bin_ = unpacked(node, sleeper, "/var/lib/rancher/k3s", "b", "k3s-etcd-snapshot", "k3s-token", "k3s-certificate", "k3s-secrets-encrypt")
    commands = [node.sb.spawn(["/usr/local/bin/k3s"] + args, exe=bin_ + "/" + exe) for exe, args in (
        ("k3s-etcd-snapshot", ["etcd-snapshot", "save", "--server", "https://x:6443"]), ("k3s-token", ["token", "list", "--server", "https://x:6443"]),
        ("k3s-certificate", ["certificate", "rotate-ca", "--server", "https://x:6443"]), ("k3s-secrets-encrypt", ["secrets-encrypt", "status", "--server", "x"]),
        ("k3s", ["kubectl", "logs", "agent"]))]

    node.assert_upgraded(node.upgrade(node.payload(new)), old, new, process)

    node.unit(active=False)
    node.sb.kill(node.running()[0][0]["pid"])
    until(lambda: not node.running(), 5, "k3s to end")
    answer = node.upgrade(node.payload(old), "--allow-downgrade")
    assert (answer.exit, answer.error) == (4, "K3SUP_E_NO_K3S"), answer
    for c in commands:
        assert node.sb.process(c["pid"]), "%s was ended" % c["argv"]


def test_A15_a_file_of_another_name(make, old, new):
    """`/usr/local/bin/k3s-armhf server`: the file is called as it was downloaded. Its unit says where it is; nobody guesses.

    k3sup-upgrade FILE: 0 with the unit. Without one: 3, K3SUP_E_TARGET_MISSING, nothing changed; with --k3s: 0.
    """
    path = "/usr/local/bin/k3s-armhf"
    node = make()
    node.install(old, path)
    node.start(path=path, up=False)
    process = until(node.running, 15, "k3s")[0][0]
    node.payload(new)
    before = node.snapshot()
    answer = node.upgrade("/opt/payload/k3s")
    assert (answer.exit, answer.error) == (3, "K3SUP_E_TARGET_MISSING"), answer
    node.assert_nothing_changed(before, lock=True)

    service(node, "k3s", path)
    now = node.assert_upgraded(node.upgrade("/opt/payload/k3s"), old, new, process, path=path)

    os.unlink(node.sb.path("/etc/systemd/system/k3s.service"))
    answer = node.upgrade("--k3s", path, "--allow-downgrade", node.payload(old))
    assert answer.exit == 0 and answer["changed"] is True, answer
    node.assert_runs(old, but=now)


def users_k3s(node, sleeper):
    """As k3s-rootless.service has it: the user's systemd, the parent, and a child in a user and pid namespace of its own."""
    node.sb.makedirs("/tmp/home")
    bin_ = unpacked(node, sleeper, "/tmp/home/.rancher/k3s", "c", "k3s-server")
    node.sb.copy(sleeper, "/tmp/home/systemd")
    for where, dirs, files in os.walk(node.sb.path("/tmp/home")):
        for name in dirs + files + ["."]:
            os.lchown(os.path.join(where, name), NOBODY, NOBODY)
    manager = node.sb.spawn(["/usr/lib/systemd/systemd", "--user"], exe="/tmp/home/systemd", uid=NOBODY)
    parent = node.sb.spawn(["k3s", "server", "--rootless"], exe=bin_ + "/k3s-server", uid=NOBODY)
    child = node.sb.spawn(["unshare", "-Upf", bin_ + "/k3s-server", "server"], uid=NOBODY)
    until(lambda: (node.sb.process(parent["pid"]) or {"comm": ""})["comm"] == "k3s-server", 10, "the parent")
    put_into_group(node, parent["pid"], "0::/user.slice/user-65534.slice/user@65534.service/app.slice/k3s-rootless.service\n")
    return [manager, parent, child]


def test_A18_rootless(make, old, new, sleeper):
    """A user's own k3s is the only one. k3sup-upgrade FILE: 4, K3SUP_E_ROOTLESS, it says so; nothing of the user's is ended. Beside a real one it does not matter: 0."""
    node = make()
    node.install(old)
    mine = users_k3s(node, sleeper)
    before = node.snapshot("/opt", "/tmp")
    answer = node.upgrade(node.payload(new))
    assert (answer.exit, answer.error) == (4, "K3SUP_E_ROOTLESS") and "rootless" in answer.message, answer
    assert node.status()["state"] == "not-running"
    node.assert_nothing_changed(before, "/opt", "/tmp", lock=True)

    process = node.start()
    answer = node.upgrade("/opt/payload/k3s")
    assert answer.exit == 0 and answer["state"] == "current" and len(answer["processes"]) == 1, answer
    assert node.main_process()["pid"] == answer["running"]["pid"] != process["pid"] and node.content() == content_of(new)
    for spec in mine:
        assert node.sb.ask("ended", pid=spec["pid"]) is None, "%s was ended" % spec["argv"]


def test_rke2(make, old, new, sleeper):
    """The node runs rke2. k3sup-upgrade FILE: 4, K3SUP_E_RKE2; it is not touched. A user's program of that name: 4, K3SUP_E_NO_K3S."""
    node = make()
    node.install(old)
    payload = node.payload(new)
    node.sb.copy(sleeper, "/tmp/rke2")
    node.sb.spawn(["rke2 server"], exe="/tmp/rke2", uid=NOBODY)
    assert node.upgrade(payload).error == "K3SUP_E_NO_K3S"
    node.sb.copy(sleeper, "/usr/local/bin/rke2")
    process = node.sb.spawn(["/usr/local/bin/rke2 server"], exe="/usr/local/bin/rke2")
    until(lambda: (node.sb.process(process["pid"]) or {"comm": ""})["comm"] == "rke2", 10, "rke2")
    answer = node.upgrade(payload)
    assert (answer.exit, answer.error) == (4, "K3SUP_E_RKE2"), answer
    assert node.sb.process(process["pid"]) and node.content() == content_of(old)


@pytest.mark.parametrize("by", ["systemd", "nobody"])
def test_A07_private_mounts(make, old, new, by):
    """PrivateTmp=yes: the genuine k3s has a mount namespace of its own, as a container has. Its unit tells it from one.

    k3sup-upgrade FILE: 0 if it is a service of the node. If nobody vouches for it: 4, K3SUP_E_NO_K3S, and it lives.
    """
    node = make()
    node.install(old)
    spec = node.k3s_spec()
    spec["argv"] = ["unshare", "-m", "--propagation", "private"] + spec["argv"]
    node.sb.ask("supervise", name="k3s", spec=spec, delay=0.3)
    process = until(node.main_process, 15, "k3s")
    assert os.stat(node.sb.path("/proc/%d/ns/mnt" % process["pid"])).st_ino != os.stat(node.sb.path("/proc/1/ns/mnt")).st_ino
    if by == "nobody":
        put_into_group(node, process["pid"], "0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-1.scope\n")
        answer = node.upgrade(node.payload(new))
        assert (answer.exit, answer.error) == (4, "K3SUP_E_NO_K3S"), answer
        assert any("another mount namespace" in p["reason"] for p in answer["passed_over"]), answer
        assert node.main_process()["pid"] == process["pid"]
        return
    service(node, "k3s", K3S)
    put_into_group(node, process["pid"], "0::/system.slice/k3s.service\n")
    seen = node.status()
    assert seen["state"] == "current" and seen["running"]["pid"] == process["pid"], seen
    assert (seen["running"]["manager"], seen["running"]["unit"], seen["running"]["target"]) == ("systemd", "k3s.service", K3S), seen
    answer = node.upgrade("--restart", "none", node.payload(new))
    assert answer.exit == 0 and answer["changed"] is True and answer["state"] == "restart-pending", answer
    assert node.content() == content_of(new)


def test_A07_a_pod_without_the_hosts_processes(make, old, new):
    """A pod that has the host's files at /host, but not its pid namespace, sees no k3s: that is no evidence of there being none. hostPID forgotten.

    k3sup-upgrade FILE, with and without --rotate-certs, k3sup-certs rotate, k3sup-status: K3SUP_E_FOREIGN_PROC, nothing changed, k3s and its certificates live.
    k3sup-certs check: tells all but whether k3s runs, with a warning. With hostPID the same upgrade is done.
    """
    node = make("pod")
    node.install(old)
    process = node.start()
    payload = node.payload(new)
    data_dir = "/var/lib/rancher/k3s"
    until(lambda: node.sb.exists(data_dir + "/server/tls/dynamic-cert.json"), why="its certificates")
    before, certificates = node.snapshot("/run"), node.sb.snapshot([data_dir + "/server/tls", data_dir + "/agent"], [])
    node.host_pid = False
    for tool, *args in (("k3sup-upgrade", payload), ("k3sup-upgrade", payload, "--restart", "none"), ("k3sup-upgrade", payload, "--rotate-certs"),
                        ("k3sup-upgrade", payload, "--rotate-certs", "--data-dir", data_dir), ("k3sup-certs", "rotate", "--rotate-key", "k"),
                        ("k3sup-certs", "rotate", "--rotate-key", "k", "--data-dir", data_dir), ("k3sup-status",)):
        answer = node.finish(node.begin(tool, *args, "--json"))
        assert answer.exit != 0 and answer.error == "K3SUP_E_FOREIGN_PROC" and "hostPID" in answer.message, (tool, args, answer)
        node.assert_nothing_changed(before, "/run", lock=True) # mount(8), which makes the pod, writes there
        assert node.main_process()["pid"] == process["pid"]
    answer = node.finish(node.begin("k3sup-certs", "check", "--json"))
    assert answer.exit == 0 and any("processes of this node" in w for w in answer["warnings"]), answer
    lines = difference(certificates, node.sb.snapshot([data_dir + "/server/tls", data_dir + "/agent"], []))
    assert not [line for line in lines if "/tls" in line or line.split(":")[0].endswith((".crt", ".key"))], lines
    node.host_pid = True
    node.assert_upgraded(node.upgrade(payload), old, new, process)


def test_A09_two_servers_are_listed_with_their_units(make, old, new):
    """Two servers, each a service: k3sup-upgrade FILE: 4, K3SUP_E_AMBIGUOUS; evidence.candidates names pid, unit, role and build of both; nothing changed."""
    node = make()
    node.install(old)
    pids = {}
    for name, data in (("k3s", "/var/lib/rancher/k3s"), ("k3s-west", "/var/lib/rancher/west")):
        ports = {} if name == "k3s" else {"K3S_STANDIN_PORT": "7443", "K3S_STANDIN_KUBELET_PORT": "0"}
        pids[node.start("server", "--data-dir", data, name=name, env=ports)["pid"]] = name + ".service"
        service(node, name, K3S)
    for pid, unit in pids.items():
        put_into_group(node, pid, "1:name=systemd:/system.slice/%s\n0::/system.slice/%s\n" % (unit, unit))
    node.payload(new)
    before = node.snapshot()
    answer = node.upgrade("/opt/payload/k3s")
    assert (answer.exit, answer.error) == (4, "K3SUP_E_AMBIGUOUS"), answer
    listed = answer["error"]["evidence"]["candidates"]
    assert {c["pid"]: c["unit"] for c in listed} == pids, listed
    assert all(c["role"] == "server" and c["asset_hash"] == asset_hash(old) for c in listed), listed
    node.assert_nothing_changed(before, lock=True)


def test_A19_a_container_declared_as_the_node(make, old, new):
    """k3d: k3s is process 1 and its end the container's. Declared with --node-is-container it is upgraded: the file is replaced and process 1 ends, and with it the program."""
    node = make()
    node.install(old)
    node.payload(new)
    node.sb.spawn(["unshare", "-pfm", "--mount-proc", "--kill-child", K3S, "server", "--write-kubeconfig", "/var/log/k3s.yaml"])
    first = until(lambda: [p for p in node.sb.processes() if "/data/" in p["exe"] and p["cmdline"].rstrip(b"\0").endswith(b"init")], 15, "k3s")[0]
    child = until(lambda: [p for p in node.sb.processes() if p["ppid"] == first["pid"] and p["cmdline"].rstrip(b"\0").endswith(b"server")], 15, "its child")[0]
    done = node.sb.run(["nsenter", "-t", str(first["pid"]), "-p", "-m", PROGRAMS + "/k3sup-upgrade", "--json", "--node-is-container", "/opt/payload/k3s"],
                       env={"LD_LIBRARY_PATH": "/mnt/library"}, seconds=60)
    assert done.status != 0 and done.out == "", "it outlived its container: %s" % done.out
    until(lambda: not node.sb.process(first["pid"]) and not node.sb.process(child["pid"]), 10, "the container to end")
    assert node.content() == content_of(new) and node.content(BACKUP) == content_of(old)
    # Started again by whoever runs containers, one more run proves it.
    node.sb.spawn(["unshare", "-pfm", "--mount-proc", "--kill-child", K3S, "server", "--write-kubeconfig", "/var/log/k3s.yaml"])
    first = until(lambda: [p for p in node.sb.processes() if asset_hash(new) in p["exe"] and p["cmdline"].rstrip(b"\0").endswith(b"init")], 15, "k3s")[0]
    done = node.sb.run(["nsenter", "-t", str(first["pid"]), "-p", "-m", PROGRAMS + "/k3sup-upgrade", "--json", "--node-is-container", "--stable", "0.3",
                        "/opt/payload/k3s"], env={"LD_LIBRARY_PATH": "/mnt/library"}, seconds=60)
    answer = Answer(done)
    assert answer.exit == 0 and answer["state"] == "current" and answer["resumed"] is True, answer


def test_G05_the_copy_that_the_unit_starts(make, old, new, other):
    """The binary is in /opt/bin, and a stale copy in /usr/local/bin, earlier in PATH.

    k3sup-upgrade FILE: 0; the copy that the unit starts is replaced, running or not; the stale one is left alone and warned of.
    """
    node = make()
    node.install(old, "/opt/bin/k3s")
    node.install(other)
    service(node, "k3s", "/opt/bin/k3s")
    stale = node.sb.describe(K3S)
    process = node.start(path="/opt/bin/k3s")
    answer = node.upgrade(node.payload(new))
    node.assert_upgraded(answer, old, new, process, path="/opt/bin/k3s")
    assert any(K3S in w and "no service" in w for w in answer["warnings"]), answer
    node.unit(active=False)
    node.sb.kill(node.running()[0][0]["pid"])
    until(lambda: not node.running(), 5, "k3s to end")
    answer = node.upgrade("--restart", "none", "--allow-downgrade", node.payload(old))
    assert answer.exit == 0 and node.content("/opt/bin/k3s") == content_of(old), answer
    assert node.sb.describe(K3S) == stale, "the stale copy was touched"


def test_units_that_others_can_write_say_nothing(make, old, new, other):
    """A unit file that anybody can write names another file. k3sup-upgrade FILE: 0, as if there were no unit; that file is not touched."""
    node = make()
    node.install(old)
    node.install(other, "/srv/evil/k3s")
    service(node, "k3s", "/srv/evil/k3s")
    os.chmod(node.sb.path("/etc/systemd/system/k3s.service"), 0o666)
    process = node.start()
    before = node.sb.describe("/srv/evil/k3s")
    node.assert_upgraded(node.upgrade(node.payload(new)), old, new, process)
    assert node.sb.describe("/srv/evil/k3s") == before
