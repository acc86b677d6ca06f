"""What it takes to open a ledger in PostgreSQL: few journeys, because the server may be far away."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

import psycopg
import pytest
import sqlalchemy as sa

from exporter.ledger.postgres import PostgresLedgerOptions, PostgresStorage, create_postgres
from tests.kit.postgres import shared_postgres

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kit.postgres import Postgres

ASKING: Final = {"Query", "Sync"}
"""The messages of libpq after which a client waits for the server."""


@pytest.fixture(scope="module")
def server() -> Postgres:
    return shared_postgres()


@pytest.fixture
def database(server: Postgres) -> str:
    """A database with an empty ledger."""
    name = server.new_database()
    create_postgres(PostgresLedgerOptions(server.url(name)))
    return name


def test_a_ledger_is_opened_in_three_journeys(
    server: Postgres, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A transaction begins, asks for the version and ends; SQLAlchemy would ask four things before it."""
    connect, trace = psycopg.connect, (tmp_path / "trace").open("w+")

    def traced(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - as psycopg's
        connection = connect(*arguments, **options)
        connection.pgconn.trace(trace.fileno())
        return connection

    monkeypatch.setattr(psycopg, "connect", traced)
    with trace, closing(PostgresStorage(PostgresLedgerOptions(server.url(database)))):
        trace.seek(0)
        sent = [line.split("\t") for line in trace if "\tF\t" in line]
    assert len([message for _, _, _, message, *_ in sent if message in ASKING]) == 3


@pytest.mark.parametrize("strings", ["on", "off"])
def test_the_server_is_known_as_if_it_had_been_asked(server: Postgres, database: str, strings: str) -> None:
    """Its version, and what a backslash means to it, were told when the connection was made."""
    server_settings = f"ALTER DATABASE {database} SET standard_conforming_strings = {strings}"
    with server.connect(database) as connection:
        connection.execute(server_settings.encode())
    asked = sa.create_engine(server.url(database).replace("postgresql://", "postgresql+psycopg://"))
    with asked.connect(), closing(PostgresStorage(PostgresLedgerOptions(server.url(database)))) as storage:
        told: Any = storage._database.engine.dialect
        other: Any = asked.dialect
        assert told.server_version_info == other.server_version_info
        assert told._backslash_escapes == other._backslash_escapes == (strings == "off")
    asked.dispose()


def test_statements_are_compiled_once(server: Postgres, database: str) -> None:
    """SQLAlchemy compiles anew each time for a dialect that does not say that it need not."""
    with closing(PostgresStorage(PostgresLedgerOptions(server.url(database)))) as storage:
        kept: list[int] = []
        for _ in range(2):
            with storage.reading() as rows:
                rows.ledger_id()
            kept.append(len(storage._database.engine._compiled_cache or ()))
    assert kept == [1, 1]
