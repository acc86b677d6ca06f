"""What is SQLite's own: times as text and numbers, ids that could be used again, files that are not right."""

from __future__ import annotations

import re
import sqlite3
import tracemalloc
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.columns import Roles, TextTimes
from exporter.errors import SourceBusy, SourceChanged, SourceError
from exporter.model import Branch, Finding, Level, Range, Seal, Window
from exporter.sources.sqlite import SqliteSource
from exporter.sources.sqlite.database import translated
from exporter.sources.sqlite.joining import Joining
from exporter.sources.sqlite.snapshot import Snapshot
from exporter.sources.sqlite.time import sql_times

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ROLES = Roles(id="id", time="time", account="account")
COLUMNS = "id INTEGER PRIMARY KEY AUTOINCREMENT, time TEXT, account TEXT, note TEXT"
INDEXES = "CREATE INDEX by_time ON t (account, time, id); CREATE INDEX by_account ON t (account);"
NOON = datetime(2026, 11, 19, 12, tzinfo=UTC)
DAY = Window(datetime(2026, 11, 19, tzinfo=UTC), datetime(2026, 11, 20, tzinfo=UTC))
NOTHING: Seal = {"kind": "sqlite", "id": 0, "anchor_id": None, "anchor": None}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.db"


def create(path: Path, columns: str = COLUMNS, more: str = INDEXES) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(f"PRAGMA journal_mode = WAL; CREATE TABLE t ({columns}); {more}")


def insert(path: Path, *times: object, account: object = "acme", note: object = None) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        rows = [(time, account, note) for time in times]
        connection.executemany("INSERT INTO t (time, account, note) VALUES (?, ?, ?)", rows)


def execute(path: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement, values)


def source_of(
    path: Path,
    *,
    table: str | None = "t",
    query: str | None = None,
    unit: str | None = None,
    roles: Roles = ROLES,
) -> SqliteSource:
    return SqliteSource(
        path, roles=roles, table=table, query=query, time_unit=unit, busy_timeout_s=0.01, clock=lambda: NOON
    )


def whole_day(source: SqliteSource, account: str = "acme") -> Range:
    return Range(account, DAY, source.seal(), NOTHING, first=True)


def read(source: SqliteSource, one: Range) -> list[tuple[Branch, str]]:
    return [
        (block.branch, block.id(row)) for _, block in source.read([one], None) for row in range(len(block))
    ]


# --- Times -----------------------------------------------------------------------------------------

_CANONICAL = re.compile(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:\.\d{1,9})?(?:Z|\+00:00)?", re.ASCII)
_PIECES = st.tuples(
    st.sampled_from(["0000", "0001", "2024", "2026", "9999", "202", "20260"]),
    st.sampled_from(
        ["-01-01", "-02-28", "-02-29", "-02-30", "-04-31", "-12-31", "-13-01", "-00-10", "-1-01"]
    ),
    st.sampled_from(["T", " ", "t", "", "  "]),
    st.sampled_from(["00:00:00", "23:59:59", "24:00:00", "23:59:60", "12:60:00", "12:00", "+1:00:00"]),
    st.sampled_from(["", ".", ".5", ".123456", ".123456789", ".1234567890", ".12a", ".5.5", ",5"]),
    st.sampled_from(["", "Z", "+00:00", "z", " Z", "ZZ", "+01:00", "-00:00", "+00:00Z", "\0", "\0Z", "é"]),
)


def is_canonical(text: str) -> bool:
    match = _CANONICAL.fullmatch(text)
    if match is None:
        return False
    try:
        datetime.fromisoformat(f"{match[1]}T{match[2]}")
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("encoding", ["UTF-8", "UTF-16"])
@pytest.mark.parametrize("declared", ["TEXT", "DATETIME", "", "TEXT COLLATE NOCASE"])
def test_readable_is_what_a_calendar_and_the_canonical_form_say(declared: str, encoding: str) -> None:
    """SQL finds exactly the canonical instants readable, and sorts by the same text as Python's keys."""
    times = sql_times('"time"', None)
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(f"PRAGMA encoding = '{encoding}'")
        connection.execute(f"CREATE TABLE t (time {declared})")

        @settings(max_examples=300, deadline=None)
        @given(_PIECES.map("".join) | st.datetimes().map(str) | st.text(max_size=30))
        def check(text: str) -> None:
            connection.execute("DELETE FROM t")
            connection.execute("INSERT INTO t VALUES (?)", (text,))
            readable, value = connection.execute(f"SELECT {times.readable}, {times.value} FROM t").fetchone()
            assert bool(readable) is is_canonical(text)
            if readable:
                assert value == TextTimes().key(text)

        check()


