"""What is promised of events: none is lost, and whoever meets trouble sends one batch twice, no more.

Whatever was received is looked at before the ledger's next change is: what a batch doubles is judged by
the progress that there was when it came. It must not change anything.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING

from exporter.model import BadKind
from tests.simulation.application import place
from tests.simulation.violation import Violation

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exporter.destinations.memory_events import MemoryEvents, Received
    from exporter.ledger.memory import MemoryRows
    from exporter.model import Plan
    from tests.simulation.application import Application

POISON = 7
"""Every so many records, one is refused by the destination of events."""


def is_poison(line: bytes) -> bool:
    """Whether the destination refuses this event."""
    return id_of(json.loads(line)) % POISON == 0


def id_of(line: Mapping[str, object]) -> int:
    """The id of a record in a line, also of one that is there in the form that always renders."""
    bad = line.get("bad_record")
    return int(str(bad["id"])) if isinstance(bad, dict) else int(str(line["id"]))


class EventPromises:
    """Watches one destination of events. Raises Violation."""

    def __init__(
        self, place_of_events: MemoryEvents, application: Application, reached: Counter[str]
    ) -> None:
        self._place = place_of_events
        self.reached = reached
        self._application = application
        self._seen = 0
        self._received: dict[str, set[int]] = {}  # by plan
        self._last: dict[int, tuple[str, int]] = {}  # by delivery
        self._stale: Counter[int] = Counter()

    def see(self, known: Mapping[str, Plan], now: Mapping[str, Plan]) -> None:
        """Judge the batches that came since the last call."""
        for one in self._place.received[self._seen :]:
            plan = known.get(one.metadata["audit-plan"])
            if plan is None:
                raise Violation("events came that have no plan")
            self._judge_batch(one, plan, now.get(plan.id))
            self.reached["a batch of events"] += 1
        self._seen = len(self._place.received)

    def _judge_batch(self, one: Received, plan: Plan, now: Plan | None) -> None:
        delivery = id(one.metadata)  # each has one of its own, and all of them are kept
        order = {row.id: row.key for row, _ in self._application.members(plan.range)}
        ids = [id_of(json.loads(line)) for line in one.lines]
        before = self._received.setdefault(plan.id, set())
        reached = None if now is None or now.reached is None else place(now.reached)
        for record in ids:
            if record not in order:
                raise Violation(f"record {record} is not of the range of plan {plan.sequence}")
            if order[record] <= self._last.get(delivery, ("", -1)):
                raise Violation(f"record {record} of plan {plan.sequence} came out of order: {ids}")
            self._last[delivery] = order[record]
        self.reached["a batch that came twice"] += bool(before & set(ids))
        before.update(ids)
        if reached is not None and any(order[record] <= reached for record in ids):
            self._stale[delivery] += 1
            self.reached["a batch that another process had sent"] += 1
            if self._stale[delivery] > 1:
                raise Violation(f"a delivery of plan {plan.sequence} sent more than one batch again: {ids}")

    def judge_given_up(self, plan: Plan) -> None:
        """What is in stays in: only a person who restores or accepts something gives such a plan up."""
        if plan.reached is not None:
            raise Violation(f"plan {plan.sequence} of {plan.export} was given up at {plan.reached}")

    def judge_progress(self, rows: MemoryRows, before: Plan, after: Plan) -> None:
        """Progress only grows, and passes nothing that is neither in nor in the quarantine."""
        if after.reached == before.reached:
            return
        assert after.reached is not None
        if before.reached is not None and place(after.reached) <= place(before.reached):
            raise Violation(f"the progress of plan {after.sequence} went from {before.reached} back")
        refused = [one.body for one in rows.bad_records(after.id) if one.kind is BadKind.REFUSED]
        in_quarantine = {id_of(json.loads(body)) for body in refused}
        passed = {
            row.id for row, _ in self._application.members(after.range) if row.key <= place(after.reached)
        }
        if lost := sorted(passed - self._received.get(after.id, set()) - in_quarantine):
            raise Violation(
                f"plan {after.sequence} of {after.export} passed records {lost}, which did not come"
            )
        if len(refused) != after.refused:
            raise Violation(f"plan {after.sequence} counts {after.refused} refused of {len(refused)}")
        self.reached["an event in quarantine"] += bool(refused)
