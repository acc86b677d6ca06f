"""What `check` says of a collector: one real event, sent as a delivery sends them, proves token and index.

Splunk's own health page proves neither: it answers that all is well whatever the token. It must not trust it.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Final, Protocol
from uuid import uuid4

from exporter.destinations.splunk_hec.address import base_of
from exporter.destinations.splunk_hec.lines import Events
from exporter.destinations.splunk_hec.wire import SEE_CHECK
from exporter.errors import DeliveryError, NotSent, OutcomeUnknown
from exporter.model import Batch, Finding, Level

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager

    from exporter.destinations.splunk_hec.sender import Delivery
    from exporter.destinations.splunk_hec.settings import SplunkHecSettings
    from exporter.interfaces import Journal
    from exporter.model import BadRecord
    from exporter.network.guard import Guard

SENTENCE: Final = "A check by audit-exporter: this event proves that events arrive, and is no audit record."
ACKNOWLEDGED_WITHIN_S: Final = 30.0


class Collector(Protocol):
    """A collector, as far as `check` uses it."""

    store: str

    def delivery(self, journal: Journal) -> AbstractContextManager[Delivery]:
        """What sends."""
        ...


class _Seen:
    """The journal of a delivery that no ledger knows."""

    def __init__(self) -> None:
        self.refused: list[BadRecord] = []

    def __call__(self, size_bytes: int, /) -> None:
        """Nobody watches."""

    def ends(self) -> bool:
        """A check is short."""
        return False

    def accepted(self, batch: Batch, refused: Sequence[BadRecord] = ()) -> None:
        """All is in but for these."""
        del batch
        self.refused.extend(refused)

    def partly(self, batch: Batch, count: int, refused: Mapping[int, BadRecord]) -> None:
        """One event has no parts."""


def findings_of(collector: Collector, settings: SplunkHecSettings, guard: Guard) -> Sequence[Finding]:
    """What became of a real event."""
    event_id = f"audit-exporter-check-{uuid4()}"
    line = _event(settings, event_id)
    seen = _Seen()
    try:
        with collector.delivery(seen) as delivery:
            delivery.send(Batch(0, len(line), 1, None), Events(line, 1))
            delivery.finish(ACKNOWLEDGED_WITHIN_S)
    except DeliveryError as error:
        return [_with_cause(collector.store, error, settings, guard)]
    if seen.refused:
        message = f"took the token, and not the event: {seen.refused[0].reason}"
        hint = "correct host, source, sourcetype or fields: there is nothing else in this event"
        return [Finding(collector.store, Level.ERROR, message, hint)]
    return [Finding(collector.store, Level.OK, _proof(settings, event_id))]


def _event(settings: SplunkHecSettings, event_id: str) -> bytes:
    """An event as a delivery's are, about itself."""
    envelope = {
        "time": round(time.time(), 3),
        "host": settings.host,
        "source": settings.source,
        "sourcetype": settings.sourcetype,
        "index": settings.index,
        "event": SENTENCE,
        "fields": {"event_id": event_id, **settings.fields},
    }
    kept = {key: value for key, value in envelope.items() if value is not None}
    return json.dumps(kept).encode() + b"\n"


def _proof(settings: SplunkHecSettings, event_id: str) -> str:
    index = f"the index {settings.index}" if settings.index else "the token's default index"
    done = "an indexer acknowledged" if settings.acknowledge else "accepted"
    proved = f"{done} an event for {index}: search for event_id={event_id}"
    if "index" in settings.by_record:
        return f"{proved}; each record names an index of its own, and that is not proved"
    return proved


def _with_cause(store: str, error: DeliveryError, settings: SplunkHecSettings, guard: Guard) -> Finding:
    """What is wrong with the way to the collector, if that is it; else what it answered."""
    if isinstance(error, NotSent | OutcomeUnknown):
        from exporter.network.diagnosis import obstacle

        found = obstacle(base_of(settings.url), guard, ca_file=settings.ca_file)
        if found is not None:
            return Finding(store, Level.ERROR, found.message, found.hint, found.fix)
    message = error.message.removeprefix(f"{base_of(settings.url)} ")
    return Finding(store, Level.ERROR, message, error.hint.removesuffix(f"; {SEE_CHECK}"), error.fix)
