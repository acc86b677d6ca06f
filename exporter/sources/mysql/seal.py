"""How an extent of positions is taken that no later commit can change: the rule, and why it holds.

The position is the table's AUTO_INCREMENT column. InnoDB gives positions out within the statement that
inserts, in ever growing order; records become visible at commit, in any order. A seal is the set of all
positions up to the highest visible one, U, but for the gaps: those without a record that may still get one.

Claim: a position p <= U that has no visible record, and is no gap, never gets one. So a range (window,
previous seal, seal) never changes. Proof, for the steps in the order in which `extended` takes them:

1. U is read. Whatever position is <= U had been given out before, or was skipped: the counter only grows.
2. Wait until every statement has ended that ran at 1. (Sees every process: one after the other must be
   seen asleep, or gone, at some time after 1; a connection that sleeps is in no statement. How long a
   statement seems to be running proves nothing: triggers and functions set that back. Does not see them:
   until a mark, read like 1, is older than the longest statement.) From then on p belongs to no statement:
   positions that a statement has reserved and not used end with it.
3. A locking read of p that does not wait: it is refused if a transaction, prepared ones (XA) included, has
   inserted p and not ended, and even if it has deleted p again and may roll back to a savepoint. If it is
   not refused, p has a visible record, or nobody has inserted it, and by 2 nobody will.

What fails at 2 or 3, or was not reached by 2, stays a gap. A gap is tried again at every seal, so rolled
back positions go, and seals stay small. If there are more than MOST_GAPS, U is lowered below the one too
many, never below the previous U: nothing is lost, more comes late. Two extents of one table are both for
good, and so is their union; the seal of an export holds all that its previous one held.

Late is what this seal holds and the previous one does not. Each record that is ever committed comes to be
held by some seal, once: it is visible when U reaches it, or its position stays a gap until it is.

The first seal of a table knows nothing from before. It looks for uncommitted records LOOK_BACK positions
back, and, if step 2 did not succeed, takes it that no running statement holds an unused position more than
RESERVED positions (or MOST_GAPS gaps) back. Positions that an application gives itself are not covered.

A fail-over or a restart gives out positions above the highest record it has. While the record at U is there
and the same (the anchor), that is above U; gaps whose transactions went down just stay empty.
It must not know SQL: the table is asked through ``Positions``.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Final, Protocol

from exporter.sources.mysql.gaps import Extent, Mark, above, intersection, union

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from exporter.sources.mysql.gaps import Runs

LOOK_BACK: Final = 1_000_000
RESERVED: Final = 100_000
MOST_GAPS: Final = 2_000
_SLICE: Final = 200_000  # records that are looked through at a time: bounds memory


class Positions(Protocol):
    """What the rule asks of a table. Each question sees what is committed when it is asked."""

    def newest(self) -> int:
        """The highest visible position; 0 without any."""
        ...

    def now(self) -> datetime:
        """The server's clock."""
        ...

    def drained(self, wait_s: float) -> bool:
        """Whether every statement has ended that ran when this was asked; False if nobody can tell."""
        ...

    def oldest_statement(self) -> datetime:
        """When the oldest statement seems to have begun that can be seen; else now."""
        ...

    def slice_end(self, after: int, upto: int, most: int) -> int:
        """The end of a piece of (after, upto] with so many records at the most, however far apart."""
        ...

    def missing(self, after: int, upto: int) -> Runs:
        """The positions in (after, upto] without a visible record."""
        ...

    def still_missing(self, runs: Runs) -> Runs:
        """Those of the positions without a visible record."""
        ...

    def wait_for(self, runs: Runs, wait_s: float) -> None:
        """Wait for the ends of transactions that have inserted there."""
        ...

    def locked(self, runs: Runs) -> Runs:
        """At least those of the positions where a transaction has inserted and not ended. Waits for none."""
        ...


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for what is running, and how long a statement takes at the most."""

    wait_s: float
    longest: timedelta


def extended(positions: Positions, known: Extent | None, patience: Patience) -> Extent:
    """The extent as of now, which holds all that ``known`` does."""
    newest = positions.newest()
    at = positions.now()
    base = known if known is not None else _beginning(newest)
    taking = _Taking(positions, base, newest, at, patience)
    extent = replace(base, gaps=taking.open_ones(base.gaps))
    while extent.upto < newest and len(extent.gaps) < MOST_GAPS:
        upto = positions.slice_end(extent.upto, newest, _SLICE)
        gaps = taking.open_ones(positions.missing(extent.upto, upto), is_new=True)
        extent = replace(extent, upto=upto, gaps=union(extent.gaps, gaps))
    if known is None:
        extent = replace(extent, gaps=extent.gaps[-MOST_GAPS:])
    settled = taking.settled if extent.gaps else base.settled
    return (
        replace(extent, settled=settled)
        .bounded(MOST_GAPS, floor=base.upto)
        .marked(Mark(at, newest), patience.longest)
    )


def _beginning(newest: int) -> Extent:
    """Where the first seal of a table starts from."""
    return Extent(upto=max(0, newest - LOOK_BACK), settled=max(0, newest - RESERVED))


class _Taking:
    """One go at the rule, with one end to all its waiting."""

    def __init__(
        self, positions: Positions, base: Extent, newest: int, at: datetime, patience: Patience
    ) -> None:
        self._positions = positions
        self._base = base
        self._newest = newest
        self._at = at
        self._patience = patience
        self._deadline = time.monotonic() + patience.wait_s

    @cached_property
    def settled(self) -> int:
        """Step 2, once and only if there is anything to ask: positions up to here belong to no statement."""
        if self._positions.drained(self._left()):
            return max(self._newest, self._base.settled)
        oldest = self._positions.oldest_statement()
        return self._base.settled_by(self._at, self._patience.longest, oldest)

    def open_ones(self, missing: Runs, *, is_new: bool = False) -> Runs:
        """Those of the positions that may still get a record: steps 2 and 3. New ones are waited for."""
        if not missing:
            return ()
        settled = self.settled
        if is_new:
            self._positions.wait_for(missing, self._left())
        locked = self._positions.locked(missing)
        left = self._positions.still_missing(missing)  # what came meanwhile need not wait for the next seal
        return union(intersection(left, locked), above(left, settled))

    def _left(self) -> float:
        return max(0.0, self._deadline - time.monotonic())
