"""The S3 driver on a real HTTP server: what it sends, what it needs, and what it makes of every answer."""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import ssl
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from threading import Event
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import botocore.exceptions as boto
import pytest
import stamina
from botocore.httpsession import URLLib3Session
from botocore.parsers import ResponseParserError

from exporter.destinations import s3, s3_access
from exporter.destinations.s3 import S3Limits, S3Options, S3Secrets, S3Store
from exporter.errors import ConfigError, DeliveryError, NotSent, ObjectExists, OutcomeUnknown, Refused
from tests.contracts.object_store import NAME, ignore, package_of
from tests.proxy import (
    CUT_BEFORE_BODY,
    LOSE_ANSWER,
    LOSE_REQUEST,
    Answer,
    Fault,
    Proxy,
    Request,
    proxy_before,
    s3_error,
)
from tests.servers import (
    ACCESS_KEY_ID,
    REGION,
    SECRET_ACCESS_KEY,
    Moto,
    moto_server,
    new_certificate,
    shared_moto,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Script = Callable[[Request], Fault | None]

MIB = 1 << 20
KEYS = S3Secrets(ACCESS_KEY_ID, SECRET_ACCESS_KEY)
IN_PARTS = S3Limits(multipart_bytes=6 * MIB, part_bytes=5 * MIB)
LARGE = hashlib.shake_256(b"large").digest(6 * MIB + 1)
KEY_ARN = "arn:aws:kms:us-east-1:111122223333:key/0d9f"
ROLE_ARN = "arn:aws:iam::123456789012:role/customer"
CANARY = "canary+secret/value="


@pytest.fixture
def moto() -> Moto:
    return shared_moto()


@pytest.fixture
def bucket(moto: Moto) -> str:
    return moto.new_bucket()


@pytest.fixture
def proxy(moto: Moto) -> Iterator[Proxy]:
    with proxy_before(moto.url) as running:
        yield running


@pytest.fixture
def options(bucket: str, proxy: Proxy) -> S3Options:
    return S3Options(bucket, REGION, proxy.url, path_style=True)


@pytest.fixture(autouse=True)
def no_waiting() -> Iterator[None]:
    """Tries of parts follow each other at once."""
    with stamina.set_testing(True, attempts=s3.PART_TRIES):
        yield


@pytest.fixture
def fresh_session() -> Iterator[None]:
    """The machine's own credentials and settings are read anew."""
    s3_access.session.cache_clear()
    yield
    s3_access.session.cache_clear()


def store_of(options: S3Options, secrets: S3Secrets = KEYS, limits: S3Limits = IN_PARTS) -> S3Store:
    return S3Store(options, lambda: secrets, limits=limits)


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


def answering(fault: Fault, match: Callable[[Request], bool] = lambda _request: True) -> Script:
    return lambda request: fault if match(request) else None


def sha256_base64(data: bytes) -> str:
    return base64.b64encode(hashlib.sha256(data).digest()).decode()


# --- What it sends -------------------------------------------------------------------------------


def test_a_put_is_one_conditional_request_with_a_checksum(
    options: S3Options, proxy: Proxy, moto: Moto, tmp_path: Path
) -> None:
    receipt = store_of(options).put(package_of(tmp_path, b"PK..."), ignore)
    (request,) = proxy.seen
    assert (request.method, request.path) == ("PUT", f"/{options.bucket}/{NAME}")
    assert request.headers["if-none-match"] == "*"
    assert request.headers["x-amz-checksum-sha256"] == sha256_base64(b"PK...")
    assert request.headers["content-type"] == "application/zip"
    assert request.headers["x-amz-meta-plan"] == "p1"
    assert "x-amz-server-side-encryption" not in request.headers
    stored = moto.s3().head_object(Bucket=options.bucket, Key=NAME, ChecksumMode="ENABLED")
    assert stored["ChecksumSHA256"] == sha256_base64(b"PK...")
    assert stored["Metadata"] == {"plan": "p1"}
    assert stored["ETag"].strip('"') == receipt.etag


def test_a_versioned_bucket_names_the_version(options: S3Options, moto: Moto, tmp_path: Path) -> None:
    moto.s3().put_bucket_versioning(Bucket=options.bucket, VersioningConfiguration={"Status": "Enabled"})
    receipt = store_of(options).put(package_of(tmp_path, b"x"), ignore)
    assert receipt.version == moto.s3().head_object(Bucket=options.bucket, Key=NAME)["VersionId"]


def test_a_large_object_goes_in_parts_and_only_its_completion_is_conditional(
    options: S3Options, proxy: Proxy, moto: Moto, tmp_path: Path
) -> None:
    put(store_of(options), tmp_path, LARGE)
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
    assert moto.s3().get_object(Bucket=options.bucket, Key=NAME)["Body"].read() == LARGE


def test_the_threshold_is_64_mib_in_parts_of_16() -> None:
    assert (S3Limits().multipart_bytes, S3Limits().part_bytes) == (64 * MIB, 16 * MIB)


@pytest.mark.parametrize("size", [6 * MIB - 1, 6 * MIB])
def test_parts_begin_at_the_threshold(size: int, options: S3Options, proxy: Proxy, tmp_path: Path) -> None:
    put(store_of(options), tmp_path, LARGE[:size])
    assert any(map(is_part, proxy.seen)) is (size == 6 * MIB)


@pytest.mark.parametrize("data", [b"small", LARGE], ids=["at once", "in parts"])
def test_a_kms_key_goes_with_every_object(
    data: bytes, options: S3Options, proxy: Proxy, tmp_path: Path
) -> None:
    put(store_of(replace(options, kms_key=KEY_ARN)), tmp_path, data)
    headers = proxy.seen[0].headers
    assert headers["x-amz-server-side-encryption"] == "aws:kms"
    assert headers["x-amz-server-side-encryption-aws-kms-key-id"] == KEY_ARN
    assert headers["x-amz-server-side-encryption-bucket-key-enabled"] == "true"


def test_the_bucket_is_in_the_host_name_unless_path_style_is_asked_for(
    options: S3Options, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve = socket.getaddrinfo
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda _host, *args, **more: resolve("127.0.0.1", *args, **more)
    )
    endpoint = proxy.url.replace("127.0.0.1", "s3.example.com")
    proxy.script = answering(Fault(forward=False, answer=Answer(200)))
    for path_style in (False, True):
        put(store_of(replace(options, endpoint_url=endpoint, path_style=path_style)), tmp_path)
    host = endpoint.removeprefix("http://")
    assert [(seen.headers["host"], seen.path) for seen in proxy.seen] == [
        (f"{options.bucket}.{host}", f"/{NAME}"),
        (host, f"/{options.bucket}/{NAME}"),
    ]


def test_tls_trusts_the_given_authority_and_sends_no_trailing_checksum(
    options: S3Options, moto: Moto, tmp_path: Path
) -> None:
    authority, tls = new_certificate(tmp_path)
    with proxy_before(moto.url, tls=tls) as proxy:
        put(store_of(replace(options, endpoint_url=proxy.url, ca_file=authority)), tmp_path)
        headers = proxy.seen[0].headers
        error = failed_put(store_of(replace(options, endpoint_url=proxy.url)), tmp_path)
    assert not {"x-amz-trailer", "transfer-encoding", "content-encoding"} & set(headers)
    assert headers["x-amz-checksum-sha256"] == sha256_base64(b"PK...")
    assert isinstance(error, NotSent)
    assert "ca_file" in error.hint
    assert len(proxy.seen) == 1


@pytest.mark.usefixtures("fresh_session")
def test_an_endpoint_from_the_environment_is_not_another_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    client = store_of(S3Options("b", "eu-west-1"))._access.client()
    assert client.meta.endpoint_url == "https://s3.eu-west-1.amazonaws.com"


def test_checksums_are_the_ones_given_and_no_others() -> None:
    config = store_of(S3Options("b"))._access.client().meta.config
    assert getattr(config, "request_checksum_calculation", None) == "when_required"


def test_progress_counts_bytes_on_the_wire_once_although_they_are_read_to_be_signed_and_sent_again(
    options: S3Options, proxy: Proxy, tmp_path: Path
) -> None:
    failures = iter([s3_error(500, "InternalError")])
    proxy.script = lambda request: next(failures, None) if is_part(request) else None
    sent: list[int] = []
    store_of(options).put(package_of(tmp_path, LARGE), sent.append)
    assert sum(sent) == len(LARGE)
    assert len(sent) > 10


@pytest.mark.parametrize(
    ("settings", "name"),
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
def test_all_spellings_of_a_bucket_have_one_name(settings: dict[str, Any], name: str) -> None:
    assert S3Store(S3Options("b", **settings)).name == name


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
    with pytest.raises(ConfigError, match="endpoint_url of bucket 'b'") as caught:
        S3Store(S3Options("b", endpoint_url=endpoint))
    assert "port from 1 to 65535" in caught.value.hint


def test_nothing_heavy_is_loaded_before_the_first_put() -> None:
    code = (
        "import sys; from exporter.destinations.s3 import S3Options, S3Store; S3Store(S3Options('b'));"
        "assert not {'boto3', 'botocore'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# --- Who asks ------------------------------------------------------------------------------------


def test_secrets_are_read_again_for_every_put(options: S3Options, proxy: Proxy, tmp_path: Path) -> None:
    handed_out = iter(["AKIAFIRST", "AKIASECOND", "AKIASECOND"])
    store = S3Store(options, lambda: S3Secrets(next(handed_out), SECRET_ACCESS_KEY, "token-1"))
    for number in range(3):
        store.put(package_of(tmp_path, b"x", f"audit/{number}"), ignore)
    assert [seen.headers["authorization"].split("=")[1].split("/")[0] for seen in proxy.seen] == [
        "AKIAFIRST",
        "AKIASECOND",
        "AKIASECOND",
    ]
    assert {seen.headers["x-amz-security-token"] for seen in proxy.seen} == {"token-1"}


def test_a_client_is_used_again_as_long_as_its_credentials_are_the_same(options: S3Options) -> None:
    store = store_of(options)
    assert store._access.client() is store._access.client()


def test_a_secret_that_cannot_be_read_is_a_failure_of_this_attempt(
    options: S3Options, tmp_path: Path
) -> None:
    def unreadable() -> S3Secrets:
        raise ConfigError("no file /secrets/key", hint="mount it")

    error = failed_put(S3Store(options, unreadable), tmp_path)
    assert isinstance(error, NotSent)
    assert (error.message, error.hint) == ("no file /secrets/key", "mount it")


@pytest.mark.usefixtures("fresh_session")
def test_without_keys_the_machine_s_own_credentials_are_used(
    options: S3Options, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAMACHINE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    put(store_of(options, S3Secrets()), tmp_path)
    assert "AKIAMACHINE" in proxy.seen[0].headers["authorization"]


@pytest.mark.usefixtures("fresh_session")
def test_a_machine_without_credentials_sends_nothing(
    options: S3Options, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    error = failed_put(store_of(options, S3Secrets()), tmp_path)
    assert isinstance(error, NotSent)
    assert "access_key_id" in error.hint
    assert proxy.seen == []


def sts_form(request: Request) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(request.body.decode()).items()}


def test_a_role_is_assumed_with_the_external_id_and_kept_until_near_its_expiry(
    options: S3Options, proxy: Proxy, tmp_path: Path
) -> None:
    times = iter([timedelta(0), timedelta(minutes=54), timedelta(minutes=56)])
    clock = [datetime.now(UTC)]
    store = S3Store(
        replace(options, role_arn=ROLE_ARN),
        lambda: replace(KEYS, external_id="customer-17"),
        now=lambda: clock[0],
    )
    begun = clock[0]
    for number, passed in enumerate(times):
        clock[0] = begun + passed
        store.put(package_of(tmp_path, b"x", f"audit/{number}"), ignore)
    first, put_0, put_1, second, put_2 = proxy.seen
    for asked in (first, second):
        form = sts_form(asked)
        assert form["Action"] == "AssumeRole"
        assert form["RoleArn"] == ROLE_ARN
        assert form["ExternalId"] == "customer-17"
        assert form["RoleSessionName"] == "audit-exporter"
        assert ACCESS_KEY_ID in asked.headers["authorization"]
    tokens = [seen.headers["x-amz-security-token"] for seen in (put_0, put_1, put_2)]
    assert tokens[0] == tokens[1] != tokens[2]
    assert all(ACCESS_KEY_ID not in seen.headers["authorization"] for seen in (put_0, put_1, put_2))


def test_a_new_external_id_is_used_at_once(options: S3Options, proxy: Proxy, tmp_path: Path) -> None:
    ids = iter(["customer-1", "customer-2"])
    store = S3Store(replace(options, role_arn=ROLE_ARN), lambda: replace(KEYS, external_id=next(ids)))
    for number in range(2):
        store.put(package_of(tmp_path, b"x", f"audit/{number}"), ignore)
    assert [sts_form(seen)["ExternalId"] for seen in proxy.seen if seen.method == "POST"] == [
        "customer-1",
        "customer-2",
    ]


@pytest.mark.parametrize("external_id", [None, CANARY])
def test_a_role_that_cannot_be_assumed_is_not_sent_and_the_hint_says_what_to_change(
    external_id: str | None, options: S3Options, proxy: Proxy, tmp_path: Path
) -> None:
    body = (
        "<ErrorResponse><Error><Code>AccessDenied</Code><Message>not authorized to perform: sts:AssumeRole"
        f" with '{CANARY}'</Message></Error></ErrorResponse>"
    ).encode()
    proxy.script = answering(Fault(forward=False, answer=Answer(403, body)))
    store = store_of(replace(options, role_arn=ROLE_ARN), replace(KEYS, external_id=external_id))
    error = failed_put(store, tmp_path)
    assert isinstance(error, NotSent)
    assert "AccessDenied" in error.message
    assert ROLE_ARN in error.hint
    assert ("external id of this export" if external_id else "set external_id") in error.hint
    assert (CANARY in error.message) is (external_id is None)


@pytest.mark.parametrize("fault", [LOSE_ANSWER, Fault(forward=False, answer=Answer(500))])
def test_an_sts_that_breaks_off_is_not_sent(
    fault: Fault, options: S3Options, proxy: Proxy, tmp_path: Path
) -> None:
    proxy.script = answering(fault)
    error = failed_put(store_of(replace(options, role_arn=ROLE_ARN)), tmp_path)
    assert isinstance(error, NotSent)
    assert len(proxy.seen) == 1


def test_amazon_s_sts_is_not_at_a_private_endpoint_for_s3() -> None:
    store = S3Store(S3Options("b", "eu-west-1", "https://bucket.vpce-1.s3.eu-west-1.vpce.amazonaws.com"))
    sts = store._access._connect("sts", s3_access.Keys("a", "b", None))
    assert sts.meta.endpoint_url == "https://sts.eu-west-1.amazonaws.com"


# --- What it needs -------------------------------------------------------------------------------

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
        secrets = S3Secrets(key["AccessKeyId"], key["SecretAccessKey"])
        store = store_of(S3Options("customer", REGION, proxy.url, path_style=True), secrets)
        with moto.enforcing_permissions():
            put(store, tmp_path)
            store.put(package_of(tmp_path, LARGE, "vendor/audit/large"), ignore)
            with pytest.raises(ObjectExists):
                store.put(package_of(tmp_path, LARGE[::-1], "vendor/audit/large"), ignore)
            (finding,) = store.check("vendor/.audit-exporter-check/1")
            with pytest.raises(boto.ClientError, match="AccessDenied"):
                store._access.client().list_objects_v2(Bucket="customer")
            with pytest.raises(Refused) as caught:
                store.put(package_of(tmp_path, b"x", "elsewhere/audit/x"), ignore)
    assert finding.level == "ok"
    assert "s3:PutObject on arn:aws:s3:::customer/elsewhere/*" in caught.value.hint


# --- What answers mean ---------------------------------------------------------------------------

ANSWERS = [
    (412, "PreconditionFailed", ObjectExists, ""),
    (412, "", ObjectExists, ""),
    (409, "ConditionalRequestConflict", OutcomeUnknown, ""),
    (409, "OperationAborted", OutcomeUnknown, ""),
    (408, "RequestTimeout", OutcomeUnknown, ""),
    (400, "RequestTimeout", OutcomeUnknown, ""),
    (500, "InternalError", OutcomeUnknown, ""),
    (502, "", OutcomeUnknown, ""),
    (503, "SlowDown", OutcomeUnknown, "fewer requests"),
    (503, "ServiceUnavailable", OutcomeUnknown, ""),
    (501, "NotImplemented", OutcomeUnknown, "If-None-Match"),
    (403, "AccessDenied", Refused, "grant s3:PutObject on arn:aws:s3:::{bucket}/vendor/*"),
    (404, "NoSuchBucket", Refused, "create the bucket {bucket}"),
    (403, "InvalidAccessKeyId", Refused, "access_key_id"),
    (403, "SignatureDoesNotMatch", Refused, "secret_access_key"),
    (400, "ExpiredToken", Refused, "session_token"),
    (400, "InvalidToken", Refused, "session_token"),
    (
        400,
        "KMS.DisabledException",
        Refused,
        f"kms:GenerateDataKey, and kms:Decrypt for large objects, on {KEY_ARN}",
    ),
    (400, "KMS.NotFoundException", Refused, "see that the key is enabled"),
    (400, "EntityTooLarge", Refused, "part_limit"),
    (403, "QuotaExceeded", Refused, "quota"),
    (400, "AccessControlListNotSupported", Refused, "ACL"),
    (403, "RequestTimeTooSkewed", Refused, "clock"),
    (400, "BadDigest", Refused, "bytes changed"),
    (400, "XAmzContentSHA256Mismatch", Refused, "bytes changed"),
    (429, "TooManyRequests", Refused, ""),
    (418, "SomethingNew", Refused, ""),
]


@pytest.mark.parametrize(("status", "code", "kind", "hint"), ANSWERS, ids=lambda value: str(value)[:32])
def test_every_answer_means_one_thing_and_is_asked_for_once(
    status: int,
    code: str,
    kind: type[DeliveryError],
    hint: str,
    options: S3Options,
    proxy: Proxy,
    tmp_path: Path,
) -> None:
    proxy.script = answering(s3_error(status, code) if code else Fault(forward=False, answer=Answer(status)))
    error = failed_put(store_of(replace(options, kms_key=KEY_ARN)), tmp_path)
    assert type(error) is kind
    assert NAME in error.message
    assert hint.format(bucket=options.bucket) in error.hint
    assert len(proxy.seen) == 1


def test_a_missing_right_to_a_key_is_told_from_a_missing_right_to_the_bucket(
    options: S3Options, proxy: Proxy, tmp_path: Path
) -> None:
    message = "User is not authorized to perform: kms:GenerateDataKey on this resource"
    proxy.script = answering(s3_error(403, "AccessDenied", message))
    error = failed_put(store_of(replace(options, kms_key=KEY_ARN)), tmp_path)
    assert error.hint.startswith("grant kms:GenerateDataKey")


@pytest.mark.parametrize(
    "fault",
    [
        s3_error(301, "PermanentRedirect", headers={"x-amz-bucket-region": "eu-central-1"}),
        s3_error(307, "TemporaryRedirect", headers={"x-amz-bucket-region": "eu-central-1"}),
        s3_error(400, "AuthorizationHeaderMalformed", extra="<Region>eu-central-1</Region>"),
        s3_error(400, "IllegalLocationConstraintException", headers={"x-amz-bucket-region": "eu-central-1"}),
    ],
    ids=["301", "307", "malformed", "location"],
)
def test_a_bucket_in_another_region_is_refused_with_that_region_and_not_asked_again(
    fault: Fault, options: S3Options, proxy: Proxy, tmp_path: Path
) -> None:
    proxy.script = answering(fault)
    error = failed_put(store_of(options), tmp_path)
    assert isinstance(error, Refused)
    assert error.hint == "set region: eu-central-1"
    assert len(proxy.seen) == 1


def test_an_error_without_a_message_still_says_its_code_and_request(
    options: S3Options, proxy: Proxy, tmp_path: Path
) -> None:
    proxy.script = answering(s3_error(403, "QuotaExceeded", None))
    error = failed_put(store_of(options), tmp_path)
    assert error.message == f"{store_of(options).name} refused {NAME}: QuotaExceeded (request REQ1)"


@pytest.mark.parametrize(
    ("fault", "landed"), [(CUT_BEFORE_BODY, False), (LOSE_REQUEST, False), (LOSE_ANSWER, True)]
)
def test_a_connection_that_breaks_after_it_was_made_leaves_the_outcome_open(
    fault: Fault, *, landed: bool, options: S3Options, proxy: Proxy, moto: Moto, tmp_path: Path
) -> None:
    proxy.script = answering(fault)
    assert isinstance(failed_put(store_of(options), tmp_path), OutcomeUnknown)
    assert len(proxy.seen) == 1
    assert ("Contents" in moto.s3().list_objects_v2(Bucket=options.bucket)) is landed


@pytest.mark.parametrize("body", [b"<html>Welcome</html>", b"not xml <"])
def test_an_error_that_is_not_s3_s_is_still_understood(
    body: bytes, options: S3Options, proxy: Proxy, tmp_path: Path
) -> None:
    proxy.script = answering(Fault(forward=False, answer=Answer(502, body)))
    assert isinstance(failed_put(store_of(options), tmp_path), OutcomeUnknown)


def test_an_answer_that_does_not_come_in_time_leaves_the_outcome_open(
    options: S3Options, proxy: Proxy, tmp_path: Path
) -> None:
    never = Event()
    proxy.script = answering(Fault(hold=never))
    error = failed_put(store_of(options, limits=S3Limits(answer_s=0.2)), tmp_path)
    never.set()
    assert isinstance(error, OutcomeUnknown)


def test_an_upload_that_crawls_is_ended(
    options: S3Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However steadily bytes trickle: signing takes no time here, and each block on the wire takes 9 s."""
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])

    def crawl(_sent_bytes: int) -> None:
        clock[0] += 9

    store = store_of(options, limits=S3Limits(slowest_bytes_per_s=1 << 20))
    with pytest.raises(OutcomeUnknown):
        store.put(package_of(tmp_path, LARGE), crawl)
    assert 60 < clock[0] < 90
    clock[0] = 0
    store.put(package_of(tmp_path, b"small"), crawl)


def test_a_port_where_nobody_listens_means_not_sent(options: S3Options, tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{unused.getsockname()[1]}"
        error = failed_put(store_of(replace(options, endpoint_url=endpoint)), tmp_path)
    assert isinstance(error, NotSent)
    assert "endpoint_url" in error.hint


def test_a_host_that_does_not_exist_means_not_sent(
    options: S3Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*_args: object, **_more: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    error = failed_put(store_of(replace(options, endpoint_url="http://nowhere.example.com")), tmp_path)
    assert isinstance(error, NotSent)


def test_an_endpoint_that_is_no_url_means_not_sent(options: S3Options, tmp_path: Path) -> None:
    error = failed_put(store_of(replace(options, endpoint_url="http://a b")), tmp_path)
    assert isinstance(error, NotSent)


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (boto.ConnectTimeoutError(endpoint_url="u"), NotSent),
        (boto.EndpointConnectionError(endpoint_url="u"), NotSent),
        (boto.ProxyConnectionError(proxy_url="u"), NotSent),
        (boto.NoCredentialsError(), NotSent),
        (boto.ParamValidationError(report="r"), NotSent),
        (boto.SSLError(endpoint_url="u", error=ssl.SSLError("CERTIFICATE_VERIFY_FAILED")), NotSent),
        (OSError(5, "Input/output error"), NotSent),
        (boto.SSLError(endpoint_url="u", error=ssl.SSLError("record layer failure")), OutcomeUnknown),
        (boto.ReadTimeoutError(endpoint_url="u"), OutcomeUnknown),
        (boto.ConnectionClosedError(endpoint_url="u"), OutcomeUnknown),
        (boto.ResponseStreamingError(error="e"), OutcomeUnknown),
        (boto.HTTPClientError(error="e"), OutcomeUnknown),
        (boto.IncompleteReadError(actual_bytes=1, expected_bytes=2), OutcomeUnknown),
        (boto.BotoCoreError(), OutcomeUnknown),
        (ResponseParserError("p"), OutcomeUnknown),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
def test_only_what_certainly_came_before_the_request_is_not_sent(
    failure: Exception,
    kind: type[DeliveryError],
    options: S3Options,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_args: object) -> None:
        raise failure

    monkeypatch.setattr(URLLib3Session, "send", fail)
    error = failed_put(store_of(options), tmp_path)
    assert type(error) is kind
    assert error.__cause__ is not None


# --- Parts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault", [s3_error(500, "InternalError"), s3_error(503, "SlowDown"), LOSE_ANSWER, LOSE_REQUEST]
)
def test_a_part_is_tried_again(
    fault: Fault, options: S3Options, proxy: Proxy, moto: Moto, tmp_path: Path
) -> None:
    failures = iter([fault] * (s3.PART_TRIES - 1))
    proxy.script = lambda request: next(failures, None) if is_part(request) else None
    put(store_of(options), tmp_path, LARGE)
    assert moto.s3().get_object(Bucket=options.bucket, Key=NAME)["Body"].read() == LARGE
    assert sum(map(is_completion, proxy.seen)) == 1


def test_a_part_that_keeps_failing_ends_the_attempt_and_nothing_can_land(
    options: S3Options, proxy: Proxy, moto: Moto, tmp_path: Path
) -> None:
    proxy.script = answering(s3_error(500, "InternalError"), is_part)
    error = failed_put(store_of(options), tmp_path, LARGE)
    assert isinstance(error, NotSent)
    assert "broke off" in error.message
    assert sum(map(is_part, proxy.seen)) == s3.PART_TRIES
    assert not any(map(is_completion, proxy.seen))
    assert "Uploads" not in moto.s3().list_multipart_uploads(Bucket=options.bucket)


def test_a_refused_part_is_not_tried_again(options: S3Options, proxy: Proxy, tmp_path: Path) -> None:
    proxy.script = answering(s3_error(403, "AccessDenied"), is_part)
    assert isinstance(failed_put(store_of(options), tmp_path, LARGE), Refused)
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
    fault: Fault, kind: type[DeliveryError], options: S3Options, proxy: Proxy, tmp_path: Path
) -> None:
    proxy.script = answering(fault)
    assert type(failed_put(store_of(options), tmp_path, LARGE)) is kind
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
    options: S3Options,
    proxy: Proxy,
    tmp_path: Path,
) -> None:
    proxy.script = answering(fault, is_completion)
    assert type(failed_put(store_of(options), tmp_path, LARGE)) is kind
    assert sum(map(is_completion, proxy.seen)) == 1
    assert any(seen.method == "DELETE" for seen in proxy.seen) is aborted


def test_a_denied_abort_does_not_hide_why_the_upload_failed(
    options: S3Options, proxy: Proxy, tmp_path: Path
) -> None:
    def script(request: Request) -> Fault | None:
        if request.method == "DELETE":
            return s3_error(403, "AccessDenied")
        return s3_error(412, "PreconditionFailed") if is_completion(request) else None

    proxy.script = script
    assert isinstance(failed_put(store_of(options), tmp_path, LARGE), ObjectExists)
    assert proxy.seen[-1].method == "DELETE"


def test_a_large_archive_that_changed_in_the_workspace_is_not_completed(
    options: S3Options, proxy: Proxy, tmp_path: Path
) -> None:
    package = package_of(tmp_path, LARGE)
    package.path.write_bytes(LARGE[::-1])
    with pytest.raises(NotSent, match="changed in the workspace"):
        store_of(options).put(package, ignore)
    assert not any(map(is_completion, proxy.seen))


# --- Secrets -------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["secret_access_key", "session_token", "external_id"])
def test_no_message_repeats_a_secret_that_the_store_sends_back(
    place: str, options: S3Options, proxy: Proxy, tmp_path: Path
) -> None:
    proxy.script = answering(s3_error(403, "SignatureDoesNotMatch", f"you sent {CANARY}"))
    secrets = replace(KEYS, **{place: CANARY})
    error = failed_put(store_of(options, secrets), tmp_path)
    assert "you sent ***" in error.message
    assert CANARY not in f"{error.message}{error.hint}{secrets!r}"


def test_no_message_repeats_a_token_that_no_header_can_hold(options: S3Options, tmp_path: Path) -> None:
    error = failed_put(store_of(options, replace(KEYS, session_token=f"{CANARY}\n")), tmp_path)
    assert CANARY not in error.message + error.hint


def test_no_message_repeats_the_keys_of_an_assumed_role(
    options: S3Options, proxy: Proxy, tmp_path: Path
) -> None:
    def script(request: Request) -> Fault | None:
        token = request.headers.get("x-amz-security-token")
        return s3_error(400, "InvalidToken", f"bad token {token}") if token else None

    proxy.script = script
    error = failed_put(store_of(replace(options, role_arn=ROLE_ARN)), tmp_path)
    assert "bad token ***" in error.message
