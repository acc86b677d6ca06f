"""From the steps of some exports to their archives: as few readings of the source as can be.

Each range is rendered on its own while the blocks come by. What goes wrong with one is told of that one,
and the next goes on. It must not know the ledger.
"""

from __future__ import annotations

import time
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias

from exporter.encoders import Encoders
from exporter.encoders import Task as EncodingTask
from exporter.errors import ExporterError, SourceBusy, SourceChanged, SourceError
from exporter.interfaces import LineSource
from exporter.model import Occasion
from exporter.packages import member_of
from exporter.rendering import Renderer
from exporter.steps import result_of, without_values

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

    from exporter.interfaces import Block, Format, FormatCompiler, Source
    from exporter.model import Range, Rendering
    from exporter.rendering import Rendered
    from exporter.steps import Step
    from exporter.workspace import Folder, Workspace

    Done: TypeAlias = Callable[[Step, "Archive | Exception"], None]
    Late: TypeAlias = Callable[[Sequence[Step]], None]

READINGS: Final = 3
FIRST_PAUSE_S: Final = 0.5

LONG_S: Final = 1.0
LONG_RECORDS: Final = 16_000
"""A reading that took so long, or a range with so many records, keeps nobody of its group waiting."""


@dataclass(frozen=True, slots=True)
class Archive:
    """What was rendered for a step, in a folder of its own."""

    rendered: Rendered
    folder: Folder


@dataclass(frozen=True, slots=True)
class _Task:
    step: Step
    form: Format
    occasion: Occasion


@dataclass(slots=True)
class _Blocks:
    """The blocks of one reading, as they come; ``broken``: the source raised an error and answers no more."""

    found: Generator[tuple[int, Block]]
    large: Callable[[], None]
    began: float = field(default_factory=time.monotonic)
    following: tuple[int, Block] | None = None
    broken: bool = False

    def advance(self) -> None:
        """On to the next block; to none at the end, and where the source raises."""
        self.following = None
        try:
            self.following = next(self.found, None)
        except BaseException:
            self.broken = True
            raise

    def of_one_range(self) -> Iterator[Block]:
        """Those of the range that follows; ``large`` is told when they are many, or have taken long."""
        records, index = 0, None if self.following is None else self.following[0]
        while self.following is not None and self.following[0] == index:
            block = self.following[1]
            records += len(block)
            if records > LONG_RECORDS or time.monotonic() - self.began > LONG_S:
                self.large()
            yield block
            self.advance()


class Readings:
    """Renders steps, each in a folder of the workspace or in memory; safe to use from several threads."""

    def __init__(self, source: Source, workspace: Workspace, compile_format: FormatCompiler) -> None:
        self._source = source
        self._workspace = workspace
        self._compile = compile_format
        self._encoders = Encoders(0, compile_format)

    @contextmanager
    def helped(self, count: int) -> Iterator[Encoders]:
        """So many processes encode what is large; to be entered before there are renderers."""
        with Encoders(count, self._compile) as self._encoders:
            yield self._encoders

    def load(self, rendering: Rendering) -> None:
        """Find out about the source and compile a format, to keep what comes of it; errors come again."""
        with suppress(ExporterError):
            self._source.columns()
            self._compile(rendering)

    def render(self, steps: Sequence[Step], done: Done, late: Late, room_bytes: float) -> None:
        """Tell ``done`` of each step what came of it, or ``late`` of those whose turn does not come.

        They are late when something before them is large, and it is told while that is still rendered: what
        was done until then can go on. It may be told of nobody. Neither of the two may raise. No archive is
        begun when those before it take up ``room_bytes``; the first one always is.
        """
        columns = frozenset(self._source.columns()) if any(step.is_planned for step in steps) else None
        tasks = []
        for step in steps:
            task = result_of(partial(self._task, step, columns))
            if isinstance(task, Exception):
                done(step, task)
            else:
                tasks.append(task)
        _Pass(self._source, self._workspace, self._encoders, tasks, (done, late), room_bytes).run()

    def _task(self, step: Step, columns: frozenset[str] | None) -> _Task:
        job, rendering = step.job, step.rendering
        key = job.key() if job.key is not None and rendering.key_id else None
        # Null for a column that the source has lost: a plan that may have landed stays.
        there = columns if step.is_planned else None
        occasion = Occasion(step.sequence, step.range.window.end, there, key)
        return _Task(step, self._compile(rendering, occasion), occasion)


