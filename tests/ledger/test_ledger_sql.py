"""What the SQLite ledger adds to the contract: its file, its versions, kills, processes and full disks."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import sqlite3
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from exporter.errors import Conflict, LedgerError, LedgerMissing
from exporter.ledger import migrations, schema
from exporter.ledger.history import RUNS_KEPT
from exporter.ledger.rules import Ledger
from exporter.ledger.sqlite import SqliteStorage, create_sqlite, migrate_sqlite
from exporter.ledger.storage import RunRecord
from exporter.model import LIVE_LANE, QUARANTINE_RECORDS, PlanState
from tests.contracts.ledger import BAD, BEGIN, NAME, Subject, at, everything, seal
from tests.contracts.ledger_storage import WHOLE, MortalStorage
from tests.kit.ledgers import noted, on_connect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection as Pipe
    from multiprocessing.context import ForkServerContext
    from pathlib import Path

    from exporter.ledger.connection import Connection


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "ledger.db"
    create_sqlite(path)
    return path


@pytest.fixture
def subject(path: Path) -> Iterator[Subject]:
    with closing(SqliteStorage(path)) as storage:
        yield Subject(storage)


def execute(path: Path, statement: str) -> list[Any]:
    """Run a statement on the file behind the ledger's back."""
    with closing(sqlite3.connect(path)) as connection, connection:
        return connection.execute(statement).fetchall()


# --- the file ----------------------------------------------------------------------------------------


def test_a_missing_ledger_is_an_error_that_says_what_an_empty_one_would_do(tmp_path: Path) -> None:
    with pytest.raises(LedgerMissing, match="there is no ledger at") as missing:
        SqliteStorage(tmp_path / "ledger.db")
    assert "audit-exporter ledger create" in missing.value.hint
    assert "skip or repeat history" in missing.value.hint
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("opens", [SqliteStorage, migrate_sqlite])
@pytest.mark.parametrize("content", [b"", b"no database at all" * 1000], ids=["empty", "text"])
def test_a_file_that_is_no_ledger_is_refused_and_kept(
    tmp_path: Path, opens: Callable[[Path], object], content: bytes
) -> None:
    path = tmp_path / "ledger.db"
    path.write_bytes(content)
    with pytest.raises(LedgerError, match="not a") as refused:
        opens(path)
    assert "audit-exporter ledger create" in refused.value.hint
    assert path.read_bytes() == content


def test_another_programs_database_is_refused(tmp_path: Path) -> None:
    execute(tmp_path / "other.db", "CREATE TABLE audit_log (id INTEGER PRIMARY KEY)")
    with pytest.raises(LedgerMissing, match="is not a ledger"):
        SqliteStorage(tmp_path / "other.db")


def test_a_damaged_ledger_says_how_to_come_back_from_a_backup(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:4096] + b"\xff" * (len(data) - 4096))
    with pytest.raises(LedgerError, match="image is malformed") as damaged:
        SqliteStorage(path)
    assert "audit-exporter ledger restored" in damaged.value.hint


def test_create_makes_missing_folders(tmp_path: Path) -> None:
    create_sqlite(tmp_path / "a" / "b" / "ledger.db")
    SqliteStorage(tmp_path / "a" / "b" / "ledger.db").close()


def test_create_refuses_a_file_that_exists(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(LedgerError, match="there is a file at") as refused:
        create_sqlite(path)
    assert "audit-exporter ledger migrate" in refused.value.hint
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "content", [b"no database at all" * 1000, b"SQLite format 3\x00"], ids=["text", "cut"]
)
def test_create_refuses_a_file_that_is_no_database(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "not a database"
    path.write_bytes(content)
    with pytest.raises(LedgerError, match="there is a file at"):
        create_sqlite(path)
    assert path.read_bytes() == content


def test_create_refuses_another_programs_database(tmp_path: Path) -> None:
    execute(tmp_path / "other.db", "CREATE TABLE audit_log (id INTEGER PRIMARY KEY)")
    with pytest.raises(LedgerError, match="there is a file at"):
        create_sqlite(tmp_path / "other.db")


def test_create_says_when_there_can_be_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LedgerError) as refused:
        create_sqlite(tmp_path / "file" / "ledger.db")
    assert refused.value.hint


