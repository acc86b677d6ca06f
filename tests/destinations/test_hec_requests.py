"""What the HEC destination spares a collector: requests of which it knows how they end."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import pytest

from exporter.destinations.splunk_hec import wire
from exporter.destinations.splunk_hec.sender import ASKED_FROM, PAUSES_S
from exporter.errors import NotSent, OutcomeUnknown
from exporter.notation.secret import Secret
from tests.kit.hec_sending import Sending, event, package_of, sending
from tests.kit.hec_server import answers, redirect, says
from tests.kit.proxy import Answer, Fault
from tests.kit.servers import new_certificate

if TYPE_CHECKING:
    from pathlib import Path


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
    assert error.wait_s == 3600
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


# --- Answers of who stands in front of a collector --------------------------------------------------


def zipped(status: int, text: bytes) -> Fault:
    return Fault(forward=False, answer=Answer(status, gzip.compress(text), {"Content-Encoding": "gzip"}))


def test_a_compressed_answer_that_nobody_asked_for_is_judged(to: Sending) -> None:
    """A success is one, and a refusal says why."""
    to.hec.play(zipped(200, b'{"text":"Success","code":0}'))
    to.deliver([event(0)])
    assert len(to.journal.batches) == 1
    to.hec.play(zipped(403, b'{"text":"Invalid token","code":4}'))
    assert "Invalid token (code 4, HTTP 403)" in to.failure([event(1)]).message


def test_a_compressed_answer_that_cannot_be_read_is_called_one(to: Sending) -> None:
    to.hec.play(answers(200, b"\x1f\x8b" + bytes(range(256))))
    error = to.failure([event(0)])
    assert type(error) is OutcomeUnknown
    assert "a compressed answer" in error.message


def test_a_compressed_answer_cannot_grow_without_bounds() -> None:
    bomb = gzip.compress(bytes(50_000_000))
    assert len(wire._unzipped(bomb)) == wire.MOST_ANSWER_BYTES


@pytest.mark.parametrize(
    ("location", "said"),
    [
        ("https://user:pass@login.example.com:8443/a?token=xyz#f", "to https://login.example.com:8443"),
        ("http://169.254.169.254/latest", "to http://169.254.169.254"),
        ("/en-US/account/login?return_to=abc", "to http://127.0.0.1:"),
        ("https://[::1", "HTTP 302"),
    ],
)
def test_a_redirect_is_named_by_its_host_and_no_more(to: Sending, location: str, said: str) -> None:
    """What is behind it may be somebody's secret."""
    to.hec.play(redirect(location))
    error = to.failure([event(0)])
    assert said in error.message
    assert not any(word in error.message for word in ("user", "pass@", "xyz", "latest", "en-US", "abc"))


def test_an_empty_token_is_said_to_be_empty(to: Sending, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("\n")
    error = to.failure([event(0)], token=Secret(str(path), "file"))
    assert type(error) is NotSent
    assert "is empty" in error.message


def test_a_certificate_that_nobody_trusts_leads_to_check(tmp_path: Path) -> None:
    _, context = new_certificate(tmp_path)
    with sending(tmp_path, context) as to:
        assert "audit-exporter check --export NAME" in to.failure([event(0)]).hint


# --- What a process that dies doubles -----------------------------------------------------------------


def test_acknowledgements_are_asked_for_while_batches_go_out(tmp_path: Path) -> None:
    """So that few of them are on their way at any time, where indexers are quick."""
    with sending(tmp_path, acknowledged=True) as to:
        open_ones: list[int] = []
        to.journal.at = lambda _batch: open_ones.append(len(to.hec.requests()) - len(to.journal.batches))
        to.deliver(*([event(number)] for number in range(40)), acknowledge=True)
        assert max(open_ones) <= ASKED_FROM
        assert len(to.hec.requests("ack")) <= 40 / ASKED_FROM + 1
