"""The ledger's tables. What makes them, and brings older ones up to date, is ``migrations``."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final, NamedTuple

from exporter.ledger.kinds import ANY_TEXT, BIGINT, BYTES, FLAG, INTEGER, JSON, NUMBER, TEXT, TIME, Kind

VERSION: Final = 2
"""Of the tables as they are here; a ledger says in `meta` which one it is at."""


class Column(NamedTuple):
    """A column; ``default`` is what its database gives to rows that say nothing."""

    name: str
    kind: Kind
    required: bool = True
    default: str | None = None


@dataclass(frozen=True, eq=False)
class Table:
    """A table, its ``key`` and what else is unique, and the statements that make its indexes after it."""

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    unique: tuple[str, ...] = ()
    indexes: tuple[str, ...] = ()

    @cached_property
    def kinds(self) -> dict[str, Kind]:
        """What each column holds, by name, in their order."""
        return {column.name: column.kind for column in self.columns}


def _must(name: str, kind: Kind, default: str | None = None) -> Column:
    return Column(name, kind, default=default)


def _may(name: str, kind: Kind) -> Column:
    return Column(name, kind, required=False)


META: Final = Table("meta", (_must("key", TEXT), _must("value", ANY_TEXT)), key=("key",))

EXPORTS: Final = Table(
    "exports",
    (
        _must("name", TEXT),
        _must("account", ANY_TEXT),
        _must("claim", ANY_TEXT),
        _must("begin", TIME),
        _must("begin_seal", JSON),
        _must("version", BIGINT),
        _must("sequence", BIGINT),
        _may("stamp_time", TIME),
        _may("stamp_number", INTEGER),
        _may("names_from", TIME),
        _may("repeats_until", TIME),
        _must("paused", FLAG),
        _must("stopped", ANY_TEXT),
        _must("alarm", ANY_TEXT),
        _must("tries", INTEGER),
        _may("blocked_until", TIME),
        _may("failure", ANY_TEXT),
        _may("failure_hint", ANY_TEXT),
        _may("failed_at", TIME),
        _may("delivered_at", TIME),
        _must("object_name", ANY_TEXT),
        _must("filtered", BIGINT, "0"),
        _must("protected", JSON, "{}"),
    ),
    key=("name",),
)

LANES: Final = Table(
    "lanes",
    (
        _must("export", TEXT),
        _must("id", TEXT),
        _must("kind", TEXT),
        _must("watermark", TIME),
        _must("seal", JSON),
        _may("open_end", TIME),
        _may("open_seal", JSON),
        _may("last_key", JSON),
        _may("start", TIME),
        _may("until", TIME),
        _must("sequences", JSON),
        _must("requested", JSON),
        _must("redeliver", FLAG),
        _must("done", FLAG),
    ),
    key=("export", "id"),
)

PLANS: Final = Table(
    "plans",
    (
        _must("id", TEXT),
        _must("export", TEXT),
        _must("lane", TEXT),
        _must("sequence", BIGINT),
        _must("state", TEXT),
        _must("account", ANY_TEXT),
        _must("window_start", TIME),
        _must("window_end", TIME),
        _may("previous_seal", JSON),
        _must("seal", JSON),
        _must("first_window", FLAG),
        _may("after_key", JSON),
        _may("last_key", JSON),
        _must("final", FLAG),
        _must("repeats", FLAG),
        _must("rendering", JSON),
        _must("name", ANY_TEXT),
        _must("stamp_time", TIME),
        _must("stamp_number", INTEGER),
        _must("content", JSON),
        _must("created_at", TIME),
        _must("bad_not_whole", BIGINT),
        _may("delivered_at", TIME),
        _must("hashes", JSON),
        _may("reached", JSON),
        _must("sent", BIGINT, "0"),
        _must("refused", BIGINT, "0"),
    ),
    key=("id",),
    indexes=(
        "INDEX plans_by_sequence ON plans (export, sequence)",
        # At most one open plan per export is the database's promise too, not only that of the rules.
        "UNIQUE INDEX one_open_plan ON plans (export) WHERE state = 'open'",
    ),
)

# What plans have in common; their `rendering` names one by its id. Those of version 1 hold theirs inside.
MAPPINGS: Final = Table("mappings", (_must("id", TEXT), _must("value", TEXT)), key=("id",))

ATTEMPTS: Final = Table(
    "attempts",
    (
        _must("number", NUMBER),
        _must("id", TEXT),
        _must("plan", TEXT),
        _must("store", ANY_TEXT),
        _must("started_at", TIME),
        _must("content", JSON),
        _must("outcome", TEXT),
        _must("error", ANY_TEXT),
    ),
    key=("number",),
    unique=("id",),
    indexes=('INDEX ix_attempts_plan ON attempts ("plan")',),
)

WINDOWS: Final = Table(
    "windows",
    (
        _must("number", NUMBER),
        _must("export", TEXT),
        _must("end", TIME),
        _must("seal", JSON),
        _must("committed_at", TIME),
        _must("filtered", BIGINT, "0"),
    ),
    key=("number",),
    indexes=("INDEX windows_by_commit ON windows (export, committed_at)",),
)

IS_WAITING: Final = "kind = 'refused' AND resent_at IS NULL"
"""When a row of `bad_records` is a refused event that nobody has sent again.

As it stands in its index, because a bound value would keep SQLite from using that.
"""

BAD_RECORDS: Final = Table(
    "bad_records",
    (
        _must("number", NUMBER),
        _must("plan", TEXT),
        _must("id", ANY_TEXT),
        _must("reason", ANY_TEXT),
        _must("length", BIGINT),
        _must("body", BYTES),
        _must("kind", TEXT, "unrendered"),
        _may("resent_at", TIME),
    ),
    key=("number",),
    indexes=(
        'INDEX ix_bad_records_plan ON bad_records ("plan")',
        f'INDEX waiting_records ON bad_records ("plan") WHERE {IS_WAITING}',
    ),
)

RUNS: Final = Table(
    "runs",
    (
        _must("id", TEXT),
        _must("started_at", TIME),
        _may("finished_at", TIME),
        _must("delivered", BIGINT),
        _must("failing", BIGINT),
        _must("error", ANY_TEXT),
        _must("hint", ANY_TEXT),
    ),
    key=("id",),
    indexes=("INDEX ix_runs_started_at ON runs (started_at)",),
)

TABLES: Final = (META, EXPORTS, LANES, PLANS, MAPPINGS, ATTEMPTS, WINDOWS, BAD_RECORDS, RUNS)
