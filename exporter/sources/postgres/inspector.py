"""What is read, looked at anew in every transaction in which it is another than before.

Looking at a table costs two large statements on the catalogue, which most readings can do without: one small
one tells whether any row of the catalogue that says something about the table has changed. It must not
guess: what it cannot tell so is looked at as ever.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from psycopg import sql

from exporter.sources.postgres.relation import inspect, regclass

if TYPE_CHECKING:
    from exporter.columns import Roles
    from exporter.sources.postgres.connection import Session
    from exporter.sources.postgres.relation import Relation

# A row of the catalogue that is changed gets another xmin; but for what is changed in place, which is here
# by its value. The file is asked for as it is now, because a rewritten one has to be noticed.
_MARK: Final = sql.SQL("""
    SELECT c.oid::bigint, c.xmin::text, pg_relation_filenode(c.oid)::bigint,
        (SELECT nspname::text FROM pg_namespace WHERE oid = c.relnamespace),
        (
            SELECT array_agg(xmin::text ORDER BY attnum)
            FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0
        ),
        (
            SELECT array_agg(ARRAY[indexrelid::text, xmin::text, indisvalid::text] ORDER BY indexrelid)
            FROM pg_index WHERE indrelid = c.oid
        ),
        EXISTS (SELECT FROM pg_inherits WHERE inhparent = c.oid)
    FROM pg_class c WHERE c.oid = {}
""")


class Inspector:
    """Finds the table or the query and its columns; safe to use from several threads."""

    def __init__(self, table: str | None, query: str | None, roles: Roles, commit: str | None) -> None:
        self._table = table
        self._query = query
        self._roles = roles
        self._commit = commit
        self._known: tuple[object, Relation] | None = None

    def inspect(self, session: Session) -> Relation:
        """What there is in this transaction; SourceError if it will not do."""
        # Asked first: what changes between this and the look is another mark for the next transaction.
        mark, known = self._mark(session), self._known
        if mark is not None and known is not None and known[0] == mark:
            return known[1]
        relation = inspect(session, self._table, self._query, self._roles, self._commit)
        self._known = (mark, relation)
        return relation

    def _mark(self, session: Session) -> object:
        """The same as long as all that is known of the table is; None for what cannot be told so."""
        if self._query is not None:
            return None
        row = session.row(_MARK.format(regclass(self._table or "")))
        return row and (session.moment.system, session.moment.timeline, *row)

    def forget(self) -> None:
        """Look anew next time: something went wrong with what was known."""
        self._known = None
