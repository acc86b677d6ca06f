"""What it takes to open a ledger in PostgreSQL: few journeys, because the server may be far away."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

import psycopg
import pytest

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
    """A transaction begins, asks for the version and ends."""
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
