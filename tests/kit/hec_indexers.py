"""The state of a Splunk: its tokens, its indexers with their queues and acknowledgements, and its indexes.

HTTP is in ``hec_http``. Several indexers share the indexes, as peers of one cluster do, and nothing else: an
acknowledgement is asked for where the events went.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from threading import RLock
from typing import TYPE_CHECKING, Final

from tests.kit.hec_events import parse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.kit.hec_events import Event

APPROACHING: Final = 0.8  # of what there is room for
OK, NO_CHANNEL, BAD_CHANNEL, ACKS_OFF = 0, 10, 11, 14
QUEUE_FILLS, ACKS_FILL, QUEUE_FULL, ACKS_FULL = 24, 25, 26, 27


@dataclass
class Token:
    """What may be sent with it: to ``indexes`` alone (none: to all), with or without acknowledgement."""

    value: str = field(repr=False)
    enabled: bool = True
    indexes: tuple[str, ...] = ()
    acknowledged: bool = False
    default_index: str = "main"


@dataclass
class Channel:
    """Acknowledgements of one channel at one indexer: those given out and not read yet."""

    next_id: int = 0
    indexed: dict[int, bool] = field(default_factory=dict)


@dataclass(eq=False)
class Queued:
    """What was accepted and is not indexed yet."""

    events: Sequence[Event]
    channel: Channel | None = None
    ack_id: int = -1


@dataclass(frozen=True)
class Verdict:
    """The code for a request, and what goes with it."""

    code: int
    number: int | None = None
    ack_id: int | None = None


class Indexer:
    """One machine behind the address."""

    def __init__(self, splunk: Splunk) -> None:
        self._splunk = splunk
        self.queue: list[Queued] = []
        self.channels: dict[tuple[str, str], Channel] = defaultdict(Channel)

    def take(self, token: Token, channel_id: str, body: bytes) -> Verdict:
        """Queue what is good of a body."""
        channel = self.channels[token.value, channel_id] if token.acknowledged else None
        full = self._full(channel)
        if full in (QUEUE_FULL, ACKS_FULL):
            return Verdict(full)
        parsed = parse(body, indexes=token.indexes, default_index=token.default_index)
        ack_id = None
        if parsed.events:
            queued = Queued(parsed.events)
            if channel is not None and not parsed.code:
                ack_id = channel.next_id
                channel.next_id += 1
                channel.indexed[ack_id] = False
                queued = Queued(parsed.events, channel, ack_id)
            self.queue.append(queued)
            if not self._splunk.holding:
                self.flush()
        return Verdict(parsed.code or full, parsed.number, ack_id)

    def _full(self, channel: Channel | None) -> int:
        room = self._splunk
        queued = sum(len(one.events) for one in self.queue)
        unread = len(channel.indexed) if channel is not None else 0
        for count, most, fills, full in (
            (queued, room.most_queued, QUEUE_FILLS, QUEUE_FULL),
            (unread, room.most_acks, ACKS_FILL, ACKS_FULL),
        ):
            if most is not None and count >= most:
                return full
            if most is not None and count >= APPROACHING * most:
                return fills
        return OK

    def flush(self, *places: int) -> None:
        """Index all that is queued, or what is at these places of the queue."""
        chosen = [self.queue[place] for place in places] if places else list(self.queue)
        for one in chosen:
            for event in one.events:
                self._splunk.indexes[event.index].append(event)
            if one.channel is not None:
                one.channel.indexed[one.ack_id] = True
            self.queue.remove(one)

    def lose(self) -> None:
        """Lose all that is queued, as a machine that goes down does; its acknowledgements never come."""
        self.queue.clear()

    def acks(self, token: Token, channel_id: str, ids: Sequence[int]) -> dict[str, bool]:
        """Whether they are indexed; what was read as true is forgotten."""
        channel = self.channels[token.value, channel_id]
        answer = {str(one): channel.indexed.get(one, False) for one in ids}
        for one in ids:
            if channel.indexed.get(one):
                del channel.indexed[one]
        return answer


class Splunk:
    """All that is behind one address.

    ``holding``: what is accepted stays in the queues. ``most_queued`` (events) and ``most_acks`` (unread ones
    of a channel) are what an indexer has room for; None: no end of it.
    """

    def __init__(self, indexers: int = 1) -> None:
        self.lock = RLock()
        self.tokens: dict[str, Token] = {}
        self.indexes: dict[str, list[Event]] = defaultdict(list)
        self.holding = False
        self.most_queued: int | None = None
        self.most_acks: int | None = None
        self.indexers = [Indexer(self) for _ in range(indexers)]
