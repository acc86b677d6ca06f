"""What `check` says about the records: odd times, ids and accounts. It changes nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from exporter.model import Branch, Finding, Level, Range, Window
from exporter.sources.derived import ACTION_BYTES, NEWEST, action_findings
from exporter.sources.mysql.firsts import is_first
from exporter.sources.mysql.gaps import Extent
from exporter.sources.mysql.positions import server_time

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from exporter.columns import Roles
    from exporter.sources.derived import FirstOf
    from exporter.sources.mysql.ranges import Snapshot

_SAMPLE: Final = 1_000
_AT_MOST: Final = 1_000
_SHOWN_ACCOUNTS: Final = 10
_END_OF_TIME: Final = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
_DAY: Final = timedelta(days=1)


def findings(snapshot: Snapshot, roles: Roles, accounts: Sequence[str]) -> Iterator[Finding]:
    """Among the newest records, unreadable times and repeated ids; of the accounts, future times."""
    yield from _newest(snapshot, roles)
    yield from _future(snapshot, accounts)
    yield from _unknown(snapshot, accounts)


def actions(snapshot: Snapshot, accounts: Sequence[str]) -> Iterator[Finding]:
    """Of derived columns, actions that no record has, or has in another spelling."""

    def newest(action: str, account: str) -> Iterator[tuple[bytes | None, int]]:
        relation = snapshot.relation
        what = f"LEFT({relation.column(action).bytes}, {ACTION_BYTES}) AS action"
        tail = f"ORDER BY {snapshot.times.column.value} DESC LIMIT {NEWEST}"
        select = relation.select(what, snapshot.of_account(account), tail)
        counted = f"SELECT action, COUNT(*) FROM ({select}) AS newest GROUP BY action"  # noqa: S608 - see `relation`
        for found, count in snapshot.session.rows(counted):
            yield found, int(count or 0)

    return action_findings(snapshot.derived.values(), accounts, newest)


def samples(snapshot: Snapshot, account: str, *names: str) -> Iterator[tuple[str, str]]:
    """A statement of each branch as windows have them, by the names that they are given."""
    on_time, late = names
    now, newest = server_time(snapshot.session), _newest_position(snapshot)
    sealed, previous = Extent(newest), Extent(max(0, newest - _SAMPLE))
    time = snapshot.times.column
    terms = snapshot.on_time(account, now - _DAY, now, sealed)
    yield on_time, snapshot.relation.select(time.shown, terms, f"ORDER BY {time.value}")
    if new := snapshot.newly_held(previous, sealed):
        terms = [*snapshot.of_account(account), new, snapshot.times.before(now)]
        yield late, snapshot.relation.select(time.shown, terms, f"ORDER BY {time.value}")


def samples_of_firsts(snapshot: Snapshot, account: str) -> Iterator[tuple[FirstOf, str]]:
    """A statement with each derived column, as windows have them."""
    now, sealed = server_time(snapshot.session), Extent(_newest_position(snapshot))
    one = Range(account, Window(now - _DAY, now), sealed.as_seal())
    terms = snapshot.on_time(account, one.window.start, one.window.end, sealed)
    for first in snapshot.derived.values():
        what = is_first(snapshot, first, one, Branch.ON_TIME)
        yield first, snapshot.relation.select(what, terms)


def _newest(snapshot: Snapshot, roles: Roles) -> Iterator[Finding]:
    relation = snapshot.relation
    identifier, position = relation.column(roles.id), relation.position.value
    # By the position, and bounded: a view or a query might have no better way to the newest.
    bound = f"{position} > {_newest_position(snapshot) - _SAMPLE}"
    rows = snapshot.session.rows(
        relation.select(f"{identifier.bytes}, {snapshot.times.readable}", [bound], f"LIMIT {_SAMPLE}")
    )
    unreadable = sum(readable != b"1" for _, readable in rows)
    if unreadable:
        message = f"{unreadable:,} of the newest {len(rows):,} records have an unreadable time"
        hint = "they go out as bad records; for times that are numbers, is source.time_unit right?"
        level = Level.ERROR if unreadable == len(rows) else Level.WARNING
        yield Finding("times", level, message, hint)
    if len({one for one, _ in rows}) < len(rows):
        hint = "columns.id must name a column that gives each record its own"
        yield Finding("ids", Level.ERROR, "several records have one id", hint)


def _future(snapshot: Snapshot, accounts: Sequence[str]) -> Iterator[Finding]:
    now, count, is_more = server_time(snapshot.session), 0, False
    for account in accounts:
        terms = [*snapshot.of_account(account), *snapshot.times.between(now, _END_OF_TIME)]
        found = snapshot.session.rows(snapshot.relation.select("1", terms, f"LIMIT {_AT_MOST}"))
        count += len(found)
        is_more = is_more or len(found) == _AT_MOST
    if count:
        message = f"{'at least ' if is_more else ''}{count:,} records are dated in the future"
        hint = "each waits for its window; is the application's clock right?"
        yield Finding("times", Level.WARNING, message, hint)


def _unknown(snapshot: Snapshot, accounts: Sequence[str]) -> Iterator[Finding]:
    unknown = [
        account
        for account in accounts
        if snapshot.session.row(snapshot.relation.select("1", snapshot.of_account(account), "LIMIT 1"))
        is None
    ]
    if unknown:
        names = ", ".join(map(repr, unknown[:_SHOWN_ACCOUNTS]))
        more = f" and {len(unknown) - _SHOWN_ACCOUNTS:,} more" if len(unknown) > _SHOWN_ACCOUNTS else ""
        hint = "fine for new customers; otherwise spell the account exactly as the source does"
        yield Finding("accounts", Level.WARNING, f"no record yet of {names}{more}", hint)


def _newest_position(snapshot: Snapshot) -> int:
    origin = snapshot.relation.origin
    row = snapshot.session.row(origin.select(f"MAX({origin.column})"))
    return 0 if row is None or row[0] is None else int(row[0])
