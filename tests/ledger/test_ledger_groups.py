"""Transactions of several exports in a database: few statements, no circles of waiting, all or nothing."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import pytest

from exporter.errors import Conflict, LedgerError, NameTaken
from exporter.ledger import postgres
from exporter.ledger.bulk import Bulk
from exporter.ledger.postgres import PostgresLedgerOptions, PostgresStorage
from exporter.ledger.sqlite import SqliteStorage, create_sqlite
from exporter.model import LIVE_LANE, Failure, Outcome
from tests.contracts.ledger import BEGIN, EVERY, STORE, Subject, at, everything, seal
from tests.contracts.ledger_group import draft
from tests.kit.ledgers import before_statements, connected, new_postgres, noted, on_connect, sqlite
from tests.kit.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from pathlib import Path

    from exporter.ledger.rules import Group
    from exporter.model import Attempt, Plan
    from tests.kit.ledgers import Opens

NAMES: Final = tuple(f"export {number:03d}" for number in range(40))


def begin_all(subject: Subject, names: Collection[str] = NAMES) -> None:
    with subject.ledger.together(names) as rules:
        for name in names:
            rules.begin(name, "acme", f"{STORE}/{name}", BEGIN, seal(0))


def plan_all(subject: Subject, names: Collection[str] = NAMES) -> list[Plan]:
    with subject.ledger.together(names) as rules:
        return [rules.plan(export_of(rules, name), draft()) for name in names]


def export_of(rules: Group, name: str) -> Any:  # noqa: ANN401
    standing = rules.standing(name)
    assert standing is not None
    return standing.export


def attempt_all(subject: Subject, plans: list[Plan]) -> list[Attempt]:
    with subject.ledger.together([plan.export for plan in plans]) as rules:
        return [rules.attempt(plan, plan.content, STORE) for plan in plans]


def commit_all(subject: Subject, plans: list[Plan], attempts: list[Attempt]) -> None:
    with subject.ledger.together([plan.export for plan in plans]) as rules:
        for plan, attempt in zip(plans, attempts, strict=True):
            rules.commit(plan, attempt, Outcome.SUCCEEDED)


# --- few statements ----------------------------------------------------------------------------------


def statements_of(act: Callable[[], object]) -> list[tuple[str, Any]]:
    """What is asked of the database meanwhile, with its values."""
    with noted() as asked:
        act()
    return asked


def test_planning_and_delivering_take_as_many_statements_for_one_export_as_for_many(opens: Opens) -> None:
    """So that a group of small exports costs little more than one."""
    storage = opens()
    subject = Subject(storage)
    begin_all(subject)
    counts: list[list[int]] = []
    for names in (NAMES[:1], NAMES[1:2], NAMES[2:]):  # the first time, their mapping is read
        plans: list[Plan] = []
        attempts: list[Attempt] = []
        steps = (
            partial(_into, plans, partial(plan_all, subject, names)),
            partial(_into, attempts, partial(attempt_all, subject, plans)),
            partial(commit_all, subject, plans, attempts),
        )
        counts.append([len(statements_of(step)) for step in steps])
    assert counts[1] == counts[2]
    assert max(counts[1]) <= 13


def _into(rows: list[Any], act: Callable[[], list[Any]]) -> None:
    rows.extend(act())


def test_whose_expected_claims_are_is_one_question(opens: Opens) -> None:
    """So that two thousand exports that begin do not ask two thousand times."""
    storage = opens()
    subject = Subject(storage)

    def begin(names: Collection[str]) -> None:
        with subject.ledger.together(names) as rules:
            rules.expect([f"{STORE}/{name}" for name in names])
            for name in names:
                rules.begin(name, "acme", f"{STORE}/{name}", BEGIN, seal(0))

    counts = [len(statements_of(partial(begin, names))) for names in (NAMES[:1], NAMES[1:])]
    assert counts[0] == counts[1] <= 12


def test_what_is_read_for_a_group_is_found_by_an_index(tmp_path: Path) -> None:
    """However much has been delivered, none of it is walked through."""
    storage = sqlite(tmp_path)()
    subject = Subject(storage)
    begin_all(subject)
    asked: list[tuple[str, Any]] = []

    def act() -> None:
        plans = plan_all(subject)
        commit_all(subject, plans, attempt_all(subject, plans))

    asked = [one for one in statements_of(act) if one[0].lstrip().startswith("SELECT")]
    assert len(asked) > 5
    with storage.reading() as rows:
        for text, values in asked:
            steps = rows._connection.execute(f"EXPLAIN QUERY PLAN {text}", values)  # type: ignore[attr-defined]
            found = [detail for *_, detail in steps if "B-TREE" not in detail and "SUBQUERY" not in detail]
            assert all("INDEX" in detail for detail in found), (text, found)
    storage.close()


def test_attempts_come_in_the_order_in_which_they_were_recorded(opens: Opens) -> None:
    """However the database has them: what has grown is found elsewhere."""
    subject = Subject(opens())
    begin_all(subject, NAMES[:2])
    plans = plan_all(subject, NAMES[:2])
    made = [attempt for _ in range(3) for attempt in attempt_all(subject, plans)]
    for attempt in (*made[1:], made[0]):
        plan = next(plan for plan in plans if plan.id == attempt.plan)
        failure = Failure(os.urandom(850).hex(), "", at(1))
        subject.ledger.answer(plan, attempt, Outcome.UNKNOWN, failure, at(1))
    for plan in plans:
        with subject.storage.together([plan.export]) as rows:
            found = [attempt.id for attempt in rows.attempts(plan.id)]
        assert found == [attempt.id for attempt in made if attempt.plan == plan.id]


# --- one after the other, and side by side -----------------------------------------------------------


@pytest.fixture
def options() -> PostgresLedgerOptions:
    return new_postgres()


@pytest.fixture
def storage(options: PostgresLedgerOptions) -> Iterator[PostgresStorage]:
    with closing(PostgresStorage(options)) as storage:
        yield storage


@pytest.fixture
def impatient(options: PostgresLedgerOptions, monkeypatch: pytest.MonkeyPatch) -> Iterator[PostgresStorage]:
    """Another process's storage, which does not wait for long."""
    monkeypatch.setattr(postgres, "LIMITS", {**postgres.LIMITS, "lock_timeout": "100ms"})
    with closing(PostgresStorage(options)) as other:
        yield other


