"""Uploads side by side: who waits for whom, and how many threads there are."""

from __future__ import annotations

import time
from contextlib import contextmanager
from itertools import cycle, repeat
from threading import Event, Lock
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast
from unittest.mock import Mock

from exporter import sending
from exporter.errors import Conflict
from exporter.sending import Moment, Sending

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import pytest

    from exporter.steps import Ready

DEADLINE_S = 20.0


def until(is_so: Callable[[], bool]) -> None:
    """Wait for it, but not for ever."""
    deadline = time.monotonic() + DEADLINE_S
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.001)


class Named(str):
    """A planned object, of which these tests know no more than its name."""

    __slots__ = ()

    @property
    def job(self) -> SimpleNamespace:
        """Whose it is: all go to one store."""
        return SimpleNamespace(destination=SimpleNamespace(endpoint="a store"))

    @property
    def plan(self) -> SimpleNamespace:
        """What it is called in its store."""
        return SimpleNamespace(name=str(self))


class Uploads:
    """Uploads that hang, each until it is let go, and the transactions of a ledger."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.settled: list[list[str]] = []
        self.attempting = Event()
        self.may_attempt = Event()
        self.may_attempt.set()
        self._ends: dict[str, Event] = {}
        self._all_end = False
        self._lock = Lock()

    def end_of(self, name: str) -> Event:
        """What lets this upload go."""
        with self._lock:
            end = self._ends.setdefault(name, Event())
            if self._all_end:
                end.set()
            return end

    def end_all(self) -> None:
        """Let all go that are under way or will be."""
        with self._lock:
            self._all_end = True
            for end in self._ends.values():
                end.set()

    def attempt(self, group: Sequence[str]) -> list[Any]:
        """One transaction for all of them."""
        self.attempting.set()
        assert self.may_attempt.wait(DEADLINE_S)
        return [SimpleNamespace(of=name) for name in group]

    def send(self, name: str, *_: object) -> None:
        """Hang."""
        self.begun.append(name)
        assert self.end_of(name).wait(2 * DEADLINE_S)

    def settle(self, group: Sequence[Any]) -> list[None]:
        """One transaction for all of them."""
        self.settled.append([name for name, _, _ in group])
        return [None for _ in group]


@contextmanager
def sending_of(
    uploads: Uploads,
    now: Callable[[], Moment] = Moment.now,
    tell: Callable[[Sequence[Any]], None] = lambda _: None,
) -> Iterator[Sending]:
    failures: list[BaseException] = []
    opened = Sending(
        cast("Any", uploads),
        64,
        tell=tell,
        fail=failures.append,
        progress=lambda *_: None,
        must_end=lambda: False,
        now=now,
    )
    with opened:
        try:
            yield opened
        finally:
            uploads.end_all()
    assert not failures


def named(count: int) -> list[Ready]:
    return cast("list[Ready]", [Named(number) for number in range(count)])


def test_while_uploads_hang_twice_as_many_begin_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many hang, those behind them wait for moments."""
    monkeypatch.setattr(Moment, "is_busy_since", lambda *_: False)
    uploads = Uploads()
    with sending_of(uploads) as opened:
        opened.put(named(20))
        moment = time.monotonic()
        for working in (1, 2, 4, 8, 16):
            until(lambda count=working: len(uploads.begun) == count)  # type: ignore[misc]
            moment += DEADLINE_S
            opened.help(moment)


def test_as_long_as_the_process_computes_more_threads_come_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """They would take the interpreter from each other; but nobody waits for a hanging upload for long."""
    monkeypatch.setattr(Moment, "is_busy_since", lambda *_: True)
    uploads = Uploads()
    with sending_of(uploads) as opened:
        opened.put(named(5))
        until(lambda: len(uploads.begun) == 1)
        opened.help(opened._taken.at + (sending.PATIENCE_S + sending.BUSY_PATIENCE_S) / 2)
        assert len(opened._threads) == 1
        opened.help(opened._taken.at + DEADLINE_S)
        assert len(opened._threads) == 2
        until(lambda: len(uploads.begun) == 2)


