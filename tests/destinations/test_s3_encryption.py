"""What the S3 driver asks of a bucket for an object, and what it makes of an answer that says otherwise."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
import stamina
from pydantic import ValidationError

from exporter.destinations.s3 import store as s3
from exporter.errors import DeliveryError, NotSent, ObjectExists, OutcomeUnknown, Refused
from tests.contracts.object_store import NAME
from tests.kit.proxy import Answer, Fault, Proxy, Request, proxy_before
from tests.kit.s3_stores import (
    KEY_ARN,
    LARGE,
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
from tests.kit.servers import shared_moto

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from exporter.destinations.s3.settings import S3Settings

OWNER = "111122223333"
OTHER_KEY = "arn:aws:kms:us-east-1:111122223333:key/beef"
SSE = "x-amz-server-side-encryption"
KEY = "x-amz-server-side-encryption-aws-kms-key-id"
CHECKSUM = "x-amz-checksum-sha256"


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


def is_begin(request: Request) -> bool:
    return request.method == "POST" and request.path.endswith("?uploads")


def stored_but(headers: Mapping[str, str]) -> Fault:
    """The object lands, and the answer has these headers besides an ETag, and no others."""
    return Fault(answer=Answer(200, headers={"ETag": '"1"'} | dict(headers)))


def completed_but(checksum: str) -> Fault:
    """The object lands, and the answer has this checksum, and an empty ETag, as Ceph's."""
    body = (
        "<CompleteMultipartUploadResult><Location>l</Location><ETag></ETag>"
        f"<ChecksumSHA256>{checksum}</ChecksumSHA256></CompleteMultipartUploadResult>"
    )
    return Fault(answer=Answer(200, body.encode()))


def of_parts(*parts: bytes) -> str:
    """What S3 makes of the checksums of parts."""
    return sha256_base64(b"".join(hashlib.sha256(part).digest() for part in parts))


# --- What is asked for ----------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"small", LARGE], ids=["at once", "in parts"])
@pytest.mark.parametrize(
    ("more", "headers"),
    [
        ({"encryption": "sse-s3"}, {SSE: "AES256"}),
        ({"encryption": "sse-kms"}, {SSE: "aws:kms", f"{SSE}-bucket-key-enabled": "true"}),
        ({"kms_key": KEY_ARN}, {SSE: "aws:kms", KEY: KEY_ARN, f"{SSE}-bucket-key-enabled": "true"}),
        ({"storage_class": "STANDARD_IA"}, {"x-amz-storage-class": "STANDARD_IA"}),
        ({"acl": "bucket-owner-full-control"}, {"x-amz-acl": "bucket-owner-full-control"}),
    ],
    ids=["sse-s3", "sse-kms", "own key", "class", "acl"],
)
def test_an_object_is_created_with_what_the_configuration_asks_for_and_nothing_else(
    more: dict[str, str],
    headers: dict[str, str],
    data: bytes,
    settings: S3Settings,
    proxy: Proxy,
    tmp_path: Path,
) -> None:
    put(store_of(with_(settings, **more)), tmp_path, data)
    creating = proxy.seen[0].headers
    wanted = ("x-amz-server-side", "x-amz-storage", "x-amz-acl", "x-amz-grant")
    assert {name: value for name, value in creating.items() if name.startswith(wanted)} == headers


@pytest.mark.parametrize("data", [b"small", LARGE], ids=["at once", "in parts"])
def test_every_request_says_who_must_own_the_bucket(
    data: bytes, settings: S3Settings, proxy: Proxy, tmp_path: Path
) -> None:
    put(store_of(with_(settings, bucket_owner=OWNER)), tmp_path, data)
    failed_put(store_of(with_(settings, bucket_owner=OWNER)), tmp_path, data)
    assert (proxy.seen[-1].method == "DELETE") is (data is LARGE)  # the parts of the second
    assert {seen.headers.get("x-amz-expected-bucket-owner") for seen in proxy.seen} == {OWNER}


