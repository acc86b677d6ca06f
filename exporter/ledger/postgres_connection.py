"""How a ledger in PostgreSQL is reached: options, what libpq is told, a few pooled connections.

No session state, so that a pooler that hands connections out by transaction (PgBouncer) may stand in
between. No password may get into a message: libpq's own about a URL quote it.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg.pq import TransactionStatus

from exporter import libpq
from exporter.ledger.connection import AMONG, Dialect
from exporter.ledger.pool import Crowded, Pool
from exporter.ledger.postgres_errors import crowded, failed_silently, may_pass, translated, unsure

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from psycopg.errors import Diagnostic

CONNECTIONS: Final = 4
"""At most, of one process: many processes share what the server has. Whoever comes fifth waits."""

POOL_TIMEOUT_S: Final = 60
CONNECTING_S: Final = 30.0
"""How long to go on trying while the server has no room for a connection, or is starting."""

_OURS: Final[Mapping[str, Any]] = {
    "autocommit": True,
    "prepare_threshold": None,  # a prepared statement belongs to a session
}


@dataclass(frozen=True, slots=True)
class PostgresLedgerOptions:
    """Where the ledger is, as ``libpq.Server`` says."""

    url: str = field(repr=False)
    password: str | None = field(default=None, repr=False)
    tls_mode: str | None = None
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None


def _as_array(keys: list[str]) -> str:
    """The text of an array: what the driver makes of a list, in a seventh of its time."""
    escaped = (key.replace("\\", r"\\").replace('"', r"\"") for key in keys)
    return "{" + ",".join(f'"{key}"' for key in escaped) + "}"


POSTGRES: Final = Dialect("postgresql", (), psycopg.Error, _as_array)


class PostgresConnection:
    """A connection on which nothing is open but between our own BEGIN and COMMIT."""

    dialect = POSTGRES

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self.driver: psycopg.Connection[Any] = psycopg.connect(**parameters, **_OURS)

    @property
    def state(self) -> TransactionStatus:
        """Whether a transaction is open, or failed; UNKNOWN once the connection is lost."""
        return self.driver.info.transaction_status

    def execute(self, text: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """What a statement finds; without values, the first of several in one message."""
        cursor = self.driver.execute(_told(text) if values else text.encode(), values or None)
        found = cursor.pgresult  # of which a cursor's `description` makes an object for each column
        return cursor.fetchall() if found is not None and found.nfields else []

    def execute_for_each(self, text: str, rows: Sequence[Sequence[Any]]) -> None:
        """A statement for each of these rows, in one journey to the server."""
        with self.driver.cursor() as cursor:
            cursor.executemany(_told(text), rows)

    def close(self) -> None:
        """Close it; what is open on it the server rolls back."""
        self.driver.close()


def _told(text: str) -> bytes:
    return text.replace(AMONG, "= ANY(?)").replace("%", "%%").replace("?", "%s").encode()


class Database:
    """Transactions on pooled connections. ``place`` is the address as messages show it."""

    def __init__(self, options: PostgresLedgerOptions) -> None:
        told = libpq.parameters(options, "ledger")
        self.place = libpq.place_of(told)
        self.pool = Pool(
            lambda: PostgresConnection(told), kept=CONNECTIONS, most=CONNECTIONS, patience_s=POOL_TIMEOUT_S
        )

    @contextmanager
    def transaction(self, begin: str) -> Iterator[PostgresConnection]:
        """What ``begin`` begins, committed in the end, or undone by an error; raises LedgerError."""
        try:
            connection = self._begun(begin)
            try:
                yield connection
                self._commit(connection)
            except BaseException:
                self._put_back(connection)
                raise
            self.pool.give_back(connection)
        except psycopg.Error as error:
            raise translated(error, self.place) from error
        except Crowded as error:
            raise crowded(self.place, CONNECTIONS) from error

    def close(self) -> None:
        """Close every connection."""
        self.pool.close()

    def _commit(self, connection: PostgresConnection) -> None:
        """A commit that is one: PostgreSQL answers without an error also where it is none, or half of one."""
        if connection.state is not TransactionStatus.INTRANS:
            raise failed_silently(self.place)  # an error in it was swallowed: this would roll back
        warnings: list[str] = []

        def note(notice: Diagnostic) -> None:
            if (
                notice.severity_nonlocalized == "WARNING"
            ):  # a FATAL of a server going down comes after the end
                warnings.append(str(notice.message_primary))

        connection.driver.add_notice_handler(note)
        try:
            connection.execute("COMMIT")
        finally:
            connection.driver.remove_notice_handler(note)
        if warnings:
            raise unsure(self.place, warnings[0])

    def _begun(self, begin: str) -> PostgresConnection:
        """A connection on which the transaction has begun, another one if the first was dead already.

        So a connection that died in the pool costs nobody an error, and no question before every use.
        """
        for may_be_dead in (True, False):
            connection = self._connected()
            try:
                connection.execute(begin)
            except BaseException as error:
                was_dead = isinstance(error, psycopg.Error) and connection.driver.broken
                self._put_back(connection)
                if not (may_be_dead and was_dead):
                    raise
            else:
                return connection
        raise AssertionError  # the second try returned or raised

    def _connected(self) -> PostgresConnection:
        try:
            return self.pool.take()
        except psycopg.Error as error:
            if not may_pass(error):
                raise
        return self._connected_later()

    def _connected_later(self) -> PostgresConnection:
        from exporter.retries import retry_context  # which most runs do without

        retries = retry_context(
            on=may_pass, attempts=None, timeout=CONNECTING_S, wait_initial=0.1, wait_max=1.0
        )
        for attempt in retries:
            with attempt:  # a connection of this process that becomes free meanwhile will do as well
                return self.pool.take()
        raise AssertionError  # the last attempt returned or raised

    def _put_back(self, connection: PostgresConnection) -> None:
        """A connection after an error, whatever that has left: it serves again if nothing is open on it.

        When one was lost, others will have been, too: all are opened anew.
        """
        if connection.driver.broken:
            self.pool.close()
        try:
            with suppress(psycopg.Error):  # what came before is the error to speak of
                if connection.state in (TransactionStatus.INTRANS, TransactionStatus.INERROR):
                    connection.execute("ROLLBACK")
        finally:
            is_idle = connection.state is TransactionStatus.IDLE
            (self.pool.give_back if is_idle else self.pool.drop)(connection)
