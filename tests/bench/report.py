"""Results as tables: one for each case, and one with every goal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from tests.bench.goals import GOALS
from tests.bench.ours import NAME
from tests.bench.results import middle, ratio, values

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.bench.results import Results

Row = tuple[str, ...]
GOAL_HEAD: Final[Row] = ("Goal", "asked", "measured", "")
MB: Final = 1_000_000


def head(results: Results) -> str:
    """When, where and how much."""
    where = results["machine"]
    return (
        f"{results['date']}, {where['cores']} cores ({where['cpu']}), {where['memory_gb']} GB,"
        f" PostgreSQL {where['postgres']} on the same, Python {where['python']};"
        f" {results['runs']} interleaved runs at factor {results['factor']:g}, medians (and spread)"
    )


def columns_of(case: dict[str, Any]) -> Row:
    """The head of a case's table."""
    counted = (f"{case['unit']}/s",) if case["unit"] else ()
    json = ("MB of JSON/s",) if case["json_bytes"] else ()
    peers = (f"of {NAME}'s time",) if _has_peers(case) else ()
    return ("", "seconds", *counted, *json, "CPU s", "database's", "peak MB", *peers, "same records")


def rows_of(results: Results, case: dict[str, Any]) -> Iterator[Row]:
    """One row for each method."""
    for method in case["methods"]:
        took = middle(method["costs"]) or 0
        counted = (f"{case['amount'] / took:,.0f}",) if case["unit"] else ()
        json = (f"{case['json_bytes'] / took / MB:,.0f}",) if case["json_bytes"] else ()
        yield (
            _name(results, method),
            _spread(values(method["costs"]), took),
            *counted,
            *json,
            _shown(middle(method["costs"], "cpu_s"), 2),
            _shown(middle(method["costs"], "database_cpu_s"), 2),
            _shown(max(values(method["costs"], "peak_mb")), 0),
            *((_times(ratio(results, case["name"], method["name"])),) if _has_peers(case) else ()),
            method["same"] + (f"; {method['note']}" if method["note"] else ""),
        )


def _has_peers(case: dict[str, Any]) -> bool:
    return bool(case["unit"]) and len(case["methods"]) > 1


def _name(results: Results, method: dict[str, Any]) -> str:
    times = len(method["costs"])
    return method["name"] if times == results["runs"] else f"{method['name']} ({times} runs)"


def _spread(found: Sequence[float], took: float) -> str:
    return f"{took:.2f} ({min(found):.2f}-{max(found):.2f})"


def _shown(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def _times(value: float | None) -> str:
    return "" if value is None else f"{value:.2f} x"


def goal_rows(results: Results) -> Iterator[Row]:
    """Every goal: what, asked, measured, and at full size whether that is enough."""
    for goal in GOALS:
        found, verdict = goal.verdict(results)
        yield (goal.what, goal.asked, found, verdict if results["factor"] == 1 else "")


def text(header: Row, rows: Sequence[Row]) -> str:
    """A table for a terminal; the first column and the last are words, the others figures."""
    widths = [max(map(len, cells)) for cells in zip(header, *rows, strict=True)]
    return "\n".join(_line(row, widths) for row in (header, *rows))


def _line(row: Row, widths: Sequence[int]) -> str:
    first, *figures, last = row
    middle_ = "".join(f"  {cell:>{width}}" for cell, width in zip(figures, widths[1:-1], strict=True))
    return f"{first:<{widths[0]}}{middle_}  {last}".rstrip()


def markdown(header: Row, rows: Sequence[Row]) -> Iterator[str]:
    """The same for the README."""
    yield _cells(header)
    yield "|---|" + "---:|" * (len(header) - 2) + "---|"
    yield from map(_cells, rows)


def _cells(row: Row) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"


def show(results: Results, names: Sequence[str]) -> None:
    """Print the tables of these cases."""
    for name in names:
        case = results["cases"][name]
        print(f"\n{case['title']}\n{text(columns_of(case), list(rows_of(results, case)))}")


def show_goals(results: Results) -> None:
    """Print what was asked for, and what was measured."""
    if results["factor"] != 1:
        print(f"\nGoals are set for full size; this was {results['factor']:g} of it.")
    print(f"\n{text(GOAL_HEAD, list(goal_rows(results)))}")


def growth_rows(points: Sequence[dict[str, Any]], costs: str = "costs") -> list[Row]:
    """One row for each size."""
    return [
        (
            f"{point['x']:,}",
            _spread(values(point[costs]), middle(point[costs]) or 0),
            _shown(middle(point[costs], "cpu_s"), 2),
            _shown(middle(point[costs], "database_cpu_s"), 2),
            _shown(max(values(point[costs], "peak_mb")), 0),
            f"{len(point[costs])}",
        )
        for point in points
    ]


def show_growth(what: str, points: Sequence[dict[str, Any]]) -> None:
    """Print how the cost grew."""
    for costs in ("costs", "status"):
        if costs in points[0]:
            name = f"growth: {what}{', status' if costs == 'status' else ''}"
            header = (name, "seconds", "CPU s", "database's", "peak MB", "runs")
            print(f"\n{text(header, growth_rows(points, costs))}", flush=True)
