"""What a configuration may say of a Splunk collector, and what follows from it for names and envelopes."""

from __future__ import annotations

from itertools import combinations
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from exporter.destinations.registry import DESTINATIONS
from exporter.destinations.splunk_hec.settings import SplunkHecSettings
from exporter.errors import ConfigError
from exporter.network.guard import Guard
from exporter.wiring.destinations import Destinations

CANARY: Final = "0123canary4567"
ADDRESS: Final = "https://splunk.example.com:8088"


def settings(**changes: Any) -> SplunkHecSettings:  # noqa: ANN401 - whatever a test sets
    given: dict[str, Any] = {"type": "splunk_hec", "url": ADDRESS, "token": CANARY}
    return SplunkHecSettings.model_validate(given | changes)


def mistake(**changes: Any) -> str:  # noqa: ANN401 - whatever a test sets
    """What is said of one mistake; it never shows the token."""
    with pytest.raises(ValidationError) as caught:
        settings(**changes)
    assert CANARY not in str(caught.value)
    [error] = caught.value.errors(include_url=False)
    return str(error["msg"])


def store(url: str, *allowed: str) -> str:
    return settings(url=url).open(Guard(allowed)).store


# --- The address ----------------------------------------------------------------------------------


@pytest.mark.parametrize("behind", ["", "/", "/services/collector", "/services/collector/event/1.0/"])
@pytest.mark.parametrize("scheme", ["", "https://", "HTTPS://"])
@pytest.mark.parametrize("host", ["splunk.example.com", "SPLUNK.Example.com", "splunk.example.com."])
def test_all_spellings_of_one_address_are_one_store(scheme: str, host: str, behind: str) -> None:
    assert store(f"{scheme}{host}:8088{behind}") == f"hec:{ADDRESS}"


@pytest.mark.parametrize(
    ("url", "canonical"),
    [
        ("splunk.example.com", "hec:https://splunk.example.com:443"),
        ("http-inputs-acme.splunkcloud.com:443", "hec:https://http-inputs-acme.splunkcloud.com:443"),
        ("https://[2606:4700::1111]:8088", "hec:https://[2606:4700::1111]:8088"),
        ("[2606:4700:0::1111]:8088/services/collector", "hec:https://[2606:4700::1111]:8088"),
        ("1.1.1.1", "hec:https://1.1.1.1:443"),
    ],
)
def test_without_a_port_it_is_the_one_of_https(url: str, canonical: str) -> None:
    assert store(url) == canonical


def test_http_is_another_store_and_for_hosts_that_the_operator_allows() -> None:
    assert store("http://splunk.internal:8088", "splunk.internal") == "hec:http://splunk.internal:8088"
    assert store("http://splunk.internal", "splunk.internal") == "hec:http://splunk.internal:80"
    with pytest.raises(ConfigError, match="not https") as caught:
        store("http://splunk.example.com:8088")
    assert "network: {allow: [splunk.example.com]}" in caught.value.hint


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (f"{ADDRESS}/services/collector?token={CANARY}", "`token` alone"),
        (f"{ADDRESS}#{CANARY}", "`token` alone"),
        (f"https://x:{CANARY}@splunk.example.com", "user or a password"),
        (f"Splunk {CANARY}", "no plain https address"),
        (f"{ADDRESS}/{CANARY}", "/services/collector"),
        (f"{ADDRESS}/services/collector/raw", "/services/collector"),
        (f"{ADDRESS}//services/collector", "/services/collector"),
        ("https://", "no plain https address"),
        ("ftp://splunk.example.com", "no plain https address"),
        ("https://splunk.example.com:0", "port"),
        ("https://splunk.example.com:80880", "port"),
        ("https://splunk.example.com\n", "no plain https address"),
        ("", "at least 1 character"),
    ],
)
def test_a_wrong_address_is_told_without_being_shown(url: str, words: str) -> None:
    assert words in mistake(url=url)


@given(st.text())
def test_whatever_is_no_address_is_a_mistake_of_the_configuration(url: str) -> None:
    try:
        made = settings(url=url).open(Guard())
    except (ValidationError, ConfigError):
        return
    assert made.store.startswith("hec:https://")


