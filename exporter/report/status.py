"""Where every export stands: watermark, lag, last delivery, open plan, last error, what to do.

It must not ask the source or a destination: what the ledger remembers can always be shown.
"""

from __future__ import annotations

import shlex
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from exporter import schedule
from exporter.ledger.rules import resume_hint
from exporter.model import LIVE_LANE, LaneKind
from exporter.report.console import shown
from exporter.report.counts import number, withheld
from exporter.report.tables import show_table
from exporter.runner import has_more

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from rich.console import Console

    from exporter.config import ConfigProblem
    from exporter.ledger.rules import Standing
    from exporter.ledger.storage import RunRecord
    from exporter.model import Lane, Plan
    from exporter.pipeline import Job


@dataclass(frozen=True, slots=True)
class Row:
    """One export's state, in a word and in times; several of the three marks may hold at once."""

    export: str
    account: str
    state: str
    stopped: bool = False
    blocked: bool = False
    paused: bool = False
    watermark: datetime | None = None
    lag_s: int = 0  # since the end of the first window that is over and not delivered
    next_window_end: datetime | None = None
    delivered_at: datetime | None = None
    last_object: str = ""
    sequence: int = 0
    open_plan: str = ""
    open_since: datetime | None = None
    attempts: int = 0
    retry_at: datetime | None = None
    requests: tuple[str, ...] = ()
    error: str = ""
    error_at: datetime | None = None
    alarm: str = ""  # what else a person has to look at, a line each; deliveries go on
    what_to_do: str = ""
    filtered: int = 0  # records that its filter left out, since its begin
    protected: Mapping[str, int] = field(default_factory=dict)  # values, by what was done, since its begin
    waiting: int = 0  # events that its destination refused and nobody has sent again


def rows(
    jobs: Iterable[Job],
    problems: Iterable[ConfigProblem],
    standings: Mapping[str, Standing],
    now: datetime,
    unread: ConfigProblem | None = None,
) -> list[Row]:
    """Every configured export, right or wrong, then those that only the ledger knows.

    ``unread`` says why it is not known of all whether they are configured.
    """
    found = [_guarded(job, standings.get(job.name), now) for job in sorted(jobs, key=lambda job: job.name)]
    found += [_skipped(problem, standings.get(problem.export)) for problem in problems]
    configured = {row.export for row in found}
    return found + [_orphan(standings[name], unread) for name in sorted(set(standings) - configured)]


def _guarded(job: Job, standing: Standing | None, now: datetime) -> Row:
    """One odd export never keeps the others from being seen."""
    if standing is None:
        return Row(job.name, job.account, "not begun", what_to_do="audit-exporter run")
    try:
        return _row(job, standing, now)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is this export's alone
        said = f"its state cannot be shown: {type(error).__name__}"
        return Row(job.name, job.account, "unclear", error=said, what_to_do="please report this")


def _skipped(problem: ConfigProblem, standing: Standing | None) -> Row:
    row = _known(standing) if standing else Row(problem.export, "", "")
    return replace(row, state="skipped", error=problem.message, what_to_do=problem.hint)


def _orphan(standing: Standing, unread: ConfigProblem | None) -> Row:
    if unread is not None:
        return replace(_known(standing), state="unknown", error=unread.message, what_to_do=unread.hint)
    hint = "put it back into the configuration, or leave it: nothing is delivered for it"
    return replace(_known(standing), state="not configured", what_to_do=hint)


def _row(job: Job, standing: Standing, now: datetime) -> Row:
    lane = standing.live
    window_end = lane.open_end or schedule.next_boundary(lane.watermark, job.every, job.zone)
    state, hint = _state(job, standing, now)
    return replace(
        _known(standing),
        state=state,
        lag_s=max(0, int((now - job.grace - window_end).total_seconds())),
        next_window_end=window_end,
        what_to_do=hint,
    )


def _known(standing: Standing) -> Row:
    """What the ledger alone can say of an export."""
    export, plan, failure = standing.export, standing.open_plan, standing.export.failure
    return Row(
        export=export.name,
        account=export.account,
        state="",
        stopped=bool(export.stopped),
        blocked=export.blocked_until is not None,
        paused=export.paused,
        watermark=standing.live.watermark,
        delivered_at=export.delivered_at,
        last_object=export.object_name,
        sequence=export.sequence,
        open_plan=_plan(plan) if plan else "",
        open_since=plan.created_at if plan else None,
        attempts=export.tries,
        retry_at=export.blocked_until,
        requests=tuple(_request(lane) for lane in standing.lanes if not lane.done and lane.id != LIVE_LANE),
        error=export.stopped or (failure.message if failure else ""),
        error_at=failure.at if failure else None,
        alarm=export.alarm,
        filtered=export.filtered,
        protected=export.protected,
        waiting=standing.waiting,
    )


def _plan(plan: Plan) -> str:
    """The name of a plan's object; of events, how far they are in."""
    return plan.name or f"{plan.sent:,} of {number(plan.content.count, 'event')} sent"


