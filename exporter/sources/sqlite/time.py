"""What times look like in a SQLite column, as SQL: which are readable, how they sort, what bounds them.

The one definition of "readable" is here, in SQL; ``columns`` only rewrites values that SQL found
readable. It must not open a database: what it has to know about the rows it asks through a ``Lookup``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Protocol, cast

from exporter.columns import NANOSECONDS, NumberTimes, TextTimes, Times
from exporter.sources.sqlite.forms import NumberForm, TextForm

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exporter.model import Scalar
    from exporter.sources.sqlite.forms import Form

Row = tuple[object, ...]

_SEPARATORS = " T"
_ONE_DAY = timedelta(days=1)
_MANY_DAYS = 7
_SECOND_LENGTH = len("2026-11-19T04:00:00")
_DIGITS_BY_USE = (6, 3, 0, 9, 7, 1, 2, 4, 5, 8)
_YEAR_1, _YEAR_10000 = -62_135_596_800, 253_402_300_800  # in seconds since 1970
_INT64 = range(-(2**63), 2**63)


@dataclass(frozen=True, slots=True)
class Condition:
    """Terms of a WHERE clause, all of which must hold, with the values of their named parameters."""

    terms: tuple[str, ...] = ()
    values: Mapping[str, object] = field(default_factory=dict)

    def __add__(self, other: Condition) -> Condition:
        return Condition(self.terms + other.terms, {**self.values, **other.values})


class Lookup(Protocol):
    """Asks the records of one account."""

    def __call__(self, what: str, condition: Condition, tail: str = "") -> Row | None:
        """The first row of a statement, or None."""
        ...


class SqlTimes(Protocol):
    """Times of one form, in SQL and in Python."""

    readable: str
    """Whether a record's time is one."""
    value: str
    """What keys hold and records are sorted by, of a readable time."""

    @property
    def python(self) -> Times:
        """The same times as values of Python."""
        ...

    def value_of(self, column: str) -> str:
        """``value`` of the column under another name."""
        ...

    def before(self, moment: datetime) -> Condition:
        """Readable and before a whole second."""
        ...

    def on_time(self, lookup: Lookup, start: datetime, end: datetime) -> tuple[Condition, str] | None:
        """Readable and in [start, end), in terms that an index serves, and what to sort by. None: nothing."""
        ...

    def in_index_order(self, lookup: Lookup, start: datetime, end: datetime) -> Condition | None:
        """The same in terms that leave it to a `Form` to say what is readable and how it sorts.

        Bounds are ``:low`` and ``:high``; a reading that goes on gives ``:low`` the last time it has read.
        None where records may sort otherwise than the column does.
        """
        ...

    def form_of(self, value: bytes, low: object) -> Form | None:
        """How this time is written; None where it may lie beyond bounds that are written as ``low`` is."""
        ...

    def misfits(self, form: Form, last: Scalar) -> Condition | None:
        """Times behind the last one read that, of another form, may sort before it. None: there are none."""
        ...

    def seconds_of_part(
        self, start: datetime, end: datetime, after: Scalar | None, last: Scalar | None
    ) -> tuple[datetime, datetime]:
        """[start, end) narrowed to the whole seconds of a part's first and last time."""
        ...

    def first_second(
        self, lookup: Lookup, start: datetime, end: datetime, also: Condition
    ) -> datetime | None:
        """The second of the first readable time in [start, end) that also meets a condition."""
        ...


def sql_times(column: str, unit: str | None) -> SqlTimes:
    """The form of a quoted column: numbers of a unit, or text."""
    return TextSql(column) if unit is None else NumberSql(column, unit)


