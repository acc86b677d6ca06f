"""Groups of exports in the pipeline: they share readings and transactions, and nothing else."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest
import stamina
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter import reading, rendering, sending, workspace
from exporter.destinations.memory import Fault, MemoryStore
from exporter.destinations.object_store import ObjectStoreDestination
from exporter.errors import (
    DeliveryError,
    LedgerError,
    NameTaken,
    SourceBusy,
    SourceChanged,
    SourceError,
    Stopped,
    Unreadable,
    WorkspaceError,
    WrongAccount,
)
from exporter.formats import compile_format
from exporter.ledger.memory import MemoryStorage
from exporter.ledger.requests import Requests
from exporter.ledger.rules import Ledger
from exporter.model import Rendering
from exporter.pipeline import Job, Moved, Pipeline, Ready, Unreached
from exporter.runner import Runner
from exporter.sources.memory import MemorySource
from exporter.steps import Delivered, Held, result_of
from exporter.turns import Settings
from exporter.workspace import Folder, Memory, Workspace
from tests.kit.archives import bytes_of
from tests.kit.observers import Silent
from tests.kit.steps import deliver_one, prepare_one

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence
    from pathlib import Path

    from exporter.columns import RowBlock
    from exporter.interfaces import Block
    from exporter.model import Package, Range, Receipt
    from exporter.outcome import Report
    from exporter.steps import Answer, Prepared

BEGIN = datetime(2026, 11, 20, 8, tzinfo=UTC)
HOUR = timedelta(hours=1)
NOW = BEGIN + HOUR
NATIVE = Rendering("native", None)


class Troubled(MemorySource):
    """A source that raises, for a while, when it comes to an account; it notes what is read together."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        super().__init__(clock, ["said"])
        self.trouble: dict[str, list[Exception]] = {}
        self.read_together: list[list[str]] = []
        self.meanwhile: Callable[[], None] | None = None

    def read(
        self, ranges: Sequence[Range], columns: Sequence[str] | None
    ) -> Generator[tuple[int, RowBlock], None, None]:
        self.read_together.append([one.account for one in ranges])
        for index, block in super().read(ranges, columns):
            if self.meanwhile is not None:
                meanwhile, self.meanwhile = self.meanwhile, None
                meanwhile()
            if errors := self.trouble.get(ranges[index].account):
                raise errors.pop(0)
            yield index, block


class Foreign:
    """A block that says it is somebody else's."""

    def __init__(self, block: Block) -> None:
        self._block = block

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the block has
        return getattr(self._block, name)

    def __len__(self) -> int:
        return len(self._block)

    def belongs_to(self, _account: str) -> bool:
        return False


