# SPDX-License-Identifier: Apache-2.0
"""A new build that ends again and again: remembered, refused from then on, and undone where that is safe. What is slow is not dead."""
import re

import pytest

from node import BACKUP, STATE_DIR, asset_hash, content_of, sha256
from sandbox import until
from test_cut_runs import PAYLOAD, RENAMES, killed_at

V1, V2 = "v1.30.4+k3s1", "v1.30.5+k3s1"
DYING = {"die_after_ms@" + V2: 300, "exit_code@" + V2: 7}


def a_node(make, old, new, *args, **switches):
    node = make()
    node.behave(**switches)
    node.install(old)
    node.process = node.start(*args)
    node.payload(new)
    return node


def upgrade(node, *args, stable="20", timeout="300", **more):
    return node.upgrade(*args, PAYLOAD, stable=stable, timeout=timeout, **more)


def starts(node):
    return len(node.unit()["starts"])


def assert_rolled_back(node, answer, old, new):
    assert (answer.exit, answer.error, answer["changed"]) == (7, "K3SUP_E_ROLLED_BACK", True), answer
    assert answer["rollback"]["decision"] == "done" and answer["rollback"]["to"] == V1, answer
    assert "ended" in answer["rollback"]["reason"] and answer["rollback"]["reason"] in answer.message and V1 in answer.message
    assert answer["ends"] == 5 and len(answer["error"]["evidence"]["deaths"]) == 5, answer
    assert node.content() == content_of(old) and node.content(BACKUP) == content_of(old)
    node.assert_no_litter()
    assert "open-operation" not in answer["flags"] and "rolled-back" in answer["flags"], answer
    one, = answer["failed"]
    assert one["sha256"] == sha256(new) and one["build"]["asset_hash"] == asset_hash(new) and one["reason"] == "K3SUP_E_NOT_STABLE"
    assert one["times"] == 1 and one["back_to"]["asset_hash"] == asset_hash(old), one
    state = node.status()
    assert (state["state"], state.exit) == ("rolled-back", 0) and "--retry-failed" in state["next"], state
    offered = node.status("--payload", PAYLOAD)
    assert offered["state"] == "outdated" and "--retry-failed" in offered["next"], offered
    return node.assert_runs(old, but=node.process)


def test_B20_C04_back_to_the_build_before(make, old, new):
    """The new build dies after moments, for ever; both builds are of one minor version.

    k3sup-upgrade FILE: 7, K3SUP_E_ROLLED_BACK, the old build is installed, runs and is proven. Again: 3, K3SUP_E_FAILED_BEFORE, nothing touched; --check says so.
    Another payload is not refused.
    """
    node = a_node(make, old, new, **DYING)

    answer = upgrade(node, stable="1")

    process = assert_rolled_back(node, answer, old, new)
    steps = [s["name"] for s in answer["steps"]]
    assert steps.index("prove") < steps.index("rollback"), steps
    before = node.snapshot()
    again = upgrade(node, stable="1")
    assert (again.exit, again.error, again["changed"]) == (3, "K3SUP_E_FAILED_BEFORE", False), again
    assert again["error"]["evidence"]["failed"]["sha256"] == sha256(new) and "--retry-failed" in again.message
    check = upgrade(node, "--check")
    assert (check.exit, check.error) == (3, "K3SUP_E_FAILED_BEFORE"), check
    assert {c["name"]: c["decision"] for c in check["checks"]}["failed-before"] == "refuse"
    node.assert_nothing_changed(before, lock=True)
    assert node.assert_runs(old)["pid"] == process["pid"]


def test_C04_twenty_retries_restart_twice(make, old, new):
    """A Job tries one bad payload twenty times. k3s is restarted twice: to the new build and back; all other ends are the new build's own."""
    node = a_node(make, old, new, **DYING)
    assert upgrade(node, stable="1").exit == 7
    begun, process = starts(node), node.main_process()

    answers = [upgrade(node, stable="1") for _ in range(19)]

    assert {(a.exit, a.error) for a in answers} == {(3, "K3SUP_E_FAILED_BEFORE")}, answers
    assert starts(node) == begun and node.assert_runs(old)["pid"] == process["pid"]


