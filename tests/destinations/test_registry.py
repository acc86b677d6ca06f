"""The list of destinations: each kind is loaded when a configuration has it, and mistakes are as ever."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Annotated, Any, Final, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, TypeAdapter, ValidationError

from exporter.destinations.azure.settings import AzureSettings
from exporter.destinations.directory import DirectorySettings
from exporter.destinations.gcs.settings import GcsSettings
from exporter.destinations.registry import DESTINATIONS, Destination
from exporter.destinations.s3.settings import S3Settings
from exporter.destinations.splunk_hec.settings import SplunkHecSettings
from exporter.notation.surroundings import Surroundings

OURS: Final[TypeAdapter[Any]] = TypeAdapter(Destination)
PYDANTICS: Final[TypeAdapter[Any]] = TypeAdapter(
    Annotated[
        S3Settings | GcsSettings | AzureSettings | DirectorySettings | SplunkHecSettings,
        Field(discriminator="type"),
    ]
)
NAMES: Final = sorted({name for model in DESTINATIONS.values() for name in model.model_fields} | {"buckt"})
VALUES: Final[st.SearchStrategy[object]] = st.sampled_from(
    ["", "audit", "https://h.example", "s3", "7MB", "a b", 7, True, None, [], {"env": "TOKEN"}, {"x": 1}]
)
SETTINGS: Final = st.builds(
    lambda kind, others: {**others, **kind},
    st.one_of(
        st.sampled_from([*DESTINATIONS, "s4", "", 3, None]).map(lambda kind: {"type": kind}), st.just({})
    ),
    st.dictionaries(st.sampled_from([name for name in NAMES if name != "type"]), VALUES, max_size=6),
)


def outcome(adapter: TypeAdapter[Any], settings: object) -> object:
    """What comes of settings: themselves, or each mistake with its kind, place, value and reason."""
    try:
        return adapter.validate_python(settings, context=Surroundings())
    except ValidationError as error:
        return [
            (
                one["type"],
                one["loc"],
                one["input"],
                {key: str(why) for key, why in one.get("ctx", {}).items()},
            )
            for one in error.errors(include_url=False)
        ]


@given(SETTINGS)
def test_settings_and_mistakes_are_those_of_pydantics_own_union(settings: dict[str, Any]) -> None:
    assert outcome(OURS, settings) == outcome(PYDANTICS, settings)


@pytest.mark.parametrize("wrong", [None, "s3", 7, [], [{"type": "s3"}]], ids=repr)
def test_what_is_no_mapping_is_refused_as_pydantic_would(wrong: object) -> None:
    assert outcome(OURS, wrong) == outcome(PYDANTICS, wrong)


def test_settings_that_were_read_before_are_taken_as_they_are() -> None:
    settings = OURS.validate_python({"type": "directory", "path": "out"}, context=Surroundings())
    assert OURS.validate_python(settings) is settings


def test_the_schema_for_editors_is_that_of_pydantics_own_union() -> None:
    assert OURS.json_schema() == PYDANTICS.json_schema()


def test_every_kind_is_found_by_the_type_that_its_settings_have_and_no_other() -> None:
    kinds = [get_args(model.model_fields["type"].annotation) for model in DESTINATIONS.values()]
    assert kinds == [(kind,) for kind in DESTINATIONS]
    assert len(DESTINATIONS) == len(kinds)
    assert "s4" not in DESTINATIONS
    assert DESTINATIONS.get("s4") is None


ONE_KIND: Final = """
import json, sys
from pydantic import TypeAdapter
from exporter.destinations.registry import Destination
from exporter.notation.surroundings import Surroundings
read = TypeAdapter(Destination).validate_python
read({"type": "s3", "bucket": "audit", "region": "us-east-1"}, context=Surroundings())
print(json.dumps(sorted(name for name in sys.modules if name.startswith("exporter.destinations."))))
"""


def test_of_a_configuration_with_one_kind_the_others_are_not_loaded() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ONE_KIND], capture_output=True, text=True, timeout=60, check=True
    )
    loaded = set(json.loads(done.stdout))
    assert "exporter.destinations.s3.settings" in loaded
    assert not {name for name in loaded if name.split(".")[2] in ("gcs", "azure", "directory", "splunk_hec")}
