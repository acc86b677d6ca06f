"""Sessions for speaking https with a host that a customer chose: guarded, and one try for each request.

It must not follow a redirect, repeat a request, or read `.netrc`. ``transport`` is what they are made of.
"""

from __future__ import annotations

import ssl
from contextlib import suppress
from functools import cache, lru_cache
from typing import TYPE_CHECKING

from exporter.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    import requests

    from exporter.network.guard import Guard

CONNECT_TIMEOUT_S = 5.0
IDLE_TIMEOUT_S = 60.0
_KEPT_CONTEXTS = 32  # 1 MB each, and 40 ms of work


def new_session(
    guard: Guard,
    *,
    ca_file: Path | None = None,
    timeout: tuple[float, float] = (CONNECT_TIMEOUT_S, IDLE_TIMEOUT_S),
) -> requests.Session:
    """A session that talks to hosts that the ``guard`` lets through, at the very addresses it looked at.

    A redirect comes back as the answer it is. ``timeout`` is for connecting and for each wait, in seconds,
    where a request says none. ``ca_file`` is trusted beside the system's authorities. A connection that
    does not come about raises NotSent, since nothing of the request was sent; what happens later raises
    what requests raises. Raises ConfigError for a ``ca_file`` that cannot be used.
    """
    from exporter.network.transport import GuardedAdapter, GuardedSession

    return GuardedSession(GuardedAdapter(guard, tls_context(ca_file), timeout))


def load(ca_file: Path | None = None) -> None:
    """Load what the first session takes 0.1 s of work to load, so that processes forked after it share it.

    What is wrong with the ``ca_file`` shows when there is a session to make.
    """
    import exporter.network.transport  # noqa: F401 - it loads requests and urllib3

    with suppress(ConfigError):
        tls_context(ca_file)


def tls_context(ca_file: Path | None = None) -> ssl.SSLContext:
    """The client's side of TLS: 1.2 or newer, trusting the system, certifi and the ``ca_file``.

    Everybody with the same file shares one, until the file is another; nobody may change it.
    Raises ConfigError for a file that cannot be used.
    """
    if ca_file is None:
        return _usual_context()
    try:
        found = ca_file.stat()
        return _context_with(ca_file, (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size))
    except ssl.SSLError as error:
        raise ConfigError(
            f"ca_file {ca_file} holds no certificate",
            hint="give the authority's certificate in PEM form, from BEGIN CERTIFICATE to END CERTIFICATE",
        ) from error
    except OSError as error:
        raise ConfigError(
            f"ca_file {ca_file} cannot be read: {error.strerror}", hint="check the path and who may read it"
        ) from error


@lru_cache(_KEPT_CONTEXTS)
def _context_with(ca_file: Path, _version: tuple[int, ...]) -> ssl.SSLContext:
    context = _new_context()
    context.load_verify_locations(ca_file)
    return context


@cache
def _usual_context() -> ssl.SSLContext:
    return _new_context()


def _new_context() -> ssl.SSLContext:
    import certifi

    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
