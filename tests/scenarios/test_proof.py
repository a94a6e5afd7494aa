# SPDX-License-Identifier: Apache-2.0
"""What counts as proven: the new k3s runs, stays and is ready. Told apart: starting, dying, nobody there.

Each docstring says what is expected of which command.
"""
import pytest

from node import BACKUP, K3S
from node import content_of
from sandbox import until

NEW = "v1.30.5+k3s1"
# Answers every request on a port with 200 and "ok", as anybody on the node may.
IMPOSTOR = """
import socket
s = socket.create_server(("127.0.0.1", 10248))
while True:
    c, _ = s.accept()
    c.recv(4096)
    c.sendall(b"HTTP/1.0 200 OK\\r\\n\\r\\nok")
    c.close()
"""
HOSTILE = """openssl_conf = all
[all]
ssl_conf = ssl
[ssl]
system_default = tls
[tls]
MaxProtocol = TLSv1.1
VerifyCAFile = /nonexistent
"""


def a_node(make, old, new, args=("server",), **switches):
    node = make()
    node.behave(**switches)
    node.install(old)
    node.process = node.start(*args)
    node.payload(new)
    return node


def upgrade(node, *args, **more):
    return node.upgrade(*args, "/opt/payload/k3s", **more)


def probes(answer):
    return [(p["name"], p["ok"]) for p in answer["probes"]]


def assert_not_proven(node, answer, new, error):
    """Everything was done, k3s runs, and nothing is claimed."""
    assert (answer.exit, answer.error) == (11, error), answer
    assert answer["changed"] is True and node.content() == content_of(new)
    return node.assert_runs(new, but=node.process)


def test_B19_the_first_start_fails(make, old, new):
    """While somebody executes the new file, the first start may find a half-made directory and fail; the second one succeeds.

    k3sup-upgrade FILE: 0, after one more start than usual.
    """
    node = a_node(make, old, new, **{"flap@" + NEW: 1})

    answer = upgrade(node)

    node.assert_upgraded(answer, old, new, node.process, starts=3)
    assert answer["ends"] <= 1, answer


def test_C04_a_build_that_recovers(make, old, new):
    """The new build dies three times and then stays: its datastore was away for a moment.

    k3sup-upgrade FILE: 0, and the deaths are told.
    """
    node = a_node(make, old, new, **{"flap@" + NEW: 3})

    answer = upgrade(node)

    node.assert_upgraded(answer, old, new, node.process, starts=5)
    assert answer["ends"] <= 3 and answer["starts"] >= 1, answer


@pytest.mark.parametrize("how", [{"die_after_ms@" + NEW: 900, "exit_code@" + NEW: 7}, {"die_after_ms@" + NEW: 900, "die_signal@" + NEW: 11}],
                         ids=["exit", "signal"])
def test_C04_a_crash_loop(make, old, new, how):
    """The new build dies again and again. The node flickers; waiting for --timeout tells nothing more.

    k3sup-upgrade --rollback never --stable 30 --timeout 600 FILE: 6 or 11, K3SUP_E_NOT_STABLE after five deaths; how the last one ended, where the kernel tells.
    """
    node = a_node(make, old, new, **how)

    answer = upgrade(node, "--rollback", "never", stable="30", timeout="600")

    assert answer.exit in (6, 11) and answer.error == "K3SUP_E_NOT_STABLE", answer
    assert answer["ends"] == 5 and len(answer["deaths"]) == 5, answer
    assert answer.seconds < 300, "it took %.0f s" % answer.seconds
    for death in answer["deaths"]:
        assert death.get("exit_code", 7) == 7 and death.get("signal", 11) == 11 and ("signal" in death) <= ("die_signal@" + NEW in how), death
    assert node.content() == content_of(new) and node.content(BACKUP) == content_of(old)
    assert node.unit()["active"], "the supervisor was stopped"


