"""Configuration to destination. A new store is a function here, and a case in ``_store``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.config import DirectorySettings, S3Settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from exporter.config import Destination as DestinationSettings
    from exporter.config import Secret
    from exporter.destinations.object_store import Driver
    from exporter.interfaces import Destination


def _directory(settings: DirectorySettings) -> Driver:
    from exporter.destinations.directory import DirectoryStore

    return DirectoryStore(settings.path)


def _s3(settings: S3Settings) -> Driver:
    from exporter.destinations.s3 import S3Options, S3Secrets, S3Store

    def secrets() -> S3Secrets:
        return S3Secrets(
            access_key_id=_reveal(settings.access_key_id),
            secret_access_key=_reveal(settings.secret_access_key),
            session_token=_reveal(settings.session_token),
            external_id=_reveal(settings.external_id),
        )

    options = S3Options(
        bucket=settings.bucket,
        region=settings.region,
        endpoint_url=settings.endpoint_url,
        path_style=settings.path_style,
        role_arn=settings.role_arn,
        kms_key=settings.kms_key,
        ca_file=settings.ca_file,
    )
    return S3Store(options, secrets)


def _store(settings: DestinationSettings) -> Driver:
    match settings:
        case DirectorySettings():
            return _directory(settings)
        case S3Settings():
            return _s3(settings)


def _reveal(secret: Secret | None) -> str | None:
    return None if secret is None else secret.reveal()


class Destinations:
    """Destinations, one for all exports with the same settings, and one store for those of one bucket."""

    def __init__(self, wrap: Callable[[Destination], Destination]) -> None:
        self._wrap = wrap
        self._stores: dict[DestinationSettings, Driver] = {}
        self._made: dict[DestinationSettings, Destination] = {}

    def make(self, settings: DestinationSettings) -> Destination:
        """The destination that these settings describe."""
        from exporter.destinations.object_store import ObjectStoreDestination

        without_prefix = settings.model_copy(update={"prefix": ""})
        if without_prefix not in self._stores:
            self._stores[without_prefix] = _store(settings)
        if settings not in self._made:
            store = ObjectStoreDestination(self._stores[without_prefix], settings.prefix)
            self._made[settings] = self._wrap(store)
        return self._made[settings]
