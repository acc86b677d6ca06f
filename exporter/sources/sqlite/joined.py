"""Blocks whose columns SQLite has joined: a whole column is one byte string, and is worked on as one.

Pure: it opens no database. Values stand as SQLite stores them, NULL as a mark that no text can hold; what
else SQLite may store is kept out by ``term``, and never gets into a block.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING, Final

from exporter.columns import SEPARATOR, RowBlock, json_texts, quoted_texts
from exporter.model import Branch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from exporter.columns import Layout
    from exporter.model import Key, Keys
    from exporter.sources.sqlite.forms import Form

NULL: Final = b"\xff" + bytes(0x80 | byte for byte in os.urandom(8))
"""Begins with a byte that no UTF-8 has, and goes on in a way that nobody can know and store."""
ODD: Final = b"\xfe"
MARKS: Final = {"null_mark": NULL, "odd_mark": ODD}
"""The values of the parameters of ``term``."""

_BETWEEN: Final = f"'{SEPARATOR.decode()}'"  # SQLite fetches a parameter anew for every value


class Kind(Enum):
    """What a joined column holds, besides NULL."""

    TEXT = "text"
    JSON = "json"
    INTEGER = "integer"


def term(column: str, kind: Kind, *, is_certain: bool) -> str:
    """What joins a column of a subquery; whatever is not of the kind counts as odd.

    ``is_certain`` says that the column holds no numbers where texts are meant, because of its declared type.
    """
    # A comparison beats typeof(): numbers come before all texts, and blobs after them. Other collations
    # than BINARY may not exist here.
    is_text = f"{column} COLLATE BINARY < x''" + ("" if is_certain else f" AND {column} COLLATE BINARY >= ''")
    fits = f"typeof({column}) = 'integer'" if kind is Kind.INTEGER else is_text
    return sure_term(
        f"CASE WHEN {fits} THEN {column} WHEN {column} IS NULL THEN :null_mark ELSE :odd_mark END"
    )


def sure_term(column: str) -> str:
    """The same for a column that holds nothing but its kind, nor NULL: without a look at each value."""
    return f"CAST(group_concat({column}, {_BETWEEN}) AS BLOB)"


@dataclass(frozen=True, slots=True)
class Joined:
    """The values of a column, joined; ``has_nulls`` says whether there may be a NULL among them."""

    kind: Kind
    data: bytes
    count: int
    has_nulls: bool = False

    @classmethod
    def of(cls, kind: Kind, data: bytes, count: int) -> Joined | None:
        """None where a value is not of the kind, no UTF-8, or has the separator in it."""
        if data.count(SEPARATOR) != count - 1:
            return None
        if data.isascii():
            return cls(kind, data, count)
        texts = data.replace(NULL, b"")
        try:
            texts.decode()
        except UnicodeDecodeError:
            return None
        return cls(kind, data, count, has_nulls=len(texts) < len(data))

    def split(self) -> list[bytes]:
        """The values as they stand."""
        return self.data.split(SEPARATOR) if self.count else []

    def first(self) -> bytes:
        """The first value as it stands."""
        return self.data.partition(SEPARATOR)[0]

    def last(self) -> object:
        """The last value."""
        return self.value(self.data.rpartition(SEPARATOR)[2])

    def picked(self, indexes: Sequence[int]) -> Joined:
        """Some of the values."""
        values = self.split()
        data = SEPARATOR.join([values[index] for index in indexes])
        return Joined(self.kind, data, len(indexes), self.has_nulls)

    def values(self) -> Sequence[object]:
        """All values as Python's driver gives them."""
        if self.kind is Kind.INTEGER or self.has_nulls or not self.count:
            return [self.value(field) for field in self.split()]
        return self.data.decode().split(SEPARATOR.decode())

    def value(self, field: bytes) -> object:
        """One of the values as Python's driver gives it."""
        if field == NULL:
            return None
        return int(field) if self.kind is Kind.INTEGER else field.decode()


