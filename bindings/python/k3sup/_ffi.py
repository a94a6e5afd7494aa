# SPDX-License-Identifier: Apache-2.0
"""libk3sup as ctypes sees it: every struct, every callback type and every function, and the loader. Nothing else calls ctypes.CDLL.

CDLL (not PyDLL) gives the GIL back during each call. Results declared c_char_p are static or belong to an object; ctypes copies them.
"""
import ctypes
import os
import re
from ctypes import CFUNCTYPE, POINTER, c_char_p, c_int, c_int32, c_int64, c_size_t, c_uint32, c_void_p
from typing import Any, Dict, List, Optional, Tuple, Type

from ._errors import error

BUILT_FOR = (0, 1, 0)  # the library's version these tables were written for; a newer minor is fine

ptr = c_void_p  # k3sup_ctx *, k3sup_node *, k3sup_op *, k3sup_process *, k3sup_doc *


class Sized(ctypes.Structure):
    """A struct that begins with its own size, which the constructor fills in."""

    struct_size: int
    flags: int

    def __init__(self, **fields: Any) -> None:
        super().__init__(struct_size=ctypes.sizeof(self), **fields)
        for name, value in fields.items():  # ctypes cuts off what does not fit
            if isinstance(value, int) and getattr(self, name) != value:
                raise ValueError("%s: %d is out of range" % (name, value))


def _struct(*fields: Tuple[str, Any]) -> List[Tuple[str, Any]]:
    return [("struct_size", c_uint32), ("flags", c_uint32), *fields]


class CtxOpts(Sized):
    _fields_ = _struct()


class NodeOpts(Sized):
    _fields_ = _struct(("root", c_char_p), ("proc", c_char_p), ("data_dir", c_char_p), ("k3s", c_char_p), ("state_dir", c_char_p),
                       ("reserved", c_char_p))


class BuildReadOpts(Sized):
    _fields_ = _struct(("path", c_char_p), ("reserved", c_char_p), ("fd", c_int32), ("reserved2", c_uint32))


class PolicyOpts(Sized):
    _fields_ = _struct(("installed", c_char_p), ("payload", c_char_p), ("floor", c_char_p), ("server", c_char_p), ("role", c_char_p),
                       ("payload_kind", c_char_p), ("payload_arch", c_char_p), ("node_arch", c_char_p), ("installed_built", c_char_p), ("payload_built", c_char_p))


class IdentifyOpts(Sized):
    _fields_ = _struct()


class SignalOpts(Sized):
    _fields_ = _struct(("process", ptr), ("reserved", c_char_p), ("signo", c_int32), ("reserved2", c_uint32))


class WaitExitOpts(Sized):
    _fields_ = _struct(("timeout_ms", c_int64), ("process", ptr), ("reserved", c_char_p))


# How it is asked whether it is ready.
_READINESS: List[Tuple[str, Any]] = [("health", c_char_p), ("reserved", c_char_p), ("probe", c_uint32), ("reserved2", c_uint32)]


class WaitRunningOpts(Sized):
    _fields_ = _struct(("timeout_ms", c_int64), ("stable_ms", c_int64), ("previous", ptr), ("asset_hash", c_char_p), *_READINESS)


# How it is stopped and started, where no service manager does that.
_COMMANDS: List[Tuple[str, Any]] = [("stop_command", c_char_p), ("start_command", c_char_p), ("status_command", c_char_p)]


class ServiceOpts(Sized):
    _fields_ = _struct(("timeout_ms", c_int64), ("wait_lock_ms", c_int64), ("stable_ms", c_int64), ("guard_delay_ms", c_int64),
                       ("name", c_char_p), ("reserved", c_char_p), ("action", c_uint32), ("reserved2", c_uint32), *_COMMANDS, ("reserved3", c_char_p))


# How the payload is authenticated.
_TERMS: List[Tuple[str, Any]] = [("sha256", c_char_p), ("sums", c_char_p), ("signature", c_char_p), ("key", c_char_p),
                                 ("expect_version", c_char_p)]


class SwapOpts(Sized):
    _fields_ = _struct(("wait_lock_ms", c_int64), ("payload", c_char_p), ("reserved", c_char_p), ("payload_fd", c_int32),
                       ("keep_backups", c_uint32), *_TERMS, ("server_version", c_char_p))


