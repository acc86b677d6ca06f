"""The runner's promises: fair turns, one export's trouble nobody else's, an end when it is asked for."""

from __future__ import annotations

import threading
import time
import weakref
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast
from zoneinfo import ZoneInfo

import pytest

from exporter import grouping, places, turns
from exporter.encoders import Encoders
from exporter.errors import (
    Conflict,
    LedgerError,
    NotSent,
    OutcomeUnknown,
    Refused,
    SourceBusy,
    SourceChanged,
    WrongAccount,
)
from exporter.formats import compile_format
from exporter.ledger.memory import MemoryStorage
from exporter.ledger.rules import Ledger
from exporter.model import Content, Package, Plan, Range, Receipt, Rendering, Stamp, Window
from exporter.outcome import Report
from exporter.pipeline import Delivered, Held, Job, Moved, Ready, Unreached
from exporter.runner import Runner
from exporter.steps import result_of
from exporter.turns import Settings
from exporter.workspace import Folder, Memory
from tests.kit.observers import Silent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from exporter.ledger.rules import Standing
    from exporter.pipeline import Pipeline

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
BEGIN = NOW - timedelta(hours=8)
CONTENT = Content(3, 0, 0, 30, "aa", 20, "bb")
RENDERING = Rendering("native", None)


def job(name: str, store: str = "store") -> Job:
    destination = SimpleNamespace(store=store, endpoint=store.rpartition("@")[2], prefix="")
    return Job(
        name=name,
        account=name,
        zone=ZoneInfo("UTC"),
        every=timedelta(hours=4),
        grace=timedelta(0),
        start=BEGIN,
        rendering=RENDERING,
        part_limit_bytes=1 << 30,
        destination=cast("Any", destination),
        claim=f"{store}/{name}",
    )


def planned(one: Job) -> Ready:
    range_ = Range(one.account, Window(BEGIN, NOW), {})
    plan = Plan("1", one.name, "live", 1, range_, RENDERING, final=False, name=f"{one.name}.zip",
                stamp=Stamp(NOW), content=CONTENT, created_at=NOW, hashes=("aa",))  # fmt: skip
    folder = Folder("nowhere", Memory(0), deque())
    return Ready(one, plan, Package(b"", plan.name, CONTENT, ""), folder)


def success(ready: Ready) -> Delivered:
    return Delivered(ready.plan, CONTENT, Receipt(ready.plan.name))


@dataclass
class Script:
    """A pipeline that does as it is told: one entry for each turn of an export, then nothing is due."""

    steps: dict[str, list[object]]
    uploads: dict[str, Callable[[Ready], object]] = field(default_factory=dict)
    prepared: list[str] = field(default_factory=list)
    known: list[Mapping[str, Standing | None]] = field(default_factory=list)

    def helped(self, count: int) -> AbstractContextManager[Encoders]:
        return Encoders(count, compile_format)

    def prepare(
        self,
        jobs: Sequence[Job],
        now: datetime,
        tell: Callable[[object], None],
        lane: str,
        room_bytes: float,
        known: Mapping[str, Standing | None],
    ) -> None:
        self.known.append(known)
        for one in jobs:
            step = Unreached() if room_bytes <= 0 else self.step(one, now, lane)
            tell([(one, step)])
            room_bytes -= CONTENT.archive_bytes

    def step(self, one: Job, _now: datetime, _lane: str) -> object:
        self.prepared.append(one.name)
        steps = self.steps.get(one.name, [])
        step = steps.pop(0) if steps else None
        return planned(one) if step == "object" else step

    def attempt(self, group: Sequence[Ready]) -> list[object]:
        return [ready.plan for ready in group]

    def send(self, ready: Ready, _progress: object, _must_end: object) -> object:
        return self.uploads.get(ready.job.name, success)(ready)

    def settle(self, group: Sequence[tuple[Ready, object, object]]) -> list[object]:
        return [answer for _, _, answer in group]


def ledger_of(jobs: Iterable[Job]) -> Ledger:
    """A ledger in which all of these have begun and have windows that are due."""
    ledger = Ledger(MemoryStorage(), lambda: NOW)
    for one in jobs:
        ledger.begin(one.name, one.account, one.claim, BEGIN, {})
    return ledger


