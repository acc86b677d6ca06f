"""A ledger in one SQLite file."""

from __future__ import annotations

from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from exporter.errors import LedgerError, LedgerMissing
from exporter.ledger import schema
from exporter.ledger.sql import MISSING_HINT, SqlRows, require_version, version_of
from exporter.ledger.sqlite_connection import BUSY_TIMEOUT_S, Database
from exporter.ledger.sqlite_lock import WriteLock

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from exporter.ledger.connection import Connection
    from exporter.ledger.group import SqlGroup


class SqliteStorage:
    """A ledger in one SQLite file.

    Every commit is synced to disk before it is reported, because an object is only ever uploaded on
    the strength of a row. Not for network file systems: SQLite's log needs shared memory.
    """

    def __init__(self, path: Path) -> None:
        self._database = _existing(path)
        self._lock = WriteLock(BUSY_TIMEOUT_S)
        try:
            with self._database.connected() as connection:
                _require_tables(connection, path)
                require_version(version_of(connection), path)
                connection.execute("PRAGMA journal_mode=WAL")  # for good, from the first opening on
        except LedgerError:
            self._database.close()
            raise

    @contextmanager
    def writing(self, export: str | None = None) -> Iterator[SqlRows]:
        """A transaction that has the write lock, of the whole file, from its first statement on."""
        del export
        with self._lock.held(), self._database.transaction("BEGIN IMMEDIATE") as connection:
            yield SqlRows(connection)

    @contextmanager
    def together(self, exports: Collection[str]) -> Iterator[SqlGroup]:
        """The same lock, for what several exports do: theirs is the whole file's, too."""
        from exporter.ledger.group import SqlGroup  # which a run with nothing due does without

        with self._lock.held(), self._database.transaction("BEGIN IMMEDIATE") as connection:
            rows = SqlGroup(connection, exports)
            yield rows
            rows.flush()

    @contextmanager
    def reading(self) -> Iterator[SqlRows]:
        """One consistent view."""
        with self._database.transaction("BEGIN") as connection:
            yield SqlRows(connection)

    def close(self) -> None:
        """Close every connection; the last one folds the log into the file."""
        self._database.close()


def create_sqlite(path: Path) -> None:
    """Make an empty ledger, whole or not at all; raises LedgerError if there is anything already."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LedgerError(
            f"there can be no ledger at {path}: {error.strerror}", hint="name another place in ledger.url"
        ) from error
    try:
        _create(path)
    except LedgerError as error:
        if "not a database" in str(error.__cause__):
            raise _exists(path) from error
        raise


def _create(path: Path) -> None:
    from exporter.ledger.migrations import fill  # which a run does without

    with closing(Database(path)) as database:
        # What a try that failed leaves behind is a database without tables: it is in nobody's way.
        with database.transaction("BEGIN IMMEDIATE") as connection:
            if _tables(connection):
                raise _exists(path)
            fill(connection)
        with database.connected() as connection:
            connection.execute("PRAGMA journal_mode=WAL")  # here, so that `status` need not write it


def migrate_sqlite(path: Path) -> tuple[int, int]:
    """Bring an older ledger up to date in one transaction; answers its versions before and after."""
    from exporter.ledger.migrations import bring_up_to_date

    with closing(_existing(path)) as database, database.transaction("BEGIN IMMEDIATE") as connection:
        _require_tables(connection, path)
        return bring_up_to_date(connection, path), schema.VERSION


def _existing(path: Path) -> Database:
    if not path.is_file():
        raise LedgerMissing(f"there is no ledger at {path}", hint=MISSING_HINT)
    return Database(path)


def _require_tables(connection: Connection, path: Path) -> None:
    if schema.META.name not in _tables(connection):
        raise LedgerMissing(f"the file {path} is not a ledger", hint=MISSING_HINT)


def _tables(connection: Connection) -> set[str]:
    return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def _exists(path: Path) -> LedgerError:
    return LedgerError(
        f"there is a file at {path} already",
        hint="a ledger is created once, for good; to bring an old one up to date: "
        "audit-exporter ledger migrate",
    )