@pytest.mark.parametrize(
    ("group", "waits"),
    [(["globex", "acme"], True), (["globex", "initech"], False), ([], False)],
)
def test_a_group_waits_for_its_own_exports_alone(
    storage: PostgresStorage, impatient: PostgresStorage, group: list[str], *, waits: bool
) -> None:
    """Others wait for it likewise, whether they are one, several or the whole ledger."""

    def enter(transaction: Any) -> None:  # noqa: ANN401
        with transaction as rows:
            rows.ledger_id()

    with storage.together(["acme", "umbrella"]):
        if waits:
            with pytest.raises(LedgerError, match="lock timeout"):
                enter(impatient.together(group))
        else:
            enter(impatient.together(group))
        for name in ("acme", None):
            with pytest.raises(LedgerError, match="lock timeout"):
                enter(impatient.writing(name))
        enter(impatient.writing("globex"))
    enter(impatient.together(group))


def test_of_two_groups_that_begin_at_one_place_one_is_refused(options: PostgresLedgerOptions) -> None:
    """Also when neither sees what the other has done yet: the second one waits for the first to end."""
    with closing(PostgresStorage(options)) as one, closing(PostgresStorage(options)) as other:
        answers: list[object] = []

        def begin_too() -> None:
            with Subject(other).ledger.together(["newer"]) as rules:
                try:
                    answers.append(rules.begin("newer", "acme", "the place", BEGIN, seal(0)))
                except NameTaken as error:
                    answers.append(error)

        thread = threading.Thread(target=begin_too)
        with Subject(one).ledger.together(["older"]) as rules:
            rules.begin("older", "acme", "the place", BEGIN, seal(0))
            thread.start()
            wait_until("the other waits", lambda: _waiting(one) == 1)
            assert answers == []
        thread.join(60)
        assert [type(answer) for answer in answers] == [NameTaken]
        assert Subject(one).ledger.standing("newer") is None


def _waiting(storage: PostgresStorage) -> int:
    question = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    mine = " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    with storage.reading() as rows:
        return int(rows._connection.execute(question + mine)[0][0])


@pytest.mark.slow
def test_groups_that_overlap_in_any_order_all_get_through(opens: Opens) -> None:
    """Nobody waits in a circle, and of those who start from the same standing one moves an export on."""
    names, rounds = NAMES[:12], 15
    begin_all(Subject(opens()), names)
    subjects = [Subject(opens()) for _ in range(4)]

    def move_on(subject: Subject, seed: int) -> int:
        dice, moved = random.Random(seed), 0
        for _ in range(rounds):
            mine = dice.sample(names, 8)
            before = {name: subject.standing(name).export for name in mine}
            with subject.ledger.together(mine) as rules:
                for name in mine:
                    with suppress(Conflict):
                        end = BEGIN + EVERY * (before[name].version + 1)
                        rules.advance(before[name], LIVE_LANE, end, seal(before[name].version))
                        moved += 1
        return moved

    with ThreadPoolExecutor(len(subjects)) as threads:
        moved = sum(threads.map(move_on, subjects, range(len(subjects))))
    standings = [subjects[0].standing(name) for name in names]
    # How many more than the first group's depends on who reads when: that is the machine's matter.
    assert moved == sum(one.export.version for one in standings) >= 8
    assert all(one.live.watermark == BEGIN + EVERY * one.export.version for one in standings)


