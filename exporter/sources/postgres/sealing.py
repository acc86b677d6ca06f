"""Taking seals: waiting for what still runs, for the disk, for a standby's replay; and who may be sealed.

The wait is for every transaction that had begun to write before the call. Its barrier is the next number
to be given out, as `age` tells it: what a transaction of our own would get, but nothing is written, and a
standby has it, too. When the wait runs out, the horizon there is will do: nothing is lost, more comes late.

A horizon counts only once the log up to it is on the primary's disk: after a crash, transactions that were
committed with synchronous_commit = off are gone, and their numbers are given out again.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, cast

from psycopg import sql

from exporter.errors import SourceBusy, SourceError
from exporter.sources.postgres.append_only import updatable_by
from exporter.sources.postgres.seal import (
    FIRST_XID,
    HALF_ROUND,
    WAY_ON,
    XIDS,
    XMIN,
    PostgresSeal,
    next_alias,
    visible_at,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from datetime import datetime

    from exporter.columns import Roles
    from exporter.model import Seal
    from exporter.sources.postgres.connection import Database, Moment, Session
    from exporter.sources.postgres.ranges import Snapshot
    from exporter.sources.postgres.relation import Relation, Table

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.005, 0.1
_FLUSH_WAIT_S = 10.0
_TRIES_BEFORE_OWN = 4
_NEAR = 2**28  # so many transactions before numbers meet a row, rows are looked at again: it may be deleted
# Foreign tables count another cluster's transactions; a materialized view shows rows when it is refreshed.
_STRANGE: Final = sql.SQL("""
    WITH RECURSIVE tree (oid) AS (
        SELECT {table}::oid UNION ALL SELECT inhrelid FROM pg_inherits JOIN tree ON inhparent = tree.oid
    )
    SELECT tree.oid::regclass::text FROM tree JOIN pg_class USING (oid) WHERE relkind IN ('f', 'm') LIMIT 1
""")
_APPEND_ONLY: Final = (
    "revoke it, let a trigger refuse every update, or state source.append_only: true if nobody ever "
    f"updates a record; or {WAY_ON}"
)


@dataclass(frozen=True, slots=True)
class Rules:
    """What the settings say about positions: ``commit`` names the xid8 column, None means system xmin."""

    roles: Roles
    commit: str | None
    append_only: bool
    seal_wait_s: float


@dataclass(frozen=True, slots=True)
class _Taken:
    """A seal, and a moment of the server's clock before which all that was visible is below it."""

    at: datetime
    seal: Seal


@dataclass(frozen=True, slots=True)
class _Unmet:
    """No row of this file has a number that comes round in [since, until)."""

    table: int
    filenode: int
    since: int
    until: int


