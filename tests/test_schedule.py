"""The schedule's boundaries against an oracle that knows each zone as a list of offset changes."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import pairwise
from typing import TypeAlias
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.schedule import check_every, last_boundary, next_boundary

Clock: TypeAlias = "tuple[tuple[int, int], ...]"
"""When (seconds since 1970) each offset (seconds) began, in order."""

DAY_S = 86_400
HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)
ZONES = sorted(available_timezones() - {"localtime"})
EVERY = [timedelta(seconds=count) for count in range(1, DAY_S + 1) if DAY_S % count == 0]


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def seconds(instant: datetime) -> int:
    return (instant - utc("1970-01-01")) // SECOND


def offset_at(zone: ZoneInfo, instant_s: int) -> timedelta | None:
    return datetime.fromtimestamp(instant_s, zone).utcoffset()


STEP_S = 3 * DAY_S
SAMPLES = [utc("1900-01-01") + timedelta(seconds=count * STEP_S) for count in range(145 * 365 // 3)]


@cache
def clock_of(name: str) -> Clock:
    """Every change of offset from 1900 to 2044, found by looking at the clock every three days."""
    zone = ZoneInfo(name)
    offsets = [sample.astimezone(zone).utcoffset() or timedelta() for sample in SAMPLES]
    changes = [(seconds(SAMPLES[0]), offsets[0] // SECOND)]
    for sample, (old, new) in zip(SAMPLES, pairwise(offsets), strict=False):
        if old != new:
            early = seconds(sample)
            span = range(early, early + STEP_S)
            later = bisect_left(span, x=True, key=lambda instant: offset_at(zone, instant) != old)
            changes.append((early + later, new // SECOND))
    return tuple(changes)


def first_instant_s(clock: Clock, reading_s: int) -> int:
    """The definition itself: go through the offsets in order until the clock reads this or later."""
    start = max(bisect_right(clock, (reading_s - 3 * DAY_S, 0)) - 1, 0)
    for index in range(start, len(clock)):
        since, offset = clock[index]
        until = clock[index + 1][0] if index + 1 < len(clock) else None
        instant = max(since, reading_s - offset)
        if until is None or instant < until:
            return instant
    raise AssertionError(reading_s)


def oracle(clock: Clock, start_s: int, end_s: int, every_s: int) -> list[int]:
    """All boundaries in ``[start_s, end_s)``, from every local reading that could be one of them."""
    readings = range((start_s // DAY_S - 2) * DAY_S, end_s + 2 * DAY_S, every_s)
    found = {first_instant_s(clock, reading) for reading in readings}
    return sorted(boundary for boundary in found if start_s <= boundary < end_s)


def boundaries(name: str, start: str, end: str, every: timedelta) -> list[datetime]:
    """``start``, and the boundaries after it up to ``end``."""
    found = [utc(start)]
    while found[-1] < utc(end):
        found.append(next_boundary(found[-1], every, ZoneInfo(name)))
    return found


def walk(name: str, start: str, end: str, every: timedelta) -> list[str]:
    """The same in UTC, as text."""
    return [f"{boundary:%m-%d %H:%M}" for boundary in boundaries(name, start, end, every)]


@pytest.mark.slow
@pytest.mark.parametrize("every", [timedelta(hours=4), timedelta(hours=24)], ids=["4h", "24h"])
def test_boundaries_around_every_clock_change_of_every_zone_are_the_first_instants(every: timedelta) -> None:
    every_s = every // SECOND
    reach_s = DAY_S + 2 * every_s
    clocks = {clock_of(name): name for name in ZONES}
    assert sum(map(len, clocks)) > 10_000
    for clock, name in clocks.items():
        zone = ZoneInfo(name)
        for change, _ in clock[1:]:
            found = oracle(clock, change - reach_s, change + reach_s, every_s)
            expected = [datetime.fromtimestamp(boundary, UTC) for boundary in found]
            assert [next_boundary(boundary, every, zone) for boundary in expected[:-1]] == expected[1:], name
            assert [last_boundary(boundary, every, zone) for boundary in expected] == expected, name


instants = st.datetimes(datetime(1900, 1, 5), datetime(2044, 12, 1), timezones=st.just(UTC))  # noqa: DTZ001


@st.composite
def places(draw: st.DrawFn) -> tuple[str, datetime]:
    """A zone and an instant, often one near a change of its clock."""
    name = draw(st.sampled_from(ZONES))
    changes = [datetime.fromtimestamp(change, UTC) for change, _ in clock_of(name)[1:]]
    if not changes or draw(st.booleans()):
        return name, draw(instants)
    return name, draw(st.sampled_from(changes)) + draw(st.timedeltas(-26 * HOUR, 26 * HOUR))


@settings(deadline=None)
@given(place=places(), every=st.sampled_from(EVERY))
def test_every_instant_lies_between_its_last_boundary_and_its_next(
    place: tuple[str, datetime], every: timedelta
) -> None:
    zone, at = ZoneInfo(place[0]), place[1]
    last, following = last_boundary(at, every, zone), next_boundary(at, every, zone)
    assert last <= at < following
    assert next_boundary(last, every, zone) == following
    assert last_boundary(following - datetime.resolution, every, zone) == last


@settings(deadline=None)
@given(place=places(), every=st.sampled_from([every for every in EVERY if every >= HOUR / 12]))
def test_the_next_boundary_is_the_first_instant_of_the_next_reading(
    place: tuple[str, datetime], every: timedelta
) -> None:
    name, at = place
    following = oracle(clock_of(name), seconds(at) + 1, seconds(at) + 4 * DAY_S, every // SECOND)[0]
    assert seconds(next_boundary(at, every, ZoneInfo(name))) == following


@settings(deadline=None)
@given(start=instants, steps=st.lists(st.tuples(st.sampled_from(ZONES), st.sampled_from(EVERY)), max_size=20))
def test_changes_of_zone_and_length_leave_no_gap_and_no_overlap(
    start: datetime, steps: list[tuple[str, timedelta]]
) -> None:
    watermark = start
    for name, every in steps:
        end = next_boundary(watermark, every, ZoneInfo(name))
        assert last_boundary(end - datetime.resolution, every, ZoneInfo(name)) <= watermark < end
        watermark = end


@pytest.mark.parametrize(
    ("name", "start", "hours"),
    [
        ("Europe/Berlin", "2026-03-28T23:00", 3),
        ("Europe/Berlin", "2026-10-24T22:00", 5),
        ("Australia/Lord_Howe", "2026-10-03T13:30", 3.5),
        ("Australia/Lord_Howe", "2026-04-04T13:00", 4.5),
        ("Europe/Berlin", "2026-07-01T22:00", 4),
    ],
)
def test_a_window_is_as_long_as_the_clock_makes_it(name: str, start: str, hours: float) -> None:
    assert next_boundary(utc(start), 4 * HOUR, ZoneInfo(name)) - utc(start) == hours * HOUR


def test_a_day_that_begins_at_one_has_its_first_boundary_there() -> None:
    assert walk("America/Havana", "2026-03-08T04:00", "2026-03-08T07:00", HOUR) == [
        "03-08 04:00",
        "03-08 05:00",
        "03-08 06:00",
        "03-08 07:00",
    ]
    assert walk("Africa/Cairo", "2026-04-22T22:00", "2026-04-24T21:00", 24 * HOUR) == [
        "04-22 22:00",
        "04-23 22:00",
        "04-24 21:00",
    ]


def test_a_midnight_that_comes_twice_counts_when_it_comes_first() -> None:
    assert walk("America/Havana", "2026-10-31T04:00", "2026-11-02T05:00", 24 * HOUR) == [
        "10-31 04:00",
        "11-01 04:00",
        "11-02 05:00",
    ]


def test_a_date_that_never_was_has_no_window() -> None:
    assert walk("Pacific/Apia", "2011-12-29T10:00", "2011-12-31T10:00", 24 * HOUR) == [
        "12-29 10:00",
        "12-30 10:00",
        "12-31 10:00",
    ]


def test_a_reading_inside_a_skipped_hour_is_reached_when_the_clock_jumps() -> None:
    twenty_a_day, at = timedelta(minutes=72), utc("2026-03-29T00:30")  # 02:24 was never shown
    assert next_boundary(at, twenty_a_day, ZoneInfo("Europe/Berlin")) == utc("2026-03-29T01:00")


def test_two_hours_that_repeat_have_no_boundary_of_their_own() -> None:
    at, troll = utc("2026-10-25T02:30"), ZoneInfo("Antarctica/Troll")
    assert last_boundary(at, HOUR, troll) == utc("2026-10-25T00:00")
    assert next_boundary(at, HOUR, troll) == utc("2026-10-25T03:00")


def test_an_offset_may_have_seconds() -> None:
    monrovia = ZoneInfo("Africa/Monrovia")
    assert next_boundary(utc("1950-05-01"), 24 * HOUR, monrovia) == utc("1950-05-01T00:44:30")


def test_windows_of_one_second_wait_while_an_hour_repeats() -> None:
    found = boundaries("Europe/Berlin", "2026-10-25T00:59:57", "2026-10-25T02:00:03", SECOND)
    lengths = [end - start for start, end in pairwise(found)]
    assert lengths == [SECOND, SECOND, HOUR + SECOND, SECOND, SECOND, SECOND]


def test_windows_of_one_second_jump_over_a_skipped_hour() -> None:
    found = boundaries("Europe/Berlin", "2026-03-29T00:59:58", "2026-03-29T01:00:02", SECOND)
    assert [end - start for start, end in pairwise(found)] == [SECOND] * 4


def test_a_fraction_of_a_second_belongs_to_the_window_around_it() -> None:
    at = utc("2026-11-19T03:59:59.999999")
    assert last_boundary(at, 4 * HOUR, ZoneInfo("UTC")) == utc("2026-11-19T00:00")
    assert next_boundary(at, 4 * HOUR, ZoneInfo("UTC")) == utc("2026-11-19T04:00")


@pytest.mark.parametrize("year", [1900, 2200])
@pytest.mark.parametrize("name", ["UTC", "Pacific/Kiritimati", "Pacific/Pago_Pago", "America/New_York"])
def test_the_years_1900_and_2200_have_boundaries_too(name: str, year: int) -> None:
    at, zone = utc(f"{year}-07-01T12:34"), ZoneInfo(name)
    following = next_boundary(at, 24 * HOUR, zone)
    assert at < following <= at + 24 * HOUR
    assert following.astimezone(zone).time().isoformat() == "00:00:00"


def test_every_whole_divisor_of_a_day_is_allowed() -> None:
    for every in EVERY:
        check_every(every)


@pytest.mark.parametrize(
    ("every", "sentence"),
    [
        (5 * HOUR, "5h does not divide a day into equal windows; nearest: 4h and 6h"),
        (timedelta(minutes=7), "7m does not divide a day into equal windows; nearest: 6m and 8m"),
        (timedelta(seconds=61), "61s does not divide a day into equal windows; nearest: 1m and 64s"),
        (timedelta(seconds=1.5), "1.5s does not divide a day into equal windows; nearest: 1s and 2s"),
        (25 * HOUR, "25h does not divide a day into equal windows; nearest: 24h"),
        (timedelta(0), "0s does not divide a day into equal windows; nearest: 1s"),
        (-HOUR, "-1h does not divide a day into equal windows; nearest: 1s"),
    ],
)
def test_any_other_length_is_refused_with_the_nearest_allowed_ones(every: timedelta, sentence: str) -> None:
    with pytest.raises(ValueError, match="does not divide") as refused:
        check_every(every)
    assert str(refused.value) == sentence
