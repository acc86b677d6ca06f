"""A plain S3 for benchmarks: takes every object, keeps none, answers as Amazon's does, as cheaply as it can.

In a process of its own, so that its share of the CPU is told apart: `python -m tests.bench.sink` prints the
address it listens at, and goes on until it is ended. A name that was taken answers 412 to a further
create-only put, as the exporter first asks of every store that is not Amazon's. It must not be taken for
a store: it checks no signature and no checksum.
"""

from __future__ import annotations

import argparse
import asyncio
from typing import Final, cast

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
CREATED: Final = b'HTTP/1.1 200 OK\r\nETag: "0123456789abcdef0123456789abcdef"\r\nContent-Length: 0\r\n\r\n'
TAKEN_BODY: Final = b"<Error><Code>PreconditionFailed</Code><Message>taken</Message></Error>"
TAKEN: Final = b"HTTP/1.1 412 Precondition Failed\r\nContent-Length: %d\r\n\r\n%s" % (
    len(TAKEN_BODY),
    TAKEN_BODY,
)
HEAD_END: Final = b"\r\n\r\n"


class Sink(asyncio.Protocol):
    """One connection: requests one after another, each answered when its body is through."""

    def __init__(self, taken: set[bytes]) -> None:
        self._taken = taken
        self._head = b""
        self._left_bytes = 0
        self._answer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is there."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Some more of a request, or of several."""
        while data or (self._answer and not self._left_bytes):
            if self._answer:
                taken = min(self._left_bytes, len(data))
                self._left_bytes -= taken
                data = data[taken:]
                if not self._left_bytes:
                    self._transport.write(self._answer)
                    self._answer = b""
            else:
                head, end, data = (self._head + data).partition(HEAD_END)
                self._head = b"" if end else head
                if end:
                    self._begin(head)

    def _begin(self, head: bytes) -> None:
        line, *fields = head.split(b"\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (one.partition(b":") for one in fields)}
        self._left_bytes = int(headers.get(b"content-length", b"0"))
        name = line.split(b" ", 2)[1]
        self._answer = TAKEN if name in self._taken else CREATED
        self._taken.add(name)
        if headers.get(b"expect", b"").lower() == b"100-continue":
            self._transport.write(CONTINUE)


async def serve(port: int) -> None:
    """Listen on this machine alone until the process is ended; says where."""
    taken: set[bytes] = set()
    server = await asyncio.get_running_loop().create_server(lambda: Sink(taken), "127.0.0.1", port)
    host, chosen = server.sockets[0].getsockname()
    print(f"http://{host}:{chosen}", flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A plain S3 for benchmarks.")
    parser.add_argument("--port", type=int, default=0, help="0: any that is free")
    asyncio.run(serve(parser.parse_args().port))
