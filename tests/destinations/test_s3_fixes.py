"""What S3's refusals come with: the policy or command that cures them, to copy as it is."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import botocore.exceptions as boto
import pytest
from pydantic import ValidationError

from exporter.destinations.s3 import access, policies
from exporter.destinations.s3.errors import put_failed
from tests.contracts.object_store import NAME
from tests.kit.proxy import Proxy, proxy_before, s3_error
from tests.kit.s3_stores import (
    KEY_ARN,
    NO_KEYS,
    answering,
    failed_put,
    new_bucket_behind,
    settings_of,
    store_of,
    with_,
)
from tests.kit.servers import ACCESS_KEY_ID, SECRET_ACCESS_KEY, shared_moto

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from exporter.destinations.s3.settings import S3Settings


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    with proxy_before(shared_moto().url) as running:
        yield running


@pytest.fixture
def settings(proxy: Proxy) -> S3Settings:
    return new_bucket_behind(proxy)


ASSUMED = "User: arn:aws:sts::111122223333:assumed-role/path/writer/session is not authorized to perform:"
WRITER = "arn:aws:iam::111122223333:role/writer"


def statements(fix: str) -> list[tuple[str, dict[str, Any]]]:
    """The statements of a fix, each with the line above its document; one alone has none."""
    found: list[tuple[str, dict[str, Any]]] = []
    while "{" in fix:
        title, brace, rest = fix.partition("{")
        document, end = json.JSONDecoder().raw_decode(brace + rest)
        found += [(title.strip(), one) for one in document.get("Statement", [document])]
        fix = (brace + rest)[end:]
    return found


def test_a_missing_right_comes_with_the_policy_that_grants_it(
    settings: S3Settings, proxy: Proxy, tmp_path: Path
) -> None:
    message = f"{ASSUMED} s3:PutObject because no identity-based policy allows the s3:PutObject action"
    proxy.script = answering(s3_error(403, "AccessDenied", message))
    error = failed_put(store_of(with_(settings, acl="bucket-owner-full-control")), tmp_path)
    ((_, statement),) = statements(error.fix)
    assert statement == {
        "Effect": "Allow",
        "Action": ["s3:PutObject", "s3:PutObjectAcl"],
        "Resource": f"arn:aws:s3:::{settings.bucket}/vendor/*",
    }
    assert "acl also needs s3:PutObjectAcl" in error.hint


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({}, f"{ASSUMED} s3:PutObject because no resource-based policy allows the s3:PutObject action"),
        ({"bucket_owner": "444455556666"}, f"{ASSUMED} s3:PutObject"),
        ({"bucket_owner": "444455556666", "role_arn": WRITER}, "Access Denied"),
    ],
    ids=["it is said", "another account", "another account's role"],
)
def test_a_bucket_of_another_account_has_to_agree(
    more: dict[str, str], message: str, settings: S3Settings, proxy: Proxy, tmp_path: Path
) -> None:
    proxy.script = answering(s3_error(403, "AccessDenied", message), lambda seen: seen.method == "PUT")
    error = failed_put(store_of(with_(settings, **more)), tmp_path)
    (own, (title, of_bucket)) = statements(error.fix)
    assert WRITER in own[0]
    assert f"bucket policy of {settings.bucket}" in title
    assert of_bucket["Principal"] == {"AWS": WRITER}
    assert of_bucket["Resource"] == own[1]["Resource"] == f"arn:aws:s3:::{settings.bucket}/vendor/*"


def test_a_bucket_of_the_same_account_needs_no_policy(
    settings: S3Settings, proxy: Proxy, tmp_path: Path
) -> None:
    proxy.script = answering(s3_error(403, "AccessDenied", f"{ASSUMED} s3:PutObject"))
    error = failed_put(store_of(with_(settings, bucket_owner="111122223333")), tmp_path)
    ((_, own),) = statements(error.fix)
    assert "Principal" not in own
    assert "not of account 111122223333" in error.hint


def test_what_is_explicitly_denied_is_not_cured_by_a_grant(
    settings: S3Settings, proxy: Proxy, tmp_path: Path
) -> None:
    message = f"{ASSUMED} s3:PutObject with an explicit deny in a resource-based policy"
    proxy.script = answering(s3_error(403, "AccessDenied", message))
    error = failed_put(store_of(settings), tmp_path)
    assert error.fix == ""
    assert "look for a bucket policy that denies it" in error.hint


def test_a_missing_right_to_a_key_comes_with_both_policies_that_grant_it(
    settings: S3Settings, proxy: Proxy, tmp_path: Path
) -> None:
    proxy.script = answering(s3_error(403, "AccessDenied", f"{ASSUMED} kms:GenerateDataKey on resource"))
    error = failed_put(store_of(with_(settings, kms_key=KEY_ARN)), tmp_path)
    (title, of_key), *own = statements(error.fix)
    assert f"key policy of {KEY_ARN}" in title
    assert of_key["Principal"] == {"AWS": WRITER}
    assert of_key["Action"] == ["kms:GenerateDataKey", "kms:Decrypt"]
    assert {"Effect": "Allow", "Action": of_key["Action"], "Resource": KEY_ARN} in [one for _, one in own]


def test_a_vpc_endpoint_that_lets_nothing_pass_comes_with_a_statement_that_has_a_principal(
    settings: S3Settings, proxy: Proxy, tmp_path: Path
) -> None:
    message = f"{ASSUMED} s3:PutObject because no VPC endpoint policy allows the s3:PutObject action"
    proxy.script = answering(s3_error(403, "AccessDenied", message))
    ((_, statement),) = statements(failed_put(store_of(settings), tmp_path).fix)
    assert statement["Principal"] == "*"
    assert statement["Condition"] == {"ArnEquals": {"aws:PrincipalArn": WRITER}}


def test_a_path_that_the_writer_s_role_may_have_is_pointed_out(
    settings: S3Settings, proxy: Proxy, tmp_path: Path
) -> None:
    message = f"{ASSUMED} s3:PutObject because no resource-based policy allows the s3:PutObject action"
    proxy.script = answering(s3_error(403, "AccessDenied", message))
    assert "if the role that asks has a path" in failed_put(store_of(settings), tmp_path).hint


@pytest.mark.parametrize(
    ("status", "code", "hint"),
    [
        (400, "InvalidArgument", "compare what this export asks for with what the store takes: bucket"),
        (403, "", "compare what this export asks for with what the store takes: bucket"),
        (403, "UserSuspended", "ask whoever runs the store"),
        (500, "InternalError", "nothing, unless it stays: then who answers has a fault"),
        (409, "OperationAborted", "nothing, unless it stays: somebody wrote there"),
        (429, "TooManyRequests", "nothing, unless it stays: the store asks for fewer requests"),
    ],
)
def test_no_refusal_is_without_advice(
    status: int, code: str, hint: str, settings: S3Settings, proxy: Proxy, tmp_path: Path
) -> None:
    proxy.script = answering(s3_error(status, code))
    error = failed_put(store_of(with_(settings, storage_class="FANCY")), tmp_path)
    assert error.hint.startswith(hint)
    if "compare" in hint:
        assert error.hint.endswith("storage_class; `audit-exporter check` says more")


def test_keys_of_the_machine_are_not_looked_for_in_the_settings(
    settings: S3Settings, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy.script = answering(s3_error(403, "InvalidAccessKeyId"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY)
    access.session.cache_clear()
    error = failed_put(store_of(with_(settings, **NO_KEYS)), tmp_path)
    access.session.cache_clear()
    assert error.hint.startswith("renew the credentials that this machine offers")


@pytest.mark.parametrize(
    ("prefix", "resource"),
    [("a*b?", "a${*}b${?}"), ("${aws:username}", "${$}{aws:username}"), ("$5", "$5")],
)
def test_a_policy_takes_a_prefix_letter_by_letter(prefix: str, resource: str) -> None:
    amazon = settings_of("b")
    name = f"{prefix}/audit/acme/file.zip"
    assert policies.objects(amazon, name) == f"arn:aws:s3:::b/{resource}/*"
    other = settings_of("b", endpoint_url="https://s3.example.com")  # which may not know these spellings
    assert policies.objects(other, name) == f"arn:aws:s3:::b/{prefix}/*"


@pytest.mark.parametrize("end", ["?key=canary", "#canary", "/path?canary"])
def test_an_endpoint_with_a_query_is_refused_and_not_shown(end: str) -> None:
    with pytest.raises(ValidationError) as caught:
        settings_of("b", endpoint_url=f"https://s3.example.com{end}")
    (mistake,) = caught.value.errors()
    assert mistake["loc"] == ("endpoint_url",)
    assert "must not have a query" in mistake["msg"]
    assert "canary" not in mistake["msg"]


@pytest.mark.parametrize(
    ("more", "fix"),
    [
        ({}, "aws s3api create-bucket --endpoint-url {endpoint} --bucket {bucket}"),
        (
            {"endpoint_url": "https://s3.amazonaws.com"},
            "aws s3api create-bucket --bucket {bucket} --region us-east-1",
        ),
        (
            {"endpoint_url": "https://s3.amazonaws.com", "region": "eu-west-1"},
            (
                "aws s3api create-bucket --bucket {bucket} --region eu-west-1"
                " --create-bucket-configuration LocationConstraint=eu-west-1"
            ),
        ),
    ],
    ids=["compatible", "us-east-1", "another region"],
)
def test_a_missing_bucket_comes_with_the_command_that_creates_it(
    more: dict[str, str], fix: str, settings: S3Settings
) -> None:
    answer: Any = {"Error": {"Code": "NoSuchBucket"}, "ResponseMetadata": {"HTTPStatusCode": 404}}
    asked = with_(settings, **more)
    error = put_failed(boto.ClientError(answer, "PutObject"), asked, NAME)
    assert error.fix == fix.format(endpoint=settings.endpoint_url, bucket=settings.bucket)


@pytest.mark.parametrize("region", ["eu-west-1; reboot", "$(reboot)", "eu\nbucket: other"])
def test_no_text_to_copy_has_what_a_hostile_store_says(
    region: str, settings: S3Settings, proxy: Proxy, tmp_path: Path
) -> None:
    proxy.script = answering(s3_error(301, "PermanentRedirect", extra=f"<Region>{region}</Region>"))
    error = failed_put(store_of(settings), tmp_path)
    assert (error.hint, error.fix) == ("set region: the bucket's", "")


def test_no_text_to_copy_runs_what_an_endpoint_says() -> None:
    answer: Any = {"Error": {"Code": "NoSuchBucket"}, "ResponseMetadata": {"HTTPStatusCode": 404}}
    asked = settings_of("b", endpoint_url="https://s3.example.com/$(reboot)")
    error = put_failed(boto.ClientError(answer, "PutObject"), asked, NAME)
    assert "--endpoint-url 'https://s3.example.com/$(reboot)' " in error.fix


@pytest.mark.parametrize("setting", ["role_arn", "kms_key", "storage_class"])
@pytest.mark.parametrize("text", ["x\nreboot", "x y", "$(reboot)", "x;reboot", "x'"])
def test_what_goes_into_headers_and_texts_to_copy_has_plain_characters(setting: str, text: str) -> None:
    with pytest.raises(ValidationError, match=f"{setting}\n.*must be a"):
        settings_of("b", endpoint_url="https://s3.example.com", **{setting: text})
