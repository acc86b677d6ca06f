"""Configuration to source. A new one is a function here, and a line in ``SOURCES``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from exporter import config as configuration
from exporter import sqlite_memory
from exporter.columns import Roles
from exporter.sources.derived import FirstOf
from exporter.wiring.addresses import by_scheme, connection, refuse_server_settings
from exporter.wiring.on_demand import OnDemand

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from exporter.config import Config
    from exporter.interfaces import Source
    from exporter.model import Statement
    from exporter.sources.mysql import MysqlOptions
    from exporter.sources.postgres import PostgresOptions
    from exporter.sources.sqlite import SqliteSource

    Options = TypeVar("Options", PostgresOptions, MysqlOptions)


@dataclass(frozen=True, slots=True)
class SourceDriver:
    """What can be done about the source at one place.

    ``prepare`` answers the statements that an administrator should run, those that were run already left
    out; ``apply`` runs one of them, with the administrator's credentials.
    """

    open: Callable[[], Source]
    prepare: Callable[[], Sequence[Statement]]
    apply: Callable[[Statement], None]


def _sqlite(config: Config) -> SourceDriver:
    sqlite_memory.without_statistics()
    settings = config.source
    refuse_server_settings(settings, "source")
    path = configuration.sqlite_path(settings.url.reveal(), config.path.parent)

    def made() -> SqliteSource:
        from exporter.sources.sqlite import SqliteSource

        return SqliteSource(path, **_records(config))

    def apply(statement: Statement) -> None:
        from exporter.sources.sqlite import database

        database.apply(path, statement)

    return SourceDriver(
        open=lambda: OnDemand(_OwnClock(), made),
        prepare=lambda: made().prepare(),
        apply=apply,
    )


class _OwnClock:
    """This machine's, for a database that has none of its own."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def close(self) -> None:
        """Nothing is held."""


def _postgres(config: Config) -> SourceDriver:
    from exporter.sources.postgres.connection import Database, PostgresOptions

    settings = config.source
    options = PostgresOptions(**_server(config))
    position: dict[str, Any] = {"commit": settings.columns.commit, "append_only": settings.append_only}

    def opened() -> Source:
        database = Database(options)
        return OnDemand(database, partial(made, database))

    def made(database: Database) -> Source:
        from exporter.sources.postgres import PostgresSource

        return PostgresSource(options, **_records(config), **position, database=database)

    def prepare() -> Sequence[Statement]:
        from exporter.sources.postgres.prepare import statements

        return statements(options, settings.table, _roles(config), settings.columns.commit, _derived(config))

    def apply(statement: Statement) -> None:
        from exporter.sources.postgres import prepare

        prepare.apply(_as_administrator(config, options), statement)

    return SourceDriver(opened, prepare, apply)


def _mysql(config: Config) -> SourceDriver:
    from exporter.sources.mysql import MysqlOptions, MysqlSource

    settings = config.source
    longest_s = settings.longest_statement.total_seconds()
    options = MysqlOptions(**_server(config), longest_statement_s=longest_s)
    made = partial(MysqlSource, options, **_records(config), commit=settings.columns.commit)

    def prepare() -> Sequence[Statement]:
        from exporter.sources.mysql.prepare import statements

        return statements(options, settings.table, _roles(config), settings.columns.commit, _derived(config))

    def apply(statement: Statement) -> None:
        from exporter.sources.mysql import prepare

        prepare.apply(_as_administrator(config, options), statement)

    return SourceDriver(made, prepare, apply)


SOURCES: Final[Mapping[str, Callable[[Config], SourceDriver]]] = {
    "sqlite": _sqlite,
    "postgresql": _postgres,
    "postgres": _postgres,
    "mysql": _mysql,
    "mariadb": _mysql,
}


def source_of(config: Config) -> SourceDriver:
    """The driver for the source that a configuration names."""
    return by_scheme(config.source.url, SOURCES, "source")(config)


def _roles(config: Config) -> Roles:
    columns = config.source.columns
    return Roles(columns.id, columns.time, columns.account)


def _records(config: Config) -> dict[str, Any]:
    """What every source is told about the records."""
    settings = config.source
    return {
        "roles": _roles(config),
        "table": settings.table,
        "query": settings.query,
        "time_unit": settings.time_unit,
        "derived": _derived(config),
    }


def _derived(config: Config) -> tuple[FirstOf, ...]:
    """The columns that the source works out; the settings have seen to it that there is an action."""
    settings = config.source
    action = settings.columns.action or ""
    return tuple(
        FirstOf(name, of=one.first_of, action=action, actions=one.actions)
        for name, one in settings.derived.items()
    )


def _as_administrator(config: Config, options: Options) -> Options:
    """The same server with the administrator's address, which holds its own password; else as it is read."""
    admin = config.source.admin_url
    return options if admin is None else replace(options, url=admin.reveal(), password=None)


def _server(config: Config) -> dict[str, Any]:
    """What every server is told about the connection."""
    settings = config.source
    return {
        **connection(settings),
        "statement_timeout_s": settings.statement_timeout.total_seconds(),
        "lock_timeout_s": settings.lock_timeout.total_seconds(),
        "seal_wait_s": settings.seal_wait.total_seconds(),
    }
