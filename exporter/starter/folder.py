"""The folder that ``init`` leaves behind: the source database and the configuration, both or none.

Everything is built under a temporary name beside the folder's place and moved there when it is whole.
Must never replace a file, know where the records come from, or create a ledger.
"""

from __future__ import annotations

import sqlite3
import tempfile
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import yaml

from exporter.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

DATABASE = "audit.db"
CONFIG = "audit-exporter.yaml"
LEDGER = "ledger.db"
# SQLite takes files of these names for a database's own, and would play them back into a new one.
LEFTOVERS = tuple(f"{name}-{end}" for name in (DATABASE, LEDGER) for end in ("journal", "wal", "shm"))

COLUMNS = ("created_at", "actor_email", "action", "target_id", "summary", "ip_address")
"""The columns that hold what a record says of itself, in the table's order."""

Row: TypeAlias = "tuple[str | None, ...]"
"""One record: its account, the values of ``COLUMNS``, its original as JSON text."""

TABLE = """
CREATE TABLE audit_log (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  created_at TEXT NOT NULL,
  account_id TEXT NOT NULL,
  actor_email TEXT,
  action TEXT,
  target_id TEXT,
  summary TEXT,
  ip_address TEXT,
  original JSON
)
"""
INDEXES = (
    "CREATE INDEX audit_log_by_time ON audit_log (account_id, created_at, id)",
    "CREATE INDEX audit_log_by_account ON audit_log (account_id)",  # the rowid at its end serves late records
)
INSERT = """
INSERT INTO audit_log
  (account_id, created_at, actor_email, action, target_id, summary, ip_address, original)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""


@dataclass(frozen=True, slots=True)
class Account:
    """One account of the new database."""

    name: str
    timezone: str
    records: int


@dataclass(frozen=True, slots=True)
class Filled:
    """Which paths of a file's records fed one column, for how many records each, most first."""

    paths: tuple[tuple[str, int], ...]
    missing: int  # records without any


