"""The protocol keeps every promise in every state it can reach, and needs every one of its rules.

The model is in ``simulation.protocol_model``. Here are the promises, the worlds in which they are
checked, and the mutants: each drops or changes one rule, and each has to be caught.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from tests.simulation.explorer import PROGRESS, Exploration, Invariant, explore
from tests.simulation.protocol_model import (
    IDLE,
    NOT_PAUSED,
    UNSEALED,
    WINDOW,
    Act,
    Attempt,
    Delivery,
    Lane,
    Ledger,
    Object,
    Outcome,
    Plan,
    Process,
    State,
    Step,
    World,
    closed,
    move,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# --- the worlds -------------------------------------------------------------------------------

LATE = World(keys=(-5, 3, -4, 13, 4), begun_with=1)
PARTS = World(keys=(3, 3, 4, 2), limit=1)
CHANGES = World(keys=(3, 13), changes=True)
SQUATTED = World(keys=(3, 13), foreign=1)
OPERATED = World(keys=(3, 13), orders=1)
ASKED = World(keys=(-5, -4, 3), begun_with=1, windows=1, requests=(Lane.BACKFILL, Lane.REPLAY))
SMALL = World(keys=(3,), windows=1, foreign=1)  # enough for a dead end, which only a whole search finds

WORLDS = {  # and how many states each is known to have, so that a model that lost some is noticed
    "late": (LATE, 83_758),
    "parts": (PARTS, 121_984),
    "changes": (CHANGES, 171_940),
    "squatted": (SQUATTED, 63_328),
    "operated": (OPERATED, 57_256),
    "asked": (ASKED, 88_890),
}
WORSE = {
    "late": 2_473_373,
    "parts": 4_745_807,
    "changes": 4_678_958,
    "operated": 340_541,  # the same as "squatted"
    "asked": 5_883_844,
}


def worse(world: World) -> World:
    """The same world with a foreign writer and an operator in it."""
    return replace(world, foreign=1, orders=1)


# --- the promises -----------------------------------------------------------------------------


def one_open_plan(_: Delivery, state: State) -> bool:
    return len(state.ledger.open) <= 1


def names_grow(_: Delivery, state: State) -> bool:
    names = [d.plan.name for d in state.ledger.delivered] + [p.name for p in state.ledger.open]
    return all(before < after for before, after in pairwise(names))


def paused_plans_nothing(_: Delivery, state: State) -> bool:
    return state.ledger.paused in (NOT_PAUSED, state.ledger.stamp)


def watermark_waits(_: Delivery, state: State) -> bool:
    """An open plan of the live lane begins exactly where the watermark stands."""
    here = (state.ledger.watermark, state.ledger.last_key)
    return all((p.window, p.after) == here for p in state.ledger.open if p.lane == Lane.LIVE)


def alarms_are_true(_: Delivery, state: State) -> bool:
    return not state.ledger.stopped or any(p.name in state.foreign for p in state.ledger.open)


def foreign_untouched(_: Delivery, state: State) -> bool:
    return all(Object(name, Lane.FOREIGN, 0, 0) in state.objects for name in state.foreign)


def foreign_not_ours(_: Delivery, state: State) -> bool:
    """The documented limit: under the name of an unanswered attempt it is taken for ours."""
    return all(d.excused for d in state.ledger.delivered if d.plan.name in state.foreign)


def range_is_exact(delivery: Delivery, state: State) -> bool:
    """A delivered plan's object exists, and holds that plan's range and nothing else."""
    stored = {o.name: (o.lane, o.rows) for o in state.objects}
    return all(
        d.excused or stored.get(d.plan.name) == (d.plan.lane, fixed(delivery, d.plan))
        for d in state.ledger.delivered
    )


def hash_is_known(_: Delivery, state: State) -> bool:
    editions = {o.name: o.edition for o in state.objects}
    return all(d.excused or editions.get(d.plan.name) in d.hashes for d in state.ledger.delivered)


def nothing_doubled(_: Delivery, state: State) -> bool:
    """No record is in two of our objects, other than by replay."""
    held = [o.rows for o in state.objects if o.lane in (Lane.LIVE, Lane.BACKFILL)]
    return sum(held) == union(held)


def nothing_lost(delivery: Delivery, state: State) -> bool:
    """What lies before the watermark and was visible at its seal is in one of our objects."""
    held = [o.rows for o in state.objects if o.lane in (Lane.LIVE, Lane.BACKFILL)]
    held += [fixed(delivery, d.plan) for d in state.ledger.delivered if d.excused]
    due = sum(1 << p for p in range(len(delivery.world.keys)) if is_due(delivery.world, state.ledger, p))
    return not due & ~union(held)


INVARIANTS = (
    Invariant("an export has at most one open plan", one_open_plan),
    Invariant("names strictly grow", names_grow),
    Invariant("a paused export gets no new plan", paused_plans_nothing),
    Invariant("the watermark waits for the object", watermark_waits),
    Invariant("an alarm means a foreign object", alarms_are_true),
    Invariant("a foreign object is never overwritten", foreign_untouched),
    Invariant("a foreign object is not taken for ours", foreign_not_ours),
    Invariant("an object holds exactly its plan's range", range_is_exact),
    Invariant("the stored content's hash is known", hash_is_known),
    Invariant("no record is doubled", nothing_doubled),
    Invariant("no record is lost", nothing_lost),
)


def fixed(delivery: Delivery, plan: Plan) -> int:
    """A plan's range by the design, whatever a mutant makes of it."""
    return sum(1 << p for p in range(len(delivery.world.keys)) if Delivery.in_range(delivery, plan, p))


