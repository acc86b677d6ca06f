"""Where the ledger of a crashing process is: a SQLite file, or a PostgreSQL database."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any, Protocol

from psycopg import sql

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kit.postgres import Postgres


class LedgerPlace(Protocol):
    """A ledger as one who looks behind it sees it."""

    @property
    def url(self) -> str:
        """What the configuration calls it."""
        ...

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """What a query finds."""
        ...

    def is_sound(self) -> bool:
        """Whether the database is undamaged, as far as it can tell itself."""
        ...

    def save(self) -> None:
        """Remember everything that is committed."""
        ...

    def restore(self) -> None:
        """Everything is as it was saved."""
        ...


class SqliteFile:
    """A file in the world's folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.url = f"sqlite:///{path.name}"
        self._saved = b""

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.path)) as connection:
            return connection.execute(query).fetchall()

    def is_sound(self) -> bool:
        return self.rows("PRAGMA integrity_check") == [("ok",)]

    def save(self) -> None:
        with closing(sqlite3.connect(self.path)) as connection:
            self._saved = connection.serialize()  # what a killed process left in the log as well

    def restore(self) -> None:
        for path in self.path.parent.glob(f"{self.path.name}-*"):
            path.unlink()
        self.path.write_bytes(self._saved)


class PostgresDatabase:
    """A database of a server that outlives every process."""

    def __init__(self, server: Postgres) -> None:
        self._server = server
        self._database = server.new_database()
        self.url = server.url(self._database)
        self._saved: dict[str, bytes] = {}

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with self._server.connect(self._database, options="-c search_path=audit_exporter") as connection:
            return connection.execute(query.encode()).fetchall()

    def is_sound(self) -> bool:
        return True  # that a client dies is nothing to a server

    def save(self) -> None:
        names = self.rows("SELECT tablename FROM pg_tables WHERE schemaname = 'audit_exporter'")
        with self._server.connect(self._database) as connection, connection.cursor() as cursor:
            for (name,) in names:
                with cursor.copy(sql.SQL("COPY {} TO STDOUT").format(_table(name))) as copy:
                    self._saved[name] = b"".join(map(bytes, copy))

    def restore(self) -> None:
        with self._server.connect(self._database, autocommit=False) as connection:
            # Waits for whatever a killed process's connection has still to finish.
            tables = sql.SQL(", ").join(map(_table, self._saved))
            connection.execute(sql.SQL("TRUNCATE {}").format(tables))
            for name, data in self._saved.items():
                with connection.cursor().copy(sql.SQL("COPY {} FROM STDIN").format(_table(name))) as copy:
                    copy.write(data)


def _table(name: str) -> sql.Identifier:
    return sql.Identifier("audit_exporter", name)
