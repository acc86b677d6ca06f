"""`check` and `source prepare` for MariaDB: what they say, that it can be run, and what comes of it."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, cast

import pytest

from exporter.errors import SourceBusy, SourceError
from exporter.model import Finding, Level, Range, Window
from exporter.sources.mysql import MysqlOptions, MysqlSource
from exporter.sources.mysql import check as mysql_check
from exporter.sources.mysql import prepare as mysql_prepare
from exporter.sources.mysql.privileges import rights
from exporter.sources.mysql.relation import Table as HomeTable
from tests.kit.mariadb import mariadb_server, shared_mariadb
from tests.kit.mysql_tables import (
    COLUMNS,
    NOON,
    ROLES,
    Table,
    Windows,
    database,
    ids,
    options,
    read,
    table,
    until,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from exporter.model import Statement
    from exporter.sources.mysql.connection import Session

BY_TIME: Final = "no index leads from an account to a window of time"
BY_POSITION: Final = "no index leads from an account to its newest records"


@pytest.fixture
def audit() -> Iterator[Table]:
    with table() as made:
        yield made


@pytest.fixture
def bare() -> Iterator[Table]:
    """A table as a vendor has it, with nothing but its primary key."""
    with table(more="") as made:
        yield made


def said(found: Sequence[Finding], subject: str) -> list[tuple[Level, str]]:
    return [(one.level, one.message) for one in found if one.subject == subject]


def levels(found: Sequence[Finding], subject: str) -> list[Level]:
    return [level for level, _ in said(found, subject)]


# --- check ------------------------------------------------------------------------------------------------


def test_a_good_source_is_said_to_be_good(audit: Table) -> None:
    """With PROCESS, indexes and a user who may only select, nothing but the transport is to be mended."""
    audit.insert(time=datetime.now(UTC) - timedelta(minutes=1))
    found = audit.source().check(["acme"])
    wrong = {one.subject for one in found if one.level is not Level.OK}
    assert wrong <= {"connection", "server"}  # the tests' server has neither TLS nor a safe disk
    (strategy, process) = said(found, "positions")
    assert "AUTO_INCREMENT column id" in strategy[1]
    assert "PROCESS shows when statements have ended" in process[1]
    assert len(said(found, "index")) == 2
    assert said(found, "privileges") == [(Level.OK, "the user 'watcher'@'%' may not change the table")]


def test_without_process_the_promise_about_statements_is_named(audit: Table) -> None:
    """What nobody can see the operator has to promise; and how to see it is said."""
    found = audit.source("reader", longest_statement_s=90).check([])
    (finding,) = [one for one in found if one.subject == "positions" and one.level is Level.WARNING]
    assert "no statement that inserts may take longer than 90 s" in finding.message
    assert finding.hint == "GRANT PROCESS ON *.* TO 'reader'@'%'"


def test_more_gaps_than_a_seal_has_room_for_are_said(audit: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many rolled back ids make records late where nobody sees that statements have ended."""
    monkeypatch.setattr(mysql_check, "MOST_GAPS", 3)
    audit.application.execute("SET SESSION auto_increment_increment = 3")
    audit.insert(*["acme"] * 6)
    messages = [message for _, message in said(audit.source("reader").check([]), "positions")]
    assert any("5 gaps" in message and "late" in message for message in messages)
    assert not any("gaps, and" in message for _, message in said(audit.source().check([]), "positions"))


def test_missing_indexes_are_said_as_sql_that_can_be_run(bare: Table) -> None:
    """Each has the statement that makes it; an index on the account alone ends with the primary key."""
    bare.insert()
    found = [one for one in bare.source().check(["acme"]) if one.subject == "index"]
    assert [one.message for one in found] == [BY_TIME, BY_POSITION]
    for one in found:
        bare.application.execute(one.hint)
    assert set(levels(bare.source().check(["acme"]), "index")) == {Level.OK}
    bare.application.execute(f"DROP INDEX audit_exporter_by_position ON {bare.name}")
    bare.application.execute(f"CREATE INDEX by_account ON {bare.name} (account)")
    assert set(levels(bare.source().check(["acme"]), "index")) == {Level.OK}


