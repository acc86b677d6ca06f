"""A package of events: every line once and in order, in batches that keep to their limit."""

from __future__ import annotations

import hashlib
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.batches import Cuts, KeyFile, LineFile, last_cut

if TYPE_CHECKING:
    from exporter.model import Batch, Key, Keys


@dataclass(frozen=True)
class Records:
    """Lines with keys, as a block of one branch has them."""

    lines: tuple[bytes, ...]
    numbers: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.lines)

    def key(self, index: int) -> Key:
        return ("2026", self.numbers[index])

    def keys(self) -> Keys:
        return ["2026"] * len(self), self.numbers


lines = st.binary(max_size=12).map(lambda body: body.replace(b"\n", b"x") + b"\n")


@st.composite
def blocks(draw: st.DrawFn) -> list[Records]:
    """Blocks in the order of their keys, none of which is in two of them."""
    runs = draw(st.lists(st.lists(lines, min_size=1, max_size=4), max_size=8))
    found: list[Records] = []
    current: list[tuple[bytes, int]] = []
    for number, run in enumerate(runs):
        current += [(line, number) for line in run]
        if draw(st.booleans()):
            found.append(Records(*zip(*current, strict=True)))
            current = []
    return [*found, Records(*zip(*current, strict=True))] if current else found


def cut(found: list[Records], limit: int) -> tuple[Batch, ...]:
    cuts = Cuts(limit)
    for records in found:
        cuts.add(b"".join(records.lines), records)
    return cuts.finish()


@settings(deadline=None, max_examples=300)
@given(blocks(), st.integers(1, 40))
def test_batches_hold_every_line_once_and_keep_to_their_limit(found: list[Records], limit: int) -> None:
    """Side by side from the first byte to the last; longer than the limit is a batch of one line alone."""
    every = [line for records in found for line in records.lines]
    data = b"".join(every)
    batches = cut(found, limit)
    assert [batch.offset for batch in batches] == [0, *accumulate(batch.size_bytes for batch in batches)][:-1]
    parts = [data[batch.offset : batch.offset + batch.size_bytes] for batch in batches]
    assert b"".join(parts) == data
    assert [part.count(b"\n") for part in parts] == [batch.count for batch in batches]
    assert all(part.endswith(b"\n") for part in parts)
    assert all(batch.size_bytes <= limit or batch.count == 1 for batch in batches)


@settings(deadline=None, max_examples=300)
@given(blocks(), st.integers(1, 40))
def test_a_batch_says_where_it_ends(found: list[Records], limit: int) -> None:
    """With the key of its last line, and with none where the next line has the same."""
    keys = [records.key(index) for records in found for index in range(len(records))]
    batches = cut(found, limit)
    ends = [*accumulate(batch.count for batch in batches)]
    for end, batch in zip(ends, batches, strict=True):
        same_follows = end < len(keys) and keys[end] == keys[end - 1]
        assert batch.last_key == (None if same_follows else keys[end - 1])


@settings(deadline=None, max_examples=300)
@given(blocks(), st.integers(1, 40))
def test_a_batch_ends_within_a_key_only_if_it_holds_no_other(found: list[Records], limit: int) -> None:
    """Progress is kept wherever the limit leaves a place for it."""
    keys = [records.key(index) for records in found for index in range(len(records))]
    batches = cut(found, limit)
    ends = [0, *accumulate(batch.count for batch in batches)]
    for (start, end), batch in zip(pairwise(ends), batches, strict=True):
        if batch.last_key is None:
            assert len(set(keys[start:end])) == 1


def test_batches_are_as_full_as_they_can_be() -> None:
    """Small blocks share a batch, and a large one is spread over several."""
    small = [Records((b"123456789\n",) * 3, (number, number + 1, number + 2)) for number in (0, 3, 6)]
    assert [batch.count for batch in cut(small, 60)] == [6, 3]
    large = [Records((b"123456789\n",) * 10, tuple(range(10)))]
    assert [batch.count for batch in cut(large, 49)] == [4, 4, 2]
    assert [batch.count for batch in cut(large, 1)] == [1] * 10


def test_a_file_of_lines_is_what_was_written(tmp_path: Path) -> None:
    """It says its size and hash, and nobody else may read it."""
    path = tmp_path / "events"
    with LineFile(path) as file:
        file.write(b"a\nb\n", 2)
        file.write(b"c\n", 1)
        content = file.finish(late=1, bad=2)
    sha256 = hashlib.sha256(b"a\nb\nc\n").hexdigest()
    assert path.read_bytes() == b"a\nb\nc\n"
    assert (content.count, content.late, content.bad) == (3, 1, 2)
    assert (content.content_bytes, content.archive_bytes) == (6, 6)
    assert (content.content_sha256, content.archive_sha256) == (sha256, sha256)
    assert path.stat().st_mode & 0o077 == 0


def test_a_file_that_was_not_finished_is_removed(tmp_path: Path) -> None:
    """A rendering that fails leaves nothing behind."""
    path = tmp_path / "events"
    with suppress(OSError), LineFile(path) as file:
        file.write(b"a\n", 1)
        assert path.read_bytes() == b"a\n"
        raise OSError
    assert not path.exists()


@settings(deadline=None, max_examples=200)
@given(blocks(), st.data())
def test_progress_can_be_kept_behind_the_last_key_that_is_over(
    found: list[Records], data: st.DataObject
) -> None:
    """Between any two lines: as far as keys are different there, and no further."""
    keys = [records.key(index) for records in found for index in range(len(records))]
    first = data.draw(st.integers(0, len(keys)))
    end = data.draw(st.integers(first, len(keys)))
    with tempfile.TemporaryDirectory() as folder:
        lines = Path(folder) / "events"
        with KeyFile(lines) as file:
            for records in found:
                file.add(records)
        cut = last_cut(lines, first, end)
    places = [at for at in range(first + 1, end + 1) if at == len(keys) or keys[at] != keys[at - 1]]
    assert cut == ((places[-1], keys[places[-1] - 1]) if places else None)


@pytest.mark.parametrize(
    "key", [(None, 1), (1.5, "\udcff"), (10**30, 10**30), ("2026", "\u2028\n")], ids=repr
)
def test_a_key_comes_back_as_it_was(tmp_path: Path, key: Key) -> None:
    """Whatever a source makes keys of."""

    class One:
        def __len__(self) -> int:
            return 1

        def key(self, index: int) -> Key:
            assert index == 0
            return key

        def keys(self) -> Keys:
            return [key[0]], [key[1]]

    with KeyFile(tmp_path / "events") as file:
        file.add(One())
    assert last_cut(tmp_path / "events", 0, 1) == (1, key)


def test_keys_that_are_not_all_there_are_not_guessed(tmp_path: Path) -> None:
    """A file that lost its end leads to no progress."""
    with KeyFile(tmp_path / "events") as file:
        file.add(Records((b"a\n",) * 2, (1, 2)))
    with pytest.raises(ValueError, match="2 keys"):
        last_cut(tmp_path / "events", 0, 3)


def test_keys_of_a_file_that_was_not_finished_are_removed(tmp_path: Path) -> None:
    """As the lines are."""
    with suppress(OSError), KeyFile(tmp_path / "events"):
        assert list(tmp_path.iterdir())
        raise OSError
    assert list(tmp_path.iterdir()) == []