@pytest.mark.parametrize("data", [b"small", LARGE], ids=["at once", "in parts"])
def test_a_bucket_that_locks_objects_takes_them_with_their_checksum(
    data: bytes, settings: S3Settings, proxy: Proxy, tmp_path: Path
) -> None:
    client, bucket = shared_moto().s3(), f"{settings.bucket}-locked"
    client.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
    client.put_object_lock_configuration(
        Bucket=bucket,
        ObjectLockConfiguration={
            "ObjectLockEnabled": "Enabled",
            "Rule": {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 30}},
        },
    )
    store = store_of(with_(settings, bucket=bucket))
    put(store, tmp_path, data)
    assert isinstance(failed_put(store, tmp_path, data[::-1]), ObjectExists)
    bodies = [seen for seen in proxy.seen if seen.method == "PUT"]
    assert all(seen.headers[CHECKSUM] == sha256_base64(seen.body) for seen in bodies)
    kept = client.head_object(Bucket=bucket, Key=NAME)
    if data is not LARGE:  # moto gives the bucket's retention to objects that were put at once alone
        assert kept["ObjectLockMode"] == "COMPLIANCE"
        assert kept["ObjectLockRetainUntilDate"] > datetime.now(UTC)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"kms_key": KEY_ARN, "encryption": "sse-s3"}, "`encryption: sse-s3`, which uses none"),
        ({"kms_key": "0d9f"}, "the full ARN of the key"),
        ({"kms_key": "alias/audit"}, "the full ARN of the key"),
        ({"kms_key": "arn:aws:kms:us-east-1:111122223333:alias/audit"}, "the full ARN of the key"),
        ({"kms_key": KEY_ARN, "region": "eu-west-1"}, "of us-east-1 for a bucket of eu-west-1"),
        ({"encryption": "aws:kms"}, "Input should be 'sse-s3' or 'sse-kms'"),
        ({"acl": "public-read"}, "Input should be 'bucket-owner-full-control'"),
        ({"bucket_owner": "12345"}, "12 digits"),
    ],
)
def test_mistakes_about_encryption_and_owner_are_told_in_words(more: dict[str, str], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        settings_of("b", **more)


def test_a_store_other_than_amazon_s_names_its_keys_as_it_likes() -> None:
    settings = settings_of("b", endpoint_url="https://minio.example.com", kms_key="my-key")
    assert (settings.sse, settings.kms_key) == ("aws:kms", "my-key")


# --- What is answered -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "answered", "message"),
    [
        ({}, {CHECKSUM: sha256_base64(b"other")}, "holds something else than what was sent"),
        ({"encryption": "sse-s3"}, {}, "answers sse-s3 with nothing that it tells of"),
        ({"encryption": "sse-kms"}, {SSE: "AES256"}, "answers sse-kms with AES256"),
        ({"kms_key": KEY_ARN}, {SSE: "aws:kms", KEY: OTHER_KEY}, f"sse-kms with aws:kms {OTHER_KEY}"),
    ],
    ids=["checksum", "no encryption", "another encryption", "another key"],
)
def test_an_answer_that_contradicts_is_refused_so_that_the_next_attempt_finds_a_foreign_object(
    more: dict[str, str],
    answered: dict[str, str],
    message: str,
    settings: S3Settings,
    proxy: Proxy,
    tmp_path: Path,
) -> None:
    store = store_of(with_(settings, **more))
    proxy.script = answering(stored_but(answered))
    error = failed_put(store, tmp_path)
    assert isinstance(error, Refused)
    assert message in error.message
    assert NAME in error.hint
    proxy.script = lambda _request: None
    assert isinstance(failed_put(store, tmp_path), ObjectExists)