def test_a_ledger_that_could_not_be_created_is_not_in_the_way_of_the_next_try(tmp_path: Path) -> None:
    with small_files(20_000), pytest.raises(LedgerError):
        create_sqlite(tmp_path / "ledger.db")
    create_sqlite(tmp_path / "ledger.db")


def test_two_ledgers_never_have_the_same_id(tmp_path: Path) -> None:
    ids = set()
    for name in ("a", "b"):
        create_sqlite(tmp_path / name)
        with closing(SqliteStorage(tmp_path / name)) as storage, storage.reading() as rows:
            ids.add(rows.ledger_id())
    assert len(ids) == 2


# --- versions ----------------------------------------------------------------------------------------


def test_an_older_ledger_asks_to_be_migrated(path: Path) -> None:
    execute(path, f"UPDATE meta SET value = '{schema.VERSION - 1}' WHERE key = 'version'")
    with pytest.raises(LedgerError, match=f"at version {schema.VERSION - 1}") as refused:
        SqliteStorage(path)
    assert refused.value.hint == "run: audit-exporter ledger migrate"


@pytest.mark.parametrize("opens", [SqliteStorage, migrate_sqlite])
def test_a_newer_ledger_asks_for_the_newer_program(path: Path, opens: Callable[[Path], object]) -> None:
    execute(path, f"UPDATE meta SET value = '{schema.VERSION + 1}' WHERE key = 'version'")
    with pytest.raises(LedgerError, match=f"at version {schema.VERSION + 1}; ") as refused:
        opens(path)
    assert "newer audit-exporter" in refused.value.hint


def _add_column(connection: Connection) -> None:
    connection.execute("ALTER TABLE runs ADD COLUMN host TEXT NOT NULL DEFAULT 'unknown'")


def _add_column_and_fail(connection: Connection) -> None:
    _add_column(connection)
    connection.execute("SELECT no_such_column FROM runs")


def test_migrate_brings_an_older_ledger_up_to_date_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the steps it has not had are taken, and what it knows stays."""
    with closing(SqliteStorage(path)) as storage:
        Subject(storage).begin()
    version = schema.VERSION
    monkeypatch.setattr(migrations, "MIGRATIONS", (*migrations.MIGRATIONS, _add_column))
    monkeypatch.setattr(schema, "VERSION", version + 1)
    assert migrate_sqlite(path) == (version, version + 1)
    assert migrate_sqlite(path) == (version + 1, version + 1)
    with closing(SqliteStorage(path)) as storage, storage.reading() as rows:
        assert [export.name for export in rows.exports()] == [NAME]


def test_a_migration_that_fails_leaves_the_ledger_as_it_was(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(migrations, "MIGRATIONS", (*migrations.MIGRATIONS, _add_column_and_fail))
        patched.setattr(schema, "VERSION", schema.VERSION + 1)
        with pytest.raises(LedgerError, match="no_such_column"):
            migrate_sqlite(path)
    SqliteStorage(path).close()
    assert "host" not in [column for _, column, *_ in execute(path, "PRAGMA table_info(runs)")]


# --- what SQLite is told -----------------------------------------------------------------------------


def test_every_commit_is_synced_to_disk(subject: Subject) -> None:
    """An upload follows a commit, so the commit has to survive a power cut: WAL with FULL."""
    full = 2
    for transaction in (subject.storage.reading(), subject.storage.writing()):
        with transaction as rows:
            connection = rows._connection  # type: ignore[attr-defined]
            assert connection.execute("PRAGMA synchronous") == [(full,)]
            assert connection.execute("PRAGMA journal_mode") == [("wal",)]


def test_the_database_itself_refuses_a_second_open_plan(subject: Subject) -> None:
    subject.begin()
    plan = subject.plan()
    another = replace(plan, id="2" * 32, sequence=2)
    with pytest.raises(LedgerError, match="UNIQUE"), subject.storage.writing() as rows:
        rows.insert_plan(another)
    with subject.storage.writing() as rows:
        rows.insert_plan(replace(another, state=PlanState.ABANDONED))
    assert subject.standing().open_plan == plan


def test_the_database_itself_refuses_a_second_export_of_the_same_names(subject: Subject) -> None:
    export = subject.begin().export
    with pytest.raises(LedgerError, match="UNIQUE"), subject.storage.writing() as rows:
        rows.insert_export(replace(export, name="other"))


def test_what_grows_without_end_is_never_scanned(subject: Subject) -> None:
    """Open plans, a plan's number, its attempts and bad records, and history are found by an index."""
    with noted() as statements, subject.storage.writing() as rows:
        rows.open_plans()
        rows.open_plans(NAME)
        rows.plan_by_sequence(NAME, 1)
        rows.plan("id")
        rows.attempts("id")
        rows.bad_records("id")
        rows.waiting()
        rows.waiting(NAME)
        rows.waiting_records(NAME, None, 0, 1)
        rows.waiting_records(NAME, 1, 0, 1)
        rows.last_window_before(NAME, BEGIN)
        rows.last_run()
        rows.delete_runs(before=BEGIN)
        rows.delete_windows(NAME, before=BEGIN)
        searches = [one for one in statements if one[0].startswith(("SELECT", "DELETE"))]
        assert len(searches) == 14
        for text, values in searches:
            connection = rows._connection  # type: ignore[attr-defined]
            steps = connection.execute(f"EXPLAIN QUERY PLAN {text}", values)
            assert all("INDEX" in detail for *_, detail in steps if "B-TREE" not in detail), text


