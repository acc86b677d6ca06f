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
    with (
        closing(sqlite3.connect(":memory:", check_same_thread=False)) as connection,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(module, "_ROWS", most)
        snapshot = snapshot_of(connection, times, declared)
        unreadable = select("t", "count(*)", (f"NOT {snapshot.times.readable}",))
        wrong = connection.execute(f"{unreadable} OR time IS NULL").fetchone()[0]
        assert not (says(snapshot) and wrong)
        if times and set(map(repr, times)) == {repr(PLAIN)}:
            assert says(snapshot)


def test_a_time_that_is_longer_than_any_is_left_to_sql() -> None:
    """Nothing is joined that takes more memory than it may."""
    with closing(sqlite3.connect(":memory:", check_same_thread=False)) as connection:
        assert not says(snapshot_of(connection, [PLAIN, "2" * 3_000_000]))
        assert connection.getlimit(sqlite3.SQLITE_LIMIT_LENGTH) > 3_000_000


def test_new_records_are_looked_at_by_the_index_on_the_account() -> None:
    """Never the whole history of the account, and nothing is sorted."""
    with closing(sqlite3.connect(":memory:", check_same_thread=False)) as connection:
        snapshot = snapshot_of(connection, [PLAIN] * 50)
        asked: list[str] = []
        connection.set_trace_callback(asked.append)
        assert says(snapshot)
        connection.set_trace_callback(None)
        details = [row[-1] for row in connection.execute(f"EXPLAIN QUERY PLAN {asked[-1]}")]
        assert "SEARCH records USING INDEX by_account (account=? AND rowid>? AND rowid<?)" in details


@pytest.mark.parametrize("declared", ["TEXT", "DATETIME", "", "TEXT COLLATE NOCASE"])
@given(times=st.lists(_VALUES, max_size=6), most=st.sampled_from([1, 2, 3, 100]))
def test_in_the_order_of_times_it_says_yes_only_where_sql_finds_nothing_unreadable(
    declared: str, times: list[object], most: int
) -> None:
    """The same of a whole history, of which many records may have one time."""
    with (
        closing(sqlite3.connect(":memory:", check_same_thread=False)) as connection,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(module, "_ROWS", most)
        snapshot = snapshot_of(connection, times, declared)
        whole = snapshot.of_account("acme") + snapshot.visible_at({"id": 10**9})
        says_so = are_all_readable(snapshot, ROLES, whole, by_time=True)
        unreadable = select("t", "count(*)", (f"NOT {snapshot.times.readable}",))
        wrong = connection.execute(f"{unreadable} OR time IS NULL").fetchone()[0]
        assert not (says_so and wrong)
        if times and set(map(repr, times)) == {repr(PLAIN)}:
            assert says_so == (len(times) < most)


@pytest.mark.parametrize("most", [1, 2, 3])
def test_a_text_that_is_no_utf_8_is_no_time_wherever_a_look_ends(
    most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it is the last of those that were taken, what follows is asked for before it is looked at."""
    monkeypatch.setattr(module, "_ROWS", most)
    with closing(sqlite3.connect(":memory:", check_same_thread=False)) as connection:
        snapshot = snapshot_of(connection, [PLAIN, PLAIN])
        connection.execute("UPDATE t SET time = CAST(x'ff' AS TEXT) WHERE id = 2")
        whole = snapshot.of_account("acme") + snapshot.visible_at({"id": 10**9})
        assert not are_all_readable(snapshot, ROLES, whole, by_time=True)
        assert not says(snapshot)


def looked_at(*dropped: str, is_first: bool, other: str = "id") -> list[str]:
    """The plans of what is asked of a range's times, together, before it is read."""
    with closing(sqlite3.connect(":memory:", check_same_thread=False)) as connection:
        seal = snapshot_of(connection, [PLAIN]).seal()
        for index in dropped:
            connection.execute(f"DROP INDEX {index}")
        connection.execute(f"CREATE INDEX other ON t ({other})")
        snapshot = Snapshot(
            connection, inspect(connection, "t", None, ROLES), ROLES, sql_times('"time"', None)
        )
        one = Range("acme", DAY, seal, {**seal, "id": 0}, first=is_first)
        asked: list[str] = []
        connection.set_trace_callback(asked.append)
        list(snapshot.blocks(one, snapshot.layout(None), 100))
        connection.set_trace_callback(None)
        sums = [made for made in asked if "count(*), " in made and " LIMIT 20000" in made]
        sums = [made for made in sums if "EXPLAIN" not in made]
        return [row[-1] for made in sums for row in connection.execute(f"EXPLAIN QUERY PLAN {made}")]


def test_a_whole_history_is_looked_at_in_the_index_on_time_alone() -> None:
    """Where an index holds account, time and id, no record is read to see that its time is readable."""
    steps = [step for step in looked_at(is_first=True) if "records" in step]
    assert steps == ["SEARCH records USING COVERING INDEX by_time (account=?)"]
    assert any("by_account" in step for step in looked_at(is_first=False))


def test_without_an_index_in_their_order_all_of_an_account_are_left_to_sql() -> None:
    """To walk the ids of everybody would take longer than to ask."""
    assert not looked_at("by_account", "by_time", is_first=True)
    assert not looked_at("by_account", "by_time", is_first=True, other="time, id")
    assert any("rowid" in step for step in looked_at("by_account", "by_time", is_first=False))
