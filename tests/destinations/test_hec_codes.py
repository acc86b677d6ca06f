"""What the HEC destination makes of every code, every status, and every answer that is none of Splunk's."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise

import pytest

from exporter.errors import OutcomeUnknown, Refused
from tests.kit.hec_events import TEXTS
from tests.kit.hec_http import Endless, html
from tests.kit.hec_sending import Sending, event, poison
from tests.kit.hec_server import LOGIN_PAGE, answers, redirect, says
from tests.kit.proxy import Answer, Fault

TWO = [event(0), event(1)]
LONGEST_WAIT_S = 900  # for one batch that nobody takes


def named(code: int) -> str:
    return f"{code}-{TEXTS[code][1]}"


# --- The codes ------------------------------------------------------------------------------------


def test_0_success_is_one_request(to: Sending) -> None:
    to.deliver(TWO)
    assert to.posts() == [[0, 1]]
    assert to.indexed() == [0, 1]
    assert [batch.count for batch in to.journal.batches] == [2]
    assert to.time.slept == []


CONFIGURATION = {
    1: "enable",
    2: "auth",
    3: "auth",
    4: "token",
    5: "",
    7: "index",
    10: "acknowledge",
    11: "acknowledge",
    14: "acknowledge",
    16: "token",
    17: "",
    21: "token",
    22: "enable",
}


@pytest.mark.parametrize("code", CONFIGURATION, ids=named)
def test_what_somebody_has_to_change_stops_at_once_and_says_so(to: Sending, code: int) -> None:
    """A health code in answer to events is no success either."""
    to.hec.play(*[says(code)] * 50)
    error = to.failure(TWO, TWO)
    assert type(error) is (OutcomeUnknown if code == 17 else Refused)
    assert CONFIGURATION[code] in error.hint
    if code != 17:
        assert TEXTS[code][1].lower() in error.message.lower()
    assert len(to.hec.seen) == (2 if code == 7 else 1)  # the first event may be in another index
    assert to.journal.batches == []
    assert to.journal.refused == []


TRANSIENT = [8, 9, 18, 19, 20, 23, 26, 27]


@pytest.mark.parametrize("code", TRANSIENT, ids=named)
def test_what_passes_is_tried_again_after_a_pause(to: Sending, code: int) -> None:
    to.hec.play(says(code), says(code))
    to.deliver(TWO)
    assert to.posts() == [[0, 1]] * 3
    assert to.indexed() == [0, 1]
    assert to.time.slept_s > 0


@pytest.mark.parametrize("code", TRANSIENT, ids=named)
def test_what_does_not_pass_is_left_to_a_later_run(to: Sending, code: int) -> None:
    to.hec.script = lambda _request: says(code)
    error = to.failure(TWO, TWO)
    assert type(error) is OutcomeUnknown
    assert TEXTS[code][1].lower() in error.message.lower()
    assert 2 <= len(to.hec.seen) <= 20
    assert 0 < to.time.slept_s <= LONGEST_WAIT_S
    assert to.journal.batches == []
    assert to.journal.refused == []


@pytest.mark.parametrize("code", [24, 25], ids=named)
def test_nearly_full_means_accepted_and_is_never_sent_again(to: Sending, code: int) -> None:
    to.hec.play(*[says(code, forward=True)] * 2)
    to.deliver([event(0)], [event(1)], [event(2)])
    assert to.posts() == [[0], [1], [2]]
    assert to.indexed() == [0, 1, 2]
    assert [batch.count for batch in to.journal.batches] == [1, 1, 1]


@pytest.mark.parametrize("code", [24, 25], ids=named)
def test_nearly_full_slows_down_more_and_more_and_then_less(to: Sending, code: int) -> None:
    """The next batch waits, longer each time, but not for ever; when all is well again, waits shrink."""
    to.hec.play(*[says(code, forward=True)] * 40)
    waits: list[float] = []
    to.journal.at = lambda _batch: waits.append(to.time.now_s)
    to.deliver(*([event(number)] for number in range(100)))
    pauses = [later - earlier for earlier, later in pairwise(waits)]
    assert 0 < pauses[0] < pauses[1] < pauses[2]
    assert max(pauses) <= 60
    assert pauses[-1] < max(pauses) / 2


@pytest.mark.parametrize("code", [6, 12, 13, 15], ids=named)
def test_a_bad_event_lies_in_quarantine_as_it_was_with_splunks_words(to: Sending, code: int) -> None:
    bad = poison(1, code)
    to.deliver([event(0), bad, event(2)])
    assert to.posts() == [[0, 1, 2], [2]]
    assert to.indexed() == [0, 2]
    [record] = to.journal.refused
    assert to.journal.refused_ids == ["event-1"]
    assert json.loads(record.body) == bad
    assert record.length == len(record.body)
    assert TEXTS[code][1] in record.reason
    assert str(code) in record.reason


def test_every_code_has_a_test() -> None:
    tested = {0, 24, 25, 6, 12, 13, 15, *CONFIGURATION, *TRANSIENT}
    assert tested == set(TEXTS) == set(range(28))


# --- Retry-After ----------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [9, 26], ids=named)
def test_retry_after_is_waited_for(to: Sending, code: int) -> None:
    to.hec.play(says(code, retry_after="17"))
    to.deliver(TWO)
    assert 17 <= to.time.slept_s < 60
    assert to.indexed() == [0, 1]


def test_retry_after_may_be_a_moment_by_the_server_s_own_clock(to: Sending) -> None:
    """The server's answers are dated: what its clock says now is known."""
    moment = datetime.now(UTC) + timedelta(seconds=20)
    to.hec.play(says(26, retry_after=format_datetime(moment, usegmt=True)))
    to.deliver(TWO)
    assert 10 <= to.time.slept_s <= 21
    assert to.indexed() == [0, 1]


