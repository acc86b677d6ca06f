"""Opening a SQLite file to read it, in one transaction, and saying what is wrong with it.

Read-only in three ways: the URI, `query_only`, and no statement here that writes; `apply` alone, which
an administrator asks for, does. It must not know what records mean; it knows files, tables, columns and
indexes.
"""

from __future__ import annotations

import difflib
import re
import sqlite3
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

from exporter.errors import MissingColumn, SourceBusy, SourceError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from exporter.columns import Roles
    from exporter.model import Statement

_OPEN_HINT = "this process must be able to read the file; in WAL mode also to write to its folder"
_OTHER_HINT = "check source.table, source.query and source.columns; try the statement in the sqlite3 shell"
_TRANSLATION: dict[int, tuple[type[SourceError], str, str]] = {
    sqlite3.SQLITE_BUSY: (
        SourceBusy,
        "is locked by a writer",
        "the next run tries again; PRAGMA journal_mode=WAL lets readers and writers work side by side",
    ),
    sqlite3.SQLITE_NOTADB: (SourceError, "is not a SQLite database", "point source.url at the database file"),
    sqlite3.SQLITE_CORRUPT: (
        SourceError,
        "is damaged",
        "run PRAGMA integrity_check; restore it from a backup",
    ),
    sqlite3.SQLITE_CANTOPEN: (SourceError, "cannot be opened", _OPEN_HINT),
    sqlite3.SQLITE_PERM: (SourceError, "cannot be opened: no permission", _OPEN_HINT),
    sqlite3.SQLITE_READONLY: (SourceError, "cannot be opened for reading alone", _OPEN_HINT),
    sqlite3.SQLITE_IOERR: (
        SourceError,
        "cannot be read: the disk answered with an error",
        "look at the disk of the database, and for room in the temporary folder, where SQLite sorts",
    ),
    sqlite3.SQLITE_FULL: (SourceError, "cannot be sorted: no room", "free space in the temporary folder"),
}
_PRIMARY_CODE = 0xFF
_NOT_SQL_WORDS = re.compile(
    r"--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|`[^`]*`|\[[^\]]*\]", re.DOTALL
)
_AUTOINCREMENT = re.compile(r"\bAUTOINCREMENT\b", re.IGNORECASE)
_IS_JSON = re.compile("JSON", re.IGNORECASE)
_HAS_ONE_FORM = re.compile("INT|CHAR|CLOB|TEXT", re.IGNORECASE)  # what SQLite looks for in a declared type
_STORED = (0, 3)  # usual columns, and generated ones whose values are stored
_HOLDS_INTEGERS = re.compile("INT", re.IGNORECASE)  # what it looks for first


@dataclass(frozen=True, slots=True)
class Relation:
    """The table, view or query that records are read from.

    ``table`` is None for a view or a query, of which nobody can say that ids are never used again.
    ``by_account`` says that an index leads from an account to its ids in order; ``one_form`` that an
    account is compared in one form, because the column is declared to hold text or integers; ``one_forms``
    are all columns of which that is so, and ``integers`` those of them that are to hold integers. ``is_utf8``
    says in which encoding texts are stored.
    """

    rows: str
    names: tuple[str, ...]
    json_text: frozenset[str] = frozenset()
    table: str | None = None
    autoincrement: bool = False
    by_account: bool = False
    one_form: bool = False
    one_forms: frozenset[str] = frozenset()
    integers: frozenset[str] = frozenset()
    is_utf8: bool = False
    stored: frozenset[str] = frozenset()

    @property
    def origin(self) -> str:
        """What follows FROM."""
        return f"{self.rows} AS records"

    @property
    def earlier(self) -> str:
        """The same for a look from one of the records at others."""
        return f"{self.rows} AS earlier"


