"""The JSON Schema of settings, with what is written below each of them as its description.

pydantic could do so, too, but it would read the source of every model whenever one is imported: that takes
longer than reading a configuration. It is the schema alone that has descriptions.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

if TYPE_CHECKING:
    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import core_schema


class Described(GenerateJsonSchema):
    """Makes a schema that people read in their editors."""

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        """A model's schema; a field that describes itself keeps its own words."""
        made = super().model_schema(schema)
        model: type[BaseModel] = schema["cls"]
        for name, text in _texts_below_fields(model).items():
            made["properties"][model.model_fields[name].alias or name].setdefault("description", text)
        return made


def _texts_below_fields(model: type[BaseModel]) -> dict[str, str]:
    """The literal below each field that has one, in the class where the field is defined last."""
    found: dict[str, str] = {}
    for one in reversed(model.__mro__):
        if issubclass(one, BaseModel) and one is not BaseModel:
            for name, text in _fields_in(one):
                found.pop(name, None)
                if text:
                    found[name] = text
    return {name: text for name, text in found.items() if name in model.model_fields}


def _fields_in(model: type[BaseModel]) -> list[tuple[str, str]]:
    (statement,) = ast.parse(textwrap.dedent(inspect.getsource(model))).body
    body: list[Any] = statement.body if isinstance(statement, ast.ClassDef) else []
    return [
        (field.target.id, _text_of(below))
        for field, below in zip_longest(body, body[1:])
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
    ]


def _text_of(statement: ast.stmt | None) -> str:
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
        return inspect.cleandoc(str(statement.value.value))
    return ""
