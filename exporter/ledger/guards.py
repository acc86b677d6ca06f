"""What a rule makes sure of before it changes anything.

Each function works within a rule's transaction, and changes nothing.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from exporter.errors import Conflict, NameTaken

if TYPE_CHECKING:
    from exporter.ledger.storage import ExportRows
    from exporter.model import Export


def unmoved(rows: ExportRows, before: Export) -> Export:
    """The export's present row; raises Conflict if what comes next is no longer what it was."""
    export = rows.export(before.name)
    # The claim besides the version: a renamed export's name may be a new export's by now.
    if export is None or (export.version, export.claim) != (before.version, before.claim):
        raise Conflict(f"another process moved export '{before.name}' first")
    return export


def refuse_taken(rows: ExportRows, name: str, claim: str, *, is_events: bool = False) -> None:
    """Raise NameTaken if another export's names are there, or its events."""
    holder = rows.export_by_claim(claim)
    if holder is None or holder.name == name:
        return
    what, another = "would write the same object names", "prefix"
    if is_events:
        what, another = "might deliver the same events", "index, source or sourcetype"
    raise NameTaken(
        f"export '{name}' {what} as export '{holder.name}': {claim}",
        hint=f"give one of them another {another}, or rename the old one: audit-exporter rename "
        f"{shlex.quote(holder.name)} {shlex.quote(name)}",
    )
