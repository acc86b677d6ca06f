"""Measured costs as JSON has them, and the figures that are read off them: medians, spreads, ratios."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any, TypeAlias

from tests.bench.ours import NAME

if TYPE_CHECKING:
    from collections.abc import Sequence

Results: TypeAlias = dict[str, Any]
Costs: TypeAlias = "Sequence[dict[str, float | None]]"


def costs(results: Results, case: str, method: str = NAME) -> list[dict[str, Any]]:
    """What each run took; empty for what was not measured."""
    methods = results["cases"].get(case, {"methods": []})["methods"]
    return next((one["costs"] for one in methods if one["name"] == method), [])


def values(found: Costs, what: str = "wall_s") -> list[float]:
    """One figure of each run, without those that have none."""
    return [value for cost in found if (value := cost[what]) is not None]


def middle(found: Costs, what: str = "wall_s") -> float | None:
    """The median of the runs; None without any."""
    known = values(found, what)
    return statistics.median(known) if known else None


def ratio(results: Results, case: str, peer: str) -> float | None:
    """How many times ours' time a peer takes: the median over the rounds that both took part in."""
    theirs, mine = (values(costs(results, case, method)) for method in (peer, NAME))
    rounds = [one / other for one, other in zip(theirs, mine, strict=False)]
    return statistics.median(rounds) if rounds else None


def rate(results: Results, case: str) -> float | None:
    """Of the case's units, how many ours does in a second."""
    took = middle(costs(results, case))
    return None if took is None else float(results["cases"][case]["amount"] / took)
