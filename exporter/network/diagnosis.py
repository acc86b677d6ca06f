"""Where the way to a host ends: guard, DNS, TCP, TLS, HTTP or the clock, with what to do about it.

For `check`, after something failed. It must not send anything but a request for `/` without credentials.
"""

from __future__ import annotations

import ssl
from base64 import b64encode
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from exporter.errors import ConfigError, NotSent
from exporter.network.answers import BoundedResponse
from exporter.network.certificates import untrusted
from exporter.network.connecting import connected
from exporter.network.guard import proxy_for, read_target
from exporter.network.session import CONNECT_TIMEOUT_S, tls_context

if TYPE_CHECKING:
    import socket
    from pathlib import Path

    from cryptography.x509 import Certificate

    from exporter.network.guard import Guard, Target

MOST_SKEW: Final = timedelta(minutes=5)  # beyond it, stores refuse signatures and authorities tokens
PORT_HINT: Final = "check that the port is the one for https, and what lies in between"
PROXY_HINT: Final = "write HTTPS_PROXY as http://HOST:PORT"
CLOCK_FIX: Final = "timedatectl set-ntp true"


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Where the way ends, and what to do about it; ``fix`` is text to copy as it is."""

    message: str
    hint: str
    fix: str = ""


def obstacle(
    url: str, guard: Guard, *, ca_file: Path | None = None, timeout_s: float = CONNECT_TIMEOUT_S
) -> Obstacle | None:
    """What keeps this machine from talking to the URL's host, None if nothing does; never raises.

    Each step may take ``timeout_s``. Behind a proxy that is not itself plain http, the way is followed up
    to the proxy.
    """
    try:
        _Way(url, guard, ca_file, timeout_s).follow()
    except (NotSent, ConfigError) as error:
        return Obstacle(error.message, error.hint, error.fix)
    return None


class _Way:
    """The way to one host. What ends it is raised as NotSent."""

    def __init__(self, url: str, guard: Guard, ca_file: Path | None, timeout_s: float) -> None:
        self._addresses = guard.addresses(url)
        self._target = read_target(url, "the address")
        self._proxy = _Proxy.read(proxy_for(url))
        self._context = tls_context(ca_file)
        self._has_ca_file = ca_file is not None
        self._timeout_s = timeout_s

    def follow(self) -> None:
        """Go as far as an answer that tells the time."""
        with closing(self._connected()) as sock:
            if self._proxy is not None and not (self._proxy.tunnels and self._target.scheme == "https"):
                return
            if self._target.scheme == "http":
                self._ask(sock)
                return
            with self._secured(sock) as secured:
                self._ask(secured)

    def _connected(self) -> socket.socket:
        target = self._target
        try:
            if self._proxy is not None:
                return self._proxy.connected(target, self._timeout_s)
            return connected(self._addresses, target.port, self._timeout_s)
        except OSError as error:
            place = target.shown
            if target.address is None:
                place += f" ({', '.join(self._addresses)})"
            raise _no_connection(error, place, target.port, self._timeout_s) from error

    def _secured(self, sock: socket.socket) -> ssl.SSLSocket:
        host = self._target.host.removesuffix(".")
        try:
            return self._context.wrap_socket(sock, server_hostname=host)
        except ssl.SSLCertVerificationError as error:
            certificate = self._certificate()
            raise untrusted(error, certificate, host, has_ca_file=self._has_ca_file) from error
        except OSError as error:
            raise _no_tls(error, self._target, self._timeout_s) from error

    def _certificate(self) -> Certificate | None:
        """The one that was not trusted: of a connection of its own, over which nothing is sent."""
        from cryptography.x509 import load_der_x509_certificate

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        try:
            with (
                closing(self._connected()) as sock,
                context.wrap_socket(sock, server_hostname=self._target.host.removesuffix(".")) as secured,
            ):
                return load_der_x509_certificate(secured.getpeercert(binary_form=True) or b"")
        except (OSError, NotSent, ValueError):  # gone, or unreadable: OpenSSL's words have to do
            return None

    def _ask(self, sock: socket.socket) -> None:
        """Let the host say what time it is."""
        target = self._target
        connection = HTTPConnection(target.host, target.port)
        connection.response_class = BoundedResponse
        connection.sock = sock
        with suppress(OSError):  # why it was not taken is in what the host sent before
            connection.request("HEAD", "/", headers={"Connection": "close"})
        try:
            date = connection.getresponse().headers["Date"]
        except (OSError, HTTPException) as error:
            raise _no_answer(error, target, self._timeout_s) from error
        _compare_clocks(target, date)


@dataclass(frozen=True, slots=True)
class _Proxy:
    """The operator's proxy."""

    scheme: str
    host: str
    port: int
    headers: dict[str, str]

    @classmethod
    def read(cls, url: str | None) -> _Proxy | None:
        if url is None:
            return None
        try:
            parts = urlsplit(url if "://" in url else f"http://{url}")
            port = parts.port or (443 if parts.scheme == "https" else 80)
        except ValueError:  # not chained: it may quote a password
            raise NotSent(
                "the proxy of the environment has no host or port that is one", hint=PROXY_HINT
            ) from None
        headers = {}
        if parts.username is not None:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            headers["Proxy-Authorization"] = f"Basic {b64encode(pair.encode()).decode()}"
        return cls(parts.scheme, parts.hostname or "", port, headers)

    @property
    def tunnels(self) -> bool:
        """Whether this module knows how to go on behind it."""
        return self.scheme == "http"

    def connected(self, target: Target, timeout_s: float) -> socket.socket:
        """A socket to the target, or to the proxy alone if it is not one for tunnels."""
        connection = HTTPConnection(self.host, self.port, timeout=timeout_s)
        if self.tunnels and target.scheme == "https":
            connection.set_tunnel(target.host, target.port, self.headers)
        try:
            connection.connect()
        except (OSError, HTTPException) as error:
            words = "".join(one if one.isprintable() else " " for one in str(error))  # of the proxy, mostly
            raise NotSent(
                f"the environment's proxy {self.host}:{self.port} does not lead to {target.shown}: {words}",
                hint=f"let the proxy connect to {target.shown}:{target.port}, or name the host in NO_PROXY",
            ) from error
        return connection.sock


