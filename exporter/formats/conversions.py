"""Conversions: fragments of JSON in, fragments of JSON out, a whole column at a time.

Fragments are as a `Column` gives them: valid JSON on one line. What a conversion cannot read becomes null, so
none fails at a value.
"""

from __future__ import annotations

import ipaddress
import json
import re
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, TypeVar

import orjson

from exporter.columns import ValueColumn
from exporter.fragments import Same

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from exporter.interfaces import Column

Key = TypeVar("Key")
Value = TypeVar("Value")

NULL: Final = b"null"

_REMEMBERED = 2048
_SHORT_BYTES = 128
_NUMBER = re.compile(rb"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_EMAIL = re.compile(r"[a-zA-Z0-9!#$%&'*+-/=?^_`{|}~.]+@[a-zA-Z0-9-]+\.[a-zA-Z0-9.-]+")  # OCSF's email_t
_USUAL_EMAIL = re.compile(rb'"%b"' % _EMAIL.pattern.encode())  # as a JSON string without escapes
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - naive on both sides: only the difference counts
_MINUTE = slice(1, 17)  # of "2026-11-19T04:00:00.123456Z", its quotes included
_SECOND = slice(18, 20)
_MILLISECONDS = slice(21, 24)
_MICROSECONDS = slice(21, 27)
_OCTET = rb"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
IPV4: Final = re.compile(rb'"(?:%b\.){3}%b"' % (_OCTET, _OCTET))
"""An address as a JSON string, as it is usually written."""

_TIME = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}:[0-9]{2}(?::[0-9]{2})?)(?:[.,]([0-9]+))?"
    r" ?(?:([Zz])|([+-][0-9]{2}):?([0-9]{2})?)?"
)


class Remembered(dict[bytes, Value]):
    """What a function gives for a fragment, worked out once for each; bounded, whatever comes."""

    def __init__(self, function: Callable[[bytes], Value], most: int = _REMEMBERED) -> None:
        super().__init__()
        self._function = function
        self._most = most

    def __missing__(self, fragment: bytes) -> Value:
        value = self._function(fragment)
        if len(fragment) <= _SHORT_BYTES:
            if len(self) >= self._most:
                self.clear()
            self[fragment] = value
        return value


def text_of(fragment: bytes) -> str:
    """The text that a fragment stands for: a string's own, nothing for null, else the JSON itself."""
    if b" " in (fragment[:1], fragment[-1:]):
        fragment = fragment.strip()  # a column of JSON may have spaces around a value
    if fragment[:1] != b'"':
        return "" if fragment == NULL else fragment.decode()
    if b"\\" not in fragment:
        return fragment[1:-1].decode()
    try:
        return str(orjson.loads(fragment))
    except orjson.JSONDecodeError:  # half of a surrogate pair, spelt out in a column of JSON
        return str(json.loads(fragment))


def fragments_of(texts: Sequence[str | None]) -> Sequence[bytes]:
    """Texts as JSON strings on one line."""
    try:
        return ValueColumn(texts).strings()
    except ValueError:
        return [NULL if text is None else json.dumps(text).encode() for text in texts]


def fragment_of(text: str) -> bytes:
    """A text as a JSON string on one line."""
    return fragments_of([text])[0]


# --- Of fragments ------------------------------------------------------------------------------------


def _strings(fragments: Sequence[bytes]) -> Sequence[bytes]:
    """Each as a JSON string, or null."""
    return [one if one[:1] == b'"' or one == NULL else _as_string(one.strip()) for one in fragments]


def _as_string(fragment: bytes) -> bytes:
    return fragment if fragment[:1] == b'"' or fragment == NULL else fragment_of(fragment.decode())


def _lower(fragments: Sequence[bytes]) -> Sequence[bytes]:
    """The JSON of an ASCII text without escapes is that of its lower case when every byte is."""
    return [
        one.lower() if one.isascii() and b"\\" not in one else fragment_of(text_of(one).lower())
        for one in _strings(fragments)
    ]


