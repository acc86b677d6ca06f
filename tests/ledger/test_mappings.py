"""A mapping is kept once for all plans that have it, and read once for all that are listed."""

from __future__ import annotations

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from exporter.errors import LedgerError
from exporter.ledger import mappings
from exporter.ledger.sql import SqlRows
from exporter.model import Rendering
from tests.contracts.ledger import NAME, Subject
from tests.contracts.ledger_storage import undone
from tests.kit.ledgers import noted, sqlite

if TYPE_CHECKING:
    from pathlib import Path

    from exporter.ledger.storage import Storage
    from exporter.model import Json, Plan
    from tests.kit.ledgers import Opens


def large() -> Json:
    """A mapping of the size of `ocsf`, which no other test has."""
    return {"fields": ["object", [[f"{uuid4()}", ["column", "x" * 50, "text"]] for _ in range(250)]]}


def planned(subject: Subject, mapping: Json, name: str = NAME) -> Plan:
    """A new plan of an export with this mapping."""
    export = subject.standing(name).export
    draft = replace(subject.draft(), rendering=Rendering("own", mapping))
    return subject.ledger.plan(export, replace(draft, name=f"{name}-{export.sequence}"))


def value_of(storage: Storage, statement: str) -> int:
    with storage.reading() as rows:
        assert isinstance(rows, SqlRows)
        ((value,),) = rows._connection.execute(statement)
    return int(value)


def count(storage: Storage) -> int:
    """How many mappings there are."""
    return value_of(storage, "SELECT count(*) FROM mappings")


def test_a_year_of_plans_holds_each_mapping_once(opens: Opens) -> None:
    """A plan's own row stays small, whatever its format; and each plan comes back with its mapping."""
    storage = opens()
    subject, kinds = Subject(storage), [large(), large()]
    subject.begin()
    for number in range(20):
        plan = planned(subject, kinds[number % 2])
        assert subject.standing().open_plan == plan
        subject.deliver(plan)
    assert count(storage) == 2
    mappings._cache.clear()
    for number in range(20):
        assert subject.ledger.delivered(NAME, number + 1).rendering.mapping == kinds[number % 2]
    assert value_of(storage, "SELECT max(length(rendering)) FROM plans") < 500


def test_all_exports_are_listed_with_one_statement_for_their_mappings(opens: Opens) -> None:
    """However many they are; the second time with none."""
    storage = opens()
    subject, kinds = Subject(storage), [large() for _ in range(3)]
    subject.begin()
    for number in range(12):
        subject.ledger.begin(f"e{number}", "acme", f"claim {number}", subject.clock.now, {})
        planned(subject, kinds[number % 3], f"e{number}")
    mappings._cache.clear()
    for most in (1, 0):
        with noted() as asked:
            standings = subject.ledger.standings()
        assert len([text for text, _ in asked if "FROM mappings" in text]) == most
        plans = [standing.open_plan for standing in standings.values() if standing.open_plan]
        assert len(plans) == 12
        assert {plan.export: plan.rendering.mapping for plan in plans} == {
            f"e{number}": kinds[number % 3] for number in range(12)
        }


def test_more_mappings_than_are_remembered_come_back_too(
    opens: Opens, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory holds so many."""
    monkeypatch.setattr(mappings, "MOST_CACHED", 3)
    storage = opens()
    subject, kinds = Subject(storage), [large() for _ in range(5)]
    subject.begin()
    for number, kind in enumerate(kinds):
        subject.ledger.begin(f"e{number}", "acme", f"claim {number}", subject.clock.now, {})
        planned(subject, kind, f"e{number}")
    mappings._cache.clear()
    for _ in range(2):
        plans = {one.export.name: one.open_plan for one in subject.ledger.standings().values()}
        assert [plan and plan.rendering.mapping for plan in plans.values() if plan] == kinds
    assert len(mappings._cache) == 3


def test_processes_that_plan_with_one_new_mapping_at_the_same_time_do_no_harm(opens: Opens) -> None:
    """Each has connections of its own, and all of them find it missing."""
    mapping, ready = large(), threading.Barrier(4)
    first = Subject(opens())
    first.begin()
    names = [f"e{number}" for number in range(4)]
    for name in names:
        first.ledger.begin(name, "acme", f"claim of {name}", first.clock.now, {})
    subjects = [Subject(opens()) for _ in names]

    def plan(subject: Subject, name: str) -> Plan:
        ready.wait(30)
        return planned(subject, mapping, name)

    with ThreadPoolExecutor(4) as threads:
        made = list(threads.map(plan, subjects, names))
    assert [one.rendering.mapping for one in made] == [mapping] * 4
    assert count(first.storage) == 1


def test_a_plan_that_fails_leaves_no_mapping(opens: Opens) -> None:
    """It is written in the plan's own transaction, and the next plan writes it."""
    storage = opens()
    subject, mapping = Subject(storage), large()
    subject.begin()
    plan = subject.deliver(planned(subject, large()))
    with undone(storage) as rows:
        rows.insert_plan(replace(plan, id="another", rendering=Rendering("own", mapping)))
        assert rows.plan("another") is not None
    assert count(storage) == 1
    assert planned(subject, mapping).rendering.mapping == mapping
    mappings._cache.clear()
    assert subject.standing().open_plan is not None


def test_a_plan_whose_mapping_is_lost_is_no_plan(opens: Opens) -> None:
    """It must not be rendered in another form: the ledger is damaged, and says what to do."""
    storage = opens()
    subject = Subject(storage)
    subject.begin()
    planned(subject, large())
    with storage.writing() as rows:
        assert isinstance(rows, SqlRows)
        rows._connection.execute("DELETE FROM mappings")
    mappings._cache.clear()
    with pytest.raises(LedgerError, match="without their mapping") as lost:
        subject.standing()
    assert "ledger restored" in lost.value.hint


def test_a_mapping_from_before_a_backup_is_written_again(tmp_path: Path) -> None:
    """A process that outlives the exchange of its file relies on nothing that the old file had."""
    opened = sqlite(tmp_path)
    path, mapping = tmp_path / "ledger.db", large()
    with closing(opened()) as storage:
        Subject(storage).begin()
    shutil.copyfile(path, tmp_path / "backup.db")
    with closing(opened()) as storage:
        planned(Subject(storage), mapping)
        assert Subject(storage).standing().open_plan is not None
    shutil.copyfile(tmp_path / "backup.db", path)
    with closing(opened()) as storage:
        planned(Subject(storage), mapping)
        mappings._cache.clear()
        plan = Subject(storage).standing().open_plan
    assert plan is not None
    assert plan.rendering.mapping == mapping
