"""The command line: parse, call a command, exit with its status. Nothing else happens here."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from exporter.errors import ExporterError

if TYPE_CHECKING:
    from collections.abc import Callable

app = typer.Typer(
    name="audit-exporter",
    help="Deliver each customer's audit records into the customer's own storage, each exactly once.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
ledger_app = typer.Typer(help="Create, migrate and repair the ledger.", no_args_is_help=True)
source_app = typer.Typer(help="Make the source ready to be read.", no_args_is_help=True)
app.add_typer(ledger_app, name="ledger")
app.add_typer(source_app, name="source")

Config = Annotated[
    Path | None,
    typer.Option(
        "-c",
        "--config",
        metavar="FILE",
        help="The configuration; else $AUDIT_EXPORTER_CONFIG, else audit-exporter.yaml here.",
    ),
]
Accounts = Annotated[
    list[str] | None, typer.Option("--account", metavar="A", help="Only this account; may be repeated.")
]
Exports = Annotated[
    list[str] | None, typer.Option("--export", metavar="NAME", help="Only this export; may be repeated.")
]
Budget = Annotated[
    str | None,
    typer.Option("--budget", metavar="TIME", help="Start no new work after this long, such as 10m."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print names, counts and sizes; write nothing.")]
AsJson = Annotated[bool, typer.Option("--json", help="Answer in JSON.")]
Sequence = Annotated[
    int | None,
    typer.Option("--seq", min=1, max=10**12, metavar="N", help="Only the delivery of this number."),
]
ExportName = Annotated[str, typer.Argument(metavar="EXPORT", help="The export's name.")]


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="Where to put everything.")] = Path(),
    records: Annotated[
        list[Path] | None,
        typer.Option(
            "--records", metavar="FILE", help="A JSON Lines file of real audit records; may be repeated."
        ),
    ] = None,
    more: Annotated[
        list[Path] | None, typer.Argument(metavar="[FILE]...", help="Further files of records.", hidden=True)
    ] = None,
) -> None:
    """Make a configuration, a source database and an empty ledger to start with."""
    from exporter.commands import manage

    _exit(lambda: manage.init(folder, [*(records or []), *(more or [])]))


@app.command()
def run(
    config: Config = None,
    account: Accounts = None,
    export: Exports = None,
    as_of: Annotated[
        str | None, typer.Option("--as-of", metavar="TIME", help="Take this as now for what is due.")
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            min=1,
            max=64,
            metavar="N",
            help="Processes at a time; else one per core, four at the most.",
        ),
    ] = None,
    budget: Budget = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on for good: sleep until a window is due, and deliver it.")
    ] = False,
    dry_run: DryRun = False,
    json: AsJson = False,
) -> None:
    """Deliver everything that is due."""
    from exporter.commands import deliver
    from exporter.commands.delivery import Options

    options = Options(config, account or [], export or [], workers, budget, dry_run, json)
    _exit(lambda: deliver.run(options, as_of, follow=follow))


@app.command()
def backfill(
    start: Annotated[
        str,
        typer.Option(
            "--from", metavar="TIME", help="The range's first moment; UTC unless it says otherwise."
        ),
    ],
    end: Annotated[str, typer.Option("--to", metavar="TIME", help="The moment after its last.")],
    config: Config = None,
    account: Annotated[str | None, typer.Option("--account", metavar="A", help="The account.")] = None,
    export: Annotated[
        str | None, typer.Option("--export", metavar="NAME", help="Its export, if it has several.")
    ] = None,
    redeliver: Annotated[
        bool, typer.Option("--redeliver", help="Also what was, or will be, delivered otherwise.")
    ] = False,
    again: Annotated[
        bool, typer.Option("--again", help="With --redeliver: also if the same command was finished.")
    ] = False,
    budget: Budget = None,
    dry_run: DryRun = False,
    json: AsJson = False,
) -> None:
    """Deliver a past range of an account; the same command again goes on where it stopped."""
    from exporter.commands import deliver
    from exporter.commands.delivery import Options

    def command() -> int:
        accounts, exports = deliver.one_of(account, export)
        options = Options(config, accounts, exports, None, budget, dry_run, json)
        return deliver.backfill(options, start, end, redeliver=redeliver, again=again)

    _exit(command)


@app.command()
def replay(
    export: Annotated[str, typer.Option("--export", metavar="NAME", help="The export.")],
    seq: Annotated[
        str, typer.Option("--seq", metavar="N..M", help="Sequence numbers: 17, 17..42 or 3,17..42.")
    ],
    config: Config = None,
    budget: Budget = None,
    dry_run: DryRun = False,
    json: AsJson = False,
) -> None:
    """Deliver the content of earlier objects again, under new names."""
    from exporter.commands import deliver
    from exporter.commands.delivery import Options

    options = Options(config, [], [export], None, budget, dry_run, json)
    _exit(lambda: deliver.replay(options, seq))


@app.command()
def status(config: Config = None, export: Exports = None, json: AsJson = False) -> None:
    """Show where every export stands, and what to do about those that do not get on."""
    from exporter.commands import inspect

    _exit(lambda: inspect.status(config, export or [], json=json))


@app.command()
def check(config: Config = None, export: Exports = None, json: AsJson = False) -> None:
    """Look for what would keep deliveries from succeeding, with a real write to each destination."""
    from exporter.commands import inspect

    _exit(lambda: inspect.check(config, export or [], json=json))


@app.command()
def schema() -> None:
    """Print the JSON Schema of the configuration, for editors."""
    from exporter.commands import inspect

    _exit(inspect.schema)


@app.command()
def siem(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="What reads the deliveries; without it, a list.")
    ] = None,
    config: Config = None,
    export: Annotated[
        str | None, typer.Option("--export", metavar="NAME", help="For this export, if there are several.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Print what a SIEM needs to read an export: its own configuration, and what it cannot read."""
    from exporter.commands import siem as command

    _exit(lambda: command.siem(name, config, export, json=json))


