"""How PostgreSQL is read: names, types, plans, errors, connections; and that nothing secret is said."""

from __future__ import annotations

import json
import threading
import traceback
import tracemalloc
from contextlib import ExitStack, closing
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import psycopg
import pytest

from exporter.columns import Roles
from exporter.errors import ExporterError, SourceBusy, SourceError, Unreadable
from exporter.model import Branch, Range, Window
from exporter.sources.postgres import PostgresOptions, PostgresSource
from exporter.sources.postgres.errors import translated
from tests.contracts.source import at, ids, read, window
from tests.kit.postgres import postgres_server
from tests.kit.postgres_bench import (
    COUNTED,
    INDEXES,
    PASSWORD,
    READER,
    ROLES,
    TABLE,
    PostgresBench,
    Variant,
    plan_of,
    work_database,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


MANY: Final = Variant(block_rows=2000)


@pytest.fixture(name="new_bench")
def _new_bench() -> Iterator[Callable[..., PostgresBench]]:
    with ExitStack() as stack:
        yield lambda *arguments: stack.enter_context(closing(PostgresBench(*arguments)))


@pytest.fixture(name="bench")
def _bench(new_bench: Callable[..., PostgresBench]) -> PostgresBench:
    return new_bench()


def everything(source: PostgresSource, account: str = "acme") -> list[dict[str, Any]]:
    """An account's records of the first window, as JSON gives them back."""
    seal = source.seal()
    found = []
    for _, block in source.read([Range(account, window(0), seal)], None):
        columns = {name: column.json() for name, column in block.columns.items()}
        found += [
            {name: json.loads(values[row]) for name, values in columns.items()} for row in range(len(block))
        ]
    return found


# --- Names -------------------------------------------------------------------------------------------


def test_tables_by_every_spelling(bench: PostgresBench) -> None:
    """A table is found by its name as in SQL, and one with capitals also without the quotes SQL wants."""
    name = f"Audit.Log {bench.number}"
    bench.execute(f'ALTER TABLE {{table}} RENAME TO "{name}"')
    schema = f"Own_{bench.number}"
    bench.execute(f'CREATE SCHEMA "{schema}"; GRANT USAGE ON SCHEMA "{schema}" TO {READER}')
    bench.execute(f'CREATE VIEW "{schema}"."AuditLog" AS SELECT * FROM "{name}"')
    bench.execute(f"INSERT INTO \"{name}\" (happened, account) VALUES ('{at(1)}', 'acme')")
    for table in (
        f'"{name}"',
        f'public."{name}"',
        f'PUBLIC."{name}"',
        f"{schema}.AuditLog",
        f'"{schema}"."AuditLog"',
    ):
        source = bench.new_source(table=table)
        assert len(everything(source)) == 1, table


@pytest.mark.parametrize("table", ["", ".", "a.", ".a", 'a"b', "a.b.c", '"a', '""'])
def test_what_is_no_name(bench: PostgresBench, table: str) -> None:
    """A name of no form is refused, with the form in the hint."""
    with pytest.raises(SourceError, match="is no name of a table") as raised:
        bench.new_source(table=table).columns()
    assert "schema.table" in raised.value.hint


def test_a_missing_table_names_the_nearest(bench: PostgresBench) -> None:
    """A misspelt table or column is named together with what it may have meant."""
    with pytest.raises(SourceError, match="no table") as raised:
        bench.new_source(table=f"record_{bench.number}").columns()
    assert bench.table in raised.value.hint
    roles = replace(ROLES, time="hapened")
    with pytest.raises(SourceError, match="no column 'hapened'") as raised:
        bench.new_source(roles=roles).seal()
    assert "'happened'" in raised.value.hint
    with pytest.raises(SourceError, match="no column 'export_xids'"):
        bench.new_source(commit="export_xids").seal()
    with pytest.raises(SourceError, match="is no table"):
        bench.new_source(table=f"{bench.table}_id_seq").columns()


def test_a_query_with_two_columns_of_one_name(bench: PostgresBench) -> None:
    """Of two columns with one name nobody could say which is meant."""
    query = f"SELECT a.*, a.note FROM {bench.table} a"
    with pytest.raises(SourceError, match="two columns the name 'note'"):
        bench.new_source(table=None, query=query).columns()


def test_identity_is_in_words(bench: PostgresBench) -> None:
    """The source says which database and table it is, and no user and no password."""
    words = bench.source.identity()
    assert bench.database in words
    assert bench.table in words
    assert str(bench.server.port) in words
    assert READER not in words
    assert PASSWORD not in words


# --- Accounts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("account_type", "stored", "account", "others"),
    [
        ("integer", "42", "42", ["042", "+42", " 42", "42.0", "-42", "9" * 20, "9" * 5000, "\uff14\uff12"]),
        ("smallint", "-7", "-7", ["- 7", "7", "--7", "-07", "70000"]),
        ("uuid", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
         ["A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", "{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}", "acme"]),
        ("varchar(10)", "acme", "acme", ["acme ", "ACME", "acme\0", "acme'--", "acme\ud800"]),
        ("char(10)", "acme", "acme", ["acme ", "acme      "]),
        ("name", "acme", "acme", ["Acme"]),
        ("numeric", "42.0", "42.0", ["42", "42.00"]),
        ("boolean", "true", "true", ["t", "True", "1"]),
        ("text[]", "{acme}", "{acme}", ['["acme"]', "acme"]),
        ("text", "it's \\ ünï", "it's \\ ünï", ["it''s \\\\ ünï"]),
    ],
)  # fmt: skip
def test_accounts_of_every_type(
    new_bench: Callable[..., PostgresBench], account_type: str, stored: str, account: str, others: list[str]
) -> None:
    """An account is its text, exactly, whatever the column's type; nothing else finds its records."""
    bench = new_bench(Variant(account=account_type))
    record = bench.insert(stored, at(1))
    seal = bench.source.seal()
    assert ids(read(bench.source, Range(account, window(0), seal))) == [record]
    for other in others:
        assert list(bench.source.read([Range(other, window(0), seal)], None)) == [], other
        assert bench.source.quiet_until(other, at(0), at(9), seal) == at(9)


