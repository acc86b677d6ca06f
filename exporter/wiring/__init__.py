"""Where a configuration becomes objects: the only module that knows every driver by name.

A new source, ledger or destination is one function here, and one line where its kind is chosen.
"""

from __future__ import annotations

from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

import stamina

from exporter import config as configuration
from exporter.config import ConfigProblem, DirectorySettings, S3Settings
from exporter.errors import ConfigError, SourceError, WorkspaceError
from exporter.formats import compile_format, presets
from exporter.ledger.requests import Requests
from exporter.ledger.rules import Ledger
from exporter.model import Rendering
from exporter.pipeline import Job, Pipeline
from exporter.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from exporter.config import Config, ExportSettings, Secret
    from exporter.config import Destination as DestinationSettings
    from exporter.destinations.object_store import Driver
    from exporter.interfaces import Destination, Source
    from exporter.ledger.storage import Storage

Made = TypeVar("Made")

# By default, stamina prints each new try, with its arguments: standard output is the report's.
stamina.instrumentation.set_on_retry_hooks([])


class NoWorkspace(WorkspaceError):
    """No archive of any export can be written: nothing could run."""

    exit_status = 20


def clock() -> datetime:
    """This machine's clock."""
    return datetime.now(UTC)


# --- Sources -----------------------------------------------------------------------------------------


def _sqlite_source(config: Config) -> Source:
    from exporter.columns import Roles
    from exporter.sources.sqlite import SqliteSource

    settings = config.source
    columns = settings.columns
    return SqliteSource(
        configuration.sqlite_path(settings.url.reveal(), config.path.parent),
        roles=Roles(columns.id, columns.time, columns.account),
        table=settings.table,
        query=settings.query,
        time_unit=settings.time_unit,
        clock=clock,
    )


SOURCES: Final[Mapping[str, Callable[[Config], Source]]] = {"sqlite": _sqlite_source}


# --- Ledgers -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LedgerDriver:
    """What can be done about the ledger at one place. ``migrate`` answers the versions before and after."""

    place: str
    open: Callable[[], Storage]
    create: Callable[[], None]
    migrate: Callable[[], tuple[int, int]]


def _sqlite_ledger(config: Config) -> LedgerDriver:
    from exporter.ledger.sql import SqliteStorage, create_sqlite, migrate_sqlite

    path = configuration.sqlite_path(config.ledger.url.reveal(), config.path.parent)
    return LedgerDriver(
        place=str(path),
        open=partial(SqliteStorage, path),
        create=partial(create_sqlite, path),
        migrate=partial(migrate_sqlite, path),
    )


LEDGERS: Final[Mapping[str, Callable[[Config], LedgerDriver]]] = {"sqlite": _sqlite_ledger}


def ledger_of(config: Config) -> LedgerDriver:
    """The driver for the ledger that a configuration names."""
    return _by_scheme(config.ledger.url, LEDGERS, "ledger")(config)


@contextmanager
def open_ledger(config: Config, *, dry_run: bool = False) -> Iterator[Ledger]:
    """The ledger alone: what a person asks of it needs neither source nor destination."""
    with closing(ledger_of(config).open()) as storage:
        if dry_run:
            from exporter.ledger.memory import MemoryStorage

            yield Ledger(MemoryStorage.copy_of(storage), clock)
        else:
            yield Ledger(storage, clock)


# --- Destinations ------------------------------------------------------------------------------------


def _directory(settings: DirectorySettings) -> Driver:
    from exporter.destinations.directory import DirectoryStore

    return DirectoryStore(settings.path)


def _s3(settings: S3Settings) -> Driver:
    from exporter.destinations.s3 import S3Options, S3Secrets, S3Store

    def secrets() -> S3Secrets:
        return S3Secrets(
            access_key_id=_reveal(settings.access_key_id),
            secret_access_key=_reveal(settings.secret_access_key),
            session_token=_reveal(settings.session_token),
            external_id=_reveal(settings.external_id),
        )

    options = S3Options(
        bucket=settings.bucket,
        region=settings.region,
        endpoint_url=settings.endpoint_url,
        path_style=settings.path_style,
        role_arn=settings.role_arn,
        kms_key=settings.kms_key,
        ca_file=settings.ca_file,
    )
    return S3Store(options, secrets)


