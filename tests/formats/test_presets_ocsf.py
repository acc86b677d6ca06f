"""The `ocsf` format against the published schema, which the package ocsf-json-schema carries, by class."""

from __future__ import annotations

import json
from functools import cache
from typing import Any, Final

import jsonschema  # type: ignore[import-untyped]
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema  # type: ignore[import-untyped]

from tests.formats.presets_kit import (
    ACTIONS,
    ADDRESSES,
    EMAILS,
    TIME_MS,
    events_of,
    real_actions,
    records,
)

TYPES: Final = {
    "Login": 300201,
    "Login Failed": 300201,
    "ConsoleLogin": 300201,
    "user.session.start": 300201,
    "user_logout": 300202,
    "AssumeRole": 300207,
    "policy.evaluate_sign_on": 300299,
    "CREATE_USER": 300101,
    "user.lifecycle.activate": 300102,
    "Password Changed": 300103,
    "user.account.reset_password": 300104,
    "user.lifecycle.deactivate": 300105,
    "DeleteUser": 300106,
    "AttachUserPolicy": 300107,
    "DetachUserPolicy": 300108,
    "user.account.lock": 300109,
    "2sv_enroll": 300110,
    "user.mfa.factor.suspend": 300111,
    "user unlocked": 300112,
    "role_change_to_admin": 300501,
    "permission revoked": 300502,
    "group.privilege.grant": 300601,
    "org.add_member": 300603,
    "org.remove_member": 300604,
    "team.destroy": 300605,
    "team.create": 300606,
    "API Key Created": 300401,
    "Settings Change": 300403,
    "API Key Revoked": 300404,
    "org.saml_disabled": 300409,
    "repo.create": 600301,
    "Dashboard View": 600302,
    "Campaign Save": 600303,
    "repo.destroy": 600304,
    "nobody knows this": 600399,
    "design information": 600399,
    "catalog output": 600399,
    "failover": 600399,
}
"""Actions of real systems, and the types that a person gives them."""

FROM_1_9: Final = {
    "CREATE_USER": 300701,
    "DeleteUser": 300703,
    "user.lifecycle.activate": 300704,
    "user.lifecycle.deactivate": 300705,
    "user.account.lock": 300706,
    "user unlocked": 300707,
    "Password Changed": 300708,
    "user.account.reset_password": 300709,
    "AttachUserPolicy": 300710,
    "DetachUserPolicy": 300711,
    "2sv_enroll": 300712,
    "user.mfa.factor.suspend": 300713,
    "role_change_to_admin": 300714,
    "permission revoked": 300715,
}
"""The activities of User Management, as `events/iam/user_management.json` of ocsf-schema 1.9.0 has them."""


@cache
def published(class_uid: int) -> jsonschema.Draft202012Validator:
    schema = OcsfJsonSchemaEmbedded(get_ocsf_schema("1.8.0"))
    return jsonschema.Draft202012Validator(
        schema.get_class_schema(schema.lookup_class_name_from_uid(class_uid))
    )


@cache
def user_management() -> jsonschema.Draft202012Validator:
    """The class of 1.9.0, which no package has: Account Change of 1.8.0 with what the class's file says."""
    schema = json.loads(json.dumps(published(3001).schema))
    of = schema["properties"]
    activities = [0, *range(1, 18), 99]
    of["activity_id"]["enum"] = activities
    of["class_uid"] = {"const": 3007}
    of["type_uid"] = {"enum": [300_700 + activity for activity in activities]}
    of["privileges"] = {"type": "array", "items": {"type": "string"}}
    assert "user" in schema["required"]
    return jsonschema.Draft202012Validator(schema)


def check(event: dict[str, Any]) -> None:
    """Validate with the class's schema, which knows no further attribute, and with the rule for types."""
    published(event["class_uid"]).validate(event)
    assert event["type_uid"] == event["class_uid"] * 100 + event["activity_id"]
    assert event["category_uid"] == event["class_uid"] // 1000


def test_the_schema_would_refuse_what_is_wrong() -> None:
    """The validation is one: attributes that are unknown, missing or of another type are failures."""
    (event,) = events_of("ocsf", [{"action": "Login"}])
    check(event)
    mistakes: tuple[dict[str, Any], ...] = (
        {"nonsense": 1},
        {"time": "2026"},
        {"user": {}},
        {"service": None},
        {"severity_id": 42},
    )
    for wrong in mistakes:
        with pytest.raises(jsonschema.ValidationError):
            check({**event, **wrong})


@pytest.mark.parametrize("action", TYPES)
def test_each_class_and_activity_is_reached_and_valid(action: str) -> None:
    """Each action has the type that a person gives it, and validates, with other values and without."""
    full = {"email": "a@b.example", "action_id": "42", "ip_address": "203.0.113.9", "description": "text"}
    bare, whole = events_of("ocsf", [{"action": action}, {"action": action, **full}])
    for event in (bare, whole):
        check(event)
        assert event["type_uid"] == TYPES[action]


