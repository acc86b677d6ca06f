"""Who asks Google Cloud Storage: every way to a token, on stand-ins for its services; what stays secret."""

from __future__ import annotations

import json
import traceback
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from google.auth.compute_engine import _metadata

from exporter.destinations.gcs import wire
from exporter.destinations.gcs.store import GcsStore
from exporter.destinations.gcs.token_errors import token_refused
from exporter.errors import DeliveryError, NotSent, Refused
from tests.contracts.object_store import ignore, package_of
from tests.kit.gcs_stores import (
    GUARD,
    IN_CHUNKS,
    LARGE,
    Cloud,
    answering,
    cloud_for,
    failed_put,
    gcs_error,
    put,
)
from tests.kit.google_tokens import SUBJECT_TOKEN, TARGET, WRITER, private_key
from tests.kit.proxy import Answer, Fault
from tests.kit.servers import new_certificate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.kit.google_tokens import Asked

POD = "pod@vendor.iam.gserviceaccount.com"
CANARY = "canary-secret-value-0123456789"


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with cloud_for() as running:
        yield running


@pytest.fixture(autouse=True)
def no_machine_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's own identity has no say, and no machine's metadata is looked for."""
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", "/nonexistent")
    monkeypatch.setattr(_metadata, "_NO_GCE_CHECK", True)


def bearers(cloud: Cloud) -> list[str]:
    """Whose tokens the store was shown."""
    tokens = [seen.headers["authorization"].removeprefix("Bearer ") for seen in cloud.proxy.seen]
    return [cloud.tokens.issued[token][0] for token in tokens]


def token_file(folder: Path, text: str = SUBJECT_TOKEN) -> str:
    path = folder / "subject-token"
    path.write_text(text)
    return str(path)


# --- Every way -------------------------------------------------------------------------------------


def test_a_service_account_key_signs_for_a_token_that_may_write(cloud: Cloud, tmp_path: Path) -> None:
    put(cloud.store(), tmp_path)
    assert bearers(cloud) == [WRITER]
    (asked,) = cloud.tokens.asked
    assert asked.path == "/token"
    assert {scope for _, scope in cloud.tokens.issued.values()} == {wire_scope()}


def wire_scope() -> str:
    return "https://www.googleapis.com/auth/devstorage.read_write"


def test_a_federation_file_sends_the_token_in_the_operators_file(cloud: Cloud, tmp_path: Path) -> None:
    store = cloud.store(credentials=cloud.tokens.federation_file(), subject_token_file=token_file(tmp_path))
    put(store, tmp_path)
    assert bearers(cloud) == ["federated"]
    (asked,) = cloud.tokens.asked
    assert asked.form["subject_token"] == SUBJECT_TOKEN


def test_a_federation_file_may_say_that_the_token_is_inside_json(cloud: Cloud, tmp_path: Path) -> None:
    path = token_file(tmp_path, json.dumps({"id_token": SUBJECT_TOKEN}))
    source = {"file": "/elsewhere", "format": {"type": "json", "subject_token_field_name": "id_token"}}
    put(cloud.store(credentials=cloud.tokens.federation_file(source), subject_token_file=path), tmp_path)
    assert bearers(cloud) == ["federated"]


def test_a_federation_file_may_name_a_service_account_to_become(cloud: Cloud, tmp_path: Path) -> None:
    credentials = cloud.tokens.federation_file(
        service_account_impersonation_url=cloud.tokens.impersonation_url(),
        service_account_impersonation={"token_lifetime_seconds": 3600},
    )
    put(cloud.store(credentials=credentials, subject_token_file=token_file(tmp_path)), tmp_path)
    assert bearers(cloud) == [TARGET]
    assert [scope.rpartition("/")[2] for _, scope in cloud.tokens.issued.values()] == [
        "iam",
        "devstorage.read_write",
    ]


def test_a_federation_file_for_amazons_machines_sends_what_they_sign(cloud: Cloud, tmp_path: Path) -> None:
    put(cloud.store(credentials=cloud.tokens.federation_file(
        cloud.tokens.aws_source(), subject_token_type="urn:ietf:params:aws:token-type:aws4_request"
    )), tmp_path)  # fmt: skip
    assert bearers(cloud) == ["federated"]
    assert "made-up-aws-secret" not in cloud.tokens.asked[-1].body.decode()


def test_the_machines_own_identity_is_used_where_no_other_is_given(
    cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_machine_of_google(cloud, monkeypatch)
    put(cloud.store(credentials=None), tmp_path)
    assert bearers(cloud) == [POD]


def as_machine_of_google(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """google-auth reads the environment when it is loaded."""
    host = cloud.tokens.url.partition("://")[2]
    monkeypatch.setattr(_metadata, "_NO_GCE_CHECK", False)
    monkeypatch.setattr(_metadata, "_GCE_METADATA_HOST", host)
    monkeypatch.setenv("GCE_METADATA_IP", host)


@pytest.mark.parametrize("first", ["key", "federation", "machine"])
def test_any_identity_can_become_the_customers_service_account(
    first: str, cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "IAM_CREDENTIALS", cloud.tokens.url)
    settings: dict[str, Any] = {"impersonate": TARGET}
    if first == "federation":
        settings |= {
            "credentials": cloud.tokens.federation_file(),
            "subject_token_file": token_file(tmp_path),
        }
    if first == "machine":
        as_machine_of_google(cloud, monkeypatch)
        settings |= {"credentials": None}
    put(cloud.store(**settings), tmp_path)
    assert bearers(cloud) == [TARGET]


@pytest.mark.parametrize("way", ["key", "federation", "impersonation", "amazon"])
def test_every_way_works_over_https_with_a_private_authority_and_with_no_other(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority, tls = new_certificate(tmp_path)
    with cloud_for(tls, authority) as cloud:
        monkeypatch.setattr(wire, "IAM_CREDENTIALS", cloud.tokens.url)
        settings: dict[str, Any] = {
            "key": {},
            "federation": {
                "credentials": cloud.tokens.federation_file(),
                "subject_token_file": token_file(tmp_path),
            },
            "impersonation": {"impersonate": TARGET},
            "amazon": {
                "credentials": cloud.tokens.federation_file(
                    cloud.tokens.aws_source(),
                    subject_token_type="urn:ietf:params:aws:token-type:aws4_request",
                )
            },
        }[way]
        put(cloud.store(**settings), tmp_path)
        put_large = package_of(tmp_path, LARGE, "vendor/audit/acme/large")
        cloud.store(**settings).put(put_large, ignore)
        error = failed_put(cloud.store(**settings, ca_file=None), tmp_path)
    assert isinstance(error, NotSent)
    assert "certificate" in error.message.lower()


# --- Fresh, and kept -------------------------------------------------------------------------------


def test_a_token_is_kept_until_near_its_end(cloud: Cloud, tmp_path: Path) -> None:
    begun = datetime.now(UTC)
    clock = [begun]
    store = GcsStore(cloud.settings(), GUARD, limits=IN_CHUNKS, now=lambda: clock[0])
    for number, minutes in enumerate([0, 54, 56]):
        clock[0] = begun + timedelta(minutes=minutes)
        store.put(package_of(tmp_path, b"x", f"p/audit/a/{number}"), ignore)
    assert len(cloud.tokens.asked) == 2
    tokens = [seen.headers["authorization"] for seen in cloud.proxy.seen]
    assert tokens[0] == tokens[1] != tokens[2]


def test_a_new_key_in_its_file_is_used_at_once(cloud: Cloud, tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    store = cloud.store(credentials={"file": str(path)})
    other = "other@customer.iam.gserviceaccount.com"
    for number, email in enumerate([WRITER, WRITER, other]):
        path.write_text(cloud.tokens.key_file(client_email=email))
        store.put(package_of(tmp_path, b"x", f"p/audit/a/{number}"), ignore)
    assert bearers(cloud) == [WRITER, WRITER, other]
    assert len(cloud.tokens.asked) == 2


def test_a_new_subject_token_is_sent_with_the_next_exchange(cloud: Cloud, tmp_path: Path) -> None:
    cloud.tokens.life = timedelta(minutes=4)
    store = cloud.store(credentials=cloud.tokens.federation_file(), subject_token_file=token_file(tmp_path))
    put(store, tmp_path)
    token_file(tmp_path, "another-token")
    failed_put(store, tmp_path)
    assert [asked.form["subject_token"] for asked in cloud.tokens.asked] == [SUBJECT_TOKEN, "another-token"]


def test_a_token_that_is_not_accepted_is_not_used_again(cloud: Cloud, tmp_path: Path) -> None:
    store = cloud.store()
    put(store, tmp_path)
    cloud.gcs.revoke(next(iter(cloud.tokens.issued)))
    assert isinstance(failed_put(store, tmp_path, b"next"), Refused)
    store.put(package_of(tmp_path, b"next", "p/audit/a/next"), ignore)
    assert len(cloud.tokens.asked) == 2


def test_a_key_file_that_is_not_there_is_a_failure_of_this_attempt(cloud: Cloud, tmp_path: Path) -> None:
    error = failed_put(cloud.store(credentials={"file": str(tmp_path / "missing")}), tmp_path)
    assert isinstance(error, NotSent)
    assert "missing cannot be read" in error.message


# --- No token --------------------------------------------------------------------------------------


def refusing(status: int, answer: Any) -> Any:  # noqa: ANN401 - a script
    return lambda _asked: (status, answer)


def oauth(error: str, description: str) -> dict[str, Any]:
    return {"error": error, "error_description": description}


NOT_ALLOWED = "Permission 'iam.serviceAccounts.getAccessToken' denied on resource (or it may not exist)."
NOT_ENABLED = "IAM Service Account Credentials API has not been used in project 1 before or it is disabled."
REFUSALS = [
    (
        "key",
        oauth("invalid_grant", "Invalid JWT: Token must be a short-lived token (60 minutes) and …"),
        "clock",
        "",
    ),
    ("key", oauth("invalid_grant", "Invalid JWT Signature."), "new key file", "keys create key.json"),
    (
        "key",
        oauth("invalid_grant", "Invalid grant: account not found"),
        "service account is gone",
        "",
    ),
    (
        "key",
        oauth("account_disabled", "The account is disabled."),
        "enable the service account",
        f"gcloud iam service-accounts enable {WRITER}",
    ),
    ("key", oauth("invalid_grant", "Bad Request"), "new credential file", ""),
    (
        "federation",
        oauth("unauthorized_client", "The given credential is rejected by the attribute condition."),
        "attribute condition",
        "providers describe projects/123456789012/",
    ),
    (
        "federation",
        oauth("invalid_grant", "The audience in ID Token [x] does not match the expected audience y."),
        "audience",
        "workload-identity-pools providers describe",
    ),
    ("federation", oauth("invalid_grant", "ID Token issued at 1 is stale to sign-in."), "fresh token", ""),
    (
        "impersonation",
        {"error": {"code": 403, "status": "PERMISSION_DENIED", "message": NOT_ALLOWED}},
        f"impersonate {TARGET}",
        f"{TARGET} --member=serviceAccount:{WRITER} --role=roles/iam.serviceAccountTokenCreator",
    ),
    (
        "impersonation",
        {"error": {"code": 403, "status": "PERMISSION_DENIED", "message": NOT_ENABLED}},
        "enable the API",
        "gcloud services enable iamcredentials.googleapis.com",
    ),
]


@pytest.mark.parametrize(("way", "answer", "hint", "fix"), REFUSALS)
def test_each_refusal_of_a_token_says_what_to_do(
    way: str,
    answer: dict[str, Any],
    hint: str,
    fix: str,
    cloud: Cloud,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(wire, "IAM_CREDENTIALS", cloud.tokens.url)
    path = {"key": "/token", "federation": "/v1/token", "impersonation": "generateAccessToken"}[way]
    settings: dict[str, Any] = {
        "key": {},
        "federation": {
            "credentials": cloud.tokens.federation_file(),
            "subject_token_file": token_file(tmp_path),
        },
        "impersonation": {"impersonate": TARGET},
    }[way]
    status = 403 if way == "impersonation" else 400
    cloud.tokens.script = lambda asked: (status, answer) if asked.path.endswith(path) else None
    error = failed_put(cloud.store(**settings), tmp_path)
    assert isinstance(error, NotSent)
    assert f"no access to bucket '{cloud.bucket}'" in error.message
    assert hint in error.hint
    assert fix in error.fix
    assert cloud.proxy.seen == []


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_a_token_service_that_fails_is_asked_once_for_each_put(
    status: int, cloud: Cloud, tmp_path: Path
) -> None:
    cloud.tokens.script = refusing(status, {"error": "internal_failure"})
    error = failed_put(cloud.store(), tmp_path)
    assert isinstance(error, NotSent)
    assert len(cloud.tokens.asked) == 1


NO_TOKENS: list[Any] = [
    {},
    {"access_token": ""},
    {"access_token": "a b\n", "expires_in": 3600},
    {"access_token": 7, "expires_in": 3600},
    {"access_token": "ya29.x", "expires_in": "soon"},
    {"access_token": "ya29.x", "expires_in": 10**30},
    {"x": 1},
    [1],
    "no JSON",
]


@pytest.mark.parametrize("way", ["key", "federation"])
@pytest.mark.parametrize("answer", NO_TOKENS)
def test_an_answer_that_holds_no_token_is_no_token(
    way: str,
    answer: Any,  # noqa: ANN401 - whatever a service says
    cloud: Cloud,
    tmp_path: Path,
) -> None:
    cloud.tokens.script = refusing(200, answer)
    federation: dict[str, Any] = {
        "credentials": cloud.tokens.federation_file(),
        "subject_token_file": token_file(tmp_path),
    }
    store = cloud.store(**(federation if way == "federation" else {}))
    assert isinstance(failed_put(store, tmp_path), NotSent)
    assert cloud.proxy.seen == []


@pytest.mark.parametrize(
    "answer", [{}, {"accessToken": "ya29.x"}, {"accessToken": "ya29.x", "expireTime": "soon"}, [1], "no JSON"]
)
def test_an_impersonation_that_gives_no_token_is_no_token(
    answer: Any,  # noqa: ANN401 - whatever a service says
    cloud: Cloud,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(wire, "IAM_CREDENTIALS", cloud.tokens.url)
    cloud.tokens.script = lambda asked: (200, answer) if "generateAccessToken" in asked.path else None
    assert isinstance(failed_put(cloud.store(impersonate=TARGET), tmp_path), NotSent)
    assert cloud.proxy.seen == []


GARBAGE: list[Any] = [
    (200, "<html>\x1b[31mSign in with your password</html>"),
    (200, [1, 2]),
    (200, {"access_token": ["x"], "expires_in": "abc", "accessToken": {"a": 1}, "expireTime": 5}),
    (200, {"access_token": "ya29.x", "expires_in": 10**30, "accessToken": "x", "expireTime": "0001-01-01"}),
    (200, {"access_token": "ya29.x", "expires_in": -5}),
    (200, {"expires_in": 3600, "accessToken": [1], "expireTime": "2090-01-01T00:00:00Z"}),
    (302, {"error": "moved"}),
    (307, ""),
    (403, "<html>Forbidden by the company's proxy</html>"),
]


@pytest.mark.parametrize("way", ["key", "federation", "impersonation"])
@pytest.mark.parametrize(("status", "answer"), GARBAGE)
def test_garbage_in_a_token_service_s_place_is_not_blamed_on_the_credentials(
    way: str,
    status: int,
    answer: Any,  # noqa: ANN401 - whatever answers
    cloud: Cloud,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(wire, "IAM_CREDENTIALS", cloud.tokens.url)
    path = "generateAccessToken" if way == "impersonation" else "/token"
    settings: dict[str, Any] = {
        "key": {},
        "federation": {
            "credentials": cloud.tokens.federation_file(),
            "subject_token_file": token_file(tmp_path),
        },
        "impersonation": {"impersonate": TARGET},
    }[way]
    cloud.tokens.script = lambda asked: (status, answer) if asked.path.endswith(path) else None
    error = failed_put(cloud.store(**settings), tmp_path)
    assert type(error) is NotSent
    assert "127.0.0.1 answered something that is no token" in error.message
    assert error.message.isprintable()
    assert error.hint == "see what lies between here and 127.0.0.1, such as a proxy or a sign-in page"
    assert cloud.proxy.seen == []


def test_a_refusal_that_nobody_knows_is_not_answered_with_how_to_give_credentials(
    cloud: Cloud, tmp_path: Path
) -> None:
    """They were given."""
    cloud.tokens.script = refusing(400, oauth("invalid_scope", "Something new."))
    error = failed_put(cloud.store(), tmp_path)
    assert "invalid_scope: Something new." in error.message
    assert "what lies between here and 127.0.0.1" in error.hint


def test_words_of_python_are_not_shown_to_a_person() -> None:
    info = {"type": "service_account", "token_uri": "https://oauth2.googleapis.com/token"}
    error = token_refused(AttributeError("'list' object has no attribute 'get'"), "acme", info, WRITER)
    assert error.message == (
        "no access to bucket 'acme': oauth2.googleapis.com answered something that is no token"
    )


def test_nobody_is_told_to_let_a_whole_pool_become_a_service_account(cloud: Cloud, tmp_path: Path) -> None:
    """Whoever else is in the pool would write as it, too."""
    denied = {"error": {"code": 403, "status": "PERMISSION_DENIED", "message": NOT_ALLOWED}}
    cloud.tokens.script = lambda asked: (403, denied) if "generateAccessToken" in asked.path else None
    credentials = cloud.tokens.federation_file(
        service_account_impersonation_url=cloud.tokens.impersonation_url()
    )
    error = failed_put(
        cloud.store(credentials=credentials, subject_token_file=token_file(tmp_path)), tmp_path
    )
    member = (
        "principal://iam.googleapis.com/projects/123456789012/locations/global/workloadIdentityPools/vendor"
    )
    assert f"--member={member}/subject/SUBJECT --role=roles/iam.workloadIdentityUser" in error.fix
    assert "SUBJECT is what the provider makes of its token" in error.hint


@pytest.mark.parametrize("kind", ["elliptic", "with a password"])
def test_a_key_of_another_kind_asks_for_a_new_key_file(kind: str, cloud: Cloud, tmp_path: Path) -> None:
    lock: serialization.KeySerializationEncryption = serialization.NoEncryption()
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey = ec.generate_private_key(ec.SECP256R1())
    if kind == "with a password":
        key, lock = private_key(), serialization.BestAvailableEncryption(b"made up")
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock).decode()
    error = failed_put(cloud.store(credentials=cloud.tokens.key_file(private_key=pem)), tmp_path)
    assert type(error) is NotSent
    assert "the private_key is no RSA key" in error.message
    assert "give a new key file" in error.hint
    assert pem.splitlines()[1] not in shown(error)
    assert cloud.tokens.asked == []


def test_a_machine_without_an_identity_sends_nothing(cloud: Cloud, tmp_path: Path) -> None:
    error = failed_put(cloud.store(credentials=None), tmp_path)
    assert isinstance(error, NotSent)
    assert "give credentials" in error.hint
    assert cloud.proxy.seen == []


def test_a_subject_token_file_that_is_missing_is_named(cloud: Cloud, tmp_path: Path) -> None:
    store = cloud.store(credentials=cloud.tokens.federation_file(), subject_token_file=str(tmp_path / "none"))
    error = failed_put(store, tmp_path)
    assert isinstance(error, NotSent)
    assert "subject_token_file" in error.hint


# --- Secrets ---------------------------------------------------------------------------------------


def shown(error: DeliveryError) -> str:
    """All that anybody could come to see of it."""
    return f"{error.message}{error.hint}{error.fix}{error!r}{''.join(traceback.format_exception(error))}"


def test_no_error_of_the_store_repeats_the_token(cloud: Cloud, tmp_path: Path) -> None:
    store = cloud.store()
    put(store, tmp_path)
    (token,) = cloud.tokens.issued
    cloud.proxy.script = answering(gcs_error(403, "forbidden", f"you sent Bearer {token}"))
    error = failed_put(store, tmp_path)
    assert "you sent Bearer ***" in error.message
    assert token not in shown(error)


@pytest.mark.parametrize("way", ["key", "federation", "impersonation"])
def test_no_error_of_a_token_service_repeats_what_it_was_sent(
    way: str, cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Be it the assertion that a key signed, a subject token, another token, or the key itself."""
    monkeypatch.setattr(wire, "IAM_CREDENTIALS", cloud.tokens.url)
    settings: dict[str, Any] = {
        "key": {},
        "federation": {
            "credentials": cloud.tokens.federation_file(),
            "subject_token_file": token_file(tmp_path),
        },
        "impersonation": {"impersonate": TARGET},
    }[way]
    secrets: list[str] = []

    def echo(asked: Asked) -> tuple[int, dict[str, Any]] | None:
        if way == "impersonation" and not asked.path.endswith("generateAccessToken"):
            return None
        sent = asked.form.get("assertion") or asked.form.get("subject_token")
        secrets.append(sent or asked.headers["authorization"].removeprefix("Bearer "))
        if way != "federation":
            secrets.append(json.loads(cloud.tokens.key_file())["private_key"].splitlines()[3])
        return 400, oauth("invalid_grant", f"I got {' and '.join(secrets)}")

    cloud.tokens.script = echo
    error = failed_put(cloud.store(**settings), tmp_path)
    assert "I got ***" in error.message
    for secret in secrets:
        assert secret not in shown(error)


def test_a_private_key_that_is_none_is_not_shown(cloud: Cloud, tmp_path: Path) -> None:
    key = f"-----BEGIN PRIVATE KEY-----\n{CANARY}\n-----END PRIVATE KEY-----\n"
    error = failed_put(cloud.store(credentials=cloud.tokens.key_file(private_key=key)), tmp_path)
    assert isinstance(error, NotSent)
    assert CANARY not in shown(error)
    assert "new key file" in error.hint


def test_no_settings_and_no_store_show_the_credentials(cloud: Cloud) -> None:
    settings = cloud.settings(credentials=CANARY)
    assert CANARY not in f"{settings!r}{settings}{settings.model_dump()}{cloud.store()!r}"


def test_an_answer_that_sends_on_gets_no_token(cloud: Cloud, tmp_path: Path) -> None:
    elsewhere = Answer(307, b"", {"Location": f"{cloud.tokens.url}/elsewhere"})
    cloud.proxy.script = answering(Fault(forward=False, answer=elsewhere))
    failed_put(cloud.store(), tmp_path)
    assert [asked.path for asked in cloud.tokens.asked] == ["/token"]
