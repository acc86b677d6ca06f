"""What a consumer's setup depends on: where an export's objects lie, their names, what is in a record.

It reads the rendering as a plan holds it, so that it speaks of what is really written. It must not know a
configuration, nor hold a secret: of a destination there are the settings that may be printed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from exporter.archive import suffix
from exporter.keys import account_folder

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from exporter.model import Rendering

SHOWN: Final = (
    *("bucket", "region", "endpoint_url", "path_style", "kms_key", "container", "account_url", "path"),
    *("url", "index", "source", "sourcetype", "host", "acknowledge"),
)
"""The settings of a destination that no driver has for a secret."""

NOTATIONS: Final = {
    "instant": "rfc3339",  # as version 1 of the ledger called it
    "rfc3339": "rfc3339",
    "epoch": "epoch",
    "epoch_s": "epoch_s",
    "epoch_ms": "epoch_ms",
}
"""How a time is written, by the conversion that writes it."""

_OF_UNIT: Final = {None: "", "s": "epoch_s", "ms": "epoch_ms"}
"""How a time is written that goes out as the source has it."""


_MIXED: Final = ("string", "dynamic")
"""The type of a field that never has a value, and of one with values of several types."""


@dataclass(frozen=True, slots=True)
class TimeField:
    """The field with a record's time: the names that lead to it, and its notation, empty if nobody knows."""

    path: tuple[str, ...]
    notation: str


@dataclass(frozen=True, slots=True)
class Origin:
    """What is known of the source: its time column, what one of its numbers counts, and all columns.

    Without a ``unit`` times are no numbers; ``columns`` are none where nobody could ask the source.
    """

    time: str
    columns: Sequence[str] = ()
    unit: str | None = None


@dataclass(frozen=True, slots=True)
class Pace:
    """How much of JSON an object holds at most, and how old its oldest record is when it is due."""

    part_limit_bytes: int = 2**30
    age: timedelta = timedelta(hours=4)


@dataclass(frozen=True, slots=True)
class Delivery:
    """One export's deliveries, as a reader meets them.

    ``kind`` is the destination's type and ``settings`` what may be shown of it. Names lie in ``folder`` and
    end in ``suffix``. ``fields`` are the names at the top of a record, with a type of Azure Monitor each.
    ``is_aws`` says of S3 whether it is Amazon's. Events have no folder and no suffix. ``reader`` is the
    consumer whose setup is being written, if any.
    """

    export: str
    account: str
    kind: str
    settings: Mapping[str, str]
    is_aws: bool
    folder: str
    suffix: str
    archive: str
    body: str
    line: str
    max_record_bytes: int
    format: str
    fields: Mapping[str, str]
    time: TimeField | None
    pace: Pace = Pace()
    reader: str = ""

    @property
    def is_events(self) -> bool:
        """Whether there are events in place of objects."""
        return not self.suffix


def delivery_of(
    export: str,
    account: str,
    destination: Mapping[str, object],
    rendering: Rendering,
    origin: Origin,
    pace: Pace = Pace(),
) -> Delivery:
    """An export as its readers meet it.

    Raises ValueError if the account cannot be in a name.
    """
    fields = list(_leaves(rendering.mapping, origin.columns))
    return Delivery(
        export=export,
        account=account,
        kind=str(destination["type"]),
        settings={key: str(destination[key]) for key in SHOWN if destination.get(key) not in (None, "")},
        is_aws=bool(destination.get("is_aws", True)),
        folder="" if rendering.is_events else account_folder(str(destination.get("prefix") or ""), account),
        suffix="" if rendering.is_events else suffix(rendering.archive, rendering.body),
        archive=rendering.archive,
        body=rendering.body,
        line=str(_member(rendering.mapping, "line") or "json"),
        max_record_bytes=rendering.max_record_bytes,
        format=rendering.format,
        fields=_types(fields),
        # The name of a native time is known, also where the source is not.
        time=_time(fields or [((origin.time,), ["column", origin.time])], origin),
        pace=pace,
    )


def needs_columns(rendering: Rendering) -> bool:
    """Whether the names in a record are those of the source's columns."""
    return bool((_member(rendering.mapping, "fields") or ["all"])[0] == "all")


def _member(mapping: Any, key: str) -> Any:  # noqa: ANN401 - the bound form is nested lists, of any depth
    return mapping[key] if isinstance(mapping, dict) and key in mapping else None


def _leaves(mapping: Any, columns: Iterable[str]) -> Iterator[tuple[tuple[str, ...], Any]]:  # noqa: ANN401 - as above
    """The way to each value of a record, and the expression behind it."""
    fields = _member(mapping, "fields") or ["all"]
    if fields[0] == "all":
        return iter([((column,), ["column", column]) for column in columns])
    return ((path, leaf) for path, leaf in _walk(fields) if path)


def _walk(expression: Any) -> Iterator[tuple[tuple[str, ...], Any]]:  # noqa: ANN401 - as above
    match expression:
        case ["object", [*pairs]] if pairs:
            for name, inner in pairs:
                yield from (((name, *path), leaf) for path, leaf in _walk(inner))
        case ["match", _, [*branches]]:
            for _, inner in branches:
                yield from _walk(inner)
        case ["first", [*choices]]:
            for inner in choices:
                yield from _walk(inner)
        case _:
            yield (), expression


def _types(fields: Iterable[tuple[tuple[str, ...], Any]]) -> dict[str, str]:
    """The type of each field at the top: one that takes what every branch of the format can give."""
    kinds: dict[str, set[str]] = {}
    for path, leaf in fields:
        of_field = kinds.setdefault(path[0], set())
        if leaf != ["const", "null"]:
            of_field.add("dynamic" if len(path) > 1 else _type(leaf))
    return {
        name: next(iter(found)) if len(found) == 1 else _MIXED[bool(found)] for name, found in kinds.items()
    }


def _type(leaf: Sequence[Any]) -> str:
    """The type of Azure Monitor that takes every value which this expression can have."""
    match leaf:
        case ["column", _, *conversions] if conversions:
            kinds = {"epoch_s": "long", "epoch_ms": "long", "epoch": "real", "number": "real"}
            last = str(conversions[-1])
            return kinds.get(last, "dynamic" if last in {"json", "value"} else "string")
        case ["const", str(text)] if text.startswith('"'):
            return "string"
        case ["const", str(text)] if text.lstrip("-").isdigit():
            return "long"
        case ["sequence"]:
            return "long"
    return "dynamic"


def _time(fields: Iterable[tuple[tuple[str, ...], Any]], origin: Origin) -> TimeField | None:
    for path, leaf in fields:
        match leaf:
            case ["column", str(name)] | ["column", str(name), "value"] if name == origin.time:
                notation = _OF_UNIT.get(origin.unit)
                return None if notation is None else TimeField(path, notation)
            case ["column", str(name), *conversions] if name == origin.time:
                return TimeField(path, NOTATIONS.get(str(conversions[-1]), ""))
    return None
