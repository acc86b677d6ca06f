"""A ledger of version 1, with its rows as that version wrote them, goes on where it was left.

`version1/` holds what commit 5d8fd52 made: two delivered plans, one with a bad record, an open plan that
may have landed, and a paused export.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psycopg
import pytest

from exporter.errors import LedgerError
from exporter.formats import compile_format
from exporter.ledger import encoding, schema
from exporter.ledger.postgres import PostgresLedgerOptions, PostgresStorage, migrate_postgres
from exporter.ledger.sqlite import SqliteStorage, migrate_sqlite
from exporter.model import BadKind, Outcome, Range, Rendering, Window, flat_mapping
from exporter.sources.memory import MemorySource
from tests.contracts.ledger import BAD, NAME, Subject, at, content
from tests.contracts.ledger_events import ONE, last_of, planned, poison
from tests.kit.postgres import shared_postgres

if TYPE_CHECKING:
    from collections.abc import Callable

    from exporter.ledger.storage import Storage

    Opened = tuple[Callable[[], tuple[int, int]], Callable[[], Storage]]

VERSION1: Final = Path(__file__).parent / "version1"
BOOLEANS: Final = {"paused", "first_window", "final", "repeats", "redeliver", "done"}
MAPPED: Final = flat_mapping({"Date": ("instant", "time"), "Email": ("string", None)})


def sqlite(tmp_path: Path) -> Opened:
    """A file as it was."""
    path = tmp_path / "ledger.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript((VERSION1 / "sqlite.sql").read_text())
    return lambda: migrate_sqlite(path), lambda: SqliteStorage(path)


def postgres(tmp_path: Path) -> Opened:
    """The same rows in a PostgreSQL schema as it was."""
    sqlite(tmp_path)
    server = shared_postgres()
    url = server.url(server.new_database())
    with (
        closing(sqlite3.connect(tmp_path / "ledger.db")) as old,
        psycopg.connect(url, autocommit=True) as connection,
    ):
        connection.execute((VERSION1 / "postgres.sql").read_text())
        for (table,) in old.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            _copy(old, connection, table)
    options = PostgresLedgerOptions(url)
    return lambda: migrate_postgres(options), lambda: PostgresStorage(options)


def _copy(old: sqlite3.Connection, connection: psycopg.Connection[Any], table: str) -> None:
    found = old.execute(f"SELECT * FROM {table}")
    names = [name for name, *_ in found.description]
    marks = ", ".join(["%s"] * len(names))
    columns = ", ".join(f'"{name}"' for name in names)
    for row in found.fetchall():
        values = [bool(value) if name in BOOLEANS else value for name, value in zip(names, row, strict=True)]
        connection.execute(f'INSERT INTO "{table}" ({columns}) VALUES ({marks})', values)
    if "number" in names:
        text = f"SELECT setval(pg_get_serial_sequence('{table}', 'number'), max(number) + 1) FROM {table}"
        connection.execute(text)


@pytest.mark.parametrize("make", [sqlite, postgres], ids=lambda make: make.__name__)
def test_a_ledger_of_version_1_goes_on_where_it_was_left(
    make: Callable[[Path], Opened], tmp_path: Path
) -> None:
    """It asks to be migrated; then all it knew is there, and what it left open is finished."""
    migrate, opened = make(tmp_path)
    with pytest.raises(LedgerError, match="at version 1") as refused:
        opened()
    assert refused.value.hint == "run: audit-exporter ledger migrate"
    assert migrate() == (1, schema.VERSION)
    assert migrate() == (schema.VERSION, schema.VERSION)
    with closing(opened()) as storage:
        subject = Subject(storage)
        subject.clock.now = at(13)
        _knows_what_it_knew(subject)
        _goes_on(subject)


def _knows_what_it_knew(subject: Subject) -> None:
    mapped, native = (subject.ledger.delivered(NAME, number) for number in (1, 2))
    assert mapped.rendering == Rendering("standard", MAPPED)
    assert native.rendering == Rendering("native", None, "gzip")
    assert (mapped.reached, mapped.sent, mapped.refused) == (None, 0, 0)
    assert (mapped.content.filtered, mapped.content.protected) == (0, {})
    assert subject.requests.bad_records(NAME, 1) == [BAD]
    assert BAD.kind is BadKind.UNRENDERED
    standings = subject.ledger.standings()
    assert standings["globex"].export.paused
    assert (standings[NAME].export.filtered, standings[NAME].export.protected) == (0, {})
    assert standings[NAME].waiting == 0
    with subject.storage.reading() as rows:
        window = rows.last_window_before(NAME, at(12))
    assert window is not None
    assert (window.end, window.filtered) == (at(8), 0)


def _goes_on(subject: Subject) -> None:
    """The open plan is delivered; and then one of events, which version 1 did not know."""
    plan = subject.standing().open_plan
    assert plan is not None
    assert (plan.sequence, plan.content) == (3, content())
    (tried,) = subject.ledger.attempts(plan.id)
    assert tried.outcome is Outcome.UNKNOWN
    subject.deliver(plan)
    events = planned(subject)
    subject.ledger.reach(events, None, ONE, 2, [poison()])
    subject.ledger.reach(events, ONE, last_of(events))
    assert subject.deliver(events).sequence == 4
    assert subject.standing().waiting == 1


def test_a_plan_of_version_1_renders_as_it_did() -> None:
    """Its conversions had other names; what may have landed must come out the same, byte by byte."""
    fields = [
        ["when", "instant", "time"],
        ["n", "value", "id"],
        ["id", "string", "id"],
        ["no", "string", None],
    ]
    stored = {"format": "own", "fields": fields, "archive": "zip", "body": "ndjson", "max_record_bytes": 4000}
    form = compile_format(encoding._rendering_of(stored, {}))
    source = MemorySource(lambda: at(5), ["said"])
    transaction = source.begin()
    source.insert(transaction, "acme", at(1), said="x")
    source.commit(transaction)
    range_ = Range("acme", Window(at(0), at(4)), source.seal())
    ((_, block),) = source.read([range_], form.columns)
    lines, protected = form.encode(block)
    assert lines == b'{"when":"2026-11-19T01:00:00.000000Z","n":1,"id":"1","no":null}\n'
    assert protected == {}