class TextSql:
    """Canonical text. Bounds are whole seconds, so the first 19 characters decide what lies in a window."""

    def __init__(self, column: str) -> None:
        self.python: Times = TextTimes()
        self._column = column
        self._second = f"replace(substr({column}, 1, 19), 'T', ' ')"
        self.readable = _readable_text(column)
        self.value = self.value_of(column)
        self._shape = (
            f"length({column}) * 4"
            f" + CASE WHEN substr({column}, -1) = 'Z' THEN 2 ELSE substr({column}, -6, 1) = '+' END"
        )

    def value_of(self, column: str) -> str:
        """``YYYY-MM-DD HH:MM:SS.fffffffff``."""
        # Without its zone a time has 19 characters, or 20 and the digits; zeros fill it up to 29.
        bare = f"replace(replace(rtrim({column}, 'Z'), '+00:00', ''), 'T', ' ')"
        return f"({bare} || substr('.000000000', length({bare}) - 18))"

    def before(self, moment: datetime) -> Condition:
        """Decided by a plain comparison for nearly all records that are not."""
        # The unary plus keeps SQLite from ever choosing the index on time: that is a whole history.
        return Condition(
            (f"+{self._column} < :before_raw", f"{self._second} < :before", self.readable),
            {"before_raw": _text(moment, "T"), "before": _text(moment, " ")},
        )

    def on_time(self, lookup: Lookup, start: datetime, end: datetime) -> tuple[Condition, str] | None:
        """In index order where that is the order of time: one separator, all times of one shape."""
        separators = self._separators(lookup, start, end)
        if not separators:
            return None
        if len(separators) > 1:
            return self._wide(start, end), self.value
        tight = self._tight(separators[0], start, end)
        shapes = lookup(f"min({self._shape}), max({self._shape})", tight)
        is_uniform = shapes is not None and shapes[0] == shapes[1]
        # Between two days lie all times of the first day that have a T, and of the second that have none.
        exact = Condition((self.readable,)) if start.date() == end.date() else self._exact(start, end)
        return tight + exact, self._column if is_uniform else self.value

    def in_index_order(self, lookup: Lookup, start: datetime, end: datetime) -> Condition | None:
        """With one separator, seconds sort as they are; it is up to the form that times within one do."""
        separators = self._separators(lookup, start, end)
        return self._tight(separators[0], start, end) if len(separators) == 1 else None

    def form_of(self, value: bytes, low: object) -> Form | None:
        """The form of a canonical text with the separator of the bounds."""
        # Between the bounds of two days lie times with the other separator that are not in the window.
        is_same = value[10:11].decode(errors="replace") == str(low)[10:11]
        return TextForm.of(value) if is_same else None

    def misfits(self, form: Form, last: Scalar) -> Condition | None:
        """What is left of the last one's second, in another shape."""
        # Nothing readable has a tilde: this is behind all that begins with the second.
        values = {
            "last": last,
            "beyond": f"{str(last)[:_SECOND_LENGTH]}~",
            "shape": cast("TextForm", form).shape,
        }
        terms = (f"{self._column} > :last", f"{self._column} < :beyond", f"{self._shape} <> :shape")
        return Condition(terms, values)

    def seconds_of_part(
        self, start: datetime, end: datetime, after: Scalar | None, last: Scalar | None
    ) -> tuple[datetime, datetime]:
        """A part of a long window is not looked for from the window's beginning."""
        if after is not None:
            start = max(start, _second_of(after))
        if last is not None and _second_of(last) < end:
            end = min(end, _second_of(last) + timedelta(seconds=1))
        return start, end

    def first_second(
        self, lookup: Lookup, start: datetime, end: datetime, also: Condition
    ) -> datetime | None:
        """The index finds the first day; within it, the first time with each separator."""
        found = lookup(self._second, self._wide(start, end) + also, f"ORDER BY {self._column} LIMIT 1")
        if found is None:
            return None
        day = str(found[0])[:10]
        exact = self._exact(start, end) + also  # one pair of raw bounds: an index can serve only one
        firsts = [
            lookup(
                self._second,
                exact + self._raw(f"{day}{separator}", f"{day}{separator}~"),
                f"ORDER BY {self._column} LIMIT 1",
            )
            for separator in _SEPARATORS
        ]
        return _second_of(min(str(row[0]) for row in firsts if row is not None))

    def _separators(self, lookup: Lookup, start: datetime, end: datetime) -> list[str]:
        return [one for one in _SEPARATORS if self._occurs(lookup, one, start, end)]

    def _tight(self, separator: str, start: datetime, end: datetime) -> Condition:
        return self._raw(_text(start, separator), _text(end, separator))

    def _occurs(self, lookup: Lookup, separator: str, start: datetime, end: datetime) -> bool:
        """Whether a time with this separator may lie in [start, end): a probe for each day."""
        first, days = start.date(), (end.date() - start.date()).days
        if days > _MANY_DAYS:
            return True
        low, high = _text(start, separator), _text(end, separator)
        for day in (first + _ONE_DAY * number for number in range(days + 1)):
            bounds = max(low, _midnight(day, separator)), min(high, f"{day.isoformat()}{separator}~")
            if lookup("1", self._raw(*bounds), "LIMIT 1") is not None:
                return True
        return False

    def _wide(self, start: datetime, end: datetime) -> Condition:
        """Raw bounds for both separators (a space sorts before T), then the exact ones."""
        return self._raw(_text(start, " "), _text(end, "T")) + self._exact(start, end)

    def _exact(self, start: datetime, end: datetime) -> Condition:
        return Condition(
            (f"{self._second} >= :start", f"{self._second} < :end", self.readable),
            {"start": _text(start, " "), "end": _text(end, " ")},
        )

    def _raw(self, low: str, high: str) -> Condition:
        """Bounds on the bytes as stored, which an index serves."""
        return Condition((f"{self._column} >= :low", f"{self._column} < :high"), {"low": low, "high": high})


