"""The Splunk of the tests answers as the measured one does (`facts/splunk-hec.md`)."""

from __future__ import annotations

import base64
import gzip
import json
import socket
import zlib
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
import requests

from tests.kit.hec_events import TEXTS
from tests.kit.hec_http import Closing, Early, Endless, html
from tests.kit.hec_server import BAD_GATEWAY, LOGIN_PAGE, Hec, hec_server, redirect, says
from tests.kit.proxy import CUT_BEFORE_BODY, LOSE_ANSWER, LOSE_REQUEST

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.kit.proxy import Fault

PATHS = ["/services/collector", "/services/collector/event", "/services/collector/event/1.0"]
CHANNEL = "0aeeac95-ac74-4aa9-b30d-6c4c0ac581ba"


@pytest.fixture
def hec() -> Iterator[Hec]:
    with hec_server() as running:
        yield running


@pytest.fixture
def token(hec: Hec) -> str:
    return hec.new_token()


def post(
    hec: Hec,
    token: str | None,
    body: bytes | str,
    *,
    path: str = "/services/collector",
    **headers: str,
) -> requests.Response:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    if token is not None:
        given["Authorization"] = f"Splunk {token}"
    return requests.post(f"{hec.url}{path}", body, headers=given, timeout=10, allow_redirects=False)


def said(response: requests.Response) -> tuple[int, int, int | None]:
    """Status, code, and the number of the event."""
    answer = response.json()
    assert answer["text"] == TEXTS[answer["code"]][1]
    return response.status_code, answer["code"], answer.get("invalid-event-number")


def lines(*objects: Mapping[str, Any]) -> bytes:
    return b"".join(json.dumps(one).encode() + b"\n" for one in objects)


def indexed(hec: Hec, index: str = "main") -> list[Any]:
    return [event.event for event in hec.events(index)]


@pytest.mark.parametrize("path", PATHS)
def test_events_are_indexed_in_order_with_all_that_was_said_of_them(hec: Hec, token: str, path: str) -> None:
    whole = {
        "time": 1_700_000_000.123456,
        "host": "h",
        "source": "s",
        "sourcetype": "t",
        "index": "audit",
        "event": {"a": [1]},
        "fields": {"event_id": "1", "n": 2},
    }
    assert said(post(hec, token, lines(whole, {"event": "second", "index": "audit"}), path=path)) == (
        200,
        0,
        None,
    )
    first, second = hec.events("audit")
    assert (first.time, first.host, first.source, first.sourcetype) == (
        Decimal("1700000000.123456"),
        "h",
        "s",
        "t",
    )
    assert first.event == {"a": [1]}
    assert first.fields == {"event_id": "1", "n": 2}
    assert json.loads(first.sent) == whole
    assert (second.host, second.source, second.dated) == (None, None, False)  # nothing carries over


@pytest.mark.parametrize("separator", ["", " ", "\n", "\r\n\r\n"])
def test_objects_stand_one_after_another_whatever_is_between(hec: Hec, token: str, separator: str) -> None:
    assert said(post(hec, token, separator.join(['{"event": 1}', '{"event": 2}'])))[1] == 0
    assert indexed(hec) == [1, 2]


REFUSED_EVENTS = [
    ({}, 12),
    ({"event": None}, 6),
    ({"event": False}, 6),
    ({"event": ""}, 13),
    ({"event": " "}, 13),
    ({"event": 1, "fields": {"a": {"b": 1}}}, 15),
    ({"event": 1, "fields": {"a": [1]}}, 15),
    ({"event": 1, "fields": "a"}, 15),
    ({"event": 1, "time": "yesterday"}, 6),
    ({"event": 1, "host": 1}, 6),
]


@pytest.mark.parametrize(("bad", "code"), REFUSED_EVENTS, ids=str)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_an_event_that_is_refused_ends_the_batch_there(
    hec: Hec, token: str, place: int, bad: dict[str, Any], code: int
) -> None:
    objects: list[Mapping[str, Any]] = [{"event": 0}, {"event": 1}, {"event": 2}]
    objects[place] = bad
    assert said(post(hec, token, lines(*objects))) == (400, code, place)
    assert indexed(hec) == list(range(place))


