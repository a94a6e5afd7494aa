# SPDX-License-Identifier: Apache-2.0
"""What the objects of one context share, and how they go.

A context and all that hangs on it may be used by one thread at a time, but Python's garbage collector runs finalizers in any thread at any
moment. So: every call into C holds the core's lock; a finalizer only writes down what is to be given back; whoever leaves the lock next
gives it back, except inside a callback, from where nothing may be called.
"""
import collections
import ctypes
import math
import os
import select
import threading
import weakref
from typing import Any, Callable, Deque, Optional, Sequence, Set, Tuple, Type, TypeVar, Union

LogCallback = Callable[[int, str, str], None]
Path = Union[str, bytes, "os.PathLike[str]", "os.PathLike[bytes]"]
Payload = Union[Path, int, Any]  # a path, a file descriptor, or something with fileno()
H = TypeVar("H", bound="Handle")


class Core:
    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.children: "weakref.WeakSet[Handle]" = weakref.WeakSet()
        self.held: Set[Any] = set()  # running operations with a done callback: they live until it was called
        self.dead: Deque[Tuple[Any, Optional[int]]] = collections.deque()
        self.driving = False  # C is running callbacks, on the thread that holds the lock
        self.interrupt: Optional[BaseException] = None
        self.log: Optional[LogCallback] = None
        self.fd = -1
        self.pid = os.getpid()

    def __enter__(self) -> "Core":
        self.lock.acquire()
        return self

    def __exit__(self, *exc: object) -> None:
        self._bury()
        self.lock.release()
        self.tidy()

    def drive(self, function: Any, *args: Any) -> Any:
        """Call a C function that may run callbacks. The lock is held."""
        nested = self.driving
        self.driving = True
        try:
            result = function(*args)
        finally:
            self.driving = nested
        if self.interrupt is not None and not nested:
            interrupt, self.interrupt = self.interrupt, None
            raise interrupt
        return result

    def pause(self, seconds: Optional[float]) -> None:
        """Let go of the lock until there is something to dispatch; at most for a second, since another thread may dispatch it."""
        seconds = 1.0 if seconds is None else min(seconds, 1.0)
        poller = select.poll()
        poller.register(self.fd, select.POLLIN)
        self.lock.release()
        try:
            poller.poll(math.ceil(seconds * 1000))  # in Python, so that Ctrl-C ends it
        finally:
            self.lock.acquire()

    def release(self, unref: Any, ptr: Optional[int]) -> None:
        """Finalizers come here. A forked child must not touch the context it inherited."""
        if os.getpid() == self.pid:
            self.dead.append((unref, ptr))
            self.tidy()

    def tidy(self) -> None:
        while self.dead and not self.driving and self.lock.acquire(blocking=False):
            try:
                if self.driving:
                    return
                self._bury()
            finally:
                self.lock.release()

    def _bury(self) -> None:
        while self.dead and not self.driving:
            unref, ptr = self.dead.popleft()
            self.driving = True
            try:
                unref(ptr)
            finally:
                self.driving = False


class Handle:
    """A counted object of C. Closing it gives the reference back; so does the garbage collector, later."""

    def __init__(self, core: Core, ptr: Optional[int], unref: Any) -> None:
        self._core = core
        self._raw = ptr
        self._finalizer = weakref.finalize(self, core.release, unref, ptr)
        core.children.add(self)

    @property
    def _ptr(self) -> int:
        if self._raw is None:
            raise ValueError("this %s is closed" % type(self).__name__)
        return self._raw

    @property
    def closed(self) -> bool:
        return self._raw is None

    def close(self) -> None:
        """Give it back. Again is fine."""
        with self._core:
            self._raw = None
            self._finalizer()

    def __enter__(self: H) -> H:
        return self

    def __exit__(self, kind: Optional[Type[BaseException]], value: Optional[BaseException], traceback: Any) -> None:
        self.close()


def whole(raw: bytes) -> bytes:
    if b"\0" in raw:
        raise ValueError("embedded null byte")  # C would see another, shorter text
    return raw


def encode(path: Path) -> bytes:
    return whole(os.fsencode(path))


def encode_opt(path: Optional[Path]) -> Optional[bytes]:
    return None if path is None else encode(path)


def encode_list(paths: Union[Path, Sequence[Path]]) -> Any:
    """A list for C, with NULL at its end; None for an empty one. One path alone will do."""
    some = [paths] if isinstance(paths, (str, bytes, os.PathLike)) else list(paths)
    return (ctypes.c_char_p * (len(some) + 1))(*(encode(path) for path in some), None) if some else None


def payload_of(payload: Payload, fd_flag: int) -> Tuple[Optional[bytes], int, int]:
    """(path, descriptor, flag); C makes a copy of the descriptor before the verb comes back."""
    if isinstance(payload, int):
        return None, payload, fd_flag
    if hasattr(payload, "fileno"):
        return None, payload.fileno(), fd_flag
    return encode(payload), -1, 0


def ms(seconds: Optional[float], none: int = -1, least: int = 1) -> int:
    """In C a time of 0 means "the default" and one below 0 means "for ever"; here None is for ever and 0 is short."""
    return none if seconds is None else max(least, math.ceil(seconds * 1000))
