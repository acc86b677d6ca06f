"""Columns in the forms that cost less to write give the lines that plain sequences give."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from exporter.formats import compile_format
from exporter.formats.conversions import converted, text_of
from exporter.formats.expressions import members, objects
from exporter.formats.lookups import Match
from exporter.formats.masking import suspicious
from exporter.formats.nodes import BlockView, Constant
from exporter.formats.nodes import Column as ColumnNode
from exporter.formats.patterns import pattern_of
from exporter.formats.secret_names import MASK
from exporter.formats.secret_signs import places
from exporter.formats.weaving import each_woven, woven
from exporter.fragments import Figures, Same, Strings, Values, has_null, has_words, joined, picked
from exporter.model import Rendering
from tests.formats.test_mapping import OCCASION, bound, file, formats, rows_of_anything  # noqa: F401 - a fixture
from tests.formats.test_masking import TOKENS
from tests.formats.test_standard_and_native import NAMES, block_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from exporter.interfaces import Block, Column

STRING: Final = re.compile(rb'"(.*)"', re.DOTALL)
INSTANT: Final = re.compile(rb'"(.*)Z"', re.DOTALL)
NULL: Final = b"null"


def formed(fragments: Sequence[bytes], end: bytes = b'"') -> Sequence[bytes]:
    """The same column in the cheapest form that it has."""
    if fragments and len(set(fragments)) == 1:
        return Same(fragments[0], len(fragments))
    inside = [(INSTANT if end == b'Z"' else STRING).fullmatch(one) for one in fragments]
    if fragments and all(inside):
        return Strings([one[1] for one in inside if one], end=end)
    return fragments


@dataclass
class FormedColumn:
    """A column in such forms."""

    column: Column

    def json(self) -> Sequence[bytes]:
        return formed(self.column.json())

    def strings(self) -> Sequence[bytes]:
        return formed(self.column.strings())

    def instants(self) -> Sequence[bytes]:
        return formed(self.column.instants(), b'Z"')


class FormedBlock:
    """A block over another one, with its columns in such forms."""

    def __init__(self, block: Block) -> None:
        self._block = block
        self.columns: Mapping[str, Column] = {name: FormedColumn(one) for name, one in block.columns.items()}

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the block has
        return getattr(self._block, name)

    def __len__(self) -> int:
        return len(self._block)


# --- The forms ---------------------------------------------------------------------------------------

fragments_of_one = st.sampled_from([b"a", b"", b'\\"', b"5", b"\xc3\xa9"])
columns_of_forms = st.one_of(
    st.lists(fragments_of_one, max_size=5).map(Strings),
    st.lists(fragments_of_one, max_size=5).map(lambda inside: Strings(inside, end=b'Z"', has_words=False)),
    st.builds(Same, fragments_of_one | st.just(NULL), st.integers(0, 5)),
    st.lists(st.sampled_from([b"1", b"true", NULL]), max_size=5).map(Figures),
    st.lists(st.sampled_from([b"1", b"", NULL]), max_size=5).map(Values),
    st.lists(st.sampled_from([b"1", b"", NULL]), min_size=1, max_size=5).map(
        lambda listed: Values.of_lines(b"\n".join(listed), len(listed))
    ),
)


@given(columns_of_forms, st.data())
def test_every_form_is_the_sequence_of_its_values(column: Sequence[bytes], data: st.DataObject) -> None:
    """For whoever does not know of it: length, places from either end, slices, counts and what is picked."""
    plain = list(column)
    assert len(column) == len(plain)
    assert [column[index] for index in range(-len(plain), len(plain))] == plain + plain
    assert [column.count(one) for one in plain] == [plain.count(one) for one in plain]
    assert column.count(b"no such") == 0
    with pytest.raises(IndexError):
        column[len(plain)]
    start, stop = data.draw(st.tuples(st.integers(-7, 7), st.integers(-7, 7)))
    assert list(column[start:stop]) == plain[start:stop]
    assert column == plain
    assert has_null(column) == (NULL in plain)
    indexes = data.draw(st.lists(st.integers(0, len(plain) - 1), max_size=5)) if plain else []
    some = picked(column, indexes)
    assert list(some) == [plain[index] for index in indexes]
    assert has_words(some) or not has_words(column) or not len(some)


def test_no_values_are_no_empty_one() -> None:
    for none in (Values([]), Values()):
        assert (len(none), none.joined, none.listed, none.only()) == (0, b"", [], None)
        assert not none.has(b"")
    assert Values.of_lines(b"", 1).has(b"")


@given(st.lists(st.tuples(columns_of_forms, st.sampled_from([b"", b",", b'"%s":'])), min_size=1, max_size=4))
def test_forms_are_woven_as_plain_columns_are(found: list[tuple[Sequence[bytes], bytes]]) -> None:
    """Whatever stands beside them; and a column that is too short or too long is refused."""
    count = max(len(column) for column, _ in found)
    parts = [part for column, text in found for part in (text, column)]
    if any(len(column) != count for column, _ in found):
        with pytest.raises(ValueError):  # noqa: PT011 - whatever its words
            woven(parts, count)
        return
    plain = [b"".join(pieces) for pieces in zip(*(_each(part, count) for part in parts), strict=True)]
    assert list(each_woven(parts, count)) == plain
    assert woven(parts, count) == b"".join(plain)


def _each(part: bytes | Sequence[bytes], count: int) -> list[bytes]:
    return [part] * count if isinstance(part, bytes) else list(part)


# --- Through a format --------------------------------------------------------------------------------


@settings(deadline=None, max_examples=100)
@given(formats, rows_of_anything(), st.booleans())
@example({"fields": {"a": {"b": {"c": "email"}}}, "nulls": "omit"}, [], True)
def test_no_form_changes_a_line(
    file: Path,  # noqa: F811 - the fixture
    content: dict[str, Any],
    rows: list[dict[str, Any]],
    masks_secrets: bool,  # noqa: FBT001 - a draw
) -> None:
    """Of any mapping, and what is counted stays as well."""
    block = block_of((*NAMES, "json"), rows, frozenset({"json"}))
    form = compile_format(replace(bound(content, file), mask_secrets=masks_secrets), OCCASION)
    assert form.encode(FormedBlock(block)) == form.encode(block)


def _json(text: str) -> bytes:
    return json.dumps(text, ensure_ascii=False).encode()


PATTERNS: Final = st.lists(
    st.sampled_from(["", "*", "?*", "??*", "???*", "?????*"]), min_size=1, max_size=4, unique=True
)
KEYS: Final = st.lists(
    st.text('aé😀"\\\n ', max_size=7).map(_json)
    | st.sampled_from([NULL, b" null ", b' "a" ', b"12", b"123456 ", b'"\\u00e9"', b' "" ']),
    min_size=1,
    max_size=6,
)


@pytest.mark.parametrize("names", [["a", "b"], ["b", "a"], ["a"], ["b", "c"], ["c", "a", "b"], ["c"]])
def test_what_only_some_records_have_is_left_out_of_the_others(names: list[str]) -> None:
    """Of an object within an object, whichever of its members is the one that all records have, if any."""
    columns: dict[str, Sequence[bytes]] = {
        "a": [b'"1"', NULL],
        "b": Strings([b"2", b"3"]),
        "c": Same(NULL, 2),
    }
    found = [(b'"%b":' % name.encode(), ColumnNode(name, ())) for name in names]
    style = objects(keeps_nulls=False, nothing=b"{}")
    node = members([(b'"o":', members(found, style))], style)
    expected = [{name: json.loads(columns[name][row]) for name in names} for row in range(2)]
    kept = [{name: value for name, value in one.items() if value is not None} for one in expected]
    assert [json.loads(line) for line in node.fragments(_View(columns))] == [{"o": one} for one in kept]


@pytest.mark.parametrize(
    ("fragment", "is_one"),
    [
        (b'"a@b.c"', True),
        (b'"a\\u0040b.c"', True),
        (b' "a@b.c"', False),
        (b'"a@b.c" ', True),
        (b'"a@b"', False),
        (b'"\xc3\xa9@b.c"', False),
        (b'"\\"a@b.c"', False),
        (NULL, False),
    ],
)
@pytest.mark.parametrize("beside", [NULL, b'"pseudonym"', b'"d@e.f"'])
def test_an_address_is_one_however_json_spells_it(fragment: bytes, beside: bytes, *, is_one: bool) -> None:
    """And whatever stands beside it."""
    found = converted(_Json([fragment, beside]), ("value", "email"))
    assert found[0] == (fragment if is_one else NULL)
    assert found[1] == (beside if b"@" in beside else NULL)


@given(PATTERNS, KEYS)
def test_a_lookup_for_a_length_takes_the_first_that_fits(patterns: list[str], keys: list[bytes]) -> None:
    """However long, in whatever form the keys come, and however JSON spells their characters."""
    branches = [(one, Constant(b"%d" % number)) for number, one in enumerate(patterns)]
    expected = [
        next((b"%d" % number for number, one in enumerate(patterns) if fits(one, text_of(key))), NULL)
        for key in keys
    ]
    match = Match(ColumnNode("key", ()), branches, Constant(NULL))
    for column in (keys, formed(keys)):
        assert list(match.fragments(_View({"key": column}))) == expected


def fits(pattern: str, text: str) -> bool:
    return pattern_of(pattern).fullmatch(text) is not None


class _View(BlockView):
    """Records of which some columns are known."""

    def __init__(self, columns: Mapping[str, Sequence[bytes]]) -> None:
        self._known = columns
        self._found = {}
        self.count = len(next(iter(columns.values())))

    def column(self, name: str, conversions: tuple[str, ...]) -> Sequence[bytes]:
        del conversions
        return self._known[name]


class _Json:
    """A column of JSON as it stands."""

    def __init__(self, fragments: Sequence[bytes]) -> None:
        self._fragments = fragments

    def json(self) -> Sequence[bytes]:
        return self._fragments

    strings = instants = json


# --- Secrets -----------------------------------------------------------------------------------------


@given(
    st.lists(
        st.one_of(st.uuids(), st.ip_addresses(), st.integers(), st.floats(), st.datetimes(), st.dates()).map(
            str
        )
        | st.binary(min_size=6, max_size=8).map(lambda raw: raw.hex(":"))
    )
)
def test_what_is_not_looked_through_can_hold_no_secret(values: list[str]) -> None:
    """Numbers, times, addresses and UUIDs have no sign of one."""
    assert places("\n".join(values).encode()) == []


def test_columns_without_words_are_not_looked_through() -> None:
    token = TOKENS[0].encode()
    assert suspicious(Strings([token, b"a"])) == [0]
    assert suspicious(Strings([token], has_words=False)) == []
    assert suspicious(Figures([token])) == []
    assert joined(Strings([b"a", b"b"])) == b"a\nb"


def test_a_secret_that_all_records_have_is_masked_in_each() -> None:
    """And counted in each, though it is looked for once; a record whose id it is keeps it."""
    names = ("id", "time", "account", "note")
    rows = [(number, "2026-11-19T04:00:00Z", "acme", TOKENS[0]) for number in (1, 2, TOKENS[0])]
    form = compile_format(Rendering("native", None, mask_secrets=True))
    block = FormedBlock(block_of(names, [dict(zip(names, row, strict=True)) for row in rows]))
    lines, counts = form.encode(block)
    assert lines.count(MASK.encode()) == 2
    assert counts == {"secrets": 2}
