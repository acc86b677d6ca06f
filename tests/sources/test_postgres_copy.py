"""Rows of COPY become JSON that says what PostgreSQL says, whatever they hold; and blocks of them.

The expected JSON is made value by value, with nothing of the product; the last tests ask PostgreSQL itself.
"""

from __future__ import annotations

import base64
import json
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from itertools import count, pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg import sql

from exporter.columns import NumberTimes, Roles
from exporter.formats.mapping import MappedFormat, NativeFormat
from exporter.model import Branch, flat_mapping
from exporter.sources.postgres import relation
from exporter.sources.postgres import values as postgres_values
from exporter.sources.postgres.connection import Database, PostgresOptions
from exporter.sources.postgres.copy import CopyBlock, CopyColumn, CopyLayout, Kind, blocks, key_of
from tests.kit import reference
from tests.kit.postgres import Postgres, postgres_binaries, postgres_server, shared_postgres, version_of
from tests.kit.reference import JsonText

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import psycopg

ROLES = Roles(id="id", time="time", account="account")
TIME = "2026-11-19 04:00:00.123+00"


# --- COPY by hand -----------------------------------------------------------------------------------

_ESCAPES = {"\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v"}


def copied(value: str | bytes | None) -> bytes:
    """A value as COPY writes it, character by character."""
    if value is None:
        return rb"\N"
    text = value.decode("latin-1") if isinstance(value, bytes) else value
    written = "".join(_ESCAPES.get(char, char) for char in text)
    return written.encode("latin-1" if isinstance(value, bytes) else "utf-8")


def row(*values: str | bytes | None) -> bytes:
    return b"\t".join(map(copied, values)) + b"\n"


def layout_of(*kinds: Kind, **other: Any) -> CopyLayout:  # noqa: ANN401 - fields of the layout
    """Columns id, time and account, then one of each kind, by its number, which alone are shown."""
    names = [str(number) for number in range(len(kinds))]
    columns = (
        CopyColumn("id", Kind.INTEGER),
        CopyColumn("time", Kind.TIMESTAMPTZ),
        CopyColumn("account", Kind.TEXT),
        *(CopyColumn(name, kind) for name, kind in zip(names, kinds, strict=True)),
    )
    return replace(CopyLayout(columns, tuple(names), ROLES), **other)


def block_of(kinds: Sequence[Kind], rows: Sequence[Sequence[str | bytes | None]], **other: Any) -> CopyBlock:  # noqa: ANN401 - fields of the layout
    """A block of one account's records; a row has the values of the columns that are shown."""
    full = [row(str(number), TIME, "acme", *values) for number, values in enumerate(rows, 1)]
    return CopyBlock(Branch.ON_TIME, layout_of(*kinds, **other), full)


def as_json(kind: Kind, *values: str | bytes | None) -> list[str]:
    (column,) = block_of([kind], [[value] for value in values]).columns.values()
    return [fragment.decode() for fragment in column.json()]


def as_strings(kind: Kind, *values: str | bytes | None) -> list[str]:
    (column,) = block_of([kind], [[value] for value in values]).columns.values()
    return [fragment.decode() for fragment in column.strings()]


# --- Every kind -------------------------------------------------------------------------------------


class Value(NamedTuple):
    """A value's text in PostgreSQL, and the JSON it has to become."""

    text: str | None
    json: str
    string: str


NASTY = (
    *(
        "",
        "\\N",
        "\\",
        "\\\\",
        "a\\",
        "\\N\\N",
        '"',
        '\\"',
        '"\\N"',
        'a"',
        "null",
        "\\v",
        "\v",
        "\\\v",
        "\v\\v",
    ),
    *(
        "\t",
        "\n",
        "\r\n",
        "a\tb\nc",
        "\b\f",
        "\x01\x1f",
        "\x7f",
        "\\u0000",
        "\\n",
        "\\t\t",
        "\u2028",
        "\u2029",
    ),
    *(
        "\x85",
        "é\u0085",
        "\\\u2028",
        "“\xa8”\xa9",
        "😀",
        "\ufeff",
        "\x1b[0m",
        "\x1c\x1d\x1e",
        "{}",
        "\\.",
        " ",
    ),
    *("v\\", "\\\nv", "N", "Nv", "à\x80é\xa8", "\xe2\x80\xa8", "\ud7ff\ue000\uffff"),
)
_CHARACTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
TEXTS = (
    st.text(_CHARACTERS)
    | st.sampled_from(NASTY)
    | st.lists(st.sampled_from(NASTY)).map("".join)
    | st.text(st.sampled_from('\\vNn"\t\n\v\b\x01\u2028\x85é'))
)


def a_text(text: str) -> Value:
    return Value(text, reference.json_of(text), reference.json_of(text))


def a_number(text: str) -> Value:
    return Value(text, text, f'"{text}"')


def a_time(moment: datetime, zone: str) -> Value:
    day, second = moment.date().isoformat(), moment.time().isoformat()
    whole, _, digits = second.partition(".")
    shown = f'"{day}T{whole}.{digits:0<6}{"Z" if zone else ""}"'
    return Value(f"{day} {second.rstrip('0') if digits else second}{zone}", shown, shown)


def json_document(document: object, indent: int | str | None) -> Value:
    text = json.dumps(document, indent=indent, ensure_ascii=False)
    return Value(text, reference.json_of(JsonText(text)), reference.json_of(text))


