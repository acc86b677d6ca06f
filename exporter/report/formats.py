"""The formats there are, and records before and after one of them: for people, and for machines."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.table import Table

from exporter.report.console import shown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    from exporter.model import Json


@dataclass(frozen=True, slots=True)
class About:
    """One format in the list of all."""

    name: str
    about: str
    line: str
    parameters: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Sample:
    """Records of one account, oldest first: the source's own columns, and the lines made of them.

    ``told`` says whose records these are and what was done to them.
    """

    told: str
    before: Sequence[Mapping[str, Json]]
    after: Sequence[str]
    filtered: int = 0


def show(console: Console, formats: Sequence[About]) -> None:
    """A line for each format, and how to go on."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("Format")
    table.add_column("Lines")
    table.add_column("What it is")
    for one in formats:
        table.add_row(one.name, one.line, shown(one.about))
    console.print(table)
    console.print("\nOne with real records, before and after: audit-exporter formats NAME --sample 3")
    console.print("A format of your own begins as a copy:   audit-exporter formats NAME > mine.yaml")


def as_json(formats: Sequence[About]) -> list[dict[str, Json]]:
    """The same for machines."""
    return [
        {"name": one.name, "about": one.about, "line": one.line, "parameters": dict(one.parameters)}
        for one in formats
    ]


def show_sample(console: Console, sample: Sample) -> None:
    """Each record as it is in the source, and below it as it goes out."""
    console.print(shown(sample.told))
    if not sample.after:
        console.print("There is no record to show.")
    for number, (before, after) in enumerate(zip(sample.before, sample.after, strict=True), 1):
        console.print(f"\n[bold]Record {number}[/]")
        for name, value in before.items():
            console.print(f"  {shown(name)}: {shown(_on_one_line(value))}")
        console.print("[bold]goes out as[/]")
        console.print(shown(_pretty(after)))
    if sample.filtered:
        console.print(f"\nThe export's filter left out {sample.filtered:,} more.")


def sample_as_json(sample: Sample) -> list[dict[str, Json]]:
    """The same for machines: each record's columns, and its line as JSON, or as text where it is none."""
    return [
        {"before": dict(before), "after": _parsed(after)}
        for before, after in zip(sample.before, sample.after, strict=True)
    ]


def _on_one_line(value: Json) -> str:
    is_plain = isinstance(value, str) and value.isprintable()
    return str(value) if is_plain else json.dumps(value, ensure_ascii=False)


def _parsed(line: str) -> Json:
    if not line.startswith("{"):
        return line
    parsed: Json = json.loads(line)
    return parsed


def _pretty(line: str) -> str:
    parsed = _parsed(line)
    return parsed if isinstance(parsed, str) else json.dumps(parsed, indent=2, ensure_ascii=False)
