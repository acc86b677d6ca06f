"""The command line as people and machines meet it: what each command does, prints and answers."""

from __future__ import annotations

import json
import os
import pty
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import count
from types import SimpleNamespace
from typing import TYPE_CHECKING

import jsonschema  # type: ignore[import-untyped]
import pytest
import structlog
import yaml
from typer.testing import CliRunner

from exporter import schedule
from exporter.cli import app
from exporter.destinations.directory import DirectoryStore
from exporter.destinations.object_store import ObjectStoreDestination
from exporter.destinations.s3 import S3Store
from exporter.telemetry import logs
from tests.command_line import DAY, START, TODAY, Answer, Vendor, rfc3339

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from zoneinfo import ZoneInfo

    from exporter.model import Finding

CANARY = "hunter2canary"
MANY = 40


@pytest.fixture
def vendor(tmp_path: Path) -> Vendor:
    """One account with two records in each of two windows that are due; the ledger is empty."""
    made = Vendor(tmp_path)
    made.export("acme")
    for moment in (START, START, START + DAY, START + DAY):
        made.insert("acme", moment)
    made.start()
    return made


@pytest.fixture
def busy(tmp_path: Path) -> Vendor:
    """One account with a record in each of many windows that are due."""
    made = Vendor(tmp_path)
    made.settings["defaults"]["every"] = "1h"
    made.export("acme")
    for hour in range(MANY):
        made.insert("acme", START + hour * timedelta(hours=1))
    made.start()
    return made


def name_of(account: str, moment: datetime) -> str:
    return f"audit/{account}/audit_{account}_{moment:%Y%m%dT%H%M%SZ}.zip"


def until_first_delivery(process: subprocess.Popen[str]) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        if json.loads(line)["event"] == "delivered":
            return
    pytest.fail("nothing was delivered")


# --- run -------------------------------------------------------------------------------------------


def test_a_run_delivers_what_is_due_and_says_so_in_a_table(vendor: Vendor) -> None:
    answer = vendor("run")
    assert answer.status == 0
    heading, row, total = answer.out.splitlines()
    assert heading.split() == ["Export", "Objects", "Records", "Late", "Bad", "Bytes", "Last", "object"]
    size = sum(line["bytes"] for line in answer.events("delivered"))
    assert row.split() == ["acme", "2", "4", "0", "0", f"{size:,}", f"audit_acme_{TODAY:%Y%m%dT%H%M%SZ}.zip"]
    assert total == "2 objects with 4 records delivered."
    assert vendor.event_ids() == list("1234")


def test_a_run_with_nothing_due_says_so(vendor: Vendor) -> None:
    vendor("run")
    answer = vendor("run")
    assert (answer.status, answer.out) == (0, "Nothing was due.\n")
    assert [(line["event"], line["due"]) for line in answer.log] == [("run started", 0)]


def test_a_pipe_gets_json_lines_that_name_every_object(vendor: Vendor) -> None:
    found = vendor("run").events("delivered")
    assert [(line["export"], line["object"], line["records"], line["level"]) for line in found] == [
        ("acme", name_of("acme", START + DAY), 2, "info"),
        ("acme", name_of("acme", TODAY), 2, "info"),
    ]


def test_run_json_is_one_document_about_everything_that_happened(vendor: Vendor) -> None:
    vendor.export("globex", timezone="Europe/Berln")
    answer = vendor("run", "--json")
    document = json.loads(answer.out)
    assert [(entry["export"], entry["object"], entry["records"]) for entry in document["objects"]] == [
        ("acme", name_of("acme", START + DAY), 2),
        ("acme", name_of("acme", TODAY), 2),
    ]
    assert [entry["export"] for entry in document["skipped"]] == ["globex"]
    assert document["exit_status"] == answer.status == 10
    assert document["dry_run"] is False


def test_a_dry_run_names_what_a_run_delivers_and_writes_nothing(vendor: Vendor) -> None:
    before = vendor.fingerprint()
    dry = vendor("run", "--dry-run")
    assert dry.status == 0
    assert vendor.fingerprint() == before
    names = [line.split()[0] for line in dry.out.splitlines()[1:-1]]
    assert dry.out.splitlines()[-1] == "2 objects with 4 records would be delivered."
    assert dry.events("delivered") == []
    vendor("run")
    assert names == list(vendor.objects())


