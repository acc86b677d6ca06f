"""`run`, `backfill` and `replay`: everything that delivers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from exporter import wiring
from exporter.commands.arguments import time_of
from exporter.commands.delivery import Outcome, Work, answered, deliver_work
from exporter.errors import ConfigError
from exporter.model import Window
from exporter.report.counts import listed

if TYPE_CHECKING:
    from datetime import datetime

    from exporter.commands.delivery import Options
    from exporter.pipeline import Job, Pipeline
    from exporter.wiring import App

MOST_SEQUENCES = 10_000
"""As many objects may be asked for at once."""


def run(options: Options, as_of: str | None, *, follow: bool = False) -> int:
    """Deliver everything that is due; with ``follow``, whenever it is."""
    if follow:
        from exporter.commands.follow import follow as go_on

        return go_on(options, as_of)

    def deliver() -> Outcome:
        moment = None if as_of is None else time_of("--as-of", as_of)

        def find(app: App, pipeline: Pipeline) -> Work:
            now = _as_of(pipeline, moment)
            return Work(wiring.select(app, options.accounts, options.exports), now)

        return deliver_work(options, find)

    return answered(options, deliver)


def backfill(options: Options, start: str, end: str, *, redeliver: bool, again: bool) -> int:
    """Deliver a past range of one export, or go on with it; once it is delivered, only ``again``."""

    def deliver() -> Outcome:
        if again and not redeliver:
            raise ConfigError("--again is a second --redeliver", hint="add --redeliver, or leave --again out")
        window = Window(time_of("--from", start), time_of("--to", end))
        if window.start >= window.end:
            raise ConfigError(f"--from {start} is not before --to {end}", hint="exchange them")

        def find(app: App, pipeline: Pipeline) -> Work:
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
            return Work((job,), now, lane.id, idle if lane.done else "")

        return deliver_work(options, find)

    return answered(options, deliver)


def replay(options: Options, sequences: str) -> int:
    """Deliver the content of earlier objects of one export again."""

    def deliver() -> Outcome:
        numbers = parse_sequences(sequences)

        def find(app: App, pipeline: Pipeline) -> Work:
            now = pipeline.now()
            job = _one(wiring.select(app, [], options.exports))
            _refuse_paused(pipeline.begin(job).export.paused, job)
            return Work((job,), now, app.requests.replay(job.name, numbers).id)

        return deliver_work(options, find)

    return answered(options, deliver)


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


def _one(jobs: tuple[Job, ...]) -> Job:
    if len(jobs) != 1:
        names = listed([job.name for job in jobs], 5)
        raise ConfigError(
            f"this needs exactly one export, and the choice leaves {len(jobs):,}: {names}",
            hint="name it with --export NAME",
        )
    return jobs[0]


def _refuse_paused(paused: bool, job: Job) -> None:  # noqa: FBT001
    if paused:
        raise ConfigError(
            f"export '{job.name}' is paused and gets no new plan", hint=f"audit-exporter resume {job.name}"
        )
