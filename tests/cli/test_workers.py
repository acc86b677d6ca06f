"""A run in several processes: each record once, whoever dies, and one report as if there were one process."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from exporter import workers
from exporter.commands import delivery
from exporter.destinations.directory import DirectoryStore
from exporter.ledger.sqlite_lock import WriteLock
from exporter.pipeline import Pipeline
from tests.cli.test_databases import POSTGRES_TABLE
from tests.kit.command_line import DAY, START, TODAY, Vendor, name_of, until_first_delivery
from tests.kit.postgres import shared_postgres

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from exporter.model import Package, Receipt
    from exporter.steps import Job

EXPORTS = 40
RECORDS = [str(number + 1) for number in range(2 * EXPORTS)]
PATIENCE_S = 60.0


@pytest.fixture
def crowd(tmp_path: Path) -> Vendor:
    """Many accounts, each with a record in either of two windows that are due."""
    made = Vendor(tmp_path)
    for number in range(EXPORTS):
        made.export(f"a-{number:02}")
        for moment in (START, START + DAY):
            made.insert(f"a-{number:02}", moment)
    made.start()
    return made


def within(seconds: float, what: Callable[[], object]) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def children(process_id: int) -> list[int]:
    """The processes that this one forked and that still run."""
    listed = Path(f"/proc/{process_id}/task/{process_id}/children").read_text(encoding="ascii")
    return [int(one) for one in listed.split()]


def is_running(process_id: int) -> bool:
    try:
        state = Path(f"/proc/{process_id}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def slow_down(monkeypatch: pytest.MonkeyPatch, wait: Callable[[Package], None]) -> None:
    """In all processes that are forked from now on, something happens before each object is stored."""
    put = DirectoryStore.put

    def waiting(self: DirectoryStore, package: Package, progress: Callable[[int], None]) -> Receipt:
        wait(package)
        return put(self, package, progress)

    monkeypatch.setattr(DirectoryStore, "put", waiting)


# --- one run -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", ["1", "2", "5", "64"])
def test_processes_share_the_exports_and_make_one_report(crowd: Vendor, count: str) -> None:
    answer = crowd("run", "--json", "--workers", count)
    assert answer.status == 0
    report = json.loads(answer.out)
    names = sorted((one["export"], one["object"]) for one in report["objects"])
    wanted = [(f"a-{number:02}", name_of(f"a-{number:02}", end)) for number in range(EXPORTS)
              for end in (START + DAY, TODAY)]  # fmt: skip
    assert names == wanted
    assert sorted(line["object"] for line in answer.events("delivered")) == [name for _, name in wanted]
    assert [line["due"] for line in answer.events("run started")] == [EXPORTS]
    assert crowd.event_ids() == RECORDS
    assert crowd("run").out == "Nothing was due.\n"
    crowd.assert_nothing_half_made()


def test_a_few_exports_are_not_worth_another_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vendor = Vendor(tmp_path)
    for number in range(2 * workers.SHARE - 1):
        vendor.export(f"a-{number}")
        vendor.insert(f"a-{number}", START)
    vendor.start()
    monkeypatch.delattr(workers, "Workers")
    assert vendor("run", "--workers", "8").status == 0


def test_one_worker_is_this_process(crowd: Vendor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "fork")
    assert crowd("run", "--workers", "1").status == 0


def test_a_dry_run_tells_of_every_export_and_changes_nothing(crowd: Vendor) -> None:
    before = crowd.fingerprint()
    answer = crowd("run", "--dry-run", "--json", "--workers", "4")
    assert len(json.loads(answer.out)["objects"]) == 2 * EXPORTS
    assert crowd.fingerprint() == before


def test_there_are_as_many_as_processors_but_few_of_them(
    crowd: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each takes memory, and a container sees all the processors of its machine."""
    asked: list[int] = []
    monkeypatch.setattr(delivery, "processors", lambda: 64)

    def ask(_: workers.Workers, count: int) -> list[Job]:
        asked.append(count)
        return []

    monkeypatch.setattr(workers.Workers, "run", ask)
    crowd("run")
    monkeypatch.setattr(delivery, "processors", lambda: 2)
    crowd("run")
    assert asked == [delivery.MOST_WORKERS, 2]