class SwapRollbackOpts(Sized):
    _fields_ = _struct(("wait_lock_ms", c_int64), ("sha256", c_char_p), ("expect_version", c_char_p))


class SwapBackupsOpts(Sized):
    _fields_ = _struct(("wait_lock_ms", c_int64), ("keep", c_uint32), ("reserved", c_uint32))


class StageOpts(Sized):
    _fields_ = _struct(("wait_lock_ms", c_int64), ("files", POINTER(c_char_p)), ("sha256", c_char_p), ("sums", c_char_p),
                       ("signature", c_char_p), ("key", c_char_p), ("reserved", c_char_p))


class UnpackOpts(Sized):
    _fields_ = _struct(("timeout_ms", c_int64), ("wait_lock_ms", c_int64), ("payload", c_char_p), ("reserved", c_char_p),
                       ("payload_fd", c_int32), ("reserved2", c_uint32), *_TERMS, ("reserved3", c_char_p))


class UpgradeOpts(Sized):
    _fields_ = _struct(("timeout_ms", c_int64), ("wait_lock_ms", c_int64), ("stable_ms", c_int64), ("payload", c_char_p),
                       ("reserved", c_char_p), ("payload_fd", c_int32), ("restart", c_uint32), *_TERMS, ("server_version", c_char_p),
                       ("health", c_char_p), ("reserved3", c_char_p), ("probe", c_uint32), ("reserved4", c_uint32),
                       ("images", POINTER(c_char_p)), ("reserved5", c_char_p), ("before_write", c_char_p), ("before_stop", c_char_p),
                       ("keep_backups", c_uint32), ("rollback", c_uint32), ("guard_delay_ms", c_int64), *_COMMANDS,
                       ("rotate_key", c_char_p))


class StateOpts(Sized):
    _fields_ = _struct(("payload", c_char_p), ("reserved", c_char_p), *_TERMS, ("reserved2", c_char_p))


class CertsCheckOpts(Sized):
    _fields_ = _struct(("at", c_int64), ("services", POINTER(c_char_p)), ("kubeconfigs", POINTER(c_char_p)), ("k3s_version", c_char_p),
                       ("reserved", c_char_p), ("warn_days", c_uint32), ("reserved2", c_uint32))


class CertsRetireOpts(Sized):
    _fields_ = _struct(("services", POINTER(c_char_p)), ("reserved", c_char_p), ("keep", c_uint32), ("keep_days", c_uint32))


class RotateOpts(Sized):
    _fields_ = _struct(("timeout_ms", c_int64), ("wait_lock_ms", c_int64), ("stable_ms", c_int64), ("guard_delay_ms", c_int64),
                       ("key", c_char_p), ("health", c_char_p), ("services", POINTER(c_char_p)), ("reserved", c_char_p),
                       ("if_within_days", c_uint32), ("restart", c_uint32), ("probe", c_uint32), ("keep", c_uint32),
                       ("keep_days", c_uint32), ("reserved2", c_uint32), *_COMMANDS, ("reserved3", c_char_p),
                       ("before_write", c_char_p), ("before_stop", c_char_p))


class CertsRestoreOpts(Sized):
    _fields_ = _struct(("backup", c_char_p), ("reserved", c_char_p))


class CertsBackupsOpts(Sized):
    _fields_ = _struct()


class CertsCaCheckOpts(Sized):
    _fields_ = _struct(("dir", c_char_p), ("server_dir", c_char_p))


class Progress(ctypes.Structure):
    _fields_ = [("struct_size", c_uint32), ("percent", c_uint32), ("done", c_int64), ("total", c_int64), ("downtime_ms", c_int64),
                ("step", c_char_p), ("text", c_char_p)]


