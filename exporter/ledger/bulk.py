"""Many rows of a SQL ledger in few statements: those of some exports read at once, and written at once.

It keeps nothing, and knows no transaction.
"""

from __future__ import annotations

from dataclasses import fields
from itertools import chain
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, TypeVar

import orjson

from exporter.ledger import encoding, schema
from exporter.ledger.connection import keys
from exporter.ledger.kinds import ANY_TEXT, BIGINT, TEXT, TIME, write_all
from exporter.ledger.mappings import find, keep
from exporter.ledger.sql import WAITING
from exporter.ledger.statements import Query, insert_all, quoted, select
from exporter.model import Attempt

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from exporter.ledger.connection import Connection
    from exporter.ledger.kinds import Row
    from exporter.ledger.schema import Table
    from exporter.model import BadRecord, Export, Lane, Plan, Rendering, SealedWindow

V = TypeVar("V")

UPDATES_FROM: Final = (3, 33)
"""The first SQLite that updates many rows from others."""

MOST_VALUES: Final = 32_766
"""So many may be in one of its statements."""

_SETTLED: Final = ("state", "delivered_at", "hashes", "reached", "sent", "refused")
"""What changes of a plan while it is delivered."""

_STATE: Final = tuple(one.name for one in fields(Attempt) if one.name != "content")

_CONTAINERS: Final = (dict, list, tuple)
"""What may be equal, and not the same JSON: `1`, `1.0` and `true` are equal in Python."""

_EXPORTS: Final = select(schema.EXPORTS, "WHERE name AMONG ?")
_LANES: Final = select(schema.LANES, "WHERE export AMONG ?")
_OPEN_PLANS: Final = select(schema.PLANS, "WHERE export AMONG ? AND state = 'open'")
_PROGRESS: Final = select(
    schema.PLANS,
    "WHERE export AMONG ? AND state = 'open'",
    ("id", "export", "reached", "sent", "refused"),
)
# Plus nothing, or SQLite may walk the primary key through all attempts, to have them in this order.
_ATTEMPTS: Final = select(schema.ATTEMPTS, 'WHERE "plan" AMONG ? ORDER BY number + 0')
_EARLIEST: Final = Query(
    "SELECT name, (SELECT min(committed_at) FROM windows WHERE windows.export = exports.name)"
    " FROM exports WHERE name AMONG ?",
    {"name": TEXT, "first": TIME},
)
_WAITING: Final = Query(
    f"SELECT plans.export, count(*) {WAITING} AND plans.export AMONG ? GROUP BY plans.export",
    {"export": TEXT, "waiting": BIGINT},
)
_HOLDERS: Final = Query(
    "SELECT claim, name FROM exports WHERE claim AMONG ?", {"claim": ANY_TEXT, "name": TEXT}
)