def some_bytes(data: bytes) -> Value:
    shown = reference.json_of(data)
    return Value(f"\\x{data.hex()}", shown, shown)


_ODD_TIMES = (
    *("infinity", "-infinity", "0044-03-15 00:00:00{} BC", "294276-12-31 23:59:59.999999{}"),
    *("10000-01-01 00:00:00.12345{}", "10000-01-01 00:00:00{}", "4714-11-24 00:00:00.5{} BC"),
)
_FINITE = st.floats(allow_nan=False, allow_infinity=False)
_DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | _FINITE | TEXTS,
    lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner),
    max_leaves=5,
)


def times(zone: str) -> st.SearchStrategy[Value]:
    odd = st.sampled_from([a_text(text.format(zone)) for text in _ODD_TIMES])
    usual = st.datetimes().map(lambda moment: a_time(moment, zone))
    return (
        usual
        | usual
        | usual
        | st.datetimes().map(lambda when: a_time(when.replace(microsecond=0), zone))
        | odd
    )


VALUES: dict[Kind, st.SearchStrategy[Value]] = {
    Kind.INTEGER: st.integers().map(str).map(a_number),
    Kind.NUMBER: st.sampled_from(["0.00", "1e+300", "-1.5e-07"]).map(a_number)
    | _FINITE.map(repr).map(a_number)
    | st.decimals(allow_nan=False, allow_infinity=False).map(lambda number: a_number(f"{number:f}"))
    | st.sampled_from(["NaN", "Infinity", "-Infinity"]).map(a_text),
    Kind.BOOLEAN: st.sampled_from([Value("t", "true", '"true"'), Value("f", "false", '"false"')]),
    Kind.JSON: st.builds(json_document, _DOCUMENTS, st.sampled_from([None, 1, "\t", "\r\n"])),
    Kind.BYTES: st.binary().map(some_bytes),
    Kind.TIMESTAMPTZ: times("+00"),
    Kind.TIMESTAMP: times(""),
    Kind.DATE: st.dates().map(lambda day: a_text(day.isoformat()))
    | st.sampled_from(["infinity", "-infinity", "0044-03-15 BC", "5874897-12-31"]).map(a_text),
    Kind.CODE: (st.uuids() | st.ip_addresses()).map(str).map(a_text)
    | st.sampled_from(["10.0.0.0/8", "::/0", "18446744073709551615", "08:00:2b:01:02:03"]).map(a_text),
    Kind.TEXT: TEXTS.map(a_text),
}
_RECORDS = st.lists(st.tuples(*(VALUES[kind] | st.just(Value(None, "null", "null")) for kind in Kind)))


@settings(deadline=None)  # a busy machine is no reason to fail
@given(_RECORDS)
def test_every_value_of_every_kind_becomes_its_json(records: list[tuple[Value, ...]]) -> None:
    """Columns of all kinds side by side hold exactly the fragments that a plain encoder makes."""
    block = block_of(list(Kind), [[value.text for value in record] for record in records])
    assert len(block) == len(records)
    for number, column in enumerate(block.columns.values()):
        assert [each.decode() for each in column.json()] == [record[number].json for record in records]
        assert [each.decode() for each in column.strings()] == [record[number].string for record in records]


@settings(deadline=None)  # a busy machine is no reason to fail
@given(_RECORDS)
def test_lines_equal_those_of_the_plain_encoder(records: list[tuple[Value, ...]]) -> None:
    """Through a format, blocks give byte for byte the lines of the reference, each of them one line."""
    block = block_of(list(Kind), [[value.text for value in record] for record in records])
    expected = [reference.line((str(n), value.json) for n, value in enumerate(record)) for record in records]
    assert NativeFormat().encode(block) == b"".join(expected)
    assert all(len(line.decode().splitlines()) == 1 for line in expected)


@pytest.mark.parametrize("text", NASTY)
@pytest.mark.parametrize("beside", ["plain", None, "\\v\v"])
def test_nasty_texts(text: str, beside: str | None) -> None:
    """Each text that ever fooled a fast path, between neighbours that take it or leave it."""
    expected = [reference.json_of(value) for value in (beside, text, beside)]
    assert as_json(Kind.TEXT, beside, text, beside) == expected
    assert as_strings(Kind.JSON, beside, text, beside) == expected


def test_null_is_no_text() -> None:
    r"""NULL and the text ``\N`` are told apart in every position."""
    assert as_json(Kind.TEXT, None, "\\N", "", None) == ["null", r'"\\N"', '""', "null"]
    for kind in Kind:
        assert as_json(kind, None) == as_strings(kind, None) == ["null"]


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-19 04:00:00+01",
        "2026-11-19 04:00:00",
        "2026-11-19 04:00:00+00:30",
        "2026-11-19 04:00:00.1234567+00",
    ],
)
def test_a_time_of_another_form_is_never_called_utc(text: str) -> None:
    """Only a timestamp as PostgreSQL writes it in UTC gets a Z; a column with any other has no instants."""
    assert "Z" not in "".join(as_json(Kind.TIMESTAMPTZ, text.replace(" ", "T"), text))
    block = CopyBlock(Branch.ON_TIME, layout_of(shown=("time",)), [row("1", TIME, ""), row("2", text, "")])
    with pytest.raises(ValueError, match="unreadable"):
        block.columns["time"].instants()
    assert block.slice(0, 1).columns["time"].instants() == [b'"2026-11-19T04:00:00.123000Z"']


