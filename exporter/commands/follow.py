"""`run --follow`: the same run again and again, each as soon as a window is due, until a signal ends it.

Every round opens the configuration anew, so that new exports, rotated secrets and mended mistakes count
from then on; a database that is away for a while ends a round and not the process.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from exporter import wiring
from exporter.commands.delivery import Outcome, Work, deliver_until, say, stopping, tried
from exporter.errors import ConfigError
from exporter.runner import next_due
from exporter.telemetry.logs import log

if TYPE_CHECKING:
    import threading

    from exporter.commands.delivery import Options
    from exporter.outcome import Report
    from exporter.pipeline import Pipeline
    from exporter.wiring import App

LONGEST: Final = timedelta(minutes=5)
"""So soon the configuration is looked at again, and rows that hold exports."""

SHORTEST: Final = timedelta(milliseconds=100)
"""A pause even where something is due already: nothing that goes wrong may keep a processor busy."""

TROUBLE: Final = timedelta(minutes=1)
"""So long an export is left alone that fails without being blocked, such as for want of room."""

FIRST_PAUSE: Final = timedelta(seconds=1)
"""After a round in which nothing could run; twice as long after each further one, up to a minute."""

WRONG_CONFIGURATION: Final = 2


def follow(options: Options, as_of: str | None) -> int:
    """Deliver whatever is due whenever it is; 0 once a signal has ended it, 2 if it could not begin."""
    if as_of is not None or options.dry_run:
        what = "--as-of" if as_of is not None else "--dry-run"
        raise ConfigError(f"--follow goes on with time, and {what} does not", hint="leave one of the two out")
    with stopping() as stop:
        rounds = _Rounds(options, stop)
        while not stop.is_set():
            outcome = tried(rounds.run)
            error = outcome.report.error
            if rounds.count == 0 and error is not None and error.exit_status == WRONG_CONFIGURATION:
                return say(options, outcome)
            rounds.tell(outcome)
            stop.wait(rounds.pause_after(outcome).total_seconds())
    return 0


class _Rounds:
    """What one round leaves to the next: when that is, and what has been said already."""

    def __init__(self, options: Options, stop: threading.Event) -> None:
        self.count = 0
        self._options = options
        self._stop = stop
        self._said: frozenset[str] = frozenset()
        self._failures = 0
        self._ahead = timedelta(0)
        self._until_due = timedelta(0)

    def run(self) -> Outcome:
        """Deliver what is due."""
        return deliver_until(self._stop, self._options, self._find, then=self._look_ahead, known=self._said)

    def tell(self, outcome: Outcome) -> None:
        """Say what came of a round, unless it was nothing."""
        report, self.count = outcome.report, self.count + 1
        self._options = replace(self._options, again=True)
        self._said = frozenset(problem.message for problem in outcome.problems)
        something = bool(report.delivered or report.failing)
        looked_at = self._options.json or self._options.watched  # else the log has it already
        if report.error is not None or (something and looked_at):
            say(self._options, replace(outcome, problems=()))

    def pause_after(self, outcome: Outcome) -> timedelta:
        """How long until the next round."""
        if outcome.report.error is None:
            self._failures = 0
            return max(SHORTEST, min(self._until_due, LONGEST))
        self._failures += 1
        return min(FIRST_PAUSE * (1 << min(self._failures - 1, 10)), TROUBLE)

    def _find(self, app: App, pipeline: Pipeline) -> Work:
        now = pipeline.now()
        self._ahead = now - wiring.clock()  # windows go by the source's clock
        return Work(wiring.select(app, self._options.accounts, self._options.exports), now)

    def _look_ahead(self, app: App, report: Report) -> None:
        """When something will be due, by the source's clock, of those that nothing keeps from it."""
        now = wiring.clock() + self._ahead
        chosen = wiring.select(app, self._options.accounts, self._options.exports)
        standings = app.ledger.standings()
        failing = {name for name in report.failing if name in standings} - {
            name for name, standing in standings.items() if standing.export.blocked_until
        }
        due = next_due((job for job in chosen if job.name not in failing), standings, now)
        soonest = [due - now] if due is not None else []
        if failing:
            soonest.append(TROUBLE)
        self._until_due = min(soonest, default=LONGEST)
        if self._until_due > timedelta(0):
            log().info("waiting", until=(now + min(self._until_due, LONGEST)).isoformat())
