"""Products with one defect each, to see that the harness notices. Only ``child`` ever puts one in place.

Each is a mistake that somebody could make: the protocol without one of its rules.
"""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from exporter.destinations import directory
from exporter.journal import PlanJournal
from exporter.ledger.group import SqlGroup
from exporter.ledger.requests import _abandon_open
from exporter.ledger.rules import Rules
from exporter.model import Outcome, Receipt
from exporter.pipeline import Pipeline
from exporter.steps import result_of
from exporter.workspace import Workspace
from tests.kit.archives import bytes_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from exporter.ledger.rules import Standing
    from exporter.model import BadRecord, Batch, Plan
    from exporter.steps import Job, Ready, Step


def commit_before_put() -> None:
    """The watermark moves first."""

    def send(self: Pipeline, ready: Ready, progress: Any, must_end: Any) -> Receipt | None:  # noqa: ANN401, ARG001 - as it comes
        attempt = self._ledger.attempts(ready.plan.id)[-1]
        self._ledger.commit(ready.plan, attempt, Outcome.SUCCEEDED)
        return ready.job.destination.deliver(ready.package, progress)

    Pipeline.send = send  # type: ignore[assignment,method-assign]


def put_before_attempt() -> None:
    """An attempt is recorded once it has succeeded."""
    attempt = Pipeline.attempt
    found: dict[str, Receipt | Exception] = {}

    def attempt_after(self: Pipeline, group: Sequence[Ready]) -> list[Any]:
        for ready in group:
            found[ready.plan.id] = result_of(partial(ready.job.destination.deliver, ready.package, _Deaf()))
        return attempt(self, group)

    def send(self: Pipeline, ready: Ready, progress: Any, must_end: Any) -> Receipt:  # noqa: ANN401, ARG001 - as it comes
        answer = found[ready.plan.id]
        if isinstance(answer, Exception):
            raise answer
        return answer

    Pipeline.attempt = attempt_after  # type: ignore[assignment,method-assign]
    Pipeline.send = send  # type: ignore[assignment,method-assign]


def plans_forgotten() -> None:
    """What was planned before is planned anew, with what is visible by now."""
    begin = Pipeline._begun

    def begin_anew(self: Pipeline, jobs: Sequence[Job]) -> list[tuple[Job, Standing | Exception]]:
        for job, standing in begin(self, jobs):
            if isinstance(standing, Exception) or standing.open_plan is None:
                continue
            with self._ledger.writing() as rows:
                _abandon_open(rows, job.name)
                export = standing.export
                rows.update_export(replace(export, sequence=export.sequence - 1))
                rows.update_lane(replace(standing.live, open_end=None, open_seal=None))
        return begin(self, jobs)

    Pipeline._begun = begin_anew  # type: ignore[assignment,method-assign]


def sealed_again() -> None:
    """An open plan is rendered with what is visible by now."""
    again = Pipeline._again

    def render_fresh(self: Pipeline, job: Job, plan: Plan) -> Step:
        fresh = replace(plan.range, seal=self._source.seal(), last=None)
        return replace(again(self, job, replace(plan, range=fresh)), of=plan)

    Pipeline._again = render_fresh  # type: ignore[method-assign]


def two_transactions() -> None:
    """That an object was delivered is on record before the watermark has moved."""
    flush = SqlGroup.flush

    def flush_twice(self: SqlGroup) -> None:
        lanes, self._changes.lanes = self._changes.lanes, {}
        delivered = bool(self._changes.plans)
        flush(self)
        if delivered:
            self._connection.execute("COMMIT")
            self._connection.execute("BEGIN IMMEDIATE")
        self._changes.lanes = lanes
        flush(self)

    SqlGroup.flush = flush_twice  # type: ignore[method-assign]


def published_unfinished() -> None:
    """A file has its name before it has its content."""

    def put(self: directory.DirectoryStore, package: Any, progress: Callable[[int], None]) -> Any:  # noqa: ANN401
        target = self._root / package.name
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as file:
            os.fsync(file.fileno())
            file.write(bytes_of(package.body))
        progress(package.content.archive_bytes)
        return Receipt(f"{self.name}/{package.name}")

    directory.DirectoryStore.put = put  # type: ignore[method-assign]


def files_replaced() -> None:
    """A file may take the place of another."""

    def link(temporary: str, target: str) -> bool:
        os.replace(temporary, target)  # noqa: PTH105
        return True

    directory._link = link


def never_swept() -> None:
    """What killed processes leave in the workspace stays there."""
    Workspace._sweep = lambda self: None  # type: ignore[method-assign] # noqa: ARG005


def conflicts_ignored() -> None:
    """Whoever commits second does so all the same."""
    Rules._still_open = lambda self, rows, plan: plan  # type: ignore[method-assign] # noqa: ARG005


def told_before_it_is_sent() -> None:
    """The ledger hears that a batch is in, and then it goes out."""

    def send(self: Pipeline, ready: Ready, progress: Any, must_end: Any) -> Receipt:  # noqa: ANN401 - as it comes
        journal = PlanJournal(self._ledger, ready.plan, ready.package, progress, must_end)
        for batch in ready.package.batches:
            journal.accepted(batch)
        journal.close()
        return ready.job.destination.deliver(ready.package, _Deaf())

    Pipeline.send = send  # type: ignore[assignment,method-assign]


class _Deaf:
    """A journal that does not care."""

    def __call__(self, size_bytes: int, /) -> None:
        """Bytes."""

    def ends(self) -> bool:
        """Never."""
        return False

    def accepted(self, batch: Batch, refused: Sequence[BadRecord] = ()) -> None:
        """A batch."""

    def partly(self, batch: Batch, count: int, refused: Mapping[int, BadRecord]) -> None:
        """A part of one."""


def progress_forgotten() -> None:
    """A delivery begins again from its window's start."""
    again = Pipeline._again

    def render_all(self: Pipeline, job: Job, plan: Plan) -> Step:
        return replace(again(self, job, replace(plan, reached=None)), of=plan)

    Pipeline._again = render_all  # type: ignore[method-assign]


MUTANTS: Final[Mapping[str, Callable[[], None]]] = {
    mutant.__name__: mutant
    for mutant in (
        commit_before_put,
        put_before_attempt,
        plans_forgotten,
        sealed_again,
        two_transactions,
        published_unfinished,
        files_replaced,
        never_swept,
        conflicts_ignored,
        told_before_it_is_sent,
        progress_forgotten,
    )
}