# --- Times and ids -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("time_type", "unit", "message", "hint"),
    [
        ("text", None, "is of type text, not a timestamp", "happened::timestamptz"),
        ("text", "s", "is of type text, not a number of s", "happened::timestamptz"),
        ("time", None, "is of type time without time zone", "source.query"),
        ("timestamptz", "s", "not a number of s", "leave out source.time_unit"),
        ("bigint", None, "is of type bigint, not a timestamp", "source.time_unit: ms"),
        ("numeric", None, "is of type numeric", "source.time_unit: ms"),
    ],
)
def test_a_time_column_that_is_none(
    new_bench: Callable[..., PostgresBench], time_type: str, unit: str | None, message: str, hint: str
) -> None:
    """A column that is no time, or a unit that does not go with it, stops the source with the way out."""
    bench = new_bench(Variant(time=time_type, unit=unit, stored_time=lambda _: None))
    if time_type in ("bigint", "numeric"):
        bench.execute("INSERT INTO {table} (happened, account) VALUES (1795150790123, 'acme')")
    with pytest.raises(SourceError, match=message) as raised:
        bench.source.seal()
    assert hint in raised.value.hint


def test_dates_are_midnights(new_bench: Callable[..., PostgresBench]) -> None:
    """A date is on time in the window that holds its midnight in UTC, and reads in parts as any time does."""
    bench = new_bench(Variant(time="date"))
    begin = bench.source.seal()
    found = [bench.insert("acme", datetime(2026, 11, day, tzinfo=UTC)) for day in (20, 19, 20, 21)]
    one = Range("acme", window(1), bench.source.seal(begin), begin)  # from midnight on
    records = read(bench.source, one)
    assert [(branch, identifier) for branch, _, identifier, _ in records] == [
        (Branch.LATE, found[1]), (Branch.ON_TIME, found[0]), (Branch.ON_TIME, found[2])
    ]  # fmt: skip
    for _, key, _, _ in records:
        assert (
            read(bench.source, replace(one, last=key)) + read(bench.source, replace(one, after=key))
            == records
        )
    assert bench.source.quiet_until("acme", at(0), at(500_000), one.seal) == datetime(
        2026, 11, 20, tzinfo=UTC
    )