@pytest.mark.parametrize("text", ["abc", "\\x6", "\\xzz", "\\000abc"])
def test_bytes_in_another_form_are_refused(text: str) -> None:
    """Bytes that are not in hexadecimal form are a mistake of the session: no others come of them."""
    with pytest.raises(ValueError, match=r"hex|Odd"):
        as_json(Kind.BYTES, text)


@pytest.mark.parametrize("kind", [Kind.TEXT, Kind.JSON])
@pytest.mark.parametrize("bad", [b'"caf\xe9"', b'"\xed\xa0\x80"', b'"\xff"', b'"\xc2"'])
def test_only_the_record_that_is_no_utf8_is_refused(kind: Kind, bad: bytes) -> None:
    """Where the server lets any byte in, a record that is not UTF-8 is refused and its neighbours are not."""
    block = block_of([kind], [['"café"'], [bad], ['"\x85"']], valid_utf8=False)
    for convert in ("json", "strings"):
        with pytest.raises(ValueError, match="not valid UTF-8"):
            getattr(block.columns["0"], convert)()
        with pytest.raises(ValueError, match="not valid UTF-8"):
            getattr(block.slice(1, 2).columns["0"], convert)()
        for start in (0, 2):
            assert len(getattr(block.slice(start, start + 1).columns["0"], convert)()) == 1


# --- Times and keys ---------------------------------------------------------------------------------


def timed(
    kind: Kind, text: str | None, unit: str | None = None, branch: Branch = Branch.ON_TIME
) -> CopyBlock:
    """A block of one record whose time column is of another kind."""
    columns = (CopyColumn("id", Kind.INTEGER), CopyColumn("time", kind), CopyColumn("account", Kind.TEXT))
    layout = CopyLayout(columns, ("time",), ROLES, None if unit is None else NumberTimes(unit))
    return CopyBlock(branch, layout, [row("7", text, "acme")])


@pytest.mark.parametrize(
    ("kind", "text", "key", "instant"),
    [
        (Kind.TIMESTAMPTZ, TIME, "2026-11-19 04:00:00.123000", "2026-11-19T04:00:00.123000Z"),
        (
            Kind.TIMESTAMPTZ,
            "0001-01-01 00:00:00+00",
            "0001-01-01 00:00:00.000000",
            "0001-01-01T00:00:00.000000Z",
        ),
        (
            Kind.TIMESTAMP,
            "9999-12-31 23:59:59.999999",
            "9999-12-31 23:59:59.999999",
            "9999-12-31T23:59:59.999999Z",
        ),
        (Kind.DATE, "2026-11-19", "2026-11-19 00:00:00.000000", "2026-11-19T00:00:00.000000Z"),
    ],
)
def test_times_have_keys_and_instants(kind: Kind, text: str, key: str, instant: str) -> None:
    """A time's key has six digits whatever PostgreSQL left out, and its instant is in UTC."""
    block = timed(kind, text)
    assert block.key(0) == (key, 7)
    assert block.columns["time"].instants() == [f'"{instant}"'.encode()]
    assert timed(kind, text, branch=Branch.UNREADABLE).key(0) == (None, 7)


@pytest.mark.parametrize("branch", list(Branch))
@pytest.mark.parametrize(
    "text", ["infinity", "0044-03-15 00:00:00+00 BC", "10000-01-01 00:00:00.12345+00", None]
)
def test_what_is_no_time_has_no_instant(text: str | None, branch: Branch) -> None:
    """There is no RFC 3339 time for a time before the year 1, after 9999, without end or not there."""
    for kind in (Kind.TIMESTAMPTZ, Kind.DATE):
        with pytest.raises(ValueError, match="unreadable"):
            timed(kind, text, branch=branch).columns["time"].instants()


def test_only_the_time_column_has_instants() -> None:
    """Another column of timestamps has none, nor has any record whose time is unreadable."""
    columns = block_of([Kind.TIMESTAMPTZ], [[TIME]]).columns
    with pytest.raises(ValueError, match="unreadable"):
        columns["0"].instants()
    with pytest.raises(ValueError, match="unreadable"):
        timed(Kind.TIMESTAMPTZ, TIME, branch=Branch.UNREADABLE).columns["time"].instants()


@given(st.datetimes(), st.datetimes())
def test_keys_of_times_sort_as_times(one: datetime, other: datetime) -> None:
    """Of two keys the lesser text is the earlier time."""
    first, second = (timed(Kind.TIMESTAMPTZ, a_time(each, "+00").text or "").key(0) for each in (one, other))
    assert (str(first[0]) < str(second[0])) is (one < other)


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@given(number=st.integers(-(10**9), 4 * 10**9), digits=st.text("0123456789", min_size=1, max_size=3))
def test_numeric_times_are_those_of_other_sources(unit: str, number: int, digits: str) -> None:
    """Integers and decimals become the instants that the same numbers become elsewhere."""
    whole = timed(Kind.INTEGER, str(number), unit)
    assert whole.columns["time"].instants() == [f'"{NumberTimes(unit).instant(number)}"'.encode()]
    assert whole.key(0) == (number, 7)
    if unit != "ns":
        expected = NumberTimes(unit).instant(float(f"{number}.{digits}"))
        part = timed(Kind.NUMBER, f"{number}.{digits}", unit)
        assert part.columns["time"].instants() == [f'"{expected}"'.encode()]