@pytest.mark.parametrize(
    "rest", ["[1]", "{", "x", ',{"event":2}', '{"event":NaN}', '{"event":"\xff"}', '"text"']
)
def test_what_is_no_object_is_refused_at_its_place(hec: Hec, token: str, rest: str) -> None:
    assert said(post(hec, token, b'{"event":1}\n' + rest.encode("latin-1"))) == (400, 6, 1)
    assert indexed(hec) == [1]


def test_the_number_can_be_missing(hec: Hec, token: str) -> None:
    hec.numbered = False
    assert said(post(hec, token, lines({"event": 1}, {"event": None}))) == (400, 6, None)
    assert indexed(hec) == [1]


def test_an_array_is_no_batch(hec: Hec, token: str) -> None:
    assert said(post(hec, token, '[{"event": 1}]')) == (400, 6, 0)


def test_an_unknown_key_loses_the_rest_and_says_success(hec: Hec, token: str) -> None:
    body = lines({"event": 0}, {"event": 1, "severity": "high"}, {"event": 2})
    assert said(post(hec, token, body)) == (200, 0, None)
    assert indexed(hec) == [0]


def test_a_forbidden_index_has_a_number_one_too_high(hec: Hec) -> None:
    token = hec.new_token("audit")
    body = lines({"event": 0, "index": "audit"}, {"event": 1, "index": "other"})
    assert said(post(hec, token, body)) == (400, 7, 2)
    assert indexed(hec, "audit") == [0]
    assert indexed(hec, "other") == []


def test_an_event_without_time_is_dated_at_its_receipt(hec: Hec, token: str) -> None:
    post(hec, token, lines({"event": 1}, {"event": 2, "time": "1700000000.5"}))
    undated, dated = hec.events()
    assert not undated.dated
    assert (dated.dated, dated.time) == (True, Decimal("1700000000.5"))


@pytest.mark.parametrize(
    ("header", "outcome"),
    [
        ({}, (401, 2)),
        ({"Authorization": "Bearer x"}, (401, 3)),
        ({"Authorization": "Basic %"}, (401, 3)),
        ({"Authorization": "Splunk unknown"}, (403, 4)),
    ],
    ids=str,
)
def test_who_has_no_token_is_not_let_in(hec: Hec, header: dict[str, str], outcome: tuple[int, int]) -> None:
    assert said(post(hec, None, lines({"event": 1}), **header))[:2] == outcome
    assert indexed(hec) == []


def test_a_disabled_token_says_so(hec: Hec) -> None:
    assert said(post(hec, hec.new_token(enabled=False), b"{}")) == (403, 1, None)


def test_a_token_in_the_query_is_no_token(hec: Hec, token: str) -> None:
    path = f"/services/collector?token={token}"
    assert said(post(hec, None, lines({"event": 1}), path=path)) == (400, 16, None)


def test_a_token_may_be_the_password_of_any_user(hec: Hec, token: str) -> None:
    pair = base64.b64encode(f"x:{token}".encode()).decode()
    assert said(post(hec, None, lines({"event": 1}), Authorization=f"Basic {pair}"))[1] == 0


@pytest.mark.parametrize("token", [None, "unknown"])
def test_health_says_nothing_of_the_token(hec: Hec, token: str | None) -> None:
    header = {"Authorization": f"Splunk {token}"} if token else {}
    answer = requests.get(f"{hec.url}/services/collector/health", headers=header, timeout=10)
    assert said(answer) == (200, 17, None)


def test_an_empty_body_is_no_data(hec: Hec, token: str) -> None:
    assert said(post(hec, token, b"")) == (400, 5, None)


def test_bodies_may_be_gzip_and_are_measured_before_and_after(hec: Hec, token: str) -> None:
    body = lines(*({"event": "a" * 100} for _ in range(10)))
    packed = gzip.compress(body)
    assert said(post(hec, token, packed, Content_Encoding="gzip"))[1] == 0
    seen = hec.seen[-1]
    assert (seen.body, seen.wire_bytes) == (body, len(packed))
    assert len(hec.events()) == 10


def test_deflate_is_refused_in_html(hec: Hec, token: str) -> None:
    answer = post(hec, token, zlib.compress(b'{"event":1}'), Content_Encoding="deflate")
    assert answer.status_code == 415
    assert answer.headers["Content-Type"].startswith("text/html")


