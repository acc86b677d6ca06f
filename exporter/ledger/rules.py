"""The ledger's rules: begin, plan, attempt, judge, commit. Each is one transaction.

This is what makes delivery exactly-once; storage only keeps the rows. A rule never talks to a source
or a store.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from uuid import uuid4

from exporter.errors import Conflict, ExportError, LedgerError, NameTaken, Stopped
from exporter.ledger.history import delivered, note_run, note_window
from exporter.ledger.lanes import added, alarm_after, closed, lane_after, repeats
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
    from collections.abc import Callable, Iterable, Iterator
    from datetime import datetime

    from exporter.interfaces import Clock
    from exporter.ledger.storage import Rows, RunRecord, Storage
    from exporter.model import BadRecord, Content, Range, Rendering, Seal, Stamp


@dataclass(frozen=True, slots=True)
class Draft:
    """A plan as its maker proposes it; the ledger gives it an id and a sequence number."""

    lane: str
    range: Range
    rendering: Rendering
    final: bool
    name: str
    stamp: Stamp
    content: Content


@dataclass(frozen=True, slots=True)
class Standing:
    """One export with everything that is in progress: what deciding and `status` need."""

    export: Export
    lanes: tuple[Lane, ...]
    open_plan: Plan | None

    @property
    def live(self) -> Lane:
        """The live lane; every export has one."""
        return next(lane for lane in self.lanes if lane.id == LIVE_LANE)

    def lane(self, lane_id: str) -> Lane:
        """One lane; raises Conflict if it has gone."""
        for lane in self.lanes:
            if lane.id == lane_id:
                return lane
        raise Conflict(f"export '{self.export.name}' has no lane '{lane_id}'")


def _new_id() -> str:
    return uuid4().hex


class Ledger:
    """What every process that delivers agrees on.

    Raises Conflict when somebody else acted first: read the standing again and go on from there. The
    ledger's id is part of every comparison, so a process that outlives a restore can change nothing.
    """

    def __init__(self, storage: Storage, clock: Clock, new_id: Callable[[], str] = _new_id) -> None:
        self._storage = storage
        self._clock = clock
        self._new_id = new_id
        with storage.reading() as rows:
            self._id = rows.ledger_id()

    @property
    def storage(self) -> Storage:
        """Where the rows live."""
        return self._storage

    @contextmanager
    def writing(self, export: str | None = None) -> Iterator[Rows]:
        """A transaction on the ledger that this process opened, and on no other; see `Storage.writing`."""
        with self._storage.writing(export) as rows:
            if rows.ledger_id() != self._id:
                raise LedgerError(
                    "the ledger was restored from a backup while this process was running",
                    hint="start the command again",
                )
            yield rows

    # --- reading ---------------------------------------------------------------------------------

    def standing(self, name: str) -> Standing | None:
        """One export, or None if it never began."""
        with self._storage.reading() as rows:
            return standing_of(rows, name)

    def standings(self) -> dict[str, Standing]:
        """Every export by name, as of one moment."""
        with self._storage.reading() as rows:
            plans = {plan.export: plan for plan in rows.open_plans()}
            lanes: dict[str, list[Lane]] = {}
            for lane in rows.lanes():
                lanes.setdefault(lane.export, []).append(lane)
            return {
                row.name: Standing(row, tuple(lanes.get(row.name, ())), plans.get(row.name))
                for row in rows.exports()
            }

    def delivered(self, name: str, sequence: int) -> Plan:
        """The delivered plan with this sequence number; raises ConfigError if there is none."""
        with self._storage.reading() as rows:
            return delivered(rows, name, sequence)

    def attempts(self, plan_id: str) -> list[Attempt]:
        """Every recorded try at a plan, oldest first."""
        with self._storage.reading() as rows:
            return rows.attempts(plan_id)

    # --- the protocol ----------------------------------------------------------------------------

    def begin(self, name: str, account: str, claim: str, begin: datetime, seal: Seal) -> Standing:
        """Step 0. Store for good where this export's deliveries begin; a second call changes nothing."""
        with self.writing() as rows:
            if rows.export(name) is None:
                self._refuse_taken(rows, name, claim)
                names_from = rows.names_from()
                rows.insert_export(Export(name, account, claim, begin, seal, names_from=names_from))
                rows.insert_lane(Lane(name, LIVE_LANE, LaneKind.LIVE, begin, seal))
        return self._begun(name)

    def relocate(self, name: str, account: str, claim: str) -> Standing:
        """Move an export's names elsewhere, as the configuration says, if they meet nobody else's."""
        with self.writing() as rows:
            export = self._export(rows, name)
            if export.account != account:
                raise ExportError(
                    f"export '{name}' delivers account '{export.account}', "
                    f"but the configuration now gives it account '{account}'",
                    hint="an export's account never changes: give the new account an export name of its own",
                )
            if export.claim != claim:
                self._refuse_taken(rows, name, claim)
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
            export = self._export(rows, plan.export) if self._is_open(rows, plan) else None
            if export is not None and not export.stopped:
                rows.update_export(
                    replace(export, tries=export.tries + 1, blocked_until=retry_at, failure=failure)
                )

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
            self._still_open(rows, plan)
            rows.update_attempt(replace(attempt, outcome=outcome))
            export = self._export(rows, plan.export)
            if not export.stopped:
                return self._commit(rows, export, plan, attempt)
        raise Stopped(export.stopped, hint=resume_hint(export.name))

    def _commit(self, rows: Rows, export: Export, plan: Plan, attempt: Attempt) -> Plan:
        landed = {
            row.content.content_sha256
            for row in rows.attempts(plan.id)
            if row.store == attempt.store and row.outcome.may_have_landed
        }
        if not landed:  # since this attempt was judged, those that made the object ours were refused
            raise Conflict(f"plan {plan.sequence} of export '{plan.export}' cannot have landed")
        now = self._clock()
        done = replace(plan, state=PlanState.DELIVERED, delivered_at=now, hashes=tuple(sorted(landed)))
        rows.update_plan(done)
        lane = rows.lane(plan.export, plan.lane)
        if lane is None:
            raise Conflict(f"lane '{plan.lane}' of export '{plan.export}' has gone")
        rows.update_lane(lane_after(lane, plan))
        rows.update_export(
            replace(
                export,
                version=export.version + 1,
                tries=0,
                blocked_until=None,
                failure=None,
                alarm=alarm_after(export.alarm, done),
                delivered_at=now,
                object_name=plan.name,
                filtered=export.filtered + plan.content.filtered,
                protected=added(export.protected, plan.content.protected),
            )
        )
        if plan.final and lane.kind is LaneKind.LIVE:
            note_window(rows, SealedWindow(plan.export, plan.range.window.end, plan.range.seal, now))
        return done

    def advance(self, before: Export, lane_id: str, end: datetime, seal: Seal, filtered: int = 0) -> None:
        """Step 7 for a window with nothing (more) to deliver: progress without a name and an object."""
        with self.writing(before.name) as rows:
            export, lane = self._unchanged(rows, before, lane_id)
            rows.update_lane(closed(lane, end, seal))
            rows.update_export(
                replace(
                    export,
                    version=export.version + 1,
                    tries=0,
                    blocked_until=None,
                    failure=None,
                    filtered=export.filtered + filtered,
                )
            )
            if lane.kind is LaneKind.LIVE:
                note_window(rows, SealedWindow(export.name, end, seal, self._clock(), filtered))

    def fail(self, name: str, message: str, hint: str) -> None:
        """Keep why an export did not get as far as an attempt, for `status`, unless an alarm stopped it."""
        with self.writing(name) as rows:
            export = rows.export(name)
            if export is not None and not export.stopped:
                rows.update_export(replace(export, failure=Failure(message, hint, self._clock())))

    def record_run(self, run: RunRecord) -> None:
        """Keep that a run started or, the second time, how it ended."""
        with self.writing() as rows:
            note_run(rows, run)

    def last_run(self) -> RunRecord | None:
        """The newest run."""
        with self._storage.reading() as rows:
            return rows.last_run()

    # --- shared by the rules ---------------------------------------------------------------------

    def _begun(self, name: str) -> Standing:
        standing = self.standing(name)
        if standing is None:
            raise Conflict(f"export '{name}' was renamed in this moment")
        return standing

    def _export(self, rows: Rows, name: str) -> Export:
        export = rows.export(name)
        if export is None:
            raise Conflict(f"export '{name}' is no longer in the ledger")
        return export

    def _unchanged(self, rows: Rows, before: Export, lane_id: str) -> tuple[Export, Lane]:
        export = unmoved(rows, before)
        lane = rows.lane(before.name, lane_id)
        if lane is None or rows.open_plans(before.name):
            raise Conflict(f"another process moved export '{before.name}' first")
        if export.stopped:
            raise Stopped(export.stopped, hint=resume_hint(export.name))
        if export.paused:
            raise Conflict(f"export '{before.name}' was paused")
        return export, lane

    def _is_open(self, rows: Rows, plan: Plan) -> bool:
        stored = rows.plan(plan.id)
        return stored is not None and stored.state is PlanState.OPEN and stored.export == plan.export

    def _still_open(self, rows: Rows, plan: Plan) -> None:
        if not self._is_open(rows, plan):
            raise Conflict(f"plan {plan.sequence} of export '{plan.export}' is no longer open")

    def _refuse_taken(self, rows: Rows, name: str, claim: str) -> None:
        holder = rows.export_by_claim(claim)
        if holder is not None and holder.name != name:
            raise NameTaken(
                f"export '{name}' would write the same object names as export '{holder.name}': {claim}",
                hint="give one of them another prefix, or rename the old one: audit-exporter rename "
                f"{holder.name} {name}",
            )


def standing_of(rows: Rows, name: str) -> Standing | None:
    """One export, or None if it never began."""
    export = rows.export(name)
    if export is None:
        return None
    return Standing(export, tuple(rows.lanes(name)), next(iter(rows.open_plans(name)), None))


def unmoved(rows: Rows, before: Export) -> Export:
    """The export's present row; raises Conflict if what comes next is no longer what it was."""
    export = rows.export(before.name)
    # The claim besides the version: a renamed export's name may be a new export's by now.
    if export is None or (export.version, export.claim) != (before.version, before.claim):
        raise Conflict(f"another process moved export '{before.name}' first")
    return export


def foreign_alarm(store: str, name: str) -> str:
    """What stops an export at a foreign object."""
    return f"a foreign object has the name of this export's next object: {store}/{name}"


def resume_hint(name: str) -> str:
    """What a person does about a foreign object."""
    return (
        "find out who else writes under this prefix, keep that object or move it away, then run: "
        f"audit-exporter resume {name}"
    )
