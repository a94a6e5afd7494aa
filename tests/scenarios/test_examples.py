# SPDX-License-Identifier: Apache-2.0
"""The examples: a prepare step that is cut, commands for --before-stop, and an upgrade in the caller's own libuv loop."""
import json
import os
import re

import pytest

from node import STATE_DIR, TOP, content_of
from sandbox import LIBRARY, PROGRAMS, until
from test_cut_runs import PAYLOAD, temps

EXAMPLES = os.path.join(TOP, "examples")
ENV = {"LD_LIBRARY_PATH": LIBRARY, "PATH": PROGRAMS + ":/usr/sbin:/usr/bin:/sbin:/bin"}
KEYS = ["prepare-directory-1", "prepare-settings-1"]


@pytest.fixture
def node(make, old, new):
    node = make()
    node.install(old)
    node.process = node.start()
    node.payload(new)
    for name in ("prepare.sh", "hooks/etcd-snapshot.sh", "hooks/etcd-health.sh", "hooks/readyz.sh"):
        node.sb.copy(os.path.join(EXAMPLES, name), "/mnt/" + os.path.basename(name))
    return node


def prepare(node, **env):
    return node.sb.run(["/mnt/prepare.sh"], env=dict(ENV, **env))


def marked(node, key):
    return node.finish(node.begin("k3sup-status", "--json", "--marked", key))


def test_a_prepare_step_that_is_cut(node):
    """prepare.sh is killed within its second step. Run again: the first one is not done again, the second one is, and both are marked. Again: nothing is done.

    k3sup-status --marked KEY: 0 with the boot it was marked in, or 9.
    """
    first = node.sb.spawn(["setsid", "-w", "/mnt/prepare.sh"], env=dict(ENV, PREPARE_SLOW="sleep 1000"))
    until(lambda: [p for p in node.sb.processes() if p["comm"] == "sleep"], 20, "the second step")
    for process in node.sb.processes():
        if process["comm"] in ("prepare.sh", "sleep", "setsid"):
            node.sb.kill(process["pid"], 9)
    node.sb.wait(first)
    answer = marked(node, KEYS[0])
    assert answer.exit == 0 and answer["mark"] == {"key": KEYS[0], "marked": True, "boot": "this"}, answer
    answer = marked(node, KEYS[1])
    assert answer.exit == 9 and answer["mark"] == {"key": KEYS[1], "marked": False}, answer
    assert not node.sb.exists("/var/lib/prepare/settings")

    again = prepare(node)
    assert (again.status, again.out.split()) == (0, [KEYS[1]]), again.out + again.err
    assert node.sb.exists("/var/lib/prepare/settings") and marked(node, KEYS[1]).exit == 0
    third = prepare(node)
    assert (third.status, third.out) == (0, ""), third.out


def test_a_step_that_boots_the_node(node):
    """The first run asks for it, 75; so does the next one, until the node was booted; then it goes on."""
    assert prepare(node, PREPARE_REBOOT="1").status == 75 and prepare(node, PREPARE_REBOOT="1").status == 75
    marks = json.loads(node.sb.read(STATE_DIR + "/marks"))
    for mark in marks:
        mark["boot_id"] = "00000000-0000-0000-0000-000000000000"
    node.sb.write(STATE_DIR + "/marks", json.dumps(marks), 0o600)
    assert marked(node, "prepare-reboot-1")["mark"]["boot"] == "earlier"
    done = prepare(node, PREPARE_REBOOT="1")
    assert done.status == 0, done.out + done.err


def test_prepare_as_a_command_of_the_upgrade(node, old, new):
    """k3sup-upgrade --before-write prepare.sh FILE: 0. The mark is made while the upgrade holds the node's lock."""
    answer = node.upgrade("--before-write", "PATH=%s LD_LIBRARY_PATH=%s /mnt/prepare.sh" % (ENV["PATH"], LIBRARY), PAYLOAD)
    node.assert_upgraded(answer, old, new, node.process)
    assert answer["hooks"][0]["output"].split() == KEYS
    assert node.sb.read("/var/lib/prepare/settings") == b"prepared for v1.30.5+k3s1\n"
    assert oct(os.stat(node.sb.path(STATE_DIR + "/marks")).st_mode) == "0o100600"


