"""What the ledger keeps of plans of events: how far they are in, and what their destination refused.

Each function works within a rule's transaction.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from exporter.errors import Conflict, Defect
from exporter.model import PlanState

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from exporter.ledger.storage import ExportRows
    from exporter.model import BadRecord, Key, Plan


def reach(
    rows: ExportRows, plan: Plan, before: Key | None, key: Key, sent: int, refused: Sequence[BadRecord]
) -> None:
    """Move an open plan's progress from one key to another; raises Conflict if it was not there any more."""
    if plan.reached != before:
        raise Conflict(f"another process delivers plan {plan.sequence} of export '{plan.export}'")
    rows.insert_bad_records(plan.id, refused)
    rows.update_plan(replace(plan, reached=key, sent=plan.sent + sent, refused=plan.refused + len(refused)))


def require_all(plan: Plan) -> None:
    """Raise Defect unless every event of the plan is in: the watermark must not pass one that is not."""
    if plan.reached != plan.range.last:
        raise Defect(
            f"internal error: plan {plan.sequence} of export '{plan.export}' is not all in",
            hint="please report it; nothing was lost, the next run goes on from the last batch",
        )


def ended(plan: Plan, now: datetime) -> Plan:
    """A plan as it is when it ends where its events have come to, and not where it was to end.

    Here alone a plan's range is shortened. An object holds its range or does not exist, but of these events
    some are in for good, and the others may never be taken as they were planned, in an index that is gone
    for example: they are for another plan, with present settings. Of the content the count is right; what
    else was counted is of the whole range, and so never too little; a hash of this part there is none.
    """
    content = replace(plan.content, count=plan.sent + plan.refused, content_sha256="", archive_sha256="")
    return replace(
        plan,
        range=replace(plan.range, last=plan.reached),
        final=plan.final and plan.reached == plan.range.last,
        content=content,
        state=PlanState.DELIVERED,
        delivered_at=now,
    )


def may_have_landed(rows: ExportRows, plan: Plan) -> bool:
    """Whether somebody may have the object of a plan; of events whoever sends them again loses nothing."""
    return not plan.rendering.is_events and any(
        attempt.outcome.may_have_landed for attempt in rows.attempts(plan.id)
    )
