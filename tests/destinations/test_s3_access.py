"""Who asks S3: where credentials come from, how clients are set up and kept, and what stays secret."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING, cast

import pytest
from botocore.credentials import CredentialResolver
from botocore.loaders import JSONFileLoader

from exporter.destinations.object_store import ObjectStoreDestination
from exporter.destinations.s3 import access as s3_access
from exporter.destinations.s3 import wire
from exporter.destinations.s3.clients import KEPT_CLIENTS, IdleClients
from exporter.errors import NotSent
from exporter.network.guard import Guard
from exporter.notation.secret import Secret
from tests.contracts.object_store import ignore, package_of
from tests.kit.proxy import (
    Fault,
    Proxy,
    Request,
    proxy_before,
    s3_error,
)
from tests.kit.s3_stores import (
    CANARY,
    KEYS,
    NO_KEYS,
    ROLE_ARN,
    answering,
    connections_to,
    failed_put,
    new_bucket_behind,
    put,
    settings_of,
    sha256_base64,
    store_of,
    with_,
)
from tests.kit.servers import (
    new_certificate,
    shared_moto,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mypy_boto3_s3 import S3Client

    from exporter.destinations.s3.settings import S3Settings


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    with proxy_before(shared_moto().url) as running:
        yield running


@pytest.fixture
def settings(proxy: Proxy) -> S3Settings:
    return new_bucket_behind(proxy)


@pytest.fixture
def fresh_session() -> Iterator[None]:
    """The machine's own credentials and settings are read anew."""
    s3_access.session.cache_clear()
    yield
    s3_access.session.cache_clear()


# --- Who asks -------------------------------------------------------------------------------------


def test_secrets_are_read_again_for_every_put(settings: S3Settings, proxy: Proxy, tmp_path: Path) -> None:
    environ: dict[str, str] = {}
    store = store_of(with_(settings, access_key_id=Secret("ID", "env", environ), session_token="token-1"))
    for number, key in enumerate(("AKIAFIRST", "AKIASECOND", "AKIASECOND")):
        environ["ID"] = key
        store.put(package_of(tmp_path, b"x", f"audit/{number}"), ignore)
    assert [seen.headers["authorization"].split("=")[1].split("/")[0] for seen in proxy.seen] == [
        "AKIAFIRST",
        "AKIASECOND",
        "AKIASECOND",
    ]
    assert {seen.headers["x-amz-security-token"] for seen in proxy.seen} == {"token-1"}


def test_a_secret_that_cannot_be_read_is_a_failure_of_this_attempt(
    settings: S3Settings, proxy: Proxy, tmp_path: Path
) -> None:
    missing = Secret(str(tmp_path / "missing"), "file")
    error = failed_put(store_of(with_(settings, secret_access_key=missing)), tmp_path)
    assert isinstance(error, NotSent)
    assert (
        error.message == f"the secret file {tmp_path / 'missing'} cannot be read: No such file or directory"
    )
    assert "mount it" in error.hint
    assert proxy.seen == []


