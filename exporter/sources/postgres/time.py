"""The time column in SQL: which values are readable, what bounds them, and how a key goes back into SQL.

The one definition of "readable" is here: neither NULL nor infinite nor NaN, and within the years 1 to 9999.
It must not know ranges, nor open a connection.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from psycopg import sql

from exporter.columns import NANOSECONDS, NumberTimes
from exporter.errors import SourceError
from exporter.fragments import Values
from exporter.sources.postgres.values import Kind, instants

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exporter.model import Scalar
    from exporter.sources.postgres.connection import Session
    from exporter.sources.postgres.relation import Column, Relation

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_YEAR_1, _YEAR_10000 = -62_135_596_800, 253_402_300_800  # in seconds since 1970
_LARGEST_OF_UNIT: Final = {"s": 10**11, "ms": 10**14, "us": 10**17}
_INT8 = 2**63
_SQL_TYPES: Final[Mapping[Kind, str]] = {
    Kind.TIMESTAMPTZ: "timestamptz",
    Kind.TIMESTAMP: "timestamp",
    Kind.DATE: "timestamp",  # compares with dates through the same index
}


@dataclass(frozen=True, slots=True)
class SqlTimes:
    """A time column: dates and timestamps (without a zone: UTC), or numbers of ``unit`` since 1970."""

    column: Column
    unit: str | None

    @property
    def numbers(self) -> NumberTimes | None:
        """What numbers count; None for dates and timestamps."""
        return None if self.unit is None else NumberTimes(self.unit)

    @property
    def unreadable(self) -> sql.Composable:
        """Three plain comparisons, so that an index serves each."""
        return sql.SQL("({time} IS NULL OR {time} < {low} OR {time} >= {high})").format(
            time=self.column.value, low=self._seconds(_YEAR_1), high=self._seconds(_YEAR_10000)
        )

    def before(self, moment: datetime) -> list[sql.Composable]:
        """Readable and before a moment."""
        return self._within(self._seconds(_YEAR_1), self._bound(moment))

    def between(self, start: datetime, end: datetime) -> list[sql.Composable]:
        """In [start, end), in terms that an index serves."""
        return self._within(self._bound(start), self._bound(end))

    def literal(self, key: Scalar) -> sql.Composable:
        """The time of a key."""
        if self.unit is not None:
            return literal_of(self.column, key)
        return sql.SQL("{}::{}").format(sql.Literal(str(key)), sql.SQL(_SQL_TYPES[self.column.kind]))

    def is_from(self, key: Scalar, moment: datetime) -> bool:
        """Whether a key's time is surely this moment or a later one; of numbers nobody asks."""
        return self.unit is None and datetime.fromisoformat(str(key)[:19]).replace(tzinfo=UTC) >= moment

    def second(self, copied: bytes) -> datetime:
        """The whole second of a time as COPY writes it."""
        (instant,) = instants(self.column.kind, Values([copied]), self.unit)
        return datetime.fromisoformat(instant.decode().strip('"')[:19]).replace(tzinfo=UTC)

    def _within(self, low: sql.Composable, high: sql.Composable) -> list[sql.Composable]:
        return [
            sql.SQL("{} >= {}").format(self.column.value, low),
            sql.SQL("{} < {}").format(self.column.value, high),
        ]

    def _bound(self, moment: datetime) -> sql.Composable:
        if self.unit is not None:
            return self._number((moment - _EPOCH) // _MICROSECOND * 1000)
        return self.literal(moment.astimezone(UTC).replace(tzinfo=None).isoformat(" "))

    def _seconds(self, seconds: int) -> sql.Composable:
        if self.unit is not None:
            return self._number(seconds * NANOSECONDS["s"])
        return self.literal("0001-01-01" if seconds == _YEAR_1 else "10000-01-01")

    def _number(self, nanoseconds: int) -> sql.Composable:
        """A moment in the column's unit; for integers the first one that is not before it."""
        per_unit = NANOSECONDS[self.unit or "s"]
        if self.column.kind is Kind.INTEGER:
            number = -(-nanoseconds // per_unit)
            return sql.SQL("{}::int8").format(sql.Literal(str(min(max(number, -_INT8), _INT8 - 1))))
        as_type = sql.SQL("numeric" if self.column.type == "numeric" else "float8")
        return sql.SQL("{}::{}").format(sql.Literal(f"{Decimal(nanoseconds) / per_unit:f}"), as_type)


def literal_of(column: Column, key: Scalar) -> sql.Composable:
    """A number or a uuid of a key, so that it equals the value it came from."""
    as_type = sql.SQL("int8" if column.kind is Kind.INTEGER else column.type)
    return sql.SQL("{}::{}").format(sql.Literal(str(key)), as_type)


def sql_times(session: Session, relation: Relation, name: str, unit: str | None) -> SqlTimes:
    """The form of the time column; SourceError if it is none, or the unit does not go with it."""
    column = relation.column(name)
    if unit is None and column.kind in _SQL_TYPES:
        return SqlTimes(column, None)
    if unit is not None and column.kind in (Kind.INTEGER, Kind.NUMBER):
        return SqlTimes(column, unit)
    raise SourceError(
        f"the time column {name!r} is of type {column.type}, "
        + ("not a timestamp" if unit is None else f"not a number of {unit}"),
        hint=_hint(session, relation, column),
    )


def _hint(session: Session, relation: Relation, column: Column) -> str:
    if column.kind in _SQL_TYPES:
        return "leave out source.time_unit"
    if column.kind not in (Kind.INTEGER, Kind.NUMBER):
        return f"use source.query, and cast it there: {column.name}::timestamptz AS …"
    is_there = sql.SQL("{} IS NOT NULL").format(column.value)
    row = session.row(relation.select(sql.SQL("abs({})::float8").format(column.value), [is_there], "LIMIT 1"))
    if row is None:
        return "set source.time_unit to what it counts since 1970: s, ms, us or ns"
    size = float(str(row[0]))
    unit = next((unit for unit, largest in _LARGEST_OF_UNIT.items() if size < largest), "ns")
    return f"set source.time_unit: {unit}"
