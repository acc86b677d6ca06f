"""The descriptions in the JSON Schema: what is written below a setting, as pydantic would find it."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from exporter import config
from exporter.notation.described import Described


class Silent(BaseModel):
    """Settings as ours are: nobody reads their source when they are imported."""


class Speaking(BaseModel):
    """Settings whose descriptions pydantic finds itself."""

    model_config = ConfigDict(use_attribute_docstrings=True)


class SilentInner(Silent):
    """What is inside."""

    depth: int = 0
    """How deep."""


class SilentBase(Silent):
    """What others are made of."""

    kept: int
    """Of the base:
    two lines."""
    bare: str
    changed: int
    """What it was."""
    emptied: int
    """What nobody says any more."""


class SilentWhole(SilentBase):
    """All there is."""

    changed: int
    """What it is now."""
    emptied: int
    own: Annotated[int, Field(description="Its own words.")]
    """Not these."""
    with_: int = Field(alias="with")
    """Under another name."""
    inner: SilentInner | None = None
    """Another model."""
    each: list[SilentInner] = Field(default_factory=list)


class SpeakingInner(Speaking):
    """What is inside."""

    depth: int = 0
    """How deep."""


class SpeakingBase(Speaking):
    """What others are made of."""

    kept: int
    """Of the base:
    two lines."""
    bare: str
    changed: int
    """What it was."""
    emptied: int
    """What nobody says any more."""


class SpeakingWhole(SpeakingBase):
    """All there is."""

    changed: int
    """What it is now."""
    emptied: int
    own: Annotated[int, Field(description="Its own words.")]
    """Not these."""
    with_: int = Field(alias="with")
    """Under another name."""
    inner: SpeakingInner | None = None
    """Another model."""
    each: list[SpeakingInner] = Field(default_factory=list)


def test_descriptions_are_those_that_pydantic_would_find() -> None:
    ours = repr(SilentWhole.model_json_schema(schema_generator=Described))
    assert ours.replace("Silent", "Speaking") == repr(SpeakingWhole.model_json_schema())


def test_settings_of_the_file_and_of_every_destination_are_described() -> None:
    """Wherever a model stands in the schema: what is nested, inherited, or one of several kinds."""
    models = config.json_schema()["$defs"]
    assert models["DefaultSettings"]["properties"]["grace"]["description"].startswith(
        "How long after its end"
    )
    assert models["ExportSettings"]["properties"]["grace"] == models["DefaultSettings"]["properties"]["grace"]
    assert (
        models["S3Settings"]["properties"]["prefix"]["description"] == "What every object's name begins with."
    )
    assert models["FormatChoice"]["properties"]["with"]["description"].startswith("The format's parameters")
