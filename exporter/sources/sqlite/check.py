"""What `check` says about a SQLite source, and the one mistake in the settings that stops it at once.

It looks at samples and through indexes, so that a check of a large table is quick. It changes nothing.
"""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, cast

from exporter.errors import SourceError
from exporter.model import Finding, Level, Statement
from exporter.sources.derived import ACTION_BYTES, NEWEST, PATIENCE_S, action_findings
from exporter.sources.sqlite.database import quoted, select
from exporter.sources.sqlite.firsts import candidates
from exporter.sources.sqlite.time import Condition

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from exporter.columns import Roles
    from exporter.sources.derived import FirstOf
    from exporter.sources.sqlite.snapshot import Snapshot

_NEWEST = 100
_FEW = 10  # fewer records than this may well be strange without the settings being wrong
_SAMPLE = 1_000
_SHOWN_ACCOUNTS = 10
_STEPS = 100_000  # of SQLite's machine: about a millisecond
_END_OF_TIME = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
_LARGEST_OF_UNIT = {"s": 10**11, "ms": 10**14, "us": 10**17}
_CANONICAL = "write times as 2026-11-19T04:00:00Z, or let source.query do so"


def require_readable_times(snapshot: Snapshot, roles: Roles, time_unit: str | None) -> None:
    """Raise SourceError if no record has a readable time: all would go out as bad records.

    The oldest are looked at as well as the newest, so that one customer's run of bad times stops nobody.
    """
    time = quoted(roles.time)
    what = f"{snapshot.times.readable}, typeof({time}), CAST(substr({time}, 1, 40) AS BLOB)"

    def sample(order: str) -> list[tuple[int, str, bytes | None]]:
        tail = f"ORDER BY {quoted(roles.id)} {order} LIMIT {_NEWEST}"
        return snapshot.connection.execute(snapshot.select(what, Condition(), tail)).fetchall()

    newest = sample("DESC")
    if len(newest) < _FEW or any(readable for readable, _, _ in newest):
        return
    if any(readable for readable, _, _ in sample("ASC")):
        return
    _, kind, stored = newest[0]
    example = "NULL" if stored is None else f"{kind} such as {stored.decode(errors='replace')!r}"
    expected = "canonical text" if time_unit is None else f"numbers of {time_unit}"
    raise SourceError(
        f"none of the newest {len(newest)} records has a readable time in {roles.time!r}: "
        f"{example}, not {expected}",
        hint=_time_hint(kind, stored, time_unit),
    )


def _time_hint(kind: str, stored: bytes | None, time_unit: str | None) -> str:
    if stored is None:
        return "columns.time must name the column that says when a record happened"
    if kind in ("integer", "real"):
        size = abs(float(stored))
        unit = next((unit for unit, largest in _LARGEST_OF_UNIT.items() if size < largest), "ns")
        return f"set source.time_unit: {unit}"
    return _CANONICAL if time_unit is None else f"leave out source.time_unit, or {_CANONICAL}"


def findings(snapshot: Snapshot, roles: Roles, now: datetime, accounts: Sequence[str]) -> list[Finding]:
    """All there is to say, the good included."""
    return [
        _ids(snapshot, roles),
        *_journal(snapshot),
        *_sample(snapshot, roles),
        *_indexes(snapshot, roles, now),
        *_future(snapshot, now, accounts),
        *_unknown_accounts(snapshot, accounts),
        *_actions(snapshot, roles, accounts),
    ]


def _ids(snapshot: Snapshot, roles: Roles) -> Finding:
    if snapshot.relation.autoincrement:
        return Finding("ids", Level.OK, f"{roles.id} is AUTOINCREMENT: no id is ever used again")
    if snapshot.relation.table is None:
        message = "nobody can say whether the ids of a view or a query are used again"
        return Finding("ids", Level.WARNING, message, "read a table with an AUTOINCREMENT id if you can")
    message = f"{roles.id} is not AUTOINCREMENT: the id of a deleted newest record is used again"
    return Finding("ids", Level.WARNING, message, f"declare {roles.id} INTEGER PRIMARY KEY AUTOINCREMENT")


def _journal(snapshot: Snapshot) -> Iterator[Finding]:
    (mode,) = snapshot.connection.execute("PRAGMA journal_mode").fetchone()
    if mode != "wal":
        message = f"the journal mode is {mode}: while an export reads, the application cannot write"
        yield Finding("journal", Level.WARNING, message, "PRAGMA journal_mode = WAL")


def _sample(snapshot: Snapshot, roles: Roles) -> Iterator[Finding]:
    """Among the newest records: unreadable times, and ids that are not unique."""
    newest = f"ORDER BY {quoted(roles.id)} DESC LIMIT {_SAMPLE}"
    records = snapshot.connection.execute(
        snapshot.select(f"{quoted(roles.id)}, {snapshot.times.readable}", Condition(), newest)
    ).fetchall()
    unreadable = sum(not readable for _, readable in records)
    if unreadable:
        message = f"{unreadable} of the newest {len(records)} records have an unreadable time"
        hint = f"they go out as bad records: {_CANONICAL}; for numbers set source.time_unit"
        level = Level.ERROR if unreadable == len(records) else Level.WARNING
        yield Finding("times", level, message, hint)
    if len({identifier for identifier, _ in records}) < len(records):
        yield Finding(
            "ids", Level.ERROR, "several records have one id", "source.query must give each its own"
        )


