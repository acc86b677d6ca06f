"""What the Google Cloud Storage driver sends on a real HTTP server, and what it needs for that."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import google_crc32c
import pytest
from pydantic import ValidationError

from exporter.destinations.gcs.settings import GcsSettings
from exporter.destinations.gcs.store import GcsStore
from exporter.destinations.uploads import Limits
from exporter.errors import ConfigError, NotSent, ObjectExists, Refused
from exporter.network.guard import Guard
from tests.contracts.object_store import NAME, ignore, package_of
from tests.kit.archives import file_of
from tests.kit.gcs_stores import (
    CREATE,
    GUARD,
    LARGE,
    MIB,
    Cloud,
    cloud_for,
    failed_put,
    is_chunk,
    put,
    query_of,
)
from tests.kit.s3_stores import connections_to

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.kit.proxy import Request

KEY = "projects/customer/locations/us/keyRings/ring/cryptoKeys/key"


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with cloud_for() as running:
        yield running


def resource_in(request: Request) -> dict[str, Any]:
    """The object resource, of a request of either kind."""
    text = request.body.split(b"\r\n\r\n")[1].split(b"\r\n")[0] if b"\r\n" in request.body else request.body
    found: dict[str, Any] = json.loads(text)
    return found


def test_a_put_is_one_conditional_request_with_checksums(cloud: Cloud, tmp_path: Path) -> None:
    receipt = cloud.store().put(package_of(tmp_path, b"PK..."), ignore)
    (request,) = cloud.proxy.seen
    assert request.method == "POST"
    assert request.path.startswith(f"/upload/storage/v1/b/{cloud.bucket}/o?")
    assert query_of(request) == {"uploadType": "multipart", "name": NAME, "ifGenerationMatch": "0"}
    assert "content-encoding" not in request.headers
    assert "transfer-encoding" not in request.headers
    assert resource_in(request) == {
        "name": NAME,
        "contentType": "application/zip",
        "crc32c": base64.b64encode(google_crc32c.value(b"PK...").to_bytes(4, "big")).decode(),
        "metadata": {"plan": "p1"},
    }
    stored = cloud.object()
    assert (stored.data, stored.metadata, stored.content_type) == (
        b"PK...",
        {"plan": "p1"},
        "application/zip",
    )
    assert receipt.version == str(stored.generation)


@pytest.mark.parametrize("data", [b"small", LARGE], ids=["at once", "in chunks"])
def test_key_and_storage_class_go_with_every_object(data: bytes, cloud: Cloud, tmp_path: Path) -> None:
    key = cloud.gcs.new_key()
    put(cloud.store(kms_key=key, storage_class="NEARLINE"), tmp_path, data)
    assert (cloud.object().kms_key, cloud.object().storage_class) == (key, "NEARLINE")


def test_a_name_arrives_as_it_is_whatever_characters_it_has(cloud: Cloud, tmp_path: Path) -> None:
    name = 'vendör a+b&c=d?e#f%2F"g/audit/acme/audit_acme_20261119T040000Z.zip'
    cloud.store().put(package_of(tmp_path, b"x", name), ignore)
    cloud.store().put(package_of(tmp_path, LARGE, f"large/{name}"), ignore)
    assert cloud.names == {name, f"large/{name}"}


def test_bytes_that_look_like_the_end_of_the_body_are_stored_as_they_are(
    cloud: Cloud, tmp_path: Path
) -> None:
    data = b"\r\n--\r\n\r\n----boundary--\r\n"
    put(cloud.store(), tmp_path, data)
    assert cloud.object().data == data


def test_the_threshold_is_64_mib_in_chunks_of_16() -> None:
    assert (Limits().large_bytes, Limits().part_bytes) == (64 * MIB, 16 * MIB)


@pytest.mark.parametrize("size", [2 * MIB - 1, 2 * MIB])
def test_chunks_begin_at_the_threshold(size: int, cloud: Cloud, tmp_path: Path) -> None:
    put(cloud.store(), tmp_path, LARGE[:size])
    assert any(map(is_chunk, cloud.proxy.seen)) is (size == 2 * MIB)


@pytest.mark.parametrize("size", [2 * MIB - 1, 3 * MIB + 1])
def test_an_archive_is_sent_in_small_pieces_each_counted_once(
    size: int, cloud: Cloud, tmp_path: Path
) -> None:
    sent: list[int] = []
    cloud.store().put(package_of(tmp_path, LARGE[:size]), sent.append)
    assert sum(sent) == size
    assert max(sent) <= 1 << 16


def test_an_archive_that_changed_in_the_workspace_is_not_sent(cloud: Cloud, tmp_path: Path) -> None:
    package = package_of(tmp_path, b"before")
    file_of(package).write_bytes(b"behind")
    with pytest.raises(NotSent, match="changed in the workspace"):
        cloud.store().put(package, ignore)
    assert cloud.proxy.seen == []


def test_an_archive_that_becomes_shorter_while_it_is_sent_does_not_land(cloud: Cloud, tmp_path: Path) -> None:
    package = package_of(tmp_path, LARGE[:MIB])

    def cut(_sent_bytes: int) -> None:
        with file_of(package).open("r+b") as file:
            file.truncate(MIB // 2)

    with pytest.raises(NotSent, match="became shorter"):
        cloud.store().put(package, cut)
    assert cloud.names == set()


@pytest.mark.parametrize(
    ("endpoint", "name"),
    [
        (None, "gs://acme-audit"),
        ("https://storage.googleapis.com/", "gs://acme-audit"),
        ("https://storage.europe-west3.rep.googleapis.com", "gs://acme-audit"),
        ("https://storage-psc.p.googleapis.com", "gs://acme-audit"),
        ("https://Gcs.Example.com:443/", "gs://acme-audit@gcs.example.com"),
        ("https://gcs.example.com:8443/base/", "gs://acme-audit@gcs.example.com:8443/base"),
        ("https://googleapis.com.example.com", "gs://acme-audit@googleapis.com.example.com"),
    ],
)
def test_all_spellings_of_a_bucket_have_one_name(endpoint: str | None, name: str) -> None:
    settings = GcsSettings.model_validate({"type": "gcs", "bucket": "acme-audit", "endpoint_url": endpoint})
    guard = Guard(["gcs.example.com", "googleapis.com.example.com"])
    assert GcsStore(settings, guard).name == name


@pytest.mark.parametrize(
    "host",
    [
        "gcs.example.com",
        "storage.googleapis.com.example.com",
        "acme.storage.googleapis.com",
        "storage.p.example.com",
        "sts.googleapis.com",
    ],
)
def test_no_token_goes_to_a_host_that_is_not_google_s_unless_the_operator_names_it(host: str) -> None:
    """The machine's own token would open every other customer's bucket to whoever runs that host."""
    settings = GcsSettings.model_validate(
        {"type": "gcs", "bucket": "acme", "endpoint_url": f"https://{host}"}
    )
    for guard in (Guard(), Guard([f"*.{host.partition('.')[2]}"])):
        with pytest.raises(ConfigError, match="endpoint_url is not Google's") as caught:
            GcsStore(settings, guard)
        assert f"network: {{allow: [{host}]}}" in caught.value.hint
    GcsStore(settings, Guard([host]))


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://storage.googleapis.com",
        "https://127.0.0.1",
        "https://169.254.169.254",
        "https://10.0.0.5:9000",
    ],
)
def test_an_endpoint_inside_or_in_the_clear_is_a_mistake_unless_the_operator_allows_it(endpoint: str) -> None:
    settings = GcsSettings.model_validate({"type": "gcs", "bucket": "acme", "endpoint_url": endpoint})
    with pytest.raises(ConfigError, match="endpoint_url"):
        GcsStore(settings, Guard())
    GcsStore(settings, Guard(["storage.googleapis.com", "127.0.0.1", "169.254.169.254", "10.0.0.5"]))


def test_an_endpoint_with_a_query_is_a_mistake() -> None:
    settings = {"type": "gcs", "bucket": "acme", "endpoint_url": "https://storage.googleapis.com/?x=1"}
    with pytest.raises(ConfigError, match="endpoint_url has a query"):
        GcsStore(GcsSettings.model_validate(settings), Guard())


def test_an_emulator_named_by_the_environment_is_not_another_store(
    cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:9")
    put(cloud.store(), tmp_path)
    assert cloud.names == {NAME}
    settings = GcsSettings.model_validate({"type": "gcs", "bucket": "acme"})
    assert GcsStore(settings, Guard()).endpoint == "https://storage.googleapis.com"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"bucket": "gs://acme"}, "without gs://"),
        ({"bucket": "acme'; rm -rf"}, "no name of a bucket"),
        ({"impersonate": "somebody"}, "e-mail address"),
        ({"impersonate": "a@b.iam.gserviceaccount.com:x"}, "e-mail address"),
        ({"kms_key": "key"}, "cryptoKeys/K"),
        ({"kms_key": f"{KEY}/cryptoKeyVersions/1"}, "without a version"),
        ({"subject_token_file": "token"}, "without the `credentials`"),
        ({"credentials": ""}, "must be text"),
        ({"prefix": ".well-known/acme-challenge"}, "takes no objects"),
        ({"prefix": ".well-known/acme-challenge/vendor/"}, "takes no objects"),
    ],
)
def test_a_mistake_in_the_settings_is_named_and_its_value_is_not_shown(
    changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValidationError, match=words):
        GcsSettings.model_validate({"type": "gcs", "bucket": "acme", **changes})


def test_nothing_heavy_is_loaded_before_the_first_put() -> None:
    code = (
        "import sys; from exporter.destinations.gcs.store import GcsStore;"
        "from exporter.destinations.gcs.settings import GcsSettings;"
        "from exporter.network.guard import Guard;"
        "GcsSettings.model_validate({'type': 'gcs', 'bucket': 'acme'}).open(Guard());"
        "assert not {'google.auth', 'google.cloud', 'requests', 'google_crc32c'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_right_to_create_objects_is_enough(tmp_path: Path) -> None:
    """With it on the prefix alone, deliveries, both ways, and `check` work; elsewhere they are refused."""
    with cloud_for() as cloud:

        def grant(token: str, _whose: str) -> None:
            cloud.gcs.grant(token, CREATE, prefix="vendor/")

        cloud.tokens.on_issue = grant
        store = cloud.store()
        put(store, tmp_path)
        store.put(package_of(tmp_path, LARGE, "vendor/audit/acme/large"), ignore)
        for data in (b"again", LARGE[::-1]):
            with pytest.raises(ObjectExists):
                store.put(package_of(tmp_path, data, "vendor/audit/acme/large"), ignore)
        (finding,) = store.check("vendor/.audit-exporter-check/1")
        with pytest.raises(Refused) as caught:
            store.put(package_of(tmp_path, b"x", "elsewhere/audit/acme/x.zip"), ignore)
    assert finding.level == "ok"
    assert "--role=roles/storage.objectCreator" in caught.value.fix
    assert f'startsWith("projects/_/buckets/{cloud.bucket}/objects/elsewhere/")' in caught.value.fix


def test_an_object_of_another_is_never_replaced_although_the_identity_could(tmp_path: Path) -> None:
    with cloud_for(None, None, CREATE, "storage.objects.delete") as cloud:
        put(cloud.store(), tmp_path, b"first")
        assert isinstance(failed_put(cloud.store(), tmp_path, b"second"), ObjectExists)
        assert isinstance(failed_put(cloud.store(), tmp_path, LARGE), ObjectExists)
        assert cloud.object().data == b"first"


def test_connections_are_shared_by_all_buckets(cloud: Cloud, tmp_path: Path) -> None:
    """One for each of a thousand buckets would leave no open file to anybody."""
    for number in range(8):
        GcsStore(cloud.settings(), GUARD).put(package_of(tmp_path, b"x", f"p/audit/a/{number}"), ignore)
    assert connections_to(cloud.proxy) == 1
