"""Keeps addresses that a customer chose from leading to the inside: this machine, its network, its cloud.

https alone, no user or password, and no private, loopback, link-local, metadata or otherwise special
address, unless the operator allows the host by name. It must not open a connection, and shows of an
address its host alone: paths and queries hold secrets.

Behind a proxy of the operator (`HTTPS_PROXY`, `HTTP_PROXY`, not for hosts in `NO_PROXY`) names are the
proxy's to resolve: what an address says by itself is looked at then, and where its name leads if this
machine's DNS knows it; the rest is the proxy's to refuse.
"""

from __future__ import annotations

import re
import socket
from functools import lru_cache, partial
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING, Final, NamedTuple

from exporter.errors import ConfigError, NotSent
from exporter.network.addresses import Place, place_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from exporter.network.addresses import Address

# Narrow on purpose: what every library reads in the same way, so that none connects to another host.
_URL: Final = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:(?P<port>[0-9]{1,5}))?(/[!-~]*)?",
    re.IGNORECASE | re.ASCII,
)
_PORTS: Final = {"http": 80, "https": 443}
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
_LABEL: Final = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_LONGEST_NAME: Final = 253
_INSIDE: Final = (  # domains that the public DNS never has, and whoever has a network of their own does
    *("localhost", "localdomain", "local", "internal", "intranet", "intra", "private", "corp", "home", "lan"),
    *("svc", "consul", "test", "example", "invalid", "onion", "alt", "home.arpa"),
)
_ALLOWED: Final = re.compile(
    r"(?P<below>\*\.)?(?P<host>\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:(?P<port>[0-9]{1,5}))?",
    re.IGNORECASE | re.ASCII,
)
_AUTHORITY_END: Final = re.compile(r"[/\\?#]")
_REMEMBERED: Final = 1024  # addresses of hosts, of which a run speaks to few
DNS_HINT: Final = "check how the name is written, and the DNS of this machine"
PLAIN_HINT: Final = "write it as https://HOST/ or https://HOST:PORT/, without user, password, spaces or #"


class Target(NamedTuple):
    """Whom an address names: ``host`` in lower case, without brackets."""

    scheme: str
    host: str
    port: int

    @property
    def address(self) -> Address | None:
        """The host, if it is no name."""
        try:
            return ip_address(self.host)
        except ValueError:
            return None

    @property
    def shown(self) -> str:
        """The host as addresses have it."""
        return f"[{self.host}]" if ":" in self.host else self.host


class Allowed(NamedTuple):
    """A host that the operator allows, on one port or on all; ``below`` is about every host of a domain.

    ``in_clear``: also over http.
    """

    host: str
    port: int | None
    below: bool
    in_clear: bool = True

    def covers(self, target: Target) -> bool:
        """Whether it is about this one."""
        host = target.host.removesuffix(".")
        is_it = host.endswith(f".{self.host}") if self.below else host == self.host
        return is_it and self.port in (None, target.port)


def resolve(host: str, port: int) -> Sequence[str]:
    """The addresses that this machine's resolver has for a name. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class Guard:
    """Decides about addresses. ``allowed`` are hosts as `network.allow` has them.

    `HOST` and `HOST:PORT` may be anywhere and be spoken to over http. So may `*.DOMAIN`, except for this
    machine and the metadata of its cloud: whoever can add a name to the domain must not reach those.
    Raises ConfigError for what is no host.
    """

    def __init__(
        self, allowed: Sequence[str] = (), *, resolver: Callable[[str, int], Sequence[str]] = resolve
    ) -> None:
        self._allowed = tuple(map(_read_allowed, allowed))
        self._resolver = resolver
        self._proxy_for = lru_cache(_REMEMBERED)(proxy_for)
        self._read = lru_cache(_REMEMBERED)(partial(self._inspected, setting="the address"))
        self._unknown: set[str] = set()  # names that a proxy alone can resolve: asking may take seconds

    def allowing(self, *hosts: str, in_clear: bool = False) -> Guard:
        """The same, with further hosts allowed: fixed ones that the program itself knows.

        They may be anywhere. Only ``in_clear`` may they be spoken to over http: no customer is to choose
        that for them.
        """
        guard = Guard(hosts, resolver=self._resolver)
        known = (allowed._replace(in_clear=in_clear) for allowed in guard._allowed)
        guard._allowed = (*known, *self._allowed)
        return guard

    def inspect(self, url: str, setting: str) -> None:
        """What can be told without asking anybody; raises ConfigError, naming the ``setting``."""
        self._inspected(url, setting)

    def addresses(self, url: str) -> Sequence[str]:
        """The addresses of the URL's host, all of them fit to be talked to; none if a proxy connects.

        A name is resolved every time, because what it leads to may change. Raises NotSent if an address is
        not fit, or the host has none.
        """
        try:
            target = self._read(url)
            if self.proxy_for(url) is not None:
                self._judge_for_proxy(target)
                return []
            if target.address is not None:
                return [str(target.address)]
            return self._resolved(target)
        except ConfigError as error:
            raise NotSent(error.message, hint=error.hint) from error

    def proxy_for(self, url: str) -> str | None:
        """The operator's proxy for this address, as the environment had it when its host was first asked for.

        To look through the environment takes as long as a twentieth of a small upload.
        """
        return self._proxy_for(origin_of(url))

    def is_named(self, url: str) -> bool:
        """Whether the operator allows this very host, and not merely a domain that it belongs to."""
        return self._allows(read_target(url, "the address"), Place.HERE)

    def _inspected(self, url: str, setting: str) -> Target:
        target = read_target(url, setting)
        if target.scheme != "https" and not self._allows_in_clear(target):
            raise ConfigError(
                f"{setting} is not https: {target.shown} would be spoken to in the clear",
                hint=f"write https://, or {_allow(target)}",
            )
        if target.address is not None:
            self._judge(target, target.address, setting)
        return target

    def _resolved(self, target: Target) -> Sequence[str]:
        """What the name leads to now; a connection has to go there, and not where it leads to later."""
        try:
            found = self._resolver(target.host, target.port)
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or "it is no name"
            raise NotSent(f"the host {target.host} cannot be found: {reason}", hint=DNS_HINT) from error
        if not found:
            raise NotSent(f"the host {target.host} has no address", hint=DNS_HINT)
        for address in found:
            self._judge(target, ip_address(address), "the address")
        return found

    def _judge(self, target: Target, address: Address, setting: str) -> None:
        place = place_of(address)
        if place is Place.PUBLIC or self._allows(target, place):
            return
        leads_to = "" if target.address is not None else f" leads to {address}, which"
        never = place in {Place.LINK, Place.PLATFORM}
        hint = "name the host itself: nothing that is delivered to is there" if never else _allow(target)
        raise ConfigError(f"{setting} must not be used: {target.shown}{leads_to} is {place}", hint=hint)

    def _judge_for_proxy(self, target: Target) -> None:
        """What a name says by itself, and this machine's DNS, of where a proxy would find it."""
        if target.address is not None or self._allows(target, Place.HERE):
            return
        if _is_inside(target.host) and not self._allows(target):
            raise ConfigError(
                f"the address must not be used: {target.host} is no name of the public internet",
                hint=_allow(target),
            )
        if target.host not in self._unknown:
            try:
                self._resolved(target)
            except NotSent:  # nobody here knows the name: behind a proxy that is usual
                self._unknown.add(target.host)

    def _allows_in_clear(self, target: Target) -> bool:
        """Whether the operator allows the host over http."""
        return any(allowed.in_clear and allowed.covers(target) for allowed in self._allowed)

    def _allows(self, target: Target, place: Place = Place.PRIVATE) -> bool:
        """Whether the operator allows the host, also when it leads to that place."""
        return any(
            allowed.covers(target) and (place is Place.PRIVATE or not allowed.below)
            for allowed in self._allowed
        )


