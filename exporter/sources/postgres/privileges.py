"""What the role that reads is allowed: to select, and ideally nothing else. It changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

from psycopg import sql

if TYPE_CHECKING:
    from exporter.sources.postgres.connection import Session
    from exporter.sources.postgres.relation import Table

_ROLE: Final = sql.SQL("SELECT rolname::text, rolsuper FROM pg_roles WHERE rolname = current_user")
_OF_TABLE: Final = sql.SQL("""
    SELECT pg_has_role(relowner, 'USAGE'), row_security_active(oid), ARRAY(
        SELECT one FROM unnest(ARRAY['INSERT', 'UPDATE', 'REFERENCES']) AS one
            WHERE has_any_column_privilege(oid, one)
        UNION ALL SELECT one FROM unnest(ARRAY['DELETE', 'TRUNCATE', 'TRIGGER']) AS one
            WHERE has_table_privilege(oid, one)
    ) FROM pg_class WHERE oid = {table}
""")


@dataclass(frozen=True, slots=True)
class Rights:
    """What a role may do; ``writes`` to the table, ``is_filtered`` if policies hide rows of it."""

    role: str
    is_superuser: bool
    is_owner: bool = False
    is_filtered: bool = False
    writes: tuple[str, ...] = ()

    @property
    def may_only_read(self) -> bool:
        """Whether it is the role that an exporter should have."""
        return not (self.is_superuser or self.is_owner or self.writes)


def rights(session: Session, table: Table | None) -> Rights:
    """Those of the session's role, on this table."""
    role, is_superuser = cast("tuple[str, bool]", session.row(_ROLE))
    row = None if table is None else session.row(_OF_TABLE.format(table=sql.Literal(table.oid)))
    if row is None:
        return Rights(role, is_superuser)
    is_owner, is_filtered, writes = cast("tuple[bool, bool, list[str]]", row)
    return Rights(role, is_superuser, is_owner, is_filtered, tuple(writes))
