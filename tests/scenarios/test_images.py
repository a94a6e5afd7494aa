# SPDX-License-Identifier: Apache-2.0
"""Images for a node without a registry: k3sup-upgrade --images FILE puts tarballs into the data-dir's agent/images before the restart, verified, and so that
k3s never sees anything there but whole files. What k3s does with that directory is told in libk3sup/swap/images.h.
"""
import hashlib
import os
import platform
import time

import pytest

from node import asset_hash, content_of, sha256
from sandbox import difference, until
from test_cut_runs import PAYLOAD, RENAMES, killed_at, slow_copy, temps

AGENT = "/var/lib/rancher/k3s/agent"
IMAGES, WORK = AGENT + "/images", AGENT + "/.k3sup-images"
ARCH = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "s390x": "s390x", "riscv64": "riscv64"}[platform.machine()]
ARTIFACT = {"amd64": "k3s", "arm": "k3s-armhf"}.get(ARCH, "k3s-" + ARCH)
NAME = "k3s-airgap-images-%s.tar.zst" % ARCH
SOURCE, SUMS = "/opt/payload/" + NAME, "/opt/payload/sha256sum-%s.txt" % ARCH
NEW, OLD = b"new images " * 60000, b"old images " * 50000


def kept(build):
    """What an upgrade keeps is kept for the build that it replaces."""
    return "%s/%s.k3sup-backup.%s" % (WORK, NAME, asset_hash(build)[:12])


def digest(content):
    return hashlib.sha256(content).hexdigest()


def publish(node, new, images=None):
    """What a release has: k3s, images, and the list that names both."""
    images = {NAME: NEW} if images is None else images
    node.payload(new)
    for name, content in images.items():
        node.sb.write("/opt/payload/" + name, content)
    node.sb.write(SUMS, "".join("%s  %s\n" % line for line in [(digest(c), n) for n, c in images.items()] + [(sha256(new), ARTIFACT)]))


def a_node(make, old, new, layout="host", there=None, **more):
    node = make(layout)
    node.install(old)
    publish(node, new)
    node.process = node.start(**more)
    if there is not None:
        node.sb.makedirs(node.at(IMAGES))
        for name, content in there.items():
            node.sb.write(node.at(IMAGES + "/" + name), content)
    return node


def images_of(node):
    """What k3s would see: {name: content}."""
    return {n: node.sb.read(node.at(IMAGES + "/" + n)) for n in node.sb.listdir(node.at(IMAGES))} if node.sb.exists(node.at(IMAGES)) else {}


def settled(node):
    return not node.sb.exists(node.at(WORK))


def began(node, process):
    """When a process was started, on the clock of files."""
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + process["start_time"] / os.sysconf("SC_CLK_TCK")


# ---- what it is for ----

@pytest.mark.parametrize("layout", ["host", "tree", "pod"])
def test_images_are_there_before_the_restart(make, old, new, layout):
    """k3sup-upgrade --sums LIST --images FILE --images FILE K3S: 0; both files are in agent/images, since before the new k3s was started. Again: 0, not changed."""
    node = a_node(make, old, new, layout)
    more = "k3s-airgap-images-%s.tar.gz" % ARCH
    publish(node, new, {NAME: NEW, more: NEW[:1000]})
    args = ["--sums", SUMS, "--images", SOURCE, "--images", "/opt/payload/" + more, PAYLOAD]

    answer = node.upgrade(*args)
    again = node.upgrade(*args)

    now = node.assert_upgraded(answer, old, new, node.process, starts=2 if layout != "chroot" else 0)
    assert images_of(node) == {NAME: NEW, more: NEW[:1000]} and settled(node)
    for name in (NAME, more):
        assert os.stat(node.sb.path(node.at(IMAGES + "/" + name))).st_ctime <= began(node, now) + 0.02, "it came too late"
    assert oct(os.stat(node.sb.path(node.at(IMAGES))).st_mode) == "0o40755"
    steps = [s["name"] for s in answer["steps"]]
    assert steps.index("images") < steps.index("swap") < steps.index("restart")
    one = answer["images"][0]
    assert (one["name"], one["action"], one["changed"], one["kept"]) == (NAME, "create", True, False), one
    assert one["path"] == IMAGES + "/" + NAME and one["source"] == SOURCE and one["sha256"] == digest(NEW) and one["size"] == len(NEW)
    assert one["authenticated"] == "digest" and one["authentication"]["artifact"] == NAME
    assert again.exit == 0 and again["changed"] is False and [i["action"] for i in again["images"]] == ["none", "none"], again
    assert again["running"]["pid"] == now["pid"]


