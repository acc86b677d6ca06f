"""Standard output for people, and standard error for what went wrong."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rich.console import Console

    from exporter.errors import ExporterError
    from exporter.outcome import Trouble

WIDTH_OF_A_FILE: Final = 140


def is_file() -> bool:
    """Whether standard output is no terminal: then what is written needs no rich, nor its time to load."""
    return sys.stdout is None or not sys.stdout.isatty()


def console() -> Console:
    """A console as wide as the terminal, or wide enough for whole object names where there is none."""
    from rich.console import Console  # which a run with nothing due does without

    out = Console(soft_wrap=True, highlight=False)
    return out if out.is_terminal else Console(soft_wrap=True, highlight=False, width=WIDTH_OF_A_FILE)


def shown(text: str) -> str:
    """Text from outside, as a terminal may have it: no control characters but line feeds, and no markup."""
    from rich.markup import escape

    return escape(printable(text))


def printable(text: str) -> str:
    """Text from outside without control characters but line feeds, where nothing is taken for markup."""
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() or one == "\n" else one.encode("unicode_escape").decode() for one in text
    )


def say(line: str) -> None:
    """One line on standard output, as it is, without the console that takes longer to load than to say it."""
    if sys.stdout is not None:
        sys.stdout.write(f"{printable(line)}\n")


def say_wrong(what: str, line: str) -> None:
    """The same, of something that went wrong: what it is called is red where there are colours."""
    if is_file():
        say(f"{what}: {line}")
    else:
        console().print(f"[red]{what}[/]: {shown(line)}")


def complain(error: ExporterError | Trouble) -> None:
    """What is wrong and, indented, what to do about it, on standard error."""
    sys.stderr.write(f"audit-exporter: {error.message}\n")
    if error.hint:
        sys.stderr.write(f"  {error.hint}\n")
