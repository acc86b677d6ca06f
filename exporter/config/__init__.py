"""The configuration: what a file may say, how it is read, and what a person is told of a mistake in it.

``reading`` goes from a file to settings, with the help of ``yaml_lines`` and ``mistakes``; ``settings``
says what there may be, with values in their ``notation``, time ``zones`` by name and each ``secret`` by
reference. Only ``reading`` touches the environment. It must not know a driver, or connect to anything.
"""

from exporter.config.notation import check_name, parse_duration, parse_size, parse_time
from exporter.config.reading import (
    Config,
    ConfigProblem,
    Defaults,
    add_rows,
    find,
    load,
    sqlite_path,
)
from exporter.config.secret import Secret
from exporter.config.settings import (
    Columns,
    Destination,
    DirectorySettings,
    ExportSettings,
    LedgerSettings,
    S3Settings,
    SourceSettings,
    json_schema,
)
from exporter.config.surroundings import Surroundings
from exporter.config.zones import load_zone

__all__ = [
    "Columns",
    "Config",
    "ConfigProblem",
    "Defaults",
    "Destination",
    "DirectorySettings",
    "ExportSettings",
    "LedgerSettings",
    "S3Settings",
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
