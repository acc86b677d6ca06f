"""Connections to a MariaDB or MySQL database: read-only transactions, and rows as they arrive.

Every session is read-only, in UTC and in UTF-8, and has no limit of rows that somebody set for everybody.
It must not know what records mean. MySQL goes by the same driver and is not tested.
"""

from __future__ import annotations

import re
import ssl
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import pymysql
from pymysql import converters, err
from pymysql.constants import CR

from exporter.errors import SourceError
from exporter.sources.mysql.errors import is_lost, translated
from exporter.sources.mysql.options import Address, tls_of

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator, Sequence

    from exporter.sources.mysql.options import MysqlOptions

Value = bytes | None
Row = tuple[Value, ...]

TAG: Final = "/*audit-exporter*/"
"""Stands in every statement that may run long: another exporter need not wait for it."""

_MARIADB = re.compile(r"(\d+)\.(\d+)\.\d+-MariaDB", re.IGNORECASE)
_OLDEST_MARIADB, _OLDEST_MYSQL = (10, 6), (8, 0)
_MOST_IDLE = 16
_PATIENCE_S = 30  # how much longer than the statement may take, before the network counts as gone
_NO_DECODERS: Final[dict[Any, Any]] = {
    key: value for key, value in converters.conversions.items() if not isinstance(key, int)
}
# A time zone or SQL mode of the server's would change what a range holds, a limit would cut it off.
# (In SQL mode '' double quotes are strings: a query names what needs quotes in backticks.)
_SESSION: Final = (
    "SET SESSION sql_mode = '', time_zone = '+00:00', sql_select_limit = 18446744073709551615,"
    " lock_wait_timeout = {lock}, innodb_lock_wait_timeout = {lock}, net_write_timeout = {idle}, {timeout}"
)
_NULL, _TWO_BYTES, _THREE_BYTES, _EOF, _ERROR = 0xFB, 0xFC, 0xFD, 0xFE, 0xFF
_LARGEST_EOF, _LARGEST_PACKET = 9, 0xFFFFFF


class Connection(pymysql.Connection):
    """PyMySQL's connection, with rows of bytes that arrive one by one, and an end that is quick."""

    _rfile: BinaryIO
    _result: Any
    _sock: socket.socket
    _read_timeout: float | None
    _next_seq_id: int

    def _create_ssl_ctx(self, given: ssl.SSLContext | dict[str, Any]) -> ssl.SSLContext:
        """Where nobody is verified, no authorities: to load them takes longer than to connect."""
        if isinstance(given, ssl.SSLContext):
            return given
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context

    def be_patient(self, read_timeout_s: float | None) -> None:
        """A server that does not answer a greeting is gone; one that works on a statement is not."""
        self._read_timeout = read_timeout_s

    def answer(self, statement: str) -> tuple[Sequence[Any], list[Row]]:
        """What a statement's columns are, as the driver's field packets, and all its rows: it has few."""
        self.query(statement)
        return getattr(self._result, "fields", ()), list(self._result.rows or ())

    def is_encrypted(self) -> bool:
        """Whether this connection goes by TLS."""
        return isinstance(self._sock, ssl.SSLSocket)

    def begin_rows(self, statement: str) -> int:
        """Start a statement whose rows `next_row` reads; how many columns they have."""
        self.query(statement, unbuffered=True)
        columns: int = self._result.field_count
        return columns

    def next_row(self, columns: range) -> Row | None:
        """The next row, None at the end. What PyMySQL does for itself, at a third of its price."""
        packet = self._packet()
        if packet[0] == _EOF and len(packet) < _LARGEST_EOF:
            self._result.unbuffered_active = False
            return None
        if packet[0] == _ERROR:
            self._result.unbuffered_active = False
            err.raise_mysql_exception(packet)
        return _row(packet, columns)

    def abandon(self) -> None:
        """Close at once, whatever has not been read: the server notices when it next sends something."""
        if self._result is not None:
            self._result.unbuffered_active = False  # or its end would wait for the rows that remain
        if self.open:
            self.close()

    def _packet(self) -> bytes:
        read, packet = self._rfile.read, b""
        while True:
            header = read(4)
            size = header[0] | header[1] << 8 | header[2] << 16 if header else 0
            part = read(size)
            if not header or len(part) < size:
                raise err.OperationalError(CR.CR_SERVER_LOST, "the connection ended in mid-read")
            self._next_seq_id = (header[3] + 1) % 256
            packet = packet + part if packet else part
            if size < _LARGEST_PACKET:
                return packet


def _row(packet: bytes, columns: range) -> Row:
    """A row of the text protocol: each value with its length before it."""
    position = 0
    row: list[Value] = []
    for _ in columns:
        size = packet[position]
        position += 1
        if size == _NULL:
            row.append(None)
            continue
        if size > _NULL:
            width = 2 if size == _TWO_BYTES else 3 if size == _THREE_BYTES else 8
            size = int.from_bytes(packet[position : position + width], "little")
            position += width
        row.append(packet[position : position + size])
        position += size
    return tuple(row)


class Stream:
    """Rows of one statement as they arrive. To be closed: what is left unread costs the connection."""

    def __init__(self, connection: Connection, place: str, statement: str) -> None:
        self._connection = connection
        self._place = place
        self._has_ended = False
        with translated(place, records=True):
            self._columns = range(connection.begin_rows(statement))

    def fetchmany(self, size: int, /) -> list[Row]:
        """The next rows, none at the end."""
        rows: list[Row] = []
        with translated(self._place, records=True):
            while not self._has_ended and len(rows) < size:
                row = self._connection.next_row(self._columns)
                if row is None:
                    self._has_ended = True
                else:
                    rows.append(row)
        return rows

    def close(self) -> None:
        """End the statement."""
        if not self._has_ended:
            self._connection.abandon()


