"""Statements over the ledger's tables: rows found, put in and changed, as values of ours.

It keeps nothing, and knows no transaction. Names in a text are those of ``schema``, values never get there.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from exporter.ledger.kinds import read_all

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from exporter.ledger.connection import Connection
    from exporter.ledger.kinds import Kind, Row
    from exporter.ledger.schema import Table


def quoted(names: Iterable[str]) -> list[str]:
    """Names as every database takes them, whatever words it has of its own."""
    return [f'"{name}"' for name in names]


class Query:
    """What a statement finds: columns of these kinds, in its order, by these names."""

    def __init__(self, text: str, kinds: Mapping[str, Kind]) -> None:
        self.text = text
        self._names = tuple(kinds)
        self._readers = [(number, kind.read) for number, kind in enumerate(kinds.values()) if kind.read]

    def rows(self, connection: Connection, *values: object) -> Iterator[Row]:
        """The rows that are found with these values; parts of several may be one and the same."""
        columns: list[Sequence[Any]] = list(zip(*connection.execute(self.text, values), strict=True))
        if columns:
            for number, read in self._readers:
                columns[number] = read_all(read, columns[number])
        return (dict(zip(self._names, row, strict=True)) for row in zip(*columns, strict=True))

    def row(self, connection: Connection, *values: object) -> Row | None:
        """The first of them, if there is any."""
        return next(self.rows(connection, *values), None)


def select(table: Table, rest: str, names: Iterable[str] = ()) -> Query:
    """Rows of a table, whole or these columns of them."""
    kinds = {name: table.kinds[name] for name in names or table.kinds}
    return Query(f"SELECT {', '.join(quoted(kinds))} FROM {table.name} {rest}", kinds)  # noqa: S608 - names of our own schema


def insert(connection: Connection, table: Table, row: Row) -> None:
    """One more row."""
    connection.execute(_inserting(table, tuple(row)), _written(table, row, row))


def insert_all(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    """More rows, of the same columns, in this order."""
    if rows:
        values = [_written(table, row, row) for row in rows]
        connection.execute_for_each(_inserting(table, tuple(rows[0])), values)


@cache
def _inserting(table: Table, names: tuple[str, ...]) -> str:
    marks = ", ".join("?" * len(names))
    return f"INSERT INTO {table.name} ({', '.join(quoted(names))}) VALUES ({marks})"  # noqa: S608 - as above


def update(connection: Connection, table: Table, row: Row, *keys: str) -> None:
    """The row with these keys is as it says here."""
    changing = tuple(name for name in row if name not in keys)
    connection.execute(_updating(table, changing, keys), _written(table, row, (*changing, *keys)))


@cache
def _updating(table: Table, changing: tuple[str, ...], keys: tuple[str, ...]) -> str:
    values = ", ".join(f"{name} = ?" for name in quoted(changing))
    where = " AND ".join(f"{name} = ?" for name in quoted(keys))
    return f"UPDATE {table.name} SET {values} WHERE {where}"  # noqa: S608 - as above


def _written(table: Table, row: Row, names: Collection[str]) -> list[object]:
    kinds = table.kinds
    return [kinds[name].written(row[name]) for name in names]
