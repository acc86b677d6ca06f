"""The values that travel along the road: frozen, and free of anything that needs the outside world.

Times are aware UTC datetimes, sizes are bytes, and a ``Json`` value is what a JSON parser gives back.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
Seal: TypeAlias = "Mapping[str, Json]"
"""What the source fixes about a moment; opaque to everybody but the source that took it."""

Scalar: TypeAlias = "int | float | str"
Key: TypeAlias = "tuple[Scalar | None, Scalar]"
"""Where a record stands in its range: (time, id), time None for an unreadable one; those sort first."""
Keys: TypeAlias = "tuple[Sequence[Scalar | None], Sequence[Scalar]]"
"""Those of neighbours, as two columns: times, and ids."""


@dataclass(frozen=True, slots=True)
class Window:
    """The half-open UTC interval ``[start, end)`` between two schedule boundaries."""

    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Range:
    """Exactly the records of one window, or of one part of it: the same at every reading.

    Three branches, disjoint, in this order: records whose time is unreadable, by id; late ones, by
    (time, id); on-time ones, by (time, id). Without ``previous`` (backfill) there is only the last.
    ``first`` marks window 1, which also takes the unreadable records that were visible before it.
    A part reads keys with ``after < key <= last``; None leaves that side open.
    """

    account: str
    window: Window
    seal: Seal
    previous: Seal | None = None
    first: bool = False
    after: Key | None = None
    last: Key | None = None


class Branch(StrEnum):
    """Why a record is in its range."""

    UNREADABLE = "unreadable"
    LATE = "late"
    ON_TIME = "on_time"


FORMAT_VERSION: Final = 1
"""What a reader may rely on, in every object's metadata; raised when a field goes away or changes meaning."""


def flat_mapping(fields: Mapping[str, tuple[str, str | None]]) -> Json:
    """A mapping of one level: each output field's conversion and source column, None for null.

    Lists, because the order of the fields is part of the format, and a ledger sorts the keys of objects.
    """
    columns: list[Json] = [[name, ["column", column, how]] for name, (how, column) in fields.items()]
    return {"line": "json", "nulls": "keep", "fields": ["object", columns]}


EVENTS: Final = "events"
"""The `archive` of a destination that takes records one batch after another, and keeps no objects."""


@dataclass(frozen=True, slots=True)
class Rendering:
    """How records become the bytes of an object; stored with every plan and never changed for it.

    ``mapping`` is the format itself, bound to the source's columns, as ``formats`` writes and reads it;
    None is every column of the source under its own name. ``chosen`` says which records go out, None is
    all; ``protected`` how the values of a column are, by the column's name. Of the key for pseudonyms there
    is the id alone.
    """

    format: str
    mapping: Json
    archive: str = "zip"  # zip | gzip | events
    body: str = "ndjson"  # ndjson | json_array | lines (of text)
    max_record_bytes: int = 4_000_000
    chosen: Json = None
    protected: Mapping[str, str] = field(default_factory=dict)
    key_id: str = ""
    mask_secrets: bool = False
    batch_bytes: int = 0  # of events: how many go out at once

    @property
    def is_events(self) -> bool:
        """Whether this makes events, and no object."""
        return self.archive == EVENTS


@dataclass(frozen=True, slots=True)
class Occasion:
    """What one rendering is for, beyond its settings.

    ``columns`` are those that the source still has, where others are to be null; None: all are there.
    ``key`` is the account's own, for pseudonyms.
    """

    sequence: int
    window_end: datetime
    columns: frozenset[str] | None = None
    key: bytes | None = field(default=None, repr=False)


class BadKind(StrEnum):
    """Why a record lies in the quarantine."""

    UNRENDERED = "unrendered"  # it has no form in its format; it went out in the one that always renders
    REFUSED = "refused"  # the destination takes everything but this event, which did not go out


@dataclass(frozen=True, slots=True)
class BadRecord:
    """A record in the quarantine; ``body`` is its first megabyte, of a refused event all that was sent."""

    id: str
    reason: str
    length: int
    body: bytes
    kind: BadKind = BadKind.UNRENDERED
    resent_at: datetime | None = None


LEADING_BYTES: Final = 1024
"""So much of a bad record goes out in place of it."""

QUARANTINE_RECORDS: Final = 1000
QUARANTINE_BYTES: Final = 16_000_000
"""As much is kept of one plan's bad records: it goes into the ledger in one transaction."""


@dataclass(frozen=True, slots=True)
class Content:
    """What an archive holds, measured while it was written.

    ``content_sha256`` is of the member's bytes before compression, as stored: it stays the same when
    a newer deflate library writes other archive bytes. ``filtered`` counts the records of the range that
    the export's filter left out; ``protected`` the values that were changed or dropped, by what was done:
    the column's name and how, such as `email pseudonymise`, or `secrets`.
    """

    count: int
    late: int
    bad: int
    content_bytes: int
    content_sha256: str
    archive_bytes: int
    archive_sha256: str
    filtered: int = 0
    protected: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Batch:
    """Neighbouring events of a package: so many lines of its file, from ``offset`` on.

    ``last_key`` is that of the last one, None where the next one's is the same.
    """

    offset: int
    size_bytes: int
    count: int
    last_key: Key | None


@dataclass(frozen=True, slots=True)
class Package:
    """A finished archive on its way to ``name``, the object's full key: a file of the workspace, or bytes.

    Of events it is a file of lines, cut into ``batches``, and has no name.
    """

    body: Path | bytes = field(repr=False)
    name: str
    content: Content
    content_type: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    batches: tuple[Batch, ...] = ()


