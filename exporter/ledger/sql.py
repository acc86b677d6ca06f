"""The ledger's rows in a SQL database, whichever it is, and the version they are at.

How a transaction begins and ends, and what an error means, is the storage's: ``sqlite``, ``postgres``.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles

from exporter.errors import LedgerError
from exporter.ledger import encoding, schema
from exporter.ledger.mappings import find, keep
from exporter.model import PlanState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exporter.ledger.storage import Kept, RunRecord
    from exporter.model import Attempt, BadRecord, Export, Lane, Plan, SealedWindow

MISSING_HINT: Final = (
    "an empty ledger in its place would skip or repeat history: restore it from a backup "
    "(then `audit-exporter ledger restored`); if there never was one, run: audit-exporter ledger create"
)


class SqlRows:
    """The rows that one transaction on one connection sees."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def _one(self, query: sa.Select[Any]) -> sa.Row[Any] | None:
        return self._connection.execute(query).one_or_none()

    def _all(self, query: sa.Select[Any]) -> list[sa.Row[Any]]:
        return list(self._connection.execute(query))

    def _insert(self, table: sa.Table, row: encoding.Row) -> None:
        self._connection.execute(sa.insert(table), row)

    def _update(self, table: sa.Table, row: encoding.Row, *keys: str) -> None:
        where = [table.c[key] == row[key] for key in keys]
        self._connection.execute(sa.update(table).where(*where).values(row))

    def ledger_id(self) -> str:  # noqa: D102 - promises are in Rows
        return str(meta(self._connection, "ledger_id"))

    def set_ledger_id(self, value: str) -> None:  # noqa: D102
        self._update(schema.meta, {"key": "ledger_id", "value": value}, "key")

    def names_from(self) -> datetime | None:  # noqa: D102
        moment = meta(self._connection, "names_from")
        return None if moment is None else datetime.fromisoformat(moment)

    def set_names_from(self, moment: datetime) -> None:  # noqa: D102
        self._connection.execute(sa.delete(schema.meta).where(schema.meta.c.key == "names_from"))
        self._insert(schema.meta, {"key": "names_from", "value": moment.isoformat()})

    def export(self, name: str) -> Export | None:  # noqa: D102
        row = self._one(sa.select(schema.exports).where(schema.exports.c.name == name))
        return None if row is None else encoding.export_of(row)

    def export_by_claim(self, claim: str) -> Export | None:  # noqa: D102
        row = self._one(sa.select(schema.exports).where(schema.exports.c.claim == claim))
        return None if row is None else encoding.export_of(row)

    def exports(self) -> list[Export]:  # noqa: D102
        query = sa.select(schema.exports).order_by(schema.exports.c.name)
        return [encoding.export_of(row) for row in self._all(query)]

    def insert_export(self, export: Export) -> None:  # noqa: D102
        self._insert(schema.exports, encoding.export_row(export))

    def update_export(self, export: Export) -> None:  # noqa: D102
        self._update(schema.exports, encoding.export_row(export), "name")

    def rename_export(self, name: str, new_name: str) -> None:  # noqa: D102
        column = schema.exports.c.name
        self._connection.execute(sa.update(schema.exports).where(column == name).values(name=new_name))
        for table in (schema.lanes, schema.plans, schema.windows):
            self._connection.execute(sa.update(table).where(table.c.export == name).values(export=new_name))

    def lane(self, export: str, lane: str) -> Lane | None:  # noqa: D102
        table = schema.lanes
        row = self._one(sa.select(table).where(table.c.export == export, table.c.id == lane))
        return None if row is None else encoding.lane_of(row)

    def lanes(self, export: str | None = None) -> list[Lane]:  # noqa: D102
        query = sa.select(schema.lanes).order_by(schema.lanes.c.export, schema.lanes.c.id)
        if export is not None:
            query = query.where(schema.lanes.c.export == export)
        return [encoding.lane_of(row) for row in self._all(query)]

    def insert_lane(self, lane: Lane) -> None:  # noqa: D102
        self._insert(schema.lanes, encoding.lane_row(lane))

    def update_lane(self, lane: Lane) -> None:  # noqa: D102
        self._update(schema.lanes, encoding.lane_row(lane), "export", "id")

    def plan(self, plan_id: str) -> Plan | None:  # noqa: D102
        return next(iter(self._plans(sa.select(schema.plans).where(schema.plans.c.id == plan_id))), None)

    def still_open(self, plan: Plan) -> Plan | None:  # noqa: D102
        stored = self.plan(plan.id)
        is_open = stored and stored.state is PlanState.OPEN and stored.export == plan.export
        return stored if is_open else None

    def open_plans(self, export: str | None = None) -> list[Plan]:  # noqa: D102
        # A literal, because a bound value would keep SQLite from using the partial index.
        query = sa.select(schema.plans).where(schema.plans.c.state == sa.literal_column("'open'"))
        if export is not None:
            query = query.where(schema.plans.c.export == export)
        return self._plans(query)

    def plan_by_sequence(self, export: str, sequence: int) -> Plan | None:  # noqa: D102
        table = schema.plans
        query = sa.select(table).where(
            table.c.export == export, table.c.sequence == sequence, table.c.state != "abandoned"
        )
        return next(iter(self._plans(query.order_by(table.c.created_at.desc()).limit(1))), None)

    def insert_plan(self, plan: Plan) -> None:  # noqa: D102
        self._insert(schema.plans, self._plan_row(plan))

    def update_plan(self, plan: Plan) -> None:  # noqa: D102
        self._update(schema.plans, self._plan_row(plan), "id")

    def _plan_row(self, plan: Plan) -> encoding.Row:
        mapping = plan.rendering.mapping
        return encoding.plan_row(plan, None if mapping is None else keep(self._connection, mapping))

    def _plans(self, query: sa.Select[Any]) -> list[Plan]:
        rows = self._all(query)
        mappings = find(self._connection, encoding.mapping_ids(rows))
        return [encoding.plan_of(row, mappings) for row in rows]

    def attempts(self, plan_id: str) -> list[Attempt]:  # noqa: D102
        table = schema.attempts
        query = sa.select(table).where(table.c.plan == plan_id).order_by(table.c.number)
        return [encoding.attempt_of(row) for row in self._all(query)]

    def insert_attempt(self, attempt: Attempt) -> None:  # noqa: D102
        self._insert(schema.attempts, encoding.attempt_row(attempt))

    def update_attempt(self, attempt: Attempt) -> None:  # noqa: D102
        self._update(schema.attempts, encoding.attempt_row(attempt), "id")

    def insert_window(self, window: SealedWindow) -> None:  # noqa: D102
        self._insert(schema.windows, encoding.window_row(window))

    def last_window_before(self, export: str, moment: datetime) -> SealedWindow | None:  # noqa: D102
        table = schema.windows
        query = (
            sa.select(table)
            .where(table.c.export == export, table.c.committed_at < moment)
            # Plus nothing, or PostgreSQL may walk the primary key through all exports' windows to find one.
            .order_by((table.c.number + 0).desc())
            .limit(1)
        )
        row = self._one(query)
        return None if row is None else encoding.window_of(row)

    def delete_windows(self, export: str, before: datetime) -> None:  # noqa: D102
        table = schema.windows
        self._connection.execute(
            sa.delete(table).where(table.c.export == export, table.c.committed_at < before)
        )

    def insert_bad_records(self, plan_id: str, records: Sequence[BadRecord]) -> None:  # noqa: D102
        if records:
            rows = [encoding.bad_record_row(plan_id, record) for record in records]
            self._connection.execute(sa.insert(schema.bad_records), rows)

    def bad_records(self, plan_id: str) -> list[BadRecord]:  # noqa: D102
        table = schema.bad_records
        query = sa.select(table).where(table.c.plan == plan_id).order_by(table.c.number)
        return [encoding.bad_record_of(row) for row in self._all(query)]

    def waiting(self, export: str | None = None) -> dict[str, int]:  # noqa: D102
        name = schema.plans.c.export
        query = waiting_of(sa.select(name, sa.func.count().label("waiting")), export).group_by(name)
        return {row.export: row.waiting for row in self._all(query)}

    def waiting_records(  # noqa: D102
        self, export: str, sequence: int | None, after: int, most: int
    ) -> list[Kept]:
        table, number = schema.bad_records, schema.plans.c.sequence
        # Plus nothing, or SQLite may walk the primary key through all bad records to find a few that wait.
        row = table.c.number + 0
        query = waiting_of(sa.select(table, number), export).where(row > after)
        if sequence is not None:
            query = query.where(number == sequence)
        return [encoding.kept_of(row) for row in self._all(query.order_by(row).limit(most))]

    def update_bad_record(self, kept: Kept) -> None:  # noqa: D102
        table, record = schema.bad_records, kept.record
        update = sa.update(table).where(table.c.number == kept.number, table.c.resent_at.is_(None))
        self._connection.execute(update.values(reason=record.reason, resent_at=record.resent_at))

    def insert_run(self, run: RunRecord) -> None:  # noqa: D102
        self._insert(schema.runs, encoding.run_row(run))

    def update_run(self, run: RunRecord) -> None:  # noqa: D102
        self._update(schema.runs, encoding.run_row(run), "id")

    def last_run(self) -> RunRecord | None:  # noqa: D102
        query = sa.select(schema.runs).order_by(schema.runs.c.started_at.desc()).limit(1)
        row = self._one(query)
        return None if row is None else encoding.run_of(row)

    def delete_runs(self, before: datetime) -> None:  # noqa: D102
        self._connection.execute(sa.delete(schema.runs).where(schema.runs.c.started_at < before))