def test_an_old_version_is_kept_until_the_proof(make, old, new):
    """A file of the same name is replaced; its old version lies outside agent/images while nothing is proven, and is gone afterwards. No other file is touched.

    --restart none: 0, flag images-kept; then with a restart: 0, no flag, changed.
    """
    node = a_node(make, old, new, there={NAME: OLD, "own.tar": b"own"})
    other = node.sb.snapshot([IMAGES], without=[IMAGES + "/" + NAME, IMAGES])

    first = node.upgrade("--restart", "none", "--sums", SUMS, "--images", SOURCE, PAYLOAD)
    assert first.exit == 0 and first["images"][0]["action"] == "replace" and first["images"][0]["kept"] is True, first
    assert "images-kept" in first["flags"] and "images-kept" in node.status()["flags"]
    assert images_of(node) == {NAME: NEW, "own.tar": b"own"} and node.sb.read(kept(old)) == OLD
    assert oct(os.stat(node.sb.path(WORK)).st_mode) == "0o40700"
    again = node.upgrade("--restart", "none", "--sums", SUMS, "--images", SOURCE, PAYLOAD)
    assert again.exit == 0 and again["changed"] is False and node.sb.read(kept(old)) == OLD, again

    proven = node.upgrade(PAYLOAD)
    assert proven.exit == 0 and proven["changed"] is True and proven["flags"] == [], proven
    assert images_of(node) == {NAME: NEW, "own.tar": b"own"} and settled(node)
    assert not difference(other, node.sb.snapshot([IMAGES], without=[IMAGES + "/" + NAME, IMAGES]))
    node.assert_runs(new, but=node.process)


def test_new_images_alone_restart_nothing(make, old, new):
    """k3s runs the wanted build and only the images are new: 0, changed, the same process; they are committed, as k3s has proved to stay."""
    node = a_node(make, old, new, there={NAME: OLD})
    node.payload(old)
    answer = node.upgrade("--images", SOURCE, PAYLOAD)
    assert answer.exit == 0 and answer["changed"] is True and answer["downtime_ms"] == 0 and answer["flags"] == [], answer
    assert node.assert_runs(old)["pid"] == node.process["pid"]
    assert images_of(node) == {NAME: NEW} and settled(node) and node.sb.listdir("/usr/local/bin") == ["k3s"]
    assert answer["images"][0]["authenticated"] == "none"


def test_a_new_k3s_that_fails_leaves_the_old_images_kept(make, old, new):
    """The new build dies again and again: 6 or 11; its images stay, and the old ones are kept for the way back."""
    node = make()
    node.behave(**{"die_after_ms@v1.30.5+k3s1": 300})
    node.install(old)
    publish(node, new)
    node.start()
    node.sb.makedirs(IMAGES)
    node.sb.write(IMAGES + "/" + NAME, OLD)
    answer = node.upgrade("--rollback", "never", "--sums", SUMS, "--images", SOURCE, PAYLOAD, timeout="3", stable="2")
    assert answer.exit in (6, 11) and "images-kept" in answer["flags"], answer
    assert images_of(node) == {NAME: NEW} and node.sb.read(kept(old)) == OLD


def test_the_data_dir_that_is_used(make, old, new):
    """--data-dir names it, else the running k3s does: the images go there."""
    node = make()
    node.install(old)
    publish(node, new)
    node.sb.makedirs("/srv/k3s")
    node.process = node.start("server", "--data-dir", "/srv/k3s")
    answer = node.upgrade("--sums", SUMS, "--images", SOURCE, PAYLOAD)
    assert answer.exit == 0 and answer["images"][0]["path"] == "/srv/k3s/agent/images/" + NAME, answer
    assert node.sb.read("/srv/k3s/agent/images/" + NAME) == NEW and not node.sb.exists(IMAGES + "/" + NAME)


# ---- only what was demanded ----

def refused(node, old, args, name, *words):
    """By --check and by the upgrade alike: 3, this error, nothing changed, k3s left alone."""
    before, images = node.snapshot(), images_of(node)
    for lock, more in ((False, ["--check"]), (True, [])):
        answer = node.upgrade(*more, *args, PAYLOAD)
        assert (answer.exit, answer.error) == (3, name), answer
        for word in words:
            assert word in answer.message, "no %r in %r" % (word, answer.message)
        assert answer["changed"] is False
        node.assert_nothing_changed(before, lock=lock, journal=lock)
        assert images_of(node) == images and settled(node)
    assert node.assert_runs(old)["pid"] == node.process["pid"]
    assert "open-operation" not in node.status()["flags"]
    return answer


