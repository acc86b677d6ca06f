"""Rows of a SQLite statement that has to sort: only the ids are sorted, and each row is read when it is due.

It must not know what a row means.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import sqlite3


class RowsById:
    """The row of each id of a cursor, in its order: only the ids had to be sorted.

    What SQLite sorts on disk it merges in memory, and holds up to a fifth of it there when rows are large.
    """

    def __init__(self, ids: sqlite3.Cursor, statement: str) -> None:
        self._ids = ids
        self._row = ids.connection.cursor()
        self._statement = statement

    def fetchmany(self, size: int, /) -> list[Any]:
        """The rows of the next ids."""
        return [self._row.execute(self._statement, one).fetchone() for one in self._ids.fetchmany(size)]

    def close(self) -> None:
        """Close both cursors."""
        self._row.close()
        self._ids.close()
