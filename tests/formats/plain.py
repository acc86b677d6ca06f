"""The mapping language, evaluated the plain way: one record and one expression at a time, as JSON text.

What the fast encoders have to equal, byte by byte. It must not import anything of the product.
"""

from __future__ import annotations

import calendar
import fnmatch
import ipaddress
import json
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tests.kit import reference
from tests.kit.reference import JsonText

if TYPE_CHECKING:
    from collections.abc import Mapping

TIMES: Final = ("rfc3339", "epoch_s", "epoch_ms", "epoch")
_TIME: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d(?::\d\d)?)(?:[.,](\d+))? ?([Zz]|[+-]\d\d(?::?\d\d)?)?", re.ASCII
)
_EMAIL: Final = re.compile(r"[a-zA-Z0-9!#-'*-/=?^_`{|}~]+@[a-zA-Z0-9-]+\.[a-zA-Z0-9.-]+")


@dataclass(frozen=True, slots=True)
class Moment:
    """The value of the time column: its parts, however the source wrote it."""

    date: str
    time: str
    digits: str
    text: str


@dataclass(frozen=True, slots=True)
class Plain:
    """A format's file as JSON, over the columns that fill its roles."""

    content: Mapping[str, Any]
    roles: Mapping[str, str | None]
    sequence: int = 0

    def line(self, record: Mapping[str, Any]) -> str:
        """One record's line."""
        found = self.value(self.content["fields"], record)
        return "{}" if found == "null" else found

    def value(self, expression: Any, record: Mapping[str, Any]) -> str:  # noqa: ANN401 - part of a file
        """What an expression gives for a record, as JSON text."""
        if isinstance(expression, str):
            return self._text(expression, record)
        if isinstance(expression, list):
            return self._gathered("[", "]", [("", self.value(item, record)) for item in expression])
        if isinstance(expression, dict) and "$const" not in expression:
            return self._mapping(expression, record)
        return json.dumps(expression["$const"] if isinstance(expression, dict) else expression)

    def _mapping(self, expression: Mapping[str, Any], record: Mapping[str, Any]) -> str:
        if "$first" in expression:
            found = (self.value(item, record) for item in expression["$first"])
            return next((one for one in found if one.strip() != "null"), "null")
        if "$match" in expression:
            key = text_of(self.value(expression["$match"], record))
            branches = (branch for glob, branch in expression.items() if glob != "$match" and fits(key, glob))
            return self.value(next(branches, None), record)
        named = [(json.dumps(name) + ":", self.value(item, record)) for name, item in expression.items()]
        return self._gathered("{", "}", named)

    def _gathered(self, opening: str, closing: str, members: list[tuple[str, str]]) -> str:
        if self.content.get("nulls") == "omit":
            members = [(name, value) for name, value in members if value.strip() != "null"]
            if not members:
                return "null"
        return opening + ",".join(name + value for name, value in members) + closing

    def _text(self, text: str, record: Mapping[str, Any]) -> str:
        if text.startswith("="):
            return json.dumps(text[1:])
        if text == "$sequence":
            return str(self.sequence)
        if text == "$all":
            return self._gathered(
                "{", "}", [(json.dumps(name) + ":", _json(record[name])) for name in record]
            )
        name, *conversions = text.split(" | ")
        column = self.roles.get(name, name)
        return "null" if column is None else _converted(record[column], conversions)


def fits(text: str, globs: str) -> bool:
    """Whether a text fits one of the alternatives."""
    return any(fnmatch.fnmatchcase(text.lower(), glob.strip().lower()) for glob in globs.split("|"))


def text_of(value: str) -> str:
    """The text that some JSON stands for."""
    found = value.strip()
    return "" if found == "null" else str(json.loads(found)) if found.startswith('"') else found


def _json(value: Any) -> str:  # noqa: ANN401 - a record's
    return reference.json_of(value.text if isinstance(value, Moment) else value)


