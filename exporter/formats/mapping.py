"""Mappings compiled into column-wise encoders: a block goes in, lines come out.

Whole columns become fragments and are woven together once per block; no Python code runs per record.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from exporter.formats.compiled import bad_form
from exporter.formats.conversions import epoch_of
from exporter.formats.expressions import Compiler, members, pieces_of
from exporter.formats.lines import Quoted, bad_trees, envelope_style, line_of
from exporter.formats.nodes import BlockView, lines_of
from exporter.formats.templates import template_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from exporter.formats.nodes import Node, Piece
    from exporter.formats.templates import PlainTemplate
    from exporter.interfaces import Block
    from exporter.model import BadRecord, Json, Occasion

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_COMPILED = 32  # formats are few, and the plans that are made of them many
_NATIVE: Json = {"line": "json", "nulls": "keep", "fields": ["all"]}


class MappedFormat:
    """A format as a plan keeps it, in the bound form that `binding` describes."""

    columns: Sequence[str] | None
    """The source columns it needs; None is all of them."""

    template: PlainTemplate | None
    """How its lines look, if they are plain."""

    def __init__(self, mapping: Json, occasion: Occasion | None = None) -> None:
        there = None if occasion is None else occasion.columns
        self._mapping: Any = mapping
        self._sequence = 0 if occasion is None else occasion.sequence
        self._window_end = _EPOCH if occasion is None else occasion.window_end
        self._pieces, self.columns, self.template = _compiled(json.dumps(mapping), there)

    def encode(self, block: Block) -> bytes:
        """Lines; raises ValueError when a record cannot be rendered."""
        return lines_of(BlockView(block, self._sequence), self._pieces)

    def bad_line(self, record: BadRecord) -> bytes:
        """The form that always renders, as this format's lines are; in an envelope, at the window's end."""
        mapping = self._mapping
        kind, header = mapping["line"], mapping.get("header") or []
        header, fields = bad_trees(kind, header, record.id, record.reason, bad_form(record))
        bad = {**mapping, "header": header, "fields": fields, "envelope": self._envelope_of(record)}
        pieces, _ = _pieces(bad, frozenset())
        return lines_of(_Nobody(self._sequence), pieces).removesuffix(b"\n")

    def _envelope_of(self, bad: BadRecord) -> Any:  # noqa: ANN401 - trees
        """The envelope of a record of which nothing can be told but its id."""
        around = self._mapping.get("envelope")
        if around is None:
            return None
        entries = dict(around)
        if "time" in entries:
            since = (self._window_end - _EPOCH) // timedelta(seconds=1)
            digits = b"%06d" % self._window_end.microsecond
            entries["time"] = ["const", epoch_of(since, digits).decode()]
        if entries.get("fields", [""])[0] == "object":
            told = dict(entries["fields"][1]) | {"event_id": ["const", json.dumps(bad.id)]}
            entries["fields"] = ["object", list(told.items())]
        return list(entries.items())


class NativeFormat(MappedFormat):
    """Every column of the source under its own name."""

    def __init__(self, occasion: Occasion | None = None) -> None:
        super().__init__(_NATIVE, occasion)


@lru_cache(maxsize=_COMPILED)
def _compiled(
    mapping: str, there: frozenset[str] | None
) -> tuple[Sequence[Piece], Sequence[str] | None, PlainTemplate | None]:
    """What a line is woven of, which columns it needs, None for all, and how it looks if it is plain."""
    read = json.loads(mapping)
    return *_pieces(read, there), template_of(read)


def _pieces(
    mapping: Mapping[str, Any], there: frozenset[str] | None
) -> tuple[Sequence[Piece], Sequence[str] | None]:
    shared, is_json = mapping.get("shared") or [], mapping["line"] == "json"
    keeps_nulls = is_json and mapping["nulls"] == "keep"
    inside = Compiler(shared, there, keeps_nulls=keeps_nulls, writes_json=is_json)
    around = Compiler(shared, there, keeps_nulls=False)
    whole = line_of(mapping["line"], mapping.get("header") or [], mapping["fields"], inside)
    if mapping.get("envelope") is not None:
        around.event = whole if is_json else Quoted(whole)
        style = envelope_style()
        entries = [(style.label(name), around.value(tree)) for name, tree in mapping["envelope"]]
        whole = members(entries, style)
    needs_all = inside.needs_all or around.needs_all
    return [*pieces_of(whole), b"\n"], None if needs_all else sorted(inside.columns | around.columns)


class _Nobody:
    """One record without a column."""

    count = 1
    names: Sequence[str] = ()

    def __init__(self, sequence: int) -> None:
        self.sequence = sequence

    def column(self, name: str, conversions: tuple[str, ...]) -> Sequence[bytes]:
        """There is none: what is compiled for a source that has no column asks for none."""
        raise KeyError(name, conversions)

    def of(self, node: Node) -> Sequence[bytes]:
        """What an expression gives."""
        return node.fragments(self)