def test_C09_slow_to_be_ready(make, old, new):
    """The version is new and the process stays, but it takes a while until it is ready: refused connections and 5xx are no failure in that time.

    k3sup-upgrade FILE: 0, and not before supervisor and kubelet have said so.
    """
    node = a_node(make, old, new, **{"ready_after_ms@" + NEW: 5000})

    answer = upgrade(node, "--timeout", "120")

    now = node.assert_upgraded(answer, old, new, node.process)
    assert probes(answer) == [("supervisor", True), ("kubelet", True)], answer["probes"]
    assert node.sb.run(["/usr/bin/python3", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:10248/healthz')"]).status == 0
    assert now["pid"] == answer["running"]["pid"]


def test_C09_never_ready(make, old, new):
    """It runs and stays, and is never ready: alive is starting, not dying. Then it becomes ready.

    k3sup-upgrade --timeout 4 FILE: 11, K3SUP_E_NOT_READY; k3s is left alone. Again, once it is ready: 0, nothing changed, resumed.
    With --probe none, or only the supervisor asked: 0.
    """
    node = a_node(make, old, new, **{"never_ready@" + NEW: 1})

    answer = upgrade(node, timeout="4")

    process = assert_not_proven(node, answer, new, "K3SUP_E_NOT_READY")
    assert ("kubelet", False) in probes(answer) and answer["ends"] == 0, answer
    assert "open-operation" in answer["flags"], answer
    assert "kubelet" in answer.message and "404" in answer.message, answer.message
    for args in (["--probe", "supervisor"], ["--probe", "none"]):
        again = upgrade(node, *args)
        assert again.exit == 0 and again["changed"] is False and node.assert_runs(new)["pid"] == process["pid"], again
    node.behave()
    node.sb.kill(process["pid"])
    until(lambda: len(node.unit()["starts"]) == 3, 20, "another start")
    again = upgrade(node)
    assert again.exit == 0 and again["changed"] is False, again


def test_probe_apiserver(make, old, new):
    """/readyz answers nobody without a credential: the node's own is used. k3sup-upgrade --probe apiserver FILE: 0, when it says ok."""
    node = a_node(make, old, new, **{"ready_after_ms@" + NEW: 2500})
    answer = upgrade(node, "--probe", "apiserver")
    node.assert_upgraded(answer, old, new, node.process)
    assert answer["probes"] == [{"name": "apiserver", "address": "127.0.0.1:6443", "ok": True, "status": 200}], answer["probes"]


def test_probe_where_no_agent_is(make, old, new):
    """--disable-agent: there is no kubelet to ask, and that is no failure. Its port is another one. k3sup-upgrade FILE: 0."""
    node = a_node(make, old, new, args=("server", "--disable-agent", "--https-listen-port", "7443"))
    answer = upgrade(node)
    node.assert_upgraded(answer, old, new, node.process)
    assert [p for p in answer["probes"] if p["ok"]] == [{"name": "supervisor", "address": "127.0.0.1:7443", "ok": True, "status": 200}]
    # Asked for by name it must be there.
    answer = upgrade(node, "--probe", "kubelet", timeout="2")
    assert (answer.exit, answer.error) == (11, "K3SUP_E_NOT_READY") and answer["changed"] is False, answer


def test_probe_of_an_agent(make, old, new):
    """k3sup-upgrade FILE on an agent: 0, the kubelet was asked."""
    node = a_node(make, old, new, args=("agent", "--server", "https://192.0.2.1:6443", "--token", "sesame"))
    answer = upgrade(node)
    node.assert_upgraded(answer, old, new, node.process)
    assert probes(answer) == [("kubelet", True)]


def test_probe_of_a_log_pair(make, old, new):
    """With --log it is a child of the k3s that is known that listens. k3sup-upgrade FILE: 0."""
    node = a_node(make, old, new, args=("server", "--log", "/var/log/k3s.log"))
    answer = upgrade(node)
    assert answer.exit == 0 and probes(answer) == [("supervisor", True), ("kubelet", True)], answer


def test_probe_answered_by_somebody_else(make, old, new):
    """Any user of the node may take a port that k3s does not use and say "ok" there: that proves nothing about k3s.

    k3sup-upgrade --probe kubelet --timeout 4 FILE: 11, K3SUP_E_NOT_READY.
    """
    node = a_node(make, old, new, args=("server", "--disable-agent"))
    impostor = node.sb.spawn(["/usr/bin/python3", "-c", IMPOSTOR], uid=65534)
    until(lambda: node.sb.run(["/usr/bin/python3", "-c", "import socket; socket.create_connection(('127.0.0.1', 10248))"]).status == 0, 20, "the impostor")

    answer = upgrade(node, "--probe", "kubelet", timeout="4")

    assert_not_proven(node, answer, new, "K3SUP_E_NOT_READY")
    assert node.sb.process(impostor["pid"])


def test_probe_does_not_heed_the_callers_openssl(make, old, new):
    """Neither OPENSSL_CONF nor SSL_CERT_FILE of the environment has a say in whom to believe. k3sup-upgrade FILE: 0."""
    node = a_node(make, old, new)
    node.sb.write("/mnt/openssl.cnf", HOSTILE)
    answer = upgrade(node, env={"OPENSSL_CONF": "/mnt/openssl.cnf", "SSL_CERT_FILE": "/nonexistent", "SSL_CERT_DIR": "/nonexistent"})
    node.assert_upgraded(answer, old, new, node.process)


def test_health_command(make, old, new):
    """--health CMD: 0 when it ends with 0, also if not at once; else 11, K3SUP_E_NOT_READY, when the time is over."""
    node = a_node(make, old, new)
    answer = upgrade(node, "--health", "echo no; exit 3", timeout="4")
    process = assert_not_proven(node, answer, new, "K3SUP_E_NOT_READY")
    assert answer["health"] == {"ok": False, "exit_code": 3, "output": "no\n"} and "status 3" in answer.message, answer

    # It counts how often it is asked, of the k3s that runs.
    command = 'echo x >>/mnt/asked; test "$(wc -l </mnt/asked)" -ge 3 && test -d "/proc/$K3SUP_PID"'
    again = upgrade(node, env={"K3SUP_HEALTH": command})
    assert again.exit == 0 and again["health"] == {"ok": True, "exit_code": 0} and again["changed"] is False, again
    assert node.sb.read("/mnt/asked") == b"x\n" * 3 and node.assert_runs(new)["pid"] == process["pid"]


def test_out_of_time_before_it_has_stayed(make, old, new):
    """--stable is longer than --timeout: 8, K3SUP_E_TIMEOUT: neither dying nor failing to be ready. Again, with time: 0."""
    node = a_node(make, old, new)
    answer = upgrade(node, stable="600", timeout="4")
    assert (answer.exit, answer.error) == (8, "K3SUP_E_TIMEOUT") and answer["changed"] is True, answer
    node.assert_runs(new, but=node.process)
    again = upgrade(node)
    assert again.exit == 0 and again["changed"] is False, again


@pytest.mark.parametrize("args", [["--probe", "all"], ["--probe", ""], ["--health", ""]])
def test_usage(make, old, args):
    """What is no probe: 2, nothing is touched."""
    node = make()
    node.install(old)
    answer = node.upgrade(*args, K3S)
    assert answer.exit == 2, answer
