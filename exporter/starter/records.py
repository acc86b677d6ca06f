"""Real audit logs, in JSON Lines files, become the records of a new source database.

Two passes over each file: the first finds out which paths feed which column, the second inserts. In
memory is one record at a time and, for each column, a bounded number of paths. The original goes in
as it was written, so a field that was understood wrongly, or not at all, is never lost. A record without
a time would belong to no window: it takes that of its neighbour in the file. Must not accept a line that
it cannot read, and must not choose a field, or lend a time, without reporting it.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn, TypeAlias

from exporter.errors import ConfigError
from exporter.starter import fields
from exporter.starter.folder import (
    COLUMNS,
    Account,
    Contents,
    Created,
    FileReport,
    Filled,
    canonical,
    create,
    insert,
    midnight,
)

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from exporter.starter.folder import Row

MAX_PATHS = 256  # for each column of a file: keys that are made up per record must not fill the memory


@dataclass(slots=True)
class _Fit:
    """How well one path feeds one column, summed up over a file."""

    name: float
    values: int = 0
    fitting: float = 0.0  # sum of the shapes' scores
    first_time: tuple[int, str] | None = None  # of a path to times: its first record's number and time

    def score(self, records: int) -> float:
        """Coverage times name times shape, each at most 1."""
        return (self.values / records) * self.name * (self.fitting / self.values)


_Fits: TypeAlias = "dict[str, dict[str, _Fit]]"  # column to path to fit


@dataclass(frozen=True, slots=True)
class _Ranking:
    """For each column the paths that may feed it, the best first."""

    places: Mapping[str, Sequence[str]]
    by_shape: tuple[str, ...]  # columns for which no name was known
    first_time: str | None  # of the first record that has one


@dataclass(slots=True)
class _Tally:
    """What is counted while one file is inserted."""

    lines: int = 0
    records: int = 0
    zoneless: int = 0
    future: int = 0
    oldest: str | None = None
    passed_over: Counter[str] = field(default_factory=Counter)
    fed: Mapping[str, Counter[str]] = field(default_factory=lambda: {column: Counter() for column in COLUMNS})


def import_records(folder: Path, files: Sequence[Path], now: datetime) -> Created:
    """Make a new folder whose database holds every record of these JSON Lines files, in their order.

    Raises ConfigError, with file, line and reason, for a line that is no JSON object; then, and when
    the folder has a database already, nothing is written.
    """
    _refuse_unreadable(files)
    return create(folder, lambda connection: _fill(connection, files, now))


def _fill(connection: sqlite3.Connection, files: Sequence[Path], now: datetime) -> Contents:
    reports: list[FileReport] = []
    oldest: list[str] = []
    for path in files:
        ranking = _ranking(path)
        tally = _Tally()
        insert(connection, _rows(path, ranking, tally, now))
        reports.append(_report(path, ranking, tally))
        oldest += [tally.oldest] if tally.oldest else []
    return Contents(_start(oldest, now), "native", _accounts(reports), tuple(reports), _notes(reports, now))


def _refuse_unreadable(files: Sequence[Path]) -> None:
    seen = set()
    for path in files:
        if not path.is_file():  # a pipe would be empty at the second reading
            raise ConfigError(f"{path} is not a file", hint="name JSON Lines files; each is read twice")
        if path.resolve() in seen:
            raise ConfigError(
                f"{path} is named twice", hint="name each file once, or its records are doubled"
            )
        seen.add(path.resolve())


def _account(path: Path) -> str:
    return fields.storable(path.stem)


def _accounts(reports: Iterable[FileReport]) -> tuple[Account, ...]:
    counts: Counter[str] = Counter()
    for report in reports:
        counts[report.account] += report.records
    return tuple(Account(name, "UTC", count) for name, count in counts.items())


def _notes(reports: Sequence[FileReport], now: datetime) -> tuple[str, ...]:
    undated = sum(report.columns["created_at"].missing - report.borrowed for report in reports)
    borrowed = sum(report.borrowed for report in reports)
    future = sum(report.future for report in reports)
    counts = {
        "Times without an offset were taken as UTC": sum(report.zoneless for report in reports),
        "Records without a readable time have the last one before them in the file, or its first": borrowed,
        f"Records of files without any readable time have {_yesterday(now):%Y-%m-%dT%H:%M:%SZ}": undated,
        "Records with a time later than now are delivered when it has come": future,
    }
    return (
        "Each file became one account, named like the file without its ending.",
        *(f"{sentence}: {count:,}." for sentence, count in counts.items() if count),
    )


def _yesterday(now: datetime) -> datetime:
    """The time of records that nothing dates: its window is over in every schedule of a day or less."""
    return midnight(now - timedelta(days=1))


def _start(oldest: Sequence[str], now: datetime) -> datetime:
    """Midnight before the oldest record; of no records, yesterday's."""
    if not oldest:
        return _yesterday(now)
    second = min(oldest)[:19]
    return midnight(min(datetime.fromisoformat(second).replace(tzinfo=UTC), now))


# --- First pass: which paths feed which column ---------------------------------------------------


