# SPDX-License-Identifier: Apache-2.0
import threading
import weakref
from typing import Any, Optional

from ._ffi import lib
from .document import Document, borrowed


class Process:
    """One process, held by a pidfd: it cannot become another one. May be used by any thread and outlives its context."""

    def __init__(self, raw: Optional[int]) -> None:
        """Takes over one reference."""
        self._raw = raw
        self._lock = threading.RLock()  # held while C uses it
        self._finalizer = weakref.finalize(self, lib.k3sup_process_unref, raw)

    @property
    def _ptr(self) -> int:
        if self._raw is None:
            raise ValueError("this Process is closed")
        return self._raw

    def close(self) -> None:
        """Give the handle back, and with the last one its pidfd."""
        with self._lock:
            self._raw = None
            self._finalizer()

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *exc: Any) -> None:
        self.close()

    @property
    def info(self) -> Document:
        """What was seen when it was identified: boot_id, pid_ns, pid, start_time, role, comm, exe, asset_hash, ..."""
        with self._lock:
            info = borrowed(lib.k3sup_process_info(self._ptr))
        return info if info is not None else Document.parse("{}")

    @property
    def pid(self) -> int:
        return self.info.integer("/pid")

    def fileno(self) -> int:
        """Its pidfd, which becomes readable when it ends; it belongs to this object."""
        with self._lock:
            return int(lib.k3sup_process_pidfd(self._ptr))

    def __repr__(self) -> str:
        return "<k3sup.Process closed>" if self._raw is None else "<k3sup.Process %s>" % self.info.get("/pid")
