"""Every source keeps what is promised of derived columns; and what is each one's own about them."""

from __future__ import annotations

import itertools
import sqlite3
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import psycopg
import pytest
from pydantic import ValidationError

from exporter.columns import Roles
from exporter.config.settings import SourceSettings
from exporter.model import Level, Range
from exporter.sources.memory import MemorySource
from exporter.sources.mysql.prepare import statements as mysql_statements
from exporter.sources.postgres import PostgresOptions
from exporter.sources.postgres.prepare import statements
from exporter.sources.sqlite import SqliteSource
from exporter.sources.sqlite.database import apply
from tests.contracts.derived import DERIVED_CONTRACT, FIRST_LOGIN, Bench, add
from tests.contracts.source import BEGIN, window
from tests.kit.mysql_tables import COLUMNS, Application, Table, options, table
from tests.kit.mysql_tables import INDEXES as MYSQL_INDEXES
from tests.kit.mysql_tables import ROLES as MYSQL_ROLES
from tests.kit.postgres_bench import INDEXES, TABLE, PostgresBench, Variant, microseconds
from tests.kit.postgres_bench import ROLES as POSTGRES_ROLES
from tests.sources.test_sources import canonical, in_many_forms

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime
    from pathlib import Path

    from _pytest.mark import ParameterSet

    from exporter.sources.derived import FirstOf

WITH_USERS: Final = TABLE.replace("note text", "note text, user_id text, action varchar(20)")
ON_POSTGRES: Final = {
    "xid8": Variant(schema=f"{WITH_USERS}; {INDEXES} CREATE INDEX ON {{table}} (account, user_id, happened)"),
    "xmin": Variant(schema=WITH_USERS, commit=None),
    "query": Variant(schema=WITH_USERS, query="SELECT *, 1 AS one FROM {table} -- all of it\n; "),
    "uuid ids": Variant(schema=WITH_USERS, id="uuid", new_id=lambda number: UUID(int=number)),
    "text ids": Variant(schema=WITH_USERS, id="text", new_id=lambda number: f"Ä\\ {number:06}"),
    "microseconds": Variant(schema=WITH_USERS, time="bigint", stored_time=microseconds, unit="us"),
}

TEXT_OF_LETTERS: Final = "varchar(50) COLLATE utf8mb4_general_ci"
MYSQL_COLUMNS: Final = f"{COLUMNS}, user_id varchar(50), action varchar(50)".replace(
    "varchar(50)", TEXT_OF_LETTERS
)


@dataclass(frozen=True)
class OnMysql:
    """How a table is declared, and who reads it how."""

    columns: str = MYSQL_COLUMNS
    more: str = MYSQL_INDEXES + ", INDEX by_user (account, user_id, time)"
    user: str = "watcher"
    query: str | None = None


ON_MYSQL: Final = {
    "process": OnMysql(),
    "select only": OnMysql(user="reader", more=""),
    "bytes": OnMysql(columns=MYSQL_COLUMNS.replace(TEXT_OF_LETTERS, "varbinary(50)", 2)),
    "query": OnMysql(query="SELECT r.*, 1 AS one FROM {table} AS r ; "),
}

ROLES = Roles(id="id", time="happened", account="account")
SCHEMA = """
    CREATE TABLE records (
        id INTEGER PRIMARY KEY AUTOINCREMENT, happened TEXT, account TEXT COLLATE NOCASE, note TEXT,
        user_id {user}, action TEXT COLLATE NOCASE
    );
    CREATE INDEX by_time ON records (account, happened, id);
    CREATE INDEX by_account ON records (account);
"""
BY_USER = "CREATE INDEX by_user ON records (account, user_id, happened);"


class MemoryBench:
    """Transactions as the source in memory has them."""

    histories = 50

    def __init__(self, derived: FirstOf) -> None:
        self.source = MemorySource(lambda: BEGIN, extra=("note", "user_id", "action"), derived=[derived])

    def begin(self) -> int:
        return self.source.begin()

    def commit(self, transaction: object) -> None:
        assert isinstance(transaction, int)
        self.source.commit(transaction)

    def insert(
        self,
        transaction: object,
        account: str,
        time: datetime | None,
        user: str | None,
        action: str | None,
        note: str,
    ) -> None:
        assert isinstance(transaction, int)
        self.source.insert(transaction, account, time, user_id=user, action=action, note=note)


class SqliteBench:
    """A database file; SQLite has one writer, so a transaction is what will be written at its commit."""

    histories = 25

    def __init__(
        self, path: Path, schema: str, source: SqliteSource, store: Callable[[datetime | None], object]
    ) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.executescript("PRAGMA synchronous = OFF;" + schema)
        self._store = store
        self.source = source

    def begin(self) -> list[tuple[object, ...]]:
        return []

    def commit(self, transaction: object) -> None:
        assert isinstance(transaction, list)
        self._connection.executemany(
            "INSERT INTO records (happened, account, user_id, action, note) VALUES (?, ?, ?, ?, ?)",
            transaction,
        )

    def insert(
        self,
        transaction: object,
        account: str,
        time: datetime | None,
        user: str | None,
        action: str | None,
        note: str,
    ) -> None:
        assert isinstance(transaction, list)
        transaction.append((self._store(time), account, user, action, note))


