"""The promises, checked after every step: against the ledger's rows, the objects, and the truth.

A broken rule may be repaired a few steps later and lose records in between, so nothing waits for the
end. Whatever was looked at is remembered: a step costs what it changed. It must not change anything.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import zipfile
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from exporter.model import LIVE_LANE, LaneKind, Outcome, PlanState
from tests.simulation.application import visible
from tests.simulation.event_promises import EventPromises, id_of
from tests.simulation.violation import Violation

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from exporter.destinations.memory import MemoryStore, StoredObject
    from exporter.destinations.memory_events import MemoryEvents
    from exporter.ledger.memory import MemoryRows
    from exporter.model import Export, Lane, Plan
    from tests.simulation.application import Application

FOREIGN = {"audit-plan": "foreign"}
ONCE = "once"


@dataclass(frozen=True, slots=True)
class Landed:
    """One of our objects, as a consumer reads it."""

    plan: Plan
    ids: tuple[int, ...]
    content_sha256: str
    repeats: bool


@dataclass(slots=True)
class Excuses:
    """What a person did that the design lets have consequences."""

    restored: bool = False  # may double
    accepted: bool = False  # may double what is flagged


class Promises:
    """Watches one world. Raises Violation."""

    def __init__(
        self,
        stores: Sequence[MemoryStore],
        events: MemoryEvents,
        application: Application,
        clock: Callable[[], datetime],
        note: Callable[[str], None],
    ) -> None:
        self.excuses = Excuses()
        self._stores = stores
        self.reached: Counter[str] = Counter()  # what a world got to see, to know what was tried at all
        self.events = EventPromises(events, application, self.reached)
        self._application = application
        self._clock = clock
        self._note = note
        self._objects: dict[tuple[str, str], StoredObject] = {}
        self._known: dict[str, Plan] = {}  # every plan there ever was
        self._groups: dict[str, str] = {}  # plan -> what its records must be unique in
        self._now: dict[str, Plan] = {}
        self._lanes: dict[tuple[str, str], Lane] = {}
        self._exports: dict[str, Export] = {}
        self._last_name: dict[str, str] = {}
        self.landed: dict[str, list[Landed]] = {}  # by plan
        self._holders: dict[tuple[str, str], dict[int, list[Landed]]] = {}

    # --- what a person did -----------------------------------------------------------------------

    def forgive_restore(self, rows: MemoryRows) -> None:
        """The ledger is an older one from here on."""
        self.excuses.restored = True
        self.reached["a restored ledger"] += 1
        self._now = dict(rows._plans)
        self._lanes = {(lane.export, lane.id): lane for lane in rows.lanes()}
        self._exports = {export.name: export for export in rows.exports()}

    def forgive_accepted(self, rows: MemoryRows, by_time_alone: Sequence[str]) -> None:
        """Watermarks went back; exports that go on by time alone leave out what lies before."""
        self.excuses.accepted = True
        self.reached["an accepted source"] += 1
        for export in rows.exports():
            for lane in rows.lanes(export.name):
                self._lanes[export.name, lane.id] = lane
                if lane.kind is not LaneKind.REPLAY and export.name in by_time_alone:
                    self._leave_out(export, lane)

    def _leave_out(self, export: Export, lane: Lane) -> None:
        for row in self._application.rows.get(export.account, ()):
            before = lane.kind is LaneKind.BACKFILL or row.time is None or row.time < lane.watermark
            if before and visible(row, lane.seal):
                self._holders.setdefault((export.name, self._group(lane)), {}).setdefault(row.id, [])

    # --- after every step ------------------------------------------------------------------------

    def check(self, rows: MemoryRows) -> None:
        """Look at all that changed since the last call."""
        new = self._see_plans(rows)
        self._see_objects()
        self.events.see(self._known, self._now)
        self._judge_plans(rows, new)
        for lane in rows.lanes():
            if lane is not self._lanes.get((lane.export, lane.id)):
                self._judge_lane(rows, lane)
        for export in rows.exports():
            if export is not self._exports.get(export.name):
                self._judge_export(rows, export)

    def _see_plans(self, rows: MemoryRows) -> list[Plan]:
        changed = [plan for plan in rows._plans.values() if self._now.get(plan.id) is not plan]
        for plan in changed:
            if plan.id not in self._known:
                self._known[plan.id] = plan
                lane = rows.lane(plan.export, plan.lane)
                self._groups[plan.id] = ONCE if lane is None else self._group(lane)
        return changed

    @staticmethod
    def _group(lane: Lane) -> str:
        return lane.id if lane.redeliver or lane.kind is LaneKind.REPLAY else ONCE

    # --- objects ---------------------------------------------------------------------------------

    def _see_objects(self) -> None:
        for store in self._stores:
            for name, stored in store.objects.items():
                before = self._objects.get((store.name, name))
                if before is None:
                    self._objects[store.name, name] = stored
                    if stored.metadata != FOREIGN:
                        self._judge_object(name, stored)
                elif before is not stored:
                    raise Violation(f"object {name} was replaced")
        if len(self._objects) != sum(len(store.objects) for store in self._stores):
            raise Violation("an object has gone")

    def _judge_object(self, name: str, stored: StoredObject) -> None:
        plan = self._known.get(stored.metadata["audit-plan"])
        if plan is None or plan.name != name:
            raise Violation(f"object {name} has no plan")
        body = _member(name, stored.data)
        lines = [json.loads(line) for line in _lines(body)]
        landed = Landed(
            plan,
            tuple(id_of(line) for line in lines),
            hashlib.sha256(body).hexdigest(),
            repeats=stored.metadata["audit-repeats"] == "yes",
        )
        bad = sum("bad_record" in line for line in lines)
        self._note(f"    landed: {name} {list(landed.ids)}{' repeats' if landed.repeats else ''}")
        if plan.lane.startswith("replay") and not landed.repeats:
            raise Violation(f"{name} is a replay and does not say so")
        self._judge_content(landed, stored.metadata, bad)
        for line in lines:
            self._judge_line(plan, line)
        self.landed.setdefault(plan.id, []).append(landed)
        self._judge_doubles(landed)
        self._count(landed, bad)

    def _count(self, landed: Landed, bad: int) -> None:
        """What this object is an example of."""
        lane = landed.plan.lane.partition("-")[0]
        now = self._now.get(landed.plan.id)
        examples = {
            f"an object of {lane}": True,
            "a part of a window": not landed.plan.final,
            "a late record": any(late for _, late in self._application.members(landed.plan.range)),
            "a bad record": bad > 0,
            "a repeat that says so": landed.repeats,
            "an object that lands late": now is None or now.state is not PlanState.OPEN,
        }
        self.reached.update(name for name, is_one in examples.items() if is_one)

    def _judge_content(self, landed: Landed, metadata: Mapping[str, str], bad: int) -> None:
        members = self._application.members(landed.plan.range)
        expected = tuple(row.id for row, _ in members)
        if landed.ids != expected:
            raise Violation(f"{landed.plan.name} holds {landed.ids}, and its range is {expected}")
        said = {
            "audit-records": str(len(members)),
            "audit-late-records": str(sum(late for _, late in members)),
            "audit-bad-records": str(bad),
            "audit-sequence": str(landed.plan.sequence),
            "audit-content-sha256": landed.content_sha256,
        }
        if wrong := {key: metadata[key] for key in said if metadata[key] != said[key]}:
            raise Violation(f"{landed.plan.name} says {wrong}, not {said}")

    def _judge_line(self, plan: Plan, line: Mapping[str, object]) -> None:
        row = self._application.row(plan.range.account, id_of(line))
        if row is None:
            raise Violation(f"{plan.name} holds record {id_of(line)}, which is of another account")
        if not (row.was_bad if "bad_record" in line else row.was_good):
            raise Violation(f"{plan.name} has record {row.id} in the wrong form")

    def _judge_doubles(self, landed: Landed) -> None:
        """A record is in the objects of one plan alone, but for flagged repeats."""
        plan = landed.plan
        holders = self._holders.setdefault((plan.export, self._groups[plan.id]), {})
        for record in landed.ids:
            others = holders.setdefault(record, [])
            others.append(landed)
            first = {one.plan.id for one in others if not one.repeats}
            plans = {one.plan.id for one in others}
            tolerated = self.excuses.restored or (self.excuses.accepted and len(first) <= 1)
            if len(plans) > 1 and not plan.lane.startswith("replay") and not tolerated:
                names = sorted({one.plan.name for one in others})
                raise Violation(f"record {record} is in two objects: {names}")

    # --- plans -----------------------------------------------------------------------------------

    def _judge_plans(self, rows: MemoryRows, changed: list[Plan]) -> None:
        for plan in changed:
            before = self._now.get(plan.id)
            self._now[plan.id] = plan
            self._note(f"    plan {plan.sequence} of {plan.export}/{plan.lane}: {plan.state} {plan.name}")
            if before is None:
                self._judge_new(rows, plan)
            else:
                self._judge_changed(rows, before, plan)
            if plan.state is PlanState.DELIVERED:
                self._judge_delivered(rows, plan)
                if len(plan.hashes) > 1:
                    self._judge_alarmed(rows, plan)
                self.reached["an object that was ours after all"] += any(
                    one.outcome is Outcome.EXISTS for one in rows.attempts(plan.id)
                )
            if plan.state is PlanState.ABANDONED:
                self.reached["a plan given up"] += 1
                if not (self.excuses.restored or self.excuses.accepted):
                    self.events.judge_given_up(plan)
        if changed:
            open_plans = [plan.export for plan in self._now.values() if plan.state is PlanState.OPEN]
            if len(open_plans) != len(set(open_plans)):
                raise Violation(f"two open plans: {open_plans}")

    def _judge_changed(self, rows: MemoryRows, before: Plan, plan: Plan) -> None:
        if self._is_ended(before, plan):
            self.reached["events ended by a resume"] += 1
        elif _fixed(before) != _fixed(plan) or before.state is not PlanState.OPEN:
            raise Violation(f"plan {plan.sequence} of {plan.export} changed")
        else:
            self.events.judge_progress(rows, before, plan)

    @staticmethod
    def _is_ended(before: Plan, plan: Plan) -> bool:
        """Whether a person ended these events where they had come to: nothing else of the plan may change."""
        if before.reached in (None, before.range.last) or not before.rendering.is_events:
            return False
        ended = replace(before, range=replace(before.range, last=before.reached), final=False)
        states = (before.state, plan.state) == (PlanState.OPEN, PlanState.DELIVERED)
        return states and _fixed(ended) == _fixed(plan) and before.reached == plan.reached

    def _judge_new(self, rows: MemoryRows, plan: Plan) -> None:
        numbers = sorted(
            other.sequence
            for other in self._now.values()
            if other.export == plan.export and other.state is not PlanState.ABANDONED
        )
        gaps_excused = self.excuses.restored or self.excuses.accepted
        if numbers != list(range(1, len(numbers) + 1)) and not gaps_excused:
            raise Violation(f"sequence numbers of {plan.export} are {numbers}")
        stamp = f"{plan.stamp.time:%Y%m%dT%H%M%SZ}_{plan.stamp.number:04}"
        name = stamp if plan.rendering.is_events else plan.name.rpartition("/")[2]
        if name <= self._last_name.get(plan.export, ""):
            raise Violation(f"{name} does not come after {self._last_name[plan.export]}")
        self._last_name[plan.export] = name
        if plan.stamp.time > self._clock():
            raise Violation(f"{name} lies in the future")
        export = self._exports[plan.export]  # as it was before this plan
        if export.names_from and plan.stamp.time < export.names_from.replace(microsecond=0):
            raise Violation(f"{name} is from before {export.names_from}, where names had to start")
        if export.paused:
            raise Violation(f"{name} was planned while {plan.export} was paused")
        if len(rows.bad_records(plan.id)) != plan.content.bad or plan.bad_not_whole:
            raise Violation(f"the quarantine of {name} is not whole")

    def _judge_delivered(self, rows: MemoryRows, plan: Plan) -> None:
        """Its object is there and one of those that were sent; or nobody could tell it from a foreign one."""
        if plan.rendering.is_events:
            self._judge_all_in(plan)
            return
        if any(one.content_sha256 in plan.hashes for one in self.landed.get(plan.id, ())):
            return
        attempts = rows.attempts(plan.id)
        is_foreign = any(
            stored.metadata == FOREIGN and name == plan.name for (_, name), stored in self._objects.items()
        )
        unanswered = [one for one in attempts if one.outcome in (Outcome.UNKNOWN, Outcome.PENDING)]
        if not (is_foreign and unanswered):
            raise Violation(f"{plan.name} is delivered, and there is no such object")
        self.reached["a foreign object taken for ours"] += 1
        holders = self._holders.setdefault((plan.export, self._groups[plan.id]), {})
        for row, _ in self._application.members(plan.range):
            holders.setdefault(row.id, [])

    def _judge_all_in(self, plan: Plan) -> None:
        """Progress, which passes nothing that is not in, is at the end."""
        if plan.reached != plan.range.last:
            raise Violation(f"plan {plan.sequence} of {plan.export} is delivered, and came to {plan.reached}")
        ids = tuple(row.id for row, _ in self._application.members(plan.range))
        self._judge_doubles(Landed(plan, ids, "", plan.repeats))
        self.reached["events delivered"] += 1

    def _judge_alarmed(self, rows: MemoryRows, plan: Plan) -> None:
        export = rows.export(plan.export)
        if export is None or plan.name not in export.alarm:
            raise Violation(f"nobody is told that {plan.name} was sent with two contents")
        self.reached["two contents sent"] += 1

    # --- lanes and exports -----------------------------------------------------------------------

    def _judge_lane(self, rows: MemoryRows, lane: Lane) -> None:
        before = self._lanes.get((lane.export, lane.id))
        self._lanes[lane.export, lane.id] = lane
        if before is not None and lane.watermark < before.watermark:
            raise Violation(f"the watermark of {lane.export}/{lane.id} went back")
        if before is None or (lane.watermark, lane.seal, lane.done) != (
            before.watermark,
            before.seal,
            before.done,
        ):
            self._note(f"    lane {lane.export}/{lane.id}: {lane.watermark:%dT%H:%M:%S} {dict(lane.seal)}")
        export = rows.export(lane.export)
        if export is None:
            raise Violation(f"lane {lane.id} has no export")
        if lost := sorted(self._owed(export, lane) - self._held(lane)):
            raise Violation(f"{lane.export}/{lane.id} is past records {lost}, which are in no object")
        if lane.done and lane.kind is LaneKind.REPLAY:
            self._judge_replay(lane)

    def _held(self, lane: Lane) -> set[int]:
        return set(self._holders.get((lane.export, self._group(lane)), ()))

    def _owed(self, export: Export, lane: Lane) -> set[int]:
        """What has to be in objects, as the lane stands."""
        if lane.kind is LaneKind.REPLAY:
            return set()
        if lane.kind is LaneKind.LIVE:
            return {
                row.id
                for row in self._application.due(export.account, export.begin, export.begin_seal)
                if visible(row, lane.seal) and (row.time is None or row.time < lane.watermark)
                if lane.watermark > export.begin
            }
        return {
            row.id
            for row in self._application.rows.get(export.account, ())
            if visible(row, lane.seal) and row.time is not None
            if lane.start is not None and lane.start <= row.time < lane.watermark
        }

    def _judge_replay(self, lane: Lane) -> None:
        again = sorted(
            one.sequence
            for one in self._now.values()
            if (one.export, one.lane, one.state) == (lane.export, lane.id, PlanState.DELIVERED) and one.final
        )
        if len(again) != len(lane.requested) and not self.excuses.restored:
            raise Violation(f"{lane.id} of {lane.export} delivered {again} for {lane.requested}")

    def _judge_export(self, rows: MemoryRows, export: Export) -> None:
        before = self._exports.get(export.name)
        self._exports[export.name] = export
        if export.stopped and not (before and before.stopped):
            plan = next(iter(rows.open_plans(export.name)), None)
            stored = [store.objects.get(plan.name) for store in self._stores] if plan else []
            if not any(one is not None and one.metadata == FOREIGN for one in stored):
                raise Violation(f"false alarm: {export.stopped}")
            self.reached["an alarm"] += 1

    # --- at the end ------------------------------------------------------------------------------

    def check_end(self, rows: MemoryRows, quiet_since: datetime) -> None:
        """After all faults: everything due was delivered, and every request is done."""
        for export in rows.exports():
            for lane in rows.lanes(export.name):
                if not lane.done and lane.kind is not LaneKind.LIVE:
                    raise Violation(f"{lane.id} of {export.name} is not done")
                if lane.id == LIVE_LANE:
                    far = replace(lane, watermark=quiet_since, seal={"horizon": 1 << 60})
                    if lost := sorted(self._owed(export, far) - self._held(lane)):
                        raise Violation(f"{export.name} never delivered records {lost}")


def _fixed(plan: Plan) -> tuple[object, ...]:
    return (plan.range, plan.rendering, plan.name, plan.sequence, plan.stamp, plan.lane, plan.final)


def _member(name: str, data: bytes) -> bytes:
    """The one file in an archive."""
    if name.endswith(".gz"):
        return gzip.decompress(data)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        (member,) = archive.namelist()
        return archive.read(member)


def _lines(body: bytes) -> list[bytes]:
    """The records of a body of either shape; U+2028 must not stand raw in any."""
    if b"\xe2\x80\xa8" in body:
        raise Violation("a line separator stands raw in a body")
    if body.startswith(b"["):
        return [line.removesuffix(b",") for line in body.split(b"\n")[1:-2]]
    return body.split(b"\n")[:-1]