@pytest.mark.parametrize(
    ("text", "unit", "instant"),
    [
        ("1700000000.123456789", "s", "2023-11-14T22:13:20.123456789Z"),
        ("1700000000.12345678999999999999999999999999999999999", "s", "2023-11-14T22:13:20.123456789Z"),
        ("1.7000000001234567e+09", "s", "2023-11-14T22:13:20.1234567Z"),
        ("-0.25", "s", "1969-12-31T23:59:59.750000Z"),
        ("253402300799999999999", "ns", "9999-12-31T23:59:59.999999999Z"),
    ],
)
def test_no_digit_of_a_numeric_time_is_lost(text: str, unit: str, instant: str) -> None:
    """A number keeps its nanoseconds, which no float could, and nothing is rounded up."""
    assert timed(Kind.NUMBER, text, unit).columns["time"].instants() == [f'"{instant}"'.encode()]


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e+300", "253402300800", None])
def test_a_number_beyond_all_times_has_no_instant(text: str | None) -> None:
    """What no calendar has is unreadable, and not an error of another kind."""
    with pytest.raises(ValueError, match=r"unreadable|no number"):
        timed(Kind.NUMBER, text, "s").columns["time"].instants()


_DECIMALS = st.decimals(allow_nan=False, allow_infinity=False).filter(
    lambda number: abs(number.adjusted()) < 400
)


@given(_DECIMALS, st.integers(0, 5))
def test_equal_numbers_have_equal_keys(number: Decimal, zeros: int) -> None:
    """However PostgreSQL writes it, a number has one key, which is exactly that number, also after JSON."""
    text = f"{number:f}"
    longer = f"{text}{'' if '.' in text else '.'}{'0' * zeros}".removesuffix(".")
    key = postgres_values.number_key(text.encode())
    assert postgres_values.number_key(longer.encode()) == key
    assert type(postgres_values.number_key(longer.encode())) is type(key)
    assert Decimal(str(json.loads(json.dumps(key)))) == number


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("1.50", 1.5),
        ("-0", 0),
        ("-0.0", 0),
        ("2.000", 2),
        ("1e+15", 10**15),
        ("1e-07", 1e-07),
        ("1700000000.123456789", "1700000000.123456789"),
        ("9223372036854775808.0", "9223372036854775808"),
        ("NaN", "NaN"),
    ],
)
def test_number_keys_are_of_the_simplest_type(text: str, key: object) -> None:
    """An integer of up to 18 digits, a float where it is exact, else all of the digits."""
    found = postgres_values.number_key(text.encode())
    assert found == key
    assert type(found) is type(key)


@pytest.mark.parametrize(
    ("kind", "text", "key"),
    [
        (Kind.INTEGER, "-9223372036854775808", -(2**63)),
        (Kind.NUMBER, "10.00", 10),
        (Kind.TEXT, "a\tb\\N\v", "a\tb\\N\v"),
        (Kind.TEXT, "\\N", "\\N"),
        (Kind.TEXT, b"caf\xe9", "caf\udce9"),
        (Kind.BYTES, "\\x00ff", "\\x00ff"),
        (Kind.TIMESTAMPTZ, TIME, TIME),
    ],
)
def test_ids_of_any_kind(kind: Kind, text: str | bytes, key: object) -> None:
    """A key holds an integer id as a number and any other as its text; ids are shown as they are written."""
    layout = layout_of()
    layout = replace(layout, columns=(CopyColumn("id", kind), *layout.columns[1:]))
    block = CopyBlock(Branch.LATE, layout, [row("1", TIME, "acme"), row(text, TIME, "acme")])
    assert block.key(1) == ("2026-11-19 04:00:00.123000", key)
    assert block.id(1) == (text.decode(errors="surrogateescape") if isinstance(text, bytes) else text)


@pytest.mark.parametrize("kind", list(Kind))
def test_null_is_no_id(kind: Kind) -> None:
    """A record without an id has no place in an order, whatever the type."""
    layout = replace(layout_of(), columns=(CopyColumn("id", kind), *layout_of().columns[1:]))
    with pytest.raises(TypeError, match="NULL"):
        key_of(row(None, TIME, "acme"), Branch.ON_TIME, layout)


# --- Blocks -----------------------------------------------------------------------------------------


def in_pieces(rows: list[bytes], cuts: list[int]) -> Iterator[list[bytes]]:
    """The rows in pieces of these sizes, and the rest as one."""
    left = list(rows)
    for size in cuts:
        piece, left = left[:size], left[size:]
        if piece:
            yield piece
    if left:
        yield left


@given(st.lists(st.integers(0, 3), max_size=40), st.lists(st.integers(1, 9), max_size=20))
def test_blocks_hold_all_rows_and_end_between_keys(steps: list[int], cuts: list[int]) -> None:
    """Blocks join to all rows; each is a piece, but that rows of an equal key are never parted."""
    rows = [row(str(sum(steps[: index + 1])), TIME, "acme") for index in range(len(steps))]
    pieces = list(in_pieces(rows, cuts))
    found = list(blocks(iter(pieces), Branch.ON_TIME, layout_of(Kind.TEXT)))
    assert [each for block in found for each in block._rows] == rows
    assert all(one.key(len(one) - 1) != other.key(0) for one, other in pairwise(found))
    for block in found:
        apart = next(index for index in count() if block.key(index) == block.key(len(block) - 1))
        assert apart <= max(map(len, pieces))


