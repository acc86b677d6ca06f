"""A Splunk HTTP Event Collector as a destination: where it is, whose it is, and what a delivery is made of.

It takes events at least once: a batch whose answer was lost is sent again, with the same event ids. It must
not know what an answer means. One of it is used by many exports, from several threads.
"""

from __future__ import annotations

import time
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING
from urllib.parse import quote

from exporter.destinations.splunk_hec.acks import Channels
from exporter.destinations.splunk_hec.address import base_of
from exporter.destinations.splunk_hec.lines import read_ahead
from exporter.destinations.splunk_hec.sender import Delivery, Pace, Sizes, Sleep, Timing, sleep_unless
from exporter.destinations.splunk_hec.wire import Wire
from exporter.destinations.uploads import opened
from exporter.model import Receipt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from exporter.destinations.splunk_hec.settings import SplunkHecSettings
    from exporter.interfaces import Journal
    from exporter.model import Finding, Package
    from exporter.network.guard import Guard


class SplunkHecDestination:
    """A collector. Raises ConfigError for an address that must not be talked to."""

    prefix = ""

    def __init__(
        self,
        settings: SplunkHecSettings,
        guard: Guard,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Sleep = sleep_unless,
    ) -> None:
        base = base_of(settings.url)
        guard.inspect(base, "url")
        self.store = f"hec:{base}"
        self.endpoint = self.store
        self._settings = settings
        self._guard = guard
        self._timing = Timing(clock, sleep)
        self._pace = Pace()
        self._sizes = Sizes()
        self._wire = Wire(settings, guard, base)
        self._channels = Channels()

    def claim(self, account: str) -> str:
        """The one place of this account's events: two exports of them to it would double every event."""
        given = {key: getattr(self._settings, key) for key in ("index", "source", "sourcetype")}
        chosen = [f"{key}={quote(text, safe='')}" for key, text in given.items() if text is not None]
        return "/".join((self.store, *chosen, quote(account, safe="")))

    def load(self) -> None:
        """Load what makes requests."""
        from exporter.network.session import load

        load(self._settings.ca_file)

    def deliver(self, package: Package, journal: Journal) -> Receipt:
        """Send all batches, once each as far as that can be known. Raises DeliveryError."""
        with (
            opened(package) as file,
            closing(read_ahead(package, file, self._wire.pack)) as batches,
            self.delivery(journal) as delivery,
        ):
            for batch, events in batches:
                delivery.send(batch, events)
            delivery.finish()
        return Receipt(self.store)

    @contextmanager
    def delivery(self, journal: Journal) -> Iterator[Delivery]:
        """What sends; its channel, if it has one, is used again unless something goes wrong."""
        acks = self._channels.take(self._wire) if self._settings.acknowledge else None
        yield Delivery(
            self._wire, journal, pace=self._pace, sizes=self._sizes, timing=self._timing, acks=acks
        )
        if acks is not None:
            self._channels.give_back(acks)

    def check(self) -> Sequence[Finding]:
        """Send one real event: nothing less proves token and index."""
        from exporter.destinations.splunk_hec.check import findings_of

        return findings_of(self, self._settings, self._guard)
