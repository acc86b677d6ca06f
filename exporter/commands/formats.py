"""`formats`: what there is to choose from, what is in it, and what becomes of real records.

It only reads: the source through its seam, and neither the ledger nor a destination.
"""

from __future__ import annotations

import json as jsonlib
import sys
import tempfile
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, get_args

import orjson

from exporter import config as configuration
from exporter import wiring
from exporter.errors import ConfigError
from exporter.formats import compile_format, library
from exporter.formats.settings import FormatChoice, Preset
from exporter.model import Occasion, Range, Rendering, Window
from exporter.report import formats as report
from exporter.report.console import console
from exporter.wiring.renderings import key_of, rendering_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exporter.config import Config, ExportSettings
    from exporter.interfaces import Block, Format, Source
    from exporter.model import Json

SCHEMAS: Final = Path(library.__file__).with_name("schemas")
OLDEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
INVENTED: Final = "(These are invented: there is no configuration here. `-c FILE` names yours.)"
WIDER: Final = 8  # times the span before, until there are enough records in it
ENOUGH: Final = 100_000  # records looked at, where a filter lets hardly any through


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a person asked for."""

    config: Path | None
    accounts: list[str]
    exports: list[str]
    records: int | None


def formats(name: str | None, wanted: Wanted, *, schema: bool, json: bool) -> int:
    """What was asked for of one format, or of all. Raises ConfigError."""
    if name is None and (schema or wanted.records is not None):
        option = "--schema" if schema else f"--sample {wanted.records}"
        raise ConfigError(
            f"{option} needs a format", hint=f"such as: audit-exporter formats standard {option}"
        )
    if name is None:
        return show_all(json=json)
    if schema:
        return show_schema(name)
    if wanted.records is None:
        return show_one(name, json=json)
    return show_sample(name, wanted, wanted.records, json=json)


def show_all(*, json: bool) -> int:
    """Print the list."""
    known = [_about(name) for name in get_args(Preset)]
    if json:
        _print_json(report.as_json(known))
    else:
        report.show(console(), known)
    return 0


def show_one(format_name: str, *, json: bool) -> int:
    """Print the format itself, as a file to start from."""
    choice = choice_of(format_name)
    about, text = _about(format_name), _text(choice.file or library.preset_file(format_name))
    if json:
        _print_json(report.as_json([about])[0] | {"text": text})
    else:
        sys.stdout.write(text)
    return 0


def show_schema(format_name: str) -> int:
    """Print the JSON Schema of what the format writes."""
    name = choice_of(format_name).name
    file = SCHEMAS / f"{name}.json"
    if name is None or not file.is_file():
        own = sorted(one.stem for one in file.parent.glob("*.json"))
        raise ConfigError(
            f"'{format_name}' has no JSON Schema of ours: it follows somebody else's, or is your own",
            hint=f"there is one for {', '.join(own)}",
        )
    sys.stdout.write(_text(file))
    return 0


def show_sample(format_name: str, wanted: Wanted, records: int, *, json: bool) -> int:
    """Print the newest records of an account, before and after; without a configuration, invented ones."""
    choice = choice_of(format_name)
    library.language_of(choice)  # a mistake in it first, before a source is asked
    file = _config_file(wanted.config)
    if file is None:
        with tempfile.TemporaryDirectory() as folder:
            sample = _sample(_invented(Path(folder)), choice, wanted, records)
        sample = replace(sample, told=f"{sample.told}\n{INVENTED}")
    else:
        sample = _sample(configuration.load(file), choice, wanted, records)
    if json:
        _print_json(report.sample_as_json(sample))
    else:
        report.show_sample(console(), sample)
    return 0


def choice_of(name: str) -> FormatChoice:
    """The format of a name, or of a file. Raises ConfigError."""
    if name in get_args(Preset):
        return FormatChoice.model_construct(name=name, file=None, with_={})
    if Path(name).is_file():
        return FormatChoice.model_construct(name=None, file=Path(name).absolute(), with_={})
    raise ConfigError(
        f"there is no format '{name}', and no such file",
        hint=f"there are {', '.join(get_args(Preset))}; a format of your own is a YAML file",
    )


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} cannot be read", hint="name a YAML file in UTF-8") from error


def _about(name: str) -> report.About:
    language = library.language_of(choice_of(name))
    return report.About(name, language.about, language.line, language.parameters)


# --- Records -----------------------------------------------------------------------------------------


def _config_file(path: Path | None) -> Path | None:
    """The configuration; None if there is none and nobody named one, here or in the environment."""
    try:
        return configuration.find(path)
    except ConfigError as error:
        if path is not None or error.message != _none_here():
            raise
        return None


def _none_here() -> str:
    """What is said where no configuration lies and nobody named one."""
    try:
        configuration.find(None, {})
    except ConfigError as error:
        return error.message
    return ""


def _invented(folder: Path) -> Config:
    """The records that `init` makes, in a folder that goes away again."""
    from exporter.starter.sample import create_sample

    return configuration.load(create_sample(folder, datetime.now(UTC)).config)


def _sample(config: Config, choice: FormatChoice, wanted: Wanted, records: int) -> report.Sample:
    with closing(wiring.source_of(config).open()) as source:
        if config.exports_query is not None:
            config = configuration.add_rows(config, source.settings(config.exports_query))
        account, export = _whose(config, wanted)
        rendering = _rendering(config, export, choice)
        form = compile_format(rendering, _occasion(export, rendering, source))
        _check_columns(form, source)
        told = f"Records of account '{account}', filtered and protected as export '{export.name}' says:"
        return _newest(source, account, form, records, told)


def _whose(config: Config, wanted: Wanted) -> tuple[str, ExportSettings]:
    """The account to read, and the export whose filter and protection count: the first that is meant."""
    found = wiring.chosen(config.exports, config.problems, wanted.accounts, wanted.exports)
    if found:
        return found[0].account, found[0]
    if config.problems:
        problem = config.problems[0]
        raise ConfigError(problem.message, hint=problem.hint)
    raise ConfigError("no export is configured", hint="see them all with: audit-exporter status")


def _rendering(config: Config, export: ExportSettings, choice: FormatChoice) -> Rendering:
    """The export's own, in another format."""
    if export.format.name == choice.name and export.format.file == choice.file:
        choice = export.format  # with its parameters
    settings = export.model_copy(update={"format": choice, "body": "ndjson"})
    return rendering_of(config, settings)


