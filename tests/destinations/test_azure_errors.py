"""What the Azure driver makes of every answer, and of none."""

from __future__ import annotations

import base64
import hashlib
import logging
import socket
import time
import traceback
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

import pytest
import stamina

from exporter.destinations.azure.errors import advice_for
from exporter.destinations.azure.store import BLOCK_TRIES
from exporter.destinations.uploads import Limits
from exporter.errors import DeliveryError, NotSent, ObjectExists, OutcomeUnknown, Refused
from tests.contracts.object_store import NAME, package_of
from tests.kit.azure_stores import (
    LARGE,
    account_behind,
    answering,
    azure_before,
    azure_error,
    failed_put,
    is_list,
    put,
    store_of,
)
from tests.kit.azurite import KEY, Azurite, sas_of, shared_azurite
from tests.kit.proxy import CUT_BEFORE_BODY, LOSE_ANSWER, LOSE_REQUEST, Answer, Fault, Proxy

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


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
    with stamina.set_testing(True, attempts=BLOCK_TRIES):
        yield


ROLE = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/add/action"
ANSWERS = [
    (409, "BlobAlreadyExists", ObjectExists, "", ""),
    (412, "ConditionNotMet", ObjectExists, "", ""),
    (412, "TargetConditionNotMet", ObjectExists, "", ""),
    (412, "LeaseIdMissing", ObjectExists, "", ""),
    (403, "UnauthorizedBlobOverwrite", ObjectExists, "", ""),
    (409, "BlobImmutableDueToPolicy", ObjectExists, "", ""),
    (409, "BlobImmutableDueToLegalHold", ObjectExists, "", ""),
    (403, "AuthorizationPermissionMismatch", Refused, "blobs/add/action", ROLE),
    (403, "AuthorizationFailure", Refused, "firewall", "network-rule add --account-name devstoreaccount1"),
    (403, "AuthorizationSourceIPMismatch", Refused, "address", "network-rule add"),
    (403, "AuthorizationProtocolMismatch", Refused, "https", ""),
    (403, "AuthorizationResourceTypeMismatch", Refused, "new SAS", "--permissions c --https-only"),
    (403, "InsufficientAccountPermissions", Refused, "enable writing", ""),
    (403, "KeyBasedAuthenticationNotPermitted", Refused, "identity", "--allow-shared-key-access true"),
    (403, "AuthenticationFailed", Refused, "enter account_key again", "keys list"),
    (403, "AccountIsDisabled", Refused, "enable the storage account", ""),
    (403, "SomethingNew", Refused, "correct what the settings ask for", ""),
    (400, "InvalidHeaderValue", Refused, "access_tier", ""),
    (403, "RequestForbiddenByContainerEncryptionPolicy", Refused, "encryption_scope", "encryption-scope"),
    (401, "InvalidAuthenticationInfo", Refused, "enter account_key again", "keys list"),
    (401, "NoAuthenticationInformation", Refused, "SAS", "generate-sas"),
    (404, "ContainerNotFound", Refused, "create the container", "az storage container create"),
    (404, "ResourceNotFound", Refused, "correct container", ""),
    (409, "ContainerBeingDeleted", Refused, "wait", "az storage container create"),
    (409, "PublicAccessNotPermitted", Refused, "SAS", "generate-sas"),
    (409, "EncryptionScopeDisabled", Refused, "encryption_scope", "--name customer-scope --state Enabled"),
    (409, "KeyVaultEncryptionKeyNotFound", Refused, "vault", "Key Vault Crypto Service Encryption User"),
    (400, "Md5Mismatch", Refused, "bytes changed", ""),
    (413, "RequestBodyTooLarge", Refused, "part_limit", ""),
    (429, "TooManyRequests", Refused, "unless it stays", ""),
    (408, "RequestTimeout", OutcomeUnknown, "unless it stays", ""),
    (500, "InternalError", OutcomeUnknown, "unless it stays", ""),
    (500, "OperationTimedOut", OutcomeUnknown, "fewer requests", ""),
    (503, "ServerBusy", OutcomeUnknown, "fewer requests", ""),
    (500, "", OutcomeUnknown, "unless it stays", ""),
    (502, "", OutcomeUnknown, "unless it stays", ""),
    (503, "", OutcomeUnknown, "unless it stays", ""),
    (409, "", OutcomeUnknown, "what lies between", ""),
    (412, "", ObjectExists, "what lies between", ""),
    (401, "", Refused, "what lies between", ""),
    (403, "", Refused, "what lies between", ""),
    (200, "", OutcomeUnknown, "what lies between", ""),
    (301, "", Refused, "correct account_url", ""),
    (307, "", Refused, "correct account_url", ""),
    (308, "", Refused, "correct account_url", ""),
]


