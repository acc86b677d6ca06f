"""What a configuration says of a bucket of Google Cloud Storage."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import AfterValidator, model_validator

from exporter.destinations.object_store import ObjectStoreSettings
from exporter.keys import normal_prefix
from exporter.notation.secret import Secret  # noqa: TC001 - pydantic reads the annotations
from exporter.notation.values import Endpoint, FilePath, Text

if TYPE_CHECKING:
    from exporter.destinations.object_store import Driver
    from exporter.network.guard import Guard


RESERVED = ".well-known/acme-challenge/"


def _checked_bucket(name: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]", name):
        message = (
            "is no name of a bucket: write it without gs://, in lower-case letters, digits, `.`, `_` and `-`"
        )
        raise ValueError(message)
    return name


def _checked_account(email: str) -> str:
    if not re.fullmatch(r"[a-z0-9._-]+@[a-z0-9.-]+", email):
        message = (
            "must be a service account's e-mail address, such as `writer@project.iam.gserviceaccount.com`"
        )
        raise ValueError(message)
    return email


def _checked_key(name: str) -> str:
    if not re.fullmatch(
        r"projects/[a-z0-9.:-]+/locations/[a-z0-9-]+/keyRings/[\w-]+/cryptoKeys/[\w-]+", name, re.ASCII
    ):
        message = "must be written as `projects/P/locations/L/keyRings/R/cryptoKeys/K`, without a version"
        raise ValueError(message)
    return name


Bucket = Annotated[Text, AfterValidator(_checked_bucket)]
ServiceAccount = Annotated[Text, AfterValidator(_checked_account)]
KmsKey = Annotated[Text, AfterValidator(_checked_key)]


class GcsSettings(ObjectStoreSettings):
    """A bucket of Google Cloud Storage."""

    type: Literal["gcs"]
    bucket: Bucket
    """Its name, without `gs://`."""
    credentials: Secret | None = None
    """The JSON of a service account key or of workload identity federation; without it, the identity of the
    machine (application default credentials)."""
    subject_token_file: FilePath | None = None
    """The token that a federation file in `credentials` may send, whatever file it names itself."""
    impersonate: ServiceAccount | None = None
    """The customer's service account to write as."""
    kms_key: KmsKey | None = None
    """The customer's key, as its full resource name; without it, the bucket's default."""
    storage_class: Text | None = None
    """Such as `NEARLINE`; without it, the bucket's default."""
    endpoint_url: Endpoint | None = None
    """A private or regional endpoint; without it, `https://storage.googleapis.com`."""
    ca_file: FilePath | None = None
    """Certificates to trust beside the system's, as a PEM file."""

    def open(self, guard: Guard) -> Driver:
        """The driver. Raises ConfigError."""
        from exporter.destinations.gcs.store import GcsStore

        return GcsStore(self, guard)

    @model_validator(mode="after")
    def _possible_names(self) -> Self:
        if normal_prefix(self.prefix).startswith(RESERVED):
            message = f"has a `prefix` below `{RESERVED}`, where Google Cloud Storage takes no objects"
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _whole_credentials(self) -> Self:
        if self.subject_token_file and not self.credentials:
            message = "has a `subject_token_file` without the `credentials` that may send it"
            raise ValueError(message)
        return self
