"""A ledger under test, and one export to try it on: what the suites `ledger_rules`, … have in common.

It must not look behind `Storage`: every suite holds for every kind of ledger.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import pytest

from exporter.ledger.requests import Requests
from exporter.ledger.rules import Draft, Ledger, standing_of
from exporter.model import (
    LIVE_LANE,
    Attempt,
    BadRecord,
    Content,
    Lane,
    LaneKind,
    Outcome,
    Plan,
    Range,
    Rendering,
    SealedWindow,
    Stamp,
    Window,
    flat_mapping,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from exporter.ledger.rules import Standing
    from exporter.ledger.storage import Rows, Storage
    from exporter.model import Export, Seal

NAME: Final = "acme"
STORE: Final = "memory://bucket"
CLAIM: Final = f"{STORE}/audit/acme"
BEGIN: Final = datetime(2026, 11, 19, tzinfo=UTC)
EVERY: Final = timedelta(hours=4)
FAR: Final = datetime(2100, 1, 1, tzinfo=UTC)
RENDERING: Final = Rendering(
    "standard", flat_mapping({"Date": ("instant", "time"), "Email": ("string", None)})
)
BAD: Final = BadRecord("7", "its time cannot be read", 5, b"\x00\xff\n\r'")
MAY_HAVE_LANDED: Final = {Outcome.PENDING, Outcome.SUCCEEDED, Outcome.UNKNOWN}


def at(hours: float) -> datetime:
    """So many hours after the begin."""
    return BEGIN + timedelta(hours=hours)


def seal(horizon: int) -> Seal:
    """A seal, told apart by its number."""
    return {"horizon": horizon}


def content(sha256: str = "a") -> Content:
    """The content of some package, told apart by the hash of its lines."""
    return Content(3, 1, 0, 300, sha256 * 64, 120, "f" * 64)


@dataclass
class TestClock:
    """A clock that stands still until it is set."""

    __test__ = False
    now: datetime = BEGIN

    def __call__(self) -> datetime:
        return self.now


@dataclass
class Subject:
    """A ledger under test, with one export to try it on."""

    storage: Storage
    clock: TestClock = field(default_factory=TestClock)

    def __post_init__(self) -> None:
        self.ledger = Ledger(self.storage, self.clock)
        self.requests = Requests(self.ledger, self.clock)

    def begin(self, name: str = NAME, claim: str = CLAIM) -> Standing:
        """Begin an export at `BEGIN` with seal 0."""
        return self.ledger.begin(name, "acme", claim, BEGIN, seal(0))

    def standing(self, name: str = NAME) -> Standing:
        """What the ledger says of an export that has begun."""
        standing = self.ledger.standing(name)
        assert standing is not None
        return standing

    def export(self) -> Export:
        """The export's own row."""
        return self.standing().export

    def draft(self, lane_id: str = LIVE_LANE, *, final: bool = True, last: int = 9, bad: int = 0) -> Draft:
        """A draft of the next part of a lane, as the pipeline would make it."""
        standing = self.standing()
        lane, number = standing.lane(lane_id), standing.export.sequence + 1
        window = Window(lane.watermark, lane.open_end or min(lane.until or FAR, lane.watermark + EVERY))
        live = lane.kind is LaneKind.LIVE
        range_ = Range(
            account="acme",
            window=window,
            seal=(lane.open_seal or seal(100 + number)) if live else lane.seal,
            previous=lane.seal if live else None,
            after=lane.last_key,
            last=(window.end.isoformat(), last),
        )
        stamp = Stamp(window.end, number)
        made = replace(content(), bad=bad)
        return Draft(lane_id, range_, RENDERING, final, f"audit/acme/{number}.zip", stamp, made)

    def plan(self, lane_id: str = LIVE_LANE, *, final: bool = True, last: int = 9) -> Plan:
        """Plan the next part of a lane."""
        return self.ledger.plan(self.export(), self.draft(lane_id, final=final, last=last))

    def deliver(self, plan: Plan) -> Plan:
        """An attempt at a plan that succeeds."""
        attempt = self.ledger.attempt(plan, plan.content, STORE)
        return self.ledger.commit(plan, attempt, Outcome.SUCCEEDED)

    def answered(self, plan: Plan, outcome: Outcome, store: str = STORE, sha256: str = "a") -> Attempt:
        """An attempt at a plan of which this is known."""
        attempt = self.ledger.attempt(plan, content(sha256), store)
        return self.know(attempt, outcome)

    def know(self, attempt: Attempt, outcome: Outcome) -> Attempt:
        """Set what is known of an attempt, by no rule."""
        known = replace(attempt, outcome=outcome)
        with self.storage.writing() as rows:
            rows.update_attempt(known)
        return known

    def change(self, **values: object) -> None:
        """Change the export's row by no rule."""
        with self.storage.writing() as rows:
            export = rows.export(NAME)
            assert export is not None
            rows.update_export(replace(export, **values))  # type: ignore[arg-type]