def test_threads_that_get_on_stay_as_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes its turn in time has nobody called for it."""
    monkeypatch.setattr(Moment, "is_busy_since", lambda *_: False)
    uploads = Uploads()
    with sending_of(uploads) as opened:
        opened.put(named(20))
        until(lambda: len(uploads.begun) == 1)
        began = opened._taken.at
        uploads.end_of("0").set()
        until(lambda: len(uploads.begun) == 2)
        opened.help(began + sending.PATIENCE_S)
        assert len(opened._threads) == 1


def test_what_the_ledger_is_writing_is_looked_after() -> None:
    """Nothing waits meanwhile, but all that it writes may wait behind one upload from then on."""
    uploads = Uploads()
    uploads.may_attempt.clear()
    with sending_of(uploads) as opened:
        opened.put(named(5))
        assert uploads.attempting.wait(DEADLINE_S)
        assert opened.help_at() is not None
        uploads.may_attempt.set()


def test_nobody_looks_after_what_does_not_wait() -> None:
    uploads = Uploads()
    with sending_of(uploads) as opened:
        assert opened.help_at() is None
        opened.put(named(1))
        until(lambda: uploads.begun == ["0"])
        assert opened.help_at() is None


class Distant(Uploads):
    """Uploads that take their time, of which this process computes nothing."""

    def send(self, name: str, *_: object) -> None:
        """A journey there and back."""
        self.begun.append(name)
        time.sleep(0.05)


def look_after(opened: Sending, is_over: Callable[[], bool]) -> None:
    """Call for help whenever it is asked for, as a run does."""
    deadline = time.monotonic() + DEADLINE_S
    while not is_over():
        assert time.monotonic() < deadline
        at = opened.help_at()
        if at is not None and at <= time.monotonic():
            opened.help(time.monotonic())
        time.sleep(0.001)


def test_uploads_to_somewhere_distant_are_on_their_way_side_by_side() -> None:
    """As many threads as keep the line short; their answers go into the ledger together."""
    uploads, line = Distant(), []
    with sending_of(uploads) as opened:
        for name in named(100):
            opened.put([name])
            ends = time.monotonic() + 0.005
            look_after(opened, lambda ends=ends: time.monotonic() >= ends)  # type: ignore[misc]
            line.append(len(opened._recorded))
        look_after(opened, lambda: sum(map(len, uploads.settled)) == 100)
    assert max(line) < 30
    assert len(uploads.settled) < 30


def test_an_answer_waits_for_no_upload_that_hangs() -> None:
    uploads = Uploads()
    with sending_of(uploads) as opened:
        opened.put(named(2))
        look_after(opened, lambda: len(uploads.begun) == 2)
        uploads.end_of("1").set()
        until(lambda: bool(opened._sent))
        assert opened.help_at() is not None  # or else a run would sleep until another upload ends
        look_after(opened, lambda: uploads.settled == [["1"]])


def test_whoever_sleeps_hears_of_an_answer_that_waits_for_others() -> None:
    """Or else it waits for an upload that hangs: nothing was to be looked after when they fell asleep."""
    uploads, told = Uploads(), Event()
    with sending_of(uploads, tell=lambda _: told.set()) as opened:
        opened.put(named(2))
        look_after(opened, lambda: len(uploads.begun) == 2)
        assert opened.help_at() is None
        uploads.end_of("1").set()
        assert told.wait(DEADLINE_S)
        assert opened.help_at() is not None
        assert uploads.settled == []


def test_who_looks_after_uploads_sleeps_meanwhile() -> None:
    """Also where every thread there may be is busy, and an answer waits."""
    uploads = Uploads()
    with sending_of(uploads) as opened:
        opened._most = 2
        opened.put(named(3))
        look_after(opened, lambda: len(uploads.begun) == 2)
        uploads.end_of("0").set()
        look_after(opened, lambda: len(uploads.begun) == 3)
        time.sleep(sending.LONGEST_UNSETTLED_S)
        opened.help(time.monotonic())
        at = opened.help_at()
        assert at is None or at > time.monotonic()


class Played(Uploads):
    """A store in a time of its own: it answers after ``answer_s``, and an upload takes 1 ms of computing."""

    def __init__(self) -> None:
        super().__init__()
        self.moment = Moment(100.0, 0.0)
        self.answer_s = 0.0
        self.stolen_s: Iterator[float] = repeat(0.0)
        """What other programs take of the processor during one upload after the other."""
        self._put = 0
        self._under_way: dict[str, float] = {}

    def send(self, name: str, *others: object) -> None:
        """Hang until it is this one's turn to end."""
        self._under_way[name] = self.moment.at
        super().send(name, *others)

    def play(self, opened: Sending, count: int) -> list[int]:
        """Let so many uploads end, while others wait; answers how many were under way each time."""
        active: list[int] = []
        while len(active) < count:
            if not opened._planned:
                opened.put(cast("list[Ready]", [Named(self._put + number) for number in range(64)]))
                self._put += 64
            until(lambda: len(self._under_way) == opened._working > 0 and not opened._writing)
            if self._helped(opened):
                continue
            active.append(len(self._under_way))
            self._end_first()
        return active

    def _helped(self, opened: Sending) -> bool:
        """Whether help is called for before anything ends."""
        at = opened.help_at()
        if at is None or at > max(self.moment.at, min(self._under_way.values()) + self.answer_s):
            return False
        self.moment = Moment(max(at, self.moment.at), self.moment.cpu_s)
        threads = opened._working
        opened.help(self.moment.at)
        return opened._working > threads

    def _end_first(self) -> None:
        name = min(self._under_way, key=lambda name: self._under_way[name])
        at = max(self.moment.at, self._under_way.pop(name) + self.answer_s)
        self.moment = Moment(at + 0.001 + next(self.stolen_s), self.moment.cpu_s + 0.001)
        self.end_of(name).set()


