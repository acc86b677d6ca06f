"""One delivery of events: batches out, in order, and told to the journal once they are in.

A batch that is not taken whole is taken apart: an event that is bad is set aside, what is too much for one
request goes in halves. If the delivery ends there, the journal hears how much of the batch is in from its
first event on. It must not read files, nor send again what is in, but for events that nobody said or will say
are in: where indexers acknowledge, those in front of a bad one, and those of a request whose bad event or
index nobody can place.
"""

from __future__ import annotations

import math
import time
from collections import deque
from dataclasses import dataclass, field
from itertools import chain
from threading import Lock
from typing import TYPE_CHECKING, Final, TypeAlias

from exporter.destinations.events import event_id_of
from exporter.destinations.splunk_hec.codes import PASSES, STOPS, SUCCESSES, Action, Meaning, meaning_of
from exporter.destinations.splunk_hec.wire import Broken
from exporter.errors import DeliveryError, Interrupted, OutcomeUnknown, Refused
from exporter.model import QUARANTINE_RECORDS, BadKind, BadRecord

if TYPE_CHECKING:
    from collections.abc import Callable

    from exporter.destinations.splunk_hec.acks import Acks
    from exporter.destinations.splunk_hec.lines import Events
    from exporter.destinations.splunk_hec.wire import Answer, Wire
    from exporter.interfaces import Journal
    from exporter.model import Batch

PAUSES_S: Final = (1.0, 2.0, 4.0)  # before each further try of one request
LONGEST_WAIT_S: Final = 30.0  # what asks for more is left to a later run
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 10.0  # between requests, while queues are filling
MOST_UNACKNOWLEDGED_BYTES: Final = 8_000_000
ASKED_FROM: Final = 5  # so many batches on their way, between two of them: a process that dies doubles them
FIRST_POLL_S, LONGEST_POLL_S = 0.5, 10.0
ACKNOWLEDGED_WITHIN_S: Final = 300.0
LAST_CHANCE_S: Final = 15.0  # for acknowledgements that are due, after something else failed
SMALL_BYTES: Final = 50_000  # for a request: no server finds them too many
ASKED_EVERY_S: Final = 0.5  # whether the process has to end

Sleep: TypeAlias = "Callable[[float, Callable[[], bool]], None]"
"""Sleeps so many seconds, or until the second one holds, whichever comes first."""


def sleep_unless(seconds: float, ends: Callable[[], bool]) -> None:
    """Sleep in short pieces."""
    until = time.monotonic() + seconds
    while not ends() and (rest := until - time.monotonic()) > 0:
        time.sleep(min(rest, ASKED_EVERY_S))


@dataclass(frozen=True, slots=True)
class Timing:
    """How time passes; a test has its own."""

    clock: Callable[[], float] = time.monotonic
    sleep: Sleep = sleep_unless


class Pace:
    """How long to wait before each request to one collector: longer while it says that its queues fill."""

    def __init__(self) -> None:
        self.pause_s = 0.0
        self._lock = Lock()

    def follow(self, *, slower: bool) -> None:
        """Twice as long from now on, or half as long."""
        with self._lock:
            if slower:
                self.pause_s = min(max(self.pause_s * 2, FIRST_PAUSE_S), LONGEST_PAUSE_S)
            else:
                self.pause_s = self.pause_s / 2 if self.pause_s > FIRST_PAUSE_S else 0.0


class Sizes:
    """How much one request to one collector may carry, as its broken connections tell.

    A server that sees by its Content-Length that a request is too large may end the connection, and its 413
    is lost. A request of that size is not tried again, but its halves; a small one broke for other reasons.
    """

    def __init__(self) -> None:
        self.broken_bytes = math.inf

    def broke(self, size_bytes: int) -> None:
        """The connection of a request of this size ended without an answer."""
        if size_bytes > SMALL_BYTES:
            self.broken_bytes = min(self.broken_bytes, size_bytes)


@dataclass(slots=True)
class Sent:
    """A batch on its way: what of it was refused, and which acknowledgements are awaited.

    Its lines count from 0. ``taken`` says of parts that are in where they begin and end, ``awaited`` the
    same of those that wait for an acknowledgement, by its number.
    """

    batch: Batch
    at: float
    refused: dict[int, BadRecord] = field(default_factory=dict)
    awaited: dict[int, tuple[int, int]] = field(default_factory=dict)
    taken: dict[int, int] = field(default_factory=dict)
    is_whole: bool = False  # nothing of it is still to be sent

    @property
    def is_in(self) -> bool:
        """Whether the journal may hear of it."""
        return self.is_whole and not self.awaited

    @property
    def done(self) -> int:
        """How many lines from the first on are in or refused, without a gap."""
        end = 0
        while end in self.taken or end in self.refused:
            end = self.taken.get(end, end + 1)
        return end

    def acknowledge(self, ids: set[int]) -> None:
        """These acknowledgements came."""
        for one in ids & self.awaited.keys():
            start, stop = self.awaited.pop(one)
            self.taken[start] = stop


