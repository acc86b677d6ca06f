"""The cases of the benchmark: ours and its peers at the same work, in the same run."""

from __future__ import annotations

import sys
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Final

from tests.bench import data, others, ours, records, servers
from tests.bench.hec_sink import sink as events_sink
from tests.bench.measure import measure
from tests.bench.methods import Case, Method
from tests.bench.peers.mappings import FILTERED, KEY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tests.bench.ours import Setup
    from tests.bench.places import World
    from tests.bench.records import Sum

OCSF: Final = {
    "format": "ocsf",
    "filter": f'{{actions: ["*", "!{FILTERED}*"]}}',
    "protect": f'{{columns: {{email: pseudonymise}}, key: "{KEY}"}}',
}
BARE: Final = "bare Python"
HELP: Final = "--help"
IDLE: Final = "run, nothing due, 1 export"
IDLE_MANY: Final = "run, nothing due, all exports"


def _bytes(setup: Setup) -> Callable[[], int]:
    return lambda: sum(map(len, setup.lines()))


def _big(world: World, name: str, title: str, settings: Mapping[str, str], peers: list[Method]) -> Case:
    setup = ours.setup(world, name, [data.BIG], settings=settings)
    return Case(
        name,
        f"{world.sizes.big:,} records of one account, {title}",
        world.sizes.big,
        "records",
        [setup.method(), *peers],
        lambda: records.expected(settings["format"], world.sizes.big),
        _bytes(setup),
        world.postmaster,
    )


def big(world: World) -> AbstractContextManager[Case]:
    """Every column, from PostgreSQL to a zip in a directory."""
    settings = {"format": "native"}
    return nullcontext(_big(world, "big", "PostgreSQL to a zip, native", settings, others.of_postgres(world)))


def standard(world: World) -> AbstractContextManager[Case]:
    """The default format."""
    peers = [others.streaming(world, "standard")]
    return nullcontext(
        _big(world, "standard", "PostgreSQL to a zip, standard", {"format": "standard"}, peers)
    )


def ocsf(world: World) -> AbstractContextManager[Case]:
    """What needs work on each record: lookups, a filter, pseudonyms."""
    peers = [others.streaming(world, "ocsf")]
    title = "PostgreSQL to a zip, ocsf with a filter and pseudonyms"
    return nullcontext(_big(world, "ocsf", title, OCSF, peers))


def _expected_of_many(world: World) -> Callable[[], Sum]:
    return lambda: records.expected_of_many(world.sizes.big, world.sizes.accounts, world.sizes.each)


def accounts(world: World) -> AbstractContextManager[Case]:
    """Many small accounts, from PostgreSQL to a directory."""
    setup = ours.setup(world, "accounts", world.small_accounts(), settings={"format": "native"})
    case = Case(
        "accounts",
        f"{world.sizes.accounts:,} accounts x {world.sizes.each}, PostgreSQL to a directory",
        world.sizes.accounts,
        "accounts",
        [setup.method(), others.each(world)],
        _expected_of_many(world),
        _bytes(setup),
        world.postmaster,
    )
    return nullcontext(case)


@contextmanager
def s3(world: World) -> Iterator[Case]:
    """Many small accounts to S3 over HTTP; the server keeps nothing, so ours is asked what it delivered."""
    with servers.objects() as server:
        names = world.small_accounts()
        setup = ours.setup(
            world,
            "s3",
            names,
            settings={"format": "native"},
            destination=lambda: servers.destination(server.anew()),
        )
        counts = (len(names), len(names) * world.sizes.each)
        yield Case(
            "s3",
            f"{len(names):,} accounts x {world.sizes.each}, PostgreSQL to S3 over HTTP",
            len(names),
            "accounts",
            [_reported(setup, counts), others.each(world, server.anew)],
            postmaster=world.postmaster,
        )


def _reported(setup: Setup, counts: tuple[int, int]) -> Method:
    """A run that is held to its own report."""

    def check(log: Path) -> None:
        found = ours.delivered(log)[:2]
        if found != counts:
            raise SystemExit(f"{found[1]:,} records of {found[0]:,} exports were delivered, not {counts}")

    note = "as it reports: the server keeps nothing"
    return Method(ours.NAME, lambda: setup.run, setup.prepare, check=check, note=note)