@pytest.mark.parametrize("what", ["torn", "other", "not listed", "twice", "second"])
def test_images_that_are_not_the_published_ones(make, old, new, what):
    """A torn copy, other bytes, a file that the list does not name or names twice, and a second file that is wrong while the first is right: 3."""
    node = a_node(make, old, new, there={NAME: OLD})
    args, name, words = ["--sums", SUMS, "--images", SOURCE], "K3SUP_E_DIGEST_MISMATCH", [SOURCE, digest(NEW)]
    if what == "torn":
        node.sb.write(SOURCE, NEW[:300001])
    elif what == "other":
        node.sb.write(SOURCE, NEW[:-1] + b"!")
    elif what == "not listed":
        os.rename(node.sb.path(SOURCE), node.sb.path(SOURCE[:-4]))
        args, name, words = ["--sums", SUMS, "--images", SOURCE[:-4]], "K3SUP_E_SUMS", ["does not name " + NAME[:-4]]
    elif what == "twice":
        node.sb.write(SUMS, node.sb.read(SUMS) + ("%s  %s\n" % ("1" * 64, NAME)).encode())
        name, words = "K3SUP_E_SUMS", ["twice"]
    else:
        publish(node, new, {NAME: NEW, "more.tar": b"more"})
        node.sb.write("/opt/payload/more.tar", b"MORE")
        args, words = args + ["--images", "/opt/payload/more.tar"], ["more.tar"]
    refused(node, old, args, name, *words)


def test_images_that_others_could_change(make, old, new):
    """Anybody can write the file, and nothing says which bytes are right: 3, K3SUP_E_UNTRUSTED. A list does: 0."""
    node = a_node(make, old, new)
    os.chmod(node.sb.path(SOURCE), 0o666)
    refused(node, old, ["--images", SOURCE], "K3SUP_E_UNTRUSTED", NAME)
    assert node.upgrade("--sums", SUMS, "--images", SOURCE, PAYLOAD).exit == 0
    assert images_of(node) == {NAME: NEW}


@pytest.mark.parametrize("args", [["--images", ""], ["--images", "/x/"], ["--images", "/x/.cache.json"], ["--images", "/x/a.tar", "--images", "/y/a.tar"]],
                         ids=" ".join)
def test_options_that_make_no_sense(make, args):
    """2, before anything is looked at."""
    answer = make().upgrade(*args, PAYLOAD)
    assert answer.exit == 2 and "--images" in answer.message, answer


def test_check_says_what_would_be_staged(make, old, new):
    """k3sup-upgrade --check --images FILE: 0; what would be done and the room it needs; nothing on disk."""
    node = a_node(make, old, new, there={NAME: OLD})
    before, images = node.snapshot(), images_of(node)
    answer = node.upgrade("--check", "--sums", SUMS, "--images", SOURCE, PAYLOAD)
    assert answer.exit == 0 and answer["changed"] is False, answer
    one = answer["images"][0]
    assert (one["action"], one["changed"], one["kept"], one["authenticated"]) == ("replace", False, False, "digest"), one
    assert [c["decision"] for c in answer["checks"] if c["name"] == "images-space"] == ["pass"]
    node.assert_nothing_changed(before)
    assert images_of(node) == images and settled(node)
    done = node.sb.wait(node.begin("k3sup-upgrade", "--check", "--images", SOURCE, PAYLOAD))
    assert done.status == 0 and "replace" in done.out and IMAGES + "/" + NAME in done.out, done.out


# ---- full disks, cuts ----

def small_disk(node, megabytes):
    """A real file system of that size under the data-dir. It goes with the sandbox."""
    made = node.sb.run(["sh", "-c", "truncate -s %dM /srv/disk && mkfs.ext4 -q -m 0 /srv/disk && mount -o loop /srv/disk /var/lib/rancher" % megabytes])
    if made.status != 0:
        pytest.skip("loop devices cannot be had here: " + made.err)


