# SPDX-License-Identifier: Apache-2.0
"""What must not be done, refused before anything is touched: by policy (which build may follow which) and by a look at the place. Each scenario asks
k3sup-upgrade --check FILE first (3, no lock, nothing on disk), then k3sup-upgrade FILE (3, the lock was taken), and then what is right.
"""
import os

import pytest

from node import BACKUP, K3S, STATE_DIR, content_of
from sandbox import difference
from test_cut_runs import temps

NOEXEC, READONLY = 8, 1


def a_node(make, installed, layout="host", path=K3S, link=None):
    """k3s runs from path; the installed file may be a link to it."""
    node = make(layout)
    node.install(installed, path)
    if link:
        node.sb.symlink(path, node.at(link))
    node.process = node.start(path=link or path)
    return node


def decisions(answer):
    return {c["name"]: c["decision"] for c in answer.json.get("checks", [])}


def assert_refused(node, installed, payload, name, check, words=(), *args):
    """By --check and by the upgrade alike. Returns the upgrade's answer."""
    before, ours = node.snapshot(), node.sb.exists(node.at(STATE_DIR))
    for lock, more in ((False, ["--check"]), (True, [])):
        answer = node.upgrade(*more, *args, payload)
        assert answer.exit == 3 and answer.error == name and answer["changed"] is False, "exit %r" % answer
        assert decisions(answer)[check] == "refuse" and len(decisions(answer)) >= 18, answer
        for word in words:
            assert word in answer.message, "no %r in %r" % (word, answer.message)
        node.assert_nothing_changed(before, lock=lock)
        assert lock or node.sb.exists(node.at(STATE_DIR)) == ours
    assert "open-operation" not in node.status()["flags"]
    assert node.assert_runs(installed)["pid"] == node.process["pid"]
    return answer


def assert_allowed(node, installed, payload, *args):
    """--check: 0 and nothing on disk; k3sup-upgrade: 0."""
    before = node.snapshot()
    answer = node.upgrade("--check", *args, payload)
    assert answer.exit == 0 and answer["changed"] is False and "refuse" not in decisions(answer).values(), answer
    node.assert_nothing_changed(before)
    answer = node.upgrade(*args, payload)
    node.assert_upgraded(answer, installed, payload_of[node.sb, payload], node.process)
    return answer


payload_of = {}


def put(node, binary, path="/opt/payload/k3s"):
    payload_of[node.sb, path] = binary
    return node.payload(binary, path)


# ---- policy ----

def test_B09_another_architecture(make, old, new):
    """The payload is for another machine; elsewhere it "was not higher than the current one", since asking it for its version failed.

    k3sup-upgrade [--check] FILE: 3, K3SUP_E_PAYLOAD_ARCH, nothing was touched.
    """
    node = a_node(make, old)
    with open(new, "rb") as f:
        content = bytearray(f.read())
    content[18] = 0x3e if content[18] == 0xb7 else 0xb7
    node.sb.makedirs("/opt/payload")
    node.sb.write("/opt/payload/k3s", bytes(content), 0o755)
    before = node.snapshot()
    for lock, more in ((False, ["--check"]), (True, [])):
        answer = node.upgrade(*more, "/opt/payload/k3s")
        assert answer.exit == 3 and answer.error == "K3SUP_E_PAYLOAD_ARCH", "exit %r" % answer
        node.assert_nothing_changed(before, lock=lock)
    assert node.assert_runs(old)["pid"] == node.process["pid"]


def test_B10_an_older_patch(make, old, new):
    """A channel moved back for some hours. It must be refused before anybody cordons or drains, and again and again; never with the node left behind.

    k3sup-upgrade [--check] OLDER: 3, K3SUP_E_POLICY_DOWNGRADE; --allow-downgrade: 0; the way back up needs no permission.
    """
    node = a_node(make, new)
    payload = put(node, old)
    assert_refused(node, new, payload, "K3SUP_E_POLICY_DOWNGRADE", "downgrade", ["v1.30.4+k3s1", "v1.30.5+k3s1"])
    assert_refused(node, new, payload, "K3SUP_E_POLICY_DOWNGRADE", "downgrade", [], "--allow-skip-minor", "--allow-package-owned")
    answer = assert_allowed(node, new, payload, "--allow-downgrade")
    assert decisions(answer)["downgrade"] == "allowed"
    assert node.upgrade(put(node, new)).exit == 0