class Sealer:
    """Takes seals for many threads; ``open_snapshot`` opens one that has reached the seals it is given."""

    def __init__(
        self,
        database: Database,
        open_snapshot: Callable[..., AbstractContextManager[Snapshot]],
        rules: Rules,
    ) -> None:
        self._database = database
        self._open = open_snapshot
        self._rules = rules
        self._lock = threading.Lock()
        self._newest: _Taken | None = None
        self._checked: tuple[Seal, Seal] | None = None

    def seal(self, previous: Seal | None, due: datetime | None) -> Seal:
        """A seal taken now; with ``due`` perhaps one that another export's window had, waited for once."""
        if due is None:
            return self._take(previous, None).seal
        with self._lock:
            newest = self._newest
            if newest is not None and newest.at >= due and self._may_follow(previous, newest.seal):
                return newest.seal
            return self._take(previous, due).seal

    def _take(self, previous: Seal | None, due: datetime | None) -> _Taken:
        seals = () if previous is None else (previous,)
        with self._open(*seals) as snapshot:
            require_sealable(snapshot.session, snapshot.relation, self._rules)
            unmet = self._unmet(snapshot, previous) if self._rules.commit is None else None
            first = snapshot.session.moment
        self._wait(first, due or first.now)
        with self._open(*seals) as snapshot:
            _require_same(first, snapshot.session.moment)
            taken = _Taken(first.now, self._sealed(snapshot, unmet).json())
            self._require_growth(snapshot, previous, taken.seal)
            last = snapshot.session.moment
        self._await_disk(last)
        if self._newest is None or self._newest.at < taken.at:
            self._newest = taken
        return taken

    def _may_follow(self, previous: Seal | None, seal: Seal) -> bool:
        if previous is None or self._checked == (previous, seal):
            return True
        before, now = PostgresSeal.of(previous), PostgresSeal.of(seal)
        return before is not None and now is not None and before.is_followed_by(now)

    def _wait(self, first: Moment, due: datetime) -> None:
        """Until all that had begun has ended and, on a standby, has arrived; or until time is up."""
        moment, pause = first, _FIRST_PAUSE_S
        deadline = time.monotonic() + self._rules.seal_wait_s
        while not _has_passed(moment, first, due) and time.monotonic() < deadline:
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)
            with self._database.reading() as session:
                moment = session.moment

    def _await_disk(self, last: Moment) -> None:
        """Until all that this moment rests on is on the primary's disk: half a second at most.

        Commits flush the log, and the end of any transaction with a number has it flushed soon after; what is
        left behind by something else may stay where it is for ever, so that it takes one of our own.
        """
        moment, tries = last, 0
        deadline = time.monotonic() + _FLUSH_WAIT_S
        while moment.flushed < last.written:
            if time.monotonic() > deadline:
                hint = "the next run tries again; look at wal_writer_delay, and at the server's disk"
                raise SourceBusy("the database does not get its log onto its disk", hint=hint)
            time.sleep(_FIRST_PAUSE_S)
            tries += 1
            with self._database.reading() as session:
                if tries == _TRIES_BEFORE_OWN:
                    session.row(sql.SQL("SELECT pg_current_xact_id()"))
                moment = session.moment

    def _sealed(self, snapshot: Snapshot, unmet: _Unmet | None) -> PostgresSeal:
        moment, commit = snapshot.session.moment, self._rules.commit
        sealed = PostgresSeal(moment.system, moment.timeline, moment.horizon, commit)
        if unmet is None:
            return sealed
        table = snapshot.relation.table
        if table is None or (table.oid, table.filenode) != (unmet.table, unmet.filenode):
            raise SourceBusy(
                "the table was rewritten just now", hint="the next run looks at it as it is then"
            )
        if moment.xmax > unmet.until:
            raise SourceError(f"transaction numbers have come round, at {moment.xmax}", hint=WAY_ON)
        if moment.horizon < unmet.since:
            raise SourceBusy(
                "transactions that began before the first look at the table are still running",
                hint="the next run tries again; pg_stat_activity and pg_prepared_xacts say who they are",
            )
        return replace(sealed, table=unmet.table, filenode=unmet.filenode, alias=unmet.until)

    def _unmet(self, snapshot: Snapshot, previous: Seal | None) -> _Unmet:
        """From what is known, or by a look at the whole table when that says too little."""
        moment = snapshot.session.moment
        table = cast("Table", snapshot.relation.table)
        file = (table.oid, cast("int", table.filenode))
        if moment.xmax <= HALF_ROUND:
            return _Unmet(*file, 0, XIDS + FIRST_XID)  # no number has come round yet
        known = self._known(file, moment, previous)
        if known is not None and known.until - moment.xmax > _NEAR:
            return known
        row = snapshot.session.row(
            snapshot.relation.select(next_alias(moment.xmax), [sql.SQL("{} >= {}").format(XMIN, FIRST_XID)])
        )
        found = XIDS + moment.xmax if row is None or row[0] is None else cast("int", row[0])
        since = known.since if known is not None else moment.xmax if moment.xmax > XIDS else 0
        return _Unmet(*file, since, min(found, moment.horizon + XIDS))

    def _known(self, file: tuple[int, int], moment: Moment, previous: Seal | None) -> _Unmet | None:
        """What earlier seals say of this file: rows that came later have numbers above their horizon."""
        newest = self._newest
        seals = [seal for seal in (previous, newest.seal if newest else None) if seal is not None]
        found = [
            _Unmet(*file, one.horizon, min(one.alias, one.horizon + XIDS))
            for one in map(PostgresSeal.of, seals)
            if one is not None
            and (one.system, one.timeline) == (moment.system, moment.timeline)
            and (one.table, one.filenode) == file
            and moment.xmax <= one.alias
        ]
        return max(found, key=lambda one: one.until, default=None)

    def _require_growth(self, snapshot: Snapshot, previous: Seal | None, seal: Seal) -> None:
        """After a change of strategy: what the old one held but the new one does not would come twice."""
        if previous is None or self._may_follow(previous, seal):
            return
        moment = snapshot.session.moment
        terms = [
            visible_at(moment, previous),
            sql.SQL("({}) IS NOT TRUE").format(visible_at(moment, seal)),
        ]
        if snapshot.session.row(snapshot.relation.select(sql.SQL("1"), terms, "LIMIT 1")) is not None:
            raise SourceBusy(
                "records that were exported by another strategy are not all below the new horizon",
                hint="the next run tries again, once the transactions that ran at the change have ended",
            )
        self._checked = (previous, seal)


def require_sealable(session: Session, relation: Relation, rules: Rules) -> None:
    """Raise SourceError if records could be lost or doubled because of what the table is like."""
    table = relation.table
    if table is not None and (strange := session.row(_STRANGE.format(table=sql.Literal(table.oid)))):
        message = f"records of {strange[0]} appear by other transactions than those that wrote them"
        raise SourceError(message, hint="read the table itself, in its own database")
    if table is not None and table.is_declared:
        for name in (rules.roles.id, *([rules.commit] if rules.commit else ())):
            if not relation.column(name).required:
                message = f"the column {name!r} of {table.name} may be NULL: such a record would be lost"
                hint = f'ALTER TABLE {table.name} ALTER COLUMN "{name}" SET NOT NULL'
                raise SourceError(message, hint=hint)
    if rules.commit is None:
        _require_append_only(session, table, rules)
        return
    column = relation.column(rules.commit)
    if not column.is_position:
        message = f"the column {rules.commit!r} is of type {column.type}, not xid8"
        raise SourceError(message, hint=WAY_ON)


def _require_append_only(session: Session, table: Table | None, rules: Rules) -> None:
    if table is None or not table.is_ordinary:
        what = "a query" if table is None else f"a {table.what}"
        raise SourceError(f"{what} has no system column xmin that says when a record appeared", hint=WAY_ON)
    if rules.append_only:
        return
    if roles := updatable_by(session, table):
        message = f"{table.name} is read by its system column xmin, and its records can be updated by"
        raise SourceError(f"{message} {', '.join(roles)}", hint=_APPEND_ONLY)


def _require_same(first: Moment, last: Moment) -> None:
    if (first.system, first.timeline) != (last.system, last.timeline):
        raise SourceBusy("another server has just taken over", hint="the next run asks the new one")


def _has_passed(moment: Moment, first: Moment, due: datetime) -> bool:
    if moment.horizon < first.next_xid:
        return False
    has_arrived = moment.replayed_to is not None and moment.replayed_to >= due
    return not moment.in_recovery or moment.caught_up or has_arrived
