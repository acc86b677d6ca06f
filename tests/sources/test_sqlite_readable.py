"""What is told of all times at once: never more than SQL says of each."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.columns import SEPARATOR, Roles
from exporter.model import Range, Window
from exporter.sources.sqlite import readable as module
from exporter.sources.sqlite.database import inspect, select
from exporter.sources.sqlite.readable import are_all_readable
from exporter.sources.sqlite.snapshot import Snapshot
from exporter.sources.sqlite.time import sql_times

if TYPE_CHECKING:
    from collections.abc import Sequence

ROLES = Roles(id="id", time="time", account="account")
PLAIN = "2026-11-19T04:00:00.000001Z"
DAY = Window(datetime(2026, 11, 19, tzinfo=UTC), datetime(2026, 11, 20, tzinfo=UTC))
BETWEEN = SEPARATOR.decode()
_VALUES = st.sampled_from(
    [
        *[PLAIN] * 6,
        *("2026-11-19T04:00:00Z", "2026-11-19 04:00:00.000001Z", "2026-02-30T04:00:00.000001Z"),
        *("2026-11-19T24:00:00.000001Z", "2026-11-19T04:00:00.000001+01:00", f"{PLAIN}\0", "", "é" * 27),
        *(None, 0, 20261119, 1.5, PLAIN.encode(), b"\xff" * 27, f"{PLAIN}{BETWEEN}{PLAIN}", BETWEEN),
    ]
)


def snapshot_of(connection: sqlite3.Connection, times: Sequence[object], declared: str = "TEXT") -> Snapshot:
    connection.executescript(
        f"CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, time {declared}, account TEXT);"
        "CREATE INDEX by_account ON t (account); CREATE INDEX by_time ON t (account, time, id);"
    )
    connection.executemany("INSERT INTO t (time, account) VALUES (?, 'acme')", [(time,) for time in times])
    return Snapshot(connection, inspect(connection, "t", None, ROLES), ROLES, sql_times('"time"', None))


def says(snapshot: Snapshot) -> bool:
    return are_all_readable(snapshot, ROLES, snapshot.new_of_account("acme", 0, 10**9))


@pytest.mark.parametrize("declared", ["TEXT", "DATETIME", "", "TEXT COLLATE NOCASE"])
@given(times=st.lists(_VALUES, max_size=6), most=st.sampled_from([1, 2, 3, 100]))
def test_it_says_yes_only_where_sql_finds_nothing_unreadable(
    declared: str, times: list[object], most: int
) -> None:
    """Whatever is stored, in whatever column, and wherever one look ends and the next begins."""
    with closing(sqlite3.connect(":memory:")) as connection, pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_ROWS", most)
        snapshot = snapshot_of(connection, times, declared)
        unreadable = select("t", "count(*)", (f"NOT {snapshot.times.readable}",))
        wrong = connection.execute(f"{unreadable} OR time IS NULL").fetchone()[0]
        assert not (says(snapshot) and wrong)
        if times and set(map(repr, times)) == {repr(PLAIN)}:
            assert says(snapshot)


def test_a_time_that_is_longer_than_any_is_left_to_sql() -> None:
    """Nothing is joined that takes more memory than it may."""
    with closing(sqlite3.connect(":memory:")) as connection:
        assert not says(snapshot_of(connection, [PLAIN, "2" * 3_000_000]))
        assert connection.getlimit(sqlite3.SQLITE_LIMIT_LENGTH) > 3_000_000


def test_new_records_are_looked_at_by_the_index_on_the_account() -> None:
    """Never the whole history of the account, and nothing is sorted."""
    with closing(sqlite3.connect(":memory:")) as connection:
        snapshot = snapshot_of(connection, [PLAIN] * 50)
        asked: list[str] = []
        connection.set_trace_callback(asked.append)
        assert says(snapshot)
        connection.set_trace_callback(None)
        details = [row[-1] for row in connection.execute(f"EXPLAIN QUERY PLAN {asked[-1]}")]
        assert "SEARCH records USING INDEX by_account (account=? AND rowid>? AND rowid<?)" in details


def test_without_an_index_in_their_order_all_of_an_account_are_left_to_sql() -> None:
    """To walk the ids of everybody would take longer than to ask."""
    with closing(sqlite3.connect(":memory:")) as connection:
        seal = snapshot_of(connection, [PLAIN]).seal()
        connection.execute("DROP INDEX by_account")
        relation = inspect(connection, "t", None, ROLES)
        asked: list[str] = []
        connection.set_trace_callback(asked.append)
        snapshot = Snapshot(connection, relation, ROLES, sql_times('"time"', None))
        for is_first in (True, False):
            one = Range("acme", DAY, seal, {**seal, "id": 0}, first=is_first)
            list(snapshot.blocks(one, snapshot.layout(None), 100))
            assert ("sum(" in "".join(asked)) is not is_first
