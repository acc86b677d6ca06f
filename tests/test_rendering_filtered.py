"""From blocks to archives with a filter and protected columns: parts, counts, and the same again."""

from __future__ import annotations

import base64
import json
import zipfile
from collections import Counter
from io import BytesIO
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.columns import Layout, Roles, RowBlock, TextTimes
from exporter.formats import compile_format
from exporter.model import Branch, Rendering
from exporter.rendering import Renderer
from tests.kit.archives import Here, bytes_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from exporter.model import Key
    from exporter.rendering import Rendered

MEMBER: Final = "audit_acme_20261119T040000Z.json"
NAMES: Final = ("id", "time", "account", "action", "email")
TIME: Final = "2026-11-19T04:00:00Z"
NAN: Final = float("nan")
RENDERING: Final = Rendering(
    "native",
    None,
    max_record_bytes=200,
    chosen={"where": [["action", ["keep*"]]], "fields": []},
    protected={"email": "mask"},
    mask_secrets=True,
)

Row = tuple[Any, str | None, str, Any, Any]


def block(rows: Sequence[Row], branch: Branch = Branch.ON_TIME) -> RowBlock:
    return RowBlock(branch, Layout(NAMES, NAMES, Roles("id", "time", "account"), TextTimes()), rows)


def row(number: int, action: object = "keep", email: object = "ada") -> Row:
    return (number, TIME, "acme", action, email)


def render(folder: Path, blocks: Iterable[RowBlock], limit: int | None = None) -> Rendered:
    path = folder / str(len(list(folder.iterdir())))
    path.mkdir()
    return Renderer(compile_format(RENDERING), RENDERING, "acme", limit).render(blocks, Here(path), MEMBER)


def lines_of(rendered: Rendered) -> list[bytes]:
    with zipfile.ZipFile(BytesIO(bytes_of(rendered.body))) as file:
        return file.read(MEMBER).splitlines()


def between(blocks: Iterable[RowBlock], after: Key | None, last: Key | None) -> list[RowBlock]:
    """The blocks as a source answers for a part."""
    found = []
    for one in blocks:
        indexes = [
            index
            for index in range(len(one))
            if (after is None or one.key(index) > after) and (last is None or one.key(index) <= last)
        ]
        if indexes:
            found.append(one.pick(indexes))
    return found


def test_what_the_filter_leaves_out_is_counted_and_not_there(tmp_path: Path) -> None:
    rendered = render(tmp_path, [block([row(1), row(2, "drop"), row(3, "Keeper", None)])])
    assert [json.loads(line)["id"] for line in lines_of(rendered)] == [1, 3]
    content = rendered.content
    assert (content.count, content.filtered, content.protected) == (2, 1, {"email mask": 1})


def test_a_range_of_nothing_but_filtered_records_is_empty_and_counted(tmp_path: Path) -> None:
    """Its last key is that of the last record all the same."""
    rendered = render(tmp_path, [block([row(1, "drop")]), block([row(2, "drop")])], limit=1)
    assert (rendered.content.count, rendered.content.filtered, rendered.final) == (0, 2, True)
    assert rendered.last_key == block([row(2)]).key(0)


def test_a_part_that_ends_amid_filtered_records_ends_behind_the_last_one_of_its_key(tmp_path: Path) -> None:
    """The next part begins behind that key, and would count none of them."""
    blocks = [block([row(1), row(1, "drop"), row(1, "drop"), row(2, "drop"), row(3)])]
    first = render(tmp_path, blocks, limit=100)
    assert (first.content.count, first.content.filtered, first.final) == (1, 2, False)
    second = render(tmp_path, between(blocks, first.last_key, None), limit=100)
    assert (second.content.count, second.content.filtered, second.final) == (1, 1, True)


def test_a_filter_judges_records_without_a_readable_time_too(tmp_path: Path) -> None:
    """And of those that go out, in their bad form, nothing protected is shown."""
    unreadable: list[Row] = [(1, "?", "acme", "keep", "ada"), (2, None, "acme", "drop", "ada")]
    rendered = render(tmp_path, [block(unreadable, Branch.UNREADABLE)])
    (line,) = lines_of(rendered)
    leading = base64.b64decode(json.loads(line)["bad_record"]["leading_bytes"])
    assert json.loads(leading) == {"id": 1, "time": "?", "account": "acme", "action": "keep"}
    (kept,) = rendered.bad
    assert json.loads(kept.body)["email"] == "ada"
    assert (rendered.content.bad, rendered.content.filtered) == (1, 1)


actions = st.sampled_from(["keep", "drop", "keep token=abc", "keep" + "x" * 200]) | st.just(NAN)


@st.composite
def ranges(draw: st.DrawFn) -> list[RowBlock]:
    """Blocks in key order, some records with equal keys; cut between different keys."""
    number, rows = 0, []
    for step, action, email in draw(
        st.lists(st.tuples(st.integers(0, 1), actions, st.sampled_from(["ada", None])), max_size=20)
    ):
        number += step
        rows.append(row(number, action, email))
    blocks: list[list[Row]] = []
    for _, group in groupby(rows, key=lambda one: one[0]):
        joins: bool = draw(st.booleans())
        if blocks and joins:
            blocks[-1] += group
        else:
            blocks.append(list(group))
    return [block(rows) for rows in blocks]


@settings(deadline=None, max_examples=40)
@given(ranges(), st.integers(1, 500))
def test_parts_join_to_the_whole_with_all_its_counts(blocks: list[RowBlock], limit: int) -> None:
    """And each of them, rendered again for its plan, has the same bytes and counts."""
    joined: list[bytes] = []
    filtered, protected, after, final = 0, Counter[str](), None, False
    with TemporaryDirectory() as name:
        folder = Path(name)
        whole = render(folder, blocks)
        while not final:
            part = render(folder, between(blocks, after, None), limit)
            again = render(folder, between(blocks, after, part.last_key))
            if part.last_key is not None:
                assert again.content == part.content
            joined += lines_of(part) if part.content.count else []
            filtered += part.content.filtered
            protected.update(part.content.protected)
            after, final = part.last_key, part.final
        assert joined == (lines_of(whole) if whole.content.count else [])
        assert (filtered, protected) == (whole.content.filtered, whole.content.protected)
        total = sum(map(len, blocks))
        assert whole.content.count + whole.content.filtered == total