@dataclass
class Bench:
    """A runner over a script, ready to run."""

    jobs: list[Job]
    script: Script
    settings: Settings = field(default_factory=lambda: Settings(workers=2, uploads=8))
    stop: threading.Event = field(default_factory=threading.Event)
    observer: Silent = field(default_factory=Silent)

    def __post_init__(self) -> None:
        self.ledger = ledger_of(self.jobs)

    def run(self, begin: Callable[[], None] = lambda: None) -> Report:
        pipeline = cast("Pipeline", self.script)
        runner = Runner(pipeline, self.ledger, self.observer, lambda: NOW, self.settings, self.stop)
        return runner.run(self.jobs, NOW, begin=begin)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "RETRIES_S", (0.01, 0.01))
    monkeypatch.setattr(turns, "OVERTAKEN_S", 0.01)


# --- one export's trouble ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "trouble",
    [WrongAccount("x"), SourceChanged("x"), ValueError("secret of a customer"), Refused("x")],
    ids=lambda trouble: type(trouble).__name__,
)
def test_what_one_export_meets_stops_no_other(trouble: Exception) -> None:
    """Whatever one export's turn raises, every other export is delivered, and the run says 10."""
    jobs = [job(name) for name in ("bad", "good", "fine")]
    bench = Bench(jobs, Script({"bad": [trouble], "good": ["object"] * 3, "fine": ["object"]}))
    report = bench.run()
    assert {name: total.objects for name, total in report.delivered.items()} == {"good": 3, "fine": 1}
    assert (list(report.failing), report.error, report.exit_status) == (["bad"], None, 10)
    assert "secret" not in report.failing["bad"].message
    standing = bench.ledger.standing("bad")
    assert standing is not None
    assert standing.export.failure is not None


def test_a_source_that_changed_for_everybody_is_a_run_in_which_nothing_could_run() -> None:
    jobs = [job("a"), job("b")]
    report = Bench(jobs, Script({name: [SourceChanged("gone")] for name in "ab"})).run()
    assert report.exit_status == 20


def test_a_source_that_cannot_be_read_ends_the_run_and_keeps_what_was_done() -> None:
    """No other export is tried against it; what was delivered before is in the report."""
    jobs = [job(name) for name in "abcdef"]
    script = Script({"a": ["object"], "b": [SourceBusy("locked")]})
    bench = Bench(jobs, script, Settings(workers=1, uploads=1))
    report = bench.run()
    assert (report.error is not None, report.exit_status) == (True, 20)
    assert script.prepared[:2] == ["a", "b"]
    assert "f" in report.unfinished
    assert report.objects == 1


def test_an_export_that_another_run_moves_is_nobodys_failure() -> None:
    """A conflict is somebody else's progress: the export is looked at again, and the run goes on."""
    jobs = [job("racing"), job("other")]
    script = Script({"racing": [Conflict("x")] * 3 + ["object"], "other": ["object"]})
    report = Bench(jobs, script).run()
    assert (report.failing, report.error, report.objects) == ({}, None, 2)


def test_an_export_that_another_run_always_moves_first_is_left_to_it() -> None:
    report = Bench([job("racing")], Script({"racing": [Conflict("x")] * 100})).run()
    assert (report.failing, report.error, report.unfinished) == ({}, None, {"racing"})


