"""The rule of MariaDB's positions on a model of the table: whatever happens when, each record comes once.

The model does what InnoDB does: positions are reserved by statements, used or not, and seen at commit. It
may do any of that between two questions of the rule. Rules with a part left out have to fail.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.sources.mysql import gaps as mysql_gaps
from exporter.sources.mysql.gaps import Extent, Mark, Members
from exporter.sources.mysql.seal import Patience, extended

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from exporter.sources.mysql.gaps import Runs

NOON = datetime(2026, 11, 19, 12, tzinfo=UTC)
LONGEST = timedelta(seconds=60)

# --- Sets of positions --------------------------------------------------------------------------------

UPPER = 40
SETS = st.frozensets(st.integers(1, UPPER))


def runs_of(positions: Iterable[int]) -> Runs:
    """The runs of a set."""
    runs: list[tuple[int, int]] = []
    for position in sorted(positions):
        if runs and runs[-1][1] == position - 1:
            runs[-1] = (runs[-1][0], position)
        else:
            runs.append((position, position))
    return tuple(runs)


def positions_of(runs: Iterable[tuple[int, int]]) -> set[int]:
    return {position for first, last in runs for position in range(first, last + 1)}


def held_by(extent: Extent, upper: int = UPPER) -> set[int]:
    members = Members(extent)
    return {position for position in range(1, upper + 1) if position in members}


@given(left=SETS, right=SETS, at=st.integers(0, UPPER))
def test_runs_are_sets(left: frozenset[int], right: frozenset[int], at: int) -> None:
    """Every operation on runs is the operation on the sets of their positions."""
    one, other = runs_of(left), runs_of(right)
    assert mysql_gaps.union(one, other) == runs_of(left | right)
    assert runs_of(positions_of(mysql_gaps.intersection(one, other))) == runs_of(left & right)
    assert mysql_gaps.difference(one, other) == runs_of(left - right)
    assert mysql_gaps.without(one, right) == runs_of(left - right)
    assert mysql_gaps.above(one, at) == runs_of({position for position in left if position > at})
    assert mysql_gaps.below(one, at) == runs_of({position for position in left if position <= at})


@given(positions=SETS, at_most=st.integers(1, 5))
def test_coarse_runs_hold_all_and_are_few(positions: frozenset[int], at_most: int) -> None:
    """Merged runs are as few as was asked, in order, and leave no position out."""
    found = mysql_gaps.coarse(runs_of(positions), at_most)
    assert len(found) <= at_most
    assert positions_of(found) >= positions
    assert found == sorted(found)


EXTENTS = st.builds(
    lambda upto, gaps: Extent(upto, mysql_gaps.below(runs_of(gaps), upto)), st.integers(0, UPPER), SETS
)


@given(left=EXTENTS, right=EXTENTS)
def test_the_union_of_extents_holds_what_either_holds(left: Extent, right: Extent) -> None:
    """A seal made of two holds exactly the positions of both."""
    assert held_by(left | right) == held_by(left) | held_by(right)


@given(extent=EXTENTS, most=st.integers(0, 5), floor=st.integers(0, UPPER))
def test_a_bounded_extent_holds_nothing_else(extent: Extent, most: int, floor: int) -> None:
    """Fewer gaps come by a lower end alone, and never by one below the floor."""
    bounded = extent.bounded(most, floor)
    assert held_by(bounded) == {position for position in held_by(extent) if position <= bounded.upto}
    assert bounded.upto >= min(floor, extent.upto)
    assert sum(first > floor for first, _ in bounded.gaps) <= most


def test_a_seal_comes_back_from_json_as_it_was() -> None:
    """What the ledger keeps is all that there is."""
    extent = Extent(9, ((2, 3), (5, 5)), 4, (Mark(NOON, 7), Mark(NOON + LONGEST, 9)))
    assert Extent.of(json.loads(json.dumps(extent.as_seal()))) == extent


def test_marks_are_few_and_follow_the_newest_position_closely() -> None:
    """Sealing every second, a seal keeps a dozen marks, and positions are settled soon after the limit."""
    extent = Extent(0)
    for second in range(1, 1000):
        now = NOON + timedelta(seconds=second)
        settled = extent.settled_by(now, LONGEST, now)
        late = second - settled - LONGEST.total_seconds() - mysql_gaps.CLOCK_SLACK.total_seconds()
        assert second < 80 or 0 < late <= 10
        extent = Extent(second, settled=settled, marks=extent.marks).marked(Mark(now, second), LONGEST)
        assert len(extent.marks) <= 20


# --- The model ----------------------------------------------------------------------------------------


@dataclass
class Statement:
    """A running INSERT with the positions that it has reserved and not used."""

    transaction: int
    began: float
    reserved: list[int]


@dataclass
class World:
    """A table, its transactions and statements. ``choose`` decides what happens next."""

    choose: Callable[[int], int]
    sees_processes: bool
    counter: int = 0
    clock: float = 0.0
    committed: set[int] = field(default_factory=set)
    inserted: dict[int, set[int]] = field(default_factory=dict)
    hidden: set[int] = field(default_factory=set)  # deleted again by their own transaction, so far
    statements: dict[int, Statement] = field(default_factory=dict)
    numbers: int = 0
    is_quiet: bool = False

    def happen(self, most: int = 3) -> None:
        """Up to so many things happen."""
        for _ in range(0 if self.is_quiet else self.choose(most + 1)):
            rare = [self.end, self.hide, self.hide, self.tick]
            actions = [self.begin] * 4 + [self.use] * 8 + [self.finish] * 5 + rare
            actions[self.choose(len(actions))]()

    def begin(self) -> None:
        """A statement begins, in a new transaction or one that rests, and reserves positions."""
        busy = {one.transaction for one in self.statements.values()}
        resting = [number for number in self.inserted if number not in busy]
        self.numbers += 1
        which = self.choose(len(resting) + 2)
        transaction = resting[which] if which < len(resting) else self.numbers
        self.inserted.setdefault(transaction, set())
        size = 1 + self.choose(6) * self.choose(2)
        self.statements[self.numbers] = Statement(
            transaction, self.clock, list(range(self.counter + 1, self.counter + size + 1))
        )
        self.counter += size

    def use(self) -> None:
        """A statement inserts a record at the next position that it has reserved, or ends after the last."""
        if one := self._some_statement():
            statement = self.statements[one]
            if statement.reserved:
                self.inserted[statement.transaction].add(statement.reserved.pop(0))
            else:
                del self.statements[one]

    def end(self) -> None:
        """A statement ends; what it has not used, nobody ever will."""
        if one := self._some_statement():
            del self.statements[one]

    def finish(self) -> None:
        """A transaction without a running statement commits, or rolls back."""
        busy = {one.transaction for one in self.statements.values()}
        resting = [number for number in self.inserted if number not in busy]
        if resting:
            positions = self.inserted.pop(resting[self.choose(len(resting))])
            if self.choose(3):
                self.committed |= positions - self.hidden
            self.hidden -= positions

    def hide(self) -> None:
        """A transaction deletes a record of its own, or goes back to a savepoint before that."""
        waiting = sorted(set().union(*self.inserted.values())) if self.inserted else []
        if waiting:
            self.hidden ^= {waiting[self.choose(len(waiting))]}

    def tick(self) -> None:
        """Time passes; no statement takes longer than the longest."""
        self.clock += self.choose(10)
        for number, statement in list(self.statements.items()):
            if self.clock - statement.began > LONGEST.total_seconds():
                del self.statements[number]

    def end_all(self) -> None:
        """Everything comes to its end."""
        self.is_quiet = True
        self.statements.clear()
        while self.inserted:
            self.finish()

    def _some_statement(self) -> int | None:
        numbers = list(self.statements)
        return numbers[self.choose(len(numbers))] if numbers else None

    # What the rule asks; anything may happen before and during each answer.

    def newest(self) -> int:
        self.happen()
        return max(self.committed, default=0)

    def now(self) -> datetime:
        self.happen()
        return NOON + timedelta(seconds=self.clock)

    def drained(self, wait_s: float) -> bool:
        if not self.sees_processes:
            return False
        running = set(self.statements)
        for _ in range(8 if wait_s else 0):
            self.happen(8)
            running &= set(self.statements)
        return not running

    def oldest_statement(self) -> datetime:
        """Statements may seem younger than they are."""
        shown = [one.began + self.choose(1 + int(self.clock - one.began)) for one in self.statements.values()]
        return NOON + timedelta(seconds=min([*shown, self.clock]) if self.sees_processes else self.clock)

    def slice_end(self, after: int, upto: int, most: int) -> int:
        del most
        self.happen()
        return min(after + 1 + self.choose(30), upto)

    def missing(self, after: int, upto: int) -> Runs:
        self.happen()
        return runs_of(set(range(after + 1, upto + 1)) - self.committed)

    def still_missing(self, runs: Runs) -> Runs:
        self.happen()
        return runs_of(positions_of(runs) - self.committed)

    def wait_for(self, runs: Runs, wait_s: float) -> None:
        del runs
        self.happen(6 if wait_s else 0)

    def locked(self, runs: Runs) -> Runs:
        found = []
        for first, last in runs:
            self.happen(1)
            held = set().union(*self.inserted.values()) if self.inserted else set()
            if held & set(range(first, last + 1)):
                found.append((first, last))
        return tuple(found)


class BelievesAllHaveEnded(World):
    """A barrier of locks alone: as if nobody had reserved anything."""

    def drained(self, wait_s: float) -> bool:
        self.happen(6 if wait_s else 0)
        return True


class TakesNoLocks(World):
    """Waits for statements, and forgets transactions."""

    def locked(self, runs: Runs) -> Runs:
        del runs
        return ()


class ReadsUncommitted(World):
    """Looks at uncommitted records instead of locking them: what was deleted may come back."""

    def locked(self, runs: Runs) -> Runs:
        there = (set().union(*self.inserted.values()) if self.inserted else set()) - self.hidden
        return tuple(run for run in runs if positions_of([run]) & there)


class TrustsTheTimesShown(World):
    """Takes a statement for as young as it seems, and waits for none that seems young."""

    def drained(self, wait_s: float) -> bool:
        asked = NOON + timedelta(seconds=self.clock)
        self.happen(6 if wait_s else 0)
        return self.oldest_statement() >= asked


class LooksForLocksTooEarly(World):
    """Takes the locks that there were before it waited for statements."""

    early: frozenset[int] = frozenset()

    def drained(self, wait_s: float) -> bool:
        self.early = frozenset().union(*self.inserted.values())
        return super().drained(wait_s)

    def locked(self, runs: Runs) -> Runs:
        return tuple(run for run in runs if positions_of([run]) & self.early)


class TakesLongerThanTheLongest(World):
    """Its statements run on, whatever the operator has said."""

    def tick(self) -> None:
        self.clock += self.choose(40)


@dataclass
class Export:
    """A chain of seals, each record delivered when a seal holds it first."""

    seal: Extent
    delivered: list[int] = field(default_factory=list)

    def go_on(self, world: World, seal: Extent) -> None:
        """The next window: what is new in it, read some time after it was sealed."""
        assert held_by(self.seal, world.counter) <= held_by(seal, world.counter), "a seal went back"
        promised = held_by(seal, world.counter) & world.committed
        world.happen(4)
        found = held_by(seal, world.counter) & world.committed
        assert found == promised, "a range changed"
        self.delivered += sorted(found - held_by(self.seal, world.counter))
        self.seal = seal


def run(world: World) -> None:
    """Two exports seal by turns while the world goes on; at the end each has every record once."""
    patience = Patience(1.0, LONGEST)
    world.happen(40)
    begin = extended(world, None, patience)
    known = held_by(begin, world.counter) & world.committed
    exports = [Export(begin), Export(begin)]
    taken = begin
    for _ in range(8):
        world.happen(15)
        export = exports[world.choose(2)]
        if world.choose(3):  # else a seal that was taken for the other one serves
            taken = extended(world, taken | export.seal, patience)
        export.go_on(world, taken | export.seal)
    world.end_all()
    for export in exports:
        for _ in range(3):
            world.clock += 1000
            export.go_on(world, extended(world, export.seal, patience))
        assert export.delivered == list(dict.fromkeys(export.delivered)), "a record was doubled"
        assert set(export.delivered) == world.committed - known, "a record was lost"
        assert export.seal.gaps == (), "a gap was never given up"


def explore(kind: type[World], *, sees_processes: bool, seeds: int) -> None:
    """Run the world many times; a failure names the seed that leads to it again."""
    for seed in range(seeds):
        try:
            run(kind(Random(seed).randrange, sees_processes))
        except AssertionError as error:
            error.add_note(f"seed {seed}")
            raise


@pytest.mark.parametrize("sees_processes", [True, False], ids=["process", "select"])
def test_no_record_is_lost_or_doubled(*, sees_processes: bool) -> None:
    """Whatever statements and transactions do between two steps of the rule, each record comes once."""
    explore(World, sees_processes=sees_processes, seeds=1000)


@pytest.mark.proof
@pytest.mark.parametrize("sees_processes", [True, False], ids=["process", "select"])
def test_no_record_is_lost_or_doubled_at_length(*, sees_processes: bool) -> None:
    """The same, some hundred thousand times."""
    explore(World, sees_processes=sees_processes, seeds=300_000)


@pytest.mark.parametrize(
    "mutant",
    [BelievesAllHaveEnded, TakesNoLocks, ReadsUncommitted, TrustsTheTimesShown, LooksForLocksTooEarly],
)
def test_each_step_of_the_rule_is_needed(mutant: type[World]) -> None:
    """A rule with one step left out loses or changes something."""
    with pytest.raises(AssertionError, match=r"lost|changed"):
        explore(mutant, sees_processes=True, seeds=3000)


def test_without_process_the_longest_statement_is_what_the_rule_stands_on() -> None:
    """A statement that takes longer than was said can lose its records: the setting is a promise."""
    with pytest.raises(AssertionError, match=r"lost|changed"):
        explore(TakesLongerThanTheLongest, sees_processes=False, seeds=3000)
