# SPDX-License-Identifier: Apache-2.0
"""What a user's own steps before an upgrade may have broken: k3s stopped, its certificates taken away, its file replaced by somebody else. It is said, and refuses nothing by itself."""
import os

import pytest

from node import content_of
from sandbox import until
from test_cut_runs import PAYLOAD

UNIT = "[Service]\nType=notify\nRestart=always\nKillMode=process\nExecStart=/usr/local/bin/k3s server\n"
CERTIFICATES = {"server": "/var/lib/rancher/k3s/server/tls/client-admin.crt", "agent": "/var/lib/rancher/k3s/agent/client-kubelet.crt",
                "agent elsewhere": "/srv/agent/agent/client-kubelet.crt"}
SETTLED = 100 # seconds ahead: a k3s that is younger than a minute may be making its certificates


def a_node(make, old, new, *args):
    node = make()
    node.install(old)
    node.process = node.start(*args)
    node.payload(new)
    return node


def said(answer, words):
    return [w for w in answer.json.get("warnings", []) if words in w]


def test_k3s_was_stopped(make, old, new):
    """A prepare step stopped k3s and did not start it again; its unit is there.

    k3sup-upgrade --check FILE: 0. k3sup-upgrade FILE: 4, K3SUP_E_NO_K3S. --restart none FILE: 0, the file is the new one. Each with one warning that names the unit. While k3s runs: none.
    """
    node = a_node(make, old, new)
    node.sb.makedirs("/etc/systemd/system")
    node.sb.write("/etc/systemd/system/k3s.service", UNIT)
    assert not said(node.upgrade("--check", PAYLOAD), "no k3s runs")
    node.unit(active=False)
    node.sb.kill(node.process["pid"])
    until(lambda: not node.running(), 20, "k3s to end")
    for args, expected in ((["--check"], (0, None)), ([], (4, "K3SUP_E_NO_K3S")), (["--restart", "none"], (0, None))):
        answer = node.upgrade(*args, PAYLOAD)
        assert (answer.exit, answer.error) == expected, answer
        warnings = said(answer, "no k3s runs, though k3s.service would start one")
        assert len(warnings) == 1 and "stopped" in warnings[0], answer
    assert node.content() == content_of(new) and not node.running()


@pytest.mark.parametrize("role", sorted(CERTIFICATES))
def test_certificates_were_taken_away(make, old, new, clock, role):
    """A prepare step deleted certificates under the running k3s, as people rotate them.

    k3sup-upgrade --check FILE: 0, one warning that names the first file missing. Not where they are all there; not of a k3s that was started just now. FILE: 0, with the same warning.
    """
    args = [] if role == "server" else ["agent", "--server", "https://192.0.2.1:6443", "--token", "sesame"]
    node = a_node(make, old, new, *args, *(["--data-dir", "/srv/agent"] if role == "agent elsewhere" else []))
    certificate = CERTIFICATES[role]
    if role == "server":
        until(lambda: node.sb.exists(certificate), 60, "its certificates")
    else: # one that nobody answers never gets any
        node.sb.makedirs(os.path.dirname(certificate))
        node.sb.write(certificate, "made by its server", 0o600)
    later = clock(node, seconds=SETTLED)
    check = node.finish(node.begin("k3sup-upgrade", "--json", "--check", PAYLOAD, env=later))
    assert check.exit == 0 and not said(check, "certificates"), check
    os.unlink(node.sb.path(certificate))
    assert not said(node.upgrade("--check", PAYLOAD), "certificates")
    check = node.finish(node.begin("k3sup-upgrade", "--json", "--check", PAYLOAD, env=later))
    assert check.exit == 0 and len(said(check, certificate + " of the k3s that runs is missing")) == 1, check
    answer = node.finish(node.begin("k3sup-upgrade", "--json", "--probe", "none", "--stable", "0.3", "--timeout", "60", PAYLOAD, env=later))
    assert answer.exit == 0 and len(said(answer, "its certificates were taken away")) == 1, answer
    node.assert_runs(new, but=node.process)


def test_the_file_was_replaced(make, old, new, other):
    """A prepare step, or a package, put another k3s in place since our last upgrade. k3sup-upgrade --check FILE: 0, one warning that names file and version. FILE, with a command that ends
    k3s: 0, the same warning, and one of that; after it none of both.
    """
    node = a_node(make, old, new)
    answer = node.upgrade(PAYLOAD)
    assert answer.exit == 0 and not said(answer, "somebody replaced it"), answer
    node.install(old)
    node.payload(other)
    for args in (["--check"], []):
        answer = node.upgrade(*args, "--before-stop", "kill %d; sleep 0.3" % node.main_process()["pid"], PAYLOAD)
        assert answer.exit == 0 and len(said(answer, "k3s is not what the last upgrade here has installed (v1.30.5+k3s1): somebody replaced it")) == 1, answer
    assert said(answer, "ended while the command of --before-stop ran"), answer
    node.assert_runs(other)
    again = node.upgrade(PAYLOAD)
    assert again.exit == 0 and not said(again, "somebody") and not said(again, "--before-stop"), again
