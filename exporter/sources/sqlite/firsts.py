"""A derived column in SQLite's SQL: the rule of ``derived``, looking from one record at the others.

An index on (account, the column, time) serves it: then a record costs about one look. Names with nothing
before them are those of the other record, ``records`` is the one that is asked about.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol, cast

from exporter.model import Branch
from exporter.sources.sqlite.database import quoted, select
from exporter.sources.sqlite.time import Condition

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exporter.columns import Roles
    from exporter.model import Range, Seal
    from exporter.sources.derived import FirstOf
    from exporter.sources.sqlite.database import Relation
    from exporter.sources.sqlite.time import SqlTimes

_NEVER: Final = "NULL"


class Records(Protocol):
    """What has to be known of the records: a snapshot is one."""

    relation: Relation
    times: SqlTimes
    derived: Mapping[str, FirstOf]

    def of_account(self, account: str) -> Condition:
        """An account's records."""
        ...

    def visible_at(self, seal: Seal) -> Condition:
        """What a seal holds."""
        ...


def is_first(
    records: Records, roles: Roles, first: FirstOf, one: Range, branch: Branch
) -> tuple[str, Mapping[str, object]]:
    """JSON for a record of this branch, as SQL, and the values of its parameters."""
    if branch is Branch.UNREADABLE:
        return _NEVER, {}
    place = list(records.derived).index(first.name)
    actions = {f"action_{place}_{number}": action for number, action in enumerate(first.actions)}
    counts = Condition((_is_among(quoted(first.action), actions),), actions)
    earlier = candidates(records, first, one.account) + counts + _before(records, roles, one, branch)
    term = (
        f"CASE WHEN {_own(first.of)} IS NULL OR NOT {_is_among(_own(first.action), actions)} THEN NULL"
        f" WHEN EXISTS ({select(records.relation.earlier, '1', earlier.terms)}) THEN 'false' ELSE 'true' END"
    )
    return term, earlier.values


def candidates(records: Records, first: FirstOf, account: str) -> Condition:
    """Records with the same value in the same account: a term for an index, and one for bytes."""
    of, own = quoted(first.of), _own(first.of)
    found = f"{of} = {own}"
    if first.of not in records.relation.one_forms:
        # Without a type the number 42 does not equal the text '42', which has its bytes.
        found = f"{of} IN ({own}, CAST({own} AS TEXT), CAST({own} AS NUMERIC))"
    same_bytes = f"CAST({of} AS BLOB) = CAST({own} AS BLOB)"
    # In the order of what they cost: without an index a history is gone through.
    return Condition((found,)) + records.of_account(account) + Condition((same_bytes,))


def _before(records: Records, roles: Roles, one: Range, branch: Branch) -> Condition:
    """What takes the title away from a record: the same for all parts of the range."""
    times, identifier = records.times, quoted(roles.id)
    key = f"({times.value}, {identifier}) < ({times.value_of(_own(roles.time))}, {_own(roles.id)})"
    at_seal = records.visible_at(one.seal)
    if branch is Branch.ON_TIME or one.previous is None:
        return at_seal + Condition((times.readable, key))
    is_new = " AND ".join((*at_seal.terms, key))
    term = f"(({is_new}) OR +{identifier} <= :known)"
    known = {**at_seal.values, "known": cast("int", one.previous["id"])}
    return times.before(one.window.start) + Condition((term,), known)


def _is_among(column: str, actions: Mapping[str, object]) -> str:
    """Whether an action is one of these parameters, byte by byte; never NULL."""
    listed = ", ".join(f"CAST(:{name} AS BLOB)" for name in actions)
    return f"(CAST({column} AS BLOB) IN ({listed})) IS TRUE"


def _own(column: str) -> str:
    return f"records.{quoted(column)}"
