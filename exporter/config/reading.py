"""Reads the configuration: YAML and environment in, frozen settings out, every mistake named by its line.

One wrong export is set aside as a `ConfigProblem` and the others go on; anything wrong that concerns all
of them is a ConfigError. The only module that touches the process's environment. It must not connect to
anything, and nothing it says may quote what could be a secret.
"""

from __future__ import annotations

import glob
import json
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exporter.config.mistakes import checked
from exporter.config.settings import (
    DefaultSettings,
    ExportSettings,
    FileSettings,
    LedgerSettings,
    SourceSettings,
)
from exporter.errors import ConfigError
from exporter.notation.surroundings import Surroundings
from exporter.notation.values import shown
from exporter.notation.wording import dotted
from exporter.notation.yaml_lines import line_of, read_yaml
from exporter.siem.consumers import filled

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from exporter.config.rows import RowRules
    from exporter.notation.yaml_lines import Loc

HINT = "correct the configuration; `audit-exporter schema` describes all of it"

_VARIABLE = "AUDIT_EXPORTER_CONFIG"
_FILE_NAME = "audit-exporter.yaml"


@dataclass(frozen=True, slots=True)
class ConfigProblem:
    """An export that was set aside: its name, or its place if it has none, and every mistake on a line."""

    export: str
    message: str
    hint: str = HINT
    account: str = ""  # whose export it is, where that can be told


@dataclass(frozen=True, slots=True)
class Defaults:
    """What every export of a configuration starts from: its `defaults:`, folder and environment."""

    values: Mapping[str, Any] = field(default_factory=dict)
    around: Surroundings = field(default_factory=Surroundings)


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that a configuration says: the exports that are right, and the problems of the others."""

    path: Path
    source: SourceSettings
    ledger: LedgerSettings
    exports: tuple[ExportSettings, ...]
    problems: tuple[ConfigProblem, ...]
    workspace: Path | None
    allowed_hosts: tuple[str, ...]
    defaults: Defaults
    exports_query: str | None
    rows_folder: Path | None


def find(path: Path | None, environ: Mapping[str, str] | None = None) -> Path:
    """The configuration file: the one given, else $AUDIT_EXPORTER_CONFIG, else audit-exporter.yaml here."""
    environ = os.environ if environ is None else environ
    file = path or Path(environ.get(_VARIABLE) or _FILE_NAME)
    if not file.is_file():
        hint = f"`audit-exporter init` makes one; `-c FILE` or ${_VARIABLE} names another"
        raise ConfigError(f"there is no configuration file {file}", hint=hint)
    return file


def load(path: Path | None, environ: Mapping[str, str] | None = None) -> Config:
    """The configuration in ``path``, or where `find` finds it.

    Raises ConfigError with every mistake of the file, one on a line, unless only single exports are wrong.
    """
    environ = os.environ if environ is None else environ
    file = find(path, environ)
    around = Surroundings(file.parent.absolute(), environ)
    content = read_yaml(file, HINT)
    whole = _Place(str(file), content)
    head = checked(FileSettings, content, around)
    usable = content if isinstance(content, dict) else {}
    exports = _Exports(Defaults(usable.get("defaults", {}) if isinstance(head, FileSettings) else {}, around))
    exports.add_each(usable.get("exports"), replace(whole, loc=("exports",)))
    if not isinstance(head, FileSettings):
        raise ConfigError("\n".join([*whole.say(head), *exports.messages()]), hint=HINT)
    for further in _named(file.parent, head.exports_from.files):
        exports.add_file(further)
    return Config(
        path=file.absolute(),
        source=head.source,
        ledger=head.ledger,
        exports=tuple(exports.settings),
        problems=tuple(exports.problems),
        workspace=head.workspace,
        allowed_hosts=head.network.allow,
        defaults=replace(exports.defaults, values=_settled(exports.defaults.values, head.defaults)),
        exports_query=head.exports_from.query,
        rows_folder=head.exports_from.folder,
    )


def add_rows(config: Config, rows: Iterable[str | bytes]) -> Config:
    """The configuration together with the exports of `exports_from.query`, each row one in JSON.

    Customers may have a hand in rows, so these cannot name what is the operator's, or weaken what `defaults`
    protect.
    """
    from exporter.config.rows import RowRules  # of those who keep exports in a table

    common = DefaultSettings.model_validate(config.defaults.values, context=config.defaults.around)
    rules = RowRules(common, config.source.columns.model_dump())
    around = Surroundings(config.rows_folder, confined=True)
    exports = _Exports(replace(config.defaults, around=around), config, rules)
    for number, row in enumerate(rows, 1):
        place = _Place(f"exports_from.query, row {number}")
        try:
            data = json.loads(row)
        except (ValueError, RecursionError):  # not quoted: the row may hold secrets
            exports.set_aside(str(place), [f"{place}: not JSON text"])
        else:
            exports.add(data, place)
    return replace(config, exports=tuple(exports.settings), problems=tuple(exports.problems))


def sqlite_path(url: str, base: Path) -> Path:
    """The file that a `sqlite:///` URL names; a relative one lies in ``base``. Raises ConfigError."""
    scheme, separator, path = url.partition(":///")
    if scheme != "sqlite" or not separator or not path:
        hint = "write sqlite:///FILE for a file beside the configuration, or sqlite:////FOLDER/FILE"
        raise ConfigError("a SQLite URL has three slashes and the path of a file after them", hint=hint)
    return base / path


# --- Exports, one by one ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Place:
    """Where something stands: a file or a row, what was read from it, and the keys that lead there."""

    file: str
    content: object = None
    loc: Loc = ()

    def __str__(self) -> str:
        return self._at(())

    def say(self, mistakes: list[tuple[Loc, str]]) -> list[str]:
        """One line for a person about each mistake."""
        return [
            ": ".join(filter(None, (self._at(loc), dotted(self.loc + loc), text))) for loc, text in mistakes
        ]

    def _at(self, loc: Loc) -> str:
        line = line_of(self.content, self.loc + loc)
        return f"{self.file}, line {line}" if line else self.file


class _Exports:
    """Gathers exports: the right ones as settings, the others as problems; no name twice."""

    def __init__(
        self, defaults: Defaults, known: Config | None = None, rules: RowRules | None = None
    ) -> None:
        self.defaults = defaults
        self._rules = rules
        self.settings: list[ExportSettings] = list(known.exports) if known else []
        self.problems: list[ConfigProblem] = list(known.problems) if known else []
        names = [export.name for export in self.settings] + [problem.export for problem in self.problems]
        self._places = {name: str(known.path) for name in names} if known else {}

    def messages(self) -> Iterator[str]:
        """What is wrong with the exports that were set aside."""
        return (problem.message for problem in self.problems)

    def set_aside(self, export: str, lines: list[str], account: str = "") -> None:
        """Record an export that cannot be used."""
        self.problems.append(ConfigProblem(export, "\n".join(lines), account=account))

    def add_file(self, file: Path) -> None:
        """Add the export, or the list of exports, that a file holds."""
        try:
            content = read_yaml(file, HINT)
        except ConfigError as error:
            self.set_aside(str(file), [error.message])
            return
        place = _Place(str(file), content)
        if isinstance(content, list):
            self.add_each(content, place)
        else:
            self.add(content, place)

    def add_each(self, items: object, place: _Place) -> None:
        """Add the exports of a list; what is no list is somebody else's mistake to report."""
        for index, data in enumerate(items if isinstance(items, list) else ()):
            self.add(data, replace(place, loc=(*place.loc, index)))

    def add(self, data: object, place: _Place) -> None:
        """Add one export as it was read; its name is taken even if it has to be set aside."""
        mistakes = self._rules.mistakes(data) if self._rules else []
        name = _name(data)
        if name in self._places:
            mistakes.append(_taken(data, name, self._places[name]))
        elif name:
            self._places[name] = str(place)
        whole: object = data
        if isinstance(data, dict):
            whole = _over(self.defaults.values, data)
        export = checked(ExportSettings, whole, self.defaults.around)
        if not isinstance(export, ExportSettings):
            mistakes += export
        elif not mistakes:
            self.settings.append(export)
        if mistakes:
            account = data.get("account") if isinstance(data, dict) else None
            known = account if isinstance(account, str) else ""
            self.set_aside(name or dotted(place.loc) or place.file, place.say(mistakes), known)


