"""A vendor's small audit database and its configuration, driven through the command line."""

from __future__ import annotations

import gzip
import hashlib
import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple
from zipfile import ZipFile

from typer.testing import CliRunner

from exporter.cli import app

if TYPE_CHECKING:
    from pathlib import Path

DAY = timedelta(days=1)
TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
START = TODAY - 2 * DAY
"""Where deliveries begin: windows of a day, so that two are due."""

TABLE = """
CREATE TABLE audit_log (
  id INTEGER PRIMARY KEY AUTOINCREMENT, created_at TEXT, account_id TEXT NOT NULL, actor_email TEXT,
  action TEXT, target_id TEXT, summary TEXT, ip_address TEXT)
"""
INSERT = "INSERT INTO audit_log (created_at, account_id, actor_email, action, summary) VALUES (?, ?, ?, ?, ?)"


def rfc3339(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def name_of(account: str, moment: datetime) -> str:
    return f"audit/{account}/audit_{account}_{moment:%Y%m%dT%H%M%SZ}.zip"


def until_first_delivery(process: subprocess.Popen[str]) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        if json.loads(line)["event"] == "delivered":
            return
    raise AssertionError("nothing was delivered")


class Answer(NamedTuple):
    """What a command said, and its exit status."""

    status: int
    out: str
    err: str

    @property
    def log(self) -> list[dict[str, Any]]:
        """Standard error as the JSON lines that it has to be."""
        return [json.loads(line) for line in self.err.splitlines()]

    def events(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.log if line["event"] == event]


@dataclass
class Vendor:
    """A folder with `audit.db`, `ledger.db`, the configuration of both, and the destination `out`."""

    folder: Path
    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder.mkdir(exist_ok=True)
        with closing(sqlite3.connect(self.database)) as connection:
            connection.execute(TABLE)
            connection.execute("CREATE INDEX by_time ON audit_log (account_id, created_at, id)")
        self.settings |= {
            "source": {
                "url": "sqlite:///audit.db",
                "table": "audit_log",
                "columns": {
                    "id": "id",
                    "time": "created_at",
                    "account": "account_id",
                    "email": "actor_email",
                    "action": "action",
                    "description": "summary",
                },
            },
            "ledger": {"url": "sqlite:///ledger.db"},
            "defaults": {"every": "24h", "grace": "0s", "start": rfc3339(START)},
            "workspace": "work",
            "network": {"allow": ["127.0.0.1"]},  # where the servers of tests are, mostly over http
            "exports": [],
        }

    @property
    def database(self) -> Path:
        return self.folder / "audit.db"

    @property
    def ledger(self) -> Path:
        return self.folder / "ledger.db"

    @property
    def config(self) -> Path:
        return self.folder / "audit-exporter.yaml"

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def export(self, account: str, **settings: Any) -> None:  # noqa: ANN401 - any setting
        """Configure one more export."""
        destination = {"type": "directory", "path": "out"}
        self.settings["exports"].append({"account": account, "destination": destination} | settings)

    def insert(self, account: str, moment: datetime | str | None, summary: str | bytes = "") -> None:
        """Write one record."""
        written = rfc3339(moment) if isinstance(moment, datetime) else moment
        values = [written, account, "ada@acme.example", "Login", summary]
        statement = INSERT
        if isinstance(summary, bytes):  # as text, whatever bytes it has
            statement = INSERT.replace("?, ?)", "?, CAST(? AS TEXT))")
        self.execute(statement, *values)

    def execute(self, statement: str, *values: object) -> None:
        with closing(sqlite3.connect(self.database)) as connection, connection:
            connection.execute(statement, values)

    def start(self) -> None:
        """Write the configuration and make the ledger."""
        assert self("ledger", "create").status == 0

    def write(self) -> None:
        self.config.write_text(json.dumps(self.settings, indent=1), encoding="utf-8")

    def __call__(self, *words: str) -> Answer:
        """One command, in this process, with the configuration as it is now."""
        self.write()
        result = CliRunner().invoke(app, [*words, "-c", str(self.config)], catch_exceptions=False)
        return Answer(result.exit_code, result.stdout, result.stderr)

    def spawn(self, *words: str) -> subprocess.Popen[str]:
        """One command in a process of its own, which waits whenever its log is not read for a few lines."""
        self.write()
        command = [sys.executable, "-m", "exporter", *words, "-c", str(self.config)]
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, pipesize=4096, text=True
        )

    def objects(self) -> dict[str, bytes]:
        """Every delivered object's one member, by object name in order."""
        names = sorted(path for path in self.out.glob("**/audit_*") if path.is_file())
        return {str(path.relative_to(self.out)): content(path) for path in names}

    def records(self) -> list[dict[str, Any]]:
        """Every delivered record, in the order of the objects' names."""
        return [json.loads(line) for data in self.objects().values() for line in data.splitlines()]

    def event_ids(self) -> list[str]:
        """What says whether every record came exactly once."""
        return sorted(
            (record.get("Event ID") or record["bad_record"]["id"] for record in self.records()), key=int
        )

    def row(self, export: str) -> dict[str, Any]:
        """What `status --json` says of one export."""
        (row,) = json.loads(self("status", "--export", export, "--json").out)["exports"]
        assert isinstance(row, dict)
        return row

    def fingerprint(self) -> dict[str, str]:
        """Every file there is, but the configuration, with a hash of its content."""
        return {
            str(path.relative_to(self.folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            if path.is_file()
            else "folder"
            for path in sorted(self.folder.rglob("*"))
            if path not in (self.config, self.folder / "work")
        }

    def assert_nothing_half_made(self) -> None:
        """The workspace is empty, and outside of whole objects there is nothing in the destination."""
        assert list((self.folder / "work").glob("*")) == []
        strays = [path for path in self.out.rglob("*") if path.is_file() and ".incoming" in path.parts]
        assert strays == []
        self.objects()


def content(path: Path) -> bytes:
    """The one member of an archive."""
    if path.suffix == ".gz":
        return gzip.decompress(path.read_bytes())
    with ZipFile(path) as archive:
        (member,) = archive.namelist()
        return archive.read(member)
