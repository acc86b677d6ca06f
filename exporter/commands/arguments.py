"""Values given on the command line: a mistake names the option that it is in."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from exporter.config import parse_duration, parse_time
from exporter.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime, timedelta

T = TypeVar("T")


def time_of(option: str, text: str) -> datetime:
    """A moment, as `parse_time` reads it."""
    return _parsed(option, text, parse_time)


def duration_of(option: str, text: str) -> timedelta:
    """A span of time, as `parse_duration` reads it."""
    return _parsed(option, text, parse_duration)


def _parsed(option: str, text: str, parse: Callable[[str], T]) -> T:
    try:
        return parse(text)
    except ConfigError as error:
        raise ConfigError(f"{option}: {error.message}", hint=error.hint) from error
