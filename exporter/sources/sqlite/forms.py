"""Forms of times that a whole joined column is in: looked at and rewritten at once, not value by value.

Pure. What is readable is defined in SQL, by ``time``; a form that holds here is a part of that.
"""

from __future__ import annotations

import re
from datetime import date
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Protocol

from exporter.columns import SEPARATOR, TextTimes

if TYPE_CHECKING:
    from exporter.columns import NumberTimes

_CANONICAL: Final = re.compile(rb"0000-00-00([T ])00:00:00(?:\.(0{1,9}))?(Z|\+00:00)?")
_DIGITS_AS_ZEROS: Final = bytes.maketrans(b"123456789", b"000000000")
_OFFSET: Final = b"+00:00"
_DAY_LENGTH: Final = len("2026-11-19")
_TENS_OF_HOURS: Final = len("2026-11-19T")
_TENS_OF_MINUTES, _TENS_OF_SECONDS = len("2026-11-19T04:"), len("2026-11-19T04:00:")
_USUAL_DIGITS: Final = 6


class Form(Protocol):
    """How all times of some joined columns are written."""

    def holds(self, data: bytes, count: int) -> bool:
        """Whether all of them are, and are readable; False where that is not certain."""
        ...

    def instants(self, data: bytes) -> list[bytes]:
        """Each as an RFC 3339 time in a JSON string."""
        ...


class TextForm:
    """Canonical texts with one separator, so many digits of a second, and one zone."""

    def __init__(self, separator: bytes, digits: int, zone: bytes) -> None:
        self._separator = separator
        self._digits = digits
        self._zone = zone
        fraction = b"." + b"0" * digits if digits else b""
        self._zeros = b"0000-00-00%b00:00:00%b%b%b" % (separator, fraction, zone, SEPARATOR)

    @classmethod
    def of(cls, value: bytes) -> TextForm | None:
        """That of a value; None for a value that is not canonical."""
        found = _CANONICAL.fullmatch(value.translate(_DIGITS_AS_ZEROS))
        if found is None:
            return None
        separator, fraction, zone = found.groups(default=b"")
        return cls(separator, len(fraction), zone)

    @property
    def shape(self) -> int:
        """A number that no other form has, but that of the other separator; as `time` works it out in SQL."""
        return (len(self._zeros) - len(SEPARATOR)) * 4 + {b"Z": 2, b"": 0}.get(self._zone, 1)

    @property
    def is_usual(self) -> bool:
        """Whether such a text is an instant as it stands."""
        return (self._separator, self._digits, self._zone) == (b"T", _USUAL_DIGITS, b"Z")

    def holds(self, data: bytes, count: int) -> bool:
        """Each sign in its place, and every hour one of the calendar."""
        whole, width = data + SEPARATOR, len(self._zeros)
        if whole.translate(_DIGITS_AS_ZEROS) != self._zeros * count:
            return False
        if self._zone == _OFFSET and whole.count(_OFFSET + SEPARATOR) != count:
            return False  # +01:00 has the shape of +00:00
        tens = whole[_TENS_OF_MINUTES::width] + whole[_TENS_OF_SECONDS::width]
        if tens.translate(None, b"012345"):
            return False
        return _are_hours(whole, width) and all(map(_is_day, _days(whole, width)))

    def instants(self, data: bytes) -> list[bytes]:
        """The same texts, filled up to six digits."""
        if self._digits > _USUAL_DIGITS:
            instant = TextTimes().instant
            return [b'"%b"' % instant(one.decode()).encode() for one in data.split(SEPARATOR)]
        point = b"" if self._digits else b"."
        end = point + b"0" * (_USUAL_DIGITS - self._digits) + b'Z"'
        whole = b'"' + (data + SEPARATOR).replace(self._zone + SEPARATOR, end + SEPARATOR + b'"')
        if self._separator != b"T":
            whole = whole.replace(self._separator, b"T")
        return whole.split(SEPARATOR)[:-1]


class NumberForm:
    """Integers of one unit since 1970, which SQL has found readable."""

    def __init__(self, times: NumberTimes) -> None:
        self._times = times

    def holds(self, data: bytes, count: int) -> bool:
        """Always."""
        del data, count
        return True

    def instants(self, data: bytes) -> list[bytes]:
        """Each as the instant it stands for."""
        instant = self._times.instant
        return [b'"%b"' % instant(int(one)).encode() for one in data.split(SEPARATOR)]


def _are_hours(whole: bytes, width: int) -> bool:
    """Whether there are such hours, of digits at their places."""
    tens, ones = whole[_TENS_OF_HOURS::width], whole[_TENS_OF_HOURS + 1 :: width]
    return not tens.translate(None, b"01") or max(zip(tens, ones, strict=True)) < (*b"24",)


def _days(whole: bytes, width: int) -> set[bytes]:
    """The days of texts of one width."""
    first = whole[:_DAY_LENGTH]
    count = len(whole) // width
    # Of records in their order nearly all have one; a look at all of them, place by place, is quick.
    if all(whole[place::width] == first[place : place + 1] * count for place in range(_DAY_LENGTH)):
        return {first}
    return {whole[start : start + _DAY_LENGTH] for start in range(0, len(whole), width)}


@lru_cache(maxsize=4096)
def _is_day(text: bytes) -> bool:
    """Whether its digits are a day of the calendar."""
    try:
        date.fromisoformat(text.decode())
    except ValueError:
        return False
    return True
