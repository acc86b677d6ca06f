"""What the rule of `seal` asks of a table, as SQL; and the record by which a seal knows its table.

All of it runs with the right to SELECT. Seeing other connections' statements takes PROCESS besides. It must
not decide anything.
"""

from __future__ import annotations

import hashlib
import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import ceil
from typing import TYPE_CHECKING, Final, cast

from pymysql import err

from exporter.errors import SourceChanged, SourceError
from exporter.sources.mysql.connection import TAG
from exporter.sources.mysql.errors import (
    ACCESS_DENIED_FOR_THIS,
    DEADLOCK,
    LOCK_WAIT_TIMEOUT,
    STATEMENT_TIMEOUTS,
    number_of,
)
from exporter.sources.mysql.gaps import coarse, without

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from exporter.model import Seal
    from exporter.sources.mysql.connection import Row, Session
    from exporter.sources.mysql.gaps import Run, Runs
    from exporter.sources.mysql.options import MysqlOptions

_ACCEPT = "to go on with this database: audit-exporter ledger accept-source --from TIME"
_LOCKED = frozenset({LOCK_WAIT_TIMEOUT, DEADLOCK, 3572})  # the last: MySQL's for NOWAIT
_MOST_RANGES, _MOST_LOCKED_RANGES = 500, 100
_SHORTEST_WAIT_S = 0.01
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.002, 0.1

# INNODB_CMP is a small table that nobody may read without PROCESS.
_SEES_PROCESSES: Final = "SELECT 1 FROM information_schema.INNODB_CMP LIMIT 1"
# Whoever is at something that could insert: no sleeper, no server thread, no stranger who has not said yet
# who he is, and no reading of an exporter (the tag stands where only a whole statement's begin can have it).
_BUSY: Final = f"""
    SELECT ID, TIME FROM information_schema.PROCESSLIST
    WHERE COMMAND NOT IN ('Sleep', 'Daemon', 'Binlog Dump', 'Binlog Dump GTID') AND ID <> CONNECTION_ID()
    AND NOT (COMMAND = 'Connect' AND USER = 'unauthenticated user')
    AND COALESCE(INFO, '') NOT LIKE 'SELECT {TAG}%'
"""  # noqa: S608 - a constant
_SERVER: Final = """
    SELECT @@global.read_only, @@global.innodb_read_only,
    (SELECT COUNT(*) FROM information_schema.GLOBAL_STATUS
     WHERE VARIABLE_NAME IN ('SLAVE_RUNNING', 'SLAVES_RUNNING') AND VARIABLE_VALUE NOT IN ('OFF', '0')),
    (SELECT COUNT(*) FROM information_schema.GLOBAL_VARIABLES
     WHERE VARIABLE_NAME = 'WSREP_ON' AND VARIABLE_VALUE = 'ON')
"""
_MYSQL_SERVER: Final = """
    SELECT @@global.read_only, @@global.innodb_read_only, 0,
    (SELECT COUNT(*) FROM performance_schema.global_variables
     WHERE VARIABLE_NAME = 'group_replication_single_primary_mode' AND VARIABLE_VALUE = 'OFF')
"""


@dataclass(frozen=True, slots=True)
class Origin:
    """The table that gives out the positions; ``table`` and ``column`` are SQL, ``index`` begins with it.

    ``evidence`` is what, with the position, tells a record from another in its place.
    """

    table: str
    column: str
    index: str | None
    evidence: tuple[str, ...]

    def select(self, what: str, terms: Sequence[str] = (), tail: str = "") -> str:
        """A statement over the table: names are quoted, values are numbers."""
        # Any other index would make a locking read wait for records that nobody asks for.
        hint = f" FORCE INDEX ({self.index})" if self.index else ""
        where = " AND ".join(terms) or "TRUE"
        return f"SELECT {TAG} {what} FROM {self.table}{hint} WHERE {where} {tail}"  # noqa: S608 - see above

    def among(self, runs: Sequence[Run]) -> str:
        """Whether a position is in one of the runs."""
        parts = (
            f"{self.column} = {first}" if first == last else f"{self.column} BETWEEN {first} AND {last}"
            for first, last in runs
        )
        return f"({' OR '.join(parts)})"


