"""Deliver one export's windows, each record exactly once: the protocol, top to bottom.

`prepare` goes from the schedule to a finished archive with a plan; `deliver` from the plan to the commit.
Events have no object and no name: of them at most one batch comes twice for each process that dies.
Between any two lines the process may die, and another one may be doing the same.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import stamina

from exporter import keys, schedule
from exporter.errors import (
    Conflict,
    DeliveryError,
    ExportError,
    Interrupted,
    NotSent,
    ObjectExists,
    OutcomeUnknown,
    SourceBusy,
    SourceError,
    Stopped,
)
from exporter.journal import PlanJournal
from exporter.ledger.rules import Draft, foreign_alarm, resume_hint
from exporter.model import (
    LIVE_LANE,
    Failure,
    LaneKind,
    Occasion,
    Outcome,
    Range,
    Window,
)
from exporter.packages import member_of, name_of, package_of, require_kind
from exporter.rendering import Renderer
from exporter.workspace import discard

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from pathlib import Path
    from zoneinfo import ZoneInfo

    from exporter.interfaces import Block, Clock, Destination, FormatCompiler, Source
    from exporter.ledger.rules import Ledger, Standing
    from exporter.model import Content, Export, Lane, Package, Plan, Receipt, Rendering
    from exporter.rendering import Rendered
    from exporter.workspace import Workspace

MAX_CLOCK_SKEW: Final = timedelta(minutes=5)
FIRST_RETRY: Final = timedelta(seconds=60)
LONGEST_WISH_S: Final = 3600.0  # of a destination, to be left alone
CONFLICTS: Final = 10
READINGS: Final = 3
FIRST_PAUSE_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Job:
    """One export as configured."""

    name: str
    account: str
    zone: ZoneInfo
    every: timedelta
    grace: timedelta
    start: datetime | None
    rendering: Rendering
    part_limit_bytes: int
    destination: Destination
    claim: str  # the one place of its names
    key: Callable[[], bytes] | None = None  # the account's own, for pseudonyms


@dataclass(frozen=True, slots=True)
class Ready:
    """A planned object, rendered and waiting to be uploaded. `discard` its folder when done with it."""

    job: Job
    plan: Plan
    package: Package
    folder: Path

    def discard(self) -> None:
        """Give the workspace back."""
        discard(self.folder)


@dataclass(frozen=True, slots=True)
class Moved:
    """There was nothing (more) to deliver up to ``watermark``; the lane is past it."""

    watermark: datetime


@dataclass(frozen=True, slots=True)
class Delivered:
    """The plan's object is in the store, and the ledger knows."""

    plan: Plan
    content: Content
    receipt: Receipt | None  # None: an earlier attempt had put it there
    batches: int = 0  # how many this attempt sent, of events


@dataclass(frozen=True, slots=True)
class Held:
    """The plan stays open: why, and when to try again; never by itself after an alarm."""

    error: DeliveryError | Stopped
    retry_at: datetime | None


@dataclass(frozen=True, slots=True)
class _Step:
    """The range that comes next in a lane, how to render it, and from when on its name may be."""

    range: Range
    rendering: Rendering
    limit_bytes: int | None
    name_from: datetime


