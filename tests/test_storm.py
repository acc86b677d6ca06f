"""Nothing is lost in a storm of writers, where readers as they are usually written lose much.

`make test` has a short storm on each database, `make proof` a long one; others can be had by hand:
``python -m tests.storm --help``.
"""

from __future__ import annotations

import shutil
import zipfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.storm import exporting, verdict
from tests.storm.exporting import Account, Place, Plot
from tests.storm.records import HISTORY, Clock, Pen
from tests.storm.report import text
from tests.storm.scenes import scene, scratch
from tests.storm.sqlite import Sqlite
from tests.storm.storm import Report, run
from tests.storm.writers import Size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.storm.verdict import Truth

SHORT = Size(rows=8_000, writers=32, seconds=10, limit_s=13, long_transaction_s=10, seed=1)
SHORT_SIZES = {
    "postgres": SHORT,
    "mariadb": replace(SHORT, rows=5_000),
    "sqlite": replace(SHORT, rows=800, writers=8, seconds=10, limit_s=12),
}
MEDIUM = Size(rows=40_000, writers=48, seconds=30, limit_s=60, long_transaction_s=10, seed=3)
LONG = Size(rows=1_000_000, writers=64, seconds=400, limit_s=2400, long_transaction_s=60, seed=2)
LONG_SIZES = {
    "postgres": LONG,
    "mariadb": replace(LONG, rows=200_000, seconds=200),
    "mariadb-interleaved": replace(LONG, rows=100_000, seconds=100),
    "sqlite": replace(LONG, rows=10_000, writers=8, seconds=100),
}
LONG_WINDOWS = Plot(every_s=2, longer_scans=5, part_limit="128KiB")
DEFECTS = [
    ("late_forgotten", "sqlite"),
    ("late_forgotten", "postgres"),
    ("barrier_is_xmax", "postgres"),
    ("late_forgotten", "mariadb"),
    ("gaps_forgotten", "mariadb"),
]


def storm(name: str, size: Size, plot: Plot | None = None, *, crash: bool = False) -> Report:
    with TemporaryDirectory(dir=scratch()) as made, scene(name, Path(made), will_crash=crash) as place:
        folder = Path(made) / "storm"
        folder.mkdir()
        report = run(place.database, size, folder, plot or Plot(crash=place.crash if crash else None))
    print(text(report))
    return report


@pytest.mark.slow
@pytest.mark.parametrize("name", SHORT_SIZES)
def test_a_storm_takes_nothing_from_the_exporter_and_something_from_naive_readers(name: str) -> None:
    """Every committed record is delivered once and unchanged, whatever the writers and the signals do."""
    report = storm(name, SHORT_SIZES[name])
    assert report.faults == []
    assert report.rows > SHORT_SIZES[name].rows / 4


@pytest.mark.proof
@pytest.mark.timeout(5400)
@pytest.mark.parametrize("name", LONG_SIZES)
def test_a_long_storm_takes_nothing_either(name: str) -> None:
    """The same with a million rows, transactions of a minute and twice as many writers."""
    report = storm(name, LONG_SIZES[name], LONG_WINDOWS)
    assert report.faults == []
    assert report.rows >= LONG_SIZES[name].rows


@pytest.mark.proof
@pytest.mark.parametrize("name", ["postgres", "mariadb"])
def test_a_server_that_dies_in_a_storm_takes_nothing_with_it(name: str) -> None:
    """Killed and started again half-way: what was committed for good is delivered, and nothing else."""
    assert storm(name, MEDIUM, crash=True).faults == []


@pytest.mark.proof
@pytest.mark.parametrize(("defect", "name"), DEFECTS)
def test_a_storm_finds_a_defect(defect: str, name: str) -> None:
    """An exporter that lacks one of its rules loses records, and the report says so."""
    report = storm(name, SHORT_SIZES[name], Plot(mutant=defect))
    assert any(" lost: " in fault for fault in report.faults)


# --- The verdict itself ----------------------------------------------------------------------------------


class Calm(NamedTuple):
    """What a few records in calm weather came to."""

    place: Place
    account: Account
    truth: dict[int, Truth]

    def faults(self) -> dict[str, int]:
        counts = [one.counts for one in verdict.judge(self.place, self.account, self.truth)]
        return {fault: sum(count[fault] for count in counts) for fault in verdict.FAULTS}

    def objects(self) -> list[Path]:
        return sorted(exporting.objects(self.place.objects_of(self.place.exports[0])).values())


