"""PostgreSQL loses nothing: each known hole, made on purpose; what a seal waits for, and what it refuses."""

from __future__ import annotations

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from exporter.errors import SourceBusy, SourceChanged, SourceError
from exporter.model import Branch, Range
from tests.contracts.source import at, ids, read, window
from tests.kit.postgres import postgres_server
from tests.kit.postgres_bench import TABLE, PostgresBench, Variant, work_database
from tests.kit.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from exporter.model import Seal
    from exporter.sources.postgres import PostgresSource
    from tests.contracts.source import Read

XMIN = Variant(commit=None)


@pytest.fixture(name="new_bench")
def _new_bench() -> Iterator[Callable[..., PostgresBench]]:
    with ExitStack() as stack:
        yield lambda *arguments: stack.enter_context(closing(PostgresBench(*arguments)))


@pytest.fixture(name="bench")
def _bench(new_bench: Callable[..., PostgresBench]) -> PostgresBench:
    return new_bench()


@contextmanager
def transaction(bench: PostgresBench) -> Iterator[psycopg.Connection[Any]]:
    """A connection of the application's in a transaction; the end of the block rolls back what is open."""
    with closing(bench.server.connect(bench.database, autocommit=False)) as connection:
        yield connection


def impatient(bench: PostgresBench, **changes: Any) -> PostgresSource:  # noqa: ANN401 - a source's arguments
    """A source whose seals wait for nobody."""
    return bench.new_source(seal_wait_s=0.0, **changes)


def on_time(number: int, seal: Seal, previous: Seal) -> Range:
    return Range("acme", window(number), seal, previous)


def two_windows(source: PostgresSource, seals: tuple[Seal, Seal, Seal]) -> tuple[list[Read], list[Read]]:
    """What windows 0 and 1 hold, sealed one after the other."""
    begin, first, second = seals
    return read(source, on_time(0, first, begin)), read(source, on_time(1, second, first))


# --- Holes that others fall into ---------------------------------------------------------------------


def test_a_running_transaction_may_have_a_number_of_xmax_or_more(bench: PostgresBench) -> None:
    """A row whose transaction runs is in no range before its commit, though xmax is not above its number."""
    source = impatient(bench)
    begin = source.seal()
    with transaction(bench) as application:
        slow = bench.insert("acme", at(1), connection=application)
        number = application.execute(f"SELECT export_xid::text::bigint FROM {bench.table}").fetchone()[0]  # type: ignore[index]
        xmax = bench.execute("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint")
        first = source.seal(begin)
        before = read(source, on_time(0, first, begin))
        application.commit()
    assert number >= xmax, "a barrier at xmax would take this row for finished"
    assert before == read(source, on_time(0, first, begin)) == []
    assert ids(read(source, on_time(1, source.seal(first), first))) == [slow]


def test_a_commit_between_rows_and_horizon(bench: PostgresBench) -> None:
    """A row committed while rows are read is not lost, as by one who asks for the horizon after the rows."""
    source = impatient(bench)
    begin = source.seal()
    with transaction(bench) as application:
        slow = bench.insert("acme", at(1), connection=application)
        naive = bench.execute("SELECT count(*) FROM {table}")
        first = source.seal(begin)
        assert read(source, on_time(0, first, begin)) == []
        application.commit()
    horizon_after = bench.execute("SELECT pg_snapshot_xmin(pg_current_snapshot())")
    naive += bench.execute(f"SELECT count(*) FROM {{table}} WHERE export_xid >= '{horizon_after}'::xid8")
    assert naive == 0, "horizon after the rows: the row is below it and was never read"
    assert ids(read(source, on_time(1, source.seal(first), first))) == [slow]


def assert_nothing_is_passed_over(bench: PostgresBench, begin: Seal, first: Seal, last: str) -> None:
    """The record that was committed last has not the highest id, and both windows hold all records."""
    assert int(last) < bench.execute("SELECT max(id) FROM {table}"), "`id > last` would have passed it over"
    source = impatient(bench)
    found = two_windows(source, (begin, first, source.seal(first)))
    everything = bench.execute("SELECT array_agg(id::text ORDER BY id::text) FROM {table}")
    assert sorted(ids(found[0]) + ids(found[1])) == everything