class NumberSql:
    """Integers and reals of one unit since 1970; they sort as they are stored."""

    def __init__(self, column: str, unit: str) -> None:
        self.python = NumberTimes(unit)
        self._column = column
        self._per_second = NANOSECONDS["s"] // NANOSECONDS[unit]
        self.value = column
        self.readable = (
            f"(typeof({column}) IN ('integer', 'real')"
            f" AND {column} >= {_YEAR_1 * self._per_second} AND {column} < {_YEAR_10000 * self._per_second})"
        )

    def value_of(self, column: str) -> str:
        """The number itself."""
        return column

    def before(self, moment: datetime) -> Condition:
        """The unary plus keeps SQLite from scanning a whole history through the index on time."""
        return Condition((f"+{self._column} < :before", self.readable), {"before": self._number(moment)})

    def on_time(self, lookup: Lookup, start: datetime, end: datetime) -> tuple[Condition, str] | None:
        """Always in index order."""
        del lookup
        return self._between(start, end), self._column

    def in_index_order(self, lookup: Lookup, start: datetime, end: datetime) -> Condition | None:
        """Always."""
        del lookup
        return self._between(start, end)

    def form_of(self, value: bytes, low: object) -> Form | None:
        """Digits."""
        del value, low
        return NumberForm(self.python)

    def misfits(self, form: Form, last: Scalar) -> Condition | None:
        """None: numbers sort as they are stored."""
        del form, last
        return None

    def seconds_of_part(
        self, start: datetime, end: datetime, after: Scalar | None, last: Scalar | None
    ) -> tuple[datetime, datetime]:
        """The whole window: the index serves a comparison of keys as it is."""
        del after, last
        return start, end

    def first_second(
        self, lookup: Lookup, start: datetime, end: datetime, also: Condition
    ) -> datetime | None:
        """The first entry of the index."""
        found = lookup(self._column, self._between(start, end) + also, f"ORDER BY {self._column} LIMIT 1")
        return None if found is None else _second_of(self.python.instant(found[0]))

    def _between(self, start: datetime, end: datetime) -> Condition:
        return Condition(
            (f"{self._column} >= :low", f"{self._column} < :high", self.readable),
            {"low": self._number(start), "high": self._number(end)},
        )

    def _number(self, moment: datetime) -> int | float:
        """A moment in the column's unit; beyond 64 bits (nanoseconds after 2262) a real is near enough."""
        number = int(moment.timestamp()) * self._per_second
        return number if number in _INT64 else float(number)


def _readable_text(column: str) -> str:
    """A real instant of the calendar, in canonical form."""
    # SQLite's text functions stop at a NUL, hence the first term. Year 0 is in no Python calendar;
    # the bound ends in a hyphen because SQLite would take '0001' for a number in a DATETIME column.
    # '+0 days' makes SQLite count 31 February as 3 March, so that it differs from the text; and text it
    # gives, so that it differs from every blob.
    day = f"substr({column}, 1, 10)"
    return (
        f"(instr({column}, char(0)) = 0 AND {column} >= '0001-'"
        f" AND {_has_canonical_form(column)}"
        f" AND substr({column}, 12, 2) < '24' AND date({day}, '+0 days') IS {day})"
    )


def _has_canonical_form(column: str) -> str:
    """Digits and marks where they belong; forms are chosen by length, as trying all 30 would be slow."""
    second = "[0-9][0-9][0-9][0-9]-[0-1][0-9]-[0-3][0-9][T ][0-2][0-9]:[0-5][0-9]:[0-5][0-9]"
    forms: dict[int, list[str]] = {}
    for zone in ("Z", "", "+00:00"):
        for digits in _DIGITS_BY_USE:
            length = _SECOND_LENGTH + bool(digits) + digits + len(zone)
            fraction = "." + "[0-9]" * digits if digits else ""
            forms.setdefault(length, []).append(f"{column} GLOB '{second}{fraction}{zone}'")
    # As a condition of CASE, unlike as its result, OR stops at the first form that fits.
    cases = (
        f"WHEN {length} THEN CASE WHEN {' OR '.join(same)} THEN 1 ELSE 0 END"
        for length, same in forms.items()
    )
    return f"CASE length({column}) {' '.join(cases)} ELSE 0 END"


def _text(moment: datetime, separator: str) -> str:
    """A moment's whole second as it is stored with a separator."""
    return moment.astimezone(UTC).replace(tzinfo=None, microsecond=0).isoformat(sep=separator)


def _midnight(day: date, separator: str) -> str:
    return f"{day.isoformat()}{separator}00:00:00"


def _second_of(key_time: Scalar) -> datetime:
    """The whole second of a key's time, or of an instant."""
    return datetime.fromisoformat(str(key_time)[:19]).replace(tzinfo=UTC)
