"""Columns of Python values as JSON fragments, made in bulk; and the block that sources hand over.

Pure: it knows no database. A value is what a driver gives back: None, bool, int, float, str, bytes.
It must not repair a value: what JSON cannot say raises ValueError, and the record goes out as a bad one.
"""

from __future__ import annotations

import base64
import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cached_property
from math import isfinite
from typing import TYPE_CHECKING, Protocol, cast

import orjson

from exporter.fragments import Strings, Values
from exporter.model import Branch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from exporter.model import Key, Keys, Scalar

NANOSECONDS = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}
"""How many nanoseconds each unit of a numeric time has."""

SEPARATOR = b"\x1f"
"""Stands between values that are worked on as one; a value that has it is worked on alone."""

_ORJSON_SCALARS = frozenset({str, int, float, bool, type(None)})
_TEXTS = frozenset({str, type(None)})
_LINE_SEPARATORS = {"\u2028".encode(): b"\\u2028", "\u2029".encode(): b"\\u2029", "\x85".encode(): b"\\u0085"}
_OF_NO_SEPARATOR = bytes(code for code in range(0x100) if code not in b"".join(_LINE_SEPARATORS))
_WHITESPACE_TO_SPACES = bytes.maketrans(b"\r\n\t", b"   ")
_ESCAPES = {b"\\": rb"\\", b'"': rb"\""} | {
    bytes([code]): json.dumps(chr(code))[1:-1].encode() for code in range(0x20) if bytes([code]) != SEPARATOR
}
_ORDINARY = bytes(code for code in range(0x100) if bytes([code]) not in _ESCAPES)
_BETWEEN = b',"%b",' % os.urandom(16).hex().encode()
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND_LENGTH = len("2026-11-19T04:00:00")
_MICROSECOND_INSTANT_LENGTH = len("2026-11-19T04:00:00.123456Z")


class Times(Protocol):
    """What the readable values of a time column mean."""

    def key(self, value: object) -> Scalar:
        """The value as it stands in a key: it sorts as time does."""
        ...

    def keys(self, values: Sequence[object]) -> Sequence[Scalar]:
        """The same of a whole column."""
        ...

    def instant(self, value: object) -> str:
        """RFC 3339 in UTC, with 6 to 9 digits of a second."""
        ...


class TextTimes:
    """Times in canonical text: date, `T` or space, time, up to nine digits, `Z` or `+00:00` or nothing."""

    def key(self, value: object) -> str:
        """``YYYY-MM-DD HH:MM:SS.fffffffff``."""
        text = str(value)
        return f"{text[:10]} {text[11:_SECOND_LENGTH]}.{_fraction(text):0<9}"

    def keys(self, values: Sequence[object]) -> Sequence[Scalar]:
        """All at once where all have the usual form, which no other canonical text of its length has."""
        joined, length, count = "\n".join(map(str, values)), _MICROSECOND_INSTANT_LENGTH, len(values)
        marks = joined[10 :: length + 1], joined[length - 1 :: length + 1], joined[length :: length + 1]
        if not count or marks != ("T" * count, "Z" * count, "\n" * (count - 1)):
            return [self.key(value) for value in values]
        return joined.replace("T", " ").replace("Z", "000").split("\n")

    def instant(self, value: object) -> str:
        """The text itself when it already has the usual form."""
        text = str(value)
        if len(text) == _MICROSECOND_INSTANT_LENGTH and text[10] == "T" and text[-1] == "Z":
            return text
        return f"{text[:10]}T{text[11:_SECOND_LENGTH]}.{_fraction(text).rstrip('0'):0<6}Z"


@dataclass(frozen=True, slots=True)
class NumberTimes:
    """Times as numbers of one unit since 1970."""

    unit: str

    def key(self, value: object) -> int | float:
        """The number itself."""
        if not isinstance(value, int | float):
            raise ValueError(f"{value!r} is no number of {self.unit}")  # noqa: TRY004 - a value that cannot be rendered, not a wrong call
        return value

    def keys(self, values: Sequence[object]) -> Sequence[Scalar]:
        """One by one."""
        return [self.key(value) for value in values]

    def instant(self, value: object) -> str:
        """Exact: a float counts as the shortest decimal that stands for it."""
        number = Decimal(repr(self.key(value)))
        seconds, nanoseconds = divmod(int(number * NANOSECONDS[self.unit]), NANOSECONDS["s"])
        second = (_EPOCH + timedelta(seconds=seconds)).replace(tzinfo=None).isoformat()
        digits = f"{nanoseconds:09}"
        return f"{second}.{digits[:6]}{digits[6:].rstrip('0')}Z"


def _fraction(text: str) -> str:
    """The digits of a second in a canonical time."""
    return text.removesuffix("Z").removesuffix("+00:00")[_SECOND_LENGTH + 1 :]


