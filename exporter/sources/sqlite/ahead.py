"""Calls on a connection that run ahead in a thread of its own, while what came before is worked on.

It must not know what is called.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Final, Generic, Self, TypeVar

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable
    from concurrent.futures import Future

Result = TypeVar("Result")

_MOMENT_S: Final = 0.01


class Ahead(Generic[Result]):
    """They run one after the other. What one raises comes with its result. Leaving interrupts them."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._thread: ThreadPoolExecutor | None = None
        self._calls: deque[Future[Result]] = deque()

    def start(self, call: Callable[[], Result]) -> None:
        """Begin it, once those that were started before are done."""
        if self._thread is None:
            self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sqlite")
        self._calls.append(self._thread.submit(call))

    def __len__(self) -> int:
        """How many calls there are whose results nobody has taken."""
        return len(self._calls)

    def finish(self) -> None:
        """Wait until the connection is free."""
        wait(self._calls)

    def result(self) -> Result:
        """What the oldest call answers, or raises."""
        return self._calls.popleft().result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        begun = [call for call in reversed(self._calls) if not call.cancel()]  # none begins meanwhile
        while not all(call.done() for call in begun):
            self._connection.interrupt()  # again and again: what has not begun yet does not notice
            wait(begun, timeout=_MOMENT_S)
        if self._thread is not None:
            self._thread.shutdown()