@dataclass(frozen=True, slots=True)
class FileReport:
    """What became of one file of records.

    ``lines`` is the number of the last record's line. ``zoneless`` is how many times had no offset and
    were taken as UTC. ``borrowed`` is how many records had no readable time and took a neighbour's; if
    no record had one, there was no neighbour to take it from. ``future`` is how many records have a time
    later than now. ``by_shape`` are the columns that no known name fed, only what values look like.
    ``passed_over`` are the fields with a time's name or a time's shape, but not both, in records without
    a time of their own.
    """

    path: Path
    account: str
    lines: int
    records: int
    columns: Mapping[str, Filled]
    zoneless: int
    borrowed: int
    future: int
    by_shape: tuple[str, ...]
    passed_over: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Contents:
    """What a new database holds; ``start`` is where the deliveries begin."""

    start: datetime
    format: str
    accounts: tuple[Account, ...]
    files: tuple[FileReport, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Created:
    """What ``init`` made. ``notes`` are sentences about what was assumed."""

    database: Path
    config: Path
    accounts: tuple[Account, ...]
    files: tuple[FileReport, ...]
    notes: tuple[str, ...]


def create(folder: Path, fill: Callable[[sqlite3.Connection], Contents]) -> Created:
    """Make the folder's database, with what ``fill`` inserts, and the configuration that fits it.

    Raises ConfigError if one of them, or a ledger, is there already or cannot be written; then nothing has
    changed.
    """
    try:
        _refuse_to_replace(folder)
        with tempfile.TemporaryDirectory(
            prefix=".audit-exporter-", dir=_nearest_existing(folder)
        ) as building:
            database, config = Path(building, DATABASE), Path(building, CONFIG)
            contents = _build(database, fill)
            config.write_text(configuration(contents), encoding="utf-8")
            _move(folder, database, config)
    except (OSError, sqlite3.Error) as error:
        raise ConfigError(
            f"{folder}: the new database cannot be written here: {error}",
            hint="name a folder that can be written to, on a disk with room",
        ) from error
    return Created(folder / DATABASE, folder / CONFIG, contents.accounts, contents.files, contents.notes)


def insert(connection: sqlite3.Connection, rows: Iterable[Row]) -> None:
    """Add records in this order, one at a time in memory."""
    connection.executemany(INSERT, rows)


def midnight(moment: datetime) -> datetime:
    """The beginning of a moment's day in UTC."""
    return moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def canonical(moment: datetime) -> str:
    """A moment as ``created_at`` keeps it."""
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"


def configuration(contents: Contents) -> str:
    """The configuration of a new folder as YAML, with comments for somebody who has never seen one."""
    exports = "\n".join(_export(account) for account in contents.accounts)
    return TEMPLATE.format(
        ledger=LEDGER,
        start=f"{contents.start:%Y-%m-%dT%H:%M:%SZ}",
        format=contents.format,
        exports=exports,
    )


def _export(account: Account) -> str:
    name, timezone = _scalar(account.name), _scalar(account.timezone)
    return f"  - account: {name}\n    timezone: {timezone}\n    destination: {{type: directory, path: ./out}}"


def _scalar(text: str) -> str:
    """A text as YAML reads it back: quoted when it would mean something else without."""
    listed = yaml.safe_dump([text], default_flow_style=True, allow_unicode=True, width=10**9)
    return listed.strip()[1:-1]


def _refuse_to_replace(folder: Path) -> None:
    if (folder / DATABASE).exists() and not (folder / CONFIG).exists():
        raise ConfigError(
            f"{folder / DATABASE} exists already, without {CONFIG}",
            hint="if an `init` that was killed left it, delete it, and the folder .audit-exporter-* that "
            "it was built in, and run `init` again; if it is yours, name another folder",
        )
    for name in (DATABASE, CONFIG, LEDGER, *LEFTOVERS):
        if (folder / name).exists():
            raise ConfigError(
                f"{folder / name} exists already",
                hint="`init` replaces nothing: name another folder, or move the file away first",
            )


def _nearest_existing(folder: Path) -> Path:
    return next(place for place in (folder, *folder.absolute().parents) if place.exists())


def _build(database: Path, fill: Callable[[sqlite3.Connection], Contents]) -> Contents:
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("BEGIN")
        connection.execute(TABLE)
        contents = fill(connection)
        for index in INDEXES:
            connection.execute(index)
        connection.execute("COMMIT")
    return contents


def _move(folder: Path, database: Path, config: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    _refuse_to_replace(folder)  # again: filling took a while
    database.rename(folder / DATABASE)
    # Last: where there is a configuration, there is a whole database. Without one, `init` says what to do.
    try:
        config.rename(folder / CONFIG)
    except OSError:
        (folder / DATABASE).unlink()
        raise


TEMPLATE = """\
# What audit-exporter delivers, when, and where to. `audit-exporter init` wrote this file; it is yours
# to change. Paths are relative to this file. `audit-exporter schema` describes every setting there is.

# Where the audit records are. audit-exporter only ever reads here.
source:
  url: sqlite:///audit.db
  table: audit_log
  columns: # what it needs to know: the name of your column
    id: id # grows with every record
    time: created_at # when it happened, in UTC
    account: account_id # whose record it is
    email: actor_email # who did it
    action: action # what was done: Login, Export, ...
    action_id: target_id # what it was done to
    description: summary
    ip_address: ip_address # where it came from

# Where audit-exporter remembers what it has delivered. Keep it: without it nobody knows.
ledger:
  url: sqlite:///{ledger}

# What holds for every export below that does not say otherwise.
defaults:
  every: 4h # one file for every four hours, on the account's own clock
  start: {start} # records from here on are delivered
  timezone: UTC
  format: {format} # how a record is written: `audit-exporter formats` lists how

# One export for each account: its records, delivered to its own storage, here a folder on this machine.
# A bucket looks like this:
#   destination: {{type: s3, bucket: acme-audit, region: us-east-1}}
exports:
{exports}
"""