class _InThisOrder(sa.Join):
    """A join that finds rows of the second table for those of the first, and never the other way round.

    SQLite would as soon look through all that an export ever delivered, for the few events that wait.
    """

    inherit_cache = True


@compiles(_InThisOrder, "sqlite")
def _cross_join(join: _InThisOrder, compiler: Any, **options: Any) -> str:  # noqa: ANN401 - SQLAlchemy's own
    text: str = compiler.visit_join(join, **options)
    return text.replace(" JOIN ", " CROSS JOIN ", 1)  # which its planner leaves in the order that it has


def waiting_of(query: sa.Select[Any], export: str | None = None) -> sa.Select[Any]:
    """Of refused events and their plans those that nobody has sent again."""
    bad, plans = schema.bad_records, schema.plans
    query = query.select_from(_InThisOrder(bad, plans, plans.c.id == bad.c.plan))
    query = query.where(*schema.is_waiting(bad), plans.c.state != "abandoned")
    return query if export is None else query.where(plans.c.export == export)


_META: Final = sa.select(schema.meta.c.value).where(schema.meta.c.key == sa.bindparam("sought"))


def meta(connection: sa.Connection, key: str) -> str | None:
    """One of the ledger's own values."""
    return connection.execute(_META, {"sought": key}).scalar_one_or_none()


