"""Every destination of events keeps the one contract: a new one is a function here, and a parameter."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from exporter.destinations.memory import Fault
from exporter.destinations.memory_events import MemoryEvents
from tests.contracts.events import CONTRACT, Subject
from tests.kit.hec_sending import sending
from tests.kit.hec_server import says
from tests.kit.proxy import LOSE_ANSWER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def memory(folder: Path) -> Iterator[Subject]:
    faults: list[Fault | None] = []
    destination = MemoryEvents(
        faults=lambda _package, _batch: faults.pop(0) if faults else None,
        refuses=lambda line: json.loads(line)["event"] is None,
    )

    def arrived() -> list[int]:
        return [json.loads(line)["event"]["number"] for one in destination.received for line in one.lines]

    yield Subject(
        destination,
        arrived,
        lambda place: faults.extend([*[None] * place, Fault.REFUSED]),
        lambda place: faults.extend([*[None] * place, Fault.LOST_ANSWER]),
        folder,
    )


def splunk_hec(folder: Path) -> Iterator[Subject]:
    with sending(folder) as to:
        yield Subject(
            to.destination(),
            to.indexed,
            lambda place: to.hec.play(*[None] * place, says(4)),
            lambda place: to.hec.play(*[None] * place, LOSE_ANSWER),
            folder,
        )


@pytest.fixture(params=[memory, splunk_hec], ids=lambda made: made.__name__)
def subject(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Subject]:
    yield from request.param(tmp_path)


@pytest.mark.parametrize("promise", CONTRACT, ids=lambda promise: promise.__name__)
def test_a_destination_of_events_keeps_its_promises(
    subject: Subject, promise: Callable[[Subject], None]
) -> None:
    """As the promise says in its name."""
    promise(subject)
