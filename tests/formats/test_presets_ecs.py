"""The `ecs` format: each value has its field's type, and an address that is none is never an `ip`.

No package carries ECS's field types: the table below is Elastic's own, of its generated index templates
(`generated/elasticsearch/composable/component` in github.com/elastic/ecs) and, for categories and types, of
its reference for 9.x.
"""

from __future__ import annotations

import ipaddress
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.formats.presets_kit import ACTIONS, ADDRESSES, TIME, events_of, real_actions, records

if TYPE_CHECKING:
    from collections.abc import Iterator

FIELDS: Final = {
    "@timestamp": "date",
    "ecs.version": "keyword",
    "event.kind": "keyword",
    "event.category": "keywords",
    "event.type": "keywords",
    "event.action": "keyword",
    "event.id": "keyword",
    "event.outcome": "keyword",
    "event.provider": "keyword",
    "event.dataset": "keyword",
    "event.original": "keyword",
    "message": "keyword",  # match_only_text takes the same values
    "user.id": "keyword",
    "user.name": "keyword",
    "user.email": "keyword",
    "user.target.id": "keyword",
    "group.id": "keyword",
    "source.ip": "ip",
    "source.address": "keyword",
    "source.geo.city_name": "keyword",
    "source.geo.region_name": "keyword",
    "source.geo.country_name": "keyword",
    "user_agent.original": "keyword",
    "network.protocol": "keyword",
    "service.name": "keyword",
    "organization.id": "keyword",
    "observer.vendor": "keyword",
    "observer.product": "keyword",
    "observer.type": "keyword",
    "related.user": "keywords",
    "related.ip": "ips",
    "labels.action_id": "keyword",
    "labels.severity": "keyword",
}

EXPECTED: Final = {
    "api": {
        "access",
        "admin",
        "allowed",
        "change",
        "creation",
        "deletion",
        "denied",
        "end",
        "info",
        "start",
        "user",
    },
    "authentication": {"start", "end", "info"},
    "configuration": {"access", "change", "creation", "deletion", "info"},
    "iam": {"admin", "change", "creation", "deletion", "group", "info", "user"},
    "session": {"start", "end", "info"},
}
"""The categories that the format uses, and the types that ECS expects with each."""

KINDS: Final = {
    "Login": ("authentication", ["start"]),
    "user.session.start": ("authentication", ["start"]),
    "Logout": ("authentication", ["end"]),
    "user_session_invalidated": ("session", ["end"]),
    "policy.evaluate_sign_on": ("authentication", ["info"]),
    "CREATE_USER": ("iam", ["user", "creation"]),
    "user.lifecycle.deactivate": ("iam", ["user", "change"]),
    "DeleteUser": ("iam", ["user", "deletion"]),
    "org.invite_user": ("iam", ["user", "info"]),
    "team.create": ("iam", ["group", "creation"]),
    "team.destroy": ("iam", ["group", "deletion"]),
    "org.add_member": ("iam", ["group", "change"]),
    "role_change_to_admin": ("iam", ["admin", "change"]),
    "API Key Created": ("configuration", ["creation"]),
    "API Key Revoked": ("configuration", ["deletion"]),
    "Settings Change": ("configuration", ["change"]),
    "repo.create": ("api", ["creation"]),
    "GetObject": ("api", ["access"]),
    "Campaign Save": ("api", ["change"]),
    "repo.destroy": ("api", ["deletion"]),
    "nobody knows this": ("api", ["info"]),
}


def flat(value: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, inner in value.items():
        if isinstance(inner, dict):
            yield from flat(inner, f"{prefix}{name}.")
        else:
            yield prefix + name, inner


def check_value(kind: str, value: object) -> None:
    """As Elasticsearch reads a field of this type, which has no zone and no port in an address."""
    if kind in ("keywords", "ips"):
        assert isinstance(value, list)
        assert value
        for one in value:
            check_value(kind.removesuffix("s"), one)
        return
    assert isinstance(value, str)
    if kind == "ip":
        assert "%" not in value
        ipaddress.ip_address(value)
    if kind == "date":
        assert datetime.fromisoformat(value).tzinfo is not None


def check(event: dict[str, Any]) -> None:
    for name, value in flat(event):
        check_value(FIELDS[name], value)
    kinds = event["event"]
    for category in kinds["category"]:
        assert set(kinds["type"]) <= EXPECTED[category]
    assert kinds["kind"] == "event"
    assert kinds.get("outcome", "unknown") in {"success", "failure", "unknown"}
    assert event["@timestamp"] == TIME


@pytest.mark.parametrize("action", KINDS)
def test_an_action_has_its_category_and_types(action: str) -> None:
    """Each action is of the category and the types that a person gives it."""
    (event,) = events_of("ecs", [{"action": action}])
    check(event)
    assert ([KINDS[action][0]], KINDS[action][1]) == (event["event"]["category"], event["event"]["type"])


def test_every_action_of_the_real_logs_fits() -> None:
    """No action of a real system gets a category that ECS does not have, or a type not expected with it."""
    for event in events_of("ecs", [{"action": action} for action in [*ACTIONS, *real_actions()]]):
        check(event)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(records, min_size=1, max_size=4))
def test_whatever_a_record_holds_each_field_has_its_type(rows: list[dict[str, object]]) -> None:
    """Any values, nulls anywhere: Elasticsearch would take every document."""
    for event in events_of("ecs", rows):
        check(event)


def test_an_address_that_is_none_is_kept_as_text_alone() -> None:
    """`source.ip` and `related.ip` have valid addresses; `source.address` has what the source says."""
    rows = [{"ip_address": address} for address in ADDRESSES]
    for address, event in zip(ADDRESSES, events_of("ecs", rows), strict=True):
        check(event)
        source = event.get("source", {})
        assert source.get("address", "") == address
        assert source.get("ip") in (None, address)
        assert event.get("related", {}).get("ip", [None]) == [source.get("ip")]


@pytest.mark.parametrize("how", ["drop", "mask", "truncate"])
def test_what_is_protected_keeps_its_fields_type(how: str) -> None:
    """An address that is masked is no `ip` any more, and one that is truncated still is."""
    whole = {"ip_address": "203.0.113.9", "action_id": "42", "email": "ada@acme.example", "action": "Login"}
    (event,) = events_of("ecs", [whole], dict.fromkeys(("ip_address", "action_id", "email"), how))
    check(event)
    assert event.get("source", {}).get("ip") == ("203.0.113.0" if how == "truncate" else None)


def test_whom_it_was_done_to_is_the_target() -> None:
    """Of an account that is changed, the target is a user; of a group, a group; else it is only a label."""
    user, group, other = events_of(
        "ecs", [{"action": action, "action_id": "x"} for action in ("DeleteUser", "team.create", "Export")]
    )
    assert user["user"] == {"target": {"id": "x"}}
    assert group["group"] == {"id": "x"}
    assert "user" not in other
    assert {event["labels"]["action_id"] for event in (user, group, other)} == {"x"}
