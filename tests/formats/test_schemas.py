"""The JSON Schemas of our own formats: true of every line, and only ever added to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import jsonschema  # type: ignore[import-untyped]
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exporter.columns import RowBlock
from exporter.formats import compile_format, library
from exporter.formats.settings import FormatChoice
from exporter.model import BadRecord, Branch, Rendering
from tests.formats.presets_kit import LAYOUT, ROLES, TIME, records

FOLDER: Final = Path(library.__file__).with_name("schemas")
TEXT: Final = ["string", "null"]

PUBLISHED: Final[dict[str, dict[str, Any]]] = {
    "standard": {
        "Date": "string",
        "Email": TEXT,
        "Action": TEXT,
        "Action ID": TEXT,
        "Description": TEXT,
        "IP Address": TEXT,
        "Event ID": "string",
    },
    "native": {},
    "cerby": {
        "timestamp": "integer",
        "date": "string",
        **dict.fromkeys(("eventName", "user_id", "accountName", "accountProvider", "city", "region"), TEXT),
        **dict.fromkeys(("country", "ip", "deviceName", "browserName", "browserVersionMajor"), TEXT),
        **dict.fromkeys(("userAgent", "workspace"), TEXT),
    },
    "auth0": {
        **dict.fromkeys(("message", "application", "clientIP", "protocol", "userName", "userId"), TEXT),
    },
    "sentry": {
        "event_id": "string",
        "transaction": "string",
        "release": "string",
        "environment": "string",
        "type": "string",
    },
}
"""What each format had in every line when it was first published, and of which type. Nothing may ever be
taken from this table; a format may promise more than is in it."""


def schema_of(name: str) -> dict[str, Any]:
    schema: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return schema


def test_every_schema_is_one_and_every_format_of_ours_has_one() -> None:
    """Each file is a valid JSON Schema, and those in the table are all there are."""
    assert {file.stem for file in FOLDER.iterdir()} == set(PUBLISHED)
    for name in PUBLISHED:
        jsonschema.Draft202012Validator.check_schema(schema_of(name))


@pytest.mark.parametrize("name", PUBLISHED)
def test_what_was_published_stays(name: str) -> None:
    """A property that readers may rely on is still required, of the same type; others may be added."""
    record = schema_of(name)["$defs"]["record"]
    assert set(PUBLISHED[name]) <= set(record["required"])
    for key, kind in PUBLISHED[name].items():
        assert record["properties"][key].get("type") == kind
    assert "additionalProperties" not in record
    bad = schema_of(name)["$defs"]["bad_record"]["properties"]["bad_record"]
    assert {"id", "reason", "length", "leading_bytes"} <= set(bad["required"])


def test_the_words_of_auth0_stay() -> None:
    """Searches in Splunk look for these two."""
    record = schema_of("auth0")["$defs"]["record"]
    assert record["properties"]["message"]["examples"] == ["SignUp", "Login"]


def form_of(name: str) -> Any:  # noqa: ANN401 - a Format
    _, mapping = library.bind(FormatChoice.model_validate({"name": name}), {role: role for role in ROLES})
    return compile_format(Rendering(name, mapping))


@pytest.mark.parametrize("name", PUBLISHED)
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(rows=st.lists(records, min_size=1, max_size=4))
def test_every_line_is_as_the_schema_says(name: str, rows: list[dict[str, object]]) -> None:
    """Any values, nulls anywhere: each line validates, and has at least what is required."""
    record = schema_of(name)["$defs"]["record"]
    values = [[{"time": TIME, **row}.get(role) for role in ROLES] for row in rows]
    lines, _ = form_of(name).encode(RowBlock(Branch.ON_TIME, LAYOUT, values))
    for line in lines.decode().split("\n")[:-1]:
        event = json.loads(line)
        jsonschema.Draft202012Validator(record).validate(event)
        jsonschema.Draft202012Validator(schema_of(name)).validate(event)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_bad_record_is_in_the_schema(name: str) -> None:
    """The line of a record that could not be written is one that readers are told about."""
    line = json.loads(form_of(name).bad_line(BadRecord("7", "not UTF-8", 3, b"\xff\x00a")))
    schema = schema_of(name)
    jsonschema.Draft202012Validator(schema["$defs"]["bad_record"]).validate(line)
    jsonschema.Draft202012Validator(schema).validate(line)


def test_a_line_that_lacks_something_is_refused() -> None:
    """The schemas are no rubber stamp."""
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(schema_of("standard")).validate({"Email": "ada@acme.example"})
