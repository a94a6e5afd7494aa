# SPDX-License-Identifier: Apache-2.0
"""Back to the build before: the file that was kept, and nothing that became of it; versions beside each other; file systems that share blocks."""
import os

import pytest

from node import BACKUP, K3S, asset_hash, content_of, sha256
from sandbox import until
from test_cut_runs import killed_at

PAYLOAD = "/opt/payload/k3s"
V1, V2 = "v1.30.4+k3s1", "v1.30.5+k3s1"


@pytest.fixture
def upgraded(make, old, new):
    node = make()
    node.install(old)
    node.payload(new)
    node.process = node.start()
    node.assert_upgraded(node.upgrade(PAYLOAD), old, new, node.process)
    node.process = node.main_process()
    return node


def back(node, *args, **more):
    return node.upgrade("--rollback-now", *args, **more)


def assert_back(node, answer, old, starts):
    assert answer.exit == 0 and answer["changed"] is True and answer["state"] == "current" and answer["flags"] == [], answer
    assert node.content() == content_of(old) and node.content(BACKUP) == content_of(old)
    now = node.assert_runs(old, but=node.process)
    assert answer["running"]["pid"] == now["pid"] and answer["running"]["version"] == V1
    assert answer["installed"]["path"] == K3S and answer["wanted"]["path"] == BACKUP and answer["downtime_ms"] > 0
    assert answer["backup"]["path"] == BACKUP and answer["backup"]["sha256"] == sha256(old)
    assert answer["authenticated"] == "digest" and answer["authentication"]["recorded"] is True
    assert len(node.unit()["starts"]) == starts
    assert node.sb.listdir("/usr/local/bin") == ["k3s", "k3s.k3sup-backup"]


def test_back_to_the_backup(upgraded, old, new):
    """k3sup-upgrade --rollback-now: 0, changed, k3s was restarted once. Again: 0, not changed, same process. Forward again: 0."""
    assert_back(upgraded, back(upgraded), old, 3)
    now = upgraded.main_process()
    again = back(upgraded)
    assert again.exit == 0 and again["changed"] is False and again["running"]["pid"] == now["pid"], again
    forward = upgraded.upgrade(PAYLOAD)
    assert forward.exit == 0 and upgraded.content() == content_of(new) and upgraded.assert_runs(new, but=now), forward


def test_only_the_file(upgraded, old, new):
    """--rollback-now --restart none: 0; k3s runs on and is pending. --check before it: 0, and nothing changes."""
    before = upgraded.snapshot()
    answer = back(upgraded, "--check")
    assert answer.exit == 0 and answer["changed"] is False and answer["wanted"]["version"] == V1, answer
    assert {c["name"]: c["decision"] for c in answer["checks"]}["downgrade"] == "allowed"
    upgraded.assert_nothing_changed(before)
    answer = back(upgraded, "--restart", "none")
    assert answer.exit == 0 and answer["changed"] is True and upgraded.content() == content_of(old), answer
    assert upgraded.assert_runs(new)["pid"] == upgraded.process["pid"]
    assert back(upgraded)["changed"] is True and upgraded.assert_runs(old, but=upgraded.process)


def test_from_a_build_that_dies(make, old, new):
    """The new build starts and dies again and again: it runs just now, or its supervisor pauses. --rollback-now: 0, the old one runs."""
    node = make()
    node.install(old)
    node.process = node.start(delay=0.4)
    node.behave(**{"die_after_ms@" + V2: 200})
    answer = node.upgrade("--rollback", "never", node.payload(new), stable="2", timeout="6")
    assert answer.exit in (6, 11), answer
    # While nothing runs.
    until(lambda: len(node.unit()["ends"]) == len(node.unit()["starts"]) and not node.running(), 10, "a pause of the supervisor")
    answer = back(node)
    assert answer.exit == 0 and answer["changed"] is True and answer["flags"] == [], answer
    assert node.content() == content_of(old) and node.assert_runs(old)["pid"] == answer["running"]["pid"]


def test_back_and_nobody_starts_it(upgraded, old):
    """k3s was stopped, and nothing starts it. --rollback-now: 6, the file is the old one again. Once more, with nothing to put back: 4."""
    upgraded.unit(active=False)
    upgraded.sb.kill(upgraded.process["pid"], 9)
    until(lambda: not upgraded.running())
    for exit, word in ((6, "now"), (4, "already")):
        answer = back(upgraded, timeout="3")
        assert (answer.exit, answer.error, answer["changed"]) == (exit, "K3SUP_E_NO_K3S", exit == 6) and word in answer.message, answer
        assert upgraded.content() == content_of(old)


