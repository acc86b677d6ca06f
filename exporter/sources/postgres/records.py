"""What `check` says about the records of the accounts: odd times, positions and ids.

Found through the indexes that an export is read by, many accounts at a time. It changes nothing.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, cast

from psycopg import sql

from exporter.model import Finding, Level
from exporter.sources.derived import ACTION_BYTES, NEWEST, action_findings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from exporter.sources.postgres.ranges import Snapshot
    from exporter.sources.postgres.sealing import Rules

_AT_ONCE: Final = 100
_AT_MOST: Final = 1_000
_SAMPLE: Final = 1_000
_SHOWN_ACCOUNTS: Final = 10
_END_OF_TIME: Final = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
_LONG_AGO: Final = datetime(2000, 1, 1, tzinfo=UTC)
_ONE: Final = sql.SQL("1")
_HAVING_ACTIONS: Final = sql.SQL("SELECT action, count(*) FROM ({}) AS newest GROUP BY action")


@dataclass(frozen=True, slots=True)
class _Oddity:
    """Records that somebody should look at; counted up to ``_AT_MOST`` in each account."""

    subject: str
    level: Level
    message: str
    hint: str
    terms: Sequence[sql.Composable]


def findings(snapshot: Snapshot, rules: Rules, accounts: Sequence[str]) -> Iterator[Finding]:
    """Odd records, accounts without any, ids that several records have."""
    oddities = list(_oddities(snapshot, rules))
    counts: Counter[int] = Counter()
    usual: list[str] = []
    unknown: list[str] = []
    for account, has_readable, *found in _counted(snapshot, oddities, accounts):
        counts.update(dict(enumerate(found)))
        if has_readable:
            usual.append(account)
        elif not any(found):
            unknown.append(account)
    for place, oddity in enumerate(oddities):
        if counts[place]:
            yield _odd(oddity, counts[place], is_all=oddity.subject == "times" and not usual)
    if unknown:
        yield _unknown(unknown)
    if usual:
        yield from _repeated_ids(snapshot, rules, usual[0])
        yield from _unlikely_unit(snapshot, usual[0])


def actions(snapshot: Snapshot, accounts: Sequence[str]) -> Iterator[Finding]:
    """Of derived columns, actions that no record has, or has in another spelling."""

    def newest(action: str, account: str) -> Iterator[tuple[bytes | None, int]]:
        text, length = snapshot.relation.column(action).text, sql.Literal(ACTION_BYTES)
        # Where the server does not know the encoding of its texts, their bytes are taken as they are.
        encoding = sql.Literal("UTF8" if snapshot.session.valid_utf8 else "SQL_ASCII")
        what = sql.SQL("substring(convert_to({}, {}) FOR {}) AS action").format(text, encoding, length)
        tail = f"ORDER BY {snapshot.times.column.value.as_string()} DESC LIMIT {NEWEST}"
        select = snapshot.relation.select(what, snapshot.of_account(account), tail)
        for found, count in snapshot.session.rows(_HAVING_ACTIONS.format(select)):
            yield cast("bytes | None", found), cast("int", count)

    return action_findings(snapshot.derived.values(), accounts, newest)


def _oddities(snapshot: Snapshot, rules: Rules) -> Iterator[_Oddity]:
    moment, times = snapshot.session.moment, snapshot.times
    hint = "they go out as bad records; for times that are numbers, is source.time_unit right?"
    yield _Oddity("times", Level.WARNING, "have an unreadable time", hint, [times.unreadable])
    hint = "each waits for its window; is the application's clock right?"
    future = times.between(moment.now, _END_OF_TIME)
    yield _Oddity("times", Level.WARNING, "are dated in the future", hint, future)
    column = None if rules.commit is None else snapshot.relation.column(rules.commit)
    if column is None or not column.is_position:
        return
    if not column.required:
        hint = "such a record is never delivered: let source.query leave out none, and NOT NULL see to it"
        missing = [sql.SQL("{} IS NULL").format(column.value)]
        yield _Oddity("positions", Level.ERROR, f"have no {column.name}", hint, missing)
    beyond = sql.SQL("{} >= {}::xid8").format(column.value, sql.Literal(str(moment.xmax)))
    message = (
        f"have a {column.name} that this database has not come to, at {moment.xmax}: they are of another one "
        "(restored from a dump, logical replication), and wait until this one gets there"
    )
    yield _Oddity("positions", Level.ERROR, message, _renumbering(snapshot, column.name), [beyond])


def _renumbering(snapshot: Snapshot, column: str) -> str:
    table = snapshot.relation.table
    if table is None or not table.is_declared:
        return f"give them a {column} of this database: pg_current_xact_id(), in the table behind"
    statement = "UPDATE {} SET {} = pg_current_xact_id() WHERE {} >= pg_snapshot_xmax(pg_current_snapshot())"
    name = sql.Identifier(column)
    return sql.SQL(statement).format(sql.SQL(table.name), name, name).as_string()


def _counted(
    snapshot: Snapshot, oddities: Sequence[_Oddity], accounts: Sequence[str]
) -> Iterator[tuple[str, bool, *tuple[int, ...]]]:
    """Each account, whether it has a record with a readable time, and how many of each oddity."""
    relation = snapshot.relation
    # The order makes PostgreSQL take the index on the time, where the first entry is enough.
    first_by_time = f"ORDER BY {snapshot.times.column.value.as_string()} LIMIT 1"
    for first in range(0, len(accounts), _AT_ONCE):
        asked = []
        for place in range(first, min(first + _AT_ONCE, len(accounts))):
            account = snapshot.of_account(accounts[place])
            readable = relation.select(_ONE, [*account, *snapshot.times.before(_END_OF_TIME)], first_by_time)
            numbers = [
                sql.SQL("(SELECT count(*) FROM ({}) AS odd)").format(
                    relation.select(_ONE, [*account, *oddity.terms], f"LIMIT {_AT_MOST}")
                )
                for oddity in oddities
            ]
            what = [sql.Literal(place), sql.SQL("({}) IS NOT NULL").format(readable), *numbers]
            asked.append(sql.SQL("SELECT ") + sql.SQL(", ").join(what))
        for row in snapshot.session.rows(sql.SQL(" UNION ALL ").join(asked)):
            place, has_readable, *found = cast("tuple[int, bool, *tuple[int, ...]]", row)
            yield (accounts[place], has_readable, *found)


def _odd(oddity: _Oddity, count: int, *, is_all: bool) -> Finding:
    at_least = "at least " if count >= _AT_MOST else ""
    level = Level.ERROR if is_all else oddity.level
    return Finding(oddity.subject, level, f"{at_least}{count:,} records {oddity.message}", oddity.hint)


def _unknown(accounts: Sequence[str]) -> Finding:
    names = ", ".join(map(repr, accounts[:_SHOWN_ACCOUNTS]))
    more = f" and {len(accounts) - _SHOWN_ACCOUNTS:,} more" if len(accounts) > _SHOWN_ACCOUNTS else ""
    hint = "fine for new customers; otherwise spell the account exactly as the source does"
    return Finding("accounts", Level.WARNING, f"no record yet of {names}{more}", hint)


def _repeated_ids(snapshot: Snapshot, rules: Rules, account: str) -> Iterator[Finding]:
    """Among the newest records of one account."""
    tail = f"ORDER BY {snapshot.times.column.value.as_string()} DESC LIMIT {_SAMPLE}"
    identifier = sql.SQL("{} AS id").format(snapshot.relation.column(rules.roles.id).text)
    newest = snapshot.relation.select(identifier, snapshot.of_account(account), tail)
    counted = sql.SQL("SELECT count(*) > count(DISTINCT id) FROM ({}) AS newest").format(newest)
    if snapshot.session.row(counted) == (True,):
        hint = "source.query must give each its own"
        yield Finding("ids", Level.ERROR, f"several records of {account!r} have one id", hint)


def _unlikely_unit(snapshot: Snapshot, account: str) -> Iterator[Finding]:
    """Seconds taken for milliseconds are all in 1970."""
    times = snapshot.times
    if times.unit is None:
        return
    terms = [*snapshot.of_account(account), *times.between(_LONG_AGO, _END_OF_TIME)]
    if snapshot.session.row(snapshot.relation.select(_ONE, terms, "LIMIT 1")) is None:
        message = f"all records of {account!r} are dated before {_LONG_AGO:%Y}"
        yield Finding("times", Level.WARNING, message, f"is source.time_unit: {times.unit} right?")
