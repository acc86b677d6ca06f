"""The quick way to set a table says to a person what rich's own says."""

from __future__ import annotations

import io

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.table import Table

from exporter.report.console import shown
from exporter.report.tables import show_table

HEADINGS = ("Export", "State", "Watermark")
TEXTS = st.text(st.sampled_from("ab [bold]x/é漢\n\t\x1b"), max_size=12)


def as_rich_sets_it(lines: list[tuple[str, ...]], width: int) -> str:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in HEADINGS:
        table.add_column(heading, overflow="fold", no_wrap=heading == "Watermark")
    for line in lines:
        table.add_row(*map(shown, line))
    out = io.StringIO()
    Console(file=out, width=width, soft_wrap=True, highlight=False).print(table)
    return out.getvalue()


@given(lines=st.lists(st.tuples(TEXTS, TEXTS, TEXTS), max_size=5), width=st.integers(20, 60))
def test_a_table_is_set_as_rich_sets_it(lines: list[tuple[str, ...]], width: int) -> None:
    """Whatever the texts are, and whether they fit into the width or have to be folded."""
    out = io.StringIO()
    console = Console(file=out, width=width, soft_wrap=True, highlight=False)
    show_table(console, HEADINGS, lines, foldable=("Export", "State"))
    assert out.getvalue() == as_rich_sets_it(lines, width)


def test_a_terminal_gets_a_bold_heading() -> None:
    out = io.StringIO()
    show_table(Console(file=out, width=60, force_terminal=True), HEADINGS, [("a", "b", "c")], foldable=())
    assert out.getvalue() == "\x1b[1mExport  State  Watermark\x1b[0m\na       b      c        \n"