class PostgresDerived:
    """A table with users and actions; a transaction is a connection's, which serves again afterwards."""

    histories = 6

    def __init__(self, variant: Variant, derived: FirstOf) -> None:
        self.table = PostgresBench(variant)
        self.source = self.table.new_source(derived=[derived], seal_wait_s=0.0)
        self._idle: list[psycopg.Connection[Any]] = []

    def begin(self) -> psycopg.Connection[Any]:
        table = self.table
        return self._idle.pop() if self._idle else table.server.connect(table.database, autocommit=False)

    def commit(self, transaction: object) -> None:
        assert isinstance(transaction, psycopg.Connection)
        transaction.commit()
        self._idle.append(transaction)

    def insert(
        self,
        transaction: object,
        account: str,
        time: datetime | None,
        user: str | None,
        action: str | None,
        note: str,
    ) -> None:
        assert isinstance(transaction, psycopg.Connection)
        self.table.insert(account, time, note, connection=transaction, user_id=user, action=action)

    def close(self) -> None:
        for connection in self._idle:
            connection.close()
        self.table.close()


class MysqlBench:
    """A table with users and actions on the shared MariaDB server."""

    histories = 6

    def __init__(self, variant: OnMysql, derived: FirstOf) -> None:
        self._table = Table(variant.columns, variant.more)
        self._idle: list[Application] = []
        query = {"query": variant.query.format(table=self._table.name)} if variant.query else {}
        self.source = self._table.source(
            variant.user, derived=[derived], block_rows=1, seal_wait_s=0.0, **query
        )

    def begin(self) -> Application:
        made = self._idle.pop() if self._idle else self._table.connect()
        made.execute("START TRANSACTION")
        return made

    def commit(self, transaction: object) -> None:
        assert isinstance(transaction, Application)
        transaction.execute("COMMIT")
        self._idle.append(transaction)

    def insert(
        self,
        transaction: object,
        account: str,
        time: datetime | None,
        user: str | None,
        action: str | None,
        note: str,
    ) -> None:
        assert isinstance(transaction, Application)
        transaction.execute(
            f"INSERT INTO {self._table.name} (time, account, user_id, action, note)"
            " VALUES (%s, %s, %s, %s, %s)",
            None if time is None else time.replace(tzinfo=None), account, user, action, note,
        )  # fmt: skip

    def close(self) -> None:
        self._table.close()


