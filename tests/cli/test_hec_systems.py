"""The four systems that speak to Splunk by themselves, done by this program instead.

Each file of `deploy/siem/` is run as it is, but for where database, collector and secrets are.
"""

from __future__ import annotations

import json
import re
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
import yaml
from typer.testing import CliRunner

from exporter.cli import app
from tests.kit.hec_server import Hec, hec_server, redirect
from tests.kit.servers import new_certificate

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tests.kit.hec_events import Event

SIEM: Final = Path(__file__).parents[2] / "deploy" / "siem"
NOW: Final = datetime.now(UTC).replace(microsecond=0)
SYSTEMS: Final = ("cerby", "auth0-hec", "auth0-basic", "sentry")


class System:
    """One of the files with a database of its own, and a collector that its token is for."""

    def __init__(self, name: str, folder: Path, hec: Hec, authority: Path) -> None:
        self.folder = folder
        self.hec = hec
        self.settings = yaml.safe_load((SIEM / f"{name}.yaml").read_text(encoding="utf-8"))
        (self.export,) = self.settings["exports"]
        self.destination = self.export["destination"]
        address = re.sub(r"^https://[^/]+", hec.url, self.destination["url"])
        self.index = self.destination.get("index", "main")
        token = folder / "token"
        token.write_text(hec.new_token(default_index=self.index), encoding="utf-8")
        self.destination |= {"url": address, "token": {"file": str(token)}, "ca_file": str(authority)}
        self.settings |= {"network": {"allow": ["127.0.0.1"]}}
        self.export["start"] = f"{NOW - timedelta(minutes=30):%Y-%m-%dT%H:%M:%SZ}"
        columns = set(self.settings["source"]["columns"].values()) - {"first_login"}
        self._table = self.settings["source"]["table"]
        self._execute(
            f"CREATE TABLE {self._table} (id INTEGER PRIMARY KEY AUTOINCREMENT,"
            f" {', '.join(f'{column} TEXT' for column in sorted(columns - {'id'}))})"
        )
        self._roles = self.settings["source"]["columns"]
        assert self("ledger", "create") == 0

    def insert(self, moment: datetime, **values: object) -> None:
        """One record, its values by role or column."""
        row = {"time": f"{moment:%Y-%m-%dT%H:%M:%S}.250000Z", "account": "acme", **values}
        named = {self._roles.get(role, role): value for role, value in row.items()}
        marks = ", ".join("?" * len(named))
        self._execute(f"INSERT INTO {self._table} ({', '.join(named)}) VALUES ({marks})", *named.values())

    def insert_any(self) -> None:
        """One record that this system sends an event of."""
        action = {"action": "login"} if "action" in self._roles else {}
        self.insert(NOW - timedelta(minutes=10), user_id="ann", **action)

    def __call__(self, *words: str) -> int:
        """One command; its exit status."""
        path = self.folder / "audit-exporter.yaml"
        path.write_text(json.dumps(self.settings), encoding="utf-8")
        environment = {
            "AUDIT_DATABASE": "sqlite:///audit.db",
            "AUDIT_LEDGER": "sqlite:///ledger.db",
        }
        self.answer = CliRunner(env=environment).invoke(
            app, [*words, "-c", str(path)], catch_exceptions=False
        )
        return self.answer.exit_code

    def delivered(self) -> Sequence[Event]:
        """What a run brings into the index."""
        assert self("run") == 0, self.answer.output
        return self.hec.events(self.index)

    def _execute(self, statement: str, *values: object) -> None:
        with closing(sqlite3.connect(self.folder / "audit.db")) as connection, connection:
            connection.execute(statement, values)


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[tuple[Hec, Path]]:
    """A collector behind TLS, and the authority to trust."""
    authority, tls = new_certificate(tmp_path)
    with hec_server(tls) as hec:
        yield hec, authority


def system(name: str, folder: Path, collector: tuple[Hec, Path]) -> System:
    hec, authority = collector
    return System(name, folder, hec, authority)


def epoch(event: Event) -> float:
    return float(event.time)


CERBY: Final[Mapping[str, Any]] = {
    "action": "account.shared",
    "user_id": "usr_1",
    "application": "Twitter",
    "provider": "twitter",
    "city": "San José",
    "region": "CA",
    "country": "US",
    "ip_address": "203.0.113.7",
    "device": "ann's laptop",
    "browser": "Firefox",
    "browser_version": "140",
    "user_agent": "Mozilla/5.0 (X11)",
    "workspace": "acme",
}


def test_cerby_sends_fifteen_fields_with_their_names_every_minute(
    tmp_path: Path, collector: tuple[Hec, Path]
) -> None:
    """`timestamp` is Unix time, `date` ISO; no acknowledgement is asked for."""
    one = system("cerby", tmp_path, collector)
    assert (one.export["every"], one.destination["acknowledge"]) == ("1m", False)
    moment = NOW - timedelta(minutes=10)
    one.insert(moment, **CERBY)
    one.insert(moment + timedelta(minutes=2), action="login")
    full, bare = one.delivered()
    assert full.event == {
        "timestamp": int(moment.timestamp()),
        "date": f"{moment:%Y-%m-%dT%H:%M:%S}.250000Z",
        "eventName": "account.shared",
        "user_id": "usr_1",
        "accountName": "Twitter",
        "accountProvider": "twitter",
        "city": "San José",
        "region": "CA",
        "country": "US",
        "ip": "203.0.113.7",
        "deviceName": "ann's laptop",
        "browserName": "Firefox",
        "browserVersionMajor": "140",
        "userAgent": "Mozilla/5.0 (X11)",
        "workspace": "acme",
    }
    assert list(bare.event) == list(full.event)
    assert len(full.event) == 15
    assert epoch(full) == moment.timestamp() + 0.25
    assert full.fields["event_id"] == "1"
    assert {request.headers.get("x-splunk-request-channel") for request in one.hec.requests()} == {None}


