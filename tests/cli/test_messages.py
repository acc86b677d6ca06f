"""What a person is told when something is wrong, through the command line.

Every test asserts the message, the hint and the exit status, that nothing half-made is left, and that
a run after the cause is gone delivers every record exactly once.
"""

from __future__ import annotations

import ast
import errno
import json
import os
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import exporter
from exporter.sources.sqlite import SqliteSource
from tests.kit.command_line import DAY, START, TODAY, Answer, Vendor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CORRECT = "correct the configuration; `audit-exporter schema` describes all of it"


def assert_stopped(vendor: Vendor, answer: Answer, status: int, message: str, hint: str) -> None:
    """The run as a whole said this, delivered nothing and left nothing."""
    assert answer.status == status
    (said,) = answer.events("stopped")
    assert (said["error"], said["hint"]) == (message, hint)
    assert vendor.objects() == {}
    vendor.assert_nothing_half_made()


def assert_failing(vendor: Vendor, answer: Answer, export: str, message: str, hint: str) -> None:
    """This export alone did not get on, and `run` and `status` both say why."""
    assert answer.status == 10
    (said,) = answer.events("failed")
    assert (said["export"], said["error"], said["hint"]) == (export, message, hint)
    assert f"Not delivered: {export}: {message}\n  {hint}\n" in answer.out
    row = vendor.row(export)
    assert (row["error"], row["what_to_do"]) == (message, hint)
    vendor.assert_nothing_half_made()


def assert_skipped(answer: Answer, export: str, message: str, hint: str) -> None:
    """This export alone was left out, for its configuration."""
    assert answer.status == 10
    (said,) = answer.events("skipped")
    assert (said["export"], said["error"], said["hint"]) == (export, message, hint)
    assert f"Skipped: {export}: {message}\n  {hint}\n" in answer.out


def assert_delivers_once(vendor: Vendor, event_ids: str = "1234") -> None:
    """A run with nothing in its way delivers every record exactly once, and the next one nothing."""
    assert vendor("run").status == 0
    assert vendor.event_ids() == list(event_ids)
    assert vendor("run").out == "Nothing was due.\n"
    vendor.assert_nothing_half_made()


def last_line(vendor: Vendor, text: str) -> int:
    """The number of the configuration's last line that says this."""
    lines = [line.strip() for line in vendor.config.read_text().splitlines()]
    return len(lines) - lines[::-1].index(text)


# --- The source ------------------------------------------------------------------------------------


def test_a_missing_table_is_named_with_the_nearest_there_is(vendor: Vendor) -> None:
    vendor.settings["source"]["table"] = "audit_logs"
    answer = vendor("run")
    assert_stopped(vendor, answer, 20, "the source has no table 'audit_logs'", "did you mean 'audit_log'?")
    vendor.settings["source"]["table"] = "audit_log"
    assert_delivers_once(vendor)


@pytest.mark.parametrize("role", ["time", "account"])
def test_a_missing_column_is_named_with_the_nearest_there_is(vendor: Vendor, role: str) -> None:
    columns = vendor.settings["source"]["columns"]
    right = columns[role]
    columns[role] = right.replace("_", "")
    answer = vendor("run")
    message, hint = f"the source has no column '{columns[role]}'", f"did you mean '{right}'?"
    assert_stopped(vendor, answer, 20, message, hint)
    columns[role] = right
    assert_delivers_once(vendor)


def test_a_missing_column_of_a_format_is_the_exports_trouble_alone(vendor: Vendor) -> None:
    vendor.export("globex", format="native")
    vendor.insert("globex", START)
    vendor.settings["source"]["columns"]["email"] = "actoremail"
    answer = vendor("run")
    assert_failing(
        vendor, answer, "acme", "the source has no column 'actoremail'", "did you mean 'actor_email'?"
    )
    assert [record["id"] for record in vendor.records()] == [5]
    vendor.settings["source"]["columns"]["email"] = "actor_email"
    assert vendor("run").status == 0
    assert len(vendor.records()) == 5


def test_a_missing_database_is_named(vendor: Vendor) -> None:
    elsewhere = vendor.database.rename(vendor.folder / "elsewhere.db")
    message = f"there is no database {vendor.database}"
    hint = "check source.url; `audit-exporter init` makes a sample database"
    assert_stopped(vendor, vendor("run"), 20, message, hint)
    assert not vendor.database.exists()
    elsewhere.rename(vendor.database)
    assert_delivers_once(vendor)


