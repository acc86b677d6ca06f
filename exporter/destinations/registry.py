"""Which destinations there are: a new one is a line here."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeAlias, cast

from pydantic_core import core_schema

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import BaseModel, GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationInfo

    from exporter.destinations.events import EventSettings
    from exporter.destinations.object_store import ObjectStoreSettings

_KINDS: Final[Mapping[str, tuple[str, str]]] = {
    "s3": ("exporter.destinations.s3.settings", "S3Settings"),
    "gcs": ("exporter.destinations.gcs.settings", "GcsSettings"),
    "azure": ("exporter.destinations.azure.settings", "AzureSettings"),
    "directory": ("exporter.destinations.directory", "DirectorySettings"),
    "splunk_hec": ("exporter.destinations.splunk_hec.settings", "SplunkHecSettings"),
}
"""By the `type` that a configuration names, where its settings are."""


class _Destinations(Mapping[str, "type[ObjectStoreSettings | EventSettings]"]):
    """The settings of each kind, loaded when they are first asked for: most configurations have one kind."""

    def __getitem__(self, kind: str) -> type[ObjectStoreSettings | EventSettings]:
        module, name = _KINDS[kind]
        return cast("type[ObjectStoreSettings | EventSettings]", getattr(import_module(module), name))

    def __contains__(self, kind: object) -> bool:
        return kind in _KINDS

    def __iter__(self) -> Iterator[str]:
        return iter(_KINDS)

    def __len__(self) -> int:
        return len(_KINDS)


DESTINATIONS: Final[Mapping[str, type[ObjectStoreSettings | EventSettings]]] = _Destinations()
"""By the `type` that a configuration names."""


class _ByType:
    """As pydantic's own union with a discriminator, but that a kind is loaded where one is there."""

    def __get_pydantic_core_schema__(
        self, source: object, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        del source, handler
        choices: dict[Any, core_schema.CoreSchema] = {
            kind: core_schema.with_info_plain_validator_function(partial(_read, kind)) for kind in _KINDS
        }
        return core_schema.tagged_union_schema(choices, "type")

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        del schema
        choices: dict[Any, core_schema.CoreSchema] = {
            kind: model.__pydantic_core_schema__ for kind, model in DESTINATIONS.items()
        }
        return handler(core_schema.tagged_union_schema(choices, "type"))


def _read(kind: str, value: object, info: ValidationInfo) -> BaseModel:
    """The settings of one kind; what is wrong in them pydantic puts into the whole's mistakes."""
    return DESTINATIONS[kind].model_validate(value, context=info.context)


if TYPE_CHECKING:
    Destination: TypeAlias = ObjectStoreSettings | EventSettings
else:
    Destination = Annotated[object, _ByType()]
