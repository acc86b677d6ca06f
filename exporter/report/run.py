"""The outcome of `run`, `backfill` and `replay`."""

from __future__ import annotations

import shlex
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from exporter.outcome import NOT_ALL
from exporter.report.console import console, is_file, say, say_wrong
from exporter.report.counts import number, plural, withheld
from exporter.report.tables import fits, show_table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console

    from exporter.config import ConfigProblem
    from exporter.outcome import ObjectLine, Report, Total

SHOWN: Final = 40
"""Lines of a table that a person still reads; `status` and `--json` have them all."""

COUNTS: Final = ("Records", "Late", "Bad", "Bytes")


def as_json(report: Report, problems: tuple[ConfigProblem, ...], *, dry_run: bool) -> dict[str, Any]:
    """The whole outcome, every object named, as orjson writes it: of a dataclass its fields."""
    return {
        "dry_run": dry_run,
        "exit_status": exit_status(report, problems),
        "objects": report.lines,
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
    report: Report,
    problems: tuple[ConfigProblem, ...] = (),
    *,
    dry_run: bool,
    requested: bool = False,
) -> None:
    """The outcome as a person reads it, on standard output: what went where, what did not, and why.

    ``requested``: only the same command goes on with what is left. Of ``nothing`` it says nothing.
    """
    if report.delivered:
        _show_delivered(report, dry_run=dry_run)
    for name, error in sorted(report.failing.items()):
        _say("Not delivered", f"{name}: {error.message}", error.hint)
    for problem in problems:
        # An export without a name goes by its place, which its message begins with.
        which = "" if problem.message.startswith(problem.export) else f"{problem.export}: "
        _say("Skipped", f"{which}{problem.message}", problem.hint)
    left = report.unfinished - set(report.failing)
    if elsewhere := left & report.elsewhere:
        are = "is" if len(elsewhere) == 1 else "are"
        say(f"{number(len(elsewhere), 'export')} {are} being delivered by another process.")
        left -= elsewhere
    if left and report.error is None:
        have = "has" if len(left) == 1 else "have"
        on = (
            "give the same command again to go on"
            if requested
            else "the next run goes on where this one stopped"
        )
        say(f"{number(len(left), 'export')} still {have} work; {on}.")


def _show_delivered(report: Report, *, dry_run: bool) -> None:
    page = None if is_file() else console()
    if dry_run:
        show_table(page, (_word(report).capitalize(), *COUNTS), _objects(report), numbers=COUNTS)
    else:
        _show_totals(page, report)
    verb = "would be delivered" if dry_run else "delivered"
    objects, records = number(report.objects, _word(report)), number(report.records, "record")
    say(f"{objects} with {records} {verb}.")
    for name, total in sorted(report.delivered.items())[:SHOWN]:
        _show_withheld(name, total)


def _say(what: str, message: str, hint: str) -> None:
    say_wrong(what, message)
    if hint:
        say(f"  {hint}")


def _show_withheld(export: str, total: Total) -> None:
    """What of an export did not leave, or not as it was."""
    if said := withheld(total.filtered, total.protected):
        say(f"{export}: {said}.")
    if total.refused:
        events = number(total.refused, "event")
        see = f"audit-exporter ledger bad-records --export {shlex.quote(export)}"
        say(f"{export}: {events} refused; see: {see}")


def _word(report: Report) -> str:
    """What was delivered, in one word: events have no name, and are no objects."""
    return "object" if all(total.last_object for total in report.delivered.values()) else "delivery"


def _show_totals(page: Console | None, report: Report) -> None:
    """A line for each export; names of objects are left out where they would have to be broken."""
    numbers = (plural(_word(report)).capitalize(), *COUNTS)
    headings: tuple[str, ...] = ("Export", *numbers, "Last object")
    lines = _totals(report)
    if not any(total.last_object for total in report.delivered.values()) or not fits(page, headings, lines):
        headings, lines = headings[:-1], [line[:-1] for line in lines]
    show_table(page, headings, lines, foldable=("Export",), numbers=numbers)


def _totals(report: Report) -> list[Sequence[str]]:
    lines: list[Sequence[str]] = []
    for export, total in sorted(report.delivered.items())[:SHOWN]:
        numbers = (total.objects, total.records, total.late, total.bad, total.bytes)
        name = PurePosixPath(total.last_object).name
        lines.append((export, *(f"{number:,}" for number in numbers), name))
    if len(report.delivered) > SHOWN:
        lines.append((f"and {len(report.delivered) - SHOWN:,} more exports", *[""] * 6))
    return lines


def _objects(report: Report) -> list[Sequence[str]]:
    lines: list[Sequence[str]] = []
    for line in report.lines[:SHOWN]:
        what = line.object or f"{line.export}, delivery {line.sequence:,}"  # events have no name
        lines.append((what, *_numbers([line])))
    if rest := report.lines[SHOWN:]:
        lines.append((f"and {number(len(rest), f'more {_word(report)}')}", *_numbers(rest)))
    return lines


def _numbers(lines: Sequence[ObjectLine]) -> Iterator[str]:
    """Records, late ones, bad ones and bytes of some objects together."""
    for name in ("records", "late", "bad", "bytes"):
        yield f"{sum(getattr(line, name) for line in lines):,}"
