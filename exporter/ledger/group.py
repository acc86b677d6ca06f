"""The rows of several exports in one SQL transaction: read at once, changed in memory, written at the end.

Each table is read when the first of its rows is asked for, for all exports of the transaction. A change is
noted with how to undo it, and goes to the database together with all others of its kind. It must not know
a rule of the protocol: rules cannot tell these rows from those of a transaction of their own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

from exporter.ledger import encoding
from exporter.ledger.bulk import Bulk
from exporter.ledger.sql import SqlRows
from exporter.model import BadKind, PlanState

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import datetime

    from exporter.ledger.connection import Connection
    from exporter.ledger.kinds import Row
    from exporter.model import Attempt, BadRecord, Export, Lane, Plan, SealedWindow

K = TypeVar("K")
V = TypeVar("V")

_NOTHING: Final = object()


@dataclass(slots=True)
class _Known:
    """The rows that were read so far, as they are by now, but for attempts; None: not read yet."""

    exports: dict[str, Export] | None = None
    lanes: dict[str, dict[str, Lane]] | None = None
    plans: dict[str, Plan] = field(default_factory=dict)
    has_open_plans: bool = False  # all of them, and those in `plans` are not just some
    progress: dict[str, Row] | None = None  # of open plans, as read
    open: dict[str, str | None] = field(default_factory=dict)
    attempts: dict[str, list[Attempt]] = field(default_factory=dict)
    names_from: list[datetime | None] = field(default_factory=list)
    earliest: dict[str, datetime] | None = None
    holders: dict[str, str] | None = None
    waiting: Mapping[str, int] | None = None


@dataclass(slots=True)
class _Changes:
    """What the database has still to be told, in the order in which it came about."""

    new_exports: dict[str, Export] = field(default_factory=dict)
    exports: dict[str, tuple[Export, Export]] = field(default_factory=dict)  # as read, and as it is now
    claims: dict[str, str] = field(default_factory=dict)
    new_lanes: dict[tuple[str, str], Lane] = field(default_factory=dict)
    lanes: dict[tuple[str, str], tuple[Lane, Lane]] = field(default_factory=dict)
    new_plans: dict[str, Plan] = field(default_factory=dict)
    plans: dict[str, Plan] = field(default_factory=dict)
    plans_before: dict[str, Plan] = field(default_factory=dict)
    new_attempts: dict[str, dict[str, Attempt]] = field(default_factory=dict)  # by plan
    attempts: dict[str, Attempt] = field(default_factory=dict)
    windows: dict[str, tuple[SealedWindow, ...]] = field(default_factory=dict)
    forgotten: dict[str, datetime] = field(default_factory=dict)
    bad_records: dict[int, tuple[str, Sequence[BadRecord]]] = field(default_factory=dict)
    waiting: dict[str, int] = field(default_factory=dict)


class _Whole:
    """What is done within it is done whole. A class: generators take as long as all the rest of a rule."""

    __slots__ = ("_claims", "_group")

    def __init__(self, group: SqlGroup, *, claims: bool) -> None:
        self._group, self._claims = group, claims

    def __enter__(self) -> None:
        self._group.enter(claims=self._claims)

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self._group.leave(error)


class SqlGroup:
    """The rows of some exports; `flush` them before the end of the transaction.

    ``lock_claims`` is the statement that keeps others from giving out claims, if one is needed for that.
    """

    def __init__(self, connection: Connection, exports: Collection[str], lock_claims: str = "") -> None:
        self._connection = connection
        self._rows = SqlRows(connection)
        self._bulk = Bulk(connection)
        self._names = frozenset(exports)
        self._claims: frozenset[str] = frozenset()
        self._lock_claims = lock_claims
        self._known = _Known()
        self._changes = _Changes()
        self._undo: list[tuple[dict[Any, Any], Any, object]] = []
        self._must_flush = False
        self._error: Exception | None = None

    def expect(self, claims: Collection[str]) -> None:
        """Read whose these claims are all at once, as soon as one is asked for."""
        self._claims = frozenset(claims)

    def whole(self, *, claims: bool = False) -> _Whole:
        """An error undoes what was changed within, of which the database knows nothing yet."""
        return _Whole(self, claims=claims)

    def enter(self, *, claims: bool) -> None:
        """The beginning of what is whole."""
        try:
            if self._must_flush:
                self.flush()
            if claims and self._lock_claims:
                self._connection.execute(self._lock_claims)
                self._lock_claims = ""
        except self._connection.dialect.error as error:
            self._error = error
            raise

    def leave(self, error: BaseException | None) -> None:
        """Its end; after an error of its own a database may take each write for itself."""
        if error is not None:
            for rows, key, before in reversed(self._undo):
                if before is _NOTHING:
                    del rows[key]
                else:
                    rows[key] = before
        self._undo.clear()
        if isinstance(error, self._connection.dialect.error):
            self._error = error

    def flush(self) -> None:
        """Tell the database; raises again what it once failed with, as nothing must be written after that."""
        if self._error is not None:
            raise self._error
        changes, bulk = self._changes, self._bulk
        bulk.update_exports(changes.exports.values())
        bulk.insert_exports(changes.new_exports.values())
        bulk.update_lanes(changes.lanes.values())
        bulk.insert_lanes(changes.new_lanes.values())
        # Closed ones first: an export has one open plan at most.
        bulk.update_plans([(changes.plans_before[key], plan) for key, plan in changes.plans.items()])
        bulk.insert_plans(changes.new_plans.values())
        read = {one.id: one for some in self._known.attempts.values() for one in some}
        bulk.update_attempts([(read.get(key), one) for key, one in changes.attempts.items()])
        bulk.insert_attempts([one for some in changes.new_attempts.values() for one in some.values()])
        bulk.insert_windows([one for some in changes.windows.values() for one in some])
        for export, before in changes.forgotten.items():
            self._rows.delete_windows(export, before)
        bulk.insert_bad_records(changes.bad_records.values())
        self._changes, self._must_flush = _Changes(), False
        self._known.earliest = self._known.waiting = self._known.holders = None
        self._known.attempts.clear()

    def _put(self, rows: dict[K, V], key: K, value: V) -> None:
        self._undo.append((rows, key, rows.get(key, _NOTHING)))
        rows[key] = value

    # --- the ledger's own ------------------------------------------------------------------------

    def ledger_id(self) -> str:  # noqa: D102 - promises are in ExportRows
        return self._rows.ledger_id()

    def names_from(self) -> datetime | None:  # noqa: D102
        if not self._known.names_from:
            self._known.names_from = [self._rows.names_from()]
        return self._known.names_from[0]

    # --- exports ---------------------------------------------------------------------------------

    @property
    def _exports(self) -> dict[str, Export]:
        if self._known.exports is None:
            self._known.exports = {one.name: one for one in self._bulk.exports(self._names)}
        return self._known.exports

    def export(self, name: str) -> Export | None:  # noqa: D102
        return self._exports.get(name) if name in self._names else self._rows.export(name)

    def export_by_claim(self, claim: str) -> Export | None:  # noqa: D102
        name = self._changes.claims.get(claim) or self._holder_of(claim)
        return None if name is None else self.export(name)

    def _holder_of(self, claim: str) -> str | None:
        if claim not in self._claims:
            return self._bulk.holders([claim]).get(claim)
        if self._known.holders is None:
            self._known.holders = self._bulk.holders(self._claims)
        return self._known.holders.get(claim)

    def insert_export(self, export: Export) -> None:  # noqa: D102
        self._put(self._exports, export.name, export)
        self._put(self._changes.new_exports, export.name, export)
        self._put(self._changes.claims, export.claim, export.name)

    def update_export(self, export: Export) -> None:  # noqa: D102
        name, changes, known = export.name, self._changes, self._exports[export.name]
        # Whose a claim is, is asked of the database: it has to know before the next rule.
        self._must_flush |= export.claim != known.claim
        self._put(self._exports, name, export)
        if name in changes.new_exports:
            self._put(changes.new_exports, name, export)
        else:
            before, _ = changes.exports.get(name, (known, known))
            self._put(changes.exports, name, (before, export))

    # --- lanes -----------------------------------------------------------------------------------

    @property
    def _lanes(self) -> dict[str, dict[str, Lane]]:
        if self._known.lanes is None:
            lanes: dict[str, dict[str, Lane]] = {name: {} for name in self._names}
            for lane in self._bulk.lanes(self._names):
                lanes[lane.export][lane.id] = lane
            self._known.lanes = lanes
        return self._known.lanes

    def lane(self, export: str, lane: str) -> Lane | None:  # noqa: D102
        return self._lanes[export].get(lane) if export in self._names else self._rows.lane(export, lane)

    def lanes(self, export: str) -> list[Lane]:  # noqa: D102
        if export not in self._names:
            return self._rows.lanes(export)
        return [lane for _, lane in sorted(self._lanes[export].items())]

    def insert_lane(self, lane: Lane) -> None:  # noqa: D102
        self._keep_lane(lane)
        self._put(self._changes.new_lanes, (lane.export, lane.id), lane)

    def update_lane(self, lane: Lane) -> None:  # noqa: D102
        key, changes, known = (lane.export, lane.id), self._changes, self._lanes[lane.export][lane.id]
        self._keep_lane(lane)
        if key in changes.new_lanes:
            self._put(changes.new_lanes, key, lane)
        else:
            before, _ = changes.lanes.get(key, (known, known))
            self._put(changes.lanes, key, (before, lane))

    def _keep_lane(self, lane: Lane) -> None:
        self._put(self._lanes, lane.export, {**self._lanes[lane.export], lane.id: lane})

    # --- plans -----------------------------------------------------------------------------------

    @property
    def _plans(self) -> dict[str, Plan]:
        known = self._known
        if not known.has_open_plans:
            for plan in self._bulk.open_plans(self._names):
                # What is known of one by now is newer than what the database has been told.
                known.plans.setdefault(plan.id, plan)
                known.open.setdefault(plan.export, plan.id)
            known.has_open_plans = True
        return known.plans

    def plan(self, plan_id: str) -> Plan | None:  # noqa: D102
        return self._plans.get(plan_id) or self._rows.plan(plan_id)

    def still_open(self, plan: Plan) -> Plan | None:  # noqa: D102
        if plan.export not in self._names:
            return self._rows.still_open(plan)
        if (stored := self._known.plans.get(plan.id)) is None and not self._known.has_open_plans:
            stored = self._at_present(plan)
        is_open = stored and stored.state is PlanState.OPEN and stored.export == plan.export
        return stored if is_open else None

    def _at_present(self, plan: Plan) -> Plan | None:
        """A plan that is open in the database: to read little of it is enough, as the rest never changes."""
        if self._known.progress is None:
            self._known.progress = self._bulk.progress(self._names)
        row = self._known.progress.get(plan.id)
        if row is None or row["export"] != plan.export:
            return None
        self._known.open[plan.export] = plan.id
        stored = self._known.plans[plan.id] = encoding.plan_at(plan, row)
        return stored

    def open_plans(self, export: str) -> list[Plan]:  # noqa: D102
        if export not in self._names:
            return self._rows.open_plans(export)
        plans, plan_id = self._plans, self._known.open.get(export)
        return [] if plan_id is None else [plans[plan_id]]

    def plan_by_sequence(self, export: str, sequence: int) -> Plan | None:  # noqa: D102
        mine = (plan for plan in self._plans.values() if plan.state is not PlanState.ABANDONED)
        found = next((plan for plan in mine if (plan.export, plan.sequence) == (export, sequence)), None)
        return found or self._rows.plan_by_sequence(export, sequence)

    def insert_plan(self, plan: Plan) -> None:  # noqa: D102
        self._put(self._plans, plan.id, plan)
        self._put(self._known.open, plan.export, plan.id)
        self._put(self._known.attempts, plan.id, [])
        self._put(self._changes.new_plans, plan.id, plan)

    def update_plan(self, plan: Plan) -> None:  # noqa: D102
        before = self._known.plans.get(plan.id) or self._plans[plan.id]
        is_new = plan.id in self._changes.new_plans
        if not is_new and plan.id not in self._changes.plans:
            self._put(self._changes.plans_before, plan.id, before)
        self._put(self._changes.new_plans if is_new else self._changes.plans, plan.id, plan)
        self._put(self._known.plans, plan.id, plan)
        if plan.state is not PlanState.OPEN:
            self._put(self._known.open, plan.export, None)

    # --- attempts --------------------------------------------------------------------------------

    def attempts(self, plan_id: str) -> list[Attempt]:  # noqa: D102
        known, changed = self._known.attempts, self._changes.attempts
        if plan_id not in known:
            missing = {plan_id, *(self._known.progress or self._plans)} - known.keys()
            known.update({one: [] for one in missing})
            for attempt in self._bulk.attempts(missing):
                known[attempt.plan].append(attempt)
        new = self._changes.new_attempts.get(plan_id, {})
        return [*(changed.get(one.id, one) for one in known[plan_id]), *new.values()]

    def insert_attempt(self, attempt: Attempt) -> None:  # noqa: D102
        new = self._changes.new_attempts
        self._put(new, attempt.plan, {**new.get(attempt.plan, {}), attempt.id: attempt})

    def update_attempt(self, attempt: Attempt) -> None:  # noqa: D102
        if attempt.id in self._changes.new_attempts.get(attempt.plan, {}):
            self.insert_attempt(attempt)
        else:
            self._put(self._changes.attempts, attempt.id, attempt)

    # --- history ---------------------------------------------------------------------------------

    def insert_window(self, window: SealedWindow) -> None:  # noqa: D102
        earlier = self._changes.windows.get(window.export, ())
        self._put(self._changes.windows, window.export, (*earlier, window))

    def last_window_before(self, export: str, moment: datetime) -> SealedWindow | None:  # noqa: D102
        for window in reversed(self._changes.windows.get(export, ())):
            if window.committed_at < moment:
                return window
        if self._known.earliest is None:
            self._known.earliest = self._bulk.earliest_windows(self._names)
        earliest = self._known.earliest.get(export)
        is_there = export not in self._names or (earliest is not None and earliest < moment)
        return self._rows.last_window_before(export, moment) if is_there else None

    def delete_windows(self, export: str, before: datetime) -> None:  # noqa: D102
        self._put(self._changes.forgotten, export, before)
        self._must_flush = True  # the next one that looks for windows asks the database

    # --- bad records -----------------------------------------------------------------------------

    def insert_bad_records(self, plan_id: str, records: Sequence[BadRecord]) -> None:  # noqa: D102
        if not records:
            return
        self._put(self._changes.bad_records, len(self._changes.bad_records), (plan_id, records))
        refused = sum(one.kind is BadKind.REFUSED and one.resent_at is None for one in records)
        plan = self._known.plans.get(plan_id) or self._plans[plan_id]
        export, waiting = plan.export, self._changes.waiting
        self._put(waiting, export, waiting.get(export, 0) + refused)

    def waiting(self, export: str) -> Mapping[str, int]:  # noqa: D102
        if export not in self._names:
            return self._rows.waiting(export)
        if self._known.waiting is None:
            self._known.waiting = self._bulk.waiting(self._names)
        return {export: self._known.waiting.get(export, 0) + self._changes.waiting.get(export, 0)}