def _state(job: Job, standing: Standing, now: datetime) -> tuple[str, str]:
    """The state in one or two words, and what a person does about it: of all that hold, the first."""
    export = standing.export
    hint = export.failure.hint if export.failure else ""
    resume = f"audit-exporter resume {export.name}"
    states = (
        (export.stopped, "stopped", resume_hint(export.name)),
        (export.paused, "paused", resume),
        (export.blocked_until, "blocked", hint or f"audit-exporter run --export {export.name}"),
        (export.failure, "failing", hint),
        (export.alarm, "alarm", f"look into it, then run: {resume}"),
        (has_more(job, standing, now), "due", "audit-exporter run"),
        (True, "up to date", ""),
    )
    return next((state, what_to_do) for holds, state, what_to_do in states if holds)


def as_json(found: list[Row], last_run: RunRecord | None) -> dict[str, Any]:
    """Everything, for machines; times are RFC 3339 in UTC."""
    return {"exports": [asdict(row) for row in found], "last_run": last_run and asdict(last_run)}


def show(console: Console, found: list[Row], last_run: RunRecord | None) -> None:
    """A table of all exports, then what each one that needs attention says."""
    show_table(console, HEADINGS, [_line(row) for row in found], foldable=("Export", "State"))
    for row in found:
        _show_attention(console, row)
        _show_withheld(console, row)
    if last_run is not None and last_run.error:
        console.print(f"\nThe last run, {_time(last_run.started_at)}, stopped: {shown(last_run.error)}")
        _show_what_to_do(console, last_run.hint)


HEADINGS = ("Export", "State", "Watermark", "Lag", "Last delivery", "Open plan")


def _line(row: Row) -> tuple[str, ...]:
    open_plan = f"{row.sequence:,}" if row.open_plan else "-"
    watermark = _time(row.watermark) if row.watermark and row.watermark.second else _minute(row.watermark)
    times = watermark, _span(row.lag_s), _minute(row.delivered_at)
    return row.export, row.state, *times, open_plan


def _show_attention(console: Console, row: Row) -> None:
    """What is wrong with an export, what is under way in it, and what a person can do."""
    quiet = row.state in ("up to date", "due", "not begun") and not row.error
    if quiet and not (row.alarm or row.open_plan or row.requests):
        return
    since = f" ({_time(row.error_at)})" if row.error_at else ""
    says = f": {shown(row.error)}{since}" if row.error else ""
    console.print(f"\n[bold]{shown(row.export)}[/] {_is(row.state)}{says}")
    if row.open_plan:
        console.print(f"  open plan: {row.sequence:,}, since {_time(row.open_since)}: {shown(row.open_plan)}")
    if row.retry_at is not None:
        attempts = f"{row.attempts:,} attempt{'s' if row.attempts != 1 else ''}"
        at_once = f"audit-exporter run --export {shown(row.export)}"
        console.print(f"  {attempts} so far; the next after {_time(row.retry_at)}, or at once: {at_once}")
    for request in row.requests:
        console.print(f"  unfinished request; finish it with: {shown(request)}")
    for line in row.alarm.splitlines():
        console.print(f"  alarm: {shown(line)}")
    _show_what_to_do(console, row.what_to_do)


def _show_withheld(console: Console, row: Row) -> None:
    """What of an export did not leave, or not as it was."""
    if said := withheld(row.filtered, row.protected):
        console.print(f"\n[bold]{shown(row.export)}[/]: {shown(said)}")
    if row.waiting:
        console.print(f"\n[bold]{shown(row.export)}[/]: {number(row.waiting, 'event')} refused and kept")
        console.print(f"  what to do: audit-exporter resend --export {shown(shlex.quote(row.export))}")


def _request(lane: Lane) -> str:
    """An unfinished request as the command that finishes it."""
    name = shlex.quote(lane.export)
    if lane.kind is LaneKind.REPLAY:
        return f"audit-exporter replay --export {name} --seq {_spans(lane.requested)}"
    redeliver = " --redeliver" if lane.redeliver else ""
    return (
        f"audit-exporter backfill --export {name} --from {lane.start:%Y-%m-%dT%H:%M:%SZ}"
        f" --to {lane.until:%Y-%m-%dT%H:%M:%SZ}{redeliver}"
    )


def _spans(numbers: tuple[int, ...]) -> str:
    """Sequence numbers as `--seq` takes them: neighbours as one span."""
    spans: list[list[int]] = []
    for one in numbers:
        if spans and spans[-1][-1] + 1 == one:
            spans[-1][1:] = [one]
        else:
            spans.append([one])
    return ",".join("..".join(map(str, span)) for span in spans)


def _is(state: str) -> str:
    return "has an alarm" if state == "alarm" else f"is {state}"


def _show_what_to_do(console: Console, hint: str) -> None:
    if hint:
        console.print(f"  what to do: {shown(hint)}")


def _time(moment: datetime | None) -> str:
    return "-" if moment is None else f"{moment:%Y-%m-%d %H:%M:%SZ}"


def _minute(moment: datetime | None) -> str:
    """Short, for the table has to fit into 80 columns; a watermark within a minute is written whole."""
    return "-" if moment is None else f"{moment:%Y-%m-%d %H:%MZ}"


def _span(seconds: int) -> str:
    if not seconds:
        return "-"
    for size, letter in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds >= 2 * size:
            return f"{seconds // size}{letter}"
    return f"{seconds}s"