def is_due(world: World, ledger: Ledger, position: int) -> bool:
    key = world.keys[position]
    if key < 0 and position < world.begun_with:
        return Lane.BACKFILL in world.requests and Lane.BACKFILL not in ledger.requests
    whole = key < ledger.watermark * WINDOW and position < ledger.seal
    return whole or (key <= ledger.last_key and position < ledger.open_seal)


def union(sets: list[int]) -> int:
    total = 0
    for each in sets:
        total |= each
    return total


# --- the mutants ------------------------------------------------------------------------------


class NoPlanRow(Delivery):
    """The watermark alone is kept; range and name come out of it again after a crash."""

    def planned(self, ledger: Ledger, plan: Plan) -> Ledger:
        del plan
        return ledger

    def is_open(self, ledger: Ledger, plan: Plan) -> bool:
        return (ledger.watermark, ledger.last_key) == (plan.window, plan.after)

    def is_ours(self, me: Process, landed: list[Attempt]) -> bool:
        del me, landed
        return True


class RangeRecomputed(Delivery):
    """Recovery seals anew."""

    def adopt(self, state: State, plan: Plan) -> Plan:
        return plan._replace(seal=self.horizon(state.visible))


class NameRecomputed(Delivery):
    """Recovery takes the next name."""

    def adopt(self, state: State, plan: Plan) -> Plan:
        return plan._replace(name=self.next_name(state.ledger, plan))


class Overwriting(Delivery):
    """A PUT replaces what is there."""

    def lands(self, objects: tuple[Object, ...], body: Object) -> bool:
        del objects, body
        return True


class CommitUnseen(Delivery):
    """Commit without compare-and-swap."""

    def may_commit(self, ledger: Ledger, plan: Plan) -> bool:
        del ledger, plan
        return True


class CommitWhileStopped(Delivery):
    """Two find the name taken; the one who still saw the other's attempt commits after the alarm."""

    def may_commit(self, ledger: Ledger, plan: Plan) -> bool:
        return any(p.sequence == plan.sequence for p in ledger.open)


class PlanUnseen(Delivery):
    """Plan without compare-and-swap: only an open plan is in the way."""

    def may_plan(self, ledger: Ledger, me: Process) -> bool:
        del me
        return not ledger.open


