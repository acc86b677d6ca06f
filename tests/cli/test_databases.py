"""The road with database servers at both ends, as an operator goes it: roles, passwords, TLS, a fail-over."""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from tests.kit.command_line import DAY, START, Vendor, rfc3339
from tests.kit.mariadb import mariadb_server, shared_mariadb
from tests.kit.postgres import postgres_server, shared_postgres

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.kit.postgres import Postgres

PASSWORD = "needle/ in: a @ haystack"
POSTGRES_TABLE = """
    CREATE TABLE audit_log (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, created_at timestamptz, account_id text NOT NULL,
        actor_email text, action text, summary text, export_xid xid8 NOT NULL DEFAULT pg_current_xact_id()
    )
"""
MARIADB_TABLE = """
    CREATE TABLE audit_log (
        id bigint AUTO_INCREMENT PRIMARY KEY, created_at datetime(6), account_id varchar(100) NOT NULL,
        actor_email varchar(100), action varchar(100), summary text
    )
"""
INSERT = "INSERT INTO audit_log (created_at, account_id, summary) VALUES (%s, %s, %s)"


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[tuple[Vendor, Postgres, str]]:
    """A vendor whose source and ledger are on PostgreSQL, with roles that may do no more than they must."""
    server = shared_postgres()
    database = server.new_database()
    reader, keeper = f"reader_{database}", f"keeper_{database}"
    with server.connect(database) as connection:
        connection.execute(POSTGRES_TABLE)
        for role in (reader, keeper):
            connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'")
        connection.execute(f"GRANT SELECT ON audit_log TO {reader}")
        connection.execute(f"GRANT CREATE ON DATABASE {database} TO {keeper}")
    (tmp_path / "password").write_text(PASSWORD + "\n")
    vendor = Vendor(tmp_path)
    vendor.settings["source"]["url"] = server.url(database, user=reader)
    vendor.settings["source"]["columns"]["commit"] = "export_xid"
    vendor.settings["ledger"]["url"] = server.url(database, user=keeper)
    for part in ("source", "ledger"):
        vendor.settings[part]["password"] = {"file": "password"}
    vendor.export("acme")
    yield vendor, server, database
    with server.connect(database) as connection:
        connection.execute(f"DROP OWNED BY {reader}, {keeper} CASCADE")
        connection.execute(f"DROP ROLE {reader}, {keeper}")


def insert(server: Postgres, database: str, *seconds: float, account: str = "acme") -> None:
    """One transaction with a record for each of these seconds of the first day."""
    with server.connect(database) as connection, connection.transaction():
        for one in seconds:
            moment = datetime.fromtimestamp(START.timestamp() + one, UTC)
            connection.execute(INSERT, (moment, account, f"at {one}"))


def next_second() -> datetime:
    """A whole second that begins now."""
    now = time.time()
    time.sleep(1 - now % 1)
    return datetime.fromtimestamp(round(now - now % 1) + 1, UTC)


def test_from_postgresql_by_postgresql_into_a_folder(postgres: tuple[Vendor, Postgres, str]) -> None:
    """A role that may select reads, one with a schema of its own keeps the ledger, each record comes once."""
    vendor, server, database = postgres
    insert(server, database, 1, 2.5)
    vendor.start()
    assert vendor("run").status == 0
    insert(server, database, 3)
    assert vendor("run").status == 0
    assert vendor.event_ids() == ["1", "2"]  # the third waits for the window of today
    first = vendor.records()[0]
    assert (first["Date"], first["Description"]) == (
        f"{rfc3339(START)[:19]}.000000Z".replace(":00.0", ":01.0"),
        "at 1",
    )
    assert vendor.row("acme")["state"] == "up to date"


def test_from_mariadb_into_a_folder(tmp_path: Path) -> None:
    """A user who may select and no more reads; each record comes once."""
    server = shared_mariadb()
    database = server.new_database()
    with server.connect(database) as connection, connection.cursor() as cursor:
        cursor.execute(MARIADB_TABLE)
        cursor.execute(INSERT, ("2026-01-01 00:00:00", "Acme", "another account"))
        for second in (1, 2):
            moment = datetime.fromtimestamp(START.timestamp() + second, UTC)
            cursor.execute(INSERT, (moment.replace(tzinfo=None), "acme", f"at {second}"))
        cursor.execute(f"CREATE USER reader_{database} IDENTIFIED BY %s", (PASSWORD,))
        cursor.execute(f"GRANT SELECT ON audit_log TO reader_{database}")
    vendor = Vendor(tmp_path)
    vendor.settings["source"]["url"] = server.url(database, user=f"reader_{database}", password=PASSWORD)
    vendor.export("acme")
    vendor.start()
    assert vendor("run").status == 0
    assert vendor("run").status == 0
    assert [record["Description"] for record in vendor.records()] == ["at 1", "at 2"]