class ValueColumn:
    """A column of values; ``json_text`` marks one that was declared to hold JSON."""

    def __init__(
        self, values: Sequence[object], *, json_text: bool = False, times: Times | None = None
    ) -> None:
        self._values = values
        self._json_text = json_text
        self._times = times

    def json(self) -> Sequence[bytes]:
        """Each value as the JSON it is."""
        if not self._json_text:
            return _fragments(self._values)
        joined = _joined(["null" if value is None else value for value in self._values])
        if joined is not None:
            return json_texts(joined)
        return [_json_text(value) if isinstance(value, str) else _fragment(value) for value in self._values]

    def strings(self) -> Sequence[bytes]:
        """Each value as a JSON string, or null."""
        if set(map(type, self._values)) <= _TEXTS:
            return _fragments(self._values)
        return [
            fragment if fragment == b"null" or fragment[:1] == b'"' else b'"%b"' % fragment
            for fragment in _fragments(self._values)
        ]

    def instants(self) -> Sequence[bytes]:
        """Each value as an RFC 3339 time; ValueError for a column, or records, without readable times."""
        if self._times is None:
            raise ValueError("the time is unreadable")
        return _fragments([self._times.instant(value) for value in self._values])


def _fragments(values: Sequence[object]) -> Sequence[bytes]:
    """Each value as JSON, the whole column in one call of orjson where it can.

    An indented list has a line feed before every value, and JSON strings never hold a raw one. (Splitting at
    `","` would be wrong: the text `a",` ends in these bytes, too.)
    """
    if not values:
        return []
    types = set(map(type, values))
    if not types <= _ORJSON_SCALARS or (float in types and not _all_finite(values)):
        return [_fragment(value) for value in values]
    try:
        listed = orjson.dumps(values, option=orjson.OPT_INDENT_2)
    except orjson.JSONEncodeError:  # an int of more than 64 bits, or a lone surrogate: one by one
        return [_fragment(value) for value in values]
    return Values.of_lines(_escape_separators(listed)[4:-2].replace(b",\n  ", b"\n"), len(values))


def _all_finite(values: Sequence[object]) -> bool:
    return all(isfinite(value) for value in values if type(value) is float)


def _fragment(value: object) -> bytes:
    """One value as JSON."""
    if isinstance(value, bytes):
        return b'"%b"' % base64.b64encode(value)
    if type(value) is int:
        return str(value).encode()
    if type(value) not in _ORJSON_SCALARS or (isinstance(value, float) and not isfinite(value)):
        raise ValueError(f"{value!r} has no JSON form")
    try:
        return _escape_separators(orjson.dumps(value))
    except orjson.JSONEncodeError as error:
        raise ValueError("the text is not valid UTF-8") from error


def _escape_separators(rendered: bytes) -> bytes:
    """The same JSON without the characters, beyond line feed, at which some readers split lines."""
    if rendered.isascii():
        return rendered
    # Looking for several bytes is slow, unless next to nothing is left to look through.
    remarkable = rendered.translate(None, _OF_NO_SEPARATOR)
    for separator, escape in _LINE_SEPARATORS.items():
        if separator in remarkable:
            rendered = rendered.replace(separator, escape)
    return rendered


def quoted_texts(joined: bytes) -> Strings:
    """Each of some texts, which SEPARATOR joins, as a JSON string; they are UTF-8, and at least one."""
    # Looking for two bytes is slow: one quick pass leaves next to nothing to look through.
    remarkable = joined.translate(None, _ORDINARY)
    if remarkable:
        for raw, escape in _ESCAPES.items():  # the backslash first: the others bring one
            if raw in remarkable:
                joined = joined.replace(raw, escape)
    count = joined.count(SEPARATOR) + 1
    return Strings(Values.of_lines(_escape_separators(joined).replace(SEPARATOR, b"\n"), count))


def json_texts(joined: bytes) -> Sequence[bytes]:
    """Each of some texts of a JSON column, which SEPARATOR joins, as its own JSON where it is any."""
    if not _are_json(joined):
        return [_json_text(text.decode()) for text in joined.split(SEPARATOR)]
    count, joined = joined.count(SEPARATOR) + 1, joined.translate(_WHITESPACE_TO_SPACES)
    return Values.of_lines(_escape_separators(joined).replace(SEPARATOR, b"\n"), count)


def _are_json(joined: bytes) -> bool:
    """Whether every text is JSON, found out in one go; False where that is not certain."""
    # Between any two stands a text that none of them can hold: nobody knows it. So with one of these at every
    # other place, each text is one value, and none reaches into another (as `[1` and `2]` would).
    try:
        values = orjson.loads(b"[" + joined.replace(SEPARATOR, _BETWEEN) + b"]")
    except orjson.JSONDecodeError:
        return False
    count, between = joined.count(SEPARATOR) + 1, _BETWEEN[2:-2].decode()
    return len(values) == 2 * count - 1 and values[1::2].count(between) == count - 1


def _joined(texts: Sequence[object]) -> bytes | None:
    """Texts that can be worked on as one; None where they are not all such."""
    if set(map(type, texts)) != {str}:
        return None
    try:
        joined = SEPARATOR.decode().join(cast("Sequence[str]", texts)).encode()
    except UnicodeEncodeError:
        return None
    return joined if joined.count(SEPARATOR) == len(texts) - 1 else None


