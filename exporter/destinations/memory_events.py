"""A destination of events in memory, with faults on demand: for simulations and tests.

It keeps the contract of every destination that takes events. It must not be given to anybody who expects
to find his records later.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from exporter.destinations.events import event_id_of
from exporter.destinations.memory import Fault
from exporter.destinations.uploads import opened
from exporter.errors import NotSent, OutcomeUnknown, Refused
from exporter.model import BadKind, BadRecord, Finding, Level, Receipt

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from exporter.interfaces import Journal
    from exporter.model import Batch, Package


class Received(NamedTuple):
    """One batch as it arrived: its lines without their line feeds, and what the package said of itself."""

    lines: tuple[bytes, ...]
    metadata: Mapping[str, str]


class MemoryEvents:
    """Batches in the order in which they came. Safe to use from several threads.

    ``faults`` says what goes wrong with a batch. A ``DELAYED`` one arrives at once, and only its answer
    is lost: a batch in flight is not told from one that is in. Of one that would not come at all, so many
    events as ``taken`` says come first. ``refuses`` says which events are poison.
    """

    prefix = ""

    def __init__(
        self,
        name: str = "memory://events",
        faults: Callable[[Package, Batch], Fault | None] = lambda _package, _batch: None,
        refuses: Callable[[bytes], bool] = lambda _line: False,
        taken: Callable[[Batch], int] = lambda _batch: 0,
    ) -> None:
        self.store = self.endpoint = name
        self.received: list[Received] = []
        self._faults = faults
        self._refuses = refuses
        self._taken = taken

    def claim(self, account: str) -> str:
        """The account's own place."""
        return f"{self.store}/{account}"

    def deliver(self, package: Package, journal: Journal) -> Receipt:
        """Take each batch, or do what its fault says."""
        with opened(package) as file:
            for batch in package.batches:
                file.seek(batch.offset)
                lines = file.read(batch.size_bytes).splitlines()
                self._take(package, batch, lines, journal)
                journal(batch.size_bytes)
                journal.accepted(batch, [_poison(line) for line in lines if self._refuses(line)])
        return Receipt(self.store)

    def check(self) -> Sequence[Finding]:
        """It is always there."""
        return [Finding(self.store, Level.OK, "takes events")]

    def _take(self, package: Package, batch: Batch, lines: list[bytes], journal: Journal) -> None:
        fault = self._faults(package, batch)
        if fault in (Fault.NOT_SENT, Fault.REFUSED, Fault.LOST_REQUEST) and (count := self._taken(batch)):
            self._receive(package, lines[:count])
            journal(0)
            refused = {place: _poison(line) for place, line in enumerate(lines) if self._refuses(line)}
            journal.partly(batch, count, refused)
        if fault is Fault.NOT_SENT:
            raise NotSent("the destination cannot be reached", hint="a fault on demand")
        if fault is Fault.REFUSED:
            raise Refused("the destination refused the batch", hint="a fault on demand")
        if fault is not Fault.LOST_REQUEST:
            self._receive(package, lines)
        if fault is not None:
            raise OutcomeUnknown("the answer was lost", hint="a fault on demand")

    def _receive(self, package: Package, lines: list[bytes]) -> None:
        good = tuple(line for line in lines if not self._refuses(line))
        self.received.append(Received(good, package.metadata))


def _poison(line: bytes) -> BadRecord:
    return BadRecord(event_id_of(line), "poison on demand", len(line), line, BadKind.REFUSED)
