"""What the tests of the Azure driver share: a store before a proxy, deliveries, and kinds of requests."""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from exporter.destinations.azure.settings import AzureSettings
from exporter.destinations.azure.store import AzureStore
from exporter.destinations.uploads import Limits
from exporter.errors import DeliveryError
from exporter.network.guard import Guard
from tests.contracts.object_store import Subject, ignore, package_of
from tests.kit.azurite import KEY, Azurite, sas_of, shared_azurite
from tests.kit.proxy import Answer, Fault, Proxy, Request, no_fault, proxy_before

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

MIB = 1 << 20
IN_BLOCKS = Limits(large_bytes=6 * MIB, part_bytes=4 * MIB)
LARGE = hashlib.shake_256(b"large").digest(6 * MIB + 1)
CANARY = "canary+secret/value="
ALLOWED = Guard(["127.0.0.1"])


def settings_of(container: str, url: str, **more: object) -> AzureSettings:
    """Settings as a configuration gives them."""
    place = {} if "connection_string" in more else {"account_url": url}
    return AzureSettings.model_validate({"type": "azure", "container": container} | place | more)


def store_of(container: str, url: str, limits: Limits = IN_BLOCKS, **more: object) -> AzureStore:
    """A store that asks with the account's key, unless told otherwise."""
    if not {"sas", "identity", "client_secret", "client_certificate", "connection_string"} & set(more):
        more.setdefault("account_key", KEY)
    return AzureStore(settings_of(container, url, **more), ALLOWED, limits=limits)


def account_behind(proxy: Proxy) -> str:
    return f"{proxy.url}/devstoreaccount1"


def put(store: AzureStore, folder: Path, data: bytes = b"PK...") -> None:
    store.put(package_of(folder, data), ignore)


def failed_put(store: AzureStore, folder: Path, data: bytes = b"PK...") -> DeliveryError:
    with pytest.raises(DeliveryError) as caught:
        put(store, folder, data)
    return caught.value


def is_block(request: Request) -> bool:
    return "comp=block&" in f"{request.path}&"


def is_list(request: Request) -> bool:
    return "comp=blocklist" in request.path


def answering(
    fault: Fault, match: Callable[[Request], bool] = lambda _request: True
) -> Callable[[Request], Fault | None]:
    return lambda request: fault if match(request) else None


def azure_error(
    status: int,
    code: str,
    message: str = "made up",
    *,
    detail: str = "",
    headers: Mapping[str, str] | None = None,
    forward: bool = False,
) -> Fault:
    """An error as Azure writes it, whether or not the server got the request."""
    words = f"{message}\nRequestId:REQ1\nTime:2026-11-20T10:00:00.0000000Z"
    extra = f"<AuthenticationErrorDetail>{detail}</AuthenticationErrorDetail>" if detail else ""
    error = f"<Error><Code>{code}</Code><Message>{words}</Message>{extra}</Error>"
    body = f'<?xml version="1.0" encoding="utf-8"?>{error}'
    more = {"x-ms-error-code": code, "x-ms-request-id": "REQ1", "Content-Type": "application/xml"}
    return Fault(forward=forward, answer=Answer(status, body.encode(), more | dict(headers or {})))


OVERWRITE = Answer(403, headers={"x-ms-error-code": "UnauthorizedBlobOverwrite"})


class AzureProxy(Proxy):
    """Answers as Azure does where a SAS that may create meets a blob.

    Azurite has a code of its own for that (AuthorizationPermissionMismatch), which means something else.
    """

    def forward(self, request: Request, fault: Fault) -> Answer:
        answer = super().forward(request, fault)
        is_put = "sp=c&" in request.path and "comp=" not in request.path
        return OVERWRITE if answer.status == 403 and is_put else answer


@contextmanager
def azure_before(
    azurite: Azurite,
    script: Callable[[Request], Fault | None] = no_fault,
    *,
    tls: ssl.SSLContext | None = None,
) -> Iterator[Proxy]:
    """A proxy before Azurite, which has to speak http."""
    with proxy_before(azurite.origin, script, tls=tls, make=AzureProxy) as proxy:
        yield proxy


def subject_of(store: AzureStore, azurite: Azurite, container: str, folder: Path) -> Subject:
    return Subject(
        store,
        lambda name: azurite.read(container, name),
        lambda: azurite.names(container),
        folder,
        large_bytes=9 * MIB,
    )


def creating_subject(proxy: Proxy, folder: Path, *, ca_file: Path | None = None) -> Subject:
    """A container as customers should grant it: with a SAS that may create, and nothing else."""
    azurite = shared_azurite()
    container = azurite.new_container()
    store = store_of(container, account_behind(proxy), sas=sas_of(container), ca_file=ca_file)
    return subject_of(store, azurite, container, folder)