def test_whole_seconds_and_a_window_between_them(new_bench: Callable[..., PostgresBench]) -> None:
    """A number is before, in or after a window as the instant is that it stands for."""
    bench = new_bench(Variant(time="integer", unit="s", stored_time=lambda time: time and time.timestamp()))
    begin = bench.source.seal()
    for seconds in (0, 1, 2, 3):
        bench.insert("acme", at(seconds))
    one = Range("acme", Window(at(0.5), at(2.5)), bench.source.seal(begin), begin)
    found = [(branch, identifier) for branch, _, identifier, _ in read(bench.source, one)]
    assert found == [(Branch.LATE, "1"), (Branch.ON_TIME, "2"), (Branch.ON_TIME, "3")]


@pytest.mark.parametrize(
    ("id_type", "values"),
    [
        ('text COLLATE "C"', ["a", "B", "é", "b", "", " "]),
        ("jsonb", ['{"a": 1}', "[1]", '"x"', "1"]),
        ("text[]", ["{b,a}", "{}", "{c}"]),
        ("boolean", ["t", "f"]),
        ("inet", ["10.0.0.2", "10.0.0.10", "::1"]),
        ("double precision", ["1.5", "-0.1", "1e300", "NaN", "2"]),
        ("numeric", ["10", "9.50", "123456789012345678901234567890.5"]),
        ("interval", ["1 day", "24 hours", "1 mon"]),
        ("bytea", ["\\x00", "\\xff", "\\x5c"]),
        ("point", ["(1,2)", "(0,1)"]),
        ("xid8", ["10", "9", "18446744073709551615"]),
    ],
)  # fmt: skip
def test_ids_of_every_type(new_bench: Callable[..., PostgresBench], id_type: str, values: list[str]) -> None:
    """Whatever an id is, a range cut at any record's key joins to exactly the range; also where times tie."""
    schema = TABLE.replace(" PRIMARY KEY", "")
    given = iter(values * 2)
    bench = new_bench(Variant(id=id_type, schema=schema, new_id=lambda _: next(given)))
    begin = bench.source.seal()
    for time in [at(1)] * len(values) + [None] * len(values):
        bench.insert("acme", time)
    one = Range("acme", window(0), bench.source.seal(begin), begin)
    whole = read(bench.source, one)
    assert len(whole) == 2 * len(values)
    for number, (_, key, _, _) in enumerate(whole):
        assert read(bench.source, replace(one, last=key)) == whole[: number + 1]
        assert read(bench.source, replace(one, after=key)) == whole[number + 1 :]


def test_a_record_without_an_id_is_not_passed_over(bench: PostgresBench) -> None:
    """Where a query gives no id, its export stops: a part of a range could not say whether it has it."""
    bench.insert("acme", at(1))
    query = f"SELECT NULL::{{}} AS id, happened, account, note, export_xid FROM {bench.table}"
    for id_type in ("bigint", "text", "uuid"):
        with pytest.raises(Unreadable):
            everything(bench.new_source(table=None, query=query.format(id_type)))


# --- Values ------------------------------------------------------------------------------------------


