# SPDX-License-Identifier: Apache-2.0
"""What the programs are started with, and what lies in their state directory: descriptors, signals, events, journals of strange kinds."""
import json
import os
import shutil

import pytest

from node import K3S, LIBRARY, PROGRAMS, STATE_DIR, content_of
from sandbox import until

MS_BIND, MS_REC, MS_REMOUNT, MS_RDONLY = 4096, 16384, 32, 1


def a_node(make, old, new):
    node = make()
    node.install(old)
    node.process = node.start()
    node.payload(new)
    return node


PAYLOAD = "/opt/payload/k3s"


def shell(node, command, **env):
    return node.sb.run(["sh", "-c", command.replace("k3sup-", PROGRAMS + "/k3sup-", 1)], env=dict({"LD_LIBRARY_PATH": LIBRARY}, **env))


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_descriptors(make, old, new, closed):
    """Without standard output, or all three: 0 and upgraded; what is printed goes into no file of ours."""
    node = a_node(make, old, new)
    done = shell(node, "exec k3sup-upgrade --stable 0.3 --timeout 60 -v %s %s" % (PAYLOAD, closed))
    assert done.status == 0, done.err
    node.assert_runs(new, but=node.process)
    assert node.content() == content_of(new) and node.status()["flags"] == []
    assert [json.loads(node.sb.read(STATE_DIR + "/lock"))["program"]] == ["k3sup-upgrade"]


def test_events_go_nowhere_else(make, old, new):
    """--events FD where FD is not open, or only for reading: 2, and nothing is done; the library's own descriptors are not written to."""
    node = a_node(make, old, new)
    for fd, given in (("7", ""), ("3", "3</dev/null"), ("4294967303", "")):
        done = shell(node, "exec k3sup-upgrade --json --events %s %s %s" % (fd, PAYLOAD, given))
        assert done.status == 2 and json.loads(done.out)["error"]["name"] == "EINVAL" and fd in done.out, done.out
    assert shell(node, "exec k3sup-upgrade --json %s" % PAYLOAD, K3SUP_EVENTS="7").status == 2
    assert node.content() == content_of(old) and not node.sb.exists(STATE_DIR)


def test_events(make, old, new):
    """Each program's events are JSON lines, in order, and end at 100 %."""
    node = a_node(make, old, new)
    for tool in ("k3sup-upgrade --dry-run", "k3sup-upgrade --check", "k3sup-status --payload", "k3sup-upgrade --stable 0.3", "k3sup-upgrade --stable 0.3"):
        done = shell(node, "exec %s %s --events 3 3>/mnt/out/events" % (tool, PAYLOAD))
        assert done.status in (0, 9), (tool, done.err)
        events = [json.loads(line) for line in node.sb.read("/mnt/out/events").decode().splitlines()]
        percents = [e["percent"] for e in events]
        assert percents == sorted(percents) and percents[-1] == 100, (tool, percents)
        for event in events:
            assert set(event) == {"step", "percent", "done", "total", "downtime_ms", "text"} and event["text"], (tool, event)


@pytest.mark.parametrize("ignored", [False, True])
def test_hangup(make, old, new, ignored):
    """The terminal goes away while the caller's command runs: as SIGTERM, 8 and nothing is left; under nohup nothing happens."""
    node = a_node(make, old, new)
    spec = node.begin("k3sup-upgrade", "--json", "--stable", "0.3", "--timeout", "120", "--before-stop",
                      "touch /mnt/out/asked; until [ -e /mnt/out/go ]; do sleep 0.05; done", PAYLOAD, prefix=["nohup"] if ignored else [])
    until(lambda: node.sb.exists("/mnt/out/asked"))
    node.sb.kill(spec["pid"], 1)
    if ignored:
        node.sb.write("/mnt/out/go", "")
    answer = node.finish(spec)
    node.assert_no_litter()
    if ignored:
        assert answer.exit == 0, answer
        node.assert_runs(new, but=node.process)
        return
    assert (answer.exit, answer.error, answer["changed"]) == (8, "K3SUP_E_CANCELLED", False), answer
    assert node.content() == content_of(old) and node.assert_runs(old)["pid"] == node.process["pid"]
    assert not [p for p in node.sb.processes() if b"asked" in p["cmdline"]], "the command lives on"


