"""What the PostgreSQL ledger adds to the contract: schema, rights, address, locks and lost connections.

Many processes at once are in ``test_ledger_processes``.
"""

from __future__ import annotations

import threading
import traceback
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import psycopg
import pytest

from exporter.errors import ExporterError, LedgerError, LedgerMissing
from exporter.ledger import migrations, postgres, postgres_connection, schema
from exporter.ledger.postgres import (
    PostgresLedgerOptions,
    PostgresStorage,
    create_postgres,
    migrate_postgres,
)
from exporter.ledger.postgres_connection import CONNECTIONS
from exporter.ledger.postgres_errors import translated
from exporter.model import LIVE_LANE, QUARANTINE_RECORDS, PlanState
from tests.contracts.ledger import BAD, BEGIN, NAME, Subject, at, everything, seal
from tests.kit.ledgers import connected, noted
from tests.kit.postgres import postgres_binaries, postgres_server, shared_postgres, version_of
from tests.kit.processes import wait_until
from tests.kit.servers import new_certificate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from exporter.ledger.connection import Connection
    from tests.kit.postgres import Postgres

RUNS: Final = """
GRANT USAGE ON SCHEMA audit_exporter TO {role};
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA audit_exporter TO {role}
"""
SECRET: Final = "Pw-7kX-secret"


@pytest.fixture(scope="module")
def server() -> Postgres:
    return shared_postgres()


@pytest.fixture
def database(server: Postgres) -> str:
    """A database without a ledger."""
    return server.new_database()


@pytest.fixture
def options(server: Postgres, database: str) -> PostgresLedgerOptions:
    """Where an empty ledger is."""
    options = PostgresLedgerOptions(server.url(database))
    create_postgres(options)
    return options


@pytest.fixture
def storage(options: PostgresLedgerOptions) -> Iterator[PostgresStorage]:
    with closing(PostgresStorage(options)) as storage:
        yield storage


@pytest.fixture
def subject(storage: PostgresStorage) -> Subject:
    return Subject(storage)


@pytest.fixture
def role(server: Postgres, database: str) -> Iterator[str]:
    """Somebody with a password and without a right, for as long as the test takes."""
    name = f"role_of_{database}"
    execute(server, database, f"CREATE ROLE {name} LOGIN PASSWORD '{SECRET}'")
    yield name
    execute(server, database, f"DROP OWNED BY {name} CASCADE; DROP ROLE {name}")


def execute(server: Postgres, database: str, statements: str) -> list[Any]:
    """Run something as the superuser, behind the ledger's back."""
    with server.connect(database) as connection:
        cursor = connection.execute(statements.encode())
        return cursor.fetchall() if cursor.description else []


def as_role(server: Postgres, database: str, role: str) -> PostgresLedgerOptions:
    return PostgresLedgerOptions(server.url(database, role), SECRET)


def refused(error: type[ExporterError], call: Callable[[], object], match: str, hint: str) -> None:
    """The call raises this error, which says what is wrong and what to do, and holds no secret."""
    with pytest.raises(error, match=match) as raised:
        call()
    assert hint in raised.value.hint
    assert SECRET not in "".join(traceback.format_exception(raised.value))


# --- the schema --------------------------------------------------------------------------------------


@pytest.mark.parametrize("opens", [PostgresStorage, migrate_postgres])
def test_a_missing_ledger_is_an_error_that_says_what_an_empty_one_would_do(
    server: Postgres, database: str, opens: Callable[[PostgresLedgerOptions], object]
) -> None:
    options = PostgresLedgerOptions(server.url(database))
    refused(LedgerMissing, lambda: opens(options), "there is no ledger at", "audit-exporter ledger create")
    assert execute(server, database, "SELECT to_regnamespace('audit_exporter')") == [(None,)]


