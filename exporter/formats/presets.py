"""The formats that come with the product, as mappings over the roles of a source's columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from exporter.model import flat_mapping

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exporter.formats.settings import FormatChoice
    from exporter.model import Json


STANDARD: Final = {
    "Date": ("instant", "time"),
    "Email": ("string", "email"),
    "Action": ("string", "action"),
    "Action ID": ("string", "action_id"),
    "Description": ("string", "description"),
    "IP Address": ("string", "ip_address"),
    "Event ID": ("string", "id"),
}
"""The mission's six fields, in its order, and the stable id for de-duplication."""

PRESETS: Final[Mapping[str, Mapping[str, tuple[str, str]] | None]] = {"standard": STANDARD, "native": None}
"""By name; None is every column of the source under its own name."""


def bind(
    choice: FormatChoice, roles: Mapping[str, str | None], envelope: Mapping[str, Json] | None = None
) -> tuple[str, Json]:
    """A format's name, and its mapping bound to the source's columns. Raises ConfigError."""
    del envelope
    name = choice.name or "standard"
    return name, mapping_of(name, roles)


def mapping_of(preset: str, columns: Mapping[str, str | None]) -> Json:
    """A preset's mapping with roles replaced by the columns that fill them; a role nobody fills is null."""
    mapping = PRESETS[preset]
    if mapping is None:
        return None
    pairs = {name: (how, columns.get(role)) for name, (how, role) in mapping.items()}
    return flat_mapping(pairs)
