"""What is MariaDB's own: addresses and TLS, types, texts, time-outs, lost connections, memory, indexes."""

from __future__ import annotations

import json
import time
import tracemalloc
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, cast

import pymysql
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.columns import Layout, Roles, RowBlock, TextTimes
from exporter.errors import ConfigError, MissingColumn, SourceBusy, SourceChanged, SourceError, Unreadable
from exporter.model import Branch, Range, Window
from exporter.sources.mysql import MysqlOptions, MysqlSource
from exporter.sources.mysql import connection as mysql_connection
from exporter.sources.mysql.connection import Server, Session
from exporter.sources.mysql.errors import translated
from exporter.sources.mysql.options import Address
from exporter.sources.mysql.positions import require_primary
from exporter.sources.mysql.values import Kind, converted, shortest
from tests.kit.mariadb import mariadb_server, shared_mariadb
from tests.kit.mysql_tables import (
    COLUMNS,
    NOON,
    ROLES,
    Table,
    Windows,
    database,
    ids,
    options,
    read,
    table,
    until,
)
from tests.kit.processes import HOST, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.kit.mariadb import MariaDb

DAY: Final = Window(NOON - timedelta(hours=12), NOON + timedelta(hours=12))
PASSWORD: Final = "hün/ter@2?#%"


@pytest.fixture
def audit() -> Iterator[Table]:
    with table() as made:
        yield made


def whole_day(source: MysqlSource, account: str = "acme") -> Range:
    return Range(account, DAY, source.seal(), first=True)


def values(source: MysqlSource, name: str) -> list[Any]:
    """What a column of the day's records holds, as JSON."""
    return [
        json.loads(text)
        for _, block in source.read([whole_day(source)], None)
        for text in block.columns[name].json()
    ]


# --- Addresses ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("mysql://u@db.example.com/audit", ("db.example.com", 3306, None, "u", None, "audit")),
        ("mariadb://u:p%40%2F@h:3307/a%20b", ("h", 3307, None, "u", "p@/", "a b")),
        ("mysql://u@[::1]:3307/a", ("::1", 3307, None, "u", None, "a")),
        (
            "mysql://u@/a?unix_socket=/run/my%20sql.sock",
            ("localhost", 3306, "/run/my sql.sock", "u", None, "a"),
        ),
    ],
)
def test_an_address_is_taken_apart(url: str, expected: tuple[object, ...]) -> None:
    """Host, port, socket, user, password and database, each decoded."""
    found = Address.of(url)
    given_ = (found.host, found.port, found.unix_socket, found.user, found.password, found.database)
    assert given_ == expected
    assert "p@/" not in repr(found)


@pytest.mark.parametrize(
    "url",
    [
        "mysql://u:hunter2@h",
        "mysql://h/a",
        "mysql://u:hun#ter2@h/a",
        "mysql://u:hun/ter2@h/a",
        "mysql://u:hun?ter2@h/a",
        "mysql://u:hunter2@h:port/a",
        "mysql://u:hunter2@h/a/b",
        "mysql://u:hunter2@h/a?charset=latin1",
        "mysql://[u:hunter2@h/a",
    ],
)
def test_an_address_that_will_not_do_is_not_shown(url: str) -> None:
    """The error says how an address looks, and nothing of this one: nobody knows where its password is."""
    with pytest.raises(ConfigError, match=r"source\.url") as raised:
        MysqlSource(MysqlOptions(url), roles=ROLES, table="t")
    assert raised.value.__cause__ is None
    assert "ter2" not in f"{raised.value}{raised.value.hint}{raised.value.__cause__!r}"


def test_a_password_is_never_shown() -> None:
    """Wrong or right, from the URL or beside it, a password is in no message, repr or chained error."""
    for given_ in (
        MysqlOptions(shared_mariadb().url(database(), "reader", PASSWORD)),
        MysqlOptions(shared_mariadb().url(database(), "reader"), password=PASSWORD),
    ):
        with closing(MysqlSource(given_, roles=ROLES, table="t")) as source:
            with pytest.raises(SourceError, match="refuses the user") as raised:
                source.seal()
            assert not isinstance(raised.value, SourceBusy)
            shown = f"{given_!r} {source.identity()} {vars(source)!r} {raised.value!r} {raised.value.hint}"
            assert PASSWORD not in f"{shown} {raised.value.__cause__!r} {raised.value.__cause__.__dict__!r}"


