# SPDX-License-Identifier: Apache-2.0
"""Runs that are cut, stopped, or not alone. Whatever happens to a run, the installed file is whole and one more run reaches the goal."""
import signal

import pytest

from node import BACKUP, K3S, asset_hash, content_of
from sandbox import until

PAYLOAD = "/opt/payload/k3s"
LOG = "/mnt/out/strace"
PIECE = '"..., 262144'  # of a payload, as strace shows its write; about 37 make a small stand-in
RENAMES = "rename,renameat,renameat2"


def killed_at(node, calls, when, file=PAYLOAD):
    """Runs k3sup-upgrade and kills it as it enters one system call (which then does not happen)."""
    # Compiled for another machine, a name may be unknown: the question mark makes that fine.
    calls = ",".join("?" + c for c in calls.split(","))
    files = [file] if isinstance(file, str) else file
    spec = node.begin("k3sup-upgrade", "--json", "--stable", "0.3", "--timeout", "30", *files,
                      prefix=["strace", "-f", "-o", LOG, "-e", "trace=" + calls, "-e", "inject=%s:error=EIO:signal=KILL:when=%d" % (calls, when)])
    done = node.sb.wait(spec)
    log = node.sb.read(LOG).decode()
    assert done.status == -9 and " = ?\n" in log and "+++ killed by SIGKILL" in log and done.out == "", "it was not cut at %s: %s" % (calls, log)


def temps(node):
    return [n for n in node.sb.listdir("/usr/local/bin") if n.startswith(".k3s.")]


def a_node(make, old, new, layout="host", **more):
    node = make(layout)
    node.install(old)
    node.payload(new)
    node.process = node.start(**more)
    return node


def assert_healed(node, old, new, starts=2):
    """One more run: the goal, no litter, nothing open. And one more: nothing to do."""
    answer = node.upgrade(PAYLOAD)
    node.assert_upgraded(answer, old, new, node.process, starts=starts)
    seen = node.status("--payload", PAYLOAD)
    assert seen["state"] == "current" and seen["flags"] == [], seen
    assert sorted(node.sb.listdir("/usr/local/bin")) == ["k3s", "k3s.k3sup-backup"]
    again = node.upgrade(PAYLOAD)
    assert again.exit == 0 and again["changed"] is False and again["resumed"] is False, again
    return answer


def test_B20_killed_between_swap_and_signal(make, old, new, strace):
    """Killed (OOM, deadline, power) after the new file is in place and before k3s is told to end.

    k3sup-status: restart-pending, flags restart-pending and open-operation. The next k3sup-upgrade: 0, changed, resumed; the entry is closed.
    """
    node = a_node(make, old, new)
    killed_at(node, "pidfd_send_signal", 1)
    assert node.content() == content_of(new) and node.content(BACKUP) == content_of(old)
    assert node.assert_runs(old)["pid"] == node.process["pid"]
    seen = node.status("--payload", PAYLOAD)
    assert seen["state"] == "restart-pending" and sorted(seen["flags"]) == ["open-operation", "restart-pending"], seen
    assert assert_healed(node, None, new)["resumed"] is True
    assert node.content(BACKUP) == content_of(old)


@pytest.mark.parametrize("when", [1, 2])
def test_B20_killed_at_a_rename(make, old, new, strace, when):
    """Killed before the old file has its second name (1), and between that and the new file's rename (2).

    The installed file is the old one, k3s runs on; k3sup-status: interrupted, flag leftovers. The next k3sup-upgrade: 0, no litter.
    """
    node = a_node(make, old, new)
    killed_at(node, RENAMES, when)
    assert node.content() == content_of(old) and temps(node)
    assert node.sb.exists(BACKUP) == (when == 2)
    seen = node.status("--payload", PAYLOAD)
    assert seen["state"] == "interrupted" and "leftovers" in seen["flags"] and "open-operation" in seen["flags"], seen
    assert node.assert_runs(old)["pid"] == node.process["pid"]
    assert_healed(node, old, new)