def test_a_dry_run_of_many_objects_names_some_and_sums_up_the_rest(vendor: Vendor) -> None:
    vendor.settings["defaults"]["every"] = "30m"
    for number in range(60):
        vendor.insert("acme", START + number * timedelta(minutes=30))
    _, *rows, rest, total = vendor("run", "--dry-run").out.splitlines()
    assert len(rows) == 40
    assert rest.split()[:7] == ["and", "20", "more", "objects", "22", "0", "0"]
    assert total == "60 objects with 64 records would be delivered."


@pytest.mark.parametrize("command", ["status", "check"])
def test_looking_writes_nothing(vendor: Vendor, command: str) -> None:
    before = vendor.fingerprint()
    assert vendor(command).status == 0
    assert vendor.fingerprint() == before
    vendor("run")
    before = vendor.fingerprint()
    assert vendor(command).status == 0
    assert vendor.fingerprint() == before


def test_as_of_limits_what_is_due(vendor: Vendor) -> None:
    assert vendor("run", "--as-of", rfc3339(START + DAY)).status == 0
    assert list(vendor.objects()) == [name_of("acme", START + DAY)]
    assert vendor("run").status == 0
    assert vendor.event_ids() == list("1234")


def test_only_the_named_exports_are_delivered(vendor: Vendor) -> None:
    vendor.export("globex")
    vendor.insert("globex", START)
    assert vendor("run", "--account", "globex").status == 0
    assert vendor.event_ids() == ["5"]
    assert vendor("run", "--export", "acme").status == 0
    assert vendor.event_ids() == list("12345")


def test_an_account_and_an_export_together_choose_what_is_both(vendor: Vendor) -> None:
    vendor.export("globex")
    vendor.export("globex", name="globex-2", destination={"type": "directory", "path": "out-2"})
    vendor.insert("globex", START)
    assert vendor("run", "--account", "globex", "--export", "globex").status == 0
    assert vendor.event_ids() == ["5"]
    assert not (vendor.folder / "out-2").exists()