def test_a_password_may_have_any_letters(audit: Table) -> None:
    """What Latin-1 cannot say, and what a URL has to quote."""
    name = f"user_{audit.name}"
    audit.application.execute(f"CREATE USER {name}@'%%' IDENTIFIED BY %s", PASSWORD + "€")
    audit.application.execute(f"GRANT SELECT ON {audit.name} TO {name}@'%'")
    given_ = MysqlOptions(shared_mariadb().url(database(), name, PASSWORD + "€"))
    with closing(MysqlSource(given_, roles=ROLES, table=audit.name)) as source:
        assert source.columns() == ("id", "time", "account", "note")


def test_a_server_that_is_not_there_is_busy() -> None:
    """A refused connection is no reason to stop for good, and the error names the place."""
    given_ = MysqlOptions(f"mysql://reader@{HOST}:{free_port()}/audit")
    with closing(MysqlSource(given_, roles=ROLES, table="t")) as source:
        with pytest.raises(SourceBusy, match="cannot be reached") as raised:
            source.now()
        assert HOST in raised.value.message
        assert raised.value.hint


def test_a_server_that_says_nothing_is_given_up() -> None:
    """A port that accepts and does not answer is busy after the connection's time-out."""
    import socket

    with socket.create_server((HOST, 0)) as silent:
        given_ = MysqlOptions(f"mysql://reader@{HOST}:{silent.getsockname()[1]}/audit", connect_timeout_s=1)
        with closing(MysqlSource(given_, roles=ROLES, table="t")) as source, pytest.raises(SourceBusy):
            source.now()


# --- TLS ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tls_server() -> Iterator[MariaDb]:
    with mariadb_server(tls=True) as server, server.connect() as root, root.cursor() as cursor:
        cursor.execute("CREATE DATABASE audit")
        cursor.execute(f"CREATE TABLE audit.t ({COLUMNS})")
        cursor.execute("CREATE USER reader@'%' IDENTIFIED BY 'secret'")
        cursor.execute("GRANT SELECT ON audit.t TO reader@'%'")
        yield server


def encryption(server: MariaDb, **tls: Any) -> str:  # noqa: ANN401 - the options' own types
    """What `check` says about the connection."""
    given_ = MysqlOptions(server.url("audit", "reader", "secret"), **tls)
    with closing(MysqlSource(given_, roles=ROLES, table="t")) as source:
        return next(one.message for one in source.check([]) if one.subject == "connection")


@pytest.mark.parametrize(
    ("mode", "trusts", "encrypted"),
    [
        (None, False, True),
        ("disable", False, False),
        ("require", False, True),
        ("verify-ca", True, True),
        ("verify-full", True, True),
    ],
)
def test_tls_is_as_was_asked_for(
    tls_server: MariaDb, mode: str | None, *, trusts: bool, encrypted: bool
) -> None:
    """Each mode connects; without any, the connection is encrypted because the server can."""
    found = encryption(tls_server, tls_mode=mode, ca_file=tls_server.certificate if trusts else None)
    assert found == f"the connection is {'' if encrypted else 'not '}encrypted"


@pytest.mark.parametrize("mode", ["verify-ca", "verify-full"])
def test_a_certificate_of_nobody_we_trust_is_refused(tls_server: MariaDb, mode: str) -> None:
    """Verifying means that a certificate of another authority ends it, with a hint at the settings."""
    with pytest.raises(SourceError, match="cannot be reached by TLS") as raised:
        encryption(tls_server, tls_mode=mode)
    assert "source.tls" in raised.value.hint


def test_a_server_without_tls_is_refused_where_it_is_required(audit: Table) -> None:
    """Nothing is read in the clear by somebody who asked for encryption."""
    for mode in ("require", "verify-full"):
        source = audit.source(tls_mode=mode)
        with pytest.raises(SourceError, match="TLS"):
            source.now()


def test_a_missing_tls_file_is_a_mistake_in_the_settings(tmp_path: Path) -> None:
    """A file that is not there is said when the source is made, not at the first window."""
    given_ = MysqlOptions("mysql://u@h/a", tls_mode="verify-full", ca_file=tmp_path / "none.pem")
    with pytest.raises(ConfigError, match=r"source\.tls"):
        MysqlSource(given_, roles=ROLES, table="t")


# --- Types ----------------------------------------------------------------------------------------------

