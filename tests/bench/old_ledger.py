"""A ledger with a year behind it: every export of a configuration has delivered each of its windows.

The first delivery of an export is made of the ledger's own values and written through its own schema; all
further ones are copies of it, made by the database itself, which differ in what differs in truth: ids,
times, names, numbers, hashes. In full, 2,190 windows of 2,000 exports, that takes SQLite a few minutes.
"""

from __future__ import annotations

import argparse
import re
import time
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from exporter import config as configuration
from exporter import wiring
from exporter.ledger import encoding, schema
from exporter.ledger.mappings import keep
from exporter.ledger.statements import insert, insert_all
from exporter.model import (
    LIVE_LANE,
    Attempt,
    Content,
    Export,
    Lane,
    LaneKind,
    Outcome,
    Plan,
    PlanState,
    Range,
    SealedWindow,
    Stamp,
    Window,
)
from exporter.packages import name_of
from tests.bench import data

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from exporter.ledger.connection import Connection
    from exporter.model import Seal
    from exporter.pipeline import Job

A_YEAR: Final = 2_190
"""Windows of four hours."""

RUNS_A_DAY: Final = 96
RUNS_KEPT_DAYS: Final = 90
AT_ONCE: Final = 50
"""So many windows are one transaction."""

DELIVERED_AFTER: Final = timedelta(minutes=3)
NAMED: Final = re.compile(r"(?<!:):([a-z_]+)")
HASH: Final = "0" * 64
"""Stands in the first delivery for what every delivery has of its own."""


def build(config: Path, windows: int = A_YEAR, until: datetime = data.START) -> int:
    """Make the ledger that a configuration names, and fill it; answers how many deliveries it remembers.

    The exports began so many windows before ``until``, up to which all of them have delivered.
    """
    wiring.ledger_of(configuration.load(config)).create()
    with wiring.open_app(config) as app:
        jobs, seal = app.jobs, app.source.seal()
    with _opened(config) as connection:
        history = _History(connection, jobs, seal, windows, until)
        history.begin()
        for first in range(1, windows, AT_ONCE):
            with _transaction(connection):
                for number in range(first, min(first + AT_ONCE, windows)):
                    history.copy(number)
        with _transaction(connection):
            history.end()
        connection.execute("ANALYZE")
    return len(jobs) * windows


@contextmanager
def _opened(config: Path) -> Iterator[Connection]:
    """A connection to the ledger that waits for no disk: what a crash leaves behind is built again."""
    storage: Any
    with (
        closing(wiring.ledger_of(configuration.load(config)).open()) as storage,
        closing(storage._database.pool.take()) as connection,
    ):
        if connection.dialect.name == "sqlite":
            connection.execute("PRAGMA synchronous=OFF")
            connection.execute("PRAGMA cache_size=-500000")
            connection.execute("PRAGMA temp_store=MEMORY")
        else:
            connection.execute("SET search_path = audit_exporter, pg_temp")
            connection.execute("SET synchronous_commit = off")
        yield connection


@contextmanager
def _transaction(connection: Connection) -> Iterator[None]:
    connection.execute("BEGIN")
    yield
    connection.execute("COMMIT")


