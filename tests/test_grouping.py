"""Groups: as large as they may be, as far as that keeps nobody waiting for long."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter import grouping
from exporter.grouping import GROUP, LARGE_BYTES, Grouping
from exporter.means import Settings
from exporter.places import Places
from tests.test_runner import job

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exporter.steps import Job

BEGIN = 1000.0


class Groups:
    """Groups of exports of one store, which has room for one group at a time."""

    def __init__(self, count: int, places: int = 2 * GROUP) -> None:
        self.jobs = [job(f"{number:04}") for number in range(count)]
        self.places = Places(places, 1 << 30, self.jobs, ())
        self.grouping = Grouping(self.places, 1, None)

    def next(self, moment: float, *, may_fill: bool = True) -> list[Job]:
        """Who takes a step now."""
        return self.grouping.next(moment, may_fill=may_fill, is_left_out=lambda _: False)

    def leave(self, jobs: Sequence[Job]) -> None:
        """These are through."""
        for one in jobs:
            self.places.leave(one)


def test_a_few_wait_for_others_however_long_the_last_group_took() -> None:
    """Its uploads end only now: until then there was no place for anybody."""
    groups = Groups(3 * GROUP)
    first = groups.next(BEGIN)
    late = BEGIN + 100 * grouping.FILLING_S
    groups.leave(first[:1])
    assert groups.next(late) == []
    groups.leave(first[1:])
    assert len(groups.next(late + grouping.FILLING_S / 2)) == GROUP


def test_a_few_wait_for_others_no_longer_than_that() -> None:
    """From when they could have begun, and as the run is told."""
    groups = Groups(3 * GROUP)
    first = groups.next(BEGIN)
    late = BEGIN + 100 * grouping.FILLING_S
    groups.leave(first[:1])
    assert groups.next(late) == []
    assert late + grouping.FILLING_S in groups.grouping.moments()
    assert groups.next(late + 0.9 * grouping.FILLING_S) == []
    assert len(groups.next(late + grouping.FILLING_S)) == 1


def test_each_time_there_are_few_they_wait() -> None:
    groups = Groups(3 * GROUP)
    first = groups.next(BEGIN)
    groups.leave(first[:1])
    assert groups.next(BEGIN) == []
    second = groups.next(BEGIN + grouping.FILLING_S)
    groups.leave(first[1:2])
    assert groups.next(BEGIN + 2 * grouping.FILLING_S) == []
    groups.leave([*first[2:], *second])
    assert len(groups.next(BEGIN + 2.5 * grouping.FILLING_S)) == GROUP


def test_where_nothing_is_under_way_nobody_waits_for_others() -> None:
    groups = Groups(3 * GROUP)
    first = groups.next(BEGIN)
    groups.leave(first[:1])
    assert len(groups.next(BEGIN, may_fill=False)) == 1


def test_those_before_a_large_one_wait_for_nobody() -> None:
    """It takes its step alone, and whoever comes later is behind it."""
    groups = Groups(3 * GROUP)
    first = groups.next(BEGIN)
    groups.grouping.note_size(groups.jobs[GROUP + 1], LARGE_BYTES + 1)
    groups.leave(first[:3])
    assert groups.next(BEGIN) == groups.jobs[GROUP : GROUP + 1]
    assert groups.next(BEGIN) == groups.jobs[GROUP + 1 : GROUP + 2]


def test_while_one_group_of_a_store_is_uploaded_the_next_is_rendered() -> None:
    """By the settings of every run, whose exports may all have the same store."""
    groups = Groups(3 * GROUP, Settings(workers=1).uploads)
    first = groups.next(BEGIN)
    second = groups.next(BEGIN)
    assert len(first) == len(second) == GROUP
    assert groups.next(BEGIN) == []
