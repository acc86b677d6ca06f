"""Where a collector is: one address, however a person writes it.

Splunk's own pages and the systems that send to it write a host, a host with a port, or the whole way to an
endpoint. It must not ask anybody, nor show what it refuses: people put tokens into addresses.
"""

from __future__ import annotations

import re
from typing import Final

from exporter.errors import ConfigError
from exporter.network.guard import read_target

ENDPOINT: Final = "/services/collector"
PLAIN: Final = "write it like `https://splunk.example.com:8088`"
_KNOWN_PATH: Final = re.compile(rf"/?|{ENDPOINT}(/event(/1\.0)?)?/?")


def base_of(url: str) -> str:
    """The address as `SCHEME://HOST:PORT`, in the one spelling of both. Raises ConfigError.

    Without a scheme it is https; without a port, the scheme's own.
    """
    whole = url if "://" in url else f"https://{url}"
    scheme, _, rest = whole.partition("://")
    if "?" in rest or "#" in rest:
        raise ConfigError(
            "url has something behind its path", hint=f"{PLAIN}; the token belongs under `token` alone"
        )
    authority, slash, path = rest.partition("/")
    if not _KNOWN_PATH.fullmatch(f"{slash}{path}"):
        raise ConfigError(
            f"url has a path that is not one of Splunk's event collector: {ENDPOINT}", hint=PLAIN
        )
    target = read_target(f"{scheme}://{authority}", "url")
    host = f"[{target.host}]" if ":" in target.host else target.host.removesuffix(".")
    return f"{target.scheme}://{host}:{target.port}"
