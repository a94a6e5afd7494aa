# SPDX-License-Identifier: Apache-2.0
"""What the programs are given, or find, and must refuse: each with its own exit status, name and sentence, and with nothing changed on disk: no content,
mode, owner, time or attribute. Where the run took the node's lock first (lock=True), /var/lib/k3sup and the file lock in it may have been made.
"""
import os
import re
import stat
import struct

import pytest

from node import K3S, PROGRAMS, STATE_DIR, content_of
from sandbox import until

PAYLOAD = "/opt/payload/k3s"


def a_node(make, old, layout="host", args=()):
    """k3s runs, nothing of ours is there yet."""
    node = make(layout)
    node.install(old)
    node.process = node.start(*args)
    return node


def assert_refused(node, old, args, exit_, name, words, lock, tool="k3sup-upgrade", **more):
    """Runs it; k3s must run on, and the disk be as before. Returns the answer."""
    before = node.snapshot()
    args = ["--json"] + (["--stable", "0.3", "--timeout", "120"] if tool == "k3sup-upgrade" else []) + list(args)
    answer = node.finish(node.begin(tool, *args, **more))
    assert (answer.exit, answer.error) == (exit_, name), answer
    for word in words:
        assert word in answer.message, "no %r in %r" % (word, answer.message)
    assert "changed" in answer.json and answer["changed"] is False
    assert answer.seconds < 60, "it waited %.1f s to refuse" % answer.seconds
    node.assert_nothing_changed(before, lock=lock)
    assert lock or not node.sb.exists(node.at(STATE_DIR))
    assert node.assert_runs(old)["pid"] == node.process["pid"]
    return answer


# ---- the payload ----

def put(content, mode=0o755, path=PAYLOAD):
    def make_it(node, new):
        node.sb.write(path, content, mode)
        return path
    return make_it


def put_fifo(node, new):
    os.mkfifo(node.sb.path(PAYLOAD), 0o644)
    return PAYLOAD


def put_directory(node, new):
    node.sb.makedirs(PAYLOAD)
    return PAYLOAD


def put_device(node, new):
    os.mknod(node.sb.path(PAYLOAD), 0o644 | stat.S_IFCHR, os.makedev(1, 5))
    return PAYLOAD


def put_dangling(node, new):
    node.sb.symlink("/opt/payload/gone", PAYLOAD)
    return PAYLOAD


def put_other_program(node, new):
    node.sb.copy("/usr/bin/true", PAYLOAD)
    return PAYLOAD


def put_program_with_a_name(node, new):
    """A program that only speaks of an archive, and of a version."""
    name = re.search(rb"(embed|build/data)/[0-9a-f]{64}\.tar\.zst", content_of(new)).group()
    node.sb.write(PAYLOAD, content_of("/usr/bin/true") + b"\0" + name + b"\0v1.30.5+k3s1\0", 0o755)
    return PAYLOAD