@pytest.mark.parametrize(("name", "scheme"), [("auth0-hec", "Splunk"), ("auth0-basic", "Basic")])
def test_auth0_says_signup_on_a_users_first_login_and_login_after(
    tmp_path: Path, collector: tuple[Hec, Path], name: str, scheme: str
) -> None:
    """One event for each login, however many runs it takes; a login of before the begin counts as one."""
    one = system(name, tmp_path, collector)
    login = {"action": "login", "application": "Portal", "ip_address": "198.51.100.2", "protocol": "oidc"}
    early = NOW - timedelta(hours=2)
    one.insert(early, user_id="old", user_name="Old", **login)
    for minutes, user in ((20, "ann"), (19, "old"), (18, "ann"), (18, "bob")):
        one.insert(NOW - timedelta(minutes=minutes), user_id=user, user_name=user.title(), **login)
    one.insert(NOW - timedelta(minutes=17), action="password.changed", user_id="cleo")
    events = one.delivered()
    one.insert(NOW - timedelta(minutes=16), user_id="cleo", user_name="Cleo", **login)  # late
    one.insert(NOW - timedelta(minutes=16), user_id="bob", user_name="Bob", **login)
    assert [(event.event["userId"], event.event["message"]) for event in events] == [
        ("ann", "SignUp"),
        ("old", "Login"),
        ("ann", "Login"),
        ("bob", "SignUp"),
    ]
    assert events[0].event == {
        "message": "SignUp",
        "application": "Portal",
        "clientIP": "198.51.100.2",
        "protocol": "oidc",
        "userName": "Ann",
        "userId": "ann",
    }
    assert {(event.source, event.sourcetype) for event in events} == {("auth0", "auth0_activity")}
    assert {request.authorization for request in one.hec.requests()} == {scheme}


def test_auth0_says_the_same_when_events_are_sent_again(tmp_path: Path, collector: tuple[Hec, Path]) -> None:
    """A replay repeats every word, with the numbers by which doubles are told."""
    one = system("auth0-hec", tmp_path, collector)
    for minutes, user in ((20, "ann"), (20, "ann"), (20, "bob")):
        one.insert(NOW - timedelta(minutes=minutes), action="login", user_id=user)
    first = list(one.delivered())
    one.insert(NOW - timedelta(minutes=25), action="login", user_id="ann")  # becomes visible late
    assert one("replay", "--export", "acme", "--seq", "1") == 0, one.answer.output
    again = one.hec.events(one.index)[len(first) :]
    assert [event.event for event in again[: len(first)]] == [event.event for event in first]
    assert [event.fields["event_id"] for event in again[: len(first)]] == ["1", "2", "3"]
    assert {event.fields["sequence"] for event in first}.isdisjoint(
        event.fields["sequence"] for event in again
    )


def test_sentry_sends_error_events_with_their_tags(tmp_path: Path, collector: tuple[Hec, Path]) -> None:
    """Into the index and with the source that it was given, verifying TLS."""
    one = system("sentry", tmp_path, collector)
    tags = [["browser", "Firefox 140"], ["level", "error"]]
    moment = NOW - timedelta(minutes=10)
    one.insert(
        moment,
        issue="77",
        project="web",
        tags=json.dumps(tags),
        exception_type="ValueError",
        exception_value="no such thing",
        description="no such thing",
        user_id="9",
        release="web@1.2",
    )
    (event,) = one.delivered()
    sent = event.event
    assert sent["tags"] == tags
    assert (sent["type"], sent["project_id"], sent["issue_id"]) == ("error", "web", "77")
    assert (sent["exception_type"], sent["exception_value"]) == ("ValueError", "no such thing")
    assert (sent["transaction"], sent["environment"], sent["release"]) == ("", "", "web@1.2")
    assert (event.index, event.source) == ("main", "sentry")
    assert epoch(event) == moment.timestamp() + 0.25


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_redirect_is_refused_and_nothing_is_lost_by_it(
    tmp_path: Path, collector: tuple[Hec, Path], name: str
) -> None:
    """The address is wrong, and says so; with the right one, everything comes."""
    one = system(name, tmp_path, collector)
    one.insert_any()
    one.hec.script = lambda _request: redirect("https://elsewhere.example/services/collector")
    assert one("run") == 10
    assert one.hec.events(one.index) == []
    one.hec.script = lambda _request: None
    assert one("run", "--export", "acme") == 0
    assert len(one.hec.events(one.index)) == 1


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_certificate_that_nobody_vouches_for_gets_no_token(
    tmp_path: Path, collector: tuple[Hec, Path], name: str
) -> None:
    """There is no switch to look away."""
    one = system(name, tmp_path, collector)
    del one.destination["ca_file"]
    one.insert_any()
    assert one("run") == 10
    assert one.hec.seen == []


@pytest.mark.parametrize("name", SYSTEMS)
def test_check_sends_one_real_event_and_run_then_delivers(
    tmp_path: Path, collector: tuple[Hec, Path], name: str
) -> None:
    """It proves token and index."""
    one = system(name, tmp_path, collector)
    assert one("check") == 0, one.answer.output
    assert len(one.hec.events(one.index)) == 1
    for token in list(one.hec.tokens):
        del one.hec.tokens[token]
    assert one("check") == 10
    assert "token" in one.answer.output
