"""A derived column in MariaDB's SQL: the rule of ``derived``, looking from one record at the others.

An index on (account, the column, time) serves it: then a record costs about one look. In the sub-select
``earlier`` are the others, and ``records`` is the record that is asked about. Here SQL has to know the gaps
of a seal exactly; they go into the statement, and there are few.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol, Self

from exporter.model import Branch
from exporter.sources.mysql.gaps import Extent
from exporter.sources.mysql.relation import literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from exporter.model import Range
    from exporter.sources.derived import FirstOf
    from exporter.sources.mysql.relation import Column, Relation
    from exporter.sources.mysql.time import SqlTimes

_EARLIER: Final = "earlier"


class Records(Protocol):
    """What has to be known of the records: a snapshot is one."""

    relation: Relation
    times: SqlTimes

    @property
    def id_order(self) -> str:
        """What ids sort by."""
        ...

    def of_account(self, account: str) -> Sequence[str]:
        """An account's records."""
        ...

    def called(self, alias: str) -> Self:
        """The same records under another name."""
        ...


def is_first(records: Records, first: FirstOf, one: Range, branch: Branch) -> str:
    """JSON for a record of this branch, or NULL: there are no booleans."""
    if branch is Branch.UNREADABLE:
        return "NULL"
    others = records.called(_EARLIER)
    of, action = records.relation.column(first.of), records.relation.column(first.action)
    terms = [
        *others.of_account(one.account),
        *_same(of, others.relation),
        _is_among(others.relation.column(first.action), first),
        *_before(records, others, one, branch),
    ]
    return (
        f"CASE WHEN {of.value} IS NULL OR NOT {_is_among(action, first)} THEN NULL"
        f" WHEN EXISTS ({others.relation.select('1', terms)}) THEN 'false' ELSE 'true' END"
    )


def _same(column: Column, others: Relation) -> Iterator[str]:
    """A first term for an index, and one for bytes, whatever the collation."""
    other = others.column(column.name)
    yield f"{other.value} = {column.value}"
    yield f"{other.bytes} = {column.bytes}"


def _is_among(column: Column, first: FirstOf) -> str:
    """Whether an action is one of those that count; never NULL."""
    listed = ", ".join(literal(action.encode(errors="surrogateescape")) for action in first.actions)
    return f"({column.bytes} IN ({listed})) IS TRUE"


def _before(records: Records, others: Records, one: Range, branch: Branch) -> Iterator[str]:
    """What takes the title away from a record: the same for all parts of the range."""
    time, other_time = records.times.column.value, others.times.column.value
    earlier = f"({other_time} < {time} OR ({other_time} = {time} AND {others.id_order} < {records.id_order}))"
    position = others.relation.position.value
    at_seal = _held(position, Extent.of(one.seal))
    if branch is Branch.ON_TIME or one.previous is None:
        yield from (others.times.before(one.window.end), earlier, at_seal)
        return
    yield others.times.before(one.window.start)
    yield f"({_held(position, Extent.of(one.previous))} OR ({at_seal} AND {earlier}))"


def _held(position: str, extent: Extent) -> str:
    """Whether an extent holds a position; no index is to serve it, because that is a whole history."""
    terms = [f"{position} <= {extent.upto}"]
    if alone := ", ".join(str(first) for first, last in extent.gaps if first == last):
        terms.append(f"{position} NOT IN ({alone})")
    terms += [f"{position} NOT BETWEEN {first} AND {last}" for first, last in extent.gaps if first < last]
    return f"({' AND '.join(terms)}) IS TRUE"
