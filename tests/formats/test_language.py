"""The mapping language: what a file may say, what is said of a mistake, and what binding makes of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.config.settings import Columns
from exporter.errors import ConfigError
from exporter.formats import compile_format
from exporter.formats.binding import Binder, fields_with
from exporter.formats.language import read_format
from exporter.formats.library import bind, body_of, name_of, preset_file
from exporter.formats.patterns import pattern_of
from exporter.formats.settings import FormatChoice, Preset
from exporter.model import Rendering
from tests.formats.test_standard_and_native import COLUMNS, block_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

ROW: Final = {
    "id": 7,
    "time": "2026-11-19 04:00:00.5",
    "account": "acme",
    "e-mail": "Ann@Example.com",
    "action": "User.Login",
    "target": None,
    "text": "said",
    "ip": "192.0.2.1",
}


def choice(folder: Path, text: str, **parameters: str) -> FormatChoice:
    """A file of one's own."""
    file = folder / "mine.yaml"
    file.write_text(text, encoding="utf-8")
    return FormatChoice.model_validate({"file": file, "with": parameters})


def line(chosen: FormatChoice, *, envelope: Mapping[str, Any] | None = None, **other: object) -> Any:  # noqa: ANN401 - JSON
    """What a format makes of one record."""
    row = ROW | other
    _, mapping = bind(chosen, COLUMNS, envelope)
    encoded = compile_format(Rendering("mine", mapping)).encode(block_of(tuple(row), [row]))[0]
    assert encoded.count(b"\n") == 1
    return json.loads(encoded)


def fields(chosen: FormatChoice) -> Any:  # noqa: ANN401 - JSON
    """The bound form of a format's fields."""
    mapping: Any = bind(chosen, COLUMNS)[1]
    return mapping["fields"]


def mistakes(folder: Path, text: str) -> list[str]:
    """What is said of a file, without the file's name."""
    file = folder / "mine.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        read_format(file)
    said = caught.value.message.splitlines()
    assert all(one.startswith(str(file)) for one in said)
    return [one.removeprefix(f"{file}, ") for one in said]


EVERYTHING: Final = """
about: All that the language knows.
parameters: {vendor: audit-exporter, schema: 1.8.0}
fields:
  Date: time | rfc3339
  Email: email | text
  id: id
  product: =audit-exporter
  version: $schema
  shouted: $vendor | upper
  severity_id: 1
  yes: true
  no: null
  actor: {user: {email_addr: email | lower}}
  resources: [{uid: action_id | text}, 1]
  class_uid:
    $match: action
    "*login*|*sign?in*": 3002
    "*": 6003
  user: {$first: [action_id | text, email | text]}
  anything: {$const: {a: [1, =b, $c]}}
  own: text
"""


def test_a_format_says_all_that_the_language_knows(tmp_path: Path) -> None:
    """Roles, columns, texts, parameters, constants, objects, lists, lookups and alternatives, in order."""
    found = line(choice(tmp_path, EVERYTHING, schema="1.9.0"))
    assert list(found.items()) == [
        ("Date", "2026-11-19T04:00:00.500000Z"),
        ("Email", "Ann@Example.com"),
        ("id", 7),
        ("product", "audit-exporter"),
        ("version", "1.9.0"),
        ("shouted", "AUDIT-EXPORTER"),
        ("severity_id", 1),
        ("yes", True),
        ("no", None),
        ("actor", {"user": {"email_addr": "ann@example.com"}}),
        ("resources", [{"uid": None}, 1]),
        ("class_uid", 3002),
        ("user", "Ann@Example.com"),
        ("anything", {"a": [1, "=b", "$c"]}),
        ("own", "said"),
    ]


