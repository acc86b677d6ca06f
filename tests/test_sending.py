"""Uploads side by side: who waits for whom, and how many threads there are."""

from __future__ import annotations

import time
from contextlib import contextmanager
from threading import Event, Lock
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from exporter import sending
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


class Uploads:
    """Uploads that hang, each until it is let go, and the transactions of a ledger."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.settled: list[list[str]] = []
        self.attempting = Event()
        self.may_attempt = Event()
        self.may_attempt.set()
        self._ends: dict[str, Event] = {}
        self._lock = Lock()

    def end_of(self, name: str) -> Event:
        """What lets this upload go."""
        with self._lock:
            return self._ends.setdefault(name, Event())

    def attempt(self, group: Sequence[str]) -> list[Any]:
        """One transaction for all of them."""
        self.attempting.set()
        assert self.may_attempt.wait(DEADLINE_S)
        return [SimpleNamespace(of=name) for name in group]

    def send(self, name: str, *_: object) -> None:
        """Hang."""
        self.begun.append(name)
        assert self.end_of(name).wait(DEADLINE_S)

    def settle(self, group: Sequence[Any]) -> list[None]:
        """One transaction for all of them."""
        self.settled.append([name for name, _, _ in group])
        return [None for _ in group]


@contextmanager
def sending_of(uploads: Uploads) -> Iterator[Sending]:
    failures: list[BaseException] = []
    opened = Sending(
        cast("Any", uploads),
        64,
        tell=lambda _: None,
        fail=failures.append,
        progress=lambda *_: None,
        must_end=lambda: False,
    )
    with opened:
        try:
            yield opened
        finally:
            for name in map(str, range(100)):
                uploads.end_of(name).set()
    assert not failures


def named(count: int) -> list[Ready]:
    return cast("list[Ready]", [str(number) for number in range(count)])


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
