"""Where exports stand when their step begins: as a run found them, or as a look finds them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from exporter.errors import NameTaken
from exporter.pipeline import Ready
from exporter.steps import Delivered
from tests.test_groups import HOUR, Stand, Watched, kinds, transactions_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from exporter.beginning import Known
    from exporter.steps import Prepared


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    with Watched(tmp_path) as workspace:
        yield Stand(workspace)


@pytest.fixture
def transactions(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    return transactions_of(stand, monkeypatch)


def known(stand: Stand) -> Known:
    """What a run would have found."""
    standings = stand.ledger.standings()
    return {job.name: standings.get(job.name) for job in stand.jobs}


def deliver(stand: Stand, answers: dict[str, Prepared]) -> None:
    ready = [one for one in answers.values() if isinstance(one, Ready)]
    assert set(kinds(stand.deliver(ready)).values()) == {Delivered}


def test_exports_that_are_known_take_their_step_without_a_look(stand: Stand, transactions: list[int]) -> None:
    """One transaction to begin and one to plan; in the next run one to plan."""
    stand.insert(*stand.accounts)
    deliver(stand, stand.prepare(known=known(stand)))
    assert transactions == [5] * 4  # with attempts and commits
    transactions.clear()
    stand.insert(*stand.accounts, minutes=60)
    stand.now += HOUR
    deliver(stand, stand.prepare(known=known(stand)))
    assert transactions == [5] * 3
    assert len(stand.store.objects) == 10


def test_an_export_that_has_moved_since_it_was_known_is_looked_at(stand: Stand) -> None:
    """What another process delivered meanwhile is not delivered again, and what comes next is."""
    stand.insert(*stand.accounts)
    before = known(stand)
    deliver(stand, stand.prepare(stand.jobs[:2]))
    answers = stand.prepare(known=before)
    assert kinds(answers) == {"a": type(None), "b": type(None), "c": Ready, "d": Ready, "e": Ready}
    deliver(stand, answers)
    assert len(stand.store.objects) == 5


def test_an_open_plan_is_looked_at_however_well_it_is_known(stand: Stand, transactions: list[int]) -> None:
    """Another process may have delivered it, or a part of its events."""
    stand.insert(*stand.accounts)
    ready = stand.prepare()
    before = known(stand)
    deliver(stand, ready)
    transactions.clear()
    assert set(kinds(stand.prepare(known=before)).values()) == {type(None)}
    assert transactions == [5]


def test_an_export_that_was_paused_since_it_was_known_gets_no_plan(stand: Stand) -> None:
    stand.insert("a")
    stand.prepare([])
    stand.pipeline.begin(stand.jobs[0])
    before = known(stand)
    with stand.ledger.writing("a") as rows:
        export = rows.export("a")
        assert export is not None
        rows.update_export(replace(export, paused=True))
    assert kinds(stand.prepare(stand.jobs[:1], known=before)) == {"a": type(None)}


def test_an_export_that_began_elsewhere_meanwhile_is_held_to_its_place(stand: Stand) -> None:
    """Another process, with another configuration, was first: the names go where this one has them."""
    stand.insert("a")
    before = known(stand)
    stand.another().begin(replace(stand.jobs[0], claim="memory://other/audit/a"))
    assert kinds(stand.prepare(stand.jobs[:1], known=before)) == {"a": Ready}
    standing = stand.ledger.standing("a")
    assert standing is not None
    assert standing.export.claim == stand.jobs[0].claim


def test_a_place_that_was_taken_since_it_was_free_is_refused(stand: Stand) -> None:
    before = known(stand)
    stand.another().begin(replace(stand.jobs[0], name="other"))
    stand.insert("a")
    assert kinds(stand.prepare(stand.jobs[:1], known=before)) == {"a": NameTaken}