@contextmanager
def reading(path: Path, busy_timeout_s: float) -> Iterator[sqlite3.Connection]:
    """A connection inside one read transaction: everything on it sees the same moment."""
    _require_file(path)
    with translated(path):
        connection = sqlite3.connect(
            f"file:{quote(str(path.absolute()))}?mode=ro",
            uri=True,
            timeout=busy_timeout_s,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            connection.execute("PRAGMA query_only = 1")
            connection.execute("BEGIN")
            yield connection
        finally:
            connection.close()


def apply(path: Path, statement: Statement, busy_timeout_s: float = 60) -> None:
    """Run what an administrator asked for: the one thing here that writes."""
    _require_file(path)
    with translated(path), closing(sqlite3.connect(path, timeout=busy_timeout_s)) as connection:
        connection.execute(statement.sql)


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """SQLite's errors as ours."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & _PRIMARY_CODE
        kind, message, hint = _TRANSLATION.get(code, (SourceError, f"cannot be read: {error}", _OTHER_HINT))
        raise kind(f"{path} {message}", hint=hint) from error


def inspect(connection: sqlite3.Connection, table: str | None, query: str | None, roles: Roles) -> Relation:
    """Find the table or try the query, and make sure of its columns; SourceError if they will not do."""
    if query is not None:
        relation = _inspect_query(connection, query)
    else:
        relation = _inspect_table(connection, table or "", roles)
    require_columns(relation.names, (roles.id, roles.time, roles.account), SourceError)
    if relation.table is not None:
        _require_row_id(connection, relation.table, roles.id)
    return relation


def require_columns(
    names: Sequence[str], wanted: Iterable[str], failure: type[SourceError | MissingColumn]
) -> None:
    """Raise ``failure`` for a column that there is not, naming the nearest."""
    for name in wanted:
        if name not in names:
            raise failure(f"the source has no column {name!r}", hint=_nearest(name, names, "columns"))


def select(origin: str, what: str, terms: Iterable[str] = (), tail: str = "") -> str:
    """A statement. Names in it are quoted, values are parameters, and a query is the vendor's own."""
    where = " AND ".join(terms) or "TRUE"
    return f"SELECT {what} FROM {origin} WHERE {where} {tail}"  # noqa: S608 - see above


def quoted(name: str) -> str:
    """A name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def _require_file(path: Path) -> None:
    try:
        is_file, exists = path.is_file(), path.exists()
    except OSError as error:
        raise SourceError(f"{path} cannot be opened: {error.strerror}", hint=_OPEN_HINT) from error
    if not exists:
        raise SourceError(
            f"there is no database {path}",
            hint="check source.url; `audit-exporter init` makes a sample database",
        )
    if not is_file:
        raise SourceError(f"{path} is not a file", hint="point source.url at the database file")


def _inspect_query(connection: sqlite3.Connection, query: str) -> Relation:
    """Columns of a query have no declared type: JSON in them counts as text. A view keeps the types."""
    rows = f"({query.strip().rstrip(';')}\n)"
    return Relation(rows, _names(connection, rows))


def _inspect_table(connection: sqlite3.Connection, table: str, roles: Roles) -> Relation:
    found = connection.execute(
        "SELECT name, type, sql FROM sqlite_master"
        " WHERE name = ? COLLATE NOCASE AND type IN ('table', 'view')",
        (table,),
    ).fetchone()
    if found is None:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")
        raise SourceError(
            f"the source has no table {table!r}", hint=_nearest(table, [name for (name,) in tables], "tables")
        )
    name, kind, sql = found
    rows = quoted(name)
    names = _names(connection, rows)
    columns = connection.execute("SELECT name, type, hidden FROM pragma_table_xinfo(?)", (name,)).fetchall()
    types = {column: declared for column, declared, _ in columns}
    json_text = frozenset(column for column, declared in types.items() if _IS_JSON.search(declared or ""))
    if kind == "view":
        return Relation(rows, names, json_text)
    one_forms = frozenset(one for one, declared in types.items() if _HAS_ONE_FORM.search(declared or ""))
    return Relation(
        rows,
        names,
        json_text,
        name,
        autoincrement=_AUTOINCREMENT.search(_NOT_SQL_WORDS.sub(" ", sql or "")) is not None,
        by_account=_leads_to_ids(connection, name, roles),
        one_form=roles.account in one_forms,
        one_forms=one_forms,
        integers=frozenset(one for one in one_forms if _HOLDS_INTEGERS.search(types[one])),
        is_utf8=connection.execute("PRAGMA encoding").fetchone() == ("UTF-8",),
        stored=frozenset(column for column, _, hidden in columns if hidden in _STORED),
    )


def _names(connection: sqlite3.Connection, rows: str) -> tuple[str, ...]:
    """The columns of what comes out, without reading any of it."""
    cursor = connection.execute(select(f"{rows} AS records", "*", tail="LIMIT 0"))
    return tuple(entry[0] for entry in cursor.description)


def _require_row_id(connection: sqlite3.Connection, table: str, column: str) -> None:
    """Only the row id grows as records become visible, whatever else is unique."""
    # An INTEGER PRIMARY KEY that is the row id is the only primary key without an index of its own.
    is_row_id = connection.execute(
        "SELECT (SELECT group_concat(name, '') FROM pragma_table_xinfo(:table) WHERE pk) = :column"
        " AND NOT EXISTS (SELECT 1 FROM pragma_index_list(:table) WHERE origin = 'pk')",
        {"table": table, "column": column},
    ).fetchone()
    if is_row_id != (1,):
        message = f"the column {column!r} of {table!r} is not an INTEGER PRIMARY KEY"
        hint = (
            "columns.id must name the table's INTEGER PRIMARY KEY AUTOINCREMENT: it grows as records appear"
        )
        raise SourceError(message, hint=hint)


def _leads_to_ids(connection: sqlite3.Connection, table: str, roles: Roles) -> bool:
    """Whether an index is on (account) or (account, id, …), and so holds an account's ids in order."""
    rows = connection.execute(
        "SELECT indexes.name, columns.name"
        " FROM pragma_index_list(?) AS indexes, pragma_index_info(indexes.name) AS columns"
        " WHERE NOT indexes.partial ORDER BY indexes.name, columns.seqno",
        (table,),
    ).fetchall()
    indexes: dict[str, list[str]] = {}
    for index, column in rows:
        indexes.setdefault(index, []).append(column)
    return any(columns[:2] in ([roles.account], [roles.account, roles.id]) for columns in indexes.values())


def _nearest(name: str, there: Sequence[str], what: str) -> str:
    by_lower_case = {one.lower(): one for one in there}
    near = [by_lower_case[one] for one in difflib.get_close_matches(name.lower(), by_lower_case, n=3)]
    if near:
        return f"did you mean {' or '.join(map(repr, near))}?"
    return f"it has the {what} {', '.join(there)}" if there else f"it has no {what}"
