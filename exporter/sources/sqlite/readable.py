"""Whether all times of some records are readable, looked at joined instead of one by one.

Nearly always they are, and all of one form; to ask SQL of each of them what ``time`` calls readable takes
ten times as long, and longer than to read the records. It must not say yes where SQL might say no: whatever
is not plain, it leaves to SQL.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Final, Protocol, cast

from exporter.columns import SEPARATOR
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


def are_all_readable(records: Records, roles: Roles, condition: Condition) -> bool:
    """Whether each record that meets a condition has a text for a time, of one form; False in doubt.

    They are taken in the order of their ids, so many at a time: only for a condition that is served so.
    """
    identifier = quoted(roles.id)
    beyond = Condition()
    try:
        with at_most(records.connection, _JOINED_BYTES):
            while (found := _joined(records, roles, condition + beyond)) is not None:
                count, last, times = found
                if count and not _are_plain(times, count):
                    return False
                if count < _ROWS:
                    return True
                beyond = Condition((f"{identifier} > :looked_at",), {"looked_at": last})
    except sqlite3.DataError:  # one of them is too long to be any time
        return False
    return False


def _joined(records: Records, roles: Roles, condition: Condition) -> tuple[int, object, bytes] | None:
    """How many the next records are, the last id, and their times; None where not all are texts."""
    time, identifier = quoted(roles.time), quoted(roles.id)
    tail = f"ORDER BY {identifier} LIMIT :most"
    inner = select(records.relation.origin, f"{identifier}, {time}", condition.terms, tail)
    # Texts come before all blobs; numbers have no such form, and NULL is in neither of the two.
    texts = f"sum({time} COLLATE BINARY < x'')"
    statement = select(f"({inner})", f"count(*), max({identifier}), {texts}, {sure_term(time)}")
    values = {**condition.values, "most": _ROWS}
    if not records.is_in_order(statement, values):
        return None
    count, last, texts_count, times = records.connection.execute(statement, values).fetchone()
    return (count, last, cast("bytes", times)) if not count or texts_count == count else None


def _are_plain(times: bytes, count: int) -> bool:
    form = TextForm.of(times.partition(SEPARATOR)[0])
    return form is not None and form.holds(times, count)
