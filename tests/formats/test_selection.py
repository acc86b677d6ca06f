"""The filter: which records go out, judged a column at a time; and which fields of them."""

from __future__ import annotations

import json
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.columns import Layout, Roles, RowBlock, TextTimes
from exporter.errors import ConfigError, MissingColumn
from exporter.formats import compile_format
from exporter.formats import selection as module
from exporter.formats.selection import Patterns, Selection, bind_filter
from exporter.formats.settings import FilterSettings
from exporter.model import Branch, Occasion, Rendering, flat_mapping

if TYPE_CHECKING:
    from collections.abc import Sequence

NAMES = ("id", "time", "account", "action", "status")
ROLES = {"id": "id", "time": "time", "account": "account", "action": "action", "email": None}
NAN = float("nan")


def block(values: Sequence[tuple[Any, Any]]) -> RowBlock:
    rows = [
        (number, f"2026-11-19T04:00:{number % 60:02}Z", "acme", *pair) for number, pair in enumerate(values)
    ]
    layout = Layout(NAMES, NAMES, Roles("id", "time", "account"), TextTimes())
    return RowBlock(Branch.ON_TIME, layout, rows)


def filters(**given: Any) -> FilterSettings:  # noqa: ANN401 - any setting
    """Settings as a configuration has them."""
    return FilterSettings.model_validate(given)


def chosen(values: Sequence[tuple[Any, Any]], **given: Any) -> list[int]:  # noqa: ANN401 - any setting
    """The indexes of the records that go out."""
    bound, _ = bind_filter(filters(**given), ROLES, None)
    found = Selection(bound).chosen(block(values))
    return list(range(len(values))) if found is None else list(found)


# --- records -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("patterns", "fitting"),
    [
        (("login*",), {"Login", "login.failed"}),
        (("*",), {"Login", "login.failed", "export", ""}),
        (("!login*",), {"export", ""}),
        (("login*", "!*FAILED"), {"Login"}),
        (("log?n",), {"Login"}),
        (("export|login",), {"Login", "export"}),
        (("!?*",), {""}),
        (("",), {""}),
    ],
)
def test_a_record_goes_out_whose_action_fits_one_pattern_and_none_that_excludes(
    patterns: tuple[str, ...], fitting: set[str]
) -> None:
    """Without regard to case; with exclusions alone, all others go out; null is the empty text."""
    actions = ["Login", "login.failed", "export", None]
    bound = {"where": [["action", list(patterns)]], "fields": []}
    found = Selection(bound).chosen(block([(action, 1) for action in actions]))
    indexes = range(4) if found is None else found
    assert {actions[index] or "" for index in indexes} == fitting


def test_a_record_has_to_fit_every_condition() -> None:
    values = [("login", "ok"), ("login", "failed"), ("export", "ok"), (None, "ok")]
    assert chosen(values, actions="login", where={"status": ["ok", "done"]}) == [0]


def test_a_value_that_is_no_text_is_judged_as_it_would_be_written() -> None:
    assert chosen([("a", 200), ("a", True), ("a", 404), ("a", 'say "hi"\n')], where={"status": "20?"}) == [0]
    assert chosen([("a", True), ("a", False)], where={"status": "true"}) == [0]
    assert chosen([("a", 'say "hi"\n')], where={"status": 'say "hi"?'}) == [0]


def test_a_record_whose_value_cannot_be_judged_goes_out() -> None:
    """Unless another condition says no; and it keeps no other record from being judged."""
    values = [("login", NAN), ("login", "ok"), ("login", "no"), ("export", NAN)]
    assert chosen(values, actions="login", where={"status": "ok"}) == [0, 1]


texts = st.text("aAbB*?.", max_size=6)


@settings(deadline=None)
@given(
    st.lists(st.none() | texts, max_size=12), st.lists(st.text("abAB?*", min_size=1, max_size=5), max_size=3)
)
def test_a_whole_column_is_judged_as_each_value_alone(actions: list[str | None], patterns: list[str]) -> None:
    """The reference is the standard library's globs, one value at a time."""
    expected = [
        index
        for index, action in enumerate(actions)
        if not patterns or any(fnmatchcase((action or "").lower(), one.lower()) for one in patterns)
    ]
    assert chosen([(action, 1) for action in actions], actions=patterns) == expected