@pytest.mark.parametrize("when", [1, 2])
def test_B20_killed_then_another_payload(make, old, new, other, strace, when):
    """After the cut somebody wants another build: present arguments decide. k3sup-upgrade OTHER: 0, with a warning; nothing is left of the first."""
    node = a_node(make, old, new)
    killed_at(node, RENAMES, when)
    node.payload(other)
    answer = node.upgrade(PAYLOAD)
    node.assert_upgraded(answer, old, other, node.process)
    assert answer["warnings"] and answer["resumed"] is False, answer
    assert sorted(node.sb.listdir("/usr/local/bin")) == ["k3s", "k3s.k3sup-backup"]


def test_B20_killed_then_the_old_payload(make, old, new, strace):
    """After the cut between link and rename somebody wants the old build, which is still installed: its backup is its own second name.

    k3sup-upgrade OLD: 0, changed; the second name is gone, as a later copy over the one would write to both. Again: 0, not changed.
    """
    node = a_node(make, old, new)
    killed_at(node, RENAMES, 2)
    assert node.sb.describe(K3S)["links"] == 2
    node.payload(old)
    answer = node.upgrade(PAYLOAD)
    assert answer.exit == 0 and answer["changed"] is True and answer["state"] == "current" and answer["flags"] == [], answer
    assert node.upgrade(PAYLOAD)["changed"] is False
    assert node.sb.describe(K3S)["links"] == 1 and node.sb.listdir("/usr/local/bin") == ["k3s"]
    assert node.assert_runs(old)["pid"] == node.process["pid"]


def test_B20_killed_after_the_signal(make, old, new):
    """Killed while it waits for the new k3s: the supervisor starts that anyway. The next run proves it: 0, not changed, resumed."""
    node = a_node(make, old, new, delay=0.5)
    first = node.begin("k3sup-upgrade", "--json", PAYLOAD)
    until(lambda: node.unit()["ends"], 10, "k3s to end")
    node.sb.kill(first["pid"], 9)
    node.sb.wait(first)
    answer = node.upgrade(PAYLOAD)
    assert answer.exit == 0 and answer["changed"] is False and answer["resumed"] is True and answer["flags"] == [], answer
    assert node.assert_runs(new, but=node.process)["pid"] == answer["running"]["pid"]
    assert len(node.unit()["starts"]) == 2


def test_B20_restarted_by_others_after_the_cut(make, old, new, strace):
    """Killed between swap and signal, then the node is rebooted: the new k3s started by itself. The next run still proves: 0, not changed, resumed."""
    node = a_node(make, old, new)
    killed_at(node, "pidfd_send_signal", 1)
    node.sb.kill(node.process["pid"])
    until(lambda: [h for _, h in node.running()] == [asset_hash(new)], 10, "the new k3s")
    seen = node.status("--payload", PAYLOAD)
    assert seen["state"] == "current" and seen["flags"] == ["open-operation"], seen
    answer = node.upgrade(PAYLOAD)
    assert answer.exit == 0 and answer["changed"] is False and answer["resumed"] is True and answer["flags"] == [], answer


@pytest.mark.parametrize("signo", [signal.SIGTERM, signal.SIGINT])
def test_stopped_while_it_copies(make, old, new, strace, signo):
    """The pod is told to end (its deadline, its plan was edited) while the payload is copied.

    SIGTERM: 8, K3SUP_E_CANCELLED, within a piece or two; the installed file is untouched, no temp file, nothing open, k3s runs on.
    """
    node = a_node(make, old, new)
    before = node.snapshot()
    spec = node.begin("k3sup-upgrade", "--json", PAYLOAD, prefix=slow_copy(0.15))
    until(lambda: temps(node), 10, "the copy to begin")
    node.sb.kill([p for p in node.sb.processes() if p["comm"] == "k3sup-upgrade"][0]["pid"], signo)
    answer = node.finish(spec)
    assert (answer.exit, answer.error) == (8, "K3SUP_E_CANCELLED") and answer["changed"] is False, answer
    seen, told, after = node.sb.read(LOG).decode().partition("--- SIG")
    assert told and PIECE in seen and after.count(PIECE) <= 2, "it copied on"
    assert not temps(node)
    node.assert_nothing_changed(before, lock=True, journal=True, staged=True)
    assert node.assert_runs(old)["pid"] == node.process["pid"]
    assert node.status("--payload", PAYLOAD)["flags"] == ["outdated"]
    assert_healed(node, old, new)


