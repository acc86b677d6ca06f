"""A writer's connection, and what every database must be able to do for a storm.

The statements that are the same everywhere are here; what differs is in the class of each database.
It must not know the product.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final

from tests.storm.records import COLUMNS, Clock

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime
    from random import Random

    from tests.storm.records import Record, When

DOCUMENTS: Final = 60
"""Rows of the table whose changes a trigger records."""

PATIENCE_S: Final = 60.0
NAPS: Final = 10
LONGEST_NAP_S: Final = 0.1

INSERT: Final = f"INSERT INTO audit_log ({', '.join(COLUMNS)})"
Row = tuple[Any, ...]


class Session(ABC):
    """One connection in autocommit mode. Statements are written with `%s` for a value."""

    now: ClassVar[str]
    """The database's clock."""
    moment: ClassVar[str] = "%s"
    """How the value of a time stands in a statement."""
    broken: ClassVar[tuple[object, ...]]
    """Times that no calendar has, as the column takes them."""
    nap: ClassVar[str] = ""
    """A value that takes some seconds to come, where there is such a thing."""
    last_id: ClassVar[str]
    """The id that this connection was given last."""
    copies: ClassVar[bool] = False
    prepares: ClassVar[bool] = False
    error: ClassVar[type[Exception]]
    """What the driver raises."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.open()

    @abstractmethod
    def open(self) -> None:
        """Connect."""

    @abstractmethod
    def close(self) -> None:
        """Hang up, whatever is going on: the server undoes what was not committed."""

    @abstractmethod
    def execute(self, statement: str, values: Sequence[object] = ()) -> list[Row]:
        """The rows that a statement answers, if any."""

    @abstractmethod
    def passes(self, error: Exception) -> bool:
        """Whether an application would take it with a shrug: a deadlock, no lock, a server that is gone."""

    def reopen(self) -> None:
        """Begin anew, as soon as the server lets us."""
        self.close()
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                return self.open()
            except self.error:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def ask(self, statement: str, values: Sequence[object] = ()) -> list[Row]:
        """The same as `execute` for what may be asked twice: it outlives a crash of the server."""
        try:
            return self.execute(statement, values)
        except self.error as error:
            if not self.passes(error):
                raise
        self.reopen()
        return self.ask(statement, values)

    def begin(self) -> None:
        """Begin a transaction."""
        self.execute("BEGIN")

    def commit(self) -> None:
        """End it."""
        self.execute("COMMIT")

    def rollback(self) -> None:
        """Undo it."""
        self.execute("ROLLBACK")

    def value(self, moment: datetime) -> object:
        """A time as the driver takes it."""
        return moment

    # --- Ways to write -----------------------------------------------------------------------------

    def write(self, records: Sequence[Record]) -> None:
        """Insert them in one of several ways."""
        ways = [self.one_by_one, self.at_once, self.selected]
        if self.nap and len(records) < NAPS:
            ways.append(self.slowly)
        self.random.choice(ways)(records)

    def one_by_one(self, records: Sequence[Record]) -> None:
        """A statement for each record."""
        for record in records:
            self.at_once([record])

    def at_once(self, records: Sequence[Record]) -> None:
        """One INSERT of many rows."""
        rows = [self._expressions(record) for record in records]
        self.execute(
            f"{INSERT} VALUES {', '.join(f'({row})' for row, _ in rows)}",
            [one for _, row in rows for one in row],
        )

    def slowly(self, records: Sequence[Record]) -> None:
        """One INSERT that gets its ids at its start, perhaps, and takes a while for each row."""
        nap = self.nap.format(self.random.uniform(0, LONGEST_NAP_S))
        rows = [self._expressions(record) for record in records]
        inserted = ", ".join(f"({row.removesuffix('%s')}{nap})" for row, _ in rows)
        self.execute(f"{INSERT} VALUES {inserted}", [one for _, row in rows for one in row])

    def regret(self) -> None:
        """Delete the last record, and take that back: inside a transaction."""
        self.execute("SAVEPOINT regret")
        self.execute(f"DELETE FROM audit_log WHERE id = {self.last_id}")
        self.execute("ROLLBACK TO SAVEPOINT regret")

    def selected(self, records: Sequence[Record]) -> None:
        """INSERT … SELECT, of which the database cannot know how many rows are to come."""
        rows = [self._expressions(record) for record in records]
        selects = " UNION ALL ".join(f"SELECT {row}" for row, _ in rows)
        self.execute(f"{INSERT} {selects}", [one for _, row in rows for one in row])

    def touch(self, record: Record) -> None:
        """Change another table, whose trigger writes the record."""
        assignments = ", ".join(f"{column} = %s" for column in COLUMNS[1:])
        time, values = self._time(record.time)
        self.execute(
            f"UPDATE documents SET created_at = {time}, {assignments} WHERE id = %s",
            (*values, *record[1:], self.random.randint(1, DOCUMENTS)),
        )

    def copy(self, records: Sequence[Record]) -> None:
        """Bulk load, where there is one."""
        raise NotImplementedError

    # --- Prepared transactions, where there are any --------------------------------------------------

    def begin_to_prepare(self, name: str) -> None:
        """Begin a transaction that will be prepared under a name."""
        raise NotImplementedError

    def prepare(self, name: str) -> None:
        """Leave the transaction to whoever finishes it."""
        raise NotImplementedError

    def prepared(self) -> list[str]:
        """The names of this storm's transactions that wait for somebody to finish them."""
        return []

    def finish(self, name: str, *, commit: bool) -> None:
        """Finish a prepared transaction of whomever."""
        raise NotImplementedError

    # --- Values ------------------------------------------------------------------------------------

    def _expressions(self, record: Record) -> tuple[str, list[object]]:
        time, values = self._time(record.time)
        return f"{time}{', %s' * (len(COLUMNS) - 1)}", [*values, *record[1:]]

    def _time(self, when: When) -> tuple[str, list[object]]:
        return (self.now, []) if when is Clock.DATABASE else (self.moment, [self.moment_of(when)])

    def moment_of(self, when: When) -> object:
        """Any time but the database's own as a value."""
        if when is Clock.NONE:
            return None
        if when is Clock.BROKEN:
            return self.random.choice(self.broken)
        assert not isinstance(when, Clock)
        return self.value(when)


