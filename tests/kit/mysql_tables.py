"""Tables on the shared MariaDB server, the connections of an application, and those who may read."""

from __future__ import annotations

import itertools
import threading
import time
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import pymysql

from exporter.columns import Roles
from exporter.model import Branch, Range, Seal, Window
from exporter.sources.mysql import MysqlOptions, MysqlSource
from tests.kit.mariadb import shared_mariadb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pymysql.connections import Connection

ROLES: Final = Roles(id="id", time="time", account="account")
COLUMNS: Final = (
    "id bigint unsigned AUTO_INCREMENT PRIMARY KEY, time datetime(6), account varchar(50), note text"
)
INDEXES: Final = "INDEX by_time (account, time, id), INDEX by_position (account, id)"
NOON: Final = datetime(2026, 11, 19, 12, tzinfo=UTC)
NUMBERS: Final = itertools.count(1)
DEADLINE_S: Final = 20.0


@cache
def database() -> str:
    """A database, with a user who may select (`reader`) and one who sees processes besides (`watcher`)."""
    server = shared_mariadb()
    name = server.new_database()
    with closing(server.connect()) as connection, connection.cursor() as cursor:
        for user, grant in (("reader", "USAGE"), ("watcher", "PROCESS")):
            cursor.execute(f"CREATE OR REPLACE USER {user}@'%' IDENTIFIED BY 'secret'")
            cursor.execute(f"GRANT SELECT ON {name}.* TO {user}@'%'")
            cursor.execute(f"GRANT {grant} ON *.* TO {user}@'%'")
    return name


def options(user: str = "watcher", **more: Any) -> MysqlOptions:  # noqa: ANN401 - the options' own types
    """How a user of the shared server reads."""
    return MysqlOptions(shared_mariadb().url(database(), user, "secret"), **{"seal_wait_s": 0.3, **more})


class Application:
    """A connection of the vendor's application, with all rights."""

    def __init__(self) -> None:
        self.connection: Connection[Any] = shared_mariadb().connect(database())

    def execute(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        with self.connection.cursor() as cursor:
            cursor.execute(statement, values or None)
            return list(cursor.fetchall())

    def one(self, statement: str, *values: object) -> Any:  # noqa: ANN401 - whatever the column holds
        return self.execute(statement, *values)[0][0]

    def close(self) -> None:
        with suppress(pymysql.err.Error):  # a test may have killed it
            self.connection.close()


class Table:
    """A table of its own, with sources that read it and applications that write it."""

    def __init__(self, columns: str = COLUMNS, more: str = INDEXES) -> None:
        self.name = f"audit_{next(NUMBERS)}"
        self._open: list[Application | MysqlSource] = []
        self.application = self.connect()
        self.application.execute(f"CREATE TABLE {self.name} ({columns}{', ' if more else ''}{more})")

    def connect(self) -> Application:
        """One more connection of the application."""
        self._open.append(Application())
        return self._open[-1]  # type: ignore[return-value]

    def source(self, user: str = "watcher", **more: Any) -> MysqlSource:  # noqa: ANN401 - settings of both kinds
        """A source of the table, or of what ``more`` names."""
        own = {"roles": ROLES, "table": self.name}
        given = {key: more.pop(key) for key in list(more) if key in SETTINGS}
        if "query" in given:
            del own["table"]
        source = MysqlSource(options(user, **more), **{**own, **given})
        self._open.append(source)
        return source

    def insert(
        self,
        *accounts: str,
        by: Application | None = None,
        time: datetime | str | None = NOON,
        note: str = "",
    ) -> list[int]:
        """A record for each account, in a statement of its own; without ``by`` committed at once."""
        when = time.replace(tzinfo=None) if isinstance(time, datetime) else time
        statement = f"INSERT INTO {self.name} (time, account, note) VALUES (%s, %s, %s)"
        found = []
        for account in accounts or ("acme",):
            (by or self.application).execute(statement, when, account, note)
            found.append((by or self.application).one("SELECT LAST_INSERT_ID()"))
        return found

    def ids(self) -> list[int]:
        """What is committed."""
        return [row[0] for row in self.application.execute(f"SELECT id FROM {self.name} ORDER BY id")]

    def close(self) -> None:
        for one in self._open:
            one.close()


SETTINGS: Final = frozenset({"roles", "commit", "table", "query", "time_unit", "block_rows", "derived"})


@contextmanager
def table(columns: str = COLUMNS, more: str = INDEXES) -> Iterator[Table]:
    """A table, whose connections end with the test."""
    made = Table(columns, more)
    try:
        yield made
    finally:
        made.close()


class Windows:
    """An export's windows, one day after the other, over all that a source delivers."""

    def __init__(self, source: MysqlSource, account: str = "acme") -> None:
        self.source = source
        self.account = account
        self.seal: Seal = source.seal()
        self.window = Window(NOON - timedelta(hours=12), NOON + timedelta(hours=12))
        self.ranges: list[Range] = []

    def next(self) -> list[tuple[Branch, str]]:
        """What the next window delivers."""
        seal = self.source.seal(self.seal)
        self.ranges.append(Range(self.account, self.window, seal, self.seal))
        self.seal = seal
        self.window = Window(self.window.end, self.window.end + timedelta(days=1))
        return self.again(len(self.ranges) - 1)

    def again(self, index: int) -> list[tuple[Branch, str]]:
        """What an earlier window delivers when it is read again."""
        return read(self.source, self.ranges[index])


def read(source: MysqlSource, one: Range) -> list[tuple[Branch, str]]:
    """The records of a range."""
    return [
        (block.branch, block.id(row)) for _, block in source.read([one], None) for row in range(len(block))
    ]


def ids(records: Sequence[tuple[Branch, str]]) -> list[int]:
    return [int(identifier) for _, identifier in records]


class Background:
    """Something that takes a while, in a thread of its own; its error is raised where it is joined."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self._work = work
        self.result: Any = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.result = self._work()
        except BaseException as error:  # noqa: BLE001 - raised in `join`
            self._error = error

    @property
    def is_running(self) -> bool:
        return self._thread.is_alive()

    def join(self) -> Any:  # noqa: ANN401 - what the work gave back
        self._thread.join(DEADLINE_S)
        assert not self._thread.is_alive(), "it did not end in time"
        if self._error is not None:
            raise self._error
        return self.result


def until(condition: Callable[[], object]) -> None:
    """Wait for something that is about to happen."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)
