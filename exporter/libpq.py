"""How a PostgreSQL server is reached: what libpq is told, and how its address is shown.

What source and ledger have in common. It connects to nothing. No error of libpq's parser is shown, and no
URL that libpq would cut in the middle of a password gets as far as that: it may be quoted.
"""

from __future__ import annotations

import re
import ssl
from typing import TYPE_CHECKING, Any, Final, Protocol

import psycopg
from psycopg.conninfo import conninfo_to_dict

from exporter.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_DEFAULTS: Final[Mapping[str, str]] = {
    "application_name": "audit-exporter",
    "connect_timeout": "10",
    # A peer that vanished without a word is noticed within a minute, not after the system's two hours.
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "60000",
}
_HOST: Final = r"(?:\[[^\]]*\]|[^:,?\[\]]*)(?::[0-9]*)?"
_HOSTS: Final = re.compile(rf"{_HOST}(?:,{_HOST})*(?:\?.*)?", re.DOTALL)


class Server(Protocol):
    """What settings say about a server: ``url`` as libpq takes it, several hosts and sockets included.

    ``tls_mode`` is one of libpq's `sslmode`s, None as the URL says; it, the password and the files go
    before what the URL says.
    """

    @property
    def url(self) -> str: ...  # noqa: D102 - see the class
    @property
    def password(self) -> str | None: ...  # noqa: D102
    @property
    def tls_mode(self) -> str | None: ...  # noqa: D102
    @property
    def ca_file(self) -> Path | None: ...  # noqa: D102
    @property
    def cert_file(self) -> Path | None: ...  # noqa: D102
    @property
    def key_file(self) -> Path | None: ...  # noqa: D102


def parameters(server: Server, part: str) -> dict[str, str]:
    """What libpq is told. ``part`` of the configuration says this: source or ledger.

    Raises ConfigError, without the URL.
    """
    parsed = _parsed(server.url) if _is_plain(server.url) else {}
    if "dbname" not in parsed:
        raise ConfigError(
            f"{part}.url is not of the form postgresql://USER@HOST:5432/DATABASE",
            hint="in a user's name or password, write characters such as @ : / ? % as %40 %3A %2F %3F %25, "
            f"or give the password as {part}.password",
        )
    given = {
        "password": server.password,
        "sslmode": server.tls_mode,
        "sslrootcert": server.ca_file,
        "sslcert": server.cert_file,
        "sslkey": server.key_file,
    }
    told = {**_DEFAULTS, **parsed, **{name: str(one) for name, one in given.items() if one is not None}}
    if told.get("sslmode", "").startswith("verify") and "sslrootcert" not in told:
        # The libpq of a wheel looks for the system's authorities at a place of its own.
        told["sslrootcert"] = ssl.get_default_verify_paths().cafile or "system"
    return {**told, "client_encoding": "utf8"}


def place_of(parameters: Mapping[str, Any]) -> str:
    """The address as messages show it, without user and password."""
    hosts = str(parameters.get("host") or parameters.get("hostaddr") or "")
    if not hosts or hosts.startswith(("/", "@")):  # the folder of a Unix socket
        return f"postgresql:///{parameters['dbname']}" + (f"?host={hosts}" if hosts else "")
    ports = str(parameters.get("port") or "").split(",")
    ports += ports[-1:] * hosts.count(",")  # one for all
    named = [f"{host}:{port or 5432}" for host, port in zip(hosts.split(","), ports, strict=False)]
    return f"postgresql://{','.join(named)}/{parameters['dbname']}"


def _parsed(url: str) -> dict[str, str]:
    """Nothing if libpq cannot take the URL apart: its error must not even be the context of another."""
    try:
        parts = conninfo_to_dict("postgresql://" + url.partition("://")[2])
    except psycopg.Error:
        return {}
    return {name: str(value) for name, value in parts.items()}


def _is_plain(url: str) -> bool:
    """Whether nothing of a password that is not percent-encoded ends up in host, port or another name."""
    scheme, _, rest = url.partition("://")
    authority, _, path = rest.partition("/")
    user, _, hosts = authority.rpartition("@")
    is_encoded = "@" not in user + path.partition("?")[0] and "?" not in user
    is_postgres = scheme.partition("+")[0] in ("postgresql", "postgres")
    return is_postgres and is_encoded and _HOSTS.fullmatch(hosts) is not None