def test_what_is_remembered_of_a_column_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many different values come, and however long they are; the verdicts stay right."""
    monkeypatch.setattr(module, "_REMEMBERED", 10)
    form = Selection({"where": [["action", ["*7"]]], "fields": []})
    for start in range(0, 200, 20):
        values: list[tuple[Any, Any]] = [(f"value {number}", 1) for number in range(start, start + 20)]
        values.append(("x" * 1000 + "7", 1))
        assert list(form.chosen(block(values)) or ()) == [7, 17, 20]
        (condition,) = form._conditions
        assert len(condition._known) <= 31
        assert not any(value and len(value) > 200 for value in condition._known)


def test_of_a_column_that_the_source_has_lost_every_value_is_empty() -> None:
    """A plan that may have landed is rendered again, whatever the source has lost."""
    bound = {"where": [["gone", ["x"]]], "fields": []}
    there = frozenset(NAMES)
    assert Selection(bound, there).chosen(block([("a", 1)])) == []
    assert Selection({"where": [["gone", ["!x"]]], "fields": []}, there).chosen(block([("a", 1)])) is None


def test_a_filter_asks_the_source_for_its_columns() -> None:
    """So that one that is not there is found by `check`, and by the source."""
    bound, mapping = bind_filter(
        filters(actions="login", where={"statsu": "ok"}), ROLES, flat_mapping({"A": ("value", "id")})
    )
    form = compile_format(Rendering("mine", mapping, chosen=bound))
    assert form.columns == ["action", "id", "statsu"]


def test_a_missing_column_is_found_in_a_format_that_gives_every_column() -> None:
    bound, _ = bind_filter(filters(where={"statsu": "ok"}), ROLES, None)
    form = compile_format(Rendering("native", None, chosen=bound))
    with pytest.raises(MissingColumn, match="no column 'statsu'") as caught:
        form.chosen(block([("a", 1)]))
    assert "did you mean 'status'?" in caught.value.hint


# --- fields --------------------------------------------------------------------------------------------

MAPPING = flat_mapping(
    {"Date": ("instant", "time"), "Action": ("string", "action"), "Event ID": ("string", "id")}
)


def fields_of(mapping: Any, *patterns: str) -> Any:  # noqa: ANN401 - JSON
    _, bound = bind_filter(filters(fields=patterns), ROLES, mapping)
    return bound


def test_the_fields_that_go_out_are_chosen_by_name_or_left_out_by_it() -> None:
    names = [name for name, _ in fields_of(MAPPING, "date", "event*")["fields"][1]]
    assert names == ["Date", "Event ID"]
    names = [name for name, _ in fields_of(MAPPING, "!Event ID")["fields"][1]]
    assert names == ["Date", "Action"]


def test_fields_are_chosen_in_every_branch() -> None:
    column = ["column", "action"]
    branches = ["match", column, [["a", ["object", [["A", column], ["B", column]]]], ["*", ["shared", 0]]]]
    shared = [["first", [["const", '{"B": 1, "C": 2}'], ["object", [["C", column]]]]]]
    mapping = {"line": "json", "nulls": "keep", "fields": branches, "shared": shared}
    assert fields_of(mapping, "!C")["fields"] == [
        "match",
        column,
        [
            ["a", ["object", [["A", column], ["B", column]]]],
            ["*", ["first", [["const", '{"B": 1}'], ["object", []]]]],
        ],
    ]


def test_a_field_that_the_format_does_not_have_is_a_mistake() -> None:
    with pytest.raises(ConfigError, match=r"filter\.fields: 'Evnt ID' is no field") as caught:
        fields_of(MAPPING, "!Evnt ID")
    assert caught.value.hint == "did you mean 'Event ID'?"
    with pytest.raises(ConfigError, match="leaves no field"):
        fields_of(MAPPING, "x*")


def test_of_a_format_that_gives_every_column_some_are_left_out() -> None:
    """Not from what a filter judges, and a name that is no column is a mistake here, too."""
    bound, _ = bind_filter(filters(fields=["!account", "!stat*"], where={"status": "ok"}), ROLES, None)
    form = compile_format(Rendering("native", None, chosen=bound))
    assert list(form.chosen(block([("a", "ok"), ("a", "no")])) or ()) == [0]
    lines, counts = form.encode(block([("a", "ok")]))
    assert json.loads(lines) == {"id": 0, "time": "2026-11-19T04:00:00Z", "action": "a"}
    assert counts == {}
    bound, _ = bind_filter(filters(fields="!acount"), ROLES, None)
    with pytest.raises(MissingColumn, match="'acount'"):
        compile_format(Rendering("native", None, chosen=bound), Occasion(1, None)).encode(block([("a", 1)]))  # type: ignore[arg-type]


def test_patterns_without_any_fit_everything() -> None:
    assert Patterns(()).fit("")
