"""A customer's credential file is hostile input: it is accepted as Google made it, and in no other form."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from exporter.destinations.gcs.customer_file import checked
from exporter.errors import ConfigError, NotSent
from exporter.network.guard import Guard
from tests.kit.gcs_stores import Cloud, cloud_for, failed_put
from tests.kit.google_tokens import AUDIENCE, CHECK_URL, SUBJECT_TOKEN, TARGET, WRITER

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CANARY = "canary-0123456789"
IMPERSONATION = (
    f"https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/{TARGET}:generateAccessToken"
)
KEY_FILE: dict[str, Any] = {
    "type": "service_account",
    "project_id": "customer",
    "private_key_id": CANARY,
    "private_key": CANARY,
    "client_email": WRITER,
    "client_id": "1",
    "auth_uri": "https://accounts.google.com/o/oauth2/auth",
    "token_uri": "https://oauth2.googleapis.com/token",
    "auth_provider_x509_cert_url": "https://www.googleapis.com/oauth2/v1/certs",
    "client_x509_cert_url": "https://www.googleapis.com/robot/v1/metadata/x509/writer%40customer.iam",
    "universe_domain": "googleapis.com",
}
FEDERATION: dict[str, Any] = {
    "universe_domain": "googleapis.com",
    "type": "external_account",
    "audience": AUDIENCE,
    "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
    "token_url": "https://sts.googleapis.com/v1/token",
    "token_info_url": "https://sts.googleapis.com/v1/introspect",
    "service_account_impersonation_url": IMPERSONATION,
    "service_account_impersonation": {"token_lifetime_seconds": 600},
    "credential_source": {"file": "/var/run/secrets/token"},
}
METADATA = "http://169.254.169.254/latest"
AWS: dict[str, Any] = {
    "environment_id": "aws1",
    "region_url": f"{METADATA}/meta-data/placement/availability-zone",
    "url": f"{METADATA}/meta-data/iam/security-credentials",
    "imdsv2_session_token_url": f"{METADATA}/api/token",
    "regional_cred_verification_url": CHECK_URL,
}


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(SUBJECT_TOKEN)
    return path


@pytest.mark.parametrize(
    "info",
    [
        KEY_FILE,
        {key: KEY_FILE[key] for key in ("type", "client_email", "private_key", "token_uri")},
        FEDERATION,
        FEDERATION | {"token_url": "https://sts.europe-west3.rep.googleapis.com/v1/token"},
        FEDERATION | {"credential_source": AWS},
        FEDERATION
        | {
            "credential_source": {
                key: value.replace("169.254.169.254", "[fd00:ec2::254]") for key, value in AWS.items()
            }
        },
    ],
    ids=["key", "short key", "federation", "regional", "amazon", "amazon over IPv6"],
)
def test_a_file_as_google_makes_it_is_accepted(info: dict[str, Any], token_file: Path) -> None:
    assert checked(json.dumps(info), token_file, Guard())["type"] == info["type"]


def test_the_path_in_a_federation_file_is_not_used(token_file: Path) -> None:
    info = FEDERATION | {"credential_source": {"file": "/etc/shadow"}}
    source = checked(json.dumps(info), token_file, Guard())["credential_source"]
    assert source == {"file": str(token_file), "format": {"type": "text"}}


HOSTILE: list[tuple[str, dict[str, Any]]] = [
    ("type", {"type": "authorized_user", "refresh_token": CANARY, "client_id": "1", "client_secret": "2"}),
    ("type", {"type": "impersonated_service_account", "source_credentials": KEY_FILE}),
    ("type", {"type": "external_account_authorized_user", "token_url": f"https://{CANARY}/"}),
    ("type", {"type": "gdch_service_account", "token_uri": f"https://{CANARY}/"}),
    ("type", {"type": ["service_account"]}),
    ("type", {}),
    *(
        ("token_uri", KEY_FILE | {"token_uri": address})
        for address in (
            f"https://{CANARY}.example.com/token",
            f"https://oauth2.googleapis.com.{CANARY}.example.com/token",
            f"https://oauth2.googleapis.com@{CANARY}/token",
            f"https://oauth2.googleapis.com/token?{CANARY}",
            f"https://oauth2.googleapis.com/token\n{CANARY}",
            "http://oauth2.googleapis.com/token",
            "https://oauth2.googleapis.com:444/token",
            "HTTPS://oauth2.googleapis.com/token",
            "https://oauth2.googleapis.com/token\n",
            "",
        )
    ),
    ("token_uri", {key: value for key, value in KEY_FILE.items() if key != "token_uri"}),
    ("private_key", {key: value for key, value in KEY_FILE.items() if key != "private_key"}),
    ("private_key", KEY_FILE | {"private_key": {"file": CANARY}}),
    ("client_email", KEY_FILE | {"client_email": f"a@b.com --role=owner {CANARY}"}),
    ("universe_domain", KEY_FILE | {"universe_domain": f"{CANARY}.example.com"}),
    ("auth_uri", KEY_FILE | {"auth_uri": f"https://{CANARY}/"}),
    ("auth_provider_x509_cert_url", KEY_FILE | {"auth_provider_x509_cert_url": f"https://{CANARY}/"}),
    ("client_x509_cert_url", KEY_FILE | {"client_x509_cert_url": f"https://{CANARY}/"}),
    ("quota_project_id", KEY_FILE | {"quota_project_id": CANARY}),
    ("trust_boundary", KEY_FILE | {"trust_boundary": {"locations": [CANARY]}}),
    ("a key", KEY_FILE | {f"-----{CANARY}-----": "x"}),
    *(
        ("token_url", FEDERATION | {"token_url": address})
        for address in (
            f"https://{CANARY}.example.com/v1/token",
            f"https://sts.{CANARY}.example.com/v1/token",
            f"https://sts.x.rep.googleapis.com.{CANARY}/v1/token",
            f"https://sts.x/{CANARY}.rep.googleapis.com/v1/token",
            "http://sts.googleapis.com/v1/token",
            "https://storage.googleapis.com/customer-bucket/v1/token",
        )
    ),
    ("token_info_url", FEDERATION | {"token_info_url": f"https://{CANARY}/introspect"}),
    ("universe_domain", FEDERATION | {"universe_domain": CANARY}),
    ("audience", FEDERATION | {"audience": f"//iam.googleapis.com/locations/global/workforcePools/{CANARY}"}),
    ("audience", FEDERATION | {"audience": ""}),
    ("subject_token_type", FEDERATION | {"subject_token_type": f"{CANARY} x"}),
    ("workforce_pool_user_project", FEDERATION | {"workforce_pool_user_project": CANARY}),
    ("client_secret", FEDERATION | {"client_secret": CANARY}),
    ("subject_token_supplier", FEDERATION | {"subject_token_supplier": CANARY}),
    *(
        (
            "service_account_impersonation_url",
            FEDERATION | {"service_account_impersonation_url": address},
        )
        for address in (
            f"https://{CANARY}.example.com/v1/projects/-/serviceAccounts/{TARGET}:generateAccessToken",
            IMPERSONATION.replace(TARGET, f"{TARGET}/../../{CANARY}"),
            IMPERSONATION.replace(":generateAccessToken", ":signBlob"),
            f"{IMPERSONATION}?{CANARY}",
        )
    ),
    ("service_account_impersonation", FEDERATION | {"service_account_impersonation": {"url": CANARY}}),
    ("credential_source", FEDERATION | {"credential_source": CANARY}),
    ("credential_source", {key: value for key, value in FEDERATION.items() if key != "credential_source"}),
    ("credential_source.executable", FEDERATION | {"credential_source": {"executable": {"command": CANARY}}}),
    (
        "credential_source.executable",
        FEDERATION | {"credential_source": {"file": "/x", "executable": {"command": CANARY}}},
    ),
    ("credential_source.url", FEDERATION | {"credential_source": {"url": f"https://{CANARY}/"}}),
    ("credential_source.url", FEDERATION | {"credential_source": {"url": AWS["url"]}}),
    ("credential_source.headers", FEDERATION | {"credential_source": {"headers": {"x": CANARY}}}),
    ("credential_source.certificate", FEDERATION | {"credential_source": {"certificate": {"path": CANARY}}}),
    ("credential_source.format", FEDERATION | {"credential_source": {"file": "/x", "format": CANARY}}),
    (
        "credential_source.environment_id",
        FEDERATION | {"credential_source": AWS | {"environment_id": "aws2"}},
    ),
    ("credential_source.url", FEDERATION | {"credential_source": AWS | {"url": f"http://{CANARY}/latest"}}),
    (
        "credential_source.url",
        FEDERATION | {"credential_source": AWS | {"url": f"{METADATA}/user-data"}},
    ),
    (
        "credential_source.region_url",
        FEDERATION | {"credential_source": AWS | {"region_url": f"http://{CANARY}/"}},
    ),
    (
        "credential_source.imdsv2_session_token_url",
        FEDERATION | {"credential_source": AWS | {"imdsv2_session_token_url": f"http://{CANARY}/"}},
    ),
    *(
        (
            "credential_source.regional_cred_verification_url",
            FEDERATION | {"credential_source": AWS | {"regional_cred_verification_url": address}},
        )
        for address in (
            f"https://{CANARY}.example.com?Action=GetCallerIdentity&Version=2011-06-15",
            "https://sts.{region}.amazonaws.com?Action=AssumeRole&RoleArn=arn:aws:iam::1:role/x",
        )
    ),
    ("credential_source.executable", FEDERATION | {"credential_source": AWS | {"executable": CANARY}}),
]


@pytest.mark.parametrize(("key", "info"), HOSTILE)
def test_a_file_with_anything_else_in_it_is_refused_by_key_and_never_by_value(
    key: str, info: dict[str, Any], token_file: Path
) -> None:
    with pytest.raises(ConfigError) as caught:
        checked(json.dumps(info), token_file, Guard())
    assert key in caught.value.message
    assert CANARY not in f"{caught.value.message}{caught.value.hint}"
    assert caught.value.hint


@pytest.mark.parametrize("text", ["", CANARY, f'{{"private_key": "{CANARY}', "[]", "7", "[" * 100_000])
def test_a_text_that_is_no_file_of_credentials_is_refused_and_not_quoted(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        checked(text, None, Guard())
    assert CANARY not in caught.value.message
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_without_the_operators_word_no_file_of_this_machine_is_sent_away() -> None:
    with pytest.raises(ConfigError) as caught:
        checked(json.dumps(FEDERATION), None, Guard())
    assert "credential_source.file" in caught.value.message
    assert "set subject_token_file" in caught.value.hint


def test_a_host_stands_in_for_google_only_if_the_operator_names_it(token_file: Path) -> None:
    info = json.dumps(FEDERATION | {"token_url": "https://sts.internal.example/v1/token"})
    checked(info, token_file, Guard(["sts.internal.example"]))
    for guard in (Guard(), Guard(["*.internal.example"]), Guard(["internal.example", "127.0.0.1"])):
        with pytest.raises(ConfigError, match="token_url"):
            checked(info, token_file, guard)


def test_what_amazons_machines_sign_is_for_amazon_whoever_is_allowed(token_file: Path) -> None:
    source = AWS | {"regional_cred_verification_url": "https://127.0.0.1?Action=GetCallerIdentity"}
    with pytest.raises(ConfigError, match="regional_cred_verification_url"):
        checked(json.dumps(FEDERATION | {"credential_source": source}), token_file, Guard(["127.0.0.1"]))


# --- And nothing of it happens ---------------------------------------------------------------------


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with cloud_for() as running:
        yield running


def test_a_hostile_file_runs_nothing_sends_nothing_and_asks_nobody(cloud: Cloud, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    sources: list[dict[str, Any]] = [
        {"executable": {"command": f"touch {ran}", "timeout_millis": 5000}},
        {"file": "/etc/hostname"},
        {"url": f"{cloud.tokens.url}/anything", "headers": {"x": "y"}},
    ]
    for source in sources:
        error = failed_put(cloud.store(credentials=cloud.tokens.federation_file(source)), tmp_path)
        assert isinstance(error, NotSent)
        assert "credential_source" in error.message
    assert not ran.exists()
    assert cloud.tokens.asked == []
    assert cloud.proxy.seen == []
