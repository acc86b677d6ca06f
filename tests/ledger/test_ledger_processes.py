"""Processes by the dozen on one ledger in PostgreSQL: they compete, they die, their server dies."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import sys
import time
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import pytest

from exporter.ledger import encoding, schema
from exporter.ledger.postgres import PostgresLedgerOptions, PostgresStorage, create_postgres
from exporter.ledger.sql import SqlRows
from exporter.ledger.statements import select
from tests.contracts.ledger import Subject
from tests.contracts.ledger_processes import Found, World, broken_promises, live
from tests.kit.postgres import postgres_server, shared_postgres
from tests.kit.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.process import BaseProcess
    from pathlib import Path

    from exporter.ledger.schema import Table
    from exporter.ledger.storage import Storage
    from tests.kit.postgres import Postgres

PAUSE_S: Final = 0.2
PRELOADED: Final = [
    "tests.contracts.ledger_processes",
    "exporter.ledger.postgres",
]


class Crowd:
    """So many processes at any time: whoever died is followed by another one."""

    def __init__(self, world: World, size: int) -> None:
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(PRELOADED)
        self._world = world
        self._started = 0
        self._alive = [self._start() for _ in range(size)]
        self.ended: list[int | None] = []

    def _start(self) -> BaseProcess:
        self._started += 1
        process = self._context.Process(target=live, args=(self._world, self._started))
        process.start()
        return process

    def live_until(self, holds: Callable[[], bool]) -> None:
        """Let them live; every now and then one of them is killed, wherever it is."""

        def enough() -> bool:
            process = random.choice(self._alive)
            if process.is_alive() and process.pid is not None:
                os.kill(process.pid, signal.SIGKILL)
            self._replace_the_dead()
            time.sleep(PAUSE_S)
            return holds()

        wait_until("they have delivered enough", enough)

    def end(self) -> None:
        """All of them come to their end."""
        self._world.end.touch()
        for process in self._alive:
            process.join(timeout=60)
            self.ended.append(process.exitcode)

    def _replace_the_dead(self) -> None:
        for process in [one for one in self._alive if not one.is_alive()]:
            self.ended.append(process.exitcode)
            self._alive.remove(process)
            self._alive.append(self._start())


def judge(storage: Storage, world: World, crowd: Crowd) -> None:
    """Nobody met what must not be, and what is there afterwards is right."""
    assert set(crowd.ended) <= {0, -signal.SIGKILL}
    objects = {path.name: path for path in world.store.rglob("*.zip")}
    named = {str(path.relative_to(world.store)): path.read_text() for path in objects.values()}
    subject = Subject(storage)
    standings = subject.ledger.standings()
    with storage.reading() as rows:
        assert isinstance(rows, SqlRows)
        plans = rows._plans(select(schema.PLANS, "ORDER BY sequence"))
        windows = read(rows, schema.WINDOWS, encoding.window_of)
        attempts = read(rows, schema.ATTEMPTS, encoding.attempt_of)
    counting = [plan for plan in plans if plan.state != "abandoned"]
    assert set(named.values()) <= {plan.id for plan in counting}, "what was given up has landed"
    wrong: list[str] = []
    for name, standing in standings.items():
        found = Found(
            standing,
            [plan for plan in counting if plan.export == name],
            [window for window in windows if window.export == name],
        )
        wrong += broken_promises(found, named)
    assert wrong == []
    delivered = sum(plan.state == "delivered" for plan in plans)
    sys.stdout.write(
        f"{len(crowd.ended)} processes, {len(crowd.ended) - crowd.ended.count(0)} of them killed: "
        f"{len(attempts)} attempts, {len(plans)} plans, {delivered} delivered, {len(windows)} windows\n"
    )
    assert delivered
    assert len(standings) == 4


def read(rows: SqlRows, table: Table, make: Callable[[Any], Any]) -> list[Any]:
    return [make(row) for row in select(table, "ORDER BY number").rows(rows._connection)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "store").mkdir()
    return tmp_path


def world_of(server: Postgres, folder: Path) -> World:
    """An empty ledger and an empty store."""
    options = PostgresLedgerOptions(server.url(server.new_database()))
    create_postgres(options)
    return World(partial(PostgresStorage, options), folder / "store", folder / "end")


def has_delivered(storage: Storage, windows: int) -> bool:
    """Whether so many windows are through, of all exports together."""
    with storage.reading() as rows:
        ((count,),) = rows._connection.execute("SELECT count(*) FROM windows")  # type: ignore[attr-defined]
        return int(count) >= windows


@pytest.mark.slow
def test_of_64_processes_that_die_at_any_moment_none_does_harm(folder: Path) -> None:
    """Numbers stay dense, windows follow each other, and every object is that of its one plan."""
    world = world_of(shared_postgres(), folder)
    crowd = Crowd(world, 64)
    with closing(world.open_storage()) as storage:
        crowd.live_until(lambda: has_delivered(storage, 16))
        crowd.end()
        judge(storage, world, crowd)


@pytest.mark.slow
def test_a_server_that_dies_under_its_processes_does_no_harm(folder: Path) -> None:
    """An immediate end loses what was not on disk: nothing that anybody was told is there."""
    with postgres_server() as server:
        world = world_of(server, folder)
        crowd = Crowd(world, 16)
        with closing(world.open_storage()) as storage:
            for windows in (6, 12):
                crowd.live_until(lambda windows=windows: has_delivered(storage, windows))  # type: ignore[misc]
                server.restart("immediate")
            crowd.live_until(lambda: has_delivered(storage, 18))
            crowd.end()
            judge(storage, world, crowd)
