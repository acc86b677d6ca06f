"""What a person asks of the ledger: pause, resume, rename, backfill, replay, restore, accept a source."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final
from uuid import uuid4

from exporter.errors import ConfigError, Conflict
from exporter.ledger.events import ended, may_have_landed
from exporter.ledger.guards import unmoved
from exporter.ledger.history import delivered, note_delivered
from exporter.ledger.lanes import at_start
from exporter.ledger.standing import standing_of
from exporter.model import Lane, LaneKind, PlanState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import datetime

    from exporter.interfaces import Clock
    from exporter.ledger.rules import Ledger
    from exporter.ledger.standing import Standing
    from exporter.ledger.storage import Kept, Rows, Storage
    from exporter.model import BadRecord, Export, Plan, Seal, Window

CONFLICTS: Final = 10

WAITING_AT_ONCE: Final = 100
"""So many events of the quarantine are in memory at a time; one may have megabytes."""


class Requests:
    """A person's commands; each is one transaction, and each can be given twice without harm."""

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self._ledger = ledger
        self._clock = clock

    def pause(self, name: str) -> None:
        """No new plan from now on; an open one is still finished."""
        with self._ledger.writing(name) as rows:
            rows.update_export(replace(_known(rows, name), paused=True))

    def resume(self, name: str) -> Plan | None:
        """Go on after a pause, a block or an alarm; answers the open plan if it will be made anew.

        A plan that cannot have landed anywhere is given up: its range is planned again, with present
        settings and a name from now on. One that may have landed stays as it is, for good. Of events all
        that are in stay in, and the others are planned again: the batch on its way may double.
        """
        with self._ledger.writing(name) as rows:
            export = replace(
                _known(rows, name),
                paused=False,
                stopped="",
                alarm="",
                tries=0,
                blocked_until=None,
                failure=None,
            )
            plan = next(iter(rows.open_plans(name)), None)
            if plan is not None and plan.reached is not None:
                note_delivered(rows, export, ended(plan, self._clock()))
                return plan if plan.reached != plan.range.last else None
            if plan is not None and may_have_landed(rows, plan):
                plan = None
            if plan is not None:
                rows.update_plan(replace(plan, state=PlanState.ABANDONED))
                # Nobody ever saw its number, and numbers without gaps are what an auditor counts.
                export = replace(export, sequence=plan.sequence - 1, names_from=self._clock())
            rows.update_export(replace(export, version=export.version + 1))
            return plan

    def rename(self, name: str, new_name: str) -> None:
        """Give an export another name; its watermark, plans and object names stay."""
        with self._ledger.writing() as rows:
            export = _known(rows, name)
            if rows.export(new_name) is not None:
                raise ConfigError(
                    f"there is an export named '{new_name}' already",
                    hint="choose another name; see them all with: audit-exporter status",
                )
            rows.rename_export(name, new_name)
            rows.update_export(replace(export, name=new_name, version=export.version + 1))

    def backfill(
        self, name: str, window: Window, seal: Seal, *, redeliver: bool, again: bool = False
    ) -> Lane:
        """Ask for a past range, or find the same request again where it was left, also when it is done.

        Without ``redeliver`` a range that live delivery covers, or an earlier backfill, is refused.
        ``again`` makes a new request of one that is done.
        """
        with self._ledger.writing(name) as rows:
            export = _known(rows, name)
            earlier = [lane for lane in rows.lanes(name) if lane.kind is LaneKind.BACKFILL]
            for lane in sorted(earlier, key=lambda lane: lane.done):
                same = (lane.start, lane.until, lane.redeliver) == (window.start, window.end, redeliver)
                if same and not (lane.done and again):
                    return lane
            if not redeliver:
                _refuse_repeats(export, window, earlier)
            lane = Lane(
                export=name,
                id=f"backfill-{len(earlier) + 1}",
                kind=LaneKind.BACKFILL,
                watermark=window.start,
                seal=seal if redeliver else export.begin_seal,
                start=window.start,
                until=window.end,
                redeliver=redeliver,
            )
            rows.insert_lane(lane)
            rows.update_export(replace(export, version=export.version + 1))
            return lane

    def replay(self, name: str, sequences: tuple[int, ...]) -> Lane:
        """Ask for earlier objects again, or find the same unfinished request."""
        with self._ledger.writing(name) as rows:
            export = _known(rows, name)
            earlier = [lane for lane in rows.lanes(name) if lane.kind is LaneKind.REPLAY]
            for lane in earlier:
                if not lane.done and lane.requested == sequences:
                    return lane
            for sequence in sequences:
                delivered(rows, name, sequence)
            lane = Lane(
                export=name,
                id=f"replay-{len(earlier) + 1}",
                kind=LaneKind.REPLAY,
                watermark=export.begin,
                seal=export.begin_seal,
                sequences=sequences,
                requested=sequences,
            )
            rows.insert_lane(lane)
            rows.update_export(replace(export, version=export.version + 1))
            return lane

    def bad_records(self, name: str, sequence: int) -> list[BadRecord]:
        """What is kept of one plan's bad records; raises ConfigError if there is no such plan."""
        with self._ledger.storage.reading() as rows:
            plan = rows.plan_by_sequence(name, sequence)
            if plan is None or not plan.rendering.is_events:
                plan = delivered(rows, name, sequence)
            return rows.bad_records(plan.id)

    def waiting(self, name: str, sequence: int | None = None) -> Iterator[list[Kept]]:
        """The refused events of an export that nobody has sent again, some at a time, in their order."""
        last = 0
        while True:
            with self._ledger.storage.reading() as rows:
                _known(rows, name)
                found = rows.waiting_records(name, sequence, last, WAITING_AT_ONCE)
            if not found:
                return
            last = found[-1].number
            yield found

    def resent(self, name: str, tried: Sequence[Kept], reasons: Mapping[int, str]) -> None:
        """Refused events were sent again, and are in but for those with a reason, by number of their row."""
        with self._ledger.writing(name) as rows:
            now = self._clock()
            for kept in tried:
                again = reasons.get(kept.number)
                record = replace(kept.record, resent_at=now) if again is None else kept.record
                rows.update_bad_record(replace(kept, record=replace(record, reason=again or record.reason)))

    def accept_source(
        self, name: str, moment: datetime, fallback: Seal, adopt: Callable[[Seal], Seal | None]
    ) -> Accepted:
        """Go on with a source that is not what it was: back to the last window sealed before then.

        Where the source cannot adopt that window's seal (a table written anew), the watermark goes back
        by time alone with the seal ``fallback``, and undelivered records dated before it are left out.
        What is delivered again is flagged. Raises Conflict if the export does not stand still.
        """
        for _ in range(CONFLICTS):
            way = self._way_back(name, moment)
            adopted = way.adopted(adopt)  # no transaction waits for the source's answers
            with suppress(Conflict):
                return self._go_back(way, fallback, adopted)
        raise Conflict(
            f"export '{name}' moved on whenever its source had been asked",
            hint="end the runs that are under way, then give the command again",
        )

    def _way_back(self, name: str, moment: datetime) -> _WayBack:
        with self._ledger.storage.reading() as rows:
            standing = standing_of(rows, name)
            if standing is None:
                raise _unknown(name)
            window = rows.last_window_before(name, moment)
        export, live = standing.export, standing.live
        end, seal = (window.end, window.seal) if window else (export.begin, export.begin_seal)
        return _WayBack(standing, min(end, live.watermark), seal)

    def _go_back(self, way: _WayBack, fallback: Seal, adopted: _Adopted) -> Accepted:
        live, seal = way.standing.live, adopted.of(way.seal)
        by_time_alone = seal is None
        with self._ledger.writing(way.standing.export.name) as rows:
            export = unmoved(rows, way.standing.export)
            _abandon_open(rows, export.name)
            rows.update_lane(at_start(live, way.watermark, seal or fallback))
            for lane in way.backfills:
                rows.update_lane(_going_on(lane, adopted.of(lane.seal), fallback))
            begin_seal = adopted.of(export.begin_seal)
            rows.update_export(
                replace(
                    export,
                    begin_seal=begin_seal or (fallback if by_time_alone else export.begin_seal),
                    version=export.version + 1,
                    names_from=self._clock(),
                    repeats_until=max(filter(None, (live.open_end, live.watermark, export.repeats_until))),
                    tries=0,
                    blocked_until=None,
                    failure=export.failure if export.stopped else None,
                )
            )
        return Accepted(export.name, way.watermark, by_time_alone)


