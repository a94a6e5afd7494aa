# SPDX-License-Identifier: Apache-2.0
"""The payload is what its publisher made, or nothing happens: digests, lists as k3s publishes them, signatures, versions, packed payloads, and places that
others can write. Keys and signatures are made by openssl(1).
"""
import gzip
import hashlib
import os
import platform
import re
import subprocess
import sys

import pytest

from node import content_of, sha256

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from archive import span  # noqa: E402

PAYLOAD = "/opt/payload/k3s"
ARTIFACT = {"x86_64": "k3s", "aarch64": "k3s-arm64", "armv7l": "k3s-armhf", "s390x": "k3s-s390x", "riscv64": "k3s-riscv64"}[platform.machine()]
OTHER = "k3s-arm64" if ARTIFACT != "k3s-arm64" else "k3s"
SUMS, SIGNATURE, KEY = "/opt/payload/sums", "/opt/payload/signature", "/etc/k3s-key.pem"
WRONG = "0" * 64


@pytest.fixture
def running(make, old):
    node = make()
    node.install(old)
    node.process = node.start()
    return node


def listed(digest, name=ARTIFACT):
    return "%s  k3s-airgap-images.tar.zst\n%s  %s\n" % ("1" * 64, digest, name)


def sign(node, tmp_path, kind, content):
    """Puts key and signature on the node."""
    make, how = {
        "ed25519": ("openssl genpkey -algorithm ed25519 -out k", "openssl pkeyutl -sign -inkey k -rawin -in what -out sig"),
        "ecdsa": ("openssl ecparam -genkey -noout -name prime256v1 -out k", "openssl dgst -sha256 -sign k what | openssl base64 -out sig"),
        "rsa": ("openssl genrsa -out k 3072", "openssl dgst -sha256 -sign k -out sig what"),
    }[kind]
    (tmp_path / "what").write_bytes(content)
    subprocess.run("%s && openssl pkey -in k -pubout -out pub && %s" % (make, how), shell=True, check=True, cwd=tmp_path, stderr=subprocess.DEVNULL)
    node.sb.write(KEY, (tmp_path / "pub").read_bytes(), 0o644)
    node.sb.write(SIGNATURE, (tmp_path / "sig").read_bytes(), 0o666)
    return ["--signature", SIGNATURE, "--key", KEY]


def by_digest(node, new, tmp_path):
    return ["--sha256", sha256(new).upper()]


def by_list(node, new, tmp_path):
    node.sb.write(SUMS, listed(sha256(new)))
    return ["--sums", SUMS, "--sha256", sha256(new)]


def by_signed_list(node, new, tmp_path):
    node.sb.write(SUMS, listed(sha256(new)), 0o666)
    return ["--sums", SUMS] + sign(node, tmp_path, "ed25519", listed(sha256(new)).encode())


def by_signed_digest(node, new, tmp_path):
    return sign(node, tmp_path, "ed25519", hashlib.sha256(content_of(new)).digest())


def by_signed_file(node, new, tmp_path):
    return sign(node, tmp_path, "ecdsa", content_of(new))


def by_rsa(node, new, tmp_path):
    return sign(node, tmp_path, "rsa", content_of(new))


WAYS = {
    "digest": (by_digest, "digest", None),
    "list": (by_list, "digest", None),
    "signed list": (by_signed_list, "signature", "list"),
    "signed digest": (by_signed_digest, "signature", "digest"),
    "signed file": (by_signed_file, "signature", "file"),
    "RSA": (by_rsa, "signature", "file"),
}


@pytest.mark.parametrize("way", WAYS)
def test_an_authentic_payload(running, old, new, tmp_path, way):
    """k3sup-upgrade with one of the ways: 0; authenticated says how, also when it is asked again and nothing is left to do."""
    prepare, authenticated, signed = WAYS[way]
    args = prepare(running, new, tmp_path) + ["--expect-version", "v1.30.5-k3s1"]

    answer = running.upgrade(running.payload(new), *args)
    again = running.upgrade(PAYLOAD, *args)

    running.assert_upgraded(answer, old, new, running.process)
    assert again.exit == 0 and again["changed"] is False
    for said in (answer, again):
        assert said["authenticated"] == authenticated
        assert said["authentication"]["sha256"] == sha256(new) and said["authentication"].get("signed") == signed
    running.assert_no_litter()


@pytest.mark.parametrize("form", ["packed", "writable", "packed and writable"])
def test_a_payload_of_another_form(running, old, new, form):
    """A gzip file, or one that anybody can write: 0 with its digest, which is that of the plain file. Without it the writable one is refused: 3."""
    content = content_of(new)
    running.sb.write(PAYLOAD, gzip.compress(content, 1) if "packed" in form else content, 0o666 if "writable" in form else 0o644)
    if "writable" in form:
        refused = running.upgrade(PAYLOAD)
        assert (refused.exit, refused.error) == (3, "K3SUP_E_UNTRUSTED") and PAYLOAD in refused.message

    answer = running.upgrade(PAYLOAD, "--sha256", sha256(new))

    running.assert_upgraded(answer, old, new, running.process)
    assert answer["authenticated"] == "digest" and answer["wanted"]["sha256"] == sha256(new)


