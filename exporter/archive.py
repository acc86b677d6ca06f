"""Writes one archive file, zip or gzip, from a stream of JSON lines.

Compression runs in a thread of its own behind a short queue: it overlaps with encoding, memory stays
bounded, and whatever goes wrong in the thread is raised by the caller's next call. A small archive, of
which there are thousands in a run, is made where its lines come from, and is no file at all as long as there
is memory for it: it is lost with its process either way, and rendered again. The containers are written by
hand because consumers are particular: one member, sizes in its local header, a constant time, no zip64, no
comment. The same lines in the same chunks give the same bytes on one machine.

It must not know what a record is, what the object is called, or where it goes.
"""

from __future__ import annotations

import hashlib
import io
import os
import struct
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple, Protocol, Self

from isal import isal_zlib

from exporter.model import Content

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from typing import IO

NAME: Final = "archive"
"""What its file is called, if it is one."""

_LEVEL = 1  # 2 takes 4 % longer to save 0.3 to 2.6 %; 3 takes twice as long
_RAW_DEFLATE = -15
_QUEUED_CHUNKS = 8  # evens out encoder and compressor, which also wait for each other's interpreter
_QUEUED_BYTES = 5 << 20  # every chunk is memory: where they are more than this together,
_LARGE_CHUNKS = 4  # no more than these wait
_BUFFER_BYTES = 1 << 20  # of the file: a call that waits for the disk waits for the interpreter, too
_SMALL_BYTES = 512 << 10  # of lines: below it, starting a thread and reading back takes longer than deflating
_ZIP_MAX_BYTES = 0xFFFF_FFFE  # one more is the mark of a zip64 file


class Room(Protocol):
    """What an archive in the making may take up."""

    @property
    def path(self) -> Path:
        """The folder for its files, whether or not it is there."""
        ...

    def file(self, name: str) -> Path:
        """Where a file of this name belongs, in a folder that is there from now on. Raises WorkspaceError."""
        ...

    def keeps(self, size_bytes: int) -> bool:
        """Whether so many bytes more may stay in memory, as they do from now on, if so."""
        ...


class TooLargeForZip(ValueError):
    """More than a zip file can hold without zip64."""


def suffix(kind: str, body: str = "ndjson") -> str:
    """What the object names of this kind of archive (``zip`` or ``gzip``) with this body end in."""
    return _CONTAINERS[kind].suffixes[body]


def content_type(kind: str, body: str = "ndjson") -> str:
    """The media type of this kind of archive (``zip`` or ``gzip``) with this body."""
    return _CONTAINERS[kind].content_types[body]


def member_suffix(body: str) -> str:
    """What the name of the file inside a zip ends in."""
    return _BODIES[body].member_suffix


