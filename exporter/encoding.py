"""From a block to its lines, and to the form that always renders of a record that has none.

Pure: what comes of a block depends on nothing before it, so that blocks may be encoded in any process.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from exporter.errors import WrongAccount
from exporter.model import BadRecord, Branch

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Mapping, Sequence

    from exporter.interfaces import Block, Format
    from exporter.model import Rendering

KEPT_BYTES: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Lines:
    """A block's lines, which of its records are bad, and how many values were protected."""

    data: bytes
    bad: tuple[tuple[int, BadRecord], ...] = ()
    protected: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Encoded:
    """What comes of a block: which of its records go out, None for all of them, and the lines of these."""

    chosen: Sequence[int] | None
    lines: Lines


class Encoding:
    """How the blocks of one range become lines."""

    def __init__(self, form: Format, rendering: Rendering, account: str) -> None:
        self._format = form
        self._rendering = rendering
        self._account = account

    def encode(self, block: Block) -> Encoded:
        """Raises WrongAccount for a block with a record of another one, and MissingColumn."""
        if not block.belongs_to(self._account):
            raise WrongAccount(
                f"the source answered with a record of another account than '{self._account}'",
                hint="nothing was delivered; check the source's query and its account column",
            )
        chosen = self._format.chosen(block)
        return Encoded(chosen, self.lines(block if chosen is None else block.pick(chosen)))

    def lines(self, block: Block) -> Lines:
        """Those of records that all go out."""
        if not len(block):
            return Lines(b"")
        if block.branch is Branch.UNREADABLE:
            reason = "its time cannot be read"
            bad = [(index, self._bad(block, index, reason)) for index in range(len(block))]
            return self._with_bad([b""] * len(block), bad)
        try:
            data, protected = self._format.encode(block)
        except ValueError as error:
            return self._of_halves(block, str(error))
        longest = self._rendering.max_record_bytes
        if len(data) <= longest:
            return Lines(data, protected=protected)
        lines = data.split(b"\n")[:-1]
        bad = [
            (index, _bad_record(block.id(index), f"longer than {longest} bytes", line))
            for index, line in enumerate(lines)
            if len(line) > longest
        ]
        return replace(self._with_bad(lines, bad), protected=protected) if bad else Lines(data, (), protected)

    def _of_halves(self, block: Block, reason: str) -> Lines:
        """Find the records that cannot be rendered without giving up the speed of the others."""
        if len(block) == 1:
            return self._with_bad([b""], [(0, self._bad(block, 0, reason))])
        middle = len(block) // 2
        left, right = self.lines(block.slice(0, middle)), self.lines(block.slice(middle, len(block)))
        moved = tuple((index + middle, record) for index, record in right.bad)
        protected = Counter(left.protected)
        protected.update(right.protected)
        return Lines(left.data + right.data, left.bad + moved, protected)

    def _with_bad(self, lines: list[bytes], bad: list[tuple[int, BadRecord]]) -> Lines:
        """Lines without their line feeds, some of which are replaced by the form that always renders."""
        for index, record in bad:
            lines[index] = self._format.bad_line(record)
        return Lines(b"".join(line + b"\n" for line in lines), tuple(bad))

    def _bad(self, block: Block, index: int, reason: str) -> BadRecord:
        return _bad_record(block.id(index), reason, block.raw(index))


def _bad_record(record_id: str, reason: str, whole: bytes) -> BadRecord:
    return BadRecord(record_id, reason, len(whole), whole[:KEPT_BYTES])


def one_by_one(encoding: Encoding, blocks: Iterable[Block]) -> Generator[tuple[Block, Encoded]]:
    """Blocks and what comes of them, each when it is asked for."""
    for block in blocks:
        yield block, encoding.encode(block)
