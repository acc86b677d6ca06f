"""`check` of a Splunk collector: what a real event proves, and what is said when it does not arrive."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from exporter.destinations.splunk_hec.destination import SplunkHecDestination
from exporter.model import Finding, Level
from exporter.network.guard import Guard
from tests.kit.hec_events import TEXTS
from tests.kit.hec_sending import LOOPBACK, Sending, sending
from tests.kit.hec_server import LOGIN_PAGE, redirect, says
from tests.kit.servers import new_certificate
from tests.kit.sockets import closed_port

if TYPE_CHECKING:
    from pathlib import Path


def finding(to: Sending, **changes: Any) -> Finding:  # noqa: ANN401 - whatever a test sets
    """The one thing that there is to say; it never shows the token."""
    [found] = to.destination(**changes).check()
    assert to.token not in f"{found!r}"
    assert found.subject.startswith("hec:http")
    assert found.level is Level.OK or found.hint
    return found


def test_a_real_event_arrives_where_the_records_will(to: Sending) -> None:
    to.token = to.hec.new_token("audit", "other")
    texts = {"index": "audit", "source": "vendor", "sourcetype": "vendor:audit", "host": "web"}
    found = finding(to, **texts, fields={"team": "red", "floor": 3})
    assert found.level is Level.OK
    [event] = to.hec.events("audit")
    assert (event.source, event.sourcetype, event.host) == ("vendor", "vendor:audit", "web")
    assert event.dated
    assert abs(float(event.time) - time.time()) < 60
    assert event.fields == {"event_id": event.fields["event_id"], "team": "red", "floor": 3}
    assert f"event_id={event.fields['event_id']}" in found.message
    assert "audit-exporter" in event.event
    assert "index audit" in found.message


def test_what_is_not_configured_is_left_to_the_token(to: Sending) -> None:
    assert "default index" in finding(to).message
    [event] = to.hec.events("main")
    assert json.loads(event.sent).keys() == {"time", "event", "fields"}


def test_each_check_has_an_event_of_its_own(to: Sending) -> None:
    assert finding(to).message != finding(to).message


def test_a_healthy_collector_proves_nothing(to: Sending) -> None:
    """Its health page says that all is well, whatever the token."""
    good, to.token = to.token, "00000000-0000-4000-8000-000000000000"
    found = finding(to)
    assert found.level is Level.ERROR
    assert "Invalid token" in found.message
    assert to.hec.requests("health") == []
    to.token = good
    assert finding(to).level is Level.OK


def test_an_index_that_the_token_may_not_write_to_is_found(to: Sending) -> None:
    to.token = to.hec.new_token("other", default_index="other")
    found = finding(to, index="audit")
    assert found.level is Level.ERROR
    assert "Incorrect index" in found.message
    assert "index" in found.hint


@pytest.mark.parametrize("code", sorted(set(TEXTS) - {0, 24, 25}))
def test_every_code_has_its_cause_and_what_to_do(to: Sending, code: int) -> None:
    to.hec.script = lambda _request: says(code)
    found = finding(to)
    assert found.level is Level.ERROR
    assert TEXTS[code][1] in found.message
    assert not found.message.startswith("http")
    assert len(to.hec.events()) == 0


@pytest.mark.parametrize("code", [24, 25])
def test_a_queue_that_fills_takes_events(to: Sending, code: int) -> None:
    to.hec.play(says(code, forward=True))
    assert finding(to).level is Level.OK
    assert len(to.hec.requests()) == 1


@pytest.mark.parametrize("fault", [LOGIN_PAGE, redirect("https://login.example.com/")], ids=["page", "way"])
def test_a_login_page_is_no_collector(to: Sending, fault: Any) -> None:  # noqa: ANN401 - of the kit
    to.hec.script = lambda _request: fault
    assert finding(to).level is Level.ERROR


def test_nobody_listens(to: Sending) -> None:
    port = closed_port()
    found = finding(to, url=f"http://127.0.0.1:{port}")
    assert found.level is Level.ERROR
    assert f"{port}" in found.message


def test_an_authority_that_nobody_trusts_is_named(tmp_path: Path) -> None:
    _, context = new_certificate(tmp_path)
    with sending(tmp_path, context) as to:
        found = finding(to)
        assert found.level is Level.ERROR
        assert "certificate" in f"{found.message} {found.hint}"
        assert "ca_file" in f"{found.hint} {found.fix}"
        assert to.hec.events() == []


def test_an_acknowledged_event_is_at_an_indexer(acking: Sending) -> None:
    found = finding(acking, acknowledge=True)
    assert found.level is Level.OK
    assert "acknowledged" in found.message
    assert len(acking.hec.requests("ack")) == 1


def test_an_acknowledgement_is_not_awaited_for_long(acking: Sending) -> None:
    acking.hec.holding = True
    found = finding(acking, acknowledge=True)
    assert found.level is Level.ERROR
    assert "did not acknowledge" in found.message
    assert 30 <= acking.time.slept_s <= 60


def test_a_token_and_a_setting_that_disagree_about_acknowledgement_are_found(
    to: Sending, acking: Sending
) -> None:
    for sending_to, acknowledge in ((to, True), (acking, False)):
        found = finding(sending_to, acknowledge=acknowledge)
        assert found.level is Level.ERROR
        assert f"acknowledge: {str(not acknowledge).lower()}" in found.hint


def test_what_a_format_says_of_all_events_is_in_the_event_of_a_check(to: Sending) -> None:
    """The index above all: the token may write to one and not to the other."""
    to.token = to.hec.new_token("other", default_index="other")
    settings = to.settings().as_delivered({"index": "secure", "time": 1, "host": None}, frozenset())
    [found] = SplunkHecDestination(settings, Guard(LOOPBACK)).check()
    assert found.level is Level.ERROR
    assert "Incorrect index" in found.message
    assert to.settings().as_delivered({"index": "other"}, frozenset()) == to.settings(index="other")


def test_an_index_of_each_record_is_said_to_be_unproved(to: Sending) -> None:
    settings = to.settings().as_delivered({}, frozenset({"index", "time"}))
    [found] = SplunkHecDestination(settings, Guard(LOOPBACK)).check()
    assert found.level is Level.OK
    assert "not proved" in found.message
    assert settings != to.settings()
    assert settings.batch_bytes == to.settings().batch_bytes


def test_a_format_that_says_nothing_changes_no_settings(to: Sending) -> None:
    assert to.settings().as_delivered({"time": None}, frozenset({"time", "event"})) == to.settings()


def test_the_hint_of_a_way_that_ends_early_leads_to_check_and_not_from_it(to: Sending) -> None:
    url = f"http://127.0.0.1:{closed_port()}"
    assert (
        "audit-exporter check --export NAME"
        in to.failure([{"fields": {"event_id": "1"}, "time": 1}], url=url).hint
    )
    assert "audit-exporter check" not in finding(to, url=url).hint