TYPES: Final[dict[str, tuple[str, str, object]]] = {
    "tiny": ("tinyint(1)", "2", 2),
    "zeros": ("int(8) zerofill", "42", 42),
    "big": ("bigint unsigned", "18446744073709551615", 18446744073709551615),
    "deci": ("decimal(30, 10)", "-12345.6789", Decimal("-12345.6789000000")),
    "exact": (
        "decimal(40, 0)",
        "1234567890123456789012345678901234567890",
        1234567890123456789012345678901234567890,
    ),
    "filled": ("decimal(6, 2) zerofill", "0.5", Decimal("0.50")),
    "single": ("float", "1.23456789", 1.2345679),
    "twice": ("double", "0.1", 0.1),
    "bits": ("bit(10)", "b'1000000001'", 513),
    "day": ("date", "'2026-11-19'", "2026-11-19"),
    "zero_day": ("date", "0", "0000-00-00"),
    "moment": ("datetime(6)", "'2026-11-19 04:00:00.5'", "2026-11-19T04:00:00.500000"),
    "stamp": ("timestamp(3) NULL", "'2026-11-19 04:00:00.5'", "2026-11-19T04:00:00.500Z"),
    "span": ("time(3)", "'-12:34:56.789'", "-12:34:56.789"),
    "years": ("year", "2026", 2026),
    "fixed": ("char(5)", "'ab '", "ab"),
    "latin": ("varchar(20) CHARACTER SET latin1", "'é€ '", "é€ "),
    "wide": ("varchar(20) CHARACTER SET ucs2", "'日本'", "日本"),
    "prose": ("text", "'a\\nb\"c'", 'a\nb"c'),
    "smile": ("varchar(5) CHARACTER SET utf8mb4", "_utf8mb4 X'F09F9880'", "😀"),
    "padded": ("binary(4)", "'ab'", "YWIAAA=="),
    "blob_": ("blob", "X'00FF'", "AP8="),
    "json_": ("json", "'{\"a\": [1, 2.50]}'", {"a": [1, Decimal("2.50")]}),
    "one_of": ("enum('a', 'é')", "'é'", "é"),
    "some_of": ("set('x', 'y')", "'y,x'", "x,y"),
    "uuid_": ("uuid", "'123E4567-e89b-12d3-a456-426655440000'", "123e4567-e89b-12d3-a456-426655440000"),
    "address": ("inet6", "'::1'", "::1"),
    "place": ("point", "POINT(1, 2)", "AAAAAAEBAAAAAAAAAAAA8D8AAAAAAAAAQA=="),
    "nothing": ("int", "NULL", None),
}


@pytest.mark.parametrize("origin", ["table", "query"])
def test_every_type_goes_out_as_it_is(origin: str) -> None:
    """Numbers keep their digits, texts their letters, bytes are base64, and JSON is JSON."""
    declared = "".join(f", {name} {type_}" for name, (type_, _, _) in TYPES.items())
    with table(COLUMNS + declared) as audit:
        audit.application.execute("SET SESSION sql_mode = ''")
        inserted = ", ".join(value for _, value, _ in TYPES.values())
        audit.application.execute(
            f"INSERT INTO {audit.name} (time, account, {', '.join(TYPES)})"
            f" VALUES ('2026-11-19 12:00:00', 'acme', {inserted})"
        )
        source = audit.source(**({} if origin == "table" else {"query": f"SELECT * FROM {audit.name}"}))
        ((_, block),) = source.read([whole_day(source)], None)
        found = {name: block.columns[name].json()[0].decode() for name in TYPES}
        parsed = {name: json.loads(text, parse_float=Decimal) for name, text in found.items()}
        for name, (_, _, expected) in TYPES.items():
            assert parsed[name] == (Decimal(str(expected)) if isinstance(expected, float) else expected), name
        assert found["filled"] == "0.50"
        assert found["json_"] == '{"a": [1, 2.50]}'
        assert b"quoted" not in block.raw(0)


@settings(max_examples=300, deadline=None)
@given(number=st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_a_single_precision_number_has_the_fewest_digits_that_stand_for_it(number: float) -> None:
    """Its text gives it back, and 0.1 stays 0.1."""
    found = shortest(number)
    assert shortest(found) == found
    assert len(repr(found)) <= len(repr(number))


ROW: Final = st.fixed_dictionaries(
    {
        "note": st.none() | st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20),
        "twice": st.none() | st.floats(allow_nan=False, allow_infinity=False),
        "single": st.none() | st.floats(width=32, allow_nan=False, allow_infinity=False),
        "deci": st.none() | st.decimals(-(10**20), 10**20, places=10, allow_nan=False),
        "big": st.none() | st.integers(-(2**63), 2**63 - 1),
        "blob_": st.none() | st.binary(max_size=20),
        "moment": st.none() | st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31)),  # noqa: DTZ001 - as stored
    }
)


