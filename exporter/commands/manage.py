"""`init`, `pause`, `resume`, `rename`, `resend`, `ledger …`: everything that changes what the ledger says."""

from __future__ import annotations

import shlex
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import orjson

from exporter import config as configuration
from exporter import wiring
from exporter.commands.arguments import time_of
from exporter.ledger.requests import Requests, restored
from exporter.report.console import complain, console, shown
from exporter.report.counts import number

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from exporter.model import Plan
    from exporter.resending import Resent


@contextmanager
def _requests(config: Path | None) -> Iterator[Requests]:
    with wiring.open_ledger(configuration.load(config)) as ledger:
        yield Requests(ledger, wiring.clock)


def pause(config: Path | None, export: str) -> int:
    """Give an export no new plans."""
    with _requests(config) as requests:
        requests.pause(export)
    console().print(f"{shown(export)} is paused. Go on with: audit-exporter resume {shown(export)}")
    return 0


def resume(config: Path | None, export: str) -> int:
    """Let an export go on after a pause, a block or an alarm."""
    with _requests(config) as requests:
        again = requests.resume(export)
    console().print(f"{shown(export)} goes on with the next run.{_made_anew(again)}")
    return 0


def _made_anew(plan: Plan | None) -> str:
    if plan is None:
        return ""
    if plan.rendering.is_events:
        what = "What of its open plan is not in yet" if plan.reached else "Its open plan"
        return f" {what} will be made anew, with present settings; one batch may come twice."
    return " Its open plan cannot have landed and will be made anew, named from now on."


def rename(config: Path | None, export: str, new_name: str) -> int:
    """Give an export another name."""
    configuration.check_name(new_name)
    with _requests(config) as requests:
        requests.rename(export, new_name)
    console().print(f"The ledger now calls it {shown(new_name)}; give it that `name` in the configuration.")
    return 0


def resend(config: Path | None, export: str, sequence: int | None, *, json: bool) -> int:
    """Send the refused events of an export again; 10 unless all of them are in."""
    from exporter.resending import resend as resend_waiting
    from exporter.workspace import Workspace

    with wiring.open_app(config) as app, Workspace(app.config.workspace) as workspace:
        (job,) = wiring.select(app, [], [export])
        came = resend_waiting(app.requests, job, workspace, sequence)
    failure = came.failure
    if json:
        error = {"error": failure.message, "hint": failure.hint} if failure else {}
        answer = {"export": export, "sent": came.sent, "refused": came.refused, **error}
        sys.stdout.write(orjson.dumps(answer).decode() + "\n")
    else:
        if said := _resent(export, came):
            console().print(said)
        if failure is not None:
            complain(failure)
    return 10 if failure or came.refused else 0


def _resent(export: str, came: Resent) -> str:
    """Nothing where an error says it all."""
    if not (came.sent or came.refused):
        return "" if came.failure else f"Nothing of {shown(export)} waits to be sent again."
    told = []
    if came.sent:
        are = "is" if came.sent == 1 else "are"
        told.append(f"{number(came.sent, 'refused event')} of {shown(export)} {are} in now.")
    if came.refused:
        again = f"audit-exporter ledger bad-records --export {shown(shlex.quote(export))}"
        of = "" if came.sent else f" of {shown(export)}"
        was, them = ("was", "it") if came.refused == 1 else ("were", "them")
        told.append(f"{number(came.refused, 'event')}{of} {was} refused again; see {them} with: {again}")
    return " ".join(told)


def ledger_create(config: Path | None) -> int:
    """Make the ledger, once."""
    ledger = wiring.ledger_of(configuration.load(config))
    ledger.create()
    console().print(f"An empty ledger is at {shown(ledger.place)}. Deliver with: audit-exporter run")
    return 0


def ledger_migrate(config: Path | None) -> int:
    """Bring the ledger up to date with this program."""
    ledger = wiring.ledger_of(configuration.load(config))
    before, after = ledger.migrate()
    text = f"went from version {before} to {after}" if before != after else f"is at version {after} already"
    console().print(f"The ledger {shown(ledger.place)} {text}.")
    return 0


def ledger_restored(config: Path | None) -> int:
    """Put a ledger that came back from a backup into service."""
    with wiring.open_app(config) as app:
        given_up = restored(app.ledger.storage, wiring.clock)
        known = app.ledger.standings()
        adrift = [job.name for job in app.jobs if job.name not in known and job.start is None]
    out = console()
    out.print(
        f"The restored ledger is in service. {given_up} open plans will be made anew; names start at now.\n"
        "What was delivered after the backup was taken comes a second time; nothing is lost."
    )
    if adrift:
        out.print(
            f"The backup does not know: {shown(', '.join(adrift))}.\n"
            "Where they began is not on record: give each a `start` before the next run, or they begin then."
        )
    return 0


def accept_source(config: Path | None, moment: str) -> int:
    """Go on with a source that was restored, failed over or replaced."""
    before = time_of("--from", moment)
    with wiring.open_app(config) as app:
        seal = app.source.seal()
        accepted = [
            app.requests.accept_source(name, before, seal, app.source.adopt)
            for name in sorted(app.ledger.standings())
        ]
    out = console()
    for one in accepted:
        out.print(f"{shown(one.export)} goes on from {one.watermark:%Y-%m-%dT%H:%M:%SZ}")
        if one.by_time_alone:
            out.print(
                f"  by time alone: records dated before {one.watermark:%Y-%m-%dT%H:%M:%SZ} "
                "that were not delivered yet are left out"
            )
    out.print("What is delivered a second time is marked: audit-repeats in the object's metadata.")
    return 0


def init(folder: Path, records: list[Path]) -> int:
    """Make a configuration, a source database and an empty ledger to start with."""
    from exporter.report import init as report_init
    from exporter.starter.records import import_records
    from exporter.starter.sample import create_sample

    now = wiring.clock()
    created = import_records(folder, records, now) if records else create_sample(folder, now)
    wiring.ledger_of(configuration.load(created.config)).create()
    report_init.show(console(), created)
    return 0
