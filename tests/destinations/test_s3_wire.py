"""A store, or its token service, that dribbles, floods, breaks TLS or answers oddly: how each of it ends."""

from __future__ import annotations

import socket
import time
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any

import pytest
from botocore.hooks import HierarchicalEmitter
from botocore.signers import RequestSigner

from exporter.destinations.s3 import access as s3_access
from exporter.destinations.s3 import wire
from exporter.destinations.s3.words import LONGEST_MESSAGE
from exporter.destinations.uploads import SMALL_BYTES, Limits
from exporter.errors import DeliveryError, NotSent, OutcomeUnknown, Refused
from exporter.network.answers import MAX_ANSWER_BYTES
from exporter.network.guard import Guard
from tests.kit.proxy import Answer, Fault, Proxy, Request, proxy_before, s3_error
from tests.kit.s3_stores import (
    CANARY,
    KEYS,
    LOOPBACK,
    ROLE_ARN,
    answering,
    failed_put,
    new_bucket_behind,
    put,
    settings_of,
    store_of,
    with_,
)
from tests.kit.servers import new_certificate, shared_moto
from tests.kit.sockets import listening, read_request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path
    from threading import Event

    from exporter.destinations.s3.settings import S3Settings

SHORT = Limits(answer_s=0.3)
LONGEST_S = 5  # for an answer that may take twice 0.3 s, on a busy machine
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
WAITING = b"PK" * SMALL_BYTES  # too large to be sent before there is a word to go on
FORBIDDEN = b"HTTP/1.1 403 Forbidden\r\nContent-Type: application/xml\r\nConnection: close\r\n"


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    with proxy_before(shared_moto().url) as running:
        yield running


@pytest.fixture
def settings(proxy: Proxy) -> S3Settings:
    return new_bucket_behind(proxy)


def at(port: int, scheme: str = "http", **more: object) -> S3Settings:
    place = {"endpoint_url": f"{scheme}://127.0.0.1:{port}", "path_style": True}
    return settings_of("acme", **place, **KEYS, **more)


@pytest.fixture
def fresh_session() -> Iterator[None]:
    """The machine's own credentials and settings are read anew."""
    s3_access.session.cache_clear()
    yield
    s3_access.session.cache_clear()


# --- Answers without an end -----------------------------------------------------------------------


def dribbling(first: bytes, again: bytes) -> Callable[[socket.socket, Event], None]:
    """Takes a request, and answers it with so much, and then again and again with a little more."""

    def handle(connection: socket.socket, over: Event) -> None:
        read_request(connection)
        connection.sendall(first)
        while not over.wait(0.05):
            connection.sendall(again)

    return handle


DRIBBLES = {
    "the status": (b"HTTP/1.1 ", b"1"),
    "the headers": (b"HTTP/1.1 200 OK\r\nX-A: ", b"a"),
    "the body": (FORBIDDEN + b"Content-Length: 100000\r\n\r\n<Error>", b" "),
    "words to go on": (CONTINUE, CONTINUE),
    "headers of the word to go on": (b"HTTP/1.1 100 Continue\r\nX-A: ", b"a"),
}


@pytest.mark.parametrize("more", [{}, {"role_arn": ROLE_ARN}], ids=["store", "token service"])
@pytest.mark.parametrize("data", [b"PK...", WAITING], ids=["at once", "waiting"])
@pytest.mark.parametrize("part", DRIBBLES)
def test_an_answer_byte_by_byte_is_given_up(
    part: str, data: bytes, more: dict[str, Any], tmp_path: Path
) -> None:
    with listening(dribbling(*DRIBBLES[part])) as server:
        store = store_of(at(server.port, **more), limits=SHORT)
        begun = time.monotonic()
        error = failed_put(store, tmp_path, data)
        passed = time.monotonic() - begun
    assert passed < LONGEST_S
    assert isinstance(error, NotSent if more else OutcomeUnknown)