def _upper(fragments: Sequence[bytes]) -> Sequence[bytes]:
    return [
        one
        if one == NULL
        else one.upper()
        if one.isascii() and b"\\" not in one
        else fragment_of(text_of(one).upper())
        for one in _strings(fragments)
    ]


def _json(fragments: Sequence[bytes]) -> Sequence[bytes]:
    """Text that is JSON as JSON, other text as it is."""
    texts = [text_of(one) if one[:1] == b'"' else None for one in fragments]
    if not any(texts):
        return fragments
    read = ValueColumn([text or "" for text in texts], json_text=True)
    try:
        parsed = read.json()
    except ValueError:  # half of a surrogate pair is no JSON, and a string already
        return [
            one if text is None else _json_of_one(one, text)
            for one, text in zip(fragments, texts, strict=True)
        ]
    return [one if text is None else new for one, text, new in zip(fragments, texts, parsed, strict=True)]


def _json_of_one(fragment: bytes, text: str) -> bytes:
    try:
        return ValueColumn([text], json_text=True).json()[0]
    except ValueError:
        return fragment


def _number(fragments: Sequence[bytes]) -> Sequence[bytes]:
    is_number = _NUMBER.fullmatch
    stripped = map(bytes.strip, fragments)
    bare = [one[1:-1] if one[:1] == b'"' else one for one in stripped]
    return [one if is_number(one) else NULL for one in bare]


def _email(fragments: Sequence[bytes]) -> Sequence[bytes]:
    """The text if it is an e-mail address in ASCII, as OCSF 1.8 asks for; else null."""
    is_usual, joined = _USUAL_EMAIL.fullmatch, b"".join(fragments)
    if b"@" not in joined and b"\\" not in joined:  # such as pseudonyms
        return Same(NULL, len(fragments))
    return [
        one if is_usual(one) or ((b"@" in one or b"\\" in one) and _is_email(one)) else NULL
        for one in fragments
    ]


def _is_email(fragment: bytes) -> bool:
    return fragment[:1] == b'"' and _EMAIL.fullmatch(text_of(fragment)) is not None


def _ip(fragments: Sequence[bytes]) -> Sequence[bytes]:
    is_usual = IPV4.fullmatch
    return [one if is_usual(one) or _is_address(one) else NULL for one in fragments]


def _is_address(fragment: bytes) -> bool:
    """Whether Elasticsearch takes the text: no zone, no port, no leading zeros, nothing around it."""
    text = text_of(fragment)
    if fragment[:1] != b'"' or "%" in text:
        return False
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


# --- Times -------------------------------------------------------------------------------------------


def _rfc3339(fragments: Sequence[bytes]) -> Sequence[bytes]:
    return [_instant(one) for one in fragments]


def _instant(fragment: bytes) -> bytes:
    """A time as the time column gives its own; null for what is none. Without an offset, it is UTC."""
    found = _TIME.fullmatch(text_of(fragment)) if fragment[:1] == b'"' else None
    if found is None:
        return NULL
    date, clock, digits, _, hours, minutes = found.groups()
    try:
        moment = datetime.fromisoformat(f"{date}T{clock}")
        if hours:
            ahead = timedelta(hours=int(hours), minutes=int(f"{hours[0]}{minutes or 0}"))
            datetime.fromisoformat(f"{date}T{clock}{hours}:{minutes or '00'}")  # such an offset there is
            moment -= ahead
    except (ValueError, OverflowError):
        return NULL
    nanoseconds = f"{(digits or '')[:9]:0<9}"
    return f'"{moment.isoformat("T", "seconds")}.{nanoseconds[:6]}{nanoseconds[6:].rstrip("0")}Z"'.encode()


def _of_minute(minute: bytes) -> int:
    since = datetime.fromisoformat(minute.decode()) - _EPOCH
    return since.days * 86400 + since.seconds


_minutes = Remembered(_of_minute)  # most records share theirs with the one before


