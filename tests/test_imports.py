"""Imports run one way, as the map in `exporter` says, and nothing is loaded that a command does not need.

Read from the source text: an import counts wherever it stands, also inside a function and for types alone.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from fnmatch import fnmatchcase
from graphlib import TopologicalSorter
from importlib.util import resolve_name
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest

import exporter

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(exporter.__file__).parent


class Rule(NamedTuple):
    """What the modules of one kind may import of the product, and why no more.

    Names are relative to `exporter`, patterns as in a shell. `{driver}` is the importing module's package,
    or its own name up to its first underscore: a driver in several modules shares them with itself alone.
    """

    modules: str
    may: tuple[str, ...]
    reason: str


PURE: Final = ("model",)
VALUES: Final = ("model", "errors")
SEAM: Final = ("interfaces", "columns", "fragments", "bulk", *VALUES)
WITHIN_RULES: Final = ("ledger.history", "ledger.lanes", "ledger.events", "ledger.guards")

RULES: Final = (
    Rule("errors", (), "everybody raises them, so they stand on nothing"),
    Rule("model", (), "values travel everywhere, so they stand on nothing"),
    Rule("interfaces", VALUES, "a seam speaks of values alone, or its two sides are not independent"),
    Rule("schedule", PURE, "pure: windows have to be the same on every machine and under every setting"),
    Rule("keys", PURE, "pure: a name is a function of its parts, whatever the store"),
    Rule("archive", PURE, "pure: it writes lines, and knows neither record nor destination"),
    Rule("fragments", (), "what columns are made of, in sources and formats alike"),
    Rule("_bulk", (), "what is compiled knows nothing of Python's side"),
    Rule("bulk", ("fragments", "_bulk"), "it moves bytes, and knows nothing of what they mean"),
    Rule("columns", (*PURE, "fragments"), "pure: every source makes blocks with it, so it knows none"),
    Rule("libpq", ("errors",), "source and ledger reach PostgreSQL alike, and know nothing of each other"),
    Rule("sqlite_memory", (), "source and ledger take SQLite's memory alike, and know nothing of each other"),
    Rule("retries", (), "how often something is tried again is for whoever asks to say"),
    Rule("workspace", VALUES, "a folder, and nothing of what is built in it"),
    Rule("formats.settings", ("notation.*",), "settings are read before there is a format"),
    Rule(
        "formats.*",
        (*SEAM, "formats.*", "notation.*"),
        "a format turns blocks into lines, from whatever source",
    ),
    Rule("formats", (*SEAM, "formats.*"), "what compiles a plan's format reads no file and no configuration"),
    Rule("batches", PURE, "pure: it cuts lines, and knows neither record nor destination"),
    Rule("siem.consumers", (), "what each consumer reads is data, for the configuration as well"),
    Rule(
        "siem*",
        ("siem.*", "keys", "archive", "notation.values", *VALUES),
        "a pack is text about an export, and opens nothing",
    ),
    Rule(
        "sources*",
        (*SEAM, "libpq", "sources.pieces", "sources.derived", "{driver}*"),
        "a source knows no other source, no ledger and no destination",
    ),
    Rule("notation*", ("notation.*", "keys", "errors"), "how settings are written, whatever they are for"),
    Rule("network*", ("network.*", *VALUES), "the way to a host, whatever is spoken there"),
    Rule(
        "destinations.registry",
        (
            *("destinations.object_store", "destinations.events"),
            *("destinations.*.settings", "destinations.directory"),
        ),
        "a list of settings: it is read with the configuration, so it loads no driver",
    ),
    Rule(
        "destinations*",
        (
            *(*SEAM, "keys", "retries", "network.*", "notation.*", "{driver}*"),
            *("destinations.object_store", "destinations.uploads", "destinations.probe"),
            "destinations.events",
        ),
        "a store is a thin driver below the portable one, and knows no other",
    ),
    Rule("ledger", (), "the rules are imported without the database behind them"),
    Rule("ledger.storage", VALUES, "rows in, rows out: storage knows no rule of the protocol"),
    Rule("ledger.lanes", VALUES, "pure: how a lane stands follows from what was delivered"),
    Rule(
        "ledger.history",
        (*VALUES, "ledger.storage", "ledger.lanes"),
        "it works within a rule, and knows none",
    ),
    Rule("ledger.events", (*VALUES, "ledger.storage"), "it works within a rule, and knows none"),
    Rule("ledger.guards", (*VALUES, "ledger.storage"), "it works within a rule, and knows none"),
    Rule(
        "ledger.standing",
        (*VALUES, "ledger.storage"),
        "where an export stands follows from its rows, whatever the rules",
    ),
    Rule(
        "ledger.protocol",
        (*SEAM, "ledger.storage", "ledger.standing", *WITHIN_RULES),
        "rules hold for every storage, so they know none",
    ),
    Rule(
        "ledger.rules",
        (*SEAM, "ledger.storage", "ledger.protocol", "ledger.standing", *WITHIN_RULES),
        "it opens transactions of any storage, so it knows none",
    ),
    Rule(
        "ledger.requests",
        (*SEAM, "ledger.storage", "ledger.rules", "ledger.standing", *WITHIN_RULES),
        "a request is a rule, too: it holds for every storage",
    ),
    Rule("ledger.memory", (*VALUES, "ledger.storage"), "a storage knows no rule, and no other storage"),
    Rule("ledger.pool", (), "it keeps connections, of whatever to whatever"),
    Rule("ledger.connection", (), "the seam of databases: it knows none of them"),
    Rule("ledger.kinds", (), "pure: what a column holds is no table's matter"),
    Rule("ledger.schema", ("ledger.kinds",), "tables are data: nothing is done with them here"),
    Rule(
        "ledger.statements",
        ("ledger.connection", "ledger.kinds", "ledger.schema"),
        "texts over the tables, for every database alike",
    ),
    Rule(
        "ledger.*",
        (
            *VALUES,
            "libpq",
            "retries",
            "ledger.storage",
            "ledger.connection",
            "ledger.pool",
            "ledger.kinds",
            "ledger.schema",
            "ledger.statements",
            "ledger.migrations",
            "ledger.encoding",
            "ledger.sql",
            "ledger.mappings",
            "ledger.bulk",
            "ledger.group",
            "{driver}*",
        ),
        "what is behind a database's rows knows no rule, and no other storage",
    ),
    Rule(
        "encoding",
        ("interfaces", *VALUES),
        "pure: what comes of a block is the same in any process",
    ),
    Rule(
        "encoders",
        ("encoding", "interfaces", *VALUES),
        "processes that encode, wherever blocks come from and whatever becomes of lines",
    ),
    Rule(
        "rendering",
        ("encoding", "interfaces", "archive", "batches", *VALUES),
        "it makes archives, and knows neither ledger nor store",
    ),
    Rule(
        "journal",
        ("ledger.rules", "batches", *VALUES),
        "what a delivery tells is the ledger's, whatever takes the events",
    ),
    Rule(
        "steps",
        ("workspace", "ledger.rules", "interfaces", *VALUES),
        "what the pipeline works on is data, whoever does the work",
    ),
    Rule(
        "reading",
        (
            *("steps", "packages", "rendering", "encoders", "workspace", "retries", "interfaces"),
            *VALUES,
        ),
        "it renders what it is told to, and knows neither ledger nor store",
    ),
    Rule(
        "delivering",
        ("steps", "journal", "ledger.rules", "interfaces", *VALUES),
        "the second half of the protocol: what was planned needs no source",
    ),
    Rule(
        "beginning",
        ("steps", "delivering", "schedule", "ledger.rules", "interfaces", *VALUES),
        "where exports stand does not depend on what comes next for them",
    ),
    Rule(
        "pipeline",
        (
            *("steps", "beginning", "reading", "delivering", "packages", "workspace", "ledger.rules"),
            *("encoders", "schedule", "keys", "interfaces", *VALUES),
        ),
        "the protocol is one, whatever drivers are plugged in: it sees seams alone",
    ),
    Rule(
        "sending",
        ("steps", "delivering", "interfaces", *VALUES),
        "uploads side by side, whatever comes next for anybody",
    ),
    Rule(
        "packages",
        ("rendering", "keys", "archive", "batches", *VALUES),
        "what a package is called follows from its plan",
    ),
    Rule(
        "resending",
        ("journal", "workspace", "batches", "pipeline", "ledger.requests", "ledger.storage", *VALUES),
        "it sends what is kept, and neither reads nor renders",
    ),
    Rule("outcome", ("pipeline", *VALUES), "what came of a run is data, for whoever reports it"),
    Rule("places", ("steps", *VALUES), "who may start next does not depend on what is started"),
    Rule(
        "means",
        ("steps", "pipeline", "ledger.rules", "interfaces", *VALUES),
        "what a run works with is data",
    ),
    Rule(
        "grouping", ("places", "means", "steps", *VALUES), "who goes together does not depend on what is done"
    ),
    Rule(
        "turns",
        (
            *("grouping", "places", "outcome", "means", "steps", "sending"),
            *("beginning", "pipeline", "ledger.rules", "interfaces", *VALUES),
        ),
        "it shares work out among threads, and decides nothing about it",
    ),
    Rule(
        "workers",
        ("turns", "sending", "means", "outcome", "steps", "ledger.rules", *VALUES),
        "it shares work out among processes, and decides nothing about it either",
    ),
    Rule(
        "runner",
        ("turns", "workers", "outcome", "pipeline", "ledger.rules", "schedule", "interfaces", *VALUES),
        "it decides what goes when, and sees no driver either",
    ),
    Rule(
        "config*",
        (
            *("config.*", "notation.*", "destinations.registry", "formats.settings", "siem.consumers"),
            *("schedule", *VALUES),
        ),
        "settings are data: they are read before there is anything to use them, and connect to nothing",
    ),
    Rule("telemetry*", ("runner", "pipeline", "telemetry.*", *VALUES), "it watches, and cannot interfere"),
    Rule(
        "report*",
        (
            *("runner", "outcome", "pipeline", "ledger.rules", "ledger.storage", "schedule", "config"),
            *("starter.folder", "siem.*", "report.*", *VALUES),
        ),
        "it shows what others did, so it opens nothing itself",
    ),
    Rule(
        "starter*",
        ("starter", "starter.*", *VALUES),
        "it makes the vendor's side, which the road begins behind",
    ),
    Rule(
        "wiring*",
        (
            *(
                "wiring.*",
                "pipeline",
                "workspace",
                "formats",
                "formats.*",
                "sources.*",
                "destinations.*",
                "ledger.*",
            ),
            *("config", "libpq", "sqlite_memory", "network.guard", *SEAM),
        ),
        "the one place that knows every driver stands below whatever uses it",
    ),
    Rule(
        "commands.manage",
        (
            *("wiring", "config", "ledger.requests", "resending", "workspace"),
            *("report.*", "starter.*", "commands.*", *VALUES),
        ),
        "it asks the ledger for what a person wants, and leaves drivers to `wiring`",
    ),
    Rule(
        "commands.formats",
        (
            *("wiring", "wiring.renderings", "config", "pipeline", "interfaces", "columns"),
            *("formats", "formats.*", "starter.*", "report.*", "commands.*", *VALUES),
        ),
        "it shows formats at work, also where there is no configuration yet",
    ),
    Rule(
        "commands.siem",
        ("wiring", "config", "pipeline", "siem.*", "report.*", "commands.*", *VALUES),
        "a pack is about one export, as it is configured",
    ),
    Rule(
        "commands*",
        (
            *("wiring", "config", "runner", "turns", "outcome", "pipeline"),
            *("ledger.storage", "ledger.requests"),
            *("interfaces", *VALUES),
            *("report.*", "telemetry.*", "commands.*"),
        ),
        "a command uses what `wiring` hands it, and names no driver",
    ),
    Rule(
        "cli",
        ("commands", "commands.*", "report.console", "errors"),
        "it parses and calls, and decides nothing",
    ),
    Rule("__main__", ("cli",), "it is the command line under another name"),
    Rule("", (), "every import of the product begins with it"),
)
"""The first rule whose pattern fits a module is that module's."""


