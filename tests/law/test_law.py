# SPDX-License-Identifier: Apache-2.0
"""The two-run law: random histories of cut runs, what others do meanwhile, and reboots. What is played and how it is judged is in *.c beside this."""
import os
import random
import re
import shutil
import subprocess
import tempfile

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
PROGRAM = os.path.join(os.path.abspath(os.environ.get("K3SUP_BUILD_DIR") or os.path.join(TOP, "build", "dev")), "tests", "law")
FULL = bool(os.environ.get("K3SUP_TEST_FULL"))
HISTORIES = 100000 if FULL else 150
ON_DISK = 2000 if FULL else 25
# Where each is found out soon, as the library is now; further on it is found out by one history in a hundred or so.
MUTANTS = {"no-directory-sync": 40014, "no-file-sync": 40014, "rename-by-unlink": 40054, "no-sweep": 40020,
           "entry-not-closed": 40000, "lock-not-taken": 40001, "restart-forgotten": 40079, "in-place": 40073, "certificate-first": 40003, "key-back-first": 40406,
           "no-backup-of-leafs": 40003, "entry-not-opened": 40000, "backup-gone-early": 43017, "no-key": 50004, "stop-not-noted": 60052,
           "guard-not-armed": 60012, "failure-forgotten": 60010, "left-dying": 60002, "asked-once": 60012}

pytestmark = [pytest.mark.skipif(os.geteuid() != 0, reason="needs root: k3s's files are root's"),
              pytest.mark.skipif(not os.path.exists(PROGRAM), reason="there is no " + PROGRAM + ": build first")]


def seed_from(name):
    """Anew each time where much is played; the slice is the same one each time, so that a change that breaks the law is what makes it fail."""
    seed = int(os.environ.get(name) or (random.SystemRandom().randrange(1 << 31) if FULL else 9000000))
    print("%s=%d" % (name, seed))
    return seed


def run(*args, **more):
    done = subprocess.run([str(a) for a in args], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **more)
    print(done.stdout[-6000:])
    return done


def test_one_uninterrupted_run_comes_to_what_it_comes_to_without_cuts():
    seed = seed_from("K3SUP_TEST_SEED")
    done = run(PROGRAM, "run", seed, HISTORIES, len(os.sched_getaffinity(0)) if FULL else 1)
    said = re.search(r"law: (\d+) histories from seed \d+, (\d+) cuts, (\d+) with one goal, 0 broken", done.stdout)
    assert done.returncode == 0 and said, done.stdout[-3000:]
    assert int(said.group(1)) == HISTORIES
    assert int(said.group(2)) > HISTORIES / 2, "hardly any run was cut"
    assert int(said.group(3)) > HISTORIES / 4, "hardly any history has one goal"


@pytest.mark.parametrize("mutant", sorted(MUTANTS))
def test_a_known_mistake_breaks_the_law(mutant):
    done = run(PROGRAM, "mutant", mutant, seed_from("K3SUP_TEST_SEED") if FULL else MUTANTS[mutant], 4000)
    assert done.returncode == 0 and "%s: found out" % mutant in done.stdout, done.stdout[-3000:]


@pytest.fixture
def short():
    """A directory with a short name: the trees are below it, and their paths are kept in small places."""
    path = tempfile.mkdtemp(prefix="k3l-")
    yield path
    shutil.rmtree(path)


def test_a_real_ext4_comes_to_the_same_trees(short):
    if not shutil.which("mkfs.ext4"):
        pytest.skip("needs mkfs.ext4")
    seed, image, at = seed_from("K3SUP_TEST_SEED"), os.path.join(short, "disk"), os.path.join(short, "at")
    with open(image, "wb") as f:
        f.truncate(256 << 20)
    os.mkdir(at)
    subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True)
    # The mount, and the loop device with it, is gone with its namespace.
    script = 'mount -o loop "$1" "$2" 2>/dev/null || exit 77; mkdir "$2/t"; TMPDIR=$2/t exec "$3" hash "$4" "$5"'
    disk = run("unshare", "-m", "sh", "-c", script, "-", image, at, PROGRAM, seed, ON_DISK)
    if disk.returncode == 77:
        pytest.skip("no loop device can be mounted here")
    memory = run(PROGRAM, "hash", seed, ON_DISK)
    assert disk.returncode == 0 and memory.returncode == 0, disk.stdout[-2000:] + memory.stdout[-2000:]
    assert len(memory.stdout.splitlines()) == ON_DISK
    assert disk.stdout == memory.stdout


@pytest.mark.parametrize("name", sorted(os.listdir(os.path.join(HERE, "found"))))
def test_what_was_found_once_does_not_come_back(name):
    done = run(PROGRAM, "replay", os.path.join(HERE, "found", name))
    assert done.returncode == 0 and "the law holds" in done.stdout


def test_a_script_is_played_as_it_was_printed(tmp_path):
    script = tmp_path / "script"
    with open(script, "w") as f:
        subprocess.run([PROGRAM, "print", "7"], stdout=f, check=True)
    done = run(PROGRAM, "replay", script)
    assert done.returncode == 0 and "the law holds" in done.stdout
    script.write_text("node managed=1\nupgrade build=2 cut=1000000\nsomething else\n")
    assert run(PROGRAM, "replay", script).returncode == 2
