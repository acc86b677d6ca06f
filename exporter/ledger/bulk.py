"""Many rows of a SQL ledger in few statements: those of some exports read at once, and written at once.

It keeps nothing, and knows no transaction. Values go to the driver as the columns' types of ``schema`` write
them, but without SQLAlchemy in between, which takes longer for each value than the database does.
"""

from __future__ import annotations

from dataclasses import fields
from itertools import chain
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

import orjson
import sqlalchemy as sa

from exporter.ledger import encoding, schema
from exporter.ledger.mappings import find, keep
from exporter.ledger.sql import waiting_of
from exporter.model import Attempt

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from exporter.model import BadRecord, Export, Lane, Plan, Rendering, SealedWindow

    _Reader: TypeAlias = Callable[[Any, sa.Dialect], Any]

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

_CLAIM: Final = schema.AnyText()

# As one value, so that it is one statement for however many keys, and is looked up by the key's index.
_AMONG: Final = {"sqlite": "{} IN (SELECT value FROM json_each(:keys))", "postgresql": "{} = ANY(:keys)"}


def _quoted(names: Iterable[str]) -> list[str]:
    return [f'"{name}"' for name in names]


def _keys(connection: sa.Connection, keys: Iterable[str]) -> dict[str, object]:
    """Keys as a statement of their database takes them."""
    ordered = sorted(keys)
    return {"keys": orjson.dumps(ordered).decode() if connection.dialect.name == "sqlite" else ordered}


class _Query:
    """All rows of a table that belong to some keys; whole, or these columns of them."""

    def __init__(self, table: sa.Table, key: str, rest: str = "", names: Sequence[str] = ()) -> None:
        self._names = names or table.c.keys()
        types = [table.c[name].type for name in self._names]
        self._readers = {
            number: kind.process_result_value
            for number, kind in enumerate(types)
            if isinstance(kind, sa.types.TypeDecorator)
        }
        self._flags = [number for number, kind in enumerate(types) if isinstance(kind, sa.Boolean)]
        text = f"SELECT {', '.join(_quoted(self._names))} FROM {table} WHERE {{}} {rest}"  # noqa: S608 - names of our own schema
        # With its columns, though without their types: otherwise SQLAlchemy looks at them anew each time.
        columns: list[sa.ColumnClause[Any]] = [sa.column(name) for name in self._names]
        self._texts = {
            dialect: sa.text(text.format(among.format(f'"{key}"'))).columns(*columns)
            for dialect, among in _AMONG.items()
        }

    def rows(self, connection: sa.Connection, keys: Collection[str]) -> Iterator[encoding.Row]:
        """The rows' values by name, as ours; what several have in common may be one and the same."""
        dialect = connection.dialect
        found = connection.execute(self._texts[dialect.name], _keys(connection, keys)).all()
        columns: list[Sequence[Any]] = list(zip(*found, strict=True))
        if columns:
            for number, read in self._readers.items():
                columns[number] = _read(read, columns[number], dialect)
            for number in self._flags:
                columns[number] = [bool(value) for value in columns[number]]  # SQLite has none
        for values in zip(*columns, strict=True):
            yield dict(zip(self._names, values, strict=True))


def _read(read: _Reader, values: Sequence[Any], dialect: sa.Dialect) -> list[Any]:
    known: dict[Any, Any] = {None: None}
    for value in values:
        if value not in known:
            known[value] = read(value, dialect)
    return [known[value] for value in values]


def _by_database(query: sa.Select[Any], key: str) -> dict[str, sa.Select[Any]]:
    return {dialect: query.where(sa.text(among.format(key))) for dialect, among in _AMONG.items()}


_EXPORTS: Final = _Query(schema.exports, "name")
_LANES: Final = _Query(schema.lanes, "export")
_OPEN_PLANS: Final = _Query(schema.plans, "export", "AND state = 'open'")
_PROGRESS: Final = _Query(
    schema.plans, "export", "AND state = 'open'", ("id", "export", "reached", "sent", "refused")
)
# Plus nothing, or SQLite may walk the primary key through all attempts, to have them in this order.
_ATTEMPTS: Final = _Query(schema.attempts, "plan", "ORDER BY number + 0")
_EARLIEST: Final = _by_database(
    sa.select(
        schema.exports.c.name,
        sa.select(sa.func.min(schema.windows.c.committed_at))
        .where(schema.windows.c.export == schema.exports.c.name)
        .scalar_subquery()
        .label("first"),
    ),
    "exports.name",
)
_WAITING: Final = _by_database(
    waiting_of(sa.select(schema.plans.c.export, sa.func.count().label("waiting"))).group_by(
        schema.plans.c.export
    ),
    "plans.export",
)
_HOLDERS: Final = _by_database(sa.select(schema.exports.c.claim, schema.exports.c.name), "exports.claim")