def test_values_come_back_as_they_went_in() -> None:
    """Whatever goes into a table comes out of it, to the last digit, letter and byte."""
    declared = (
        ", twice double, single float, deci decimal(40, 10), big bigint, blob_ blob, moment datetime(6)"
    )
    with table(COLUMNS.replace("note text", "note text CHARACTER SET utf8mb4") + declared) as audit:
        source = audit.source()

        @settings(max_examples=60, deadline=None)
        @given(rows=st.lists(ROW, min_size=1, max_size=8))
        def check(rows: list[dict[str, Any]]) -> None:
            audit.application.execute(f"DELETE FROM {audit.name}")
            names = list(rows[0])
            for row in rows:
                places = ", ".join(["%s"] * (len(names) + 2))
                audit.application.execute(
                    f"INSERT INTO {audit.name} (time, account, {', '.join(names)}) VALUES ({places})",
                    *(DAY.start.replace(tzinfo=None), "acme", *(row[name] for name in names)),
                )
            fresh = MysqlSource(options(), roles=ROLES, table=audit.name)
            with closing(fresh):
                blocks = [block for _, block in fresh.read([whole_day(fresh)], None)]
            for name in names:
                found = [text for block in blocks for text in block.columns[name].json()]
                assert [as_written(name, text) for text in found] == [row[name] for row in rows]

        check()
        assert source.columns()


def as_written(name: str, rendered: bytes) -> object:
    """The value that a JSON text stands for."""
    import base64

    value = json.loads(rendered, parse_float=Decimal)
    if value is None or name in ("note", "big"):
        return value
    if name == "blob_":
        return base64.b64decode(value)
    if name == "moment":
        return datetime.fromisoformat(value)
    if name == "deci":
        return Decimal(value)
    import struct

    number = float(value)
    return struct.unpack("f", struct.pack("f", number))[0] if name == "single" else number


# --- Times ----------------------------------------------------------------------------------------------


def test_dates_are_midnights() -> None:
    """A DATE column will do as the time: each is its midnight in UTC."""
    with table(COLUMNS.replace("datetime(6)", "date")) as audit:
        audit.insert("acme", time="2026-11-19")
        audit.insert("acme", time="2026-11-20")
        source = audit.source()
        ((_, block),) = source.read([whole_day(source)], None)
        assert block.key(0) == ("2026-11-19 00:00:00.000000000", 1)
        assert list(block.columns["time"].instants()) == [b'"2026-11-19T00:00:00.000000Z"']


def test_decimal_times_keep_their_nanoseconds() -> None:
    """Keys of exact numbers are exact, and parts cut at them join."""
    with table(COLUMNS.replace("datetime(6)", "decimal(20, 9)")) as audit:
        epoch = int(NOON.timestamp())
        for fraction in ("000000001", "000000002", "000000003"):
            audit.insert("acme", time=f"{epoch}.{fraction}")
        source = audit.source(time_unit="s")
        one = whole_day(source)
        ((_, block),) = source.read([one], None)
        assert block.columns["time"].instants()[0] == b'"2026-11-19T12:00:00.000000001Z"'
        assert ids(read(source, replace(one, after=block.key(0), last=block.key(1)))) == [2]


@pytest.mark.parametrize(
    ("declared", "unit", "value", "hint"),
    [
        ("varchar(30)", None, "2026-11-19T12:00:00Z", "CAST(time AS DATETIME(6))"),
        ("bigint", None, "1790000000000", "time_unit: ms"),
        ("bigint", None, None, "time_unit to what it counts"),
        ("datetime", "s", "2026-11-19", "leave out source.time_unit"),
        ("float", "s", "1790000000", "DOUBLE"),
    ],
)
def test_a_time_column_that_will_not_do_is_said_at_once(
    declared: str, unit: str | None, value: str | None, hint: str
) -> None:
    """Settings that cannot work stop at the first seal, with what to change."""
    with table(COLUMNS.replace("datetime(6)", declared), more="") as audit:
        audit.insert("acme", time=value)
        with pytest.raises(SourceError, match="the time column 'time'") as raised:
            audit.source(time_unit=unit).seal()
        assert hint in raised.value.hint


@pytest.mark.parametrize(
    "times",
    [["0001-01-01 00:00:00", "9999-12-31 23:59:59.999999"], ["1969-12-31 23:59:59", "1970-01-01 00:00:00"]],
)
def test_the_ends_of_time_are_readable(audit: Table, times: list[str]) -> None:
    """From the first year of the calendar to the last microsecond that a column can hold."""
    windows = Windows(audit.source())
    for text in times:
        audit.insert(time=text)
    found = windows.next()
    expected = [Branch.LATE if text < str(DAY.start) else None for text in times]
    assert [branch for branch, _ in found] == [branch for branch in expected if branch]


