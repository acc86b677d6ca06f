"""A ledger in PostgreSQL, for processes on many machines.

Transactions of one export wait for each other, those of different exports do not. All that a transaction
relies on is said in its first message: before a pooler, the session may have been somebody else's.
"""

from __future__ import annotations

import zlib
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Final

from exporter.errors import LedgerError
from exporter.ledger import schema
from exporter.ledger.postgres_connection import Database, PostgresLedgerOptions
from exporter.ledger.postgres_errors import RIGHTS, SCHEMA
from exporter.ledger.sql import SqlRows, require_version, version_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from exporter.ledger.group import SqlGroup

__all__ = ["PostgresLedgerOptions", "PostgresStorage", "create_postgres", "migrate_postgres"]

LEDGER_LOCK: Final = 0x6578706F72746572
EXPORT_LOCKS: Final = 0x61756469
"""Advisory locks are the whole database's, and others may use it, too: numbers that nobody else hits upon.

The first is one of 64 bits, the second the first half of two of 32: PostgreSQL keeps these apart.
"""

CLAIMS_LOCK: Final = LEDGER_LOCK + 1
"""Of those who begin or move exports while they hold some alone, and not the ledger."""

LIMITS: Final[Mapping[str, str]] = {
    "idle_in_transaction_session_timeout": "30s",
    "lock_timeout": "45s",
    "statement_timeout": "60s",
}
"""In this order: whoever stands still with a lock in hand is put out before those who wait give up."""

# As strict as the server is set, but never less: the row must be on disk before an object is sent.
_DURABLE: Final = (
    "SELECT set_config('synchronous_commit', CASE current_setting('synchronous_commit')"
    " WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, true)"
)
_CLAIMS: Final = f"SELECT pg_advisory_xact_lock({CLAIMS_LOCK})"
# By the schema's name: the search path passes over a schema that this role may not use.
_META: Final = f"{SCHEMA}.meta"
_WHAT_IS_THERE: Final = (
    "SELECT it IS NOT NULL, coalesce(has_schema_privilege(it, 'CREATE'), true),"
    " EXISTS (SELECT FROM pg_catalog.pg_class WHERE relnamespace = it),"
    " current_setting('server_encoding')"
    " FROM (SELECT to_regnamespace(?)::oid AS it) AS schema"
)


class PostgresStorage:
    """A ledger in a schema of its own of a PostgreSQL database.

    A connection that is lost in mid-transaction is a LedgerError, and leaves one doubt: whether a commit
    happened. That is safe at every step. Of a plan or an attempt nothing has been sent yet: the next run
    finds the open plan, or an attempt that counts as one that may have landed. What an attempt came to is
    judged again, and a commit that did not happen is made up for when the object is there already.
    """

    def __init__(self, options: PostgresLedgerOptions) -> None:
        self._database = Database(options)
        try:
            with self._database.transaction(_reading()) as connection:
                require_version(version_of(connection, _META), self._database.place)
        except BaseException:
            self._database.close()
            raise

    @contextmanager
    def writing(self, export: str | None = None) -> Iterator[SqlRows]:
        """A transaction that is alone with its export or, without one, with the ledger."""
        begin = _writing() if export is None else _writing([export])
        with self._database.transaction(begin) as connection:
            yield SqlRows(connection)

    @contextmanager
    def together(self, exports: Collection[str]) -> Iterator[SqlGroup]:
        """A transaction that is alone with these exports."""
        from exporter.ledger.group import SqlGroup  # which a run with nothing due does without

        with self._database.transaction(_writing(exports)) as connection:
            rows = SqlGroup(connection, exports, _CLAIMS)
            yield rows
            rows.flush()

    @contextmanager
    def reading(self) -> Iterator[SqlRows]:
        """One consistent view, which waits for nobody."""
        with self._database.transaction(_reading()) as connection:
            yield SqlRows(connection)

    def close(self) -> None:
        """Close every connection."""
        self._database.close()


def create_postgres(options: PostgresLedgerOptions) -> None:
    """Make an empty ledger, whole or not at all; raises LedgerError if there is anything already."""
    from exporter.ledger.migrations import fill  # which a run does without

    with closing(Database(options)) as database, database.transaction(_writing()) as connection:
        has_schema, may_create, is_used, encoding = connection.execute(_WHAT_IS_THERE, [SCHEMA])[0]
        if is_used:
            raise LedgerError(
                f"there is a schema {SCHEMA} with tables at {database.place} already",
                hint="a ledger is created once, for good; to bring an old one up to date: "
                "audit-exporter ledger migrate",
            )
        if encoding != "UTF8":
            raise LedgerError(
                f"the database {database.place} is encoded in {encoding}, and cannot hold every text",
                hint="make another one: CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0",
            )
        if not may_create:
            raise LedgerError(f"the schema {SCHEMA} at {database.place} is another role's", hint=RIGHTS)
        if not has_schema:
            connection.execute(f"CREATE SCHEMA {SCHEMA}")
        fill(connection)


def migrate_postgres(options: PostgresLedgerOptions) -> tuple[int, int]:
    """Bring an older ledger up to date in one transaction; answers its versions before and after."""
    from exporter.ledger.migrations import bring_up_to_date

    with closing(Database(options)) as database, database.transaction(_writing()) as connection:
        version_of(connection, _META)
        return bring_up_to_date(connection, database.place), schema.VERSION


def _reading() -> str:
    return _message("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")


def _writing(exports: Collection[str] | None = None) -> str:
    """The beginning of a transaction that is serializable because it is alone with what it touches.

    Locks make it so, not an isolation level: under READ COMMITTED every statement sees what was committed
    before it, so what follows sees all that the last one with the lock did. A snapshot for the whole
    transaction could be older than the lock. Rules that look at other exports, or at the ledger as a
    whole, name no export and wait for all; in a transaction of several they wait for each other, last.
    Everybody takes locks in this order, and those of exports by number, so that nobody waits in a circle.
    """
    locks = [f"SELECT pg_advisory_xact_lock({LEDGER_LOCK})"]
    if exports is not None:
        # Exports that share a number wait for each other, no more.
        numbers = sorted({zlib.crc32(export.encode()) - 2**31 for export in exports})
        array = f"'{{{','.join(map(str, numbers))}}}'::int[]"  # unnest goes through it in its order
        locks = [
            f"SELECT pg_advisory_xact_lock_shared({LEDGER_LOCK})",
            f"SELECT pg_advisory_xact_lock({EXPORT_LOCKS}, number) FROM unnest({array}) AS number",  # noqa: S608 - numbers
        ]
    return _message("BEGIN ISOLATION LEVEL READ COMMITTED", _DURABLE, *locks)


def _message(begin: str, *statements: str) -> str:
    """Several statements in one message: each of its own would be another journey to the server."""
    settings = {"search_path": SCHEMA, "client_min_messages": "warning", **LIMITS}
    return "; ".join(
        [begin, *(f"SET LOCAL {key} = '{value}'" for key, value in settings.items()), *statements]
    )
