"""How a lane and its export stand after a delivery: pure functions, for the rules to write down."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from exporter.model import LaneKind

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from exporter.model import Export, Lane, Plan, Range, Seal

ALARMS: Final = 20
MORE_ALARMS: Final = "and later ones: every plan in the ledger with more than one hash"


def lane_after(lane: Lane, plan: Plan) -> Lane:
    """A lane's progress once this plan is delivered."""
    if plan.final and lane.kind is LaneKind.REPLAY:
        return replace(lane, sequences=lane.sequences[1:], last_key=None, done=len(lane.sequences) == 1)
    if plan.final:
        return closed(lane, plan.range.window.end, plan.range.seal)
    return replace(lane, last_key=plan.range.last)


def closed(lane: Lane, end: datetime, seal: Seal) -> Lane:
    """A lane that has all up to here."""
    return replace(at_start(lane, end, seal), done=lane.until is not None and end >= lane.until)


def at_start(lane: Lane, watermark: datetime, seal: Seal) -> Lane:
    """A lane with nothing yet of the window that begins here."""
    return replace(lane, watermark=watermark, seal=seal, open_end=None, open_seal=None, last_key=None)


def added(before: Mapping[str, int], further: Mapping[str, int]) -> dict[str, int]:
    """Counts by name, summed up."""
    return {name: before.get(name, 0) + further.get(name, 0) for name in sorted({*before, *further})}


def export_after(export: Export, plan: Plan) -> Export:
    """An export's row once this plan is delivered."""
    return replace(
        moved_on(export, plan.content.filtered),
        alarm=alarm_after(export.alarm, plan),
        delivered_at=plan.delivered_at,
        object_name=plan.name,
        protected=added(export.protected, plan.content.protected),
    )


def moved_on(export: Export, filtered: int) -> Export:
    """An export's row once a window, or a part of one, is behind it: whatever kept it from that is over."""
    return replace(
        export,
        version=export.version + 1,
        tries=0,
        blocked_until=None,
        failure=None,
        filtered=export.filtered + filtered,
    )


def repeats(export: Export, lane: Lane, range_: Range) -> bool:
    """Whether some of these records may have been delivered before."""
    accepted = export.repeats_until is not None and range_.window.start < export.repeats_until
    return lane.kind is LaneKind.REPLAY or lane.redeliver or accepted


def alarm_after(alarm: str, plan: Plan) -> str:
    """An export's alarm once this plan is delivered: a line more if its object's content is not known."""
    if len(plan.hashes) < 2:  # noqa: PLR2004 - one hash is one content
        return alarm
    line = (
        f"object {plan.name} (sequence number {plan.sequence}) was uploaded with {len(plan.hashes)} "
        "different contents, because the source's rows changed between two attempts; the store has the one "
        f"with the SHA-256 of its member among {', '.join(plan.hashes)}"
    )
    lines = [*alarm.splitlines(), line]
    return "\n".join(lines if len(lines) <= ALARMS else [*lines[:ALARMS], MORE_ALARMS])
