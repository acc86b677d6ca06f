"""What Splunk's HTTP Event Collector makes of a body: its events, and the code for what it does not take.

As measured on Splunk 10.4.3 (`facts/splunk-hec.md`), with its quirks. Tokens, state and HTTP are elsewhere.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

KEYS: Final = frozenset({"time", "host", "source", "sourcetype", "index", "event", "fields"})
TEXTS: Final = {
    0: (200, "Success"),
    1: (403, "Token disabled"),
    2: (401, "Token is required"),
    3: (401, "Invalid authorization"),
    4: (403, "Invalid token"),
    5: (400, "No data"),
    6: (400, "Invalid data format"),
    7: (400, "Incorrect index"),
    8: (500, "Internal server error"),
    9: (503, "Server is busy"),
    10: (400, "Data channel is missing"),
    11: (400, "Invalid data channel"),
    12: (400, "Event field is required"),
    13: (400, "Event field cannot be blank"),
    14: (400, "ACK is disabled"),
    15: (400, "Error in handling indexed fields"),
    16: (400, "Query string authorization is not enabled"),
    17: (200, "HEC is healthy"),
    18: (503, "HEC is unhealthy, queues are full"),
    19: (503, "HEC is unhealthy, ack service unavailable"),
    20: (503, "HEC is unhealthy, queues are full, ack service unavailable"),
    21: (400, "Invalid token"),
    22: (400, "Token is disabled"),
    23: (503, "Server is shutting down"),
    24: (200, "Queue is approaching capacity"),
    25: (200, "ACK channel is approaching capacity"),
    26: (429, "Queue is at capacity"),
    27: (429, "ACK channel is at capacity"),
}
"""Every code with its status and text."""

NOT_AN_OBJECT, NO_EVENT, BLANK_EVENT, BAD_FIELDS, WRONG_INDEX = 6, 12, 13, 15, 7


@dataclass(frozen=True)
class Event:
    """One event as it was indexed. ``time`` is in epoch seconds; ``sent`` is the text of its whole object."""

    event: Any
    time: Decimal
    dated: bool  # by the sender; else at its receipt
    index: str
    host: str | None = None
    source: str | None = None
    sourcetype: str | None = None
    fields: Mapping[str, str | int | float] = field(default_factory=dict)
    sent: str = ""


@dataclass(frozen=True)
class Parsed:
    """What is taken of a body, and the code with the event's number (from 0) for what is not."""

    events: tuple[Event, ...]
    code: int = 0
    number: int | None = None


class _Invalid(Exception):
    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class _UnknownKey(Exception):
    """Splunk stops reading there, and answers as if all were well."""


def parse(body: bytes, *, indexes: Collection[str] = (), default_index: str = "main") -> Parsed:
    """Read objects one after another until the end, or until the first that is not taken.

    ``indexes`` are those that the token may write to; none: all.
    """
    events: list[Event] = []
    try:
        for text, value in _objects(body.decode("utf-8", "surrogateescape")):
            events.append(_event(text, value, indexes, default_index))
    except _UnknownKey:
        return Parsed(tuple(events))
    except _Invalid as invalid:
        # Measured: of an incorrect index the number is one too high.
        number = len(events) + (invalid.code == WRONG_INDEX)
        return Parsed(tuple(events), invalid.code, number)
    return Parsed(tuple(events)) if events else Parsed((), 5)


def _objects(text: str) -> Iterator[tuple[str, Any]]:
    decoder = json.JSONDecoder(parse_constant=_no_json)
    position = 0
    while True:
        while position < len(text) and text[position] in " \t\r\n":
            position += 1
        if position == len(text):
            return
        try:
            value, end = decoder.raw_decode(text, position)
        except (ValueError, RecursionError):
            raise _Invalid(NOT_AN_OBJECT) from None
        yield text[position:end], value
        position = end


def _no_json(name: str) -> None:
    raise ValueError(name)


def _event(text: str, value: Any, indexes: Collection[str], default_index: str) -> Event:  # noqa: ANN401 - JSON
    if not isinstance(value, dict) or _holds_no_utf8(text):
        raise _Invalid(NOT_AN_OBJECT)
    if value.keys() - KEYS:
        raise _UnknownKey
    if "event" not in value:
        raise _Invalid(NO_EVENT)
    event = value["event"]
    if event is None or event is False:
        raise _Invalid(NOT_AN_OBJECT)
    if isinstance(event, str) and not event.strip():
        raise _Invalid(BLANK_EVENT)
    when = _time(value.get("time"))
    return Event(
        event,
        Decimal(repr(round(time.time(), 3))) if when is None else when,
        when is not None,
        _index(value, indexes, default_index),
        fields=_fields(value.get("fields", {})),
        sent=text,
        **{key: _text(value.get(key)) for key in ("host", "source", "sourcetype")},
    )


def _holds_no_utf8(text: str) -> bool:
    return any("\udc80" <= letter <= "\udcff" for letter in text)


def _time(value: Any) -> Decimal | None:  # noqa: ANN401 - JSON
    """Epoch seconds, as a number or its text, to the microsecond."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise _Invalid(NOT_AN_OBJECT)
    try:
        seconds = Decimal(repr(value) if isinstance(value, float) else value)
        return seconds.quantize(Decimal("0.000001"))
    except (InvalidOperation, ValueError):
        raise _Invalid(NOT_AN_OBJECT) from None


def _text(value: Any) -> str | None:  # noqa: ANN401 - JSON
    if value is not None and not isinstance(value, str):
        raise _Invalid(NOT_AN_OBJECT)
    return value


def _index(value: Mapping[str, Any], indexes: Collection[str], default_index: str) -> str:
    index = _text(value.get("index")) or default_index
    if indexes and index not in indexes:
        raise _Invalid(WRONG_INDEX)
    return index


def _fields(value: Any) -> Mapping[str, str | int | float]:  # noqa: ANN401 - JSON
    if not isinstance(value, dict):
        raise _Invalid(BAD_FIELDS)
    for one in value.values():
        if isinstance(one, bool) or not isinstance(one, str | int | float):
            raise _Invalid(BAD_FIELDS)
    return value