def test_B12_a_skipped_minor(make, standin, old):
    """v1.30 to v1.32: not supported by Kubernetes, and not noticed elsewhere.

    k3sup-upgrade [--check] FILE: 3, K3SUP_E_POLICY_SKIP_MINOR; --allow-skip-minor: 0.
    """
    node = a_node(make, old)
    payload = put(node, standin("v1.32.0+k3s1"))
    assert_refused(node, old, payload, "K3SUP_E_POLICY_SKIP_MINOR", "skip-minor", ["v1.32.0+k3s1"], "--allow-downgrade")
    assert_allowed(node, old, payload, "--allow-skip-minor")


def test_B14_an_older_packaging(make, standin, old):
    """The same Kubernetes, an older k3s: +k3s2 to +k3s1, with older components.

    k3sup-upgrade [--check] FILE: 3, K3SUP_E_POLICY_PACKAGING; --allow-downgrade: 0.
    """
    node = a_node(make, standin("v1.30.4+k3s2"))
    payload = put(node, old)
    assert_refused(node, standin("v1.30.4+k3s2"), payload, "K3SUP_E_POLICY_PACKAGING", "packaging", ["+k3s1", "+k3s2"])
    assert_allowed(node, standin("v1.30.4+k3s2"), payload, "--allow-downgrade")


def test_an_agent_before_its_server(make, old, new):
    """Servers are upgraded first. Nobody knows the server's version unless it is said; then: one that is older than FILE refuses, and unknown words are a usage error.

    k3sup-upgrade [--check] --server-version V FILE on an agent: 3, K3SUP_E_POLICY_AGENT_FIRST, or 0; without it: 0 and a warning; on a server: 0.
    """
    node = make()
    node.install(old)
    node.process = node.start("agent", "--server", "https://192.0.2.1:6443", "--token", "sesame")
    payload = put(node, new)
    assert_refused(node, old, payload, "K3SUP_E_POLICY_AGENT_FIRST", "agent-before-server", ["v1.30.4+k3s1"], "--server-version", "v1.30.4+k3s1")
    assert node.upgrade("--server-version", "latest", payload).exit == 2
    answer = node.upgrade("--check", payload)
    assert answer.exit == 0 and decisions(answer)["agent-before-server"] == "warn" and any("server" in w for w in answer["warnings"]), answer
    answer = assert_allowed(node, old, payload, "--server-version", "v1.30.5+k3s1")
    assert decisions(answer)["agent-before-server"] == "pass" and not answer.json.get("warnings"), answer


def test_a_server_is_before_nobody(make, old, new):
    """k3sup-upgrade --server-version OLDER FILE on a server: 0."""
    node = a_node(make, old)
    assert_allowed(node, old, put(node, new), "--server-version", "v1.29.0+k3s1")


@pytest.mark.parametrize("ahead", [True, False], ids=["unpacked-now", "unpacked-before"])
def test_B15_a_newer_minor_that_is_an_older_build(make, standin, ahead):
    """v1.31.0 was built months before v1.30.10, so that it lacks what was mended in between. The date is in the packed program only: it is known as soon as that is unpacked.

    k3sup-upgrade FILE: 3, K3SUP_E_POLICY_BUILD_DATE with both dates, before the stop: the same process runs, the same file is installed, no temps. So says --check where it is
    unpacked, and passes where it is not. --allow-downgrade: 0. Control: a build of the same month, days older: 0.
    """
    old, new, same = standin("v1.30.10+k3s1", built="2025-02-20T10:00:00Z"), standin("v1.31.0+k3s1", built="2024-08-20T10:00:00Z"), standin("v1.31.0+k3s1", built="2025-02-03T10:00:00Z")
    node = make()
    node.install(old)
    process = node.start()
    payload = node.payload(new)
    checked = node.upgrade("--check", payload)
    assert checked.exit == 0 and decisions(checked).get("build-date") == "pass", checked
    if not ahead:
        assert node.sb.run(["env", "K3S_DATA_DIR=/var/lib/rancher/k3s", payload, "kubectl", "version", "--client"]).status == 0
    answer = node.upgrade(payload)
    assert (answer.exit, answer.error, answer["changed"]) == (3, "K3SUP_E_POLICY_BUILD_DATE", False), answer
    assert decisions(answer)["build-date"] == "refuse" and decisions(answer)["downgrade"] == "pass", answer
    assert (answer["error"]["evidence"]["installed_built"], answer["error"]["evidence"]["payload_built"]) == ("2025-02-20T10:00:00Z", "2024-08-20T10:00:00Z")
    assert node.content() == content_of(old) and node.assert_runs(old)["pid"] == process["pid"] and not temps(node)
    answer = node.upgrade("--check", payload)
    assert (answer.exit, answer.error) == (3, "K3SUP_E_POLICY_BUILD_DATE"), answer
    if ahead:
        node.assert_upgraded(node.upgrade("--allow-downgrade", payload), old, new, process)
    else:
        node.assert_upgraded(node.upgrade(node.payload(same, "/opt/payload/same")), old, same, process)