STRUCTS: Dict[str, Type[ctypes.Structure]] = {
    "k3sup_ctx_opts": CtxOpts,
    "k3sup_node_opts": NodeOpts,
    "k3sup_build_read_opts": BuildReadOpts,
    "k3sup_policy_opts": PolicyOpts,
    "k3sup_identify_opts": IdentifyOpts,
    "k3sup_signal_opts": SignalOpts,
    "k3sup_wait_exit_opts": WaitExitOpts,
    "k3sup_wait_running_opts": WaitRunningOpts,
    "k3sup_service_opts": ServiceOpts,
    "k3sup_swap_opts": SwapOpts,
    "k3sup_stage_opts": StageOpts,
    "k3sup_unpack_opts": UnpackOpts,
    "k3sup_swap_rollback_opts": SwapRollbackOpts,
    "k3sup_swap_backups_opts": SwapBackupsOpts,
    "k3sup_upgrade_opts": UpgradeOpts,
    "k3sup_state_opts": StateOpts,
    "k3sup_certs_check_opts": CertsCheckOpts,
    "k3sup_certs_retire_opts": CertsRetireOpts,
    "k3sup_certs_restore_opts": CertsRestoreOpts,
    "k3sup_rotate_opts": RotateOpts,
    "k3sup_certs_backups_opts": CertsBackupsOpts,
    "k3sup_certs_ca_check_opts": CertsCaCheckOpts,
    "k3sup_progress": Progress,
}

log_fn = CFUNCTYPE(None, c_int32, c_char_p, c_char_p, c_void_p)
progress_fn = CFUNCTYPE(c_int32, POINTER(Progress), c_void_p)
done_fn = CFUNCTYPE(None, c_void_p, c_void_p)


def check(result: int, func: Any = None, args: Any = None) -> int:
    """errcheck of functions whose negative results are errors: no call can forget to look."""
    if result < 0:
        raise error(result, name_of(result), text_of(result))
    return result


# name -> (restype, argtypes, errcheck)
FUNCTIONS: Dict[str, Tuple[Any, List[Any], Any]] = {
    "k3sup_version": (c_char_p, [], None),
    "k3sup_version_compare": (c_int, [c_char_p, c_char_p, POINTER(c_int32)], check),
    "k3sup_strerror": (c_char_p, [c_int], None),
    "k3sup_error_name": (c_char_p, [c_int], None),
    "k3sup_ctx_new": (c_int, [POINTER(CtxOpts), POINTER(ptr)], check),
    "k3sup_ctx_ref": (ptr, [ptr], None),
    "k3sup_ctx_unref": (ptr, [ptr], None),
    "k3sup_ctx_set_log": (c_int, [ptr, c_int32, log_fn, c_void_p], check),
    "k3sup_ctx_fd": (c_int, [ptr], check),
    "k3sup_ctx_dispatch": (c_int, [ptr], check),
    "k3sup_node_new": (c_int, [ptr, POINTER(NodeOpts), POINTER(ptr)], check),
    "k3sup_node_ref": (ptr, [ptr], None),
    "k3sup_node_unref": (ptr, [ptr], None),
    "k3sup_node_lock": (c_int, [ptr], check),
    "k3sup_node_unlock": (c_int, [ptr], check),
    "k3sup_node_mark": (c_int, [ptr, c_char_p], check),
    "k3sup_node_marked": (c_int, [ptr, c_char_p], check),
    "k3sup_build_read": (c_int, [ptr, POINTER(BuildReadOpts), POINTER(ptr)], check),
    "k3sup_policy_check": (c_int, [POINTER(PolicyOpts), POINTER(ptr)], check),
    "k3sup_identify": (c_int, [ptr, POINTER(IdentifyOpts), POINTER(ptr)], check),
    "k3sup_signal": (c_int, [ptr, POINTER(SignalOpts), POINTER(ptr)], check),
    "k3sup_wait_exit": (c_int, [ptr, POINTER(WaitExitOpts), POINTER(ptr)], check),
    "k3sup_wait_running": (c_int, [ptr, POINTER(WaitRunningOpts), POINTER(ptr)], check),
    "k3sup_service": (c_int, [ptr, POINTER(ServiceOpts), POINTER(ptr)], check),
    "k3sup_swap": (c_int, [ptr, POINTER(SwapOpts), POINTER(ptr)], check),
    "k3sup_stage": (c_int, [ptr, POINTER(StageOpts), POINTER(ptr)], check),
    "k3sup_unpack": (c_int, [ptr, POINTER(UnpackOpts), POINTER(ptr)], check),
    "k3sup_swap_rollback": (c_int, [ptr, POINTER(SwapRollbackOpts), POINTER(ptr)], check),
    "k3sup_swap_backups": (c_int, [ptr, POINTER(SwapBackupsOpts), POINTER(ptr)], check),
    "k3sup_upgrade": (c_int, [ptr, POINTER(UpgradeOpts), POINTER(ptr)], check),
    "k3sup_state": (c_int, [ptr, POINTER(StateOpts), POINTER(ptr)], check),
    "k3sup_certs_check": (c_int, [ptr, POINTER(CertsCheckOpts), POINTER(ptr)], check),
    "k3sup_certs_retire": (c_int, [ptr, POINTER(CertsRetireOpts), POINTER(ptr)], check),
    "k3sup_rotate": (c_int, [ptr, POINTER(RotateOpts), POINTER(ptr)], check),
    "k3sup_certs_restore": (c_int, [ptr, POINTER(CertsRestoreOpts), POINTER(ptr)], check),
    "k3sup_certs_backups": (c_int, [ptr, POINTER(CertsBackupsOpts), POINTER(ptr)], check),
    "k3sup_certs_ca_check": (c_int, [ptr, POINTER(CertsCaCheckOpts), POINTER(ptr)], check),
    "k3sup_op_ref": (ptr, [ptr], None),
    "k3sup_op_unref": (ptr, [ptr], None),
    "k3sup_op_wait": (c_int, [ptr, c_int64], None),  # its errors are the operation's: op.py looks at them
    "k3sup_op_cancel": (None, [ptr], None),
    "k3sup_op_status": (c_int, [ptr], None),
    "k3sup_op_set_done": (c_int, [ptr, done_fn, c_void_p], check),
    "k3sup_op_set_progress": (c_int, [ptr, progress_fn, c_void_p], check),
    "k3sup_op_result": (ptr, [ptr], None),
    "k3sup_op_error": (ptr, [ptr], None),
    "k3sup_op_process": (c_int, [ptr, c_uint32, POINTER(ptr)], None),  # -ENOENT is its normal end
    "k3sup_process_ref": (ptr, [ptr], None),
    "k3sup_process_unref": (ptr, [ptr], None),
    "k3sup_process_info": (ptr, [ptr], None),
    "k3sup_process_pidfd": (c_int, [ptr], check),
    "k3sup_doc_ref": (ptr, [ptr], None),
    "k3sup_doc_unref": (ptr, [ptr], None),
    "k3sup_doc_parse": (c_int, [c_char_p, c_size_t, POINTER(ptr)], check),
    "k3sup_doc_json": (c_char_p, [ptr], None),
    "k3sup_doc_get": (c_int, [ptr, c_char_p, POINTER(ptr)], check),
    "k3sup_doc_len": (c_int64, [ptr, c_char_p], check),
    "k3sup_doc_str": (c_int, [ptr, c_char_p, POINTER(c_char_p)], check),
    "k3sup_doc_i64": (c_int, [ptr, c_char_p, POINTER(c_int64)], check),
}


