"""What `check` says about the server: its horizon and who holds that back, its part, how it is reached.

It reads no record, and changes nothing.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from psycopg import sql

from exporter.model import Finding, Level
from exporter.sources.postgres.seal import XIDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exporter.sources.postgres.connection import Session

_LONG: Final = timedelta(minutes=5)
_SECOND_LOOK_S: Final = 1
_GRANT_STATS: Final = "GRANT pg_read_all_stats TO {role}"
_NOTHING_LOST: Final = "what commits meanwhile comes late, and nothing is lost"

# Every role sees whose transaction has which number; since when, only its own and with pg_read_all_stats.
_HOLDER: Final = sql.SQL("""
    SELECT pid, usename::text, datname::text, application_name, state, xact_start, NULL
    FROM pg_stat_activity WHERE backend_xid::text::bigint = {xid}
    UNION ALL
    SELECT NULL, owner::text, database::text, NULL, NULL, prepared, gid
    FROM pg_prepared_xacts WHERE transaction::text::bigint = {xid}
""")
_LOOK_AGAIN: Final = sql.SQL("SELECT pg_sleep({seconds}), pg_stat_clear_snapshot()")
_STANDBY: Final = sql.SQL("""
    SELECT current_setting('hot_standby_feedback') = 'on', pid IS NOT NULL, received_tli IS NOT NULL
    FROM (SELECT) AS one LEFT JOIN pg_stat_wal_receiver ON TRUE
""")
_ME: Final = sql.SQL("SELECT quote_ident(current_user)")


class _Holder(NamedTuple):
    """Whose transaction the horizon waits for: a session's, or a prepared one with a ``gid``."""

    pid: int | None
    user: str | None
    database: str | None
    application: str | None
    state: str | None
    since: datetime | None
    gid: str | None

    @property
    def words(self) -> str:
        if self.gid is not None:
            return f"the prepared transaction {self.gid!r} of {self.user} in {self.database}"
        about = (f"user {self.user}", self.application, f"database {self.database}", self.state)
        return f"pid {self.pid} ({', '.join(one for one in about if one)})"

    @property
    def way_to_end_it(self) -> str:
        if self.gid is not None:
            gid = sql.Literal(self.gid).as_string()
            return f"as {self.user} in {self.database}: COMMIT PREPARED {gid} or ROLLBACK PREPARED {gid}"
        ending = f"SELECT pg_terminate_backend({self.pid})"
        if (self.state or "").startswith("idle in transaction"):
            return f"{ending}; idle_in_transaction_session_timeout ends such sessions by itself"
        return f"wait for it, or {ending}"


def horizon(session: Session) -> Iterator[Finding]:
    """How many transactions old the oldest running one is, and since when and whose it is."""
    moment = session.moment
    age = moment.next_xid - moment.horizon
    if age == 0:
        yield _horizon(Level.OK, "no transaction is running that has written anything")
        return
    behind = f"{age:,} transaction{'s' if age > 1 else ''} behind"
    if moment.in_recovery:
        yield _horizon(Level.OK, f"{behind}; what it waits for can be seen on the primary alone")
        return
    holder = _holder(session)
    if holder is None:
        yield _horizon(Level.OK, f"{behind} a moment ago, by a transaction that has just ended")
    elif holder.since is None:
        yield _unseen(session, holder, behind)
    else:
        yield _held(holder, max(timedelta(0), moment.now - holder.since), behind)


def _held(holder: _Holder, elapsed: timedelta, behind: str) -> Finding:
    message = f"{behind}: held back for {_words(elapsed)} by {holder.words}"
    if elapsed < _LONG:
        return _horizon(Level.OK, message)
    return _horizon(Level.WARNING, f"{message}; {_NOTHING_LOST}", holder.way_to_end_it)


def _unseen(session: Session, holder: _Holder, behind: str) -> Finding:
    """A second look tells a long transaction from one of the many that are always under way."""
    message = f"{behind}: held back by {holder.words}, this role cannot see since when"
    session.row(_LOOK_AGAIN.format(seconds=sql.Literal(_SECOND_LOOK_S)))
    if _holder(session) is None:
        return _horizon(Level.OK, f"{message}; it has just ended")
    return _horizon(Level.WARNING, f"{message}; {_NOTHING_LOST}", _grant(session))


def _holder(session: Session) -> _Holder | None:
    row = session.row(_HOLDER.format(xid=sql.Literal(session.moment.horizon % XIDS)))
    return None if row is None else _Holder(*row)  # type: ignore[arg-type]


def _horizon(level: Level, message: str, hint: str = "") -> Finding:
    return Finding("horizon", level, message, hint)


def server(session: Session) -> Iterator[Finding]:
    """Version and part: on a standby how far it has come, and what may go wrong there."""
    version = session.connection.info.server_version
    name = f"PostgreSQL {version // 10_000}.{version % 10_000}"
    if not session.moment.in_recovery:
        yield Finding("server", Level.OK, f"{name}, a primary")
        return
    has_feedback, receives, sees_timeline = cast("tuple[bool, bool, bool]", session.row(_STANDBY))
    yield _replay(session, f"{name}, a hot standby", receives=receives)
    if not has_feedback:
        message = "hot_standby_feedback is off: the standby cancels a long reading when it has to replay"
        yield Finding("server", Level.WARNING, message, "set hot_standby_feedback = on in its configuration")
    if receives and not sees_timeline:
        message = "this role cannot see what timeline arrives: a fail-over of the primary is noticed late"
        yield Finding("server", Level.WARNING, message, _grant(session))


def _replay(session: Session, name: str, *, receives: bool) -> Finding:
    moment = session.moment
    if moment.caught_up:
        return Finding("server", Level.OK, f"{name} that has replayed all it received")
    lag = None if moment.replayed_to is None else max(timedelta(0), moment.now - moment.replayed_to)
    behind = "that has replayed no transaction yet" if lag is None else f"{_words(lag)} behind"
    if receives and lag is not None and lag < _LONG:
        return Finding("server", Level.OK, f"{name}, {behind}")
    how = "" if receives else ", and connected to no primary"
    message = f"{name}, {behind}{how}: records come as late as they are replayed"
    return Finding("server", Level.WARNING, message, "see pg_stat_replication on the primary, and its log")


def connection(session: Session) -> Finding:
    """Whether others can listen on the way to the server, or answer in its place."""
    info = session.connection.info
    mode = info.get_parameters().get("sslmode", "prefer")
    is_here = _is_here(info.host)
    if not session.connection.pgconn.ssl_in_use:
        message = f"not encrypted, to {info.host or 'this machine'}"
        if is_here:
            return Finding("connection", Level.OK, message)
        return Finding("connection", Level.WARNING, message, "set source.tls.mode: verify-full")
    if mode == "verify-full":
        return Finding("connection", Level.OK, "encrypted, certificate and host name verified")
    if mode == "verify-ca":
        return Finding("connection", Level.OK, "encrypted, certificate verified, for whatever host")
    level, hint = (Level.OK, "") if is_here else (Level.WARNING, "set source.tls.mode: verify-full")
    return Finding("connection", level, "encrypted, but nobody verifies who answers", hint)


def _is_here(host: str) -> bool:
    """Whether what is sent does not leave this machine: a Unix socket, or loopback."""
    if not host or host.startswith(("/", "@")) or host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _grant(session: Session) -> str:
    (me,) = cast("tuple[str]", session.row(_ME))
    return _GRANT_STATS.format(role=me)


def _words(elapsed: timedelta) -> str:
    return str(timedelta(seconds=int(elapsed.total_seconds())))
