"""What the pipeline works on and answers: jobs, what comes next for each, and what came of it. Data alone."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime, timedelta
    from zoneinfo import ZoneInfo

    from exporter.errors import DeliveryError, Stopped
    from exporter.interfaces import Destination
    from exporter.ledger.rules import Standing
    from exporter.model import Content, Lane, Package, Plan, Range, Receipt, Rendering, Stamp
    from exporter.workspace import Folder

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Job:
    """One export as configured."""

    name: str
    account: str
    zone: ZoneInfo
    every: timedelta
    grace: timedelta
    start: datetime | None
    rendering: Rendering
    part_limit_bytes: int
    destination: Destination
    claim: str  # the one place of its names
    key: Callable[[], bytes] | None = None  # the account's own, for pseudonyms


@dataclass(frozen=True, slots=True)
class Next:
    """A lane's next range, how to render it, and from when on its name may be."""

    range: Range
    rendering: Rendering
    limit_bytes: int | None
    name_from: datetime


@dataclass(frozen=True, slots=True)
class Proposal:
    """A new object: how it would be named, where its export stood when that was thought of."""

    standing: Standing
    lane: Lane
    stamp: Stamp


@dataclass(frozen=True, slots=True)
class Step:
    """One range of one export to be rendered: for an open plan again, or for a plan that is proposed."""

    job: Job
    range: Range
    rendering: Rendering
    limit_bytes: int | None
    name: str
    sequence: int
    of: Plan | Proposal

    @property
    def is_planned(self) -> bool:
        """Whether range, rendering and name are fixed for good."""
        return not isinstance(self.of, Proposal)


@dataclass(frozen=True, slots=True)
class Ready:
    """A planned object, rendered and waiting to be uploaded. `discard` its folder when done with it."""

    job: Job
    plan: Plan
    package: Package
    folder: Folder

    def discard(self) -> None:
        """Give the workspace back."""
        self.folder.discard()


@dataclass(frozen=True, slots=True)
class Moved:
    """There was nothing (more) to deliver up to ``watermark``; the lane is past it."""

    watermark: datetime


@dataclass(frozen=True, slots=True)
class Unreached:
    """Its turn did not come: something large of its group was before it. It is next."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """The plan's object is in the store, and the ledger knows."""

    plan: Plan
    content: Content
    receipt: Receipt | None  # None: an earlier attempt had put it there
    batches: int = 0  # how many this attempt sent, of events


@dataclass(frozen=True, slots=True)
class Held:
    """The plan stays open: why, and when to try again; never by itself after an alarm."""

    error: DeliveryError | Stopped
    retry_at: datetime | None


Prepared: TypeAlias = "Ready | Moved | Unreached | Exception | None"
"""What one export's turn came to; None: nothing is due."""

Answer: TypeAlias = "Delivered | Held | Exception | None"
"""What one upload came to; None: another process was first."""


def result_of(call: Callable[[], T]) -> T | Exception:
    """What a call returns or raises: of a group, each export's trouble is its own."""
    try:
        return call()
    except Exception as error:  # noqa: BLE001 - it is handed on, and nobody's but this export's
        return without_values(error)


def without_values(error: Exception) -> Exception:
    """The error with its traceback, but without what its frames hold: records, archives, connections.

    It is handed on to another thread, and frames would keep all that alive until garbage is collected.
    """
    one: BaseException | None = error
    while one is not None:
        traceback.clear_frames(one.__traceback__)
        one = one.__cause__ or one.__context__
    return error
