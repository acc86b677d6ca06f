"""The private scratch folder where archives are built. Nothing in it outlives its process for long."""

# ruff: noqa: PTH102, PTH104, PTH108, PTH208 - as `Folder` says

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections import deque
from contextlib import suppress
from itertools import count
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Final, Self

from exporter.errors import WorkspaceError

if TYPE_CHECKING:
    from typing import IO

PREFIX: Final = "audit-exporter-"
LOCK: Final = ".lock"
_EMPTY: Final = ".empty"

MEMORY_BYTES: Final = 8 << 20
"""Of all packages of a process as much stays in memory, however many wait; what is beyond goes into files.

It is what the places of a run take up with some 500 records each; more would wait only where a store is slow.
"""


class Workspace:
    """A folder of this process alone, inside ``root`` (None: the system's temporary folder).

    Its lock is a file beside it, made before it and removed after it, so that no death leaves a folder
    without one. Entering removes what killed processes left behind: a folder whose lock nobody holds.
    Leaving removes its own. Processes that are forked meanwhile use it, too, and hold the lock with it.
    """

    def __init__(self, root: Path | None) -> None:
        self._root = Path(tempfile.gettempdir()) if root is None else root
        self._lock: IO[bytes] | None = None
        self._numbers = count()  # names that need no trying: with the process's number nobody else's
        self._memory = Memory(MEMORY_BYTES)
        self._emptied: deque[str] = deque()
        self.path = self._root

    def __enter__(self) -> Self:
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            self._sweep()
            lock, self._lock = _new_lock(self._root)
            self.path = _folder_of(lock)
            self.path.mkdir(mode=0o700)
        except OSError as error:
            raise _unusable(self._root, error) from error
        return self

    def __exit__(self, *_: object) -> None:
        if self._lock is not None:
            with self._lock, suppress(OSError):  # what stays is swept by the next process
                _remove(self.path.with_name(self.path.name + LOCK))

    def folder(self) -> Folder:
        """One for a package, which the caller discards."""
        return Folder(f"{self.path}/{os.getpid()}-{next(self._numbers)}", self._memory, self._emptied)

    def _sweep(self) -> None:
        for path in self._root.glob(f"{PREFIX}*{LOCK}"):
            # Someone else may sweep at the same time, or the folder may be another user's: both are fine.
            with suppress(OSError), path.open("r+b") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(path)


class Memory:
    """How many bytes may still be kept; safe to use from several threads."""

    def __init__(self, size_bytes: int) -> None:
        self._left_bytes = size_bytes
        self._lock = Lock()

    def take(self, size_bytes: int) -> bool:
        """Whether there is room for so many, which from now on are taken."""
        with self._lock:
            if size_bytes > self._left_bytes:
                return False
            self._left_bytes -= size_bytes
            return True

    def give_back(self, size_bytes: int) -> None:
        """So many are free again."""
        with self._lock:
            self._left_bytes += size_bytes


class Folder:
    """One package's: made for its first file, as most have none, and what is kept of it in memory.

    Folders that are ``emptied`` are used again: making one takes longer than filling it. Paths are text
    where every package comes by: pathlib would take longer than the disk. One thread at a time may use it.
    """

    def __init__(self, path: str, memory: Memory, emptied: deque[str]) -> None:
        self._path = path
        self._memory = memory
        self._emptied = emptied
        self._is_made = False
        self._kept_bytes = 0

    @property
    def path(self) -> Path:
        """Where its files are, once it has any."""
        return Path(self._path)

    def file(self, name: str) -> Path:
        """Where its file of this name belongs; the folder is there from now on. Raises WorkspaceError."""
        if not self._is_made:
            self._make()
            self._is_made = True
        return Path(self._path, name)

    def keeps(self, size_bytes: int) -> bool:
        """Whether so many bytes more of its package may stay in memory; until it is discarded, if so."""
        kept = self._memory.take(size_bytes)
        self._kept_bytes += size_bytes if kept else 0
        return kept

    def discard(self) -> None:
        """Remove all of it, if that was not done before; what cannot be removed goes with the workspace."""
        self._memory.give_back(self._kept_bytes)
        self._kept_bytes = 0
        if self._is_made:
            self._is_made = False
            self._remove()

    def _make(self) -> None:
        with suppress(IndexError, OSError):  # there is none, or somebody cleaned it up
            os.rename(self._emptied.pop(), self._path)
            return
        try:
            os.mkdir(self._path, mode=0o700)
        except OSError as error:
            raise _unusable(self.path.parent, error) from error

    def _remove(self) -> None:
        try:
            for name in os.listdir(self._path):
                os.unlink(f"{self._path}/{name}")
            os.rename(self._path, self._path + _EMPTY)
        except OSError:
            shutil.rmtree(self._path, ignore_errors=True)
        else:
            self._emptied.append(self._path + _EMPTY)


def _new_lock(root: Path) -> tuple[Path, IO[bytes]]:
    """A lock that this process holds; not one that was swept before it was held."""
    while True:
        descriptor, name = tempfile.mkstemp(prefix=PREFIX, suffix=LOCK, dir=root)
        lock = os.fdopen(descriptor, "r+b")
        fcntl.flock(lock, fcntl.LOCK_EX)
        if Path(name).exists():
            return Path(name), lock
        lock.close()


def _folder_of(lock: Path) -> Path:
    return lock.with_suffix("")


def _remove(lock: Path) -> None:
    """The folder first: as long as anything of it is there, so is its lock."""
    shutil.rmtree(_folder_of(lock), ignore_errors=True)
    if not _folder_of(lock).exists():
        lock.unlink()


def _unusable(path: Path, error: OSError) -> WorkspaceError:
    return WorkspaceError(
        f"the workspace {path} cannot be written: {error.strerror or error}",
        hint="make room there or name another folder with the setting `workspace`; nothing was delivered",
    )