# --- What ended the way, in words ----------------------------------------------------------------


def _no_connection(error: OSError, place: str, port: int, timeout_s: float) -> NotSent:
    if isinstance(error, ConnectionRefusedError):
        return NotSent(
            f"nothing listens on port {port} of {place}",
            hint="check the port, and that the server runs; a firewall may also refuse in its place",
        )
    if isinstance(error, TimeoutError):
        return NotSent(
            f"port {port} of {place} does not answer within {timeout_s:g} s",
            hint="check the address, and let firewalls and security groups pass what this machine sends",
        )
    return NotSent(
        f"there is no way from this machine to {place}: {error.strerror or error}",
        hint="check this machine's routes, and whether it has an address of that kind (IPv4, IPv6)",
    )


def _no_tls(error: OSError, target: Target, timeout_s: float) -> NotSent:
    place = f"port {target.port} of {target.shown}"
    reason = getattr(error, "reason", None) or ""
    if isinstance(error, TimeoutError):
        return NotSent(f"{place} takes connections, and says nothing for {timeout_s:g} s", hint=PORT_HINT)
    if "PROTOCOL_VERSION" in reason or "UNSUPPORTED_PROTOCOL" in reason:
        return NotSent(
            f"{place} speaks no TLS that is still safe", hint="let the server speak TLS 1.2 or newer"
        )
    if "WRONG_VERSION_NUMBER" in reason or "RECORD" in reason:
        return NotSent(f"{place} does not speak TLS: it may be plain http", hint=PORT_HINT)
    if "ALERT" in reason:
        return NotSent(
            f"{place} refuses TLS with this machine: {reason.replace('_', ' ').lower()}",
            hint="let the server accept TLS 1.2 or newer for this host name",
        )
    return NotSent(f"{place} breaks off instead of speaking TLS: {error.strerror or error}", hint=PORT_HINT)


def _no_answer(error: Exception, target: Target, timeout_s: float) -> NotSent:
    place = f"port {target.port} of {target.shown}"
    if isinstance(error, TimeoutError):
        return NotSent(
            f"{place} takes requests, and answers none within {timeout_s:g} s",
            hint="check the server's health, and that the port is the one for its clients",
        )
    if "CERTIFICATE_REQUIRED" in (getattr(error, "reason", None) or ""):
        return NotSent(
            f"{place} asks for a certificate of this program, which has none",
            hint="let the server accept clients without certificates",
        )
    if isinstance(error, OSError):
        return NotSent(
            f"{place} breaks off instead of answering: {error.strerror or error}",
            hint="check the server, and what lies in between",
        )
    return NotSent(f"{place} does not speak HTTP", hint=PORT_HINT)


def _compare_clocks(target: Target, date: str | None) -> None:
    try:
        there = parsedate_to_datetime(date or "")
    except ValueError:  # none, or none that can be read: that is no obstacle
        return
    there = there if there.tzinfo else there.replace(tzinfo=UTC)
    ahead = datetime.now(UTC) - there
    if abs(ahead) > MOST_SKEW:
        minutes = round(abs(ahead).total_seconds() / 60)
        raise NotSent(
            f"this machine's clock is {minutes} minutes {'ahead of' if ahead > timedelta() else 'behind'}"
            f" that of {target.shown}",
            hint="set it by NTP: stores refuse what is signed at another time than theirs",
            fix=CLOCK_FIX,
        )