@dataclass(frozen=True, slots=True)
class _WayBack:
    """Where an export goes back to, from where it stands, if its source still holds the seals."""

    standing: Standing
    watermark: datetime
    seal: Seal

    @property
    def backfills(self) -> list[Lane]:
        """Those that are not done."""
        return [lane for lane in self.standing.lanes if lane.kind is LaneKind.BACKFILL and not lane.done]

    def adopted(self, adopt: Callable[[Seal], Seal | None]) -> _Adopted:
        """What the source makes of the seals that matter; each is asked for once."""
        seals = [self.seal, self.standing.export.begin_seal, *(lane.seal for lane in self.backfills)]
        return _Adopted(
            [(seal, adopt(seal)) for index, seal in enumerate(seals) if seal not in seals[:index]]
        )


@dataclass(frozen=True, slots=True)
class _Adopted:
    """Seals as they were taken, and as the source that is there now would have taken them."""

    pairs: list[tuple[Seal, Seal | None]]

    def of(self, seal: Seal) -> Seal | None:
        """The seal to go on with; None if it means nothing here."""
        return next(now for before, now in self.pairs if before == seal)


@dataclass(frozen=True, slots=True)
class Accepted:
    """Where one export goes on from after its source was accepted."""

    export: str
    watermark: datetime
    by_time_alone: bool