def test_as_many_threads_as_a_store_keeps_waiting_and_no_more() -> None:
    """It answers at once, becomes slow, and answers at once again."""
    store = Played()
    with sending_of(store, lambda: store.moment) as opened:
        assert max(store.play(opened, 200)) <= 2
        store.answer_s = 0.05
        assert min(store.play(opened, 400)[-100:]) >= 10
        store.answer_s = 0.0
        assert max(store.play(opened, 400)[-100:]) <= 2


def test_what_other_programs_take_of_the_processors_is_no_stores_doing() -> None:
    """More threads would only make it more that compete."""
    store = Played()
    store.stolen_s = cycle((0.0, 0.0, 0.0, 0.012))
    with sending_of(store, lambda: store.moment) as opened:
        assert max(store.play(opened, 400)) <= 3
        store.answer_s = 0.05
        assert max(store.play(opened, 200)) <= 30


def test_whoever_gets_on_does_not_wait_for_what_hangs() -> None:
    """A thread goes home where others will be back soon, and nobody knows that of one that is late."""
    store = Played()
    with sending_of(store, lambda: store.moment) as opened:
        opened.put(named(10))
        until(lambda: store.begun == ["0"])
        store.moment = Moment(200.0, 0.0)
        opened.help(store.moment.at)
        for number in range(1, 9):
            until(lambda number=number: len(store.begun) == number + 1)  # type: ignore[misc]
            store.end_of(str(number)).set()
        assert len(opened._threads) == 2


def test_the_more_work_the_longer_before_more_are_called() -> None:
    """Many that share a processor take their time, and each of them may be about to be through."""
    store = Played()
    gaps_s: list[float] = []
    with sending_of(store, lambda: store.moment) as opened:
        opened.put(named(64))
        for working in (1, 2, 4, 8, 16):
            until(lambda working=working: len(store.begun) == working)  # type: ignore[misc]
            at = opened.help_at()
            assert at is not None
            gaps_s.append(at - store.moment.at)
            store.moment = Moment(at, 0.0)
            opened.help(at)
    assert gaps_s == sorted(gaps_s)
    assert gaps_s[-1] > 3 * gaps_s[0]


