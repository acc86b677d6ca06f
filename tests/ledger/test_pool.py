"""A pool of connections: few are open, the last used comes first, and whoever waits is called."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from exporter.ledger.pool import Crowded, Pool
from tests.kit.processes import wait_until


class Connection:
    """Knows whether it is open."""

    def __init__(self) -> None:
        self.is_open = True

    def close(self) -> None:
        self.is_open = False


class Server:
    """Opens connections, and remembers them."""

    def __init__(self) -> None:
        self.made: list[Connection] = []
        self.error: BaseException | None = None

    def connect(self) -> Connection:
        if self.error is not None:
            raise self.error
        self.made.append(Connection())
        return self.made[-1]

    @property
    def open(self) -> int:
        return sum(one.is_open for one in self.made)


@pytest.fixture
def server() -> Server:
    return Server()


def test_the_connection_that_was_used_last_serves_next(server: Server) -> None:
    """So that those that a busy moment needed fall idle, and not all of them are used in turn."""
    pool = Pool(server.connect, kept=5)
    one, other = pool.take(), pool.take()
    pool.give_back(one)
    pool.give_back(other)
    assert [pool.take(), pool.take()] == [other, one]
    assert len(server.made) == 2


def test_any_number_may_be_in_use_and_few_stay_open(server: Server) -> None:
    pool = Pool(server.connect, kept=2)
    taken = [pool.take() for _ in range(40)]
    assert server.open == 40
    for one in taken:
        pool.give_back(one)
    assert server.open == 2


def test_who_finds_all_taken_is_told_so_in_the_end(server: Server) -> None:
    pool = Pool(server.connect, kept=2, most=2, patience_s=0.01)
    taken = [pool.take(), pool.take()]
    with pytest.raises(Crowded):
        pool.take()
    pool.give_back(taken[0])
    assert pool.take() is taken[0]
    assert len(server.made) == 2


@pytest.mark.parametrize("end", [Pool.give_back, Pool.drop], ids=["given back", "dropped"])
def test_who_waits_gets_the_place_that_becomes_free(server: Server, end: object) -> None:
    """The connection itself, or the room for another one."""
    pool = Pool(server.connect, kept=1, most=1, patience_s=60)
    taken = pool.take()
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(pool.take)
        wait_until("it waits", lambda: bool(pool._changed._waiters))  # type: ignore[attr-defined]
        end(pool, taken)  # type: ignore[operator]
        got = waiting.result(30)
    assert got.is_open
    assert (got is taken) == taken.is_open
    assert server.open == 1


@pytest.mark.parametrize("error", [OSError("refused"), KeyboardInterrupt()], ids=["refused", "interrupted"])
def test_a_connection_that_cannot_be_made_takes_no_place(server: Server, error: BaseException) -> None:
    pool = Pool(server.connect, kept=1, most=1)
    server.error = error
    for _ in range(3):
        with pytest.raises(type(error)):
            pool.take()
    server.error = None
    assert pool.take().is_open


def test_closing_lets_go_of_all_at_once_or_when_they_come_back(server: Server) -> None:
    """And the pool goes on with new ones: of those that were open nobody knows whether they are alive."""
    pool = Pool(server.connect, kept=4, most=4, patience_s=0.01)
    idle, used = pool.take(), pool.take()
    pool.give_back(idle)
    pool.close()
    assert (idle.is_open, used.is_open) == (False, True)
    new = pool.take()
    pool.give_back(used)
    pool.give_back(new)
    assert (used.is_open, new.is_open) == (False, True)
    assert [pool.take() is new, *(pool.take().is_open for _ in range(3))] == [True] * 4
    with pytest.raises(Crowded):
        pool.take()


def test_threads_never_have_one_connection_at_the_same_time(server: Server) -> None:
    pool = Pool(server.connect, kept=3, most=3, patience_s=60)
    used: set[Connection] = set()
    lock = threading.Lock()

    def use(number: int) -> None:
        for turn in range(200):
            one = pool.take()
            with lock:
                assert one.is_open
                assert one not in used
                used.add(one)
            with lock:
                used.remove(one)
            if (turn + number) % 20 == 0:
                pool.close()
            (pool.drop if (turn + number) % 7 == 0 else pool.give_back)(one)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(use, range(8)))
    assert server.open <= 3
    pool.close()
    assert server.open == 0