@pytest.mark.parametrize("command", [["run"], ["backfill", "--from", "2026-01-01", "--to", "2026-01-02"]])
def test_an_export_of_another_account_is_a_contradiction_and_both_are_named(
    vendor: Vendor, command: list[str]
) -> None:
    vendor.export("globex")
    answer = vendor(*command, "--account", "globex", "--export", "acme")
    assert answer.status == 2
    (said,) = answer.events("stopped")
    assert said["error"] == "--export acme is of account 'acme', not of --account globex"
    assert vendor.objects() == {}


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError(CANARY), "RuntimeError"),
        (ValueError(CANARY), "ValueError"),
        (OverflowError(CANARY), "OverflowError"),
        (OSError(36, "File name too long", CANARY), "File name too long"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_drivers_surprise_at_one_export_is_that_exports_alone(
    vendor: Vendor, monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str
) -> None:
    make = DirectoryStore.__init__

    def surprised(self: DirectoryStore, path: Path) -> None:
        if path.name == "odd":
            raise error
        make(self, path)

    monkeypatch.setattr(DirectoryStore, "__init__", surprised)
    vendor.export("globex", destination={"type": "directory", "path": "odd"})
    answer = vendor("run")
    assert answer.status == 10
    assert f"Skipped: globex: its destination cannot be set up: {reason}\n  check the export's" in answer.out
    assert CANARY not in answer.out + answer.err
    assert vendor.event_ids() == list("1234")
    assert vendor("status").status == 0


def test_where_an_export_writes_is_found_out_once(vendor: Vendor, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    claim = ObjectStoreDestination.claim

    def counted(self: ObjectStoreDestination, account: str) -> str:
        asked.append(account)
        return claim(self, account)

    monkeypatch.setattr(ObjectStoreDestination, "claim", counted)
    assert vendor("run").status == 0
    assert asked == ["acme"]


def test_a_wrong_export_is_skipped_and_the_others_are_delivered(vendor: Vendor) -> None:
    vendor.settings["exports"].insert(0, {"account": "globex"})
    answer = vendor("run")
    assert answer.status == 10
    assert "Skipped: globex: " in answer.out
    assert "exports[0].destination: missing\n" in answer.out
    assert vendor.event_ids() == list("1234")
    named = vendor("run", "--export", "globex")
    assert named.status == 2
    assert named.events("stopped")[0]["error"].endswith("exports[0].destination: missing")


def test_an_export_that_cannot_deliver_holds_up_nobody(vendor: Vendor) -> None:
    vendor.export("globex", destination={"type": "directory", "path": "shut"})
    vendor.insert("globex", START)
    shut = vendor.folder / "shut"
    shut.mkdir()
    (shut / "audit").write_text("a file where a folder is needed")
    answer = vendor("run")
    assert answer.status == 10
    assert vendor.event_ids() == list("1234")
    assert [line["export"] for line in answer.events("failed")] == ["globex"]
    assert vendor.row("globex")["state"] == "blocked"


@pytest.mark.slow
def test_a_run_that_is_out_of_time_says_who_still_has_work_and_the_next_goes_on(
    busy: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = count()
    monkeypatch.setattr("exporter.turns.time", SimpleNamespace(monotonic=lambda: next(seconds)))
    answer = busy("run", "--budget", "30s")
    assert answer.status == 10
    assert answer.out.endswith("1 export still has work; the next run goes on where this one stopped.\n")
    assert 0 < len(busy.objects()) < MANY
    assert busy("run").status == 0
    assert busy.event_ids() == [str(number + 1) for number in range(MANY)]


@pytest.mark.slow
def test_a_run_that_is_asked_to_stop_ends_cleanly_and_the_next_one_finishes(busy: Vendor) -> None:
    process = busy.spawn("run")
    until_first_delivery(process)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 10
    assert out.endswith("1 export still has work; the next run goes on where this one stopped.\n")
    busy.assert_nothing_half_made()
    assert 0 < len(busy.objects()) < MANY
    assert busy("run").status == 0
    assert busy.event_ids() == [str(number + 1) for number in range(MANY)]


@pytest.mark.slow
def test_a_run_that_is_killed_loses_and_doubles_nothing(busy: Vendor) -> None:
    process = busy.spawn("run")
    until_first_delivery(process)
    process.kill()
    process.communicate(timeout=60)
    assert busy("run").status == 0
    assert busy.event_ids() == [str(number + 1) for number in range(MANY)]
    busy.assert_nothing_half_made()


def test_control_characters_of_a_name_never_reach_a_terminal(vendor: Vendor) -> None:
    """A name from a customer could otherwise colour, move or hide what a person reads."""
    vendor.settings["exports"].append({"account": "red\x1b[31m\u202e", "destination": {"type": "nowhere"}})
    out = vendor("run").out + vendor("status").out
    assert "red" in out
    assert "\x1b" not in out
    assert "\u202e" not in out


@pytest.mark.parametrize("name", ["", "two\nlines", "x" * 201])
def test_an_export_is_renamed_only_to_what_the_configuration_takes(vendor: Vendor, name: str) -> None:
    assert vendor("run").status == 0
    answer = vendor("rename", "acme", name)
    assert answer.status == 2
    assert "name" in answer.err
    assert vendor.row("acme")["state"] == "up to date"


def test_a_run_of_one_account_says_that_another_export_of_it_is_wrong(vendor: Vendor) -> None:
    vendor.settings["exports"].append({"account": "acme", "name": "acme-blob", "destination": {"type": "?"}})
    answer = vendor("run", "--account", "acme")
    assert answer.status == 10
    assert "Skipped: acme-blob: " in answer.out
    assert vendor.event_ids() == list("1234")


def test_a_library_logs_into_the_same_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """A retry that a library reports, under a logger's name of its own, is one more JSON line."""
    logs.configure()
    structlog.get_logger("stamina").warning("retry scheduled", retry_num=1)
    assert json.loads(capsys.readouterr().err)["event"] == "retry scheduled"


def test_a_log_that_nobody_takes_keeps_no_record_from_its_owner(vendor: Vendor) -> None:
    process = vendor.spawn("run")
    assert process.stderr is not None
    process.stderr.close()
    assert process.stdout is not None
    assert process.stdout.read().endswith("2 objects with 4 records delivered.\n")
    assert process.wait(timeout=60) == 0
    process.stdout.close()
    assert vendor.event_ids() == list("1234")


def on_a_terminal(vendor: Vendor, *words: str, columns: int = 80) -> Answer:
    """A command whose output goes to a terminal, with everything that was ever shown there."""
    vendor.write()
    ours, theirs = pty.openpty()
    environ = {**os.environ, "TERM": "xterm", "COLUMNS": str(columns)}
    command = [sys.executable, "-m", "exporter", *words, "-c", str(vendor.config)]
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, env=environ) as process:
        os.close(theirs)
        shown = b""
        try:
            while data := os.read(ours, 65_536):
                shown += data
        except OSError:  # Linux says so when the other end is closed
            pass
    os.close(ours)
    return Answer(process.returncode, shown.decode().replace("\r\n", "\n"), "")


@pytest.mark.slow
@pytest.mark.parametrize(("columns", "names"), [(80, False), (140, True)])
def test_a_terminal_shows_a_bar_and_then_a_table_that_fits(
    vendor: Vendor, *, columns: int, names: bool
) -> None:
    vendor.settings["exports"][0]["account"] = account = "acme-of-the-long-name"
    vendor.execute("UPDATE audit_log SET account_id = ?", account)
    answer = on_a_terminal(vendor, "run", columns=columns)
    assert answer.status == 0
    assert "delivering" in answer.out
    assert "1/1" in answer.out
    assert "2 objects  4 records" in answer.out
    assert '{"' not in answer.out
    table = answer.out.rpartition("Export")[2]
    assert (f"audit_{account}_{TODAY:%Y%m%dT%H%M%SZ}.zip" in table) is names
    assert table.endswith("2 objects with 4 records delivered.\n")


def test_a_terminal_shows_an_error_once_and_as_text(vendor: Vendor) -> None:
    vendor.settings["source"]["table"] = "audit_logs"
    answer = on_a_terminal(vendor, "run")
    assert answer.status == 20
    assert answer.out.count("audit-exporter: the source has no table 'audit_logs'\n") == 1
    assert "  did you mean 'audit_log'?\n" in answer.out


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


# --- pause, resume, rename -------------------------------------------------------------------------


def test_a_paused_export_gets_nothing_until_it_is_resumed(vendor: Vendor) -> None:
    vendor("run", "--as-of", rfc3339(START))
    paused = vendor("pause", "acme")
    assert (paused.status, paused.out) == (0, "acme is paused. Go on with: audit-exporter resume acme\n")
    assert vendor("run").out == "Nothing was due.\n"
    assert vendor.objects() == {}
    resumed = vendor("resume", "acme")
    assert (resumed.status, resumed.out) == (0, "acme goes on with the next run.\n")
    assert vendor("run").status == 0
    assert vendor.event_ids() == list("1234")


def test_a_foreign_object_stops_an_export_until_a_person_resumes_it(vendor: Vendor) -> None:
    foreign = vendor.out / name_of("acme", START + DAY)
    foreign.parent.mkdir(parents=True)
    foreign.write_text("somebody else's")
    answer = vendor("run")
    assert answer.status == 10
    alarm = (
        "a foreign object has the name of this export's next object: "
        f"file://{vendor.out}/{name_of('acme', START + DAY)}"
    )
    hint = (
        "find out who else writes under this prefix, keep that object or move it away, "
        "then run: audit-exporter resume acme"
    )
    assert f"Not delivered: acme: {alarm}\n  {hint}\n" in answer.out
    assert (vendor.row("acme")["error"], vendor.row("acme")["what_to_do"]) == (alarm, hint)
    assert vendor("run", "--export", "acme").status == 10
    assert foreign.read_text() == "somebody else's"
    said = vendor("resume", "acme").out
    assert said == (
        "acme goes on with the next run."
        " Its open plan cannot have landed and will be made anew, named from now on.\n"
    )
    foreign.rename(vendor.folder / "kept")
    assert vendor("run").status == 0
    assert vendor.event_ids() == list("1234")


def test_a_renamed_export_goes_on_where_it_was(vendor: Vendor) -> None:
    vendor("run", "--as-of", rfc3339(START + DAY))
    said = vendor("rename", "acme", "acme-archive")
    assert (said.status, said.out) == (
        0,
        "The ledger now calls it acme-archive; give it that `name` in the configuration.\n",
    )
    vendor.settings["exports"][0]["name"] = "acme-archive"
    assert vendor("run").status == 0
    assert vendor.event_ids() == list("1234")


def test_an_export_is_not_renamed_to_another(vendor: Vendor) -> None:
    vendor.export("globex")
    vendor("run")
    answer = vendor("rename", "acme", "globex")
    assert answer.status == 2
    assert answer.err == (
        "audit-exporter: there is an export named 'globex' already\n"
        "  choose another name; see them all with: audit-exporter status\n"
    )


@pytest.mark.parametrize("words", [("pause", "amce"), ("resume", "amce"), ("rename", "amce", "acme2")])
def test_an_export_that_the_ledger_does_not_know_is_named(vendor: Vendor, words: tuple[str, ...]) -> None:
    answer = vendor(*words)
    assert answer.status == 2
    assert answer.err == (
        "audit-exporter: the ledger knows no export named 'amce'\n"
        "  it has not begun, or has another name; see them all with: audit-exporter status\n"
    )


# --- ledger ----------------------------------------------------------------------------------------


def test_a_ledger_is_created_once(vendor: Vendor) -> None:
    vendor("run")
    before = vendor.fingerprint()
    answer = vendor("ledger", "create")
    assert answer.status == 20
    assert answer.err.startswith(f"audit-exporter: there is a file at {vendor.ledger} already\n  ")
    assert vendor.fingerprint() == before


def test_a_ledger_of_today_needs_no_migration(vendor: Vendor) -> None:
    answer = vendor("ledger", "migrate")
    assert answer.status == 0
    assert answer.out.startswith(f"The ledger {vendor.ledger} is at version ")
    assert answer.out.endswith(" already.\n")


def test_the_records_that_could_not_be_rendered_can_be_read(vendor: Vendor) -> None:
    vendor.insert("acme", START, b"caf\xe9")
    assert vendor("run").status == 0
    vendor.database.unlink()
    answer = vendor("ledger", "bad-records", "--export", "acme", "--seq", "1")
    assert answer.status == 0
    (record,) = [json.loads(line) for line in answer.out.splitlines()]
    assert record["id"] == "5"
    assert "UTF-8" in record["reason"]
    assert "caf" in record["body"]
    assert vendor("ledger", "bad-records", "--export", "acme", "--seq", "2").out == ""
    assert vendor("ledger", "bad-records", "--export", "acme", "--seq", "3").status == 2


@pytest.mark.parametrize("queried", [False, True])
def test_without_the_source_a_person_still_sees_and_says_what_goes_on(
    vendor: Vendor, *, queried: bool
) -> None:
    vendor.export("globex")
    vendor.insert("globex", START)
    vendor("run")
    if queried:
        vendor.settings["exports_from"] = {"query": "SELECT settings FROM audit_exports"}
        del vendor.settings["exports"][1]
    vendor.database.unlink()
    for words in (["pause", "globex"], ["resume", "globex"], ["rename", "globex", "initech"]):
        assert vendor(*words).status == 0
    assert vendor.row("acme")["state"] == "up to date"
    assert vendor("ledger", "migrate").status == 0
    assert vendor("ledger", "restored").status == 0
    answer = vendor("status")
    assert answer.status == 0
    unknown = f"exports_from.query: its exports are unknown for now: there is no database {vendor.database}"
    assert (unknown in answer.out) is queried
    state, error = ("unknown", unknown) if queried else ("not configured", "")
    assert (vendor.row("initech")["state"], vendor.row("initech")["error"]) == (state, error)
    assert vendor("run").status == (10 if queried else 20)  # of what is known, nothing is due without it


def test_a_query_that_cannot_be_read_holds_up_no_export_of_the_file(vendor: Vendor) -> None:
    vendor.settings["exports_from"] = {"query": "SELECT settings FROM audit_exports"}
    answer = vendor("run")
    assert answer.status == 10
    assert "Skipped: exports_from.query: its exports are unknown for now: " in answer.out
    assert vendor.event_ids() == list("1234")
    (said,) = vendor("run", "--export", "initech").events("stopped")
    assert said["error"].startswith("exports_from.query: its exports are unknown for now: ")


def test_a_restored_ledger_loses_nothing(vendor: Vendor) -> None:
    vendor("run", "--as-of", rfc3339(START + DAY))
    backup = vendor.ledger.read_bytes()
    vendor("run")
    vendor.ledger.write_bytes(backup)
    answer = vendor("ledger", "restored")
    assert answer.status == 0
    assert answer.out.startswith("The restored ledger is in service. 0 open plans will be made anew;")
    assert vendor("run").status == 0
    assert vendor.event_ids() == list("123344")
    names = list(vendor.objects())
    assert names[-1] > name_of("acme", TODAY)


def test_an_accepted_source_goes_on_from_before_it_changed(vendor: Vendor) -> None:
    vendor("run")
    vendor.execute("DELETE FROM audit_log WHERE id > 2")
    vendor.execute("UPDATE sqlite_sequence SET seq = 2")
    vendor.insert("acme", TODAY - timedelta(hours=1))
    vendor.settings["defaults"]["every"] = "1h"
    refused = vendor("run")
    assert refused.status == 20
    assert "accept-source" in refused.events("failed")[0]["hint"]
    answer = vendor("ledger", "accept-source", "--from", rfc3339(START))
    assert answer.status == 0
    assert answer.out.startswith(f"acme goes on from {rfc3339(START)}\n")
    assert vendor("run").status == 0
    assert vendor.event_ids() == list("112233" + "4")


# --- backfill and replay ---------------------------------------------------------------------------


@pytest.fixture
def history(vendor: Vendor) -> Vendor:
    """The same account, live delivery up to date, with a record on each of three days before that."""
    for days in (3, 2, 1):
        vendor.insert("acme", START - days * DAY)
    assert vendor("run").status == 0
    assert vendor.event_ids() == list("1234")
    return vendor


def past(days: int, until: int = 0) -> list[str]:
    return ["backfill", "--account", "acme", "--from", rfc3339(START - days * DAY),
            "--to", rfc3339(START - until * DAY)]  # fmt: skip


def test_a_dry_backfill_prints_names_counts_and_sizes_and_writes_nothing(history: Vendor) -> None:
    before = history.fingerprint()
    answer = history(*past(3), "--dry-run")
    assert answer.status == 0
    heading, *rows, total = answer.out.splitlines()
    assert heading.split() == ["Object", "Records", "Late", "Bad", "Bytes"]
    assert [row.split()[1:4] for row in rows] == [["1", "0", "0"]] * 3
    assert total == "3 objects with 3 records would be delivered."
    assert history.fingerprint() == before


def test_a_backfill_delivers_a_past_range_under_new_names_and_moves_no_watermark(history: Vendor) -> None:
    before, names = history.row("acme")["watermark"], list(history.objects())
    assert history(*past(3)).status == 0
    assert history.event_ids() == list("1234567")
    new = [name for name in history.objects() if name not in names]
    assert min(new) > max(names)
    assert max(new) < name_of("acme", datetime.now(UTC) + timedelta(seconds=1))
    assert history.row("acme")["watermark"] == before
    assert history.row("acme")["requests"] == []


@pytest.mark.slow
def test_a_backfill_that_was_killed_goes_on_with_the_same_command(busy: Vendor) -> None:
    begin = START + MANY * timedelta(hours=1)
    busy.settings["defaults"]["start"] = rfc3339(begin)
    words = ["backfill", "--account", "acme", "--from", rfc3339(START), "--to", rfc3339(begin)]
    process = busy.spawn(*words)
    until_first_delivery(process)
    process.kill()
    process.communicate(timeout=60)
    (request,) = busy.row("acme")["requests"]
    range_ = f"--from {rfc3339(START)} --to {rfc3339(begin)}"
    assert request == f"audit-exporter backfill --export acme {range_}"
    assert busy(*request.split()[1:]).status == 0
    assert busy.event_ids() == [str(number + 1) for number in range(MANY)]
    assert busy.row("acme")["requests"] == []


def test_a_backfill_of_what_live_delivery_covers_is_refused(history: Vendor) -> None:
    answer = history(*past(3, until=-1))
    assert answer.status == 2
    (said,) = answer.events("stopped")
    assert said["error"] == (f"live delivery of export 'acme' covers every record from {rfc3339(START)} on")
    assert f"--to {rfc3339(START)}" in said["hint"]
    assert "--redeliver" in said["hint"]
    assert history.event_ids() == list("1234")


def test_a_backfill_of_what_another_one_delivered_needs_redeliver(history: Vendor) -> None:
    assert history(*past(3)).status == 0
    answer = history(*past(2))
    assert answer.status == 2
    assert answer.events("stopped")[0]["error"] == (
        f"an earlier backfill of export 'acme' covers {rfc3339(START - 3 * DAY)} to {rfc3339(START)}"
    )
    assert history(*past(2), "--redeliver").status == 0
    assert history.event_ids() == list("123456677")


@pytest.mark.parametrize("redeliver", [[], ["--redeliver"]])
def test_a_finished_backfill_said_again_delivers_nothing_and_says_so(
    history: Vendor, redeliver: list[str]
) -> None:
    assert history(*past(3), *redeliver).status == 0
    before = history.objects()
    answer = history(*past(3), *redeliver)
    assert answer.status == 0
    option = "--again" if redeliver else "--redeliver"
    assert answer.out == f"Already delivered. Once more: add {option}\n"
    assert history.objects() == before
    more = history(*past(3), *redeliver, *(["--again"] if redeliver else ["--redeliver"]))
    assert more.status == 0
    assert history.event_ids() == list("1234556677")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([*past(3), "--again"], "--again is a second --redeliver"),
        (["replay", "--export", "acme", "--seq", "1..999999999999"], "--seq names more than 10,000 objects"),
        (["replay", "--export", "acme", "--seq", "9" * 30], "is not a sequence number"),
        (past(0, until=3), " is not before --to "),
        (past(1, until=-400), " lies in the future"),
        (["backfill", "--from", "2026-01-01", "--to", "2026-01-02"], "it is not said whose records"),
        (["replay", "--export", "acme", "--seq", "2..1"], "'2..1' is not a sequence number"),
        (
            ["replay", "--export", "acme", "--seq", "9"],
            "export 'acme' has delivered nothing with sequence number 9",
        ),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(history: Vendor, words: list[str], message: str) -> None:
    answer = history(*words)
    assert answer.status == 2
    assert message in answer.err
    assert history.event_ids() == list("1234")


def test_a_replay_delivers_the_same_content_under_new_names(history: Vendor) -> None:
    before = history.objects()
    dry = history("replay", "--export", "acme", "--seq", "1..2", "--dry-run")
    assert dry.out.splitlines()[-1] == "2 objects with 4 records would be delivered."
    assert history.objects() == before
    assert history("replay", "--export", "acme", "--seq", "1..2").status == 0
    new = {name: data for name, data in history.objects().items() if name not in before}
    assert list(new.values()) == list(before.values())
    assert min(new) > max(before)


def test_a_replay_of_records_that_the_source_no_longer_has_says_so(history: Vendor) -> None:
    history.execute("DELETE FROM audit_log WHERE id = 3")
    history.execute("UPDATE audit_log SET account_id = 'moved' WHERE id < 3")
    before = history.objects()
    answer = history("replay", "--export", "acme", "--seq", "1")
    message = "the source no longer has the records of sequence number 1"
    hint = "replay renders from the source again; the object itself is where it was delivered"
    assert answer.status == 10
    assert f"Not delivered: acme: {message}\n  {hint}\n" in answer.out
    assert history.objects() == before


# --- Where exports come from -----------------------------------------------------------------------


def test_exports_come_from_files_and_from_rows_of_the_source(vendor: Vendor) -> None:
    (vendor.folder / "exports.d").mkdir()
    destination = {"type": "directory", "path": "out"}
    (vendor.folder / "exports.d" / "globex.yaml").write_text(
        json.dumps({"account": "globex", "destination": destination})
    )
    vendor.execute("CREATE TABLE audit_exports (settings TEXT)")
    good = json.dumps({"account": "initech", "destination": destination})
    for row in ("{not json", None, b"\xff", good):
        vendor.execute("INSERT INTO audit_exports VALUES (?)", row)
    vendor.execute("INSERT INTO audit_exports VALUES (CAST(x'7bff7d' AS TEXT))")
    query = "SELECT settings FROM audit_exports"
    vendor.settings["exports_from"] = {"files": "exports.d/*.yaml", "query": query}
    for account in ("globex", "initech"):
        vendor.insert(account, START)
    answer = vendor("run")
    assert answer.status == 10
    for row_number in (1, 2, 3, 5):
        assert f"Skipped: exports_from.query, row {row_number}: not JSON text\n" in answer.out
    assert vendor.event_ids() == list("123456")


# --- Secrets ---------------------------------------------------------------------------------------


@pytest.fixture
def secretive(vendor: Vendor, monkeypatch: pytest.MonkeyPatch) -> Vendor:
    """Exports to a store that cannot be reached, with the canary in every secret there is."""
    (vendor.folder / "secret").write_text(CANARY)
    monkeypatch.setenv("AUDIT_EXPORTER_TEST_SECRET", CANARY)
    monkeypatch.setattr("exporter.turns.RETRIES_S", ())
    by_file, by_name = {"file": "secret"}, {"env": "AUDIT_EXPORTER_TEST_SECRET"}
    place = {"type": "s3", "bucket": "b", "region": "us-east-1", "endpoint_url": "http://127.0.0.1:1"}
    keys = {"access_key_id": CANARY, "secret_access_key": by_name, "session_token": by_file}
    role = {"role_arn": "arn:aws:iam::123456789012:role/audit", "external_id": CANARY}
    vendor.export("keys", destination=place | keys)
    vendor.export("role", destination=place | keys | role)
    vendor.export("wrong", destination=place | {"external_id": CANARY})
    vendor.export("worse", destination=place | {"session_token": [CANARY]})
    for account in ("keys", "role"):
        vendor.insert(account, START)
    return vendor


def everything_kept(vendor: Vendor) -> bytes:
    files = [path for path in vendor.folder.rglob("*") if path.is_file() and path != vendor.config]
    return b"".join(path.read_bytes() for path in files if path.name != "secret")


COMMANDS: list[tuple[str, ...]] = [
    ("run",),
    ("run", "--json"),
    ("run", "--dry-run"),
    ("status",),
    ("status", "--json"),
    ("check",),
    ("check", "--json"),
    ("run", "--export", "wrong"),
]


def test_no_secret_is_ever_said_or_kept(secretive: Vendor) -> None:
    for words in COMMANDS:
        answer = secretive(*words)
        assert CANARY not in answer.out + answer.err, words
    assert CANARY.encode() not in everything_kept(secretive)
    assert secretive.row("keys")["error"]  # it did come as far as using them


@pytest.mark.parametrize("watched", [True, False])
def test_a_defect_is_told_with_its_traceback_and_without_a_secret(
    secretive: Vendor, monkeypatch: pytest.MonkeyPatch, *, watched: bool
) -> None:
    def broken(*_: object) -> None:
        revealed = {"a local variable": CANARY}
        raise KeyError(len(revealed))

    monkeypatch.setattr(S3Store, "put", broken)
    monkeypatch.setattr("exporter.commands.deliver.Options.watched", watched)
    answer = secretive("run")
    assert "KeyError: 1" in answer.err
    assert (
        "Not delivered: keys: internal error: KeyError\n  please report it with the traceback" in answer.out
    )
    assert CANARY not in answer.out + answer.err
    assert CANARY.encode() not in everything_kept(secretive)


@pytest.mark.parametrize("part", ["source", "ledger"])
@pytest.mark.parametrize(
    "url",
    [f"postgresql://audit:{CANARY}@db/audit", f"sqlite:{CANARY}", {"env": "AUDIT_EXPORTER_TEST_SECRET"}],
)
@pytest.mark.parametrize("command", ["run", "status", "check"])
def test_no_message_shows_the_address_of_a_database(
    secretive: Vendor, part: str, url: object, command: str
) -> None:
    secretive.settings[part]["url"] = url
    answer = secretive(command)
    assert answer.status == 2
    assert CANARY not in answer.out + answer.err


# --- The program itself ----------------------------------------------------------------------------


def test_help_lists_every_command_of_the_first_day() -> None:
    said = CliRunner().invoke(app, ["--help"]).stdout
    for command in ("init", "run", "backfill", "replay", "status", "check", "schema", "pause", "resume"):
        assert f"  {command} " in said


def test_an_unknown_option_is_a_mistake_in_the_arguments(vendor: Vendor) -> None:
    assert vendor("run", "--frobnicate").status == 2
