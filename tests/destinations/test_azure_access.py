"""Who asks Azure and where: settings, accounts, every way in, tokens, and hosts that must not get one."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from pydantic import ValidationError

from exporter.destinations.azure.settings import AzureSettings
from exporter.destinations.azure.store import AzureStore
from exporter.errors import ConfigError, NotSent, ObjectExists, Refused
from exporter.network.guard import Guard
from exporter.notation.secret import Secret
from tests.contracts.object_store import ignore, package_of
from tests.kit.azure_stores import (
    ALLOWED,
    CANARY,
    account_behind,
    answering,
    azure_before,
    azure_error,
    failed_put,
    put,
    settings_of,
    store_of,
)
from tests.kit.azure_tokens import (
    CLIENT,
    TENANT,
    entra_error,
    entra_id,
    form_of,
    metadata_service,
    query_of,
    token_requests,
)
from tests.kit.azurite import ACCOUNT, KEY, Azurite, sas_of, shared_azurite
from tests.kit.proxy import LOSE_ANSWER, Answer, Fault, Proxy, Request, proxy_before

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

URL = "https://initech.blob.core.windows.net"
SAS = "sv=2024-05-04&sp=c&sr=c&sig=c2ln"


@pytest.fixture(autouse=True)
def no_machine_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's own Azure settings have no say."""
    for name in [name for name in os.environ if name.startswith(("AZURE_", "IDENTITY_", "IMDS_", "MSI_"))]:
        monkeypatch.delenv(name)


@pytest.fixture
def azurite() -> Azurite:
    return shared_azurite(https=True)


@pytest.fixture
def container(azurite: Azurite) -> str:
    return azurite.new_container()


@pytest.fixture
def entra(azurite: Azurite) -> Iterator[Proxy]:
    assert azurite.context is not None
    with entra_id(azurite.context) as service:
        yield service


@pytest.fixture
def metadata(monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    with metadata_service() as service:
        monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", service.url)
        yield service


def entra_store(azurite: Azurite, container: str, entra: Proxy, **more: object) -> AzureStore:
    who: dict[str, Any] = {"tenant_id": TENANT, "client_id": CLIENT, "authority_host": entra.url}
    return store_of(container, azurite.url, ca_file=azurite.authority, **who | more)


def new_client_certificate() -> str:
    """A certificate with its key, as PEM text."""
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "audit-exporter")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return (private + certificate.public_bytes(serialization.Encoding.PEM)).decode()


