"""A store that means harm: whatever it is asked, it answers with what it knows of the asking one's secrets.

It speaks all protocols of the destinations as far as it takes to be listened to, over https.
"""

from __future__ import annotations

import json
import socket
import struct
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

RESET: Final = struct.pack("ii", 1, 0)  # closing sends RST at once


class Hostile:
    """Where it listens, and the secrets of each place (a bucket or container), which it gives away.

    ``mode``: `refused`, `let in` (token services grant a token, one of the place's secrets, and the store
    refuses), `unavailable`, `garbage` (a success that nobody can read), `redirect` or `reset`.
    """

    def __init__(self) -> None:
        self.mode = "refused"
        self.host = ""
        self.known: dict[str, list[str]] = {}
        self.tokens: dict[str, str] = {}
        self.granted: set[str] = set()
        self.asked: set[str] = set()

    def place_of(self, request: str) -> str:
        """Which place a request is about."""
        place = next((place for place in self.known if place in request), "")
        self.asked.add(place)
        return place

    def echo(self, place: str) -> str:
        """The secrets of a place, as they are and as they stand in a URL."""
        secrets = [*self.known.get(place, []), *(self.tokens[one] for one in self.granted & {place})]
        return " ".join(text for secret in secrets for text in (secret, quote(secret, safe="")))


@contextmanager
def hostile_server(tls: ssl.SSLContext) -> Iterator[Hostile]:
    """A running one on a free port."""
    hostile = Hostile()
    server = _Server(("127.0.0.1", 0), _handler(hostile))
    server.socket = tls.wrap_socket(server.socket, server_side=True)
    hostile.host = f"127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hostile
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away has seen enough."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hostile: Hostile

    def handle_expect_100(self) -> bool:
        return True  # answered when the body is taken

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Quiet."""

    def handle_any(self) -> None:
        if self.headers.get("Expect", "").lower() == "100-continue":
            self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        request = f"{self.path} {body.decode('latin-1')}"
        place = self.hostile.place_of(request)
        mode = self.hostile.mode
        if mode == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            self.close_connection = True
            self.connection.close()
        elif ".well-known" in self.path and mode != "garbage":
            self._answer(200, json.dumps(_directory(f"https://{self.hostile.host}/{place}")), "")
        elif mode == "let in" and (token := _granted(request, self.hostile.tokens.get(place, ""))):
            self.hostile.granted.add(place)
            self._answer(200, token, "")
        else:
            status = {"unavailable": 503, "garbage": 200, "redirect": 307}.get(mode, 403)
            said = self.hostile.echo(place)
            self._answer(status, self._text(status, f"your secret is {said}"), said)

    def _text(self, status: int, text: str) -> str:
        if self.hostile.mode == "garbage":
            return f"<not {text}"
        if self.path.startswith(("/upload/", "/storage/", "/token")) or "/oauth2/" in self.path:
            return json.dumps(_google_and_entra(status, text))
        if self.path.startswith("/services/collector"):
            return json.dumps({"text": text, "code": 4, "invalid-event-number": 0})
        code = "AuthenticationFailed" if "x-ms-version" in self.headers else "AccessDenied"
        words = text.replace("&", "&amp;").replace("<", "&lt;")
        return f"<Error><Code>{code}</Code><Message>{words}</Message></Error>"

    def _answer(self, status: int, text: str, said: str) -> None:
        body = text.encode()
        self.send_response_only(status, f"No {said}")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "application/json" if text.startswith("{") else "application/xml")
        self.send_header("x-ms-error-code", f"Failed{said.replace(' ', '')}")
        self.send_header("x-amz-request-id", f"id-{said}")
        if status == HTTPStatus.TEMPORARY_REDIRECT:
            self.send_header("Location", f"https://{self.hostile.host}/elsewhere?{said.replace(' ', '&')}")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _directory(issuer: str) -> dict[str, object]:
    """What Entra says of a tenant."""
    oauth = f"{issuer}/oauth2/v2.0"
    return {
        "issuer": f"{issuer}/v2.0",
        "authorization_endpoint": f"{oauth}/authorize",
        "token_endpoint": f"{oauth}/token",
    }


def _granted(request: str, token: str) -> str:
    """A token, as the service that a request is for gives it; empty if it is for none."""
    if "Action=AssumeRole" in request:
        keys = f"<AccessKeyId>ASIA</AccessKeyId><SecretAccessKey>{token}</SecretAccessKey>"
        rest = f"<SessionToken>{token}</SessionToken><Expiration>2999-01-01T00:00:00Z</Expiration>"
        result = f"<AssumeRoleResult><Credentials>{keys}{rest}</Credentials></AssumeRoleResult>"
        return f'<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">{result}</AssumeRoleResponse>'
    if request.startswith("/token") or "/oauth2/" in request.partition(" ")[0]:
        return json.dumps({"token_type": "Bearer", "expires_in": 3600, "access_token": token})
    return ""


def _google_and_entra(status: int, text: str) -> dict[str, object]:
    """An error as a bucket or a token service writes it."""
    if status == HTTPStatus.FORBIDDEN:
        return {"error": {"code": 403, "message": text, "errors": [{"message": text, "reason": "forbidden"}]}}
    return {"error": "invalid_client", "error_description": text, "error_codes": [7000215]}


def _handler(hostile: Hostile) -> type[_Handler]:
    methods = {f"do_{method}": _Handler.handle_any for method in ("DELETE", "GET", "HEAD", "POST", "PUT")}
    return type("Handler", (_Handler,), {"hostile": hostile, **methods})
