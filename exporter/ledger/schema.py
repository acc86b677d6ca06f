"""The ledger's tables, and the numbered steps that bring an older ledger up to date.

The same rows mean the same in every database: times and JSON are text, text is compared by its code
points, and no database's own idea of a character gets in the way.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import orjson
import sqlalchemy as sa

if TYPE_CHECKING:
    from collections.abc import Callable


Text: Final = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
"""Text in the order of its code points: in any other, an upgrade of the operating system spoils indexes."""


class UtcTime(sa.types.TypeDecorator[datetime]):
    """A UTC time as text of one width, so that text order is time order in every database."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> str | None:  # noqa: ARG002, D102
        if value is None:
            return None
        if value.tzinfo is not UTC:
            value = value.astimezone(UTC)
        # Not by strftime: it writes the year 33 as `33`, which sorts after 2026.
        return value.isoformat(timespec="microseconds")[:-6] + "Z"  # for `+00:00`

    def process_result_value(self, value: str | None, dialect: sa.Dialect) -> datetime | None:  # noqa: ARG002, D102
        return None if value is None else datetime.fromisoformat(value)


class AnyText(sa.types.TypeDecorator[str]):
    """Whatever a Python string holds, as text that every database takes.

    An account may be called, and an error may quote, what PostgreSQL refuses (NUL) or UTF-8 cannot say
    (half a surrogate pair): such a character is written as U+001A and four hexadecimal digits.
    """

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> str | None:  # noqa: ARG002, D102
        if value is None or (value.isascii() and value.isprintable()):
            return value
        return _REFUSED.sub(lambda found: f"\x1a{ord(found[0]):04x}", value)

    def process_result_value(self, value: str | None, dialect: sa.Dialect) -> str | None:  # noqa: ARG002, D102
        if value is None or "\x1a" not in value:
            return value
        return _SPELT_OUT.sub(lambda found: chr(int(found[1], 16)), value)


_REFUSED: Final = re.compile("[\x00\x1a\ud800-\udfff]")
_SPELT_OUT: Final = re.compile("\x1a([0-9a-f]{4})")


class JsonText(sa.types.TypeDecorator[Any]):
    """A JSON value as text, keys sorted, so that equal values are equal text."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: object, dialect: sa.Dialect) -> str | None:  # noqa: ARG002, D102
        return None if value is None else orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()

    def process_result_value(self, value: str | None, dialect: sa.Dialect) -> object:  # noqa: ARG002, D102
        return None if value is None else orjson.loads(value)


metadata = sa.MetaData()


def _number() -> sa.Column[int]:
    """Rows in the order in which they were written."""
    # An identity and not a sequence: whoever may insert needs no further right. SQLite numbers INTEGER alone.
    kind = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    return sa.Column("number", kind, sa.Identity(), primary_key=True)


meta = sa.Table(
    "meta",
    metadata,
    sa.Column("key", Text, primary_key=True),
    sa.Column("value", AnyText, nullable=False),
)

exports = sa.Table(
    "exports",
    metadata,
    sa.Column("name", Text, primary_key=True),
    sa.Column("account", AnyText, nullable=False),
    sa.Column("claim", AnyText, nullable=False),
    sa.Column("begin", UtcTime, nullable=False),
    sa.Column("begin_seal", JsonText, nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("sequence", sa.BigInteger, nullable=False),
    sa.Column("stamp_time", UtcTime),
    sa.Column("stamp_number", sa.Integer),
    sa.Column("names_from", UtcTime),
    sa.Column("repeats_until", UtcTime),
    sa.Column("paused", sa.Boolean, nullable=False),
    sa.Column("stopped", AnyText, nullable=False),
    sa.Column("alarm", AnyText, nullable=False),
    sa.Column("tries", sa.Integer, nullable=False),
    sa.Column("blocked_until", UtcTime),
    sa.Column("failure", AnyText),
    sa.Column("failure_hint", AnyText),
    sa.Column("failed_at", UtcTime),
    sa.Column("delivered_at", UtcTime),
    sa.Column("object_name", AnyText, nullable=False),
    sa.Column("filtered", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("protected", JsonText, nullable=False, server_default="{}"),
)

# Two exports never deliver under the same names. A claim may be longer than PostgreSQL's B-trees take, and
# its unique indexes are B-trees: there it is an exclusion by hash, which compares the whole text as well.
sa.Index("one_claim", exports.c.claim, unique=True).ddl_if(dialect="sqlite")
_ONE_CLAIM: Final = "ALTER TABLE exports ADD CONSTRAINT one_claim EXCLUDE USING hash (claim WITH =)"
sa.event.listen(exports, "after_create", sa.DDL(_ONE_CLAIM).execute_if(dialect="postgresql"))  # type: ignore[no-untyped-call]


def _indexed(table: sa.Table, index: str) -> sa.DDL:
    """A partial index, made with its table. As text: such an `sa.Index` loads every database's dialect."""
    ddl = sa.DDL(f"CREATE {index}")  # type: ignore[no-untyped-call]
    sa.event.listen(table, "after_create", ddl)
    return ddl


