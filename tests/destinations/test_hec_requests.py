"""What the HEC destination spares a collector: requests of which it knows how they end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from exporter.destinations.splunk_hec import wire
from exporter.destinations.splunk_hec.sender import PAUSES_S
from exporter.errors import NotSent, OutcomeUnknown
from tests.kit.hec_sending import Sending, event, package_of, sending
from tests.kit.hec_server import says

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def to(tmp_path: Path) -> Iterator[Sending]:
    with sending(tmp_path) as running:
        yield running


def test_what_was_too_large_once_is_not_tried_in_later_batches(to: Sending) -> None:
    to.hec.max_bytes = 5_000
    batches = [[event(10 * batch + number, "a" * 1000) for number in range(8)] for batch in range(5)]
    to.deliver(*batches)
    too_large = [request for request in to.hec.seen if len(request.body) > to.hec.max_bytes]
    assert len(too_large) == 1
    assert len(to.hec.seen) == 1 + 2 * len(batches)
    assert to.indexed() == [10 * batch + number for batch in range(5) for number in range(8)]


def test_the_pauses_before_further_tries_grow(to: Sending) -> None:
    to.hec.script = lambda _request: says(9)
    to.failure([event(0)])
    assert tuple(to.time.slept) == PAUSES_S == tuple(sorted(set(PAUSES_S)))
    assert len(to.hec.seen) == len(PAUSES_S) + 1


def test_whoever_asks_for_a_long_pause_is_asked_no_second_time(to: Sending) -> None:
    to.hec.script = lambda _request: says(26, retry_after="3600")
    error = to.failure([event(0)])
    assert type(error) is OutcomeUnknown
    assert "asks to wait 3600 s" in error.message
    assert to.time.slept == []
    assert len(to.hec.seen) == 1


def test_the_connection_is_used_again(to: Sending) -> None:
    destination = to.destination()
    for number in range(3):
        destination.deliver(package_of(to.folder, [event(number)], [event(number + 10)]), to.journal)
    assert to.hec.connections == 1


def test_sessions_that_nobody_uses_are_few(to: Sending) -> None:
    """However many collectors there are: each of them holds connections open."""
    for number in range(wire.KEPT_SESSIONS + 5):
        to.deliver([event(number)])
    assert len(wire._idle) <= wire.KEPT_SESSIONS


@pytest.mark.parametrize("token", ["Splunk 0123canary", "0123canary\r\nX-Evil: 1", "0123canary\u00e4", " "])
def test_a_token_that_no_request_can_carry_is_not_sent_and_not_shown(to: Sending, token: str) -> None:
    error = to.failure([event(0)], token=token)
    assert type(error) is NotSent
    assert "one line" in error.hint
    assert "canary" not in f"{error.message} {error.hint}"
    assert to.hec.seen == []


def test_a_token_whose_file_is_gone_is_named_and_nothing_is_sent(to: Sending) -> None:
    error = to.failure([event(0)], token={"file": str(to.folder / "gone")})
    assert type(error) is NotSent
    assert str(to.folder / "gone") in error.message
    assert to.hec.seen == []


def test_an_authority_whose_file_is_gone_is_named_and_nothing_is_sent(to: Sending) -> None:
    error = to.failure([event(0)], ca_file=to.folder / "gone.pem")
    assert type(error) is NotSent
    assert "gone.pem" in error.message
    assert to.hec.seen == []
