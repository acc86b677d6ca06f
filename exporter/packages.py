"""What a plan's package is called, what it says of itself, and whether its destination takes such ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter import archive, batches, keys
from exporter.errors import ExportError
from exporter.model import FORMAT_VERSION, Package

if TYPE_CHECKING:
    from exporter.model import Plan, Rendering, Stamp
    from exporter.rendering import Rendered


def name_of(prefix: str, account: str, stamp: Stamp, rendering: Rendering) -> str:
    """What the next object is called; events are called nothing."""
    if rendering.is_events:
        return ""
    return keys.object_name(prefix, account, stamp, archive.suffix(rendering.archive, rendering.body))


def member_of(name: str, rendering: Rendering) -> str:
    """What the file inside the object of this name is called."""
    return keys.member_name(name, archive.member_suffix(rendering.body))


def require_kind(plan: Plan, rendering: Rendering) -> None:
    """Raise ExportError where the plan is of events and the destination now is of objects, or the reverse."""
    if plan.rendering.is_events == rendering.is_events:
        return
    was, now = ("events", "objects") if plan.rendering.is_events else ("an object", "events")
    window = plan.range.window
    raise ExportError(
        f"sequence number {plan.sequence} of export '{plan.export}' was planned as {was}, "
        f"and its destination takes {now}",
        hint="give the export its former destination back until that is done, and the new one an export of "
        f"its own; a range as {now}: audit-exporter backfill --redeliver "
        f"--from {window.start:%Y-%m-%dT%H:%M:%SZ} --to {window.end:%Y-%m-%dT%H:%M:%SZ}",
    )


def package_of(plan: Plan, rendered: Rendered) -> Package:
    """What was rendered of a plan, as it goes out, with the metadata of an object."""
    content = rendered.content
    metadata = {
        "audit-export": keys.encode_account(plan.export),
        "audit-plan": plan.id,
        "audit-sequence": str(plan.sequence),
        "audit-window": f"{plan.range.window.start:%Y%m%dT%H%M%SZ}-{plan.range.window.end:%Y%m%dT%H%M%SZ}",
        "audit-records": str(content.count),
        "audit-late-records": str(content.late),
        "audit-bad-records": str(content.bad),
        "audit-repeats": "yes" if plan.repeats else "no",
        "audit-content-sha256": content.content_sha256,
        "audit-format": f"{plan.rendering.format}/{FORMAT_VERSION}",
    }
    kind, body = plan.rendering.archive, plan.rendering.body
    content_type = batches.CONTENT_TYPE if plan.rendering.is_events else archive.content_type(kind, body)
    return Package(rendered.body, plan.name, content, content_type, metadata, rendered.batches)