class PlanPerLane(Delivery):
    """Every lane has an open plan of its own."""

    def may_plan(self, ledger: Ledger, me: Process) -> bool:
        return all(p.lane != me.plan.lane for p in ledger.open)


class WatermarkFirst(Delivery):
    """The watermark moves with the plan, before the PUT."""

    def planned(self, ledger: Ledger, plan: Plan) -> Ledger:
        return self.advance(super().planned(ledger, plan), plan)


class ExistsIsSuccess(Delivery):
    """Whatever lies under the name is ours."""

    def is_ours(self, me: Process, landed: list[Attempt]) -> bool:
        del me, landed
        return True


class ExistsIsForeign(Delivery):
    """Whatever lies under the name is foreign."""

    def is_ours(self, me: Process, landed: list[Attempt]) -> bool:
        del me, landed
        return False


class AttemptsNotReread(Delivery):
    """Only attempts known before one's own PUT count."""

    def remember(self, landed: list[Attempt]) -> int:
        return len(landed)

    def is_ours(self, me: Process, landed: list[Attempt]) -> bool:
        del landed
        return bool(me.memo)


class PlannedAfresh(Delivery):
    """After an unknown outcome the range is planned again."""

    def unknown(self, state: State, me: Process, other: Process) -> Iterator[tuple[Act, State]]:
        yield Act.STEP, move(state, IDLE, other, closed(state.ledger, me.plan))


class PendingForgotten(Delivery):
    """An attempt without an answer, as a crash leaves it, counts as not landed."""

    def may_have_landed(self, outcome: int) -> bool:
        return outcome in (Outcome.UNKNOWN, Outcome.SUCCEEDED)


class UnknownIsNo(Delivery):
    """Timeouts and 5xx count as refused."""

    def may_have_landed(self, outcome: int) -> bool:
        return outcome in (Outcome.PENDING, Outcome.SUCCEEDED)


class SuccessForgotten(Delivery):
    """Only unanswered attempts speak for an object, not the one that is known to have succeeded."""

    def may_have_landed(self, outcome: int) -> bool:
        return outcome in (Outcome.PENDING, Outcome.UNKNOWN)


class RecordedAfter(Delivery):
    """The attempt is recorded with its answer, not before the PUT."""

    def waits(self, process: Process) -> bool:
        del process
        return False


class AttemptUnseen(Delivery):
    """An attempt is recorded without looking whether its plan is still open."""

    def may_attempt(self, ledger: Ledger, plan: Plan) -> bool:
        del ledger, plan
        return True


class LastHashOnly(Delivery):
    """The commit notes the content of its own attempt alone."""

    def hashes(self, me: Process, landed: list[Attempt]) -> tuple[int, ...]:
        del landed
        return (me.edition,)


class SealPerPart(Delivery):
    """Every part takes a seal of its own."""

    def seal_of_parts(self, ledger: Ledger) -> int:
        del ledger
        return UNSEALED


class PartSplitsKey(Delivery):
    """A part may end between two records with the same key."""

    def cut(self, plan: Plan, rows: int) -> tuple[Plan, int]:
        cut, within = super().cut(plan, rows)
        found = [p for p in range(len(self.world.keys)) if within >> p & 1]
        return cut, sum(1 << p for p in found[: self.world.limit])


class LateSinceBegin(Delivery):
    """Every window looks for late records since the begin."""

    def previous_seal(self, ledger: Ledger) -> int:
        del ledger
        return self.begin_seal


class LateSinceFirstRun(Delivery):
    """The begin's seal is not stored: the first window's own stands in for it."""

    def take_seal(self, state: State, me: Process, other: Process) -> Iterator[tuple[Act, State]]:
        if not me.plan.window:
            me = me._replace(plan=me.plan._replace(previous=self.horizon(state.visible)))
        yield from super().take_seal(state, me, other)


