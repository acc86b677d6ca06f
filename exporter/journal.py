"""How one delivery gets on: bytes for whoever watches, events for the ledger."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, cast

from exporter.batches import last_cut
from exporter.errors import Defect, Interrupted, OutcomeUnknown, Refused
from exporter.model import QUARANTINE_RECORDS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from exporter.ledger.rules import Ledger
    from exporter.model import BadRecord, Batch, Key, Package, Plan


class Account:
    """Which batches of a package are in, one after the other; raises Defect when one is told out of turn."""

    def __init__(self, package: Package) -> None:
        self._batches = package.batches
        self._told = 0
        self.lines = 0  # of the batches that are in

    def take(self, batch: Batch) -> None:
        """One more."""
        self.require_next(batch)
        self._told += 1
        self.lines += batch.count

    def require_next(self, batch: Batch) -> None:
        """Raise Defect unless it is this one's turn."""
        if self.is_whole or batch != self._batches[self._told]:
            raise Defect(
                f"internal error: batch {self._told + 1} of {len(self._batches)} was told of out of turn",
                hint="please report it; nothing was lost, the next run goes on from the last batch",
            )

    @property
    def is_whole(self) -> bool:
        """Whether there are no more."""
        return self._told == len(self._batches)

    def close(self) -> None:
        """Raise OutcomeUnknown unless every batch is in."""
        if not self.is_whole:
            raise OutcomeUnknown(
                f"internal error: a delivery of {len(self._batches)} batches ended well after {self._told}",
                hint="please report it; the others are sent again, which may double them",
            )


class PlanJournal:
    """The journal of one attempt at a plan.

    What ends between equal keys waits for the next batch: progress can be kept only between different ones.
    ``must_end`` is asked between two batches, and while the destination waits, whether to leave what is
    left to another run.
    """

    def __init__(
        self,
        ledger: Ledger,
        plan: Plan,
        package: Package,
        progress: Callable[[int], None],
        must_end: Callable[[], bool],
    ) -> None:
        self._ledger = ledger
        self._plan = plan
        self._lines = cast("Path", package.body)  # of events it is a file
        self._progress = progress
        self._must_end = must_end
        self._account = Account(package)
        self._reached = plan.reached
        self._sent = 0
        self._kept = 0  # of this attempt, of refused events
        self._refused: list[BadRecord] = []
        self._full: Refused | None = None

    def __call__(self, size_bytes: int, /) -> None:
        """So many more bytes are on their way."""
        self._progress(size_bytes)

    def ends(self) -> bool:
        """Whether to leave what is left to another run."""
        return self._must_end()

    def accepted(self, batch: Batch, refused: Sequence[BadRecord] = ()) -> None:
        """Every event up to the end of this batch is in, but for those that were refused."""
        self._require_few(refused)
        self._account.take(batch)
        self._progress(0)  # its bytes may have gone long ago: it gets on, whatever comes next
        self._sent += batch.count - len(refused)
        self._refused += refused
        if batch.last_key is None:
            return
        self._reach(batch.last_key)
        if self._must_end() and not self._account.is_whole:
            raise Interrupted(
                "the run had to end in the middle of a delivery", hint="the next run goes on from there"
            )

    def partly(self, batch: Batch, count: int, refused: Mapping[int, BadRecord]) -> None:
        """The first events of this batch are in, but for those that were refused; the delivery ends there.

        What is behind the last end of a key goes out again, and what the quarantine has no room for.
        """
        self._account.require_next(batch)
        lines = self._account.lines
        places = sorted(place for place in refused if place < count)
        end = count if len(places) <= self._room else places[self._room]
        if (cut := self._cut(lines, lines + end)) is None:
            return
        kept = [refused[place] for place in places if place < cut[0] - lines]
        self._sent += cut[0] - lines - len(kept)
        self._refused += kept
        self._reach(cut[1])

    def _cut(self, first: int, end: int) -> tuple[int, Key] | None:
        try:
            return last_cut(self._lines, first, end)
        except (OSError, ValueError) as error:
            raise OutcomeUnknown(
                f"the keys beside {self._lines.name} cannot be read from the workspace: {error}",
                hint="leave the workspace to this program alone; the next run sends some events again",
            ) from error

    @property
    def _room(self) -> int:
        """How many more events may be refused."""
        return QUARANTINE_RECORDS - self._plan.refused - self._kept - len(self._refused)

    def _require_few(self, refused: Sequence[BadRecord]) -> None:
        """Raise Refused, each time from now on, where more of a plan were refused than the quarantine takes.

        The batch with the one too many is not kept; what is in of it can be told in part.
        """
        if len(refused) > self._room:
            self._full = Refused(
                f"more than {QUARANTINE_RECORDS:,} events of one delivery were refused, the last one with: "
                f"{refused[-1].reason}",
                hint="see what they have in common: this looks like the configuration and not like the data; "
                f"correct it, then run: audit-exporter resume {shlex.quote(self._plan.export)}",
            )
        if self._full is not None:
            raise self._full

    def close(self) -> None:
        """The delivery ended well: all of the plan is in. Raises OutcomeUnknown if it was told otherwise."""
        self._account.close()
        last = self._plan.range.last
        # Behind the last event there may be records that the filter leaves out, or that have gone since.
        if last is not None and last != self._reached:
            self._reach(last)

    def _reach(self, key: Key) -> None:
        self._ledger.reach(self._plan, self._reached, key, self._sent, self._refused)
        self._kept += len(self._refused)
        self._reached, self._sent, self._refused = key, 0, []