def test_B15_versions_are_compared_as_numbers(make, standin, other):
    """A comparison that was broken three times: of texts, of a version with itself, of two that were both empty.

    The order of versions is total (tests/unit/node/test-version.c tries all pairs).

    k3sup-upgrade v1.30.10 over v1.30.6: 0; back: 3. v1.31.0 over v1.30.10: 0 (--check). A torn file says nothing: what is newer than the floor goes over it, what is older does not.
    """
    ten = standin("v1.30.10+k3s1")
    node = a_node(make, other)
    assert_allowed(node, other, put(node, ten))
    older = put(node, other, "/opt/payload/older")
    answer = node.upgrade(older)
    assert (answer.exit, answer.error) == (3, "K3SUP_E_POLICY_DOWNGRADE"), answer
    answer = node.upgrade("--check", node.payload(standin("v1.31.0+k3s1"), "/opt/payload/minor"))
    assert answer.exit == 0 and decisions(answer)["downgrade"] == "pass", answer
    node.sb.write(K3S, b"torn" * 1000, 0o755)
    answer = node.upgrade(older)
    assert (answer.exit, answer.error) == (3, "K3SUP_E_POLICY_FLOOR"), answer
    assert decisions(answer)["downgrade"] == "warn" and node.content() == b"torn" * 1000
    answer = node.upgrade("/opt/payload/k3s")
    assert answer.exit == 0 and node.content() == content_of(ten), answer


# ---- the place ----

@pytest.mark.parametrize("how", ["writable", "read-only"])
def test_B04_a_store_of_the_operating_system(make, old, new, how):
    """/usr/local/bin/k3s is a link into /nix/store: what is in there is the operating system's, also where it could be written.

    k3sup-upgrade [--check] FILE: 3, K3SUP_E_TARGET_MANAGED, the message names the real file.
    """
    where = "/nix/store/0123-k3s/bin/k3s"
    node = a_node(make, old, "chroot", where, K3S)
    if how == "read-only":
        top = node.at("/nix")
        node.sb.ask("mount", source=top, target=top, flags=4096)
        node.sb.ask("mount", source="none", target=top, flags=4096 | 32 | READONLY)
    assert_refused(node, old, put(node, new), "K3SUP_E_TARGET_MANAGED", "store", [where])


@pytest.mark.parametrize("flag, name, check", [(READONLY, "K3SUP_E_TARGET_READONLY", "read-only"), (NOEXEC, "K3SUP_E_TARGET_NOEXEC", "noexec")],
                         ids=["B05 read-only", "B18 noexec"])
def test_B05_B18_the_mount_does_not_allow_it(make, old, new, flag, name, check):
    """/usr/local/bin is read-only (MicroOS, Flatcar), or noexec after a remount, which only shows when the new file does not start.

    k3sup-upgrade [--check] FILE: 3, each with its own name; mounted otherwise: 0.
    """
    node = a_node(make, old)
    payload = put(node, new)
    node.sb.ask("mount", source="/usr/local/bin", target="/usr/local/bin", flags=4096)
    node.sb.ask("mount", source="none", target="/usr/local/bin", flags=4096 | 32 | flag)
    assert_refused(node, old, payload, name, check, [check, "/usr/local/bin"])
    node.sb.ask("umount", target="/usr/local/bin")
    assert_allowed(node, old, payload)


