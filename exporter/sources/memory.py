"""A source in memory, with PostgreSQL's rules: rows get a position at insert and are seen at commit.

Product code: simulations run the whole pipeline over it. A position is the number of the inserting
transaction; the horizon is the oldest running one. It keeps nothing and shares nothing between processes.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, cast

from exporter.columns import Layout, Roles, RowBlock, TextTimes
from exporter.errors import MissingColumn, SourceChanged, SourceError
from exporter.model import Branch, Finding, Level
from exporter.sources.derived import require_derived

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping, Sequence

    from exporter.interfaces import Clock
    from exporter.model import Key, Range, Seal
    from exporter.sources.derived import FirstOf

_ROLES = Roles(id="id", time="time", account="account")
_ACCEPT = "if this is meant to be so, accept it: audit-exporter ledger accept-source --from TIME"


@dataclass(slots=True)
class _Record:
    """``value`` is the time as keys have it, None when it is unreadable."""

    position: int
    id: int
    value: str | None
    row: tuple[object, ...]

    @property
    def key(self) -> Key:
        return (self.value, self.id)


class MemorySource:
    """An append-mostly table of records with columns id, time, account and ``extra``."""

    def __init__(self, clock: Clock, extra: Sequence[str] = (), derived: Sequence[FirstOf] = ()) -> None:
        self._clock = clock
        self._names = ("id", "time", "account", *extra)
        require_derived(derived, self._names)
        self._derived = derived
        self._lock = threading.Lock()
        self._timeline = 1
        self._last_id = 0
        self._next_transaction = 1
        self._running: dict[int, list[tuple[str, _Record]]] = {}
        self._accounts: dict[str, list[_Record]] = {}

    # --- What the vendor's application does ------------------------------------------------------

    def begin(self) -> int:
        """Start a transaction; until it ends, its number holds the horizon back."""
        with self._lock:
            number = self._next_transaction
            self._next_transaction += 1
            self._running[number] = []
            return number

    def insert(self, transaction: int, account: str, time: datetime | object, **values: object) -> int:
        """Add a record, unseen until the commit, and give its id. No datetime: an unreadable time."""
        with self._lock:
            self._last_id += 1
            record = self._record(transaction, self._last_id, account, time, values)
            self._running[transaction].append((account, record))
            return record.id

    def commit(self, transaction: int) -> None:
        """Make the transaction's records visible."""
        with self._lock:
            for account, record in self._running.pop(transaction):
                self._accounts.setdefault(account, []).append(record)

    def rollback(self, transaction: int) -> None:
        """Forget the transaction's records; their ids stay used."""
        with self._lock:
            del self._running[transaction]

    def update(self, record_id: int, account: str, time: datetime | object, **values: object) -> None:
        """Replace what a visible record of the account says; its position stays."""
        with self._lock:
            records = self._accounts[account]
            index = next(index for index, record in enumerate(records) if record.id == record_id)
            records[index] = self._record(records[index].position, record_id, account, time, values)

    def delete(self, record_id: int, account: str) -> None:
        """Remove a visible record."""
        with self._lock:
            self._accounts[account] = [one for one in self._accounts[account] if one.id != record_id]

    def fail_over(self) -> None:
        """Go on as another copy of the database: running transactions are gone, the timeline is new."""
        with self._lock:
            self._timeline += 1
            self._running.clear()

    def _record(
        self, position: int, record_id: int, account: str, time: object, values: Mapping[str, object]
    ) -> _Record:
        shown, value = time, None
        if isinstance(time, datetime):
            naive = time.astimezone(UTC).replace(tzinfo=None)
            shown = naive.isoformat(timespec="microseconds") + "Z"
            value = _value(naive)
        row = (record_id, shown, account, *(values.get(name) for name in self._names[3:]))
        return _Record(position, record_id, value, row)

    # --- What the pipeline sees ------------------------------------------------------------------

    def now(self) -> datetime:
        """The clock that was given."""
        return self._clock()

    def identity(self) -> str:
        """Which of the copies this is."""
        return f"memory timeline {self._timeline}"

    def columns(self) -> Sequence[str]:
        """id, time, account, the extra ones and those that are derived."""
        return (*self._names, *(first.name for first in self._derived))

    def seal(self, previous: Seal | None = None, due: datetime | None = None) -> Seal:
        """The horizon: every record of an older transaction is visible for good."""
        del due
        with self._lock:
            if previous is not None:
                self._require(previous)
            return {"kind": "memory", "horizon": self._horizon(), "timeline": self._timeline}

    def holds(self, seal: Seal) -> bool:
        """Whether the timeline is the seal's and the horizon has reached it."""
        with self._lock:
            return self._objection(seal) is None

    def adopt(self, seal: Seal) -> Seal | None:
        """A seal of an earlier timeline: what it holds was before the fail-over."""
        with self._lock:
            moved = {**seal, "timeline": self._timeline}
            return moved if self._objection(moved) is None else None

    def read(
        self, ranges: Sequence[Range], columns: Sequence[str] | None
    ) -> Generator[tuple[int, RowBlock], None, None]:
        """Every record of the ranges, a block for each branch."""
        with self._lock:
            for one in ranges:
                for seal in (one.seal, *([one.previous] if one.previous else ())):
                    self._require(seal)
            visible = [tuple(self._accounts.get(one.account, ())) for one in ranges]
        there = tuple(self.columns())
        asked = set(there if columns is None else columns)
        if missing := asked - set(there):
            listed = ", ".join(there)
            raise MissingColumn(f"the source has no column {min(missing)!r}", hint=f"it has {listed}")
        derived = [first for first in self._derived if first.name in asked]
        names = (*self._names, *(first.name for first in derived))
        shown = tuple(name for name in there if name in asked)
        layout = Layout(names, shown, _ROLES, TextTimes())
        for index, one in enumerate(ranges):
            rules = [_FirstRule(first, self._names, visible[index], one) for first in derived]
            for branch, records in _select(visible[index], one):
                rows = [(*record.row, *(rule(record) for rule in rules)) for record in records]
                yield index, RowBlock(branch, layout, rows)

    def quiet_until(self, account: str, start: datetime, end: datetime, seal: Seal) -> datetime:
        """The second of the first record on time, else ``end``."""
        with self._lock:
            self._require(seal)
            low, high, horizon = _bound(start), _bound(end), _horizon_of(seal)
            values = [
                record.value
                for record in self._accounts.get(account, ())
                if record.value is not None and low <= record.value < high and record.position < horizon
            ]
        return datetime.fromisoformat(min(values)[:19]).replace(tzinfo=UTC) if values else end

    def settings(self, query: str) -> Sequence[bytes]:
        """Memory has no queries."""
        raise SourceError(
            f"a source in memory cannot run the query {query!r}", hint="list the exports instead"
        )

    def check(self, accounts: Sequence[str]) -> Sequence[Finding]:
        """Which accounts have no record."""
        with self._lock:
            return [
                Finding(account, Level.WARNING, "no record of this account", "is it spelt as in the source?")
                for account in accounts
                if not self._accounts.get(account)
            ]

    def close(self) -> None:
        """Nothing is held."""

    def _horizon(self) -> int:
        return min(self._running, default=self._next_transaction)

    def _require(self, seal: Seal) -> None:
        if objection := self._objection(seal):
            raise SourceChanged(objection, hint=_ACCEPT)

    def _objection(self, seal: Seal) -> str | None:
        if seal.get("kind") != "memory" or seal["timeline"] != self._timeline:
            return "the source is not the one that the seal was taken from"
        if self._horizon() < _horizon_of(seal):
            return "the source went back: it has not reached the seal"
        return None


