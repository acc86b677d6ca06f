"""Tables of thousands of lines: as rich sets them, in a small part of its time, unless one must be folded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from exporter.report.console import WIDTH_OF_A_FILE, console, printable, say, shown

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from rich.console import Console
    from rich.table import Table

    Line = Sequence[str]

BETWEEN = "  "


def show_table(
    page: Console | None,
    headings: Line,
    lines: Sequence[Line],
    foldable: Collection[str] | None = None,
    numbers: Collection[str] = (),
) -> None:
    """Print a table with texts from outside in it; if it is too wide, its ``foldable`` columns are folded.

    Without a ``page`` it goes to a file, for which rich is not loaded if nothing must be folded. Columns of
    ``numbers`` end at one line; the first column is foldable, unless others are named.
    """
    plain = [[printable(text) for text in line] for line in lines]
    if _fits(page, headings, plain) and not any("\n" in text for line in plain for text in line):
        _show(page, headings, plain, numbers)
        return
    names = headings[:1] if foldable is None else foldable
    escaped = [[shown(text) for text in line] for line in lines]
    (page or console()).print(_folded(headings, escaped, names, numbers))


def fits(page: Console | None, headings: Line, lines: Sequence[Line]) -> bool:
    """Whether nothing in a table must be folded for its width."""
    return _fits(page, headings, [[printable(text) for text in line] for line in lines])


def _fits(page: Console | None, headings: Line, plain: Sequence[Line]) -> bool:
    width = WIDTH_OF_A_FILE if page is None else page.width
    return sum(_widths(headings, plain)) + len(BETWEEN) * (len(headings) - 1) <= width


def _widths(headings: Line, plain: Sequence[Line]) -> list[int]:
    return [max(map(_cells, column)) for column in zip(headings, *plain, strict=True)]


def _show(page: Console | None, headings: Line, plain: Sequence[Line], numbers: Collection[str]) -> None:
    widths = _widths(headings, plain)
    ends = [heading in numbers for heading in headings]
    heading, *rest = (_set(line, widths, ends) for line in (headings, *plain))
    if page is None:
        say("\n".join((heading, *rest)))
        return
    page.print(heading, style="bold", markup=False)
    if rest:
        page.out("\n".join(rest), highlight=False)


def _set(line: Line, widths: Sequence[int], ends: Sequence[bool]) -> str:
    cells = []
    for text, width, at_its_end in zip(line, widths, ends, strict=True):
        blank = " " * (width - _cells(text))
        cells.append(blank + text if at_its_end else text + blank)
    return BETWEEN.join(cells)


def _cells(text: str) -> int:
    """How wide a text is on a terminal."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def _folded(
    headings: Line, lines: Sequence[Line], foldable: Collection[str], numbers: Collection[str]
) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        justify: Literal["left", "right"] = "right" if heading in numbers else "left"
        table.add_column(heading, overflow="fold", no_wrap=heading not in foldable, justify=justify)
    for line in lines:
        table.add_row(*line)
    return table