def test_a_mark_is_a_word(node):
    """--mark with a blank, with nothing, or beside --payload: 2."""
    for args in (["--mark", "two words"], ["--mark", ""], ["--mark", "x" * 201], ["--mark", "a", "--marked", "a"], ["--marked", "a", "--payload", PAYLOAD]):
        assert node.finish(node.begin("k3sup-status", "--json", *args)).exit == 2, args


def test_commands_before_the_stop(node, old, new):
    """readyz.sh asks the API server: 0. Where there is no embedded etcd, etcd-snapshot.sh and etcd-health.sh have nothing to do. With one that nobody serves etcd-health.sh refuses: 3."""
    node.sb.makedirs("/var/lib/rancher/k3s/server/tls/etcd")
    answer = node.upgrade("--before-stop", "/mnt/etcd-snapshot.sh && KUBECONFIG=/var/log/k3s.yaml /mnt/readyz.sh", PAYLOAD)
    node.assert_upgraded(answer, old, new, node.process)
    assert answer["hooks"][0]["output"].split("\n")[0] == "no embedded etcd here" and answer["hooks"][0]["output"].strip().endswith("ok"), answer
    for name in ("client.crt", "client.key", "server-ca.crt"):
        if not node.sb.exists("/var/lib/rancher/k3s/server/tls/etcd/" + name):
            node.sb.write("/var/lib/rancher/k3s/server/tls/etcd/" + name, "")
    node.payload(old)
    answer = node.upgrade("--allow-downgrade", "--before-stop", "ETCD_URL=https://127.0.0.1:1 /mnt/etcd-health.sh", PAYLOAD)
    assert (answer.exit, answer.error) == (3, "K3SUP_E_HOOK") and not temps(node), answer


def test_in_a_loop_of_the_callers(node, old, new):
    """hosted FILE: upgraded, while the host's own timer went on. With SIGTERM while it stages: cancelled, nothing was changed."""
    done = node.sb.run([PROGRAMS + "/example-hosted", PAYLOAD], env=ENV)
    assert done.status == 0, done.out + done.err
    last = re.fullmatch(r"upgraded, after (\d+) ticks of other work", done.out.strip().split("\n")[-1])
    assert last and int(last[1]) >= 50, done.out  # it has stayed for a second
    assert node.content() == content_of(new) and node.assert_runs(new, but=node.process)
    again = node.sb.run([PROGRAMS + "/example-hosted", PAYLOAD], env=ENV)
    assert again.status == 0 and again.out.strip().split("\n")[-1].startswith("already so"), again.out


def test_what_a_step_before_broke_is_said(node, old, new, other):
    """Since the last upgrade somebody replaced the file; a command ends k3s. k3sup-upgrade --check FILE and the upgrade: a warning each, and no refusal because of them."""
    assert not [w for w in node.upgrade(PAYLOAD).json.get("warnings", []) if "somebody" in w]
    node.payload(other, "/opt/payload/other")
    node.install(old)
    for more in (["--check"], []):
        answer = node.upgrade(*more, "--before-stop", "kill %d; sleep 0.3" % node.main_process()["pid"], "/opt/payload/other")
        said = [w for w in answer["warnings"] if "not what the last upgrade here has installed (v1.30.5+k3s1)" in w]
        assert answer.exit == 0 and len(said) == 1, answer
    assert [w for w in answer["warnings"] if "ended while the command of --before-stop ran" in w], answer
    node.assert_runs(other)
    assert not [w for w in node.upgrade("/opt/payload/other").json.get("warnings", []) if "somebody" in w]
