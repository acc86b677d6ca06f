"""The journal of a delivery of events: progress after each batch, in order, and nowhere else."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from exporter.batches import KeyFile
from exporter.errors import Conflict, Defect, Interrupted, OutcomeUnknown, Refused
from exporter.journal import PlanJournal
from exporter.ledger.memory import MemoryStorage
from exporter.model import QUARANTINE_RECORDS, BadRecord, Batch, Outcome, Package, Plan
from tests.contracts.ledger import NAME, STORE, Subject
from tests.contracts.ledger_events import last_of, planned, poison, stored

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from exporter.model import Key, Keys

KEYS = [("2026-11-19 01:00:00.000000", number) for number in range(4)]


@pytest.fixture
def subject() -> Subject:
    subject = Subject(MemoryStorage())
    subject.begin()
    return subject


@pytest.fixture
def plan(subject: Subject) -> Plan:
    return planned(subject)


def batch(number: int, *, within_a_key: bool = False) -> Batch:
    return Batch(10 * number, 10, 2, None if within_a_key else KEYS[number])


def package(plan: Plan, *batches: Batch) -> Package:
    return Package(Path("events"), "", plan.content, "", batches=batches)


def journal(
    subject: Subject, plan: Plan, *batches: Batch, must_end: Callable[[], bool] = lambda: False
) -> PlanJournal:
    return PlanJournal(subject.ledger, plan, package(plan, *batches), lambda _: None, must_end)


def test_progress_is_kept_after_each_batch(subject: Subject, plan: Plan) -> None:
    """Each key is in the ledger before the next batch goes out; the end of the plan when all is in."""
    told = journal(subject, plan, batch(0), batch(1))
    told.accepted(batch(0))
    assert (stored(subject).reached, stored(subject).sent) == (KEYS[0], 2)
    told.accepted(batch(1), [poison()])
    assert (stored(subject).reached, stored(subject).sent, stored(subject).refused) == (KEYS[1], 3, 1)
    told.close()
    assert stored(subject).reached == last_of(plan)


def test_whoever_watches_hears_of_a_batch_that_was_awaited(subject: Subject, plan: Plan) -> None:
    """Its bytes went long before it was acknowledged; the delivery has not hung meanwhile."""
    heard: list[int] = []
    told = PlanJournal(subject.ledger, plan, package(plan, batch(0)), heard.append, lambda: False)
    told(10)
    told.accepted(batch(0))
    assert heard == [10, 0]


def test_what_ends_within_a_key_waits_for_the_next_batch(subject: Subject, plan: Plan) -> None:
    """What was refused of it goes into the quarantine together with the progress, not before."""
    told = journal(subject, plan, batch(0, within_a_key=True), batch(1))
    told.accepted(batch(0, within_a_key=True), [poison("1")])
    assert stored(subject) == plan
    told.accepted(batch(1), [poison("2")])
    assert (stored(subject).reached, stored(subject).sent, stored(subject).refused) == (KEYS[1], 2, 2)
    assert subject.requests.bad_records(NAME, 1) == [poison("1"), poison("2")]


def test_a_delivery_goes_on_from_the_plans_progress(subject: Subject, plan: Plan) -> None:
    """A journal of a later attempt begins where the ledger is."""
    journal(subject, plan, batch(0), batch(1)).accepted(batch(0))
    again = journal(subject, stored(subject), batch(1))
    again.accepted(batch(1))
    again.close()
    assert stored(subject).reached == last_of(plan)


def test_the_second_of_two_processes_ends_at_its_first_batch(subject: Subject, plan: Plan) -> None:
    """So that two of them double one batch, and not a window."""
    first, second = (journal(subject, plan, batch(0), batch(1)) for _ in range(2))
    first.accepted(batch(0))
    with pytest.raises(Conflict):
        second.accepted(batch(0))
    first.accepted(batch(1))
    assert stored(subject).sent == 4


def test_a_run_that_has_to_end_ends_between_two_batches(subject: Subject, plan: Plan) -> None:
    """With its progress kept, and not behind the last batch, where nothing is left."""
    told = journal(subject, plan, batch(0), batch(1), must_end=lambda: True)
    with pytest.raises(Interrupted):
        told.accepted(batch(0))
    assert stored(subject).reached == KEYS[0]
    last = journal(subject, stored(subject), batch(1), must_end=lambda: True)
    last.accepted(batch(1))
    last.close()
    assert stored(subject).reached == last_of(plan)


def test_a_destination_that_waits_can_ask_whether_the_run_has_to_end(subject: Subject, plan: Plan) -> None:
    """And hears what the run says at that moment."""
    says = [False, True]
    told = journal(subject, plan, batch(0), must_end=lambda: says.pop(0))
    assert (told.ends(), told.ends()) == (False, True)


def many(count: int) -> tuple[Batch, list[BadRecord]]:
    """A batch in which all events are refused."""
    return Batch(0, 10, count, KEYS[0]), [poison(str(number)) for number in range(count)]


def test_refused_events_of_one_plan_are_bounded_across_tries(subject: Subject, plan: Plan) -> None:
    """Whoever goes on counts those of earlier tries; the batch with one too many is not kept."""
    first, refused = many(QUARANTINE_RECORDS - 1)
    journal(subject, plan, first).accepted(first, refused)
    again = journal(subject, stored(subject), batch(1), batch(2))
    again.accepted(batch(1), [poison()])
    with pytest.raises(Refused, match="1,000") as full:
        again.accepted(batch(2), [poison("the last")])
    assert "code 6" in full.value.message
    assert f"audit-exporter resume {NAME}" in full.value.hint
    assert (stored(subject).reached, stored(subject).refused) == (KEYS[1], QUARANTINE_RECORDS)
    assert subject.standing().waiting == QUARANTINE_RECORDS


def test_nothing_is_kept_behind_a_batch_with_too_many_refused_events(subject: Subject, plan: Plan) -> None:
    """A destination may have more batches in hand, which are in: their progress would pass the lost ones."""
    first, refused = many(QUARANTINE_RECORDS + 1)
    told = journal(subject, plan, first, batch(1))
    for one, of_it in ((first, refused), (batch(1), [])):
        with pytest.raises(Refused):
            told.accepted(one, of_it)
    assert stored(subject) == plan


def test_refused_events_within_a_key_count_before_they_are_kept(subject: Subject, plan: Plan) -> None:
    """So that they are not held in memory for as long as a key goes on."""
    _, refused = many(QUARANTINE_RECORDS)
    within = Batch(0, 10, QUARANTINE_RECORDS, None)
    told = journal(subject, plan, within, batch(1))
    told.accepted(within, refused)
    with pytest.raises(Refused):
        told.accepted(batch(1), [poison()])
    assert stored(subject) == plan


# --- the beginning of a batch -----------------------------------------------------------------------


class Numbered:
    """Lines of which nothing but their keys matters."""

    def __init__(self, numbers: Sequence[int]) -> None:
        self._numbers = numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def key(self, index: int) -> Key:
        return KEYS[self._numbers[index]]

    def keys(self) -> Keys:
        every = [KEYS[number] for number in self._numbers]
        return [time for time, _ in every], [identifier for _, identifier in every]


def of_numbers(folder: Path, plan: Plan, numbers: Sequence[int], *counts: int) -> Package:
    """A file of lines with these keys, in batches of so many."""
    path = folder / "events"
    with KeyFile(path) as file:
        file.add(Numbered(numbers))
    ends = [sum(counts[: index + 1]) for index in range(len(counts))]
    last = [
        None if end < len(numbers) and numbers[end] == numbers[end - 1] else KEYS[numbers[end - 1]]
        for end in ends
    ]
    made = [Batch(10 * at, 10, *of) for at, of in enumerate(zip(counts, last, strict=True))]
    return Package(path, "", plan.content, "", batches=tuple(made))


def told_of(subject: Subject, plan: Plan, package: Package) -> PlanJournal:
    return PlanJournal(subject.ledger, plan, package, lambda _: None, lambda: False)


def test_the_beginning_of_a_batch_is_kept_with_its_refused_events(
    subject: Subject, plan: Plan, tmp_path: Path
) -> None:
    """So that it is not sent again, however often the rest fails."""
    package = of_numbers(tmp_path, plan, [0, 1, 2, 3], 1, 3)
    told = told_of(subject, plan, package)
    told.accepted(package.batches[0])
    told.partly(package.batches[1], 2, {0: poison("1"), 2: poison("3")})
    assert (stored(subject).reached, stored(subject).sent, stored(subject).refused) == (KEYS[2], 2, 1)
    assert subject.requests.bad_records(NAME, 1) == [poison("1")]


def test_the_beginning_of_a_key_is_not_kept(subject: Subject, plan: Plan, tmp_path: Path) -> None:
    """What is in of it goes out again: behind it progress has no place."""
    package = of_numbers(tmp_path, plan, [0, 1, 1, 1], 4)
    told_of(subject, plan, package).partly(package.batches[0], 3, {2: poison()})
    assert (stored(subject).reached, stored(subject).sent, stored(subject).refused) == (KEYS[0], 1, 0)


def test_nothing_is_kept_where_one_key_goes_on(subject: Subject, plan: Plan, tmp_path: Path) -> None:
    """Through the end of a batch and on."""
    package = of_numbers(tmp_path, plan, [0, 0, 0, 1], 2, 2)
    told = told_of(subject, plan, package)
    told.accepted(package.batches[0], [poison()])
    told.partly(package.batches[1], 0, {})
    assert stored(subject) == plan


def test_a_batch_that_ended_within_a_key_is_kept_with_the_beginning_of_the_next(
    subject: Subject, plan: Plan, tmp_path: Path
) -> None:
    """What waited for a place is there by then."""
    package = of_numbers(tmp_path, plan, [0, 0, 0, 1], 2, 2)
    told = told_of(subject, plan, package)
    told.accepted(package.batches[0], [poison()])
    told.partly(package.batches[1], 1, {})
    assert (stored(subject).reached, stored(subject).sent, stored(subject).refused) == (KEYS[0], 2, 1)


def test_the_beginning_is_kept_as_far_as_the_quarantine_has_room(
    subject: Subject, plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In front of the one refused event too many."""
    monkeypatch.setattr("exporter.journal.QUARANTINE_RECORDS", 1)
    package = of_numbers(tmp_path, plan, [0, 1, 2, 3], 4)
    told = told_of(subject, plan, package)
    refused = {1: poison("1"), 3: poison("3")}
    with pytest.raises(Refused):
        told.accepted(package.batches[0], [*refused.values()])
    told.partly(package.batches[0], 4, refused)
    assert (stored(subject).reached, stored(subject).sent, stored(subject).refused) == (KEYS[2], 2, 1)