def test_a_folder_in_the_databases_place_is_named(vendor: Vendor) -> None:
    vendor.settings["source"]["url"] = "sqlite:///."
    message, hint = f"{vendor.folder} is not a file", "point source.url at the database file"
    assert_stopped(vendor, vendor("run"), 20, message, hint)


def test_a_file_that_is_no_database_is_named(vendor: Vendor) -> None:
    good = vendor.database.read_bytes()
    vendor.database.write_text("id,created_at\n1,yesterday\n" * 100)
    message = f"{vendor.database} is not a SQLite database"
    assert_stopped(vendor, vendor("run"), 20, message, "point source.url at the database file")
    vendor.database.write_bytes(good)
    assert_delivers_once(vendor)


def test_a_database_that_a_writer_holds_is_read_by_the_next_run(
    vendor: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    defaults = SqliteSource.__init__.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "busy_timeout_s", 0.1)
    with closing(sqlite3.connect(vendor.database, isolation_level=None)) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        message = f"{vendor.database} is locked by a writer"
        hint = "the next run tries again; PRAGMA journal_mode=WAL lets readers and writers work side by side"
        assert_stopped(vendor, vendor("run"), 20, message, hint)
    assert_delivers_once(vendor)


def test_status_says_that_the_last_run_could_not_read_the_source(vendor: Vendor) -> None:
    vendor.settings["source"]["table"] = "audit_logs"
    vendor("run")
    said = vendor("status").out
    assert "stopped: the source has no table 'audit_logs'\n  what to do: did you mean 'audit_log'?\n" in said


def test_times_that_all_cannot_be_read_stop_the_source_before_all_goes_out_as_bad(vendor: Vendor) -> None:
    vendor.execute("UPDATE audit_log SET created_at = '19.11.2026 04:00'")
    for _ in range(6):
        vendor.insert("acme", "19.11.2026 04:00")
    message = (
        "none of the newest 10 records has a readable time in 'created_at': "
        "text such as '19.11.2026 04:00', not canonical text"
    )
    hint = "write times as 2026-11-19T04:00:00Z, or let source.query do so"
    assert_stopped(vendor, vendor("run"), 20, message, hint)
    vendor.execute("UPDATE audit_log SET created_at = ?", f"{START:%Y-%m-%dT%H:%M:%SZ}")
    assert vendor("run").status == 0
    assert vendor.event_ids() == [str(number) for number in range(1, 11)]


# --- Records ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("written", [None, "yesterday", "2026-02-31T00:00:00Z", "2026-11-19T25:00:00Z"])
def test_a_record_whose_time_does_not_parse_goes_out_as_a_bad_one(
    vendor: Vendor, written: str | None
) -> None:
    vendor.insert("acme", written)
    answer = vendor("run")
    assert answer.status == 0
    (bad,) = [record["bad_record"] for record in vendor.records() if "bad_record" in record]
    assert (bad["id"], bad["reason"]) == ("5", "its time cannot be read")
    assert [line["bad"] for line in answer.events("delivered")] == [1, 0]
    assert_delivers_once(vendor, "12345")


def test_a_record_that_cannot_be_rendered_goes_out_as_a_bad_one_with_its_reason(vendor: Vendor) -> None:
    vendor.insert("acme", START, b"caf\xe9")
    assert vendor("run").status == 0
    (bad,) = [record["bad_record"] for record in vendor.records() if "bad_record" in record]
    assert bad["id"] == "5"
    assert "UTF-8" in bad["reason"]
    assert_delivers_once(vendor, "12345")


def test_a_record_that_is_too_long_goes_out_as_a_bad_one(vendor: Vendor) -> None:
    vendor.settings["defaults"]["max_record"] = "1kB"
    vendor.insert("acme", START, "x" * 2_000)
    assert vendor("run").status == 0
    (bad,) = [record["bad_record"] for record in vendor.records() if "bad_record" in record]
    assert (bad["id"], bad["reason"]) == ("5", "longer than 1000 bytes")
    assert_delivers_once(vendor, "12345")