def test_a_sequence_with_a_cache(new_bench: Callable[..., PostgresBench]) -> None:
    """A session takes ids out of its own cache long after another one's higher ones were committed."""
    counted = "bigint DEFAULT nextval('{table}_ids')"
    bench = new_bench(Variant(id=counted, schema="CREATE SEQUENCE {table}_ids CACHE 50;" + TABLE))
    begin = bench.source.seal()
    with closing(bench.server.connect(bench.database)) as other:
        bench.insert("acme", at(1), connection=other)
        bench.insert("acme", at(2))
        first = bench.source.seal(begin)
        last = bench.insert("acme", at(3), connection=other)
    assert_nothing_is_passed_over(bench, begin, first, last)


def test_a_trigger_that_gives_ids(new_bench: Callable[..., PostgresBench]) -> None:
    """Ids given by a trigger before the insert are below ids that were committed in the meantime."""
    trigger = """;
        CREATE FUNCTION {table}_id() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN NEW.id := nextval('{table}_ids'); RETURN NEW; END $$;
        CREATE TRIGGER give BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION {table}_id()
    """
    bench = new_bench(Variant(id="bigint", schema="CREATE SEQUENCE {table}_ids;" + TABLE + trigger))
    source = impatient(bench)
    begin = source.seal()
    with transaction(bench) as other:
        last = bench.insert("acme", at(1), connection=other)
        bench.insert("acme", at(2))
        first = source.seal(begin)
        other.commit()
    assert_nothing_is_passed_over(bench, begin, first, last)


def test_ids_given_by_the_application(new_bench: Callable[..., PostgresBench]) -> None:
    """Ids need not grow at all."""
    bench = new_bench(Variant(id="bigint", new_id=lambda number: 1000 - number))
    begin = bench.source.seal()
    bench.insert("acme", at(1))
    first = bench.source.seal(begin)
    last = bench.insert("acme", at(2))
    assert_nothing_is_passed_over(bench, begin, first, last)


# --- Transactions ------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", [Variant(), XMIN], ids=["xid8", "xmin"])
def test_what_runs_at_the_seal_comes_late(new_bench: Callable[..., PostgresBench], variant: Variant) -> None:
    """A seal waits no longer than it may; the record comes with the next window, flagged as late."""
    bench = new_bench(variant)
    source = bench.new_source(seal_wait_s=0.2)
    begin = source.seal()
    with transaction(bench) as application:
        slow = bench.insert("acme", at(1), connection=application)
        quick = bench.insert("acme", at(2))
        started = time.monotonic()
        first = source.seal(begin)
        waited = time.monotonic() - started
        application.commit()
    now, later = two_windows(source, (begin, first, source.seal(first)))
    assert 0.2 <= waited < 1
    assert now == []
    assert ids(later) == [slow, quick]
    assert {branch for branch, _, _, _ in later} == {Branch.LATE}


def test_a_seal_waits_for_what_has_begun(bench: PostgresBench) -> None:
    """A transaction that ends within the wait is in its own window, and seals go on at once."""
    begin = bench.source.seal()
    with transaction(bench) as application:
        slow = bench.insert("acme", at(1), connection=application)
        threading.Timer(0.2, application.commit).start()
        started = time.monotonic()
        first = bench.source.seal(begin)
        waited = time.monotonic() - started
    assert 0.1 < waited < 2
    assert ids(read(bench.source, on_time(0, first, begin))) == [slow]


def test_a_prepared_transaction_holds_the_horizon(bench: PostgresBench) -> None:
    """What was prepared and not yet committed is waited for as long as it may take, and comes late."""
    source = bench.new_source(seal_wait_s=0.1)
    begin = source.seal()
    name = f"storm {bench.number}"
    with transaction(bench) as application:
        prepared = bench.insert("acme", at(1), connection=application)
        application.execute(f"PREPARE TRANSACTION '{name}'")
    try:
        first = source.seal(begin)
        assert read(source, on_time(0, first, begin)) == []
    finally:
        bench.connection.execute(f"COMMIT PREPARED '{name}'")
    assert ids(read(source, on_time(1, source.seal(first), first))) == [prepared]