def test_a_block_needs_one_piece_beyond_it_at_most() -> None:
    """Rows are taken when they are needed, so that no more than two pieces of them are ever held."""
    taken = 0

    def pieces() -> Iterator[list[bytes]]:
        nonlocal taken
        for taken in count(1):
            yield [row(str(taken), TIME, "acme")]

    found = blocks(pieces(), Branch.ON_TIME, layout_of(Kind.TEXT))
    assert taken == 0
    for number in range(1, 4):
        assert len(next(found)) == 1
        assert taken == number + 1


@pytest.mark.parametrize(("most_rows", "most_bytes"), [(1, 10**9), (7, 10**9), (10**9, 1), (10**9, 1_000)])
def test_rows_come_in_pieces_that_are_bounded(most_rows: int, most_bytes: int) -> None:
    """In number and, but for one row, in bytes; and all of them come, in order."""
    server = shared_postgres()
    database = Database(PostgresOptions(server.url(server.new_database())))
    select = sql.SQL("SELECT n, repeat('x', n) FROM generate_series(1, 100) AS n")
    with closing(database), database.reading() as session:
        pieces = list(session.copy(select, most_rows, most_bytes))
    assert b"".join(b"".join(piece) for piece in pieces) == b"".join(
        b"%d\t%b\n" % (n, b"x" * n) for n in range(1, 101)
    )
    assert all(0 < len(piece) <= most_rows for piece in pieces)
    assert all(sum(map(len, piece[:-1])) < most_bytes for piece in pieces)


def test_slices_are_blocks() -> None:
    """A part of a block is a block of these records and no others."""
    block = block_of([Kind.TEXT], [["a"], ["b"], ["c"]])
    assert block.slice(1, 3).columns["0"].json() == [b'"b"', b'"c"']
    assert block.slice(1, 3).key(0) == block.key(1)
    assert len(block.slice(1, 1)) == 0
    assert block.slice(1, 1).columns["0"].json() == block.slice(1, 1).columns["0"].strings() == []
    assert block.slice(1, 1).belongs_to("acme")


@settings(deadline=None)  # a busy machine is no reason to fail
@given(_RECORDS, st.data())
def test_picked_records_are_the_same_whoever_looked_before(
    records: list[tuple[Value, ...]], data: st.DataObject
) -> None:
    """Some records of a block, and some of these, whether its columns were asked for before or not."""
    rows = [[value.text for value in record] for record in records]
    fresh, seen = block_of(list(Kind), rows), block_of(list(Kind), rows)
    for _ in range(2):
        assert len(seen.columns) == len(Kind)
        indexes = [index for index in range(len(fresh)) if data.draw(st.booleans())]
        fresh, seen = fresh.pick(indexes), seen.pick(indexes)
        assert NativeFormat().encode(fresh) == NativeFormat().encode(seen)
        assert fresh.keys() == seen.keys()
        assert seen.belongs_to("acme")
        assert not seen.belongs_to("acm") or not indexes


def test_a_block_shows_what_was_asked_for() -> None:
    """Columns are those asked for, in that order; id, time and account are there if they are among them."""
    block = CopyBlock(Branch.LATE, layout_of(shown=("id", "account")), [row("1", TIME, "acme")])
    assert list(block.columns) == ["id", "account"]
    columns = {"When": ("instant", "time"), "Who": ("string", "account"), "None": ("value", None)}
    whole = CopyBlock(Branch.LATE, layout_of(shown=("id", "time", "account")), [row("1", TIME, "acme")])
    expected = b'{"When":"2026-11-19T04:00:00.123000Z","Who":"acme","None":null}\n'
    assert MappedFormat(flat_mapping(columns)).encode(whole) == expected


def test_rows_of_another_shape_are_refused() -> None:
    """Rows with a column too many or too few are never taken for others, but still have a raw form."""
    for wrong in (row("1", TIME), row("1", TIME, "acme", "one", "two")):
        block = CopyBlock(Branch.LATE, layout_of(Kind.TEXT), [row("1", TIME, "acme", "a"), wrong])
        with pytest.raises(RuntimeError, match="columns"):
            _ = block.columns
        assert block.raw(1).startswith(b'{"id": "1"')


@pytest.mark.parametrize(
    ("stored", "account", "belongs"),
    [
        ("acme", "acme", True),
        ("ACME", "acme", False),
        ("acme ", "acme", False),
        ("acme\u0301", "acm\u00e9", False),
        ('a\\N\tc\v"', 'a\\N\tc\v"', True),
        ("\\N", "\\N", True),
        (None, "\\N", False),
        (None, "None", False),
        ("", "", True),
        (b"caf\xe9", "café", False),
        (b"caf\xe9", "caf\udce9", True),
        ("acme", "\ud800", False),
    ],
)
def test_a_block_belongs_to_an_account_byte_by_byte(
    *, stored: str | bytes | None, account: str, belongs: bool
) -> None:
    """One record of another account, however alike, and the block does not belong to the account."""
    own = account.encode(errors="surrogateescape" if account != "\ud800" else "surrogatepass")
    block = CopyBlock(Branch.LATE, layout_of(), [row("1", TIME, own), row("2", TIME, stored)])
    assert block.belongs_to(account) is belongs


