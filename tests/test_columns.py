"""Columns and blocks: values become JSON that says the same, on one line, or they are refused."""

from __future__ import annotations

import base64
import json
import math
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.columns import (
    SEPARATOR,
    Layout,
    NumberTimes,
    Roles,
    RowBlock,
    TextTimes,
    ValueColumn,
    quoted_texts,
)
from exporter.model import Branch

if TYPE_CHECKING:
    from collections.abc import Sequence

ROLES = Roles(id="id", time="time", account="account")
_NASTY = st.sampled_from(
    ['a",', '","', ',\n  "', '\\",\\"', "\u2028", "\x85", "\x00\n\r\t", "a\\", '"', "é😀"]
)
_TEXT = st.text() | _NASTY | st.lists(_NASTY).map("".join)
_FINITE = st.floats(allow_nan=False, allow_infinity=False)


def block(rows: Sequence[Sequence[object]], branch: Branch = Branch.ON_TIME) -> RowBlock:
    names = ("id", "time", "account", "note")
    return RowBlock(branch, Layout(names, ("id", "note"), ROLES, TextTimes()), rows)


@given(st.lists(_TEXT) | st.lists(_TEXT | st.none() | st.integers() | st.booleans() | _FINITE))
def test_json_says_what_the_values_are(values: list[object]) -> None:
    """Every fragment parses back to its value, and no reader splits it in two lines."""
    fragments = ValueColumn(values).json()
    assert [json.loads(fragment) for fragment in fragments] == values
    assert all(len(fragment.decode().splitlines()) == 1 for fragment in fragments)


@given(st.lists(_TEXT | st.none() | st.integers() | st.booleans() | _FINITE | st.binary()))
def test_strings_are_strings_or_null(values: list[object]) -> None:
    """As strings, texts stay as they are and everything else is put in quotes, but for null."""
    column = ValueColumn(values)
    for value, as_json, as_string in zip(values, column.json(), column.strings(), strict=True):
        found = json.loads(as_string)
        if value is None or isinstance(value, str):
            assert found == value
        elif isinstance(value, bytes):
            assert base64.b64decode(found) == value
        else:
            assert found == as_json.decode()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, "\ud800", object()])
@pytest.mark.parametrize("beside", ["text", 2**70])
def test_what_json_cannot_say_is_refused(value: object, beside: object) -> None:
    """NaN, the infinities, text that is no Unicode and strange objects raise ValueError."""
    column = ValueColumn([beside, value])
    with pytest.raises(ValueError, match=r"no JSON form|not valid UTF-8"):
        column.json()
    with pytest.raises(ValueError, match=r"no JSON form|not valid UTF-8"):
        column.strings()


def test_integers_of_any_size_stay_exact() -> None:
    """No integer is rounded, however large."""
    assert ValueColumn([2**64, -(10**30), 1]).json() == [
        b"18446744073709551616",
        b"-" + b"1" + b"0" * 30,
        b"1",
    ]


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | _FINITE | _TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(_TEXT, inner),
    max_leaves=5,
)


@given(document=_JSON, indent=st.sampled_from([None, 1, "\t"]), ascii_only=st.booleans())
def test_a_json_column_passes_its_text_through(
    *, document: object, indent: int | str | None, ascii_only: bool
) -> None:
    """Valid JSON text comes out with the same meaning, on one line, without being rendered anew."""
    text = json.dumps(document, indent=indent, ensure_ascii=ascii_only)
    (fragment,) = ValueColumn([text], json_text=True).json()
    assert json.loads(fragment) == document
    assert len(fragment.decode().splitlines()) == 1


@pytest.mark.parametrize(
    "text", ['{"a": 1.10, "a": 2}', "12345678901234567890123", r'"\ud800"', "[" * 500 + "]" * 500]
)
def test_a_json_column_keeps_the_text_exactly(text: str) -> None:
    """Digits, duplicate keys, escapes and depth stay as they were written."""
    assert ValueColumn([text], json_text=True).json() == [text.encode()]


@pytest.mark.parametrize("text", ["{", "NaN", '{"a": Infinity}', "", "{'a': 1}", '"a\nb"', "[" * 100_000])
def test_text_that_is_no_json_becomes_a_string(text: str) -> None:
    """A JSON column's text that is no JSON is not lost: it is rendered as a string."""
    (fragment,) = ValueColumn([text], json_text=True).json()
    assert json.loads(fragment) == text


@pytest.mark.parametrize(
    "texts", [["1,2"], ["[1", "2]"], ["1,2", "[3", "4]"], ['{"a": 1}', ""], ["1]", "[2"], ["1", "2\x1f3"]]
)
def test_texts_that_are_json_only_together_are_none(texts: list[str]) -> None:
    """A column is looked at as a whole, and still each value by itself has to be JSON."""
    found = ValueColumn([*texts, None, "[7]"], json_text=True).json()
    one_by_one = [ValueColumn([text], json_text=True).json()[0] for text in texts]
    assert found == [*one_by_one, b"null", b"[7]"]
    assert json.loads(ValueColumn(["1,2"], json_text=True).json()[0]) == "1,2"


