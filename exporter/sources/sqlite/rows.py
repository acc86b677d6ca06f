"""Rows of a SQLite statement that has to sort: only the ids are sorted, and each row is read when it is due.

It must not know what a row means.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping


class RowsById:
    """The row of each id of a cursor, in its order; the statement finds it by its ``:row_id``.

    What SQLite sorts on disk it merges in memory, and holds up to a fifth of it there when rows are large.
    """

    def __init__(self, ids: sqlite3.Cursor, statement: str, values: Mapping[str, object]) -> None:
        self._ids = ids
        self._row = ids.connection.cursor()
        self._statement = statement
        self._values = values

    def fetchmany(self, size: int, /) -> list[Any]:
        """The rows of the next ids."""
        return [self._read(one) for (one,) in self._ids.fetchmany(size)]

    def close(self) -> None:
        """Close both cursors."""
        self._row.close()
        self._ids.close()

    def _read(self, row_id: int) -> Any:  # noqa: ANN401 - a row, as the cursor gives it
        return self._row.execute(self._statement, {**self._values, "row_id": row_id}).fetchone()
