"""Whether indexes serve the statements that records are read with, as PostgreSQL's own plans say.

EXPLAIN, never ANALYZE: nothing is read. What costs next to nothing does not matter: in a small table, or an
empty partition, PostgreSQL may choose any index, or none.
"""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from psycopg import sql

from exporter.model import Branch, Range, Window
from exporter.sources.postgres.seal import XIDS, PostgresSeal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from exporter.sources.postgres.ranges import Snapshot

    Plan = dict[str, Any]

CHEAP = 100.0
"""A hundred pages in a row, or twenty-five of anywhere."""
_FOUR_HOURS: Final = timedelta(hours=4)
_TEXT: Final = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"")


class Served(NamedTuple):
    """The indexes that lead to an account's records, and whether all else that is read is next to nothing."""

    indexes: list[str]
    is_cheap: bool


def serving(snapshot: Snapshot, account: str, commit: str | None) -> Mapping[Branch, Served]:
    """How an account's records on time are read, and late ones.

    By xmin no index can lead to late records: one that leads to the account alone counts there.
    """
    one = _window(snapshot, account, commit)
    layout = snapshot.layout(tuple(snapshot.relation.columns))
    leads: Mapping[Branch, Callable[[str], bool]] = {
        Branch.ON_TIME: _leads_to_window,
        Branch.LATE: _leads_to_account if commit is None else _leads_to_position,
    }
    return {
        branch: _served(_plan(snapshot, select), leads[branch])
        for branch, select in snapshot.statements(one, layout)
        if branch in leads
    }


def serving_first(snapshot: Snapshot, account: str, commit: str | None, name: str) -> Served:
    """How the earlier records of a user are found, for a derived column of records on time."""
    one = _window(snapshot, account, commit)
    selects = dict(snapshot.statements(one, snapshot.layout((name,))))
    nodes = _nodes(_plan(snapshot, selects[Branch.ON_TIME]))
    return _served({"Plans": [node for node in nodes if "Subplan Name" in node]}, _leads_to_value)


def _window(snapshot: Snapshot, account: str, commit: str | None) -> Range:
    """A window that begins now, between horizons still to come: each index has little to find for it."""
    moment, table = snapshot.session.moment, snapshot.relation.table
    previous = PostgresSeal(moment.system, moment.timeline, moment.next_xid, commit)
    if commit is None and table is not None:
        alias = moment.next_xid + XIDS
        previous = replace(previous, table=table.oid, filenode=table.filenode or 0, alias=alias)
    seal = replace(previous, horizon=moment.next_xid + 1)
    return Range(account, Window(moment.now, moment.now + _FOUR_HOURS), seal.json(), previous.json())


def _plan(snapshot: Snapshot, select: sql.Composed) -> Plan:
    row = snapshot.session.row(sql.SQL("EXPLAIN (FORMAT JSON) ") + select)
    return cast("Plan", cast("tuple[list[Plan]]", row)[0][0]["Plan"])


def _served(plan: Plan, leads: Callable[[str], bool]) -> Served:
    found: set[str] = set()
    is_cheap = True
    for scan in _nodes(plan):
        if "Relation Name" not in scan:
            continue
        used = [node for node in _nodes(scan) if "Index Name" in node]
        if used and all(leads(_TEXT.sub("x", str(node.get("Index Cond", "")))) for node in used):
            found |= {str(node["Index Name"]) for node in used}
        elif scan["Total Cost"] >= CHEAP:
            is_cheap = False
    return Served(sorted(found), is_cheap)


def _nodes(plan: Plan) -> Iterator[Plan]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from _nodes(below)


# What an index is searched by, without names and values.


def _leads_to_account(condition: str) -> bool:
    return " = " in condition


def _leads_to_window(condition: str) -> bool:
    return " = " in condition and " < " in condition


def _leads_to_value(condition: str) -> bool:
    return condition.count(" = ") > 1


def _leads_to_position(condition: str) -> bool:
    return " = " in condition and "::xid8" in condition