def slow_copy(seconds):
    """A prefix that makes each write take so long: of the payload's pieces, but also of wake-ups between threads."""
    return ["strace", "-f", "-o", LOG, "-e", "trace=write", "-e", "inject=write:delay_enter=%d" % (seconds * 1000000)]


def test_out_of_time_while_it_copies(make, old, new, strace):
    """--timeout 1 with a slow disk: 8, K3SUP_E_TIMEOUT; nothing touched, nothing open."""
    node = a_node(make, old, new)
    before = node.snapshot()
    answer = node.finish(node.begin("k3sup-upgrade", "--json", "--timeout", "1", PAYLOAD, prefix=slow_copy(0.2)))
    assert (answer.exit, answer.error) == (8, "K3SUP_E_TIMEOUT") and answer["changed"] is False, answer
    node.assert_nothing_changed(before, lock=True, journal=True, staged=True)
    assert node.status("--payload", PAYLOAD)["flags"] == ["outdated"]


def test_stopped_after_the_signal(make, old, new):
    """SIGTERM while k3s is down: past the point of no return the run finishes. 0, proven."""
    node = a_node(make, old, new, delay=1.0)
    spec = node.begin("k3sup-upgrade", "--json", "--stable", "0.3", PAYLOAD)
    until(lambda: node.unit()["ends"], 10, "k3s to end")
    node.sb.kill(spec["pid"], signal.SIGTERM)
    node.assert_upgraded(node.finish(spec), old, new, node.process)


def test_F06_five_at_once(make, old, new):
    """Five runs start together (more nodes or pods taken than was asked for). One acts; the others: 5, K3SUP_E_BUSY. k3s is restarted once."""
    node = a_node(make, old, new)
    began = [node.begin("k3sup-upgrade", "--json", "--stable", "2", "--timeout", "30", PAYLOAD) for _ in range(5)]
    answers = [node.finish(spec) for spec in began]
    assert sorted(a.exit for a in answers) == [0, 5, 5, 5, 5], answers
    assert {a.error for a in answers if a.exit} == {"K3SUP_E_BUSY"}
    node.assert_upgraded([a for a in answers if a.exit == 0][0], old, new, node.process)


def test_F06_five_at_once_that_wait(make, old, new):
    """The same with --wait-lock 30: all 0, one changed, four found it done; k3s is restarted once."""
    node = a_node(make, old, new)
    began = [node.begin("k3sup-upgrade", "--json", "--stable", "0.3", "--timeout", "60", "--wait-lock", "30", PAYLOAD) for _ in range(5)]
    answers = [node.finish(spec) for spec in began]
    assert [a.exit for a in answers] == [0] * 5, answers
    assert sorted(a["changed"] for a in answers) == [False] * 4 + [True]
    node.assert_upgraded([a for a in answers if a["changed"]][0], old, new, node.process)


def test_F05_two_that_want_different_builds(make, old, new, other):
    """Two drivers with different targets at once: one waits for the other; the last word counts, whole and proven, and nothing is torn."""
    node = a_node(make, old, new)
    node.payload(other, "/opt/payload/other")
    began = [node.begin("k3sup-upgrade", "--json", "--stable", "0.3", "--timeout", "60", "--wait-lock", "30", "--allow-downgrade", f)
             for f in (PAYLOAD, "/opt/payload/other")] # whichever is first
    answers = [node.finish(spec) for spec in began]
    assert [a.exit for a in answers] == [0, 0] and all(a["changed"] for a in answers), answers
    last = max(answers, key=lambda a: a["running"]["start_time"])
    wanted = new if last["wanted"]["asset_hash"] == asset_hash(new) else other
    node.assert_runs(wanted)
    assert node.content() == content_of(wanted) and node.content(BACKUP) == content_of(new if wanted is other else other)
    assert len(node.unit()["starts"]) == 3


