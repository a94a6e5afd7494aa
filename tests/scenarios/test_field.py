# SPDX-License-Identifier: Apache-2.0
"""What went wrong in the field with k3s upgrades, told by the ids of our catalogue of such cases. Each test says what happens there, which command
meets it, its exit status and what its JSON line says. test_controls.py shows that these tests can fail.
"""
import json
import os

import pytest

from node import BACKUP, K3S, TITLE, asset_hash, content_of, sha256
from sandbox import difference, until

ZFS_DRIVER = ["/usr/local/bin/zfs-driver", "--nodename=xx.k3s", "--endpoint=unix:///plugin/csi.sock", "--plugin=agent"]


@pytest.mark.parametrize("layout", ["host", "tree", "chroot", "pod"])
def test_A01_the_executable_is_not_the_installed_file(make, old, new, layout):
    """k3s runs data/H/bin/k3s, unpacked by the installed file: /proc/PID/exe is not what has to be replaced, and nothing below data/ may be written.

    k3sup-upgrade FILE: 0; state current, changed, installed.path, running.pid and asset_hash, backup.path.
    """
    node = make(layout)
    node.install(old)
    process = node.start()
    exe = process["exe"]
    before = node.sb.describe(exe)

    answer = node.upgrade(node.payload(new))

    now = node.assert_upgraded(answer, old, new, process)
    assert now["exe"] != exe and node.sb.describe(exe) == before, "the old build's unpacked program was touched"
    assert answer["node"]["root"] == {"pod": "/host", "host": "/"}.get(layout, node.root)
    assert node.status("--payload", "/opt/payload/k3s", "--expect", "current").exit == 0


@pytest.mark.parametrize("era, versions", [("2021", ("v1.21.3+k3s1", "v1.21.4+k3s1")), ("2023", ("v1.26.9+k3s1", "v1.26.10+k3s1"))])
def test_A02_a_parent_that_only_writes_the_log(make, standin, era, versions):
    """With --log a parent copies its child's output to a file; only the child is titled `k3s server`, with a bare word for argv[0].

    k3sup-upgrade FILE: 0; the pair counts as one k3s, one restart, and running.pid is the parent's.
    """
    old, new = (standin(v, era) for v in versions)
    node = make()
    node.install(old)
    parent = node.start("server", "--log", "/var/log/k3s-server.log")
    children = [p for p in node.sb.processes() if p["ppid"] == parent["pid"]]
    assert len(children) == 1, "no pair: %s" % children

    answer = node.upgrade(node.payload(new))

    node.assert_upgraded(answer, old, new, parent)
    assert len(answer["processes"]) == 1
    until(lambda: not node.sb.process(children[0]["pid"]), 5, "the old child to end")
    # Whoever ends the parent of an old pair leaves the child behind for a second; who ends the child ends both, and the parent says how the child ended.
    status = node.unit()["ends"][0]["status"]
    assert status in (0, 1), "the parent was ended itself: %d" % status


def test_A06_a_bystander_that_speaks_of_k3s_and_agent(make, old, new, sleeper):
    """A storage driver has `.k3s` and `agent` in its arguments; who greps the process list for k3s and agent finds two and gives up.

    k3sup-upgrade FILE: 0; one process, the driver lives on and is not even a candidate.
    """
    node = make()
    node.install(old)
    process = node.start()
    node.sb.copy(sleeper, "/usr/local/bin/zfs-driver")
    driver = node.sb.spawn(ZFS_DRIVER)

    answer = node.upgrade(node.payload(new))

    node.assert_upgraded(answer, old, new, process)
    assert node.sb.process(driver["pid"])["state"] == "S", "the driver did not survive"
    assert [p["pid"] for p in answer["processes"]] == [answer["running"]["pid"]]


def test_A13_bystanders_that_speak_of_k3s_and_server(make, old, new, sleeper):
    """Editors, pagers and playbooks on k3s's own files: each made the grep find two; alone, each was taken for k3s itself.

    k3sup-upgrade FILE: 0 beside the real one. With the bystanders alone: 4, K3SUP_E_NO_K3S, nothing changed.
    """
    node = make()
    node.install(old)
    process = node.start()
    node.sb.copy(sleeper, "/opt/k3s")
    bystanders = [node.sb.spawn(argv, exe="/opt/k3s") for argv in (
        ["sudo", "k3s", "server"], ["vim", "/etc/rancher/k3s", "config-server.yaml"], ["tail", "-f", "/var/log/k3s server.log"],
        ["/usr/local/bin/k3s server"], ["k3s", "kubectl", "logs", "-f", "deploy/rancher-agent"])]

    node.assert_upgraded(node.upgrade(node.payload(new)), old, new, process)

    node.unit(active=False)
    node.sb.kill(node.running()[0][0]["pid"])
    until(lambda: not node.running(), 5, "k3s to end")
    node.payload(old)
    before = node.snapshot()
    answer = node.upgrade("/opt/payload/k3s")
    assert (answer.exit, answer.error) == (4, "K3SUP_E_NO_K3S"), answer
    node.assert_nothing_changed(before, lock=True, journal=True)
    for b in bystanders:
        assert node.sb.process(b["pid"]), "%s did not survive" % b["argv"]


