"""The system-xmin strategy: exact when transaction numbers come round, and for append-only tables alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from itertools import pairwise
from typing import TYPE_CHECKING, Final, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg import sql

from exporter.errors import SourceBusy, SourceError
from exporter.model import Range
from exporter.sources.postgres.seal import FIRST_XID, XIDS, xmin_after
from tests.contracts.source import at, ids, read, window
from tests.kit.postgres import postgres_server, shared_postgres
from tests.kit.postgres_bench import TABLE, PostgresBench, Variant
from tests.kit.processes import run_tool, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from exporter.model import Seal
    from exporter.sources.postgres import PostgresSource
    from tests.kit.postgres import Postgres

XMIN: Final = Variant(commit=None, schema=TABLE)
CLOG_PAGE_XIDS: Final = 32_768
CLOG_SEGMENT_XIDS: Final = 32 * CLOG_PAGE_XIDS


@pytest.fixture(name="new_bench")
def _new_bench() -> Iterator[Callable[..., PostgresBench]]:
    with ExitStack() as stack:
        yield lambda *arguments: stack.enter_context(closing(PostgresBench(*arguments)))


# --- Numbers -----------------------------------------------------------------------------------------


@st.composite
def _worlds(draw: st.DrawFn) -> tuple[int, int, list[int]]:
    """A horizon, an xmax, and rows' transactions, none of whose numbers comes round between the two."""
    xmax = draw(st.integers(FIRST_XID, 2**40) | st.integers(-50, 50).map(lambda near: 3 * XIDS + near))
    horizon = max(FIRST_XID, xmax - draw(st.integers(0, 2**31 - 1) | st.integers(0, 20)))
    near = st.integers(-60, 60).map(lambda distance: horizon + distance)
    anywhere = st.integers(FIRST_XID, xmax) | near
    rows = draw(st.lists(anywhere.filter(lambda xid: FIRST_XID <= xid < xmax), max_size=30))
    comes_round = [xid for xid in rows if xid < horizon and (xid - horizon) % XIDS < xmax - horizon]
    return horizon, xmax, [xid for xid in rows if xid not in comes_round and xid % XIDS >= FIRST_XID]


def test_the_sql_agrees_with_whole_numbers() -> None:
    """The predicate over 32 bits says of every row what a comparison of the whole numbers would say."""
    with closing(shared_postgres().connect()) as connection:

        @settings(max_examples=300, deadline=None)
        @given(world=_worlds())
        def check(world: tuple[int, int, list[int]]) -> None:
            horizon, xmax, rows = world
            values = sql.SQL(", ").join(
                sql.SQL("({}, {}::bigint)").format(number, str(xid % XIDS)) for number, xid in enumerate(rows)
            )
            statement = sql.SQL("SELECT {} FROM (VALUES {}) AS rows (number, x) ORDER BY number").format(
                xmin_after(horizon, xmax, sql.SQL("x")), values
            )
            found = [after for (after,) in connection.execute(statement)] if rows else []
            assert found == [xid >= horizon for xid in rows]

        check()


def test_frozen_rows_are_visible_for_good() -> None:
    """1 and 2, which older versions gave to rows beyond every snapshot, come after no horizon."""
    with closing(shared_postgres().connect()) as connection:
        for x in (1, 2):
            term = xmin_after(2**32 - 1, 2**32 + 10, sql.SQL(f"{x}::bigint"))
            assert connection.execute(sql.SQL("SELECT {}").format(term)).fetchone() == (False,)


# --- Servers at the end of their numbers -------------------------------------------------------------


def set_next_xid(server: Postgres, xid: int) -> None:
    """Make a stopped server go on at this transaction, as if all before it had been."""
    epoch, low = divmod(xid, XIDS)
    segment = server.data / "pg_xact" / f"{low // CLOG_SEGMENT_XIDS:04X}"
    if not segment.exists():
        run_tool(["dd", "if=/dev/zero", f"of={segment}", "bs=8192", "count=32"], server.data, server._user)
    numbers = ["-x", str(low), "-e", str(epoch)]
    run_tool([server._binaries / "pg_resetwal", *numbers, "-f", server.data], server.data, server._user)


def moved(bench: PostgresBench, xid: int) -> None:
    """Let the server of a bench be as old as that; what there is was frozen long ago."""
    server = bench.server
    for database in ("postgres", bench.database):
        with closing(server.connect(database)) as connection:
            connection.execute("VACUUM (FREEZE)")
    server.stop()
    set_next_xid(server, xid)
    server.start()


