"""Calls of the protocol as chance has them, made one by one and in groups: both leave the same ledger.

Who calls knows what it was told last, which may be old: so conflicts, stops and refusals are among the
answers. Ids and times are the same on both sides, and so every answer can be compared as it is.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import count
from typing import TYPE_CHECKING, Any, Final

from hypothesis import strategies as st

from exporter.errors import ExporterError
from exporter.ledger.rules import Draft, Ledger
from exporter.model import LIVE_LANE, BadKind, BadRecord, Failure, Outcome, Range, Rendering, Stamp, Window
from tests.contracts.ledger import BAD, BEGIN, EVERY, FAR, RENDERING, TestClock, content, seal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from exporter.ledger.rules import Rules, Standing
    from exporter.ledger.storage import Storage
    from exporter.model import Attempt, Plan

EXPORTS: Final = 3
EVENTS: Final = Rendering("native", None, "events", batch_bytes=900)
REFUSED: Final = replace(BAD, kind=BadKind.REFUSED)
PAUSES: Final = (timedelta(), timedelta(hours=4), timedelta(days=401), -timedelta(days=500))


@dataclass(frozen=True)
class Call:
    """One call: what, of which export, and a number that decides the rest."""

    what: str
    export: int
    choice: int
    pause: timedelta
    goes_on: bool  # in the same group as the one before


SINGLE: Final = (
    *("begin", "relocate", "look", "plan", "attempt", "answer", "judge", "commit", "reach"),
    *("interrupted", "advance", "fail", "delivered", "attempts"),
)
STORIES: Final = (
    ("look", "plan", "attempt", "commit", "delivered"),
    ("look", "plan", "attempt", "answer", "attempt", "judge", "commit"),
    ("look", "plan", "attempt", "judge", "attempt"),
    ("look", "plan", "attempt", "reach", "look", "reach", "interrupted", "attempt", "commit"),
    ("look", "advance", "advance"),
    ("look", "attempt", "attempts", "commit"),
    ("look", "reach", "reach", "commit"),
)


@st.composite
def _scenes(draw: st.DrawFn) -> list[Call]:
    """Some exports do the same one after the other, or one of them does anything at all."""
    story = draw(
        st.sampled_from(STORIES) | st.sampled_from(STORIES) | st.sampled_from(SINGLE).map(lambda one: (one,))
    )
    exports = draw(st.lists(st.integers(0, EXPORTS - 1), min_size=1, unique=True))
    pause = draw(st.sampled_from(PAUSES))
    return [
        Call(
            what,
            export,
            draw(st.integers(0, 11)),
            timedelta() if index else pause,
            draw(st.sampled_from([True, True, True, False])),
        )
        for what in story
        for index, export in enumerate(exports)
    ]


def _begun(scenes: list[list[Call]]) -> list[Call]:
    """Two exports have begun, each in a place of its own, before anything else is done."""
    begins = [Call("begin", export, export, timedelta(), True) for export in range(EXPORTS - 1)]
    return [*begins, *(call for scene in scenes for call in scene)]


calls: Final = st.lists(_scenes(), min_size=2, max_size=8).map(_begun)


@dataclass
class Caller:
    """A process: its ledger, what it was told last, and what it was answered."""

    storage: Storage
    prefix: str
    clock: TestClock = field(default_factory=TestClock)
    answers: list[object] = field(default_factory=list)

    def __post_init__(self) -> None:
        numbers = count(1)
        self.ledger = Ledger(self.storage, self.clock, lambda: f"{self.prefix}{next(numbers):025d}")
        self.names = [f"{self.prefix}-{number}" for number in range(EXPORTS)]
        self._known: dict[str, Standing] = {}
        self._plans: dict[str, Plan] = {}
        self._tries: dict[str, Attempt] = {}

    def one_by_one(self, made: Iterable[Call]) -> None:
        """Each call is a transaction of its own."""
        for call in made:
            self._make(self.ledger, call)

    def in_groups(self, made: Iterable[Call]) -> None:
        """Neighbouring calls are made in one transaction."""
        for group in _groups(made):
            with self.ledger.together({self.names[call.export] for call in group}) as rules:
                for call in group:
                    self._make(rules, call)

    def _make(self, rules: Rules, call: Call) -> None:
        self.clock.now += call.pause
        name, make = self.names[call.export], getattr(self, f"_{call.what}")
        try:
            answer = make(rules, name, call.choice)
        except ExporterError as error:
            answer = (type(error), error.message, error.hint)
        self.answers.append(answer)

    def _begin(self, rules: Rules, name: str, choice: int) -> object:
        claim = f"{self.prefix} place {choice % 4}"
        self._known[name] = rules.begin(name, "acme", claim, BEGIN, seal(0), is_events=choice > 5)
        return self._known[name]

    def _relocate(self, rules: Rules, name: str, choice: int) -> object:
        claim = f"{self.prefix} place {choice % 4}"
        return rules.relocate(name, "acme" if choice else "another", claim)

    def _look(self, rules: Rules, name: str, _: int) -> object:
        standing = rules.standing(name)
        if standing is not None:
            self._known[name] = standing
            if standing.open_plan is not None:
                self._plans[name] = standing.open_plan
        return standing

    def _plan(self, rules: Rules, name: str, choice: int) -> object:
        if name not in self._known:
            return None
        standing = self._known[name]
        number, lane = standing.export.sequence + 1, standing.live
        window = Window(lane.watermark, lane.open_end or lane.watermark + EVERY)
        range_ = Range("acme", window, seal(number), lane.seal, after=lane.last_key, last=("x", number))
        rendering = EVENTS if choice > 7 else RENDERING
        made = replace(content(), bad=choice % 3)
        draft = Draft(
            LIVE_LANE, range_, rendering, choice % 2 == 0, f"{number}.zip", Stamp(window.end, number), made
        )
        self._plans[name] = rules.plan(standing.export, draft, [BAD] * (choice % 3))
        return self._plans[name]

    def _attempt(self, rules: Rules, name: str, choice: int) -> object:
        plan = self._plans.get(name)
        if plan is None:
            return None
        self._tries[name] = rules.attempt(plan, content("ab"[choice % 2]), f"memory://{choice % 2}")
        return self._tries[name]

    def _with_attempt(self, name: str, act: Callable[[Plan, Attempt], object]) -> object:
        plan, attempt = self._plans.get(name), self._tries.get(name)
        return None if plan is None or attempt is None else act(plan, attempt)

    def _answer(self, rules: Rules, name: str, choice: int) -> object:
        outcome = (Outcome.UNKNOWN, Outcome.REFUSED, Outcome.NOT_SENT)[choice % 3]
        failure = Failure("no", "", self.clock.now)
        return self._with_attempt(
            name, lambda plan, one: rules.answer(plan, one, outcome, failure, self.clock.now)
        )

    def _judge(self, rules: Rules, name: str, _: int) -> object:
        return self._with_attempt(name, rules.judge)

    def _interrupted(self, rules: Rules, name: str, _: int) -> object:
        return self._with_attempt(name, rules.interrupted)

    def _commit(self, rules: Rules, name: str, choice: int) -> object:
        outcome = Outcome.EXISTS if choice % 3 == 0 else Outcome.SUCCEEDED
        return self._with_attempt(name, lambda plan, one: rules.commit(plan, one, outcome))

    def _reach(self, rules: Rules, name: str, choice: int) -> object:
        plan = self._plans.get(name)
        if plan is None:
            return None
        key = plan.range.last if choice % 2 else ("w", choice)
        assert key is not None
        refused: list[BadRecord] = [REFUSED] * (choice % 3)
        rules.reach(plan, plan.reached, key, choice, refused)
        self._plans[name] = replace(plan, reached=key)
        return None

    def _advance(self, rules: Rules, name: str, choice: int) -> object:
        if name not in self._known:
            return None
        standing = self._known[name]
        end = standing.live.open_end or standing.live.watermark + EVERY
        rules.advance(standing.export, LIVE_LANE, end, seal(choice), choice)
        return self._look(rules, name, choice)

    def _fail(self, rules: Rules, name: str, choice: int) -> None:
        rules.fail(name, f"trouble {choice}", "")

    def _delivered(self, rules: Rules, name: str, choice: int) -> object:
        return rules.delivered(name, choice % 5)

    def _attempts(self, rules: Rules, name: str, _: int) -> object:
        plan = self._plans.get(name)
        return None if plan is None else rules.attempts(plan.id)

    def left(self, moments: Iterable[Any]) -> dict[str, object]:
        """All that the ledger holds of its exports."""
        with self.storage.reading() as rows:
            exports = [rows.export(name) for name in self.names]
            plans = {
                plan.id: plan
                for export in exports
                if export is not None
                for number in range(1, export.sequence + 1)
                if (plan := rows.plan_by_sequence(export.name, number)) is not None
            }
            return {
                "exports": exports,
                "lanes": [rows.lanes(name) for name in self.names],
                "open": [rows.open_plans(name) for name in self.names],
                "plans": plans,
                "attempts": {plan_id: rows.attempts(plan_id) for plan_id in plans},
                "bad": {plan_id: rows.bad_records(plan_id) for plan_id in plans},
                "waiting": [rows.waiting(name) for name in self.names],
                "windows": [
                    rows.last_window_before(name, moment)
                    for name in self.names
                    for moment in sorted({*moments, FAR})
                ],
            }


def _groups(made: Iterable[Call]) -> list[list[Call]]:
    groups: list[list[Call]] = []
    for call in made:
        if call.goes_on and groups:
            groups[-1].append(call)
        else:
            groups.append([call])
    return groups
