"""What a seal of PostgreSQL says, whether it still holds, and which records are visible at it.

**Horizon.** H is the xmin of a snapshot: the oldest transaction that is still running in the whole cluster,
prepared ones included. Everything below H has ended, so each later snapshot sees all of it for good, and
whatever starts later gets a number of at least H. So what lies below H can gain no member once H is known,
and H has to be known before the rows are read. No clock, id, commit order or isolation level matters.

**Strategy xid8.** A record's position is a column with the number of the transaction that inserted it.

**Strategy xmin.** A record's position is the system column xmin, of which PostgreSQL shows the lowest 32
bits, x; M = 2^32. 1 and 2 stand for rows older than every seal. Every row that a snapshot sees is of a
transaction X below the snapshot's xmax A. For H <= X < A, with A - H < M, (x - H) mod M is X - H, less than
A - H. For X < H it is X - H + kM with k >= 1, and that is less than A - H only if X + kM < A: only if the
row's number has come round between H and A. So a seal carries ``alias``: no row's number comes round in
[H, alias). As long as A <= alias, "x comes after H" is exactly (x - H) mod M < A - H; beyond, the seal is
refused. Where ``alias`` comes from: below M no number has come round. Otherwise the least X + kM >= A over
all rows of a snapshot holds for [A, alias), thus for a seal whose horizon has reached that A; rows which
that snapshot did not see have X >= its horizon, and meet nothing for M from there. A seal that follows
another takes its alias over, by the same argument, or looks again. All of it needs rows that are inserted
and never updated, and stay in their file: an update or a rewrite gives a row another xmin.

**Change of strategy.** The two number the same rows differently (ADD COLUMN … DEFAULT stamps all rows with
its own transaction; a row written after a savepoint has a higher xmin than its transaction). So each seal's
own predicate counts: new is what is visible at a seal and was not at the previous one. A seal that follows
one of another strategy is given out only once it holds all that the other one held.

It must not wait for anything, and reads no record.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

from psycopg import sql

from exporter.errors import SourceChanged, SourceError

if TYPE_CHECKING:
    from exporter.model import Seal
    from exporter.sources.postgres.connection import Moment
    from exporter.sources.postgres.relation import Relation, Table

XIDS: Final = 2**32
FIRST_XID: Final = 3
HALF_ROUND: Final = 2**31
ACCEPT: Final = "if this is meant to be so, accept it: audit-exporter ledger accept-source --from TIME"
WAY_ON: Final = (
    "add an xid8 column (`audit-exporter source prepare` prints how) and name it in columns.commit"
)
XMIN: Final = sql.SQL("records.xmin::text::bigint")


@dataclass(frozen=True, slots=True)
class PostgresSeal:
    """A seal, taken apart. ``column`` is that of the xid8 strategy; None, and the rest, of the xmin one."""

    system: str
    timeline: int
    horizon: int
    column: str | None = None
    table: int = 0
    filenode: int = 0
    alias: int = 0

    @classmethod
    def of(cls, seal: Seal) -> PostgresSeal | None:
        """None for a seal that some other source took."""
        if seal.get("kind") != "postgres":
            return None
        is_xmin = seal["strategy"] == "xmin"
        return cls(
            system=cast("str", seal["system"]),
            timeline=cast("int", seal["timeline"]),
            horizon=cast("int", seal["horizon"]),
            column=None if is_xmin else cast("str", seal["column"]),
            table=cast("int", seal["table"]) if is_xmin else 0,
            filenode=cast("int", seal["filenode"]) if is_xmin else 0,
            alias=cast("int", seal["alias"]) if is_xmin else 0,
        )

    def json(self) -> Seal:
        """As the ledger keeps it."""
        common: Seal = {
            "kind": "postgres",
            "strategy": "xmin" if self.column is None else "xid8",
            "horizon": self.horizon,
            "system": self.system,
            "timeline": self.timeline,
        }
        if self.column is not None:
            return {**common, "column": self.column}
        return {**common, "table": self.table, "filenode": self.filenode, "alias": self.alias}

    def is_followed_by(self, other: PostgresSeal) -> bool:
        """Whether the other one is of the same strategy, database and file, and not below this one."""
        mine, its = ((one.system, one.timeline, one.column, one.table, one.filenode) for one in (self, other))
        return mine == its and self.horizon <= other.horizon


def moment_objection(moment: Moment, seal: Seal) -> SourceChanged | None:
    """What speaks against the database as a whole."""
    sealed = PostgresSeal.of(seal)
    if sealed is None:
        return SourceChanged("the seal was not taken from a PostgreSQL database", hint=ACCEPT)
    if sealed.system != moment.system:
        return SourceChanged(
            f"this is another database cluster: system identifier {moment.system}, not {sealed.system}",
            hint=ACCEPT,
        )
    if sealed.timeline != moment.timeline:
        message = (
            f"the database is on timeline {moment.timeline}, the seal on {sealed.timeline}: "
            "it failed over or was restored, and may have lost records and given out their ids again"
        )
        return SourceChanged(message, hint=f"choose a TIME before it happened; {ACCEPT}")
    if sealed.horizon > moment.horizon:
        what = "is a hot standby behind the seal" if moment.in_recovery else "went back behind the seal"
        message = f"the source {what}: it has come to transaction {moment.horizon}, not to {sealed.horizon}"
        wait = "let it catch up, or read another server; " if moment.in_recovery else ""
        return SourceChanged(message, hint=f"{wait}{ACCEPT}")
    return None


def relation_objection(moment: Moment, relation: Relation, seal: Seal) -> SourceError | None:
    """What speaks against the table; for a seal to which the database itself is not an objection."""
    sealed = _parsed(seal)
    if sealed.column is None:
        return _file_objection(moment, relation.table, sealed)
    column = relation.columns.get(sealed.column)
    if column is not None and column.is_position:
        return None
    message = f"the column {sealed.column!r}, by which the seal was taken, is not there any more"
    return SourceChanged(message, hint=f"bring it back as it was; {ACCEPT}")


def _file_objection(moment: Moment, table: Table | None, sealed: PostgresSeal) -> SourceError | None:
    """By xmin nothing but this one file can be read, and not for ever."""
    if table is None or table.oid != sealed.table:
        return SourceChanged("the seal was taken from another table", hint=ACCEPT)
    if table.filenode != sealed.filenode:
        return SourceChanged(_rewritten(table), hint=ACCEPT)
    if moment.xmax > sealed.alias or moment.xmax - sealed.horizon >= HALF_ROUND:
        message = (
            f"transaction numbers have come round since the seal, at {moment.xmax} from {sealed.horizon}"
        )
        return SourceError(message, hint=WAY_ON)
    return None


def _rewritten(table: Table) -> str:
    return (
        f"{table.name} was rewritten (VACUUM FULL, CLUSTER, TRUNCATE or ALTER TABLE does that), "
        "so that nothing can tell by xmin which of its records are new"
    )


def visible_at(moment: Moment, seal: Seal) -> sql.Composable:
    """True for a record that is visible for good at a seal which nothing speaks against."""
    sealed = _parsed(seal)
    if sealed.column is not None:
        return _compared(sealed, "<")
    return sql.SQL("NOT {}").format(xmin_after(sealed.horizon, moment.xmax, XMIN))


def newly_visible(moment: Moment, previous: Seal, seal: Seal) -> list[sql.Composable]:
    """Terms that are true for what is visible at a seal and was not at the previous one."""
    before, now = _parsed(previous), _parsed(seal)
    if before.column is not None and before.column == now.column:
        return [_compared(before, ">="), _compared(now, "<")]  # in terms that an index serves
    return [sql.SQL("NOT ({})").format(visible_at(moment, previous)), visible_at(moment, seal)]


def xmin_after(horizon: int, xmax: int, x: sql.Composable) -> sql.Composable:
    """Whether x comes after the horizon, in a snapshot that sees nothing from ``xmax`` on."""
    return sql.SQL("({x} >= {first} AND ((({x} - {horizon}) % {xids}) + {xids}) % {xids} < {ahead})").format(
        x=x,
        first=sql.Literal(FIRST_XID),
        horizon=sql.SQL("{}::bigint").format(sql.Literal(str(horizon))),
        xids=sql.Literal(XIDS),
        ahead=sql.Literal(xmax - horizon),
    )


def next_alias(xmax: int) -> sql.Composable:
    """The lowest number, from ``xmax`` on, whose last 32 bits are those of a row's transaction; or NULL."""
    return sql.SQL("min({at} + ((({x} - {at}) % {xids}) + {xids}) % {xids})").format(
        at=sql.SQL("{}::bigint").format(sql.Literal(str(xmax))), x=XMIN, xids=sql.Literal(XIDS)
    )


def _compared(sealed: PostgresSeal, comparison: str) -> sql.Composable:
    return sql.SQL("records.{} {} {}::xid8").format(
        sql.Identifier(sealed.column or ""), sql.SQL(comparison), sql.Literal(str(sealed.horizon))
    )


def _parsed(seal: Seal) -> PostgresSeal:
    sealed = PostgresSeal.of(seal)
    if sealed is None:
        raise SourceChanged("the seal was not taken from a PostgreSQL database", hint=ACCEPT)
    return sealed