def under_supervise_daemon(make, supervise_daemon, old, command):
    """A node whose k3s was started by OpenRC's own supervise-daemon, as the service script that k3s's installer writes does it."""
    program, libraries = supervise_daemon
    top = os.path.dirname(os.path.dirname(program))
    node = make(binds={"/mnt/openrc": top})
    node.install(old)
    daemon = node.sb.run(
        ["supervise-daemon", "k3s", "--start", "--stdout", "/var/log/k3s.log", "--stderr", "/var/log/k3s.log", "--pidfile", "/run/k3s.pid",
         "--respawn-delay", "1", "--respawn-max", "0", K3S, "--"] + command,
        exe="/mnt/openrc/sbin/supervise-daemon", env={"LD_LIBRARY_PATH": libraries.replace(top, "/mnt/openrc"), "RC_SVCNAME": "k3s"})
    assert daemon.status == 0, daemon.err
    process, _ = until(node.running, 10, "k3s to come up")[0]
    until(lambda: TITLE.search(node.sb.process(process["pid"])["cmdline"]), 5, "its title")
    supervisor = node.sb.process(process["ppid"])
    assert supervisor["comm"] == "supervise-daemo", supervisor
    return node, node.sb.process(process["pid"]), supervisor


def test_A10_a_supervisor_that_has_k3s_and_server_in_its_arguments(make, supervise_daemon, old, new):
    """OpenRC: supervise-daemon's own arguments contain the k3s file and `server`, so a grep finds two; and who ends the wrong one stops the service.

    k3sup-upgrade FILE: 0; the child is told to end, the supervisor keeps its pid and starts the new one.
    """
    node, process, supervisor = under_supervise_daemon(make, supervise_daemon, old, ["server"])

    answer = node.upgrade(node.payload(new))

    now = node.assert_upgraded(answer, old, new, process, starts=0)
    assert now["ppid"] == supervisor["pid"], "the supervisor was not left alone"
    assert node.sb.process(supervisor["pid"])["start_time"] == supervisor["start_time"]


def test_A11_a_supervisor_taken_for_the_parent(make, supervise_daemon, old, new):
    """OpenRC, looked at from A02's side: the parent's arguments contain k3s, so its argv[0], `supervise-daemon`, was taken for the file to replace;
    no such file, hence "already replaced", success, and the node was labelled as upgraded.

    k3sup-upgrade FILE: 0, and truly: the agent runs the new build.
    """
    node, process, supervisor = under_supervise_daemon(make, supervise_daemon, old, ["agent", "--server", "https://192.0.2.1:6443", "--token", "sesame"])

    answer = node.upgrade(node.payload(new))

    node.assert_upgraded(answer, old, new, process, starts=0)
    assert answer["running"]["role"] == "agent"
    assert node.sb.process(supervisor["pid"])["start_time"] == supervisor["start_time"]


def test_A20_the_gap_after_the_kill(make, old, new):
    """The second pod of an upgrade comes while k3s is down: its file is the payload already, and its supervisor waits 5 s before it starts it.

    k3sup-upgrade FILE: 0 if k3s comes up 4 s later (nothing is left to change). If it never comes: 4, K3SUP_E_NO_K3S, after 15 s, or when --timeout is
    over if that is sooner.
    """
    comes, never, hurried = make(), make(), make()
    for node in (comes, never, hurried):
        node.install(new)
        node.payload(new)
    comes.start(first=4, up=False)
    began = [node.begin("k3sup-upgrade", "--json", "--stable", "0.3", "--timeout", timeout, "/opt/payload/k3s")
             for node, timeout in ((comes, "30"), (never, "30"), (hurried, "3"))]
    answer = hurried.finish(began[2])
    assert (answer.exit, answer.error) == (4, "K3SUP_E_NO_K3S"), answer
    assert 2 < answer.seconds < 14, "--timeout 3 took %.1f s" % answer.seconds

    answer = comes.finish(began[0])
    assert answer.exit == 0 and answer["changed"] is False and answer["state"] == "current", answer
    assert answer.seconds >= 4, answer.seconds
    assert comes.assert_runs(new)["pid"] == answer["running"]["pid"]
    assert len(comes.unit()["starts"]) == 1, "it was started by somebody else, too"

    answer = never.finish(began[1])
    assert (answer.exit, answer.error) == (4, "K3SUP_E_NO_K3S"), answer
    assert 13 < answer.seconds < 29, answer.seconds
    assert answer["state"] == "not-running" and answer["changed"] is False


