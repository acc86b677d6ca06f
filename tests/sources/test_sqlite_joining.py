"""Columns that SQLite joins: the same JSON as row by row, whatever is stored, in the same order."""

from __future__ import annotations

import base64
import json
import sqlite3
import threading
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.columns import SEPARATOR, Roles, TextTimes
from exporter.errors import SourceError
from exporter.model import Branch, Range, Seal, Window
from exporter.sources.sqlite import SqliteSource
from exporter.sources.sqlite import ahead as module
from exporter.sources.sqlite.joined import NULL, ODD, JoinedBlock
from exporter.sources.sqlite.joining import _PIECES_AHEAD, Joining
from exporter.sources.sqlite.snapshot import Snapshot
from tests.kit import sqlite_values

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from exporter.interfaces import Block
    from exporter.model import Key

ROLES = Roles(id="id", time="time", account="account")
DECLARED = ("TEXT", "INTEGER", "REAL", "JSON", "", "VARCHAR(9) COLLATE NOCASE", "DATETIME")
NAMES = tuple(f"c{index}" for index in range(len(DECLARED)))
START = datetime(2026, 11, 18, 23, 59, 58, tzinfo=UTC)
WINDOW = Window(START, START + timedelta(hours=5))
_JSON = st.sampled_from(
    ['{"a": [1, "x"]}', '{\n\t"a":\r1}', "[1", "2]", "1,2", '"a","b"', "null", " 7 ", "NaN", "", '"\\ud800"']
)
_TEXT = st.text(max_size=6) | st.sampled_from(
    ['"', "\\", '",', "\x00", "\n\r\t\b\f\v", "\x1f", "\x7f", "\u2028\u2029\x85", "é😀", "12", "1e3", "null"]
)
_VALUE = sqlite_values.values(_TEXT | _JSON)
_FORMS = ("{0:%Y-%m-%dT%H:%M:%S}.{1:06}Z", "{0:%Y-%m-%d %H:%M:%S}", "{0:%Y-%m-%dT%H:%M:%S}.{1:06}000+00:00")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.db"


def fill(path: Path, rows: Sequence[Sequence[object]], *more: str) -> None:
    """A table of the given times and values, some of which, marked by a tuple, are texts of any bytes."""
    columns = ", ".join(f"{name} {declared}" for name, declared in zip(NAMES, DECLARED, strict=True))
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in more:
            connection.execute(statement)
        connection.execute("DROP TABLE IF EXISTS t")
        connection.execute(f"CREATE TABLE t (id INTEGER PRIMARY KEY, time DATETIME, account TEXT, {columns})")
        connection.execute("CREATE INDEX by_time ON t (account, time, id)")
        for row in rows:
            values = ["acme" if index == 1 else value for index, value in enumerate((row[0], None, *row[1:]))]
            fields = ["CAST(? AS TEXT)" if isinstance(value, bytearray) else "?" for value in values]
            padded = [*fields, *["NULL"] * (len(NAMES) + 2 - len(fields))]
            connection.execute(f"INSERT INTO t VALUES (NULL, {', '.join(padded)})", values)


def source_of(path: Path, block_rows: int = 2_000) -> SqliteSource:
    return SqliteSource(path, roles=ROLES, table="t", block_rows=block_rows)


def blocks(source: SqliteSource, previous: Seal | None = None) -> list[Block]:
    seal = source.seal()
    return [block for _, block in source.read([Range("acme", WINDOW, seal, previous)], None)]


def at(offset: timedelta, form: str = _FORMS[0]) -> str:
    moment = START + offset
    return form.format(moment, moment.microsecond)


# --- The reference: one value at a time ------------------------------------------------------------


def value_json(value: object, *, is_json: bool) -> bytes:
    if isinstance(value, bytes):
        return b'"%b"' % base64.b64encode(value)
    if isinstance(value, str) and is_json:
        try:
            json.loads(value, parse_constant=lambda _: json.loads("{"))
        except ValueError:
            return value_json(value, is_json=False)
        found = value.encode().translate(bytes.maketrans(b"\r\n\t", b"   "))
    else:
        found = orjson.dumps(value)
    for letter in "\u2028\u2029\x85":
        found = found.replace(letter.encode(), b"\\u%04x" % ord(letter))
    return found


