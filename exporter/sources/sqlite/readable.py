"""Whether all times of some records are readable, looked at joined instead of one by one.

Nearly always they are, and all of one form; to ask SQL of each of them what ``time`` calls readable takes
ten times as long, and longer than to read the records. It must not say yes where SQL might say no: whatever
is not plain, it leaves to SQL.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol, cast

from exporter.columns import SEPARATOR
from exporter.sources.sqlite.ahead import Ahead
from exporter.sources.sqlite.database import quoted, select
from exporter.sources.sqlite.forms import TextForm
from exporter.sources.sqlite.joined import sure_term
from exporter.sources.sqlite.joining import at_most
from exporter.sources.sqlite.time import Condition

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exporter.columns import Roles
    from exporter.sources.sqlite.database import Relation

_ROWS: Final = 20_000
_JOINED_BYTES: Final = 2_000_000


class Records(Protocol):
    """What has to be known of the records: a snapshot is one."""

    connection: sqlite3.Connection
    relation: Relation

    def is_in_order(self, statement: str, values: Mapping[str, object]) -> bool:
        """Whether SQLite need not sort what a statement finds."""
        ...


def are_all_readable(records: Records, roles: Roles, condition: Condition, *, by_time: bool = False) -> bool:
    """Whether each record that meets a condition has a text for a time, of one form; False in doubt.

    They are taken in the order of their ids, or else of their times, so many at a time: only for a condition
    that is served so. An index that holds both is all that is read of a whole history then.
    """
    time, identifier = quoted(roles.time), quoted(roles.id)
    place, comparison = (time, ">=") if by_time else (identifier, ">")
    beyond = Condition()
    if by_time and not _are_texts(records, roles, condition):
        return False
    try:
        with at_most(records.connection, _JOINED_BYTES), Ahead[_Found | None](records.connection) as ahead:
            found = _joined(records, roles, condition, by_time=by_time)
            while found is not None:
                if found.count == _ROWS:
                    last = _last_of(found.times) if by_time else found.last
                    if beyond.values.get("looked_at") == last:  # so many of one time
                        return False
                    beyond = Condition((f"{place} {comparison} :looked_at",), {"looked_at": last})
                    ahead.start(partial(_joined, records, roles, condition + beyond, by_time=by_time))
                if found.count and not _are_plain(found.times, found.count):
                    return False
                if found.count < _ROWS:
                    return True
                found = ahead.result()
    except sqlite3.DataError:  # one of them is too long to be any time
        return False
    return False


def _are_texts(records: Records, roles: Roles, condition: Condition) -> bool:
    """Whether there are texts alone, in an index: its first and last are of one type with all between."""
    time = quoted(roles.time)
    for direction in ("ASC", "DESC"):
        tail = f"ORDER BY {time} {direction} LIMIT 1"
        statement = select(records.relation.origin, f"typeof({time})", condition.terms, tail)
        plan = records.connection.execute(f"EXPLAIN QUERY PLAN {statement}", condition.values).fetchall()
        # An index on time alone has everybody's; with a table behind it, ids are as good.
        if not all("COVERING INDEX" in step and f"({roles.account}=?" in step for *_, step in plan):
            return False
        if records.connection.execute(statement, condition.values).fetchone() not in {None, ("text",)}:
            return False
    return True


@dataclass(frozen=True, slots=True)
class _Found:
    """How many the next records are, by id the last one, and their times."""

    count: int
    last: object
    times: bytes


def _joined(records: Records, roles: Roles, condition: Condition, *, by_time: bool) -> _Found | None:
    """The next records; None where not all times are texts."""
    time, identifier = quoted(roles.time), quoted(roles.id)
    tail = f"ORDER BY {f'{time}, ' if by_time else ''}{identifier} LIMIT :most"
    inner = select(
        records.relation.origin, time if by_time else f"{identifier}, {time}", condition.terms, tail
    )
    # Texts come before all blobs; numbers have no such form, and NULL is in neither of the two.
    known = "NULL, NULL" if by_time else f"max({identifier}), sum({time} COLLATE BINARY < x'')"
    statement = select(f"({inner})", f"count(*), {known}, {sure_term(time)}")
    values = {**condition.values, "most": _ROWS}
    if not records.is_in_order(statement, values):
        return None
    count, last, texts_count, times = records.connection.execute(statement, values).fetchone()
    is_text = by_time or not count or texts_count == count
    return _Found(count, last, cast("bytes", times)) if is_text else None


def _last_of(times: bytes) -> str:
    """The last of some times, at which nobody has looked yet: what is no UTF-8 is no time either."""
    return times.rpartition(SEPARATOR)[2].decode(errors="replace")


def _are_plain(times: bytes, count: int) -> bool:
    form = TextForm.of(times.partition(SEPARATOR)[0])
    return form is not None and form.holds(times, count)
