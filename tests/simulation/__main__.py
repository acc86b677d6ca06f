"""Live through seeds from the command line: `python -m tests.simulation --schedules 1000000 --jobs 2`."""

from __future__ import annotations

import argparse
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import count

from .schedules import violations

BATCH = 200


def main(arguments: list[str] | None = None) -> int:
    """Print the first broken promise with its trace and answer 1, or how many schedules kept all."""
    options = _options(arguments)
    if options.seed is not None:
        return _replay(options.seed)
    begun = time.monotonic()
    done = 0
    with ProcessPoolExecutor(options.jobs) as pool:
        starts = range(options.first, options.first + options.schedules, BATCH)
        for broken in pool.map(_batch, starts):
            done += BATCH
            spent_s = time.monotonic() - begun
            if broken is not None:
                print(broken)  # noqa: T201 - it is a command
                pool.shutdown(cancel_futures=True)
                return 1
            if options.limit_s is not None and spent_s >= options.limit_s:
                pool.shutdown(cancel_futures=True)
                break
    spent_s = time.monotonic() - begun
    print(f"{done} schedules from seed {options.first} on kept every promise, {done / spent_s:.0f}/s")  # noqa: T201
    return 0