class Delivery:
    """One delivery. ``acks`` is None where nobody acknowledges."""

    def __init__(
        self, wire: Wire, journal: Journal, *, pace: Pace, sizes: Sizes, timing: Timing, acks: Acks | None
    ) -> None:
        self._wire = wire
        self._journal = journal
        self._pace = pace
        self._sizes = sizes
        self._timing = timing
        self._acks = acks
        self._open: deque[Sent] = deque()
        self._refused = 0
        self._too_large_bytes = math.inf  # for one request, as far as it is known

    def send(self, batch: Batch, events: Events) -> None:
        """Send a batch, and tell of all that are in. Raises DeliveryError."""
        try:
            self._send(batch, events)
        except DeliveryError:
            self._rescue()
            raise

    def finish(self, within_s: float = ACKNOWLEDGED_WITHIN_S) -> None:
        """Wait until all that was sent is in, each batch no longer than this. Raises DeliveryError."""
        try:
            self._wait(0, within_s)
        except Interrupted:
            self._rescue()
            raise
        except DeliveryError:
            self._tell_part()
            raise

    def _send(self, batch: Batch, events: Events) -> None:
        self._wait(max(0, MOST_UNACKNOWLEDGED_BYTES - batch.size_bytes), ACKNOWLEDGED_WITHIN_S)
        if len(self._open) >= ASKED_FROM:
            self._poll()
        if self._open:  # what is on its way is enough for a process that has to end
            self._require_time()
        sent = Sent(batch, self._timing.clock())
        self._open.append(sent)
        todo = [(0, len(events))]
        while todo:
            start, stop = todo.pop()
            todo += reversed(self._send_part(events, start, stop, sent))
        sent.at, sent.is_whole = self._timing.clock(), True
        self._settle()

    def _send_part(self, events: Events, start: int, stop: int, sent: Sent) -> list[tuple[int, int]]:
        """Send some lines of a batch; which of them have still to be sent, in order."""
        body = events.part(start, stop)
        if stop - start > 1 and len(body) >= min(self._too_large_bytes, self._sizes.broken_bytes):
            return _halves(start, stop)
        answer, meaning = self._ask(body, events.packed(body) or self._wire.pack(body))
        if meaning.action in SUCCESSES:
            self._pace.follow(slower=meaning.action is Action.SLOW_DOWN)
            self._note(sent, start, stop, answer)
            self._journal(len(body))
            return []
        if meaning.action is Action.STOP_AT and stop - start > 1:
            return _parted(answer, start, stop)
        if meaning.action is Action.HALVE:
            self._too_large_bytes = min(self._too_large_bytes, len(body))
        elif meaning.action is not Action.SET_ASIDE:
            raise self._ended(answer, meaning)
        bad = _which(answer, meaning, start, stop)
        if bad is None:
            return _halves(start, stop)
        before = self._before(answer, events, start, bad, sent)
        self._set_aside(events[bad], bad, answer, sent)
        return [*before, (bad + 1, stop)] if bad + 1 < stop else before

    def _before(
        self, answer: Answer, events: Events, start: int, bad: int, sent: Sent
    ) -> list[tuple[int, int]]:
        """What has to be sent again of the events in front of a bad one, which are in."""
        if bad == start:
            return []
        if self._acks is not None and answer.ack_id is None:
            return [(start, bad)]  # only a queue has them: nobody will say that an indexer does
        self._note(sent, start, bad, answer)
        self._journal(len(events.part(start, bad)))
        return []

    def _note(self, sent: Sent, start: int, stop: int, answer: Answer) -> None:
        """These lines were taken; they are in now, or once they are acknowledged."""
        if self._acks is None:
            sent.taken[start] = stop
        else:
            sent.awaited[self._acks.given(answer)] = (start, stop)

    def _set_aside(self, line: bytes, place: int, answer: Answer, sent: Sent) -> None:
        self._refused += 1
        if self._refused > QUARANTINE_RECORDS:  # the journal would say so, too, but at the end of the batch
            raise Refused(
                f"{self._wire.base} refused more than {QUARANTINE_RECORDS:,} events of one delivery: "
                f"{answer.words}",
                hint="see what they have in common: this looks like the configuration and not like the data;"
                " correct it, then run `audit-exporter resume`",
            )
        sent.refused[place] = _refused(line, answer.words)
        self._journal(len(line))

    def _ask(self, body: bytes, packed: bytes) -> tuple[Answer, Meaning]:
        """One request, tried again a few times where it is certain that nothing is in."""
        channel = self._acks.channel if self._acks else None
        for pause_s in (*PAUSES_S, None):
            self._pause(self._pace.pause_s)
            try:
                answer = self._wire.send(packed, channel)
            except Broken as error:
                self._sizes.broke(len(body))
                raise OutcomeUnknown(error.message, hint=error.hint) from error
            meaning = meaning_of(answer)
            if meaning.action not in {Action.TRY_AGAIN, Action.ASK_ACKS_FIRST}:
                return answer, meaning
            wait_s = answer.wait_s if answer.wait_s is not None else pause_s
            if pause_s is None or wait_s is None or wait_s > LONGEST_WAIT_S:
                break
            if meaning.action is Action.ASK_ACKS_FIRST:
                self._poll()
            self._pause(wait_s)
        raise self._ended(answer, meaning)

    def _pause(self, seconds: float) -> None:
        """Sleep. Raises Interrupted as soon as the process has to end."""
        if seconds > 0:
            self._timing.sleep(seconds, self._journal.ends)
            self._require_time()

    def _require_time(self) -> None:
        if self._journal.ends():
            raise Interrupted(
                f"the run had to end in the middle of a delivery to {self._wire.base}",
                hint="the next run goes on from what is in",
            )

    def _ended(self, answer: Answer, meaning: Meaning) -> DeliveryError:
        if meaning.action in STOPS:
            return Refused(f"{self._wire.base} refused the events: {answer.words}", hint=meaning.hint)
        said = f"{self._wire.base} did not take the events"
        if meaning.action is Action.LEAVE_OPEN:
            said = f"{self._wire.base} did not say whether it took the events"
        waits = f", and asks to wait {answer.wait_s:.0f} s" if answer.wait_s else ""
        return OutcomeUnknown(
            f"{said}: {answer.words}{waits}", hint=meaning.hint, wait_s=answer.wait_s or 0.0
        )

    # --- What is in ---------------------------------------------------------------------------------

    def _settle(self) -> None:
        """Tell of the batches that are in, in order."""
        while self._open and self._open[0].is_in:
            sent = self._open.popleft()
            try:
                self._journal.accepted(sent.batch, [sent.refused[place] for place in sorted(sent.refused)])
            except Refused:  # there is no room for all of these
                self._open.appendleft(sent)
                raise

    def _wait(self, most_bytes: int, within_s: float) -> None:
        """Ask for acknowledgements until no more than so much is without one."""
        pause_s = FIRST_POLL_S
        while sum(sent.batch.size_bytes for sent in self._open) > most_bytes:
            if self._timing.clock() - self._open[0].at > within_s:
                raise OutcomeUnknown(
                    f"{self._wire.base} did not acknowledge {self._open[0].batch.count} events within"
                    f" {within_s:.0f} s",
                    hint=f"{PASSES}; without `acknowledge`, being in a queue is enough",
                )
            self._pause(pause_s)
            pause_s = FIRST_POLL_S if self._poll() else min(pause_s * 2, LONGEST_POLL_S)

    def _poll(self) -> bool:
        """Ask once for all that is awaited; whether anything of it is in."""
        awaited = set(chain.from_iterable(sent.awaited for sent in self._open))
        if self._acks is None or not awaited:
            return False
        indexed = self._acks.indexed(awaited)
        for sent in self._open:
            sent.acknowledge(indexed)
        self._settle()
        return bool(indexed)

    def _rescue(self) -> None:
        """Before an error ends the delivery: what is in by now need not be sent again."""
        pause_s = FIRST_POLL_S
        while self._open:
            try:
                self._settle()
                if not any(sent.awaited for sent in self._open):
                    break
                if self._poll():
                    continue
                if self._has_waited_enough():
                    break
                self._timing.sleep(pause_s, self._journal.ends)
                pause_s = min(pause_s * 2, LONGEST_POLL_S)
            except Interrupted:  # the journal has noted a batch, and those behind it may be in as well
                continue
            except (OutcomeUnknown, Refused):  # the error that is on its way says more
                break
        self._tell_part()

    def _tell_part(self) -> None:
        """Tell how much is in of the first batch that is not in whole."""
        if self._open and (count := self._open[0].done):
            sent = self._open[0]
            self._journal.partly(sent.batch, count, sent.refused)

    def _has_waited_enough(self) -> bool:
        """Whether to leave the others to a later run, which sends them again."""
        return self._journal.ends() or self._timing.clock() - self._open[0].at > LAST_CHANCE_S


def _which(answer: Answer, meaning: Meaning, start: int, stop: int) -> int | None:
    """The line that is bad or too large; None if only halves can tell."""
    if stop - start == 1:
        return start
    if meaning.action is Action.SET_ASIDE and answer.event is not None and answer.event < stop - start:
        return start + answer.event
    return None


def _parted(answer: Answer, start: int, stop: int) -> list[tuple[int, int]]:
    """What is in front of a wrong index goes alone, as nobody said that it is in; then the rest.

    Splunk's number of the event is one too high. It is where to look, and no more than that.
    """
    number = answer.event
    if number is None or number > stop - start:
        return _halves(start, stop)
    place = start + max(1, number - 1)
    return [(start, place), (place, stop)]


def _halves(start: int, stop: int) -> list[tuple[int, int]]:
    middle = (start + stop) // 2
    return [(start, middle), (middle, stop)]


def _refused(line: bytes, reason: str) -> BadRecord:
    body = line.removesuffix(b"\n")
    return BadRecord(event_id_of(body), reason, len(body), body, BadKind.REFUSED)