def test_what_has_no_value_is_left_out_where_the_format_says_so(tmp_path: Path) -> None:
    """Fields, and objects and lists with nothing in them; a constant is what it is."""
    text = (
        "nulls: omit\nfields: {a: {b: {c: action_id}}, d: [action_id], e: {$const: {}},"
        " f: {$const: {g: null}}, h: [action_id, id], i: null, j: {}}"
    )
    assert line(choice(tmp_path, text)) == {"e": {}, "f": {"g": None}, "h": [7]}
    assert line(choice(tmp_path, "nulls: omit\nfields: {a: action_id}")) == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("abuot: x\nfields: {a: id}", "line 1: abuot: unknown key; did you mean 'about'?"),
        (
            "fields: {a: id}\nzzz: 1",
            "line 2: zzz: unknown key; valid keys are about, line, nulls, unfilled,",
        ),
        ("line: jsn\nfields: {a: id}", "line 1: line: 'jsn' is none of them; did you mean 'json'?"),
        ("nulls: 1\nfields: {a: id}", "line 1: nulls: must be 'keep' or 'omit', not a number"),
        ("about: [x]\nfields: {a: id}", "line 1: about: must be text, not a list"),
        ("about: x", "line 1: `fields` is missing"),
        ("- x", "line 1: must be a mapping, not a list"),
        ("fields: {}", "line 1: fields: is empty, and would leave nothing of a record"),
        ("fields: {a: yes}", "line 1: fields.a: 'yes' would be a column of this name; write true for"),
        ("fields: {a: {b: [Off]}}", "line 1: fields.a.b[0]: 'Off' would be a column of this name; write"),
        ("fields: {a: 1e500}", "line 1: fields.a: '1e500' would be a column of this name; write =1e500 for"),
        ("fields: {a: 12345678901234567890123}", "line 1: fields.a: '12345678901234567890123' would be"),
        ("parameters: {v: []}\nfields: {a: id}", "line 1: parameters.v: must list texts, of which the first"),
        ("parameters: {v: [x, 1]}\nfields: {a: id}", "line 1: parameters.v: must list texts, of which"),
        ("fields: [x]", "line 1: fields: must be a mapping or $all, not a list"),
        ("fields: {a: id, a: time}", "line 1: fields.a: given twice, first in line 1"),
        (
            "fields:\n  a: time | rfc339",
            "line 2: fields.a: 'rfc339' is no conversion; did you mean 'rfc3339'?",
        ),
        (
            "fields: {a: '| text'}",
            "line 1: fields.a: has no name; write a role or a column, or = before a text",
        ),
        ("fields: {a: $b}", "line 1: fields.a: '$b' is no parameter; there are $sequence, $all"),
        (
            "parameters: {vendor: x}\nfields: {a: $vendr}",
            "line 2: fields.a: '$vendr' is no parameter; did you mean",
        ),
        ("fields: {a: $event}", "line 1: fields.a: '$event' is no parameter; there are $sequence, $all"),
        ("fields: {a: $all | text}", "line 1: fields.a: '$all' is every column, and takes no conversion"),
        (
            "parameters: {v: 1.8}\nfields: {a: id}",
            "line 1: parameters.v: must be text, not a number; put it in quotes",
        ),
        (
            "parameters: {all: x}\nfields: {a: id}",
            "line 1: parameters.all: all cannot be a parameter's name;",
        ),
        (
            "envelope: {sorce: =x}\nfields: {a: id}",
            "line 1: envelope.sorce: unknown key; did you mean 'source'?",
        ),
        (
            "fields: {a: {$frist: [id]}}",
            "line 1: fields.a.'$frist': '$frist' is no operator; did you mean '$first'?",
        ),
        ("fields: {a: [{$first: []}]}", "line 1: fields.a[0].'$first': needs an expression or more"),
        ("fields: {a: {$first: id}}", "line 1: fields.a.'$first': must be a list of expressions, not text"),
        (
            "fields: {a: {$first: [id], b: 1}}",
            "line 1: fields.a.b: stands beside '$first', which stands alone",
        ),
        ("fields: {a: {$match: id}}", "line 1: fields.a: has no pattern; write some below '$match', such as"),
        (
            "fields: {a: {$match: id, $else: 1}}",
            "line 1: fields.a.'$else': is no pattern; the one that all else fits",
        ),
        (
            "fields: {a: {$const: [!!set {b}]}}",
            "line 1: fields.a.'$const'[0]: has a YAML tag; write it without",
        ),
        ("fields: {$match: id, x: {a: 1}, y: id}", "line 1: fields: must be a JSON object"),
        ("header: [=a]\nfields: {a: id}", "line 1: header: `header` must be left out: lines are JSON"),
        (
            "line: leef\nfields: {a: id}",
            "line 1: `header` must be a list of 4: vendor, product, version, event id",
        ),
        ("line: leef\nheader: [=a, =b, =c, =d]\nfields: {a: {b: id}}", "line 3: fields: must be flat"),
        (
            "line: leef\nheader: [=a, =b, =c, =d]\nfields: {a=: id}",
            "line 3: fields.'a=': a field here has letters",
        ),
        ("fields: {a: id\n", "line 2: did not find expected ',' or '}'"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_by_its_line_and_key(tmp_path: Path, text: str, said: str) -> None:
    """In one sentence, with the nearest that is right."""
    assert mistakes(tmp_path, text)[0].startswith(said)


def test_every_mistake_of_a_file_is_named_in_the_order_of_its_lines(tmp_path: Path) -> None:
    text = "fields:\n  a: {$frist: [id]}\n  b: id | txt\nline: cfe\n"
    assert [one.split(":")[0] for one in mistakes(tmp_path, text)] == ["line 2", "line 3", "line 4"]


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    missing = FormatChoice(file=tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match=r"none\.yaml cannot be read: No such file or directory"):
        bind(missing, COLUMNS)


def test_a_file_that_was_corrected_is_read_again(tmp_path: Path) -> None:
    """Within one process, as `run --follow` is."""
    assert line(choice(tmp_path, "fields: {a: id}")) == {"a": 7}
    better = choice(tmp_path, "parameters: {v: x}\nfields: {better: $v}", v="y")
    assert line(better) == {"better": "y"}


def test_a_parameter_that_a_format_does_not_have_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError,
        match=r"format\.with: 'vendr' is no parameter of format 'file:mine'; did you mean 'vendor'",
    ):
        bind(choice(tmp_path, EVERYTHING, vendr="x"), COLUMNS)
    with pytest.raises(ConfigError, match=r"'x' is no parameter of format 'standard'; it has none"):
        bind(FormatChoice.model_validate({"name": "standard", "with": {"x": "y"}}), COLUMNS)


