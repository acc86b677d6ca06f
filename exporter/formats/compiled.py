"""A format as the pipeline uses it: which records go out, what of them is protected, and their lines."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from exporter.formats.masking import masked_bytes
from exporter.formats.protected import Protection
from exporter.formats.protection import ORIGINAL, require_key, shown_of
from exporter.formats.selection import Selection, require
from exporter.interfaces import Lined
from exporter.model import LEADING_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from exporter.formats.templates import PlainTemplate
    from exporter.interfaces import Block
    from exporter.model import BadRecord, Occasion, Rendering

_LOOKED_AT: int = 64 * LEADING_BYTES
"""So much of a bad record is looked through for secrets, of which the leading bytes go out."""


class Encoder(Protocol):
    """What makes lines of records."""

    columns: Sequence[str] | None
    """The source columns it needs; None is all of them."""

    template: PlainTemplate | None
    """How its lines look, if they are plain."""

    def encode(self, block: Block) -> bytes:
        """One line per record, each with its line feed; raises ValueError when one cannot be rendered."""
        ...

    def bad_line(self, record: BadRecord) -> bytes:
        """The line of a record that has no other, without its line feed."""
        ...


class CompiledFormat:
    """One rendering's format: filter, protection and masking around what makes its lines.

    The filter judges values as they are. Raises ExportError for an occasion with another key than the plan's.
    """

    def __init__(self, encoder: Encoder, rendering: Rendering, occasion: Occasion | None) -> None:
        if occasion is not None:
            require_key(rendering, occasion)
        self._encoder = encoder
        self._selection = Selection(rendering.chosen, None if occasion is None else occasion.columns)
        shows = self._selection.shows if self._selection.has_fields else None
        self._protection = Protection(rendering, occasion, shows)
        self._named = sorted({*self._selection.named(), *self._protection.ways})
        self._of_lines = None if encoder.columns is None else _plain(encoder.columns)
        self.columns: Sequence[str] | None = (
            None if self._of_lines is None else sorted(self._of_lines.union(self._named))
        )
        self._is_checked = self.columns is not None  # the source itself misses a column that it is asked for

    @property
    def template(self) -> PlainTemplate | None:
        """How the lines look where values are only written down, or looked through for secrets."""
        plain = self._encoder.template
        if plain is None or self._named or self._selection.has_fields:
            return None
        return replace(plain, without_secrets=self._protection.masks_secrets)

    @property
    def named(self) -> Sequence[str]:
        """The source columns that it asks for by name."""
        return self._named if self.columns is None else self.columns

    def chosen(self, block: Block) -> Sequence[int] | None:
        """Which records go out; None is all of them. Raises MissingColumn."""
        self._check(block)
        return self._selection.chosen(block)

    def encode(self, block: Block) -> tuple[bytes, Mapping[str, int]]:
        """The lines, and how many values were protected."""
        if isinstance(block, Lined):
            return block.lines, {}
        self._check(block)
        if not self._protection.is_needed:
            return self._encoder.encode(block), {}
        view = self._protection.view(block)
        lines = self._encoder.encode(view)
        if self.columns is None:
            view.count_dropped()
        return lines, view.counts()

    def bad_line(self, record: BadRecord) -> bytes:
        """The form that always renders, on one line, of what may be seen of the record."""
        body, reason = shown_of(record.body, self._may_be_seen), record.reason
        if self._protection.masks_secrets:
            body, reason = masked_bytes(body[:_LOOKED_AT]), masked_bytes(reason.encode()).decode()
        return self._encoder.bad_line(replace(record, body=body, reason=reason))

    def _may_be_seen(self, column: str) -> bool:
        if column in self._protection.ways or not self._protection.shows(column):
            return False
        return column not in self._named or self._of_lines is None or column in self._of_lines

    def _check(self, block: Block) -> None:
        if not self._is_checked:
            require(self._named, block.columns)
            self._is_checked = True


def _plain(columns: Sequence[str]) -> set[str]:
    return {name.removeprefix(ORIGINAL) for name in columns}


def bad_form(record: BadRecord) -> bytes:
    """The form that always renders, as JSON: why, how long the record is, its leading bytes in base64."""
    leading = base64.b64encode(record.body[:LEADING_BYTES]).decode()
    form = {"id": record.id, "reason": record.reason, "length": record.length, "leading_bytes": leading}
    # The slow encoder on purpose: it escapes whatever an id or a reason may hold, lone surrogates too.
    return json.dumps({"bad_record": form}).encode()
