"""`status`, `check`, `schema` and `ledger bad-records`: everything that only looks."""

from __future__ import annotations

import sys
import traceback
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from itertools import chain
from typing import TYPE_CHECKING

import orjson

from exporter import config as configuration
from exporter import wiring
from exporter.commands import siem
from exporter.errors import ExporterError
from exporter.ledger.requests import Requests
from exporter.model import Finding, Level
from exporter.report import status as report_status
from exporter.report.console import console, shown
from exporter.report.counts import listed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from rich.console import Console

    from exporter.interfaces import Destination
    from exporter.model import BadRecord
    from exporter.pipeline import Job
    from exporter.wiring import App

ACCEPT = "if that is right, and it changed at TIME: audit-exporter ledger accept-source --from TIME"
FIRST_LOGIN = (
    "name a column for it, or let the source work it out: source: {columns: {first_login: first_login},"
    " derived: {first_login: {first_of: USER COLUMN, actions: [LOGIN ACTION]}}}"
)
CHECKS_AT_ONCE = 32
COLOURS = {Level.OK: "green", Level.WARNING: "yellow", Level.ERROR: "red"}
NAMED = 3
"""As many exports are named that share one finding."""


def status(config: Path | None, exports: list[str], *, json: bool) -> int:
    """Print where every export stands."""
    with wiring.open_app(config) as app:
        found = report_status.rows(app.jobs, app.problems, app.ledger.standings(), wiring.clock(), app.unread)
        last_run = app.ledger.last_run()
    if exports:
        known = {row.export for row in found}
        for name in exports:
            if name not in known:
                raise wiring.unknown(app.problems, "export", name, known, app.unread)
        found = [row for row in found if row.export in exports]
    if json:
        _print_json(report_status.as_json(found, last_run))
    else:
        report_status.show(console(), found, last_run)
    return 0


def check(config: Path | None, exports: list[str], *, json: bool) -> int:
    """Look for what would keep deliveries from succeeding; 0, 10 for some exports, 20 for all of them."""
    with wiring.open_app(config) as app:
        jobs = wiring.select(app, [], exports)
        shared = _check_source(app, jobs)
        is_read = not any(finding.subject == "source" for finding in shared)
        problems = (
            Finding(problem.export, Level.ERROR, problem.message, problem.hint) for problem in app.problems
        )
        told = (_check_exports(app, jobs), _check_first_logins(app, jobs), siem.findings(app, jobs))
        obstacles = [*chain.from_iterable(told)] if is_read else []
        wrong = _show_findings(chain(shared, problems, obstacles, _check_destinations(jobs)), json=json)
    if any(finding.level is Level.ERROR for finding in shared):
        return 20
    return 10 if wrong else 0


def _check_source(app: App, jobs: Iterable[Job]) -> list[Finding]:
    try:
        return list(app.source.check(sorted({job.account for job in jobs})))
    except ExporterError as error:
        return [Finding("source", Level.ERROR, error.message, error.hint)]


def _check_exports(app: App, jobs: Iterable[Job]) -> list[Finding]:
    """What the ledger and the source say of each export that keeps it from getting on."""
    try:
        return list(_obstacles(app, jobs))
    except ExporterError as error:
        return [Finding("source", Level.ERROR, error.message, error.hint)]


def _obstacles(app: App, jobs: Iterable[Job]) -> Iterator[Finding]:
    columns, standings = set(app.source.columns()), app.ledger.standings()
    for job in jobs:
        needed = app.columns(job)
        missing = sorted(column for column in needed if column not in columns)
        if missing:
            message = f"the source has no column {', '.join(map(repr, missing))}"
            yield Finding(job.name, Level.ERROR, message, wiring.correction(job.rendering, missing))
        standing = standings.get(job.name)
        if standing is None:
            continue
        if standing.export.stopped:
            failure = standing.export.failure
            yield Finding(job.name, Level.ERROR, standing.export.stopped, failure.hint if failure else "")
        if not app.source.holds(standing.live.open_seal or standing.live.seal):
            yield Finding(job.name, Level.ERROR, "the source is not the one that it was read from", ACCEPT)


