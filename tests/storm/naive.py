"""Readers as most tools have them: they remember the last value of one column and ask for what is above it.

They are plain on purpose, and each has as many processes and privileges as it likes. A storm that takes
nothing from them would prove nothing about the exporter.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.synchronize import Event
    from pathlib import Path

    from tests.storm.sessions import Reader, Session

PAUSE_S = 0.25


def by_id(session: Session, _begin: object) -> Iterator[list[int]]:
    """`id > last`."""
    last = 0
    while True:
        found = [row[0] for row in session.ask(f"SELECT id FROM audit_log WHERE id > {last} ORDER BY id")]
        last = found[-1] if found else last
        yield found


def by_time(session: Session, begin: object) -> Iterator[list[int]]:
    """`created_at > last`, and no further than now, or one record of tomorrow would end it all."""
    statement = (
        f"SELECT id, created_at FROM audit_log WHERE created_at > {session.moment}"
        f" AND created_at <= {session.now} ORDER BY created_at"
    )
    last = begin
    while True:
        found = session.ask(statement, [last])
        last = found[-1][1] if found else last
        yield [row[0] for row in found]


def by_xid_rows_first(session: Session, _begin: object) -> Iterator[list[int]]:
    """PostgreSQL's xid8 below the horizon, as it should be, but with the horizon read after the rows."""
    horizon = 0
    while True:
        found = session.ask(
            f"SELECT id, export_xid::text::bigint FROM audit_log WHERE export_xid >= '{horizon}'::xid8"
        )
        ((now,),) = session.ask("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint")
        horizon = now
        yield [row[0] for row in found if row[1] < now]


def follow(reader: Reader, session: Session, begin: object, stop: Event, out: Path) -> None:
    """Poll until the storm is over, and once more; the ids that it saw go into a file."""
    polls = reader(session, begin)
    with out.open("wb") as file:
        over = False
        while not over:
            over = stop.wait(PAUSE_S)
            array("q", next(polls)).tofile(file)


def seen(out: Path) -> set[int]:
    """The ids that a reader saw."""
    found = array("q")
    found.frombytes(out.read_bytes())
    return set(found)
