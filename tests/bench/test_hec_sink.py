"""The sink of the benchmarks counts what came, and sees what came twice."""

from __future__ import annotations

import gzip
import http.client
from typing import TYPE_CHECKING

import pytest

from tests.bench.hec_sink import Counted, sink
from tests.kit.hec_sending import event, line_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.bench.hec_sink import Sink


@pytest.fixture(scope="module")
def process() -> Iterator[Sink]:
    with sink() as one:
        yield one


@pytest.fixture
def empty(process: Sink) -> Sink:
    process.forget()
    return process


def post(to: Sink, *bodies: bytes) -> None:
    """One request after the other, over one connection."""
    connection = http.client.HTTPConnection("127.0.0.1", to.port, timeout=20)
    for body in bodies:
        connection.request("POST", "/services/collector/event", body)
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (200, b'{"text":"Success","code":0}')
    connection.close()


def events(*numbers: int) -> bytes:
    return b"".join(line_of(event(number)) for number in numbers)


def test_it_counts_events_and_requests_packed_or_not(empty: Sink) -> None:
    """Over any number of connections."""
    plain, packed = events(1, 2), gzip.compress(events(*range(3, 2000)))
    post(empty, plain, packed)
    post(empty, events(2000))
    size = len(plain) + len(packed) + len(events(2000))
    assert empty.counted() == Counted(events=2000, ids=2000, requests=3, wire_bytes=size)
    assert empty.counted().is_exact


def test_an_event_that_came_twice_is_seen(empty: Sink) -> None:
    """By its id."""
    post(empty, events(1, 2), events(2))
    assert empty.counted() == Counted(3, 2, 2, len(events(1, 2, 2)))
    assert not empty.counted().is_exact


def test_it_begins_anew_when_it_forgets(empty: Sink) -> None:
    """What comes then is counted from nothing."""
    post(empty, events(1))
    empty.forget()
    assert empty.counted().events == 0
    post(empty, events(1))
    assert empty.counted().events == 1
