"""What `check` says of a bucket of Google Cloud Storage: the cause, what mends it, and what is too much."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from exporter.destinations.object_store import ObjectStoreDestination
from exporter.model import Level
from tests.kit.gcs_stores import CREATE, Cloud, answering, cloud_for, gcs_error
from tests.kit.proxy import Answer, Fault, proxy_before
from tests.kit.servers import new_certificate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from exporter.model import Finding
    from tests.kit.proxy import Request

DELETE, GET, LIST = "storage.objects.delete", "storage.objects.get", "storage.objects.list"


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with cloud_for() as running:
        yield running


def checked(cloud: Cloud, endpoint_url: str | None = None) -> list[Finding]:
    store = cloud.store(endpoint_url=endpoint_url or cloud.proxy.url)
    return list(ObjectStoreDestination(store, "vendor").check())


def is_permissions(request: Request) -> bool:
    return "/iam/testPermissions" in request.path


def test_the_right_to_create_alone_is_all_that_a_good_bucket_gives(cloud: Cloud) -> None:
    (finding,) = checked(cloud)
    assert finding.level is Level.OK
    assert [seen.method for seen in cloud.proxy.seen] == ["POST", "POST", "GET", "GET", "GET", "DELETE"]
    assert all(name.startswith("vendor/.audit-exporter-check/") for name in cloud.names)


@pytest.mark.parametrize(
    ("rights", "words"),
    [
        ((CREATE, DELETE), "replace or delete objects"),
        ((CREATE, GET), "read objects"),
        ((CREATE, LIST), "list objects"),
        ((CREATE, DELETE, GET, LIST), "replace or delete, read, list objects"),
    ],
)
@pytest.mark.parametrize("way", ["told", "tried"])
def test_more_rights_than_needed_are_a_warning_told_or_tried(
    way: str, rights: tuple[str, ...], words: str
) -> None:
    with cloud_for(None, None, *rights) as cloud:
        if way == "tried":
            cloud.proxy.script = answering(gcs_error(404, "notFound"), is_permissions)
        good, warning = checked(cloud)
    assert (good.level, warning.level) == (Level.OK, Level.WARNING)
    assert warning.message.endswith(words)
    assert "roles/storage.objectCreator alone" in warning.hint
    assert warning.fix == f"gcloud storage buckets get-iam-policy gs://{cloud.bucket}"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"{}",
        b'{"kind": "else"}',
        b'{"kind": "storage#testIamPermissionsResponse", "permissions": 7}',
    ],
)
def test_an_answer_about_rights_that_says_nothing_is_no_warning(body: bytes, cloud: Cloud) -> None:
    cloud.proxy.script = answering(Fault(forward=False, answer=Answer(200, body)), is_permissions)
    (finding,) = checked(cloud)
    assert finding.level is Level.OK


def test_what_is_refused_is_an_error_with_its_statement_and_no_further_questions(cloud: Cloud) -> None:
    cloud.proxy.script = answering(gcs_error(403, "forbidden", "Access denied."))
    (finding,) = checked(cloud)
    assert (finding.level, finding.subject) == (Level.ERROR, cloud.store().name)
    assert finding.fix.startswith("gcloud storage buckets add-iam-policy-binding gs://")
    assert "objects/vendor/" in finding.fix
    assert not any(map(is_permissions, cloud.proxy.seen))


def test_a_refused_token_is_an_error_with_its_own_hint(cloud: Cloud) -> None:
    words = "Invalid JWT Signature."
    cloud.tokens.script = lambda _asked: (400, {"error": "invalid_grant", "error_description": words})
    (finding,) = checked(cloud)
    assert finding.level is Level.ERROR
    assert "Invalid JWT Signature" in finding.message
    assert "keys create" in finding.fix


def test_a_store_that_replaces_objects_is_an_error(cloud: Cloud) -> None:
    def forget(request: Request) -> Fault | None:
        if request.method == "POST":
            cloud.gcs.storage.buckets[cloud.bucket].objects.clear()
        return None

    cloud.proxy.script = forget
    (finding,) = checked(cloud)
    assert finding.level is Level.ERROR
    assert "a second put replaced" in finding.message


def test_a_certificate_that_nobody_vouches_for_is_named_as_the_cause(tmp_path: Path) -> None:
    _, tls = new_certificate(tmp_path)
    with cloud_for() as cloud, proxy_before(cloud.gcs.url, tls=tls) as proxy:
        (finding,) = checked(cloud, endpoint_url=proxy.url)
    assert finding.level is Level.ERROR
    assert "ca_file" in finding.hint


def test_a_closed_port_is_named_as_the_cause(cloud: Cloud) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        (finding,) = checked(cloud, endpoint_url=f"http://127.0.0.1:{unused.getsockname()[1]}")
    assert finding.level is Level.ERROR
    assert "nothing listens" in finding.message
    assert finding.hint


def test_a_clock_that_is_off_is_named_as_the_cause(cloud: Cloud) -> None:
    late = Answer(401, b"", {"Date": "Thu, 01 Jan 2026 00:00:00 GMT"})
    cloud.proxy.script = answering(Fault(forward=False, answer=late))
    (finding,) = checked(cloud)
    assert finding.level is Level.ERROR
    assert "clock" in finding.message + finding.hint