@pytest.mark.parametrize("variant", [Variant(), XMIN], ids=["xid8", "xmin"])
def test_rollbacks_and_savepoints(new_bench: Callable[..., PostgresBench], variant: Variant) -> None:
    """What was rolled back never appears; what was written after a savepoint appears once."""
    bench = new_bench(variant)
    source = impatient(bench)
    begin = source.seal()
    with transaction(bench) as application:
        kept = [bench.insert("acme", at(1), connection=application)]
        application.execute("SAVEPOINT one")
        kept.append(bench.insert("acme", at(2), connection=application))
        application.execute("SAVEPOINT two")
        bench.insert("acme", at(3), connection=application)
        application.execute("ROLLBACK TO two")
        first = source.seal(begin)
        application.commit()
        bench.insert("acme", at(4), connection=application)
        application.rollback()
    now, later = two_windows(source, (begin, first, source.seal(first)))
    assert (now, ids(later)) == ([], kept)


def test_an_update_moves_no_record(bench: PostgresBench) -> None:
    """With an xid8 column a record stays in its range when it is changed."""
    begin = bench.source.seal()
    bench.insert("acme", at(1), "old")
    first = bench.source.seal(begin)
    bench.execute("UPDATE {table} SET note = 'new'")
    now, later = two_windows(bench.source, (begin, first, bench.source.seal(first)))
    assert [note for _, _, _, note in now] == [b'"new"']
    assert later == []


# --- Seals for many exports --------------------------------------------------------------------------


