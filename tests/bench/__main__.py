"""`make bench`: builds its data, runs ours and the peer's in turn, prints medians.

The peer is what a user would type instead: SQLite's own `json_object` piped to `gzip -1`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

from tests.bench import data

PROGRAM = (sys.executable, "-m", "exporter")
MOST_MB = 150
"""Memory of a run, whatever the size of its window."""

PEER = """SELECT json_object('Date', created_at, 'Email', actor_email, 'Action', action,
 'Action ID', target_id, 'Description', summary, 'IP Address', ip_address, 'Event ID', CAST(id AS TEXT))
 FROM audit_log WHERE account_id = 'account-0' AND created_at >= '2026-11-01T00:00:00Z'
 AND created_at < '2026-11-01T04:00:00Z' ORDER BY created_at, id;"""


@dataclass(frozen=True, slots=True)
class Cost:
    """What one process took."""

    wall_s: float
    cpu_s: float
    peak_mb: float


def measure(*command: str, cwd: Path | None = None) -> Cost:
    """Run a command to its end and read the kernel's account of it; raises if it fails."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=cwd)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return Cost(
        time.perf_counter() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / _MAXRSS_PER_MB
    )


_MAXRSS_PER_MB = 1_000_000 / (1 if sys.platform == "darwin" else 1024)


def ours(folder: Path) -> Cost:
    """One whole `run` from an empty ledger."""
    shutil.rmtree(folder / "out", ignore_errors=True)
    for left in folder.glob("ledger.db*"):
        left.unlink()
    config = str(folder / "audit-exporter.yaml")
    subprocess.run([*PROGRAM, "ledger", "create", "-c", config], check=True, stdout=subprocess.DEVNULL)
    return measure(*PROGRAM, "run", "-c", config, "--as-of", "2026-11-01T04:01:00Z")


def peer(folder: Path) -> Cost:
    """The pipe of a user who has SQLite and gzip."""
    (folder / "peer.sql").write_text(PEER)
    pipe = (
        f"sqlite3 -batch '{folder / 'audit.db'}' < '{folder / 'peer.sql'}' | gzip -1 > '{folder / 'peer.gz'}'"
    )
    return measure("sh", "-c", pipe)


def row(name: str, costs: list[Cost], records: int) -> None:
    """One line of the table: medians."""
    wall = statistics.median(cost.wall_s for cost in costs)
    cpu = statistics.median(cost.cpu_s for cost in costs)
    peak = max(cost.peak_mb for cost in costs)
    rate = f"{records / wall:>12,.0f}" if records else " " * 12
    print(f"{name:<44}{wall:>8.2f} s{cpu:>9.2f} s{peak:>9.0f} MB{rate}")


def large(records: int, runs: int) -> None:
    """One account with many records."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data.build(folder / "audit.db", 1, records)
        data.configuration(folder, 1)
        mine, theirs = [], []
        for _ in range(runs):
            mine.append(ours(folder))
            if shutil.which("sqlite3"):
                theirs.append(peer(folder))
        with zipfile.ZipFile(next((folder / "out").rglob("*.zip"))) as archive:
            lines = sum(1 for _ in archive.open(archive.namelist()[0]))
        if lines != records:
            raise SystemExit(f"the archive holds {lines} records of {records}")
        row(f"run, 1 account x {records:,}", mine, records)
        peak_mb = max(cost.peak_mb for cost in mine)
        if peak_mb > MOST_MB:
            raise SystemExit(f"a run took {peak_mb:.0f} MB of memory; its bound is {MOST_MB} MB")
        if theirs:
            row("sqlite3 json_object | gzip -1", theirs, records)
            ratio = statistics.median(a.wall_s / b.wall_s for a, b in zip(mine, theirs, strict=True))
            print(f"  ours takes {ratio:.2f} x its time")


def many(accounts: int, each: int, runs: int) -> None:
    """Many small accounts, and then a run with nothing due."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data.build(folder / "audit.db", accounts, each)
        config = data.configuration(folder, accounts)
        costs = [ours(folder) for _ in range(runs)]
        row(f"run, {accounts:,} accounts x {each:,}", costs, accounts * each)
        print(f"  {accounts / statistics.median(cost.wall_s for cost in costs):,.0f} accounts/s")
        command = (*PROGRAM, "run", "-c", str(config), "--as-of", "2026-11-01T04:01:00Z")
        row(f"run with nothing due, {accounts:,} exports", [measure(*command) for _ in range(runs)], 0)


def main() -> None:
    parser = argparse.ArgumentParser(description="Time and memory of whole runs.")
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--accounts", type=int, default=2_000)
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    print(f"{'':<44}{'wall':>10}{'CPU':>11}{'peak':>12}{'records/s':>12}")
    row("bare Python", [measure(sys.executable, "-c", "") for _ in range(arguments.runs)], 0)
    row("--help", [measure(*PROGRAM, "--help") for _ in range(arguments.runs)], 0)
    large(arguments.records, arguments.runs)
    many(arguments.accounts, 500, arguments.runs)


main()