@pytest.mark.parametrize("more", [{}, {"role_arn": ROLE_ARN}], ids=["store", "token service"])
def test_an_answer_without_an_end_is_not_read_to_it(more: dict[str, Any], tmp_path: Path) -> None:
    taken: list[int] = []

    def counting(connection: socket.socket, over: Event) -> None:
        read_request(connection)
        connection.sendall(FORBIDDEN + b"Transfer-Encoding: chunked\r\n\r\n")
        while not over.is_set():
            connection.sendall(b"100000\r\n" + b" " * (1 << 20) + b"\r\n")
            taken.append(1 << 20)

    with listening(counting) as server:
        error = failed_put(store_of(at(server.port, **more)), tmp_path)
    assert isinstance(error, NotSent if more else OutcomeUnknown)
    assert sum(taken) < MAX_ANSWER_BYTES + (32 << 20)  # what the sockets of both sides hold


def test_check_ends_too_where_a_store_answers_byte_by_byte() -> None:
    with listening(dribbling(*DRIBBLES["the body"])) as server:
        begun = time.monotonic()
        finding = store_of(at(server.port), limits=SHORT).check("vendor/.audit-exporter-check/1")[-1]
        passed = time.monotonic() - begun
    assert finding.level == "error"
    assert passed < 2 * LONGEST_S