@pytest.mark.parametrize(
    ("more", "answered"),
    [
        ({}, {}),
        ({}, {CHECKSUM: sha256_base64(b"PK...")}),
        ({}, {SSE: "aws:kms", KEY: OTHER_KEY}),  # the bucket's own default
        ({"encryption": "sse-kms"}, {SSE: "aws:kms", KEY: OTHER_KEY}),  # no key was named
        ({"kms_key": KEY_ARN}, {SSE: "aws:kms", KEY: KEY_ARN}),
        ({"kms_key": "my-key"}, {SSE: "aws:kms", KEY: "arn:aws:kms:my-key"}),
        ({"kms_key": "arn:aws:kms:my-key"}, {SSE: "aws:kms", KEY: "my-key"}),
        ({"kms_key": "my-key"}, {SSE: "aws:kms"}),
    ],
)
def test_an_answer_that_agrees_or_says_nothing_is_a_delivery(
    more: dict[str, str], answered: dict[str, str], settings: S3Settings, proxy: Proxy, tmp_path: Path
) -> None:
    proxy.script = answering(stored_but(answered))
    put(store_of(with_(settings, **more)), tmp_path)


def test_a_large_object_that_would_not_be_encrypted_as_asked_is_not_even_begun(
    settings: S3Settings, proxy: Proxy, tmp_path: Path
) -> None:
    without = frozenset({SSE, KEY})
    proxy.script = answering(Fault(without=without), is_begin)
    error = failed_put(store_of(with_(settings, kms_key=KEY_ARN)), tmp_path, LARGE)
    assert isinstance(error, Refused)
    assert "does not encrypt" in error.message
    assert [seen.method for seen in proxy.seen] == ["POST", "DELETE"]


PARTS = (LARGE[: 5 * MIB], LARGE[5 * MIB :])


@pytest.mark.parametrize("checksum", [f"{of_parts(*PARTS)}-2", of_parts(*PARTS), sha256_base64(LARGE), ""])
def test_a_completion_may_say_the_checksum_of_the_parts_or_of_the_whole(
    checksum: str, settings: S3Settings, proxy: Proxy, tmp_path: Path
) -> None:
    proxy.script = answering(completed_but(checksum), is_completion)
    put(store_of(settings), tmp_path, LARGE)


@pytest.mark.parametrize("checksum", [f"{of_parts(*reversed(PARTS))}-2", f"{of_parts(*PARTS)}-3"])
def test_a_completion_that_says_another_checksum_is_refused(
    checksum: str, settings: S3Settings, proxy: Proxy, tmp_path: Path
) -> None:
    proxy.script = answering(completed_but(checksum), is_completion)
    error = failed_put(store_of(settings), tmp_path, LARGE)
    assert isinstance(error, Refused)
    assert "holds something else" in error.message


def test_a_part_that_arrived_otherwise_is_sent_again(
    settings: S3Settings, proxy: Proxy, tmp_path: Path
) -> None:
    faults = iter([stored_but({CHECKSUM: sha256_base64(b"other")})])
    proxy.script = lambda request: next(faults, None) if is_part(request) else None
    put(store_of(settings), tmp_path, LARGE)
    assert [("partNumber=1" in seen.path) for seen in proxy.seen if is_part(seen)] == [True, True, False]
    assert shared_moto().s3().get_object(Bucket=settings.bucket, Key=NAME)["Body"].read() == LARGE


@pytest.mark.parametrize(
    ("data", "at", "kind"),
    [
        (b"small", lambda _request: True, OutcomeUnknown),
        (LARGE, is_begin, NotSent),
        (LARGE, is_part, NotSent),
        (LARGE, is_completion, OutcomeUnknown),
    ],
    ids=["put", "begin", "part", "completion"],
)
@pytest.mark.parametrize("body", [b"", b"<html>Welcome</html>"], ids=["nothing", "a page"])
def test_a_success_that_is_not_s3_s_is_none(
    body: bytes,
    data: bytes,
    at: Callable[[Request], bool],
    kind: type[DeliveryError],
    settings: S3Settings,
    proxy: Proxy,
    tmp_path: Path,
) -> None:
    """A box on the way that answers 200 to everything must not count as a store."""
    proxy.script = answering(Fault(forward=False, answer=Answer(200, body)), at)
    assert type(failed_put(store_of(settings), tmp_path, data)) is kind