def _occasion(export: ExportSettings, rendering: Rendering, source: Source) -> Occasion:
    reveal = key_of(export)
    key = reveal() if reveal is not None and rendering.key_id else None
    return Occasion(1, source.now(), key=key)


def _check_columns(form: Format, source: Source) -> None:
    """Raises ConfigError if the format asks for what the source does not have."""
    there = source.columns()
    missing = [column for column in form.columns or () if column not in there]
    if missing:
        raise ConfigError(
            f"the source has no column {', '.join(map(repr, missing))}",
            hint=f"correct the format or source.columns; the source has {', '.join(there)}",
        )


def _newest(source: Source, account: str, form: Format, count: int, told: str) -> report.Sample:
    """The last records of an account, looked for in ever longer spans before now."""
    seal, end = source.seal(), source.now()
    span = timedelta(hours=1)
    while True:
        start = max(OLDEST, end - span)
        sample, seen = _last(source, Range(account, Window(start, end), seal), form, count)
        if len(sample.after) == count or start == OLDEST or seen > ENOUGH:
            return replace(sample, told=told)
        span *= WIDER


def _last(source: Source, wanted: Range, form: Format, count: int) -> tuple[report.Sample, int]:
    """The last records of a range that the filter lets through, and how many there are in it."""
    native = compile_format(Rendering("native", None))
    before: list[dict[str, Json]] = []
    after: list[str] = []
    seen = filtered = 0
    with closing(source.read([wanted], None)) as reading:
        for _, block in reading:
            chosen = form.chosen(block)
            kept = block if chosen is None else block.pick(chosen)
            tail = kept.slice(max(0, len(kept) - count), len(kept))
            before = [*before, *map(jsonlib.loads, _lines(native, tail))][-count:]
            after = [*after, *_lines(form, tail)][-count:]
            seen, filtered = seen + len(block), filtered + len(block) - len(kept)
    return report.Sample("", before, after, filtered), seen


def _lines(form: Format, block: Block) -> Iterator[str]:
    """A line for each record; one by one where they cannot be rendered together."""
    for index in range(len(block)):
        one = block.slice(index, index + 1)
        try:
            yield form.encode(one)[0].decode().removesuffix("\n")
        except ValueError as error:
            yield jsonlib.dumps({"bad_record": {"id": one.id(0), "reason": str(error)}})


def _print_json(value: Json | list[dict[str, Json]]) -> None:
    sys.stdout.write(orjson.dumps(value).decode() + "\n")