def test_a_password_is_shown_nowhere(postgres: tuple[Vendor, Postgres, str]) -> None:
    """Neither a right password nor a wrong one comes up in what any command prints, logs or keeps."""
    vendor, server, database = postgres
    insert(server, database, 1)
    said = [
        vendor("ledger", "create"),
        vendor("run"),
        vendor("status"),
        vendor("check"),
        vendor("source", "prepare"),
    ]
    vendor.settings["source"]["password"] = f"wrong {PASSWORD}"
    said += [vendor("run"), vendor("check"), vendor("source", "prepare", "--apply")]
    del vendor.settings["source"]["password"]
    vendor.settings["source"]["url"] = f"postgresql://reader:{PASSWORD}@127.0.0.1:1/{database}"  # not encoded
    said += [vendor("run"), vendor("check")]
    vendor.settings["ledger"]["password"] = f"wrong {PASSWORD}"
    said += [vendor("run"), vendor("status"), vendor("ledger", "migrate")]
    assert [answer.status for answer in said] == [0, 0, 0, 0, 0, 20, 20, 20, 2, 2, 2, 2, 20]
    assert not [answer for answer in said if "needle" in answer.out + answer.err]
    with server.connect(database) as connection:
        for table in ("exports", "lanes", "plans", "attempts", "runs", "meta"):
            rows = connection.execute(f"SELECT t::text FROM audit_exporter.{table} t").fetchall()
            assert not [row for (row,) in rows if "needle" in row]


def test_a_password_is_not_among_the_words_of_the_process(postgres: tuple[Vendor, Postgres, str]) -> None:
    """Whoever lists processes sees the command and its configuration file."""
    vendor, server, database = postgres
    insert(server, database, 1)
    vendor.start()
    with server.connect(database) as blocker:
        blocker.execute("BEGIN")
        blocker.execute("LOCK TABLE audit_log IN ACCESS EXCLUSIVE MODE")
        with vendor.spawn("run") as process:
            if sys.platform == "linux":
                with open(f"/proc/{process.pid}/cmdline", "rb") as words:  # noqa: PTH123 - no file of ours
                    assert b"needle" not in words.read()
            blocker.execute("ROLLBACK")
            process.communicate(timeout=60)
        assert process.returncode == 0


def test_a_wrong_password_says_what_to_do(postgres: tuple[Vendor, Postgres, str]) -> None:
    """The source's and the ledger's errors name who was refused, and where the password comes from."""
    vendor, _, database = postgres
    vendor.start()
    vendor.settings["source"]["password"] = "wrong"
    answer = vendor("run")
    assert answer.status == 20
    assert f"reader_{database}" in answer.err
    assert "password" in answer.err


def test_prepare_makes_a_table_ready_and_check_says_so(tmp_path: Path) -> None:
    """Legacy table, printed SQL, applied by an administrator, named in the configuration, found in force."""
    server = shared_postgres()
    database = server.new_database()
    with server.connect(database) as connection:
        connection.execute(
            POSTGRES_TABLE.replace(", export_xid xid8 NOT NULL DEFAULT pg_current_xact_id()", "")
        )
        connection.execute(f"CREATE ROLE poor_{database} LOGIN PASSWORD 'poor'")
        connection.execute(f"GRANT SELECT ON audit_log TO poor_{database}")
    insert(server, database, 1)
    vendor = Vendor(tmp_path)
    vendor.settings["source"] |= {"url": server.url(database, f"poor_{database}", "poor")}
    vendor.export("acme")
    vendor.start()
    refused = vendor("run")
    assert refused.status == 20
    assert "source.append_only" in refused.err
    assert "ADD COLUMN" in vendor("source", "prepare").out
    denied = vendor("source", "prepare", "--apply")
    assert denied.status == 20
    assert "source.admin_url" in denied.err
    vendor.settings["source"]["admin_url"] = server.url(database)
    assert vendor("source", "prepare", "--apply").status == 0
    vendor.settings["source"]["columns"]["commit"] = "export_xid"
    assert "has all that audit-exporter needs" in vendor("source", "prepare").out
    findings = json.loads(vendor("check", "--json").out)
    said = {one["subject"]: one for one in findings}
    assert "xid8" in said["strategy"]["message"]
    assert {one["level"] for one in findings if one["subject"] in ("strategy", "index", "horizon")} == {"ok"}
    assert vendor("run").status == 0
    assert vendor.event_ids() == ["1"]


