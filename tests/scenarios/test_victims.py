# SPDX-License-Identifier: Apache-2.0
"""Which process is this node's k3s: never one that an unprivileged user or a container could have put there, and never a refusal because of one."""
import os
import signal

import pytest

from node import BACKUP, DATA_EXE, K3S, PROGRAMS, Answer, asset_hash, content_of
from sandbox import until

NOBODY = 65534
# A container: a root of its own, and a pid namespace of its own unless it was made with the host's.
CONTAINER = r"""set -e
mount --bind /srv/container /srv/container
cd /srv/container
mount -t proc proc proc
pivot_root . old
exec /usr/local/bin/k3s "$@"
"""


def container(node, binary, *unshare):
    """Starts a k3s in a container inside the sandbox. Returns its process as the sandbox sees it."""
    sb = node.sb
    for made in ("usr/local/bin", "var/lib/rancher", "etc/rancher/k3s", "proc", "dev", "old", "tmp"):
        sb.makedirs("/srv/container/" + made)
    sb.copy(binary, "/srv/container/usr/local/bin/k3s")
    sb.write("/srv/container/dev/null", "")
    sb.write("/srv/container/etc/rancher/k3s/standin.conf", b"port=0\n" + sb.read("/etc/rancher/k3s/standin.conf").replace(b"kubelet_port", b"no_port"))
    own = [p["pid"] for p in sb.processes()]
    sb.spawn(["unshare", *unshare, "sh", "-c", CONTAINER, "sh", "server"])

    def seen():
        return [p for p in sb.processes() if p["pid"] not in own and p["comm"] in ("k3s-server", "exe") and DATA_EXE.search(p["exe"]) and
                p["cmdline"].rstrip(b"\0").endswith(b"server")]
    return until(seen, 10, "the container's k3s")[0]


def alive(node, process):
    now = node.sb.process(process["pid"])
    return now is not None and now["start_time"] == process["start_time"] and now["state"] != "Z"


@pytest.mark.parametrize("unshare", [("-pfm", "--kill-child"), ("-m",)], ids=["own pid namespace", "the host's pid namespace"])
def test_A07_a_k3s_in_a_container(make, old, new, unshare):
    """rancher/rancher, k3d, k3k: another k3s runs in a container of the same node, seen from the host with the very same title.

    k3sup-upgrade FILE: 0; the host's is upgraded, the container's lives on. With the container's alone: 4, K3SUP_E_NO_K3S.
    """
    node = make()
    guest = container(node, old, *unshare)
    node.install(old)
    payload = node.payload(new)
    answer = node.upgrade(payload)
    assert (answer.exit, answer.error) == (4, "K3SUP_E_NO_K3S"), answer
    assert node.status()["state"] == "not-running"
    process = node.start()

    answer = node.upgrade(payload)

    assert answer.exit == 0 and answer["changed"] is True and answer["state"] == "current", answer
    assert alive(node, guest), "the container's k3s was ended"
    now = node.main_process()
    assert now["pid"] == answer["running"]["pid"] != process["pid"] and DATA_EXE.search(now["exe"]).group(1) == asset_hash(new)
    assert len(answer["processes"]) == 1
    assert node.content() == content_of(new) and node.content(BACKUP) == content_of(old)
    assert node.sb.read("/srv/container/usr/local/bin/k3s") == content_of(old)


def test_a_k3s_of_another_root(make, old, new):
    """Two nodes on one machine by chroot: each --root means its own k3s only.

    k3sup-upgrade --root DIR FILE: 0; the k3s that runs from / is not touched.
    """
    node = make("chroot")
    node.install(old)
    process = node.start()
    node.sb.copy(old, K3S)
    node.sb.write("/etc/rancher/k3s/standin.conf", node.sb.read(node.at("/etc/rancher/k3s/standin.conf")))
    other_ports = {"K3S_STANDIN_PORT": "7443", "K3S_STANDIN_KUBELET_PORT": "0"}
    node.sb.ask("supervise", name="host", spec=node.sb.spec([K3S, "server"], env=other_ports), delay=0.3)
    hosts = until(lambda: node.main_process("host"), 10, "the host's k3s")

    answer = node.upgrade(node.payload(new))

    assert answer.exit == 0 and answer["changed"] is True and len(answer["processes"]) == 1, answer
    assert alive(node, hosts) and not alive(node, process)
    assert node.sb.read(K3S) == content_of(old) and node.content() == content_of(new)


