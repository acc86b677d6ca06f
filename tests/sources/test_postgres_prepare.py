"""`source prepare` for PostgreSQL: what it prints, that this can be run, and what comes of it."""

from __future__ import annotations

import threading
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, Final

import psycopg
import pytest

from exporter.columns import Roles
from exporter.errors import SourceBusy, SourceError
from exporter.model import Level, Range, Statement, Window
from exporter.sources.postgres import PostgresOptions, PostgresSource
from exporter.sources.postgres import indexes as postgres_indexes
from exporter.sources.postgres import prepare as postgres_prepare
from tests.contracts.source import at
from tests.kit.postgres import postgres_server
from tests.kit.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.kit.postgres import Postgres

ROLES: Final = Roles(id="id", time="created_at", account="account_id")
LEGACY: Final = """
    CREATE TABLE audit_log (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, created_at timestamptz, account_id text, note text
    )
"""
POSITION: Final = "export_xid xid8 NOT NULL DEFAULT pg_current_xact_id()"
INDEXES: Final = """
    CREATE INDEX ON audit_log (account_id, export_xid);
    CREATE INDEX ON audit_log (account_id, created_at, id);
"""
BY_POSITION: Final = "no index leads from an account to what has become visible since a seal"
BY_TIME: Final = "no index leads from an account to a window of time"


class Vendor:
    """A vendor's database, with its administrator at hand."""

    def __init__(self, server: Postgres) -> None:
        self.server = server
        self.database = server.new_database()
        self.url = server.url(self.database)
        self.connection: psycopg.Connection[Any] = server.connect(self.database)
        self.roles = ["audit_exporter"]

    def execute(self, statement: str) -> Any:  # noqa: ANN401 - whatever was asked for
        cursor = self.connection.execute(statement.encode())
        row = cursor.fetchone() if cursor.description else None
        return row and row[0]

    def new_role(self, *rights: str) -> str:
        """A role with these rights on the table; gives the URL that it reaches the database by."""
        role = f"role_{len(self.roles)}"
        self.roles.append(role)
        self.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'a-secret'")
        for right in rights:
            self.execute(f"GRANT {right} ON audit_log TO {role}")
        return self.server.url(self.database, role, "a-secret")

    def statements(
        self, table: str | None = "audit_log", *, url: str = "", commit: str | None = None
    ) -> Sequence[Statement]:
        options = PostgresOptions(url=url or self.url)
        return postgres_prepare.statements(options, table, ROLES, commit)

    def apply(self, statement: Statement, *, url: str = "") -> None:
        postgres_prepare.apply(PostgresOptions(url=url or self.url), statement)

    def prepare(self, commit: str | None = None) -> list[str]:
        """Run all that is missing; gives it as it was run."""
        found = self.statements(commit=commit)
        for statement in found:
            self.apply(statement)
        return [statement.sql for statement in found]

    def source(self, url: str = "", *, commit: str = "export_xid") -> PostgresSource:
        return PostgresSource(
            PostgresOptions(url=url or self.url), roles=ROLES, commit=commit, table="audit_log"
        )

    def index_findings(self) -> list[tuple[Level, str]]:
        with closing(self.source()) as source:
            found = source.check(["acme"])
        return [(finding.level, finding.message) for finding in found if finding.subject == "index"]

    def close(self) -> None:
        for role in self.roles:
            if self.execute(f"SELECT 1 FROM pg_roles WHERE rolname = '{role}'"):
                self.execute(f"DROP OWNED BY {role}")
                self.execute(f"DROP ROLE {role}")
        self.connection.close()


@pytest.fixture(name="server", scope="module")
def _server() -> Iterator[Postgres]:
    """Roles are a whole server's, and it is about one of a fixed name."""
    with postgres_server() as server:
        yield server


@pytest.fixture(name="vendor")
def _vendor(server: Postgres) -> Iterator[Vendor]:
    with closing(Vendor(server)) as vendor:
        yield vendor


@contextmanager
def transaction(vendor: Vendor) -> Iterator[psycopg.Connection[Any]]:
    """A connection of the application's in a transaction; the end of the block rolls back what is open."""
    with closing(vendor.server.connect(vendor.database, autocommit=False)) as connection:
        yield connection


def sql_of(found: Sequence[Statement]) -> list[str]:
    return [statement.sql for statement in found]


# --- The whole circle -----------------------------------------------------------------------------------