def _ranking(path: Path) -> _Ranking:
    named: _Fits = {column: {} for column in COLUMNS}
    unnamed: _Fits = {column: {} for column in COLUMNS}
    records = 0
    for _, _, record in _records(path):
        records += 1
        for place, value in fields.leaves(record).items():
            for column, name in fields.names(place).items():
                _observe(named[column], column, place, value, name, records)
            shaped = fields.shape(value) if _is_own(place) else None
            if shaped is not None:
                _observe(unnamed[shaped], shaped, place, value, 1.0, records)
    fits = {column: named[column] or unnamed[column] for column in COLUMNS}
    return _Ranking(
        places={column: _ranked(fits[column], records) for column in COLUMNS},
        by_shape=tuple(column for column in COLUMNS if unnamed[column] and not named[column]),
        first_time=_first_time(fits["created_at"], records),
    )


def _is_own(place: str) -> bool:
    """Whether a field is the record's own, not one of a thing in it."""
    return "." not in place and "[" not in place


def _observe(fits: dict[str, _Fit], column: str, place: str, value: str, name: float, number: int) -> None:
    shaped = fields.read(column, value)
    if shaped is None or (place not in fits and len(fits) >= MAX_PATHS):
        return
    if place not in fits:
        fits[place] = _Fit(name, first_time=(number, shaped[0]) if column == "created_at" else None)
    fit = fits[place]
    fit.values += 1
    fit.fitting += shaped[1]


def _ranked(fits: Mapping[str, _Fit], records: int) -> list[str]:
    return sorted(fits, key=lambda place: (-fits[place].score(records), place))


def _first_time(fits: Mapping[str, _Fit], records: int) -> str | None:
    """What `_best` will find in the first record in which it finds a time."""
    times = [time for place in _ranked(fits, records) if (time := fits[place].first_time) is not None]
    return min(times, key=lambda time: time[0])[1] if times else None


# --- Second pass: the records --------------------------------------------------------------------


def _rows(path: Path, ranking: _Ranking, tally: _Tally, now: datetime) -> Iterator[Row]:
    account, present = _account(path), canonical(now)
    time = ranking.first_time or canonical(_yesterday(now))
    for number, text, record in _records(path):
        leaves = fields.leaves(record)
        own_time, *others = (_best(column, ranking.places[column], leaves, tally) for column in COLUMNS)
        if own_time is None:
            _pass_over(leaves, tally)
        time = own_time or time
        tally.lines, tally.records = number, tally.records + 1
        tally.oldest = min(time, tally.oldest or time)
        tally.future += time.rstrip("Z") > present.rstrip("Z")  # a longer fraction is later
        yield (account, time, *others, text)


def _best(column: str, places: Iterable[str], leaves: Mapping[str, str], tally: _Tally) -> str | None:
    """The value of the best place that this record has one in."""
    for place in places:
        shaped = fields.read(column, leaves[place]) if place in leaves else None
        if shaped is not None:
            tally.fed[column][place] += 1
            tally.zoneless += column == "created_at" and fields.is_zoneless(leaves[place])
            return shaped[0]
    return None


def _pass_over(leaves: Mapping[str, str], tally: _Tally) -> None:
    for place, value in leaves.items():
        about_time = "created_at" in fields.names(place) or fields.shape(value) == "created_at"
        if about_time and (place in tally.passed_over or len(tally.passed_over) < MAX_PATHS):
            tally.passed_over[place] += 1


def _report(path: Path, ranking: _Ranking, tally: _Tally) -> FileReport:
    columns = {
        column: Filled(_most_first(places), tally.records - places.total())
        for column, places in tally.fed.items()
    }
    return FileReport(
        path=path,
        account=_account(path),
        lines=tally.lines,
        records=tally.records,
        columns=columns,
        zoneless=tally.zoneless,
        borrowed=columns["created_at"].missing if ranking.first_time else 0,
        future=tally.future,
        by_shape=ranking.by_shape,
        passed_over=_most_first(tally.passed_over),
    )


def _most_first(places: Counter[str]) -> tuple[tuple[str, int], ...]:
    return tuple((fields.storable(place), count) for place, count in places.most_common())


# --- Reading -------------------------------------------------------------------------------------


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"has {name}, which is no JSON value")


# Numbers stay the text they are: exact, however long, and as good as a digit string for every column.
_DECODER = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=_refuse_constant)


def _records(path: Path) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """Each record of a file as (line number, its JSON text, what it says)."""
    with _opened(path) as file:
        for number, line in enumerate(file, 1):
            content = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
            if not content.strip():
                continue
            try:
                text = content.decode("utf-8").strip(" \t\r\n")
                record = _object(text)
            except (ValueError, RecursionError) as error:
                raise ConfigError(
                    f"{path}: line {number} {_reason(error)}",
                    hint="every line has to be one JSON object in UTF-8; nothing was written",
                ) from error
            yield number, text, record


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}", hint="allow reading it") from error


def _object(text: str) -> dict[str, Any]:
    record = _DECODER.decode(text)
    if not isinstance(record, dict):
        raise ValueError("is JSON, but not an object")  # noqa: TRY004 (like every other reason to refuse a line)
    return record


def _reason(error: ValueError | RecursionError) -> str:
    match error:
        case UnicodeDecodeError():
            return f"is not UTF-8, at byte {error.start + 1}"
        case json.JSONDecodeError():
            return f"is not JSON: {error.msg} at character {error.pos + 1}"
        case RecursionError():
            return "is nested too deeply"
        case _:
            return str(error)