def require_primary(session: Session) -> None:
    """Raise SourceError where records come from another server: what runs there, nobody can see here.

    A replica that anybody may write to, and that has stopped to replicate, cannot be told from a primary.
    """
    row = session.row(_SERVER if session.server.is_mariadb else _MYSQL_SERVER) or ()
    read_only, innodb_read_only, replicating, has_peers = (int(value or 0) for value in row)
    if has_peers:
        raise SourceError(
            f"{session.place} is a node of a cluster (Galera): all its nodes give out ids, in no order",
            hint="a table of such a cluster cannot be read without loss by its ids",
        )
    if read_only or innodb_read_only or replicating:
        raise SourceError(
            f"{session.place} is a replica, or read-only: a record committed on its primary can still come",
            hint="point source.url at the primary, where records are inserted",
        )


class TablePositions:
    """The positions of a table, on one connection."""

    def __init__(self, session: Session, origin: Origin, options: MysqlOptions) -> None:
        self._session = session
        self._origin = origin
        self._options = options

    def newest(self) -> int:
        """The highest visible position."""
        return _number(self._session.row(self._origin.select(f"MAX({self._origin.column})")))

    def now(self) -> datetime:
        """The server's clock."""
        return server_time(self._session)

    def drained(self, wait_s: float) -> bool:
        """Every process that was in a statement has been seen in none.

        Who runs for longer than the waiting would take is not waited for: why should he end just now?
        """
        if not self.sees_processes():
            return False
        deadline, pause = time.monotonic() + wait_s, _FIRST_PAUSE_S
        running = self._busy()
        while running and max(running.values()) <= self._options.seal_wait_s and time.monotonic() < deadline:
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)
            busy = self._busy()
            running = {process: busy[process] for process in running if process in busy}
        return not running

    def oldest_statement(self) -> datetime:
        """By the times that other processes show; now, where none can be seen."""
        seconds = max(self._busy().values(), default=0) if self.sees_processes() else 0
        return self.now() - timedelta(seconds=seconds)

    def sees_processes(self) -> bool:
        """Whether this user has the PROCESS privilege, by whatever grant or role."""
        try:
            self._session.row(_SEES_PROCESSES)
        except err.MySQLError as error:
            if number_of(error) != ACCESS_DENIED_FOR_THIS:
                raise
            return False
        return True

    def slice_end(self, after: int, upto: int, most: int) -> int:
        """The position of the last of so many records; ``upto`` if there are fewer."""
        column = self._origin.column
        terms = (f"{column} > {after}", f"{column} <= {upto}")
        row = self._session.row(
            self._origin.select(column, terms, f"ORDER BY {column} LIMIT 1 OFFSET {most - 1}")
        )
        return upto if row is None else _int(row[0])

    def missing(self, after: int, upto: int) -> Runs:
        """The distances between neighbours, in one statement: only what is missing comes back."""
        column = self._origin.column
        there = self._origin.select(f"{column} AS p", (f"{column} > {after}", f"{column} <= {upto}"))
        runs = self._session.rows(
            f"SELECT {TAG} low, high FROM ("  # noqa: S608 - names are quoted, values are numbers
            f" SELECT COALESCE(LAG(p) OVER (ORDER BY p), {after}) + 1 AS low, p - 1 AS high"
            f" FROM ({there} UNION ALL SELECT {upto + 1}) AS positions"
            ") AS runs WHERE low <= high ORDER BY low"
        )
        return tuple((_int(low), _int(high)) for low, high in runs)

    def still_missing(self, runs: Runs) -> Runs:
        """Less those that are there now."""
        if not runs:
            return ()
        among = self._origin.among(coarse(runs, _MOST_RANGES))
        rows = self._session.rows(self._origin.select(self._origin.column, (among,)))
        return without(runs, (_int(row[0]) for row in rows))

    def wait_for(self, runs: Runs, wait_s: float) -> None:
        """A locking read, whose locks end with it.

        Under READ COMMITTED it locks records, and no gap between them: nobody's insert waits for it.
        """
        if wait_s < _SHORTEST_WAIT_S:
            return
        with self._patient(wait_s):
            self._is_refused(coarse(runs, _MOST_RANGES), wait=True)

    def locked(self, runs: Runs) -> Runs:
        """All that share a refused reading, halved until single runs are left."""
        if not runs or not self._is_refused(coarse(runs, _MOST_LOCKED_RANGES), wait=False):
            return ()
        if len(runs) == 1:
            return runs
        half = len(runs) // 2
        return self.locked(runs[:half]) + self.locked(runs[half:])

    def _is_refused(self, runs: Sequence[Run], *, wait: bool) -> bool:
        """Whether somebody else's lock is in the way of a locking read."""
        kind = "LOCK IN SHARE MODE" if self._session.server.is_mariadb else "FOR SHARE"
        tail = kind if wait else f"{kind} NOWAIT"
        try:
            self._session.rows(self._origin.select("COUNT(*)", (self._origin.among(runs),), tail))
        except err.MySQLError as error:
            if number_of(error) not in _LOCKED | (STATEMENT_TIMEOUTS if wait else frozenset()):
                raise
            return True
        return False

    @contextmanager
    def _patient(self, wait_s: float) -> Iterator[None]:
        """Other time-outs for a while. InnoDB counts whole seconds, and for each record anew."""
        server, options = self._session.server, self._options
        setting = "SET SESSION innodb_lock_wait_timeout = {}, {}"
        self._session.rows(setting.format(max(1, ceil(wait_s)), server.timeout(wait_s)))
        try:
            yield
        finally:
            usual = server.timeout(options.statement_timeout_s)
            self._session.rows(setting.format(max(1, round(options.lock_timeout_s)), usual))

    def _busy(self) -> dict[int, int]:
        """The processes that are in a statement, and the seconds that each shows."""
        return {_int(process): _int(seconds) for process, seconds in self._session.rows(_BUSY)}