class Import(NamedTuple):
    """One import of a module, by its full name."""

    module: str
    is_on_top: bool
    is_for_types: bool


def name_of(path: Path) -> str:
    """A module's name relative to `exporter`, that of the package itself being empty."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES: Final = {name_of(path): path for path in sorted([*ROOT.rglob("*.py"), *ROOT.rglob("*.pyi")])}


def imports_of(source: str, package: str) -> Iterator[Import]:
    """Every import in a module's source text; of `from package import name` also the name, if a module."""
    tree = ast.parse(source)
    on_top = {id(node) for node in tree.body}
    for_types: set[int] = set()
    for block in ast.walk(tree):
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING":
            for_types |= {id(node) for statement in block.body for node in ast.walk(statement)}
    for node in ast.walk(tree):
        for module in _named(node, package):
            yield Import(module, id(node) in on_top, id(node) in for_types)


def _named(node: ast.AST, package: str) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        module = resolve_name("." * node.level + (node.module or ""), package) if node.level else node.module
        names = [f"{module}.{alias.name}" for alias in node.names]
        modules = [name for name in names if name.removeprefix("exporter.") in MODULES]
        yield from modules or [str(module)]


def package_of(module: str) -> str:
    """The package that a module's relative imports start from."""
    full = f"exporter.{module}".rstrip(".")
    return full if MODULES[module].name == "__init__.py" else full.rpartition(".")[0]


