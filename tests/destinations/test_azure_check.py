"""What `check` says of a container, and the statements that it prints."""

from __future__ import annotations

import base64
import hashlib
import shlex
import socket
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from azure.storage.blob import AccessPolicy, generate_container_sas

from exporter.destinations.azure.errors import advice_for
from exporter.destinations.azure.fixes import Fixes
from exporter.destinations.azure.sas import Sas
from exporter.destinations.azure.store import AzureStore
from exporter.destinations.object_store import ObjectStoreDestination
from exporter.destinations.probe import PROBE
from exporter.model import Finding, Level
from exporter.network.diagnosis import obstacle
from exporter.notation.secret import Secret
from tests.kit.azure_stores import (
    ALLOWED,
    account_behind,
    answering,
    azure_before,
    azure_error,
    settings_of,
    store_of,
)
from tests.kit.azure_tokens import CLIENT, TENANT, entra_id
from tests.kit.azurite import ACCOUNT, KEY, Azurite, sas_of, shared_azurite
from tests.kit.proxy import Answer, Fault, Request, proxy_before

if TYPE_CHECKING:
    from collections.abc import Iterator

NOW = datetime(2026, 11, 20, 10, 0, tzinfo=UTC)
GOOD = "sv=2024-05-04&sr=c&sp=c&spr=https&se=2027-11-20T00:00Z&sig=c2ln"
FIX = "az storage …"
FIXES = Fixes("initech", "audit", CLIENT, "scope-1")
PROBE_MD5 = base64.b64encode(hashlib.md5(PROBE.read_bytes(), usedforsecurity=False).digest()).decode()
CREATED = Fault(forward=False, answer=Answer(201, headers={"ETag": '"1"', "Content-MD5": PROBE_MD5}))


@pytest.fixture
def container() -> str:
    return shared_azurite().new_container()


@pytest.fixture
def https() -> Azurite:
    return shared_azurite(https=True)


@pytest.fixture
def token_store(https: Azurite) -> Iterator[AzureStore]:
    """A store that asks with a token; Azurite lets it do everything."""
    assert https.context is not None
    with entra_id(https.context) as entra:
        settings = settings_of(
            https.new_container(),
            https.url,
            ca_file=https.authority,
            tenant_id=TENANT,
            client_id=CLIENT,
            client_secret="made-up-secret",
            authority_host=entra.url,
        )
        yield AzureStore(settings, ALLOWED)


def check(store: AzureStore) -> list[Finding]:
    return list(ObjectStoreDestination(store, "vendor").check())


def warnings_about(text: str, *, encrypted: bool = True) -> list[str]:
    return [found.message for found in Sas.read(text).warnings("s", NOW, FIXES, encrypted=encrypted)]


def faults_of(text: str) -> list[str]:
    return [found.message for found in Sas.read(text).faults("s", NOW, FIX)]


# --- Access that is too much ----------------------------------------------------------------------


def test_an_account_key_works_and_is_too_much(container: str) -> None:
    proof, warning = check(store_of(container, shared_azurite().url))
    assert proof.level is Level.OK
    assert warning.level is Level.WARNING
    assert "account key can do everything" in warning.message
    assert f"--name {container} --permissions c --https-only" in warning.fix


def test_a_token_that_can_do_more_is_named_with_the_role_that_is_enough(
    https: Azurite, token_store: AzureStore
) -> None:
    proof, warning = check(token_store)
    assert (proof.level, warning.level) == (Level.OK, Level.WARNING)
    assert warning.message == "more rights than needed: it may also read, list, delete"
    assert warning.fix == token_store._requests.fixes.narrower_role
    assert "az role assignment list --assignee" in warning.fix, "what it has at present"
    assert "az role assignment delete --assignee" in warning.fix
    assert "blobs/add/action" in warning.fix
    assert f"--assignee {CLIENT}" in warning.fix
    assert https.names(token_store._settings.container) == set(), "the probe is deleted, as that was possible"


def test_what_retention_keeps_is_said(https: Azurite, token_store: AzureStore) -> None:
    answers = {"PUT": iter([CREATED])}
    refusals = {
        "PUT": azure_error(409, "BlobAlreadyExists"),
        "DELETE": azure_error(409, "BlobImmutableDueToPolicy"),
    }
    forbidden = azure_error(403, "AuthorizationPermissionMismatch")

    def immutable(request: Request) -> Fault:
        return next(answers.get(request.method, iter(())), None) or refusals.get(request.method, forbidden)

    assert https.context is not None
    with proxy_before(shared_azurite().origin, immutable, tls=https.context) as proxy:
        settings = token_store._settings.model_copy(update={"account_url": account_behind(proxy)})
        proof, warning = check(AzureStore(settings, ALLOWED))
    assert (proof.level, warning.level) == (Level.OK, Level.WARNING)
    assert "immutable" in warning.message


