"""A small HTTP proxy in front of a real server: it records every request, and breaks what it is told to.

Requests go on to the server one at a time: stores create atomically, and moto does not.
"""

from __future__ import annotations

import http.client
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator, Mapping

TIMEOUT_S = 60


@dataclass(frozen=True)
class Request:
    """One request as it arrived; header names are lower-case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(frozen=True)
class Answer:
    """What the proxy answers in the server's place."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Fault:
    """What happens to one request."""

    take_body: bool = True
    forward: bool = True  # does the server get it?
    without: frozenset[str] = frozenset()  # headers that the server does not get
    hold: Event | None = None  # the answer waits for it
    answer: Answer | None = None  # instead of the server's
    cut: bool = False  # no answer: the connection ends


CUT_BEFORE_BODY = Fault(take_body=False, forward=False, cut=True)
LOSE_REQUEST = Fault(forward=False, cut=True)
LOSE_ANSWER = Fault(cut=True)


def s3_error(
    status: int,
    code: str,
    message: str | None = "made up",
    *,
    headers: Mapping[str, str] | None = None,
    extra: str = "",
    forward: bool = False,
) -> Fault:
    """An error as S3 writes it, whether or not the server got the request."""
    words = "" if message is None else f"<Message>{message}</Message>"
    body = f"<Error><Code>{code}</Code>{words}{extra}</Error>".encode()
    return Fault(
        forward=forward, answer=Answer(status, body, {"x-amz-request-id": "REQ1"} | dict(headers or {}))
    )


def no_fault(_request: Request) -> Fault | None:
    """Everything passes."""
    return None


class Proxy:
    """Where it listens, what it saw, and the script that decides about each request."""

    def __init__(self, upstream: str, script: Callable[[Request], Fault | None] = no_fault) -> None:
        parts = urlsplit(upstream)
        self.upstream = (parts.hostname or "", parts.port or 80)
        self.script = script
        self.url = ""
        self.seen: list[Request] = []
        self._one_at_a_time = Lock()

    def forward(self, request: Request, fault: Fault) -> Answer:
        """The server's answer."""
        with self._one_at_a_time:
            connection = http.client.HTTPConnection(*self.upstream, timeout=TIMEOUT_S)
            try:
                connection.putrequest(request.method, request.path, skip_host=True, skip_accept_encoding=True)
                for name, value in request.headers.items():
                    if name not in fault.without | {"expect", "connection"}:
                        connection.putheader(name, value)
                connection.endheaders(request.body)
                answer = connection.getresponse()
                return Answer(answer.status, answer.read(), dict(answer.getheaders()))
            finally:
                connection.close()


@contextmanager
def proxy_before(
    upstream: str,
    script: Callable[[Request], Fault | None] = no_fault,
    *,
    tls: ssl.SSLContext | None = None,
    make: Callable[[str, Callable[[Request], Fault | None]], Proxy] = Proxy,
) -> Iterator[Proxy]:
    """A running proxy on a free port; ``make`` is for one that answers some requests by itself."""
    proxy = make(upstream, script)
    server = _Server(("127.0.0.1", 0), _handler(proxy))
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    proxy.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is what many tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    proxy: Proxy

    def handle_expect_100(self) -> bool:
        return True  # answered when the script wants the body

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Quiet."""

    def handle_any(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, self.path, headers)
        fault = self.proxy.script(request) or Fault()
        if fault.take_body:
            request = replace(request, body=self._take_body(headers))
        self.proxy.seen.append(request)
        answer = self.proxy.forward(request, fault) if fault.forward else None
        if fault.hold is not None:
            fault.hold.wait(TIMEOUT_S)
        self._answer(None if fault.cut else fault.answer or answer)

    def _take_body(self, headers: Mapping[str, str]) -> bytes:
        if headers.get("expect") == "100-continue":
            self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        length = int(headers.get("content-length", "0"))
        body = self.rfile.read(length)
        if len(body) < length:
            raise ConnectionError("the client went away")
        return body

    def _answer(self, answer: Answer | None) -> None:
        if answer is None:
            self.close_connection = True
            return
        self.send_response_only(answer.status)
        for name, value in answer.headers.items():
            if name.lower() not in ("content-length", "connection", "transfer-encoding"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)


def _handler(proxy: Proxy) -> type[_Handler]:
    methods = {f"do_{method}": _Handler.handle_any for method in ("DELETE", "GET", "HEAD", "POST", "PUT")}
    return type("Handler", (_Handler,), {"proxy": proxy, **methods})
