"""What PostgreSQL's errors mean for a ledger, and what a person does about each: one table.

Nothing of DETAIL, statements or parameters is quoted: they hold a customer's data.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import psycopg

from exporter.errors import LedgerError, LedgerMissing
from exporter.ledger.sql import MISSING_HINT

if TYPE_CHECKING:
    from collections.abc import Mapping

SCHEMA: Final = "audit_exporter"
"""The tables have a schema of their own, so that a ledger can share a database with others."""

_GOES_ON: Final = "nothing was lost, the next run goes on from here"
RIGHTS: Final = (
    f"a run needs: GRANT USAGE ON SCHEMA {SCHEMA} TO role; "
    f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {SCHEMA} TO role. "
    "`ledger create` and `ledger migrate` need the role that owns the schema, or that may make one: "
    "GRANT CREATE ON DATABASE … TO role"
)
_BY_STATE: Final[Mapping[str, str]] = {
    "08": f"the connection was lost; {_GOES_ON}",
    "23": "please report this: two processes came past the rules that keep them apart; nothing was lost",
    "25006": "name the primary in ledger.url, not a standby; "
    "several hosts with target_session_attrs=read-write find it after a failover",
    "25P03": f"this process stood still in the middle of a transaction, and others had to go on; {_GOES_ON}",
    "28": "correct the role or password, or ledger.password",
    "3D000": "create the database first, or correct its name in ledger.url",
    "40": f"another process was in the way; {_GOES_ON}",
    "42501": RIGHTS,
    "53100": f"make room on the database server's disk; {_GOES_ON}",
    "53300": "raise max_connections, or run fewer processes at once: each takes at most 4 connections",
    "55P03": "another process holds the ledger: look for it in pg_stat_activity, application audit-exporter",
    "57014": f"the database server is too slow, or somebody cancelled it: look at its load; {_GOES_ON}",
    "57P": f"the database server is going down or coming up; {_GOES_ON}",
    "58": "look at the database server's disk and log",
    "XX": "look at the database server's log; if it is damaged, restore a backup, then run: "
    "audit-exporter ledger restored",
}
"""By SQLSTATE or by how it begins: the longest that fits counts."""

_BY_TEXT: Final[Mapping[str, str]] = {
    r"too many (clients|connections)|connection slots|no more connections": _BY_STATE["53300"],
    r"starting up|shutting down|not yet accepting|recovery mode": _BY_STATE["57P"],
    r"pg_hba\.conf": "let this machine in, in the server's pg_hba.conf; with ledger.tls if it asks for TLS",
    r'password|authentication failed|role "[^"]*" does not exist|not permitted to log in': _BY_STATE["28"],
    r'database "[^"]*" does not exist': _BY_STATE["3D000"],
    r"permission denied for database": "let this role in: GRANT CONNECT ON DATABASE … TO role",
    r"certificate|SSL": "check ledger.tls: its ca_file has to be the authority that signed the server's "
    "certificate, and the host in ledger.url a name that is in it",
    r"closed|lost|terminated|could not receive|reset by peer": _BY_STATE["08"],
    "": "check the host and port in ledger.url, and that the server is up and lets this machine in",
}
"""Where libpq has a text and no SQLSTATE, as when there is no connection; the first that fits counts."""

_PASSING: Final = re.compile("|".join(list(_BY_TEXT)[:2]))


def may_pass(error: BaseException) -> bool:
    """Whether a connection could not be made because the server had no room for it, or was starting."""
    return isinstance(error, psycopg.Error) and _PASSING.search(str(error)) is not None


def crowded(place: str, connections: int) -> LedgerError:
    """No connection of this process became free in time."""
    return LedgerError(
        f"the ledger {place} cannot be used: all {connections} connections of this process are busy",
        hint=f"the database server is too slow: look at its load; {_GOES_ON}",
    )


def failed_silently(place: str) -> LedgerError:
    """A statement failed, and whoever gave it went on."""
    return LedgerError(
        f"a transaction on the ledger {place} failed without a word", hint="please report this"
    )


def unsure(place: str, warning: str) -> LedgerError:
    """The server committed with a warning: that somebody cancelled its waiting for a synchronous standby."""
    return LedgerError(
        f"the ledger {place} is not sure that a commit will last: {warning}",
        hint=f"look at the server's standby (synchronous_standby_names); {_GOES_ON}",
    )


def translated(error: psycopg.Error, place: str) -> LedgerError:
    """The error as ours."""
    state = error.sqlstate
    if state in {"3F000", "42P01"}:
        return LedgerMissing(f"there is no ledger at {place}", hint=MISSING_HINT)
    text = error.diag.message_primary or str(error).partition("\n")[0]
    hint = _hint_for_state(state) if state else _hint_for_text(str(error))
    return LedgerError(f"the ledger {place} cannot be used: {text}", hint=hint)


def _hint_for_state(state: str) -> str:
    return next((_BY_STATE[state[:length]] for length in (5, 3, 2) if state[:length] in _BY_STATE), "")


def _hint_for_text(text: str) -> str:
    return next(hint for pattern, hint in _BY_TEXT.items() if re.search(pattern, text))
