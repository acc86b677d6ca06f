"""What the uploads of every driver are made of: the archive, its body on the way, and how long that may take.

It must not know a vendor, send anything, or hold more of an archive than a block in memory.
"""

from __future__ import annotations

import io
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, BinaryIO, Final, TypeAlias, cast

from exporter.errors import NotSent, OutcomeUnknown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from exporter.model import Package

Opened: TypeAlias = "io.BufferedReader | io.BytesIO"

MIB: Final = 1 << 20
SMALL_BYTES: Final = 64 << 10  # what a connection takes at once
RENDER_AGAIN: Final = "leave the workspace to this program alone; the next run renders the archive again"


@dataclass(frozen=True, slots=True)
class Limits:
    """From which size an upload goes in parts, and how long a request may take."""

    large_bytes: int = 64 * MIB  # large: many customers are only notified of objects put at once
    part_bytes: int = 16 * MIB
    at_once_bytes: int = 5000 * MIB  # what one request may carry, the least of what the clouds take
    answer_s: float = 60
    slowest_bytes_per_s: float = 32 << 10

    def upload_s(self, size_bytes: int) -> float:
        """How long so many bytes may be on their way."""
        return self.answer_s + size_bytes / self.slowest_bytes_per_s

    def body(self, file: BinaryIO, start: int, length: int, progress: Callable[[int], None]) -> Body:
        """The body of a request, with its time."""
        return Body(file, start, length, limit_s=self.upload_s(length), progress=progress)

    def parts(self, file: BinaryIO, size: int, progress: Callable[[int], None]) -> Iterator[Body]:
        """The bodies of the requests that a large file goes in."""
        for start in range(0, size, self.part_bytes):
            yield self.body(file, start, min(self.part_bytes, size - start), progress)


DEFAULT_LIMITS: Final = Limits()


@contextmanager
def nothing_landed() -> Iterator[None]:
    """Before the last request of an upload in parts there is no object, whatever became of the others."""
    try:
        yield
    except OutcomeUnknown as error:
        raise NotSent(f"the upload broke off: {error.message}", hint=error.hint, fix=error.fix) from error


@contextmanager
def opened(package: Package) -> Iterator[Opened]:
    """The package's archive, for reading. Raises NotSent if it is gone."""
    if isinstance(package.body, bytes):
        yield io.BytesIO(package.body)
        return
    try:
        file = package.body.open("rb")
    except OSError as error:
        raise unreadable(package, error) from error
    with file:
        yield file


def unreadable(package: Package, error: OSError) -> NotSent:
    """The error for an archive that is gone, or of which the disk has lost something."""
    message = f"{_archive_of(package)} cannot be read from the workspace: {error.strerror or error}"
    return NotSent(message, hint=RENDER_AGAIN)


def changed(package: Package) -> NotSent:
    """The error for an archive that is not what its package says."""
    return NotSent(f"{_archive_of(package)} changed in the workspace", hint=RENDER_AGAIN)


def _archive_of(package: Package) -> str:
    """In words; events have no name."""
    return f"the archive of {package.name}" if package.name else "the archive"


class Body(io.RawIOBase):
    """``length`` bytes of a file from ``start`` on, as the body of a request.

    A client may read it before it sends it (to sign it), and again when it tries again. Only what is
    read after ``sending`` counts as progress, and no byte counts twice. An upload that is not through
    ``limit_s`` after it began ends with TimeoutError, however lively a slow connection seems.
    """

    def __init__(
        self, file: BinaryIO, start: int, length: int, *, limit_s: float, progress: Callable[[int], None]
    ) -> None:
        super().__init__()
        self._file = file
        self._start = start
        self._length = length
        self.is_small = length <= SMALL_BYTES
        """Whether it is all on its way before anybody could say that it need not be."""
        self._limit_s = limit_s
        self._progress = progress
        self._at = 0
        self._reported = 0
        self._deadline: float | None = None

    def sending(self) -> None:
        """From here on, what is read goes over the wire."""
        self._deadline = time.monotonic() + self._limit_s

    def stream(self) -> IO[bytes]:
        """The body from its first byte, not yet being sent, typed as what clients take."""
        self._at = 0
        self._deadline = None
        return cast("IO[bytes]", self)

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Go to a place in the body, not in the file."""
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._length}[whence]
        return self._at

    def tell(self) -> int:
        """The place in the body."""
        return self._at

    def read(self, size: int | None = -1, /) -> bytes:
        """The next bytes. Raises TimeoutError when the time for sending is over."""
        left = self._length - self._at
        self._file.seek(self._start + self._at)
        data = self._file.read(left if size is None or size < 0 else min(size, left))
        self._at += len(data)
        if self._deadline is not None:
            self._count(self._deadline)
        return data

    def _count(self, deadline: float) -> None:
        if time.monotonic() > deadline:
            raise TimeoutError(f"the upload was not through after {self._limit_s:.0f} s")
        if self._at > self._reported:
            self._progress(self._at - self._reported)
            self._reported = self._at
