"""Which indexes a table has, and which it lacks to be exported quickly.

InnoDB ends every other index with the primary key, so that (account, time) holds the id as well, where that
is the primary key. It must not change anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pymysql.constants import FLAG

from exporter.model import Statement
from exporter.sources.mysql.relation import literal, quoted
from exporter.sources.mysql.values import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from exporter.columns import Roles
    from exporter.sources.derived import FirstOf
    from exporter.sources.mysql.connection import Session
    from exporter.sources.mysql.relation import Column, Relation, Table

_NAME_ROOM: Final = 40  # names may have 64 letters
_ALL_INDEXES: Final = """
    SELECT INDEX_NAME, COLUMN_NAME, SUB_PART IS NULL FROM information_schema.STATISTICS
    WHERE TABLE_SCHEMA = {schema} AND TABLE_NAME = {table} AND INDEX_TYPE = 'BTREE'
    ORDER BY INDEX_NAME, SEQ_IN_INDEX
"""


@dataclass(frozen=True, slots=True)
class Wanted:
    """An index that an export goes by, its name if it has to be made, and what it is for."""

    columns: tuple[str, ...]
    name: str
    reason: str


def wanted(relation: Relation, roles: Roles, derived: Iterable[FirstOf] = ()) -> list[Wanted]:
    """The two indexes, and those of derived columns.

    Long texts cannot be indexed as a whole, and a part of one keeps no order.
    """
    by_time = (roles.account, roles.time, roles.id)
    by_position = (roles.account, relation.position.name)
    by_value = {one.of: (roles.account, one.of, roles.time) for one in derived}
    return [
        Wanted(columns, name, reason)
        for columns, name, reason in (
            (by_time, "by_time", "no index leads from an account to a window of time"),
            (by_position, "by_position", "no index leads from an account to its newest records"),
            *(
                (
                    columns,
                    f"by_{of[:_NAME_ROOM]}",
                    f"no index leads from an account and its {of} to records of the same {of}",
                )
                for of, columns in by_value.items()
            ),
        )
        if not any(is_long(relation.columns[column]) for column in columns)
    ]


class Catalogue:
    """The indexes of a table."""

    def __init__(self, session: Session, table: Table) -> None:
        self._table = table
        names = {"schema": literal(table.schema), "table": literal(table.name)}
        self._indexes: dict[str, list[str]] = {}
        for name, column, is_whole in session.texts(_ALL_INDEXES.format(**names)):
            # Beyond a part of a text nothing is in order any more.
            self._indexes.setdefault(name, []).append(column if is_whole == "1" else "")
        self._primary = self._indexes.get("PRIMARY", [])

    def having(self, columns: Sequence[str]) -> str | None:
        """An index that begins with these columns, in this order."""
        for name, own in self._indexes.items():
            if [*own, *self._primary][: len(columns)] == list(columns):
                return name
        return None

    def missing(self, one: Wanted) -> Statement | None:
        """What makes an index that is not there, while the application goes on writing."""
        if self.having(one.columns):
            return None
        name = f"audit_exporter_{one.name}"
        while name in self._indexes:
            name += "_"
        columns = ", ".join(map(quoted, one.columns))
        added = f"ALTER TABLE {self._table.sql} ADD INDEX {quoted(name)} ({columns})"
        return Statement(one.reason, f"{added}, ALGORITHM=INPLACE, LOCK=NONE")


def is_long(column: Column) -> bool:
    """Whether no index holds it whole."""
    return column.kind in (Kind.TEXT, Kind.BYTES, Kind.JSON) and bool(column.flags & FLAG.BLOB)