@pytest.fixture(scope="module")
def delivered(tmp_path_factory: pytest.TempPathFactory) -> Calm:
    """Records of some seconds, each in a window of its own, some late, some early, some without a time."""
    folder = tmp_path_factory.mktemp("calm")
    source = Sqlite(folder / "audit.db")
    source.create()
    start = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=10)
    start -= timedelta(seconds=start.second % 2)
    session, pen = source.session(Random(1)), Pen(Random(1))
    session.at_once([pen.record(start - timedelta(hours=1), "acme", HISTORY)])
    place = exporting.prepared(folder / "place", source.variants()[0], Plot(), start)
    for seconds in (-30, 1, 3, 5, 3600):
        session.at_once([pen.record(start + timedelta(seconds=seconds), "acme", "saved") for _ in range(4)])
    session.at_once([pen.record(Clock.BROKEN, "acme", "saved"), pen.record(start, "ACME", "saved")])
    session.close()
    until = start + timedelta(seconds=8)
    assert place.command("run", "--as-of", f"{until:%Y-%m-%dT%H:%M:%SZ}") == 0, place.log.read_text()
    seen = {one.name: exporting.Consumer(place.objects_of(one)) for one in place.exports}
    for consumer in seen.values():
        consumer.look()
    first_seen = {name: consumer.first_seen for name, consumer in seen.items()}
    return Calm(place, Account(until, {}, first_seen), verdict.table(source))


@pytest.fixture
def calm(delivered: Calm, tmp_path: Path) -> Iterator[Calm]:
    """A copy to damage."""
    aside = tmp_path / "as it was"
    out = delivered.place.folder / "out"
    shutil.copytree(out, aside)
    yield delivered
    shutil.rmtree(out)
    shutil.copytree(aside, out)


def rewrite(path: Path, change: Callable[[bytes], bytes]) -> None:
    with zipfile.ZipFile(path) as archive:
        (member,) = archive.namelist()
        data = archive.read(member)
    changed = change(data)
    assert changed != data
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, changed)


def without_first_line(data: bytes) -> bytes:
    return data.partition(b"\n")[2]


def first_line_twice(data: bytes) -> bytes:
    return data.partition(b"\n")[0] + b"\n" + data


def turned_round(data: bytes) -> bytes:
    return b"".join(reversed(data.splitlines(keepends=True)))


def test_the_verdict_finds_no_fault_where_there_is_none(calm: Calm) -> None:
    """Late, early, unreadable and old records are all in order."""
    assert {fault: count for fault, count in calm.faults().items() if count} == {}
    (acme, *_) = verdict.judge(calm.place, calm.account, calm.truth)
    assert (acme.counts["delivered"], acme.counts["late"], acme.counts["bad"]) == (17, 4, 1)
    assert (acme.counts["not yet due"], acme.counts["before the begin"]) == (4, 1)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (without_first_line, "lost"),
        (first_line_twice, "doubled"),
        (lambda data: data.replace(b"@storm", b"@calm"), "altered"),
        (lambda data: data.replace(b'"Date":"20', b'"Date":"19'), "altered"),
        (turned_round, "out of order"),
        (without_first_line, "late, but not counted as late"),
        (without_first_line, "objects that a consumer misses, or that changed"),
    ],
)
def test_the_verdict_finds_what_is_wrong_in_an_object(
    calm: Calm, change: Callable[[bytes], bytes], fault: str
) -> None:
    """One record lost, doubled, changed or moved in one object is enough."""
    rewrite(calm.objects()[-1], change)
    assert calm.faults()[fault]


def test_the_verdict_misses_an_object_that_is_gone(calm: Calm) -> None:
    """Its records are lost, and the ledger knows of it."""
    gone = calm.objects()[1]
    gone.unlink()
    faults = calm.faults()
    assert faults["lost"] == 4
    assert faults["objects that no plan knows, or plans without"] == 1


def test_the_verdict_notices_an_object_under_an_older_name(calm: Calm) -> None:
    """A consumer that remembers the last name would never read it."""
    first = calm.objects()[0]
    older = first.with_name(first.name.replace("_20", "_19"))
    with zipfile.ZipFile(first) as original, zipfile.ZipFile(older, "w") as copy:
        copy.writestr(older.with_suffix(".json").name, original.read(original.namelist()[0]))
    faults = calm.faults()
    assert faults["names that did not grow"]
    assert faults["objects that a consumer misses, or that changed"]
    assert faults["doubled"]


def test_the_verdict_names_a_damaged_object(calm: Calm) -> None:
    """Half an archive, and one whose member is not its own, are faults and no surprise."""
    half, other, *_ = calm.objects()
    half.write_bytes(half.read_bytes()[:200])
    shutil.copyfile(calm.objects()[2], other)
    assert calm.faults()["damaged objects"] == 2


def test_the_verdict_knows_whose_records_are_whose(calm: Calm) -> None:
    """A record of another account, of no row or from the future is none of this export's."""
    numbers = [
        number for number, row in calm.truth.items() if row.account == "acme" and row.action == "saved"
    ]
    other, nothing, future, *_ = numbers
    truth = dict(calm.truth)
    truth[other] = truth[other]._replace(account="ACME")
    del truth[nothing]
    truth[future] = truth[future]._replace(time=2**60)
    faults = calm._replace(truth=truth).faults()
    found = [faults[name] for name in ("of other accounts", "of no row", "before their time", "altered")]
    assert found == [2, 2, 2, 2]  # `acme` has two exports
