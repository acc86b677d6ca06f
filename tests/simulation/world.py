"""One world from one seed: the real pipeline over a source, stores and a ledger in memory.

Up to three processes deliver the same exports. At every call of a seam the seed decides whether the
process dies, another one goes on, or something happens around them (``events``). Then everything calms
down, and what is due has to arrive. It must not re-implement anything of the product.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo

from exporter.destinations.memory import Fault, MemoryStore
from exporter.destinations.memory_events import MemoryEvents
from exporter.destinations.object_store import ObjectStoreDestination
from exporter.errors import Conflict, ExporterError, LedgerError, SourceChanged, Stopped
from exporter.formats import compile_format
from exporter.ledger.memory import MemoryStorage
from exporter.ledger.requests import Requests
from exporter.ledger.rules import Ledger
from exporter.model import LIVE_LANE, Rendering, flat_mapping
from exporter.pipeline import Held, Job, Moved, Pipeline, Ready, Unreached
from exporter.sources.memory import MemorySource
from exporter.steps import result_of
from tests.simulation.application import MAX_RECORD_BYTES, Application
from tests.simulation.event_promises import is_poison
from tests.simulation.events import EVERY, LIMITS, ZONES, Events
from tests.simulation.promises import Promises
from tests.simulation.seams import Crash, SteppedDestination, SteppedEvents, SteppedSource, SteppedStorage
from tests.simulation.turns import Turns
from tests.simulation.violation import Violation

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from exporter.delivering import Sent
    from exporter.ledger.rules import Standing
    from exporter.steps import Prepared
    from exporter.workspace import Workspace

MAPPED: Final = flat_mapping(
    {
        "when": ("instant", "time"),
        "id": ("string", "id"),
        "said": ("string", "payload"),
        "nothing": ("string", None),
    }
)
STARTS: Final = (
    datetime(2026, 11, 18, 23, 30, tzinfo=UTC),
    datetime(2026, 3, 29, 0, 10, tzinfo=UTC),  # an hour before Berlin skips one
    datetime(2026, 11, 1, 5, 20, tzinfo=UTC),  # before New York repeats one
)


@dataclass(frozen=True, slots=True)
class Chances:
    """How likely things are, at each step of this world."""

    crash: float
    switch: float
    event: float
    fault: float


CHANCES: Final = (
    (0.0, 0.02, 0.05, 0.1),
    (0.05, 0.2, 0.5),
    (0.1, 0.2, 0.4),
    (0.0, 0.3, 0.6),
)
LAYOUTS: Final = (
    [("acme", "acme")],
    [("acme", "acme"), ("acme-2", "acme")],
    [("acme", "acme"), ("globex", "globex")],
    [("acme-events", "acme")],
    [("acme", "acme"), ("acme-events", "acme")],
)
EVENTS: Final = "-events"
"""What the names of exports of events end in."""
BATCH_BYTES: Final = (1, 60, 150, 1000)
MANY: Final = 300
LOOKED_AT: Final = 0.3
"""How often exports are looked at before their first step: a run that has gone on for a while does that."""
SETTLED: Final = 0.5
"""How often a delivery is settled before the next one of its group is sent."""


class World:
    """``steps`` are left to the chaos; afterwards everything works."""

    def __init__(self, seed: int, workspace: Workspace) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        self.now = self.rng.choice(STARTS)
        self.trace: list[str] = []
        self.steps = self.rng.choice((60, 120, 240))
        self.calm = False
        self.chances = Chances(*(self.rng.choice(some) for some in CHANCES))
        self.source = MemorySource(self.clock, ["payload"])
        self.storage = MemoryStorage()
        self.stores = [MemoryStore(name, self._fault) for name in ("memory://one", "memory://two")]
        self.application = Application(self.source)
        self.collector = MemoryEvents(
            "memory://collector",
            lambda *_: self._fault(None),
            is_poison,
            lambda batch: self.rng.randrange(batch.count),
        )
        self.promises = Promises(self.stores, self.collector, self.application, self.clock, self.note)
        self.jobs = {job.name: job for job in self._jobs()}
        self.events = Events(self)
        self._workspace = workspace
        self._turns: Turns | None = None
        self._failure: BaseException | None = None
        self.violation: Violation | None = None
        self._ids = 0

    # --- what everybody shares -------------------------------------------------------------------

    def clock(self) -> datetime:
        """The time in this world."""
        return self.now

    def note(self, text: str) -> None:
        """Add to the trace."""
        self.trace.append(text)

    def changed(self) -> None:
        """Check every promise."""
        self.promises.check(self.storage._rows)

    def ledger(self) -> Ledger:
        """The ledger as a person's command opens it: without steps."""
        return Ledger(self.storage, self.clock, self._new_id)

    def requests(self) -> Requests:
        """What a person can ask of the ledger."""
        return Requests(self.ledger(), self.clock)

    def destination(self, store: int, prefix: str) -> SteppedDestination:
        """A place in one of the stores."""
        inner = ObjectStoreDestination(self.stores[store], prefix)
        return SteppedDestination(inner, self.step, self.changed)

    def event_destination(self, name: str) -> SteppedEvents:
        """A place for the events of one export."""
        return SteppedEvents(self.collector, name, self.step, self.changed)

    def _jobs(self) -> list[Job]:
        return [self._job(name, account) for name, account in self.rng.choice(LAYOUTS)]

    def _job(self, name: str, account: str) -> Job:
        begin = self.now - self.rng.choice((timedelta(0), timedelta(minutes=25)))
        is_events = name.endswith(EVENTS)
        destination = self.event_destination(name) if is_events else self.destination(0, name)
        return Job(
            name=name,
            account=account,
            zone=ZoneInfo(self.rng.choice(ZONES)),
            every=self.rng.choice(EVERY),
            grace=self.rng.choice((timedelta(0), timedelta(seconds=60))),
            start=self.rng.choice((None, begin)),
            rendering=self.rendering(name),
            part_limit_bytes=self.rng.choice(LIMITS),
            destination=destination,
            claim=destination.claim(account),
        )

    def rendering(self, name: str) -> Rendering:
        """Some settings of a format and an archive, or of events."""
        mapping = self.rng.choice((None, MAPPED))
        archive = self.rng.choice(("zip", "gzip"))
        body = self.rng.choice(("ndjson", "json_array"))
        form = "native" if mapping is None else "own"
        if name.endswith(EVENTS):
            limit = self.rng.choice(BATCH_BYTES)
            return Rendering(form, mapping, "events", "ndjson", MAX_RECORD_BYTES, batch_bytes=limit)
        return Rendering(form, mapping, archive, body, MAX_RECORD_BYTES)

    def _new_id(self) -> str:
        self._ids += 1
        return f"id-{self._ids}"

    def _fault(self, _: object) -> Fault | None:
        if self.calm or self.rng.random() >= self.chances.fault:
            return None
        fault = self.rng.choice(tuple(Fault))
        self.note(f"    fault: {fault}")
        return fault

    # --- the schedule ----------------------------------------------------------------------------

    def run(self, pool: Executor) -> None:
        """Live through the seed; what went wrong becomes the ``violation``, with the trace."""
        try:
            self.events.prepare()
            self._turns = Turns(pool, [self._process] * self.rng.choice((1, 2, 2, 3)))
            self._turns.run()
            if self._failure is None:
                self._finish()
        except Exception as error:  # noqa: BLE001 - what the real code must not raise breaks a promise, too
            self._failure = error
        if self._failure is not None:
            what = f"{type(self._failure).__name__}: {self._failure}"
            again = f"python -m tests.simulation --seed {self.seed}"
            self.violation = Violation("\n".join([what, *self.trace, what, again]))
            self.violation.__cause__ = self._failure

    @property
    def _over(self) -> bool:
        return self.steps <= 0 or self._failure is not None

    def step(self, point: str) -> None:
        """What may happen between any two calls of a process."""
        if self.calm or self._turns is None:
            return
        turns = self._turns
        self.steps -= 1
        self.note(f"{turns.current}: {point}")
        while not self._over and self.rng.random() < self.chances.event:
            self.events.happen()
        if not self._over and self.rng.random() < self.chances.switch:
            self.promises.reached["another process goes on"] += 1
            turns.hand_over(self.rng.choice(turns.alive))
        if self._over or self.rng.random() < self.chances.crash:
            self.note(f"{turns.current}: dies")
            self.promises.reached["a process dies"] += 1
            raise Crash

    def _process(self) -> None:
        """One process after the other; the next one starts where the last one died."""
        while not self._over:
            try:
                self._deliver_some()
                self.step("starts again")
            except Crash:
                continue
            except BaseException as error:  # noqa: BLE001 - a thread hands over what went wrong
                self._failure = error

    def _pipeline(self) -> tuple[Ledger, Pipeline]:
        ledger = Ledger(SteppedStorage(self.storage, self.step, self.changed), self.clock, self._new_id)
        source = SteppedSource(self.source, self.step)
        return ledger, Pipeline(source, ledger, self._workspace, compile_format, self.clock)

    def _deliver_some(self) -> None:
        """A run: a few steps of every export, with the configuration as it is at its start."""
        jobs = self.rng.sample(list(self.jobs.values()), len(self.jobs))
        try:
            ledger, pipeline = self._pipeline()
            now = pipeline.now()
            known = {job.name: ledger.standing(job.name) for job in jobs}
            lanes: dict[str, list[Job]] = {}
            for job in jobs:
                for lane in _lanes(known[job.name]):
                    lanes.setdefault(lane, []).append(job)
        except ExporterError as error:
            self._expect(error)
            return
        for lane, waiting in lanes.items():
            going = waiting
            for _ in range(self.rng.randint(1, 4)):
                cut = self.rng.randint(0, len(going))
                going = [
                    *self._take_turns(pipeline, going[:cut], now, lane, known),
                    *self._take_turns(pipeline, going[cut:], now, lane, known),
                ]

    def _take_turns(
        self,
        pipeline: Pipeline,
        jobs: list[Job],
        now: datetime,
        lane: str,
        known: dict[str, Standing | None],
    ) -> list[Job]:
        """Prepare and deliver a group once, as the runner does; those that are neither done nor held.

        What the run knew of them when it began serves for their first step, or not at all.
        """
        if not jobs:
            return []
        first = {job.name: known.pop(job.name) for job in jobs if job.name in known}
        if self.rng.random() < LOOKED_AT:
            first = {}
        self.promises.reached["a step from what is true no longer"] += any(
            self.storage._rows.export(name) != (standing and standing.export)
            for name, standing in first.items()
        )
        told: list[tuple[Job, Prepared]] = []
        room = self.rng.choice((inf, inf, 0)) if len(jobs) > 1 else inf
        try:
            pipeline.prepare(jobs, now, told.extend, lane, room, first)
            if sorted(job.name for job, _ in told) != sorted(job.name for job in jobs):
                raise Violation(f"of {jobs} were answered: {told}")
            self.promises.reached["a group of several"] += len(jobs) > 1
            going = [job for job, answer in told if isinstance(answer, Moved | Unreached)]
            for _, answer in told:
                if isinstance(answer, Exception):
                    self._expect(answer)
            return [*going, *self._deliver(pipeline, [one for _, one in told if isinstance(one, Ready)])]
        finally:
            for _, answer in told:
                if isinstance(answer, Ready):
                    answer.discard()

    def _deliver(self, pipeline: Pipeline, group: list[Ready]) -> list[Job]:
        """Upload these in any order, and settle some of them together."""
        going: list[Job] = []
        sent: list[Sent] = []
        for ready, attempt in zip(group, pipeline.attempt(group), strict=True):
            if isinstance(attempt, Exception):
                self._expect(attempt)
                if isinstance(attempt, Conflict):
                    going.append(ready.job)
            else:
                send = partial(pipeline.send, ready, _unwatched, self._must_end)
                sent.append((ready, attempt, result_of(send)))
            if sent and (ready is group[-1] or self.rng.random() < SETTLED):
                going += self._settle(pipeline, sent)
                sent = []
        return going

    def _settle(self, pipeline: Pipeline, sent: list[Sent]) -> list[Job]:
        going = []
        for (ready, _, _), answer in zip(sent, pipeline.settle(sent), strict=True):
            if isinstance(answer, Held):
                self.note(f"    held: {answer.error.message}")
            elif isinstance(answer, Exception):
                self._expect(answer)
            else:
                going.append(ready.job)
        return going

    def _must_end(self) -> bool:
        """Whether this run's time is up, now and then."""
        must_end = not self.calm and self.rng.random() < self.chances.fault / 2
        self.promises.reached["a delivery that had to end"] += must_end
        return must_end

    def _expect(self, error: Exception) -> None:
        """Only errors that have a reason in this world; an alarm's reason is a promise of its own."""
        excuses = self.promises.excuses
        expected = (
            isinstance(error, Conflict | Stopped)
            or (isinstance(error, SourceChanged) and self.events.failed_over)
            or (isinstance(error, LedgerError) and excuses.restored)
        )
        if not expected:
            raise error
        self.note(f"    {type(error).__name__}: {error}")

    # --- the end ---------------------------------------------------------------------------------

    def _finish(self) -> None:
        """No more faults; everything that was written becomes due, and has to arrive."""
        self.note("calm")
        self.calm = True
        self.events.settle_down()
        self.changed()
        quiet_since = self.now
        self.now += timedelta(hours=2, minutes=10)  # two of the longest windows, and the grace
        self._drain()
        for _ in range(3):
            if self.events.clear():
                self._drain()
        self.promises.check_end(self.storage._rows, quiet_since)

    def _drain(self) -> None:
        ledger, pipeline = self._pipeline()
        for job in self.jobs.values():
            for lane in _lanes(ledger.standing(job.name)):
                for _ in range(MANY):
                    if not self._take_turns(pipeline, [job], self.now, lane, {}):
                        break
                else:
                    raise Violation(f"{job.name}/{lane} does not come to an end")


def _lanes(standing: Standing | None) -> list[str]:
    if standing is None:
        return [LIVE_LANE]
    return [lane.id for lane in standing.lanes if not lane.done]


def _unwatched(_size_bytes: int) -> None:
    """Progress that nobody looks at."""
