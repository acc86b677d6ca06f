"""Draws the figures of a benchmark as SVG: `plots.py FIGURES FOLDER`.

Run by the peers' Python, which has matplotlib and nothing of this repository.
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl  # type: ignore[import-not-found]  # in the peers' own environment
from matplotlib import pyplot as plt
from matplotlib.ticker import FuncFormatter  # type: ignore[import-not-found]  # same

OURS, PEER, GOAL, INK = "#1f6feb", "#a9b4c2", "#c2410c", "#24292f"
STYLE = {
    "svg.fonttype": "none",  # text stays text: small, and searchable
    "svg.hashsalt": "audit-exporter",  # the same figures make the same file
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.edgecolor": "#8c959f",
    "axes.labelcolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e9ed",
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
    "legend.frameon": False,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}
GOALS = {"psql row_to_json | igzip -1": 0.9, "psql, raw text to nowhere": 1.25}
"""What part of a peer's time ours may take."""

MOST_MB = 100
ACCOUNTS_PER_S = 550


def middle(costs: list[dict[str, float]], what: str = "wall_s") -> float:
    """The median of the runs."""
    return statistics.median(cost[what] for cost in costs)


def save(figure: Any, folder: Path, name: str) -> None:  # noqa: ANN401 - matplotlib's own
    """Without a date, so that the same figures make the same file."""
    for axes in figure.axes:
        axes.minorticks_off()  # of a logarithmic scale, most of the file
    figure.tight_layout()
    figure.savefig(folder / f"{name}.svg", bbox_inches="tight", metadata={"Date": None, "Creator": None})
    plt.close(figure)


def compared(case: dict[str, Any], folder: Path) -> None:
    """A bar for each method, the quickest on top."""
    ours = case["methods"][0]["name"]
    bars = sorted(((middle(one["costs"]), one["name"]) for one in case["methods"]), reverse=True)
    figure, axes = plt.subplots(figsize=(8, 0.34 * len(bars) + 1))
    names = [name for _, name in bars]
    drawn = axes.barh(
        names,
        [took for took, _ in bars],
        color=[OURS if name == ours else PEER for name in names],
        height=0.7,
    )
    axes.bar_label(drawn, labels=[f"{took:.3g} s" for took, _ in bars], padding=4, fontsize=9)
    most = min(part * middle(one["costs"]) for one in case["methods"] if (part := GOALS.get(one["name"])))
    axes.axvline(most, color=GOAL, linewidth=1, linestyle="--")
    axes.annotate(
        f"goal: {most:.3g} s",
        (most, 1),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        xytext=(3, -2),
        color=GOAL,
        fontsize=9,
    )
    axes.set_xlabel("seconds")
    axes.set_title(case["title"], pad=14)
    axes.grid(visible=False, axis="y")
    axes.margins(x=0.1)
    save(figure, folder, case["name"])


def line(axes: Any, points: list[dict[str, Any]], costs: str, label: str, **how: Any) -> None:  # noqa: ANN401 - matplotlib's own
    """The medians, and the spread as a band."""
    xs = [point["x"] for point in points]
    walls = [[cost["wall_s"] for cost in point[costs]] for point in points]
    axes.plot(xs, [statistics.median(wall) for wall in walls], "o-", markersize=4, label=label, **how)
    low, high = [min(wall) for wall in walls], [max(wall) for wall in walls]
    axes.fill_between(xs, low, high, alpha=0.15, linewidth=0, **how)


def in_proportion(axes: Any, points: list[dict[str, Any]]) -> None:  # noqa: ANN401 - matplotlib's own
    """What time would be if it were nothing but proportional, from the largest size down."""
    last = points[-1]
    slope = middle(last["costs"]) / last["x"]
    least = min(middle(point["costs"]) for point in points)
    ends = [max(points[0]["x"], least / slope), last["x"]]
    axes.plot(ends, [slope * x for x in ends], ":", color=INK, linewidth=1, label="in proportion")
    axes.legend(loc="upper left")


