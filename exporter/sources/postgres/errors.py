"""What PostgreSQL and libpq say, as our errors: one table by SQLSTATE, one by words for want of a code.

A server's text is quoted where it speaks of names, settings and hosts. It is not where it may hold what a
record says (a failed cast quotes the value), and its DETAIL never is. It must not connect to anything.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NamedTuple

import psycopg

from exporter.errors import ExporterError, SourceBusy, SourceError, Unreadable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_AGAIN = "the next run tries again"
_REACH = f"{_AGAIN}; if this lasts: is the server up, and do source.url and the firewall lead to it?"
_ROOM = f"{_AGAIN}; raise max_connections, connect through PgBouncer, or run with fewer --workers"
_LOGIN = "check the user and the password in source.url or source.password, and pg_hba.conf on the server"
_NAMES = "check source.table, source.query and source.columns; try the statement in psql"
_GRANT = (
    "GRANT USAGE ON SCHEMA …, GRANT SELECT ON … (EXECUTE for a function) TO the role; "
    "with row-level security, BYPASSRLS as well"
)
_TOO_LONG = (
    "`audit-exporter check` says whether an index is missing; otherwise raise source.statement_timeout"
)
_CONFLICT = (
    f"{_AGAIN}; set hot_standby_feedback = on, or raise max_standby_streaming_delay, on the hot standby"
)
_CA = "name the certificate authority in source.tls.ca_file, or choose another source.tls.mode"


class _Meaning(NamedTuple):
    """``message`` follows the name of the database; ``{said}`` is what the server said."""

    kind: type[SourceError]
    message: str
    hint: str


_UNREACHABLE = _Meaning(SourceBusy, "cannot be reached: {said}", _REACH)
_OTHER = _Meaning(SourceError, "cannot be read: {said}", _NAMES)

_BY_STATE: Final[Mapping[str, _Meaning]] = {
    # The whole code first, then its class.
    "25P03": _Meaning(SourceBusy, "ended a transaction that stood still: {said}", _AGAIN),
    "28000": _Meaning(SourceError, "does not let us in: {said}", _LOGIN),
    "28P01": _Meaning(SourceError, "refuses the password: {said}", _LOGIN),
    "3D000": _Meaning(SourceError, "does not exist: {said}", "correct the database's name in source.url"),
    "3F000": _Meaning(SourceError, "has no such schema: {said}", _NAMES),
    "40001": _Meaning(SourceBusy, "is a hot standby that had to replay: {said}", _CONFLICT),
    "40P01": _Meaning(SourceBusy, "resolved a deadlock: {said}", _CONFLICT),
    "42501": _Meaning(SourceError, "denies a right: {said}", _GRANT),
    "53100": _Meaning(
        SourceError,
        "has no room left to sort: {said}",
        "free disk space, or add the index that `check` names",
    ),
    "53300": _Meaning(SourceBusy, "has no free connection: {said}", _ROOM),
    "55P03": _Meaning(
        SourceBusy, "is locked: {said}", f"{_AGAIN}; who holds the lock is in pg_locks; source.lock_timeout"
    ),
    "57014": _Meaning(SourceError, "stopped a statement: {said}", _TOO_LONG),
    "57P04": _Meaning(SourceError, "was dropped: {said}", "correct the database's name in source.url"),
    "08": _UNREACHABLE,
    "40": _Meaning(SourceBusy, "could not go on: {said}", _AGAIN),
    "53": _Meaning(SourceBusy, "is short of something: {said}", _AGAIN),
    "57": _UNREACHABLE,
    "58": _Meaning(SourceError, "has trouble with its disk: {said}", "look into the server's log"),
}
_BY_WORDS: Final[tuple[tuple[str, _Meaning], ...]] = (
    # A refused connection has no SQLSTATE. In another language of the server these end in _UNREACHABLE.
    ("too many", _BY_STATE["53300"]),
    ("remaining connection slots", _BY_STATE["53300"]),
    ("password authentication failed", _BY_STATE["28P01"]),
    ("no password supplied", _BY_STATE["28P01"]),
    ("authentication failed", _BY_STATE["28000"]),
    ("pg_hba.conf", _BY_STATE["28000"]),
    ("not permitted to log in", _BY_STATE["28000"]),
    (
        "server does not support SSL",
        _Meaning(SourceError, "offers no TLS: {said}", "turn ssl on there, or set source.tls.mode: disable"),
    ),
    (
        "does not match host name",
        _Meaning(
            SourceError, "has another host's certificate: {said}", f"use its name in source.url; or {_CA}"
        ),
    ),
    ("certificate verify failed", _Meaning(SourceError, "has a certificate nobody vouches for: {said}", _CA)),
    ("root certificate", _Meaning(SourceError, "cannot be checked: {said}", _CA)),
    ("sslrootcert", _Meaning(SourceError, "cannot be checked: {said}", _CA)),
    (
        "certificate",
        _Meaning(SourceError, "was not shown a certificate it takes: {said}", "check source.tls.cert_file"),
    ),
    (
        "private key",
        _Meaning(SourceError, "cannot be reached: {said}", "source.tls.key_file: only its owner may read it"),
    ),
    ('role "', _BY_STATE["28000"]),
    ('database "', _BY_STATE["3D000"]),
)
_BY_USER = "user request"
_RECORDS_TO_BLAME: Final = ("22", "21", "P0001", "54000", "XX001", "XX002")
"""Errors that a record causes: a value that cannot be converted, a damaged page, a row too long."""


@contextmanager
def translated(place: str, *, records: bool = False) -> Iterator[None]:
    """Psycopg's errors as ours. ``records``: the statement reads an export's records, and nothing else."""
    try:
        yield
    except psycopg.Error as error:
        raise _translation(error, place, records=records) from error


def _translation(error: psycopg.Error, place: str, *, records: bool) -> ExporterError:
    state = error.sqlstate or ""
    if state.startswith(_RECORDS_TO_BLAME):
        # Its name only: the text may quote what a record says.
        named = f"{place} cannot give out a record: {type(error).__name__} (SQLSTATE {state})"
        hint = (
            "its log names the statement; read it in psql, record by record; is there a cast in source.query?"
        )
        return Unreadable(named, hint=hint) if records else SourceError(named, hint=hint)
    said = _said(error)
    meaning = _meaning(error, state, said)
    return meaning.kind(f"{place} {meaning.message.format(said=said)}", hint=meaning.hint)


def _meaning(error: psycopg.Error, state: str, said: str) -> _Meaning:
    if state == "57014" and _BY_USER in said:
        return _Meaning(SourceBusy, "stopped a statement: {said}", _AGAIN)
    if state:
        return _BY_STATE.get(state) or _BY_STATE.get(state[:2]) or _OTHER
    if not isinstance(error, psycopg.OperationalError):
        return _OTHER
    return next((meaning for words, meaning in _BY_WORDS if words in said), _UNREACHABLE)


def _said(error: psycopg.Error) -> str:
    """The first line of what was said, in the server's language."""
    text = error.diag.message_primary or str(error)
    return text.partition("\n")[0].removeprefix("connection failed: ").strip()