def missing_indexes(snapshot: Snapshot, roles: Roles, now: datetime) -> Iterator[Statement]:
    """What would keep every window as quick as its size."""
    if snapshot.relation.table is not None and not snapshot.relation.by_account:
        reason = "no index leads from an account to its newest records"
        yield Statement(reason, _create_index(snapshot, "by_account", roles.account))
    if not _is_window_served(snapshot, roles, now):
        reason = "no index leads from an account to a window of time"
        yield Statement(reason, _create_index(snapshot, "by_time", roles.account, roles.time, roles.id))
    for first in {one.of: one for one in snapshot.derived.values()}.values():
        if not _is_first_served(snapshot, roles, first):
            reason = f"no index leads from an account and its {first.of} to records of the same {first.of}"
            yield Statement(
                reason, _create_index(snapshot, f"by_{first.of}", roles.account, first.of, roles.time)
            )


def _indexes(snapshot: Snapshot, roles: Roles, now: datetime) -> Iterator[Finding]:
    for one in missing_indexes(snapshot, roles, now):
        yield Finding("index", Level.WARNING, one.reason, one.sql)


def _is_window_served(snapshot: Snapshot, roles: Roles, now: datetime) -> bool:
    """Whether SQLite would search an index for account and time, as it says itself."""
    plan: list[str] = []

    def explain(what: str, condition: Condition, tail: str = "") -> None:
        whole = snapshot.of_account("") + condition
        steps = snapshot.connection.execute(
            " ".join(("EXPLAIN QUERY PLAN", snapshot.select(what, whole, tail))), whole.values
        )
        plan.extend(detail for _, _, _, detail in steps)

    snapshot.times.first_second(explain, now, now, Condition())
    return any(f"({roles.account}=? AND {roles.time}>? AND {roles.time}<?)" in step for step in plan)


def _is_first_served(snapshot: Snapshot, roles: Roles, first: FirstOf) -> bool:
    """Whether SQLite would search an index for account and user."""
    terms = candidates(snapshot, first, "")
    exists = select(snapshot.relation.earlier, "1", terms.terms)
    plan = snapshot.connection.execute(
        f"EXPLAIN QUERY PLAN {snapshot.select(f'EXISTS ({exists})', Condition())}", terms.values
    )
    both = (f"({roles.account}=? AND {first.of}=?", f"({first.of}=? AND {roles.account}=?")
    return any(one in step for *_, step in plan for one in both)


def _create_index(snapshot: Snapshot, name: str, *columns: str) -> str:
    table = snapshot.relation.table
    if table is None:
        return f"index the table behind the view or query on ({', '.join(columns)})"
    return f"CREATE INDEX {quoted(f'{table}_{name}')} ON {quoted(table)} ({', '.join(map(quoted, columns))})"


def _future(snapshot: Snapshot, now: datetime, accounts: Sequence[str]) -> Iterator[Finding]:
    count = sum(_future_of(snapshot, now, account) for account in accounts)
    if count:
        message = f"{count} records are dated in the future"
        yield Finding(
            "times", Level.WARNING, message, "each waits for its window; is the application's clock right?"
        )


def _future_of(snapshot: Snapshot, now: datetime, account: str) -> int:
    lookup = partial(snapshot.row_of, account)
    found = snapshot.times.on_time(lookup, now, _END_OF_TIME)
    row = None if found is None else lookup("count(*)", found[0])
    return 0 if row is None else cast("int", row[0])


def _unknown_accounts(snapshot: Snapshot, accounts: Sequence[str]) -> Iterator[Finding]:
    unknown = [one for one in accounts if snapshot.row_of(one, "1", Condition(), "LIMIT 1") is None]
    if unknown:
        names = ", ".join(map(repr, unknown[:_SHOWN_ACCOUNTS]))
        more = f" and {len(unknown) - _SHOWN_ACCOUNTS} more" if len(unknown) > _SHOWN_ACCOUNTS else ""
        hint = "fine for new customers; otherwise spell the account exactly as the source does"
        yield Finding("accounts", Level.WARNING, f"no record yet of {names}{more}", hint)


def _actions(snapshot: Snapshot, roles: Roles, accounts: Sequence[str]) -> list[Finding]:
    """Of derived columns, actions that no record has, or has in another spelling; as long as patience lasts.

    SQLite has no limit of its own for a statement, and without an index one goes through all records.
    """
    connection, newest = snapshot.connection, partial(_newest_actions, snapshot, roles)
    decode, connection.text_factory = connection.text_factory, bytes
    deadline = monotonic() + PATIENCE_S
    connection.set_progress_handler(lambda: monotonic() > deadline, _STEPS)
    try:
        return list(action_findings(snapshot.derived.values(), accounts, newest))
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
            raise
        message = f"the actions could not be looked at within {PATIENCE_S:g} s"
        hint = "an index may be missing; `audit-exporter source prepare` prints how"
        return [Finding("derived", Level.WARNING, message, hint)]
    finally:
        connection.set_progress_handler(None, 0)
        connection.text_factory = decode


def _newest_actions(
    snapshot: Snapshot, roles: Roles, action: str, account: str
) -> Iterator[tuple[bytes | None, int]]:
    """In the order that an index most likely has; which of the newest they are does not matter."""
    order = roles.id if snapshot.relation.by_account else roles.time
    what = f"substr(CAST({quoted(action)} AS TEXT), 1, {ACTION_BYTES})"
    condition, tail = snapshot.of_account(account), f"ORDER BY {quoted(order)} DESC LIMIT {NEWEST}"
    for (one,) in snapshot.connection.execute(snapshot.select(what, condition, tail), condition.values):
        yield one, 1
