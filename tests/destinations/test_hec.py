"""The HEC destination: what it sends, where and how, and how deliveries end."""

from __future__ import annotations

import gzip
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Event as Signal
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.destinations.splunk_hec.destination import SplunkHecDestination
from exporter.destinations.splunk_hec.settings import SplunkHecSettings
from exporter.errors import ConfigError, Conflict, Interrupted, NotSent
from exporter.network.guard import Guard
from tests.kit.archives import file_of
from tests.kit.hec_events import KEYS
from tests.kit.hec_http import Closing
from tests.kit.hec_sending import Records, Sending, event, line_of, package_of, poison, sending
from tests.kit.hec_server import LOGIN_PAGE, says
from tests.kit.processes import wait_until
from tests.kit.proxy import LOSE_ANSWER
from tests.kit.servers import new_certificate
from tests.kit.sockets import server_context

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from exporter.model import Batch
    from tests.kit.proxy import Fault

TWO = [event(0), event(1)]


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[Sending]:
    """Over TLS, with a private authority."""
    ca_file, context = new_certificate(tmp_path)
    with sending(tmp_path, context, ca_file) as running:
        yield running


# --- What is sent ---------------------------------------------------------------------------------


def test_batches_go_out_in_order_one_request_each_as_they_are_in_the_file(to: Sending) -> None:
    batches = [[event(0), event(1)], [event(2)], [event(3), event(4), event(5)]]
    receipt = to.deliver(*batches)
    assert to.posts() == [[0, 1], [2], [3, 4, 5]]
    assert [request.body for request in to.hec.requests()] == [
        b"".join(map(line_of, batch)) for batch in batches
    ]
    assert [batch.count for batch in to.journal.batches] == [2, 1, 3]
    assert receipt.location.startswith("hec:")


def test_the_journal_hears_of_a_batch_before_the_next_is_sent(to: Sending) -> None:
    sent: list[int] = []
    to.journal.at = lambda _batch: sent.append(len(to.hec.seen))
    to.deliver([event(0)], [event(1)], [event(2)])
    assert sent == [1, 2, 3]


def test_what_was_accepted_before_is_not_sent_again(to: Sending) -> None:
    package = package_of(to.folder, [event(0)], [event(1)], [event(2)], skipped=2)
    to.destination().deliver(package, to.journal)
    assert to.posts() == [[2]]
    assert to.journal.batches == list(package.batches)


def test_a_package_without_batches_is_no_request(to: Sending) -> None:
    to.destination().deliver(replace(package_of(to.folder, TWO), batches=()), to.journal)
    assert to.hec.seen == []


def test_progress_is_told_for_all_bytes(to: Sending) -> None:
    to.deliver(TWO, [event(2)])
    assert to.journal.bytes_told == sum(len(line_of(one)) for one in [*TWO, event(2)])


@pytest.mark.parametrize("packed", [True, False])
def test_gzip_is_what_the_settings_say(to: Sending, *, packed: bool) -> None:
    to.deliver([event(0, "a" * 10_000)], gzip=packed)
    [request] = to.hec.seen
    assert request.headers.get("content-encoding") == ("gzip" if packed else None)
    assert (request.wire_bytes < len(request.body) / 10) is packed
    assert to.indexed() == [0]


@pytest.mark.parametrize(("auth", "scheme"), [("header", "Splunk"), ("basic", "Basic")])
def test_the_token_goes_as_header_or_as_password_and_never_in_the_address(
    to: Sending, auth: str, scheme: str
) -> None:
    to.deliver(TWO, auth=auth)
    [request] = to.hec.seen
    assert request.authorization == scheme
    assert request.token is to.hec.tokens[to.token]
    assert to.token not in request.path
    assert to.token not in repr(request.headers)
    assert to.token.encode() not in request.body


def test_a_netrc_has_no_say_in_who_sends(to: Sending, monkeypatch: pytest.MonkeyPatch) -> None:
    file = to.folder / "netrc"
    file.write_text("machine 127.0.0.1 login somebody password else\n")
    file.chmod(0o600)
    monkeypatch.setenv("NETRC", str(file))
    to.deliver(TWO)
    assert to.hec.seen[0].authorization == "Splunk"


def test_a_token_that_was_rotated_is_used_at_once(to: Sending) -> None:
    """Within one delivery: the file is read anew for each request."""
    file = to.folder / "token"
    file.write_text(to.token + "\n")

    def rotate(_batch: Batch) -> None:
        del to.hec.tokens[to.token]
        to.token = to.hec.new_token()
        file.write_text(to.token)

    to.journal.at = rotate
    to.deliver([event(0)], [event(1)], [event(2)], token={"file": str(file)})
    assert to.indexed() == [0, 1, 2]


