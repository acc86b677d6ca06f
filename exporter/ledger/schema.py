"""The ledger's tables, and the numbered steps that bring an older ledger up to date."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import orjson
import sqlalchemy as sa

if TYPE_CHECKING:
    from collections.abc import Callable


class UtcTime(sa.types.TypeDecorator[datetime]):
    """A UTC time as text of one width, so that text order is time order in every database."""

    impl = sa.String(27)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> str | None:  # noqa: ARG002, D102
        if value is None:
            return None
        # Not by strftime: it writes the year 33 as `33`, which sorts after 2026.
        return value.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"

    def process_result_value(self, value: str | None, dialect: sa.Dialect) -> datetime | None:  # noqa: ARG002, D102
        return None if value is None else datetime.fromisoformat(value)


class JsonText(sa.types.TypeDecorator[Any]):
    """A JSON value as text, keys sorted, so that equal values are equal text."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: object, dialect: sa.Dialect) -> str | None:  # noqa: ARG002, D102
        return None if value is None else orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()

    def process_result_value(self, value: str | None, dialect: sa.Dialect) -> object:  # noqa: ARG002, D102
        return None if value is None else orjson.loads(value)


metadata = sa.MetaData()
Name: Final = sa.String(200)

meta = sa.Table(
    "meta",
    metadata,
    sa.Column("key", sa.String(40), primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)

exports = sa.Table(
    "exports",
    metadata,
    sa.Column("name", Name, primary_key=True),
    sa.Column("account", sa.Text, nullable=False),
    sa.Column("claim", sa.Text, nullable=False, unique=True),
    sa.Column("begin", UtcTime, nullable=False),
    sa.Column("begin_seal", JsonText, nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("sequence", sa.BigInteger, nullable=False),
    sa.Column("stamp_time", UtcTime),
    sa.Column("stamp_number", sa.Integer),
    sa.Column("names_from", UtcTime),
    sa.Column("repeats_until", UtcTime),
    sa.Column("paused", sa.Boolean, nullable=False),
    sa.Column("stopped", sa.Text, nullable=False),
    sa.Column("alarm", sa.Text, nullable=False),
    sa.Column("tries", sa.Integer, nullable=False),
    sa.Column("blocked_until", UtcTime),
    sa.Column("failure", sa.Text),
    sa.Column("failure_hint", sa.Text),
    sa.Column("failed_at", UtcTime),
    sa.Column("delivered_at", UtcTime),
    sa.Column("object_name", sa.Text, nullable=False),
)

lanes = sa.Table(
    "lanes",
    metadata,
    sa.Column("export", Name, primary_key=True),
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("kind", sa.String(10), nullable=False),
    sa.Column("watermark", UtcTime, nullable=False),
    sa.Column("seal", JsonText, nullable=False),
    sa.Column("open_end", UtcTime),
    sa.Column("open_seal", JsonText),
    sa.Column("last_key", JsonText),
    sa.Column("start", UtcTime),
    sa.Column("until", UtcTime),
    sa.Column("sequences", JsonText, nullable=False),
    sa.Column("requested", JsonText, nullable=False),
    sa.Column("redeliver", sa.Boolean, nullable=False),
    sa.Column("done", sa.Boolean, nullable=False),
)

plans = sa.Table(
    "plans",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("export", Name, nullable=False),
    sa.Column("lane", sa.String(40), nullable=False),
    sa.Column("sequence", sa.BigInteger, nullable=False),
    sa.Column("state", sa.String(10), nullable=False),
    sa.Column("account", sa.Text, nullable=False),
    sa.Column("window_start", UtcTime, nullable=False),
    sa.Column("window_end", UtcTime, nullable=False),
    sa.Column("previous_seal", JsonText),
    sa.Column("seal", JsonText, nullable=False),
    sa.Column("first_window", sa.Boolean, nullable=False),
    sa.Column("after_key", JsonText),
    sa.Column("last_key", JsonText),
    sa.Column("final", sa.Boolean, nullable=False),
    sa.Column("repeats", sa.Boolean, nullable=False),
    sa.Column("rendering", JsonText, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("stamp_time", UtcTime, nullable=False),
    sa.Column("stamp_number", sa.Integer, nullable=False),
    sa.Column("content", JsonText, nullable=False),
    sa.Column("created_at", UtcTime, nullable=False),
    sa.Column("bad_not_whole", sa.BigInteger, nullable=False),
    sa.Column("delivered_at", UtcTime),
    sa.Column("hashes", JsonText, nullable=False),
    sa.Index("plans_by_sequence", "export", "sequence"),
)
# At most one open plan per export is the database's promise too, not only that of the rules.
sa.Index(
    "one_open_plan",
    plans.c.export,
    unique=True,
    sqlite_where=plans.c.state == "open",
    postgresql_where=plans.c.state == "open",
)

attempts = sa.Table(
    "attempts",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("id", sa.String(32), nullable=False, unique=True),
    sa.Column("plan", sa.String(32), nullable=False, index=True),
    sa.Column("store", sa.Text, nullable=False),
    sa.Column("started_at", UtcTime, nullable=False),
    sa.Column("content", JsonText, nullable=False),
    sa.Column("outcome", sa.String(10), nullable=False),
    sa.Column("error", sa.Text, nullable=False),
)

windows = sa.Table(
    "windows",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("export", Name, nullable=False),
    sa.Column("end", UtcTime, nullable=False),
    sa.Column("seal", JsonText, nullable=False),
    sa.Column("committed_at", UtcTime, nullable=False),
    sa.Index("windows_by_commit", "export", "committed_at"),
)

bad_records = sa.Table(
    "bad_records",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("plan", sa.String(32), nullable=False, index=True),
    sa.Column("id", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("length", sa.BigInteger, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
)

runs = sa.Table(
    "runs",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("started_at", UtcTime, nullable=False, index=True),
    sa.Column("finished_at", UtcTime),
    sa.Column("delivered", sa.Integer, nullable=False),
    sa.Column("failing", sa.Integer, nullable=False),
    sa.Column("error", sa.Text, nullable=False),
    sa.Column("hint", sa.Text, nullable=False),
)


def _first(connection: sa.Connection) -> None:
    metadata.create_all(connection)


MIGRATIONS: Final[tuple[Callable[[sa.Connection], None], ...]] = (_first,)
"""Step n brings a ledger from version n to n + 1. A step that has shipped never changes."""

VERSION: Final = len(MIGRATIONS)
