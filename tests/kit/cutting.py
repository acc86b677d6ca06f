"""A wire to a server that is cut at a chosen byte of a request or of its answer: a reset, as routers do."""

from __future__ import annotations

import socket
import struct
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from selectors import EVENT_READ, DefaultSelector
from threading import Thread
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import re
    from collections.abc import Iterator
    from selectors import SelectorKey

RESET = struct.pack("ii", 1, 0)  # linger for no time: what is unsent is dropped, and the peer is told so
METHODS = (b"DELETE ", b"GET ", b"POST ", b"PUT ")


@dataclass
class Wire:
    """What went over it of the exchange that ``begins`` matches, and after how many bytes it is cut."""

    upstream: str
    begins: re.Pattern[bytes]
    cut_request_at: int | None = None
    cut_answer_at: int | None = None
    url: str = ""
    request: bytearray = field(default_factory=bytearray)
    answer: bytearray = field(default_factory=bytearray)
    _counts: bool = False

    def carry(self, client: socket.socket) -> None:
        """Everything in both directions, until somebody hangs up or the cut."""
        parts = urlsplit(self.upstream)
        with (
            closing(client),
            socket.create_connection((parts.hostname or "", parts.port or 80)) as server,
            DefaultSelector() as ready,
        ):
            ready.register(client, EVENT_READ, (server, self._take_request))
            ready.register(server, EVENT_READ, (client, self._take_answer))
            with suppress(OSError):
                while all(self._carry_one(key, client) for key, _ in ready.select()):
                    pass

    def _carry_one(self, ready: SelectorKey, client: socket.socket) -> bool:
        target, take = ready.data
        data = ready.fileobj.recv(65536)  # type: ignore[union-attr] # a socket
        passed = take(data)
        target.sendall(passed)
        if len(passed) < len(data):
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            return False
        return bool(data)

    def _take_request(self, data: bytes) -> bytes:
        if data.startswith(METHODS):
            self._counts = self.begins.match(data) is not None
            if self._counts:
                self.request.clear()
                self.answer.clear()
        if not self._counts:
            return data
        return self._counted(data, self.request, self.cut_request_at)

    def _take_answer(self, data: bytes) -> bytes:
        return self._counted(data, self.answer, self.cut_answer_at) if self._counts else data

    @staticmethod
    def _counted(data: bytes, seen: bytearray, limit: int | None) -> bytes:
        passed = data if limit is None else data[: max(0, limit - len(seen))]
        seen += passed
        return passed


@contextmanager
def cut_wire(wire: Wire) -> Iterator[Wire]:
    """The wire, on a free port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        wire.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        Thread(target=_serve, args=(listener, wire), daemon=True).start()
        yield wire
        listener.shutdown(socket.SHUT_RDWR)


def _serve(listener: socket.socket, wire: Wire) -> None:
    with suppress(OSError):  # the listener ends with the test
        while True:
            client, _ = listener.accept()
            Thread(target=wire.carry, args=(client,), daemon=True).start()