def test_a_legacy_table_is_prepared_and_read_by_a_role_that_may_only_select(vendor: Vendor) -> None:
    """Printed, run, and then nothing is missing: the new role checks, seals and reads, all by index."""
    vendor.execute(LEGACY)
    vendor.execute(
        "INSERT INTO audit_log (created_at, account_id) SELECT '2026-11-20'::timestamptz - g * interval"
        " '20 s', 'acme' FROM generate_series(1, 20000) AS g"
    )
    found = vendor.statements()
    table, column = '"public"."audit_log"', '"export_xid" xid8 NOT NULL DEFAULT pg_current_xact_id()'
    assert sql_of(found) == [
        f"BEGIN; SET LOCAL lock_timeout = '5s'; ALTER TABLE {table} ADD COLUMN {column}; COMMIT",
        f'CREATE INDEX CONCURRENTLY "audit_log_by_position" ON {table} ("account_id", "export_xid")',
        f'CREATE INDEX CONCURRENTLY "audit_log_by_time" ON {table} ("account_id", "created_at", "id")',
        'CREATE ROLE "audit_exporter" LOGIN',
        'GRANT SELECT ON "public"."audit_log" TO "audit_exporter"',
        'ALTER ROLE "audit_exporter" SET default_transaction_read_only = on',
    ]
    reasons = [statement.reason for statement in found]
    assert "once it is there, and not before, set columns.commit: export_xid" in reasons[0]
    assert reasons[1:3] == [BY_POSITION, BY_TIME]
    assert "\\password audit_exporter in psql" in reasons[3]
    for statement in found:
        vendor.apply(statement)
    vendor.execute("ANALYZE audit_log")
    vendor.execute("ALTER ROLE audit_exporter PASSWORD 'a-secret'")
    url = vendor.server.url(vendor.database, "audit_exporter", "a-secret")
    assert vendor.statements() == vendor.statements(url=url) == []
    with closing(vendor.source(url)) as source:
        findings = source.check(["acme"])
        seal = source.seal()
        window = Window(at(0).replace(day=1), at(0).replace(day=30))
        assert sum(len(block) for _, block in source.read([Range("acme", window, seal)], None)) == 20_000
    assert {finding.level for finding in findings} == {Level.OK}
    assert "the xid8 column export_xid" in findings[0].message
    assert [finding.message for finding in findings if finding.subject == "index"] == [
        "records on time are served by the index audit_log_by_time",
        "late records are served by the index audit_log_by_position",
    ]


def test_adding_the_column_rewrites_nothing(vendor: Vendor) -> None:
    """The table's file stays the same, so that not even the xmin strategy notices it."""
    vendor.execute(LEGACY)
    vendor.execute("INSERT INTO audit_log (account_id) SELECT 'acme' FROM generate_series(1, 1000)")
    before = vendor.execute("SELECT pg_relation_filenode('audit_log')")
    vendor.prepare()
    assert vendor.execute("SELECT pg_relation_filenode('audit_log')") == before
    assert vendor.execute("SELECT count(DISTINCT export_xid) FROM audit_log") == 1


def test_looking_takes_a_role_that_may_only_select_and_changes_nothing(vendor: Vendor) -> None:
    """That role is all that is needed, so no other one is proposed."""
    vendor.execute(LEGACY)
    found = vendor.statements(url=vendor.new_role("SELECT"))
    assert [statement.sql.partition(" ")[0] for statement in found] == ["BEGIN;", "CREATE", "CREATE"]
    assert vendor.statements(url=vendor.new_role("SELECT")) == found


# --- The column -----------------------------------------------------------------------------------------


def test_the_column_that_there_is_is_used(vendor: Vendor) -> None:
    """Whatever its name, if it is filled with the inserting transaction; another xid8 column is not meant."""
    vendor.execute(LEGACY)
    vendor.execute(
        "ALTER TABLE audit_log ADD COLUMN deleted_by xid8 DEFAULT '0', "
        "ADD COLUMN written_by xid8 NOT NULL DEFAULT pg_current_xact_id()"
    )
    found = sql_of(vendor.statements())
    assert "ALTER TABLE" not in "".join(found)
    assert '("account_id", "written_by")' in found[0]


