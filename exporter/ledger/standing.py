"""Where an export stands, what is proposed next, and how a person is told what stopped it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from exporter.errors import Conflict
from exporter.model import LIVE_LANE

if TYPE_CHECKING:
    from exporter.ledger.storage import ExportRows
    from exporter.model import Content, Export, Lane, Plan, Range, Rendering, Stamp


@dataclass(frozen=True, slots=True)
class Draft:
    """A plan as its maker proposes it; the ledger gives it an id and a sequence number."""

    lane: str
    range: Range
    rendering: Rendering
    final: bool
    name: str
    stamp: Stamp
    content: Content


@dataclass(frozen=True, slots=True)
class Standing:
    """One export with everything that is in progress: what deciding and `status` need.

    ``waiting`` counts the refused events that nobody has sent again yet.
    """

    export: Export
    lanes: tuple[Lane, ...]
    open_plan: Plan | None
    waiting: int = 0

    @property
    def live(self) -> Lane:
        """The live lane; every export has one."""
        return next(lane for lane in self.lanes if lane.id == LIVE_LANE)

    def lane(self, lane_id: str) -> Lane:
        """One lane; raises Conflict if it has gone."""
        for lane in self.lanes:
            if lane.id == lane_id:
                return lane
        raise Conflict(f"export '{self.export.name}' has no lane '{lane_id}'")


def standing_of(rows: ExportRows, name: str) -> Standing | None:
    """One export, or None if it never began."""
    export = rows.export(name)
    if export is None:
        return None
    open_plan, waiting = next(iter(rows.open_plans(name)), None), rows.waiting(name)
    return Standing(export, tuple(rows.lanes(name)), open_plan, waiting.get(name, 0))


def foreign_alarm(store: str, name: str) -> str:
    """What stops an export at a foreign object."""
    return f"a foreign object has the name of this export's next object: {store}/{name}"


def resume_hint(name: str) -> str:
    """What a person does about a foreign object."""
    return (
        "find out who else writes under this prefix, keep that object or move it away, then run: "
        f"audit-exporter resume {name}"
    )
