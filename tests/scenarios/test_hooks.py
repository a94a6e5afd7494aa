# SPDX-License-Identifier: Apache-2.0
"""The caller's own commands: --before-write (after all was decided) and --before-stop (when all is staged and verified, before the swap and the restart)."""
import os

import pytest

from node import K3S, LIBRARY, PROGRAMS, content_of
from sandbox import until
from test_cut_runs import PAYLOAD, temps

V1, V2 = "v1.30.4+k3s1", "v1.30.5+k3s1"
SEEN = "/mnt/seen"
# What there is when it is asked: its name, the installed file's size, and the temps beside it with their sizes.
LOOK = 'echo "$K3SUP_HOOK $(stat -c %s /usr/local/bin/k3s) $(stat -c %s /usr/local/bin/.k3s.k3sup-tmp-* 2>/dev/null)" >> ' + SEEN


def a_node(make, old, new):
    node = make()
    node.install(old)
    node.process = node.start()
    node.payload(new)
    return node


@pytest.fixture
def node(make, old, new):
    return a_node(make, old, new)


def seen(node):
    return node.sb.read(SEEN).decode().splitlines() if node.sb.exists(SEEN) else []


def test_each_has_its_moment(node, old, new):
    """k3sup-upgrade --before-write A --before-stop B FILE: 0. A runs before a byte is written, B when the whole new file lies beside the old one.

    Again: 0, neither is run, since nothing is to be done.
    """
    args = ["--before-write", LOOK, "--before-stop", LOOK, PAYLOAD]
    answer = node.upgrade(*args)
    now = node.assert_upgraded(answer, old, new, node.process)
    sizes = len(content_of(old)), len(content_of(new))
    assert seen(node) == ["before-write %d " % sizes[0], "before-stop %d %d" % sizes]
    assert [(h["name"], h["ok"], h["exit_code"]) for h in answer["hooks"]] == [("before-write", True, 0), ("before-stop", True, 0)], answer
    steps = [s["name"] for s in answer["steps"]]
    order = [steps.index(s) for s in ("identify", "before-write", "stage", "verify", "before-stop", "swap", "restart", "prove")]
    assert order == sorted(order), steps
    again = node.upgrade(*args)
    assert again.exit == 0 and again["changed"] is False and again["running"]["pid"] == now["pid"] and "hooks" not in again.json, again
    assert len(seen(node)) == 2


def test_what_they_are_told(node, new):
    """The environment is clean, and says what is about to happen."""
    answer = node.upgrade("--before-stop", "env | sort", PAYLOAD, env={"SECRET": "do not tell"})
    told = dict(line.split("=", 1) for line in answer["hooks"][0]["output"].splitlines())
    assert told.pop("PWD") == "/" and "SECRET" not in told and told.pop("PATH").startswith("/usr/local/sbin:") and told.pop("SHLVL", "0"), told
    told.pop("_", None), told.pop("OLDPWD", None)
    assert told == {"K3SUP_HOOK": "before-stop", "K3SUP_ROOT": "/", "K3SUP_FROM": V1, "K3SUP_TO": V2, "K3SUP_K3S": K3S,
                    "K3SUP_DATA_DIR": "/var/lib/rancher/k3s", "K3SUP_ROLE": "server", "K3SUP_PID": str(node.process["pid"])}


def test_programs_in_a_command_look_at_the_same_node(node):
    """--state-dir DIR --before-write 'k3sup-status --mark KEY': the mark is in DIR, as that of k3sup-status --state-dir DIR."""
    mark = "LD_LIBRARY_PATH=%s %s/k3sup-status --mark from-within" % (LIBRARY, PROGRAMS)
    assert node.upgrade("--state-dir", "/srv/state", "--before-write", mark, PAYLOAD).exit == 0
    assert node.status("--state-dir", "/srv/state", "--marked", "from-within").exit == 0 and node.status("--marked", "from-within").exit == 9


@pytest.mark.parametrize("hook", ["before-write", "before-stop"])
def test_a_refusal_leaves_everything(node, old, new, hook):
    """k3sup-upgrade --HOOK 'exit 7' FILE: 3, K3SUP_E_HOOK with its output as evidence; no temp, no backup, no open entry, k3s goes on. Then without: 0."""
    before = node.snapshot()
    answer = node.upgrade("--" + hook, "echo no quorum; exit 7", PAYLOAD)
    assert (answer.exit, answer.error, answer["changed"], answer["state"], answer["flags"]) == (3, "K3SUP_E_HOOK", False, "outdated", ["outdated"]), answer
    assert answer["error"]["evidence"]["hook"] == answer["hooks"][-1] and answer["hooks"][-1]["output"] == "no quorum\n", answer
    assert answer["hooks"][-1]["exit_code"] == 7 and "--" + hook in answer.message and "7" in answer.message
    assert not temps(node)
    node.assert_nothing_changed(before, lock=True, journal=True, staged=True)
    assert node.assert_runs(old)["pid"] == node.process["pid"]
    node.assert_upgraded(node.upgrade(PAYLOAD), old, new, node.process)


def test_images_are_taken_back_when_the_stop_is_refused(node):
    """--before-stop 'exit 1' --images FILE: 3, the image that was put in place before is gone again."""
    node.sb.write("/opt/payload/some.tar", b"images")
    answer = node.upgrade("--before-stop", "ls /var/lib/rancher/k3s/agent/images; exit 1", "--images", "/opt/payload/some.tar", PAYLOAD)
    assert (answer.exit, answer.error, answer["changed"]) == (3, "K3SUP_E_HOOK", False), answer
    assert answer["hooks"][0]["output"] == "some.tar\n", answer
    assert not node.sb.exists("/var/lib/rancher/k3s/agent/images/some.tar")


