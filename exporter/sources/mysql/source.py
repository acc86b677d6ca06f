"""The MariaDB and MySQL source: audit records of an InnoDB table, of a view on one, or of a query.

Positions are those of an AUTO_INCREMENT column: `columns.commit` if it is given, else the id; ``seal``
says why nothing is lost by them. The right to SELECT is all it needs; with PROCESS seals have no gaps but
for transactions that run, and records appear sooner. Every transaction is read-only. It must read from the
server where records are inserted: of a replica nobody there can say what is still to come.

A query becomes a sub-select (MariaDB merges it, so that its table's indexes serve). Its position has to come
as it is from a table in its FROM, and a record has to be the query's own as soon as it is that table's.
MySQL 8 goes by the same statements and is not tested.
"""

from __future__ import annotations

import threading
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from pymysql.constants import FIELD_TYPE

from exporter.sources.mysql import check
from exporter.sources.mysql.connection import Database
from exporter.sources.mysql.gaps import Extent
from exporter.sources.mysql.options import MysqlOptions
from exporter.sources.mysql.positions import (
    TablePositions,
    anchored,
    objection,
    require_primary,
    server_time,
)
from exporter.sources.mysql.ranges import Snapshot
from exporter.sources.mysql.relation import inspect
from exporter.sources.mysql.seal import Patience, extended
from exporter.sources.mysql.time import sql_times
from exporter.sources.mysql.values import BINARY_COLLATION

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence
    from datetime import datetime

    from exporter.columns import Roles, RowBlock
    from exporter.model import Finding, Range, Seal
    from exporter.sources.derived import FirstOf
    from exporter.sources.mysql.connection import Session
    from exporter.sources.mysql.relation import Relation

__all__ = ["MysqlOptions", "MysqlSource"]


@dataclass(frozen=True, slots=True)
class _Taken:
    """A seal, and the server's time before it was taken."""

    seal: Seal
    at: datetime


