"""A table is looked at anew when, and only when, something about it has changed."""

from __future__ import annotations

from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

import pytest

from exporter.errors import SourceError
from exporter.model import Range
from exporter.sources.postgres.relation import inspect
from tests.contracts.source import at, ids, read, window
from tests.kit.postgres_bench import PostgresBench, Variant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from exporter.sources.postgres import PostgresSource
    from exporter.sources.postgres.relation import Relation


@pytest.fixture(name="new_bench")
def _new_bench() -> Iterator[Callable[..., PostgresBench]]:
    with ExitStack() as stack:
        yield lambda *arguments: stack.enter_context(closing(PostgresBench(*arguments)))


@pytest.fixture(name="looks")
def _looks(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """One for each look at a whole table."""
    looks: list[object] = []

    def noted(*arguments: object) -> Relation:
        looks.append(arguments)
        return inspect(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("exporter.sources.postgres.inspector.inspect", noted)
    return looks


def relation(source: PostgresSource) -> tuple[object, object]:
    """What a source takes its table for, but for SQL, which compares by identity."""
    with source._snapshot() as snapshot:
        return snapshot.relation.columns, snapshot.relation.table


def test_a_table_that_stays_is_looked_at_once(
    new_bench: Callable[..., PostgresBench], looks: list[object]
) -> None:
    """Records, vacuums and statistics change nothing about a table."""
    bench = new_bench()
    begin = bench.source.seal()
    for seconds in range(3):
        bench.insert("acme", at(seconds))
        bench.execute("VACUUM ANALYZE {table}")
        seal = bench.source.seal(begin)
        assert len(read(bench.source, Range("acme", window(0), seal, begin))) == seconds + 1
    assert len(looks) == 1


CHANGES = {
    "a new column": "ALTER TABLE {table} ADD COLUMN more text",
    "a column less": "ALTER TABLE {table} DROP COLUMN note",
    "another name of a column": "ALTER TABLE {table} RENAME COLUMN note TO remark",
    "another type": "ALTER TABLE {table} ALTER COLUMN note TYPE varchar(99)",
    "another type in the same file": "ALTER TABLE {table} ALTER COLUMN account TYPE varchar",
    "a required column": "ALTER TABLE {table} ALTER COLUMN note SET NOT NULL",
    "a column that may be NULL": "ALTER TABLE {table} ALTER COLUMN export_xid DROP NOT NULL",
    "a new file": "VACUUM FULL {table}",
    "an emptied file": "TRUNCATE {table}",
    "an index less": "DROP INDEX {table}_account_happened_id_idx",
    "an index that is not valid": """
        UPDATE pg_index SET indisvalid = false
        WHERE indexrelid = '{table}_account_happened_id_idx'::regclass
    """,
    "a child": "CREATE TABLE {table}_child () INHERITS ({table})",
    "another table": """
        BEGIN; ALTER TABLE {table} RENAME TO {table}_old;
        CREATE TABLE {table} (LIKE {table}_old INCLUDING DEFAULTS); GRANT SELECT ON {table} TO reader; COMMIT
    """,
    "a view": """
        BEGIN; ALTER TABLE {table} RENAME TO {table}_old;
        CREATE VIEW {table} AS SELECT *, 1 AS one FROM {table}_old; GRANT SELECT ON {table} TO reader; COMMIT
    """,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_every_change_is_noticed(new_bench: Callable[..., PostgresBench], change: str) -> None:
    """A source that knew the table takes it for the same as one that sees it for the first time."""
    bench = new_bench()
    before = relation(bench.source)
    bench.execute(change)
    after = relation(bench.source)
    assert after == relation(bench.new_source())
    assert after != before


def test_another_schema_under_the_same_name(new_bench: Callable[..., PostgresBench]) -> None:
    """A schema that is renamed, or put in the place of another, is the one that is read."""
    bench = new_bench()
    old, new = f"old_{bench.number}", f"new_{bench.number}"
    for schema in (old, new):
        bench.execute(f"CREATE SCHEMA {schema}; GRANT USAGE ON SCHEMA {schema} TO reader")
        bench.execute(f"CREATE TABLE {schema}.records (LIKE {{table}} INCLUDING ALL)")
        bench.execute(f"GRANT SELECT ON {schema}.records TO reader")
    source = bench.new_source(table=f"{old}.records")
    begin = source.seal()
    bench.execute(f"ALTER SCHEMA {old} RENAME TO aside_{bench.number}")
    with pytest.raises(SourceError, match="no table"):
        source.columns()
    bench.execute(f"ALTER SCHEMA {new} RENAME TO {old}")
    bench.execute(f"INSERT INTO {old}.records (id, happened, account) VALUES (7, '{at(1)}', 'acme')")
    assert ids(read(source, Range("acme", window(0), source.seal(begin), begin))) == ["7"]


def test_a_failed_reading_is_followed_by_a_look(
    new_bench: Callable[..., PostgresBench], looks: list[object]
) -> None:
    """What went wrong may come of what was known, so that the next reading looks anew."""
    bench = new_bench()
    relation(bench.source)
    with pytest.raises(SourceError), bench.source._snapshot() as snapshot:
        snapshot.session.connection.execute("SELECT 1 / 0")
    relation(bench.source)
    assert len(looks) == 2


def test_a_query_is_looked_at_every_time(new_bench: Callable[..., PostgresBench]) -> None:
    """Of a query nothing tells whether the tables behind it have changed."""
    bench = new_bench(Variant(query="SELECT * FROM {table}"))
    bench.source.columns()
    bench.execute("ALTER TABLE {table} ADD COLUMN more text")
    assert "more" in bench.source.columns()
