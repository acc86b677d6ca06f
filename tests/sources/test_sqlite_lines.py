"""Lines that SQLite makes: the bytes of those made value by value, whatever is stored, or none at all."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from exporter.columns import Roles
from exporter.formats import compile_format
from exporter.formats.templates import PlainTemplate
from exporter.interfaces import Lined, Member, Way
from exporter.model import Range, Rendering, Window, flat_mapping
from exporter.rendering import Renderer
from exporter.sources.sqlite import SqliteSource, looks
from exporter.sources.sqlite import lines as module
from exporter.sources.sqlite.joining import _PIECES_AHEAD
from tests.kit import sqlite_values
from tests.kit.archives import Here

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from exporter.interfaces import Block, Format
    from exporter.model import Json, Key

ROLES = Roles(id="id", time="time", account="account")
DECLARED = {
    "text": "TEXT",
    "number": "INTEGER",
    "real": "REAL",
    "details": "JSON",
    "bare": "",
    "more": "JSON",
}
START = datetime(2026, 11, 19, tzinfo=UTC)
WINDOW = Window(START, START + timedelta(hours=4))
NATIVE: Json = None
STRINGS = flat_mapping(
    {name: ("string", name) for name in ("more", "text", "account", "number", "id", "details", "bare")}
    | {"at": ("instant", "time")}
)
MIXED = flat_mapping(
    {"details": ("value", "details"), "who": ("string", "text"), "more": ("value", "more")}
    | {"when": ("value", "time"), "id": ("value", "id"), "bare": ("value", "bare")}
)
LOOKS = (0, looks.LARGE_BYTES)
"""From how many bytes on lines are looked at as one: all of them, or none of what tests have."""
FORMATS = {"native": NATIVE, "strings": STRINGS, "mixed": MIXED}

_ODD = [
    '"',
    "\\",
    '\\"',
    "\\\\u",
    "C:\\new\\users",
    "\x00",
    "\n\r\t\b\f",
    "\v",
    "\x1f",
    "\x7f",
    "\u2028",
    "\x85",
]
_MARKS = ["é😀", "12", "null", '"}', "}\n{", ',"details":', "char(1)", "\x01", "password=x1y2z3"]
_TEXT = st.text(max_size=6) | st.sampled_from(_ODD) | st.sampled_from(_MARKS)
_JSON = st.sampled_from(
    ['{"a": [1, "x"]}', '{\n\t"a":\r1}', "[1", "2]", "1,2", '"a","b"', "null", " 7 ", "NaN", "", '"\\ud800"']
) | st.sampled_from(
    ['{"a":"\\u00e9\\n"}', '"\u2028"', '{"token": "q1w2e3"}', "[" * 1200 + "]" * 1200, '"\x1f"', "12", "1.50"]
)
_VALUE = sqlite_values.values(_TEXT | _JSON)
_USUAL = "{0:%Y-%m-%dT%H:%M:%S}.{1:06}Z"
_TIME_FORMS = (_USUAL, "{0:%Y-%m-%d %H:%M:%S}", "{0:%Y-%m-%dT%H:%M:%S}.{1:06}000+00:00")


def at(index: int, form: str = _USUAL) -> str:
    moment = START + timedelta(milliseconds=index)
    return form.format(moment, moment.microsecond)


def fill(path: Path, rows: Sequence[Sequence[object]], form: str = _USUAL, more: str = "") -> None:
    """A table of rows, each value for the column at its place; bytearrays are texts of any bytes."""
    columns = ", ".join(f"{name} {declared}" for name, declared in DECLARED.items())
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("DROP TABLE IF EXISTS t")
        connection.execute(
            f"CREATE TABLE t (id INTEGER PRIMARY KEY, time DATETIME, account TEXT, {columns}{more})"
        )
        connection.execute("CREATE INDEX by_time ON t (account, time, id)")
        for index, row in enumerate(rows):
            values = [at(index, form), "acme", *row]
            fields = ["CAST(? AS TEXT)" if isinstance(value, bytearray) else "?" for value in values]
            names = ", ".join(("time", "account", *DECLARED)[: len(values)])
            connection.execute(f"INSERT INTO t ({names}) VALUES ({', '.join(fields)})", values)


def format_of(mapping: Json = NATIVE, *, masks: bool = False) -> Format:
    return compile_format(Rendering("file:test", mapping, mask_secrets=masks))


def source_of(path: Path, block_rows: int = 2_000) -> SqliteSource:
    return SqliteSource(path, roles=ROLES, table="t", block_rows=block_rows)


def read(path: Path, form: Format, block_rows: int = 2_000) -> list[Block]:
    """The blocks of a range, with lines where SQLite makes them."""
    source = source_of(path, block_rows)
    assert form.template is not None
    one = Range("acme", WINDOW, source.seal(), None)
    return [block for _, block in source.read_lines([one], form.columns, form.template)]


def one_by_one(path: Path, form: Format) -> list[tuple[Key, bytes]]:
    """Key and line of each record, through blocks of rows, no two of which are written together."""
    source = SqliteSource(path, roles=ROLES, query="SELECT * FROM t", block_rows=1)
    with source._snapshot() as snapshot:  # a query has no declared types, so it is given those of the table
        typed = source_of(path)
        with typed._snapshot() as of_table:
            layout = of_table.layout(form.columns)
        one = Range("acme", WINDOW, typed.seal(), None)
        return [(block.key(0), encoded(form, block)) for block in snapshot.blocks(one, layout, 1)]


def encoded(form: Format, block: Block) -> bytes:
    """A block's lines; those of a record that has none are empty."""
    try:
        return form.encode(block)[0]
    except ValueError:
        if len(block) == 1:
            return b"\n"
    return b"".join(encoded(form, block.slice(index, index + 1)) for index in range(len(block)))