def test_runs_are_forgotten_after_a_while(path: Path, subject: Subject) -> None:
    """A run that starts ends the memory of those that are too old, and of no other."""
    for name, started in (("old", BEGIN), ("young", at(1)), ("new", at(1) + RUNS_KEPT)):
        subject.ledger.record_run(RunRecord(name, started))
    assert execute(path, "SELECT id FROM runs ORDER BY started_at") == [("young",), ("new",)]


def test_a_full_quarantine_is_one_statement(subject: Subject) -> None:
    """So that its transaction holds up the others for a tenth of a second, not for a thousand statements."""
    subject.begin()
    bad = [BAD] * QUARANTINE_RECORDS
    with noted() as statements:
        subject.ledger.plan(subject.export(), subject.draft(bad=QUARANTINE_RECORDS), bad)
    assert sum("INSERT INTO bad_records" in text for text, _ in statements) == 1


# --- transactions of several -------------------------------------------------------------------------


def test_a_reader_sees_one_moment_while_a_writer_writes(path: Path, subject: Subject) -> None:
    """A reading neither waits for a writer nor sees what was committed after it began."""
    subject.begin()
    with closing(SqliteStorage(path)) as other, other.reading() as rows:
        assert rows.open_plans() == []
        plan = subject.plan()
        assert rows.open_plans() == []
    assert subject.standing().open_plan == plan


def test_a_writer_that_waited_in_vain_says_what_to_look_for(path: Path, subject: Subject) -> None:
    with closing(SqliteStorage(path)) as other:
        on_connect(other, "PRAGMA busy_timeout = 0")
        with subject.storage.writing(), pytest.raises(LedgerError, match="database is locked") as locked:
            Subject(other).begin()
    assert "fuser" in locked.value.hint


def test_as_many_transactions_as_there_are_threads_may_be_open_at_once(subject: Subject) -> None:
    """A run may have many uploads on their way: none of them waits for another's connection."""
    with ExitStack() as stack:
        ids = {stack.enter_context(subject.storage.reading()).ledger_id() for _ in range(40)}
    assert len(ids) == 1


# --- a disk that takes no more -----------------------------------------------------------------------


