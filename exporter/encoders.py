"""Processes that encode blocks for another one, which reads, writes and keeps the order.

Python computes in one thread at a time: a large range would keep one processor busy while others idle. Each
process is a fork that holds nothing of its parent's but memory that both see and a pipe in each direction. It
is never needed: whatever it cannot do, and whatever it was doing when it died, its parent does by itself.

It must not know where blocks come from or what lines become.
"""

from __future__ import annotations

import gc
import os
import pickle
import select
import signal
import sys
import threading
import time
import warnings
from collections import deque
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from mmap import mmap
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, Never, Self

from exporter.encoding import Encoded, Encoding

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

    from exporter.interfaces import Block, FormatCompiler
    from exporter.model import Occasion, Rendering

ALONE_BYTES: Final = 4_000_000
"""Of lines: a range that has fewer is through before another process has compiled its format."""
ALONE_SHARE: Final = 2 / 3
"""Of the time: where encoding takes less, others wait for the source or the archive as this process does."""

_BLOCK_BYTES = 2 << 20
_LINES_BYTES = 4 << 20
_SLOTS = 2  # for each process: one more block waits while it encodes
_AHEAD = 4  # blocks that are encoded here while one is waited for,
_AHEAD_BYTES = 4 << 20  # unless their lines are more than this
_PATIENCE_MS = 60_000  # what takes milliseconds hangs, or the machine does
_DONE, _NOT_DONE = b"\1", b"\0"
_OPEN: Final = Path("/proc/self/fd")


class Task(NamedTuple):
    """What a process has to know to encode a range's blocks."""

    rendering: Rendering
    occasion: Occasion | None
    account: str


class _Slot(NamedTuple):
    """Memory that two processes see: what one is given, and what it answers."""

    given: mmap
    answer: mmap


@dataclass(slots=True)
class _Process:
    """One of them, as its parent sees it; it answers in the order in which it was given blocks."""

    process_id: int
    inbox: int
    outbox: int
    slots: list[_Slot]
    given: int = 0
    answered: int = 0
    is_gone: bool = False
    task: Task | None = None

    @property
    def is_free(self) -> bool:
        """Whether it may be given one more block."""
        return not self.is_gone and self.given - self.answered < _SLOTS

    def give(self, task: Task, block: Block) -> bool:
        """Let it encode a block; False if that cannot be sent, as it is too large, or nobody is there."""
        slot, is_new = self.given % _SLOTS, self.task is not task
        memory = self.slots[slot].given
        memory.seek(0)
        try:
            pickle.dump((task if is_new else None, block), memory, pickle.HIGHEST_PROTOCOL)
            os.write(self.inbox, bytes([slot + _SLOTS * is_new]))
        except OSError:
            self.is_gone = True
            return False
        except Exception:  # noqa: BLE001 - beyond the memory's end, or nothing that pickle knows
            return False
        self.task = task
        self.given += 1
        return True

    def has_answered(self, patience_ms: int = 0) -> bool:
        """Whether `take` has not to wait any more, after waiting so long."""
        if self.is_gone:
            return True
        there = select.poll()
        there.register(self.outbox, select.POLLIN)
        return bool(there.poll(patience_ms))

    def take(self) -> Encoded | None:
        """What came of the oldest block that it was given; None if nothing did."""
        slot = self.slots[self.answered % _SLOTS]
        self.answered += 1
        self._wait()
        said = b"" if self.is_gone else os.read(self.outbox, 1)
        if said != _DONE:
            self.is_gone = self.is_gone or not said
            return None
        slot.answer.seek(0)
        found: Encoded = pickle.load(slot.answer)  # noqa: S301 - our own process wrote it
        return found

    def _wait(self) -> None:
        """Until it has answered, or is no more: one that hangs is ended."""
        if not self.has_answered(_PATIENCE_MS):
            os.kill(self.process_id, signal.SIGKILL)
            self.is_gone = True

    def close(self) -> int:
        """Let it end, which it does once nobody is there to give it anything; answers its exit status."""
        os.close(self.inbox)
        self._wait()
        os.close(self.outbox)
        status = 0
        with suppress(ChildProcessError):  # where SIGCHLD is ignored, as it may be inherited
            _, status = os.waitpid(self.process_id, 0)
        for slot in self.slots:
            slot.given.close()
            slot.answer.close()
        return os.waitstatus_to_exitcode(status)


@dataclass(frozen=True, slots=True)
class _Ahead:
    """A block on its way: with a process, or encoded already."""

    block: Block
    process: _Process | None = None
    encoded: Encoded | None = None

    def is_ready(self) -> bool:
        """Whether nobody has to wait for it."""
        return self.process is None or self.process.has_answered()

    @property
    def size_bytes(self) -> int:
        """What its lines take meanwhile."""
        return len(self.encoded.lines.data) if self.encoded else 0

    def result(self, encoding: Encoding) -> tuple[Block, Encoded]:
        """What came of it, made here if nowhere else."""
        encoded = self.encoded if self.process is None else self.process.take()
        return self.block, encoding.encode(self.block) if encoded is None else encoded


