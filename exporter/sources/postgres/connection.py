"""Reaching a PostgreSQL database: options, connections, one read-only transaction for every reading.

Nothing is asked of a session beyond its transaction, so it works behind PgBouncer in transaction mode: no
prepared statement, no SET but SET LOCAL. It must not know what records mean.

``row_security`` is off: where a policy would hide rows, PostgreSQL raises an error instead of hiding them.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import repeat
from typing import TYPE_CHECKING, Final, cast
from weakref import WeakSet

import psycopg
from psycopg import generators, sql
from psycopg.conninfo import make_conninfo
from psycopg.errors import error_from_result
from psycopg.pq import ExecStatus, TransactionStatus
from psycopg.waiting import Wait

from exporter import libpq
from exporter.errors import SourceError
from exporter.sources.postgres.errors import translated

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

    from psycopg.abc import PQGen
    from psycopg.pq.abc import PGconn

Connection = psycopg.Connection[tuple[object, ...]]
Row = tuple[object, ...]

_OLDEST_VERSION = 130_000  # the first with xid8
_MOST_IDLE = 16
_CANCEL_TIMEOUT_S = 2.0
_END_OF_COPY = -1
PIECE_BYTES: Final = 1_000_000
_LONG_MESSAGE: Final = "SELECT repeat(' ', 250000)"  # half as long does half as much, twice as long no more
_reading_much: Final[WeakSet[Connection]] = WeakSet()
_BEGIN: Final = """
    BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
    SET LOCAL timezone = 'UTC'; SET LOCAL datestyle = 'ISO, YMD'; SET LOCAL intervalstyle = 'iso_8601';
    SET LOCAL bytea_output = 'hex'; SET LOCAL extra_float_digits = 1;
    SET LOCAL jit = off; SET LOCAL max_parallel_workers_per_gather = 0;
    SET LOCAL idle_in_transaction_session_timeout = '60s'; SET LOCAL row_security = off;
    SET LOCAL statement_timeout = {statement}; SET LOCAL lock_timeout = {lock};
"""
# One row, in the transaction's own snapshot. `age` counts up to the next xid that will be given out. On a
# primary the file name of the log has the timeline at once, while the control file has it from the next
# checkpoint on. On a standby a timeline can only be missed for a while, until its next restart point, and
# not at all by a role that may read pg_stat_wal_receiver (pg_monitor).
_MOMENT: Final = """
    SELECT pg_is_in_recovery(), system_identifier::text,
        CASE WHEN pg_is_in_recovery() THEN greatest(
            (SELECT timeline_id FROM pg_control_checkpoint()),
            (SELECT min_recovery_end_timeline FROM pg_control_recovery()),
            (SELECT received_tli FROM pg_stat_wal_receiver)
        ) ELSE ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int END,
        pg_snapshot_xmin(pg_current_snapshot())::text::bigint,
        pg_snapshot_xmax(pg_current_snapshot())::text::bigint,
        age('3'::xid), clock_timestamp(),
        CASE WHEN NOT pg_is_in_recovery() THEN pg_current_wal_insert_lsn() END,
        CASE WHEN NOT pg_is_in_recovery() THEN pg_current_wal_flush_lsn() END,
        pg_last_xact_replay_timestamp(),
        pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() AND EXISTS (SELECT FROM pg_stat_wal_receiver)
    FROM pg_control_system()
