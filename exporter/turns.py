"""How a run's work is shared out: exports take turns, a step each, rendering and uploading side by side.

An export that catches up a year, or whose store is slow, holds back nobody: each has one step under way
at most, uploads have threads of their own, and ``places`` keeps some of them free of trouble. Some take
their step as a group, of which each goes on as soon as it can.
"""

from __future__ import annotations

import shlex
import time
from collections import Counter
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final, Never

from exporter.errors import (
    Conflict,
    Defect,
    DeliveryError,
    ExporterError,
    ExportError,
    Interrupted,
    LedgerError,
    NotSent,
    OutcomeUnknown,
    SourceChanged,
    SourceError,
)
from exporter.grouping import Grouping
from exporter.means import Means, Observer, Settings
from exporter.outcome import Trouble
from exporter.pipeline import is_through
from exporter.places import Places
from exporter.sending import Sending
from exporter.steps import Delivered, Held, Moved, Ready, Unreached

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from exporter.beginning import Known
    from exporter.ledger.rules import Standing
    from exporter.means import Supply
    from exporter.outcome import Report
    from exporter.sending import Answered
    from exporter.steps import Job, Prepared

__all__ = ["Means", "Observer", "Settings", "Turns"]

ALONE_S: Final = 0.25
"""So long after a group another renderer begins, if the first is not through: two at once cost more.

What takes longer waits for the source, or is large, and keeps nobody waiting.
"""

KNOWN_S: Final = 10.0
"""So long exports stand where a run found them when it began, for all that it knows: a look takes its time.

Where another run is under way, as much is rendered for nothing at most.
"""

RETRIES_S: Final = (1.0, 5.0)
"""Pauses before another attempt in the same run, when the last one may have met a passing fault."""

PATIENCE_S: Final = 20.0
"""An attempt that took longer met no passing fault: it hung."""

CONNECT_PATIENCE_S: Final = 4.0
"""The same for one that sent nothing: time-outs of connections are 5 s."""

MOST_HUNG: Final = 64
"""After so many attempts that hung, a run leaves exports in trouble to the next one: it has to end."""

SLOWED: Final = (
    "nothing is lost, the run did without it; if it was out of memory, allow more or set a smaller --workers"
)

OVERTAKEN_S: Final = 0.5
"""How long to leave an export alone that another run moves faster than this one."""

MOST_OVERTAKEN: Final = 20
"""How often, before this run leaves the export to the other one."""


