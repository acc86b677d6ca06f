"""Writes a package of events: one file of lines, and the cuts between the batches that go out one by one.

A batch ends between different keys wherever it can, because only there progress can be kept. For one that
is taken in part alone, the key of each line lies in a second file beside the first. It must not know what an
event is, or where it goes.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from io import FileIO
from typing import TYPE_CHECKING, Protocol, Self

import orjson

from exporter.model import Batch, Content

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from exporter.model import Key, Keys

CONTENT_TYPE = "application/x-ndjson"


class Keyed(Protocol):
    """Records whose keys can be asked for; blocks are."""

    def __len__(self) -> int:
        """How many."""
        ...

    def key(self, index: int) -> Key:
        """The key of one of them."""
        ...

    def keys(self) -> Keys:
        """The keys of all of them."""
        ...


class LineFile:
    """A file of lines in the making, with the methods of an archive's writer.

    Leaving the context without ``finish`` removes the file. Everything raises OSError when it cannot be
    written.
    """

    def __init__(self, path: Path) -> None:
        self.made = self._path = path
        self._count = 0
        self._finished = False
        self._sha256 = hashlib.sha256()
        self._size_bytes = 0
        self._file = _new_file(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        if not self._finished:
            self._path.unlink(missing_ok=True)

    def write(self, lines: bytes, count: int) -> None:
        """Add ``count`` lines, each with its line feed."""
        _write(self._file, lines)
        self._sha256.update(lines)
        self._size_bytes += len(lines)
        self._count += count

    def finish(self, *, late: int, bad: int) -> Content:
        """Complete the file and measure it; nothing is compressed, so there is one size and one hash."""
        self._finished = True
        sha256, size_bytes = self._sha256.hexdigest(), self._size_bytes
        return Content(self._count, late, bad, size_bytes, sha256, size_bytes, sha256)


class KeyFile:
    """The keys of a file of lines, beside it in the making.

    Leaving the context by an error removes it. Everything raises OSError when it cannot be written.
    """

    def __init__(self, lines: Path) -> None:
        self._path = _keys_of(lines)
        self._file = _new_file(self._path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, failure: object, *_: object) -> None:
        self._file.close()
        if failure is not None:
            self._path.unlink(missing_ok=True)

    def add(self, records: Keyed) -> None:
        """Those of some more lines."""
        _write(self._file, _packed(records.keys()) + b"\n")


def last_cut(lines: Path, first: int, end: int) -> tuple[int, Key] | None:
    """Where progress can be kept among the lines from ``first`` to ``end``: behind the last one of a key.

    Answers how many lines are in front of that place, and the key; None if one key goes on all the way.
    Raises OSError and ValueError if the keys are not there any more.
    """
    found: tuple[int, Key] | None = None
    before: Key | None = None
    count = 0
    for key in _read_keys(lines):
        if before is not None and count > first and key != before:
            found = count, before
        if count == end:
            return found
        before, count = key, count + 1
    if count != end:
        raise ValueError(f"there are {count} keys, and not {end}")
    return found if before is None or end == first else (end, before)


def _read_keys(lines: Path) -> Iterator[Key]:
    with _keys_of(lines).open("rb") as file:
        for some in file:
            times, ids = json.loads(some)
            yield from zip(times, ids, strict=True)


def _packed(keys: Keys) -> bytes:
    """Keys as JSON that gives each of them back as it was."""
    if not any(float in set(map(type, half)) for half in keys):  # orjson has no infinity
        with suppress(orjson.JSONEncodeError):  # an integer of more than 64 bits, or a lone surrogate
            return orjson.dumps(keys)
    return json.dumps(keys).encode()


def _keys_of(lines: Path) -> Path:
    return lines.with_name(f"{lines.name}.keys")


def _write(file: FileIO, data: bytes) -> None:
    """All of it, however little the system takes at once."""
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]


def _new_file(path: Path) -> FileIO:
    """One that nobody else may read, and without a buffer: whoever writes has a block of lines in hand."""
    return FileIO(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w")


class Cuts:
    """Where the batches of a file of lines begin and end.

    A batch has at most ``limit_bytes``, unless a single line is longer.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._closed: list[Batch] = []
        self._open = Batch(0, 0, 0, None)

    def add(self, lines: bytes, records: Keyed) -> None:
        """The lines of some more records, which have no key in common with those before."""
        start = index = 0
        while index < len(records):
            end, count = self._fitting(lines, start, records, index)
            if count:
                index += count
                self._extend(end - start, count, _key_between(records, index))
                start = end
            if index < len(records):
                self._close()

    def finish(self) -> tuple[Batch, ...]:
        """Every batch, in order."""
        if self._open.count:
            self._close()
        return tuple(self._closed)

    def _fitting(self, lines: bytes, start: int, records: Keyed, index: int) -> tuple[int, int]:
        """Where the lines end that the open batch still takes, and how many they are."""
        room = self._limit_bytes - self._open.size_bytes
        if len(lines) - start <= room:
            return len(lines), len(records) - index
        end = longest = max(start, lines.rfind(b"\n", start, start + max(0, room)) + 1)
        count = most = lines.count(b"\n", start, end)
        while count and _key_between(records, index + count) is None:
            count -= 1
            end = max(start, lines.rfind(b"\n", start, end - 1) + 1)
        if count or self._open.count:
            return end, count
        if most:  # more of one key than a batch takes
            return longest, most
        return lines.index(b"\n", start) + 1, 1

    def _extend(self, size_bytes: int, count: int, last_key: Key | None) -> None:
        was = self._open
        self._open = Batch(was.offset, was.size_bytes + size_bytes, was.count + count, last_key)

    def _close(self) -> None:
        self._closed.append(self._open)
        self._open = Batch(self._open.offset + self._open.size_bytes, 0, 0, None)


def _key_between(records: Keyed, index: int) -> Key | None:
    """The key before this record, None where it is the record's as well."""
    key = records.key(index - 1)
    return None if index < len(records) and records.key(index) == key else key
