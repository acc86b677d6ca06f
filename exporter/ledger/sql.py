"""The ledger's rows in a SQL database, and the one kind there is so far: a SQLite file.

`SqlRows` speaks to any database; how a transaction begins, and what an error means, is the storage's.
"""

from __future__ import annotations

from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import sqlalchemy as sa

from exporter.errors import LedgerError, LedgerMissing
from exporter.ledger import encoding, schema

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from exporter.ledger.storage import RunRecord
    from exporter.model import Attempt, BadRecord, Export, Lane, Plan, SealedWindow

BUSY_TIMEOUT_S: Final = 60
MISSING_HINT: Final = (
    "an empty ledger in its place would skip or repeat history: restore it from a backup "
    "(then `audit-exporter ledger restored`); if there never was one, run: audit-exporter ledger create"
)


class SqlRows:
    """The rows that one transaction on one connection sees."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def _one(self, query: sa.Select[Any]) -> sa.Row[Any] | None:
        return self._connection.execute(query).one_or_none()

    def _all(self, query: sa.Select[Any]) -> list[sa.Row[Any]]:
        return list(self._connection.execute(query))

    def _insert(self, table: sa.Table, row: encoding.Row) -> None:
        self._connection.execute(sa.insert(table), row)

    def _update(self, table: sa.Table, row: encoding.Row, *keys: str) -> None:
        where = [table.c[key] == row[key] for key in keys]
        self._connection.execute(sa.update(table).where(*where).values(row))

    def ledger_id(self) -> str:  # noqa: D102 - promises are in Rows
        return str(_meta(self._connection, "ledger_id"))

    def set_ledger_id(self, value: str) -> None:  # noqa: D102
        self._update(schema.meta, {"key": "ledger_id", "value": value}, "key")

    def names_from(self) -> datetime | None:  # noqa: D102
        moment = _meta(self._connection, "names_from")
        return None if moment is None else datetime.fromisoformat(moment)

    def set_names_from(self, moment: datetime) -> None:  # noqa: D102
        self._connection.execute(sa.delete(schema.meta).where(schema.meta.c.key == "names_from"))
        self._insert(schema.meta, {"key": "names_from", "value": moment.isoformat()})

    def export(self, name: str) -> Export | None:  # noqa: D102
        row = self._one(sa.select(schema.exports).where(schema.exports.c.name == name))
        return None if row is None else encoding.export_of(row)

    def export_by_claim(self, claim: str) -> Export | None:  # noqa: D102
        row = self._one(sa.select(schema.exports).where(schema.exports.c.claim == claim))
        return None if row is None else encoding.export_of(row)

    def exports(self) -> list[Export]:  # noqa: D102
        query = sa.select(schema.exports).order_by(schema.exports.c.name)
        return [encoding.export_of(row) for row in self._all(query)]

    def insert_export(self, export: Export) -> None:  # noqa: D102
        self._insert(schema.exports, encoding.export_row(export))

    def update_export(self, export: Export) -> None:  # noqa: D102
        self._update(schema.exports, encoding.export_row(export), "name")

    def rename_export(self, name: str, new_name: str) -> None:  # noqa: D102
        column = schema.exports.c.name
        self._connection.execute(sa.update(schema.exports).where(column == name).values(name=new_name))
        for table in (schema.lanes, schema.plans, schema.windows):
            self._connection.execute(sa.update(table).where(table.c.export == name).values(export=new_name))

    def lane(self, export: str, lane: str) -> Lane | None:  # noqa: D102
        table = schema.lanes
        row = self._one(sa.select(table).where(table.c.export == export, table.c.id == lane))
        return None if row is None else encoding.lane_of(row)

    def lanes(self, export: str | None = None) -> list[Lane]:  # noqa: D102
        query = sa.select(schema.lanes).order_by(schema.lanes.c.export, schema.lanes.c.id)
        if export is not None:
            query = query.where(schema.lanes.c.export == export)
        return [encoding.lane_of(row) for row in self._all(query)]

    def insert_lane(self, lane: Lane) -> None:  # noqa: D102
        self._insert(schema.lanes, encoding.lane_row(lane))

    def update_lane(self, lane: Lane) -> None:  # noqa: D102
        self._update(schema.lanes, encoding.lane_row(lane), "export", "id")

    def plan(self, plan_id: str) -> Plan | None:  # noqa: D102
        row = self._one(sa.select(schema.plans).where(schema.plans.c.id == plan_id))
        return None if row is None else encoding.plan_of(row)

    def open_plans(self, export: str | None = None) -> list[Plan]:  # noqa: D102
        # A literal, because a bound value would keep SQLite from using the partial index.
        query = sa.select(schema.plans).where(schema.plans.c.state == sa.literal_column("'open'"))
        if export is not None:
            query = query.where(schema.plans.c.export == export)
        return [encoding.plan_of(row) for row in self._all(query)]

    def plan_by_sequence(self, export: str, sequence: int) -> Plan | None:  # noqa: D102
        table = schema.plans
        query = sa.select(table).where(
            table.c.export == export, table.c.sequence == sequence, table.c.state != "abandoned"
        )
        row = self._connection.execute(query.order_by(table.c.created_at.desc())).first()
        return None if row is None else encoding.plan_of(row)

    def insert_plan(self, plan: Plan) -> None:  # noqa: D102
        self._insert(schema.plans, encoding.plan_row(plan))

    def update_plan(self, plan: Plan) -> None:  # noqa: D102
        self._update(schema.plans, encoding.plan_row(plan), "id")

    def attempts(self, plan_id: str) -> list[Attempt]:  # noqa: D102
        table = schema.attempts
        query = sa.select(table).where(table.c.plan == plan_id).order_by(table.c.number)
        return [encoding.attempt_of(row) for row in self._all(query)]

    def insert_attempt(self, attempt: Attempt) -> None:  # noqa: D102
        self._insert(schema.attempts, encoding.attempt_row(attempt))

    def update_attempt(self, attempt: Attempt) -> None:  # noqa: D102
        self._update(schema.attempts, encoding.attempt_row(attempt), "id")

    def insert_window(self, window: SealedWindow) -> None:  # noqa: D102
        self._insert(schema.windows, encoding.window_row(window))

    def last_window_before(self, export: str, moment: datetime) -> SealedWindow | None:  # noqa: D102
        table = schema.windows
        query = (
            sa.select(table)
            .where(table.c.export == export, table.c.committed_at < moment)
            .order_by(table.c.number.desc())
            .limit(1)
        )
        row = self._one(query)
        return None if row is None else encoding.window_of(row)

    def delete_windows(self, export: str, before: datetime) -> None:  # noqa: D102
        table = schema.windows
        self._connection.execute(
            sa.delete(table).where(table.c.export == export, table.c.committed_at < before)
        )

    def insert_bad_records(self, plan_id: str, records: Sequence[BadRecord]) -> None:  # noqa: D102
        if records:
            rows = [encoding.bad_record_row(plan_id, record) for record in records]
            self._connection.execute(sa.insert(schema.bad_records), rows)

    def bad_records(self, plan_id: str) -> list[BadRecord]:  # noqa: D102
        table = schema.bad_records
        query = sa.select(table).where(table.c.plan == plan_id).order_by(table.c.number)
        return [encoding.bad_record_of(row) for row in self._all(query)]

    def insert_run(self, run: RunRecord) -> None:  # noqa: D102
        self._insert(schema.runs, encoding.run_row(run))

    def update_run(self, run: RunRecord) -> None:  # noqa: D102
        self._update(schema.runs, encoding.run_row(run), "id")

    def last_run(self) -> RunRecord | None:  # noqa: D102
        query = sa.select(schema.runs).order_by(schema.runs.c.started_at.desc()).limit(1)
        row = self._one(query)
        return None if row is None else encoding.run_of(row)

    def delete_runs(self, before: datetime) -> None:  # noqa: D102
        self._connection.execute(sa.delete(schema.runs).where(schema.runs.c.started_at < before))


class SqliteStorage:
    """A ledger in one SQLite file.

    Every commit is synced to disk before it is reported, because an object is only ever uploaded on
    the strength of a row. Not for network file systems: SQLite's log needs shared memory.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise LedgerMissing(f"there is no ledger at {path}", hint=MISSING_HINT)
        self._path = path
        self._engine = _engine(path)
        with self._guarded(), self._engine.connect() as connection:
            version = _version(connection, path)
            connection.exec_driver_sql("PRAGMA journal_mode=WAL")  # for good, from the first opening on
        if version != schema.VERSION:
            self._engine.dispose()
            raise _other_version(path, version)

    @contextmanager
    def writing(self) -> Iterator[SqlRows]:
        """A transaction that has the write lock from its first statement on."""
        with self._transaction("BEGIN IMMEDIATE") as rows:
            yield rows

    @contextmanager
    def reading(self) -> Iterator[SqlRows]:
        """One consistent view."""
        with self._transaction("BEGIN") as rows:
            yield rows

    def close(self) -> None:
        """Close every connection; the last one folds the log into the file."""
        self._engine.dispose()

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[SqlRows]:
        with self._guarded(), self._engine.connect() as connection:
            connection.exec_driver_sql(begin)
            try:
                yield SqlRows(connection)
                connection.exec_driver_sql("COMMIT")
            except BaseException:
                _roll_back(connection)
                raise

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except sa.exc.DBAPIError as error:
            raise _translated(error, self._path) from error


