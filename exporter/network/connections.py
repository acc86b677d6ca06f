"""Connections of urllib3 that go only where a guard allows, and that say whether they came about.

For whatever speaks HTTP over urllib3. It must not know what is spoken, nor choose whom to trust.
"""

from __future__ import annotations

from http.client import HTTPException
from typing import TYPE_CHECKING, Any

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError

from exporter.errors import NotSent
from exporter.network.answers import BoundedResponse
from exporter.network.connecting import connected

if TYPE_CHECKING:
    import socket

    from exporter.network.guard import Guard


PROXY_HINT = (
    "write HTTPS_PROXY as http://HOST:PORT, with a user and a password in front of the host if need be"
)


class Connection(HTTPConnection):
    """A connection to an address that the guard looked at; those to a proxy are the operator's own."""

    scheme = "http"
    guard: Guard | None = None
    connect_s: float
    idle_s: float
    response_class = BoundedResponse

    def connect(self) -> None:
        """Connect, or raise NotSent: nothing of a request has left before this ends."""
        wanted = self._tunnel_host  # what goes wrong makes urllib3 forget it
        try:
            super().connect()
        except (OSError, HTTPError, HTTPException) as error:  # the last one: a proxy's odd answer
            if self.proxy is not None:
                raise _no_way_through(self, wanted, error) from error
            raise _not_connected(self.host, error) from error

    def request(self, *args: Any, **options: Any) -> None:  # noqa: ANN401 - as the base class has it
        """Send, waiting as long as for an answer: urllib3 would wait no longer than for a connection."""
        if self.sock is None:
            self.connect()
        self.timeout = self.idle_s
        super().request(*args, **options)

    def _new_conn(self) -> socket.socket:
        if self.guard is None or self.proxy is not None:
            return super()._new_conn()
        return self._guarded(self.guard)

    def _guarded(self, guard: Guard) -> socket.socket:
        host = f"[{self.host}]" if ":" in self.host else self.host
        addresses = guard.addresses(f"{self.scheme}://{host}:{self.port}/")
        limit_s = self.timeout if isinstance(self.timeout, int | float) else self.connect_s
        return connected(addresses, self.port, limit_s)


class TlsConnection(Connection, HTTPSConnection):
    """The same over TLS: the certificate is checked against the name, wherever it led to."""

    scheme = "https"


def pool_classes(
    guard: Guard | None,
    timeout: tuple[float, float],
    *,
    plain: type[HTTPConnection] = Connection,
    tls: type[HTTPSConnection] = TlsConnection,
) -> dict[str, type]:
    """By scheme, what a pool manager makes its pools of. ``timeout`` is (connect, idle), in seconds."""
    own = {"guard": guard, "connect_s": timeout[0], "idle_s": timeout[1]}
    return {
        "http": type("PlainPool", (HTTPConnectionPool,), {"ConnectionCls": type("Plain", (plain,), own)}),
        "https": type("TlsPool", (HTTPSConnectionPool,), {"ConnectionCls": type("Tls", (tls,), own)}),
    }


def _not_connected(host: str, error: Exception) -> NotSent:
    return NotSent(
        f"{host} cannot be reached: {_words(error)}",
        hint=f"check the address, ca_file, and the network between here and {host}",
    )


def _no_way_through(proxy: Connection, wanted: str | None, error: Exception) -> NotSent:
    """The proxy is not there, does not connect to whom we wanted, or that one is not trusted."""
    through = f"the environment's proxy {proxy.host}:{proxy.port}"
    if wanted is None:
        return NotSent(f"{through} cannot be reached: {_words(error)}", hint=PROXY_HINT)
    return NotSent(
        f"{wanted} cannot be reached through {through}: {_words(error)}",
        hint=f"let the proxy connect to {wanted}, or name it in NO_PROXY, and check the address and ca_file",
    )


def _words(error: BaseException) -> str:
    """What went wrong, without the objects that urllib3 puts in front of it."""
    if isinstance(error, HTTPError) and error.__cause__ is not None:
        return _words(error.__cause__)
    words = getattr(error, "verify_message", None) or getattr(error, "strerror", None) or str(error)
    return "".join(one if one.isprintable() else " " for one in words)  # a proxy's words may be among them
