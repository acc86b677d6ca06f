"""Events through the pipeline and the runner: at least once, one batch at a time, from where they are."""

from __future__ import annotations

import json
import threading
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, cast
from zoneinfo import ZoneInfo

import pytest

from exporter import journal, turns
from exporter.destinations.memory import Fault, MemoryStore
from exporter.destinations.memory_events import MemoryEvents
from exporter.destinations.object_store import ObjectStoreDestination
from exporter.errors import ConfigError, ExportError, Interrupted, NameTaken, OutcomeUnknown, Refused
from exporter.formats import compile_format
from exporter.ledger.memory import MemoryStorage
from exporter.ledger.requests import Requests
from exporter.ledger.rules import Ledger
from exporter.model import Outcome, PlanState, Receipt, Rendering, Window, flat_mapping
from exporter.pipeline import Delivered, Held, Job, Pipeline, Ready
from exporter.resending import Resent, resend
from exporter.runner import Runner
from exporter.sources.memory import MemorySource
from exporter.turns import Settings
from exporter.workspace import Workspace
from tests.kit.observers import Silent
from tests.kit.steps import deliver_one, prepare_one

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from exporter.interfaces import Destination, Journal
    from exporter.model import Batch, Package, Plan
    from exporter.outcome import Report

BEGIN = datetime(2026, 11, 19, tzinfo=UTC)
HOUR = timedelta(hours=1)
LINE_BYTES = len(b'{"id":"01","said":"v1"}\n')
RENDERING = Rendering(
    "own",
    flat_mapping({"id": ("string", "id"), "said": ("string", "said")}),
    "events",
    batch_bytes=2 * LINE_BYTES,
)


@dataclass
class Stand:
    """A source with records of two windows, a ledger, and a destination of events with faults to come."""

    workspace: Workspace
    faults: list[Fault | None] = field(default_factory=list)
    poison: set[str] = field(default_factory=set)
    now: datetime = BEGIN + 2 * HOUR
    stop: threading.Event = field(default_factory=threading.Event)
    observer: Silent = field(default_factory=Silent)

    def __post_init__(self) -> None:
        self.source = MemorySource(self.clock, ["said"])
        self.destination = MemoryEvents(faults=self._fault, refuses=self._refuses)
        self.ledger = Ledger(MemoryStorage(), self.clock)
        self.requests = Requests(self.ledger, self.clock)
        self.pipeline = self.another()
        self.job = self.job_to(self.destination, RENDERING)

    def clock(self) -> datetime:
        return self.now

    def another(self) -> Pipeline:
        """The pipeline of one more process."""
        return Pipeline(self.source, self.ledger, self.workspace, compile_format, self.clock)

    def job_to(self, destination: Destination, rendering: Rendering) -> Job:
        zone, claim = ZoneInfo("UTC"), destination.claim("acme")
        return Job("acme", "acme", zone, HOUR, timedelta(0), BEGIN, rendering, 1 << 30, destination, claim)

    def _fault(self, _package: Package, _batch: Batch) -> Fault | None:
        return self.faults.pop(0) if self.faults else None

    def _refuses(self, line: bytes) -> bool:
        return json.loads(line)["id"] in self.poison

    def insert(self, count: int, hours: float = 0) -> None:
        """So many records, all of one window."""
        transaction = self.source.begin()
        for number in range(count):
            self.source.insert(
                transaction, "acme", BEGIN + hours * HOUR + timedelta(seconds=number), said="v1"
            )
        self.source.commit(transaction)

    def ready(self, pipeline: Pipeline | None = None) -> Ready:
        found = prepare_one(pipeline or self.pipeline, self.job, self.now)
        assert isinstance(found, Ready)
        return found

    def deliver(self, ready: Ready, *, must_end: bool = False) -> Delivered | Held | None:
        try:
            return deliver_one(self.pipeline, ready, must_end=lambda: must_end)
        finally:
            ready.discard()

    def once(self) -> Delivered | Held | None:
        return self.deliver(self.ready())

    def run(self, **changes: object) -> Report:
        settings = replace(Settings(workers=1, uploads=2, insist=True), **changes)  # type: ignore[arg-type]
        runner = Runner(self.pipeline, self.ledger, self.observer, self.clock, settings, self.stop)
        return runner.run([self.job], self.now)

    @property
    def batches(self) -> list[list[str]]:
        """The ids of each batch that arrived."""
        return [[json.loads(line)["id"] for line in one.lines] for one in self.destination.received]

    @property
    def ids(self) -> Counter[str]:
        return Counter(record for batch in self.batches for record in batch)

    @property
    def plan(self) -> Plan:
        standing = self.ledger.standing("acme")
        assert standing is not None
        assert standing.open_plan is not None
        return standing.open_plan

    @property
    def watermark(self) -> datetime:
        standing = self.ledger.standing("acme")
        assert standing is not None
        return standing.live.watermark