# --- What can be read -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("columns", "settings_", "message"),
    [
        ("id bigint PRIMARY KEY, time datetime(6), account varchar(50), note text", {}, "not AUTO_INCREMENT"),
        (COLUMNS, {"commit": "seq"}, "no column 'seq'"),
        (COLUMNS, {"commit": "note"}, "'note' is not AUTO_INCREMENT"),
        (COLUMNS, {"roles": Roles("id", "tine", "account")}, "no column 'tine'"),
        (COLUMNS, {"table": "audit_lock"}, "no table 'audit_lock'"),
        (COLUMNS, {"table": "a.b.c"}, "no name of a table"),
    ],
)
def test_settings_that_cannot_work_are_refused(columns: str, settings_: dict[str, Any], message: str) -> None:
    """Each mistake in table and columns is a SourceError that says what is meant."""
    with table(columns, more="") as audit, pytest.raises(SourceError, match=message) as raised:
        audit.source(**settings_).seal()
    assert raised.value.hint


def test_a_table_of_another_engine_is_refused() -> None:
    """The rule of seals stands on InnoDB."""
    with table(more="") as audit:
        audit.application.execute(f"ALTER TABLE {audit.name} ENGINE = Aria")
        with pytest.raises(SourceError, match="of the engine Aria") as raised:
            audit.source().seal()
        assert "ENGINE=InnoDB" in raised.value.hint


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM {} UNION ALL SELECT * FROM {}",
        "SELECT max(id) AS id, time, account FROM {} GROUP BY time, account",
        "SELECT * FROM (SELECT * FROM {}) AS inner_one",
        "SELECT id + 0 AS id, time, account FROM {}",
        "SELECT DISTINCT id, time, account FROM {} LIMIT 10",
    ],
)
def test_a_query_whose_positions_are_of_no_table_is_refused(audit: Table, query: str) -> None:
    """Where nobody can say which table gives out the positions, nobody can say that none is missing."""
    with pytest.raises(SourceError, match=r"positions|AUTO_INCREMENT") as raised:
        audit.source(query=query.format(audit.name, audit.name)).seal()
    assert "AUTO_INCREMENT" in raised.value.hint


def test_a_query_may_join_filter_and_rename(audit: Table) -> None:
    """Positions, gaps and locks are those of the table, whatever the query calls its columns."""
    audit.application.execute(f"CREATE TABLE of_{audit.name} (name varchar(50) PRIMARY KEY, email text)")
    audit.application.execute(f"INSERT INTO of_{audit.name} VALUES ('acme', 'a@example.com')")
    query = (
        f"SELECT r.id AS number, r.time AS `when`, p.name AS account, p.email, r.note FROM {audit.name} AS r"
        f" JOIN of_{audit.name} AS p ON p.name = r.account WHERE r.note <> 'hidden'"
    )
    source = audit.source(query=query, roles=Roles("number", "when", "account"))
    windows, writer = Windows(source), audit.connect()
    writer.connection.begin()
    (low,) = audit.insert(by=writer)
    audit.insert(note="hidden")
    (high,) = audit.insert()
    assert ids(windows.next()) == [high]
    writer.connection.commit()
    assert ids(windows.next()) == [low]
    assert list(source.columns()) == ["number", "when", "account", "email", "note"]


def test_a_column_in_backticks_and_a_table_of_another_database(audit: Table) -> None:
    """Names may have any letters; a table may be named with its database."""
    audit.application.execute(f"ALTER TABLE {audit.name} ADD COLUMN `a``b c` int DEFAULT 7")
    audit.insert()
    source = audit.source(table=f"{database()}.`{audit.name}`")
    assert values(source, "a`b c") == [7]


def test_accounts_in_letters_that_the_column_does_not_have(audit: Table) -> None:
    """An account that a Latin-1 column cannot hold has no record; one that it can has its own."""
    audit.application.execute(f"ALTER TABLE {audit.name} MODIFY account varchar(50) CHARACTER SET latin1")
    audit.insert("Müller", "Muller")
    source = audit.source()
    assert ids(read(source, whole_day(source, "Müller"))) == [1]
    assert read(source, whole_day(source, "日本")) == []


