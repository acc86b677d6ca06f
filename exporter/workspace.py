"""The private scratch folder where archives are built. Nothing in it outlives its process for long."""

from __future__ import annotations

import fcntl
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from exporter.errors import WorkspaceError

if TYPE_CHECKING:
    from typing import IO

PREFIX: Final = "audit-exporter-"
LOCK: Final = "lock"


class Workspace:
    """A folder of this process alone, inside ``root`` (None: the system's temporary folder).

    Entering removes what killed processes left behind: a folder whose lock nobody holds. Leaving
    removes its own.
    """

    def __init__(self, root: Path | None) -> None:
        self._root = Path(tempfile.gettempdir()) if root is None else root
        self._lock: IO[bytes] | None = None
        self.path = self._root

    def __enter__(self) -> Self:
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            self._sweep()
            self.path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=self._root))
            self._lock = (self.path / LOCK).open("xb")
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        except OSError as error:
            raise _unusable(self._root, error) from error
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock is not None:
            self._lock.close()

    def folder(self) -> Path:
        """A new empty folder for one package; the caller removes it."""
        try:
            return Path(tempfile.mkdtemp(dir=self.path))
        except OSError as error:
            raise _unusable(self.path, error) from error

    def _sweep(self) -> None:
        for folder in self._root.glob(f"{PREFIX}*"):
            # Someone else may sweep at the same time, or the folder may be another user's: both are fine.
            with suppress(OSError), (folder / LOCK).open("rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)


def discard(folder: Path) -> None:
    """Remove one package's folder."""
    shutil.rmtree(folder, ignore_errors=True)


def _unusable(path: Path, error: OSError) -> WorkspaceError:
    return WorkspaceError(
        f"the workspace {path} cannot be written: {error.strerror or error}",
        hint="make room there or name another folder with the setting `workspace`; nothing was delivered",
    )