def test_nobody_is_called_for_answers_that_whoever_uploads_will_settle() -> None:
    """Whoever was called would upload, too."""
    store = Played()
    with sending_of(store, lambda: store.moment) as opened:
        opened.put(named(10))
        until(lambda: store.begun == ["0"])
        store.end_of("0").set()
        until(lambda: store.begun == ["0", "1"])
        store.moment = Moment(100.0 + 2 * sending.COMPANY_S, 2 * sending.COMPANY_S)
        opened.help(store.moment.at)
        assert len(opened._threads) == 1


def test_nothing_waits_while_a_vendors_library_is_loaded() -> None:
    """What is recorded counts as waiting, and would have more and more threads called for it."""
    uploads, loaded = Uploads(), Mock()
    uploads.may_attempt.clear()
    planned = Mock(job=Mock(destination=Mock(spec=["load", "endpoint"], load=loaded, endpoint="a store")))
    with sending_of(uploads) as opened:
        opened.put([planned])
        assert uploads.attempting.wait(DEADLINE_S)
        loaded.assert_called_once_with()
        opened.put([])
        uploads.may_attempt.set()
        uploads.end_all()


class Prepared:
    """A destination that notes for whom it got ready, and may hang at it."""

    def __init__(self) -> None:
        self.endpoint = "a store"
        self.names: list[Sequence[str]] = []
        self.may_go_on = Event()
        self.may_go_on.set()

    def prepare(self, names: Sequence[str]) -> None:
        self.names.append(list(names))
        assert self.may_go_on.wait(2 * DEADLINE_S)


def planned_for(destination: object, *names: str) -> list[Ready]:
    job = SimpleNamespace(destination=destination)
    return cast("list[Ready]", [Mock(job=job, plan=SimpleNamespace(name=name)) for name in names])


class Sent(Uploads):
    """Uploads that are over at once, but for attempts that another process was first at."""

    def __init__(self, *taken: str) -> None:
        super().__init__()
        self._taken = taken

    def attempt(self, group: Sequence[Any]) -> list[Any]:
        """One transaction for all of them."""
        return [Conflict("taken") if one.plan.name in self._taken else one for one in group]

    def send(self, name: str, *_: object) -> None:
        """Note it."""
        self.begun.append(cast("Any", name).plan.name)


def test_a_destination_prepares_once_for_all_that_were_recorded_together() -> None:
    """Not for what another process sends, and for each destination apart."""
    one, other, alone = Prepared(), Prepared(), Prepared()
    uploads = Sent("b")
    with sending_of(uploads) as opened:
        opened.put(
            [*planned_for(one, "a", "b", "c"), *planned_for(other, "d", "e"), *planned_for(alone, "f")]
        )
        until(lambda: len(uploads.begun) == 5)
    assert (one.names, other.names, alone.names) == ([["a", "c"]], [["d", "e"]], [])


def test_who_is_prepared_for_is_sent_afterwards() -> None:
    hanging = Prepared()
    hanging.may_go_on.clear()
    uploads = Sent()
    with sending_of(uploads) as opened:
        opened.put(planned_for(hanging, "a", "b"))
        until(lambda: hanging.names == [["a", "b"]])
        assert uploads.begun == []
        hanging.may_go_on.set()
        until(lambda: uploads.begun == ["a", "b"])


def test_a_destination_that_hangs_while_it_prepares_holds_back_nobody_else() -> None:
    """Not even its own others, each of which can do it all alone."""
    hanging, well = Prepared(), Prepared()
    hanging.may_go_on.clear()
    uploads = Sent()
    with sending_of(uploads) as opened:
        opened.put([*planned_for(hanging, "a", "b"), *planned_for(well, "c", "d")])
        look_after(opened, lambda: sorted(uploads.begun) == ["b", "c", "d"])
        hanging.may_go_on.set()
        until(lambda: len(uploads.begun) == 4)