def test_a_body_above_the_limit_is_refused_in_html_also_when_it_was_small_on_its_way(
    hec: Hec, token: str
) -> None:
    hec.max_bytes = 1000
    body = lines({"event": "a" * 2000})
    for answer in (post(hec, token, body), post(hec, token, gzip.compress(body), Content_Encoding="gzip")):
        assert answer.status_code == 413
        assert b"<html>" in answer.content
    assert indexed(hec) == []


def test_no_secret_is_kept_of_a_request(hec: Hec, token: str) -> None:
    post(hec, token, lines({"event": 1}))
    assert token not in repr(hec.seen)
    assert hec.seen[-1].token is hec.tokens[token]


# --- Acknowledgements ------------------------------------------------------------------------------


def ask(hec: Hec, token: str, ids: list[int], channel: str = CHANNEL) -> Any:  # noqa: ANN401 - JSON
    path = f"/services/collector/ack?channel={channel}"
    answer = post(hec, token, json.dumps({"acks": ids}), path=path)
    assert answer.status_code == 200
    return answer.json()["acks"]


def send_acknowledged(hec: Hec, token: str, channel: str = CHANNEL) -> Any:  # noqa: ANN401 - JSON
    return post(hec, token, lines({"event": 1}), X_Splunk_Request_Channel=channel).json()


def test_ack_ids_count_up_in_each_channel(hec: Hec) -> None:
    token = hec.new_token(acknowledged=True)
    assert [send_acknowledged(hec, token)["ackId"] for _ in range(2)] == [0, 1]
    assert send_acknowledged(hec, token, str(uuid4()))["ackId"] == 0


def test_an_ack_is_true_once(hec: Hec) -> None:
    token = hec.new_token(acknowledged=True)
    hec.holding = True
    send_acknowledged(hec, token)
    assert ask(hec, token, [0, 7]) == {"0": False, "7": False}
    assert indexed(hec) == []
    hec.flush()
    assert ask(hec, token, [0]) == {"0": True}
    assert ask(hec, token, [0]) == {"0": False}
    assert indexed(hec) == [1]


def test_what_an_indexer_loses_is_never_acknowledged(hec: Hec) -> None:
    token = hec.new_token(acknowledged=True)
    hec.holding = True
    send_acknowledged(hec, token)
    hec.lose()
    hec.flush()
    assert ask(hec, token, [0]) == {"0": False}
    assert indexed(hec) == []


def test_a_token_with_acks_wants_a_guid_as_channel(hec: Hec) -> None:
    token = hec.new_token(acknowledged=True)
    assert said(post(hec, token, b'{"event":1}')) == (400, 10, None)
    assert said(post(hec, token, b'{"event":1}', X_Splunk_Request_Channel="1")) == (400, 11, None)


def test_a_token_without_acks_has_none_to_ask_for(hec: Hec, token: str) -> None:
    assert said(post(hec, token, b'{"acks":[0]}', path=f"/services/collector/ack?channel={CHANNEL}")) == (
        400,
        14,
        None,
    )


def test_another_indexer_knows_nothing_and_the_cookie_leads_back() -> None:
    with hec_server(indexers=2) as hec, requests.Session() as session:
        token = hec.new_token(acknowledged=True)
        headers = {"Authorization": f"Splunk {token}", "X-Splunk-Request-Channel": CHANNEL}
        session.post(f"{hec.url}/services/collector", b'{"event":1}', headers=headers, timeout=10)
        assert ask(hec, token, [0]) == {"0": False}  # its turn, without the cookie
        path = f"/services/collector/ack?channel={CHANNEL}"
        answer = session.post(f"{hec.url}{path}", b'{"acks":[0]}', headers=headers, timeout=10)
        assert answer.json()["acks"] == {"0": True}


# --- Queues, and faults ----------------------------------------------------------------------------


def test_queues_fill_up_and_say_so(hec: Hec, token: str) -> None:
    hec.holding, hec.most_queued, hec.retry_after = True, 5, "7"
    answers = [post(hec, token, b'{"event":1}') for _ in range(6)]
    assert [said(answer)[1] for answer in answers] == [0, 0, 0, 0, 24, 26]
    assert (answers[-1].status_code, answers[-1].headers["Retry-After"]) == (429, "7")
    hec.flush()
    assert len(hec.events()) == 5


