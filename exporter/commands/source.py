"""`source prepare`: the SQL that makes a table quick and safe to read, for whoever administers it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from exporter import config as configuration
from exporter import wiring
from exporter.errors import ExporterError
from exporter.report.console import complain, console, shown

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
    """What fails keeps nothing else from being tried; what was done stays done and is not asked for again."""
    out = console()
    failures: list[ExporterError] = []
    for one in statements:
        out.print(f"{shown(one.reason)}: {shown(one.sql)}")
        try:
            source.apply(one)
        except ExporterError as error:
            hint = f"{error.hint}; then say it again" if error.hint else "then say it again"
            failures.append(type(error)(f"{one.reason}: {error.message}", hint=hint))
            failures[-1].__cause__ = error
            out.print("  failed")
        else:
            out.print("  done")
    for failure in failures[1:]:
        complain(failure)
    if failures:
        raise failures[0]
