r"""Values as PostgreSQL's COPY writes them in text format, made into JSON a whole column at a time.

What makes this possible (copyto.c, CopyAttributeOutText, the same in versions 13 to 18): COPY escapes the
backslash and ``\b \f \n \r \t \v``, nothing else, and writes NULL as ``\N``. So a raw tab or line feed
only ever separates values, every backslash begins an escape of two characters, and all of these escapes but
``\v`` mean the same in a JSON string. A zero byte is in no value at all, so it can stand for an escaped
backslash while other escapes are looked for.

Pure: it knows no database. It must not repair a value: what JSON cannot say raises ValueError.
"""

from __future__ import annotations

import re
from binascii import b2a_base64, unhexlify
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Final, TypeAlias

from exporter.columns import NANOSECONDS
from exporter.fragments import QUOTE, Figures, Strings, Values

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from exporter.model import Scalar

NULL: Final = rb"\N"
UNREADABLE: Final = "the time is unreadable"
_STAND_IN = b"\0"  # for an escaped backslash
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SAFE_DIGITS = 18  # every such integer has 64 bits

_ESCAPES = {
    b"\\": b"\\\\",
    b"\b": rb"\b",
    b"\f": rb"\f",
    b"\n": rb"\n",
    b"\r": rb"\r",
    b"\t": rb"\t",
    b"\v": rb"\v",
}
_MEANINGS = {escape[1:]: plain for plain, escape in _ESCAPES.items()}
_ESCAPE = re.compile(rb"\\(.)", re.DOTALL)

_LINE_SEPARATORS = tuple((mark.encode(), b"\\u%04x" % ord(mark)) for mark in "\u2028\u2029\x85")
_JSON_ESCAPES = (
    *((bytes([code]), b"\\u%04x" % code) for code in range(1, 0x20) if bytes([code]) not in _ESCAPES),
    (b'"', b'\\"'),
    *_LINE_SEPARATORS,
)
_REMARKABLE = NULL + rb"\v" + b"".join(raw for raw, _ in _JSON_ESCAPES)
_ORDINARY = bytes(code for code in range(256) if code not in _REMARKABLE)
_VERTICAL_TAB = re.compile(rb"\\v")  # finds a backslash sooner than `in` finds the two
_JSON_WHITESPACE = (rb"\n", rb"\r", rb"\t")

_BOOLEANS = {b"t": b"true", b"f": b"false", NULL: b"null"}
_BOOLEAN_STRINGS = {b"t": b'"true"', b"f": b'"false"', NULL: b"null"}
_NO_NUMBERS = {NULL: b"null", **{name: b'"%b"' % name for name in (b"NaN", b"Infinity", b"-Infinity")}}

_ZONE = b"+00"  # every session is in UTC
_DIGITS = b"0123456789"
_SIGNS = b"-- ::."
_NO_TIME = b"0000-00-00 00:00:00.000000"  # there is no year 0
_WIDTH, _WIDTH_OF_SECOND = len(_NO_TIME), len(b"0000-00-00 00:00:00")


class Kind(StrEnum):
    """How COPY's text of a type becomes JSON: as `to_json` has it, but for bytes and times.

    Bytes become base64, timestamps six digits and a Z. INTEGER is for int2, int4 and int8, NUMBER for
    numeric, float4 and float8, JSON for json and jsonb, CODE for types whose text has neither words nor
    anything to escape (addresses, UUIDs, transaction ids), and TEXT for every type without a kind of its own.
    The session is in UTC, with `datestyle = ISO`, `bytea_output = hex` and `extra_float_digits = 1`.
    """

    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    JSON = "json"
    BYTES = "bytes"
    TIMESTAMPTZ = "timestamptz"
    TIMESTAMP = "timestamp"
    DATE = "date"
    CODE = "code"
    TEXT = "text"


_DAY, _SECOND_OF_DAY = rb"([0-9]{4}-[0-9]{2}-[0-9]{2})", rb" ([0-9:]{8})(?:\.([0-9]{1,6}))?"
_FORMS = {
    Kind.TIMESTAMPTZ: re.compile(_DAY + _SECOND_OF_DAY + re.escape(_ZONE)),
    Kind.TIMESTAMP: re.compile(_DAY + _SECOND_OF_DAY),
    Kind.DATE: re.compile(_DAY),
}


# --- Single values -----------------------------------------------------------------------------------


def plain(value: bytes) -> bytes:
    """What a value was before COPY escaped it."""
    if b"\\" not in value:
        return value
    return _ESCAPE.sub(lambda escape: _MEANINGS.get(escape[1], escape[1]), value)


def escaped(text: bytes) -> bytes:
    """A text as COPY writes it."""
    for one, escape in _ESCAPES.items():  # the backslash first
        text = text.replace(one, escape)
    return text


def time_key(kind: Kind, value: bytes) -> str:
    """A date or timestamp as ``YYYY-MM-DD HH:MM:SS.ffffff``: it sorts as time does."""
    found = _FORMS[kind].fullmatch(value)
    if found is None:
        raise ValueError(UNREADABLE)
    day, second, digits = (*(part or b"" for part in found.groups()), b"", b"")[:3]
    return f"{day.decode()} {second.decode() or '00:00:00'}.{digits.decode():0<6}"


