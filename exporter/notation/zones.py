"""Time zones by the names that people write, and which names come closest to one that there is not.

A zone is one of the tz database. It must not take the machine's own, nor one that counts leap seconds.
"""

from __future__ import annotations

import difflib
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from exporter.errors import ConfigError

_NOT_A_PLACE = ("localtime", "posixrules", "posix/", "right/")  # the machine's own, or with leap seconds


def load_zone(name: str) -> ZoneInfo:
    """The zone of this name in the tz database; raises ConfigError with the nearest names there are."""
    if name.startswith(_NOT_A_PLACE):
        raise _unknown_zone(name)
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:  # OSError: the name of a folder
        raise _unknown_zone(name) from error


def _unknown_zone(name: str) -> ConfigError:
    return ConfigError(f"there is no time zone {name!r}", hint=_zone_hint(name))


def _zone_hint(name: str) -> str:
    """Which names come closest, by the whole name or by its last part, whatever their case."""
    zones = {zone.casefold(): zone for zone in available_timezones() if not zone.startswith(_NOT_A_PLACE)}
    cities = {zone.rpartition("/")[2]: zones[zone] for zone in zones}
    wanted = name.strip().casefold().replace(" ", "_")
    near = [
        *(zones[match] for match in difflib.get_close_matches(wanted, zones)),
        *(cities[match] for match in difflib.get_close_matches(wanted, cities)),
    ]
    if not near:
        return "use a name of the tz database, such as Europe/Berlin or UTC"
    return f"the nearest names are {', '.join(dict.fromkeys(near))}"
