"""The SQLite source: audit records of a table, a view or a query in a database file.

Every reading has a connection and a read transaction of its own, so nothing is shared between threads
and nothing is held in between. It must not write, and keeps no copy of a record beyond one block.
"""

from __future__ import annotations

from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from exporter.sources.sqlite.check import findings, missing_indexes, require_readable_times
from exporter.sources.sqlite.database import inspect, quoted, reading
from exporter.sources.sqlite.snapshot import Snapshot
from exporter.sources.sqlite.time import sql_times

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence
    from pathlib import Path

    from exporter.columns import Roles
    from exporter.interfaces import Block, Clock, Template
    from exporter.model import Finding, Range, Seal, Statement
    from exporter.sources.derived import FirstOf


def _utc_now() -> datetime:
    return datetime.now(UTC)


class SqliteSource:
    """Records of a table (or view) or a query; ``time_unit`` says that times are numbers: s, ms, us or ns."""

    def __init__(  # noqa: PLR0913 - settings, given by name
        self,
        path: Path,
        *,
        roles: Roles,
        table: str | None = None,
        query: str | None = None,
        time_unit: str | None = None,
        block_rows: int = 2_000,
        busy_timeout_s: float = 10.0,
        clock: Clock = _utc_now,
        derived: Sequence[FirstOf] = (),
    ) -> None:
        self._path = path
        self._roles = roles
        self._table = table
        self._query = query
        self._times = sql_times(quoted(roles.time), time_unit)
        self._time_unit = time_unit
        self._block_rows = block_rows
        self._busy_timeout_s = busy_timeout_s
        self._clock = clock
        self._derived = derived

    def now(self) -> datetime:
        """The local clock: the database has none of its own."""
        return self._clock()

    def identity(self) -> str:
        """The file, and what in it is read."""
        return f"sqlite {self._path} " + (f"table {self._table}" if self._query is None else "query")

    def columns(self) -> Sequence[str]:
        """All columns of the table or the query, and the derived ones."""
        with self._snapshot() as snapshot:
            return snapshot.names

    def seal(self, previous: Seal | None = None, due: datetime | None = None) -> Seal:
        """The highest id, with a fingerprint of its record.

        Raises SourceError, too, when no recent record has a readable time: then the settings are wrong.
        """
        del due  # nothing to wait for: ids are visible in their order
        with self._snapshot() as snapshot:
            if previous is not None:
                snapshot.require(previous)
            require_readable_times(snapshot, self._roles, self._time_unit)
            return snapshot.seal()

    def holds(self, seal: Seal) -> bool:
        """Whether the sealed record is still there, and the ids have reached it."""
        with self._snapshot() as snapshot:
            return snapshot.objection(seal) is None

    def adopt(self, seal: Seal) -> Seal | None:
        """The seal itself, if its record is here."""
        return seal if self.holds(seal) else None

    def read(
        self, ranges: Sequence[Range], columns: Sequence[str] | None
    ) -> Generator[tuple[int, Block], None, None]:
        """Every record of the ranges, one range after the other, all from one snapshot.

        Closing the generator ends the transaction at once, however far it has come.
        """
        return self._read(ranges, columns, None)

    def read_lines(
        self, ranges: Sequence[Range], columns: Sequence[str] | None, template: Template
    ) -> Generator[tuple[int, Block], None, None]:
        """The same, as lines where nothing that is stored speaks against it."""
        return self._read(ranges, columns, template)

    def _read(
        self, ranges: Sequence[Range], columns: Sequence[str] | None, template: Template | None
    ) -> Generator[tuple[int, Block], None, None]:
        with self._snapshot() as snapshot:
            seals = [seal for one in ranges for seal in (one.previous, one.seal) if seal is not None]
            for seal in {repr(sorted(seal.items())): seal for seal in seals}.values():
                snapshot.require(seal)
            layout = snapshot.layout(columns)
            for index, one in enumerate(ranges):
                with closing(snapshot.blocks(one, layout, self._block_rows, template)) as blocks:
                    for block in blocks:
                        yield index, block

    def quiet_until(self, account: str, start: datetime, end: datetime, seal: Seal) -> datetime:
        """The second of the first record on time, else ``end``."""
        with self._snapshot() as snapshot:
            snapshot.require(seal)
            return snapshot.first_on_time(account, start, end, seal) or end

    def settings(self, query: str) -> Sequence[bytes]:
        """The first column of every row; empty where it holds no text."""
        with reading(self._path, self._busy_timeout_s) as connection:
            connection.text_factory = bytearray  # tells text from a blob, and leaves decoding to the reader
            found = [row[0] for row in connection.execute(query)]
        return [bytes(text) if isinstance(text, bytearray) else b"" for text in found]

    def check(self, accounts: Sequence[str]) -> Sequence[Finding]:
        """Ids that could be used again, missing indexes, unreadable and future times, unknown accounts."""
        with self._snapshot() as snapshot:
            return findings(snapshot, self._roles, self.now(), accounts)

    def prepare(self) -> Sequence[Statement]:
        """The indexes that the table lacks; for a view or a query nobody can say them as SQL."""
        with self._snapshot() as snapshot:
            if snapshot.relation.table is None:
                return []
            return list(missing_indexes(snapshot, self._roles, self.now()))

    def close(self) -> None:
        """Nothing is held between readings."""

    @contextmanager
    def _snapshot(self) -> Iterator[Snapshot]:
        with reading(self._path, self._busy_timeout_s) as connection:
            relation = inspect(connection, self._table, self._query, self._roles)
            yield Snapshot(connection, relation, self._roles, self._times, self._derived)
