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
from tests.simulation.world import World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tests.simulation.violation import Violation

IN_MEMORY: Final = Path("/dev/shm")
MOST_PROCESSES: Final = 3


def worlds(seeds: Iterable[int]) -> Iterator[World]:
    """Each seed's world once it has been lived through; what it broke is in its ``violation``."""
    with _surroundings() as (workspace, pool):
        for seed in seeds:
            world = World(seed, workspace)
            world.run(pool)
            yield world


def first_violation(seeds: Iterable[int]) -> Violation | None:
    """The first broken promise, or None when every one of these worlds keeps them all."""
    broken = (world.violation for world in worlds(seeds) if world.violation is not None)
    return next(broken, None)


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