def test_a_seal_serves_every_export_that_was_due(
    bench: PostgresBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight threads that need a seal for one boundary take one, and wait for it once."""
    source = bench.new_source(seal_wait_s=0.5)
    begin = source.seal()
    due = source.now()
    taken: list[object] = []
    take = source._sealer._take

    def counted(previous: Seal | None, due: datetime | None) -> object:
        taken.append(due)
        return take(previous, due)

    monkeypatch.setattr(source._sealer, "_take", counted)
    with transaction(bench) as application:
        bench.insert("acme", at(1), connection=application)
        with ThreadPoolExecutor(8) as threads:
            seals = list(threads.map(lambda _: source.seal(begin, due=due), range(8)))
    assert len(taken) == 1
    assert seals == [seals[0]] * 8


def test_a_seal_from_before_does_not_serve(bench: PostgresBench) -> None:
    """A seal taken before the window was due is not reused: what came in between would come late."""
    first = bench.source.seal(due=bench.source.now())
    record = bench.insert("acme", at(1))
    second = bench.source.seal(first, due=bench.source.now())
    assert ids(read(bench.source, on_time(0, second, first))) == [record]


def test_without_a_due_time_a_seal_is_fresh(bench: PostgresBench) -> None:
    """Everything committed before the call lies below a seal for which no earlier moment would do."""
    due = bench.source.now()
    begin = bench.source.seal(due=due)
    record = bench.insert("acme", at(1))
    assert bench.source.seal(begin, due=due) == begin
    assert ids(read(bench.source, on_time(0, bench.source.seal(begin), begin))) == [record]


# --- What a seal refuses -----------------------------------------------------------------------------


def test_a_column_of_another_type_is_no_position(new_bench: Callable[..., PostgresBench]) -> None:
    """Only xid8 says in which transaction a record was inserted."""
    bench = new_bench()
    with pytest.raises(SourceError, match="'note' is of type text, not xid8") as raised:
        bench.new_source(commit="note", query=f"SELECT * FROM {bench.table}", table=None).seal()
    assert "source prepare" in raised.value.hint


@pytest.mark.parametrize("column", ["export_xid", "id"])
def test_a_position_or_id_must_not_be_null(new_bench: Callable[..., PostgresBench], column: str) -> None:
    """A record without a position or an id would be in no range: the table has to rule it out."""
    schema = TABLE.replace("NOT NULL PRIMARY KEY", "NOT NULL")
    bench = new_bench(Variant(id="bigint", schema=schema))
    bench.execute(f"ALTER TABLE {{table}} ALTER COLUMN {column} DROP NOT NULL")
    with pytest.raises(SourceError, match=f"{column!r} of .* may be NULL") as raised:
        bench.source.seal()
    assert f'ALTER COLUMN "{column}" SET NOT NULL' in raised.value.hint


@pytest.mark.parametrize(
    ("schema", "what"),
    [
        ("CREATE VIEW {table}_it AS SELECT * FROM {table}", "view"),
        ("CREATE TABLE {table}_it (LIKE {table}) PARTITION BY LIST (account)", "partitioned table"),
        (
            "CREATE TABLE {table}_it (LIKE {table}); CREATE TABLE {table}_c () INHERITS ({table}_it)",
            "children",
        ),
    ],
)
def test_only_a_plain_table_has_an_xmin(
    new_bench: Callable[..., PostgresBench], schema: str, what: str
) -> None:
    """Views and the like need an xid8 column, and the error says so."""
    bench = new_bench(XMIN)
    bench.execute(schema)
    with pytest.raises(SourceError, match=what) as raised:
        bench.new_source(table=f"{bench.table}_it").seal()
    assert "columns.commit" in raised.value.hint
    with pytest.raises(SourceError, match="a query has no system column"):
        bench.new_source(table=None, query=f"SELECT * FROM {bench.table}").seal()


FOREIGN = "CREATE FOREIGN DATA WRAPPER {table}_w; CREATE SERVER {table}_s FOREIGN DATA WRAPPER {table}_w;"
COPIES = {
    "materialized": "CREATE MATERIALIZED VIEW {table}_it AS SELECT * FROM {table}",
    "foreign": FOREIGN + "CREATE FOREIGN TABLE {table}_it (note text) INHERITS ({table}) SERVER {table}_s",
    "foreign partition": f"""
        {FOREIGN} CREATE TABLE {{table}}_it (LIKE {{table}}) PARTITION BY LIST (account);
        CREATE FOREIGN TABLE {{table}}_p PARTITION OF {{table}}_it DEFAULT SERVER {{table}}_s
    """,
}


@pytest.mark.parametrize("schema", COPIES.values(), ids=COPIES)
def test_copies_of_other_transactions_are_refused(bench: PostgresBench, schema: str) -> None:
    """Rows that appear later than the commit of their position would be passed over."""
    bench.execute(schema)
    with pytest.raises(SourceError, match="other transactions"):
        bench.new_source(table=f"{bench.table}_it").seal()


def test_an_older_column_that_is_gone_stops_the_source(bench: PostgresBench) -> None:
    """Without the column that a seal was taken by, nobody can say what it held."""
    begin = bench.source.seal()
    bench.execute("ALTER TABLE {table} ADD COLUMN other_xid xid8 NOT NULL DEFAULT pg_current_xact_id()")
    source = bench.new_source(commit="other_xid")
    assert source.holds(begin)
    bench.execute("ALTER TABLE {table} DROP COLUMN export_xid")
    assert not source.holds(begin)
    with pytest.raises(SourceChanged, match="'export_xid'") as raised:
        source.seal(begin)
    assert "accept-source --from TIME" in raised.value.hint


@pytest.mark.parametrize(
    "rewrite",
    [
        "VACUUM FULL {table}",
        "ALTER TABLE {table} ALTER note TYPE bytea USING note::bytea",
        "TRUNCATE {table}",
    ],
)
def test_a_rewritten_table_stops_the_source(new_bench: Callable[..., PostgresBench], rewrite: str) -> None:
    """By xmin nothing can be told about a table that was written anew; by an xid8 column all of it can."""
    bench = new_bench(replace(XMIN, schema=TABLE))
    by_column = bench.new_source(commit="export_xid")
    bench.insert("acme", at(1))
    begin, by_column_begin = bench.source.seal(), by_column.seal()
    bench.execute(rewrite)
    assert not bench.source.holds(begin)
    assert bench.source.adopt(begin) is None
    with pytest.raises(SourceChanged, match="was rewritten") as raised:
        read(bench.source, on_time(0, begin, begin))
    assert "accept-source --from TIME" in raised.value.hint
    assert by_column.holds(by_column_begin)


@pytest.mark.parametrize("variant", [Variant(), XMIN], ids=["xid8", "xmin"])
def test_all_ranges_of_a_reading_see_one_moment(
    new_bench: Callable[..., PostgresBench], variant: Variant
) -> None:
    """What is committed or deleted while ranges are read is in none of them, or in all."""
    bench = new_bench(variant)
    begin = bench.source.seal()
    expected = [bench.insert("acme", at(1)), bench.insert("acme", at(2))]
    one = on_time(0, bench.source.seal(begin), begin)
    with closing(bench.source.read([one, one], None)) as blocks:
        found = [next(blocks)]
        bench.insert("acme", at(3))
        bench.execute(f"DELETE FROM {{table}} WHERE id = {expected[0]}")
        found += blocks
    assert [(index, len(block)) for index, block in found] == [(0, 2), (1, 2)]


# --- A change of strategy ----------------------------------------------------------------------------


PLAIN = Variant(
    commit=None,
    schema="CREATE TABLE {table} (id {id} PRIMARY KEY, happened {time}, account {account}, note text)",
)
ADD_COLUMN = "ALTER TABLE {table} ADD COLUMN export_xid xid8 NOT NULL DEFAULT pg_current_xact_id()"


def test_a_change_of_strategy_loses_and_doubles_nothing(new_bench: Callable[..., PostgresBench]) -> None:
    """Records of every age, one of them written after a savepoint, come once across the change to xid8."""
    bench = new_bench(PLAIN)
    by_xmin = impatient(bench)
    begin = by_xmin.seal()
    expected = [bench.insert("acme", at(1))]
    with transaction(bench) as older, transaction(bench) as application:
        bench.insert("other", at(1), connection=older)
        expected.append(bench.insert("acme", at(2), connection=application))
        bench.execute("SELECT pg_current_xact_id()")
        application.execute("SAVEPOINT one")
        expected.append(bench.insert("acme", at(3), connection=application))
        application.commit()
        first = by_xmin.seal(begin)  # between the two numbers of that transaction, or below both
        older.commit()
    bench.execute(ADD_COLUMN)
    expected.append(bench.insert("acme", at(4)))
    by_column = impatient(bench, commit="export_xid")
    second = by_column.seal(first)
    expected.append(bench.insert("acme", at(5)))
    third = by_column.seal(second)
    seals = [begin, first, second, third]
    found = [ids(read(by_column, on_time(number, seals[number + 1], seals[number]))) for number in range(3)]
    assert sorted(one for part in found for one in part) == sorted(expected)
    assert found[1], "something was still to come when the strategy changed"


def test_a_change_back_to_xmin(bench: PostgresBench) -> None:
    """From the column to xmin the records of both windows come once, too."""
    begin = bench.source.seal()
    with transaction(bench) as application:
        application.execute("SELECT pg_current_xact_id(); SAVEPOINT one")
        expected = [bench.insert("acme", at(1)), bench.insert("acme", at(2), connection=application)]
        first = impatient(bench).seal(begin)
        application.commit()
    by_xmin = bench.new_source(commit=None)
    now, later = two_windows(by_xmin, (begin, first, by_xmin.seal(first)))
    assert sorted(ids(now) + ids(later)) == sorted(expected)
    assert later


def test_a_change_of_strategy_waits_for_what_ran_at_it(new_bench: Callable[..., PostgresBench]) -> None:
    """While the new horizon lies below the column's own stamp, a seal would take back what was delivered."""
    bench = new_bench(PLAIN)
    bench.insert("acme", at(1))
    first = bench.source.seal()
    with transaction(bench) as older:
        older.execute("SELECT pg_current_xact_id()")
        bench.execute(ADD_COLUMN)
        source = impatient(bench, commit="export_xid")
        with pytest.raises(SourceBusy, match="another strategy"):
            source.seal(first)
        older.commit()
    due = source.now()
    second = source.seal(first, due=due)
    assert read(source, on_time(1, second, first)) == []
    assert source.seal(first, due=due) == second, "one look at the table is enough for all exports"


# --- A server that dies, follows or takes over -------------------------------------------------------


@pytest.mark.slow
def test_a_crash_gives_out_no_sealed_number_again(new_bench: Callable[..., PostgresBench]) -> None:
    """What was committed with synchronous_commit = off may die in a crash, but nobody takes its place."""
    with postgres_server(wal_writer_delay="1s") as server:
        bench = new_bench(Variant(), server)
        begin = bench.source.seal()
        with closing(server.connect(bench.database)) as hasty:
            hasty.execute("SET synchronous_commit = off")
            for _ in range(20):
                bench.insert("acme", at(1), connection=hasty)
            first = bench.source.seal(begin)
        server.restart("immediate")
        with closing(server.connect(bench.database)) as application:
            after = bench.insert("acme", at(2), connection=application)
        assert bench.source.holds(first)
        assert len(read(bench.source, on_time(0, first, begin))) == 20
        assert after in ids(read(bench.source, on_time(1, bench.source.seal(first), first)))


def test_a_standby_is_read_as_far_as_it_has_replayed(new_bench: Callable[..., PostgresBench]) -> None:
    """On a hot standby a seal waits for the replay; while it lags behind a seal, it is refused."""
    with postgres_server() as server, server.standby() as standby:
        bench = new_bench(Variant(), server)
        begin = bench.source.seal()
        standby.catch_up(server)
        follower = bench.new_source(url=bench.url(standby))
        assert follower.holds(begin)
        with closing(standby.connect()) as replay:
            replay.execute("SELECT pg_wal_replay_pause()")
            record = bench.insert("acme", at(1))
            ahead = bench.source.seal(begin)
            assert not follower.holds(ahead)
            with pytest.raises(SourceChanged, match="hot standby behind the seal") as raised:
                read(follower, on_time(0, ahead, begin))
            assert "accept-source --from TIME" in raised.value.hint
            threading.Timer(0.3, replay.execute, ["SELECT pg_wal_replay_resume()"]).start()
            started = time.monotonic()
            first = follower.seal(begin, due=bench.source.now())
            assert 0.2 < time.monotonic() - started < 4
        assert ids(read(follower, on_time(0, first, begin))) == [record]
        standby.catch_up(server)
        assert ids(read(follower, on_time(0, ahead, begin))) == [record]


def test_a_standby_that_does_not_move_is_not_waited_for_long(
    new_bench: Callable[..., PostgresBench],
) -> None:
    """A standby cut off from its primary is sealed as far as it is, after the wait."""
    with postgres_server() as server, server.standby() as standby:
        bench = new_bench(Variant(), server)
        begin = bench.source.seal()
        standby.catch_up(server)
        standby.isolate()
        bench.insert("acme", at(1))
        follower = bench.new_source(url=bench.url(standby), seal_wait_s=0.3)
        started = time.monotonic()
        first = follower.seal(begin)
        assert 0.3 <= time.monotonic() - started < 2
        assert read(follower, on_time(0, first, begin)) == []


def test_a_failover_gives_out_the_same_numbers_again(new_bench: Callable[..., PostgresBench]) -> None:
    """A fail-over that lost transactions stops the source; from an adopted seal on, nothing is missing."""
    with postgres_server() as server, server.standby() as standby:
        bench = new_bench(Variant(), server)
        begin = bench.source.seal()
        old = [bench.insert("acme", at(1), "kept") for _ in range(3)]
        safe = bench.source.seal(begin)
        standby.catch_up(server)
        standby.isolate()
        for _ in range(12):
            bench.insert("acme", at(2), "lost")
        last = bench.source.seal(safe)
        server.stop("immediate")
        standby.promote()
        survivor = bench.new_source(url=bench.url(standby))
        with closing(standby.connect(work_database(server))) as application:
            new = [bench.insert("acme", at(2), "new", connection=application) for _ in range(12)]
            given_again = application.execute(
                f"SELECT count(*) FROM {bench.table} WHERE note = 'new' AND export_xid < '{last['horizon']}'"
            ).fetchone()
        assert given_again == (12,), "by their numbers these were exported before they were there"
        assert not survivor.holds(last)
        with pytest.raises(SourceChanged, match="timeline") as raised:
            read(survivor, on_time(1, last, safe))
        assert "accept-source --from TIME" in raised.value.hint
        with pytest.raises(SourceChanged, match="timeline"):
            survivor.seal(last)
        adopted = survivor.adopt(safe)
        assert adopted is not None
        found = read(survivor, Range("acme", window(0), survivor.seal(adopted), adopted))
        assert [note for _, _, one, note in found if one in new] == [b'"new"'] * 12
        assert ids(found) == old + new
        server.start()  # so that the bench can let go of it


def test_a_promotion_shows_at_once(new_bench: Callable[..., PostgresBench]) -> None:
    """The new timeline is seen before the next checkpoint, until which the control file has the old one."""
    with postgres_server() as server, server.standby() as standby:
        bench = new_bench(Variant(), server)
        follower = bench.new_source(url=bench.url(standby))
        standby.catch_up(server)
        seal = follower.seal()
        standby.promote()
        assert not follower.holds(seal)
        moved_on = follower.seal()
        with standby.standby() as another:
            another.catch_up(standby)
            assert bench.new_source(url=bench.url(another)).holds(moved_on), (
                "a standby tells its timeline as well"
            )


def test_another_cluster_is_refused(new_bench: Callable[..., PostgresBench]) -> None:
    """A seal of one server means nothing to another, whatever the numbers."""
    with postgres_server() as server:
        here, there = new_bench(), new_bench(Variant(), server)
        seal = there.source.seal()
        assert not here.source.holds({**seal, "horizon": 3})
        assert here.source.adopt(seal) is None
        with pytest.raises(SourceChanged, match="another database cluster"):
            here.source.seal(seal)


# --- Connections -------------------------------------------------------------------------------------


def test_no_reading_relies_on_its_session(bench: PostgresBench) -> None:
    """Behind PgBouncer a session's settings are anybody's: two readings over one connection, each its own."""
    begin = bench.source.seal()
    bench.insert("acme", at(1.5))
    first = bench.source.seal(begin)
    before = read(bench.source, on_time(0, first, begin))
    (connection,) = bench.source._database._idle
    connection.execute("SET timezone = 'Asia/Tokyo'; SET datestyle = 'SQL, DMY'; SET row_security = on")
    assert read(bench.source, on_time(0, first, begin)) == before
    assert connection in bench.source._database._idle
    assert connection.execute("SHOW timezone").fetchone() == ("Asia/Tokyo",), "nothing was left behind"
    assert connection.execute("SELECT count(*) FROM pg_prepared_statements").fetchone() == (0,)


def test_a_connection_dropped_while_idle_is_replaced(bench: PostgresBench) -> None:
    """A reading over a connection that died in the meantime succeeds over a fresh one."""
    seal = bench.source.seal()
    dropped = bench.execute(
        "SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM pg_stat_activity"
        " WHERE application_name = 'audit-exporter' AND datname = current_database()"
    )
    assert dropped >= 1
    assert bench.source.holds(seal)


def test_a_connection_dropped_in_mid_read_can_be_read_again(new_bench: Callable[..., PostgresBench]) -> None:
    """A terminated backend is a busy source, and the range reads the same afterwards."""
    bench = new_bench(Variant(block_rows=2000))
    begin = bench.source.seal()
    bench.execute(
        "INSERT INTO {table} (happened, account, note)"
        f" SELECT timestamptz '{at(1)}', 'acme', repeat('x', 1000) FROM generate_series(1, 20000)"
    )
    one = on_time(0, bench.source.seal(begin), begin)
    with closing(bench.source.read([one], None)) as blocks:
        next(blocks)
        bench.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'COPY (SELECT%{table}%'"
        )
        with pytest.raises(SourceBusy):
            list(blocks)
    assert len(read(bench.source, one)) == 20_000