class Encoders:
    """So many processes, for one range at a time: who comes meanwhile does without.

    To be entered before threads that encode or load anything: what locks they held, the forks would find held
    for ever. Once it is left, ``losses`` says what ended some of them too early.
    """

    def __init__(self, count: int, compile_format: FormatCompiler) -> None:
        # Elsewhere forks may hang; and what its parent has open, each has to find to close it.
        self._count = count if sys.platform == "linux" and _OPEN.is_dir() else 0
        self._compile = compile_format
        self._processes: list[_Process] = []
        self.losses: list[str] = []
        self._taken = threading.Lock()

    def __enter__(self) -> Self:
        for _ in range(self._count):
            self._start()
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            if status := process.close():
                self.losses.append(_loss(status))
        self._processes.clear()

    def encode(
        self, task: Task, encoding: Encoding, blocks: Iterable[Block]
    ) -> Generator[tuple[Block, Encoded]]:
        """Blocks and what comes of them, in their order; some more are read than have been asked for."""
        rest, began = iter(blocks), time.monotonic()
        size_bytes, encoding_s = 0, 0.0
        for block in rest:
            before = time.monotonic()
            encoded = encoding.encode(block)
            encoding_s += time.monotonic() - before
            size_bytes += len(encoded.lines.data)
            yield block, encoded
            is_worthwhile = size_bytes > ALONE_BYTES and encoding_s > ALONE_SHARE * (time.monotonic() - began)
            if is_worthwhile and self._processes and self._taken.acquire(blocking=False):
                break
        else:
            return
        try:
            with closing(self._shared(task, encoding, rest)) as shared:
                yield from shared
        finally:
            self._taken.release()

    def _shared(
        self, task: Task, encoding: Encoding, blocks: Iterator[Block]
    ) -> Generator[tuple[Block, Encoded]]:
        waiting: deque[_Ahead] = deque()
        try:
            for block in blocks:
                waiting.append(self._given(task, block) or _Ahead(block, None, encoding.encode(block)))
                while waiting and (waiting[0].is_ready() or self._are_many(waiting)):
                    yield waiting.popleft().result(encoding)
            while waiting:
                yield waiting.popleft().result(encoding)
        finally:
            for one in waiting:  # so that no answer is left for the next range
                if one.process is not None:
                    one.process.take()

    def _are_many(self, waiting: deque[_Ahead]) -> bool:
        """Whether they take as much memory as they may."""
        most = _SLOTS * len(self._processes) + _AHEAD
        return len(waiting) > most or sum(one.size_bytes for one in waiting) > _AHEAD_BYTES

    def _given(self, task: Task, block: Block) -> _Ahead | None:
        """A block that some process takes on."""
        if not block.is_portable:
            return None
        free = next((process for process in self._processes if process.is_free), None)
        return _Ahead(block, free) if free is not None and free.give(task, block) else None

    def _start(self) -> None:
        """One more; where the system allows no more, it is done with those that there are."""
        with suppress(OSError), ExitStack() as theirs, ExitStack() as ours:
            slots = [_Slot(mmap(-1, _BLOCK_BYTES), mmap(-1, _LINES_BYTES)) for _ in range(_SLOTS)]
            their_inbox, inbox = _pipe(theirs, ours)
            outbox, their_outbox = _pipe(ours, theirs)
            process_id = _forked()
            if not process_id:
                ours.close()
                _live(self._compile, their_inbox, their_outbox, slots)
            self._processes.append(_Process(process_id, inbox, outbox, slots))
            ours.pop_all()


def _pipe(reader: ExitStack, writer: ExitStack) -> tuple[int, int]:
    """Where to read and where to write; whoever does either closes it."""
    ends = os.pipe()
    for end, side in zip(ends, (reader, writer), strict=True):
        side.callback(os.close, end)
    return ends


def _loss(status: int) -> str:
    how = f"by {signal.Signals(-status).name}" if status < 0 else f"with status {status}"
    return f"a process that encodes was ended {how}"


def _forked() -> int:
    """0 in the new process. What other threads hold is what shows progress, which no encoder does."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


# --- in an encoder ----------------------------------------------------------------------------------------


def _live(compile_format: FormatCompiler, inbox: int, outbox: int, slots: list[_Slot]) -> Never:
    """All that the forked process ever does, until there is nobody to do it for."""
    status = 1
    try:
        gc.freeze()  # what is its parent's is not this one's to clear away
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # its parent says when it is over
        _close_all_but({inbox, outbox} | _standard_streams())
        _serve(compile_format, inbox, outbox, slots)
        status = 0
    except BaseException:  # noqa: BLE001 - its parent sees that it is gone, and does without
        if sys.stderr is not None:
            import traceback

            sys.stderr.write(traceback.format_exc())
    finally:
        os._exit(status)


def _standard_streams() -> set[int]:
    """Those that there are: where the parent was started without, these numbers may be anything of its."""
    streams = sys.__stdin__, sys.__stdout__, sys.__stderr__
    return {number for number, stream in enumerate(streams) if stream is not None}


def _close_all_but(kept: set[int]) -> None:
    """Whatever else is open, or connections would stay open as long as this process lives."""
    for opened in list(_OPEN.iterdir()):
        if int(opened.name) not in kept:
            with suppress(OSError):  # that of the listing is closed already
                os.close(int(opened.name))


def _serve(compile_format: FormatCompiler, inbox: int, outbox: int, slots: list[_Slot]) -> None:
    encoding: Encoding | None = None
    while number := os.read(inbox, 1):
        is_new, slot = divmod(number[0], _SLOTS)
        if is_new:  # before it is read, which may fail: what comes next is no more for the task before
            encoding = None
        given, answer = slots[slot]
        given.seek(0)
        answer.seek(0)
        said = _NOT_DONE
        # Whatever is in the way, the parent meets it by itself, and says so.
        with suppress(Exception):
            task, block = pickle.load(given)  # noqa: S301 - the parent wrote it
            if task is not None:
                form = compile_format(task.rendering, task.occasion)
                encoding = Encoding(form, task.rendering, task.account)
            if encoding is not None:
                pickle.dump(encoding.encode(block), answer, pickle.HIGHEST_PROTOCOL)
                said = _DONE
        with suppress(BrokenPipeError):  # the parent is gone, which the next reading shows
            os.write(outbox, said)
