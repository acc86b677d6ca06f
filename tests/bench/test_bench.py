"""The benchmark measures what it says, notices an output that is wrong, and runs; no test asserts a time."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.bench import data, records, report
from tests.bench.cases import CASES
from tests.bench.goals import GOALS
from tests.bench.growth import GROWTH
from tests.bench.measure import measure
from tests.bench.methods import Case, Method, compare
from tests.bench.ours import NAME
from tests.bench.readme import BEGIN, END, written

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
NEEDS_PROGRAMS = ("big", "sqlite")
RECORD = records.native(next(data.records(data.BIG, 1, 1)))


def changed(**how: object) -> records.Record:
    return RECORD | how


@pytest.mark.parametrize(
    "other",
    [
        changed(created_at=RECORD["created_at"].replace("T", " ").replace("Z", "+00:00")),
        changed(created_at=RECORD["created_at"].replace("Z", "")),
        changed(ip_address=f"{RECORD['ip_address']}/32"),
        changed(details=json.loads(RECORD["details"])),
        changed(export_xid="731"),
        dict(reversed(RECORD.items())),
    ],
)
def test_another_spelling_is_the_same_record(other: records.Record) -> None:
    """Peers write times, addresses and JSON in their own ways, and the database's own column may be there."""
    assert records.sum_of([other]) == records.sum_of([RECORD])


@pytest.mark.parametrize(
    "others",
    [
        [],
        [RECORD, RECORD],
        [changed(id=2)],
        [changed(created_at="2026-11-01T00:00:00.000001Z")],
        [changed(target_id=None), changed(target_id="")],
        [changed(summary=RECORD["summary"] + " ")],
        [changed(details="{}")],
        [{name: value for name, value in RECORD.items() if name != "actor_email"}],
    ],
)
def test_other_records_are_noticed(others: list[records.Record]) -> None:
    """Lost, doubled, changed, or without one of its fields."""
    assert records.sum_of(others) != records.sum_of([RECORD])


def test_the_order_of_records_does_not_matter() -> None:
    """A parallel plan gives them in any."""
    rows = [records.native(row) for row in data.records(data.BIG, 50, 1)]
    assert records.sum_of(reversed(rows)) == records.sum_of(rows) == records.expected("native", 50)


def _zips(path: Path, output: list[records.Record]) -> Callable[[], None]:
    def prepare() -> None:
        with zipfile.ZipFile(path / "a.zip", "w") as archive:
            archive.writestr("a.json", "".join(json.dumps(one) + "\n" for one in output))

    return prepare


def _case(folder: Path, mine: list[records.Record], theirs: list[records.Record]) -> Case:
    methods = []
    for name, output in ((NAME, mine), ("peer", theirs)):
        path = folder / name
        path.mkdir()
        methods.append(
            Method(
                name,
                lambda: [sys.executable, "-c", ""],
                prepare=_zips(path, output),
                output=lambda path=path: records.from_json(records.lines_of_zips(path)),  # type: ignore[misc]
            )
        )
    return Case("big", "a case", 1, "records", methods, lambda: records.sum_of([RECORD]))


def test_a_wrong_output_of_ours_ends_the_benchmark(tmp_path: Path) -> None:
    """A quick run that loses a record is no result."""
    with pytest.raises(SystemExit, match=r"not what the source holds.*0 of 1"):
        compare(_case(tmp_path, [], [RECORD]), 1, tmp_path)


def test_a_wrong_output_of_a_peer_is_said(tmp_path: Path) -> None:
    """In the table, in its row."""
    found = compare(_case(tmp_path, [RECORD], [changed(id=3)]), 2, tmp_path)
    assert [one["same"] for one in found["methods"]] == ["yes", "no: values differ"]
    assert [len(one["costs"]) for one in found["methods"]] == [2, 2]


def test_a_command_that_fails_ends_the_benchmark_with_what_it_said(tmp_path: Path) -> None:
    """Its time would be nobody's."""
    with pytest.raises(SystemExit, match=r"status 3:\nno room"):
        measure(["sh", "-c", "echo no room >&2; exit 3"], tmp_path / "log")


def test_a_cost_is_that_of_the_command_and_of_all_it_starts(tmp_path: Path) -> None:
    """CPU and memory of a process within a shell count; memory of this process does not."""
    ballast = bytearray(b"x") * 200_000_000
    small = measure(["true"], tmp_path / "log")
    work = "held = bytearray(b'x') * 100_000_000\nfor _ in range(3_000_000): pass"
    large = measure(["sh", "-c", f'"{sys.executable}" -c "{work}"; true'], tmp_path / "log")
    assert len(ballast) / 1e6 > 100 < large.peak_mb
    assert small.peak_mb < 50
    assert large.cpu_s > small.cpu_s


def _results(wall_s: float) -> dict[str, Any]:
    """Every method of the case takes a second, but for ours."""
    names = [NAME, "psql row_to_json | igzip -1", "psql, raw text to nowhere"]
    cost = {"cpu_s": 1.0, "peak_mb": 50.0, "database_cpu_s": None}
    methods = [
        {
            "name": name,
            "note": "",
            "same": "yes",
            "costs": [cost | {"wall_s": wall_s if name == NAME else 1.0}],
        }
        for name in names
    ]
    case = {
        "name": "big",
        "title": "a case",
        "amount": 5,
        "unit": "records",
        "json_bytes": 1,
        "methods": methods,
    }
    machine = {"cores": 2, "cpu": "a cpu", "memory_gb": 8, "postgres": "16", "python": "3.11"}
    about = {"date": "2026-11-20", "factor": 1, "runs": 1, "machine": machine}
    return about | {"cases": {"big": case}, "growth": {}}


