# SPDX-License-Identifier: Apache-2.0
import ctypes
from typing import Optional

from . import _ffi
from ._core import whole
from ._ffi import lib, ptr
from .constants import POLICY_ALLOW_DOWNGRADE, POLICY_ALLOW_SKIP_MINOR
from .document import Document


def _text(value: Optional[str]) -> Optional[bytes]:
    return None if value is None else whole(value.encode())


def policy_check(*, installed: Optional[str] = None, payload: Optional[str] = None, floor: Optional[str] = None, server: Optional[str] = None,
                 role: Optional[str] = None, payload_kind: Optional[str] = None, payload_arch: Optional[str] = None,
                 node_arch: Optional[str] = None, installed_built: Optional[str] = None, payload_built: Optional[str] = None, allow_downgrade: bool = False, allow_skip_minor: bool = False) -> Document:
    """May this build follow that one? Nothing is raised for a refusal: "/ok", "/error" and "/checks" of the document say it.

        build = ctx.build_read("/opt/k3s").wait()
        k3sup.policy_check(installed="v1.30.4+k3s1", payload=build["/version"], payload_kind=build["/kind"], payload_arch=build["/arch"])["/ok"]
    """
    flags = (POLICY_ALLOW_DOWNGRADE if allow_downgrade else 0) | (POLICY_ALLOW_SKIP_MINOR if allow_skip_minor else 0)
    opts = _ffi.PolicyOpts(flags=flags, installed=_text(installed), payload=_text(payload), floor=_text(floor), server=_text(server), role=_text(role),
                           payload_kind=_text(payload_kind), payload_arch=_text(payload_arch), node_arch=_text(node_arch),
                           installed_built=_text(installed_built), payload_built=_text(payload_built))
    ret = ptr()
    lib.k3sup_policy_check(ctypes.byref(opts), ctypes.byref(ret))
    return Document(ret.value)