def put_damaged_archive(node, new):
    """Some bytes in the middle are gone and others took their place, as after a bad sector."""
    content = bytearray(content_of(new))
    content[len(content) // 2:len(content) // 2 + (1 << 18)] = b"\xff" * (1 << 18)
    node.sb.write(PAYLOAD, bytes(content), 0o755)
    return PAYLOAD


def put_other_architecture(node, new):
    """Only the header's word for the machine differs: aarch64's, or x86-64's there."""
    with open(new, "rb") as f:
        content = bytearray(f.read())
    mine, = struct.unpack_from("<H", content, 18)
    struct.pack_into("<H", content, 18, 0xb7 if mine != 0xb7 else 0x3e)
    node.sb.write(PAYLOAD, bytes(content), 0o755)
    return PAYLOAD


def put_somebodys_below_tmp(node, new):
    node.payload(new, "/tmp/k3s")
    os.chown(node.sb.path("/tmp/k3s"), 1000, 1000)
    return "/tmp/k3s"


def put_below_anybodys(node, new):
    node.payload(new)
    os.chmod(node.sb.path("/opt/payload"), 0o777)
    return PAYLOAD


def put_writable(node, new):
    return node.payload(new, mode=0o777)


def put_somebodys(node, new):
    node.payload(new)
    os.chown(node.sb.path(PAYLOAD), 1000, 1000)
    return PAYLOAD


def put_group_writable(node, new):
    node.payload(new)
    os.chmod(node.sb.path("/opt/payload"), 0o775)
    return PAYLOAD


PAYLOADS = {
    "missing": (lambda node, new: "/opt/payload/no-such-file", "K3SUP_E_PAYLOAD_MISSING", ["/opt/payload/no-such-file"]),
    "in a missing directory": (lambda node, new: "/opt/gone/k3s", "K3SUP_E_PAYLOAD_MISSING", ["/opt/gone/k3s"]),
    "dangling link": (put_dangling, "K3SUP_E_PAYLOAD_MISSING", [PAYLOAD]),
    "empty": (put(b""), "K3SUP_E_PAYLOAD_EMPTY", [PAYLOAD]),
    "directory": (put_directory, "K3SUP_E_PAYLOAD_NOT_FILE", [PAYLOAD]),
    "fifo": (put_fifo, "K3SUP_E_PAYLOAD_NOT_FILE", [PAYLOAD]),
    "device": (put_device, "K3SUP_E_PAYLOAD_NOT_FILE", [PAYLOAD]),
    "script": (put("#!/bin/sh\necho k3s version v1.30.5+k3s1\n"), "K3SUP_E_PAYLOAD_NOT_K3S", [PAYLOAD]),
    "text": (put("404: Not Found"), "K3SUP_E_PAYLOAD_NOT_K3S", [PAYLOAD]),
    "another program": (put_other_program, "K3SUP_E_PAYLOAD_NOT_K3S", [PAYLOAD]),
    "names an archive": (put_program_with_a_name, "K3SUP_E_PAYLOAD_NOT_K3S", [PAYLOAD, "there is none in it"]),
    "damaged": (put_damaged_archive, "K3SUP_E_PAYLOAD_CORRUPT", [PAYLOAD, "does not reach its end"]),
    "another architecture": (put_other_architecture, "K3SUP_E_PAYLOAD_ARCH", [PAYLOAD]),
    "somebody's below /tmp": (put_somebodys_below_tmp, "K3SUP_E_UNTRUSTED", ["/tmp/k3s"]),
    "in anybody's directory": (put_below_anybodys, "K3SUP_E_UNTRUSTED", ["/opt/payload"]),
    "in a group's directory": (put_group_writable, "K3SUP_E_UNTRUSTED", ["/opt/payload"]),
    "writable by anybody": (put_writable, "K3SUP_E_UNTRUSTED", [PAYLOAD]),
    "owned by somebody": (put_somebodys, "K3SUP_E_UNTRUSTED", [PAYLOAD]),
}


@pytest.mark.parametrize("what", PAYLOADS)
def test_payload(make, old, new, what):
    """B09 and its like. k3sup-upgrade FILE: 3, K3SUP_E_PAYLOAD_* or K3SUP_E_UNTRUSTED, and FILE or its bad component in the message. The lock was taken.
    """
    put_it, name, words = PAYLOADS[what]
    node = a_node(make, old)
    assert_refused(node, old, [put_it(node, new)], 3, name, words, lock=True)
    assert_refused(node, old, ["--payload", put_again(node, put_it, new)], 3, name, words, lock=True, tool="k3sup-status")


def put_again(node, put_it, new):
    """For a second program: what is there is still there."""
    for path in (PAYLOAD, "/tmp/k3s"):
        if node.sb.exists(path):
            return path
    return put_it(node, new)


def promised(content):
    """How many bytes an ELF file's headers speak of. Some linkers pad the file behind that, and nobody misses the padding."""
    shoff, = struct.unpack_from("<Q", content, 0x28)
    size, count = struct.unpack_from("<HH", content, 0x3a)
    ends = [shoff + size * count]
    for at in range(shoff, shoff + size * count, size):
        kind, offset, length = struct.unpack_from("<I", content, at + 4) + struct.unpack_from("<QQ", content, at + 0x18)
        ends += [offset + length] if kind != 8 else []  # NOBITS has none in the file
    return max(ends)


@pytest.mark.parametrize("part", ["1 byte", "63 bytes", "64 bytes", "4096 bytes", "half", "all but a page", "all but 1 byte"])
def test_payload_is_truncated(make, old, new, part):
    """A download that broke off. k3sup-upgrade FILE: 3; K3SUP_E_PAYLOAD_TRUNCATED, or _NOT_K3S where not even the file's header is whole."""
    with open(new, "rb") as f:
        content = f.read()
    size = promised(content)
    length = {"half": size // 2, "all but a page": size - 4096, "all but 1 byte": size - 1}.get(part) or int(part.split()[0])
    node = a_node(make, old)
    node.sb.write(PAYLOAD, content[:length], 0o755)
    name = "K3SUP_E_PAYLOAD_NOT_K3S" if length < 4 else "K3SUP_E_PAYLOAD_TRUNCATED"
    assert_refused(node, old, [PAYLOAD], 3, name, [PAYLOAD], lock=True)


def test_payload_of_a_group_is_allowed(make, old, new):
    """--allow-group-writable FILE in a directory that root's group may write: 0."""
    node = a_node(make, old)
    put_group_writable(node, new)
    node.assert_upgraded(node.upgrade("--allow-group-writable", PAYLOAD), old, new, node.process)


def test_payload_of_root_below_tmp(make, old, new):
    """In a sticky directory of root's nobody else can take away or replace what is root's: k3sup-upgrade /tmp/k3s: 0."""
    node = a_node(make, old)
    node.assert_upgraded(node.upgrade(node.payload(new, "/tmp/k3s")), old, new, node.process)


def test_payload_is_relative(make, old, new):
    """FILE is a path of the caller: k3sup-upgrade ./k3s in its directory, with --root: 0."""
    node = a_node(make, old, "tree")
    node.payload(new)
    node.assert_upgraded(node.upgrade("./k3s", cwd="/opt/payload"), old, new, node.process)


def test_payload_is_installed_already(make, old):
    """FILE is the very installed file, which runs: 0, nothing changed."""
    node = a_node(make, old)
    before = node.snapshot()
    answer = node.upgrade(K3S)
    assert answer.exit == 0 and answer["changed"] is False, answer
    node.assert_nothing_changed(before, lock=True)
    assert node.assert_runs(old)["pid"] == node.process["pid"]


# ---- the target (see B02 and B03 in test_field.py for missing files and links) ----

def readonly_directory(node):
    node.sb.ask("mount", source="/usr/local/bin", target="/usr/local/bin", flags=4096)
    node.sb.ask("mount", source="none", target="/usr/local/bin", flags=4096 | 32 | 1)


def anybodys_directory(node):
    os.chmod(node.sb.path("/usr/local/bin"), 0o777)


def groups_directory(node):
    os.chmod(node.sb.path("/usr/local"), 0o2775)
    os.chown(node.sb.path("/usr/local"), 0, 50)


def somebodys_directory(node):
    os.chown(node.sb.path("/usr/local/bin"), 1000, 0)


def anybodys_file(node):
    os.chmod(node.sb.path(K3S), 0o757)


def somebodys_file(node):
    os.chown(node.sb.path(K3S), 1000, 1000)


TARGETS = {
    "read-only": (readonly_directory, "K3SUP_E_TARGET_READONLY", [K3S, "read-only"]),
    "directory anybody may write": (anybodys_directory, "K3SUP_E_UNTRUSTED", ["/usr/local/bin"]),
    "directory a group may write": (groups_directory, "K3SUP_E_UNTRUSTED", ["/usr/local"]),
    "directory of somebody": (somebodys_directory, "K3SUP_E_UNTRUSTED", ["/usr/local/bin"]),
    "file anybody may write": (anybodys_file, "K3SUP_E_UNTRUSTED", [K3S]),
    "file of somebody": (somebodys_file, "K3SUP_E_UNTRUSTED", [K3S]),
}


@pytest.mark.parametrize("what", TARGETS)
def test_target(make, old, new, what):
    """B05 and its like: the place of the installed file cannot be written, or could be by others.

    k3sup-upgrade FILE: 3, K3SUP_E_TARGET_READONLY or K3SUP_E_UNTRUSTED with the component in the message. The lock was taken.
    """
    spoil, name, words = TARGETS[what]
    node = a_node(make, old)
    node.payload(new)
    spoil(node)
    assert_refused_late(node, old, [PAYLOAD], name, words)


def assert_refused_late(node, old, args, name, words):
    """Where only trying tells: the journal was opened, and closed again, as there is nothing to resume."""
    before = node.snapshot()
    answer = node.upgrade(*args)
    assert (answer.exit, answer.error) == (3, name), answer
    for word in words:
        assert word in answer.message, "no %r in %r" % (word, answer.message)
    assert answer["changed"] is False
    node.assert_nothing_changed(before, lock=True, journal=name == "K3SUP_E_TARGET_READONLY")
    assert name == "K3SUP_E_UNTRUSTED" or "open-operation" not in node.status()["flags"]
    assert node.assert_runs(old)["pid"] == node.process["pid"]
    return answer


@pytest.mark.parametrize("what", ["file", "directory"])
def test_B18_target_is_immutable(make, old, new, what):
    """B18: chattr +i on the installed file or its directory, for hardening: cp fails, after the node was cordoned.

    k3sup-upgrade FILE: 3, K3SUP_E_TARGET_IMMUTABLE. Made mutable again: 0.
    """
    node = make()
    done = node.sb.run(["sh", "-c", "truncate -s 64M /mnt/disk && mkfs.ext4 -q -F /mnt/disk && mount -o loop /mnt/disk /usr/local/bin"])
    if done.status != 0:
        pytest.skip("no ext4 on a loop device here: " + done.err.strip())
    try:
        node.sb.run(["rmdir", "/usr/local/bin/lost+found"])
        node.install(old)
        node.process = node.start()
        node.payload(new)
        path = K3S if what == "file" else "/usr/local/bin"
        done = node.sb.run(["chattr", "+i", path])
        assert done.status == 0, done.err

        assert_refused_late(node, old, [PAYLOAD], "K3SUP_E_TARGET_IMMUTABLE", [K3S])

        assert node.sb.run(["chattr", "-i", path]).status == 0
        node.assert_upgraded(node.upgrade(PAYLOAD), old, new, node.process)
    finally:
        node.sb.ask("umount", target="/usr/local/bin")


def test_target_is_a_mount(make, old, new):
    """The installed file is a mount of its own (a container's volume): no other file can take its name.

    k3sup-upgrade FILE: 3, K3SUP_E_TARGET_MOUNTED, nothing changed, k3s runs on.
    """
    node = a_node(make, old)
    node.payload(new)
    node.sb.ask("mount", source=K3S, target=K3S, flags=4096)
    assert_refused_late(node, old, [PAYLOAD], "K3SUP_E_TARGET_MOUNTED", [K3S, "mount"])


def test_a_groups_directory_is_allowed(make, old, new):
    """Debian's /usr/local of group staff: --allow-group-writable: 0."""
    node = a_node(make, old)
    groups_directory(node)
    node.assert_upgraded(node.upgrade("--allow-group-writable", node.payload(new)), old, new, node.process)


# ---- processes ----

def test_no_k3s_runs(make, old, new):
    """The file is an older one and nothing runs: what is wanted cannot be proven. k3sup-upgrade FILE: 4, K3SUP_E_NO_K3S; status: 0, not-running."""
    node = make()
    node.install(old)
    node.payload(new)
    before = node.snapshot()
    answer = node.upgrade(PAYLOAD)
    assert (answer.exit, answer.error) == (4, "K3SUP_E_NO_K3S") and answer["changed"] is False, answer
    assert answer["state"] == "not-running" and answer.seconds < 14, "it waited for a k3s that nobody had told to end"
    node.assert_nothing_changed(before, lock=True)
    seen = node.status()
    assert seen.exit == 0 and seen["state"] == "not-running"


def test_nothing_is_installed(make, new):
    """A node that never had k3s. k3sup-upgrade FILE: 3, K3SUP_E_TARGET_MISSING; status: 4, absent."""
    node = make()
    node.payload(new)
    before = node.snapshot()
    answer = node.upgrade(PAYLOAD)
    assert (answer.exit, answer.error) == (3, "K3SUP_E_TARGET_MISSING") and answer["changed"] is False, answer
    node.assert_nothing_changed(before, lock=True)


def test_A09_two_servers(make, old, new):
    """A second server beside the first (its supervisor died and a new one was started). Never guess.

    k3sup-upgrade FILE: 4, K3SUP_E_AMBIGUOUS; evidence.candidates lists both pids; nothing changed. status: 4, ambiguous.
    """
    node = a_node(make, old)
    second = node.start("server", "--data-dir", "/var/lib/rancher/second", name="second",
                        env={"K3S_STANDIN_PORT": "7443", "K3S_STANDIN_KUBELET_PORT": "0"})
    node.payload(new)
    before = node.snapshot()
    answer = node.upgrade(PAYLOAD)
    assert (answer.exit, answer.error) == (4, "K3SUP_E_AMBIGUOUS"), answer
    pids = sorted([node.process["pid"], second["pid"]])
    assert sorted(c["pid"] for c in answer["error"]["evidence"]["candidates"]) == pids, answer
    node.assert_nothing_changed(before, lock=True)
    assert sorted(p["pid"] for p, _ in node.running()) == pids
    seen = node.status()
    assert seen.exit == 4 and seen["state"] == "ambiguous" and seen["running"] is None
    assert sorted(p["pid"] for p in seen["processes"]) == pids


def test_A09_server_and_agent_of_one_file(make, old, new):
    """Old ARM installations run a server and an agent from one file. k3sup-upgrade FILE: 0; swapped once, both are restarted."""
    node = a_node(make, old, args=("server", "--disable-agent"))
    agent = node.start("agent", "--server", "https://192.0.2.1:6443", "--token", "sesame", "--data-dir", "/var/lib/rancher/agent", name="agent")
    answer = node.upgrade(node.payload(new))
    assert answer.exit == 0 and answer["changed"] is True, answer
    node.assert_runs(new, but=node.process, count=2)
    node.assert_runs(new, but=agent, count=2)
    assert len(answer["processes"]) == 2


def test_two_installed_files(make, old, new, other, strace):
    """A stale copy lies in another usual place. The running one's file is meant; with none running: 3, K3SUP_E_TARGET_AMBIGUOUS; --k3s decides."""
    node = make()
    node.install(old, "/opt/bin/k3s")
    node.install(other)
    node.payload(new)
    before = node.snapshot()
    answer = node.upgrade("--restart", "none", PAYLOAD)
    assert (answer.exit, answer.error) == (3, "K3SUP_E_TARGET_AMBIGUOUS"), answer
    assert sorted(answer["error"]["evidence"]["installed"]) == ["/opt/bin/k3s", K3S]
    node.assert_nothing_changed(before, lock=True)
    process = node.start(path="/opt/bin/k3s")
    stale = node.sb.describe(K3S)
    node.assert_upgraded(node.upgrade(PAYLOAD), old, new, process, path="/opt/bin/k3s")
    assert node.sb.describe(K3S) == stale, "the stale copy was touched"
    assert node.upgrade(PAYLOAD)["changed"] is False
    # Between swap and restart neither file is the one that runs: the journal tells which one it was.
    again = node.begin("k3sup-upgrade", "--json", "--allow-downgrade", node.payload(old), prefix=["strace", "-f", "-o", "/mnt/out/strace", "-e", "trace=pidfd_send_signal",
                       "-e", "inject=pidfd_send_signal:error=EPERM:signal=KILL"])
    node.sb.wait(again)
    assert node.status()["state"] == "restart-pending"
    answer = node.upgrade("--allow-downgrade", PAYLOAD)
    assert answer.exit == 0 and answer["resumed"] is True and node.content("/opt/bin/k3s") == content_of(old), answer
    node.assert_runs(old)


# ---- the lock and our own directory ----

def test_lock_is_held(make, old, new):
    """Another run is at work on the node. k3sup-upgrade FILE: 5, K3SUP_E_BUSY, at once; the evidence names the other. status: flag busy, lock.pid."""
    node = a_node(make, old)
    node.payload(new)
    first = node.begin("k3sup-upgrade", "--json", "--stable", "100", "--timeout", "200", PAYLOAD)
    until(lambda: len(node.unit()["starts"]) == 2 and node.main_process(), 10, "the first run to have restarted k3s")
    before = node.snapshot()
    answer = node.upgrade(PAYLOAD)
    assert (answer.exit, answer.error) == (5, "K3SUP_E_BUSY") and answer["changed"] is False, answer
    assert answer["error"]["evidence"]["holder"]["pid"] == first["pid"], answer
    assert answer.seconds < 60
    waited = node.upgrade("--wait-lock", "1", PAYLOAD)
    assert waited.exit == 5 and 0.9 < waited.seconds < 60, waited
    seen = node.status()
    assert seen.exit == 0 and "busy" in seen["flags"] and seen["lock"]["pid"] == first["pid"], seen
    node.assert_nothing_changed(before)
    # The kernel gives the lock back when the holder is killed; what it left open is proven by the next run.
    node.sb.kill(first["pid"], 9)
    node.sb.wait(first)
    answer = node.upgrade(PAYLOAD)
    assert answer.exit == 0 and answer["resumed"] is True and answer["changed"] is False, answer


def test_lock_cannot_be_squatted(make, old, new):
    """An unprivileged user tries to hold what the lock is made of, before and after it was made. k3sup-upgrade FILE: 0 all the same."""
    squat = ("import fcntl, os, sys, time\n"
             "got = []\n"
             "for path in ('/var/lib/k3sup', '/var/lib/k3sup/lock', '/var/lib/k3sup/journal'):\n"
             "    for flags in (os.O_RDONLY, os.O_RDWR):\n"
             "        try:\n"
             "            fd = os.open(path, flags)\n"
             "            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
             "            got.append(path)\n"
             "        except OSError:\n"
             "            pass\n"
             "try:\n"
             "    os.makedirs('/var/lib/k3sup')\n"
             "    got.append('made it')\n"
             "except OSError:\n"
             "    pass\n"
             "print(got, flush=True)\n"
             "time.sleep(60)\n")
    node = a_node(make, old)
    node.payload(new)
    for want in ((old, new), None):
        squatter = node.sb.spawn(["/usr/bin/python3", "-c", squat], uid=65534)
        until(lambda: node.sb.exists(squatter["out"]) and node.sb.read(squatter["out"]), 10, "the squatter")
        assert node.sb.read(squatter["out"]) == b"[]\n", "somebody got %s" % node.sb.read(squatter["out"])
        answer = node.upgrade(PAYLOAD)
        if want:
            node.assert_upgraded(answer, old, new, node.process)
        assert answer.exit == 0, answer


@pytest.mark.parametrize("what", ["of somebody", "writable", "a file", "a link"])
def test_state_directory_is_not_ours(make, old, new, what):
    """/var/lib/k3sup was made by somebody else before us. k3sup-upgrade FILE: 3, K3SUP_E_STATE_DIR or K3SUP_E_UNTRUSTED; nothing is written into it."""
    node = a_node(make, old)
    node.payload(new)
    if what == "a file":
        node.sb.write(STATE_DIR, "")
    elif what == "a link":
        node.sb.makedirs("/tmp/theirs")
        node.sb.symlink("/tmp/theirs", STATE_DIR)
    else:
        node.sb.makedirs(STATE_DIR, 0o777 if what == "writable" else 0o700)
        if what == "of somebody":
            os.chown(node.sb.path(STATE_DIR), 65534, 65534)
    before = node.snapshot()
    answer = node.upgrade(PAYLOAD)
    assert answer.exit == 3 and answer.error in ("K3SUP_E_STATE_DIR", "K3SUP_E_UNTRUSTED"), answer
    assert STATE_DIR in answer.message or "/tmp" in answer.message, answer.message
    node.assert_nothing_changed(before)
    assert node.assert_runs(old)["pid"] == node.process["pid"]


# ---- --root and --proc ----

@pytest.mark.parametrize("tool", ["k3sup-status", "k3sup-upgrade"])
@pytest.mark.parametrize("what, name, words", [
    (["--root", "/srv/gone"], "K3SUP_E_ROOT", ["/srv/gone"]),
    (["--root", "/etc/passwd"], "K3SUP_E_ROOT", ["/etc/passwd"]),
    (["--proc", "/srv/foreign"], "K3SUP_E_FOREIGN_PROC", ["/srv/foreign"]),
    (["--proc", "/srv"], "K3SUP_E_FOREIGN_PROC", ["/srv"]),
    (["--proc", "/srv/gone"], "K3SUP_E_FOREIGN_PROC", ["/srv/gone"]),
])
def test_root_and_proc(make, old, new, tool, what, name, words):
    """A root that is no directory; a proc of another pid namespace, whose numbers mean other processes here: 3. The lock was not taken."""
    node = a_node(make, old)
    node.payload(new)
    if what[1] == "/srv/foreign":
        node.sb.makedirs("/srv/foreign")
        node.sb.spawn(["unshare", "-pf", "--kill-child", "sh", "-c", "mount -t proc proc /srv/foreign; exec sleep 60"])
        until(lambda: node.sb.exists("/srv/foreign/1"), 5, "a second proc")
    before = node.snapshot("/srv/foreign")
    answer = node.finish(node.begin(tool, "--json", *what, *([PAYLOAD] if tool == "k3sup-upgrade" else [])))
    assert (answer.exit, answer.error) == (3, name), answer
    for word in words:
        assert word in answer.message, answer.message
    node.assert_nothing_changed(before, "/srv/foreign")
    assert not node.sb.exists(STATE_DIR)


# ---- the command line ----

USAGE = {
    "no FILE": ("k3sup-upgrade", [], "FILE"),
    "two FILEs": ("k3sup-upgrade", [PAYLOAD, PAYLOAD], "FILE"),
    "empty FILE": ("k3sup-upgrade", [""], "FILE"),
    "unknown option": ("k3sup-upgrade", ["--no-such-option", PAYLOAD], "--no-such-option"),
    "unknown short option": ("k3sup-upgrade", ["-x", PAYLOAD], "-x"),
    "a key of no rotation": ("k3sup-upgrade", ["--rotate-key", "k", PAYLOAD], "--rotate-certs"),
    "a rotation on the way back": ("k3sup-upgrade", ["--rollback-now", "--rotate-certs"], "--rotate-certs"),
    "no value": ("k3sup-upgrade", [PAYLOAD, "--timeout"], "--timeout"),
    "no number": ("k3sup-upgrade", ["--timeout", "soon", PAYLOAD], "soon"),
    "negative": ("k3sup-upgrade", ["--stable=-1", PAYLOAD], "-1"),
    "not a number at all": ("k3sup-upgrade", ["--stable", "nan", PAYLOAD], "nan"),
    "no time": ("k3sup-upgrade", ["--timeout", "0", PAYLOAD], "--timeout"),
    "unknown restart": ("k3sup-upgrade", ["--restart", "maybe", PAYLOAD], "maybe"),
    "no backup": ("k3sup-upgrade", ["--keep-backups", "0", PAYLOAD], "--keep-backups"),
    "many backups": ("k3sup-upgrade", ["--keep-backups", "4294967296", PAYLOAD], "--keep-backups"),
    "backups of a way back": ("k3sup-upgrade", ["--rollback-now", "--keep-backups", "2"], "--keep-backups"),
    "relative k3s": ("k3sup-upgrade", ["--k3s", "usr/local/bin/k3s", PAYLOAD], "--k3s"),
    "relative state-dir": ("k3sup-upgrade", ["--state-dir", "here", PAYLOAD], "--state-dir"),
    "status with FILE": ("k3sup-status", [PAYLOAD], PAYLOAD),
    "status, unknown output": ("k3sup-status", ["--output", "xml"], "xml"),
    "status, unknown option": ("k3sup-status", ["--restart", "none"], "--restart"),
}


@pytest.mark.parametrize("what", USAGE)
def test_usage(make, old, new, what):
    """Wrong on the command line: 2, EINVAL, the wrong word in the message, as JSON wherever --json stands, else one line on stderr. The lock was not taken."""
    tool, args, word = USAGE[what]
    node = make()
    node.install(old)
    node.payload(new)
    before = node.snapshot()
    for argv in (["--json"] + args, args + ["--json"]):
        if argv[-2:] == ["--timeout", "--json"]:
            continue
        answer = node.finish(node.begin(tool, *argv))
        assert (answer.exit, answer.error) == (2, "EINVAL"), answer
        assert word in answer.message, answer.message
    done = node.sb.wait(node.begin(tool, *args))
    assert done.status == 2 and done.out == "" and word in done.err and done.err.count("\n") == 1, (done.status, done.out, done.err)
    assert done.err.startswith(tool + ": ")
    node.assert_nothing_changed(before)
    assert not node.sb.exists(STATE_DIR)


def test_usage_of_states(make, old):
    """--expect takes states: an unknown one can never be met, so it is a mistake: 2."""
    node = make()
    node.install(old)
    answer = node.status("--expect", "curent")
    assert answer.exit == 2 and "curent" in answer.message, answer


@pytest.mark.parametrize("tool", ["k3sup-status", "k3sup-upgrade"])
def test_help(make, tool):
    """--help: 0, on stdout, every option with its environment twin's rule, examples; also beside nonsense that follows."""
    node = make()
    done = node.sb.wait(node.begin(tool, "--help"))
    assert done.status == 0 and done.err == "" and "Usage: " + tool in done.out and "Examples:" in done.out
    for option in ("--root", "--proc", "--data-dir", "--k3s", "--state-dir", "--timeout", "--json", "--events"):
        assert option in done.out, option


def test_environment_twins(make, old, new):
    """Every option has a K3SUP_* twin, and the option wins. A twin that makes no sense: 2, and it is named."""
    node = make("tree")
    node.install(old)
    node.payload(new)
    run = node.sb.run
    env = {"LD_LIBRARY_PATH": "/mnt/library", "K3SUP_ROOT": node.root, "K3SUP_JSON": "1"}

    def answer(tool, *args, **more):
        from node import Answer
        return Answer(run([PROGRAMS + "/" + tool] + list(args), env=dict(env, **more)))
    assert answer("k3sup-status")["node"]["root"] == node.root
    assert answer("k3sup-status", K3SUP_ROOT="/srv/gone").error == "K3SUP_E_ROOT"
    assert answer("k3sup-status", "--root", node.root, K3SUP_ROOT="/srv/gone").exit == 0
    assert answer("k3sup-status", K3SUP_PAYLOAD=PAYLOAD, K3SUP_EXPECT="not-running").exit == 0
    assert answer("k3sup-status", "--expect", "current", K3SUP_EXPECT="not-running").exit == 9
    bad = answer("k3sup-upgrade", PAYLOAD, K3SUP_TIMEOUT="soon")
    assert bad.exit == 2 and "K3SUP_TIMEOUT" in bad.message and "soon" in bad.message, bad
    assert answer("k3sup-upgrade", PAYLOAD, K3SUP_RESTART="maybe").exit == 2
    assert answer("k3sup-upgrade", "--restart", "none", PAYLOAD, K3SUP_RESTART="signal")["changed"] is True
    done = run([PROGRAMS + "/k3sup-status"], env=dict(env, K3SUP_JSON="0"))
    assert done.status == 0 and done.out.startswith("state "), "K3SUP_JSON=0 means no"


def test_text_output(make, old, new):
    """Without --json: people's text on stdout, the sentence and the name of a failure on stderr."""
    node = a_node(make, old)
    node.payload(new)
    done = node.sb.wait(node.begin("k3sup-upgrade", "--stable", "0.3", "--timeout", "20", PAYLOAD))
    assert done.status == 0 and done.out.startswith("upgraded: " + K3S) and "v1.30.5+k3s1" in done.out and done.err == "", (done.out, done.err)
    done = node.sb.wait(node.begin("k3sup-upgrade", "--stable", "0.3", "--timeout", "20", PAYLOAD))
    assert done.status == 0 and done.out.startswith("already so: "), done.out
    done = node.sb.wait(node.begin("k3sup-upgrade", "/opt/gone"))
    assert done.status == 3 and done.out == "" and "K3SUP_E_PAYLOAD_MISSING" in done.err and done.err.count("\n") == 1, (done.out, done.err)
    done = node.sb.wait(node.begin("k3sup-status"))
    assert done.status == 0 and "v1.30.5+k3s1" in done.out and "current" in done.out
