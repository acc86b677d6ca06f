"""Whatever a mapping says and a column holds, the fast encoders give what a plain evaluation gives."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from exporter.formats import compile_format
from exporter.formats.binding import Binder
from exporter.formats.conversions import CONVERSIONS
from exporter.formats.language import read_envelope, read_format
from exporter.formats.library import bind
from exporter.formats.settings import FormatChoice
from exporter.model import BadRecord, Branch, Occasion, Rendering, flat_mapping
from tests.formats.plain import Moment, Plain
from tests.formats.test_standard_and_native import (
    COLUMNS,
    NAMES,
    Instant,
    block_of,
    columns_of_values,
    instants,
    json_texts,
    one_per_line,
    plain,
    texts,
)
from tests.kit.reference import JsonText

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from exporter.model import Json

fast = settings(deadline=None, max_examples=60)

ROLES: Final[Mapping[str, str | None]] = {**COLUMNS, "account": "account", "device": None}
SOURCES: Final = ("id", "time", "email", "action", "target", "description", "ip_address", "device", "json")
SEQUENCE: Final = 17
OCCASION: Final = Occasion(SEQUENCE, datetime(2026, 11, 19, 4, 0, 0, 250_000, tzinfo=UTC))

odd_times = st.builds(
    lambda moment, ahead: f"{moment.text.removesuffix('Z').removesuffix('+00:00')}{ahead}",
    instants,
    st.sampled_from(["", "Z", "z", "+00", "+05:30", "-1200", "+24:00", "+01:60", " +01:00", "x"]),
)
addresses = st.ip_addresses().map(str) | st.sampled_from(
    ["fe80::1%eth0", "01.2.3.4", " 1.2.3.4", "1.2.3.4:5", "::ffff:1.2.3.4"]
)
numbers = st.sampled_from(["1", "-0.5", "1e999", "01", "+1", ".5", "1.", "0x1", "\u0661", "NaN", " 1"])
written = (
    odd_times | addresses | numbers | texts | st.sampled_from(["true", '{"a": 1}', "ÄÖß\n", "Aa\\", "a\x7fB"])
)
json_values = (
    json_texts.map(JsonText) | st.sampled_from([" null ", "null", ' "a" ', " 5 "]).map(JsonText) | st.none()
)

columns = st.builds(
    lambda name, conversions: " | ".join([name, *conversions]),
    st.sampled_from(SOURCES),
    st.lists(st.sampled_from(CONVERSIONS), max_size=3),
)
constants = (
    st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from(["=", "=a|b", "= text", "$sequence"])
)
names = st.text("ab \u2028\"'é", max_size=3)
globs = st.text("aeo*?|", max_size=4) | st.sampled_from(["*", "", "?*", "*:*"])


def objects(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(names, inner, max_size=4)


def lookups(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """With one pattern or more; a branch is anything."""
    branches = st.dictionaries(globs, inner, min_size=1, max_size=3)
    return st.builds(lambda key, found: {"$match": key, **found}, inner, branches)


expressions = st.recursive(
    columns | columns | constants,
    lambda inner: (
        objects(inner)
        | lookups(inner)
        | st.lists(inner, max_size=3)
        | st.lists(inner, min_size=1, max_size=3).map(lambda found: {"$first": found})
        | st.sampled_from([{}, [None], {"b": {}}]).map(lambda found: {"$const": found})
    ),
    max_leaves=8,
)
records_of = objects(expressions).filter(bool) | lookups(expressions).flatmap(
    lambda lookup: st.fixed_dictionaries(
        {
            "$match": st.just(lookup["$match"]),
            **{glob: objects(expressions) for glob in lookup if glob != "$match"},
        }
    )
)
formats = st.fixed_dictionaries(
    {"fields": records_of | st.just("$all"), "nulls": st.sampled_from(["keep", "omit"])}
)


@st.composite
def rows_of_anything(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Records whose columns hold what columns hold, and what conversions read."""
    count = draw(st.integers(0, 4))
    found: dict[str, list[Any]] = {
        "id": list(range(count)),
        "time": draw(st.lists(instants, min_size=count, max_size=count)),
        "account": ["acme"] * count,
    }
    for name in NAMES[3:]:
        kinds = draw(st.sampled_from([plain, written, written | st.none()]))
        found[name] = columns_of_values(draw, count, kinds)
    found["json"] = draw(st.lists(json_values, min_size=count, max_size=count))
    return [dict(zip(found, row, strict=True)) for row in zip(*found.values(), strict=True)]


AT_MIDNIGHT: Final = {
    **dict.fromkeys(NAMES),
    "id": 0,
    "time": Instant("2000-01-01", "00:00:00", "", "T", ""),
    "account": "acme",
    "json": JsonText("null"),
}


def as_moments(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: Moment(value.date, value.time, value.digits, value.text)
        if isinstance(value, Instant)
        else value
        for name, value in row.items()
    }