@pytest.mark.parametrize(("limit", "allowed"), [("150000 100000", 2), ("20000 100000", 1), ("max 100000", 8)])
def test_a_container_has_the_processors_that_it_is_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, allowed: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    (tmp_path / "cpu.max").write_text(limit + "\n")
    monkeypatch.setattr(delivery, "CPU_LIMIT", tmp_path / "cpu.max")
    assert delivery.processors() == allowed
    monkeypatch.setattr(delivery, "CPU_LIMIT", tmp_path / "none")
    assert delivery.processors() == 8


def test_an_export_that_takes_long_holds_up_no_other_process(
    crowd: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is through comes for more: the exports are not shared out before."""
    done = crowd.out / "audit"

    def wait(package: Package) -> None:
        if package.name.startswith("audit/a-00/"):
            within(PATIENCE_S, lambda: len(list(done.glob("a-*/audit_*"))) >= 2 * EXPORTS - 2)

    slow_down(monkeypatch, wait)
    assert crowd("run", "--workers", "2").status == 0
    assert crowd.event_ids() == RECORDS


def test_what_one_export_meets_is_told_with_its_traceback(
    crowd: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(package: Package) -> None:
        if package.name.startswith("audit/a-07/"):
            raise KeyError("a defect")

    slow_down(monkeypatch, fail)
    answer = crowd("run", "--json", "--workers", "2")
    assert answer.status == 10
    assert list(json.loads(answer.out)["failing"]) == ["a-07"]
    (line,) = answer.events("failed")
    assert line["error"] == "internal error: KeyError"
    assert "KeyError: 'a defect'" in line["exception"]
    assert crowd.event_ids() == [one for one in RECORDS if one not in ("15", "16")]


def test_a_folder_that_cannot_be_written_fails_its_exports_alone(crowd: Vendor) -> None:
    (crowd.folder / "other").mkdir()
    (crowd.folder / "other" / "audit").write_text("a file where a folder is needed")
    for export in crowd.settings["exports"][:20]:
        export["destination"] = {"type": "directory", "path": "other"}
    answer = crowd("run", "--json", "--workers", "3")
    assert answer.status == 10
    report = json.loads(answer.out)
    assert sorted(report["failing"]) == [f"a-{number:02}" for number in range(20)]
    assert len(report["objects"]) == EXPORTS
    assert len(answer.events("failed")) == 20


def test_a_ledger_that_is_gone_ends_the_run_in_all_processes(
    crowd: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def restore(_: Package) -> None:
        crowd.ledger.write_bytes(b"")

    crowd("run", "--workers", "1", "--export", "a-00")
    slow_down(monkeypatch, restore)
    answer = crowd("run", "--json", "--workers", "2")
    assert answer.status == 20
    assert "ledger" in json.loads(answer.out)["error"]["error"]


def test_a_budget_ends_the_starting_of_new_work_in_all_processes(
    crowd: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow_down(monkeypatch, lambda _: time.sleep(1.5))
    answer = crowd("run", "--json", "--workers", "2", "--budget", "1s")
    report = json.loads(answer.out)
    assert answer.status == 10
    assert report["unfinished"]
    assert set(report["unfinished"]) | {one["export"] for one in report["objects"]} == {
        f"a-{number:02}" for number in range(EXPORTS)
    }
    assert crowd("run", "--workers", "2").status == 0
    assert crowd.event_ids() == RECORDS


# --- deaths ------------------------------------------------------------------------------------------------


def die_with_one(package: Package) -> None:
    """What slows down deliveries, where one of them is the end of its process."""
    if package.name.startswith("audit/a-03/"):
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_worker_that_is_killed_takes_nothing_with_it(
    crowd: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others go on, the run says what happened, and the next one delivers what that worker had taken."""
    with monkeypatch.context() as patch:
        slow_down(patch, die_with_one)
        answer = crowd("run", "--json", "--workers", "2")
    report = json.loads(answer.out)
    assert (answer.status, report["error"]["error"]) == (10, "a worker process was ended by SIGKILL")
    assert "--workers" in report["error"]["hint"]
    delivered = {one["export"] for one in report["objects"]}
    assert len(delivered) >= EXPORTS // 4
    assert "a-03" in report["unfinished"]
    assert crowd("run", "--workers", "2").status == 0
    assert crowd.event_ids() == RECORDS
    assert list((crowd.folder / "work").glob("*")) == []


@pytest.mark.parametrize("left", ["unread", "half", "nothing"])
def test_a_worker_may_die_at_any_point_of_a_conversation(
    crowd: Vendor, monkeypatch: pytest.MonkeyPatch, left: str
) -> None:
    """With an answer that it never read, in the midst of a message of its own, or between them."""

    def die(self: workers._Supply, most: int) -> list[Job]:
        if left == "unread":
            self._connection.send(("more", most))
            self._connection.poll(PATIENCE_S)
        elif left == "half":
            os.write(self._connection.fileno(), b"\0\0\1\0a part of 256 bytes")
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    with monkeypatch.context() as patch:
        patch.setattr(workers._Supply, "take", die)
        answer = crowd("run", "--json", "--workers", "2")
    assert json.loads(answer.out)["error"]["error"] == "a worker process was ended by SIGKILL"
    assert crowd("run", "--workers", "2").status == 0
    assert crowd.event_ids() == RECORDS


def test_what_a_worker_died_of_is_told_by_whoever_was_started_with_sigchld_ignored(
    crowd: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow_down(monkeypatch, die_with_one)
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        answer = crowd("run", "--json", "--workers", "2")
        assert signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert json.loads(answer.out)["error"]["error"] == "a worker process was ended by SIGKILL"


def test_a_worker_with_a_defect_says_so(crowd: Vendor, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare = Pipeline.prepare

    def broken(self: Pipeline, jobs: Sequence[Job], *rest: object) -> None:
        if any(job.name == "a-03" for job in jobs):
            raise MemoryError("no more")
        prepare(self, jobs, *rest)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Pipeline, "prepare", broken)
        answer = crowd("run", "--json", "--workers", "2")
    assert answer.status == 10
    assert json.loads(answer.out)["error"]["error"] == "a worker process ended with status 1"
    assert "MemoryError: no more" in answer.err
    assert crowd("run", "--workers", "2").status == 0
    assert crowd.event_ids() == RECORDS


@pytest.mark.parametrize("workers_there", [0, 1])
def test_a_system_that_allows_no_more_processes(
    crowd: Vendor, monkeypatch: pytest.MonkeyPatch, workers_there: int
) -> None:
    """Those that there are do it all; without any, the message says what to do."""
    fork = os.fork
    forked: list[int] = []

    def scarce() -> int:
        if len(forked) >= workers_there:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        forked.append(1)
        return fork()

    monkeypatch.setattr(os, "fork", scarce)
    answer = crowd("run", "--json", "--workers", "3")
    if workers_there:
        assert answer.status == 0
        assert crowd.event_ids() == RECORDS
    else:
        error = json.loads(answer.out)["error"]
        assert error["error"] == "no worker process can be started: Resource temporarily unavailable"
        assert error["hint"] == "allow more processes, or do without: --workers 1"


@pytest.mark.slow
def test_a_run_that_is_killed_leaves_no_worker_and_doubles_nothing(crowd: Vendor) -> None:
    process = crowd.spawn("run", "--workers", "3")
    until_first_delivery(process)
    forked = children(process.pid)
    assert forked  # whoever found nothing left to take may have ended by then
    process.kill()
    process.communicate(timeout=PATIENCE_S)
    within(PATIENCE_S, lambda: not any(map(is_running, forked)))
    assert crowd("run", "--workers", "2").status == 0
    assert crowd.event_ids() == RECORDS
    assert list((crowd.folder / "work").glob("*")) == []


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_all_of_them_with_a_whole_report(crowd: Vendor, number: signal.Signals) -> None:
    """Whether it is sent to one process, or to all of them as a terminal does."""
    crowd.settings["defaults"] |= {"every": "1h"}
    for hour in range(1, 20):
        for export in range(EXPORTS):
            crowd.insert(f"a-{export:02}", START + hour * timedelta(hours=1))
    process = crowd.spawn("run", "--workers", "2")
    until_first_delivery(process)
    for one in [process.pid, *(children(process.pid) if number == signal.SIGINT else ())]:
        os.kill(one, number)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 10
    assert "the next run goes on where this one stopped." in out
    assert all(json.loads(line)["event"] in ("delivered", "stopped") for line in err.splitlines())
    assert crowd("run", "--workers", "2").status == 0
    assert len(crowd.event_ids()) == len(set(crowd.event_ids())) == 21 * EXPORTS
    crowd.assert_nothing_half_made()


@pytest.mark.slow
def test_two_runs_of_several_processes_at_once_deliver_each_record_once(crowd: Vendor) -> None:
    runs = [crowd.spawn("run", "--workers", "3") for _ in range(2)]
    threads = [threading.Thread(target=run.communicate, daemon=True) for run in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert [run.returncode for run in runs] == [0, 0]
    assert crowd.event_ids() == RECORDS


@pytest.mark.slow
def test_processes_have_connections_of_their_own_to_source_and_ledger(tmp_path: Path) -> None:
    """PostgreSQL at both ends: a connection that two processes used would mix up their answers."""
    server = shared_postgres()
    database = server.new_database()
    vendor = Vendor(tmp_path)
    vendor.settings["source"]["url"] = vendor.settings["ledger"]["url"] = server.url(database)
    vendor.settings["source"]["columns"]["commit"] = "export_xid"
    names = [f"a-{number:02}" for number in range(EXPORTS)]
    for name in names:
        vendor.export(name)
    with server.connect(database) as connection:
        connection.execute(POSTGRES_TABLE)
        connection.execute(
            "INSERT INTO audit_log (created_at, account_id, summary)"
            " SELECT %s, account, repeat('x', 1000) FROM unnest(%s::text[]) account, generate_series(1, 50)",
            (START, names),
        )
    vendor.start()
    answer = vendor("run", "--json", "--workers", "4")
    assert (answer.status, len(json.loads(answer.out)["objects"])) == (0, EXPORTS)
    assert len(set(vendor.event_ids())) == len(vendor.event_ids()) == 50 * EXPORTS


# --- who may write the ledger next -------------------------------------------------------------------------


def test_the_lock_is_one_process_s_and_a_death_gives_it_back() -> None:
    lock = WriteLock(PATIENCE_S)
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        with lock.held():
            os.write(writing, b"x")
            time.sleep(PATIENCE_S)
        os._exit(1)
    os.read(reading, 1)
    began = time.monotonic()
    threading.Timer(0.2, os.kill, (child, signal.SIGKILL)).start()
    with lock.held():
        assert time.monotonic() - began >= 0.2
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    os.close(reading)
    os.close(writing)


def test_whoever_waits_too_long_for_the_lock_goes_on_without() -> None:
    """SQLite itself then waits, and says that the file is locked."""
    lock = WriteLock(0.05)
    came = threading.Event()

    def wait() -> None:
        with lock.held():
            came.set()

    with lock.held():
        thread = threading.Thread(target=wait)
        thread.start()
        assert came.wait(PATIENCE_S)
    thread.join()
    with lock.held():
        pass