@pytest.mark.parametrize("how", [{"die_at_start@" + V2: 7}, {"die_after_ms@" + V2: 3000}], ids=["never-up", "after-3-s"])
def test_C04_however_it_dies(make, old, new, how):
    """The new build never comes up, or dies after 3 s, for ever. k3sup-upgrade FILE: 7, K3SUP_E_ROLLED_BACK, after five ends, rollback done, failed has it; the old build runs. Again: 3."""
    node = a_node(make, old, new, **how)
    answer = upgrade(node, stable="4")
    process = assert_rolled_back(node, answer, old, new)
    again = upgrade(node)
    assert (again.exit, again.error) == (3, "K3SUP_E_FAILED_BEFORE") and node.assert_runs(old)["pid"] == process["pid"], again


def test_C09_ready_after_four_minutes(make, old, new, clock):
    """The new build lives, and is ready after 4 minutes, for which it imports images (by the program's clock, which goes 30 times as fast). Slow is not dead.

    k3sup-upgrade --timeout 3600 FILE: 0 after more than 3 minutes of the step prove, changed, ends 0, no rollback, nothing in failed; k3s was restarted once. k3sup-status meanwhile: flags busy.
    """
    node = a_node(make, old, new, **{"ready_after_ms@" + V2: 8000})
    run = node.begin("k3sup-upgrade", "--json", "--probe", "kubelet", "--stable", "20", "--timeout", "3600", PAYLOAD, env=clock(node, 30))
    until(lambda: [h for _, h in node.running()] == [asset_hash(new)], 10, "the new build")
    meanwhile = node.status()
    assert meanwhile["running"]["asset_hash"] == asset_hash(new) and "busy" in meanwhile["flags"] and "failed" not in meanwhile.json, meanwhile
    answer = node.finish(run)
    node.assert_upgraded(answer, old, new, node.process, restarted_by_us=False) # how long it was away is told by two clocks, and they are not the same here
    took = {s["name"]: s["ms"] for s in answer["steps"]}
    assert took["prove"] > 180000 and answer["ends"] == 0 and "rollback" not in answer.json and "failed" not in answer.json, answer


def test_another_payload_and_a_retry(make, old, new, other):
    """After a failed build: another one is taken, 0, and nothing is rolled back any more. The failed one with --retry-failed: 0 if it is well now, and it is forgotten."""
    node = a_node(make, old, new, **DYING)
    assert upgrade(node, stable="1").exit == 7
    node.behave()
    taken = node.upgrade(node.payload(other, "/opt/payload/other"))
    assert taken.exit == 0 and "rolled-back" not in taken["flags"] and "back_to" not in taken["failed"][0], taken
    # Back to the old one, and the failed one once more.
    assert node.upgrade("--rollback-now").exit == 0 and node.status()["state"] == "current"
    check = upgrade(node, "--retry-failed", "--allow-downgrade", "--check")  # the floor is the third build's
    assert check.exit == 0 and {c["name"]: c["decision"] for c in check["checks"]}["failed-before"] == "allowed", check
    assert upgrade(node, "--allow-downgrade", stable="1").error == "K3SUP_E_FAILED_BEFORE"
    answer = upgrade(node, "--retry-failed", "--allow-downgrade", stable="0.3")
    assert answer.exit == 0 and "failed" not in answer.json, answer
    assert upgrade(node, stable="0.3").exit == 0


def test_another_file_with_the_same_failing_build_is_another_payload(make, old, new):
    """The digest of the whole file counts, not the name of its archive."""
    node = a_node(make, old, new, **DYING)
    assert upgrade(node, stable="1").exit == 7
    node.behave()
    with open(new, "rb") as f:
        node.sb.write(PAYLOAD, f.read() + b"\0", 0o755)
    assert node.upgrade(PAYLOAD).exit == 0


def test_a_server_keeps_another_minor_version(make, old, minor):
    """The new build is a minor version on, and was unpacked: its server may have changed the datastore. k3sup-upgrade FILE: 11, it is left in place, decision unsafe.

    Again: 11, and no restart by us. With --rollback always on another such node: 7.
    """
    dying = {"die_after_ms@v1.31.2+k3s1": 300}
    node = a_node(make, old, minor, **dying)
    answer = upgrade(node, stable="1")
    assert (answer.exit, answer.error) == (11, "K3SUP_E_NOT_STABLE") and answer["rollback"]["decision"] == "unsafe", answer
    assert node.content() == content_of(minor) and node.content(BACKUP) == content_of(old)
    again = upgrade(node, stable="1")
    assert again.exit == 11 and again["changed"] is False and again["failed"][0]["times"] == 2, again

    node = a_node(make, old, minor, **dying)
    answer = upgrade(node, "--rollback", "always", stable="1")
    assert (answer.exit, answer["rollback"]["decision"]) == (7, "done"), answer
    node.assert_runs(old, but=node.process)