def fill(connection: sa.Connection) -> None:
    """Make the tables, and give the ledger the id that no other one has."""
    _take_steps(connection, 0)
    connection.execute(sa.insert(schema.meta), {"key": "ledger_id", "value": uuid4().hex})


def bring_up_to_date(connection: sa.Connection, place: object) -> int:
    """Take the steps that this ledger has not had; answers the version that it was at."""
    version = int(meta(connection, "version") or 0)
    if version > schema.VERSION:
        raise _other_version(place, version)
    _take_steps(connection, version)
    return version


def require_version(connection: sa.Connection, place: object) -> None:
    """Raise LedgerError unless the ledger is at the version that this program knows."""
    judge_version(meta(connection, "version"), place)


def judge_version(found: str | None, place: object) -> None:
    """The same about a version that was read already."""
    version = int(found or 0)
    if version != schema.VERSION:
        raise _other_version(place, version)


def _take_steps(connection: sa.Connection, version: int) -> None:
    for step in schema.MIGRATIONS[version:]:
        step(connection)
    connection.execute(sa.delete(schema.meta).where(schema.meta.c.key == "version"))
    connection.execute(sa.insert(schema.meta), {"key": "version", "value": str(schema.VERSION)})


def _other_version(place: object, version: int) -> LedgerError:
    if version < schema.VERSION:
        return LedgerError(
            f"the ledger {place} is at version {version}, this program needs {schema.VERSION}",
            hint="run: audit-exporter ledger migrate",
        )
    return LedgerError(
        f"the ledger {place} is at version {version}; this program knows no newer one than {schema.VERSION}",
        hint="use the newer audit-exporter that wrote it",
    )
