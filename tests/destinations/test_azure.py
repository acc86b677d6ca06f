"""What the Azure driver sends to a real HTTP server, at once and in blocks, and what it needs for that."""

from __future__ import annotations

import base64
import hashlib
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import stamina

from exporter.destinations.azure import store as azure
from exporter.destinations.uploads import DEFAULT_LIMITS, Limits
from exporter.errors import DeliveryError, NotSent, ObjectExists, OutcomeUnknown, Refused
from exporter.model import Level
from tests.contracts.object_store import CONTRACT, NAME, ignore, package_of
from tests.kit.archives import file_of
from tests.kit.azure_stores import (
    IN_BLOCKS,
    LARGE,
    MIB,
    account_behind,
    answering,
    azure_before,
    azure_error,
    failed_put,
    is_block,
    is_list,
    put,
    store_of,
    subject_of,
)
from tests.kit.azurite import Azurite, azurite_server, sas_of, shared_azurite
from tests.kit.proxy import LOSE_ANSWER, LOSE_REQUEST, Fault, Proxy, Request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SCOPE = "customer-scope"


@pytest.fixture
def azurite() -> Azurite:
    return shared_azurite()


@pytest.fixture
def container(azurite: Azurite) -> str:
    return azurite.new_container()


@pytest.fixture
def proxy(azurite: Azurite) -> Iterator[Proxy]:
    with azure_before(azurite) as running:
        yield running


@pytest.fixture(autouse=True)
def no_waiting() -> Iterator[None]:
    """Tries of blocks follow each other at once."""
    with stamina.set_testing(True, attempts=azure.BLOCK_TRIES):
        yield