def test_a_packages_file(make, old, new):
    """dpkg's lists name the installed file. [--check] FILE: 3, K3SUP_E_TARGET_PACKAGE_OWNED and the package's name; --allow-package-owned: 0."""
    node = a_node(make, old)
    node.sb.makedirs("/var/lib/dpkg/info")
    node.sb.write("/var/lib/dpkg/info/k3s-bin.list", "/.\n/usr/local/bin\n%s\n" % K3S)
    payload = put(node, new)
    assert_refused(node, old, payload, "K3SUP_E_TARGET_PACKAGE_OWNED", "package", ["k3s-bin"])
    assert_allowed(node, old, payload, "--allow-package-owned")


def test_another_hard_link(make, old, new):
    """Another name would stay the old file. [--check] FILE: 3, K3SUP_E_TARGET_LINKED; without it: 0, the backup is no such name."""
    node = a_node(make, old)
    os.link(node.sb.path(K3S), node.sb.path("/usr/local/bin/kubectl"))
    payload = put(node, new)
    assert_refused(node, old, payload, "K3SUP_E_TARGET_LINKED", "hard-links", [K3S])
    os.unlink(node.sb.path("/usr/local/bin/kubectl"))
    assert_allowed(node, old, payload)


def test_no_room_to_unpack(make, old, new):
    """B07's half that can be known before: the data-dir has no room for what the new k3s unpacks, so it would not start.

    k3sup-upgrade [--check] FILE: 3, K3SUP_E_DATA_DIR_SPACE, with the numbers; with room: 0.
    """
    node = a_node(make, old)
    payload = put(node, new)
    size = os.path.getsize(new)
    filler = node.sb.run(["sh", "-c", "fallocate -l $(($(stat -f -c '%%a * %%S' /var/lib/rancher) - %d)) /var/lib/rancher/filler" % (3 * size)])
    assert filler.status == 0, filler.err
    answer = assert_refused(node, old, payload, "K3SUP_E_DATA_DIR_SPACE", "data-dir-space", ["/var/lib/rancher/k3s"])
    assert answer["error"]["evidence"]["needed_bytes"] >= 4 * size > answer["error"]["evidence"]["free_bytes"]
    os.unlink(node.sb.path("/var/lib/rancher/filler"))
    assert_allowed(node, old, payload)


@pytest.mark.parametrize("layout, path", [("host", "/opt/bin/k3s"), ("chroot", "/var/usrlocal/bin/k3s")], ids=["opt", "ostree"])
def test_G05_the_copy_that_runs(make, old, new, other, layout, path):
    """The binary is in /opt/bin, with a stale copy in /usr/local/bin that comes first in PATH; or /usr/local is a link to ../var/usrlocal.

    k3sup-upgrade FILE: 0; installed.path is the file that runs, the stale one is left alone and told of (stale), with the links that lead to it.
    """
    node = make(layout)
    stale = None
    if layout == "host":
        node.install(other)
        node.sb.symlink("k3s", "/usr/local/bin/kubectl")
        node.sb.symlink("k3s", "/opt/bin/crictl")
        stale = node.sb.snapshot(["/usr/local"])
    else:
        node.sb.run(["sh", "-c", "rm -r %s && ln -s ../var/usrlocal %s" % (node.at("/usr/local"), node.at("/usr/local"))])
    node.install(old, path)
    node.process = node.start(path=path if layout == "host" else K3S)
    payload = put(node, new)
    assert node.upgrade("--check", payload)["installed"]["path"] == path
    answer = node.upgrade(payload)
    node.assert_upgraded(answer, old, new, node.process, path=path)
    assert stale is None or not difference(stale, node.sb.snapshot(["/usr/local"])), "the stale copy was touched"
    told = [(s["path"], s["version"], s["links"]) for s in answer.json.get("stale", [])]
    assert told == ([(K3S, "v1.30.6+k3s1", ["/usr/local/bin/kubectl"])] if stale else []), told
    assert node.status().json.get("stale") == answer.json.get("stale")


