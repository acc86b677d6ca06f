"""Whole runs of `audit-exporter`, each from an empty ledger, configured as a user would."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.bench import data, folders, records
from tests.bench.methods import Method

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from tests.bench.places import World
    from tests.bench.records import Record

PROGRAM: Final = str(Path(sys.executable).with_name("audit-exporter"))
NAME: Final = "audit-exporter"
AS_OF: Final = f"{data.END.replace(minute=1):%Y-%m-%dT%H:%M:%SZ}"
COLUMNS: Final = (
    "id: id, time: created_at, account: account_id, email: actor_email, action: action, action_id: target_id,"
    " description: summary, ip_address: ip_address"
)
TO_FOLDER: Final = "{type: directory, path: ./out}"


@dataclass(frozen=True, slots=True)
class Setup:
    """A folder with a configuration: what is exported from where, and how.

    ``destination`` is asked before every run, because a server that takes objects begins anew each time.
    """

    folder: Path
    url: str
    accounts: Sequence[str]
    table: str = "audit_log"
    settings: Mapping[str, str] = field(default_factory=dict)
    destination: Callable[[], str] = lambda: TO_FOLDER
    options: Sequence[str] = ()

    @property
    def config(self) -> Path:
        """The configuration's file."""
        return self.folder / "audit-exporter.yaml"

    @property
    def run(self) -> list[str]:
        """The command."""
        return [PROGRAM, "run", "-c", str(self.config), "--as-of", AS_OF, "--json", *self.options]

    def prepare(self) -> None:
        """Begin with an empty ledger and an empty destination."""
        self.write()
        create = [PROGRAM, "ledger", "create", "-c", str(self.config)]
        subprocess.run(create, check=True, stdout=subprocess.DEVNULL)

    def write(self) -> None:
        """Begin with the configuration alone."""
        folders.anew(self.folder)
        self.config.write_text("\n".join(self._lines()), encoding="utf-8")

    def _lines(self) -> Iterator[str]:
        commit = ", commit: export_xid" if self.url.startswith("postgresql") else ""
        defaults = {"every": "4h", "start": f"{data.START:%Y-%m-%dT%H:%M:%SZ}", **self.settings}
        yield f'source:\n  url: "{self.url}"\n  table: {self.table}\n  columns: {{{COLUMNS}{commit}}}'
        yield 'ledger: {url: "sqlite:///ledger.db"}'
        yield "defaults:"
        yield from (f"  {name}: {value}" for name, value in defaults.items())
        yield "network: {allow: [127.0.0.1]}"
        yield "exports:"
        destination = self.destination()
        yield from (f"  - {{account: {name}, destination: {destination}}}" for name in self.accounts)
        yield ""

    def records(self) -> Iterator[Record]:
        """What was delivered to the folder `out`."""
        return records.from_json(self.lines())

    def lines(self) -> Iterator[bytes]:
        """The lines of it."""
        return records.lines_of_zips(self.folder / "out")

    def method(self, name: str = NAME, *, runs: int | None = None, note: str = "") -> Method:
        """One whole run, with what it wrote into a folder."""
        return Method(name, lambda: self.run, self.prepare, self.records, runs=runs, note=note)


def delivered(log: Path) -> tuple[int, int, int]:
    """Of how many exports a run says it delivered how many records, and the bytes of JSON in them."""
    lines = log.read_text(encoding="utf-8").splitlines()
    said = (json.loads(line) for line in lines if line.startswith("{"))
    objects = next(one for one in said if "exit_status" in one)["objects"]
    content_bytes = sum(one["content_bytes"] or 0 for one in objects)
    return len({one["export"] for one in objects}), sum(one["records"] for one in objects), content_bytes


def setup(world: World, name: str, accounts: Sequence[str], **how: object) -> Setup:
    """One that reads the world's PostgreSQL, in a folder of this name."""
    return Setup(world.folder / name, world.url, accounts, **how)  # type: ignore[arg-type]  # Setup's own
