"""Which exports are due, in which order: what a run does, and what it tells while it does it.

It decides from the ledger alone, so that a run with nothing due touches neither source nor store. How the
work is shared out among threads is ``turns``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter import schedule
from exporter.errors import ExportError, LedgerError
from exporter.model import LIVE_LANE
from exporter.outcome import Report, Trouble
from exporter.turns import Means, Turns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime

    from exporter.ledger.rules import Standing
    from exporter.pipeline import Job


class Runner(Means):
    """Runs one lane of many exports to the end of what is due, or of its budget."""

    def run(
        self,
        jobs: Iterable[Job],
        now: datetime,
        lane_id: str = LIVE_LANE,
        begin: Callable[[], None] = lambda: None,
    ) -> Report:
        """Deliver all that is due at ``now``. Never raises for what goes wrong: the report says it.

        Before anything is done ``begin`` is called; what that raises is raised.
        """
        report = Report()
        try:
            standings = self.ledger.standings()
        except LedgerError as error:
            report.error = Trouble.of(error)
            return report
        due = self._due(jobs, standings, now, lane_id, report)
        self.observer.started(len(due))
        if due:
            begin()
            waiting = self._take_turns(due, now, lane_id, report, standings)
            self._note_unfinished(waiting, now, lane_id, report)
        return report

    def _take_turns(
        self,
        due: list[Job],
        now: datetime,
        lane_id: str,
        report: Report,
        standings: Mapping[str, Standing],
    ) -> list[Job]:
        """In this process, or in several; answers the exports whose turn did not come any more."""
        if self.settings.processes > 1 and len(due) > 1:
            from exporter import workers  # what it loads takes as long as a small export

            if (count := workers.worthwhile(self.settings.processes, len(due))) > 1:
                return workers.Workers(self, due, now, lane_id, report, standings).run(count)
        turns = Turns(self, due, now, lane_id, report, standings)
        turns.run()
        return turns.waiting()

    def _due(
        self,
        jobs: Iterable[Job],
        standings: Mapping[str, Standing],
        now: datetime,
        lane_id: str,
        report: Report,
    ) -> list[Job]:
        """The exports with something to do, the one that is furthest behind first."""
        due: list[tuple[datetime, str, Job]] = []
        for job in jobs:
            standing = standings.get(job.name)
            if standing is None:
                due.append((job.start or now, job.name, job))
            elif (held := self._held_back(standing)) is not None:
                report.failing[job.name] = Trouble.of(held)
                self.observer.failed(job, held)
            elif has_more(job, standing, now, lane_id):
                due.append((standing.live.watermark, job.name, job))
        return [job for _, _, job in sorted(due, key=lambda entry: entry[:2])]

    def _held_back(self, standing: Standing) -> ExportError | None:
        """Why an export waits for a person or for its next try; both are told every time."""
        export, failure = standing.export, standing.export.failure
        hint = failure.hint if failure else ""
        if export.stopped:
            return ExportError(export.stopped, hint=hint)
        retry_at = export.blocked_until
        if retry_at is None or retry_at <= self.clock() or self.settings.insist:
            return None
        tries = "1 try" if export.tries == 1 else f"{export.tries} tries"
        message = f"waits until {retry_at:%Y-%m-%d %H:%M:%SZ} after {tries}"
        return ExportError(f"{message}: {failure.message}" if failure else message, hint=hint)

    def _note_unfinished(self, waiting: list[Job], now: datetime, lane_id: str, report: Report) -> None:
        """Of the exports whose turn did not come, those for which anything was left."""
        waiting = [job for job in waiting if job.name not in report.failing]
        if not waiting:
            return
        try:
            standings = self.ledger.standings()
        except LedgerError as error:
            report.error = report.error or Trouble.of(error)
            standings = {}
        for job in waiting:
            standing = standings.get(job.name)
            if standing is None or has_more(job, standing, now, lane_id):
                report.unfinished.add(job.name)


def next_due(jobs: Iterable[Job], standings: Mapping[str, Standing], now: datetime) -> datetime | None:
    """When any of these exports has something to do, now or later; None as long as a person holds them all.

    What waits for its next try after a failure waits for that.
    """
    moments = []
    for job in jobs:
        standing = standings.get(job.name)
        if standing is None:
            moments.append(now)
        elif not standing.export.stopped and (standing.open_plan or not standing.export.paused):
            window_end = standing.live.open_end or schedule.next_boundary(
                standing.live.watermark, job.every, job.zone
            )
            due = now if standing.open_plan else window_end + job.grace
            moments.append(max(due, standing.export.blocked_until or due))
    return min(moments, default=None)


def has_more(job: Job, standing: Standing, now: datetime, lane_id: str = LIVE_LANE) -> bool:
    """Whether a lane of an export has something to do: a plan to finish, or a window that is over."""
    if standing.open_plan is not None:
        return True
    if standing.export.paused:
        return False
    lane = standing.lane(lane_id)
    if lane_id != LIVE_LANE or lane.open_end is not None:
        return not lane.done
    return schedule.next_boundary(lane.watermark, job.every, job.zone) + job.grace <= now
