"""Indexer acknowledgement: a batch counts once an indexer has it, and not when a queue does."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from exporter.errors import Interrupted, OutcomeUnknown, Refused
from tests.kit.hec_sending import Acknowledged, Records, event, id_of, package_of, poison, sending
from tests.kit.hec_server import BAD_GATEWAY, LOGIN_PAGE, answers, says
from tests.kit.proxy import LOSE_ANSWER, LOSE_REQUEST

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from exporter.model import Batch
    from tests.kit.proxy import Fault

GIVEN_UP_S = 300
CHANNEL = "x-splunk-request-channel"


@pytest.fixture
def to(tmp_path: Path) -> Iterator[Acknowledged]:
    with sending(tmp_path, acknowledged=True) as running:
        yield Acknowledged(running)


def test_a_batch_is_accepted_once_an_indexer_has_it(to: Acknowledged) -> None:
    indexed: list[int] = []
    to.journal.at = lambda _batch: indexed.append(len(to.to.indexed()))
    to.hold(lambda pauses: to.hec.flush() if pauses >= 3 else None)
    to.deliver(1)
    assert indexed == [1]
    assert len(to.asked()) >= 3
    assert to.asked()[0] == [0]


def test_events_and_questions_go_over_one_channel_whose_name_is_a_guid(to: Acknowledged) -> None:
    to.deliver(3)
    channels = {request.headers[CHANNEL] for request in to.hec.requests()}
    channels |= {
        request.headers.get(CHANNEL) or request.query["channel"] for request in to.hec.requests("ack")
    }
    [channel] = channels
    assert str(UUID(channel)) == channel.lower()


def test_the_channel_stays_the_same_from_one_delivery_to_the_next(to: Acknowledged) -> None:
    to.deliver(1)
    to.deliver(2, first=1)
    assert len({request.headers[CHANNEL] for request in to.hec.requests()}) == 1
    assert to.to.indexed() == [0, 1, 2]


def test_many_batches_are_on_their_way_before_the_first_is_acknowledged(to: Acknowledged) -> None:
    sent_before: list[int] = []
    to.journal.at = lambda _batch: sent_before.append(len(to.hec.requests()))
    to.hold(lambda _pauses: to.hec.flush())
    to.deliver(20)
    assert sent_before[0] >= 5
    assert to.accepted == 20
    assert to.journal.batches == sorted(to.journal.batches, key=lambda batch: batch.offset)
    assert max(map(len, to.asked())) >= 5


def test_no_more_is_on_its_way_than_fits_into_bounds(to: Acknowledged) -> None:
    """Forty batches of a megabyte, none of them acknowledged: most of them are not sent at all."""
    to.hec.holding = True
    batches = [[event(number, "a" * 1_000_000)] for number in range(40)]
    with pytest.raises(OutcomeUnknown):
        to.destination.deliver(package_of(to.to.folder, *batches), to.journal)
    assert 2 <= len(to.hec.requests()) <= 32


def test_later_batches_may_be_indexed_first_and_are_accepted_in_order(to: Acknowledged) -> None:
    def out_of_order(pauses: int) -> None:
        queue = to.hec.indexers[0].queue
        if pauses >= 2 and queue:
            to.hec.indexers[0].flush(len(queue) - 1)

    to.hold(out_of_order)
    to.deliver(4)
    assert to.to.indexed() == [3, 2, 1, 0]
    assert [batch.last_key for batch in to.journal.batches] == [
        (1_700_000_000 + number, id_of(number)) for number in range(4)
    ]


def test_what_an_indexer_lost_is_given_up_after_five_minutes_and_sent_again_later(to: Acknowledged) -> None:
    to.hold(lambda _pauses: to.hec.lose())
    error = to.failure(2)
    assert type(error) is OutcomeUnknown
    assert error.hint
    assert GIVEN_UP_S * 0.9 <= to.time.slept_s <= GIVEN_UP_S * 2.5
    assert to.accepted == 0
    assert to.to.indexed() == []
    to.hec.holding = False
    to.deliver(2)
    assert to.to.indexed() == [0, 1]
    assert to.accepted == 2


def test_acknowledged_batches_before_a_lost_one_stay_accepted(to: Acknowledged) -> None:
    def first_two_alone(_pauses: int) -> None:
        queue = to.hec.indexers[0].queue
        if len(queue) == 4:
            to.hec.indexers[0].flush(0, 1)
            to.hec.lose()

    to.hold(first_two_alone)
    assert type(to.failure(4)) is OutcomeUnknown
    assert to.accepted == 2
    assert to.to.indexed() == [0, 1]


def test_the_indexer_is_not_asked_all_the_time(to: Acknowledged) -> None:
    """Soon at first, then about every ten seconds."""
    to.hec.holding = True
    to.failure(1)
    assert to.time.slept[0] <= 2
    assert 20 <= len(to.hec.requests("ack")) <= 80
    assert max(to.time.slept) <= 15


# --- Several indexers behind one address ------------------------------------------------------------


@pytest.mark.parametrize("indexers", [2, 3])
def test_questions_go_to_the_indexer_that_has_the_events(tmp_path: Path, indexers: int) -> None:
    with sending(tmp_path, acknowledged=True, indexers=indexers) as running:
        to = Acknowledged(running)
        to.hold(lambda pauses: to.hec.flush() if pauses % 3 == 0 else None)
        to.deliver(5)
        assert to.accepted == 5
        assert sorted(to.to.indexed()) == list(range(5))


def test_exports_that_share_a_destination_do_not_take_each_other_s_acknowledgements(tmp_path: Path) -> None:
    with sending(tmp_path, acknowledged=True, indexers=3) as running:
        to = Acknowledged(running)
        journals = [Records() for _ in range(6)]
        packages = [
            package_of(tmp_path, *([event(100 * export + number)] for number in range(5)))
            for export in range(6)
        ]
        with ThreadPoolExecutor(6) as threads:
            list(threads.map(to.destination.deliver, packages, journals))
        for package, journal in zip(packages, journals, strict=True):
            assert journal.batches == list(package.batches)
        assert len(running.indexed()) == len(set(running.indexed())) == 30


@pytest.mark.parametrize("lost", [0, 1])
def test_a_load_balancer_without_cookies_gets_nothing_accepted_that_was_lost(
    tmp_path: Path, lost: int
) -> None:
    """Both indexers count from 0 on the same channel: the one's number is not the other's."""
    with sending(tmp_path, acknowledged=True, indexers=2) as running:
        to = Acknowledged(running)
        to.hec.cookies = False

        def lose_at_one(_pauses: int) -> None:
            to.hec.lose(lost)
            to.hec.flush()

        indexed: list[set[int]] = []
        to.journal.at = lambda _batch: indexed.append(set(to.to.indexed()))
        to.hold(lose_at_one)
        error = to.failure(4)
        assert type(error) in (OutcomeUnknown, Refused)
        assert all(number in seen for number, seen in enumerate(indexed))


# --- Settings that do not fit -----------------------------------------------------------------------


def test_a_token_without_acknowledgement_is_said_to_be_one(tmp_path: Path) -> None:
    with sending(tmp_path) as running:
        error = running.failure([event(0)], acknowledge=True)
        assert type(error) is Refused
        assert "acknowledge" in error.hint
        assert running.journal.batches == []
        assert len(running.hec.seen) <= 2


def test_a_token_with_acknowledgement_wants_the_setting(to: Acknowledged) -> None:
    error = to.to.failure([event(0)], acknowledge=False)
    assert type(error) is Refused
    assert "acknowledge" in error.hint
    assert to.to.indexed() == []


def test_14_stops_asking(to: Acknowledged) -> None:
    to.hec.script = lambda request: says(14) if request.endpoint == "ack" else None
    error = to.failure(1)
    assert type(error) is Refused
    assert "acknowledge" in error.hint
    assert len(to.hec.requests("ack")) <= 2
    assert to.accepted == 0


# --- Full channels, and answers to questions that are none --------------------------------------------


def test_27_asks_for_acknowledgements_before_it_sends_again(to: Acknowledged) -> None:
    to.hec.most_acks = 3
    to.deliver(12)
    assert to.to.indexed() == list(range(12))
    assert to.accepted == 12
    full = [place for place, request in enumerate(to.hec.seen) if request.code == 27]
    assert full
    assert all(to.hec.seen[place + 1].endpoint == "ack" for place in full)


NO_ANSWERS = {
    "busy": says(9),
    "full": says(27),
    "login page": LOGIN_PAGE,
    "gateway": BAD_GATEWAY,
    "lost answer": LOSE_ANSWER,
    "lost question": LOSE_REQUEST,
    "empty": answers(200),
    "a list": answers(200, b"[]"),
    "acks in a list": answers(200, b'{"acks":[true]}'),
    "yes": answers(200, b'{"acks":{"0":"true"}}'),
    "one": answers(200, b'{"acks":{"0":1}}'),
    "another's": answers(200, b'{"acks":{"7":true}}'),
    "success": answers(200, b'{"text":"Success","code":0}'),
    "true under 500": answers(500, b'{"acks":{"0":true}}'),
    "true under 403": answers(403, b'{"acks":{"0":true}}'),
    "deep": answers(200, b"[" * 200_000),
}


@pytest.mark.parametrize("name", NO_ANSWERS)
def test_only_true_is_an_acknowledgement(to: Acknowledged, name: str) -> None:
    to.hec.script = lambda request: NO_ANSWERS[name] if request.endpoint == "ack" else None
    error = to.failure(1)
    assert type(error) in (OutcomeUnknown, Refused)
    assert to.accepted == 0


@pytest.mark.parametrize(
    "fault", [says(9), LOGIN_PAGE, BAD_GATEWAY, LOSE_REQUEST], ids=["9", "login", "502", "lost"]
)
def test_a_question_that_fails_is_asked_again(to: Acknowledged, fault: Fault) -> None:
    to.hec.play(fault, fault, endpoint="ack")
    to.deliver(2)
    assert to.to.indexed() == [0, 1]
    assert to.accepted == 2


# --- Bad events, and other ends -----------------------------------------------------------------------


@pytest.mark.parametrize("numbered", [True, False])
@pytest.mark.parametrize("places", [[0], [2], [4], [1, 3], [0, 1, 2, 3, 4]], ids=str)
def test_bad_events_amid_acknowledged_ones(to: Acknowledged, places: list[int], *, numbered: bool) -> None:
    """What is in front of a bad event was accepted without a promise: it has to be acknowledged as well."""
    to.hec.numbered = numbered
    lost: list[bool] = []

    def lose_unpromised(_pauses: int) -> None:
        for indexer in to.hec.indexers:
            kept = [one for one in indexer.queue if one.channel is not None]
            lost.append(len(kept) < len(indexer.queue))
            indexer.queue[:] = kept
        to.hec.flush()

    to.hold(lose_unpromised)
    batch = [poison(number) if number in places else event(number) for number in range(5)]
    to.destination.deliver(package_of(to.to.folder, batch), to.journal)
    assert set(to.to.indexed()) == set(range(5)) - set(places)
    assert to.journal.refused_ids == [id_of(number) for number in places]
    assert to.accepted == 1


def test_a_batch_too_large_is_accepted_when_all_its_halves_are_acknowledged(to: Acknowledged) -> None:
    to.hec.max_bytes = 3_000
    indexed: list[int] = []
    to.journal.at = lambda _batch: indexed.append(len(to.to.indexed()))
    to.hold(lambda pauses: to.hec.flush_first() if pauses > 1 else None)
    batch = [event(number, "a" * 1000) for number in range(8)]
    to.destination.deliver(package_of(to.to.folder, batch), to.journal)
    assert indexed == [8]
    assert to.to.indexed() == list(range(8))


def test_a_failure_to_send_does_not_forget_what_is_acknowledged(to: Acknowledged) -> None:
    """Batches that indexers have by then need not be sent again."""
    to.hec.play(None, None, None, *[LOSE_REQUEST] * 50)
    assert type(to.failure(6)) is OutcomeUnknown
    assert to.accepted == 3


@pytest.mark.parametrize("code", [24, 25])
def test_nearly_full_is_a_promise_as_well(to: Acknowledged, code: int) -> None:
    if code == 25:
        to.hec.most_acks = 5
    else:
        to.hec.most_queued = 8
        to.hold(lambda _pauses: to.hec.flush())
    to.deliver(12)
    assert to.to.indexed() == list(range(12))
    assert code in {request.code for request in to.hec.requests()}
    assert to.accepted == 12


def test_the_journal_can_end_a_delivery_that_waits(to: Acknowledged) -> None:
    def stop(_batch: Batch) -> None:
        raise Interrupted("SIGTERM")

    to.journal.at = stop
    with pytest.raises(Interrupted):
        to.deliver(3)
    assert to.accepted == 0


def test_an_indexer_that_was_restarted_counts_anew_and_nothing_is_lost(to: Acknowledged) -> None:
    """Its numbers begin at 0 again: one of them must not acknowledge an older batch."""

    def restart(pauses: int) -> None:
        if pauses == 1:
            to.hec.replace()
            to.hec.holding = False

    to.hold(restart)
    with pytest.raises(OutcomeUnknown):
        to.deliver(3)
    assert to.accepted == 0
    to.deliver(3)
    assert to.to.indexed() == [0, 1, 2]