@pytest.mark.parametrize("origin", ["view", "query"])
def test_a_view_or_a_query_without_an_index_is_found_by_its_plan(bare: Table, origin: str) -> None:
    """What would read the whole table at every window is said, once the table is large."""
    bare.application.execute(
        f"INSERT INTO {bare.name} (time, account) SELECT '2026-11-19' + INTERVAL seq SECOND, 'acme'"
        " FROM seq_1_to_20000"
    )
    bare.application.execute(f"ANALYZE TABLE {bare.name}")
    given: dict[str, Any] = {"query": f"SELECT * FROM {bare.name}"}
    if origin == "view":
        bare.application.execute(f"CREATE VIEW seen_{bare.name} AS SELECT * FROM {bare.name}")
        bare.application.execute(f"GRANT SELECT, SHOW VIEW ON seen_{bare.name} TO watcher@'%'")
        given = {"table": f"seen_{bare.name}"}
    found = [one for one in bare.source(**given).check(["acme"]) if one.subject == "index"]
    assert any(one.level is Level.WARNING and "records on time" in one.message for one in found)
    for one in mysql_prepare.statements(options(), bare.name, ROLES):
        bare.application.execute(one.sql)
    bare.application.execute(f"ANALYZE TABLE {bare.name}")
    assert set(levels(bare.source(**given).check(["acme"]), "index")) == {Level.OK}


def test_odd_records_and_unknown_accounts_are_said(audit: Table) -> None:
    """Unreadable and future times, and accounts without any record."""
    audit.application.execute("SET SESSION sql_mode = ''")
    audit.insert("acme", time=None)
    audit.insert("acme", time="2026-11-00")
    audit.insert("acme")
    audit.insert("acme", "acme", time=datetime.now(UTC) + timedelta(days=2))
    found = audit.source().check(["acme", "acne"])
    assert (Level.WARNING, "2 of the newest 5 records have an unreadable time") in said(found, "times")
    assert (Level.WARNING, "2 records are dated in the future") in said(found, "times")
    assert said(found, "accounts") == [(Level.WARNING, "no record yet of 'acne'")]
    audit.application.execute(f"UPDATE {audit.name} SET time = NULL")
    assert Level.ERROR in levels(audit.source().check([]), "times")


def test_repeated_ids_are_said(audit: Table) -> None:
    """A column that is no id would double or drop records at the cuts of parts."""
    audit.application.execute(f"ALTER TABLE {audit.name} ADD COLUMN kind int DEFAULT 1")
    audit.insert("acme", "acme")
    source = audit.source(roles=type(ROLES)("kind", "time", "account"), commit="id")
    assert said(source.check([]), "ids") == [(Level.ERROR, "several records have one id")]


def test_rights_beyond_reading_are_said(audit: Table) -> None:
    """Whoever may change the table is one to be replaced."""
    root = MysqlOptions(shared_mariadb().url(database()))
    with closing(MysqlSource(root, roles=ROLES, table=audit.name)) as source:
        ((level, message),) = said(source.check([]), "privileges")
    assert level is Level.WARNING
    assert "ALL PRIVILEGES" in message