def test_integer_accounts_are_their_canonical_text() -> None:
    """The account 42 is "42", and neither "042" nor "42.0"."""
    with table(COLUMNS.replace("varchar(50)", "bigint")) as audit:
        audit.insert("42", "-42")
        source = audit.source()
        found = {
            text: read(source, whole_day(source, text)) for text in ("42", "-42", "042", "42.0", "x", "")
        }
        assert {text: ids(records) for text, records in found.items() if records} == {"42": [1], "-42": [2]}


def test_text_that_is_no_utf_8_makes_its_record_a_bad_one() -> None:
    """Bytes that the server takes for text, though they are none, fail for their record alone."""
    rows = list(zip(*[converted(Kind.TEXT, [b"x", b"\xff"])] * 3, strict=True))
    block = RowBlock(Branch.ON_TIME, Layout(("id", "time", "account"), ("id",), ROLES, TextTimes()), rows)
    with pytest.raises(ValueError, match="UTF-8"):
        block.columns["id"].json()
    assert list(block.slice(0, 1).columns["id"].json()) == [b'"x"']
    assert b"\xff" in block.raw(1)


# --- Reading ----------------------------------------------------------------------------------------------


def fill(audit: Table, count: int, *, note: str = "''") -> None:
    """Many records, one a second."""
    audit.application.execute(
        f"INSERT INTO {audit.name} (time, account, note)"
        f" SELECT '2026-11-19' + INTERVAL seq SECOND, 'acme', {note} FROM seq_1_to_{count}"
    )


def running(audit: Table) -> int:
    """How many statements over the table's records the server works on."""
    found = audit.application.one(
        "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE ID <> CONNECTION_ID()"
        f" AND COMMAND <> 'Sleep' AND INFO LIKE '%{audit.name}%'"
    )
    assert isinstance(found, int)
    return found


def test_a_reading_that_is_closed_ends_at_once(audit: Table) -> None:
    """After the first block of a large range nothing goes on in the server, and the next reading works."""
    fill(audit, 50_000, note="REPEAT('x', 500)")
    source = audit.source(block_rows=100)
    one = whole_day(source)
    blocks = source.read([one], None)
    next(blocks)
    began = time.monotonic()
    blocks.close()
    assert time.monotonic() - began < 2
    until(lambda: running(audit) == 0)
    assert len(read(source, one)) == 50_000


def test_a_connection_lost_in_mid_read_is_busy_and_the_next_one_works(audit: Table) -> None:
    """An administrator who kills the connection costs one try."""
    fill(audit, 30_000, note="REPEAT('x', 500)")
    source = audit.source(block_rows=100)
    one = whole_day(source)
    blocks = source.read([one], None)
    next(blocks)
    process = audit.application.one(
        "SELECT ID FROM information_schema.PROCESSLIST"
        f" WHERE INFO LIKE '%{audit.name}%' AND ID <> CONNECTION_ID()"
    )
    audit.application.execute(f"KILL {process}")
    with pytest.raises(SourceBusy):
        for _ in blocks:
            pass
    assert len(read(source, one)) == 30_000


def test_idle_connections_that_were_dropped_are_replaced(audit: Table) -> None:
    """A server that closes connections nobody uses is no trouble."""
    source = audit.source()
    source.now()
    for (process,) in audit.application.execute(
        "SELECT ID FROM information_schema.PROCESSLIST WHERE USER = 'watcher'"
    ):
        audit.application.execute(f"KILL {process}")
    assert source.now().tzinfo is UTC


def test_connections_are_used_again(audit: Table) -> None:
    """One after the other, readings go by one connection; at once, each has its own; closing lets go."""
    source = audit.source()
    opened = "SELECT VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME = 'CONNECTIONS'"
    source.now()
    before = int(audit.application.one(opened))
    for _ in range(5):
        whole_day(source)
    assert int(audit.application.one(opened)) == before
    one = whole_day(source)
    fill(audit, 10)
    several = [source.read([replace(one, seal=source.seal())], None) for _ in range(3)]
    assert [len(list(each)) for each in several] == [1, 1, 1]


def test_a_statement_that_takes_too_long_is_ended_by_the_server(audit: Table) -> None:
    """The time-out is said with the setting that raises it."""
    audit.insert()
    source = audit.source(
        query=f"SELECT r.*, SLEEP(5) AS nap FROM {audit.name} AS r", statement_timeout_s=0.3
    )
    one = whole_day(source)
    with pytest.raises(SourceError, match=r"source\.statement_timeout") as raised:
        read(source, one)
    assert "source.statement_timeout" in raised.value.hint


