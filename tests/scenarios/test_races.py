# SPDX-License-Identifier: Apache-2.0
"""Runs that are not alone, and runs again: many at once, from several mount namespaces on one root, some of them killed; drivers that run everything again."""
import json
import os
import random
import signal
import time

from node import BACKUP, K3S, content_of
from sandbox import LIBRARY, until

FULL = bool(os.environ.get("K3SUP_TEST_FULL"))
RACES = 2000 if FULL else 200
FILES = ("/opt/payload/k3s", "/opt/payload/other")
# Nobody but root: takes hold of all it can open on the way to the lock and of the k3s file, and of the lock itself again and again.
SQUATTER = r"""
import fcntl, os, time
held = []
for path in ("/", "/usr/local/bin", "/usr/local/bin/k3s", "/var", "/var/lib", "/var/lib/k3sup", "/var/lib/k3sup/lock"):
    try:
        fd = os.open(path, os.O_RDONLY)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        held.append(fd)
        print(path, flush=True)
    except OSError:
        pass
while True:
    try:
        fcntl.lockf(os.open("/var/lib/k3sup/lock", os.O_RDWR), fcntl.LOCK_EX | fcntl.LOCK_NB)
        print("squatted", flush=True)
    except OSError:
        pass
    time.sleep(0.05)
"""


def begin(node, file, drawn):
    """One run of a race: in this mount namespace or in one of its own."""
    return node.begin("k3sup-upgrade", "--json", "--stable", "0.05", "--timeout", "60", "--allow-downgrade", "--probe", "none", "--no-unpack-ahead", file,
                      prefix=["unshare", "-m"] if drawn.random() < 0.3 else [])


def race(node, builds, round_, drawn):
    """Runs of one race want the same build, which is not the installed one. Returns how many took part."""
    count = 20 if round_ % 50 == 49 else drawn.choice((2, 2, 2, 2, 3, 4))
    file, build = FILES[round_ % 2], builds[round_ % 2]
    starts = len(node.unit()["starts"])
    began = [begin(node, file, drawn) for _ in range(count)]
    victims = began[:1] if drawn.random() < 0.2 else []
    for spec in victims:
        time.sleep(drawn.random() * 0.1)
        if node.sb.ask("ended", pid=spec["pid"]) is None:
            try:
                node.sb.kill(spec["pid"], signal.SIGKILL)
            except AssertionError as e: # it has ended just now
                assert "ProcessLookupError" in str(e)
    answers = [node.finish(spec) for spec in began if spec not in victims]
    for spec in victims: # it may have ended before it could open its output
        assert node.sb.ask("wait", answer_within=120, pid=spec["pid"], seconds=60) is not None
    told = "race %d of %d: %r" % (round_, count, answers)
    assert all(a.exit == 0 or (a.exit == 5 and a.error == "K3SUP_E_BUSY") for a in answers), told
    acted = [a for a in answers if a.exit == 0 and a["changed"]]
    assert len(acted) == 1 or (victims and not acted), told
    if victims: # whatever it held is free again
        answer = node.upgrade("--allow-downgrade", "--probe", "none", "--no-unpack-ahead", file, stable="0.05")
        assert answer.exit == 0, "behind a killed holder: %r" % answer
    assert len(node.unit()["starts"]) == starts + 1, "k3s was started %d times; %s" % (len(node.unit()["starts"]) - starts, told)
    assert node.content() == content_of(build), told
    return count


def test_F06_races(make, old, new):
    """2 to 20 k3sup-upgrade with the same FILE at once, 200 times, from several mount namespaces, beside somebody unprivileged who holds all locks he can get, and with some
    holders killed. Exit 0 with changed true: one; the others 5, K3SUP_E_BUSY, or 0 with changed false. k3s is started once in each race; a killed holder never blocks.
    """
    seed = int(os.environ.get("K3SUP_TEST_SEED") or random.SystemRandom().randrange(1 << 31))
    print("K3SUP_TEST_SEED=%d" % seed)
    drawn = random.Random(seed)
    node = make()
    node.behave(ready_after_ms=0, term_delay_ms=0)
    node.install(old)
    node.payload(new, FILES[0])
    node.payload(old, FILES[1])
    node.start(delay=0.01)
    node.upgrade("--check", FILES[0])
    squatter = node.sb.spawn(["/usr/bin/python3", "-I", "-c", SQUATTER], uid=65534)
    until(lambda: node.sb.exists(squatter["out"]) and node.sb.read(squatter["out"]).count(b"\n") >= 3, 60, "the squatter to hold what he can get")
    sizes = [race(node, (new, old), i, drawn) for i in range(RACES)]
    assert max(sizes) == 20 and min(sizes) == 2
    said = node.sb.read(squatter["out"]).decode()
    assert K3S in said and "/var/lib/k3sup" not in said and "squatted" not in said, said
    node.assert_no_litter()
    assert sorted(node.sb.listdir("/usr/local/bin")) == ["k3s", os.path.basename(BACKUP)]
    node.sb.kill(squatter["pid"], signal.SIGKILL)


