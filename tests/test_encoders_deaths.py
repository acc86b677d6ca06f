"""Processes that encode, and deaths: theirs cost time alone, and their parent's is theirs."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Final

import pytest

from exporter import encoders as module
from exporter.encoders import Encoders
from exporter.formats import compile_format
from tests.cli.test_workers import children, is_running
from tests.kit import encoding as kit
from tests.kit.encoding import HARD, PLAIN, alone, shared, some_blocks
from tests.kit.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from exporter.encoders import _Process
    from exporter.interfaces import Block, Format
    from exporter.model import Occasion, Rendering

PATIENCE_S: Final = 20.0
KILLED: Final = "a process that encodes was ended by SIGKILL"
DEADLY: Final = "keep deadly"
PARENT: Final = os.getpid()


@pytest.fixture(autouse=True)
def _they_help_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ALONE_BYTES", -1)
    monkeypatch.setattr(module, "ALONE_SHARE", -1)


def opened() -> set[int]:
    """The descriptors of this process."""
    return {int(one.name) for one in Path("/proc/self/fd").iterdir()}


def kill(process: _Process) -> None:
    """End it at once, and wait until it is no more; its parent may not know."""
    os.kill(process.process_id, signal.SIGKILL)
    wait_until("it is dead", lambda: not is_running(process.process_id), PATIENCE_S)


def is_gone(process_id: int) -> bool:
    return not Path(f"/proc/{process_id}").exists()


# --- an encoder that is killed -----------------------------------------------------------------------------


def deadly(rendering: Rendering, occasion: Occasion | None = None) -> Format:
    """A format that ends the encoder that meets a certain record; its parent renders that like any other."""
    form = compile_format(rendering, occasion)
    encode = form.encode

    def die(block: Block) -> tuple[bytes, object]:
        if os.getpid() != PARENT and DEADLY.encode() in block.raw(0):
            os.kill(os.getpid(), signal.SIGKILL)
        return encode(block)

    form.encode = die  # type: ignore[method-assign, assignment]
    return form


@pytest.fixture
def mortal() -> Iterator[Encoders]:
    """Two processes, of which somebody may kill some."""
    with Encoders(2, deadly) as made:
        forked = [process.process_id for process in kit.processes(made)]
        yield made
    assert all(map(is_gone, forked))


def before_it_was_given_anything(encoders: Encoders, blocks: list[Block]) -> Iterator[Block]:
    kill(next(kit.processes(encoders)))
    yield from blocks


def with_an_answer_that_nobody_has_taken(encoders: Encoders, blocks: list[Block]) -> Iterator[Block]:
    yield from killed_behind(encoders, blocks, 2)


def with_two_answers_that_nobody_has_taken(encoders: Encoders, blocks: list[Block]) -> Iterator[Block]:
    yield from killed_behind(encoders, blocks, 3)


def killed_behind(encoders: Encoders, blocks: list[Block], count: int) -> Iterator[Block]:
    """The first block is nobody's; the next ones are the first process's, which waits before it answers."""
    one = next(kit.processes(encoders))
    os.kill(one.process_id, signal.SIGSTOP)
    yield from blocks[:count]
    os.kill(one.process_id, signal.SIGCONT)
    wait_until("it has answered", one.has_answered, PATIENCE_S)
    kill(one)
    yield from blocks[count:]


def after_all_blocks_were_read(encoders: Encoders, blocks: list[Block]) -> Iterator[Block]:
    yield from blocks
    kill(next(kit.processes(encoders)))


def while_it_encodes(_: Encoders, blocks: list[Block]) -> Iterator[Block]:
    yield blocks[0]
    yield kit.row_block([kit.row(1, DEADLY)])
    yield from blocks[1:]


@pytest.mark.parametrize("task", [PLAIN, HARD], ids=["plain", "hard"])
@pytest.mark.parametrize(
    "blocks_and_death",
    [
        before_it_was_given_anything,
        while_it_encodes,
        with_an_answer_that_nobody_has_taken,
        with_two_answers_that_nobody_has_taken,
        after_all_blocks_were_read,
    ],
)
def test_a_death_costs_nothing_but_time(
    mortal: Encoders, blocks_and_death: Callable[[Encoders, list[Block]], Iterator[Block]], task: module.Task
) -> None:
    """All comes out as without it, in this range and the next, with which the other process still helps."""
    seen: list[Block] = []

    def watched() -> Iterator[Block]:
        for block in blocks_and_death(mortal, some_blocks(20)):
            seen.append(block)
            yield block

    found, _ = shared(mortal, task, watched())
    assert found == alone(task, seen)
    assert len(seen) >= 20
    blocks = some_blocks(20)
    again, elsewhere = shared(mortal, PLAIN, blocks)
    assert again == alone(PLAIN, blocks)
    assert elsewhere
    mortal.__exit__()
    assert mortal.losses == [KILLED]


def test_all_of_them_may_die(mortal: Encoders) -> None:
    blocks: list[Block] = [kit.row_block([kit.row(number, DEADLY)]) for number in range(20)]
    assert shared(mortal, PLAIN, blocks) == (alone(PLAIN, blocks), 0)
    assert shared(mortal, HARD, some_blocks(9))[1] == 0
    mortal.__exit__()
    assert mortal.losses == [KILLED, KILLED]


def test_a_death_in_a_range_that_is_left_holds_up_nobody(mortal: Encoders) -> None:
    blocks = [*some_blocks(1), kit.row_block([kit.row(1, DEADLY)]), *some_blocks(9)]
    left = mortal.encode(PLAIN, kit.Counted(PLAIN), blocks)
    next(left)
    next(left)
    left.close()
    found, elsewhere = shared(mortal, PLAIN, blocks[2:])
    assert found == alone(PLAIN, blocks[2:])
    assert elsewhere


@pytest.fixture
def hung(mortal: Encoders, monkeypatch: pytest.MonkeyPatch) -> Encoders:
    """Two processes of which none goes on, where patience is short."""
    monkeypatch.setattr(module, "_PATIENCE_MS", 50)
    for process in kit.processes(mortal):
        os.kill(process.process_id, signal.SIGSTOP)
    return mortal


def test_an_encoder_that_hangs_is_ended(hung: Encoders) -> None:
    """All comes out, and no more is read ahead than there is room for."""
    read: list[Block] = []

    def blocks() -> Iterator[Block]:
        for block in some_blocks(40):
            read.append(block)
            yield block

    ahead, found = [], []
    for pair in hung.encode(PLAIN, kit.Counted(PLAIN), blocks()):
        found.append(pair)
        ahead.append(len(read) - len(found))
    assert kit.listed(found) == alone(PLAIN, read)
    assert max(ahead) == module._SLOTS * 2 + module._AHEAD
    hung.__exit__()
    assert hung.losses == [KILLED, KILLED]


def test_large_blocks_that_wait_for_one_that_hangs_are_few(hung: Encoders) -> None:
    """What is encoded ahead takes memory."""
    large = 1 << 20
    read: list[Block] = []

    def blocks() -> Iterator[Block]:
        for block in [*some_blocks(2), *(kit.at_home([kit.row(1, "x" * large)]) for _ in range(12))]:
            read.append(block)
            yield block

    found = hung.encode(PLAIN, kit.Counted(PLAIN), blocks())
    pairs = [next(found), next(found)]
    assert len(read) == 2 + module._AHEAD_BYTES // large
    pairs += found
    assert kit.listed(pairs) == alone(PLAIN, read)


# --- what they hold, and what is left of them --------------------------------------------------------------


def test_an_encoder_holds_nothing_that_its_parent_has_open() -> None:
    """A connection would stay open as long as it lives."""
    here, there = socket.socketpair()
    with here, there, TemporaryFile() as file, Encoders(2, compile_format) as encoders:
        shared(encoders, PLAIN, some_blocks(20))
        for process in kit.processes(encoders):
            held = Path(f"/proc/{process.process_id}/fd")
            wait_until("it has closed them", lambda held=held: len(list(held.iterdir())) <= 5, PATIENCE_S)  # type: ignore[misc]
            links = {int(one.name): str(one.readlink()) for one in held.iterdir()}
            its_own = [link for number, link in links.items() if number > 2]
            assert [link.partition(":")[0] for link in its_own] == ["pipe", "pipe"]
            ends = {str(Path(f"/proc/self/fd/{end}").readlink()) for end in (process.inbox, process.outbox)}
            assert set(its_own) == ends
        here.sendall(b"x")
        file.write(b"x")


def test_nothing_is_left_of_them() -> None:
    """Neither a process nor a descriptor, however often."""
    before, others = opened(), children(os.getpid())
    for _ in range(5):
        with Encoders(3, compile_format) as encoders:
            assert len(children(os.getpid())) == len(others) + 3
            shared(encoders, PLAIN, some_blocks(9))
        assert encoders.losses == []
    assert (opened(), children(os.getpid())) == (before, others)


def test_without_any_a_range_is_encoded_here() -> None:
    with Encoders(0, compile_format) as encoders:
        blocks = some_blocks(5)
        assert shared(encoders, PLAIN, blocks) == (alone(PLAIN, blocks), 0)


def test_once_they_are_left_a_range_is_encoded_here() -> None:
    with Encoders(2, compile_format) as encoders:
        pass
    blocks = some_blocks(5)
    assert shared(encoders, PLAIN, blocks) == (alone(PLAIN, blocks), 0)


# --- a system that allows no more --------------------------------------------------------------------------


@pytest.mark.parametrize("allowed", [0, 1])
def test_a_system_that_allows_no_more_processes(monkeypatch: pytest.MonkeyPatch, allowed: int) -> None:
    """It is done with those that there are, and no descriptor is lost."""
    fork, forked, before = os.fork, list[int](), opened()

    def scarce() -> int:
        if len(forked) >= allowed:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        forked.append(1)
        return fork()

    monkeypatch.setattr(os, "fork", scarce)
    _assert_so_many_help(allowed)
    assert opened() == before


@pytest.mark.parametrize(("descriptors", "allowed"), [(0, 0), (1, 0), (3, 0), (4, 1), (5, 1), (6, 2)])
def test_a_system_that_allows_no_more_descriptors(descriptors: int, allowed: int) -> None:
    """Each process takes two that stay, and two for a moment."""
    before = opened()
    with free_descriptors(descriptors):
        _assert_so_many_help(allowed)
    assert opened() == before


def _assert_so_many_help(count: int) -> None:
    with Encoders(2, compile_format) as encoders:
        assert len(list(kit.processes(encoders))) == count
        found, elsewhere = shared(encoders, PLAIN, blocks := some_blocks(9))
        assert found == alone(PLAIN, blocks)
        assert bool(elsewhere) == bool(count)
    assert encoders.losses == []


@contextmanager
def free_descriptors(count: int) -> Iterator[None]:
    """So many more may be opened."""
    for task in (PLAIN, HARD):  # which loads what is loaded when it is needed
        compile_format(task.rendering, task.occasion)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = max(opened()) + 20
    taken: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, limits[1]))
    try:
        while len(taken) < most:
            try:
                taken.append(os.dup(0))
            except OSError:
                break
        for _ in range(count):
            os.close(taken.pop())
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for one in taken:
            os.close(one)


# --- their parent's end ------------------------------------------------------------------------------------

ROOT: Final = Path(__file__).parents[1]


@contextmanager
def a_parent(mode: str = "usual") -> Iterator[subprocess.Popen[str]]:
    """Another process with encoders, in a process group of its own."""
    command = [sys.executable, "-m", "tests.kit.encoders_parent", mode]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe, text=True, start_new_session=True
    ) as one:
        try:
            yield one
        finally:
            one.kill()


def said(one: subprocess.Popen[str]) -> str:
    """Its next word."""
    assert one.stdout is not None
    return one.stdout.readline().strip()


def asked(one: subprocess.Popen[str]) -> str:
    """Whether a range came out right with its encoders' help."""
    assert one.stdin is not None
    one.stdin.write("go\n")
    one.stdin.flush()
    return said(one)


