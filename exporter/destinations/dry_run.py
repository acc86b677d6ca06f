"""A destination that takes everything and keeps nothing: what a delivery would be, without one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.model import Receipt

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from exporter.interfaces import Destination
    from exporter.model import Finding, Package


class DryRunDestination:
    """Stands in front of a destination and passes on all but deliveries."""

    def __init__(self, destination: Destination) -> None:
        self._destination = destination
        self.store = destination.store
        self.endpoint = destination.endpoint
        self.prefix = destination.prefix

    def claim(self, account: str) -> str:
        """The real destination's."""
        return self._destination.claim(account)

    def deliver(self, package: Package, progress: Callable[[int], None]) -> Receipt:
        """Succeeds without a byte sent."""
        progress(package.content.archive_bytes)
        return Receipt(f"{self.store}/{package.name}")

    def check(self) -> Sequence[Finding]:
        """The real destination's."""
        return self._destination.check()