def seen(form: Format, found: Sequence[Block]) -> list[tuple[Key, bytes]]:
    records: list[tuple[Key, bytes]] = []
    for block in found:
        assert block.belongs_to("acme")
        assert not block.belongs_to("acme ")
        lines = encoded(form, block).split(b"\n")
        assert len(lines) == len(block) + 1
        times, ids = block.keys()
        keys = [block.key(index) for index in range(len(block))]
        assert list(zip(times, ids, strict=True)) == keys
        records += [(key, line + b"\n") for key, line in zip(keys, lines, strict=False)]
    return records


@settings(deadline=None, max_examples=60)
@given(
    rows=st.lists(st.tuples(*[_VALUE] * len(DECLARED)), max_size=9)
    | st.lists(st.tuples(_TEXT, st.integers(0, 9), st.none(), _JSON | st.none(), _TEXT, _JSON), max_size=30),
    block_rows=st.sampled_from([1, 2, 5, 100]),
    name=st.sampled_from(list(FORMATS)),
    masks=st.booleans(),
    form=st.sampled_from(_TIME_FORMS),
    large=st.sampled_from(LOOKS),
)
@example([("a", 1, None, "[1", "b", "2]")], 5, "native", False, _USUAL, 0)
@example([("a", 1, None, '"\x1f"', "b", "[3]")], 5, "mixed", False, _USUAL, 0)
@example(
    [("a", 1, None, '"\u2028"', "b", "[1]"), ("a", 1, None, '{\n\t"a":\r1}', "b", "[2]")],
    1,
    "mixed",
    True,
    _USUAL,
    0,
)
@example([(None, "", None, None, "\x0b"), (None, "0", None, None, "\x0b")], 1, "native", False, _USUAL, 0)
def test_lines_are_those_made_value_by_value(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[object, ...]],
    block_rows: int,
    name: str,
    masks: bool,  # noqa: FBT001 - drawn
    form: str,
    large: int,
) -> None:
    """Any value of any type in any column: the same bytes, keys and order as record by record."""
    path = tmp_path_factory.mktemp("lines") / "audit.db"
    fill(path, rows, form)
    wanted = format_of(FORMATS[name], masks=masks)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "LARGE_BYTES", large)
        found = read(path, wanted, block_rows)
    assert seen(wanted, found) == one_by_one(path, wanted)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.db"


