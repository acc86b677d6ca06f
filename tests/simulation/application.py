"""The vendor's application: it writes records into the source, and remembers what it wrote.

What it remembers is the simulation's truth: which records there are, and which of them belong to a
range, worked out from the design alone. It must not ask the source.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from exporter.model import Key, Range, Seal
    from exporter.sources.memory import MemorySource

PAYLOADS = {
    "short": "entry",
    "odd": 'a",\u2028\n"b',
    "longer": "x" * 80,
    "too long": "y" * 900,
    "unrenderable": "\ud800",
}
BAD_PAYLOADS = ("too long", "unrenderable")
MAX_RECORD_BYTES = 400
FIRST = ("", 0)


@dataclass(slots=True)
class Row:
    """One record as the application wrote it; ``payloads`` are all it ever said."""

    id: int
    account: str
    time: datetime | None
    position: int
    payloads: list[str] = field(default_factory=list)

    @property
    def key(self) -> tuple[str, int]:
        """Where it sorts: unreadable times first."""
        if self.time is None:
            return ("", self.id)
        return (f"{self.time.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}000", self.id)

    @property
    def was_bad(self) -> bool:
        """Whether a rendering could have met a form of it that is bad."""
        return self.time is None or any(payload in BAD_PAYLOADS for payload in self.payloads)

    @property
    def was_good(self) -> bool:
        """Whether a rendering could have met a form of it that is good."""
        return self.time is not None and any(payload not in BAD_PAYLOADS for payload in self.payloads)


class Application:
    """Concurrent writing transactions over one source."""

    def __init__(self, source: MemorySource) -> None:
        self._source = source
        self.running: dict[int, list[Row]] = {}
        self.rows: dict[str, list[Row]] = {}

    def begin(self) -> int:
        """Start a transaction."""
        number = self._source.begin()
        self.running[number] = []
        return number

    def insert(self, transaction: int, account: str, time: datetime | None, payload: str) -> Row:
        """Write a record; no time stands for one that cannot be read."""
        said = {"payload": PAYLOADS[payload]}
        record_id = self._source.insert(transaction, account, time or "yesterday", **said)
        row = Row(record_id, account, time, transaction, [payload])
        self.running[transaction].append(row)
        return row

    def commit(self, transaction: int) -> list[Row]:
        """Make a transaction's records visible."""
        self._source.commit(transaction)
        rows = self.running.pop(transaction)
        for row in rows:
            self.rows.setdefault(row.account, []).append(row)
        return rows

    def roll_back(self, transaction: int) -> None:
        """Forget a transaction's records."""
        self._source.rollback(transaction)
        del self.running[transaction]

    def update(self, row: Row, payload: str) -> None:
        """Change what a visible record says."""
        row.payloads.append(payload)
        self._source.update(row.id, row.account, row.time or "yesterday", payload=PAYLOADS[payload])

    def fail_over(self) -> None:
        """Lose what is not committed, and go on with a copy of the database."""
        self._source.fail_over()
        self.running.clear()

    def row(self, account: str, record_id: int) -> Row | None:
        """A visible record of an account."""
        return next((row for row in self.rows.get(account, ()) if row.id == record_id), None)

    # --- the truth about ranges ------------------------------------------------------------------

    def members(self, one: Range) -> list[tuple[Row, bool]]:
        """The records of a range in its order, each with whether it is late."""
        found = [
            (row, late)
            for row in self.rows.get(one.account, ())
            if (late := _is_late(row, one)) is not None and _within(row, one)
        ]
        return sorted(found, key=lambda member: member[0].key)

    def due(self, account: str, begin: datetime, begin_seal: Seal) -> Iterator[Row]:
        """What live delivery from ``begin`` on covers, of the records that are visible by now."""
        for row in self.rows.get(account, ()):
            if row.time is None or row.time >= begin or not visible(row, begin_seal):
                yield row


def visible(row: Row, seal: Seal) -> bool:
    """Whether a committed record was visible for good when the seal was taken."""
    return row.position < cast("int", seal["horizon"])


def _is_late(row: Row, one: Range) -> bool | None:
    """Whether a record of this range is late; None for a record of another one."""
    is_new = one.previous is not None and not visible(row, one.previous)
    if not visible(row, one.seal):
        return None
    if row.time is None:
        return False if is_new or (one.first and one.previous is not None) else None
    if row.time < one.window.start:
        return True if is_new else None
    return False if row.time < one.window.end else None


def _within(row: Row, one: Range) -> bool:
    return (one.after is None or place(one.after) < row.key) and (
        one.last is None or row.key <= place(one.last)
    )


def place(key: Key) -> tuple[str, int]:
    """A key of the ledger as rows have it."""
    time, record_id = key
    return (str(time or ""), int(record_id))