@given(stored=st.lists(st.sampled_from(["acme", 'a\\N\tc\v"', "", "\u2028", None]), max_size=4), asked=TEXTS)
def test_an_account_is_shown_as_it_is_whoever_asked_whose_records_these_are(
    stored: list[str | None], asked: str
) -> None:
    """What was seen for that is not looked at again, and changes nothing in what goes out."""
    rows = [row(str(number), TIME, account) for number, account in enumerate(stored)]
    layout = layout_of(shown=("id", "account"))
    expected = CopyBlock(Branch.ON_TIME, layout, rows)
    for account in (asked, *(account for account in stored if account is not None)):
        block = CopyBlock(Branch.ON_TIME, layout, rows)
        assert block.belongs_to(account) is (set(stored) <= {account})
        assert block.columns["account"].json() == expected.columns["account"].json()
        assert block.columns["account"].strings() == expected.columns["account"].strings()
        assert NativeFormat().encode(block) == NativeFormat().encode(expected)


@given(st.lists(st.none() | TEXTS | st.binary().map(lambda data: data.replace(b"\0", b""))))
def test_raw_is_made_of_anything(values: list[str | bytes | None]) -> None:
    """There is no row that has no raw form, and what was UTF-8 in it can be read there."""
    block = block_of([Kind.JSON] * len(values), [values])
    raw = json.loads(block.raw(0).decode(errors="surrogateescape"))
    for number, value in enumerate(values):
        text = value.decode(errors="surrogateescape") if isinstance(value, bytes) else value
        assert raw[str(number)] == text


@given(TEXTS)
def test_escapes_have_a_way_back(text: str) -> None:
    """Any text, written as COPY would, is read as itself."""
    assert postgres_values.escaped(text.encode()) == copied(text)
    assert postgres_values.plain(copied(text)).decode() == text


# --- What PostgreSQL says ---------------------------------------------------------------------------

SESSION = """
    SET timezone = 'UTC'; SET datestyle = 'ISO'; SET bytea_output = 'hex'; SET extra_float_digits = 1;
    SET intervalstyle = 'iso_8601'
"""
TYPES = r"""
    CREATE TYPE mood AS ENUM ('sad "very"', E'a\tb\\', '');
    CREATE TYPE pair AS (number int, note text);
    CREATE DOMAIN age AS int CHECK (VALUE > 0);
    CREATE DOMAIN word AS text;
    CREATE TYPE textrange AS RANGE (subtype = text, collation = "C")
"""
EXPRESSIONS: dict[Kind, tuple[str, ...]] = {
    Kind.INTEGER: ("1::int2", "-2147483648", "9223372036854775807", "18::age", "NULL::int8"),
    Kind.NUMBER: (
        *("1.50::numeric", "'NaN'::numeric", "'1e-20'::numeric", "'1e60'::numeric + 0.1", "-0.0::numeric"),
        *("'1e-300'::float8", "'1.7976931348623157e308'::float8", "'5e-324'::float8", "'-0'::float8"),
        *("'Infinity'::float8", "'-Infinity'::float4", "'NaN'::float4", "0.1::float4", "1e15::float8"),
        *("'3.4028235e38'::float4", "'1e-45'::float4", "1700000000.1234567::float8", "NULL::numeric"),
    ),
    Kind.BOOLEAN: ("true", "false", "NULL::bool"),
    Kind.JSON: (
        r"""E'{"a" :\n\t[1, "b\\n\\"\\\\" ]\r\n}'::json""",
        r"""E'"\u2028 \x7f \\u0007 \\\\\\\\N \\\\v"'::json""",
        *("'null'::json", "'1.10'::json", r"""'{"b": 1e40, "a": "\u0001\u2028\b\f\r\t"}'::jsonb"""),
        *("NULL::jsonb", r"to_json(ARRAY['a', NULL, E'\n\\N'])", "to_json(ARRAY[[1, 2], [3, NULL]])"),
        *("to_json('{}'::text[])", r"to_json((1, E'a\x0bb')::pair)", "to_json(ARRAY['NaN'::numeric])"),
        *("to_json(ROW(1, 'NaN'::float8, NULL))", r"to_json(ARRAY['\x4e'::bytea])"),
    ),
    Kind.BYTES: (r"'\x00ff5c6e'::bytea", "''::bytea", r"'\x5c4e'::bytea", "NULL::bytea"),
    Kind.TIMESTAMPTZ: (
        *("'2026-11-19 04:00:00.123+02'::timestamptz", "'0001-01-01 00:00+00'::timestamptz"),
        *("'9999-12-31 23:59:59.999999+00'::timestamptz", "NULL::timestamptz"),
    ),
    Kind.TIMESTAMP: ("'2026-11-19 04:00:00.1'::timestamp", "'2026-11-19'::timestamp", "NULL::timestamp"),
    Kind.DATE: (
        *("'2026-11-19'::date", "'infinity'::date", "'-infinity'::date", "'0044-03-15 BC'::date"),
        *("'5874897-12-31'::date", "NULL::date"),
    ),
    Kind.CODE: (
        *("'7f3e4d1c-0000-4000-8000-00000000000a'::uuid", "NULL::uuid", "'10.0.0.1'::inet", "'::1/64'::inet"),
        *("'::ffff:1.2.3.4'::inet", "'10.0.0.0/8'::cidr", "NULL::inet", "'08:00:2b:01:02:03'::macaddr"),
        *("'08:00:2b:01:02:03:04:05'::macaddr8", "'18446744073709551615'::xid8", "'5'::xid", "5::oid"),
    ),
    Kind.TEXT: (
        *(
            r"""E'\x01\b\t\n\x0b\f\r\x1f\x7f\\ " \u0085\u2028\u2029 \U0001f600'""",
            "''",
            r"'\N'",
            "NULL::text",
        ),
        *("'a'::varchar(3)", "'ab'::char(5)", r"E'\t'::name", """'v'::"char" """, r"""'\377'::"char" """),
        *("'x'::word", r"E'\\v\x0b\\'::word", r"'\.'", "B'0101'", "'1'::varbit", "'(0,1)'::tid"),
        *("""'sad "very"'::mood""", r"E'a\tb\\'::mood", "''::mood", "'$1,234.50'::money"),
        *("'1 year -2 days 03:04:05.6'::interval", "'12:00'::time", "'12:00+02'::timetz"),
        *("'[2026-01-01,)'::daterange", "'empty'::int4range", "'{[1,3),[5,9)}'::int4multirange"),
        *("'(1.5,2]'::numrange", "tstzrange('2026-01-01', 'infinity')", """textrange(E'a "\\\\', 'b,c')"""),
        *("'(1,2)'::point", "'<(1,2),3>'::circle", "'((0,0),(1,1))'::box", "'[(0,0),(1,1)]'::path"),
        *("'{1,2,3}'::line", "'((0,0),(1,1))'::polygon", "'((0,0),(1,1))'::lseg"),
        *(r"""$$a:1 'b c\\':2A$$::tsvector""", "'a & !b'::tsquery", "'$.a[*] ? (@ > 1)'::jsonpath"),
        *("'0/16B3748'::pg_lsn",),
        *("'10:20:10,14'::pg_snapshot", "'pg_class'::regclass", "'mood'::regtype"),
    ),
}
OPTIONAL = {"citext": r"E'\u00c4B\\\n'::citext", "ltree": "'a.b_c'::ltree", "cube": "'(1,2),(3,4)'::cube"}
XML = r"""E'<a b="c">\n\\</a>'::xml"""