def test_the_configured_column_is_used_or_made(vendor: Vendor) -> None:
    """A trigger may fill it; where it is not there yet, it gets the name that the configuration has."""
    vendor.execute(LEGACY)
    vendor.execute("ALTER TABLE audit_log ADD COLUMN by_trigger xid8 NOT NULL")
    assert '("account_id", "by_trigger")' in sql_of(vendor.statements(commit="by_trigger"))[0]
    made = sql_of(vendor.statements(commit="inserted_by"))
    assert 'ADD COLUMN "inserted_by" xid8' in made[0]
    assert '("account_id", "inserted_by")' in made[1]


def test_a_taken_name_gives_way(vendor: Vendor) -> None:
    """A column, a table or an index that happens to have our name stays what it is."""
    vendor.execute(LEGACY)
    vendor.execute("ALTER TABLE audit_log ADD COLUMN export_xid bigint")
    vendor.execute("CREATE TABLE audit_log_by_time ()")
    found = vendor.statements(commit="export_xid")
    assert "set columns.commit: export_xid8" in found[0].reason
    assert '"audit_log_by_time_2" ON' in found[2].sql
    vendor.prepare(commit="export_xid")
    assert vendor.statements(commit="export_xid8") == []


def test_columns_that_may_be_null_are_an_administrators_matter_too(vendor: Vendor) -> None:
    """Without NOT NULL nothing can be sealed."""
    vendor.execute("CREATE TABLE audit_log (id bigint, created_at timestamptz, account_id text)")
    vendor.execute("ALTER TABLE audit_log ADD COLUMN export_xid xid8 DEFAULT pg_current_xact_id()")
    assert [one for one in vendor.prepare() if "SET NOT NULL" in one] == [
        "BEGIN; SET LOCAL lock_timeout = '5s'; "
        f'ALTER TABLE "public"."audit_log" ALTER COLUMN "{name}" SET NOT NULL; COMMIT'
        for name in ("id", "export_xid")
    ]
    with closing(vendor.source()) as source:
        source.seal()


# --- Indexes --------------------------------------------------------------------------------------------


def test_indexes_that_lead_to_the_same_records_will_do(vendor: Vendor) -> None:
    """Under any name, downwards, with other columns behind."""
    vendor.execute(LEGACY.replace("note text", POSITION))
    vendor.execute("CREATE INDEX ON audit_log (account_id, created_at DESC)")
    vendor.execute("CREATE INDEX ON audit_log (account_id, export_xid, created_at)")
    assert "INDEX" not in "".join(sql_of(vendor.statements()))


def test_indexes_that_lead_elsewhere_will_not_do(vendor: Vendor) -> None:
    """A partial one, one of another order, an expression's, one of another kind."""
    vendor.execute(LEGACY.replace("note text", POSITION))
    vendor.execute("CREATE INDEX ON audit_log (account_id, export_xid) WHERE id > 0")
    vendor.execute("CREATE INDEX ON audit_log (created_at, account_id)")
    vendor.execute("CREATE INDEX ON audit_log (lower(account_id), created_at)")
    vendor.execute("CREATE INDEX ON audit_log USING brin (account_id, created_at)")
    assert len([one for one in vendor.prepare() if "INDEX" in one]) == 2
    assert vendor.statements() == []


def test_names_of_indexes_fit(vendor: Vendor) -> None:
    """PostgreSQL cuts off what is too long, and two names would become one."""
    name = "ü" * 30
    vendor.execute(LEGACY.replace("audit_log", name))
    for statement in vendor.statements(name):
        vendor.apply(statement)
    assert vendor.statements(name) == []
    names = vendor.execute(
        f"SELECT array_agg(relname::text) FROM pg_class WHERE relname LIKE '{name[:20]}%by%'"
    )
    assert sorted(one.lstrip("ü") for one in names) == ["_by_position", "_by_time"]


def fail_to_build(vendor: Vendor, statement: str) -> None:
    """An index whose building is given up while it waits for a transaction."""
    with transaction(vendor) as application:
        application.execute("INSERT INTO audit_log (account_id) VALUES ('acme')")
        vendor.execute("SET statement_timeout = '100ms'")
        with pytest.raises(psycopg.errors.QueryCanceled):
            vendor.execute(statement)
        vendor.execute("RESET statement_timeout")


def test_what_a_failed_build_left_is_dropped_first(vendor: Vendor) -> None:
    """It serves nobody, slows down every insert and has the name; then the index is built."""
    vendor.execute(LEGACY.replace("note text", POSITION))
    _by_position, by_time = (one for one in sql_of(vendor.statements()) if "INDEX" in one)
    fail_to_build(vendor, by_time)
    made = [one for one in vendor.prepare() if "INDEX" in one]
    assert made[1:] == ['DROP INDEX CONCURRENTLY "public"."audit_log_by_time"', by_time]
    assert vendor.statements() == []


