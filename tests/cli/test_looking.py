"""Commands that only look, and `init`: what they print, and that they change nothing."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import jsonschema  # type: ignore[import-untyped]
import yaml
from typer.testing import CliRunner

from exporter import schedule
from exporter.cli import app
from exporter.destinations.directory import DirectoryStore
from tests.kit.command_line import DAY, START, Vendor, name_of, rfc3339

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta
    from pathlib import Path
    from zoneinfo import ZoneInfo

    import pytest

    from exporter.model import Finding


# --- status ----------------------------------------------------------------------------------------


def test_status_shows_watermark_lag_and_last_delivery(vendor: Vendor) -> None:
    vendor("run", "--as-of", rfc3339(START + DAY))
    heading, row = vendor("status").out.splitlines()
    assert heading.split("  ")[0] == "Export"
    assert row.split()[:4] == ["acme", "due", f"{START + DAY:%Y-%m-%d}", f"{START + DAY:%H:%MZ}"]
    found = vendor.row("acme")
    assert found["watermark"] == (START + DAY).isoformat()
    assert 0 <= found["lag_s"] <= DAY.total_seconds()
    assert found["last_object"] == name_of("acme", START + DAY)
    assert (found["sequence"], found["open_plan"], found["error"]) == (1, "", "")


def test_status_shows_the_open_plan_the_last_error_and_what_to_do(vendor: Vendor) -> None:
    vendor.out.mkdir()
    (vendor.out / "audit").write_text("a file where a folder is needed")
    vendor("run")
    table, _, told = vendor("status").out.partition("\n\n")
    assert table.splitlines()[1].split()[1] == "blocked"
    first, plan, tries, hint = told.splitlines()
    assert first.startswith(f"acme is blocked: cannot write {name_of('acme', START + DAY)}: ")
    assert plan.startswith("  open plan: 1, since ")
    assert plan.endswith(name_of("acme", START + DAY))
    assert tries.startswith("  1 attempt so far; the next after ")
    assert tries.endswith(", or at once: audit-exporter run --export acme")
    assert hint == "  what to do: a file lies where a folder is needed: move it away"


def test_status_json_says_plainly_who_is_paused_blocked_or_stopped(vendor: Vendor) -> None:
    for account in ("paused", "blocked", "stopped"):
        vendor.export(account, destination={"type": "directory", "path": f"out-{account}"})
        vendor.insert(account, START)
    assert vendor("run", "--as-of", rfc3339(START)).status == 0
    vendor("pause", "paused")
    (vendor.folder / "out-blocked").mkdir()
    (vendor.folder / "out-blocked" / "audit").write_text("a file where a folder is needed")
    foreign = vendor.folder / "out-stopped" / name_of("stopped", START + DAY)
    foreign.parent.mkdir(parents=True)
    foreign.write_text("somebody else's")
    assert vendor("run").status == 10
    assert foreign.read_text() == "somebody else's"
    marks = {
        export: [mark for mark in ("paused", "blocked", "stopped") if row[mark]] + [row["state"]]
        for export, row in ((name, vendor.row(name)) for name in ("paused", "blocked", "stopped", "acme"))
    }
    assert marks == {
        "paused": ["paused", "paused"],
        "blocked": ["blocked", "blocked"],
        "stopped": ["stopped", "stopped"],
        "acme": ["up to date"],
    }


def test_one_odd_export_does_not_keep_the_others_out_of_the_table(
    vendor: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    vendor.export("odd", every="1h")
    vendor.insert("odd", START)
    vendor("run")
    boundary = schedule.next_boundary

    def fail_for_odd(after: datetime, every: timedelta, zone: ZoneInfo) -> datetime:
        if every < DAY:
            raise OverflowError
        return boundary(after, every, zone)

    monkeypatch.setattr(schedule, "next_boundary", fail_for_odd)
    assert vendor.row("acme")["state"] == "up to date"
    assert vendor.row("odd")["error"] == "its state cannot be shown: OverflowError"


def test_an_alarm_that_stops_nothing_is_shown_until_a_person_has_looked(vendor: Vendor) -> None:
    vendor("run")
    with closing(sqlite3.connect(vendor.ledger)) as connection, connection:
        connection.execute("UPDATE exports SET alarm = 'one object\nanother object'")
    said = vendor("status").out
    assert "acme is alarm" not in said
    assert "acme has an alarm\n  alarm: one object\n  alarm: another object\n" in said
    assert "  what to do: look into it, then run: audit-exporter resume acme\n" in said
    vendor("resume", "acme")
    assert "alarm" not in vendor("status").out


def test_status_of_an_export_that_there_is_not_names_the_nearest(vendor: Vendor) -> None:
    answer = vendor("status", "--export", "amce")
    assert answer.status == 2
    assert answer.err == "audit-exporter: no export 'amce' is configured\n  did you mean acme?\n"


def test_status_shows_an_export_that_the_configuration_no_longer_has(vendor: Vendor) -> None:
    vendor("run")
    vendor.settings["exports"][0]["account"] = "globex"
    said = vendor("status").out
    assert "acme is not configured\n" in said
    assert "globex  not begun" in said


# --- check, schema, init ---------------------------------------------------------------------------


def test_check_says_that_the_source_is_another_one(vendor: Vendor) -> None:
    """What will stop the next run is said before it."""
    assert vendor("run").status == 0
    vendor.execute("DELETE FROM audit_log")
    vendor.execute("DELETE FROM sqlite_sequence")
    vendor.insert("acme", START)
    answer = vendor("check")
    assert answer.status == 10
    assert "error   acme: the source is not the one that it was read from" in answer.out
    assert "audit-exporter ledger accept-source --from TIME" in answer.out


def test_check_warns_of_a_format_that_cannot_tell_first_logins(vendor: Vendor, tmp_path: Path) -> None:
    """Once for all exports of a format, one's own as well; not where there is a column, or a derived one."""
    mine = tmp_path / "mine.yaml"
    mine.write_text("unfilled: nothing\nfields: {is_first: first_login}\n", encoding="utf-8")
    for number in range(5):
        vendor.export("acme", name=f"auth0-{number}", format="auth0", destination=folder(f"a{number}"))
    vendor.export("acme", name="mine", format=str(mine), destination=folder("m"))
    answer = vendor("check")
    assert answer.status == 0
    warnings = [line for line in answer.out.splitlines() if "source.columns.first_login is not set" in line]
    assert [line.split(": ")[0].removeprefix("warning ") for line in warnings] == [
        "auth0-0, auth0-1, auth0-2 and 2 more",
        "mine",
    ]
    assert "derived: {first_login: {first_of: " in answer.out
    vendor.settings["source"]["columns"]["first_login"] = "first_login"
    vendor.settings["source"]["derived"] = {"first_login": {"first_of": "actor_email", "actions": ["Login"]}}
    answer = vendor("check")
    assert (answer.status, "first_login" in answer.out) == (0, False)


