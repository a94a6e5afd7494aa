# SPDX-License-Identifier: Apache-2.0
"""The numbers of the headers. A test reads the headers and compares."""
import enum


class Code(enum.IntEnum):
    """K3SUP_E_*: what the library refuses. What the kernel refused comes as -errno. A newer library may know more codes."""

    BUSY = -10001
    CANCELLED = -10002
    CALLBACK = -10003
    TIMEOUT = -10004
    UNSUPPORTED = -10005
    PARSE = -10006
    INTERNAL = -10007
    ROOT = -10020
    FOREIGN_PROC = -10021
    UNTRUSTED = -10022
    ESCAPE = -10023
    STATE_DIR = -10024
    PAYLOAD_MISSING = -10040
    PAYLOAD_NOT_FILE = -10041
    PAYLOAD_EMPTY = -10042
    PAYLOAD_NOT_K3S = -10043
    PAYLOAD_ARCH = -10044
    PAYLOAD_TRUNCATED = -10045
    PAYLOAD_CHANGED = -10046
    DIGEST_MISMATCH = -10047
    SUMS = -10048
    SIGNATURE = -10049
    KEY = -10050
    VERSION_MISMATCH = -10051
    GZIP = -10052
    TARGET_MISSING = -10060
    TARGET_DANGLING = -10061
    TARGET_LOOP = -10062
    TARGET_NOT_FILE = -10063
    TARGET_READONLY = -10064
    TARGET_CHANGED = -10065
    TARGET_BUSY = -10066
    TARGET_AMBIGUOUS = -10067
    NO_K3S = -10080
    AMBIGUOUS = -10081
    GONE = -10082
    REFUSED_PID = -10083
    NOT_RESTARTED = -10084
    WRONG_BUILD = -10085
    NOT_STABLE = -10086
    POLICY_DOWNGRADE = -10100
    POLICY_PRERELEASE = -10101
    POLICY_PACKAGING = -10102
    POLICY_SKIP_MINOR = -10103
    POLICY_AGENT_FIRST = -10104
    POLICY_FLOOR = -10105
    POLICY_UNKNOWN = -10106


class LogLevel(enum.IntEnum):
    NONE = -1
    ERR = 3
    WARNING = 4
    INFO = 6
    DEBUG = 7


class Restart(enum.IntEnum):
    AUTO = 0
    SIGNAL = 1
    NONE = 2


# Flags of the option structs; methods take them as keyword arguments.
CTX_INLINE = 1
NODE_ALLOW_GROUP_WRITABLE = 1
BUILD_READ_FD = 1
POLICY_ALLOW_DOWNGRADE = 1
POLICY_ALLOW_SKIP_MINOR = 2
SWAP_PAYLOAD_FD = 1
UPGRADE_PAYLOAD_FD = 1
