"""What happens around the processes: time, the vendor's application, people, and the network.

Each event is a whole thing that takes no step of a process. Which ones can happen is part of the seed.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo

from exporter.destinations.memory import StoredObject
from exporter.errors import ConfigError
from exporter.ledger import requests
from exporter.model import PlanState, Window
from exporter.schedule import last_boundary
from tests.simulation.application import PAYLOADS
from tests.simulation.promises import FOREIGN

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from exporter.ledger.memory import MemoryRows
    from exporter.model import Export
    from exporter.pipeline import Job
    from tests.simulation.world import World

MAX_RECORDS: Final = 30
ZONES: Final = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe")
EVERY: Final = tuple(timedelta(minutes=minutes) for minutes in (5, 10, 30, 60))
LIMITS: Final = (1, 150, 400, 1_000_000)
KINDS: Final = {
    "plain": 5,
    "changing": 3,  # settings, paused exports, records that say something else
    "asked": 3,  # backfill and replay, besides all of `changing`
    "squatted": 2,  # foreign objects
    "restored": 2,  # a ledger from a backup
    "accepted": 2,  # another copy of the source
}


class Events:
    """The events of one world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._rng = world.rng
        self._kind = world.rng.choices(list(KINDS), list(KINDS.values()))[0]
        self._times: list[datetime] = []
        self._written = 0
        self._backup: dict[str, dict[object, object]] | None = None
        self.failed_over = False
        self._choices = self._possible()

    def _possible(self) -> tuple[list[Callable[[], None]], list[int]]:
        weights: dict[Callable[[], None], int] = {
            self._pass_time: 8,
            self._write: 8,
            self._end_transaction: 5,
            self._land: 2,
        }
        if self._kind in ("changing", "asked"):
            weights |= {self._configure: 2, self._pause: 1, self._resume: 2, self._update: 3}
        if self._kind == "asked":
            weights |= {self._backfill: 2, self._replay: 2}
        if self._kind == "squatted":
            weights |= {self._squat: 3, self._resume: 2}
        if self._kind == "restored":
            weights |= {self._back_up: 1, self._restore: 1}
        if self._kind == "accepted":
            weights |= {self._fail_over: 1, self._accept: 1}
        return list(weights), list(weights.values())

    def prepare(self) -> None:
        """Some history from before the first run; a part of it not yet visible."""
        self._world.note(f"seed {self._world.seed}: {self._kind}, {self._world.chances}")
        for job in self._world.jobs.values():
            self._world.note(f"  {job.name}: {job}")
        for _ in range(3):
            self._write()
        self._end_transaction()

    def happen(self) -> None:
        """Let one thing happen."""
        events, weights = self._choices
        self._rng.choices(events, weights)[0]()

    def settle_down(self) -> None:
        """All that was under way comes to an end, and people clear what waits for them."""
        self._land()
        while self._world.application.running:
            self._end_transaction()
        if self._kind == "accepted":
            self._accept()
        self.clear()

    def clear(self) -> bool:
        """Whatever waits for a person gets on; False if nothing did."""
        waiting = [export for export in self._exports() if export.paused or export.stopped]
        for export in waiting:
            self._world.note(f"    {export.name} is resumed")
            self._world.requests().resume(export.name)
        return bool(waiting)

    # --- time and the network --------------------------------------------------------------------

    def _pass_time(self) -> None:
        every = self._some_job().every
        longest = self._rng.choice((timedelta(seconds=1), timedelta(seconds=90), every, 3 * every))
        self._world.now += timedelta(microseconds=self._rng.randrange(longest // timedelta(microseconds=1)))
        self._world.note(f"    it is {self._world.now:%Y-%m-%dT%H:%M:%S}")

    def _land(self) -> None:
        for store in self._world.stores:
            store.settle()
        self._world.changed()

    # --- the vendor's application ----------------------------------------------------------------

    def _write(self) -> None:
        """Some records in a new transaction, or in one that is still running."""
        application = self._world.application
        running = list(application.running)
        fresh = not running or self._rng.random() < 0.5
        transaction = application.begin() if fresh else self._rng.choice(running)
        for _ in range(self._rng.randint(0, 3)):
            if self._written < MAX_RECORDS:
                account = self._rng.choice(("acme", "acme", "globex", "acme "))
                payload = self._rng.choice(list(PAYLOADS))
                row = application.insert(transaction, account, self._time(), payload)
                self._world.note(
                    f"    {transaction} writes {row.id} for {account!r} at {row.time}: {payload}"
                )
                self._written += 1

    def _time(self) -> datetime | None:
        """A record's own time: mostly now, and all that is odd."""
        now, every = self._world.now, self._some_job().every
        some = timedelta(seconds=self._rng.randrange(3 * every // timedelta(seconds=1)))
        choices: tuple[datetime | None, ...] = (
            now,
            self._rng.choice(self._times) if self._times else now,
            now - some,
            now + some,
            now - some * 4,
            last_boundary(now, every, self._some_job().zone),
            None,
        )
        time = self._rng.choices(choices, (8, 3, 3, 1, 1, 2, 1))[0]
        if time is not None:
            self._times.append(time)
        return time

    def _end_transaction(self) -> None:
        application = self._world.application
        if application.running:
            transaction = self._rng.choice(list(application.running))
            if self._rng.random() < 0.15:
                self._world.note(f"    {transaction} rolls back")
                application.roll_back(transaction)
            else:
                rows = application.commit(transaction)
                self._world.note(f"    {transaction} commits {[row.id for row in rows]}")

    def _update(self) -> None:
        rows = self._world.application.rows.get(self._some_job().account)
        if rows:
            row, payload = self._rng.choice(rows), self._rng.choice(list(PAYLOADS))
            self._world.note(f"    record {row.id} now says {payload}")
            self._world.application.update(row, payload)

    # --- the vendor's people ---------------------------------------------------------------------

    def _configure(self) -> None:
        """Other settings for the next run; its exports move to another place now and then."""
        world, job = self._world, self._some_job()
        changes = replace(
            job,
            zone=ZoneInfo(self._rng.choice(ZONES)),
            every=self._rng.choice((job.every, *EVERY)),
            rendering=world.rendering(job.name),
            part_limit_bytes=self._rng.choice(LIMITS),
        )
        if self._rng.random() < 0.2 and not changes.rendering.is_events:
            prefix = f"{job.name}/{self._rng.choice(('', 'moved'))}".removesuffix("/")
            destination = world.destination(self._rng.randrange(2), prefix)
            changes = replace(changes, destination=destination, claim=destination.claim(job.account))
        world.note(f"    {job.name} is configured anew: {changes}")
        world.jobs[job.name] = changes

    def _pause(self) -> None:
        if (export := self._some_export()) is not None:
            self._world.note(f"    {export.name} is paused")
            self._world.requests().pause(export.name)
            self._world.changed()

    def _resume(self) -> None:
        if (export := self._some_export()) is not None:
            again = self._world.requests().resume(export.name)
            self._world.note(f"    {export.name} is resumed{', its plan is made anew' if again else ''}")
            self._world.changed()

    def _backfill(self) -> None:
        """A past range, in all shapes; most of the refused ones would repeat."""
        export = self._some_export()
        if export is None:
            return
        unit = timedelta(minutes=5)
        start = export.begin - self._rng.randint(0, 12) * unit
        end = min(start + self._rng.randint(1, 12) * unit, self._world.now)
        redeliver = self._rng.random() < 0.2
        if start >= end:
            return
        window, seal = Window(start, end), self._world.source.seal()
        self._world.note(f"    backfill of {export.name}: {window}, {redeliver=}")
        try:
            self._world.requests().backfill(export.name, window, seal, redeliver=redeliver)
        except ConfigError as error:
            self._world.note(f"    refused: {error.message}")
        self._world.changed()

    def _replay(self) -> None:
        export = self._some_export()
        if export is None:
            return
        delivered = [
            plan.sequence
            for plan in self._rows()._plans.values()
            if plan.export == export.name and plan.state is PlanState.DELIVERED
        ]
        if delivered:
            sequences = tuple(sorted(self._rng.sample(delivered, min(2, len(delivered)))))
            self._world.note(f"    replay of {export.name}: {sequences}")
            self._world.requests().replay(export.name, sequences)
            self._world.changed()

    def _squat(self) -> None:
        """Somebody else writes an object of the name that comes next."""
        for plan in self._rows().open_plans():
            if plan.rendering.is_events:
                continue
            store = self._rng.choice(self._world.stores)
            stored = store.objects.setdefault(plan.name, StoredObject(b"not ours", FOREIGN))
            self._world.note(f"    {plan.name} is {'foreign' if stored.metadata == FOREIGN else 'ours'}")
        self._world.changed()

    # --- when a database comes back as it was ----------------------------------------------------

    def _back_up(self) -> None:
        self._world.note("    the ledger is backed up")
        self._backup = {
            name: dict(rows) for name, rows in vars(self._rows()).items() if isinstance(rows, dict)
        }

    def _restore(self) -> None:
        """The ledger as it was at the backup, put into service at least a second later."""
        if self._backup is None:
            return
        world = self._world
        world.now += timedelta(seconds=1)
        for name, rows in self._backup.items():
            setattr(self._rows(), name, dict(rows))
        world.promises.forgive_restore(self._rows())
        given_up = requests.restored(world.storage, world.clock)
        world.note(f"    the ledger is restored; {given_up} plans are given up")
        world.changed()

    def _fail_over(self) -> None:
        """Another copy of the source takes over, and somebody accepts it, now or later."""
        self._world.note("    the source fails over")
        self._world.application.fail_over()
        self.failed_over = True
        if self._rng.random() < 0.7:
            self._accept()

    def _accept(self) -> None:
        world = self._world
        moment = world.now - timedelta(seconds=self._rng.randrange(2400))
        seal = world.source.seal()
        world.now += timedelta(seconds=1)
        accepted = [
            world.requests().accept_source(export.name, moment, seal, world.source.adopt)
            for export in self._exports()
        ]
        for one in accepted:
            world.note(f"    the source is accepted: {one}")
        world.promises.forgive_accepted(self._rows(), [one.export for one in accepted if one.by_time_alone])
        world.changed()

    # --- choices ---------------------------------------------------------------------------------

    def _rows(self) -> MemoryRows:
        return self._world.storage._rows

    def _exports(self) -> list[Export]:
        return self._rows().exports()

    def _some_export(self) -> Export | None:
        exports = self._exports()
        return self._rng.choice(exports) if exports else None

    def _some_job(self) -> Job:
        return self._rng.choice(list(self._world.jobs.values()))
