# SPDX-License-Identifier: Apache-2.0
"""The smallest archive that a k3s is believed to carry, for files that only have to pass for one."""
import hashlib

BLOCKS = 32


def archive(seed):
    """A zstd frame of so many blocks, and the text that names it as k3s does."""
    letter = hashlib.sha256(seed).digest()[:1]
    frame = bytes.fromhex("28b52ffd0058") + b"".join(bytes([9 if i == BLOCKS - 1 else 8, 0, 0]) + letter for i in range(BLOCKS))
    return frame, b"embed/" + hashlib.sha256(frame).hexdigest().encode() + b".tar.zst"
