"""A look at whole lines says that they are as orjson would write them only where each of them is."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from exporter.sources.sqlite import looks

MARK = "\x1f"

_BYTES = st.sampled_from(
    [b"a", b'"', b"\\", b"n", b"u", b"/", b"\x01", b"\x1f", b"\n", b"{", b"}", b"\x7f"]
    + [one.encode() for one in "\u2028\u2029\x85\u2027\xa0é€😀\uffff\U0010ffff"]
    + [bytes([code]) for code in (0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC2, 0xDF, 0xE0, 0xE2, 0xED)]
    + [bytes([code]) for code in (0xEF, 0xF0, 0xF4, 0xF5, 0xFF)]
)
_TEXTS = st.text(st.sampled_from('ab0"\\/\n\x7fé\u2028😀'), max_size=4)
_SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _TEXTS
)
_FLAT = _SCALARS | st.lists(_SCALARS, max_size=3) | st.dictionaries(_TEXTS, _SCALARS, max_size=3)
_OBJECTS = st.none() | st.dictionaries(_TEXTS, _FLAT, max_size=3)
_NESTED = st.recursive(_SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXTS, inner))
_SPLICES = st.sampled_from(
    [
        *("", " ", "  ", "\n", "\t", ",", ":", "[", "]", "{", "}", '"', "\\", "\\u12", "\\ud800", "\\x"),
        *("0", "-", ".", "e", "+", "1.", "01", "1e5", "-0", "NaN", "tru", "true", "null", "é"),
        *("\u2028", "\x85", "\x01", MARK),
    ]
)
_PLAIN = st.sampled_from(['{"a":1,"b":', '"c\\n\\\\"}', "}\n{", "", "é", ',"x":null}\n{"a":'])
_ODD = st.sampled_from(["\n", "\\u0041", "\\/", "\u2029", "\x00", "\\", "}\n"])


@pytest.fixture(autouse=True)
def few_misses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test begins like a new thread."""
    monkeypatch.setattr(looks._SIGHT, "misses", 0)


def spoken_for(text: bytes) -> bool:
    """What `is_remarkable` finds, said at length."""
    try:
        plain = text.decode()
    except UnicodeDecodeError:
        return True
    bare = plain.replace("}\n{", "}{")
    escapes = re.findall(r"\\(.)", bare, re.DOTALL)
    return bool(re.search("[\x00-\x1e\x85\u2028\u2029]", bare)) or not set(escapes) <= set('"\\bfnrt')


@settings(deadline=None, max_examples=300)
@given(st.lists(_BYTES, max_size=8).map(b"".join))
def test_what_is_remarkable_is_found_wherever_it_stands_and_by_both_engines(text: bytes) -> None:
    """Bytes that are no UTF-8, controls, escapes and separators; and nothing else."""
    for whole in (text + b"}", b"{" + text + b"}", b"{" + text + b"a" * 17_000 + b"}"):
        assert looks.is_remarkable(whole) == spoken_for(whole)


@settings(deadline=None, max_examples=300)
@given(st.lists(_BYTES, max_size=8).map(b"".join).filter(lambda text: MARK.encode() not in text))
def test_both_looks_find_the_same_where_there_are_no_texts_of_json(text: bytes) -> None:
    """The quicker one, too, which takes its look at what is beyond ASCII by itself."""
    whole = b"{" + text + b"}"
    assert looks.are_as_they_stand(whole) != spoken_for(whole)


def _is_led(values: list[Any]) -> bool:
    """Whether the first of some values promises no objects."""
    return values[0] is not None and not isinstance(values[0], dict)


def written(value: Any, *, is_compact: bool, is_ascii: bool) -> str:  # noqa: ANN401 - anything JSON has
    return json.dumps(value, separators=(",", ":") if is_compact else None, ensure_ascii=is_ascii)


def is_json_as_it_stands(text: str) -> bool:
    """Whether a line has this text as it is."""
    try:
        json.loads(text, parse_constant=lambda _: json.loads("{"), parse_int=str)
    except ValueError:
        return False
    return not re.search("[\x00-\x1f\x85\u2028\u2029]", text)


@st.composite
def damaged(draw: st.DrawFn) -> str:
    """A text of JSON, often with something too many or too few."""
    text = written(draw(_NESTED), is_compact=draw(st.booleans()), is_ascii=draw(st.booleans()))
    start, stop = sorted((draw(st.integers(0, len(text))), draw(st.integers(0, len(text)))))
    return text if draw(st.booleans()) else text[:start] + draw(_SPLICES) + text[max(start, stop - 3) :]


@settings(deadline=None, max_examples=200)
@given(
    texts=st.lists(damaged(), max_size=3),
    between=st.lists(_PLAIN | _ODD, min_size=4, max_size=4),
    misses=st.sampled_from([0, 1_000]),
)
@example(texts=["[1", "2]"], between=["{", ",", "}", ""], misses=0)
@example(texts=['"a" "b"'], between=["{", "}", "", ""], misses=0)
@example(texts=["{}{}"], between=["{", "}", "", ""], misses=0)
@example(texts=['{"a":1,}'], between=["{", "}", "", ""], misses=0)
@example(texts=["-"], between=["{", "}", "", ""], misses=1_000)
def test_it_says_yes_only_of_json_on_one_line_between_lines_without_a_remark(
    texts: list[str], between: list[str], misses: int
) -> None:
    """Whatever is damaged in whatever way, and however deep it is looked."""
    whole = between[0] + "".join(
        f"{MARK}{text}{MARK}{plain}" for text, plain in zip(texts, between[1:], strict=False)
    )
    pieces = whole.split(MARK)
    looks._SIGHT.misses = misses
    if looks.are_as_they_stand(whole.encode()):
        assert len(pieces) % 2
        assert all(map(is_json_as_it_stands, pieces[1::2]))
        # A line feed between two lines may have been cut off from the brace of either of them.
        assert not spoken_for("".join(pieces[::2]).encode())


