"""Which destinations there are: a new one is a line here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final, get_args

from pydantic import Field

from exporter.destinations.azure.settings import AzureSettings
from exporter.destinations.directory import DirectorySettings
from exporter.destinations.gcs.settings import GcsSettings
from exporter.destinations.s3.settings import S3Settings
from exporter.destinations.splunk_hec.settings import SplunkHecSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exporter.destinations.events import EventSettings
    from exporter.destinations.object_store import ObjectStoreSettings

Destination = Annotated[
    S3Settings | GcsSettings | AzureSettings | DirectorySettings | SplunkHecSettings,
    Field(discriminator="type"),
]

DESTINATIONS: Final[Mapping[str, type[ObjectStoreSettings | EventSettings]]] = {
    get_args(model.model_fields["type"].annotation)[0]: model for model in get_args(get_args(Destination)[0])
}
"""By the `type` that a configuration names."""