def test_a_role_is_a_column_and_any_other_name_is_its_own(tmp_path: Path) -> None:
    """So is a role that the configuration does not fill: whoever writes it has a column in mind."""
    text = "fields: {a: email, b: e-mail, c: outcome, d: [{$match: ip_address, x: target}]}"
    mapping = bind(choice(tmp_path, text), {**COLUMNS, "outcome": None})[1]
    assert compile_format(Rendering("mine", mapping)).columns == ["e-mail", "ip", "outcome", "target"]
    assert line(choice(tmp_path, "fields: {a: outcome | text}"), outcome="denied") == {"a": "denied"}


def test_a_role_that_is_not_filled_is_null_in_the_formats_of_the_product() -> None:
    """They serve every source, whatever it has, and so does what begins as a copy of one."""
    for name in (one for one in get_args(Preset) if one != "native"):
        assert read_format(preset_file(name)).unfilled == "nothing"
        roles: dict[str, str | None] = {**dict.fromkeys(Columns.model_fields), **COLUMNS}
        mapping = bind(FormatChoice.model_validate({"name": name}), roles)[1]
        assert set(compile_format(Rendering(name, mapping)).columns or ()) <= set(COLUMNS.values())


def test_the_places_that_ask_for_a_column_are_known_by_their_keys(tmp_path: Path) -> None:
    """For whoever has to say where a name stands that the source does not have."""
    text = """
line: leef
header: [=a, =b, =c, lost | text]
fields: {a: lost, b: {$first: [id, lost]}, c: {$match: lost, x: 1}, d: {$match: id, x: lost}, e: id}
"""
    mapping = bind(choice(tmp_path, text), COLUMNS)[1]
    assert fields_with(mapping, "lost") == ["header[3]", *(f"fields.{name}" for name in "abcd")]
    text = "fields: {a: {b: [id, {c: lost}]}}\nenvelope: {host: lost | text}"
    around = {"host": None, "event": "$event"}
    assert fields_with(bind(choice(tmp_path, text), COLUMNS, around)[1], "lost") == [
        "fields.a.b[1].c",
        "envelope.host",
    ]