class ArchiveWriter:
    """One archive in the making; leaving the context without ``finish`` removes its file, if there is one.

    ``kind`` is ``zip`` or ``gzip``; ``body`` is ``ndjson``, ``json_array`` or ``lines`` (of text); ``member``
    is ASCII and names the file inside a zip. Everything raises WorkspaceError where there is no ``room``
    and OSError when the file cannot be written, and ``finish`` TooLargeForZip. One thread may use it.
    """

    made: Path | bytes
    """The archive itself, once it is finished."""

    def __init__(self, room: Room, *, kind: str, body: str, member: str) -> None:
        container, shape = _CONTAINERS[kind](member), _BODIES[body]()
        self._room = room
        self._count = 0
        self._finished = False
        self._queue: deque[tuple[_Work, int]] = deque()
        self._queued_bytes = 0
        self._file: _File | None = None
        self._memory = io.BytesIO()
        self._member = _Member(self._memory, container, shape)
        self._worker: ThreadPoolExecutor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._worker is not None:
            self._worker.shutdown(cancel_futures=True)
        if self._file is not None:
            self._file.opened.raw.close()  # not through the buffer: flushing after a failure would fail again
            if not self._finished:
                self._file.path.unlink(missing_ok=True)

    def write(self, lines: bytes, count: int) -> None:
        """Add ``count`` JSON lines, each with its line feed; waits while the queue is full."""
        if self._worker is None and self._member.content_bytes + len(lines) > _SMALL_BYTES:
            self._submit(self._leave_memory).result()
            self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="archive")
        self._submit(self._member.add, lines, size_bytes=len(lines))
        self._count += count

    def finish(self, *, late: int, bad: int) -> Content:
        """Complete and measure it; no file is synced: what a crash takes is rendered again."""
        self._submit(self._member.end)
        measured = self._submit(_read_back, self._file) if self._file else self._submit(self._put_away)
        while self._queue:
            self._await_oldest()
        self.made, archive_bytes, archive_sha256 = measured.result()
        self._finished = True
        return Content(
            count=self._count,
            late=late,
            bad=bad,
            content_bytes=self._member.content_bytes,
            content_sha256=self._member.sha256.hexdigest(),
            archive_bytes=archive_bytes,
            archive_sha256=archive_sha256,
        )

    def _submit(self, work: Callable[..., Any], *arguments: Any, size_bytes: int = 0) -> _Work:  # noqa: ANN401 - any work's
        while not self._has_room(size_bytes):
            self._await_oldest()
        submit = _Done if self._worker is None else self._worker.submit
        self._queue.append((submit(work, *arguments), size_bytes))
        self._queued_bytes += size_bytes
        return self._queue[-1][0]

    def _has_room(self, size_bytes: int) -> bool:
        """Whether one more may wait: a few in any case, and as many more as are small."""
        most = _QUEUED_CHUNKS if self._queued_bytes + size_bytes <= _QUEUED_BYTES else _LARGE_CHUNKS
        return len(self._queue) < most

    def _await_oldest(self) -> None:
        work, size_bytes = self._queue[0]
        work.result()
        self._queue.popleft()  # only now: what failed stays, so that no later call can succeed
        self._queued_bytes -= size_bytes

    def _leave_memory(self) -> _File:
        """From here on into a file, which has what there is so far."""
        path = self._room.file(NAME)
        self._file = file = _File(path, _create(path))
        file.opened.write(self._memory.getbuffer())
        self._member.file = file.opened
        return file

    def _put_away(self) -> tuple[Path | bytes, int, str]:
        """The small archive, in memory or else in its file; its size and hash."""
        archive = self._memory.getvalue()
        measured = len(archive), hashlib.sha256(archive).hexdigest()
        if self._room.keeps(len(archive)):
            return archive, *measured
        file = self._leave_memory()
        file.opened.flush()
        return file.path, *measured


class _File(NamedTuple):
    """An archive's, in the making."""

    path: Path
    opened: io.BufferedRandom


def _read_back(file: _File) -> tuple[Path, int, str]:
    """The file, whose first bytes were written last; its size and hash."""
    path, opened = file
    archive_bytes = opened.seek(0, os.SEEK_END)
    opened.seek(0)
    return path, archive_bytes, hashlib.file_digest(opened, "sha256").hexdigest()


class _Work(Protocol):
    """Something to do, which may be under way."""

    def result(self) -> Any:  # noqa: ANN401 - any work's
        """What came of it, once it is done; raises what it raised."""
        ...


class _Done:
    """Work that was done where it was handed over."""

    def __init__(self, work: Callable[..., Any], *arguments: Any) -> None:  # noqa: ANN401 - any work's
        self._failure: Exception | None = None
        try:
            self._result = work(*arguments)
        except Exception as error:  # noqa: BLE001 - raised again by whoever asks for the result
            self._failure = error

    def result(self) -> Any:  # noqa: ANN401 - any work's
        if self._failure is not None:
            raise self._failure
        return self._result


class _Member:
    """The one member: shapes, measures, compresses and writes what is added. Used by one thread at a time."""

    def __init__(self, file: IO[bytes], container: _Container, body: _Body) -> None:
        self.file = file
        self._container = container
        self._body = body
        self._deflate = isal_zlib.compressobj(_LEVEL, wbits=_RAW_DEFLATE)
        self._crc32 = 0
        self.sha256 = hashlib.sha256()
        self.content_bytes = 0
        file.write(container.header())

    def add(self, lines: bytes) -> None:
        self._store(self._body.add(lines))

    def end(self) -> None:
        self._store(self._body.end())
        self.file.write(self._deflate.flush())
        self._container.complete(self.file, self._crc32, self.content_bytes)

    def _store(self, content: bytes) -> None:
        self.sha256.update(content)
        self.content_bytes += len(content)
        self._crc32 = isal_zlib.crc32(content, self._crc32)
        self.file.write(self._deflate.compress(content))


