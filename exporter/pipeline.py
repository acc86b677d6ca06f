"""Deliver exports' windows, each record exactly once: the protocol, top to bottom.

`prepare` goes from the schedule to finished archives with plans, for a group of exports at once; what
``delivering`` adds goes from the plans to the commits. One export alone is a group of one. Events have no
object and no name: of them at most one batch comes twice for each process that dies. Between any two lines
the process may die, and another one may be doing the same.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Final

from exporter import keys, schedule
from exporter.beginning import Beginning
from exporter.errors import Conflict, ExportError, Stopped
from exporter.ledger.rules import Draft, resume_hint
from exporter.model import LIVE_LANE, LaneKind, Range, Window
from exporter.packages import name_of, package_of, require_kind
from exporter.reading import Archive, Readings
from exporter.steps import (
    Delivered,
    Held,
    Job,
    Moved,
    Next,
    Prepared,
    Proposal,
    Ready,
    Step,
    Unreached,
    result_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from contextlib import AbstractContextManager
    from datetime import datetime

    from exporter.beginning import Known
    from exporter.encoders import Encoders
    from exporter.interfaces import Clock, FormatCompiler, Source
    from exporter.ledger.rules import Ledger, Rules, Standing
    from exporter.model import Export, Lane, Plan, Rendering
    from exporter.workspace import Workspace

__all__ = ["Delivered", "Held", "Job", "Moved", "Pipeline", "Ready", "Unreached", "is_through"]

CONFLICTS: Final = 10


@dataclass(frozen=True, slots=True)
class _Passed:
    """A range without records: up to where its lane is past it."""

    step: Step
    of: Proposal
    end: datetime
    filtered: int


class Pipeline(Beginning):
    """One source, one ledger, one workspace; safe to use from several threads and processes at once."""

    def __init__(
        self,
        source: Source,
        ledger: Ledger,
        workspace: Workspace,
        compile_format: FormatCompiler,
        clock: Clock,
    ) -> None:
        super().__init__(source, ledger, clock)
        self._readings = Readings(source, workspace, compile_format)

    def prepare_forks(self, rendering: Rendering) -> None:
        """Load what each process would for its first step, and hold no connection that two would have."""
        self._readings.load(rendering)
        self.rest()

    def helped(self, count: int) -> AbstractContextManager[Encoders]:
        """So many more processes encode what is large; to be entered before there are renderers."""
        return self._readings.helped(count)

    def rest(self) -> None:
        """Let go of all connections: what comes next opens new ones, in whatever process."""
        self._source.close()
        self._ledger.storage.close()

    # --- steps 0 to 4: begin, open plan, window, seal, render, plan --------------------------------

    def prepare(
        self,
        jobs: Iterable[Job],
        now: datetime,
        tell: Callable[[Sequence[tuple[Job, Prepared]]], None],
        lane_id: str = LIVE_LANE,
        room_bytes: float = inf,
        known: Known | None = None,
    ) -> None:
        """The next object of each of these exports, planned and rendered; ``tell`` hears once of each.

        It hears of some as soon as they can go on, and is told an Exception as the answer of those whom it
        concerns; nothing half-made is left behind. An open plan, of whatever lane, comes first and is
        rendered again exactly as it was planned. When their archives take up ``room_bytes``, the others are
        left unreached. For those that are ``known`` the ledger is not asked where they stand: whoever turns
        out to have moved meanwhile has been rendered for nothing, and is looked at.
        """
        group = _Group(jobs, tell, known or {})
        try:
            for _ in range(CONFLICTS):
                self._prepare(group, now, lane_id, room_bytes)
                if not group.waiting:
                    return
            group.give_up()
        except Exception as error:  # noqa: BLE001 - it is told, and whose fault it is shows there
            group.fail(error)

    def _prepare(self, group: _Group, now: datetime, lane_id: str, room_bytes: float) -> None:
        finished: list[tuple[Step, Archive]] = []

        def done(step: Step, result: Archive | Exception) -> None:
            if isinstance(result, Exception):
                group.answer([(step.job, result)])
                return
            finished.append((step, result))
            if result.rendered.content.bad:
                late(())  # what is kept of them is in memory until the plan has it: of one at a time

        def late(unreached: Sequence[Step]) -> None:
            group.answer(self._fix(finished, now))
            finished.clear()
            group.answer([(step.job, Unreached()) for step in unreached])

        try:
            self._readings.render(self._steps(group, now, lane_id), done, late, room_bytes)
            late(())
        except BaseException:
            for _, archive in finished:
                archive.folder.discard()
            raise

    def _steps(self, group: _Group, now: datetime, lane_id: str) -> list[Step]:
        steps: list[Step] = []
        answers: list[tuple[Job, Prepared]] = []
        known, group.known = group.known, {}
        for job, standing in self._standing(list(group.waiting.values()), known):
            if isinstance(standing, Exception):
                answers.append((job, standing))
                continue
            found = result_of(partial(self._step, job, standing, now, lane_id))
            if isinstance(found, Step):
                steps.append(found)
            else:
                answers.append((job, found))
        group.answer(answers)
        return steps

    def _step(self, job: Job, standing: Standing, now: datetime, lane_id: str) -> Step | None:
        """Steps 1 to 3. What is to be rendered next; None when nothing is due."""
        export = standing.export
        if export.stopped:
            raise Stopped(export.stopped, hint=resume_hint(job.name))
        if standing.open_plan is not None:
            return self._again(job, standing.open_plan)
        lane = standing.lane(lane_id)
        following = None if export.paused else self._next(job, export, lane, now)
        if following is None:
            return None
        stamp = keys.next_stamp(following.name_from, export.stamp)
        name = name_of(job.destination.prefix, job.account, stamp, following.rendering)
        return Step(
            job=job,
            range=following.range,
            rendering=following.rendering,
            limit_bytes=following.limit_bytes,
            name=name,
            sequence=export.sequence + 1,
            of=Proposal(standing, lane, stamp),
        )

    def _again(self, job: Job, plan: Plan) -> Step:
        """Step 1. An open plan: same range, settings and name, whatever changed since.

        Of events those that are not in yet.
        """
        require_kind(plan, job.rendering)
        range_ = plan.range if plan.reached is None else replace(plan.range, after=plan.reached)
        return Step(job, range_, plan.rendering, None, plan.name, plan.sequence, plan)

    def _next(self, job: Job, export: Export, lane: Lane, now: datetime) -> Next | None:
        """Steps 2 and 3. The next range of a lane, sealed; None when nothing is due."""
        if lane.done:
            return None
        if lane.kind is LaneKind.REPLAY:
            original = self._ledger.delivered(export.name, lane.sequences[0])
            require_kind(original, job.rendering)
            range_ = replace(original.range, after=lane.last_key or original.range.after)
            return Next(range_, original.rendering, None, self._clock())
        window = Window(lane.watermark, lane.open_end or self._window_end(job, lane))
        if lane.kind is LaneKind.BACKFILL:
            range_ = Range(job.account, window, lane.seal, after=lane.last_key)
            return Next(range_, job.rendering, job.part_limit_bytes, self._clock())
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
        return Next(range_, job.rendering, job.part_limit_bytes, name_from)

    def _window_end(self, job: Job, lane: Lane) -> datetime:
        end = schedule.next_boundary(lane.watermark, job.every, job.zone)
        return end if lane.until is None else min(end, lane.until)

    def _fix(self, batch: Sequence[tuple[Step, Archive]], now: datetime) -> list[tuple[Job, Prepared]]:
        """Step 4, and step 7 for what is empty: all of these in one transaction."""
        answers: list[tuple[Job, Prepared]] = []
        new: list[tuple[Step, Proposal, Archive]] = []
        empty: list[_Passed] = []
        for step, archive in batch:
            if not isinstance(step.of, Proposal):
                package = package_of(step.of, archive.rendered)
                answers.append((step.job, Ready(step.job, step.of, package, archive.folder)))
            elif archive.rendered.content.count:
                new.append((step, step.of, archive))
            else:
                archive.folder.discard()
                filtered = archive.rendered.content.filtered
                passed = result_of(partial(self._pass_over, step, step.of, now, filtered))
                if isinstance(passed, Exception):
                    answers.append((step.job, passed))
                else:
                    empty.append(passed)
        return [*answers, *self._plan(new), *self._advance(empty)]

    def _plan(self, new: Sequence[tuple[Step, Proposal, Archive]]) -> list[tuple[Job, Prepared]]:
        answers: list[tuple[Job, Prepared]] = []
        plans = self._together(new, lambda one: one[0].job.name, _draft)
        for (step, _, archive), plan in zip(new, plans, strict=True):
            if isinstance(plan, Exception):
                archive.folder.discard()
                answers.append((step.job, plan))
            else:
                package = package_of(plan, archive.rendered)
                answers.append((step.job, Ready(step.job, plan, package, archive.folder)))
        return answers

    def _pass_over(self, step: Step, of: Proposal, now: datetime, filtered: int) -> _Passed:
        """Up to where nothing is: the empty windows right behind an empty one, which the same seal covers."""
        job, lane = step.job, of.lane
        if lane.kind is LaneKind.REPLAY:
            raise ExportError(
                f"the source no longer has the records of sequence number {lane.sequences[0]}",
                hint="replay renders from the source again; the object itself is where it was delivered",
            )
        end = step.range.window.end
        latest = lane.until or schedule.last_boundary(now - job.grace, job.every, job.zone)
        if end < latest:
            quiet = self._source.quiet_until(job.account, end, latest, step.range.seal)
            boundary = latest if quiet == latest else schedule.last_boundary(quiet, job.every, job.zone)
            end = max(end, boundary)
        return _Passed(step, of, end, filtered)

    def _advance(self, empty: Sequence[_Passed]) -> list[tuple[Job, Prepared]]:
        answers = self._together(empty, lambda one: one.step.job.name, _advance)
        return [(one.step.job, answer) for one, answer in zip(empty, answers, strict=True)]


def is_through(job: Job, lane_id: str, came: Delivered | Moved, now: datetime) -> bool:
    """Whether an export plainly has nothing more to do: its live lane is at the last window that is due."""
    if isinstance(came, Delivered):
        plan = came.plan
        if plan.lane != LIVE_LANE or not plan.final:
            return False
        watermark = plan.range.window.end
    else:
        watermark = came.watermark
    return lane_id == LIVE_LANE and schedule.next_boundary(watermark, job.every, job.zone) + job.grace > now


class _Group:
    """Some exports on their way to a plan, each of which is answered once."""

    def __init__(
        self, jobs: Iterable[Job], tell: Callable[[Sequence[tuple[Job, Prepared]]], None], known: Known
    ) -> None:
        self.waiting = {job.name: job for job in jobs}
        self.known = known
        self._tell = tell
        self._conflicts: dict[str, Conflict] = {}

    def answer(self, answers: Sequence[tuple[Job, Prepared]]) -> None:
        """What came of some of them; whoever met a conflict goes on waiting, and is looked at again."""
        told = []
        for job, answer in answers:
            if isinstance(answer, Conflict):
                self._conflicts[job.name] = answer
            else:
                del self.waiting[job.name]
                told.append((job, answer))
        if told:
            self._tell(told)

    def give_up(self) -> None:
        """Those that wait have met a conflict each time."""
        self._tell([(job, self._conflicts[job.name]) for job in self.waiting.values()])

    def fail(self, error: Exception) -> None:
        """None of those that wait can go on."""
        self._tell([(job, error) for job in self.waiting.values()])


def _draft(rules: Rules, new: tuple[Step, Proposal, Archive]) -> Plan:
    step, of, archive = new
    rendered = archive.rendered
    draft = Draft(
        lane=of.lane.id,
        range=replace(step.range, last=rendered.last_key),
        rendering=step.rendering,
        final=rendered.final,
        name=step.name,
        stamp=of.stamp,
        content=rendered.content,
    )
    return rules.plan(of.standing.export, draft, rendered.bad)


def _advance(rules: Rules, one: _Passed) -> Moved:
    rules.advance(one.of.standing.export, one.of.lane.id, one.end, one.step.range.seal, one.filtered)
    return Moved(one.end)