def forked_by(one: subprocess.Popen[str]) -> list[int]:
    forked = list(map(int, said(one).split()))
    assert len(forked) == 2
    return forked


@pytest.mark.parametrize("mode", ["usual", "slow"])
def test_a_parent_that_is_killed_leaves_no_encoder(mode: str) -> None:
    """Also while they encode; and they say nothing, as there is nothing to be done about it."""
    with a_parent(mode) as parent:
        forked = forked_by(parent)
        assert asked(parent) == ("right" if mode == "usual" else "begun")
        assert all(map(is_running, forked))
        parent.kill()
        wait_until("they have ended", lambda: not any(map(is_running, forked)), PATIENCE_S)
        assert parent.communicate(timeout=PATIENCE_S) == ("", "")


def test_a_signal_to_all_of_them_leaves_it_to_the_parent_when_to_end() -> None:
    """As a terminal sends it: what is under way still comes to its end."""
    with a_parent() as parent:
        forked = forked_by(parent)
        assert asked(parent) == "right"
        for number in (signal.SIGINT, signal.SIGTERM):
            os.killpg(parent.pid, number)
            assert asked(parent) == "right"
        assert all(map(is_running, forked))
        assert parent.communicate(timeout=PATIENCE_S) == ("[]\n", "")
    assert not any(map(is_running, forked))


@pytest.mark.parametrize("mode", ["closed", "ignoring"])
def test_an_unusual_parent_is_helped_as_well(mode: str) -> None:
    """One without standard streams, or one that was started with SIGCHLD ignored."""
    with a_parent(mode) as parent:
        forked = forked_by(parent)
        assert asked(parent) == "right"
        assert parent.communicate(timeout=PATIENCE_S) == ("[]\n", "")
    assert not any(map(is_running, forked))
