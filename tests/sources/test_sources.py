"""Every source keeps the contract; and the source in memory behaves as a database with transactions."""

from __future__ import annotations

import itertools
import sqlite3
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from exporter.columns import Roles
from exporter.errors import SourceChanged
from exporter.model import Branch, Range
from exporter.sources.memory import MemorySource
from exporter.sources.sqlite import SqliteSource
from tests.contracts.source import BEGIN, CONTRACT, Bench, at, ids, read, window
from tests.kit.postgres_bench import VARIANTS, PostgresBench, Variant, two_servers

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from _pytest.mark import ParameterSet

ROLES = Roles(id="id", time="happened", account="account")
SCHEMA = """
    CREATE TABLE records (
        id INTEGER PRIMARY KEY AUTOINCREMENT, happened {time}, account {account}, note TEXT
    );
    CREATE INDEX by_time ON records (account, happened, id);
    CREATE INDEX by_account ON records (account);
"""


class MemoryBench:
    """Each record in a transaction of its own."""

    def __init__(self) -> None:
        self.source = MemorySource(lambda: BEGIN, extra=("note",))

    def insert(self, account: str, time: datetime | None, note: str = "") -> str:
        transaction = self.source.begin()
        identifier = self.source.insert(transaction, account, time, note=note)
        self.source.commit(transaction)
        return str(identifier)


class SqliteBench:
    """A database file; ``store`` turns times, and None, into what the column holds."""

    def __init__(
        self, path: Path, schema: str, store: Callable[[datetime | None], object], source: SqliteSource
    ) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.executescript("PRAGMA synchronous = OFF;" + schema)
        self._store = store
        self.source = source

    def insert(self, account: str, time: datetime | None, note: str = "") -> str:
        cursor = self._connection.execute(
            "INSERT INTO records (happened, account, note) VALUES (?, ?, ?)",
            (self._store(time), account, note),
        )
        return str(cursor.lastrowid)


def canonical(time: datetime | None) -> object:
    return None if time is None else f"{time:%Y-%m-%dT%H:%M:%S.%fZ}"


def in_many_forms() -> Callable[[datetime | None], object]:
    """Canonical times of every separator, length and zone; unreadable ones of all kinds."""
    separators, zones = itertools.cycle(" T"), itertools.cycle(["Z", "", "+00:00", "Z"])
    digits = itertools.cycle([9, 6, 7])
    strange = itertools.cycle([None, "yesterday", b"2026-11-19T23:59:59Z", 1.5, "2026-02-31T00:00:00Z", ""])

    def store(time: datetime | None) -> object:
        if time is None:
            return next(strange)
        whole = f"{time:%Y-%m-%d}{next(separators)}{time:%H:%M:%S}"
        fraction = f".{time.microsecond * 1000:09}"[: next(digits) + 1] if time.microsecond else ""
        return whole + fraction + next(zones)

    return store


