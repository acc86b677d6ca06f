"""Methods of doing one thing, measured in turn, and what came out of it."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from tests.bench.measure import measure
from tests.bench.records import Sum, sum_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from tests.bench.records import Record


@dataclass(frozen=True, slots=True)
class Method:
    """One way to do it: prepared without being measured, then run as a whole process.

    ``output`` reads what it wrote; None where nothing is left to compare, with the reason in ``note``.
    ``check`` is told the log of the first run. ``runs`` limits how often a slow one is run.
    """

    name: str
    command: Callable[[], Sequence[str]]
    prepare: Callable[[], None] = lambda: None
    output: Callable[[], Iterator[Record]] | None = None
    check: Callable[[Path], None] | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    runs: int | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Case:
    """What several methods do, ours first: so many records, accounts or events (the ``unit``; empty: none).

    ``json_bytes`` is told after the first round; ``postmaster`` is the database's process, if it has one.
    """

    name: str
    title: str
    amount: int
    unit: str
    methods: Sequence[Method]
    expected: Callable[[], Sum] | None = None
    json_bytes: Callable[[], int] | None = None
    postmaster: int | None = None


@contextmanager
def progress(what: str) -> Iterator[None]:
    """Say on a terminal what is being done, until it is."""
    if sys.stderr.isatty():
        print(f"\r\033[K  {what}", end="", file=sys.stderr, flush=True)
    try:
        yield
    finally:
        if sys.stderr.isatty():
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def compare(case: Case, runs: int, folder: Path) -> dict[str, Any]:
    """Run every method in turn, again and again; what the first round wrote has to be what is expected."""
    costs: dict[str, list[dict[str, Any]]] = {method.name: [] for method in case.methods}
    same: dict[str, str] = {}
    json_bytes = 0
    log = folder / "log"
    for number in range(runs):
        for method in case.methods:
            if number >= (method.runs or runs):
                continue
            with progress(f"{case.title}: {method.name}, {number + 1}"):
                method.prepare()
                cost = measure(method.command(), log, method.env, case.postmaster)
                costs[method.name].append(asdict(cost))
                if number == 0:
                    same[method.name] = _compared(case, method, log)
        if number == 0 and case.json_bytes:
            json_bytes = case.json_bytes()
    return {
        "name": case.name,
        "title": case.title,
        "amount": case.amount,
        "unit": case.unit,
        "json_bytes": json_bytes,
        "methods": [
            {"name": one.name, "note": one.note, "same": same[one.name], "costs": costs[one.name]}
            for one in case.methods
        ],
    }


def _compared(case: Case, method: Method, log: Path) -> str:
    """`yes`, `not compared`, or how it differs; ours must not. Raises SystemExit if it does."""
    if method.check:
        method.check(log)
    if method.output is None or case.expected is None:
        return "yes" if method.check else "not compared"
    wanted, found = case.expected(), sum_of(method.output())
    if found == wanted:
        return "yes"
    difference = (
        f"no: {found.count:,} of {wanted.count:,}" if found.count != wanted.count else "no: values differ"
    )
    if method is case.methods[0]:
        raise SystemExit(
            f"{case.title}: the output of {method.name} is not what the source holds ({difference})"
        )
    return difference