@dataclass
class Stand:
    """A pipeline over everything in memory, with an export for each account."""

    workspace: Watched
    accounts: Sequence[str] = ("a", "b", "c", "d", "e")
    now: datetime = NOW
    told: list[list[tuple[str, Prepared]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.source = Troubled(self.clock)
        self.store = MemoryStore("memory://one")
        self.storage = MemoryStorage()
        self.ledger = Ledger(self.storage, self.clock)
        self.pipeline = self.another()
        self.jobs = [self.job(account) for account in self.accounts]

    def clock(self) -> datetime:
        return self.now

    def another(self) -> Pipeline:
        """The pipeline of one more process."""
        return Pipeline(self.source, self.ledger, self.workspace, compile_format, self.clock)

    def job(self, account: str, **changes: object) -> Job:
        destination = ObjectStoreDestination(self.store, "")
        one = Job(account, account, ZoneInfo("UTC"), HOUR, timedelta(0), BEGIN, NATIVE, 1 << 30, destination,
                  destination.claim(account))  # fmt: skip
        return replace(one, **changes)  # type: ignore[arg-type]

    def insert(self, *accounts: str, count: int = 3, minutes: int = 0) -> None:
        transaction = self.source.begin()
        for account in accounts:
            for number in range(count):
                moment = BEGIN + timedelta(minutes=minutes, seconds=number)
                self.source.insert(transaction, account, moment, said="x" * 50)
        self.source.commit(transaction)

    def prepare(self, jobs: Sequence[Job] | None = None, **more: Any) -> dict[str, Prepared]:  # noqa: ANN401
        """What each is told, by name; ``told`` has it as it came."""
        self.told = []
        self.pipeline.prepare(
            self.jobs if jobs is None else jobs,
            self.now,
            lambda answers: self.told.append([(job.name, answer) for job, answer in answers]),
            **more,
        )
        answers = [one for some in self.told for one in some]
        assert len(dict(answers)) == len(answers)
        return dict(answers)

    def deliver(self, group: Sequence[Ready]) -> dict[str, Answer]:
        attempts = self.pipeline.attempt(group)
        sent = []
        for ready, attempt in zip(group, attempts, strict=True):
            assert not isinstance(attempt, Exception)
            answer = result_of(partial(self.pipeline.send, ready, lambda _: None))
            sent.append((ready, attempt, answer))
        return dict(zip([one.job.name for one in group], self.pipeline.settle(sent), strict=True))

    def run(self, workers: int = 1) -> Report:
        runner = Runner(
            self.pipeline, self.ledger, Silent(), self.clock, Settings(workers=workers), threading.Event()
        )
        return runner.run(self.jobs, self.now)


class Watched(Workspace):
    """A workspace that knows what packages still hold of it."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self._given: list[Folder] = []

    def folder(self) -> Folder:
        self._given.append(super().folder())
        return self._given[-1]

    def limit(self, size_bytes: int) -> None:
        """Let packages keep so much in memory from now on; none may hold any."""
        self._memory = Memory(size_bytes)

    def held(self) -> list[Folder]:
        """The folders with something in memory, or in files; empty ones may be used again."""
        return [one for one in self._given if one._kept_bytes or any(one.path.glob("*"))]


@pytest.fixture(params=[0, workspace.MEMORY_BYTES], ids=["in files", "in memory"])
def stand(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stand]:
    """What becomes of archives is the same wherever they wait."""
    monkeypatch.setattr(workspace, "MEMORY_BYTES", request.param)
    with Watched(tmp_path) as watched, stamina.set_testing(True, attempts=reading.READINGS, cap=True):
        yield Stand(watched)


def kinds(answers: dict[str, Any]) -> dict[str, type]:
    return {name: type(answer) for name, answer in sorted(answers.items())}


def transactions_of(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many exports each transaction of several has from now on."""
    counted: list[int] = []
    together = stand.storage.together

    def count(names: Sequence[str]) -> Any:  # noqa: ANN401 - as it is
        counted.append(len(names))
        return together(names)

    monkeypatch.setattr(stand.storage, "together", count)
    return counted


# --- what a group shares -----------------------------------------------------------------------------


def test_a_group_is_read_once_and_planned_in_one_transaction(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many exports there are: one transaction to look, one to begin, one to plan."""
    stand.insert(*stand.accounts)
    transactions = transactions_of(stand, monkeypatch)
    answers = stand.prepare()
    assert set(kinds(answers).values()) == {Ready}
    assert stand.source.read_together == [list(stand.accounts)]
    assert transactions == [5, 5, 5]
    delivered = stand.deliver([one for one in answers.values() if isinstance(one, Ready)])
    assert set(kinds(delivered).values()) == {Delivered}
    assert transactions == [5] * 5
    assert len(stand.store.objects) == 5


def test_archives_that_memory_has_no_room_for_wait_in_files(stand: Stand) -> None:
    """However many exports wait for a store that hangs, a process holds no more than it may."""
    stand.insert(*stand.accounts)
    planned = [one for one in stand.prepare().values() if isinstance(one, Ready)]
    sizes = [one.package.content.archive_bytes for one in planned]
    for one in planned:
        one.discard()
    stand.workspace.limit(sum(sizes[:2]))
    again = [one for one in stand.prepare().values() if isinstance(one, Ready)]
    bodies = [one.package.body for one in again]
    assert [isinstance(body, bytes) for body in bodies] == [True, True, False, False, False]
    archives = {one.plan.name: bytes_of(one.package.body) for one in again}
    assert set(kinds(stand.deliver(again)).values()) == {Delivered}
    assert {name: stored.data for name, stored in stand.store.objects.items()} == archives
    for one in again:
        one.discard()
    assert stand.workspace.held() == []


def test_empty_windows_of_a_group_are_passed_together(stand: Stand) -> None:
    stand.now = BEGIN + 5 * HOUR
    answers = stand.prepare()
    assert set(kinds(answers).values()) == {Moved}
    assert [len(some) for some in stand.told] == [5]
    standings = stand.ledger.standings()
    assert {one.live.watermark for one in standings.values()} == {BEGIN + 5 * HOUR}
    assert stand.workspace.held() == []


def test_only_what_has_the_same_columns_is_read_together(stand: Stand) -> None:
    mapping: Any = {
        "line": "json",
        "nulls": "keep",
        "fields": ["object", [["id", ["column", "id", "string"]]]],
    }
    stand.jobs[1] = replace(stand.jobs[1], rendering=Rendering("own", mapping))
    stand.insert(*stand.accounts)
    assert set(kinds(stand.prepare()).values()) == {Ready}
    assert sorted(stand.source.read_together) == [["a", "c", "d", "e"], ["b"]]


# --- one member's trouble ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (Unreadable("bad value", hint="x"), Unreadable),
        (SourceChanged("seal is gone", hint="x"), SourceChanged),
        (ValueError("a customer's value"), ValueError),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
def test_what_the_source_says_of_one_member_stops_that_one_alone(
    stand: Stand, error: Exception, told: type[Exception]
) -> None:
    stand.insert(*stand.accounts)
    stand.source.trouble["c"] = [error] * 2
    answers = stand.prepare()
    assert kinds(answers) == {"a": Ready, "b": Ready, "c": told, "d": Ready, "e": Ready}
    assert len(stand.workspace.held()) == 4


def test_a_source_that_is_lost_is_read_on_from_where_it_was(stand: Stand) -> None:
    """What was read whole stands, and is told at once; the rest of the group comes from another reading."""
    stand.insert(*stand.accounts)
    stand.source.trouble["c"] = [SourceBusy("lost", hint="x")]
    assert set(kinds(stand.prepare()).values()) == {Ready}
    assert stand.source.read_together == [["a", "b", "c", "d", "e"], ["b", "c", "d", "e"]]
    assert [name for name, _ in stand.told[0]] == ["a"]


def test_a_source_that_stays_lost_keeps_what_was_rendered_and_says_so_once(stand: Stand) -> None:
    stand.insert(*stand.accounts)
    stand.source.trouble["c"] = [SourceBusy("lost", hint="x")] * 100
    answers = stand.prepare()
    assert kinds(answers) == {"a": Ready, "b": SourceBusy, "c": Unreached, "d": Unreached, "e": Unreached}


@pytest.mark.parametrize("how", ["wrong account", "workspace", "stopped", "paused", "name taken", "conflict"])
def test_a_member_in_trouble_takes_nobody_with_it(
    stand: Stand, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand.prepare()  # all begin
    stand.now += HOUR
    stand.insert(*stand.accounts, minutes=61)
    expected = _trouble(stand, how, monkeypatch)
    answers = stand.prepare()
    assert kinds(answers) == {"a": Ready, "b": Ready, "c": expected, "d": Ready, "e": Ready}
    group = [one for one in answers.values() if isinstance(one, Ready)]
    assert len(stand.workspace.held()) == len(group)
    assert len(stand.store.objects) == (how == "conflict")
    assert set(kinds(stand.deliver(group)).values()) == {Delivered}


def _trouble(stand: Stand, how: str, monkeypatch: pytest.MonkeyPatch) -> type:
    """Make trouble for 'c'; answers what it is told."""
    asked = Requests(stand.ledger, stand.clock)
    if how == "paused":
        asked.pause("c")
        return type(None)
    if how == "stopped":
        with stand.ledger.writing("c") as rows:
            export = rows.export("c")
            assert export is not None
            rows.update_export(replace(export, stopped="a foreign object"))
        return Stopped
    if how == "name taken":
        stand.jobs[2] = replace(stand.jobs[2], claim=stand.jobs[0].claim)
        return NameTaken
    if how == "conflict":  # another process delivers it in the middle of the reading
        stand.source.meanwhile = partial(_deliver_alone, stand)
        return type(None)
    read = MemorySource.read
    if how == "workspace":
        monkeypatch.setattr(reading, "Renderer", partial(_full, rendering.Renderer))
        return WorkspaceError

    def foreign(self: MemorySource, ranges: Sequence[Range], columns: Any) -> Any:  # noqa: ANN401
        for index, block in read(self, ranges, columns):
            yield index, Foreign(block) if ranges[index].account == "c" else block

    monkeypatch.setattr(MemorySource, "read", foreign)
    return WrongAccount


def _deliver_alone(stand: Stand) -> None:
    ready = prepare_one(stand.another(), stand.jobs[2], stand.now)
    assert isinstance(ready, Ready)
    assert isinstance(deliver_one(stand.pipeline, ready), Delivered)
    ready.discard()


def _full(renderer: Any, form: Any, rendering: Any, account: str, *others: Any) -> Any:  # noqa: ANN401
    """A renderer that finds no room, for one of them."""
    if account == "c":
        raise WorkspaceError("no space", hint="make room")
    return renderer(form, rendering, account, *others)


def test_a_ledger_that_fails_says_so_of_all_and_leaves_nothing_half_made(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand.insert(*stand.accounts)
    stand.prepare([])
    together = stand.ledger.together
    calls: list[object] = []

    def failing(names: Sequence[str]) -> Any:  # noqa: ANN401 - as it is
        calls.append(names)
        if len(calls) == 3:  # after the look and the begin: the plans
            raise LedgerError("disk full")
        return together(names)

    monkeypatch.setattr(stand.ledger, "together", failing)
    assert set(kinds(stand.prepare()).values()) == {LedgerError}
    assert stand.workspace.held() == []
    monkeypatch.undo()
    assert set(kinds(stand.prepare()).values()) == {Ready}


def test_what_cannot_be_written_of_one_member_is_that_ones_alone(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when it shows at the end of the transaction that all of them share."""
    stand.insert(*stand.accounts)
    together = stand.storage.together

    @contextmanager
    def unwritable(names: Sequence[str]) -> Iterator[Any]:
        with together(names) as rows:
            yield rows
            if rows.open_plans("c"):
                raise ValueError("a value that no column takes")

    monkeypatch.setattr(stand.storage, "together", unwritable)
    assert kinds(stand.prepare()) == dict.fromkeys("abde", Ready) | {"c": ValueError}
    assert len(stand.workspace.held()) == 4


def test_every_answer_of_a_store_is_its_own_exports(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one group one is delivered, one refused, one unknown and later found, one meets a foreign object."""
    stand.insert(*stand.accounts)
    faults = {"b": Fault.LOST_ANSWER, "c": Fault.LOST_REQUEST}
    stand.store = stand.jobs[0].destination._driver  # type: ignore[attr-defined]
    group = [one for one in stand.prepare().values() if isinstance(one, Ready)]
    by_name = {one.job.name: one for one in group}
    put = stand.store.put

    def answered(package: Package, progress: Any) -> Receipt:  # noqa: ANN401
        account = package.name.split("/")[1]
        stand.store._faults = lambda _: faults.get(account)
        return put(package, progress)

    monkeypatch.setattr(stand.store, "put", answered)
    plant = by_name["d"].package
    put(replace(plant), lambda _: None)
    answers = stand.deliver(group)
    assert kinds(answers) == {"a": Delivered, "b": Held, "c": Held, "d": Held, "e": Delivered}
    errors = {name: answer.error for name, answer in answers.items() if isinstance(answer, Held)}
    assert isinstance(errors["d"], Stopped)
    assert all(isinstance(errors[name], DeliveryError) for name in "bc")


# --- large members, little room, slow stores ---------------------------------------------------------


def test_a_large_member_keeps_nobody_waiting(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those before it are planned and told while it is still read; those behind it are the next in line."""
    monkeypatch.setattr(reading, "LONG_RECORDS", 10)
    stand.insert("a", "b", "d", "e")
    stand.insert("c", count=40)
    answers = stand.prepare()
    assert kinds(answers) == {"a": Ready, "b": Ready, "c": Ready, "d": Unreached, "e": Unreached}
    assert [[name for name, _ in some] for some in stand.told] == [["a", "b"], ["d", "e"], ["c"]]


def test_a_part_that_is_full_ends_its_own_range_alone(stand: Stand) -> None:
    stand.jobs[1] = replace(stand.jobs[1], part_limit_bytes=150)
    stand.insert(*stand.accounts)
    answers = stand.prepare()
    assert set(kinds(answers).values()) == {Ready}
    part = answers["b"]
    assert isinstance(part, Ready)
    assert (part.plan.final, part.package.content.count) == (False, 1)


def test_no_archive_is_begun_without_room_for_it_but_the_first(stand: Stand) -> None:
    stand.insert(*stand.accounts)
    assert kinds(stand.prepare(room_bytes=1)) == {"a": Ready} | dict.fromkeys("bcde", Unreached)


def test_a_run_delivers_all_whatever_is_large(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody that was put back is forgotten."""
    monkeypatch.setattr(reading, "LONG_RECORDS", 2)
    stand.insert(*stand.accounts)
    report = stand.run(workers=2)
    assert (report.objects, report.exit_status) == (5, 0)


@pytest.mark.parametrize("hanging", ["a", "c", "e"])
def test_nobody_waits_for_a_hanging_upload_of_the_same_group(
    stand: Stand, hanging: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All others are in the store, and in the ledger, while it hangs."""
    stand.insert(*stand.accounts)
    others = [name for name in stand.accounts if name != hanging]
    put = stand.store.put

    def hang(package: Package, progress: Any) -> Receipt:  # noqa: ANN401
        if f"/{hanging}/" in package.name:
            assert done.wait(20)
        return put(package, progress)

    class Watching(Silent):
        def delivered(self, *told: Any) -> None:  # noqa: ANN401 - the job and what was delivered
            left.discard(told[0].name)
            if not left:
                done.set()

    done, left = threading.Event(), set(others)
    monkeypatch.setattr(stand.store, "put", hang)
    runner = Runner(
        stand.pipeline,
        stand.ledger,
        Watching(),
        stand.clock,
        Settings(workers=1, uploads=16),
        threading.Event(),
    )
    report = runner.run(stand.jobs, stand.now)
    assert (report.objects, report.failing) == (5, {})


def test_what_has_ended_by_then_goes_into_the_ledger_together(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Quick uploads of a group take one transaction for their attempts and one for their answers."""
    monkeypatch.setattr(sending, "LONGEST_UNSETTLED_S", 60.0)
    stand.insert(*stand.accounts)
    settled: list[int] = []
    settle = stand.pipeline.settle

    def counted(group: Sequence[Any]) -> Any:  # noqa: ANN401 - as it is
        settled.append(len(group))
        return settle(group)

    monkeypatch.setattr(stand.pipeline, "settle", counted)
    assert stand.run().objects == 5
    assert sum(settled) == 5
    assert len(settled) < 5


# --- two processes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_two_runs_with_the_same_exports_deliver_each_window_once(stand: Stand, seed: int) -> None:
    stand.now = BEGIN + 3 * HOUR
    for hour in range(3):
        stand.insert(*stand.accounts, minutes=60 * hour + 1)
    del seed
    reports: list[Report] = []

    def deliver(jobs: list[Job]) -> None:
        one = Runner(
            stand.another(), stand.ledger, Silent(), stand.clock, Settings(workers=2), threading.Event()
        )
        reports.append(one.run(jobs, stand.now))

    threads = [threading.Thread(target=deliver, args=[jobs]) for jobs in (stand.jobs[:4], stand.jobs[1:])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [report.exit_status for report in reports] == [0, 0]
    assert sum(report.objects for report in reports) == len(stand.store.objects) == 15
    assert {one.export.sequence for one in stand.ledger.standings().values()} == {3}


# --- grouped or alone: the same ----------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(
    windows=st.lists(st.dictionaries(st.sampled_from("abcde"), st.integers(1, 12)), min_size=1, max_size=4),
    cuts=st.lists(st.integers(0, 5), min_size=8, max_size=8),
    limit=st.sampled_from([200, 1 << 30]),
    long_records=st.sampled_from([2, 8, 16_000]),
)
def test_groups_leave_the_same_objects_and_the_same_ledger_as_exports_alone(
    tmp_path_factory: pytest.TempPathFactory,
    windows: list[dict[str, int]],
    cuts: list[int],
    limit: int,
    long_records: int,
) -> None:
    """Names, bytes, sequence numbers, watermarks and seals."""

    def outcome(grouped: bool) -> object:  # noqa: FBT001 - two ways, side by side
        with (
            Watched(tmp_path_factory.mktemp("workspace")) as watched,
            pytest.MonkeyPatch.context() as patch,
        ):
            patch.setattr(reading, "LONG_RECORDS", long_records)
            stand = Stand(watched)
            jobs = [replace(one, part_limit_bytes=limit) for one in stand.jobs]
            for hour, counts in enumerate(windows):
                for account, count in counts.items():
                    stand.insert(account, count=count, minutes=60 * hour)
            stand.now = BEGIN + len(windows) * HOUR
            cut = cuts[0] if grouped else 0
            groups = [jobs[:cut], jobs[cut:]] if grouped else [[one] for one in jobs]
            for group in groups:
                _deliver_whole(stand, group)
            standings = stand.ledger.standings()
            lanes = {name: one.live for name, one in standings.items()}
            numbers = {name: (one.export.sequence, one.export.stamp) for name, one in standings.items()}
            stored = {name: one.data for name, one in stand.store.objects.items()}
            return stored, lanes, numbers

    assert outcome(grouped=True) == outcome(grouped=False)


def _deliver_whole(stand: Stand, group: list[Job]) -> None:
    """Until nothing is due for any of them."""
    going = group
    while going:
        answers = stand.prepare(going)
        assert not [one for one in answers.values() if isinstance(one, Exception)]
        ready = [one for one in answers.values() if isinstance(one, Ready)]
        if ready:
            assert set(kinds(stand.deliver(ready)).values()) == {Delivered}
        for one in ready:
            one.discard()
        going = [one for one in going if answers[one.name] is not None]


# --- the errors of a source as a whole ---------------------------------------------------------------


def test_a_source_that_cannot_be_read_is_asked_once_for_a_whole_group(stand: Stand) -> None:
    """Its trouble is everybody's: one is told, and the others wait for a better time."""
    stand.insert(*stand.accounts)
    stand.source.trouble["a"] = [SourceError("no right to select", hint="grant it")]
    answers = stand.prepare()
    assert kinds(answers) == {"a": SourceError} | dict.fromkeys("bcde", Unreached)
    assert len(stand.source.read_together) == 1
