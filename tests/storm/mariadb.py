"""MariaDB: XA transactions, ids reserved in advance, and an exporter with and without PROCESS."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import unquote, urlsplit

import pymysql
from pymysql.constants import CR, ER
from pymysql.cursors import SSCursor

from tests.storm.naive import by_id, by_time
from tests.storm.records import COLUMNS
from tests.storm.sessions import DOCUMENTS, Database, Row, Session, Variant

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime
    from random import Random

    from tests.storm.sessions import Reader

NO_ID = 1467  # ER_AUTOINC_READ_FAILED: a deadlock while the statement waited for its ids
SHRUGS = frozenset({ER.LOCK_DEADLOCK, ER.LOCK_WAIT_TIMEOUT, ER.CHECKREAD, NO_ID})
GONE = frozenset({0, ER.SERVER_SHUTDOWN, CR.CR_CONN_HOST_ERROR, CR.CR_SERVER_GONE_ERROR, CR.CR_SERVER_LOST})
XA_UNKNOWN = 1397  # XAER_NOTA: not there, or its first connection has not quite gone yet

TABLES = (
    """CREATE TABLE audit_log (
    id bigint unsigned PRIMARY KEY AUTO_INCREMENT, created_at datetime(6), account_id varchar(100) NOT NULL,
    actor_email varchar(100), action varchar(40), target_id varchar(40), summary text, ip_address varchar(40),
    INDEX by_time (account_id, created_at, id), INDEX by_account (account_id, id))
    DEFAULT CHARSET utf8mb4""",
    """CREATE TABLE documents (
    id int PRIMARY KEY, created_at datetime(6), account_id varchar(100), actor_email varchar(100),
    action varchar(40), target_id varchar(40), summary text, ip_address varchar(40))
    DEFAULT CHARSET utf8mb4""",
    f"INSERT INTO documents (id) SELECT seq FROM seq_1_to_{DOCUMENTS}",
    f"""CREATE TRIGGER recorded AFTER UPDATE ON documents FOR EACH ROW
    INSERT INTO audit_log ({", ".join(COLUMNS)})
    VALUES ({", ".join(f"NEW.{column}" for column in COLUMNS)})""",
)


def _connect(url: str, **settings: Any) -> pymysql.Connection[Any]:  # noqa: ANN401 - the driver's own
    parts = urlsplit(url)
    connection: pymysql.Connection[Any] = pymysql.connect(
        host=parts.hostname,
        port=parts.port or 3306,
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        database=parts.path.lstrip("/"),
        charset="utf8mb4",
        autocommit=True,
        **settings,
    )
    return connection


class MariaDbSession(Session):
    """A connection through PyMySQL, in a session as lenient as old applications want it."""

    now = "utc_timestamp(6)"
    last_id = "LAST_INSERT_ID()"
    nap = "IF(SLEEP({}) = 0, %s, NULL)"
    broken = ("0000-00-00 00:00:00", "2026-11-00 00:00:00")
    prepares = True
    error = pymysql.err.MySQLError

    def __init__(self, url: str, random: Random) -> None:
        self._url = url
        super().__init__(random)

    def open(self) -> None:
        self._connection = _connect(
            self._url, sql_mode="", init_command="SET SESSION innodb_lock_wait_timeout = 3"
        )

    def close(self) -> None:
        if self._connection.open:
            self._connection.close()

    def execute(self, statement: str, values: Sequence[object] = ()) -> list[Row]:
        with self._connection.cursor() as cursor:
            cursor.execute(statement, values or None)
            return list(cursor.fetchall())

    def passes(self, error: Exception) -> bool:
        return error.args[0] in SHRUGS | GONE

    def value(self, moment: datetime) -> object:
        return moment.replace(tzinfo=None)

    def begin_to_prepare(self, name: str) -> None:
        self.execute(f"XA START '{name}'")

    def prepare(self, name: str) -> None:
        """Nobody else can finish it before this connection has ended."""
        self.execute(f"XA END '{name}'")
        self.execute(f"XA PREPARE '{name}'")
        self.reopen()

    def prepared(self) -> list[str]:
        """Of all databases: names tell them apart."""
        return [bytes(row[3]).decode() for row in self.ask("XA RECOVER")]

    def finish(self, name: str, *, commit: bool) -> None:
        try:
            self.execute(f"XA {'COMMIT' if commit else 'ROLLBACK'} '{name}'")
        except pymysql.err.OperationalError as error:
            if error.args[0] != XA_UNKNOWN:
                raise


@dataclass(frozen=True)
class MariaDb(Database):
    """A database of a server; the readers may select from it, and one of them sees other processes."""

    url: str
    readers: tuple[str, str]
    naive: ClassVar[Mapping[str, Reader]] = {"id": by_id, "created_at": by_time}
    must_lose: ClassVar[Sequence[str]] = ("id", "created_at")
    microseconds: ClassVar[str] = (
        "CASE WHEN DAYOFMONTH(created_at) > 0"
        " THEN TIMESTAMPDIFF(MICROSECOND, '1970-01-01 00:00:00', created_at) END"
    )

    def create(self) -> None:
        with closing(_connect(self.url)) as connection, connection.cursor() as cursor:
            for statement in TABLES:
                cursor.execute(statement)
            for url, grant in zip(self.readers, ("PROCESS", "USAGE"), strict=True):
                parts = urlsplit(url)
                cursor.execute(f"CREATE USER '{parts.username}'@'%' IDENTIFIED BY '{parts.password}'")
                cursor.execute(f"GRANT SELECT ON audit_log TO '{parts.username}'@'%'")
                cursor.execute(f"GRANT {grant} ON *.* TO '{parts.username}'@'%'")

    def session(self, random: Random) -> MariaDbSession:
        return MariaDbSession(self.url, random)

    def variants(self) -> Sequence[Variant]:
        ledger = {"url": "sqlite:///ledger.db"}
        preload = ("exporter.sources.mysql", "pymysql")
        with_process, without = self.readers
        return [
            Variant("process", {"url": with_process}, ledger, preload),
            Variant(
                "select", {"url": without, "seal_wait": "3s", "longest_statement": "20s"}, ledger, preload
            ),
        ]

    def rows(self, statement: str) -> Iterator[Row]:
        with closing(_connect(self.url, cursorclass=SSCursor)) as connection, connection.cursor() as cursor:
            cursor.execute(statement)
            yield from cursor