def test_values_of_every_kind(bench: PostgresBench) -> None:
    """Arrays and composites are JSON made by PostgreSQL, domains what they are made of, the rest as it is."""
    bench.insert("acme", at(1), "x")
    bench.execute(
        "CREATE DOMAIN {table}_d AS text[]; CREATE DOMAIN {table}_dd AS {table}_d;"
        "CREATE TYPE {table}_c AS (a int, b text); CREATE TYPE {table}_e AS ENUM ('on', 'off')"
    )
    query = """
        SELECT id, happened, account, export_xid, note::varchar(5),
            '{{a,NULL,"b c"}}'::{table}_dd AS domain_array, ROW(1, 'x')::{table}_c AS composite,
            ROW(1, 'x') AS record, ARRAY[ROW(1, 'x')::{table}_c] AS composites, 'on'::{table}_e AS enum,
            'pad'::char(6) AS padded, '1 2'::int2vector AS vector, 'literal' AS literal,
            '{{"a": [1]}}'::json AS json, '1 day 2 hours'::interval AS interval, '\\xff'::bytea AS bytes,
            '[1,5)'::int4range AS range, 1.50::numeric AS number, true AS flag, NULL::int[] AS nothing
        FROM {table}
    """
    (record,) = everything(bench.new_source(table=None, query=query.format(table=bench.table)))
    shown = {
        name: value
        for name, value in record.items()
        if name not in ("id", "happened", "account", "export_xid")
    }
    assert shown == {
        "note": "x", "domain_array": ["a", None, "b c"], "composite": {"a": 1, "b": "x"},
        "record": {"f1": 1, "f2": "x"}, "composites": [{"a": 1, "b": "x"}], "enum": "on", "padded": "pad",
        "vector": "1 2", "literal": "literal", "json": {"a": [1]}, "interval": "P1DT2H", "bytes": "/w==",
        "range": "[1,5)", "number": 1.5, "flag": True, "nothing": None,
    }  # fmt: skip


def test_texts_in_no_known_encoding() -> None:
    """Where the server does not know its texts' encoding, only a record that is no UTF-8 is bad."""
    with postgres_server() as server:
        with closing(server.connect()) as connection:
            connection.execute("CREATE DATABASE plain ENCODING 'SQL_ASCII' TEMPLATE template0")
        with closing(server.connect("plain", client_encoding="utf8")) as connection:
            connection.execute(TABLE.format(table="records", id=COUNTED, time="timestamptz", account="text"))
            for note in ("'ü'", "convert_from('\\xff', 'SQL_ASCII')", "'after'"):
                connection.execute(
                    f"INSERT INTO records (happened, account, note) VALUES ('{at(1)}', 'acmé', {note})"
                )
        options = PostgresOptions(server.url("plain"))
        with closing(PostgresSource(options, roles=ROLES, table="records", commit="export_xid")) as source:
            ((_, block),) = source.read([Range("acmé", window(0), source.seal())], None)
        assert len(block) == 3
        assert block.belongs_to("acmé")
        assert list(block.slice(0, 1).columns["note"].json()) == ['"ü"'.encode()]
        with pytest.raises(ValueError, match="UTF-8"):
            block.slice(1, 2).columns["note"].json()
        assert list(block.slice(2, 3).columns["note"].json()) == [b'"after"']


def test_a_few_large_records_take_little_memory(new_bench: Callable[..., PostgresBench]) -> None:
    """Twenty records of 8 MB are never in memory together."""
    bench = new_bench(MANY)
    bench.execute(
        "INSERT INTO {table} (happened, account, note)"
        f" SELECT '{at(1)}', 'acme', repeat(md5(n::text), 250000) FROM generate_series(1, 20) n"
    )
    seal = bench.source.seal()
    tracemalloc.start()
    try:
        sizes = [len(block) for _, block in bench.source.read([Range("acme", window(0), seal)], None)]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sum(sizes) == 20
    assert peak < 50_000_000