def assert_restarted_only(node, answer, before, old, new, process):
    """The file was the payload already: it is not touched, there is no backup, but k3s is a new process."""
    now = node.assert_upgraded(answer, None, new, process)
    node.assert_nothing_changed(before, lock=True, journal=True)
    assert not node.sb.exists(node.at(BACKUP))
    return now


def test_B01_the_new_file_is_there_and_the_old_build_runs(make, old, new):
    """An earlier attempt put the new file in place and k3s was never restarted. Equal checksums were called "already replaced", for ever.

    k3sup-status: state restart-pending. k3sup-upgrade FILE: 0; changed, one restart, the file itself is left alone. Again: 0, nothing changed.
    """
    node = make()
    node.install(old)
    process = node.start()
    node.install(new)
    payload = node.payload(new)
    seen = node.status("--payload", payload)
    assert seen.exit == 0 and seen["state"] == "restart-pending", seen
    assert node.status("--payload", payload, "--expect", "current").exit == 9
    before = node.snapshot()

    answer = node.upgrade(payload)

    now = assert_restarted_only(node, answer, before, old, new, process)
    again = node.upgrade(payload)
    assert again.exit == 0 and again["changed"] is False and node.assert_runs(new)["pid"] == now["pid"], again


@pytest.mark.parametrize("what, error", [("missing", "K3SUP_E_TARGET_MISSING"), ("directory", "K3SUP_E_TARGET_NOT_FILE"),
                                         ("option", "K3SUP_E_TARGET_MISSING")])
def test_B02_no_installed_file_is_not_an_equal_one(make, old, new, what, error):
    """The file that should be replaced is not there (or is a directory); a checksum over one file only was called "equal".

    k3sup-upgrade FILE: 3, K3SUP_E_TARGET_MISSING or _NOT_FILE; the message names the path, k3s runs on, nothing is changed.
    """
    node = make()
    node.install(old)
    process = node.start()
    if what != "option":
        os.unlink(node.sb.path(K3S))
    if what == "directory":
        node.sb.makedirs(K3S)
    more = ["--k3s", "/usr/local/bin/no-such-k3s"] if what == "option" else ["--k3s", K3S] if what == "missing" else []
    payload = node.payload(new)
    before = node.snapshot()

    answer = node.upgrade(payload, *more)

    assert answer.exit == 3, "a missing file was called a success: %r" % answer
    assert answer.error == error and answer["changed"] is False, answer
    assert (more[1] if more else K3S) in answer.message
    node.assert_nothing_changed(before, lock=True)
    assert node.assert_runs(old)["pid"] == process["pid"]


# name of the link's text, where the real file is, links on the way {path: text}
LINKS = {
    "absolute": ("/opt/k3s/v1/k3s", {K3S: "/opt/k3s/v1/k3s"}),
    "relative": ("/usr/local/lib/k3s-1.30", {K3S: "../lib/k3s-1.30"}),
    "chained": ("/opt/k3s/v1/k3s", {K3S: "../../../opt/k3s/current/k3s", "/opt/k3s/current": "/opt/k3s/stable", "/opt/k3s/stable": "v1"}),
    "above the root": ("/opt/k3s/v1/k3s", {K3S: "../../../../../../../../opt/k3s/v1/k3s"}),
}


@pytest.mark.parametrize("layout", ["host", "chroot"])
@pytest.mark.parametrize("kind", LINKS)
def test_B03_the_installed_file_is_a_link(make, old, new, kind, layout):
    """/usr/local/bin/k3s is a symbolic link. An absolute one means a file of the node, not of the pod that looks at it below /host.

    k3sup-upgrade FILE: 0; the file at the link's end is replaced, the links stay, installed.path is the real file; the same path outside the root
    is not touched.
    """
    where, links = LINKS[kind]
    node = make(layout)
    node.install(old, where)
    for path, text in links.items():
        node.sb.symlink(text, node.at(path))
    if node.root:
        node.sb.makedirs(os.path.dirname(where))
        node.sb.write(where, "a decoy outside the root", 0o755)
        decoy = node.sb.snapshot([os.path.dirname(where)])
    process = node.start()

    answer = node.upgrade(node.payload(new))

    if node.root:
        assert not difference(decoy, node.sb.snapshot([os.path.dirname(where)])), "the file outside the root was touched"
    node.assert_upgraded(answer, old, new, process, path=where)
    for path, text in links.items():
        assert os.readlink(node.sb.path(node.at(path))) == text, "the link %s was replaced" % path