@pytest.mark.parametrize("retry_after", ["86400", "999999999999999999999", "1e9"])
def test_nobody_is_waited_for_as_long_as_they_like(to: Sending, retry_after: str) -> None:
    to.hec.script = lambda _request: says(26, retry_after=retry_after)
    assert type(to.failure(TWO)) is OutcomeUnknown
    assert to.time.slept_s <= LONGEST_WAIT_S


@pytest.mark.parametrize(
    "retry_after",
    ["", "soon", "-5", "nan", "inf", "Wed, 21 Oct 2015 07:28:00 GMT", "Wed, 21 Oct 2999 07:28:00 GMT", "٣"],
)
def test_an_odd_retry_after_is_no_harm(to: Sending, retry_after: str) -> None:
    text = retry_after.encode().decode("latin-1")
    to.hec.play(says(26, retry_after=text))
    try:
        to.deliver(TWO)
    except OutcomeUnknown:  # it may ask for more than there is time for
        assert "2999" in retry_after
    else:
        assert to.indexed() == [0, 1]
    assert to.time.slept_s <= LONGEST_WAIT_S


# --- Statuses without a code ------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_nobody_is_followed_elsewhere(to: Sending, status: int) -> None:
    to.hec.play(redirect(f"{to.hec.url}/services/collector/event", status))
    error = to.failure(TWO)
    assert type(error) is Refused
    assert "url" in error.hint
    assert len(to.hec.seen) == 1
    assert to.indexed() == []


@pytest.mark.parametrize("status", [401, 403, 404, 405, 407, 410, 418])
def test_a_stranger_s_refusal_stops(to: Sending, status: int) -> None:
    to.hec.play(Fault(forward=False, answer=html(status, "no")))
    error = to.failure(TWO)
    assert type(error) is Refused
    assert error.hint
    assert str(status) in error.message
    assert len(to.hec.seen) == 1


@pytest.mark.parametrize("status", [408, 500, 502, 504, 520])
def test_a_gateway_that_fails_leaves_it_open(to: Sending, status: int) -> None:
    to.hec.script = lambda _request: Fault(forward=False, answer=html(status, "no"))
    error = to.failure(TWO)
    assert type(error) is OutcomeUnknown
    assert str(status) in error.message
    assert len(to.hec.seen) <= 20
    assert to.journal.batches == []


@pytest.mark.parametrize("status", [429, 503])
def test_a_gateway_that_is_busy_is_asked_again(to: Sending, status: int) -> None:
    to.hec.play(Fault(forward=False, answer=html(status, "busy")))
    to.deliver(TWO)
    assert to.posts() == [[0, 1]] * 2
    assert to.time.slept_s > 0


def test_415_asks_for_no_gzip(to: Sending) -> None:
    to.hec.play(Fault(forward=False, answer=html(415, "no")))
    error = to.failure(TWO)
    assert type(error) is Refused
    assert "gzip" in error.hint


