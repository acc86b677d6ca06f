"""Sets of positions as runs, and the part of the table's positions that a seal stands for.

Pure: it knows no database. Runs are ``(first, last)`` pairs, both inclusive, disjoint and in order.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from exporter.model import Seal

Run = tuple[int, int]
Runs = tuple[Run, ...]

CLOCK_SLACK = timedelta(seconds=10)
"""How far the server's clock may be set forward, or its machine be stopped, during one statement."""

_MARKS = 12  # of the time that a statement may take; more would make seals larger and gaps little younger


@dataclass(frozen=True, slots=True)
class Mark:
    """Every position up to ``newest`` had been given to some statement before this moment."""

    at: datetime
    newest: int


@dataclass(frozen=True, slots=True)
class Extent:
    """The positions up to ``upto`` but for the ``gaps``: those that hold a record now, or never will.

    Positions up to ``settled`` were given to statements that have ended; ``marks`` are what that will
    follow from for others, by and by.
    """

    upto: int
    gaps: Runs = ()
    settled: int = 0
    marks: tuple[Mark, ...] = ()

    @classmethod
    def of(cls, seal: Seal) -> Extent:
        """From a seal, as the ledger keeps it."""
        marks = cast("list[tuple[str, int]]", seal["marks"])
        return cls(
            upto=cast("int", seal["id"]),
            gaps=tuple((first, last) for first, last in cast("list[tuple[int, int]]", seal["gaps"])),
            settled=cast("int", seal["settled"]),
            marks=tuple(Mark(datetime.fromisoformat(at), newest) for at, newest in marks),
        )

    def as_seal(self) -> Seal:
        """What ``of`` understands, as JSON."""
        return {
            "kind": "mysql",
            "id": self.upto,
            "gaps": [list(run) for run in self.gaps],
            "settled": self.settled,
            "marks": [[mark.at.isoformat(), mark.newest] for mark in self.marks],
        }

    def __or__(self, other: Extent) -> Extent:
        """What either stands for: both are for good, so their union is."""
        low, high = sorted((self, other), key=lambda one: one.upto)
        return Extent(
            upto=high.upto,
            gaps=tuple(sorted((*intersection(high.gaps, low.gaps), *above(high.gaps, low.upto)))),
            settled=max(low.settled, high.settled),
            marks=tuple(sorted({*low.marks, *high.marks}, key=lambda mark: (mark.at, mark.newest))),
        )

    def settled_by(self, now: datetime, longest: timedelta, oldest_statement: datetime) -> int:
        """Up to where positions belong to statements that have ended: none takes longer than ``longest``.

        ``oldest_statement`` is when the oldest one seems to have begun.
        """
        # By itself this would not do: triggers and functions make a statement seem younger than it is.
        aged = [
            mark.newest
            for mark in self.marks
            if mark.at + longest + CLOCK_SLACK < now and mark.at + CLOCK_SLACK < oldest_statement
        ]
        return max(self.settled, *aged, 0)

    def marked(self, mark: Mark, longest: timedelta) -> Extent:
        """With one more mark, and without those that tell nothing more, or hardly anything."""
        telling = [one for one in (*self.marks, mark) if one.newest > self.settled]
        kept: list[Mark] = []
        for one in sorted(telling, key=lambda each: (each.at, each.newest)):
            if len(kept) > 1 and one.at - kept[-2].at < longest / _MARKS:
                del kept[-1]
            kept.append(one)
        return replace(self, marks=tuple(kept))

    def bounded(self, most_gaps: int, floor: int) -> Extent:
        """Cut off above ``floor`` so that there are not more gaps than that; what is beyond comes later."""
        beyond = [first for first, _ in self.gaps[most_gaps:] if first > floor]
        return self if not beyond else self.cut(beyond[0] - 1)

    def cut(self, upto: int) -> Extent:
        """The same up to a lower position."""
        return replace(self, upto=upto, gaps=below(self.gaps, upto))


class Members:
    """Asks an extent about many positions."""

    def __init__(self, extent: Extent) -> None:
        self._upto = extent.upto
        self._firsts = [first for first, _ in extent.gaps]
        self._lasts = [last for _, last in extent.gaps]

    def __contains__(self, position: int) -> bool:
        index = bisect_right(self._firsts, position) - 1
        return position <= self._upto and (index < 0 or position > self._lasts[index])


def without(runs: Sequence[Run], positions: Iterable[int]) -> Runs:
    """What is left of runs when single positions are taken out of them."""
    taken = tuple((position, position) for position in sorted(set(positions)))
    return difference(runs, taken)


def difference(runs: Sequence[Run], taken: Sequence[Run]) -> Runs:
    """What is left of runs when others are taken out of them."""
    return tuple(_difference(runs, taken))


def intersection(left: Sequence[Run], right: Sequence[Run]) -> Runs:
    """The positions that are in both."""
    found, others = [], iter(right)
    other = next(others, None)
    for first, last in left:
        while other is not None and other[0] <= last:
            if other[1] >= first:
                found.append((max(first, other[0]), min(last, other[1])))
            if other[1] > last:
                break
            other = next(others, None)
    return tuple(found)


def union(left: Sequence[Run], right: Sequence[Run]) -> Runs:
    """The positions that are in one of them; runs that touch become one."""
    joined: list[Run] = []
    for first, last in sorted((*left, *right)):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
        else:
            joined.append((first, last))
    return tuple(joined)


def above(runs: Sequence[Run], position: int) -> Runs:
    """What lies beyond a position."""
    return tuple((max(first, position + 1), last) for first, last in runs if last > position)


def below(runs: Sequence[Run], position: int) -> Runs:
    """What lies at or before a position."""
    return tuple((first, min(last, position)) for first, last in runs if first <= position)


def coarse(runs: Sequence[Run], at_most: int) -> list[Run]:
    """Not more runs than that, which hold all these positions, and others between them."""
    joined, distance = list(runs), 1
    while len(joined) > at_most:
        joined, distance = _joined(joined, distance), 2 * distance
    return joined


def _joined(runs: Sequence[Run], distance: int) -> list[Run]:
    found = [runs[0]]
    for first, last in runs[1:]:
        if first - found[-1][1] <= distance:
            found[-1] = (found[-1][0], last)
        else:
            found.append((first, last))
    return found


def _difference(runs: Sequence[Run], taken: Sequence[Run]) -> Iterator[Run]:
    others = iter(taken)
    other = next(others, None)
    for run in runs:
        first, last = run
        while other is not None and other[0] <= last:
            if other[1] >= first:
                if other[0] > first:
                    yield (first, other[0] - 1)
                first = other[1] + 1
            if other[1] > last:
                break
            other = next(others, None)
        if first <= last:
            yield (first, last)
