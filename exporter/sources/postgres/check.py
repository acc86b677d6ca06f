"""What `check` says about a PostgreSQL source, the good included.

Everything is looked at through indexes, or in samples, and no statement runs for more than a few seconds:
a check of a large table is quick, and says so where an index is missing that would make it so. Each look
stands alone, so that one that fails hides no other. It changes nothing.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final, cast

import psycopg
from psycopg import sql

from exporter.errors import SourceBusy, SourceError
from exporter.model import Branch, Finding, Level
from exporter.sources.postgres import health, records
from exporter.sources.postgres.append_only import updatable_by
from exporter.sources.postgres.errors import translated
from exporter.sources.postgres.indexes import Catalogue, Wanted, by_position, by_time, by_value
from exporter.sources.postgres.plans import Served, serving, serving_first
from exporter.sources.postgres.privileges import rights
from exporter.sources.postgres.seal import FIRST_XID, HALF_ROUND, WAY_ON, XIDS, XMIN, next_alias
from exporter.sources.postgres.sealing import require_sealable
from exporter.sources.postgres.values import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from exporter.sources.postgres.connection import Session
    from exporter.sources.postgres.ranges import Snapshot
    from exporter.sources.postgres.relation import Table
    from exporter.sources.postgres.sealing import Rules

TIMEOUT_S = 5.0
LOCK_TIMEOUT_S = 1.0
_EARLY = 2**30  # transactions: half a day of a very busy server, months of an ordinary one
_TRIED: Final = 10
_PREPARE: Final = "`audit-exporter source prepare` prints how"
_TOO_LONG: Final = "an index may be missing; " + _PREPARE
_NO_ACCOUNT: Final = "00000000-0000-0000-0000-000000000000"  # also a text; as an integer, "0"

_DEFAULT: Final = sql.SQL("""
    SELECT pg_get_expr(d.adbin, d.adrelid) = 'pg_current_xact_id()',
        EXISTS (SELECT FROM pg_trigger WHERE tgrelid = {table} AND tgtype & 7 = 7 AND tgenabled IN ('O', 'A'))
    FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE a.attrelid = {table} AND a.attname = {column}
""")
_IS_REPLICATED: Final = sql.SQL("""
    SELECT EXISTS (
        SELECT FROM pg_subscription_rel
        WHERE srrelid = {table} OR srrelid IN (SELECT relid FROM pg_partition_tree({table}))
    )