def test_a_ledger_shares_a_database_and_touches_nothing_of_it(server: Postgres, database: str) -> None:
    """Tables of the same names elsewhere are somebody else's."""
    execute(server, database, "CREATE TABLE meta (key int); CREATE TABLE exports (name int)")
    options = PostgresLedgerOptions(server.url(database))
    create_postgres(options)
    with closing(PostgresStorage(options)) as storage:
        Subject(storage).begin()
    assert execute(server, database, "SELECT * FROM public.meta, public.exports") == []


@pytest.mark.slow
def test_every_version_of_postgresql_that_is_at_hand_will_do() -> None:
    for version in sorted(map(version_of, postgres_binaries())):
        with postgres_server(version) as server:
            options = PostgresLedgerOptions(server.url(server.new_database()))
            create_postgres(options)
            with closing(PostgresStorage(options)) as storage:
                subject = Subject(storage)
                subject.begin()
                subject.deliver(subject.ledger.plan(subject.export(), subject.draft(bad=1), [BAD]))
                assert subject.export().sequence == 1, version


def test_create_refuses_a_ledger_that_exists(options: PostgresLedgerOptions, subject: Subject) -> None:
    before = everything(subject.storage)
    refused(LedgerError, lambda: create_postgres(options), "already", "audit-exporter ledger migrate")
    assert everything(subject.storage) == before


def test_create_refuses_a_schema_in_which_there_is_something_else(server: Postgres, database: str) -> None:
    execute(server, database, "CREATE SCHEMA audit_exporter; CREATE TABLE audit_exporter.mine (a int)")
    options = PostgresLedgerOptions(server.url(database))
    refused(LedgerError, lambda: create_postgres(options), "already", "ledger migrate")