def copy_out(connection: psycopg.Connection[Any], query: str) -> list[bytes]:
    """The rows of a query as COPY sends them."""
    with connection.cursor() as cursor, cursor.copy(f"COPY ({query}) TO STDOUT") as copy:
        return [bytes(each) for each in copy]


def prepared(server: Postgres) -> psycopg.Connection[Any]:
    """A connection to a new database with the session that a source has, and some types."""
    connection = server.connect(server.new_database())
    connection.execute(SESSION + ";" + TYPES)
    return connection


def with_optional(connection: psycopg.Connection[Any]) -> dict[Kind, tuple[str, ...]]:
    """The expressions of all types that this server has."""
    found = []
    for name, expression in OPTIONAL.items():
        if connection.execute("SELECT FROM pg_available_extensions WHERE name = %s", (name,)).fetchone():
            connection.execute(f"CREATE EXTENSION {name}")
            found.append(expression)
    if connection.execute(
        "SELECT FROM pg_config() WHERE name = 'CONFIGURE' AND setting ~ 'libxml'"
    ).fetchone():
        found.append(XML)
    return EXPRESSIONS | {Kind.TEXT: (*EXPRESSIONS[Kind.TEXT], *found)}


def parsed(text: str | None) -> object:
    return None if text is None else json.loads(text, parse_int=str, parse_float=str)


def agree(kind: Kind, ours: object, theirs: object) -> bool:
    """Whether a fragment means what `to_json` says; bytes and times have another form on purpose."""
    if ours is None or theirs is None or kind not in {Kind.BYTES, Kind.TIMESTAMPTZ, Kind.TIMESTAMP}:
        return ours == theirs
    if kind is Kind.BYTES:
        return base64.b64decode(str(ours)) == bytes.fromhex(str(theirs).removeprefix("\\x"))
    return datetime.fromisoformat(str(ours)) == datetime.fromisoformat(str(theirs))


def compare_all_types(connection: psycopg.Connection[Any]) -> None:
    pairs = [(kind, each) for kind, found in with_optional(connection).items() for each in found]
    values = ", ".join(f'{expression} AS "{number}"' for number, (_, expression) in enumerate(pairs))
    connection.execute(f"CREATE TABLE every AS SELECT 1 AS id, now() AS time, 'acme' AS account, {values}")
    block = CopyBlock(
        Branch.ON_TIME, layout_of(*(kind for kind, _ in pairs)), copy_out(connection, "TABLE every")
    )
    says = ", ".join(f'to_json("{number}")::text' for number in range(len(pairs)))
    (theirs,) = connection.execute(f"SELECT {says} FROM every").fetchall()
    for (kind, expression), column, text in zip(pairs, block.columns.values(), theirs, strict=True):
        (fragment,) = column.json()
        assert agree(kind, parsed(fragment.decode()), parsed(text)), (expression, fragment, text)
        (string,) = column.strings()
        assert json.loads(string) is None or isinstance(json.loads(string), str), expression


def test_every_type_has_its_kind() -> None:
    """What the source takes a column's type for is what its texts need."""
    with prepared(shared_postgres()) as connection:
        pairs = [(kind, each) for kind, found in with_optional(connection).items() for each in found]
        columns = ", ".join(expression for _, expression in pairs)
        types = [entry.type_code for entry in connection.execute(f"SELECT {columns}").description or ()]
        for (kind, expression), type_oid in zip(pairs, types, strict=True):
            assert relation._KINDS.get(type_oid, Kind.TEXT) is kind, expression


def test_every_type_means_what_to_json_says() -> None:
    """For a value of each type, the fragment parses to what PostgreSQL's own `to_json` gives."""
    with prepared(shared_postgres()) as connection:
        compare_all_types(connection)


