"""Batches that Splunk does not take whole: bad events anywhere, too large ones, and both amid failures."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.errors import DeliveryError, OutcomeUnknown, Refused
from tests.kit.archives import file_of
from tests.kit.hec_events import TEXTS
from tests.kit.hec_http import Early, html
from tests.kit.hec_indexers import Verdict
from tests.kit.hec_sending import Resumed, Sending, event, id_of, package_of, poison, sending
from tests.kit.hec_server import LOGIN_PAGE, says
from tests.kit.proxy import CUT_BEFORE_BODY, LOSE_ANSWER, LOSE_REQUEST
from tests.kit.servers import new_certificate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.kit.hec_indexers import Token
    from tests.kit.proxy import Fault


# --- Events that Splunk refuses -------------------------------------------------------------------

PLACES = {
    "first": [0],
    "in the middle": [3],
    "last": [7],
    "first two": [0, 1],
    "first and last": [0, 7],
    "several": [1, 2, 5],
    "every other": [0, 2, 4, 6],
    "all": list(range(8)),
}


@pytest.mark.parametrize("code", [6, 12, 13, 15])
@pytest.mark.parametrize("places", PLACES.values(), ids=PLACES)
def test_bad_events_are_set_aside_and_all_others_go_in_once_and_in_order(
    to: Sending, places: list[int], code: int
) -> None:
    batch = [poison(number, code) if number in places else event(number) for number in range(8)]
    to.deliver(batch, [event(8)])
    good = [number for number in range(9) if number not in places]
    assert to.indexed() == good
    assert to.journal.refused_ids == [id_of(number) for number in places]
    assert [batch.count for batch in to.journal.batches] == [8, 1]
    assert len(to.hec.seen) <= len(places) + 2
    for record, number in zip(to.journal.refused, places, strict=True):
        assert json.loads(record.body) == batch[number]
        assert TEXTS[code][1] in record.reason


@pytest.mark.parametrize("places", PLACES.values(), ids=PLACES)
def test_bad_events_are_found_also_when_splunk_does_not_say_which(to: Sending, places: list[int]) -> None:
    """Good ones may double meanwhile, since nobody says how far Splunk came; none is lost."""
    to.hec.numbered = False
    batch = [poison(number) if number in places else event(number) for number in range(8)]
    to.deliver(batch, [event(8)])
    assert set(to.indexed()) == {number for number in range(9) if number not in places}
    assert to.journal.refused_ids == [id_of(number) for number in places]
    assert [batch.count for batch in to.journal.batches] == [8, 1]


@pytest.mark.parametrize("place", [0, 1, 100, 254, 255])
def test_one_bad_event_of_many_is_found_with_few_requests(to: Sending, place: int) -> None:
    to.hec.numbered = False
    to.deliver([poison(number) if number == place else event(number) for number in range(256)])
    assert to.journal.refused_ids == [id_of(place)]
    assert set(to.indexed()) == set(range(256)) - {place}
    assert len(to.hec.seen) <= 2 * math.log2(256) + 2


@pytest.mark.parametrize("number", [-1, 4, 5, 99, 10**30, True, False, "0", "1", 0.0, 1.5, [0], {}], ids=str)
@pytest.mark.parametrize("place", [0, 1, 3])
def test_a_number_that_is_none_of_the_batch_s_is_not_believed(
    to: Sending, place: int, number: object
) -> None:
    """The batch is bisected: what is refused alone is bad, the rest goes in."""
    to.hec.number_as = lambda _number: number
    to.deliver([poison(one) if one == place else event(one) for one in range(4)])
    assert set(to.indexed()) == set(range(4)) - {place}
    assert to.journal.refused_ids == [id_of(place)]


WRONG: dict[str, Callable[[int], object]] = {
    "as measured": lambda number: number,
    "exact": lambda number: number - 1,
    "none": lambda _number: None,
    "out of range": lambda _number: 99,
}


@pytest.mark.parametrize("number", WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("place", [0, 1, 3, 7])
def test_what_is_in_front_of_a_wrong_index_is_in_for_good_and_no_event_is_given_up(
    to: Sending, place: int, number: Callable[[int], object]
) -> None:
    """The trouble is the index: the events are good. Whatever its number, the second try doubles nothing."""
    to.token = to.hec.new_token("audit")
    to.hec.number_as = number
    batch = [event(one, index="other" if one == place else "audit") for one in range(8)]
    error = to.failure(batch)
    assert type(error) is Refused
    assert "index" in error.hint
    assert to.journal.refused == []
    assert to.journal.batches == []
    assert to.journal.part == (None if place == 0 else (package_of(to.folder, batch).batches[0], place))
    assert set(to.indexed("audit")) == set(range(place))
    before = to.indexed("audit")
    assert type(to.failure(batch[place:])) is Refused
    assert to.indexed("audit") == before
    if number is WRONG["as measured"]:
        assert len(before) <= 2 * place


@pytest.mark.slow
def test_very_many_bad_events_look_like_a_configuration_and_stop(to: Sending) -> None:
    batches = [[poison(number * 100 + place) for place in range(100)] for number in range(15)]
    error = to.failure(*batches)
    assert type(error) is Refused
    assert "configuration" in f"{error.message} {error.hint}"
    assert len(to.journal.refused) <= 1000
    assert len(to.hec.seen) <= 1100


def test_an_interruption_between_bad_events_loses_nothing(to: Sending) -> None:
    """The connection breaks in the middle of a batch that has a bad event: the batch is sent again."""
    to.hec.play(None, LOSE_ANSWER, LOSE_ANSWER, LOSE_ANSWER, LOSE_ANSWER, LOSE_ANSWER)
    batch = [event(0), poison(1), event(2)]
    package = package_of(to.folder, batch, [event(3)])
    with pytest.raises(OutcomeUnknown):
        to.destination().deliver(package, to.journal)
    assert to.journal.batches == []
    assert to.journal.part == (package.batches[0], 2)
    assert to.journal.refused_ids == ["event-1"]
    to.hec.play()
    to.deliver(batch[2:])
    assert to.indexed().count(0) == 1
    assert set(to.indexed()) == {0, 2}


# --- Batches of which the beginning is in ----------------------------------------------------------


def goes_on(to: Sending, batch: list[dict[str, Any]], **settings: Any) -> list[int]:  # noqa: ANN401 - a test's
    """Deliver what is left, three times, as a ledger with a key for each event has it; how far each came."""
    done: list[int] = []
    for _ in range(3):
        to.journal.part = None
        at = done[-1] if done else 0
        package = package_of(to.folder, batch[at:])
        with pytest.raises(DeliveryError):
            to.destination(gzip=False, **settings).deliver(package, to.journal)
        done.append(at + (to.journal.part[1] if to.journal.part else 0))
    return done


def busy_from(to: Sending, number: int) -> None:
    """Whatever begins at this event or behind it finds a server that is busy."""
    [indexer] = to.hec.indexers
    take = indexer.take

    def take_some(token: Token, channel_id: str, body: bytes) -> Verdict:
        first = json.loads(body.partition(b"\n")[0])["fields"]["event_id"]
        return Verdict(9) if int(first.removeprefix("event-")) >= number else take(token, channel_id, body)

    indexer.take = take_some  # type: ignore[method-assign]


@pytest.mark.parametrize("acknowledge", [False, True])
def test_while_the_rest_keeps_failing_its_head_is_sent_once(tmp_path: Path, *, acknowledge: bool) -> None:
    """Behind a bad event; with acknowledgements the head goes a second time, once."""
    with sending(tmp_path, acknowledged=acknowledge) as to:
        busy_from(to, 52)
        batch = [poison(number) if number == 51 else event(number) for number in range(100)]
        assert goes_on(to, batch, acknowledge=acknowledge) == [52, 52, 52]
        assert set(to.indexed()) == set(range(51))
        assert len(to.indexed()) == 51 * (1 + acknowledge)
        assert to.journal.refused_ids == [id_of(51)]


def test_halves_that_are_in_are_not_sent_again(to: Sending) -> None:
    """After a 413, and a server that is busy from the second half on."""
    to.hec.max_bytes = 10_000
    whole = [event(number, "a" * 1000) for number in range(16)]
    busy_from(to, 8)
    assert goes_on(to, whole) == [8, 8, 8]
    assert to.indexed() == list(range(8))


@pytest.mark.parametrize(("place", "busy"), [(3, 4), (3, 8), (9, 10), (9, 12)])
def test_what_a_bisection_brought_in_is_not_sent_again(to: Sending, place: int, busy: int) -> None:
    """Nobody says which event is bad; what was taken behind the one it is stays in, too."""
    to.hec.numbered = False
    batch = [poison(number) if number == place else event(number) for number in range(16)]
    busy_from(to, busy)
    assert goes_on(to, batch) == [busy] * 3
    assert set(to.indexed()) == set(range(busy)) - {place}
    assert to.journal.refused_ids == [id_of(place)]


# --- Batches that are too large -------------------------------------------------------------------


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("most", [1_200, 5_000, 14_000])
def test_a_batch_that_is_too_large_is_halved(to: Sending, most: int, *, packed: bool) -> None:
    to.hec.max_bytes = most
    to.deliver([event(number, "a" * 1000) for number in range(16)], gzip=packed)
    assert to.indexed() == list(range(16))
    assert [batch.count for batch in to.journal.batches] == [16]
    assert to.journal.refused == []
    assert len(to.hec.seen) <= 2 * 16


def test_a_server_may_say_that_it_is_too_much_before_it_has_all_of_it(tmp_path: Path) -> None:
    """By the Content-Length alone, as proxies do; what is left of the body is thrown away."""
    ca_file, context = new_certificate(tmp_path)
    with sending(tmp_path, context, ca_file) as to:
        to.hec.play(Early(answer=html(413, "413 Request Entity Too Large")))
        to.deliver([event(number, "a" * 2_000_000) for number in range(2)], gzip=False)
        assert to.indexed() == [0, 1]
        assert to.journal.refused == []


def test_a_server_that_only_cuts_large_requests_off_gets_smaller_ones_at_the_next_tries(to: Sending) -> None:
    """Its 413 is lost with the connection; each try is one request, and what is in is known in the end."""
    to.hec.script = lambda request: (
        CUT_BEFORE_BODY if int(request.headers["content-length"]) > 200_000 else None
    )
    destination = to.destination(gzip=False)
    package = package_of(to.folder, [event(number, "a" * 20_000) for number in range(30)], [event(30)])
    for size_bytes in (600_000, 300_000):
        with pytest.raises(OutcomeUnknown):
            destination.deliver(package, to.journal)
        assert abs(int(to.hec.seen[-1].headers["content-length"]) - size_bytes) < 10_000
    assert len(to.hec.seen) == 2
    destination.deliver(package, to.journal)
    assert to.indexed() == list(range(31))
    assert to.journal.batches == list(package.batches)


def test_small_requests_stay_whole_after_a_connection_broke(to: Sending) -> None:
    destination = to.destination()
    to.hec.play(CUT_BEFORE_BODY)
    package = package_of(to.folder, [event(0), event(1)])
    with pytest.raises(OutcomeUnknown):
        destination.deliver(package, to.journal)
    destination.deliver(package, to.journal)
    assert to.posts()[1:] == [[0, 1]]


@pytest.mark.parametrize("place", [0, 5, 15])
def test_an_event_that_is_too_large_by_itself_goes_to_quarantine(to: Sending, place: int) -> None:
    to.hec.max_bytes = 5_000
    batch = [event(number, "a" * (6_000 if number == place else 100)) for number in range(16)]
    to.deliver(batch)
    assert to.indexed() == [number for number in range(16) if number != place]
    assert to.journal.refused_ids == [id_of(place)]
    assert json.loads(to.journal.refused[0].body) == batch[place]
    assert "413" in to.journal.refused[0].reason or "large" in to.journal.refused[0].reason
    assert len(to.hec.seen) <= 12


def test_too_large_and_bad_events_in_one_batch(to: Sending) -> None:
    to.hec.max_bytes = 2_500
    batch = [event(number, "a" * 500) for number in range(12)]
    batch[2], batch[7], batch[11] = poison(2), event(7, "a" * 3_000), poison(11, 15)
    to.deliver(batch)
    assert to.indexed() == [0, 1, 3, 4, 5, 6, 8, 9, 10]
    assert to.journal.refused_ids == ["event-2", "event-7", "event-11"]


def test_busy_in_the_middle_of_a_batch_in_parts_goes_on_where_it_was(to: Sending) -> None:
    to.hec.play(None, says(9), says(26), None)
    to.deliver([event(0), poison(1), event(2)], [event(3)])
    assert to.indexed() == [0, 2, 3]


# --- All of it at once ----------------------------------------------------------------------------

MOST_BYTES = 3_000
KINDS = st.sampled_from(["good"] * 6 + ["poison 6", "poison 13", "poison 15", "large"])
FAULTS = st.sampled_from(
    [None, None, None, says(9), says(26), says(24, forward=True), LOSE_ANSWER, LOSE_REQUEST, LOGIN_PAGE]
)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sending]:
    with sending(tmp_path_factory.mktemp("hec")) as running:
        running.hec.max_bytes = MOST_BYTES
        yield running


def made(number: int, kind: str) -> dict[str, Any]:
    if kind.startswith("poison"):
        return poison(number, int(kind.split()[1]))
    return event(number, "a" * (MOST_BYTES if kind == "large" else 200))


@pytest.mark.slow
@settings(max_examples=60)
@given(
    kinds=st.lists(st.lists(KINDS, min_size=1, max_size=24), min_size=1, max_size=4),
    faults=st.lists(FAULTS, max_size=12),
    numbered=st.booleans(),
)
def test_whatever_happens_each_event_is_in_or_in_quarantine(
    shared: Sending, kinds: list[list[str]], faults: list[Fault | None], *, numbered: bool
) -> None:
    """And where nothing happened and Splunk says which event is bad, once each and in order."""
    before = len(shared.indexed())
    shared.hec.numbered = numbered
    shared.hec.play(*faults)
    numbers = iter(range(1000))
    batches = [[made(next(numbers), kind) for kind in batch] for batch in kinds]
    package = package_of(shared.folder, *batches)
    journal = Resumed()
    for _ in range(len(faults) + 1):
        try:
            shared.destination().deliver(journal.rest_of(package), journal)
        except DeliveryError:
            continue
    flat = [kind for batch in kinds for kind in batch]
    good = [number for number, kind in enumerate(flat) if kind == "good"]
    assert journal.lines == len(flat)
    assert journal.refused_ids == [id_of(number) for number, kind in enumerate(flat) if kind != "good"]
    came = shared.indexed()[before:]
    assert set(came) == set(good)
    if not faults:
        assert journal.bytes_told == package.content.content_bytes
    if numbered and not faults:
        assert came == good
    file_of(package).unlink()
