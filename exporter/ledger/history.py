"""What the ledger remembers of the past, and for how long: delivered plans for good, the rest for a while.

Each function works within a rule's transaction and knows no rule itself.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from exporter.errors import ConfigError, Conflict
from exporter.ledger.lanes import export_after, lane_after
from exporter.model import LaneKind, PlanState, SealedWindow

if TYPE_CHECKING:
    from exporter.ledger.storage import ExportRows, Rows, RunRecord
    from exporter.model import Attempt, Export, Plan

RUNS_KEPT: Final = timedelta(days=90)
WINDOWS_KEPT: Final = timedelta(days=400)
"""How far back `accept-source` finds every window; behind that are the last one before, and the begin."""


def delivered(rows: ExportRows, name: str, sequence: int) -> Plan:
    """The delivered plan with this sequence number; raises ConfigError if there is none."""
    plan = rows.plan_by_sequence(name, sequence)
    if plan is None or plan.state is not PlanState.DELIVERED:
        raise ConfigError(
            f"export '{name}' has delivered nothing with sequence number {sequence}",
            hint=f"see its last one with: audit-exporter status --export {name}",
        )
    return plan


def landed_hashes(rows: ExportRows, plan: Plan, attempt: Attempt) -> tuple[str, ...]:
    """The different contents that attempts may have landed with, where this attempt was made."""
    landed = {
        row.content.content_sha256
        for row in rows.attempts(plan.id)
        if row.store == attempt.store and row.outcome.may_have_landed
    }
    return tuple(sorted(landed))


def note_delivered(rows: ExportRows, export: Export, done: Plan) -> None:
    """Keep a plan as delivered, and with it how its lane and its export stand now."""
    lane = rows.lane(done.export, done.lane)
    if lane is None or done.delivered_at is None:
        raise Conflict(f"lane '{done.lane}' of export '{done.export}' has gone")
    rows.update_plan(done)
    rows.update_lane(lane_after(lane, done))
    rows.update_export(export_after(export, done))
    if done.final and lane.kind is LaneKind.LIVE:
        note_window(
            rows, SealedWindow(done.export, done.range.window.end, done.range.seal, done.delivered_at)
        )


def note_window(rows: ExportRows, window: SealedWindow) -> None:
    """Keep one more live window, and of those that are too old only the last."""
    rows.insert_window(window)
    oldest = rows.last_window_before(window.export, window.committed_at - WINDOWS_KEPT)
    if oldest is not None:
        rows.delete_windows(window.export, before=oldest.committed_at)


def note_run(rows: Rows, run: RunRecord, *, again: bool) -> None:
    """Keep a run, and forget those that are too old; ``again``: it is kept, and more is known of it now."""
    if again:
        rows.update_run(run)
    else:
        rows.insert_run(run)
        rows.delete_runs(before=run.started_at - RUNS_KEPT)
