"""What every destination of events promises: `CONTRACT` is the list, one function a promise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pytest

from exporter.errors import Interrupted, OutcomeUnknown, Refused
from exporter.model import Level
from tests.kit.hec_sending import Resumed, event, id_of, package_of, poison

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from exporter.interfaces import Destination
    from exporter.model import Batch


@dataclass(frozen=True)
class Subject:
    """A destination, the numbers of the events that it has, and what a test can have happen to a batch.

    ``refuse`` and ``lose_answer`` are about the batch of this place among the next ones; of the second,
    every event arrives.
    """

    destination: Destination
    arrived: Callable[[], Sequence[int]]
    refuse: Callable[[int], None]
    lose_answer: Callable[[int], None]
    folder: Path


def takes_batches_in_order_and_tells_of_each_once_it_is_in(subject: Subject) -> None:
    package = package_of(subject.folder, [event(0), event(1)], [event(2)], [event(3)])
    seen: list[int] = []

    def at(_batch: Batch) -> None:
        seen.append(len(subject.arrived()))

    journal = Resumed(at=at)
    subject.destination.deliver(package, journal)
    assert journal.batches == list(package.batches)
    assert list(subject.arrived()) == [0, 1, 2, 3]
    assert seen == [2, 3, 4]
    assert journal.bytes_told == package.content.content_bytes


def sets_poison_aside_and_takes_the_rest(subject: Subject) -> None:
    package = package_of(subject.folder, [event(0), poison(1), event(2)], [poison(3)], [event(4)])
    journal = Resumed()
    subject.destination.deliver(package, journal)
    assert list(subject.arrived()) == [0, 2, 4]
    assert journal.refused_ids == [id_of(1), id_of(3)]
    assert journal.batches == list(package.batches)


def a_definite_no_ends_the_delivery_and_leaves_what_was_in(subject: Subject) -> None:
    package = package_of(subject.folder, [event(0)], [event(1)], [event(2)])
    journal = Resumed()
    subject.refuse(1)
    with pytest.raises(Refused):
        subject.destination.deliver(package, journal)
    assert list(subject.arrived()) == [0]
    assert journal.lines == 1
    subject.destination.deliver(journal.rest_of(package), journal)
    assert list(subject.arrived()) == [0, 1, 2]


def a_lost_answer_is_never_a_success_and_doubles_its_batch_alone(subject: Subject) -> None:
    package = package_of(subject.folder, [event(0)], [event(1)], [event(2)])
    journal = Resumed()
    subject.lose_answer(1)
    with pytest.raises(OutcomeUnknown):
        subject.destination.deliver(package, journal)
    assert journal.lines == 1
    subject.destination.deliver(journal.rest_of(package), journal)
    assert list(subject.arrived()) == [0, 1, 1, 2]


def ends_where_the_journal_says_so(subject: Subject) -> None:
    package = package_of(subject.folder, [event(0)], [event(1)], [event(2)])

    def at(batch: Batch) -> None:
        if batch == package.batches[1]:
            raise Interrupted("the run has to end", hint="in a test")

    with pytest.raises(Interrupted):
        subject.destination.deliver(package, Resumed(at=at))
    assert list(subject.arrived()) == [0, 1]


def has_nothing_to_do_for_a_package_without_batches(subject: Subject) -> None:
    journal = Resumed()
    subject.destination.deliver(package_of(subject.folder), journal)
    assert (list(subject.arrived()), journal.batches) == ([], [])


def gives_each_account_a_place_of_its_own(subject: Subject) -> None:
    claims = {subject.destination.claim(account) for account in ("acme", "Acme", "acme/x")}
    assert len(claims) == 3
    assert all(claim.startswith(subject.destination.store) for claim in claims)


def checks_out_well(subject: Subject) -> None:
    assert {finding.level for finding in subject.destination.check()} == {Level.OK}


CONTRACT: Final = (
    takes_batches_in_order_and_tells_of_each_once_it_is_in,
    sets_poison_aside_and_takes_the_rest,
    a_definite_no_ends_the_delivery_and_leaves_what_was_in,
    a_lost_answer_is_never_a_success_and_doubles_its_batch_alone,
    ends_where_the_journal_says_so,
    has_nothing_to_do_for_a_package_without_batches,
    gives_each_account_a_place_of_its_own,
    checks_out_well,
)
