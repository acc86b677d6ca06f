"""What the ledger remembers of the past, and for how long: delivered plans for good, the rest for a while.

Each function works within a rule's transaction and knows no rule itself.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from exporter.errors import ConfigError
from exporter.model import PlanState

if TYPE_CHECKING:
    from exporter.ledger.storage import Rows, RunRecord
    from exporter.model import Plan, SealedWindow

RUNS_KEPT: Final = timedelta(days=90)
WINDOWS_KEPT: Final = timedelta(days=400)
"""How far back `accept-source` finds every window; behind that are the last one before, and the begin."""


def delivered(rows: Rows, name: str, sequence: int) -> Plan:
    """The delivered plan with this sequence number; raises ConfigError if there is none."""
    plan = rows.plan_by_sequence(name, sequence)
    if plan is None or plan.state is not PlanState.DELIVERED:
        raise ConfigError(
            f"export '{name}' has delivered nothing with sequence number {sequence}",
            hint=f"see its last one with: audit-exporter status --export {name}",
        )
    return plan


def note_window(rows: Rows, window: SealedWindow) -> None:
    """Keep one more live window, and of those that are too old only the last."""
    rows.insert_window(window)
    oldest = rows.last_window_before(window.export, window.committed_at - WINDOWS_KEPT)
    if oldest is not None:
        rows.delete_windows(window.export, before=oldest.committed_at)


def note_run(rows: Rows, run: RunRecord) -> None:
    """Keep that a run started, and forget those that are too old; the second time, how it ended."""
    if run.finished_at is None:
        rows.insert_run(run)
        rows.delete_runs(before=run.started_at - RUNS_KEPT)
    else:
        rows.update_run(run)