@pytest.mark.parametrize("token", ["", "two\nlines", "caf\u00e9", "a b", "a\r\nHost: b"])
def test_what_no_header_can_carry_is_no_token(to: Sending, token: str) -> None:
    file = to.folder / "token"
    file.write_text(token)
    with pytest.raises(NotSent) as caught:
        to.deliver(TWO, token={"file": str(file)})
    assert "token" in caught.value.message
    assert not token or token not in caught.value.message + caught.value.hint
    assert to.hec.seen == []


def test_a_token_that_is_gone_sends_nothing(to: Sending) -> None:
    error = to.failure(TWO, token={"file": str(to.folder / "gone")})
    assert type(error) is NotSent
    assert to.hec.seen == []


def test_the_envelope_has_no_key_that_splunk_does_not_know() -> None:
    """One more, and Splunk would lose events under a success (see the kit)."""
    settings = SplunkHecSettings.model_validate(
        {"type": "splunk_hec", "url": "splunk.example.com", "token": "t"}
    )
    assert set(settings.envelope()) == KEYS


def test_cookies_of_a_load_balancer_are_not_carried_over_without_acks(tmp_path: Path) -> None:
    with sending(tmp_path, indexers=2) as to:
        to.deliver(*([event(number)] for number in range(4)))
        assert {request.indexer for request in to.hec.seen} == {0, 1}
        assert not any("cookie" in request.headers for request in to.hec.seen)


@pytest.mark.parametrize("change", ["zips_answers", "chunks_answers"])
def test_an_answer_may_be_changed_on_its_way(to: Sending, change: str) -> None:
    setattr(to.hec, change, True)
    to.deliver([event(0), poison(1), event(2)])
    assert to.indexed() == [0, 2]
    assert to.journal.refused_ids == ["event-1"]


def test_no_request_says_that_it_expects_anything_or_keeps_cookies_of_others(to: Sending) -> None:
    to.deliver([event(0)], [event(1)])
    for request in to.hec.seen:
        assert "expect" not in request.headers
        assert request.headers["content-length"] == str(request.wire_bytes)
        assert request.method == "POST"


JSON_VALUES = st.recursive(
    st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
EVENTS = st.dictionaries(st.text(), JSON_VALUES | st.none(), min_size=1, max_size=4) | st.text().filter(
    str.strip
)
LINE_ENDS = "\u2028\u2029\x85\x0b\x0c\x1c\x1d\x1e\r\n\t\0\x7f\ufeff\U0001f600"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sending]:
    with sending(tmp_path_factory.mktemp("hec")) as running:
        yield running


@settings(max_examples=40)
@given(st.lists(st.lists(EVENTS, min_size=1, max_size=4), min_size=1, max_size=3), st.booleans())
def test_events_carry_exactly_what_was_sent(shared: Sending, batches: list[list[Any]], packed: bool) -> None:  # noqa: FBT001 - hypothesis's
    shared.hec.seen.clear()
    before = len(shared.hec.events())
    numbers = iter(range(1000))
    sent = [[event(next(numbers), one) for one in batch] for batch in batches]
    package = package_of(shared.folder, *sent)
    shared.destination(gzip=packed).deliver(package, Records())
    assert b"".join(request.body for request in shared.hec.seen) == file_of(package).read_bytes()
    assert [one.event for one in shared.hec.events()[before:]] == [one for batch in batches for one in batch]
    file_of(package).unlink()


def test_characters_that_some_take_for_line_ends_stay_where_they_are(to: Sending) -> None:
    """Also when the batch is cut, where lines have to be found."""
    value = {"text": f"a{LINE_ENDS}b"}
    to.deliver([event(0, value), poison(1), event(2, value), poison(3), event(4, value)])
    assert [one.event for one in to.hec.events()] == [value] * 3
    assert to.journal.refused_ids == ["event-1", "event-3"]


# --- Addresses, TLS -------------------------------------------------------------------------------

SPELLINGS = [
    "{host}",
    "https://{host}",
    "https://{host}/",
    "{host}/services/collector",
    "https://{host}/services/collector",
    "https://{host}/services/collector/",
    "https://{host}/services/collector/event",
    "{host}/services/collector/event",
    "https://{host}/services/collector/event/1.0",
    "https://{host}/services/collector/event/1.0/",
    "HTTPS://{host}/services/collector",
]


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "LOCALHOST"])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_the_address_may_be_written_in_any_way(secure: Sending, spelling: str, name: str) -> None:
    host = f"{name}:{secure.hec.url.rpartition(':')[2]}"
    destination = secure.destination(url=spelling.format(host=host))
    destination.deliver(package_of(secure.folder, TWO), secure.journal)
    assert secure.indexed() == [0, 1]
    assert secure.hec.seen[0].query == {}
    assert destination.store == f"hec:https://{host.lower()}"


def test_http_is_for_hosts_that_the_operator_allows(to: Sending) -> None:
    with pytest.raises(ConfigError, match="https"):
        to.settings(url="http://splunk.example.com:8088").open(Guard())
    to.deliver(TWO)  # loopback is allowed here
    assert to.hec.url.startswith("http://")