def test_nothing_to_go_back_to(make, old):
    """--rollback-now: 3, K3SUP_E_BACKUP_MISSING; nothing was touched. With FILE, a list or a signature: 2."""
    node = make()
    node.install(old)
    process = node.start()
    before = node.snapshot()
    answer = back(node)
    assert answer.exit == 3 and answer.error == "K3SUP_E_BACKUP_MISSING" and answer["changed"] is False, answer
    node.assert_nothing_changed(before, lock=True)
    for wrong in ([node.payload(old)], ["--sums", "/x"], ["--signature", "/x", "--key", "/x"]):
        assert back(node, *wrong).exit == 2
    assert node.assert_runs(old)["pid"] == process["pid"]


def test_a_backup_that_is_not_what_was_kept(upgraded, old, new, other):
    """Somebody, or the disk, changed it. --rollback-now: 3, K3SUP_E_BACKUP_DAMAGED, nothing was touched; --sha256 of what is there: 0; of anything else: 3."""
    upgraded.sb.copy(other, BACKUP)
    before = upgraded.snapshot()
    answer = back(upgraded)
    assert answer.exit == 3 and answer.error == "K3SUP_E_BACKUP_DAMAGED" and BACKUP in answer.message, answer
    assert answer.json["error"]["evidence"]["sha256"] == sha256(other)
    assert back(upgraded, "--sha256", sha256(old)).error == "K3SUP_E_DIGEST_MISMATCH"
    assert back(upgraded, "--sha256", sha256(other), "--expect-version", V1).error == "K3SUP_E_VERSION_MISMATCH"
    upgraded.assert_nothing_changed(before, lock=True)
    assert upgraded.assert_runs(new)["pid"] == upgraded.process["pid"]
    answer = back(upgraded, "--sha256", sha256(other))
    assert answer.exit == 0 and upgraded.assert_runs(other, but=upgraded.process), answer


@pytest.mark.parametrize("where", ["rename", "signal"])
def test_B20_killed_on_the_way_back(upgraded, old, new, strace, where):
    """Killed at the rename of the file, and between it and the signal. One more --rollback-now: 0, k3s runs the backup's build, no litter, nothing open."""
    calls = {"rename": "rename,renameat,renameat2", "signal": "pidfd_send_signal"}[where]
    killed_at(upgraded, calls, 1, file="--rollback-now")
    assert upgraded.content() == content_of(new if where == "rename" else old) and upgraded.content(BACKUP) == content_of(old)
    assert upgraded.assert_runs(new)["pid"] == upgraded.process["pid"]
    assert "open-operation" in upgraded.status()["flags"]
    assert back(upgraded).exit == 0
    upgraded.assert_runs(old, but=upgraded.process)
    assert upgraded.status()["flags"] == [] and upgraded.sb.listdir("/usr/local/bin") == ["k3s", "k3s.k3sup-backup"]
    assert back(upgraded)["changed"] is False


def test_the_floor_goes_back_too(upgraded, old):
    """--rollback-now: 0; the floor is what is installed again. Where it cannot be written: 0 all the same, with a warning, and the old one runs."""
    floor = "/var/lib/k3sup/floor"
    assert upgraded.content(floor) == V2.encode() + b"\n"
    assert back(upgraded, "--restart", "none").exit == 0 and upgraded.content(floor) == V1.encode() + b"\n"
    os.unlink(upgraded.sb.path(floor))
    upgraded.sb.makedirs(floor)
    answer = back(upgraded)
    assert answer.exit == 0 and any("floor" in w for w in answer["warnings"]), answer
    upgraded.assert_runs(old, but=upgraded.process)


# ---- versions beside each other ----

@pytest.mark.parametrize("layout", ["host", "pod", "chroot"])
def test_B03_a_versioned_layout(make, old, new, layout):
    """k3s is an absolute link to k3s-VERSION (PyratLabs/ansible-role-k3s). k3sup-upgrade FILE: 0, the new version lies beside, the link leads to it, and the
    old one is untouched; --rollback-now: 0, the link leads there again.
    """
    node = make(layout)
    first, second = K3S + "-" + V1, K3S + "-" + V2
    node.install(old, first)
    node.sb.symlink(first, node.at(K3S))
    process = node.start()
    was = node.sb.describe(node.at(first))
    answer = node.upgrade(node.payload(new))
    assert answer.exit == 0 and answer["installed"]["path"] == second and answer["backup"]["path"] == first, answer
    assert node.sb.describe(node.at(K3S))["link"] == second and node.content(second) == content_of(new)
    assert node.sb.describe(node.at(first)) == was, "the old version was touched"
    assert answer["running"]["asset_hash"] == asset_hash(new)
    process = node.assert_runs(new, but=process)
    assert sorted(node.sb.listdir(node.at("/usr/local/bin"))) == ["k3s", "k3s-" + V1, "k3s-" + V2]
    answer = back(node)
    assert answer.exit == 0 and answer["changed"] is True and answer["installed"]["path"] == first, answer
    assert node.sb.describe(node.at(K3S))["link"] == first and node.sb.describe(node.at(first)) == was
    node.assert_runs(old, but=process)
    assert back(node)["changed"] is False


