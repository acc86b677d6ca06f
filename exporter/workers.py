"""Worker processes: a run's exports, dealt out to processes that share the ledger and nothing else.

Python computes in one thread at a time, so that more of them would not help. Each process is a fork that
takes some exports, delivers what is due of them as a run with these alone would, and comes for more; what it
has to tell, it tells the process that deals, which is the only one that speaks to people.

It must not know what comes next for any export, nor touch source, ledger or stores: that is ``turns``.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
import warnings
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from functools import partial
from math import ceil
from multiprocessing.connection import Connection, Pipe, wait
from multiprocessing.reduction import ForkingPickler
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

from exporter.errors import Defect, ExporterError, WorkerLost
from exporter.model import Content, Plan, Range, Receipt, Rendering, Stamp, Window
from exporter.outcome import Report, Trouble
from exporter.sending import load
from exporter.steps import Delivered
from exporter.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from exporter.ledger.rules import Standing
    from exporter.means import Means
    from exporter.steps import Job

SHARE: Final = 4
"""Of fewer exports than this for each process, there are fewer processes: a start costs time, too."""

GOES_ON: Final = "nothing is lost, the next run goes on from here"

LOOK_S: Final = 0.2
"""How often to look whether the run has to end."""


def _send_by_value(kind: type[Any]) -> None:
    """Let what is sent of this kind be its fields: as dataclasses do it, it takes three times as long."""
    values_of = attrgetter(*(one.name for one in fields(kind)))
    ForkingPickler.register(kind, lambda one: (kind, values_of(one)))


for _kind in (Delivered, Plan, Range, Window, Rendering, Stamp, Content, Receipt):
    _send_by_value(_kind)


def worthwhile(most: int, due: int) -> int:
    """How many processes so many exports are worth, of ``most``; one is this process itself."""
    return max(1, min(most, due // SHARE)) if sys.platform == "linux" else 1  # elsewhere forks may hang


@dataclass(frozen=True, slots=True)
class _Failure:
    """What an error says to an observer; of a defect, the traceback as text."""

    message: str
    hint: str
    internal: str | None = None

    @classmethod
    def of(cls, error: ExporterError) -> _Failure:
        cause = error.__cause__ if isinstance(error, Defect) else None
        internal = "".join(traceback.format_exception(cause)) if cause is not None else None
        return cls(error.message, error.hint, internal)

    def error(self) -> ExporterError:
        if self.internal is None:
            return ExporterError(self.message, hint=self.hint)
        error = Defect(self.message, hint=self.hint)
        error.__cause__ = _InAWorker(self.internal)
        return error


class _InAWorker(Exception):
    """Something that was raised in a worker process, with its traceback as text."""


@dataclass(frozen=True, slots=True)
class _End:
    """All that a worker has left to say, once it takes no more exports."""

    report: Report
    waiting: list[str]


# --- in the process that deals ----------------------------------------------------------------------------


@dataclass(slots=True)
class _Worker:
    process_id: int
    connection: Connection
    report: Report = field(default_factory=Report)
    taken: list[str] = field(default_factory=list)
    end: _End | None = None


class Workers:
    """One run's worker processes, and the exports that none of them has taken yet."""

    def __init__(
        self,
        means: Means,
        due: Sequence[Job],
        now: datetime,
        lane_id: str,
        report: Report,
        standings: Mapping[str, Standing],
    ) -> None:
        self._means = means
        self._due = deque(due)
        self._jobs = {job.name: job for job in due}
        self._report = report
        self._work = partial(_work, means, self._jobs, now, lane_id, standings)
        self._workers: list[_Worker] = []
        self._waiting: list[str] = []
        self._lost: WorkerLost | None = None
        self._told = False

    def run(self, count: int) -> list[Job]:
        """Until so many processes are through; answers the exports whose turn did not come any more.

        A process that dies is the run's error, and takes with it nobody but the exports that it had taken.
        """
        self._means.pipeline.prepare_forks(self._due[0].rendering)
        load(self._due)
        alive, life = os.pipe()
        try:
            for _ in range(count):
                self._start((alive, life))
            os.close(alive)
            self._listen()
        except BaseException:
            self._signal(signal.SIGTERM)  # the run is over, and nobody would hear what comes of it
            raise
        finally:
            os.close(life)
        if self._lost is not None and self._report.error is None:
            self._report.error = Trouble.of(self._lost)
        return [self._jobs[name] for name in self._waiting] + list(self._due)

    def _start(self, life: tuple[int, int]) -> None:
        """One more; where the system allows no more, those that there are do it all."""
        ours, theirs = Pipe()
        inherited = [life[1], ours.fileno(), *(worker.connection.fileno() for worker in self._workers)]
        with warnings.catch_warnings():
            # What other threads hold is what shows progress, which no worker does.
            warnings.simplefilter("ignore", DeprecationWarning)
            try:
                process_id = os.fork()
            except OSError as error:
                if self._workers:
                    return
                message = f"no worker process can be started: {error.strerror}"
                raise WorkerLost(message, hint="allow more processes, or do without: --workers 1") from error
        if not process_id:
            _live(inherited, life[0], theirs, self._work, self._means.stop)
        theirs.close()
        self._workers.append(_Worker(process_id, ours))

    def _listen(self) -> None:
        there = {worker.connection: worker for worker in self._workers}
        while there:
            for connection in wait(list(there), timeout=LOOK_S):
                worker = there[connection]  # type: ignore[index]
                try:
                    kind, value = worker.connection.recv()
                except (EOFError, OSError):  # an OSError where it died within a message, or with one unread
                    del there[worker.connection]
                    self._is_gone(worker)
                else:
                    self._hear(worker, kind, value)
            if self._means.stop.is_set() and not self._told:
                self._told = True
                self._signal(signal.SIGTERM)

    def _hear(self, worker: _Worker, kind: str, value: Any) -> None:  # noqa: ANN401 - what each kind says
        if kind == "more":
            self._deal(worker, value)
        elif kind == "end":
            worker.end = value
        elif kind == "told":
            for one in value:
                self._take_in(worker, *one)
        elif kind == "broken" and sys.stderr is not None:
            sys.stderr.write(value)  # as Python does with what ends a process

    def _take_in(self, worker: _Worker, kind: str, value: Any) -> None:  # noqa: ANN401 - what each kind says
        observer = self._means.observer
        if kind == "sent":
            observer.sent(self._jobs[value[0]], value[1])
        elif kind == "delivered":
            name, delivered = value
            worker.report.add(name, delivered, list_object=self._means.settings.list_objects)
            observer.delivered(self._jobs[name], delivered)
        elif kind == "failed":
            name, failure = value
            observer.failed(self._jobs[name], failure.error())
        elif kind == "finished":
            observer.finished(self._jobs[value])
        elif kind == "slowed":
            observer.slowed(*value)

    def _deal(self, worker: _Worker, most: int) -> None:
        """The next exports in line: fewer towards the end, so that all are through at the same time."""
        over = self._means.stop.is_set() or self._report.error is not None
        fair = ceil(len(self._due) / (2 * len(self._workers)))
        names = [self._due.popleft().name for _ in range(0 if over else min(most, fair))]
        worker.taken += names
        with suppress(OSError):  # whoever died meanwhile is seen to be gone
            worker.connection.send((names, 0 if over else len(self._due)))

    def _is_gone(self, worker: _Worker) -> None:
        worker.connection.close()
        _, status = os.waitpid(worker.process_id, 0)
        report = self._report
        report.delivered.update(worker.report.delivered)
        report.lines += worker.report.lines
        if worker.end is None:
            self._waiting += worker.taken
            self._lost = _lost(os.waitstatus_to_exitcode(status))  # the others go on
            return
        report.failing.update(worker.end.report.failing)
        report.elsewhere |= worker.end.report.elsewhere
        report.error = report.error or worker.end.report.error
        self._waiting += worker.end.waiting

    def _signal(self, number: int) -> None:
        for worker in self._workers:
            if not worker.connection.closed:
                os.kill(worker.process_id, number)


