"""The private scratch folder where archives are built. Nothing in it outlives its process for long."""

# ruff: noqa: PTH104, PTH106, PTH108, PTH120, PTH208 - as `_emptied` says

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections import deque
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from exporter.errors import WorkspaceError

if TYPE_CHECKING:
    from typing import IO

PREFIX: Final = "audit-exporter-"
LOCK: Final = ".lock"
_EMPTY: Final = ".empty"

_emptied: Final[dict[str, deque[str]]] = {}
"""By the workspaces of this process, folders that are free again: making one takes longer than filling it.

Paths are text where every package comes by: pathlib would take longer than the disk.
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
        self.path = self._root

    def __enter__(self) -> Self:
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            self._sweep()
            lock, self._lock = _new_lock(self._root)
            self.path = _folder_of(lock)
            self.path.mkdir(mode=0o700)
            _emptied[str(self.path)] = deque()
        except OSError as error:
            raise _unusable(self._root, error) from error
        return self

    def __exit__(self, *_: object) -> None:
        _emptied.pop(str(self.path), None)
        if self._lock is not None:
            with self._lock, suppress(OSError):  # what stays is swept by the next process
                _remove(self.path.with_name(self.path.name + LOCK))

    def folder(self) -> Path:
        """A new empty folder for one package; the caller removes it."""
        folder = self.path / f"{os.getpid()}-{next(self._numbers)}"
        try:
            os.rename(_emptied[str(self.path)].pop(), folder)
        except (KeyError, IndexError, OSError):  # there is none, or somebody cleaned it up
            self._make(folder)
        return folder

    def _make(self, folder: Path) -> None:
        try:
            folder.mkdir(mode=0o700)
        except OSError as error:
            raise _unusable(self.path, error) from error

    def _sweep(self) -> None:
        for path in self._root.glob(f"{PREFIX}*{LOCK}"):
            # Someone else may sweep at the same time, or the folder may be another user's: both are fine.
            with suppress(OSError), path.open("r+b") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(path)


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


def discard(folder: Path) -> None:
    """Remove one package's folder; what cannot be removed goes with the workspace.

    A folder that was discarded before is not there: its name never comes again.
    """
    path = str(folder)
    try:
        for name in os.listdir(path):
            os.unlink(f"{path}/{name}")
        free = _emptied.get(os.path.dirname(path))
        if free is None:
            os.rmdir(path)
        else:
            os.rename(path, path + _EMPTY)
            free.append(path + _EMPTY)
    except OSError:
        shutil.rmtree(folder, ignore_errors=True)


def _unusable(path: Path, error: OSError) -> WorkspaceError:
    return WorkspaceError(
        f"the workspace {path} cannot be written: {error.strerror or error}",
        hint="make room there or name another folder with the setting `workspace`; nothing was delivered",
    )
