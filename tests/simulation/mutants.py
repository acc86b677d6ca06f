"""The product with one rule left out: the simulation has to notice every one of these.

Each mutant is a context in which the real code is changed; nothing else of it is.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final
from unittest import mock

from exporter import pipeline
from exporter.destinations.memory import Fault, MemoryStore
from exporter.ledger.requests import Requests
from exporter.ledger.rules import Ledger
from exporter.model import Outcome, PlanState
from exporter.pipeline import Pipeline
from exporter.sources.memory import MemorySource

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager

    from exporter.destinations.memory import StoredObject
    from exporter.ledger.storage import Rows
    from exporter.model import Attempt, Export, Lane, Package, Plan, Range, Receipt
    from exporter.pipeline import Delivered, Held, Job, Ready

Mutant = "Callable[[], AbstractContextManager[object]]"


def _instead(owner: object, name: str, other: Callable[..., Any]) -> Callable[[], Any]:
    """A mutant that replaces one function by ``other``, which gets the original first."""
    original = getattr(owner, name)

    def mutant(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401
        return other(original, *arguments, **named)

    return lambda: mock.patch.object(owner, name, mutant)


# --- the ledger's rules ------------------------------------------------------------------------------


def _no_comparison(_: object, ledger: Ledger, rows: Rows, before: Export, lane: str) -> tuple[Export, Lane]:
    now = rows.lane(before.name, lane)
    assert now is not None
    return ledger._export(rows, before.name), now


def _no_version(_: object, ledger: Ledger, rows: Rows, before: Export, lane: str) -> tuple[Export, Lane]:
    export = ledger._export(rows, before.name)
    return ledger.__class__._unchanged.__wrapped__(ledger, rows, export, lane)  # type: ignore[attr-defined]
