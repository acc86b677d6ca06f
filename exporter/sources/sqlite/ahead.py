"""One call on a connection that runs ahead in a thread of its own, while what came before is worked on.

It must not know what is called.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Final, Generic, Self, TypeVar, cast

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable
    from concurrent.futures import Future

Result = TypeVar("Result")

_MOMENT_S: Final = 0.01


class Ahead(Generic[Result]):
    """What the call raises comes with its result. Leaving interrupts it."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._thread: ThreadPoolExecutor | None = None
        self._call: Future[Result] | None = None

    def start(self, call: Callable[[], Result]) -> None:
        """Begin it; there is no other under way."""
        if self._thread is None:
            self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sqlite")
        self._call = self._thread.submit(call)

    @property
    def is_under_way(self) -> bool:
        """Whether there is a call whose result nobody has taken."""
        return self._call is not None

    def finish(self) -> None:
        """Wait until the connection is free."""
        if self._call is not None:
            wait((self._call,))

    def result(self) -> Result:
        """What the call answers, or raises."""
        call, self._call = cast("Future[Result]", self._call), None
        return call.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._call is not None and not self._call.cancel():
            while not self._call.done():
                self._connection.interrupt()  # again and again: what has not begun yet does not notice
                wait((self._call,), timeout=_MOMENT_S)
        if self._thread is not None:
            self._thread.shutdown()
