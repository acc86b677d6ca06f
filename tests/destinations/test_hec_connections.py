"""Connections to a collector that do not come about, break, take for ever or speak no HTTP."""

from __future__ import annotations

import re
import time
from threading import Event
from typing import TYPE_CHECKING

import pytest

from exporter.destinations.splunk_hec import wire
from exporter.errors import NotSent, OutcomeUnknown
from tests.kit.hec_http import Endless, html
from tests.kit.hec_sending import Sending, event
from tests.kit.proxy import CUT_BEFORE_BODY, LOSE_ANSWER, LOSE_REQUEST, Answer, Fault
from tests.kit.sockets import closed_port, listening, read_request, silent

if TYPE_CHECKING:
    import socket

TWO = [event(0), event(1)]


def test_nobody_listens_so_nothing_was_sent(to: Sending) -> None:
    error = to.failure(TWO, url=f"http://127.0.0.1:{closed_port()}")
    assert type(error) is NotSent
    assert error.hint


@pytest.mark.parametrize(
    ("fault", "taken"),
    [(CUT_BEFORE_BODY, []), (LOSE_REQUEST, []), (LOSE_ANSWER, [0, 1])],
    ids=["before the body", "before the events are taken", "after the events are taken"],
)
def test_a_connection_that_breaks_leaves_it_open(to: Sending, fault: Fault, taken: list[int]) -> None:
    to.hec.play(*[fault] * 50)
    error = to.failure(TWO)
    assert type(error) is OutcomeUnknown
    assert len(to.hec.seen) == 1
    assert to.journal.batches == []
    assert to.indexed() == taken


@pytest.mark.parametrize("taken", [True, False])
def test_an_answer_that_does_not_come_in_time_leaves_it_open(
    to: Sending, monkeypatch: pytest.MonkeyPatch, *, taken: bool
) -> None:
    monkeypatch.setattr(wire, "ANSWER_S", 0.2)
    late = Event()
    to.hec.play(*[Fault(forward=taken, hold=late, answer=None if taken else html(502, "late"))] * 50)
    began = time.monotonic()
    error = to.failure(TWO)
    took_s = time.monotonic() - began
    late.set()
    assert type(error) is OutcomeUnknown
    assert took_s < 10
    assert to.journal.batches == []


def test_an_answer_that_trickles_ends_too(to: Sending, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "ANSWER_S", 0.2)
    to.hec.play(*[Endless(forward=False, answer=Answer(200, b" "), pace_s=0.05)] * 50)
    began = time.monotonic()
    assert type(to.failure(TWO)) is OutcomeUnknown
    assert time.monotonic() - began < 10


def test_a_server_that_takes_nothing_at_all_does_not_hang(
    to: Sending, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes the connection, and neither reads nor answers."""
    monkeypatch.setattr(wire, "ANSWER_S", 0.2)
    with listening(silent) as server:
        error = to.failure([event(0, "a" * 20_000)], url=f"http://127.0.0.1:{server.port}")
    assert type(error) is OutcomeUnknown


NO_HTTP = {
    "nothing": b"",
    "no HTTP": b"SSH-2.0-OpenSSH_9.9\r\n",
    "no status": b"HTTP/1.1 abc\r\n\r\n",
    "odd status": b"HTTP/1.1 99999 OK\r\n\r\n{}",
    "no end of headers": b"HTTP/1.1 200 OK\r\nContent-Length: 27\r\n",
    "many headers": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n",
    "a long header": b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
    "a length that is none": b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n{}",
    "no gzip": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
    "no chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}",
    "half an answer": b'HTTP/1.1 200 OK\r\nContent-Length: 27\r\n\r\n{"text":"Success",',
    "zeroes": b"\0" * 10_000,
}


@pytest.mark.parametrize("name", NO_HTTP)
def test_what_is_hardly_http_leaves_it_open(to: Sending, name: str) -> None:
    def answer(connection: socket.socket, _over: Event) -> None:
        head = read_request(connection)
        wanted = int(re.search(rb"content-length: (\d+)", head.lower())[1])  # type: ignore[index]
        body = head.partition(b"\r\n\r\n")[2]
        while len(body) < wanted:
            body += connection.recv(65536)
        connection.sendall(NO_HTTP[name])

    with listening(answer) as server:
        error = to.failure(TWO, url=f"http://127.0.0.1:{server.port}")
    assert type(error) is OutcomeUnknown
    assert error.message.isprintable()
    assert len(error.message) < 1000
    assert to.journal.batches == []
