"""How a process starts: what it loads for what it does, and what is left alone while it does so.

Most runs find nothing to do, every quarter of an hour: what they load is what they cost.
"""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.kit.command_line import START, Vendor, rfc3339

if TYPE_CHECKING:
    from pathlib import Path

CALL: Final = """
import gc, json, pathlib, sys
from exporter.cli import main
state = pathlib.Path(sys.argv.pop(1))
try:
    main()
finally:
    found = {"loaded": sorted(sys.modules), "collects": gc.isenabled(), "frozen": gc.get_freeze_count()}
    state.write_text(json.dumps(found))
"""

SDKS: Final = {"azure", "boto3", "botocore", "cryptography", "google", "msal", "requests", "urllib3"}
SERVERS: Final = {"psycopg", "psycopg_binary", "pymysql"}
RETRIES: Final = {"stamina", "tenacity", "asyncio"}
FOR_PEOPLE: Final = {"rich", "pygments", "markdown_it", "structlog", "attr"}
FOR_SERVERS: Final = {
    *("exporter.sources.postgres", "exporter.sources.mysql", "exporter.libpq"),
    *("exporter.ledger.postgres", "exporter.ledger.postgres_connection", "exporter.ledger.postgres_errors"),
}
ONCE: Final = {"exporter.ledger.migrations"}
"""What makes a ledger, or brings it up to date: no run does."""

OTHER_KINDS: Final = {f"exporter.destinations.{kind}" for kind in ("s3", "gcs", "azure", "splunk_hec")}
FOR_RECORDS: Final = {
    *("exporter.sources.sqlite", "exporter.formats.compiled", "exporter.formats.mapping"),
    *("exporter.ledger.group", "exporter.ledger.bulk"),
}


def state_after(vendor: Vendor, *words: str) -> dict[str, Any]:
    """What a process has loaded at its end, and how it treats garbage; it has to succeed."""
    vendor.write()
    state = vendor.folder / "state.json"
    command = [sys.executable, "-c", CALL, str(state), *words, "-c", str(vendor.config)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(state.read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return found


def loaded(vendor: Vendor, *words: str) -> set[str]:
    """The modules that a process has loaded at its end, and the packages that they are of."""
    names = state_after(vendor, *words)["loaded"]
    return {*names, *(name.partition(".")[0] for name in names)}


@pytest.fixture
def vendor(tmp_path: Path) -> Vendor:
    """Two accounts with a record in the first of their windows, and nothing delivered."""
    made = Vendor(tmp_path)
    for account in ("acme", "globex"):
        made.export(account)
        made.insert(account, START + timedelta(hours=1))
    made.start()
    return made


def test_a_run_with_nothing_due_loads_what_it_looks_with_and_no_more(vendor: Vendor) -> None:
    """No client of a server, nothing that reads records, nothing that makes tables and colours for people."""
    assert vendor("run").status == 0
    found = loaded(vendor, "run")
    assert found & (SDKS | SERVERS | FOR_SERVERS | FOR_PEOPLE | OTHER_KINDS | ONCE) == set()
    assert found & (FOR_RECORDS | RETRIES | {"exporter.notation.described"}) == set()


def test_a_run_from_sqlite_to_a_directory_loads_no_client_of_a_server(vendor: Vendor) -> None:
    """What is said of it at the end is a table, which for a file takes nothing that makes colours either."""
    found = loaded(vendor, "run")
    assert found & (SDKS | SERVERS | FOR_SERVERS | FOR_PEOPLE | OTHER_KINDS | ONCE) == set()
    assert found >= FOR_RECORDS  # these are the names that the test above speaks of
    assert len(vendor.records()) == 2


def test_an_answer_to_a_machine_loads_nothing_for_people(vendor: Vendor) -> None:
    assert loaded(vendor, "run", "--json") & FOR_PEOPLE == set()
    assert loaded(vendor, "status", "--json") & FOR_PEOPLE == set()


def test_help_on_a_command_loads_nothing_that_the_command_works_with(vendor: Vendor) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "exporter", "run", "--help"],
        cwd=vendor.folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    names = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    packages = {name.partition(".")[0] for name in names}
    heavy = {"sqlite3", "orjson", "yaml", "asyncio", "exporter.config"}
    assert packages & (SDKS | SERVERS | FOR_PEOPLE | heavy) == set()


def test_garbage_is_collected_while_work_is_done_and_not_while_starting(
    vendor: Vendor,
) -> None:
    """What starting has made is left out of every collection; what work makes is collected as ever."""
    found = state_after(vendor, "run")
    assert found["collects"]
    assert found["frozen"] > 0


PLUGIN: Final = """
import pathlib
class Plugin:
    def new_schema_validator(self, *_):
        pathlib.Path(__file__).with_name("told").touch()
        return None, None, None
plugin = Plugin()
"""


def test_no_plugin_is_told_what_a_setting_has(vendor: Vendor, monkeypatch: pytest.MonkeyPatch) -> None:
    """pydantic would give every value, secrets among them, to whatever is installed and asks for it."""
    about = vendor.folder / "nosy-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: nosy\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[pydantic]\nnosy = nosy:plugin\n")
    (vendor.folder / "nosy.py").write_text(PLUGIN)
    monkeypatch.setenv("PYTHONPATH", str(vendor.folder), prepend=":")
    monkeypatch.delenv("PYDANTIC_DISABLE_PLUGINS", raising=False)
    state_after(vendor, "status", "--json")
    assert not (vendor.folder / "told").exists()
    validate = "import pydantic\nclass Settings(pydantic.BaseModel):\n    token: str\nSettings(token='t')"
    subprocess.run([sys.executable, "-c", validate], timeout=60, check=True)
    assert (vendor.folder / "told").exists()


def test_a_run_at_a_time_when_nothing_is_due_says_so_in_a_line(vendor: Vendor) -> None:
    assert vendor("run", "--as-of", rfc3339(START)).out == "Nothing was due.\n"
    assert vendor("run", "--as-of", rfc3339(START), "--dry-run").out == "Nothing would be delivered.\n"
