"""What the S3 driver sends on a real HTTP server, at once and in parts, and what it needs for that."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

import botocore.exceptions as boto
import pytest
import stamina
from pydantic import ValidationError

from exporter.destinations.s3 import store as s3
from exporter.destinations.s3.store import S3Store
from exporter.destinations.uploads import Limits
from exporter.errors import DeliveryError, NotSent, ObjectExists, OutcomeUnknown, Refused
from exporter.network.guard import Guard
from tests.contracts.object_store import NAME, ignore, package_of
from tests.kit.archives import file_of
from tests.kit.proxy import (
    LOSE_ANSWER,
    LOSE_REQUEST,
    Answer,
    Fault,
    Proxy,
    Request,
    proxy_before,
    s3_error,
)
from tests.kit.s3_stores import (
    IN_PARTS,
    KEY_ARN,
    LARGE,
    LOOPBACK,
    MIB,
    answering,
    failed_put,
    is_completion,
    is_part,
    new_bucket_behind,
    put,
    settings_of,
    sha256_base64,
    store_of,
    with_,
)
from tests.kit.servers import (
    REGION,
    Moto,
    moto_server,
    shared_moto,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from exporter.destinations.s3.settings import S3Settings


@pytest.fixture
def moto() -> Moto:
    return shared_moto()


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    with proxy_before(shared_moto().url) as running:
        yield running


@pytest.fixture
def settings(proxy: Proxy) -> S3Settings:
    return new_bucket_behind(proxy)


@pytest.fixture(autouse=True)
def no_waiting() -> Iterator[None]:
    """Tries of parts follow each other at once."""
    with stamina.set_testing(True, attempts=s3.PART_TRIES):
        yield


# --- What it sends --------------------------------------------------------------------------------


def test_a_put_is_one_conditional_request_with_a_checksum(
    settings: S3Settings, proxy: Proxy, moto: Moto, tmp_path: Path
) -> None:
    receipt = store_of(settings).put(package_of(tmp_path, b"PK..."), ignore)
    (request,) = proxy.seen
    assert (request.method, request.path) == ("PUT", f"/{settings.bucket}/{NAME}")
    assert request.headers["if-none-match"] == "*"
    assert request.headers["x-amz-checksum-sha256"] == sha256_base64(b"PK...")
    assert request.headers["content-type"] == "application/zip"
    assert request.headers["x-amz-meta-plan"] == "p1"
    assert "x-amz-server-side-encryption" not in request.headers
    stored = moto.s3().head_object(Bucket=settings.bucket, Key=NAME, ChecksumMode="ENABLED")
    assert stored["ChecksumSHA256"] == sha256_base64(b"PK...")
    assert stored["Metadata"] == {"plan": "p1"}
    assert stored["ETag"].strip('"') == receipt.etag


def test_a_versioned_bucket_names_the_version(settings: S3Settings, moto: Moto, tmp_path: Path) -> None:
    moto.s3().put_bucket_versioning(Bucket=settings.bucket, VersioningConfiguration={"Status": "Enabled"})
    receipt = store_of(settings).put(package_of(tmp_path, b"x"), ignore)
    assert receipt.version == moto.s3().head_object(Bucket=settings.bucket, Key=NAME)["VersionId"]


def test_a_large_object_goes_in_parts_and_only_its_completion_is_conditional(
    settings: S3Settings, proxy: Proxy, moto: Moto, tmp_path: Path
) -> None:
    put(store_of(settings), tmp_path, LARGE)
    begin, *parts, completion = proxy.seen
    assert begin.headers["x-amz-meta-plan"] == "p1"
    assert begin.headers["content-type"] == "application/zip"
    assert [part.headers["x-amz-checksum-sha256"] for part in parts] == [
        sha256_base64(LARGE[: 5 * MIB]),
        sha256_base64(LARGE[5 * MIB :]),
    ]
    assert [request.headers.get("if-none-match") for request in proxy.seen] == [None, None, None, "*"]
    assert is_completion(completion)
    assert completion.body.count(b"<ChecksumSHA256>") == 2
    assert moto.s3().get_object(Bucket=settings.bucket, Key=NAME)["Body"].read() == LARGE


def test_the_threshold_is_64_mib_in_parts_of_16() -> None:
    assert (Limits().large_bytes, Limits().part_bytes) == (64 * MIB, 16 * MIB)


@pytest.mark.parametrize("size", [6 * MIB - 1, 6 * MIB])
def test_parts_begin_at_the_threshold(size: int, settings: S3Settings, proxy: Proxy, tmp_path: Path) -> None:
    put(store_of(settings), tmp_path, LARGE[:size])
    assert any(map(is_part, proxy.seen)) is (size == 6 * MIB)


@pytest.mark.parametrize("data", [b"small", LARGE], ids=["at once", "in parts"])
def test_a_kms_key_goes_with_every_object(
    data: bytes, settings: S3Settings, proxy: Proxy, tmp_path: Path
) -> None:
    put(store_of(with_(settings, kms_key=KEY_ARN)), tmp_path, data)
    headers = proxy.seen[0].headers
    assert headers["x-amz-server-side-encryption"] == "aws:kms"
    assert headers["x-amz-server-side-encryption-aws-kms-key-id"] == KEY_ARN
    assert headers["x-amz-server-side-encryption-bucket-key-enabled"] == "true"


def test_the_bucket_is_in_the_host_name_unless_path_style_is_asked_for(
    settings: S3Settings, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve = socket.getaddrinfo
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda _host, *args, **more: resolve("127.0.0.1", *args, **more)
    )
    guard = Guard(["s3.example.com", f"{settings.bucket}.s3.example.com"])
    endpoint = proxy.url.replace("127.0.0.1", "s3.example.com")
    proxy.script = answering(Fault(forward=False, answer=Answer(200, headers={"ETag": '"1"'})))
    for path_style in (False, True):
        elsewhere = with_(settings, endpoint_url=endpoint, path_style=path_style)
        put(store_of(elsewhere, guard=guard), tmp_path)
    host = endpoint.removeprefix("http://")
    assert [(seen.headers["host"], seen.path) for seen in proxy.seen] == [
        (f"{settings.bucket}.{host}", f"/{NAME}"),
        (host, f"/{settings.bucket}/{NAME}"),
    ]


def test_progress_counts_bytes_on_the_wire_once_although_they_are_read_to_be_signed_and_sent_again(
    settings: S3Settings, proxy: Proxy, tmp_path: Path
) -> None:
    failures = iter([s3_error(500, "InternalError")])
    proxy.script = lambda request: next(failures, None) if is_part(request) else None
    sent: list[int] = []
    store_of(settings).put(package_of(tmp_path, LARGE), sent.append)
    assert sum(sent) == len(LARGE)
    assert len(sent) > 10


@pytest.mark.parametrize(
    ("more", "name"),
    [
        ({}, "s3://b"),
        ({"region": "eu-west-1"}, "s3://b"),
        ({"endpoint_url": "https://s3.eu-west-1.amazonaws.com/"}, "s3://b"),
        ({"endpoint_url": "https://bucket.vpce-1.s3.eu-west-1.vpce.amazonaws.com"}, "s3://b"),
        ({"region": "cn-north-1"}, "s3://b@aws-cn"),
        ({"region": "us-gov-west-1"}, "s3://b@aws-us-gov"),
        ({"endpoint_url": "https://Minio.Example.com:443/"}, "s3://b@minio.example.com"),
        ({"endpoint_url": "http://minio.example.com:80"}, "s3://b@minio.example.com"),
        ({"endpoint_url": "http://minio.example.com:443"}, "s3://b@minio.example.com:443"),
        ({"endpoint_url": "http://[::1]:9000/"}, "s3://b@[::1]:9000"),
        ({"endpoint_url": "https://x.example.com/storage/v1/S3/"}, "s3://b@x.example.com/storage/v1/S3"),
        ({"endpoint_url": "https://amazonaws.com.example.com"}, "s3://b@amazonaws.com.example.com"),
    ],
)
def test_all_spellings_of_a_bucket_have_one_name(more: dict[str, Any], name: str) -> None:
    assert settings_of("b", **more).store_name == name


@pytest.mark.parametrize(
    "endpoint",
    [
        "https://host:abc",
        "https://host:99999",
        "http://host:0",
        "http://[::1",
        "https://s3.amazonaws.com:abc",
    ],
)
def test_an_endpoint_without_a_valid_port_is_a_mistake_in_the_configuration(endpoint: str) -> None:
    with pytest.raises(ValidationError, match=r"endpoint_url\n.*port from 1 to 65535"):
        settings_of("b", endpoint_url=endpoint)


def test_nothing_heavy_is_loaded_before_the_first_put() -> None:
    code = (
        "import sys; from exporter.destinations.s3.settings import S3Settings;"
        "from exporter.network.guard import Guard; S3Settings(type='s3', bucket='b').open(Guard());"
        "assert not {'boto3', 'botocore'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# --- What it needs --------------------------------------------------------------------------------

CREATE_ONLY = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Action": "s3:PutObject", "Resource": "arn:aws:s3:::customer/vendor/*"},
        {"Effect": "Deny", "NotAction": "s3:PutObject", "Resource": "*"},
    ],
}


def test_the_right_to_create_objects_is_enough(tmp_path: Path) -> None:
    """With s3:PutObject on the prefix alone, deliveries, both ways, and `check` work; listing does not."""
    with moto_server() as moto, proxy_before(moto.url) as proxy:
        moto.s3().create_bucket(Bucket="customer")
        moto.iam().create_user(UserName="writer")
        moto.iam().put_user_policy(
            UserName="writer", PolicyName="create-only", PolicyDocument=json.dumps(CREATE_ONLY)
        )
        key = moto.iam().create_access_key(UserName="writer")["AccessKey"]
        keys = {"access_key_id": key["AccessKeyId"], "secret_access_key": key["SecretAccessKey"]}
        place = {"region": REGION, "endpoint_url": proxy.url, "path_style": True}
        store = S3Store(settings_of("customer", **place, **keys), LOOPBACK, limits=IN_PARTS)
        with moto.enforcing_permissions():
            put(store, tmp_path)
            store.put(package_of(tmp_path, LARGE, "vendor/audit/acme/large"), ignore)
            with pytest.raises(ObjectExists):
                store.put(package_of(tmp_path, LARGE[::-1], "vendor/audit/acme/large"), ignore)
            finding, *_ = store.check("vendor/.audit-exporter-check/1")
            with store._access.client() as client, pytest.raises(boto.ClientError, match="AccessDenied"):
                client.list_objects_v2(Bucket="customer")
            with pytest.raises(Refused) as caught:
                store.put(package_of(tmp_path, b"x", "elsewhere/audit/acme/x"), ignore)
    assert finding.level == "ok"
    assert "s3:PutObject on arn:aws:s3:::customer/elsewhere/*" in caught.value.hint


# --- Parts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault", [s3_error(500, "InternalError"), s3_error(503, "SlowDown"), LOSE_ANSWER, LOSE_REQUEST]
)
def test_a_part_is_tried_again(
    fault: Fault, settings: S3Settings, proxy: Proxy, moto: Moto, tmp_path: Path
) -> None:
    failures = iter([fault] * (s3.PART_TRIES - 1))
    proxy.script = lambda request: next(failures, None) if is_part(request) else None
    put(store_of(settings), tmp_path, LARGE)
    assert moto.s3().get_object(Bucket=settings.bucket, Key=NAME)["Body"].read() == LARGE
    assert sum(map(is_completion, proxy.seen)) == 1


def test_a_part_that_is_tried_again_writes_into_no_report(
    settings: S3Settings, proxy: Proxy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import_module("exporter.wiring")  # which every command has loaded
    failures = iter([s3_error(500, "InternalError")])
    proxy.script = lambda request: next(failures, None) if is_part(request) else None
    put(store_of(settings), tmp_path, LARGE)
    assert capsys.readouterr() == ("", "")


def test_a_part_that_keeps_failing_ends_the_attempt_and_nothing_can_land(
    settings: S3Settings, proxy: Proxy, moto: Moto, tmp_path: Path
) -> None:
    proxy.script = answering(s3_error(500, "InternalError"), is_part)
    error = failed_put(store_of(settings), tmp_path, LARGE)
    assert isinstance(error, NotSent)
    assert "broke off" in error.message
    assert sum(map(is_part, proxy.seen)) == s3.PART_TRIES
    assert not any(map(is_completion, proxy.seen))
    assert "Uploads" not in moto.s3().list_multipart_uploads(Bucket=settings.bucket)


def test_a_refused_part_is_not_tried_again(settings: S3Settings, proxy: Proxy, tmp_path: Path) -> None:
    proxy.script = answering(s3_error(403, "AccessDenied"), is_part)
    assert isinstance(failed_put(store_of(settings), tmp_path, LARGE), Refused)
    assert sum(map(is_part, proxy.seen)) == 1


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (s3_error(500, "InternalError"), NotSent),
        (LOSE_ANSWER, NotSent),
        (s3_error(404, "NoSuchBucket"), Refused),
    ],
)
def test_a_large_upload_that_does_not_begin_cannot_land(
    fault: Fault, kind: type[DeliveryError], settings: S3Settings, proxy: Proxy, tmp_path: Path
) -> None:
    proxy.script = answering(fault)
    assert type(failed_put(store_of(settings), tmp_path, LARGE)) is kind
    assert len(proxy.seen) == 1


def embedded(code: str) -> Fault:
    """A 200 whose body is an error, as S3 answers when a completion fails late."""
    return replace(s3_error(200, code), cut=False)


@pytest.mark.parametrize(
    ("fault", "kind", "aborted"),
    [
        (s3_error(412, "PreconditionFailed"), ObjectExists, True),
        (embedded("PreconditionFailed"), ObjectExists, True),
        (s3_error(403, "AccessDenied"), Refused, True),
        (s3_error(409, "ConditionalRequestConflict"), OutcomeUnknown, False),
        (s3_error(500, "InternalError"), OutcomeUnknown, False),
        (embedded("InternalError"), OutcomeUnknown, False),
        (LOSE_REQUEST, OutcomeUnknown, False),
        (LOSE_ANSWER, OutcomeUnknown, False),
    ],
)
def test_a_completion_is_sent_once_and_its_parts_go_only_when_it_cannot_land(
    fault: Fault,
    kind: type[DeliveryError],
    *,
    aborted: bool,
    settings: S3Settings,
    proxy: Proxy,
    tmp_path: Path,
) -> None:
    proxy.script = answering(fault, is_completion)
    assert type(failed_put(store_of(settings), tmp_path, LARGE)) is kind
    assert sum(map(is_completion, proxy.seen)) == 1
    assert any(seen.method == "DELETE" for seen in proxy.seen) is aborted


def test_a_denied_abort_does_not_hide_why_the_upload_failed(
    settings: S3Settings, proxy: Proxy, tmp_path: Path
) -> None:
    def script(request: Request) -> Fault | None:
        if request.method == "DELETE":
            return s3_error(403, "AccessDenied")
        return s3_error(412, "PreconditionFailed") if is_completion(request) else None

    proxy.script = script
    assert isinstance(failed_put(store_of(settings), tmp_path, LARGE), ObjectExists)
    assert proxy.seen[-1].method == "DELETE"


def test_a_large_archive_that_changed_in_the_workspace_is_not_completed(
    settings: S3Settings, proxy: Proxy, tmp_path: Path
) -> None:
    package = package_of(tmp_path, LARGE)
    file_of(package).write_bytes(LARGE[::-1])
    with pytest.raises(NotSent, match="changed in the workspace"):
        store_of(settings).put(package, ignore)
    assert not any(map(is_completion, proxy.seen))