@dataclass(frozen=True)
class Variant:
    """One way to configure the product for a database: `source:` and `ledger:` of the configuration.

    ``preload`` are the modules that a run would load by itself, for forks that need not. ``scans`` says
    that each window takes a look at every row of the table, so that windows have to grow with it.
    """

    name: str
    source: Mapping[str, object]
    ledger: Mapping[str, object]
    preload: Sequence[str] = ()
    scans: bool = False


Reader = Callable[[Session, object], "Iterator[list[int]]"]
"""Each `next` polls the table once, for the ids of what is new. It begins at a time of the session's form."""


class Database(ABC):
    """A database with an empty table `audit_log` for a storm, and the table `documents`.

    It travels to other processes by pickle, so it holds addresses and no connections.
    """

    longest_hold_s: ClassVar[float] = 4.0
    """For how long an ordinary transaction stays open at most."""
    most_rows: ClassVar[int] = 50
    """As many rows does an ordinary transaction write at most."""
    sleepers: ClassVar[int] = 2
    """How many writers keep theirs open for very long."""
    naive: ClassVar[Mapping[str, Reader]]
    """Readers as they are usually written, by what they go by."""
    must_lose: ClassVar[Sequence[str]]
    """Those of them that a storm has to make fail: else it proves nothing."""
    microseconds: ClassVar[str]
    """A record's time as microseconds since 1970 in SQL, NULL if it is unreadable."""

    @abstractmethod
    def create(self) -> None:
        """Make the tables, the trigger and the exporter's own role."""

    @abstractmethod
    def session(self, random: Random) -> Session:
        """A writer's connection."""

    @abstractmethod
    def variants(self) -> Sequence[Variant]:
        """How the product is configured; each variant is an exporter of its own."""

    @abstractmethod
    def rows(self, statement: str) -> Iterator[Row]:
        """The rows that a statement answers, streamed."""
