"""Formats: how a record becomes a line, and which records do. Presets are mappings of ``mapping``.

A ``Rendering`` holds all that a format is made of, as JSON: what is written there is read by later versions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.formats.compiled import CompiledFormat
from exporter.formats.mapping import MappedFormat, NativeFormat

if TYPE_CHECKING:
    from exporter.interfaces import Format
    from exporter.model import Occasion, Rendering


def compile_format(rendering: Rendering, occasion: Occasion | None = None) -> Format:
    """The format that the settings of a plan describe; without an occasion, for its columns alone."""
    encoder = NativeFormat() if rendering.mapping is None else MappedFormat(rendering.mapping, occasion)
    return CompiledFormat(encoder, rendering, occasion)
