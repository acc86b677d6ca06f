"""Where a storm takes place: a server and an empty database on it."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.kit.mariadb import mariadb_server, shared_mariadb
from tests.kit.postgres import postgres_server, shared_postgres
from tests.storm.mariadb import MariaDb
from tests.storm.postgres import Postgres
from tests.storm.sqlite import Sqlite

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.kit import mariadb, postgres
    from tests.storm.sessions import Database

DATABASES: Final = {"postgres": 2500.0, "mariadb": 1000.0, "mariadb-interleaved": 1000.0, "sqlite": 100.0}
"""Each with how many rows a second a storm on it writes, unless it is told otherwise."""

PASSWORD: Final = "storm"
MEMORY: Final = Path("/dev/shm")


def scratch() -> Path | None:
    """A folder in memory, where there is one: synced files are none of a storm's business."""
    return MEMORY if MEMORY.is_dir() else None


@dataclass(frozen=True)
class Scene:
    """An empty database, and a way to make its server die and come back."""

    database: Database
    crash: Callable[[], None]


@contextmanager
def scene(name: str, folder: Path, *, will_crash: bool = False) -> Iterator[Scene]:
    """A scene for as long as the block lasts; a server that is to crash is one that nobody else uses."""
    if name == "sqlite":
        yield Scene(Sqlite(folder / "audit.db"), lambda: None)
    elif name == "postgres":
        with postgres_server() if will_crash else nullcontext(shared_postgres()) as server:
            yield Scene(_postgres(server), partial(server.restart, "immediate"))
    else:
        # Interleaved, statements do not wait for each other to take their ids.
        mode = "2" if name == "mariadb-interleaved" else "1"
        is_own = will_crash or mode == "2"
        own = mariadb_server(innodb_autoinc_lock_mode=mode) if is_own else nullcontext(shared_mariadb())
        with own as maria:
            yield Scene(_mariadb(maria), partial(maria.restart, "immediate"))


def _postgres(server: postgres.Postgres) -> Postgres:
    name, ledger = server.new_database(), server.new_database()
    return Postgres(server.url(name), server.url(name, f"{name}_reader", PASSWORD), server.url(ledger))


def _mariadb(server: mariadb.MariaDb) -> MariaDb:
    name = server.new_database()
    readers = (server.url(name, f"{name}_process", PASSWORD), server.url(name, f"{name}_select", PASSWORD))
    return MariaDb(server.url(name), readers)