def refused(node, old, args, name, *words, **touched):
    """3, this error with these words, and nothing changed."""
    before = node.snapshot()
    answer = node.upgrade(PAYLOAD, *args)
    assert (answer.exit, answer.error) == (3, name), answer
    for word in words:
        assert word in answer.message, "no %r in %r" % (word, answer.message)
    assert answer["changed"] is False and answer.json.get("authenticated", "none") == "none"
    node.assert_nothing_changed(before, lock=True, **touched)
    assert node.assert_runs(old)["pid"] == node.process["pid"]
    return answer


LISTS = {
    "empty": ("", "is empty"),
    "without it": ("1" * 64 + "  k3s-airgap-images.tar.zst\n", "does not name " + ARTIFACT),
    "twice": (listed(WRONG) + listed("2" * 64), "twice, with different digests"),
    "CRLF": (listed(WRONG).replace("\n", "\r\n"), "CRLF"),
    "page": ("<html><body>404</body></html>\n", "is a web page"),
    "other architecture": (listed(WRONG, OTHER), "for another architecture"),
    "binary": (b"\0\1\2" + listed(WRONG).encode(), "is no text"),
    "too long": (listed(WRONG) * 10000, "1 MiB"),
    "not a list": ("Not Found\n", "line 1"),
}


@pytest.mark.parametrize("what", LISTS)
def test_a_list_that_cannot_be_believed(running, old, new, what):
    """--sums with what servers and people make of a list: 3, K3SUP_E_SUMS, each with its own sentence."""
    running.payload(new)
    running.sb.write(SUMS, LISTS[what][0])
    refused(running, old, ["--sums", SUMS], "K3SUP_E_SUMS", SUMS, LISTS[what][1])


def test_another_payload_than_the_expected_one(running, old, new, other, tmp_path):
    """A digest, a list, a signature or a version of another file: 3, each with its error. A temp may have come and gone."""
    by_key = by_signed_digest(running, other, tmp_path)
    running.payload(new)
    running.sb.write(SUMS, listed(sha256(other)))
    touched = {"staged": True, "journal": True}
    refused(running, old, ["--sha256", WRONG], "K3SUP_E_DIGEST_MISMATCH", sha256(new), WRONG, **touched)
    refused(running, old, ["--sums", SUMS], "K3SUP_E_DIGEST_MISMATCH", sha256(other), **touched)
    refused(running, old, by_key, "K3SUP_E_SIGNATURE", PAYLOAD, **touched)
    refused(running, old, ["--expect-version", "v1.30.6+k3s1"], "K3SUP_E_VERSION_MISMATCH", "v1.30.5+k3s1", "v1.30.6+k3s1", **touched)
    refused(running, old, ["--sums", SUMS, "--sha256", sha256(new)], "K3SUP_E_DIGEST_MISMATCH", SUMS, **touched)


def test_status_compares_with_what_was_verified(running, old, new):
    """k3sup-status --payload FILE --sums LIST: 0, outdated, authenticated; of a torn copy: 3, and nothing is called outdated. Without a payload: 2."""
    running.payload(new)
    running.sb.write(SUMS, listed(sha256(new)))
    os.chmod(running.sb.path(PAYLOAD), 0o777)
    assert running.status("--payload", PAYLOAD).error == "K3SUP_E_UNTRUSTED"
    seen = running.status("--payload", PAYLOAD, "--sums", SUMS, "--expect-version", "v1.30.5+k3s1")
    assert (seen.exit, seen["state"], seen["authenticated"]) == (0, "outdated", "digest"), seen
    assert running.status("--payload", PAYLOAD, "--expect-version", "v1.30.6+k3s1").exit == 3
    assert running.status("--sha256", sha256(new)).exit == 2
    running.sb.write(PAYLOAD, content_of(new)[:-1] + b"!", 0o755)
    torn = running.status("--payload", PAYLOAD, "--sha256", sha256(new))
    assert (torn.exit, torn.error) == (3, "K3SUP_E_DIGEST_MISMATCH") and "state" not in torn.json, torn


def test_installed_already_but_not_the_expected_one(running, old):
    """The payload is what is installed, and neither is what the digest says: 3, and k3s is left alone."""
    running.payload(old)
    refused(running, old, ["--sha256", WRONG], "K3SUP_E_DIGEST_MISMATCH", sha256(old))


