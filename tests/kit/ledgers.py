"""Empty ledgers, each in a place of its own, for storages that open them as several processes would.

And what a storage says to its database: to be noted, or said behind its back.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias
from unittest.mock import patch

from exporter.ledger.postgres import PostgresLedgerOptions, PostgresStorage, create_postgres
from exporter.ledger.postgres_connection import PostgresConnection
from exporter.ledger.sqlite import SqliteStorage, create_sqlite
from exporter.ledger.sqlite_connection import SqliteConnection
from tests.kit.postgres import shared_postgres

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from exporter.ledger.connection import Connection
    from exporter.ledger.storage import Storage

    Opens: TypeAlias = Callable[[], Storage]


def sqlite(folder: Path) -> Opens:
    create_sqlite(folder / "ledger.db")
    return lambda: SqliteStorage(folder / "ledger.db")


def postgres(_folder: Path) -> Opens:
    options = new_postgres()
    return lambda: PostgresStorage(options)


def new_postgres() -> PostgresLedgerOptions:
    server = shared_postgres()
    options = PostgresLedgerOptions(server.url(server.new_database()))
    create_postgres(options)
    return options


@contextmanager
def connected(storage: Storage) -> Iterator[Connection]:
    """A connection of a storage's own, on which nothing has begun."""
    assert isinstance(storage, SqliteStorage | PostgresStorage)
    pool: Any = storage._database.pool
    connection = pool.take()
    try:
        yield connection
    finally:
        pool.drop(connection)


def on_connect(storage: SqliteStorage, *statements: str) -> None:
    """Have every new connection of a storage begin with these statements."""
    pool = storage._database.pool
    pool.close()
    connect = pool.connect

    def connect_and_tell() -> SqliteConnection:
        connection = connect()
        for statement in statements:
            connection.execute(statement)
        return connection

    pool.connect = connect_and_tell


@contextmanager
def before_statements(call: Callable[[str, Any], object]) -> Iterator[None]:
    """Have this called before every statement that any ledger is told meanwhile, with it and its values."""

    def noting(method: Callable[..., Any]) -> Callable[..., Any]:
        def noted(self: Connection, text: str, values: Sequence[Any] = ()) -> Any:  # noqa: ANN401 - as it answers
            call(text, values)
            return method(self, text, values)

        return noted

    names = ("execute", "execute_for_each")
    replaced = [
        patch.object(kind, name, noting(getattr(kind, name)))
        for kind in (SqliteConnection, PostgresConnection)
        for name in names
    ]
    for one in replaced:
        one.start()
    try:
        yield
    finally:
        for one in replaced:
            one.stop()


@contextmanager
def noted() -> Iterator[list[tuple[str, Any]]]:
    """What every ledger is told meanwhile, statements and values."""
    statements: list[tuple[str, Any]] = []
    with before_statements(lambda text, values: statements.append((text, values))):
        yield statements