def test_a_second_run_asks_again(node, old, new):
    """A run that is cut behind its swap has asked; the next one, which has only to restart, asks --before-stop once more, and --before-write not, since it writes nothing.

    --restart none: 0. Then --before-stop 'exit 1': 3, k3s still runs the old build, flag restart-pending. Then one that agrees: 0.
    """
    assert node.upgrade("--restart", "none", "--before-stop", LOOK, PAYLOAD).exit == 0 and len(seen(node)) == 1
    refused = node.upgrade("--before-write", "exit 1", "--before-stop", "exit 1", PAYLOAD)
    assert (refused.exit, refused.error, refused["changed"]) == (3, "K3SUP_E_HOOK", False) and "restart-pending" in refused["flags"], refused
    assert [h["name"] for h in refused["hooks"]] == ["before-stop"]
    assert node.assert_runs(old)["pid"] == node.process["pid"]
    answer = node.upgrade("--before-stop", LOOK, PAYLOAD)
    assert answer.exit == 0 and len(seen(node)) == 2, answer
    node.assert_runs(new, but=node.process)


def test_they_are_bounded_by_the_timeout_and_by_sigterm(node, old):
    """--before-stop 'sleep 1000' --timeout 1: 8, K3SUP_E_TIMEOUT. With SIGTERM: 8, K3SUP_E_CANCELLED. The command is killed, nothing was changed."""
    answer = node.upgrade("--before-stop", "sleep 1000", PAYLOAD, timeout="1")
    assert (answer.exit, answer["changed"]) == (8, False) and answer.error == "K3SUP_E_TIMEOUT", answer
    run = node.begin("k3sup-upgrade", "--json", "--before-stop", "echo > %s; exec sleep 1000" % SEEN, PAYLOAD)
    until(lambda: node.sb.exists(SEEN), 20, "the command")
    node.sb.kill(run["pid"])
    answer = node.finish(run)
    assert (answer.exit, answer.error, answer["changed"]) == (8, "K3SUP_E_CANCELLED", False), answer
    assert not temps(node) and node.content() == content_of(old) and node.assert_runs(old)["pid"] == node.process["pid"]
    until(lambda: not [p for p in node.sb.processes() if p["comm"] == "sleep"], 20, "the end of the command")


def test_what_changes_while_they_run_is_seen(node, old, other):
    """--before-stop replaces the installed file itself: 1 or 3, K3SUP_E_TARGET_CHANGED; that file stays, and k3s is not restarted."""
    node.payload(other, "/opt/payload/other")
    answer = node.upgrade("--before-stop", "cp /opt/payload/other /usr/local/bin/new && mv /usr/local/bin/new /usr/local/bin/k3s", PAYLOAD)
    assert answer.error == "K3SUP_E_TARGET_CHANGED" and answer["changed"] is False, answer
    assert node.content() == content_of(other) and node.assert_runs(old)["pid"] == node.process["pid"] and not temps(node)


def test_what_was_verified_is_what_is_published(node, old):
    """--before-stop writes into the staged file: 3, K3SUP_E_TARGET_CHANGED; the installed file is as it was, and the staged one is gone."""
    answer = node.upgrade("--before-stop", "sleep 0.1; for f in /usr/local/bin/.k3s.k3sup-tmp-*; do echo >> $f; done", PAYLOAD)
    assert (answer.exit, answer.error, answer["changed"]) == (3, "K3SUP_E_TARGET_CHANGED", False) and "verified" in answer.message, answer
    assert node.content() == content_of(old) and node.assert_runs(old)["pid"] == node.process["pid"]
    assert not temps(node) and "open-operation" not in answer["flags"], answer


def test_an_empty_command_is_a_mistake(node):
    """--before-stop '': 2."""
    for hook in ("--before-write", "--before-stop"):
        assert node.upgrade(hook, "", PAYLOAD).exit == 2


def test_B10_a_downgrade_is_refused_before_the_cordon(make, old, new, standin):
    """The channel's pointer moved back: the payload is older than what runs. Whoever cordons first leaves the node cordoned.

    k3sup-upgrade --before-write 'kubectl cordon' FILE: 3, K3SUP_E_POLICY_DOWNGRADE, the command was not run, nothing was touched; --check and --dry-run say the same.
    """
    node = a_node(make, old, new)
    node.payload(standin("v1.30.2+k3s1"))
    for more in ([], ["--check"], ["--dry-run"]):
        answer = node.upgrade(*more, "--before-write", LOOK, "--before-stop", LOOK, PAYLOAD)
        assert (answer.exit, answer.error, answer["changed"]) == (3, "K3SUP_E_POLICY_DOWNGRADE", False) and "hooks" not in answer.json, answer
    assert not seen(node) and node.content() == content_of(old) and node.assert_runs(old)["pid"] == node.process["pid"]


def test_F06_the_quorum_is_asked_before_the_stop(make, old, new):
    """More nodes were taken than may be down at once. The command takes a place in a common file, and gives the place of a run that was refused back to nobody.

    k3sup-upgrade --before-stop 'take a place' FILE: 3 while another node has it, k3s runs on and nothing is left; 0 when it is free.
    """
    node = a_node(make, old, new)
    take = "mkdir /mnt/place"
    node.sb.makedirs("/mnt/place")
    for _ in range(2):
        answer = node.upgrade("--before-stop", take, PAYLOAD)
        assert (answer.exit, answer.error, answer["changed"]) == (3, "K3SUP_E_HOOK", False) and not temps(node), answer
        assert node.assert_runs(old)["pid"] == node.process["pid"]
    os.rmdir(node.sb.path("/mnt/place"))
    node.assert_upgraded(node.upgrade("--before-stop", take, PAYLOAD), old, new, node.process)
    assert node.sb.exists("/mnt/place")
