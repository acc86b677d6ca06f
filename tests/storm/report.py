"""A storm's report in words and columns for a person."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.storm import verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tests.storm.storm import Report
    from tests.storm.verdict import Judgement


def text(report: Report) -> str:
    """Everything, ending in what is wrong or that nothing is."""
    return "\n".join([*_lines(report), ""])


def _lines(report: Report) -> Iterator[str]:
    speed = f"{report.rows / report.writing_s:,.0f} rows/s"
    rest_s = report.seconds - report.writing_s
    yield f"{report.rows:,} rows in {report.writing_s:.1f} s, {speed}; all delivered {rest_s:.1f} s later"
    yield "  " + _counts(report.tally)
    for name, (account, judgements) in report.variants.items():
        objects = sum(judgement.objects for judgement in judgements)
        yield f"{name}: {objects:,} objects; runs by exit status: {_counts(account.statuses)}"
        yield "  " + _counts(_sums(judgements, (*verdict.DELIVERED, *verdict.LEFT_OUT)))
        yield "  " + _counts(_sums(judgements, verdict.FAULTS))
    for name, (owed, lost) in report.naive.items():
        yield f"a naive reader by {name}: {lost:,} of {owed:,} lost, {100 * lost / max(1, owed):.2f} %"
    yield from report.faults or ["nothing lost, nothing doubled, nothing changed"]


def _sums(judgements: Sequence[Judgement], what: Sequence[str]) -> Mapping[str, int]:
    return {one: sum(judgement.counts[one] for judgement in judgements) for one in what}


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{what} {count:,}" for what, count in counts.items())
