"""`make bench`: builds its data, runs ours and its peers in turn, checks what they wrote, prints tables.

It asserts no time: it fails when a run fails, or when ours does not hold the records that the source holds.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.bench import report
from tests.bench.cases import CASES
from tests.bench.growth import grown
from tests.bench.methods import compare
from tests.bench.places import Sizes, World
from tests.kit.postgres import postgres_binaries, version_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.bench.results import Results

GROWTH: Final = "growth"
ALL: Final = "all"
PEERS: Final = Path(__file__).parents[2] / ".venv" / "peers"
PLOTS: Final = Path(__file__).parent / "plots"
MINUTES: Final = {
    "start": 0.5,
    "big": 7,
    "standard": 1.5,
    "ocsf": 2,
    "accounts": 1,
    "s3": 1.5,
    "sqlite": 2,
    "accounts-sqlite": 0.5,
    "hec": 1,
    "memory": 3,
    GROWTH: 10,
}
"""About what a case takes in full at five runs, on two cores."""
FILLING_MINUTES: Final = 1.2


def main() -> None:
    """Parse, measure, print, keep."""
    arguments = _arguments()
    for name in [name for name in os.environ if name.startswith("PG")]:
        del os.environ[name]  # they would lead the peers elsewhere
    minutes = (FILLING_MINUTES + sum(MINUTES[name] for name in arguments.cases)) * arguments.factor
    print(
        f"{', '.join(arguments.cases)}: about {max(1, round(minutes * arguments.runs / 5))} min", flush=True
    )
    sizes = Sizes(arguments.factor)
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        World(Path(folder), sizes, arguments.peers) as world,
    ):
        results = _begun(arguments)
        for name in arguments.cases:
            _measure(world, name, results, arguments.runs)
            if arguments.json:
                arguments.json.parent.mkdir(parents=True, exist_ok=True)
                arguments.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    if arguments.plots:
        _draw(arguments.json, arguments.peers, arguments.plots)
    report.show_goals(results)


def _measure(world: World, name: str, results: Results, runs: int) -> None:
    if name == GROWTH:
        for what, points in grown(world, runs):
            results["growth"][what] = points
            report.show_growth(what, points)
        return
    with CASES[name](world) as case:
        results["cases"][name] = compare(case, runs, world.folder)
    report.show(results, [name])
    sys.stdout.flush()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench", description="Time and memory of whole runs."
    )
    parser.add_argument("--factor", type=float, default=1.0, help="1: 2,000,000 records")
    parser.add_argument("--runs", type=int, default=5, help="of each method")
    parser.add_argument(
        "--cases", type=_cases, default=ALL, help=f"{', '.join(MINUTES)}; or {ALL} but growth"
    )
    parser.add_argument("--peers", type=Path, default=PEERS, help="a virtual environment with their packages")
    parser.add_argument("--json", type=Path, help="a file for the figures; keeps what it has of other cases")
    parser.add_argument("--plots", type=Path, help="a folder for plots, made from the figures in --json")
    arguments = parser.parse_args()
    if arguments.factor <= 0 or arguments.runs < 1:
        parser.error("--factor and --runs are above 0")
    if arguments.plots and not arguments.json:
        parser.error("--plots needs --json")
    return arguments


def _cases(text: str) -> Sequence[str]:
    names = list(CASES) if text == ALL else [name.strip() for name in text.split(",")]
    if unknown := [name for name in names if name not in MINUTES]:
        message = f"{', '.join(unknown)}: not one of {', '.join(MINUTES)}, {ALL}"
        raise argparse.ArgumentTypeError(message)
    return names


def _begun(arguments: argparse.Namespace) -> Results:
    """Where and when this is measured, and what is known of other cases at the same size and place."""
    results: Results = {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "factor": arguments.factor,
        "runs": arguments.runs,
        "machine": {
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "cpu": _cpu(),
            "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
            "postgres": next(map(version_of, postgres_binaries()), ""),
            "python": platform.python_version(),
        },
        "cases": {},
        "growth": {},
    }
    if arguments.json and arguments.json.exists():
        earlier = json.loads(arguments.json.read_text(encoding="utf-8"))
        if all(earlier[name] == results[name] for name in ("factor", "machine")):
            results |= {name: earlier[name] for name in ("cases", "growth")}
    return results


def _cpu() -> str:
    """The processor's name, where the system has it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _draw(figures: Path, peers: Path, plots: Path) -> None:
    """By the Python that has matplotlib, which ours has not."""
    script = Path(__file__).with_name("plots.py")
    subprocess.run([peers / "bin" / "python", script, figures, plots], check=True)


if __name__ == "__main__":
    main()
