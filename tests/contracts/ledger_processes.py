"""Many processes that deliver the same exports at once, die, and are told nothing of each other.

`live` is one of them, `broken_promises` what has to be true of the ledger and the store afterwards. The
store is a folder that creates objects whole or not at all; in each is the id of its plan.
"""

from __future__ import annotations

import os
import random
import signal
import time
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from exporter import keys
from exporter.errors import ConfigError, Conflict, LedgerError, NameTaken
from exporter.ledger.requests import Requests
from exporter.ledger.rules import Draft, Ledger
from exporter.ledger.storage import RunRecord
from exporter.model import LIVE_LANE, Failure, Outcome, PlanState, Range, Window
from tests.contracts.ledger import BEGIN, EVERY, RENDERING, STORE, content
from tests.contracts.ledger_storage import MortalRows

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from pathlib import Path

    from exporter.ledger.rules import Standing
    from exporter.ledger.storage import Storage
    from exporter.model import Attempt, Lane, Plan, SealedWindow

EXPORTS: Final = ("acme", "globex", "initech", "umbrella")
RENAMED: Final = "initech renamed"
DEATHS: Final = 1 / 500
"""How likely a process is to die before a change, and before each thing it does."""


@dataclass(frozen=True)
class World:
    """Where the processes live, and the file whose appearance ends it."""

    open_storage: Callable[[], Storage]
    store: Path
    end: Path


def live(world: World, seed: int) -> None:
    """One process, from its start to its end or death."""
    life = _Life(world, random.Random(seed))
    while not world.end.exists():
        try:
            with closing(world.open_storage()) as storage:
                life.go_on(storage)
        except LedgerError:
            time.sleep(0.05)  # its server is away: as the next run would, it begins again


class _Life:
    """What one process does, as a throw of the dice decides."""

    def __init__(self, world: World, dice: random.Random) -> None:
        self._world = world
        self._dice = dice
        self._ledger: Ledger
        self._requests: Requests

    def go_on(self, storage: Storage) -> None:
        """Deliver whatever comes next, of one export after the other."""
        clock = lambda: BEGIN  # noqa: E731 - names and windows come from the ledger
        self._ledger = Ledger(_MortalStorage(storage, self._risk), clock)
        self._requests = Requests(self._ledger, clock)
        self._ledger.record_run(RunRecord(uuid4().hex, BEGIN))
        while not self._world.end.exists():
            with suppress(Conflict, NameTaken, ConfigError):  # another one was first, or renamed it
                self._step(self._dice.choice((*EXPORTS, RENAMED)))
            self._risk()

    def _risk(self) -> None:
        if self._dice.random() < DEATHS:
            os.kill(os.getpid(), signal.SIGKILL)

    def _step(self, name: str) -> None:
        standing = self._ledger.standing(name)
        if standing is None:
            account = "initech" if name == RENAMED else name
            self._ledger.begin(name, account, f"{STORE}/{account}", BEGIN, {"horizon": 0})
        elif self._dice.random() < 0.05:
            self._ask(name)
        elif standing.open_plan is not None:
            self._deliver(standing.open_plan)
        elif self._dice.random() < 0.2:
            end = standing.live.open_end or standing.live.watermark + EVERY
            self._ledger.advance(standing.export, LIVE_LANE, end, standing.live.open_seal or self._seal())
        else:
            self._ledger.plan(standing.export, self._draft(standing))

    def _ask(self, name: str) -> None:
        """What a person asks for in the middle of it."""
        if name in ("initech", RENAMED):
            self._requests.rename(name, RENAMED if name == "initech" else "initech")
        else:
            self._requests.resume(name)

    def _seal(self) -> dict[str, Any]:
        return {"horizon": self._dice.getrandbits(60)}

    def _draft(self, standing: Standing) -> Draft:
        lane, export = standing.live, standing.export
        window = Window(lane.watermark, lane.open_end or lane.watermark + EVERY)
        stamp = keys.next_stamp(max(filter(None, (window.end, export.names_from))), export.stamp)
        number = self._dice.getrandbits(60)
        range_ = Range(
            account=export.account,
            window=window,
            seal=lane.open_seal or self._seal(),
            previous=lane.seal,
            after=lane.last_key,
            last=(window.end.isoformat(), number),
        )
        final = self._dice.random() < 0.6
        name = keys.object_name("", export.account, stamp, ".zip")
        return Draft(LIVE_LANE, range_, RENDERING, final, name, stamp, content(f"{number % 16:x}"))

    def _deliver(self, plan: Plan) -> None:
        attempt = self._ledger.attempt(plan, plan.content, STORE)
        fate = self._dice.choices(
            (Outcome.SUCCEEDED, Outcome.UNKNOWN, Outcome.REFUSED, Outcome.NOT_SENT), (6, 2, 1, 1)
        )[0]
        self._risk()
        outcome = fate if fate is not Outcome.SUCCEEDED else self._put(plan, attempt)
        if fate is Outcome.UNKNOWN and self._dice.random() < 0.5:
            self._put(plan, attempt)
        self._risk()
        if fate is Outcome.SUCCEEDED:
            self._ledger.commit(plan, attempt, outcome)
        else:
            self._ledger.answer(plan, attempt, outcome, Failure("no", "", BEGIN), BEGIN)

    def _put(self, plan: Plan, attempt: Attempt) -> Outcome:
        path, unfinished = self._world.store / plan.name, self._world.store / attempt.id
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_text(plan.id)
        try:
            os.link(unfinished, path)
        except FileExistsError:
            if not self._ledger.judge(plan, attempt):
                raise AssertionError(f"{plan.name} is taken for a foreign object") from None
            return Outcome.EXISTS
        finally:
            unfinished.unlink()
        return Outcome.SUCCEEDED