class Pipeline:
    """One source, one ledger, one workspace; safe to use from several threads and processes at once."""

    def __init__(
        self,
        source: Source,
        ledger: Ledger,
        workspace: Workspace,
        compile_format: FormatCompiler,
        clock: Clock,
    ) -> None:
        self._source = source
        self._ledger = ledger
        self._workspace = workspace
        self._compile = compile_format
        self._clock = clock

    def now(self) -> datetime:
        """The moment that decides what is due: the source's; raises SourceError if the clocks disagree."""
        now, local = self._source.now(), self._clock()
        if abs(now - local) > MAX_CLOCK_SKEW:
            raise SourceError(
                f"the source's clock says {now:%Y-%m-%d %H:%M:%SZ}, this machine's {local:%H:%M:%SZ}",
                hint="set both by NTP: a wrong clock would seal windows before their end",
            )
        return now

    # --- steps 0 to 4: begin, open plan, window, seal, render, plan --------------------------------

    def prepare(self, job: Job, now: datetime, lane_id: str = LIVE_LANE) -> Ready | Moved | None:
        """The next object of this export, planned and rendered; Moved: past nothing; None: nothing is due.

        An open plan, of whatever lane, comes first and is rendered again exactly as it was planned.
        Raises Stopped, ExportError, SourceError, LedgerError; nothing half-made is left behind.
        """
        for _ in range(CONFLICTS):
            try:
                return self._prepare(job, now, lane_id)
            except Conflict as conflict:
                last = conflict
        raise last

    def _prepare(self, job: Job, now: datetime, lane_id: str) -> Ready | Moved | None:
        standing = self.begin(job)
        if standing.export.stopped:
            raise Stopped(standing.export.stopped, hint=resume_hint(job.name))
        if standing.open_plan is not None:
            return self._render_again(job, standing.open_plan)
        if standing.export.paused:
            return None
        lane = standing.lane(lane_id)
        step = self._next(job, standing.export, lane, now)
        if step is None:
            return None
        stamp = keys.next_stamp(step.name_from, standing.export.stamp)
        name = name_of(job.destination.prefix, job.account, stamp, step.rendering)
        folder = self._workspace.folder()
        try:
            occasion = _occasion(job, step.range, step.rendering, standing.export.sequence + 1)
            rendered = self._render(step.range, step.rendering, step.limit_bytes, name, folder, occasion)
            if rendered.content.count == 0:
                discard(folder)
                return self._pass_over(job, standing.export, lane, step.range, now, rendered.content.filtered)
            fixed = replace(step.range, last=rendered.last_key)
            draft = Draft(lane.id, fixed, step.rendering, rendered.final, name, stamp, rendered.content)
            plan = self._ledger.plan(standing.export, draft, rendered.bad)
        except BaseException:
            discard(folder)
            raise
        return Ready(job, plan, package_of(plan, rendered), folder)

    def begin(self, job: Job) -> Standing:
        """Step 0. What the ledger knows of this export, which may begin with this call.

        It begins at the present time, whatever a run takes for now: where it begins is for good.

        Raises NameTaken when another export has its names, ExportError when its account changed.
        """
        standing = self._ledger.standing(job.name)
        if standing is None:
            begin = job.start or schedule.last_boundary(self.now(), job.every, job.zone)
            seal, is_events = self._source.seal(), job.rendering.is_events
            return self._ledger.begin(job.name, job.account, job.claim, begin, seal, is_events=is_events)
        if (standing.export.claim, standing.export.account) != (job.claim, job.account):
            is_events = job.rendering.is_events
            return self._ledger.relocate(job.name, job.account, job.claim, is_events=is_events)
        return standing

    def _next(self, job: Job, export: Export, lane: Lane, now: datetime) -> _Step | None:
        """Steps 2 and 3. The next range of a lane, sealed; None when nothing is due."""
        if lane.done:
            return None
        if lane.kind is LaneKind.REPLAY:
            original = self._ledger.delivered(export.name, lane.sequences[0])
            require_kind(original, job.rendering)
            range_ = replace(original.range, after=lane.last_key or original.range.after)
            return _Step(range_, original.rendering, None, self._clock())
        window = Window(lane.watermark, lane.open_end or self._window_end(job, lane))
        if lane.kind is LaneKind.BACKFILL:
            range_ = Range(job.account, window, lane.seal, after=lane.last_key)
            return _Step(range_, job.rendering, job.part_limit_bytes, self._clock())
        if lane.open_end is None and window.end + job.grace > now:
            return None
        range_ = Range(
            account=job.account,
            window=window,
            seal=lane.open_seal or self._source.seal(lane.seal, due=window.end + job.grace),
            previous=lane.seal,
            first=window.start == export.begin,
            after=lane.last_key,
        )
        name_from = max(filter(None, (window.end, export.names_from)))
        return _Step(range_, job.rendering, job.part_limit_bytes, name_from)

    def _window_end(self, job: Job, lane: Lane) -> datetime:
        end = schedule.next_boundary(lane.watermark, job.every, job.zone)
        return end if lane.until is None else min(end, lane.until)

    def _pass_over(
        self, job: Job, export: Export, lane: Lane, empty: Range, now: datetime, filtered: int
    ) -> Moved:
        """Step 7 for an empty window, and for the empty ones right behind it, which the same seal covers."""
        if lane.kind is LaneKind.REPLAY:
            raise ExportError(
                f"the source no longer has the records of sequence number {lane.sequences[0]}",
                hint="replay renders from the source again; the object itself is where it was delivered",
            )
        end = empty.window.end
        latest = now - job.grace if lane.until is None else lane.until
        if end < latest:
            quiet = self._source.quiet_until(job.account, end, latest, empty.seal)
            boundary = (
                lane.until if quiet == lane.until else schedule.last_boundary(quiet, job.every, job.zone)
            )
            end = max(end, boundary)
        self._ledger.advance(export, lane.id, end, empty.seal, filtered)
        return Moved(end)

    def _render_again(self, job: Job, plan: Plan) -> Ready:
        """Step 1. The archive of an open plan: same range, settings and name, whatever changed since.

        Of events those that are not in yet.
        """
        require_kind(plan, job.rendering)
        range_ = plan.range if plan.reached is None else replace(plan.range, after=plan.reached)
        folder = self._workspace.folder()
        try:
            # Null for a column that the source has lost: a plan that may have landed stays.
            there = frozenset(self._source.columns())
            occasion = replace(_occasion(job, plan.range, plan.rendering, plan.sequence), columns=there)
            rendered = self._render(range_, plan.rendering, None, plan.name, folder, occasion)
        except BaseException:
            discard(folder)
            raise
        return Ready(job, plan, package_of(plan, rendered), folder)

    def _render(
        self,
        range_: Range,
        rendering: Rendering,
        limit_bytes: int | None,
        name: str,
        folder: Path,
        occasion: Occasion,
    ) -> Rendered:
        """The archive; begun again if the source is lost in mid-read, as the range reads the same."""
        form = self._compile(rendering, occasion)
        renderer = Renderer(form, rendering, range_.account, limit_bytes)
        member = member_of(name, rendering)
        for attempt in stamina.retry_context(on=SourceBusy, attempts=READINGS, wait_initial=FIRST_PAUSE_S):
            # Closed here and not when garbage is collected: until then it holds a transaction of the source.
            with attempt, closing(self._blocks(range_, form.columns)) as blocks:
                return renderer.render(blocks, folder, member)
        raise AssertionError  # the last attempt returned or raised

    def _blocks(self, range_: Range, columns: Sequence[str] | None) -> Generator[Block]:
        with closing(self._source.read([range_], columns)) as found:
            for _, block in found:
                yield block

    # --- steps 5 to 7: attempt, answer, commit ------------------------------------------------------

    def deliver(
        self,
        ready: Ready,
        progress: Callable[[int], None],
        must_end: Callable[[], bool] = lambda: False,
    ) -> Delivered | Held | None:
        """Upload a planned object, once, and say what came of it; None: another process was first.

        ``must_end`` is asked between batches of events, while their destination waits, and never during
        the upload of an object.
        """
        plan, package, destination = ready.plan, ready.package, ready.job.destination
        try:
            attempt = self._ledger.attempt(plan, package.content, destination.store)
            receipt, outcome = None, Outcome.EXISTS
            try:
                receipt, outcome = self._send(ready, progress, must_end), Outcome.SUCCEEDED
            except ObjectExists as error:
                if not self._ledger.judge(plan, attempt):
                    alarm = foreign_alarm(destination.store, plan.name)
                    return Held(_chained(Stopped(alarm, hint=resume_hint(plan.export)), error), None)
            except Interrupted as error:
                self._ledger.interrupted(plan, attempt)
                return Held(error, self._clock())
            except DeliveryError as error:
                retry_at = self._retry_at(ready.job, error.wait_s)
                failure = Failure(error.message, error.hint, self._clock())
                self._ledger.answer(plan, attempt, _outcome_of(error), failure, retry_at)
                return Held(error, retry_at)
            done = self._ledger.commit(plan, attempt, outcome)
            return Delivered(done, package.content, receipt, len(package.batches))
        except Conflict:
            return None

    def _send(
        self, ready: Ready, progress: Callable[[int], None], must_end: Callable[[], bool]
    ) -> Receipt | None:
        """One try; of events it is over when the ledger has them all. None: nothing was left to send."""
        plan, package = ready.plan, ready.package
        journal = PlanJournal(self._ledger, plan, package, progress, must_end)
        if not plan.rendering.is_events:
            return ready.job.destination.deliver(package, journal)
        receipt = ready.job.destination.deliver(package, journal) if package.batches else None
        journal.close()
        return receipt

    def _retry_at(self, job: Job, wait_s: float) -> datetime:
        """Twice as long after each try in a row, up to a window's length; longer if that was asked for."""
        standing = self._ledger.standing(job.name)
        tries = standing.export.tries if standing else 0
        wished = timedelta(seconds=min(wait_s, LONGEST_WISH_S))
        return self._clock() + max(wished, min(job.every, FIRST_RETRY * (1 << min(tries, 16))))


def _outcome_of(error: DeliveryError) -> Outcome:
    if isinstance(error, OutcomeUnknown):
        return Outcome.UNKNOWN
    return Outcome.NOT_SENT if isinstance(error, NotSent) else Outcome.REFUSED


def _chained(error: Stopped, cause: Exception) -> Stopped:
    error.__cause__ = cause
    return error


def _occasion(job: Job, range_: Range, rendering: Rendering, sequence: int) -> Occasion:
    key = job.key() if job.key is not None and rendering.key_id else None
    return Occasion(sequence, range_.window.end, key=key)
