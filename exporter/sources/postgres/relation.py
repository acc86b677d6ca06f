"""What is read of a PostgreSQL database: a table, view or query, its columns and how each is selected.

It knows the catalogue. It must not know windows or seals, and reads no record but one, to say in a hint
what the times look like.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

from psycopg import sql

from exporter.errors import MissingColumn, SourceError
from exporter.sources.postgres.values import Kind

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from exporter.columns import Roles
    from exporter.sources.postgres.connection import Row, Session

BYTEWISE: Final = sql.SQL(' COLLATE "C"')
"""An operating system's collation may change between a plan and its recovery."""

_BPCHAR, _UUID, _XID8 = 1042, 2950, 5069
_KINDS: Final[Mapping[int, Kind]] = {
    **dict.fromkeys((20, 21, 23), Kind.INTEGER),  # int8, int2, int4
    **dict.fromkeys((700, 701, 1700), Kind.NUMBER),  # float4, float8, numeric
    16: Kind.BOOLEAN,
    **dict.fromkeys((114, 3802), Kind.JSON),  # json, jsonb
    17: Kind.BYTES,
    1184: Kind.TIMESTAMPTZ,
    1114: Kind.TIMESTAMP,
    1082: Kind.DATE,
    **dict.fromkeys((26, 28, 5069), Kind.CODE),  # oid, xid, xid8
    **dict.fromkeys((650, 774, 829, 869, 2950), Kind.CODE),  # cidr, macaddr8, macaddr, inet, uuid
}
_TABLES: Final = {"r": "table", "p": "partitioned table", "v": "view", "m": "view", "f": "foreign table"}
_NAME = re.compile(r'(?:"((?:[^"]|"")+)"|([^".]+))(?:\.|$)')

# A type as `Column` wants it; domains have been followed to what they are made of. An array is a type that
# its elements' type names as its array (the name may lead from int2vector to int2, but never back).
_TYPE = sql.SQL("""
    t.oid::bigint, format_type(t.oid, NULL), t.typcategory = 'S',
    t.typtype = 'c' OR t.oid IN ('record'::regtype, 'record[]'::regtype)
        OR EXISTS (SELECT FROM pg_type e WHERE e.oid = t.typelem AND e.typarray = t.oid)
""")
_FIND_TABLE = sql.SQL("""
    SELECT c.oid::bigint, n.nspname::text, c.relname::text, c.relkind::text,
        pg_relation_filenode(c.oid)::bigint, EXISTS (SELECT FROM pg_inherits WHERE inhparent = c.oid),
        EXISTS (
            SELECT FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
                JOIN pg_am m ON m.oid = x.relam AND m.amname = 'btree'
                JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[0]
                JOIN pg_attribute t ON t.attrelid = c.oid AND t.attnum = i.indkey[1]
            WHERE i.indrelid = c.oid AND i.indisvalid AND i.indpred IS NULL
                AND a.attname = {account} AND t.attname = {time}
        )
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.oid = {oid}
""")
_COLUMNS = sql.SQL("""
    WITH RECURSIVE typed (number, name, required, type) AS (
        SELECT attnum, attname, attnotnull, atttypid
        FROM pg_attribute WHERE attrelid = {oid} AND attnum > 0 AND NOT attisdropped
        UNION ALL
        SELECT number, name, required, typbasetype FROM typed JOIN pg_type ON oid = type WHERE typtype = 'd'
    )
    SELECT name::text, required, {type}
    FROM typed JOIN pg_type t ON t.oid = type WHERE t.typtype <> 'd' ORDER BY number
""")
_ALL_TABLES = sql.SQL("""
    SELECT CASE WHEN pg_table_is_visible(c.oid) THEN relname ELSE nspname || '.' || relname END::text
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE relkind IN ('r', 'p', 'v', 'm', 'f')
        AND nspname NOT IN ('pg_catalog', 'information_schema') AND nspname NOT LIKE 'pg\\_%' ORDER BY 1
""")