# --- What a SAS says about itself -----------------------------------------------------------------


def test_a_sas_that_may_create_for_a_year_deserves_no_warning() -> None:
    assert warnings_about(GOOD) == []
    assert faults_of(GOOD) == []


@pytest.mark.parametrize(
    ("left", "words"),
    [
        (timedelta(hours=23), "within 1 day, on 2026-11-21 09:00 UTC"),
        (timedelta(days=7), "within 7 days"),
        (timedelta(days=8), "within 14 days"),
        (timedelta(days=30), "within 30 days"),
        (timedelta(days=31), ""),
    ],
)
def test_a_sas_is_announced_to_expire(left: timedelta, words: str) -> None:
    text = GOOD.replace("2027-11-20T00:00Z", f"{NOW + left:%Y-%m-%dT%H:%M:%SZ}")
    assert words in "".join(warnings_about(text))
    assert bool(warnings_about(text)) is bool(words)
    assert faults_of(text) == []


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("sp=c", "sp=rcwdl", "it may also read, overwrite, delete, list"),
        ("spr=https", "spr=https,http", "without encryption"),
        ("&spr=https", "", "without encryption"),
        ("sr=c", "ss=bfqt&srt=sco", "whole storage account"),
        ("sr=c", "sr=c&sip=203.0.113.7-203.0.113.9", "203.0.113.7-203.0.113.9"),
        ("&se=2027-11-20T00:00Z", "", "does not say when it expires"),
    ],
)
def test_what_a_sas_grants_beyond_need_is_named(old: str, new: str, words: str) -> None:
    (message,) = warnings_about(GOOD.replace(old, new))
    assert words in message


def test_where_the_account_is_spoken_to_in_the_clear_the_sas_has_to_allow_it() -> None:
    assert warnings_about(GOOD.replace("spr=https", "spr=https,http"), encrypted=False) == []


@pytest.mark.parametrize(
    ("own", "left"),
    [
        ("", "its end and its rights"),
        ("&sp=c", "its end"),
        ("&se=2027-11-20T00:00Z", "its rights"),
        ("&sp=c&se=2027-11-20T00:00Z", "whether it still serves"),
    ],
)
def test_what_a_stored_policy_says_is_not_guessed_and_who_sees_it_is_told_how(own: str, left: str) -> None:
    text = f"sv=1&sr=c&spr=https&si=our%20policy{own}&sig=x"
    (warning,) = Sas.read(text).warnings("s", NOW, FIXES, encrypted=True)
    assert f"{left} is what the stored policy 'our policy' says" in warning.message
    assert warning.fix == (
        "az storage container policy show --account-name initech --container-name audit --name 'our policy'"
        " --auth-mode key"
    )
    assert faults_of(text) == []


def test_the_rights_of_a_stored_policy_are_tried_on_the_probe(container: str) -> None:
    policy = AccessPolicy(permission="rcwd", expiry=datetime.now(UTC) + timedelta(days=5))
    shared_azurite().container(container).set_container_access_policy({"audit": policy})
    sas = generate_container_sas(
        ACCOUNT, container, account_key=KEY, policy_id="audit", protocol="https,http"
    )
    proof, warning, more = check(store_of(container, shared_azurite().url, sas=sas))
    assert (proof.level, warning.level, more.level) == (Level.OK, Level.WARNING, Level.WARNING)
    assert "the stored policy 'audit' says" in warning.message
    assert more.message == "more rights than needed: it may also read, delete"
    assert "az storage container generate-sas" in more.fix


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("2027-11-20T00:00Z", "2026-11-20T09:59Z", "expired on 2026-11-20 09:59 UTC"),
        ("sr=c", "sr=c&st=2026-11-21", "not valid before 2026-11-21"),
        ("sp=c", "sp=rl", "no permission to create"),
        ("sr=c", "sr=b", "not for a whole container"),
        ("sr=c", "ss=fq&srt=o", "not for the objects of the blob service"),
        ("sr=c", "ss=b&srt=sc", "not for the objects of the blob service"),
    ],
)
def test_why_a_sas_cannot_serve_is_named(old: str, new: str, words: str) -> None:
    (message,) = faults_of(GOOD.replace(old, new))
    assert words in message


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"expires_in": timedelta(days=-1)}, "the SAS expired on"),
        (
            {"starts_at": datetime(2090, 1, 1, tzinfo=UTC), "expires_in": timedelta(days=30000)},
            "not valid before 2090",
        ),
        ({"permission": "rl"}, "no permission to create"),
    ],
)
def test_a_sas_that_azure_refuses_is_explained(more: dict[str, Any], words: str, container: str) -> None:
    (finding,) = check(store_of(container, shared_azurite().url, sas=sas_of(container, **more)))
    assert finding.level is Level.ERROR
    assert words in finding.message
    assert "az storage container generate-sas" in finding.fix


