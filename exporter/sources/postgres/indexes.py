"""The two indexes that a table is read through: which there are, and the SQL of those that are missing.

(account, time) leads to a window, (account, position) to what has become visible since a seal. No statement
here stops the application: indexes are built CONCURRENTLY, those of partitions one by one (a partitioned
table cannot be indexed so as a whole), and what needs a lock gives up soon. It must not run them.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

from psycopg import sql

from exporter.errors import SourceBusy
from exporter.model import Statement
from exporter.sources.postgres.firsts import is_found_by_value

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exporter.columns import Roles
    from exporter.sources.derived import FirstOf
    from exporter.sources.postgres.connection import Session
    from exporter.sources.postgres.relation import Relation, Table

LOCK_TIMEOUT = "5s"
"""Whoever waits longer for a table holds up everybody who comes after."""

_LEADING = 2  # the columns of an index that matter; the third spares a sort
_LONGEST_NAME: Final = 63  # in bytes: PostgreSQL cuts off the rest, and names would meet
_PARTITIONED, _FOREIGN = "p", "f"

_MEMBERS: Final = sql.SQL("""
    WITH RECURSIVE members (oid, parent, depth) AS (
        SELECT {table}::oid, NULL::oid, 0
        UNION SELECT i.inhrelid, i.inhparent, depth + 1 FROM members JOIN pg_inherits i ON i.inhparent = oid
    )
    SELECT c.oid::bigint, m.parent::bigint, n.nspname::text, c.relname::text, c.relkind::text
    FROM members m JOIN pg_class c ON c.oid = m.oid JOIN pg_namespace n ON n.oid = c.relnamespace
    ORDER BY m.depth, c.relname
""")
_INDEXES: Final = sql.SQL("""
    SELECT i.indexrelid::bigint, i.indrelid::bigint, n.nspname::text, x.relname::text, i.indisvalid,
        (SELECT inhparent::bigint FROM pg_inherits WHERE inhrelid = i.indexrelid),
        ARRAY(
            SELECT a.attname::text FROM unnest(i.indkey) WITH ORDINALITY AS k (number, place)
                LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number
            WHERE k.place <= i.indnkeyatts ORDER BY k.place
        )
    FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_namespace n ON n.oid = x.relnamespace
        JOIN pg_am m ON m.oid = x.relam AND m.amname = 'btree'
    WHERE i.indrelid = ANY ({tables}) AND i.indpred IS NULL ORDER BY x.relname
""")
_NAMES: Final = sql.SQL("""
    SELECT n.nspname::text, c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = ANY ({schemas})
""")
_IS_BUILDING: Final = sql.SQL("""
    SELECT EXISTS (SELECT FROM pg_stat_progress_create_index WHERE datname = current_database())
