"""What is read: a table, a view or a query, its columns, and the table that gives out its positions.

SQL is put together here and in `ranges` from three things alone: names in backticks, numbers, and
texts in hexadecimal, which no SQL mode reads otherwise. It must not know ranges.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from pymysql.constants import FLAG

from exporter.errors import MissingColumn, SourceError
from exporter.sources.mysql.connection import TAG
from exporter.sources.mysql.positions import Origin
from exporter.sources.mysql.values import BINARY_COLLATION, Kind, kind_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from exporter.columns import Roles
    from exporter.sources.mysql.connection import Session

_NAME = re.compile(r"`((?:[^`]|``)+)`|([^`.\s]+)")
_IS_JSON = re.compile(r"json_valid\(`((?:[^`]|``)+)`\)", re.IGNORECASE)
_GIVES_POSITIONS = (
    "columns.id, or columns.commit if there is one, must name an AUTO_INCREMENT column of InnoDB"
)
_PLAIN_QUERY = (
    f"{_GIVES_POSITIONS}, which the query takes as it is from a table in its FROM: "
    "no view, no sub-query there, no UNION, DISTINCT, GROUP BY or LIMIT"
)

# ucs2 and utf16 sort otherwise beyond the basic plane; Latin-1 does as Unicode, but for Microsoft's signs.
_SORTED_AS_UTF8 = ("utf8mb4", "utf8mb3", "utf8", "ascii")

_FIND_TABLE: Final = """
    SELECT TABLE_SCHEMA, TABLE_NAME, TABLE_TYPE, ENGINE FROM information_schema.TABLES
    WHERE TABLE_SCHEMA = {schema} AND TABLE_NAME = {table}
"""
_ALL_TABLES: Final = (
    "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = {schema} ORDER BY 1"
)
_FIND_INDEX: Final = """
    SELECT INDEX_NAME FROM information_schema.STATISTICS
    WHERE TABLE_SCHEMA = {schema} AND TABLE_NAME = {table} AND COLUMN_NAME = {column}
    AND SEQ_IN_INDEX = 1 AND INDEX_TYPE = 'BTREE' ORDER BY NON_UNIQUE, INDEX_NAME <> 'PRIMARY', INDEX_NAME
"""
_COLLATIONS: Final = """
    SELECT ID, CHARACTER_SET_NAME, COLLATION_NAME FROM information_schema.COLLATIONS WHERE ID IN ({ids})