def test_a_signature_that_is_wrong_is_refused_and_not_shown(container: str) -> None:
    sas = sas_of(container).rpartition("&sig=")[0] + "&sig=bm90IHRoZSBzaWduYXR1cmU%3D"
    (finding,) = check(store_of(container, shared_azurite().url, sas=sas))
    assert finding.level is Level.ERROR
    assert "bm90IHRoZSB" not in f"{finding}"


# --- Why nothing arrives --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "code", "fix"),
    [
        (403, "AuthorizationPermissionMismatch", "az role assignment create"),
        (403, "AuthorizationFailure", "az storage account network-rule add"),
        (404, "ContainerNotFound", "az storage container create"),
    ],
)
def test_a_refusal_comes_with_the_statement_that_cures_it(
    status: int, code: str, fix: str, container: str
) -> None:
    with azure_before(shared_azurite(), answering(azure_error(status, code))) as proxy:
        (finding,) = check(store_of(container, account_behind(proxy)))
    assert finding.level is Level.ERROR
    assert code in finding.message
    assert fix in finding.fix


def test_where_the_way_ends_is_said_instead(https: Azurite) -> None:
    cause = obstacle(https.url, ALLOWED)  # nobody here trusts the authority of its certificate
    assert cause is not None
    (finding,) = check(store_of("some-container", https.url))
    assert (finding.level, finding.message, finding.hint) == (Level.ERROR, cause.message, cause.hint)


@pytest.mark.parametrize("sas", ["sv=1&sp=c", "", '"sv=1&sp=c&sig=x"'])
def test_a_sas_that_is_not_whole_is_the_cause_wherever_the_way_ends(sas: str) -> None:
    """It is what has to be mended first, and nothing was sent."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/acme"
        (finding,) = check(store_of("some-container", url, sas=Secret(sas)))
    assert finding.level is Level.ERROR
    assert "the sas " in finding.message


def test_a_store_that_ignores_the_condition_is_found(container: str) -> None:
    with azure_before(shared_azurite(), answering(CREATED)) as proxy:
        (finding,) = check(store_of(container, account_behind(proxy)))
    assert finding.level is Level.ERROR
    assert "replaced" in finding.message


# --- Statements -----------------------------------------------------------------------------------


def test_every_statement_can_be_read_by_a_shell() -> None:
    names = {name for name in dir(Fixes) if not name.startswith("_")} - {*Fixes.__slots__, "policy"}
    assert len(names) == 11
    for statements in (FIXES.policy("a'b $(x)"), *(getattr(FIXES, name) for name in names)):
        for line in statements.splitlines():
            assert shlex.split(line)[0] == "az"
            assert "$(date" not in line, "which is not the same everywhere"


def test_a_new_sas_is_good_for_a_year() -> None:
    words = shlex.split(FIXES.sas)
    end = datetime.strptime(words[words.index("--expiry") + 1], "%Y-%m-%dT%H:%MZ").replace(tzinfo=UTC)
    assert timedelta(days=364) < end - datetime.now(UTC) <= timedelta(days=365)


@pytest.mark.parametrize(
    ("code", "statement"),
    [
        ("EncryptionScopeNotFound", "encryption-scope create --account-name initech --name scope-1"),
        ("EncryptionScopeDisabled", "encryption-scope update --account-name initech --name scope-1 --state"),
        ("EncryptionScopeMismatch", "encryption-scope list --account-name initech"),
    ],
)
def test_an_encryption_scope_is_made_where_there_is_none_and_enabled_where_it_is_not(
    code: str, statement: str
) -> None:
    assert statement in getattr(FIXES, advice_for(code, "", "key").fix)


def test_the_role_creates_and_does_nothing_else() -> None:
    definition = shlex.split(Fixes("initech", "audit").role.splitlines()[0])[5]
    assert '"Actions": []' in definition
    assert definition.count("Microsoft.") == 1
    assert "blobs/add/action" in definition
    assert KEY not in definition