def own_imports(module: str) -> list[Import]:
    """What a module imports of the product, by names relative to `exporter`."""
    found = imports_of(MODULES[module].read_text(encoding="utf-8"), package_of(module))
    return [
        one._replace(module=one.module.removeprefix("exporter").lstrip("."))
        for one in found
        if one.module.split(".")[0] == "exporter"
    ]


def rule_of(module: str) -> Rule:
    """The rule that holds for a module."""
    return next(rule for rule in RULES if fnmatchcase(module, rule.modules))


def allows(rule: Rule, module: str, imported: str) -> bool:
    """Whether a rule lets a module import this one."""
    driver = ".".join(module.split(".")[:2]).partition("_")[0]
    return any(fnmatchcase(imported, pattern.format(driver=driver)) for pattern in rule.may)


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module or "exporter")
def test_a_module_imports_only_what_its_rule_allows(module: str) -> None:
    """Imports run downward; each rule says why."""
    rule = rule_of(module)
    wrong = [one.module for one in own_imports(module) if not allows(rule, module, one.module)]
    assert wrong == [], f"exporter.{module} must not import {', '.join(wrong)}: {rule.reason}"


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.modules or "exporter")
def test_a_rule_is_about_some_module(rule: Rule) -> None:
    """A rule for what is no longer there would only look like one."""
    assert rule in [rule_of(module) for module in MODULES]


