"""Rows into columns and columns into lines: the same in C and in Python, and nothing beyond its bounds."""

from __future__ import annotations

import threading
from importlib import import_module
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from exporter import bulk
from exporter.fragments import Figures, Strings, Values

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import ModuleType

VALUES: Final = st.binary(max_size=12).map(lambda value: value.translate(None, b"\t\n"))
WIDTHS: Final = st.integers(1, 6)


@pytest.fixture(scope="module")
def compiled() -> ModuleType:
    """The module in C, which needs a compiler when this is installed."""
    try:
        return import_module("exporter._bulk")
    except ImportError:
        pytest.skip("exporter/_bulk.c is not compiled: install a C compiler, and run `make clean`")


@pytest.fixture(scope="module", params=["compiled", "python"])
def kind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Either way of doing it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            bulk, "_bulk", request.getfixturevalue("compiled") if request.param == "compiled" else None
        )
        yield


def tables(width: int) -> st.SearchStrategy[list[list[bytes]]]:
    return st.lists(st.lists(VALUES, min_size=width, max_size=width), max_size=8)


def as_row(values: Sequence[bytes]) -> bytes:
    return b"\t".join(values) + b"\n"


# --- rows into columns -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("kind")
@given(table=WIDTHS.flatmap(lambda width: st.tuples(st.just(width), tables(width))))
def test_a_column_has_its_value_of_every_row(table: tuple[int, list[list[bytes]]]) -> None:
    width, rows = table
    columns = bulk.split([as_row(row) for row in rows], width)
    assert [list(column) for column in columns] == [[row[place] for row in rows] for place in range(width)]
    assert [column.joined for column in columns] == [b"\n".join(column) for column in columns]


@pytest.mark.usefixtures("kind")
@given(width=WIDTHS, rows=st.lists(st.binary(max_size=20), min_size=1, max_size=4))
@example(width=2, rows=[b"1\n", b"1\t2\t3\n"])
@example(width=2, rows=[b"1\n2\n"])
@example(width=1, rows=[b"1\t", b"2\n"])
@example(width=1, rows=[b""])
def test_no_row_of_another_form_is_split(width: int, rows: list[bytes]) -> None:
    """Whatever bytes come: a tab or a line feed too many or too few, or none at all."""
    is_right = all(row.count(b"\t") == width - 1 and row.find(b"\n") == len(row) - 1 >= 0 for row in rows)
    if is_right:
        assert len(bulk.split(rows, width)) == width
    else:
        with pytest.raises(ValueError, match=f"not every row has {width} columns"):
            bulk.split(rows, width)


@pytest.mark.usefixtures("kind")
@pytest.mark.parametrize("rows", [[b"1\t2\n", b"1\n"], [b"1\t2\n", b"1\t2\t3\n"]])
def test_rows_of_different_widths_are_refused(rows: list[bytes]) -> None:
    with pytest.raises(ValueError, match="not every row has 2 columns"):
        bulk.split(rows, 2)


# --- columns into lines ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("kind")
@given(
    table=WIDTHS.flatmap(tables).filter(bool),
    texts=st.lists(VALUES, min_size=7, max_size=7),
    forms=st.lists(st.sampled_from([list, Values, Figures, "lines"]), min_size=6, max_size=6),
)
def test_a_line_has_the_values_of_a_record_between_the_texts(
    table: list[list[bytes]], texts: list[bytes], forms: list[object]
) -> None:
    """Whatever form the columns have."""
    width, count = len(table[0]), len(table)
    texts = [*texts[:width], texts[-1] + b"\n"]
    columns = [
        form_of(form, [row[place] for row in table]) for place, form in zip(range(width), forms, strict=False)
    ]
    expected = b"".join(
        b"".join(text + value for text, value in zip(texts[:-1], row, strict=True)) + texts[-1]
        for row in table
    )
    assert bulk.weave(texts, columns, count) == expected


def form_of(form: object, values: list[bytes]) -> Sequence[bytes]:
    if form == "lines":
        return Values.of_lines(b"\n".join(values), len(values))
    return values if form is list else Values(values) if form is Values else Figures(values)


@pytest.mark.usefixtures("kind")
@pytest.mark.parametrize("column", [[], [b"1"], [b"1", b"2", b"3"], Strings([b"1"])])
def test_a_column_of_another_length_is_refused(column: Sequence[bytes]) -> None:
    """One value short would cost a record in silence."""
    with pytest.raises(ValueError, match="not every column has 2 values"):
        bulk.weave([b"", b",", b"\n"], [[b"1", b"2"], column], 2)


@given(
    texts=st.lists(st.binary(max_size=3), max_size=4),
    columns=st.lists(st.binary(max_size=9), max_size=3),
    count=st.integers(-2, 5),
)
def test_compiled_whatever_comes_makes_lines_or_an_error(
    compiled: ModuleType, texts: list[bytes], columns: list[bytes], count: int
) -> None:
    """Also of lengths that nothing here would give it."""
    fits = 0 < len(columns) == len(texts) - 1 and all(one.count(b"\n") == count - 1 for one in columns)
    if count < 1 or not fits:
        with pytest.raises(ValueError, match=r"not every column|nothing to weave"):
            compiled.weave(tuple(texts), tuple(columns), count)
        return
    lines = compiled.weave(tuple(texts), tuple(columns), count)
    assert len(lines) == count * sum(map(len, texts)) + sum(len(one) - count + 1 for one in columns)


def test_compiled_wrong_arguments_are_errors(compiled: ModuleType) -> None:
    for rows, width in (((), 1), ((b"1\n",), 0), ((b"1\n",), -1), ((b"1\n",), 2**62)):
        with pytest.raises((ValueError, MemoryError)):
            compiled.split(rows, width)
    with pytest.raises(TypeError):
        compiled.split(("text",), 1)
    with pytest.raises(TypeError):
        compiled.split([b"1\n"], 1)
    with pytest.raises(TypeError):
        compiled.weave((b"", None), (b"1",), 1)
    with pytest.raises(MemoryError):
        compiled.weave((b"12", b"34"), (b"1",), 2**62)


@pytest.mark.usefixtures("kind")
def test_a_column_that_knows_its_quotes_keeps_them() -> None:
    assert bulk.weave([b"<", b">"], [Strings([b"a", b""])], 2) == b'<"a"><"">'


@pytest.mark.usefixtures("kind")
@pytest.mark.parametrize(
    ("texts", "columns"), [([b"<"], [[b"1"]]), ([b"<", b">"], []), ([b"", b"", b""], [[b"1"]])]
)
def test_there_is_one_text_more_than_columns(texts: list[bytes], columns: list[list[bytes]]) -> None:
    with pytest.raises(ValueError, match="nothing to weave"):
        bulk.weave(texts, columns, 1)


@pytest.mark.usefixtures("kind")
def test_threads_do_not_disturb_one_another() -> None:
    """Compiled, the loops run without Python's lock."""
    rows = [as_row([b"%d" % number, b"x" * (number % 50)]) for number in range(3000)]
    expected = b"".join(b"<%d:%b>\n" % (number, b"x" * (number % 50)) for number in range(3000))
    found: list[bytes] = []

    def work() -> None:
        texts = [b"<", b":", b">\n"]
        found.extend(bulk.weave(texts, bulk.split(rows, 2), len(rows)) for _ in range(30))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 120
    assert set(found) == {expected}
