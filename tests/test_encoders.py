"""Processes that encode: the same comes of every block, in the same order, whoever encodes it."""

from __future__ import annotations

import threading
import time
from contextlib import closing
from itertools import count
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter import encoders as module
from exporter.encoders import Encoders
from exporter.errors import WrongAccount
from exporter.formats import compile_format
from exporter.model import Branch
from tests.kit import encoding as kit
from tests.kit.encoding import HARD, PLAIN, alone, listed, row, shared, some_blocks

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from exporter.encoding import Encoded
    from exporter.interfaces import Block

COUNT = 2
MOST_AHEAD = module._SLOTS * COUNT + module._AHEAD + 1


@pytest.fixture(scope="module")
def encoders() -> Iterator[Encoders]:
    """Two processes that help from the second block of a range on; none of them is lost."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "ALONE_BYTES", -1)
        patch.setattr(module, "ALONE_SHARE", -1)
        with Encoders(COUNT, compile_format) as made:
            yield made
        assert made.losses == []


# --- what comes of blocks ----------------------------------------------------------------------------------

_ACTIONS = st.sampled_from(["keep", "drop", "keep this", kit.SECRET, "keep" + "x" * 500, kit.NAN])
_ROWS = st.lists(st.builds(row, st.integers(1, 9), _ACTIONS, st.sampled_from(["ada", None])), min_size=1)
_BLOCKS = st.one_of(
    st.builds(kit.row_block, _ROWS),
    st.builds(kit.row_block, _ROWS, st.sampled_from(Branch)),
    st.builds(kit.copy_block, _ROWS),
    st.builds(kit.joined_block, _ROWS),
    st.builds(kit.at_home, _ROWS),
)


@settings(max_examples=60)
@given(blocks=st.lists(_BLOCKS, max_size=20), task=st.sampled_from([PLAIN, HARD]))
def test_the_same_comes_of_blocks_whoever_encodes_them(
    encoders: Encoders, blocks: list[Block], task: module.Task
) -> None:
    """With a filter, pseudonyms, masked secrets, and records that are bad for every reason."""
    before = kit.given(encoders)
    found, elsewhere = shared(encoders, task, blocks)
    assert found == alone(task, blocks)
    assert elsewhere == kit.given(encoders) - before
    assert bool(elsewhere) == any(block.is_portable for block in blocks[1:])


def test_the_hard_task_is_as_hard_as_it_should_be(encoders: Encoders) -> None:
    """Or the test above would prove little."""
    rows = [row(1), row(2, "drop"), row(3, kit.SECRET), row(4, kit.NAN), row(5, "keep" + "x" * 500)]
    blocks: list[Block] = [kit.row_block(rows[:1]), kit.copy_block([*rows[:3], rows[4]])]
    blocks.append(kit.row_block(rows[:1]))
    blocks.append(kit.row_block(rows[:1], Branch.UNREADABLE))
    found, elsewhere = shared(encoders, HARD, blocks)
    assert found == alone(HARD, blocks)
    assert elsewhere == 3
    (_, chosen, lines), (_, _, of_unreadable) = found[1], found[3]
    assert chosen == [0, 2, 3]
    assert [record.id for _, record in lines.bad] == ["5"]
    assert lines.protected == {"email pseudonymise": 3, "secrets": 1}
    assert [record.reason for _, record in of_unreadable.bad] == ["its time cannot be read"]
    blocks = [kit.row_block(rows[:1]), kit.copy_block(rows), kit.row_block(rows)]
    plain, _ = shared(encoders, PLAIN, blocks)
    for _, _, of_nan in plain[1:]:
        assert [record.id for _, record in of_nan.bad] == ["4"]


def test_ranges_of_different_tasks_follow_one_another(encoders: Encoders) -> None:
    """Each process learns of the next one's format, and forgets the last one's."""
    for task in (PLAIN, HARD, PLAIN, HARD):
        blocks = [kit.row_block([row(1, kit.SECRET), row(2, "drop")]) for _ in range(6)]
        found, elsewhere = shared(encoders, task, blocks)
        assert found == alone(task, blocks)
        assert elsewhere


def test_without_proc_there_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They could not let go of what their parent has open."""
    monkeypatch.setattr(module, "_OPEN", tmp_path / "fd")
    monkeypatch.delattr("os.fork")
    with Encoders(COUNT, compile_format) as made:
        blocks = some_blocks(3)
        assert shared(made, PLAIN, blocks) == (alone(PLAIN, blocks), 0)


