"""What a configuration says of a container of Azure Blob Storage."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import AfterValidator, model_validator

from exporter.destinations.object_store import ObjectStoreSettings
from exporter.notation.secret import Secret  # noqa: TC001 - pydantic reads the annotations
from exporter.notation.values import FilePath, Text

if TYPE_CHECKING:
    from exporter.destinations.object_store import Driver
    from exporter.network.guard import Guard


def _checked_container(name: str) -> str:
    if not re.fullmatch(r"[a-z0-9](-?[a-z0-9]){2,62}", name) or len(name) > 63:  # noqa: PLR2004 - Azure's limit
        message = "must be 3 to 63 lower-case letters, digits and single '-' between them, as Azure wants it"
        raise ValueError(message)
    return name


def _checked_url(url: str) -> str:
    if "?" in url or "sig=" in url:  # not shown: a SAS opens the container for whoever reads it
        message = "holds a SAS or another query, which would be shown: end it before the '?', and set `sas`"
        raise ValueError(message)
    if not re.match(r"https?://[^/@]+(/|$)", url):
        message = "must begin with https:// and a host, without a user or password"
        raise ValueError(message)
    return url


def _checked_directory(tenant: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*", tenant):
        message = "must be the id or the domain of a Microsoft Entra tenant"
        raise ValueError(message)
    return tenant


Container = Annotated[Text, AfterValidator(_checked_container)]
AccountUrl = Annotated[Text, AfterValidator(_checked_url)]
Tenant = Annotated[Text, AfterValidator(_checked_directory)]


class AzureSettings(ObjectStoreSettings):
    """A container of Azure Blob Storage."""

    type: Literal["azure"]
    container: Container
    account_url: AccountUrl | None = None
    """Such as `https://initech.blob.core.windows.net`; without it, `connection_string` says where."""
    connection_string: Secret | None = None
    """As the portal shows it, with a key or a SAS; it takes the place of `account_url`."""
    account_key: Secret | None = None
    """A key of the storage account, which can do everything there: better a `sas` or an identity."""
    sas: Secret | None = None
    """A shared access signature for the container; the permission `c` (create) is enough."""
    tenant_id: Tenant | None = None
    """The Microsoft Entra tenant of the container's owner, where the application was given its role."""
    client_id: Text | None = None
    """The application, or the managed identity if there are several."""
    client_secret: Secret | None = None
    """A secret of the application."""
    client_certificate: Secret | None = None
    """A certificate of the application with its private key, as PEM text."""
    identity: Literal["managed", "workload"] | None = None
    """The machine's identity or the pod's; without any access given, the pod's if it has one."""
    authority_host: Text | None = None
    """Where tokens come from; without it, the one of the cloud that the account is in."""
    encryption_scope: Text | None = None
    """The encryption scope to write with; without it, the container's default."""
    access_tier: Literal["Hot", "Cool", "Cold"] | None = None
    """The tier of the blobs; without it, the account's default."""
    ca_file: FilePath | None = None
    """Certificates to trust besides the system's, as a PEM file."""

    def open(self, guard: Guard) -> Driver:
        """The driver. Raises ConfigError."""
        from exporter.destinations.azure.store import AzureStore

        return AzureStore(self, guard)

    @model_validator(mode="after")
    def _one_way_in(self) -> Self:
        if message := self._place_mistake() or self._access_mistake() or self._application_mistake():
            raise ValueError(message)
        if any(segment.endswith(".") for segment in self.prefix.split("/")):
            message = "has a `prefix` with a folder that ends in a dot, which Azure takes off"
            raise ValueError(message)
        return self

    def _place_mistake(self) -> str:
        if self.account_url is None and self.connection_string is None:
            return "needs an `account_url` or a `connection_string`"
        if self.account_url is not None and self.connection_string is not None:
            return "has both `account_url` and `connection_string`, which brings its own"
        return ""

    def _access_mistake(self) -> str:
        ways = {
            "connection_string": self.connection_string,
            "account_key": self.account_key,
            "sas": self.sas,
            "client_secret": self.client_secret,
            "client_certificate": self.client_certificate,
            "identity": self.identity,
        }
        given = [f"`{name}`" for name, value in ways.items() if value is not None]
        return "" if len(given) <= 1 else f"has {' and '.join(given)}: keep one of them"

    def _application_mistake(self) -> str:
        if self.client_secret is not None or self.client_certificate is not None:
            if self.tenant_id is None or self.client_id is None:
                return "needs `tenant_id` and `client_id` with a `client_secret` or `client_certificate`"
            return ""
        if self.connection_string or self.account_key or self.sas:
            if self.tenant_id or self.client_id or self.authority_host:
                return (
                    "has a `tenant_id`, `client_id` or `authority_host` beside a key or SAS, which needs none"
                )
        elif self.identity == "managed" and self.tenant_id is not None:
            return "has a `tenant_id`, but a managed identity has one already"
        return ""