# --- Accounts --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("account", "written"),
    [
        ("../../x", "_2E_2E_2F_2E_2E_2Fx"),
        ("É", "_C3_89"),
        ("E\N{COMBINING ACUTE ACCENT}", "E_CC_81"),
        (".incoming", "_2Eincoming"),
        ("a b/c", "a_20b_2Fc"),
        ("[bold]x[/]", "_5Bbold_5Dx_5B_2F_5D"),
    ],
)
def test_an_odd_account_gets_a_plain_folder_of_its_own_and_never_leaves_the_destination(
    vendor: Vendor, account: str, written: str
) -> None:
    vendor.export(account)
    vendor.insert(account, START)
    answer = vendor("run")
    assert answer.status == 0
    assert account in answer.out
    assert account in vendor("status").out
    name = f"audit/{written}/audit_{written}_{START + DAY:%Y%m%dT%H%M%SZ}.zip"
    assert name in vendor.objects()
    assert {path.name for path in vendor.folder.iterdir() if path.is_dir()} == {"out", "work"}
    assert_delivers_once(vendor, "12345")


def test_an_account_too_long_for_a_name_is_told_so(vendor: Vendor) -> None:
    account = "x" * 300
    vendor.export(account)
    answer = vendor("run")
    line = last_line(vendor, "{")
    message = (
        f"{vendor.config}, line {line}: exports[1].name: is 300 bytes long,"
        " and an export's name may have 200: give it a shorter `name`"
    )
    assert_skipped(answer, account, message, CORRECT)
    assert vendor.event_ids() == list("1234")
    vendor.settings["exports"].pop()
    assert_delivers_once(vendor)


def test_an_account_of_300_bytes_is_refused_by_a_directory_and_holds_up_nobody(vendor: Vendor) -> None:
    account = "x" * 300
    vendor.export(account, name="long")
    vendor.insert(account, START)
    answer = vendor("run")
    message = f"file://{vendor.out} cannot hold names as long as '{account}': 300 bytes, and it takes 255"
    assert_skipped(answer, "long", message, "shorten the account's name, or the prefix")
    assert vendor.event_ids() == list("1234")
    row = vendor.row("long")
    assert (row["state"], row["error"]) == ("skipped", message)
    vendor.assert_nothing_half_made()


# --- The configuration -----------------------------------------------------------------------------


def test_a_zone_that_does_not_exist_is_named_with_the_nearest_and_holds_up_nobody(vendor: Vendor) -> None:
    vendor.export("globex", timezone="Europe/Berln")
    vendor.insert("globex", START)
    answer = vendor("run")
    line = last_line(vendor, '"timezone": "Europe/Berln"')
    message = (
        f"{vendor.config}, line {line}: exports[1].timezone: "
        "there is no time zone 'Europe/Berln'; the nearest names are Europe/Berlin"
    )
    (said,) = answer.events("skipped")
    assert said["error"].startswith(message)
    assert_skipped(answer, "globex", said["error"], said["hint"])
    assert vendor.event_ids() == list("1234")
    vendor.settings["exports"][1]["timezone"] = "Europe/Berlin"
    assert_delivers_once(vendor, "12345")


def test_a_mistyped_key_refuses_the_file_with_its_line_and_the_nearest_key(vendor: Vendor) -> None:
    vendor.settings["ledgr"] = vendor.settings.pop("ledger")
    before = vendor.fingerprint()
    answer = vendor("run")
    line = last_line(vendor, '"ledgr": {')
    message = f"{vendor.config}, line {line}: ledgr: unknown key; did you mean 'ledger'?"
    assert_stopped(vendor, answer, 2, message, CORRECT)
    assert vendor.fingerprint() == before