def _check_first_logins(app: App, jobs: Iterable[Job]) -> Iterator[Finding]:
    """A format that tells a user's first login from the others, where the source tells nothing of it."""
    if app.config.source.columns.first_login is not None:
        return
    exports = {export.name: export for export in app.config.exports}
    asking: dict[str, list[str]] = {}
    for job in jobs:
        if wiring.reads(exports[job.name], "first_login"):
            asking.setdefault(job.rendering.format, []).append(job.name)
    for form, names in asking.items():
        message = f"format {form} tells first logins apart, and source.columns.first_login is not set"
        yield Finding(listed(names, NAMED), Level.WARNING, message, FIRST_LOGIN)


def _check_destinations(jobs: Iterable[Job]) -> Iterator[Finding]:
    """One probe for all exports that have their destination in common; findings as they come."""
    sharing: dict[Destination, list[str]] = {}
    for job in jobs:
        sharing.setdefault(job.destination, []).append(job.name)
    with ThreadPoolExecutor(CHECKS_AT_ONCE) as pool:
        found = pool.map(_check_destination, sharing)
        for names, findings in zip(sharing.values(), found, strict=True):
            for finding in findings:
                yield replace(finding, subject=f"{listed(names, NAMED)}: {finding.subject}")


def _check_destination(destination: Destination) -> Sequence[Finding]:
    try:
        return destination.check()
    except ExporterError as error:
        return [Finding(destination.store, Level.ERROR, error.message, error.hint, error.fix)]
    except Exception as error:  # noqa: BLE001 - a driver's surprise at one destination must not hide the others
        place = traceback.extract_tb(error.__traceback__)[-1]  # and not its words, which may hold a secret
        message = f"internal error: {type(error).__name__} in {place.name}, line {place.lineno}"
        return [Finding(destination.store, Level.ERROR, message, "please report it, with this line")]


def _show_findings(findings: Iterable[Finding], *, json: bool) -> bool:
    """Print them, to a person each as it comes; whether an error is among them."""
    if json:
        found = list(findings)
        _print_json([asdict(finding) for finding in found])
        return any(finding.level is Level.ERROR for finding in found)
    wrong = False
    out = console()
    for finding in findings:
        _show_finding(out, finding)
        wrong |= finding.level is Level.ERROR
    return wrong


def _show_finding(out: Console, finding: Finding) -> None:
    level = f"[{COLOURS[finding.level]}]{finding.level.value:<7}[/]"
    out.print(f"{level} {shown(finding.subject)}: {shown(finding.message)}")
    if finding.hint:
        out.print(f"        {shown(finding.hint)}")
    for line in finding.fix.splitlines():
        out.print(f"            {shown(line)}")


def schema() -> int:
    """Print the JSON Schema of the configuration."""
    from exporter.config import json_schema

    sys.stdout.write(orjson.dumps(json_schema(), option=orjson.OPT_INDENT_2).decode() + "\n")
    return 0


def bad_records(config: Path | None, export: str, sequence: int | None) -> int:
    """Print what the ledger keeps of one delivery's bad records, or of all refused events that wait."""
    with wiring.open_ledger(configuration.load(config)) as ledger:
        requests = Requests(ledger, wiring.clock)
        if sequence is not None:
            for record in requests.bad_records(export, sequence):
                _print_bad(sequence, record)
        else:
            for kept in chain.from_iterable(requests.waiting(export)):
                _print_bad(kept.sequence, kept.record)
    return 0


def _print_bad(sequence: int, record: BadRecord) -> None:
    body = record.body.decode(errors="backslashreplace")
    _print_json({"sequence": sequence} | asdict(record) | {"body": body})


def _print_json(value: object) -> None:
    sys.stdout.write(orjson.dumps(value).decode() + "\n")
