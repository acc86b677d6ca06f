"""Empty ledgers, each in a place of its own, for storages that open them as several processes would."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from exporter.ledger.postgres import PostgresLedgerOptions, PostgresStorage, create_postgres
from exporter.ledger.sqlite import SqliteStorage, create_sqlite
from tests.kit.postgres import shared_postgres

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import sqlalchemy as sa

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


def engine_of(storage: Storage) -> sa.Engine:
    assert isinstance(storage, SqliteStorage | PostgresStorage)
    return storage._engine if isinstance(storage, SqliteStorage) else storage._database.engine
