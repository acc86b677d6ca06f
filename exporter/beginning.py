"""Step 0 of the protocol, and where those stand who have begun: for a group of exports at once.

An export begins once, for good. It must not know what comes next for anybody.
"""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias, cast

from exporter import schedule
from exporter.delivering import Delivering
from exporter.errors import SourceError
from exporter.steps import result_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from exporter.interfaces import Clock, Source
    from exporter.ledger.rules import Ledger, Rules, Standing
    from exporter.model import Export, Seal
    from exporter.steps import Job

    Known: TypeAlias = "Mapping[str, Standing | None]"
    """Where exports stood not long ago, by name; None: they had not begun."""

MAX_CLOCK_SKEW: Final = timedelta(minutes=5)


class Beginning(Delivering):
    """What one source and one ledger say of where exports stand."""

    def __init__(self, source: Source, ledger: Ledger, clock: Clock) -> None:
        super().__init__(ledger, clock)
        self._source = source

    def now(self) -> datetime:
        """The moment that decides what is due: the source's; raises SourceError if the clocks disagree."""
        now, local = self._source.now(), self._clock()
        if abs(now - local) > MAX_CLOCK_SKEW:
            raise SourceError(
                f"the source's clock says {now:%Y-%m-%d %H:%M:%SZ}, this machine's {local:%H:%M:%SZ}",
                hint="set both by NTP: a wrong clock would seal windows before their end",
            )
        return now

    def begin(self, job: Job) -> Standing:
        """Step 0. What the ledger knows of this export, which may begin with this call.

        It begins at the present time, whatever a run takes for now: where it begins is for good.

        Raises NameTaken when another export has its names, ExportError when its account changed.
        """
        [(_, standing)] = self._begun([job])
        if isinstance(standing, Exception):
            raise standing
        return standing

    def _standing(self, jobs: Sequence[Job], known: Known) -> list[tuple[Job, Standing | Exception]]:
        """As `_begun`, but without a look at those that are known.

        If one of them has moved meanwhile, its plan is a conflict. But for an open plan, which takes no other
        plan: of events it says up to where they are in, and the sooner after that they are sent, the better.
        """
        there, unsure = [], []
        for job in jobs:
            standing = known.get(job.name)
            if job.name not in known or (standing is not None and standing.open_plan is not None):
                unsure.append(job)
            else:
                there.append((job, standing))
        return [*self._all_begun(there), *self._begun(unsure)]

    def _begun(self, jobs: Sequence[Job]) -> list[tuple[Job, Standing | Exception]]:
        """The standings of all that have begun, and of the others once they have, with one seal for all."""
        return self._all_begun(zip(jobs, self._together(jobs, _job_name, _look), strict=True))

    def _all_begun(
        self, looked_at: Iterable[tuple[Job, Standing | Exception | None]]
    ) -> list[tuple[Job, Standing | Exception]]:
        new: list[Job] = []
        there: list[tuple[Job, Standing | Exception]] = []
        for job, standing in looked_at:
            if standing is None:
                new.append(job)
            else:
                there.append((job, standing))
        there += self._begin(new)
        moved = [job for job, standing in there if not _is_here(job, standing)]
        found = [(job, standing) for job, standing in there if _is_here(job, standing)]
        found += zip(moved, self._together(moved, _job_name, _relocate, _job_claim), strict=True)
        return found

    def _begin(self, jobs: Sequence[Job]) -> list[tuple[Job, Standing | Exception]]:
        if not jobs:
            return []
        moment = result_of(partial(self._moment, jobs))
        if isinstance(moment, Exception):
            return [(job, moment) for job in jobs]
        begun = self._together(jobs, _job_name, partial(_begin, *moment), _job_claim)
        return list(zip(jobs, begun, strict=True))

    def _moment(self, jobs: Sequence[Job]) -> tuple[datetime | None, Seal]:
        """When exports begin that say nothing of it, and the seal of all that begin now."""
        now = self.now() if any(job.start is None for job in jobs) else None
        return now, self._source.seal()


def _is_here(job: Job, standing: Standing | Exception) -> bool:
    """Whether an export is where the configuration has it, if that is known."""
    return isinstance(standing, Exception) or _is_same(job, standing.export)


def _is_same(job: Job, export: Export) -> bool:
    return (export.claim, export.account) == (job.claim, job.account)


def _job_name(job: Job) -> str:
    return job.name


def _job_claim(job: Job) -> str:
    return job.claim


def _look(rules: Rules, job: Job) -> Standing | None:
    return rules.standing(job.name)


def _begin(now: datetime | None, seal: Seal, rules: Rules, job: Job) -> Standing:
    begin = job.start or schedule.last_boundary(cast("datetime", now), job.every, job.zone)
    is_events = job.rendering.is_events
    return rules.begin(job.name, job.account, job.claim, begin, seal, is_events=is_events)


def _relocate(rules: Rules, job: Job) -> Standing:
    return rules.relocate(job.name, job.account, job.claim, is_events=job.rendering.is_events)
