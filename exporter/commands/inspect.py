"""`status`, `check` and `schema`: everything that only looks."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import TYPE_CHECKING

import orjson
from rich.markup import escape

from exporter import wiring
from exporter.errors import ExporterError
from exporter.model import Finding, Level
from exporter.report import status as report_status
from exporter.report.console import console

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from exporter.pipeline import Job
    from exporter.wiring import App

CHECKS_AT_ONCE = 8


def status(config: Path | None, exports: list[str], *, json: bool) -> int:
    """Print where every export stands."""
    with wiring.open_app(config) as app:
        found = report_status.rows(app.jobs, app.problems, app.ledger.standings(), wiring.clock())
        last_run = app.ledger.last_run()
    if exports:
        known = {row.export for row in found}
        for name in exports:
            if name not in known:
                raise wiring.unknown("export", name, known)
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
        problems = [
            Finding(problem.export, Level.ERROR, problem.message, problem.hint) for problem in app.problems
        ]
        shared = _check_source(app, jobs)
        with ThreadPoolExecutor(CHECKS_AT_ONCE) as pool:
            own = [finding for found in pool.map(_check_destination, jobs) for finding in found]
    _show_findings([*shared, *problems, *own], json=json)
    if any(finding.level is Level.ERROR for finding in shared):
        return 20
    return 10 if any(finding.level is Level.ERROR for finding in [*problems, *own]) else 0


def _check_source(app: App, jobs: Iterable[Job]) -> list[Finding]:
    try:
        return list(app.source.check(sorted({job.account for job in jobs})))
    except ExporterError as error:
        return [Finding("source", Level.ERROR, error.message, error.hint)]


def _check_destination(job: Job) -> Sequence[Finding]:
    try:
        found = job.destination.check()
    except ExporterError as error:
        found = [Finding(job.destination.store, Level.ERROR, error.message, error.hint)]
    return [
        Finding(f"{job.name}: {finding.subject}", finding.level, finding.message, finding.hint)
        for finding in found
    ]


def _show_findings(findings: Iterable[Finding], *, json: bool) -> None:
    if json:
        _print_json([asdict(finding) for finding in findings])
        return
    out = console()
    colours = {Level.OK: "green", Level.WARNING: "yellow", Level.ERROR: "red"}
    for finding in findings:
        level = f"[{colours[finding.level]}]{finding.level.value:<7}[/]"
        out.print(f"{level} {escape(finding.subject)}: {escape(finding.message)}")
        if finding.hint:
            out.print(f"        {escape(finding.hint)}")


def schema() -> int:
    """Print the JSON Schema of the configuration."""
    from exporter.config import json_schema

    sys.stdout.write(orjson.dumps(json_schema(), option=orjson.OPT_INDENT_2).decode() + "\n")
    return 0


def _print_json(value: object) -> None:
    sys.stdout.write(orjson.dumps(value).decode() + "\n")