def test_a_ledger_that_fails_in_the_middle_takes_nothing_out_of_the_report(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    jobs = [job("a"), job("b")]
    bench = Bench(jobs, Script({"a": ["object"], "b": [WrongAccount("x")]}), Settings(workers=1, uploads=1))

    def fails(*_: object) -> None:
        raise LedgerError("disk full")

    monkeypatch.setattr(bench.ledger, "fail", fails)
    report = bench.run()
    assert (report.objects, report.exit_status) == (1, 20)
    assert report.error is not None
    assert report.error.message == "disk full"


def test_a_failure_keeps_nothing_alive_but_its_words() -> None:
    """A traceback would hold the reader's transaction on the vendor's database until the run ends."""

    class Transaction: ...

    held: list[weakref.ref[Transaction]] = []

    class Failing(Script):
        def step(self, one: Job, now: datetime, lane: str) -> object:
            if one.name == "bad":
                return result_of(fail)
            assert [reference() for reference in held] == [None]
            return super().step(one, now, lane)

    def fail() -> None:
        transaction = Transaction()
        held.append(weakref.ref(transaction))
        raise WrongAccount("x")

    script = Failing({"good": ["object"]})
    report = Bench([job("bad"), job("good")], script, Settings(workers=1, uploads=1)).run()
    assert (list(report.failing), report.objects) == (["bad"], 1)


# --- slow stores -------------------------------------------------------------------------------------


def test_a_slow_store_leaves_room_for_the_others() -> None:
    """However many exports of one store hang, those of another are delivered meanwhile."""
    healthy_done = threading.Event()
    slow = [job(f"slow-{number}", "slow") for number in range(30)]
    healthy = [job(f"healthy-{number}", "healthy") for number in range(10)]
    left = {one.name for one in healthy}

    def hang(ready: Ready) -> object:
        assert healthy_done.wait(30)
        return success(ready)

    def note(ready: Ready) -> object:
        left.discard(ready.job.name)
        if not left:
            healthy_done.set()
        return success(ready)

    uploads: dict[str, Callable[[Ready], object]] = {one.name: hang for one in slow}
    uploads |= {one.name: note for one in healthy}
    script = Script({one.name: ["object"] for one in (*slow, *healthy)}, uploads)
    report = Bench([*slow, *healthy], script).run()
    assert (report.objects, report.exit_status) == (40, 0)


@pytest.mark.parametrize("how", ["share an endpoint", "failed last time", "are slow"])
def test_stores_that_hang_leave_room_for_the_others(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many of them there are, each a bucket of its own and all of them first in line."""
    hanging_store = "s3://{}@minio" if how == "share an endpoint" else "s3://{}"
    hanging = [job(f"a{number}", hanging_store.format(number)) for number in range(12)]
    healthy = [job(f"b{number}", f"s3://healthy-{number}") for number in range(20)]
    left, done = {one.name for one in healthy}, threading.Event()

    def hang(_: Ready) -> object:
        assert done.wait(10), left
        return Held(OutcomeUnknown("timed out"), NOW)

    def note(ready: Ready) -> object:
        left.discard(ready.job.name)
        if not left:
            done.set()
        return success(ready)

    if how == "are slow":
        monkeypatch.setattr(places, "SLOW_S", 0.01)
    monkeypatch.setattr(turns, "PATIENCE_S", 0.0)
    uploads: dict[str, Callable[[Ready], object]] = {one.name: hang for one in hanging}
    uploads |= {one.name: note for one in healthy}
    bench = Bench(
        [*hanging, *healthy], Script({one.name: ["object"] for one in (*hanging, *healthy)}, uploads)
    )
    if how == "failed last time":
        for one in hanging:
            bench.ledger.fail(one.name, "timed out", "")
    report = bench.run()
    assert (report.objects, len(report.failing)) == (20, 12)


def test_a_group_that_waited_to_grow_goes_on_although_nothing_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """However little of that time is left when the run looks how long to wait: here it is over by then."""
    soonest = turns.Turns._soonest

    def late(self: turns.Turns) -> float | None:
        if self._uploading == 1 and not self._rendering:
            time.sleep(max(0.0, self._grouping._full_until - time.monotonic()))
        return soonest(self)

    monkeypatch.setattr(turns.Turns, "_soonest", late)
    jobs = [job(f"{number:02}") for number in range(12)]
    others, done, in_time = {one.name for one in jobs[1:]}, threading.Event(), []

    def hang(ready: Ready) -> object:
        in_time.append(done.wait(10))
        return success(ready)

    def note(ready: Ready) -> object:
        others.discard(ready.job.name)
        if not others:
            done.set()
        return success(ready)

    uploads: dict[str, Callable[[Ready], object]] = {one.name: note for one in jobs[1:]}
    script = Script({one.name: ["object"] for one in jobs}, uploads | {jobs[0].name: hang})
    Bench(jobs, script, Settings(workers=1, uploads=4)).run()
    assert in_time == [True]


@dataclass
class Line:
    """Exports that other processes may take as well."""

    jobs: list[Job]
    paused: Callable[[], None] = lambda: None

    @property
    def left(self) -> int:
        return len(self.jobs)

    def take(self, most: int) -> list[Job]:
        taken, self.jobs = self.jobs[:most], self.jobs[most:]
        return taken

    def pause(self) -> None:
        self.paused()


def run_alone(bench: Bench, line: Line) -> Report:
    """The turns of one of several processes, which has its exports from this line."""
    report = Report()
    means = Runner(
        cast("Pipeline", bench.script), bench.ledger, bench.observer, lambda: NOW, bench.settings, bench.stop
    )
    turns.Turns(means, [], NOW, "live", report, bench.ledger.standings(), line).run()
    return report


def test_what_happened_is_passed_on_while_a_store_hangs() -> None:
    """Other processes tell it to people, who are not to wait for an upload that takes long."""
    finished, passed_on = [], threading.Event()

    class Noting(Silent):
        def finished(self, *_: object) -> None:
            finished.append(1)

    def pause() -> None:
        if finished:
            passed_on.set()

    def hang(ready: Ready) -> object:
        assert passed_on.wait(10)
        return success(ready)

    jobs = [job("hangs", "hangs"), job("well", "other")]
    script = Script({one.name: ["object"] for one in jobs}, {"hangs": hang})
    report = run_alone(Bench(jobs, script, observer=Noting()), Line(jobs, pause))
    assert report.objects == 2


def test_exports_whose_store_is_busy_are_left_to_other_processes_but_hold_up_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever cannot go on for long makes room for those behind it in the supply."""
    monkeypatch.setattr(grouping, "ASIDE_S", 0.3)
    hanging = [job(f"a-{number:03}", "hangs") for number in range(3 * grouping.GROUP)]
    line, done, seen = Line([*hanging, job("well", "other")]), threading.Event(), []

    def hang(ready: Ready) -> object:
        if not done.is_set():
            time.sleep(0.1)
            seen.append(line.left)
        assert done.wait(10)
        return success(ready)

    def note(ready: Ready) -> object:
        done.set()
        return success(ready)

    uploads: dict[str, Callable[[Ready], object]] = {one.name: hang for one in hanging}
    script = Script({one.name: ["object"] for one in line.jobs}, uploads | {"well": note})
    bench = Bench(line.jobs, script, Settings(workers=1, uploads=8))
    report = run_alone(bench, line)
    assert report.objects == len(hanging) + 1
    assert min(seen[:2]) > grouping.GROUP  # at first


def test_a_run_ends_although_everything_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """After enough time-outs the exports in trouble are left to the next run, which says so of each."""
    monkeypatch.setattr(turns, "PATIENCE_S", 0.0)
    monkeypatch.setattr(turns, "MOST_HUNG", 3)
    monkeypatch.setattr(places, "HANGS", 2)
    hanging = [job(f"{number}", f"s3://{number}@minio") for number in range(20)]
    script = Script(
        {one.name: ["object"] * 2 for one in (*hanging, job("well"))},
        {one.name: lambda _: Held(OutcomeUnknown("timed out"), NOW) for one in hanging},
    )
    bench = Bench([*hanging, job("well")], script, Settings(workers=1, uploads=4))
    report = bench.run()
    assert len(report.failing) == 20
    assert 3 <= len([name for name in script.prepared if name != "well"]) <= 6  # those that were under way
    assert (report.objects, report.unfinished, report.exit_status) == (2, set(), 10)
    left = [name for name, trouble in report.failing.items() if "left to the next run" in trouble.message]
    assert len(left) >= 14
    standing = bench.ledger.standing(left[0])
    assert standing is not None
    assert standing.export.failure is not None  # so that the next run knows, too
    assert bench.observer.failures.count(left[0]) == 1


def test_what_the_ledger_says_of_an_export_stays_when_it_is_not_tried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(turns, "MOST_HUNG", 0)
    bench = Bench([job("a")], Script({"a": ["object"]}))
    bench.ledger.fail("a", "the key was revoked", "grant it again")
    report = bench.run()
    standing = bench.ledger.standing("a")
    assert standing is not None
    assert standing.export.failure is not None
    assert standing.export.failure.message == "the key was revoked"
    assert "left to the next run" in report.failing["a"].message


def test_a_store_that_is_back_catches_up_in_turns_with_the_others() -> None:
    """Its first delivery ends its trouble; nobody waits until it is through, nor does it wait for anybody."""
    jobs = [job("back", "s3://back"), job("other", "s3://other")]
    script = Script({"back": ["object"] * 6, "other": ["object"] * 6})
    bench = Bench(jobs, script, Settings(workers=1, uploads=1))
    bench.ledger.fail("back", "no such bucket", "")
    assert bench.run().objects == 12
    first = script.prepared.index("back")
    assert first <= 3
    assert script.prepared[first : first + 4].count("back") == 2


def test_a_connection_that_timed_out_is_not_tried_again_in_the_same_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(turns, "CONNECT_PATIENCE_S", 0.0)
    script = Script({"a": ["object"] * 3}, {"a": lambda _: Held(NotSent("connect timed out"), NOW)})
    assert Bench([job("a")], script).run().exit_status == 10
    assert script.prepared == ["a"]


@pytest.mark.parametrize("error", [OutcomeUnknown("cut"), NotSent("no route")])
def test_a_passing_fault_is_tried_again_in_the_same_run(error: NotSent | OutcomeUnknown) -> None:
    answers: list[object] = [Held(error, NOW), Held(error, NOW)]
    script = Script({"a": ["object"] * 3}, {"a": lambda ready: answers.pop(0) if answers else success(ready)})
    report = Bench([job("a")], script).run()
    assert (report.objects, report.failing, report.exit_status) == (1, {}, 0)


def test_a_store_that_hung_is_not_asked_again_in_the_same_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time-outs in a row would hold the whole run, and whoever asked it to stop, for minutes."""
    monkeypatch.setattr(turns, "PATIENCE_S", 0.0)
    script = Script({"a": ["object"] * 3}, {"a": lambda _: Held(OutcomeUnknown("timed out"), NOW)})
    report = Bench([job("a")], script).run()
    assert (script.prepared, report.exit_status) == (["a"], 10)


def test_a_refusal_is_left_for_a_later_run() -> None:
    script = Script({"a": ["object"] * 3}, {"a": lambda _: Held(Refused("no", hint="grant it"), NOW)})
    report = Bench([job("a")], script).run()
    assert (script.prepared, report.exit_status) == (["a"], 10)
    assert report.failing["a"].hint == "grant it"


# --- renderers ---------------------------------------------------------------------------------------


@dataclass
class Waiting(Script):
    """Renders each export only once another is being rendered, too, or after so long."""

    patience_s: float = 10.0
    both: threading.Event = field(default_factory=threading.Event)
    under_way: int = 0

    def step(self, one: Job, now: datetime, lane: str) -> object:
        self.under_way += 1
        if self.under_way > 1:
            self.both.set()
        self.both.wait(self.patience_s)
        self.under_way -= 1
        return super().step(one, now, lane)


def test_a_rendering_that_takes_long_has_another_renderer_begin() -> None:
    """A slow query, or a large window, keeps no export waiting that another renderer could take."""
    script = Waiting({name: ["object"] for name in "ab"})
    report = Bench([job("a"), job("b")], script).run()
    assert (script.both.is_set(), report.objects) == (True, 2)


def test_renderings_that_are_quick_follow_one_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two at once would take turns at one interpreter, and cost more."""
    monkeypatch.setattr(turns, "ALONE_S", 60.0)
    script = Waiting({name: ["object"] for name in "abcd"}, patience_s=0.05)
    report = Bench([job(name) for name in "abcd"], script).run()
    assert (script.both.is_set(), report.objects) == (False, 4)


# --- the end -----------------------------------------------------------------------------------------


def test_exports_take_turns() -> None:
    """One that catches up a year does not go first to the end."""
    jobs = [job("behind"), job("other")]
    script = Script({"behind": [Moved(BEGIN)] * 5, "other": [Moved(BEGIN)] * 2})
    Bench(jobs, script, Settings(workers=1, uploads=1)).run()
    assert script.prepared[:4] == ["behind", "other", "behind", "other"]


@pytest.mark.parametrize("is_last", [True, False])
def test_an_export_at_the_last_window_that_is_due_is_not_looked_at_again(is_last: bool) -> None:  # noqa: FBT001 - both
    script = Script({"a": [Moved(NOW if is_last else BEGIN)]})
    Bench([job("a")], script).run()
    assert script.prepared == ["a"] * (1 if is_last else 2)


def test_stop_ends_the_starting_of_new_work() -> None:
    """SIGTERM in the middle: what was rendered is given back, and all the rest is unfinished."""
    jobs = [job(f"{number}") for number in range(20)]
    stop = threading.Event()

    class Stopping(Script):
        def step(self, one: Job, now: datetime, lane: str) -> object:
            stop.set()
            return super().step(one, now, lane)

    script = Stopping({one.name: ["object"] for one in jobs})
    report = Bench(jobs, script, Settings(workers=1, uploads=4), stop).run()
    assert (len(script.prepared), report.objects, report.exit_status) == (2, 0, 10)  # one group
    assert report.unfinished == {one.name for one in jobs}


def test_a_budget_that_is_spent_starts_nothing_more() -> None:
    jobs = [job(f"{number}") for number in range(5)]
    script = Script({one.name: ["object"] for one in jobs})
    report = Bench(jobs, script, Settings(workers=1, uploads=1, budget=timedelta(0))).run()
    assert (script.prepared, report.exit_status) == ([], 10)


def test_an_export_with_nothing_left_is_not_unfinished() -> None:
    """Its turn did not come any more, but there was nothing for it."""
    jobs = [job("a")]
    bench = Bench(jobs, Script({"a": ["object"]}))
    standing = bench.ledger.standing("a")
    assert standing is not None

    def last(ready: Ready) -> object:
        bench.ledger.advance(standing.export, "live", NOW, {})
        bench.stop.set()
        return success(ready)

    bench.script.uploads["a"] = last
    report = bench.run()
    assert (report.unfinished, report.exit_status) == (set(), 0)


def test_archives_in_the_workspace_are_bounded() -> None:
    """While so many bytes wait for a slow upload, nothing more is rendered."""
    release = threading.Event()
    jobs = [job(f"{number}", f"store-{number}") for number in range(6)]
    waiting: list[str] = []

    def hang(ready: Ready) -> object:
        waiting.append(ready.job.name)
        if len(waiting) == 2:
            release.set()
        assert release.wait(30)
        assert len(waiting) <= 3
        waiting.remove(ready.job.name)
        return success(ready)

    script = Script({one.name: ["object"] for one in jobs}, {one.name: hang for one in jobs})
    two_archives = 2 * CONTENT.archive_bytes
    report = Bench(jobs, script, Settings(workers=1, uploads=8, workspace_bytes=two_archives)).run()
    assert report.objects == 6


def test_where_exports_stood_when_the_run_began_is_known_for_their_first_step_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The second one begins where the first has brought them; after a while anybody may have moved them."""
    for known_s, expected in ((60.0, [{"a": "a"}, {}]), (-1.0, [{}, {}])):
        monkeypatch.setattr(turns, "KNOWN_S", known_s)
        script = Script({"a": [Moved(BEGIN), Moved(BEGIN), None]})
        Bench([job("a")], script).run()
        found = [{name: one.export.name for name, one in known.items() if one} for known in script.known[:2]]
        assert found == expected


def test_a_run_is_on_record_before_anything_is_done_if_anything_is_due() -> None:
    script = Script({"a": ["object"]})
    bench = Bench([job("a")], script)
    begun: list[list[str]] = []
    bench.run(begin=lambda: begun.append(list(script.prepared)))
    assert begun == [[]]
    assert script.prepared
    standing = bench.ledger.standing("a")
    assert standing is not None
    bench.ledger.advance(standing.export, "live", NOW, {})
    bench.run(begin=lambda: begun.append([]))
    assert begun == [[]]
