"""Standard output for people, and standard error for what went wrong."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:
    from exporter.errors import ExporterError
    from exporter.outcome import Trouble

WIDTH_OF_A_FILE = 140


def console() -> Console:
    """A console as wide as the terminal, or wide enough for whole object names where there is none."""
    out = Console(soft_wrap=True, highlight=False)
    return out if out.is_terminal else Console(soft_wrap=True, highlight=False, width=WIDTH_OF_A_FILE)


def shown(text: str) -> str:
    """Text from outside, as a terminal may have it: no control characters but line feeds, and no markup."""
    return escape(
        "".join(
            one if one.isprintable() or one == "\n" else one.encode("unicode_escape").decode() for one in text
        )
    )


def complain(error: ExporterError | Trouble) -> None:
    """What is wrong and, indented, what to do about it, on standard error."""
    sys.stderr.write(f"audit-exporter: {error.message}\n")
    if error.hint:
        sys.stderr.write(f"  {error.hint}\n")
