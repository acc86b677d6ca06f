"""Source databases for the benchmarks: realistic records, the same at every call."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from exporter.starter.folder import INDEXES, INSERT, TABLE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

START: Final = datetime(2026, 11, 1, tzinfo=UTC)
SPAN: Final = timedelta(hours=4)

Row = tuple[str | None, ...]


def records(account: str, count: int) -> Iterator[Row]:
    """So many records of one account, spread evenly over one window of four hours."""
    pick = random.Random(account)
    step = SPAN / count
    for index in range(count):
        moment = START + index * step
        person = f"user{pick.randrange(5000)}@example.com"
        action = pick.choice(("Login", "Export", "Campaign Save", "Role Granted", "API Key Created"))
        target = f"campaign-{pick.randrange(10**9)}"
        summary = f'{person} did "{action}" on {target}\n\u201cwith\u201d a note of {"words " * 25}'
        address = f"203.0.113.{pick.randrange(256)}"
        time = f"{moment:%Y-%m-%dT%H:%M:%S.%fZ}"
        yield (account, time, person, action, target, summary, address, None)


def build(path: Path, accounts: int, each: int) -> None:
    """A database with ``accounts`` accounts (`account-0` …) of ``each`` records."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(TABLE)
        for number in range(accounts):
            connection.executemany(INSERT, records(f"account-{number}", each))
        for statement in INDEXES:
            connection.execute(statement)


def configuration(folder: Path, accounts: int, archive: str = "zip") -> Path:
    """A configuration that exports every account of `audit.db` in ``folder`` to `out` beside it."""
    exports = "\n".join(
        f"  - {{account: account-{number}, destination: {{type: directory, path: ./out}}}}"
        for number in range(accounts)
    )
    path = folder / "audit-exporter.yaml"
    path.write_text(
        f"""source:
  url: sqlite:///audit.db
  table: audit_log
  columns: {{id: id, time: created_at, account: account_id, email: actor_email, action: action,
            action_id: target_id, description: summary, ip_address: ip_address}}
ledger: {{url: sqlite:///ledger.db}}
defaults: {{every: 4h, start: {START:%Y-%m-%dT%H:%M:%SZ}, archive: {archive}}}
exports:
{exports}
"""
    )
    return path