def _store(settings: DestinationSettings) -> Driver:
    match settings:
        case DirectorySettings():
            return _directory(settings)
        case S3Settings():
            return _s3(settings)


def _reveal(secret: Secret | None) -> str | None:
    return None if secret is None else secret.reveal()


class Destinations:
    """Destinations, one for all exports with the same settings, and one store for those of one bucket."""

    def __init__(self, wrap: Callable[[Destination], Destination]) -> None:
        self._wrap = wrap
        self._stores: dict[DestinationSettings, Driver] = {}
        self._made: dict[DestinationSettings, Destination] = {}

    def make(self, settings: DestinationSettings) -> Destination:
        """The destination that these settings describe."""
        from exporter.destinations.object_store import ObjectStoreDestination

        without_prefix = settings.model_copy(update={"prefix": ""})
        if without_prefix not in self._stores:
            self._stores[without_prefix] = _store(settings)
        if settings not in self._made:
            store = ObjectStoreDestination(self._stores[without_prefix], settings.prefix)
            self._made[settings] = self._wrap(store)
        return self._made[settings]


# --- All of it ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class App:
    """Everything a command needs, made from one configuration.

    ``unread`` says why the exports of `exports_from.query` are unknown for now, and is one of ``problems``.
    """

    config: Config
    source: Source
    ledger: Ledger
    requests: Requests
    jobs: tuple[Job, ...]
    problems: tuple[ConfigProblem, ...]
    unread: ConfigProblem | None

    @contextmanager
    def pipeline(self) -> Iterator[Pipeline]:
        """The pipeline, with a workspace for as long as it is used. Raises NoWorkspace."""
        with ExitStack() as stack:
            try:
                workspace = stack.enter_context(Workspace(self.config.workspace))
            except WorkspaceError as error:
                raise NoWorkspace(error.message, hint=error.hint) from error
            yield Pipeline(self.source, self.ledger, workspace, compile_format, clock)


@contextmanager
def open_app(path: Path | None, *, dry_run: bool = False) -> Iterator[App]:
    """Open what the configuration names. A dry run works on a copy of the ledger and delivers nothing.

    A source that is gone keeps nobody from looking: it is asked for nothing but the exports it may hold.
    """
    config = configuration.load(path)
    source = _by_scheme(config.source.url, SOURCES, "source")(config)
    with closing(source), open_ledger(config, dry_run=dry_run) as ledger:
        config, unread = _with_rows(config, source)
        made, wrong = _make_jobs(config, dry_run=dry_run)
        jobs, shared = _with_names_of_their_own(made, ledger)
        problems = (*config.problems, *filter(None, [unread]), *wrong, *shared)
        yield App(config, source, ledger, Requests(ledger, clock), jobs, problems, unread)


def _with_rows(config: Config, source: Source) -> tuple[Config, ConfigProblem | None]:
    """The configuration with the exports of its query, or why they are unknown for now."""
    if config.exports_query is None:
        return config, None
    try:
        return configuration.add_rows(config, source.settings(config.exports_query)), None
    except SourceError as error:
        message = f"exports_from.query: its exports are unknown for now: {error.message}"
        return config, ConfigProblem("exports_from.query", message, error.hint)


def _make_jobs(config: Config, *, dry_run: bool) -> tuple[list[Job], list[ConfigProblem]]:
    """A job for each export that can have one, and the problems of those that cannot."""
    destinations = Destinations(_dry if dry_run else _as_it_is)
    jobs: list[Job] = []
    problems: list[ConfigProblem] = []
    for export in config.exports:
        try:
            jobs.append(_job(config, export, destinations))
        except ConfigError as error:
            problems.append(ConfigProblem(export.name, error.message, error.hint, export.account))
        except Exception as error:  # noqa: BLE001 - a driver's surprise at one export must not stop the others
            problems.append(_surprise(export, error))
    return jobs, problems