@pytest.mark.parametrize("when", [1, 2])
def test_B20_killed_between_versions(make, old, new, strace, when):
    """Killed at the rename of the new version's file, and at that of the link. The link leads to the old version; the next run: 0, no litter."""
    node = make()
    node.install(old, K3S + "-" + V1)
    node.sb.symlink("k3s-" + V1, K3S)
    node.payload(new)
    process = node.start()
    killed_at(node, "rename,renameat,renameat2", when)
    assert node.sb.describe(K3S)["link"] == "k3s-" + V1 and node.content(K3S + "-" + V1) == content_of(old)
    assert node.sb.exists(K3S + "-" + V2) == (when == 2)
    assert node.status()["state"] == "interrupted"
    answer = node.upgrade(PAYLOAD)
    assert answer.exit == 0 and answer["flags"] == [] and node.sb.describe(K3S)["link"] == "k3s-" + V2, answer
    node.assert_runs(new, but=process)
    assert node.sb.listdir("/usr/local/bin") == ["k3s", "k3s-" + V1, "k3s-" + V2]


# ---- real file systems ----

@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs"])
def test_on_a_file_system_of_its_own(make, old, new, kind):
    """Upgrade and back where k3s and its payload lie on one file system. xfs and btrfs share the blocks of payload, backup and installed file; what is
    installed is checked all the same.
    """
    node = make()
    done = node.sb.run(["sh", "-c", "truncate -s 512M /mnt/disk && mkfs.%s -q %s /mnt/disk && mount -o loop /mnt/disk /usr/local && mkdir /usr/local/bin"
                        % (kind, "-F" if kind == "ext4" else "-f")])
    if done.status != 0:
        pytest.skip("no %s on a loop device here: %s" % (kind, done.err.strip()))
    try:
        node.install(old)
        node.payload(new, "/usr/local/src/k3s")
        process = node.start()
        node.sb.run(["sync", "-f", "/usr/local"])
        answer = node.upgrade("--sha256", sha256(new), "/usr/local/src/k3s")
        process = node.assert_upgraded(answer, old, new, process)
        assert answer["wanted"]["sha256"] == sha256(new)
        shared = [shares(node, K3S)]
        answer = back(node)
        assert answer.exit == 0 and node.content() == content_of(old) and node.assert_runs(old, but=process), answer
        shared += [shares(node, K3S), shares(node, BACKUP)]
        assert shared == [kind != "ext4"] * 3
    finally:
        node.sb.ask("umount", target="/usr/local")


def shares(node, path):
    done = node.sb.run(["filefrag", "-v", path])
    assert done.status == 0, done.err
    return "shared" in done.out


def test_images_that_were_never_proven_go_back_too(make, old, new):
    """k3sup-upgrade --images --restart none replaced an image and k3s; --rollback-now: 0, the old image is there again, and nothing is kept."""
    node = make()
    node.install(old)
    process = node.start()
    images = "/var/lib/rancher/k3s/agent/images"
    node.sb.makedirs(images)
    node.sb.write(images + "/all.tar", b"old images")
    node.sb.write("/opt/payload/all.tar", b"new images")
    answer = node.upgrade("--images", "/opt/payload/all.tar", "--restart", "none", node.payload(new))
    assert answer.exit == 0 and node.content(images + "/all.tar") == b"new images" and "images-kept" in node.status()["flags"], answer
    answer = back(node)
    assert answer.exit == 0 and answer["changed"] is True and answer["flags"] == [], answer
    assert node.content(images + "/all.tar") == b"old images" and node.content() == content_of(old)
    assert node.assert_runs(old)["pid"] == process["pid"]


def test_images_go_back_no_further_than_the_build(make, old, new, other):
    """Two upgrades that were never proven, each with images: --rollback-now after the second one: 0, the first one's build and its images; nothing is kept."""
    node = make()
    node.install(old)
    node.start()
    images = "/var/lib/rancher/k3s/agent/images"
    node.sb.makedirs(images)
    node.sb.write(images + "/all.tar", b"images of old")
    for build, text in ((new, b"images of new"), (other, b"images of other")):
        node.sb.write("/opt/payload/all.tar", text)
        answer = node.upgrade("--images", "/opt/payload/all.tar", "--restart", "none", "--allow-downgrade", node.payload(build))
        assert answer.exit == 0 and node.content(images + "/all.tar") == text and len(node.sb.listdir(images + "/../.k3sup-images")) == 1, answer
    answer = back(node)
    assert answer.exit == 0 and answer["flags"] == [], answer
    assert node.content() == content_of(new) and node.content(images + "/all.tar") == b"images of new"
    node.assert_runs(new)
