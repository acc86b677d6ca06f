"""Every kind of ledger keeps the one contract: its rules, a person's requests, and what storage promises."""

from __future__ import annotations

import shutil
import time
from contextlib import closing
from dataclasses import replace
from functools import cache
from itertools import accumulate, count
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings

from exporter.ledger import bulk, schema
from exporter.ledger.memory import MemoryStorage
from exporter.ledger.postgres import PostgresLedgerOptions, PostgresStorage, create_postgres
from exporter.ledger.rules import new_id
from exporter.ledger.sqlite import SqliteStorage, create_sqlite
from exporter.model import QUARANTINE_BYTES, QUARANTINE_RECORDS, BadKind
from tests.contracts.ledger import BAD, BEGIN, GroupedSubject, ScopedStorage, Subject
from tests.contracts.ledger_calls import Call, Caller, calls
from tests.contracts.ledger_events import EVENT_RULES
from tests.contracts.ledger_group import GROUPS
from tests.contracts.ledger_requests import REQUESTS
from tests.contracts.ledger_rules import RULES
from tests.contracts.ledger_storage import STORAGE, WHOLE, changes_all_or_nothing
from tests.kit.ledgers import on_connect
from tests.kit.postgres import shared_postgres

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from exporter.ledger.storage import Storage


@pytest.fixture(scope="session")
def empty_ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty ledger to copy, because making one anew takes several waits for the disk."""
    path = tmp_path_factory.mktemp("ledger") / "empty.db"
    create_sqlite(path)
    return path


def memory(_empty: Path, _path: Path) -> Storage:
    return MemoryStorage()


def sqlite(empty: Path, path: Path) -> Storage:
    shutil.copyfile(empty, path)
    storage = SqliteStorage(path)
    # The contract says nothing of power cuts, and would spend its time waiting for the disk.
    on_connect(storage, "PRAGMA synchronous=OFF")
    return storage


@cache
def postgres_options() -> PostgresLedgerOptions:
    """A ledger that every test finds empty."""
    server = shared_postgres()
    options = PostgresLedgerOptions(server.url(server.new_database()))
    create_postgres(options)
    return options


def postgres(_empty: Path, _path: Path) -> Storage:
    storage = PostgresStorage(postgres_options())
    with storage.writing() as rows:
        for table in schema.TABLES:  # quicker than a database of its own for each test
            kept = "key IN ('version', 'ledger_id')" if table is schema.META else "false"
            rows._connection.execute(f"DELETE FROM {table.name} WHERE NOT {kept}")
    return storage


@pytest.fixture(params=[memory, sqlite, postgres], ids=lambda make: make.__name__)
def subject(request: pytest.FixtureRequest, empty_ledger: Path, tmp_path: Path) -> Iterator[Subject]:
    storage = request.param(empty_ledger, tmp_path / "ledger.db")
    yield Subject(storage)
    storage.close()


@pytest.mark.parametrize(
    "promise", [*RULES, *EVENT_RULES, *REQUESTS, *STORAGE], ids=lambda promise: promise.__name__
)
def test_every_ledger_keeps_the_contract(promise: Callable[[Subject], None], subject: Subject) -> None:
    promise(subject)


@pytest.mark.parametrize("promise", GROUPS, ids=lambda promise: promise.__name__)
def test_every_ledger_keeps_the_contract_of_groups(
    promise: Callable[[Subject], None], subject: Subject
) -> None:
    promise(subject)


@pytest.mark.parametrize("promise", GROUPS, ids=lambda promise: promise.__name__)
def test_a_sqlite_that_updates_rows_one_by_one_does_for_groups(
    promise: Callable[[Subject], None],
    empty_ledger: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Those before 3.33 have no other way."""
    monkeypatch.setattr(bulk, "UPDATES_FROM", (99,))
    with closing(sqlite(empty_ledger, tmp_path / "ledger.db")) as storage:
        promise(Subject(storage))


@pytest.mark.parametrize("promise", GROUPS, ids=lambda promise: promise.__name__)
def test_rows_may_take_several_statements_to_write(
    promise: Callable[[Subject], None],
    empty_ledger: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """SQLite bounds the values of one; here it has room for two rows, or for one."""
    monkeypatch.setattr(bulk, "MOST_VALUES", 48)
    with closing(sqlite(empty_ledger, tmp_path / "ledger.db")) as storage:
        promise(Subject(storage))


@pytest.mark.parametrize("promise", [*RULES, *EVENT_RULES], ids=lambda promise: promise.__name__)
def test_a_rule_does_the_same_in_a_transaction_of_several_exports(
    promise: Callable[[Subject], None], subject: Subject
) -> None:
    """Rules cannot tell the rows of a group from others."""
    promise(GroupedSubject(subject.storage))


@pytest.mark.slow
def test_calls_in_groups_leave_and_answer_what_they_do_one_by_one(subject: Subject) -> None:
    """Whatever is called, of whichever exports, and however it is put together."""
    numbers = count()

    @settings(deadline=None, max_examples=40)
    @given(calls)
    def the_same(made: list[Call]) -> None:
        prefix = f"e{next(numbers):04d}"
        alone, grouped = Caller(MemoryStorage(), prefix), Caller(subject.storage, prefix)
        alone.one_by_one(made)
        grouped.in_groups(made)
        assert grouped.answers == alone.answers
        moments = list(accumulate((call.pause for call in made), initial=BEGIN))
        assert grouped.left(moments) == alone.left(moments)

    the_same()


def test_memory_keeps_no_more_bad_records_of_all_plans_than_a_ledger_of_one() -> None:
    """A dry run over years of unreadable records ends as any other."""
    big = replace(BAD, body=bytes(QUARANTINE_BYTES // 2))
    refused = replace(big, kind=BadKind.REFUSED)
    for half in ([big], [BAD] * (QUARANTINE_RECORDS // 2)):
        with MemoryStorage().writing() as rows:
            for plan in ("1", "2", "3"):
                rows.insert_bad_records(plan, half)
            assert [rows.bad_records(plan) for plan in ("1", "2", "3")] == [half, half, []]
            rows.insert_bad_records("3", [refused])
            assert rows.bad_records("3") == [refused]


@pytest.mark.parametrize("promise", [*RULES, *EVENT_RULES, *REQUESTS], ids=lambda promise: promise.__name__)
def test_a_rule_touches_nothing_beside_the_export_that_it_names(promise: Callable[[Subject], None]) -> None:
    """So that a storage may let transactions of other exports go on at the same time."""
    promise(Subject(ScopedStorage(MemoryStorage())))


@pytest.mark.parametrize("rule", WHOLE)
def test_every_rule_changes_all_or_nothing(rule: str, subject: Subject) -> None:
    changes_all_or_nothing(subject, rule)


def test_ids_grow_with_time_and_are_nobody_elses() -> None:
    """So the rows of a run lie side by side in every index, and not each on a page of its own."""
    moments = iter(range(1_000_000_000, 2_000_000_000, 1_000))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time_ns", lambda: next(moments))
        ids = [new_id() for _ in range(100)]
    assert ids == sorted(ids)
    assert {len(one) for one in ids} == {32}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time_ns", lambda: 1_000_000_000)
        assert len({new_id() for _ in range(1000)}) == 1000