class Turns:
    """One run's state: who is next, what is under way, what came of it."""

    def __init__(
        self,
        means: Means,
        due: list[Job],
        now: datetime,
        lane_id: str,
        report: Report,
        standings: Mapping[str, Standing],
        supply: Supply | None = None,
    ) -> None:
        settings = means.settings
        self._means = means
        self._supply = supply
        self._now = now
        self._lane_id = lane_id
        self._report = report
        self._standings = standings
        self._known_until = time.monotonic() + KNOWN_S
        self._stepped: set[str] = set()
        failed = {name for name, standing in standings.items() if standing.export.failure}
        self._places = Places(settings.uploads, settings.workspace_bytes, due, failed)
        self._grouping = Grouping(self._places, settings.workers, supply)
        self._later: list[tuple[float, Job]] = []
        self._tries: dict[str, int] = {}
        self._news: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._rendering = 0
        self._alone_until = self._looked_at = 0.0
        self._uploading = 0
        self._hung = 0
        self._moved: dict[str, float] = {}
        self._overtaken: Counter[str] = Counter()
        self._put_off: list[Job] = []
        self._deadline = (
            None if settings.budget is None else time.monotonic() + settings.budget.total_seconds()
        )
        self._sending = Sending(
            means.pipeline,
            2 * settings.uploads,
            tell=lambda answers: self._news.put(partial(self._answered, answers)),
            fail=lambda error: self._news.put(partial(_raise, error)),
            progress=self._sent,
            must_end=lambda: self._over,
        )

    def run(self) -> None:
        """Take turns until nothing is due, the time is up, or nothing can run."""
        with self._means.pipeline.helped(self._means.settings.encoders) as encoders:
            self._take()
        for loss in encoders.losses:
            self._means.observer.slowed(loss, SLOWED)

    def _take(self) -> None:
        workers = self._means.settings.workers
        with ThreadPoolExecutor(workers, thread_name_prefix="render") as render, self._sending:
            while True:
                self._start(render)
                if self._supply is not None:
                    self._supply.pause()
                if self._rendering or self._uploading:
                    self._collect()
                elif not self._wait_for_later():
                    break

    def waiting(self) -> list[Job]:
        """The exports whose turn did not come any more."""
        return [*self._places.waiting(), *(job for _, job in self._later), *self._put_off]

    @property
    def _over(self) -> bool:
        spent = self._deadline is not None and time.monotonic() >= self._deadline
        return spent or self._means.stop.is_set() or self._report.error is not None

    def _start(self, render: Executor) -> None:
        """Keep the renderers busy, as long as there is room for their archives."""
        moment = self._looked_at = time.monotonic()
        for at, ready in self._later:
            if at <= moment:
                self._places.wait(ready)
        self._later = [(at, job) for at, job in self._later if at > moment]
        while self._can_start and self._alone_until <= moment:
            may_fill = bool(self._uploading)
            group = self._grouping.next(moment, may_fill=may_fill, is_left_out=self._is_left_out)
            if not group:
                break
            self._rendering += 1
            self._alone_until = moment + ALONE_S
            render.submit(self._render, group, self._places.room_bytes, self._known(group, moment))

    @property
    def _can_start(self) -> bool:
        """Whether there is a renderer for one more group."""
        return self._rendering < self._means.settings.workers and not self._over

    def _known(self, group: Sequence[Job], moment: float) -> Known:
        """Where those of a group stand who take their first step, while no look is needed for that."""
        first = [job.name for job in group if job.name not in self._stepped]
        self._stepped.update(first)
        return {name: self._standings.get(name) for name in first} if moment < self._known_until else {}

    def _render(self, group: Sequence[Job], room_bytes: float, known: Known) -> None:
        """One group's step, in a rendering thread."""
        waiting, error = {job.name for job in group}, None

        def tell(answers: Sequence[tuple[Job, Prepared]]) -> None:
            waiting.difference_update(job.name for job, _ in answers)
            self._news.put(partial(self._prepared, answers))

        try:
            self._means.pipeline.prepare(group, self._now, tell, self._lane_id, room_bytes, known)
            _require_none(waiting)
        except BaseException as failure:  # noqa: BLE001 - raised where the run is
            error = failure
        self._news.put(partial(self._rendered, error))

    def _is_left_out(self, job: Job) -> bool:
        """Not even try an export that, as far as one can tell, only adds to what hangs.

        One that has not begun is tried: it begins by that, and has its records from then on.
        """
        if self._hung < MOST_HUNG or not self._places.in_trouble(job) or job.name not in self._standings:
            return False
        self._places.leave(job)
        error = ExportError(
            f"left to the next run: {self._hung} uploads hung in this one",
            hint=f"to try it at once, run: audit-exporter run --export {shlex.quote(job.name)}",
        )
        if not self._places.has_failed(job):
            self._fail(job, error)
        elif job.name not in self._report.failing:  # what the ledger says of it already is more to the point
            self._report.failing[job.name] = Trouble.of(error)
            self._means.observer.failed(job, error)
        return True

    def _wait_for_later(self) -> bool:
        """Sleep until the next retry; False when there is none, or no time for it."""
        if not self._later or self._over:
            return False
        self._means.stop.wait(max(0.0, min(at for at, _ in self._later) - time.monotonic()))
        return True

    def _collect(self) -> None:
        """Wait for something to end, but no longer than until somebody may go on, and take it in."""
        soonest = self._soonest()
        timeout = None if soonest is None else max(0.0, soonest - time.monotonic())
        try:
            self._news.get(timeout=timeout)()
            while True:
                self._news.get_nowait()()
        except Empty:
            self._sending.help(time.monotonic())

    def _soonest(self) -> float | None:
        """When somebody may go on although nothing ended: a retry, or a place that a slow upload leaves."""
        moments = [at for at, _ in self._later]
        if (help_at := self._sending.help_at()) is not None:
            moments.append(help_at)
        if self._can_start:
            # Also what is over by now: it was not when `_start` last looked.
            ats = (self._alone_until, *self._grouping.moments())
            moments += [at for at in ats if at > self._looked_at]
        if self._can_start and (slow_at := self._places.slow_at()) is not None:
            moments.append(slow_at)
        return min(moments, default=None)

    def _prepared(self, answers: Sequence[tuple[Job, Prepared]]) -> None:
        planned: list[Ready] = []
        unreached: list[Job] = []
        for job, answer in answers:
            if isinstance(answer, Ready) and not self._over:
                self._places.upload(job, answer.package.content.archive_bytes, time.monotonic())
                planned.append(answer)
            elif isinstance(answer, Unreached):
                unreached.append(job)
            else:
                self._places.leave(job)
                self._take_in(job, answer)
        self._places.give_back(unreached)
        self._uploading += len(planned)
        self._sending.put(planned)

    def _take_in(self, job: Job, answer: Prepared) -> None:
        """What came of a step that leads to no upload."""
        if isinstance(answer, Ready):
            answer.discard()  # the plan stays open: the next run renders the same object again
            self._put_off.append(job)
        elif isinstance(answer, Moved):
            self._go_on(job, answer)
        elif isinstance(answer, Exception):
            self._failed(job, answer)
        else:
            self._means.observer.finished(job)

    def _rendered(self, error: BaseException | None) -> None:
        self._rendering -= 1
        if not self._rendering:
            self._alone_until = 0.0
        if error is not None:
            raise error

    def _sent(self, ready: Ready, size_bytes: int) -> None:
        """Pass it on; and note that events get on, of which some may be in. From an uploading thread."""
        if ready.plan.rendering.is_events:
            self._moved[ready.job.name] = time.monotonic()
        self._means.observer.sent(ready.job, size_bytes)

    def _answered(self, answers: Sequence[Answered]) -> None:
        self._uploading -= len(answers)
        for ready, began, answer in answers:
            self._places.leave(ready.job)
            ready.discard()
            if isinstance(answer, Exception):
                self._moved.pop(ready.job.name, None)
                self._failed(ready.job, answer)
            else:
                self._delivered(ready, began, answer)

    def _delivered(self, ready: Ready, began: float, answer: Delivered | Held | None) -> None:
        job = ready.job
        since = self._moved.pop(job.name, began)
        if isinstance(answer, Held) and isinstance(answer.error, Interrupted):
            self._put_off.append(job)
        elif isinstance(answer, Held):
            self._held(job, answer, time.monotonic() - since)
        elif answer is not None:
            self._tries.pop(job.name, None)
            self._report.failing.pop(job.name, None)
            self._places.succeeded(job)
            self._grouping.note_size(job, answer.content.content_bytes)
            self._report.add(job.name, answer, list_object=self._means.settings.list_objects)
            self._means.observer.delivered(job, answer)
            self._go_on(job, answer)
        elif ready.plan.rendering.is_events:
            self._report.elsewhere.add(job.name)
            self._put_off.append(job)  # another process sends them, and every try would double a batch
        else:
            self._places.wait(job)  # another process was first

    def _go_on(self, job: Job, came: Delivered | Moved) -> None:
        """To the end of the line, unless it is plain that there is nothing more: a look takes its time."""
        if is_through(job, self._lane_id, came, self._now):
            self._means.observer.finished(job)
        else:
            self._places.wait(job)

    def _held(self, job: Job, held: Held, took_s: float) -> None:
        """Try again soon, or leave it to the next run; ``took_s`` counts from the last batch that was in."""
        tries = self._tries.get(job.name, 0)
        nobody_answered = isinstance(held.error, (OutcomeUnknown, NotSent))
        patience_s = CONNECT_PATIENCE_S if isinstance(held.error, NotSent) else PATIENCE_S
        hung = nobody_answered and took_s >= patience_s
        self._hung += hung
        self._places.failed(job, hung=hung)
        self._report.failing[job.name] = Trouble.of(held.error)
        wished_s = held.error.wait_s if isinstance(held.error, DeliveryError) else 0.0
        # Where it hung until the time was up, it is not asked again in this run, which would take as long;
        # nor where it asks to be left alone for longer.
        if nobody_answered and not hung and tries < len(RETRIES_S) and wished_s <= RETRIES_S[tries]:
            self._tries[job.name] = tries + 1
            self._later.append((time.monotonic() + RETRIES_S[tries], job))
        else:
            self._means.observer.failed(job, held.error)

    def _failed(self, job: Job, error: Exception) -> None:
        """A failure is this export's alone, unless it is plainly everybody's."""
        # Not raised again: a frame of this thread in the traceback would keep the traceback alive, and
        # with it the step's transaction on the source.
        if isinstance(error, Conflict):
            self._overtaken[job.name] += 1
            if self._overtaken[job.name] > MOST_OVERTAKEN:
                self._put_off.append(job)  # it is in good hands
            else:
                self._later.append((time.monotonic() + OVERTAKEN_S, job))
        elif isinstance(error, (SourceError, LedgerError)) and not isinstance(error, SourceChanged):
            self._report.error = Trouble.of(error)
            self._put_off.append(job)
        elif isinstance(error, ExporterError):
            self._fail(job, error)  # also SourceChanged: this export's seal is gone, others' may hold
        else:
            self._fail(job, Defect.of(error))

    def _fail(self, job: Job, error: ExporterError) -> None:
        self._report.failing[job.name] = Trouble.of(error)
        try:
            self._means.ledger.fail(job.name, error.message, error.hint)
        except LedgerError as failure:
            self._report.error = Trouble.of(failure)
        self._means.observer.failed(job, error)


def _require_none(waiting: set[str]) -> None:
    if waiting:
        raise AssertionError(f"nothing was said of export '{min(waiting)}'")


def _raise(error: BaseException) -> Never:
    raise error
