"""Who can update the records of a table: the question that the system-xmin strategy stands or falls with.

Superusers are left out: they can do everything, and know it. It changes nothing.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from psycopg import sql

if TYPE_CHECKING:
    from exporter.sources.postgres.connection import Session
    from exporter.sources.postgres.relation import Table

# Rights to update the table or a column of it, the owner's own included, which stand by default and can be
# revoked like any other. A role counts if it can log in, or if one that can is a member of it.
_HOLDERS: Final = sql.SQL("""
    WITH held (role) AS (
        SELECT g.grantee FROM pg_class c, aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) g
        WHERE c.oid = {table} AND g.privilege_type = 'UPDATE'
        UNION SELECT g.grantee FROM pg_attribute a, aclexplode(a.attacl) g
        WHERE a.attrelid = {table} AND NOT a.attisdropped AND g.privilege_type = 'UPDATE'
        UNION SELECT oid FROM pg_roles WHERE rolname = 'pg_write_all_data'
    )
    SELECT CASE WHEN role = 0 THEN 'PUBLIC' ELSE pg_get_userbyid(role)::text END FROM held
    WHERE role = 0 OR EXISTS (
        SELECT FROM pg_roles r WHERE r.rolcanlogin
            AND (r.oid = role OR NOT r.rolsuper AND pg_has_role(r.oid, role, 'MEMBER'))
    ) ORDER BY 1
""")
# Row triggers (1) before (2) an update (16), of any column and under no condition, that fire in ordinary
# sessions; statement triggers likewise.
_TRIGGERS: Final = sql.SQL("""
    SELECT t.tgtype & 1 = 1, p.prosrc FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
        JOIN pg_language l ON l.oid = p.prolang AND l.lanname = 'plpgsql'
    WHERE t.tgrelid = {table} AND t.tgtype & 2 = 2 AND t.tgtype & 16 = 16 AND t.tgenabled IN ('O', 'A')
        AND t.tgqual IS NULL AND t.tgattr = ''
""")
_RULE: Final = sql.SQL("""
    SELECT FROM pg_rewrite WHERE ev_class = {table} AND ev_type = '2' AND ev_enabled IN ('O', 'A')
        AND is_instead AND ev_qual::text = '<>' AND pg_get_ruledef(oid) LIKE '%DO INSTEAD NOTHING;'
""")
_COMMENT = re.compile(r"--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'", re.DOTALL)
_LETS_PASS = re.compile(r"\breturn\b(?!\s+null\b)", re.IGNORECASE)
_RETURN = re.compile(r"\breturn\b", re.IGNORECASE)


def updatable_by(session: Session, table: Table) -> list[str]:
    """Roles that can update a record; none where a trigger or a rule is against every update."""
    oid = sql.Literal(table.oid)
    if session.row(_RULE.format(table=oid)) is not None:
        return []
    triggers = session.rows(_TRIGGERS.format(table=oid))
    if any(_refuses(str(source), for_each_row=bool(row)) for row, source in triggers):
        return []
    return [str(role) for (role,) in session.rows(_HOLDERS.format(table=oid))]


def _refuses(source: str, *, for_each_row: bool) -> bool:
    """Whether a trigger's function never lets an update through: one that sets `updated_at` does.

    It returns no row (NULL skips the update of this row), or nothing at all, so that it can only raise.
    """
    code = _COMMENT.sub(" ", source)
    return (_LETS_PASS if for_each_row else _RETURN).search(code) is None
