"""Formats: how a record becomes a line. Presets are mappings; ``mapping`` compiles them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.formats.mapping import MappedFormat, NativeFormat

if TYPE_CHECKING:
    from exporter.interfaces import Format
    from exporter.model import Rendering


def compile_format(rendering: Rendering) -> Format:
    """The format that the settings stored with a plan describe."""
    if rendering.fields is None:
        return NativeFormat()
    return MappedFormat(rendering.fields)
