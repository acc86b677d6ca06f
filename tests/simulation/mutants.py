"""The product with one rule broken: the simulation has to notice each of these.

A mutant is a context in which one function of the real code does something else; it is given the real
one first. They are the mistakes that somebody could make in good faith.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeAlias, TypeVar
from unittest import mock

from exporter import delivering, keys, pipeline
from exporter.destinations.memory import Fault, MemoryStore
from exporter.destinations.memory_events import MemoryEvents
from exporter.journal import PlanJournal
from exporter.ledger import events as ledger_events
from exporter.ledger import history, requests
from exporter.ledger.memory import MemoryRows
from exporter.ledger.requests import Requests
from exporter.ledger.rules import Rules
from exporter.model import Outcome, Stamp
from exporter.pipeline import Pipeline
from exporter.sources.memory import MemorySource

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from contextlib import AbstractContextManager
    from datetime import datetime

    from exporter.destinations.memory import StoredObject
    from exporter.interfaces import Clock, Journal
    from exporter.ledger.memory import MemoryStorage
    from exporter.ledger.rules import Draft
    from exporter.ledger.storage import Rows
    from exporter.model import (
        Attempt,
        BadRecord,
        Batch,
        Content,
        Export,
        Lane,
        Package,
        Plan,
        Receipt,
        Seal,
        Window,
    )
    from exporter.rendering import Rendered
    from exporter.steps import Job, Next, Ready, Step

    Mutant: TypeAlias = Callable[[], AbstractContextManager[object]]
    Follow: TypeAlias = Callable[[Pipeline, Job, Export, Lane, datetime], Next | None]
    Again: TypeAlias = Callable[[Pipeline, Job, Plan], Step]
    Unchanged: TypeAlias = Callable[[Rules, MemoryRows, Export, str], tuple[Export, Lane]]
    Resume: TypeAlias = Callable[[Requests, str], Plan | None]

P = ParamSpec("P")
T = TypeVar("T")


def _instead(owner: object, name: str, other: Callable[..., T]) -> Mutant:
    real = getattr(owner, name)

    def mutant(*arguments: object, **named: object) -> T:
        return other(real, *arguments, **named)

    return lambda: mock.patch.object(owner, name, mutant)


# --- the protocol of one plan ------------------------------------------------------------------------


def _no_version(
    real: Unchanged, ledger: Rules, rows: MemoryRows, before: Export, lane: str
) -> tuple[Export, Lane]:
    return real(ledger, rows, rows.export(before.name) or before, lane)


def _closed_or_not(_: object, ledger: Rules, rows: MemoryRows, plan: Plan) -> Plan:
    del ledger
    return rows.plan(plan.id) or plan


def _resume_forgets_attempts(real: Resume, asked: Requests, name: str) -> Plan | None:
    with mock.patch.object(MemoryRows, "attempts", return_value=[]):
        return real(asked, name)


def _resume_leaves_a_gap(real: Resume, asked: Requests, name: str) -> Plan | None:
    with asked._ledger.writing() as rows:
        before = rows.export(name)
        again = real(asked, name)
        after = rows.export(name)
        if before is not None and after is not None:
            rows.update_export(replace(after, sequence=before.sequence))
    return again


def _commit_first(_: object, self: Pipeline, ready: Ready, progress: Any, must_end: object) -> Receipt | None:  # noqa: ANN401 - as it comes
    del must_end
    attempt = self._ledger.attempts(ready.plan.id)[-1]
    self._ledger.commit(ready.plan, attempt, Outcome.SUCCEEDED)
    return ready.job.destination.deliver(ready.package, progress)


def _attempt_off_record(
    real: Callable[[Rules, Plan, Content, str], Attempt],
    rules: Rules,
    plan: Plan,
    content: Content,
    store: str,
) -> Attempt:
    """As if it were only written down together with its answer."""
    attempt = real(rules, plan, content, store)
    with rules.writing(plan.export) as rows:
        rows.update_attempt(replace(attempt, outcome=Outcome.NOT_SENT))
    return attempt


def _always_ours(
    real: Callable[[Rules, Plan, Attempt], bool], rules: Rules, plan: Plan, attempt: Attempt
) -> bool:
    if not real(rules, plan, attempt):
        with rules.writing(plan.export) as rows:
            rows.update_export(replace(rules._export(rows, plan.export), stopped=""))
    return True


def _every_part_is_final(real: Callable[[Lane, Plan], Lane], lane: Lane, plan: Plan) -> Lane:
    return real(lane, replace(plan, final=True))


def _last_key_open(
    real: Callable[[Rules, Export, Draft, Iterable[BadRecord]], Plan],
    rules: Rules,
    before: Export,
    draft: Draft,
    bad: Iterable[BadRecord],
) -> Plan:
    return real(rules, before, replace(draft, range=replace(draft.range, last=None)), bad)


# --- what recovery renders ---------------------------------------------------------------------------


def _seal_again(real: Again, self: Pipeline, job: Job, plan: Plan) -> Step:
    return replace(
        real(self, job, replace(plan, range=replace(plan.range, seal=self._source.seal()))), of=plan
    )


def _settings_again(real: Again, self: Pipeline, job: Job, plan: Plan) -> Step:
    return replace(real(self, job, replace(plan, rendering=job.rendering)), of=plan)


def _limit_again(real: Again, self: Pipeline, job: Job, plan: Plan) -> Step:
    return replace(real(self, job, plan), limit_bytes=job.part_limit_bytes)


# --- what comes next ---------------------------------------------------------------------------------


def _no_open_seal(
    real: Follow, self: Pipeline, job: Job, export: Export, lane: Lane, now: datetime
) -> Next | None:
    return real(self, job, export, replace(lane, open_seal=None), now)


def _no_names_from(
    real: Follow, self: Pipeline, job: Job, export: Export, lane: Lane, now: datetime
) -> Next | None:
    return real(self, job, replace(export, names_from=None), lane, now)


def _end_by_schedule(
    real: Follow, self: Pipeline, job: Job, export: Export, lane: Lane, now: datetime
) -> Next | None:
    end = lane.open_end and self._window_end(job, lane)
    return real(self, job, export, replace(lane, open_end=end), now)


def _too_early(
    real: Follow, self: Pipeline, job: Job, export: Export, lane: Lane, now: datetime
) -> Next | None:
    return real(self, replace(job, grace=-job.every), export, lane, now)


def _from_the_start(real: Callable[P, Next | None], *args: P.args, **named: P.kwargs) -> Next | None:
    step = real(*args, **named)
    return step and replace(step, range=replace(step.range, after=None))


def _not_first(real: Callable[P, Next | None], *args: P.args, **named: P.kwargs) -> Next | None:
    step = real(*args, **named)
    return step and replace(step, range=replace(step.range, first=False))


def _no_late(real: Callable[P, Next | None], *args: P.args, **named: P.kwargs) -> Next | None:
    step = real(*args, **named)
    if step is None or step.range.previous is None:
        return step
    return replace(step, range=replace(step.range, previous=step.range.seal))


def _pass_with_new_seal(real: Callable[..., object], self: Pipeline, step: Step, *rest: object) -> object:
    newer = replace(step.range, seal=self._source.seal())
    return real(self, replace(step, range=newer), *rest)


def _always_quiet(
    _real: object, _source: MemorySource, _account: str, _start: datetime, end: datetime, _seal: Seal
) -> datetime:
    return end


# --- people's requests -------------------------------------------------------------------------------


def _backfill_sealed_now(
    real: Callable[..., Lane], asked: Requests, name: str, window: Window, seal: Seal, *, redeliver: bool
) -> Lane:
    lane = replace(real(asked, name, window, seal, redeliver=redeliver), seal=seal)
    with asked._ledger.writing() as rows:
        rows.update_lane(lane)
    return lane


def _restored_with_old_names(
    real: Callable[[MemoryStorage, Clock], int], storage: MemoryStorage, clock: Clock
) -> int:
    given_up = real(storage, clock)
    with storage.writing() as rows:
        for export in rows.exports():
            rows.update_export(replace(export, names_from=None))
    return given_up


# --- events ------------------------------------------------------------------------------------------


class _NothingTold:
    """A journal that nobody hears."""

    def __call__(self, size_bytes: int, /) -> None:
        """Bytes."""

    def ends(self) -> bool:
        """Never."""
        return False

    def accepted(self, batch: Batch, refused: Sequence[BadRecord] = ()) -> None:
        """A batch."""

    def partly(self, batch: Batch, count: int, refused: Mapping[int, BadRecord]) -> None:
        """A part of one."""


def _told_first(_: object, self: MemoryEvents, package: Package, journal: Journal) -> Receipt:
    for batch in package.batches:
        journal.accepted(batch)
    return _DELIVER(self, package, _NothingTold())


_DELIVER = MemoryEvents.deliver


def _all_of_it(
    real: Callable[..., None], journal: PlanJournal, batch: Batch, _: int, refused: Mapping[int, BadRecord]
) -> None:
    real(journal, batch, batch.count, refused)


def _not_compared(real: Callable[..., None], rows: MemoryRows, plan: Plan, _: object, *rest: object) -> None:
    real(rows, plan, plan.reached, *rest)


def _refused_forgotten(real: Callable[..., None], *arguments: object) -> None:
    *others, _ = arguments
    real(*others, [])


def _all_again(real: Again, self: Pipeline, job: Job, plan: Plan) -> Step:
    return replace(real(self, job, replace(plan, reached=None)), of=plan)


def _ended_at_its_end(real: Callable[[Plan, datetime], Plan], plan: Plan, now: datetime) -> Plan:
    return replace(real(plan, now), range=plan.range, reached=plan.range.last, final=plan.final)


def _lane_stays(real: Callable[[Rows, Export, Plan], None], rows: Rows, export: Export, done: Plan) -> None:
    lane = rows.lane(done.export, done.lane)
    real(rows, export, done)
    if lane is not None:
        rows.update_lane(lane)


def _as_it_was_read(
    real: Callable[[Rules, MemoryRows, Plan], Plan], ledger: Rules, rows: MemoryRows, plan: Plan
) -> Plan:
    real(ledger, rows, plan)
    return plan


# --- around the protocol -----------------------------------------------------------------------------


def _may_have_landed(*outcomes: Outcome) -> Mutant:
    changed = property(lambda outcome: outcome in outcomes)
    return lambda: mock.patch.object(Outcome, "may_have_landed", changed)


def _replaced(_: object, store: MemoryStore, name: str, stored: StoredObject, fault: Fault | None) -> bool:
    if fault is not Fault.LOST_REQUEST:
        store.objects[name] = stored
    return True


def _unflagged(real: Callable[[Plan, Rendered], Package], plan: Plan, rendered: Rendered) -> Package:
    package = real(plan, rendered)
    return replace(package, metadata={**package.metadata, "audit-repeats": "no"})


MUTANTS: Final[Mapping[str, Mutant]] = {
    "versions are not compared": _instead(Rules, "_unchanged", _no_version),
    "a plan is attempted and committed though it is closed": _instead(Rules, "_still_open", _closed_or_not),
    "whatever exists is ours": _instead(Rules, "judge", _always_ours),
    "whatever exists is foreign": _may_have_landed(),
    "an unknown outcome has not landed": _may_have_landed(Outcome.PENDING, Outcome.SUCCEEDED),
    "an unanswered attempt has not landed": _may_have_landed(Outcome.UNKNOWN, Outcome.SUCCEEDED),
    "an unknown outcome is a refusal": _instead(delivering, "_outcome_of", lambda *_: Outcome.REFUSED),
    "attempts are not on record while they run": _instead(Rules, "attempt", _attempt_off_record),
    "the commit comes before the upload": _instead(Pipeline, "send", _commit_first),
    "every part closes its window": _instead(history, "lane_after", _every_part_is_final),
    "a plan does not fix its last key": _instead(Rules, "plan", _last_key_open),
    "the quarantine stays empty": _instead(MemoryRows, "insert_bad_records", lambda *_: None),
    "recovery takes a new seal": _instead(Pipeline, "_again", _seal_again),
    "recovery takes the present settings": _instead(Pipeline, "_again", _settings_again),
    "recovery takes the present part limit": _instead(Pipeline, "_again", _limit_again),
    "the open window ends by the schedule": _instead(Pipeline, "_next", _end_by_schedule),
    "every part has a seal of its own": _instead(Pipeline, "_next", _no_open_seal),
    "every part starts at the window's start": _instead(Pipeline, "_next", _from_the_start),
    "the first window is like any other": _instead(Pipeline, "_next", _not_first),
    "late records are forgotten": _instead(Pipeline, "_next", _no_late),
    "windows are sealed before they end": _instead(Pipeline, "_next", _too_early),
    "empty windows take a newer seal": _instead(Pipeline, "_pass_over", _pass_with_new_seal),
    "nothing ever comes behind an empty window": _instead(MemorySource, "quiet_until", _always_quiet),
    "the horizon ignores running transactions": _instead(
        MemorySource, "_horizon", lambda _, source: source._next_transaction
    ),
    "names do not heed the last one": _instead(
        keys, "next_stamp", lambda _real, wanted, _previous: Stamp(wanted.replace(microsecond=0))
    ),
    "names do not start at now after a resume": _instead(Pipeline, "_next", _no_names_from),
    "the store replaces objects": _instead(MemoryStore, "_land", _replaced),
    "resume gives up what may have landed": _instead(Requests, "resume", _resume_forgets_attempts),
    "resume leaves a gap in the numbers": _instead(Requests, "resume", _resume_leaves_a_gap),
    "resume takes events for in that are not": _instead(requests, "ended", _ended_at_its_end),
    "resume sends events again that are in": _instead(requests, "note_delivered", _lane_stays),
    "backfill takes what live delivery has": _instead(Requests, "backfill", _backfill_sealed_now),
    "backfills may overlap": _instead(requests, "_refuse_repeats", lambda *_: None),
    "progress comes before the answer": _instead(MemoryEvents, "deliver", _told_first),
    "a batch of which the beginning is in counts as in": _instead(PlanJournal, "partly", _all_of_it),
    "progress is not compared": _instead(ledger_events, "reach", _not_compared),
    "progress of another process is overwritten": _instead(Rules, "_still_open", _as_it_was_read),
    "refused events are forgotten": _instead(ledger_events, "reach", _refused_forgotten),
    "events are all sent again after a failure": _instead(Pipeline, "_again", _all_again),
    "repeats are not flagged": _instead(pipeline, "package_of", _unflagged),
    "a restored ledger goes on with its names": _instead(requests, "restored", _restored_with_old_names),
    "a restored ledger keeps its id": _instead(MemoryRows, "set_ledger_id", lambda *_: None),
}
