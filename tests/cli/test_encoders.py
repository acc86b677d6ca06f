"""Whole runs with processes that encode: the same files as without, byte for byte, whatever befalls them."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING, Any, Final

import pytest

from exporter import encoders
from exporter.turns import SLOWED
from tests.cli.test_databases import POSTGRES_TABLE
from tests.cli.test_workers import children, die_with_one, is_running, slow_down
from tests.kit.command_line import START, TODAY, Vendor, rfc3339
from tests.kit.postgres import shared_postgres
from tests.kit.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from exporter.encoding import Encoded
    from exporter.model import Package

COUNT: Final = 12_000
STEP_S: Final = 2 * 86_400 // COUNT
SQLITE_FILL: Final = f"""
    INSERT INTO audit_log (created_at, account_id, actor_email, action, summary)
    WITH RECURSIVE numbers(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < {COUNT})
    SELECT strftime('%Y-%m-%dT%H:%M:%SZ', ?, '+' || (n * {STEP_S}) || ' seconds'), 'acme',
        'user' || n || '@acme.example', CASE n % 3 WHEN 0 THEN 'Login' ELSE 'Logout' END,
        CASE WHEN n % 997 = 0 THEN NULL ELSE 'what "' || n || '" did' END FROM numbers
"""
POSTGRES_FILL: Final = f"""
    INSERT INTO audit_log (created_at, account_id, actor_email, action, summary)
    SELECT %s + n * interval '{STEP_S} s', 'acme', 'user' || n || '@acme.example',
        CASE n %% 3 WHEN 0 THEN 'Login' ELSE 'Logout' END,
        CASE WHEN n %% 997 = 0 THEN NULL ELSE repeat('x', n %% 700) END FROM generate_series(0, {COUNT - 1}) n
"""


@pytest.fixture(autouse=True)
def _they_help_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with lines of many megabytes."""
    monkeypatch.setattr(encoders, "ALONE_BYTES", 100_000)
    monkeypatch.setattr(encoders, "ALONE_SHARE", -1)


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bool]]:
    """Of each block that a process of this run was given, whether it was encoded there."""
    found: list[bool] = []
    take = encoders._Process.take

    def watched(self: encoders._Process) -> Encoded | None:
        encoded = take(self)
        found.append(encoded is not None)
        return encoded

    monkeypatch.setattr(encoders._Process, "take", watched)
    return found  # type: ignore[return-value]


def on_sqlite(folder: Path, **settings: Any) -> Vendor:  # noqa: ANN401 - any setting of an export
    """A vendor with many records of one account, in two windows."""
    vendor = Vendor(folder)
    vendor.execute(SQLITE_FILL, rfc3339(START))
    vendor.export("acme", **settings)
    vendor.start()
    return vendor


def on_postgres(folder: Path, database: str, **settings: Any) -> Vendor:  # noqa: ANN401 - any setting of an export
    """The same on PostgreSQL; all that are made of one database read the same records."""
    vendor = Vendor(folder)
    vendor.settings["source"]["url"] = shared_postgres().url(database)
    vendor.settings["source"]["columns"]["commit"] = "export_xid"
    vendor.export("acme", **settings)
    vendor.start()
    return vendor


@pytest.fixture(scope="module")
def database() -> str:
    server = shared_postgres()
    made = server.new_database()
    with server.connect(made) as connection:
        connection.execute(POSTGRES_TABLE)
        connection.execute(POSTGRES_FILL, (START,))
    return made


def files(vendor: Vendor) -> dict[str, bytes]:
    """All that was delivered, as it is."""
    paths = sorted(path for path in vendor.out.rglob("*") if path.is_file())
    return {str(path.relative_to(vendor.out)): path.read_bytes() for path in paths}


def run(vendor: Vendor, workers: int) -> list[str]:
    """What the run says it was slowed by."""
    answer = vendor("run", "--workers", str(workers), "--as-of", rfc3339(TODAY))
    assert answer.status == 0, answer.err
    vendor.assert_nothing_half_made()
    assert all(line["hint"] == SLOWED for line in answer.events("slowed"))
    return [line["why"] for line in answer.events("slowed")]


HARD: Final = {
    "filter": {"actions": "login"},
    "protect": {"columns": {"email": "pseudonymise"}, "key": {"env": "PSEUDONYMS"}, "secrets": True},
}