def bound(content: Mapping[str, Any], file: Path, envelope: Mapping[str, Json] | None = None) -> Rendering:
    """A format as a plan has it when it comes back from a ledger."""
    file.write_text(json.dumps(content), encoding="utf-8")
    language = read_format(file)
    around = None if envelope is None else read_envelope(envelope)
    mapping = Binder(ROLES, language.parameters).bound(language, around)
    return Rendering("mine", json.loads(json.dumps(mapping, sort_keys=True)))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("formats") / "mine.yaml"


@fast
@given(formats, rows_of_anything())
@example({"fields": {"a": "time | epoch"}, "nulls": "keep"}, [])
@example({"fields": {"a": ["time | rfc3339 | number"]}, "nulls": "omit"}, [AT_MIDNIGHT])
def test_every_mapping_gives_what_the_plain_evaluation_gives(
    file: Path, content: dict[str, Any], rows: list[dict[str, Any]]
) -> None:
    """Byte by byte, one record on a line, after a way through a ledger that sorts the keys of objects."""
    block = block_of((*NAMES, "json"), rows, frozenset({"json"}))
    encoded = compile_format(bound(content, file), OCCASION).encode(block)[0]
    expected = Plain(content, ROLES, SEQUENCE)
    assert encoded.decode() == "".join(f"{expected.line(as_moments(row))}\n" for row in rows)
    assert one_per_line(encoded, len(rows))


@fast
@given(formats, rows_of_anything(), st.integers(0, 4))
def test_how_blocks_are_cut_changes_no_line(
    file: Path, content: dict[str, Any], rows: list[dict[str, Any]], cut: int
) -> None:
    """A lookup takes the same branch for a record alone and among others."""
    form = compile_format(bound(content, file), OCCASION)
    block = block_of((*NAMES, "json"), rows, frozenset({"json"}))
    cut = min(cut, len(block))
    pieces = block.slice(0, cut), block.slice(cut, len(block))
    assert b"".join(form.encode(piece)[0] for piece in pieces) == form.encode(block)[0]


@fast
@given(formats)
def test_a_format_asks_for_each_column_that_may_be_needed_and_no_other(
    file: Path, content: dict[str, Any]
) -> None:
    """Whatever branch is taken; with `$all`, for every one."""
    rendering = bound(content, file)
    named = json.dumps(rendering.mapping)
    wanted = compile_format(rendering).columns
    if '["all"]' in named:
        assert wanted is None
    else:
        assert wanted == sorted(name for name in (*NAMES, "json") if f'["column", "{name}"' in named)


def test_a_lookup_for_presence_tells_what_is_empty_from_what_is_there(file: Path) -> None:
    """Null and the empty text are absent, also with the spaces that a column of JSON may have around them."""
    absent, present = ["null", " null ", "null ", '""', ' ""', '"" '], ['" "', "0", "[]", ' "x"', '"null"']
    rows = [
        dict.fromkeys(NAMES, "x") | {"time": "2026-11-19T04:00:00Z", "json": JsonText(text)}
        for text in [*absent, *present]
    ]
    content = {"fields": {"a": {"$match": "json", "": 0, "*": 1}}}
    block = block_of((*NAMES, "json"), rows, frozenset({"json"}))
    lines = compile_format(bound(content, file)).encode(block)[0].splitlines()
    assert lines == [b'{"a":0}'] * len(absent) + [b'{"a":1}'] * len(present)


@pytest.mark.parametrize("nulls", ["keep", "omit"])
def test_null_is_null_whatever_spaces_a_column_of_json_has_around_it(file: Path, nulls: str) -> None:
    """It is left out, and is never the first that is there."""
    row = dict.fromkeys(NAMES, "x") | {"time": "2026-11-19T04:00:00Z", "json": JsonText(" null ")}
    content = {"nulls": nulls, "fields": {"a": {"$first": ["json", "json | json", "id"]}, "b": "json"}}
    block = block_of((*NAMES, "json"), [row], frozenset({"json"}))
    found = json.loads(compile_format(bound(content, file)).encode(block)[0])
    assert found == {"a": "x"} | ({"b": None} if nulls == "keep" else {})


def test_a_branch_is_worked_out_for_the_records_that_take_it(file: Path) -> None:
    """A value that has no form in JSON spoils no record that does not show it."""
    content = {"fields": {"a": {"$match": "action", "good": "id", "*": "description"}}}
    row = dict.fromkeys(NAMES, "good") | {"time": "2026-11-19T04:00:00Z", "text": "\ud800"}
    form = compile_format(bound(content, file))
    assert form.encode(block_of(NAMES, [row, row]))[0] == b'{"a":"good"}\n' * 2
    with pytest.raises(ValueError, match="not valid UTF-8"):
        form.encode(block_of(NAMES, [row, row | {"action": "bad"}]))


def test_a_column_that_the_source_has_lost_is_null(file: Path) -> None:
    """Also where a lookup goes by it; the others are what they are."""
    content = {"fields": {"a": "email", "b": {"$match": "email", "": 1, "*": 2}, "c": "id"}}
    occasion = Occasion(1, OCCASION.window_end, columns=frozenset({"id", "time"}))
    form = compile_format(bound(content, file), occasion)
    row = {"id": 7, "time": "2026-11-19T04:00:00Z", "account": "acme"}
    assert form.columns == ["id"]
    assert form.encode(block_of(tuple(row), [row]))[0] == b'{"a":null,"b":1,"c":7}\n'