@pytest.mark.parametrize("stored", [None, b"2026-11-19T04:00:00Z", 1_763_524_800, 1.5, "tomorrow", "\0"])
def test_what_is_no_text_is_unreadable(path: Path, stored: object) -> None:
    """NULL, blobs and numbers in a column of text times go out as unreadable, exactly once."""
    create(path, COLUMNS.replace("time TEXT", "time"))
    insert(path, "2026-11-19T04:00:00Z", stored)
    source = source_of(path)
    assert read(source, whole_day(source)) == [(Branch.UNREADABLE, "2"), (Branch.ON_TIME, "1")]


def test_order_is_by_value(path: Path) -> None:
    """A whole second comes before its fractions, though its bytes do not; equal times go by id."""
    create(path)
    times = [
        "00:00:00.5Z",
        "00:00:00Z",
        "00:00:00.50Z",
        "00:00:00.500000001Z",
        "00:00:00",
        "00:00:00.5+00:00",
    ]
    insert(path, *(f"2026-11-19T{time}" for time in times))
    source = source_of(path)
    assert [identifier for _, identifier in read(source, whole_day(source))] == ["2", "5", "1", "3", "6", "4"]


@pytest.mark.parametrize("fractions", [(".5Z", ".50"), (".1000000", ".1+00:00")])
def test_equal_times_of_one_length_go_by_id(path: Path, fractions: tuple[str, str]) -> None:
    """Times of one length but another zone are the same time, whatever their bytes say."""
    create(path)
    insert(path, *(f"2026-11-19T00:00:00{fraction}" for fraction in fractions))
    source = source_of(path)
    assert [identifier for _, identifier in read(source, whole_day(source))] == ["1", "2"]


def test_both_separators_lie_in_one_window(path: Path) -> None:
    """A window over midnight holds both forms of either day, and nothing of the hours around it."""
    create(path)
    hours = ["2026-11-19{}22:59:59", "2026-11-19{}23:00:00", "2026-11-20{}00:59:59", "2026-11-20{}01:00:00"]
    late_evening = Window(DAY.end.replace(day=19, hour=23), DAY.end.replace(hour=1))
    for separators in (["T"], [" "], ["T", " "]):
        execute(path, "DELETE FROM t")
        insert(path, *(hour.format(separator) for hour in hours for separator in separators))
        source = source_of(path)
        one = Range("acme", late_evening, source.seal())
        assert len(read(source, one)) == 2 * len(separators)


@pytest.mark.parametrize(
    ("unit", "at_noon"), [("s", 1_795_089_600), ("ms", 1_795_089_600_000), ("ns", 1_795_089_600_000_000_000)]
)
def test_times_can_be_numbers(path: Path, unit: str, at_noon: int) -> None:
    """Integers and reals of a unit are readable; infinities, text and years beyond 9999 are not."""
    create(path, COLUMNS.replace("time TEXT", "time"))
    insert(path, at_noon + 1, float(at_noon), at_noon, 9e300, "2026-11-19T12:00:00Z", float("inf"), -9e300)
    source = source_of(path, unit=unit)
    found = read(source, whole_day(source))
    assert found == [(Branch.UNREADABLE, one) for one in "4567"] + [(Branch.ON_TIME, one) for one in "231"]
    assert source.quiet_until("acme", DAY.start, DAY.end, source.seal()) == NOON


def test_nanoseconds_end_later_than_64_bits(path: Path) -> None:
    """A window after the year 2262 can be read with times in nanoseconds."""
    create(path, COLUMNS.replace("time TEXT", "time"))
    insert(path, *range(10))
    source = source_of(path, unit="ns")
    far = Window(DAY.start.replace(year=2300), DAY.end.replace(year=2301))
    assert read(source, Range("acme", far, source.seal())) == []


def test_a_flood_of_bad_times_stops_nobody(path: Path) -> None:
    """One account's hundreds of unreadable records leave the source in service for the others."""
    create(path)
    insert(path, "2026-11-19T01:00:00Z", account="globex")
    insert(path, *["soon"] * 300)
    source = source_of(path)
    assert read(source, whole_day(source, "globex")) == [(Branch.ON_TIME, "1")]