"""
_XIDS = 2**32
_FIRST_XID = 3


@dataclass(frozen=True, slots=True)
class PostgresOptions:
    """How a database is reached, as ``libpq.Server`` says, and how long anything may take."""

    url: str = field(repr=False)
    password: str | None = field(default=None, repr=False)
    tls_mode: str | None = None
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    statement_timeout_s: float = 1800.0
    lock_timeout_s: float = 10.0
    seal_wait_s: float = 10.0


@dataclass(frozen=True, slots=True)
class Moment:
    """Which database this is and how far it has come, as one transaction's snapshot sees it.

    Every transaction below ``horizon`` has ended; every visible row is of one below ``xmax``; every one
    that has begun to write by now is below ``next_xid``. All three count without wrapping around.
    On a primary, the log up to ``written`` has made all this, and the log up to ``flushed`` is on its disk.
    On a hot standby, ``replayed_to`` is the time of the last commit replayed, by the primary's clock.
    """

    in_recovery: bool
    system: str
    timeline: int
    horizon: int
    xmax: int
    next_xid: int
    now: datetime
    written: int
    flushed: int
    replayed_to: datetime | None
    caught_up: bool

    @classmethod
    def of(cls, row: Row) -> Moment:
        """What ``_MOMENT`` answers."""
        recovery, system, timeline, horizon, xmax, age, now, written, flushed, replayed, caught_up = row
        above = (cast("int", age) + _FIRST_XID - cast("int", xmax)) % _XIDS
        return cls(
            in_recovery=bool(recovery),
            system=str(system),
            timeline=cast("int", timeline),
            horizon=cast("int", horizon),
            xmax=cast("int", xmax),
            next_xid=cast("int", xmax) + above,
            now=cast("datetime", now).astimezone(UTC),
            written=_lsn(written),
            flushed=_lsn(flushed),
            replayed_to=None if replayed is None else cast("datetime", replayed).astimezone(UTC),
            caught_up=bool(caught_up),
        )


class Session:
    """One read-only transaction: everything in it sees the same moment."""

    def __init__(self, connection: Connection, place: str, moment: Moment) -> None:
        self.connection = connection
        self.moment = moment
        self._place = place

    @property
    def valid_utf8(self) -> bool:
        """Whether the server sees to it that texts are UTF-8 when they arrive."""
        return self.connection.info.parameter_status("server_encoding") != "SQL_ASCII"

    def rows(self, statement: sql.Composable) -> list[Row]:
        """All rows of a statement that has few."""
        return self.connection.execute(_composed(statement)).fetchall()

    def row(self, statement: sql.Composable) -> Row | None:
        """The first row of a statement."""
        return self.connection.execute(_composed(statement)).fetchone()

    def copy(
        self, select: sql.Composable, most_rows: int, most_bytes: int = PIECE_BYTES
    ) -> Generator[list[bytes], None, None]:
        """The rows of a SELECT over records as COPY writes them in text format, some at a time.

        A piece has up to ``most_rows`` rows or about ``most_bytes``, and one row at least. Closing the
        generator ends the statement and the connection at once.
        """
        # Where the server does not know the encoding of its texts, they come as they are, valid or not.
        encoding = sql.SQL("" if self.valid_utf8 else " (ENCODING 'SQL_ASCII')")
        statement = sql.SQL("COPY ({}) TO STDOUT{}").format(select, encoding)
        with translated(self._place, records=True):
            _read_much_at_once(self.connection)
            with self.connection.cursor().copy(_composed(statement)):
                try:
                    yield from self._arriving(self.connection.pgconn, most_rows, most_bytes)
                except GeneratorExit:
                    self._abandon()
                    raise

    def _arriving(
        self, pgconn: PGconn, most_rows: int, most_bytes: int
    ) -> Generator[list[bytes], None, None]:
        """What `Copy.read` does, at a fraction of its price: nothing else is called while rows are there."""
        receive, size = pgconn.get_copy_data, 0
        rows: list[bytes] = []
        room = most_bytes
        while size != _END_OF_COPY:
            add = rows.append
            for size, row in map(receive, repeat(1, most_rows - len(rows))):
                if size <= 0:
                    break
                add(row.tobytes())
                room -= size
                if room <= 0:
                    break
            if not size:
                self.connection.wait(_arrival(pgconn))
            elif rows:
                yield rows
                rows, room = [], most_bytes
        for result in self.connection.wait(generators.fetch_many(pgconn)):
            if result.status != ExecStatus.COMMAND_OK:
                raise error_from_result(result, encoding=self.connection.info.encoding)

    def _abandon(self) -> None:
        """The server notices a closed connection only when it next sends something: so tell it."""
        with suppress(psycopg.Error):  # then the server learns it from the close that follows
            self.connection.cancel_safe(timeout=_CANCEL_TIMEOUT_S)
        self.connection.close()


def _read_much_at_once(connection: Connection) -> None:
    """Make libpq read more than 16 KiB at a time, which costs a third of all that receiving does.

    It asks the system for as much as its buffer holds, and that only grows by a message that is longer.
    """
    if connection not in _reading_much:
        connection.execute(_LONG_MESSAGE)
        _reading_much.add(connection)


def _arrival(pgconn: PGconn) -> PQGen[None]:
    while not (yield Wait.R):
        pass  # psycopg looks up from waiting ten times a second, so that Ctrl-C is heard
    pgconn.consume_input()


class Database:
    """Opens transactions; keeps a few connections for the next ones. Safe to use from several threads."""

    def __init__(self, options: PostgresOptions) -> None:
        self._parameters = libpq.parameters(options, "source")
        self.place = libpq.place_of(self._parameters)
        self._begin = _BEGIN.format(
            statement=_milliseconds(options.statement_timeout_s), lock=_milliseconds(options.lock_timeout_s)
        )
        self._lock = threading.Lock()
        self._idle: list[Connection] = []

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A transaction. Its connection serves again, unless something went wrong or was left unfinished."""
        with translated(self.place):
            connection, moment = self._begun()
            try:
                yield Session(connection, self.place, moment)
                connection.execute("ROLLBACK")
            except BaseException:
                connection.close()
                raise
            self._give_back(connection)

    def now(self) -> datetime:
        """The server's clock."""
        with self.reading() as session:
            return session.moment.now

    def close(self) -> None:
        """Let go of the connections that nobody uses."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _begun(self) -> tuple[Connection, Moment]:
        """A connection that was dropped while nobody used it is no trouble: there are others."""
        while True:
            idle = self._take()
            connection = idle or self.connect()
            try:
                return connection, self._started(connection)
            except BaseException:
                was_dropped = connection.broken
                connection.close()
                if idle is None or not was_dropped:
                    raise

    def _started(self, connection: Connection) -> Moment:
        cursor = connection.execute(self._begin + _MOMENT)  # one way there and back
        while cursor.nextset():
            pass  # BEGIN and SET answer nothing
        return Moment.of(cast("Row", cursor.fetchone()))

    def connect(self) -> Connection:
        """A connection of the caller's own: nothing is read only, and nobody but the caller closes it."""
        connection: Connection = psycopg.connect(
            make_conninfo(**self._parameters), autocommit=True, prepare_threshold=None
        )
        version = connection.info.server_version
        if version < _OLDEST_VERSION:
            connection.close()
            raise SourceError(
                f"{self.place} is PostgreSQL {version // 10_000}", hint="PostgreSQL 13 or newer is needed"
            )
        return connection

    def _take(self) -> Connection | None:
        with self._lock:
            return self._idle.pop() if self._idle else None

    def _give_back(self, connection: Connection) -> None:
        if connection.info.transaction_status == TransactionStatus.IDLE:
            with self._lock:
                if len(self._idle) < _MOST_IDLE:
                    self._idle.append(connection)
                    return
        connection.close()


def _composed(statement: sql.Composable) -> sql.Composed:
    return statement if isinstance(statement, sql.Composed) else sql.Composed([statement])


def _milliseconds(seconds: float) -> int:
    """At least one: zero would mean for ever."""
    return max(1, round(seconds * 1000))


def _lsn(text: object) -> int:
    """A place in the log as a number; 0 on a standby, which replays only what is on its disk."""
    if text is None:
        return 0
    high, _, low = str(text).partition("/")
    return (int(high, 16) << 32) + int(low, 16)