def reference(path: Path) -> list[tuple[Key, str, list[bytes]]]:
    """Key, instant and values of each record, as SQLite's driver gives them and orjson writes them."""
    times = TextTimes()
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT * FROM t").fetchall()
    found = [
        (
            (times.key(row[1]), row[0]),
            times.instant(row[1]),
            [
                value_json(value, is_json=declared == "JSON")
                for value, declared in zip(row, ("", "", "", *DECLARED), strict=True)
            ],
        )
        for row in rows
    ]
    return sorted(found, key=lambda one: one[0])


def seen(found: Sequence[Block]) -> list[tuple[Key, str, list[bytes]]]:
    records = []
    for block in found:
        assert block.belongs_to("acme")
        assert not block.belongs_to("acme ")
        columns = list(zip(*(column.json() for column in block.columns.values()), strict=True))
        instants = block.columns["time"].instants()
        for index, values in enumerate(columns):
            assert block.id(index).encode() == values[0]
            records.append((block.key(index), orjson.loads(instants[index]), list(values)))
    return records


_OFFSETS = st.timedeltas(timedelta(0), timedelta(seconds=5)) | st.sampled_from(
    [timedelta(0), timedelta(seconds=2), timedelta(milliseconds=1500), timedelta(hours=1)]
)
_TIMES = st.builds(at, _OFFSETS) | st.builds(at, _OFFSETS, st.sampled_from(_FORMS))


@settings(deadline=None, max_examples=60)
@given(
    rows=st.lists(st.tuples(_TIMES, *[_VALUE] * len(NAMES)), max_size=9)
    | st.lists(st.tuples(st.builds(at, _OFFSETS), _TEXT, st.integers(0, 9)), max_size=40),
    block_rows=st.sampled_from([1, 2, 5, 100]),
)
def test_what_is_read_is_what_is_stored(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[object, ...]], block_rows: int
) -> None:
    """Any value of any type in any column, at any time: the same JSON, keys and order as one by one."""
    path = tmp_path_factory.mktemp("joining") / "audit.db"
    fill(path, rows)
    assert seen(blocks(source_of(path, block_rows))) == reference(path)


@settings(deadline=None, max_examples=40)
@given(values=st.lists(st.none() | _TEXT | _JSON, min_size=1, max_size=9), data=st.data())
def test_a_part_of_a_block_is_that_part_of_it(
    tmp_path_factory: pytest.TempPathFactory, values: list[str | None], data: st.DataObject
) -> None:
    """Picking and slicing joined records gives those records, as JSON, as strings and raw."""
    path = tmp_path_factory.mktemp("joining") / "audit.db"
    plain = [None if value is None else value.replace("\x1f", "") for value in values]
    fill(
        path, [(at(timedelta(seconds=1)), value, 7, None, orjson.dumps([value]).decode()) for value in plain]
    )
    (block,) = blocks(source_of(path))
    assert isinstance(block, JoinedBlock)
    picked = data.draw(st.lists(st.integers(0, len(block) - 1), unique=True).map(sorted))
    some = block.pick(picked)
    assert len(some) == len(picked)
    for name, column in block.columns.items():
        assert some.columns[name].json() == [column.json()[index] for index in picked]
        assert some.columns[name].strings() == [column.strings()[index] for index in picked]
    assert some.columns["c0"].json() == [orjson_of(plain[index]) for index in picked]
    cut = block.slice(1, len(block))
    assert [cut.key(index) for index in range(len(cut))] == [block.key(i) for i in range(1, len(block))]
    for index in range(len(block)):
        assert json.loads(block.raw(index))["c0"] == plain[index]


def orjson_of(value: object) -> bytes:
    return value_json(value, is_json=False)


# --- What is joined, and what is not ---------------------------------------------------------------


def usual(count: int, *values: object) -> list[tuple[object, ...]]:
    return [(at(timedelta(milliseconds=index)), *values) for index in range(count)]


@pytest.mark.parametrize("odd", [b"blob", 1.5, bytearray(b"caf\xe9"), "a\x1fb"])
def test_odd_values_are_read_row_by_row_alone(path: Path, odd: object) -> None:
    """A value that cannot be joined costs its own block its speed, and neither that nor others a record."""
    rows = usual(12, "plain", 7, None, "{}")
    rows[5] = (rows[5][0], odd if not isinstance(odd, float) else "x", 7, None, "{}", odd)
    fill(path, rows)
    found = blocks(source_of(path, block_rows=4))
    assert [block.id(row) for block in found for row in range(len(block))] == [str(n) for n in range(1, 13)]
    assert isinstance(found[0], JoinedBlock)
    assert not isinstance(found[1], JoinedBlock)
    assert isinstance(found[-1], JoinedBlock)


