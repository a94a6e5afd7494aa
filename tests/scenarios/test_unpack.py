# SPDX-License-Identifier: Apache-2.0
"""Unpacking ahead: what the new k3s unpacks into data/<H> is there, whole and on disk, before the old one is stopped."""
import os

import pytest

from node import DATA_EXE, asset_hash, content_of
from sandbox import until
from test_cut_runs import PAYLOAD, temps

DATA = "/var/lib/rancher/k3s/data"
V2 = "v1.30.5+k3s1"


@pytest.fixture
def node(make, old, new):
    node = make()
    node.install(old)
    node.process = node.start()
    node.payload(new)
    return node


def unpack(node, binary):
    """As anybody's `k3s kubectl` does it. Returns data/<H>."""
    made = DATA + "/" + asset_hash(binary)
    done = node.sb.run(["env", "K3S_DATA_DIR=/var/lib/rancher/k3s", PAYLOAD, "kubectl", "version", "--client"])
    assert done.status == 0, done.err
    assert node.sb.exists(node.at(made))
    return made


def tear(node, made, how):
    """What a power cut can leave of files that were never synced."""
    program = node.sb.path(node.at(made + "/bin/k3s"))
    if how == "empty":
        os.truncate(program, 0)
    elif how == "short":
        os.truncate(program, os.path.getsize(program) // 2)
    elif how == "zeroes":
        with open(program, "r+b") as f:
            f.seek(os.path.getsize(program) // 2)
            f.write(b"\0" * 65536)
    else:
        os.truncate(node.sb.path(node.at(made + "/bin/.sha256sums")), 0)


def litter(node):
    """What neither k3s nor we leave in data."""
    return [n for n in node.sb.listdir(node.at(DATA)) if len(n) != 64 and n not in (".lock", "current", "previous", "cni")]


def link(node, name):
    return os.readlink(node.sb.path(node.at(DATA + "/" + name)))


ERAS = {"2021": ("v1.21.3+k3s1", "v1.21.4+k3s1"), "2023": ("v1.26.9+k3s1", "v1.26.10+k3s1"), "2025": ("v1.34.1+k3s1", "v1.34.2+k3s1")}


@pytest.mark.parametrize("era, layout", [("2021", "host"), ("2023", "chroot"), ("2025", "host"), ("2025", "pod")])
def test_the_old_k3s_runs_while_the_new_one_unpacks(make, standin, era, layout):
    """k3sup-upgrade FILE, which takes 1.5 s to unpack: 0, unpacked.action unpack; k3s is down for less than that, since the start finds it done.

    The links are those that k3s makes for itself: from a container, too, they lead to where the host has the files.
    """
    old, new = (standin(v, era) for v in ERAS[era])
    node = make(layout)
    node.behave(**{"extract_delay_ms@" + ERAS[era][1]: 1500})
    node.install(old)
    process = node.start()
    payload = node.payload(new)
    answer = node.upgrade(payload)
    node.assert_upgraded(answer, old, new, process)
    made = DATA + "/" + asset_hash(new)
    assert answer["unpacked"]["action"] == "unpack" and answer["unpacked"]["path"] == made and answer["unpacked"]["checked"] is True, answer
    assert answer["unpacked"]["current"] == {"now": made, "before": DATA + "/" + asset_hash(old)} and link(node, "current") == made
    took = {s["name"]: s["ms"] for s in answer["steps"]}
    assert took["unpack"] < 30000 and answer["downtime_ms"] < sum(s["ms"] for s in answer["steps"] if s["name"] == "unpack"), answer
    steps = [s["name"] for s in answer["steps"]]
    assert steps.index("verify") < steps.index("unpack") < steps.index("swap") < steps.index("restart")
    if era == "2025":
        assert link(node, "cni/bridge") == made + "/bin/cni"
    assert litter(node) == []


def test_switched_off(node, old, new):
    """k3sup-upgrade --no-unpack-ahead FILE: 0, and nothing was executed: the new k3s unpacks itself at its start. --restart none: likewise."""
    made = DATA + "/" + asset_hash(new)
    answer = node.upgrade("--no-unpack-ahead", "--before-stop", "! test -e " + made, PAYLOAD)
    node.assert_upgraded(answer, old, new, node.process)
    assert "unpacked" not in answer.json and node.sb.exists(made)


def test_only_the_file(node, new):
    answer = node.upgrade("--restart", "none", PAYLOAD)
    assert answer.exit == 0 and "unpacked" not in answer.json and not node.sb.exists(DATA + "/" + asset_hash(new)), answer


def test_a_k3s_that_sees_another_root(make, old, new):
    """The node's root is a directory, and its k3s is not chrooted there: the links that it makes would lead elsewhere. 0, unpacked.action skip with the reason."""
    node = make("tree")
    node.install(old)
    process = node.start()
    answer = node.upgrade(node.payload(new))
    node.assert_upgraded(answer, old, new, process)
    assert answer["unpacked"]["action"] == "skip" and "another root" in answer["unpacked"]["reason"], answer


@pytest.mark.parametrize("ahead", [True, False], ids=["ahead", "control"])
def test_B07_the_disk_is_full_while_the_new_k3s_unpacks(make, old, new, ahead):
    """More room is needed than can be known before. k3sup-upgrade FILE: 3, K3SUP_E_DATA_DIR_SPACE, with what k3s said; the old one never stopped, no temps.

    Control, with --no-unpack-ahead: 6 or 11, the new one is down and is started again and again.
    """
    node = make()
    node.behave(**{"enospc@" + V2: 1})
    node.install(old)
    process = node.start()
    payload = node.payload(new)
    before = node.snapshot()
    if not ahead:
        answer = node.upgrade("--no-unpack-ahead", "--rollback", "never", payload)
        assert answer.exit in (6, 11) and answer["changed"] is True and node.sb.process(process["pid"]) is None, answer
        return
    answer = node.upgrade(payload)
    assert (answer.exit, answer.error, answer["changed"]) == (3, "K3SUP_E_DATA_DIR_SPACE", False), answer
    assert "no space left on device" in answer["error"]["evidence"]["said"] and answer["error"]["evidence"]["exit_status"] == 1, answer
    assert node.assert_runs(old)["pid"] == process["pid"] and answer["state"] == "outdated", answer
    assert not temps(node) and litter(node) == [] and not node.sb.exists(DATA + "/" + asset_hash(new))
    node.assert_nothing_changed(before, lock=True, journal=True, staged=True)
    node.behave()
    node.assert_upgraded(node.upgrade(payload), old, new, process)


@pytest.mark.parametrize("how", ["empty", "zeroes", "lists"])
def test_torn_by_a_power_cut(node, old, new, how):
    """data/<H> of the new build is there, and torn; k3s never looks. k3sup-upgrade FILE: 0, it is put aside and unpacked anew, and a warning says so."""
    made = unpack(node, new)
    tear(node, made, how)
    answer = node.upgrade(PAYLOAD)
    node.assert_upgraded(answer, old, new, node.process)
    assert answer["unpacked"]["action"] == "unpack" and [t["path"] for t in answer["unpacked"]["torn"]] == [made], answer
    assert answer["unpacked"]["torn"][0]["put_aside"] is True and any("torn" in w for w in answer["warnings"]), answer
    assert litter(node) == []


def test_torn_control(node, old, new):
    """Without us it dies for ever. k3sup-upgrade --no-unpack-ahead --rollback never FILE: 6, K3SUP_E_NOT_STABLE. Then FILE again: 0, as k3s's supervisor finds a whole one."""
    tear(node, unpack(node, new), "empty")
    answer = node.upgrade("--no-unpack-ahead", "--rollback", "never", PAYLOAD, stable="1")
    assert answer.exit in (6, 11) and answer["changed"] is True and node.running() == [], answer
    ends = len(node.unit()["ends"])
    until(lambda: len(node.unit()["ends"]) > ends + 3, 60, "it to die again and again")
    healed = node.upgrade(PAYLOAD)
    assert healed.exit == 0 and healed["changed"] is True and healed["unpacked"]["action"] == "unpack", healed
    node.assert_runs(new)


def test_whole_already(node, old, new):
    """Somebody ran `k3s kubectl` of the new file: 0, unpacked.action none."""
    made = unpack(node, new)
    answer = node.upgrade(PAYLOAD)
    node.assert_upgraded(answer, old, new, node.process)
    assert answer["unpacked"]["action"] == "none" and answer["unpacked"]["path"] == made and answer["unpacked"]["files"] >= 6, answer


@pytest.mark.parametrize("user", ["shim", "mount"])
def test_torn_and_used(node, old, new, user):
    """A container's shim runs from the torn directory, or a container has it mounted: it is nobody's to take away. FILE: 3, K3SUP_E_TORN names who; nothing is touched."""
    made = unpack(node, new)
    tear(node, made, "empty")
    if user == "shim":
        node.sb.spawn([made + "/bin/containerd-shim-runc-v2", "-namespace", "k8s.io", "-id", "x"])
    else:
        node.sb.spawn(["unshare", "-m", "sh", "-c", "mkdir -p /tmp/cni && mount --bind %s/bin /tmp/cni && touch /tmp/ready && sleep 1000" % made])
        until(lambda: node.sb.exists("/tmp/ready"), 30, "the mount")
    before = node.sb.snapshot([DATA])
    answer = node.upgrade(PAYLOAD)
    assert (answer.exit, answer.error, answer["changed"]) == (3, "K3SUP_E_TORN", False), answer
    assert made in answer.message and answer["error"]["evidence"]["torn"][0]["put_aside"] is False, answer
    assert "runs a program of it" in answer.message if user == "shim" else "has a mount of it" in answer.message
    after = node.sb.snapshot([DATA])
    before.pop(DATA, None), after.pop(DATA, None)
    assert before == after and node.assert_runs(old)["pid"] == node.process["pid"] and not temps(node)


def test_torn_and_no_room(node, old, new):
    """The torn one is put aside, and the new one cannot be unpacked: what was there is there again. 3; then with room: 0."""
    made = unpack(node, new)
    tear(node, made, "short")
    before = node.sb.snapshot([made])
    node.behave(**{"enospc@" + V2: 1})
    answer = node.upgrade(PAYLOAD)
    assert (answer.exit, answer.error) == (3, "K3SUP_E_DATA_DIR_SPACE"), answer
    assert node.sb.snapshot([made]) == before and litter(node) == [] and node.assert_runs(old)["pid"] == node.process["pid"]
    node.behave()
    node.assert_upgraded(node.upgrade(PAYLOAD), old, new, node.process)
    assert litter(node) == []


def test_cut_while_it_unpacks(make, old, new):
    """k3sup-upgrade is killed, and the unpacking k3s with it: the old one runs on. Once more: 0, and nothing is left of the cut."""
    node = make()
    node.behave(**{"extract_delay_ms@" + V2: 600000})
    node.install(old)
    process = node.start()
    payload = node.payload(new)
    temp = node.sb.path(DATA + "/" + asset_hash(new) + "-tmp")
    run = node.begin("k3sup-upgrade", "--json", payload)
    until(lambda: os.path.exists(temp), 10, "the unpacking to begin")
    node.sb.kill(run["pid"], 9)
    for p in node.sb.processes():
        if p["comm"] != "k3sup-upgrade" and b"version\0--client" in p["cmdline"]:
            node.sb.kill(p["pid"], 9)
    node.sb.wait(run)
    assert os.path.exists(temp) and node.assert_runs(old)["pid"] == process["pid"]
    node.behave()
    node.assert_upgraded(node.upgrade(payload, "--wait-lock", "60"), old, new, process)
    assert litter(node) == []


def test_stopped_while_it_unpacks(make, old, new):
    """Its time is over while the new k3s unpacks: 8, K3SUP_E_TIMEOUT; that k3s is gone, and what it had made; the old one runs on."""
    node = make()
    node.behave(**{"extract_delay_ms@" + V2: 600000})
    node.install(old)
    process = node.start()
    answer = node.upgrade(node.payload(new), timeout="6")
    assert (answer.exit, answer.error, answer["changed"]) == (8, "K3SUP_E_TIMEOUT", False), answer
    assert litter(node) == [] and not temps(node) and node.assert_runs(old)["pid"] == process["pid"]
    assert not [p for p in node.sb.processes() if b"version\0--client" in p["cmdline"]]


@pytest.mark.parametrize("era", ["2023", "2025"])
def test_another_data_dir(make, standin, era):
    """k3s works in a data-dir of its own, and a torn copy lies in the default one, where a release of 2023 looks first: 0, whichever it takes it is whole."""
    old, new = (standin(v, era) for v in ERAS[era])
    node = make()
    node.install(old)
    process = node.start("server", "--data-dir", "/srv/k3s")
    payload = node.payload(new)
    made = unpack(node, new)
    if node.sb.exists("/srv/k3s/data/" + asset_hash(new)):
        node.sb.run(["rm", "-r", "/srv/k3s/data/" + asset_hash(new)])
    if not node.sb.exists(made):
        pytest.fail("no copy in the default place")
    tear(node, made, "empty")
    answer = node.upgrade(payload)
    now = node.assert_upgraded(answer, old, new, process)
    assert [t["path"] for t in answer["unpacked"]["torn"]] == [made] and not node.sb.exists(made), answer
    assert answer["unpacked"]["path"] == "/srv/k3s/data/" + asset_hash(new) and DATA_EXE.search(now["exe"]).group(1) == asset_hash(new)
    assert now["exe"].startswith("/srv/k3s/"), now


def a_server_and_an_agent(make, old):
    """Each with a data-dir of its own, the agent's on a file system of its own."""
    node = make()
    node.install(old)
    server = node.start("server", "--disable-agent", "--data-dir", "/srv/server")
    node.sb.makedirs("/srv/agent")
    node.sb.ask("mount", source="agent", target="/srv/agent", kind="tmpfs", data="size=256m")
    agent = node.start("agent", "--server", "https://192.0.2.1:6443", "--token", "sesame", "--data-dir", "/srv/agent", name="agent")
    return node, server, agent


def test_a_data_dir_each(make, old, new):
    """A server and an agent that run one file, with two data-dirs. k3sup-upgrade --dry-run FILE: two steps unpack. FILE: 0, unpacked into both, the second one in unpacked.others."""
    node, server, agent = a_server_and_an_agent(make, old)
    payload = node.payload(new)
    plan = [p["text"] for p in node.upgrade("--dry-run", payload)["plan"] if p["step"] == "unpack"]
    answer = node.upgrade(payload)
    assert answer.exit == 0 and answer["changed"] is True, answer
    node.assert_runs(new, but=server, count=2)
    node.assert_runs(new, but=agent, count=2)
    seen = [answer["unpacked"]] + answer["unpacked"]["others"]
    made = ["/srv/%s/data/%s" % (name, asset_hash(new)) for name in ("server", "agent")]
    assert sorted((u["action"], u["path"], u["checked"]) for u in seen) == sorted(("unpack", path, True) for path in made), answer
    assert len(plan) == 2 and all(any(os.path.dirname(os.path.dirname(path)) in text for text in plan) for path in made), plan
    steps = [s["name"] for s in answer["steps"]]
    assert steps.count("unpack") == 2 and steps.index("unpack") < steps.index("swap"), steps
    again = node.upgrade(payload)
    assert again.exit == 0 and again["changed"] is False, again


def shrink(node, size):
    """The agent's data-dir has so many bytes beside what is used."""
    used = sum(os.lstat(os.path.join(where, n)).st_blocks * 512 for where, _, names in os.walk(node.sb.path("/srv/agent")) for n in names)
    node.sb.ask("mount", source="agent", target="/srv/agent", flags=32, data="size=%d" % (used + size))


@pytest.mark.parametrize("known", [True, False], ids=["known", "found"])
def test_B07_no_room_in_the_second_data_dir(make, old, new, known):
    """The disk of the agent's data-dir has not enough room for the new build: that is counted before. k3sup-upgrade [--check] FILE: 3, K3SUP_E_DATA_DIR_SPACE, with the numbers; nothing
    was written. Or somebody fills it after that: the same error by the kernel's word; neither k3s was ended, the file is the old one, and nothing of the attempt is left. With room: 0.
    """
    node, server, agent = a_server_and_an_agent(make, old)
    payload = node.payload(new)
    shrink(node, os.path.getsize(new) * (3 if known else 5))
    before = node.snapshot()
    fill = ["--before-stop", "dd if=/dev/zero of=/srv/agent/filler bs=64k; truncate -s -128K /srv/agent/filler"]
    for more in [["--check"], []] if known else [fill]:
        answer = node.upgrade(*more, payload)
        assert (answer.exit, answer.error, answer["changed"]) == (3, "K3SUP_E_DATA_DIR_SPACE", False), answer
        if known:
            assert "/srv/agent" in answer.message and ["refuse"] == [c["decision"] for c in answer["checks"] if c["name"] == "second-data-dir-space"], answer
            assert answer["error"]["evidence"]["needed_bytes"] >= 4 * os.path.getsize(new) > answer["error"]["evidence"]["free_bytes"], answer
            node.assert_nothing_changed(before, lock=not more)
        else:
            assert "no space left on device" in answer["error"]["evidence"]["said"], answer
    assert node.content() == content_of(old) and not temps(node)
    assert sorted(p["pid"] for p, _ in node.running()) == sorted([server["pid"], agent["pid"]])
    assert [n for n in node.sb.listdir("/srv/agent/data") if asset_hash(new) in n] == []
    node.sb.ask("mount", source="agent", target="/srv/agent", flags=32, data="size=256m")
    answer = node.upgrade(payload)
    assert answer.exit == 0 and len(answer["unpacked"]["others"]) == 1, answer
    node.assert_runs(new, but=agent, count=2)


def test_labels_as_the_running_builds(node, old, new):
    """What is made from a container may get other SELinux labels than what k3s makes: files of the same name get those of the running build."""
    bin_ = node.sb.path(DATA + "/" + asset_hash(old) + "/bin/runc")
    try:
        os.setxattr(bin_, "security.selinux", b"system_u:object_r:container_runtime_exec_t:s0\0")
    except OSError as e:
        pytest.skip("labels cannot be set here: %s" % e)
    answer = node.upgrade(PAYLOAD)
    node.assert_upgraded(answer, old, new, node.process)
    label = os.getxattr(node.sb.path(DATA + "/" + asset_hash(new) + "/bin/runc"), "security.selinux")
    assert label == b"system_u:object_r:container_runtime_exec_t:s0\0" and answer["unpacked"]["relabelled"] == 1, answer
