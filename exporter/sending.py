"""Attempts, uploads and answers of many exports, side by side; whatever the ledger is to know, together.

One thread does it all as long as nothing takes long, because to hand an object to another thread takes
longer than to write a small file, and threads that compute take the interpreter from each other. As soon as
something does, others take over what waits: nobody ever waits for somebody else's slow or hanging upload.
Once stores answer at once again, they go home. It must not know what comes next for anybody.
"""

from __future__ import annotations

import time
from collections import defaultdict, deque
from functools import partial
from math import ceil
from threading import Condition, Thread, get_ident
from typing import TYPE_CHECKING, Final, NamedTuple, Self, TypeAlias, TypeVar

from exporter.errors import Conflict
from exporter.interfaces import Loadable, Preparable
from exporter.steps import result_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from exporter.delivering import Delivering, Sent
    from exporter.interfaces import Destination
    from exporter.model import Attempt
    from exporter.steps import Answer, Job, Ready

    Answered: TypeAlias = "tuple[Ready, float, Answer]"
    """An upload that is over for the ledger, too: what it was, when it began, and what came of it."""

T = TypeVar("T")

PATIENCE_S: Final = 0.02
"""What takes longer keeps nobody waiting who could go on in another thread."""

BUSY_PATIENCE_S: Final = 0.25
"""The same while this process computes, which may be all that takes so long."""

CROWD: Final = 4
"""So many threads take twice as long to show that they get on: they wait for processors and each other."""

BEGUN_S: Final = 0.025
"""So soon all that waits is to be begun, by as many threads as that takes if uploads go on as they did.

More threads make none of it faster that this process itself computes.
"""

LATELY: Final = 8
"""How uploads go on is the mean of about so many."""

LATE: Final = 2
"""An upload that takes so many times as long as others, and our patience, may hang."""

COMPANY_S: Final = 0.05
"""An answer waits for those of uploads that are under way, to go into the ledger with them, for so long."""

LONGEST_UNSETTLED_S: Final = 0.25
"""The same while there are uploads to be begun."""

MOST_TOGETHER: Final = 64
"""As many go into one transaction of the ledger: others wait for it."""


class Moment(NamedTuple):
    """When something was, by the monotonic clock, and how much this process had computed by then."""

    at: float
    cpu_s: float

    @classmethod
    def now(cls) -> Moment:
        """This one."""
        return cls(time.monotonic(), time.process_time())

    def is_busy_since(self, earlier: Moment) -> bool:
        """Whether the process computed for more than half of the time."""
        return 2 * (self.cpu_s - earlier.cpu_s) > self.at - earlier.at