def test_a_missing_configuration_is_answered_with_how_to_get_one(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "exporter", "status"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "audit-exporter: there is no configuration file audit-exporter.yaml\n"
        "  `audit-exporter init` makes one; `-c FILE` or $AUDIT_EXPORTER_CONFIG names another\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_of_two_exports_with_the_same_object_names_the_newer_is_skipped(vendor: Vendor) -> None:
    message = f"would write the same object names as export 'acme': file://{vendor.out}/audit/acme"
    hint = "give one of them another prefix"
    vendor.settings["exports"].append({**vendor.settings["exports"][0], "name": "again"})
    assert_skipped(vendor("run"), "again", message, hint)
    vendor.settings["exports"].reverse()
    assert_skipped(vendor("run"), "again", message, hint)  # the other one has begun
    vendor.settings["exports"][0]["destination"] = {"type": "directory", "path": "out", "prefix": "again"}
    assert vendor("run").status == 0
    assert vendor.event_ids() == list("11223344")


# --- The ledger ------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["run", "status", "check"])
def test_a_missing_ledger_is_never_replaced_by_an_empty_one(vendor: Vendor, command: str) -> None:
    vendor.ledger.unlink()
    answer = vendor(command)
    assert answer.status == 20
    assert f"there is no ledger at {vendor.ledger}" in answer.err
    assert "an empty ledger in its place would skip or repeat history" in answer.err
    assert "audit-exporter ledger create" in answer.err
    assert not vendor.ledger.exists()
    assert vendor.objects() == {}


def test_a_file_that_is_no_ledger_is_left_as_it_is(vendor: Vendor) -> None:
    vendor.ledger.write_bytes(b"not a ledger" * 1000)
    before = vendor.fingerprint()
    answer = vendor("run")
    (said,) = answer.events("stopped")
    assert answer.status == 20
    assert said["error"] == f"the ledger {vendor.ledger} cannot be used: file is not a database"
    assert vendor.fingerprint() == before


# --- Disks -----------------------------------------------------------------------------------------

LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
from exporter.cli import main
sys.argv[0] = "audit-exporter"
main()
"""
"""A process whose files cannot grow beyond a megabyte: what a full disk is to it, also for root."""


@pytest.fixture
def large(vendor: Vendor) -> Vendor:
    """A window whose archive is larger than a megabyte, and an account whose archive is small."""
    noise = os.urandom(1_500_000).hex()
    vendor.insert("acme", START, noise)
    vendor.export("globex")
    vendor.insert("globex", START)
    return vendor


def test_a_full_workspace_fails_the_export_and_leaves_nothing_half_written(large: Vendor) -> None:
    large.write()
    command = [sys.executable, "-c", LIMITED, "run", "-c", str(large.config)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    answer = Answer(done.returncode, done.stdout, done.stderr)
    (said,) = answer.events("failed")
    assert said["error"].startswith(f"the archive {large.folder}/work/")
    assert said["error"].endswith("/archive cannot be written: File too large")
    hint = "raise this process's limit on file sizes (ulimit -f), or lower part_limit"
    assert_failing(large, answer, "acme", said["error"], hint)
    assert large.event_ids() == ["6"]
    assert_delivers_once(large, "123456")


def test_a_workspace_that_cannot_be_made_stops_the_run(vendor: Vendor) -> None:
    (vendor.folder / "work").write_text("a file")
    answer = vendor("run")
    assert answer.status == 20
    (said,) = answer.events("stopped")
    assert said["error"] == f"the workspace {vendor.folder / 'work'} cannot be written: File exists"
    assert said["hint"] == (
        "make room there or name another folder with the setting `workspace`; nothing was delivered"
    )
    assert vendor.objects() == {}
    assert f"stopped: {said['error']}\n  what to do: {said['hint']}\n" in vendor("status").out
    (vendor.folder / "work").unlink()
    assert_delivers_once(vendor)


@pytest.fixture
def full_disk(vendor: Vendor, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """The destination's file system has no room, as it says when a file is synced; call to make room."""
    sync = os.fsync

    def fsync(descriptor: int) -> None:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    assert vendor.objects() == {}
    return lambda: monkeypatch.setattr(os, "fsync", sync)


def test_a_full_destination_blocks_the_export_and_is_delivered_to_once_there_is_room(
    vendor: Vendor, full_disk: Callable[[], None]
) -> None:
    answer = vendor("run")
    name = f"audit/acme/audit_acme_{START + DAY:%Y%m%dT%H%M%SZ}.zip"
    message = f"cannot write {name}: No space left on device"
    assert_failing(vendor, answer, "acme", message, "free some space on the file system")
    row = vendor.row("acme")
    assert (row["state"], row["blocked"], row["open_plan"]) == ("blocked", True, name)
    assert vendor.objects() == {}
    full_disk()
    waiting = vendor("run")  # it is not yet time for another try
    assert waiting.status == 10
    (said,) = waiting.events("failed")
    assert said["error"].startswith("waits until ")
    assert said["error"].endswith(message)
    assert said["hint"] == "free some space on the file system"
    assert vendor.objects() == {}
    assert vendor("run", "--export", "acme").status == 0
    assert_delivers_once(vendor)


def test_a_destination_that_is_a_file_is_named_and_holds_up_nobody(vendor: Vendor) -> None:
    (vendor.folder / "taken").write_text("a file")
    vendor.export("globex", destination={"type": "directory", "path": "taken/out"})
    answer = vendor("run")
    message = f"the directory {vendor.folder}/taken/out cannot be used: Not a directory"
    assert_skipped(answer, "globex", message, "a file lies where a folder is needed: move it away")
    assert vendor.event_ids() == list("1234")


# --- The command line ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["--export", "amce"], "no export 'amce' is configured", "did you mean acme?"),
        (
            ["--account", "zzz"],
            "no account 'zzz' is configured",
            "see them all with: audit-exporter status",
        ),
        (["--as-of", "soon"], "--as-of: 'soon' is not a time", "write it like '2026-11-01T00:00:00Z'"),
        (
            ["--as-of", "2026-11-01T00:00:00"],
            "--as-of: '2026-11-01T00:00:00' has no offset",
            "write '2026-11-01T00:00:00Z' for UTC, or an offset like +01:00",
        ),
        (
            ["--budget", "10 minutes"],
            "--budget: '10 minutes' is not a time span",
            "write a number and s, m, h or d: '4h'",
        ),
        (
            ["--budget", "0s"],
            "--budget 0s leaves no time to start anything",
            "leave --budget out for no limit",
        ),
    ],
)
def test_a_wrong_argument_is_named_before_anything_is_done(
    vendor: Vendor, words: list[str], message: str, hint: str
) -> None:
    before = vendor.fingerprint()
    assert_stopped(vendor, vendor("run", *words), 2, message, hint)
    assert vendor.fingerprint() == before


