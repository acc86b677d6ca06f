"""How the cost grows: with records, accounts, workers, and with what a ledger remembers."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from tests.bench import data, ours
from tests.bench.measure import measure
from tests.bench.methods import progress
from tests.bench.others import ROOT
from tests.bench.places import LARGE, MANY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.bench.ours import Setup
    from tests.bench.places import World

BEFORE_THE_WINDOW: Final = f"{data.START.replace(minute=1):%Y-%m-%dT%H:%M:%SZ}"
A_YEAR: Final = 2_190
"""Windows of four hours."""

NATIVE: Final = {"format": "native"}
RUNS: Final = 3
LONG: Final = 0.2
"""Of the largest size: what is above it runs once."""
Point = dict[str, Any]


def _point(world: World, x: int, setup: Setup, wanted: tuple[int, int], runs: int) -> Point:
    """Some runs of one size, each of which has to deliver of so many exports so many records."""
    costs = []
    for number in range(runs):
        with progress(f"growth: {setup.folder.name}, {number + 1}"):
            setup.prepare()
            log = world.folder / "log"
            costs.append(asdict(measure(setup.run, log, postmaster=world.postmaster)))
        if (found := ours.delivered(log)[:2]) != wanted:
            raise SystemExit(f"{setup.folder.name}: {found} delivered, not {wanted}")
    return {"x": x, "costs": costs}


def of_records(world: World, runs: int) -> list[Point]:
    """One account, from a hundredth of the large one's records to ten times as many."""
    return [
        _point(
            world,
            count,
            _setup(world, f"records-{count}", [name], LARGE),
            (1, count),
            _runs(count, world.large, runs),
        )
        for count, name in world.large.items()
    ]


def of_accounts(world: World, runs: int) -> list[Point]:
    """One account to ten times as many as elsewhere, of 50 records each."""
    points = []
    few = world.sizes.accounts
    for count in sorted({1, few // 20, few // 2, few, few * 5, few * 10}):
        setup = _setup(world, f"accounts-{count}", world.many[:count], MANY)
        points.append(_point(world, count, setup, (count, count * 50), _runs(count, [few * 10], runs)))
    return points


def of_workers(world: World, runs: int) -> list[Point]:
    """The small accounts with 1, 2 and 4 workers."""
    names = world.small_accounts()
    wanted = (len(names), len(names) * world.sizes.each)
    return [
        _point(world, count, _setup(world, f"workers-{count}", names, workers=count), wanted, runs)
        for count in (1, 2, 4)
    ]


def of_ledger(world: World, runs: int) -> list[Point]:
    """A run with nothing due, and `status`, with up to a year of deliveries of every small account."""
    points = []
    setup = _setup(world, "ledger", world.small_accounts())
    for windows in (1, A_YEAR // 100, A_YEAR // 10, A_YEAR):
        with progress(f"growth: a ledger of {windows:,} windows"):
            setup.write()
            build = [
                sys.executable,
                "-m",
                "tests.bench.old_ledger",
                str(setup.config),
                "--windows",
                str(windows),
            ]
            measure(build, world.folder / "log", {"PYTHONPATH": str(ROOT)})
        run = [ours.PROGRAM, "run", "-c", str(setup.config), "--as-of", BEFORE_THE_WINDOW, "--json"]
        status = [ours.PROGRAM, "status", "-c", str(setup.config)]
        points.append(
            {"x": windows, "costs": _costs(world, run, runs), "status": _costs(world, status, runs)}
        )
    return points


def _costs(world: World, command: list[str], runs: int) -> list[dict[str, Any]]:
    return [asdict(measure(command, world.folder / "log", postmaster=world.postmaster)) for _ in range(runs)]


def _setup(world: World, name: str, accounts: list[str], table: str = "audit_log", workers: int = 0) -> Setup:
    options = ["--workers", str(workers)] if workers else []
    return ours.setup(world, name, accounts, table=table, settings=NATIVE, options=options)


def _runs(count: int, sizes: Any, runs: int) -> int:  # noqa: ANN401 - anything with a largest
    return 1 if count > max(sizes) * LONG else runs


GROWTH: Final[dict[str, Callable[[World, int], list[Point]]]] = {
    "records": of_records,
    "accounts": of_accounts,
    "workers": of_workers,
    "ledger": of_ledger,
}


def grown(world: World, runs: int) -> Iterator[tuple[str, list[Point]]]:
    """Every way in which something can grow, in at most so many runs of each size."""
    for name, points in GROWTH.items():
        yield name, points(world, min(runs, RUNS))