@app.command()
def formats(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="One of them, or a file; without it, the list.")
    ] = None,
    sample: Annotated[
        int | None,
        typer.Option("--sample", min=1, max=1000, metavar="N", help="Show N real records, before and after."),
    ] = None,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON Schema of its lines.")] = False,
    config: Config = None,
    account: Accounts = None,
    export: Exports = None,
    json: AsJson = False,
) -> None:
    """List the formats, print one to start from, or show what it makes of real records."""
    from exporter.commands import formats as command

    _exit(
        lambda: command.formats(
            name, command.Wanted(config, account or [], export or [], sample), schema=schema, json=json
        )
    )


@app.command()
def pause(export: ExportName, config: Config = None) -> None:
    """Give an export no new plans; an open one is still finished."""
    from exporter.commands import manage

    _exit(lambda: manage.pause(config, export))


@app.command()
def resume(export: ExportName, config: Config = None) -> None:
    """Let an export go on after a pause, a block or an alarm."""
    from exporter.commands import manage

    _exit(lambda: manage.resume(config, export))


@app.command()
def rename(
    export: ExportName,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its new name.")],
    config: Config = None,
) -> None:
    """Give an export another name; what it has delivered stays its own."""
    from exporter.commands import manage

    _exit(lambda: manage.rename(config, export, name))


@app.command()
def resend(
    export: Annotated[str, typer.Option("--export", metavar="NAME", help="The export.")],
    seq: Sequence = None,
    config: Config = None,
    json: AsJson = False,
) -> None:
    """Send the events again that their destination refused, and that wait in the quarantine."""
    from exporter.commands import manage

    _exit(lambda: manage.resend(config, export, seq, json=json))


@source_app.command("prepare")
def source_prepare(
    config: Config = None,
    apply: Annotated[bool, typer.Option("--apply", help="Run it, with source.admin_url if given.")] = False,
) -> None:
    """Print the SQL that makes the source safe and quick to read: column, indexes, role."""
    from exporter.commands import source

    _exit(lambda: source.prepare(config, apply=apply))


@ledger_app.command("create")
def ledger_create(config: Config = None) -> None:
    """Make the ledger, once: `run` never does, because an empty one would skip history."""
    from exporter.commands import manage

    _exit(lambda: manage.ledger_create(config))


@ledger_app.command("migrate")
def ledger_migrate(config: Config = None) -> None:
    """Bring an older ledger up to date."""
    from exporter.commands import manage

    _exit(lambda: manage.ledger_migrate(config))


@ledger_app.command("bad-records")
def ledger_bad_records(
    export: Annotated[str, typer.Option("--export", metavar="NAME", help="The export.")],
    seq: Sequence = None,
    config: Config = None,
) -> None:
    """Print a delivery's bad records as JSON lines; without --seq the refused events that wait."""
    from exporter.commands import inspect

    _exit(lambda: inspect.bad_records(config, export, seq))


@ledger_app.command("restored")
def ledger_restored(config: Config = None) -> None:
    """Put a ledger that came back from a backup into service; may double, never loses."""
    from exporter.commands import manage

    _exit(lambda: manage.ledger_restored(config))


@ledger_app.command("accept-source")
def ledger_accept_source(
    moment: Annotated[
        str,
        typer.Option(
            "--from", metavar="TIME", help="When the source was still the old one, by the clock; UTC."
        ),
    ],
    config: Config = None,
) -> None:
    """Go on with a source that was restored, failed over or replaced; may double, and marks it."""
    from exporter.commands import manage

    _exit(lambda: manage.accept_source(config, moment))


def _exit(command: Callable[[], int]) -> None:
    """Call, and turn an error into two lines for a person and the status of its class."""
    try:
        code = command()
    except ExporterError as error:
        from exporter.report.console import complain

        complain(error)
        code = error.exit_status
    raise typer.Exit(code)


def main() -> None:
    """The `audit-exporter` program."""
    # Next to nothing of what starting makes is garbage: to look for some, again and again, takes an eighth
    # of the time of a run with nothing due, and to look through it all when the process ends, another one.
    gc.disable()
    try:
        app()
    finally:
        gc.freeze()
