"""Where a process lives and dies: a source, a ledger, a workspace and a store, all of them real.

It arranges, runs commands and looks; what has to be true is in ``promises``.
"""

from __future__ import annotations

import hashlib
import shutil
import signal
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, Protocol

import yaml

from tests.crash.child import Life, Nursery
from tests.crash.ledgers import SqliteFile

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mypy_boto3_s3 import S3Client

    from tests.crash.ledgers import LedgerPlace
    from tests.crash.steps import Step

BEGIN: Final = datetime(2025, 3, 1, tzinfo=UTC)
ACCOUNTS: Final = ("acme", "globex")
LONGEST_RECORD_BYTES: Final = 2_000
PART_LIMIT_BYTES: Final = 1_300
PROBES: Final = ".audit-exporter-check/"  # a store other than Amazon's is asked what it replaces
UNREADABLE: Final = "the day before yesterday"

TABLE = """
CREATE TABLE audit_log (
  id INTEGER PRIMARY KEY AUTOINCREMENT, created_at TEXT, account_id TEXT, actor_email TEXT, summary TEXT
);
CREATE INDEX by_time ON audit_log (account_id, created_at, id);
CREATE INDEX by_account ON audit_log (account_id);
"""


@dataclass(frozen=True)
class New:
    """Some records that appear at once: when they happened, in minutes after the begin; None: unreadable."""

    account: str
    minutes: tuple[int | None, ...]
    summary_bytes: int = 300


class Place(Protocol):
    """A store as a customer sees it."""

    settings: Mapping[str, object]

    def objects(self) -> dict[str, bytes]:
        """Everything that lies under the names of records, by its name."""
        ...

    def reset(self, objects: Mapping[str, bytes]) -> None:
        """Hold exactly these objects."""
        ...


