"""Who asks S3: where credentials come from, how clients are set up and kept, and what stays secret."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, cast
from urllib.parse import parse_qs

import pytest

from exporter.destinations.s3 import access as s3_access
from exporter.destinations.s3.clients import KEPT_CLIENTS, IdleClients
from exporter.destinations.s3.store import S3Options, S3Secrets, S3Store
from exporter.errors import ConfigError, NotSent
from tests.contracts.object_store import ignore, package_of
from tests.proxy import (
    LOSE_ANSWER,
    Answer,
    Fault,
    Proxy,
    Request,
    proxy_before,
    s3_error,
)
from tests.s3_stores import (
    CANARY,
    KEYS,
    ROLE_ARN,
    answering,
    connections_to,
    failed_put,
    new_bucket_behind,
    put,
    sha256_base64,
    store_of,
)
from tests.servers import (
    ACCESS_KEY_ID,
    SECRET_ACCESS_KEY,
    new_certificate,
    shared_moto,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mypy_boto3_s3 import S3Client


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    with proxy_before(shared_moto().url) as running:
        yield running


@pytest.fixture
def options(proxy: Proxy) -> S3Options:
    return new_bucket_behind(proxy)


@pytest.fixture
def fresh_session() -> Iterator[None]:
    """The machine's own credentials and settings are read anew."""
    s3_access.session.cache_clear()
    yield
    s3_access.session.cache_clear()


# --- Who asks -------------------------------------------------------------------------------------


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


# --- Clients -------------------------------------------------------------------------------------


def test_a_client_serves_one_request_after_another_but_never_two_at_once(options: S3Options) -> None:
    access = store_of(options)._access
    with access.client() as first, access.client() as second:
        assert first is not second
    with access.client() as third:
        assert third is first


def test_a_put_that_fails_gives_its_client_back(options: S3Options, proxy: Proxy, tmp_path: Path) -> None:
    store = store_of(options)
    with store._access.client() as before:
        pass
    proxy.script = answering(s3_error(403, "AccessDenied"))
    failed_put(store, tmp_path)
    with store._access.client() as after:
        assert after is before


@pytest.mark.parametrize("threads", [1, 16])
def test_the_connections_of_many_buckets_stay_few(
    threads: int, options: S3Options, proxy: Proxy, tmp_path: Path
) -> None:
    """One for each of a thousand buckets would leave no open file to anybody."""
    numbers = range(200)
    stores = [store_of(options) for _ in numbers]
    packages = [package_of(tmp_path, b"x", f"audit/{number}") for number in numbers]

    def deliver(number: int) -> int:
        stores[number].put(packages[number], ignore)
        return connections_to(proxy)

    with ThreadPoolExecutor(threads) as pool:
        most = max(pool.map(deliver, numbers))
    assert most <= KEPT_CLIENTS + threads
    assert 0 < connections_to(proxy) <= KEPT_CLIENTS
    assert {seen.path.rpartition("/")[2] for seen in proxy.seen} == {str(number) for number in numbers}


class Recorded:
    """A client that says when it is closed."""

    def __init__(self, name: str, closed: list[str]) -> None:
        self.name = name
        self._closed = closed

    def close(self) -> None:
        self._closed.append(self.name)


def test_of_idle_clients_those_unused_for_longest_are_closed_and_none_that_is_in_use() -> None:
    closed: list[str] = []
    clients = {name: cast("S3Client", Recorded(name, closed)) for name in "abcd"}
    idle = IdleClients(kept=2)
    for name in "ab":
        idle.put_back(name, "keys", clients[name])
    assert idle.take("a", "keys") is clients["a"]
    for name in "cd":
        idle.put_back(name, "keys", clients[name])
    assert closed == ["b"]
    idle.put_back("a", "keys", clients["a"])
    assert closed == ["b", "c"]


def test_an_idle_client_with_replaced_keys_is_closed_and_those_of_others_are_not() -> None:
    closed: list[str] = []
    idle = IdleClients()
    for name in "ab":
        idle.put_back(name, "keys", cast("S3Client", Recorded(name, closed)))
    assert idle.take("a", "new keys") is None
    assert closed == ["a"]


def test_a_connection_ends_when_its_credentials_are_replaced(
    options: S3Options, proxy: Proxy, tmp_path: Path
) -> None:
    handed_out = iter(["AKIAFIRST", "AKIASECOND"])
    store = S3Store(options, lambda: S3Secrets(next(handed_out), SECRET_ACCESS_KEY))
    for number in range(2):
        store.put(package_of(tmp_path, b"x", f"audit/{number}"), ignore)
    assert connections_to(proxy) == 1


def test_the_connection_that_asked_for_a_role_is_not_kept(
    options: S3Options, proxy: Proxy, tmp_path: Path
) -> None:
    put(store_of(replace(options, role_arn=ROLE_ARN)), tmp_path)
    assert [seen.method for seen in proxy.seen] == ["POST", "PUT"]
    assert connections_to(proxy) == 1


@pytest.mark.usefixtures("fresh_session")
def test_an_endpoint_from_the_environment_is_not_another_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with store_of(S3Options("b", "eu-west-1"))._access.client() as client:
        assert client.meta.endpoint_url == "https://s3.eu-west-1.amazonaws.com"


def test_checksums_are_the_ones_given_and_no_others() -> None:
    with store_of(S3Options("b"))._access.client() as client:
        assert getattr(client.meta.config, "request_checksum_calculation", None) == "when_required"


def test_tls_trusts_the_given_authority_and_sends_no_trailing_checksum(
    options: S3Options, tmp_path: Path
) -> None:
    authority, tls = new_certificate(tmp_path)
    with proxy_before(shared_moto().url, tls=tls) as proxy:
        put(store_of(replace(options, endpoint_url=proxy.url, ca_file=authority)), tmp_path)
        headers = proxy.seen[0].headers
        error = failed_put(store_of(replace(options, endpoint_url=proxy.url)), tmp_path)
    assert not {"x-amz-trailer", "transfer-encoding", "content-encoding"} & set(headers)
    assert headers["x-amz-checksum-sha256"] == sha256_base64(b"PK...")
    assert isinstance(error, NotSent)
    assert "ca_file" in error.hint
    assert len(proxy.seen) == 1


# --- Secrets --------------------------------------------------------------------------------------


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