@pytest.mark.parametrize(("wall_s", "verdict"), [(0.8, "met"), (0.9, "met"), (0.95, "NOT MET")])
def test_a_goal_is_met_or_not(wall_s: float, verdict: str) -> None:
    """The first goal is nine tenths of a peer's time."""
    rows = list(report.goal_rows(_results(wall_s)))
    assert rows[0][-1] == verdict
    assert rows[-1][-2:] == ("not measured", "")
    assert len(rows) == len(GOALS)


def test_goals_are_not_judged_at_another_size() -> None:
    """They are set for a million records."""
    assert not any(row[-1] for row in report.goal_rows(_results(9) | {"factor": 0.01}))


def test_the_readme_gets_the_results_and_nothing_else_changes() -> None:
    """Between two marks."""
    text = written(f"before\n{BEGIN}old\n{END}\nafter", _results(0.8))
    assert text.startswith(f"before\n{BEGIN}2026-11-20, 2 cores")
    assert text.endswith(f"{END}\nafter")
    assert "old" not in text
    assert "| psql row_to_json \\| igzip -1 | 1.00 (1.00-1.00) |" in text
    with pytest.raises(SystemExit, match="no place"):
        written("nothing", _results(0.8))


def test_the_readme_shows_the_last_results() -> None:
    """`python -m tests.bench.readme` would change nothing, once there are results."""
    results, readme = Path(__file__).parent / "results.json", ROOT / "README.md"
    if not results.exists():
        assert BEGIN not in readme.read_text(encoding="utf-8")
        return
    text = readme.read_text(encoding="utf-8")
    assert written(text, json.loads(results.read_text(encoding="utf-8"))) == text


def test_the_lock_pins_every_package_of_the_peers_by_hash() -> None:
    """Theirs is an environment of its own, so it has a lock of its own."""
    lock = (ROOT / "tests/bench/requirements.lock").read_text(encoding="utf-8")
    pinned = re.split(r"\n(?=\S)", lock.strip())
    assert all(re.match(r"[\w-]+==[\w.]+.* \\\n    --hash=sha256:", one) for one in pinned)
    wanted = re.findall(
        r"^[\w-]+", (ROOT / "tests/bench/requirements.txt").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert {one.partition("==")[0] for one in pinned} >= set(wanted) > {"chdb", "polars"}


def test_what_is_missing_is_named_with_how_to_install_it(tmp_path: Path) -> None:
    """Before anything is measured of the case."""
    found = _bench(tmp_path, "--cases", "sqlite", "--peers", str(tmp_path), env={"PATH": str(tmp_path)})
    assert found.returncode
    assert "needs sqlite3, and this machine has none: apt-get install sqlite3" in found.stderr


def test_a_case_that_is_not_there_is_named(tmp_path: Path) -> None:
    """With those that are."""
    found = _bench(tmp_path, "--cases", "bigger")
    assert found.returncode == 2
    assert "bigger: not one of start, big" in found.stderr


def _bench(
    folder: Path, *options: str, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """At a hundredth of the size, once."""
    usual = ["--factor", "0.01", "--runs", "1", "--json", str(folder / "results.json")]
    return subprocess.run(
        [sys.executable, "-m", "tests.bench", *usual, *options],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )


def _measured(folder: Path, *options: str) -> dict[str, Any]:
    found = _bench(folder, *options)
    assert found.returncode == 0, found.stderr
    results: dict[str, Any] = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    return results


def _all_the_same(results: dict[str, Any]) -> bool:
    methods = [one for case in results["cases"].values() for one in case["methods"]]
    return all(one["same"] in {"yes", "not compared"} and one["costs"] for one in methods)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_case_of_ours_runs_and_delivers_what_the_source_holds(tmp_path: Path) -> None:
    """With the peers that are scripts."""
    names = [name for name in CASES if name not in NEEDS_PROGRAMS]
    results = _measured(tmp_path, "--cases", ",".join(names))
    assert list(results["cases"]) == names
    assert _all_the_same(results)


@pytest.mark.proof
@pytest.mark.timeout(900)
def test_every_peer_writes_the_records_that_ours_does(tmp_path: Path) -> None:
    """Each as it is run by its users. Their packages take 1.5 GB, which `make test` spares everybody."""
    results = _measured(tmp_path, "--cases", ",".join(NEEDS_PROGRAMS), "--plots", str(tmp_path / "plots"))
    assert list(results["cases"]) == list(NEEDS_PROGRAMS)
    assert _all_the_same(results)
    assert (tmp_path / "plots" / "big.svg").stat().st_size < 30_000


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_growth_is_measured_in_every_way(tmp_path: Path) -> None:
    """Each size delivers what it has to."""
    results = _measured(tmp_path, "--cases", "growth")
    assert list(results["growth"]) == list(GROWTH)
    assert all(len(points) > 2 for points in results["growth"].values())