def _lost(status: int) -> WorkerLost:
    if status < 0:
        name = signal.Signals(-status).name
        hint = GOES_ON
        if -status == signal.SIGKILL:
            hint = f"if it was out of memory, allow more of it or set a smaller --workers; {hint}"
        return WorkerLost(f"a worker process was ended by {name}", hint=hint)
    return WorkerLost(
        f"a worker process ended with status {status}",
        hint=f"please report it with the traceback in the log; {GOES_ON}",
    )


# --- in a worker ------------------------------------------------------------------------------------------


def _live(
    inherited: Sequence[int], alive: int, connection: Connection, work: partial[None], stop: threading.Event
) -> None:
    """All that the forked process ever does."""
    status = 1
    try:
        for descriptor in inherited:
            os.close(descriptor)
        threading.Thread(target=_watch, args=(alive, stop), name="alive", daemon=True).start()
        work(connection)
        status = 0
    except BaseException:  # noqa: BLE001 - nothing of the other process's may run on in this one
        with suppress(OSError):
            connection.send(("broken", traceback.format_exc()))
    finally:
        os._exit(status)


def _watch(alive: int, stop: threading.Event) -> None:
    """Once the process that deals is gone, whatever ended it, no new work is begun."""
    os.read(alive, 1)
    stop.set()


