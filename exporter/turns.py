"""How a run's work is shared out: exports take turns, a step each, rendering and uploading side by side.

An export that catches up a year, or whose store is slow, holds back nobody: each has one step under way
at most, uploads have threads of their own, and ``places`` keeps some of them free of trouble.
"""

from __future__ import annotations

import shlex
import time
from collections import Counter
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

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
from exporter.outcome import Trouble
from exporter.pipeline import Delivered, Held, Moved, Ready
from exporter.places import Places

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Mapping
    from datetime import datetime, timedelta

    from exporter.interfaces import Clock
    from exporter.ledger.rules import Ledger, Standing
    from exporter.outcome import Report
    from exporter.pipeline import Job, Pipeline

Step = TypeVar("Step")

RETRIES_S: Final = (1.0, 5.0)
"""Pauses before another attempt in the same run, when the last one may have met a passing fault."""

PATIENCE_S: Final = 20.0
"""An attempt that took longer met no passing fault: it hung."""

CONNECT_PATIENCE_S: Final = 4.0
"""The same for one that sent nothing: time-outs of connections are 5 s."""

MOST_HUNG: Final = 64
"""After so many attempts that hung, a run leaves exports in trouble to the next one: it has to end."""

OVERTAKEN_S: Final = 0.5
"""How long to leave an export alone that another run moves faster than this one."""

MOST_OVERTAKEN: Final = 20
"""How often, before this run leaves the export to the other one."""


class Observer(Protocol):
    """Told what happens while it happens, from the runner's own thread but for `sent`."""

    def skipped(self, export: str, error: str, hint: str) -> None:
        """This export is left out, because its configuration is wrong."""
        ...

    def started(self, due: int) -> None:
        """So many exports have something to do."""
        ...

    def sent(self, job: Job, size_bytes: int) -> None:
        """More bytes of an upload are on their way; called from an uploading thread."""
        ...

    def delivered(self, job: Job, delivered: Delivered) -> None:
        """One more object is in its store."""
        ...

    def failed(self, job: Job, error: ExporterError) -> None:
        """This export does not get on for now."""
        ...

    def finished(self, job: Job) -> None:
        """This export has nothing more to do in this run."""
        ...


@dataclass(frozen=True, slots=True)
class Settings:
    """How much at a time, and for how long. ``budget`` ends the starting of new work.

    ``uploads`` bounds the archives in the workspace as well, and so does ``workspace_bytes``, checked
    before each rendering; uploads that are slow may take up as much again.
    """

    workers: int
    uploads: int = 64
    budget: timedelta | None = None
    insist: bool = False  # try blocked exports now: a person asked for them by name
    list_objects: bool = False  # keep a line for each object, for somebody who wants to see them all
    workspace_bytes: int = 2 << 30


