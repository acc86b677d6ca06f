"""What the S3 driver does about stores that speak its protocol with gaps: proved first, then avoided."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import stamina

from exporter.destinations.probe import PROBE_FOLDER
from exporter.destinations.s3 import proofs
from exporter.destinations.s3 import store as s3
from exporter.destinations.s3.settings import S3Settings
from exporter.destinations.s3.store import S3Store
from exporter.destinations.uploads import DEFAULT_LIMITS
from exporter.errors import NotSent, ObjectExists, Refused
from tests.contracts.object_store import NAME, ignore, package_of
from tests.kit.proxy import LOSE_REQUEST, Answer, Fault, Proxy, Request, proxy_before, s3_error
from tests.kit.s3_stores import (
    IN_PARTS,
    LARGE,
    LOOPBACK,
    answering,
    failed_put,
    is_completion,
    is_part,
    new_bucket_behind,
    put,
    sha256_base64,
    with_,
)
from tests.kit.servers import new_certificate, shared_moto

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PROBE = "vendor/.audit-exporter-check/parts"
ONCE = "vendor/.audit-exporter-check/once"
TRAILERS = {"x-amz-trailer", "transfer-encoding", "content-encoding"}


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


def unknown(settings: S3Settings) -> S3Store:
    """A store of which nothing is known, as at the start of a process."""
    return S3Store(settings, LOOPBACK, limits=IN_PARTS)


def unknown_in_parts(settings: S3Settings) -> S3Store:
    """A store that was seen to refuse a second put, and was not yet asked about parts."""
    proofs._CREATES_ONCE.add(settings.store_name)
    return unknown(settings)


def is_of_once(request: Request) -> bool:
    return request.path.endswith(ONCE)


def is_of_probe(request: Request) -> bool:
    return PROBE in request.path


def is_begin(request: Request) -> bool:
    return request.method == "POST" and request.path.endswith("?uploads")


def stored(settings: S3Settings, name: str = NAME) -> bytes:
    return shared_moto().s3().get_object(Bucket=settings.bucket, Key=name)["Body"].read()


def names(settings: S3Settings) -> set[str]:
    found = shared_moto().s3().list_objects_v2(Bucket=settings.bucket).get("Contents", [])
    return {one["Key"] for one in found}


def ignores_conditions(request: Request) -> Fault | None:
    """As Ceph does on CompleteMultipartUpload."""
    return Fault(without=frozenset({"if-none-match"})) if is_completion(request) else None


def test_a_store_that_refuses_a_second_completion_gets_large_objects_in_parts(
    settings: S3Settings, proxy: Proxy, tmp_path: Path
) -> None:
    put(unknown_in_parts(settings), tmp_path, LARGE)
    probed = [seen for seen in proxy.seen if is_of_probe(seen)]
    assert [seen.method for seen in probed] == ["PUT", "POST", "PUT", "POST", "DELETE"]
    assert proxy.seen[: len(probed)] == probed
    assert sum(is_part(seen) for seen in proxy.seen if not is_of_probe(seen)) == 2
    assert stored(settings) == LARGE
    assert names(settings) == {NAME, PROBE}


def test_a_store_is_asked_once_in_a_process(settings: S3Settings, proxy: Proxy, tmp_path: Path) -> None:
    put(unknown_in_parts(settings), tmp_path, LARGE)
    before = len(proxy.seen)
    again = "vendor/audit/globex/audit_globex_20261119T040000Z.zip"
    unknown_in_parts(settings).put(package_of(tmp_path, LARGE, again), ignore)
    assert not any(map(is_of_probe, proxy.seen[before:]))
    assert stored(settings, again) == LARGE


def test_small_objects_need_no_probe_of_parts(settings: S3Settings, proxy: Proxy, tmp_path: Path) -> None:
    put(unknown_in_parts(settings), tmp_path)
    assert len(proxy.seen) == 1


def test_amazon_needs_no_probe(
    settings: S3Settings, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(S3Settings, "is_aws", True)
    put(unknown(settings), tmp_path, LARGE)
    assert any(map(is_part, proxy.seen))
    assert not any(PROBE_FOLDER in seen.path for seen in proxy.seen)


def test_a_store_that_completes_over_an_object_gets_large_objects_at_once(
    settings: S3Settings, proxy: Proxy, tmp_path: Path
) -> None:
    proxy.script = ignores_conditions
    store = unknown_in_parts(settings)
    put(store, tmp_path, LARGE)
    (sent,) = [seen for seen in proxy.seen if not is_of_probe(seen)]
    assert (sent.method, sent.headers["if-none-match"]) == ("PUT", "*")
    assert sent.headers["x-amz-checksum-sha256"] == sha256_base64(LARGE)
    assert isinstance(failed_put(store, tmp_path, LARGE[::-1]), ObjectExists)
    assert stored(settings) == LARGE


@pytest.mark.parametrize(
    ("match", "fault"),
    [
        (is_begin, s3_error(501, "NotImplemented")),
        (is_begin, s3_error(405, "MethodNotAllowed")),
        (is_part, s3_error(501, "NotImplemented")),
        (is_completion, s3_error(501, "NotImplemented")),
        (is_of_probe, s3_error(403, "AccessDenied")),  # a right to `audit/` alone
    ],
    ids=["no begin", "not allowed", "no parts", "no completion", "no right"],
)
def test_where_parts_cannot_be_proved_large_objects_go_at_once(
    match: Callable[[Request], bool], fault: Fault, settings: S3Settings, proxy: Proxy, tmp_path: Path
) -> None:
    proxy.script = answering(fault, match)
    put(unknown_in_parts(settings), tmp_path, LARGE)
    assert [seen.method for seen in proxy.seen if not is_of_probe(seen)] == ["PUT"]
    assert stored(settings) == LARGE


@pytest.mark.parametrize(
    "match", [is_of_probe, is_begin, is_completion], ids=["at all", "to the begin", "to the completion"]
)
@pytest.mark.parametrize("fault", [LOSE_REQUEST, s3_error(503, "SlowDown")], ids=["no answer", "slow down"])
def test_a_store_that_does_not_say_is_asked_again_by_the_next_attempt(
    fault: Fault,
    match: Callable[[Request], bool],
    settings: S3Settings,
    proxy: Proxy,
    tmp_path: Path,
) -> None:
    proxy.script = answering(fault, match)
    error = failed_put(unknown_in_parts(settings), tmp_path, LARGE)
    assert isinstance(error, NotSent)
    assert "not known whether large objects would be safe here" in error.message
    assert all(map(is_of_probe, proxy.seen))
    proxy.script = lambda _request: None
    put(unknown_in_parts(settings), tmp_path, LARGE)
    assert stored(settings) == LARGE


def test_nothing_large_is_sent_where_the_probe_is_not_encrypted_as_asked(
    settings: S3Settings, proxy: Proxy, tmp_path: Path
) -> None:
    proxy.script = answering(Fault(without=frozenset({"x-amz-server-side-encryption"})))
    error = failed_put(unknown_in_parts(with_(settings, encryption="sse-kms")), tmp_path, LARGE)
    assert isinstance(error, Refused)
    assert "does not encrypt" in error.message
    assert all(map(is_of_probe, proxy.seen))


def test_what_is_too_large_for_one_request_is_refused_where_parts_are_not_safe(
    settings: S3Settings, proxy: Proxy, tmp_path: Path
) -> None:
    proxy.script = ignores_conditions
    package = package_of(tmp_path, LARGE)
    content = replace(package.content, archive_bytes=DEFAULT_LIMITS.at_once_bytes + 1)
    with pytest.raises(Refused, match="only in parts") as caught:
        unknown_in_parts(settings).put(replace(package, content=content), ignore)
    assert "part_limit" in caught.value.hint
    assert all(map(is_of_probe, proxy.seen))


def test_an_empty_etag_is_an_answer_of_ceph_to_a_completion(
    settings: S3Settings, proxy: Proxy, tmp_path: Path
) -> None:
    body = (
        b"<CompleteMultipartUploadResult><Location>l</Location><ETag></ETag></CompleteMultipartUploadResult>"
    )
    complete = Fault(answer=Answer(200, body))
    proxy.script = lambda seen: complete if is_completion(seen) and not is_of_probe(seen) else None
    receipt = unknown_in_parts(settings).put(package_of(tmp_path, LARGE), ignore)
    assert receipt.etag == ""
    assert stored(settings) == LARGE


@pytest.mark.parametrize("script", [lambda _request: None, ignores_conditions], ids=["parts", "at once"])
def test_no_request_over_tls_has_a_trailing_checksum(
    script: Callable[[Request], Fault | None], settings: S3Settings, tmp_path: Path
) -> None:
    """Ceph answers 411 to those that boto3 sends by default, over https alone."""
    authority, tls = new_certificate(tmp_path)
    with proxy_before(shared_moto().url, script, tls=tls) as proxy:
        put(unknown_in_parts(with_(settings, endpoint_url=proxy.url, ca_file=authority)), tmp_path, LARGE)
    assert len(proxy.seen) >= 5
    for seen in proxy.seen:
        assert not TRAILERS & set(seen.headers)
        assert "trailer" not in seen.headers["x-amz-content-sha256"].lower()
        assert seen.method != "PUT" or seen.headers["x-amz-checksum-sha256"] == sha256_base64(seen.body)
    assert stored(settings) == LARGE


# --- A store that replaces objects ----------------------------------------------------------------


def replaces(_request: Request) -> Fault:
    """As Ceph does in a bucket with versions."""
    return Fault(without=frozenset({"if-none-match"}))


def test_before_its_first_object_a_store_refuses_to_create_a_small_one_twice(
    settings: S3Settings, proxy: Proxy, tmp_path: Path
) -> None:
    put(unknown(settings), tmp_path)
    assert [is_of_once(seen) for seen in proxy.seen] == [True, True, False]
    assert [seen.headers["if-none-match"] for seen in proxy.seen] == ["*"] * 3
    assert names(settings) == {NAME, ONCE}


def test_a_store_that_refused_once_is_not_asked_again_in_a_process(
    settings: S3Settings, proxy: Proxy, tmp_path: Path
) -> None:
    put(unknown(settings), tmp_path)
    before = len(proxy.seen)
    unknown(settings).put(package_of(tmp_path, b"x", "vendor/audit/globex/x"), ignore)
    assert [is_of_once(seen) for seen in proxy.seen[before:]] == [False]


def test_where_an_earlier_process_left_the_small_object_one_refusal_is_enough(
    settings: S3Settings, proxy: Proxy, tmp_path: Path
) -> None:
    put(unknown(settings), tmp_path)
    proofs._CREATES_ONCE.clear()
    before = len(proxy.seen)
    unknown(settings).put(package_of(tmp_path, b"x", "vendor/audit/globex/x"), ignore)
    assert [is_of_once(seen) for seen in proxy.seen[before:]] == [True, False]


@pytest.mark.parametrize("data", [b"small", LARGE], ids=["at once", "in parts"])
def test_a_store_that_replaces_objects_gets_none(
    data: bytes, settings: S3Settings, proxy: Proxy, tmp_path: Path
) -> None:
    shared_moto().s3().put_object(Bucket=settings.bucket, Key=NAME, Body=b"another's")
    proxy.script = replaces
    store = unknown(settings)
    for _ in range(2):
        error = failed_put(store, tmp_path, data)
        assert isinstance(error, Refused)
        assert f"ignores If-None-Match: a second put replaced {ONCE}" in error.message
        assert "without versions" in error.hint
    assert stored(settings) == b"another's"
    assert all(map(is_of_once, proxy.seen))


def test_check_says_of_a_store_that_replaces_objects_what_a_delivery_says(
    settings: S3Settings, proxy: Proxy, tmp_path: Path
) -> None:
    proxy.script = replaces
    store = unknown(settings)
    error = failed_put(store, tmp_path)
    (finding,) = store.check("vendor/.audit-exporter-check/1")
    assert (finding.level, finding.hint) == ("error", error.hint)
    assert finding.message in error.message


def test_a_store_that_was_repaired_gets_objects_without_a_new_process(
    settings: S3Settings, proxy: Proxy, tmp_path: Path
) -> None:
    proxy.script = replaces
    store = unknown(settings)
    failed_put(store, tmp_path)
    proxy.script = lambda _request: None
    put(store, tmp_path)
    assert stored(settings) == b"PK..."


@pytest.mark.parametrize("fault", [LOSE_REQUEST, s3_error(503, "SlowDown")], ids=["no answer", "slow down"])
def test_a_store_that_does_not_say_whether_it_replaces_objects_gets_none_yet(
    fault: Fault, settings: S3Settings, proxy: Proxy, tmp_path: Path
) -> None:
    proxy.script = answering(fault)
    error = failed_put(unknown(settings), tmp_path)
    assert isinstance(error, NotSent)
    assert "before it is known whether it would replace an object" in error.message
    assert all(map(is_of_once, proxy.seen))


def test_without_the_right_to_prove_it_nothing_is_sent_and_the_hint_names_the_right(
    settings: S3Settings, proxy: Proxy, tmp_path: Path
) -> None:
    proxy.script = answering(s3_error(403, "AccessDenied"), is_of_once)  # a right to `audit/` alone
    error = failed_put(unknown(settings), tmp_path)
    assert isinstance(error, Refused)
    assert f"{settings.bucket}/vendor/*" in error.hint
    assert all(map(is_of_once, proxy.seen))
