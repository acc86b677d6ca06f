"""A source whose clock is asked at once, and which is loaded when anything else is asked of it.

Most runs find by the clock and the ledger that nothing is due. It must not promise less than the source does.
"""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, Protocol

from exporter.interfaces import LineSource

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Sequence
    from datetime import datetime

    from exporter.interfaces import Block, Source, Template
    from exporter.model import Finding, Range, Seal


class Clock(Protocol):
    """What there is of a source before it is loaded; the source, once made, lets go of what this holds."""

    def now(self) -> datetime:
        """The source's clock, as the source would tell it."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...


class OnDemand:
    """A source that ``make`` makes when it is first needed, once, for all threads."""

    def __init__(self, clock: Clock, make: Callable[[], Source]) -> None:
        self._clock = clock
        self._make = make
        self._made: Source | None = None
        self._making = Lock()

    @property
    def _source(self) -> Source:
        with self._making:
            if self._made is None:
                self._made = self._make()
            return self._made

    def now(self) -> datetime:  # noqa: D102 - from here on, promises are in Source
        return self._clock.now()

    def identity(self) -> str:  # noqa: D102
        return self._source.identity()

    def columns(self) -> Sequence[str]:  # noqa: D102
        return self._source.columns()

    def seal(self, previous: Seal | None = None, due: datetime | None = None) -> Seal:  # noqa: D102
        return self._source.seal(previous, due)

    def holds(self, seal: Seal) -> bool:  # noqa: D102
        return self._source.holds(seal)

    def adopt(self, seal: Seal) -> Seal | None:  # noqa: D102
        return self._source.adopt(seal)

    def read(  # noqa: D102
        self, ranges: Sequence[Range], columns: Sequence[str] | None
    ) -> Generator[tuple[int, Block]]:
        return self._source.read(ranges, columns)

    def read_lines(  # noqa: D102
        self, ranges: Sequence[Range], columns: Sequence[str] | None, template: Template
    ) -> Generator[tuple[int, Block]]:
        source = self._source
        if isinstance(source, LineSource):
            return source.read_lines(ranges, columns, template)
        return source.read(ranges, columns)

    def quiet_until(  # noqa: D102
        self, account: str, start: datetime, end: datetime, seal: Seal
    ) -> datetime:
        return self._source.quiet_until(account, start, end, seal)

    def settings(self, query: str) -> Iterable[bytes]:  # noqa: D102
        return self._source.settings(query)

    def check(self, accounts: Sequence[str]) -> Sequence[Finding]:  # noqa: D102
        return self._source.check(accounts)

    def close(self) -> None:  # noqa: D102
        with self._making:
            (self._made or self._clock).close()
