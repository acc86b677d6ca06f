"""How every command that delivers goes from what is asked of it to an answer: open, find the work, run, say.

Which work that is, is the command's: `run`, `backfill` and `replay`, and `run --follow` again and again.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import orjson

from exporter import wiring
from exporter.commands.arguments import duration_of
from exporter.errors import ConfigError, ExporterError, SourceError
from exporter.ledger.storage import RunRecord
from exporter.model import LIVE_LANE
from exporter.outcome import Report, Trouble
from exporter.report import run as report_run
from exporter.report.console import complain
from exporter.report.console import say as say_line
from exporter.runner import Runner
from exporter.telemetry.logs import LogObserver, log
from exporter.turns import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from datetime import datetime, timedelta

    from exporter.config import ConfigProblem
    from exporter.pipeline import Job, Pipeline
    from exporter.turns import Observer
    from exporter.wiring import App

MOST_WORKERS = 4
"""Processes unless somebody asks for more: each takes memory, whatever processors a machine has."""

MOST_ENCODERS = 2
"""Processes beside one that renders: with more than two, it would not hand out blocks fast enough."""

CPU_LIMIT = Path("/sys/fs/cgroup/cpu.max")
"""What a container is allowed: microseconds of CPU in so many microseconds, or "max"."""

RENDERERS = 2
"""In each process: the second one begins where the first waits long for the source."""


@dataclass(frozen=True, slots=True)
class Options:
    """What all three commands take."""

    config: Path | None
    accounts: list[str]
    exports: list[str]
    workers: int | None = None
    budget: str | None = None
    dry_run: bool = False
    json: bool = False
    again: bool = False  # nobody has just asked for these exports by name: it is `run --follow`, going on

    @property
    def insist(self) -> bool:
        """Whether to try exports that wait for their next try."""
        return bool(self.exports) and not self.again

    @property
    def watched(self) -> bool:
        """Whether a person looks on: then there are bars, else log lines."""
        return sys.stderr is not None and sys.stderr.isatty() and not self.json


@dataclass(frozen=True, slots=True)
class Work:
    """What a command asks for: which exports, what is due, in which lane; ``idle`` if that is nothing."""

    jobs: tuple[Job, ...]
    now: datetime
    lane_id: str = LIVE_LANE
    idle: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A report, and the exports that their configuration kept out of it."""

    report: Report
    problems: tuple[ConfigProblem, ...] = ()
    idle: str = ""
    requested: bool = False


def answered(options: Options, deliver: Callable[[], Outcome]) -> int:
    """Deliver, and say what came of it; an error is an answer, too."""
    return say(options, tried(deliver))


def tried(deliver: Callable[[], Outcome]) -> Outcome:
    """What came of delivering; an error that kept anything from being delivered is an outcome, too."""
    try:
        return deliver()
    except ExporterError as error:
        return Outcome(Report(error=Trouble.of(error)))


def say(options: Options, outcome: Outcome) -> int:
    """Print an outcome, for people or machines; answers the exit status."""
    report, problems = outcome.report, outcome.problems
    if report.error is not None and not options.watched:
        log().error("stopped", error=report.error.message, hint=report.error.hint)
    if options.json:
        answer = report_run.as_json(report, problems, dry_run=options.dry_run)
        sys.stdout.write(orjson.dumps(answer).decode() + "\n")
    elif said := report_run.nothing(report, problems, dry_run=options.dry_run, idle=outcome.idle):
        say_line(said)
    else:
        report_run.show(report, problems, dry_run=options.dry_run, requested=outcome.requested)
        if report.error is not None and options.watched:
            complain(report.error)
    return report_run.exit_status(report, problems)


def deliver_work(options: Options, find: Callable[[App, Pipeline], Work]) -> Outcome:
    """Deliver what ``find`` finds to do, until it is done, the time is up or a signal ends it."""
    with stopping() as stop:
        return deliver_until(stop, options, find)


