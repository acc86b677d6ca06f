"""The keys of a block in bulk are those of its records, one by one, whatever they are made of."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.columns import SEPARATOR, Layout, NumberTimes, Roles, RowBlock, TextTimes, Times
from exporter.model import Branch
from exporter.sources.mysql.time import DateTimes, DecimalTimes
from exporter.sources.postgres.copy import CopyBlock, CopyColumn, CopyLayout
from exporter.sources.postgres.values import Kind
from exporter.sources.sqlite import joined

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from exporter.interfaces import Block

moments = st.datetimes(timezones=st.just(UTC))
digits = st.sampled_from(["", ".0", ".25", ".123456", ".1234567", ".123456789"])
zones = st.sampled_from(["", "Z", "+00:00"])


@st.composite
def texts(draw: st.DrawFn) -> str:
    """A canonical text of a time."""
    moment = draw(moments).replace(tzinfo=None, microsecond=0)
    return moment.isoformat(sep=draw(st.sampled_from("T "))) + draw(digits) + draw(zones)


usual = moments.map(lambda one: one.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z")
TIMES: list[tuple[Times, st.SearchStrategy[object]]] = [
    (TextTimes(), usual),
    (TextTimes(), texts()),
    (NumberTimes("s"), st.integers() | st.floats(allow_nan=False)),
    (DateTimes(), moments.map(lambda one: one.date().isoformat())),
    (DecimalTimes("s", 3), st.decimals(0, 10**9, places=3)),
]


def one_by_one(block: Block) -> Sequence[object]:
    return [block.key(index) for index in range(len(block))]


def at_once(block: Block) -> Sequence[object]:
    return list(zip(*block.keys(), strict=True))


@pytest.mark.parametrize(("times", "values"), TIMES, ids=lambda one: type(one).__name__)
@given(data=st.data())
def test_of_rows(times: Times, values: st.SearchStrategy[object], data: st.DataObject) -> None:
    """Times of every form, and ids that are numbers or texts."""
    rows = data.draw(st.lists(st.tuples(st.integers() | st.text(), values, st.just("acme")), max_size=5))
    layout = Layout(("id", "at", "account"), ("id",), Roles("id", "at", "account"), times)
    block = RowBlock(Branch.ON_TIME, layout, rows)
    assert at_once(block) == one_by_one(block)


def test_of_rows_whose_time_cannot_be_read() -> None:
    """They have none."""
    layout = Layout(("id", "at", "account"), ("id",), Roles("id", "at", "account"), TextTimes())
    block = RowBlock(Branch.UNREADABLE, layout, [(1, None, "acme"), (2, "soon", "acme")])
    assert block.keys() == ([None, None], [1, 2])


def test_of_rows_without_an_id() -> None:
    """Neither of the two makes one up."""
    layout = Layout(("id", "at", "account"), ("id",), Roles("id", "at", "account"), TextTimes())
    block = RowBlock(Branch.ON_TIME, layout, [(None, "2026-11-01T00:00:00.000000Z", "acme")])
    with pytest.raises(TypeError, match="cannot be an id"):
        block.keys()


def _written(moment: datetime, kind: Kind) -> bytes:
    """A time as PostgreSQL writes it in UTC: without the zeros at its end."""
    if kind is Kind.DATE:
        return moment.date().isoformat().encode()
    text = moment.replace(tzinfo=None).isoformat(sep=" ", timespec="microseconds")
    zone = "+00" if kind is Kind.TIMESTAMPTZ else ""
    return (text.rstrip("0").removesuffix(".") + zone).encode() if "." in text else (text + zone).encode()


@pytest.mark.parametrize("kind", [Kind.TIMESTAMPTZ, Kind.TIMESTAMP, Kind.DATE])
@pytest.mark.parametrize("id_kind", [Kind.INTEGER, Kind.NUMBER, Kind.TEXT])
@given(data=st.data())
def test_of_rows_of_copy(kind: Kind, id_kind: Kind, data: st.DataObject) -> None:
    """Timestamps with and without digits of a second, dates, and ids of each kind."""
    ids = st.integers().map(lambda one: b"%d" % one)
    if id_kind is Kind.NUMBER:
        ids |= st.sampled_from([b"1.50", b"1e3", b"NaN", b"-0.25"])
    if id_kind is Kind.TEXT:
        ids |= st.sampled_from([rb"a\tb", rb"\\N", b"", b"\xff", "Zürich".encode()])
    made = st.tuples(ids, moments.map(lambda one: _written(one, kind)))
    rows = [b"%b\t%b\tacme\n" % one for one in data.draw(st.lists(made, max_size=5))]
    block = CopyBlock(Branch.ON_TIME, _copied(kind, id_kind), rows)
    assert at_once(block) == one_by_one(block)


def test_of_rows_of_copy_whose_time_cannot_be_read() -> None:
    """They have none."""
    rows = [b"1\t\\N\tacme\n", b"2\tinfinity\tacme\n"]
    block = CopyBlock(Branch.UNREADABLE, _copied(Kind.TIMESTAMPTZ, Kind.INTEGER), rows)
    assert block.keys() == ([None, None], [1, 2])


def _copied(kind: Kind, id_kind: Kind) -> CopyLayout:
    columns = CopyColumn("id", id_kind), CopyColumn("at", kind), CopyColumn("account", Kind.TEXT)
    return CopyLayout(columns, ("id",), Roles("id", "at", "account"))


@given(st.lists(st.tuples(st.integers(-(2**63), 2**63 - 1), usual), min_size=1, max_size=5))
def test_of_joined_columns(rows: list[tuple[int, str]]) -> None:
    """As SQLite joins them."""
    layout = Layout(("id", "at", "account"), ("id",), Roles("id", "at", "account"), TextTimes())
    columns = {
        "id": joined.Joined(joined.Kind.INTEGER, _joined(str(one) for one, _ in rows), len(rows)),
        "at": joined.Joined(joined.Kind.TEXT, _joined(text for _, text in rows), len(rows)),
    }
    block = joined.JoinedBlock(layout, None, len(rows), columns)  # type: ignore[arg-type]  # no form is asked
    assert at_once(block) == one_by_one(block)


def _joined(texts: Iterable[str]) -> bytes:
    return SEPARATOR.join(text.encode() for text in texts)
