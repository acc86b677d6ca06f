"""The figures to reach, each with what was measured of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tests.bench.cases import BARE, HELP, IDLE
from tests.bench.results import costs, middle, rate, ratio, values

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.bench.results import Results

MOST_MB: Final = 100


@dataclass(frozen=True, slots=True)
class Goal:
    """One figure: ``least`` or ``most`` of what ``measured`` finds; None where nothing was measured."""

    what: str
    measured: Callable[[Results], float | None]
    unit: str
    least: float | None = None
    most: float | None = None

    @property
    def asked(self) -> str:
        """In words."""
        return f"≥ {_number(self.least)}{self.unit}" if self.least else f"≤ {_number(self.most)}{self.unit}"

    def verdict(self, results: Results) -> tuple[str, str]:
        """What was measured, and whether it is enough."""
        found = self.measured(results)
        if found is None:
            return "not measured", ""
        enough = found >= self.least if self.least is not None else found <= (self.most or 0)
        return f"{_number(found)}{self.unit}", "met" if enough else "NOT MET"


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _times_of(case: str, peer: str) -> Callable[[Results], float | None]:
    """Our time as a part of the peer's."""

    def measured(results: Results) -> float | None:
        found = ratio(results, case, peer)
        return found and 1 / found

    return measured


def _as_fast(case: str, peer: str) -> Callable[[Results], float | None]:
    return lambda results: ratio(results, case, peer)


def _rate(case: str) -> Callable[[Results], float | None]:
    return lambda results: rate(results, case)


def _above_bare_ms(method: str) -> Callable[[Results], float | None]:
    def measured(results: Results) -> float | None:
        took, bare = middle(costs(results, "start", method)), middle(costs(results, "start", BARE))
        return None if took is None or bare is None else (took - bare) * 1000

    return measured


def _peaks_mb(results: Results) -> list[float]:
    methods: list[dict[str, Any]] = results["cases"].get("memory", {"methods": []})["methods"]
    return [max(values(one["costs"], "peak_mb")) for one in methods]


def _largest_mb(results: Results) -> float | None:
    return max(_peaks_mb(results), default=None)


def _growth_of_memory(results: Results) -> float | None:
    peaks = _peaks_mb(results)
    return (max(peaks) / min(peaks) - 1) * 100 if peaks else None


def _not_there(_results: Results) -> None:
    """What has not been built."""


_EACH: Final = "a connection each: psycopg, orjson, zipfile"
_STREAMING: Final = "SQLAlchemy, orjson, zipfile"
GOALS: Final = (
    Goal(
        "1M records to a zip, of the time of `psql … | igzip -1`",
        _times_of("big", "psql row_to_json | igzip -1"),
        " x",
        most=0.9,
    ),
    Goal(
        "the same, of the time of raw text to nowhere",
        _times_of("big", "psql, raw text to nowhere"),
        " x",
        most=1.25,
    ),
    Goal("the same, as fast as sling", _as_fast("big", "sling"), " x", least=9),
    Goal(
        "the same, as fast as the plain script",
        _as_fast("big", "psycopg fetchall, json, zipfile"),
        " x",
        least=11,
    ),
    Goal("the same, as fast as `psql … | zip`", _as_fast("big", "psql row_to_json | zip"), " x", least=3.8),
    Goal(
        "OCSF, filter, pseudonyms, as fast as SQLAlchemy + orjson + zipfile",
        _as_fast("ocsf", _STREAMING),
        " x",
        least=2,
    ),
    Goal("2,000 accounts x 500 to a directory", _rate("accounts"), " accounts/s", least=550),
    Goal("the same, as fast as a connection each", _as_fast("accounts", _EACH), " x", least=4),
    Goal("2,000 accounts x 500 to S3 over HTTP", _rate("s3"), " accounts/s", least=300),
    Goal("the same, as fast as a connection each", _as_fast("s3", _EACH), " x", least=4),
    Goal(
        "SQLite, 1M records, of the time of `sqlite3 json_object | igzip -1`",
        _times_of("sqlite", "sqlite3 json_object | igzip -1"),
        " x",
        most=0.95,
    ),
    Goal("peak memory at 1M and at 10M records", _largest_mb, " MB", most=MOST_MB),
    Goal("the larger of the two above the smaller", _growth_of_memory, " %", most=10),
    Goal("`--help`, above bare Python", _above_bare_ms(HELP), " ms", most=150),
    Goal("a run with nothing due, above bare Python", _above_bare_ms(IDLE), " ms", most=500),
    Goal("events to HEC", _rate("hec"), " events/s", least=150_000),
    Goal(
        "`verify` of 1 GB of archives, as fast as `unzip -p | sha256sum` (`verify` is not there yet)",
        _not_there,
        " x",
        least=0.8,
    ),
)
