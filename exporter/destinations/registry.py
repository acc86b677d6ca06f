"""Which destinations there are: a new one is a line here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final, get_args

from pydantic import Field

from exporter.destinations.azure.settings import AzureSettings
from exporter.destinations.directory import DirectorySettings
from exporter.destinations.gcs.settings import GcsSettings
from exporter.destinations.s3.settings import S3Settings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exporter.destinations.object_store import ObjectStoreSettings

Destination = Annotated[
    S3Settings | GcsSettings | AzureSettings | DirectorySettings,
    Field(discriminator="type"),
]

DESTINATIONS: Final[Mapping[str, type[ObjectStoreSettings]]] = {
    get_args(model.model_fields["type"].annotation)[0]: model for model in get_args(get_args(Destination)[0])
}
"""By the `type` that a configuration names."""