@pytest.fixture
def stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stand]:
    monkeypatch.setattr(turns, "RETRIES_S", (0.01, 0.01))
    with Workspace(tmp_path) as workspace:
        stand = Stand(workspace)
        stand.pipeline.begin(stand.job)
        yield stand


# --- one delivery ------------------------------------------------------------------------------------


def test_events_go_out_in_batches_without_a_name(stand: Stand) -> None:
    """In their order, each once; the plan has a number and a stamp, and no name."""
    stand.insert(5)
    answer = stand.once()
    assert isinstance(answer, Delivered)
    assert stand.batches == [["1", "2"], ["3", "4"], ["5"]]
    assert (answer.plan.name, answer.plan.sequence, answer.plan.state) == ("", 1, PlanState.DELIVERED)
    assert (answer.plan.sent, answer.plan.refused, answer.plan.hashes) == (5, 0, ())
    assert stand.watermark == BEGIN + HOUR


@pytest.mark.parametrize("fault", Fault)
@pytest.mark.parametrize("at", range(3))
def test_a_failure_sends_one_batch_again_and_not_the_window(stand: Stand, fault: Fault, at: int) -> None:
    """What was accepted before it stays accepted; only a batch without an answer may come twice."""
    stand.insert(5)
    stand.faults = [None] * at + [fault]
    held = stand.once()
    assert isinstance(held, Held)
    assert held.retry_at is not None
    before = len(stand.batches)
    assert stand.plan.sent == 2 * at
    assert isinstance(stand.once(), Delivered)
    every = [["1", "2"], ["3", "4"], ["5"]]
    assert stand.batches[before:] == every[at:]
    landed = fault in (Fault.LOST_ANSWER, Fault.DELAYED)
    assert {batch for batch, times in stand.ids.items() if times > 1} == (set(every[at]) if landed else set())
    assert set(stand.ids) == {"1", "2", "3", "4", "5"}


def test_changed_rows_shift_nothing(stand: Stand) -> None:
    """Records that grow, or go away, between two attempts neither double others nor hide them."""
    stand.insert(6)
    stand.faults = [None, Fault.NOT_SENT]
    assert isinstance(stand.once(), Held)
    stand.source.update(1, "acme", BEGIN, said="x" * 500)
    stand.source.update(4, "acme", BEGIN + timedelta(seconds=3), said="v2" * 50)
    stand.source.delete(2, "acme")
    assert isinstance(stand.once(), Delivered)
    assert stand.batches == [["1", "2"], ["3"], ["4"], ["5", "6"]]