def test_a_locked_table_is_busy(audit: Table) -> None:
    """Whoever locks the table for longer than we wait gets another try later."""
    source = audit.source(lock_timeout_s=1)
    one = whole_day(source)
    audit.application.execute(f"LOCK TABLES {audit.name} WRITE")
    with pytest.raises(SourceBusy, match="locked"):
        read(source, one)
    audit.application.execute("UNLOCK TABLES")
    assert read(source, one) == []


def test_an_error_of_the_records_is_one_exports_trouble(audit: Table) -> None:
    """What a query cannot compute for a record stops the exports that meet it, and shows no value."""
    audit.insert(note="needle")
    query = f"SELECT r.*, CAST(0 AS UNSIGNED) - (r.note = 'needle') AS below FROM {audit.name} AS r"
    source = audit.source(query=query)
    with pytest.raises(Unreadable, match="1690") as raised:
        read(source, whole_day(source))
    assert "needle" not in raised.value.message


def test_nothing_can_be_written_by_a_sources_connection(audit: Table) -> None:
    """Every transaction is read-only, also for a user who may write."""
    audit.insert()
    root = MysqlOptions(shared_mariadb().url(database()))
    with closing(MysqlSource(root, roles=ROLES, table=audit.name)) as source:
        for statement in (f"DELETE FROM {audit.name}", f"CREATE TABLE other_{audit.name} (i int)"):
            with pytest.raises(SourceError, match="1792"):
                source.settings(statement)
    assert audit.ids() == [1]


def test_memory_does_not_grow_with_the_records(audit: Table) -> None:
    """Large records are read a few at a time."""
    audit.application.execute(f"ALTER TABLE {audit.name} MODIFY note longtext")
    fill(audit, 24, note="REPEAT('x', 4000000)")
    source = audit.source()
    one = whole_day(source)
    tracemalloc.start()
    try:
        assert sum(len(block) for _, block in source.read([one], None)) == 24
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 40_000_000


def test_a_record_of_many_packets_is_read_whole(audit: Table) -> None:
    """A value of more than 16 MiB comes in several packets of the protocol."""
    audit.application.execute("SET GLOBAL max_allowed_packet = 67108864")
    audit.application.execute(f"ALTER TABLE {audit.name} MODIFY note longtext")
    with closing(audit.connect()) as patient:
        patient.execute(
            f"INSERT INTO {audit.name} (time, account, note)"
            f" VALUES ('2026-11-19 12:00', 'acme', REPEAT('x', {2**24 + 100}))"
        )
    ((_, block),) = (source := audit.source()).read([whole_day(source)], None)
    assert block.columns["note"].json()[0] == b'"%b"' % (b"x" * (2**24 + 100))


def test_what_an_administrator_sets_for_everybody_changes_nothing() -> None:
    """A limit of rows does not cut a range off, nor a time zone shift it, nor an SQL mode change it."""
    with mariadb_server() as server, server.connect() as root, root.cursor() as cursor:
        cursor.execute("CREATE DATABASE audit")
        cursor.execute(f"CREATE TABLE audit.t ({COLUMNS.replace('datetime(6)', 'timestamp(6)')})")
        cursor.execute("SET time_zone = '+00:00'")
        rows = ", ".join(["('2026-11-19 00:30', 'acme')"] * 9)
        cursor.execute(f"INSERT INTO audit.t (time, account) VALUES {rows}")
        for setting in ("sql_select_limit = 3", "time_zone = '+05:00'", "sql_mode = 'ANSI,TRADITIONAL'"):
            cursor.execute(f"SET GLOBAL {setting}")
        with closing(MysqlSource(MysqlOptions(server.url("audit")), roles=ROLES, table="t")) as source:
            assert len(read(source, whole_day(source))) == 9


def test_windows_and_late_records_are_found_by_their_indexes() -> None:
    """On time in index order without a sort, late by position: as the server says itself."""
    with table() as audit:
        fill(audit, 20_000)
        audit.application.execute(
            f"INSERT INTO {audit.name} (time, account) SELECT time, 'other' FROM {audit.name}"
        )
        audit.application.execute(f"ANALYZE TABLE {audit.name}")
        source, seen = audit.source(), []
        previous = source.seal()
        fill(audit, 50)
        one = Range("acme", Window(NOON, NOON + timedelta(minutes=5)), source.seal(previous), previous)
        original = mysql_connection.Connection.begin_rows

        def spy(self: mysql_connection.Connection, statement: str) -> int:
            seen.append(statement)
            return original(self, statement)

        mysql_connection.Connection.begin_rows = spy  # type: ignore[method-assign]
        try:
            read(source, one)
        finally:
            mysql_connection.Connection.begin_rows = original  # type: ignore[method-assign]
        _, late, on_time = [
            audit.application.execute(f"EXPLAIN {one_.replace('%', '%%')}")[0] for one_ in seen
        ]
        assert on_time[5] == "by_time"
        assert "filesort" not in (on_time[9] or "")
        assert late[5] in ("by_position", "PRIMARY")