def test_every_action_of_the_real_logs_is_valid() -> None:
    """No action of a real system makes an event that the schema refuses."""
    rows = [{"action": action, "action_id": "x"} for action in [*ACTIONS, *real_actions()]]
    for event in events_of("ocsf", rows):
        check(event)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(records, min_size=1, max_size=4))
def test_whatever_a_record_holds_it_is_valid(rows: list[dict[str, object]]) -> None:
    """Any values, nulls anywhere, any action: every event validates."""
    for event in events_of("ocsf", rows):
        check(event)


def test_what_is_no_address_goes_elsewhere() -> None:
    """Addresses stand where the schema wants addresses only if they are some, and are never lost."""
    rows = [
        {"email": email, "ip_address": address, "action": action}
        for email in EMAILS
        for address in ADDRESSES
        for action in ("Login", "nobody knows this")
    ]
    for row, event in zip(rows, events_of("ocsf", rows), strict=True):
        check(event)
        assert event["actor"]["user"]["name"] == (row["email"] or "unknown")
        assert event["src_endpoint"]["name"] == row["ip_address"]
    assert {event["src_endpoint"].get("ip") for event in events_of("ocsf", rows)} >= {"2001:db8::1", None}


@pytest.mark.parametrize("how", ["drop", "mask", "truncate"])
def test_what_is_protected_is_valid_too(how: str) -> None:
    """An event without its address, its target or its words still has what its class asks for."""
    whole = {"ip_address": "203.0.113.9", "action_id": "42", "description": "text", "email": "a@b.example"}
    rows = [{**whole, "action": action} for action in ACTIONS]
    for event in events_of("ocsf", rows, dict.fromkeys(whole, how)):
        check(event)
        assert event["src_endpoint"].get("ip") == ("203.0.113.0" if how == "truncate" else None)


def test_the_six_fields_go_where_the_schema_has_them() -> None:
    """Date, Email, Action, Action ID, Description and IP Address are all found again."""
    record = {
        "id": 7,
        "action": "Campaign Save",
        "email": "ada@acme.example",
        "action_id": "campaign-1",
        "description": "saved",
        "ip_address": "203.0.113.9",
    }
    (event,) = events_of("ocsf", [record], vendor="Acme", product="Acme Mail")
    assert event["time"] == TIME_MS
    assert event["actor"]["user"]["email_addr"] == "ada@acme.example"
    assert event["api"]["operation"] == "Campaign Save"
    assert event["resources"] == [{"uid": "campaign-1"}]
    assert event["message"] == "saved"
    assert event["src_endpoint"]["ip"] == "203.0.113.9"
    assert (event["metadata"]["uid"], event["metadata"]["tenant_uid"]) == ("7", "acme")
    assert event["metadata"]["product"] == {"name": "Acme Mail", "vendor_name": "Acme"}


@pytest.mark.parametrize(
    ("action", "outcome", "status"),
    [
        ("Login", "SUCCESS", 1),
        ("Login", "FAILURE", 2),
        ("Login Failed", None, 2),
        ("login_success", None, 1),
        ("Login", "CHALLENGE", 99),
        ("failover", None, None),
        ("Login", None, None),
        ("Login Failed", "success", 1),
    ],
)
def test_the_outcome_is_the_sources_own_before_the_actions(
    action: str, outcome: str | None, status: int | None
) -> None:
    """What the source says of success counts; only where it says nothing does the action's name."""
    (event,) = events_of("ocsf", [{"action": action, "outcome": outcome}])
    assert event.get("status_id") == status


def test_whom_it_was_done_to_is_not_who_did_it() -> None:
    """Of an account that is changed, the user is the target, and the actor who changed it."""
    (event,) = events_of("ocsf", [{"action": "user deleted", "user_id": "boss", "action_id": "victim"}])
    assert (event["user"], event["actor"]["user"]["uid"]) == ({"uid": "victim"}, "boss")


@pytest.mark.parametrize("action", [*TYPES, *ACTIONS])
def test_from_1_9_on_users_have_one_class(action: str) -> None:
    """With `schema: 1.9.0` User Management takes the place of Account Change and User Access."""
    before, after = (
        events_of("ocsf", [{"action": action, "action_id": "x"}], schema=schema)[0]
        for schema in ("1.8.0", "1.9.0")
    )
    assert after["metadata"]["version"] == "1.9.0"
    assert after["type_uid"] == after["class_uid"] * 100 + after["activity_id"]
    if before["class_uid"] in (3001, 3005):
        assert after["class_uid"] == 3007
        user_management().validate(after)
        assert after["type_uid"] == FROM_1_9.get(action, after["type_uid"])
        assert set(after) <= set(before)
    else:
        after["metadata"]["version"] = "1.8.0"
        assert after == before
