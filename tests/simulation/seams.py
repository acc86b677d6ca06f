"""Seams that pass every call on, and let the world act before and after it.

That is where a process can die, another one can go on, and the clock can move. Only `Crash` may come
out of a step; what the real code does with its own errors is its own affair.
"""

from __future__ import annotations

from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
    from datetime import datetime

    from exporter.destinations.memory_events import MemoryEvents
    from exporter.destinations.object_store import ObjectStoreDestination
    from exporter.interfaces import Block, Journal, Source
    from exporter.ledger.memory import MemoryRows, MemoryStorage
    from exporter.model import BadRecord, Batch, Finding, Package, Range, Receipt, Seal

    Step = Callable[[str], None]


class Crash(BaseException):
    """The process is gone, as after SIGKILL: nothing may catch this."""


class SteppedStorage:
    """A ledger's storage; ``changed`` is called after every transaction that wrote."""

    def __init__(self, storage: MemoryStorage, step: Step, changed: Callable[[], None]) -> None:
        self._storage = storage
        self._step = step
        self._changed = changed

    @contextmanager
    def writing(self, export: str | None = None) -> Iterator[MemoryRows]:
        """A transaction."""
        self._step("ledger write")
        with self._storage.writing(export) as rows:
            yield rows
        self._changed()
        self._step("ledger written")

    @contextmanager
    def together(self, exports: Collection[str]) -> Iterator[MemoryRows]:
        """A transaction for several exports."""
        self._step("ledger write")
        with self._storage.together(exports) as rows:
            yield rows
        self._changed()
        self._step("ledger written")

    @contextmanager
    def reading(self) -> Iterator[MemoryRows]:
        """One consistent view."""
        with self._storage.reading() as rows:
            yield rows
        self._step("ledger read")

    def close(self) -> None:
        """Nothing to let go of."""


class SteppedSource:
    """A source."""

    def __init__(self, source: Source, step: Step) -> None:
        self._source = source
        self._step = step
        self.now = source.now
        self.identity = source.identity
        self.columns = source.columns
        self.holds = source.holds
        self.adopt = source.adopt
        self.settings = source.settings
        self.check = source.check
        self.close = source.close

    def seal(self, previous: Seal | None = None, due: datetime | None = None) -> Seal:
        """Fix what is visible."""
        self._step("seal")
        seal = self._source.seal(previous, due)
        self._step(f"sealed {dict(seal)}")
        return seal

    def read(self, ranges: Sequence[Range], columns: Sequence[str] | None) -> Generator[tuple[int, Block]]:
        """The records of some ranges, with a step at every block."""
        self._step("read")
        with closing(self._source.read(ranges, columns)) as found:
            for index, block in found:
                yield index, block
                self._step("read a block")

    def quiet_until(self, account: str, start: datetime, end: datetime, seal: Seal) -> datetime:
        """Until when nothing is on time."""
        self._step("quiet?")
        return self._source.quiet_until(account, start, end, seal)


class SteppedJournal:
    """The journal of a delivery of events; a batch is looked at before the ledger knows of it."""

    def __init__(self, inner: Journal, step: Step, changed: Callable[[], None]) -> None:
        self._inner = inner
        self._step = step
        self._changed = changed

    def __call__(self, size_bytes: int, /) -> None:
        """A batch is in, and nobody knows."""
        self._changed()
        self._step("a batch arrived")
        self._inner(size_bytes)

    def ends(self) -> bool:
        """What the inner one says."""
        return self._inner.ends()

    def accepted(self, batch: Batch, refused: Sequence[BadRecord] = ()) -> None:
        """The ledger is told."""
        self._inner.accepted(batch, refused)
        self._step("next batch")

    def partly(self, batch: Batch, count: int, refused: Mapping[int, BadRecord]) -> None:
        """The ledger is told of the beginning of a batch."""
        self._inner.partly(batch, count, refused)
        self._step("the delivery ended within a batch")


class SteppedEvents:
    """A destination of events; ``changed`` is called after every batch."""

    def __init__(self, inner: MemoryEvents, name: str, step: Step, changed: Callable[[], None]) -> None:
        self._inner = inner
        self._name = name
        self._step = step
        self._changed = changed
        self.store = inner.store
        self.endpoint = inner.endpoint
        self.prefix = inner.prefix

    def __repr__(self) -> str:
        return f"{self.store}/{self._name}"

    def claim(self, account: str) -> str:
        """A place for each export."""
        return f"{self._inner.claim(account)}/{self._name}"

    def deliver(self, package: Package, journal: Journal) -> Receipt:
        """One try."""
        self._step(f"send {len(package.batches)} batches")
        try:
            return self._inner.deliver(package, SteppedJournal(journal, self._step, self._changed))
        finally:
            self._changed()

    def check(self) -> Sequence[Finding]:
        """What the inner one says."""
        return self._inner.check()


class SteppedDestination:
    """A destination; ``changed`` is called after every upload."""

    def __init__(self, inner: ObjectStoreDestination, step: Step, changed: Callable[[], None]) -> None:
        self._inner = inner
        self._step = step
        self._changed = changed
        self.store = inner.store
        self.endpoint = inner.endpoint
        self.prefix = inner.prefix

    def __repr__(self) -> str:
        return f"{self.store}/{self.prefix}"

    def claim(self, account: str) -> str:
        """The place of an account's names."""
        return self._inner.claim(account)

    def deliver(self, package: Package, progress: Callable[[int], None]) -> Receipt:
        """One try."""
        self._step(f"put {package.name}")
        try:
            receipt = self._inner.deliver(package, progress)
        finally:
            self._changed()
            self._step("put answered")
        return receipt

    def check(self) -> Sequence[Finding]:
        """What the inner one says."""
        return self._inner.check()