@pytest.mark.parametrize(
    ("status", "code", "kind", "hint", "fix"), ANSWERS, ids=lambda value: str(value)[:32]
)
def test_every_answer_means_one_thing_and_is_asked_for_once(  # noqa: PLR0913, PLR0917 - a table
    status: int,
    code: str,
    kind: type[DeliveryError],
    hint: str,
    fix: str,
    container: str,
    proxy: Proxy,
    tmp_path: Path,
) -> None:
    bare = Fault(forward=False, answer=Answer(status, headers={"Location": "http://127.0.0.1:9/"}))
    proxy.script = answering(azure_error(status, code) if code else bare)
    store = store_of(container, account_behind(proxy), encryption_scope="customer-scope")
    error = failed_put(store, tmp_path)
    assert isinstance(error, kind)
    assert NAME in error.message
    assert hint in error.hint
    assert fix in error.fix
    if kind is not ObjectExists and code:
        assert f"{code}: made up (request REQ1)" in error.message
    assert len(proxy.seen) == 1


@pytest.mark.parametrize(
    ("way", "words"), [("key", "account_key"), ("sas", "new SAS"), ("managed", "tenant_id")]
)
def test_advice_is_about_the_way_in_that_was_used(way: str, words: str) -> None:
    assert words in advice_for("InvalidAuthenticationInfo", "", way).hint


PK_MD5 = base64.b64encode(hashlib.md5(b"PK...", usedforsecurity=False).digest()).decode()


@pytest.mark.parametrize(
    ("data", "headers"),
    [
        (b"PK...", {}),
        (b"PK...", {"Content-MD5": PK_MD5}),
        (b"PK...", {"ETag": '"1"'}),
        (b"PK...", {"ETag": '""', "Content-MD5": PK_MD5}),
        (LARGE, {}),
    ],
    ids=["bare", "md5 alone", "etag alone", "empty etag", "in blocks"],
)
def test_a_success_without_what_azure_says_with_it_is_none(
    data: bytes, headers: dict[str, str], azurite: Azurite, container: str, proxy: Proxy, tmp_path: Path
) -> None:
    """An empty 201 of whatever is in between would be taken for a delivery, and its records would be lost."""
    created = Fault(forward=False, answer=Answer(201, headers=headers))
    proxy.script = answering(created, lambda request: data != LARGE or is_list(request))
    error = failed_put(store_of(container, account_behind(proxy)), tmp_path, data)
    assert type(error) is OutcomeUnknown
    assert "did not say what it stored" in error.message
    assert "what lies between here and the account" in error.hint
    assert azurite.names(container) == set()


@pytest.mark.parametrize(
    ("detail", "hint"),
    [
        ("Signature not valid in the specified time frame: Start [1] - Expiry [2] - Current [3]", "new SAS"),
        ("Signature did not match. String to sign used was c\n2026", "enter account_key again"),
        ("The Date header in the request is incorrect", "clock"),
        ("Lifetime validation failed. The token is expired.", "clock"),
        ("Issuer validation failed. Issuer did not match.", "tenant_id"),
    ],
)
def test_a_failed_authentication_says_why(
    detail: str, hint: str, container: str, proxy: Proxy, tmp_path: Path
) -> None:
    proxy.script = answering(azure_error(403, "AuthenticationFailed", detail=detail))
    error = failed_put(store_of(container, account_behind(proxy)), tmp_path)
    assert detail.split(".", maxsplit=1)[0].split("\n", maxsplit=1)[0] in error.message
    assert hint in error.hint


