"""JSON log lines on standard error. Only named values are logged, so no setting can slip in."""

from __future__ import annotations

import json
import os
import sys
import traceback
from contextlib import suppress
from datetime import UTC, datetime
from functools import partialmethod
from typing import TYPE_CHECKING

from exporter.errors import Defect

if TYPE_CHECKING:
    from typing import TextIO

    from exporter.errors import ExporterError
    from exporter.pipeline import Delivered, Job


def log() -> Log:
    """The log of this process."""
    return Log(sys.stderr)


class Log:
    """One JSON object a line, times in UTC, for whoever reads a file, which may be closed.

    A logging library brings asyncio and the highlighting of tracebacks along: a tenth of what a run with
    nothing due takes.
    """

    def __init__(self, file: TextIO | None) -> None:
        self._file = file

    def _write(
        self, level: str, event: str, *, exc_info: BaseException | None = None, **values: object
    ) -> None:
        """Write a line at once; of an exception its traceback, under the key ``exception``."""
        if self._file is None:
            return
        time = datetime.now(UTC).isoformat(timespec="microseconds").removesuffix("+00:00")
        line = {**values, "event": event, "level": level, "time": f"{time}Z"}
        if exc_info is not None:
            line["exception"] = "".join(traceback.format_exception(exc_info)).rstrip()
        with suppress(OSError):  # a log that cannot be written must not keep records from their owners
            try:
                self._file.write(f"{json.dumps(line, default=repr)}\n")
                self._file.flush()
            except BrokenPipeError:
                _lead_nowhere(self._file)

    info = partialmethod(_write, "info")
    warning = partialmethod(_write, "warning")
    error = partialmethod(_write, "error")


def _lead_nowhere(file: TextIO) -> None:
    """Nobody reads this pipe any more: what is left in the file would make the end of the process fail."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, file.fileno())
    os.close(nowhere)


class LogObserver:
    """A run as log lines: one for each delivery, and one for each export that does not get on."""

    def __init__(self, log: Log, *, dry_run: bool = False) -> None:
        self._log = log
        self._delivered = "would be delivered" if dry_run else "delivered"

    def skipped(self, export: str, error: str, hint: str) -> None:
        """This export is left out, because its configuration is wrong."""
        self._log.error("skipped", export=export, error=error, hint=hint)

    def started(self, due: int) -> None:
        """So many exports have something to do."""
        self._log.info("run started", due=due)

    def sent(self, job: Job, size_bytes: int) -> None:
        """Too fine-grained for a log."""

    def delivered(self, job: Job, delivered: Delivered) -> None:
        """One more object is in its store."""
        plan, content = delivered.plan, delivered.content
        log = self._log.warning if len(plan.hashes) > 1 else self._log.info  # of events there are none
        what = {"batches": delivered.batches, "refused": plan.refused}
        withheld = {"filtered": content.filtered, "protected": dict(content.protected)}
        log(
            self._delivered,
            export=job.name,
            account=job.account,
            store=job.destination.store,
            **(what if plan.rendering.is_events else {"object": plan.name}),
            lane=plan.lane,
            sequence=plan.sequence,
            window_start=plan.range.window.start.isoformat(),
            window_end=plan.range.window.end.isoformat(),
            records=content.count,
            late=content.late,
            bad=content.bad,
            bytes=content.archive_bytes,
            content_sha256=list(plan.hashes),
            was_there=delivered.receipt is None,
            **{way: count for way, count in withheld.items() if count},
        )

    def failed(self, job: Job, error: ExporterError) -> None:
        """This export does not get on for now."""
        internal = error.__cause__ if isinstance(error, Defect) else None
        self._log.error(
            "failed",
            export=job.name,
            account=job.account,
            error=error.message,
            hint=error.hint,
            **({"exc_info": internal} if internal else {}),
        )

    def slowed(self, why: str, hint: str) -> None:
        """Nothing has failed, but some of it took longer than it should."""
        self._log.warning("slowed", why=why, hint=hint)

    def finished(self, job: Job) -> None:
        """Nothing more is due; said by the report."""
