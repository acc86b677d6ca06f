"""Records of every role, through the real compiled format, and the actions of real audit logs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from hypothesis import strategies as st

from exporter.columns import Layout, Roles, RowBlock, TextTimes
from exporter.config.settings import Columns
from exporter.formats import compile_format, library
from exporter.formats.settings import FormatChoice
from exporter.model import Branch, Rendering

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

REAL_LOGS: Final = Path(__file__).resolve().parents[3] / "shared" / "data"
"""Real audit logs beside the repository, where there are any."""

ROLES: Final = tuple(Columns.model_fields)
OPTIONAL: Final = tuple(role for role in ROLES if role not in {"id", "time", "account", "commit"})
LAYOUT: Final = Layout(
    ROLES, ROLES, Roles("id", "time", "account"), TextTimes(), frozenset({"details", "tags"})
)

TIME: Final = "2026-11-19T04:00:00.123456Z"
TIME_MS: Final = 1_795_060_800_123

ACTIONS: Final = (
    *(
        "Login",
        "Login Failed",
        "Logout",
        "user.session.start",
        "user.session.end",
        "user_logout",
        "ConsoleLogin",
    ),
    *("login_success", "policy.evaluate_sign_on", "AssumeRole", "user.session.impersonation.grant"),
    *(
        "CREATE_USER",
        "user.lifecycle.create",
        "user.lifecycle.deactivate",
        "user.account.lock",
        "user unlocked",
    ),
    *(
        "user.account.reset_password",
        "Password Changed",
        "2sv_enroll",
        "2sv_disable",
        "user.mfa.factor.suspend",
    ),
    *("DeleteUser", "user_deleted", "user.lifecycle.activate", "AttachUserPolicy", "DetachUserPolicy"),
    *("role_change_to_admin", "Role Change", "user.account.privilege.grant", "permission revoked"),
    *("org.add_member", "org.remove_member", "team.create", "team.destroy", "group.privilege.grant"),
    *(
        "API Key Created",
        "API Key Revoked",
        "Settings Change",
        "org.saml_disabled",
        "dependabot_alerts.disable",
    ),
    *(
        "Campaign Save",
        "Export",
        "Dashboard View",
        "repo.create",
        "DescribeInstances",
        "nobody knows this",
        "",
    ),
)
ADDRESSES: Final = (
    *(
        "203.0.113.9",
        "2001:db8::1",
        "::ffff:203.0.113.9",
        "::",
        "0000:0000:0000:0000:0000:ffff:203.0.113.255",
    ),
    *("1::2:3.4.5.6", "fe80::1%eth0", "203.0.113.9:443", "010.0.0.1", "1.2.3", "unknown", "AWS Internal", ""),
)
EMAILS: Final = (
    *(
        "ada@acme.example",
        "sam+audit@acme.example",
        "ada.o'neil@acme.example",
        "root",
        "a@b",
        "@",
        "a b@c.example",
    ),
    *("a@b@c.example", "a@.example", "a@b..c", "a@b.", "ada@acme.example\n", ""),
    *('"q"@acme.example', "jürgen@globex.example", "a@bücher.example", "a:b@c.example", "a@c_d.example"),
)

NASTY: Final = (
    *(
        "",
        " ",
        "a=b",
        "a|b",
        "a\\b",
        "a\\",
        "\\=",
        "a\nb",
        "a\r\nb",
        "\t",
        "\x00",
        "\x1f\x7f\x85",
        "\u2028\u2029",
    ),
    *('"', "é🚀", "null", "0", "true", "x=1 y=2", "\\n", "[]", '{"a": 1}'),
)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30) | st.sampled_from(NASTY)
_OF_ROLE: Final[Mapping[str, st.SearchStrategy[Any]]] = {
    "action": st.sampled_from(ACTIONS) | texts,
    "email": st.sampled_from(EMAILS) | texts | st.emails(),
    "ip_address": st.sampled_from(ADDRESSES) | st.ip_addresses().map(str) | texts,
    "severity": st.sampled_from(("low", "High", "5", "11", "INFO", "critical")) | texts | st.integers(),
    "outcome": st.sampled_from(("SUCCESS", "Failure", "denied", "CHALLENGE")) | texts | st.booleans(),
    "details": st.sampled_from(('{"a": {"b": null}}', "[1, 2]", '"text"', "12", "no JSON")) | texts,
    "tags": st.just('[["browser", "Firefox"]]') | texts,
    "first_login": st.sampled_from((0, 1, True, False)),
    "issue": st.integers(0, 2**53) | texts,
}
records = st.fixed_dictionaries(
    {"id": st.integers(1, 2**60), "time": st.just(TIME), "account": st.just("acme")},
    optional={
        role: st.none() | _OF_ROLE.get(role, texts | st.integers(-(2**60), 2**60)) for role in OPTIONAL
    },
)
"""Values by role, any of which may be missing or null."""


def lines_of(
    preset: str,
    rows: Iterable[Mapping[str, object]],
    protected: Mapping[str, str] | None = None,
    **parameters: str,
) -> Sequence[str]:
    """What the format makes of these records, a line each."""
    choice = FormatChoice.model_validate({"name": preset, "with": parameters})
    _, mapping = library.bind(choice, {role: role for role in ROLES})
    values = [[{"id": 1, "time": TIME, "account": "acme", **row}.get(role) for role in ROLES] for row in rows]
    block = RowBlock(Branch.ON_TIME, LAYOUT, values)
    form = compile_format(Rendering(preset, mapping, protected=protected or {}))
    written = form.encode(block)[0].decode().split("\n")
    assert written.pop() == ""
    assert len(written) == len(values)
    return written


def events_of(
    preset: str,
    rows: Iterable[Mapping[str, object]],
    protected: Mapping[str, str] | None = None,
    **parameters: str,
) -> Sequence[dict[str, Any]]:
    """The same, of a format whose lines are JSON."""
    return [json.loads(line) for line in lines_of(preset, rows, protected, **parameters)]


def real_actions() -> Sequence[str]:
    """Every action in the real logs; none where there are no logs."""
    found: set[str] = set()
    for file in sorted(REAL_LOGS.glob("*.jsonl")):
        for line in file.read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            for key in ("eventName", "eventType", "action", "name", "eventtype"):
                if isinstance(record.get(key), str):
                    found.add(record[key])
    return sorted(found)
