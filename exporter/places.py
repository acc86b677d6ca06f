"""Who may start next: a run's places, shared so that exports in trouble leave room for all others.

What may hang together has a share of the places and of the workspace: the exports of one store, those of
one endpoint, and all that are in trouble, because they failed last time or their endpoint hangs. Whoever
finds a share used up steps aside, and the others pass. It must not know what a place is used for.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from exporter.steps import Job

OF_A_STORE: Final = 1 / 2
OF_AN_ENDPOINT: Final = 3 / 4
OF_TROUBLE: Final = 1 / 4

TROUBLES_TURN: Final = 4
"""Of so many starts, one is of an export in trouble, if any waits: a render costs the others time, too."""

HANGS: Final = 8
"""An endpoint at which so many attempts in a row hung is one that hangs."""

SLOW_S: Final = 5.0
"""An upload that takes longer leaves its place to another one."""


@dataclass(slots=True, eq=False)
class Share:
    """A part of all places, and of the bytes in the workspace; ``aside`` wait until it has room again."""

    places: int
    size_bytes: float
    taken: int = 0
    held_bytes: int = 0
    aside: deque[Job] = field(default_factory=deque)

    @property
    def room(self) -> int:
        """How many more may take a place of it."""
        return self.places - self.taken if self.held_bytes < self.size_bytes else 0

    def take(self, size_bytes: int) -> None:
        """One more place, with what it holds in the workspace."""
        self.taken += 1
        self.held_bytes += size_bytes

    def give_back(self, size_bytes: int) -> None:
        """One place less."""
        self.taken -= 1
        self.held_bytes -= size_bytes


@dataclass(slots=True, eq=False)
class _Stay:
    """What one export under way takes up; ``since`` when its upload began, in seconds of a clock."""

    shares: list[Share]
    size_bytes: int = 0
    since: float | None = None


class Places:
    """The line of those who wait, and the places of those who are under way: a step each at most.

    There are ``number`` places and ``size_bytes`` of workspace, and as much again for uploads that are slow.
    """

    def __init__(self, number: int, size_bytes: int, waiting: Iterable[Job], failed: Collection[str]) -> None:
        self._all = Share(number, size_bytes)
        self._slow = Share(number, size_bytes)
        self._trouble = self._part(OF_TROUBLE)
        self._stores: defaultdict[str, Share] = defaultdict(partial(self._part, OF_A_STORE))
        self._endpoints: defaultdict[str, Share] = defaultdict(partial(self._part, OF_AN_ENDPOINT))
        self._crowded: set[Share] = set()  # those with somebody aside
        self._under_way: dict[str, _Stay] = {}
        self._failed = set(failed)
        self._hangs: Counter[str] = Counter()
        self._line: deque[Job] = deque()
        self._line_of_trouble: deque[Job] = deque()
        self._starts = 0
        for job in waiting:
            self.wait(job)

    def in_trouble(self, job: Job) -> bool:
        """Whether an export failed when it was last tried, or its endpoint hangs."""
        if job.name in self._failed:
            return True
        return bool(self._hangs) and self._hangs[job.destination.endpoint] >= HANGS

    def has_failed(self, job: Job) -> bool:
        """Whether an export failed when it was last tried, in this run or before."""
        return job.name in self._failed

    def wait(self, job: Job) -> None:
        """Go to the end of the line."""
        self._line_of(job).append(job)

    def __len__(self) -> int:
        """How many have no place."""
        aside = sum(len(share.aside) for share in self._crowded)
        return len(self._line) + len(self._line_of_trouble) + aside

    @property
    def room(self) -> int:
        """How many more may have a place."""
        return self._all.room

    @property
    def room_bytes(self) -> float:
        """How much of the workspace is left."""
        return self._all.size_bytes - self._all.held_bytes

    def give_back(self, jobs: Sequence[Job]) -> None:
        """These were to take a step, and did not: they are the first in their lines again, in this order."""
        for job in reversed(jobs):
            self.leave(job)
            self._line_of(job).appendleft(job)

    def waiting(self) -> list[Job]:
        """Everybody who has no place."""
        aside = (job for share in self._crowded for job in share.aside)
        return [*self._line, *self._line_of_trouble, *aside]

    def next(self, moment: float) -> Job | None:
        """The first in line with room in all its shares; it has a place now. None: nobody, or no room."""
        if self._all.room <= 0:
            self._part_with_slow(moment)
        while self._all.room > 0:
            first, second = self._line, self._line_of_trouble
            if self._starts % TROUBLES_TURN == TROUBLES_TURN - 1:
                first, second = second, first
            job = self._first_of(first) or self._first_of(second)
            if job is not None:
                self._starts += 1
                return job
            if not self._call_all_back():
                break
        return None

    def slow_at(self) -> float | None:
        """When the next upload under way becomes slow, if there is no room before."""
        if self._all.room > 0 or self._slow.room <= 0:
            return None
        began = (stay.since for stay in self._under_way.values() if stay.since and self._all in stay.shares)
        first = next(began, None)
        return None if first is None else first + SLOW_S

    def upload(self, job: Job, size_bytes: int, moment: float) -> None:
        """This export's archive is on its way from now on."""
        stay = self._under_way.pop(job.name)
        stay.size_bytes, stay.since = size_bytes, moment
        for share in stay.shares:
            share.held_bytes += size_bytes
        self._under_way[job.name] = stay  # uploads in the order in which they began

    def leave(self, job: Job) -> None:
        """This export's step is over."""
        stay = self._under_way.pop(job.name)
        for share in stay.shares:
            share.give_back(stay.size_bytes)
            self._call_back(share)

    def succeeded(self, job: Job) -> None:
        """What was wrong with this export and its endpoint is over."""
        self._failed.discard(job.name)
        del self._hangs[job.destination.endpoint]

    def failed(self, job: Job, *, hung: bool) -> None:
        """This export does not get on; ``hung``: because its endpoint did not answer in time."""
        self._failed.add(job.name)
        if hung:
            self._hangs[job.destination.endpoint] += 1

    def _line_of(self, job: Job) -> deque[Job]:
        return self._line_of_trouble if self.in_trouble(job) else self._line

    def _part(self, part: float) -> Share:
        return Share(max(1, int(self._all.places * part)), self._all.size_bytes * part)

    def _first_of(self, line: deque[Job]) -> Job | None:
        while line:
            job = line.popleft()
            if line is self._line and self.in_trouble(job):
                self._line_of_trouble.append(job)
                continue
            shares = self._shares_of(job)
            full = next((share for share in shares if share.room <= 0), None)
            if full is None:
                self._place(job, shares)
                return job
            full.aside.append(job)
            self._crowded.add(full)
        return None

    def _shares_of(self, job: Job) -> list[Share]:
        shares = [self._stores[job.destination.store], self._endpoints[job.destination.endpoint]]
        return [*shares, self._trouble] if self.in_trouble(job) else shares

    def _place(self, job: Job, shares: list[Share]) -> None:
        stay = self._under_way[job.name] = _Stay([self._all, *shares])
        for share in stay.shares:
            share.take(0)

    def _call_all_back(self) -> bool:
        """Some who were called back may have stepped aside elsewhere, and left room to those behind them."""
        called = [self._call_back(share) for share in list(self._crowded)]
        return any(called)

    def _call_back(self, share: Share) -> bool:
        """Those aside go to the front of their lines, as many as there is room for; whether there are any."""
        count = min(share.room, len(share.aside))
        for job in reversed([share.aside.popleft() for _ in range(count)]):
            self._line_of(job).appendleft(job)
        if not share.aside:
            self._crowded.discard(share)
        return count > 0

    def _part_with_slow(self, moment: float) -> None:
        """Uploads that take long no longer have a place of the usual ones, as far as there are others."""
        for stay in self._under_way.values():
            if stay.since is None or self._slow.room <= 0:
                continue
            if stay.since + SLOW_S > moment:
                break
            if self._all in stay.shares:
                self._all.give_back(stay.size_bytes)
                self._slow.take(stay.size_bytes)
                stay.shares[stay.shares.index(self._all)] = self._slow
