"""What one run came to: what was delivered, what was not, and why."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from exporter.errors import ExporterError
    from exporter.pipeline import Delivered

NOT_ALL: Final = 10
NOTHING_RAN: Final = 20


@dataclass(frozen=True, slots=True)
class Trouble:
    """An error in words. Not the exception, whose traceback would keep connections and archives alive."""

    message: str
    hint: str
    exit_status: int

    @classmethod
    def of(cls, error: ExporterError) -> Trouble:
        """What an error says."""
        return cls(error.message, error.hint, error.exit_status)


@dataclass(frozen=True, slots=True)
class ObjectLine:
    """One delivered object, as small as a list of a hundred thousand needs it.

    Of events ``object`` is empty, and ``refused`` says how many are in the quarantine instead.
    """

    export: str
    object: str
    lane: str
    sequence: int
    window_start: datetime
    window_end: datetime
    records: int
    late: int
    bad: int
    bytes: int
    content_bytes: int
    content_sha256: str
    filtered: int = 0
    protected: Mapping[str, int] = field(default_factory=dict)
    refused: int = 0


@dataclass(frozen=True, slots=True)
class Total:
    """What one export had delivered by one run."""

    objects: int = 0
    records: int = 0
    late: int = 0
    bad: int = 0
    bytes: int = 0
    last_object: str = ""
    filtered: int = 0
    protected: Mapping[str, int] = field(default_factory=dict)
    refused: int = 0

    def __add__(self, line: ObjectLine) -> Total:
        """The same with one more object."""
        names = {*self.protected, *line.protected}
        return Total(
            self.objects + 1,
            self.records + line.records,
            self.late + line.late,
            self.bad + line.bad,
            self.bytes + line.bytes,
            line.object,
            self.filtered + line.filtered,
            {name: self.protected.get(name, 0) + line.protected.get(name, 0) for name in names},
            self.refused + line.refused,
        )


@dataclass(slots=True)
class Report:
    """What one run did. ``error`` is what stopped it as a whole; ``unfinished`` had no time left.

    ``elsewhere``: whose events another process delivers meanwhile. It grows with the number of exports;
    ``lines`` has every object, if that was asked for.
    """

    delivered: dict[str, Total] = field(default_factory=dict)
    lines: list[ObjectLine] = field(default_factory=list)
    failing: dict[str, Trouble] = field(default_factory=dict)
    unfinished: set[str] = field(default_factory=set)
    elsewhere: set[str] = field(default_factory=set)
    error: Trouble | None = None

    @property
    def objects(self) -> int:
        """How many objects were delivered."""
        return sum(total.objects for total in self.delivered.values())

    @property
    def records(self) -> int:
        """How many records were delivered."""
        return sum(total.records for total in self.delivered.values())

    @property
    def exit_status(self) -> int:
        """0 all due work delivered, 10 not all, 20 nothing could run."""
        if self.error is not None:
            return self.error.exit_status
        if not (self.failing or self.unfinished):
            return 0
        # When each export says the same of the source or the ledger, it is not the exports' trouble.
        shared = all(trouble.exit_status == NOTHING_RAN for trouble in self.failing.values())
        return NOTHING_RAN if self.failing and shared and not self.delivered else NOT_ALL

    def add(self, export: str, delivered: Delivered, *, list_object: bool) -> None:
        """Count one more object."""
        plan, content = delivered.plan, delivered.content
        line = ObjectLine(
            export=export,
            object=plan.name,
            lane=plan.lane,
            sequence=plan.sequence,
            window_start=plan.range.window.start,
            window_end=plan.range.window.end,
            records=content.count,
            late=content.late,
            bad=content.bad,
            bytes=content.archive_bytes,
            content_bytes=content.content_bytes,
            content_sha256=content.content_sha256,
            filtered=content.filtered,
            protected=content.protected,
            refused=plan.refused,
        )
        self.delivered[export] = self.delivered.get(export, Total()) + line
        if list_object:
            self.lines.append(line)
