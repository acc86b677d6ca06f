"""How botocore's clients reach S3 and its token service: guarded, over TLS that we trust, and with an end.

A connection goes to the very addresses that the guard looked at, one that does not come about is told
from an answer that did not come, and nobody answers for ever. It must not know what is asked.
"""

from __future__ import annotations

import socket
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from botocore.awsrequest import AWSConnection, AWSHTTPResponse
from botocore.exceptions import EndpointConnectionError, HTTPClientError
from botocore.httpsession import URLLib3Session
from botocore.utils import get_environ_proxies

from exporter.errors import NotSent
from exporter.network.answers import Bounded, BoundedResponse
from exporter.network.connections import Connection, TlsConnection, pool_classes
from exporter.network.guard import origin_of

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from botocore.awsrequest import AWSPreparedRequest, AWSRequest, AWSResponse

    from exporter.network.guard import Guard

LONGEST_LINE: Final = 65536
NO_DELAY: Final = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]


class Session(URLLib3Session):
    """What sends the requests of one client.

    ``guard`` is for an endpoint that a customer chose, and ``timeout`` (connect, idle), in seconds.
    """

    _manager: Any

    def __init__(
        self, endpoint: str, guard: Guard | None, context: ssl.SSLContext, timeout: tuple[float, float]
    ) -> None:
        self.has_sent = False
        """Whether anything of a request may have left, since somebody said that it has not."""
        self._context = context
        options: dict[str, Any] = {"timeout": timeout, "socket_options": NO_DELAY}
        super().__init__(proxies=get_environ_proxies(endpoint), **options)
        self._pool_classes_by_scheme = pool_classes(guard, timeout, plain=_Plain, tls=_Tls)
        self._manager.pool_classes_by_scheme = self._pool_classes_by_scheme
        self._direct = _Pools(self._manager)

    def send(self, request: AWSRequest | AWSPreparedRequest) -> AWSResponse:
        """One try. Raises EndpointConnectionError if, and only if, no connection came about."""
        self.has_sent = True
        try:
            return super().send(request)
        except HTTPClientError as error:
            reason = error.kwargs.get("error")
            if not isinstance(reason, NotSent):
                raise
            raise EndpointConnectionError(endpoint_url=request.url or "", error=reason) from reason

    def _get_connection_manager(self, url: str, proxy_url: str | None = None) -> Any:  # noqa: ANN401 - urllib3's
        if proxy_url is None:
            return self._direct
        return super()._get_connection_manager(url, proxy_url)  # type: ignore[misc] # not in the stubs

    def _get_ssl_context(self) -> ssl.SSLContext:
        return self._context

    def _setup_ssl_cert(self, *_: object) -> None:
        """Nothing: the context decides, and botocore would put one file in the place of all authorities."""


class _Pools:
    """A manager's pools, of which the last one is found again without taking an address to pieces."""

    def __init__(self, manager: Any) -> None:  # noqa: ANN401 - urllib3's
        self._manager = manager
        self._last: tuple[str, Any] = ("", None)

    def connection_from_url(self, url: str) -> Any:  # noqa: ANN401 - urllib3's
        """The pool of connections to where the address leads."""
        # Origin and pool change at once: other threads may ask for other buckets meanwhile.
        last, origin = self._last, origin_of(url)
        if origin != last[0]:
            last = self._last = origin, self._manager.connection_from_url(url)
        return last[1]


def use(
    client: Any,  # noqa: ANN401 - of any service
    guard: Guard | None,
    context: ssl.SSLContext,
    timeout: tuple[float, float],
) -> None:
    """Let the client send its requests with a session of ours."""
    session = Session(client.meta.endpoint_url, guard, context, timeout)
    client._endpoint.http_session = session  # noqa: SLF001 - botocore has no other way to say so


def session_of(client: Any) -> Session:  # noqa: ANN401 - of any service
    """What the client sends its requests with."""
    session: Session = client._endpoint.http_session  # noqa: SLF001 - as above
    return session


class _Answered(BoundedResponse, AWSHTTPResponse):
    """An answer whose first line was read before the body was sent."""


class _Expecting(AWSConnection):
    """A connection that waits for the word to send the body, but neither for ever nor without an end.

    Where there is no such word, the head of a request leaves with the body's first bytes.
    """

    sock: Any
    timeout: Any
    response_class: Any
    _expect_header_set: bool
    _is_100_continue_status: Callable[[bytes], bool]
    _send_message_body: Callable[[Any], None]
    _is_head = False  # what is sent next
    _head = b""

    def getresponse(self) -> Any:  # noqa: ANN401 - as the base class has it
        if self._head:  # of a request without a body
            self.send(b"")
        return super().getresponse()  # type: ignore[misc] # not in the stubs

    def send(self, data: Any) -> None:  # noqa: ANN401 - as the base class has it
        if self._is_head:
            self._head, self._is_head = data, False
            return
        head, self._head = self._head, b""
        if head and not isinstance(data, bytes):
            super().send(head)  # type: ignore[arg-type] # bytes, whatever the stubs say
            head = b""
        super().send(head + data if head else data)

    def _send_output(self, message_body: Any = None, *args: Any, **options: Any) -> None:  # noqa: ANN401 - too
        self._head, self._is_head = b"", not self._expect_header_set
        super()._send_output(message_body, *args, **options)  # type: ignore[misc] # not in the stubs

    def _handle_expect_response(self, message_body: Any) -> None:  # noqa: ANN401 - as the base class has it
        with Bounded(self.sock, self.sock.makefile("rb", 0)) as answer:
            line = answer.readline(LONGEST_LINE)
            goes_on = self._is_100_continue_status(line)
            while goes_on and answer.readline(LONGEST_LINE).strip():
                pass  # headers of the word to go on, which say nothing
        self.sock.settimeout(self.timeout)
        if goes_on:
            self._send_message_body(message_body)
        elif line.startswith(b"HTTP/"):
            version, status, reason = (*line.split(None, 2), b"")[:3]
            told = (version.decode("latin-1"), int(status), reason.decode("latin-1").strip())
            self.response_class = partial(_Answered, status_tuple=told)
            self._response_received = True


class _Plain(_Expecting, Connection):  # type: ignore[misc] # botocore's arguments, by its stubs, are others
    """A connection of S3."""


class _Tls(_Expecting, TlsConnection):  # type: ignore[misc] # as above
    """The same over TLS."""
