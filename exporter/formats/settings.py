"""What a configuration says of an export's format: which one, which records go out, and what is protected.

Settings are read before anything else is there: they must not read files.
"""

from __future__ import annotations

import difflib
from typing import Annotated, Literal, get_args

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from exporter.notation.secret import Secret  # noqa: TC001 - pydantic reads the annotations
from exporter.notation.strict import Strict
from exporter.notation.values import FilePath, Text, must_be, shown

Preset = Literal["standard", "native", "ocsf", "ecs", "cef", "leef", "cerby", "auth0", "sentry"]
"""The formats that come with the product."""


class FormatChoice(Strict):
    """A format: one that comes with the product, or a file of your own."""

    name: Preset | None = None
    """One of those that come with the product; `audit-exporter formats` shows them."""
    file: FilePath | None = None
    """A mapping of your own: `audit-exporter formats NAME` prints one to start from."""
    with_: Annotated[dict[str, Text], Field(alias="with")] = Field(default_factory=dict)
    """The format's parameters, such as `vendor` and `product`."""

    @model_validator(mode="after")
    def _one_format(self) -> FormatChoice:
        if (self.name is None) == (self.file is None):
            message = "needs either `name` or `file`" + (", not both" if self.name else "")
            raise ValueError(message)
        return self


def _by_name(value: object) -> object:
    """`standard` for `{name: standard}`, and `formats/mine.yaml` for `{file: formats/mine.yaml}`."""
    if isinstance(value, str) and (value.endswith((".yaml", ".yml")) or "/" in value):
        return {"file": value}
    if isinstance(value, str):
        known = get_args(Preset)
        if value not in known:
            near = difflib.get_close_matches(value[:80].lower(), known, n=1)
            if not near:  # not shown: it may be a secret in a wrong place
                message = f"is no format; there are {', '.join(known)}, and files"
                raise ValueError(message)
            message = f"{shown(value)} is no format; did you mean '{near[0]}'?"
            raise ValueError(message)
        return {"name": value}
    if not isinstance(value, dict | FormatChoice):
        raise ValueError(must_be("a format's name", value))  # noqa: TRY004 - what pydantic wants
    return value


Format = Annotated[
    FormatChoice,
    BeforeValidator(_by_name, json_schema_input_type=str | FormatChoice),
]

Patterns = Annotated[
    tuple[Text, ...],
    BeforeValidator(lambda value: (value,) if isinstance(value, str) else value),
    Field(strict=False),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
]
"""Texts with `*` for anything and `?` for one character, without regard to case; `!` before one excludes."""


class FilterSettings(Strict):
    """Which records go out, and which fields of them."""

    actions: Patterns = ()
    """Records whose action fits one of these and none that begins with `!`: `login*`, `!*.read`."""
    where: dict[Text, Patterns] = Field(default_factory=dict)
    """The same for any other column: `{status: [ok, failed]}`; a record has to fit all."""
    fields: Patterns = ()
    """The fields, by their names at the top of a line, that go out; or, with `!`, that do not."""


class ProtectSettings(Strict):
    """What becomes of the values of a column before they leave."""

    columns: dict[Text, Literal["drop", "mask", "truncate", "pseudonymise"]] = Field(default_factory=dict)
    """By column: `drop` leaves it out, `mask` says only that there was a value, `truncate` an address to its
    network, and `pseudonymise` puts the same name in place of the same value, by HMAC-SHA256."""
    key: Secret | None = None
    """What pseudonyms are made with, 16 bytes or more; each account gets a key of its own from it."""
    secrets: bool = True
    """Mask what looks like an API key or a token, wherever it stands."""

    @model_validator(mode="after")
    def _key_for_pseudonyms(self) -> ProtectSettings:
        name = next((name for name, how in self.columns.items() if how == "pseudonymise"), None)
        if name is not None and self.key is None:
            message = f"needs a `key` to pseudonymise {shown(name)}: `key: {{env: NAME}}`"
            raise ValueError(message)
        return self
