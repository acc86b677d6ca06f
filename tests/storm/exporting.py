"""The product at work in a storm: real command lines, sometimes two at a time, sometimes killed.

Each run is a fork of a process that has everything loaded, which then calls `exporter.cli` once, as it is;
the last ones are processes from scratch. A consumer looks at what appears, as a customer's SIEM would.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from importlib import import_module
from multiprocessing import parent_process
from typing import TYPE_CHECKING, Any, Final

from tests.storm.mutants import MUTANTS
from tests.storm.records import ACCOUNTS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from multiprocessing.synchronize import Event
    from pathlib import Path

    from tests.storm.sessions import Variant

PRELOADED: Final = (
    "exporter.cli",
    "exporter.commands.deliver",
    "exporter.destinations.directory",
    "exporter.ledger.sql",
    "exporter.report.run",
    "exporter.telemetry.logs",
)
ROLES: Final = {
    "id": "id",
    "time": "created_at",
    "account": "account_id",
    "email": "actor_email",
    "action": "action",
    "action_id": "target_id",
    "description": "summary",
    "ip_address": "ip_address",
}
TWO_AT_ONCE: Final = 0.4
KILLED: Final = 0.5
PAUSE_S: Final = 0.4
QUIET_TURNS: Final = 2
LAST_TRIES: Final = 5


@dataclass(frozen=True)
class Plot:
    """What a storm meets: how long windows are, which defect exporters have, whether the server dies.

    The windows of an exporter that looks at every row for each of them are ``longer_scans`` times as long.
    """

    every_s: int = 1
    longer_scans: int = 1
    part_limit: str = "16KiB"
    mutant: str = ""
    crash: Callable[[], None] | None = None


@dataclass(frozen=True)
class Export:
    """One account's export; its objects lie in a folder of their own."""

    name: str
    account: str
    every_s: int = 1
    grace_s: int = 0
    part_limit: str = "1GiB"

    def end(self, moment: datetime) -> datetime:
        """The end of the last window that is due at a moment."""
        last = int(moment.timestamp()) - self.grace_s
        return datetime.fromtimestamp(last - last % self.every_s, UTC)


def exports(every_s: int, part_limit: str) -> list[Export]:
    """One for each account, the last in parts, and a second one with longer windows for the busiest."""
    made = [Export(account, account, every_s) for account in ACCOUNTS]
    made[-1] = Export(made[-1].name, made[-1].account, every_s, part_limit=part_limit)
    return [*made, Export("acme again", "acme", 2 * every_s, grace_s=1)]


@dataclass(frozen=True)
class Place:
    """A folder with a configuration, and the objects under `out`."""

    folder: Path
    name: str
    exports: Sequence[Export]
    start: datetime
    preload: Sequence[str] = ()
    mutant: str = ""

    @property
    def config(self) -> Path:
        return self.folder / "audit-exporter.yaml"

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def objects_of(self, export: Export) -> Path:
        """Where one export's objects appear."""
        return self.folder / "out" / export.name.replace(" ", "_")

    def settings(self) -> dict[str, Any]:
        """The configuration as it was written."""
        settings: dict[str, Any] = json.loads(self.config.read_text())
        return settings

    def command(self, *words: str) -> int:
        """A command in a process from scratch; its exit status."""
        line = [sys.executable, "-m", "exporter", *words, "-c", str(self.config)]
        with self.log.open("ab") as log:
            return subprocess.run(line, stdout=log, stderr=log, check=False).returncode


def prepared(folder: Path, variant: Variant, plot: Plot, start: datetime) -> Place:
    """A place whose exports have begun, with all there is before the storm sealed."""
    every_s = plot.every_s * (plot.longer_scans if variant.scans else 1)
    preload = (*PRELOADED, *variant.preload)
    place = Place(folder, variant.name, exports(every_s, plot.part_limit), start, preload, plot.mutant)
    folder.mkdir()
    place.config.write_text(json.dumps(_settings(place, variant), indent=1))
    assert place.command("ledger", "create") == 0, place.log.read_text()
    assert place.command("run", "--as-of", _text(start)) == 0, place.log.read_text()
    return place


def _settings(place: Place, variant: Variant) -> dict[str, object]:
    source = dict(variant.source)
    columns = source.pop("columns", {})
    assert isinstance(columns, dict)
    return {
        "source": {"table": "audit_log", **source, "columns": {**ROLES, **columns}},
        "ledger": variant.ledger,
        "workspace": "workspace",
        "defaults": {"start": _text(place.start)},
        "exports": [
            {
                "account": one.account,
                "name": one.name,
                "every": f"{one.every_s}s",
                "grace": f"{one.grace_s}s",
                "part_limit": one.part_limit,
                "destination": {"type": "directory", "path": str(place.objects_of(one))},
            }
            for one in place.exports
        ],
    }


