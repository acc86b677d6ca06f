"""Many rows of a SQL ledger in few statements: those of some exports read at once, and written at once.

It keeps nothing, and knows no transaction. Values go to the driver as the columns' types of ``schema`` write
them, but without SQLAlchemy in between, which takes longer for each value than the database does.
"""

from __future__ import annotations

from dataclasses import fields
from operator import attrgetter
from typing import TYPE_CHECKING, Final

import orjson
import sqlalchemy as sa

from exporter.ledger import encoding, schema
from exporter.ledger.mappings import find, keep
from exporter.ledger.sql import waiting_of
from exporter.model import Plan

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from exporter.model import Attempt, BadRecord, Export, Lane, Rendering, SealedWindow

AT_ONCE: Final = 500
"""So many names are in one statement: SQLite bounds its parameters."""

_SETTLED: Final = ("state", "delivered_at", "hashes", "reached", "sent", "refused")
"""What changes of a plan while it is delivered."""

_FIXED: Final = attrgetter(*(one.name for one in fields(Plan) if one.name not in _SETTLED))


def _quoted(names: Iterable[str]) -> list[str]:
    return [f'"{name}"' for name in names]


class _Query:
    """All rows of a table that belong to some keys."""

    def __init__(self, table: sa.Table, key: str, rest: str = "") -> None:
        self._names = table.c.keys()
        self._readers = [
            (name, column.type.process_result_value)
            for name, column in table.c.items()
            if isinstance(column.type, sa.types.TypeDecorator)
        ]
        self._flags = [name for name, column in table.c.items() if isinstance(column.type, sa.Boolean)]
        text = f'SELECT {", ".join(_quoted(self._names))} FROM {table} WHERE "{key}" IN :keys {rest}'  # noqa: S608 - names of our own schema
        self._text = sa.text(text).bindparams(sa.bindparam("keys", expanding=True))

    def rows(self, connection: sa.Connection, keys: Collection[str]) -> Iterator[encoding.Row]:
        """The rows' values by name, as ours."""
        for some in _some(keys):
            for values in connection.execute(self._text, {"keys": some}).all():
                row = dict(zip(self._names, values, strict=True))
                for name, read in self._readers:
                    if (value := row[name]) is not None:
                        row[name] = read(value, connection.dialect)
                for name in self._flags:
                    row[name] = bool(row[name])  # SQLite has none
                yield row


_EXPORTS: Final = _Query(schema.exports, "name")
_LANES: Final = _Query(schema.lanes, "export")
_OPEN_PLANS: Final = _Query(schema.plans, "export", "AND state = 'open'")
_ATTEMPTS: Final = _Query(schema.attempts, "plan", "ORDER BY number")
_EARLIEST: Final = sa.select(
    schema.exports.c.name,
    sa.select(sa.func.min(schema.windows.c.committed_at))
    .where(schema.windows.c.export == schema.exports.c.name)
    .scalar_subquery()
    .label("first"),
).where(schema.exports.c.name.in_(sa.bindparam("keys", expanding=True)))
_HOLDER: Final = sa.select(schema.exports.c.name).where(schema.exports.c.claim == sa.bindparam("claim"))