def test_a_small_range_is_nobody_elses(encoders: Encoders, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it takes to hand blocks over is worth it behind so many bytes of lines, and from there on."""
    blocks = some_blocks(8)
    size = sum(len(lines.data) for _, _, lines in alone(PLAIN, blocks[:4]))
    monkeypatch.setattr(module, "ALONE_BYTES", size)
    assert shared(encoders, PLAIN, blocks[:5]) == (alone(PLAIN, blocks[:5]), 0)
    found, elsewhere = shared(encoders, PLAIN, blocks)
    assert found == alone(PLAIN, blocks)
    assert 1 <= elsewhere <= 3


class Slow(kit.Counted):
    """An encoding that takes its time."""

    def encode(self, block: Block) -> Encoded:
        time.sleep(0.01)
        return super().encode(block)


@pytest.mark.parametrize(("encoding", "pause_s"), [(kit.Counted(PLAIN), 0.01), (Slow(PLAIN), 0.02)])
def test_where_encoding_takes_the_smaller_part_of_the_time_nobody_helps(
    encoders: Encoders, monkeypatch: pytest.MonkeyPatch, encoding: kit.Counted, pause_s: float
) -> None:
    """Other processes would take processors from the source, and memory, for nothing."""
    monkeypatch.setattr(module, "ALONE_SHARE", 2 / 3)

    def coming() -> Iterator[Block]:
        for block in some_blocks(10):
            time.sleep(pause_s)
            yield block

    assert len(list(encoders.encode(PLAIN, encoding, coming()))) == encoding.here == 10


def test_where_encoding_is_what_takes_the_time_others_help(
    encoders: Encoders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ALONE_SHARE", 2 / 3)
    encoding = Slow(PLAIN)
    assert len(list(encoders.encode(PLAIN, encoding, some_blocks(10)))) == 10
    assert encoding.here < 10


def test_not_much_more_is_read_than_was_asked_for(encoders: Encoders) -> None:
    """A range has no end that memory would hold."""
    read: list[Block] = []

    def endless() -> Iterator[Block]:
        for number in count():
            read.extend(some_blocks(1, number))
            yield read[-1]

    with closing(encoders.encode(PLAIN, kit.Counted(PLAIN), endless())) as found:
        for asked in range(1, 200):
            next(found)
            assert len(read) - asked <= MOST_AHEAD


def test_what_is_not_portable_stays_here(encoders: Encoders) -> None:
    """To write it for another process would take as long as to encode it."""
    blocks: list[Block] = [kit.at_home([row(number)]) for number in range(10)]
    before = kit.given(encoders)
    assert shared(encoders, PLAIN, blocks) == (alone(PLAIN, blocks), 0)
    assert kit.given(encoders) == before


# --- what another process cannot do ------------------------------------------------------------------------


def test_a_block_that_is_too_large_for_the_memory_stays_here(encoders: Encoders) -> None:
    large = kit.row_block([row(1, "x" * (module._BLOCK_BYTES + 1))])
    blocks = [*some_blocks(2), large, *some_blocks(2)]
    before = kit.given(encoders)
    found, elsewhere = shared(encoders, PLAIN, blocks)
    assert found == alone(PLAIN, blocks)
    assert (elsewhere, kit.given(encoders) - before) == (3, 3)


def test_lines_that_are_too_large_for_the_memory_are_made_here(encoders: Encoders) -> None:
    """The process that could not answer is there for the next block."""
    large = kit.row_block([row(1, "\x01" * (module._BLOCK_BYTES // 2))])  # six characters each, as JSON
    blocks = [*some_blocks(2), large, *some_blocks(2)]
    before = kit.given(encoders)
    found, elsewhere = shared(encoders, PLAIN, blocks)
    assert found == alone(PLAIN, blocks)
    assert (elsewhere, kit.given(encoders) - before) == (3, 4)


@pytest.mark.parametrize("others", [0, 1, 4])
def test_a_block_that_cannot_be_read_is_not_followed_by_lines_of_an_earlier_range(
    encoders: Encoders, others: int
) -> None:
    """With the first block comes the range's format: what is lost with it may not be taken from before."""
    shared(encoders, PLAIN, some_blocks(12))
    rows = [row(1, "drop"), row(2, kit.SECRET)]
    blocks: list[Block] = [kit.row_block(rows), *(kit.unreadable(rows) for _ in range(4))]
    blocks[1:1] = [kit.at_home(rows) for _ in range(others)]
    blocks += [kit.row_block(rows) for _ in range(6)]
    found, _ = shared(encoders, HARD, blocks)
    assert found == alone(HARD, blocks)


# --- leaving early -----------------------------------------------------------------------------------------


def test_no_answer_of_a_range_that_was_left_reaches_the_next_one(encoders: Encoders) -> None:
    """A part that is full is left while blocks are on their way."""
    for asked in range(1, 12):
        with closing(encoders.encode(HARD, kit.Counted(HARD), some_blocks(30))) as left:
            for _ in range(asked):
                next(left)
        blocks = some_blocks(10, first=asked)
        found, elsewhere = shared(encoders, PLAIN, blocks)
        assert found == alone(PLAIN, blocks)
        assert elsewhere


def test_an_error_of_the_source_ends_a_range_and_no_other(encoders: Encoders) -> None:
    def lost() -> Iterator[Block]:
        yield from some_blocks(3)
        raise ConnectionError("the source is gone")

    for _ in range(2 * COUNT):
        with pytest.raises(ConnectionError, match="the source is gone"):
            shared(encoders, HARD, lost())
        blocks = some_blocks(10)
        found, elsewhere = shared(encoders, PLAIN, blocks)
        assert found == alone(PLAIN, blocks)
        assert elsewhere


@pytest.mark.parametrize("at", range(1, 9))
def test_a_record_of_another_account_ends_its_range(encoders: Encoders, at: int) -> None:
    """Whoever encodes it; nothing of its block comes out, nor anything behind it."""
    blocks = some_blocks(10)
    blocks[at] = kit.row_block([row(1), row(2, account="globex")])
    found: kit.Found = []
    left = encoders.encode(PLAIN, kit.Counted(PLAIN), blocks)
    with pytest.raises(WrongAccount, match="another account than 'acme'"):
        found.extend(listed([pair])[0] for pair in left)
    assert found == alone(PLAIN, blocks[: len(found)])
    assert len(found) <= at
    after = some_blocks(10)
    again, elsewhere = shared(encoders, PLAIN, after)
    assert again == alone(PLAIN, after)
    assert elsewhere


def test_of_two_ranges_at_once_the_second_does_without(encoders: Encoders) -> None:
    """Until the first is through: then it is helped, too."""
    first, second = some_blocks(12), some_blocks(12, first=50)
    one = encoders.encode(PLAIN, kit.Counted(PLAIN), first)
    begun = [next(one) for _ in range(3)]
    answers: list[tuple[kit.Found, int]] = []
    thread = threading.Thread(target=lambda: answers.append(shared(encoders, HARD, second)))
    thread.start()
    thread.join()
    assert answers == [(alone(HARD, second), 0)]
    assert listed([*begun, *one]) == alone(PLAIN, first)
    assert shared(encoders, HARD, second)[1]


def test_many_ranges_from_two_threads_come_out_right(encoders: Encoders) -> None:
    """However they take turns."""
    failures: list[str] = []

    def render(task: module.Task) -> None:
        for number in range(25):
            blocks = some_blocks(12, first=number)
            if shared(encoders, task, blocks)[0] != alone(task, blocks):
                failures.append(f"range {number} of {task.rendering}")

    threads = [threading.Thread(target=render, args=(task,)) for task in (PLAIN, HARD)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
