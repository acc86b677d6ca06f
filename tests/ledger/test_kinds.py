"""What a column takes it gives back, whatever it is, and keeps in order what has an order."""

from __future__ import annotations

import sqlite3
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.ledger.kinds import ANY_TEXT, BIGINT, BYTES, FLAG, INTEGER, JSON, TEXT, TIME, Kind
from tests.kit.postgres import shared_postgres

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hypothesis.strategies import SearchStrategy

ZONES: Final = st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
TIMES: Final = st.datetimes(
    min_value=datetime(1, 1, 3),  # noqa: DTZ001 - hypothesis adds the zone
    max_value=datetime(9999, 12, 29),  # noqa: DTZ001
    timezones=st.just(UTC) | ZONES,
)
ANY_STRING: Final = st.text(st.characters() | st.sampled_from("\x00\x1a\ud800\udfff0123abcdef"))
JSONS: Final = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
STRINGS: Final = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"))
VALUES: Final = (
    (TEXT, STRINGS),
    (ANY_TEXT, ANY_STRING),
    (TIME, TIMES),
    (JSON, JSONS.filter(lambda value: value is not None)),
    (BIGINT, st.integers(-(2**63), 2**63 - 1)),
    (INTEGER, st.integers(-(2**31), 2**31 - 1)),
    (FLAG, st.booleans()),
    (BYTES, st.binary()),
)


@contextmanager
def sqlite(kind: Kind) -> Iterator[Callable[[object], object]]:
    """Puts a value into a column of this kind, and answers what comes back."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(f"CREATE TABLE t (value {kind.sqlite})")

        def back(value: object) -> object:
            connection.execute("DELETE FROM t")
            connection.execute("INSERT INTO t VALUES (?)", [value])
            return connection.execute("SELECT value FROM t").fetchall()[0][0]

        yield back


@contextmanager
def postgres(kind: Kind) -> Iterator[Callable[[object], object]]:
    """The same in PostgreSQL."""
    with shared_postgres().connect() as connection:
        connection.execute(f"CREATE TEMPORARY TABLE t (value {kind.postgresql})".encode())

        def back(value: object) -> object:
            connection.execute("DELETE FROM t")
            connection.execute("INSERT INTO t VALUES (%s)", [value])
            return connection.execute("SELECT value FROM t").fetchall()[0][0]

        yield back


@pytest.mark.parametrize("database", [sqlite, postgres], ids=lambda database: database.__name__)
@pytest.mark.parametrize(
    ("kind", "values"), VALUES, ids=["text", "any", "time", "json", "big", "int", "flag", "bytes"]
)
def test_a_value_comes_back_as_it_was(
    database: Callable[[Kind], Any], kind: Kind, values: SearchStrategy[object]
) -> None:
    with database(kind) as back:

        @settings(deadline=None, max_examples=60)
        @given(values | st.none())
        def the_same(value: object) -> None:
            found = back(kind.written(value))
            read = found if found is None or kind.read is None else kind.read(found)
            assert read == value
            assert type(read) is type(value)

        the_same()


@given(TIMES, TIMES)
def test_times_are_in_the_order_of_their_text(one: datetime, other: datetime) -> None:
    """Also those of the year 33, and of other zones."""
    texts = [str(TIME.written(one)), str(TIME.written(other))]
    assert (texts[0] < texts[1], texts[0] == texts[1]) == (one < other, one == other)


@given(ANY_STRING, ANY_STRING)
def test_different_texts_stay_different(one: str, other: str) -> None:
    """Two accounts are never taken for one."""
    assert (ANY_TEXT.written(one) == ANY_TEXT.written(other)) == (one == other)


def test_equal_values_are_equal_json() -> None:
    assert JSON.written({"b": 1, "a": [None]}) == JSON.written({"a": [None], "b": 1}) == '{"a":[null],"b":1}'