def test_the_signature_that_azure_quotes_is_left_out(container: str, proxy: Proxy, tmp_path: Path) -> None:
    signature = "qCjOeVvM7lZ0tS5m2yqX1c3dPz8uR4wK6hT9fB0aE1g="
    detail = f"The MAC signature found in the HTTP request '{signature}' is not the same as any computed one"
    proxy.script = answering(azure_error(403, "AuthenticationFailed", detail=detail))
    error = failed_put(store_of(container, account_behind(proxy)), tmp_path)
    assert "found in the HTTP request '***' is not the same" in error.message


def test_a_stranger_s_words_stay_words(container: str, proxy: Proxy, tmp_path: Path) -> None:
    proxy.script = answering(azure_error(403, "Code" * 5000, "\u009b2J\u202e" + "words " * 5000))
    message = failed_put(store_of(container, account_behind(proxy)), tmp_path).message
    assert message.isprintable()
    assert len(message) < 1000


def test_no_half_of_a_secret_is_left_where_words_are_cut(
    container: str, proxy: Proxy, tmp_path: Path
) -> None:
    store = store_of(container, account_behind(proxy))
    for length in range(500, 600, 9):
        proxy.script = answering(azure_error(403, "AuthorizationFailure", f"{'x' * length} {KEY}"))
        assert KEY[:12] not in failed_put(store, tmp_path).message


@pytest.mark.parametrize(
    ("fault", "landed"), [(CUT_BEFORE_BODY, False), (LOSE_REQUEST, False), (LOSE_ANSWER, True)]
)
def test_a_connection_that_ends_leaves_the_outcome_open(
    fault: Fault, *, landed: bool, azurite: Azurite, container: str, proxy: Proxy, tmp_path: Path
) -> None:
    proxy.script = answering(fault)
    store = store_of(container, account_behind(proxy))
    assert type(failed_put(store, tmp_path)) is OutcomeUnknown
    assert len(proxy.seen) == 1
    proxy.script = lambda _request: None
    if landed:
        assert type(failed_put(store, tmp_path)) is ObjectExists
    else:
        put(store, tmp_path)
    assert azurite.read(container, NAME) == b"PK..."


@pytest.mark.parametrize("sent", [0, 1, 400, 70_000, 4 << 20])
def test_a_reset_at_any_byte_leaves_the_outcome_open(sent: int, container: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        store = store_of(container, f"http://127.0.0.1:{server.getsockname()[1]}/devstoreaccount1")
        server.settimeout(10)

        def cut() -> None:
            connection, _ = server.accept()
            with connection:
                taken = 0
                while taken < sent:
                    taken += len(connection.recv(min(sent - taken, 65536)))

        thread = Thread(target=cut)
        thread.start()
        error = failed_put(store, tmp_path, LARGE[: 5 << 20])
        thread.join()
    assert type(error) is OutcomeUnknown


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"\xff\xfe", b"<Error><Code>", b'<?xml version="1.0"?><Error/>']
)
def test_an_error_that_is_not_azures_leaves_the_outcome_open(
    body: bytes, container: str, proxy: Proxy, tmp_path: Path
) -> None:
    headers = {"Content-Type": "application/xml"}
    for status in (200, 201, 502):
        proxy.script = answering(Fault(forward=False, answer=Answer(status, body, headers)))
        assert type(failed_put(store_of(container, account_behind(proxy)), tmp_path)) is OutcomeUnknown


def test_an_answer_that_does_not_come_in_time_leaves_the_outcome_open(
    container: str, proxy: Proxy, tmp_path: Path
) -> None:
    never = Event()
    proxy.script = answering(Fault(hold=never))
    error = failed_put(store_of(container, account_behind(proxy), limits=Limits(answer_s=0.2)), tmp_path)
    never.set()
    assert type(error) is OutcomeUnknown