def test_a_ledger_that_could_not_be_created_leaves_nothing(
    server: Postgres, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = PostgresLedgerOptions(server.url(database))
    with monkeypatch.context() as patched:
        patched.setattr(migrations, "MIGRATIONS", (*migrations.MIGRATIONS, _add_column_and_fail))
        with pytest.raises(LedgerError, match="no_such_column"):
            create_postgres(options)
    assert execute(server, database, "SELECT to_regnamespace('audit_exporter')") == [(None,)]
    create_postgres(options)


def test_of_two_who_create_at_once_one_makes_the_ledger(server: Postgres, database: str) -> None:
    options = PostgresLedgerOptions(server.url(database))
    errors: list[LedgerError] = []

    def create() -> None:
        try:
            create_postgres(options)
        except LedgerError as error:
            errors.append(error)

    threads = [threading.Thread(target=create) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ["already" in error.message for error in errors] == [True] * 3
    PostgresStorage(options).close()


def test_a_database_that_cannot_hold_every_text_is_refused(server: Postgres, database: str) -> None:
    name = f"{database}_latin"
    execute(server, database, f"CREATE DATABASE {name} ENCODING 'LATIN1' TEMPLATE template0 LOCALE 'C'")
    options = PostgresLedgerOptions(server.url(name))
    refused(LedgerError, lambda: create_postgres(options), "encoded in LATIN1", "ENCODING 'UTF8'")


def test_a_newer_and_an_older_ledger_ask_for_what_they_need(
    server: Postgres, database: str, options: PostgresLedgerOptions
) -> None:
    change = "UPDATE audit_exporter.meta SET value = '{}' WHERE key = 'version'"
    execute(server, database, change.format(schema.VERSION + 1))
    for opens in (PostgresStorage, migrate_postgres):
        refused(LedgerError, lambda opens=opens: opens(options), "knows no newer", "newer audit-exporter")  # type: ignore[misc]
    execute(server, database, change.format(schema.VERSION - 1))
    refused(
        LedgerError, lambda: PostgresStorage(options), "this program needs", "audit-exporter ledger migrate"
    )


def _add_column(connection: Connection) -> None:
    connection.execute("ALTER TABLE runs ADD COLUMN host TEXT NOT NULL DEFAULT 'unknown'")


def _add_column_and_fail(connection: Connection) -> None:
    _add_column(connection)
    connection.execute("SELECT no_such_column FROM runs")


def test_migrate_brings_an_older_ledger_up_to_date_once(
    options: PostgresLedgerOptions, subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole or not at all, only the steps that it has not had, and what it knows stays."""
    subject.begin()
    version = schema.VERSION
    monkeypatch.setattr(schema, "VERSION", version + 1)
    with monkeypatch.context() as patched:
        patched.setattr(migrations, "MIGRATIONS", (*migrations.MIGRATIONS, _add_column_and_fail))
        with pytest.raises(LedgerError, match="no_such_column"):
            migrate_postgres(options)
    monkeypatch.setattr(migrations, "MIGRATIONS", (*migrations.MIGRATIONS, _add_column))
    assert migrate_postgres(options) == (version, version + 1)
    assert migrate_postgres(options) == (version + 1, version + 1)
    with closing(PostgresStorage(options)) as storage, storage.reading() as rows:
        assert [export.name for export in rows.exports()] == [NAME]


# --- rights ------------------------------------------------------------------------------------------


def test_a_run_needs_no_more_than_to_select_insert_update_and_delete(
    server: Postgres, database: str, options: PostgresLedgerOptions, role: str
) -> None:
    """Who creates the ledger and who runs may be two; the second needs no right on a sequence either."""
    del options
    execute(server, database, RUNS.format(role=role))
    limited = as_role(server, database, role)
    with closing(PostgresStorage(limited)) as storage:
        subject = Subject(storage)
        subject.begin()
        subject.deliver(subject.ledger.plan(subject.export(), subject.draft(bad=1), [BAD]))
        assert subject.export().sequence == 1
        subject.requests.rename(NAME, "other")
        assert [export.name for export in everything(storage)["exports"]] == ["other"]  # type: ignore[attr-defined]
    with server.connect(database, user=role, password=SECRET) as connection:
        for forbidden in ("CREATE TABLE audit_exporter.mine ()", "DROP TABLE audit_exporter.runs"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(forbidden)


def test_a_role_without_rights_is_told_which_to_give(
    server: Postgres, database: str, options: PostgresLedgerOptions, role: str
) -> None:
    """And not that there is no ledger: somebody might make an empty one."""
    del options
    limited = as_role(server, database, role)
    grant = "GRANT SELECT, INSERT, UPDATE, DELETE"
    for opens in (PostgresStorage, migrate_postgres):
        refused(LedgerError, lambda opens=opens: opens(limited), "permission denied for schema", grant)  # type: ignore[misc]
    execute(server, database, f"GRANT USAGE ON SCHEMA audit_exporter TO {role}")
    refused(LedgerError, lambda: PostgresStorage(limited), "permission denied for table", grant)
    execute(server, database, f"GRANT SELECT ON ALL TABLES IN SCHEMA audit_exporter TO {role}")
    with closing(PostgresStorage(limited)) as storage:
        refused(LedgerError, Subject(storage).begin, "permission denied for table exports", grant)


def test_a_ledger_is_created_by_whoever_owns_its_schema(server: Postgres, database: str, role: str) -> None:
    """Or may make one; nobody else."""
    own = as_role(server, database, role)
    refused(LedgerError, lambda: create_postgres(own), "permission denied for database", "GRANT CREATE ON")
    execute(server, database, "CREATE SCHEMA audit_exporter")
    refused(LedgerError, lambda: create_postgres(own), "is another role's", "GRANT CREATE ON")
    execute(server, database, f"ALTER SCHEMA audit_exporter OWNER TO {role}")
    create_postgres(own)
    assert migrate_postgres(own) == (schema.VERSION, schema.VERSION)
    PostgresStorage(own).close()


# --- the address -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "match", "hint"),
    [
        ({"password": "wrong"}, "password authentication failed", "correct the role or password"),
        ({"user": "nobody"}, "authentication failed", "correct the role or password"),
        ({"database": "no_such_database"}, "does not exist", "create the database first"),
        ({"port": "1"}, "refused", "check the host and port"),
        ({"host": "no.such.host.invalid"}, "no.such.host.invalid", "check the host and port"),
        ({"tls_mode": "require"}, "does not support SSL", "ledger.tls"),
    ],
)
def test_a_ledger_that_cannot_be_reached_says_what_to_look_at(
    server: Postgres, database: str, role: str, change: dict[str, str], match: str, hint: str
) -> None:
    parts = {"user": role, "host": server.host, "port": str(server.port), "database": database} | change
    options = PostgresLedgerOptions(
        "postgresql://{user}@{host}:{port}/{database}".format(**parts),
        password=change.get("password", SECRET),
        tls_mode=change.get("tls_mode"),
    )
    refused(LedgerError, lambda: PostgresStorage(options), match, hint)


def test_tls_trusts_the_authority_that_was_named_and_no_other(tmp_path: Path) -> None:
    """Host name and certificate are compared, and whoever names no authority trusts the system's."""
    with postgres_server(tls=True) as server:
        url = server.url(server.new_database())
        trusting = PostgresLedgerOptions(url, tls_mode="verify-full", ca_file=server.certificate)
        create_postgres(trusting)
        with closing(PostgresStorage(trusting)) as storage, storage.reading() as rows:
            assert rows._connection.execute("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()") == [
                (True,)
            ]
        other, _ = new_certificate(tmp_path)
        by_url = PostgresLedgerOptions(f"{url}?sslmode=verify-full")
        for distrusting in (replace(trusting, ca_file=other), replace(trusting, ca_file=None), by_url):
            refused(LedgerError, lambda o=distrusting: PostgresStorage(o), "certificate", "ledger.tls")  # type: ignore[misc]


@pytest.mark.parametrize(
    ("state", "hint"),
    [
        ("53100", "make room"),
        ("53300", "max_connections"),
        ("08006", "connection was lost"),
        ("57P01", "going down or coming up"),
        ("40P01", "in the way"),
        ("23505", "please report"),
        ("XX001", "audit-exporter ledger restored"),
        ("58030", "disk and log"),
    ],
)
def test_an_error_of_the_server_says_what_to_do(state: str, hint: str) -> None:
    """Of what a test cannot make happen, the table alone."""
    cause = psycopg.errors.lookup(state)("what the server says\nDETAIL: a customer's data")
    error = translated(cause, "postgresql://h:5432/d")
    assert error.message == "the ledger postgresql://h:5432/d cannot be used: what the server says"
    assert hint in error.hint


# --- what PostgreSQL is told -------------------------------------------------------------------------


def test_nothing_is_left_behind_in_a_session(subject: Subject) -> None:
    """So that a pooler may give every transaction another one: no setting, lock or prepared statement."""
    subject.begin()
    for _ in range(10):
        subject.deliver(subject.plan())
    with pytest.raises(LedgerError), subject.storage.writing() as rows:
        rows.insert_export(subject.export())
    with connected(subject.storage) as connection:
        for question in (
            "SELECT name, setting FROM pg_settings WHERE source = 'session'",
            "SELECT statement FROM pg_prepared_statements",
            "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()",
        ):
            assert connection.execute(question) == []


@pytest.mark.parametrize(
    ("default", "used"),
    [("off", "on"), ("local", "on"), ("remote_write", "on"), ("on", "on"), ("remote_apply", "remote_apply")],
)
def test_a_commit_is_at_least_on_disk(
    server: Postgres, database: str, options: PostgresLedgerOptions, default: str, used: str
) -> None:
    """Whatever the database's default is: an upload follows a commit."""
    execute(server, database, f"ALTER DATABASE {database} SET synchronous_commit = {default}")
    with closing(PostgresStorage(options)) as storage, storage.writing(NAME) as rows:
        assert rows._connection.execute("SHOW synchronous_commit") == [(used,)]


def test_the_database_itself_refuses_a_second_open_plan(subject: Subject) -> None:
    subject.begin()
    plan = subject.plan()
    another = replace(plan, id="2" * 32, sequence=2)
    with pytest.raises(LedgerError, match="one_open_plan"), subject.storage.writing() as rows:
        rows.insert_plan(another)
    with subject.storage.writing() as rows:
        rows.insert_plan(replace(another, state=PlanState.ABANDONED))
    assert subject.standing().open_plan == plan


def test_the_database_itself_refuses_a_second_export_of_the_same_names(subject: Subject) -> None:
    """Also where the place of the names is longer than an index takes, and differs in its last letter."""
    place = "".join(map(str, range(3000)))
    export = subject.begin(claim=f"{place}a").export
    with subject.storage.writing() as rows:
        rows.insert_export(replace(export, name="other", claim=f"{place}b"))
    with pytest.raises(LedgerError, match="one_claim"), subject.storage.writing() as rows:
        rows.insert_export(replace(export, name="third"))


MANY: Final = """
INSERT INTO audit_exporter.windows (export, "end", seal, committed_at)
SELECT 'export ' || n % 500, '2025-01-01T00:00:00.000000Z', '{}',
  to_char(timestamp '2025-01-01' + n * interval '1 minute', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
FROM generate_series(1, 20000) AS n;
INSERT INTO audit_exporter.attempts (id, plan, store, started_at, content, outcome, error)
SELECT n::text, (n % 5000 + 1000)::text, '', '', '', '', '' FROM generate_series(1, 20000) AS n;
ANALYZE audit_exporter.windows, audit_exporter.attempts
"""


def test_what_grows_without_end_is_never_scanned(server: Postgres, database: str, subject: Subject) -> None:
    """Also where an index's order would invite to walk all of it until something fits."""
    execute(server, database, MANY)
    with subject.storage.writing() as rows:
        connection = rows._connection  # type: ignore[attr-defined]
        with noted() as statements:
            rows.attempts("1")
            for moment in (BEGIN, at(-24 * 400), at(24 * 400)):
                rows.last_window_before("export 7", moment)
                rows.last_window_before("no such export", moment)
            rows.delete_windows("export 7", before=at(-24 * 400))
        assert len(statements) == 8
        for text, values in statements:
            ((plan,),) = connection.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {text}", values)
            (top,) = plan
            blocks = top["Plan"]["Shared Hit Blocks"] + top["Plan"]["Shared Read Blocks"]
            assert blocks < 100, (text, values, top)


def test_a_full_quarantine_is_one_journey_to_the_server(subject: Subject) -> None:
    """So that its transaction holds up the others for a tenth of a second, not for a thousand statements."""
    subject.begin()
    bad = [BAD] * QUARANTINE_RECORDS
    with noted() as statements:
        subject.ledger.plan(subject.export(), subject.draft(bad=QUARANTINE_RECORDS), bad)
    assert sum("INSERT INTO bad_records" in text for text, _ in statements) == 1


# --- transactions of several -------------------------------------------------------------------------


@pytest.fixture
def other(options: PostgresLedgerOptions, monkeypatch: pytest.MonkeyPatch) -> Iterator[PostgresStorage]:
    """Another process's storage, which does not wait for long."""
    monkeypatch.setattr(postgres, "LIMITS", {**postgres.LIMITS, "lock_timeout": "100ms"})
    with closing(PostgresStorage(options)) as other:
        yield other


@pytest.mark.parametrize(
    ("one", "another", "waits"),
    [
        ("acme", "acme", True),
        ("acme", "globex", False),
        ("acme", None, True),
        (None, "acme", True),
        (None, None, True),
    ],
)
def test_transactions_wait_for_those_that_they_could_disturb(
    storage: PostgresStorage, other: PostgresStorage, one: str | None, another: str | None, *, waits: bool
) -> None:
    """Those of one export for each other, those of the whole ledger for all; readers for nobody."""

    def enter() -> None:
        with other.writing(another) as rows:
            rows.ledger_id()

    with storage.writing(one):
        if waits:
            refused(LedgerError, enter, "lock timeout", "pg_stat_activity")
        else:
            enter()
        with other.reading() as rows:
            rows.exports()
    enter()


@pytest.mark.parametrize("export", [NAME, None])
def test_who_waited_for_a_transaction_sees_what_it_did(
    server: Postgres,
    database: str,
    options: PostgresLedgerOptions,
    storage: PostgresStorage,
    export: str | None,
) -> None:
    """A snapshot that is older than the lock would let two make the same next step."""
    Subject(storage).begin()
    seen: list[bool] = []

    def wait_and_look() -> None:
        with closing(PostgresStorage(options)) as other, other.writing(export) as rows:
            seen.extend(row.paused for row in rows.exports())

    thread = threading.Thread(target=wait_and_look)
    with storage.writing(NAME) as rows:
        thread.start()
        wait_until("the other waits", lambda: waiting(server, database) == 1)
        (row,) = rows.exports()
        rows.update_export(replace(row, paused=True))
    thread.join()
    assert seen == [True]


def waiting(server: Postgres, database: str) -> int:
    """How many transactions wait for an advisory lock."""
    question = (
        "SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database"
        f" WHERE datname = '{database}' AND locktype = 'advisory' AND NOT granted"
    )
    ((count,),) = execute(server, database, question)
    return int(count)


def test_a_reader_sees_one_moment_while_a_writer_writes(storage: PostgresStorage, subject: Subject) -> None:
    subject.begin()
    with storage.reading() as rows:
        assert rows.open_plans() == []
        plan = subject.plan()
        assert rows.open_plans() == []
    assert subject.standing().open_plan == plan


def test_a_reader_cannot_write(storage: PostgresStorage, subject: Subject) -> None:
    export = subject.begin().export
    with pytest.raises(LedgerError, match="read-only"), storage.reading() as rows:
        rows.update_export(export)


def test_a_process_takes_no_more_than_its_few_connections(
    server: Postgres, database: str, storage: PostgresStorage
) -> None:
    """However many threads it has: whoever finds none free waits for one."""
    Subject(storage).begin()
    start = threading.Barrier(30)
    errors: list[Exception] = []

    def read() -> None:
        start.wait()
        try:
            for _ in range(3):
                with storage.reading() as rows:
                    rows._connection.execute("SELECT pg_sleep(0.01)")
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not end in a thread
            errors.append(error)

    threads = [threading.Thread(target=read) for _ in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    question = (
        f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{database}' AND pid <> pg_backend_pid()"
    )
    assert errors == []
    assert execute(server, database, question) == [(CONNECTIONS,)]


def test_a_process_whose_connections_are_all_busy_says_so(
    storage: PostgresStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage._database.pool, "patience_s", 0.05)
    with ExitStack() as stack:
        for _ in range(CONNECTIONS):
            stack.enter_context(storage.reading())
        refused(
            LedgerError, lambda: storage.reading().__enter__(), "connections of this process are busy", "load"
        )


# --- connections that end ----------------------------------------------------------------------------


def end_connections(server: Postgres, database: str) -> None:
    """As an administrator, a pooler or a restart ends them."""
    others = f"FROM pg_stat_activity WHERE datname = '{database}' AND pid <> pg_backend_pid()"
    execute(server, database, f"SELECT pg_terminate_backend(pid) {others}")
    wait_until("they are gone", lambda: execute(server, database, f"SELECT count(*) {others}") == [(0,)])


def test_a_connection_that_died_in_the_pool_costs_nobody_an_error(
    server: Postgres, database: str, storage: PostgresStorage, subject: Subject
) -> None:
    """Not even when several did, nor one after the other."""
    subject.begin()
    with ExitStack() as stack:
        for _ in range(CONNECTIONS):
            stack.enter_context(storage.reading())
    for _ in range(2):
        end_connections(server, database)
        subject.deliver(subject.plan())
    end_connections(server, database)
    with storage.reading() as rows:
        assert rows.exports()[0].sequence == 2


def backend_of(storage: PostgresStorage) -> int:
    """Which of the server's processes serves a transaction."""
    with storage.reading() as rows:
        ((number,),) = rows._connection.execute("SELECT pg_backend_pid()")
    return int(number)


def fail_after(storage: PostgresStorage, act: Callable[[Any], object]) -> None:
    """A transaction that ends with an error after this was done on its connection."""
    with storage.writing() as rows:
        act(rows._connection)
        raise LedgerError("no", hint="")


@pytest.mark.parametrize("statement", ["SELECT 1", "SELECT 1/0"], ids=["of its own", "of the database"])
def test_an_error_in_a_transaction_costs_no_connection(storage: PostgresStorage, statement: str) -> None:
    """It is undone, and the same connection serves the next one."""
    before = backend_of(storage)
    for _ in range(2):
        with pytest.raises(LedgerError):
            fail_after(storage, lambda connection: connection.execute(statement))
        assert backend_of(storage) == before


def test_a_connection_with_a_statement_under_way_serves_nobody_else(storage: PostgresStorage) -> None:
    """As when a thread is interrupted: what it asked for would come as the answer to the next question."""
    before = backend_of(storage)
    with pytest.raises(LedgerError):
        fail_after(storage, lambda connection: connection.driver.pgconn.send_query(b"SELECT pg_sleep(0.1)"))
    assert backend_of(storage) != before


def test_a_connection_that_is_lost_in_a_transaction_is_an_error_and_changes_nothing(
    server: Postgres, database: str, storage: PostgresStorage, subject: Subject
) -> None:
    export = subject.begin().export

    def pause() -> None:
        with storage.writing(NAME) as rows:
            rows.update_export(replace(export, paused=True))
            end_connections(server, database)
            rows.open_plans(NAME)

    refused(LedgerError, pause, "terminating connection|closed the connection", "the next run goes on")
    assert subject.export() == export
    subject.deliver(subject.plan())


def test_who_stands_still_with_a_lock_in_hand_is_put_out(
    options: PostgresLedgerOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stopped process does not stop the others, and cannot write when it goes on."""
    with closing(PostgresStorage(options)) as stopped, closing(PostgresStorage(options)) as other:
        subject = Subject(other)
        export = subject.begin().export

        def stand_still() -> None:
            with ExitStack() as stack:
                with monkeypatch.context() as short:  # for this transaction alone
                    limit = {"idle_in_transaction_session_timeout": "300ms"}
                    short.setattr(postgres, "LIMITS", {**postgres.LIMITS, **limit})
                    rows = stack.enter_context(stopped.writing(NAME))
                rows.update_export(replace(export, paused=True))
                subject.requests.resume(NAME)  # waits until the lock is free
                rows.open_plans(NAME)

        refused(LedgerError, stand_still, "idle-in-transaction|closed the connection", "the next run goes on")
        assert not subject.export().paused


def test_an_order_of_limits_puts_the_one_who_stands_still_out_before_the_others_give_up() -> None:
    seconds = [int(value.removesuffix("s")) for value in postgres.LIMITS.values()]
    assert list(postgres.LIMITS) == [
        "idle_in_transaction_session_timeout",
        "lock_timeout",
        "statement_timeout",
    ]
    assert seconds == sorted(set(seconds))
    assert seconds[-1] <= 60


def test_a_statement_that_takes_too_long_is_an_error(
    options: PostgresLedgerOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "LIMITS", {**postgres.LIMITS, "statement_timeout": "100ms"})

    def sleep() -> None:
        with closing(PostgresStorage(options)) as storage, storage.reading() as rows:
            rows._connection.execute("SELECT pg_sleep(10)")

    refused(LedgerError, sleep, "statement timeout", "too slow")


def test_an_error_that_was_swallowed_does_not_pass_for_a_commit(
    storage: PostgresStorage, subject: Subject
) -> None:
    """PostgreSQL itself answers COMMIT with a rollback and no error."""
    subject.begin()

    def swallow() -> None:
        with storage.writing() as rows, suppress(psycopg.Error):
            rows._connection.execute("SELECT 1/0")

    refused(LedgerError, swallow, "failed without a word", "report")


def test_a_commit_that_its_standby_does_not_have_is_not_taken_for_one() -> None:
    """PostgreSQL answers a cancelled wait with success and a warning; a failover would undo the commit."""
    with postgres_server() as server:
        options = PostgresLedgerOptions(server.url(server.new_database()))
        create_postgres(options)
        with closing(PostgresStorage(options)) as storage:
            subject = Subject(storage)
            export = subject.begin().export
            execute(server, "postgres", "ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
            execute(server, "postgres", "SELECT pg_reload_conf()")
            thread = threading.Thread(target=cancel_waiting_commit, args=[server])
            thread.start()
            advance = partial(subject.ledger.advance, export, LIVE_LANE, at(4), seal(1))
            refused(LedgerError, advance, "canceling wait for synchronous replication", "standby")
            thread.join()


def cancel_waiting_commit(server: Postgres) -> None:
    """As an administrator does who wants a stuck server to go on."""
    cancel = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
    wait_until("a commit waits for its standby", lambda: execute(server, "postgres", cancel) == [(True,)])


def test_a_server_without_room_for_a_connection_is_asked_again_for_a_while(
    server: Postgres,
    database: str,
    options: PostgresLedgerOptions,
    role: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another process may end, or a connection of one's own become free."""
    del options
    execute(server, database, f"{RUNS.format(role=role)}; ALTER ROLE {role} CONNECTION LIMIT 1")
    limited = as_role(server, database, role)
    with closing(PostgresStorage(limited)) as storage:
        with monkeypatch.context() as patched:
            patched.setattr(postgres_connection, "CONNECTING_S", 0.3)
            refused(LedgerError, lambda: PostgresStorage(limited), "too many connections", "max_connections")
        read = threading.Event()

        def wait_and_read() -> None:
            with storage.reading() as rows:
                assert rows.exports() == []
            read.set()

        thread = threading.Thread(target=wait_and_read)
        with storage.reading():
            thread.start()
            assert not read.wait(0.2)
        assert read.wait(10)
        thread.join()


def test_a_standby_can_be_looked_at_and_not_written(server: Postgres, options: PostgresLedgerOptions) -> None:
    with closing(PostgresStorage(options)) as storage:
        Subject(storage).begin()
    with server.standby() as standby:
        url = options.url.replace(f":{server.port}/", f":{standby.port}/")
        standby.catch_up(server)
        with closing(PostgresStorage(PostgresLedgerOptions(url))) as storage:
            subject = Subject(storage)
            assert subject.export().name == NAME
            refused(LedgerError, lambda: subject.requests.pause(NAME), "read-only", "name the primary")


def test_a_commit_survives_the_end_of_its_server() -> None:
    """Also where the server's default is to answer first and write later."""
    with postgres_server(synchronous_commit="off", wal_writer_delay="10s") as server:
        options = PostgresLedgerOptions(server.url(server.new_database()))
        create_postgres(options)
        with closing(PostgresStorage(options)) as storage:
            subject = Subject(storage)
            subject.begin()
            subject.ledger.advance(subject.export(), LIVE_LANE, at(4), seal(1))
            server.restart("immediate")
            assert subject.standing().live.watermark == at(4)


def test_only_a_warning_makes_a_commit_doubtful(
    server: Postgres, database: str, storage: PostgresStorage
) -> None:
    """A server that goes down says so behind a commit that happened: what it only notes is no doubt."""
    told = """
        CREATE OR REPLACE FUNCTION audit_exporter.told() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE {} 'said at the end'; RETURN NULL; END $$;
    """
    execute(server, database, told.format("NOTICE"))
    execute(
        server,
        database,
        "CREATE CONSTRAINT TRIGGER told AFTER UPDATE ON audit_exporter.meta DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION audit_exporter.told()",
    )
    with storage.writing() as rows:
        rows.set_ledger_id("noted")
    with storage.reading() as rows:
        assert rows.ledger_id() == "noted"
    execute(server, database, told.format("WARNING"))
    with pytest.raises(LedgerError, match="said at the end"), storage.writing() as rows:
        rows.set_ledger_id("warned")
