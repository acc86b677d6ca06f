"""How values are written in a configuration: time spans, sizes, times, zones, paths, and what each means.

Every type here takes a person's notation and answers a mistake with one plain sentence. It must not
know which setting a value belongs to.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, WithJsonSchema

from exporter.errors import ConfigError
from exporter.keys import normal_prefix
from exporter.notation.surroundings import surroundings_of
from exporter.notation.zones import load_zone

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

GIB = 2**30
_NAME_BYTES = 200
_SHOWN = 80


def must_be(wanted: str, value: object) -> str:
    """A sentence about a value of the wrong type, without the value: it may be a secret in a wrong place."""
    if value is None:
        return "has no value"
    names = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list"}
    found = next((name for kind, name in names.items() if isinstance(value, kind)), "a mapping")
    quotes = "; put it in quotes" if wanted == "text" and found in {"a number", "true or false"} else ""
    return f"must be {wanted}, not {found}{quotes}"


def shown(text: str) -> str:
    """A value in quotes, on one line and not too long."""
    text = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
    return f"'{text}'" if text.isprintable() else ascii(text)


# --- From text -------------------------------------------------------------------------------------

_DURATION = re.compile(r"([0-9]{1,9})([smhd])")
_DURATION_UNITS = {
    "d": timedelta(days=1),
    "h": timedelta(hours=1),
    "m": timedelta(minutes=1),
    "s": timedelta(seconds=1),
}
_SIZE = re.compile(r"([0-9]{1,15}) ?(B|kB|MB|GB|KiB|MiB|GiB)")
_SIZE_UNITS = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_TIME = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})([Tt ][0-9]{2}:[0-9]{2}:[0-9]{2})?(\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})?"
)
_SANE_YEARS = range(1900, 2201)  # a mistyped year would ask for millions of windows


def parse_duration(text: str) -> timedelta:
    """A span of time such as `4h`, `15m`, `90s` or `1d`; raises ConfigError."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ConfigError(f"{shown(text)} is not a time span", hint="write a number and s, m, h or d: '4h'")
    return int(match[1]) * _DURATION_UNITS[match[2]]


def parse_size(text: str) -> int:
    """A number of bytes such as `512MiB` or `4MB`; raises ConfigError."""
    match = _SIZE.fullmatch(text)
    if match is None:
        units = ", ".join(_SIZE_UNITS)
        raise ConfigError(f"{shown(text)} is not a size", hint=f"write a number and one of {units}: '512MiB'")
    return int(match[1]) * _SIZE_UNITS[match[2]]


def parse_time(text: str) -> datetime:
    """A whole second in UTC, from RFC 3339 with an offset, or from a date (its midnight in UTC).

    Raises ConfigError, above all for a time without an offset: nobody can tell which moment it is.
    """
    match = _TIME.fullmatch(text)
    if match is None or (match[2] is None and (match[3] or match[4])):
        raise ConfigError(f"{shown(text)} is not a time", hint="write it like '2026-11-01T00:00:00Z'")
    date, clock, fraction, offset = match.groups()
    if clock and not offset:
        raise ConfigError(
            f"'{text}' has no offset", hint=f"write '{text}Z' for UTC, or an offset like +01:00"
        )
    if fraction and fraction.strip(".0"):
        raise ConfigError(f"'{text}' is not a whole second", hint=f"write '{date}{clock}{offset}'")
    try:
        moment = datetime.fromisoformat(f"{date}{clock or 'T00:00:00'}{(offset or 'Z').upper()}")
    except ValueError as error:
        raise ConfigError(f"'{text}' is no moment of the calendar", hint="correct it") from error
    if moment.year not in _SANE_YEARS:
        raise ConfigError(f"'{text}' is not in a year from 1900 to 2200", hint="correct the year")
    return moment.astimezone(UTC)


# --- As types of settings --------------------------------------------------------------------------


