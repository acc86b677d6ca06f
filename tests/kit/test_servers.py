"""The kit itself: the database servers of tests are real, separate, strict about passwords, and go away."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pymysql
import pytest

import tests
import tests.kit.postgres
from tests.kit.mariadb import MariaDb, mariadb_server, require_mariadb, shared_mariadb
from tests.kit.postgres import Postgres, postgres_binaries, postgres_server, shared_postgres, version_of
from tests.kit.processes import HOST, reachable_by_all, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

SHARED = pytest.mark.parametrize("shared", [shared_postgres, shared_mariadb], ids=["postgres", "mariadb"])
HOW_TO_ADD_MARIADB = (
    "MariaDB is not installed: apt-get install mariadb-server (Debian, Ubuntu) or brew install mariadb"
)
ABANDONED = """
from tests.kit.mariadb import mariadb_server
from tests.kit.postgres import postgres_server
with postgres_server() as postgres, mariadb_server() as mariadb:
    print(postgres.data.parent.parent, postgres.port, mariadb.port, flush=True)
    input()
"""


def ask(server: Postgres | MariaDb, statement: str, database: str = "", **how: Any) -> Any:  # noqa: ANN401 - any value
    """The first value of the answer, if there is one."""
    with (
        server.connect(**({"database": database} if database else {}), **how) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute(statement)
        row = cursor.fetchone() if cursor.description else None
        return row and row[0]


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


@SHARED
def test_a_new_database_is_empty(shared: Callable[[], Postgres | MariaDb]) -> None:
    """What one test writes, no other finds."""
    server = shared()
    ask(server, "CREATE TABLE mine (id integer)", server.new_database())
    with pytest.raises((psycopg.Error, pymysql.Error), match=r"(?i)mine.*n.t exist"):
        ask(server, "SELECT count(*) FROM mine", server.new_database())


def test_postgres_asks_for_a_password() -> None:
    """A role gets in with its password alone, so a test with a wrong one means something."""
    server = shared_postgres()
    ask(server, "CREATE ROLE clerk LOGIN PASSWORD 'right @/'")
    with psycopg.connect(server.url("postgres", "clerk", "right @/")) as connection:
        assert connection.info.user == "clerk"
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(server.url("postgres", "clerk", "wrong"))
    with pytest.raises(psycopg.OperationalError, match="no password supplied"):
        psycopg.connect(server.url("postgres", "clerk"))


@pytest.mark.parametrize("host", ["%", "localhost", "127.0.0.1"])
def test_mariadb_asks_for_a_password(host: str) -> None:
    """A user gets in with its password alone, from wherever it was let in."""
    server = shared_mariadb()
    user = f"clerk of {host}"
    ask(server, f"CREATE USER '{user}'@'{host}' IDENTIFIED BY 'right'")
    asked = {"user": user, "database": "information_schema"}
    assert ask(server, "SELECT CURRENT_USER()", password="right", **asked) == f"{user}@{host}"
    for password in ("wrong", ""):
        with pytest.raises(pymysql.err.OperationalError, match="Access denied"):
            ask(server, "SELECT 1", password=password, **asked)
    with pytest.raises(pymysql.err.OperationalError, match="Access denied"):
        ask(server, "SELECT 1", user="nobody knows them", database="information_schema")


@pytest.mark.parametrize("start", [postgres_server, mariadb_server], ids=["postgres", "mariadb"])
def test_a_restarted_server_is_where_it_was(start: Callable[[], Any]) -> None:
    """After a clean end and after a crash it has its port and what was committed."""
    with start() as server:
        database = server.new_database()
        ask(server, "CREATE TABLE kept (id integer)", database)
        for number, mode in enumerate(("fast", "immediate")):
            ask(server, "INSERT INTO kept VALUES (1)", database)
            server.stop(mode)
            assert not listens(server.port)
            server.start()
            assert ask(server, "SELECT count(*) FROM kept", database) == number + 1


def test_two_servers_are_two_clusters() -> None:
    """A source that has been exchanged for another can be told by its system identifier."""
    identifier = "SELECT system_identifier FROM pg_control_system()"
    with postgres_server() as other:
        assert ask(other, identifier) != ask(shared_postgres(), identifier)


def test_settings_of_a_postgres_of_ones_own() -> None:
    """What is asked for is in force, and can be changed while it runs."""
    with postgres_server(max_connections="41", log_line_prefix=r"it's \ ") as server:
        assert ask(server, "SHOW max_connections") == "41"
        assert ask(server, "SHOW log_line_prefix") == r"it's \ "
        ask(server, "ALTER SYSTEM SET log_line_prefix = 'changed'")
        ask(server, "SELECT pg_reload_conf()")
        wait_until("reloaded", lambda: ask(server, "SHOW log_line_prefix") == "changed")


def test_settings_of_a_mariadb_of_ones_own() -> None:
    """What is asked for is in force."""
    with mariadb_server(max_connections="41") as server:
        assert ask(server, "SELECT @@max_connections") == 41


@pytest.mark.parametrize("binaries", postgres_binaries(), ids=version_of)
def test_every_installed_version_of_postgres_starts(binaries: Path) -> None:
    """A version is asked for by its number."""
    version = version_of(binaries)
    with postgres_server(version) as server:
        assert server.version == version
        assert ask(server, "SHOW server_version").startswith(version)


def test_a_version_that_is_not_there_is_named() -> None:
    """The reason for leaving a test out says what is missing and how to add it."""
    with pytest.raises(
        pytest.skip.Exception, match=r"PostgreSQL 7 is not installed: apt-get install postgresql"
    ):
        postgres_server("7").__enter__()


def test_without_mariadb_the_reason_says_how_to_add_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A newcomer's machine gets one line."""
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(pytest.skip.Exception, match=f"^{re.escape(HOW_TO_ADD_MARIADB)}$"):
        mariadb_server().__enter__()


