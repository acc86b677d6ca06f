"""Configuration to ledger. A new kind is a function here, and a line in ``LEDGERS``."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from exporter import config as configuration
from exporter import sqlite_memory
from exporter.wiring.addresses import by_scheme, connection, refuse_server_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from exporter.config import Config
    from exporter.ledger.storage import Storage


@dataclass(frozen=True, slots=True)
class LedgerDriver:
    """What can be done about the ledger at one place. ``migrate`` answers the versions before and after."""

    place: str
    open: Callable[[], Storage]
    create: Callable[[], None]
    migrate: Callable[[], tuple[int, int]]


def _sqlite(config: Config) -> LedgerDriver:
    sqlite_memory.without_statistics()
    from exporter.ledger.sqlite import SqliteStorage, create_sqlite, migrate_sqlite

    refuse_server_settings(config.ledger, "ledger")
    path = configuration.sqlite_path(config.ledger.url.reveal(), config.path.parent)
    return LedgerDriver(
        place=str(path),
        open=partial(SqliteStorage, path),
        create=partial(create_sqlite, path),
        migrate=partial(migrate_sqlite, path),
    )


def _postgres(config: Config) -> LedgerDriver:
    from exporter import libpq
    from exporter.ledger.postgres import (
        PostgresLedgerOptions,
        PostgresStorage,
        create_postgres,
        migrate_postgres,
    )

    options = PostgresLedgerOptions(**connection(config.ledger))
    return LedgerDriver(
        place=libpq.place_of(libpq.parameters(options, "ledger")),
        open=partial(PostgresStorage, options),
        create=partial(create_postgres, options),
        migrate=partial(migrate_postgres, options),
    )


LEDGERS: Final[Mapping[str, Callable[[Config], LedgerDriver]]] = {
    "sqlite": _sqlite,
    "postgresql": _postgres,
    "postgres": _postgres,
}


def ledger_of(config: Config) -> LedgerDriver:
    """The driver for the ledger that a configuration names."""
    return by_scheme(config.ledger.url, LEDGERS, "ledger")(config)
