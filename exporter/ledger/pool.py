"""A process's connections to one database: opened when there is none to spare, and kept for the next.

It has no thread of its own, and asks no connection whether it is alive. Nothing of it may be used on both
sides of a fork: whoever forks closes it before.
"""

from __future__ import annotations

from threading import Condition
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable


class _Closable(Protocol):
    def close(self) -> None: ...


C = TypeVar("C", bound=_Closable)


class Crowded(Exception):
    """No connection was given back in time."""


class Pool(Generic[C]):
    """Connections that ``connect`` opens; the one that was used last comes first. For any number of threads.

    At most ``most`` are open at a time, None: any number; of those that nobody uses, ``kept`` stay open.
    Whoever finds neither one nor room for one waits for ``patience_s``.
    """

    def __init__(
        self, connect: Callable[[], C], *, kept: int, most: int | None = None, patience_s: float = 0.0
    ) -> None:
        self.connect = connect
        self.patience_s = patience_s
        self._kept = kept
        self._most = most
        self._changed = Condition()
        self._open = 0
        self._idle: list[C] = []
        self._fresh: set[C] = set()  # those in use that were not opened before the last `close`

    def take(self) -> C:
        """A connection for the caller alone; raises Crowded, or what keeps one from being opened."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._idle or self._open != self._most, self.patience_s):
                raise Crowded
            if self._idle:
                connection = self._idle.pop()
                self._fresh.add(connection)
                return connection
            self._open += 1
        try:
            connection = self.connect()
        except BaseException:
            self._one_less()
            raise
        self._fresh.add(connection)
        return connection

    def give_back(self, connection: C) -> None:
        """This connection has nothing begun and may serve the next one."""
        with self._changed:
            if connection in self._fresh and len(self._idle) < self._kept:
                self._fresh.remove(connection)
                self._idle.append(connection)
                self._changed.notify()
                return
        self.drop(connection)

    def drop(self, connection: C) -> None:
        """Nobody is to have this connection again."""
        self._fresh.discard(connection)
        try:
            connection.close()
        finally:
            self._one_less()

    def close(self) -> None:
        """Close those that nobody uses, and the others when they come back; who takes one opens it anew."""
        with self._changed:
            idle, self._idle = self._idle, []
            self._fresh.clear()
            self._open -= len(idle)
            self._changed.notify_all()
        for connection in idle:
            connection.close()

    def _one_less(self) -> None:
        with self._changed:
            self._open -= 1
            self._changed.notify()
