"""The real pipeline keeps every promise while clock, source, stores, ledger and people do their worst.

The world and its promises are in ``simulation``. `make proof` lives through millions of these schedules.
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest

from exporter.errors import Conflict, Stopped
from exporter.ledger.memory import MemoryStorage
from exporter.ledger.rules import Draft, Ledger
from exporter.model import Content, Failure, Outcome, Range, Rendering, Stamp, Window
from tests.simulation.mutants import MUTANTS
from tests.simulation.schedules import first_violation, worlds

SCHEDULES = 6000
CASES = 12
PER_CASE = SCHEDULES // CASES
ENOUGH_FOR_A_MUTANT = 3000

REACHED = (
    "an object of live",
    "an object of backfill",
    "an object of replay",
    "a part of a window",
    "a late record",
    "a bad record",
    "a repeat that says so",
    "an object that lands late",
    "an object that was ours after all",
    "two contents sent",
    "a plan given up",
    "an alarm",
    "a foreign object taken for ours",
    "events delivered",
    "events ended by a resume",
    "an event in quarantine",
    "a batch that came twice",
    "a batch that another process had sent",
    "a delivery that had to end",
    "a step from what is true no longer",
    "a restored ledger",
    "an accepted source",
    "a process dies",
    "another process goes on",
)


@pytest.mark.slow
@pytest.mark.parametrize("case", range(CASES))
def test_every_promise_is_kept_after_every_step(case: int) -> None:
    violation = first_violation(range(case * PER_CASE, (case + 1) * PER_CASE))

    assert violation is None, str(violation)


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTANTS)
def test_a_broken_rule_is_noticed(name: str) -> None:
    with MUTANTS[name]():
        violation = first_violation(range(ENOUGH_FOR_A_MUTANT))

    assert violation is not None, f"{ENOUGH_FOR_A_MUTANT} schedules did not notice: {name}"


@pytest.mark.slow
def test_the_schedules_reach_what_they_are_meant_to() -> None:
    """A simulation in which something never happens proves nothing about it."""
    reached: Counter[str] = Counter()
    for world in worlds(range(2 * PER_CASE)):
        reached += world.promises.reached

    assert [name for name in REACHED if reached[name] == 0] == []


def test_a_seed_is_one_schedule() -> None:
    """The same seed lives through the same world, step by step, also in another process."""
    command = [sys.executable, "-m", "tests.simulation", "--seed", "17"]
    (world,) = worlds([17])

    other = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=True)

    assert other.stdout == "\n".join([*world.trace, "every promise was kept", ""])


# --- what the simulation has found ---------------------------------------------------------------


@pytest.mark.parametrize("answer", [Outcome.EXISTS, Outcome.REFUSED])
def test_attempts_that_met_a_foreign_object_do_not_vouch_for_each_other(answer: Outcome) -> None:
    """One is told `ours` because of the other, which is answered before the first one commits."""
    now = datetime(2026, 11, 19, 4, tzinfo=UTC)
    ledger = Ledger(MemoryStorage(), lambda: now)
    export = ledger.begin("acme", "acme", "memory://one/audit/acme", now, {}).export
    content = Content(1, 0, 0, 2, "content", 2, "archive")
    rendering = Rendering("native", None)
    draft = Draft("live", Range("acme", Window(now, now), {}), rendering, True, "name", Stamp(now), content)
    plan = ledger.plan(export, draft)
    first, second = (ledger.attempt(plan, content, "memory://one") for _ in range(2))

    assert ledger.judge(plan, first)
    if answer is Outcome.EXISTS:
        assert not ledger.judge(plan, second)
    else:
        ledger.answer(plan, second, answer, Failure("no", "", now), now)
    with pytest.raises((Conflict, Stopped)):
        ledger.commit(plan, first, Outcome.EXISTS)
