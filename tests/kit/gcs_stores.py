"""What the tests of the Google Cloud Storage driver share: a store before a proxy, and kinds of requests."""

from __future__ import annotations

import hashlib
import json
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest

from exporter.destinations.gcs.settings import GcsSettings
from exporter.destinations.gcs.store import GcsStore
from exporter.destinations.uploads import Limits
from exporter.errors import DeliveryError
from exporter.network.guard import Guard
from tests.contracts.object_store import NAME, ignore, package_of
from tests.kit.gcs_server import shared_gcs
from tests.kit.google_tokens import token_services
from tests.kit.proxy import Answer, Fault, proxy_before

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.kit.gcs_objects import StoredObject
    from tests.kit.gcs_server import Gcs
    from tests.kit.google_tokens import TokenServices
    from tests.kit.proxy import Proxy, Request

MIB = 1 << 20
CREATE = "storage.objects.create"
GUARD = Guard(["127.0.0.1"])
IN_CHUNKS = Limits(large_bytes=2 * MIB, part_bytes=MIB)
LARGE = hashlib.shake_256(b"large").digest(3 * MIB + 1)  # three chunks and one byte


@dataclass
class Cloud:
    """A bucket behind a proxy, and the token services whose tokens may create objects in it."""

    gcs: Gcs
    tokens: TokenServices
    proxy: Proxy
    bucket: str
    ca_file: Path | None = None

    def settings(self, **changes: Any) -> GcsSettings:  # noqa: ANN401 - whatever a test sets
        given = {
            "type": "gcs",
            "bucket": self.bucket,
            "credentials": self.tokens.key_file(),
            "endpoint_url": self.proxy.url,
        }
        if self.ca_file:
            given["ca_file"] = str(self.ca_file)
        return GcsSettings.model_validate({**given, **changes})

    def store(self, limits: Limits = IN_CHUNKS, **changes: Any) -> GcsStore:  # noqa: ANN401
        return GcsStore(self.settings(**changes), GUARD, limits=limits)

    def object(self, name: str = NAME) -> StoredObject:
        return self.gcs.objects(self.bucket)[name]

    @property
    def names(self) -> set[str]:
        return set(self.gcs.objects(self.bucket))


@contextmanager
def cloud_for(
    tls: ssl.SSLContext | None = None, ca_file: Path | None = None, *rights: str
) -> Iterator[Cloud]:
    """A new bucket on the shared server; every token may create objects in it, or what ``rights`` say."""
    gcs = shared_gcs()
    with token_services(tls) as tokens, proxy_before(gcs.url, tls=tls) as proxy:
        gcs.stand_behind(proxy.url)
        tokens.on_issue = lambda token, _whose: _grant(gcs, token, rights or (CREATE,))
        yield Cloud(gcs, tokens, proxy, gcs.new_bucket(), ca_file)


@contextmanager
def plain_store(
    gcs: Gcs, tls: ssl.SSLContext | None = None, ca_file: Path | None = None
) -> Iterator[tuple[GcsStore, str]]:
    """A store with nothing between it and the server, and the name of its bucket."""
    with token_services(tls) as tokens:
        tokens.on_issue = lambda token, _whose: _grant(gcs, token, (CREATE,))
        bucket = gcs.new_bucket()
        given = {"type": "gcs", "bucket": bucket, "endpoint_url": gcs.url, "credentials": tokens.key_file()}
        settings = GcsSettings.model_validate(given | ({"ca_file": str(ca_file)} if ca_file else {}))
        yield GcsStore(settings, GUARD, limits=IN_CHUNKS), bucket


def _grant(gcs: Gcs, token: str, rights: tuple[str, ...]) -> None:
    gcs.grant(token, *rights)


def put(store: GcsStore, folder: Path, data: bytes = b"PK...") -> None:
    store.put(package_of(folder, data), ignore)


def failed_put(store: GcsStore, folder: Path, data: bytes = b"PK...") -> DeliveryError:
    with pytest.raises(DeliveryError) as caught:
        put(store, folder, data)
    return caught.value


def gcs_error(status: int, reason: str, message: str = "made up", *, forward: bool = False) -> Fault:
    """An error as Google writes it, whether or not the server got the request."""
    detail = {"domain": "global", "reason": reason, "message": message}
    body = json.dumps({"error": {"code": status, "message": message, "errors": [detail]}}).encode()
    return Fault(
        forward=forward, answer=Answer(status, body, {"Content-Type": "application/json; charset=UTF-8"})
    )


def query_of(request: Request) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(request.path).query).items()}


def is_begin(request: Request) -> bool:
    return request.method == "POST" and query_of(request).get("uploadType") == "resumable"


def is_question(request: Request) -> bool:
    return request.headers.get("content-range", "").startswith("bytes */")


def is_chunk(request: Request) -> bool:
    """One that does not complete the upload."""
    return request.method == "PUT" and not is_question(request) and not is_completion(request)


def is_completion(request: Request) -> bool:
    _, _, span = request.headers.get("content-range", "").partition(" ")
    if request.method != "PUT" or "-" not in span:
        return False
    sent, _, size = span.partition("/")
    return int(sent.partition("-")[2]) + 1 == int(size)


def answering(
    fault: Fault, match: Callable[[Request], bool] = lambda _request: True
) -> Callable[[Request], Fault | None]:
    return lambda request: fault if match(request) else None


def once(fault: Fault, match: Callable[[Request], bool]) -> Callable[[Request], Fault | None]:
    """This fault for the first such request."""
    left = [fault]
    return lambda request: left.pop() if left and match(request) else None