def folder(path: str) -> dict[str, str]:
    return {"type": "directory", "path": path}


def test_check_names_a_column_that_is_missing_and_an_alarm(vendor: Vendor) -> None:
    vendor.settings["source"]["columns"]["email"] = "nosuchcolumn"
    answer = vendor("check")
    assert answer.status == 10
    assert "error   acme: the source has no column 'nosuchcolumn'" in answer.out
    vendor.settings["source"]["columns"]["email"] = "actor_email"
    folder = vendor.out / "audit" / "acme"
    folder.mkdir(parents=True)
    (folder / PurePosixPath(name_of("acme", START + DAY)).name).write_text("foreign")
    assert vendor("run").status == 10
    answer = vendor("check")
    assert answer.status == 10
    assert "error   acme: a foreign object has the name" in answer.out
    assert "audit-exporter resume acme" in answer.out


def test_check_says_what_would_keep_an_export_from_delivering(vendor: Vendor) -> None:
    (vendor.folder / "taken").write_text("a file")
    vendor.export("globex", destination={"type": "s3", "bucket": "b", "endpoint_url": "http://127.0.0.1:1",
                                         "access_key_id": "x", "secret_access_key": "y"})  # fmt: skip
    answer = vendor("check", "--json")
    assert answer.status == 10
    levels = {finding["subject"]: finding["level"] for finding in json.loads(answer.out)}
    assert levels[f"acme: file://{vendor.out}"] == "ok"
    assert [level for subject, level in levels.items() if subject.startswith("globex: ")] == ["error"]


def test_check_tries_the_place_where_objects_will_be(vendor: Vendor) -> None:
    vendor.out.mkdir()
    (vendor.out / "vendor").write_text("a file where a folder is needed")
    vendor.settings["exports"][0]["destination"]["prefix"] = "vendor"
    answer = vendor("check")
    assert answer.status == 10
    assert (
        f"error   acme: file://{vendor.out}: the directory {vendor.out} cannot be used: Not a directory\n"
        "        a file lies where a folder is needed: move it away\n"
    ) in answer.out


def test_check_goes_on_to_the_destinations_when_the_source_cannot_be_read(vendor: Vendor) -> None:
    vendor.settings["source"]["table"] = "audit_logs"
    answer = vendor("check")
    assert answer.status == 20
    assert (
        "error   source: the source has no table 'audit_logs'\n        did you mean 'audit_log'?\n"
        in answer.out
    )
    assert f"ok      acme: file://{vendor.out}: " in answer.out