def test_a_refusal_before_the_body_is_an_answer_and_the_body_stays(tmp_path: Path) -> None:
    body = b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>"
    received: list[bytes] = []

    def refuse(connection: socket.socket, _over: Event) -> None:
        received.append(read_request(connection))
        connection.sendall(FORBIDDEN + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        received.append(connection.recv(1 << 16))

    with listening(refuse) as server:
        error = failed_put(store_of(at(server.port)), tmp_path, WAITING)
    assert "AccessDenied: no" in error.message
    assert received[0].endswith(b"\r\n\r\n")
    assert received[1] == b""


@pytest.mark.parametrize("size", [0, 5, SMALL_BYTES])
def test_a_small_body_does_not_wait_for_the_word_to_send_it(size: int, tmp_path: Path) -> None:
    """One way to the store and back is what a small upload takes; nobody here says to go on."""
    received: list[bytes] = []

    def take(connection: socket.socket, _over: Event) -> None:
        request = read_request(connection)
        head, _, begun = request.partition(b"\r\n\r\n")
        body = len(begun)
        while body < size:
            body += len(connection.recv(1 << 16))
        received.append(head)
        connection.sendall(b'HTTP/1.1 200 OK\r\nETag: "x"\r\nContent-Length: 0\r\n\r\n')

    with listening(take) as server:
        put(store_of(at(server.port)), tmp_path, b"x" * size)
    assert b"expect" not in received[0].lower()


def test_a_small_request_leaves_as_one_and_says_nothing_of_repeating(
    settings: S3Settings, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every piece takes its turn at the network, and nothing that is never repeated needs an id for it."""
    sent: list[bytes] = []
    send = HTTPConnection.send

    def noting(connection: HTTPConnection, data: Any) -> None:  # noqa: ANN401 - as the base class has it
        if isinstance(connection, wire._Plain):  # the proxy has connections, too
            sent.append(data)
        send(connection, data)

    monkeypatch.setattr(HTTPConnection, "send", noting)
    put(store_of(settings), tmp_path, b"x" * SMALL_BYTES)
    assert len(sent) == len(proxy.seen)
    assert sent[-1].startswith(b"PUT ")
    assert sent[-1].endswith(b"\r\n\r\n" + b"x" * SMALL_BYTES)
    assert b"amz-sdk-" not in sent[-1].partition(b"\r\n\r\n")[0].replace(b"amz-sdk-checksum", b"")


def test_a_small_body_that_nobody_reads_does_not_hide_the_refusal(tmp_path: Path) -> None:
    """A store may answer from the headers alone, and hang up with the body unread: a reset follows."""
    body = b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>"

    def refuse(connection: socket.socket, _over: Event) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += connection.recv(1)
        connection.sendall(FORBIDDEN + b"Content-Length: %d\r\n\r\n" % len(body) + body)

    with listening(refuse) as server:
        error = failed_put(store_of(at(server.port)), tmp_path, b"x" * SMALL_BYTES)
    assert isinstance(error, Refused)
    assert "AccessDenied: no" in error.message


def test_an_answer_right_behind_the_word_to_go_on_is_seen(tmp_path: Path) -> None:
    body = b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>"

    def refuse(connection: socket.socket, _over: Event) -> None:
        read_request(connection)
        connection.sendall(CONTINUE + FORBIDDEN + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        connection.recv(1 << 16)

    with listening(refuse) as server:
        assert "AccessDenied: no" in failed_put(store_of(at(server.port)), tmp_path, WAITING).message


# --- Connections that do not come about -----------------------------------------------------------


def hang_up(_connection: socket.socket, _over: Event) -> None:
    """Takes the connection, and ends it."""


def babble(connection: socket.socket, over: Event) -> None:
    connection.sendall(b"220 mail.example.com ESMTP\r\n" * 10)
    over.wait(1)


@pytest.mark.parametrize("handle", [hang_up, babble], ids=["hangs up", "speaks no TLS"])
def test_tls_that_does_not_come_about_is_not_sent(
    handle: Callable[[socket.socket, Event], None], tmp_path: Path
) -> None:
    with listening(handle) as server:
        error = failed_put(store_of(at(server.port, "https")), tmp_path)
    assert isinstance(error, NotSent)
    assert "127.0.0.1 cannot be reached" in error.message


@pytest.mark.parametrize("answer", [b"HTTP/1.1 403 Forbidden\r\n\r\n", b"what?\r\n\r\n", b""])
def test_a_proxy_that_does_not_let_through_is_not_sent_anything(
    answer: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(connection: socket.socket, _over: Event) -> None:
        read_request(connection)
        connection.sendall(answer)

    with listening(refuse) as proxy:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        settings = settings_of("acme", **KEYS, endpoint_url="https://s3.example.com", path_style=True)
        error = failed_put(store_of(settings, guard=Guard(["s3.example.com"])), tmp_path)
        assert proxy.connections == 1
    assert isinstance(error, NotSent)


@pytest.mark.parametrize("content", [None, b"", b"garbage\n"], ids=["none", "empty", "garbage"])
def test_a_ca_file_that_holds_nothing_is_found_before_anything_is_sent(
    content: bytes | None, settings: S3Settings, proxy: Proxy, tmp_path: Path
) -> None:
    file = tmp_path / "authority.pem"
    if content is not None:
        file.write_bytes(content)
    error = failed_put(store_of(with_(settings, ca_file=file)), tmp_path)
    assert isinstance(error, NotSent)
    assert f"ca_file {file}" in error.message
    assert proxy.seen == []


def test_a_ca_file_is_trusted_beside_all_others(tmp_path: Path) -> None:
    authority, _ = new_certificate(tmp_path)
    with store_of(at(443, "https", ca_file=authority))._access.client() as client:
        trusted = wire.session_of(client)._context.cert_store_stats()["x509_ca"]
    assert trusted > 50


@pytest.mark.usefixtures("fresh_session")
def test_the_operator_s_bundle_of_aws_is_trusted_where_there_is_no_ca_file(
    settings: S3Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority, tls = new_certificate(tmp_path)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(authority))
    with proxy_before(shared_moto().url, tls=tls) as proxy:
        put(store_of(with_(settings, endpoint_url=proxy.url)), tmp_path)


def test_a_connection_goes_to_the_very_address_that_the_guard_looked_at(
    settings: S3Settings, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No other resolver is asked: that one could answer something else."""
    resolve = socket.getaddrinfo
    asked: list[object] = []

    def recorded(host: str, *args: Any, **more: Any) -> Any:  # noqa: ANN401 - as the library has it
        asked.append(host)
        return resolve(host, *args, **more)

    def resolver(_host: str, _port: int) -> Sequence[str]:
        return ["127.0.0.1"]

    monkeypatch.setattr(socket, "getaddrinfo", recorded)
    proxy.script = answering(Fault(forward=False, answer=Answer(200, headers={"ETag": '"1"'})))
    elsewhere = with_(settings, endpoint_url=proxy.url.replace("127.0.0.1", "s3.example.com"))
    put(store_of(elsewhere, guard=Guard(["s3.example.com"], resolver=resolver)), tmp_path)
    assert proxy.seen[0].headers["host"].startswith("s3.example.com:")
    assert set(asked) == {"127.0.0.1"}


# --- Odd answers ----------------------------------------------------------------------------------

ODD_ERRORS = {
    "an empty code": b"<Error><Code/><Message>m</Message></Error>",
    "two codes": b"<Error><Code>AccessDenied</Code><Code>AccessDenied</Code></Error>",
    "a code in a code": b"<Error><Code><Code>AccessDenied</Code></Code></Error>",
    "two messages": b"<Error><Code>AccessDenied</Code><Message>a</Message><Message>b</Message></Error>",
    "two errors": b"<Error><Error><Code>A</Code></Error><Error><Code>B</Code></Error></Error>",
    "two request ids": b"<Error><Code>A</Code><RequestId>1</RequestId><RequestId>2</RequestId></Error>",
    "nothing": b"<Error/>",
}


@pytest.mark.parametrize("status", [400, 403, 503])
@pytest.mark.parametrize("body", ODD_ERRORS.values(), ids=ODD_ERRORS)
def test_an_odd_error_of_the_store_is_an_error_of_the_delivery(
    body: bytes, status: int, settings: S3Settings, proxy: Proxy, tmp_path: Path
) -> None:
    proxy.script = answering(Fault(forward=False, answer=Answer(status, body)))
    error = failed_put(store_of(settings), tmp_path)
    assert isinstance(error, DeliveryError)
    assert not isinstance(error, NotSent)
    assert store_of(settings).check("vendor/.audit-exporter-check/1")[-1].level == "error"


def role_answer(**changes: str | None) -> bytes:
    """What a token service answers, with other fields, or without them."""
    fields = {
        "AccessKeyId": "ASIATESTTESTTESTTEST",
        "SecretAccessKey": "a-secret-of-the-role",
        "SessionToken": "a-token-of-the-role",
        "Expiration": "2999-01-01T00:00:00Z",
    } | changes
    inside = "".join(f"<{name}>{value}</{name}>" for name, value in fields.items() if value is not None)
    return (
        f"<AssumeRoleResponse><AssumeRoleResult><Credentials>{inside}</Credentials></AssumeRoleResult>"
        "</AssumeRoleResponse>"
    ).encode()


ODD_ROLES = {
    "no key": role_answer(AccessKeyId=None),
    "no secret": role_answer(SecretAccessKey=None),
    "no token": role_answer(SessionToken=None),
    "an empty token": role_answer(SessionToken=""),
    "a token that no header can hold": role_answer(SessionToken="a-token\nX-Injected: yes"),
    "a token of other letters": role_answer(SessionToken="a-tökén-of-the-role"),
    "no end": role_answer(Expiration=None),
    "an end in words": role_answer(Expiration="tomorrow"),
    "a huge end": role_answer(Expiration="99999999999999999999"),
    "a key in a key": role_answer(AccessKeyId="<AccessKeyId>A</AccessKeyId>"),
}


@pytest.mark.parametrize("body", ODD_ROLES.values(), ids=ODD_ROLES)
def test_an_odd_answer_of_the_token_service_is_not_sent_on(
    body: bytes, settings: S3Settings, proxy: Proxy, tmp_path: Path
) -> None:
    proxy.script = answering(
        Fault(forward=False, answer=Answer(200, body)), lambda request: request.method == "POST"
    )
    error = failed_put(store_of(with_(settings, role_arn=ROLE_ARN)), tmp_path)
    assert isinstance(error, NotSent)
    assert [seen.method for seen in proxy.seen] == ["POST"]
    assert "of-the-role" not in error.message


@pytest.mark.parametrize("body", ODD_ERRORS.values(), ids=ODD_ERRORS)
def test_an_odd_refusal_of_the_token_service_is_not_sent_on(
    body: bytes, settings: S3Settings, proxy: Proxy, tmp_path: Path
) -> None:
    answer = Answer(403, b"<ErrorResponse>" + body + b"</ErrorResponse>")
    proxy.script = answering(Fault(forward=False, answer=answer))
    store = store_of(with_(settings, role_arn=ROLE_ARN))
    assert isinstance(failed_put(store, tmp_path), NotSent)
    assert store.check("vendor/.audit-exporter-check/1")[-1].level == "error"


@pytest.mark.parametrize("end", ["2999-01-01T00:00:00", "0001-01-01T00:00:00Z"], ids=["no zone", "long ago"])
def test_a_role_of_an_odd_end_serves_at_least_once(
    end: str, settings: S3Settings, proxy: Proxy, tmp_path: Path
) -> None:
    answer = Answer(200, role_answer(Expiration=end))
    proxy.script = answering(Fault(forward=False, answer=answer), lambda request: request.method == "POST")
    store = store_of(with_(settings, role_arn=ROLE_ARN))
    put(store, tmp_path)
    assert [seen.method for seen in proxy.seen] == ["POST", "PUT"]


def test_what_breaks_before_the_request_is_not_sent(
    settings: S3Settings, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_of(settings)
    put(store, tmp_path)

    def broken(*_args: object, **_more: object) -> None:
        raise TypeError(CANARY)

    monkeypatch.setattr(RequestSigner, "sign", broken)
    error = failed_put(store, tmp_path)
    assert isinstance(error, NotSent)
    assert CANARY not in error.message
    assert len(proxy.seen) == 1


def test_what_breaks_after_the_request_leaves_the_outcome_open(
    settings: S3Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    emit = HierarchicalEmitter.emit

    def broken(emitter: Any, event_name: str, **more: Any) -> Any:  # noqa: ANN401 - as botocore has it
        if event_name.startswith("response-received"):
            raise TypeError(CANARY)
        return emit(emitter, event_name, **more)

    monkeypatch.setattr(HierarchicalEmitter, "emit", broken)
    error = failed_put(store_of(settings), tmp_path)
    assert isinstance(error, OutcomeUnknown)
    assert CANARY not in error.message


# --- Words ----------------------------------------------------------------------------------------


def test_a_store_s_words_are_one_line_of_what_can_be_printed(
    settings: S3Settings, proxy: Proxy, tmp_path: Path
) -> None:
    proxy.script = answering(s3_error(403, "AccessDenied", "no\nok acme: all is well&#x9b;31m \u202e\u2028x"))
    message = failed_put(store_of(settings), tmp_path).message
    assert "no ok acme: all is well 31m" in message
    assert message.isprintable()


def test_a_store_s_words_are_short_and_end_with_the_request(
    settings: S3Settings, proxy: Proxy, tmp_path: Path
) -> None:
    proxy.script = answering(s3_error(403, "A" * 100_000, "many words " * 100_000))
    message = failed_put(store_of(settings), tmp_path).message
    assert len(message) <= LONGEST_MESSAGE + 3
    assert message.endswith("(request REQ1)")


def test_no_page_of_something_else_is_repeated_at_length(
    settings: S3Settings, proxy: Proxy, tmp_path: Path
) -> None:
    page = b"<html>\n" + b"welcome " * 50_000
    proxy.script = answering(Fault(forward=False, answer=Answer(400, page)))
    message = failed_put(store_of(with_(settings, role_arn=ROLE_ARN)), tmp_path).message
    assert len(message) <= LONGEST_MESSAGE + 3
    assert message.isprintable()


@pytest.mark.parametrize("ahead", range(950, 1010, 5))
def test_no_half_of_a_secret_is_left_where_words_are_cut(
    ahead: int, settings: S3Settings, proxy: Proxy, tmp_path: Path
) -> None:
    proxy.script = answering(s3_error(403, "AccessDenied", f"{'x' * (ahead - 200)}{CANARY}{'y' * 3000}"))
    message = failed_put(store_of(with_(settings, secret_access_key=CANARY)), tmp_path).message
    assert not any(CANARY[:length] in message for length in range(4, len(CANARY)))


def test_check_repeats_no_line_that_a_store_made_up(settings: S3Settings, proxy: Proxy) -> None:
    def script(_request: Request) -> Fault:
        return s3_error(403, "AccessDenied", "no\nok acme: all is well")

    proxy.script = script
    findings = store_of(settings, guard=LOOPBACK).check("vendor/.audit-exporter-check/1")
    assert not any("\nok acme" in f"{one.message}{one.hint}" for one in findings)
