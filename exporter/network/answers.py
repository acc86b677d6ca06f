"""Answers with an end: whoever answers slowly or without bounds, byte by byte, ends up with an error.

The time-out of a socket begins anew with every byte. It must not know what an answer means.
"""

from __future__ import annotations

import io
import time
from http.client import HTTPResponse
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import socket

    from _typeshed import WriteableBuffer

MAX_ANSWER_BYTES: Final = 4 << 20  # what stores answer to an upload is a thousandth of it
ANSWERS_FOR_WAITS: Final = 2  # an answer may take as long as so many waits


class BoundedResponse(HTTPResponse):
    """An answer of at most `MAX_ANSWER_BYTES`, which takes no longer than two time-outs of its socket.

    Reading raises TimeoutError or OSError beyond that.
    """

    def __init__(self, sock: socket.socket, *args: Any, **options: Any) -> None:  # noqa: ANN401 - the base's
        super().__init__(sock, *args, **options)
        self.fp = io.BufferedReader(Bounded(sock, self.fp.detach()))


class Bounded(io.RawIOBase):
    """What a socket still has to give, while there is time and room."""

    def __init__(self, sock: socket.socket, raw: io.RawIOBase) -> None:
        super().__init__()
        self._sock = sock
        self._raw = raw
        self._wait_s = sock.gettimeout()
        self._until = None if self._wait_s is None else time.monotonic() + ANSWERS_FOR_WAITS * self._wait_s
        self._left_bytes = MAX_ANSWER_BYTES

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int | None:
        """The next bytes, however few."""
        if self._wait_s is not None and self._until is not None:
            left_s = self._until - time.monotonic()
            if left_s <= 0:
                raise TimeoutError("the answer went on for too long")
            if left_s < self._wait_s:
                self._sock.settimeout(left_s)
        count = self._raw.readinto(buffer)
        self._left_bytes -= count or 0
        if self._left_bytes < 0:
            raise OSError(f"the answer is longer than {MAX_ANSWER_BYTES} bytes")
        return count

    def close(self) -> None:
        """Give the socket back."""
        self._raw.close()
        super().close()
