"""Acknowledgements by indexers: what was accepted into a queue counts once an indexer says that it has it.

An acknowledgement has a number within a channel, and a channel belongs to one delivery at a time: behind a
load balancer two of them could be at two indexers, which count each for itself. It must not send events.
"""

from __future__ import annotations

from http import HTTPStatus
from threading import Lock
from typing import TYPE_CHECKING
from uuid import uuid4

from exporter.destinations.splunk_hec.codes import NO_ACKS, STOPS, meaning_of
from exporter.destinations.splunk_hec.wire import Channel
from exporter.errors import NotSent, OutcomeUnknown, Refused

if TYPE_CHECKING:
    from collections.abc import Iterable

    from exporter.destinations.splunk_hec.wire import Answer, Wire


class Channels:
    """The channels of one collector; an idle one is used again, with its id and its cookies."""

    def __init__(self) -> None:
        self._idle: list[Acks] = []
        self._lock = Lock()

    def take(self, wire: Wire) -> Acks:
        """One that nobody else uses until it is given back; of one that failed nobody asks again."""
        with self._lock:
            return self._idle.pop() if self._idle else Acks(wire)

    def give_back(self, acks: Acks) -> None:
        """Done with it."""
        with self._lock:
            self._idle.append(acks)


class Acks:
    """The acknowledgements of one channel."""

    def __init__(self, wire: Wire) -> None:
        from requests.cookies import RequestsCookieJar

        self.channel = Channel(str(uuid4()), RequestsCookieJar())
        self._wire = wire
        self._newest = -1
        self._awaited: set[int] = set()
        self._is_lost = False

    def given(self, answer: Answer) -> int:
        """The number of what was just accepted, to be awaited.

        Raises Refused if there is none, and OutcomeUnknown if somebody else gave the one before.
        """
        if answer.ack_id is None:
            raise Refused(
                f"{self._wire.base} took events without promising an acknowledgement: {answer.words}",
                hint=NO_ACKS,
            )
        if answer.ack_id <= self._newest and self._awaited:
            self._is_lost = True
        self._raise_if_lost()
        self._newest = answer.ack_id
        self._awaited.add(answer.ack_id)
        return answer.ack_id

    def _raise_if_lost(self) -> None:
        """Whoever counts anew would acknowledge one batch by the number of another."""
        if self._is_lost:
            raise OutcomeUnknown(
                f"{self._wire.base} began to number its acknowledgements anew while some were awaited",
                hint="let the load balancer keep to one indexer by its cookie; if one restarted, nothing",
            )

    def indexed(self, ids: Iterable[int]) -> set[int]:
        """Which of these an indexer has by now; each is told once.

        Raises Refused if asking is in vain, and OutcomeUnknown if the answer would be about others.
        """
        self._raise_if_lost()
        wanted = sorted(ids)
        try:
            answer = self._wire.ask(wanted, self.channel)
        except (NotSent, OutcomeUnknown):  # whoever waits asks again, and knows when to give up
            return set()
        told = answer.said.get("acks")
        if answer.status == HTTPStatus.OK and isinstance(told, dict):
            indexed = {one for one in wanted if told.get(str(one)) is True}
            self._awaited -= indexed
            return indexed
        meaning = meaning_of(answer)
        if meaning.action in STOPS:
            raise Refused(f"{self._wire.base} tells no acknowledgements: {answer.words}", hint=meaning.hint)
        return set()