def _bind(library: ctypes.CDLL, name: str) -> Any:
    try:
        function = getattr(library, name)
    except AttributeError:
        raise ImportError("%s has no function %s" % (library._name, name)) from None
    function.restype, function.argtypes, errcheck = FUNCTIONS[name]
    if errcheck is not None:
        function.errcheck = errcheck
    return function


def load(path: Optional[str] = None) -> ctypes.CDLL:
    """Load the library from `path`, $K3SUP_LIBRARY or where the dynamic linker finds its soname (find_library would run compilers)."""
    path = path or os.environ.get("K3SUP_LIBRARY")
    if path and not os.path.isabs(path):
        raise ImportError("K3SUP_LIBRARY must be an absolute path, not %s" % path)
    path = path or "libk3sup.so.%d" % BUILT_FOR[0]
    try:
        library = ctypes.CDLL(path)
    except OSError as e:
        raise ImportError("cannot load libk3sup: %s" % e) from e
    # Before the other functions: of an old library, its age is what there is to say.
    version = _bind(library, "k3sup_version")().decode()
    match = re.match(r"(\d+)\.(\d+)\.", version)
    found = (int(match[1]), int(match[2])) if match else (-1, -1)
    if found[0] != BUILT_FOR[0] or found[1] < BUILT_FOR[1]:
        raise ImportError("%s is libk3sup %s; this binding needs %d.%d or a later %d.x" % (path, version, *BUILT_FOR[:2], BUILT_FOR[0]))
    for name in FUNCTIONS:
        _bind(library, name)
    return library


lib = load()


def text_of(code: int) -> str:
    return bytes(lib.k3sup_strerror(code)).decode()


def name_of(code: int) -> str:
    return bytes(lib.k3sup_error_name(code)).decode()
