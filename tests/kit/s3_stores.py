"""What the tests of the S3 driver share: a store before a proxy, deliveries, and kinds of requests."""

from __future__ import annotations

import base64
import hashlib
import os
import socket
import stat
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from exporter.destinations.s3 import proofs
from exporter.destinations.s3.settings import S3Settings
from exporter.destinations.s3.store import S3Store
from exporter.destinations.uploads import Limits
from exporter.errors import DeliveryError
from exporter.network.guard import Guard
from tests.contracts.object_store import ignore, package_of
from tests.kit.servers import ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY, shared_moto

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.kit.proxy import Fault, Proxy, Request

MIB = 1 << 20
KEYS = {"access_key_id": ACCESS_KEY_ID, "secret_access_key": SECRET_ACCESS_KEY}
NO_KEYS = {"access_key_id": None, "secret_access_key": None}
LOOPBACK = Guard(["127.0.0.1"])
IN_PARTS = Limits(large_bytes=6 * MIB, part_bytes=5 * MIB)
LARGE = hashlib.shake_256(b"large").digest(6 * MIB + 1)
KEY_ARN = "arn:aws:kms:us-east-1:111122223333:key/0d9f"
ROLE_ARN = "arn:aws:iam::123456789012:role/customer"
CANARY = "canary+secret/value="


def settings_of(bucket: str, **more: object) -> S3Settings:
    return S3Settings.model_validate({"type": "s3", "bucket": bucket, **more})


def with_(settings: S3Settings, **changes: object) -> S3Settings:
    """The same, changed, and as strictly read as a configuration."""
    return S3Settings.model_validate({**dict(settings), **changes})


def new_bucket_behind(proxy: Proxy, **more: object) -> S3Settings:
    """A bucket that no other test has."""
    place: dict[str, object] = {"region": REGION, "endpoint_url": proxy.url, "path_style": True}
    return settings_of(shared_moto().new_bucket(), **place, **KEYS, **more)


def store_of(settings: S3Settings, limits: Limits = IN_PARTS, guard: Guard = LOOPBACK) -> S3Store:
    """A store that was seen to replace nothing, as it is after its first large object."""
    proofs._CREATES_ONCE.add(settings.store_name)
    proofs._COMPLETES_ONCE[settings.store_name] = True
    return S3Store(settings, guard, limits=limits)


def put(store: S3Store, folder: Path, data: bytes = b"PK...") -> None:
    store.put(package_of(folder, data), ignore)


def failed_put(store: S3Store, folder: Path, data: bytes = b"PK...") -> DeliveryError:
    with pytest.raises(DeliveryError) as caught:
        put(store, folder, data)
    return caught.value


def is_completion(request: Request) -> bool:
    return request.method == "POST" and "uploadId=" in request.path


def is_part(request: Request) -> bool:
    return request.method == "PUT" and "partNumber=" in request.path


def answering(
    fault: Fault, match: Callable[[Request], bool] = lambda _request: True
) -> Callable[[Request], Fault | None]:
    return lambda request: fault if match(request) else None


def sha256_base64(data: bytes) -> str:
    return base64.b64encode(hashlib.sha256(data).digest()).decode()


def connections_to(proxy: Proxy) -> int:
    """How many this process has open, on the client's side."""
    port = urlsplit(proxy.url).port
    return sum(_peer_port(int(open_file.name)) == port for open_file in Path("/dev/fd").iterdir())


def _peer_port(descriptor: int) -> int | None:
    try:
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            return None
        connection = socket.socket(fileno=descriptor)
    except OSError:  # closed meanwhile
        return None
    try:
        return int(connection.getpeername()[1])
    except (OSError, IndexError):  # one that listens, or a pair
        return None
    finally:
        connection.detach()
