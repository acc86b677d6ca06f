"""One export's step, and one object's delivery, as groups of one: what tests of a single export need."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from exporter.errors import Conflict
from exporter.model import LIVE_LANE
from exporter.steps import result_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from exporter.pipeline import Pipeline
    from exporter.steps import Delivered, Held, Job, Moved, Prepared, Ready, Unreached


def prepare_one(
    pipeline: Pipeline, job: Job, now: datetime, lane_id: str = LIVE_LANE
) -> Ready | Moved | Unreached | None:
    """What one export's turn comes to; raises what went wrong."""
    told: list[tuple[Job, Prepared]] = []
    pipeline.prepare([job], now, told.extend, lane_id)
    [(answered, answer)] = told
    assert answered is job
    if isinstance(answer, Exception):
        raise answer
    return answer


def deliver_one(
    pipeline: Pipeline,
    ready: Ready,
    progress: Callable[[int], None] = lambda _: None,
    must_end: Callable[[], bool] = lambda: False,
) -> Delivered | Held | None:
    """What one upload comes to; raises what went wrong."""
    [attempt] = pipeline.attempt([ready])
    if isinstance(attempt, Conflict):
        return None
    if isinstance(attempt, Exception):
        raise attempt
    sent = result_of(partial(pipeline.send, ready, progress, must_end))
    [answer] = pipeline.settle([(ready, attempt, sent)])
    if isinstance(answer, Exception):
        raise answer
    return answer