def restored(storage: Storage, clock: Clock) -> int:
    """Put a ledger that came back from a backup into service; answers how many open plans it gave up.

    What was delivered after the backup was taken is not on record: every open plan is planned again and
    names start at now, also those of exports that the backup does not know, so that nothing meets an
    object that is already there. It may double, never lose.
    """
    with storage.writing() as rows:
        now = clock()
        rows.set_ledger_id(uuid4().hex)
        rows.set_names_from(now)
        given_up = 0
        for export in rows.exports():
            given_up += _abandon_open(rows, export.name)
            rows.update_export(replace(export, names_from=now, version=export.version + 1))
        return given_up


def _going_on(lane: Lane, adopted: Seal | None, fallback: Seal) -> Lane:
    """A backfill with a seal of the present source; its window begins again only if the old seal is lost."""
    if adopted is None:
        return at_start(lane, lane.watermark, fallback)
    return replace(lane, seal=adopted, open_seal=adopted if lane.open_seal else None)


def _abandon_open(rows: Rows, name: str) -> int:
    plans = rows.open_plans(name)
    for plan in plans:
        rows.update_plan(replace(plan, state=PlanState.ABANDONED))
    return len(plans)


def _known(rows: Rows, name: str) -> Export:
    export = rows.export(name)
    if export is None:
        raise _unknown(name)
    return export


def _unknown(name: str) -> ConfigError:
    return ConfigError(
        f"the ledger knows no export named '{name}'",
        hint="it has not begun, or has another name; see them all with: audit-exporter status",
    )


def _refuse_repeats(export: Export, window: Window, earlier: list[Lane]) -> None:
    if window.end > export.begin:
        raise ConfigError(
            f"live delivery of export '{export.name}' covers every record from {_time(export.begin)} on",
            hint=f"ask for a range that ends there (--to {_time(export.begin)}), "
            "or add --redeliver to have those records a second time",
        )
    for lane in earlier:
        start, until = lane.start or lane.watermark, lane.until or lane.watermark
        if start < window.end and window.start < until:
            asked = f"{_time(start)} to {_time(until)}"
            if not lane.done:
                raise ConfigError(
                    f"an unfinished backfill of export '{export.name}' was asked for {asked}",
                    hint="finish it first: `audit-exporter status` prints its command",
                )
            raise ConfigError(
                f"an earlier backfill of export '{export.name}' covers {asked}",
                hint="ask for the rest of the range, or add --redeliver to have those records a second time",
            )


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"
