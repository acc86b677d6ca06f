"""Whole columns put together, record by record, in a few calls however many records there are."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from exporter.bulk import weave
from exporter.fragments import QUOTE, Same, Strings

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Part: TypeAlias = "bytes | Sequence[bytes]"
"""What stands in every record, or one fragment for each."""


def woven(parts: Iterable[Part], count: int) -> bytes:
    """The parts of each of ``count`` records, one record after another.

    Raises ValueError for a column of another length: one value short would cost a record in silence.
    """
    texts, columns = _sorted_out(parts, count)
    if not columns or not count:
        return texts[0] * count
    return weave(texts, columns, count)


def each_woven(parts: Iterable[Part], count: int) -> Sequence[bytes]:
    """The parts of each record by itself."""
    texts, columns = _sorted_out(parts, count)
    if not columns:
        return Same(texts[0], count)
    template = b"%b".join([text.replace(b"%", b"%%") for text in texts])
    return list(map(template.__mod__, zip(*columns, strict=True)))


def _sorted_out(parts: Iterable[Part], count: int) -> tuple[list[bytes], list[Sequence[bytes]]]:
    """The columns, and the texts before, between and behind them, with the quotes that columns lack.

    A column that has the same value in every record is a text.
    """
    texts = [b""]
    columns: list[Sequence[bytes]] = []
    for part in parts:
        if isinstance(part, bytes):
            texts[-1] += part
        elif type(part) is Strings:
            texts[-1] += QUOTE
            columns.append(part.values)
            texts.append(part.end)
        elif type(part) is Same and len(part) == count:
            texts[-1] += part.value
        else:
            columns.append(part)
            texts.append(b"")
    return texts, columns
