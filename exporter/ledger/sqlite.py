"""A ledger in one SQLite file."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from exporter.errors import LedgerError, LedgerMissing
from exporter.ledger import schema
from exporter.ledger.sql import MISSING_HINT, SqlRows, bring_up_to_date, fill, require_version
from exporter.ledger.sqlite_lock import WriteLock

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from exporter.ledger.group import SqlGroup

BUSY_TIMEOUT_S: Final = 60


class SqliteStorage:
    """A ledger in one SQLite file.

    Every commit is synced to disk before it is reported, because an object is only ever uploaded on
    the strength of a row. Not for network file systems: SQLite's log needs shared memory.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise LedgerMissing(f"there is no ledger at {path}", hint=MISSING_HINT)
        self._path = path
        self._engine = _engine(path)
        self._lock = WriteLock(BUSY_TIMEOUT_S)
        try:
            with self._guarded(), self._engine.connect() as connection:
                _require_tables(connection, path)
                require_version(connection, path)
                connection.exec_driver_sql("PRAGMA journal_mode=WAL")  # for good, from the first opening on
        except LedgerError:
            self._engine.dispose()
            raise

    @contextmanager
    def writing(self, export: str | None = None) -> Iterator[SqlRows]:
        """A transaction that has the write lock, of the whole file, from its first statement on."""
        del export
        with self._lock.held(), self._transaction("BEGIN IMMEDIATE") as connection:
            yield SqlRows(connection)

    @contextmanager
    def together(self, exports: Collection[str]) -> Iterator[SqlGroup]:
        """The same lock, for what several exports do: theirs is the whole file's, too."""
        from exporter.ledger.group import SqlGroup  # which a run with nothing due does without

        with self._lock.held(), self._transaction("BEGIN IMMEDIATE") as connection:
            rows = SqlGroup(connection, exports)
            yield rows
            rows.flush()

    @contextmanager
    def reading(self) -> Iterator[SqlRows]:
        """One consistent view."""
        with self._transaction("BEGIN") as connection:
            yield SqlRows(connection)

    def close(self) -> None:
        """Close every connection; the last one folds the log into the file."""
        self._engine.dispose()

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[sa.Connection]:
        with self._guarded(), self._engine.connect() as connection:
            connection.exec_driver_sql(begin)
            try:
                yield connection
                connection.exec_driver_sql("COMMIT")
            except BaseException:
                _roll_back(connection)
                raise

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except sa.exc.DBAPIError as error:
            raise _translated(error, self._path) from error


def create_sqlite(path: Path) -> None:
    """Make an empty ledger, whole or not at all; raises LedgerError if there is anything already."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LedgerError(
            f"there can be no ledger at {path}: {error.strerror}", hint="name another place in ledger.url"
        ) from error
    engine = _engine(path)
    try:
        with engine.connect() as connection:
            # What a try that failed leaves behind is a database without tables: it is in nobody's way.
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            if sa.inspect(connection).get_table_names():
                raise _exists(path)
            fill(connection)
            connection.exec_driver_sql("COMMIT")
            connection.exec_driver_sql("PRAGMA journal_mode=WAL")  # here, so that `status` need not write it
    except sa.exc.DBAPIError as error:
        if "not a database" in str(error.orig):
            raise _exists(path) from error
        raise _translated(error, path) from error
    finally:
        engine.dispose()


def _exists(path: Path) -> LedgerError:
    return LedgerError(
        f"there is a file at {path} already",
        hint="a ledger is created once, for good; to bring an old one up to date: "
        "audit-exporter ledger migrate",
    )


def migrate_sqlite(path: Path) -> tuple[int, int]:
    """Bring an older ledger up to date in one transaction; answers its versions before and after."""
    if not path.is_file():
        raise LedgerMissing(f"there is no ledger at {path}", hint=MISSING_HINT)
    engine = _engine(path)
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            _require_tables(connection, path)
            version = bring_up_to_date(connection, path)
            connection.exec_driver_sql("COMMIT")
            return version, schema.VERSION
    except sa.exc.DBAPIError as error:
        raise _translated(error, path) from error
    finally:
        engine.dispose()


def _engine(path: Path) -> sa.Engine:
    url = sa.URL.create("sqlite", database=str(path))
    engine = sa.create_engine(
        url,
        isolation_level="AUTOCOMMIT",
        connect_args={"timeout": BUSY_TIMEOUT_S},
        hide_parameters=True,  # a customer's data has no place in an error
        max_overflow=-1,  # a thread that delivers must not wait for another's connection
    )

    @sa.event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: object) -> None:  # noqa: ANN401 - a DBAPI connection
        # The driver must not open transactions of its own: ours begin with the write lock.
        connection.isolation_level = None
        connection.execute("PRAGMA synchronous=FULL")

    return engine


def _require_tables(connection: sa.Connection, path: Path) -> None:
    if not sa.inspect(connection).has_table("meta"):
        raise LedgerMissing(f"the file {path} is not a ledger", hint=MISSING_HINT)


def _roll_back(connection: sa.Connection) -> None:
    # After some errors, a full disk among them, SQLite has rolled back by itself.
    if connection.connection.driver_connection.in_transaction:  # type: ignore[union-attr]
        connection.exec_driver_sql("ROLLBACK")


def _translated(error: sa.exc.DBAPIError, path: Path) -> LedgerError:
    reason = str(error.orig)
    hints = {
        "locked": "another process has held it for a minute: wait for it, or find it with: fuser FILE",
        "full": "make room on that disk; nothing was lost, the next run goes on from here",
        "readonly": "give this user the right to write the file and its folder",
        "unable to open": "give this user the right to read and write the file and its folder",
        "not a database": MISSING_HINT,
        "malformed": "restore it from a backup, then run: audit-exporter ledger restored",
        "disk I/O": "look at the disk; nothing was lost, the next run goes on from here",
    }
    hint = next((text for word, text in hints.items() if word in reason), "")
    return LedgerError(f"the ledger {path} cannot be used: {reason}", hint=hint)