class JoinedColumn:
    """A column of a block; ``form`` is that of the values of a time column."""

    def __init__(self, joined: Joined, form: Form | None = None) -> None:
        self._joined = joined
        self._form = form

    def json(self) -> Sequence[bytes]:
        """Each value as the JSON it is."""
        joined = self._joined
        if joined.kind is Kind.TEXT or not joined.count:
            return self.strings()
        if joined.kind is Kind.JSON:
            return json_texts(joined.data.replace(NULL, b"null") if joined.has_nulls else joined.data)
        fields = joined.split()
        return [b"null" if one == NULL else one for one in fields] if joined.has_nulls else fields

    def strings(self) -> Sequence[bytes]:
        """Each value as a JSON string, or null."""
        if not self._joined.count:
            return []
        found = quoted_texts(self._joined.data)
        if not self._joined.has_nulls:
            return found
        return [b"null" if one == NULL else b'"%b"' % one for one in found.inside]

    def instants(self) -> Sequence[bytes]:
        """Each value as an RFC 3339 time; ValueError for what is no column of times."""
        if self._form is None:
            raise ValueError("the time is unreadable")
        return self._form.instants(self._joined.data) if self._joined.count else []


class JoinedBlock:
    """A block of records on time over joined columns."""

    branch = Branch.ON_TIME
    is_portable = True

    def __init__(self, layout: Layout, form: Form, count: int, joined: Mapping[str, Joined]) -> None:
        self._layout = layout
        self._form = form
        self._count = count
        self._joined = joined
        self._split: dict[str, list[bytes]] = {}

    def __len__(self) -> int:
        """How many records."""
        return self._count

    def __reduce__(self) -> tuple[type[JoinedBlock], tuple[object, ...]]:
        """Its columns, and nothing that was made of them."""
        return JoinedBlock, (self._layout, self._form, self._count, self._joined)

    @cached_property
    def columns(self) -> Mapping[str, JoinedColumn]:
        """The columns that were asked for."""
        time = self._layout.roles.time
        return {
            name: JoinedColumn(self._joined[name], self._form if name == time else None)
            for name in self._layout.shown
        }

    def key(self, index: int) -> Key:
        """(time, id) of one record."""
        roles = self._layout.roles
        identifier = int(self._field(roles.id, index))
        return (self._layout.times.key(self._value(roles.time, index)), identifier)

    def keys(self) -> Keys:
        """(time, id) of all records, as two columns."""
        roles = self._layout.roles
        times = self._layout.times.keys(self._joined[roles.time].values())
        return times, list(map(int, self._joined[roles.id].split()))

    def id(self, index: int) -> str:
        """The id of one record."""
        return self._field(self._layout.roles.id, index).decode()

    def slice(self, start: int, stop: int) -> JoinedBlock:
        """A part of this block."""
        return self.pick(range(self._count)[start:stop])

    def pick(self, indexes: Sequence[int]) -> JoinedBlock:
        """Some records of this block, in its order."""
        picked = {name: joined.picked(indexes) for name, joined in self._joined.items()}
        return JoinedBlock(self._layout, self._form, len(indexes), picked)

    def belongs_to(self, account: str) -> bool:
        """Whether every record's account has exactly these bytes; the number 42 has those of "42"."""
        try:
            one = account.encode() + SEPARATOR
        except UnicodeEncodeError:  # a text that is no UTF-8 is in no such block
            return not self._count
        return self._joined[self._layout.roles.account].data + SEPARATOR == one * self._count

    def raw(self, index: int) -> bytes:
        """What was read of one record, as JSON."""
        row = [self._value(name, index) for name in self._layout.names]
        return RowBlock(self.branch, self._layout, [row]).raw(0)

    def _value(self, name: str, index: int) -> object:
        return self._joined[name].value(self._field(name, index))

    def _field(self, name: str, index: int) -> bytes:
        if index == self._count - 1:  # the one that is asked for most, of blocks of which no other is
            return self._joined[name].data.rpartition(SEPARATOR)[2]
        if name not in self._split:
            self._split[name] = self._joined[name].split()
        return self._split[name][index]