# --- Plans -------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("id_type", [COUNTED, "text"], ids=["counted", "text"])
@pytest.mark.parametrize("analyzed", [True, False])
def test_an_index_serves_each_branch(
    new_bench: Callable[..., PostgresBench], id_type: str, *, analyzed: bool
) -> None:
    """Records on time come in an index's order without a sort, late ones by position; parts likewise."""
    bench = new_bench(replace(MANY, id=id_type))
    given = "id," if id_type == "text" else ""
    bench.insert_many(at(-5000), analyzed=analyzed)
    begin = bench.source.seal()
    bench.execute(
        f"INSERT INTO {{table}} ({given} happened, account, note) SELECT {given and '(n + 500000)::text,'}"
        f" timestamptz '{at(0)}' + n * interval '0.0001 s', 'acme', 'late' FROM generate_series(-99, 9) n"
    )
    one = Range("acme", window(0), bench.source.seal(begin), begin)
    key = ("2026-11-19 23:59:51.000000", "7" if id_type == "text" else 7)
    by_time, by_position = f"{bench.table}_account_happened_id_idx", f"{bench.table}_account_export_xid_idx"
    with bench.source._snapshot(begin, one.seal) as snapshot:
        for part in (one, replace(one, after=key), replace(one, last=key)):
            for branch, select in snapshot.statements(part, snapshot.layout(None)):
                plan = plan_of(snapshot.session, select)
                if branch is Branch.ON_TIME:
                    assert f"Index Scan using {by_time}" in plan
                    assert ("Incremental Sort" in plan) is (id_type == "text")
                    assert ("Sort" in plan) is (id_type == "text")
                elif branch is Branch.LATE:
                    assert by_position in plan
                else:
                    assert by_position in plan or by_time in plan


def test_without_an_index_it_sorts(new_bench: Callable[..., PostgresBench]) -> None:
    """A table without any index is read all the same."""
    bench = new_bench(Variant(schema=TABLE))
    expected = [bench.insert("acme", at(seconds)) for seconds in (1, 2, 3)]
    assert [str(record["id"]) for record in everything(bench.source)] == expected


# --- Rights and errors -------------------------------------------------------------------------------


def test_a_missing_right_is_named(bench: PostgresBench) -> None:
    """Without the right to select, the hint says which statements give it."""
    bench.execute(f"REVOKE SELECT ON {{table}} FROM {READER}")
    seal = bench.source.seal()
    with pytest.raises(SourceError, match="permission denied") as raised:
        read(bench.source, Range("acme", window(0), seal))
    assert "GRANT SELECT ON" in raised.value.hint