_NEARLY = [
    *(
        "",
        " ",
        "01",
        "-01",
        "1.",
        ".5",
        "1.e5",
        "1e",
        "1e+",
        "-",
        "+1",
        "0x1",
        "1 2",
        "NaN",
        "Infinity",
        "-a",
    ),
    *(
        "tru",
        "truee",
        "True",
        "nul",
        "fals",
        '"',
        '"a',
        'a"',
        '"""',
        "'a'",
        '"\\"',
        '"\\x"',
        '"\\u12"',
        '"\\u12g4"',
    ),
    *(
        "[",
        "]",
        "[,]",
        "[1,]",
        "[,1]",
        "[1 2]",
        "[1,,2]",
        "[1}",
        "[1]]",
        "[[1]",
        "[:1]",
        "[1:2]",
        '["a" "b"]',
    ),
    *(
        "{",
        "}",
        "{,}",
        "{1}",
        '{"a"}',
        '{"a":}',
        '{"a" 1}',
        '{"a"::1}',
        '{:"a"}',
        "{a:1}",
        "{1:1}",
        '{"a":1]',
    ),
    *(
        '{"a":1,}',
        '{,"a":1}',
        '{"a":1 "b":2}',
        '{"a":1,"b"}',
        '{"a":1,,"b":2}',
        '{"a":1}}',
        '{"a":1}{',
        "{}{}",
    ),
    *('"a\n"', '"a\t"', '"\x00"', "[1,\n2]", '{"a":\t1}', "1\n", '{"a" "b":1}', '{"a""b":1}', "{null:1}"),
]
_AROUND = (
    "{}",
    "[{}]",
    "[1, {}]",
    "[{},1]",
    '{{"k":{}}}',
    '{{"k": 1, "l": {}}}',
    '{{"k":{},"l":1}}',
    "{{{}:1}}",
)


@pytest.mark.parametrize("nearly", _NEARLY)
def test_what_is_nearly_json_is_none(nearly: str) -> None:
    """Alone, and within lists and objects, however deep it is looked."""
    for around in _AROUND:
        text = around.format(nearly)
        for looks._SIGHT.misses in (0, 1_000):
            is_known = looks.are_as_they_stand(f'{{"a":{MARK}{text}{MARK}}}'.encode())
            assert not is_known or is_json_as_it_stands(text), text


@settings(deadline=None)
@given(
    values=st.lists(_OBJECTS, min_size=1, max_size=4)
    | st.lists(_FLAT, min_size=1, max_size=4).filter(_is_led),
    is_compact=st.booleans(),
    is_ascii=st.booleans(),
)
@example(values=[None, {"a": {"b": 1}, "c": [2]}], is_compact=True, is_ascii=True)
@example(values=[{"a": "\u2027\x7f\xa0é€😀\U0010ffff"}], is_compact=True, is_ascii=False)
def test_json_as_it_is_usually_written_is_known_at_once(
    values: list[Any],
    is_compact: bool,  # noqa: FBT001
    is_ascii: bool,  # noqa: FBT001
) -> None:
    """Flat, or lists and objects in objects; with a space behind colons and commas or without."""
    texts = [written(value, is_compact=is_compact, is_ascii=is_ascii) for value in values]
    whole = "\n".join(f'{{"a":{MARK}{text}{MARK}}}' for text in texts)
    assert looks.are_as_they_stand(whole.encode()) == (re.search("[\x85\u2028\u2029]", whole) is None)


def test_it_is_looked_deeper_after_many_texts_that_were_json_all_the_same() -> None:
    """Objects in lists in objects: not at first, as it takes long to make ready for them."""
    whole = f'{{"a":{MARK}{{"b": [{{"c": 1}}]}}{MARK}}}'.encode()
    asked = 0
    while not looks.are_as_they_stand(whole):
        looks.were_as_they_stand()
        asked += 1
        assert asked < 1_000
    assert asked > 1
    assert not looks.are_as_they_stand(whole.replace(b"1", b"[{}]"))


def test_texts_of_which_only_the_first_are_objects_are_known_after_many() -> None:
    """And nothing else is taken for an object."""
    whole = f'{{"a":{MARK}{{}}{MARK},"b":{MARK}[1]{MARK}}}'.encode()
    assert not looks.are_as_they_stand(whole)
    looks._SIGHT.misses = 1_000
    assert looks.are_as_they_stand(whole)


@pytest.mark.parametrize("odd", [b"\xff", b"\xe2\x80", b"\xed\xa0\x80", "\u2028".encode(), "\x85".encode()])
def test_bytes_that_no_line_has_are_seen_in_json_and_beside_it(odd: bytes) -> None:
    """What is no UTF-8, and what some readers take for the end of a line."""
    for whole in (b'{"a":\x1f"%b"\x1f}', b'{"b":"%b","a":\x1f1\x1f}'):
        assert looks.are_as_they_stand(whole % "é".encode())
        assert not looks.are_as_they_stand(whole % odd)