@pytest.mark.slow
def test_every_type_on_every_version() -> None:
    """The same on each version of PostgreSQL that is installed."""
    for binaries in postgres_binaries()[1:]:
        with postgres_server(version_of(binaries)) as server, prepared(server) as connection:
            compare_all_types(connection)


def test_odd_times_are_shown_as_postgresql_writes_them() -> None:
    """What RFC 3339 has no form for is PostgreSQL's text, the same that a cast to text gives."""
    moments = (
        "infinity",
        "-infinity",
        "0044-03-15 01:02:03.4 BC",
        "294276-12-31 23:59:59.999999",
        "10000-01-01",
    )
    with prepared(shared_postgres()) as connection:
        for kind in (Kind.TIMESTAMPTZ, Kind.TIMESTAMP, Kind.DATE):
            expressions = [f"'{moment}'::{kind}" for moment in moments]
            rows = copy_out(connection, f"SELECT 1, now(), 'a', {', '.join(expressions)}")
            block = CopyBlock(Branch.ON_TIME, layout_of(*[kind] * len(moments)), rows)
            texts = connection.execute(
                f"SELECT {', '.join(f'{one}::text' for one in expressions)}"
            ).fetchone()
            found = [json.loads(column.json()[0]) for column in block.columns.values()]
            assert tuple(found) == texts


def test_texts_arrive_as_they_were_stored() -> None:
    """Any texts, stored and copied out again, become strings that parse to them; so do they within JSON."""
    with prepared(shared_postgres()) as connection:
        connection.execute("CREATE TEMPORARY TABLE texts (id int, value text)")

        @settings(deadline=None)
        @given(st.lists(TEXTS | st.none(), max_size=30))
        def check(texts: list[str | None]) -> None:
            connection.execute("TRUNCATE texts")
            numbers = list(range(len(texts)))
            connection.execute(
                "INSERT INTO texts SELECT * FROM unnest(%s::int[], %s::text[])", (numbers, texts)
            )
            what = "id, now(), 'acme', value, to_json(value), jsonb_build_object(coalesce(value, ''), value)"
            rows = copy_out(connection, f"SELECT {what} FROM texts ORDER BY id")
            assert [each.rstrip(b"\n").split(b"\t")[3] for each in rows] == list(map(copied, texts))
            block = CopyBlock(Branch.ON_TIME, layout_of(Kind.TEXT, Kind.JSON, Kind.JSON), rows)
            plain, quoted, within = (column.json() for column in block.columns.values())
            assert [json.loads(each) for each in plain] == texts
            assert [json.loads(each) for each in quoted] == texts
            assert [json.loads(each) for each in within] == [{each or "": each} for each in texts]
            assert len(NativeFormat().encode(block).decode().splitlines()) == len(texts)

        check()


_KEYS = (
    "'2026-11-19 04:00:00.1'::timestamptz",
    "'0001-01-01'::timestamp",
    "'2026-11-19'::date",
    "1700000000.123456789::numeric",
    "1.500::numeric",
    "0.1::float8",
    "0.1::float4",
    "'1e300'::float8",
    "'-5e-324'::float8",
    "'123456789012345678901234567890'::numeric",
    "9223372036854775807",
)


@pytest.mark.parametrize("expression", _KEYS)
def test_keys_find_their_way_back(expression: str) -> None:
    """A time's key, after its way through the ledger and cast to the column's type, equals the time."""
    with prepared(shared_postgres()) as connection:
        (name,) = connection.execute(f"SELECT pg_typeof({expression})::text").fetchone() or ("",)
        kinds = {"date": Kind.DATE, "timestamp with time zone": Kind.TIMESTAMPTZ, "bigint": Kind.INTEGER}
        kind = kinds.get(name, Kind.TIMESTAMP if "time" in name else Kind.NUMBER)
        times = NumberTimes("s") if kind in {Kind.NUMBER, Kind.INTEGER} else None
        layout = layout_of(times=times)
        layout = replace(layout, columns=(layout.columns[0], CopyColumn("time", kind), layout.columns[2]))
        (found,) = copy_out(connection, f"SELECT 1, {expression}, 'acme'")
        key = json.loads(json.dumps(key_of(found, Branch.ON_TIME, layout)))[0]
        literal = f"'{key}'" if isinstance(key, str) else repr(key)
        assert connection.execute(f"SELECT {literal}::{name} = {expression}").fetchone() == (True,)


def test_a_database_without_an_encoding() -> None:
    """Of a database that lets any byte in, with client_encoding SQL_ASCII, only the bad record is refused."""
    server = shared_postgres()
    name = f"{server.new_database()}_ascii"
    with server.connect() as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'SQL_ASCII'")
    with server.connect(name, client_encoding="SQL_ASCII") as connection:
        texts = r"VALUES (1, 'acme'), (2, convert_from('\xe95c'::bytea, 'SQL_ASCII')), (3, E'\xc3\xa9')"
        rows = copy_out(connection, f"SELECT id, '{TIME}', 'acme', note FROM ({texts}) AS t (id, note)")
    block = CopyBlock(Branch.LATE, layout_of(Kind.TEXT, valid_utf8=False), rows)
    assert block.slice(0, 1).columns["0"].json() == [b'"acme"']
    with pytest.raises(ValueError, match="not valid UTF-8"):
        block.slice(1, 2).columns["0"].json()
    assert b"\xe9\\\\" in block.raw(1)
    assert block.slice(2, 3).columns["0"].json() == ['"é"'.encode()]
