"""Configuration to destination. Which ones there are is in ``exporter.destinations.registry``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

from exporter.destinations.events import EventSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from exporter.destinations.object_store import Driver, ObjectStoreSettings
    from exporter.destinations.registry import Destination as DestinationSettings
    from exporter.interfaces import Destination
    from exporter.model import Json, Rendering
    from exporter.network.guard import Guard


class Destinations:
    """Destinations, one for all exports with the same settings, and one store for those of one bucket."""

    def __init__(self, guard: Guard, wrap: Callable[[Destination], Destination]) -> None:
        self._guard = guard
        self._wrap = wrap
        self._stores: dict[ObjectStoreSettings, Driver] = {}
        self._made: dict[DestinationSettings, Destination] = {}

    def make(self, settings: DestinationSettings, rendering: Rendering | None = None) -> Destination:
        """The destination that these settings describe, for what is rendered so. Raises ConfigError."""
        if rendering is not None and isinstance(settings, EventSettings):
            settings = cast("DestinationSettings", settings.as_delivered(*_envelope_of(rendering)))
        if settings not in self._made:
            self._made[settings] = self._wrap(self._open(settings))
        return self._made[settings]

    def _open(self, settings: DestinationSettings) -> Destination:
        if isinstance(settings, EventSettings):
            return settings.open(self._guard)
        return self._in_store(settings)

    def _in_store(self, settings: ObjectStoreSettings) -> Destination:
        from exporter.destinations.object_store import ObjectStoreDestination

        without_prefix = settings.model_copy(update={"prefix": ""})
        if without_prefix not in self._stores:
            self._stores[without_prefix] = settings.open(self._guard)
        return ObjectStoreDestination(self._stores[without_prefix], settings.prefix)


def _envelope_of(rendering: Rendering) -> tuple[dict[str, Json], frozenset[str]]:
    """What is the same around every event, and the keys that each record fills in for itself."""
    bound = cast("dict[str, Any]", rendering.mapping or {}).get("envelope") or []
    constants = {name: json.loads(found[1]) for name, found in bound if found[0] == "const"}
    return constants, frozenset(name for name, _ in bound) - constants.keys()
