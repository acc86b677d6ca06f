"""Writers that behave as applications do: short and long transactions, some undone, some left to others.

Each is a process with a connection of its own. It must not wait for the exporter, nor know of it.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Final
from uuid import UUID

from tests.storm.postgres import RENUMBERED
from tests.storm.records import Pen

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.sharedctypes import Synchronized
    from multiprocessing.synchronize import Event

    from tests.storm.sessions import Database, Session

ROLLED_BACK: Final = 0.05
IN_SAVEPOINTS: Final = 0.15
STAYS_PREPARED_S: Final = 3.0
SLEEPS: Final = 5


@dataclass(frozen=True)
class Size:
    """How large a storm is. It ends at ``rows``, or else when it has lasted ``limit_s``.

    Writers keep to a pace of ``rows`` in ``seconds``; a pace that the machine cannot keep takes longer.
    """

    rows: int
    writers: int
    seconds: float
    limit_s: float
    long_transaction_s: float
    seed: int


@dataclass(frozen=True)
class Shared:
    """What all writers of a storm know together."""

    committed: Synchronized[int]
    over: Event  # every writer has ended


class Writer:
    """One writer at work."""

    def __init__(self, database: Database, size: Size, shared: Shared, number: int) -> None:
        self.random = Random(f"{size.seed}-{number}")
        self.session: Session = database.session(self.random)
        self.tally: Counter[str] = Counter()
        self._longest_hold_s = database.longest_hold_s
        self._most_rows = database.most_rows
        self._pen = Pen(self.random)
        self._shared = shared
        self._size = size
        self._begun = time.monotonic()
        self._slot = self._begun

    # --- Pace ----------------------------------------------------------------------------------------

    def run(self) -> None:
        """Write until the storm is over."""
        while not self._is_over():
            before = self.tally["rows"]
            self._attempt(self._behave)
            self._wait(self.tally["rows"] - before)
        self.session.close()

    def _attempt(self, what: Callable[[], None]) -> None:
        """What goes wrong in the ordinary course of things is given up."""
        try:
            what()
        except self.session.error as error:
            if not self.session.passes(error):
                raise
            self.tally["given up"] += 1
            self.session.reopen()

    def _wait(self, rows: int) -> None:
        """Until the next slot, so that the storm takes its time."""
        share = self._size.seconds * self._size.writers / self._size.rows
        self._slot += (rows or 1) * share * self.random.uniform(0.5, 1.5)
        while (left := self._slot - time.monotonic()) > 0 and not self._is_over():
            time.sleep(min(left, 0.1))

    def _is_over(self) -> bool:
        has_all = self._shared.committed.value >= self._size.rows
        return has_all or time.monotonic() > self._begun + self._size.limit_s

    def _committed(self, rows: int, kind: str) -> None:
        with self._shared.committed.get_lock():
            self._shared.committed.value += rows
        self.tally["rows"] += rows
        self.tally[kind] += 1

    # --- What an application does ------------------------------------------------------------------------

    def _behave(self) -> None:
        behaviours: dict[Callable[[], None], float] = {
            self._at_once: 45,
            self._transaction: 40,
            self._changes: 7,
            self._hang_up: 2,
        }
        if self.session.copies:
            behaviours[self._bulk] = 6
        if self.session.prepares:
            behaviours[self._prepared] = 3
        self.random.choices(list(behaviours), list(behaviours.values()))[0]()

    def _at_once(self) -> None:
        """Statements that commit by themselves."""
        count = min(self._most_rows, self.random.choice((1, 1, 1, 2, 5, 20)))
        action = self.random.choice(("saved", "saved", RENUMBERED))
        self.session.write(self._pen.records(count, action))
        self._committed(count, "statements")

    def _bulk(self) -> None:
        count = self.random.randint(1, 4 * self._most_rows)
        self.session.copy(self._pen.records(count, "copied"))
        self._committed(count, "copies")

    def _changes(self) -> None:
        """Another table changes, in a transaction with something else or alone; a trigger records it."""
        records = self._pen.records(self.random.choice((1, 1, 3)), "changed")
        if len(records) > 1:
            self.session.begin()
        for record in records:
            self.session.touch(record)
        if len(records) > 1:
            self.session.write(self._pen.records(2, "beside changes"))
            self.session.commit()
        self._committed(len(records) + 2 * (len(records) > 1), "changes")

    def _transaction(self) -> None:
        """Some records, a while, some more; then it is committed, as a rule."""
        self.session.begin()
        rows = self._held(self._hold_s())
        if self.random.random() < ROLLED_BACK:
            self.session.rollback()
            self.tally["rolled back"] += 1
        else:
            self.session.commit()
            self._committed(rows, "transactions")

    def _hang_up(self) -> None:
        """The application dies in the middle, or a proxy cuts it off."""
        self.session.begin()
        self._held(self._hold_s())
        self.session.reopen()
        self.tally["hung up"] += 1

    def _prepared(self) -> None:
        """Somebody else finishes it, later."""
        due = time.time() + self.random.uniform(0, STAYS_PREPARED_S)
        fate = "rollback" if self.random.random() < ROLLED_BACK else "commit"
        # Of MariaDB's 64 bytes.
        unique = UUID(int=self.random.getrandbits(128)).hex[:12]
        records = self._pen.records(self.random.randint(1, 10), "prepared")
        name = f"storm-{fate}-{len(records)}-{due:.3f}-{unique}"
        self.session.begin_to_prepare(name)
        self.session.write(records)
        self.session.prepare(name)
        self.tally["prepared"] += 1

    # --- Inside a transaction ------------------------------------------------------------------------------

    def _hold_s(self) -> float:
        """Most transactions are short; some stay open for as long as people wait."""
        longest = self._longest_hold_s
        return (
            self.random.choices((0.0, longest / 10, longest / 2, longest), (50, 30, 15, 5))[0]
            * self.random.random()
        )

    def _held(self, seconds: float) -> int:
        """Write in several steps; how many rows stand at the end."""
        with_savepoints = self.random.random() < IN_SAVEPOINTS
        steps = self.random.randint(1, 5)
        left = self.random.randint(steps, self._most_rows)
        rows = 0
        for step in range(steps):
            count = left if step == steps - 1 else self.random.randint(1, left - (steps - step - 1))
            left -= count
            rows += self._in_savepoint(count) if with_savepoints else self._plain(count)
            time.sleep(seconds / steps)
        return rows

    def _plain(self, count: int) -> int:
        self.session.write(self._pen.records(count, "in a transaction"))
        return count

    def _in_savepoint(self, count: int) -> int:
        """A subtransaction, perhaps with another one in it; released or undone."""
        session = self.session
        session.execute("SAVEPOINT outside")
        session.write(self._pen.records(count, "savepoint"))
        session.execute("SAVEPOINT inside")
        session.write(self._pen.records(1, "nested savepoint"))
        self.tally["savepoints"] += 1
        fate = self.random.choice(
            ("RELEASE SAVEPOINT outside", "ROLLBACK TO SAVEPOINT inside", "ROLLBACK TO SAVEPOINT outside")
        )
        session.execute(fate)
        session.regret()
        return {"RELEASE SAVEPOINT outside": count + 1, "ROLLBACK TO SAVEPOINT inside": count}.get(fate, 0)


class Sleeper(Writer):
    """A writer whose transactions stay open for very long."""

    def run(self) -> None:
        """As often as there is time for it, with as long a pause in between."""
        length = self._size.long_transaction_s
        end = self._begun + max(self._size.seconds, length)
        while time.monotonic() + length <= end + self._longest_hold_s:
            self._attempt(self._sleep)
            time.sleep(max(0.0, min(length, end - time.monotonic())))
        self.session.close()

    def _sleep(self) -> None:
        self.session.begin()
        for _ in range(SLEEPS):
            self.session.at_once(self._pen.records(self._most_rows // SLEEPS, "long"))
            self.session.regret()
            time.sleep(self._size.long_transaction_s / SLEEPS)
        self.session.commit()
        self._committed(self._most_rows // SLEEPS * SLEEPS, "long transactions")


def finish_prepared(database: Database, size: Size, shared: Shared) -> Counter[str]:
    """Finish other people's prepared transactions when their time has come; all of them at the end."""
    session, tally = database.session(Random(size.seed)), Counter[str]()
    over = False
    while not over or _names(session):
        over = shared.over.wait(0.05)
        for name in _names(session):
            _, fate, rows, due, _ = name.split("-")
            if (over or float(due) <= time.time()) and _finished(session, name, commit=fate == "commit"):
                tally[f"prepared: {fate}"] += 1
                shared.committed.value += int(rows) if fate == "commit" else 0
    session.close()
    return tally


def _finished(session: Session, name: str, *, commit: bool) -> bool:
    try:
        session.finish(name, commit=commit)
    except session.error as error:
        if not session.passes(error):
            raise
        session.reopen()
        return False
    return True


def _names(session: Session) -> list[str]:
    return [name for name in session.prepared() if name.startswith("storm-")]
