"""Rows of the source: what is wrong in one concerns it alone, and none weakens what the operator protects."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from exporter import config
from exporter.config.mistakes import checked
from exporter.config.settings import ExportSettings, FileSettings
from exporter.destinations.registry import DESTINATIONS
from exporter.errors import ConfigError
from exporter.notation.strict import Strict
from exporter.notation.surroundings import Surroundings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from exporter.config import Config

CANARY = "hunter2canary"
Way = tuple[str, ...]

SOURCE = {
    "url": "sqlite:///audit.db",
    "table": "audit_log",
    "columns": {"id": "id", "time": "at", "account": "account", "email": "actor_email", "action": "verb"},
}
FILE: dict[str, Any] = {
    "source": SOURCE,
    "ledger": {"url": "sqlite:///ledger.db"},
    "exports_from": {"query": "SELECT 1", "folder": "rows"},
}
PLACES: dict[str, dict[str, Any]] = {
    "s3": {"bucket": "bucket"},
    "gcs": {"bucket": "bucket"},
    "azure": {"container": "container", "account_url": "https://acme.blob.core.windows.net"},
    "directory": {"path": "out"},
    "splunk_hec": {"url": "splunk.example.com", "token": "token"},
}


def row(name: str, kind: str = "directory") -> dict[str, Any]:
    return {"account": "a", "name": name, "destination": {"type": kind, **PLACES[kind]}}


@pytest.fixture(scope="module")
def configured(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Config]:
    """A configuration that takes exports from rows, with these settings besides."""
    folder = tmp_path_factory.mktemp("configured")

    def configured(**settings: object) -> Config:
        file = folder / "audit-exporter.yaml"
        file.write_text(json.dumps(FILE | settings))
        return config.load(file, {"KEY": "k" * 20})

    return configured


# --- Whatever comes ----------------------------------------------------------------------------------------


def models_in(kind: object) -> Iterator[type[BaseModel]]:
    """The models that a type is made of, through lists, mappings and unions."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield kind
    else:
        for part in getattr(kind, "__args__", ()):
            yield from models_in(part)


def ways_in(model: type[BaseModel]) -> Iterator[Way]:
    """Every way to a setting, in a mapping of models to one under `x`; a destination's are its own."""
    for name, field in model.model_fields.items():
        key = field.alias or name
        yield (key,)
        for inner in models_in(field.annotation) if key != "destination" else ():
            below = (key, "x") if "dict" in str(field.annotation) else (key,)
            yield from (below + way for way in ways_in(inner))


EXPORTS = [("directory", way) for way in ways_in(ExportSettings)]
EXPORTS += [(kind, ("destination", *way)) for kind, model in DESTINATIONS.items() for way in ways_in(model)]
HEADS = [way for way in ways_in(FileSettings) if way[0] != "exports"]
WRONG: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    10**400,
    1.5,
    float("nan"),
    "",
    "x",
    "x" * 5000,
    "\0",
    "\ud800",
    [],
    [None],
    ["x", 5],
    [["x"]],
    [{"x": "y"}],
    {},
    {"": ""},
    {"x": None},
    {"x": "y"},
    {"x": 5},
    {"x": ["y", 5]},
    {"x": {"y": "z"}},
    {"\ud800": "\ud800"},
    {"type": ["x"]},
    {"name": ["x"], "with": "x"},
    {"columns": ["x"], "key": 5},
    {"where": ["x"], "actions": {"x": "y"}},
    {"env": "X", "file": "y"},
    {"file": "\0"},
)


def put(settings: dict[str, Any], way: Sequence[str], value: object) -> dict[str, Any]:
    """The same settings with one at the end of a way, whatever was there."""
    changed = deepcopy(settings)
    place = changed
    for key in way[:-1]:
        if not isinstance(place.get(key), dict):
            place[key] = {}
        place = place[key]
    place[way[-1]] = value
    return changed