def test_a_mapping_of_the_first_ledgers_is_read_for_good() -> None:
    """Its conversions have names of their own, and it has neither header nor envelope."""
    mapping: Json = {
        "fields": ["object", [["a", ["column", "text", "value"]], ["b", ["column", "id", "string"]],
                              ["c", ["column", "time", "instant"]], ["d", ["column", None, "string"]]]],
        "line": "json",
        "nulls": "keep",
    }  # fmt: skip
    fields: dict[str, tuple[str, str | None]] = {
        "a": ("value", "text"),
        "b": ("string", "id"),
        "c": ("instant", "time"),
        "d": ("string", None),
    }
    assert flat_mapping(fields) == mapping
    row = dict.fromkeys(NAMES, "x") | {"id": 7, "time": "2026-11-19T04:00:00Z", "text": 1.5}
    assert compile_format(Rendering("standard", mapping)).encode(block_of(NAMES, [row]))[0] == (
        b'{"a":1.5,"b":"7","c":"2026-11-19T04:00:00.000000Z","d":null}\n'
    )


def test_a_lookup_remembers_no_more_than_it_should(file: Path) -> None:
    """However many different values come, and however long; and it still decides right."""
    content = {"fields": {"a": {"$match": "action", "*7": 7, "*": 0}}}
    form = compile_format(bound(content, file))
    for start in range(0, 6000, 2000):
        rows = [
            dict.fromkeys(NAMES, "x") | {"action": f"{'long' * 50}{n}"} for n in range(start, start + 2000)
        ]
        lines = form.encode(block_of(NAMES, rows, branch=Branch.UNREADABLE))[0].splitlines()
        assert lines == [b'{"a":7}' if n % 10 == 7 else b'{"a":0}' for n in range(start, start + 2000)]


BAD: Final = BadRecord('7"\u2028\ud800', "longer than 3 bytes", 5, b"\xffabcd")
ENVELOPE: Final[Mapping[str, Json]] = {
    "time": "time | epoch",
    "host": "=web",
    "source": None,
    "event": "$event",
    "fields": {"event_id": "id | text", "sequence": "$sequence", "who": "email | text"},
}


def test_the_line_of_a_record_that_has_no_other_goes_into_the_envelope(file: Path) -> None:
    """At the end of the window, under its id, with what is known without the record."""
    form = compile_format(
        bound({"fields": {"a": "id"}, "envelope": {"source": "email | text"}}, file, ENVELOPE), OCCASION
    )
    line = form.bad_line(BAD)
    assert len(line.decode().splitlines()) == 1
    found = json.loads(line)
    assert found.pop("event") == json.loads(
        compile_format(bound({"fields": {"a": "id"}}, file)).bad_line(BAD)
    )
    assert found == {
        "time": 1795060800.25,
        "host": "web",
        "fields": {"event_id": BAD.id, "sequence": SEQUENCE},
    }
    assert b'"time":1795060800.250000,' in line


def test_an_envelope_has_the_record_as_it_is_and_nothing_without_a_value(file: Path) -> None:
    row: dict[str, Any] = dict.fromkeys(NAMES, "x") | {"time": "2026-11-19T04:00:00.25Z"}
    rows = [row | {"e-mail": email} for email in ("a", None)]
    content = {"fields": {"a": "email"}, "envelope": {"source": "email | upper"}}
    lines = (
        compile_format(bound(content, file, ENVELOPE), OCCASION).encode(block_of(NAMES, rows))[0].splitlines()
    )
    assert lines[0] == (
        b'{"time":1795060800.250000,"host":"web","source":"A","event":{"a":"a"},'
        b'"fields":{"event_id":"x","sequence":17,"who":"a"}}'
    )
    assert json.loads(lines[1]).keys() == {"time", "host", "event", "fields"}
    assert json.loads(lines[1])["event"] == {"a": None}


def test_the_number_of_the_delivery_is_that_of_the_occasion(file: Path) -> None:
    """Formats are compiled once for many deliveries."""
    rendering = bound({"fields": {"n": "$sequence"}}, file)
    row = dict.fromkeys(NAMES, "x")
    found = [
        compile_format(rendering, Occasion(number, OCCASION.window_end)).encode(block_of(NAMES, [row]))[0]
        for number in (1, 2)
    ]
    assert found == [b'{"n":1}\n', b'{"n":2}\n']


def test_one_compiled_format_serves_sources_with_different_columns() -> None:
    """`native` goes by the columns of the block, and never by those of the one before."""
    mapping = bind(FormatChoice(name="native"), ROLES, {"event": "$event"})[1]
    form = compile_format(Rendering("native", mapping))
    for extra in ("a", "b", "a"):
        row = {"id": 1, "time": "x", "account": "acme", extra: 2}
        found = form.encode(block_of(tuple(row), [row]))[0]
        assert json.loads(found) == {"event": row}
