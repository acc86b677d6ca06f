"""`source prepare`: the SQL that gives a MariaDB or MySQL table its indexes and a user to read it.

Only what is missing, for an administrator to read and to run; the user that reads is enough to look. The
application goes on writing meanwhile. It must not know passwords: a new user is locked until it gets one.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Final

from pymysql import err

from exporter.errors import ExporterError, SourceBusy, SourceError
from exporter.model import Statement
from exporter.sources.derived import require_derived
from exporter.sources.mysql.connection import Database, connected
from exporter.sources.mysql.errors import ACCESS_DENIED_FOR_THIS, LOCK_WAIT_TIMEOUT, number_of, translated
from exporter.sources.mysql.indexes import Catalogue, Wanted, wanted
from exporter.sources.mysql.options import Address, tls_of
from exporter.sources.mysql.privileges import rights
from exporter.sources.mysql.relation import inspect, literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from exporter.columns import Roles
    from exporter.sources.derived import FirstOf
    from exporter.sources.mysql.connection import Session
    from exporter.sources.mysql.options import MysqlOptions
    from exporter.sources.mysql.relation import Table

READER: Final = "'audit_exporter'@'%'"
_LOCK_WAIT_S: Final = 5
_NOT_ALLOWED: Final = frozenset({1044, 1045, 1142, ACCESS_DENIED_FOR_THIS, 1290, 1410})
# Whoever may not see the grants of others finds none, and runs again what changes nothing then.
_GRANTED: Final = """
    SELECT 'user' FROM information_schema.USER_PRIVILEGES WHERE GRANTEE = {user}
    UNION SELECT PRIVILEGE_TYPE FROM information_schema.USER_PRIVILEGES WHERE GRANTEE = {user}
    UNION SELECT PRIVILEGE_TYPE FROM information_schema.SCHEMA_PRIVILEGES
    WHERE GRANTEE = {user} AND TABLE_SCHEMA = {schema}
    UNION SELECT PRIVILEGE_TYPE FROM information_schema.TABLE_PRIVILEGES
    WHERE GRANTEE = {user} AND TABLE_SCHEMA = {schema} AND TABLE_NAME = {table}
"""


def statements(
    options: MysqlOptions,
    table: str | None,
    roles: Roles,
    commit: str | None = None,
    derived: Sequence[FirstOf] = (),
) -> Sequence[Statement]:
    """What is missing, in the order in which it has to be run. ``commit`` is the configured position.

    Raises SourceError for what is no table: it has to be done by hand, to the table behind.
    """
    if table is None:
        raise _by_hand("a query", roles)
    database = Database(options)
    with closing(database), database.statements() as session:
        relation = inspect(session, (table, None), database.address.database, roles, commit)
        if relation.home.is_view:
            raise _by_hand("a view", roles)
        require_derived(derived, relation.columns)
        indexes = wanted(relation, roles, derived)
        return [*_grants(session, relation.home), *_indexes(session, relation.home, indexes)]


def apply(options: MysqlOptions, statement: Statement) -> None:
    """Run one of the statements, as its administrator. Waits for an index as long as it takes to build."""
    address = Address.of(options.url)
    with translated(str(address)):
        connection = connected(address, options, tls_of(options))
        connection.be_patient(None)
        try:
            connection.answer(f"SET SESSION lock_wait_timeout = {_LOCK_WAIT_S}")
            connection.answer(statement.sql)
        except err.MySQLError as error:
            if refusal := _refusal(error):
                raise refusal from error
            raise
        finally:
            connection.abandon()


def _indexes(session: Session, table: Table, indexes: Sequence[Wanted]) -> Iterator[Statement]:
    catalogue = Catalogue(session, table)
    for one in indexes:
        if statement := catalogue.missing(one):
            yield statement


def _grants(session: Session, table: Table) -> Iterator[Statement]:
    """What a user needs to read: our own if it may do nothing else, else one that is made for it."""
    own = rights(session, table)
    user, grantee = (READER, READER) if own.too_much else (own.user, own.grantee)
    names = {"schema": literal(table.schema), "table": literal(table.name), "user": literal(grantee)}
    granted = {right for (right,) in session.texts(_GRANTED.format(**names))}
    if not granted:
        reason = (
            "a user that may read and no more; give it a password: "
            f"ALTER USER {user} IDENTIFIED BY '…' ACCOUNT UNLOCK"
        )
        yield Statement(reason, f"CREATE USER IF NOT EXISTS {user} ACCOUNT LOCK")
    if "SELECT" not in granted:
        yield Statement("it has to read the table", f"GRANT SELECT ON {table.sql} TO {user}")
    if "PROCESS" not in granted:
        reason = (
            "better: it sees that statements have ended (and what others run); without it, ids that were "
            "rolled back are waited for as long as source.longest_statement says"
        )
        yield Statement(reason, f"GRANT PROCESS ON *.* TO {user}")


def _by_hand(what: str, roles: Roles) -> SourceError:
    return SourceError(
        f"the records come from {what}, which cannot be prepared",
        hint=(
            f"do it to the table behind: indexes on ({roles.account}, {roles.time}, {roles.id}) and on "
            f"({roles.account}, its AUTO_INCREMENT column), and a user that may select and no more"
        ),
    )


def _refusal(error: err.MySQLError) -> ExporterError | None:
    """The server's own words: they name tables and users, no record. None for a lost connection."""
    number, said = number_of(error), str(error.args[-1])
    if number in _NOT_ALLOWED:
        hint = "name a user that may change the table in source.admin_url"
        return SourceError(f"the user may not do this: {said}", hint=hint)
    if number == LOCK_WAIT_TIMEOUT:
        hint = "transactions that use the table hold it up; wait for a quiet moment"
        return SourceBusy(f"the table is in use: {said}", hint=hint)
    if isinstance(error, err.InterfaceError) or number in (2003, 2006, 2013):
        return None
    return SourceError(
        f"the server refuses it: {said}", hint="run it in the mariadb shell, where it says more"
    )