class WatchedStorage:
    """A storage of which one can tell whether a transaction that writes is open."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self.inside = False
        self.together = storage.together
        self.reading = storage.reading
        self.close = storage.close

    @contextmanager
    def writing(self, export: str | None = None) -> Iterator[Rows]:
        """A transaction."""
        with self._storage.writing(export) as rows:
            self.inside = True
            try:
                yield rows
            finally:
                self.inside = False


class GroupedLedger(Ledger):
    """A ledger whose rules each go through a transaction of several exports, in which there is only one."""

    @contextmanager
    def writing(self, export: str | None = None) -> Iterator[Any]:
        """A transaction."""
        if export is None:
            with super().writing() as rows:
                yield rows
        else:
            with self.together([export]) as rules, rules.writing(export) as rows:
                yield rows

    @contextmanager
    def claiming(self, export: str) -> Iterator[Any]:
        """A transaction."""
        with self.together([export]) as rules, rules.claiming(export) as rows:
            yield rows

    def standing(self, name: str) -> Standing | None:
        """As such a transaction sees it."""
        with self.storage.together([name]) as rows:  # also of a ledger that is another one by now
            return standing_of(rows, name)


class GroupedSubject(Subject):
    """A subject with such a ledger; what a person asks for comes as ever."""

    def __post_init__(self) -> None:
        self.ledger = GroupedLedger(self.storage, self.clock)
        self.requests = Requests(Ledger(self.storage, self.clock), self.clock)


class ScopedRows:
    """Rows that hand out nothing but what belongs to one export, and the ledger's id."""

    def __init__(self, rows: Rows, export: str) -> None:
        self._rows = rows
        self._export = export

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever Rows has
        def within(*arguments: Any, **more: Any) -> Any:  # noqa: ANN401
            owner = self._owner_of(name, *arguments)
            assert owner == self._export, f"{name} touches {owner!r} in a transaction of {self._export!r}"
            return getattr(self._rows, name)(*arguments, **more)

        return within

    def _owner_of(self, name: str, first: Any = None, *_: object) -> str | None:  # noqa: ANN401
        """Whose the rows are that a method reads or writes; None: everybody's."""
        by_name = {"export", "lane", "lanes", "open_plans", "plan_by_sequence"}
        by_plan = {"plan", "attempts", "insert_bad_records", "bad_records"}
        # An attempt's row is that of the process which made it, whatever its export is called by now: who
        # else reads it does so once, before or after.
        # A row of the quarantine was looked up by its export before.
        own = {"ledger_id", "update_attempt", "update_bad_record"}
        owner: str | None = None
        if name in own:
            owner = self._export
        elif name in by_name | {"last_window_before", "delete_windows"}:
            owner = first
        elif name == "update_export":
            owner = first.name
        elif name in by_plan or isinstance(first, Attempt):
            plan = self._rows.plan(first.plan if isinstance(first, Attempt) else first)
            owner = self._export if plan is None or name == "plan" else plan.export
        elif isinstance(first, Lane | Plan | SealedWindow):
            owner = first.export
        return owner


class ScopedStorage:
    """A storage on which a transaction that names an export fails when it touches anything else."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self.together = storage.together
        self.reading = storage.reading
        self.close = storage.close

    @contextmanager
    def writing(self, export: str | None = None) -> Iterator[Any]:
        """A transaction."""
        with self._storage.writing(export) as rows:
            yield rows if export is None else ScopedRows(rows, export)


def everything(storage: Storage, names: Iterable[str] = (NAME,)) -> Mapping[str, object]:
    """All that a storage shows of these exports, to be compared before and after."""
    with storage.reading() as rows:
        plans = [rows.plan_by_sequence(name, number) for name in names for number in range(1, 9)]
        open_plans = sorted(rows.open_plans(), key=lambda plan: plan.export)
        known = [*open_plans, *filter(None, plans)]
        return {
            "id": rows.ledger_id(),
            "exports": rows.exports(),
            "lanes": sorted(rows.lanes(), key=lambda lane: (lane.export, lane.id)),
            "plans": plans,
            "open": open_plans,
            "attempts": [rows.attempts(plan.id) for plan in known],
            "bad": [rows.bad_records(plan.id) for plan in known],
            "windows": [rows.last_window_before(name, FAR) for name in names],
            "run": rows.last_run(),
        }


def changes_nothing(subject: Subject, error: type[Exception], call: Callable[[], object]) -> Exception:
    """The call raises this error, and the ledger is what it was before."""
    before = everything(subject.storage)
    with pytest.raises(error) as raised:
        call()
    assert everything(subject.storage) == before
    return raised.value
