"""Many schedules, one after the other: seeds in, broken promises out.

Archives are compressed in line and lie in memory where the machine has such a folder: their thread takes
no part in the protocol, and would take most of the time.
"""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final
from unittest import mock

from exporter.workspace import Workspace

from .promises import Violation
from .world import World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

IN_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - a workspace makes a private folder in it
MOST_PROCESSES: Final = 3


def violations(seeds: Iterable[int]) -> Iterator[tuple[int, Violation | None]]:
    """Live through each seed's world; what it broke, or None."""
    with _surroundings() as (workspace, pool):
        for seed in seeds:
            try:
                World(seed, workspace).run(pool)
            except Violation as violation:
                yield seed, violation
            else:
                yield seed, None


@contextmanager
def _surroundings() -> Iterator[tuple[Workspace, ThreadPoolExecutor]]:
    root = IN_MEMORY if os.access(IN_MEMORY, os.W_OK) else None
    with (
        Workspace(root) as workspace,
        ThreadPoolExecutor(MOST_PROCESSES) as pool,
        mock.patch("exporter.archive.ThreadPoolExecutor", _InLine),
    ):
        yield workspace, pool


class _InLine:
    """Does at once what it is given."""

    def __init__(self, **_: object) -> None:
        pass

    def submit(self, work: Callable[..., object], *arguments: object) -> Future[object]:
        done: Future[object] = Future()
        try:
            done.set_result(work(*arguments))
        except Exception as error:  # noqa: BLE001 - an executor hands over what went wrong
            done.set_exception(error)
        return done

    def shutdown(self, **_: object) -> None:
        pass
