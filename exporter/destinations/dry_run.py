"""A destination that takes everything and keeps nothing: what a delivery would be, without one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.model import Receipt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exporter.interfaces import Destination, Journal
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

    def deliver(self, package: Package, journal: Journal) -> Receipt:
        """Succeeds without a byte sent."""
        if not package.batches:
            journal(package.content.archive_bytes)
        for batch in package.batches:
            journal(batch.size_bytes)
            journal.accepted(batch)
        return Receipt(f"{self.store}/{package.name}" if package.name else self.store)

    def check(self) -> Sequence[Finding]:
        """The real destination's."""
        return self._destination.check()
