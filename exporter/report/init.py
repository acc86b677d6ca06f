"""What `init` made, everything it assumed about imported records, and the next command to try."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.padding import Padding
from rich.table import Table

from exporter.report.console import shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console

    from exporter.starter.folder import Created, FileReport

INDENT = (0, 0, 0, 2)


def show(console: Console, created: Created) -> None:
    """The new files, the accounts in the database and, for each imported file, what went where."""
    folder = created.config.parent
    console.print(f"Made {shown(str(created.config))}, {created.database.name} and an empty ledger.db:\n")
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("Account")
    table.add_column("Time zone")
    table.add_column("Records", justify="right")
    for account in created.accounts:
        table.add_row(shown(account.name), account.timezone, f"{account.records:,}")
    console.print(table)
    for file in created.files:
        _show_file(console, file)
    if created.notes:
        console.print()
    for note in created.notes:
        console.print(shown(note), soft_wrap=False)
    option = "" if folder == Path() else f" -c {created.config}"
    console.print(f"\nNext: audit-exporter run{shown(option)}")


def _show_file(console: Console, file: FileReport) -> None:
    size = f"{file.records:,} records in {file.lines:,} lines"
    console.print(f"\n[bold]{shown(str(file.path))}[/bold]: {size}, account {shown(file.account)}")
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("Column")
    table.add_column("With", justify="right")
    table.add_column("Without", justify="right")
    table.add_column("From (records)", overflow="fold")
    for column, filled in file.columns.items():
        given, missing = f"{file.records - filled.missing:,}", f"{filled.missing:,}"
        table.add_row(column, given, missing, shown(_counted(filled.paths)))
    console.print(Padding(table, INDENT, expand=False))
    for assumption in _assumptions(file):
        console.print(Padding(shown(assumption), INDENT, expand=False), soft_wrap=False)


def _assumptions(file: FileReport) -> Iterator[str]:
    if file.by_shape:
        yield f"By shape alone, no name was known: {', '.join(file.by_shape)}"
    if file.zoneless:
        yield f"Times without an offset, taken as UTC: {file.zoneless:,}"
    if file.borrowed:
        yield f"Records with the time of a neighbour: {file.borrowed:,}"
    if file.passed_over:
        yield f"Passed over as their time (records): {_counted(file.passed_over)}"
    if file.future:
        yield f"Records with a time later than now: {file.future:,}"


def _counted(paths: Sequence[tuple[str, int]]) -> str:
    return ", ".join(f"{_printable(path)} ({count:,})" for path, count in paths) or "-"


def _printable(path: str) -> str:
    """A path of names that a stranger chose, without what would move the cursor."""
    return "".join(sign if sign.isprintable() else f"\\u{ord(sign):04x}" for sign in path)