class MysqlSource:
    """Records of a table (or view) or a query; ``time_unit`` says that times are numbers: s, ms, us or ns."""

    def __init__(  # noqa: PLR0913 - settings, given by name
        self,
        options: MysqlOptions,
        *,
        roles: Roles,
        commit: str | None = None,
        table: str | None = None,
        query: str | None = None,
        time_unit: str | None = None,
        block_rows: int = 2_000,
        derived: Sequence[FirstOf] = (),
    ) -> None:
        self._options = options
        self._roles = roles
        self._commit = commit
        self._given = table, query
        self._time_unit = time_unit
        self._block_rows = block_rows
        self._derived = derived
        self._database = Database(options)
        self._sealing = threading.Lock()
        self._taken: _Taken | None = None

    def now(self) -> datetime:
        """The server's clock."""
        with self._database.statements() as session:
            return server_time(session)

    def identity(self) -> str:
        """The server and database, and what in it is read."""
        table, query = self._given
        return f"{self._database.place} " + (f"table {table}" if query is None else "query")

    def columns(self) -> Sequence[str]:
        """All columns of the table or the query, and the derived ones."""
        with self._database.statements() as session:
            return self._snapshot_of(session, self._inspect(session)).names

    def seal(self, previous: Seal | None = None, due: datetime | None = None) -> Seal:
        """The positions that are settled for good: see ``seal``.

        Waits up to ``seal_wait_s`` for statements and transactions that are running. Raises SourceError, too,
        when the settings cannot work.
        """
        with self._sealing, self._database.statements() as session:
            require_primary(session)
            relation = self._inspect(session)
            sql_times(session, relation, self._roles.time, self._time_unit)
            if previous is not None:
                _require(session, relation, [previous])
            taken = self._taken if self._taken and _holds(session, relation, self._taken.seal) else None
            known = _together(previous, taken.seal if taken else None)
            if taken is None or due is None or taken.at < due:
                at = server_time(session)
                positions = TablePositions(session, relation.origin, self._options)
                extent = extended(positions, known, self._patience)
                self._taken = taken = _Taken(anchored(session, relation.origin, extent.as_seal()), at)
                return taken.seal
            return taken.seal if known is None else self._joined(session, relation, taken.seal, known)

    def holds(self, seal: Seal) -> bool:
        """Whether the sealed record is still there, and the same."""
        with self._database.snapshot() as session:
            require_primary(session)
            return _holds(session, self._inspect(session), seal)

    def adopt(self, seal: Seal) -> Seal | None:
        """The seal itself, if its record is here."""
        return seal if self.holds(seal) else None

    def read(
        self, ranges: Sequence[Range], columns: Sequence[str] | None
    ) -> Generator[tuple[int, RowBlock], None, None]:
        """Every record of the ranges, one range after the other, all from one snapshot.

        Closing the generator closes the connection, and the server ends the statement.
        """
        seals = [seal for one in ranges for seal in (one.previous, one.seal) if seal is not None]
        with self._snapshot(seals) as snapshot:
            layout = snapshot.layout(columns)
            for index, one in enumerate(ranges):
                with closing(snapshot.blocks(one, layout, self._block_rows)) as blocks:
                    for block in blocks:
                        yield index, block

    def quiet_until(self, account: str, start: datetime, end: datetime, seal: Seal) -> datetime:
        """The second of the first record on time, else ``end``."""
        with self._snapshot([seal]) as snapshot:
            return max(start, snapshot.first_on_time(account, start, end, seal) or end)

    def settings(self, query: str) -> Sequence[bytes]:
        """The first column of every row; empty where it holds no text."""
        with self._database.snapshot() as session:
            fields, rows = session.connection.answer(query)
        is_text = fields[0].charsetnr != BINARY_COLLATION or fields[0].type_code == FIELD_TYPE.JSON
        return [(row[0] or b"") if is_text else b"" for row in rows]

    def check(self, accounts: Sequence[str]) -> Sequence[Finding]:
        """How sure the positions are, gaps, indexes, unreadable and future times, accounts, encryption."""
        with self._database.statements() as session:
            snapshot = self._snapshot_of(session, self._inspect(session))
            return check.findings(snapshot, self._roles, self._options, accounts)

    def close(self) -> None:
        """Let go of idle connections."""
        self._database.close()

    @property
    def _patience(self) -> Patience:
        options = self._options
        return Patience(options.seal_wait_s, timedelta(seconds=options.longest_statement_s))

    def _inspect(self, session: Session) -> Relation:
        database = self._database.address.database
        return inspect(session, self._given, database, self._roles, self._commit)

    @contextmanager
    def _snapshot(self, seals: Sequence[Seal]) -> Iterator[Snapshot]:
        """One moment of a source that is the seals' own and has reached them."""
        with self._database.snapshot() as session:
            require_primary(session)
            relation = self._inspect(session)
            _require(session, relation, seals)
            yield self._snapshot_of(session, relation)

    def _snapshot_of(self, session: Session, relation: Relation) -> Snapshot:
        times = sql_times(session, relation, self._roles.time, self._time_unit)
        return Snapshot(session, relation, self._roles, times, self._derived)

    def _joined(self, session: Session, relation: Relation, taken: Seal, known: Extent) -> Seal:
        """A seal that was taken for another export, with what this one's previous seal holds besides."""
        both = Extent.of(taken) | known
        return taken if both == Extent.of(taken) else anchored(session, relation.origin, both.as_seal())


def _together(*seals: Seal | None) -> Extent | None:
    """What any of the seals holds."""
    found: Extent | None = None
    for seal in seals:
        if seal is not None:
            found = Extent.of(seal) if found is None else found | Extent.of(seal)
    return found


def _holds(session: Session, relation: Relation, seal: Seal) -> bool:
    return objection(session, relation.origin, seal) is None


def _require(session: Session, relation: Relation, seals: Sequence[Seal]) -> None:
    """Raise SourceChanged unless this is the database of the seals and has reached them."""
    for seal in {repr(sorted(seal.items())): seal for seal in seals}.values():
        if wrong := objection(session, relation.origin, seal):
            raise wrong