class _History:
    """The deliveries of all exports, one window after the other."""

    def __init__(
        self, connection: Connection, jobs: Sequence[Job], seal: Seal, windows: int, until: datetime
    ) -> None:
        self._connection = connection
        self._jobs = jobs
        self._seal = seal
        self._windows = windows
        self._until = until
        is_sqlite = connection.dialect.name == "sqlite"
        self._any_id = (
            "lower(hex(randomblob(16)))" if is_sqlite else "replace(gen_random_uuid()::text, '-', '')"
        )

    def begin(self) -> None:
        """The exports with their first delivery, from which the others are copied."""
        with _transaction(self._connection):
            for job in self._jobs:
                self._insert(job)
            for table, order in (("plans", "export"), ("attempts", "plan"), ("windows", "export")):
                self._run(
                    f"CREATE TEMPORARY TABLE first_{table} AS SELECT * FROM {table} ORDER BY {order}", {}
                )

    def _insert(self, job: Job) -> None:
        """What the ledger knows of an export that has just delivered for the first time."""
        window, now = self._window(0, job), self._moment(0, job)
        begin, stamp = window.start, Stamp(window.end)
        content = Content(500, 0, 0, 257_112, HASH, 28_706, HASH)
        name = name_of(job.destination.prefix, job.account, stamp, job.rendering)
        plan = Plan(
            id=uuid4().hex,
            export=job.name,
            lane=LIVE_LANE,
            sequence=1,
            range=Range(job.account, window, self._seal, self._seal, last=("2026-11-01 03:59:31.2", 10**6)),
            rendering=job.rendering,
            final=True,
            name=name,
            stamp=stamp,
            content=content,
            created_at=now,
            state=PlanState.DELIVERED,
            delivered_at=now,
            hashes=(HASH,),
        )
        attempt = Attempt(plan.id, plan.id, job.destination.store, now, content, Outcome.SUCCEEDED)
        export = Export(job.name, job.account, job.claim, begin, self._seal)
        mapping = job.rendering.mapping
        mapping_id = None if mapping is None else keep(self._connection, mapping)
        for table, row in (
            (schema.EXPORTS, encoding.export_row(self._at_the_end(export, job, name))),
            (schema.LANES, encoding.lane_row(self._lane_at_the_end(job))),
            (schema.PLANS, encoding.plan_row(plan, mapping_id)),
            (schema.ATTEMPTS, encoding.attempt_row(attempt)),
            (schema.WINDOWS, encoding.window_row(SealedWindow(job.name, window.end, self._seal, now))),
        ):
            insert(self._connection, table, row)

    def _at_the_end(self, export: Export, job: Job, name: str) -> Export:
        last = self._moment(self._windows - 1, job)
        return replace(
            export,
            version=2 * self._windows,
            sequence=self._windows,
            stamp=Stamp(self._until),
            delivered_at=last,
            object_name=name,
        )

    def _lane_at_the_end(self, job: Job) -> Lane:
        return Lane(job.name, LIVE_LANE, LaneKind.LIVE, self._until, self._seal)

    def _window(self, number: int, job: Job) -> Window:
        start = self._until - (self._windows - number) * job.every
        return Window(start, start + job.every)

    def _moment(self, number: int, job: Job) -> datetime:
        return self._window(number, job).end + DELIVERED_AFTER

    def copy(self, number: int) -> None:
        """One more window of every export."""
        for every in {job.every for job in self._jobs}:
            self._copy(number, next(job for job in self._jobs if job.every == every))

    def _copy(self, number: int, job: Job) -> None:
        window, first = self._window(number, job), self._window(0, job)
        now = self._moment(number, job)
        given = {
            "sequence": number + 1,
            "first_start": _text(first.start),
            "start": _text(window.start),
            "end": _text(window.end),
            "now": _text(now),
            "old": f"{first.end:%Y%m%dT%H%M%SZ}",
            "name": f"{window.end:%Y%m%dT%H%M%SZ}",
            "unset": HASH,
        }
        self._run(f"CREATE TEMPORARY TABLE made AS SELECT {self._any_id} AS new, p.* FROM first_plans p", {})
        columns = {column.name: f"made.{column.name}" for column in schema.PLANS.columns}
        columns |= {
            "id": "new",
            "sequence": ":sequence",
            "window_start": ":start",
            "window_end": ":end",
            "first_window": "false",
            "name": "replace(made.name, :old, :name)",
            "stamp_time": ":end",
            "content": "replace(content, :unset, new || new)",
            "created_at": ":now",
            "delivered_at": ":now",
            "hashes": "replace(hashes, :unset, new || new)",
        }
        self._run(f"{_insert('plans', columns)} FROM made WHERE window_start = :first_start", given)
        tried = {
            "id": self._any_id,
            "plan": "made.new",
            "store": "a.store",
            "started_at": ":now",
            "content": "replace(made.content, :unset, made.new || made.new)",
            "outcome": "a.outcome",
            "error": "''",
        }
        whose = "FROM made JOIN first_attempts a ON a.plan = made.id WHERE made.window_start = :first_start"
        self._run(f"{_insert('attempts', tried)} {whose}", given)
        sealed = {"export": "export", '"end"': ":end", "seal": "seal", "committed_at": ":now"}
        self._run(f"{_insert('windows', sealed)} FROM made WHERE window_start = :first_start", given)
        self._run("DROP TABLE made", {})

    def end(self) -> None:
        """The runs that are remembered: one every quarter of an hour."""
        step = timedelta(days=1) / RUNS_A_DAY
        rows = [
            {
                "id": f"{number:032x}",
                "started_at": self._until - number * step,
                "finished_at": self._until - number * step + timedelta(seconds=20),
                "delivered": len(self._jobs) if number % 16 == 0 else 0,
                "failing": 0,
                "error": "",
                "hint": "",
            }
            for number in range(RUNS_A_DAY * min(RUNS_KEPT_DAYS, 1 + self._windows // 6))
        ]
        insert_all(self._connection, schema.RUNS, rows)

    def _run(self, statement: str, values: dict[str, Any]) -> None:
        named: list[str] = re.findall(NAMED, statement)
        self._connection.execute(re.sub(NAMED, "?", statement), [values[name] for name in named])


def _insert(table: str, columns: dict[str, str]) -> str:
    names = ", ".join(f'"{name.strip(chr(34))}"' for name in columns)
    return f"INSERT INTO {table} ({names}) SELECT {', '.join(columns.values())}"


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def main() -> None:
    parser = argparse.ArgumentParser(description="Give every export of a configuration a past.")
    parser.add_argument("config", type=Path)
    parser.add_argument("--windows", type=int, default=A_YEAR)
    arguments = parser.parse_args()
    started = time.monotonic()
    count = build(arguments.config, arguments.windows)
    print(f"{count:,} deliveries in {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
