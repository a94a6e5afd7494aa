# SPDX-License-Identifier: Apache-2.0
import ctypes
import json
import weakref
from typing import Any, Optional, Union

from ._core import whole
from ._errors import K3supOSError
from ._ffi import lib, ptr


class Document:
    """A read-only JSON value of the library: a result, an error, evidence. It may be used by any thread and outlives its context.

    Paths are JSON pointers: "/running/pid"; "" is the document itself.
    """

    def __init__(self, raw: Optional[int]) -> None:
        """Takes over one reference."""
        self._ptr = raw
        weakref.finalize(self, lib.k3sup_doc_unref, raw)

    @classmethod
    def parse(cls, text: Union[str, bytes]) -> "Document":
        raw = text.encode() if isinstance(text, str) else bytes(text)
        ret = ptr()
        lib.k3sup_doc_parse(raw, len(raw), ctypes.byref(ret))
        return cls(ret.value)

    @property
    def json(self) -> str:
        """All of it, on one line of ASCII."""
        return bytes(lib.k3sup_doc_json(self._ptr)).decode()

    def as_python(self) -> Any:
        return json.loads(self.json)

    def part(self, path: str) -> "Document":
        """A part as a document of its own; KeyError if nothing is there."""
        ret = ptr()
        try:
            lib.k3sup_doc_get(self._ptr, whole(path.encode()), ctypes.byref(ret))
        except K3supOSError as e:
            if e.errno == 2:
                raise KeyError(path) from None
            raise
        return Document(ret.value)

    def __getitem__(self, path: str) -> Any:
        return self.part(path).as_python()

    def get(self, path: str, default: Any = None) -> Any:
        try:
            return self[path]
        except KeyError:
            return default

    def __len__(self) -> int:
        return self.length("")

    def __bool__(self) -> bool:
        return True

    def length(self, path: str) -> int:
        """How many members or elements an object or array has."""
        return int(lib.k3sup_doc_len(self._ptr, whole(path.encode())))

    def text(self, path: str) -> str:
        """The string at a path; K3supError if there is none."""
        ret = ctypes.c_char_p()
        lib.k3sup_doc_str(self._ptr, whole(path.encode()), ctypes.byref(ret))
        return (ret.value or b"").decode()

    def integer(self, path: str) -> int:
        """The integer at a path, true is 1; K3supError if there is none."""
        ret = ctypes.c_int64()
        lib.k3sup_doc_i64(self._ptr, whole(path.encode()), ctypes.byref(ret))
        return ret.value

    def __repr__(self) -> str:
        return "<k3sup.Document %s>" % self.json


def borrowed(raw: Optional[int]) -> Optional[Document]:
    """A document that belongs to another object: take a reference to keep it."""
    return Document(lib.k3sup_doc_ref(raw)) if raw else None
