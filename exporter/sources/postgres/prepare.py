"""`source prepare`: the SQL that gives a PostgreSQL table a position, two indexes and a role to read it.

Only what is missing, for an administrator to read and to run; the role that reads is enough to look. Nothing
here rewrites the table or holds the application up for longer than ``LOCK_TIMEOUT``. It must not know
passwords: a new role has none until somebody gives it one.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

import psycopg
from psycopg import sql

from exporter.errors import ExporterError, SourceBusy, SourceError
from exporter.model import Statement
from exporter.sources.derived import require_derived
from exporter.sources.postgres.connection import Database
from exporter.sources.postgres.errors import translated
from exporter.sources.postgres.indexes import (
    LOCK_TIMEOUT,
    Catalogue,
    Wanted,
    by_position,
    by_time,
    by_value,
    guarded,
)
from exporter.sources.postgres.privileges import rights
from exporter.sources.postgres.relation import inspect

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from exporter.columns import Roles
    from exporter.sources.derived import FirstOf
    from exporter.sources.postgres.connection import PostgresOptions, Session
    from exporter.sources.postgres.relation import Relation, Table

POSITION: Final = "export_xid"
READER: Final = "audit_exporter"
_OTHER_POSITIONS: Final = ("export_xid8", "audit_export_xid", "audit_export_xid8")
_CONCURRENTLY: Final = " CONCURRENTLY "
_FILLED: Final = sql.SQL("""
    SELECT a.attname::text FROM pg_attribute a
        JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE a.attrelid = {table} AND a.atttypid = 'xid8'::regtype
        AND pg_get_expr(d.adbin, d.adrelid) = 'pg_current_xact_id()'
    ORDER BY a.attnum
""")
# A role that is not there yet has what everybody has.
_GRANTED: Final = sql.SQL("""
    SELECT r.oid IS NOT NULL, current_database()::text, n.nspname::text,
        has_database_privilege(as_role, current_database(), 'CONNECT'),
        has_schema_privilege(as_role, n.oid, 'USAGE'), has_table_privilege(as_role, c.oid, 'SELECT'),
        coalesce('default_transaction_read_only=on' = ANY (r.rolconfig), FALSE),
        NOT c.relrowsecurity OR coalesce(r.rolbypassrls OR r.rolsuper, FALSE)
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        LEFT JOIN pg_roles r ON r.rolname = {role}, coalesce(r.rolname, 'public') AS as_role
    WHERE c.oid = {table}
""")


@dataclass(frozen=True, slots=True)
class _Wishes:
    """What is configured: the position's column, and the indexes beside the one that begins with it."""

    roles: Roles
    commit: str | None
    indexes: Sequence[Wanted | None]


def statements(
    options: PostgresOptions,
    table: str | None,
    roles: Roles,
    commit: str | None = None,
    derived: Sequence[FirstOf] = (),
) -> Sequence[Statement]:
    """What is missing, in the order in which it has to be run. ``commit`` is the configured position.

    Raises SourceError for what is no table: it has to be done by hand, to the tables behind.
    """
    if table is None:
        raise _by_hand("a query", roles)
    database = Database(options)
    with closing(database), database.reading() as session:
        relation = inspect(session, table, None, roles, None)
        if relation.table is None or not relation.table.is_declared:
            raise _by_hand(f"a {relation.table.what}" if relation.table else "a query", roles)
        require_derived(derived, relation.columns)
        wanted = [by_time(relation, roles), *(by_value(relation, roles, first) for first in derived)]
        return list(_statements(session, relation, relation.table, _Wishes(roles, commit, wanted)))


def apply(options: PostgresOptions, statement: Statement) -> None:
    """Run one of the statements, as its administrator, connected to the server itself and not to a pooler.

    Whoever only holds a lock for long gets SourceBusy; an index that is built waits as long as it takes.
    """
    database = Database(options)
    with translated(database.place), closing(database.connect()) as connection:
        patience = "0" if _CONCURRENTLY in statement.sql else LOCK_TIMEOUT
        connection.execute(f"SET statement_timeout = 0; SET lock_timeout = '{patience}'")
        try:
            connection.execute(sql.SQL(statement.sql))
        except psycopg.Error as error:
            if error.sqlstate is None:
                raise
            raise _refusal(error) from error


