"""Which exports are due, in which order, and for how long: the pipeline's steps, many exports at a time.

Rendering and uploading have threads of their own, so a slow upload never holds a scan, and an export
takes one step per turn, so that one that catches up a year holds back nobody.
"""

from __future__ import annotations

import time
from collections import deque
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from exporter import schedule
from exporter.errors import ExporterError, LedgerError, NotSent, OutcomeUnknown, SourceError
from exporter.model import LIVE_LANE
from exporter.pipeline import Delivered, Held, Moved, Ready

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable
    from datetime import datetime, timedelta

    from exporter.interfaces import Clock
    from exporter.ledger.rules import Ledger, Standing
    from exporter.pipeline import Job, Pipeline

Step = TypeVar("Step")

RETRIES_S: Final = (1.0, 5.0)
"""Pauses before another attempt in the same run, when the last one may have met a passing fault."""

REPORT_IT: Final = (
    "please report it with the traceback in the log; nothing was lost, the next run tries again"
)


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
    """How much at a time, and for how long. ``budget`` ends the starting of new work."""

    workers: int
    uploads: int
    budget: timedelta | None = None
    insist: bool = False  # try blocked exports now: a person asked for them by name
    list_objects: bool = False  # keep a line for each object, for somebody who wants to see them all


@dataclass(frozen=True, slots=True)
class ObjectLine:
    """One delivered object, as small as a list of a hundred thousand needs it."""

    export: str
    object: str
    lane: str
    sequence: int
    window_start: datetime
    window_end: datetime
    records: int
    late: int
    bad: int
    bytes: int
    content_bytes: int
    content_sha256: str


@dataclass(frozen=True, slots=True)
class Total:
    """What one export had delivered by one run."""

    objects: int = 0
    records: int = 0
    late: int = 0
    bad: int = 0
    bytes: int = 0
    last_object: str = ""

    def __add__(self, line: ObjectLine) -> Total:
        """The same with one more object."""
        return Total(
            self.objects + 1,
            self.records + line.records,
            self.late + line.late,
            self.bad + line.bad,
            self.bytes + line.bytes,
            line.object,
        )


@dataclass(slots=True)
class Report:
    """What one run did. ``error`` is what stopped it as a whole; ``unfinished`` had no time left.

    It grows with the number of exports; ``lines`` has every object, if that was asked for.
    """

    delivered: dict[str, Total] = field(default_factory=dict)
    lines: list[ObjectLine] = field(default_factory=list)
    failing: dict[str, ExporterError] = field(default_factory=dict)
    unfinished: set[str] = field(default_factory=set)
    error: ExporterError | None = None

    @property
    def objects(self) -> int:
        """How many objects were delivered."""
        return sum(total.objects for total in self.delivered.values())

    @property
    def records(self) -> int:
        """How many records were delivered."""
        return sum(total.records for total in self.delivered.values())

    @property
    def exit_status(self) -> int:
        """0 all due work delivered, 10 not all, 20 nothing could run."""
        if self.error is not None:
            return self.error.exit_status
        return 10 if self.failing or self.unfinished else 0

    def add(self, export: str, delivered: Delivered, *, list_object: bool) -> None:
        """Count one more object."""
        plan, content = delivered.plan, delivered.content
        line = ObjectLine(
            export=export,
            object=plan.name,
            lane=plan.lane,
            sequence=plan.sequence,
            window_start=plan.range.window.start,
            window_end=plan.range.window.end,
            records=content.count,
            late=content.late,
            bad=content.bad,
            bytes=content.archive_bytes,
            content_bytes=content.content_bytes,
            content_sha256=content.content_sha256,
        )
        self.delivered[export] = self.delivered.get(export, Total()) + line
        if list_object:
            self.lines.append(line)


