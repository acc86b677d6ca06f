"""Values as MariaDB and MySQL send them, bytes in text form, as the values that `columns` renders.

Exact, or not at all: a number keeps its digits, bytes that are no text stay bytes, and text that is not
UTF-8 makes its record a bad one. It must not know which column plays which role.
"""

from __future__ import annotations

import struct
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Final

from pymysql.constants import FIELD_TYPE, FLAG

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Convert = Callable[[Sequence[bytes | None]], Sequence[object]]

BINARY_COLLATION: Final = 63
_VECTOR: Final = 242


class Kind(Enum):
    """What a column holds, as far as it matters here."""

    INTEGER = "integer"
    DECIMAL = "decimal"
    FLOAT = "float"
    DOUBLE = "double"
    BIT = "bit"
    DATE = "date"
    DATETIME = "datetime"
    TIMESTAMP = "timestamp"
    TIME = "time"
    TEXT = "text"
    BYTES = "bytes"
    JSON = "json"


_KINDS: Final[Mapping[int, Kind]] = {
    **dict.fromkeys(
        (FIELD_TYPE.TINY, FIELD_TYPE.SHORT, FIELD_TYPE.INT24, FIELD_TYPE.LONG, FIELD_TYPE.LONGLONG),
        Kind.INTEGER,
    ),
    FIELD_TYPE.YEAR: Kind.INTEGER,
    FIELD_TYPE.DECIMAL: Kind.DECIMAL,
    FIELD_TYPE.NEWDECIMAL: Kind.DECIMAL,
    FIELD_TYPE.FLOAT: Kind.FLOAT,
    FIELD_TYPE.DOUBLE: Kind.DOUBLE,
    FIELD_TYPE.BIT: Kind.BIT,
    FIELD_TYPE.DATE: Kind.DATE,
    FIELD_TYPE.NEWDATE: Kind.DATE,
    FIELD_TYPE.DATETIME: Kind.DATETIME,
    FIELD_TYPE.TIMESTAMP: Kind.TIMESTAMP,
    FIELD_TYPE.TIME: Kind.TIME,
    FIELD_TYPE.GEOMETRY: Kind.BYTES,
    _VECTOR: Kind.BYTES,
    FIELD_TYPE.JSON: Kind.JSON,
}


def kind_of(type_code: int, collation: int, flags: int, scale: int) -> Kind:
    """What a result column holds, by what the server says of it."""
    if flags & (FLAG.ENUM | FLAG.SET):
        return Kind.TEXT
    kind = _KINDS.get(type_code, Kind.BYTES if collation == BINARY_COLLATION else Kind.TEXT)
    return Kind.INTEGER if kind is Kind.DECIMAL and scale == 0 else kind


def converted(kind: Kind, values: Sequence[bytes | None]) -> Sequence[object]:
    """The values of a column."""
    return _CONVERSIONS[kind](values)


def text(value: bytes) -> str:
    """Text, whose bytes that are not UTF-8 can be told from all others."""
    return value.decode(errors="surrogateescape")


def shortest(single: float) -> float:
    """Of a single-precision number, the number with the fewest digits that stands for it."""
    packed = struct.pack("f", single)
    for digits in (6, 7, 8):
        short = float(f"{single:.{digits}g}")
        if _packed(short) == packed:
            return short
    return float(f"{single:.9g}")


def _packed(number: float) -> bytes | None:
    try:
        return struct.pack("f", number)
    except OverflowError:  # rounded beyond the largest one
        return None


def _integers(values: Sequence[bytes | None]) -> Sequence[object]:
    return [None if value is None else int(value) for value in values]


def _decimals(values: Sequence[bytes | None]) -> Sequence[object]:
    return [None if value is None else _decimal(value.decode()) for value in values]


def _decimal(number: str) -> str:
    """As JSON has it: without the zeros of ZEROFILL."""
    if not number.startswith("0"):
        return number
    whole, point, rest = number.partition(".")
    return f"{whole.lstrip('0') or '0'}{point}{rest}"


def _doubles(values: Sequence[bytes | None]) -> Sequence[object]:
    return [None if value is None else float(value) for value in values]


def _floats(values: Sequence[bytes | None]) -> Sequence[object]:
    return [None if value is None else shortest(float(value)) for value in values]


def _bits(values: Sequence[bytes | None]) -> Sequence[object]:
    return [None if value is None else int.from_bytes(value, "big") for value in values]


def _texts(values: Sequence[bytes | None]) -> Sequence[object]:
    try:
        return [None if value is None else value.decode() for value in values]
    except UnicodeDecodeError:
        return [None if value is None else text(value) for value in values]


def _times(zone: str, values: Sequence[bytes | None]) -> Sequence[object]:
    """RFC 3339: a DATETIME has no zone, a TIMESTAMP that of the session, UTC. Zero dates stay as they are."""
    return [None if value is None else _time(value.decode(), zone) for value in values]


def _time(value: str, zone: str) -> str:
    return value if "-00" in value or value.startswith("0000") else value.replace(" ", "T") + zone


def _bytes(values: Sequence[bytes | None]) -> Sequence[object]:
    return values


_CONVERSIONS: Final[Mapping[Kind, Convert]] = {
    Kind.INTEGER: _integers,
    Kind.DECIMAL: _decimals,
    Kind.FLOAT: _floats,
    Kind.DOUBLE: _doubles,
    Kind.BIT: _bits,
    Kind.DATE: _texts,
    Kind.DATETIME: partial(_times, ""),
    Kind.TIMESTAMP: partial(_times, "Z"),
    Kind.TIME: _texts,
    Kind.TEXT: _texts,
    Kind.BYTES: _bytes,
    Kind.JSON: _texts,
}