def test_a_parameter_takes_one_of_its_choices_and_no_other(tmp_path: Path) -> None:
    """The first is the default; what the format was not written for is not stamped on its records."""
    text = "parameters: {schema: [1.8.0, 1.9.0]}\nfields: {a: $schema}"
    assert line(choice(tmp_path, text)) == {"a": "1.8.0"}
    assert line(choice(tmp_path, text, schema="1.9.0")) == {"a": "1.9.0"}
    with pytest.raises(
        ConfigError, match=r"format\.with\.schema: format 'file:mine' does not know '2\.0\.0'"
    ):
        bind(choice(tmp_path, text, schema="2.0.0"), COLUMNS)
    with pytest.raises(ConfigError, match=r"format\.with\.schema: format 'ocsf' does not know '2\.0\.0'"):
        bind(FormatChoice.model_validate({"name": "ocsf", "with": {"schema": "2.0.0"}}), COLUMNS)


def test_a_lookup_that_nothing_fits_leaves_a_record_empty(tmp_path: Path) -> None:
    """Which is allowed: `filter` is there to leave records out."""
    assert line(choice(tmp_path, "fields: {$match: action, other: {a: id}}")) == {}


def test_a_lookup_of_a_parameter_is_decided_when_it_is_bound(tmp_path: Path) -> None:
    """What it is not is neither read nor kept."""
    text = """
parameters: {v: 1.8.0}
fields: {$match: $v, '1.8*': {a: email}, '1.9*': {a: {$match: $v | text, '*': target}}}
"""
    assert fields(choice(tmp_path, text)) == ["object", [["a", ["column", "e-mail"]]]]
    assert fields(choice(tmp_path, text, v="1.9.1")) == ["object", [["a", ["column", "target"]]]]


def test_a_lookup_that_is_needed_often_is_kept_once(tmp_path: Path) -> None:
    """Plans are many: what a format says in one place, it does not say in ten."""
    branches = ", ".join(f"'{number}*': {number}" for number in range(60))
    text = f"fields:\n  a: &a {{$match: action, {branches}}}\n" + "".join(
        f"  b{number}: {{$match: *a, '1*': {number}, '*': email}}\n" for number in range(20)
    )
    mapping = bind(choice(tmp_path, text), COLUMNS)[1]
    assert json.dumps(mapping).count('"59*"') == 1
    assert line(choice(tmp_path, text), action="17x")["b3"] == 3
    assert line(choice(tmp_path, text), action="27x")["b3"] == "Ann@Example.com"


def test_what_shows_a_column_is_never_shared_between_fields(tmp_path: Path) -> None:
    """Protection changes what is shown, and not what is looked up: these are two lookups."""
    branches = ", ".join(f"'{number}*': email" for number in range(60))
    text = f"fields: {{a: &a {{$match: action, {branches}}}, b: {{$match: *a, '*': 1}}}}"
    mapping: Any = bind(choice(tmp_path, text), COLUMNS)[1]
    assert mapping["shared"] == []