def test_what_is_odd_again_and_again_is_read_once(path: Path) -> None:
    """Numbers with a fraction in every record: after a few tries the rest is not even tried to be joined."""
    fill(path, usual(40, "x", 1, 0.5))
    source = source_of(path, block_rows=2)
    statements: list[str] = []
    one = Range("acme", WINDOW, source.seal(), None)
    with source._snapshot() as snapshot:
        snapshot.connection.set_trace_callback(statements.append)
        assert sum(map(len, snapshot.blocks(one, snapshot.layout(None), 2))) == 40
    joins = [made for made in statements if "count(*), CAST(group_concat" in made and "EXPLAIN" not in made]
    assert len(joins) == 4


def test_integers_in_a_column_without_a_type_are_joined_from_the_second_block_on(path: Path) -> None:
    """What a column holds is learnt from the first block that holds something else than was thought."""
    fill(path, usual(12, None, None, None, None, 5))
    found = blocks(source_of(path, block_rows=4))
    assert [isinstance(block, JoinedBlock) for block in found] == [False, True, True]
    assert [one for block in found for one in block.columns["c4"].json()] == [b"5"] * 12


def test_integers_stay_integers_behind_a_text_in_their_column(path: Path) -> None:
    """A column of integers that had a text in one block may have integers in the next: they are no texts."""
    fill(path, usual(2, "x", "a text") + usual(2, "x", 5))
    found = blocks(source_of(path, block_rows=1))
    assert sorted(one for block in found for one in block.columns["c1"].json()) == [
        *[b'"a text"'] * 2,
        b"5",
        b"5",
    ]


def test_texts_in_utf_16_are_read_row_by_row(path: Path) -> None:
    """Where SQLite would turn marks of bytes into characters, none are made."""
    fill(path, usual(3, "é", None), "PRAGMA encoding = 'UTF-16'")
    found = blocks(source_of(path))
    assert not any(isinstance(block, JoinedBlock) for block in found)
    assert [one for block in found for one in block.columns["c0"].json()] == ['"é"'.encode()] * 3


def test_a_whole_second_goes_before_its_fractions_across_blocks(path: Path) -> None:
    """A time of another form sorts before what stands before it in the index: also behind a block's end."""
    later = [at(timedelta(seconds=3, microseconds=index)) for index in range(4)]
    fill(path, [(time,) for time in (*later, f"{at(timedelta(seconds=3))[:19]}Z", at(timedelta(seconds=4)))])
    found = blocks(source_of(path, block_rows=2))
    assert [block.id(row) for block in found for row in range(len(block))] == ["1", "5", "2", "3", "4", "6"]


@pytest.mark.parametrize(
    "time",
    [
        "2026-11-19T00:61:00.000000Z",
        "2026-11-18T24:00:00.000000Z",
        "2026-11-19T00:00:61.000000Z",
        "2026-11-19T0a:00:00.000000Z",
        "2026-11-19T00:00:00.000000Z\0",
    ],
)
def test_times_of_no_calendar_are_not_on_time(path: Path, time: str) -> None:
    """A time that only looks right goes out as unreadable, and does not stop those around it."""
    fill(path, [*[(one,) for (one,) in usual(4)], (time,), (at(timedelta(hours=4)),)])
    nothing: Seal = {"kind": "sqlite", "id": 0, "anchor_id": None, "anchor": None}
    for block_rows in (2, 100):
        found = blocks(source_of(path, block_rows), nothing)
        branches = {block.id(row): block.branch for block in found for row in range(len(block))}
        assert branches == {str(n): Branch.UNREADABLE if n == 5 else Branch.ON_TIME for n in range(1, 7)}


def test_large_values_do_not_come_joined(path: Path) -> None:
    """SQLite gives up joining before it takes the memory; around large records they are joined again."""
    rows = usual(300, "x")
    for index in range(100, 110):
        rows[index] = (rows[index][0], "x" * 400_000)
    fill(path, rows)
    found = blocks(source_of(path, block_rows=100))
    assert sum(map(len, found)) == 300
    assert isinstance(found[0], JoinedBlock)
    assert isinstance(found[-1], JoinedBlock)
    largest = max(len(b"".join(block.columns["c0"].json())) for block in found)
    assert largest < 4_500_000


# --- The thread ------------------------------------------------------------------------------------


