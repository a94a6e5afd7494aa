# SPDX-License-Identifier: Apache-2.0
"""The examples: a prepare step that is cut, commands for --before-stop, and an upgrade in the caller's own libuv loop."""
import json
import os
import re
import shutil

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
    until(lambda: node.sb.run(["/mnt/readyz.sh"], env={"KUBECONFIG": "/var/log/k3s.yaml"}).status == 0, 60, "the API server to be ready")
    answer = node.upgrade("--before-stop", "/mnt/etcd-snapshot.sh && KUBECONFIG=/var/log/k3s.yaml /mnt/readyz.sh", PAYLOAD)
    node.assert_upgraded(answer, old, new, node.process)
    assert answer["hooks"][0]["output"].split("\n")[0] == "no embedded etcd here" and answer["hooks"][0]["output"].strip().endswith("ok"), answer
    for name in ("client.crt", "client.key", "server-ca.crt"):
        if not node.sb.exists("/var/lib/rancher/k3s/server/tls/etcd/" + name):
            node.sb.write("/var/lib/rancher/k3s/server/tls/etcd/" + name, "")
    node.payload(old)
    answer = node.upgrade("--allow-downgrade", "--before-stop", "ETCD_URL=https://127.0.0.1:1 /mnt/etcd-health.sh", PAYLOAD)
    assert (answer.exit, answer.error) == (3, "K3SUP_E_HOOK") and not temps(node), answer


def etcd(node, name, others, client, peer):
    """A member of a real etcd, with the certificates of this node's k3s. As k3s has it, but for its peers' TLS."""
    tls = "/var/lib/rancher/k3s/server/tls/etcd/"
    return node.sb.spawn(["etcd", "--name", name, "--data-dir", "/mnt/" + name, "--logger", "zap", "--initial-cluster", ",".join("%s=http://127.0.0.1:%d" % m for m in others),
                          "--listen-client-urls", "https://127.0.0.1:%d" % client, "--advertise-client-urls", "https://127.0.0.1:%d" % client,
                          "--listen-peer-urls", "http://127.0.0.1:%d" % peer, "--initial-advertise-peer-urls", "http://127.0.0.1:%d" % peer,
                          "--client-cert-auth", "--trusted-ca-file", tls + "server-ca.crt", "--cert-file", tls + "server-client.crt", "--key-file", tls + "server-client.key"])


@pytest.mark.skipif(not shutil.which("etcd") or not shutil.which("curl"), reason="needs etcd and curl: sh tests/deps.sh install etcd")
def test_F06_etcd_is_asked_for_its_quorum(node, old, new):
    """A real etcd of two members. k3sup-upgrade --before-stop etcd-health.sh FILE: 3, K3SUP_E_HOOK, while the other one is down, for which this one refuses to answer: the cluster would go
    with it; k3s runs on. 0 while both are up, with etcd's own answer in hooks.
    """
    until(lambda: node.sb.exists("/var/lib/rancher/k3s/server/tls/etcd/client.key"), 60, "its certificates")
    members = [("here", 2380), ("there", 2390)]
    etcd(node, "here", members, 2379, 2380)
    there = etcd(node, "there", members, 2389, 2390)
    ask = ["env", "K3SUP_ROOT=/", "K3SUP_DATA_DIR=/var/lib/rancher/k3s", "/mnt/etcd-health.sh"]
    until(lambda: node.sb.run(ask).status == 0, 60, "the members to find each other")
    node.sb.kill(there["pid"], 9)
    until(lambda: node.sb.run(ask).status != 0, 60, "its end to be seen")
    answer = node.upgrade("--before-stop", "/mnt/etcd-health.sh", PAYLOAD, timeout="120")
    assert (answer.exit, answer.error, answer["changed"]) == (3, "K3SUP_E_HOOK", False) and not temps(node), answer
    assert node.content() == content_of(old) and node.assert_runs(old)["pid"] == node.process["pid"]
    etcd(node, "there", members, 2389, 2390)
    until(lambda: node.sb.run(ask).status == 0, 60, "the other one to be back")
    answer = node.upgrade("--before-stop", "/mnt/etcd-health.sh", PAYLOAD, timeout="120")
    node.assert_upgraded(answer, old, new, node.process)
    assert json.loads(answer["hooks"][0]["output"].splitlines()[-1])["health"] == "true", answer


def test_what_a_snapshot_is_asked_for(node):
    """etcd-snapshot.sh has k3s itself make a snapshot of its embedded etcd, named by the version to come; from a container in the node's own root."""
    node.sb.makedirs("/var/lib/rancher/k3s/server/db/etcd")
    node.sb.write("/usr/local/bin/said", "#!/bin/sh\necho \"$@\"\n", 0o755)
    wanted = "etcd-snapshot save --data-dir /var/lib/rancher/k3s --name before-v1.30.5-k3s1\n"
    told = {"K3SUP_DATA_DIR": "/var/lib/rancher/k3s", "K3SUP_TO": "v1.30.5+k3s1", "K3SUP_ROLE": "server", "K3SUP_K3S": "/usr/local/bin/said"}
    assert node.sb.run(["/mnt/etcd-snapshot.sh"], env=dict(told, K3SUP_ROOT="/")).out == wanted
    node.sb.makedirs("/mnt/host")
    node.sb.ask("mount", source="/", target="/mnt/host", flags=4096 | 16384)
    done = node.sb.run(["/mnt/etcd-snapshot.sh"], env=dict(told, K3SUP_ROOT="/mnt/host"))
    assert (done.status, done.out) == (0, wanted), done.err
    assert node.sb.run(["/mnt/etcd-snapshot.sh"], env=dict(told, K3SUP_ROLE="agent")).out == "no embedded etcd here\n"


def test_in_a_loop_of_the_callers(node, old, new):
    """hosted FILE: upgraded, while the host's own timer went on. With SIGTERM while it stages: cancelled, nothing was changed."""
    done = node.sb.run([PROGRAMS + "/example-hosted", PAYLOAD], env=ENV)
    assert done.status == 0, done.out + done.err
    last = re.fullmatch(r"upgraded, after (\d+) ticks of other work", done.out.strip().split("\n")[-1])
    assert last and int(last[1]) >= 50, done.out  # it has stayed for a second
    assert node.content() == content_of(new) and node.assert_runs(new, but=node.process)
    again = node.sb.run([PROGRAMS + "/example-hosted", PAYLOAD], env=ENV)
    assert again.status == 0 and again.out.strip().split("\n")[-1].startswith("already so"), again.out
