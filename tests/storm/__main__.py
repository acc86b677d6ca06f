"""A storm from the command line: `python -m tests.storm postgres --rows 100000 --writers 48 --seed 7`.

It answers 0 if nothing was lost, doubled or changed while naive readers lost some; else 1.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.storm.exporting import Plot
from tests.storm.mutants import MUTANTS
from tests.storm.report import text
from tests.storm.scenes import DATABASES, scene, scratch
from tests.storm.storm import run
from tests.storm.writers import Size


def main() -> int:
    """Run one storm and print what came of it."""
    options = _options()
    seconds = options.seconds or options.rows / DATABASES[options.database]
    size = Size(
        options.rows,
        options.writers,
        seconds,
        limit_s=3 * seconds + 30,
        long_transaction_s=options.long_transaction,
        seed=options.seed,
    )
    with (
        TemporaryDirectory(dir=scratch()) as made,
        scene(options.database, Path(made), will_crash=options.crash) as place,
    ):
        folder = options.keep or Path(made) / "storm"
        folder.mkdir()
        crash = place.crash if options.crash else None
        report = run(place.database, size, folder, Plot(options.every, mutant=options.mutant, crash=crash))
    sys.stdout.write(text(report))
    return 1 if report.faults else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.storm", description=__doc__)
    parser.add_argument("database", choices=DATABASES)
    parser.add_argument("--rows", type=int, default=10_000, help="end when so many are committed")
    parser.add_argument("--writers", type=int, default=32, help="how many write at once")
    parser.add_argument("--seed", type=int, default=1, help="of what the writers do; not of how it mixes")
    parser.add_argument("--seconds", type=float, help="in which time, if the machine can keep up")
    parser.add_argument("--every", type=int, default=1, help="seconds in a window")
    parser.add_argument("--long-transaction", type=float, default=10.0, help="seconds that some stay open")
    parser.add_argument("--keep", type=Path, help="a new folder for objects, ledgers and logs, to look at")
    parser.add_argument("--crash", action="store_true", help="kill the server half-way, and start it again")
    parser.add_argument("--mutant", choices=MUTANTS, default="", help="with this defect in the exporter")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