def test_B19_whoever_executes_it_meanwhile(make, old, new):
    """A `watch k3s kubectl get nodes` executes the installed file all the time: it must never be busy, short or missing.

    Ten times k3sup-upgrade --restart none, each 0, while a loop runs `k3s --version`: each answer is one of the two versions.
    """
    node = make()
    node.install(old)
    files = [node.payload(new), node.payload(old, "/opt/payload/old")]
    script = ("import os, subprocess\nn = 0\n"
              "while not os.path.exists('/mnt/stop'):\n"
              "    p = subprocess.run(['%s', '--version'], stdout=subprocess.PIPE)\n"
              "    assert p.returncode == 0 and b'version v1.30.' in p.stdout, (p.returncode, p.stdout)\n"
              "    n += 1\n"
              "print(n)\n" % K3S)
    reader = node.sb.spawn(["/usr/bin/python3", "-c", script])
    for i in range(10):
        answer = node.upgrade("--restart", "none", "--allow-downgrade", files[i % 2])
        assert answer.exit == 0 and answer["changed"] is True, answer
    node.sb.write("/mnt/stop", "")
    done = node.sb.wait(reader)
    assert done.status == 0, done.err
    assert int(done.out) >= 10, "only %s looks" % done.out
    assert sorted(node.sb.listdir("/usr/local/bin")) == ["k3s", "k3s.k3sup-backup"]


def test_somebody_replaces_the_file_meanwhile(make, old, new, other, strace):
    """While the payload is copied an administrator puts a third build in place. Never overwrite what was not looked at.

    Not 0, K3SUP_E_TARGET_CHANGED; the third build stays, k3s was not told to end, no temp is left.
    """
    node = a_node(make, old, new)
    spec = node.begin("k3sup-upgrade", "--json", PAYLOAD, prefix=slow_copy(0.1))
    until(lambda: temps(node), 10, "the copy to begin")
    node.install(other, "/usr/local/bin/k3s.admin")
    node.sb.run(["mv", "/usr/local/bin/k3s.admin", K3S])
    answer = node.finish(spec)
    assert answer.exit in (1, 3) and answer.error == "K3SUP_E_TARGET_CHANGED" and answer["changed"] is False, answer
    assert node.content() == content_of(other) and not temps(node)
    assert node.assert_runs(old)["pid"] == node.process["pid"]


def test_the_payload_changes_meanwhile(make, old, new, strace):
    """The payload is still being downloaded: it grows or is rewritten while it is copied. Not 0; the installed file is untouched, no temp is left."""
    node = a_node(make, old, new)
    with open(new, "rb") as f:
        content = bytearray(f.read())
    spec = node.begin("k3sup-upgrade", "--json", PAYLOAD, prefix=slow_copy(0.1))
    until(lambda: temps(node), 10, "the copy to begin")
    node.sb.write(PAYLOAD, bytes(content[:len(content) // 3]), 0o755)
    answer = node.finish(spec)
    assert answer.exit in (1, 3) and answer.error in ("K3SUP_E_PAYLOAD_CHANGED", "K3SUP_E_PAYLOAD_TRUNCATED"), answer
    assert answer["changed"] is False and node.content() == content_of(old) and not temps(node)
    assert node.assert_runs(old)["pid"] == node.process["pid"]


@pytest.mark.parametrize("layout", ["chroot", "pod"])
def test_cut_and_healed_from_elsewhere(make, old, new, strace, layout):
    """Cut between swap and signal where the node is seen at --root. The next run: 0, resumed."""
    node = a_node(make, old, new, layout)
    if layout == "chroot":
        killed_at(node, "pidfd_send_signal", 1)
    else:
        spec = node.begin("k3sup-upgrade", "--json", PAYLOAD, prefix=["strace", "-f", "-o", "/out/log", "-e", "trace=pidfd_send_signal", "-e",
                          "inject=pidfd_send_signal:error=EIO:signal=KILL"])
        assert node.sb.wait(spec).status == -9
    answer = node.upgrade(PAYLOAD)
    assert answer["resumed"] is True
    node.assert_upgraded(answer, None, new, node.process)