@pytest.mark.parametrize("kind, links, error", [
    ("dangling", {K3S: "/opt/k3s/gone"}, "K3SUP_E_TARGET_DANGLING"),
    ("looping", {K3S: "k3s-a", "/usr/local/bin/k3s-a": "./k3s"}, "K3SUP_E_TARGET_LOOP"),
    ("to itself", {K3S: "k3s"}, "K3SUP_E_TARGET_LOOP"),
])
@pytest.mark.parametrize("layout", ["host", "chroot"])
def test_B03_the_link_leads_nowhere(make, old, new, kind, links, error, layout):
    """The link points to nothing, or in a circle, while an older k3s still runs.

    k3sup-upgrade FILE: 3, K3SUP_E_TARGET_DANGLING or _LOOP, nothing changed. k3sup-status: 0, state degraded.
    """
    node = make(layout)
    node.install(old)
    process = node.start()
    os.unlink(node.sb.path(node.at(K3S)))
    for path, text in links.items():
        node.sb.symlink(text, node.at(path))
    payload = node.payload(new)
    seen = node.status()
    assert seen.exit == 0 and seen["state"] == "degraded", seen
    before = node.snapshot()

    answer = node.upgrade(payload)

    assert (answer.exit, answer.error) == (3, error), answer
    node.assert_nothing_changed(before, lock=True)
    assert node.assert_runs(old)["pid"] == process["pid"]


def test_B08_the_installed_file_is_being_executed(make, inner, old, new):
    """Images and some packages install the unpacked program itself: it is busy, and cp says "Text file busy".

    k3sup-upgrade FILE: 0; the name gets a new inode, the new process runs that one.
    """
    node = make()
    node.install(inner(old))
    process = node.start(up=False)
    process = until(lambda: [p for p in node.sb.processes() if p["exe"] == K3S and p["cmdline"].rstrip(b"\0").endswith(b"server")],
                    10, "k3s to come up")[0]
    before = node.sb.describe(K3S)

    answer = node.upgrade(node.payload(inner(new)))

    assert answer.exit == 0 and answer["changed"] is True and answer["state"] == "current", "the upgrade failed: %r" % answer
    assert node.content() == content_of(inner(new)) and node.content(BACKUP) == content_of(inner(old))
    now = node.sb.process(answer["running"]["pid"])
    assert now["exe"] == K3S and now["pid"] != process["pid"] and now["start_time"] > process["start_time"]
    st = os.stat(node.sb.path("/proc/%d/exe" % now["pid"]))
    assert st.st_ino == node.sb.describe(K3S)["inode"] != before["inode"]
    assert not node.sb.process(process["pid"]) and len(node.unit()["starts"]) == 2
    node.assert_no_litter()


@pytest.mark.parametrize("pause", [0.3, 2.0])
def test_C01_success_is_a_new_process(make, old, new, pause):
    """The unit of k3s's installer: Restart=always after a pause. Success is the new build as a new process that stays, not a signal that was sent.

    k3sup-upgrade --stable 1 --events 3 FILE: 0 not before the new process is 1 s old; downtime_ms covers the pause; events name the steps in order.
    """
    node = make()
    node.install(old)
    process = node.start(delay=pause)
    node.payload(new)
    spec = node.begin("k3sup-upgrade", "--json", "--stable", "1", "--timeout", "30", "--events", "3", "/opt/payload/k3s",
                      prefix=["sh", "-c", 'exec "$0" "$@" 3>/mnt/out/events'])

    answer = node.finish(spec)

    node.assert_upgraded(answer, old, new, process)
    starts = node.unit()["starts"]
    assert spec["began"] + answer.seconds >= starts[1]["at"] + 0.95, "it did not wait for 1 s of life"
    assert pause * 1000 - 50 <= answer["downtime_ms"] <= answer.seconds * 1000, answer["downtime_ms"]
    steps = [s["name"] for s in answer["steps"]]
    assert [s for s in ("lock", "identify", "stage", "verify", "unpack", "swap", "restart", "prove") if s in steps] == steps, steps
    events = [json.loads(line) for line in node.sb.read("/mnt/out/events").decode().splitlines()]
    assert list(dict.fromkeys(e["step"] for e in events)) == steps
    assert [e["percent"] for e in events] == sorted(e["percent"] for e in events)
    assert max(e["downtime_ms"] for e in events) > 0


def test_C01_under_supervise_daemon(make, supervise_daemon, old, new):
    """The same where OpenRC's supervise-daemon restarts k3s (respawn_delay).

    k3sup-upgrade FILE: 0; another pid, a later start; a second run changes nothing.
    """
    node, process, _ = under_supervise_daemon(make, supervise_daemon, old, ["server"])

    answer = node.upgrade(node.payload(new))

    now = node.assert_upgraded(answer, old, new, process, starts=0)
    assert answer["downtime_ms"] >= 900
    again = node.upgrade("/opt/payload/k3s")
    assert again.exit == 0 and again["changed"] is False and node.assert_runs(new)["pid"] == now["pid"]


