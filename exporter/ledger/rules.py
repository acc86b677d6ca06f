"""The ledger: the protocol's rules, each in a transaction of its own, or those of several exports in one.

It opens transactions, and makes sure that each is on the ledger that this process opened. What may happen
in one is said in ``protocol``.
"""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from exporter.errors import Defect, LedgerError
from exporter.ledger.history import note_run
from exporter.ledger.protocol import Rules
from exporter.ledger.standing import Draft, Standing, foreign_alarm, resume_hint, standing_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from types import TracebackType

    from exporter.interfaces import Clock
    from exporter.ledger.storage import ExportRows, GroupRows, Rows, RunRecord, Storage
    from exporter.model import Lane

__all__ = ["Draft", "Group", "Ledger", "Rules", "Standing", "foreign_alarm", "resume_hint", "standing_of"]


def new_id() -> str:
    """One that nobody else has, greater as text than earlier ones.

    So rows are added where the last ones were, and not all over the indexes, which costs twice as much in a
    young ledger, and reads a page of an old one for each.
    """
    return f"{time.time_ns() // 1000:016x}{os.urandom(8).hex()}"


class Ledger(Rules):
    """What every process that delivers agrees on.

    The ledger's id is part of every comparison, so a process that outlives a restore can change nothing.
    """

    def __init__(self, storage: Storage, clock: Clock, new_id: Callable[[], str] = new_id) -> None:
        super().__init__(clock, new_id)
        self._storage = storage
        with storage.reading() as rows:
            self._id = rows.ledger_id()

    @property
    def storage(self) -> Storage:
        """Where the rows live."""
        return self._storage

    @contextmanager
    def writing(self, export: str | None = None) -> Iterator[Rows]:
        """A transaction on the ledger that this process opened, and on no other; see `Storage.writing`."""
        with self._storage.writing(export) as rows:
            self._require_same(rows)
            yield rows

    @contextmanager
    def claiming(self, export: str) -> Iterator[Rows]:
        """A transaction that waits for those of all exports."""
        del export
        with self.writing() as rows:
            yield rows

    @contextmanager
    def reading(self) -> Iterator[Rows]:
        """One consistent view."""
        with self._storage.reading() as rows:
            yield rows

    @contextmanager
    def together(self, names: Collection[str]) -> Iterator[Group]:
        """The rules for several exports, in one transaction; some of them may be about to begin.

        A call that raises has changed nothing, and leaves what the others did as it is. Nothing is durable,
        and nobody else sees any of it, before the end; an error that comes out of the block undoes all. Keep
        it short, and call no rule of the ledger itself within: others wait for these exports, on SQLite
        for the whole file.
        """
        with self._storage.together(names) as rows:
            self._require_same(rows)
            yield Group(rows, names, self._clock, self._new_id)

    def _require_same(self, rows: ExportRows) -> None:
        if rows.ledger_id() != self._id:
            raise LedgerError(
                "the ledger was restored from a backup while this process was running",
                hint="start the command again",
            )

    def standings(self) -> dict[str, Standing]:
        """Every export by name, as of one moment."""
        with self.reading() as rows:
            plans = {plan.export: plan for plan in rows.open_plans()}
            waiting = rows.waiting()
            lanes: dict[str, list[Lane]] = {}
            for lane in rows.lanes():
                lanes.setdefault(lane.export, []).append(lane)
            return {
                row.name: Standing(
                    row, tuple(lanes.get(row.name, ())), plans.get(row.name), waiting.get(row.name, 0)
                )
                for row in rows.exports()
            }

    def record_run(self, run: RunRecord, *, again: bool = False) -> None:
        """Keep that a run started or, ``again``, how it ended; once is enough for one that is over."""
        with self.writing() as rows:
            note_run(rows, run, again=again)

    def last_run(self) -> RunRecord | None:
        """The newest run."""
        with self.reading() as rows:
            return rows.last_run()


class _Within:
    """One rule's part of a transaction. A class: a generator takes as long as what most rules do."""

    __slots__ = ("_rows", "_whole")

    def __init__(self, rows: GroupRows, *, claims: bool = False) -> None:
        self._rows, self._whole = rows, rows.whole(claims=claims)

    def __enter__(self) -> GroupRows:
        self._whole.__enter__()
        return self._rows

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._whole.__exit__(kind, error, traceback)


class Group(Rules):
    """The rules for some exports within one transaction; for one thread, until that has ended."""

    def __init__(
        self, rows: GroupRows, names: Collection[str], clock: Clock, new_id: Callable[[], str]
    ) -> None:
        super().__init__(clock, new_id)
        self._rows = rows
        self._names = frozenset(names)

    def expect(self, claims: Collection[str]) -> None:
        """These exports are about to begin, or to move, where these names are: it is looked up at once."""
        self._rows.expect(claims)

    def writing(self, export: str) -> _Within:
        """Its rows, with an undo of their own; raises Defect for an export that was not named."""
        self._require_named(export)
        return _Within(self._rows)

    def claiming(self, export: str) -> _Within:
        """The same, once all others that begin exports or move them have ended."""
        self._require_named(export)
        return _Within(self._rows, claims=True)

    def reading(self) -> _Within:
        """As the calls so far have left it."""
        return _Within(self._rows)

    def _require_named(self, export: str) -> None:
        if export not in self._names:
            raise Defect(
                f"internal error: export '{export}' is not among those of its transaction",
                hint="please report it; nothing was changed",
            )