class Bulk:
    """Rows of the tables on one connection."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection
        # One statement for all rows. PostgreSQL would plan one for each anew; in SQLite another thread may
        # take the interpreter between any two rows, and keep it for longer than all of this takes.
        dialect = connection.dialect
        self._as_json = dialect.name == "postgresql"
        self._at_once = not self._as_json and dialect.dbapi.sqlite_version_info >= UPDATES_FROM  # type: ignore[union-attr]

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

    def progress(self, names: Collection[str]) -> dict[str, encoding.Row]:
        """Of the open plans of these exports, by id, what changes while they are open, and whose they are."""
        return {row["id"]: row for row in _PROGRESS.rows(self._connection, names)}

    def attempts(self, plan_ids: Collection[str]) -> Iterator[Attempt]:
        """The attempts at these plans, of each in the order in which they were recorded."""
        yield from map(encoding.attempt_of, _ATTEMPTS.rows(self._connection, plan_ids))

    def earliest_windows(self, names: Collection[str]) -> dict[str, datetime]:
        """When the first live window that is remembered was committed, of each of these exports."""
        return {row.name: row.first for row in self._found(_EARLIEST, names) if row.first is not None}

    def waiting(self, names: Collection[str]) -> dict[str, int]:
        """How many refused events nobody has sent again, of each of these exports that has some."""
        return {row.export: row.waiting for row in self._found(_WAITING, names)}

    def holders(self, claims: Collection[str]) -> dict[str, str]:
        """The names of the exports that have these claims, by claim, as far as any has."""
        dialect = self._connection.dialect
        written = [str(_CLAIM.process_bind_param(claim, dialect)) for claim in claims]
        return {row.claim: row.name for row in self._found(_HOLDERS, written)}

    def _found(self, query: Mapping[str, sa.Select[Any]], keys: Iterable[str]) -> Sequence[sa.Row[Any]]:
        dialect = self._connection.dialect.name
        return self._connection.execute(query[dialect], _keys(self._connection, keys)).all()

    def insert_exports(self, exports: Collection[Export]) -> None:
        """New exports, in this order."""
        self._insert(schema.exports, [encoding.export_row(export) for export in exports])

    def update_exports(self, exports: Collection[tuple[Export, Export]]) -> None:
        """These as they were read, and as they are now."""
        self._change(schema.exports, exports, encoding.export_row, "name")

    def insert_lanes(self, lanes: Collection[Lane]) -> None:
        """New lanes."""
        self._insert(schema.lanes, [encoding.lane_row(lane) for lane in lanes])

    def update_lanes(self, lanes: Collection[tuple[Lane, Lane]]) -> None:
        """These as they were read, and as they are now."""
        self._change(schema.lanes, lanes, encoding.lane_row, "export", "id")

    def insert_plans(self, plans: Collection[Plan]) -> None:
        """New plans, and with them their mappings, each once."""
        ids = self._kept(plan.rendering for plan in plans)
        rows = [encoding.plan_row(plan, ids[id(plan.rendering.mapping)]) for plan in plans]
        self._insert(schema.plans, rows)

    def update_plans(self, plans: Collection[tuple[Plan, Plan]]) -> None:
        """These as they were read, and as they are now."""
        settled = [one for one in plans if _is_settled(*one)]
        self._change(schema.plans, settled, _settled_row, "id")
        others = [now for before, now in plans if not _is_settled(before, now)]
        ids = self._kept(plan.rendering for plan in others)
        whole = [encoding.plan_row(plan, ids[id(plan.rendering.mapping)]) for plan in others]
        self._update(schema.plans, whole, "id")

    def insert_attempts(self, attempts: Collection[Attempt]) -> None:
        """New attempts, in this order."""
        self._insert(schema.attempts, [encoding.attempt_row(attempt) for attempt in attempts])

    def update_attempts(self, attempts: Collection[tuple[Attempt | None, Attempt]]) -> None:
        """These as they were read, as far as they were, and as they are now."""
        same = [(before, now) for before, now in attempts if before and before.content == now.content]
        self._change(schema.attempts, same, _state_of, "id")
        others = [now for before, now in attempts if before is None or before.content != now.content]
        self._update(schema.attempts, [encoding.attempt_row(now) for now in others], "id")

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
            columns = list(rows[0])
            names = ", ".join(_quoted(columns))
            values = f"SELECT {names} FROM {_sent(table)}" if self._as_json else "VALUES {rows}"  # noqa: S608 - as above
            statement = f"INSERT INTO {table} ({names}) {values}"
            self._execute(statement, table, columns, (row.values() for row in rows))

    def _change(
        self,
        table: sa.Table,
        values: Collection[tuple[V, V]],
        row_of: Callable[[V], encoding.Row],
        *keys: str,
    ) -> None:
        """What differs between values as they were and as they are; other columns cost their index, too."""
        differing = {name for before, now in values for name in _differing(before, now)}
        if differing:
            rows = [row_of(now) for _, now in values]
            columns = {column for name in differing for column in encoding.COLUMNS.get(name, (name,))}
            names = [name for name in rows[0] if name in columns and name not in keys]
            self._update(table, rows, *keys, names=names)

    def _update(
        self, table: sa.Table, rows: list[encoding.Row], *keys: str, names: Sequence[str] | None = None
    ) -> None:
        """These columns of the rows with these keys; all, if nothing is said."""
        if not rows:
            return
        changing = [name for name in rows[0] if name not in keys] if names is None else names
        if changing:
            columns = [*changing, *keys]  # as the statement has them
            new, source = self._new(table, columns)
            pairs = [f"{name} = {value}" for name, value in zip(_quoted(columns), new, strict=True)]
            values = ", ".join(pairs[: -len(keys)])
            where = " AND ".join(f"old.{pair}" for pair in pairs[-len(keys) :])
            statement = f"UPDATE {table} AS old SET {values}{source} WHERE {where}"  # noqa: S608 - as above
            self._execute(statement, table, columns, map(itemgetter(*columns), rows))

    def _new(self, table: sa.Table, names: Sequence[str]) -> tuple[list[str], str]:
        """What an update calls these values, and where it has them from."""
        if self._as_json:
            return [f"new.{name}" for name in _quoted(names)], f" FROM {_sent(table)} AS new"
        if self._at_once:
            return [f"new.column{number + 1}" for number in range(len(names))], " FROM (VALUES {rows}) AS new"
        return ["?"] * len(names), ""

    def _execute(
        self, statement: str, table: sa.Table, names: Sequence[str], rows: Iterable[Iterable[Any]]
    ) -> None:
        """A statement for these rows, which all have these columns, in this order."""
        columns = zip(*rows, strict=True)
        written = [
            self._written(table.c[name].type, column) for name, column in zip(names, columns, strict=True)
        ]
        values: Sequence[tuple[Any, ...]] = list(zip(*written, strict=True))
        marks = f"({', '.join('?' * len(names))})"
        if self._as_json:
            named = [dict(zip(names, one, strict=True)) for one in values]
            self._connection.exec_driver_sql(statement, (orjson.dumps(named).decode(),))
        elif self._at_once:
            most = MOST_VALUES // len(names)
            for some in (values[start : start + most] for start in range(0, len(values), most)):
                text = statement.format(rows=", ".join([marks] * len(some)))
                self._connection.exec_driver_sql(text, tuple(chain.from_iterable(some)))
        else:
            self._connection.exec_driver_sql(statement.format(rows=marks), values)

    def _written(self, kind: sa.types.TypeEngine[Any], values: Iterable[Any]) -> Iterable[Any]:
        """A column's values as the database takes them; what is in several rows is written once."""
        if not isinstance(kind, sa.types.TypeDecorator):
            return values
        write, dialect = kind.process_bind_param, self._connection.dialect
        known: dict[int, Any] = {id(None): None}  # by identity: the rows keep them all
        found = []
        for value in values:
            if (number := id(value)) not in known:
                known[number] = write(value, dialect)
            found.append(known[number])
        return found

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


def _differing(before: object, now: object) -> list[str]:
    """The fields of which the database would not have the same text."""
    names, values_of = encoding.reader_of(now)
    return [
        name
        for name, old, value in zip(names, values_of(before), values_of(now), strict=True)
        if value is not old and (value != old or isinstance(value, _CONTAINERS))
    ]


def _state_of(attempt: Attempt) -> encoding.Row:
    """An attempt's row without what it holds."""
    return {name: getattr(attempt, name) for name in _STATE}


def _settled_row(plan: Plan) -> encoding.Row:
    """The part of a plan's row that changes while it is delivered."""
    return {"id": plan.id, **{name: getattr(plan, name) for name in _SETTLED}}


def _is_settled(before: Plan, now: Plan) -> bool:
    """Whether nothing else of a plan has changed than how far its delivery is."""
    return all(name in _SETTLED for name in _differing(before, now))
