"""What one command takes: time, CPU, memory, and the database's CPU where the kernel tells it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

# A process inherits the peak memory of the one that starts it (Linux keeps it across exec): this one is
# as small as Python can be, so that the peak of a small peer is its own.
LAUNCHER: Final = """
import os, sys, time
log, program, *rest = sys.argv[1:]
opened = (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
began = time.perf_counter()
streams = [opened, (os.POSIX_SPAWN_DUP2, 1, 2)]
child = os.posix_spawnp(program, [program, *rest], os.environ, file_actions=streams)
_, status, usage = os.wait4(child, 0)
wall = time.perf_counter() - began
print([os.waitstatus_to_exitcode(status), wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss])
"""
MAXRSS_PER_MB: Final = 1_000_000 if sys.platform == "darwin" else 1_000_000 / 1024
TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
SETTLED_S: Final = 5.0
LAST_OF_LOG: Final = 2_000


@dataclass(frozen=True, slots=True)
class Cost:
    """What a command took, with everything it started; memory is that of its largest process."""

    wall_s: float
    cpu_s: float
    peak_mb: float
    database_cpu_s: float | None = None


def measure(
    command: Sequence[str], log: Path, env: Mapping[str, str] | None = None, postmaster: int | None = None
) -> Cost:
    """Run a command to its end; raises SystemExit with the end of its output if it fails."""
    children = _children(postmaster)
    before_s = _database_cpu_s(postmaster)
    launched = subprocess.run(
        [sys.executable, "-I", "-S", "-c", LAUNCHER, str(log), *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env={**_as_installed(), **(env or {})},
        check=True,
        text=True,
    )
    status, wall_s, cpu_s, peak = json.loads(launched.stdout)
    if status:
        said = log.read_text(encoding="utf-8", errors="replace")[-LAST_OF_LOG:]
        raise SystemExit(f"{' '.join(command)[:400]}\nended with status {status}:\n{said}")
    database_cpu_s = None
    if before_s is not None:
        _wait_for_backends(postmaster, children)
        database_cpu_s = (_database_cpu_s(postmaster) or before_s) - before_s
    return Cost(wall_s, cpu_s, peak / MAXRSS_PER_MB, database_cpu_s)


def _as_installed() -> dict[str, str]:
    """This environment, but programs keep what Python compiled, as they do wherever they are installed."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def _wait_for_backends(postmaster: int | None, before: set[int]) -> None:
    """A server process ends a moment after its client; what it took counts from then on."""
    deadline = time.monotonic() + SETTLED_S
    while _children(postmaster) - before and time.monotonic() < deadline:
        time.sleep(0.01)


def _database_cpu_s(postmaster: int | None) -> float | None:
    """Of the server and of all its processes, also of those that have ended; None without /proc."""
    if postmaster is None or not Path("/proc/self/stat").exists():
        return None
    own = sum(_stat(postmaster)[11:15])
    return (own + sum(sum(_stat(child)[11:13]) for child in _children(postmaster))) / TICKS_PER_S


def _children(parent: int | None) -> set[int]:
    if parent is None:
        return set()
    return {pid for pid in _processes() if _stat(pid)[1] == parent}


def _processes() -> Iterator[int]:
    for entry in Path("/proc").glob("[0-9]*"):
        yield int(entry.name)


def _stat(pid: int) -> list[int]:
    """The numbers of /proc/PID/stat from the state on, a letter that reads as 0; zeros if it ended."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return [0] * 50
    return [0, *map(int, text.rpartition(")")[2].split()[1:])]
