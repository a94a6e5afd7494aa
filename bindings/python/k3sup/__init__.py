# SPDX-License-Identifier: Apache-2.0
"""libk3sup: upgrade a k3s node, safe to repeat, safe to cut, honest about what it saw.

    with k3sup.Context() as ctx, ctx.node() as node:
        result = node.upgrade("/opt/k3s").wait()
        print(result["/changed"], result["/running/version"])

What a verb means, when it stops and what it needs is said in the comments of the C headers; only what is different in Python is said here.
"""
import ctypes as _ctypes

from . import _ffi
from ._core import whole as _whole
from ._errors import K3supError, K3supOSError
from .constants import Code, LogLevel, Probe, Restart, Rollback, ServiceAction
from .context import Context
from .document import Document
from .node import Node
from .op import Op, Progress
from .policy import policy_check
from .process import Process

__all__ = ["Code", "Context", "Document", "K3supError", "K3supOSError", "LogLevel", "Node", "Op", "Probe", "Process", "Progress", "Restart", "Rollback",
           "ServiceAction", "error_name", "policy_check", "strerror", "version", "version_compare"]


def version() -> str:
    """The version of the library that is running."""
    return bytes(_ffi.lib.k3sup_version()).decode()


def version_compare(a: str, b: str) -> int:
    """The total order of k3s versions: below 0, 0 or above 0 if `a` is older than, the same as, or newer than `b`."""
    order = _ctypes.c_int32()
    _ffi.lib.k3sup_version_compare(_whole(a.encode()), _whole(b.encode()), _ctypes.byref(order))
    return order.value


def strerror(code: int) -> str:
    """One English sentence for a code, without a full stop."""
    return _ffi.text_of(code)


def error_name(code: int) -> str:
    """The name of a code: "K3SUP_E_BUSY", "ENOENT", or "UNKNOWN"."""
    return _ffi.name_of(code)