@dataclass(frozen=True, slots=True)
class Runner:
    """Runs one lane of many exports to the end of what is due, or of its budget.

    ``stop`` ends the starting of new work, as SIGTERM asks; uploads that have begun are waited for.
    """

    pipeline: Pipeline
    ledger: Ledger
    observer: Observer
    clock: Clock
    settings: Settings
    stop: threading.Event

    def run(self, jobs: Iterable[Job], now: datetime, lane_id: str = LIVE_LANE) -> Report:
        """Deliver all that is due at ``now``."""
        report = Report()
        due = self._due(jobs, now, lane_id, report)
        self.observer.started(len(due))
        if due:
            _Turns(self, due, now, lane_id, report).run()
        return report

    def _due(self, jobs: Iterable[Job], now: datetime, lane_id: str, report: Report) -> list[Job]:
        """The exports with something to do, the one that is furthest behind first."""
        standings = self.ledger.standings()
        due: list[tuple[datetime, str, Job]] = []
        for job in jobs:
            standing = standings.get(job.name)
            if standing is None:
                due.append((job.start or now, job.name, job))
            elif self._held_back(standing, report):
                self.observer.failed(job, report.failing[job.name])
            elif lane_id != LIVE_LANE or is_due(job, standing, now):
                due.append((standing.live.watermark, job.name, job))
        return [job for _, _, job in sorted(due, key=lambda entry: entry[:2])]

    def _held_back(self, standing: Standing, report: Report) -> bool:
        """Whether an export waits for a person or for its next try; both are told every time."""
        export = standing.export
        message, hint = (
            (export.failure.message, export.failure.hint) if export.failure else (export.stopped, "")
        )
        if not export.stopped:
            retry_at = export.blocked_until
            if retry_at is None or retry_at <= self.clock() or self.settings.insist:
                return False
            message = f"waits until {retry_at:%Y-%m-%d %H:%M:%SZ} after {_tries(export.tries)}: {message}"
        report.failing[export.name] = ExporterError(message, hint=hint)
        return True


def _tries(number: int) -> str:
    return "1 try" if number == 1 else f"{number} tries"


def is_due(job: Job, standing: Standing, now: datetime) -> bool:
    """Whether live delivery has something to do here: a plan to finish, or a window that is over."""
    if standing.open_plan is not None:
        return True
    if standing.export.paused:
        return False
    lane = standing.live
    if lane.open_end is not None:
        return True
    return schedule.next_boundary(lane.watermark, job.every, job.zone) + job.grace <= now


