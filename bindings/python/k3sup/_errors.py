# SPDX-License-Identifier: Apache-2.0
from typing import Any, Dict, Optional, Tuple


class K3supError(Exception):
    """What libk3sup refused or failed to do. `code` is below 0: a constants.Code, or -errno in K3supOSError."""

    def __init__(self, code: int, name: str, message: str, evidence: Optional[Dict[str, Any]] = None) -> None:
        super().__init__(code, name, message, evidence)
        self.code = code
        self.name = name
        self.message = message
        self.evidence: Dict[str, Any] = evidence if evidence is not None else {}

    def __str__(self) -> str:
        return "%s (%s)" % (self.message, self.name)

    def __reduce__(self) -> Tuple[Any, ...]:
        # OSError keeps two arguments only, so what a copy is made from is said here.
        return type(self), (self.code, self.name, self.message, self.evidence)


class K3supOSError(K3supError, OSError):
    """The same for what the kernel refused: an OSError, with errno."""

    def __init__(self, code: int, name: str, message: str, evidence: Optional[Dict[str, Any]] = None) -> None:
        super().__init__(code, name, message, evidence)
        OSError.__init__(self, -code, message)


def error(code: int, name: str, message: str, evidence: Optional[Dict[str, Any]] = None) -> K3supError:
    # errno numbers end at 4095 (include/linux/err.h), the library's own begin at 10000.
    kind = K3supOSError if -4096 < code < 0 else K3supError
    return kind(code, name, message, evidence)