def _work(
    means: Means,
    jobs: Mapping[str, Job],
    now: datetime,
    lane_id: str,
    standings: Mapping[str, Standing],
    connection: Connection,
) -> None:
    told = _Told(connection)
    supply = _Supply(connection, jobs, told)
    # An encoder beside each, for the last one that is large.
    settings = replace(means.settings, encoders=min(means.settings.encoders, 1))
    means = replace(means, observer=told, settings=settings)
    report = _Uncounted()
    turns = Turns(means, [], now, lane_id, report, standings, supply)
    try:
        turns.run()
    finally:
        told.pass_on()
    means.pipeline.rest()
    with suppress(BrokenPipeError):
        connection.send(("end", _End(report, [job.name for job in turns.waiting()])))


class _Uncounted(Report):
    """What is delivered is counted where it is told."""

    def add(self, export: str, delivered: Delivered, *, list_object: bool) -> None:
        pass


class _Supply:
    """Asks for exports. For one thread, which is also the one that tells what happens."""

    def __init__(self, connection: Connection, jobs: Mapping[str, Job], told: _Told) -> None:
        self._left = len(jobs)
        self._connection = connection
        self._jobs = jobs
        self._told = told

    @property
    def left(self) -> int:
        """How many there were left, when it was last asked."""
        return self._left

    def take(self, most: int) -> list[Job]:
        """Some exports that nobody else has; none once there are no more, or the run is over."""
        try:
            self._connection.send(("more", most))
            names, self._left = self._connection.recv()
        except (EOFError, OSError):
            names, self._left = [], 0  # the process that deals is gone
        return [self._jobs[name] for name in names]

    def pause(self) -> None:
        """Pass on what happened: all in one message, for a fifth of what one for each would take."""
        self._told.pass_on()


class _Told:
    """An observer in another process, for the thread of the turns; all waits until it is passed on.

    Sizes, which other threads tell of, wait for the next thing that happens.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._sent_bytes = 0
        self._news: list[tuple[str, object]] = []

    def skipped(self, export: str, error: str, hint: str) -> None:
        """What is left out is told before there are workers."""

    def started(self, due: int) -> None:
        """How much is due is told before there are workers."""

    def sent(self, job: Job, size_bytes: int) -> None:
        del job
        with self._lock:
            self._sent_bytes += size_bytes

    def delivered(self, job: Job, delivered: Delivered) -> None:
        self._note_sent(job)
        self._news.append(("delivered", (job.name, delivered)))

    def failed(self, job: Job, error: ExporterError) -> None:
        self._note_sent(job)
        self._news.append(("failed", (job.name, _Failure.of(error))))

    def finished(self, job: Job) -> None:
        self._news.append(("finished", job.name))

    def slowed(self, why: str, hint: str) -> None:
        self._news.append(("slowed", (why, hint)))

    def pass_on(self) -> None:
        """Let the other process know."""
        if self._news:
            news, self._news = self._news, []
            # Where nobody is there any more, what is under way still comes to its end.
            with suppress(BrokenPipeError):
                self._connection.send(("told", news))

    def _note_sent(self, job: Job) -> None:
        with self._lock:
            size_bytes, self._sent_bytes = self._sent_bytes, 0
        if size_bytes:
            self._news.append(("sent", (job.name, size_bytes)))