def test_full_disk(make, old, new):
    """The data-dir's disk has room for what k3s unpacks or for the images, not for both: 3, with the numbers; nothing is left there. Less to stage: 0."""
    node = make()
    small_disk(node, 24 + 4 * os.path.getsize(new) // (1 << 20))
    node.install(old)
    publish(node, new, {NAME: b"i" * (20 << 20)})
    node.process = node.start()
    answer = refused(node, old, ["--sums", SUMS, "--images", SOURCE], "K3SUP_E_DATA_DIR_SPACE", "bytes free")
    evidence = answer["error"]["evidence"]
    assert evidence["needed_bytes"] >= (20 << 20) + 4 * os.path.getsize(new) > evidence["free_bytes"], evidence
    publish(node, new)
    assert node.upgrade("--sums", SUMS, "--images", SOURCE, PAYLOAD).exit == 0 and images_of(node) == {NAME: NEW}


def test_the_disk_fills_up_while_it_copies(make, old, new, strace):
    """ENOSPC in the middle, after the preflight: 1 or 3; the old version is there, nothing else; with room again: 0."""
    node = a_node(make, old, new, there={NAME: OLD})
    done = node.sb.wait(node.begin("k3sup-upgrade", "--json", "--sums", SUMS, "--images", SOURCE, PAYLOAD, prefix=[
        "strace", "-f", "-o", "/mnt/out/strace", "-P", WORK, "-e", "trace=fsync", "-e", "inject=fsync:error=ENOSPC:when=2+"]))
    assert done.status in (1, 3) and "INJECTED" in node.sb.read("/mnt/out/strace").decode(), (done.status, done.out)
    assert images_of(node) == {NAME: OLD} and settled(node) and node.content() == content_of(old)
    assert node.assert_runs(old)["pid"] == node.process["pid"]
    node.assert_upgraded(node.upgrade("--sums", SUMS, "--images", SOURCE, PAYLOAD), old, new, node.process)


@pytest.mark.parametrize("when", [1, 2, 3, 4])
def test_killed_at_a_rename(make, old, new, strace, when):
    """Killed before the old images have their second name (1), before the new ones take theirs (2), and at the two renames of the swap (3, 4).

    k3s never sees anything in agent/images but the whole old or the whole new file. One more run: 0, nothing is left beside.
    """
    node = a_node(make, old, new, there={NAME: OLD})
    killed_at(node, RENAMES, when, file=["--sums", SUMS, "--images", SOURCE, PAYLOAD])
    assert images_of(node) == {NAME: OLD if when <= 2 else NEW}
    assert node.sb.exists(kept(old)) == (when >= 2) and node.content() == content_of(old)
    seen = node.status("--payload", PAYLOAD)
    assert "images-kept" in seen["flags"] and "open-operation" in seen["flags"], seen
    answer = node.upgrade("--sums", SUMS, "--images", SOURCE, PAYLOAD)
    node.assert_upgraded(answer, old, new, node.process)
    assert answer["resumed"] is True and images_of(node) == {NAME: NEW} and settled(node)
    again = node.upgrade("--sums", SUMS, "--images", SOURCE, PAYLOAD)
    assert again.exit == 0 and again["changed"] is False, again


def test_killed_then_without_images(make, old, new, strace):
    """Cut between images and swap, then asked for the file alone: present arguments decide; the kept version goes with the proof all the same."""
    node = a_node(make, old, new, there={NAME: OLD})
    killed_at(node, RENAMES, 3, file=["--sums", SUMS, "--images", SOURCE, PAYLOAD])
    node.assert_upgraded(node.upgrade(PAYLOAD), old, new, node.process)
    assert images_of(node) == {NAME: NEW} and settled(node)


def test_stopped_before_the_swap(make, old, new, strace):
    """SIGTERM while k3s's file is copied, the images being in place: 8; the old images are back, nothing else is there."""
    node = a_node(make, old, new, there={NAME: OLD})
    spec = node.begin("k3sup-upgrade", "--json", "--sums", SUMS, "--images", SOURCE, PAYLOAD, prefix=slow_copy(0.15))
    until(lambda: temps(node), 20, "the copy to begin")
    assert images_of(node) == {NAME: NEW} and node.sb.read(kept(old)) == OLD
    node.sb.kill([p for p in node.sb.processes() if p["comm"] == "k3sup-upgrade"][0]["pid"])
    answer = node.finish(spec)
    assert (answer.exit, answer.error) == (8, "K3SUP_E_CANCELLED") and answer["changed"] is False, answer
    assert images_of(node) == {NAME: OLD} and settled(node) and node.content() == content_of(old)
    assert node.assert_runs(old)["pid"] == node.process["pid"]
    assert node.status()["flags"] == [] and node.sb.listdir("/usr/local/bin") == ["k3s"]
