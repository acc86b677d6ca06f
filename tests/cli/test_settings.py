"""Where exports come from, and that no secret gets out."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from exporter.cli import app
from exporter.destinations.s3.store import S3Store
from tests.kit.command_line import START, Vendor

CANARY = "hunter2canary"


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
    vendor.settings["exports_from"] = {"files": "exports.d/*.yaml", "query": query, "folder": "."}
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
    monkeypatch.setattr("exporter.commands.delivery.Options.watched", watched)
    answer = secretive("run")
    assert "KeyError: 1" in answer.err
    assert (
        "Not delivered: keys: internal error: KeyError\n  please report it with the traceback" in answer.out
    )
    assert CANARY not in answer.out + answer.err
    assert CANARY.encode() not in everything_kept(secretive)


@pytest.mark.parametrize("part", ["source", "ledger"])
@pytest.mark.parametrize(
    ("url", "statuses"),
    [
        (f"oracle://audit:{CANARY}@db/audit", {2}),
        (f"sqlite:{CANARY}", {2}),
        ({"env": "AUDIT_EXPORTER_TEST_SECRET"}, {2}),
        (f"postgresql://audit:x@{CANARY}@127.0.0.1:1/audit", {2}),
        (f"postgresql://audit:{CANARY}@127.0.0.1:1/audit", {20, 0}),  # `status` asks no source
        (f"mysql://audit:{CANARY}@127.0.0.1:1/audit", {20, 2, 0}),  # it cannot be a ledger
    ],
)
@pytest.mark.parametrize("command", ["run", "status", "check"])
def test_no_message_shows_the_address_of_a_database(
    secretive: Vendor, part: str, url: object, statuses: set[int], command: str
) -> None:
    """Whether it is understood or not, and whether anybody answers there or not."""
    secretive.settings[part]["url"] = url
    answer = secretive(command)
    assert answer.status in (statuses - {0} if part == "ledger" or command != "status" else statuses)
    assert CANARY not in answer.out + answer.err


# --- The program itself ----------------------------------------------------------------------------


def test_help_lists_every_command_of_the_first_day() -> None:
    said = CliRunner().invoke(app, ["--help"]).stdout
    for command in ("init", "run", "backfill", "replay", "status", "check", "schema", "pause", "resume"):
        assert f"  {command} " in said


def test_an_unknown_option_is_a_mistake_in_the_arguments(vendor: Vendor) -> None:
    assert vendor("run", "--frobnicate").status == 2