""")
_UPDATES: Final = sql.SQL("SELECT pg_stat_get_tuples_updated({table})")


def findings(snapshot: Snapshot, rules: Rules, accounts: Sequence[str]) -> list[Finding]:
    """All there is to say: strategy, horizon, server, privileges, indexes, records."""
    session = snapshot.session
    limits = f"SET LOCAL statement_timeout = {int(TIMEOUT_S * 1000)}; SET LOCAL lock_timeout = "
    session.connection.execute(f"{limits}{int(LOCK_TIMEOUT_S * 1000)}")
    strategy = _looked(session, "strategy", lambda: _strategy(snapshot, rules))
    can_work = not any(finding.level is Level.ERROR for finding in strategy)
    return [
        *strategy,
        *_looked(session, "horizon", lambda: health.horizon(session)),
        *_looked(session, "server", lambda: health.server(session)),
        health.connection(session),
        *_looked(session, "privileges", lambda: _privileges(snapshot)),
        *(_looked(session, "index", lambda: _indexes(snapshot, rules, accounts)) if can_work else ()),
        *_looked(session, "records", lambda: records.findings(snapshot, rules, accounts)),
        *_looked(session, "derived", lambda: records.actions(snapshot, accounts)),
    ]


def _looked(session: Session, subject: str, look: Callable[[], Iterable[Finding]]) -> list[Finding]:
    """What a look finds, or that it failed: up to a savepoint of its own, so that the next one can look.

    A lost connection is more than that: the end of the transaction fails, too, and says so.
    """
    try:
        with translated("the database"), session.connection.transaction():
            return list(look())
    except SourceError as error:
        if isinstance(error.__cause__, psycopg.errors.QueryCanceled):
            message = f"could not be looked at within {TIMEOUT_S:g} s"
            return [Finding(subject, Level.WARNING, message, _TOO_LONG)]
        level = Level.WARNING if isinstance(error, SourceBusy) else Level.ERROR
        return [Finding(subject, level, error.message, error.hint)]


# --- Strategy -------------------------------------------------------------------------------------------


def _strategy(snapshot: Snapshot, rules: Rules) -> Iterator[Finding]:
    session, table = snapshot.session, snapshot.relation.table
    require_sealable(session, snapshot.relation, rules)
    if rules.commit is None:
        if table is not None:
            yield from _by_xmin(snapshot, rules, table)
        return
    yield Finding(
        "strategy",
        Level.OK,
        f"positions are those of the xid8 column {rules.commit}, read below the oldest running transaction: "
        "nothing can appear there any more, so nothing is lost",
    )
    yield from _appearing(table)
    if table is not None and table.is_declared:
        yield from _filling(session, table, rules.commit)


def _appearing(table: Table | None) -> Iterator[Finding]:
    """What else than an insert makes a record appear, and would be passed over: its position is older."""
    if table is None or not table.is_declared:
        what = "a query" if table is None else f"the {table.what}"
        message = (
            f"a record of {what} counts from the commit of its own row on: one that shows only later, by "
            "another table or a changed column, is lost"
        )
        hint = "read the table itself, or see to it that nothing but an insert makes a record appear"
        yield Finding("appearing", Level.WARNING, message, hint)
    elif not table.is_ordinary:
        message = (
            f"{table.name} is a {table.what}: attach empty tables alone, because of what is in one already "
            "nobody can tell that it was not there before"
        )
        yield Finding("appearing", Level.OK, message)


def _filling(session: Session, table: Table, commit: str) -> Iterator[Finding]:
    """Whether each record is given the number of the transaction that inserts it, in this database."""
    oid = sql.Literal(table.oid)
    row = session.row(_DEFAULT.format(table=oid, column=sql.Literal(commit)))
    is_default, has_trigger = cast("tuple[bool | None, bool]", row)
    if not is_default and not has_trigger:
        message = f"{commit} is not filled by default: a record with any other number may be passed over"
        hint = f'ALTER TABLE {table.name} ALTER COLUMN "{commit}" SET DEFAULT pg_current_xact_id()'
        yield Finding("positions", Level.WARNING, message, hint)
    if session.row(_IS_REPLICATED.format(table=oid)) == (True,):
        message = (
            f"{table.name} is filled by logical replication: records must not bring {commit} along, "
            "because a number of another database may be below the horizon of this one"
        )
        hint = f"leave {commit} out of the column list of the publication, so that it is filled here"
        yield Finding("positions", Level.WARNING, message, hint)


def _by_xmin(snapshot: Snapshot, rules: Rules, table: Table) -> Iterator[Finding]:
    able = updatable_by(snapshot.session, table)
    because = f"nobody can update {table.name}"
    if able:
        because = f"source.append_only says that nobody updates {table.name} ({', '.join(able)} could)"
    yield Finding(
        "strategy",
        Level.OK,
        "positions are those of the system column xmin, read below the oldest running transaction: nothing "
        f"can appear there any more, so nothing is lost; {because}",
    )
    row = snapshot.session.row(_UPDATES.format(table=sql.Literal(table.oid)))
    if rules.append_only and able and row is not None and row[0]:
        message = (
            f"{row[0]:,} updates of {table.name} have been counted: an updated record is delivered again"
        )
        yield Finding("positions", Level.WARNING, message, WAY_ON)
    yield _coming_round(snapshot)


def _coming_round(snapshot: Snapshot) -> Finding:
    """How far the next number is from one whose last 32 bits an old record has."""
    xmax = snapshot.session.moment.xmax
    alias = XIDS + FIRST_XID
    if xmax > HALF_ROUND:
        numbered = sql.SQL("{} >= {}").format(XMIN, FIRST_XID)
        row = snapshot.session.row(snapshot.relation.select(next_alias(xmax), [numbered]))
        alias = xmax + XIDS if row is None or row[0] is None else cast("int", row[0])
    left = alias - xmax
    if left >= _EARLY:
        message = f"transaction numbers come round to old records in {left:,} transactions"
        return Finding("positions", Level.OK, message)
    message = f"in {left:,} transactions numbers come round to those of the oldest records: exports stop then"
    return Finding("positions", Level.WARNING, message, WAY_ON)


# --- Privileges -----------------------------------------------------------------------------------------


def _privileges(snapshot: Snapshot) -> Iterator[Finding]:
    table = snapshot.relation.table
    found = rights(snapshot.session, table)
    what = "the tables behind" if table is None else table.name
    if found.is_superuser:
        yield _too_much(f"the role {found.role} is a superuser")
    elif found.is_owner:
        yield _too_much(f"the role {found.role} owns {what}")
    elif found.writes:
        yield _too_much(f"the role {found.role} has the right to {', '.join(found.writes)} on {what}")
    elif table is None:
        yield Finding("privileges", Level.OK, f"the role {found.role} is no superuser")
    else:
        yield Finding("privileges", Level.OK, f"the role {found.role} may not change {what}")
    if found.is_filtered:
        message = f"row-level security hides records of {what} from {found.role}: reading stops at that"
        hint = f"let a superuser say: ALTER ROLE {found.role} BYPASSRLS"
        yield Finding("privileges", Level.ERROR, message, hint)


def _too_much(message: str) -> Finding:
    hint = f"a role that may select and no more is enough; {_PREPARE}"
    return Finding("privileges", Level.WARNING, message, hint)


# --- Indexes --------------------------------------------------------------------------------------------


def _indexes(snapshot: Snapshot, rules: Rules, accounts: Sequence[str]) -> Iterator[Finding]:
    account = _sample(snapshot, rules, accounts)
    found = serving(snapshot, account, rules.commit)
    roles, relation = rules.roles, snapshot.relation
    columns = (roles.account, roles.time, roles.id)
    yield _served(snapshot, "records on time", found[Branch.ON_TIME], columns, by_time(relation, roles))
    for first in snapshot.derived.values():
        served = serving_first(snapshot, account, rules.commit, first.name)
        columns = (roles.account, first.of, roles.time)
        what = f"earlier records of the same {first.of} (for {first.name})"
        yield _served(snapshot, what, served, columns, by_value(relation, roles, first))
    late = found[Branch.LATE]
    if rules.commit is not None:
        wanted = by_position(relation, roles, rules.commit)
        yield _served(snapshot, "late records", late, (roles.account, rules.commit), wanted)
    elif late.is_cheap:
        by = f", by {_listed(late.indexes)}" if late.indexes else ""
        message = f"late records are looked for in all of an account{by}: xmin has no index"
        yield Finding("index", Level.OK, message)
    else:
        message = "late records are looked for in the whole table, at every window: xmin has no index"
        yield Finding("index", Level.WARNING, message, WAY_ON)


def _served(
    snapshot: Snapshot, what: str, served: Served, columns: Sequence[str], wanted: Wanted | None
) -> Finding:
    if served.indexes and served.is_cheap:
        return Finding("index", Level.OK, f"{what} are served by {_listed(served.indexes)}")
    message = f"no index serves {what}: every window reads more than it delivers"
    table, listed = snapshot.relation.table, ", ".join(columns)
    is_declared = table is not None and table.is_declared
    missing = Catalogue(snapshot.session, table).missing(wanted) if table and is_declared and wanted else []
    if is_declared and wanted is None:
        hint = f"only text, integers and uuids are found by an index on ({listed}): use these"
    elif missing:
        hint = missing[0].sql if len(missing) == 1 else _PREPARE
    elif served.is_cheap:
        return Finding("index", Level.OK, f"{what} are quickly found, as there are few")
    elif table is None or not is_declared:
        hint = f"index the table behind the view or query on ({listed})"
    else:
        message = f"an index for {what} is there, but PostgreSQL would not use it"
        hint = f"ANALYZE {table.name}"
    return Finding("index", Level.WARNING, message, hint)


def _sample(snapshot: Snapshot, rules: Rules, accounts: Sequence[str]) -> str:
    """An account that has records: of those that are exported, if one is found soon."""
    for account in islice(accounts, _TRIED):
        terms = snapshot.of_account(account)
        if snapshot.session.row(snapshot.relation.select(sql.SQL("1"), terms, "LIMIT 1")) is not None:
            return account
    column = snapshot.relation.column(rules.roles.account)
    is_there = sql.SQL("{} IS NOT NULL").format(column.value)
    row = snapshot.session.row(snapshot.relation.select(column.text, [is_there], "LIMIT 1"))
    if row is not None:
        return str(row[0])
    return "0" if column.kind is Kind.INTEGER else _NO_ACCOUNT


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"the index {names[0]}{more}"