def test_ack_channels_fill_up_until_they_are_read(hec: Hec) -> None:
    token = hec.new_token(acknowledged=True)
    hec.most_acks = 5
    assert [send_acknowledged(hec, token)["code"] for _ in range(6)] == [0, 0, 0, 0, 25, 27]
    ask(hec, token, [0, 1])
    assert send_acknowledged(hec, token)["code"] == 0


@pytest.mark.parametrize("code", sorted(TEXTS))
def test_any_code_can_be_said_with_its_status(hec: Hec, token: str, code: int) -> None:
    hec.play(says(code, retry_after="3"))
    answer = post(hec, token, b'{"event":1}')
    assert said(answer)[:2] == (TEXTS[code][0], code)
    assert answer.headers["Retry-After"] == "3"
    assert indexed(hec) == []
    assert said(post(hec, token, b'{"event":1}'))[1] == 0  # the script is over


def test_an_answer_can_come_before_the_body_is_taken(hec: Hec, token: str) -> None:
    hec.play(Early(answer=html(413, "too much")))
    answer = post(hec, token, lines({"event": "a" * 2_000_000}))
    assert (answer.status_code, answer.headers["Connection"]) == (413, "close")
    assert indexed(hec) == []


def test_pages_and_ways_elsewhere(hec: Hec, token: str) -> None:
    hec.play(LOGIN_PAGE, BAD_GATEWAY, redirect("https://login.example/"))
    answers = [post(hec, token, b'{"event":1}') for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 502, 302]
    assert answers[2].headers["Location"] == "https://login.example/"
    assert indexed(hec) == []


@pytest.mark.parametrize(
    ("fault", "taken"), [(CUT_BEFORE_BODY, False), (LOSE_REQUEST, False), (LOSE_ANSWER, True)], ids=str
)
def test_a_connection_can_end_before_or_after_the_events_are_taken(
    hec: Hec, token: str, fault: Fault, *, taken: bool
) -> None:
    hec.play(fault)
    with pytest.raises(requests.ConnectionError):
        post(hec, token, b'{"event":1}')
    assert bool(indexed(hec)) is taken


def test_an_answer_can_go_on_and_on(hec: Hec, token: str) -> None:
    hec.play(Endless(forward=False, answer=html(200, "more")))
    port = int(hec.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), 10) as sock:
        sock.sendall(
            b"POST /services/collector HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n"
            b"Authorization: Splunk " + token.encode() + b"\r\n\r\n"
        )
        received = 0
        while received < 1_000_000:
            received += len(sock.recv(65536))


def test_a_connection_can_end_in_silence_after_the_answer(hec: Hec, token: str) -> None:
    hec.play(Closing())
    port = int(hec.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), 10) as sock:
        sock.sendall(
            b"POST /services/collector HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n"
            b"Authorization: Splunk " + token.encode() + b'\r\n\r\n{"event":1}'
        )
        answer = b""
        while block := sock.recv(65536):
            answer += block
    assert b'"code":0' in answer
    assert b"Connection: close" not in answer


def test_a_warning_comes_in_place_of_a_success_alone(hec: Hec, token: str) -> None:
    hec.play(says(24, forward=True), says(24, forward=True))
    assert said(post(hec, token, b'{"event":1}'))[:2] == (200, 24)
    assert said(post(hec, token, b'{"event":null}')) == (400, 6, 0)
    assert indexed(hec) == [1]


@pytest.mark.parametrize("change", ["zips_answers", "chunks_answers"])
def test_answers_changed_on_their_way_say_the_same(hec: Hec, token: str, change: str) -> None:
    setattr(hec, change, True)
    answer = post(hec, token, b'{"event":1}')
    assert said(answer) == (200, 0, None)
    assert (answer.headers.get("Content-Encoding") == "gzip") is (change == "zips_answers")


def test_without_cookies_each_request_goes_to_the_next_indexer() -> None:
    with hec_server(indexers=2) as hec, requests.Session() as session:
        hec.cookies = False
        token = hec.new_token()
        for _ in range(4):
            answer = session.post(
                f"{hec.url}/services/collector",
                b'{"event":1}',
                headers={"Authorization": f"Splunk {token}"},
                timeout=10,
            )
            assert not answer.cookies
        assert [request.indexer for request in hec.seen] == [0, 1, 0, 1]