def impostors(node, sleeper, binary):
    """What an unprivileged user can do to look like k3s: name, title, a genuine build of its own, and the node's own unpacked program."""
    sb = node.sb
    sb.makedirs("/tmp/evil")
    sb.copy(sleeper, "/tmp/evil/k3s-server")
    sb.copy(sleeper, "/tmp/evil/k3s")
    sb.copy(binary, "/tmp/evil/real")
    sb.write("/tmp/evil/conf", "port=0\nrsa=0\n")
    for name in ("", "/k3s-server", "/k3s", "/real", "/conf"):
        os.chown(sb.path("/tmp/evil" + name), NOBODY, NOBODY)
    made = [sb.spawn(["/tmp/evil/k3s server"], exe="/tmp/evil/k3s", uid=NOBODY),
            sb.spawn(["/usr/local/bin/k3s", "server"], exe="/tmp/evil/k3s-server", uid=NOBODY),
            sb.spawn(["/tmp/evil/k3s", "server", "--data-dir", "/tmp/evil/data", "--write-kubeconfig", "/tmp/evil/data/kubeconfig"], exe="/tmp/evil/real",
                     env={"K3S_STANDIN_CONF": "/tmp/evil/conf"}, uid=NOBODY)]
    until(lambda: DATA_EXE.search((sb.process(made[2]["pid"]) or {"exe": ""})["exe"]), 10, "the impostor to unpack")
    return made


def assert_impostors_live(node, made):
    for spec in made:
        assert node.sb.ask("ended", pid=spec["pid"]) is None, "%s was ended" % spec["argv"]


def test_impostors_beside_the_real_one(make, old, new, sleeper):
    """uid 65534 runs processes titled `/tmp/evil/k3s server`, one of them a genuine k3s build.

    k3sup-upgrade FILE: 0; the real one is upgraded, the impostors live on, nothing below /tmp is touched, no ambiguity.
    """
    node = make()
    node.install(old)
    process = node.start()
    made = impostors(node, sleeper, old)
    mine = [p for p in node.running() if p[0]["pid"] == process["pid"]]
    assert len(mine) == 1
    before = node.sb.snapshot(["/tmp"], ["/tmp/evil/data"])

    answer = node.upgrade(node.payload(new))

    assert answer.exit == 0 and answer["changed"] is True and len(answer["processes"]) == 1, answer
    assert node.main_process()["pid"] == answer["running"]["pid"] and node.content() == content_of(new)
    assert_impostors_live(node, made)
    assert node.sb.snapshot(["/tmp"], ["/tmp/evil/data"]) == before


def test_impostors_alone(make, old, new, sleeper):
    """The same impostors, and the real k3s is down.

    k3sup-upgrade FILE: 4, K3SUP_E_NO_K3S; status: not-running. With the file equal to FILE: they do not count as its start.
    """
    node = make()
    node.install(old)
    made = impostors(node, sleeper, old)
    before = node.snapshot("/tmp", "/opt")
    answer = node.upgrade(node.payload(new))
    assert (answer.exit, answer.error) == (4, "K3SUP_E_NO_K3S") and answer["processes"] == [], answer
    assert node.status()["state"] == "not-running"
    answer = node.upgrade(node.payload(old), timeout="1")
    assert (answer.exit, answer.error) == (4, "K3SUP_E_NO_K3S"), answer
    node.assert_nothing_changed(before, "/tmp", "/opt", lock=True)
    assert_impostors_live(node, made)


