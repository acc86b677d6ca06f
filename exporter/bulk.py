"""The bytes of many records moved at once: rows split into columns, columns woven into lines.

Compiled (``_bulk.c``) where there was a C compiler when this was installed, at a third of the price; else in
Python. What comes of it is the same. Pure: it knows nothing of what the bytes mean.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.fragments import Values

try:
    from exporter import _bulk
except ImportError:  # it was installed without a compiler
    _bulk = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Sequence

IS_COMPILED = _bulk is not None


def split(rows: Sequence[bytes], width: int) -> Sequence[Values]:
    """The columns of some rows: each has ``width`` values, a tab between any two, and a line feed at the end.

    Raises ValueError for a row that has not; an empty column each where there is no row.
    """
    if not rows:
        return [Values([])] * width
    if _bulk is None:
        return _split(rows, width)
    count = len(rows)
    return [Values.of_lines(column, count) for column in _bulk.split(tuple(rows), width)]


def weave(texts: Sequence[bytes], columns: Sequence[Sequence[bytes]], count: int) -> bytes:
    """The lines of ``count`` records, one after another: the values of each, and texts around them.

    No value has a raw line feed. There is a text more than there are columns, of which there is one at
    least. Raises ValueError for other columns: one value short would cost a record in silence.
    """
    if not columns or len(texts) != len(columns) + 1:
        raise ValueError("there is nothing to weave, or not one text more than columns")
    if any(len(column) != count for column in columns):
        raise ValueError(f"not every column has {count} values")
    if not count:
        return b""
    if _bulk is None:
        return _weave(texts, columns, count)
    return _bulk.weave(tuple(texts), tuple(map(_joined, columns)), count)


def _joined(column: Sequence[bytes]) -> bytes:
    return column.joined if isinstance(column, Values) else b"\n".join(column)


def _split(rows: Sequence[bytes], width: int) -> Sequence[Values]:
    if any(row.count(b"\t") != width - 1 or row.find(b"\n") != len(row) - 1 or not row for row in rows):
        raise ValueError(f"not every row has {width} columns")
    values = b"".join(rows).replace(b"\n", b"\t").split(b"\t")
    values.pop()  # what follows the last separator
    return [Values(values[place::width]) for place in range(width)]


def _weave(texts: Sequence[bytes], columns: Sequence[Sequence[bytes]], count: int) -> bytes:
    """By a list of all pieces in their order, filled a column at a time: each of these calls runs in C."""
    step = 2 * len(columns)
    pieces: list[bytes] = [texts[-1] + texts[0]] * (step * count + 1)
    pieces[0], pieces[-1] = texts[0], texts[-1]
    for place, column in enumerate(columns):
        pieces[2 * place + 1 :: step] = column.listed if isinstance(column, Values) else column
        if place:
            pieces[2 * place : -1 : step] = [texts[place]] * count
    return b"".join(pieces)
