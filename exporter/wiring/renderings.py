"""Configuration to rendering: format, filter and protection, bound to the columns of the source."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.formats import presets
from exporter.model import Rendering

if TYPE_CHECKING:
    from collections.abc import Callable

    from exporter.config import Config, ExportSettings


def rendering_of(config: Config, export: ExportSettings) -> Rendering:
    """What the settings of an export make of its records. Raises ConfigError."""
    columns = config.source.columns.model_dump()
    name = export.format.name or "standard"
    return Rendering(
        format=name,
        mapping=presets.mapping_of(name, columns),
        archive=export.archive,
        body=export.body,
        max_record_bytes=export.max_record,
    )


def key_of(export: ExportSettings) -> Callable[[], bytes] | None:
    """What reveals the account's own key for pseudonyms, anew at each call; None if it has none."""
    del export
    return None