@contextmanager
def small_files(limit_bytes: int) -> Iterator[None]:
    """The operating system refuses to let any file grow beyond the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_an_error_with_a_hint_and_changes_nothing(subject: Subject) -> None:
    storage = subject.storage
    assert isinstance(storage, SqliteStorage)
    subject.begin()
    on_connect(storage, "PRAGMA max_page_count = 1")  # SQLite takes the present size, if that is more
    before = everything(storage)
    with pytest.raises(LedgerError, match="database or disk is full") as full:
        subject.ledger.fail(NAME, "x" * 200_000, "")
    assert "make room" in full.value.hint
    assert everything(storage) == before


def test_a_write_that_fails_is_an_error_with_a_hint_and_changes_nothing(subject: Subject) -> None:
    subject.begin()
    before = everything(subject.storage)
    with small_files(120_000), pytest.raises(LedgerError, match="disk I/O error") as failed:
        subject.ledger.fail(NAME, "x" * 200_000, "")
    assert "disk" in failed.value.hint
    assert everything(subject.storage) == before
    subject.plan()


def test_a_file_that_may_not_be_written_is_an_error_with_a_hint(subject: Subject) -> None:
    storage = subject.storage
    assert isinstance(storage, SqliteStorage)
    subject.begin()
    on_connect(storage, "PRAGMA query_only = ON")  # the same answer of SQLite, also for root
    with pytest.raises(LedgerError, match="readonly database") as refused:
        subject.requests.pause(NAME)
    assert "right to write" in refused.value.hint
    assert not subject.export().paused


# --- processes ---------------------------------------------------------------------------------------


def processes() -> ForkServerContext:
    """Processes that start at once, forked from one that has imported everything already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["pytest", "hypothesis", "exporter.ledger.sqlite", "exporter.ledger.requests"]
    )
    return context


class KilledStorage(MortalStorage):
    """A storage under which the process really dies."""

    def _count_change(self) -> None:
        if self.changes == self._dies_at:
            os.kill(os.getpid(), signal.SIGKILL)
        super()._count_change()


def _call_and_die(path: Path, rule: str, dies_at: int) -> None:
    _, call, _ = WHOLE[rule]
    call(Subject(KilledStorage(SqliteStorage(path), dies_at)))


@pytest.mark.parametrize("rule", ["plan", "commit", "restored"])
def test_a_process_killed_between_two_statements_leaves_nothing_half_done(
    path: Path, subject: Subject, rule: str
) -> None:
    """SIGKILL before each change of a transaction: the next process finds the ledger as it was before."""
    prepare, call, changes = WHOLE[rule]
    prepare(subject)
    before = everything(subject.storage)
    for dies_at in range(1, changes):
        process = processes().Process(target=_call_and_die, args=(path, rule, dies_at))
        process.start()
        process.join(timeout=60)
        assert process.exitcode == -signal.SIGKILL
        assert everything(subject.storage) == before
    call(subject)
    assert everything(subject.storage) != before


def _advance(path: Path, times: int, answer: Pipe) -> None:
    """Advance an export so many times, and tell from which versions."""
    ledger = Ledger(SqliteStorage(path), lambda: BEGIN)
    versions: list[int] = []
    while len(versions) < times:
        standing = ledger.standing(NAME)
        assert standing is not None
        version = standing.export.version
        try:
            ledger.advance(standing.export, LIVE_LANE, at(version), seal(version))
        except Conflict:
            continue
        versions.append(version)
    answer.send(versions)


@pytest.mark.slow
def test_of_many_processes_exactly_one_moves_an_export_on_from_each_version(
    path: Path, subject: Subject
) -> None:
    """16 processes with 20 compare-and-swaps each: all succeed in the end, each from a version of its own."""
    subject.begin()
    context = processes()
    answers, answer = context.Pipe(duplex=False)
    contestants = [context.Process(target=_advance, args=(path, 20, answer)) for _ in range(16)]
    for process in contestants:
        process.start()
    versions: list[int] = []
    for _ in contestants:
        assert answers.poll(timeout=60), "a process ended without an answer"
        versions += answers.recv()
    for process in contestants:
        process.join(timeout=60)
    assert sorted(versions) == list(range(320))
    assert subject.export().version == 320
    assert execute(path, "SELECT count(*) FROM windows") == [(320,)]
