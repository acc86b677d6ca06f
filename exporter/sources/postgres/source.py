"""The PostgreSQL source: audit records of a table, a view or a query, on a primary or on a hot standby.

Every reading has a connection and a read-only transaction of its own; seals are checked in it before the
first row. It needs the right to select and no other, and keeps no copy of a record beyond one block.
"""

from __future__ import annotations

from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from psycopg import sql

from exporter.sources.postgres.connection import Database, PostgresOptions
from exporter.sources.postgres.inspector import Inspector
from exporter.sources.postgres.ranges import Snapshot
from exporter.sources.postgres.seal import PostgresSeal, moment_objection, relation_objection
from exporter.sources.postgres.sealing import Rules, Sealer
from exporter.sources.postgres.time import sql_times
from exporter.sources.postgres.together import read_ranges

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence
    from datetime import datetime

    from exporter.columns import Roles
    from exporter.model import Finding, Range, Seal
    from exporter.sources.derived import FirstOf
    from exporter.sources.postgres.connection import Session
    from exporter.sources.postgres.copy import CopyBlock

__all__ = ["PostgresOptions", "PostgresSource"]

_TEXTS = frozenset({18, 19, 25, 114, 705, 1042, 1043, 3802})  # text and its kin, json and jsonb


class PostgresSource:
    """Records of a table (or view) or a query; ``time_unit`` says that times are numbers: s, ms, us or ns.

    ``commit`` names the xid8 column; without it a table's records are told apart by the system column xmin.
    The column holds the transaction, of this very cluster, that inserted the record; and a view or query
    shows a record as soon as that has committed: one that waits for another table's row may lose it.
    """

    def __init__(  # noqa: PLR0913 - settings, given by name
        self,
        options: PostgresOptions,
        *,
        roles: Roles,
        commit: str | None = None,
        table: str | None = None,
        query: str | None = None,
        time_unit: str | None = None,
        append_only: bool = False,
        block_rows: int = 1_000,
        derived: Sequence[FirstOf] = (),
        database: Database | None = None,  # of these options, if there is one already
    ) -> None:
        self._database = Database(options) if database is None else database
        self._roles = roles
        self._inspector = Inspector(table, query, roles, commit)
        self._table = table
        self._query = query
        self._time_unit = time_unit
        self._block_rows = block_rows
        self._derived = derived
        self._rules = Rules(roles, commit, append_only, options.seal_wait_s)
        self._sealer = Sealer(self._database, self._snapshot, self._rules)

    def now(self) -> datetime:
        """The server's clock."""
        return self._database.now()

    def identity(self) -> str:
        """The database, and what in it is read."""
        return f"{self._database.place} " + (f"table {self._table}" if self._query is None else "query")

    def columns(self) -> Sequence[str]:
        """All columns of the table or the query, and the derived ones."""
        with self._snapshot() as snapshot:
            return snapshot.names

    def seal(self, previous: Seal | None = None, due: datetime | None = None) -> Seal:
        """The horizon, after a bounded wait for the transactions that are running.

        Raises SourceError, too, when the table could lose or double records: see ``require_sealable``.
        """
        return self._sealer.seal(previous, due)

    def holds(self, seal: Seal) -> bool:
        """Whether database, timeline and, by xmin, file are the seal's, and the horizon has reached it."""
        with self._database.reading() as session:
            return self._is_reached(session, seal)

    def adopt(self, seal: Seal) -> Seal | None:
        """The seal with the present timeline, if the horizon has reached it here."""
        sealed = PostgresSeal.of(seal)
        if sealed is None:
            return None
        with self._database.reading() as session:
            moved = {**seal, "timeline": session.moment.timeline}
            return moved if self._is_reached(session, moved) else None

    def read(
        self, ranges: Sequence[Range], columns: Sequence[str] | None
    ) -> Generator[tuple[int, CopyBlock], None, None]:
        """Every record of the ranges, one range after the other, all from one snapshot.

        Closing the generator ends the statement at once, however far it has come.
        Raises Unreadable when PostgreSQL cannot give out a record.
        """
        seals = [seal for one in ranges for seal in (one.previous, one.seal) if seal is not None]
        with self._snapshot(*seals) as snapshot:
            layout = snapshot.layout(columns)
            with closing(read_ranges(snapshot, ranges, layout, self._block_rows)) as found:
                yield from found

    def quiet_until(self, account: str, start: datetime, end: datetime, seal: Seal) -> datetime:
        """The second of the first record on time, else ``end``."""
        with self._snapshot(seal) as snapshot:
            first = snapshot.first_on_time(account, start, end, seal)
            return end if first is None else max(first, start)

    def settings(self, query: str) -> Sequence[bytes]:
        """The first column of every row; empty where it holds no text or JSON."""
        with self._database.reading() as session:
            statement = sql.SQL("SELECT * FROM ({}\n) AS settings").format(
                sql.SQL(query.strip().rstrip("; \n"))
            )
            result = session.connection.execute(statement).pgresult
            if result is None or result.ftype(0) not in _TEXTS:
                return [b""] * (0 if result is None else result.ntuples)
            return [result.get_value(row, 0) or b"" for row in range(result.ntuples)]

    def check(self, accounts: Sequence[str]) -> Sequence[Finding]:
        """Strategy, horizon, server, privileges, indexes and what is odd among the records."""
        from exporter.sources.postgres.check import findings  # no run needs it

        with self._snapshot() as snapshot:
            return findings(snapshot, self._rules, accounts)

    def close(self) -> None:
        """Let go of the idle connections."""
        self._database.close()

    @contextmanager
    def _snapshot(self, *seals: Seal) -> Iterator[Snapshot]:
        """A transaction in which nothing speaks against any of the seals."""
        with self._database.reading() as session:
            different = list({repr(sorted(seal.items())): seal for seal in seals}.values())
            for seal in different:
                if objection := moment_objection(session.moment, seal):
                    raise objection
            snapshot = self._inspected(session)
            for seal in different:
                if unfit := relation_objection(session.moment, snapshot.relation, seal):
                    raise unfit
            try:
                yield snapshot
            except Exception:
                self._inspector.forget()
                raise

    def _inspected(self, session: Session) -> Snapshot:
        relation = self._inspector.inspect(session)
        times = sql_times(session, relation, self._roles.time, self._time_unit)
        return Snapshot(session, relation, self._roles, times, self._derived)

    def _is_reached(self, session: Session, seal: Seal) -> bool:
        if moment_objection(session.moment, seal):
            return False
        return relation_objection(session.moment, self._inspected(session).relation, seal) is None
