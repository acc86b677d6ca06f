"""The configuration: what a file may say, how it is read, and what a person is told of a mistake in it.

``reading`` goes from a file to settings, with the help of ``mistakes``; ``settings``
says what there may be, and leaves a destination's settings to its driver. Only ``reading`` touches the
environment, but for one variable of pydantic's, which ``plugins`` sets. It must not connect to anything.
"""

import exporter.config.plugins  # noqa: F401 - it works by being imported, before the models are
from exporter.config.reading import (
    Config,
    ConfigProblem,
    Defaults,
    add_rows,
    find,
    load,
    sqlite_path,
)
from exporter.config.settings import (
    Columns,
    ExportSettings,
    LedgerSettings,
    SourceSettings,
    json_schema,
)
from exporter.destinations.registry import Destination
from exporter.notation.secret import Secret
from exporter.notation.surroundings import Surroundings
from exporter.notation.values import check_name, parse_duration, parse_size, parse_time
from exporter.notation.zones import load_zone

__all__ = [
    "Columns",
    "Config",
    "ConfigProblem",
    "Defaults",
    "Destination",
    "ExportSettings",
    "LedgerSettings",
    "Secret",
    "SourceSettings",
    "Surroundings",
    "add_rows",
    "check_name",
    "find",
    "json_schema",
    "load",
    "load_zone",
    "parse_duration",
    "parse_size",
    "parse_time",
    "sqlite_path",
]
