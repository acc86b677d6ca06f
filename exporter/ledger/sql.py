"""The ledger's rows in a SQL database, whichever it is, and the version they are at.

How a transaction begins and ends, and what an error means, is the storage's: ``sqlite``, ``postgres``.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Final

from exporter.errors import LedgerError
from exporter.ledger import encoding, schema
from exporter.ledger.kinds import ANY_TEXT, BIGINT, TEXT, TIME
from exporter.ledger.mappings import find, keep
from exporter.ledger.statements import Query, insert, insert_all, quoted, select, update
from exporter.model import PlanState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exporter.ledger.connection import Connection
    from exporter.ledger.kinds import Row
    from exporter.ledger.storage import Kept, RunRecord
    from exporter.model import Attempt, BadRecord, Export, Lane, Plan, SealedWindow

MISSING_HINT: Final = (
    "an empty ledger in its place would skip or repeat history: restore it from a backup "
    "(then `audit-exporter ledger restored`); if there never was one, run: audit-exporter ledger create"
)

# SQLite leaves the tables of a CROSS JOIN in the order that they have. Otherwise it would as soon look
# through all that an export ever delivered, for the few events that wait.
WAITING: Final = (
    'FROM bad_records CROSS JOIN plans WHERE plans.id = bad_records."plan"'
    f" AND {schema.IS_WAITING} AND plans.state != 'abandoned'"
)
"""Refused events that nobody has sent again, and their plans."""

_META: Final = select(schema.META, 'WHERE "key" = ?', ["value"])
_EXPORT: Final = select(schema.EXPORTS, "WHERE name = ?")
_BY_CLAIM: Final = select(schema.EXPORTS, "WHERE claim = ?")
_EXPORTS: Final = select(schema.EXPORTS, "ORDER BY name")
_LANE: Final = select(schema.LANES, "WHERE export = ? AND id = ?")
_LANES: Final = select(schema.LANES, "WHERE export = ? ORDER BY id")
_ALL_LANES: Final = select(schema.LANES, "ORDER BY export, id")
_PLAN: Final = select(schema.PLANS, "WHERE id = ?")
# A literal, because a bound value would keep SQLite from using the partial index.
_OPEN_PLANS: Final = select(schema.PLANS, "WHERE state = 'open' AND export = ?")
_ALL_OPEN_PLANS: Final = select(schema.PLANS, "WHERE state = 'open'")
_BY_SEQUENCE: Final = select(
    schema.PLANS,
    "WHERE export = ? AND sequence = ? AND state != 'abandoned' ORDER BY created_at DESC LIMIT 1",
)
_ATTEMPTS: Final = select(schema.ATTEMPTS, 'WHERE "plan" = ? ORDER BY number')
# Plus nothing, or PostgreSQL may walk the primary key through all exports' windows to find one.
_LAST_WINDOW: Final = select(
    schema.WINDOWS, "WHERE export = ? AND committed_at < ? ORDER BY number + 0 DESC LIMIT 1"
)
_BAD_RECORDS: Final = select(schema.BAD_RECORDS, 'WHERE "plan" = ? ORDER BY number')
_LAST_RUN: Final = select(schema.RUNS, "ORDER BY started_at DESC LIMIT 1")


def _waiting(condition: str) -> Query:
    text = f"SELECT plans.export, count(*) {WAITING} {condition} GROUP BY plans.export"
    return Query(text, {"export": TEXT, "waiting": BIGINT})


def _kept(condition: str) -> Query:
    # Plus nothing, or SQLite may walk the primary key through all bad records to find a few that wait.
    row = "bad_records.number + 0"
    kinds = {**schema.BAD_RECORDS.kinds, "sequence": BIGINT}
    columns = ", ".join(f"bad_records.{name}" for name in quoted(schema.BAD_RECORDS.kinds))
    text = f"SELECT {columns}, plans.sequence {WAITING} AND plans.export = ? AND {row} > ?"
    return Query(f"{text} {condition} ORDER BY {row} LIMIT ?", kinds)


_ALL_WAITING: Final = _waiting("")
_WAITING_OF: Final = _waiting("AND plans.export = ?")
_KEPT: Final = _kept("")
_KEPT_OF_PLAN: Final = _kept("AND plans.sequence = ?")


class SqlRows:
    """The rows that one transaction on one connection sees."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def ledger_id(self) -> str:  # noqa: D102 - promises are in Rows
        return str(_meta(self._connection, "ledger_id"))

    def set_ledger_id(self, value: str) -> None:  # noqa: D102
        update(self._connection, schema.META, {"key": "ledger_id", "value": value}, "key")

    def names_from(self) -> datetime | None:  # noqa: D102
        moment = _meta(self._connection, "names_from")
        return None if moment is None else datetime.fromisoformat(moment)

    def set_names_from(self, moment: datetime) -> None:  # noqa: D102
        self._connection.execute("DELETE FROM meta WHERE \"key\" = 'names_from'")
        insert(self._connection, schema.META, {"key": "names_from", "value": moment.isoformat()})

    def export(self, name: str) -> Export | None:  # noqa: D102
        row = _EXPORT.row(self._connection, name)
        return None if row is None else encoding.export_of(row)

    def export_by_claim(self, claim: str) -> Export | None:  # noqa: D102
        row = _BY_CLAIM.row(self._connection, ANY_TEXT.written(claim))
        return None if row is None else encoding.export_of(row)

    def exports(self) -> list[Export]:  # noqa: D102
        return list(map(encoding.export_of, _EXPORTS.rows(self._connection)))

    def insert_export(self, export: Export) -> None:  # noqa: D102
        insert(self._connection, schema.EXPORTS, encoding.export_row(export))

    def update_export(self, export: Export) -> None:  # noqa: D102
        update(self._connection, schema.EXPORTS, encoding.export_row(export), "name")

    def rename_export(self, name: str, new_name: str) -> None:  # noqa: D102
        self._connection.execute("UPDATE exports SET name = ? WHERE name = ?", [new_name, name])
        for table in (schema.LANES, schema.PLANS, schema.WINDOWS):
            text = f"UPDATE {table.name} SET export = ? WHERE export = ?"  # noqa: S608 - as above
            self._connection.execute(text, [new_name, name])

    def lane(self, export: str, lane: str) -> Lane | None:  # noqa: D102
        row = _LANE.row(self._connection, export, lane)
        return None if row is None else encoding.lane_of(row)

    def lanes(self, export: str | None = None) -> list[Lane]:  # noqa: D102
        query, values = (_ALL_LANES, ()) if export is None else (_LANES, (export,))
        return list(map(encoding.lane_of, query.rows(self._connection, *values)))

    def insert_lane(self, lane: Lane) -> None:  # noqa: D102
        insert(self._connection, schema.LANES, encoding.lane_row(lane))

    def update_lane(self, lane: Lane) -> None:  # noqa: D102
        update(self._connection, schema.LANES, encoding.lane_row(lane), "export", "id")

    def plan(self, plan_id: str) -> Plan | None:  # noqa: D102
        return next(iter(self._plans(_PLAN, plan_id)), None)

    def still_open(self, plan: Plan) -> Plan | None:  # noqa: D102
        stored = self.plan(plan.id)
        is_open = stored and stored.state is PlanState.OPEN and stored.export == plan.export
        return stored if is_open else None

    def open_plans(self, export: str | None = None) -> list[Plan]:  # noqa: D102
        return self._plans(_ALL_OPEN_PLANS) if export is None else self._plans(_OPEN_PLANS, export)

    def plan_by_sequence(self, export: str, sequence: int) -> Plan | None:  # noqa: D102
        return next(iter(self._plans(_BY_SEQUENCE, export, sequence)), None)

    def insert_plan(self, plan: Plan) -> None:  # noqa: D102
        insert(self._connection, schema.PLANS, self._plan_row(plan))

    def update_plan(self, plan: Plan) -> None:  # noqa: D102
        update(self._connection, schema.PLANS, self._plan_row(plan), "id")

    def _plan_row(self, plan: Plan) -> Row:
        mapping = plan.rendering.mapping
        return encoding.plan_row(plan, None if mapping is None else keep(self._connection, mapping))

    def _plans(self, query: Query, *values: object) -> list[Plan]:
        rows = list(query.rows(self._connection, *values))
        mappings = find(self._connection, encoding.mapping_ids(rows))
        return [encoding.plan_of(row, mappings) for row in rows]

    def attempts(self, plan_id: str) -> list[Attempt]:  # noqa: D102
        return list(map(encoding.attempt_of, _ATTEMPTS.rows(self._connection, plan_id)))

    def insert_attempt(self, attempt: Attempt) -> None:  # noqa: D102
        insert(self._connection, schema.ATTEMPTS, encoding.attempt_row(attempt))

    def update_attempt(self, attempt: Attempt) -> None:  # noqa: D102
        update(self._connection, schema.ATTEMPTS, encoding.attempt_row(attempt), "id")

    def insert_window(self, window: SealedWindow) -> None:  # noqa: D102
        insert(self._connection, schema.WINDOWS, encoding.window_row(window))

    def last_window_before(self, export: str, moment: datetime) -> SealedWindow | None:  # noqa: D102
        row = _LAST_WINDOW.row(self._connection, export, TIME.written(moment))
        return None if row is None else encoding.window_of(row)

    def delete_windows(self, export: str, before: datetime) -> None:  # noqa: D102
        text = "DELETE FROM windows WHERE export = ? AND committed_at < ?"
        self._connection.execute(text, [export, TIME.written(before)])

    def insert_bad_records(self, plan_id: str, records: Sequence[BadRecord]) -> None:  # noqa: D102
        insert_all(
            self._connection,
            schema.BAD_RECORDS,
            [encoding.bad_record_row(plan_id, record) for record in records],
        )

    def bad_records(self, plan_id: str) -> list[BadRecord]:  # noqa: D102
        return list(map(encoding.bad_record_of, _BAD_RECORDS.rows(self._connection, plan_id)))

    def waiting(self, export: str | None = None) -> dict[str, int]:  # noqa: D102
        query, values = (_ALL_WAITING, ()) if export is None else (_WAITING_OF, (export,))
        return {row["export"]: row["waiting"] for row in query.rows(self._connection, *values)}

    def waiting_records(  # noqa: D102
        self, export: str, sequence: int | None, after: int, most: int
    ) -> list[Kept]:
        query, which = (_KEPT, ()) if sequence is None else (_KEPT_OF_PLAN, (sequence,))
        return list(map(encoding.kept_of, query.rows(self._connection, export, after, *which, most)))

    def update_bad_record(self, kept: Kept) -> None:  # noqa: D102
        reason, resent_at = ANY_TEXT.written(kept.record.reason), TIME.written(kept.record.resent_at)
        text = "UPDATE bad_records SET reason = ?, resent_at = ? WHERE number = ? AND resent_at IS NULL"
        self._connection.execute(text, [reason, resent_at, kept.number])

    def insert_run(self, run: RunRecord) -> None:  # noqa: D102
        insert(self._connection, schema.RUNS, encoding.run_row(run))

    def update_run(self, run: RunRecord) -> None:  # noqa: D102
        update(self._connection, schema.RUNS, encoding.run_row(run), "id")

    def last_run(self) -> RunRecord | None:  # noqa: D102
        row = _LAST_RUN.row(self._connection)
        return None if row is None else encoding.run_of(row)

    def delete_runs(self, before: datetime) -> None:  # noqa: D102
        self._connection.execute("DELETE FROM runs WHERE started_at < ?", [TIME.written(before)])


def _meta(connection: Connection, key: str) -> str | None:
    """One of the ledger's own values."""
    row = _META.row(connection, key)
    return None if row is None else row["value"]


def version_of(connection: Connection, meta: str = "meta") -> int:
    """Which version a ledger is at that has this table; 0 for one that does not say."""
    found = connection.execute(f"SELECT value FROM {meta} WHERE \"key\" = 'version'")  # noqa: S608 - as above
    return int(found[0][0] if found else 0)


def require_version(version: int, place: object) -> None:
    """Raise LedgerError unless this version is the one that this program knows."""
    if version != schema.VERSION:
        raise other_version(place, version)


def other_version(place: object, version: int) -> LedgerError:
    """What is said of a ledger at this version, which is not the program's."""
    if version < schema.VERSION:
        return LedgerError(
            f"the ledger {place} is at version {version}, this program needs {schema.VERSION}",
            hint="run: audit-exporter ledger migrate",
        )
    return LedgerError(
        f"the ledger {place} is at version {version}; this program knows no newer one than {schema.VERSION}",
        hint="use the newer audit-exporter that wrote it",
    )