def test_what_others_chose_does_not_move_the_cursor(make):
    """A usage error names an argument with control bytes: they are shown, not obeyed."""
    node = make()
    done = shell(node, "exec k3sup-status --mark \"$(printf 'a\\033[2Jb')\"")
    assert done.status == 2 and "\033" not in done.err and "a\\x1b[2Jb" in done.err, done.err


def journal_of(node, kind):
    path, journal = node.sb.path(STATE_DIR), node.sb.path(STATE_DIR + "/journal")
    shutil.rmtree(path, ignore_errors=True)
    os.mkdir(path, 0o700)
    if kind == "directory":
        os.mkdir(journal, 0o700)
    elif kind == "fifo":
        os.mkfifo(journal, 0o600)
    elif kind == "link":
        os.symlink("/dev/null", journal)
    else:
        with open(journal, "w") as f:
            f.truncate(1 << 33 if kind == "huge" else 0)
        os.chmod(journal, 0o644 if kind == "readable" else 0o600)
        os.chown(journal, 1000 if kind == "foreign" else 0, 0)


def test_a_journal_that_cannot_be_read(make, old, new):
    """Not ours, not a file, far too large. k3sup-status: 0, flag journal-damaged, and why. --check, --dry-run and the upgrade: 3, with one sentence, and before the
    caller's command is run; nothing is touched.
    """
    node = a_node(make, old, new)
    before = node.snapshot("/var")
    for kind, word in (("directory", "not a regular file"), ("fifo", "not a regular file"), ("link", "symbolic link"), ("huge", "bytes"), ("readable", "0644"),
                       ("foreign", "uid 1000")):
        journal_of(node, kind)
        seen = node.status("--payload", PAYLOAD)
        assert (seen.exit, seen["state"]) == (0, "outdated") and "journal-damaged" in seen["flags"], (kind, seen)
        assert [w for w in seen["warnings"] if "journal" in w and word in w], (kind, seen)
        messages = set()
        for how in ("--check", "--dry-run", "--json"):
            answer = node.upgrade(how, "--before-write", "touch /opt/asked", PAYLOAD)
            assert (answer.exit, answer.error, answer["changed"]) == (3, "K3SUP_E_STATE_DIR", False) and word in answer.message, (kind, answer)
            messages.add(answer.message)
            if how == "--check":
                assert {c["name"]: c["decision"] for c in answer["checks"]}["journal"] == "refuse", answer
        assert len(messages) == 1, messages
    node.assert_nothing_changed(before, "/var")
    assert node.assert_runs(old)["pid"] == node.process["pid"]


def test_check_says_what_the_lock_would(make, old, new):
    """A lock that others can open, /var on a medium that cannot be written: 3 of --check and of the upgrade. One that is held: --check 0, with a warning."""
    node = a_node(make, old, new)
    node.sb.makedirs(STATE_DIR, 0o700)
    node.sb.write(STATE_DIR + "/lock", "", 0o644)
    answers = [node.upgrade(how, PAYLOAD) for how in ("--check", "--json")]
    assert [(a.exit, a.error) for a in answers] == [(3, "K3SUP_E_STATE_DIR")] * 2 and all("0644" in a.message for a in answers), answers
    os.chmod(node.sb.path(STATE_DIR + "/lock"), 0o600)
    spec = node.begin("k3sup-upgrade", "--json", "--before-write", "touch /mnt/out/asked; until [ -e /mnt/out/go ]; do sleep 0.05; done; exit 1", PAYLOAD)
    until(lambda: node.sb.exists("/mnt/out/asked"))
    held = node.upgrade("--check", PAYLOAD)
    assert held.exit == 0 and {c["name"]: c["decision"] for c in held["checks"]}["lock"] == "warn", held
    node.sb.write("/mnt/out/go", "")
    assert node.finish(spec).error == "K3SUP_E_HOOK"
    shutil.rmtree(node.sb.path(STATE_DIR))
    node.sb.ask("mount", source="/var", target="/var", flags=MS_BIND | MS_REC)
    node.sb.ask("mount", source="none", target="/var", flags=MS_REMOUNT | MS_BIND | MS_RDONLY)
    for how in ("--check", "--dry-run", "--json"):
        answer = node.upgrade(how, PAYLOAD)
        assert (answer.exit, answer.error) == (3, "EROFS") and STATE_DIR in answer.message, answer
    assert node.content() == content_of(old) and node.assert_runs(old)["pid"] == node.process["pid"]
    assert node.status("--payload", PAYLOAD)["state"] == "outdated" and node.sb.exists(K3S)
