"""Batches on their way out: the next one is made ready meanwhile, and none comes early, late or changed."""

from __future__ import annotations

import threading
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.destinations.splunk_hec import wire
from exporter.destinations.splunk_hec.lines import Events, read_ahead
from exporter.errors import NotSent
from tests.kit.archives import file_of
from tests.kit.hec_sending import event, line_of, package_of, poison, sending
from tests.kit.hec_server import says

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.kit.hec_sending import Sending

WITHIN_S = 20.0


@pytest.fixture
def to(tmp_path: Path) -> Iterator[Sending]:
    with sending(tmp_path) as one:
        yield one


class Packing:
    """Packs nothing, and notes what it was given; ``fails_at`` is the number of the time that ends badly."""

    def __init__(self, fails_at: int = 0) -> None:
        self.given: list[bytes] = []
        self._fails_at = fails_at
        self._more = threading.Condition()

    def __call__(self, events: bytes) -> bytes:
        with self._more:
            self.given.append(events)
            self._more.notify_all()
            if len(self.given) == self._fails_at:
                raise OSError("no such sector")
        return b"packed " + events

    def wait_for(self, count: int) -> None:
        with self._more:
            assert self._more.wait_for(lambda: len(self.given) >= count, WITHIN_S)


def numbered(count: int) -> list[list[dict[str, object]]]:
    """Batches of two events each."""
    return [[event(2 * number), event(2 * number + 1)] for number in range(count)]


def joined(batch: list[dict[str, object]]) -> bytes:
    return b"".join(map(line_of, batch))


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_each_batch_comes_with_its_own_events(tmp_path: Path, count: int) -> None:
    """In order, packed, and all of them."""
    batches = numbered(count)
    package = package_of(tmp_path, *batches)
    with file_of(package).open("rb") as file, closing(read_ahead(package, file, Packing())) as found:
        came = [(batch, events.part(0, len(events)), events) for batch, events in found]
    assert [batch for batch, _, _ in came] == list(package.batches)
    assert [whole for _, whole, _ in came] == [joined(batch) for batch in batches]
    assert [events.packed(whole) for _, whole, events in came] == [b"packed " + whole for _, whole, _ in came]


def test_the_next_batch_is_made_ready_while_one_is_sent_and_no_other(tmp_path: Path) -> None:
    """Two batches are in memory, however many there are."""
    batches, pack = numbered(4), Packing()
    package = package_of(tmp_path, *batches)
    with file_of(package).open("rb") as file, closing(read_ahead(package, file, pack)) as found:
        for number, _ in enumerate(found, 1):
            ready = min(number + 1, len(batches))
            pack.wait_for(ready)
            assert pack.given == [joined(batch) for batch in batches[:ready]]


@pytest.mark.parametrize("at", [1, 2, 4])
def test_what_goes_wrong_with_a_batch_is_raised_when_it_is_its_turn(tmp_path: Path, at: int) -> None:
    """Those before it go out as if nothing had happened."""
    package = package_of(tmp_path, *numbered(4))
    came: list[object] = []
    with (
        file_of(package).open("rb") as file,
        closing(read_ahead(package, file, Packing(at))) as found,
        pytest.raises(OSError, match="sector"),
    ):
        came.extend(found)
    assert len(came) == at - 1


CHANGES = {
    "cut off": lambda second: second[:3],
    "a line more": lambda second: b"\n" + second[1:],
    "a line less": lambda second: second.replace(b"\n", b" ", 1),
    "no end of the last line": lambda second: second[:-1] + b" ",
    "one line made two, and the last without an end": lambda second: b"\n" + second[1:-1] + b" ",
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_file_that_changed_goes_out_up_to_there(to: Sending, change: Callable[[bytes], bytes]) -> None:
    """What is wrong with the second batch keeps the first one back as little as it lets the third go out."""
    package = package_of(to.folder, *numbered(3))
    first, second, _ = package.batches
    whole, end = file_of(package).read_bytes(), second.offset + second.size_bytes
    changed = change(whole[second.offset : end])
    file_of(package).write_bytes(whole[: second.offset] + changed + whole[end:] * (len(changed) > 3))
    with pytest.raises(NotSent, match="changed in the workspace"):
        to.destination().deliver(package, to.journal)
    assert to.indexed() == [0, 1]
    assert to.journal.batches == [first]


def test_nothing_is_left_running_behind_a_delivery_that_failed(to: Sending) -> None:
    """Its thread has ended before the error is out."""
    to.hec.play(says(4))
    to.failure(*numbered(5))
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("events")] == []


def test_events_are_packed_once_however_often_they_are_tried(
    to: Sending, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A collector that is busy costs time, and no work."""
    packed: list[bytes] = []
    zipped = wire._zipped

    def counting(body: bytes) -> bytes:
        packed.append(body)
        return zipped(body)

    monkeypatch.setattr(wire, "_zipped", counting)
    batches = numbered(2)
    to.hec.play(says(9), says(9))
    to.deliver(*batches)
    assert packed == [joined(batch) for batch in batches]
    assert to.indexed() == [0, 1, 2, 3]


def test_parts_of_a_batch_are_packed_for_themselves(to: Sending) -> None:
    """Around an event that is refused, each goes out with what is left."""
    to.deliver([event(0), poison(1), event(2)], [event(3)])
    assert to.indexed() == [0, 2, 3]
    assert to.posts() == [[0, 1, 2], [2], [3]]


lines = st.lists(st.binary(max_size=9).map(lambda one: one.replace(b"\n", b"\r") + b"\n"), min_size=1)


@given(lines, st.data())
def test_events_come_apart_at_line_feeds_and_nowhere_else(every: list[bytes], data: st.DataObject) -> None:
    """Whatever else is in a line; what was packed stands for all of them, and for no part."""
    events = Events(b"".join(every), len(every), b"packed")
    start = data.draw(st.integers(0, len(every)))
    stop = data.draw(st.integers(start, len(every)))
    part = events.part(start, stop)
    assert part == b"".join(every[start:stop])
    assert events.packed(part) == (b"packed" if stop - start == len(every) else None)
    assert [events[place] for place in range(len(events))] == every