def impatient_sqlite(folder: Path, monkeypatch: pytest.MonkeyPatch, seconds: float) -> SqliteStorage:
    """Its connections wait for nobody, and its threads for each other for so long."""
    create_sqlite(folder / "ledger.db")
    monkeypatch.setattr("exporter.ledger.sqlite.BUSY_TIMEOUT_S", seconds)
    storage = SqliteStorage(folder / "ledger.db")
    on_connect(storage, "PRAGMA busy_timeout=0")
    return storage


def test_threads_of_a_process_need_not_look_again_and_again_whether_it_is_their_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite sleeps in between, for longer and longer: they are called."""
    with closing(impatient_sqlite(tmp_path, monkeypatch, 60)) as storage:
        with ThreadPoolExecutor(2) as threads:
            with storage.together(["acme"]):
                waiting = [threads.submit(begin_all, Subject(storage), [name]) for name in NAMES[:2]]
                with pytest.raises(TimeoutError):
                    waiting[0].result(0.05)
            for one in waiting:
                one.result(60)
        assert all(Subject(storage).standing(name) for name in NAMES[:2])


def test_a_thread_that_waits_too_long_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not only other processes can hold the ledger for too long."""
    with closing(impatient_sqlite(tmp_path, monkeypatch, 0.01)) as storage:
        with storage.together(["acme"]), pytest.raises(LedgerError, match="locked"):
            begin_all(Subject(storage), ["globex"])
        begin_all(Subject(storage), ["globex"])


# --- all or nothing ----------------------------------------------------------------------------------


def test_an_error_of_the_database_that_was_swallowed_does_not_pass_for_a_commit(
    opens: Opens, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After some errors SQLite has ended the transaction, and would take each later write for itself."""
    subject = Subject(opens())
    begin_all(subject)
    before = everything(subject.storage, NAMES)

    with connected(subject.storage) as connection:
        error = connection.dialect.error

    def lost(*_: object) -> Any:  # noqa: ANN401
        raise error("disk I/O error")

    def fail_all() -> None:
        with subject.ledger.together(NAMES) as rules:
            rules.fail(NAMES[0], "no", "")
            with monkeypatch.context() as patched, suppress(error):
                patched.setattr(Bulk, "lanes", lost)
                rules.advance(export_of(rules, NAMES[1]), LIVE_LANE, at(4), seal(4))
            rules.fail(NAMES[2], "no", "")

    with pytest.raises(LedgerError, match="disk I/O error"):
        fail_all()
    assert everything(subject.storage, NAMES) == before


def test_an_error_in_what_is_told_in_between_does_not_pass_for_a_commit_either(
    opens: Opens, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some changes are told before the next rule: after an error there nothing more is written."""
    storage = opens()
    begin_all(Subject(storage), NAMES[:1])
    with connected(storage) as connection:
        error = connection.dialect.error

    def lost(*_: object) -> None:
        raise error("disk I/O error")

    def fail() -> None:
        with storage.together(NAMES[:1]) as rows:
            rows.delete_windows(NAMES[0], before=BEGIN)
            with monkeypatch.context() as patched, suppress(error):
                patched.setattr(Bulk, "update_exports", lost)
                rows.whole().__enter__()

    with pytest.raises(LedgerError, match="disk I/O error"):
        fail()


def _deliver_and_die(path: Path, dies_at: int, start: list[str]) -> None:
    """Plan, attempt and commit for all, and be killed before the n-th statement."""
    storage = SqliteStorage(path)
    subject, asked = Subject(storage), 0

    def count(*_: object) -> None:
        nonlocal asked
        asked += 1
        if asked == dies_at:
            os.kill(os.getpid(), signal.SIGKILL)

    with before_statements(count):
        plans = plan_all(subject, start)
        commit_all(subject, plans, attempt_all(subject, plans))


@pytest.mark.slow
def test_a_process_killed_in_a_group_leaves_all_of_it_or_nothing(tmp_path: Path) -> None:
    """SIGKILL before each statement: every export of the group is where every other one is."""
    opens, names = sqlite(tmp_path), list(NAMES[:3])
    begin_all(Subject(opens()), names)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pytest", "hypothesis", "exporter.ledger.sqlite"])
    seen, deadline = set(), time.monotonic() + 120
    for dies_at in range(1, 100):
        path = tmp_path / f"{dies_at}.db"
        with closing(SqliteStorage(tmp_path / "ledger.db")) as storage, connected(storage) as connection:
            connection.execute(f"VACUUM INTO '{path}'")
        process = context.Process(target=_deliver_and_die, args=(path, dies_at, names))
        process.start()
        process.join(60)
        with closing(SqliteStorage(path)) as storage:
            left = Subject(storage)
            standings = [left.standing(name) for name in names]
            tried = [one.open_plan and len(left.ledger.attempts(one.open_plan.id)) for one in standings]
        state = {
            (one.export.sequence, one.live.watermark, tries)
            for one, tries in zip(standings, tried, strict=True)
        }
        assert len(state) == 1, (dies_at, state)
        seen |= state
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
        assert time.monotonic() < deadline
    assert seen == {(0, BEGIN, None), (1, BEGIN, 0), (1, BEGIN, 1), (1, BEGIN + EVERY, None)}
