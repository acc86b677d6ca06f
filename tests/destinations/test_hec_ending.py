"""A process that has to end while the destination waits: it ends within a second, and what is in is kept."""

from __future__ import annotations

import time
from threading import Timer

import pytest

from exporter.destinations.splunk_hec.sender import sleep_unless
from exporter.errors import Interrupted
from tests.kit.hec_sending import Sending, event, package_of
from tests.kit.hec_server import says


def end_in(to: Sending, pauses: int) -> None:
    """The process has to end in the middle of this pause."""

    def end() -> None:
        to.journal.has_to_end = len(to.time.slept) >= pauses

    to.time.during = end


@pytest.mark.parametrize("pauses", [1, 4])
def test_it_does_not_wait_for_acknowledgements(acking: Sending, pauses: int) -> None:
    acking.hec.holding = True
    end_in(acking, pauses)
    assert type(acking.failure([event(0)], [event(1)], acknowledge=True)) is Interrupted
    assert len(acking.time.slept) == pauses
    assert acking.journal.batches == []


def test_what_indexers_have_by_then_is_kept(acking: Sending) -> None:
    """They are asked once more, without a pause: what they have need not be sent again."""
    acking.hec.holding = True

    def end() -> None:
        acking.hec.indexers[0].flush(0, 1)
        acking.journal.has_to_end = True

    acking.time.during = end
    package = package_of(acking.folder, [event(0)], [event(1)], [event(2)])
    with pytest.raises(Interrupted):
        acking.destination(acknowledge=True).deliver(package, acking.journal)
    assert acking.journal.batches == list(package.batches[:2])
    assert len(acking.time.slept) == 1


def test_no_more_is_sent_while_acknowledgements_are_awaited(acking: Sending) -> None:
    acking.hec.holding = True
    acking.journal.has_to_end = True
    assert type(acking.failure([event(0)], [event(1)], [event(2)], acknowledge=True)) is Interrupted
    assert acking.posts() == [[0]]
    assert acking.time.slept == []


def test_it_does_not_wait_as_long_as_it_is_asked_to(to: Sending) -> None:
    to.hec.play(None, *[says(9, retry_after="25")] * 9)
    end_in(to, 1)
    assert type(to.failure([event(0)], [event(1)])) is Interrupted
    assert to.time.slept == [25.0]
    assert len(to.journal.batches) == 1
    assert len(to.hec.seen) == 2


def test_it_does_not_keep_the_pace(to: Sending) -> None:
    to.hec.play(says(24, forward=True))
    end_in(to, 1)
    assert type(to.failure([event(0)], [event(1)])) is Interrupted
    assert to.indexed() == [0]
    assert len(to.journal.batches) == 1


def test_after_another_failure_it_does_not_wait_for_acknowledgements_either(acking: Sending) -> None:
    """The failure is what is told; that the process ends comes on top of it."""
    acking.hec.holding = True
    acking.hec.play(None, says(7))
    end_in(acking, 1)
    error = acking.failure([event(0)], [event(1)], acknowledge=True)
    assert type(error).__name__ == "Refused"
    assert len(acking.time.slept) == 1


def test_a_process_that_goes_on_sleeps_whole(to: Sending) -> None:
    to.hec.play(says(9, retry_after="25"))
    to.deliver([event(0)])
    assert to.time.slept == [25.0]
    assert to.indexed() == [0]


def test_sleep_is_as_long_as_it_should_be_and_ends_soon_after_it_need_not_be() -> None:
    began = time.monotonic()
    sleep_unless(0.1, lambda: False)
    assert 0.1 <= time.monotonic() - began < 5
    asked: list[float] = []
    timer = Timer(0.1, lambda: asked.append(1))
    began = time.monotonic()
    timer.start()
    sleep_unless(60, lambda: bool(asked))
    assert time.monotonic() - began < 5
    timer.join()
