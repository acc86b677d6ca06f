"""Mistakes in a configuration, in words: where each is, a sentence about it, and the nearest valid key.

It must not quote a value that could be a secret.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ValidationError

from exporter.destinations.registry import DESTINATIONS
from exporter.notation.values import must_be, shown
from exporter.notation.wording import did_you_mean, key_shown, near
from exporter.notation.yaml_lines import Broken

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pydantic_core import ErrorDetails

    from exporter.notation.surroundings import Surroundings
    from exporter.notation.yaml_lines import Loc

Model = TypeVar("Model", bound=BaseModel)

_WANTED = {
    "string_type": "text",
    "bool_type": "true or false",
    "list_type": "a list",
    "tuple_type": "text or a list",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}
_FIXED = {
    "missing": "missing",
    "string_too_short": "must not be empty",
    "string_unicode": "holds half of a surrogate pair, which no text may",
}


def checked(model: type[Model], data: object, around: Surroundings) -> Model | list[tuple[Loc, str]]:
    """The settings, or every mistake in them: where it is, and a sentence about it."""
    try:
        return model.model_validate(data, context=around)
    except ValidationError as error:
        return list(_mistakes(model, error.errors(include_url=False)))


def _mistakes(model: type[BaseModel], errors: list[ErrorDetails]) -> Iterator[tuple[Loc, str]]:
    meant = {
        error["loc"]: near(str(error["loc"][-1]), _keys(model, error["loc"]))
        for error in errors
        if error["type"] == "extra_forbidden"
    }
    mistyped = {(*loc[:-1], key) for loc, key in meant.items()}
    for error in errors:
        kind, loc, value = error["type"], error["loc"], error["input"]
        if kind == "default_factory_not_called" or (kind == "missing" and loc in mistyped):
            continue  # only follows from another mistake
        if kind.startswith("union_tag") and isinstance(value, dict):
            loc, value = (*loc, "type", "type"), value.get("type", Broken(_no_type(value)))
        if isinstance(value, Broken):
            sentence = value.sentence
        elif kind == "extra_forbidden":
            keys = ", ".join(_keys(model, loc))
            sentence = f"unknown key; {did_you_mean(meant[loc]) or f'valid keys are {keys}'}"
        else:
            sentence = _sentence(error, value)
        yield _without_type(loc), sentence


def _sentence(error: ErrorDetails, value: object) -> str:
    """What is wrong with one value, in our words: pydantic's speak of Python."""
    kind, context = error["type"], error.get("ctx", {})
    if kind in _WANTED:
        return must_be(_WANTED[kind], value)
    if kind == "value_error":
        return str(context["error"])
    if kind in _FIXED:
        return _FIXED[kind]
    choices = re.findall(r"'([^']*)'", context.get("expected") or context["expected_tags"])
    wanted = _either(choices)
    if not isinstance(value, str):
        return must_be(wanted, value)
    return "; ".join(filter(None, (f"{shown(value)} is not {wanted}", did_you_mean(near(value, choices)))))


def _no_type(destination: Iterable[str]) -> str:
    """What to say about a destination without a type; a key close to that is what was meant."""
    wrong = near("type", destination)
    return f"missing; {key_shown(wrong)} is not a key" if wrong else f"missing; it is {_either(DESTINATIONS)}"


def _either(choices: Iterable[str]) -> str:
    return " or ".join(f"'{choice}'" for choice in choices)


def _keys(model: type[BaseModel], loc: Loc) -> list[str]:
    """The valid keys of the mapping that the last key of ``loc`` is in."""
    for part in loc[:-1]:
        found = DESTINATIONS.get(str(part)) or model.model_fields[str(part)].annotation
        model = found if isinstance(found, type) else model  # a union of destinations: the type comes next
    return list(model.model_fields)


def _without_type(loc: Loc) -> Loc:
    """The way to a setting through the file: pydantic's goes through the type of a destination."""
    return loc[:1] + loc[2:] if loc[:1] == ("destination",) else loc
