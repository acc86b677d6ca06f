"""What the tests of the HEC destination share: packages of events, a journal that records, a fast clock."""

from __future__ import annotations

import hashlib
import json
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from typing import TYPE_CHECKING, Any, Final

import pytest

from exporter.destinations.splunk_hec.destination import SplunkHecDestination
from exporter.destinations.splunk_hec.settings import SplunkHecSettings
from exporter.errors import DeliveryError
from exporter.model import BadKind, Batch, Content, Package
from exporter.network.guard import Guard
from exporter.notation.secret import Secret
from tests.kit.archives import file_of
from tests.kit.hec_server import Hec, hec_server

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from exporter.model import BadRecord, Receipt

BEGIN: Final = 1_700_000_000
LOOPBACK: Final = ("127.0.0.1", "localhost")
_NUMBERS = count(1)


def event(number: int, value: Any = None, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """One envelope; its id is `event-NUMBER`."""
    return {
        "time": BEGIN + number,
        "event": {"number": number} if value is None else value,
        "fields": {"event_id": id_of(number), "sequence": 1},
        **more,
    }


def poison(number: int, code: int = 6) -> dict[str, Any]:
    """One that Splunk refuses with this code, and no other."""
    if code == 12:
        return {name: value for name, value in event(number).items() if name != "event"}
    if code == 15:
        return event(number, fields={"event_id": id_of(number), "nested": {"a": 1}})
    return {**event(number), "event": " " if code == 13 else None}


def id_of(number: int) -> str:
    return f"event-{number}"


def line_of(envelope: Mapping[str, Any]) -> bytes:
    return json.dumps(envelope, ensure_ascii=False).encode() + b"\n"


def package_of(
    folder: Path,
    *batches: Sequence[Mapping[str, Any]],
    skipped: int = 0,
) -> Package:
    """Events in batches, of which the first ones may be in already."""
    parts = [b"".join(map(line_of, batch)) for batch in batches]
    whole = b"".join(parts)
    path = folder / f"events-{next(_NUMBERS)}.ndjson"
    path.write_bytes(whole)
    made: list[Batch] = []
    for part, batch in zip(parts, batches, strict=True):
        offset = made[-1].offset + made[-1].size_bytes if made else 0
        last = batch[-1]["fields"]["event_id"]
        made.append(Batch(offset, len(part), len(batch), (batch[-1]["time"], last)))
    digest = hashlib.sha256(whole).hexdigest()
    content = Content(sum(map(len, batches)), 0, 0, len(whole), digest, len(whole), digest)
    return Package(path, "", content, "application/json", batches=tuple(made[skipped:]))


@dataclass
class Records:
    """A journal that writes down all that it is told; ``at`` is called with each batch before that."""

    at: Callable[[Batch], None] = lambda _batch: None
    has_to_end: bool = False
    bytes_told: int = 0
    batches: list[Batch] = field(default_factory=list)
    refused: list[BadRecord] = field(default_factory=list)
    part: tuple[Batch, int] | None = None

    def __call__(self, size_bytes: int, /) -> None:
        assert size_bytes >= 0
        self.bytes_told += size_bytes

    def ends(self) -> bool:
        return self.has_to_end

    def accepted(self, batch: Batch, refused: Sequence[BadRecord] = ()) -> None:
        self.at(batch)
        self.batches.append(batch)
        self.refused.extend(refused)

    def partly(self, batch: Batch, count: int, refused: Mapping[int, BadRecord]) -> None:
        assert self.part is None
        assert 0 < count <= batch.count
        self.part = batch, count
        self.refused.extend(refused[place] for place in sorted(refused) if place < count)

    @property
    def refused_ids(self) -> list[str]:
        """Of the events in quarantine, all of which have to lie there as refused ones."""
        assert all(record.kind is BadKind.REFUSED for record in self.refused)
        return [record.id for record in self.refused]


@dataclass
class Resumed(Records):
    """The same over several deliveries, each of what the one before it left."""

    lines: int = 0
    """So many of the package, from the first on, are in or in quarantine."""

    def accepted(self, batch: Batch, refused: Sequence[BadRecord] = ()) -> None:
        super().accepted(batch, refused)
        self.lines += batch.count

    def partly(self, batch: Batch, count: int, refused: Mapping[int, BadRecord]) -> None:
        super().partly(batch, count, refused)
        self.part = None
        self.lines += count

    def rest_of(self, package: Package) -> Package:
        """What is left of it."""
        data, left = file_of(package).read_bytes(), self.lines
        batches: list[Batch] = []
        for batch in package.batches:
            done = min(left, batch.count)
            left -= done
            if done < batch.count:
                lines = data[batch.offset : batch.offset + batch.size_bytes].split(b"\n")
                size = sum(len(line) + 1 for line in lines[:done])
                rest = Batch(batch.offset + size, batch.size_bytes - size, batch.count - done, batch.last_key)
                batches.append(rest)
        return replace(package, batches=tuple(batches))


@dataclass
class FastTime:
    """A clock that stands still but for sleeping, which takes no time; ``during`` is called in each sleep."""

    now_s: float = 1000.0
    slept: list[float] = field(default_factory=list)
    during: Callable[[], object] = lambda: None

    def clock(self) -> float:
        return self.now_s

    def sleep(self, seconds: float, ends: Callable[[], bool]) -> None:
        assert seconds >= 0
        if ends():
            return
        assert len(self.slept) < 10_000, "it waits for ever"
        self.slept.append(seconds)
        self.now_s += seconds
        self.during()

    @property
    def slept_s(self) -> float:
        return sum(self.slept)


@dataclass
class Sending:
    """A collector, a token for it, and a destination that sends there."""

    hec: Hec
    folder: Path
    ca_file: Path | None = None
    time: FastTime = field(default_factory=FastTime)
    journal: Records = field(default_factory=Records)
    token: str = ""

    def settings(self, **changes: Any) -> SplunkHecSettings:  # noqa: ANN401 - whatever a test sets
        given: dict[str, Any] = {"type": "splunk_hec", "url": self.hec.url, "token": Secret(self.token)}
        if self.ca_file:
            given["ca_file"] = self.ca_file
        return SplunkHecSettings.model_validate({**given, **changes})

    def destination(
        self,
        *,
        allow: Sequence[str] = LOOPBACK,
        **changes: Any,  # noqa: ANN401 - whatever a test sets
    ) -> SplunkHecDestination:
        settings = self.settings(**changes)
        return SplunkHecDestination(settings, Guard(allow), clock=self.time.clock, sleep=self.time.sleep)

    def deliver(self, *batches: Sequence[Mapping[str, Any]], **changes: Any) -> Receipt:  # noqa: ANN401
        """Deliver these to a new destination with such settings, noted in ``journal``."""
        return self.destination(**changes).deliver(package_of(self.folder, *batches), self.journal)

    def failure(self, *batches: Sequence[Mapping[str, Any]], **changes: Any) -> DeliveryError:  # noqa: ANN401
        """The error that the same ends with; it never shows the token."""
        with pytest.raises(DeliveryError) as caught:
            self.deliver(*batches, **changes)
        error = caught.value
        assert self.token not in f"{error.message} {error.hint} {error.fix} {error!r}"
        return error

    def posts(self) -> list[list[int]]:
        """The numbers of the events in each request for events, in order."""
        return [[_number(line) for line in request.lines] for request in self.hec.requests()]

    def indexed(self, index: str = "main") -> list[int]:
        """The numbers of the events in an index, in order."""
        return [_number(one.sent.encode()) for one in self.hec.events(index)]


class Acknowledged:
    """A collector whose token has acknowledgement, and a destination that waits for it."""

    def __init__(self, to: Sending) -> None:
        self.to = to
        self.hec = to.hec
        self.time = to.time
        self.journal = to.journal
        self.destination = to.destination(acknowledge=True)

    def deliver(self, count: int, *, first: int = 0) -> None:
        """So many batches of one event each."""
        batches = ([event(number)] for number in range(first, first + count))
        self.destination.deliver(package_of(self.to.folder, *batches), self.journal)

    def failure(self, count: int) -> DeliveryError:
        with pytest.raises(DeliveryError) as caught:
            self.deliver(count)
        return caught.value

    def hold(self, until: Callable[[int], object]) -> None:
        """Everything stays in the queues; ``until`` is called with the number of each pause."""
        self.hec.holding = True
        self.time.during = lambda: until(len(self.time.slept))

    def asked(self) -> list[list[int]]:
        """What was asked for, each time."""
        return [json.loads(request.body)["acks"] for request in self.hec.requests("ack")]

    @property
    def accepted(self) -> int:
        return len(self.journal.batches)


def _number(line: bytes) -> int:
    return int(json.loads(line)["fields"]["event_id"].removeprefix("event-"))


@contextmanager
def sending(
    folder: Path,
    tls: ssl.SSLContext | None = None,
    ca_file: Path | None = None,
    *,
    indexers: int = 1,
    acknowledged: bool = False,
) -> Iterator[Sending]:
    """A collector of one's own."""
    with hec_server(tls, indexers=indexers) as hec:
        yield Sending(hec, folder, ca_file, token=hec.new_token(acknowledged=acknowledged))
