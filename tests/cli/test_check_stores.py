"""What `check` prints of a customer's store, as whoever has to get it going reads it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from azure.storage.blob import AccessPolicy, generate_container_sas

from tests.kit.aws_tokens import CUSTOMER_ROLE, VENDOR_USER, Tokens, aws
from tests.kit.azure_stores import account_behind, answering, azure_before, azure_error
from tests.kit.azurite import ACCOUNT, KEY, Azurite, sas_of, shared_azurite
from tests.kit.gcs_objects import Principal
from tests.kit.gcs_stores import CREATE, Cloud, cloud_for
from tests.kit.google_tokens import WRITER
from tests.kit.proxy import Answer as HttpAnswer
from tests.kit.proxy import Fault, Proxy, Request, proxy_before, s3_error
from tests.kit.servers import ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY, new_certificate, shared_moto

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.kit.command_line import Answer, Vendor

EXTERNAL_ID = "canary-external-id"
SECRETS = {"SECRET": SECRET_ACCESS_KEY, "EXTERNAL": EXTERNAL_ID}


@pytest.fixture(autouse=True)
def _secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(f"AUDIT_EXPORTER_TEST_{name}", value)


def s3(url: str, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - any setting
    """A new bucket and the vendor's keys, as a configuration has them."""
    return {
        "type": "s3",
        "bucket": shared_moto().new_bucket(),
        "prefix": "vendor",
        "region": REGION,
        "endpoint_url": url,
        "path_style": True,
        "access_key_id": ACCESS_KEY_ID,
        "secret_access_key": {"env": "AUDIT_EXPORTER_TEST_SECRET"},
    } | more


def deliver_to(vendor: Vendor, destination: dict[str, Any]) -> None:
    vendor.settings["exports"][0]["destination"] = destination


def checked(vendor: Vendor, status: int) -> Answer:
    """`check` in words; its JSON says the same, and neither tells a secret."""
    said, told = vendor("check"), vendor("check", "--json")
    assert (said.status, told.status) == (status, status), said.out + said.err
    for finding in json.loads(told.out):
        assert " ".join(finding["hint"].split()) in " ".join(said.out.split())
        for line in finding["fix"].splitlines():
            assert f"            {line}" in said.out
    for secret in (*SECRETS.values(), *secrets_of(vendor.settings["exports"][0]["destination"])):
        assert secret not in said.out + said.err + told.out + told.err
    return said


def secrets_of(destination: dict[str, Any]) -> Iterator[str]:
    """What of a configured place must be seen nowhere."""
    if "credentials" in destination:
        yield from json.loads(destination["credentials"]).get("private_key", "").splitlines()[1:-1]
    if "sas" in destination:
        yield destination["sas"].rpartition("sig=")[2]
    if "account_key" in destination:
        yield destination["account_key"]


def findings_about(vendor: Vendor, scheme: str) -> list[dict[str, str]]:
    """What the JSON of `check` says of the one store of this kind."""
    return [found for found in json.loads(vendor("check", "--json").out) if scheme in found["subject"]]


def forbid_private_addresses(vendor: Vendor) -> None:
    del vendor.settings["network"]


# --- S3 -------------------------------------------------------------------------------------------


@pytest.fixture
def tokens() -> Tokens:
    return Tokens()


@pytest.fixture
def proxy(tokens: Tokens) -> Iterator[Proxy]:
    with aws(tokens) as running:
        running.script = create_only
        yield running


def create_only(request: Request) -> Fault | None:
    return s3_error(403, "AccessDenied") if request.method in {"GET", "DELETE"} else None


def test_a_user_who_may_only_create_is_found_good_and_a_run_delivers(vendor: Vendor) -> None:
    moto = shared_moto()
    moto.iam().create_user(UserName="create-only")
    key = moto.iam().create_access_key(UserName="create-only")["AccessKey"]
    with proxy_before(moto.url) as proxy:
        keys = {"access_key_id": key["AccessKeyId"], "secret_access_key": key["SecretAccessKey"]}
        destination = s3(proxy.url, acl="bucket-owner-full-control", **keys)
        bucket = destination["bucket"]
        policy = {
            "Version": "2012-10-17",
            "Statement": [
                {"Effect": "Allow", "Action": "s3:PutObject", "Resource": f"arn:aws:s3:::{bucket}/vendor/*"},
                {"Effect": "Deny", "NotAction": "s3:PutObject", "Resource": "*"},
            ],
        }
        moto.iam().put_user_policy(
            UserName="create-only", PolicyName="create-only", PolicyDocument=json.dumps(policy)
        )
        deliver_to(vendor, destination)
        with moto.enforcing_permissions():
            findings = findings_about(vendor, "s3://")
            assert vendor("run").status == 0
    assert [found["level"] for found in findings] == ["ok"]
    names = [found["Key"] for found in moto.s3().list_objects_v2(Bucket=bucket)["Contents"]]
    assert sum(name.startswith("vendor/audit/acme/") for name in names) == 2


