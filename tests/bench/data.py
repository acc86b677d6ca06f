"""Source databases for the benchmarks: realistic records, the same in PostgreSQL and SQLite, at every call.

One account, ``BIG``, has many; the others a few hundred each. A record is about 540 bytes of JSON, which
ISA-L's level 1 makes 23 % of, as in the facts that the goals come from: identifiers, as services make them at
random, are most of what does not compress. Texts hold what costs encoders time: quotes, line feeds,
backslashes, characters beyond ASCII, NULLs, JSON.
"""

from __future__ import annotations

import json
import random
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import psycopg

START: Final = datetime(2026, 11, 1, tzinfo=UTC)
SPAN: Final = timedelta(hours=4)
END: Final = START + SPAN
BIG: Final = "account-big"
COLUMNS: Final = (
    "id",
    "created_at",
    "account_id",
    "actor_email",
    "action",
    "target_id",
    "summary",
    "ip_address",
    "details",
)

Row = tuple[int | str | None, ...]

_ACTIONS: Final = (
    "login",
    "export.started",
    "campaign.saved",
    "role.granted",
    "api_key.created",
    "user.left",
)
_NOTES: Final = (
    "from a new device",
    'with the reason "quarterly review"',
    "in the folder C:\\Reports\\2026",
    "for the team Zürich\u2013Nachtschicht (“Übergabe”)",
    "in two steps:\na copy, then the removal",
    "by the nightly job, with what had waited",
)
_AGENTS: Final = (
    "Mozilla/5.0 (X11; Linux) Firefox/13",
    "okta-sdk-java/14.0",
    "Terraform/1.9",
)


def small_account(number: int) -> str:
    """The name of one of the accounts with few records."""
    return f"account-{number:05}"


def records(account: str, count: int, first_id: int) -> Iterator[Row]:
    """So many records of one account in ``COLUMNS``' order, spread evenly over one window of four hours."""
    pick = random.Random(account)
    step = SPAN / max(count, 1)
    for index in range(count):
        number = pick.getrandbits(48)
        moment = START + (index + pick.random()) * step  # to the microsecond, as clocks have it
        person = number % 5000
        target = f"campaign-{number % 999_983}"
        yield (
            first_id + index,
            f"{moment:%Y-%m-%dT%H:%M:%S.%fZ}",
            account,
            f"user{person}@example.com",
            _ACTIONS[number % 5 + (number % 97 == 0)],
            None if number % 11 == 0 else target,
            f"user{person}@example.com changed {target} {_NOTES[number % 6]}",
            f"203.{number % 211}.{number % 113}.{number % 251}",
            _details(number, pick),
        )


def _details(number: int, pick: random.Random) -> str:
    """A JSON object, spelt as PostgreSQL's jsonb spells it, so that both databases hold the same text."""
    found = {
        "agent": f"{_AGENTS[number % 3]}.{number % 29}",
        "result": "SUCCESS" if number % 7 else "FAILURE",
        "request": str(UUID(int=pick.getrandbits(128), version=4)),
        "session": str(UUID(int=pick.getrandbits(128), version=4)),
        "device": str(UUID(int=pick.getrandbits(128), version=4)),
        "elevated": number % 13 == 0,
    }
    return json.dumps(dict(sorted(found.items(), key=lambda item: (len(item[0]), item[0]))))


def all_records(big: int, accounts: int, each: int) -> Iterator[Row]:
    """Those of ``BIG``, then those of every small account."""
    yield from records(BIG, big, 1)
    for number in range(accounts):
        yield from records(small_account(number), each, 1 + big + number * each)


_SQLITE_TABLE: Final = """
CREATE TABLE audit_log (
  id INTEGER PRIMARY KEY, created_at TEXT NOT NULL, account_id TEXT NOT NULL, actor_email TEXT,
  action TEXT NOT NULL, target_id TEXT, summary TEXT, ip_address TEXT, details JSON
)
"""
_POSTGRES_TABLE: Final = """
CREATE TABLE audit_log (
  id bigint PRIMARY KEY, created_at timestamptz NOT NULL, account_id text NOT NULL, actor_email text,
  action text NOT NULL, target_id text, summary text, ip_address inet, details jsonb,
  export_xid xid8 NOT NULL DEFAULT pg_current_xact_id()
)
"""


def fill_sqlite(path: Path, rows: Iterator[Row]) -> None:
    """A database file with the table ``audit_log`` and the indexes that `check` asks for."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute(_SQLITE_TABLE)
        connection.executemany(f"INSERT INTO audit_log VALUES ({', '.join('?' * len(COLUMNS))})", rows)
        connection.execute("CREATE INDEX audit_log_by_time ON audit_log (account_id, created_at, id)")
        connection.execute("CREATE INDEX audit_log_by_account ON audit_log (account_id)")
        connection.execute("ANALYZE")


def fill_postgres(connection: psycopg.Connection[Any], rows: Iterator[Row]) -> None:
    """The same in the database of a connection; ``export_xid`` is what `source prepare` adds."""
    connection.execute(_POSTGRES_TABLE)
    statement = f"COPY audit_log ({', '.join(COLUMNS)}) FROM STDIN"
    with connection.cursor().copy(statement) as copy:
        for row in rows:
            copy.write_row(row)
    connection.execute("CREATE INDEX ON audit_log (account_id, created_at, id)")
    connection.execute("CREATE INDEX ON audit_log (account_id, export_xid)")
    connection.execute("VACUUM ANALYZE audit_log")