@pytest.mark.parametrize(
    "settings",
    [
        {"format": "ocsf"},
        {"format": "ocsf", "part_limit": 1_300_000, "max_record": 1000},
        {"format": "cef", "archive": "gzip"},
    ],
    ids=["whole", "parts", "text"],
)
def test_from_sqlite_the_same_files_come(
    tmp_path: Path, answers: list[bool], settings: dict[str, Any]
) -> None:
    """However many processes; also where parts end in the midst of blocks."""
    alone, helped = (on_sqlite(tmp_path / name, **settings) for name in ("alone", "helped"))
    assert run(alone, 1) == []
    assert answers == []
    assert run(helped, 3) == []
    assert answers.count(True) >= 2
    assert files(helped) == files(alone) != {}
    assert len(files(helped)) == 2 or "part_limit" in settings


@pytest.mark.parametrize(
    "settings",
    [{}, {"part_limit": 1_300_000, "max_record": 700}, {"format": "ocsf"} | HARD],
    ids=["whole", "parts", "protected"],
)
def test_from_postgresql_the_same_files_come(
    tmp_path: Path,
    database: str,
    answers: list[bool],
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, Any],
) -> None:
    """The same with COPY; with long records that go out in bad form, a filter and protected values."""
    monkeypatch.setenv("PSEUDONYMS", "0123456789abcdef0123456789abcdef")
    alone, helped = (on_postgres(tmp_path / name, database, **settings) for name in ("alone", "helped"))
    assert run(alone, 1) == []
    assert answers == []
    assert run(helped, 3) == []
    assert answers.count(True) >= 2
    assert files(helped) == files(alone) != {}
    totals = [vendor.row("acme")["filtered"] for vendor in (alone, helped)]
    assert totals == [2 * COUNT // 3 if "filter" in settings else 0] * 2


def test_a_run_whose_encoders_are_killed_says_so_and_delivers_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no failure, and nobody has to do anything about it now."""
    alone, helped = (on_sqlite(tmp_path / name, format="ocsf") for name in ("alone", "helped"))
    run(alone, 1)

    def die(_compile: object, inbox: int, *_: object) -> None:
        os.read(inbox, 1)
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(encoders, "_serve", die)
    assert run(helped, 3) == ["a process that encodes was ended by SIGKILL"] * 2
    assert files(helped) == files(alone) != {}


def test_a_dry_run_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vendor = on_sqlite(tmp_path, format="ocsf")
    monkeypatch.delattr(os, "fork")
    assert vendor("run", "--dry-run", "--workers", "3").status == 0


# --- beside worker processes -------------------------------------------------------------------------------

EXPORTS: Final = 16


@pytest.fixture
def crowd(tmp_path: Path) -> Vendor:
    """Enough accounts for two worker processes."""
    made = Vendor(tmp_path)
    for number in range(EXPORTS):
        made.export(f"a-{number:02}")
        made.insert(f"a-{number:02}", START)
    made.start()
    return made


def _noted(folder: Path) -> list[list[int]]:
    """The encoders that workers had, at each of their deliveries."""
    lines = (folder / "encoders").read_text(encoding="ascii").splitlines()
    return [json.loads(line) for line in lines]


def note_encoders(monkeypatch: pytest.MonkeyPatch, folder: Path, then: Callable[[Package], None]) -> None:
    """Let each worker note its own, whenever it delivers, before something happens."""

    def note(package: Package) -> None:
        with (folder / "encoders").open("a", encoding="ascii") as file:
            file.write(json.dumps(children(os.getpid())) + "\n")
        then(package)

    slow_down(monkeypatch, note)


def test_each_worker_has_one_encoder_and_leaves_none(crowd: Vendor, monkeypatch: pytest.MonkeyPatch) -> None:
    note_encoders(monkeypatch, crowd.folder, lambda _: None)
    assert crowd("run", "--workers", "2").status == 0
    found = _noted(crowd.folder)
    assert len(found) == EXPORTS
    assert {len(one) for one in found} == {1}
    assert not any(is_running(process_id) for (process_id,) in found)


def test_a_worker_that_is_killed_takes_its_encoder_with_it(
    crowd: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        note_encoders(patch, crowd.folder, die_with_one)
        answer = crowd("run", "--json", "--workers", "2")
    assert json.loads(answer.out)["error"]["error"] == "a worker process was ended by SIGKILL"
    forked = {process_id for one in _noted(crowd.folder) for process_id in one}
    assert forked
    wait_until("they have ended", lambda: not any(map(is_running, forked)))
    assert crowd("run", "--workers", "2").status == 0
    assert crowd.event_ids() == [str(number + 1) for number in range(EXPORTS)]


def test_what_a_workers_encoder_died_of_is_told(crowd: Vendor, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the one process that speaks to people."""
    monkeypatch.setattr(encoders, "_serve", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    answer = crowd("run", "--workers", "2")
    assert answer.status == 0
    assert [line["why"] for line in answer.events("slowed")] == [
        "a process that encodes was ended by SIGKILL"
    ] * 2