def flipped(binary):
    """One bit in the middle, where the archive is."""
    content = bytearray(content_of(binary))
    content[len(content) // 2] ^= 1
    return bytes(content)


def test_a_flipped_bit_without_a_digest(running, old, new):
    """Nothing says which bytes are right, but the archive has the name of other ones: k3s would say its version and then fail to unpack, again and again.

    k3sup-upgrade [--check] FILE: 3, K3SUP_E_PAYLOAD_CORRUPT. A temp may have come and gone. The right one: 0, with wanted.asset_check "digest".
    """
    running.sb.makedirs("/opt/payload")
    running.sb.write(PAYLOAD, flipped(new), 0o755)
    before = running.snapshot()
    answer = running.upgrade("--check", PAYLOAD)
    assert (answer.exit, answer.error) == (3, "K3SUP_E_PAYLOAD_CORRUPT"), answer
    running.assert_nothing_changed(before)
    refused(running, old, [], "K3SUP_E_PAYLOAD_CORRUPT", PAYLOAD, "is damaged", staged=True, journal=True)
    running.payload(new)
    assert running.upgrade("--check", PAYLOAD)["wanted"]["asset_check"] == "digest"
    answer = running.upgrade(PAYLOAD)
    running.assert_upgraded(answer, old, new, running.process)
    assert answer["wanted"]["asset_check"] == "digest"


def test_a_decoy_beside_the_archives_name(running, old, new):
    """Another archive's name stands in the file, too: in a text of its program, or behind its end. It is told by what is there.

    k3sup-upgrade FILE: 0, and what runs is the archive that is in the file.
    """
    running.sb.makedirs("/opt/payload")
    running.sb.write(PAYLOAD, content_of(new) + b"\0embed/" + b"0123456789abcdef" * 4 + b".tar.zst\0", 0o755)
    answer = running.upgrade(PAYLOAD)
    assert answer.exit == 0 and answer["wanted"]["asset_check"] == "digest", answer
    assert answer["running"]["asset_hash"] == answer["wanted"]["asset_hash"] != "0123456789abcdef" * 4
    assert answer["running"]["is_installed_build"] is True


def test_run_version(running, old, new, tmp_path):
    """What the payload says when it is run must be what is written in it; it is run on no other occasion, and leaves nothing.

    k3sup-upgrade --run-version [--check] FILE: 0, wanted.said_version; a program that says something else: 3, K3SUP_E_VERSION_MISMATCH with what it said. A wrong digest: 3, and
    it is not run.
    """
    running.payload(new)
    before = running.snapshot()
    answer = running.upgrade("--run-version", "--check", PAYLOAD)
    assert answer.exit == 0 and answer["wanted"]["said_version"] == "v1.30.5+k3s1" == answer["wanted"]["version"], answer
    running.assert_nothing_changed(before)
    # The linker's record stays, and says another version than the text that the program prints.
    content = content_of(new)
    start, end = span(content)
    lying = bytearray(content)
    for text in re.finditer(rb"(?<!Version=)v1\.30\.5\+k3s1", content):
        if not start <= text.start() < end:
            lying[text.start():text.end()] = b"v1.30.6+k3s1"
    running.sb.write(PAYLOAD, bytes(lying), 0o755)
    answer = running.upgrade("--run-version", "--check", PAYLOAD)
    assert (answer.exit, answer.error) == (3, "K3SUP_E_VERSION_MISMATCH"), answer
    assert "v1.30.6+k3s1" in answer["error"]["evidence"]["said"], answer
    running.payload(new)
    answer = running.upgrade("--run-version", "--sha256", WRONG, PAYLOAD)
    assert (answer.exit, answer.error) == (3, "K3SUP_E_DIGEST_MISMATCH") and "said_version" not in answer["wanted"], answer
    answer = running.upgrade("--run-version", "--sha256", sha256(new), PAYLOAD)
    running.assert_upgraded(answer, old, new, running.process)
    assert answer["wanted"]["said_version"] == "v1.30.5+k3s1" and answer["authenticated"] == "digest"


def test_keys_that_cannot_be_trusted(running, old, new, tmp_path):
    """A key that others can write, or that is none: 3."""
    args = by_signed_file(running, new, tmp_path)
    running.payload(new)
    os.chmod(running.sb.path(KEY), 0o666)
    refused(running, old, args, "K3SUP_E_UNTRUSTED", KEY)
    running.sb.write(KEY, "no key", 0o644)
    refused(running, old, args, "K3SUP_E_KEY", KEY)


@pytest.mark.parametrize("content, name, word", [
    (lambda packed: packed[:-1], "K3SUP_E_PAYLOAD_TRUNCATED", "in the middle"),
    (lambda packed: packed + b"\n", "K3SUP_E_GZIP", "behind the end"),
    (lambda packed: packed[:1000] + b"\xff" * 100 + packed[1100:], "K3SUP_E_GZIP", "damaged"),
    (lambda packed: gzip.compress(bytes(64 << 20)), "K3SUP_E_GZIP", "times its size"),
], ids=["cut", "more behind", "damaged", "bomb"])
def test_packed_payloads_that_are_refused(running, old, new, content, name, word):
    """3, and nothing is left behind."""
    running.sb.write(PAYLOAD, content(gzip.compress(content_of(new), 1)))
    refused(running, old, [], name, PAYLOAD, word)


@pytest.mark.parametrize("args", [
    ["--signature", SIGNATURE], ["--key", KEY], ["--sha256", "abc"], ["--sha256", ""], ["--expect-version", "latest"], ["--sums", ""],
], ids=" ".join)
def test_options_that_make_no_sense(make, args):
    """2, before anything is looked at."""
    answer = make().upgrade(PAYLOAD, *args)
    assert answer.exit == 2 and args[0] in answer.message
