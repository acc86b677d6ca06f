"""What a user may do beyond reading. It must not change anything."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from exporter.sources.mysql.connection import Session
    from exporter.sources.mysql.relation import Table

_GRANT = re.compile(r"GRANT (?P<rights>.+?) ON (?P<level>\S+) TO ")
_COLUMNS = re.compile(r"\([^)]*\)")
_HARMLESS: Final = frozenset(
    {
        *("USAGE", "SELECT", "PROCESS", "SHOW VIEW", "SHOW DATABASES"),
        *("REPLICATION CLIENT", "BINLOG MONITOR", "SLAVE MONITOR", "REPLICA MONITOR"),
    }
)


@dataclass(frozen=True, slots=True)
class Rights:
    """A user, as in GRANT, and the rights that reading does not need, on the table or what it is in."""

    user: str
    too_much: tuple[str, ...]


def rights(session: Session, table: Table) -> Rights:
    """Those of the user of this session, by its grants and by its role."""
    (user,) = session.texts("SELECT CURRENT_USER()")[0]
    name, _, host = user.rpartition("@")
    found: list[str] = []
    for (line,) in session.texts("SHOW GRANTS"):
        grant = _GRANT.match(line)
        if grant and _covers(grant["level"], table):
            granted = (right.strip() for right in _COLUMNS.sub("", grant["rights"]).split(","))
            found += [right for right in granted if right not in _HARMLESS]
    return Rights(f"'{name}'@'{host}'", tuple(dict.fromkeys(found)))


def _covers(level: str, table: Table) -> bool:
    """Whether a right on this level holds for the table. Patterns of databases count as fitting."""
    schema, _, name = level.replace("`", "").rpartition(".")
    in_schema = schema in ("*", table.schema) or "%" in schema or schema.replace("\\_", "_") == table.schema
    return in_schema and name in ("*", table.name)