def _select(records: Sequence[_Record], one: Range) -> Iterator[tuple[Branch, list[_Record]]]:
    """The branches of a range that hold a record, in order, each sorted by key."""
    chosen: dict[Branch, list[_Record]] = {branch: [] for branch in Branch}
    branch_of = _BranchRule(one)
    for record in records:
        branch = branch_of(record)
        if branch is not None and _within(record.key, one):
            chosen[branch].append(record)
    for branch, found in chosen.items():
        if found:
            yield branch, sorted(found, key=_sort_key)


class _BranchRule:
    """Which branch of one range a record belongs to, if any."""

    def __init__(self, one: Range) -> None:
        self._horizon = _horizon_of(one.seal)
        self._previous = None if one.previous is None else _horizon_of(one.previous)
        self._first = one.first
        self._start, self._end = _bound(one.window.start), _bound(one.window.end)

    def __call__(self, record: _Record) -> Branch | None:
        if record.position >= self._horizon:
            return None
        is_new = self._previous is not None and record.position >= self._previous
        if record.value is None:
            is_due = is_new or (self._first and self._previous is not None)
            return Branch.UNREADABLE if is_due else None
        if record.value < self._start:
            return Branch.LATE if is_new else None
        return Branch.ON_TIME if record.value < self._end else None


class _FirstRule:
    """Whether a record of one range is its user's first, as ``derived`` says."""

    def __init__(self, first: FirstOf, names: Sequence[str], records: Sequence[_Record], one: Range) -> None:
        self._of, self._action = names.index(first.of), names.index(first.action)
        self._actions = first.actions
        horizon, start = _horizon_of(one.seal), _bound(one.window.start)
        known = 0 if one.previous is None else _horizon_of(one.previous)
        self._known: set[str] = set()
        self._firsts: dict[str, Key] = {}
        for record in sorted(records, key=_sort_key):
            user = self._user(record)
            if user is None or record.value is None or record.position >= horizon:
                continue
            self._firsts.setdefault(user, record.key)
            if record.position < known and record.value < start:
                self._known.add(user)

    def __call__(self, record: _Record) -> bool | None:
        user = self._user(record)
        if user is None or record.value is None:
            return None
        return user not in self._known and self._firsts[user] == record.key

    def _user(self, record: _Record) -> str | None:
        """Whose record it is, if it has one of the actions."""
        user, action = record.row[self._of], record.row[self._action]
        return None if user is None or action not in self._actions else str(user)


def _within(key: Key, one: Range) -> bool:
    """Whether a key lies in the part that the range asks for."""
    order = _order(key)
    return (one.after is None or _order(one.after) < order) and (
        one.last is None or order <= _order(one.last)
    )


def _order(key: Key) -> tuple[str, int]:
    """Keys as they sort: the unreadable ones first."""
    time, record_id = key
    return ("" if time is None else str(time), int(record_id))


def _sort_key(record: _Record) -> tuple[str, int]:
    return (record.value or "", record.id)


def _value(naive: datetime) -> str:
    """A time in UTC, as keys have it."""
    return naive.isoformat(sep=" ", timespec="microseconds") + "000"


def _bound(time: datetime) -> str:
    return _value(time.astimezone(UTC).replace(tzinfo=None))


def _horizon_of(seal: Seal) -> int:
    return cast("int", seal["horizon"])
