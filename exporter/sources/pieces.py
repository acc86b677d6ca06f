"""Rows off a cursor in pieces that fit into memory, whatever the size and the number of the rows.

It must not know what a row means beyond whether two of them have one key, nor which database it is of.
"""

from __future__ import annotations

import marshal
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

PIECE_BYTES = 4_000_000
_STEP_ROWS, _STEP_BYTES = 16, 65_536


class Rows(Protocol):
    """Rows in order, as a cursor gives them. To be closed: an open cursor keeps its transaction."""

    def fetchmany(self, size: int, /) -> list[Any]:
        """The next rows, none at the end."""
        ...

    def close(self) -> None:
        """Let go of the statement."""
        ...


def pieces(rows: Rows, max_rows: int, key: Callable[[Any], object]) -> Generator[list[Any], None, None]:
    """Up to ``max_rows`` rows or about PIECE_BYTES of values; a piece ends only between different keys."""
    ahead = rows.fetchmany(1)
    while piece := ahead:
        _fill(piece, rows, max_rows)
        last = key(piece[-1])
        while (ahead := rows.fetchmany(1)) and key(ahead[0]) == last:
            piece += ahead
        yield piece


def _fill(piece: list[Any], rows: Rows, max_rows: int) -> None:
    """A few rows at a time, and one by one among large ones: nobody knows how large the next one is."""
    size, step = _bytes_of(piece), 1
    while size < PIECE_BYTES and len(piece) < max_rows:
        some = rows.fetchmany(min(step, max_rows - len(piece)))
        if not some:
            return
        piece += some
        added = _bytes_of(some)
        size += added
        step = min(2 * step, _STEP_ROWS) if added < _STEP_BYTES else 1


def _bytes_of(rows: list[Any]) -> int:
    """About what the values take. Nothing else in Python adds them up as fast, whatever their types."""
    return len(marshal.dumps(rows))