def md5(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


# --- What it sends --------------------------------------------------------------------------------


@pytest.mark.parametrize("https", [False, True], ids=["http", "https"])
@pytest.mark.parametrize(
    "promise", [one for one in CONTRACT if "proves" not in one.__name__], ids=lambda promise: promise.__name__
)
def test_the_contract_is_kept_with_a_key_and_in_blocks(
    promise: Callable[[Any], None], *, https: bool, tmp_path: Path
) -> None:
    azurite = shared_azurite(https=https)
    container = azurite.new_container()
    store = store_of(container, azurite.url, ca_file=azurite.authority)
    promise(subject_of(store, azurite, container, tmp_path))


def test_a_put_is_one_conditional_request_with_checksums(
    azurite: Azurite, container: str, proxy: Proxy, tmp_path: Path
) -> None:
    store = store_of(container, account_behind(proxy))
    receipt = store.put(package_of(tmp_path, b"PK...", metadata={"audit-plan": "p1"}), ignore)
    (request,) = proxy.seen
    assert (request.method, request.path) == ("PUT", f"/devstoreaccount1/{container}/{NAME}")
    assert request.headers["if-none-match"] == "*"
    assert request.headers["content-md5"] == request.headers["x-ms-blob-content-md5"] == md5(b"PK...")
    assert request.headers["content-length"] == "5"
    assert "transfer-encoding" not in request.headers
    assert "x-ms-encryption-scope" not in request.headers
    stored = azurite.container(container).get_blob_client(NAME).get_blob_properties()
    assert stored.metadata == {"audit_plan": "p1"}
    assert stored.content_settings.content_type == "application/zip"
    assert bytes(stored.content_settings.content_md5 or b"") == base64.b64decode(md5(b"PK..."))
    assert stored.etag.strip('"') == receipt.etag


def test_an_empty_file_has_a_length_as_well(container: str, proxy: Proxy, tmp_path: Path) -> None:
    put(store_of(container, account_behind(proxy)), tmp_path, b"")
    assert proxy.seen[0].headers["content-length"] == "0"
    assert "transfer-encoding" not in proxy.seen[0].headers


def test_a_large_blob_goes_in_blocks_and_only_their_list_is_conditional(
    azurite: Azurite, container: str, proxy: Proxy, tmp_path: Path
) -> None:
    put(store_of(container, account_behind(proxy)), tmp_path, LARGE)
    *blocks, commit = proxy.seen
    assert [block.headers["content-md5"] for block in blocks] == [
        md5(LARGE[: 4 * MIB]),
        md5(LARGE[4 * MIB :]),
    ]
    assert [request.headers.get("if-none-match") for request in proxy.seen] == [None, None, "*"]
    assert all(map(is_block, blocks))
    assert is_list(commit)
    assert commit.headers["content-md5"] == md5(commit.body)
    assert commit.headers["x-ms-blob-content-md5"] == md5(LARGE)
    assert commit.headers["x-ms-meta-plan"] == "p1"
    assert azurite.read(container, NAME) == LARGE


def test_two_attempts_share_no_block(container: str, proxy: Proxy, tmp_path: Path) -> None:
    store = store_of(container, account_behind(proxy))
    proxy.script = answering(azure_error(500, "InternalError"), is_list)
    failed_put(store, tmp_path, LARGE)
    proxy.script = lambda _request: None
    put(store, tmp_path, LARGE)
    paths = [request.path for request in proxy.seen if is_block(request)]
    assert len(set(paths)) == len(paths) == 4


def test_the_threshold_is_64_mib_in_blocks_of_16() -> None:
    assert (DEFAULT_LIMITS.large_bytes, DEFAULT_LIMITS.part_bytes) == (64 * MIB, 16 * MIB)


@pytest.mark.parametrize("size", [6 * MIB - 1, 6 * MIB])
def test_blocks_begin_at_the_threshold(size: int, container: str, proxy: Proxy, tmp_path: Path) -> None:
    put(store_of(container, account_behind(proxy)), tmp_path, LARGE[:size])
    assert any(map(is_block, proxy.seen)) is (size == 6 * MIB)


@pytest.mark.parametrize("data", [b"small", LARGE], ids=["at once", "in blocks"])
def test_encryption_scope_and_tier_go_with_every_blob(
    data: bytes, container: str, proxy: Proxy, tmp_path: Path
) -> None:
    store = store_of(container, account_behind(proxy), encryption_scope=SCOPE, access_tier="Cool")
    put(store, tmp_path, data)
    assert {request.headers["x-ms-encryption-scope"] for request in proxy.seen} == {SCOPE}
    assert proxy.seen[-1].headers["x-ms-access-tier"] == "Cool"


def test_an_answer_that_contradicts_what_was_sent_is_no_success(
    container: str, proxy: Proxy, tmp_path: Path
) -> None:
    answer = azure_error(201, "").answer
    assert answer is not None
    changed = Fault(answer=type(answer)(201, b"", {"ETag": '"1"', "Content-MD5": md5(b"else")}))
    proxy.script = answering(changed)
    error = failed_put(store_of(container, account_behind(proxy)), tmp_path)
    assert type(error) is Refused
    assert "holds something else than what was sent" in error.message


@pytest.mark.parametrize("size", [5, 6 * MIB + 1], ids=["at once", "in blocks"])
def test_an_archive_that_changed_in_the_workspace_is_not_completed(
    size: int, container: str, proxy: Proxy, tmp_path: Path
) -> None:
    package = package_of(tmp_path, LARGE[:size])
    file_of(package).write_bytes(LARGE[:size][::-1])
    with pytest.raises(NotSent, match="changed in the workspace"):
        store_of(container, account_behind(proxy)).put(package, ignore)
    assert all(map(is_block, proxy.seen))


def test_names_arrive_byte_by_byte_however_awkward_the_prefix(
    azurite: Azurite, container: str, proxy: Proxy, tmp_path: Path
) -> None:
    names = {"ü ~!*'()/%41+&=;,@:$/audit/x", "a%2Fb/c.d/..e/audit/y", '[x]/{y}/^`|"<>#?/z'}
    ways: list[dict[str, Any]] = [{}, {"sas": sas_of(container)}]
    for access in ways:
        store = store_of(container, account_behind(proxy), **access)
        for name in names:
            store.put(package_of(tmp_path, b"x", f"{len(access)}/{name}"), ignore)
    assert azurite.names(container) == {f"{number}/{name}" for number in (0, 1) for name in names}


def test_nothing_heavy_is_loaded_before_the_first_put() -> None:
    code = (
        "import sys; from exporter.destinations.azure.settings import AzureSettings;"
        "from exporter.network.guard import Guard; from exporter.notation.secret import Secret;"
        "AzureSettings(type='azure', container='abc', account_url='https://acme.blob.core.windows.net',"
        " sas=Secret('sv=1&sig=x')).open(Guard());"
        "assert not {'azure', 'requests', 'msal'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_azurite_ends_with_its_test() -> None:
    with azurite_server() as own:
        port = int(own.origin.rpartition(":")[2])
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=1).close()


# --- What it needs --------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"small", LARGE], ids=["small", "large"])
def test_the_permission_to_create_is_enough(
    data: bytes, azurite: Azurite, container: str, proxy: Proxy, tmp_path: Path
) -> None:
    """Blocks need more (w), so a large blob goes in one request; progress counts no byte twice."""
    store = store_of(container, account_behind(proxy), sas=sas_of(container))
    sent: list[int] = []
    store.put(package_of(tmp_path, data), sent.append)
    assert azurite.read(container, NAME) == data
    assert sum(sent) == len(data)
    with pytest.raises(ObjectExists):
        store.put(package_of(tmp_path, data[::-1]), ignore)
    assert sum(map(is_block, proxy.seen)) == (1 if data == LARGE else 0), "asked once, and remembered"
    (finding,) = store.check(".audit-exporter-check/1")
    assert finding.level is Level.OK


def test_what_is_too_large_for_one_request_needs_the_right_to_blocks(
    container: str, proxy: Proxy, tmp_path: Path
) -> None:
    limits = Limits(large_bytes=4 * MIB, part_bytes=4 * MIB, at_once_bytes=5 * MIB)
    store = store_of(container, account_behind(proxy), sas=sas_of(container), limits=limits)
    store.put(package_of(tmp_path, LARGE[: 4 * MIB], "audit/small enough"), ignore)  # finds out about blocks
    assert isinstance(failed_put(store, tmp_path, LARGE), Refused)
    assert is_block(proxy.seen[-1])


# --- Blocks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault", [azure_error(500, "InternalError"), azure_error(503, "ServerBusy"), LOSE_ANSWER, LOSE_REQUEST]
)
def test_a_block_is_tried_again(
    fault: Fault, azurite: Azurite, container: str, proxy: Proxy, tmp_path: Path
) -> None:
    failures = iter([fault] * (azure.BLOCK_TRIES - 1))
    proxy.script = lambda request: next(failures, None) if is_block(request) else None
    sent: list[int] = []
    store_of(container, account_behind(proxy)).put(package_of(tmp_path, LARGE), sent.append)
    assert azurite.read(container, NAME) == LARGE
    assert sum(map(is_list, proxy.seen)) == 1
    assert sum(sent) == len(LARGE)