def test_ways_lead_to_the_settings_of_every_model() -> None:
    """So that the promises below are about all of them."""
    assert {("protect", "columns"), ("filter", "where"), ("format", "with")} < {way for _, way in EXPORTS}
    assert ("splunk_hec", ("destination", "fields")) in EXPORTS
    assert {("source", "tls", "mode"), ("source", "derived", "x", "first_of")} < set(HEADS)
    assert ("defaults", "protect", "key") in HEADS


@pytest.mark.parametrize("value", WRONG, ids=lambda value: ascii(value)[:20])
def test_what_is_wrong_with_one_row_is_said_of_it_and_the_others_stay(
    configured: Callable[..., Config], value: object
) -> None:
    """For every setting there is, each value: an export, or a mistake in words."""
    wrong = [put(row(f"{number}", kind), way, value) for number, (kind, way) in enumerate(EXPORTS)]
    found = config.add_rows(configured(), [*map(json.dumps, wrong), json.dumps(row("good"))])
    assert found.exports[-1].name == "good"
    assert len(found.exports) + len(found.problems) == len(wrong) + 1
    for problem in found.problems:
        for line in problem.message.split("\n"):
            assert line.startswith("exports_from.query, row ")
            assert line.isprintable()
            assert "Input should" not in line


@pytest.mark.parametrize(
    "value",
    [one for one in WRONG if "\\ud800" not in json.dumps(one)],  # which is no YAML
    ids=lambda value: ascii(value)[:20],
)
def test_what_is_wrong_with_one_export_of_a_file_is_said_of_it_and_the_others_stay(
    configured: Callable[..., Config], value: object
) -> None:
    wrong = [put(row(f"{number}", kind), way, value) for number, (kind, way) in enumerate(EXPORTS)]
    found = configured(exports=[*wrong, row("good")])
    assert found.exports[-1].name == "good"
    assert len(found.exports) + len(found.problems) == len(wrong) + 1


@pytest.mark.parametrize(
    "path", ["a\0", "a\ud800", "a/" * 3000, "loop/a"], ids=["NUL", "half", "long", "loop"]
)
@pytest.mark.parametrize("way", [("path",), ("credentials", "file"), ("ca_file",)])
def test_a_path_that_cannot_be_is_a_mistake_of_its_row(
    configured: Callable[..., Config], tmp_path: Path, path: str, way: Way
) -> None:
    (tmp_path / "loop").symlink_to("loop")
    whole = configured(exports_from={"query": "SELECT 1", "folder": str(tmp_path)})
    wrong = put(row("wrong", "directory" if way == ("path",) else "gcs"), ("destination", *way), path)
    (problem,) = config.add_rows(whole, [json.dumps(wrong)]).problems
    assert problem.message.startswith(f"exports_from.query, row 1: destination.{way[0]}: ")
    assert problem.message.endswith(
        (
            "is no path that this system could have",
            "names a file through links that lead nowhere",
            "must be a path, not text",
        )
    )


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["x", "columns", "where", "with", "name", "key", "type"]), inner, max_size=3
        )
    ),
    max_leaves=6,
)


@given(st.lists(st.tuples(st.sampled_from(EXPORTS), VALUES), min_size=1, max_size=8))
def test_rows_with_several_wrong_settings_each_leave_the_good_one(
    configured_once: Config, changes: list[tuple[tuple[str, Way], object]]
) -> None:
    one = row("wrong")
    for (kind, way), value in changes:
        if way[0] == "destination":
            one["destination"] = row("", kind)["destination"]
        one = put(one, way, value)
    found = config.add_rows(configured_once, [json.dumps(one), json.dumps(row("good"))])
    assert len(found.exports) + len(found.problems) == 2
    assert "good" in {export.name for export in found.exports} or one.get("name") == "good"


@pytest.fixture(scope="module")
def configured_once(configured: Callable[..., Config]) -> Config:
    return configured()