def test_row_security_hides_nothing_in_silence(bench: PostgresBench) -> None:
    """Where a policy would hide rows from the reader, reading fails instead."""
    bench.insert("acme", at(1))
    bench.execute("ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    seal = bench.source.seal()
    with pytest.raises(SourceError, match="row-level security") as raised:
        read(bench.source, Range("acme", window(0), seal))
    assert "BYPASSRLS" in raised.value.hint


def test_a_value_that_cannot_be_read_is_one_exports_trouble(bench: PostgresBench) -> None:
    """A cast that fails on one account's record stops nobody else, and the message quotes no record."""
    bench.insert("acme", at(1), "alice@example.com")
    bench.insert("other", at(1), "7")
    query = f"SELECT id, happened, account, note::int AS note, export_xid FROM {bench.table}"
    source = bench.new_source(table=None, query=query)
    with pytest.raises(Unreadable, match="22P02") as raised:
        everything(source)
    assert "alice" not in raised.value.message + raised.value.hint
    assert [record["note"] for record in everything(source, "other")] == [7]


BUSY: Final = ["08006", "25P03", "40001", "40P01", "53200", "53300", "55P03", "57P01", "57P02", "57P03"]
NEEDS_A_PERSON: Final = [
    "0A000",
    "28000",
    "28P01",
    "3D000",
    "42501",
    "42P01",
    "42703",
    "53100",
    "57014",
    "57P04",
]
STATES: Final = {**dict.fromkeys(BUSY, SourceBusy), **dict.fromkeys(NEEDS_A_PERSON, SourceError)}


@pytest.mark.parametrize("state", STATES)
def test_every_state_has_its_meaning(state: str) -> None:
    """What may pass by itself is a busy source; what needs a person is an error with a hint."""
    with pytest.raises(ExporterError) as raised, translated("postgresql somewhere"):
        raise psycopg.errors.lookup(state)("said")
    assert type(raised.value) is STATES[state]
    assert raised.value.message.startswith("postgresql somewhere ")
    assert "said" in raised.value.message
    assert raised.value.hint


@pytest.mark.parametrize("state", ["22P02", "22012", "22P05", "21000", "P0001", "XX001", "XX002"])
def test_a_records_fault_is_told_from_the_sources(state: str) -> None:
    """While records are read their faults are their export's; at any other time they are the source's."""
    with pytest.raises(Unreadable) as raised, translated("postgresql somewhere", records=True):
        raise psycopg.errors.lookup(state)('invalid: "a record"')
    assert "a record" not in raised.value.message.replace("cannot give out a record", "")
    with pytest.raises(SourceError), translated("postgresql somewhere"):
        raise psycopg.errors.lookup(state)("said")


def test_a_cancelled_statement_can_be_tried_again() -> None:
    """An administrator's cancellation is no time limit."""
    with pytest.raises(SourceBusy), translated("postgresql somewhere"):
        raise psycopg.errors.QueryCanceled("canceling statement due to user request")


# --- Connecting --------------------------------------------------------------------------------------


def said_by(error: BaseException) -> str:
    """Everything that an error may put before a person's eyes."""
    parts = ["".join(traceback.format_exception(error, chain=True))]
    while error is not None:
        parts += [str(error), repr(error), repr(error.args), str(getattr(error, "hint", ""))]
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    return "\n".join(parts)


def source_at(url: str, **options: Any) -> PostgresSource:  # noqa: ANN401 - options
    return PostgresSource(PostgresOptions(url, **options), roles=ROLES, table="records")


SECRET: Final = "hunter2"


def test_a_wrong_password_is_not_shown(bench: PostgresBench) -> None:
    """Neither message, hint, repr nor traceback has the password that was refused."""
    source = source_at(bench.server.url(bench.database, READER), password=SECRET)
    with pytest.raises(SourceError, match="refuses the password") as raised:
        source.now()
    assert not isinstance(raised.value, SourceBusy)
    assert SECRET not in said_by(raised.value)
    assert "source.password" in raised.value.hint


def test_a_database_that_is_not_there(bench: PostgresBench) -> None:
    """A wrong name of the database is an error, a server that does not answer a busy source."""
    with pytest.raises(SourceError, match="does not exist") as raised:
        source_at(bench.server.url("nowhere", READER, PASSWORD)).now()
    assert not isinstance(raised.value, SourceBusy)
    with pytest.raises(SourceBusy, match="cannot be reached"):
        source_at("postgresql://u@127.0.0.1:1/d").now()
    with pytest.raises(SourceBusy, match="cannot be reached"):
        source_at("postgresql:///d?host=/nowhere").now()


def test_several_hosts_and_a_socket(bench: PostgresBench) -> None:
    """The first of several hosts that answers is read, and a Unix socket as well."""
    server, login = bench.server, f"{READER}:{quote(PASSWORD, safe='')}"
    places = (
        f"postgresql://{login}@127.0.0.1:1,127.0.0.1:{server.port}/{bench.database}",
        f"postgresql://{login}@/{bench.database}?host={server.data.parent}&port={server.port}",
        f"postgresql://{login}@{quote(str(server.data.parent), safe='')}:{server.port}/{bench.database}",
    )
    seal = bench.source.seal()
    for url in places:
        assert bench.new_source(url=url).holds(seal), url


def test_a_server_without_a_free_connection_is_busy(bench: PostgresBench) -> None:
    """When connections run out, the next run finds one."""
    role = f"few_{bench.number}"
    bench.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'x' CONNECTION LIMIT 0")
    with pytest.raises(SourceBusy, match="no free connection"):
        source_at(bench.server.url(bench.database, role, "x")).now()


def test_an_old_server_is_refused(bench: PostgresBench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server without xid8 is not read."""
    monkeypatch.setattr("exporter.sources.postgres.connection._OLDEST_VERSION", 990_000)
    with pytest.raises(SourceError, match="is PostgreSQL") as raised:
        bench.source.now()
    assert "PostgreSQL 13 or newer" in raised.value.hint


def test_connections_encrypted_and_checked() -> None:
    """The server's certificate and name are checked; where there is no trust, nothing is read."""
    with postgres_server(tls=True) as server:
        url = server.url(work_database(server), READER, PASSWORD)
        for mode in ("require", "verify-ca", "verify-full"):
            source = source_at(url, tls_mode=mode, ca_file=server.certificate)
            with source._database.reading() as session:
                assert session.connection.info.pgconn.ssl_in_use, mode
            source.close()
        with pytest.raises(SourceError, match="nobody vouches") as raised:
            source_at(url, tls_mode="verify-full").now()
        assert "source.tls.ca_file" in raised.value.hint
        missing = server.data / "missing.crt"
        with pytest.raises(SourceError, match="cannot be checked") as raised:
            source_at(url, tls_mode="verify-full", ca_file=missing).now()
        assert not isinstance(raised.value, SourceBusy)


def test_a_server_without_tls(bench: PostgresBench) -> None:
    """Where encryption is demanded and not offered, nothing is sent."""
    with pytest.raises(SourceError, match="offers no TLS") as raised:
        source_at(bench.url(bench.server), tls_mode="require").now()
    assert "source.tls.mode" in raised.value.hint


def test_connections_serve_again(bench: PostgresBench) -> None:
    """Readings one after the other share a connection, and closing the source ends it."""
    source = bench.new_source()
    for _ in range(5):
        source.now()
    assert len(source._database._idle) == 1
    threads = [threading.Thread(target=lambda: [source.now() for _ in range(5)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 1 <= len(source._database._idle) <= 4
    source.close()
    assert source._database._idle == []
    source.now()  # closed is only what nobody used


# --- Settings in rows --------------------------------------------------------------------------------


def test_settings_are_bytes(bench: PostgresBench) -> None:
    """Text and JSON come as they are, NULL and anything else empty; the query cannot write."""
    statement = 'SELECT * FROM (VALUES (\'{"a": "ü"}\'::%s), (NULL)) AS v (settings);'
    for of_type in ("json", "text", "varchar"):
        assert list(bench.source.settings(statement % of_type)) == ['{"a": "ü"}'.encode(), b""]
    assert list(bench.source.settings("SELECT '{\"a\": 1}'::jsonb, 2")) == [b'{"a": 1}']
    assert list(bench.source.settings("SELECT 1 UNION SELECT 2")) == [b"", b""]
    assert list(bench.source.settings("SELECT 'x' WHERE false")) == []
    with pytest.raises(SourceError):
        bench.source.settings("SELECT 1; SELECT 2")
    mighty = bench.new_source(url=bench.server.url(bench.database))
    with pytest.raises(SourceError, match="read-only"):
        mighty.settings(f"SELECT nextval('{bench.table}_id_seq')::text")


def test_an_index_in_another_order_is_not_forced(new_bench: Callable[..., PostgresBench]) -> None:
    """A sort is only put aside where an index on account and time is there, whole and for all rows."""
    partial = INDEXES.replace("(account, happened, id)", "(account, happened, id) WHERE id > 0")
    swapped = INDEXES.replace("(account, happened, id)", "(happened, account, id)")
    for schema, expected in ((INDEXES, True), (partial, False), (swapped, False)):
        bench = new_bench(Variant(schema=f"{TABLE};{schema}"))
        with bench.source._snapshot() as snapshot:
            assert snapshot.relation.table is not None
            assert snapshot.relation.table.in_order is expected
    other = new_bench(
        replace(
            Variant(), schema=TABLE.replace("happened", "seen") + "; " + INDEXES.replace("happened", "seen")
        )
    )
    with other.new_source(roles=Roles("id", "seen", "account"))._snapshot() as snapshot:
        assert snapshot.relation.table is not None
        assert snapshot.relation.table.in_order