class Bulk:
    """Rows of the tables on one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        # One statement for all rows. PostgreSQL would plan one for each anew; in SQLite another thread may
        # take the interpreter between any two rows, and keep it for longer than all of this takes.
        dialect = connection.dialect
        self._as_json = dialect.name == "postgresql"
        self._at_once = not self._as_json and dialect.version >= UPDATES_FROM

    def _rows(self, query: Query, names: Iterable[str]) -> Iterator[Row]:
        return query.rows(self._connection, keys(self._connection, names))

    def exports(self, names: Collection[str]) -> Iterator[Export]:
        """The exports of these names, as far as there are any."""
        return map(encoding.export_of, self._rows(_EXPORTS, names))

    def lanes(self, names: Collection[str]) -> Iterator[Lane]:
        """The lanes of these exports."""
        return map(encoding.lane_of, self._rows(_LANES, names))

    def open_plans(self, names: Collection[str]) -> list[Plan]:
        """The open plans of these exports."""
        rows = list(self._rows(_OPEN_PLANS, names))
        mappings = find(self._connection, encoding.mapping_ids(rows))
        return [encoding.plan_of(row, mappings) for row in rows]

    def progress(self, names: Collection[str]) -> dict[str, Row]:
        """Of the open plans of these exports, by id, what changes while they are open, and whose they are."""
        return {row["id"]: row for row in self._rows(_PROGRESS, names)}

    def attempts(self, plan_ids: Collection[str]) -> Iterator[Attempt]:
        """The attempts at these plans, of each in the order in which they were recorded."""
        return map(encoding.attempt_of, self._rows(_ATTEMPTS, plan_ids))

    def earliest_windows(self, names: Collection[str]) -> dict[str, datetime]:
        """When the first live window that is remembered was committed, of each of these exports."""
        found = self._rows(_EARLIEST, names)
        return {row["name"]: row["first"] for row in found if row["first"] is not None}

    def waiting(self, names: Collection[str]) -> dict[str, int]:
        """How many refused events nobody has sent again, of each of these exports that has some."""
        return {row["export"]: row["waiting"] for row in self._rows(_WAITING, names)}

    def holders(self, claims: Collection[str]) -> dict[str, str]:
        """The names of the exports that have these claims, by claim, as far as any has."""
        found = self._rows(_HOLDERS, [str(ANY_TEXT.written(claim)) for claim in claims])
        return {row["claim"]: row["name"] for row in found}

    def insert_exports(self, exports: Collection[Export]) -> None:
        """New exports, in this order."""
        self._insert(schema.EXPORTS, [encoding.export_row(export) for export in exports])

    def update_exports(self, exports: Collection[tuple[Export, Export]]) -> None:
        """These as they were read, and as they are now."""
        self._change(schema.EXPORTS, exports, encoding.export_row, "name")

    def insert_lanes(self, lanes: Collection[Lane]) -> None:
        """New lanes."""
        self._insert(schema.LANES, [encoding.lane_row(lane) for lane in lanes])

    def update_lanes(self, lanes: Collection[tuple[Lane, Lane]]) -> None:
        """These as they were read, and as they are now."""
        self._change(schema.LANES, lanes, encoding.lane_row, "export", "id")

    def insert_plans(self, plans: Collection[Plan]) -> None:
        """New plans, and with them their mappings, each once."""
        ids = self._kept(plan.rendering for plan in plans)
        rows = [encoding.plan_row(plan, ids[id(plan.rendering.mapping)]) for plan in plans]
        self._insert(schema.PLANS, rows)

    def update_plans(self, plans: Collection[tuple[Plan, Plan]]) -> None:
        """These as they were read, and as they are now."""
        settled = [one for one in plans if _is_settled(*one)]
        self._change(schema.PLANS, settled, _settled_row, "id")
        others = [now for before, now in plans if not _is_settled(before, now)]
        ids = self._kept(plan.rendering for plan in others)
        whole = [encoding.plan_row(plan, ids[id(plan.rendering.mapping)]) for plan in others]
        self._update(schema.PLANS, whole, "id")

    def insert_attempts(self, attempts: Collection[Attempt]) -> None:
        """New attempts, in this order."""
        self._insert(schema.ATTEMPTS, [encoding.attempt_row(attempt) for attempt in attempts])

    def update_attempts(self, attempts: Collection[tuple[Attempt | None, Attempt]]) -> None:
        """These as they were read, as far as they were, and as they are now."""
        same = [(before, now) for before, now in attempts if before and before.content == now.content]
        self._change(schema.ATTEMPTS, same, _state_of, "id")
        others = [now for before, now in attempts if before is None or before.content != now.content]
        self._update(schema.ATTEMPTS, [encoding.attempt_row(now) for now in others], "id")

    def insert_windows(self, windows: Collection[SealedWindow]) -> None:
        """New windows, in this order."""
        self._insert(schema.WINDOWS, [encoding.window_row(window) for window in windows])

    def insert_bad_records(self, records: Collection[tuple[str, Sequence[BadRecord]]]) -> None:
        """Bad records by their plan, in this order."""
        rows = [encoding.bad_record_row(plan_id, one) for plan_id, some in records for one in some]
        insert_all(self._connection, schema.BAD_RECORDS, rows)  # their bodies are bytes, and may be large

    def _insert(self, table: Table, rows: list[Row]) -> None:
        if rows:
            columns = list(rows[0])
            names = ", ".join(quoted(columns))
            values = f"SELECT {names} FROM {_sent(table)}" if self._as_json else "VALUES {rows}"  # noqa: S608 - names of our own schema
            statement = f"INSERT INTO {table.name} ({names}) {values}"
            self._execute(statement, table, columns, (row.values() for row in rows))

    def _change(
        self,
        table: Table,
        values: Collection[tuple[V, V]],
        row_of: Callable[[V], Row],
        *keys: str,
    ) -> None:
        """What differs between values as they were and as they are; other columns cost their index, too."""
        differing = {name for before, now in values for name in _differing(before, now)}
        if differing:
            rows = [row_of(now) for _, now in values]
            columns = {column for name in differing for column in encoding.COLUMNS.get(name, (name,))}
            names = [name for name in rows[0] if name in columns and name not in keys]
            self._update(table, rows, *keys, names=names)

    def _update(self, table: Table, rows: list[Row], *keys: str, names: Sequence[str] | None = None) -> None:
        """These columns of the rows with these keys; all, if nothing is said."""
        if not rows:
            return
        changing = [name for name in rows[0] if name not in keys] if names is None else names
        if changing:
            columns = [*changing, *keys]  # as the statement has them
            new, source = self._new(table, columns)
            pairs = [f"{name} = {value}" for name, value in zip(quoted(columns), new, strict=True)]
            values = ", ".join(pairs[: -len(keys)])
            where = " AND ".join(f"old.{pair}" for pair in pairs[-len(keys) :])
            statement = f"UPDATE {table.name} AS old SET {values}{source} WHERE {where}"  # noqa: S608 - as above
            self._execute(statement, table, columns, map(itemgetter(*columns), rows))

    def _new(self, table: Table, names: Sequence[str]) -> tuple[list[str], str]:
        """What an update calls these values, and where it has them from."""
        if self._as_json:
            return [f"new.{name}" for name in quoted(names)], f" FROM {_sent(table)} AS new"
        if self._at_once:
            return [f"new.column{number + 1}" for number in range(len(names))], " FROM (VALUES {rows}) AS new"
        return ["?"] * len(names), ""

    def _execute(
        self, statement: str, table: Table, names: Sequence[str], rows: Iterable[Iterable[Any]]
    ) -> None:
        """A statement for these rows, which all have these columns, in this order."""
        kinds, columns = table.kinds, zip(*rows, strict=True)
        written = [
            write_all(write, column) if (write := kinds[name].write) else column
            for name, column in zip(names, columns, strict=True)
        ]
        values: list[tuple[Any, ...]] = list(zip(*written, strict=True))
        marks = f"({', '.join('?' * len(names))})"
        if self._as_json:
            named = [dict(zip(names, one, strict=True)) for one in values]
            self._connection.execute(statement, [orjson.dumps(named).decode()])
        elif self._at_once:
            most = MOST_VALUES // len(names)
            for some in (values[start : start + most] for start in range(0, len(values), most)):
                text = statement.format(rows=", ".join([marks] * len(some)))
                self._connection.execute(text, tuple(chain.from_iterable(some)))
        else:
            self._connection.execute_for_each(statement.format(rows=marks), values)

    def _kept(self, renderings: Iterator[Rendering]) -> Mapping[int, str | None]:
        """By a mapping's identity the id under which the ledger has it from now on."""
        mappings = {id(one.mapping): one.mapping for one in renderings}
        return {
            number: None if mapping is None else keep(self._connection, mapping)
            for number, mapping in mappings.items()
        }


def _sent(table: Table) -> str:
    """Rows of a table, from one value of JSON."""
    return f"json_populate_recordset(NULL::{table.name}, ?::json)"


def _differing(before: object, now: object) -> list[str]:
    """The fields of which the database would not have the same text."""
    names, values_of = encoding.reader_of(now)
    return [
        name
        for name, old, value in zip(names, values_of(before), values_of(now), strict=True)
        if value is not old and (value != old or isinstance(value, _CONTAINERS))
    ]


def _state_of(attempt: Attempt) -> Row:
    """An attempt's row without what it holds."""
    return {name: getattr(attempt, name) for name in _STATE}


def _settled_row(plan: Plan) -> Row:
    """The part of a plan's row that changes while it is delivered."""
    return {"id": plan.id, **{name: getattr(plan, name) for name in _SETTLED}}


def _is_settled(before: Plan, now: Plan) -> bool:
    """Whether nothing else of a plan has changed than how far its delivery is."""
    return all(name in _SETTLED for name in _differing(before, now))