"""


Homes = Mapping[str, tuple[str, str, str]]
"""Of columns by name, the schema, table and name there that each comes from; parts of it may be empty."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of what is read. ``charset`` is that of its texts, None where nobody knows it.

    ``in_byte_order`` says that it sorts and compares as its bytes in UTF-8 do.
    """

    name: str
    kind: Kind
    flags: int
    charset: str | None
    in_byte_order: bool
    scale: int
    of: str = "records"

    @property
    def value(self) -> str:
        """The column by its name."""
        return f"{self.of}.{quoted(self.name)}"

    @property
    def shown(self) -> str:
        """What is asked for: a number of single precision with all its digits."""
        return f"{self.value} + 0e0" if self.kind is Kind.FLOAT else self.value

    @property
    def bytes(self) -> str:
        """Its text in UTF-8, as bytes: neither case nor accents nor spaces at the end are lost on them."""
        if self.kind is Kind.BYTES:
            return f"CAST({self.value} AS BINARY)"
        return f"CAST(CONVERT({self.value} USING utf8mb4) AS BINARY)"

    @property
    def gives_positions(self) -> bool:
        """Whether it is AUTO_INCREMENT, and comes through as it is."""
        return self.kind is Kind.INTEGER and bool(self.flags & FLAG.AUTO_INCREMENT)


@dataclass(frozen=True, slots=True)
class Table:
    """A table or view as the server knows it."""

    schema: str
    name: str
    type: str
    engine: str

    @property
    def sql(self) -> str:
        """Its name."""
        return f"{quoted(self.schema)}.{quoted(self.name)}"

    @property
    def is_view(self) -> bool:
        """Whether its rows are of other tables."""
        return self.type == "VIEW"


@dataclass(frozen=True, slots=True)
class Relation:
    """The table, view or query that records are read from, under the name ``alias``."""

    rows: str
    columns: Mapping[str, Column]
    json_text: frozenset[str]
    position: Column
    origin: Origin
    home: Table
    """The table, or view, that the positions come from; of a table, itself."""
    is_query: bool
    alias: str = "records"

    def called(self, alias: str) -> Relation:
        """The same under another name, for a look from one of the records at others."""
        columns = {name: replace(column, of=alias) for name, column in self.columns.items()}
        return replace(self, alias=alias, columns=columns, position=replace(self.position, of=alias))

    def select(self, what: str, terms: Iterable[str], tail: str = "") -> str:
        """A statement over the records."""
        where = " AND ".join(terms) or "TRUE"
        source = f"{self.rows} AS {self.alias}"
        return f"SELECT {TAG} {what} FROM {source} WHERE {where} {tail}"  # noqa: S608 - see the module

    def column(self, name: str) -> Column:
        """A column that has to be there; SourceError, naming the nearest, if it is not."""
        require_columns(self.columns, (name,), SourceError)
        return self.columns[name]


def inspect(
    session: Session, given: tuple[str | None, str | None], database: str, roles: Roles, commit: str | None
) -> Relation:
    """Find the table or try the query (``given``), and make sure of its columns; else SourceError."""
    table, query = given
    if query is not None:
        query = query.strip().rstrip("; \n\t")
        found, rows = None, f"({query}\n)"
    else:
        found = _table(session, table or "", database)
        rows = found.sql
    columns = _columns(session, f"{rows} AS records")
    require_columns(columns, (roles.id, roles.time, roles.account, *filter(None, [commit])), SourceError)
    position = columns[commit or roles.id]
    homes = _homes(session, query) if query else _all_in(found, columns)
    home = found or _home_of(session, homes, position)
    _require_positions(home, position)
    return Relation(
        rows=rows,
        columns=columns,
        json_text=_json_columns(session, home, columns, homes),
        position=position,
        origin=_origin(session, home, homes, position.name, [columns[roles.time], columns[roles.account]]),
        home=home,
        is_query=query is not None,
    )


def require_columns(
    columns: Collection[str], wanted: Iterable[str], failure: type[SourceError | MissingColumn]
) -> None:
    """Raise ``failure`` for a column that there is not, naming the nearest."""
    for name in wanted:
        if name not in columns:
            raise failure(f"the source has no column {name!r}", hint=nearest(name, list(columns), "columns"))


def quoted(name: str) -> str:
    """A name as an SQL identifier."""
    return "`" + name.replace("`", "``") + "`"


def literal(text: str | bytes) -> str:
    """A text in UTF-8, or bytes, as SQL."""
    if isinstance(text, bytes):
        return f"X'{text.hex()}'"
    # Of a key that the ledger gave back, text that was not UTF-8 still has its own bytes.
    return f"_utf8mb4 X'{text.encode(errors='surrogateescape').hex()}'"


def nearest(name: str, there: Sequence[str], what: str) -> str:
    """A hint: which of the names that there are was meant."""
    by_lower_case = {one.lower(): one for one in there}
    near = [by_lower_case[one] for one in difflib.get_close_matches(name.lower(), by_lower_case, n=3)]
    if near:
        return f"did you mean {' or '.join(map(repr, near))}?"
    return f"it has the {what} {', '.join(there)}" if there else f"it has no {what}"


def _table(session: Session, text: str, database: str) -> Table:
    parts = [tick.replace("``", "`") or plain for tick, plain in _NAME.findall(text)]
    is_whole = text.strip() == ".".join(part[0] for part in _NAME.finditer(text))
    if not is_whole or len(parts) not in (1, 2):
        raise SourceError(
            f"source.table: {text!r} is no name of a table",
            hint="name it as table or database.table, in backticks where there is a dot in it: `a.b`",
        )
    schema, name = parts if len(parts) > 1 else (database, parts[0])
    found = _find(session, schema, name)
    if found is None:
        tables = [one for (one,) in session.texts(_ALL_TABLES.format(schema=literal(schema)))]
        raise SourceError(f"the source has no table {text!r}", hint=nearest(name, tables, "tables"))
    return found


def _find(session: Session, schema: str, name: str) -> Table | None:
    found = session.texts(_FIND_TABLE.format(schema=literal(schema), table=literal(name)))
    return Table(*found[0]) if found else None


def _columns(session: Session, source: str) -> dict[str, Column]:
    """The columns of what comes out, without reading any of it."""
    # Without a character set for results, each text column says its own.
    session.rows("SET character_set_results = NULL")
    fields = session.fields(f"SELECT * FROM {source} LIMIT 0")  # noqa: S608 - see the module
    session.rows("SET character_set_results = utf8mb4")
    ids = ",".join(str(number) for number in sorted({field.charsetnr for field in fields}))
    found = session.texts(_COLLATIONS.format(ids=ids))
    collations = {int(number): (charset, name) for number, charset, name in found}
    return {field.name: _column(field, *collations.get(field.charsetnr, (None, ""))) for field in fields}


def _column(field: Any, charset: str | None, collation: str) -> Column:  # noqa: ANN401 - the driver's packet
    kind = kind_of(field.type_code, field.charsetnr, field.flags, field.scale)
    in_byte_order = field.charsetnr == BINARY_COLLATION or (
        charset in _SORTED_AS_UTF8 and collation.endswith("_bin") and not field.flags & (FLAG.ENUM | FLAG.SET)
    )
    return Column(field.name, kind, field.flags, charset, in_byte_order, field.scale)


def _all_in(table: Table | None, columns: Iterable[str]) -> Homes:
    return {name: (table.schema, table.name, name) for name in columns} if table else {}


def _homes(session: Session, query: str) -> Homes:
    """Where each column of a query comes from, if it comes as it is."""
    session.rows("SET SESSION sql_select_limit = 0")
    fields = session.fields(query)
    session.rows("SET SESSION sql_select_limit = 18446744073709551615")
    return {field.name: (field.db.decode(), field.org_table, field.org_name) for field in fields}


def _home_of(session: Session, homes: Homes, position: Column) -> Table:
    schema, table, _ = homes[position.name]
    found = _find(session, schema, table) if position.gives_positions else None
    if found is None or found.is_view:
        message = f"nobody can say which table gives out the positions of {position.name!r}"
        raise SourceError(message, hint=_PLAIN_QUERY)
    return found


def _require_positions(home: Table, position: Column) -> None:
    if not position.gives_positions:
        raise SourceError(f"the column {position.name!r} is not AUTO_INCREMENT", hint=_GIVES_POSITIONS)
    if not home.is_view and home.engine != "InnoDB":
        raise SourceError(
            f"the table {home.name!r} is of the engine {home.engine}, not InnoDB",
            hint=f"ALTER TABLE {home.sql} ENGINE=InnoDB",
        )


def _origin(session: Session, home: Table, homes: Homes, position: str, evidence: Sequence[Column]) -> Origin:
    """The table of the positions, with those of the other columns that it has, under whatever name."""
    column = homes[position][2]
    names = {"schema": literal(home.schema), "table": literal(home.name), "column": literal(column)}
    indexes = session.texts(_FIND_INDEX.format(**names))
    own = [one for one in evidence if homes[one.name][:2] == (home.schema, home.name)]
    return Origin(
        table=home.sql,
        column=quoted(column),
        index=quoted(indexes[0][0]) if indexes else None,
        evidence=tuple(_lasting(one.kind, quoted(homes[one.name][2])) for one in own),
    )


def _lasting(kind: Kind, name: str) -> str:
    """A column as it stays when a time is given more digits."""
    return f"CAST({name} AS DATETIME(6))" if kind in (Kind.DATE, Kind.DATETIME, Kind.TIMESTAMP) else name


def _json_columns(
    session: Session, home: Table, columns: Mapping[str, Column], homes: Homes
) -> frozenset[str]:
    """The columns declared as JSON, which in MariaDB is text that has to be valid. A view does not say."""
    declared: set[str] = set()
    if session.server.is_mariadb and not home.is_view:
        (_, created), *_ = session.texts(f"SHOW CREATE TABLE {home.sql}")
        declared = {name.replace("``", "`") for name in _IS_JSON.findall(created)}
    return frozenset(
        name
        for name, column in columns.items()
        if column.kind in (Kind.JSON, Kind.DECIMAL)  # a decimal's digits are JSON as they are
        or (homes[name][:2] == (home.schema, home.name) and homes[name][2] in declared)
    )
