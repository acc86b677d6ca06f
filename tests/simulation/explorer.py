"""Breadth-first exploration of the protocol's model: invariants in every state, and no dead ends.

In every state and not only at the end, because a broken rule may be repaired a few steps later and lose
records in between.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from tests.simulation.protocol_model import NEEDED, Ledger, State, Step

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.simulation.protocol_model import Delivery

PROGRESS = "every delivery can be finished without luck"


@dataclass(frozen=True, slots=True)
class Exploration:
    """What a breadth-first search found: the shortest way to the first broken promise, if there is one."""

    states: int
    broken: str = ""
    trace: tuple[str, ...] = ()


class Invariant(NamedTuple):
    """A promise about every state; it must not look at the processes (see ``explore``)."""

    promise: str
    holds: Callable[[Delivery, State], bool]


def explore(delivery: Delivery, invariants: tuple[Invariant, ...]) -> Exploration:
    """Visit every reachable state; check every invariant in each, and then progress."""
    start = delivery.start()
    states = [start]
    found = {start: 0}
    parents = array("l", [-1])
    edges = array("l"), array("l")
    checked: set[tuple[object, ...]] = set()  # many states differ in what no invariant looks at
    for number, state in enumerate(states):
        seen = (state.ledger, state.objects, state.foreign)
        if seen not in checked:
            checked.add(seen)
            for promise, holds in invariants:
                if not holds(delivery, state):
                    return Exploration(len(states), promise, trace(states, parents, number))
        for act, after in delivery.successors(state):
            target = found.setdefault(after, len(states))
            if target == len(states):
                states.append(after)
                parents.append(number)
            if act in NEEDED:
                edges[0].append(number)
                edges[1].append(target)
    stuck = dead_end(delivery, states, edges)
    if stuck is not None:
        return Exploration(len(states), PROGRESS, trace(states, parents, stuck))
    return Exploration(len(states))


def dead_end(delivery: Delivery, states: list[State], edges: tuple[array[int], array[int]]) -> int | None:
    """The first state from which no sequence of needed acts delivers everything."""
    before: list[list[int]] = [[] for _ in states]
    for source, target in zip(*edges, strict=True):
        before[target].append(source)
    reached = bytearray(map(delivery.done, states))
    frontier = [number for number, done in enumerate(reached) if done]
    while frontier:
        for number in before[frontier.pop()]:
            if not reached[number]:
                reached[number] = True
                frontier.append(number)
    stuck = reached.find(0)
    return None if stuck < 0 else stuck


def trace(states: list[State], parents: array[int], number: int) -> tuple[str, ...]:
    """The way to a state, one line for each transition: what it changed."""
    lines: list[str] = []
    while (parent := parents[number]) >= 0:
        lines.append(change(states[parent], states[number]))
        number = parent
    return tuple(reversed(lines))


def change(before: State, after: State) -> str:
    pairs = [*zip(State._fields, before, after, strict=True)][2:]
    pairs += zip(Ledger._fields, before.ledger, after.ledger, strict=True)
    steps = " ".join(Step(p.step).name for p in after.processes)
    return "; ".join([steps, *(f"{name} {old} -> {new}" for name, old, new in pairs if old != new)])
