"""The outcome of `run`, `backfill` and `replay`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from rich.markup import escape
from rich.table import Table

from exporter.errors import WorkspaceError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sized

    from rich.console import Console

    from exporter.config import ConfigProblem
    from exporter.pipeline import Delivered
    from exporter.runner import Report

NOT_ALL: Final = 10
NOTHING_RAN: Final = 20


@dataclass(frozen=True, slots=True)
class Total:
    """What one export had delivered by one run."""

    export: str
    objects: int = 0
    records: int = 0
    late: int = 0
    bad: int = 0
    size_bytes: int = 0
    last_object: str = ""


def totals(report: Report) -> list[Total]:
    """Deliveries summed up by export, in order of name."""
    found: dict[str, Total] = {}
    for name, delivered in report.delivered:
        before, content = found.get(name, Total(name)), delivered.content
        found[name] = Total(
            name,
            before.objects + 1,
            before.records + content.count,
            before.late + content.late,
            before.bad + content.bad,
            before.size_bytes + content.archive_bytes,
            delivered.plan.name,
        )
    return [found[name] for name in sorted(found)]


def as_json(report: Report, problems: tuple[ConfigProblem, ...], *, dry_run: bool) -> dict[str, Any]:
    """The whole outcome, every object named."""
    return {
        "dry_run": dry_run,
        "exit_status": exit_status(report, problems),
        "objects": [_object(name, delivered) for name, delivered in report.delivered],
        "failing": {
            name: {"error": error.message, "hint": error.hint} for name, error in report.failing.items()
        },
        "skipped": [
            {"export": problem.export, "error": problem.message, "hint": problem.hint} for problem in problems
        ],
        "unfinished": sorted(report.unfinished),
        "error": report.error and {"error": report.error.message, "hint": report.error.hint},
    }


def _object(name: str, delivered: Delivered) -> Mapping[str, Any]:
    plan, content = delivered.plan, delivered.content
    return {
        "export": name,
        "object": plan.name,
        "lane": plan.lane,
        "sequence": plan.sequence,
        "window_start": plan.range.window.start,
        "window_end": plan.range.window.end,
        "records": content.count,
        "late": content.late,
        "bad": content.bad,
        "bytes": content.archive_bytes,
        "content_bytes": content.content_bytes,
        "content_sha256": content.content_sha256,
    }


def exit_status(report: Report, problems: tuple[ConfigProblem, ...]) -> int:
    """The run's own, or 10 where all went well but an export was skipped for its configuration."""
    if isinstance(report.error, WorkspaceError):
        return NOTHING_RAN  # one export's misfortune otherwise, but here there was no workspace at all
    return report.exit_status or (NOT_ALL if problems else 0)


def show(
    console: Console, report: Report, problems: tuple[ConfigProblem, ...] = (), *, dry_run: bool
) -> None:
    """The outcome as a person reads it: what went where, what did not, and why."""
    if report.delivered:
        console.print(_objects(report) if dry_run else _totals(report))
        records = sum(delivered.content.count for _, delivered in report.delivered)
        verb = "would be delivered" if dry_run else "delivered"
        console.print(f"{_count(report.delivered, 'object')} with {_number(records, 'record')} {verb}.")
    elif not (report.error or report.failing or report.unfinished or problems):
        console.print("Nothing was due." if not dry_run else "Nothing would be delivered.")
    for name, error in sorted(report.failing.items()):
        _say(console, f"[red]Not delivered[/]: {escape(name)}: ", error.message, error.hint)
    for problem in problems:
        _say(console, f"[red]Skipped[/]: {escape(problem.export)}: ", problem.message, problem.hint)
    left = report.unfinished - set(report.failing)
    if left and report.error is None:
        have = "has" if len(left) == 1 else "have"
        console.print(
            f"{_count(left, 'export')} still {have} work; the next run goes on where this one stopped."
        )


def _say(console: Console, what: str, message: str, hint: str) -> None:
    console.print(f"{what}{escape(message)}")
    if hint:
        console.print(f"  {escape(hint)}")


def _count(things: Sized, word: str) -> str:
    return _number(len(things), word)


def _number(number: int, word: str) -> str:
    return f"{number:,} {word}" if number == 1 else f"{number:,} {word}s"


def _totals(report: Report) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("Export", overflow="fold")
    for heading in ("Objects", "Records", "Late", "Bad", "Bytes"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("Last object", overflow="fold")
    for total in totals(report):
        numbers = (total.objects, total.records, total.late, total.bad, total.size_bytes)
        last = PurePosixPath(total.last_object).name
        table.add_row(escape(total.export), *(f"{number:,}" for number in numbers), escape(last))
    return table


def _objects(report: Report) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("Object", overflow="fold")
    for heading in ("Records", "Late", "Bad", "Bytes"):
        table.add_column(heading, justify="right", no_wrap=True)
    for _, delivered in report.delivered:
        content = delivered.content
        numbers = (content.count, content.late, content.bad, content.archive_bytes)
        table.add_row(escape(delivered.plan.name), *(f"{number:,}" for number in numbers))
    return table