def goal(axes: Any, y: float, text: str) -> None:  # noqa: ANN401 - matplotlib's own
    """What was asked for, as a line across."""
    axes.axhline(y, color=GOAL, linewidth=1, linestyle="--")
    axes.annotate(
        text,
        (0.01, y),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        xytext=(0, 3),
        color=GOAL,
        fontsize=9,
    )


def counted(axis: Any) -> None:  # noqa: ANN401 - matplotlib's own
    """Whole numbers with their thousands."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}"))


def time_and(points: list[dict[str, Any]], of: str) -> tuple[Any, Any]:
    """A figure with the time of a run, and axes for something else, both over the size of the same thing."""
    figure, (time, other) = plt.subplots(1, 2, figsize=(9, 3.1))
    line(time, points, "costs", "measured", color=OURS)
    time.set(xscale="log", yscale="log", xlabel=of, ylabel="seconds", title="Time of a run")
    in_proportion(time, points)
    other.set(xscale="log", xlabel=of)
    for axis in (time.xaxis, time.yaxis, other.xaxis):
        counted(axis)
    return figure, other


def over_a_goal(axes: Any, points: list[dict[str, Any]], ys: list[float], most: float, text: str) -> None:  # noqa: ANN401 - matplotlib's own
    """A line from nought on, with what was asked for."""
    axes.plot([point["x"] for point in points], ys, "o-", markersize=4, color=OURS)
    axes.set_ylim(0, max(most, *ys) * 1.2)
    goal(axes, most, text)


def of_records(points: list[dict[str, Any]], folder: Path) -> None:
    """Time in proportion, memory flat."""
    figure, memory = time_and(points, "records of one account")
    peaks = [max(cost["peak_mb"] for cost in point["costs"]) for point in points]
    memory.set(ylabel="MB", title="Peak memory")
    over_a_goal(memory, points, peaks, MOST_MB, f"goal: {MOST_MB} MB")
    save(figure, folder, "growth-records")


def of_accounts(points: list[dict[str, Any]], folder: Path) -> None:
    """Time, and accounts in a second."""
    figure, rate = time_and(points, "accounts of 50 records")
    rates = [point["x"] / middle(point["costs"]) for point in points]
    rate.set(ylabel="accounts/s", title="Accounts in a second")
    text = f"goal for accounts of 500 records: {ACCOUNTS_PER_S}/s"
    over_a_goal(rate, points, rates, ACCOUNTS_PER_S, text)
    save(figure, folder, "growth-accounts")


def of_ledger(points: list[dict[str, Any]], folder: Path) -> None:
    """What a year of deliveries does to a run that has nothing to do, and to `status`."""
    figure, axes = plt.subplots(figsize=(5.5, 3.1))
    line(axes, points, "costs", "run, nothing due", color=OURS)
    line(axes, points, "status", "status", color="#6e7781")
    axes.set(
        xscale="log",
        xlabel="windows that every export has delivered",
        ylabel="seconds",
        title="With an old ledger",
    )
    axes.set_ylim(bottom=0)
    counted(axes.xaxis)
    axes.legend()
    save(figure, folder, "growth-ledger")


def of_workers(points: list[dict[str, Any]], folder: Path) -> None:
    """The same work by more workers."""
    figure, axes = plt.subplots(figsize=(5.5, 3.1))
    line(axes, points, "costs", "measured", color=OURS)
    axes.set(xlabel="workers", ylabel="seconds", title="Small accounts, by more workers")
    axes.set_xticks([point["x"] for point in points])
    axes.set_ylim(bottom=0)
    save(figure, folder, "growth-workers")


GROWTH = {"records": of_records, "accounts": of_accounts, "ledger": of_ledger, "workers": of_workers}


def main() -> None:
    """Draw what the figures have."""
    figures, folder = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    mpl.use("svg")
    plt.rcParams.update(STYLE)
    if "big" in figures["cases"]:
        compared(figures["cases"]["big"], folder)
    for name, points in figures["growth"].items():
        GROWTH[name](points, folder)


if __name__ == "__main__":
    main()
