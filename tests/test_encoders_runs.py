"""Events with processes that encode: the same batches as without, and none of what was refused is lost."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from exporter import encoders as module
from exporter.sources.memory import MemorySource
from exporter.workspace import Workspace
from tests.test_events import LINE_BYTES, RENDERING, Stand

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

    from exporter.columns import RowBlock
    from exporter.encoders import Encoders
    from exporter.model import Range

BLOCK_ROWS = 40
COUNT = 2_000


class InPieces(MemorySource):
    """One whose blocks are as small beside its ranges as those of a database."""

    def read(
        self, ranges: Sequence[Range], columns: Sequence[str] | None
    ) -> Generator[tuple[int, RowBlock], None, None]:
        for index, block in super().read(ranges, columns):
            for start in range(0, len(block), BLOCK_ROWS):
                yield index, block.slice(start, start + BLOCK_ROWS)


def delivered(folder: Path, encoders: int, limit: int) -> list[list[bytes]]:
    """The lines of each batch that arrived, of a run with so many processes that encode."""
    with Workspace(folder) as workspace:
        stand = Stand(workspace, poison={"7", "1999"})
        stand.source = InPieces(stand.clock, ["said"])
        stand.pipeline = stand.another()
        rendering = replace(RENDERING, batch_bytes=33 * LINE_BYTES)
        stand.job = replace(stand.job_to(stand.destination, rendering), part_limit_bytes=limit)
        stand.pipeline.begin(stand.job)
        stand.insert(COUNT)
        report = stand.run(encoders=encoders)
        assert (report.error, report.failing) == (None, {})
        return [list(one.lines) for one in stand.destination.received]


@pytest.mark.parametrize("limit", [1 << 30, 900 * LINE_BYTES], ids=["whole", "parts"])
def test_the_same_batches_go_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    """Their sizes and order, of which a journal is kept, depend on nobody's pace."""
    monkeypatch.setattr(module, "ALONE_BYTES", 1000)
    monkeypatch.setattr(module, "ALONE_SHARE", -1)
    given: list[int] = []
    leave = module.Encoders.__exit__

    def noting(self: Encoders, *failure: object) -> None:
        given.extend(process.given for process in self._processes)
        leave(self, *failure)

    monkeypatch.setattr(module.Encoders, "__exit__", noting)
    alone = delivered(tmp_path / "alone", 0, limit)
    assert given == []
    assert delivered(tmp_path / "helped", 2, limit) == alone
    assert sum(given) >= 2
    assert sum(map(len, alone)) >= COUNT - 2
