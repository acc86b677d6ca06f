"""Where a configuration becomes objects: the only place that knows every driver by name.

A new source, ledger or destination is a function in the module of its kind, and a line where it is chosen.
"""

from __future__ import annotations

import gc
import logging
import warnings
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol, TypeVar

from exporter import config as configuration
from exporter.config import ConfigProblem
from exporter.errors import ConfigError, SourceError, WorkspaceError
from exporter.formats import compile_format
from exporter.ledger.requests import Requests
from exporter.ledger.rules import Ledger
from exporter.network.guard import Guard
from exporter.pipeline import Job, Pipeline
from exporter.wiring.destinations import Destinations
from exporter.wiring.ledgers import ledger_of
from exporter.wiring.renderings import correction, key_of, reads, rendering_of
from exporter.wiring.sources import SourceDriver, source_of
from exporter.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from exporter.config import Config, ExportSettings
    from exporter.interfaces import Destination, Source

__all__ = [
    "App",
    "NoWorkspace",
    "SourceDriver",
    "chosen",
    "clock",
    "correction",
    "ledger_of",
    "open_app",
    "open_ledger",
    "reads",
    "rendering_of",
    "select",
    "source_of",
    "unknown",
]

# Libraries log requests with their headers, tokens and signatures, as warnings even where nobody asked.
for _library in ("azure", "boto3", "botocore", "google", "msal", "requests", "s3transfer", "urllib3"):
    logging.getLogger(_library).setLevel(logging.CRITICAL + 1)

# requests silences this itself, but another library that is loaded in another thread meanwhile undoes it.
warnings.filterwarnings("ignore", message="SOCKS support in urllib3")


class NoWorkspace(WorkspaceError):
    """No archive of any export can be written: nothing could run."""

    exit_status = 20


def clock() -> datetime:
    """This machine's clock."""
    return datetime.now(UTC)


@contextmanager
def open_ledger(config: Config, *, dry_run: bool = False) -> Iterator[Ledger]:
    """The ledger alone: what a person asks of it needs neither source nor destination."""
    with closing(ledger_of(config).open()) as storage:
        if dry_run:
            from exporter.ledger.memory import MemoryStorage

            yield Ledger(MemoryStorage.copy_of(storage), clock)
        else:
            yield Ledger(storage, clock)


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

    def columns(self, job: Job) -> tuple[str, ...]:
        """The source columns that an export asks for by name."""
        return tuple(compile_format(job.rendering).named)

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
    with closing(source_of(config).open()) as source, open_ledger(config, dry_run=dry_run) as ledger:
        config, unread = _with_rows(config, source)
        made, wrong = _make_jobs(config, dry_run=dry_run)
        jobs, shared = _with_names_of_their_own(made, ledger)
        problems = (*config.problems, *filter(None, [unread]), *wrong, *shared)
        _collect_from_now_on()
        yield App(config, source, ledger, Requests(ledger, clock), jobs, problems, unread)


def _collect_from_now_on() -> None:
    """Turn garbage collection on, where `cli` turned it off; what there is now stays, and is not searched."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()


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
    destinations = Destinations(Guard(config.allowed_hosts), _dry if dry_run else _as_it_is)
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
    rendering = rendering_of(config, export)
    destination = destinations.make(export.destination, rendering)
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
        key=key_of(export),
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
                is_events = job.rendering.is_events
                what = "might deliver the same events" if is_events else "would write the same object names"
                message = f"{what} as export '{keeper.name}': {claim}"
                other = "index, source or sourcetype" if is_events else "prefix"
                hint = f"give one of them another {other}"
                refused[job.name] = ConfigProblem(job.name, message, hint, job.account)
    return tuple(job for job in jobs if job.name not in refused), list(refused.values())


def _as_it_is(destination: Destination) -> Destination:
    return destination


def _dry(destination: Destination) -> Destination:
    from exporter.destinations.dry_run import DryRunDestination

    return DryRunDestination(destination)


class Named(Protocol):
    """An export, as its settings or as a job."""

    @property
    def name(self) -> str:
        """Its own."""
        ...

    @property
    def account(self) -> str:
        """Whose records it delivers."""
        ...


Export = TypeVar("Export", bound=Named)


def select(app: App, accounts: list[str], exports: list[str]) -> tuple[Job, ...]:
    """The jobs of these accounts that are among these exports; see ``chosen``."""
    return chosen(app.jobs, app.problems, accounts, exports, app.unread)


def chosen(
    there: Iterable[Export],
    problems: Iterable[ConfigProblem],
    accounts: list[str],
    exports: list[str],
    unread: ConfigProblem | None = None,
) -> tuple[Export, ...]:
    """Those of these accounts that are among these exports; an empty list chooses all.

    Raises ConfigError for a name that there is not, and for an export of another account.
    """
    there = tuple(there)
    for word, wanted, known in (
        ("account", accounts, {one.account for one in there}),
        ("export", exports, {one.name for one in there}),
    ):
        for name in wanted:
            if name not in known:
                raise unknown(problems, word, name, known, unread)
    found = [one for one in there if not exports or one.name in exports]
    for one in found:
        if exports and accounts and one.account not in accounts:
            raise ConfigError(
                f"--export {one.name} is of account '{one.account}', not of --account {', '.join(accounts)}",
                hint="leave one of the two out",
            )
    return tuple(one for one in found if not accounts or one.account in accounts)


def unknown(
    problems: Iterable[ConfigProblem],
    word: str,
    name: str,
    known: set[str],
    unread: ConfigProblem | None = None,
) -> ConfigError:
    """Why there is no such account or export: its configuration is wrong, or unknown for now, or missing."""
    import difflib

    problem = next((one for one in problems if name in (one.export, one.account)), unread)
    if problem is not None:
        return ConfigError(problem.message, hint=problem.hint)
    close = difflib.get_close_matches(name, known, 3, 0.5)
    hint = f"did you mean {' or '.join(close)}?" if close else "see them all with: audit-exporter status"
    return ConfigError(f"no {word} '{name}' is configured", hint=hint)
