"""The ledger's values as table rows and back. Every field by name, so that a forgotten one fails."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

from exporter.ledger.storage import Kept, RunRecord
from exporter.model import (
    Attempt,
    BadKind,
    BadRecord,
    Content,
    Export,
    Failure,
    Lane,
    LaneKind,
    Outcome,
    Plan,
    PlanState,
    Range,
    Rendering,
    SealedWindow,
    Stamp,
    Window,
    flat_mapping,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from exporter.ledger.kinds import Row
    from exporter.model import Json, Key

MAPPING_ID: Final = "mapping_id"

# Looked up, because to call an enumeration takes as long as all the rest of a row.
_LANE_KINDS: Final = {str(kind): kind for kind in LaneKind}
_PLAN_STATES: Final = {str(state): state for state in PlanState}
_OUTCOMES: Final = {str(outcome): outcome for outcome in Outcome}


@cache
def _reader(
    kind: type, without: tuple[str, ...]
) -> tuple[tuple[str, ...], Callable[[object], tuple[Any, ...]]]:
    names = tuple(name for name in kind.__slots__ if name not in without)  # type: ignore[attr-defined]
    return names, attrgetter(*names)


def reader_of(
    value: object, *, without: tuple[str, ...] = ()
) -> tuple[tuple[str, ...], Callable[[object], tuple[Any, ...]]]:
    """The names of a value's fields, and what reads all of them at once."""
    return _reader(type(value), without)  # type: ignore[arg-type] # mypy takes a class for unhashable


def _plain(value: object, *, without: tuple[str, ...] = ()) -> Row:
    names, values_of = reader_of(value, without=without)
    return dict(zip(names, values_of(value), strict=True))


def _key(value: list[Any] | None) -> Key | None:
    return None if value is None else (value[0], value[1])


def _stamp(row: Row) -> Stamp | None:
    time, number = row.pop("stamp_time"), row.pop("stamp_number")
    return None if time is None else Stamp(time, number)


COLUMNS: Final[Mapping[str, tuple[str, ...]]] = {
    "stamp": ("stamp_time", "stamp_number"),
    "failure": ("failure", "failure_hint", "failed_at"),
}
"""Where an export's fields are that are not in a column of their name."""


def export_row(export: Export) -> Row:
    """An export as a row of `exports`."""
    stamp, failure = export.stamp, export.failure
    return {
        **_plain(export, without=("stamp", "failure")),
        "stamp_time": stamp.time if stamp else None,
        "stamp_number": stamp.number if stamp else None,
        "failure": failure.message if failure else None,
        "failure_hint": failure.hint if failure else None,
        "failed_at": failure.at if failure else None,
    }


def export_of(fields: Row) -> Export:
    """The export that a row of `exports` holds."""
    message, hint, at = fields.pop("failure"), fields.pop("failure_hint"), fields.pop("failed_at")
    failure = None if message is None else Failure(message, hint, at)
    return Export(stamp=_stamp(fields), failure=failure, **fields)


def lane_row(lane: Lane) -> Row:
    """A lane as a row of `lanes`."""
    return _plain(lane)


def lane_of(fields: Row) -> Lane:
    """The lane that a row of `lanes` holds."""
    fields["kind"] = _LANE_KINDS[fields["kind"]]
    fields["last_key"] = _key(fields["last_key"])
    fields["sequences"] = tuple(fields["sequences"])
    fields["requested"] = tuple(fields["requested"])
    return Lane(**fields)


def plan_row(plan: Plan, mapping_id: str | None) -> Row:
    """A plan as a row of `plans`, which names its mapping, if it has one, by its id."""
    rendering = _plain(plan.rendering, without=("mapping",))
    named = {"mapping": None} if mapping_id is None else {MAPPING_ID: mapping_id}
    return {
        **_plain(plan, without=("range", "rendering", "stamp", "content")),
        "account": plan.range.account,
        "window_start": plan.range.window.start,
        "window_end": plan.range.window.end,
        "previous_seal": plan.range.previous,
        "seal": plan.range.seal,
        "first_window": plan.range.first,
        "after_key": plan.range.after,
        "last_key": plan.range.last,
        "rendering": {**rendering, **named},
        "stamp_time": plan.stamp.time,
        "stamp_number": plan.stamp.number,
        "content": _plain(plan.content),
    }