class _Turns:
    """One run's state: who is next, what is under way, what came of it."""

    def __init__(self, runner: Runner, due: list[Job], now: datetime, lane_id: str, report: Report) -> None:
        self._runner = runner
        self._now = now
        self._lane_id = lane_id
        self._report = report
        self._queue = deque(due)
        self._later: list[tuple[float, Job]] = []
        self._tries: dict[str, int] = {}
        self._pending: dict[Future[Any], Callable[[Future[Any]], None]] = {}
        budget = runner.settings.budget
        self._deadline = None if budget is None else time.monotonic() + budget.total_seconds()

    def run(self) -> None:
        settings = self._runner.settings
        with (
            ThreadPoolExecutor(settings.workers, thread_name_prefix="render") as render,
            ThreadPoolExecutor(settings.uploads, thread_name_prefix="upload") as upload,
        ):
            while True:
                self._start(render, upload)
                if self._pending:
                    self._collect()
                elif not self._wait_for_later():
                    break
        self._report.unfinished |= self._left() - set(self._report.failing)

    def _left(self) -> set[str]:
        """The exports whose turn did not come, if anything was left for them."""
        waiting = [*self._queue, *(job for _, job in self._later)]
        if not waiting:
            return set()
        standings = self._runner.ledger.standings()
        return {job.name for job in waiting if self._has_more(job, standings.get(job.name))}

    def _has_more(self, job: Job, standing: Standing | None) -> bool:
        if standing is None or self._lane_id == LIVE_LANE:
            return standing is None or is_due(job, standing, self._now)
        return standing.open_plan is not None or not standing.lane(self._lane_id).done

    @property
    def _over(self) -> bool:
        spent = self._deadline is not None and time.monotonic() >= self._deadline
        return spent or self._runner.stop.is_set() or self._report.error is not None

    def _start(self, render: Executor, upload: Executor) -> None:
        """Keep the renderers busy, but no more archives in the workspace than can be uploaded."""
        moment = time.monotonic()
        self._queue.extend(job for at, job in self._later if at <= moment)
        self._later = [(at, job) for at, job in self._later if at > moment]
        room = self._runner.settings.workers + self._runner.settings.uploads
        while self._queue and not self._over and len(self._pending) < room:
            job = self._queue.popleft()
            future = render.submit(self._runner.pipeline.prepare, job, self._now, self._lane_id)
            self._pending[future] = partial(self._prepared, job, upload)

    def _wait_for_later(self) -> bool:
        """Sleep until the next retry; False when there is none, or no time for it."""
        if not self._later or self._over:
            return False
        self._runner.stop.wait(max(0.0, min(at for at, _ in self._later) - time.monotonic()))
        return True

    def _collect(self) -> None:
        """Wait for something to end, but no longer than until the next retry, and take it in."""
        soonest = min((at for at, _ in self._later), default=None)
        timeout = None if soonest is None else max(0.0, soonest - time.monotonic())
        done, _ = wait(self._pending, timeout=timeout, return_when=FIRST_COMPLETED)
        for future in done:
            self._pending.pop(future)(future)

    def _prepared(self, job: Job, upload: Executor, future: Future[Ready | Moved | None]) -> None:
        step = self._result(job, future)
        if isinstance(step, Ready):
            if self._runner.stop.is_set():
                step.discard()  # the plan stays open: the next run renders the same object again
                self._report.unfinished.add(job.name)
                return
            self._pending[upload.submit(self._deliver, step)] = partial(self._delivered, step)
        elif isinstance(step, Moved):
            self._queue.append(job)
        elif job.name not in self._report.failing:
            self._runner.observer.finished(job)

    def _deliver(self, ready: Ready) -> Delivered | Held | None:
        observer = self._runner.observer
        return self._runner.pipeline.deliver(ready, lambda size: observer.sent(ready.job, size))

    def _delivered(self, ready: Ready, future: Future[Delivered | Held | None]) -> None:
        job = ready.job
        ready.discard()
        answer = self._result(job, future)
        if isinstance(answer, Held):
            self._held(job, answer)
            return
        if isinstance(answer, Delivered):
            self._tries.pop(job.name, None)
            self._report.failing.pop(job.name, None)
            self._report.add(job.name, answer, list_object=self._runner.settings.list_objects)
            self._runner.observer.delivered(job, answer)
        if job.name not in self._report.failing:
            self._queue.append(job)

    def _held(self, job: Job, held: Held) -> None:
        tries = self._tries.get(job.name, 0)
        passing = isinstance(held.error, (OutcomeUnknown, NotSent))
        self._report.failing[job.name] = held.error
        if passing and tries < len(RETRIES_S):
            self._tries[job.name] = tries + 1
            self._later.append((time.monotonic() + RETRIES_S[tries], job))
            return
        self._runner.observer.failed(job, held.error)

    def _result(self, job: Job, future: Future[Step]) -> Step | None:
        """What a step came to; a failure is kept for this export alone, unless it is everybody's."""
        try:
            return future.result()
        except (SourceError, LedgerError) as error:
            self._report.error = error
            self._report.unfinished.add(job.name)
            return None
        except ExporterError as error:
            failure = error
        except Exception as error:  # noqa: BLE001 - a defect met by one export must not stop the others
            failure = ExporterError(f"internal error: {type(error).__name__}", hint=REPORT_IT)
            failure.__cause__ = error
        self._report.failing[job.name] = failure
        self._runner.ledger.fail(job.name, failure.message, failure.hint)
        self._runner.observer.failed(job, failure)
        return None
