"""Sends the refused events of the quarantine again, as they were: in batches, through the destination.

What is in is marked in the ledger batch by batch, so that a process that dies sends one of them twice. It
must not render anything: an event goes out as the bytes that were refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from exporter.batches import CONTENT_TYPE, Cuts, LineFile
from exporter.errors import ConfigError, DeliveryError, WorkspaceError
from exporter.journal import Account
from exporter.model import Package

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from exporter.ledger.requests import Requests
    from exporter.ledger.storage import Kept
    from exporter.model import BadRecord, Batch, Key, Keys
    from exporter.pipeline import Job
    from exporter.workspace import Folder, Workspace


@dataclass(slots=True)
class Resent:
    """What came of it: how many events are in now, how many were refused again, and what ended it early."""

    sent: int = 0
    refused: int = 0
    failure: DeliveryError | None = None


def resend(requests: Requests, job: Job, workspace: Workspace, sequence: int | None = None) -> Resent:
    """Send what waits of an export, or of one of its deliveries. Raises ConfigError and WorkspaceError."""
    if not job.rendering.is_events:
        raise ConfigError(
            f"export '{job.name}' delivers objects: none of its records can be refused alone",
            hint="an earlier object is delivered again with: audit-exporter replay",
        )
    came = Resent()
    for waiting in requests.waiting(job.name, sequence):
        folder = workspace.folder()
        try:
            package = _package(waiting, job, folder)
            journal = _ResendJournal(requests, job.name, waiting, package, came)
            job.destination.deliver(package, journal)
            journal.close()
        except DeliveryError as failure:
            came.failure = failure
            break
        finally:
            folder.discard()
    return came


class _Waiting:
    """Refused events as records with keys, all of them different."""

    def __init__(self, waiting: Sequence[Kept]) -> None:
        self._waiting = waiting

    def __len__(self) -> int:
        return len(self._waiting)

    def key(self, index: int) -> Key:
        return None, self._waiting[index].number

    def keys(self) -> Keys:
        return [None] * len(self), [kept.number for kept in self._waiting]


def _package(waiting: Sequence[Kept], job: Job, folder: Folder) -> Package:
    lines, cuts = b"".join(_line(kept.record) + b"\n" for kept in waiting), Cuts(job.rendering.batch_bytes)
    cuts.add(lines, _Waiting(waiting))
    path = folder.file("events")
    try:
        with LineFile(path) as file:
            file.write(lines, len(waiting))
            content = file.finish(late=0, bad=0)
    except OSError as error:
        raise WorkspaceError(
            f"the events cannot be written to {path}: {error.strerror or error}",
            hint="look at the file system that holds the workspace; nothing was sent",
        ) from error
    return Package(path, "", content, CONTENT_TYPE, batches=cuts.finish())


def _line(record: BadRecord) -> bytes:
    return record.body.rstrip(b"\n")


class _ResendJournal:
    """Marks what is in. An event that is refused again is known by its bytes."""

    def __init__(
        self, requests: Requests, export: str, waiting: Sequence[Kept], package: Package, came: Resent
    ) -> None:
        self._requests = requests
        self._export = export
        self._rest = list(waiting)
        self._account = Account(package)
        self._came = came

    def __call__(self, size_bytes: int, /) -> None:
        """Nobody watches."""

    def ends(self) -> bool:
        """Whoever sends again waits until it is done."""
        return False

    def accepted(self, batch: Batch, refused: Sequence[BadRecord] = ()) -> None:
        """Every event up to the end of this batch is in, but for those that were refused again."""
        self._account.take(batch)
        tried, self._rest = self._rest[: batch.count], self._rest[batch.count :]
        reasons = {_line(record): record.reason for record in refused}
        again = {kept.number: reasons[_line(kept.record)] for kept in tried if _line(kept.record) in reasons}
        if len(again) < len(refused):  # it cannot be told which: all of them stay
            again = {kept.number: kept.record.reason for kept in tried}
        self._mark(tried, again)

    def partly(self, batch: Batch, count: int, refused: Mapping[int, BadRecord]) -> None:
        """The first events of this batch are in, but for those that were refused again."""
        self._account.require_next(batch)
        tried = self._rest[:count]
        again = {kept.number: refused[place].reason for place, kept in enumerate(tried) if place in refused}
        self._mark(tried, again)

    def _mark(self, tried: Sequence[Kept], again: Mapping[int, str]) -> None:
        self._requests.resent(self._export, tried, again)
        self._came.sent += len(tried) - len(again)
        self._came.refused += len(again)

    def close(self) -> None:
        """Raises OutcomeUnknown unless every batch is in."""
        self._account.close()
