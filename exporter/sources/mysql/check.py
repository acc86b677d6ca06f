"""What `check` says about a MariaDB or MySQL source, the good included.

Everything is looked at through indexes, or in samples, and no statement runs for more than a few seconds.
Each look stands alone, so that one that fails hides no other. It changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pymysql import err

from exporter.errors import SourceBusy, SourceError
from exporter.model import Finding, Level
from exporter.sources.mysql import records
from exporter.sources.mysql.errors import STATEMENT_TIMEOUTS, number_of, translated
from exporter.sources.mysql.gaps import Extent
from exporter.sources.mysql.indexes import Catalogue, is_long, wanted
from exporter.sources.mysql.positions import TablePositions, require_primary
from exporter.sources.mysql.privileges import rights
from exporter.sources.mysql.seal import MOST_GAPS, RESERVED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from exporter.columns import Roles
    from exporter.sources.derived import FirstOf
    from exporter.sources.mysql.connection import Session
    from exporter.sources.mysql.options import MysqlOptions
    from exporter.sources.mysql.ranges import Snapshot

TIMEOUT_S: Final = 5.0
_FEW: Final = 10_000
_NO_SUCH_ACCOUNT: Final = "0"  # also an integer
_VIEW_CANNOT_BE_EXPLAINED: Final = 1345
_PREPARE: Final = "`audit-exporter source prepare` prints how"
_ON_TIME, _LATE = "records on time", "late records"
_FEW_EACH: Final = 1_000  # for one record
_SELECT, _TABLE, _KEY, _REF, _ROWS = 1, 2, 5, 7, 8  # of what EXPLAIN answers


def findings(
    snapshot: Snapshot, roles: Roles, options: MysqlOptions, accounts: Sequence[str]
) -> list[Finding]:
    """All there is to say: positions, server, privileges, connection, indexes, records."""
    session = snapshot.session
    session.rows(f"SET SESSION {session.server.timeout(TIMEOUT_S)}")
    try:
        return [
            *_looked(session, "positions", lambda: _positions(snapshot, options)),
            *_looked(session, "server", lambda: _server(session)),
            *_looked(session, "privileges", lambda: _privileges(snapshot)),
            _connection(session),
            *_looked(session, "index", lambda: _indexes(snapshot, roles, accounts)),
            *_looked(session, "records", lambda: records.findings(snapshot, roles, accounts)),
            *_looked(session, "derived", lambda: records.actions(snapshot, accounts)),
        ]
    finally:
        session.rows(f"SET SESSION {session.server.timeout(options.statement_timeout_s)}")


def _looked(session: Session, subject: str, look: Callable[[], Iterable[Finding]]) -> list[Finding]:
    """What a look finds, or that it could not."""
    try:
        with translated(session.place):
            return list(look())
    except SourceError as error:
        if not session.connection.open:
            raise
        cause = error.__cause__
        if isinstance(cause, err.MySQLError) and number_of(cause) in STATEMENT_TIMEOUTS:
            message = f"could not be looked at within {TIMEOUT_S:g} s"
            return [Finding(subject, Level.WARNING, message, f"an index may be missing; {_PREPARE}")]
        level = Level.WARNING if isinstance(error, SourceBusy) else Level.ERROR
        return [Finding(subject, level, error.message, error.hint)]


# --- Positions ------------------------------------------------------------------------------------------


def _positions(snapshot: Snapshot, options: MysqlOptions) -> Iterator[Finding]:
    session, relation = snapshot.session, snapshot.relation
    yield Finding(
        "positions",
        Level.OK,
        f"positions are those of the AUTO_INCREMENT column {relation.position.name}: a seal holds all up to "
        "the highest but for those that a running statement or transaction may still fill: nothing is lost",
    )
    if relation.home.is_view or relation.is_query:
        message = (
            f"a record counts from the commit of its row in {relation.home.name} on: one that the query or "
            "view shows only later, by another table or a changed column, is lost"
        )
        hint = "read the table itself, or see to it that nothing but an insert makes a record appear"
        yield Finding("appearing", Level.WARNING, message, hint)
    positions = TablePositions(session, relation.origin, options)
    if positions.sees_processes():
        message = "PROCESS shows when statements have ended: ids that were rolled back are done with at once"
        yield Finding("positions", Level.OK, message)
    else:
        yield _by_time_alone(snapshot, options)
    newest = positions.newest()
    missing = Extent(newest, positions.missing(max(0, newest - RESERVED), newest))
    if not positions.sees_processes() and len(missing.gaps) > MOST_GAPS:
        message = (
            f"among the newest {RESERVED:,} ids there are {len(missing.gaps):,} gaps, and a seal has room "
            f"for {MOST_GAPS:,}: records may come late by as much as source.longest_statement"
        )
        yield Finding("positions", Level.WARNING, message, _grant_process(snapshot))


def _by_time_alone(snapshot: Snapshot, options: MysqlOptions) -> Finding:
    message = (
        "without PROCESS nobody sees when a statement has ended: ids that were rolled back are waited for, "
        f"and no statement that inserts may take longer than {options.longest_statement_s:g} s"
    )
    return Finding("positions", Level.WARNING, message, _grant_process(snapshot))


def _grant_process(snapshot: Snapshot) -> str:
    return f"GRANT PROCESS ON *.* TO {rights(snapshot.session, snapshot.relation.home).user}"


# --- Server, privileges, connection ---------------------------------------------------------------------


def _server(session: Session) -> Iterator[Finding]:
    require_primary(session)
    if not session.server.is_mariadb:
        message = f"MySQL {session.server.version} is read like MariaDB, and has never been tested"
        yield Finding("server", Level.WARNING, message, "try it out before you rely on it")
    (flush,) = session.texts("SELECT @@global.innodb_flush_log_at_trx_commit")[0]
    if flush != "1":
        message = (
            f"innodb_flush_log_at_trx_commit is {flush}: a crash of the machine can take back records that "
            "were delivered, and give their ids out again; the source stops then"
        )
        yield Finding("server", Level.WARNING, message, "SET GLOBAL innodb_flush_log_at_trx_commit = 1")


def _privileges(snapshot: Snapshot) -> Iterator[Finding]:
    found = rights(snapshot.session, snapshot.relation.home)
    if found.too_much:
        message = f"the user {found.user} may do more than read: {', '.join(found.too_much)}"
        hint = f"a user that may select and no more is enough; {_PREPARE}"
        yield Finding("privileges", Level.WARNING, message, hint)
    else:
        yield Finding("privileges", Level.OK, f"the user {found.user} may not change the table")


def _connection(session: Session) -> Finding:
    if session.connection.is_encrypted():
        return Finding("connection", Level.OK, "the connection is encrypted")
    if session.connection.unix_socket is not None:
        return Finding("connection", Level.OK, "the connection stays on this machine")
    hint = "set source.tls, if the server is not on this machine"
    return Finding("connection", Level.WARNING, "the connection is not encrypted", hint)


# --- Indexes --------------------------------------------------------------------------------------------


def _indexes(snapshot: Snapshot, roles: Roles, accounts: Sequence[str]) -> Iterator[Finding]:
    """By the catalogue where the table is known; and by what the server would do, where there is much."""
    relation = snapshot.relation
    if relation.is_query or relation.home.is_view:
        yield from _explained(snapshot, roles, accounts)
        return
    catalogue = Catalogue(snapshot.session, relation.home)
    missing = [
        statement
        for one in wanted(relation, roles, snapshot.derived.values())
        if (statement := catalogue.missing(one))
    ]
    for statement in missing:
        yield Finding("index", Level.WARNING, statement.reason, statement.sql)
    if not missing:
        yield from _explained(snapshot, roles, accounts)


def _explained(snapshot: Snapshot, roles: Roles, accounts: Sequence[str]) -> Iterator[Finding]:
    try:
        plans, firsts = list(_plans(snapshot, accounts)), list(_plans_of_firsts(snapshot, roles, accounts))
    except err.MySQLError as error:
        if number_of(error) != _VIEW_CANNOT_BE_EXPLAINED:
            raise
        message = "the server does not say how it would read a view"
        hint = "GRANT SHOW VIEW on it; the table behind needs indexes as `source prepare` says"
        for names in {_names(roles, first) for first in snapshot.derived.values()}:
            hint += f", and one on {names}"
        yield Finding("index", Level.WARNING, message, hint)
        return
    yield from firsts
    for what, keys, rows in plans:
        if keys:
            yield Finding("index", Level.OK, f"{what} are served by the index {', '.join(keys)}")
        elif rows < _FEW:
            yield Finding("index", Level.OK, f"{what} are few enough to need no index yet")
        else:
            message = f"no index serves {what}: every window reads more than it delivers"
            yield Finding("index", Level.WARNING, message, f"ANALYZE the table; {_PREPARE}")


def _plans(snapshot: Snapshot, accounts: Sequence[str]) -> Iterator[tuple[str, list[str], int]]:
    """Of each branch the indexes that the server would go by, and how many records it looks at without."""
    for what, select in records.samples(snapshot, _sample(accounts), _ON_TIME, _LATE):
        plan = snapshot.session.texts(f"EXPLAIN {select}")
        keys = [row[_KEY] for row in plan if row[_KEY]]
        yield what, keys, max((int(row[_ROWS] or 0) for row in plan if not row[_KEY]), default=0)


def _plans_of_firsts(snapshot: Snapshot, roles: Roles, accounts: Sequence[str]) -> Iterator[Finding]:
    """Whether an index leads from each record to the others of its user; else to all of an account."""
    for first, select in records.samples_of_firsts(snapshot, _sample(accounts)):
        plan = snapshot.session.texts(f"EXPLAIN {select}")
        looks = [row for row in plan if row[_SELECT].startswith("DEPENDENT")]
        what = f"earlier records of the same {first.of} (for {first.name})"
        if max((int(row[_ROWS] or 0) for row in looks if not _leads_to_value(row)), default=0) < _FEW_EACH:
            yield Finding("index", Level.OK, f"{what} are quickly found, by an index or as there are few")
        else:
            message = f"no index serves {what}: each record reads more than it needs"
            yield Finding("index", Level.WARNING, message, _hint_for_first(snapshot, roles, first))


def _leads_to_value(row: tuple[str, ...]) -> bool:
    """Whether an index is searched by a column, and is a table's own: no statement made it for itself."""
    return not row[_TABLE].startswith("<") and any(part not in ("", "const") for part in row[_REF].split(","))


def _hint_for_first(snapshot: Snapshot, roles: Roles, first: FirstOf) -> str:
    relation = snapshot.relation
    if relation.is_query or relation.home.is_view:
        return f"index the table behind the view or query on {_names(roles, first)}"
    if is_long(relation.column(first.of)):
        return f"no index holds {first.of} whole: declare it as varchar, then {_PREPARE}"
    return "ANALYZE the table"


def _names(roles: Roles, first: FirstOf) -> str:
    return f"({roles.account}, {first.of}, {roles.time})"


def _sample(accounts: Sequence[str]) -> str:
    return accounts[0] if accounts else _NO_SUCH_ACCOUNT
