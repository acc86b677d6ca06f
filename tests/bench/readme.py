"""The benchmark's part of the README: `python -m tests.bench.readme` writes it anew from `results.json`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.bench.report import GOAL_HEAD, columns_of, goal_rows, head, markdown, rows_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.bench.results import Results

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parents[1]
README: Final = ROOT / "README.md"
RESULTS: Final = HERE / "results.json"
PLOTS: Final = HERE / "plots"
BEGIN: Final = "<!-- benchmark: written by `python -m tests.bench.readme` -->\n"
END: Final = "<!-- /benchmark -->"
SHOWN: Final = {
    "big": "every method at the large account",
    "growth-records": "time and memory, by records",
    "growth-accounts": "time, by accounts",
    "growth-ledger": "a run with nothing due and status, by age of the ledger",
    "growth-workers": "time, by workers",
}


def written(text: str, results: Results) -> str:
    """The README with its part as the results have it; raises SystemExit where it has no such part."""
    if BEGIN not in text or END not in text:
        raise SystemExit(f"README.md has no place for it; put there:\n{BEGIN}{END}")
    content = "\n".join(_lines(results))
    return re.sub(
        f"(?<={re.escape(BEGIN)}).*?(?={re.escape(END)})", lambda _: f"{content}\n", text, flags=re.DOTALL
    )


def _lines(results: Results) -> Iterator[str]:
    yield f"{head(results)}.\n"
    yield from markdown(GOAL_HEAD, list(goal_rows(results)))
    yield from _plots(("big",))
    for case in results["cases"].values():
        yield f"\n<details><summary>{case['title']}</summary>\n"
        yield from markdown(columns_of(case), list(rows_of(results, case)))
        yield "\n</details>"
    yield from _plots([name for name in SHOWN if name != "big"])


def _plots(names: tuple[str, ...] | list[str]) -> Iterator[str]:
    for name in names:
        if (PLOTS / f"{name}.svg").exists():
            yield f"\n![{SHOWN[name]}]({(PLOTS / name).relative_to(ROOT)}.svg)"


if __name__ == "__main__":
    found = json.loads(RESULTS.read_text(encoding="utf-8"))
    README.write_text(written(README.read_text(encoding="utf-8"), found), encoding="utf-8")
