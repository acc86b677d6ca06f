"""Real processes that send events die, by SIGKILL, at every step they take: no event is lost by it.

And each death sends one batch a second time at the most. The machinery is in ``crash``.
"""

from __future__ import annotations

import os
import random
import re
import signal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

import pytest

from tests.crash.child import Nursery, nursery
from tests.crash.collector import Collector, check
from tests.crash.promises import BrokenPromiseError
from tests.crash.stories import FIRST_WINDOW, KILLED, MEANWHILE, NEXT_WINDOWS, Story, finish, steps_of
from tests.crash.world import World, run_at
from tests.kit.hec_server import hec_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.crash.steps import Step

MEMORY: Final = "/dev/shm"
PART_LIMIT_BYTES: Final = 1 << 20  # a window goes out at once, in some batches
STOPPED: Final = -signal.SIGSTOP
END_HOURS: Final = 4
STORY: Final = Story((FIRST_WINDOW, NEXT_WINDOWS), run_at(3), {"acme": 0, "globex": 0})
OF_EVENTS: Final = re.compile(r"Pipeline\.(attempt|send|settle)")
BETWEEN: Final = re.compile(r"Rules\.reach: begins|http\.client\.send|an answer")
ALONE: Final = Story(STORY.before, (*run_at(3), "--export", "acme"), STORY.begin_hours)


@pytest.fixture(scope="module")
def children() -> Iterator[Nursery]:
    with nursery() as running:
        yield running


@pytest.fixture
def place() -> Iterator[Collector]:
    with hec_server() as hec:
        yield Collector(hec)


@pytest.fixture
def world(tmp_path: Path, children: Nursery, place: Collector) -> Iterator[World]:
    with TemporaryDirectory(dir=MEMORY if os.access(MEMORY, os.W_OK) else tmp_path) as folder:
        world = World(Path(folder) / "world", place, children, part_limit_bytes=PART_LIMIT_BYTES)
        world.appear(*FIRST_WINDOW)
        world.appear(*NEXT_WINDOWS)
        world.save()
        yield world


def die(world: World, place: Collector, story: Story, *fatal: Step) -> None:
    """The command is killed at each of these steps in turn; then it runs through, and all is there."""
    world.restore()
    for step in fatal:
        status = world.run(*story.command, fatal=step)
        assert status == KILLED, f"{step} ended with {status}: {world.said()}"
    world.appear(*MEANWHILE)
    finish(world, *run_at(END_HOURS))
    try:
        check(world, place, len(fatal))
    except AssertionError as error:
        raise BrokenPromiseError(f"killed at {fatal}: {error}") from error


def sweep(world: World, place: Collector, steps: list[Step]) -> None:
    """One death after the other, each in a world of its own."""
    for step in steps:
        die(world, place, ALONE, step)


def once_each(steps: list[Step]) -> list[Step]:
    """Every kind of step, one at its first time, the next at its second …"""
    kinds = dict(steps)
    return [(kind, index % count + 1) for index, (kind, count) in enumerate(kinds.items())]


def test_events_that_nobody_interrupts_come_once(world: World, place: Collector) -> None:
    finish(world, *run_at(END_HOURS))
    check(world, place, deaths=0)
    assert max(len(batch) for batch in place.batches()) > 1
    assert len(place.batches()) > 6


@pytest.mark.slow
@pytest.mark.parametrize("share", range(2))
def test_killed_at_any_kind_of_step_events_come_with_one_batch_twice_at_most(
    world: World, place: Collector, share: int
) -> None:
    steps = [step for step in steps_of(world, STORY) if OF_EVENTS.search(step[0])]
    assert any("Rules.reach" in kind for kind, _ in steps)
    for step in once_each(steps)[share::2]:
        die(world, place, STORY, step)


@pytest.mark.slow
def test_killed_between_and_within_each_batch_events_come_with_one_batch_twice_at_most(
    world: World, place: Collector
) -> None:
    steps = [step for step in steps_of(world, ALONE) if BETWEEN.search(step[0])]
    some = [step for step in steps if "Rules.reach: begins" in step[0] or step[1] % 4 == 0]
    assert len(some) > 12
    sweep(world, place, some)


@pytest.mark.slow
def test_killed_again_while_it_recovers_each_death_doubles_one_batch_at_most(
    world: World, place: Collector
) -> None:
    steps = [step for step in steps_of(world, STORY) if BETWEEN.search(step[0]) and step[1] == 1]
    chance = random.Random(1)
    for _ in range(6):
        die(world, place, STORY, *chance.choices(steps, k=3))


@pytest.mark.slow
def test_a_process_that_wakes_up_while_another_sends_doubles_one_batch_at_most(
    world: World, place: Collector
) -> None:
    steps = [step for step in steps_of(world, ALONE) if "Rules.reach: begins" in step[0]]
    for step in steps:
        world.restore()
        sleeper = world.start(*ALONE.command, fatal=step, signal_number=signal.SIGSTOP)
        assert world.wait(sleeper) == STOPPED
        finish(world, *run_at(3))
        os.kill(sleeper, signal.SIGCONT)
        assert world.wait(sleeper) in (0, 10), world.said()
        check(world, place, deaths=1)


@pytest.mark.parametrize("mutant", ["told_before_it_is_sent", "progress_forgotten"])
def test_a_product_without_one_of_its_rules_is_caught_by_killing_it(
    world: World, place: Collector, mutant: str
) -> None:
    world.mutant = mutant
    steps = [step for step in steps_of(world, ALONE) if "Rules.reach: ends" in step[0]]
    with pytest.raises(BrokenPromiseError):
        sweep(world, place, steps[1:])