def test_the_map_names_every_part_of_the_product() -> None:
    """Whoever reads `exporter/__init__.py` has heard of all of it, and of nothing else."""
    parts = {module.partition(".")[0] for module in MODULES} - {"", "__main__"}
    said = exporter.__doc__ or ""
    assert {part for part in parts if not re.search(rf"\b{part}\b", said)} == set()
    assert set(re.findall(r"``(\w+)``", said)) <= parts


def test_imports_never_go_in_a_circle() -> None:
    """Not even those for types: of two modules, one can always be read without the other.

    But for the one place where settings open their own driver, when they are asked to.
    """
    graph = {module: {one.module for one in own_imports(module)} - {""} for module in MODULES}
    for module in MODULES:
        package, _, name = module.rpartition(".")
        if name == "settings" and package.startswith("destinations."):
            graph[module] -= {f"{package}.store", f"{package}.destination"}
    TopologicalSorter(graph).prepare()


@pytest.mark.parametrize(
    "source",
    [
        "import exporter.sources.sqlite",
        "import exporter.sources.sqlite as driver",
        "from exporter.sources import sqlite",
        "from exporter.sources.sqlite import SqliteSource",
        "from .sources import sqlite",
        "from .sources.sqlite import SqliteSource",
        "def late():\n    from exporter.sources.sqlite import SqliteSource",
        "if TYPE_CHECKING:\n    from exporter.sources.sqlite import SqliteSource",
        "class A:\n    try:\n        import exporter.sources.sqlite\n    finally:\n        pass",
    ],
)
def test_an_import_is_found_in_every_form_and_place(source: str) -> None:
    """There is no spelling that the rules do not see."""
    assert [one.module for one in imports_of(source, "exporter")] == ["exporter.sources.sqlite"]


@pytest.mark.parametrize(
    ("module", "imported"),
    [
        ("sources.sqlite", "sources.memory"),
        ("sources.memory", "sources.sqlite.time"),
        ("destinations.s3.store", "destinations.directory"),
        ("destinations.directory", "ledger.rules"),
        ("ledger.rules", "ledger.sql"),
        ("pipeline", "destinations.object_store"),
        ("keys", "config"),
        ("schedule", "errors"),
        ("keys", "errors"),
        ("archive", "errors"),
        ("columns", "errors"),
        ("runner", "wiring"),
        ("commands.deliver", "cli"),
        ("commands.manage", "ledger.sql"),
    ],
)
def test_a_rule_refuses_what_it_is_there_for(module: str, imported: str) -> None:
    """Drivers stay apart, the protocol knows none, and nothing looks up."""
    assert {module, imported} <= set(MODULES)
    assert not allows(rule_of(module), module, imported)


def test_the_command_line_imports_commands_only_when_they_are_called() -> None:
    """`--help` answers at once, whatever a command needs."""
    on_top = [one.module for one in own_imports("cli") if one.is_on_top]
    assert on_top == ["errors"]


