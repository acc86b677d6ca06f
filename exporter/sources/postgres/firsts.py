"""A derived column in PostgreSQL's SQL: the rule of ``derived``, looking from one record at the others.

An index on (account, the column, time) serves it: then a record costs about one look. In the sub-select
``records`` are the others, and ``this`` is the record that is asked about. It opens no statement of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from psycopg import sql

from exporter.model import Branch
from exporter.sources.postgres.relation import BYTEWISE
from exporter.sources.postgres.seal import visible_at
from exporter.sources.postgres.values import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from exporter.model import Range
    from exporter.sources.derived import FirstOf
    from exporter.sources.postgres.connection import Session
    from exporter.sources.postgres.relation import Column, Relation
    from exporter.sources.postgres.time import SqlTimes

_NEVER: Final = sql.SQL("NULL::boolean")
_FIRST: Final = sql.SQL("""
    CASE WHEN {of} IS NOT NULL AND {counts} THEN (
        SELECT NOT EXISTS ({earlier}) FROM (SELECT {of} AS of, {time} AS at, {id} AS id) AS this
    ) END
""")
_BEFORE_THIS: Final = sql.SQL("{time} <= this.at AND ({time} < this.at OR {id} < this.id)")


class Records(Protocol):
    """What has to be known of the records: a snapshot is one."""

    session: Session
    relation: Relation
    times: SqlTimes

    @property
    def id_order(self) -> sql.Composable:
        """What ids sort by."""
        ...


def is_first(
    records: Records, first: FirstOf, one: Range, branch: Branch, whose: Sequence[sql.Composable]
) -> sql.Composable:
    """A boolean for a record of this branch, or NULL; ``whose`` are the terms of its account's records."""
    if branch is Branch.UNREADABLE:
        return _NEVER
    relation = records.relation
    of, action = relation.column(first.of), relation.column(first.action)
    listed = sql.SQL(", ").join([sql.Literal(text) for text in first.actions])
    counts = sql.SQL("{} IN ({})").format(action.text, listed)
    terms = [*whose, *_same(of), counts, *_before(records, one, branch)]
    return _FIRST.format(
        of=of.value,
        counts=counts,
        earlier=relation.select(sql.SQL("1"), terms),
        time=records.times.column.value,
        id=records.id_order,
    )


def is_found_by_value(column: Column) -> bool:
    """Whether an index leads to the records with a value of the column; else values are compared as text."""
    return column.is_text or column.is_uuid or column.kind is Kind.INTEGER


def _same(column: Column) -> Iterator[sql.Composable]:
    """A first term for an index, and one for bytes, whatever the collation."""
    if is_found_by_value(column):
        yield sql.SQL("{} = this.of").format(column.value)
    if not (column.is_uuid or column.kind is Kind.INTEGER):
        yield sql.SQL("{} = this.of::text{}").format(column.text, BYTEWISE)


def _before(records: Records, one: Range, branch: Branch) -> Iterator[sql.Composable]:
    """What takes the title away from a record: the same for all parts of the range."""
    moment, times = records.session.moment, records.times
    earlier = _BEFORE_THIS.format(time=times.column.value, id=records.id_order)
    # IS TRUE keeps the planner from the index on the position: that is a whole history.
    at_seal = sql.SQL("({}) IS TRUE").format(visible_at(moment, one.seal))
    if branch is Branch.ON_TIME or one.previous is None:
        yield from (*times.before(one.window.end), earlier, at_seal)
        return
    known = sql.SQL("({}) IS TRUE").format(visible_at(moment, one.previous))
    yield from times.before(one.window.start)
    yield sql.SQL("({} OR {} AND {})").format(known, at_seal, earlier)
