# SPDX-License-Identifier: Apache-2.0
"""Operations, and how callbacks come back from C.

1. C knows two functions, _on_progress and _on_done, which live as long as this module; which operation is meant is a number (userdata),
   never a pointer.
2. _OPS finds the operation for the number. One that was collected or closed is not found, and nothing happens.
3. An exception must not go through C. It is kept in the operation, C is told to stop (K3SUP_E_CALLBACK), and wait() raises it at the end.
"""
import asyncio
import ctypes
import errno
import itertools
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any, Callable, Generator, List, NamedTuple, Optional, Tuple

from ._core import Handle
from ._errors import K3supError, error
from ._ffi import Progress as CProgress
from ._ffi import check, done_fn, lib, name_of, progress_fn, ptr, text_of
from .constants import Code
from .document import Document, borrowed
from .process import Process

if TYPE_CHECKING:
    from .context import Context

RUNNING = -errno.EINPROGRESS


class Progress(NamedTuple):
    """What a progress callback is told."""

    percent: int  # of the whole operation, never falling
    step: str
    text: str
    done: Optional[int]  # of this step, in bytes or milliseconds
    total: Optional[int]
    downtime: Optional[float]  # seconds k3s has been down in this operation; None if it has not been


class Op(Handle):
    """A running or ended operation. Nothing of it runs before the context is driven: by wait(), by await, or by Context.dispatch().

    Keep it: an operation that nobody holds any more is cancelled, unless it has a done callback.
    """

    def __init__(self, context: "Context", parent: Handle, raw: Optional[int]) -> None:
        super().__init__(context._core, raw, lib.k3sup_op_unref)
        self._context = context
        self._parent = parent
        self._waiters: List[Tuple[asyncio.AbstractEventLoop, "asyncio.Future[None]"]] = []
        self._progress: Optional[Callable[[Progress], None]] = None
        self._done: Optional[Callable[["Op"], None]] = None
        self._raised: Optional[BaseException] = None
        self._life = threading.RLock()  # cancel() must not wait for a thread that is inside C, so it cannot take the core's lock
        self._key = next(_keys)
        _OPS[self._key] = self
        lib.k3sup_op_set_done(self._ptr, _on_done, self._key)

    def close(self) -> None:
        """Give it back. One that still runs is cancelled and goes to its next safe point when the context is driven or closed."""
        with self._core:
            with self._life:
                super().close()
            self._core.held.discard(self)
            self._wake()

    def cancel(self) -> None:
        """Ask it to stop at its next safe point. From any thread and from callbacks; past its point of no return it is ignored."""
        with self._life:
            if self._raw is not None:
                lib.k3sup_op_cancel(self._raw)

    @property
    def status(self) -> int:
        """-EINPROGRESS, else below 0 the error, 0: already so, 1: changed."""
        with self._core:
            return int(lib.k3sup_op_status(self._ptr))

    @property
    def running(self) -> bool:
        return self.status == RUNNING

    @property
    def result(self) -> Optional[Document]:
        """The result, of failures too; None while it runs."""
        with self._core:
            return borrowed(lib.k3sup_op_result(self._ptr))

    @property
    def error(self) -> Optional[K3supError]:
        """Why it failed; None while it runs and if it did not."""
        with self._core:
            doc = borrowed(lib.k3sup_op_error(self._ptr))
        if doc is None:
            return None
        said = doc.as_python()
        return error(said["code"], said["name"], said["message"], said["evidence"])

    @property
    def processes(self) -> List[Process]:
        """What identify() or wait_running() found."""
        found: List[Process] = []
        with self._core:
            while True:
                ret = ptr()
                r = lib.k3sup_op_process(self._ptr, len(found), ctypes.byref(ret))
                if r == -errno.ENOENT:
                    return found
                check(r)
                found.append(Process(ret.value))

    def set_progress(self, callback: Optional[Callable[[Progress], None]]) -> None:
        """Call it at each step and some times a second. If it raises, the operation is asked to stop, and wait() raises that.

        It runs inside wait() or dispatch() and must not use the context, except cancel().
        """
        with self._core:
            self._progress = callback
            lib.k3sup_op_set_progress(self._ptr, _on_progress, self._key)

    def set_done(self, callback: Optional[Callable[["Op"], None]]) -> None:
        """Call it once when the operation has ended; if it has already, in the next dispatch()."""
        with self._core:
            self._done = callback
            (self._core.held.add if callback else self._core.held.discard)(self)
            lib.k3sup_op_set_done(self._ptr, _on_done, self._key)

    def wait(self, timeout: Optional[float] = None) -> Document:
        """Drive the context until the operation has ended and return its result; raise what it failed with.

        TimeoutError: it still runs after `timeout` seconds and goes on: wait again, or cancel(). Several threads may wait on one context.
        """
        deadline = None if timeout is None else time.clock_gettime(time.CLOCK_BOOTTIME) + timeout
        with self._core as core:
            while True:
                r = core.drive(lib.k3sup_op_wait, self._ptr, 0)
                if lib.k3sup_op_status(self._ptr) != RUNNING:
                    return self.outcome()
                if r != RUNNING:
                    raise error(r, name_of(r), text_of(r))  # not of the operation: called from a callback, or the loop failed
                left = None if deadline is None else deadline - time.clock_gettime(time.CLOCK_BOOTTIME)
                if left is not None and left <= 0:
                    raise TimeoutError("still running after %g s" % (timeout or 0))
                core.pause(left)

    def outcome(self) -> Document:
        """What wait() returns or raises, for hosts that drive the context themselves. Only after the end."""
        if self._raised is not None:
            raise self._raised
        failure = self.error
        if failure is not None:
            raise failure
        result = self.result
        if result is None:
            raise error(RUNNING, name_of(RUNNING), "the operation still runs")
        return result

    async def async_wait(self) -> Document:
        """The same in asyncio. Cancelling the task cancels the operation and waits for its end; a second time it does not wait."""
        loop = asyncio.get_running_loop()
        cancelled: Optional[asyncio.CancelledError] = None
        self._context._attach(loop)
        try:
            while True:
                waiter = loop.create_future()
                self._waiters.append((loop, waiter))
                try:
                    if not self.running:
                        break
                    await waiter
                except asyncio.CancelledError as e:
                    if cancelled is not None:
                        raise
                    cancelled = e
                    self.cancel()
                finally:
                    self._waiters.remove((loop, waiter))
        finally:
            self._context._detach(loop)
        if cancelled is not None:
            raise cancelled
        return self.outcome()

    def __await__(self) -> Generator[Any, None, Document]:
        return self.async_wait().__await__()

    def _wake(self) -> None:
        for loop, waiter in list(self._waiters):
            loop.call_soon_threadsafe(_resolve, waiter)

    def _ended(self) -> None:
        self._core.held.discard(self)
        self._wake()
        if self._done is not None:
            callback, self._done = self._done, None
            callback(self)

    def _guard(self, function: Callable[..., None], *args: Any) -> int:
        try:
            function(*args)
        except BaseException as e:
            if self._raised is None:
                self._raised = e
            return int(Code.CALLBACK)
        return 0

    def _report(self, progress: Any) -> None:
        if self._progress is None or self._raised is not None:
            return
        p: CProgress = progress.contents
        self._progress(Progress(p.percent, p.step.decode(), p.text.decode(errors="replace"), p.done if p.done >= 0 else None,
                                p.total if p.total >= 0 else None, p.downtime_ms / 1000 if p.downtime_ms >= 0 else None))


_keys = itertools.count(1)
_OPS: "weakref.WeakValueDictionary[int, Op]" = weakref.WeakValueDictionary()


def _resolve(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_result(None)


def _progress(progress: Any, key: int) -> int:
    op = _OPS.get(key)
    return op._guard(op._report, progress) if op is not None else 0


def _done(raw: int, key: int) -> None:
    op = _OPS.get(key)
    if op is not None:
        op._guard(op._ended)


_on_progress = progress_fn(_progress)
_on_done = done_fn(_done)
