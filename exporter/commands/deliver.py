"""`run`, `backfill` and `replay`: everything that delivers."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from uuid import uuid4

import orjson
from rich.console import Console

from exporter import wiring
from exporter.commands.arguments import duration_of, time_of
from exporter.errors import ConfigError, ExporterError, SourceError
from exporter.ledger.storage import RunRecord
from exporter.model import LIVE_LANE, Window
from exporter.outcome import Report, Trouble
from exporter.report import run as report_run
from exporter.report.console import complain, console
from exporter.runner import Runner
from exporter.telemetry.logs import LogObserver, configure
from exporter.turns import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime, timedelta
    from pathlib import Path

    from exporter.config import ConfigProblem
    from exporter.pipeline import Job, Pipeline
    from exporter.turns import Observer
    from exporter.wiring import App

MOST_SEQUENCES = 10_000
"""As many objects may be asked for at once."""

MOST_WORKERS = 2
"""Renderers unless somebody asks for more: two keep a process busy, and each may hold 150 MB of records."""


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

    @property
    def watched(self) -> bool:
        """Whether a person looks on: then there are bars, else log lines."""
        return sys.stderr is not None and sys.stderr.isatty() and not self.json


@dataclass(frozen=True, slots=True)
class _Work:
    """What a command asks for: which exports, what is due, in which lane; ``idle`` if that is nothing."""

    jobs: tuple[Job, ...]
    now: datetime
    lane_id: str = LIVE_LANE
    idle: str = ""


@dataclass(frozen=True, slots=True)
class _Outcome:
    """A report, and the exports that their configuration kept out of it."""

    report: Report
    problems: tuple[ConfigProblem, ...] = ()
    idle: str = ""
    requested: bool = False


def run(options: Options, as_of: str | None) -> int:
    """Deliver everything that is due."""

    def deliver() -> _Outcome:
        moment = None if as_of is None else time_of("--as-of", as_of)

        def find(app: App, pipeline: Pipeline) -> _Work:
            now = _as_of(pipeline, moment)
            return _Work(wiring.select(app, options.accounts, options.exports), now)

        return _deliver(options, find)

    return _answered(options, deliver)


def backfill(options: Options, start: str, end: str, *, redeliver: bool, again: bool) -> int:
    """Deliver a past range of one export, or go on with it; once it is delivered, only ``again``."""

    def deliver() -> _Outcome:
        if again and not redeliver:
            raise ConfigError("--again is a second --redeliver", hint="add --redeliver, or leave --again out")
        window = Window(time_of("--from", start), time_of("--to", end))
        if window.start >= window.end:
            raise ConfigError(f"--from {start} is not before --to {end}", hint="exchange them")

        def find(app: App, pipeline: Pipeline) -> _Work:
            now = pipeline.now()
            job = _one(wiring.select(app, options.accounts, options.exports))
            if window.end > now:
                raise ConfigError(
                    f"--to {end} lies in the future", hint=f"at the most: --to {now:%Y-%m-%dT%H:%M:%SZ}"
                )
            _refuse_paused(pipeline.begin(job).export.paused, job)
            lane = app.requests.backfill(
                job.name, window, app.source.seal(), redeliver=redeliver, again=again
            )
            idle = f"Already delivered. Once more: add {'--again' if redeliver else '--redeliver'}"
            return _Work((job,), now, lane.id, idle if lane.done else "")

        return _deliver(options, find)

    return _answered(options, deliver)


def replay(options: Options, sequences: str) -> int:
    """Deliver the content of earlier objects of one export again."""

    def deliver() -> _Outcome:
        numbers = parse_sequences(sequences)

        def find(app: App, pipeline: Pipeline) -> _Work:
            now = pipeline.now()
            job = _one(wiring.select(app, [], options.exports))
            _refuse_paused(pipeline.begin(job).export.paused, job)
            return _Work((job,), now, app.requests.replay(job.name, numbers).id)

        return _deliver(options, find)

    return _answered(options, deliver)


def parse_sequences(text: str) -> tuple[int, ...]:
    """Sequence numbers such as `17`, `17..42` or `3,5,17..20`; raises ConfigError."""
    numbers: list[int] = []
    for part in text.split(","):
        bounds = re.fullmatch(r"([0-9]{1,12})(?:\.\.([0-9]{1,12}))?", part.strip())
        span = range(int(bounds[1]), int(bounds[2] or bounds[1]) + 1) if bounds else ()
        if not span:
            raise ConfigError(
                f"'{part}' is not a sequence number", hint="write --seq 17, --seq 17..42 or --seq 3,17..42"
            )
        if len(numbers) + len(span) > MOST_SEQUENCES:
            raise ConfigError(
                f"--seq names more than {MOST_SEQUENCES:,} objects",
                hint="ask for them in several steps",
            )
        numbers += span
    return tuple(dict.fromkeys(numbers))


def one_of(account: str | None, export: str | None) -> tuple[list[str], list[str]]:
    """Which accounts and exports these two options choose; raises ConfigError if neither is given."""
    if account is None and export is None:
        raise ConfigError("it is not said whose records", hint="add --account A or --export NAME")
    return [account] if account is not None else [], [export] if export is not None else []


def _as_of(pipeline: Pipeline, moment: datetime | None) -> datetime:
    now = pipeline.now()
    if moment is not None and moment > now:
        raise ConfigError(
            f"--as-of {moment:%Y-%m-%dT%H:%M:%SZ} is later than the source's clock, {now:%Y-%m-%dT%H:%M:%SZ}",
            hint="a window can only be sealed once it is over: leave --as-of out, or name an earlier moment",
        )
    return moment or now


def _budget(text: str | None) -> timedelta | None:
    if text is None:
        return None
    budget = duration_of("--budget", text)
    if not budget:
        raise ConfigError(
            f"--budget {text} leaves no time to start anything", hint="leave --budget out for no limit"
        )
    return budget


def _one(jobs: tuple[Job, ...]) -> Job:
    if len(jobs) != 1:
        names = ", ".join(job.name for job in jobs[:5])
        raise ConfigError(
            f"this needs exactly one export, and the choice leaves {len(jobs)}: {names}",
            hint="name it with --export NAME",
        )
    return jobs[0]


def _refuse_paused(paused: bool, job: Job) -> None:  # noqa: FBT001
    if paused:
        raise ConfigError(
            f"export '{job.name}' is paused and gets no new plan", hint=f"audit-exporter resume {job.name}"
        )


# --- From work to an answer ----------------------------------------------------------------------------


def _answered(options: Options, deliver: Callable[[], _Outcome]) -> int:
    """Deliver, and say what came of it; an error is an answer, too."""
    try:
        outcome = deliver()
    except ExporterError as error:
        outcome = _Outcome(Report(error=Trouble.of(error)))
    report, problems = outcome.report, outcome.problems
    if report.error is not None and not options.watched:
        configure().error("stopped", error=report.error.message, hint=report.error.hint)
    if options.json:
        answer = report_run.as_json(report, problems, dry_run=options.dry_run)
        sys.stdout.write(orjson.dumps(answer).decode() + "\n")
    else:
        report_run.show(
            console(),
            report,
            problems,
            dry_run=options.dry_run,
            idle=outcome.idle,
            requested=outcome.requested,
        )
        if report.error is not None and options.watched:
            complain(report.error)
    return report_run.exit_status(report, problems)


def _deliver(options: Options, find: Callable[[App, Pipeline], _Work]) -> _Outcome:
    budget = _budget(options.budget)
    named = {*options.accounts, *options.exports}
    with (
        wiring.open_app(options.config, dry_run=options.dry_run) as app,
        _observer(options) as observer,
        _stopping() as stop,
        ExitStack() as stack,
    ):
        problems = tuple(one for one in app.problems if not named or named & {one.export, one.account})
        for problem in problems:
            observer.skipped(problem.export, problem.message, problem.hint)
        try:
            pipeline = stack.enter_context(app.pipeline())
            work = find(app, pipeline)
        except (SourceError, wiring.NoWorkspace) as error:
            stopped = Report(error=Trouble.of(error))
            return _Outcome(_recorded(app, lambda: stopped), problems)
        workers = options.workers or min(len(os.sched_getaffinity(0)), MOST_WORKERS)
        insist = bool(options.exports) or work.lane_id != LIVE_LANE
        listed = options.json or options.dry_run
        settings = Settings(workers, budget=budget, insist=insist, list_objects=listed)
        runner = Runner(pipeline, app.ledger, observer, wiring.clock, settings, stop)
        report = _recorded(app, lambda: runner.run(work.jobs, work.now, work.lane_id))
        return _Outcome(report, problems, work.idle, requested=work.lane_id != LIVE_LANE)


def _recorded(app: App, run: Callable[[], Report]) -> Report:
    """Run, with a row in the ledger that says so, above all when it comes to nothing."""
    record = RunRecord(uuid4().hex, wiring.clock())
    app.ledger.record_run(record)
    try:
        report = run()
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
    app.ledger.record_run(ended)
    return report


@contextmanager
def _observer(options: Options) -> Iterator[Observer]:
    if options.watched:
        from exporter.telemetry.progress import ProgressObserver

        with ProgressObserver(Console(stderr=True)) as observer:
            yield observer
    else:
        yield LogObserver(configure(), dry_run=options.dry_run)


@contextmanager
def _stopping() -> Iterator[threading.Event]:
    """SIGTERM and SIGINT end the starting of new work; the same signal again ends the process."""
    stop = threading.Event()

    def ask(number: int, _frame: object) -> None:
        stop.set()
        signal.signal(number, signal.SIG_DFL)

    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
