"""The statements that make the ledger's tables, and the numbered steps that bring an older ledger up to date.

For whoever creates or migrates a ledger: a run loads none of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from uuid import uuid4

from exporter.ledger import schema
from exporter.ledger.sql import other_version, version_of
from exporter.ledger.statements import insert, quoted

if TYPE_CHECKING:
    from collections.abc import Callable

    from exporter.ledger.connection import Connection
    from exporter.ledger.schema import Column, Table

# Two exports never deliver under the same names. A claim may be longer than PostgreSQL's B-trees take, and
# its unique indexes are B-trees: there it is an exclusion by hash, which compares the whole text as well.
_ONE_CLAIM: Final = {
    "sqlite": "CREATE UNIQUE INDEX one_claim ON exports (claim)",
    "postgresql": "ALTER TABLE exports ADD CONSTRAINT one_claim EXCLUDE USING hash (claim WITH =)",
}
_COLUMNS: Final = {
    "sqlite": "SELECT name FROM pragma_table_info(?)",
    "postgresql": "SELECT column_name FROM information_schema.columns"
    " WHERE table_schema = current_schema() AND table_name = ?",
}


def fill(connection: Connection) -> None:
    """Make the tables, and give the ledger the id that no other one has."""
    _take_steps(connection, 0)
    insert(connection, schema.META, {"key": "ledger_id", "value": uuid4().hex})


def bring_up_to_date(connection: Connection, place: object) -> int:
    """Take the steps that this ledger has not had; answers the version that it was at."""
    version = version_of(connection)
    if version > schema.VERSION:
        raise other_version(place, version)
    _take_steps(connection, version)
    return version


def _take_steps(connection: Connection, version: int) -> None:
    for step in MIGRATIONS[version:]:
        step(connection)
    connection.execute("DELETE FROM meta WHERE key = 'version'")
    insert(connection, schema.META, {"key": "version", "value": str(schema.VERSION)})


def _first(connection: Connection) -> None:
    for table in schema.TABLES:
        _create(connection, table)
    connection.execute(_ONE_CLAIM[connection.dialect.name])


_SECOND_COLUMNS: Final = {
    schema.EXPORTS: ("filtered", "protected"),
    schema.PLANS: ("reached", "sent", "refused"),
    schema.WINDOWS: ("filtered",),
    schema.BAD_RECORDS: ("kind", "resent_at"),
}


def _second(connection: Connection) -> None:
    """What filters, protection, events and large formats keep. A new ledger has it from the first step on."""
    dialect = connection.dialect.name
    for table, names in _SECOND_COLUMNS.items():
        there = {name for (name,) in connection.execute(_COLUMNS[dialect], [table.name])}
        for column in table.columns:
            if column.name in names and column.name not in there:
                connection.execute(f"ALTER TABLE {table.name} ADD COLUMN {_column(column, dialect)}")
    _create(connection, schema.BAD_RECORDS)
    _create(connection, schema.MAPPINGS)


def _create(connection: Connection, table: Table) -> None:
    """A table and its indexes, as far as they are not there yet."""
    lines = [_column(column, connection.dialect.name) for column in table.columns]
    lines.append(f"PRIMARY KEY ({', '.join(quoted(table.key))})")
    lines += [f"UNIQUE ({name})" for name in quoted(table.unique)]
    connection.execute(f"CREATE TABLE IF NOT EXISTS {table.name} ({', '.join(lines)})")
    for index in table.indexes:
        connection.execute(f"CREATE {index}".replace("INDEX ", "INDEX IF NOT EXISTS ", 1))


def _column(column: Column, dialect: str) -> str:
    default = "" if column.default is None else f" DEFAULT '{column.default}'"
    needed = " NOT NULL" if column.required else ""
    return f'"{column.name}" {getattr(column.kind, dialect)}{default}{needed}'


MIGRATIONS: Final[tuple[Callable[[Connection], None], ...]] = (_first, _second)
"""Step n brings a ledger from version n to n + 1. A step that has shipped never changes."""
