"""The holes through which a reader by ids loses records on MariaDB, one by one, on a real server.

Each has a record whose id is below one that was read already. `naive` is the reader that every tool has.
"""

from __future__ import annotations

import itertools
import json
import time
from contextlib import closing
from datetime import timedelta
from random import Random
from typing import TYPE_CHECKING, Any, Final

import pymysql
import pytest

from exporter.errors import SourceChanged
from exporter.model import Branch, Range
from exporter.sources.mysql import MysqlOptions, MysqlSource
from exporter.sources.mysql import gaps as mysql_gaps
from exporter.sources.mysql import seal as mysql_seal
from exporter.sources.mysql.gaps import Extent
from tests.kit.mariadb import mariadb_server
from tests.kit.mysql_tables import (
    COLUMNS,
    DEADLINE_S,
    NOON,
    ROLES,
    Background,
    Table,
    Windows,
    ids,
    table,
    until,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kit.mysql_tables import Application


USERS: Final = pytest.mark.parametrize("user", ["reader", "watcher"])
SLOW_INSERT: Final = (
    "INSERT IGNORE INTO {} (time, account, note) VALUES"
    " ('2026-11-19', 'acme', 'taken'), ('2026-11-19', 'acme', 1 + {nap}), ('2026-11-19', 'acme', 2 + {nap})"
)
XA_UNKNOWN: Final = 1397
# (INNODB_LOCK_WAITS shows what it showed before to whoever asks more than ten times a second.)
LOCK_WAITS: Final = """
    SELECT COUNT(*) FROM information_schema.PROCESSLIST
    WHERE INFO LIKE '% LOCK IN SHARE MODE' AND TIME_MS > 50 AND ID <> CONNECTION_ID()
"""
NAPS: Final = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE ID = %s AND STATE = 'User sleep'"


@pytest.fixture
def audit() -> Iterator[Table]:
    with table() as made:
        yield made


class Naive:
    """Remembers the highest id that it has read."""

    def __init__(self, audit: Table, lock: str = "") -> None:
        self._audit = audit
        self._lock = lock
        self._last = 0

    def next(self) -> list[int]:
        statement = f"SELECT id FROM {self._audit.name} WHERE id > %s ORDER BY id {self._lock}"
        found = [row[0] for row in self._audit.application.execute(statement, self._last)]
        self._last = max([self._last, *found])
        return found


def gaps(windows: Windows) -> list[Any]:
    found = windows.seal["gaps"]
    assert isinstance(found, list)
    return found


def slow_insert(audit: Table, nap: str) -> Background:
    """A statement that has reserved ids and inserted none of them yet: the first was in vain, and it naps.

    (What it has found taken it locks, and the gap before it: other notes come after it in their index.)
    """
    audit.application.execute(f"ALTER TABLE {audit.name} ADD UNIQUE (note(20))")
    audit.insert(note="taken")
    writer = audit.connect()
    process = writer.one("SELECT CONNECTION_ID()")
    working = Background(lambda: writer.execute(SLOW_INSERT.format(audit.name, nap=nap)))
    until(lambda: audit.application.one(NAPS, process))
    return working


@USERS
def test_a_record_that_commits_after_a_higher_one_comes_late(audit: Table, user: str) -> None:
    """A lower id, committed after a higher one was delivered, comes with the next window, flagged as late."""
    windows, naive = Windows(audit.source(user)), Naive(audit)
    slow = audit.connect()
    slow.connection.begin()
    (low,) = audit.insert(by=slow)
    (high,) = audit.insert()
    assert naive.next() == [high]
    assert windows.next() == [(Branch.ON_TIME, str(high))]
    slow.connection.commit()
    assert naive.next() == []  # lost
    assert windows.next() == [(Branch.LATE, str(low))]
    assert windows.again(0) == [(Branch.ON_TIME, str(high))]
    assert windows.next() == []
    assert gaps(windows) == []


@USERS
def test_ids_that_a_statement_has_reserved_come_late(audit: Table, user: str) -> None:
    """What a running statement inserts below a higher id comes late; a barrier of locks alone loses it."""
    audit.application.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
    windows, barrier = Windows(audit.source(user)), Naive(audit, "LOCK IN SHARE MODE")
    working = slow_insert(audit, "SLEEP(0.7)")
    (high,) = audit.insert(note="zz")
    assert barrier.next() == [1, high]
    assert ids(windows.next()) == [1, high]
    assert [2, 4] in gaps(windows)
    working.join()
    assert barrier.next() == []
    assert windows.next() == [(Branch.LATE, "2"), (Branch.LATE, "3")]
    assert ids(windows.again(0)) == [1, high]


@USERS
def test_a_seal_does_not_believe_what_a_statement_shows_of_its_age(audit: Table, user: str) -> None:
    """A function or a trigger sets a statement's age back; its reserved ids are gaps all the same."""
    nap = f"nap_{audit.name}()"
    audit.application.execute(
        f"CREATE FUNCTION {nap} RETURNS int"
        " BEGIN DO SLEEP(0.3); SET TIMESTAMP = DEFAULT; DO SLEEP(0.3); RETURN 1; END"
    )
    windows = Windows(audit.source(user, seal_wait_s=0.1))
    working = slow_insert(audit, nap)
    audit.insert(note="zz")
    found = []
    while working.is_running:
        found += windows.next()
    working.join()
    found += windows.next()
    assert sorted(ids(found)) == audit.ids() == [1, 2, 3, 5]


def test_what_an_event_has_reserved_comes_late(audit: Table) -> None:
    """The server's own scheduler runs statements, too, and shows them otherwise than a client's."""
    audit.application.execute("SET GLOBAL event_scheduler = ON")
    audit.application.execute(f"ALTER TABLE {audit.name} ADD UNIQUE (note(20))")
    audit.insert(note="taken")
    insert = SLOW_INSERT.format(audit.name, nap="SLEEP(0.7)")
    audit.application.execute(f"CREATE EVENT of_{audit.name} ON SCHEDULE AT CURRENT_TIMESTAMP DO {insert}")
    running = (
        "SELECT COUNT(*) FROM information_schema.PROCESSLIST"
        f" WHERE STATE = 'User sleep' AND INFO LIKE '%{audit.name}%' AND ID <> CONNECTION_ID()"
    )
    until(lambda: audit.application.one(running))
    windows = Windows(audit.source())
    (high,) = audit.insert(note="zz")
    windows.next()
    assert [2, 4] in gaps(windows)
    until(lambda: len(audit.ids()) == 4)
    assert windows.next() == [(Branch.LATE, "2"), (Branch.LATE, "3")]
    assert high == 5


def test_another_exporters_reading_is_not_waited_for(audit: Table) -> None:
    """A reading that takes hours is no statement that could insert: gaps go all the same."""
    audit.application.execute(
        f"INSERT INTO {audit.name} (time, account, note)"
        " SELECT '2026-11-19', 'acme', REPEAT('x', 500) FROM seq_1_to_30000"
    )
    windows = Windows(audit.source())
    blocks = audit.source(block_rows=10).read([Range("acme", windows.window, windows.seal)], None)
    next(blocks)
    try:
        _roll_back(audit)
        audit.insert()
        windows.next()
        assert gaps(windows) == []
    finally:
        blocks.close()


def test_rolled_back_ids_do_not_pile_up(audit: Table) -> None:
    """With PROCESS a seal has no gap for an id that was rolled back, however many there were."""
    windows = Windows(audit.source())
    for _ in range(50):
        _roll_back(audit)
        audit.insert()
        assert len(windows.next()) == 1
        assert gaps(windows) == []


def test_without_process_rolled_back_ids_wait_for_the_longest_statement(
    audit: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without PROCESS a rolled back id stays a gap until no statement of its time can still be running."""
    monkeypatch.setattr(mysql_gaps, "CLOCK_SLACK", timedelta())
    windows = Windows(audit.source("reader", longest_statement_s=3600))
    for _ in range(10):
        _roll_back(audit)
        audit.insert()
        assert len(windows.next()) == 1
    assert gaps(windows) == [[id_, id_] for id_ in range(1, 21, 2)]
    windows.source = audit.source("reader", longest_statement_s=0.01)
    until(lambda: windows.next() == [] and gaps(windows) == [])


def _roll_back(audit: Table) -> None:
    audit.application.connection.begin()
    audit.insert()
    audit.application.connection.rollback()


@USERS
@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
def test_a_prepared_transaction_is_a_gap_until_it_ends(audit: Table, user: str, end: str) -> None:
    """Records of a prepared XA transaction, whose connection is gone, come late, or never."""
    windows, writer = Windows(audit.source(user)), audit.connect()
    name = f"'{audit.name}'"
    writer.execute(f"XA START {name}")
    (low,) = audit.insert(by=writer)
    writer.execute(f"XA END {name}")
    writer.execute(f"XA PREPARE {name}")
    writer.close()
    (high,) = audit.insert()
    assert ids(windows.next()) == [high]
    assert windows.next() == []
    assert gaps(windows) == [[low, low]]
    until(lambda: _finished(audit, f"XA {end} {name}"))
    assert windows.next() == ([(Branch.LATE, str(low))] if end == "COMMIT" else [])
    assert gaps(windows) == ([] if end == "COMMIT" or user == "watcher" else [[low, low]])


def _finished(audit: Table, statement: str) -> bool:
    """Its first connection may not quite be gone."""
    try:
        audit.application.execute(statement)
    except pymysql.err.OperationalError as error:
        if error.args[0] != XA_UNKNOWN:
            raise
        return False
    return True


def test_a_record_deleted_and_brought_back_by_a_savepoint_comes_late(audit: Table) -> None:
    """Its own transaction may delete a record and go back: who only looks for uncommitted ones loses it."""
    windows, writer = Windows(audit.source()), audit.connect()
    writer.connection.begin()
    (low,) = audit.insert(by=writer)
    writer.execute("SAVEPOINT s")
    writer.execute(f"DELETE FROM {audit.name} WHERE id = {low}")
    (high,) = audit.insert()
    audit.application.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ UNCOMMITTED")
    assert audit.ids() == [high]
    assert ids(windows.next()) == [high]
    writer.execute("ROLLBACK TO s")
    writer.connection.commit()
    assert windows.next() == [(Branch.LATE, str(low))]


def test_a_seal_waits_for_what_is_about_to_commit(audit: Table) -> None:
    """A record whose transaction ends while the seal is taken is on time."""
    windows, writer = Windows(audit.source(seal_wait_s=DEADLINE_S)), audit.connect()
    writer.connection.begin()
    (low,) = audit.insert(by=writer)
    (high,) = audit.insert()
    window = Background(windows.next)
    until(lambda: audit.application.one(LOCK_WAITS))
    audit.insert()  # nobody's insert waits for a seal
    writer.connection.commit()
    assert window.join() == [(Branch.ON_TIME, str(low)), (Branch.ON_TIME, str(high))]
    assert gaps(windows) == []


@USERS
def test_a_seal_waits_no_longer_than_it_was_told_to(audit: Table, user: str) -> None:
    """Transactions that go on for long do not hold a seal up: their records come late."""
    windows, writers = Windows(audit.source(user, seal_wait_s=0.5)), [audit.connect() for _ in range(5)]
    for writer in writers:
        writer.connection.begin()
        audit.insert(by=writer)
        audit.insert()
    began = time.monotonic()
    assert len(windows.next()) == 5
    assert 0.4 < time.monotonic() - began < 0.5 * 5  # not once for each of the five
    for writer in writers:
        writer.connection.commit()
    assert [branch for branch, _ in windows.next()] == [Branch.LATE] * 5


@USERS
def test_ids_with_a_distance_between_them_lose_nothing(audit: Table, user: str) -> None:
    """With auto_increment_increment most ids are missing: gaps, and with PROCESS not even that."""
    audit.application.execute("SET SESSION auto_increment_increment = 7, auto_increment_offset = 3")
    windows = Windows(audit.source(user))
    for _ in range(3):
        found = audit.insert(*["acme"] * 4)
        assert ids(windows.next()) == found
    assert (gaps(windows) == []) == (user == "watcher")


def test_ids_that_jump_far_ahead_take_no_longer(audit: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    """A counter set to a number of another world makes one gap, and pieces end by records, not by ids."""
    monkeypatch.setattr(mysql_seal, "_SLICE", 2)
    windows = Windows(audit.source())
    audit.insert(*["acme"] * 5)
    audit.application.execute(f"ALTER TABLE {audit.name} AUTO_INCREMENT = {2**62}")
    audit.insert(*["acme"] * 4)
    began = time.monotonic()
    assert ids(windows.next()) == audit.ids()
    assert time.monotonic() - began < 5
    assert gaps(windows) == []


def test_more_gaps_than_a_seal_may_have_make_records_late_not_lost(
    audit: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A seal that would grow too large ends before the gap too many; the rest comes as gaps go."""
    monkeypatch.setattr(mysql_seal, "MOST_GAPS", 3)
    monkeypatch.setattr(mysql_gaps, "CLOCK_SLACK", timedelta())
    windows = Windows(audit.source("reader", longest_statement_s=3600))
    for _ in range(8):
        _roll_back(audit)
        audit.insert()
    assert ids(windows.next()) == [2, 4, 6]
    assert windows.next() == []
    windows.source = audit.source("reader", longest_statement_s=0.01)
    found: list[tuple[Branch, str]] = []

    def have_come() -> bool:
        found.extend(windows.next())
        return len(found) == 5

    until(have_come)
    assert {branch for branch, _ in found} == {Branch.LATE}
    assert windows.next() == []


@USERS
def test_the_first_seal_sees_what_was_running_when_it_was_taken(audit: Table, user: str) -> None:
    """A transaction that was open when an export began delivers its record, though its id was passed."""
    writer, yesterday = audit.connect(), NOON - timedelta(days=1)
    writer.connection.begin()
    (low,) = audit.insert(by=writer, time=yesterday)
    (high,) = audit.insert(time=yesterday)
    windows = Windows(audit.source(user))
    assert windows.seal["id"] == high
    writer.connection.commit()
    assert windows.next() == [(Branch.LATE, str(low))]
    assert windows.next() == []


def test_a_seal_of_another_export_serves_one_that_was_due_before(audit: Table) -> None:
    """Exports that wait at once wait once; what each one's own previous seal held, its next one holds."""
    source, writer = audit.source(seal_wait_s=5), audit.connect()
    writer.connection.begin()
    (low,) = audit.insert(by=writer)
    audit.insert()
    first = audit.source().seal()
    due = source.now()
    writer.connection.commit()
    with_low = source.seal(first, due=due)
    again = source.seal(first, due=due)
    assert with_low == again
    assert low in mysql_gaps.Members(Extent.of(again))
    other = audit.source()
    newer = other.seal(again)
    audit.insert()
    newest = other.seal(newer)
    joined = source.seal(newest, due=due)
    assert Extent.of(joined).upto == Extent.of(newest).upto
    assert other.holds(joined)
    later = source.seal(joined, due=source.now())
    assert later == source.seal(joined, due=due)


def test_eight_threads_wait_once(audit: Table) -> None:
    """Windows of many exports that are due at once share the wait for a transaction."""
    source, writer = audit.source(seal_wait_s=2), audit.connect()
    previous = source.seal()
    writer.connection.begin()
    audit.insert(by=writer)
    audit.insert()
    due, began = source.now(), time.monotonic()
    waiting = [Background(lambda: source.seal(previous, due=due)) for _ in range(8)]
    assert len({json.dumps(one.join()) for one in waiting}) == 1
    assert time.monotonic() - began < 2 * 3  # each for itself would be eight times as long


def test_ids_that_are_given_out_again_stop_the_source(audit: Table) -> None:
    """After a fail-over to a copy that lacks the newest records, other records get their ids: it stops."""
    windows = Windows(audit.source())
    audit.insert(*["acme"] * 3)
    windows.next()
    sealed = windows.seal
    audit.application.execute(f"DELETE FROM {audit.name} WHERE id > 1")
    audit.application.execute(f"ALTER TABLE {audit.name} AUTO_INCREMENT = 2")
    with pytest.raises(SourceChanged, match="went back from id 3 to 1") as raised:
        windows.next()
    assert "accept-source --from TIME" in raised.value.hint
    assert windows.source.adopt(sealed) is None
    audit.insert("acme", "other", "other")
    assert audit.ids() == [1, 2, 3, 4]
    for attempt in (windows.next, lambda: windows.again(0)):
        with pytest.raises(SourceChanged, match="not the one that was sealed"):
            attempt()
    audit.application.execute(f"DELETE FROM {audit.name} WHERE id = 3")
    with pytest.raises(SourceChanged, match="is gone"):
        windows.next()


def test_a_fail_over_that_lost_nothing_goes_on(audit: Table) -> None:
    """A copy that has the sealed record is the source, and adopts its seals."""
    windows = Windows(audit.source())
    audit.insert()
    windows.next()
    audit.application.execute(f"CREATE TABLE copy_of_{audit.name} LIKE {audit.name}")
    audit.application.execute(f"INSERT INTO copy_of_{audit.name} SELECT * FROM {audit.name}")
    copy = audit.source(table=f"copy_of_{audit.name}")
    assert copy.adopt(windows.seal) == windows.seal


@pytest.mark.slow
@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
def test_a_crash_of_the_server_loses_nothing(end: str) -> None:
    """What was running goes, what was prepared stays a gap: after a crash as before it."""
    with mariadb_server(innodb_flush_log_at_trx_commit="1") as server:
        with server.connect() as root, root.cursor() as cursor:
            cursor.execute("CREATE DATABASE audit")
            cursor.execute(f"CREATE TABLE audit.t ({COLUMNS})")
        insert = "INSERT INTO audit.t (time, account) VALUES ('2026-11-19 12:00:00', 'acme')"
        writers = [server.connect(autocommit=True) for _ in range(3)]
        with writers[0].cursor() as cursor:
            cursor.execute("XA START 'x'")
            cursor.execute(insert)
            cursor.execute("XA END 'x'")
            cursor.execute("XA PREPARE 'x'")
        writers[1].begin()
        for writer in writers[1:]:
            with writer.cursor() as cursor:
                cursor.execute(insert)
        source = MysqlSource(MysqlOptions(server.url("audit"), seal_wait_s=0.2), roles=ROLES, table="t")
        with closing(source):
            windows = Windows(source)
            assert windows.seal["gaps"] == [[1, 2]]
            server.restart("immediate")
            with server.connect() as root, root.cursor() as cursor:
                cursor.execute(insert)
                assert cursor.lastrowid == 4
                assert ids(windows.next()) == [3, 4]
                assert windows.seal["gaps"] == [[1, 2]]  # a run goes as a whole
                cursor.execute(f"XA {end} 'x'")
            assert ids(windows.next()) == ([1] if end == "COMMIT" else [])
            assert windows.seal["gaps"] == []


class Vendor:
    """An application that does anything, on several connections, by the choices of a random generator."""

    def __init__(self, audit: Table, choices: Random) -> None:
        self._audit = audit
        self._choices = choices
        self._connections = [audit.connect() for _ in range(6)]
        self._open: dict[int, str] = {}

    def act(self) -> None:
        """One statement, or the end of a transaction."""
        place = self._choices.randrange(len(self._connections))
        connection = self._connections[place]
        if place not in self._open:
            self._open[place] = self._choices.choice(["", "XA"])
            connection.execute(f"XA START {self._name(place)}" if self._open[place] else "BEGIN")
        if self._choices.random() < 0.6:
            self._insert(connection)
        else:
            self._finish(place, connection)

    def end(self) -> None:
        """All transactions end."""
        for place in list(self._open):
            self._finish(place, self._connections[place])

    def _insert(self, connection: Application) -> None:
        rows = ", ".join([f"('{NOON:%F %T}', 'acme')"] * self._choices.randint(1, 4))
        connection.execute("SAVEPOINT s")
        connection.execute(f"INSERT INTO {self._audit.name} (time, account) VALUES {rows}")
        if self._choices.random() < 0.2:
            connection.execute("ROLLBACK TO s")

    def _finish(self, place: int, connection: Application) -> None:
        is_commit = self._choices.random() < 0.7
        if not self._open.pop(place):
            connection.execute("COMMIT" if is_commit else "ROLLBACK")
            return
        name = self._name(place)
        connection.execute(f"XA END {name}")
        connection.execute(f"XA PREPARE {name}")
        connection.execute(f"XA {'COMMIT' if is_commit else 'ROLLBACK'} {name}")

    def _name(self, place: int) -> str:
        return f"'{self._audit.name}.{place}'"


@USERS
@pytest.mark.parametrize("seed", range(3))
def test_whatever_an_application_does_each_record_comes_once(audit: Table, user: str, seed: int) -> None:
    """Windows of a second, sealed while transactions come and go, hold each record once and never change."""
    vendor, choices = Vendor(audit, Random(seed)), Random(seed)
    windows = Windows(audit.source(user, seal_wait_s=0.02))
    delivered: list[list[tuple[Branch, str]]] = []
    for _ in range(25):
        for _ in range(choices.randrange(8)):
            vendor.act()
        delivered.append(windows.next())
    vendor.end()
    delivered.append(windows.next())
    assert sorted(itertools.chain(*map(ids, delivered))) == audit.ids()
    assert [windows.again(index) for index in range(len(delivered))] == delivered
    assert any(branch is Branch.LATE for found in delivered for branch, _ in found)