class Directory:
    """A folder."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.settings: Mapping[str, object] = {"type": "directory", "path": str(root)}

    def objects(self) -> dict[str, bytes]:
        files = (path for path in (self._root / "audit").rglob("*") if path.is_file())
        return {str(path.relative_to(self._root)): path.read_bytes() for path in files}

    def reset(self, objects: Mapping[str, bytes]) -> None:
        shutil.rmtree(self._root, ignore_errors=True)
        for name, data in objects.items():
            self.plant(name, data)

    def plant(self, name: str, data: bytes) -> None:
        """An object that somebody else puts there."""
        path = self._root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


class Bucket:
    """A bucket; the exporter's way there is ``url``, this one's its own."""

    def __init__(self, client: S3Client, bucket: str, url: str, keys: tuple[str, str]) -> None:
        self._client = client
        self._bucket = bucket
        self.settings: Mapping[str, object] = {
            "type": "s3",
            "bucket": bucket,
            "region": "us-east-1",
            "endpoint_url": url,
            "path_style": True,
            "access_key_id": keys[0],
            "secret_access_key": keys[1],
        }

    def _names(self) -> list[str]:
        found = self._client.list_objects_v2(Bucket=self._bucket).get("Contents", [])
        return [one["Key"] for one in found]

    def objects(self) -> dict[str, bytes]:
        return {
            name: self._client.get_object(Bucket=self._bucket, Key=name)["Body"].read()
            for name in self._names()
            if not name.startswith(PROBES)
        }

    def reset(self, objects: Mapping[str, bytes]) -> None:
        for name in set(self._names()) - set(objects):
            self._client.delete_object(Bucket=self._bucket, Key=name)
        for name in set(objects) - set(self._names()):
            self._client.put_object(Bucket=self._bucket, Key=name, Body=objects[name])


class World:
    """One vendor with two customers, on one machine."""

    def __init__(
        self,
        folder: Path,
        place: Place,
        nursery: Nursery,
        every: str = "1h",
        ledger: LedgerPlace | None = None,
        part_limit_bytes: int = PART_LIMIT_BYTES,
    ) -> None:
        self.folder = folder
        self.place = place
        self.source = folder / "audit.db"
        self.ledger = ledger or SqliteFile(folder / "ledger.db")
        self.workspace = folder / "workspace"
        self.config = folder / "audit-exporter.yaml"
        self.log = folder / "log"
        self.mutant: str | None = None
        self._nursery = nursery
        self._saved: tuple[bytes, dict[str, bytes]] = (b"", {})
        folder.mkdir()
        self.config.write_text(yaml.safe_dump(self._settings(every, part_limit_bytes)))
        with closing(sqlite3.connect(self.source)) as connection:
            connection.executescript(TABLE)
        assert self.run("ledger", "create") == 0, self.said()

    def _settings(self, every: str, part_limit_bytes: int) -> dict[str, object]:
        return {
            "source": {
                "url": "sqlite:///audit.db",
                "table": "audit_log",
                "columns": {
                    "id": "id",
                    "time": "created_at",
                    "account": "account_id",
                    "email": "actor_email",
                    "description": "summary",
                },
            },
            "ledger": {"url": self.ledger.url},
            "workspace": "workspace",
            "network": {"allow": ["127.0.0.1"]},
            "defaults": {
                "every": every,
                "start": f"{BEGIN:%Y-%m-%dT%H:%M:%SZ}",
                "part_limit": part_limit_bytes,
                "max_record": LONGEST_RECORD_BYTES,
            },
            "exports": [{"account": name, "destination": dict(self.place.settings)} for name in ACCOUNTS],
        }

    # --- what happens --------------------------------------------------------------------------------

    def appear(self, *news: New) -> None:
        """Records are written by the application."""
        with closing(sqlite3.connect(self.source)) as connection, connection:
            for new in news:
                for minutes in new.minutes:
                    (number,) = connection.execute("SELECT count(*) FROM audit_log").fetchone()
                    row = (_time(minutes), new.account, f"{number}@example.com")
                    connection.execute(
                        "INSERT INTO audit_log (created_at, account_id, actor_email, summary)"
                        " VALUES (?, ?, ?, ?)",
                        (*row, _noise(number, new.summary_bytes)),
                    )

    def start(
        self,
        *arguments: str,
        fatal: Step | None = None,
        signal_number: int = signal.SIGKILL,
        report: Path | None = None,
    ) -> int:
        """A process with this command line, which may get a signal at a step; the id to `wait` for."""
        life = Life(
            arguments=(*arguments, "-c", str(self.config)),
            folder=str(self.folder),
            log=str(self.log),
            fatal=fatal,
            signal=signal_number,
            report=None if report is None else str(report),
            mutant=self.mutant,
        )
        return self._nursery.start(life)

    def wait(self, process_id: int) -> int:
        """How a process ended or, for the time being, stopped; below zero: by which signal."""
        return self._nursery.wait(process_id)

    def run(self, *arguments: str, fatal: Step | None = None, report: Path | None = None) -> int:
        """A process from its start to its end."""
        return self.wait(self.start(*arguments, fatal=fatal, report=report))

    def said(self) -> str:
        """What all processes wrote so far, for the message of a failing test."""
        return self.log.read_text() if self.log.exists() else ""

    # --- back to an earlier moment -------------------------------------------------------------------

    def save(self) -> None:
        """Remember everything, between two processes."""
        self.ledger.save()
        self._saved = (self.source.read_bytes(), self.place.objects())

    def restore(self) -> None:
        """Everything is as it was saved."""
        source, objects = self._saved
        for path in self.folder.glob(f"{self.source.name}-*"):
            path.unlink()
        self.source.write_bytes(source)
        self.ledger.restore()
        shutil.rmtree(self.workspace, ignore_errors=True)
        self.log.unlink(missing_ok=True)
        self.place.reset(objects)


def run_at(hour: int) -> tuple[str, ...]:
    """Deliver what is due two minutes after this hour."""
    moment = BEGIN + timedelta(hours=hour, minutes=2)
    return ("run", "--json", "--workers", "1", "--as-of", f"{moment:%Y-%m-%dT%H:%M:%SZ}")


def _time(minutes: int | None) -> str:
    return UNREADABLE if minutes is None else f"{BEGIN + timedelta(minutes=minutes):%Y-%m-%dT%H:%M:%S.%fZ}"


def _noise(seed: int, size: int) -> str:
    """Text that does not compress, so that some objects are large enough to go in parts."""
    blocks = (hashlib.sha256(f"{seed}/{block}".encode()).hexdigest() for block in range(size // 64 + 1))
    return "".join(blocks)[:size]
