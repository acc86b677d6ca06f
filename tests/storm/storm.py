"""A storm from its first row to the verdict: processes that write, read and deliver, all at once.

It decides nothing about right and wrong; `verdict` does. Every process it starts ends with it.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import time
import traceback
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from threading import Thread
from typing import TYPE_CHECKING, Any, Final

from tests.storm import exporting, naive, verdict, writers
from tests.storm.records import ACCOUNTS, HISTORY, NOBODY, Clock, Pen
from tests.storm.writers import Shared, Sleeper, Writer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from multiprocessing.context import ForkServerContext, ForkServerProcess
    from multiprocessing.synchronize import Event
    from pathlib import Path

    from tests.storm.exporting import Account, Place, Plot
    from tests.storm.sessions import Database
    from tests.storm.verdict import Judgement
    from tests.storm.writers import Size

STATUSES: Final = frozenset({"0", "10", "-9", "at last 0", "at last 10"})
"""How runs may end: with all delivered, or not all of it, or by SIGKILL."""

ENDING_S: Final = 120.0
"""How long the exporters may take to catch up once the storm is over, for each 100,000 rows begun."""


@dataclass(frozen=True)
class Report:
    """What a storm came to."""

    rows: int
    writing_s: float
    seconds: float
    """From the first writer's start until the last exporter's end."""
    tally: Counter[str]
    variants: Mapping[str, tuple[Account, list[Judgement]]]
    naive: Mapping[str, tuple[int, int]]
    """Of each naive reader: how many rows it should have seen, and how many of them it lost."""
    must_lose: tuple[str, ...]
    statuses: frozenset[str]
    """How runs may end."""

    @property
    def faults(self) -> list[str]:
        """What is wrong, a line each; empty if every promise was kept and the storm proves it."""
        lines = [
            f"{name}, {judgement.export!r}: {judgement.counts[fault]} {fault}: {judgement.examples[fault]}"
            for name, (_, judgements) in self.variants.items()
            for judgement in judgements
            for fault in verdict.FAULTS
            if judgement.counts[fault]
        ]
        for name, (account, judgements) in self.variants.items():
            if account.statuses.keys() - self.statuses:
                lines.append(f"{name}: runs ended with {dict(account.statuses)}")
            if "at last 0" not in account.statuses:
                lines.append(f"{name}: it never came to an end of its work")
            counts = sum((judgement.counts for judgement in judgements), Counter[str]())
            if not 0 < counts["late"] < counts["delivered"] - counts["bad"]:
                lines.append(f"{name}: nothing came late or nothing on time, so this was no storm")
        lines += [
            f"the naive reader by {one} lost nothing" for one in self.must_lose if not self.naive[one][1]
        ]
        return lines


def run(database: Database, size: Size, folder: Path, plot: Plot) -> Report:
    """Everything, in order. Raises RuntimeError if a process of the storm itself fails."""
    database.create()
    start = datetime.now(UTC).replace(microsecond=0)
    start -= timedelta(seconds=start.timestamp() % 60)  # a boundary, whatever the windows
    _write_history(database, size, start)
    places = [
        exporting.prepared(folder / variant.name, variant, plot, start) for variant in database.variants()
    ]
    crew = Crew(folder)
    with crew.at_work():
        writing_s, seconds = _blow(crew, database, size, places, start, plot.crash)
    truth = verdict.table(database)
    accounts = {place.name: exporting.account_of(folder / f"{place.name}.json") for place in places}
    judged = {
        place.name: (accounts[place.name], verdict.judge(place, accounts[place.name], truth))
        for place in places
    }
    losses = {
        name: _losses(name, naive.seen(folder / f"{name}.ids"), truth, start) for name in database.naive
    }
    statuses = STATUSES | ({"20"} if plot.crash else set())
    return Report(
        len(truth), writing_s, seconds, crew.tally, judged, losses, tuple(database.must_lose), statuses
    )


def _write_history(database: Database, size: Size, start: datetime) -> None:
    """What is there before an export begins: old records, some without a time, some of the first window."""
    pen, session = Pen(random.Random(size.seed)), database.session(random.Random(size.seed))
    times = (start - timedelta(days=1), Clock.NONE, Clock.BROKEN, start, start + timedelta(milliseconds=1))
    for account in (*ACCOUNTS, NOBODY):
        session.at_once([pen.record(time, account, HISTORY) for time in times for _ in range(3)])
    session.close()


def _blow(
    crew: Crew,
    database: Database,
    size: Size,
    places: list[Place],
    start: datetime,
    crash: Callable[[], None] | None,
) -> tuple[float, float]:
    """Writers, naive readers and exporters at once; seconds until the writers, and until all had ended."""
    begun = time.monotonic()
    silent, over = crew.context.Event(), crew.context.Event()
    shared = Shared(crew.context.Value("q", 0), silent)
    busy = [
        crew.start(f"writer-{number}", write, database, size, shared, number)
        for number in range(size.writers)
    ]
    busy += [
        crew.start(f"sleeper-{number}", sleep, database, size, shared, number)
        for number in range(database.sleepers)
    ]
    finisher = crew.start("finisher", finish, database, size, shared)
    readers = [
        crew.start(f"naive {name}", follow, database, name, start, over, crew.folder / f"{name}.ids")
        for name in database.naive
    ]
    for place in places:
        out = crew.folder / f"{place.name}.json"
        readers.append(crew.start(place.name, exporting.deliver, place, over, size.seed, out))
    if crash is not None:
        time.sleep(size.seconds / 2)
        crash()
    crew.wait(busy, 2 * size.limit_s + 60)
    silent.set()
    crew.wait([finisher], ENDING_S)
    writing_s = time.monotonic() - begun
    over.set()
    crew.wait(readers, ENDING_S * (1 + size.rows // 100_000))
    return writing_s, time.monotonic() - begun


def _losses(
    name: str, seen: set[int], truth: Mapping[int, verdict.Truth], start: datetime
) -> tuple[int, int]:
    """A reader by time owes what has one, from the begin to the last one that it saw."""
    owed = set(truth)
    if name == "created_at":
        first = int(start.timestamp()) * 1_000_000
        last = max(truth[identifier].time or 0 for identifier in seen)
        owed = {one for one, row in truth.items() if row.time is not None and first < row.time <= last}
    return len(owed), len(owed - seen)


# --- Processes -------------------------------------------------------------------------------------------


def write(database: Database, size: Size, shared: Shared, number: int) -> Counter[str]:
    """A writer's whole life."""
    writer = Writer(database, size, shared, number)
    writer.run()
    return writer.tally


