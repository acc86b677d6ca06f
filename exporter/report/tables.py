"""Tables of thousands of lines: as rich sets them, in a small part of its time, unless one must be folded."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console
    from rich.table import Table

    Line = Sequence[str]

BETWEEN = "  "


def show_table(console: Console, headings: Line, lines: Sequence[Line], foldable: Sequence[str]) -> None:
    """Print a table with texts from outside in it; if it is too wide, its ``foldable`` columns are folded."""
    from rich.cells import cell_len

    from exporter.report.console import printable, shown

    plain = [[printable(text) for text in line] for line in lines]
    widths = [max(map(cell_len, column)) for column in zip(headings, *plain, strict=True)]
    is_wide = sum(widths) + len(BETWEEN) * (len(widths) - 1) > console.width
    if is_wide or any("\n" in text for line in plain for text in line):
        console.print(_folded(headings, [[shown(text) for text in line] for line in lines], foldable))
        return
    console.print(_set(headings, widths), style="bold", markup=False)
    if plain:
        console.out("\n".join(_set(line, widths) for line in plain), highlight=False)


def _set(line: Line, widths: Sequence[int]) -> str:
    from rich.cells import cell_len

    return BETWEEN.join(
        text + " " * (width - cell_len(text)) for text, width in zip(line, widths, strict=True)
    )


def _folded(headings: Line, lines: Sequence[Line], foldable: Sequence[str]) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading, overflow="fold", no_wrap=heading not in foldable)
    for line in lines:
        table.add_row(*line)
    return table