INIT_SCRIPT = """#!/sbin/openrc-run
depend() {
    after network-online
    want cgroups
}
start_pre() {
    rm -f /tmp/k3s.*
}
supervisor=supervise-daemon
name=k3s
command="/usr/local/bin/k3s"
command_args="server >>/var/log/k3s.log 2>&1"
output_log=/var/log/k3s.log
error_log=/var/log/k3s.log
pidfile="/var/run/k3s.pid"
respawn_delay=5
respawn_max=0
set -o allexport
if [ -f /etc/environment ]; then . /etc/environment; fi
if [ -f /etc/rancher/k3s/k3s.env ]; then . /etc/rancher/k3s/k3s.env; fi
set +o allexport
"""


def service_of_openrc(node, daemon):
    """The records that OpenRC has of a service it started (librc, rc_service_daemon_set), and the init script as k3s's installer writes it."""
    node.sb.makedirs("/etc/init.d")
    node.sb.write("/etc/init.d/k3s", INIT_SCRIPT, 0o755)
    node.sb.makedirs("/run/openrc/daemons/k3s")
    node.sb.write("/run/openrc/daemons/k3s/001", "exec=supervise-daemon\npidfile=/run/k3s.pid\n")
    node.sb.write("/run/k3s.pid", "%d\n" % daemon["pid"])


def test_C01_as_a_service_of_openrc(make, supervise_daemon, old, new):
    """The same with the init script that k3s's installer writes: OpenRC is named, not called; its supervise-daemon starts k3s again.

    k3sup-upgrade FILE: 0, service.manager openrc, service.restarted_by signal; --restart service: 3, K3SUP_E_NO_SERVICE.
    """
    node, process, supervisor = under_supervise_daemon(make, supervise_daemon, old, ["server"])
    service_of_openrc(node, supervisor)

    refused = node.upgrade("--restart", "service", node.payload(new))
    assert (refused.exit, refused.error) == (3, "K3SUP_E_NO_SERVICE"), refused
    assert node.content() == content_of(old)
    answer = node.upgrade("/opt/payload/k3s")

    node.assert_upgraded(answer, old, new, process, starts=0)
    service = answer["service"]
    assert (service["manager"], service["name"], service["restarted_by"], service["supervisor"]) == ("openrc", "k3s", "signal", "supervise-daemon"), service


def test_C02_a_service_of_openrc_without_a_supervisor(make, old, new):
    """C02: an OpenRC service that no supervise-daemon looks after (start-stop-daemon): nothing starts it again.

    k3sup-upgrade FILE: 3, K3SUP_E_NOT_SUPERVISED, with either way; nothing touched.
    """
    node = make()
    node.install(old)
    process = node.start()
    service_of_openrc(node, process)
    node.payload(new)
    before = node.snapshot()

    for how in ("auto", "signal"):
        answer = node.upgrade("--restart", how, "/opt/payload/k3s")
        assert (answer.exit, answer.error) == (3, "K3SUP_E_NOT_SUPERVISED"), answer
    node.assert_nothing_changed(before, lock=True)
    assert node.assert_runs(old)["pid"] == process["pid"]


def test_C04_the_new_build_dies_again_and_again(make, standin, old, new):
    """The new build starts and ends within moments; the node flickers, and sending the signal was called success.

    k3sup-upgrade --rollback never --timeout 3 FILE: 6 or 11, K3SUP_E_NOT_STABLE or K3SUP_E_NOT_RESTARTED, when time is over; the file is the new one, the backup the old one.
    """
    node = make()
    node.behave(**{"die_after_ms@v1.30.5+k3s1": 300})
    node.install(old)
    node.start()

    answer = node.upgrade("--rollback", "never", node.payload(new), stable="2", timeout="3")

    assert answer.exit in (6, 11) and answer.error in ("K3SUP_E_NOT_STABLE", "K3SUP_E_NOT_RESTARTED"), answer
    assert answer.seconds > 2
    assert answer["changed"] is True
    assert node.content() == content_of(new) and node.content(BACKUP) == content_of(old)


