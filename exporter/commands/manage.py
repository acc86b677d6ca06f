"""`init`, `pause`, `resume`, `rename` and `ledger …`: everything that changes what the ledger says."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from exporter import config as configuration
from exporter import wiring
from exporter.commands.arguments import time_of
from exporter.ledger.requests import Requests, restored
from exporter.report.console import console, shown

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


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
    how = " Its open plan cannot have landed and will be made anew, named from now on." if again else ""
    console().print(f"{shown(export)} goes on with the next run.{how}")
    return 0


def rename(config: Path | None, export: str, new_name: str) -> int:
    """Give an export another name."""
    configuration.check_name(new_name)
    with _requests(config) as requests:
        requests.rename(export, new_name)
    console().print(f"The ledger now calls it {shown(new_name)}; give it that `name` in the configuration.")
    return 0


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