def _epoch_s(instants: Sequence[bytes]) -> Sequence[bytes]:
    return [NULL if one == NULL else b"%d" % (_minutes[one[_MINUTE]] + int(one[_SECOND])) for one in instants]


def _epoch_ms(instants: Sequence[bytes]) -> Sequence[bytes]:
    """Rounded down: before 1970, seconds count backwards and their digits do not."""
    return [
        NULL
        if one == NULL
        else b"%d" % ((_minutes[one[_MINUTE]] + int(one[_SECOND])) * 1000 + int(one[_MILLISECONDS]))
        for one in instants
    ]


def _epoch(instants: Sequence[bytes]) -> Sequence[bytes]:
    return [
        NULL if one == NULL else epoch_of(_minutes[one[_MINUTE]] + int(one[_SECOND]), one[_MICROSECONDS])
        for one in instants
    ]


def epoch_of(seconds: int, digits: bytes) -> bytes:
    """Seconds since 1970 and six digits of the last as a number; before 1970, digits count backwards too."""
    if seconds >= 0 or digits == b"000000":
        return b"%d.%b" % (seconds, digits)
    return b"-%d.%06d" % (-seconds - 1, 1_000_000 - int(digits))


# --- By name -----------------------------------------------------------------------------------------

_OF_FRAGMENTS: Final[Mapping[str, Callable[[Sequence[bytes]], Sequence[bytes]]]] = {
    "value": lambda fragments: fragments,
    "string": _strings,
    "text": _strings,
    "lower": _lower,
    "upper": _upper,
    "json": _json,
    "number": _number,
    "ip": _ip,
    "email": _email,
    "rfc3339": _rfc3339,
    "epoch_s": lambda fragments: _epoch_s(_rfc3339(fragments)),
    "epoch_ms": lambda fragments: _epoch_ms(_rfc3339(fragments)),
    "epoch": lambda fragments: _epoch(_rfc3339(fragments)),
}

CONVERSIONS: Final = tuple(name for name in _OF_FRAGMENTS if name not in {"value", "string"})
"""By the names that people write."""

TIMES: Final = ("rfc3339", "epoch_s", "epoch_ms", "epoch")
"""Those that read a time."""

_OF_INSTANTS: Final[Mapping[str, Callable[[Sequence[bytes]], Sequence[bytes]]]] = {
    "rfc3339": lambda fragments: fragments,
    "epoch_s": _epoch_s,
    "epoch_ms": _epoch_ms,
    "epoch": _epoch,
}
_AS_JSON: Final = {"value", "json", "number"}


def converted(column: Column, conversions: Sequence[str]) -> Sequence[bytes]:
    """A column's values by these conversions, one after another; none is the JSON they are.

    Besides those of the language there are the names of version 1: `value`, `string`, and `instant` for the
    time column, which no other conversion reads as exactly. Raises ValueError for what is no JSON.
    """
    first, *others = conversions or ("value",)
    if first == "instant":
        fragments, known = column.instants(), _OF_INSTANTS
    elif first in {"string", "text"}:
        fragments, known = column.strings(), _OF_FRAGMENTS
    else:
        fragments = column.json() if first in _AS_JSON else column.strings()
        fragments, known = _each(_OF_FRAGMENTS[first], fragments), _OF_FRAGMENTS
    for name in others:
        fragments, known = _each(known.get(name, _OF_FRAGMENTS[name]), fragments), _OF_FRAGMENTS
    return fragments


def _each(
    conversion: Callable[[Sequence[bytes]], Sequence[bytes]], fragments: Sequence[bytes]
) -> Sequence[bytes]:
    """A conversion of all values, done once where they are the same."""
    if type(fragments) is Same:
        return Same(conversion([fragments.value])[0], len(fragments))
    return conversion(fragments)


def converted_text(text: str, conversions: Sequence[str]) -> bytes:
    """What these conversions make of a text that is known before there is a block."""
    return converted(ValueColumn([text]), conversions)[0]