@dataclass(frozen=True, slots=True)
class Receipt:
    """Proof of delivery: where the object is and what the store called it."""

    location: str
    etag: str = ""
    version: str = ""


class Level(StrEnum):
    """How much a finding matters."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of `check`: what was looked at, what came out, and what to do about it.

    ``fix`` is text to copy as it is: a policy, a command.
    """

    subject: str
    level: Level
    message: str
    hint: str = ""
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Statement:
    """SQL that an administrator of the source should run, and what for."""

    reason: str
    sql: str


# --- What the ledger remembers -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an export did not get on, in words for a person, and since when it has been trying."""

    message: str
    hint: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Stamp:
    """The growing part of an object's name: a UTC second, and 1, 2, 3 … within it."""

    time: datetime
    number: int = 1


@dataclass(frozen=True, slots=True)
class Export:
    """One account's deliveries to one destination.

    ``version`` grows with every change of what comes next and is what compare-and-swap compares.
    ``claim`` is where its names live (store, bucket, prefix, account); no two exports share one.
    ``stamp`` is the newest name given out, for everything this export ever delivers.
    """

    name: str
    account: str
    claim: str
    begin: datetime
    begin_seal: Seal
    version: int = 0
    sequence: int = 0
    stamp: Stamp | None = None
    names_from: datetime | None = None  # after `resume` or a restore, names start at this moment
    repeats_until: datetime | None = None  # after `accept-source`: windows before this may come again
    paused: bool = False
    stopped: str = ""  # why nothing is delivered until `resume`; empty when nothing stopped it
    alarm: str = ""  # what else a person has to look at, a line each, until `resume`; deliveries go on
    tries: int = 0  # attempts in a row that did not deliver
    blocked_until: datetime | None = None
    failure: Failure | None = None
    delivered_at: datetime | None = None
    object_name: str = ""  # of the last delivery
    filtered: int = 0  # records left out by the filter since the begin
    protected: Mapping[str, int] = field(default_factory=dict)  # values, as in `Content`, since the begin


class LaneKind(StrEnum):
    """What moves along a lane."""

    LIVE = "live"
    BACKFILL = "backfill"
    REPLAY = "replay"


LIVE_LANE = "live"


@dataclass(frozen=True, slots=True)
class Lane:
    """Progress of one stream of windows of an export: the live one, one backfill or one replay.

    ``watermark`` and ``seal`` are the end of the last delivered window and its seal. While a window is
    delivered in parts, ``open_end``, ``open_seal`` and ``last_key`` say how far it has come.
    A backfill goes from ``start`` to ``until``. A replay was asked for the sequence numbers
    ``requested``; ``sequences`` are those still to come.
    """

    export: str
    id: str
    kind: LaneKind
    watermark: datetime
    seal: Seal
    open_end: datetime | None = None
    open_seal: Seal | None = None
    last_key: Key | None = None
    until: datetime | None = None
    start: datetime | None = None
    sequences: tuple[int, ...] = ()
    requested: tuple[int, ...] = ()
    redeliver: bool = False
    done: bool = False


class PlanState(StrEnum):
    """Where a plan stands. Only an open one may be attempted, and an export has at most one."""

    OPEN = "open"
    DELIVERED = "delivered"
    ABANDONED = "abandoned"


@dataclass(frozen=True, slots=True)
class Plan:
    """What is in one object and what it is called, fixed before the first byte is sent.

    ``rendering``, ``name`` and ``sequence`` never change, ``range`` only where `resume` ends events early.
    ``final`` marks the last part of a window. ``content`` is what was rendered when the plan was made;
    ``hashes`` those of every attempt that may have landed, known once it is delivered: more than one is an
    alarm. ``bad_not_whole`` counts the bad records of which the quarantine has a part or nothing.
    Events have no name; of them ``sent`` are in, up to the key ``reached``, and ``refused`` in quarantine.
    """

    id: str
    export: str
    lane: str
    sequence: int
    range: Range
    rendering: Rendering
    final: bool
    name: str
    stamp: Stamp
    content: Content
    created_at: datetime
    bad_not_whole: int = 0
    repeats: bool = False
    state: PlanState = PlanState.OPEN
    delivered_at: datetime | None = None
    hashes: tuple[str, ...] = ()
    reached: Key | None = None
    sent: int = 0
    refused: int = 0


class Outcome(StrEnum):
    """How an attempt ended, as far as anybody knows."""

    PENDING = "pending"  # recorded, no answer yet: also after a crash
    SUCCEEDED = "succeeded"
    EXISTS = "exists"  # the name was taken: by another attempt of ours, or by a foreign object
    UNKNOWN = "unknown"  # timeout, reset, 5xx, 408
    REFUSED = "refused"  # any other definite no
    NOT_SENT = "not_sent"  # failed before the first byte

    @property
    def may_have_landed(self) -> bool:
        """Whether the object under the plan's name may be this attempt's."""
        return self in (Outcome.PENDING, Outcome.SUCCEEDED, Outcome.UNKNOWN)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One recorded try at uploading a plan's object to ``store`` (its canonical name)."""

    id: str
    plan: str
    store: str
    started_at: datetime
    content: Content
    outcome: Outcome = Outcome.PENDING
    error: str = ""


@dataclass(frozen=True, slots=True)
class SealedWindow:
    """A live window that was delivered whole, or found empty; the history that `accept-source` needs."""

    export: str
    end: datetime
    seal: Seal
    committed_at: datetime  # never before the seal was taken
    filtered: int = 0  # records that the filter left out behind the last object, if there was one
