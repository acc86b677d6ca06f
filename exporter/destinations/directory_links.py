"""A large archive that needs no copy: its file in the workspace becomes the file in the directory.

That is so where nobody could tell it from a copy, by owner, mode, access lists or labels, and where nobody
else has linked it. It must not write a byte of an archive, nor give it the name that it is delivered under.
"""

from __future__ import annotations

import hashlib
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from exporter.destinations.uploads import changed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from io import FileIO

    from exporter.destinations.uploads import Opened
    from exporter.model import Package

_BLOCK_BYTES: Final = 1 << 19


class Links:
    """From a directory into workspaces. Safe to use from several threads."""

    def __init__(self) -> None:
        self._unsure: set[tuple[int, int]] = set()
        """Files whose sync has failed: the system says so once, and calls the next one a success."""

    def make(self, package: Package, archive: Opened, file: FileIO, name: str) -> bool:
        """Whether the archive has this name, too, from now on, and all that the new, empty ``file`` has.

        If not, nothing has the name: the file would differ, or the system refuses, and a copy will show
        whether anything is wrong. An archive that is not delivered in the end keeps the mode, in a folder
        that is private, and can be put again.
        """
        path = package.body
        with suppress(OSError):
            if isinstance(path, Path) and self._is_like(archive, file) and _link(path, archive, name):
                os.fchmod(archive.fileno(), stat.S_IMODE(os.fstat(file.fileno()).st_mode))
                os.utime(archive.fileno())  # leftovers go by their age, and this one's begins here
                return True
        with suppress(OSError):  # there is none, or it is swept a day later
            os.unlink(name)  # noqa: PTH108 - text, as `directory` has it
        return False

    def prove(self, package: Package, archive: Opened, progress: Callable[[int], None]) -> None:
        """Sync the archive's file, and hash it meanwhile. Raises OSError, and NotSent if it changed."""
        digest, buffer = hashlib.sha256(), memoryview(bytearray(_BLOCK_BYTES))
        with ThreadPoolExecutor(1, thread_name_prefix="sync") as thread:
            synced = thread.submit(self._sync, archive.fileno())
            while count := archive.readinto(buffer):
                digest.update(buffer[:count])
                progress(count)
            synced.result()
        if digest.hexdigest() != package.content.archive_sha256:
            raise changed(package)

    def _is_like(self, archive: Opened, file: FileIO) -> bool:
        """Whether nothing but content, mode and times would tell one from the other."""
        old, new = os.fstat(archive.fileno()), os.fstat(file.fileno())
        return (
            stat.S_ISREG(old.st_mode)
            and (old.st_dev, old.st_uid, old.st_gid) == (new.st_dev, new.st_uid, new.st_gid)
            and (old.st_dev, old.st_ino) not in self._unsure
            and hasattr(os, "listxattr")  # elsewhere nobody can tell whether there are access lists
            and _attributes(archive.fileno()) == _attributes(file.fileno())
        )

    def _sync(self, descriptor: int) -> None:
        try:
            os.fsync(descriptor)
        except OSError:
            found = os.fstat(descriptor)
            self._unsure.add((found.st_dev, found.st_ino))
            raise


def _link(path: Path, archive: Opened, name: str) -> bool:
    """Whether the open archive has this name now, and only this one besides its own. Raises OSError.

    Its path may lead to another file by now. And whoever delivers the same file at the same time may not
    link it, too: of two links to one file neither could tell whether it was first under a name.
    """
    os.link(path, name)
    linked = os.lstat(name)
    is_it = os.path.samestat(linked, os.fstat(archive.fileno()))
    return is_it and linked.st_nlink == 2  # noqa: PLR2004 - the path and the name


def _attributes(descriptor: int) -> Mapping[str, bytes]:
    """The extended attributes of an open file; access lists and labels are among them."""
    return {name: os.getxattr(descriptor, name) for name in os.listxattr(descriptor)}