def _in_words(parse: Callable[[str], T]) -> Callable[[str], T]:
    """The same, with a ValueError as pydantic wants it, and remembered: exports repeat their settings."""

    @cache
    def outcome(text: str) -> T | ConfigError:
        try:
            return parse(text)
        except ConfigError as error:
            return error

    def parse_or_say(text: str) -> T:
        parsed = outcome(text)
        if not isinstance(parsed, ConfigError):
            return parsed
        raise ValueError(f"{parsed.message}; {parsed.hint}") from parsed

    return parse_or_say


def _read_as(kind: type[T], parse: Callable[[str], T], example: str) -> BeforeValidator:
    """A validator that takes the notation, or a value that has its type already."""
    parse_or_say = _in_words(parse)

    def validate(value: object) -> T:
        if isinstance(value, kind) and not isinstance(value, bool):
            return value
        if isinstance(value, str):
            return parse_or_say(value)
        raise ValueError(must_be(f"text like '{example}'", value))

    return BeforeValidator(validate)


def _checked_zone(name: str) -> str:
    load_zone(name)
    return name


def _checked_name(name: str) -> str:
    if not name.isprintable():
        message = f"{shown(name)} holds a character that cannot be printed"
        raise ValueError(message)
    if (size := len(name.encode())) > _NAME_BYTES:
        message = (
            f"is {size} bytes long, and an export's name may have {_NAME_BYTES}: give it a shorter `name`"
        )
        raise ValueError(message)
    return name


def check_name(name: str) -> None:
    """Raise ConfigError unless an export may have this name."""
    try:
        _checked_name(name)
    except ValueError as error:
        raise ConfigError(f"{shown(name)} cannot be an export's name: {error}") from error
    if not name:
        raise ConfigError("an export's name cannot be empty", hint="choose one, such as the account's")


def _checked_endpoint(url: str) -> str:
    if not re.match(r"https?://[^/@]+(/|$)", url):  # not shown: people put passwords in front of an @
        message = "must begin with https:// or http:// and a host, without a user or password"
        raise ValueError(message)
    return url


def _checked_host(host: str) -> str:
    if not re.fullmatch(r"(\*\.)?[A-Za-z0-9._-]+(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?", host):
        message = f"{shown(host)} is no host like 'minio.internal', '10.0.0.5:9000' or '*.example.com'"
        raise ValueError(message)
    return host.lower()


def _in_folder(value: object, info: ValidationInfo) -> Path:
    if isinstance(value, Path):
        return value
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError(must_be("a path", value))
    return surroundings_of(info).path(value)


Text = Annotated[str, Field(min_length=1)]
Name = Annotated[Text, AfterValidator(_checked_name)]
Zone = Annotated[Text, AfterValidator(_in_words(_checked_zone))]
Prefix = Annotated[str, AfterValidator(normal_prefix)]
Endpoint = Annotated[Text, AfterValidator(_checked_endpoint)]
AllowedHost = Annotated[Text, AfterValidator(_checked_host)]
FilePath = Annotated[
    Path, BeforeValidator(_in_folder), WithJsonSchema({"type": "string", "minLength": 1, "format": "path"})
]
Duration = Annotated[
    timedelta,
    _read_as(timedelta, parse_duration, "4h"),
    WithJsonSchema({"type": "string", "pattern": f"^{_DURATION.pattern}$"}),
]
Time = Annotated[
    datetime,
    _read_as(datetime, parse_time, "2026-11-01T00:00:00Z"),
    WithJsonSchema({"type": "string", "pattern": f"^{_TIME.pattern}$"}),
]
Bytes = Annotated[
    int,
    _read_as(int, parse_size, "512MiB"),
    WithJsonSchema(
        {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "pattern": f"^{_SIZE.pattern}$"}]}
    ),
]


def up_to(limit: int) -> AfterValidator:
    """A number of bytes from one to this."""

    def check(size: int) -> int:
        if not 1 <= size <= limit:
            message = f"{size} bytes are not between 1B and {limit // GIB}GiB"
            raise ValueError(message)
        return size

    return AfterValidator(check)
