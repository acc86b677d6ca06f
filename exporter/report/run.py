"""The outcome of `run`, `backfill` and `replay`."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from exporter.outcome import NOT_ALL
from exporter.report.console import shown
from exporter.report.counts import number, plural, withheld

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console
    from rich.table import Table

    from exporter.config import ConfigProblem
    from exporter.outcome import ObjectLine, Report, Total

SHOWN: Final = 40
"""Lines of a table that a person still reads; `status` and `--json` have them all."""


def as_json(report: Report, problems: tuple[ConfigProblem, ...], *, dry_run: bool) -> dict[str, Any]:
    """The whole outcome, every object named."""
    return {
        "dry_run": dry_run,
        "exit_status": exit_status(report, problems),
        "objects": [asdict(line) for line in report.lines],
        "failing": {
            name: {"error": error.message, "hint": error.hint} for name, error in report.failing.items()
        },
        "skipped": [
            {"export": problem.export, "error": problem.message, "hint": problem.hint} for problem in problems
        ],
        "unfinished": sorted(report.unfinished),
        "error": report.error and {"error": report.error.message, "hint": report.error.hint},
    }


def exit_status(report: Report, problems: tuple[ConfigProblem, ...]) -> int:
    """The run's own, or 10 where all went well but an export was skipped for its configuration."""
    return report.exit_status or (NOT_ALL if problems else 0)


def nothing(report: Report, problems: tuple[ConfigProblem, ...], *, dry_run: bool, idle: str = "") -> str:
    """What there is to say where nothing was to be done; empty if anything was, or went wrong.

    ``idle`` is what to say instead of "Nothing was due.", for somebody who asked for something.
    """
    if report.delivered or report.error or report.failing or report.unfinished or problems:
        return ""
    return idle or ("Nothing would be delivered." if dry_run else "Nothing was due.")


def show(
    console: Console,
    report: Report,
    problems: tuple[ConfigProblem, ...] = (),
    *,
    dry_run: bool,
    requested: bool = False,
) -> None:
    """The outcome as a person reads it: what went where, what did not, and why.

    ``requested``: only the same command goes on with what is left. Of ``nothing`` it says nothing.
    """
    if report.delivered:
        console.print(_objects(report) if dry_run else _totals(console, report))
        verb = "would be delivered" if dry_run else "delivered"
        objects, records = number(report.objects, _word(report)), number(report.records, "record")
        console.print(f"{objects} with {records} {verb}.")
        for name, total in sorted(report.delivered.items())[:SHOWN]:
            _show_withheld(console, name, total)
    for name, error in sorted(report.failing.items()):
        _say(console, f"[red]Not delivered[/]: {shown(name)}: ", error.message, error.hint)
    for problem in problems:
        # An export without a name goes by its place, which its message begins with.
        which = "" if problem.message.startswith(problem.export) else f"{shown(problem.export)}: "
        _say(console, f"[red]Skipped[/]: {which}", problem.message, problem.hint)
    left = report.unfinished - set(report.failing)
    if elsewhere := left & report.elsewhere:
        are = "is" if len(elsewhere) == 1 else "are"
        console.print(f"{number(len(elsewhere), 'export')} {are} being delivered by another process.")
        left -= elsewhere
    if left and report.error is None:
        have = "has" if len(left) == 1 else "have"
        on = (
            "give the same command again to go on"
            if requested
            else "the next run goes on where this one stopped"
        )
        console.print(f"{number(len(left), 'export')} still {have} work; {on}.")


def _say(console: Console, what: str, message: str, hint: str) -> None:
    console.print(f"{what}{shown(message)}")
    if hint:
        console.print(f"  {shown(hint)}")


def _show_withheld(console: Console, export: str, total: Total) -> None:
    """What of an export did not leave, or not as it was."""
    if said := withheld(total.filtered, total.protected):
        console.print(f"{shown(export)}: {shown(said)}.")
    if total.refused:
        events = number(total.refused, "event")
        see = shown(f"audit-exporter ledger bad-records --export {shlex.quote(export)}")
        console.print(f"{shown(export)}: {events} refused; see: {see}")


def _word(report: Report) -> str:
    """What was delivered, in one word: events have no name, and are no objects."""
    return "object" if all(total.last_object for total in report.delivered.values()) else "delivery"


def _totals(console: Console, report: Report) -> Table:
    """A line for each export; names of objects are left out where they would have to be broken."""
    from rich.measure import Measurement

    table = _totals_table(report, names=any(total.last_object for total in report.delivered.values()))
    fits = Measurement.get(console, console.options, table).maximum <= console.width
    return table if fits else _totals_table(report, names=False)


def _empty_table() -> Table:
    from rich.table import Table  # once there is something to show

    return Table(box=None, pad_edge=False, header_style="bold")


def _totals_table(report: Report, *, names: bool) -> Table:
    table = _empty_table()
    table.add_column("Export", overflow="fold")
    for heading in (plural(_word(report)).capitalize(), "Records", "Late", "Bad", "Bytes"):
        table.add_column(heading, justify="right", no_wrap=True)
    if names:
        table.add_column("Last object")
    for export, total in sorted(report.delivered.items())[:SHOWN]:
        numbers = (total.objects, total.records, total.late, total.bad, total.bytes)
        last = [shown(PurePosixPath(total.last_object).name)] if names else []
        table.add_row(shown(export), *(f"{number:,}" for number in numbers), *last)
    if len(report.delivered) > SHOWN:
        table.add_row(f"and {len(report.delivered) - SHOWN:,} more exports")
    return table


def _objects(report: Report) -> Table:
    table = _empty_table()
    table.add_column(_word(report).capitalize(), overflow="fold")
    for heading in ("Records", "Late", "Bad", "Bytes"):
        table.add_column(heading, justify="right", no_wrap=True)
    for line in report.lines[:SHOWN]:
        what = line.object or f"{line.export}, delivery {line.sequence:,}"  # events have no name
        table.add_row(shown(what), *_numbers([line]))
    if rest := report.lines[SHOWN:]:
        table.add_row(f"and {number(len(rest), f'more {_word(report)}')}", *_numbers(rest))
    return table


def _numbers(lines: Sequence[ObjectLine]) -> Iterator[str]:
    """Records, late ones, bad ones and bytes of some objects together."""
    for name in ("records", "late", "bad", "bytes"):
        yield f"{sum(getattr(line, name) for line in lines):,}"