# --- Settings and accounts ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "needs an `account_url` or a `connection_string`"),
        ({"account_url": URL, "connection_string": "x"}, "brings its own"),
        ({"account_url": URL, "sas": SAS, "account_key": KEY}, "`account_key` and `sas`: keep one"),
        ({"account_url": URL, "sas": SAS, "identity": "managed"}, "keep one"),
        ({"account_url": URL, "client_secret": "x"}, "needs `tenant_id` and `client_id`"),
        ({"account_url": URL, "client_certificate": "x", "client_id": CLIENT}, "needs `tenant_id`"),
        ({"account_url": URL, "sas": SAS, "client_id": CLIENT}, "beside a key or SAS"),
        ({"account_url": URL, "identity": "managed", "tenant_id": TENANT}, "managed identity"),
        ({"account_url": f"{URL}?{SAS}"}, "set `sas`"),
        ({"account_url": f"{URL}/x?{SAS}"}, "set `sas`"),
        ({"account_url": "https://user:pass@host"}, "without a user or password"),
        ({"account_url": URL, "tenant_id": "a/b", "identity": "workload"}, "tenant"),
        ({"account_url": URL, "tenant_id": "..", "identity": "workload"}, "tenant"),
        ({"account_url": URL, "tenant_id": "a..b", "identity": "workload"}, "tenant"),
        ({"account_url": URL, "prefix": "a./b"}, "ends in a dot"),
        ({"account_url": URL, "container": "Audit"}, "lower-case"),
        ({"account_url": URL, "container": "a--b"}, "lower-case"),
        ({"account_url": URL, "container": "ab"}, "lower-case"),
        ({"account_url": URL, "container": "a" * 64}, "lower-case"),
        ({"account_url": URL, "access_tier": "Archive"}, "Hot"),
    ],
)
def test_a_mistake_in_the_settings_is_refused_in_words(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as refused:
        AzureSettings.model_validate({"type": "azure", "container": "audit"} | settings)
    assert words in str(refused.value)
    assert "c2ln" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://initech.blob.core.windows.net", "not encrypted"),
        ("http://ab.blob.core.windows.net", "not https"),
        (f"{URL}/audit", "has a path"),
        ("https://initech-secondary.blob.core.windows.net", "second region"),
        ("https://initech.dfs.core.windows.net", "address for blobs"),
        ("https://initech.blob.core.windows.net:99999", "no address"),
        ("https://a/b/c", "no address"),
        ("https://a b", "no address"),
        ("http://files.example.com", "https"),
        ("https://10.0.0.1", "10.0.0.1"),
        ("https://169.254.169.254/x", "169.254.169.254"),
    ],
)
def test_an_account_that_must_not_be_asked_is_a_mistake_in_the_configuration(url: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        AzureStore(settings_of("audit", url, sas=SAS), Guard())


@pytest.mark.parametrize(
    ("url", "name"),
    [
        (URL, "azure://initech/audit"),
        ("https://Initech.Blob.Core.Windows.Net:443/", "azure://initech/audit"),
        ("https://initech.blob.core.windows.net.", "azure://initech/audit"),
        ("https://initech.privatelink.blob.core.windows.net", "azure://initech/audit"),
        ("https://initech-dualstack.blob.core.windows.net", "azure://initech/audit"),
        ("https://initech.blob.core.usgovcloudapi.net", "azure://initech.blob.core.usgovcloudapi.net/audit"),
        ("https://initech.z7.blob.storage.azure.net", "azure://initech.z7.blob.storage.azure.net/audit"),
        ("https://blob.core.windows.net.example.com", "azure://audit@blob.core.windows.net.example.com"),
        ("https://Files.example.com", "azure://audit@files.example.com"),
        ("https://files.example.com:444/acme", "azure://audit@files.example.com:444/acme"),
    ],
)
def test_all_spellings_of_a_container_have_one_name(url: str, name: str) -> None:
    assert AzureStore(settings_of("audit", url, sas=SAS), Guard()).name == name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (f"AccountName=initech;AccountKey={KEY}", "azure://initech/audit"),
        (
            f"DefaultEndpointsProtocol=https;AccountName=initech;AccountKey={KEY};EndpointSuffix=core.windows.net",
            "azure://initech/audit",
        ),
        (
            f"BlobEndpoint={URL}/;QueueEndpoint=https://10.0.0.1/;SharedAccessSignature={SAS}",
            "azure://initech/audit",
        ),
        (
            f"accountname=initech;ACCOUNTKEY={KEY};BlobEndpoint=https://files.example.com/;",
            "azure://audit@files.example.com",
        ),
    ],
)
def test_a_connection_string_names_the_same_container(text: str, name: str) -> None:
    assert AzureStore(settings_of("audit", "", connection_string=text), Guard()).name == name


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("UseDevelopmentStorage=true", "emulator"),
        (f"AccountName=initech;AccountKey={KEY};DevelopmentStorageProxyUri=http://10.0.0.1", "emulator"),
        (f"AccountName=initech;AccountKey={KEY};BlobEndpoint=http://169.254.169.254/", "https"),
        (f"AccountName=initech;AccountKey={KEY};BlobEndpoint=https://127.0.0.1:8080/", "127.0.0.1"),
        (f"AccountName=initech;AccountKey={KEY};EndpointSuffix=@evil.example.com", "no address"),
        (f"AccountName=x.example.com/;AccountKey={KEY}", "AccountName"),
        (f"DefaultEndpointsProtocol=http;AccountName=initech;AccountKey={KEY}", "not encrypted"),
        (f"BlobEndpoint={URL}?{SAS}", "not both"),
        (f"BlobEndpoint={URL}?{SAS};SharedAccessSignature={SAS}", "no address"),
        (f"AccountName=initech;AccountKey={KEY};SharedAccessSignature={SAS}", "not both"),
        ("AccountName=initech", "not both"),
        (f"AccountKey={KEY}", "no AccountName"),
        (KEY.replace("=", "") + ";", "NAME=VALUE"),
        (KEY, "is an account key alone"),
        (f'"AccountName=initech;AccountKey={KEY}"', "in quotes"),
        (f"'AccountName=initech;AccountKey={KEY}'", "in quotes"),
        (" ", "NAME=VALUE"),
    ],
)
def test_a_connection_string_that_cannot_serve_is_refused_and_not_shown(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as refused:
        AzureStore(settings_of("audit", "", connection_string=text), Guard())
    shown = f"{refused.value!r}{refused.value.hint}{refused.value.__cause__!r}"
    assert KEY.rstrip("=") not in shown
    assert "c2ln" not in shown


def test_a_key_for_a_host_that_does_not_name_its_account_is_refused() -> None:
    with pytest.raises(ConfigError, match="which account"):
        AzureStore(settings_of("audit", "https://files.example.com", account_key=KEY), Guard())


# --- Ways in --------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["key", "sas", "string with key", "string with sas"])
def test_keys_sas_and_connection_strings_open_the_container(
    way: str, azurite: Azurite, container: str, tmp_path: Path
) -> None:
    sas = sas_of(container)
    given: dict[str, Any] = {
        "key": {"account_key": KEY},
        "sas": {"sas": f"?{sas}\n"},
        "string with key": {
            "connection_string": f"AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint={azurite.url}"
        },
        "string with sas": {"connection_string": f"BlobEndpoint={azurite.url};SharedAccessSignature={sas}"},
    }[way]
    put(store_of(container, azurite.url, ca_file=azurite.authority, **given), tmp_path)
    assert len(azurite.names(container)) == 1


def test_a_rotated_secret_is_used_with_the_next_request(
    azurite: Azurite, container: str, tmp_path: Path
) -> None:
    file = tmp_path / "sas"
    store = store_of(container, azurite.url, ca_file=azurite.authority, sas=Secret(str(file), "file"))
    file.write_text(sas_of(container, expires_in=timedelta(days=-1)))
    error = failed_put(store, tmp_path)
    assert isinstance(error, Refused)
    file.write_text(sas_of(container))
    put(store, tmp_path)
    file.unlink()
    error = failed_put(store, tmp_path)
    assert isinstance(error, NotSent)
    assert str(file) in error.message


def test_a_connection_string_that_turns_to_another_account_is_not_followed(
    azurite: Azurite, container: str, tmp_path: Path
) -> None:
    file = tmp_path / "string"
    file.write_text(f"AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint={azurite.url}")
    store = store_of(container, "", ca_file=azurite.authority, connection_string=Secret(str(file), "file"))
    file.write_text(f"AccountName=initech;AccountKey={KEY}")
    error = failed_put(store, tmp_path)
    assert isinstance(error, NotSent)
    assert "another account" in error.message


def test_a_client_secret_becomes_a_token_that_is_kept_until_near_its_end(
    azurite: Azurite, container: str, entra: Proxy, tmp_path: Path
) -> None:
    clock = [datetime.now(UTC)]
    settings = settings_of(
        container,
        azurite.url,
        ca_file=azurite.authority,
        tenant_id=TENANT,
        client_id=CLIENT,
        client_secret="made-up-secret",
        authority_host=entra.url,
    )
    store = AzureStore(settings, ALLOWED, now=lambda: clock[0])
    asked = []
    for number, passed in enumerate((0, 54, 56)):
        clock[0] += timedelta(minutes=passed) - (clock[0] - datetime.now(UTC))
        store.put(package_of(tmp_path, b"x", f"audit/{number}"), ignore)
        asked.append(len(token_requests(entra)))
    assert asked == [1, 1, 2]
    form = form_of(token_requests(entra)[0])
    assert form["client_id"] == CLIENT
    assert form["client_secret"] == "made-up-secret"
    assert form["scope"] == "https://storage.azure.com/.default"
    assert f"/{TENANT}/" in token_requests(entra)[0].path
    with pytest.raises(ObjectExists):
        store.put(package_of(tmp_path, b"x", "audit/0"), ignore)


def test_a_new_client_secret_asks_for_a_new_token(
    azurite: Azurite, container: str, entra: Proxy, tmp_path: Path
) -> None:
    file = tmp_path / "secret"
    file.write_text("first-secret\n")
    store = entra_store(azurite, container, entra, client_secret=Secret(str(file), "file"))
    for number, secret in enumerate(("first-secret", "first-secret", "second-secret")):
        file.write_text(secret)
        store.put(package_of(tmp_path, b"x", f"audit/{number}"), ignore)
    assert [form_of(asked)["client_secret"] for asked in token_requests(entra)] == [
        "first-secret",
        "second-secret",
    ]


def test_a_certificate_signs_for_a_token(
    azurite: Azurite, container: str, entra: Proxy, tmp_path: Path
) -> None:
    put(entra_store(azurite, container, entra, client_certificate=new_client_certificate()), tmp_path)
    (asked,) = token_requests(entra)
    assert form_of(asked)["client_assertion_type"].endswith("jwt-bearer")
    assert "client_secret" not in form_of(asked)


def test_a_text_that_is_no_certificate_is_not_shown(
    azurite: Azurite, container: str, entra: Proxy, tmp_path: Path
) -> None:
    store = entra_store(azurite, container, entra, client_certificate=f"-----BEGIN {CANARY}")
    error = failed_put(store, tmp_path)
    assert isinstance(error, NotSent)
    assert "client_certificate" in error.hint
    assert CANARY not in f"{error!r}{error.__cause__!r}{error.__context__!r}"


@pytest.mark.parametrize("named", [True, False], ids=["named", "found"])
def test_a_pod_s_identity_is_exchanged_for_a_token(
    azurite: Azurite,
    container: str,
    entra: Proxy,
    *,
    named: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "token").write_text("the-pods-token")
    monkeypatch.setenv("AZURE_CLIENT_ID", CLIENT)
    monkeypatch.setenv("AZURE_TENANT_ID", "the-vendors-tenant")
    monkeypatch.setenv("AZURE_FEDERATED_TOKEN_FILE", str(tmp_path / "token"))
    more = {"identity": "workload"} if named else {}
    settings = settings_of(
        container, azurite.url, ca_file=azurite.authority, authority_host=entra.url, tenant_id=TENANT, **more
    )
    put(AzureStore(settings, ALLOWED), tmp_path)
    (asked,) = token_requests(entra)
    assert form_of(asked)["client_assertion"] == "the-pods-token"
    assert form_of(asked)["client_id"] == CLIENT
    assert f"/{TENANT}/" in asked.path


@pytest.mark.parametrize("client_id", [None, CLIENT])
def test_a_machine_s_identity_brings_a_token(
    client_id: str | None, azurite: Azurite, container: str, metadata: Proxy, tmp_path: Path
) -> None:
    settings = settings_of(container, azurite.url, ca_file=azurite.authority, client_id=client_id)
    put(AzureStore(settings, ALLOWED), tmp_path)
    (asked,) = metadata.seen
    assert asked.headers["metadata"] == "true"
    assert query_of(asked)["resource"] == "https://storage.azure.com"
    assert query_of(asked).get("client_id") == client_id


def test_no_proxy_is_asked_for_a_machine_s_identity(
    azurite: Azurite, container: str, metadata: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    settings = settings_of(container, azurite.url, ca_file=azurite.authority, identity="managed")
    put(AzureStore(settings, ALLOWED), tmp_path)
    assert len(metadata.seen) == 1


def test_a_whole_url_in_place_of_a_sas_is_explained(tmp_path: Path) -> None:
    error = failed_put(AzureStore(settings_of("audit", URL, sas=f"{URL}/audit?{SAS}"), Guard()), tmp_path)
    assert isinstance(error, NotSent)
    assert "what follows the '?'" in error.hint


@pytest.mark.parametrize(
    ("sas", "words"),
    [
        ("", "is empty"),
        (" ?\n", "is empty"),
        (SAS.replace("&sig=c2ln", ""), "no signature"),
        (SAS.replace("c2ln", ""), "no signature"),
        (SAS.replace("&sp=c", ""), "neither rights"),
        ("c2ln", "no signature"),
        (f'"{SAS}"', "a quote"),
        (f"'{SAS}'", "a quote"),
        (f"\ufeff{SAS}", "character that none has"),
        (f"{SAS}#c2ln", "a '#'"),
        (SAS.replace("&sp", " &sp"), "a space"),
        (SAS.replace("&sp", "\n&sp"), "a space"),
    ],
)
@pytest.mark.parametrize("way", ["sas", "connection_string"])
def test_a_sas_that_is_not_whole_is_not_sent_and_not_shown(
    way: str, sas: str, words: str, tmp_path: Path
) -> None:
    """Without a signature Azure would answer as it answers to nobody, and not say why."""
    with azure_before(shared_azurite()) as proxy:
        given = sas
        if way == "connection_string":  # where an empty field is none
            given = f"BlobEndpoint={account_behind(proxy)};SharedAccessSignature={sas.strip() or '?'}"
        access: dict[str, Any] = {way: Secret(given)}
        error = failed_put(store_of("some-container", account_behind(proxy), **access), tmp_path)
        assert proxy.seen == []
    assert type(error) is NotSent
    assert words in error.message
    assert "generate-sas" in error.hint
    assert "c2ln" not in f"{error!r}{error.hint}{error.__cause__!r}"


def test_no_token_is_sent_in_the_clear() -> None:
    with pytest.raises(ConfigError, match="in the clear"):
        AzureStore(settings_of("audit", "http://127.0.0.1:1/acme", identity="managed"), ALLOWED)


# --- Tokens that do not come ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "hint"),
    [
        (700016, "the tenant does not know the application"),
        (7000215, "its value and not its id"),
        (7000222, "it has expired"),
        (90002, "there is no such tenant"),
        (700024, "clock"),
        (700213, "federated credential"),
        (1, "check tenant_id, client_id, client_secret"),
    ],
)
def test_a_refused_token_says_why_and_nothing_is_sent(
    code: int, hint: str, azurite: Azurite, container: str, entra: Proxy, tmp_path: Path
) -> None:
    usual = entra.script
    refusal = entra_error(code, f"no {CANARY} here")
    entra.script = lambda request: refusal if request.method == "POST" else usual(request)
    error = failed_put(entra_store(azurite, container, entra, client_secret=CANARY), tmp_path)
    assert type(error) is NotSent
    assert f"AADSTS{code}: no *** here" in error.message
    assert "Trace" not in error.message
    assert hint in error.hint
    assert azurite.names(container) == set()


def test_an_authority_that_cannot_be_reached_means_not_sent(
    azurite: Azurite, container: str, entra: Proxy, tmp_path: Path
) -> None:
    entra.script = answering(LOSE_ANSWER)
    error = failed_put(entra_store(azurite, container, entra, client_secret=CANARY), tmp_path)
    assert type(error) is NotSent
    assert CANARY not in f"{error!r}{error.__context__!r}"
    entra.script = answering(Fault(forward=False, answer=Answer(200, b"<html>")))
    assert type(failed_put(entra_store(azurite, container, entra, client_secret=CANARY), tmp_path)) is NotSent


def test_a_machine_without_an_identity_means_not_sent(
    azurite: Azurite, container: str, metadata: Proxy, tmp_path: Path
) -> None:
    metadata.script = answering(Fault(forward=False, answer=Answer(400, b'{"error":"invalid_request"}')))
    settings = settings_of(container, azurite.url, ca_file=azurite.authority)
    error = failed_put(AzureStore(settings, ALLOWED), tmp_path)
    assert type(error) is NotSent
    assert "managed identity" in error.hint


def test_a_token_that_is_not_accepted_is_not_used_again(
    azurite: Azurite, container: str, entra: Proxy, tmp_path: Path
) -> None:
    with azure_before(shared_azurite(), answering(azure_error(401, "InvalidAuthenticationInfo"))) as plain:
        assert azurite.context is not None
        with proxy_before(plain.url, tls=azurite.context) as proxy:
            settings = settings_of(
                container,
                account_behind(proxy),
                ca_file=azurite.authority,
                tenant_id=TENANT,
                client_id=CLIENT,
                client_secret="made-up-secret",
                authority_host=entra.url,
            )
            store = AzureStore(settings, ALLOWED)
            for _ in range(2):
                assert isinstance(failed_put(store, tmp_path), Refused)
        assert len(proxy.seen) == 2, "and no request is repeated"
    assert len(token_requests(entra)) == 2


def test_a_host_that_asks_for_another_token_does_not_get_one(
    azurite: Azurite, container: str, entra: Proxy, tmp_path: Path
) -> None:
    challenge = (
        f"Bearer authorization_uri={entra.url}/{TENANT}/oauth2 resource_id=https://management.azure.com"
    )
    fault = azure_error(401, "NoAuthenticationInformation", headers={"WWW-Authenticate": challenge})
    assert azurite.context is not None
    with proxy_before(shared_azurite().origin, answering(fault), tls=azurite.context) as proxy:
        store = entra_store(azurite, container, entra, client_secret="made-up-secret")
        settings = store._settings.model_copy(update={"account_url": account_behind(proxy)})
        failed_put(AzureStore(settings, ALLOWED), tmp_path)
        assert len(proxy.seen) == 1
    assert {form_of(asked)["scope"] for asked in token_requests(entra)} == {
        "https://storage.azure.com/.default"
    }


def test_a_token_is_not_shown_by_any_error(
    azurite: Azurite, container: str, entra: Proxy, tmp_path: Path
) -> None:
    def repeat(request: Request) -> Fault:
        return azure_error(403, "AuthorizationFailure", f"not with {request.headers['authorization']}")

    assert azurite.context is not None
    with proxy_before(shared_azurite().origin, repeat, tls=azurite.context) as proxy:
        store = entra_store(azurite, container, entra, client_secret="made-up-secret")
        settings = store._settings.model_copy(update={"account_url": account_behind(proxy)})
        error = failed_put(AzureStore(settings, ALLOWED), tmp_path)
        token = proxy.seen[0].headers["authorization"].removeprefix("Bearer ")
    assert "not with Bearer ***" in error.message
    assert token not in f"{error!r}{error.__cause__!r}{error.__context__!r}"


@pytest.mark.parametrize(
    "more",
    [
        {"identity": "managed"},
        {"identity": "workload"},
        {"tenant_id": TENANT, "client_id": CLIENT, "client_secret": "made-up-secret"},
    ],
)
def test_no_token_goes_to_a_host_that_is_not_azure_s(more: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="not Azure's own"):
        AzureStore(settings_of("audit", "https://files.example.com", **more), Guard())
    AzureStore(settings_of("audit", "https://files.example.com", **more), Guard(["files.example.com"]))
    AzureStore(settings_of("audit", URL, **more), Guard())
    AzureStore(settings_of("audit", "https://files.example.com", sas=SAS), Guard())


@pytest.mark.parametrize(
    ("url", "host", "authority"),
    [
        (URL, None, "https://login.microsoftonline.com"),
        ("https://initech.blob.core.usgovcloudapi.net", None, "https://login.microsoftonline.us"),
        ("https://initech.blob.core.chinacloudapi.cn", None, "https://login.chinacloudapi.cn"),
        (URL, "login.microsoftonline.us", "https://login.microsoftonline.us"),
        (URL, "https://Login.Microsoftonline.com/", "https://login.microsoftonline.com"),
    ],
)
def test_tokens_come_from_the_cloud_of_the_account(url: str, host: str | None, authority: str) -> None:
    store = AzureStore(settings_of("audit", url, identity="workload", authority_host=host), Guard())
    assert store._credentials.authority == authority


@pytest.mark.parametrize("host", ["evil.example.com", "login.microsoftonline.com.example.com", "10.0.0.1"])
def test_another_authority_needs_the_operator_s_word(host: str) -> None:
    with pytest.raises(ConfigError, match="authority_host"):
        AzureStore(settings_of("audit", URL, identity="workload", authority_host=host), Guard())
    AzureStore(settings_of("audit", URL, identity="workload", authority_host=host), Guard([host]))


def test_many_containers_of_one_run_do_not_disturb_each_other(azurite: Azurite, tmp_path: Path) -> None:
    stores = [azurite.new_container() for _ in range(3)]
    for container in stores:
        put(store_of(container, azurite.url, ca_file=azurite.authority), tmp_path)
    assert all(len(azurite.names(container)) == 1 for container in stores)
