"""HTTP of `tests.kit.hec_server`: addresses, tokens, bodies and answers as Splunk has them, and faults."""

from __future__ import annotations

import base64
import binascii
import gzip
import json
import re
import zlib
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs, urlsplit

from tests.kit.hec_events import TEXTS
from tests.kit.hec_indexers import ACKS_OFF, BAD_CHANNEL, NO_CHANNEL, Verdict
from tests.kit.proxy import Answer, Fault

if TYPE_CHECKING:
    from collections.abc import Mapping
    from threading import Event as Signal

    from tests.kit.hec_indexers import Token
    from tests.kit.hec_server import Hec

IDLE_S: Final = 60
COOKIE: Final = "AWSALB"
COLLECTOR: Final = "/services/collector"
ENDPOINTS: Final = {
    COLLECTOR: "event",
    f"{COLLECTOR}/event": "event",
    f"{COLLECTOR}/event/1.0": "event",
    f"{COLLECTOR}/raw": "raw",
    f"{COLLECTOR}/raw/1.0": "raw",
    f"{COLLECTOR}/ack": "ack",
    f"{COLLECTOR}/health": "health",
    f"{COLLECTOR}/health/1.0": "health",
}
GUID: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
HTML: Final = "text/html; charset=UTF-8"
SUCCESS, HEALTHY, DISABLED, TOKEN_REQUIRED, BAD_AUTHORIZATION, BAD_TOKEN, QUERY_TOKEN = 0, 17, 1, 2, 3, 4, 16
BAD_FORMAT, TOO_MANY_REQUESTS = 6, 429


@dataclass
class Request:
    """One request as it arrived, without its secrets; header names are lower-case.

    ``body`` is after decompression, ``wire_bytes`` before. ``token`` is the known one that came with it.
    ``code`` is the one that was answered, None where it was no answer of Splunk's.
    """

    method: str
    path: str
    endpoint: str  # event, raw, ack, health, or empty
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes = field(default=b"", repr=False)
    wire_bytes: int = 0
    authorization: str = ""  # its scheme: Splunk, Basic
    token: Token | None = None
    indexer: int = 0
    code: int | None = None

    @property
    def lines(self) -> list[bytes]:
        """The objects of a body that has one in each line."""
        return self.body.split(b"\n")[: -1 if self.body.endswith(b"\n") else None] if self.body else []


@dataclass(frozen=True)
class Endless(Fault):
    """An answer that goes on and on; ``pace`` is waited for before each piece."""

    pace_s: float = 0.0


@dataclass(frozen=True)
class Instead(Fault):
    """The answer in place of a success, and of nothing else; the events are in."""


@dataclass(frozen=True)
class Early(Fault):
    """The answer comes before the body is taken; that goes nowhere, and the connection ends."""


@dataclass(frozen=True)
class Closing(Fault):
    """The answer as usual; then the connection ends, without a word about it beforehand."""


class _Refusal(Exception):
    def __init__(self, answer: Answer, code: int | None = None) -> None:
        super().__init__(answer.status)
        self.answer = answer
        self.code = code


def html(status: int, title: str) -> Answer:
    """A page, as what lies between or splunkd itself answers it."""
    page = f"<!doctype html><html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>"
    return Answer(status, page.encode(), {"Content-Type": HTML})