class _Pass:
    """One group's way through the source."""

    def __init__(
        self,
        source: Source,
        workspace: Workspace,
        encoders: Encoders,
        tasks: Sequence[_Task],
        told: tuple[Done, Late],
        room_bytes: float,
    ) -> None:
        self._source = source
        self._workspace = workspace
        self._encoders = encoders
        self._left = {task.step.job.name: task for task in tasks}
        self._done, self._late = told
        self._room_bytes = room_bytes
        self._alone = False

    def run(self) -> None:
        """Until nobody is left."""
        while self._left:
            alone = self._alone
            try:
                self._read_on()
            except Exception as error:  # noqa: BLE001 - whosever it is, it is told
                self._broken(error, alone=alone)

    def _read_on(self) -> None:
        """One reading of those that are left; another one if the source is lost, as ranges read the same."""
        from exporter.retries import retry_context  # which a run with nothing due does without

        for attempt in retry_context(on=SourceBusy, attempts=READINGS, wait_initial=FIRST_PAUSE_S):
            with attempt:
                if self._left:
                    self._read()

    def _broken(self, error: Exception, *, alone: bool) -> None:
        """The source does not answer: to anybody, or to the one that was asked for, or one of several."""
        everybody = isinstance(error, SourceError) and not isinstance(error, SourceChanged)
        if everybody or alone or len(self._left) == 1:
            first = next(iter(self._left))
            self._done(self._left.pop(first).step, without_values(error))
            if everybody:
                self._part()
        else:
            self._alone = True  # whose it is shows when they are read one by one

    def _read(self) -> None:
        """One reading, of all that need of it what the first does, as far as each is read to its end."""
        first, *others = self._left.values()
        asked = [first, *(one for one in others if not self._alone and _is_alike(one.form, first.form))]
        # Closed here and not when garbage is collected: until then it holds a transaction of the source.
        with closing(self._found([one.step.range for one in asked], first.form)) as found:
            blocks = _Blocks(found, self._part)
            blocks.advance()
            while blocks.following is not None:
                task = asked[blocks.following[0]]
                if not (task.step.job.name in self._left and self._render(task, blocks)):
                    return  # the others, if anybody is left, begin a reading of their own
            for task in asked:
                if task.step.job.name in self._left:
                    self._render(task, blocks)

    def _found(self, ranges: Sequence[Range], form: Format) -> Generator[tuple[int, Block]]:
        """The blocks of a reading, as lines where the source can make them itself."""
        source, template = self._source, form.template
        if template is not None and isinstance(source, LineSource):
            return source.read_lines(ranges, form.columns, template)
        return source.read(ranges, form.columns)

    def _render(self, task: _Task, blocks: _Blocks) -> bool:
        """The archive of the range whose blocks follow; whether it was read to its end."""
        name = task.step.job.name
        del self._left[name]
        try:
            archive = self._archive(task, blocks.of_one_range())
        except Exception as error:
            if blocks.broken:
                self._left = {name: task, **self._left}
                self._late(())  # nobody waits for another reading
                raise
            self._done(task.step, without_values(error))
            return False
        self._done(task.step, archive)
        self._room_bytes -= archive.rendered.content.archive_bytes
        if self._room_bytes <= 0:
            self._part()
        return archive.rendered.final

    def _archive(self, task: _Task, blocks: Iterable[Block]) -> Archive:
        step, folder = task.step, self._workspace.folder()
        try:
            account = step.range.account
            ahead = partial(self._encoders.encode, EncodingTask(step.rendering, task.occasion, account))
            renderer = Renderer(task.form, step.rendering, account, step.limit_bytes, ahead)
            rendered = renderer.render(blocks, folder, member_of(step.name, step.rendering))
        except BaseException:
            folder.discard()
            raise
        return Archive(rendered, folder)

    def _part(self) -> None:
        """Let go of all that are not begun."""
        left, self._left = self._left, {}
        self._late([task.step for task in left.values()])


def _is_alike(one: Format, other: Format) -> bool:
    """Whether both can be given the same blocks."""
    return one.columns == other.columns and one.template == other.template