lanes = sa.Table(
    "lanes",
    metadata,
    sa.Column("export", Text, primary_key=True),
    sa.Column("id", Text, primary_key=True),
    sa.Column("kind", Text, nullable=False),
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
    sa.Column("id", Text, primary_key=True),
    sa.Column("export", Text, nullable=False),
    sa.Column("lane", Text, nullable=False),
    sa.Column("sequence", sa.BigInteger, nullable=False),
    sa.Column("state", Text, nullable=False),
    sa.Column("account", AnyText, nullable=False),
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
    sa.Column("name", AnyText, nullable=False),
    sa.Column("stamp_time", UtcTime, nullable=False),
    sa.Column("stamp_number", sa.Integer, nullable=False),
    sa.Column("content", JsonText, nullable=False),
    sa.Column("created_at", UtcTime, nullable=False),
    sa.Column("bad_not_whole", sa.BigInteger, nullable=False),
    sa.Column("delivered_at", UtcTime),
    sa.Column("hashes", JsonText, nullable=False),
    sa.Column("reached", JsonText),
    sa.Column("sent", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("refused", sa.BigInteger, nullable=False, server_default="0"),
    sa.Index("plans_by_sequence", "export", "sequence"),
)
# At most one open plan per export is the database's promise too, not only that of the rules.
_indexed(plans, "UNIQUE INDEX one_open_plan ON plans (export) WHERE state = 'open'")

# What plans have in common; their `rendering` names one by its id. Those of version 1 hold theirs inside.
mappings = sa.Table(
    "mappings",
    metadata,
    sa.Column("id", Text, primary_key=True),
    sa.Column("value", Text, nullable=False),
)

attempts = sa.Table(
    "attempts",
    metadata,
    _number(),
    sa.Column("id", Text, nullable=False, unique=True),
    sa.Column("plan", Text, nullable=False, index=True),
    sa.Column("store", AnyText, nullable=False),
    sa.Column("started_at", UtcTime, nullable=False),
    sa.Column("content", JsonText, nullable=False),
    sa.Column("outcome", Text, nullable=False),
    sa.Column("error", AnyText, nullable=False),
)

windows = sa.Table(
    "windows",
    metadata,
    _number(),
    sa.Column("export", Text, nullable=False),
    sa.Column("end", UtcTime, nullable=False),
    sa.Column("seal", JsonText, nullable=False),
    sa.Column("committed_at", UtcTime, nullable=False),
    sa.Column("filtered", sa.BigInteger, nullable=False, server_default="0"),
    sa.Index("windows_by_commit", "export", "committed_at"),
)

bad_records = sa.Table(
    "bad_records",
    metadata,
    _number(),
    sa.Column("plan", Text, nullable=False, index=True),
    sa.Column("id", AnyText, nullable=False),
    sa.Column("reason", AnyText, nullable=False),
    sa.Column("length", sa.BigInteger, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("kind", Text, nullable=False, server_default="unrendered"),
    sa.Column("resent_at", UtcTime),
)


def is_waiting(table: sa.Table) -> tuple[sa.ColumnElement[bool], ...]:
    """The conditions under which a row of `bad_records` is a refused event that nobody has sent again."""
    # A literal, because a bound value would keep SQLite from using the partial index.
    return table.c.kind == sa.literal_column("'refused'"), table.c.resent_at.is_(None)


_WAITING_RECORDS: Final = _indexed(
    bad_records,
    "INDEX IF NOT EXISTS waiting_records ON bad_records (plan) WHERE kind = 'refused' AND resent_at IS NULL",
)

runs = sa.Table(
    "runs",
    metadata,
    sa.Column("id", Text, primary_key=True),
    sa.Column("started_at", UtcTime, nullable=False, index=True),
    sa.Column("finished_at", UtcTime),
    sa.Column("delivered", sa.BigInteger, nullable=False),
    sa.Column("failing", sa.BigInteger, nullable=False),
    sa.Column("error", AnyText, nullable=False),
    sa.Column("hint", AnyText, nullable=False),
)


def _first(connection: sa.Connection) -> None:
    metadata.create_all(connection)


_SECOND_COLUMNS: Final = {
    exports: ("filtered", "protected"),
    plans: ("reached", "sent", "refused"),
    windows: ("filtered",),
    bad_records: ("kind", "resent_at"),
}


def _second(connection: sa.Connection) -> None:
    """What filters, protection, events and large formats keep. A new ledger has it from the first step on."""
    prepare = connection.dialect.identifier_preparer
    for table, names in _SECOND_COLUMNS.items():
        there = {column["name"] for column in sa.inspect(connection).get_columns(table.name)}
        for name in names:
            if name not in there:
                column = sa.schema.CreateColumn(table.c[name]).compile(dialect=connection.dialect)
                connection.exec_driver_sql(f"ALTER TABLE {prepare.format_table(table)} ADD COLUMN {column}")
    connection.execute(_WAITING_RECORDS)
    mappings.create(connection, checkfirst=True)


MIGRATIONS: Final[tuple[Callable[[sa.Connection], None], ...]] = (_first, _second)
"""Step n brings a ledger from version n to n + 1. A step that has shipped never changes."""

VERSION: Final = len(MIGRATIONS)