@pytest.mark.usefixtures("fresh_session")
def test_without_keys_the_machine_s_own_credentials_are_used(
    settings: S3Settings, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAMACHINE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    put(store_of(with_(settings, **NO_KEYS)), tmp_path)
    assert "AKIAMACHINE" in proxy.seen[0].headers["authorization"]


@pytest.mark.usefixtures("fresh_session")
def test_a_machine_without_credentials_sends_nothing(
    settings: S3Settings, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    error = failed_put(store_of(with_(settings, **NO_KEYS)), tmp_path)
    assert isinstance(error, NotSent)
    assert "access_key_id" in error.hint
    assert proxy.seen == []


# --- Clients -------------------------------------------------------------------------------------


def test_a_client_serves_one_request_after_another_but_never_two_at_once(settings: S3Settings) -> None:
    access = store_of(settings)._access
    with access.client() as first, access.client() as second:
        assert first is not second
    with access.client() as third:
        assert third is first


def test_a_put_that_fails_gives_its_client_back(settings: S3Settings, proxy: Proxy, tmp_path: Path) -> None:
    store = store_of(settings)
    with store._access.client() as before:
        pass
    proxy.script = answering(s3_error(403, "AccessDenied"))
    failed_put(store, tmp_path)
    with store._access.client() as after:
        assert after is before


@pytest.mark.parametrize("threads", [1, 16])
def test_the_connections_of_many_buckets_stay_few(
    threads: int, settings: S3Settings, proxy: Proxy, tmp_path: Path
) -> None:
    """One for each of a thousand buckets would leave no open file to anybody."""
    numbers = range(200)
    stores = [store_of(settings) for _ in numbers]
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


def test_idle_clients_with_replaced_keys_are_closed_and_others_are_not() -> None:
    closed: list[str] = []
    idle = IdleClients()
    for name, way, keys in (("a", "here", "old"), ("b", "here", "new"), ("c", "there", "old")):
        idle.put_back(way, keys, cast("S3Client", Recorded(name, closed)))
    idle.let_go("here", "old")
    assert closed == ["a"]
    assert idle.take("here", "old") is None


@pytest.fixture
def none_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a process begins."""
    monkeypatch.setattr(s3_access, "_IDLE", IdleClients())


@pytest.mark.usefixtures("none_idle")
def test_buckets_that_are_reached_alike_with_the_same_keys_share_a_client(
    settings: S3Settings, proxy: Proxy, tmp_path: Path
) -> None:
    """And each object goes to its own bucket, each error names its own."""
    others = [with_(settings, bucket=shared_moto().new_bucket()) for _ in range(3)]
    for one in (settings, *others):
        put(store_of(one), tmp_path)
    assert [seen.path.split("/")[1] for seen in proxy.seen] == [one.bucket for one in (settings, *others)]
    assert connections_to(proxy) == 1
    proxy.script = answering(s3_error(403, "AccessDenied"))
    for one in others:
        assert one.bucket in failed_put(store_of(one), tmp_path).message


@pytest.mark.usefixtures("none_idle")
@pytest.mark.parametrize(
    "change",
    [
        {"access_key_id": "AKIAOTHER"},
        {"secret_access_key": "other"},
        {"session_token": "other"},
        {"region": "eu-west-1"},
        {"path_style": False},
        {"endpoint_url": "http://127.0.0.1:9"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_whatever_a_client_is_made_of_keeps_it_from_others(
    settings: S3Settings, change: dict[str, object]
) -> None:
    mine, other = store_of(settings)._access, store_of(with_(settings, **change))._access
    for _ in range(2):
        with mine.client() as first:
            pass
        with other.client() as second:
            pass
        assert first is not second


@pytest.mark.usefixtures("none_idle")
def test_who_may_reach_more_does_not_share_a_client_with_who_may_not(settings: S3Settings) -> None:
    with store_of(settings)._access.client() as first:
        pass
    with store_of(settings, guard=Guard(["127.0.0.1"]))._access.client() as second:
        assert first is not second


@pytest.mark.usefixtures("none_idle")
def test_authorities_of_one_customer_are_not_trusted_for_another(
    settings: S3Settings, tmp_path: Path
) -> None:
    authority, _ = new_certificate(tmp_path)
    mine, other = store_of(settings)._access, store_of(with_(settings, ca_file=authority))._access
    with mine.client() as first, other.client() as second:
        assert trusted_by(first) + 1 == trusted_by(second)
    with mine.client() as third:
        assert third is first


def trusted_by(client: S3Client) -> int:
    return wire.session_of(client)._context.cert_store_stats()["x509_ca"]


@pytest.mark.usefixtures("none_idle")
def test_exports_with_different_roles_never_get_each_other_s_client(
    settings: S3Settings, proxy: Proxy, tmp_path: Path
) -> None:
    """Each request is signed with the keys of its own export's role, whoever came before it."""
    stores = [store_of(with_(settings, role_arn=f"{ROLE_ARN}-{number}")) for number in range(3)]
    signed: dict[str, set[str]] = {}
    for turn in range(2):
        for store in stores:
            before = len(proxy.seen)
            store.put(package_of(tmp_path, b"x", f"audit/{turn}-{id(store)}"), ignore)
            puts = [seen for seen in proxy.seen[before:] if seen.method == "PUT"]
            signed.setdefault(store._settings.role_arn or "", set()).update(
                seen.headers["x-amz-security-token"] for seen in puts
            )
    assert len(signed) == len(stores)
    assert [len(tokens) for tokens in signed.values()] == [1, 1, 1]
    assert len(set.union(*signed.values())) == len(stores)


@pytest.mark.usefixtures("none_idle")
def test_a_client_whose_keys_are_replaced_while_it_is_used_is_closed_after_that(
    settings: S3Settings, proxy: Proxy, tmp_path: Path
) -> None:
    environ = {"ID": "AKIAFIRST"}
    store = store_of(with_(settings, access_key_id=Secret("ID", "env", environ)))
    with store._access.client() as first:
        put(store, tmp_path)
        assert connections_to(proxy) == 1
        environ["ID"] = "AKIASECOND"
        store.put(package_of(tmp_path, b"x", "audit/second"), ignore)
    with store._access.client() as later:
        assert later is not first
    assert connections_to(proxy) == 1


def test_a_connection_ends_when_its_credentials_are_replaced(
    settings: S3Settings, proxy: Proxy, tmp_path: Path
) -> None:
    environ: dict[str, str] = {}
    store = store_of(with_(settings, access_key_id=Secret("ID", "env", environ)))
    for number, key in enumerate(("AKIAFIRST", "AKIASECOND")):
        environ["ID"] = key
        store.put(package_of(tmp_path, b"x", f"audit/{number}"), ignore)
    assert connections_to(proxy) == 1


def test_the_connection_that_asked_for_a_role_is_not_kept(
    settings: S3Settings, proxy: Proxy, tmp_path: Path
) -> None:
    put(store_of(with_(settings, role_arn=ROLE_ARN)), tmp_path)
    assert [seen.method for seen in proxy.seen] == ["POST", "PUT"]
    assert connections_to(proxy) == 1


@pytest.mark.usefixtures("fresh_session")
def test_an_endpoint_from_the_environment_is_not_another_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with store_of(settings_of("b", region="eu-west-1", **KEYS))._access.client() as client:
        assert client.meta.endpoint_url == "https://s3.eu-west-1.amazonaws.com"


@pytest.fixture
def nothing_loaded() -> Iterator[None]:
    """As in a process that has delivered nothing yet."""
    s3_access.load.cache_clear()
    s3_access.session.cache_clear()
    yield
    s3_access.load.cache_clear()
    s3_access.session.cache_clear()


@pytest.mark.usefixtures("nothing_loaded")
def test_what_is_loaded_ahead_is_all_that_a_client_needs_and_asks_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Processes forked after it share it; a connection, or keys that somebody gave, must not be shared."""

    def asked(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(socket.socket, "connect", asked)
    monkeypatch.setattr(CredentialResolver, "load_credentials", asked)
    store = store_of(settings_of("b", region="eu-south-1", **KEYS))  # to which no idle client leads
    ObjectStoreDestination(store, "").load()
    monkeypatch.setattr(JSONFileLoader, "load_file", asked)
    with store._access.client() as client:
        assert client.meta.service_model.service_name == "s3"


@pytest.mark.usefixtures("nothing_loaded")
def test_what_is_wrong_shows_at_a_delivery_and_not_when_it_is_loaded_ahead(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "gone.pem"))
    store = store_of(settings_of("b", region="eu-south-2", **KEYS))  # to which no idle client leads
    store.load()
    assert "gone.pem cannot be read" in failed_put(store, tmp_path).message


def test_checksums_are_the_ones_given_and_no_others() -> None:
    with store_of(settings_of("b", **KEYS))._access.client() as client:
        assert getattr(client.meta.config, "request_checksum_calculation", None) == "when_required"


def test_tls_trusts_the_given_authority_and_sends_no_trailing_checksum(
    settings: S3Settings, tmp_path: Path
) -> None:
    authority, tls = new_certificate(tmp_path)
    with proxy_before(shared_moto().url, tls=tls) as proxy:
        put(store_of(with_(settings, endpoint_url=proxy.url, ca_file=authority)), tmp_path)
        headers = proxy.seen[0].headers
        error = failed_put(store_of(with_(settings, endpoint_url=proxy.url)), tmp_path)
    assert not {"x-amz-trailer", "transfer-encoding", "content-encoding"} & set(headers)
    assert headers["x-amz-checksum-sha256"] == sha256_base64(b"PK...")
    assert isinstance(error, NotSent)
    assert "ca_file" in error.hint
    assert len(proxy.seen) == 1


# --- Secrets --------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["secret_access_key", "session_token", "external_id"])
def test_no_message_repeats_a_secret_that_the_store_sends_back(
    place: str, settings: S3Settings, proxy: Proxy, tmp_path: Path
) -> None:
    refused = s3_error(403, "SignatureDoesNotMatch", f"you sent {CANARY}")
    proxy.script = answering(refused, lambda request: request.method == "PUT")
    secretive = with_(settings, **{"role_arn": ROLE_ARN, place: CANARY})
    error = failed_put(store_of(secretive), tmp_path)
    assert "you sent ***" in error.message
    assert CANARY not in f"{error.message}{error.hint}{error.fix}{secretive!r}"


def test_no_secret_is_in_what_a_traceback_with_variables_would_show() -> None:
    keys = s3_access.Keys("AKIA", CANARY, CANARY)
    secrets = s3_access.Secrets("AKIA", CANARY, CANARY, CANARY)
    role = s3_access.Role(secrets, keys, datetime.now(UTC))
    assert CANARY not in f"{keys!r}{secrets!r}{role!r}"


def test_no_message_repeats_a_token_that_no_header_can_hold(settings: S3Settings, tmp_path: Path) -> None:
    error = failed_put(store_of(with_(settings, session_token=f"{CANARY}\n")), tmp_path)
    assert CANARY not in error.message + error.hint


def test_no_message_repeats_the_keys_of_an_assumed_role(
    settings: S3Settings, proxy: Proxy, tmp_path: Path
) -> None:
    def script(request: Request) -> Fault | None:
        token = request.headers.get("x-amz-security-token")
        return s3_error(400, "InvalidToken", f"bad token {token}") if token else None

    proxy.script = script
    error = failed_put(store_of(with_(settings, role_arn=ROLE_ARN)), tmp_path)
    assert "bad token ***" in error.message