@given(st.lists(_TEXT, min_size=1))
def test_texts_quoted_as_one_are_quoted_each(texts: list[str]) -> None:
    """Joined texts become the strings that each of them becomes alone."""
    plain = [text.replace("\x1f", "") for text in texts]
    joined = SEPARATOR.join(text.encode() for text in plain)
    assert quoted_texts(joined) == ValueColumn(plain).json()


def test_a_json_column_as_strings_gives_its_text() -> None:
    """Where a string is wanted, JSON text is one."""
    column = ValueColumn(['{"a": 1}', None, 5, b"\x01"], json_text=True)
    assert column.strings() == [b'"{\\"a\\": 1}"', b"null", b'"5"', b'"AQ=="']
    assert column.json() == [b'{"a": 1}', b"null", b"5", b'"AQ=="']


@pytest.mark.parametrize(
    ("text", "key", "instant"),
    [
        ("2026-11-19T04:00:00.123456Z", "2026-11-19 04:00:00.123456000", "2026-11-19T04:00:00.123456Z"),
        ("2026-11-19 04:00:00", "2026-11-19 04:00:00.000000000", "2026-11-19T04:00:00.000000Z"),
        ("2026-11-19 04:00:00+00:00", "2026-11-19 04:00:00.000000000", "2026-11-19T04:00:00.000000Z"),
        ("2026-11-19T04:00:00.5Z", "2026-11-19 04:00:00.500000000", "2026-11-19T04:00:00.500000Z"),
        ("2026-11-19T04:00:00.12345678", "2026-11-19 04:00:00.123456780", "2026-11-19T04:00:00.12345678Z"),
        (
            "2026-11-19T04:00:00.123456789+00:00",
            "2026-11-19 04:00:00.123456789",
            "2026-11-19T04:00:00.123456789Z",
        ),
    ],
)
def test_canonical_texts_are_made_alike(text: str, key: str, instant: str) -> None:
    """Keys of text times have nine digits and instants six to nine, whatever the form."""
    assert TextTimes().key(text) == key
    assert TextTimes().instant(text) == instant


@pytest.mark.parametrize(
    ("number", "unit", "instant"),
    [
        (0, "s", "1970-01-01T00:00:00.000000Z"),
        (-1, "ns", "1969-12-31T23:59:59.999999999Z"),
        (1_763_524_800_123, "ms", "2025-11-19T04:00:00.123000Z"),
        (1_763_524_800_123_456_789, "ns", "2025-11-19T04:00:00.123456789Z"),
        (1_763_524_800.123456, "s", "2025-11-19T04:00:00.123456Z"),
        (-0.25, "s", "1969-12-31T23:59:59.750000Z"),
        (1e-12, "s", "1970-01-01T00:00:00.000000Z"),
    ],
)
def test_numbers_become_exact_instants(number: float, unit: str, instant: str) -> None:
    """Numbers of any unit become the instant they stand for, without a rounding error."""
    assert NumberTimes(unit).instant(number) == instant


def test_a_block_shows_what_was_asked_for() -> None:
    """Columns are those asked for; keys, ids and slices agree with the rows."""
    rows = [(1, "2026-11-19T04:00:00Z", "acme", "a"), (2, "2026-11-19T04:00:01Z", "acme", "b")]
    whole = block(rows)
    assert list(whole.columns) == ["id", "note"]
    assert whole.slice(1, 2).columns["note"].json() == [b'"b"']
    assert whole.slice(1, 2).key(0) == whole.key(1) == ("2026-11-19 04:00:01.000000000", 2)
    assert block(rows, Branch.UNREADABLE).key(0) == (None, 1)
    assert whole.id(1) == "2"
    assert block([]).columns["note"].json() == []


@pytest.mark.parametrize(
    ("stored", "account", "belongs"),
    [
        ("acme", "acme", True),
        ("ACME", "acme", False),
        ("acme ", "acme", False),
        (42, "42", True),
        (42, "042", False),
        (b"acme", "acme", True),
        ("caf\udce9", "café", False),
        (None, "None", False),
    ],
)
def test_a_block_belongs_to_an_account_byte_by_byte(*, stored: object, account: str, belongs: bool) -> None:
    """One record of another account, however alike, and the block does not belong to the account."""
    own = (1, "2026-11-19T04:00:00Z", account, "a")
    assert block([own, (2, own[1], stored, "b")]).belongs_to(account) is belongs


@given(st.lists(_TEXT | st.none() | st.floats() | st.integers() | st.binary() | st.text(st.characters())))
def test_raw_is_made_of_anything(values: list[object]) -> None:
    """There is no value that a record's raw form fails for."""
    names = tuple(map(str, range(len(values))))
    assert RowBlock(Branch.LATE, Layout(names, names, ROLES, TextTimes()), [values]).raw(0).startswith(b"{")


@pytest.mark.parametrize(("text", "stored"), [("caf\udce9", b"caf\xe9"), ("\ud800", b"\xed\xa0\x80")])
def test_raw_gives_back_the_bytes(text: str, stored: bytes) -> None:
    """Bytes that are no UTF-8 are in the raw form as they were stored."""
    assert stored in block([(1, None, "acme", text)]).raw(0)
