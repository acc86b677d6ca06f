"""What guarded sessions are made of: requests and urllib3, connecting only where a guard allows.

Loaded by ``session`` alone, when the first session is made: requests takes a while to load. It must not
know what is spoken.
"""

from __future__ import annotations

from http.cookiejar import DefaultCookiePolicy
from typing import TYPE_CHECKING, Any

import requests
from requests.adapters import HTTPAdapter
from requests.exceptions import InvalidSchema, InvalidURL
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError

from exporter.errors import NotSent
from exporter.network.answers import BoundedResponse
from exporter.network.connecting import connected
from exporter.network.guard import proxy_for

if TYPE_CHECKING:
    import socket
    import ssl

    from urllib3.poolmanager import PoolManager

    from exporter.network.guard import Guard

PROXY_HINT = (
    "write HTTPS_PROXY as http://HOST:PORT, with a user and a password in front of the host if need be"
)


class GuardedSession(requests.Session):
    """A session without a memory: no redirects, cookies or `.netrc`, and of the environment proxies alone."""

    def __init__(self, adapter: GuardedAdapter) -> None:
        super().__init__()
        self.trust_env = False
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=()))
        self.mount("https://", adapter)
        self.mount("http://", adapter)

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Nowhere: the answer is what it is, whatever the caller asked for."""
        del resp
        return None


class GuardedAdapter(HTTPAdapter):
    """Sends requests to hosts that the guard lets through, once each.

    What callers say of trust and proxies does not count. ``timeout`` is (connect, idle), in seconds.
    """

    def __init__(self, guard: Guard, context: ssl.SSLContext, timeout: tuple[float, float]) -> None:
        self._guard = guard
        self._context = context
        self._timeout = timeout
        super().__init__(max_retries=0)
        _connect_with(self.poolmanager, guard, timeout)

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,  # noqa: FBT001, FBT002 - as the base class has it
        timeout: Any = None,  # noqa: ANN401
        *_trust: object,
        **_more_trust: object,
    ) -> requests.Response:
        """One try, through the operator's proxy if there is one. Raises NotSent, or what requests raises."""
        url = request.url or ""
        proxy = proxy_for(url)
        if proxy is not None:
            self._guard.addresses(url)
        request.headers["Accept-Encoding"] = "identity"  # a compressed answer could grow without bounds
        proxies = {} if proxy is None else {url.partition(":")[0]: proxy}
        try:
            answer = super().send(request, stream=stream, timeout=timeout or self._timeout, proxies=proxies)
        except (InvalidSchema, InvalidURL) as error:  # before anything was sent; their words show addresses
            raise NotSent("the proxy of the environment is of no known kind", hint=PROXY_HINT) from error
        answer.raw.headers.pop("Content-Encoding", None)
        return answer

    def init_poolmanager(self, *args: Any, **options: Any) -> None:  # noqa: ANN401 - as the base class has it
        """Pools that trust whom we trust."""
        super().init_poolmanager(*args, **options, ssl_context=self._context)

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:  # noqa: ANN401 - as the base class has it
        """The same for connections through a proxy, which finds the host by itself."""
        if proxy not in self.proxy_manager:
            manager = super().proxy_manager_for(proxy, **options, ssl_context=self._context)
            _connect_with(manager, None, self._timeout)
        return self.proxy_manager[proxy]

    def cert_verify(self, *args: object) -> None:
        """Nothing: the context decides, and requests would have it load all authorities once more."""


# --- Connections ---------------------------------------------------------------------------------


class _Connection(HTTPConnection):
    """A connection to an address that the guard looked at; those to a proxy have no guard."""

    scheme = "http"
    guard: Guard | None = None
    connect_s: float
    idle_s: float
    response_class = BoundedResponse

    def connect(self) -> None:
        """Connect, or raise NotSent: nothing of a request has left before this ends."""
        try:
            super().connect()
        except (OSError, HTTPError) as error:
            raise _not_connected(self, error) from error

    def request(self, *args: Any, **options: Any) -> None:  # noqa: ANN401 - as the base class has it
        """Send, waiting as long as for an answer: urllib3 would wait no longer than for a connection."""
        if self.sock is None:
            self.connect()
        self.timeout = self.idle_s
        super().request(*args, **options)

    def _new_conn(self) -> socket.socket:
        return super()._new_conn() if self.guard is None else self._guarded(self.guard)

    def _guarded(self, guard: Guard) -> socket.socket:
        host = f"[{self.host}]" if ":" in self.host else self.host
        addresses = guard.addresses(f"{self.scheme}://{host}:{self.port}/")
        limit_s = self.timeout if isinstance(self.timeout, int | float) else self.connect_s
        return connected(addresses, self.port, limit_s)


class _TlsConnection(_Connection, HTTPSConnection):
    """The same over TLS: the certificate is checked against the name, wherever it led to."""

    scheme = "https"


def _connect_with(manager: PoolManager, guard: Guard | None, timeout: tuple[float, float]) -> None:
    """Let all connections of these pools be ours."""
    own = {"guard": guard, "connect_s": timeout[0], "idle_s": timeout[1]}
    plain, tls = type("Plain", (_Connection,), own), type("Tls", (_TlsConnection,), own)
    manager.pool_classes_by_scheme = {
        "http": type("PlainPool", (HTTPConnectionPool,), {"ConnectionCls": plain}),
        "https": type("TlsPool", (HTTPSConnectionPool,), {"ConnectionCls": tls}),
    }


def _not_connected(connection: _Connection, error: Exception) -> NotSent:
    host = connection._tunnel_host or connection.host  # noqa: SLF001 - behind a proxy, whom we wanted
    return NotSent(
        f"{host} cannot be reached: {_words(error)}",
        hint=f"check the address, ca_file, and the network between here and {host}",
    )


def _words(error: BaseException) -> str:
    """What went wrong, without the objects that urllib3 puts in front of it."""
    if isinstance(error, HTTPError) and error.__cause__ is not None:
        return _words(error.__cause__)
    return getattr(error, "verify_message", None) or getattr(error, "strerror", None) or str(error)
