"""The formats that come with the product, files of your own, and either bound to the columns of a source.

A format's file is read when an export is set up. What is read and bound is remembered: exports are many, and
formats few.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from exporter.errors import ConfigError
from exporter.formats.binding import Binder
from exporter.formats.language import Language, read_envelope, read_format
from exporter.notation.values import shown
from exporter.notation.wording import did_you_mean, near

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from exporter.formats.settings import FormatChoice
    from exporter.model import Json

NATIVE: Final = "native"
_FOLDER: Final = Path(__file__).with_name("presets")


def preset_file(name: str) -> Path:
    """The file of a format that comes with the product."""
    return _FOLDER / f"{name}.yaml"


def language_of(choice: FormatChoice) -> Language:
    """A format as its file describes it. Raises ConfigError."""
    file = preset_file(choice.name) if choice.name else choice.file or Path()
    return _read(file, None if choice.name else _version_of(file))


def roles_in(choice: FormatChoice) -> frozenset[str]:
    """The roles and columns that a format speaks of. Raises ConfigError."""
    file = preset_file(choice.name) if choice.name else choice.file or Path()
    return _roles(file, None if choice.name else _version_of(file))


def name_of(choice: FormatChoice) -> str:
    """What a format is called in a plan and in an object's metadata; a file of your own by its name."""
    if choice.name:
        return choice.name
    stem = choice.file.stem if choice.file else ""
    return "file:" + "".join(one if one.isascii() and one.isalnum() else "-" for one in stem)


def bind(
    choice: FormatChoice, roles: Mapping[str, str | None], envelope: Mapping[str, Json] | None = None
) -> tuple[str, Json]:
    """A format's name, and its mapping bound to the source's columns. Raises ConfigError.

    ``envelope`` is what a destination of events puts around each record.
    """
    language = language_of(choice)
    for name in choice.with_:
        if name not in language.parameters:
            known = ", ".join(language.parameters)
            there = f"it has {known}" if known else "it has none"
            meant = did_you_mean(near(name, language.parameters)) or there
            raise ConfigError(
                f"format.with: {shown(name)} is no parameter of format '{name_of(choice)}'; {meant}",
                hint="correct the configuration; the format's file says which parameters it has",
            )
    if choice.name == NATIVE and envelope is None:
        return NATIVE, None
    _check_choices(choice, language)
    parameters = {**language.parameters, **choice.with_}
    if language.unfilled == "column":
        roles = {role: column for role, column in roles.items() if column is not None}
    around = None if envelope is None else json.dumps(envelope)
    file = preset_file(choice.name) if choice.name else choice.file or Path()
    version = None if choice.name else _version_of(file)
    return name_of(choice), _bound(file, version, tuple(parameters.items()), tuple(roles.items()), around)


def _check_choices(choice: FormatChoice, language: Language) -> None:
    """Raises ConfigError for a value that the format does not know of a parameter that names its choices."""
    for name, value in choice.with_.items():
        known = language.choices.get(name, (value,))
        if value not in known:
            raise ConfigError(
                f"format.with.{name}: format '{name_of(choice)}' does not know {shown(value)}",
                hint=did_you_mean(near(value, known)) or f"there are {', '.join(known)}",
            )


def body_of(mapping: Any, body: str) -> str:  # noqa: ANN401 - a bound mapping
    """What is in a file of this format: the body that is asked for, or lines of text. Raises ConfigError."""
    if mapping is None or mapping["line"] == "json":
        return body
    if body == "json_array":
        raise ConfigError(
            "body: 'json_array' is for records in JSON, and this format writes lines of text",
            hint="leave `body` out, or choose a format whose lines are JSON",
        )
    return "lines"


def _version_of(file: Path) -> tuple[int, int] | None:
    """What changes with a file; a file that is not there is for the reader to report."""
    try:
        found = file.stat()
    except (OSError, ValueError):
        return None
    return found.st_mtime_ns, found.st_size


@lru_cache(maxsize=64)
def _read(file: Path, version: tuple[int, int] | None) -> Language:
    del version
    return read_format(file)


@lru_cache(maxsize=64)
def _roles(file: Path, version: tuple[int, int] | None) -> frozenset[str]:
    language = _read(file, version)
    return frozenset(_names([*language.header, language.fields, *language.envelope.values()]))


def _names(tree: Any) -> Iterator[str]:  # noqa: ANN401 - lists in lists
    if not isinstance(tree, list):
        return
    if tree[:1] == ["column"]:
        yield tree[1]
        return
    for part in tree:
        yield from _names(part)


@lru_cache(maxsize=64)
def _bound(
    file: Path,
    version: tuple[int, int] | None,
    parameters: tuple[tuple[str, str], ...],
    roles: tuple[tuple[str, str | None], ...],
    envelope: str | None,
) -> Json:
    around = None if envelope is None else read_envelope(json.loads(envelope))
    return Binder(dict(roles), dict(parameters)).bound(_read(file, version), around)