@pytest.fixture(params=["memory", "text", "untyped", "forms", "no index", "view", "query"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Bench]:
    numbers = itertools.count()
    schema = SCHEMA.format(user="TEXT COLLATE NOCASE")

    def sqlite(
        derived: FirstOf,
        schema: str = schema + BY_USER,
        *,
        store: Callable[[datetime | None], object] = canonical,
        table: str | None = "records",
        query: str | None = None,
    ) -> SqliteBench:
        path = tmp_path / f"{next(numbers)}.db"
        source = SqliteSource(path, roles=ROLES, table=table, query=query, block_rows=1, derived=[derived])
        return SqliteBench(path, schema, source, store)

    makers: dict[str, Callable[[FirstOf], Bench]] = {
        "memory": MemoryBench,
        "text": sqlite,
        "untyped": lambda derived: sqlite(derived, SCHEMA.format(user="") + BY_USER),
        "forms": lambda derived: sqlite(derived, store=in_many_forms()),
        "no index": lambda derived: sqlite(derived, schema.replace("CREATE INDEX", "-- CREATE INDEX")),
        "view": lambda derived: sqlite(
            derived, schema + "CREATE VIEW seen AS SELECT * FROM records;", table="seen"
        ),
        "query": lambda derived: sqlite(derived, table=None, query="SELECT * FROM records -- all; "),
    }
    return lambda derived=FIRST_LOGIN: makers[request.param](derived)


@pytest.mark.parametrize(
    "promise", DERIVED_CONTRACT, ids=lambda promise: promise.__name__.removeprefix("test_")
)
def test_contract(promise: Callable[[Callable[..., Bench]], None], make: Callable[..., Bench]) -> None:
    """Every source keeps every promise about derived columns."""
    promise(make)


def _promises(variants: Iterable[str]) -> list[ParameterSet]:
    """Each promise for each variant; the one about many histories takes seconds, so one has it quick."""
    found = []
    for place, variant in enumerate(variants):
        for promise in DERIVED_CONTRACT:
            name = promise.__name__.removeprefix("test_")
            marks = [pytest.mark.slow] if place and name == "each_user_has_one_first_login" else []
            found.append(pytest.param(variant, promise, id=f"{variant}-{name}", marks=marks))
    return found


@pytest.mark.parametrize(("variant", "promise"), _promises(ON_POSTGRES))
def test_postgres_contract(promise: Callable[[Callable[..., Bench]], None], variant: str) -> None:
    """PostgreSQL keeps every promise about derived columns, by both strategies."""
    with ExitStack() as stack:
        promise(
            lambda derived=FIRST_LOGIN: stack.enter_context(
                closing(PostgresDerived(ON_POSTGRES[variant], derived))
            )
        )


@pytest.mark.parametrize(("variant", "promise"), _promises(ON_MYSQL))
def test_mysql_contract(promise: Callable[[Callable[..., Bench]], None], variant: str) -> None:
    """MariaDB keeps every promise about derived columns, whatever the gaps in its seals."""
    with ExitStack() as stack:
        promise(
            lambda derived=FIRST_LOGIN: stack.enter_context(closing(MysqlBench(ON_MYSQL[variant], derived)))
        )


# --- Indexes ----------------------------------------------------------------------------------------


def test_sqlite_is_advised_of_the_index(tmp_path: Path) -> None:
    """`source prepare` and `check` ask for the index of a derived column, until it is there."""
    path = tmp_path / "audit.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(SCHEMA.format(user="TEXT"))
    plain = SqliteSource(path, roles=ROLES, table="records")
    assert plain.prepare() == []
    source = SqliteSource(path, roles=ROLES, table="records", derived=[FIRST_LOGIN])
    (statement,) = source.prepare()
    assert statement.sql.endswith('ON "records" ("account", "user_id", "happened")')
    assert statement.sql in [finding.hint for finding in source.check([])]
    apply(path, statement)
    assert source.prepare() == []
    assert not [finding for finding in source.check([]) if finding.subject == "index"]


def test_postgres_is_advised_of_the_index() -> None:
    """`source prepare` asks for the index of a derived column once; `check` says that it serves."""
    with closing(PostgresBench(Variant(schema=f"{WITH_USERS}; {INDEXES}"))) as bench:
        again = replace(FIRST_LOGIN, name="first_of_all")
        source = bench.new_source(derived=[FIRST_LOGIN, again])
        options = PostgresOptions(bench.url(bench.server))

        def missing() -> list[str]:
            found = statements(options, bench.table, POSTGRES_ROLES, "export_xid", [FIRST_LOGIN, again])
            return [one.sql for one in found if "INDEX" in one.sql]

        bench.execute(
            "INSERT INTO {table} (happened, account, user_id, action) SELECT now() - n * interval '1 minute',"
            " 'acme', n % 1000, 'view' FROM generate_series(1, 50000) AS n"
        )
        bench.execute("ANALYZE {table}")
        (made,) = missing()
        assert '("account", "user_id", "happened")' in made
        found = [one for one in source.check(["acme"]) if "user_id" in one.message]
        assert [one.level for one in found] == [Level.WARNING] * 2
        assert {one.hint for one in found} == {made}
        bench.execute(made)
        assert missing() == []
        found = [one for one in source.check(["acme"]) if "user_id" in one.message]
        assert [one.level for one in found] == [Level.OK] * 2
        assert all("are served by the index" in one.message for one in found)


def test_mysql_is_advised_of_the_index() -> None:
    """`source prepare` and `check` ask for the index of a derived column, until it is there."""
    with table(MYSQL_COLUMNS, MYSQL_INDEXES) as bare:
        source = bare.source(derived=[FIRST_LOGIN])

        def missing() -> list[str]:
            found = mysql_statements(options("reader"), bare.name, MYSQL_ROLES, None, [FIRST_LOGIN])
            return [one.sql for one in found if "INDEX" in one.sql]

        (made,) = missing()
        assert "(`account`, `user_id`, `time`)" in made
        assert made in [finding.hint for finding in source.check([])]
        bare.application.execute(made)
        assert missing() == []
        assert made not in [finding.hint for finding in source.check([])]


def test_nothing_is_asked_of_what_a_format_leaves_out(tmp_path: Path) -> None:
    """The user and the action, where no format asks for them, are in no record's raw form."""
    path = tmp_path / "audit.db"
    source = SqliteSource(path, roles=ROLES, table="records", derived=[FIRST_LOGIN])
    bench = SqliteBench(path, SCHEMA.format(user="TEXT"), source, canonical)
    add(bench, "acme", 1, user="ann")
    ((_, block),) = source.read([Range("acme", window(0), source.seal())], ["first_login"])
    assert b"ann" not in block.raw(0)
    assert b'"first_login": "true"' in block.raw(0)


def test_a_derived_column_needs_the_column_of_actions() -> None:
    """A configuration that derives a column and does not say which one holds the actions is a mistake."""
    columns = {"id": "id", "time": "happened", "account": "account"}
    derived = {"first_login": {"first_of": "user_id", "actions": ["login"]}}
    given = {"url": "sqlite:///audit.db", "table": "records", "derived": derived}
    with pytest.raises(ValidationError, match=r"goes by `columns\.action`"):
        SourceSettings.model_validate({**given, "columns": columns})
    SourceSettings.model_validate({**given, "columns": {**columns, "action": "action"}})
