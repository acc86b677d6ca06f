"""The folders of a directory, made and synced so that they survive a power cut, each once in a process.

A folder's name is on disk when the folder around it was synced after it was made, by whomever. Paths are
text: every put comes by here, and pathlib would take as long as the disk. It must not write a file, nor
know what files are for.
"""
# ruff: noqa: PTH102, PTH116, PTH120 - as above

from __future__ import annotations

import errno
import os
import stat
from collections import Counter
from contextlib import suppress
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class Folders:
    """Folders at and below ``root``. Safe to use from several threads. Everything raises OSError."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._on_disk: dict[str, tuple[int, int]] = {}
        """By the folders whose names are on disk, their inodes: another one of the same name is not yet."""
        self._locks: dict[str, Lock] = {}
        self._begun: Counter[str] = Counter()
        self._ended: Counter[str] = Counter()

    def make(self, folder: str) -> None:
        """Let the folder be there, and its name and those around it, up to the root, be on disk.

        A root that is there is as its operator made it, who may have shut what is around it.
        """
        inode = inode_of(folder)
        if inode and (len(folder) <= len(self._root) or self._on_disk.get(folder) == inode):
            return
        around = os.path.dirname(folder)
        self.make(around)
        if inode is None:
            with suppress(FileExistsError):
                os.mkdir(folder)
            inode = inode_of(folder)
        self._sync_with_others(around)
        if inode:
            self._on_disk[folder] = inode

    def make_together(self, around: str, names: Iterable[str]) -> None:
        """As `make`, of several in a folder that is there, with one sync for all of them.

        Links, and what is none of a folder, are left as they are.
        """
        inodes: dict[str, tuple[int, int]] = {}
        for folder in (f"{around}/{name}" for name in names):
            with suppress(FileExistsError):
                os.mkdir(folder)
            found = os.lstat(folder)
            inode = found.st_dev, found.st_ino
            if stat.S_ISDIR(found.st_mode) and self._on_disk.get(folder) != inode:
                inodes[folder] = inode
        if inodes:
            self._sync_with_others(around)
            self._on_disk.update(inodes)

    def sync_up_from(self, folder: str) -> None:
        """Sync the folder and those around it, up to the root, whatever was synced before."""
        sync(folder)
        if folder != self._root:
            self.sync_up_from(os.path.dirname(folder))

    def _sync_with_others(self, folder: str) -> None:
        """Sync a folder that several threads make folders in: one that begins after all of them will do."""
        before = self._begun[folder]
        with self._locks.setdefault(folder, Lock()):
            if self._ended[folder] > before:
                return
            self._begun[folder] = number = self._begun[folder] + 1
            sync(folder)
            self._ended[folder] = number


def sync(folder: str) -> None:
    """Let the names in this folder be on disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # this file system has no sync for folders
            raise
    finally:
        os.close(descriptor)


def inode_of(folder: str) -> tuple[int, int] | None:
    """Which folder it is; None if there is none. Raises NotADirectoryError where something else is."""
    try:
        found = os.stat(folder)
    except FileNotFoundError:
        return None
    if not stat.S_ISDIR(found.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), folder)
    return found.st_dev, found.st_ino
