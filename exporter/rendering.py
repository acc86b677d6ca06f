"""From a source's blocks to one finished archive: one pass, memory that does not grow with the window.

It decides where a part ends and what becomes of a record that cannot be rendered. It knows neither
ledger nor destination. A disk that takes no more is a WorkspaceError: `_Written` says so of all that is
written, and of nothing that is read.
"""

from __future__ import annotations

import base64
import errno
from collections import Counter
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, Self

import orjson

from exporter.archive import NAME, ArchiveWriter, TooLargeForZip
from exporter.batches import Cuts, KeyFile, LineFile
from exporter.encoding import Encoding, one_by_one
from exporter.errors import WorkspaceError
from exporter.model import LEADING_BYTES, QUARANTINE_BYTES, QUARANTINE_RECORDS, BadRecord, Branch

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from pathlib import Path
    from types import TracebackType
    from typing import BinaryIO

    from exporter.archive import Room
    from exporter.encoding import Encoded
    from exporter.interfaces import Block, Format
    from exporter.model import Batch, Content, Key, Rendering

    Ahead = Callable[[Encoding, Iterable[Block]], Generator[tuple[Block, Encoded]]]
    """Blocks and what comes of them, in their order."""

WHOLE_BYTES: Final = QUARANTINE_BYTES - QUARANTINE_RECORDS * LEADING_BYTES

_BAD_NAME = "bad.jsonl"

_NO_ROOM = "free some room in the workspace, or move it to a larger volume"
_NO_RIGHT = "make the workspace a folder that this process may write to"
_NO_FOLDER = "create the workspace folder, or configure another one"
_HINTS: dict[int | None, str] = {
    errno.ENOSPC: _NO_ROOM,
    errno.EDQUOT: _NO_ROOM,
    errno.EFBIG: "raise this process's limit on file sizes (ulimit -f), or lower part_limit",
    errno.EACCES: _NO_RIGHT,
    errno.EPERM: _NO_RIGHT,
    errno.EROFS: _NO_RIGHT,
    errno.ENOENT: _NO_FOLDER,
    errno.ENOTDIR: _NO_FOLDER,
    errno.EEXIST: "another run may be using this workspace: wait for it to end, or give each run its own",
}
_OTHER_HINT = "look at the file system that holds the workspace"


@dataclass(frozen=True, slots=True)
class Rendered:
    """A finished archive and what it took: up to which key, and whether that was all there is."""

    body: Path | bytes
    content: Content
    bad: BadRecords
    last_key: Key | None
    final: bool
    batches: tuple[Batch, ...] = ()


class BadRecords:
    """The records of one archive that could not be rendered, in a file of the room: what the ledger keeps.

    A window may hold nothing else, so only the first ones are kept; of those, whole as long as there is
    room, then their leading bytes. Every one of them, with its leading bytes, is in the archive.
    """

    def __init__(self, room: Room) -> None:
        self._room = room
        self._file: BinaryIO | None = None
        self._room_bytes = WHOLE_BYTES
        self.count = 0

    def add(self, record: BadRecord) -> None:
        """Count one more, and keep what there is room for."""
        self.count += 1
        if self.count > QUARANTINE_RECORDS:
            return
        if len(record.body) > self._room_bytes:
            record = replace(record, body=record.body[:LEADING_BYTES])
        else:
            self._room_bytes -= len(record.body)
        if self._file is None:
            self._file = self._room.file(_BAD_NAME).open("xb")
        body = base64.b64encode(record.body).decode()
        texts = _storable(record.id), _storable(record.reason)
        self._file.write(orjson.dumps([*texts, record.length, body]) + b"\n")

    @property
    def _path(self) -> Path:
        return self._room.path / _BAD_NAME

    def __enter__(self) -> Self:
        return self

    def __exit__(self, failure: object, *_: object) -> None:
        if self._file is not None:
            try:
                self._file.close()
            except OSError:
                self._path.unlink(missing_ok=True)
                raise
            if failure is not None:
                self._path.unlink(missing_ok=True)

    def __iter__(self) -> Iterator[BadRecord]:
        if self._file is None:
            return
        with self._path.open("rb") as file:
            for line in file:
                record_id, reason, length, body = orjson.loads(line)
                yield BadRecord(record_id, reason, length, base64.b64decode(body))


