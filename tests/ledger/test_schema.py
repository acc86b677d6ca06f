"""The tables are what version 2 made of them, in each database, whoever makes them now.

`version2/` holds what commit 2e85493 made, when SQLAlchemy still wrote the statements, of new ledgers and of
those of version 1 alike. A ledger that somebody has must go on with the next program, and back.
"""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psycopg
import pytest

from exporter.ledger import schema
from exporter.ledger.migrations import MIGRATIONS
from exporter.ledger.postgres import PostgresLedgerOptions, create_postgres, migrate_postgres
from exporter.ledger.sqlite import create_sqlite, migrate_sqlite
from tests.kit.postgres import shared_postgres
from tests.ledger import test_version1 as version1

if TYPE_CHECKING:
    from collections.abc import Callable

VERSION2: Final = Path(__file__).parent / "version2"

COLUMNS: Final = """
SELECT table_name, ordinal_position, column_name, data_type, collation_name, is_nullable, column_default,
  is_identity, identity_generation
FROM information_schema.columns WHERE table_schema = 'audit_exporter' ORDER BY 1, 2
"""
INDEXES: Final = "SELECT indexdef FROM pg_indexes WHERE schemaname = 'audit_exporter' ORDER BY 1"
CONSTRAINTS: Final = """
SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
WHERE connamespace = 'audit_exporter'::regnamespace AND contype <> 'n' ORDER BY 1, 2
"""


def of_sqlite(path: Path) -> str:
    """Every table and index as SQLite keeps their statements, blanks and quotes aside."""
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute("SELECT type, name, sql FROM sqlite_master ORDER BY name").fetchall()
    lines = [f"{kind} {name}: {_plain(text or 'its table makes it')}" for kind, name, text in found]
    return "\n".join([*lines, ""])


def _plain(statement: str) -> str:
    words = " ".join(statement.replace('"', "").replace("IF NOT EXISTS ", "").split())
    return re.sub(r" ?([(),]) ?", r"\1 ", words).rstrip()


def of_postgres(url: str) -> str:
    """What the catalog says of columns, indexes and constraints."""
    with psycopg.connect(url) as connection:
        found = [
            row for asked in (COLUMNS, INDEXES, CONSTRAINTS) for row in connection.execute(asked.encode())
        ]
    return "\n".join([*("; ".join(map(str, row)) for row in found), ""])


def new_sqlite(folder: Path) -> str:
    create_sqlite(folder / "ledger.db")
    return of_sqlite(folder / "ledger.db")


def migrated_sqlite(folder: Path) -> str:
    version1.sqlite(folder)
    migrate_sqlite(folder / "ledger.db")
    return of_sqlite(folder / "ledger.db")


def new_postgres(_folder: Path) -> str:
    server = shared_postgres()
    url = server.url(server.new_database())
    create_postgres(PostgresLedgerOptions(url))
    return of_postgres(url)


def migrated_postgres(_folder: Path) -> str:
    server = shared_postgres()
    url = server.url(server.new_database())
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute((version1.VERSION1 / "postgres.sql").read_text())
        connection.execute("INSERT INTO audit_exporter.meta VALUES ('version', '1')")
    migrate_postgres(PostgresLedgerOptions(url))
    return of_postgres(url)


@pytest.mark.parametrize(
    ("make", "made"),
    [
        (new_sqlite, "sqlite"),
        (migrated_sqlite, "sqlite"),
        (new_postgres, "postgres"),
        (migrated_postgres, "postgres"),
    ],
)
def test_the_tables_are_those_of_version_2(make: Callable[[Path], str], made: str, tmp_path: Path) -> None:
    """Columns, their types, order and defaults, keys, indexes and constraints."""
    assert make(tmp_path) == (VERSION2 / f"{made}.txt").read_text()


def test_there_is_a_step_to_every_version() -> None:
    assert len(MIGRATIONS) == schema.VERSION
