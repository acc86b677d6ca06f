"""The protocol's rules: begin, plan, attempt, judge, commit. Each is whole, or changes nothing.

This is what makes delivery exactly-once; storage only keeps the rows. A rule never talks to a source
or a store, and does not know whether it has its transaction for itself.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING

from exporter.errors import Conflict, ExportError, Stopped
from exporter.ledger import events
from exporter.ledger.guards import refuse_taken, unmoved
from exporter.ledger.history import delivered, landed_hashes, note_delivered, note_window
from exporter.ledger.lanes import closed, moved_on, repeats
from exporter.ledger.standing import foreign_alarm, resume_hint, standing_of
from exporter.model import (
    LIVE_LANE,
    Attempt,
    Export,
    Failure,
    Lane,
    LaneKind,
    Outcome,
    Plan,
    PlanState,
    SealedWindow,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from contextlib import AbstractContextManager
    from datetime import datetime

    from exporter.interfaces import Clock
    from exporter.ledger.standing import Draft, Standing
    from exporter.ledger.storage import ExportRows
    from exporter.model import BadRecord, Content, Key, Seal


class Rules(ABC):
    """What may happen to an export, each a transaction of its own or a part of one that several share.

    Raises Conflict when somebody else acted first: read the standing again and go on from there.
    """

    def __init__(self, clock: Clock, new_id: Callable[[], str]) -> None:
        self._clock = clock
        self._new_id = new_id

    @abstractmethod
    def writing(self, export: str) -> AbstractContextManager[ExportRows]:
        """The rows of this export, to be changed; an error undoes what was changed within."""

    @abstractmethod
    def claiming(self, export: str) -> AbstractContextManager[ExportRows]:
        """The same, while nobody else gives out a claim: for rules that ask whose one is."""

    @abstractmethod
    def reading(self) -> AbstractContextManager[ExportRows]:
        """One consistent view, for reading alone."""

    # --- reading ---------------------------------------------------------------------------------

    def standing(self, name: str) -> Standing | None:
        """One export, or None if it never began."""
        with self.reading() as rows:
            return standing_of(rows, name)

    def delivered(self, name: str, sequence: int) -> Plan:
        """The delivered plan with this sequence number; raises ConfigError if there is none."""
        with self.reading() as rows:
            return delivered(rows, name, sequence)

    def attempts(self, plan_id: str) -> list[Attempt]:
        """Every recorded try at a plan, oldest first."""
        with self.reading() as rows:
            return rows.attempts(plan_id)

    # --- the protocol ----------------------------------------------------------------------------

    def begin(
        self, name: str, account: str, claim: str, begin: datetime, seal: Seal, *, is_events: bool = False
    ) -> Standing:
        """Step 0. Store for good where this export's deliveries begin; a second call changes nothing."""
        with self.claiming(name) as rows:
            if rows.export(name) is None:
                refuse_taken(rows, name, claim, is_events=is_events)
                names_from = rows.names_from()
                rows.insert_export(Export(name, account, claim, begin, seal, names_from=names_from))
                rows.insert_lane(Lane(name, LIVE_LANE, LaneKind.LIVE, begin, seal))
        return self._begun(name)

    def relocate(self, name: str, account: str, claim: str, *, is_events: bool = False) -> Standing:
        """Move an export's names elsewhere, as the configuration says, if they meet nobody else's."""
        with self.claiming(name) as rows:
            export = self._export(rows, name)
            if export.account != account:
                raise ExportError(
                    f"export '{name}' delivers account '{export.account}', "
                    f"but the configuration now gives it account '{account}'",
                    hint="an export's account never changes: give the new account an export name of its own",
                )
            if export.claim != claim:
                refuse_taken(rows, name, claim, is_events=is_events)
                rows.update_export(replace(export, claim=claim, version=export.version + 1))
        return self._begun(name)

    def plan(self, before: Export, draft: Draft, bad: Iterable[BadRecord] = ()) -> Plan:
        """Step 4. Fix range, rendering and name of the next object, if nothing changed since `before`.

        ``bad`` is what is kept of its bad records: no more than the quarantine takes.
        """
        kept = list(bad)  # read before anybody has to wait for the transaction
        whole = sum(len(record.body) == record.length for record in kept)
        with self.writing(before.name) as rows:
            export, lane = self._unchanged(rows, before, draft.lane)
            plan = Plan(
                id=self._new_id(),
                export=export.name,
                lane=draft.lane,
                sequence=export.sequence + 1,
                range=draft.range,
                rendering=draft.rendering,
                final=draft.final,
                name=draft.name,
                stamp=draft.stamp,
                content=draft.content,
                created_at=self._clock(),
                bad_not_whole=draft.content.bad - whole,
                repeats=repeats(export, lane, draft.range),
            )
            rows.insert_plan(plan)
            rows.insert_bad_records(plan.id, kept)
            if lane.kind is not LaneKind.REPLAY:
                window = draft.range.window
                rows.update_lane(replace(lane, open_end=window.end, open_seal=draft.range.seal))
            rows.update_export(
                replace(
                    export,
                    version=export.version + 1,
                    sequence=plan.sequence,
                    stamp=draft.stamp,
                    names_from=None,
                )
            )
            return plan

    def attempt(self, plan: Plan, content: Content, store: str) -> Attempt:
        """Step 5. Record a try before its first byte; only for an open plan of an export not stopped."""
        with self.writing(plan.export) as rows:
            self._still_open(rows, plan)
            export = self._export(rows, plan.export)
            if export.stopped:
                raise Stopped(export.stopped, hint=resume_hint(export.name))
            attempt = Attempt(self._new_id(), plan.id, store, self._clock(), content)
            rows.insert_attempt(attempt)
            return attempt

    def answer(
        self, plan: Plan, attempt: Attempt, outcome: Outcome, failure: Failure, retry_at: datetime
    ) -> None:
        """Step 6, when the attempt did not deliver: keep what is known of it, and when to try again."""
        with self.writing(plan.export) as rows:
            rows.update_attempt(replace(attempt, outcome=outcome, error=failure.message))
            export = self._export(rows, plan.export) if rows.still_open(plan) else None
            if export is not None and not export.stopped:
                rows.update_export(
                    replace(export, tries=export.tries + 1, blocked_until=retry_at, failure=failure)
                )

    def reach(
        self, plan: Plan, before: Key | None, key: Key, sent: int = 0, refused: Sequence[BadRecord] = ()
    ) -> None:
        """Step 6 of events, for each batch: all up to ``key`` are in, but for those that were refused.

        They go into the quarantine in the same transaction. Raises Conflict unless progress was at
        ``before``: of two processes that deliver the same plan, the second one ends there.
        """
        with self.writing(plan.export) as rows:
            stored, export = self._still_open(rows, plan), self._export(rows, plan.export)
            if export.stopped:
                raise Stopped(export.stopped, hint=resume_hint(export.name))
            events.reach(rows, stored, before, key, sent, refused)
            if export.tries:  # it gets on, so the next failure is the first in a row
                rows.update_export(replace(export, tries=0))

    def interrupted(self, plan: Plan, attempt: Attempt) -> None:
        """Step 6 of events, when the process has to end between two batches: nobody has to wait for that."""
        with self.writing(plan.export) as rows:
            rows.update_attempt(replace(attempt, outcome=Outcome.NOT_SENT, error="the run had to end"))

    def judge(self, plan: Plan, attempt: Attempt) -> bool:
        """Step 6, when the name was taken: True if the object is ours, else the export is stopped.

        Ours if another attempt at this plan and store may have landed; the attempts are read in the
        same transaction that marks the export.
        """
        with self.writing(plan.export) as rows:
            self._still_open(rows, plan)
            ours = any(
                other.id != attempt.id and other.store == attempt.store and other.outcome.may_have_landed
                for other in rows.attempts(plan.id)
            )
            rows.update_attempt(replace(attempt, outcome=Outcome.EXISTS))
            if not ours:
                alarm = foreign_alarm(attempt.store, plan.name)
                failure = Failure(alarm, resume_hint(plan.export), self._clock())
                export = self._export(rows, plan.export)
                rows.update_export(
                    replace(export, stopped=alarm, failure=failure, version=export.version + 1)
                )
            return ours

    def commit(self, plan: Plan, attempt: Attempt, outcome: Outcome) -> Plan:
        """Step 7. The one place where a delivery becomes progress.

        Raises Stopped when the alarm was raised meanwhile: then another process saw that the object
        which this one took for ours is foreign, and the watermark must not pass it.
        """
        with self.writing(plan.export) as rows:
            stored = self._still_open(rows, plan)
            rows.update_attempt(replace(attempt, outcome=outcome))
            export = self._export(rows, plan.export)
            if not export.stopped:
                return self._commit(rows, export, stored, attempt)
        raise Stopped(export.stopped, hint=resume_hint(export.name))

    def _commit(self, rows: ExportRows, export: Export, plan: Plan, attempt: Attempt) -> Plan:
        hashes: tuple[str, ...] = ()
        if plan.rendering.is_events:
            events.require_all(plan)
        elif not (hashes := landed_hashes(rows, plan, attempt)):
            # Since this attempt was judged, those that made the object ours were refused.
            raise Conflict(f"plan {plan.sequence} of export '{plan.export}' cannot have landed")
        done = replace(plan, state=PlanState.DELIVERED, delivered_at=self._clock(), hashes=hashes)
        note_delivered(rows, export, done)
        return done

    def advance(self, before: Export, lane_id: str, end: datetime, seal: Seal, filtered: int = 0) -> None:
        """Step 7 for a window with nothing (more) to deliver: progress without a name and an object."""
        with self.writing(before.name) as rows:
            export, lane = self._unchanged(rows, before, lane_id)
            rows.update_lane(closed(lane, end, seal))
            rows.update_export(moved_on(export, filtered))
            if lane.kind is LaneKind.LIVE:
                note_window(rows, SealedWindow(export.name, end, seal, self._clock(), filtered))

    def fail(self, name: str, message: str, hint: str) -> None:
        """Keep why an export did not get as far as an attempt, for `status`, unless an alarm stopped it."""
        with self.writing(name) as rows:
            export = rows.export(name)
            if export is not None and not export.stopped:
                rows.update_export(replace(export, failure=Failure(message, hint, self._clock())))

    # --- shared by the rules ---------------------------------------------------------------------

    def _begun(self, name: str) -> Standing:
        standing = self.standing(name)
        if standing is None:
            raise Conflict(f"export '{name}' was renamed in this moment")
        return standing

    def _export(self, rows: ExportRows, name: str) -> Export:
        export = rows.export(name)
        if export is None:
            raise Conflict(f"export '{name}' is no longer in the ledger")
        return export

    def _unchanged(self, rows: ExportRows, before: Export, lane_id: str) -> tuple[Export, Lane]:
        export = unmoved(rows, before)
        lane = rows.lane(before.name, lane_id)
        if lane is None or rows.open_plans(before.name):
            raise Conflict(f"another process moved export '{before.name}' first")
        if export.stopped:
            raise Stopped(export.stopped, hint=resume_hint(export.name))
        if export.paused:
            raise Conflict(f"export '{before.name}' was paused")
        return export, lane

    def _still_open(self, rows: ExportRows, plan: Plan) -> Plan:
        if (stored := rows.still_open(plan)) is None:
            raise Conflict(f"plan {plan.sequence} of export '{plan.export}' is no longer open")
        return stored
