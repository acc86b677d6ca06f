"""What `run` does, prints and answers: on a terminal, in a pipe, as JSON."""

from __future__ import annotations

import gzip
import io
import json
import os
import pty
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import datetime, timedelta
from itertools import count
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from exporter.destinations.directory import DirectoryStore
from exporter.destinations.object_store import ObjectStoreDestination
from exporter.model import Rendering
from exporter.telemetry import logs
from exporter.telemetry.progress import ProgressObserver
from tests.cli.conftest import MANY
from tests.kit.command_line import DAY, START, TODAY, Answer, Vendor, name_of, rfc3339, until_first_delivery

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


CANARY = "hunter2canary"


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


@pytest.mark.parametrize(
    ("body", "suffix", "records"),
    [
        ("ndjson", ".jsonl.gz", lambda text: [json.loads(line) for line in text.splitlines()]),
        ("json_array", ".json.gz", json.loads),
    ],
)
def test_a_gzip_file_is_called_what_it_is(
    vendor: Vendor, body: str, suffix: str, records: Callable[[str], list[dict[str, str]]]
) -> None:
    """A reader goes by the name: lines of JSON are `.jsonl`, and one array is `.json`."""
    vendor.settings["exports"][0] |= {"archive": "gzip", "body": body}
    found = [line["object"] for line in vendor("run").events("delivered")]
    assert found == [name_of("acme", moment).replace(".zip", suffix) for moment in (START + DAY, TODAY)]
    texts = [gzip.decompress((vendor.out / name).read_bytes()).decode() for name in found]
    assert [one["Event ID"] for text in texts for one in records(text)] == list("1234")


def test_a_plan_of_before_keeps_the_name_that_it_was_given(vendor: Vendor) -> None:
    """An array that was planned as `.jsonl.gz` may have landed as that; the next one grows from there."""
    vendor.settings["exports"][0] |= {"archive": "gzip", "body": "json_array"}
    vendor.out.mkdir()
    (vendor.out / "audit").write_text("a file where a folder is needed")
    assert vendor("run").status == 10
    with closing(sqlite3.connect(vendor.ledger)) as connection, connection:
        connection.execute("UPDATE plans SET name = replace(name, '.json.gz', '.jsonl.gz')")
    (vendor.out / "audit").unlink()
    found = [line["object"] for line in vendor("run", "--export", "acme").events("delivered")]
    assert found == [
        name_of("acme", START + DAY).replace(".zip", ".jsonl.gz"),
        name_of("acme", TODAY).replace(".zip", ".json.gz"),
    ]
    assert found == sorted(found)
    assert [len(json.loads(gzip.decompress((vendor.out / name).read_bytes()))) for name in found] == [2, 2]


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


def test_a_log_line_is_one_json_object_whatever_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    """Its values as they were given, with level and time in UTC; of an exception the traceback, too."""
    with pytest.raises(ValueError, match="line one") as failure:
        int("line one\nline two \ud83d é")
    logs.log().error("failed", export="a\nb \ud83d", count=3, what={"x"}, exc_info=failure.value)
    (line,) = capsys.readouterr().err.splitlines()
    said = json.loads(line)
    assert list(said) == ["export", "count", "what", "event", "level", "time", "exception"]
    assert (said["export"], said["count"], said["what"]) == ("a\nb \ud83d", 3, "{'x'}")
    assert (said["event"], said["level"]) == ("failed", "error")
    assert datetime.fromisoformat(said["time"]).utcoffset() == timedelta(0)
    assert said["time"].endswith("Z")
    assert said["exception"].startswith("Traceback (most recent call last):\n")
    assert "int(" in said["exception"]
    assert said["exception"].endswith(str(failure.value))


def test_a_log_knows_three_levels(capsys: pytest.CaptureFixture[str]) -> None:
    log = logs.log()
    log.info("a")
    log.warning("b")
    log.error("c")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["event"], line["level"]) for line in lines] == [
        ("a", "info"),
        ("b", "warning"),
        ("c", "error"),
    ]


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


@pytest.mark.parametrize(
    ("archive", "said"), [("zip", "1 objects  7 records"), ("events", "1 deliveries  7 records")]
)
def test_a_bar_calls_events_no_objects(archive: str, said: str) -> None:
    file = io.StringIO()
    one: Any = SimpleNamespace(name="acme")
    delivered: Any = SimpleNamespace(
        plan=SimpleNamespace(rendering=Rendering("native", None, archive)), content=SimpleNamespace(count=7)
    )
    with ProgressObserver(Console(file=file, force_terminal=True, width=120)) as observer:
        observer.delivered(one, delivered)
    assert said in file.getvalue()


def test_a_terminal_shows_an_error_once_and_as_text(vendor: Vendor) -> None:
    vendor.settings["source"]["table"] = "audit_logs"
    answer = on_a_terminal(vendor, "run")
    assert answer.status == 20
    assert answer.out.count("audit-exporter: the source has no table 'audit_logs'\n") == 1
    assert "  did you mean 'audit_log'?\n" in answer.out
