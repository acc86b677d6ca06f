"""What a user may do beyond reading. It must not change anything."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from exporter.sources.mysql.connection import Session
    from exporter.sources.mysql.relation import Table

_NAME = r"`(?:[^`]|``)*`|[^\s.`]+"
_GRANT = re.compile(rf"GRANT (?P<rights>.+?) ON (?P<schema>{_NAME})\.(?P<table>{_NAME}) TO ")
_WILDCARD = re.compile(r"\\(.)|([%_])")
_COLUMNS = re.compile(r"\([^)]*\)")
_HARMLESS: Final = frozenset(
    {
        *("USAGE", "SELECT", "PROCESS", "SHOW VIEW", "SHOW DATABASES"),
        *("REPLICATION CLIENT", "BINLOG MONITOR", "SLAVE MONITOR", "REPLICA MONITOR"),
    }
)


@dataclass(frozen=True, slots=True)
class Rights:
    """A user, and the rights that reading does not need, on the table or what it is in.

    ``user`` is as SQL takes it, ``grantee`` as the information schema has it.
    """

    user: str
    grantee: str
    too_much: tuple[str, ...]


def rights(session: Session, table: Table) -> Rights:
    """Those of the user of this session, by its grants and by its role."""
    (user,) = session.texts("SELECT CURRENT_USER()")[0]
    name, _, host = user.rpartition("@")
    found: list[str] = []
    for (line,) in session.texts("SHOW GRANTS"):
        grant = _GRANT.match(line)
        if grant and _covers(_plain(grant["schema"]), _plain(grant["table"]), table):
            granted = (right.strip() for right in _COLUMNS.sub("", grant["rights"]).split(","))
            found += [right for right in granted if right not in _HARMLESS]
    quoted = "@".join("'" + part.replace("\\", "\\\\").replace("'", "''") + "'" for part in (name, host))
    return Rights(quoted, f"'{name}'@'{host}'", tuple(dict.fromkeys(found)))


def _plain(name: str) -> str:
    return name[1:-1].replace("``", "`") if name.startswith("`") else name


def _covers(schema: str, name: str, table: Table) -> bool:
    """Whether a right on this level holds for the table."""
    if name != "*":
        return (schema, name) == (table.schema, table.name)
    return schema == "*" or _pattern(schema).fullmatch(table.schema) is not None


def _pattern(schema: str) -> re.Pattern[str]:
    """A database in a GRANT is a pattern: % and _ stand for any letters, but behind a backslash."""
    parts, end = [], 0
    for found in _WILDCARD.finditer(schema):
        parts.append(re.escape(schema[end : found.start()]))
        parts.append(re.escape(found[1]) if found[1] else {"%": ".*", "_": "."}[found[2]])
        end = found.end()
    return re.compile("".join([*parts, re.escape(schema[end:])]), re.DOTALL | re.IGNORECASE)