def _statements(session: Session, relation: Relation, table: Table, wishes: _Wishes) -> Iterator[Statement]:
    roles, commit = wishes.roles, wishes.commit
    position = _position(session, relation, table, commit)
    if position is None:
        names = (*([commit] if commit else ()), POSITION, *_OTHER_POSITIONS)
        position = next(name for name in names if name not in relation.columns)
        yield _add_position(table, position)
    for name in (roles.id, position):
        if name in relation.columns and not relation.column(name).required:
            yield _require(table, name)
    catalogue = Catalogue(session, table)
    for wanted in dict.fromkeys((by_position(relation, roles, position), *wishes.indexes)):
        yield from catalogue.missing(wanted) if wanted else ()
    yield from _grants(session, table)


def _position(session: Session, relation: Relation, table: Table, commit: str | None) -> str | None:
    """The configured column, else one that is filled with the inserting transaction."""
    if commit is not None:
        column = relation.columns.get(commit)
        return commit if column is not None and column.is_position else None
    row = session.row(_FILLED.format(table=sql.Literal(table.oid)))
    return None if row is None else str(row[0])


def _add_position(table: Table, name: str) -> Statement:
    reason = (
        "no column says in which transaction a record was inserted; adding it rewrites nothing; "
        f"once it is there, and not before, set columns.commit: {name}"
    )
    added = f"ALTER TABLE {table.name} ADD COLUMN {_quoted(name)} xid8 NOT NULL DEFAULT pg_current_xact_id()"
    return Statement(reason, guarded(added))


def _require(table: Table, name: str) -> Statement:
    reason = f"a record without {name} would be lost; this reads the whole table and locks it while it does"
    return Statement(reason, guarded(f"ALTER TABLE {table.name} ALTER COLUMN {_quoted(name)} SET NOT NULL"))


def _grants(session: Session, table: Table) -> Iterator[Statement]:
    """What a role needs to read: our own if it may do nothing else, else one that is made for it."""
    own = rights(session, table)
    role = own.role if own.may_only_read else READER
    granted = session.row(_GRANTED.format(role=sql.Literal(role), table=sql.Literal(table.oid)))
    exists, database, schema, connects, uses, selects, only_reads, sees_all = cast(
        "tuple[object, ...]", granted
    )
    to = _quoted(role)
    if not exists:
        reason = f"a role that may read and no more; give it a password: \\password {role} in psql"
        yield Statement(reason, f"CREATE ROLE {to} LOGIN")
    if not connects:
        reason = f"{role} has to reach the database"
        yield Statement(reason, f"GRANT CONNECT ON DATABASE {_quoted(str(database))} TO {to}")
    if not uses:
        yield Statement(
            f"{role} has to find the table", f"GRANT USAGE ON SCHEMA {_quoted(str(schema))} TO {to}"
        )
    if not selects:
        yield Statement(f"{role} has to read the table", f"GRANT SELECT ON {table.name} TO {to}")
    if not sees_all:
        reason = f"row-level security hides records from {role}, and what is hidden is not delivered"
        yield Statement(reason, f"ALTER ROLE {to} BYPASSRLS")
    if role == READER and not only_reads:
        reason = f"{role} never writes, whatever else it may be allowed"
        yield Statement(reason, f"ALTER ROLE {to} SET default_transaction_read_only = on")


def _by_hand(what: str, roles: Roles) -> SourceError:
    return SourceError(
        f"the records come from {what}, which cannot be prepared",
        hint=(
            "do it to the table behind, and let its columns through: an xid8 column NOT NULL DEFAULT "
            f"pg_current_xact_id(), indexes on ({roles.account}, that column) and on "
            f"({roles.account}, {roles.time}, {roles.id}), and a role that may select and no more"
        ),
    )


def _refusal(error: psycopg.Error) -> ExporterError:
    """The server's own words: they name tables and roles, no record."""
    said = error.diag.message_primary or type(error).__name__
    if isinstance(error, psycopg.errors.InsufficientPrivilege | psycopg.errors.ReadOnlySqlTransaction):
        hint = "name a role that may change the table in source.admin_url"
        return SourceError(f"the role may not do this: {said}", hint=hint)
    if isinstance(error, psycopg.errors.LockNotAvailable):
        hint = (
            "transactions that use the table hold it up, pg_stat_activity says whose; wait for a quiet moment"
        )
        return SourceBusy(f"the table is in use: {said}", hint=hint)
    return SourceError(f"the server refuses it: {said}", hint="run it in psql, where it says more")


def _quoted(name: str) -> str:
    return sql.Identifier(name).as_string()
