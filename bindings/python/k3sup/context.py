# SPDX-License-Identifier: Apache-2.0
import asyncio
import ctypes
import itertools
import sys
import weakref
from typing import Any, Dict, Optional

from . import _ffi
from ._core import Core, Handle, LogCallback, Path, Payload, encode, payload_of
from ._ffi import lib, ptr
from .constants import BUILD_READ_ARCHIVE, BUILD_READ_FD, BUILD_READ_RUN_VERSION, CTX_INLINE, LogLevel
from .node import Node
from .op import Op


class Context(Handle):
    """One private event loop, one worker thread (none if `inline`), one descriptor. Use it in a with statement.

    Threads may share it; calls take turns. After fork() a child must not use what it inherited.
    """

    def __init__(self, *, inline: bool = False, log: Optional[LogCallback] = None, log_level: int = LogLevel.INFO) -> None:
        ret = ptr()
        core = Core()
        lib.k3sup_ctx_new(ctypes.byref(_ffi.CtxOpts(flags=CTX_INLINE if inline else 0)), ctypes.byref(ret))
        super().__init__(core, ret.value, lib.k3sup_ctx_unref)
        core.children.discard(self)
        core.fd = lib.k3sup_ctx_fd(self._ptr)
        self._loops: Dict[asyncio.AbstractEventLoop, int] = {}
        self._key = next(_keys)
        _CORES[self._key] = core
        if log is not None:
            self.set_log(log, log_level)

    def close(self) -> None:
        """Close all operations and nodes, then the context. Operations that still run are cancelled and waited for."""
        with self._core:
            for child in sorted(self._core.children, key=lambda child: isinstance(child, Node)):
                child.close()
            super().close()

    def node(self, **options: Any) -> Node:
        """Name a node; see Node for the options."""
        return Node(self, **options)

    def build_read(self, file: Payload, *, archive: bool = False, run_version: bool = False) -> Op:
        """What k3s binary is this file (a path, a descriptor, an open file)? Read without executing it.

        `archive`: the archive inside must have the SHA-256 that it is named by. `run_version`: a copy is run with --version all the same, confined.
        """
        path, fd, flags = payload_of(file, BUILD_READ_FD)
        flags |= (BUILD_READ_ARCHIVE if archive else 0) | (BUILD_READ_RUN_VERSION if run_version else 0)
        opts = _ffi.BuildReadOpts(flags=flags, path=path, fd=fd)
        ret = ptr()
        with self._core:
            lib.k3sup_build_read(self._ptr, ctypes.byref(opts), ctypes.byref(ret))
            return Op(self, self, ret.value)

    def certs_ca_check(self, directory: Path, server_dir: Path) -> Op:
        """Would a server, whose <data-dir>/server is `server_dir`, take the authorities that were prepared in `directory`/tls?"""
        opts = _ffi.CertsCaCheckOpts(dir=encode(directory), server_dir=encode(server_dir))
        ret = ptr()
        with self._core:
            lib.k3sup_certs_ca_check(self._ptr, ctypes.byref(opts), ctypes.byref(ret))
            return Op(self, self, ret.value)

    def set_log(self, log: Optional[LogCallback], level: int = LogLevel.INFO) -> None:
        """Call log(level, component, message) for each line that is at least so important; None for silence.

        It runs inside wait() or dispatch() and must not use the context. What it raises is reported and never stops an operation.
        """
        with self._core as core:
            lib.k3sup_ctx_set_log(self._ptr, level if log is not None else LogLevel.NONE, _on_log, self._key)
            core.log = log

    def fileno(self) -> int:
        """The descriptor to watch for input, without a timeout; call dispatch() when it is readable."""
        with self._core as core:
            return core.fd if self._ptr else -1

    def dispatch(self) -> bool:
        """Do what is ready, run callbacks, never wait. True if something was done."""
        with self._core as core:
            return bool(core.drive(lib.k3sup_ctx_dispatch, self._ptr))

    def _attach(self, loop: asyncio.AbstractEventLoop) -> None:
        if loop not in self._loops:
            loop.add_reader(self.fileno(), self.dispatch)
        self._loops[loop] = self._loops.get(loop, 0) + 1

    def _detach(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loops[loop] -= 1
        if self._loops[loop] == 0:
            del self._loops[loop]
            loop.remove_reader(self._core.fd)


_keys = itertools.count(1)
_CORES: "weakref.WeakValueDictionary[int, Core]" = weakref.WeakValueDictionary()


def _log(level: int, component: bytes, message: bytes, key: int) -> None:
    core = _CORES.get(key)
    if core is None or core.log is None:
        return
    try:
        core.log(level, component.decode(errors="replace"), message.decode(errors="replace"))
    except Exception:
        # As in the logging module: a log that cannot be written must not stop an upgrade.
        sys.excepthook(*sys.exc_info())
    except BaseException as e:
        core.interrupt = e  # Ctrl-C: raised when C has come back


_on_log = _ffi.log_fn(_log)