def time_keys(kind: Kind, values: Values) -> Sequence[str]:
    """The same of a whole column, all at once where none of them is odd."""
    found = None if kind is Kind.DATE else _canonical(kind, values)
    if found is None or _NO_TIME in found:
        return [time_key(kind, value) for value in values]
    return found.decode().split(_zone(kind).decode() + "\n")[:-1]


def number_key(value: bytes) -> Scalar:
    """The same for equal numbers, however many zeros they end in: 1.50, 1.5 and 1.5e0 are one.

    An int if it is one of up to 18 digits, a float if one is exactly that decimal, else the digits as
    text in fixed-point form, exactly; NaN and the infinities by their names. Each of these, cast to the
    column's type, is the value again.
    """
    number = _decimal(value)
    if not number.is_finite():
        return value.decode()
    digits = f"{number:f}"
    if "." in digits:
        digits = digits.rstrip("0").rstrip(".")
    if "." in digits:
        return float(digits) if Decimal(repr(float(digits))) == number else digits
    return int(digits) if len(digits) <= _SAFE_DIGITS else digits


def number_instant(value: bytes, unit: str) -> bytes:
    """A number of some unit since 1970 as a JSON string, rounded down to nanoseconds."""
    numerator, denominator = _ratio(value)
    seconds, nanoseconds = divmod(numerator * NANOSECONDS[unit] // denominator, NANOSECONDS["s"])
    digits = b"%09d" % nanoseconds
    return b'"%b.%b%bZ"' % (_second(seconds), digits[:6], digits[6:].rstrip(b"0"))


def _ratio(value: bytes) -> tuple[int, int]:
    if value.isdigit():
        return int(value), 1
    try:
        return _decimal(value).as_integer_ratio()
    except (OverflowError, ValueError) as error:  # an infinity, or NaN or NULL
        raise ValueError(UNREADABLE) from error


def _decimal(value: bytes) -> Decimal:
    try:
        return Decimal(value.decode())
    except InvalidOperation as error:
        raise ValueError("the value is no number") from error


@lru_cache(maxsize=1024)  # neighbours share their second
def _second(seconds: int) -> bytes:
    try:
        moment = _EPOCH + timedelta(seconds=seconds)
    except OverflowError as error:
        raise ValueError(UNREADABLE) from error
    return moment.replace(tzinfo=None).isoformat().encode()


# --- Columns -----------------------------------------------------------------------------------------


def require_utf8(values: Values) -> None:
    """Raise ValueError unless all values are UTF-8."""
    try:
        values.joined.decode()
    except UnicodeDecodeError as error:
        raise ValueError("the text is not valid UTF-8") from error


def instants(kind: Kind, values: Values, unit: str | None) -> Sequence[bytes]:
    """Each value of a time column as an RFC 3339 time in UTC; ValueError if there is one without."""
    if unit is not None:
        return [number_instant(value, unit) for value in values]
    if kind is Kind.DATE:
        return [_instant(kind, value, b"Z") for value in values]
    found = _canonical(kind, values)
    if found is None or _NO_TIME in found:
        raise ValueError(UNREADABLE)
    return _as_strings(kind, found, b"Z")


def _texts(values: Values) -> Sequence[bytes]:
    """Each value as a JSON string, or null."""
    joined = plain = values.joined
    # Looking for two bytes is slow: one quick pass leaves next to nothing to look through.
    remarkable = joined.translate(None, _ORDINARY)
    if rb"\v" in remarkable and _VERTICAL_TAB.search(joined):
        joined = joined.replace(rb"\\", _STAND_IN).replace(rb"\v", rb"\u000b").replace(_STAND_IN, rb"\\")
    for raw, escape in _JSON_ESCAPES:
        if raw in remarkable:
            joined = joined.replace(raw, escape)
    inside = values if joined == plain else Values.of_lines(joined, len(values))
    return _strings(inside) if NULL in remarkable else Strings(inside)


def _strings(inside: Values, *, has_words: bool = True) -> Sequence[bytes]:
    r"""What is inside of JSON strings as these, but null for ``\N``, which no text is.

    No text has ``"\N"`` inside: its own quotes have a backslash before them, and ``\N`` is no escape.
    """
    if not inside.has(NULL):
        return Strings(inside, has_words=has_words)
    quoted = b'"%b"' % inside.joined.replace(b"\n", b'"\n"')
    return Values.of_lines(quoted.replace(b'"%b"' % NULL, b"null"), len(inside))


def _json_texts(values: Values) -> Sequence[bytes]:
    """JSON text as it stands, but for the white space between tokens that would break a line."""
    joined = plain = values.joined
    if b"\\" in joined:
        joined = joined.replace(rb"\\", _STAND_IN).replace(NULL, b"null")
        if b"\\" in joined:
            for escape in _JSON_WHITESPACE:
                joined = joined.replace(escape, b" ")
        joined = joined.replace(_STAND_IN, b"\\")
    if not joined.isascii():
        for raw, escape in _LINE_SEPARATORS:
            joined = joined.replace(raw, escape)
    return values if joined == plain else Values.of_lines(joined, len(values))


def _integers(values: Values) -> Sequence[bytes]:
    if not values.has(NULL):
        return Figures.like(values)
    return Figures([b"null" if value == NULL else value for value in values])


def _numbers(values: Values) -> Sequence[bytes]:
    if b"N" not in values.joined and b"I" not in values.joined:  # one of which is in whatever is no number
        return Figures.like(values)
    return Figures([_NO_NUMBERS.get(value, value) for value in values])


def _booleans(words: Mapping[bytes, bytes], values: Values) -> Sequence[bytes]:
    return Figures(list(map(words.__getitem__, values)))


def _bytes(values: Values) -> list[bytes]:
    return [b"null" if value == NULL else _base64(value) for value in values]


def _base64(value: bytes) -> bytes:
    if not value.startswith(rb"\\x"):
        raise ValueError("the bytes are not in hexadecimal form")
    return b'"%b"' % b2a_base64(unhexlify(value[3:]), newline=False)


def _short_texts(values: Values) -> Sequence[bytes]:
    """Texts of types whose values never need an escape, and are nobody's words."""
    return _strings(values, has_words=False)


def _timestamps(kind: Kind, values: Values) -> Sequence[bytes]:
    """RFC 3339 with six digits; infinity, years before 1 and from 10000 on as PostgreSQL writes them."""
    mark = b"Z" if kind is Kind.TIMESTAMPTZ else b""
    found = _canonical(kind, values)
    if found is not None:
        strings = _as_strings(kind, found, mark)
        if _NO_TIME not in found:
            return strings
        nothing = _NO_TIME.replace(b" ", b"T")
        return [
            b"null" if inside == nothing else one for one, inside in zip(strings, strings.inside, strict=True)
        ]
    usual = _FORMS[kind].fullmatch
    return [_instant(kind, value, mark) if usual(value) else _strings(Values([value]))[0] for value in values]


def _instant(kind: Kind, value: bytes, mark: bytes) -> bytes:
    return b'"%b%b"' % (time_key(kind, value).replace(" ", "T").encode(), mark)


def _as_strings(kind: Kind, found: bytes, mark: bytes) -> Strings:
    """Canonical timestamps as RFC 3339 has them, with a mark in place of the zone."""
    joined = found.replace(b" ", b"T").replace(_zone(kind) + b"\n", b"\n")[:-1]
    return Strings(Values.of_lines(joined, found.count(b"\n")), end=mark + QUOTE, has_words=False)


def _canonical(kind: Kind, values: Values) -> bytes | None:
    """Timestamps with six digits and their zone, each on a line, NULL as ``_NO_TIME``; None if one is odd."""
    zone = _zone(kind)
    width = _WIDTH + len(zone)
    fixed = b"\n".join([one if len(one) == width else _padded(one, zone) for one in values]) + b"\n"
    # Widths, the place of one sign and the order of all: what is left can only be digits in their places.
    line = width + 1
    if len(fixed) != len(values) * line or fixed[4::line].strip(b"-"):
        return None
    if fixed.translate(None, _DIGITS) != (_SIGNS + zone[:1] + b"\n") * len(values):
        return None
    if zone and (fixed[width - 1 :: line].strip(b"0") or fixed[width - 2 :: line].strip(b"0")):
        return None
    return fixed


def _zone(kind: Kind) -> bytes:
    return _ZONE if kind is Kind.TIMESTAMPTZ else b""


def _padded(value: bytes, zone: bytes) -> bytes:
    """A time with six digits of a second; what is none stays odd."""
    if value == NULL:
        return _NO_TIME + zone
    bare = value.removesuffix(zone)
    if zone and bare == value:
        return value
    return (bare + b".000000" if len(bare) == _WIDTH_OF_SECOND else bare.ljust(_WIDTH, b"0")) + zone


Conversion: TypeAlias = "Callable[[Values], Sequence[bytes]]"

AS_JSON: Final[Mapping[Kind, Conversion]] = {
    Kind.INTEGER: _integers,
    Kind.NUMBER: _numbers,
    Kind.BOOLEAN: partial(_booleans, _BOOLEANS),
    Kind.JSON: _json_texts,
    Kind.BYTES: _bytes,
    Kind.TIMESTAMPTZ: partial(_timestamps, Kind.TIMESTAMPTZ),
    Kind.TIMESTAMP: partial(_timestamps, Kind.TIMESTAMP),
    Kind.DATE: _short_texts,
    Kind.CODE: _short_texts,
    Kind.TEXT: _texts,
}
"""Values as the JSON they are. None of these takes an empty column."""

AS_STRINGS: Final[Mapping[Kind, Conversion]] = {
    **AS_JSON,
    Kind.INTEGER: _short_texts,
    Kind.NUMBER: _short_texts,
    Kind.BOOLEAN: partial(_booleans, _BOOLEAN_STRINGS),
    Kind.JSON: _texts,
}
"""Values as JSON strings, or null."""