def test_an_envelope_is_filled_where_the_destination_leaves_it_open(tmp_path: Path) -> None:
    """The destination's own word stands, and what nobody fills is left out."""
    text = "envelope: {source: =auth0, index: =mine, sourcetype: {$match: action, 'x*': =x}}\nfields: {a: id}"
    envelope = {
        "time": "time | epoch",
        "host": None,
        "source": None,
        "sourcetype": None,
        "index": "=theirs",
        "event": "$event",
        "fields": {"event_id": "id | text", "sequence": "$sequence", "none": "action_id"},
    }
    assert line(choice(tmp_path, text), envelope=envelope) == {
        "time": 1795060800.5,
        "source": "auth0",
        "index": "theirs",
        "event": {"a": 7},
        "fields": {"event_id": "7", "sequence": 0},
    }


def test_native_goes_into_an_envelope_too() -> None:
    found = line(FormatChoice(name="native"), envelope={"event": "$event", "source": None})
    assert found == {"event": ROW}


def test_a_file_of_ones_own_is_never_called_as_one_of_the_product(tmp_path: Path) -> None:
    """Its name goes into an object's metadata, which is ASCII."""
    assert name_of(FormatChoice(file=tmp_path / "standard.yaml")) == "file:standard"
    assert name_of(FormatChoice(file=tmp_path / "für uns.yml")) == "file:f-r-uns"
    assert name_of(FormatChoice(name="standard")) == "standard"


def test_an_array_of_json_is_refused_for_lines_of_text(tmp_path: Path) -> None:
    leef = bind(choice(tmp_path, "line: leef\nheader: [=a, =b, =c, =d]\nfields: {a: id}"), COLUMNS)[1]
    assert body_of(leef, "ndjson") == "lines"
    with pytest.raises(ConfigError, match=r"body: 'json_array' is for records in JSON"):
        body_of(leef, "json_array")
    assert [body_of(None, body) for body in ("ndjson", "json_array")] == ["ndjson", "json_array"]


@pytest.mark.parametrize(
    "name", ["standard", "native", "ocsf", "ecs", "cef", "leef", "cerby", "auth0", "sentry"]
)
def test_every_format_of_the_product_is_right_and_says_what_it_is_for(name: str) -> None:
    assert read_format(preset_file(name)).about.endswith(".")


# --- Patterns ----------------------------------------------------------------------------------------

texts = st.text("abAB.*? |\nß", max_size=8)


def fits(text: str, glob: str) -> bool:
    """What a pattern means, the slow way."""
    if not glob:
        return not text
    if glob[0] == "*":
        return any(fits(text[start:], glob[1:]) for start in range(len(text) + 1))
    return bool(text) and glob[0] in {"?", text[0]} and fits(text[1:], glob[1:])


@given(texts, st.text("abAB.*? ", max_size=6))
def test_a_pattern_means_what_it_says(text: str, glob: str) -> None:
    """`*` is anything, `?` one character, and upper case is lower case."""
    assert bool(pattern_of(glob).fullmatch(text)) == fits(text.lower(), glob.strip().lower())


@pytest.mark.parametrize("alternatives", ["a*|b", "a* | b", " b |a*"])
def test_alternatives_have_spaces_around_them_or_none(alternatives: str) -> None:
    assert [bool(pattern_of(alternatives).fullmatch(text)) for text in ("ax", "B", "xb", "")] == [
        True,
        True,
        False,
        False,
    ]


def test_no_text_makes_a_pattern_slow() -> None:
    """Actions are written by strangers: forty thousand characters against twenty stars take no time."""
    assert not pattern_of("*a" * 20 + "*b").fullmatch("a" * 40_000)


def test_equal_formats_are_bound_to_equal_json() -> None:
    """A plan's form does not depend on what was bound before."""
    language = read_format(preset_file("ocsf"))
    bound = [Binder(COLUMNS, language.parameters).bound(language, None) for _ in range(2)]
    assert json.dumps(bound[0]) == json.dumps(bound[1])
