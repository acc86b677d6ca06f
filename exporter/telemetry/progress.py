"""A run as a progress bar, for a person who watches. What went wrong is the report's to say, once."""

from __future__ import annotations

import traceback
from threading import Lock
from typing import TYPE_CHECKING, Self

from rich.filesize import decimal
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from exporter.errors import Defect

if TYPE_CHECKING:
    from rich.console import Console

    from exporter.errors import ExporterError
    from exporter.pipeline import Delivered, Job


class ProgressObserver:
    """One bar for the exports that have something to do, with counts of what has been delivered."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            TextColumn("[bold]delivering"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("exports {task.description}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )
        self._task = self._progress.add_task("", total=0)
        self._lock = Lock()
        self._deliveries = 0
        self._what = "objects"
        self._records = 0
        self._sent_bytes = 0
        self._failing: set[str] = set()
        self._done: set[str] = set()

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def skipped(self, export: str, error: str, hint: str) -> None:
        """Said by the report."""

    def started(self, due: int) -> None:
        """So many exports have something to do."""
        self._progress.update(self._task, total=due)

    def sent(self, job: Job, size_bytes: int) -> None:  # noqa: ARG002 - the observer's shape
        """More bytes of an upload are on their way; called from an uploading thread."""
        with self._lock:
            self._sent_bytes += size_bytes
        self._show()

    def delivered(self, job: Job, delivered: Delivered) -> None:
        """One more object is in its store."""
        self._failing.discard(job.name)
        self._deliveries += 1
        if delivered.plan.rendering.is_events:
            self._what = "deliveries"
        self._records += delivered.content.count
        self._show()

    def failed(self, job: Job, error: ExporterError) -> None:
        """This export does not get on for now; of a defect, the traceback is said here and nowhere else."""
        self._failing.add(job.name)
        if isinstance(error, Defect) and error.__cause__ is not None:
            lines = traceback.format_exception(error.__cause__)
            self._console.print("".join(lines), markup=False, highlight=False)
        self.finished(job)

    def finished(self, job: Job) -> None:
        """This export has nothing more to do in this run."""
        self._done.add(job.name)
        self._progress.update(self._task, completed=len(self._done))
        self._show()

    def slowed(self, why: str, hint: str) -> None:
        """Nothing has failed, but some of it took longer than it should."""
        self._console.print(f"slowed: {why}; {hint}", markup=False, highlight=False)

    def _show(self) -> None:
        failing = f"  [red]{len(self._failing):,} failing[/]" if self._failing else ""
        delivered = f"{self._deliveries:,} {self._what}  {self._records:,} records"
        counts = f"{delivered}  {decimal(self._sent_bytes)}"
        self._progress.update(self._task, description=counts + failing)
