"""The delivery protocol of one export as a state machine, small enough to visit every state it has.

``Delivery`` is the protocol: each rule of it is one method, so that a mutant is a subclass that
overrides one. Two processes work on the same export and may crash at any step; a PUT may land long
after its caller gave up on it, or never; records become visible in any order.

It must not import the product: it says what the product has to do, in other words.

How a state is kept small, without leaving anything out:

- Positions are 0, 1, 2 … in the order in which transactions began; all have begun before the first
  state, and the horizon is the lowest one that has not committed.
- A process carries its own unanswered attempt, so that the two of them have no names and states that
  differ only by swapping them are one. A crash hands the attempt over to the ledger.
- Attempts that cannot have landed, PUTs that can no longer land and equal twins are dropped.
- ``stale`` stands for comparing versions: the export's row has changed since this process read it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WINDOW = 10  # keys per window: key 0-9 is the first one, negative keys lie before the export's begin
BEFORE_ALL, AFTER_ALL = -100, 1000  # the open sides of a part: after < key <= last
UNSEALED = -1
NOT_PAUSED = -1
NAME = 100  # names per window end, so that `_0002` and "now" fit between two ends
NOW = 10  # how far "now" lies behind the newest name or the window's end


class Lane(IntEnum):
    """What an object belongs to; FOREIGN is everything that is not ours."""

    LIVE = 0
    BACKFILL = 1
    REPLAY = 2
    FOREIGN = 3


class Outcome(IntEnum):
    """How an attempt ended. A refused one and a taken name are not kept: they cannot have landed."""

    PENDING = 0
    UNKNOWN = 1
    SUCCEEDED = 2


class Step(IntEnum):
    """How far a process has come; everything but IDLE is in its memory alone and dies with it."""

    IDLE = 0
    BEGUN = 1  # found no open plan; the next thing is the seal
    SEALED = 2
    RENDERED = 3  # a package, and no plan yet that fixes its range
    ADOPTED = 4  # found an open plan
    READY = 5  # a package of the open plan
    SENT = 6  # attempt recorded, PUT under way
    CREATED = 7  # from here to UNKNOWN: the answer that came, not yet written to the ledger
    TAKEN = 8
    REFUSED = 9  # a definite no, or failed before the first byte
    UNKNOWN = 10
    LANDED = 11  # the object is ours; the next thing is the commit


class Plan(NamedTuple):
    """What is in one object and what it is called. Without sequence and name: a draft of one."""

    lane: int
    window: int
    previous: int
    seal: int
    after: int = BEFORE_ALL
    last: int = AFTER_ALL
    final: int = True
    sequence: int = 0
    name: int = 0


NO_PLAN = Plan(Lane.LIVE, -9, 0, 0)


class Process(NamedTuple):
    """One process; ``rows`` (a set of positions, as bits) and ``edition`` are its package."""

    step: int = Step.IDLE
    stale: int = False
    plan: Plan = NO_PLAN
    rows: int = 0
    edition: int = 0
    excused: int = False  # LANDED by the documented limit: a foreign object, an unanswered attempt
    memo: int = 0  # for mutants that remember what the protocol reads again


IDLE = Process()


class Attempt(NamedTuple):
    """A recorded attempt at an open plan that no living process waits for any more."""

    sequence: int
    outcome: int
    edition: int


class Object(NamedTuple):
    """An object in the store, or the body of a PUT on its way there."""

    name: int
    lane: int
    rows: int
    edition: int


class Delivered(NamedTuple):
    """A delivered plan, with the hashes (here: editions) of all attempts that can have landed."""

    plan: Plan
    hashes: tuple[int, ...]
    excused: int


class Ledger(NamedTuple):
    """What every process sees, and what survives a crash."""

    watermark: int = 0  # how many windows are delivered
    seal: int = 0  # of the last one of these
    open_seal: int = UNSEALED  # while a window is delivered in parts
    last_key: int = BEFORE_ALL
    sequence: int = 0
    stamp: int = 0  # the newest name given out
    requests: tuple[int, ...] = ()  # backfill and replay, as long as they are not done
    open: tuple[Plan, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    delivered: tuple[Delivered, ...] = ()
    stopped: int = False
    paused: int = NOT_PAUSED  # the newest name given out when it was paused


class State(NamedTuple):
    """The whole world at one moment."""

    ledger: Ledger
    processes: tuple[Process, Process]
    visible: int  # positions that have committed, as bits
    edition: int  # of the records' content: 1 once somebody has changed it
    objects: tuple[Object, ...]
    in_flight: tuple[Object, ...]  # PUTs that nobody waits for; each may land at any time, or never
    foreign: tuple[int, ...]  # the names under which somebody else has put an object
    orders: int  # how many `pause` and `resume` a person may still give unasked


class Act(StrEnum):
    """The kind of a transition."""

    STEP = "step of a process"
    BESIDE = "a second process begins"
    RESUME = "resume an export that waits for it"
    ORDER = "pause, or resume unasked"
    CRASH = "crash"
    FAIL = "put fails"
    LATE = "put lands late"
    ROWS = "records appear or change"
    FOREIGN = "foreign object"


NEEDED = (Act.STEP, Act.RESUME)  # one process, and a person who answers alarms, must do for every delivery


@dataclass(frozen=True, slots=True)
class World:
    """The bounds of one exploration: the records by position, and how often the rare things happen."""

    keys: tuple[int, ...]
    begun_with: int = 0  # this many of them are visible when the export begins
    windows: int = 2
    limit: int = 9  # records per part
    changes: bool = False
    foreign: int = 0
    orders: int = 0
    requests: tuple[Lane, ...] = ()


class Delivery:
    """The protocol as designed. Every rule is a method; ``successors`` puts them together."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.begin_seal = world.begun_with
        self.steps: dict[int, Callable[[State, Process, Process], Iterator[tuple[Act, State]]]] = {
            Step.IDLE: self.begin,
            Step.BEGUN: self.take_seal,
            Step.SEALED: self.render,
            Step.RENDERED: self.plan,
            Step.ADOPTED: self.render_again,
            Step.READY: self.attempt,
            Step.SENT: self.put,
            Step.CREATED: self.created,
            Step.TAKEN: self.judge,
            Step.REFUSED: self.refused,
            Step.UNKNOWN: self.unknown,
            Step.LANDED: self.commit,
        }

    # --- the source ---------------------------------------------------------------------------

    def horizon(self, visible: int) -> int:
        """Every position below it has committed."""
        return (~visible & (visible + 1)).bit_length() - 1

    def in_range(self, plan: Plan, position: int) -> bool:
        """On time: in the window and visible at the seal. Late: before it, and new since the last seal."""
        key = self.world.keys[position]
        if not plan.after < key <= plan.last or position >= plan.seal:
            return False
        window = key // WINDOW
        return window == plan.window or (window < plan.window and position >= plan.previous)

    def select(self, plan: Plan, visible: int) -> int:
        """The rows that a query for this range finds."""
        positions = range(len(self.world.keys))
        return sum(1 << p for p in positions if visible >> p & 1 and self.in_range(plan, p))

    def cut(self, plan: Plan, rows: int) -> tuple[Plan, int]:
        """End the part at the limit, and only between different keys."""
        found = sorted((self.world.keys[p], p) for p in range(len(self.world.keys)) if rows >> p & 1)
        if len(found) <= self.world.limit:
            return plan, rows
        last = found[self.world.limit - 1][0]
        within = sum(1 << p for key, p in found if key <= last)
        return plan._replace(last=last, final=within == rows), within

    # --- the rules ----------------------------------------------------------------------------

    def drafts(self, ledger: Ledger) -> Iterator[Plan]:
        """What could be planned next: the live window, or something that was asked for."""
        if ledger.watermark < self.world.windows:
            yield Plan(
                Lane.LIVE,
                ledger.watermark,
                self.previous_seal(ledger),
                self.seal_of_parts(ledger),
                after=ledger.last_key,
            )
        if Lane.BACKFILL in ledger.requests:
            yield Plan(Lane.BACKFILL, -1, self.begin_seal, self.begin_seal)
        if Lane.REPLAY in ledger.requests and ledger.delivered:
            yield ledger.delivered[0].plan._replace(lane=Lane.REPLAY, sequence=0, name=0)

    def previous_seal(self, ledger: Ledger) -> int:
        """A record is late if the last delivered window's seal had not seen it."""
        return ledger.seal

    def seal_of_parts(self, ledger: Ledger) -> int:
        """All parts of a window share the first one's seal."""
        return ledger.open_seal

    def next_name(self, ledger: Ledger, draft: Plan) -> int:
        """The window's end, or now for what was asked for, and never below the newest name."""
        end = (draft.window if draft.lane == Lane.LIVE else ledger.watermark) * NAME + NAME
        return max(end if draft.lane == Lane.LIVE else end + NOW, ledger.stamp + 1)

    def may_plan(self, ledger: Ledger, me: Process) -> bool:
        """Only on the ledger that was read, and only one open plan in all lanes."""
        return not me.stale and not ledger.open

    def adopt(self, state: State, plan: Plan) -> Plan:
        """An open plan is taken as it is: range and name never change."""
        del state
        return plan

    def is_open(self, ledger: Ledger, plan: Plan) -> bool:
        """Nobody has delivered or abandoned it meanwhile, and no alarm has been raised."""
        return not ledger.stopped and any(p.sequence == plan.sequence for p in ledger.open)

    def may_attempt(self, ledger: Ledger, plan: Plan) -> bool:
        """An attempt is recorded in the transaction that finds its plan open."""
        return self.is_open(ledger, plan)

    def may_commit(self, ledger: Ledger, plan: Plan) -> bool:
        """Compare-and-swap: only the one who finds the plan open delivers it."""
        return self.is_open(ledger, plan)

    def waits(self, process: Process) -> bool:
        """Whether the ledger holds an unanswered attempt of this process."""
        return Step.SENT <= process.step <= Step.UNKNOWN

    def lands(self, objects: tuple[Object, ...], body: Object) -> bool:
        """Create-only: under a name that is taken nothing ever lands."""
        return all(o.name != body.name for o in objects)

    def may_have_landed(self, outcome: int) -> bool:
        """An attempt without an answer may have landed, whoever died meanwhile."""
        return outcome in (Outcome.PENDING, Outcome.UNKNOWN, Outcome.SUCCEEDED)

    def is_ours(self, me: Process, landed: list[Attempt]) -> bool:
        """The object that exists is ours if another attempt at its plan may have landed."""
        del me
        return bool(landed)

    def hashes(self, me: Process, landed: list[Attempt]) -> tuple[int, ...]:
        """The content of every attempt that may be the one in the store."""
        return tuple(sorted({me.edition, *(a.edition for a in landed)}))

    def replans(self, landed: list[Attempt]) -> bool:
        """`resume` plans the range again only if nothing can have landed under the old name."""
        return not landed

    def stamp_at_resume(self, ledger: Ledger) -> int:
        """Names start at now, above the one that met a foreign object."""
        return max(ledger.stamp, ledger.watermark * NAME + NAME) + NOW

    def remember(self, landed: list[Attempt]) -> int:
        """Before a PUT nothing is learned: attempts are read after its answer."""
        del landed
        return 0

    # --- the steps of a process ---------------------------------------------------------------

    def begin(self, state: State, me: Process, other: Process) -> Iterator[tuple[Act, State]]:
        """Read the ledger: finish what is open, else start something new."""
        ledger = state.ledger
        act = Act.STEP if other.step == Step.IDLE else Act.BESIDE
        if ledger.stopped:
            return
        for plan in ledger.open:
            me = Process(Step.ADOPTED, plan=self.adopt(state, plan))
            yield act, move(state, me, other)
        if not ledger.open and ledger.paused == NOT_PAUSED:
            for draft in self.drafts(ledger):
                me = Process(Step.BEGUN if draft.seal == UNSEALED else Step.SEALED, plan=draft)
                yield act, move(state, me, other)

    def take_seal(self, state: State, me: Process, other: Process) -> Iterator[tuple[Act, State]]:
        plan = me.plan._replace(seal=self.horizon(state.visible))
        yield Act.STEP, move(state, me._replace(step=Step.SEALED, plan=plan), other)

    def render(self, state: State, me: Process, other: Process) -> Iterator[tuple[Act, State]]:
        plan, rows = self.cut(me.plan, self.select(me.plan, state.visible))
        me = me._replace(step=Step.RENDERED, plan=plan, rows=rows, edition=state.edition)
        yield Act.STEP, move(state, me, other)

    def plan(self, state: State, me: Process, other: Process) -> Iterator[tuple[Act, State]]:
        ledger = state.ledger
        if not self.may_plan(ledger, me):
            yield Act.STEP, move(state, IDLE, other)
        elif not me.rows:  # nothing to deliver: no name, no object
            yield Act.STEP, move(state, IDLE, outdated(other), self.advance(ledger, me.plan))
        else:
            name = self.next_name(ledger, me.plan)
            plan = me.plan._replace(sequence=ledger.sequence + 1, name=name)
            me = me._replace(step=Step.READY, stale=False, plan=plan)
            yield Act.STEP, move(state, me, outdated(other), self.planned(ledger, plan))

    def planned(self, ledger: Ledger, plan: Plan) -> Ledger:
        """The plan row fixes range and name before the first byte is sent."""
        return ledger._replace(open=(*ledger.open, plan), sequence=plan.sequence, stamp=plan.name)

    def render_again(self, state: State, me: Process, other: Process) -> Iterator[tuple[Act, State]]:
        rows = self.select(me.plan, state.visible)
        yield Act.STEP, move(state, me._replace(step=Step.READY, rows=rows, edition=state.edition), other)

    def attempt(self, state: State, me: Process, other: Process) -> Iterator[tuple[Act, State]]:
        if self.may_attempt(state.ledger, me.plan):
            memo = self.remember(self.landed(state, me.plan, other))
            yield Act.STEP, move(state, me._replace(step=Step.SENT, memo=memo), other)
        else:
            yield Act.STEP, move(state, IDLE, other)

    def put(self, state: State, me: Process, other: Process) -> Iterator[tuple[Act, State]]:
        """Exactly one try. A lost answer is a timeout whose PUT lands at once."""
        if self.lands(state.objects, body(me)):
            yield Act.STEP, move(self.store(state, body(me)), me._replace(step=Step.CREATED), other)
        else:
            yield Act.STEP, move(state, me._replace(step=Step.TAKEN), other)
        yield Act.FAIL, move(state, me._replace(step=Step.REFUSED), other)
        yield Act.FAIL, move(self.lose(state, body(me)), me._replace(step=Step.UNKNOWN), other)

    def created(self, state: State, me: Process, other: Process) -> Iterator[tuple[Act, State]]:
        ledger = self.answered(state.ledger, me, Outcome.SUCCEEDED)
        yield Act.STEP, move(state, me._replace(step=Step.LANDED, memo=0), other, ledger)

    def judge(self, state: State, me: Process, other: Process) -> Iterator[tuple[Act, State]]:
        """Judging and raising the alarm are one transaction."""
        ledger = state.ledger
        landed = self.landed(state, me.plan, other)
        if not self.is_open(ledger, me.plan):
            yield Act.STEP, move(state, IDLE, other)
        elif self.is_ours(me, landed):
            excused = bool(landed) and me.plan.name in state.foreign
            yield Act.STEP, move(state, me._replace(step=Step.LANDED, excused=excused, memo=0), other)
        else:
            yield Act.STEP, move(state, IDLE, outdated(other), ledger._replace(stopped=True))

    def refused(self, state: State, me: Process, other: Process) -> Iterator[tuple[Act, State]]:
        del me
        yield Act.STEP, move(state, IDLE, other)

    def unknown(self, state: State, me: Process, other: Process) -> Iterator[tuple[Act, State]]:
        """The same plan again, never a new one."""
        ledger = self.answered(state.ledger, me, Outcome.UNKNOWN)
        yield Act.STEP, move(state, me._replace(step=Step.READY, memo=0), other, ledger)

    def commit(self, state: State, me: Process, other: Process) -> Iterator[tuple[Act, State]]:
        if self.may_commit(state.ledger, me.plan):
            hashes = self.hashes(me, self.landed(state, me.plan, other))
            ledger = closed(self.advance(state.ledger, me.plan), me.plan)
            delivered = (*ledger.delivered, Delivered(me.plan, hashes, me.excused))
            yield Act.STEP, move(state, IDLE, outdated(other), ledger._replace(delivered=delivered))
        else:
            yield Act.STEP, move(state, IDLE, other)

    def advance(self, ledger: Ledger, plan: Plan) -> Ledger:
        """The one place where the watermark moves."""
        if plan.lane != Lane.LIVE:
            return ledger._replace(requests=tuple(r for r in ledger.requests if r != plan.lane))
        if not plan.final:
            return ledger._replace(open_seal=plan.seal, last_key=plan.last)
        return ledger._replace(
            watermark=plan.window + 1, seal=plan.seal, open_seal=UNSEALED, last_key=BEFORE_ALL
        )

    # --- attempts and the store ---------------------------------------------------------------

    def landed(self, state: State, plan: Plan, *others: Process) -> list[Attempt]:
        """The attempts at a plan that may have landed, without the asking process's own."""
        attempts = [a for a in state.ledger.attempts if a.sequence == plan.sequence]
        attempts += [unanswered(p) for p in others if p.plan.sequence == plan.sequence and self.waits(p)]
        return [a for a in attempts if self.may_have_landed(a.outcome)]

    def answered(self, ledger: Ledger, me: Process, outcome: Outcome) -> Ledger:
        """Keep the outcome of an attempt, as long as its plan is open."""
        if all(p.sequence != me.plan.sequence for p in ledger.open):
            return ledger
        attempt = Attempt(me.plan.sequence, outcome, me.edition)
        return ledger._replace(attempts=tuple(sorted({*ledger.attempts, attempt})))

    def store(self, state: State, body: Object) -> State:
        objects = tuple(sorted((*(o for o in state.objects if o.name != body.name), body)))
        in_flight = tuple(o for o in state.in_flight if o != body and self.lands(objects, o))
        return state._replace(objects=objects, in_flight=in_flight)

    def lose(self, state: State, body: Object) -> State:
        """Give up on a PUT that may still land."""
        if body in state.in_flight or not self.lands(state.objects, body):
            return state
        return state._replace(in_flight=tuple(sorted((*state.in_flight, body))))

    # --- everything that can happen -----------------------------------------------------------

    def start(self) -> State:
        requests = tuple(int(r) for r in self.world.requests)
        ledger = Ledger(seal=self.begin_seal, requests=requests)
        return State(ledger, (IDLE, IDLE), (1 << self.world.begun_with) - 1, 0, (), (), (), self.world.orders)

    def successors(self, state: State) -> Iterator[tuple[Act, State]]:
        """Everything that can happen next."""
        one, two = state.processes
        for me, other in ((one, two), (two, one)) if one != two else ((one, two),):
            yield from self.steps[me.step](state, me, other)
            if me.step != Step.IDLE:
                yield Act.CRASH, self.crash(state, me, other)
        for late in state.in_flight:
            yield Act.LATE, self.store(state, late)
        yield from self.source_moves(state)
        yield from self.foreign_moves(state)
        yield from self.orders(state)

    def crash(self, state: State, me: Process, other: Process) -> State:
        """Memory is lost; the attempt's row stays pending and its PUT may be on its way."""
        ledger = self.answered(state.ledger, me, Outcome.PENDING) if self.waits(me) else state.ledger
        lost = self.lose(state, body(me)) if me.step == Step.SENT else state
        return move(lost, IDLE, other, ledger)

    def source_moves(self, state: State) -> Iterator[tuple[Act, State]]:
        for position in range(len(self.world.keys)):
            if not state.visible >> position & 1:
                yield Act.ROWS, state._replace(visible=state.visible | 1 << position)
        if self.world.changes and not state.edition:
            yield Act.ROWS, state._replace(edition=1)

    def foreign_moves(self, state: State) -> Iterator[tuple[Act, State]]:
        """Somebody guesses the name that comes next, or has seen the plan's."""
        if len(state.foreign) >= self.world.foreign:
            return
        names = [p.name for p in state.ledger.open]
        names += [self.next_name(state.ledger, d) for d in self.drafts(state.ledger)]
        for name in sorted(set(names)):
            strange = Object(name, Lane.FOREIGN, 0, 0)
            if all(o.name != name for o in state.objects):
                squatted = self.store(state, strange)
                yield Act.FOREIGN, squatted._replace(foreign=(*state.foreign, name))

    def orders(self, state: State) -> Iterator[tuple[Act, State]]:
        """`pause` and `resume`, whenever a person likes; `resume` also when the export waits for it."""
        ledger = state.ledger
        if ledger.stopped or ledger.paused != NOT_PAUSED:
            yield Act.RESUME, self.resume(state)
        elif state.orders:
            fewer = state._replace(orders=state.orders - 1)
            yield Act.ORDER, order(fewer, ledger._replace(paused=ledger.stamp))
            if ledger.open:
                yield Act.ORDER, self.resume(fewer)

    def resume(self, state: State) -> State:
        ledger = state.ledger._replace(stopped=False, paused=NOT_PAUSED)
        for plan in ledger.open:
            if self.replans(self.landed(state, plan, *state.processes)):
                ledger = closed(ledger, plan)._replace(stamp=self.stamp_at_resume(ledger))
        return order(state, ledger)

    def done(self, state: State) -> bool:
        """Every window and every request is delivered."""
        ledger = state.ledger
        return ledger.watermark == self.world.windows and not ledger.requests and not ledger.open


def move(state: State, me: Process, other: Process, ledger: Ledger | None = None) -> State:
    pair = (me, other) if me <= other else (other, me)
    return state._replace(processes=pair, ledger=state.ledger if ledger is None else ledger)


def order(state: State, ledger: Ledger) -> State:
    one, two = state.processes
    return move(state, outdated(one), outdated(two), ledger)


def outdated(process: Process) -> Process:
    """What a change of the export's row means to a process that has read it and not planned yet."""
    return process._replace(stale=True) if Step.BEGUN <= process.step <= Step.RENDERED else process


def body(me: Process) -> Object:
    return Object(me.plan.name, me.plan.lane, me.rows, me.edition)


def unanswered(process: Process) -> Attempt:
    return Attempt(process.plan.sequence, Outcome.PENDING, process.edition)


def closed(ledger: Ledger, plan: Plan) -> Ledger:
    """A plan that is delivered or abandoned takes its attempts with it."""
    return ledger._replace(
        open=tuple(p for p in ledger.open if p.sequence != plan.sequence),
        attempts=tuple(a for a in ledger.attempts if a.sequence != plan.sequence),
    )