def test_C08_what_k3s_started_outlives_it(make, old, new):
    """Shims and workloads are k3s's children by cgroup, and must survive its restart (KillMode=process).

    k3sup-upgrade FILE: 0; the same shims live on.
    """
    node = make()
    node.behave(shims=2)
    node.install(old)
    process = node.start()

    def shims():
        return sorted((p["pid"], p["start_time"]) for p in node.sb.processes() if p["comm"] == "containerd-shim" and p["ppid"] == 1)
    until(lambda: len(shims()) == 2, 5, "two shims")
    before = shims()

    answer = node.upgrade(node.payload(new))

    assert answer.exit == 0, answer
    assert [s for s in before if s in shims()] == before, "shims were ended"
    node.assert_runs(new, but=process)


def test_C11_an_installer_that_saw_no_change(make, old, new):
    """Somebody copies the new file first and runs the installer with SKIP_DOWNLOAD: the hashes before and after are equal, and it skips the start.

    k3sup-upgrade FILE: 0, changed: the k3s that runs is another build than the file, so it is restarted.
    """
    node = make()
    node.install(old)
    process = node.start()
    payload = node.payload(new)
    node.sb.write("/opt/install.sh", 'set -e\ncp "$1" %s\nbefore=$(sha256sum %s)\nafter=$(sha256sum %s)\n'
                  '[ "$before" != "$after" ] || echo "No change detected so skipping service start"\n' % (K3S, K3S, K3S))
    done = node.sb.run(["sh", "/opt/install.sh", payload])
    assert done.status == 0 and "skipping" in done.out
    assert node.assert_runs(old)["pid"] == process["pid"]
    before = node.snapshot()

    answer = node.upgrade(payload)

    assert_restarted_only(node, answer, before, old, new, process)


def test_full_disk(make, old, new):
    """The installed file's file system has room for the old file and a little more; cp truncates the old one and then fails.

    k3sup-upgrade FILE: 3, ENOSPC, the message says how much is missing; the installed file is untouched, nothing is left beside it, k3s runs on.
    """
    node = make()
    node.sb.ask("mount", source="small", target="/usr/local/bin", kind="tmpfs", data="mode=0755,size=%d" % (os.path.getsize(old) + (1 << 20)))
    node.install(old)
    process = node.start()
    payload = node.payload(new)
    before = node.snapshot()

    answer = node.upgrade(payload)

    assert node.content() == content_of(old), "the installed file was damaged"
    node.assert_no_litter()
    assert (answer.exit, answer.error) == (3, "ENOSPC"), answer
    assert answer["error"]["evidence"]["needed_bytes"] > answer["error"]["evidence"]["free_bytes"]
    node.assert_nothing_changed(before, lock=True, journal=True)
    assert node.assert_runs(old)["pid"] == process["pid"]
    seen = node.status()
    assert seen["state"] == "current" and seen["flags"] == [], "a refusal left something to resume: %r" % seen


def test_F08_configuration_is_left_alone(make, old, new):
    """Re-running an installer rewrote units, environment files and config; a change of the binary must leave all of them as they are.

    k3sup-upgrade FILE: 0; besides the file, its backup and /var/lib/k3sup nothing has changed.
    """
    node = make()
    node.install(old)
    node.sb.makedirs("/etc/systemd/system")
    node.sb.write("/etc/systemd/system/k3s.service", "[Service]\nExecStart=/usr/local/bin/k3s server\n")
    node.sb.write("/etc/systemd/system/k3s.service.env", "K3S_TOKEN=sesame\n", 0o600)
    node.sb.write("/etc/rancher/k3s/config.yaml", "write-kubeconfig-mode: '0644'\n")
    process = node.start()
    payload = node.payload(new)
    before = node.snapshot("/usr/local/bin", "/var/lib")

    node.assert_upgraded(node.upgrade(payload), old, new, process)

    node.assert_nothing_changed(before, "/usr/local/bin", "/var/lib")
    assert node.sb.listdir("/usr/local/bin") == ["k3s", "k3s.k3sup-backup"]
    assert "sesame" not in repr(node.ran), "a secret was printed"


def test_real_size(make, standin):
    """A k3s of its real size (64 MB), with all of the stand-in's real behaviour: unpacking, TLS port, slow to be ready.

    k3sup-upgrade FILE: 0; downtime_ms is not the time of the copy.
    """
    old, new = standin("v1.31.1+k3s1", "2024", "64"), standin("v1.31.2+k3s1", "2024", "64")
    node = make()
    node.sb.write("/etc/rancher/k3s/standin.conf", "")
    node.install(old)
    process = node.start()

    answer = node.upgrade(node.payload(new))

    now = node.assert_upgraded(answer, old, new, process)
    assert answer["wanted"]["size"] == os.path.getsize(new) > 60 << 20 and answer["wanted"]["sha256"] == sha256(new)
    again = node.upgrade("/opt/payload/k3s")
    assert again.exit == 0 and again["changed"] is False and node.assert_runs(new)["pid"] == now["pid"]


