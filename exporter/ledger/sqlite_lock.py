"""Who may write a SQLite file next, among the threads of a process and its forks."""

from __future__ import annotations

import fcntl
import os
import time
import weakref
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

LOOK_S: Final = 0.001
"""SQLite itself would look again after longer and longer sleeps, up to a tenth of a second."""


class WriteLock:
    """Held by one at a time. A death gives it back; whoever waits too long is left to SQLite."""

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._mine = Lock()
        # A file without a name, whose lock each process has for itself: forks come with the same one.
        self._file = os.memfd_create("ledger") if hasattr(os, "memfd_create") else None
        if self._file is not None:
            weakref.finalize(self, os.close, self._file)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Within it nobody else writes, as far as the lock comes in time."""
        deadline = time.monotonic() + self._patience_s
        is_mine = self._mine.acquire(timeout=self._patience_s)
        try:
            if is_mine and self._file is not None:
                _wait_for(self._file, deadline)
            yield
        finally:
            if is_mine:
                if self._file is not None:
                    fcntl.lockf(self._file, fcntl.LOCK_UN)
                self._mine.release()


def _wait_for(file: int, deadline: float) -> None:
    while True:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return
            time.sleep(LOOK_S)
        else:
            return