class RowsFirst(Delivery):
    """The rows are read first, the horizon after them."""

    def take_seal(self, state: State, me: Process, other: Process) -> Iterator[tuple[Act, State]]:
        yield Act.STEP, move(state, me._replace(step=Step.SEALED, memo=state.visible), other)

    def render(self, state: State, me: Process, other: Process) -> Iterator[tuple[Act, State]]:
        plan = me.plan._replace(seal=self.horizon(state.visible))
        rows = self.select(plan, me.memo)
        me = me._replace(step=Step.RENDERED, plan=plan, rows=rows, edition=state.edition, memo=0)
        yield Act.STEP, move(state, me, other)


class PlainWindow(Delivery):
    """A window is what its time says: no seal, no late records."""

    def in_range(self, plan: Plan, position: int) -> bool:
        return self.world.keys[position] // WINDOW == plan.window


class ResumeAlways(Delivery):
    """`resume` plans again whatever may have landed."""

    def replans(self, landed: list[Attempt]) -> bool:
        del landed
        return True


class ResumeNever(Delivery):
    """`resume` clears the alarm and keeps the plan."""

    def replans(self, landed: list[Attempt]) -> bool:
        del landed
        return False


class SameNameAgain(Delivery):
    """`resume` forgets the plan and its name, and meets the foreign object again."""

    def resume(self, state: State) -> State:
        before, after = state.ledger, super().resume(state)
        if len(after.ledger.open) == len(before.open):
            return after
        forgotten = after.ledger._replace(stamp=before.stamp - 1, sequence=before.sequence - 1)
        return after._replace(ledger=forgotten)


class NamesByTime(Delivery):
    """A name is the window's end, whatever name was given out before."""

    def next_name(self, ledger: Ledger, draft: Plan) -> int:
        return super().next_name(ledger._replace(stamp=0), draft)


class HighestSeen(Delivery):
    """A plain watermark: everything up to the highest position seen."""

    def horizon(self, visible: int) -> int:
        return visible.bit_length()


class BackfillAll(Delivery):
    """A backfill takes what is visible now, not what was visible when the export began."""

    def drafts(self, ledger: Ledger) -> Iterator[Plan]:
        for draft in super().drafts(ledger):
            yield draft._replace(seal=UNSEALED) if draft.lane == Lane.BACKFILL else draft


MUTANTS: tuple[tuple[type[Delivery], World, str], ...] = (
    (NoPlanRow, LATE, "no record is lost"),
    (RangeRecomputed, LATE, "no record is lost"),
    (RangeRecomputed, LATE, "an object holds exactly its plan's range"),
    (NameRecomputed, LATE, "no record is doubled"),
    (Overwriting, SQUATTED, "a foreign object is never overwritten"),
    (CommitUnseen, LATE, "names strictly grow"),
    (CommitWhileStopped, SQUATTED, "an alarm means a foreign object"),
    (PlanUnseen, LATE, "no record is doubled"),
    (PlanUnseen, OPERATED, "a paused export gets no new plan"),
    (PlanPerLane, ASKED, "an export has at most one open plan"),
    (WatermarkFirst, LATE, "the watermark waits for the object"),
    (ExistsIsSuccess, SQUATTED, "a foreign object is not taken for ours"),
    (ExistsIsForeign, LATE, "an alarm means a foreign object"),
    (AttemptsNotReread, LATE, "an alarm means a foreign object"),
    (PlannedAfresh, LATE, "no record is doubled"),
    (PendingForgotten, LATE, "an alarm means a foreign object"),
    (PendingForgotten, OPERATED, "no record is doubled"),
    (UnknownIsNo, LATE, "an alarm means a foreign object"),
    (SuccessForgotten, LATE, "an alarm means a foreign object"),
    (RecordedAfter, LATE, "an alarm means a foreign object"),
    (AttemptUnseen, OPERATED, "no record is doubled"),
    (LastHashOnly, CHANGES, "the stored content's hash is known"),
    (SealPerPart, PARTS, "no record is lost"),
    (PartSplitsKey, PARTS, "no record is lost"),
    (LateSinceBegin, LATE, "no record is doubled"),
    (LateSinceFirstRun, LATE, "no record is lost"),
    (HighestSeen, LATE, "no record is lost"),
    (NamesByTime, PARTS, "names strictly grow"),
    (BackfillAll, ASKED, "no record is doubled"),
    (RowsFirst, LATE, "no record is lost"),
    (PlainWindow, LATE, "no record is lost"),
    (ResumeAlways, OPERATED, "no record is doubled"),
    (ResumeNever, SMALL, PROGRESS),
    (SameNameAgain, SMALL, PROGRESS),
)