def origin_of(url: str) -> str:
    """The address without its path and query, ending in a slash: all that says where a connection goes."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{_AUTHORITY_END.split(rest, maxsplit=1)[0]}/"


def read_target(url: str, setting: str) -> Target:
    """Whom the address names. Raises ConfigError for whatever two readers could understand differently."""
    authority = _AUTHORITY_END.split(url.partition("://")[2], maxsplit=1)[0]
    if "@" in authority:
        raise ConfigError(f"{setting} has a user or a password in front of its host", hint=PLAIN_HINT)
    match = _URL.fullmatch(url)
    if match is None or re.search(r"[\\#]", url):
        raise ConfigError(f"{setting} is no plain https address", hint=PLAIN_HINT)
    scheme = match["scheme"].lower()
    port = int(match["port"] or _PORTS[scheme])
    if not 1 <= port <= 65535:  # noqa: PLR2004 - every port there is
        raise ConfigError(f"{setting} has no port from 1 to 65535", hint=PLAIN_HINT)
    return Target(scheme, _read_host(match["host"].lower(), setting), port)


def _read_host(host: str, setting: str) -> str:
    """The host in the one spelling of its address; a name stays as it is."""
    try:
        if host.startswith("["):
            return str(IPv6Address(host[1:-1]))
        labels = host.removesuffix(".").split(".")
        if _NUMBER.fullmatch(labels[-1]):  # no name ends so; C libraries take 127.1 and 0x7f000001
            return str(IPv4Address(host))
    except ValueError as error:
        raise ConfigError(
            f"{setting} has an address that is written in an unusual way: {host}",
            hint="write IPv4 as four decimal numbers, IPv6 in brackets",
        ) from error
    if len(host) > _LONGEST_NAME or not all(map(_LABEL.fullmatch, labels)):
        raise ConfigError(f"{setting} has no host that the DNS could know", hint=PLAIN_HINT)
    return host


def proxy_for(url: str) -> str | None:
    """The operator's proxy for this address, None if there is none and the connection is direct."""
    from urllib.parse import urlsplit
    from urllib.request import getproxies, proxy_bypass

    parts = urlsplit(url)
    proxy = getproxies().get(parts.scheme)
    return proxy if proxy and not proxy_bypass(parts.netloc) else None


def _read_allowed(text: str) -> Allowed:
    match = _ALLOWED.fullmatch(text)
    if match is None:
        raise ConfigError(
            f"network.allow has '{text}', which is no host", hint="write HOST, HOST:PORT or *.DOMAIN"
        )
    host = _read_host(match["host"].lower(), "network.allow").removesuffix(".")
    return Allowed(host, int(match["port"]) if match["port"] else None, bool(match["below"]))


def _is_inside(name: str) -> bool:
    """Whether the public DNS cannot have the name."""
    name = name.removesuffix(".")
    return "." not in name or any(name.endswith(f".{domain}") for domain in _INSIDE)


def _allow(target: Target) -> str:
    host = f'"{target.shown}"' if ":" in target.host else target.host.rstrip(".")
    return f"allow it by name: network: {{allow: [{host}]}}"
