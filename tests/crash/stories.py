"""What happens around a death: what came before, which command dies, what comes in meanwhile, what follows.

After the death the same command runs again until it is through, a run with whatever is due by then; what
has to be true then is in ``promises``.
"""

from __future__ import annotations

import json
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tests.crash import promises
from tests.crash.world import BEGIN, New, run_at

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tests.crash.steps import Step
    from tests.crash.world import World

TRIES: Final = 3
END_HOURS: Final = 4
KILLED: Final = -signal.SIGKILL

FIRST_WINDOW: Final = (
    New("acme", (-90, -30, 5, 15, 50)),
    New("globex", (-30, 20, None)),
)
NEXT_WINDOWS: Final = (
    New("acme", (65, 70, 70, 80, 90, 100, 110, 130)),
    New("acme", (30,)),  # late
    New("acme", (95,), summary_bytes=3_000),  # too long: bad
    New("globex", (125, 40, 170)),  # nothing in the second window but a late one
)
MEANWHILE: Final = (
    New("acme", (10, 75, 135, None)),
    New("globex", (10, 75, 135, None)),
)


@dataclass(frozen=True)
class Story:
    """Runs and arrivals in turn, then the command that dies."""

    before: tuple[tuple[str, ...] | tuple[New, ...], ...]
    command: tuple[str, ...]
    begin_hours: Mapping[str, int]


ALL_LIVE: Final = {"acme": 0, "globex": 0}
DELIVERED: Final = (FIRST_WINDOW, run_at(1), NEXT_WINDOWS, run_at(3))
BACKFILL: Final = (
    *("backfill", "--json", "--account", "acme"),
    *("--from", "2025-02-28T22:00:00Z", "--to", f"{BEGIN:%Y-%m-%dT%H:%M:%SZ}"),
)
STORIES: Final[Mapping[str, Story]] = {
    "begin": Story((FIRST_WINDOW,), run_at(1), ALL_LIVE),
    "windows": Story((FIRST_WINDOW, run_at(1), NEXT_WINDOWS), run_at(3), ALL_LIVE),
    "backfill": Story(DELIVERED, BACKFILL, {"acme": -2, "globex": 0}),
    "replay": Story(DELIVERED, ("replay", "--json", "--export", "acme", "--seq", "1..3"), ALL_LIVE),
}


def prepare(world: World, story: Story) -> None:
    """Everything before the command that dies; `World.restore` leads back to here."""
    for happens in story.before:
        if isinstance(happens[0], New):
            world.appear(*(new for new in happens if isinstance(new, New)))
        else:
            finish(world, *map(str, happens))
    world.save()


def steps_of(world: World, story: Story) -> list[Step]:
    """Every step of the command when nothing goes wrong, in an order that does not depend on threads."""
    report = world.folder / "steps.json"
    world.restore()
    status = world.run(*story.command, report=report)
    assert status == 0, world.said()
    counts: list[tuple[str, int]] = json.loads(report.read_text())
    return [(kind, number) for kind, count in counts for number in range(1, count + 1)]


def chosen(steps: list[Step], spread: int) -> list[Step]:
    """Every kind of step, one at its first time, the next at its second …; and every so many of all."""
    kinds = dict(steps)  # with how often they come
    once = {(kind, index % count + 1) for index, (kind, count) in enumerate(kinds.items())}
    return [step for index, step in enumerate(steps) if step in once or index % spread == 0]


def die_and_recover(world: World, story: Story, *fatal: Step) -> None:
    """The command is killed at each of these steps in turn, and everything is delivered all the same."""
    world.restore()
    for step in fatal:
        survivors = world.place.objects()
        status = world.run(*story.command, fatal=step)
        assert status == KILLED, f"{step} ended with {status}: {world.said()}"
        promises.unchanged(survivors, world.place.objects())
    survivors = world.place.objects()
    for name, data in survivors.items():
        promises.opened(name, data)
    world.appear(*MEANWHILE)
    if story.command[0] != "run":
        finish(world, *story.command)
    finish(world, *run_at(END_HOURS))
    promises.unchanged(survivors, world.place.objects())
    promises.check(world, END_HOURS, story.begin_hours)


def finish(world: World, *command: str) -> None:
    """The command line as it is, until it is through."""
    for _ in range(TRIES):
        status = world.run(*command)
        if status == 0:
            return
    raise promises.BrokenPromiseError(f"{command} ends with {status}: {world.said()}")


def sweep(world: World, story: Story, steps: Iterable[Step]) -> None:
    """One death after the other, each in a world of its own; says which one it was that did harm."""
    for step in steps:
        try:
            die_and_recover(world, story, step)
        except AssertionError as error:
            raise promises.BrokenPromiseError(f"killed at {step}: {error}") from error
