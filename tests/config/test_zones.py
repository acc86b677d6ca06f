"""Time zones by name: those of places, and the nearest ones to a name that there is not."""

from __future__ import annotations

from zoneinfo import available_timezones

import pytest

from exporter.config import load_zone
from exporter.errors import ConfigError


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("Europe/Berln", "Europe/Berlin"),
        ("berlin", "Europe/Berlin"),
        ("New York", "America/New_York"),
        ("US/Estern", "US/Eastern"),
        ("right/UTC", "UTC"),
    ],
)
def test_an_unknown_zone_is_refused_with_the_nearest_names(name: str, nearest: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load_zone(name)
    assert repr(name) in refused.value.message
    assert nearest in refused.value.hint


@pytest.mark.parametrize(
    "name",
    [
        *("", "../x", "/etc/localtime", "Europe/../UTC", "Europe", "Europe/Berlin/", "zone.tab"),
        *("localtime", "posixrules", "posix/UTC", "right/UTC", "a\0b", "\ud800", "x" * 5000),
    ],
)
def test_what_is_not_the_name_of_a_place_is_never_a_zone(name: str) -> None:
    with pytest.raises(ConfigError, match="there is no time zone") as refused:
        load_zone(name)
    assert "localtime" not in refused.value.hint


def test_every_zone_of_the_database_can_be_loaded() -> None:
    zones = sorted(available_timezones() - {"localtime"})
    assert [load_zone(name).key for name in zones] == zones