@pytest.mark.parametrize(
    ("stored", "unit", "message", "hint"),
    [
        (1_763_524_800, None, "integer such as '1763524800', not canonical text", "source.time_unit: s"),
        (1_763_524_800_123, None, "integer such as", "source.time_unit: ms"),
        (1_763_524_800_123_456, None, "integer such as", "source.time_unit: us"),
        (1_763_524_800_123_456_789, None, "integer such as", "source.time_unit: ns"),
        (1_763_524_800.5, None, "real such as", "source.time_unit: s"),
        ("19/11/2026", None, "text such as '19/11/2026'", "write times as 2026-11-19T04:00:00Z"),
        ("2026-11-19T04:00:00Z", "ms", "not numbers of ms", "leave out source.time_unit"),
        (None, None, "NULL", "columns.time must name"),
    ],
)
def test_a_wrong_time_setting_stops_before_all_goes_out_as_bad(
    path: Path, stored: object, unit: str | None, message: str, hint: str
) -> None:
    """When no recent record has a readable time, sealing says what the values are and what would fit."""
    create(path, COLUMNS.replace("time TEXT", "time"))
    insert(path, *[stored] * 10)
    with pytest.raises(SourceError, match=re.escape(message)) as raised:
        source_of(path, unit=unit).seal()
    assert hint in raised.value.hint
    insert(path, 1_763_524_800 if unit else "2026-11-19T04:00:00Z")
    source_of(path, unit=unit).seal()


# --- Text, JSON and names --------------------------------------------------------------------------


@pytest.mark.parametrize("zones", [("Z", "Z"), ("Z", "+00:00")], ids=["in_order", "sorted"])
def test_text_that_is_not_utf_8_fails_for_its_record_alone(path: Path, zones: tuple[str, str]) -> None:
    """Records before and after invalid UTF-8 are read as ever; its own column fails, its bytes are there."""
    create(path)
    times = (f"2026-11-19T04:00:{second:02}{zones[second % 2]}" for second in range(10))
    insert(path, *times, note="fine")
    execute(path, "UPDATE t SET note = CAST(? AS TEXT) WHERE id IN (5, 6)", b"caf\xe9")
    source = SqliteSource(path, roles=ROLES, table="t", block_rows=2)
    records = [
        block.slice(row, row + 1)
        for _, block in source.read([whole_day(source)], None)
        for row in range(len(block))
    ]
    assert [record.id(0) for record in records] == [str(number) for number in range(1, 11)]
    for record in records:
        if record.id(0) in ("5", "6"):
            with pytest.raises(ValueError, match="not valid UTF-8"):
                record.columns["note"].json()
            assert b"caf\xe9" in record.raw(0)
        else:
            assert record.columns["note"].json() == [b'"fine"']


def test_a_json_column_is_json(path: Path) -> None:
    """A column that is declared JSON comes out as JSON, any other as text."""
    create(path, COLUMNS + ", original JSON")
    execute(path, "INSERT INTO t VALUES (1, '2026-11-19T04:00:00Z', 'acme', '{}', '{\"a\": 1}')")
    source = source_of(path)
    ((_, block),) = source.read([whole_day(source)], None)
    assert block.columns["original"].json() == [b'{"a": 1}']
    assert block.columns["note"].json() == [b'"{}"']


def test_any_name_can_be_a_name(tmp_path: Path) -> None:
    """Folders, tables and columns may be called anything."""
    folder = tmp_path / "a ?b#c%20d'e"
    folder.mkdir()
    table, roles = 't"; DROP TABLE t; --', Roles(id='the "id"', time="select", account="a'b]c")
    with closing(sqlite3.connect(folder / "x.db")) as connection, connection:
        quoted = [
            '"' + name.replace('"', '""') + '"' for name in (table, roles.id, roles.time, roles.account)
        ]
        connection.execute(
            "CREATE TABLE {} ({} INTEGER PRIMARY KEY AUTOINCREMENT, {} TEXT, {} TEXT)".format(*quoted)
        )
        connection.execute(f"INSERT INTO {quoted[0]} VALUES (1, '2026-11-19 04:00:00', 'acme')")
    source = source_of(folder / "x.db", table=table, roles=roles)
    assert read(source, whole_day(source)) == [(Branch.ON_TIME, "1")]
    assert list(source.columns()) == [roles.id, roles.time, roles.account]
    assert str(folder / "x.db") in source.identity()
    hints = [finding.hint for finding in source.check(["acme"]) if finding.subject == "index"]
    for hint in hints:
        execute(folder / "x.db", hint)
    assert len(hints) == 2
    assert not [finding for finding in source.check(["acme"]) if finding.subject == "index"]