def on_time(number: int, seal: Seal, previous: Seal) -> Range:
    return Range("acme", window(number), seal, previous)


def next_xid(server: Postgres) -> int:
    with closing(server.connect()) as connection:
        row = connection.execute("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint").fetchone()
        return cast("int", row[0])  # type: ignore[index]


def alias_of(seal: Seal) -> int:
    return cast("int", seal["alias"])


def spend(server: Postgres, transactions: int) -> None:
    """Use up transaction numbers."""
    with closing(server.connect()) as connection:
        for _ in range(transactions):
            connection.execute("SELECT pg_current_xact_id()")


def windows(source: PostgresSource, seals: list[Seal]) -> list[list[str]]:
    return [
        ids(read(source, on_time(number, seal, previous)))
        for number, (previous, seal) in enumerate(pairwise(seals))
    ]


def test_windows_across_the_wrap_around(new_bench: Callable[..., PostgresBench]) -> None:
    """Windows sealed before, at and after the 32nd bit's end hold every record once, old ones in none."""
    with postgres_server(autovacuum="off") as server:
        bench = new_bench(XMIN, server)
        old = bench.insert("acme", at(-5))
        moved(bench, XIDS - 4)
        with closing(server.connect(bench.database)) as application:
            seals, given_out = [bench.source.seal()], []
            for number in range(4):
                given_out += [
                    [bench.insert("acme", at(10 * number + 1), connection=application)] for _ in "ab"
                ]
                seals.append(bench.source.seal(seals[-1]))
        assert next_xid(server) > XIDS
        found = windows(bench.source, seals)
        assert [one for part in found for one in part] == [one for part in given_out for one in part]
        assert old not in [one for part in found for one in part]


def test_numbers_that_come_round_stop_the_source(new_bench: Callable[..., PostgresBench]) -> None:
    """When a new transaction is about to get the number of a row that is there, the source stops, in time."""
    with postgres_server(autovacuum="off") as server:
        bench = new_bench(XMIN, server)
        bench.insert("acme", at(-5))
        row_xid = next_xid(server) - 1
        moved(bench, XIDS + row_xid - 20)
        seal = bench.source.seal()
        assert alias_of(seal) == XIDS + row_xid
        spend(server, 10)
        with closing(server.connect(bench.database)) as application:
            record = bench.insert("acme", at(1), connection=application)
        following = bench.source.seal(seal)
        assert ids(read(bench.source, on_time(0, following, seal))) == [record]
        spend(server, 20)
        assert not bench.source.holds(seal)
        for attempt in (
            lambda: read(bench.source, on_time(0, following, seal)),
            lambda: bench.source.seal(following),
        ):
            with pytest.raises(SourceError, match="come round") as raised:
                attempt()
            assert "columns.commit" in raised.value.hint


def test_a_first_seal_waits_where_it_cannot_tell(new_bench: Callable[..., PostgresBench]) -> None:
    """Beyond the first round, a row between horizon and xmax may be old or new: the first seal waits."""
    with postgres_server(autovacuum="off") as server:
        bench = new_bench(XMIN, server)
        for _ in range(3):
            bench.insert("acme", at(-5))
        old_xid = next_xid(server) - 2
        moved(bench, XIDS + old_xid - 1)
        source = bench.new_source(seal_wait_s=0.0)
        with closing(server.connect(bench.database, autocommit=False)) as running:
            running.execute("SELECT pg_current_xact_id()")  # the horizon stays below the old row's number
            spend(server, 3)
            with pytest.raises(SourceBusy, match="still running"):
                source.seal()
        assert source.holds(source.seal())


def test_numbers_may_come_round_during_the_wait(new_bench: Callable[..., PostgresBench]) -> None:
    """A first seal whose wait outlasts the numbers that were left stops the source, too."""
    with postgres_server(autovacuum="off") as server:
        bench = new_bench(XMIN, server)
        bench.insert("acme", at(-5))
        row_xid = next_xid(server) - 1
        moved(bench, XIDS + row_xid - 5)
        source = bench.new_source(seal_wait_s=30.0)
        with (
            closing(server.connect(bench.database, autocommit=False)) as running,
            ThreadPoolExecutor(1) as another,
        ):
            running.execute("SELECT pg_current_xact_id()")
            sealing = another.submit(source.seal)
            wait_until("waiting", lambda: bool(source._database._idle) or sealing.done())
            spend(server, 10)
            running.commit()
            with pytest.raises(SourceError, match="come round"):
                sealing.result()