def test_closing_early_ends_the_statement(bench: PostgresBench) -> None:
    """A range that nobody reads to its end is gone from the server at once, and its connection with it."""
    begin = bench.source.seal()
    bench.execute(
        "INSERT INTO {table} (happened, account, note)"
        f" SELECT timestamptz '{at(1)}', 'acme', repeat('x', 1000) FROM generate_series(1, 20000)"
    )
    one = on_time(0, bench.source.seal(begin), begin)
    started = time.monotonic()
    with closing(bench.source.read([one], None)) as blocks:
        next(blocks)
    assert time.monotonic() - started < 0.5
    assert bench.source._database._idle == []
    active = (
        "SELECT count(*) FROM pg_stat_activity WHERE state <> 'idle' AND query LIKE 'COPY (SELECT%{table}%'"
    )
    wait_until("ended", lambda: bench.execute(active) == 0)


def test_closing_early_waits_for_nobody(bench: PostgresBench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that answers nothing, not even a cancellation, keeps nobody from closing the connection."""

    def unanswered(connection: psycopg.Connection[Any], *, timeout: float) -> None:
        raise psycopg.OperationalError(f"no answer to {connection} after {timeout} s")

    begin = bench.source.seal()
    bench.execute(
        "INSERT INTO {table} (happened, account, note)"
        f" SELECT timestamptz '{at(1)}', 'acme', repeat('x', 1000) FROM generate_series(1, 20000)"
    )
    one = on_time(0, bench.source.seal(begin), begin)
    monkeypatch.setattr(psycopg.Connection, "cancel_safe", unanswered)
    with closing(bench.source.read([one], None)) as blocks:
        next(blocks)
        pid = bench.execute("SELECT pid FROM pg_stat_activity WHERE query LIKE 'COPY (SELECT%{table}%'")
        os.kill(pid, signal.SIGSTOP)
        threading.Timer(2, os.kill, (pid, signal.SIGCONT)).start()
        started = time.monotonic()
    assert time.monotonic() - started < 1


def test_a_locked_table_is_a_busy_source(bench: PostgresBench) -> None:
    """A lock is waited for as long as the settings say, and no longer."""
    source = bench.new_source(lock_timeout_s=0.1)
    seal = source.seal()
    with transaction(bench) as application:
        application.execute(f"LOCK TABLE {bench.table}")
        started = time.monotonic()
        with pytest.raises(SourceBusy, match="locked") as raised:
            read(source, on_time(0, seal, seal))
        assert time.monotonic() - started < 2
    assert "source.lock_timeout" in raised.value.hint


def test_a_statement_that_takes_too_long_is_stopped(bench: PostgresBench) -> None:
    """The hint of a statement's time limit speaks of the index and of the setting."""
    query = "SELECT r.*, pg_sleep(1)::text AS nap FROM {table} r"
    bench.insert("acme", at(1))
    source = bench.new_source(table=None, query=query.format(table=bench.table), statement_timeout_s=0.2)
    seal = source.seal()
    with pytest.raises(SourceError, match="statement timeout") as raised:
        read(source, on_time(0, seal, seal))
    assert "source.statement_timeout" in raised.value.hint
    assert not isinstance(raised.value, SourceBusy)


def test_the_clock_is_the_servers(bench: PostgresBench) -> None:
    """`now` is the database's time, in UTC."""
    there = bench.execute("SELECT clock_timestamp()")
    assert abs(bench.source.now() - there) < timedelta(seconds=5)
    assert bench.source.now().utcoffset() == timedelta(0)


def test_a_part_behind_the_late_records_does_not_look_for_them(bench: PostgresBench) -> None:
    """By xmin that look is a scan of the account's history, for every part of a window."""
    begin = bench.source.seal()
    for second in (-5, 1, 2):
        bench.insert("acme", at(second))
    one = Range("acme", window(0), bench.source.seal(begin), begin)
    keys = [key for _, key, _, _ in read(bench.source, one)]
    with bench.source._snapshot(begin, one.seal) as snapshot:
        layout = snapshot.layout(None)
        asked = [
            [branch for branch, _ in snapshot.statements(replace(one, after=key), layout)] for key in keys
        ]
    assert asked == [[Branch.LATE, Branch.ON_TIME], [Branch.ON_TIME], [Branch.ON_TIME]]
