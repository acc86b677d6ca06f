"""How a ledger in PostgreSQL is reached: options, what libpq is told, a few pooled connections.

No session state, so that a pooler that hands connections out by transaction (PgBouncer) may stand in
between. No password may get into a message: libpq's own about a URL quote it.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Never, cast

import psycopg
import sqlalchemy as sa
import stamina
from psycopg.pq import TransactionStatus
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

from exporter import libpq
from exporter.ledger.postgres_errors import crowded, failed_silently, may_pass, translated, unsure

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
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


class Database:
    """Transactions on pooled connections. ``place`` is the address as messages show it."""

    def __init__(self, options: PostgresLedgerOptions) -> None:
        told = libpq.parameters(options, "ledger")
        self.place = libpq.place_of(told)
        self.engine = _new_engine(told)

    @contextmanager
    def transaction(self, begin: str) -> Iterator[sa.Connection]:
        """What ``begin`` begins, committed in the end, or undone by an error; raises LedgerError."""
        try:
            with self._begun(begin) as connection:
                yield connection
                self._commit(connection)
            # Otherwise the pool rolls back what it gets back.
        except sa.exc.DBAPIError as error:
            raise translated(error, self.place) from error
        except sa.exc.TimeoutError as error:
            raise crowded(self.place, CONNECTIONS) from error

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()

    def _commit(self, connection: sa.Connection) -> None:
        """A commit that is one: PostgreSQL answers without an error also where it is none, or half of one."""
        driver = _driver_of(connection)
        if driver.info.transaction_status is not TransactionStatus.INTRANS:
            raise failed_silently(self.place)  # an error in it was swallowed: this would roll back
        warnings: list[str] = []

        def note(notice: Diagnostic) -> None:
            if (
                notice.severity_nonlocalized == "WARNING"
            ):  # a FATAL of a server going down comes after the end
                warnings.append(str(notice.message_primary))

        driver.add_notice_handler(note)
        try:
            connection.exec_driver_sql("COMMIT")
        finally:
            driver.remove_notice_handler(note)
        if warnings:
            raise unsure(self.place, warnings[0])

    def _begun(self, begin: str) -> sa.Connection:
        """A connection on which the transaction has begun, another one if the first was dead already.

        So a connection that died in the pool costs nobody an error, and no question before every use.
        """
        try:
            return self._begun_once(begin)
        except sa.exc.DBAPIError as error:
            if not error.connection_invalidated:
                raise
        return self._begun_once(begin)

    def _begun_once(self, begin: str) -> sa.Connection:
        connection = self._connected()
        try:
            connection.exec_driver_sql(begin)
        except BaseException:
            connection.close()
            raise
        return connection

    def _connected(self) -> sa.Connection:
        retries = stamina.retry_context(
            on=may_pass, attempts=None, timeout=CONNECTING_S, wait_initial=0.1, wait_max=1.0
        )
        for attempt in retries:
            with attempt:  # a connection of this process that becomes free meanwhile will do as well
                return self.engine.connect()
        raise AssertionError  # the last attempt returned or raised


class ToldDialect(PGDialect_psycopg):
    """SQLAlchemy's own, but for four journeys to the server: for what libpq was told when it connected."""

    supports_statement_cache = True  # which is never inherited

    def _get_server_version_info(self, connection: sa.Connection) -> tuple[int, ...]:
        return divmod(_driver_of(connection).info.server_version, 10_000)

    def _get_default_schema_name(self, connection: sa.Connection) -> str:
        del connection
        raise NotImplementedError  # every transaction sets its own

    def get_default_isolation_level(self, dbapi_conn: object) -> Never:  # noqa: D102 - SQLAlchemy's
        del dbapi_conn
        raise NotImplementedError  # every transaction says its own

    def _set_backslash_escapes(self, connection: sa.Connection) -> None:
        told = _driver_of(connection).info.parameter_status("standard_conforming_strings")
        self._backslash_escapes = told == "off"


registry.register("postgresql.told", __name__, ToldDialect.__name__)


def _driver_of(connection: sa.Connection) -> psycopg.Connection[Any]:
    return cast("psycopg.Connection[Any]", connection.connection.driver_connection)


def _new_engine(parameters: Mapping[str, Any]) -> sa.Engine:
    return sa.create_engine(
        "postgresql+told://",
        creator=lambda: psycopg.connect(**parameters, **_OURS),
        isolation_level="AUTOCOMMIT",  # nothing is open but between our own BEGIN and COMMIT
        hide_parameters=True,  # a customer's data has no place in an error
        use_native_hstore=False,  # it would be looked for at every start
        pool_size=CONNECTIONS,
        max_overflow=0,
        pool_timeout=POOL_TIMEOUT_S,
        pool_use_lifo=True,
    )