def server_time(session: Session) -> datetime:
    """The server's clock."""
    (text,) = session.texts("SELECT UTC_TIMESTAMP(6)")[0]
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


# --- the record by which a seal knows its table -------------------------------------------------------


def anchored(session: Session, origin: Origin, seal: Seal) -> Seal:
    """The seal with a fingerprint of the record at its highest position, or the next lower one."""
    row = _anchor(session, origin, f"{origin.column} <= {seal['id']}")
    anchor = (None, None) if row is None else (_int(row[0]), _fingerprint(row))
    return {**seal, "anchor_id": anchor[0], "anchor": anchor[1]}


def objection(session: Session, origin: Origin, seal: Seal) -> SourceChanged | None:
    """What speaks against reading a range with this seal."""
    if seal.get("kind") != "mysql":
        return SourceChanged("the seal was not taken from a MySQL database", hint=_ACCEPT)
    anchor_id = cast("int | None", seal["anchor_id"])
    if anchor_id is None:
        return None
    row = _anchor(session, origin, f"{origin.column} = {anchor_id}")
    if row is not None and _fingerprint(row) == seal["anchor"]:
        return None
    if row is not None:
        return SourceChanged(
            f"the record {anchor_id} is not the one that was sealed: "
            "ids were given out again, or this is another database",
            hint=_ACCEPT,
        )
    newest = _number(session.row(origin.select(f"MAX({origin.column})")))
    if newest < anchor_id:
        message = f"the source went back from id {anchor_id} to {newest}: is it an older copy, or a replica?"
        return SourceChanged(message, hint=_ACCEPT)
    return SourceChanged(
        f"the record {anchor_id}, the newest one that was sealed, is gone: its id may have been used again",
        hint=_ACCEPT,
    )


def _anchor(session: Session, origin: Origin, condition: str) -> Row | None:
    what = ", ".join((origin.column, *origin.evidence))
    return session.row(origin.select(what, (condition,), f"ORDER BY {origin.column} DESC LIMIT 1"))


def _fingerprint(row: Row) -> str:
    """A hash of a record's position and evidence."""
    return hashlib.sha256(repr(row).encode()).hexdigest()


def _number(row: Row | None) -> int:
    return 0 if row is None or row[0] is None else int(row[0])


def _int(value: bytes | None) -> int:
    return int(value or 0)