@dataclass(frozen=True, slots=True)
class Server:
    """Which product answers, and what it calls things."""

    version: str
    is_mariadb: bool

    @classmethod
    def of(cls, version: str) -> Server:
        """From what `SELECT VERSION()` says; SourceError if it is too old."""
        mariadb = _MARIADB.search(version)
        numbers = mariadb or re.match(r"(\d+)\.(\d+)", version)
        found = (int(numbers[1]), int(numbers[2])) if numbers else (0, 0)
        if found < (_OLDEST_MARIADB if mariadb else _OLDEST_MYSQL):
            raise SourceError(
                f"the server is {version}", hint="MariaDB 10.6 or MySQL 8.0 is needed, or newer"
            )
        return cls(version, is_mariadb=mariadb is not None)

    def timeout(self, seconds: float) -> str:
        """The setting that bounds a statement."""
        if self.is_mariadb:
            return f"max_statement_time = {seconds:.3f}, query_cache_type = OFF"
        return f"max_execution_time = {int(seconds * 1000)}"


class Session:
    """One connection in use."""

    def __init__(self, connection: Connection, server: Server, place: str) -> None:
        self.connection = connection
        self.server = server
        self.place = place

    def rows(self, statement: str) -> list[Row]:
        """All rows of a statement that has few."""
        return self.connection.answer(statement)[1]

    def fields(self, statement: str) -> Sequence[Any]:
        """What a statement's columns are."""
        return self.connection.answer(statement)[0]

    def row(self, statement: str) -> Row | None:
        """The first row of a statement that has few."""
        rows = self.rows(statement)
        return rows[0] if rows else None

    def texts(self, statement: str) -> list[tuple[str, ...]]:
        """All rows of a statement as text, what is NULL being empty."""
        return [tuple((value or b"").decode() for value in row) for row in self.rows(statement)]

    def stream(self, statement: str) -> Stream:
        """The rows of a statement over records."""
        return Stream(self.connection, self.place, statement)


class Database:
    """Opens sessions; keeps a few connections for the next ones. Safe to use from several threads."""

    def __init__(self, options: MysqlOptions) -> None:
        self.address = Address.of(options.url)
        self.place = str(self.address)
        self._options = options
        self._tls = tls_of(options)
        self._lock = threading.Lock()
        self._idle: list[tuple[Connection, Server]] = []

    @contextmanager
    def snapshot(self) -> Iterator[Session]:
        """A read-only transaction: everything in it sees the same moment."""
        with self._session("REPEATABLE READ") as session:
            session.rows("START TRANSACTION WITH CONSISTENT SNAPSHOT")
            yield session
            if session.connection.open:  # else a stream was left before its end
                session.rows("ROLLBACK")

    @contextmanager
    def statements(self) -> Iterator[Session]:
        """Statements that each see what is committed when they begin, and end their locks with themselves."""
        with self._session("READ COMMITTED") as session:
            yield session

    def close(self) -> None:
        """Let go of the connections that nobody uses."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection, _ in idle:
            connection.abandon()

    @contextmanager
    def _session(self, isolation: str) -> Iterator[Session]:
        with translated(self.place):
            connection, server = self._begun(isolation)
            try:
                yield Session(connection, server, self.place)
            except BaseException:
                connection.abandon()
                raise
            self._give_back(connection, server)

    def _begun(self, isolation: str) -> tuple[Connection, Server]:
        """A connection that was dropped while nobody used it is no trouble: there are others."""
        statement = f"SET SESSION TRANSACTION ISOLATION LEVEL {isolation}, READ ONLY"
        while True:
            idle = self._take()
            connection, server = idle or self._connect()
            try:
                connection.answer(statement)
            except BaseException as error:
                connection.abandon()
                if idle is None or not isinstance(error, Exception) or not is_lost(error):
                    raise
            else:
                return connection, server

    def _connect(self) -> tuple[Connection, Server]:
        options = self._options
        connection = connected(self.address, options, self._tls)
        try:
            server = Server.of((connection.answer("SELECT VERSION()")[1][0][0] or b"").decode())
            connection.answer(
                _SESSION.format(
                    lock=max(1, round(options.lock_timeout_s)),
                    idle=max(60, round(options.statement_timeout_s)),
                    timeout=server.timeout(options.statement_timeout_s),
                )
            )
        except BaseException:
            connection.abandon()
            raise
        connection.be_patient(options.statement_timeout_s + _PATIENCE_S)
        return connection, server

    def _take(self) -> tuple[Connection, Server] | None:
        with self._lock:
            return self._idle.pop() if self._idle else None

    def _give_back(self, connection: Connection, server: Server) -> None:
        with self._lock:
            if connection.open and len(self._idle) < _MOST_IDLE:
                self._idle.append((connection, server))
                return
        connection.abandon()


def connected(address: Address, options: MysqlOptions, tls: dict[str, Any]) -> Connection:
    """A connection, as the server hands it out."""
    password = address.password if options.password is None else options.password
    try:
        return Connection(
            host=address.host,
            port=address.port,
            unix_socket=address.unix_socket,
            user=address.user,
            password=(password or "").encode(),  # as text it would have to be Latin-1
            database=address.database,
            charset="utf8mb4",
            use_unicode=False,
            conv=_NO_DECODERS,
            autocommit=True,
            connect_timeout=options.connect_timeout_s,
            read_timeout=options.connect_timeout_s,
            program_name="audit-exporter",
            **tls,
        )
    except RuntimeError as error:  # MySQL's newer passwords go by TLS, or by a package that is not here
        message = f"{address} wants the password in a way that needs TLS"
        raise SourceError(message, hint="set source.tls, or connect through a socket") from error