def deliver_until(
    stop: threading.Event,
    options: Options,
    find: Callable[[App, Pipeline], Work],
    *,
    then: Callable[[App, Report], None] | None = None,
    known: Collection[str] = (),
) -> Outcome:
    """The same until ``stop`` is set; ``then`` is told the report while everything is still open.

    Of wrong exports whose messages are ``known``, nothing is said again.
    """
    budget = _budget(options.budget)
    named = {*options.accounts, *options.exports}
    with (
        wiring.open_app(options.config, dry_run=options.dry_run) as app,
        _observer(options) as observer,
        ExitStack() as stack,
    ):
        problems = tuple(one for one in app.problems if not named or named & {one.export, one.account})
        for problem in problems:
            if problem.message not in known:
                observer.skipped(problem.export, problem.message, problem.hint)
        try:
            pipeline = stack.enter_context(app.pipeline())
            work = find(app, pipeline)
        except (SourceError, wiring.NoWorkspace) as error:
            stopped = Report(error=Trouble.of(error))
            return Outcome(_recorded(app, lambda _: stopped), problems)
        workers = options.workers or min(processors(), MOST_WORKERS)
        processes = 1 if options.dry_run else workers  # its ledger is in this process's memory
        insist = options.insist or work.lane_id != LIVE_LANE
        listed = options.json or options.dry_run
        settings = Settings(
            min(workers, RENDERERS),
            budget=budget,
            insist=insist,
            processes=processes,
            encoders=min(processes - 1, MOST_ENCODERS),
            list_objects=listed,
        )
        runner = Runner(pipeline, app.ledger, observer, wiring.clock, settings, stop)
        report = _recorded(app, lambda begin: runner.run(work.jobs, work.now, work.lane_id, begin))
        if then is not None:
            then(app, report)
        return Outcome(report, problems, work.idle, requested=work.lane_id != LIVE_LANE)


def _recorded(app: App, run: Callable[[Callable[[], None]], Report]) -> Report:
    """Run, with a row in the ledger that says so, above all when it comes to nothing.

    It is there before anything is done, so that a death shows; where nothing is due, it is written once.
    """
    record = RunRecord(uuid4().hex, wiring.clock())
    has_begun = False

    def begin() -> None:
        nonlocal has_begun
        app.ledger.record_run(record)
        has_begun = True

    try:
        report = run(begin)
    except ExporterError as failure:
        report = Report(error=Trouble.of(failure))
    error = report.error
    ended = replace(
        record,
        finished_at=wiring.clock(),
        delivered=report.objects,
        failing=len(report.failing),
        error=error.message if error else "",
        hint=error.hint if error else "",
    )
    app.ledger.record_run(ended, again=has_begun)
    return report


@contextmanager
def _observer(options: Options) -> Iterator[Observer]:
    if options.watched:
        from rich.console import Console

        from exporter.telemetry.progress import ProgressObserver

        with ProgressObserver(Console(stderr=True)) as observer:
            yield observer
    else:
        yield LogObserver(log(), dry_run=options.dry_run)


@contextmanager
def stopping() -> Iterator[threading.Event]:
    """SIGTERM and SIGINT end the starting of new work; the same signal again ends the process."""
    stop = threading.Event()

    def ask(number: int, _frame: object) -> None:
        stop.set()
        signal.signal(number, signal.SIG_DFL)

    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    if sys.platform != "win32":  # where it is ignored, as it may be inherited, no child's end has a reason
        before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def processors() -> int:
    """How many this process may keep busy; a container may be allowed less than what it sees."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = CPU_LIMIT.read_text(encoding="ascii").split()
        return min(there, max(1, round(int(quota) / int(period))))
    except (OSError, ValueError):  # no such file, or "max"
        return there


def _budget(text: str | None) -> timedelta | None:
    if text is None:
        return None
    budget = duration_of("--budget", text)
    if not budget:
        raise ConfigError(
            f"--budget {text} leaves no time to start anything", hint="leave --budget out for no limit"
        )
    return budget