def test_an_index_that_is_being_built_is_not_taken_for_a_failed_one(vendor: Vendor) -> None:
    """Dropping it would undo somebody's work of hours."""
    vendor.execute(LEGACY.replace("note text", POSITION))
    (by_time,) = (one for one in vendor.statements() if one.reason == BY_TIME)
    with transaction(vendor) as application:
        application.execute("INSERT INTO audit_log (account_id) VALUES ('acme')")
        builder = threading.Thread(target=vendor.apply, args=(by_time,))
        builder.start()
        is_there = "SELECT EXISTS (SELECT FROM pg_index WHERE NOT indisvalid)"
        wait_until("begun", lambda: bool(vendor.execute(is_there)))
        with pytest.raises(SourceBusy, match="one is being built right now") as busy:
            vendor.statements()
        assert "pg_stat_progress_create_index" in busy.value.hint
        application.rollback()
        builder.join()
    assert BY_TIME not in [statement.reason for statement in vendor.statements()]


def test_an_index_waits_for_transactions_as_long_as_it_takes(
    vendor: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody queues up behind it, and giving up would leave a failed one."""
    monkeypatch.setattr(postgres_prepare, "LOCK_TIMEOUT", "50ms")
    vendor.execute(LEGACY)
    (by_time,) = (one for one in vendor.statements() if one.reason == BY_TIME)
    with transaction(vendor) as application:
        application.execute("INSERT INTO audit_log (account_id) VALUES ('acme')")
        builder = threading.Thread(target=vendor.apply, args=(by_time,))
        builder.start()
        waits = (
            "SELECT max(now() - query_start) > '200 ms' FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        )
        wait_until("waiting for longer", lambda: bool(vendor.execute(waits)))
        application.rollback()
        builder.join()
    assert vendor.execute("SELECT indisvalid FROM pg_index WHERE indexrelid = 'audit_log_by_time'::regclass")


PARTITIONED: Final = """
    CREATE TABLE audit_log (
        id bigint GENERATED BY DEFAULT AS IDENTITY NOT NULL, created_at timestamptz, account_id text NOT NULL
    ) PARTITION BY LIST (account_id);
    CREATE TABLE small PARTITION OF audit_log FOR VALUES IN ('globex', 'initech');
    CREATE TABLE large PARTITION OF audit_log FOR VALUES IN ('acme') PARTITION BY RANGE (created_at);
    CREATE TABLE large_old PARTITION OF large FOR VALUES FROM (MINVALUE) TO ('2026-11-01');
    CREATE TABLE large_new PARTITION OF large FOR VALUES FROM ('2026-11-01') TO (MAXVALUE);
"""


def fill(vendor: Vendor) -> None:
    vendor.execute(
        "INSERT INTO audit_log (created_at, account_id) SELECT '2026-10-20'::timestamptz + g * interval"
        " '20 min', ('{acme,globex,initech}'::text[])[1 + g % 3] FROM generate_series(1, 2000) AS g"
    )
    vendor.execute("ANALYZE audit_log")


def test_partitions_are_indexed_one_by_one(vendor: Vendor) -> None:
    """The whole table's index first, which is empty; then each partition's, made part of the one above."""
    vendor.execute(PARTITIONED)
    fill(vendor)
    found = [one.partition("lock_timeout = '5s'; ")[2] or one for one in vendor.prepare()]
    columns = '("account_id", "created_at", "id")'
    assert [one for one in found if "by_time" in one] == [
        f'CREATE INDEX "audit_log_by_time" ON ONLY "public"."audit_log" {columns}; COMMIT',
        f'CREATE INDEX "large_by_time" ON ONLY "public"."large" {columns}; COMMIT',
        f'CREATE INDEX CONCURRENTLY "large_new_by_time" ON "public"."large_new" {columns}',
        'ALTER INDEX "public"."large_by_time" ATTACH PARTITION "public"."large_new_by_time"; COMMIT',
        f'CREATE INDEX CONCURRENTLY "large_old_by_time" ON "public"."large_old" {columns}',
        'ALTER INDEX "public"."large_by_time" ATTACH PARTITION "public"."large_old_by_time"; COMMIT',
        'ALTER INDEX "public"."audit_log_by_time" ATTACH PARTITION "public"."large_by_time"; COMMIT',
        f'CREATE INDEX CONCURRENTLY "small_by_time" ON "public"."small" {columns}',
        'ALTER INDEX "public"."audit_log_by_time" ATTACH PARTITION "public"."small_by_time"; COMMIT',
    ]
    assert vendor.statements() == []
    assert vendor.execute("SELECT bool_and(indisvalid) FROM pg_index")
    assert [level for level, _ in vendor.index_findings()] == [Level.OK] * 2


def test_half_done_partitions_are_taken_up_where_they_were_left(vendor: Vendor) -> None:
    """Stopped after any statement, the rest is what would have come; nothing is built twice."""
    vendor.execute(PARTITIONED)
    whole = sql_of(vendor.statements())
    for done, first in enumerate(whole):
        assert sql_of(vendor.statements()) == whole[done:]
        vendor.apply(Statement("", first))
    assert vendor.statements() == []


def test_a_failed_build_in_a_partition_is_dropped_first(vendor: Vendor) -> None:
    """What is whole stays, what is not is built again."""
    vendor.execute(PARTITIONED)
    whole = vendor.statements()
    place = next(number for number, one in enumerate(whole) if '"small_by_time" ON' in one.sql)
    for statement in whole[:place]:
        vendor.apply(statement)
    with transaction(vendor) as application:
        application.execute("INSERT INTO audit_log (account_id) VALUES ('globex')")
        vendor.execute("SET statement_timeout = '100ms'")
        with pytest.raises(psycopg.errors.QueryCanceled):
            vendor.execute(whole[place].sql)
        vendor.execute("RESET statement_timeout")
    drop = 'DROP INDEX CONCURRENTLY "public"."small_by_time"'
    assert sql_of(vendor.statements()) == [drop, *sql_of(whole[place:])]
    vendor.prepare()
    assert vendor.statements() == []


def test_partitions_with_indexes_of_their_own_need_no_more(vendor: Vendor) -> None:
    """Building them all a second time would help nobody."""
    vendor.execute(PARTITIONED)
    vendor.execute(f"ALTER TABLE audit_log ADD COLUMN {POSITION}")
    for name in ("small", "large_old", "large_new"):
        vendor.execute(INDEXES.replace("audit_log", name))
    fill(vendor)
    assert "INDEX" not in "".join(sql_of(vendor.statements()))
    assert [level for level, _ in vendor.index_findings()] == [Level.OK] * 2


def test_children_have_indexes_of_their_own(vendor: Vendor) -> None:
    """A table that others inherit from is read with them, and its index knows nothing of theirs."""
    vendor.execute(LEGACY.replace("note text", POSITION))
    vendor.execute("CREATE TABLE archived () INHERITS (audit_log)")
    vendor.execute(INDEXES)
    made = [one for one in vendor.prepare() if "INDEX" in one]
    assert [one.partition(" ON ")[2].partition(" ")[0] for one in made] == ['"public"."archived"'] * 2
    assert vendor.statements() == []


# --- The role -------------------------------------------------------------------------------------------


def test_a_role_gets_only_the_grants_that_it_lacks(vendor: Vendor) -> None:
    """Connecting, finding the schema, reading; the setting that it never writes is for our own role alone."""
    vendor.execute(f"REVOKE CONNECT ON DATABASE {vendor.database} FROM PUBLIC")
    vendor.execute("CREATE SCHEMA audit")
    vendor.execute(LEGACY.replace("audit_log", "audit.audit_log").replace("note text", POSITION))
    vendor.execute(INDEXES.replace("audit_log", "audit.audit_log"))
    assert sql_of(vendor.statements("audit.audit_log")) == [
        'CREATE ROLE "audit_exporter" LOGIN',
        f'GRANT CONNECT ON DATABASE "{vendor.database}" TO "audit_exporter"',
        'GRANT USAGE ON SCHEMA "audit" TO "audit_exporter"',
        'GRANT SELECT ON "audit"."audit_log" TO "audit_exporter"',
        'ALTER ROLE "audit_exporter" SET default_transaction_read_only = on',
    ]
    url = vendor.new_role()
    role = vendor.roles[-1]
    vendor.execute(f"GRANT CONNECT ON DATABASE {vendor.database} TO {role}")
    vendor.execute(f"GRANT USAGE ON SCHEMA audit TO {role}")
    granted = sql_of(vendor.statements("audit.audit_log", url=url))
    assert granted == [f'GRANT SELECT ON "audit"."audit_log" TO "{role}"']


def test_a_role_that_may_write_is_not_the_one_to_read_with(vendor: Vendor) -> None:
    """The application's own role gets nothing; another one is proposed."""
    vendor.execute(LEGACY.replace("note text", POSITION) + ";" + INDEXES)
    found = sql_of(vendor.statements(url=vendor.new_role("SELECT, INSERT")))
    assert found[0] == 'CREATE ROLE "audit_exporter" LOGIN'


def test_a_role_is_let_see_the_rows_that_policies_hide(vendor: Vendor) -> None:
    """What row-level security hides would not be delivered."""
    vendor.execute(LEGACY.replace("note text", POSITION) + ";" + INDEXES)
    vendor.execute("ALTER TABLE audit_log ENABLE ROW LEVEL SECURITY")
    assert 'ALTER ROLE "audit_exporter" BYPASSRLS' in vendor.prepare()
    assert vendor.statements() == []


# --- What cannot be prepared, and what goes wrong --------------------------------------------------------


def test_a_view_or_a_query_is_prepared_by_hand(vendor: Vendor) -> None:
    """What to do to the tables behind is in the hint."""
    vendor.execute(LEGACY)
    vendor.execute("CREATE VIEW seen AS SELECT * FROM audit_log")
    for table, what in ((None, "a query"), ("seen", "a view")):
        with pytest.raises(SourceError, match=f"the records come from {what}") as refused:
            vendor.statements(table)
        assert (
            "indexes on (account_id, that column) and on (account_id, created_at, id)" in refused.value.hint
        )


def test_a_role_that_may_not_change_the_table_is_told_so(vendor: Vendor) -> None:
    """The administrator's address has a setting of its own; no password is in the error."""
    vendor.execute(LEGACY)
    url = vendor.new_role("SELECT")
    for statement in vendor.statements()[:4]:
        with pytest.raises(SourceError, match="the role may not do this: ") as refused:
            vendor.apply(statement, url=url)
        assert "source.admin_url" in refused.value.hint
        assert "a-secret" not in f"{refused.value!r} {refused.value.__cause__!r}"


def test_a_role_that_only_reads_is_told_so(vendor: Vendor) -> None:
    """Ours has that as a setting."""
    vendor.execute(LEGACY)
    url = vendor.new_role()
    vendor.execute(f"ALTER ROLE {vendor.roles[-1]} SET default_transaction_read_only = on")
    with pytest.raises(SourceError, match="read-only transaction") as refused:
        vendor.apply(vendor.statements()[1], url=url)
    assert "source.admin_url" in refused.value.hint


def test_a_busy_table_is_left_alone_soon(vendor: Vendor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits for it holds up everybody behind; afterwards the application goes on, as does a retry."""
    monkeypatch.setattr(postgres_indexes, "LOCK_TIMEOUT", "50ms")
    vendor.execute(LEGACY)
    first, *_others = vendor.statements()
    with transaction(vendor) as application:
        application.execute("INSERT INTO audit_log (account_id) VALUES ('acme')")
        with pytest.raises(SourceBusy, match="the table is in use: ") as busy:
            vendor.apply(first)
        assert "pg_stat_activity" in busy.value.hint
        vendor.execute("SET lock_timeout = '1s'")
        vendor.execute("INSERT INTO audit_log (account_id) VALUES ('acme')")
        application.commit()
    vendor.apply(first)
    assert "ALTER TABLE" not in "".join(sql_of(vendor.statements()))


def test_what_the_server_refuses_is_quoted(vendor: Vendor) -> None:
    """Its own words name what is wrong."""
    with pytest.raises(
        SourceError, match='the server refuses it: relation "nowhere" does not exist'
    ) as refused:
        vendor.apply(Statement("", "ALTER TABLE nowhere ADD COLUMN a int"))
    assert "psql" in refused.value.hint


def test_a_server_that_is_not_there_is_busy(vendor: Vendor) -> None:
    """As for every other statement."""
    nobody = vendor.url.replace(f":{vendor.server.port}/", ":1/")
    with pytest.raises(SourceBusy, match="cannot be reached"):
        vendor.apply(Statement("", "SELECT 1"), url=nobody)