def test_idempotent(make, old, new):
    """The second pod of an upgrade, and the hundredth.

    k3sup-upgrade FILE, again: 0, changed false, the same process, and not one file has another time, owner, mode or content
    (but the lock, in which each run notes who holds it).
    """
    node = make()
    node.install(old)
    process = node.start()
    payload = node.payload(new)
    now = node.assert_upgraded(node.upgrade(payload), old, new, process)
    before = node.snapshot()
    for _ in range(2):
        answer = node.upgrade(payload)
        assert answer.exit == 0 and answer["changed"] is False and answer["state"] == "current", answer
        assert answer["downtime_ms"] == 0
        node.assert_nothing_changed(before, lock=True)
        assert node.assert_runs(new)["pid"] == now["pid"] == answer["running"]["pid"]


def test_restart_none_needs_no_k3s(make, old, new):
    """A file is to be replaced before k3s is ever started: an image being made.

    k3sup-upgrade --restart none FILE: 0; changed, state not-running, running null. Again: 0, nothing changed.
    """
    node = make("tree")
    node.install(old)
    payload = node.payload(new)

    answer = node.upgrade("--restart", "none", payload)

    assert answer.exit == 0 and answer["changed"] is True and answer["state"] == "not-running" and answer["running"] is None, answer
    assert node.content() == content_of(new) and node.content(BACKUP) == content_of(old)
    node.assert_no_litter()
    before = node.snapshot()
    again = node.upgrade("--restart", "none", payload)
    assert again.exit == 0 and again["changed"] is False, again
    node.assert_nothing_changed(before, lock=True)


def test_restart_none_leaves_the_running_one_alone(make, old, new):
    """Swap now, restart later: k3sup-upgrade --restart none FILE: 0; state restart-pending, the old process runs on. Then FILE alone: 0, restarted."""
    node = make()
    node.install(old)
    process = node.start()
    payload = node.payload(new)

    answer = node.upgrade("--restart", "none", payload)

    assert answer.exit == 0 and answer["state"] == "restart-pending" and "restart-pending" in answer["flags"], answer
    assert node.assert_runs(old)["pid"] == process["pid"] == answer["running"]["pid"]
    assert answer["running"]["is_installed_build"] is False
    answer = node.upgrade(payload)
    node.assert_upgraded(answer, None, new, process)
    assert node.content(BACKUP) == content_of(old)


def test_B17_attributes_are_kept(make, old, new):
    """Owner, mode, extended attributes and ACL of the file that is replaced are those of the new one; the backup keeps its own and its time.

    k3sup-upgrade FILE: 0.
    """
    node = make()
    node.install(old, mode=0o751)
    path = node.sb.path(K3S)
    os.chown(path, 0, 34)
    os.setxattr(path, "user.site", b"kept\0bytes")
    done = node.sb.run(["setfacl", "-m", "u:65534:r-x", K3S])
    has_acl = done.status == 0
    os.utime(path, (1, 1000000000))
    kept = node.sb.describe(K3S)
    process = node.start()

    node.assert_upgraded(node.upgrade(node.payload(new)), old, new, process)

    now, backup = node.sb.describe(K3S), node.sb.describe(BACKUP)
    for key in ("mode", "owner", "xattrs"):
        assert now[key] == kept[key], "%s was %s, is %s" % (key, kept[key], now[key])
    assert now["links"] == 1 and now["mtime"] != kept["mtime"]
    assert backup == kept, "the backup is not the old file as it was"
    assert not has_acl or "system.posix_acl_access" in now["xattrs"]


@pytest.mark.parametrize("type_, decision", [("container_runtime_exec_t", "pass"), ("bin_t", "warn")])
def test_B17_a_wrong_security_label_is_told(make, old, new, type_, decision):
    """A label that is not the one of k3s's policy was restored faithfully, and new pods failed later.

    k3sup-upgrade --check FILE: 0, check label pass or warn; k3sup-upgrade FILE: 0, and the new file has the old one's label.
    """
    node = make()
    node.install(old)
    label = b"system_u:object_r:%s:s0\0" % type_.encode()
    try:
        os.setxattr(node.sb.path(K3S), "security.selinux", label)
    except OSError as e:
        pytest.skip("no such labels here: %s" % e)
    process = node.start()
    payload = node.payload(new)
    told = [c for c in node.upgrade("--check", payload)["checks"] if c["name"] == "label"]
    assert [c["decision"] for c in told] == [decision] and (decision == "pass" or type_ in told[0]["text"]), told
    node.assert_upgraded(node.upgrade(payload), old, new, process)
    assert os.getxattr(node.sb.path(K3S), "security.selinux") == label