def test_an_impostor_that_runs_the_nodes_own_file(make, old, new):
    """The unpacked program is executable by everybody: uid 65534 runs that very file with k3s's own arguments.

    k3sup-upgrade FILE: 0; one process counts. Alone: 4.
    """
    node = make()
    node.install(old)
    process = node.start()
    for d in ("", "/k3s", "/k3s/data", os.path.dirname(os.path.dirname(process["exe"]))[len("/var/lib/rancher"):]):
        os.chmod(node.sb.path("/var/lib/rancher" + d), 0o755)
    node.sb.makedirs("/tmp/evil")
    node.sb.write("/tmp/evil/conf", "port=0\nrsa=0\n")
    os.chown(node.sb.path("/tmp/evil"), NOBODY, NOBODY)
    spec = node.sb.spawn(["/usr/local/bin/k3s", "server", "--data-dir", "/tmp/evil/data", "--write-kubeconfig", "/tmp/evil/data/kubeconfig"],
                         exe=os.path.dirname(process["exe"]) + "/k3s-server", env={"K3S_STANDIN_CONF": "/tmp/evil/conf"}, uid=NOBODY)
    until(lambda: (node.sb.process(spec["pid"]) or {"comm": ""})["comm"] == "k3s-server", 5, "the impostor")

    answer = node.upgrade(node.payload(new))

    assert answer.exit == 0 and len(answer["processes"]) == 1 and answer["running"]["pid"] != spec["pid"], answer
    assert_impostors_live(node, [spec])
    node.unit(active=False)
    node.sb.kill(answer["running"]["pid"])
    until(lambda: node.sb.ask("ended", pid=answer["running"]["pid"]) is not None, 5, "k3s to end")
    assert node.upgrade(node.payload(old)).error == "K3SUP_E_NO_K3S"
    assert_impostors_live(node, [spec])


def test_A03_a_title_with_cluster_init(make, old, new):
    """The title was never rewritten: `k3s server --cluster-init` contains `init`, which an exclusion by substring took for the --log parent.

    k3sup-upgrade FILE: 0.
    """
    node = make()
    node.behave(title="untitled")
    node.install(old)
    node.start("server", "--cluster-init", up=False)
    process, _ = until(node.running, 10, "k3s")[0]
    assert b"--cluster-init" in process["cmdline"]
    answer = node.upgrade(node.payload(new))
    node.assert_upgraded(answer, old, new, process)
    assert answer["running"]["role"] == "server"


@pytest.mark.parametrize("args", [("--debug", "server"), ("server", "--debug"), ("--data-dir", "/var/lib/rancher/k3s", "server")], ids=" ".join)
def test_A05_options_before_the_command(make, old, new, args):
    """The unit starts `k3s --debug server`; filters were tightened and loosened because of it. k3sup-upgrade FILE: 0."""
    node = make()
    node.behave(title="untitled")
    node.install(old)
    node.start(*args, up=False)
    process, _ = until(node.running, 10, "k3s")[0]
    node.assert_upgraded(node.upgrade(node.payload(new)), old, new, process)


@pytest.mark.parametrize("argv0, cwd", [("./k3s", "/usr/local/bin"), ("k3s", "/"), ("/no/such/k3s", "/")])
def test_A15_the_first_argument_is_no_path(make, old, new, argv0, cwd):
    """`./k3s server`, `k3s server` found through PATH, or anything else: argv[0] is whatever the caller wrote, never where the file is.

    k3sup-upgrade FILE: 0; the installed file is replaced.
    """
    node = make()
    node.install(old)
    spec = node.k3s_spec(exe=K3S, cwd=cwd)
    spec["argv"][0] = argv0
    node.sb.ask("supervise", name="k3s", spec=spec, delay=0.3)
    process = until(node.main_process, 10, "k3s")
    node.assert_upgraded(node.upgrade(node.payload(new)), old, new, process)


