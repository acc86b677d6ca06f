"""Which driver an address names, and how its connection is protected: what sources and ledgers share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from exporter.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from exporter.config import Config, LedgerSettings, Secret, SourceSettings

Made = TypeVar("Made")

_EXAMPLES = {
    "sqlite": "sqlite:///FILE",
    "postgresql": "postgresql://USER@HOST/DATABASE",
    "postgres": "",
    "mysql": "mysql://USER@HOST/DATABASE",
    "mariadb": "",
}


def by_scheme(
    url: Secret, known: Mapping[str, Callable[[Config], Made]], kind: str
) -> Callable[[Config], Made]:
    """What makes the ``kind`` (source or ledger) that a URL names. Raises ConfigError, without the URL."""
    scheme, separator, _ = url.reveal().partition("://")
    scheme = scheme.partition("+")[0]
    if scheme not in known:
        names = ", ".join(filter(None, (_EXAMPLES[name] for name in known)))
        # Without the separator nobody knows which part of the text may be shown.
        wrong = f"there is no {kind} for '{scheme}' addresses" if separator else f"{kind}.url is no address"
        raise ConfigError(wrong, hint=f"{kind}.url can be: {names}")
    return known[scheme]


def connection(settings: SourceSettings | LedgerSettings) -> dict[str, Any]:
    """The address, password and TLS settings as a database driver's options name them."""
    tls = settings.tls
    return {
        "url": settings.url.reveal(),
        "password": None if settings.password is None else settings.password.reveal(),
        "tls_mode": None if tls is None else tls.mode,
        "ca_file": None if tls is None else tls.ca_file,
        "cert_file": None if tls is None else tls.cert_file,
        "key_file": None if tls is None else tls.key_file,
    }


def refuse_server_settings(settings: SourceSettings | LedgerSettings, kind: str) -> None:
    """Raise ConfigError for a password or TLS on a file: nobody should believe that it protects anything."""
    for key in ("password", "tls"):
        if getattr(settings, key) is not None:
            raise ConfigError(
                f"{kind}.{key} means nothing to a SQLite file", hint=f"remove {kind}.{key}, or name a server"
            )
