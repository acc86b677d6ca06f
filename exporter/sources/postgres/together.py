"""Many accounts' ranges of one window, read by one ordered scan for each branch.

A small account's records cost less than the planning and sending of its own statements. Accounts come in
the order in which they are asked for, whatever their collation, and a range has exactly the records, and
their order, that it has alone. Records that are unreadable or late have to come before those on time, and
are few as a rule: they are read first and kept, up to ``KEPT_BYTES``. An account that goes beyond is read
alone, at the price that it has there. It must not decide what belongs to a range.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from contextlib import closing
from itertools import groupby
from typing import TYPE_CHECKING, Final

from exporter.sources.postgres.connection import PIECE_BYTES
from exporter.sources.postgres.copy import blocks

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Iterator, Sequence

    from exporter.model import Range
    from exporter.sources.postgres.copy import CopyBlock, CopyLayout
    from exporter.sources.postgres.ranges import Selection, Snapshot

    Found = Generator[tuple[int, CopyBlock], None, None]
    """Blocks, each with the index of its range."""

KEPT_BYTES: Final = 4_000_000


def read_ranges(snapshot: Snapshot, ranges: Sequence[Range], layout: CopyLayout, block_rows: int) -> Found:
    """The records of ranges, one after the other, with as few statements as these allow. To be closed."""
    begin = 0
    for group in _groups(ranges):
        with closing(_Group(snapshot, group, layout, block_rows).read()) as found:
            for index, block in found:
                yield begin + index, block
        begin += len(group)


def _groups(ranges: Sequence[Range]) -> Iterator[Sequence[Range]]:
    """Neighbours that one scan can answer: the same window at the same seal, whole, of one account each."""
    begin, accounts = 0, set[str]()
    for index, one in enumerate(ranges):
        if accounts and (one.account in accounts or not _are_alike(ranges[begin], one)):
            yield ranges[begin:index]
            begin = index
            accounts.clear()
        accounts.add(one.account)
    if accounts:
        yield ranges[begin:]


def _are_alike(first: Range, second: Range) -> bool:
    if any(key is not None for one in (first, second) for key in (one.after, one.last)):
        return False
    return (first.window, first.seal) == (second.window, second.seal)


class _Group:
    """Some ranges of one window: their records on time differ in nothing but the account."""

    def __init__(
        self, snapshot: Snapshot, ranges: Sequence[Range], layout: CopyLayout, block_rows: int
    ) -> None:
        self._snapshot = snapshot
        self._ranges = ranges
        self._layout = layout
        self._block_rows = block_rows
        self._kept: dict[int, list[CopyBlock]] = {}
        self._alone: set[int] = set()
        self._room_bytes = KEPT_BYTES

    def read(self) -> Found:
        """Every range's blocks, in their order."""
        everybody = range(len(self._ranges))
        if len(everybody) == 1:
            return self._each(everybody)
        return self._all(everybody)

    def _all(self, everybody: Sequence[int]) -> Found:
        for indexes in self._by_previous_seal(everybody):
            *before, on_time = self._snapshot.selections(self._ranges[indexes[0]])
            for selection in before:
                self._keep(indexes, selection)
        for is_alone, grouped in groupby(everybody, self._alone.__contains__):
            some = list(grouped)
            with closing(self._each(some) if is_alone else self._on_time(some, on_time)) as found:
                yield from found

    def _by_previous_seal(self, indexes: Sequence[int]) -> Collection[Sequence[int]]:
        """Those whose other records are between the same two seals, too."""
        found: dict[tuple[str, bool], list[int]] = {}
        for index in indexes:
            one = self._ranges[index]
            previous = "" if one.previous is None else repr(sorted(one.previous.items()))
            found.setdefault((previous, one.first), []).append(index)
        return found.values()

    def _keep(self, indexes: Sequence[int], selection: Selection) -> None:
        """A branch of these ranges, of each all or nothing: where room ends, some are read alone."""
        turns = self._turns(indexes)
        with closing(self._scanned(turns, selection)) as found:
            for block in found:
                self._room_bytes -= block.size_bytes
                for index, part in turns.parts(block):
                    if self._room_bytes < 0:
                        self._alone.add(index)
                    else:
                        self._kept.setdefault(index, []).append(part)

    def _on_time(self, indexes: Sequence[int], selection: Selection) -> Found:
        """The last branch of these ranges, and what was kept of each before it."""
        turns, left = self._turns(indexes), deque(indexes)
        with closing(self._scanned(turns, selection)) as found:
            parts = (part for block in found for part in turns.parts(block))
            for index, whole in self._put_together(parts):
                yield from self._kept_until(index, left)
                yield index, whole
        yield from self._kept_until(indexes[-1], left)

    def _put_together(self, parts: Iterator[tuple[int, CopyBlock]]) -> Iterator[tuple[int, CopyBlock]]:
        """What blocks of the scan cut in two: every block has its price."""
        before = next(parts, None)
        for index, part in parts:
            if before is not None and before[0] == index and self._is_small(before[1], part):
                before = index, before[1].followed_by(part)
                continue
            if before is not None:
                yield before
            before = index, part
        if before is not None:
            yield before

    def _is_small(self, *parts: CopyBlock) -> bool:
        if sum(map(len, parts)) > self._block_rows:
            return False
        return sum(part.size_bytes for part in parts) <= PIECE_BYTES

    def _kept_until(self, index: int, left: deque[int]) -> Iterator[tuple[int, CopyBlock]]:
        while left and left[0] <= index:
            at = left.popleft()
            for block in self._kept.pop(at, ()):
                yield at, block

    def _scanned(self, turns: _Turns, selection: Selection) -> Generator[CopyBlock, None, None]:
        """A branch of the ranges of several accounts, in blocks that hold records of some of them."""
        if not turns.accounts:
            return
        one = self._ranges[turns.index]
        select = self._snapshot.of_each(turns.accounts, selection, one, self._layout)
        with closing(self._snapshot.session.copy(select, self._block_rows)) as pieces:
            yield from blocks(pieces, selection.branch, self._layout)

    def _turns(self, indexes: Sequence[int]) -> _Turns:
        named = [(index, self._ranges[index].account) for index in indexes]
        return _Turns([(index, name) for index, name in named if self._snapshot.accounts.may_have(name)])

    def _each(self, indexes: Sequence[int]) -> Found:
        for index in indexes:
            with closing(self._snapshot.blocks(self._ranges[index], self._layout, self._block_rows)) as found:
                for block in found:
                    yield index, block


class _Turns:
    """Whose turn it is while the blocks of one scan come by."""

    def __init__(self, named: Sequence[tuple[int, str]]) -> None:
        self._indexes = [index for index, _ in named]
        self.accounts = [account for _, account in named]
        self._at = 0

    @property
    def index(self) -> int:
        """That of the range whose turn it is."""
        return self._indexes[self._at]

    def parts(self, block: CopyBlock) -> Iterator[tuple[int, CopyBlock]]:
        """What each account has of the next block, with the index of its range."""
        start = 0
        while start < len(block):
            while not self._is_of(block, start):
                self._at += 1
            stop = self._end(block, start)
            yield self.index, block.slice(start, stop)
            start = stop

    def _end(self, block: CopyBlock, start: int) -> int:
        """Behind the account's last record in the block: its records follow one another."""
        if self._is_of(block, len(block) - 1):
            return len(block)
        return bisect_left(range(len(block)), True, start + 1, key=lambda row: not self._is_of(block, row))

    def _is_of(self, block: CopyBlock, row: int) -> bool:
        if self._at == len(self.accounts):
            raise RuntimeError("a scan gave out records of an account that was not asked for next")
        return block.slice(row, row + 1).belongs_to(self.accounts[self._at])