def test_a_check_does_not_stop_at_what_fails(audit: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look that takes too long is said, and the others go on."""
    audit.insert()
    monkeypatch.setattr(mysql_check, "TIMEOUT_S", 0.2)
    query = f"SELECT * FROM {audit.name} WHERE SLEEP(2) = 0"
    found = audit.source(query=query).check(["acme"])
    assert any("could not be looked at within" in one.message for one in found)
    assert said(found, "privileges")


def test_a_replica_is_refused_however_it_is_set_up() -> None:
    """Of a replica nobody can say what is still to come: it is neither sealed nor read."""
    with mariadb_server() as server, server.connect() as root, root.cursor() as cursor:
        cursor.execute("CREATE DATABASE audit")
        cursor.execute(f"CREATE TABLE audit.t ({COLUMNS})")
        with closing(MysqlSource(MysqlOptions(server.url("audit")), roles=ROLES, table="t")) as source:
            one = Range("acme", Window(NOON, NOON + timedelta(days=1)), source.seal())
            cursor.execute("SET GLOBAL read_only = 1")
            for attempt in (source.seal, lambda: read(source, one), lambda: source.holds(one.seal)):
                with pytest.raises(SourceError, match="is a replica") as raised:
                    attempt()
                assert "primary" in raised.value.hint
            assert Level.ERROR in levels(source.check([]), "server")
            cursor.execute("SET GLOBAL read_only = 0")
            assert read(source, one) == []


@pytest.mark.slow
def test_a_replica_that_could_be_written_is_refused_too() -> None:
    """MariaDB lets everybody write to a replica by default: what replicates is one all the same."""
    with mariadb_server(log_bin="bin", server_id="1") as primary, mariadb_server(server_id="2") as replica:
        with primary.connect() as root, root.cursor() as cursor:
            cursor.execute("CREATE USER copier@'%' IDENTIFIED BY 'secret'")
            cursor.execute("GRANT REPLICATION SLAVE ON *.* TO copier@'%'")
            cursor.execute("CREATE DATABASE audit")
            cursor.execute(f"CREATE TABLE audit.t ({COLUMNS})")
        with replica.connect() as root, root.cursor() as cursor:
            cursor.execute(
                f"CHANGE MASTER TO MASTER_HOST = '{primary.host}', MASTER_PORT = {primary.port},"
                " MASTER_USER = 'copier', MASTER_PASSWORD = 'secret', MASTER_USE_GTID = slave_pos"
            )
            cursor.execute("START SLAVE")
            until(lambda: cursor.execute("SHOW DATABASES LIKE 'audit'"))
            until(lambda: cursor.execute("SHOW TABLES FROM audit LIKE 't'"))
            source = MysqlSource(MysqlOptions(replica.url("audit")), roles=ROLES, table="t")
            with closing(source), pytest.raises(SourceError, match="is a replica"):
                source.seal()


# --- prepare ----------------------------------------------------------------------------------------------


def statements(audit: Table, user: str | None = "watcher", **how: Any) -> Sequence[Statement]:  # noqa: ANN401
    """What is missing, as a user sees it; as root without one."""
    given = options(user) if user else MysqlOptions(shared_mariadb().url(database()))
    return mysql_prepare.statements(given, how.pop("table", audit.name), ROLES, **how)


def test_a_bare_table_is_prepared_and_then_nothing_is_missing(bare: Table) -> None:
    """The indexes are built while the application writes; a second look asks for nothing."""
    found = statements(bare)
    assert [one.reason for one in found] == [BY_TIME, BY_POSITION]
    root = MysqlOptions(shared_mariadb().url(database()))
    for one in found:
        assert "ALGORITHM=INPLACE, LOCK=NONE" in one.sql
        mysql_prepare.apply(root, one)
    assert statements(bare) == []
    bare.insert()
    assert ids(Windows(bare.source()).next()) == [1]


def test_a_position_of_its_own_gets_its_index() -> None:
    """The second index is on the configured position."""
    columns = (
        "id varchar(36) PRIMARY KEY, seq bigint AUTO_INCREMENT UNIQUE, time datetime(6), account varchar(50)"
    )
    with table(columns, more="") as audit:
        found = statements(audit, commit="seq")
        assert "(`account`, `seq`)" in found[1].sql
        for one in found:
            audit.application.execute(one.sql)
        assert statements(audit, commit="seq") == []


def test_a_user_that_may_only_read_is_made_and_locked(audit: Table) -> None:
    """An administrator who looks is given a user to create, without a password that anybody could use."""
    root = MysqlOptions(shared_mariadb().url(database()))
    created, select, process = statements(audit, None)
    assert created.sql.endswith("ACCOUNT LOCK")
    assert "IDENTIFIED BY" in created.reason
    try:
        for one in (created, select, process):
            mysql_prepare.apply(root, one)
        assert statements(audit, None) == []
        open_ = shared_mariadb().url(database(), "audit_exporter")
        with closing(MysqlSource(MysqlOptions(open_), roles=ROLES, table=audit.name)) as source:
            with pytest.raises(SourceError, match="locked"):
                source.seal()
            audit.application.execute("ALTER USER audit_exporter@'%' IDENTIFIED BY 'a-secret' ACCOUNT UNLOCK")
        given = MysqlOptions(open_, password="a-secret")
        with closing(MysqlSource(given, roles=ROLES, table=audit.name)) as source:
            assert levels(source.check([]), "privileges") == [Level.OK]
    finally:
        audit.application.execute("DROP USER audit_exporter@'%'")


def test_a_reader_without_process_is_told_what_it_would_be_good_for(audit: Table) -> None:
    """PROCESS is offered, with its reason."""
    (one,) = statements(audit, "reader")
    assert one.sql == "GRANT PROCESS ON *.* TO 'reader'@'%'"
    assert "rolled back" in one.reason


@pytest.mark.parametrize("what", ["a query", "a view"])
def test_what_is_no_table_is_prepared_by_hand(audit: Table, what: str) -> None:
    """The hint says what the table behind needs."""
    audit.application.execute(f"CREATE VIEW seen_{audit.name} AS SELECT * FROM {audit.name}")
    name = None if what == "a query" else f"seen_{audit.name}"
    with pytest.raises(SourceError, match=f"from {what}") as raised:
        statements(audit, table=name)
    assert "(account, time, id)" in raised.value.hint


def test_who_may_not_change_the_table_is_told_so(bare: Table) -> None:
    """The reader's own rights are too small, as they should be; the hint names the setting."""
    (by_time, _) = statements(bare)
    with pytest.raises(SourceError, match="may not do this") as raised:
        mysql_prepare.apply(options(), by_time)
    assert "source.admin_url" in raised.value.hint


def test_a_table_in_use_is_busy(bare: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    """A transaction that uses the table holds a change up; it is given up before others stand still."""
    monkeypatch.setattr(mysql_prepare, "_LOCK_WAIT_S", 1)
    (by_time, _) = statements(bare)
    writer = bare.connect()
    writer.connection.begin()
    bare.insert(by=writer)
    with pytest.raises(SourceBusy, match="in use"):
        mysql_prepare.apply(MysqlOptions(shared_mariadb().url(database())), by_time)


def test_what_the_server_refuses_is_said_in_its_words(bare: Table) -> None:
    """A statement that fails for a reason nobody foresaw shows the server's own."""
    from exporter.model import Statement

    one = Statement("", f"ALTER TABLE {bare.name} ADD INDEX i (nothing)")
    with pytest.raises(SourceError, match="nothing"):
        mysql_prepare.apply(MysqlOptions(shared_mariadb().url(database())), one)


@pytest.mark.parametrize(
    ("schema", "name", "level"),
    [
        ("my app", "log", "`my app`.*"),
        ("my app", "a.b", "`my app`.`a.b`"),
        ("app", "a`b", "`app`.`a``b`"),
        ("TX7", "log", "`T_7`.*"),
        ("t_7", "log", "`t\\_7`.*"),
        ("anything", "log", "*.*"),
        ("app", "log", "`a%`.*"),
    ],
)
def test_a_right_is_found_whatever_the_names(schema: str, name: str, level: str) -> None:
    """Names in backticks, with dots and spaces, and the patterns that GRANT takes databases for."""
    session = Granted([f"GRANT SELECT, INSERT (a, b), DELETE ON {level} TO `app`@`%`"])
    found = rights(cast("Session", session), HomeTable(schema, name, "BASE TABLE", "InnoDB"))
    assert found.too_much == ("INSERT", "DELETE")


@pytest.mark.parametrize("level", ["`t\\_7`.*", "`other`.*", "`TX7`.`other`", "`T_7`.`log`"])
def test_a_right_on_something_else_does_not_count(level: str) -> None:
    """Of a single table the database is no pattern."""
    session = Granted([f"GRANT ALL PRIVILEGES ON {level} TO `app`@`%`"])
    assert rights(cast("Session", session), HomeTable("TX7", "log", "BASE TABLE", "InnoDB")).too_much == ()


def test_a_users_name_is_quoted() -> None:
    """What `prepare` prints can be run, whatever the user is called."""
    found = rights(cast("Session", Granted([], "o'br@in@%")), HomeTable("app", "log", "BASE TABLE", "InnoDB"))
    assert (found.user, found.grantee) == ("'o''br@in'@'%'", "'o'br@in'@'%'")


class Granted:
    """A session whose user has these grants."""

    def __init__(self, grants: list[str], user: str = "app@%") -> None:
        self._answers: dict[str, list[tuple[str, ...]]] = {}
        self._answers["SELECT CURRENT_USER()"] = [(user,)]
        self._answers["SHOW GRANTS"] = [(line,) for line in grants]

    def texts(self, statement: str) -> list[tuple[str, ...]]:
        return self._answers[statement]
