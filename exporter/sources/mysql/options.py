"""How a MariaDB or MySQL database is reached: options, the URL taken apart, TLS. It opens nothing."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

from exporter.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

_URL_HINT = (
    "mysql://USER@HOST:3306/DATABASE, or ?unix_socket=PATH instead of the host; "
    "characters such as @ : / ? # % in a password as %40 …"
)


@dataclass(frozen=True, slots=True)
class MysqlOptions:
    """How a database is reached: ``mysql://USER:PASSWORD@HOST:PORT/DATABASE?unix_socket=PATH``.

    ``tls_mode`` is disable, require, verify-ca or verify-full; None encrypts if the server can, without
    asking who answers. ``longest_statement_s``: no statement that inserts records takes longer.
    """

    url: str = field(repr=False)
    password: str | None = field(default=None, repr=False)
    tls_mode: str | None = None
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    statement_timeout_s: float = 1800.0
    lock_timeout_s: float = 10.0
    seal_wait_s: float = 10.0
    longest_statement_s: float = 3600.0
    connect_timeout_s: int = 10


@dataclass(frozen=True, slots=True)
class Address:
    """A URL taken apart."""

    host: str
    port: int
    unix_socket: str | None
    user: str
    password: str | None = field(repr=False)
    database: str

    @classmethod
    def of(cls, url: str) -> Address:
        """Raises ConfigError, which shows nothing of the URL: nobody knows where in it the password is."""
        try:
            parts = urlsplit(url)
            query = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
            port = parts.port
        except ValueError:
            raise ConfigError("source.url is no URL of a MySQL database", hint=_URL_HINT) from None
        database = unquote(parts.path.removeprefix("/"))
        is_whole = database and "/" not in parts.path.removeprefix("/") and not parts.fragment
        if not is_whole or not parts.username or not query.keys() <= {"unix_socket"}:
            raise ConfigError("source.url is no URL of a MySQL database", hint=_URL_HINT)
        return cls(
            host=parts.hostname or "localhost",
            port=port or 3306,
            unix_socket=query.get("unix_socket"),
            user=unquote(parts.username),
            password=None if parts.password is None else unquote(parts.password),
            database=database,
        )

    def __str__(self) -> str:
        """For people."""
        return f"mysql {self.unix_socket or f'{self.host}:{self.port}'}/{self.database}"


def tls_of(options: MysqlOptions) -> dict[str, Any]:
    """What PyMySQL is given: by itself it encrypts if the server can."""
    mode = options.tls_mode
    if mode == "disable":
        return {"ssl_disabled": True}
    if mode is None and options.ca_file is None and options.cert_file is None:
        return {}
    try:
        context = ssl.create_default_context(cafile=options.ca_file)
        if options.cert_file is not None:
            # Without a password of its own OpenSSL would ask for one on the terminal.
            context.load_cert_chain(options.cert_file, options.key_file, password="")
    except OSError as error:
        message = f"a file of source.tls cannot be read: {error.strerror or error}"
        raise ConfigError(message, hint="ca_file, cert_file and key_file are PEM files") from error
    # Certificates that a server made for itself are not of the strict form.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.check_hostname = mode == "verify-full"
    if mode == "require":
        context.verify_mode = ssl.CERT_NONE
    return {"ssl": context}