def test_a_third_upgrade_keeps_the_second_as_backup(make, old, new, other):
    """Upgrades follow each other: there is one backup, always the file before."""
    node = make()
    node.install(old)
    process = node.start()
    first = node.assert_upgraded(node.upgrade(node.payload(new)), old, new, process)
    node.assert_upgraded(node.upgrade(node.payload(other)), new, other, first, starts=3)
    assert node.sb.listdir("/usr/local/bin") == ["k3s", "k3s.k3sup-backup"]


def test_more_backups_than_one(make, old, new, other):
    """--keep-backups 2: the two files before stay, newest first. Once more without it: the older one goes, k3s is not restarted. The twin is K3SUP_KEEP_BACKUPS."""
    node = make()
    node.install(old)
    process = node.start()
    first = node.assert_upgraded(node.upgrade("--keep-backups", "2", node.payload(new)), old, new, process)
    payload = node.payload(other)
    last = node.assert_upgraded(node.upgrade("--keep-backups=2", payload), new, other, first, starts=3)
    assert [sha256(node.sb.path(BACKUP + more)) for more in ("", "-2")] == [sha256(new), sha256(old)]
    assert node.upgrade("--keep-backups", "2", payload)["changed"] is False
    assert node.sb.listdir("/usr/local/bin") == ["k3s", "k3s.k3sup-backup", "k3s.k3sup-backup-2"]
    answer = node.upgrade(payload)
    assert answer.exit == 0 and answer["changed"] is False and node.assert_runs(other)["pid"] == last["pid"], answer
    assert node.sb.listdir("/usr/local/bin") == ["k3s", "k3s.k3sup-backup"]


def test_the_wrong_build_comes_back(make, old, new, other):
    """The supervisor starts another file than the one that was replaced (a unit that points elsewhere).

    k3sup-upgrade --timeout 3 FILE: 11, K3SUP_E_WRONG_BUILD; k3s runs, the message names the wanted build.
    """
    node = make()
    node.install(old)
    node.install(other, "/srv/elsewhere/k3s")
    node.start()
    node.unit(spec=node.k3s_spec(path="/srv/elsewhere/k3s"))

    answer = node.upgrade(node.payload(new), timeout="3")

    assert (answer.exit, answer.error) == (11, "K3SUP_E_WRONG_BUILD"), answer
    assert asset_hash(new)[:12] in answer.message
    node.assert_runs(other)
    assert answer["changed"] is True and answer["running"]["asset_hash"] == asset_hash(other)


def test_nothing_restarts_it(make, old, new):
    """C02: nobody supervises k3s (started by hand). It ends and nothing starts it again.

    k3sup-upgrade --timeout 2 FILE: 6, K3SUP_E_NOT_RESTARTED; state not-running.
    """
    node = make()
    node.install(old)
    node.start()
    node.unit(active=False)

    answer = node.upgrade(node.payload(new), timeout="2")

    assert (answer.exit, answer.error) == (6, "K3SUP_E_NOT_RESTARTED"), answer
    assert answer["state"] == "not-running" and not node.running()
    assert "once more" in node.status()["next"], "it does not say how to go on"
    assert node.content() == content_of(new) and node.content(BACKUP) == content_of(old)
    # Somebody starts it: the next run proves it and is content.
    node.start()
    again = node.upgrade("/opt/payload/k3s")
    assert again.exit == 0 and again["changed"] is False and again["flags"] == [], again


def test_status_of_a_healthy_node(make, old, new):
    """k3sup-status: 0, state current; with an older or newer --payload: state outdated, and 9 with --expect current. Nothing is written."""
    node = make()
    node.install(old)
    process = node.start()
    payload = node.payload(new)
    before = node.snapshot()
    seen = node.status()
    assert seen.exit == 0 and seen["state"] == "current" and seen["flags"] == [] and seen["changed"] is False, seen
    assert seen["running"]["pid"] == process["pid"] and seen["running"]["version"] == "v1.30.4+k3s1" == seen["installed"]["version"]
    assert seen["running"]["role"] == "server" and (seen["data_dir"]["path"], seen["data_dir"]["source"]) == ("/var/lib/rancher/k3s", "process")
    seen = node.status("--payload", payload)
    assert seen.exit == 0 and seen["state"] == "outdated" and seen["wanted"]["version"] == "v1.30.5+k3s1", seen
    assert node.status("--payload", payload, "--expect", "current,starting").exit == 9
    assert node.status("--payload", payload, "--expect", "current,outdated").exit == 0
    node.assert_nothing_changed(before)


def test_status_of_an_empty_node(make):
    """No k3s file and no k3s: k3sup-status: 4, state absent. Nothing is written."""
    node = make()
    before = node.snapshot()
    seen = node.status()
    assert seen.exit == 4 and seen["state"] == "absent" and seen["running"] is None and seen["installed"] is None, seen
    node.assert_nothing_changed(before)