def mapping_ids(rows: Iterable[Row]) -> set[str]:
    """Which mappings these rows of `plans` name."""
    renderings = [row["rendering"] for row in rows]
    return {rendering[MAPPING_ID] for rendering in renderings if MAPPING_ID in rendering}


def plan_of(fields: Row, mappings: Mapping[str, Json]) -> Plan:
    """The plan that a row of `plans` holds, with its mapping."""
    range_ = Range(
        account=fields.pop("account"),
        window=Window(fields.pop("window_start"), fields.pop("window_end")),
        seal=fields.pop("seal"),
        previous=fields.pop("previous_seal"),
        first=fields.pop("first_window"),
        after=_key(fields.pop("after_key")),
        last=_key(fields.pop("last_key")),
    )
    stamp = Stamp(fields.pop("stamp_time"), fields.pop("stamp_number"))
    fields["reached"] = _key(fields["reached"])
    fields["state"] = _PLAN_STATES[fields["state"]]
    fields["hashes"] = tuple(fields["hashes"])
    fields["content"] = Content(**fields["content"])
    fields["rendering"] = _rendering_of(fields["rendering"], mappings)
    return Plan(range=range_, stamp=stamp, **fields)


def plan_at(plan: Plan, fields: Row) -> Plan:
    """An open plan as far as this row of `plans` has it."""
    reached, sent, refused = _key(fields["reached"]), fields["sent"], fields["refused"]
    if (reached, sent, refused) == (plan.reached, plan.sent, plan.refused):
        return plan
    return replace(plan, reached=reached, sent=sent, refused=refused)


def _rendering_of(value: Mapping[str, Any], mappings: Mapping[str, Json]) -> Rendering:
    settings = dict(value)
    if MAPPING_ID in settings:
        return Rendering(mapping=mappings[settings.pop(MAPPING_ID)], **settings)
    if "fields" not in settings:
        return Rendering(**settings)
    triples = settings.pop("fields")  # of a ledger of version 1, which knew mappings of one level alone
    flat = triples and flat_mapping({name: (how, column) for name, how, column in triples})
    return Rendering(mapping=flat, **settings)


def attempt_row(attempt: Attempt) -> Row:
    """An attempt as a row of `attempts`."""
    return {**_plain(attempt), "content": _plain(attempt.content)}


def attempt_of(fields: Row) -> Attempt:
    """The attempt that a row of `attempts` holds."""
    del fields["number"]
    fields["content"] = Content(**fields["content"])
    fields["outcome"] = _OUTCOMES[fields["outcome"]]
    return Attempt(**fields)


def window_row(window: SealedWindow) -> Row:
    """A sealed window as a row of `windows`."""
    return _plain(window)


def window_of(fields: Row) -> SealedWindow:
    """The sealed window that a row of `windows` holds."""
    del fields["number"]
    return SealedWindow(**fields)


def bad_record_row(plan_id: str, record: BadRecord) -> Row:
    """A bad record as a row of `bad_records`."""
    return {"plan": plan_id, **_plain(record)}


def bad_record_of(fields: Row) -> BadRecord:
    """The bad record that a row of `bad_records` holds."""
    del fields["number"], fields["plan"]
    fields["kind"] = BadKind(fields["kind"])
    return BadRecord(**fields)


def kept_of(fields: Row) -> Kept:
    """The same, with its row and its plan's sequence number."""
    return Kept(fields["number"], fields.pop("sequence"), bad_record_of(fields))


def run_row(run: RunRecord) -> Row:
    """A run as a row of `runs`."""
    return _plain(run)


def run_of(fields: Row) -> RunRecord:
    """The run that a row of `runs` holds."""
    return RunRecord(**fields)
