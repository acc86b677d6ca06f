"""Mappings compiled into column-wise encoders: a block goes in, JSON lines come out.

Whole columns become fragments and are woven together once per block; no Python code runs per record.
"""

from __future__ import annotations

import json
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any, Final

from exporter.formats.compiled import bad_form

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from exporter.interfaces import Block, Column
    from exporter.model import BadRecord, Json, Occasion

CONVERSIONS: Final[Mapping[str, Callable[[Column], Sequence[bytes]]]] = {
    "value": lambda column: column.json(),
    "string": lambda column: column.strings(),
    "instant": lambda column: column.instants(),
}
"""How one column's values become JSON, by the name that a mapping uses."""


class MappedFormat:
    """Each output field from one source column, in the mapping's order."""

    def __init__(self, mapping: Json, occasion: Occasion | None = None) -> None:
        fields = _flat(mapping)
        there = None if occasion is None else occasion.columns
        if there is not None:
            fields = {
                name: (how, column if column in there else None) for name, (how, column) in fields.items()
            }
        self.columns: Sequence[str] | None = sorted({column for _, column in fields.values() if column})
        self._fields = [
            (prefix, CONVERSIONS[how], column)
            for prefix, (how, column) in zip(_prefixes(fields), fields.values(), strict=True)
        ]

    def encode(self, block: Block) -> bytes:
        """JSON lines; raises ValueError when a record cannot be rendered."""
        columns, count = block.columns, len(block)
        return _woven(
            count,
            (
                (prefix, repeat(b"null", count) if column is None else convert(columns[column]))
                for prefix, convert, column in self._fields
            ),
        )

    def bad_line(self, record: BadRecord) -> bytes:
        """The form that always renders."""
        return bad_form(record)


def _flat(mapping: Any) -> dict[str, tuple[str, str | None]]:  # noqa: ANN401 - until the language is there
    _, pairs = mapping["fields"]
    return {name: (how, column) for name, (_, column, how) in pairs}


class NativeFormat:
    """Every column of the source under its own name."""

    columns: Sequence[str] | None = None

    def encode(self, block: Block) -> bytes:
        """JSON lines; raises ValueError when a record cannot be rendered."""
        values = (column.json() for column in block.columns.values())
        return _woven(len(block), zip(_prefixes(block.columns), values, strict=True))

    def bad_line(self, record: BadRecord) -> bytes:
        """The form that always renders."""
        return bad_form(record)


def _prefixes(names: Iterable[str]) -> list[bytes]:
    """What stands before each field's value, such as `{"first":` and `,"second":`."""
    # ASCII alone, so that no name can bring a line separator of Unicode into a line.
    quoted = [json.dumps(name).encode() for name in names]
    return [(b"," if index else b"{") + name + b":" for index, name in enumerate(quoted)]


def _woven(count: int, parts: Iterable[tuple[bytes, Iterable[bytes]]]) -> bytes:
    """Fragments column by column, joined row by row."""
    columns: list[Iterable[bytes]] = []
    for prefix, fragments in parts:
        columns += (repeat(prefix, count), fragments)
    # Strict, because a column one value short would otherwise cost a record in silence.
    return b"".join(chain.from_iterable(zip(*columns, repeat(b"}\n", count), strict=True)))
