"""`source prepare`: the SQL that makes a table quick and safe to read, for whoever administers it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from exporter import config as configuration
from exporter import wiring
from exporter.errors import ExporterError
from exporter.report.console import console, shown

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from exporter.model import Statement
    from exporter.wiring import SourceDriver


def prepare(config: Path | None, *, apply: bool) -> int:
    """Print what is missing, as SQL to read and to run; with ``apply`` run it, one by one."""
    source = wiring.source_of(configuration.load(config))
    statements = source.prepare()
    if not statements:
        console().print("The source has all that audit-exporter needs.")
    elif apply:
        _apply(source, statements)
    else:
        sys.stdout.write("\n".join(f"-- {one.reason}\n{one.sql.rstrip(';')};\n" for one in statements))
    return 0


def _apply(source: SourceDriver, statements: Sequence[Statement]) -> None:
    """Stops at the first that fails; what was done stays done and is not asked for again."""
    out = console()
    for one in statements:
        out.print(f"{shown(one.reason)}: {shown(one.sql)}")
        try:
            source.apply(one)
        except ExporterError as error:
            hint = f"{error.hint}; then say it again" if error.hint else "then say it again"
            raise type(error)(f"{one.reason}: {error.message}", hint=hint) from error
        out.print("  done")