def test_numbers_can_be_accounts(path: Path) -> None:
    """The integer 42 is the account "42" and no other spelling of the number."""
    create(path, COLUMNS.replace("account TEXT", "account INTEGER"))
    insert(path, "2026-11-19T04:00:00Z", account=42)
    source = source_of(path)
    found = {
        account: len(read(source, whole_day(source, account))) for account in ("42", "042", "42.0", " 42")
    }
    assert found == {"42": 1, "042": 0, "42.0": 0, " 42": 0}


@pytest.mark.parametrize("declared", ["", "BLOB", "NUMERIC", "INTEGER", "TEXT"])
@pytest.mark.parametrize("relation", ["table", "view", "query"])
def test_accounts_match_in_whatever_form_a_column_keeps_them(
    path: Path, relation: str, declared: str
) -> None:
    """In a column without a type, too, the number 42 and the text "42" are one account, "042" another."""
    create(
        path,
        COLUMNS.replace("account TEXT", f"account {declared}"),
        f"{INDEXES} CREATE VIEW v AS SELECT * FROM t",
    )
    for account in (42, "42", "acme", 0, "042"):
        insert(path, "2026-11-19T04:00:00Z", "soon", account=account)
    query = "SELECT * FROM t WHERE id < 0 UNION ALL SELECT * FROM t" if relation == "query" else None
    source = source_of(path, table={"table": "t", "view": "v"}.get(relation), query=query)
    found = {
        account: [one for _, one in read(source, whole_day(source, account))] for account in ("42", "acme")
    }
    merged = declared in ("NUMERIC", "INTEGER")  # these make a number of the text 042
    assert found == {
        "42": ["2", "4", *(["10"] if merged else []), "1", "3", *(["9"] if merged else [])],
        "acme": ["6", "5"],
    }


def test_a_column_without_a_type_is_searched_by_its_index(path: Path) -> None:
    """Accounts that are no numbers lose nothing by a column without a type; numbers only their order."""
    _, seal = filled(path, COLUMNS.replace("account TEXT", "account"))
    search = "SEARCH records USING INDEX by_time (account=? AND time>? AND time<?)"
    assert plans(path, Range("acme", DAY, seal, seal))[Branch.ON_TIME] == search
    insert(path, "2026-11-19T04:00:00Z", account=42)
    seal = source_of(path).seal()
    found = plans(path, Range("42", DAY, seal, seal))
    assert found[Branch.ON_TIME] == f"{search} USE TEMP B-TREE FOR ORDER BY"


# --- Seals -----------------------------------------------------------------------------------------


def filled(path: Path, columns: str = COLUMNS) -> tuple[SqliteSource, Seal]:
    create(path, columns)
    insert(path, *(f"2026-11-19T04:00:0{second}Z" for second in range(5)))
    source = source_of(path)
    return source, source.seal()


REUSED = COLUMNS.replace("AUTOINCREMENT", "/* AUTOINCREMENT */ CHECK ('AUTOINCREMENT' > '')")


def test_deleted_rows_do_not_matter_with_autoincrement(path: Path) -> None:
    """Retention may delete anything, up to all records: seals hold, and new ids go on."""
    source, seal = filled(path)
    execute(path, "DELETE FROM t")
    assert source.seal(seal)["id"] == 5
    insert(path, "2026-11-19T04:00:00Z")
    assert read(source, Range("acme", DAY, source.seal(seal), seal)) == [(Branch.ON_TIME, "6")]


def test_an_older_copy_is_noticed(path: Path) -> None:
    """A database whose ids went back is not the one that was sealed, although its records are the same."""
    source, seal = filled(path)
    execute(path, "DELETE FROM t WHERE id > 3")
    execute(path, "UPDATE sqlite_sequence SET seq = 3")
    assert not source.holds(seal)
    with pytest.raises(SourceChanged, match="went back from id 5 to 3") as raised:
        source.seal(seal)
    assert "ledger accept-source --from TIME" in raised.value.hint


