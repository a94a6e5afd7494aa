# SPDX-License-Identifier: Apache-2.0
"""certs_cut.py's campaigns: a slice of the points in every run, all of them with K3SUP_TEST_FULL=1; and programs with one mistake each."""
import os
import re
import shutil
import subprocess
import sys
import tempfile

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
from certs_cut import KEPT, everything, leaf_set, leafs, whole_node  # noqa: E402
from every_syscall import ERRNOS  # noqa: E402

TOP = os.path.dirname(os.path.dirname(HERE))
BUILD = os.path.abspath(os.environ.get("K3SUP_BUILD_DIR") or os.path.join(TOP, "build", "dev"))
FULL = bool(os.environ.get("K3SUP_TEST_FULL"))
# Every how many-th point is struck in an ordinary run, by a kill and by each error. A rotation makes four times as many calls, and one with an upgrade still more.
SLICES = {"retire": (61, 211), "restore": (61, 211), "rotate": (17, 2203), "upgrade": (31, 2803)}
PLAN = [(verb, fault, 1 if FULL else SLICES[verb][fault != "KILL"]) for verb in SLICES for fault in ("KILL",) + ERRNOS]
# Allocations, once and from there on; those of retire and restore are alloc.c's.
PLAN += [(verb, fault, 1 if FULL else 2801) for verb in ("rotate", "upgrade") for fault in ("memory", "memory+")]
WORKERS = 2 if FULL else 1
# The mistake, at which points it is looked for (0: it shows without a fault), and how it shows.
MISTAKES = [("wrong-order", 1, "a key without its certificate"), ("no-fsync", 0, "was not synced after"), ("new-ca", 0, "an authority is not what it was"),
            ("open-copy", 0, "client-admin.key was made with mode 0644"), ("plain-copy", 1, "a key that does not fit"), ("no-guard", 13, "nobody has started k3s again"),
            ("twice", 0, "k3s was started 3 times"), ("no-key", 201, "a third run changes something")]

pytestmark = [pytest.mark.skipif(os.geteuid() != 0, reason="needs root for namespaces"), pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")]


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    """The program for a verb, or a mistake."""
    out = str(tmp_path_factory.mktemp("driver") / "driver-certs")
    subprocess.check_call(["cc", "-I", os.path.join(TOP, "include"), "-o", out, os.path.join(HERE, "driver-certs.c"), "-L", BUILD, "-lk3sup"])
    return lambda verb: os.path.join(BUILD, "tests", "driver-rotate") if verb in ("rotate", "upgrade", "no-guard", "twice", "no-key") else out


def campaign(driver, verb, fault, step, **how):
    """(points, struck, bad) of all workers, and what they said."""
    env = dict(os.environ, LD_LIBRARY_PATH=BUILD, PYTHONDONTWRITEBYTECODE="1", **how)
    argv = ["unshare", "-pfm", "--mount-proc", "--kill-child", sys.executable, os.path.join(HERE, "certs_cut.py"), driver(verb), verb, fault, str(step)]
    began = [subprocess.Popen(argv + [str(i), str(WORKERS)], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace") for i in range(WORKERS)]
    said = [p.communicate()[0] for p in began]
    print("\n".join(said))
    ends = [re.search(r"^(\d+) points, (\d+) struck, (\d+) bad$", one, flags=re.M) for one in said]
    assert all(ends) and not any(p.returncode for p in began), said
    return [sum(int(end[i]) for end in ends) for i in (1, 2, 3)], "\n".join(said)


@pytest.mark.parametrize("verb,fault,step", PLAN, ids=["%s-%s" % (verb, fault) for verb, fault, _ in PLAN])
def test_every_point(driver, verb, fault, step):
    (points, struck, bad), said = campaign(driver, verb, fault, step)
    assert points > 5 and struck == points and bad == 0, said


@pytest.mark.parametrize("fault", ("KILL", "EIO"))
def test_as_strace_strikes(driver, fault):
    """What strikes where the driver cannot do it itself; and OpenSSL's look for engines, which the driver has behind it before it strikes."""
    (points, struck, bad), said = campaign(driver, "rotate", fault, 1801, K3SUP_CUT_BY="strace")
    assert points > 5 and struck == points and bad == 0, said


@pytest.mark.parametrize("verb,step,how", MISTAKES, ids=[m[0] for m in MISTAKES])
def test_a_mistake_is_found_out(driver, verb, step, how):
    """Programs with one mistake each: what the campaign looks at would show them."""
    (_, _, bad), said = campaign(driver, verb, "KILL", step)
    assert bad > 0 and how in said, said


def slow(top, ms):
    """(exit status, what was said) of a rotation on a disk that takes so many ms of the machine's clock for each sync."""
    done = subprocess.run([os.path.join(BUILD, "tests", "driver-rotate"), "slow", top, str(ms)], stdout=subprocess.PIPE, text=True)
    return done.returncode, done.stdout


@pytest.fixture
def place():
    """A directory with a short name, as the scripted machine wants it."""
    with tempfile.TemporaryDirectory(prefix="k3sup-") as path:
        yield path


@pytest.fixture
def scripted(place):
    """(directory, the node's root, its pairs) of a scripted machine as it is at first."""
    top = os.path.join(place, "top")
    assert subprocess.run([os.path.join(BUILD, "tests", "driver-rotate"), "make", top]).returncode == 10
    root = os.path.join(top, "root")
    return top, root, whole_node(root)[0]


@pytest.mark.parametrize("ms", [700, 3000, 8000])
def test_a_slow_disk(scripted, ms):
    """The backup takes longer than the guard's 30 s: k3s is started, nothing is taken away under it. One more run has its backup already, and comes to the end: the guard's time
    begins anew while files are taken away, however long that takes as a whole."""
    top, root, pairs = scripted
    before = leafs(root, pairs)

    status, said = slow(top, ms)
    assert status == 1 and "K3SUP_E_GUARD" in said, said
    assert leafs(root, pairs) == before == leaf_set(top, "a", pairs)

    status, said = slow(top, ms)
    assert status == 10 and leafs(root, pairs) == leaf_set(top, "b", pairs), said


def test_a_disk_slower_than_the_guard(scripted):
    """Each sync alone takes longer than the guard's time: K3SUP_E_GUARD each time, and what k3s was started with is whole, and is not touched any more."""
    top, root, pairs = scripted
    sets = [leaf_set(top, one, pairs) for one in "ab"]
    seen = set()

    for _ in range(8):
        status, said = slow(top, 31000)
        assert status == 1 and "K3SUP_E_GUARD" in said, said
        now = leafs(root, pairs)
        assert not [pair for pair in pairs if now[pair] not in (sets[0][pair], sets[1][pair])], said
        seen.add(sum(now[pair] == sets[1][pair] for pair in pairs))

    assert len(seen) > 1, "nothing was ever taken away: %s" % seen
    status, said = slow(top, 0)
    assert status == 10 and leafs(root, pairs) == sets[1], said


def test_who_has_nothing_to_retire_sweeps(place):
    """What a run has left that was cut while it made its backup is gone after one that finds its goal reached, and nothing else has changed."""
    top, program = os.path.join(place, "top"), os.path.join(BUILD, "tests", "driver-rotate")
    assert subprocess.run([program, "make", top]).returncode == 10
    assert subprocess.run([program, "rotate", top]).returncode == 10
    before = everything(top)
    left = os.path.join(top, "root", KEPT, ".tls-1", "server")
    os.makedirs(left, mode=0o700)

    assert everything(top) != before
    assert subprocess.run([program, "rotate", top]).returncode == 0
    assert everything(top) == before and not os.path.exists(left)
