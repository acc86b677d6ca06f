"""What a configuration says of a container of Azure Blob Storage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from exporter.destinations.object_store import ObjectStoreSettings
from exporter.notation.values import Text  # noqa: TC001 - pydantic reads the annotations

if TYPE_CHECKING:
    from exporter.destinations.object_store import Driver
    from exporter.network.guard import Guard


class AzureSettings(ObjectStoreSettings):
    """A container of Azure Blob Storage."""

    type: Literal["azure"]
    container: Text

    def open(self, guard: Guard) -> Driver:
        """The driver. Raises ConfigError."""
        raise NotImplementedError
