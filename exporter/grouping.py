"""Who takes a step together: the next in line, as many as go well into one group.

It asks for more exports where there is a supply of them, and leaves those whose objects are large alone.
It must not know what a step is, or what came of one beyond how large it was.
"""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from exporter.means import Supply
    from exporter.places import Places
    from exporter.steps import Job

GROUP: Final = 32
"""So many exports take a step together at most, with one transaction for what the ledger has to know."""

FILLING_S: Final = 0.1
"""So long a group that could begin waits to be at least half as large as it may be."""

ASIDE_S: Final = 0.5
"""So long those wait who have no place in a share of theirs, before others are taken on besides."""

LARGE_BYTES: Final = 8_000_000
"""An export whose last object had more, in JSON, takes its next step alone."""


class Grouping:
    """Makes groups, each for one of so many renderers; times are seconds of the monotonic clock."""

    def __init__(self, places: Places, renderers: int, supply: Supply | None) -> None:
        self._places = places
        self._renderers = renderers
        self._supply = supply
        self._full_until = self._take_at = 0.0
        self._large: set[str] = set()

    def next(self, moment: float, *, may_fill: bool, is_left_out: Callable[[Job], bool]) -> list[Job]:
        """Those who take their steps together now: the next in line, so that every renderer has some.

        Nobody where they are few, and ``may_fill``: places come free all the time, and one by one groups
        would stay small. Whoever ``is_left_out`` has been dealt with.
        """
        waiting = len(self._places) + (self._supply.left if self._supply else 0)
        size = min(GROUP, ceil(waiting / self._renderers))
        group: list[Job] = []
        is_whole = False
        for job in self._line(moment, is_left_out):
            is_whole = job.name in self._large or len(group) + 1 >= size
            if job.name in self._large and group:
                self._places.give_back([job])
                break
            group.append(job)
            if is_whole:
                break
        if may_fill and not is_whole and self._should_grow(group, size, moment):
            self._places.give_back(group)
            return []
        if group:
            self._full_until = 0.0
        return group

    def moments(self) -> tuple[float, ...]:
        """When there may be a group although nothing ended."""
        return self._full_until, self._take_at

    def note_size(self, job: Job, content_bytes: int) -> None:
        """So much JSON was in an export's last object."""
        if content_bytes > LARGE_BYTES:
            self._large.add(job.name)
        else:
            self._large.discard(job.name)

    def _should_grow(self, group: Sequence[Job], size: int, moment: float) -> bool:
        """Whether there are few of them, and others may still come in time."""
        if not group or len(group) >= size // 2:
            return False
        self._full_until = self._full_until or moment + FILLING_S
        return moment < self._full_until

    def _line(self, moment: float, is_left_out: Callable[[Job], bool]) -> Iterator[Job]:
        """One after another, each of whom has a place when it comes out."""
        while (job := self._next(moment)) is not None:
            if not is_left_out(job):
                yield job

    def _next(self, moment: float) -> Job | None:
        """The next in line; once nobody in it can go on, somebody of the supply."""
        job = self._places.next(moment)
        while job is None and self._supply is not None and self._may_take(self._supply, moment):
            self._take_at = moment + ASIDE_S
            for one in self._supply.take(GROUP):
                self._places.wait(one)
            job = self._places.next(moment)
        return job

    def _may_take(self, supply: Supply, moment: float) -> bool:
        """Whether this process is the one to take more: others may be free, where some are waiting here."""
        few = len(self._places) < GROUP or moment >= self._take_at
        return bool(supply.left) and self._places.room > 0 and few
