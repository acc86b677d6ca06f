"""How one delivery gets on: bytes for whoever watches, events for the ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from exporter.ledger.rules import Ledger
    from exporter.model import Attempt, BadRecord, Batch, Plan


class PlanJournal:
    """The journal of one attempt at a plan."""

    def __init__(self, ledger: Ledger, plan: Plan, attempt: Attempt, progress: Callable[[int], None]) -> None:
        self._ledger = ledger
        self._plan = plan
        self._attempt = attempt
        self._progress = progress

    def __call__(self, size_bytes: int, /) -> None:
        """So many more bytes are on their way."""
        self._progress(size_bytes)

    def accepted(self, batch: Batch, refused: Sequence[BadRecord] = ()) -> None:
        """Every event up to the end of this batch is in, but for those that were refused."""
        raise NotImplementedError
