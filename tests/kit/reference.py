"""A plain encoder, one record and one value at a time: what the fast ones have to equal, byte by byte.

It takes the short way everywhere and must not import anything of the product.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn, TypeAlias

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True)
class JsonText:
    """A value of a column that was declared to hold JSON."""

    text: str


Value: TypeAlias = "bool | int | float | str | bytes | JsonText | None"

SEPARATORS = "\u2028\u2029\x85"
"""Where some readers split lines, besides at what JSON escapes anyway."""


def shown(value: Value) -> object:
    """What a JSON parser gives back for a value in a field that shows it as it is."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, JsonText):
        try:
            return json.loads(value.text, parse_constant=_refuse)
        except (ValueError, RecursionError):
            return value.text
    return value


def json_of(value: Value) -> str:
    """A value as the JSON it is, on one line."""
    if isinstance(value, JsonText):
        if shown(value) == value.text:
            return json_of(value.text)
        return _escaped("".join(" " if char in "\r\n\t" else char for char in value.text))
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return _escaped(orjson.dumps(shown(value)).decode())


def string_of(value: Value) -> str:
    """A value as a JSON string or null: one that is neither is shown as its JSON between quotes."""
    rendered = json_of(value)
    return rendered if rendered == "null" or rendered.startswith('"') else f'"{rendered}"'


def instant_of(date: str, time: str, digits: str) -> str:
    """A UTC time in RFC 3339, with the digits of its second as far as they matter, and at least six."""
    return f'"{date}T{time}.{digits[:6]:0<6}{digits[6:].rstrip("0")}Z"'


def line(fields: Iterable[tuple[str, str]]) -> bytes:
    """One record from the names of its fields and their JSON."""
    return ("{" + ",".join(f"{json.dumps(name)}:{value}" for name, value in fields) + "}\n").encode()


def _escaped(rendered: str) -> str:
    return "".join(f"\\u{ord(char):04x}" if char in SEPARATORS else char for char in rendered)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")