def test_a_moment_later_than_the_sources_clock_is_refused(vendor: Vendor) -> None:
    answer = vendor("run", "--as-of", f"{TODAY + 400 * DAY:%Y-%m-%dT%H:%M:%SZ}")
    (said,) = answer.events("stopped")
    assert answer.status == 2
    later = f"--as-of {TODAY + 400 * DAY:%Y-%m-%dT%H:%M:%SZ} is later than the source's clock, "
    assert said["error"].startswith(later)
    assert said["hint"] == (
        "a window can only be sealed once it is over: leave --as-of out, or name an earlier moment"
    )
    assert vendor.objects() == {}


def test_an_error_is_also_the_one_json_document_that_a_machine_asked_for(vendor: Vendor) -> None:
    answer = vendor("run", "--json", "--export", "amce")
    document = json.loads(answer.out)
    assert document["exit_status"] == answer.status == 2
    assert document["error"] == {"error": "no export 'amce' is configured", "hint": "did you mean acme?"}


# --- One style -------------------------------------------------------------------------------------

PRODUCT = Path(exporter.__file__).parent
WORDED_HERE = ("cli", "commands", "config", "report", "starter", "telemetry", "wiring")


def said(path: Path) -> Iterator[str]:
    """Every text in a module that becomes a hint, with `…` for what is filled in."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        hint: ast.AST | None = None
        if isinstance(node, ast.keyword) and node.arg == "hint":
            hint = node.value
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            hint = node.value if node.targets[0].id.lower() == "hint" else None
        if isinstance(hint, ast.Constant | ast.JoinedStr):
            parts = hint.values if isinstance(hint, ast.JoinedStr) else [hint]
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in parts)


@pytest.mark.parametrize("part", WORDED_HERE)
def test_hints_are_written_in_one_style(part: str) -> None:
    """A hint begins with a small letter, has no full stop, and is one sentence with what follows."""
    paths = [PRODUCT / f"{part}.py", *(PRODUCT / part).glob("*.py")]
    hints = [hint for path in paths if path.exists() for hint in said(path)]
    wrong = [hint for hint in hints if hint and (hint[0].isupper() or hint.endswith(".") or ". " in hint)]
    assert wrong == []


def test_there_are_hints_to_look_at() -> None:
    assert sum(len(list(said(path))) for path in PRODUCT.rglob("*.py")) > 60
