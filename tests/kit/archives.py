"""Where archives are made, and what was made of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from exporter.model import Package


class Here:
    """The room for one archive: a folder, there or not, and as much memory as a test gives it."""

    def __init__(self, path: Path, memory_bytes: int = 0) -> None:
        self.path = path
        self.memory_bytes = memory_bytes

    def file(self, name: str) -> Path:
        """Where a file of this name belongs."""
        return self.path / name

    def keeps(self, size_bytes: int) -> bool:
        """Whether so many bytes may stay in memory."""
        fits = size_bytes <= self.memory_bytes
        self.memory_bytes -= size_bytes if fits else 0
        return fits


def bytes_of(body: Path | bytes) -> bytes:
    """An archive, wherever it is."""
    return body if isinstance(body, bytes) else body.read_bytes()


def file_of(package: Package) -> Path:
    """The file of a package that has one."""
    assert isinstance(package.body, Path)
    return package.body