@dataclass(frozen=True, slots=True)
class Means:
    """What a run works with. ``stop`` ends the starting of new work, as SIGTERM asks."""

    pipeline: Pipeline
    ledger: Ledger
    observer: Observer
    clock: Clock
    settings: Settings
    stop: threading.Event


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
    ) -> None:
        settings = means.settings
        self._means = means
        self._now = now
        self._lane_id = lane_id
        self._report = report
        self._begun = standings.keys()
        failed = {name for name, standing in standings.items() if standing.export.failure}
        self._places = Places(settings.uploads, settings.workspace_bytes, due, failed)
        self._later: list[tuple[float, Job]] = []
        self._tries: dict[str, int] = {}
        self._pending: dict[Future[Any], Callable[[Future[Any]], None]] = {}
        self._rendering = 0
        self._hung = 0
        self._moved: dict[str, float] = {}
        self._overtaken: Counter[str] = Counter()
        self._put_off: list[Job] = []
        self._deadline = (
            None if settings.budget is None else time.monotonic() + settings.budget.total_seconds()
        )

    def run(self) -> None:
        """Take turns until nothing is due, the time is up, or nothing can run."""
        settings = self._means.settings
        with (
            ThreadPoolExecutor(settings.workers, thread_name_prefix="render") as render,
            ThreadPoolExecutor(2 * settings.uploads, thread_name_prefix="upload") as upload,
        ):
            while True:
                self._start(render, upload)
                if self._pending:
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

    def _start(self, render: Executor, upload: Executor) -> None:
        """Keep the renderers busy, as long as there is room for their archives."""
        moment = time.monotonic()
        for at, ready in self._later:
            if at <= moment:
                self._places.wait(ready)
        self._later = [(at, job) for at, job in self._later if at > moment]
        while not self._over and self._rendering < self._means.settings.workers:
            if (job := self._places.next(moment)) is None:
                break
            if self._hung >= MOST_HUNG and self._places.in_trouble(job) and job.name in self._begun:
                self._leave_out(job)
                continue
            self._rendering += 1
            future = render.submit(self._means.pipeline.prepare, job, self._now, self._lane_id)
            self._pending[future] = partial(self._prepared, job, upload)

    def _leave_out(self, job: Job) -> None:
        """Not even try an export that, as far as one can tell, only adds to what hangs.

        One that has not begun is tried: it begins by that, and has its records from then on.
        """
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
        done, _ = wait(self._pending, timeout=timeout, return_when=FIRST_COMPLETED)
        for future in done:
            self._pending.pop(future)(future)

    def _soonest(self) -> float | None:
        """When somebody may go on although nothing ended: a retry, or a place that a slow upload leaves."""
        moments = [at for at, _ in self._later]
        can_start = self._rendering < self._means.settings.workers and not self._over
        if can_start and (slow_at := self._places.slow_at()) is not None:
            moments.append(slow_at)
        return min(moments, default=None)

    def _prepared(self, job: Job, upload: Executor, future: Future[Ready | Moved | None]) -> None:
        self._rendering -= 1
        step = self._result(job, future)
        if isinstance(step, Ready) and not self._over:
            moment = time.monotonic()
            self._places.upload(job, step.package.content.archive_bytes, moment)
            self._pending[upload.submit(self._deliver, step)] = partial(self._delivered, step, moment)
            return
        self._places.leave(job)
        if isinstance(step, Ready):
            step.discard()  # the plan stays open: the next run renders the same object again
            self._put_off.append(job)
        elif isinstance(step, Moved):
            self._places.wait(job)
        elif future.exception() is None:
            self._means.observer.finished(job)

    def _deliver(self, ready: Ready) -> Delivered | Held | None:
        return self._means.pipeline.deliver(ready, partial(self._sent, ready), lambda: self._over)

    def _sent(self, ready: Ready, size_bytes: int) -> None:
        """Pass it on; and note that events get on, of which some may be in. From an uploading thread."""
        if ready.plan.rendering.is_events:
            self._moved[ready.job.name] = time.monotonic()
        self._means.observer.sent(ready.job, size_bytes)

    def _delivered(self, ready: Ready, started: float, future: Future[Delivered | Held | None]) -> None:
        job = ready.job
        self._places.leave(job)
        ready.discard()
        answer = self._result(job, future)
        since = self._moved.pop(job.name, started)
        if isinstance(answer, Held) and isinstance(answer.error, Interrupted):
            self._put_off.append(job)
        elif isinstance(answer, Held):
            self._held(job, answer, time.monotonic() - since)
        elif isinstance(answer, Delivered):
            self._tries.pop(job.name, None)
            self._report.failing.pop(job.name, None)
            self._places.succeeded(job)
            self._report.add(job.name, answer, list_object=self._means.settings.list_objects)
            self._means.observer.delivered(job, answer)
            self._places.wait(job)
        elif future.exception() is None and ready.plan.rendering.is_events:
            self._report.elsewhere.add(job.name)
            self._put_off.append(job)  # another process sends them, and every try would double a batch
        elif future.exception() is None:
            self._places.wait(job)  # another process was first

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

    def _result(self, job: Job, future: Future[Step]) -> Step | None:
        """What a step came to; a failure is this export's alone, unless it is plainly everybody's."""
        # Not raised again: a frame of this thread in the traceback would keep the traceback alive, and
        # with it the step's transaction on the source.
        error = future.exception()
        if error is None:
            return future.result()
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
        elif isinstance(error, Exception):
            self._fail(job, Defect.of(error))
        else:
            raise error
        return None

    def _fail(self, job: Job, error: ExporterError) -> None:
        self._report.failing[job.name] = Trouble.of(error)
        try:
            self._means.ledger.fail(job.name, error.message, error.hint)
        except LedgerError as failure:
            self._report.error = Trouble.of(failure)
        self._means.observer.failed(job, error)
