"""The events of a package on their way out: a batch is read and packed while the one before it is sent.

It must not send anything, nor hold more than two batches.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, BinaryIO

from exporter.destinations.uploads import changed

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from exporter.model import Batch, Package


class Events:
    """The events of a batch, a line each with its line feed; split only where not all go out at once.

    ``packed`` is all of them as they go over the wire, where somebody made that already.
    """

    def __init__(self, data: bytes, count: int, packed: bytes | None = None) -> None:
        self._data = data
        self._count = count
        self._packed = packed

    def __len__(self) -> int:
        """How many."""
        return self._count

    def __getitem__(self, place: int) -> bytes:
        """One of them."""
        return self._lines[place]

    def part(self, start: int, stop: int) -> bytes:
        """Some neighbours."""
        return self._data if stop - start == self._count else b"".join(self._lines[start:stop])

    def packed(self, part: bytes) -> bytes | None:
        """What was made of a part already."""
        return self._packed if part is self._data else None

    @cached_property
    def _lines(self) -> Sequence[bytes]:
        return [line + b"\n" for line in self._data.split(b"\n")[:-1]]


def read_ahead(
    package: Package, file: BinaryIO, pack: Callable[[bytes], bytes]
) -> Generator[tuple[Batch, Events]]:
    """Each batch of the package, in order, with its events. Raises NotSent where the file has changed.

    ``pack`` makes of lines what goes over the wire, in a thread that is one batch ahead: whoever sends waits
    for answers and for the ledger meanwhile. Close the generator before the file.
    """

    def read(batch: Batch) -> Events:
        file.seek(batch.offset)
        data = file.read(batch.size_bytes)
        if len(data) != batch.size_bytes or data[-1:] != b"\n" or data.count(b"\n") != batch.count:
            raise changed(package)
        return Events(data, batch.count, pack(data))

    if not package.batches:
        return
    with ThreadPoolExecutor(1, "events") as thread:  # which starts with the second batch, if there is one
        events = read(package.batches[0])
        for batch, following in pairwise(package.batches):
            ahead = thread.submit(read, following)
            yield batch, events
            events = ahead.result()
        yield package.batches[-1], events