def _json_text(text: str) -> bytes:
    """JSON text as it stands, on one line; text that is no JSON as a JSON string."""
    if not _is_json(text):
        return _fragment(text)
    # Between tokens only: a valid JSON string holds none of these raw.
    return _escape_separators(text.encode().translate(_WHITESPACE_TO_SPACES))


def _is_json(text: str) -> bool:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return _is_unusual_json(text)
    return True


def _is_unusual_json(text: str) -> bool:
    """Whether it is JSON that orjson refuses, such as deeper nesting or escaped surrogates."""
    try:
        json.loads(text, parse_constant=_refuse_constant, parse_int=str)
    except (ValueError, RecursionError):
        return False
    return True


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


@dataclass(frozen=True, slots=True)
class Roles:
    """Which columns say who a record is of, when it happened and where it stands."""

    id: str
    time: str
    account: str


@dataclass(frozen=True, slots=True)
class Layout:
    """What the rows of one reading look like: ``names`` of a row's values, ``shown`` those asked for."""

    names: tuple[str, ...]
    shown: tuple[str, ...]
    roles: Roles
    times: Times
    json_text: frozenset[str] = frozenset()

    def position(self, name: str) -> int:
        """Where in a row a column stands."""
        return self.names.index(name)


class RowBlock:
    """A block over rows as a database driver gives them; columns are made when first asked for.

    Rows hold the columns that were asked for, and id, time and account; the source may have more.
    """

    is_portable = True

    def __init__(self, branch: Branch, layout: Layout, rows: Sequence[Sequence[object]]) -> None:
        self.branch = branch
        self._layout = layout
        self._rows = rows

    def __len__(self) -> int:
        """How many records."""
        return len(self._rows)

    def __reduce__(self) -> tuple[type[RowBlock], tuple[object, ...]]:
        """Its rows, and nothing that was made of them."""
        return RowBlock, (self.branch, self._layout, self._rows)

    @cached_property
    def columns(self) -> Mapping[str, ValueColumn]:
        """The columns that were asked for."""
        return {name: self._column(name) for name in self._layout.shown}

    @cached_property
    def _values(self) -> Sequence[Sequence[object]]:
        return list(zip(*self._rows, strict=True)) or [()] * len(self._layout.names)

    def _column(self, name: str) -> ValueColumn:
        is_time = name == self._layout.roles.time and self.branch is not Branch.UNREADABLE
        return ValueColumn(
            self._values[self._layout.position(name)],
            json_text=name in self._layout.json_text,
            times=self._layout.times if is_time else None,
        )

    def _value(self, index: int, name: str) -> object:
        return self._rows[index][self._layout.position(name)]

    def key(self, index: int) -> Key:
        """(time, id) of one record."""
        identifier = self._value(index, self._layout.roles.id)
        if not isinstance(identifier, int | str):
            raise TypeError(f"{identifier!r} cannot be an id")
        if self.branch is Branch.UNREADABLE:
            return (None, identifier)
        return (self._layout.times.key(self._value(index, self._layout.roles.time)), identifier)

    def keys(self) -> Keys:
        """(time, id) of all records, as two columns."""
        roles = self._layout.roles
        ids: list[Scalar] = []
        for one in self._values[self._layout.position(roles.id)]:
            if not isinstance(one, int | str):
                raise TypeError(f"{one!r} cannot be an id")
            ids.append(one)
        if self.branch is Branch.UNREADABLE:
            return [None] * len(ids), ids
        return self._layout.times.keys(self._values[self._layout.position(roles.time)]), ids

    def id(self, index: int) -> str:
        """The id of one record."""
        return str(self._value(index, self._layout.roles.id))

    def slice(self, start: int, stop: int) -> RowBlock:
        """A part of this block."""
        return RowBlock(self.branch, self._layout, self._rows[start:stop])

    def pick(self, indexes: Sequence[int]) -> RowBlock:
        """Some records of this block, in its order."""
        return RowBlock(self.branch, self._layout, [self._rows[index] for index in indexes])

    def belongs_to(self, account: str) -> bool:
        """Whether every record's account has exactly these bytes; the number 42 has those of "42"."""
        found = self._values[self._layout.position(self._layout.roles.account)]
        return found.count(account) == len(found) or all(
            value is not None and _bytes(value) == _bytes(account) for value in found
        )

    def raw(self, index: int) -> bytes:
        """What was read of one record, as JSON but for bytes that are not UTF-8."""
        record = dict(zip(self._layout.names, self._rows[index], strict=True))
        return _bytes(json.dumps(record, ensure_ascii=False, default=_readable))


def _bytes(value: object) -> bytes:
    """The bytes of a value, also of text that was decoded with `surrogateescape`."""
    if isinstance(value, bytes):
        return value
    text = str(value)
    try:
        return text.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        return text.encode(errors="surrogatepass")


def _readable(value: object) -> str:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else repr(value)