def test_a_block_that_keeps_failing_ends_the_attempt_and_nothing_can_land(
    container: str, proxy: Proxy, tmp_path: Path
) -> None:
    proxy.script = answering(azure_error(500, "InternalError"), is_block)
    error = failed_put(store_of(container, account_behind(proxy)), tmp_path, LARGE)
    assert type(error) is NotSent
    assert "broke off" in error.message
    assert sum(map(is_block, proxy.seen)) == len(proxy.seen) == azure.BLOCK_TRIES


def test_a_refused_block_is_not_tried_again(container: str, proxy: Proxy, tmp_path: Path) -> None:
    proxy.script = answering(azure_error(404, "ContainerNotFound"))
    assert isinstance(failed_put(store_of(container, account_behind(proxy)), tmp_path, LARGE), Refused)
    assert len(proxy.seen) == 1


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (azure_error(409, "BlobAlreadyExists"), ObjectExists),
        (azure_error(412, "ConditionNotMet"), ObjectExists),
        (azure_error(403, "UnauthorizedBlobOverwrite"), ObjectExists),
        (azure_error(403, "AuthorizationFailure"), Refused),
        (azure_error(400, "InvalidBlockList"), Refused),
        (azure_error(500, "OperationTimedOut"), OutcomeUnknown),
        (azure_error(503, "ServerBusy", forward=True), OutcomeUnknown),
        (LOSE_REQUEST, OutcomeUnknown),
        (LOSE_ANSWER, OutcomeUnknown),
    ],
)
def test_the_list_of_blocks_is_sent_once(
    fault: Fault, kind: type[DeliveryError], container: str, proxy: Proxy, tmp_path: Path
) -> None:
    proxy.script = answering(fault, is_list)
    assert type(failed_put(store_of(container, account_behind(proxy)), tmp_path, LARGE)) is kind
    assert sum(map(is_list, proxy.seen)) == 1


def test_a_right_to_blocks_that_ends_on_the_way_does_not_double_the_upload(
    container: str, proxy: Proxy, tmp_path: Path
) -> None:
    def refuse_list(request: Request) -> Fault | None:
        return azure_error(403, "AuthorizationPermissionMismatch") if is_list(request) else None

    proxy.script = refuse_list
    error = failed_put(store_of(container, account_behind(proxy), limits=IN_BLOCKS), tmp_path, LARGE)
    assert isinstance(error, Refused)
    assert is_list(proxy.seen[-1])