def test_a_role_that_is_refused_is_printed_with_the_policies_to_write(vendor: Vendor, proxy: Proxy) -> None:
    external_id = {"env": "AUDIT_EXPORTER_TEST_EXTERNAL"}
    deliver_to(vendor, s3(proxy.url, role_arn=CUSTOMER_ROLE, external_id=external_id))
    said = checked(vendor, 10).out
    assert f"{VENDOR_USER} may not assume {CUSTOMER_ROLE}" in said.replace("\n", " ")
    assert f"trust policy of {CUSTOMER_ROLE}:" in said
    assert '"sts:ExternalId": "EXTERNAL_ID"' in said


def test_a_missing_right_is_printed_with_the_policy_to_attach(vendor: Vendor, proxy: Proxy) -> None:
    proxy.script = lambda request: s3_error(403, "AccessDenied") if request.method == "PUT" else None
    destination = s3(proxy.url)
    deliver_to(vendor, destination)
    said = checked(vendor, 10).out
    assert f"identity policy of {VENDOR_USER}:" in said
    assert f'"Resource": "arn:aws:s3:::{destination["bucket"]}/vendor/*"' in said


def test_rights_that_nobody_needs_are_printed_as_a_warning(vendor: Vendor, proxy: Proxy) -> None:
    proxy.script = lambda _request: None
    deliver_to(vendor, s3(proxy.url))
    said = " ".join(checked(vendor, 0).out.split())
    assert "more rights here than it needs: s3:ListBucket, s3:DeleteObject" in said
    assert "use another user, who has only this" in said


def test_a_bucket_that_may_be_another_user_s_is_printed_with_the_line_that_lets_its_owner_read(
    vendor: Vendor, proxy: Proxy
) -> None:
    deliver_to(vendor, s3(proxy.url))
    assert "            acl: bucket-owner-full-control" in checked(vendor, 0).out