@pytest.fixture(params=LOOKS)
def either_look(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines are looked at as one, or text by text."""
    monkeypatch.setattr(module, "LARGE_BYTES", request.param)


def is_lined(path: Path, mapping: Json = NATIVE, *, masks: bool = False) -> bool:
    """Whether the only block has its lines; whether it has or not, they are right."""
    form = format_of(mapping, masks=masks)
    found = read(path, form)
    assert seen(form, found) == one_by_one(path, form)
    (block,) = found
    return isinstance(block, Lined)


PLAIN = ('it\'s "é" of C:\\users\\new\\\\x, \n \t', 7, None, '{"a": "\\u00e9\\n", "b":\n[1]}', "x", "no JSON")


@pytest.mark.usefixtures("either_look")
@pytest.mark.parametrize("name", FORMATS)
def test_plain_records_have_lines(path: Path, name: str) -> None:
    """Quotes, usual escapes, nulls, letters of any script and JSON of any kind are no hindrance."""
    fill(path, [PLAIN, ("", -(2**63), None, None, None, "12x")])
    assert is_lined(path, FORMATS[name], masks=False)


@pytest.mark.usefixtures("either_look")
@pytest.mark.parametrize(
    "odd",
    [
        pytest.param({"text": "a\x01"}, id="control character"),
        pytest.param({"text": "a\x00b"}, id="NUL"),
        pytest.param({"text": "a\x1fb"}, id="separator"),
        pytest.param({"text": "\\\\\x0b"}, id="control character behind backslashes"),
        pytest.param({"text": "a\u2028b"}, id="line separator"),
        pytest.param({"text": "a\u2029b"}, id="paragraph separator"),
        pytest.param({"text": "a\x85b"}, id="next line"),
        pytest.param({"text": b"blob"}, id="blob"),
        pytest.param({"bare": b"blob"}, id="blob without a type"),
        pytest.param({"text": bytearray(b"caf\xe9")}, id="no UTF-8"),
        pytest.param({"details": bytearray(b'"caf\xe9"')}, id="JSON that is no UTF-8"),
        pytest.param({"bare": 0.1 + 0.2}, id="real"),
        pytest.param({"details": 1.5}, id="real as JSON"),
        pytest.param({"details": 7}, id="integer as JSON"),
        pytest.param({"details": b"{}"}, id="blob as JSON"),
        pytest.param({"details": '"\x1f"'}, id="separator in JSON"),
        pytest.param({"details": "1\x1f,\x1f2"}, id="separators around what is none"),
    ],
)
def test_what_sqlite_might_write_otherwise_has_no_line(path: Path, odd: dict[str, object]) -> None:
    """Each of these alone sends its block the other way, and its record goes out as it always did."""
    row = dict(zip(DECLARED, PLAIN, strict=True)) | odd
    fill(path, [PLAIN, tuple(row.values()), PLAIN])
    assert not is_lined(path)
    fill(path, [PLAIN, PLAIN, PLAIN])
    assert is_lined(path)


def test_blobs_are_no_json_to_any_sqlite(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Versions that take blobs for JSON are given none, and write the same lines."""
    monkeypatch.setattr(module, "_TAKES_BLOBS", True)
    fill(path, [PLAIN])
    assert is_lined(path)
    with closing(sqlite3.connect(path)) as connection:
        names = re.escape("typeof(\"text\") WHEN 'text'")
        source, form = source_of(path), format_of()
        statements: list[str] = []
        with source._snapshot() as snapshot:
            snapshot.connection.set_trace_callback(statements.append)
            one = Range("acme", WINDOW, source.seal(), None)
            list(snapshot.blocks(one, snapshot.layout(None), 9, form.template))
        assert connection
    assert any(re.search(names, made) for made in statements)


def test_a_column_worked_out_by_sql_has_no_line(path: Path) -> None:
    """What `json()` gives SQLite knows as JSON, and would put it into a line as that, and not as a text."""
    fill(path, [PLAIN], more=", worked_out TEXT AS (json('[1]'))")
    assert not is_lined(path)
    fill(path, [PLAIN], more=", worked_out TEXT AS (json('[1]')) STORED")
    assert is_lined(path)


@pytest.mark.parametrize(("form", "lined"), [(one, one == _USUAL) for one in _TIME_FORMS])
def test_times_stand_as_instants_only_if_they_are_written_so(path: Path, form: str, lined: bool) -> None:  # noqa: FBT001
    """A time of another form is rewritten, column by column."""
    fill(path, [PLAIN, PLAIN], form)
    assert is_lined(path, STRINGS) == lined
    assert is_lined(path, NATIVE)


@pytest.mark.usefixtures("either_look")
@pytest.mark.parametrize("secret", [{"text": "password=q1w2e3r4"}, {"details": '{"api_key": "q1w2"}'}])
def test_signs_of_secrets_send_a_block_the_other_way(path: Path, secret: dict[str, object]) -> None:
    """Where secrets are masked, no line that may hold one goes out as it stands."""
    row = dict(zip(DECLARED, PLAIN, strict=True)) | secret
    fill(path, [PLAIN, tuple(row.values())])
    assert is_lined(path, masks=False)
    assert not is_lined(path, masks=True)
    fill(path, [PLAIN])
    assert is_lined(path, masks=True)


def test_parts_end_where_they_do_without_lines(path: Path, tmp_path: Path) -> None:
    """A limit in the middle of a block of lines gives the records that fit, and the key of the last."""
    fill(path, [PLAIN] * 40)
    form, found = format_of(), {}
    for way in ("lines", "rows"):
        (tmp_path / way).mkdir()
        blocks = (
            read(path, form, 15)
            if way == "lines"
            else list(source_of(path, 15).read([Range("acme", WINDOW, source_of(path).seal(), None)], None))
        )
        only = [block[1] if isinstance(block, tuple) else block for block in blocks]
        assert isinstance(only[0], Lined) == (way == "lines")
        rendered = Renderer(form, Rendering("native", None), "acme", 5_000).render(
            only, Here(tmp_path / way), "m.json"
        )
        content = rendered.content
        found[way] = (content.count, content.content_sha256, rendered.last_key, rendered.final)
    assert found["lines"] == found["rows"]
    assert 15 < found["lines"][0] < 40


def test_odd_records_cost_their_own_block_its_lines(path: Path) -> None:
    """Blocks before and behind have theirs; nothing is lost in between, nothing comes twice."""
    rows: list[Sequence[object]] = [PLAIN] * 20
    rows[7] = ("\x01", *PLAIN[1:])
    rows[13] = ("x", 1, None, "{}", b"blob", "{}")
    fill(path, rows)
    form = format_of()
    found = read(path, form, 4)
    assert [isinstance(block, Lined) for block in found] == [True, False, True, False, True]
    assert seen(form, found) == one_by_one(path, form)


def test_lines_that_are_odd_again_and_again_are_not_asked_for(path: Path) -> None:
    """After a few tries the rest is read as before: each of them reads its records twice."""
    fill(path, [("\x01", *PLAIN[1:])] * 40)
    source, form = source_of(path, 2), format_of()
    statements: list[str] = []
    with source._snapshot() as snapshot:
        snapshot.connection.set_trace_callback(statements.append)
        one = Range("acme", WINDOW, source.seal(), None)
        found = list(snapshot.blocks(one, snapshot.layout(None), 2, form.template))
    assert seen(form, found) == one_by_one(path, form)
    tried = [made for made in statements if "json_object" in made and "EXPLAIN" not in made]
    assert 4 <= len(tried) <= 4 + _PIECES_AHEAD  # these may be under way when the fourth is looked at


def test_large_records_are_no_lines_and_small_ones_behind_them_are(path: Path) -> None:
    """SQLite gives up a text of lines that would take too much memory."""
    rows: list[Sequence[object]] = [PLAIN] * 120
    for index in range(50, 56):
        rows[index] = ("x" * 900_000, *PLAIN[1:])
    fill(path, rows)
    form = format_of()
    found = read(path, form, 20)
    assert seen(form, found) == one_by_one(path, form)
    assert isinstance(found[0], Lined)
    assert isinstance(found[-1], Lined)


def test_only_looks_that_were_taken_make_later_ones_go_deeper(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Getting ready for objects in objects takes long: not for blocks that nobody looks at as one."""
    fill(path, [("a", 1, None, '{"b": {"c": [1]}}', "x", "[]")] * 9)
    form = format_of()
    for large, misses in ((looks.LARGE_BYTES, 0), (0, 3)):
        monkeypatch.setattr(module, "LARGE_BYTES", large)
        monkeypatch.setattr(looks._SIGHT, "misses", 0)
        assert seen(form, read(path, form, 3)) == one_by_one(path, form)
        assert looks._SIGHT.misses == misses


# --- Templates -------------------------------------------------------------------------------------


def object_of(*fields: Any) -> Json:  # noqa: ANN401 - trees
    return {"line": "json", "nulls": "keep", "fields": ["object", list(fields)]}


@pytest.mark.parametrize(
    "mapping",
    [
        object_of(["a", ["column", "text", "lower"]]),
        object_of(["a", ["const", "1"]]),
        object_of(["a", ["object", [["b", ["column", "text"]]]]]),
        object_of(["a", ["column", "text"]], ["b", ["column", None, "text"]]),
        object_of(["a", ["column", "text"]]) | {"nulls": "omit"},  # type: ignore[operator]
    ],
)
def test_a_format_that_does_more_than_write_down_has_no_template(mapping: Json) -> None:
    """Conversions, constants, nesting and what is left out are the format's own to do."""
    assert format_of(mapping).template is None


def test_filters_and_protection_have_no_template() -> None:
    """What judges or changes values needs them."""
    chosen: Json = {"where": [["text", ["a*"]]], "fields": []}
    assert compile_format(Rendering("native", None, chosen=chosen)).template is None
    assert compile_format(Rendering("native", None, chosen={"where": [], "fields": ["t*"]})).template is None
    assert compile_format(Rendering("native", None, protected={"text": "drop"})).template is None
    assert compile_format(Rendering("native", None)).template == PlainTemplate()


@pytest.mark.parametrize("name", ['"', "\\", "é", "a\n"])
def test_names_that_need_escapes_make_no_lines(name: str) -> None:
    """How SQLite would write them is nobody's business."""
    assert PlainTemplate().members(["id", name]) is None
    assert PlainTemplate().members(["id", "it's"]) == [
        Member("id", "id", Way.JSON),
        Member("it's", "it's", Way.JSON),
    ]


@pytest.mark.parametrize("name", ["password", "api_key", "sort_key"])
def test_names_that_tell_of_secrets_make_no_lines_where_these_are_masked(name: str) -> None:
    """A value that is a secret by its column's name has no sign; and a name with one would hide no other."""
    assert PlainTemplate(without_secrets=True).members(["id", name]) is None
    assert PlainTemplate().members(["id", name]) is not None