class _MortalStorage:
    """A storage under which the process may die before any change."""

    def __init__(self, storage: Storage, risk: Callable[[], None]) -> None:
        self._storage = storage
        self._risk = risk
        self.reading = storage.reading
        self.close = storage.close

    @contextmanager
    def together(self, exports: Collection[str]) -> Iterator[Any]:
        """A transaction of several exports."""
        with self._storage.together(exports) as rows:
            yield MortalRows(rows, self._risk)

    @contextmanager
    def writing(self, export: str | None = None) -> Iterator[Any]:
        """A transaction."""
        with self._storage.writing(export) as rows:
            yield MortalRows(rows, self._risk)


# --- afterwards --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Found:
    """All that there is of one export: the plans that count, by number, and its windows in turn."""

    standing: Standing
    plans: list[Plan]
    windows: list[SealedWindow]


def broken_promises(found: Found, objects: dict[str, str]) -> list[str]:
    """What is wrong with an export; ``objects`` are the ids of plans by the objects' names."""
    export, plans = found.standing.export, found.plans
    delivered = [plan for plan in plans if plan.state is PlanState.DELIVERED]
    broken = {
        "it was stopped": not export.stopped,
        "numbers have gaps or doubles": [plan.sequence for plan in plans]
        == list(range(1, export.sequence + 1)),
        "a plan is open that is not the last": all(
            plan.state is PlanState.DELIVERED for plan in plans if plan != found.standing.open_plan
        ),
        "names do not grow": all(one.name < other.name for one, other in pairwise(plans)),
        "an object is not that of its plan": all(objects.get(plan.name) == plan.id for plan in delivered),
        "windows do not follow each other": [window.end for window in found.windows]
        == [BEGIN + EVERY * (number + 1) for number in range(len(found.windows))],
        "the watermark is not the last window's end": found.standing.live.watermark
        == max([BEGIN, *(window.end for window in found.windows)]),
        "ranges do not follow each other": _ranges_follow(found),
    }
    return [f"{export.name}: {what}" for what, holds in broken.items() if not holds]


def _ranges_follow(found: Found) -> bool:
    """Each window's parts go from its start to its end, under its one seal, and after the last one's seal."""
    seals = {BEGIN: {"horizon": 0}, **{window.end: window.seal for window in found.windows}}
    lane = replace(found.standing.live, watermark=BEGIN, seal=seals[BEGIN], last_key=None)
    for plan in found.plans:
        range_, start = plan.range, plan.range.window.start
        if start != lane.watermark:  # the windows in between had nothing more
            lane = replace(lane, watermark=start, last_key=None)
        if (range_.previous, range_.after) != (seals.get(start), lane.last_key):
            return False
        if range_.seal != seals.get(range_.window.end, found.standing.live.open_seal):
            return False
        lane = _after(lane, plan)
    return True


def _after(lane: Lane, plan: Plan) -> Lane:
    if plan.final:
        return replace(lane, watermark=plan.range.window.end, last_key=None)
    return replace(lane, last_key=plan.range.last)
