"""Times that are looked at as one: no other answer than value by value."""

from __future__ import annotations

from datetime import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.columns import SEPARATOR
from exporter.sources.sqlite.forms import TextForm

_ENDS = ("Z", "", "+00:00", ".123456Z", ".000000001+00:00", ".5")
_DAYS = st.sampled_from(
    [*["2026-11-19"] * 6, "2026-11-20", "2024-02-29", "2026-02-29", "2026-13-01", "2026-11-00", "0000-01-01"]
)
_CLOCKS = st.sampled_from(
    [
        *("00:00:00", "09:59:59", "19:00:00", "20:00:00", "23:59:59", "24:00:00", "29:00:00", "30:00:00"),
        *("04:60:00", "04:00:60", "04:99:00", "04:00:99", "14:05:09"),
    ]
)


def is_time(text: str) -> bool:
    """Whether Python knows it as one."""
    try:
        datetime.fromisoformat(text[:19])
    except ValueError:
        return False
    return True


@settings(deadline=None)
@given(
    days=st.lists(st.tuples(_DAYS, _CLOCKS), min_size=1, max_size=5),
    end=st.sampled_from(_ENDS),
    mark=st.sampled_from("T "),
)
def test_a_form_holds_where_each_time_is_one(days: list[tuple[str, str]], end: str, mark: str) -> None:
    """Days, hours, minutes and seconds of the calendar and of none, of one day or of several."""
    texts = [f"{day}{mark}{clock}{end}" for day, clock in days]
    form = TextForm.of(texts[0].encode())
    assert form is not None
    assert form.holds(SEPARATOR.join(map(str.encode, texts)), len(texts)) == all(map(is_time, texts))


@pytest.mark.parametrize(
    "other",
    [
        "2026-11-19T04:00:00+01:00",
        "2026-11-19T04:00:00+00:10",
        "2026-11-19 04:00:00+00:00",
        "2026-11-19T04:00:00-00:00",
        "2026-11-19T04:00:00.0000Z",
        "2026-11-19T04:00:00Z",
        "2026-11-1904:00:00T+00:00",
        "٢٠٢٦-11-19T04:00:00Z",
    ],
)
def test_a_form_does_not_hold_with_a_time_of_another(other: str) -> None:
    """Another zone, separator, number of digits, or signs elsewhere: first, last or in between."""
    usual = b"2026-11-19T04:00:00+00:00"
    form = TextForm.of(usual)
    assert form is not None
    assert form.holds(SEPARATOR.join([usual] * 3), 3)
    for place in range(3):
        texts = [usual] * 3
        texts[place] = other.encode()
        assert not form.holds(SEPARATOR.join(texts), 3)
    assert not form.holds(SEPARATOR.join([usual] * 3), 2)