def test_check_writes_one_probe_for_all_exports_that_share_a_destination(
    vendor: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    probes: list[str] = []
    check = DirectoryStore.check

    def counted(self: DirectoryStore, probe: str) -> Sequence[Finding]:
        probes.append(probe)
        return check(self, probe)

    monkeypatch.setattr(DirectoryStore, "check", counted)
    for number in range(5):
        vendor.export(f"shared-{number}")
    vendor.export("alone", destination={"type": "directory", "path": "out", "prefix": "alone"})
    answer = vendor("check")
    assert answer.status == 0
    assert len(probes) == 2
    assert f"ok      acme, shared-0, shared-1 and 3 more: file://{vendor.out}: " in answer.out
    assert f"ok      alone: file://{vendor.out}: " in answer.out


def test_init_beside_a_ledger_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    """A new source with an old ledger would never deliver its first records."""
    (tmp_path / "ledger.db").write_text("mine")
    answer = CliRunner().invoke(app, ["init", str(tmp_path)])
    assert answer.exit_code == 2
    assert "ledger.db exists already\n" in answer.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["ledger.db"]


def test_init_makes_what_run_needs_and_replaces_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    made = CliRunner().invoke(app, ["init", str(folder)])
    assert made.exit_code == 0
    assert made.stdout.endswith(f"Next: audit-exporter run -c {folder / 'audit-exporter.yaml'}\n")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert sorted(before) == ["audit-exporter.yaml", "audit.db", "ledger.db"]
    again = CliRunner().invoke(app, ["init", str(folder)])
    assert again.exit_code == 2
    assert "exists already" in again.stderr
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_the_printed_schema_accepts_the_configuration_that_init_writes(tmp_path: Path) -> None:
    CliRunner().invoke(app, ["init", str(tmp_path / "new")])
    schema = json.loads(CliRunner().invoke(app, ["schema"]).stdout)
    text = (tmp_path / "new" / "audit-exporter.yaml").read_text()
    written = yaml.load(text, yaml.BaseLoader)  # as text: a time is one in the configuration
    jsonschema.Draft202012Validator(schema).validate(written)


# --- source prepare --------------------------------------------------------------------------------


def test_prepare_prints_the_sql_that_is_missing_and_changes_nothing(vendor: Vendor) -> None:
    """What it prints can be run as it is; without `--apply` the source stays as it was."""
    before = vendor.fingerprint()
    answer = vendor("source", "prepare")
    assert answer.status == 0
    assert answer.out == (
        "-- no index leads from an account to its newest records\n"
        'CREATE INDEX "audit_log_by_account" ON "audit_log" ("account_id");\n'
    )
    assert vendor.fingerprint() == before


def test_prepare_applies_what_is_missing_once(vendor: Vendor) -> None:
    """With `--apply` it says what it did; after that, and for `check`, nothing is missing."""
    answer = vendor("source", "prepare", "--apply")
    assert answer.status == 0
    assert "CREATE INDEX" in answer.out
    assert "done" in answer.out
    assert vendor("source", "prepare").out == "The source has all that audit-exporter needs.\n"
    assert "index" not in vendor("check").out


def test_prepare_says_what_failed_and_goes_on_when_called_again(vendor: Vendor) -> None:
    """A statement that cannot run is named with its error, and with what to do."""
    with closing(sqlite3.connect(vendor.database)) as blocker:
        blocker.execute("CREATE TABLE audit_log_by_account (id)")
    answer = vendor("source", "prepare", "--apply")
    assert answer.status == 20
    assert "no index leads from an account to its newest records: " in answer.err
    assert "then say it again" in answer.err


def test_settings_of_a_server_are_refused_for_a_file(vendor: Vendor) -> None:
    """Nobody should believe that a password or TLS protects a SQLite file."""
    for part, key, value in (
        ("source", "password", "a-secret"),
        ("source", "tls", {"mode": "require"}),
        ("ledger", "password", "a-secret"),
    ):
        vendor.settings[part][key] = value
        answer = vendor("run")
        assert answer.status == 2
        assert f"{part}.{key} means nothing to a SQLite file" in answer.err
        assert "a-secret" not in answer.err + answer.out
        del vendor.settings[part][key]


def test_a_source_that_cannot_be_read_is_said_once(vendor: Vendor) -> None:
    """`check` says what is wrong with the source once, and goes on to the destinations."""
    vendor.settings["source"]["table"] = "no_such_table"
    answer = vendor("check")
    assert answer.status == 20
    assert answer.out.count("no_such_table") == 1
    assert "created .audit-exporter-check/" in answer.out


def test_prepare_goes_on_behind_a_statement_that_fails(vendor: Vendor) -> None:
    """One index that cannot be made keeps the other from nothing; the failure is said at the end."""
    with closing(sqlite3.connect(vendor.database)) as application:
        application.execute("DROP INDEX by_time")
        application.execute("CREATE TABLE audit_log_by_account (id)")
    answer = vendor("source", "prepare", "--apply")
    assert answer.status == 20
    assert [line for line in answer.out.splitlines() if line.startswith("  ")] == ["  failed", "  done"]
    assert "no index leads from an account to its newest records: " in answer.err