def test_a_death_between_the_last_batch_and_the_commit_sends_nothing_again(stand: Stand) -> None:
    """All is in, so the next process only says so."""
    stand.insert(4)
    ready = stand.ready()

    class Dies(MemoryEvents):
        def deliver(self, package: Package, journal: Journal) -> Receipt:
            super().deliver(package, journal)
            raise KeyboardInterrupt

    dying = Dies()
    with pytest.raises(KeyboardInterrupt):
        deliver_one(stand.pipeline, replace(ready, job=replace(ready.job, destination=dying)))
    ready.discard()
    answer = stand.once()
    assert isinstance(answer, Delivered)
    assert (answer.receipt, answer.plan.sent) == (None, 4)
    assert (len(dying.received), stand.batches) == (2, [])
    assert [attempt.outcome for attempt in stand.ledger.attempts(answer.plan.id)] == [
        Outcome.PENDING,
        Outcome.SUCCEEDED,
    ]


def test_two_processes_double_one_batch_at_most(stand: Stand) -> None:
    """The one that is overtaken ends at its first batch, and leaves the rest to the other."""
    stand.insert(6)
    first, second = stand.ready(), stand.ready(stand.another())
    came: list[object] = []

    class Overtaken(MemoryEvents):
        def deliver(self, package: Package, journal: Journal) -> Receipt:
            came.append(stand.deliver(second))
            return super().deliver(package, journal)

    slow = Overtaken()
    assert stand.deliver(replace(first, job=replace(first.job, destination=slow))) is None
    assert isinstance(came[0], Delivered)
    assert stand.ids == Counter("123456")
    assert [len(one.lines) for one in slow.received] == [2]


def test_a_destination_that_tells_of_too_little_has_not_delivered(stand: Stand) -> None:
    """Its success is not believed: the export is held, and the watermark stays."""
    stand.insert(4)

    class Forgetful(MemoryEvents):
        def deliver(self, package: Package, journal: Journal) -> Receipt:
            journal.accepted(package.batches[0])
            return Receipt("")

    stand.job = replace(stand.job, destination=Forgetful())
    held = stand.once()
    assert isinstance(held, Held)
    assert isinstance(held.error, OutcomeUnknown)
    assert "internal error" in held.error.message
    assert stand.watermark == BEGIN
    assert stand.plan.sent == 2


# --- the wish to end ---------------------------------------------------------------------------------


def test_a_delivery_ends_between_two_batches_when_it_has_to(stand: Stand) -> None:
    """What is in stays in, nothing waits and nothing is blamed; the next run sends the rest."""
    stand.insert(5)
    held = stand.deliver(stand.ready(), must_end=True)
    assert isinstance(held, Held)
    assert isinstance(held.error, Interrupted)
    standing = stand.ledger.standing("acme")
    assert standing is not None
    assert (standing.export.tries, standing.export.blocked_until, standing.export.failure) == (0, None, None)
    assert [attempt.outcome for attempt in stand.ledger.attempts(stand.plan.id)] == [Outcome.NOT_SENT]
    assert isinstance(stand.once(), Delivered)
    assert stand.batches == [["1", "2"], ["3", "4"], ["5"]]


def test_sigterm_does_not_wait_for_a_delivery_of_many_batches(stand: Stand) -> None:
    """The run says that it is not done, and that nothing failed; another one goes on from there."""
    stand.insert(9)
    asked = stand.destination._faults

    def stop(package: Package, batch: Batch) -> Fault | None:
        if len(stand.batches) == 2:
            stand.stop.set()
        return asked(package, batch)

    stand.destination._faults = stop
    report = stand.run()
    assert (report.unfinished, report.failing, report.exit_status) == ({"acme"}, {}, 10)
    assert stand.observer.failures == []
    assert stand.plan.sent == 6
    stand.stop.clear()
    assert stand.run().exit_status == 0
    assert set(stand.ids.values()) == {1}
    assert len(stand.ids) == 9