@dataclass(frozen=True, slots=True)
class Column:
    """A column and its type, of a domain the one it is made of. ``required`` is never NULL."""

    name: str
    type_oid: int
    type: str
    kind: Kind
    is_text: bool = False
    made_json: bool = False
    required: bool = False

    @property
    def value(self) -> sql.Composable:
        """The column by its name."""
        return sql.SQL("records.{}").format(sql.Identifier(self.name))

    @property
    def text(self) -> sql.Composable:
        """Its text, compared byte by byte."""
        return sql.SQL("{}::text{}").format(self.value, BYTEWISE)

    @property
    def shown(self) -> sql.Composable:
        """What COPY is asked for: arrays and composites as JSON, character(n) without its padding."""
        if self.made_json:
            return sql.SQL("to_json({})").format(self.value)
        return sql.SQL("{}::text").format(self.value) if self.is_padded else self.value

    @property
    def is_padded(self) -> bool:
        """Whether spaces are added to a value, which its text does not have."""
        return self.type_oid == _BPCHAR

    @property
    def is_uuid(self) -> bool:
        """Whether its text and its value stand for each other, and sort alike."""
        return self.type_oid == _UUID

    @property
    def is_position(self) -> bool:
        """Whether it can say in which transaction a record was inserted."""
        return self.type_oid == _XID8


@dataclass(frozen=True, slots=True)
class Table:
    """What a query has not: ``filenode`` changes whenever all rows are written anew.

    ``in_order`` says that an index leads from an account to its records in order of time.
    """

    oid: int
    name: str
    kind: str
    filenode: int | None
    has_children: bool
    in_order: bool

    @property
    def is_ordinary(self) -> bool:
        """Whether all of its rows lie in this one file."""
        return self.kind == "r" and not self.has_children

    @property
    def is_declared(self) -> bool:
        """Whether NOT NULL of its columns can be relied on."""
        return self.kind in ("r", "p")

    @property
    def what(self) -> str:
        """Its kind in words."""
        return "table with children" if self.kind == "r" and self.has_children else _TABLES[self.kind]


@dataclass(frozen=True, slots=True)
class Relation:
    """The table, view or query that records are read from; ``origin`` calls it ``records``."""

    origin: sql.Composable
    columns: Mapping[str, Column]
    table: Table | None

    def select(self, what: sql.Composable, terms: Iterable[sql.Composable], tail: str = "") -> sql.Composed:
        """A statement over the records."""
        where = sql.SQL(" AND ").join([*terms, sql.SQL("TRUE")])
        return sql.SQL("SELECT {} FROM {} WHERE {} ").format(what, self.origin, where) + sql.SQL(tail)

    def column(self, name: str) -> Column:
        """A column that has to be there; SourceError, naming the nearest, if it is not."""
        require_columns(self.columns, (name,), SourceError)
        return self.columns[name]


def inspect(
    session: Session, table: str | None, query: str | None, roles: Roles, commit: str | None
) -> Relation:
    """Find the table or try the query, and make sure of its columns; SourceError if they will not do."""
    relation = _query(session, query) if query is not None else _table(session, table or "", roles)
    for name in (roles.id, roles.time, roles.account, *([commit] if commit else ())):
        relation.column(name)
    return relation


def require_columns(
    columns: Collection[str], wanted: Iterable[str], failure: type[SourceError | MissingColumn]
) -> None:
    """Raise ``failure`` for a column that there is not, naming the nearest."""
    for name in wanted:
        if name not in columns:
            raise failure(f"the source has no column {name!r}", hint=_nearest(name, list(columns), "columns"))