def as_microseconds(time: datetime | None) -> object:
    return None if time is None else (time - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def as_seconds(time: datetime | None) -> object:
    return "2026-11-19T23:59:59Z" if time is None else time.timestamp()


@pytest.fixture(params=["memory", "text", "forms", "integers", "reals", "reused", "view", "query"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Bench]:
    numbers = itertools.count()
    schema = SCHEMA.format(time="TEXT", account="TEXT COLLATE NOCASE")

    def sqlite(
        schema: str = schema,
        store: Callable[[datetime | None], object] = canonical,
        *,
        table: str | None = "records",
        query: str | None = None,
        unit: str | None = None,
    ) -> SqliteBench:
        path = tmp_path / f"{next(numbers)}.db"
        source = SqliteSource(path, roles=ROLES, table=table, query=query, time_unit=unit, block_rows=3)
        return SqliteBench(path, schema, store, source)

    makers: dict[str, Callable[[], Bench]] = {
        "memory": MemoryBench,
        "text": sqlite,
        "forms": lambda: sqlite(SCHEMA.format(time="DATETIME", account="TEXT"), in_many_forms()),
        "integers": lambda: sqlite(SCHEMA.format(time="INTEGER", account="TEXT"), as_microseconds, unit="us"),
        "reals": lambda: sqlite(SCHEMA.format(time="REAL", account="TEXT"), as_seconds, unit="s"),
        "reused": lambda: sqlite(
            schema.replace("AUTOINCREMENT", "").replace("CREATE INDEX", "-- CREATE INDEX")
        ),
        "view": lambda: sqlite(schema + "CREATE VIEW seen AS SELECT * FROM records;", table="seen"),
        "query": lambda: sqlite(table=None, query="SELECT * FROM records; "),
    }
    return makers[request.param]


@pytest.mark.parametrize("promise", CONTRACT, ids=lambda promise: promise.__name__.removeprefix("test_"))
def test_contract(promise: Callable[[Callable[[], Bench]], None], make: Callable[[], Bench]) -> None:
    """Every source keeps every promise of the contract."""
    promise(make)


HISTORIES = ("consecutive_windows_hold_every_record_once", "many_ranges_at_once_are_what_each_is_alone")


def _on_postgres(name: str, promise: Callable[[Callable[[], Bench]], None]) -> ParameterSet:
    """A promise for a variant; those about many histories take seconds, so one variant has them quick."""
    promised = promise.__name__.removeprefix("test_")
    is_slow = promised in HISTORIES and name != "xid8"
    marks = [pytest.mark.slow] if is_slow else []
    return pytest.param(VARIANTS[name], promise, id=f"{name}-{promised}", marks=marks)


@pytest.mark.parametrize(
    ("variant", "promise"), list(itertools.starmap(_on_postgres, itertools.product(VARIANTS, CONTRACT)))
)
def test_postgres_contract(variant: Variant, promise: Callable[[Callable[[], Bench]], None]) -> None:
    """PostgreSQL keeps every promise of the contract, whatever the table is like."""
    servers = two_servers(icu=variant.icu)  # in turn: what one of them sealed, the other has not reached
    with ExitStack() as stack:
        promise(lambda: stack.enter_context(closing(PostgresBench(variant, next(servers)))))


def test_a_running_transaction_holds_the_horizon_back() -> None:
    """A record that becomes visible after its window was sealed comes with the next one, as late."""
    source = MemoryBench().source
    begin = source.seal()
    slow, quick = source.begin(), source.begin()
    slow_id = source.insert(slow, "acme", at(1))
    quick_id = source.insert(quick, "acme", at(2))
    source.commit(quick)
    first = Range("acme", window(0), source.seal(begin), begin)
    assert read(source, first) == []
    source.commit(slow)
    second = Range("acme", window(1), source.seal(first.seal), first.seal)
    assert read(source, first) == []
    late = read(source, second)
    assert ids(late) == [str(slow_id), str(quick_id)]
    assert {branch for branch, _, _, _ in late} == {Branch.LATE}


def test_a_transaction_rolled_back_leaves_nothing() -> None:
    """The records of a transaction that was rolled back are never visible."""
    source = MemoryBench().source
    transaction = source.begin()
    source.insert(transaction, "acme", at(1))
    source.rollback(transaction)
    assert read(source, Range("acme", window(0), source.seal())) == []


def test_a_fail_over_is_noticed() -> None:
    """After a fail-over no earlier seal holds."""
    source = MemoryBench().source
    seal = source.seal()
    source.begin()
    source.fail_over()
    assert not source.holds(seal)
    with pytest.raises(SourceChanged, match="not the one"):
        source.seal(seal)
    transaction = source.begin()
    source.insert(transaction, "acme", at(1))
    source.commit(transaction)
    assert len(read(source, Range("acme", window(0), source.seal()))) == 1


def test_rows_can_change_and_go() -> None:
    """An update keeps a record in its range with other content; a delete takes it out."""
    bench = MemoryBench()
    first, second = (int(bench.insert("acme", at(seconds), "old")) for seconds in (1, 2))
    one = Range("acme", window(0), bench.source.seal())
    bench.source.update(first, "acme", at(3), note="new")
    assert [note for _, _, _, note in read(bench.source, one)] == [b'"old"', b'"new"']
    bench.source.delete(second, "acme")
    assert ids(read(bench.source, one)) == [str(first)]