def test_an_agent_goes_back_over_a_minor_version(make, old, minor):
    """The same on an agent, which has no datastore: 7."""
    node = a_node(make, old, minor, "agent", **{"die_after_ms@v1.31.2+k3s1": 300})
    answer = upgrade(node, "--probe", "none", stable="1")
    assert (answer.exit, answer["rollback"]["decision"]) == (7, "done"), answer
    assert "agents" in answer["rollback"]["why"]
    node.assert_runs(old, but=node.process)


def test_a_build_that_was_never_unpacked_is_undone(make, old, minor):
    """The new build cannot unpack itself, whatever minor version it is: its server never saw its datastore. 7."""
    node = a_node(make, old, minor, **{"enospc@v1.31.2+k3s1": 1, "extract_delay_ms@v1.31.2+k3s1": 1000})
    answer = upgrade(node, "--no-unpack-ahead", stable="1")
    assert (answer.exit, answer["rollback"]["decision"]) == (7, "done"), answer
    assert "never unpacked" in answer["rollback"]["why"]
    node.assert_runs(old, but=node.process)


def test_a_copy_below_the_default_data_dir_may_have_run(make, old, minor):
    """The new build, of another minor version, is not unpacked in the data-dir, but somebody's `k3s kubectl` has unpacked it below the default one, where its server found it.

    k3sup-upgrade --no-unpack-ahead FILE: 11 or 6, rollback unsafe: it may have changed the datastore.
    """
    node = make()
    node.behave(**{"die_after_ms@v1.31.2+k3s1": 300})
    node.install(old)
    node.process = node.start("server", "--data-dir", "/srv/k3s")
    node.payload(minor)
    done = node.sb.run(["env", "K3S_DATA_DIR=/var/lib/rancher/k3s", PAYLOAD, "kubectl", "version", "--client"])
    assert done.status == 0 and node.sb.exists("/var/lib/rancher/k3s/data/" + asset_hash(minor)), done.err
    answer = upgrade(node, "--no-unpack-ahead", stable="1")
    assert not node.sb.exists("/srv/k3s/data/" + asset_hash(minor)), "it was unpacked where it was not to be"
    assert answer.exit in (6, 11) and answer["rollback"]["decision"] == "unsafe", answer
    assert node.content() == content_of(minor)


def test_never(make, old, new):
    """--rollback never: 6 or 11, the new build stays, and is remembered all the same."""
    node = a_node(make, old, new, **DYING)
    answer = upgrade(node, "--rollback", "never", stable="1")
    assert answer.exit in (6, 11) and answer["rollback"]["decision"] == "never", answer
    assert node.content() == content_of(new) and answer["failed"][0]["sha256"] == sha256(new)


def test_C09_alive_and_not_ready_is_starting(make, old, new):
    """A start that takes long (images are imported) is no death: 11, K3SUP_E_NOT_READY, whatever --rollback says; nothing is remembered, nothing put back."""
    node = a_node(make, old, new, **{"never_ready@" + V2: 1})
    answer = upgrade(node, "--rollback", "always", stable="0.3", timeout="4")
    assert (answer.exit, answer.error) == (11, "K3SUP_E_NOT_READY") and "rollback" not in answer.json and "failed" not in answer.json, answer
    assert node.content() == content_of(new)
    node.assert_runs(new, but=node.process)
    for seen in (answer, node.status("--payload", PAYLOAD)):
        assert seen["state"] == "starting" and seen["flags"] == ["open-operation"] and "is ready" in seen["next"], seen
    assert node.status("--expect", "current").exit == 9
    node.behave() # the switches are read at a start
    node.sb.kill(node.running()[0][0]["pid"], 9)
    until(lambda: node.status("--expect", "current").exit == 0)
    answer = upgrade(node, stable="0.3")
    assert answer.exit == 0 and answer["state"] == "current" and answer["flags"] == [], answer


def test_both_builds_fail(make, old, new):
    """The way back fails, too: 6 or 11, decision failed, and why. k3s is left to its supervisor."""
    node = a_node(make, old, new, **DYING)
    node.behave(die_after_ms=300)
    answer = upgrade(node, stable="1")
    assert answer.exit in (6, 11) and answer.error == "K3SUP_E_NOT_STABLE", answer
    assert answer["rollback"]["decision"] == "failed" and answer["rollback"]["error"] in ("K3SUP_E_NOT_STABLE", "K3SUP_E_NO_K3S"), answer
    assert node.content() == content_of(old) and node.unit()["active"]