def hec_answer(
    code: int, *, number: object = None, ack_id: int | None = None, retry_after: str | None = None
) -> Answer:
    """An answer of the collector's."""
    status, text = TEXTS[code]
    said: dict[str, object] = {"text": text, "code": code}
    if number is not None:
        said["invalid-event-number"] = number
    if ack_id is not None:
        said["ackId"] = ack_id
    headers = {"Content-Type": "application/json; charset=UTF-8"}
    if retry_after is not None:
        headers["Retry-After"] = retry_after
    return Answer(status, json.dumps(said, separators=(",", ":")).encode(), headers)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = IDLE_S
    hec: Hec
    behind: int  # the indexer that has this request

    def version_string(self) -> str:
        return "Splunkd"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Quiet."""

    def handle_any(self) -> None:
        request = self._request()
        with self.hec.lock:
            self.hec.seen.append(request)
            fault = self.hec.fault_for(request) or Fault()
        if not fault.take_body:
            self.close_connection = True
            return
        if isinstance(fault, Early) and fault.answer is not None:
            self._answer(fault.answer, Connection="close")
        sent = self._take_body(request)
        if isinstance(fault, Early):
            return
        answer = self._judged(request, sent) if fault.forward else fault.answer
        if fault.hold is not None:
            fault.hold.wait(IDLE_S)
        if fault.answer is not None and (not isinstance(fault, Instead) or request.code == SUCCESS):
            request.code, answer = None, fault.answer
        self._finish(fault, answer)

    do_GET = do_POST = do_PUT = do_OPTIONS = handle_any  # noqa: N815 - the base class's names

    def _finish(self, fault: Fault, answer: Answer | None) -> None:
        if fault.cut or answer is None:
            self.close_connection = True
        elif isinstance(fault, Endless):
            self.close_connection = True
            self._go_on(answer, fault.pace_s, self.hec.over)
        else:
            self._answer(answer)
            self.close_connection |= isinstance(fault, Closing)

    # --- What came ------------------------------------------------------------------------------

    def _request(self) -> Request:
        parts = urlsplit(self.path)
        query = {name: values[-1] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        headers = {name.lower(): value for name, value in self.headers.items()}
        scheme, token = self._credentials(headers.pop("authorization", None))
        endpoint = ENDPOINTS.get(parts.path, "")
        request = Request(self.command, self.path, endpoint, query, headers)
        request.authorization, request.token = scheme, self.hec.tokens.get(token)
        request.indexer = self.behind = self._indexer()
        return request

    def _credentials(self, header: str | None) -> tuple[str, str]:
        scheme, _, value = (header or "").partition(" ")
        if scheme != "Basic":
            return scheme, value
        try:
            return scheme, base64.b64decode(value, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return "malformed", ""

    def _indexer(self) -> int:
        """The one that the cookie names; without a cookie, the next."""
        try:
            cookie = SimpleCookie(self.headers.get("Cookie", "")).get(COOKIE)
        except CookieError:
            cookie = None
        if cookie is not None and cookie.value.isdigit() and int(cookie.value) < len(self.hec.indexers):
            return int(cookie.value)
        return self.hec.next_indexer()

    def _take_body(self, request: Request) -> bytes:
        length = int(self.headers.get("Content-Length", "0"))
        sent = self.rfile.read(length)
        if len(sent) < length:
            raise ConnectionError("the client went away")
        request.wire_bytes = length
        request.body = _unzipped(sent) if request.headers.get("content-encoding") == "gzip" else sent
        return sent

    # --- What Splunk makes of it ----------------------------------------------------------------

    def _judged(self, request: Request, sent: bytes) -> Answer:
        try:
            verdict = self._code(request, sent)
        except _Refusal as refusal:
            request.code = refusal.code
            return refusal.answer
        request.code = verdict.code
        retry_after = self.hec.retry_after if TEXTS[verdict.code][0] in (TOO_MANY_REQUESTS, 503) else None
        number = None
        if self.hec.numbered and verdict.number is not None:
            number = self.hec.number_as(verdict.number)
        return hec_answer(verdict.code, number=number, ack_id=verdict.ack_id, retry_after=retry_after)

    def _code(self, request: Request, sent: bytes) -> Verdict:
        if not request.endpoint:
            raise _Refusal(html(404, "404 Not Found"))
        if request.endpoint == "health":
            return Verdict(HEALTHY)  # measured: whatever the token
        if request.method != "POST":
            raise _Refusal(html(405, "405 Method Not Allowed"))
        if request.headers.get("content-encoding", "gzip") not in ("gzip", "identity"):
            raise _Refusal(html(415, "415 Unsupported Media Type"))
        if self.hec.max_bytes is not None and len(request.body) > self.hec.max_bytes:
            raise _Refusal(html(413, "413 Request Entity Too Large"))
        token = self._admitted(request)
        channel = self._channel(request, token)
        with self.hec.lock:
            indexer = self.hec.indexers[request.indexer]
            if request.endpoint == "ack":
                raise _Refusal(self._acks(request, token, channel))
            if sent and not request.body:
                return Verdict(BAD_FORMAT, 0)
            body = request.body if request.endpoint == "event" else _enveloped(request.body)
            return indexer.take(token, channel, body)

    def _admitted(self, request: Request) -> Token:
        if not request.authorization:
            raise _refusal(QUERY_TOKEN if "token" in request.query else TOKEN_REQUIRED)
        if request.authorization not in ("Splunk", "Basic"):
            raise _refusal(BAD_AUTHORIZATION)
        if request.token is None:
            raise _refusal(BAD_TOKEN)
        if not request.token.enabled:
            raise _refusal(DISABLED)
        return request.token

    def _channel(self, request: Request, token: Token) -> str:
        if request.endpoint == "ack" and not token.acknowledged:
            raise _refusal(ACKS_OFF)
        channel = request.headers.get("x-splunk-request-channel") or request.query.get("channel", "")
        if token.acknowledged and not channel:
            raise _refusal(NO_CHANNEL)
        if token.acknowledged and not GUID.fullmatch(channel):
            raise _refusal(BAD_CHANNEL)
        return channel.lower()

    def _acks(self, request: Request, token: Token, channel: str) -> Answer:
        try:
            ids = json.loads(request.body)["acks"]
            known = self.hec.indexers[request.indexer].acks(token, channel, [int(one) for one in ids])
        except (ValueError, KeyError, TypeError):
            return hec_answer(BAD_FORMAT)
        body = json.dumps({"acks": known}).encode()
        return Answer(200, body, {"Content-Type": "application/json; charset=UTF-8"})

    # --- What goes back -------------------------------------------------------------------------

    def _answer(self, answer: Answer, **more: str) -> None:
        body = answer.body
        self.send_response(answer.status)
        for name, value in {**answer.headers, **more}.items():
            self.send_header(name, value)
        if self.hec.cookies and len(self.hec.indexers) > 1:
            self.send_header("Set-Cookie", f"{COOKIE}={self.behind}; Path=/")
        if self.hec.zips_answers and "gzip" in self.headers.get("Accept-Encoding", ""):
            body = gzip.compress(body)
            self.send_header("Content-Encoding", "gzip")
        if self.hec.chunks_answers:
            self.send_header("Transfer-Encoding", "chunked")
            pieces = (body[place : place + 5] for place in range(0, len(body), 5))
            body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
        else:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _go_on(self, answer: Answer, pace_s: float, over: Signal) -> None:
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.headers.get("Content-Type", "application/json"))
        self.end_headers()
        piece = answer.body or b" " * 1024
        while not over.wait(pace_s):
            self.wfile.write(piece)
            self.wfile.flush()


def handler_for(hec: Hec) -> type[BaseHTTPRequestHandler]:
    """What answers this server's requests."""
    return type("Handler", (_Handler,), {"hec": hec})


def _refusal(code: int) -> _Refusal:
    return _Refusal(hec_answer(code), code)


def _unzipped(body: bytes) -> bytes:
    try:
        return zlib.decompress(body, wbits=31)
    except zlib.error:
        return b""


def _enveloped(body: bytes) -> bytes:
    """Raw text, one event per line."""
    return b"".join(
        json.dumps({"event": line.decode("utf-8", "replace")}).encode() for line in body.splitlines()
    )
