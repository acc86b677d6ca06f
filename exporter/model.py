"""The values that travel along the road: frozen, and free of anything that needs the outside world.

Times are aware UTC datetimes, sizes are bytes, and a ``Json`` value is what a JSON parser gives back.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from pathlib import Path

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
Seal: TypeAlias = "Mapping[str, Json]"
"""What the source fixes about a moment; opaque to everybody but the source that took it."""

Scalar: TypeAlias = "int | float | str"
Key: TypeAlias = "tuple[Scalar | None, Scalar]"
"""Where a record stands in its range: (time, id), time None for an unreadable one; those sort first."""


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


@dataclass(frozen=True, slots=True)
class Rendering:
    """How records become the bytes of an object; stored with every plan and never changed for it.

    ``fields`` is the mapping itself, output name to (conversion, source column), None for `native`
    (every column of the source under its own name).
    """

    format: str
    fields: Mapping[str, tuple[str, str | None]] | None
    archive: str = "zip"  # zip | gzip
    body: str = "ndjson"  # ndjson | json_array
    max_record_bytes: int = 4_000_000


@dataclass(frozen=True, slots=True)
class BadRecord:
    """A record that goes out in the form that always renders; ``body`` is its first megabyte."""

    id: str
    reason: str
    length: int
    body: bytes


QUARANTINE_RECORDS: Final = 1000
QUARANTINE_BYTES: Final = 16_000_000
"""As much is kept of one plan's bad records: it goes into the ledger in one transaction."""


@dataclass(frozen=True, slots=True)
class Content:
    """What an archive holds, measured while it was written.

    ``content_sha256`` is of the member's bytes before compression, as stored: it stays the same when
    a newer deflate library writes other archive bytes.
    """

    count: int
    late: int
    bad: int
    content_bytes: int
    content_sha256: str
    archive_bytes: int
    archive_sha256: str


@dataclass(frozen=True, slots=True)
class Package:
    """A finished archive in the workspace, on its way to ``name``, the object's full key."""

    path: Path
    name: str
    content: Content
    content_type: str
    metadata: Mapping[str, str] = field(default_factory=dict)


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

    ``range``, ``rendering``, ``name`` and ``sequence`` never change. ``final`` marks the last part of
    a window. ``content`` is what was rendered when the plan was made; ``hashes`` those of every
    attempt that may have landed, known once it is delivered: more than one is an alarm.
    ``bad_not_whole`` counts the bad records of which the quarantine has a part or nothing.
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
