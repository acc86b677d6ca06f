"""What MariaDB and MySQL answer when something is wrong, as errors of ours with a hint: one table.

It must not show data or secrets: where the server's own words may hold a record's values, they are left out.
"""

from __future__ import annotations

import ssl
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from pymysql import err

from exporter.errors import SourceBusy, SourceError, Unreadable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

LOCK_WAIT_TIMEOUT, DEADLOCK, ACCESS_DENIED_FOR_THIS = 1205, 1213, 1227
STATEMENT_TIMEOUTS: Final = frozenset({1969, 3024})  # MariaDB, MySQL

_LOST = "the next run tries again; is the server running, and reachable from here?"
_LATER = "the next run tries again"
_GRANT = "GRANT SELECT ON database.table TO this user; see `audit-exporter source prepare`"
_USER = "check the user and the password of source.url, and from which hosts the user may come"
_NAMES = "check source.table, source.query and source.columns"
_SLOW = "is there an index? see `audit-exporter check`; or raise source.statement_timeout"
_ROOM = "free space where the server sorts (tmpdir)"
_TLS = "check source.tls: the mode, the authority (ca_file) and the host's name"
_REPAIR = "look at the server's error log; restore the table from a backup"

Translation = tuple[type[SourceError], str, str]

_TRANSLATION: Final[Mapping[int, Translation]] = {
    **dict.fromkeys((2002, 2003, 2005), (SourceBusy, "cannot be reached", _LOST)),
    **dict.fromkeys((2006, 2013, 2055, 1927), (SourceBusy, "closed the connection", _LOST)),
    **dict.fromkeys((1040, 1203, 1226), (SourceBusy, "has too many connections", _LATER)),
    **dict.fromkeys((1053, 1077, 1079), (SourceBusy, "is shutting down", _LATER)),
    **dict.fromkeys((1158, 1159, 1160, 1161), (SourceBusy, "lost the connection", _LOST)),
    1317: (SourceBusy, "had the statement ended by somebody", _LATER),
    LOCK_WAIT_TIMEOUT: (SourceBusy, "has the table locked by somebody else", _LATER),
    DEADLOCK: (SourceBusy, "ended the statement because of a deadlock", _LATER),
    **dict.fromkeys((1020, 1412), (SourceBusy, "has a table that was changed meanwhile", _LATER)),
    **dict.fromkeys(STATEMENT_TIMEOUTS, (SourceError, "took longer than source.statement_timeout", _SLOW)),
    **dict.fromkeys((1045, 1698, 1251, 2059, 2061), (SourceError, "refuses the user or the password", _USER)),
    **dict.fromkeys((1820, 1862, 3118, 4151), (SourceError, "refuses the user: locked or expired", _USER)),
    **dict.fromkeys((1129, 1130), (SourceError, "refuses connections from this host", _USER)),
    **dict.fromkeys(
        (1044, 1142, 1143, 1345, 1370), (SourceError, "does not permit this user to read", _GRANT)
    ),
    ACCESS_DENIED_FOR_THIS: (SourceError, "does not permit this to the user", _GRANT),
    1049: (SourceError, "has no such database", "check the database's name in source.url"),
    2026: (SourceError, "cannot be reached by TLS", _TLS),
    3159: (SourceError, "insists on TLS", "remove `mode: disable` from source.tls"),
    **dict.fromkeys((1021, 1114, 1030, 3), (SourceError, "has no room to sort", _ROOM)),
    **dict.fromkeys((1034, 1035, 1194, 1195, 1712), (SourceError, "has a damaged table", _REPAIR)),
    1267: (
        SourceError,
        "cannot compare texts of different collations",
        "CAST or CONVERT them in source.query",
    ),
    1356: (SourceError, "has a view that is no longer valid", _NAMES),
}
# The server's own words help with these, and hold names but no values.
_QUOTED: Final = frozenset({1054, 1060, 1064, 1103, 1146, 1305, 1327, 1347, 1630})
_CONNECTION_LOST: Final = frozenset({0, 1927, 2006, 2013, 2055})


def number_of(error: err.MySQLError) -> int:
    """The server's or the driver's number of an error; 0 without one."""
    return error.args[0] if error.args and isinstance(error.args[0], int) else 0


def is_lost(error: Exception) -> bool:
    """Whether the connection is gone, for whatever reason."""
    return isinstance(error, OSError) or (
        isinstance(error, err.MySQLError) and number_of(error) in _CONNECTION_LOST
    )


@contextmanager
def translated(place: str, *, records: bool = False) -> Iterator[None]:
    """The driver's errors as ours. ``records``: what the table does not know is the fault of the records."""
    try:
        yield
    except err.MySQLError as error:
        raise _translation(error, place, records=records) from error
    except OSError as error:
        raise SourceBusy(f"{place} cannot be reached: {error.strerror or error}", hint=_LOST) from error


def _translation(error: err.MySQLError, place: str, *, records: bool) -> SourceError | Unreadable:
    number = number_of(error)
    if isinstance(getattr(error, "original_exception", None), ssl.SSLError):
        number = 2026
    if number in _TRANSLATION:
        kind, message, hint = _TRANSLATION[number]
        return kind(f"{place} {message} (error {number})", hint=hint)
    if isinstance(error, err.InterfaceError):  # the driver's own, for a connection that is closed already
        return SourceBusy(f"{place} closed the connection", hint=_LOST)
    if number in _QUOTED:
        return SourceError(f"{place} cannot be read: {error.args[1]}", hint=_NAMES)
    if records:
        return Unreadable(
            f"{place} fails at these records with error {number}",
            hint="look for a value that source.query or a generated column cannot convert",
        )
    return SourceError(f"{place} cannot be read: error {number}", hint=f"{_NAMES}; look up the number")