def test_a_server_that_cannot_start_says_why() -> None:
    """The end of its log is in the error, not a time-out."""
    with pytest.raises(RuntimeError, match="shared_buffers"), postgres_server(shared_buffers="nonsense"):
        raise AssertionError("it started")


def test_postgres_with_tls() -> None:
    """A client that verifies the certificate and the host's name gets in, one that trusts others does not."""
    with postgres_server(tls=True) as server:
        for host in ("127.0.0.1", "localhost"):
            trusting = {"host": host, "sslmode": "verify-full", "sslrootcert": f"{server.certificate}"}
            assert ask(server, "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()", **trusting)
        with pytest.raises(psycopg.OperationalError, match="certificate"):
            server.connect(sslmode="verify-full", sslrootcert="system")


def test_mariadb_with_tls() -> None:
    """A client that verifies the certificate and the host's name gets in, one that trusts others does not."""
    cipher = "SELECT variable_value FROM information_schema.session_status WHERE variable_name = 'Ssl_cipher'"
    with mariadb_server(tls=True) as server:
        assert ask(server, cipher, ssl_ca=f"{server.certificate}", ssl_verify_identity=True)
        with pytest.raises(pymysql.err.OperationalError, match="certificate"):
            server.connect(ssl={}, ssl_verify_cert=True)


def test_a_standby_follows_until_it_is_cut_off() -> None:
    """An isolated standby stays where it is; promoted, it hands out the same transaction ids again."""
    primary = shared_postgres()
    database = primary.new_database()
    ask(primary, "CREATE TABLE followed (xid xid8 DEFAULT pg_current_xact_id())", database)
    with primary.standby() as standby:
        ask(primary, "INSERT INTO followed DEFAULT VALUES", database)
        standby.catch_up(primary)
        assert ask(standby, "SELECT count(*) FROM followed", database) == 1
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            ask(standby, "DELETE FROM followed", database)
        standby.isolate()
        insert = "INSERT INTO followed DEFAULT VALUES RETURNING xid"
        lost = ask(primary, insert, database)
        assert ask(standby, "SELECT count(*) FROM followed", database) == 1
        standby.promote()
        assert ask(standby, insert, database) <= lost


def test_a_standby_restarts_as_one() -> None:
    """It catches up with what was written while it was down."""
    primary = shared_postgres()
    with primary.standby() as standby:
        standby.stop()
        database = primary.new_database()
        standby.start()
        standby.catch_up(primary)
        assert ask(standby, "SELECT pg_is_in_recovery()", database)


def test_servers_end_with_the_tests_that_were_killed() -> None:
    """A killed process leaves neither a server nor a folder behind."""
    require_mariadb()  # the process that is killed could not say so
    root = Path(tests.__file__).parents[1]
    with subprocess.Popen(
        [sys.executable, "-c", ABANDONED], cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        folder, *ports = process.stdout.readline().split()
        assert all(listens(int(port)) for port in ports)
        process.kill()
    wait_until("all has ended", lambda: not any(listens(int(port)) for port in ports), 20)
    wait_until("all is removed", lambda: not Path(folder).exists(), 20)


def test_programs_that_the_servers_user_cannot_reach_are_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server runs from a copy of the wheel as from the wheel, which may lie in root's own home."""
    copy = tests.kit.postgres._copied(postgres_binaries()[0])
    assert reachable_by_all(copy)
    monkeypatch.setattr(tests.kit.postgres, "_choose", lambda _version, *, tls: None if tls else copy)
    with postgres_server() as server:
        assert ask(server, "SELECT setting FROM pg_config() WHERE name = 'BINDIR'") == f"{copy}"
