"""What `check` prints of a customer's store, as whoever has to get it going reads it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.aws_tokens import CUSTOMER_ROLE, VENDOR_USER, Tokens, aws
from tests.proxy import Fault, Proxy, Request, proxy_before, s3_error
from tests.servers import ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY, shared_moto

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.command_line import Answer, Vendor

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
    """`check` in words; its JSON says the same."""
    said = vendor("check")
    assert said.status == status, said.out + said.err
    for finding in json.loads(vendor("check", "--json").out):
        assert " ".join(finding["hint"].split()) in " ".join(said.out.split())
        for line in finding["fix"].splitlines():
            assert f"            {line}" in said.out
    for secret in SECRETS.values():
        assert secret not in said.out + said.err
    return said


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
        destination = s3(
            proxy.url, access_key_id=key["AccessKeyId"], secret_access_key=key["SecretAccessKey"]
        )
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
            findings = json.loads(vendor("check", "--json").out)
            assert vendor("run").status == 0
    assert [found["level"] for found in findings if "s3://" in found["subject"]] == ["ok"]
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
    said = checked(vendor, 0).out.replace("\n", " ")
    assert "more rights here than it needs: s3:GetObject, s3:ListBucket, s3:DeleteObject" in said


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
