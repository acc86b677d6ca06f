"""The parts of the README that are written by the program: `python -m tests.readme` writes them anew."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from exporter.cli import app
from exporter.config import json_schema
from exporter.destinations.registry import DESTINATIONS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

README = Path(__file__).parents[1] / "README.md"


def written(text: str) -> str:
    """The README with its generated parts as they should be."""
    text = _replaced(text, "settings", _settings("DefaultSettings", "an export, or of `defaults`"))
    text = _replaced(text, "source settings", _settings("SourceSettings", "`source`"))
    for kind, model in DESTINATIONS.items():
        table = _settings(model.__name__, f"`destination`, `type: {kind}`")
        text = _replaced(text, f"{kind} settings", table)
    return _replaced(text, "commands", _commands())


def _replaced(text: str, name: str, lines: Iterable[str]) -> str:
    between = rf"(?<=<!-- {name}: written by `python -m tests.readme` -->\n).*?(?=<!-- /{name} -->)"
    content = "".join(f"{line}\n" for line in lines)
    return re.sub(between, lambda _: content, text, flags=re.DOTALL)


def _settings(model: str, of_what: str) -> Iterator[str]:
    yield f"| Setting of {of_what} | Default | |"
    yield "|---|---|---|"
    for name, one in json_schema()["$defs"][model]["properties"].items():
        if "const" not in one:  # the `type`, which is in the heading
            yield f"| `{name}` | {_default(one)} | {' '.join(one.get('description', '').split())} |"


def _default(one: dict[str, Any]) -> str:
    value = one.get("default")
    shown = str(value).lower() if isinstance(value, bool) else value
    return "" if value in (None, "", [], {}) else f"`{shown}`"


def _commands() -> Iterator[str]:
    command = typer.main.get_command(app)
    yield "| Command | |"
    yield "|---|---|"
    yield from _rows(command, "")


def _rows(group: Any, before: str) -> Iterator[str]:  # noqa: ANN401 - a click group
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _rows(command, f"{before}{name} ")
        else:
            usage = " ".join(_usage(parameter) for parameter in command.params if not parameter.hidden)
            yield f"| `{before}{name} {usage}".rstrip() + f"` | {command.help} |"


def _usage(parameter: Any) -> str:  # noqa: ANN401 - a click parameter
    label = parameter.metavar or ""
    if parameter.param_type_name == "argument":
        return str(label)
    option = f"{parameter.opts[0]} {'' if parameter.is_flag else label}".strip()
    return option if parameter.required else f"[{option}]"


if __name__ == "__main__":
    README.write_text(written(README.read_text(encoding="utf-8")), encoding="utf-8")
