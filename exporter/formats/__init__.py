"""Formats: how a record becomes a line, and which records do.

``language`` reads the files that describe formats, ``library`` finds them, and ``binding`` puts the columns
of a source in place of roles: that is what a plan keeps. ``mapping`` compiles it, of ``expressions``,
``conversions`` and ``lines``. ``compiled`` is what the pipeline uses, with ``selection``, ``protection`` and
``masking`` in it. A ``Rendering`` holds all that a format is made of, as JSON: what is written there is read
by later versions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from exporter.formats.compiled import CompiledFormat
    from exporter.model import Occasion, Rendering


def compile_format(rendering: Rendering, occasion: Occasion | None = None) -> CompiledFormat:
    """The format that the settings of a plan describe; without an occasion, for its columns alone."""
    # Settings are read by way of this package, too, and most runs find nothing that needs a format.
    from exporter.formats.compiled import CompiledFormat
    from exporter.formats.mapping import MappedFormat, NativeFormat
    from exporter.formats.protection import for_lookups

    mapping, original = for_lookups(rendering, occasion)
    encoder = NativeFormat(occasion) if mapping is None else MappedFormat(mapping, original)
    return CompiledFormat(encoder, rendering, occasion)
