"""A ledger's rows in memory: for simulations, dry runs, and nothing that has to outlive the process."""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, TypeVar
from uuid import uuid4

from exporter.ledger.storage import Kept
from exporter.model import QUARANTINE_BYTES, QUARANTINE_RECORDS, BadKind, PlanState

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from exporter.ledger.storage import RunRecord, Storage
    from exporter.model import Attempt, BadRecord, Export, Lane, Plan, SealedWindow

K = TypeVar("K")
V = TypeVar("V")


class MemoryRows:
    """All rows, in dictionaries of frozen values; every change notes how to undo it.

    ``earlier`` is the storage that these rows were copied from, for what was not copied.
    """

    def __init__(self) -> None:
        self.earlier: Storage | None = None
        self._undo: list[Callable[[], object]] = []
        self._meta = {"ledger_id": uuid4().hex}
        self._exports: dict[str, Export] = {}
        self._lanes: dict[tuple[str, str], Lane] = {}
        self._plans: dict[str, Plan] = {}
        self._open: dict[str, Plan] = {}
        self._attempts: dict[str, tuple[Attempt, ...]] = {}
        self._windows: dict[str, tuple[SealedWindow, ...]] = {}
        self._bad: dict[int, tuple[str, BadRecord]] = {}
        self._runs: dict[str, RunRecord] = {}

    def _set(self, rows: dict[K, V], key: K, value: V | None) -> None:
        before = rows.get(key)
        if value is None:
            rows.pop(key, None)
        else:
            rows[key] = value
        if before is None:
            self._undo.append(lambda: rows.pop(key, None))
        else:
            self._undo.append(lambda: rows.__setitem__(key, before))

    def commit(self) -> None:
        """Forget how to undo."""
        self._undo.clear()

    def roll_back(self, changes: int = 0) -> None:
        """Undo the changes since the last commit, newest first, but for the first so many."""
        while len(self._undo) > changes:
            self._undo.pop()()

    def expect(self, claims: Collection[str]) -> None:
        """All rows are at hand."""

    @contextmanager
    def whole(self, *, claims: bool = False) -> Iterator[None]:
        """A part of the transaction; nobody else has another one anyway."""
        del claims
        changes = len(self._undo)
        try:
            yield
        except BaseException:
            self.roll_back(changes)
            raise

    def ledger_id(self) -> str:  # noqa: D102 - promises are in Rows
        return self._meta["ledger_id"]

    def set_ledger_id(self, value: str) -> None:  # noqa: D102
        self._set(self._meta, "ledger_id", value)

    def names_from(self) -> datetime | None:  # noqa: D102
        moment = self._meta.get("names_from")
        return None if moment is None else datetime.fromisoformat(moment)

    def set_names_from(self, moment: datetime) -> None:  # noqa: D102
        self._set(self._meta, "names_from", moment.isoformat())

    def export(self, name: str) -> Export | None:  # noqa: D102
        return self._exports.get(name)

    def export_by_claim(self, claim: str) -> Export | None:  # noqa: D102
        return next((row for row in self._exports.values() if row.claim == claim), None)

    def exports(self) -> list[Export]:  # noqa: D102
        return sorted(self._exports.values(), key=lambda row: row.name)

    def insert_export(self, export: Export) -> None:  # noqa: D102
        self._set(self._exports, export.name, export)

    def update_export(self, export: Export) -> None:  # noqa: D102
        self._set(self._exports, export.name, export)

    def rename_export(self, name: str, new_name: str) -> None:  # noqa: D102
        self._set(self._exports, new_name, replace(self._exports[name], name=new_name))
        self._set(self._exports, name, None)
        for lane in self.lanes(name):
            self._set(self._lanes, (name, lane.id), None)
            self.insert_lane(replace(lane, export=new_name))
        for plan in [plan for plan in self._plans.values() if plan.export == name]:
            self.update_plan(replace(plan, export=new_name))
        self._set(self._open, name, None)
        windows = tuple(replace(row, export=new_name) for row in self._windows.get(name, ()))
        self._set(self._windows, new_name, windows)
        self._set(self._windows, name, None)

    def lane(self, export: str, lane: str) -> Lane | None:  # noqa: D102
        return self._lanes.get((export, lane))

    def lanes(self, export: str | None = None) -> list[Lane]:  # noqa: D102
        found = [row for row in self._lanes.values() if export in (None, row.export)]
        return sorted(found, key=lambda row: (row.export, row.id))

    def insert_lane(self, lane: Lane) -> None:  # noqa: D102
        self._set(self._lanes, (lane.export, lane.id), lane)

    def update_lane(self, lane: Lane) -> None:  # noqa: D102
        self._set(self._lanes, (lane.export, lane.id), lane)

    def plan(self, plan_id: str) -> Plan | None:  # noqa: D102
        return self._plans.get(plan_id)

    def still_open(self, plan: Plan) -> Plan | None:  # noqa: D102
        stored = self.plan(plan.id)
        is_open = stored and stored.state is PlanState.OPEN and stored.export == plan.export
        return stored if is_open else None

    def open_plans(self, export: str | None = None) -> list[Plan]:  # noqa: D102
        if export is None:
            return list(self._open.values())
        plan = self._open.get(export)
        return [] if plan is None else [plan]

    def plan_by_sequence(self, export: str, sequence: int) -> Plan | None:  # noqa: D102
        found = (
            row
            for row in self._plans.values()
            if (row.export, row.sequence) == (export, sequence) and row.state is not PlanState.ABANDONED
        )
        plan = next(found, None)
        if plan is None and self.earlier is not None:
            with self.earlier.reading() as known:
                return known.plan_by_sequence(export, sequence)
        return plan

    def insert_plan(self, plan: Plan) -> None:  # noqa: D102
        self.update_plan(plan)

    def update_plan(self, plan: Plan) -> None:  # noqa: D102
        self._set(self._plans, plan.id, plan)
        if plan.state is PlanState.OPEN:
            self._set(self._open, plan.export, plan)
        elif plan.export in self._open:
            self._set(self._open, plan.export, None)

    def attempts(self, plan_id: str) -> list[Attempt]:  # noqa: D102
        return list(self._attempts.get(plan_id, ()))

    def insert_attempt(self, attempt: Attempt) -> None:  # noqa: D102
        self._set(self._attempts, attempt.plan, (*self._attempts.get(attempt.plan, ()), attempt))

    def update_attempt(self, attempt: Attempt) -> None:  # noqa: D102
        rows = self._attempts[attempt.plan]
        self._set(
            self._attempts, attempt.plan, tuple(attempt if row.id == attempt.id else row for row in rows)
        )

    def insert_window(self, window: SealedWindow) -> None:  # noqa: D102
        self._set(self._windows, window.export, (*self._windows.get(window.export, ()), window))

    def last_window_before(self, export: str, moment: datetime) -> SealedWindow | None:  # noqa: D102
        rows = self._windows.get(export, ())
        return next((row for row in reversed(rows) if row.committed_at < moment), None)

    def delete_windows(self, export: str, before: datetime) -> None:  # noqa: D102
        rows = tuple(row for row in self._windows.get(export, ()) if row.committed_at >= before)
        self._set(self._windows, export, rows)

    def insert_bad_records(self, plan_id: str, records: Sequence[BadRecord]) -> None:
        """Of those not rendered as many of all plans together as a ledger keeps of one: nobody sees them."""
        held = [record for _, record in self._bad.values() if record.kind is BadKind.UNRENDERED]
        new = [record for record in records if record.kind is BadKind.UNRENDERED]
        room = QUARANTINE_RECORDS - len(held)
        room_bytes = QUARANTINE_BYTES - sum(len(record.body) for record in held)
        fits = len(new) <= room and sum(len(record.body) for record in new) <= room_bytes
        for record in records:
            if fits or record.kind is BadKind.REFUSED:
                self._set(self._bad, len(self._bad) + 1, (plan_id, record))

    def bad_records(self, plan_id: str) -> list[BadRecord]:  # noqa: D102
        return [record for plan, record in self._bad.values() if plan == plan_id]

    def waiting(self, export: str | None = None) -> dict[str, int]:  # noqa: D102
        plans = [plan.export for plan, _ in self._waiting()]
        return dict(Counter(name for name in plans if export in (None, name)))

    def waiting_records(  # noqa: D102
        self, export: str, sequence: int | None, after: int, most: int
    ) -> list[Kept]:
        found = (
            kept
            for plan, kept in self._waiting()
            if plan.export == export and sequence in (None, plan.sequence) and kept.number > after
        )
        return list(islice(found, most))

    def _waiting(self) -> Iterator[tuple[Plan, Kept]]:
        for number, (plan_id, record) in sorted(self._bad.items(), key=lambda row: row[0]):
            plan = self._plans[plan_id]
            is_waiting = record.kind is BadKind.REFUSED and record.resent_at is None
            if is_waiting and plan.state is not PlanState.ABANDONED:
                yield plan, Kept(number, plan.sequence, record)

    def update_bad_record(self, kept: Kept) -> None:  # noqa: D102
        plan_id, stored = self._bad[kept.number]
        if stored.resent_at is None:
            self._set(self._bad, kept.number, (plan_id, kept.record))

    def insert_run(self, run: RunRecord) -> None:  # noqa: D102
        self._set(self._runs, run.id, run)

    def update_run(self, run: RunRecord) -> None:  # noqa: D102
        self._set(self._runs, run.id, run)

    def last_run(self) -> RunRecord | None:  # noqa: D102
        return max(self._runs.values(), key=lambda row: row.started_at, default=None)

    def delete_runs(self, before: datetime) -> None:  # noqa: D102
        for run in [run for run in self._runs.values() if run.started_at < before]:
            self._set(self._runs, run.id, None)


