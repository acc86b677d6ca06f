"""Exporters with one defect each, to see that a storm notices. Only `exporting` ever puts one in place.

Each is a way in which readers of databases lose records.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def late_forgotten() -> None:
    """A window has what is dated in it, and nothing else."""
    from exporter.pipeline import Pipeline

    follow = Pipeline._next

    def forget(self: Pipeline, *arguments: Any) -> Any:  # noqa: ANN401 - whatever the method takes
        step = follow(self, *arguments)
        if step is None or step.range.previous is None:
            return step
        return replace(step, range=replace(step.range, previous=step.range.seal))

    Pipeline._next = forget  # type: ignore[assignment,method-assign]


def barrier_is_xmax() -> None:
    """PostgreSQL: what lies below the snapshot's xmax counts as finished."""
    from exporter.sources.postgres import connection as postgres_connection

    text = postgres_connection._MOMENT
    postgres_connection._MOMENT = text.replace("pg_snapshot_xmin(", "pg_snapshot_xmax(")  # type: ignore[misc]


def gaps_forgotten() -> None:
    """MariaDB: what has an id below the highest visible one counts as visible."""
    from exporter.sources.mysql import seal as mysql_seal

    mysql_seal._Taking.open_ones = lambda self, missing, *, is_new=False: ()  # type: ignore[method-assign] # noqa: ARG005


MUTANTS: Final[Mapping[str, Callable[[], None]]] = {
    mutant.__name__: mutant for mutant in (late_forgotten, barrier_is_xmax, gaps_forgotten)
}
