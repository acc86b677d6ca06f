"""A format as the pipeline uses it: which records go out, what of them is protected, and their lines."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Protocol

from exporter.model import LEADING_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from exporter.interfaces import Block
    from exporter.model import BadRecord, Occasion, Rendering


class Encoder(Protocol):
    """What makes lines of records."""

    columns: Sequence[str] | None
    """The source columns it needs; None is all of them."""

    def encode(self, block: Block) -> bytes:
        """One line per record, each with its line feed; raises ValueError when one cannot be rendered."""
        ...

    def bad_line(self, record: BadRecord) -> bytes:
        """The line of a record that has no other, without its line feed."""
        ...


class CompiledFormat:
    """One rendering's format."""

    def __init__(self, encoder: Encoder, rendering: Rendering, occasion: Occasion | None) -> None:
        del rendering, occasion
        self._encoder = encoder
        self.columns = encoder.columns

    def chosen(self, block: Block) -> Sequence[int] | None:
        """Which records go out; None is all of them."""
        del block
        return None

    def encode(self, block: Block) -> tuple[bytes, Mapping[str, int]]:
        """The lines, and how many values were protected."""
        return self._encoder.encode(block), {}

    def bad_line(self, record: BadRecord) -> bytes:
        """The form that always renders, on one line."""
        return self._encoder.bad_line(record)


def bad_form(record: BadRecord) -> bytes:
    """The form that always renders, as JSON: why, how long the record is, its leading bytes in base64."""
    leading = base64.b64encode(record.body[:LEADING_BYTES]).decode()
    form = {"id": record.id, "reason": record.reason, "length": record.length, "leading_bytes": leading}
    # The slow encoder on purpose: it escapes whatever an id or a reason may hold, lone surrogates too.
    return json.dumps({"bad_record": form}).encode()
