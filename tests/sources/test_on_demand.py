"""A source that is loaded when it is first needed keeps the contract, and its clock needs no loading."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TYPE_CHECKING, Final, cast

import pytest

from exporter.errors import SourceError
from exporter.interfaces import LineSource
from exporter.model import Range
from exporter.sources.memory import MemorySource
from exporter.wiring.on_demand import OnDemand
from tests.contracts.source import BEGIN, CONTRACT, Bench, at, window
from tests.kit.postgres import shared_postgres

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from datetime import datetime
    from pathlib import Path

    from exporter.interfaces import Block, Source, Template


class DemandBench:
    """A source in memory that nobody has made before it is asked."""

    def __init__(self) -> None:
        self._real = MemorySource(lambda: BEGIN, extra=("note",))
        self.source: Source = OnDemand(Watched(), lambda: self._real)

    def insert(self, account: str, time: datetime | None, note: str = "") -> str:
        transaction = self._real.begin()
        identifier = self._real.insert(transaction, account, time, note=note)
        self._real.commit(transaction)
        return str(identifier)


class Watched:
    """A clock that knows whether it was closed."""

    def __init__(self) -> None:
        self.closed = 0

    def now(self) -> datetime:
        return BEGIN

    def close(self) -> None:
        self.closed += 1


class WatchedSource(MemorySource):
    """A source that knows whether it was closed."""

    def __init__(self) -> None:
        super().__init__(lambda: BEGIN)
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


@pytest.mark.parametrize("promise", CONTRACT, ids=lambda promise: promise.__name__.removeprefix("test_"))
def test_contract(promise: Callable[[Callable[[], Bench]], None]) -> None:
    """It keeps every promise of the source that it stands for."""
    promise(DemandBench)


class Maker:
    """Makes sources, and knows how many."""

    def __init__(self) -> None:
        self.made: list[WatchedSource] = []

    def __call__(self) -> Source:
        self.made.append(WatchedSource())
        return self.made[-1]


def test_the_clock_is_asked_and_closed_without_a_source() -> None:
    make, clock = Maker(), Watched()
    source = OnDemand(clock, make)
    assert source.now() == BEGIN
    source.close()
    assert clock.closed == 1
    assert make.made == []


def test_once_there_is_a_source_it_is_what_is_closed() -> None:
    """It has what the clock held."""
    clock, real = Watched(), WatchedSource()
    source = OnDemand(clock, lambda: real)
    source.seal()
    source.close()
    assert (clock.closed, real.closed) == (0, 1)


def test_threads_that_need_it_at_once_share_one() -> None:
    make, together = Maker(), Barrier(8)
    source = OnDemand(Watched(), make)

    def need(_: int) -> str:
        together.wait(timeout=10)
        return source.identity()

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(need, range(8)))) == 1
    assert len(make.made) == 1


def test_a_source_that_could_not_be_made_is_tried_again_by_whoever_needs_it_next() -> None:
    outcomes: list[Source | SourceError] = [SourceError("not yet"), WatchedSource()]

    def make() -> Source:
        outcome = outcomes.pop(0)
        if isinstance(outcome, SourceError):
            raise outcome
        return outcome

    source = OnDemand(Watched(), make)
    with pytest.raises(SourceError, match="not yet"):
        source.seal()
    source.seal()
    assert outcomes == []


class LiningSource(WatchedSource):
    """A source that can make lines itself, and says so by what it gives."""

    def read_lines(
        self, ranges: Sequence[Range], columns: Sequence[str] | None, template: Template
    ) -> Generator[tuple[int, Block]]:
        assert template is TEMPLATE
        yield from self.read(ranges, columns)
        yield -1, MISSING


TEMPLATE: Final = cast("Template", "a template")
MISSING: Final = cast("Block", "made as lines")


@pytest.mark.parametrize("kind", [WatchedSource, LiningSource])
def test_lines_are_made_by_a_source_that_can_and_read_from_any_other(kind: type[WatchedSource]) -> None:
    """The pipeline asks whoever has the method for it, and that may give columns as well."""
    real = kind()
    transaction = real.begin()
    real.insert(transaction, "acme", at(1))
    real.commit(transaction)
    source = OnDemand(Watched(), lambda: real)
    assert isinstance(source, LineSource)
    found = list(source.read_lines([Range("acme", window(0), real.seal())], None, TEMPLATE))
    assert [index for index, _ in found] == ([0, -1] if kind is LiningSource else [0])


OPEN: Final = """
import json, sys
from contextlib import closing
from pathlib import Path
from exporter.config import load
from exporter.wiring.sources import source_of

def loaded():
    return sorted(name for name in sys.modules if name.startswith("exporter.sources."))

with closing(source_of(load(Path(sys.argv[1]))).open()) as source:
    source.now()
    before = loaded()
    try:
        source.columns()
    except Exception as error:
        print(json.dumps([before, loaded(), str(error)]))
"""


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_a_sources_clock_loads_nothing_that_reads_records(kind: str, tmp_path: Path) -> None:
    """Most runs ask for nothing else."""
    server = shared_postgres()
    urls = {"sqlite": "sqlite:///missing.db", "postgres": server.url(server.new_database())}
    whole = {
        "source": {
            "url": urls[kind],
            "table": "nowhere",
            "columns": dict.fromkeys(("id", "time", "account"), "x"),
        },
        "ledger": {"url": "sqlite:///ledger.db"},
        "exports": [{"account": "acme", "destination": {"type": "directory", "path": "out"}}],
    }
    config = tmp_path / "audit-exporter.yaml"
    config.write_text(json.dumps(whole))  # which is YAML, too
    command = [sys.executable, "-c", OPEN, str(config)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    before, after, error = json.loads(done.stdout)
    driver = f"exporter.sources.{kind}"
    allowed = {"exporter.sources.derived", driver, f"{driver}.connection", f"{driver}.errors"}
    assert set(before) <= allowed
    assert f"{driver}.source" in after
    assert error
