"""SQLite busy with writers: one at a time has the lock, and dates its records before it gets it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from tests.storm.naive import by_id, by_time
from tests.storm.records import COLUMNS
from tests.storm.sessions import DOCUMENTS, Database, Row, Session, Variant

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path
    from random import Random

    from tests.storm.sessions import Reader

PATIENCE_S = 10.0

TABLES = f"""
PRAGMA journal_mode = WAL;
CREATE TABLE audit_log (
  id INTEGER PRIMARY KEY AUTOINCREMENT, created_at TEXT, account_id TEXT NOT NULL, actor_email TEXT,
  action TEXT, target_id TEXT, summary TEXT, ip_address TEXT);
CREATE INDEX by_time ON audit_log (account_id, created_at, id);
CREATE INDEX by_account ON audit_log (account_id);
CREATE TABLE documents (
  id INTEGER PRIMARY KEY, created_at TEXT, account_id TEXT, actor_email TEXT,
  action TEXT, target_id TEXT, summary TEXT, ip_address TEXT);
WITH RECURSIVE numbers (number) AS (SELECT 1 UNION ALL SELECT number + 1 FROM numbers LIMIT {DOCUMENTS})
INSERT INTO documents (id) SELECT number FROM numbers;
CREATE TRIGGER recorded AFTER UPDATE ON documents BEGIN
  INSERT INTO audit_log ({", ".join(COLUMNS)}) VALUES ({", ".join(f"NEW.{column}" for column in COLUMNS)});
END;
"""


class SqliteSession(Session):
    """A connection that waits for the lock. Now and then it takes the lock only when it has to write."""

    now = "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')"
    last_id = "last_insert_rowid()"
    broken = ("the day before yesterday", "2026-02-30T00:00:00Z", "")
    error = sqlite3.OperationalError

    def __init__(self, path: Path, random: Random) -> None:
        self._path = path
        super().__init__(random)

    def open(self) -> None:
        self._connection = sqlite3.connect(self._path, timeout=PATIENCE_S, isolation_level=None)
        self._connection.execute("PRAGMA synchronous = OFF")

    def close(self) -> None:
        self._connection.close()

    def execute(self, statement: str, values: Sequence[object] = ()) -> list[Row]:
        return self._connection.execute(statement.replace("%s", "?"), values).fetchall()

    def begin(self) -> None:
        self.execute(self.random.choice(("BEGIN", "BEGIN IMMEDIATE")))

    def passes(self, error: Exception) -> bool:
        return "locked" in str(error)

    def value(self, moment: datetime) -> str:
        return moment.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


@dataclass(frozen=True)
class Sqlite(Database):
    """A file in WAL mode."""

    path: Path
    longest_hold_s: ClassVar[float] = 0.5
    most_rows: ClassVar[int] = 8
    naive: ClassVar[Mapping[str, Reader]] = {"id": by_id, "created_at": by_time}
    must_lose: ClassVar[Sequence[str]] = ("created_at",)
    # strftime takes 30 February for 2 March, unless it has to count from it.
    microseconds: ClassVar[str] = (
        "CASE WHEN date(created_at, '+0 days') = substr(created_at, 1, 10)"
        " THEN CAST(strftime('%s', substr(created_at, 1, 19)) AS INTEGER) * 1000000"
        " + CAST(substr(rtrim(substr(created_at, 21), 'Z') || '000000', 1, 6) AS INTEGER) END"
    )
    sleepers: ClassVar[int] = 0  # a writer that sleeps keeps all the others from writing

    def create(self) -> None:
        with closing(sqlite3.connect(self.path)) as connection:
            connection.executescript(TABLES)

    def session(self, random: Random) -> SqliteSession:
        return SqliteSession(self.path, random)

    def variants(self) -> Sequence[Variant]:
        source = {"url": f"sqlite:///{self.path}"}
        return [Variant("sqlite", source, {"url": "sqlite:///ledger.db"}, ("exporter.sources.sqlite",))]

    def rows(self, statement: str) -> Iterator[Row]:
        with closing(sqlite3.connect(self.path)) as connection:
            yield from connection.execute(statement)