def test_ids_used_again_are_noticed(path: Path) -> None:
    """Without AUTOINCREMENT a new record under a sealed id stops the source."""
    source, seal = filled(path, REUSED)
    execute(path, "DELETE FROM t WHERE id = 5")
    insert(path, "2026-11-19T09:00:00Z")
    with pytest.raises(SourceChanged, match="ids were used again"):
        read(source, Range("acme", DAY, seal))


def test_a_missing_newest_record_is_noticed(path: Path) -> None:
    """Without AUTOINCREMENT nobody can tell whether a deleted newest id was used again."""
    source, seal = filled(path, REUSED)
    execute(path, "DELETE FROM t WHERE id = 5")
    execute(path, "INSERT INTO t VALUES (7, '2026-11-19T09:00:00Z', 'acme', NULL)")
    with pytest.raises(
        SourceChanged, match="the record 5, the newest one that was sealed, is gone"
    ) as raised:
        source.seal(seal)
    assert raised.value.hint.startswith("declare the id INTEGER PRIMARY KEY AUTOINCREMENT")


def test_another_database_is_noticed(path: Path, tmp_path: Path) -> None:
    """A database with as many records, but others, is not the one that was sealed."""
    _, seal = filled(path)
    create(tmp_path / "other.db")
    insert(tmp_path / "other.db", *["2026-11-19T05:00:00Z"] * 5)
    assert not source_of(tmp_path / "other.db").holds(seal)


def test_every_seal_of_a_reading_is_checked(path: Path) -> None:
    """A wrong seal stops a reading also beside a right one of the same id."""
    source, seal = filled(path)
    wrong = Range("acme", DAY, {**seal, "anchor": "0"})
    for ranges in ([wrong, replace(wrong, seal=seal)], [replace(wrong, seal=seal), wrong]):
        with pytest.raises(SourceChanged):
            list(source.read(ranges, None))


# --- Reading ---------------------------------------------------------------------------------------


def test_a_writer_goes_on_while_an_export_reads(path: Path) -> None:
    """A reading sees one moment, whatever is committed meanwhile; the next one sees that, too."""
    source, seal = filled(path)
    slow = SqliteSource(path, roles=ROLES, table="t", block_rows=1)
    blocks = slow.read([Range("acme", DAY, seal)] * 2, None)
    seen = [next(blocks)[1].id(0)]
    execute(path, "DELETE FROM t WHERE id = 3")
    insert(path, "2026-11-19T04:00:02Z")
    seen += [block.id(0) for _, block in blocks]
    assert seen == ["1", "2", "3", "4", "5"] * 2
    assert len(read(source, Range("acme", DAY, source.seal(seal), seal))) == 5


def test_blocks_are_bounded(path: Path) -> None:
    """No block holds more records than its limit, so memory does not grow with the window."""
    filled(path)
    source = SqliteSource(path, roles=ROLES, table="t", block_rows=2)
    assert [len(block) for _, block in source.read([whole_day(source)], None)] == [2, 2, 1]