def test_settings_come_from_any_query(audit: Table) -> None:
    """The first column of every row as bytes, empty where it is NULL or no text."""
    source = audit.source()
    assert source.settings('SELECT \'{"a": "é"}\' UNION ALL SELECT NULL') == ['{"a": "é"}'.encode(), b""]
    assert source.settings("SELECT 42, 'x'") == [b""]
    with pytest.raises(SourceError, match="no_such_table"):
        source.settings("SELECT * FROM no_such_table")


def test_the_clock_is_the_servers(audit: Table) -> None:
    """Aware, in UTC, to the microsecond."""
    found = audit.source().now()
    assert abs(found - datetime.now(UTC)) < timedelta(seconds=5)
    assert found.utcoffset() == timedelta()


def test_a_missing_column_and_a_changed_source_are_told_apart(audit: Table) -> None:
    """The seal is looked at first: another database has other columns."""
    source = audit.source()
    with pytest.raises(MissingColumn):
        list(source.read([whole_day(source)], ["nothing"]))
    with pytest.raises(SourceChanged):
        list(source.read([replace(whole_day(source), seal={"kind": "sqlite", "id": 1})], ["nothing"]))


# --- Servers and errors -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "is_mariadb"),
    [
        ("10.11.19-MariaDB-0+deb12u1", True),
        ("5.5.5-10.6.14-MariaDB-log", True),
        ("11.4.2-MariaDB", True),
        ("8.0.28", False),
        ("8.4.0-commercial", False),
    ],
)
def test_a_server_is_known_by_its_version(version: str, *, is_mariadb: bool) -> None:
    """Also behind the number that old clients are shown, and with whatever a packager adds."""
    assert Server.of(version).is_mariadb is is_mariadb


@pytest.mark.parametrize("version", ["10.5.9-MariaDB", "5.7.44-log", "5.5.5-10.3.1-MariaDB", "what"])
def test_a_server_that_is_too_old_is_refused(version: str) -> None:
    """The rule of seals needs window functions and locks that do not wait."""
    with pytest.raises(SourceError, match=version) as raised:
        Server.of(version)
    assert "10.6" in raised.value.hint


def test_a_node_of_a_cluster_is_refused() -> None:
    """Where several servers give out ids, a lower one may come at any time."""

    class Node(Session):
        def row(self, statement: str) -> tuple[bytes | None, ...] | None:
            del statement
            return (b"0", b"0", b"0", b"1")

    for version in ("10.11.19-MariaDB", "8.0.28"):
        node = Node(cast("Any", None), Server.of(version), "mysql db/audit")
        with pytest.raises(SourceError, match="a node of a cluster"):
            require_primary(node)


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (1040, SourceBusy),
        (1053, SourceBusy),
        (1205, SourceBusy),
        (1213, SourceBusy),
        (1317, SourceBusy),
        (2006, SourceBusy),
        (2013, SourceBusy),
        (0, SourceBusy),
        (1045, SourceError),
        (1049, SourceError),
        (1142, SourceError),
        (1146, SourceError),
        (1969, SourceError),
        (3024, SourceError),
        (4321, SourceError),
    ],
)
def test_each_error_is_one_of_ours(number: int, kind: type[SourceError]) -> None:
    """With a hint; and what nobody has foreseen is not taken for something that passes by itself."""
    error = (
        pymysql.err.InterfaceError(0, "") if number == 0 else pymysql.err.OperationalError(number, "secret")
    )
    with pytest.raises(SourceError) as raised, translated("mysql db/audit"):
        raise error
    assert type(raised.value) is kind
    assert raised.value.hint
    assert "mysql db/audit" in raised.value.message


def test_an_unknown_error_shows_no_data() -> None:
    """The server's own words are left out unless they are known to hold names alone."""
    error = pymysql.err.DataError(1292, "Truncated incorrect DOUBLE value: 'a customer'")
    with pytest.raises(Unreadable) as raised, translated("mysql db/audit", records=True):
        raise error
    assert "customer" not in f"{raised.value.message}{raised.value.hint}"