@pytest.mark.slow
def test_tls_with_a_private_authority(tmp_path: Path) -> None:
    """Source and ledger are reached when their certificate is of the named authority, and not otherwise."""
    with postgres_server(tls=True) as server, mariadb_server(tls=True) as mariadb:
        database, other = server.new_database(), mariadb.new_database()
        with server.connect(database) as connection:
            connection.execute(POSTGRES_TABLE)
        with mariadb.connect(other) as maria, maria.cursor() as cursor:
            cursor.execute(MARIADB_TABLE)
        vendor = Vendor(tmp_path)
        vendor.export("acme")
        vendor.settings["ledger"] = {
            "url": server.url(database),
            "tls": {"mode": "verify-full", "ca_file": str(server.certificate)},
        }
        vendor.start()
        for url, right, wrong, columns in (
            (server.url(database), server.certificate, mariadb.certificate, {"commit": "export_xid"}),
            (mariadb.url(other), mariadb.certificate, server.certificate, {}),
        ):
            tls = {"mode": "verify-full", "ca_file": str(right)}
            vendor.settings["source"] |= {"url": url, "tls": tls}
            whole = vendor.settings["source"]["columns"]
            whole.pop("commit", None)
            whole |= columns
            checked = vendor("check")
            assert "encrypted" in checked.out, checked.out
            assert "not encrypted" not in checked.out
            tls["ca_file"] = str(wrong)
            refused = vendor("check")
            assert refused.status == 20
            assert "source.tls" in refused.out
        vendor.settings["ledger"]["tls"]["ca_file"] = str(mariadb.certificate)
        refused = vendor("status")
        assert refused.status == 20
        assert "certificate" in refused.err


@pytest.mark.slow
def test_a_fail_over_stops_the_source_and_is_accepted(tmp_path: Path) -> None:
    """Ids and transaction numbers come again on the promoted standby; nothing that it holds is lost."""
    with postgres_server() as primary:
        database = primary.new_database()
        with primary.connect(database) as connection:
            connection.execute(POSTGRES_TABLE)
        vendor = Vendor(tmp_path)
        vendor.settings["source"]["url"] = primary.url(database)
        vendor.settings["source"]["columns"]["commit"] = "export_xid"
        vendor.settings["defaults"] |= {"every": "1h"}
        vendor.export("acme")
        insert(primary, database, 1, 2)
        vendor.start()
        assert vendor("run", "--as-of", rfc3339(START + DAY / 24)).status == 0
        with primary.standby() as standby:
            standby.catch_up(primary)
            standby.isolate()
            moment = next_second()
            for second in range(3600, 3612):
                insert(primary, database, second)
            assert vendor("run", "--as-of", rfc3339(START + DAY / 12)).status == 0
            assert len(vendor.records()) == 14
            primary.stop("immediate")
            standby.promote()
            for second in range(3700, 3712):
                insert(standby, database, second)
            vendor.settings["source"]["url"] = standby.url(database)
            stopped = vendor("run")
            assert stopped.status == 20
            assert "timeline" in stopped.out + stopped.err
            assert "ledger accept-source --from TIME" in stopped.out + stopped.err
            assert len(vendor.records()) == 14
            accepted = vendor("ledger", "accept-source", "--from", rfc3339(moment))
            assert accepted.status == 0
            assert "by time alone" not in accepted.out
            assert vendor("run").status == 0
            with standby.connect(database) as connection:
                held = connection.execute("SELECT summary FROM audit_log").fetchall()
            assert {text for (text,) in held} <= {record["Description"] for record in vendor.records()}
            assert len(vendor.records()) == 14 + 12