def test_no_address_inside_unless_the_operator_allows_it(secure: Sending) -> None:
    with pytest.raises(ConfigError, match="must not be used"):
        secure.settings().open(Guard())
    error = secure.failure(TWO, allow=(), url=secure.hec.url.replace("127.0.0.1", "localhost"))
    assert type(error) is NotSent
    assert secure.hec.seen == []


def test_a_private_authority_is_trusted_by_its_file(secure: Sending) -> None:
    secure.deliver(TWO)
    assert secure.indexed() == [0, 1]


def test_an_unknown_authority_is_not_trusted_and_gets_nothing(secure: Sending) -> None:
    error = secure.failure(TWO, ca_file=None)
    assert type(error) is NotSent
    assert "certificate" in error.message.lower()
    assert secure.hec.seen == []


@pytest.mark.parametrize(
    "wrong", [{"valid_days": (-3, -1)}, {"names": ("splunk.example.com",)}], ids=["expired", "another name"]
)
def test_a_wrong_certificate_gets_nothing(tmp_path: Path, wrong: dict[str, Any]) -> None:
    ca_file, context = server_context(tmp_path, **wrong)
    with sending(tmp_path, context, ca_file) as to:
        error = to.failure(TWO)
        assert type(error) is NotSent
        assert to.hec.seen == []


# --- Ends of a delivery ---------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [LOSE_ANSWER, says(7), LOGIN_PAGE], ids=["lost", "refused", "login page"])
def test_a_failure_takes_nothing_back_of_what_was_accepted(to: Sending, fault: Fault) -> None:
    to.hec.play(None, None, *[fault] * 50)
    to.failure([event(0)], [event(1)], [event(2)], [event(3)])
    assert len(to.journal.batches) == 2


@pytest.mark.parametrize(
    "end", [Interrupted("SIGTERM"), Conflict("somebody else")], ids=["SIGTERM", "conflict"]
)
def test_the_journal_can_end_a_delivery_between_two_batches(to: Sending, end: Exception) -> None:
    def stop(_batch: Batch) -> None:
        if len(to.hec.seen) == 2:
            raise end

    to.journal.at = stop
    with pytest.raises(type(end)) as caught:
        to.deliver([event(0)], [event(1)], [event(2)])
    assert caught.value is end
    assert to.posts() == [[0], [1]]


def test_a_file_that_is_gone_sent_nothing(to: Sending) -> None:
    package = package_of(to.folder, TWO)
    file_of(package).unlink()
    with pytest.raises(NotSent):
        to.destination().deliver(package, to.journal)
    assert to.hec.seen == []


def test_a_connection_that_the_server_closed_meanwhile_is_no_harm(to: Sending) -> None:
    """Splunk closes idle connections without a word; that is no reason to send a batch twice, or to fail."""
    to.hec.script = lambda _request: Closing()
    to.journal.at = lambda _batch: wait_until("the connections end", lambda: to.hec.connections == 0)
    to.deliver(*([event(number)] for number in range(20)))
    assert to.indexed() == list(range(20))


def test_one_destination_serves_many_exports_at_once(to: Sending) -> None:
    destination = to.destination()
    journals = [Records() for _ in range(8)]
    packages = [
        package_of(to.folder, *([event(100 * export + number)] for number in range(10)))
        for export in range(8)
    ]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(destination.deliver, packages, journals))
    assert sorted(to.indexed()) == sorted(
        100 * export + number for export in range(8) for number in range(10)
    )
    for package, journal in zip(packages, journals, strict=True):
        assert journal.batches == list(package.batches)


def test_a_collector_that_slows_down_holds_up_nobody_else(to: Sending, tmp_path: Path) -> None:
    """Whoever waits for one of them holds nothing that others need."""
    waiting, over = Signal(), Signal()

    def wait(_seconds: float, _ends: Callable[[], bool]) -> None:
        waiting.set()
        over.wait(30)

    slow = SplunkHecDestination(to.settings(), Guard(["127.0.0.1"]), sleep=wait)
    to.hec.play(says(24, forward=True))
    package, journal = package_of(tmp_path, [event(0)], [event(1)]), Records()
    with ThreadPoolExecutor(1) as thread:
        delivery = thread.submit(slow.deliver, package, journal)
        try:
            assert waiting.wait(30)
            to.deliver([event(2)], [event(3)])
            assert not delivery.done()
        finally:
            over.set()
        delivery.result(30)
    assert to.indexed() == [0, 2, 3, 1]


def test_the_file_may_be_compressible_beyond_measure(to: Sending) -> None:
    """One event of a megabyte goes out in kilobytes, and comes in whole."""
    value = "\u00e4" * 500_000
    to.deliver([event(0, value)])
    assert to.hec.events()[0].event == value
    assert to.hec.seen[0].wire_bytes < 10_000
    assert len(gzip.compress(b"")) < to.hec.seen[0].wire_bytes
