"""The time column in SQL: which values are readable, what bounds them, and how a key goes back into SQL.

The one definition of "readable" is here: a day of the calendar in the years 1 to 9999; neither NULL nor a
zero date, a month 0 or a 31 February, which lenient SQL modes let in. It must not know ranges.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from exporter.columns import NANOSECONDS, NumberTimes, TextTimes, Times
from exporter.errors import SourceError
from exporter.sources.mysql.values import Kind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exporter.model import Scalar
    from exporter.sources.mysql.connection import Session
    from exporter.sources.mysql.relation import Column, Relation

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_YEAR_1, _YEAR_10000 = -62_135_596_800 * 10**9, 253_402_300_800 * 10**9  # in nanoseconds since 1970
_LARGEST_OF_UNIT: Final = {"s": 10**11, "ms": 10**14, "us": 10**17}
_CALENDAR: Final = (Kind.DATE, Kind.DATETIME, Kind.TIMESTAMP)
_NUMBERS: Final = (Kind.INTEGER, Kind.DECIMAL, Kind.DOUBLE)
_MICROSECONDS_LENGTH: Final = len("2026-11-19 04:00:00.123456")


class DateTimes:
    """Times that are days: each is its midnight."""

    def key(self, value: object) -> str:
        """As that of a time."""
        return f"{value} 00:00:00.000000000"

    def keys(self, values: Sequence[object]) -> Sequence[Scalar]:
        """One by one."""
        return [self.key(value) for value in values]

    def instant(self, value: object) -> str:
        """Midnight in UTC."""
        return f"{value}T00:00:00.000000Z"


@dataclass(frozen=True, slots=True)
class DecimalTimes:
    """Times as exact numbers of one unit, in decimals with ``scale`` digits; keys count the last of them."""

    unit: str
    scale: int

    def key(self, value: object) -> int:
        """An integer: no digit is lost in the ledger."""
        return int(Decimal(str(value)).scaleb(self.scale))

    def keys(self, values: Sequence[object]) -> Sequence[Scalar]:
        """One by one."""
        return [self.key(value) for value in values]

    def instant(self, value: object) -> str:
        """RFC 3339, to the nanosecond."""
        nanoseconds = int(Decimal(str(value)) * NANOSECONDS[self.unit])
        return NumberTimes("ns").instant(nanoseconds)


@dataclass(frozen=True, slots=True)
class SqlTimes:
    """A time column: dates and times in UTC, or numbers of ``unit`` since 1970."""

    column: Column
    unit: str | None

    @property
    def python(self) -> Times:
        """What readable values mean."""
        if self.unit is None:
            return DateTimes() if self.column.kind is Kind.DATE else TextTimes()
        if self.column.kind is Kind.DECIMAL:
            return DecimalTimes(self.unit, self.column.scale)
        return NumberTimes(self.unit)

    @property
    def readable(self) -> str:
        """Whether a record's time is, in a term that is never NULL."""
        return f"({' AND '.join(self._readable)}) IS TRUE"

    def before(self, moment: datetime) -> str:
        """Readable and before a moment, in a term that no index of times serves: it holds a history."""
        return f"({' AND '.join((*self._readable, self._below(moment)))}) IS TRUE"

    def between(self, start: datetime, end: datetime) -> list[str]:
        """Readable and in [start, end), in terms that an index serves."""
        low = f"{self.column.value} >= {self._bound(start)}"
        return [low, self._below(end), *self._is_a_day]

    def literal(self, key: Scalar) -> str:
        """The time of a key."""
        if self.unit is None:
            return f"TIMESTAMP'{str(key)[:_MICROSECONDS_LENGTH]}'"
        if self.column.kind is Kind.DECIMAL:
            return f"{Decimal(key).scaleb(-self.column.scale):f}"
        # With an exponent it is no decimal, and equal to the column's value to the last bit.
        number = repr(key)
        return number if isinstance(key, int) or "e" in number else f"{number}e0"

    def is_from(self, key: Scalar, moment: datetime) -> bool:
        """Whether a key's time is surely this moment or a later one; of numbers nobody asks."""
        return self.unit is None and datetime.fromisoformat(str(key)[:19]).replace(tzinfo=UTC) >= moment

    def second(self, sent: object) -> datetime:
        """The whole second of a readable value."""
        return datetime.fromisoformat(self.python.instant(sent)[:19]).replace(tzinfo=UTC)

    @property
    def _readable(self) -> list[str]:
        time = self.column.value
        if self.unit is None:
            return [f"{time} >= TIMESTAMP'0001-01-01 00:00:00'", *self._is_a_day]
        return [f"{time} >= {self._number(_YEAR_1)}", f"{time} < {self._number(_YEAR_10000)}"]

    @property
    def _is_a_day(self) -> list[str]:
        time = self.column.value
        if self.unit is not None:
            return []
        return [f"(DAYOFMONTH({time}) BETWEEN 1 AND DAYOFMONTH(LAST_DAY({time}))) IS TRUE"]

    def _below(self, moment: datetime) -> str:
        return f"{self.column.value} < {self._bound(moment)}"

    def _bound(self, moment: datetime) -> str:
        if self.unit is not None:
            return self._number((moment - _EPOCH) // _MICROSECOND * 1000)
        naive = moment.astimezone(UTC).replace(tzinfo=None)
        return f"TIMESTAMP'{naive.isoformat(sep=' ', timespec='microseconds')}'"

    def _number(self, nanoseconds: int) -> str:
        """A moment in the column's unit; for integers the first one that is not before it."""
        per_unit = NANOSECONDS[self.unit or "s"]
        if self.column.kind is Kind.INTEGER:
            return str(-(-nanoseconds // per_unit))
        number = f"{Decimal(nanoseconds) / per_unit:f}"
        return number if self.column.kind is Kind.DECIMAL else f"{number}e0"


def sql_times(session: Session, relation: Relation, name: str, unit: str | None) -> SqlTimes:
    """The form of the time column; SourceError if it is none, or the unit does not go with it."""
    column = relation.column(name)
    if column.kind in (_CALENDAR if unit is None else _NUMBERS):
        return SqlTimes(column, unit)
    expected = "not a date or time" if unit is None else f"not a number of {unit}"
    raise SourceError(
        f"the time column {name!r} holds values of the kind {column.kind.value}, {expected}",
        hint=_hint(session, relation, column),
    )


def _hint(session: Session, relation: Relation, column: Column) -> str:
    if column.kind in _CALENDAR:
        return "leave out source.time_unit"
    if column.kind is Kind.FLOAT:
        return "a number of single precision does not tell hours apart: store times as DATETIME(6) or DOUBLE"
    if column.kind not in _NUMBERS:
        return f"use source.query, and cast it there: CAST({column.name} AS DATETIME(6)) AS …"
    row = session.row(relation.select(f"ABS({column.value})", [f"{column.value} IS NOT NULL"], "LIMIT 1"))
    if row is None or row[0] is None:
        return "set source.time_unit to what it counts since 1970: s, ms, us or ns"
    size = float(row[0])
    unit = next((unit for unit, largest in _LARGEST_OF_UNIT.items() if size < largest), "ns")
    return f"set source.time_unit: {unit}"
