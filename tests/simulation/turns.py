"""Threads of which exactly one runs at a time; it hands over only where it says so.

That makes every interleaving of several processes a matter of the caller's choices alone, and so
repeatable. It knows nothing of what the threads do.
"""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Executor


class Turns:
    """Runs some bodies, one at a time, from the first one's start until all of them have ended.

    ``pool`` needs a thread for each body. A body must not raise.
    """

    def __init__(self, pool: Executor, bodies: Sequence[Callable[[], None]]) -> None:
        self._pool = pool
        self._bodies = bodies
        self._locks = [_taken() for _ in bodies]
        self._ended = _taken()
        self.alive = list(range(len(bodies)))
        self.current = 0

    def run(self) -> None:
        """Returns when every body has ended."""
        for number in self.alive:
            self._pool.submit(self._run, number)
        self._locks[0].release()
        self._ended.acquire()

    def hand_over(self, to: int) -> None:
        """Go on with another body; returns when it is this one's turn again. For the running body."""
        me = self.current
        if to != me:
            self.current = to
            self._locks[to].release()
            self._locks[me].acquire()

    def _run(self, number: int) -> None:
        self._locks[number].acquire()
        self._bodies[number]()
        self.alive.remove(number)
        if self.alive:
            self.current = self.alive[0]
            self._locks[self.current].release()
        else:
            self._ended.release()


def _taken() -> Lock:
    lock = Lock()
    lock.acquire()
    return lock
