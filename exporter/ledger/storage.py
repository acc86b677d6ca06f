"""The ledger's inner seam: rows and transactions. It knows no rule of the protocol."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from contextlib import AbstractContextManager
    from datetime import datetime

    from exporter.model import Attempt, BadRecord, Export, Lane, Plan, SealedWindow


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One call of `run`: when, what came of it, and what stopped it as a whole."""

    id: str
    started_at: datetime
    finished_at: datetime | None = None
    delivered: int = 0
    failing: int = 0
    error: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Kept:
    """A record in the quarantine as a row: its number, and the sequence number of its plan."""

    number: int
    sequence: int
    record: BadRecord


class ExportRows(Protocol):
    """The rows of some exports as one transaction sees them. Getters answer None where there is none."""

    def ledger_id(self) -> str:
        """The random id that a restore replaces."""
        ...

    def names_from(self) -> datetime | None:
        """The moment of the last restore: no name given to an export that begins later lies before it."""
        ...

    def export(self, name: str) -> Export | None: ...  # noqa: D102 - rows in, rows out
    def export_by_claim(self, claim: str) -> Export | None: ...  # noqa: D102
    def insert_export(self, export: Export) -> None: ...  # noqa: D102
    def update_export(self, export: Export) -> None: ...  # noqa: D102

    def lane(self, export: str, lane: str) -> Lane | None: ...  # noqa: D102
    def lanes(self, export: str) -> list[Lane]: ...  # noqa: D102
    def insert_lane(self, lane: Lane) -> None: ...  # noqa: D102
    def update_lane(self, lane: Lane) -> None: ...  # noqa: D102

    def plan(self, plan_id: str) -> Plan | None: ...  # noqa: D102

    def still_open(self, plan: Plan) -> Plan | None:
        """This plan as it is now, if it is open, and its export's; of an open one only progress changes."""
        ...

    def open_plans(self, export: str) -> list[Plan]: ...  # noqa: D102
    def plan_by_sequence(self, export: str, sequence: int) -> Plan | None: ...  # noqa: D102
    def insert_plan(self, plan: Plan) -> None: ...  # noqa: D102
    def update_plan(self, plan: Plan) -> None: ...  # noqa: D102

    def attempts(self, plan_id: str) -> list[Attempt]:
        """In the order in which they were recorded."""
        ...

    def insert_attempt(self, attempt: Attempt) -> None: ...  # noqa: D102
    def update_attempt(self, attempt: Attempt) -> None: ...  # noqa: D102

    def insert_window(self, window: SealedWindow) -> None: ...  # noqa: D102

    def last_window_before(self, export: str, moment: datetime) -> SealedWindow | None:
        """The last live window that was committed before this moment."""
        ...

    def delete_windows(self, export: str, before: datetime) -> None:
        """Forget the live windows that were committed before this moment."""
        ...

    def insert_bad_records(self, plan_id: str, records: Sequence[BadRecord]) -> None: ...  # noqa: D102

    def waiting(self, export: str) -> Mapping[str, int]:
        """How many refused events nobody has sent again, by export; of plans that were given up, none."""
        ...


class GroupRows(ExportRows, Protocol):
    """The rows of several exports, for a transaction that takes one change after another, each for itself."""

    def expect(self, claims: Collection[str]) -> None:
        """Nothing changes by this: `export_by_claim` will be asked for these, one after another."""
        ...

    def whole(self, *, claims: bool = False) -> AbstractContextManager[None]:
        """What is done within it is done whole: an error undoes that, and nothing of what came before.

        With ``claims`` nobody else gives out a claim, from here to the end of the transaction.
        """
        ...


class Rows(ExportRows, Protocol):
    """All rows, as one transaction sees them."""

    def set_ledger_id(self, value: str) -> None:
        """Make every transaction of a process that read the old id fail."""
        ...

    def set_names_from(self, moment: datetime) -> None:
        """Note that the ledger was restored at this moment."""
        ...

    def exports(self) -> list[Export]: ...  # noqa: D102

    def rename_export(self, name: str, new_name: str) -> None:
        """Give the export and everything that belongs to it another name."""
        ...

    def lanes(self, export: str | None = None) -> list[Lane]: ...  # noqa: D102
    def open_plans(self, export: str | None = None) -> list[Plan]: ...  # noqa: D102
    def bad_records(self, plan_id: str) -> list[BadRecord]: ...  # noqa: D102

    def waiting(self, export: str | None = None) -> Mapping[str, int]:
        """As of one export, or of all."""
        ...

    def waiting_records(self, export: str, sequence: int | None, after: int, most: int) -> list[Kept]:
        """The first of these events behind the row ``after``, of one plan or of all."""
        ...

    def update_bad_record(self, kept: Kept) -> None:
        """Put this record in the place of the one in its row, unless that was sent again meanwhile."""
        ...

    def insert_run(self, run: RunRecord) -> None: ...  # noqa: D102
    def update_run(self, run: RunRecord) -> None: ...  # noqa: D102
    def last_run(self) -> RunRecord | None: ...  # noqa: D102

    def delete_runs(self, before: datetime) -> None:
        """Forget the runs that started before this moment."""
        ...


class Storage(Protocol):
    """Where the rows live. Raises LedgerError when they cannot be read or written."""

    def writing(self, export: str | None = None) -> AbstractContextManager[Rows]:
        """A transaction: serializable with every other, durable once it has ended without an error.

        An error inside it undoes all of it. Whoever names an export touches nothing beside what belongs to
        it, the ledger's id and attempts of its own, so that transactions of other exports need not wait.
        """
        ...

    def together(self, exports: Collection[str]) -> AbstractContextManager[GroupRows]:
        """The same for several exports at once: one transaction, of which others wait for these alone.

        Some of them may not be there yet. Of two such transactions neither ever waits for the other in vain.
        """
        ...

    def reading(self) -> AbstractContextManager[Rows]:
        """One consistent view, for reading alone."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...
