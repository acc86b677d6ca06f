"""Channels of acknowledgement when the indexer behind them changes: no batch counts by another's number."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from exporter.errors import Interrupted, OutcomeUnknown
from tests.kit.hec_sending import Records, Sending, event, package_of, sending

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from exporter.model import BadRecord, Batch


@pytest.fixture
def to(tmp_path: Path) -> Iterator[Sending]:
    with sending(tmp_path, acknowledged=True) as running:
        yield running


def restart(to: Sending) -> None:
    """The indexer loses its queue, and numbers acknowledgements from 0 on."""
    to.hec.lose()
    to.hec.indexers[0].channels.clear()
    to.hec.holding = False


def test_an_indexer_that_restarts_amid_a_delivery_acknowledges_nothing_that_it_lost(to: Sending) -> None:
    """Its new numbers come to be those of older batches, which are gone."""
    to.hec.holding = True
    to.hec.most_acks = 10

    def step() -> None:
        if not to.indexed():
            to.hec.indexers[0].flush(0, 1, 2, 3, 4)
        elif to.hec.holding and to.journal.batches:
            restart(to)

    to.time.during = step
    package = package_of(to.folder, *([event(number)] for number in range(30)))
    with pytest.raises(OutcomeUnknown, match="anew"):
        to.destination(acknowledge=True).deliver(package, to.journal)
    accepted = len(to.journal.batches)
    assert accepted == 5
    assert set(range(accepted)) <= set(to.indexed())


def test_an_indexer_that_restarts_between_two_deliveries_is_no_harm(to: Sending) -> None:
    destination = to.destination(acknowledge=True)
    destination.deliver(package_of(to.folder, [event(0)], [event(1)]), to.journal)
    restart(to)
    destination.deliver(package_of(to.folder, [event(2)]), to.journal)
    assert to.indexed() == [0, 1, 2]
    assert len(to.journal.batches) == 3


class Ending(Records):
    """A journal of a process that has to end: it notes what is in, and says so each time."""

    def accepted(self, batch: Batch, refused: Sequence[BadRecord] = ()) -> None:
        super().accepted(batch, refused)
        raise Interrupted("SIGTERM")


@pytest.mark.parametrize("count", [1, 5])
def test_a_process_that_has_to_end_notes_first_what_indexers_have(to: Sending, count: int) -> None:
    """They were sent at once, and would all double."""
    journal = Ending()
    package = package_of(to.folder, *([event(number)] for number in range(count)))
    with pytest.raises(Interrupted):
        to.destination(acknowledge=True).deliver(package, journal)
    assert journal.batches == list(package.batches)
    assert to.time.slept_s < 30


def test_a_process_that_has_to_end_does_not_wait_long_for_the_others(to: Sending) -> None:
    to.hec.holding = True
    to.time.during = lambda: to.hec.indexers[0].flush(0) if not to.indexed() else None
    journal = Ending()
    package = package_of(to.folder, *([event(number)] for number in range(5)))
    with pytest.raises(Interrupted):
        to.destination(acknowledge=True).deliver(package, journal)
    assert len(journal.batches) == 1
    assert to.time.slept_s < 30


def test_a_channel_that_failed_is_not_used_again(to: Sending) -> None:
    destination = to.destination(acknowledge=True)
    to.hec.holding = True
    with pytest.raises(OutcomeUnknown):
        destination.deliver(package_of(to.folder, [event(0)]), to.journal)
    to.hec.holding = False
    destination.deliver(package_of(to.folder, [event(0)]), to.journal)
    channels = [request.headers["x-splunk-request-channel"] for request in to.hec.requests()]
    assert len(set(channels)) == len(channels) == 2
