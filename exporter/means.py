"""What a run works with, how much at a time, and who is told while it happens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import threading
    from datetime import timedelta

    from exporter.errors import ExporterError
    from exporter.interfaces import Clock
    from exporter.ledger.rules import Ledger
    from exporter.pipeline import Pipeline
    from exporter.steps import Delivered, Job


class Observer(Protocol):
    """Told what happens while it happens, from the runner's own thread but for `sent`."""

    def skipped(self, export: str, error: str, hint: str) -> None:
        """This export is left out, because its configuration is wrong."""
        ...

    def started(self, due: int) -> None:
        """So many exports have something to do."""
        ...

    def sent(self, job: Job, size_bytes: int) -> None:
        """More bytes of an upload are on their way; called from an uploading thread."""
        ...

    def delivered(self, job: Job, delivered: Delivered) -> None:
        """One more object is in its store."""
        ...

    def failed(self, job: Job, error: ExporterError) -> None:
        """This export does not get on for now."""
        ...

    def finished(self, job: Job) -> None:
        """This export has nothing more to do in this run."""
        ...

    def slowed(self, why: str, hint: str) -> None:
        """Nothing has failed, but some of it took longer than it should."""
        ...


class Supply(Protocol):
    """Exports that this process may take from others' reach; for the thread of the turns."""

    @property
    def left(self) -> int:
        """How many there were left, when it was last asked."""
        ...

    def take(self, most: int) -> list[Job]:
        """Some of them, at most so many; none once there are no more, or the run is over."""
        ...

    def pause(self) -> None:
        """Nothing more happens here until something comes to its end; what happened may be passed on."""
        ...


@dataclass(frozen=True, slots=True)
class Settings:
    """How much at a time, and for how long. ``budget`` ends the starting of new work.

    There are up to ``processes``, and in each so many ``workers`` that read and render. Beside each, so many
    ``encoders`` are processes that help with what is large.
    ``uploads`` bounds the archives in the workspace as well, and so does ``workspace_bytes``, checked
    before each rendering; uploads that are slow may take up as much again. The share that one store has of
    them is two groups': the next is rendered while the objects of the last are on their way.
    """

    workers: int
    uploads: int = 128
    budget: timedelta | None = None
    insist: bool = False  # try blocked exports now: a person asked for them by name
    processes: int = 1
    encoders: int = 0
    list_objects: bool = False  # keep a line for each object, for somebody who wants to see them all
    workspace_bytes: int = 2 << 30


@dataclass(frozen=True, slots=True)
class Means:
    """What a run works with. ``stop`` ends the starting of new work, as SIGTERM asks."""

    pipeline: Pipeline
    ledger: Ledger
    observer: Observer
    clock: Clock
    settings: Settings
    stop: threading.Event
