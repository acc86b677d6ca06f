"""Where windows begin and end: every so often in an account's local time, gap-free in UTC.

A boundary is the first instant at which the zone's clock reads a multiple of ``every`` since local
midnight, or later. So two windows never overlap and never leave a gap, whatever the clock does: a
skipped hour makes a window shorter, a repeated one makes it longer, boundaries inside a skipped hour
are one boundary, and a repeated hour has no boundary of its own.

Pure: no clock, no settings. Instants are aware UTC datetimes, in and out. It must not know what is due.
"""

from __future__ import annotations

from bisect import bisect_left
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

_DAY = timedelta(days=1)
_SECOND = timedelta(seconds=1)
_MIDNIGHT = datetime.min  # noqa: DTZ901 (what a clock reads has no zone)
_UNITS = {"h": timedelta(hours=1), "m": timedelta(minutes=1), "s": _SECOND}


def check_every(every: timedelta) -> None:
    """Raise ValueError unless a day is a whole number of ``every``, from one second to 24 hours."""
    if every >= _SECOND and not every % _SECOND and not _DAY % every:
        return
    unit = next((unit for unit in _UNITS.values() if every >= unit and not every % unit), _SECOND)
    allowed = _divisors(unit)
    below = [divisor for divisor in allowed if divisor < every][-1:]
    above = [divisor for divisor in allowed if divisor > every][:1]
    nearest = " and ".join(_written(divisor) for divisor in below + above)
    raise ValueError(f"{_written(every)} does not divide a day into equal windows; nearest: {nearest}")


def _divisors(unit: timedelta) -> list[timedelta]:
    """The whole divisors of a day that are multiples of ``unit``, in growing order."""
    parts = _DAY // unit
    return [unit * count for count in range(1, parts + 1) if parts % count == 0]


def _written(every: timedelta) -> str:
    """As people write it in the configuration: 4h, 90m, 1.5s."""
    for letter, unit in _UNITS.items():
        if every and not every % unit:
            return f"{every // unit}{letter}"
    return f"{every / _SECOND:g}s"


@lru_cache(maxsize=1024)  # of thousands of exports nearly all ask for the same
def next_boundary(after: datetime, every: timedelta, zone: ZoneInfo) -> datetime:
    """The first boundary later than this instant."""
    return _first_instant(_MIDNIGHT + (_multiples(after, every, zone) + 1) * every, zone)


def last_boundary(at: datetime, every: timedelta, zone: ZoneInfo) -> datetime:
    """The last boundary that is not later than this instant."""
    return _first_instant(_MIDNIGHT + _multiples(at, every, zone) * every, zone)


def _multiples(at: datetime, every: timedelta, zone: ZoneInfo) -> int:
    """How many multiples of ``every`` the zone's clock has shown; days are whole, so midnights count too."""
    return (_latest_reading(at, zone) - _MIDNIGHT) // every


def _latest_reading(at: datetime, zone: ZoneInfo) -> datetime:
    """The latest time the zone's clock has shown up to this instant; it stands still while time repeats."""
    local = at.astimezone(zone)
    if local.fold:
        first_shown = local.replace(fold=0).astimezone(UTC)
        local = (_transition(first_shown, at, zone) - datetime.resolution).astimezone(zone)
    return local.replace(tzinfo=None)


def _first_instant(reading: datetime, zone: ZoneInfo) -> datetime:
    """The first instant at which the zone's clock reads this or later."""
    instant = reading.replace(tzinfo=zone).astimezone(UTC)  # of a repeated reading this is the first
    shown = instant.astimezone(zone).replace(tzinfo=None)
    if shown == reading:
        return instant
    return _transition(instant - (shown - reading), instant, zone)  # the clock jumped past it


def _transition(before: datetime, after: datetime, zone: ZoneInfo) -> datetime:
    """The instant in ``(before, after]`` at which the zone's offset changed; a whole UTC second.

    There is one: the span is as long as the jump, and no zone has changed twice in so short a time.
    """
    start = before.replace(microsecond=0)
    new_offset = after.astimezone(zone).utcoffset()

    def changed(seconds: int) -> bool:
        return (start + seconds * _SECOND).astimezone(zone).utcoffset() == new_offset

    return start + bisect_left(range((after - start) // _SECOND), x=True, key=changed) * _SECOND
