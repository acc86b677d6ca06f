"""Formats whose lines are plain: one JSON object of columns, so that a source may make the lines itself.

It says what such a line is made of, and which lines of others may go out. It must not describe a format that
does more with a value than to write it down.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from exporter.formats.secret_names import kind_of
from exporter.formats.secret_signs import places
from exporter.interfaces import Member, Way

if TYPE_CHECKING:
    from collections.abc import Sequence

_WAYS: Final = {
    (): Way.JSON,
    ("value",): Way.JSON,
    ("string",): Way.STRINGS,
    ("text",): Way.STRINGS,
    ("instant",): Way.INSTANTS,
    ("instant", "rfc3339"): Way.INSTANTS,
}


@dataclass(frozen=True, slots=True)
class PlainTemplate:
    """One JSON object a line; without ``named`` it is every column under its own name.

    ``without_secrets``: lines in which a secret may be do not go out as they are.
    """

    named: tuple[Member, ...] | None = None
    without_secrets: bool = False

    def members(self, columns: Sequence[str]) -> Sequence[Member] | None:
        """Those of a line; None where names need escapes, or may be those of secrets."""
        if self.named is None:
            members: Sequence[Member] = [Member(name, name, Way.JSON) for name in columns]
        else:
            members = self.named
        if any(json.dumps(one.name) != f'"{one.name}"' for one in members):
            return None
        return None if self.without_secrets and _tell_of_secrets(members) else members

    def fits(self, lines: bytes) -> bool:
        """Whether there is no sign of a secret in the lines, where any is to be masked."""
        return not (self.without_secrets and places(lines))


def _tell_of_secrets(members: Sequence[Member]) -> bool:
    """Whether a column's values are secrets by its name, or every line would look like one with a secret."""
    labels = b"".join(b',"%b":' % one.name.encode() for one in members)
    return any(kind_of(one.column) for one in members) or bool(places(labels))


def template_of(mapping: Any) -> PlainTemplate | None:  # noqa: ANN401 - a bound mapping
    """That of a format; None for a format that makes other lines."""
    is_plain = mapping["line"] == "json" and mapping["nulls"] == "keep" and mapping.get("envelope") is None
    match mapping["fields"]:
        case ["all"] if is_plain:
            return PlainTemplate()
        case ["object", fields] if is_plain:
            members = [_member(name, tree) for name, tree in fields]
            found = tuple(one for one in members if one is not None)
            is_whole = len({one.name for one in found}) == len(members) > 0
            return PlainTemplate(found) if is_whole else None
    return None


def _member(name: str, tree: Any) -> Member | None:  # noqa: ANN401 - a bound expression
    match tree:
        case ["column", str(column), *conversions] if tuple(conversions) in _WAYS:
            return Member(name, column, _WAYS[tuple(conversions)])
    return None