def test_a_machine_without_credentials_is_told_how_to_get_some(
    vendor: Vendor, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    from exporter.destinations.s3 import access

    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(vendor.folder / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(vendor.folder / "none"))
    access.session.cache_clear()
    destination = s3(proxy.url)
    del destination["access_key_id"], destination["secret_access_key"]
    deliver_to(vendor, destination)
    said = checked(vendor, 10).out.replace("\n", " ")
    access.session.cache_clear()
    assert "this machine offers no AWS credentials" in said
    assert "pod identity" in said


@pytest.mark.parametrize(
    ("code", "headers", "fix"),
    [
        ("PermanentRedirect", {"x-amz-bucket-region": "eu-west-1"}, "region: eu-west-1"),
        ("NoSuchBucket", {}, "aws s3api create-bucket"),
    ],
)
def test_a_place_that_is_wrong_is_printed_with_the_line_that_is_right(
    code: str, headers: dict[str, str], fix: str, vendor: Vendor, proxy: Proxy
) -> None:
    proxy.script = lambda _request: s3_error(301 if headers else 404, code, headers=headers)
    deliver_to(vendor, s3(proxy.url))
    assert f"            {fix}" in checked(vendor, 10).out


# --- What all clouds have in common -----------------------------------------------------------------


@pytest.mark.parametrize("cloud", ["s3", "gcs", "azure"])
def test_an_authority_that_nobody_here_knows_is_named_and_where_to_put_it(
    cloud: str, vendor: Vendor, tmp_path: Path
) -> None:
    _, tls = new_certificate(tmp_path)
    with proxy_before(shared_moto().url, tls=tls) as proxy, cloud_for() as google:
        deliver_to(vendor, place_at(cloud, proxy.url, google))
        said = checked(vendor, 10).out.replace("\n", " ")
    assert "is signed by 'a private authority', which this machine does not trust" in said
    assert "set ca_file to a file with the certificate of 'a private authority'" in " ".join(said.split())


@pytest.mark.parametrize("cloud", ["s3", "gcs", "azure"])
@pytest.mark.parametrize(
    ("url", "cause"),
    [
        ("https://10.0.0.7", "10.0.0.7 is in a private network"),
        ("https://127.0.0.1:8443", "127.0.0.1 is this machine itself"),
        ("http://203.0.113.7", "203.0.113.7 would be spoken to in the clear"),
    ],
)
def test_an_address_inside_is_refused_until_the_operator_allows_it_by_name(
    cloud: str, url: str, cause: str, vendor: Vendor
) -> None:
    forbid_private_addresses(vendor)
    with cloud_for() as google:
        deliver_to(vendor, place_at(cloud, url, google))
        said = " ".join(checked(vendor, 10).out.split())
    assert cause in said
    assert "network: {allow: [" in said


@pytest.mark.parametrize("cloud", ["s3", "gcs", "azure"])
def test_where_a_cloud_hands_out_credentials_is_no_address_of_a_store(cloud: str, vendor: Vendor) -> None:
    with cloud_for() as google:
        deliver_to(vendor, place_at(cloud, "https://169.254.169.254", google))
        said = " ".join(checked(vendor, 10).out.split())
    assert "must not be used: 169.254.169.254 is in the link-local network" in said


def place_at(cloud: str, url: str, google: Cloud) -> dict[str, Any]:
    """A place of this kind behind any address."""
    if cloud == "s3":
        return s3(url)
    if cloud == "gcs":
        return gcs(google, endpoint_url=url)
    return azure("some-container", f"{url}/devstoreaccount1")


# --- Google Cloud Storage -----------------------------------------------------------------------------


def gcs(cloud: Cloud, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - any setting
    """A bucket and the key of a service account, as a configuration has them."""
    given = {"type": "gcs", "bucket": cloud.bucket, "prefix": "vendor", "endpoint_url": cloud.proxy.url}
    return given | {"credentials": cloud.tokens.key_file()} | more


@pytest.fixture
def google() -> Iterator[Cloud]:
    """Whose tokens have the right of roles/storage.objectCreator, and no other."""
    with cloud_for() as running:
        yield running


def test_a_service_account_that_may_only_create_is_found_good_and_a_run_delivers(
    vendor: Vendor, google: Cloud
) -> None:
    deliver_to(vendor, gcs(google))
    checked(vendor, 0)
    assert [found["level"] for found in findings_about(vendor, "gs://")] == ["ok"]
    assert vendor("run").status == 0
    assert sum(name.startswith("vendor/audit/acme/") for name in google.names) == 2
    assert vendor.row("acme")["state"] == "up to date"


def test_a_missing_role_is_printed_with_the_binding_as_narrow_as_the_prefix(
    vendor: Vendor, google: Cloud
) -> None:
    principals = google.gcs.storage.principals
    google.tokens.on_issue = lambda token, whose: principals.update({token: Principal(whose)})
    deliver_to(vendor, gcs(google))
    said = checked(vendor, 10).out
    assert f"{WRITER} does not have storage.objects.create access" in said.replace("\n", " ")
    binding = f"gcloud storage buckets add-iam-policy-binding gs://{google.bucket} --member=serviceAccount:"
    assert f"            {binding}{WRITER} --role=roles/storage.objectCreator " in said
    assert f"projects/_/buckets/{google.bucket}/objects/vendor/" in said


def test_a_bucket_that_is_not_there_is_printed_with_how_to_make_it(vendor: Vendor, google: Cloud) -> None:
    deliver_to(vendor, gcs(google, bucket="no-such-bucket"))
    said = checked(vendor, 10).out
    assert "The specified bucket does not exist" in said
    assert "            gcloud storage buckets create gs://no-such-bucket" in said


def test_a_key_that_was_deleted_is_printed_with_how_to_make_another(vendor: Vendor, google: Cloud) -> None:
    words = {"error": "invalid_grant", "error_description": "Invalid JWT Signature."}
    google.tokens.script = lambda _asked: (400, words)
    deliver_to(vendor, gcs(google))
    said = checked(vendor, 10).out
    assert "invalid_grant: Invalid JWT Signature." in said
    assert f"            gcloud iam service-accounts keys create key.json --iam-account={WRITER}" in said


def test_a_token_that_the_bucket_does_not_take_is_a_question_of_other_credentials(
    vendor: Vendor, google: Cloud
) -> None:
    google.tokens.on_issue = lambda _token, _whose: None
    deliver_to(vendor, gcs(google))
    said = checked(vendor, 10).out
    assert "Invalid Credentials (HTTP 401)" in said
    assert "give other credentials" in said


def test_a_refusal_of_a_proxy_s_is_not_taken_for_a_missing_role(vendor: Vendor, google: Cloud) -> None:
    google.proxy.script = lambda _request: Fault(
        forward=False, answer=HttpAnswer(403, b"<html>Blocked</html>")
    )
    deliver_to(vendor, gcs(google))
    said = " ".join(checked(vendor, 10).out.split())
    assert "see what lies between here and the store" in said
    assert "objectCreator" not in said


def test_a_page_in_the_token_service_s_place_is_not_taken_for_bad_credentials(
    vendor: Vendor, google: Cloud
) -> None:
    google.tokens.script = lambda _asked: (200, "<html>Sign in</html>")  # type: ignore[assignment,return-value] # text
    deliver_to(vendor, gcs(google))
    said = " ".join(checked(vendor, 10).out.split())
    assert "127.0.0.1 answered something that is no token (HTTP 200)" in said
    assert "see what lies between here and 127.0.0.1" in said


def test_a_customers_file_that_runs_a_program_is_refused_with_the_key_that_does(
    vendor: Vendor, google: Cloud
) -> None:
    source = {"executable": {"command": "/bin/canary"}}
    deliver_to(vendor, gcs(google, credentials=google.tokens.federation_file(source)))
    said = checked(vendor, 10).out
    assert "the credentials are refused: credential_source.executable is not accepted" in said
    assert "canary" not in said


def test_roles_that_give_more_are_printed_as_a_warning_with_where_to_look(vendor: Vendor) -> None:
    with cloud_for(None, None, CREATE, "storage.objects.delete", "storage.objects.get") as google:
        deliver_to(vendor, gcs(google))
        said = checked(vendor, 0).out
        (_, warning) = findings_about(vendor, "gs://")
    assert "more rights than needed: this program can also replace or delete, read objects" in said
    assert (warning["level"], warning["fix"]) == (
        "warning",
        f"gcloud storage buckets get-iam-policy gs://{google.bucket}",
    )


# --- Azure --------------------------------------------------------------------------------------------

GENERATE = "            az storage container generate-sas --account-name devstoreaccount1 --name"
WRONG_KEY = "Server failed to authenticate the request. Make sure the value of Authorization header is right."
SIGNED_OTHERWISE = "Signature did not match. String to sign used was GET 2026 /blob/canary"


def azure(container: str, url: str, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - any setting
    """A container and a SAS that may create in it, unless there is a key."""
    given = {"type": "azure", "container": container, "prefix": "vendor", "account_url": url}
    return given | ({} if "account_key" in more else {"sas": sas_of(container)}) | more


@pytest.fixture
def azurite() -> Azurite:
    return shared_azurite()


@pytest.fixture
def account(azurite: Azurite) -> Iterator[Proxy]:
    with azure_before(azurite) as running:
        yield running


def test_a_sas_that_may_only_create_is_found_good_and_a_run_delivers(
    vendor: Vendor, azurite: Azurite, account: Proxy
) -> None:
    container = azurite.new_container()
    deliver_to(vendor, azure(container, account_behind(account)))
    checked(vendor, 0)
    assert [found["level"] for found in findings_about(vendor, "azure://")] == ["ok"]
    assert vendor("run").status == 0
    assert sum(name.startswith("vendor/audit/acme/") for name in azurite.names(container)) == 2
    assert vendor.row("acme")["state"] == "up to date"


@pytest.mark.parametrize(
    ("permission", "days", "words"),
    [("rl", 365, "the SAS has no permission to create blobs (c)"), ("c", -1, "the SAS expired on ")],
)
def test_a_sas_that_cannot_serve_is_printed_with_how_to_make_another(
    permission: str, days: int, words: str, vendor: Vendor, azurite: Azurite
) -> None:
    container = azurite.new_container()
    sas = sas_of(container, permission, expires_in=timedelta(days=days))
    deliver_to(vendor, azure(container, azurite.url, sas=sas))
    said = checked(vendor, 10).out
    assert words in said
    assert f"{GENERATE} {container} --permissions c --https-only" in said


def test_a_container_that_is_not_there_is_printed_with_how_to_make_it(vendor: Vendor, account: Proxy) -> None:
    deliver_to(vendor, azure("no-such", account_behind(account)))
    said = checked(vendor, 10).out
    assert "ContainerNotFound: The specified container does not exist" in said
    assert "            az storage container create --account-name devstoreaccount1 --name no-such" in said


@pytest.mark.parametrize(
    ("code", "detail", "more", "fix"),
    [
        ("AuthenticationFailed", "", {"account_key": "bm90IHRoZSBrZXk="}, "az storage account keys list"),
        ("AuthenticationFailed", SIGNED_OTHERWISE, {}, "az storage container generate-sas"),
        ("KeyBasedAuthenticationNotPermitted", "", {}, "az storage account update --name"),
        ("AuthorizationFailure", "", {}, "az storage account network-rule add"),
    ],
)
def test_what_azure_does_not_take_is_printed_with_the_statement_that_mends_it(
    code: str, detail: str, more: dict[str, str], fix: str, vendor: Vendor, account: Proxy
) -> None:
    """In Azure's words: Azurite says AuthorizationFailure of whatever is signed with another key."""
    account.script = answering(azure_error(403, code, WRONG_KEY, detail=detail))
    deliver_to(vendor, azure("some-container", account_behind(account), **more))
    said = checked(vendor, 10).out
    assert f"{code}: Server failed to authenticate the request" in said
    assert f"            {fix}" in said
    assert "canary" not in said


def test_a_sas_that_ends_in_five_days_is_printed_as_a_warning_and_a_run_delivers(
    vendor: Vendor, azurite: Azurite, account: Proxy
) -> None:
    container = azurite.new_container()
    sas = sas_of(container, expires_in=timedelta(days=5))
    deliver_to(vendor, azure(container, account_behind(account), sas=sas))
    said = checked(vendor, 0).out
    day = datetime.now(UTC) + timedelta(days=5)
    assert f"the SAS expires within 7 days, on {day:%Y-%m-%d}" in said
    assert f"{GENERATE} {container}" in said
    assert vendor("run").status == 0


@pytest.mark.parametrize(
    ("permission", "words"),
    [
        ("rcwdl", "it may also read, overwrite, delete, list"),
        ("", "an account key can do everything in the storage account"),
    ],
)
def test_access_that_is_too_much_is_printed_as_a_warning_with_the_one_that_is_enough(
    permission: str, words: str, vendor: Vendor, azurite: Azurite, account: Proxy
) -> None:
    container = azurite.new_container()
    access = {"sas": sas_of(container, permission)} if permission else {"account_key": KEY}
    deliver_to(vendor, azure(container, account_behind(account), **access))
    said = checked(vendor, 0).out
    assert words in said
    assert f"{GENERATE} {container} --permissions c" in said


def test_a_sas_of_a_stored_policy_is_printed_with_how_to_read_the_policy(
    vendor: Vendor, azurite: Azurite, account: Proxy
) -> None:
    container = azurite.new_container()
    policy = AccessPolicy(permission="rcw", expiry=datetime.now(UTC) + timedelta(days=5))
    azurite.container(container).set_container_access_policy({"audit": policy})
    sas = generate_container_sas(ACCOUNT, container, account_key=KEY, policy_id="audit")
    deliver_to(vendor, azure(container, account_behind(account), sas=sas))
    said = checked(vendor, 0).out
    assert "is what the stored policy 'audit' says" in " ".join(said.split())
    assert f"            az storage container policy show --account-name {ACCOUNT}" in said
    assert "it may also read" in said


def test_an_empty_success_is_no_delivery(vendor: Vendor, azurite: Azurite, account: Proxy) -> None:
    """Whatever gave it stands between: the records come with the next run."""
    account.script = lambda request: (
        Fault(forward=False, answer=HttpAnswer(201)) if request.method == "PUT" else None
    )
    container = azurite.new_container()
    deliver_to(vendor, azure(container, account_behind(account)))
    assert "did not say what it stored" in checked(vendor, 10).out
    assert vendor("run").status == 10
    account.script = lambda _request: None
    assert azurite.names(container) == set()
    assert vendor("run", "--export", "acme").status == 0
    assert sum(name.startswith("vendor/audit/acme/") for name in azurite.names(container)) == 2


def test_an_address_in_a_connection_string_is_called_by_its_name(vendor: Vendor, azurite: Azurite) -> None:
    forbid_private_addresses(vendor)
    text = f"BlobEndpoint=https://10.0.0.7/initech;SharedAccessSignature={sas_of('audit')}"
    deliver_to(vendor, {"type": "azure", "container": "audit", "connection_string": text})
    said = checked(vendor, 10).out
    assert "the connection_string's blob endpoint must not be used: 10.0.0.7" in said.replace("\n", " ")
    assert azurite.origin not in said