def test_a_delivery_that_got_on_before_it_failed_has_not_hung(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Patience counts from the last batch, so that a passing fault after an hour is tried again soon."""
    moment = [0.0]
    monkeypatch.setattr("exporter.turns.time.monotonic", lambda: moment[0])
    monkeypatch.setattr(turns, "RETRIES_S", (0.0, 0.0))
    stand.insert(6)

    def slowly(_package: Package, _batch: Batch) -> Fault | None:
        moment[0] += turns.PATIENCE_S - 1
        return Fault.LOST_REQUEST if len(stand.batches) == 2 and not stand.faults else None

    def recovering(package: Package, batch: Batch) -> Fault | None:
        fault = slowly(package, batch)
        stand.faults += [fault] if fault else []
        return fault

    stand.destination._faults = recovering
    assert stand.run().exit_status == 0
    assert stand.ids == Counter("123456")


def test_a_run_leaves_events_to_the_process_that_sends_them(stand: Stand) -> None:
    """Each new try would double a batch: it is not this run's any more."""
    stand.insert(4)
    stand.now = BEGIN + HOUR
    other = stand.ready(stand.another())
    asked = stand.destination._faults
    met = threading.Event()

    def overtake(package: Package, batch: Batch) -> Fault | None:
        if not met.is_set():
            met.set()
            assert isinstance(stand.deliver(other), Delivered)
        return asked(package, batch)

    stand.destination._faults = overtake
    report = stand.run()
    assert (report.failing, report.exit_status) == ({}, 0)
    assert stand.ids == {"1": 2, "2": 2, "3": 1, "4": 1}


def test_a_second_export_of_the_same_events_is_told_so(stand: Stand) -> None:
    """In words of events, and with what could tell the two apart: there are no objects and no prefix."""
    with pytest.raises(NameTaken, match="might deliver the same events as export 'acme'") as taken:
        stand.pipeline.begin(replace(stand.job, name="again"))
    assert "sourcetype" in taken.value.hint
    other = MemoryEvents("memory://other")
    stand.pipeline.begin(replace(stand.job, name="again", claim=other.claim("acme")))
    with pytest.raises(NameTaken, match="might deliver the same events as export 'acme'"):
        stand.pipeline.begin(replace(stand.job, name="again"))


# --- batches of which the beginning is in -------------------------------------------------------------


def test_the_beginning_of_a_batch_comes_once_however_often_the_rest_fails(stand: Stand) -> None:
    """Its progress and its refused events are in the ledger, and the next try begins behind them."""
    stand.insert(4)
    stand.poison = {"1"}
    stand.job = replace(stand.job, rendering=replace(stand.job.rendering, batch_bytes=10_000))
    stand.destination._taken = lambda batch: batch.count - 1
    stand.faults = [Fault.REFUSED]
    assert isinstance(stand.once(), Held)
    assert (stand.plan.sent, stand.plan.refused) == (2, 1)
    for fault in (Fault.LOST_REQUEST, Fault.REFUSED):
        stand.faults = [fault]
        assert isinstance(stand.once(), Held)
        assert stand.batches == [["2", "3"]]
    assert isinstance(stand.once(), Delivered)
    assert stand.ids == Counter("234")
    assert resend(stand.requests, stand.job, stand.workspace).refused == 1


# --- a destination that asks to be left alone ---------------------------------------------------------


@pytest.mark.parametrize(("wish_s", "left_s"), [(0.0, 1), (120.0, 120), (1e9, 3600)])
def test_a_destination_is_left_alone_for_as_long_as_it_asks(stand: Stand, wish_s: float, left_s: int) -> None:
    """Longer than the back-off of a short window, and for an hour at most."""
    stand.job = replace(stand.job, every=timedelta(seconds=1))
    stand.insert(1)
    asked: list[int] = []

    def busy(_package: Package, batch: Batch) -> None:
        asked.append(batch.count)
        raise OutcomeUnknown("busy", wait_s=wish_s)

    stand.destination._faults = busy
    stand.run(insist=False)
    standing = stand.ledger.standing("acme")
    assert standing is not None
    assert standing.export.blocked_until == stand.clock() + timedelta(seconds=left_s)
    assert len(asked) == (3 if wish_s == 0 else 1)


# --- wrong settings ----------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [1, 2, 3])
def test_what_is_left_after_a_resume_goes_out_with_present_settings(stand: Stand, at: int) -> None:
    """What is in stays in and is not sent again; another process that still sends the plan ends at once."""
    stand.insert(7)
    stand.faults = [None] * at + [Fault.REFUSED]
    assert isinstance(stand.once(), Held)
    sent = stand.plan.sent
    stale = stand.ready(stand.another())
    stand.now += timedelta(seconds=10)
    assert stand.requests.resume("acme") is not None
    renamed = flat_mapping({"id": ("string", "id"), "now": ("string", "said")})
    stand.job = replace(stand.job, rendering=replace(RENDERING, mapping=renamed))
    answer = stand.once()
    assert isinstance(answer, Delivered)
    assert (answer.plan.sequence, answer.plan.sent, answer.plan.final) == (2, 7 - sent, True)
    assert stand.ids == Counter("1234567")
    assert ["now" in json.loads(one.lines[0]) for one in stand.destination.received] == [
        number >= at for number in range(4)
    ]
    assert stand.watermark == BEGIN + HOUR
    assert stand.deliver(stale) is None
    first = stand.ledger.delivered("acme", 1)
    assert (first.content.count, first.final) == (sent, False)


def test_a_resume_after_which_nothing_is_left_closes_the_window(stand: Stand) -> None:
    """The records behind what is in have gone: the next run passes over an empty rest."""
    stand.insert(4)
    stand.faults = [None, Fault.REFUSED]
    assert isinstance(stand.once(), Held)
    assert stand.requests.resume("acme") is not None
    for record in (3, 4):
        stand.source.delete(record, "acme")
    assert stand.run().exit_status == 0
    assert stand.ids == Counter("12")
    assert stand.watermark == BEGIN + 2 * HOUR


def test_the_rest_of_a_replay_is_still_asked_for_after_a_resume(stand: Stand) -> None:
    """From where it was left, and then the next number from its own start."""
    stand.insert(3)
    stand.insert(3, hours=1)
    assert stand.run().exit_status == 0
    lane = stand.requests.replay("acme", (1, 2))
    stand.faults = [None, Fault.REFUSED]
    again = prepare_one(stand.pipeline, stand.job, stand.now, lane.id)
    assert isinstance(again, Ready)
    assert isinstance(stand.deliver(again), Held)
    assert stand.requests.resume("acme") is not None
    stand.destination.received.clear()
    for _ in range(2):
        rest = prepare_one(stand.pipeline, stand.job, stand.now, lane.id)
        assert isinstance(rest, Ready)
        assert isinstance(stand.deliver(rest), Delivered)
    assert stand.batches == [["3"], ["4", "5"], ["6"]]
    assert prepare_one(stand.pipeline, stand.job, stand.now, lane.id) is None


def test_very_many_refused_events_stop_an_export_until_somebody_has_looked(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are counted across tries; what is in or in quarantine stays there, and a resume goes on behind."""
    monkeypatch.setattr(journal, "QUARANTINE_RECORDS", 3)
    stand.insert(8)
    stand.poison = set("2345")
    stand.faults = [None, Fault.NOT_SENT]
    assert isinstance(stand.once(), Held)
    for _ in range(2):
        held = stand.once()
        assert isinstance(held, Held)
        assert isinstance(held.error, Refused)
        assert (stand.plan.sent, stand.plan.refused) == (1, 3)
    stand.poison = set()
    assert stand.requests.resume("acme") is not None
    answer = stand.once()
    assert isinstance(answer, Delivered)
    assert (answer.plan.sent, answer.plan.refused) == (4, 0)
    assert resend(stand.requests, stand.job, stand.workspace) == Resent(3, 0)
    assert set(stand.ids) == set("12345678")


# --- replay, backfill, and a destination of another kind ---------------------------------------------


def test_events_can_be_replayed_and_backfilled(stand: Stand) -> None:
    """They go out again, as a delivery with a number of its own."""
    stand.insert(3)
    assert isinstance(stand.once(), Delivered)
    lanes = [
        stand.requests.replay("acme", (1,)),
        stand.requests.backfill("acme", Window(BEGIN, BEGIN + HOUR), stand.source.seal(), redeliver=True),
    ]
    for sequence, lane in enumerate(lanes, 2):
        again = prepare_one(stand.pipeline, stand.job, stand.now, lane.id)
        assert isinstance(again, Ready)
        answer = stand.deliver(again)
        assert isinstance(answer, Delivered)
        assert (answer.plan.sequence, answer.plan.repeats, answer.plan.sent) == (sequence, True, 3)
        assert set(stand.ids.values()) == {sequence}


@pytest.mark.parametrize("were_events", [True, False])
def test_a_plan_is_never_sent_to_a_destination_of_another_kind(stand: Stand, were_events: bool) -> None:  # noqa: FBT001 - a case
    """An open plan waits for its own kind, and a replay is refused; both say what to do."""
    stand.insert(1)
    store = ObjectStoreDestination(MemoryStore(), "")
    kinds = [stand.job, stand.job_to(store, replace(RENDERING, archive="zip"))]
    was, now = kinds if were_events else reversed(kinds)
    stand.job = was
    stand.ready().discard()
    moved = replace(now, claim=was.claim)
    with pytest.raises(ExportError, match="was planned as") as refused:
        prepare_one(stand.pipeline, moved, stand.now)
    assert "backfill --redeliver" in refused.value.hint
    assert isinstance(stand.once(), Delivered)
    lane = stand.requests.replay("acme", (1,))
    with pytest.raises(ExportError, match="was planned as"):
        prepare_one(stand.pipeline, moved, stand.now, lane.id)


# --- quarantine --------------------------------------------------------------------------------------


def test_poison_events_hold_up_nobody_and_can_be_sent_again(stand: Stand) -> None:
    """They lie in the quarantine whole; what is taken then is marked, and sent no third time."""
    stand.insert(5)
    stand.poison = {"2", "3", "5"}
    answer = stand.once()
    assert isinstance(answer, Delivered)
    assert (answer.plan.sent, answer.plan.refused) == (2, 3)
    assert stand.batches == [["1"], ["4"], []]
    stand.poison = {"3"}
    assert resend(stand.requests, stand.job, stand.workspace) == Resent(2, 1)
    assert stand.batches[3:] == [["2"], ["5"]]
    standing = stand.ledger.standing("acme")
    assert standing is not None
    assert standing.waiting == 1
    stand.poison = set()
    assert resend(stand.requests, stand.job, stand.workspace, 1) == Resent(1, 0)
    assert resend(stand.requests, stand.job, stand.workspace) == Resent(0, 0)
    assert stand.ids == Counter("12345")


def test_a_resend_that_fails_keeps_what_is_in(stand: Stand) -> None:
    """The batches before the failure are marked; the rest waits."""
    stand.insert(4)
    stand.poison = set("1234")
    assert isinstance(stand.once(), Delivered)
    stand.poison, stand.faults = set(), [None, Fault.NOT_SENT]
    came = resend(stand.requests, stand.job, stand.workspace)
    assert (came.sent, came.refused, type(came.failure).__name__) == (2, 0, "NotSent")
    assert resend(stand.requests, stand.job, stand.workspace) == Resent(2, 0)
    assert stand.ids == Counter("1234")


def test_a_resend_is_of_events_alone(stand: Stand) -> None:
    """An export of objects has nothing to send again; it is said what there is instead."""
    objects = stand.job_to(cast("Destination", stand.destination), replace(RENDERING, archive="zip"))
    with pytest.raises(ConfigError, match="delivers objects"):
        resend(stand.requests, objects, stand.workspace)
