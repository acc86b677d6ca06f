"""Rows of COPY's text format as blocks: split column by column, once, when a column is first asked for.

Pure: it opens no connection and knows no SQL. A row is what COPY sends for it, its line feed included, as
bytes: views of a driver's memory would cost half as much again, because the garbage collector counts them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING

from exporter.bulk import split
from exporter.fragments import Same, Values
from exporter.model import Branch
from exporter.sources.postgres import values
from exporter.sources.postgres.values import NULL, Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping, Sequence

    from exporter.columns import NumberTimes, Roles
    from exporter.model import Key, Keys, Scalar

    _Split = Callable[[str], Values]
    """The values of a column by its name."""

__all__ = ["CopyBlock", "CopyColumn", "CopyLayout", "CopyValues", "Kind", "blocks", "key_of"]


@dataclass(frozen=True, slots=True)
class CopyColumn:
    """A column of the COPY, and what its text means."""

    name: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class CopyLayout:
    """What the rows of one COPY look like: ``columns`` of a row in order, ``shown`` those asked for.

    ``times`` says what a time column of numbers counts; None for dates and timestamps. ``valid_utf8`` is
    False where the database does not see to it (its encoding is SQL_ASCII; the client's has to be, too, or
    COPY itself fails at such a text): then every text is looked at.
    """

    columns: tuple[CopyColumn, ...]
    shown: tuple[str, ...]
    roles: Roles
    times: NumberTimes | None = None
    valid_utf8: bool = True
    _positions: Mapping[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        positions = {column.name: index for index, column in enumerate(self.columns)}
        object.__setattr__(self, "_positions", positions)

    def position(self, name: str) -> int:
        """Where in a row a column stands."""
        return self._positions[name]


class CopyValues:
    """A column of a block. ``instants`` are those of the time column, in a branch where it is readable."""

    def __init__(self, kind: Kind, layout: CopyLayout, fields: Values, *, is_time: bool) -> None:
        self._kind = kind
        self._layout = layout
        self._fields = fields
        self._is_time = is_time

    def json(self) -> Sequence[bytes]:
        """Each value as the JSON it is."""
        return self._converted(values.AS_JSON[self._kind])

    def strings(self) -> Sequence[bytes]:
        """Each value as a JSON string, or null."""
        return self._converted(values.AS_STRINGS[self._kind])

    def instants(self) -> Sequence[bytes]:
        """Each value as an RFC 3339 time; ValueError for a column, or records, without readable times."""
        if not self._is_time:
            raise ValueError(values.UNREADABLE)
        times = self._layout.times
        return values.instants(self._kind, self._fields, None if times is None else times.unit)

    def _converted(self, conversion: values.Conversion) -> Sequence[bytes]:
        if not self._fields:
            return []
        only = self._fields.only()
        fields = self._fields if only is None else Values([only])
        if not self._layout.valid_utf8:
            values.require_utf8(fields)
        found = conversion(fields)
        return found if only is None else Same(found[0], len(self._fields))


class CopyBlock:
    """A block over rows of COPY; ``split`` gives the values of a column, where the rows are split already."""

    is_portable = True

    def __init__(
        self, branch: Branch, layout: CopyLayout, rows: Sequence[bytes], split: _Split | None = None
    ) -> None:
        self.branch = branch
        self._layout = layout
        self._rows = rows
        self._split = split
        self._account: bytes | None = None  # of every row, once that was looked at and is so

    def __len__(self) -> int:
        """How many records."""
        return len(self._rows)

    def __reduce__(self) -> tuple[Callable[..., CopyBlock], tuple[object, ...]]:
        """Its rows as one, which is a hundred times as fast."""
        return _unpacked, (self.branch, self._layout, b"".join(self._rows))

    @property
    def size_bytes(self) -> int:
        """What its rows take, as COPY wrote them."""
        return sum(map(len, self._rows))

    @cached_property
    def columns(self) -> Mapping[str, CopyValues]:
        """The columns that were asked for."""
        return {name: self._column(name) for name in self._layout.shown}

    def key(self, index: int) -> Key:
        """(time, id) of one record, as ``key_of`` makes it."""
        return key_of(self._rows[index], self.branch, self._layout)

    def keys(self) -> Keys:
        """(time, id) of all records, as two columns."""
        layout, roles = self._layout, self._layout.roles
        ids = _scalars(self._of(roles.id), self._kind(roles.id))
        if self.branch is Branch.UNREADABLE:
            return [None] * len(ids), ids
        times, kind = self._of(roles.time), self._kind(roles.time)
        return values.time_keys(kind, times) if layout.times is None else _scalars(times, kind), ids

    def id(self, index: int) -> str:
        """The id of one record, as PostgreSQL writes it."""
        return _text(_field(self._rows[index], self._layout, self._layout.roles.id)[0])

    def slice(self, start: int, stop: int) -> CopyBlock:
        """A part of this block."""
        return CopyBlock(self.branch, self._layout, self._rows[start:stop])

    def followed_by(self, block: CopyBlock) -> CopyBlock:
        """This block and its neighbour as one."""
        return CopyBlock(self.branch, self._layout, [*self._rows, *block._rows])

    def pick(self, indexes: Sequence[int]) -> CopyBlock:
        """Some records of this block, in its order."""
        rows = self._rows
        # Somebody has looked into this block, to choose: its rows are not split again.
        whole = self._of if "_fields" in vars(self) else None
        some = [rows[index] for index in indexes]
        return CopyBlock(
            self.branch, self._layout, some, None if whole is None else partial(_of_some, whole, indexes)
        )

    def belongs_to(self, account: str) -> bool:
        """Whether every record's account has exactly these bytes; COPY escapes equal texts alike."""
        try:
            expected = values.escaped(account.encode(errors="surrogateescape"))
        except UnicodeEncodeError:  # half a surrogate pair: no database gave out that text
            return False
        if len(self) == 1:
            return _field(self._rows[0], self._layout, self._layout.roles.account)[0] == expected
        belongs = self._of(self._layout.roles.account).only() == expected
        self._account = expected if belongs else None
        return belongs or not len(self)

    def raw(self, index: int) -> bytes:
        """What was read of one record, as JSON but for bytes that are not UTF-8."""
        names = (column.name for column in self._layout.columns)
        fields = (None if field == NULL else _text(field) for field in _split(self._rows[index]))
        record = dict(zip(names, fields, strict=False))  # strict would be a way to fail
        return json.dumps(record, ensure_ascii=False).encode(errors="surrogateescape")

    @cached_property
    def _fields(self) -> Sequence[Values]:
        """Every column of the rows."""
        try:
            return split(self._rows, len(self._layout.columns))
        except ValueError as error:  # which would be a bad record's
            raise RuntimeError("rows of COPY do not have the columns of their layout") from error

    def _of(self, name: str) -> Values:
        if self._split is not None:
            return self._split(name)
        return self._fields[self._layout.position(name)]

    def _column(self, name: str) -> CopyValues:
        layout = self._layout
        is_time = name == layout.roles.time and self.branch is not Branch.UNREADABLE
        if name == layout.roles.account and self._account is not None:
            fields = Values([self._account] * len(self))
        else:
            fields = self._of(name)
        return CopyValues(self._kind(name), layout, fields, is_time=is_time)

    def _kind(self, name: str) -> Kind:
        return self._layout.columns[self._layout.position(name)].kind


