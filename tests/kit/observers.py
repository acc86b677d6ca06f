"""An observer of a run for tests that look at what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from exporter.pipeline import Job


class Silent:
    """Notes who failed, and nothing else."""

    def __init__(self) -> None:
        self.failures: list[str] = []

    def skipped(self, *_: object) -> None: ...
    def started(self, due: int) -> None: ...
    def sent(self, *_: object) -> None: ...
    def delivered(self, *_: object) -> None: ...
    def finished(self, *_: object) -> None: ...
    def slowed(self, *_: object) -> None: ...

    def failed(self, one: Job, _error: object) -> None:
        self.failures.append(one.name)