def test_the_beginning_of_another_batch_is_a_defect(subject: Subject, plan: Plan, tmp_path: Path) -> None:
    """Of the one in turn alone it is known what is in front of it."""
    package = of_numbers(tmp_path, plan, [0, 1, 2, 3], 2, 2)
    with pytest.raises(Defect):
        told_of(subject, plan, package).partly(package.batches[1], 1, {})
    assert stored(subject) == plan


def test_the_second_of_two_processes_keeps_no_beginning(subject: Subject, plan: Plan, tmp_path: Path) -> None:
    """The other one has moved on."""
    package = of_numbers(tmp_path, plan, [0, 1, 2, 3], 2, 2)
    told_of(subject, plan, package).accepted(package.batches[0])
    with pytest.raises(Conflict):
        told_of(subject, plan, package).partly(package.batches[0], 1, {})
    assert (stored(subject).reached, stored(subject).sent) == (KEYS[1], 2)


def test_keys_that_have_gone_are_said_to_be_gone(subject: Subject, plan: Plan, tmp_path: Path) -> None:
    """No progress is made up."""
    package = of_numbers(tmp_path, plan, [0, 1], 2)
    (tmp_path / "events.keys").unlink()
    with pytest.raises(OutcomeUnknown, match="keys"):
        told_of(subject, plan, package).partly(package.batches[0], 1, {})
    assert stored(subject) == plan


def test_a_delivery_that_told_of_too_few_batches_is_no_success(subject: Subject, plan: Plan) -> None:
    """Whatever the destination answers, the watermark does not pass what nobody said is in."""
    told = journal(subject, plan, batch(0), batch(1))
    told.accepted(batch(0))
    with pytest.raises(OutcomeUnknown, match="after 1"):
        told.close()
    assert stored(subject).reached == KEYS[0]


@pytest.mark.parametrize("wrong", [1, 2, 3])
def test_a_batch_out_of_turn_is_a_defect(subject: Subject, plan: Plan, wrong: int) -> None:
    """Left out, unknown, or one too many: no progress is made by it."""
    told = journal(subject, plan, batch(0), batch(1))
    if wrong == 3:
        told = journal(subject, plan)
    with pytest.raises(Defect):
        told.accepted(batch(wrong))
    assert stored(subject) == plan


def test_an_attempt_at_an_empty_rest_reaches_the_end(subject: Subject, plan: Plan) -> None:
    """After a death between the last batch and the commit, nothing is left to send."""
    journal(subject, plan).close()
    attempt = subject.ledger.attempt(plan, plan.content, STORE)
    assert subject.ledger.commit(plan, attempt, Outcome.SUCCEEDED).reached == last_of(plan)