def sqlite(world: World) -> AbstractContextManager[Case]:
    """Every column, from SQLite to a zip in a directory."""
    url = f"sqlite:///{world.sqlite}"
    setup = ours.Setup(world.folder / "sqlite", url, [data.BIG], settings={"format": "native"})
    case = Case(
        "sqlite",
        f"{world.sizes.big:,} records of one account, SQLite to a zip, native",
        world.sizes.big,
        "records",
        [setup.method(), *others.of_sqlite(world)],
        lambda: records.expected("native", world.sizes.big),
        _bytes(setup),
    )
    return nullcontext(case)


def accounts_sqlite(world: World) -> AbstractContextManager[Case]:
    """Many small accounts, from SQLite to a directory."""
    url = f"sqlite:///{world.sqlite}"
    names = world.small_accounts()
    setup = ours.Setup(world.folder / "accounts-sqlite", url, names, settings={"format": "native"})
    case = Case(
        "accounts-sqlite",
        f"{len(names):,} accounts x {world.sizes.each}, SQLite to a directory",
        len(names),
        "accounts",
        [setup.method()],
        _expected_of_many(world),
        _bytes(setup),
    )
    return nullcontext(case)


@contextmanager
def hec(world: World) -> Iterator[Case]:
    """Events to a Splunk HEC that takes all of them; what came is counted by their ids."""
    with events_sink() as server:
        place = f'{{type: splunk_hec, url: "{server.url}", token: bench}}'
        setup = ours.setup(world, "hec", [data.BIG], destination=lambda: place)

        def prepare() -> None:
            server.forget()
            setup.prepare()

        def check(_log: Path) -> None:
            found = server.counted()
            if not found.is_exact or found.events != world.sizes.big:
                raise SystemExit(
                    f"{found.events:,} events with {found.ids:,} ids came of {world.sizes.big:,}"
                )

        yield Case(
            "hec",
            f"{world.sizes.big:,} records of one account, PostgreSQL to Splunk HEC",
            world.sizes.big,
            "events",
            [Method(ours.NAME, lambda: setup.run, prepare, check=check)],
            postmaster=world.postmaster,
        )


def start(world: World) -> AbstractContextManager[Case]:
    """What it takes before there is anything to do."""
    idle = _delivered(ours.setup(world, "idle", [data.BIG], settings={"format": "native"}))
    many = _delivered(ours.setup(world, "idle-many", world.small_accounts(), settings={"format": "native"}))
    methods = [
        Method(BARE, lambda: [sys.executable, "-c", ""]),
        Method(HELP, lambda: [ours.PROGRAM, "--help"]),
        Method(IDLE, lambda: idle.run, check=_nothing),
        Method(IDLE_MANY, lambda: many.run, check=_nothing),
    ]
    return nullcontext(Case("start", "Start of a process", 0, "", methods))


def _delivered(setup: Setup) -> Setup:
    """A folder where all is delivered already."""
    setup.prepare()
    measure(setup.run, setup.folder / "log")
    return setup


def _nothing(log: Path) -> None:
    if (found := ours.delivered(log)[0]) != 0:
        raise SystemExit(f"a run that had nothing to do delivered of {found} exports")


def memory(world: World) -> AbstractContextManager[Case]:
    """The same window with once and ten times the records."""
    methods = []
    for count in (world.sizes.big, world.sizes.big * 10):
        setup = ours.setup(
            world, f"memory-{count}", [world.large[count]], table="audit_large", settings={"format": "native"}
        )
        method = _reported(setup, (1, count))
        methods.append(
            Method(f"{count:,} records", method.command, method.prepare, check=method.check, runs=2)
        )
    return nullcontext(Case("memory", "Peak memory", 0, "", methods, postmaster=world.postmaster))


CASES: Final[dict[str, Callable[[World], AbstractContextManager[Case]]]] = {
    "start": start,
    "big": big,
    "standard": standard,
    "ocsf": ocsf,
    "accounts": accounts,
    "s3": s3,
    "sqlite": sqlite,
    "accounts-sqlite": accounts_sqlite,
    "hec": hec,
    "memory": memory,
}