class _Container(Protocol):
    """What stands around the deflated bytes of the member."""

    suffixes: ClassVar[Mapping[str, str]]
    """By the body; readers go by the name."""
    content_types: ClassVar[Mapping[str, str]]

    def __init__(self, member: str) -> None: ...
    def header(self) -> bytes: ...
    def complete(self, file: IO[bytes], crc32: int, content_bytes: int) -> None: ...


class _Gzip:
    suffixes: ClassVar[Mapping[str, str]] = {
        "ndjson": ".jsonl.gz",
        "json_array": ".json.gz",
        "lines": ".log.gz",
    }
    content_types: ClassVar[Mapping[str, str]] = {
        "ndjson": "application/x-ndjson",
        "json_array": "application/json",
        "lines": "text/plain",
    }

    def __init__(self, member: str) -> None:
        """A gzip file stays nameless: readers take the name of the object."""

    def header(self) -> bytes:
        magic, deflate, flags, no_time, fastest, unknown_system = 0x8B1F, 8, 0, 0, 4, 255
        return struct.pack("<HBBIBB", magic, deflate, flags, no_time, fastest, unknown_system)

    def complete(self, file: IO[bytes], crc32: int, content_bytes: int) -> None:
        file.write(struct.pack("<II", crc32, content_bytes & 0xFFFF_FFFF))


class _Zip:
    suffixes: ClassVar[Mapping[str, str]] = dict.fromkeys(_Gzip.suffixes, ".zip")
    content_types: ClassVar[Mapping[str, str]] = dict.fromkeys(_Gzip.content_types, "application/zip")

    def __init__(self, member: str) -> None:
        self._name = member.encode("ascii")

    def header(self) -> bytes:
        return self._local(self._facts(0, 0, 0))

    def complete(self, file: IO[bytes], crc32: int, content_bytes: int) -> None:
        end = file.tell()
        if max(end, content_bytes) > _ZIP_MAX_BYTES:
            raise TooLargeForZip(f"{content_bytes} bytes of records do not fit into a zip file without zip64")
        facts = self._facts(crc32, end - len(self.header()), content_bytes)
        central = self._central(facts)
        file.write(central)
        file.write(struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 1, 1, len(central), end, 0))
        file.seek(0)
        file.write(self._local(facts))  # over the first one, which could not know the sizes

    def _facts(self, crc32: int, deflated_bytes: int, content_bytes: int) -> bytes:
        """What local header and central directory share, from the version to the extra length."""
        version, flags, deflate, midnight, first_day_of_1980 = 20, 0, 8, 0, 0x21
        return struct.pack(
            "<5H3I2H",
            *(version, flags, deflate, midnight, first_day_of_1980),
            *(crc32, deflated_bytes, content_bytes),
            *(len(self._name), 0),
        )

    def _local(self, facts: bytes) -> bytes:
        return b"PK\3\4" + facts + self._name

    def _central(self, facts: bytes) -> bytes:
        unix, regular_file = 3, 0o100_644
        made_by = struct.pack("<BB", 20, unix)
        return b"PK\1\2" + made_by + facts + struct.pack("<3HII", 0, 0, 0, regular_file << 16, 0) + self._name


class _Body(Protocol):
    """How lines become the member's bytes."""

    member_suffix: ClassVar[str]

    def add(self, lines: bytes) -> bytes: ...
    def end(self) -> bytes: ...


class _Ndjson:
    member_suffix: ClassVar = ".json"

    def add(self, lines: bytes) -> bytes:
        return lines

    def end(self) -> bytes:
        return b""


class _Lines(_Ndjson):
    """Lines of text are stored as they come, too."""

    member_suffix: ClassVar = ".log"


class _JsonArray:
    """One record per line between brackets; the comma waits for the record after it."""

    member_suffix: ClassVar = ".json"

    def __init__(self) -> None:
        self._before = b"[\n"

    def add(self, lines: bytes) -> bytes:
        if not lines:
            return b""
        before, self._before = self._before, b",\n"
        return before + lines[:-1].replace(b"\n", b",\n")

    def end(self) -> bytes:
        return b"[]\n" if self._before == b"[\n" else b"\n]\n"


_CONTAINERS: dict[str, type[_Container]] = {"zip": _Zip, "gzip": _Gzip}
_BODIES: dict[str, type[_Body]] = {"ndjson": _Ndjson, "json_array": _JsonArray, "lines": _Lines}


def _create(path: Path) -> io.BufferedRandom:
    """A new file that nobody else may read."""
    file = io.FileIO(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "r+")
    return io.BufferedRandom(file, _BUFFER_BYTES)
