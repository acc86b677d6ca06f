"""Keeps addresses that a customer chose from leading to the inside: this machine, its network, its cloud.

https alone, no user or password, and no private, loopback, link-local, metadata or otherwise special
address, unless the operator allows the host by name. It must not open a connection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class Guard:
    """Decides about addresses. ``allowed`` are hosts as `network.allow` has them."""

    def __init__(self, allowed: Sequence[str] = ()) -> None:
        self._allowed = tuple(allowed)

    def inspect(self, url: str, setting: str) -> None:
        """What can be told without asking anybody; raises ConfigError, naming the ``setting``."""

    def addresses(self, url: str) -> Sequence[str]:
        """The addresses of the URL's host, all of them fit to be talked to. Raises NotSent otherwise."""
        raise NotImplementedError