def threads() -> list[str]:
    return [one.name for one in threading.enumerate() if one.name.startswith("sqlite")]


def test_a_few_records_start_no_thread(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of small accounts do not pay for what makes a large one fast."""
    monkeypatch.setattr(module, "ThreadPoolExecutor", None)
    fill(path, usual(5))
    assert sum(map(len, blocks(source_of(path)))) == 5


def test_a_reading_that_stops_early_ends_its_thread(path: Path) -> None:
    """Whoever closes a reading while SQLite is joining the next block gets the file back at once."""
    fill(path, usual(50, "x"), "PRAGMA journal_mode = DELETE")
    source = source_of(path, block_rows=2)
    reading = source.read([Range("acme", WINDOW, source.seal(), None)], None)
    next(reading)
    assert threads()
    reading.close()
    assert not threads()
    with closing(sqlite3.connect(path, timeout=0)) as writer, writer:
        writer.execute("DELETE FROM t")


def test_a_search_that_takes_long_is_interrupted(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody who closes a reading waits until SQLite has found the next block."""
    fill(path, usual(50, "x"))
    source, real, begun = source_of(path, block_rows=2), Joining._next, threading.Event()

    def endless(self: Joining, after: Any) -> Any:  # noqa: ANN401 - as the real one
        if after is None:
            return real(self, after)
        connection = self._records.connection
        connection.set_progress_handler(begun.set, 1_000)
        numbers = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"
        return connection.execute(f"{numbers} SELECT max(i) FROM n").fetchone()

    monkeypatch.setattr(Joining, "_next", endless)
    reading = source.read([Range("acme", WINDOW, source.seal(), None)], None)
    next(reading)
    assert begun.wait(timeout=60)
    reading.close()
    assert not threads()


def test_sqlite_runs_a_few_pieces_ahead_and_no_more(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It need not wait for whoever works on the first one; what waits is memory."""
    fill(path, usual(50, "x"))
    source, real, read = source_of(path, block_rows=2), Joining._next, threading.Semaphore(0)

    def counted(self: Joining, after: Any) -> Any:  # noqa: ANN401 - as the real one
        piece = real(self, after)
        read.release()
        return piece

    monkeypatch.setattr(Joining, "_next", counted)
    reading = source.read([Range("acme", WINDOW, source.seal(), None)], None)
    next(reading)
    for _ in range(1 + _PIECES_AHEAD):
        assert read.acquire(timeout=60)
    assert not read.acquire(timeout=0.1)
    next(reading)
    assert read.acquire(timeout=60)
    assert not read.acquire(timeout=0.1)
    assert sum(len(block) for _, block in reading) == 50 - 2 * 2
    assert not threads()


def test_nothing_is_read_behind_a_piece_that_failed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read before it comes first; then its error, and no record that was left out."""
    fill(path, usual(50, "x"))
    source, real, asked = source_of(path, block_rows=2), Joining._next, 0

    def fails_once(self: Joining, after: Any) -> Any:  # noqa: ANN401 - as the real one
        nonlocal asked
        asked += 1
        if asked == 3:
            raise sqlite3.OperationalError("disk I/O error")
        return real(self, after)

    monkeypatch.setattr(Joining, "_next", fails_once)
    reading, found = source.read([Range("acme", WINDOW, source.seal(), None)], None), 0
    with pytest.raises(SourceError, match="disk I/O error"):  # noqa: PT012 - what came before is looked at
        for _, block in reading:
            found += len(block)
    assert (found, asked) == (2 * 2, 3)
    assert not threads()


def test_what_goes_wrong_in_the_thread_is_said(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of SQLite in a block that is joined ahead ends the reading as any other does."""
    fill(path, usual(50, "x"))
    source = source_of(path, block_rows=2)

    def fail(*_: object) -> Iterator[object]:
        raise sqlite3.OperationalError("disk I/O error")

    reading = source.read([Range("acme", WINDOW, source.seal(), None)], None)
    next(reading)
    monkeypatch.setattr(Snapshot, "is_in_order", fail)
    with pytest.raises(SourceError, match="disk I/O error"):
        list(reading)
    assert not threads()


def test_the_separator_is_no_character_of_a_mark() -> None:
    """Marks can be told from values, and from what stands between them."""
    assert SEPARATOR not in NULL + ODD
    assert NULL[:1] != ODD
    for mark in (NULL, ODD):
        with pytest.raises(UnicodeDecodeError):
            mark.decode()
