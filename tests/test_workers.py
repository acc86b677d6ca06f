"""What worker processes tell: whole, and as cheaply as can be."""

from __future__ import annotations

import pickle
from dataclasses import fields, is_dataclass, replace
from datetime import UTC, datetime
from multiprocessing.reduction import ForkingPickler
from typing import TYPE_CHECKING

import exporter.workers  # noqa: F401 - which says how it is told
from exporter.model import Content, Plan, PlanState, Range, Receipt, Rendering, Stamp, Window
from exporter.steps import Delivered

if TYPE_CHECKING:
    import pytest

START, END = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 2, tzinfo=UTC)
CONTENT = Content(3, 1, 1, 300, "c" * 64, 90, "a" * 64, filtered=2, protected={"email pseudonymise": 3})
PLAN = Plan(
    id="plan",
    export="acme",
    lane="live",
    sequence=7,
    range=Range("acme", Window(START, END), {"horizon": 9}, {"horizon": 5}, True, (1, 2), ("x", "y")),
    rendering=Rendering("native", {"line": "json"}, chosen=["all"], protected={"email": "drop"}, key_id="k"),
    final=True,
    name="audit/acme/audit_acme_20261102T000000Z.zip",
    stamp=Stamp(END, 2),
    content=CONTENT,
    created_at=END,
    bad_not_whole=1,
    repeats=True,
    state=PlanState.DELIVERED,
    delivered_at=END,
    hashes=("h" * 64,),
    reached=(1, 2),
    sent=4,
    refused=1,
)
DELIVERED = Delivered(PLAN, CONTENT, Receipt("file:///out/x", "etag", "version"), batches=5)


def told(what: object) -> object:
    """The same in the process that is told."""
    return pickle.loads(ForkingPickler.dumps(what))


def test_a_delivery_arrives_as_it_was_told() -> None:
    assert told(DELIVERED) == DELIVERED
    assert told(replace(DELIVERED, receipt=None)) == replace(DELIVERED, receipt=None)


def test_no_part_of_a_delivery_travels_as_dataclasses_do_by_themselves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """That takes three times as long, for each of thousands of objects."""

    for kind in {type(part) for part in parts_of(DELIVERED)}:
        monkeypatch.setattr(kind, "__getstate__", _must_not)
    assert told(DELIVERED) == DELIVERED


def _must_not(_: object) -> None:
    raise AssertionError("slow")


def parts_of(one: object) -> list[object]:
    """It and every dataclass in it."""
    if not is_dataclass(one):
        return []
    return [one, *(part for each in fields(one) for part in parts_of(getattr(one, each.name)))]
