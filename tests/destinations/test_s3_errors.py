"""What the S3 driver makes of every answer, and of none."""

from __future__ import annotations

import socket
import ssl
import time
from threading import Event
from typing import TYPE_CHECKING

import botocore.exceptions as boto
import pytest
from botocore.httpsession import URLLib3Session
from botocore.parsers import ResponseParserError

from exporter.destinations.uploads import Limits
from exporter.errors import ConfigError, DeliveryError, NotSent, ObjectExists, OutcomeUnknown, Refused
from exporter.network.guard import Guard
from tests.contracts.object_store import NAME, package_of
from tests.kit.proxy import (
    CUT_BEFORE_BODY,
    LOSE_ANSWER,
    LOSE_REQUEST,
    Answer,
    Fault,
    Proxy,
    proxy_before,
    s3_error,
)
from tests.kit.s3_stores import (
    KEY_ARN,
    LARGE,
    answering,
    failed_put,
    new_bucket_behind,
    store_of,
    with_,
)
from tests.kit.servers import (
    Moto,
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
    settings: S3Settings,
    proxy: Proxy,
    tmp_path: Path,
) -> None:
    proxy.script = answering(s3_error(status, code) if code else Fault(forward=False, answer=Answer(status)))
    error = failed_put(store_of(with_(settings, kms_key=KEY_ARN)), tmp_path)
    assert type(error) is kind
    assert NAME in error.message
    assert hint.format(bucket=settings.bucket) in error.hint
    assert len(proxy.seen) == 1


def test_a_missing_right_to_a_key_is_told_from_a_missing_right_to_the_bucket(
    settings: S3Settings, proxy: Proxy, tmp_path: Path
) -> None:
    message = "User is not authorized to perform: kms:GenerateDataKey on this resource"
    proxy.script = answering(s3_error(403, "AccessDenied", message))
    error = failed_put(store_of(with_(settings, kms_key=KEY_ARN)), tmp_path)
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
    fault: Fault, settings: S3Settings, proxy: Proxy, tmp_path: Path
) -> None:
    proxy.script = answering(fault)
    error = failed_put(store_of(settings), tmp_path)
    assert isinstance(error, Refused)
    assert (error.hint, error.fix) == ("set region: eu-central-1", "region: eu-central-1")
    assert len(proxy.seen) == 1


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("PreconditionFailed", ObjectExists),
        ("InternalError", OutcomeUnknown),
        ("SlowDown", OutcomeUnknown),
        ("AccessDenied", OutcomeUnknown),
    ],
)
def test_a_success_with_an_error_in_its_body_is_that_error(
    code: str, kind: type[DeliveryError], settings: S3Settings, proxy: Proxy, tmp_path: Path
) -> None:
    proxy.script = answering(s3_error(200, code))
    assert type(failed_put(store_of(settings), tmp_path)) is kind
    assert len(proxy.seen) == 1


def redirect(status: int, place: str) -> Fault:
    return Fault(forward=False, answer=Answer(status, headers={"Location": place}))


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("data", [b"small", LARGE], ids=["at once", "in parts"])
def test_no_redirect_is_followed(
    data: bytes, status: int, settings: S3Settings, proxy: Proxy, tmp_path: Path
) -> None:
    with proxy_before(shared_moto().url) as elsewhere:
        proxy.script = answering(redirect(status, f"{elsewhere.url}/{settings.bucket}/{NAME}"))
        failed_put(store_of(settings), tmp_path, data)
    assert elsewhere.seen == []
    assert len(proxy.seen) == 1


def test_an_error_without_a_message_still_says_its_code_and_request(
    settings: S3Settings, proxy: Proxy, tmp_path: Path
) -> None:
    proxy.script = answering(s3_error(403, "QuotaExceeded", None))
    error = failed_put(store_of(settings), tmp_path)
    assert error.message == f"{store_of(settings).name} refused {NAME}: QuotaExceeded (request REQ1)"


@pytest.mark.parametrize(
    ("fault", "landed"), [(CUT_BEFORE_BODY, False), (LOSE_REQUEST, False), (LOSE_ANSWER, True)]
)
def test_a_connection_that_breaks_after_it_was_made_leaves_the_outcome_open(
    fault: Fault, *, landed: bool, settings: S3Settings, proxy: Proxy, moto: Moto, tmp_path: Path
) -> None:
    proxy.script = answering(fault)
    assert isinstance(failed_put(store_of(settings), tmp_path), OutcomeUnknown)
    assert len(proxy.seen) == 1
    assert ("Contents" in moto.s3().list_objects_v2(Bucket=settings.bucket)) is landed


@pytest.mark.parametrize("body", [b"<html>Welcome</html>", b"not xml <"])
def test_an_error_that_is_not_s3_s_is_still_understood(
    body: bytes, settings: S3Settings, proxy: Proxy, tmp_path: Path
) -> None:
    proxy.script = answering(Fault(forward=False, answer=Answer(502, body)))
    assert isinstance(failed_put(store_of(settings), tmp_path), OutcomeUnknown)


def test_an_answer_that_does_not_come_in_time_leaves_the_outcome_open(
    settings: S3Settings, proxy: Proxy, tmp_path: Path
) -> None:
    never = Event()
    proxy.script = answering(Fault(hold=never))
    error = failed_put(store_of(settings, limits=Limits(answer_s=0.2)), tmp_path)
    never.set()
    assert isinstance(error, OutcomeUnknown)


def test_an_upload_that_crawls_is_ended(
    settings: S3Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However steadily bytes trickle: signing takes no time here, and each block on the wire takes 9 s."""
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])

    def crawl(_sent_bytes: int) -> None:
        clock[0] += 9

    store = store_of(settings, limits=Limits(slowest_bytes_per_s=1 << 20))
    with pytest.raises(OutcomeUnknown):
        store.put(package_of(tmp_path, LARGE), crawl)
    assert 60 < clock[0] < 90
    clock[0] = 0
    store.put(package_of(tmp_path, b"small"), crawl)


def test_a_port_where_nobody_listens_means_not_sent(settings: S3Settings, tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{unused.getsockname()[1]}"
        error = failed_put(store_of(with_(settings, endpoint_url=endpoint)), tmp_path)
    assert isinstance(error, NotSent)
    assert "endpoint_url" in error.hint


def test_a_host_that_does_not_exist_means_not_sent(
    settings: S3Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*_args: object, **_more: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    nowhere = with_(settings, endpoint_url="http://nowhere.example.com")
    error = failed_put(store_of(nowhere, guard=Guard(["nowhere.example.com"])), tmp_path)
    assert isinstance(error, NotSent)


def test_an_endpoint_that_is_no_url_is_a_mistake_in_the_configuration(settings: S3Settings) -> None:
    with pytest.raises(ConfigError, match="endpoint_url"):
        store_of(with_(settings, endpoint_url="http://a b"))


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (boto.ConnectTimeoutError(endpoint_url="u"), NotSent),
        (boto.EndpointConnectionError(endpoint_url="u"), NotSent),
        (boto.ProxyConnectionError(proxy_url="u"), NotSent),
        (boto.NoCredentialsError(), NotSent),
        (boto.ParamValidationError(report="r"), NotSent),
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
    settings: S3Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_args: object) -> None:
        raise failure

    monkeypatch.setattr(URLLib3Session, "send", fail)
    error = failed_put(store_of(settings), tmp_path)
    assert type(error) is kind
    assert error.__cause__ is not None