@pytest.mark.parametrize("value", WRONG, ids=lambda value: ascii(value)[:20])
def test_what_is_wrong_at_the_top_of_a_file_is_a_mistake_in_words(tmp_path: Path, value: object) -> None:
    """Every setting of the source, the ledger, the defaults and the rest."""
    file = tmp_path / "audit-exporter.yaml"
    lines = [line for way in HEADS for line in told_of(file, put(FILE, way, value))]
    assert lines
    for line in lines:
        assert line.startswith(f"{file}, line ")
        assert line.isprintable()
        assert "Input should" not in line


def told_of(file: Path, settings: dict[str, Any]) -> list[str]:
    """What a person is told of a file with these settings, line by line; nothing if it can be used."""
    file.write_text(json.dumps(settings))
    try:
        config.load(file, {})
    except ConfigError as error:
        return error.message.split("\n")
    return []


class Further(Strict):
    """Settings of kinds that no configuration has yet."""

    words: set[str]
    raw: bytes
    share: float


def test_a_mistake_that_nobody_foresaw_is_put_in_words_too() -> None:
    data = {"words": CANARY, "raw": [CANARY], "share": CANARY}
    mistakes = checked(Further, data, Surroundings())
    assert mistakes == [
        (("words",), "is nothing that this setting takes"),
        (("raw",), "is nothing that this setting takes"),
        (("share",), "must be a number, not text"),
    ]


@pytest.mark.parametrize(
    ("way", "said"),
    [
        (("source", "derived", "x", "first_off"), "unknown key; did you mean 'first_of'?"),
        (("source", "tls", "certfile"), "unknown key; did you mean 'cert_file'?"),
        (("defaults", "format", "wiht"), "unknown key; did you mean 'with'?"),
        (("source", "tls", "zzz"), "unknown key; valid keys are mode, ca_file, cert_file, key_file"),
    ],
)
def test_a_mistyped_key_is_told_the_keys_of_its_own_mapping(tmp_path: Path, way: Way, said: str) -> None:
    file = tmp_path / "audit-exporter.yaml"
    file.write_text(json.dumps(put(FILE, way, "x")))
    with pytest.raises(ConfigError) as caught:
        config.load(file, {})
    assert f"{'.'.join(way)}: {said}" in caught.value.message


SHAPES: tuple[Any, ...] = (
    [CANARY],
    [[CANARY]],
    {"x": CANARY},
    {"x": [5, CANARY]},
    {"x": {"y": CANARY}},
    [{"x": CANARY}],
)


@pytest.mark.parametrize("value", SHAPES, ids=str)
def test_no_message_shows_what_was_inside_a_wrong_value(
    configured: Callable[..., Config], value: object
) -> None:
    wrong = [put(row(f"{number}", kind), way, value) for number, (kind, way) in enumerate(EXPORTS)]
    found = config.add_rows(configured(), map(json.dumps, wrong))
    assert found.problems
    shown = [problem.message for problem in found.problems if CANARY in problem.message]
    assert shown == []


@pytest.mark.parametrize(
    "way",
    [
        ("protect",),
        ("protect", "columns"),
        ("protect", "columns", "key"),
        ("protect", "secrets"),
        ("filter",),
        ("filter", "where"),
        ("format",),
        ("format", "name"),
        ("format", "with"),
        ("archive",),
        ("siem",),
        ("destination", "auth"),
    ],
)
def test_a_word_that_is_none_of_the_choices_may_be_a_secret_in_a_wrong_place(
    configured: Callable[..., Config], way: Way
) -> None:
    (problem,) = config.add_rows(
        configured(), [json.dumps(put(row("wrong", "splunk_hec"), way, CANARY))]
    ).problems
    assert CANARY not in problem.message
    assert ".".join(way) in problem.message


# --- What the operator protects ----------------------------------------------------------------------------

PROTECT: dict[str, Any] = {
    "columns": {"email": "pseudonymise", "ip_address": "mask"},
    "key": {"env": "KEY"},
}
FIRM = "which no row may change"


