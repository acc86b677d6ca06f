"""Live through seeds from the command line: `python -m tests.simulation --schedules 1000000 --jobs 2`."""

from __future__ import annotations

import argparse
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from typing import Final

from tests.simulation.schedules import first_violation, worlds

BATCH: Final = 200


def main() -> int:
    """Answer 1 and print the trace if a promise breaks, else 0 and how many schedules kept them all."""
    options = _options()
    if options.seed is None:
        return _many(options)
    (world,) = worlds([options.seed])
    _say("\n".join(world.trace))
    _say("every promise was kept" if world.violation is None else f"BROKEN: {world.violation.__cause__}")
    return 0 if world.violation is None else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="live through this one and print its trace")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--schedules", type=int, default=10_000, help="how many seeds")
    parser.add_argument("--jobs", type=int, default=1, help="how many at a time")
    parser.add_argument("--limit-s", type=float, default=float("inf"), help="begin no more after so long")
    return parser.parse_args()


def _many(options: argparse.Namespace) -> int:
    begun = time.monotonic()
    end = options.first + options.schedules
    batches = (range(start, min(start + BATCH, end)) for start in range(options.first, end, BATCH))
    done = 0
    with ProcessPoolExecutor(options.jobs) as pool:
        running = [(batch, pool.submit(_batch, batch)) for batch in islice(batches, 2 * options.jobs)]
        while running:
            batch, future = running.pop(0)
            if trace := future.result():
                _say(trace)
                pool.shutdown(cancel_futures=True)
                return 1
            done += len(batch)
            if time.monotonic() - begun < options.limit_s:
                running += [(one, pool.submit(_batch, one)) for one in islice(batches, 1)]
    speed = done / (time.monotonic() - begun)
    _say(f"{done} schedules from seed {options.first} on kept every promise: {speed:.0f} per second")
    return 0


def _batch(seeds: range) -> str:
    """The trace of the first broken promise; empty when there is none."""
    return str(first_violation(seeds) or "")


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
