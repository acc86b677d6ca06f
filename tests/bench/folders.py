"""Empty folders for runs to write to."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def anew(folder: Path) -> None:
    """An empty folder; what was there stays beside it, until all of it is removed.

    Where thousands of files have just been removed, ext4 looks at each of them for every new one: that took
    up to half of a run.
    """
    if folder.exists():
        number = 1 + sum(1 for _ in folder.parent.glob(f"{folder.name}.*"))
        folder.rename(folder.with_name(f"{folder.name}.{number}"))
    folder.mkdir(parents=True)