@pytest.mark.parametrize(
    ("defaults", "own", "said"),
    [
        (
            {"protect": PROTECT},
            {"protect": {"columns": {"email": "mask"}}},
            f"protect.columns.email: must be 'pseudonymise': `defaults` say so, {FIRM}",
        ),
        (
            {"protect": PROTECT},
            {"protect": {"columns": {"actor_email": "drop"}}},
            f"protect.columns.actor_email: must be 'pseudonymise': `defaults` say so, {FIRM}",
        ),
        (
            {"protect": {"columns": {"actor_email": "drop"}}},
            {"protect": {"columns": {"email": "truncate"}}},
            f"protect.columns.email: must be 'drop': `defaults` say so, {FIRM}",
        ),
        (
            {"protect": PROTECT},
            {"protect": {"key": "0" * 20}},
            f"protect.key: must be left out: `defaults` have a key, {FIRM}",
        ),
        (
            {"protect": PROTECT},
            {"protect": {"key": None}},
            f"protect.key: must be left out: `defaults` have a key, {FIRM}",
        ),
        (
            {},
            {"protect": {"secrets": False}},
            f"protect.secrets: must be true: `defaults` mask secrets, {FIRM}",
        ),
        (
            {"filter": {"actions": "login*"}},
            {"filter": {"actions": "*"}},
            f"filter: must be left out: `defaults` have a filter, {FIRM}",
        ),
        (
            {"filter": {"fields": "!email"}},
            {"filter": {}},
            f"filter: must be left out: `defaults` have a filter, {FIRM}",
        ),
        (
            {"protect": PROTECT},
            {"filter": {"where": {"email": "a*"}}},
            "filter.where.email: goes by 'email', which `defaults` protect",
        ),
        (
            {"protect": PROTECT},
            {"filter": {"where": {"actor_email": "a*"}}},
            "filter.where.actor_email: goes by 'actor_email', which `defaults` protect",
        ),
        (
            {"protect": {"columns": {"verb": "drop"}}},
            {"filter": {"actions": "a*"}},
            "filter.actions: goes by 'action', which `defaults` protect",
        ),
    ],
)
def test_a_row_weakens_nothing_and_the_operator_s_own_files_may(
    configured: Callable[..., Config], defaults: dict[str, Any], own: dict[str, Any], said: str
) -> None:
    """The row alone is set aside; the same settings in a file are an export."""
    whole = configured(defaults=defaults)
    found = config.add_rows(whole, [json.dumps(row("wrong") | own), json.dumps(row("good"))])
    assert [export.name for export in found.exports] == ["good"]
    (problem,) = found.problems
    assert (problem.export, problem.account) == ("wrong", "a")
    assert problem.message.startswith(f"exports_from.query, row 1: {said}")
    if own != {"protect": {"key": None}}:  # which leaves pseudonyms without a key
        assert configured(defaults=defaults, exports=[row("own") | own]).problems == ()


@pytest.mark.parametrize(
    ("defaults", "own"),
    [
        ({"protect": PROTECT}, {"protect": {"columns": {"email": "pseudonymise", "summary": "drop"}}}),
        ({"protect": PROTECT}, {"protect": {"secrets": True}}),
        ({"protect": PROTECT}, {"filter": {"where": {"summary": "a*"}, "actions": "x", "fields": "!Email"}}),
        ({"protect": {"secrets": False}}, {"protect": {"secrets": False}}),
        ({}, {"protect": {"columns": {"email": "pseudonymise"}, "key": "0" * 20}}),
        ({"filter": {}}, {"filter": {"actions": "x"}}),
    ],
)
def test_a_row_may_protect_more_and_choose_among_what_it_sees(
    configured: Callable[..., Config], defaults: dict[str, Any], own: dict[str, Any]
) -> None:
    found = config.add_rows(configured(defaults=defaults), [json.dumps(row("more") | own)])
    assert found.problems == ()
    assert found.exports[0].protect.columns.items() >= defaults.get("protect", {}).get("columns", {}).items()
