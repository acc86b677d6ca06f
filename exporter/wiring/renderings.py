"""Configuration to rendering: format, filter and protection, bound to the columns of the source."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.destinations.events import EventSettings
from exporter.formats import presets
from exporter.model import EVENTS, Rendering

if TYPE_CHECKING:
    from collections.abc import Callable

    from exporter.config import Config, ExportSettings


def rendering_of(config: Config, export: ExportSettings) -> Rendering:
    """What the settings of an export make of its records. Raises ConfigError."""
    roles, destination = config.source.columns.model_dump(), export.destination
    events = destination if isinstance(destination, EventSettings) else None
    name, mapping = presets.bind(export.format, roles, events.envelope() if events else None)
    return Rendering(
        format=name,
        mapping=mapping,
        archive=EVENTS if events else export.archive,
        body=export.body,
        max_record_bytes=export.max_record,
        batch_bytes=events.batch_bytes if events else 0,
    )


def key_of(export: ExportSettings) -> Callable[[], bytes] | None:
    """What reveals the account's own key for pseudonyms, anew at each call; None if it has none."""
    del export
    return None