@pytest.mark.parametrize("when", [3, 4, 5])
def test_B20_a_way_back_that_is_cut_is_finished(make, old, new, strace, when):
    """Killed at a rename after the swap: of the floor, of what is remembered, of the old file on its way back. Whatever it was, one more run with the same payload ends it: 7,
    the old build is installed, runs and is proven. And one more: 3.
    """
    node = a_node(make, old, new, **DYING)
    killed_at(node, RENAMES, when, ["--stable", "1", "--timeout", "300", PAYLOAD])
    answer = upgrade(node, stable="1")
    assert (answer.exit, answer.error) == (7, "K3SUP_E_ROLLED_BACK"), answer
    assert node.content() == content_of(old) and "open-operation" not in answer["flags"]
    node.assert_no_litter()
    assert sorted(node.sb.listdir(STATE_DIR)) == ["failed", "floor", "journal", "lock"]
    process = node.assert_runs(old, but=node.process)
    again = upgrade(node, stable="1")
    assert (again.exit, again.error) == (3, "K3SUP_E_FAILED_BEFORE") and node.assert_runs(old)["pid"] == process["pid"], again


def test_B20_a_way_back_that_is_cut_before_its_restart(make, old, new):
    """Killed when the old file is back and k3s has still to be started from it. As above; a k3s of the new build that runs just then is replaced."""
    node = a_node(make, old, new, **DYING)
    node.behave(**dict(DYING, **{"die_after_ms@" + V2: 1500}))
    run = node.begin("k3sup-upgrade", "--json", "--stable", "20", "--timeout", "300", PAYLOAD)
    until(lambda: node.content() == content_of(new), 60, "the swap")
    until(lambda: node.content() == content_of(old), 60, "the way back")
    node.sb.kill(run["pid"], 9)
    node.sb.wait(run)
    answer = upgrade(node, stable="1")
    assert (answer.exit, answer.error) == (7, "K3SUP_E_ROLLED_BACK"), answer
    node.assert_runs(old, but=node.process)
    assert upgrade(node, stable="1").exit == 3


def test_a_damaged_memory_is_a_warning(make, old, new):
    """What cannot be read refuses nothing: 0 with a warning."""
    node = a_node(make, old, new)
    assert node.upgrade("--restart", "none", "--wait-lock", "1", "--check", PAYLOAD).exit == 0
    node.sb.makedirs(STATE_DIR, 0o700)
    node.sb.write(STATE_DIR + "/failed", "{", 0o600)
    answer = node.upgrade(PAYLOAD)
    assert answer.exit == 0 and [w for w in answer["warnings"] if "failed" in w], answer


def test_metrics(make, old, new):
    """k3sup-status --output metrics: what is said in Prometheus' text form, after a build has failed. Read with the rules of that form."""
    node = a_node(make, old, new, **DYING)
    assert upgrade(node, stable="1").exit == 7
    done = node.sb.wait(node.begin("k3sup-status", "--output", "metrics"))
    lines = done.out.splitlines()
    seen = {}
    for line in lines:
        if line.startswith("#"):
            assert re.fullmatch(r"# (HELP \w+ .+|TYPE \w+ gauge)", line), line
            continue
        match = re.fullmatch(r'(\w+)(?:\{((?:\w+="[^"\\]*",?)*)\})? (\d+)', line)
        assert match and "# TYPE %s gauge" % match[1] in lines, line
        seen[match[1], match[2]] = int(match[3])
    names = {name: labels for name, labels in seen}
    assert done.status == 0 and names["k3sup_state"] == 'state="rolled-back"', done.out
    assert seen["k3sup_restart_pending", None] == 0 and seen["k3sup_failed_builds", None] == 1
    assert seen["k3sup_data_dir_bytes", None] > 1000000
    assert {labels.split(",")[0]: 'version="%s"' % V1 in labels for name, labels in seen if name == "k3sup_build_info"} == {
        'build="installed"': True, 'build="running"': True, 'build="backup"': True}, done.out
    assert names["k3sup_last_result_timestamp_seconds"] == 'verb="upgrade",result="K3SUP_E_ROLLED_BACK"'
