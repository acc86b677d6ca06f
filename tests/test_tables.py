"""The quick way to set a table says to a person what rich's own says."""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from typing import Literal
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.table import Table

from exporter.report import console, tables
from exporter.report.console import shown
from exporter.report.tables import show_table

HEADINGS = ("Export", "State", "Records")
FOLDABLE = ("Export", "State")
NUMBERS = ("Records",)
TEXTS = st.text(st.sampled_from("ab [bold]x/é漢\n\t\x1b"), max_size=12)
LINES = st.lists(st.tuples(TEXTS, TEXTS, st.integers(0).map("{:,}".format)), max_size=5)


def as_rich_sets_it(lines: list[tuple[str, ...]], width: int) -> str:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in HEADINGS:
        justify: Literal["left", "right"] = "right" if heading in NUMBERS else "left"
        table.add_column(heading, overflow="fold", no_wrap=heading not in FOLDABLE, justify=justify)
    for line in lines:
        table.add_row(*map(shown, line))
    out = io.StringIO()
    Console(file=out, width=width, soft_wrap=True, highlight=False).print(table)
    return out.getvalue()


@given(lines=LINES, width=st.integers(20, 60))
def test_a_table_is_set_as_rich_sets_it(lines: list[tuple[str, ...]], width: int) -> None:
    """Whatever the texts are, and whether they fit into the width or have to be folded."""
    out = io.StringIO()
    console = Console(file=out, width=width, soft_wrap=True, highlight=False)
    show_table(console, HEADINGS, lines, FOLDABLE, NUMBERS)
    assert out.getvalue() == as_rich_sets_it(lines, width)


@given(lines=LINES, width=st.integers(20, 60))
def test_a_file_gets_the_same_table(lines: list[tuple[str, ...]], width: int) -> None:
    out = io.StringIO()
    widths = (patch.object(module, "WIDTH_OF_A_FILE", width) for module in (tables, console))
    with next(widths), next(widths), redirect_stdout(out):
        show_table(None, HEADINGS, lines, FOLDABLE, NUMBERS)
    assert out.getvalue() == as_rich_sets_it(lines, width)


def test_a_terminal_gets_a_bold_heading() -> None:
    out = io.StringIO()
    show_table(
        Console(file=out, width=60, force_terminal=True), HEADINGS, [("a", "b", "12")], numbers=NUMBERS
    )
    assert out.getvalue() == "\x1b[1mExport  State  Records\x1b[0m\na       b           12\n"