class Bulk:
    """Rows of the tables on one connection."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection
        # One statement for all rows, where each would be planned anew; SQLite keeps its statement prepared.
        self._as_json = connection.dialect.name == "postgresql"

    def exports(self, names: Collection[str]) -> Iterator[Export]:
        """The exports of these names, as far as there are any."""
        yield from map(encoding.export_of, _EXPORTS.rows(self._connection, names))

    def lanes(self, names: Collection[str]) -> Iterator[Lane]:
        """The lanes of these exports."""
        yield from map(encoding.lane_of, _LANES.rows(self._connection, names))

    def open_plans(self, names: Collection[str]) -> list[Plan]:
        """The open plans of these exports."""
        rows = list(_OPEN_PLANS.rows(self._connection, names))
        mappings = find(self._connection, encoding.mapping_ids(rows))
        return [encoding.plan_of(row, mappings) for row in rows]

    def attempts(self, plan_ids: Collection[str]) -> Iterator[Attempt]:
        """The attempts at these plans, of each in the order in which they were recorded."""
        yield from map(encoding.attempt_of, _ATTEMPTS.rows(self._connection, plan_ids))

    def earliest_windows(self, names: Collection[str]) -> dict[str, datetime]:
        """When the first live window that is remembered was committed, of each of these exports."""
        found = (self._connection.execute(_EARLIEST, {"keys": some}) for some in _some(names))
        return {row.name: row.first for rows in found for row in rows if row.first is not None}

    def waiting(self, names: Collection[str]) -> dict[str, int]:
        """How many refused events nobody has sent again, of each of these exports that has some."""
        name = schema.plans.c.export
        query = waiting_of(sa.select(name, sa.func.count().label("waiting"))).group_by(name)
        found = (self._connection.execute(query.where(name.in_(some))) for some in _some(names))
        return {row.export: row.waiting for rows in found for row in rows}

    def holder_of(self, claim: str) -> str | None:
        """The name of the export that has this claim."""
        return self._connection.execute(_HOLDER, {"claim": claim}).scalar_one_or_none()

    def insert_exports(self, exports: Collection[Export]) -> None:
        """New exports, in this order."""
        self._insert(schema.exports, [encoding.export_row(export) for export in exports])

    def update_exports(self, exports: Collection[Export]) -> None:
        """The whole rows of these."""
        self._update(schema.exports, [encoding.export_row(export) for export in exports], "name")

    def insert_lanes(self, lanes: Collection[Lane]) -> None:
        """New lanes."""
        self._insert(schema.lanes, [encoding.lane_row(lane) for lane in lanes])

    def update_lanes(self, lanes: Collection[Lane]) -> None:
        """The whole rows of these."""
        self._update(schema.lanes, [encoding.lane_row(lane) for lane in lanes], "export", "id")

    def insert_plans(self, plans: Collection[Plan]) -> None:
        """New plans, and with them their mappings, each once."""
        ids = self._kept(plan.rendering for plan in plans)
        rows = [encoding.plan_row(plan, ids[id(plan.rendering.mapping)]) for plan in plans]
        self._insert(schema.plans, rows)

    def update_plans(self, plans: Collection[tuple[Plan, Plan]]) -> None:
        """These as they were read, and as they are now."""
        settled = [now for before, now in plans if _is_settled(before, now)]
        rows = [encoding.plan_row(plan, None) for plan in settled]
        changes = [{"id": row["id"], **{name: row[name] for name in _SETTLED}} for row in rows]
        self._update(schema.plans, changes, "id")
        others = [now for before, now in plans if not _is_settled(before, now)]
        ids = self._kept(plan.rendering for plan in others)
        whole = [encoding.plan_row(plan, ids[id(plan.rendering.mapping)]) for plan in others]
        self._update(schema.plans, whole, "id")

    def insert_attempts(self, attempts: Collection[Attempt]) -> None:
        """New attempts, in this order."""
        self._insert(schema.attempts, [encoding.attempt_row(attempt) for attempt in attempts])

    def update_attempts(self, attempts: Collection[Attempt]) -> None:
        """What is known of these."""
        rows = [encoding.attempt_row(attempt) for attempt in attempts]
        self._update(schema.attempts, rows, "id")

    def insert_windows(self, windows: Collection[SealedWindow]) -> None:
        """New windows, in this order."""
        self._insert(schema.windows, [encoding.window_row(window) for window in windows])

    def insert_bad_records(self, records: Collection[tuple[str, Sequence[BadRecord]]]) -> None:
        """Bad records by their plan, in this order."""
        rows = [encoding.bad_record_row(plan_id, one) for plan_id, some in records for one in some]
        if rows:  # their bodies are bytes, and may be large
            self._connection.execute(sa.insert(schema.bad_records), rows)

    def _insert(self, table: sa.Table, rows: list[encoding.Row]) -> None:
        if rows:
            names, marks = ", ".join(_quoted(rows[0])), ", ".join("?" * len(rows[0]))
            values = f"SELECT {names} FROM {_sent(table)}" if self._as_json else f"VALUES ({marks})"  # noqa: S608 - as above
            self._execute(f"INSERT INTO {table} ({names}) {values}", table, rows)

    def _update(self, table: sa.Table, rows: list[encoding.Row], *keys: str) -> None:
        if rows:
            names = [*(name for name in rows[0] if name not in keys), *keys]  # as the statement has them
            rows = [{name: row[name] for name in names} for row in rows]
            changed, sought = _quoted(names[: -len(keys)]), _quoted(keys)
            new, source = ("new.{}", f" FROM {_sent(table)} AS new") if self._as_json else ("?", "")
            values = ", ".join(f"{name} = {new.format(name)}" for name in changed)
            where = " AND ".join(f"old.{name} = {new.format(name)}" for name in sought)
            self._execute(f"UPDATE {table} AS old SET {values}{source} WHERE {where}", table, rows)  # noqa: S608 - as above

    def _execute(self, statement: str, table: sa.Table, rows: list[encoding.Row]) -> None:
        """A statement for these rows, which all have the same columns, in the same order."""
        dialect = self._connection.dialect
        writers = [
            (name, column.type.process_bind_param)
            for name, column in table.c.items()
            if name in rows[0] and isinstance(column.type, sa.types.TypeDecorator)
        ]
        for row in rows:
            for name, write in writers:
                if (value := row[name]) is not None:
                    row[name] = write(value, dialect)
        values = (orjson.dumps(rows).decode(),) if self._as_json else [tuple(row.values()) for row in rows]
        self._connection.exec_driver_sql(statement, values)

    def _kept(self, renderings: Iterator[Rendering]) -> Mapping[int, str | None]:
        """By a mapping's identity the id under which the ledger has it from now on."""
        mappings = {id(one.mapping): one.mapping for one in renderings}
        return {
            number: None if mapping is None else keep(self._connection, mapping)
            for number, mapping in mappings.items()
        }


def _sent(table: sa.Table) -> str:
    """Rows of a table, from one value of JSON."""
    return f"json_populate_recordset(NULL::{table}, %s::json)"


def _is_settled(before: Plan, now: Plan) -> bool:
    """Whether nothing else of a plan has changed than how far its delivery is."""
    return _FIXED(before) == _FIXED(now)


def _some(keys: Collection[str]) -> Iterator[list[str]]:
    ordered = sorted(keys)
    for start in range(0, len(ordered), AT_ONCE):
        yield ordered[start : start + AT_ONCE]