def _text(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


# --- What a customer sees ------------------------------------------------------------------------------


@dataclass
class Consumer:
    """Reads the names above the last one it knows, and no others, as SIEMs do."""

    folder: Path
    last: str = ""
    first_seen: dict[str, str] = field(default_factory=dict)

    def look(self) -> None:
        """Note what is new, with a hash of it."""
        for name, path in sorted(objects(self.folder).items()):
            if name > self.last:
                self.last = name
                self.first_seen[name] = hashlib.sha256(path.read_bytes()).hexdigest()


def objects(folder: Path) -> Mapping[str, Path]:
    """Every object by its name. Whatever else lies there would be a fault, and counts as one."""
    return {
        str(path.relative_to(folder)): path
        for path in folder.rglob("*")
        if ".incoming" not in path.parts and path.is_file()
    }


# --- Runs ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Account:
    """What became of a place: how runs ended, by exit status, and what the consumers saw."""

    until: datetime
    statuses: Mapping[str, int]
    first_seen: Mapping[str, Mapping[str, str]]


def deliver(place: Place, over: Event, seed: int, out: Path) -> None:
    """Run again and again until the storm is over, then some more, and at last up to a fixed moment."""
    _load(place)
    chance = random.Random(f"{seed}-{place.name}")
    consumers = {one.name: Consumer(place.objects_of(one)) for one in place.exports}
    statuses: Counter[str] = Counter()
    quiet, took_s = 0, 1.0
    storm = parent_process()
    while quiet < QUIET_TURNS and storm is not None and storm.is_alive():
        quiet += over.is_set()
        fatal_s = None if quiet or chance.random() > KILLED else chance.uniform(0, took_s)
        begun = time.monotonic()
        for status in _turn(place, chance, fatal_s):
            statuses[str(status)] += 1
        took_s = time.monotonic() - begun if fatal_s is None else took_s
        for consumer in consumers.values():
            consumer.look()
        time.sleep(chance.uniform(0, PAUSE_S))
    until = _finish(place, statuses)
    for consumer in consumers.values():
        consumer.look()
    answer = {
        "until": until.timestamp(),
        "statuses": statuses,
        "first_seen": {name: one.first_seen for name, one in consumers.items()},
    }
    out.write_text(json.dumps(answer))


def account_of(out: Path) -> Account:
    """What `deliver` wrote down."""
    answer = json.loads(out.read_text())
    return Account(datetime.fromtimestamp(answer["until"], UTC), answer["statuses"], answer["first_seen"])


def _load(place: Place) -> None:
    for module in place.preload:
        import_module(module)
    if place.mutant:
        MUTANTS[place.mutant]()
    gc.freeze()  # a collection in a fork would copy all of this


def _turn(place: Place, chance: random.Random, fatal_s: float | None) -> list[int]:
    """One run, or two at once, one of them killed after a while; how each ended, below zero for a signal."""
    running = [_fork(place) for _ in range(1 + (chance.random() < TWO_AT_ONCE))]
    if fatal_s is not None:
        time.sleep(fatal_s)
        with contextlib.suppress(ProcessLookupError):  # it was quicker
            os.kill(chance.choice(running), signal.SIGKILL)
    return [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in running]


def _fork(place: Place) -> int:
    process = os.fork()
    if process:
        return process
    status = 70
    try:
        status = _run(place)
    finally:
        os._exit(status)  # not through the loop's frames
    raise AssertionError


def _run(place: Place) -> int:
    from exporter import cli

    log = os.open(place.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for stream in (1, 2):
        os.dup2(log, stream)
    sys.argv = ["audit-exporter", "run", "-c", str(place.config)]
    try:
        cli.main()
    except SystemExit as end:
        return int(end.code or 0)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


def _finish(place: Place, statuses: Counter[str]) -> datetime:
    """Up to a moment that no earlier run can have known, so that what is due is exact."""
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=1)
    time.sleep((until - datetime.now(UTC)).total_seconds())
    for _ in range(LAST_TRIES):
        status = place.command("run", "--as-of", _text(until))
        statuses[f"at last {status}"] += 1
        if status == 0:
            break
    return until
