"""Destinations that take records as events, one batch after another, and keep no objects: what they share.

Of such a destination nothing is asked but to say what is in; where a delivery goes on is the ledger's.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from exporter.notation.strict import Strict

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

    from exporter.interfaces import Destination
    from exporter.model import Json
    from exporter.network.guard import Guard


class EventSettings(Strict, ABC):
    """What a configuration says of a place that takes events, whatever the kind."""

    type: str

    @property
    @abstractmethod
    def batch_bytes(self) -> int:
        """How many bytes of events go out at once, before compression."""

    @abstractmethod
    def envelope(self) -> Mapping[str, Json]:
        """What is around each record, in the notation of a format's fields; `$event` is the record itself.

        A key whose value is None is the format's to fill, and left out if it does not.
        """

    def as_delivered(self, envelope: Mapping[str, Json], by_record: frozenset[str]) -> Self:
        """These settings with what a format's envelope says of every event, for a kind that proves it.

        ``by_record`` are the envelope's keys whose value each record has for itself.
        """
        del envelope, by_record
        return self

    @abstractmethod
    def open(self, guard: Guard) -> Destination:
        """The destination; it opens no connection. Raises ConfigError.

        It lets ``guard`` see every address that a customer chose, here and before each request.
        """


def event_id_of(line: bytes) -> str:
    """An event's id, as the fields of its envelope have it; empty for what was none of ours."""
    try:
        return str(json.loads(line)["fields"]["event_id"])
    except (ValueError, LookupError, TypeError, RecursionError):
        return ""
