"""Where a configuration becomes objects: the only module that knows every driver by name.

A new source, ledger or destination is one function and one line in a table here.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from exporter import config as configuration
from exporter import schedule
from exporter.config import DirectorySettings, S3Settings
from exporter.errors import ConfigError
from exporter.formats import compile_format, presets
from exporter.ledger.requests import Requests
from exporter.ledger.rules import Ledger
from exporter.model import Rendering
from exporter.pipeline import Job, Pipeline
from exporter.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from exporter.config import Config, ConfigProblem, ExportSettings, Secret
    from exporter.interfaces import Destination, Source
    from exporter.ledger.storage import Storage


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


def _sqlite_ledger(config: Config) -> Storage:
    from exporter.ledger.sql import SqliteStorage

    return SqliteStorage(ledger_path(config))


LEDGERS: Final[Mapping[str, Callable[[Config], Storage]]] = {"sqlite": _sqlite_ledger}


def ledger_path(config: Config) -> Path:
    """The file of an embedded ledger."""
    return configuration.sqlite_path(config.ledger.url.reveal(), config.path.parent)


# --- Destinations ------------------------------------------------------------------------------------


def _directory(settings: DirectorySettings) -> Any:  # noqa: ANN401 - an ObjectStore with limits on names
    from exporter.destinations.directory import DirectoryStore

    return DirectoryStore(settings.path)


def _s3(settings: S3Settings) -> Any:  # noqa: ANN401
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


STORES: Final[Mapping[type, Callable[[Any], Any]]] = {DirectorySettings: _directory, S3Settings: _s3}


def _reveal(secret: Secret | None) -> str | None:
    return None if secret is None else secret.reveal()


class Destinations:
    """Destinations by their settings, each store once, so that exports of one bucket share its client."""

    def __init__(self, wrap: Callable[[Destination], Destination]) -> None:
        self._wrap = wrap
        self._stores: dict[object, Any] = {}

    def make(self, settings: DirectorySettings | S3Settings) -> Destination:
        """The destination that these settings describe."""
        from exporter.destinations.object_store import ObjectStoreDestination

        without_prefix = settings.model_copy(update={"prefix": ""})
        if without_prefix not in self._stores:
            self._stores[without_prefix] = STORES[type(settings)](settings)
        return self._wrap(ObjectStoreDestination(self._stores[without_prefix], settings.prefix))


# --- All of it ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class App:
    """Everything a command needs, made from one configuration."""

    config: Config
    source: Source
    ledger: Ledger
    requests: Requests
    jobs: tuple[Job, ...]
    problems: tuple[ConfigProblem, ...]

    @contextmanager
    def pipeline(self) -> Iterator[Pipeline]:
        """The pipeline, with a workspace for as long as it is used."""
        with Workspace(self.config.workspace) as workspace:
            yield Pipeline(self.source, self.ledger, workspace, compile_format, clock)


@contextmanager
def open_app(path: Path | None, *, dry_run: bool = False) -> Iterator[App]:
    """Open what the configuration names. A dry run works on a copy of the ledger and delivers nothing."""
    config = configuration.load(path)
    with ExitStack() as stack:
        source = _by_scheme(config.source.url, SOURCES, "source")(config)
        stack.callback(source.close)
        if config.exports_query:
            config = configuration.add_rows(config, source.settings(config.exports_query))
        storage = _by_scheme(config.ledger.url, LEDGERS, "ledger")(config)
        stack.callback(storage.close)
        if dry_run:
            from exporter.ledger.memory import MemoryStorage

            storage = MemoryStorage.copy_of(storage)
        ledger = Ledger(storage, clock)
        jobs, problems = make_jobs(config, dry_run=dry_run)
        jobs, shared = _with_names_of_their_own(jobs, ledger)
        yield App(config, source, ledger, Requests(ledger, clock), jobs, (*problems, *shared))


def make_jobs(config: Config, *, dry_run: bool = False) -> tuple[tuple[Job, ...], tuple[ConfigProblem, ...]]:
    """A job for each export that can have one, and the problems of those that cannot."""
    destinations = Destinations(_dry if dry_run else _as_it_is)
    jobs: list[Job] = []
    problems = list(config.problems)
    for export in config.exports:
        try:
            jobs.append(_job(config, export, destinations))
        except ConfigError as error:
            problems.append(configuration.ConfigProblem(export.name, error.message, error.hint))
    return tuple(jobs), tuple(problems)


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
        zone=schedule.load_zone(export.timezone),
        every=export.every,
        grace=export.grace,
        start=export.start,
        rendering=rendering,
        part_limit_bytes=export.part_limit,
        destination=destination,
        claim=destination.claim(export.account),
    )


def _with_names_of_their_own(
    jobs: tuple[Job, ...], ledger: Ledger
) -> tuple[tuple[Job, ...], list[ConfigProblem]]:
    """Of exports that would write the same object names, the one that began, else the first, and no other."""
    by_claim: dict[str, list[Job]] = {}
    for job in jobs:
        by_claim.setdefault(job.destination.claim(job.account), []).append(job)
    refused: dict[str, ConfigProblem] = {}
    for claim, sharing in by_claim.items():
        if len(sharing) == 1:
            continue
        keeper = next((job for job in sharing if ledger.standing(job.name)), sharing[0])
        for job in sharing:
            if job is not keeper:
                message = f"would write the same object names as export '{keeper.name}': {claim}"
                hint = "give one of them another prefix"
                refused[job.name] = configuration.ConfigProblem(job.name, message, hint)
    return tuple(job for job in jobs if job.name not in refused), list(refused.values())


def _as_it_is(destination: Destination) -> Destination:
    return destination


def _dry(destination: Destination) -> Destination:
    from exporter.destinations.dry_run import DryRunDestination

    return DryRunDestination(destination)


def _by_scheme(
    url: Secret, known: Mapping[str, Callable[[Config], Any]], kind: str
) -> Callable[[Config], Any]:
    scheme, separator, _ = url.reveal().partition("://")
    scheme = scheme.partition("+")[0]
    if scheme not in known:
        names = ", ".join(f"{name}:///…" for name in sorted(known))
        # Without the separator nobody knows which part of the text may be shown.
        wrong = f"there is no {kind} for '{scheme}' addresses" if separator else f"{kind}.url is no address"
        raise ConfigError(wrong, hint=f"{kind}.url can be: {names}")
    return known[scheme]


def select(app: App, accounts: list[str], exports: list[str]) -> tuple[Job, ...]:
    """The jobs of these accounts and exports; all of them when none is named. Raises ConfigError."""
    if not accounts and not exports:
        return app.jobs
    for word, wanted, known in (
        ("account", accounts, {job.account for job in app.jobs}),
        ("export", exports, {job.name for job in app.jobs}),
    ):
        for name in wanted:
            if name not in known:
                raise _problem_of(app, name) or unknown(word, name, known)
    return tuple(job for job in app.jobs if job.account in accounts or job.name in exports)


def unknown(word: str, name: str, known: set[str]) -> ConfigError:
    """The error for an account or an export that there is not."""
    import difflib

    close = difflib.get_close_matches(name, known, 3, 0.5)
    hint = f"did you mean {' or '.join(close)}?" if close else "see them all with: audit-exporter status"
    return ConfigError(f"no {word} '{name}' is configured", hint=hint)


def _problem_of(app: App, name: str) -> ConfigError | None:
    """Why an export that is configured cannot be used."""
    found = (problem for problem in app.problems if problem.export == name)
    return next((ConfigError(problem.message, hint=problem.hint) for problem in found), None)