def _unpacked(branch: Branch, layout: CopyLayout, joined: bytes) -> CopyBlock:
    rows = [row + b"\n" for row in joined.split(b"\n")]
    rows.pop()  # what follows the last one
    return CopyBlock(branch, layout, rows)


def _of_some(whole: _Split, indexes: Sequence[int], name: str) -> Values:
    return whole(name).pick(indexes)


def _scalars(fields: Values, kind: Kind) -> list[Scalar]:
    if kind is Kind.INTEGER and not fields.has(NULL):
        return list(map(int, fields))
    return [_scalar(field, kind) for field in fields]


def key_of(row: bytes, branch: Branch, layout: CopyLayout) -> Key:
    """(time, id) of a row; each half, cast to its column's type, is the value again.

    A date or timestamp is text, ``YYYY-MM-DD HH:MM:SS.ffffff`` in UTC, which sorts as time does; integers
    are integers; other numbers are what ``number_key`` says; any other id is its own text. So where equal
    ids may have different texts (citext, interval, jsonb), SQL has to compare them as text. An id that is
    no UTF-8 is decoded with `surrogateescape`. In the branch of unreadable times the time is None.
    """
    identifier = _scalar(*_field(row, layout, layout.roles.id))
    if branch is Branch.UNREADABLE:
        return (None, identifier)
    field, kind = _field(row, layout, layout.roles.time)
    return (values.time_key(kind, field) if layout.times is None else _scalar(field, kind), identifier)


def _field(row: bytes, layout: CopyLayout, name: str) -> tuple[bytes, Kind]:
    position = layout.position(name)
    return _split(row)[position], layout.columns[position].kind


def blocks(
    pieces: Iterator[list[bytes]], branch: Branch, layout: CopyLayout
) -> Generator[CopyBlock, None, None]:
    """A block for each piece of rows, but that a block ends only between different keys.

    Takes no more than one piece beyond a block before handing it over. Does not close ``pieces``.
    """
    piece = next(pieces, None)
    while piece is not None:
        ahead = next(pieces, None)
        while ahead is not None and (count := _of_the_same_key(piece, ahead, branch, layout)):
            piece += ahead[:count]
            ahead = ahead[count:] or next(pieces, None)
        yield CopyBlock(branch, layout, piece)
        piece = ahead


def _of_the_same_key(piece: list[bytes], ahead: list[bytes], branch: Branch, layout: CopyLayout) -> int:
    """How many of the rows ahead have the key of the last one before them."""
    last = key_of(piece[-1], branch, layout)
    different = (index for index, row in enumerate(ahead) if key_of(row, branch, layout) != last)
    return next(different, len(ahead))


def _split(row: bytes) -> list[bytes]:
    return row[:-1].split(b"\t")


def _text(field: bytes) -> str:
    return values.plain(field).decode(errors="surrogateescape")


def _scalar(field: bytes, kind: Kind) -> Scalar:
    if field == NULL:
        raise TypeError("NULL cannot be part of a key")
    if kind is Kind.INTEGER:
        return int(field)
    return values.number_key(field) if kind is Kind.NUMBER else _text(field)