def killer(mutant: type[Delivery], world: World, promise: str) -> Exploration:
    """What catches a mutant when this one promise is all that is checked, besides progress."""
    return explore(mutant(world), tuple(i for i in INVARIANTS if i.promise == promise))


@pytest.mark.parametrize(("mutant", "world", "promise"), MUTANTS)
def test_every_rule_is_needed(mutant: type[Delivery], world: World, promise: str) -> None:
    """Without this rule, this promise is broken."""
    assert killer(mutant, world, promise).broken == promise


@pytest.mark.slow
def test_every_mutant_dies() -> None:
    """The kill rate is 100 %, and every promise kills at least one mutant on its own."""
    killed = [promise for mutant, world, promise in MUTANTS if killer(mutant, world, promise).broken]
    sys.stdout.write(f"kill rate: {len(killed)} of {len(MUTANTS)}\n")
    assert len(killed) == len(MUTANTS)
    assert set(killed) == {PROGRESS, *(i.promise for i in INVARIANTS)}


# --- the protocol -----------------------------------------------------------------------------


def check(world: World, states: int) -> None:
    found = explore(Delivery(world), INVARIANTS)
    assert not found.broken, "\n".join((found.broken, *found.trace))
    assert found.states == states


@pytest.mark.slow
@pytest.mark.parametrize("name", WORLDS)
def test_every_promise_is_kept_in_every_state(name: str) -> None:
    """No state that the protocol can reach breaks a promise, and none is a dead end."""
    check(*WORLDS[name])


@pytest.mark.proof
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", WORSE)
def test_every_promise_is_kept_when_everything_happens_at_once(name: str) -> None:
    """The same with a foreign writer and an operator in every world."""
    check(worse(WORLDS[name][0]), WORSE[name])


def test_the_exploration_is_large() -> None:
    """The protocol is explored through more than half a million states, 100,000 in one world."""
    sizes = [states for _, states in WORLDS.values()]
    sys.stdout.write(f"states explored: {sum(sizes):,}, the largest world {max(sizes):,}\n")
    assert sum(sizes) > 500_000
    assert max(sizes) > 100_000


WITNESSES: dict[str, tuple[World, Callable[[Ledger], bool]]] = {
    "an alarm": (SQUATTED, lambda ledger: bool(ledger.stopped)),
    "a foreign object taken for ours": (SQUATTED, lambda ledger: any(d.excused for d in ledger.delivered)),
    "two contents": (CHANGES, lambda ledger: any(len(d.hashes) > 1 for d in ledger.delivered)),
    "an abandoned plan": (OPERATED, lambda ledger: ledger.sequence > len(ledger.delivered + ledger.open)),
    "an empty window": (LATE, lambda ledger: ledger.watermark > len(ledger.delivered)),
    "a part": (PARTS, lambda ledger: ledger.open_seal != UNSEALED),
    "a replay": (ASKED, lambda ledger: any(d.plan.lane == Lane.REPLAY for d in ledger.delivered)),
}


@pytest.mark.parametrize("witness", WITNESSES)
def test_the_model_reaches(witness: str) -> None:
    """What the promises speak of does happen in the model."""
    world, happens = WITNESSES[witness]
    never = Invariant(witness, lambda _, state: not happens(state.ledger))
    assert explore(Delivery(world), (never,)).broken == witness