def _surprise(export: ExportSettings, error: Exception) -> ConfigProblem:
    """Of an error that nobody foresaw: its kind, but not its text, which may quote a setting."""
    reason = (isinstance(error, OSError) and error.strerror) or type(error).__name__
    hint = "check the export's settings; if they are right, please report this"
    message = f"its destination cannot be set up: {reason}"
    return ConfigProblem(export.name, message, hint, export.account)


def _job(config: Config, export: ExportSettings, destinations: Destinations) -> Job:
    columns = config.source.columns.model_dump()
    rendering = Rendering(
        format=export.format,
        fields=presets.fields_of(export.format, columns),
        archive=export.archive,
        body=export.body,
        max_record_bytes=export.max_record,
    )
    destination = destinations.make(export.destination)
    return Job(
        name=export.name,
        account=export.account,
        zone=configuration.load_zone(export.timezone),
        every=export.every,
        grace=export.grace,
        start=export.start,
        rendering=rendering,
        part_limit_bytes=export.part_limit,
        destination=destination,
        claim=destination.claim(export.account),
    )


def _with_names_of_their_own(jobs: list[Job], ledger: Ledger) -> tuple[tuple[Job, ...], list[ConfigProblem]]:
    """Of exports that would write the same object names, the one that began, else the first, and no other."""
    by_claim: dict[str, list[Job]] = {}
    for job in jobs:
        by_claim.setdefault(job.claim, []).append(job)
    refused: dict[str, ConfigProblem] = {}
    for claim, sharing in by_claim.items():
        if len(sharing) == 1:
            continue
        keeper = next((job for job in sharing if ledger.standing(job.name)), sharing[0])
        for job in sharing:
            if job is not keeper:
                message = f"would write the same object names as export '{keeper.name}': {claim}"
                hint = "give one of them another prefix"
                refused[job.name] = ConfigProblem(job.name, message, hint, job.account)
    return tuple(job for job in jobs if job.name not in refused), list(refused.values())


def _as_it_is(destination: Destination) -> Destination:
    return destination


def _dry(destination: Destination) -> Destination:
    from exporter.destinations.dry_run import DryRunDestination

    return DryRunDestination(destination)


def _by_scheme(
    url: Secret, known: Mapping[str, Callable[[Config], Made]], kind: str
) -> Callable[[Config], Made]:
    scheme, separator, _ = url.reveal().partition("://")
    scheme = scheme.partition("+")[0]
    if scheme not in known:
        names = ", ".join(f"{name}:///…" for name in sorted(known))
        # Without the separator nobody knows which part of the text may be shown.
        wrong = f"there is no {kind} for '{scheme}' addresses" if separator else f"{kind}.url is no address"
        raise ConfigError(wrong, hint=f"{kind}.url can be: {names}")
    return known[scheme]


def select(app: App, accounts: list[str], exports: list[str]) -> tuple[Job, ...]:
    """The jobs of these accounts that are among these exports; an empty list chooses all.

    Raises ConfigError for a name that there is not, and for an export of another account.
    """
    for word, wanted, known in (
        ("account", accounts, {job.account for job in app.jobs}),
        ("export", exports, {job.name for job in app.jobs}),
    ):
        for name in wanted:
            if name not in known:
                raise unknown(app, word, name, known)
    chosen = [job for job in app.jobs if not exports or job.name in exports]
    for job in chosen:
        if exports and accounts and job.account not in accounts:
            raise ConfigError(
                f"--export {job.name} is of account '{job.account}', not of --account {', '.join(accounts)}",
                hint="leave one of the two out",
            )
    return tuple(job for job in chosen if not accounts or job.account in accounts)


def unknown(app: App, word: str, name: str, known: set[str]) -> ConfigError:
    """Why there is no such account or export: its configuration is wrong, or unknown for now, or missing."""
    import difflib

    problem = next((one for one in app.problems if name in (one.export, one.account)), app.unread)
    if problem is not None:
        return ConfigError(problem.message, hint=problem.hint)
    close = difflib.get_close_matches(name, known, 3, 0.5)
    hint = f"did you mean {' or '.join(close)}?" if close else "see them all with: audit-exporter status"
    return ConfigError(f"no {word} '{name}' is configured", hint=hint)