# --- Other settings -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"index": "Audit"}, "lower-case"),
        ({"index": "audit log"}, "lower-case"),
        ({"index": "-audit"}, "lower-case"),
        ({"auth": "query"}, "'header' or 'basic'"),
        ({"batch": "0B"}, "not between"),
        ({"batch": "1GB"}, "not between"),
        ({"batch": "much"}, "not a size"),
        ({"fields": ["a"]}, "must be a mapping"),
        ({"fields": {"event_id": "x"}}, "fills in itself"),
        ({"fields": {"sequence": 1}}, "fills in itself"),
        ({"fields": {"_time": 1}}, "begins with a letter"),
        ({"fields": {"a b": 1}}, "begins with a letter"),
        ({"fields": {"$a": 1}}, "begins with a letter"),
        ({"fields": {1: "a"}}, "begins with a letter"),
        ({"fields": {"a": True}}, "neither text nor a number"),
        ({"fields": {"a": None}}, "neither text nor a number"),
        ({"fields": {"a": {"b": 1}}}, "neither text nor a number"),
        ({"fields": {"a": float("nan")}}, "neither text nor a number"),
    ],
)
def test_a_wrong_value_is_told(changes: dict[str, Any], words: str) -> None:
    assert words in mistake(**changes)


def test_nine_hundred_kilobytes_go_out_at_once_unless_the_configuration_says_otherwise() -> None:
    assert settings().batch_bytes == 900_000
    assert settings(batch="5MB").batch_bytes == 5_000_000


def test_the_token_is_in_no_text_of_the_settings() -> None:
    made = settings(fields={"team": "a"})
    assert CANARY not in f"{made!r} {made} {made.model_dump_json()}"


def test_settings_that_differ_in_anything_have_destinations_of_their_own() -> None:
    """And equal ones share one, with its pace and its channels."""
    one = {"index": "a", "source": "a", "sourcetype": "a", "host": "a", "fields": {"a": 1}, "gzip": False}
    two = {"auth": "basic", "acknowledge": True, "batch": "1MB", "token": "another"}
    variants = [{key: value} for key, value in (one | two).items()] + [{}, {"fields": {"a": 2}}]
    made = Destinations(Guard(), lambda destination: destination)
    destinations = [made.make(settings(**changes)) for changes in variants]
    assert all(first is not second for first, second in combinations(destinations, 2))
    assert [made.make(settings(**changes)) for changes in variants] == destinations


def test_it_is_among_the_destinations_that_a_configuration_may_name() -> None:
    assert DESTINATIONS["splunk_hec"] is SplunkHecSettings


# --- What follows from them -------------------------------------------------------------------------


def test_the_envelope_has_the_keys_that_splunk_knows_and_no_other() -> None:
    assert settings().envelope() == {
        "time": "time | epoch",
        "host": None,
        "source": None,
        "sourcetype": None,
        "index": None,
        "event": "$event",
        "fields": {"event_id": "id | text", "sequence": "$sequence"},
    }


def test_what_is_configured_is_in_the_envelope_as_it_is() -> None:
    texts = {"host": "=h", "source": "$s", "sourcetype": "a | b", "index": "audit"}
    envelope = settings(**texts, fields={"team": "id", "floor": 3, "share": 0.5}).envelope()
    assert {key: envelope[key] for key in texts} == {key: f"={text}" for key, text in texts.items()}
    assert envelope["fields"] == {
        "event_id": "id | text",
        "sequence": "$sequence",
        "team": "=id",
        "floor": 3,
        "share": 0.5,
    }


def claim(account: str, **changes: str) -> str:
    return settings(**changes).open(Guard()).claim(account)


def test_two_exports_that_would_double_every_event_claim_the_same() -> None:
    whole = claim("acme", url="SPLUNK.example.com:8088/services/collector", index="audit", host="a")
    assert whole == claim("acme", index="audit", token="another", auth="basic")
    assert whole == f"hec:{ADDRESS}/index=audit/acme"


PARTS: Final = st.sampled_from(["source=a", "sourcetype=a", "/", "%2F", "a", "a/a"]) | st.text(min_size=1)


@given(*[st.tuples(PARTS, PARTS | st.none(), PARTS | st.none())] * 2)
def test_different_places_have_different_claims(
    one: tuple[str, str | None, str | None], two: tuple[str, str | None, str | None]
) -> None:
    claims = [
        claim(account, **{key: text for key, text in {"source": source, "sourcetype": kind}.items() if text})
        for account, source, kind in (one, two)
    ]
    assert (claims[0] == claims[1]) is (one == two)
