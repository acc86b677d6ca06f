"""Mistakes in a configuration, in words: where each is, a sentence about it, and the nearest valid key.

It must not quote a value that could be a secret.
"""

from __future__ import annotations

import re
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, Union, get_args, get_origin

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
    "int_type": "a number",
    "float_type": "a number",
    "list_type": "a list",
    "tuple_type": "text or a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}
_FIXED = {
    "missing": "missing",
    "string_too_short": "must not be empty",
    "too_short": "must not be empty",
    "string_unicode": "holds half of a surrogate pair, which no text may",
}
_UNFORESEEN = "is nothing that this setting takes"


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
            sentence = _unknown_key(meant[loc], _keys(model, loc))
        elif _is_of_a_key(error):
            loc, sentence = loc[:-2], f"has a key that {_sentence(error, value)}"
        else:
            sentence = _sentence(error, value)
        yield _without_type(loc), sentence


def _unknown_key(meant: str, keys: list[str]) -> str:
    valid = f"valid keys are {', '.join(keys)}" if keys else ""
    return "; ".join(filter(None, ("unknown key", did_you_mean(meant) or valid)))


def _is_of_a_key(error: ErrorDetails) -> bool:
    """Whether it is the key that is wrong, of a mapping whose keys are texts, and not what is under it."""
    return error["loc"][-2:] == (error["input"], "[key]") and error["type"].startswith("string")


def _sentence(error: ErrorDetails, value: object) -> str:
    """What is wrong with one value, in our words: pydantic's speak of Python."""
    kind, context = error["type"], error.get("ctx", {})
    if kind in _WANTED:
        return must_be(_WANTED[kind], value)
    if kind == "value_error":
        return str(context["error"])
    if kind in _FIXED:
        return _FIXED[kind]
    choices = re.findall(r"'([^']*)'", str(context.get("expected") or context.get("expected_tags")))
    return _no_choice(kind, value, choices) if choices else _UNFORESEEN


def _no_choice(kind: str, value: object, choices: list[str]) -> str:
    """What to say of a value that is none of the choices; one that is like none may be a secret."""
    if not isinstance(value, str):
        return must_be(_either(choices), value)
    meant = near(value, choices)
    may_be_shown = meant or kind.startswith("union_tag")
    sentence = f"{shown(value)} is not" if may_be_shown else "is not"
    return "; ".join(filter(None, (f"{sentence} {_either(choices)}", did_you_mean(meant))))


def _no_type(destination: Iterable[str]) -> str:
    """What to say about a destination without a type; a key close to that is what was meant."""
    wrong = near("type", destination)
    return f"missing; {key_shown(wrong)} is not a key" if wrong else f"missing; it is {_either(DESTINATIONS)}"


def _either(choices: Iterable[str]) -> str:
    return " or ".join(f"'{choice}'" for choice in choices)


def _keys(model: type[BaseModel], loc: Loc) -> list[str]:
    """The valid keys of the mapping that the last key of ``loc`` is in; none if it is nothing we know."""
    found: Any = model
    for part in loc[:-1]:
        found = _below(found, part)
    return [field.alias or name for name, field in found.model_fields.items()] if _is_model(found) else []


def _below(kind: Any, part: str | int) -> Any:  # noqa: ANN401 - types of types
    """What a key or an index leads to; in a union of destinations, the type of one is a step too."""
    if _is_model(kind):
        fields = {field.alias or name: field.annotation for name, field in kind.model_fields.items()}
        return _plain(fields.get(str(part)))
    if get_origin(kind) in (dict, list, tuple):
        return _plain(get_args(kind)[1 if get_origin(kind) is dict else 0])
    return DESTINATIONS.get(str(part))


def _plain(kind: Any) -> Any:  # noqa: ANN401 - as above
    """A type without `Annotated` and `| None` around it."""
    if get_origin(kind) is Annotated:
        return _plain(get_args(kind)[0])
    if get_origin(kind) in (Union, UnionType):
        members = [member for member in get_args(kind) if member is not NoneType]
        return _plain(members[0]) if len(members) == 1 else kind
    return kind


def _is_model(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _without_type(loc: Loc) -> Loc:
    """The way to a setting through the file: pydantic's goes through the type of a destination."""
    return loc[:1] + loc[2:] if loc[:1] == ("destination",) else loc