def test_an_upload_that_crawls_is_ended(
    container: str, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However steadily bytes trickle: digests take no time here, and each block on the wire takes 0.5 s."""
    passed = [0.0]
    real = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: real() + passed[0])

    def crawl(_sent_bytes: int) -> None:
        passed[0] += 0.5

    store = store_of(container, account_behind(proxy), limits=Limits(slowest_bytes_per_s=1 << 20))
    with pytest.raises(OutcomeUnknown):
        store.put(package_of(tmp_path, LARGE[: 5 << 20]), crawl)
    assert 60 < passed[0] < 70


def test_a_port_where_nobody_listens_means_not_sent(container: str, tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/devstoreaccount1"
        error = failed_put(store_of(container, url), tmp_path)
    assert type(error) is NotSent


def test_a_certificate_that_nobody_vouches_for_means_not_sent(tmp_path: Path) -> None:
    azurite = shared_azurite(https=True)
    error = failed_put(store_of("some-container", azurite.url), tmp_path)
    assert type(error) is NotSent
    assert "ca_file" in error.hint


@pytest.mark.parametrize("key", ["not base64!", "a"])
def test_a_key_that_is_none_means_not_sent(key: str, container: str, proxy: Proxy, tmp_path: Path) -> None:
    error = failed_put(store_of(container, account_behind(proxy), account_key=key), tmp_path)
    assert type(error) is NotSent
    assert "key" in error.hint
    assert proxy.seen == []


# --- What is never shown --------------------------------------------------------------------------


def everything_about(error: BaseException, log: pytest.LogCaptureFixture) -> str:
    shown = "".join(traceback.format_exception(error))
    hint = f"{getattr(error, 'hint', '')}{getattr(error, 'fix', '')}"
    return f"{shown}{error!r}{error.__context__!r}{hint}{log.text}"


@pytest.mark.parametrize(
    "fault",
    [
        LOSE_REQUEST,
        LOSE_ANSWER,
        azure_error(500, "InternalError"),
        azure_error(403, "AuthenticationFailed", detail="The signature was sig={sig}, in the URL ?{sas}"),
        azure_error(404, "ContainerNotFound", "no such thing: {sas} {key}"),
    ],
)
@pytest.mark.parametrize("way", ["sas", "account_key", "connection_string"])
@pytest.mark.parametrize("data", [b"PK...", LARGE], ids=["at once", "in blocks"])
def test_no_secret_is_shown_by_any_error_or_log(
    fault: Fault,
    way: str,
    data: bytes,
    container: str,
    proxy: Proxy,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    sas = sas_of(container, "cw")
    signature = sas.rpartition("sig=")[2]
    text = f"BlobEndpoint={account_behind(proxy)};SharedAccessSignature={sas}"
    given: str = {"sas": sas, "account_key": KEY, "connection_string": text}[way]
    if fault.answer is not None:
        body = fault.answer.body.replace(b"{sas}", sas.encode()).replace(b"{sig}", signature.encode())
        answer = Answer(fault.answer.status, body.replace(b"{key}", given.encode()), fault.answer.headers)
        fault = Fault(forward=False, answer=answer)
    proxy.script = answering(fault)
    access: dict[str, Any] = {way: given}
    shown = everything_about(
        failed_put(store_of(container, account_behind(proxy), **access), tmp_path, data), caplog
    )
    for secret in (KEY, signature, signature.replace("%2B", "+").replace("%2F", "/").replace("%3D", "=")):
        assert secret not in shown


def test_a_sas_is_not_shown_where_nobody_answers(
    container: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/devstoreaccount1"
        error = failed_put(store_of(container, url, sas="sv=1&sp=c&sig=c4n4ryc4n4ry"), tmp_path)
    assert "c4n4ryc4n4ry" not in everything_about(error, caplog)


def test_a_delivery_writes_no_signature_into_a_log(
    container: str, proxy: Proxy, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    put(store_of(container, account_behind(proxy), sas=sas_of(container)), tmp_path)
    assert "sig=" not in caplog.text.replace("sig=***", "")
