"""CEF and LEEF: whatever the values, a strict reader finds the header, the keys and the texts again."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from exporter.formats import compile_format
from exporter.formats.compiled import bad_form
from exporter.model import BadRecord, Occasion, Rendering
from tests.formats.test_mapping import ENVELOPE, OCCASION, bound
from tests.formats.test_standard_and_native import NAMES, block_of
from tests.kit.reference import JsonText

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

fast = settings(deadline=None, max_examples=100)

FIELDS: Final = {
    "rt": "time | epoch_ms",
    "suser": "email",
    "msg": "description | text",
    "cs1": "json",
    "n": "=a=b",
}
HEADERS: Final[Mapping[str, Sequence[str]]] = {
    "cef": ["=Ven|dor\\", "=Product", "=1.0", "action | text", "description", "=5"],
    "leef": ["=Ven|dor\\", "=Product", "=1.0", "action | text"],
}
CEF_LIMITS: Final = (63, 63, 31, 1023, 512)
BREAKS: Final = "\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"

odd = st.text(st.sampled_from([*"ab=|\\\t\x00\x7f\x9f é\U0001f600", *BREAKS]), max_size=12)
values = (
    odd
    | st.none()
    | st.integers()
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
    | st.builds(
        lambda one, count: one * count,
        st.sampled_from(["\\", "|", "é", "a\\", "ab|"]),
        st.integers(500, 1100),
    )
)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lines") / "mine.yaml"


def content(kind: str, **other: Any) -> dict[str, Any]:  # noqa: ANN401 - parts of a file
    return {"line": kind, "header": HEADERS[kind], "fields": FIELDS} | other


def rows_of(found: list[tuple[Any, Any, Any]]) -> list[dict[str, Any]]:
    return [
        dict.fromkeys(NAMES, "x")
        | {"time": "2026-11-19T04:00:00.25Z", "e-mail": email, "action": action, "text": text, "json": None}
        for email, action, text in found
    ]


def lines_of(rendering: Rendering, rows: list[dict[str, Any]]) -> list[str]:
    """The lines, as a reader finds them that splits at every line separator of Unicode."""
    block = block_of((*NAMES, "json"), rows, frozenset({"json"}))
    encoded = compile_format(rendering, OCCASION).encode(block)[0].decode()
    assert encoded.splitlines(keepends=True) == [f"{line}\n" for line in encoded.split("\n")[:-1]]
    return encoded.splitlines()


# --- Readers that take no more than what is documented ------------------------------------------------


def cef(line: str) -> tuple[list[str], dict[str, str]]:
    """Header and extension of a CEF line; anything that is not escaped as it should be is an error."""
    found = re.fullmatch(r"CEF:0((?:\|(?:[^|\\]|\\[|\\])*){6})\|(.*)", line)
    assert found, line
    header = [
        re.sub(r"\\([|\\])", r"\1", field) for field in re.findall(r"\|((?:[^|\\]|\\[|\\])*)", found[1])
    ]
    extension: dict[str, str] = {}
    rest = found[2]
    while rest:
        member = re.match(r"([\w.-]+)=((?:[^=\\]|\\[=\\nr])*?)(?: (?=[\w.-]+=)|$)", rest, re.ASCII)
        assert member, rest
        assert member[1] not in extension
        extension[member[1]] = re.sub(
            r"\\(.)", lambda escape: {"n": "\n", "r": "\r"}.get(escape[1], escape[1]), member[2]
        )
        rest = rest[member.end() :]
    return header, extension


def leef(line: str) -> tuple[list[str], dict[str, str]]:
    """Header and attributes of a LEEF 2.0 line, which has no escapes."""
    start, *header, delimiter, attributes = line.split("|", 6)
    assert (start, delimiter) == ("LEEF:2.0", "x09")
    pairs = [attribute.split("=", 1) for attribute in attributes.split("\t")]
    assert len({key for key, _ in pairs}) == len(pairs)
    return header, dict(pairs)


def one_line(text: str, keeps: str = "") -> str:
    """A text without what could end a line, but for what is escaped."""
    text = text if keeps else text.replace("\r\n", "\n")
    return "".join(
        "\n"
        if char in BREAKS.replace("\r", "") and keeps
        else " "
        if is_control(char) and char not in keeps
        else char
        for char in text
    )


def is_control(char: str) -> bool:
    return char < " " or "\x7f" <= char <= "\x9f" or char in "\u2028\u2029"


def shown(value: object) -> str:
    return "" if value is None else str(value)


# --- CEF ---------------------------------------------------------------------------------------------


@fast
@given(st.lists(st.tuples(values, values, values), max_size=4))
@example([("a=b cs1=c", "x|y", "z\\"), ("\\n", "\\|", "\r\n=")])
def test_a_cef_line_gives_back_its_header_and_its_values(
    file: Path, found: list[tuple[Any, Any, Any]]
) -> None:
    """Line breaks stay line breaks; other control characters are spaces; what is null is left out."""
    rows = rows_of(found)
    lines = lines_of(bound(content("cef"), file), rows)
    assert len(lines) == len(rows)
    for line, (email, action, text) in zip(lines, found, strict=True):
        header, extension = cef(line)
        expected = {"rt": "1795060800250", "suser": email, "msg": text, "n": "a=b"}
        assert extension == {
            key: one_line(str(value), keeps="\n\r") for key, value in expected.items() if value is not None
        }
        assert header[:3] == ["Ven|dor\\", "Product", "1.0"]
        assert header[5] == "5"
        for got, whole in zip(header[3:5], (action, text), strict=True):
            assert one_line(shown(whole)).startswith(got)


@fast
@given(st.tuples(values, values, values))
def test_no_field_of_a_cef_header_is_longer_than_it_may_be(file: Path, found: tuple[Any, Any, Any]) -> None:
    """Its escapes counted; and none is cut short that need not be."""
    whole = found[0] if isinstance(found[0], str) else "x" * 700
    header = [f"={'v' * 99}", f"={'p|' * 60}", f"={'1.' * 20}", "email | text", "email | text", "=5"]
    rows = rows_of([(whole, "a", "b")])
    (line,) = lines_of(bound(content("cef", header=header), file), rows)
    raw = re.findall(r"\|((?:[^|\\]|\\[|\\])*)", line)[:5]
    for field, limit, text in zip(
        raw, CEF_LIMITS, ("v" * 99, "p|" * 60, "1." * 20, whole, whole), strict=True
    ):
        escaped = one_line(text).replace("\\", "\\\\").replace("|", "\\|")
        assert len(field) <= limit
        assert escaped.startswith(field)
        assert len(field) >= min(len(escaped), limit - 1)


def test_a_value_of_json_stands_in_a_line_as_its_json(file: Path) -> None:
    row = rows_of([("a", "b", "c")])[0] | {"json": JsonText('{"a": "b=c\\n", "d": [1, 2]}')}
    assert cef(lines_of(bound(content("cef"), file), [row])[0])[1]["cs1"] == '{"a": "b=c\\n", "d": [1, 2]}'


@pytest.mark.parametrize(
    ("text", "value"), [(' "a" ', "a"), ("null ", None), (" [1] ", "[1]"), (' "a=b" ', "a=b")]
)
def test_spaces_around_a_value_of_json_are_no_part_of_it(file: Path, text: str, value: str | None) -> None:
    row = rows_of([("a", "b", "c")])[0] | {"json": JsonText(text)}
    assert cef(lines_of(bound(content("cef"), file), [row])[0])[1].get("cs1") == value


def test_a_branch_of_fields_makes_a_line_of_text_too(file: Path) -> None:
    """And a record that no pattern fits has a header alone."""
    fields = {"$match": "action", "in": {"suser": "email"}, "out": {"msg": "description", "n": "=1"}}
    rows = rows_of([("a", "in", "b"), ("c", "out", "d"), ("e", "else", "f")])
    found = [cef(line)[1] for line in lines_of(bound(content("cef", fields=fields), file), rows)]
    assert found == [{"suser": "a"}, {"msg": "d", "n": "1"}, {}]


# --- LEEF --------------------------------------------------------------------------------------------


@fast
@given(st.lists(st.tuples(values, values, values), max_size=4))
def test_a_leef_line_gives_back_its_header_and_its_values(
    file: Path, found: list[tuple[Any, Any, Any]]
) -> None:
    """LEEF has no escapes: what would need one is a space."""
    rows = rows_of(found)
    lines = lines_of(bound(content("leef"), file), rows)
    assert len(lines) == len(rows)
    for line, (email, action, text) in zip(lines, found, strict=True):
        header, attributes = leef(line)
        expected = {"rt": "1795060800250", "suser": email, "msg": text, "n": "a=b"}
        assert attributes == {
            key: one_line(str(value)) for key, value in expected.items() if value is not None
        }
        assert header == ["Ven dor\\", "Product", "1.0", one_line(shown(action)).replace("|", " ")]


# --- Both --------------------------------------------------------------------------------------------


@fast
@given(st.sampled_from(["cef", "leef"]), st.lists(st.tuples(values, values, values), max_size=3))
def test_in_an_envelope_a_line_is_a_string(file: Path, kind: str, found: list[tuple[Any, Any, Any]]) -> None:
    """The same line as outside of it."""
    rows = rows_of(found)
    inside = [json.loads(line) for line in lines_of(bound(content(kind), file, ENVELOPE), rows)]
    assert [one["event"] for one in inside] == lines_of(bound(content(kind), file), rows)
    assert all(one["time"] == 1795060800.25 for one in inside)


@pytest.mark.parametrize(("kind", "read"), [("cef", cef), ("leef", leef)])
@pytest.mark.parametrize("record_id", ["7", "a=b|c\\\n\u2028\td", "\ud800"])
def test_a_record_that_has_no_other_line_has_one_that_says_so(
    file: Path,
    kind: str,
    read: Callable[[str], tuple[list[str], dict[str, str]]],
    record_id: str,
) -> None:
    """Who wrote it, its id, why, and the form that always renders."""
    bad = BadRecord(record_id, "longer than 3 bytes", 5, b"\xffabcd")
    line = compile_format(bound(content(kind), file), OCCASION).bad_line(bad).decode()
    assert len(line.splitlines()) == 1
    header, told = read(line)
    assert header[1:4] == ["Product", "1.0", "bad_record"]
    assert told["reason"] == "longer than 3 bytes"
    assert told["externalId"] == one_line(
        record_id.replace("\ud800", "?"), keeps="\n\r" if kind == "cef" else ""
    )
    assert json.loads(told["msg"]) == json.loads(bad_form(bad))


def test_a_bad_line_in_an_envelope_is_a_string_too(file: Path) -> None:
    window_end = datetime(1969, 12, 31, 23, 59, 58, 500_000, tzinfo=UTC)
    form = compile_format(bound(content("cef"), file, ENVELOPE), Occasion(3, window_end))
    found = json.loads(form.bad_line(BadRecord("7", "why", 1, b"x")))
    assert cef(found["event"])[1]["externalId"] == "7"
    assert found["fields"]["event_id"] == "7"
    assert found["time"] == -1.5