class Sending:
    """Takes planned objects in, and tells their answers; from entering to leaving, which waits for all.

    ``most`` is how many threads there may be. ``tell`` hears of answers, of none where `help_at` may have
    become sooner, and ``fail`` of what ends a process, from these threads. ``progress`` and ``must_end`` are
    those of `Delivering.send`.
    """

    def __init__(
        self,
        delivering: Delivering,
        most: int,
        *,
        tell: Callable[[Sequence[Answered]], None],
        fail: Callable[[BaseException], None],
        progress: Callable[[Ready, int], None],
        must_end: Callable[[], bool],
        now: Callable[[], Moment] = Moment.now,
    ) -> None:
        self._delivering = delivering
        self._most = most
        self._tell = tell
        self._fail = fail
        self._progress = progress
        self._must_end = must_end
        self._now = now
        self._changed = Condition()
        self._planned: deque[Ready] = deque()
        self._recorded: deque[tuple[Ready, Attempt, list[str]]] = deque()
        self._sent: deque[tuple[Sent, float, float]] = deque()
        self._writing = False  # one of the threads is in a transaction of the ledger
        self._threads: list[Thread] = []
        self._free = 0  # of them, those that wait and have not been called
        self._taken = Moment(0.0, 0.0)
        self._looked_at = 0.0
        self._settled_at = 0.0  # or was to be
        self._under_way: dict[int, float] = {}  # by its thread, when an upload began
        self._waits_s: dict[str, float] = {}  # of an endpoint, by what it lately kept us waiting at least
        self._idle_s = 0.0  # the same of a mean upload
        self._seen = 0  # of so many
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def put(self, planned: Sequence[Ready]) -> None:
        """Send these, too."""
        with self._changed:
            self._planned += planned
            if planned and self._free == len(self._threads):
                self._taken = self._now()
                self._call(1)

    def help_at(self) -> float | None:
        """When to call `help`, in seconds of the monotonic clock: something may have waited for too long."""
        with self._changed:
            moments, at = [], self._now().at
            if self._waiting(at):
                moments.append(self._patient_until())
            if self._writing:
                # Nobody tells the caller what comes of it, and all of that may wait behind one upload.
                moments.append(at + PATIENCE_S)
            elif self._sent:
                patience_s = LONGEST_UNSETTLED_S if self._recorded else COMPANY_S
                moments.append(max(self._sent[0][2] + patience_s, self._settled_at + PATIENCE_S))
            return min(moments, default=None)

    def help(self, moment: float) -> None:
        """Let as many threads more work as do now, if whatever waits has waited too long."""
        with self._changed:
            now = self._now()
            is_next = self._must_settle(now.at) if self._recorded else self._may_settle(now.at)
            if is_next and not self._writing and moment >= self._settled_at + PATIENCE_S:
                self._settled_at = moment
                self._call(1)
            waiting = self._waiting(now.at)
            if not waiting or moment < self._patient_until():
                return
            self._looked_at, now = moment, Moment(moment, now.cpu_s)
            if not now.is_busy_since(self._taken) or moment >= self._taken.at + BUSY_PATIENCE_S:
                self._taken = now
                self._call(min(waiting, max(1, self._working)))

    def _patient_until(self) -> float:
        """When whatever waits has waited too long, if nobody takes any of it before."""
        return max(self._taken.at, self._looked_at) + self._patience_s

    @property
    def _patience_s(self) -> float:
        return PATIENCE_S * (1 + self._working / CROWD)

    @property
    def _working(self) -> int:
        return len(self._threads) - self._free

    def _waiting(self, at: float) -> int:
        """How much another thread could do now, if there may be one."""
        if self._working >= self._most:
            return 0
        ledgers = 0 if self._writing else bool(self._planned) + self._may_settle(at)
        return len(self._recorded) + ledgers

    def _call(self, count: int) -> None:
        """So many threads more; new ones, if nobody is free."""
        for _ in range(count):
            if self._free:
                self._free -= 1
                self._changed.notify()
            elif len(self._threads) < self._most:
                thread = Thread(target=self._work, name=f"upload-{len(self._threads)}")
                self._threads.append(thread)
                thread.start()

    def _work(self) -> None:
        called = True
        while (task := self._take(called=called)) is not None:
            called = False
            try:
                task()
            except BaseException as error:  # noqa: BLE001 - raised where the run is
                self._fail(error)

    def _take(self, *, called: bool) -> Callable[[], None] | None:
        """The next thing to do; waits for one, or to be called. None: there will be none."""
        with self._changed:
            task, now = None, self._now()
            if called or not self._others_suffice(now.at):
                task = self._next(now)
            while task is None:
                if self._closed:
                    return None
                self._free += 1
                self._changed.wait()
                now = self._now()
                task = self._next(now)
            self._taken = now
            return task

    def _others_suffice(self, at: float) -> bool:
        """Whether others, once they are back from their stores, have soon begun all that waits."""
        line = len(self._recorded) + len(self._planned)
        return 2 * line * self._idle_s < self._under_way_in_time(at) * BEGUN_S  # twice: or they come and go

    def _under_way_in_time(self, at: float) -> int:
        """How many uploads are under way that do not seem to hang."""
        since = at - LATE * (self._idle_s + self._patience_s)
        return sum(began > since for began in self._under_way.values())

    def _next(self, now: Moment) -> Callable[[], None] | None:
        if self._recorded and (self._writing or not self._must_settle(now.at)):
            self._under_way[get_ident()] = now.at
            ready, attempt, together = self._recorded.popleft()
            names = together.copy()
            together.clear()  # whoever comes first prepares for all
            return partial(self._send, ready, attempt, names, now)
        if self._writing or not (self._planned or self._may_settle(now.at)):
            return None
        self._writing = True
        if not self._planned or self._may_settle(now.at):
            return partial(self._settle, _first(self._sent))
        return partial(self._attempt, _first(self._planned))

    def _may_settle(self, at: float) -> bool:
        """Whether there are answers, and no others that they should wait for."""
        return bool(self._sent) and (not self._under_way or self._must_settle(at, COMPANY_S))

    def _must_settle(self, at: float, patience_s: float = LONGEST_UNSETTLED_S) -> bool:
        """Whether there are answers enough, or one that has waited long enough."""
        if not self._sent:
            return False
        return len(self._sent) >= MOST_TOGETHER or at - self._sent[0][2] >= patience_s

    def _attempt(self, batch: Sequence[Ready]) -> None:
        """Record the attempts of these; they may be sent now."""
        load(ready.job for ready in batch)
        found = result_of(partial(self._delivering.attempt, batch))
        attempts = [found] * len(batch) if isinstance(found, Exception) else found
        answers: list[Answered] = []
        together: defaultdict[int, list[str]] = defaultdict(list)
        with self._changed:
            self._writing = False
            for ready, attempt in zip(batch, attempts, strict=True):
                if isinstance(attempt, Exception):
                    answer = None if isinstance(attempt, Conflict) else attempt
                    answers.append((ready, self._now().at, answer))
                else:
                    names = together[id(ready.job.destination)]
                    names.append(ready.plan.name)
                    self._recorded.append((ready, attempt, names))
            self._begin_soon()
        if answers:
            self._tell(answers)

    def _send(self, ready: Ready, attempt: Attempt, names: Sequence[str], began: Moment) -> None:
        if len(names) > 1:
            prepare(ready.job.destination, names)
        send = partial(self._delivering.send, ready, partial(self._progress, ready), self._must_end)
        sent = (ready, attempt, result_of(send))
        with self._changed:
            ended = self._now()
            del self._under_way[get_ident()]
            idle_s = ended.at - began.at - (ended.cpu_s - began.cpu_s)
            self._learn(ready.job.destination.endpoint, max(0.0, idle_s), ended.at)
            self._sent.append((sent, began.at, ended.at))
            waits = len(self._sent) == 1 and bool(self._under_way)
        if waits:
            self._tell([])  # whoever asked for `help_at` before that would sleep until another upload ends

    def _learn(self, endpoint: str, idle_s: float, at: float) -> None:
        """Note for how long of an upload this process had nothing to compute.

        Not all of it need be the store's doing: other programs compete for processors. Uploads side by side
        are kept by a store at the same time, but by others one after the other.
        """
        least_s = idle_s / (1 + self._under_way_in_time(at))
        before_s = self._waits_s.get(endpoint, least_s)
        waits_s = min(idle_s, before_s + (max(before_s, least_s) - before_s) / LATELY, BEGUN_S)
        self._waits_s[endpoint] = waits_s
        self._seen = min(self._seen + 1, LATELY)
        self._idle_s += (waits_s - self._idle_s) / self._seen

    def _begin_soon(self) -> None:
        """Let so many threads work that none of the uploads that wait would wait for long."""
        wanted = ceil(len(self._recorded) * self._idle_s / BEGUN_S)
        self._call(wanted - self._under_way_in_time(self._now().at) - 1)  # this one goes on, too

    def _settle(self, batch: Sequence[tuple[Sent, float, float]]) -> None:
        """Have the ledger know what came of these, and tell it."""
        found = result_of(partial(self._delivering.settle, [sent for sent, _, _ in batch]))
        with self._changed:
            self._writing = False
        answers = [found] * len(batch) if isinstance(found, Exception) else found
        self._tell(
            [(sent[0], began, answer) for (sent, began, _), answer in zip(batch, answers, strict=True)]
        )


def load(jobs: Iterable[Job]) -> None:
    """What the first deliveries of these would load, before anything waits for it."""
    for destination in {id(job.destination): job.destination for job in jobs}.values():
        if isinstance(destination, Loadable):
            destination.load()


def prepare(destination: Destination, names: Sequence[str]) -> None:
    """What the next deliveries to this destination have in common, once for all of them."""
    if isinstance(destination, Preparable):
        destination.prepare(names)


def _first(line: deque[T]) -> list[T]:
    """The first in line, as many as go together; they leave it."""
    return [line.popleft() for _ in range(min(len(line), MOST_TOGETHER))]
