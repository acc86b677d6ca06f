"""How a ledger in a SQLite file is reached: connections with the right settings, and what errors mean."""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import orjson

from exporter.errors import LedgerError
from exporter.ledger.connection import AMONG, Dialect
from exporter.ledger.pool import Pool
from exporter.ledger.sql import MISSING_HINT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

BUSY_TIMEOUT_S: Final = 60
KEPT: Final = 5
"""So many connections stay open; more, one for each thread that delivers, as long as they are in use."""

_AMONG: Final = "IN (SELECT value FROM json_each(?))"
_HINTS: Final = {
    "locked": "another process has held it for a minute: wait for it, or find it with: fuser FILE",
    "full": "make room on that disk; nothing was lost, the next run goes on from here",
    "readonly": "give this user the right to write the file and its folder",
    "unable to open": "give this user the right to read and write the file and its folder",
    "not a database": MISSING_HINT,
    "malformed": "restore it from a backup, then run: audit-exporter ledger restored",
    "disk I/O": "look at the disk; nothing was lost, the next run goes on from here",
}


def _as_json(keys: list[str]) -> str:
    return orjson.dumps(keys).decode()


SQLITE: Final = Dialect("sqlite", sqlite3.sqlite_version_info, sqlite3.Error, _as_json)


class SqliteConnection:
    """A connection to a file, which gets a transaction when it is told to and no other."""

    dialect = SQLITE

    def __init__(self, path: Path) -> None:
        # Given from thread to thread. The driver must not open transactions of its own: ours begin with
        # the write lock.
        self._driver = sqlite3.connect(
            path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
        )
        self.execute("PRAGMA synchronous=FULL")

    def execute(self, text: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """What a statement finds."""
        return self._driver.execute(text.replace(AMONG, _AMONG), values).fetchall()

    def execute_for_each(self, text: str, rows: Sequence[Sequence[Any]]) -> None:
        """A statement for each of these rows."""
        self._driver.executemany(text, rows)

    def roll_back(self) -> None:
        """Nothing is begun any more. After some errors, a full disk among them, SQLite did so by itself."""
        if self._driver.in_transaction:
            self.execute("ROLLBACK")

    def close(self) -> None:
        """Close it; the last one on a file folds its log into it."""
        self._driver.close()


class Database:
    """Transactions on connections to one file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        file = path.absolute()
        self.pool = Pool(lambda: SqliteConnection(file), kept=KEPT)

    @contextmanager
    def connected(self) -> Iterator[SqliteConnection]:
        """A connection with nothing begun; raises LedgerError for what SQLite says."""
        try:
            connection = self.pool.take()
            try:
                yield connection
            except BaseException:
                self._put_back(connection)
                raise
            self.pool.give_back(connection)
        except sqlite3.Error as error:
            raise translated(error, self._path) from error

    @contextmanager
    def transaction(self, begin: str) -> Iterator[SqliteConnection]:
        """What ``begin`` begins, committed in the end, or undone by an error; raises LedgerError."""
        with self.connected() as connection:
            connection.execute(begin)
            yield connection
            connection.execute("COMMIT")

    def close(self) -> None:
        """Close every connection."""
        self.pool.close()

    def _put_back(self, connection: SqliteConnection) -> None:
        """A connection after an error, whatever that has left."""
        try:
            connection.roll_back()
        except BaseException:
            self.pool.drop(connection)
            raise
        self.pool.give_back(connection)


def translated(error: sqlite3.Error, path: Path) -> LedgerError:
    """The error as ours."""
    reason = str(error)
    hint = next((text for word, text in _HINTS.items() if word in reason), "")
    return LedgerError(f"the ledger {path} cannot be used: {reason}", hint=hint)
