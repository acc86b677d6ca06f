"""The fast encoders give what a plain encoder gives, in lines that every reader splits at the same places."""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from exporter.columns import Layout, Roles, RowBlock, TextTimes, ValueColumn
from exporter.formats import compile_format
from exporter.formats.library import bind
from exporter.formats.settings import FormatChoice
from exporter.model import Branch, Rendering, flat_mapping
from tests.kit import reference
from tests.kit.reference import JsonText

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.kit.reference import Value

fast = settings(deadline=None, max_examples=150)

ROLES: Final = Roles(id="id", time="time", account="account")
COLUMNS: Final[Mapping[str, str | None]] = {
    "id": "id",
    "time": "time",
    "email": "e-mail",
    "action": "action",
    "action_id": "target",
    "description": "text",
    "ip_address": "ip",
}
NAMES: Final = ("id", "time", "account", "e-mail", "action", "target", "text", "ip")

NASTY: Final = (
    '",\n  "a',
    "\\",
    "\x00\x01\x1f\x7f\x80\x85\r\n\t\x0b\x0c\x1c\x1d\x1e",
    "\u2028\u2029\ufeff\U0001f600é",
    "null",
    "",
)
texts = st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(NASTY)
integers = st.integers() | st.sampled_from(
    [2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1, 10**400]
)
floats = st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from(
    [-0.0, 5e-324, 1.7976931348623157e308, 1e16, 1e22, 0.1, 123456789012345680.0]
)
json_values = st.recursive(
    st.none() | st.booleans() | integers | floats | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
whitespace = st.text(" \r\n\t", max_size=3)
json_texts = st.builds(
    lambda value, indent, ascii_only, around: (
        f"{around}{json.dumps(value, indent=indent, ensure_ascii=ascii_only)}{around}"
    ),
    json_values,
    st.sampled_from([None, 0, "\t"]),
    st.booleans(),
    whitespace,
) | st.sampled_from(
    ['"\\ud800"', "NaN", "[1, Infinity]", "1e999", "{", "[" * 3000, '{"a":1,"a":2}', "\ufeff1"]
)
plain: st.SearchStrategy[Value] = (
    st.none() | st.booleans() | integers | floats | texts | st.binary(max_size=20)
)


@dataclass(frozen=True, slots=True)
class Instant:
    """A time as a source may have written it, in one of the canonical ways."""

    date: str
    time: str
    digits: str
    between: str
    zone: str

    @property
    def text(self) -> str:
        """As it stands in the source."""
        fraction = f".{self.digits}" if self.digits else ""
        return f"{self.date}{self.between}{self.time}{fraction}{self.zone}"


instants = st.builds(
    Instant,
    date=st.dates().map(str),
    time=st.times().map(lambda time: time.isoformat("seconds")),
    digits=st.text("0123456789", max_size=9),
    between=st.sampled_from(["T", " "]),
    zone=st.sampled_from(["", "Z", "+00:00"]),
)


def columns_of_values(draw: st.DrawFn, count: int, values: st.SearchStrategy[Value]) -> list[Value]:
    """One column: of one type for the most part, as in a database, or of any."""
    kinds = [
        values,
        st.none(),
        st.booleans(),
        integers,
        st.integers(-9, 9),
        floats,
        texts,
        st.binary(max_size=9),
    ]
    return draw(st.lists(draw(st.sampled_from(kinds)), min_size=count, max_size=count))


@st.composite
def records(draw: st.DrawFn, names: Sequence[str]) -> list[dict[str, Any]]:
    """Records with an id, a readable time, an account, and columns of every type after these."""
    count = draw(st.integers(0, 5))
    columns: dict[str, list[Any]] = {
        "id": list(range(count)),
        "time": draw(st.lists(instants, min_size=count, max_size=count)),
        "account": ["acme"] * count,
    }
    for name in names[3:]:
        columns[name] = columns_of_values(draw, count, plain)
    return [dict(zip(names, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def block_of(
    names: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
    json_columns: frozenset[str] = frozenset(),
    branch: Branch = Branch.ON_TIME,
) -> RowBlock:
    """A block as a source would hand it over."""
    layout = Layout(tuple(names), tuple(names), ROLES, TextTimes(), json_columns)
    return RowBlock(branch, layout, [tuple(as_read(row[name]) for name in names) for row in rows])


def as_read(value: Value | Instant) -> object:
    """A value as a driver gives it."""
    return value.text if isinstance(value, Instant | JsonText) else value


STANDARD: Final = FormatChoice(name="standard")


def standard(**other: str | None) -> Rendering:
    """The format over these columns, with others in their places."""
    return Rendering("standard", bind(STANDARD, {**COLUMNS, **other})[1])


def native() -> Rendering:
    return Rendering("native", None)


def standard_lines(rows: Sequence[Mapping[str, Any]]) -> list[bytes]:
    """What `standard` has to give."""
    lines = []
    for row in rows:
        instant = row["time"]
        fields = [("Date", reference.instant_of(instant.date, instant.time, instant.digits))]
        names = ("Email", "Action", "Action ID", "Description", "IP Address", "Event ID")
        sources = ("e-mail", "action", "target", "text", "ip", "id")
        fields += [
            (name, reference.string_of(row[source])) for name, source in zip(names, sources, strict=True)
        ]
        lines.append(reference.line(fields))
    return lines


def native_lines(rows: Sequence[Mapping[str, Any]]) -> list[bytes]:
    """What `native` has to give."""
    return [reference.line((name, reference.json_of(_as_text(row[name]))) for name in row) for row in rows]


def _as_text(value: Value | Instant) -> Value:
    return value.text if isinstance(value, Instant) else value


def one_per_line(encoded: bytes, count: int) -> bool:
    """Whether a reader that splits at every line separator of Unicode finds exactly the records."""
    text = encoded.decode()
    return len(text.splitlines()) == count and text.splitlines(keepends=True) == [
        f"{line}\n" for line in text.split("\n")[:-1]
    ]


@fast
@given(records(NAMES))
def test_standard_equals_the_reference(rows: list[dict[str, Any]]) -> None:
    """Whatever the values, `standard` gives the bytes of the plain encoder, one record per line."""
    encoded = compile_format(standard()).encode(block_of(NAMES, rows))[0]
    assert encoded == b"".join(standard_lines(rows))
    assert one_per_line(encoded, len(rows))


@fast
@given(st.data(), st.lists(texts, max_size=4, unique=True))
def test_native_equals_the_reference(data: st.DataObject, extra: list[str]) -> None:
    """Whatever the values and the columns' names, `native` gives the bytes of the plain encoder."""
    names = list(dict.fromkeys(["id", "time", "account", *extra]))
    rows = data.draw(records(names))
    encoded = compile_format(native()).encode(block_of(names, rows))[0]
    assert encoded == b"".join(native_lines(rows))
    assert one_per_line(encoded, len(rows))


@fast
@given(records(NAMES))
def test_every_line_of_native_gives_back_the_values(rows: list[dict[str, Any]]) -> None:
    """A JSON parser reads every value again, with its type and in the source's order."""
    encoded = compile_format(native()).encode(block_of(NAMES, rows))[0]
    expected = [{name: reference.shown(_as_text(row[name])) for name in NAMES} for row in rows]
    assert [json.dumps(json.loads(line)) for line in encoded.splitlines()] == list(map(json.dumps, expected))


@fast
@given(records(NAMES))
def test_every_field_of_standard_is_a_string_or_null(rows: list[dict[str, Any]]) -> None:
    """A field has one type for good, whatever the source's columns hold."""
    names = ["Date", "Email", "Action", "Action ID", "Description", "IP Address", "Event ID"]
    for line in compile_format(standard()).encode(block_of(NAMES, rows))[0].splitlines():
        assert list(json.loads(line)) == names
        assert {type(value) for value in json.loads(line).values()} <= {str, type(None)}


@fast
@given(st.lists(json_texts.map(JsonText) | st.none() | integers | floats | texts.map(JsonText), max_size=5))
@example([JsonText('{"a": "\u2028",\n\t"b": [1,\r\n2]}'), JsonText("not JSON\n"), None])
def test_json_columns_stay_the_json_they_are(values: list[Value]) -> None:
    """Text of a JSON column becomes part of the line as it stands; text that is no JSON becomes a string."""
    names = ("id", "time", "account", "json")
    rows = [{"id": 1, "time": "", "account": "acme", "json": value} for value in values]
    encoded = compile_format(native()).encode(block_of(names, rows, frozenset({"json"})))[0]
    assert encoded == b"".join(native_lines(rows))
    assert one_per_line(encoded, len(rows))
    found = [json.dumps(json.loads(line)["json"]) for line in encoded.splitlines()]
    assert found == [json.dumps(reference.shown(value)) for value in values]


@fast
@given(records(NAMES), st.integers(0, 5), st.sampled_from([standard(), native()]))
def test_how_blocks_are_cut_changes_no_line(
    rows: list[dict[str, Any]], cut: int, rendering: Rendering
) -> None:
    """A block gives the same lines whole and in pieces, also in empty ones."""
    form, block = compile_format(rendering), block_of(NAMES, rows)
    cut = min(cut, len(block))
    pieces = block.slice(0, cut), block.slice(cut, len(block))
    assert b"".join(form.encode(piece)[0] for piece in pieces) == form.encode(block)[0]


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), "lone \ud800", "\udce9", Decimal(1), ["a"]], ids=repr
)
@pytest.mark.parametrize("form", [standard(), native()], ids=["standard", "native"])
def test_a_value_without_a_json_form_is_an_error(value: object, form: Rendering) -> None:
    """It is not repaired, and the other records of its block do not hide it."""
    row = dict.fromkeys(NAMES, "x") | {"time": "2026-11-19T04:00:00Z"}
    with pytest.raises(ValueError, match=r"JSON form|not valid UTF-8"):
        compile_format(form).encode(block_of(NAMES, [row, row | {"text": value}, row]))[0]


def test_an_unreadable_time_is_an_error_for_standard() -> None:
    row = dict.fromkeys(NAMES, "x") | {"time": "yesterday"}
    with pytest.raises(ValueError, match="time is unreadable"):
        compile_format(standard()).encode(block_of(NAMES, [row], branch=Branch.UNREADABLE))[0]


def test_a_format_asks_for_the_columns_it_needs() -> None:
    """`standard` for those that fill its fields, each once; `native` for all."""
    form = compile_format(standard(action_id=None, ip_address="text"))
    assert form.columns == ["action", "e-mail", "id", "text", "time"]
    assert compile_format(native()).columns is None


def test_a_role_that_no_column_fills_is_null() -> None:
    rendering = standard(**{role: None for role in COLUMNS if role not in {"id", "time"}})
    row = {"id": 7, "time": "2026-11-19 04:00:00", "account": "acme"}
    encoded = compile_format(rendering).encode(block_of(tuple(row), [row]))[0]
    assert encoded == (
        b'{"Date":"2026-11-19T04:00:00.000000Z","Email":null,"Action":null,"Action ID":null,'
        b'"Description":null,"IP Address":null,"Event ID":"7"}\n'
    )


def test_standard_has_the_six_fields_in_order_and_the_event_id() -> None:
    row = {
        "id": 7,
        "time": "2026-11-19T04:00:00.123456Z",
        "account": "acme",
        "e-mail": "ann@example.com",
        "action": "user.login",
        "target": 42,
        "text": "Ann signed in",
        "ip": "192.0.2.1",
    }
    assert compile_format(standard()).encode(block_of(NAMES, [row]))[0] == (
        b'{"Date":"2026-11-19T04:00:00.123456Z","Email":"ann@example.com","Action":"user.login",'
        b'"Action ID":"42","Description":"Ann signed in","IP Address":"192.0.2.1","Event ID":"7"}\n'
    )


def test_a_mapping_shows_a_value_as_it_is_where_it_says_so() -> None:
    fields = {"ü": ("value", "text"), "s": ("string", "text"), "t": ("instant", "time")}
    rendering = Rendering("custom", flat_mapping(fields))
    row = dict.fromkeys(NAMES, "x") | {"time": "2026-11-19T04:00:00Z", "text": 1.5}
    assert compile_format(rendering).encode(block_of(NAMES, [row]))[0] == (
        b'{"\\u00fc":1.5,"s":"1.5","t":"2026-11-19T04:00:00.000000Z"}\n'
    )


class ShortBlock(RowBlock):
    """A block with a column that lost a value."""

    @property
    def columns(self) -> dict[str, ValueColumn]:
        """The columns, of which one is too short."""
        return {"a": ValueColumn([1, 2]), "b": ValueColumn([1])}


@pytest.mark.parametrize(
    "form", [native(), Rendering("custom", flat_mapping({"a": ("value", "a"), "b": ("value", "b")}))]
)
def test_a_column_that_is_a_value_short_never_costs_a_record(form: Rendering) -> None:
    """It is an error of the source, not a shorter block."""
    block = ShortBlock(Branch.ON_TIME, Layout((), (), ROLES, TextTimes()), [(), ()])
    with pytest.raises(ValueError, match="not every column has 2 values"):
        compile_format(form).encode(block)