def test_large_records_come_in_small_blocks(path: Path) -> None:
    """A block ends at about 4 MB of values; a record that is larger has one of its own."""
    create(path)
    for size in (300_000, 5_000_000):
        insert(path, *["2026-11-19T04:00:00Z"] * (30_000_000 // size), note="x" * size)
    source = source_of(path)
    blocks = [len(block) for _, block in source.read([whole_day(source)], None)]
    assert sum(blocks) == 106
    assert max(blocks) == 14
    assert blocks[-5:] == [1] * 5


def test_memory_does_not_grow_with_the_size_of_records(path: Path) -> None:
    """Large records among small ones take a few megabytes, however many there are."""
    create(path)
    for _ in range(4):
        insert(path, *["2026-11-19T04:00:00Z"] * 500)
        insert(path, *["2026-11-19T04:00:00Z"] * 50, note="x" * 300_000)
    source = source_of(path)
    one = whole_day(source)
    tracemalloc.start()
    try:
        assert sum(len(block) for _, block in source.read([one], None)) == 2_200
        assert tracemalloc.get_traced_memory()[1] < 25_000_000
    finally:
        tracemalloc.stop()


def test_only_ids_are_sorted(path: Path) -> None:
    """What no index has in order is sorted by SQLite without the records themselves, which may be large."""
    create(path)
    insert(path, *["2026-11-19T04:00:00Z", "2026-11-19T04:00:00+00:00"] * 5, note="x" * 300_000)
    source = source_of(path)
    one = replace(whole_day(source), first=False)
    statements: list[str] = []
    with source._snapshot() as snapshot:
        snapshot.connection.set_trace_callback(statements.append)
        assert sum(map(len, snapshot.blocks(one, snapshot.layout(None), 2_000))) == 10
    sorting = [made for made in statements if "ORDER BY" in made and "EXPLAIN" not in made]
    by_key = [statement for statement in sorting if "|| substr" in statement.partition("ORDER BY")[2]]
    assert len(by_key) == 2
    assert all(statement.startswith('SELECT "id" FROM') for statement in by_key)


@pytest.mark.parametrize("block_rows", [1, 2, 3])
def test_records_of_one_key_stay_in_one_block(path: Path, block_rows: int) -> None:
    """Where a query gives two records one key, no block ends between them: a part might end there."""
    create(path)
    insert(path, *(f"2026-11-19T04:00:0{second}Z" for second in range(4)))
    insert(path, "soon", "later")
    query = "SELECT * FROM t UNION ALL SELECT * FROM t UNION ALL SELECT * FROM t"
    source = SqliteSource(path, roles=ROLES, query=query, block_rows=block_rows)
    blocks = [block for _, block in source.read([whole_day(source)], None)]
    assert [len(block) for block in blocks] == [3] * 6
    assert all(block.key(0) == block.key(2) for block in blocks)


@pytest.mark.parametrize("zones", [["Z"], ["Z", "+00:00"]], ids=["in_order", "sorted"])
@pytest.mark.parametrize("stop", ["close", "throw"])
def test_a_reading_that_stops_early_lets_go(
    path: Path, monkeypatch: pytest.MonkeyPatch, stop: str, zones: list[str]
) -> None:
    """Whoever still refers to what a stopped reading was made of, a writer can commit at once."""
    create(path, more="PRAGMA journal_mode = DELETE")
    insert(path, *[f"2026-11-19T04:00:00{zone}" for zone in zones] * 3)
    execute(path, "UPDATE t SET note = CAST(? AS TEXT) WHERE id = 1", b"caf\xe9")
    kept: list[object] = []
    for owner, names in (
        (Snapshot, ("blocks", "_on_time", "_selected", "_fetched", "_rows")),
        (Joining, ("blocks",)),
    ):
        for name in names:
            monkeypatch.setattr(owner, name, _keeping(kept, getattr(owner, name)))
    source = SqliteSource(path, roles=ROLES, table="t", block_rows=1)
    reading = source.read([whole_day(source)], None)
    next(reading)
    with pytest.raises(SourceBusy), translated(path), closing(sqlite3.connect(path, timeout=0)) as writer:
        writer.execute("DELETE FROM t").connection.commit()
    if stop == "close":
        reading.close()
    else:
        with pytest.raises(KeyboardInterrupt):
            reading.throw(KeyboardInterrupt())
    execute(path, "DELETE FROM t")
    assert kept


def _keeping(kept: list[object], function: Callable[..., object]) -> Callable[..., object]:
    def call(*args: object) -> object:
        kept.append(function(*args))
        return kept[-1]

    return call


def test_nothing_can_be_written(path: Path) -> None:
    """Even a query of the configuration cannot change the source."""
    source, _ = filled(path)
    with pytest.raises(SourceError, match="cannot be"):
        source.settings("DELETE FROM t")
    assert len(read(source, whole_day(source))) == 5


def test_settings_are_the_first_column_as_text(path: Path) -> None:
    """A query for exports gives one text a row, and nothing for a row that has none."""
    source, _ = filled(path)
    assert list(source.settings("SELECT account, id FROM t LIMIT 2")) == [b"acme", b"acme"]
    values = "VALUES (NULL), (7), (x'7b7d'), (CAST(x'ff' AS TEXT)), ('{}')"
    assert list(source.settings(values)) == [b"", b"", b"", b"\xff", b"{}"]


def plans(path: Path, one: Range) -> dict[Branch, str]:
    """How SQLite looks for each branch of a range."""
    with source_of(path)._snapshot() as snapshot:
        return {
            selection.branch: " ".join(
                detail
                for *_, detail in snapshot.connection.execute(
                    "EXPLAIN QUERY PLAN "
                    + snapshot.select("*", selection.condition, f"ORDER BY {selection.order}"),
                    selection.condition.values,
                )
            )
            for selection in (*snapshot._earlier(one), snapshot.on_time(one))
            if selection is not None
        }


@pytest.mark.parametrize("statement", ["SELECT 1", "ANALYZE"])
@pytest.mark.parametrize("account", ["TEXT", "TEXT COLLATE NOCASE", "INTEGER"])
def test_indexes_serve_every_branch(path: Path, account: str, statement: str) -> None:
    """A window comes unsorted from the index on time; new records from the index on the account."""
    _, seal = filled(path, COLUMNS.replace("account TEXT", f"account {account}"))
    for other in range(10):
        insert(path, *(f"2026-11-19T05:00:{second:02}Z" for second in range(60)), account=other)
    execute(path, statement)
    found = plans(path, Range("7", DAY, seal, seal))
    by_id = "SEARCH records USING INDEX by_account (account=? AND rowid>? AND rowid<?)"
    assert found[Branch.ON_TIME] == "SEARCH records USING INDEX by_time (account=? AND time>? AND time<?)"
    assert found[Branch.UNREADABLE] == by_id
    assert found[Branch.LATE].startswith(by_id)


def test_new_records_alone_are_searched_without_an_index_on_the_account(path: Path) -> None:
    """Without that index the new ids are walked, never the whole history of the account."""
    create(path, more="CREATE INDEX by_time ON t (account, time, id);")
    insert(path, "2026-11-19T04:00:00Z")
    seal = source_of(path).seal()
    found = plans(path, Range("acme", DAY, seal, seal))
    assert found[Branch.UNREADABLE] == "SEARCH records USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"


# --- What is wrong with a file ---------------------------------------------------------------------


def test_a_missing_file_is_named(path: Path) -> None:
    """No database: the message names it and none is made."""
    with pytest.raises(SourceError, match=r"there is no database .*audit\.db") as raised:
        source_of(path).seal()
    assert "source.url" in raised.value.hint
    assert not path.exists()


def test_a_folder_is_no_database(tmp_path: Path) -> None:
    """A folder is called one."""
    with pytest.raises(SourceError, match="is not a file"):
        source_of(tmp_path).columns()


def test_a_file_of_something_else_is_no_database(path: Path) -> None:
    """A file that SQLite did not write is called that."""
    path.write_text("created,account\n" * 100)
    with pytest.raises(SourceError, match="is not a SQLite database"):
        source_of(path).columns()


def test_a_damaged_file_is_called_damaged(path: Path) -> None:
    """Broken pages raise SourceError with the way to look into it."""
    create(path)
    insert(path, *["2026-11-19T04:00:00Z"] * 2_000, note="x" * 100)
    execute(path, "PRAGMA wal_checkpoint(TRUNCATE)")
    stored = path.read_bytes()
    path.write_bytes(stored[:8_192] + b"\xff" * (len(stored) - 8_192))
    with pytest.raises(SourceError, match="is damaged") as raised:
        read(source_of(path), Range("acme", DAY, NOTHING, NOTHING, first=True))
    assert "integrity_check" in raised.value.hint


def test_no_permission_is_called_that(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that must not be looked at raises SourceError with the rights that are needed."""

    def refuse(_: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(path), "is_file", refuse)
    with pytest.raises(SourceError, match="Permission denied") as raised:
        source_of(path).columns()
    assert "must be able to read the file" in raised.value.hint


def test_a_locked_database_is_busy(path: Path) -> None:
    """A writer that does not let go raises SourceBusy after a bounded wait."""
    create(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("PRAGMA journal_mode = DELETE")
        writer.execute("BEGIN EXCLUSIVE")
        with pytest.raises(SourceBusy, match="is locked by a writer") as raised:
            source_of(path).seal()
    assert "WAL" in raised.value.hint
    assert source_of(path).seal()["id"] == 0


@pytest.mark.parametrize(
    ("made", "message", "hint"),
    [
        (lambda path: source_of(path, table="tt"), "no table 'tt'", "did you mean 't'?"),
        (lambda path: source_of(path, table="audit"), "no table 'audit'", "it has the tables t"),
        (
            lambda path: source_of(path, roles=replace(ROLES, time="Time")),
            "no column 'Time'",
            "did you mean 'time'?",
        ),
        (
            lambda path: source_of(path, roles=replace(ROLES, account="x")),
            "no column 'x'",
            "it has the columns id",
        ),
        (
            lambda path: source_of(path, roles=replace(ROLES, id="note")),
            "'note' of 't' is not an INTEGER",
            "AUTOINC",
        ),
        (
            lambda path: source_of(path, table=None, query="SELECT 1 AS id"),
            "no column 'time'",
            "it has the columns id",
        ),
        (
            lambda path: source_of(path, table=None, query="SELECT 1 FORM t"),
            "cannot be read: near",
            "source.query",
        ),
        (
            lambda path: source_of(path, table=None, query="SELECT 'a' AS id, time, account FROM t"),
            "the ids of the records are no integers: 'a'",
            "columns.id",
        ),
    ],
)
def test_wrong_names_are_named_with_the_nearest_right_one(
    path: Path, made: Callable[[Path], SqliteSource], message: str, hint: str
) -> None:
    """A table, column or query that will not do is named, with what was probably meant."""
    filled(path)
    with pytest.raises(SourceError, match=re.escape(message)) as raised:
        made(path).seal()
    assert hint in raised.value.hint


@pytest.mark.parametrize(
    "columns",
    [
        "id TEXT PRIMARY KEY, time TEXT, account TEXT",
        "id INT PRIMARY KEY, time TEXT, account TEXT",
        "id INTEGER PRIMARY KEY DESC, time TEXT, account TEXT",
        "id INTEGER, time TEXT, account TEXT, PRIMARY KEY (id, account)",
        "id INTEGER UNIQUE, time TEXT, account TEXT",
        "id INTEGER PRIMARY KEY, time TEXT, account TEXT) WITHOUT ROWID; CREATE TABLE other (x",
    ],
)
def test_only_the_row_id_is_a_position(path: Path, columns: str) -> None:
    """A column that does not grow by itself as records appear cannot be the id."""
    create(path, columns, "")
    with pytest.raises(SourceError, match="is not an INTEGER PRIMARY KEY"):
        source_of(path).seal()


# --- Check -----------------------------------------------------------------------------------------


def warnings(found: list[Finding] | tuple[Finding, ...]) -> list[str]:
    return [finding.message for finding in found if finding.level is not Level.OK]


def test_a_good_source_raises_no_finding(path: Path) -> None:
    """With WAL, AUTOINCREMENT, both indexes and readable times there is nothing to warn of."""
    source, _ = filled(path)
    found = list(source.check(["acme"]))
    assert warnings(found) == []
    assert "AUTOINCREMENT" in found[0].message


def test_check_says_what_is_not_right(path: Path) -> None:
    """Reused ids, the journal, missing indexes, strange and future times and unknown accounts are found."""
    create(path, REUSED, more="PRAGMA journal_mode = DELETE")
    insert(path, "2026-11-19T11:59:59Z", "2026-11-19 12:00:01", "2027-01-01T00:00:00Z", "soon")
    found = list(source_of(path).check(["acme", "acmee", "ACME"]))
    assert warnings(found) == [
        "id is not AUTOINCREMENT: the id of a deleted newest record is used again",
        "the journal mode is delete: while an export reads, the application cannot write",
        "1 of the newest 4 records have an unreadable time",
        "no index leads from an account to its newest records",
        "no index leads from an account to a window of time",
        "2 records are dated in the future",
        "no record yet of 'acmee', 'ACME'",
    ]
    assert all(finding.hint for finding in found)


def test_check_looks_through_views_and_queries(path: Path) -> None:
    """Of a query check says that ids cannot be vouched for, when they are not unique, and what to index."""
    create(path, more="")
    insert(path, "2026-11-19T04:00:00Z")
    source = source_of(path, table=None, query="SELECT * FROM t UNION ALL SELECT * FROM t")
    found = list(source.check([]))
    assert warnings(found) == [
        "nobody can say whether the ids of a view or a query are used again",
        "several records have one id",
        "no index leads from an account to a window of time",
    ]
    assert found[-1].hint == "index the table behind the view or query on (account, time, id)"
    execute(path, "CREATE INDEX by_time ON t (account, time, id)")
    assert "index" not in [
        finding.subject for finding in source_of(path, table=None, query="SELECT * FROM t").check([])
    ]