# ---- the check itself ----

def test_check_needs_no_privileges(make, old, new):
    """As nobody: k3sup-upgrade --check FILE: 0 where all is well, 3 for what is not, nothing on disk."""
    node = a_node(make, old)
    payload, older = put(node, new), node.payload(old, "/opt/payload/older")
    assert node.upgrade(payload).exit == 0
    node.install(new)
    before = node.snapshot()
    answer = node.finish(node.begin("k3sup-upgrade", "--json", "--check", payload, uid=65534))
    assert answer.exit == 0 and decisions(answer) == {"already-so": "pass"}, answer
    answer = node.finish(node.begin("k3sup-upgrade", "--json", "--check", older, uid=65534))
    assert (answer.exit, answer.error) == (3, "K3SUP_E_POLICY_DOWNGRADE"), answer
    assert decisions(answer)["floor-known"] == "warn" and decisions(answer)["space"] == "pass", answer
    node.assert_nothing_changed(before)


def test_check_says_every_decision(make, old, new):
    """For people: one line per decision on stdout, the refusal on stderr."""
    node = a_node(make, new)
    node.payload(old)
    done = node.sb.wait(node.begin("k3sup-upgrade", "--check", "/opt/payload/k3s"))
    lines = done.out.splitlines()
    assert done.status == 3 and len(lines) >= 18 and "K3SUP_E_POLICY_DOWNGRADE" in done.err, (done.out, done.err)
    assert [line.split()[1] for line in lines if line.startswith("refuse")] == ["downgrade"], lines
    assert not node.sb.exists(BACKUP) and not node.sb.exists(STATE_DIR)


POLICIES = {"k3s", "arch", "downgrade", "pre-release", "packaging", "skip-minor", "agent-before-server", "floor", "build-date"}


def test_a_dry_run_says_each_step(make, old, new):
    """k3sup-upgrade --dry-run --before-stop CMD FILE: 9, every decision and each step in its order, nothing touched or run. Where the goal holds: 0 and no step.

    Where only the restart is missing: that one. Where no k3s runs: 4, as the upgrade would end.
    """
    node = a_node(make, old)
    payload = put(node, new)
    node.sb.write("/opt/payload/some.tar", b"images")
    before = node.snapshot()
    answer = node.upgrade("--dry-run", "--before-stop", "touch /tmp/ran", "--images", "/opt/payload/some.tar", payload)
    assert (answer.exit, answer["ok"], answer["changed"]) == (9, True, False), answer
    assert [p["step"] for p in answer["plan"]] == ["images", "stage", "verify", "before-stop", "unpack", "swap", "restart", "prove"], answer["plan"]
    assert str(node.main_process()["pid"]) in answer["plan"][6]["text"] and "touch /tmp/ran" in answer["plan"][3]["text"]
    assert decisions(answer)["failed-before"] == "pass" and decisions(answer)["restart"] == "pass"
    checked = node.upgrade("--check", "--images", "/opt/payload/some.tar", payload)
    assert POLICIES <= set(decisions(answer)) and decisions(checked).items() <= decisions(answer).items() and POLICIES <= set(decisions(checked)), (answer, checked)
    node.assert_nothing_changed(before)
    text = node.sb.run(["/mnt/programs/k3sup-upgrade", "--dry-run", payload], env={"LD_LIBRARY_PATH": "/mnt/library"})
    assert text.status == 9 and "would    swap" in text.out and "pass     downgrade" in text.out, text.out
    assert node.upgrade("--restart", "none", payload).exit == 0
    answer = node.upgrade("--dry-run", payload)
    assert answer.exit == 9 and [p["step"] for p in answer["plan"]] == ["restart", "prove"], answer
    assert node.upgrade(payload).exit == 0
    answer = node.upgrade("--dry-run", payload)
    assert answer.exit == 0 and answer["plan"] == [], answer

    stopped = make()
    stopped.install(old)
    answer = stopped.upgrade("--dry-run", put(stopped, new))
    assert (answer.exit, answer.error) == (4, "K3SUP_E_NO_K3S"), answer
