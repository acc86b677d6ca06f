"""What S3's refusals come with: the policy or command that cures them, to copy as it is."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import botocore.exceptions as boto
import pytest
from pydantic import ValidationError

from exporter.destinations.s3.errors import put_failed
from tests.contracts.object_store import NAME
from tests.kit.proxy import Proxy, proxy_before, s3_error
from tests.kit.s3_stores import (
    KEY_ARN,
    answering,
    failed_put,
    new_bucket_behind,
    settings_of,
    store_of,
    with_,
)
from tests.kit.servers import shared_moto

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