def test_an_alias_that_is_near_is_looked_for_again(new_bench: Callable[..., PostgresBench]) -> None:
    """A row that would stop the source stops it no longer once retention has deleted it."""
    with postgres_server(autovacuum="off") as server:
        bench = new_bench(XMIN, server)
        bench.insert("acme", at(-5), "first")
        row_xid = next_xid(server) - 1
        spend(server, 1000)
        bench.insert("acme", at(-4), "second")
        moved(bench, XIDS + row_xid - 100)
        seal = bench.source.seal()
        assert alias_of(seal) == XIDS + row_xid
        with closing(server.connect(bench.database)) as application:
            application.execute(f"DELETE FROM {bench.table} WHERE note = 'first'")
        following = bench.source.seal(seal)
        assert alias_of(following) > XIDS + row_xid + 900


# --- Append-only tables ------------------------------------------------------------------------------

OWNED: Final = """
    CREATE ROLE {table}_owner NOLOGIN; CREATE ROLE {table}_app LOGIN;
    ALTER TABLE {table} OWNER TO {table}_owner; GRANT SELECT, INSERT ON {table} TO {table}_app;
"""
REFUSING: Final = """
    CREATE FUNCTION {table}_no() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN /* return new */ RAISE EXCEPTION 'append-only, no return'; END $$;
    CREATE TRIGGER no BEFORE UPDATE ON {table} FOR EACH %s EXECUTE FUNCTION {table}_no();
"""
TOUCHING: Final = """
    CREATE FUNCTION {table}_touch() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN IF NEW.id < 0 THEN RAISE EXCEPTION 'no'; END IF; NEW.note := 'x'; RETURN NEW; END $$;
    CREATE TRIGGER touch BEFORE UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION {table}_touch();
"""
MEMBER: Final = "CREATE ROLE {table}_dba LOGIN; GRANT {table}_owner TO {table}_dba;"


@pytest.mark.parametrize(
    ("schema", "who"),
    [
        pytest.param(OWNED, None, id="nobody can log in as the owner"),
        pytest.param("", "postgres", id="the owner can"),
        pytest.param("REVOKE UPDATE ON {table} FROM postgres", None, id="not if revoked"),
        pytest.param(OWNED + MEMBER, "{table}_owner", id="a member of the owner can"),
        pytest.param(OWNED + "GRANT UPDATE ON {table} TO {table}_app", "{table}_app", id="granted"),
        pytest.param(OWNED + "GRANT UPDATE (note) ON {table} TO {table}_app", "{table}_app", id="a column"),
        pytest.param(OWNED + "GRANT UPDATE ON {table} TO PUBLIC", "PUBLIC", id="to everybody"),
        pytest.param(OWNED + "GRANT pg_write_all_data TO {table}_app", "pg_write_all_data", id="all data"),
        pytest.param(REFUSING % "ROW", None, id="row trigger"),
        pytest.param(REFUSING % "STATEMENT", None, id="statement trigger"),
        pytest.param(REFUSING % "ROW" + "ALTER TABLE {table} DISABLE TRIGGER no", "postgres", id="disabled"),
        pytest.param(
            (REFUSING % "ROW").replace("UPDATE ON", "UPDATE OF note ON"), "postgres", id="one column"
        ),
        pytest.param(TOUCHING, "postgres", id="a trigger that lets it pass"),
        pytest.param("CREATE RULE no AS ON UPDATE TO {table} DO INSTEAD NOTHING", None, id="rule"),
        pytest.param(
            "CREATE RULE no AS ON UPDATE TO {table} WHERE OLD.id > 9 DO INSTEAD NOTHING",
            "postgres",
            id="some",
        ),
    ],
)
def test_a_table_that_is_updated_is_refused(
    new_bench: Callable[..., PostgresBench], schema: str, who: str | None
) -> None:
    """By xmin a table is sealed if nobody can update it, or if the operator states that nobody does."""
    bench = new_bench(XMIN)
    try:
        if schema:
            bench.execute(schema)
        source = bench.new_source(append_only=False)
        if who is None:
            assert source.holds(source.seal())
        else:
            with pytest.raises(SourceError, match=f"updated by {who.format(table=bench.table)}$") as raised:
                source.seal()
            assert "source.append_only: true" in raised.value.hint
            assert "source prepare" in raised.value.hint
        assert bench.source.holds(bench.source.seal())
    finally:
        bench.execute("DROP TABLE {table}")
        for role in ("app", "dba", "owner"):
            bench.execute(f"DROP ROLE IF EXISTS {{table}}_{role}")
