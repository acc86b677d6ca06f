"""Where a bucket that a customer configures can lead the S3 driver, and where not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import botocore.exceptions as boto
import pytest
from botocore.httpsession import URLLib3Session
from pydantic import ValidationError

from exporter.errors import ConfigError, NotSent
from exporter.network.guard import Guard
from tests.kit.s3_stores import KEYS, ROLE_ARN, failed_put, settings_of, store_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

PUBLIC = "93.184.215.14"
METADATA = "169.254.169.254"


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The hosts that requests went to; none is answered."""
    hosts: list[str] = []

    def send(_session: object, request: Any) -> None:  # noqa: ANN401 - botocore's
        hosts.append(urlsplit(request.url).netloc)
        raise boto.EndpointConnectionError(endpoint_url=request.url)

    monkeypatch.setattr(URLLib3Session, "send", send)
    return hosts


def guard_with(addresses: dict[str, str]) -> Guard:
    """A guard in whose DNS there are these names."""

    def resolve(host: str, _port: int) -> Sequence[str]:
        return [addresses[host]]

    return Guard(resolver=resolve)


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://minio.example.com",
        "https://127.0.0.1:9000",
        f"https://{METADATA}",
        "https://[::1]",
        "http://10.0.0.5",
    ],
)
def test_an_endpoint_inside_or_in_the_clear_is_refused_when_it_is_configured(endpoint: str) -> None:
    with pytest.raises(ConfigError, match="endpoint_url") as caught:
        settings_of("b", endpoint_url=endpoint).open(Guard())
    never = METADATA in endpoint
    assert ("name the host itself" if never else "network: {allow:") in caught.value.hint


def test_an_endpoint_that_the_operator_allows_is_used(sent: list[str], tmp_path: Path) -> None:
    settings = settings_of("acme", **KEYS, endpoint_url="http://10.0.0.5:9000", path_style=True)
    failed_put(store_of(settings, guard=Guard(["10.0.0.5"])), tmp_path)
    assert sent == ["10.0.0.5:9000"]


def test_an_endpoint_whose_name_leads_inside_gets_no_request(sent: list[str], tmp_path: Path) -> None:
    guard = guard_with({"s3.example.com": METADATA})
    settings = settings_of("acme", **KEYS, endpoint_url="https://s3.example.com", path_style=True)
    error = failed_put(store_of(settings, guard=guard), tmp_path)
    assert isinstance(error, NotSent)
    assert METADATA in error.message
    assert sent == []


def test_an_endpoint_is_judged_anew_before_each_request(sent: list[str], tmp_path: Path) -> None:
    addresses = {"s3.example.com": PUBLIC}
    settings = settings_of("acme", **KEYS, endpoint_url="https://s3.example.com", path_style=True)
    store = store_of(settings, guard=guard_with(addresses))
    failed_put(store, tmp_path)
    addresses["s3.example.com"] = METADATA
    failed_put(store, tmp_path)
    assert sent == ["s3.example.com"]


def test_a_bucket_in_the_host_s_name_is_another_name_to_judge(sent: list[str], tmp_path: Path) -> None:
    guard = guard_with({"s3.example.com": PUBLIC, "acme.s3.example.com": METADATA})
    settings = settings_of("acme", **KEYS, endpoint_url="https://s3.example.com")
    error = failed_put(store_of(settings, guard=guard), tmp_path)
    assert "acme.s3.example.com leads to" in error.message
    assert sent == []


def test_a_token_service_at_the_endpoint_is_judged_as_well(sent: list[str], tmp_path: Path) -> None:
    guard = guard_with({"s3.example.com": METADATA})
    settings = settings_of("acme", **KEYS, endpoint_url="https://s3.example.com", role_arn=ROLE_ARN)
    assert METADATA in failed_put(store_of(settings, guard=guard), tmp_path).message
    assert sent == []


def test_a_private_endpoint_of_amazon_s_s3_needs_the_operator_s_word(sent: list[str], tmp_path: Path) -> None:
    """Whoever makes one chooses the private address that the public DNS has for it."""
    host = "bucket.vpce-1.s3.eu-west-1.vpce.amazonaws.com"
    settings = settings_of("acme", **KEYS, region="eu-west-1", endpoint_url=f"https://{host}")
    error = failed_put(store_of(settings, guard=guard_with({host: "10.0.0.5"})), tmp_path)
    assert error.hint == f"allow it by name: network: {{allow: [{host}]}}"
    assert sent == []
    failed_put(store_of(settings, guard=guard_with({host: "10.0.0.5"}).allowing(host)), tmp_path)
    assert sent == [host]


def test_amazon_without_an_endpoint_needs_no_name_to_be_resolved_here(
    sent: list[str], tmp_path: Path
) -> None:
    failed_put(store_of(settings_of("acme", **KEYS, region="eu-west-1"), guard=guard_with({})), tmp_path)
    assert sent == ["acme.s3.eu-west-1.amazonaws.com"]


@pytest.mark.parametrize(
    "host",
    [
        "ec2-203-0-113-25.compute-1.amazonaws.com",
        "s3-mine-1234567890.us-east-1.elb.amazonaws.com",
        "s3.us-east-1.elb.amazonaws.com",
        "abcdef.execute-api.us-east-1.amazonaws.com",
        "s3.amazonaws.com.example.com",
        "mys3.amazonaws.com",
    ],
)
def test_a_host_of_amazon_s_that_anybody_can_have_is_not_its_s3(host: str) -> None:
    """Else it could lead inside, and would share its name with the bucket of the same name."""
    settings = settings_of("b", endpoint_url=f"https://{host}")
    assert not settings.is_aws
    assert settings.store_name == f"s3://b@{host}"


@pytest.mark.parametrize(
    "host",
    [
        "s3.amazonaws.com",
        "s3.eu-west-1.amazonaws.com",
        "s3-eu-west-1.amazonaws.com",
        "s3.dualstack.eu-west-1.amazonaws.com",
        "s3-fips.us-gov-west-1.amazonaws.com",
        "s3-fips.dualstack.us-east-1.amazonaws.com",
        "s3-accelerate.amazonaws.com",
        "s3-accelerate.dualstack.amazonaws.com",
        "s3.cn-north-1.amazonaws.com.cn",
        "b.s3.eu-west-1.amazonaws.com",
        "bucket.vpce-1a2b-3c4d.s3.eu-west-1.vpce.amazonaws.com",
    ],
)
def test_every_host_of_amazon_s_s3_is_known_as_such(host: str) -> None:
    assert settings_of("b", endpoint_url=f"https://{host}").is_aws


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"region": "x.example.com/"}, "must be the name of a region"),
        ({"region": "eu-west-1.example.com"}, "must be the name of a region"),
        ({"region": "eu west"}, "must be the name of a region"),
        ({"region": "-eu"}, "must be the name of a region"),
        ({"region": "17"}, "must be the name of a region"),
        ({"region": "eu_west"}, "must be the name of a region"),
        ({"bucket": "example.com/b"}, "must be a bucket's name"),
        ({"bucket": "user@host"}, "must be a bucket's name"),
        ({"bucket": "b#"}, "must be a bucket's name"),
        ({"bucket": "arn:aws:s3:us-east-1:111122223333:accesspoint/a"}, "an access point's alias"),
    ],
)
def test_what_becomes_part_of_a_host_s_name_cannot_be_another_host(
    more: dict[str, str], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        settings_of(**({"bucket": "b"} | more))