# ---- a driver that runs everything again ----


PREPARE = "echo prepared >>/mnt/out/prepared\n"
UPGRADE = "/mnt/programs/k3sup-upgrade --json --stable 3 --timeout 60 --probe none %s /opt/payload/k3s >/mnt/out/answer\n"
# What others have their first container do: end k3s whenever it is run, and wait until another one runs.
RESTART = """for p in /proc/[0-9]*; do case $(cat $p/comm 2>/dev/null) in k3s-server) kill ${p#/proc/};; esac; done
sleep 3
"""


def drive(node, script, tries=3):
    """As a Job whose pods end with the k3s that they restart: whatever the script still does when a k3s ends is cut, and all of it is run again. Returns how each try ended."""
    ended = []
    while len(ended) < tries and 0 not in ended:
        before = len(node.unit()["ends"])
        spec = node.sb.spawn(["/bin/sh", "-e", "-c", script], env={"LD_LIBRARY_PATH": LIBRARY})
        until(lambda: len(node.unit()["ends"]) > before or node.sb.ask("ended", pid=spec["pid"]) is not None, 120, "the script, or k3s, to end")
        if node.sb.ask("ended", pid=spec["pid"]) is None:
            node.sb.ask("kill", pid=-spec["pid"], signo=int(signal.SIGKILL))
        ended.append(node.sb.wait(spec).status)
        until(lambda: node.main_process(), 60, "k3s to be back")
    return ended


def driven_node(make, old, new):
    node = make()
    node.install(old)
    node.payload(new)
    node.process = node.start(delay=1)
    return node


def test_F01_a_driver_that_is_cut_by_each_restart(make, old, new):
    """k3s-io/k3s#11347: each pod of the Job is cut by the restart that it causes. sh -c "prepare; k3sup-upgrade FILE", run again up to 3 times: the first try is cut (137), the
    second one ends with 0; its answer: changed false or resumed true, state current. k3s was restarted once, and there is one backup.
    """
    node = driven_node(make, old, new)
    assert drive(node, PREPARE + UPGRADE % "") == [-9, 0]
    assert len(node.unit()["starts"]) == 2, "k3s was started %d times" % len(node.unit()["starts"])
    node.assert_runs(new, but=node.process)
    answer = json.loads(node.sb.read("/mnt/out/answer"))
    assert answer["state"] == "current" and answer["resumed"] is True and answer["exit"] == 0, answer
    assert node.content() == content_of(new) and node.content(BACKUP) == content_of(old)
    assert sorted(node.sb.listdir("/usr/local/bin")) == ["k3s", os.path.basename(BACKUP)]
    assert node.sb.read("/mnt/out/prepared").count(b"prepared") == 2 # it is run again: that is what it has to stand


def test_F01_control_a_first_container_that_restarts(make, old, new):
    """The same driver with a first step as in the report, which restarts k3s whenever it is run: three tries, all cut, and the upgrade is never reached."""
    node = driven_node(make, old, new)
    assert drive(node, RESTART + PREPARE + UPGRADE % "") == [-9, -9, -9]
    assert len(node.unit()["starts"]) == 4 and node.content() == content_of(old)
    assert not node.sb.exists("/mnt/out/prepared")


def test_F02_again_after_success(make, old, new):
    """A second and a third pod after a success: k3sup-upgrade FILE ends with 0, changed false; the same k3s runs, and nothing on disk is touched."""
    node = driven_node(make, old, new)
    first = node.upgrade("/opt/payload/k3s")
    node.assert_upgraded(first, old, new, node.process)
    before, process = node.snapshot(), node.assert_runs(new)
    for _ in range(3):
        answer = node.upgrade("/opt/payload/k3s")
        assert answer.exit == 0 and answer["changed"] is False and answer["state"] == "current", answer
        node.assert_nothing_changed(before, lock=True)
        assert node.assert_runs(new)["pid"] == process["pid"] and len(node.unit()["starts"]) == 2
