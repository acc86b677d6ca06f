"""What the answers of a Splunk HTTP Event Collector mean: one table of codes, one of bare statuses.

From Splunk's documentation, and as measured on 10.4.3. An answer counts as success only when it says so in
Splunk's own words: a login page has status 200, too. It must not raise, send anything or know a secret.
"""

from __future__ import annotations

from enum import Enum, auto
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Container

    from exporter.destinations.splunk_hec.wire import Answer


class Action(Enum):
    """What follows from an answer."""

    GO_ON = auto()  # the events are in
    SLOW_DOWN = auto()  # they are in, and must not be sent again; the next ones go out slower
    SET_ASIDE = auto()  # one event is bad: those before it are in, those from it on are not
    HALVE = auto()  # too much for one request
    TRY_AGAIN = auto()  # not in; after a pause it may be
    ASK_ACKS_FIRST = auto()  # the same, once acknowledgements were fetched
    LEAVE_OPEN = auto()  # nobody can tell; a later run sends it again, which may double it
    STOP_AT = auto()  # the same as STOP of one event and those behind it; those before it may be in
    STOP = auto()  # not in before somebody changes something


class Meaning(NamedTuple):
    """What an answer means, and what a person does about it."""

    action: Action
    hint: str = ""


NO_HEC: Final = "correct url: what answers there is no event collector; its port is often 8088"
STRANGER: Final = (
    "see what lies between here and Splunk, such as a proxy or a sign-in page: it answered instead"
)
PASSES: Final = "nothing, unless it stays: then see the collector's health in Splunk, and its queues"
GIVE_ANOTHER: Final = (
    "give the token that this Splunk lists under Settings, Data inputs, HTTP Event Collector"
)
ENABLE: Final = "enable the token in Splunk, under Settings, Data inputs, HTTP Event Collector"
BAD_EVENT: Final = "see the event with `ledger bad-records`, and send it again with `resend`"
NEEDS_CHANNEL: Final = (
    "set acknowledge: true, or turn indexer acknowledgement off for the token: with it on, Splunk takes"
    " events on a channel alone"
)
NO_ACKS: Final = "set acknowledge: false, or turn indexer acknowledgement on for the token"
INDEX: Final = (
    "create the index in Splunk, add it to those that the token may write to, or correct `index` (here, or in"
    " the format's envelope): what is planned already takes that up after `audit-exporter resume`"
)
DEFECT: Final = "please report this as a defect"

CODES: Final = {
    0: Meaning(Action.GO_ON),
    1: Meaning(Action.STOP, ENABLE),
    2: Meaning(Action.STOP, "see what takes the Authorization header away, or try the other way of `auth`"),
    3: Meaning(Action.STOP, "try the other way of `auth`: the collector does not take this one"),
    4: Meaning(Action.STOP, GIVE_ANOTHER),
    5: Meaning(Action.STOP, DEFECT),  # nothing was sent, which does not happen
    6: Meaning(Action.SET_ASIDE, BAD_EVENT),
    7: Meaning(Action.STOP_AT, INDEX),  # of the index and not of the event, whose number is one too high here
    8: Meaning(Action.TRY_AGAIN, PASSES),
    9: Meaning(Action.TRY_AGAIN, PASSES),
    10: Meaning(Action.STOP, NEEDS_CHANNEL),
    11: Meaning(Action.STOP, NEEDS_CHANNEL),
    12: Meaning(Action.SET_ASIDE, BAD_EVENT),
    13: Meaning(Action.SET_ASIDE, BAD_EVENT),
    14: Meaning(Action.STOP, NO_ACKS),
    15: Meaning(Action.SET_ASIDE, BAD_EVENT),
    16: Meaning(Action.STOP, "take the token out of url: it belongs under `token` alone"),
    17: Meaning(Action.STOP, NO_HEC),  # of /health, where nothing of ours goes
    18: Meaning(Action.TRY_AGAIN, PASSES),
    19: Meaning(Action.TRY_AGAIN, PASSES),
    20: Meaning(Action.TRY_AGAIN, PASSES),
    21: Meaning(Action.STOP, GIVE_ANOTHER),
    22: Meaning(Action.STOP, ENABLE),
    23: Meaning(Action.TRY_AGAIN, PASSES),
    24: Meaning(Action.SLOW_DOWN),
    25: Meaning(Action.SLOW_DOWN),
    26: Meaning(Action.TRY_AGAIN, PASSES),
    27: Meaning(Action.ASK_ACKS_FIRST, PASSES),
}
"""By the `code` in the answer's JSON. 0, 24 and 25 count with status 200 alone, and that with no other."""

STATUSES: Final[tuple[tuple[Container[int], Meaning], ...]] = (  # the first that fits
    (range(200, 300), Meaning(Action.LEAVE_OPEN, STRANGER)),  # in nobody's words: it may have landed
    (
        range(300, 400),
        Meaning(
            Action.STOP, "correct url: what answers there sends on to another place, and is not followed"
        ),
    ),
    ((401, 403, 407), Meaning(Action.STOP, STRANGER)),
    ((404, 405), Meaning(Action.STOP, NO_HEC)),
    ((408,), Meaning(Action.LEAVE_OPEN, PASSES)),
    ((413,), Meaning(Action.HALVE, "lower batch: it is more than one request may carry there")),
    ((415,), Meaning(Action.STOP, "set gzip: false: what answers there takes no compressed requests")),
    ((429, 503), Meaning(Action.TRY_AGAIN, PASSES)),
    (range(400, 500), Meaning(Action.STOP, STRANGER)),
    (range(500, 600), Meaning(Action.LEAVE_OPEN, PASSES)),
)
"""By the status, of an answer without a code that counts."""

UNKNOWN: Final = Meaning(Action.LEAVE_OPEN, STRANGER)
STOPS: Final = (Action.STOP, Action.STOP_AT)
SUCCESSES: Final = (Action.GO_ON, Action.SLOW_DOWN)
NO_WORD_OF_SPLUNK: Final = (*range(300, 400), HTTPStatus.REQUEST_ENTITY_TOO_LARGE)


def meaning_of(answer: Answer) -> Meaning:
    """What an answer to events means."""
    known = CODES.get(answer.code) if answer.code is not None else None
    if known and _counts(answer.status, known.action):
        return known
    return next((meaning for statuses, meaning in STATUSES if answer.status in statuses), UNKNOWN)


def _counts(status: int, action: Action) -> bool:
    """Whether a code is to be believed, next to this status."""
    if status == HTTPStatus.OK:
        return action in SUCCESSES
    return status >= HTTPStatus.BAD_REQUEST and status not in NO_WORD_OF_SPLUNK and action not in SUCCESSES