def sleep(database: Database, size: Size, shared: Shared, number: int) -> Counter[str]:
    """The life of one whose transactions are long."""
    sleeper = Sleeper(database, size, shared, -1 - number)
    sleeper.run()
    return sleeper.tally


def finish(database: Database, size: Size, shared: Shared) -> Counter[str]:
    """The life of one who finishes what others prepared."""
    return writers.finish_prepared(database, size, shared)


def follow(database: Database, name: str, begin: datetime, over: Event, out: Path) -> None:
    """The life of a naive reader."""
    session = database.session(random.Random(0))
    naive.follow(database.naive[name], session, session.value(begin), over, out)


class Crew:
    """The processes of one storm, and what they say when they have ended."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tally: Counter[str] = Counter()
        self.context: ForkServerContext = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload([__name__, *exporting.PRELOADED])
        self._processes: dict[str, ForkServerProcess] = {}

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Nobody outlives this block."""
        try:
            yield
        finally:
            for process in self._processes.values():
                process.kill()
                process.join()
                process.close()

    def start(self, name: str, what: Callable[..., Counter[str] | None], *arguments: Any) -> str:  # noqa: ANN401 - whatever it takes
        """One more process."""
        process = self.context.Process(
            target=_live, args=(self.folder / f"{name}.said", what, arguments), name=name, daemon=True
        )
        self._processes[name] = process
        process.start()
        return name

    def wait(self, names: list[str], seconds: float) -> None:
        """Until these have ended; raises what one of them met, also while others go on."""
        end = time.monotonic() + seconds
        for name in names:
            process = self._processes[name]
            while process.is_alive():
                process.join(0.5)
                self._complain()
                if time.monotonic() > end:
                    raise TimeoutError(f"{name} has not ended after {seconds:.0f} s")
            self._complain()
            self.tally.update(json.loads((self.folder / f"{name}.said").read_text() or "{}"))

    def _complain(self) -> None:
        for name, process in self._processes.items():
            if process.exitcode:
                said = self.folder / f"{name}.said"
                raise RuntimeError(f"{name} ended with {process.exitcode}: {said.read_text()}")


def _end_with_the_storm() -> None:
    """Whoever kills the tests kills no child of theirs."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _live(said: Path, what: Callable[..., Counter[str] | None], arguments: tuple[Any, ...]) -> None:
    if what is not exporting.deliver:  # that forks, and asks by itself
        Thread(target=_end_with_the_storm, daemon=True).start()
    try:
        answer = json.dumps(what(*arguments) or {})
    except Exception:  # noqa: BLE001 - whatever it is, `wait` says it in the one process that a person looks at
        said.write_text(traceback.format_exc())
        raise SystemExit(1) from None
    said.write_text(answer)