class MemoryStorage:
    """Rows in memory with real transactions: one at a time, all or nothing."""

    def __init__(self) -> None:
        self._rows = MemoryRows()
        self._lock = threading.RLock()

    @classmethod
    def copy_of(cls, storage: Storage) -> MemoryStorage:
        """What another ledger knows, free to be changed without a trace.

        What is delivered already stays where it is and is looked up there: it may be years.
        """
        copy = cls()
        rows = copy._rows
        rows.earlier = storage
        with storage.reading() as known:
            for export in known.exports():
                rows.insert_export(export)
            for lane in known.lanes():
                rows.insert_lane(lane)
            for plan in known.open_plans():
                rows.insert_plan(plan)
                for attempt in known.attempts(plan.id):
                    rows.insert_attempt(attempt)
        rows.commit()
        return copy

    @contextmanager
    def writing(self, export: str | None = None) -> Iterator[MemoryRows]:
        """A transaction; one at a time, of whatever export."""
        del export
        with self._lock:
            try:
                yield self._rows
            except BaseException:
                self._rows.roll_back()
                raise
            self._rows.commit()

    @contextmanager
    def together(self, exports: Collection[str]) -> Iterator[MemoryRows]:
        """The same: it is one transaction however many exports there are."""
        del exports
        with self.writing() as rows:
            yield rows

    @contextmanager
    def reading(self) -> Iterator[MemoryRows]:
        """One consistent view."""
        with self._lock:
            yield self._rows

    def close(self) -> None:
        """Nothing to let go of."""