def _query(session: Session, query: str) -> Relation:
    origin = sql.SQL("({}\n) AS records").format(sql.SQL(query.strip().rstrip("; \n\t")))
    cursor = session.connection.execute(sql.SQL("SELECT * FROM {} LIMIT 0").format(origin))
    entries = [(entry.name, entry.type_code) for entry in cursor.description or ()]
    statement = sql.SQL("SELECT {} FROM pg_type t WHERE t.oid = ANY({})").format(
        _TYPE, sql.SQL("ARRAY[{}]::oid[]").format(sql.SQL(",").join([sql.Literal(oid) for _, oid in entries]))
    )
    types = {cast("int", row[0]): row for row in session.rows(statement)}
    columns = [_column(name, types[oid]) for name, oid in entries]
    names = [name for name, _ in entries]
    if twice := next((name for name in names if names.count(name) > 1), None):
        message = f"source.query gives two columns the name {twice!r}"
        raise SourceError(message, hint="name one of them otherwise: … AS another_name")
    return Relation(origin, {column.name: column for column in columns}, None)


def _table(session: Session, text: str, roles: Roles) -> Relation:
    table = _find(session, text, roles)
    rows = session.rows(_COLUMNS.format(oid=sql.Literal(table.oid), type=_TYPE))
    columns = [_column(str(row[0]), row[2:], required=bool(row[1])) for row in rows]
    origin = sql.SQL("{} AS records").format(sql.SQL(table.name))
    return Relation(origin, {column.name: column for column in columns}, table)


def regclass(text: str) -> sql.Composable:
    """A table by its name as in SQL; a name with capitals need not be quoted as it must be in SQL."""
    parts = _parts(text)
    exact = ".".join(_quoted(part) for part, _ in parts)
    folded = ".".join(_quoted(part if is_quoted else part.lower()) for part, is_quoted in parts)
    spellings = sql.Literal(folded), sql.Literal(exact)
    return sql.SQL("coalesce(to_regclass({}), to_regclass({}))").format(*spellings)


def _find(session: Session, text: str, roles: Roles) -> Table:
    named = {"account": sql.Literal(roles.account), "time": sql.Literal(roles.time)}
    row = session.row(_FIND_TABLE.format(oid=regclass(text), **named))
    if row is None:
        tables = [str(name) for (name,) in session.rows(_ALL_TABLES)]
        hint = _nearest(text, tables, "tables")
        raise SourceError(f"the source has no table {text!r}", hint=hint)
    oid, schema, name, kind, filenode, has_children, in_order = row
    if kind not in _TABLES:
        raise SourceError(f"{text!r} is no table", hint="source.table must name a table or a view")
    return Table(
        oid=cast("int", oid),
        name=f"{_quoted(str(schema))}.{_quoted(str(name))}",
        kind=str(kind),
        filenode=cast("int | None", filenode),
        has_children=bool(has_children),
        in_order=bool(in_order),
    )


def _parts(text: str) -> list[tuple[str, bool]]:
    """The parts of a name, and whether each stood in quotes."""
    found = list(_NAME.finditer(text.strip()))
    is_whole = "".join(part[0] for part in found) == text.strip() and not text.strip().endswith(".")
    if not is_whole or len(found) not in (1, 2):
        raise SourceError(
            f"source.table: {text!r} is no name of a table",
            hint='name it as table or schema.table, in double quotes where there is a dot in it: "a.b"',
        )
    return [
        (quoted.replace('""', '"'), True) if quoted else (plain, False)
        for quoted, plain in (part.groups() for part in found)
    ]


def _quoted(name: str) -> str:
    """A name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def _column(name: str, row: Sequence[object] | Row, *, required: bool = False) -> Column:
    type_oid, type_name, is_text, made_json = row
    oid = cast("int", type_oid)
    kind = Kind.JSON if made_json else _KINDS.get(oid, Kind.TEXT)
    return Column(name, oid, str(type_name), kind, bool(is_text), bool(made_json), required)


def _nearest(name: str, there: Sequence[str], what: str) -> str:
    by_lower_case = {one.lower(): one for one in there}
    near = [by_lower_case[one] for one in difflib.get_close_matches(name.lower(), by_lower_case, n=3)]
    if near:
        return f"did you mean {' or '.join(map(repr, near))}?"
    return f"it has the {what} {', '.join(there)}" if there else f"it has no {what}"
