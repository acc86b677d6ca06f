"""PostgreSQL: prepared transactions, COPY, a cached sequence, and both of the product's strategies."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, ClassVar, Final

import psycopg

from tests.storm.naive import by_id, by_time, by_xid_rows_first
from tests.storm.records import COLUMNS, Clock
from tests.storm.sessions import DOCUMENTS, Database, Row, Session, Variant

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from random import Random

    from tests.storm.records import Record
    from tests.storm.sessions import Reader

HASTY: Final = 0.3
"""Sessions whose commits do not wait for the disk: a crash undoes the last of them."""

RENUMBERED = "renumbered"
"""Records of this action are given another id by a trigger."""

TABLES = f"""
CREATE SEQUENCE audit_ids CACHE 50;
CREATE TABLE audit_log (
  id bigint PRIMARY KEY DEFAULT nextval('audit_ids'), created_at timestamptz, account_id text NOT NULL,
  actor_email text, action text, target_id text, summary text, ip_address text,
  export_xid xid8 NOT NULL DEFAULT pg_current_xact_id());
CREATE INDEX ON audit_log (account_id, created_at, id);
CREATE INDEX ON audit_log (account_id, export_xid);
CREATE TABLE documents (
  id integer PRIMARY KEY, created_at timestamptz, account_id text, actor_email text,
  action text, target_id text, summary text, ip_address text);
INSERT INTO documents (id) SELECT generate_series(1, {DOCUMENTS});
CREATE FUNCTION record_change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  INSERT INTO audit_log ({", ".join(COLUMNS)}) VALUES ({", ".join(f"NEW.{column}" for column in COLUMNS)});
  RETURN NULL;
END $$;
CREATE TRIGGER recorded AFTER UPDATE ON documents FOR EACH ROW EXECUTE FUNCTION record_change();
CREATE FUNCTION renumber() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  NEW.id := nextval('audit_ids');
  RETURN NEW;
END $$;
CREATE TRIGGER renumbering BEFORE INSERT ON audit_log FOR EACH ROW
  WHEN (NEW.action = '{RENUMBERED}') EXECUTE FUNCTION renumber();
"""


class PostgresSession(Session):
    """A connection through psycopg."""

    now = "now()"
    moment = "%s::timestamptz"
    last_id = "lastval()"
    nap = "CASE WHEN pg_sleep({})::text IS NOT NULL THEN %s END"
    broken = ("infinity", "-infinity")
    copies = True
    prepares = True
    error = psycopg.Error

    def __init__(self, url: str, random: Random) -> None:
        self._url = url
        super().__init__(random)

    def open(self) -> None:
        self._connection = psycopg.connect(self._url, autocommit=True)
        if self.random.random() < HASTY:
            self.execute("SET synchronous_commit = off")

    def close(self) -> None:
        self._connection.close()

    def execute(self, statement: str, values: Sequence[object] = ()) -> list[Row]:
        cursor = self._connection.execute(statement.encode(), values)
        return cursor.fetchall() if cursor.description else []

    def passes(self, error: Exception) -> bool:
        is_lock = isinstance(error, psycopg.errors.DeadlockDetected | psycopg.errors.LockNotAvailable)
        return is_lock or (isinstance(error, psycopg.OperationalError) and self._connection.closed)

    def copy(self, records: Sequence[Record]) -> None:
        statement = f"COPY audit_log ({', '.join(COLUMNS)}) FROM STDIN".encode()
        with self._connection.cursor() as cursor, cursor.copy(statement) as copy:
            for record in records:
                when = datetime.now(UTC) if record.time is Clock.DATABASE else record.time
                copy.write_row((self.moment_of(when), *record[1:]))

    def begin_to_prepare(self, name: str) -> None:
        del name
        self.begin()

    def prepare(self, name: str) -> None:
        self.execute(f"PREPARE TRANSACTION '{name}'")

    def prepared(self) -> list[str]:
        found = self.ask("SELECT gid FROM pg_prepared_xacts WHERE database = current_database()")
        return [name for (name,) in found]

    def finish(self, name: str, *, commit: bool) -> None:
        self.execute(f"{'COMMIT' if commit else 'ROLLBACK'} PREPARED '{name}'")


@dataclass(frozen=True)
class Postgres(Database):
    """A database of a server; ``reader`` is the address of a role that may only select, made here.

    ``ledger`` is the address of a database for the second variant's ledger.
    """

    url: str
    reader: str
    ledger: str
    naive: ClassVar[Mapping[str, Reader]] = {
        "id": by_id,
        "created_at": by_time,
        "xid8, horizon last": by_xid_rows_first,
    }
    must_lose: ClassVar[Sequence[str]] = ("id", "created_at")
    microseconds: ClassVar[str] = (
        "CASE WHEN isfinite(created_at) THEN (extract(epoch FROM created_at) * 1000000)::bigint END"
    )

    def create(self) -> None:
        role = psycopg.conninfo.conninfo_to_dict(self.reader)
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(TABLES.encode())
            connection.execute(f"CREATE ROLE {role['user']} LOGIN PASSWORD '{role['password']}'".encode())
            connection.execute(f"GRANT SELECT ON audit_log TO {role['user']}".encode())

    def session(self, random: Random) -> PostgresSession:
        return PostgresSession(self.url, random)

    def variants(self) -> Sequence[Variant]:
        preload = ("exporter.sources.postgres", "psycopg")
        return [
            Variant(
                "xid8",
                {"url": self.reader, "seal_wait": "1s", "columns": {"commit": "export_xid"}},
                {"url": "sqlite:///ledger.db"},
                preload,
            ),
            Variant(
                "xmin",
                {"url": self.reader, "seal_wait": "3s", "append_only": True},
                {"url": self.ledger},
                preload,
                scans=True,
            ),
        ]

    def rows(self, statement: str) -> Iterator[Row]:
        with psycopg.connect(self.url) as connection, connection.cursor("rows") as cursor:
            cursor.itersize = 10_000
            yield from cursor.execute(statement.encode())