class _Files:
    """What one rendering writes, entered and left as one: the archive, and the bad records beside it.

    Whatever is in the way of either is a WorkspaceError. Nothing in here touches the source, whose errors
    may be of the operating system, too.
    """

    def __init__(self, room: Room, rendering: Rendering, member: str) -> None:
        self.bad = BadRecords(room)
        self._cuts = Cuts(rendering.batch_bytes) if rendering.is_events else None
        self._keys: KeyFile | None = None
        self._written = _Written(room)
        self._both = ExitStack()
        self._both.push(self.bad)
        with self._written:
            if rendering.is_events:
                path = room.file(NAME)
                self._archive: ArchiveWriter | LineFile = LineFile(path)
                self._both.push(self._archive)
                self._keys = self._both.enter_context(KeyFile(path))
            else:
                kind, body = rendering.archive, rendering.body
                self._archive = ArchiveWriter(room, kind=kind, body=body, member=member)
                self._both.push(self._archive)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._written:
            self._both.__exit__(kind, failure, trace)

    @property
    def body(self) -> Path | bytes:
        """The archive, once it is finished."""
        return self._archive.made

    @property
    def batches(self) -> tuple[Batch, ...]:
        """Of events, once they are finished: how they go out."""
        return self._cuts.finish() if self._cuts else ()

    def add(self, lines: bytes, records: Block, bad: Iterable[BadRecord]) -> None:
        """The lines of some more records, and which of them are bad."""
        if self._cuts:
            self._cuts.add(lines, records)
        with self._written:
            if self._keys:
                self._keys.add(records)
            self._archive.write(lines, len(records))
            for record in bad:
                self.bad.add(record)

    def finish(self, late: int) -> Content:
        """Complete the archive and measure it."""
        with self._written:
            return self._archive.finish(late=late, bad=self.bad.count)


class _Written:
    """Entered while something is written in a room: what is in the way is a WorkspaceError."""

    def __init__(self, room: Room) -> None:
        self._room = room

    def __enter__(self) -> None:
        """Nothing is to be done."""

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, TooLargeForZip):
            raise WorkspaceError(str(error), hint="lower part_limit: at most 3 GiB") from error
        if isinstance(error, OSError):
            raise WorkspaceError(
                f"the archive {self._room.path / NAME} cannot be written: {error.strerror or error}",
                hint=_HINTS.get(error.errno, _OTHER_HINT),
            ) from error


@dataclass(slots=True)
class _Progress:
    """How far one rendering has come, and what it has met on its way."""

    last_key: Key | None = None
    written_bytes: int = 0
    late: int = 0
    filtered: int = 0
    protected: Counter[str] = field(default_factory=Counter)


class Renderer:
    """Renders one range, or as much of it as fits into one part.

    ``limit`` is in bytes of JSON; None for a part whose last key is already fixed. ``ahead`` may encode more
    blocks than are asked of it. Raises WrongAccount, WorkspaceError, and what the source raises; whatever it
    raises, no file is left behind.
    """

    def __init__(
        self, form: Format, rendering: Rendering, account: str, limit: int | None, ahead: Ahead = one_by_one
    ) -> None:
        self._encoding = Encoding(form, rendering, account)
        self._rendering = rendering
        self._limit = limit
        self._ahead = ahead

    def render(self, blocks: Iterable[Block], room: Room, member: str) -> Rendered:
        """Make the archive of these blocks in ``room``."""
        with (
            _Files(room, self._rendering, member) as files,
            closing(self._ahead(self._encoding, blocks)) as found,
        ):
            come, final = _Progress(), True
            for block, encoded in found:
                final = self._add(block, encoded, files, come)
                if not final:
                    break
            content = files.finish(come.late)
            if come.filtered or come.protected:
                content = replace(content, filtered=come.filtered, protected=dict(come.protected))
        return Rendered(files.body, content, files.bad, come.last_key, final, files.batches)

    def _add(self, block: Block, encoded: Encoded, files: _Files, come: _Progress) -> bool:
        """Write a block's records, as many as fit; whether those are all."""
        chosen, lines = encoded.chosen, encoded.lines
        kept = block if chosen is None else block.pick(chosen)
        taken, passed = len(kept), len(block)
        if self._limit is not None and come.written_bytes + len(lines.data) > self._limit:
            room = self._limit - come.written_bytes
            taken = _fitting(kept, lines.data, room, empty=come.written_bytes == 0)
            if taken < len(kept):
                kept = kept.slice(0, taken)
                lines = self._encoding.lines(kept)
                passed = _end_of_key(block, chosen[taken - 1] if chosen else taken - 1) if taken else 0
        if taken:
            files.add(lines.data, kept, [record for _, record in lines.bad])
            come.written_bytes += len(lines.data)
            come.late += taken if block.branch is Branch.LATE else 0
            come.protected.update(lines.protected)
        if passed:
            come.last_key = block.key(passed - 1)
            come.filtered += passed - taken
        return passed == len(block)


def _fitting(block: Block, data: bytes, room: int, *, empty: bool) -> int:
    """How many of a block's records still fit; at least one key when the part is empty."""
    taken = data.count(b"\n", 0, max(0, room))
    while 0 < taken < len(block) and block.key(taken - 1) == block.key(taken):
        taken -= 1  # a part ends only between different keys
    if taken == 0 and empty:
        taken = 1
        while taken < len(block) and block.key(taken - 1) == block.key(taken):
            taken += 1
    return taken


def _end_of_key(block: Block, index: int) -> int:
    """Behind the records of this one's key: the next part begins at another, and would count none of them."""
    end = index + 1
    while end < len(block) and block.key(end) == block.key(index):
        end += 1
    return end


def _storable(text: str) -> str:
    """Text that every database takes: half a surrogate pair, of bytes that were no UTF-8, is spelt out."""
    return text.encode(errors="backslashreplace").decode()
