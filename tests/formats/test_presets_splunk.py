"""The events of the systems that send to Splunk today: `cerby`, `auth0` and `sentry`, field by field."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest

from exporter.columns import RowBlock
from exporter.formats import compile_format, library
from exporter.formats.settings import FormatChoice
from exporter.model import EVENTS, Branch, Rendering
from tests.formats.presets_kit import LAYOUT, ROLES, TIME, events_of

RECORD: Final = {
    "id": 7,
    "action": "LOGIN",
    "email": "ada@acme.example",
    "user_id": "auth0|1",
    "user_name": "Ada",
    "ip_address": "203.0.113.9",
    "application": "Salesforce",
    "provider": "okta",
    "protocol": "oidc-basic-profile",
    "city": "Vienna",
    "region": "Vienna",
    "country": "AT",
    "device": "Ada's laptop",
    "browser": "Firefox",
    "browser_version": "140",
    "user_agent": "Mozilla/5.0",
    "workspace": "acme-main",
}


def test_cerby_sends_its_fifteen_fields_in_order() -> None:
    """`timestamp` is Unix time, `date` ISO; the rest are texts, and a field without a value is null."""
    full, bare = events_of("cerby", [RECORD, {}])
    assert full == {
        "timestamp": 1_795_060_800,
        "date": TIME,
        "eventName": "LOGIN",
        "user_id": "auth0|1",
        "accountName": "Salesforce",
        "accountProvider": "okta",
        "city": "Vienna",
        "region": "Vienna",
        "country": "AT",
        "ip": "203.0.113.9",
        "deviceName": "Ada's laptop",
        "browserName": "Firefox",
        "browserVersionMajor": "140",
        "userAgent": "Mozilla/5.0",
        "workspace": "acme-main",
    }
    assert list(full) == list(bare)
    assert bare["workspace"] == "acme"
    assert [name for name, value in bare.items() if value is not None] == ["timestamp", "date", "workspace"]


@pytest.mark.parametrize(
    ("first", "message"),
    [(True, "SignUp"), (1, "SignUp"), ("t", "SignUp"), (False, "Login"), (0, "Login"), ("f", "Login")],
)
def test_auth0_says_signup_on_the_first_login(first: object, message: str) -> None:
    """However the source spells its truth, a user's first login is a SignUp, and every later one a Login."""
    (event,) = events_of("auth0", [{**RECORD, "first_login": first}])
    assert event == {
        "message": message,
        "application": "Salesforce",
        "clientIP": "203.0.113.9",
        "protocol": "oidc-basic-profile",
        "userName": "Ada",
        "userId": "auth0|1",
    }


@pytest.mark.parametrize("action", ["Logout", "API Key Created", "", None])
def test_auth0_calls_nothing_a_login_that_is_none(action: str | None) -> None:
    """Where it is not known whether a login is a first one, the event says what was done, in its own word."""
    (event,) = events_of("auth0", [{**RECORD, "action": action, "first_login": None}])
    assert event["message"] == action


def test_auth0_without_first_logins_says_what_was_done() -> None:
    """A source that has no column for it makes no event a Login."""
    roles = {role: None if role == "first_login" else role for role in ROLES}
    _, mapping = library.bind(FormatChoice.model_validate({"name": "auth0"}), roles)
    block = RowBlock(
        Branch.ON_TIME, LAYOUT, [[{"time": TIME, "action": "Logout"}.get(role) for role in ROLES]]
    )
    line, _ = compile_format(Rendering("auth0", mapping)).encode(block)
    assert json.loads(line)["message"] == "Logout"


def test_sentry_leaves_out_what_the_plugin_leaves_out() -> None:
    """An error event has what it has; transaction, release and environment are empty where there is none."""
    record = {
        "id": "fc6d8c0c43fc4630ad850ee518f1b9d0",
        "issue": 42,
        "project": "shop",
        "tags": '[["browser", "Firefox"], ["os", "Linux"]]',
        "exception_type": "ValueError",
        "exception_value": "no such thing",
        "description": "it broke",
        "url": "https://shop.example/cart",
        "user_id": "1",
        "release": "1.2",
    }
    full, bare = events_of("sentry", [record, {"id": "e"}])
    assert full == {
        "event_id": "fc6d8c0c43fc4630ad850ee518f1b9d0",
        "issue_id": 42,
        "project_id": "shop",
        "transaction": "",
        "release": "1.2",
        "environment": "",
        "type": "error",
        "tags": [["browser", "Firefox"], ["os", "Linux"]],
        "request_url": "https://shop.example/cart",
        "exception_type": "ValueError",
        "exception_value": "no such thing",
        "message": "it broke",
        "user_id": "1",
    }
    assert bare == {"event_id": "e", "transaction": "", "release": "", "environment": "", "type": "error"}


def enveloped(preset: str, envelope: dict[str, Any]) -> dict[str, Any]:
    """A record as an event of a destination that has this around each."""
    _, mapping = library.bind(
        FormatChoice.model_validate({"name": preset}),
        {role: role for role in ROLES},
        {**envelope, "event": "$event"},
    )
    block = RowBlock(
        Branch.ON_TIME, LAYOUT, [[{"time": TIME, "account": "acme", **RECORD}.get(role) for role in ROLES]]
    )
    line, _ = compile_format(Rendering(preset, mapping, archive=EVENTS)).encode(block)
    event: dict[str, Any] = json.loads(line)
    return event


@pytest.mark.parametrize(
    ("preset", "around"),
    [
        ("auth0", {"source": "auth0", "sourcetype": "auth0_activity"}),
        ("sentry", {"source": "sentry"}),
        ("cerby", {"source": "cerby", "sourcetype": "_json"}),
    ],
)
def test_the_envelope_says_whose_events_they_are(preset: str, around: dict[str, str]) -> None:
    """A format fills source and sourcetype where the destination leaves them open, and only there."""
    open_places: dict[str, Any] = {"source": None, "sourcetype": None}
    event = enveloped(preset, open_places)
    assert {name: value for name, value in event.items() if name != "event"} == around
    assert enveloped(preset, {**open_places, "source": "=mine"})["source"] == "mine"