LOADED_LATE: Final = {"destinations.s3.wire"}  # its classes are an SDK's, with more to them


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module or "exporter")
def test_no_module_loads_an_sdk_when_it_is_imported(module: str) -> None:
    """An SDK takes longer to load than most runs take: it is imported when it is first needed."""
    source = MODULES[module].read_text(encoding="utf-8")
    on_top = {one.module.split(".")[0] for one in imports_of(source, package_of(module)) if one.is_on_top}
    assert on_top.isdisjoint({"boto3", "botocore", "google", "azure"}) or module in LOADED_LATE


@pytest.mark.parametrize("module", sorted(LOADED_LATE))
def test_what_is_made_of_an_sdk_is_imported_when_it_is_first_needed(module: str) -> None:
    importers = [
        other for other in MODULES for one in own_imports(other) if one.is_on_top and one.module == module
    ]
    assert importers == []


@pytest.mark.parametrize(
    "module",
    [module for module in MODULES if module.partition(".")[0] != "config"],
    ids=lambda module: module or "exporter",
)
def test_only_the_configuration_reads_the_environment(module: str) -> None:
    """What a process does is in its configuration, and nowhere else."""
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    named = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    imported = {
        f"os.{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "os"
        for alias in node.names
    }
    assert (named | imported).isdisjoint({"os.environ", "os.getenv", "os.environb"})


# --- what a process has loaded at its end ------------------------------------------------------------

CALL: Final = """
import json, pathlib, sys
from exporter.cli import main
loaded = pathlib.Path(sys.argv.pop(1))
try:
    main()
finally:
    loaded.write_text(json.dumps(sorted(sys.modules)))
"""


def loaded_by(folder: Path, *arguments: str) -> set[str]:
    """The modules that a call of the command line ends with; it has to succeed."""
    loaded = folder / "loaded.json"
    command = [sys.executable, "-c", CALL, str(loaded), *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return set(json.loads(loaded.read_text(encoding="utf-8")))


SDKS: Final = {
    "azure",
    "boto3",
    "botocore",
    "cryptography",
    "google",
    "msal",
    "requests",
    "s3transfer",
    "urllib3",
}


def test_help_loads_neither_settings_nor_database_nor_sdk(tmp_path: Path) -> None:
    """Somebody who asks for help gets it at once."""
    assert loaded_by(tmp_path, "--help").isdisjoint(SDKS | {"pydantic", "orjson", "isal"})


@pytest.mark.parametrize("command", ["", "run", "status", "ledger accept-source"])
def test_help_loads_nothing_of_the_product_but_the_command_line(tmp_path: Path, command: str) -> None:
    """What a command needs is imported when it is called."""
    loaded = loaded_by(tmp_path, *command.split(), "--help")
    product = {name for name in loaded if name.partition(".")[0] == "exporter"}
    assert product == {"exporter", "exporter.cli", "exporter.errors"}


def test_no_library_tells_a_user_what_it_would_like_to_have() -> None:
    """urllib3 asks for another package, on standard error, whenever it is loaded beside another library."""
    asked = (
        "import warnings, exporter.wiring\ntry:\n    import urllib3.contrib.socks\nexcept ImportError: pass"
    )
    done = subprocess.run(
        [sys.executable, "-c", asked], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stderr == ""


RECORDS: Final = '{"created_at":"2026-11-01T00:00:00Z","account_id":"acme","action":"Login"}\n'


@pytest.fixture
def configuration(tmp_path: Path) -> Path:
    """A folder of `init` with one account, whose live delivery begins with the present window."""
    (tmp_path / "records.jsonl").write_text(RECORDS, encoding="utf-8")
    loaded_by(tmp_path, "init", "demo", "--records", "records.jsonl")
    path = tmp_path / "demo" / "audit-exporter.yaml"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(line for line in lines if "start:" not in line), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "destination",
    [
        "{type: directory, path: ./out}",
        "{type: s3, bucket: acme-audit, region: us-east-1}",
        "{type: gcs, bucket: acme-audit}",
        "{type: azure, account_url: https://acme.blob.core.windows.net, container: audit}",
    ],
)
def test_a_run_with_nothing_due_loads_no_sdk(configuration: Path, tmp_path: Path, destination: str) -> None:
    """Most runs find nothing to do, whatever the destination, and are over at once."""
    text = configuration.read_text(encoding="utf-8")
    text = text.replace("{type: directory, path: ./out}", destination)
    configuration.write_text(text, encoding="utf-8")
    loaded = loaded_by(tmp_path, "run", "-c", str(configuration))
    assert {name.partition(".")[0] for name in loaded}.isdisjoint(SDKS)