# --- Answers that are no success ------------------------------------------------------------------

NO_SUCCESS = {
    "login page": LOGIN_PAGE,
    "empty": answers(200),
    "no content": Fault(forward=False, answer=Answer(204)),
    "no JSON": answers(200, b"Success"),
    "half of it": answers(200, b'{"text":"Success","code":0'),
    "more than it": answers(200, b'{"text":"Success","code":0}{"code":9}'),
    "null": answers(200, b"null"),
    "a list": answers(200, b'[{"text":"Success","code":0}]'),
    "text": answers(200, b'"Success"'),
    "a number": answers(200, b"0"),
    "an empty object": answers(200, b"{}"),
    "no code": answers(200, b'{"text":"Success"}'),
    "code null": answers(200, b'{"text":"Success","code":null}'),
    "code false": answers(200, b'{"text":"Success","code":false}'),
    "code in text": answers(200, b'{"text":"Success","code":"0"}'),
    "code with a point": answers(200, b'{"text":"Success","code":0.0}'),
    "code in a list": answers(200, b'{"text":"Success","code":[0]}'),
    "code in an object": answers(200, b'{"text":"Success","code":{"code":0}}'),
    "unknown code": answers(200, b'{"text":"Success","code":99}'),
    "negative code": answers(200, b'{"text":"Success","code":-1}'),
    "a failure's code": answers(200, b'{"text":"Server is busy","code":9}'),
    "healthy": answers(200, b'{"text":"HEC is healthy","code":17}'),
    "success under 202": answers(202, b'{"text":"Success","code":0}'),
    "success under 400": answers(400, b'{"text":"Success","code":0}'),
    "success under 403": answers(403, b'{"text":"Success","code":0}'),
    "success under 500": answers(500, b'{"text":"Success","code":0}'),
    "success under 302": answers(302, b'{"text":"Success","code":0}'),
    "deep": answers(200, b"[" * 200_000),
    "deep within": answers(200, b'{"code":0,"text":' + b"[" * 200_000),
    "a long number": answers(200, b'{"text":"Success","code":' + b"9" * 10_000 + b"}"),
    "no UTF-8": answers(200, b'\xff\xfe{"text":"Success","code":0}'),
    "endless": Endless(forward=False, answer=html(200, "more")),
    "endless spaces": Endless(forward=False, answer=Answer(200)),
    "nearly full under 429": answers(429, b'{"text":"Queue is approaching capacity","code":24}'),
    "odd status": answers(299, b"{}"),
    "unknown code of a refusal": answers(400, b'{"text":"new","code":28}'),
    "code 6 under 200": answers(200, b'{"text":"Invalid data format","code":6,"invalid-event-number":0}'),
}


@pytest.mark.parametrize("name", NO_SUCCESS)
def test_only_splunk_s_own_word_is_success(to: Sending, name: str) -> None:
    """And whatever it is instead, no event is given up for it."""
    to.hec.script = lambda _request: NO_SUCCESS[name]
    error = to.failure(TWO, [event(2)])
    assert type(error) in (Refused, OutcomeUnknown)
    assert error.hint
    assert len(error.message) < 1000
    assert "\n" not in error.message
    assert to.journal.batches == []
    assert to.journal.refused == []
    assert to.posts()[-1] == [0, 1]


def test_an_answer_that_repeats_the_token_does_not_get_it_into_a_message(to: Sending) -> None:
    body = json.dumps({"text": f"Invalid token {to.token}", "code": 4}).encode()
    to.hec.play(answers(403, body))
    assert "Invalid token" in to.failure(TWO).message  # `failure` looks for the token


def test_what_a_server_writes_stays_on_one_short_line(to: Sending) -> None:
    body = json.dumps({"text": "no\r\n\x1b[2J" + "x" * 100_000, "code": 4}).encode()
    to.hec.play(answers(403, body))
    message = to.failure(TWO).message
    assert message.isprintable()
    assert len(message) < 1000


def test_a_bad_event_s_reason_is_short_and_printable_too(to: Sending) -> None:
    body = json.dumps(
        {"text": f"no\n\x1b[2J {to.token}" + "x" * 100_000, "code": 6, "invalid-event-number": 1}
    )
    to.hec.play(answers(400, body.encode()))
    to.deliver(TWO)
    [record] = to.journal.refused
    assert record.reason.isprintable()
    assert len(record.reason) < 1000
    assert to.token not in record.reason