""")


@dataclass(frozen=True, slots=True)
class Wanted:
    """An index that a branch of a range is read through; ``name`` ends those that are made for it."""

    name: str
    columns: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class _Member:
    """The table itself, or one of its partitions or children."""

    oid: int
    parent: int | None
    schema: str
    name: str
    kind: str

    @property
    def identifier(self) -> str:
        return _identifier(self.schema, self.name)


@dataclass(frozen=True, slots=True)
class _Index:
    """An index of a member; ``oid`` is 0 before it is made."""

    oid: int
    member: int
    schema: str
    name: str
    is_valid: bool
    parent: int | None
    columns: tuple[str | None, ...]

    @property
    def identifier(self) -> str:
        return _identifier(self.schema, self.name)


def by_time(relation: Relation, roles: Roles) -> Wanted | None:
    """What leads to a window; None where no index can, because accounts have to be compared as text."""
    if not _is_found_by_value(relation, roles):
        return None
    columns = (roles.account, roles.time, roles.id)
    return Wanted("by_time", columns, "no index leads from an account to a window of time")


def by_position(relation: Relation, roles: Roles, position: str) -> Wanted | None:
    """What leads to late records."""
    if not _is_found_by_value(relation, roles):
        return None
    reason = "no index leads from an account to what has become visible since a seal"
    return Wanted("by_position", (roles.account, position), reason)


def by_value(relation: Relation, roles: Roles, first: FirstOf) -> Wanted | None:
    """What leads from one record to earlier ones of the same user."""
    if not _is_found_by_value(relation, roles) or not is_found_by_value(relation.column(first.of)):
        return None
    reason = f"no index leads from an account and its {first.of} to records of the same {first.of}"
    return Wanted(f"by_{first.of}", (roles.account, first.of, roles.time), reason)


def guarded(statement: str) -> str:
    """A statement that needs a lock, but soon gives up waiting for it."""
    return f"BEGIN; SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'; {statement}; COMMIT"


class Catalogue:
    """A table, its partitions or children, and their indexes."""

    def __init__(self, session: Session, table: Table) -> None:
        found = session.rows(_MEMBERS.format(table=sql.Literal(table.oid)))
        self._members = [_Member(*row) for row in found]  # type: ignore[arg-type]
        self._root = self._members[0]
        self._indexes: dict[int, list[_Index]] = defaultdict(list)
        oids = sql.Literal([member.oid for member in self._members])
        for row in session.rows(_INDEXES.format(tables=oids)):
            index = _Index(*row[:-1], tuple(cast("list[str | None]", row[-1])))  # type: ignore[arg-type,call-arg]
            self._indexes[index.member].append(index)
        schemas = sql.Literal(sorted({member.schema for member in self._members}))
        self._names = set(session.rows(_NAMES.format(schemas=schemas)))
        self._is_building = session.row(_IS_BUILDING) == (True,)

    def missing(self, wanted: Wanted) -> list[Statement]:
        """What makes an index, in the order in which it has to be run; nothing if one will do.

        Raises SourceBusy while one is being built: until then it cannot be told from one that failed.
        """
        whole = [member for member in self._members if member.kind not in (_PARTITIONED, _FOREIGN)]
        lacking = [member for member in whole if not self._is_led(member, wanted)]
        if self._root.kind != _PARTITIONED:
            return [statement for member in lacking for statement in self._of_one(member, wanted, None)[1]]
        is_led = bool(whole) and not lacking and not self._same(self._root, wanted, None)
        if is_led or self._is_led(self._root, wanted):
            return []
        return self._of_partitioned(self._root, wanted, None)[1]

    def _is_led(self, member: _Member, wanted: Wanted) -> bool:
        leading = wanted.columns[:_LEADING]
        return any(
            index.is_valid and index.columns[:_LEADING] == leading for index in self._indexes[member.oid]
        )

    def _of_one(
        self, member: _Member, wanted: Wanted, parent: _Index | None
    ) -> tuple[_Index, list[Statement]]:
        """The index of a table that holds rows: one that can become part of the parent's, or a new one."""
        there = self._same(member, wanted, parent)
        if there and there[0].is_valid:
            return there[0], []
        statements = [self._drop(index) for index in there]
        new = self._new(member, wanted)
        made = f"CREATE INDEX CONCURRENTLY {_identifier(new.name)} ON {member.identifier} {_listed(wanted)}"
        return new, [*statements, Statement(self._reason(member, wanted), made)]

    def _of_partitioned(
        self, member: _Member, wanted: Wanted, parent: _Index | None
    ) -> tuple[_Index, list[Statement]]:
        """An index that is there at once but counts for nothing, until all partitions' are part of it."""
        there = self._same(member, wanted, parent)
        if there:
            whole, statements = there[0], []
        else:
            whole = self._new(member, wanted)
            made = f"CREATE INDEX {_identifier(whole.name)} ON ONLY {member.identifier} {_listed(wanted)}"
            statements = [Statement(self._reason(member, wanted), guarded(made))]
        for child in self._members:
            if child.parent == member.oid and child.kind != _FOREIGN:
                build = self._of_partitioned if child.kind == _PARTITIONED else self._of_one
                part, before = build(child, wanted, whole)
                statements += before
                if not whole.oid or part.parent != whole.oid:
                    statements.append(_attach(child, whole, part))
        return whole, statements

    def _same(self, member: _Member, wanted: Wanted, parent: _Index | None) -> list[_Index]:
        """Indexes of exactly these columns that are free to be part of the parent's; the best first."""
        oid = parent.oid if parent is not None else None
        free = [
            index
            for index in self._indexes[member.oid]
            if index.columns == wanted.columns and index.parent in (None, oid)
        ]
        return sorted(free, key=lambda index: (index.parent is None, not index.is_valid))

    def _drop(self, index: _Index) -> Statement:
        if self._is_building:
            message = f"the index {index.identifier} is unusable, but one is being built right now"
            raise SourceBusy(message, hint="try again when pg_stat_progress_create_index is empty")
        self._names.discard((index.schema, index.name))
        reason = "an attempt to build this index failed, and what it left slows down every insert"
        return Statement(reason, f"DROP INDEX CONCURRENTLY {index.identifier}")

    def _new(self, member: _Member, wanted: Wanted) -> _Index:
        name = next(
            name for name in _names(member.name, wanted.name) if (member.schema, name) not in self._names
        )
        self._names.add((member.schema, name))
        return _Index(0, member.oid, member.schema, name, False, None, wanted.columns)

    def _reason(self, member: _Member, wanted: Wanted) -> str:
        is_part = member is not self._root
        return f"{wanted.reason} in {member.identifier}" if is_part else wanted.reason


def _is_found_by_value(relation: Relation, roles: Roles) -> bool:
    return is_found_by_value(relation.column(roles.account))


def _attach(child: _Member, whole: _Index, part: _Index) -> Statement:
    statement = f"ALTER INDEX {whole.identifier} ATTACH PARTITION {part.identifier}"
    return Statement(f"the index of {child.identifier} becomes part of the whole table's", guarded(statement))


def _names(table: str, end: str) -> Iterator[str]:
    """Names for an index of a table, however long the table's is."""
    number = 1
    while True:
        ending = f"_{end}" if number == 1 else f"_{end}_{number}"
        stem = table.encode()[: _LONGEST_NAME - len(ending)].decode(errors="ignore")
        yield stem + ending
        number += 1


def _listed(wanted: Wanted) -> str:
    return f"({', '.join(map(_identifier, wanted.columns))})"


def _identifier(*parts: str) -> str:
    return sql.Identifier(*parts).as_string()
