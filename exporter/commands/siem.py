"""`siem`: which SIEMs there are, and the setup of one for an export; and what `check` says of an export's.

Nothing here changes anything, or asks a destination: a setup is made of the configuration alone.
"""

from __future__ import annotations

import difflib
import sys
from contextlib import closing
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, cast

import orjson

from exporter import config as configuration
from exporter import wiring
from exporter.errors import ConfigError, SourceError
from exporter.model import Finding, Level
from exporter.report import siem as report
from exporter.report.console import console
from exporter.report.counts import listed
from exporter.siem.consumers import CONSUMERS
from exporter.siem.delivery import Origin, Pace, delivery_of, needs_columns
from exporter.siem.judging import cautions
from exporter.siem.packs import pack_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from exporter.config import Config, ExportSettings
    from exporter.pipeline import Job
    from exporter.siem.consumers import Siem
    from exporter.siem.delivery import Delivery
    from exporter.wiring import App


def siem(name: str | None, config: Path | None, export: str | None, *, json: bool) -> int:
    """Print the setup of one consumer for one export; without a name, which consumers there are."""
    if name is None:
        if json:
            _print_json({known: asdict(consumer) for known, consumer in CONSUMERS.items()})
        else:
            report.show_consumers(console(), CONSUMERS)
        return 0
    known = _known(name)
    settings = _with_rows(configuration.load(config))
    meant = _one(settings, export)
    delivery = _delivery(settings, meant, _columns(settings, meant))
    pack = pack_of(known, delivery)
    if json:
        _print_json({"siem": known, "export": delivery.export, **asdict(pack)})
    else:
        report.show_pack(console(), known, delivery, pack)
    return 0


def findings(app: App, jobs: Iterable[Job]) -> Iterator[Finding]:
    """What the SIEM that an export names could not read of its deliveries, as `check` says it."""
    exports = {export.name: export for export in app.config.exports}
    columns: Sequence[str] | None = None
    for job in jobs:
        export = exports[job.name]
        if export.siem is None:
            continue
        columns = app.source.columns() if columns is None else columns
        delivery = _delivery(app.config, export, columns)
        for one in cautions(export.siem, CONSUMERS[export.siem], delivery):
            yield Finding(job.name, Level.WARNING, one.message, f"write instead: {one.instead}")


def _known(name: str) -> Siem:
    if name in CONSUMERS:
        return cast("Siem", name)
    close = difflib.get_close_matches(name.lower(), CONSUMERS, 2, 0.4)
    meant = f"did you mean {' or '.join(close)}?" if close else "see them all with: audit-exporter siem"
    raise ConfigError(f"there is no setup for '{name}'", hint=meant)


def _with_rows(config: Config) -> Config:
    if config.exports_query is None:
        return config
    with closing(wiring.source_of(config).open()) as source:
        return configuration.add_rows(config, source.settings(config.exports_query))


def _one(config: Config, name: str | None) -> ExportSettings:
    """The export that is meant: the one of that name, or the only one."""
    found = [export for export in config.exports if name in (None, export.name)]
    if len(found) == 1:
        return found[0]
    for problem in config.problems:
        if name == problem.export or not found:
            raise ConfigError(problem.message, hint=problem.hint)
    names = [export.name for export in config.exports]
    if name is not None:
        close = difflib.get_close_matches(name, names, 3, 0.5)
        hint = f"did you mean {' or '.join(close)}?" if close else f"there are {listed(names)}"
        raise ConfigError(f"no export '{name}' is configured", hint=hint)
    raise ConfigError(
        f"there are {len(names)} exports, and a setup is for one",
        hint=f"choose one with --export NAME: {listed(names)}",
    )


def _columns(config: Config, export: ExportSettings) -> Sequence[str]:
    """The source's columns, where a setup depends on them; none where the source is not."""
    if not needs_columns(wiring.rendering_of(config, export)):
        return ()
    try:
        with closing(wiring.source_of(config).open()) as source:
            return source.columns()
    except (SourceError, ConfigError):
        return ()


def _delivery(config: Config, export: ExportSettings, columns: Sequence[str]) -> Delivery:
    destination: dict[str, Any] = {
        key: value for key, value in export.destination if not isinstance(value, configuration.Secret)
    }
    destination["is_aws"] = getattr(export.destination, "is_aws", True)
    rendering = wiring.rendering_of(config, export)
    origin = Origin(config.source.columns.time, columns, config.source.time_unit)
    pace = Pace(export.part_limit, export.every + export.grace)
    try:
        return delivery_of(export.name, export.account, destination, rendering, origin, pace)
    except ValueError as error:  # the account cannot be in a name
        message, _, hint = str(error).rpartition("; ")
        raise ConfigError(message, hint=hint) from error


def _print_json(value: object) -> None:
    sys.stdout.write(orjson.dumps(value).decode() + "\n")