def create_sqlite(path: Path) -> None:
    """Make an empty ledger, whole or not at all; raises LedgerError if there is anything already."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LedgerError(
            f"there can be no ledger at {path}: {error.strerror}", hint="name another place in ledger.url"
        ) from error
    engine = _engine(path)
    try:
        with engine.connect() as connection:
            # What a try that failed leaves behind is a database without tables: it is in nobody's way.
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            if sa.inspect(connection).get_table_names():
                raise _exists(path)
            _migrate(connection, 0)
            connection.execute(sa.insert(schema.meta), {"key": "ledger_id", "value": uuid4().hex})
            connection.exec_driver_sql("COMMIT")
            connection.exec_driver_sql("PRAGMA journal_mode=WAL")  # here, so that `status` need not write it
    except sa.exc.DBAPIError as error:
        if "not a database" in str(error.orig):
            raise _exists(path) from error
        raise _translated(error, path) from error
    finally:
        engine.dispose()


def _exists(path: Path) -> LedgerError:
    return LedgerError(
        f"there is a file at {path} already",
        hint="a ledger is created once, for good; to bring an old one up to date: "
        "audit-exporter ledger migrate",
    )


def migrate_sqlite(path: Path) -> tuple[int, int]:
    """Bring an older ledger up to date in one transaction; answers its versions before and after."""
    if not path.is_file():
        raise LedgerMissing(f"there is no ledger at {path}", hint=MISSING_HINT)
    engine = _engine(path)
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            version = _version(connection, path)
            if version > schema.VERSION:
                raise _other_version(path, version)
            _migrate(connection, version)
            connection.exec_driver_sql("COMMIT")
            return version, schema.VERSION
    except sa.exc.DBAPIError as error:
        raise _translated(error, path) from error
    finally:
        engine.dispose()


def _engine(path: Path) -> sa.Engine:
    url = sa.URL.create("sqlite", database=str(path))
    engine = sa.create_engine(
        url,
        isolation_level="AUTOCOMMIT",
        connect_args={"timeout": BUSY_TIMEOUT_S},
        max_overflow=-1,  # a thread that delivers must not wait for another's connection
    )

    @sa.event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: object) -> None:  # noqa: ANN401 - a DBAPI connection
        # The driver must not open transactions of its own: ours begin with the write lock.
        connection.isolation_level = None
        connection.execute("PRAGMA synchronous=FULL")

    return engine


def _roll_back(connection: sa.Connection) -> None:
    # After some errors, a full disk among them, SQLite has rolled back by itself.
    if connection.connection.driver_connection.in_transaction:  # type: ignore[union-attr]
        connection.exec_driver_sql("ROLLBACK")


def _migrate(connection: sa.Connection, version: int) -> None:
    for step in schema.MIGRATIONS[version:]:
        step(connection)
    connection.execute(sa.delete(schema.meta).where(schema.meta.c.key == "version"))
    connection.execute(sa.insert(schema.meta), {"key": "version", "value": str(schema.VERSION)})


def _meta(connection: sa.Connection, key: str) -> str | None:
    query = sa.select(schema.meta.c.value).where(schema.meta.c.key == key)
    return connection.execute(query).scalar_one_or_none()


def _version(connection: sa.Connection, path: Path) -> int:
    if not sa.inspect(connection).has_table("meta"):
        raise LedgerMissing(f"the file {path} is not a ledger", hint=MISSING_HINT)
    return int(_meta(connection, "version") or 0)


def _other_version(path: Path, version: int) -> LedgerError:
    if version < schema.VERSION:
        return LedgerError(
            f"the ledger {path} is at version {version}, this program needs {schema.VERSION}",
            hint="run: audit-exporter ledger migrate",
        )
    return LedgerError(
        f"the ledger {path} is at version {version}; this program knows no newer one than {schema.VERSION}",
        hint="use the newer audit-exporter that wrote it",
    )


def _translated(error: sa.exc.DBAPIError, path: Path) -> LedgerError:
    reason = str(error.orig)
    hints = {
        "locked": "another process has held it for a minute: wait for it, or find it with: fuser FILE",
        "full": "make room on that disk; nothing was lost, the next run goes on from here",
        "readonly": "give this user the right to write the file and its folder",
        "unable to open": "give this user the right to read and write the file and its folder",
        "not a database": MISSING_HINT,
        "malformed": "restore it from a backup, then run: audit-exporter ledger restored",
        "disk I/O": "look at the disk; nothing was lost, the next run goes on from here",
    }
    hint = next((text for word, text in hints.items() if word in reason), "")
    return LedgerError(f"the ledger {path} cannot be used: {reason}", hint=hint)