def _over(defaults: Mapping[str, Any], data: dict[str, Any]) -> dict[str, Any]:
    """An export's settings over the defaults; each level with what its own `siem` stands for.

    Protection adds up: an export may protect a column in another way, but not give up what all have.
    """
    whole = {**filled(defaults), **filled(data)}
    common, own = defaults.get("protect"), data.get("protect")
    if isinstance(common, dict) and isinstance(own, dict):
        whole["protect"] = {**common, **own}
        shared, further = common.get("columns"), own.get("columns")
        if isinstance(shared, dict) and isinstance(further, dict):
            whole["protect"]["columns"] = {**shared, **further}
    return whole


def _settled(values: Mapping[str, Any], defaults: DefaultSettings) -> dict[str, Any]:
    """Defaults for settings that may name no file and no variable: those that do so are the operator's."""
    settled = dict(values)
    if "format" in values:
        settled["format"] = defaults.format
    if "protect" in values:
        settled["protect"] = {name: value for name, value in defaults.protect if value is not None}
    return settled


def _named(folder: Path, patterns: Iterable[str]) -> Iterable[Path]:
    """The files that the patterns name, each once; one without a wildcard whether it exists or not."""
    found: dict[Path, None] = {}
    for pattern in patterns:
        # Path.glob refuses absolute patterns, and would take a `[` in the folder's own name for one.
        names = sorted(glob.glob(pattern, root_dir=folder)) if glob.has_magic(pattern) else [pattern]  # noqa: PTH207
        found |= dict.fromkeys(folder / name for name in names)
    return found


def _name(data: object) -> str:
    """The name of an export as it was read, right or wrong; empty if it has none."""
    if not isinstance(data, dict):
        return ""
    name = data.get("name", data.get("account"))
    return name if isinstance(name, str) else ""


def _taken(data: object, name: str, place: str) -> tuple[Loc, str]:
    if isinstance(data, dict) and "name" in data:
        return ("name",), f"{shown(name)} is already the name of the export at {place}"
    return ("account",), f"{shown(name)} has another export at {place}; give each of its exports a `name`"