def test_A17_the_running_program_was_deleted(make, old, new):
    """Old data directories were pruned while k3s runs from one: /proc/PID/exe says (deleted). It is k3s all the same.

    k3sup-status: 0, current, exe_deleted. k3sup-upgrade FILE: 0.
    """
    node = make()
    node.install(old)
    process = node.start()
    os.unlink(node.sb.path(process["exe"]))
    seen = node.status()
    assert seen.exit == 0 and seen["state"] == "current" and seen["running"]["exe_deleted"] is True, seen
    node.assert_upgraded(node.upgrade(node.payload(new)), old, new, process)


def test_A19_k3s_is_process_1(make, old, new):
    """The node is a container (k3d): k3s is process 1, and its end is the end of the container.

    k3sup-upgrade FILE inside: 3, K3SUP_E_REFUSED_PID, before anything was changed.
    """
    node = make()
    node.install(old)
    node.payload(new)
    node.sb.spawn(["unshare", "-pfm", "--mount-proc", "--kill-child", K3S, "server", "--write-kubeconfig", "/var/log/k3s.yaml"])
    pair = until(lambda: [p for p in node.sb.processes() if DATA_EXE.search(p["exe"]) and p["cmdline"].rstrip(b"\0").endswith(b"server")], 10, "k3s")
    before = node.snapshot()
    done = node.sb.run(["nsenter", "-t", str(pair[0]["pid"]), "-p", "-m", PROGRAMS + "/k3sup-upgrade", "--json", "/opt/payload/k3s"],
                       env={"LD_LIBRARY_PATH": "/mnt/library"})
    answer = Answer(done)
    assert (answer.exit, answer.error) == (3, "K3SUP_E_REFUSED_PID") and answer["changed"] is False, answer
    node.assert_nothing_changed(before, lock=True)
    assert alive(node, pair[0])


def test_an_ancestor_is_never_signalled(make, old, new):
    """The upgrade was started by the very k3s it would end (a hook, an exec probe). Here: by a process of which k3s is the parent.

    Not 0, K3SUP_E_REFUSED_PID; nothing changed.
    """
    node = make()
    node.install(old)
    node.payload(new)
    # A shell that becomes k3s has children already.
    script = ('(until [ -e /mnt/go ]; do sleep 0.05; done; LD_LIBRARY_PATH=/mnt/library exec %s/k3sup-upgrade --json /opt/payload/k3s >/mnt/out/child; '
              ') & exec %s server --write-kubeconfig /var/log/k3s.yaml' % (PROGRAMS, K3S))
    node.sb.ask("supervise", name="k3s", spec=node.sb.spec(["sh", "-c", script]), delay=0.3)
    process = until(node.main_process, 10, "k3s")
    before = node.snapshot()
    node.sb.write("/mnt/go", "")
    until(lambda: node.sb.exists("/mnt/out/child") and b"\n" in node.sb.read("/mnt/out/child"), 10, "the answer")
    text = node.sb.read("/mnt/out/child").decode()
    assert '"name": "K3SUP_E_REFUSED_PID"' in text or '"name":"K3SUP_E_REFUSED_PID"' in text, text
    node.assert_nothing_changed(before, lock=True)
    assert alive(node, process)


def test_a_stopped_k3s_is_still_k3s(make, old, new):
    """k3s is stopped (a debugger, a frozen cgroup's SIGSTOP) and does not end by SIGTERM until it is continued.

    k3sup-upgrade --timeout 2 FILE: 8, K3SUP_E_TIMEOUT, out of time after the swap; continued, the next run reaches the goal.
    """
    node = make()
    node.install(old)
    process = node.start()
    node.sb.kill(process["pid"], signal.SIGSTOP)
    answer = node.upgrade(node.payload(new), timeout="2")
    assert (answer.exit, answer.error) == (8, "K3SUP_E_TIMEOUT") and answer["changed"] is True, answer
    assert node.status()["state"] == "restart-pending"
    node.sb.kill(process["pid"], signal.SIGCONT)
    answer = node.upgrade("/opt/payload/k3s")
    assert answer.exit == 0 and answer["resumed"] is True and answer["state"] == "current" and answer["flags"] == [], answer
    node.assert_runs(new, but=process)
    assert len(node.unit()["starts"]) == 2