def _converted(value: Any, conversions: list[str]) -> str:  # noqa: ANN401 - a record's
    if isinstance(value, Moment) and conversions and conversions[0] in TIMES:
        found = _of_time(reference.instant_of(value.date, value.time, value.digits), conversions[0])
    elif conversions and conversions[0] not in {"json", "number"}:
        # Of a column of JSON, the text that its JSON is.
        whole = value.text if isinstance(value, Moment | JsonText) else value
        found = _once(reference.string_of(whole), conversions[0])
    else:
        found = _once(_json(value), conversions[0]) if conversions else _json(value)
    for conversion in conversions[1:]:
        found = _once(found, conversion)
    return found


def _once(value: str, conversion: str) -> str:
    """A conversion of some JSON."""
    is_text = value.startswith('"')
    if conversion == "json":
        return _parsed(value) if is_text else value
    if conversion == "number":
        bare = value.strip()
        bare = bare[1:-1] if bare.startswith('"') else bare
        return bare if re.fullmatch(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?", bare, re.ASCII) else "null"
    if conversion in {"ip", "email"}:
        is_one = _is_address if conversion == "ip" else _EMAIL.fullmatch
        return value if is_text and is_one(str(json.loads(value))) else "null"
    if conversion in TIMES:
        return _of_time(_instant(str(json.loads(value))) if is_text else "null", conversion)
    bare = value if is_text else value.strip()
    as_text = bare if bare.startswith('"') or bare == "null" else _quoted(bare)
    if conversion == "text" or as_text == "null":
        return as_text
    text = str(json.loads(as_text))
    return _quoted(text.lower() if conversion == "lower" else text.upper())


def _quoted(text: str) -> str:
    """A text as a JSON string; with half of a surrogate pair, as its column of JSON spelt it."""
    try:
        return reference.json_of(text)
    except TypeError:
        return json.dumps(text)


def _parsed(value: str) -> str:
    """A JSON string as the JSON that it holds, if it does."""
    try:
        return reference.json_of(JsonText(str(json.loads(value))))
    except TypeError:
        return value


def _is_address(text: str) -> bool:
    try:
        return "%" not in text and bool(ipaddress.ip_address(text))
    except ValueError:
        return False


def _instant(text: str) -> str:
    """A time with or without an offset, as the time column would have it."""
    found = _TIME.fullmatch(text)
    if found is None:
        return "null"
    date, clock, digits, offset = found.groups()
    try:
        seconds = calendar.timegm(
            time.strptime(
                f"{date} {clock:0<8}"[:19] if clock[5:] else f"{date} {clock}:00", "%Y-%m-%d %H:%M:%S"
            )
        )
    except ValueError:
        return "null"
    if int(clock[6:8] or 0) > 59 or date < "0001":
        return "null"
    if offset and offset not in "Zz":
        hours, minutes = int(offset[1:3]), int(offset[3:].lstrip(":") or 0)
        if hours > 23 or minutes > 59:
            return "null"
        seconds -= (hours * 3600 + minutes * 60) * (-1 if offset[0] == "-" else 1)
    days, second = divmod(seconds, 86400)
    year, month, day, *_ = time.gmtime(days * 86400)
    if not 1 <= year <= 9999:
        return "null"
    clock = f"{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}"
    return reference.instant_of(f"{year:04}-{month:02}-{day:02}", clock, (digits or "")[:9])


def _of_time(instant: str, conversion: str) -> str:
    if instant == "null" or conversion == "rfc3339":
        return instant
    seconds = calendar.timegm(time.strptime(instant[1:20], "%Y-%m-%dT%H:%M:%S"))
    microseconds = seconds * 10**6 + int(instant[21:27])
    if conversion == "epoch":
        sign, whole = ("-", -microseconds) if microseconds < 0 else ("", microseconds)
        return f"{sign}{whole // 10**6}.{whole % 10**6:06}"
    return str(microseconds // (10**6 if conversion == "epoch_s" else 1000))
