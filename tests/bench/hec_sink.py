"""A plain sink for events: takes what comes as cheaply as it can, and counts afterwards what came.

`python -m tests.bench.hec_sink` runs one as a process of its own; `sink()` does so for a benchmark. Bodies go
into a file as they arrive, and are unpacked and parsed only when somebody asks `counted`, so that a
measurement pays for reading a socket and for nothing else. It checks no token and refuses nothing:
``tests.kit.hec_server`` is the collector for tests.
"""

from __future__ import annotations

import argparse
import gzip
import socket
import subprocess
import sys
import tempfile
import threading
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterator

ANSWER: Final = b'{"text":"Success","code":0}'
HEAD: Final = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
MOST_HEAD_BYTES: Final = 1 << 16
BLOCK_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Counted:
    """What came: objects as the collector counts them, and how many different event ids they have."""

    events: int
    ids: int
    requests: int
    wire_bytes: int

    @property
    def is_exact(self) -> bool:
        """Whether nothing came twice."""
        return self.events == self.ids


@dataclass
class Sink:
    """Where it listens, and the folder that has what came."""

    port: int
    folder: Path

    @property
    def url(self) -> str:
        """For a configuration, which has to `allow` the host."""
        return f"http://127.0.0.1:{self.port}"

    def forget(self) -> None:
        """Begin at nothing; while nobody sends."""
        for path in self.folder.glob("*.bodies"):
            path.unlink()

    def counted(self) -> Counted:
        """Unpack and parse all that came since the last `forget`; while nobody sends."""
        events = requests = wire_bytes = 0
        ids: set[str] = set()
        for body in chain.from_iterable(map(_bodies, sorted(self.folder.glob("*.bodies")))):
            requests += 1
            wire_bytes += len(body)
            lines = (gzip.decompress(body) if body.startswith(b"\x1f\x8b") else body).splitlines()
            events += len(lines)
            ids.update(str(orjson.loads(line)["fields"]["event_id"]) for line in lines)
        return Counted(events, len(ids), requests, wire_bytes)


@contextmanager
def sink() -> Iterator[Sink]:
    """One in a process of its own, until the end of the context."""
    with tempfile.TemporaryDirectory() as name:
        command = (sys.executable, "-m", "tests.bench.hec_sink", "--folder", name)
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)
        with process:  # its end is the end of its input
            if process.stdout is None or not (port := process.stdout.readline().strip()):
                raise RuntimeError("the sink did not start")
            yield Sink(int(port), Path(name))


def _bodies(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while size := file.read(8):
            yield file.read(int.from_bytes(size))


# --- its process ------------------------------------------------------------------------------------


@dataclass
class _Connection:
    """One of a client, and what was read of it beyond the last request."""

    socket: socket.socket
    folder: Path
    buffer: bytearray = field(default_factory=lambda: bytearray(BLOCK_BYTES))
    rest: bytes = b""

    def serve(self) -> None:
        """Answer one request after the other until the client goes."""
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with closing(self.socket):
            while (head := self._head()) is not None:
                self._keep(_length(head), expects=b"100-continue" in head.lower())
                self.socket.sendall(HEAD % (len(ANSWER), ANSWER))

    def _head(self) -> bytes | None:
        while b"\r\n\r\n" not in self.rest:
            more = self.socket.recv(MOST_HEAD_BYTES)
            if not more or len(self.rest) > MOST_HEAD_BYTES:
                return None
            self.rest += more
        head, _, self.rest = self.rest.partition(b"\r\n\r\n")
        return head

    def _keep(self, length: int, *, expects: bool) -> None:
        """Move a body from the socket into a file; a new one after each `forget`."""
        if expects:
            self.socket.sendall(CONTINUE)
        begun, self.rest = self.rest[:length], self.rest[length:]
        with (self.folder / f"{threading.get_ident()}.bodies").open("ab", 0) as file:
            _write(file, length.to_bytes(8) + begun)
            left = length - len(begun)
            while left:
                received = self.socket.recv_into(self.buffer, min(left, BLOCK_BYTES))
                if not received:
                    raise ConnectionError("the client went in the middle of a request")
                _write(file, memoryview(self.buffer)[:received])
                left -= received


def _write(file: IO[bytes], data: bytes | memoryview) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            return int(value)
    return 0


def _serve(folder: Path, port: int) -> None:
    with socket.create_server(("127.0.0.1", port)) as server:
        sys.stdout.write(f"{server.getsockname()[1]}\n")
        sys.stdout.flush()
        while True:
            client, _ = server.accept()
            threading.Thread(target=_Connection(client, folder).serve, daemon=True).start()


def main() -> None:
    """Print the port, then serve until the input ends."""
    parser = argparse.ArgumentParser(description="A plain sink for events.")
    parser.add_argument("--folder", type=Path, required=True, help="where to keep what comes")
    parser.add_argument("--port", type=int, default=0, help="0: any that is free")
    arguments = parser.parse_args()
    threading.Thread(target=_serve, args=(arguments.folder, arguments.port), daemon=True).start()
    sys.stdin.read()


if __name__ == "__main__":
    main()
