"""What a row of `exports_from.query` may not change: how the operator's `defaults` protect records.

Customers may have a hand in rows. A row may protect more than the defaults do, never less, and it may not ask
by a filter for what it is not to see. Exports of the operator's own files are not looked at.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

from exporter.notation.values import shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from exporter.config.settings import DefaultSettings
    from exporter.notation.yaml_lines import Loc

_FIRM = "which no row may change"


class RowRules:
    """What the defaults settle for every row; ``roles`` are the source's columns by their roles."""

    def __init__(self, defaults: DefaultSettings, roles: Mapping[str, str | None]) -> None:
        protect, chosen = defaults.protect, defaults.filter
        self._roles = roles
        self._protected = {self._column(name): how for name, how in protect.columns.items()}
        self._has_key = protect.key is not None
        self._masks_secrets = protect.secrets
        self._has_filter = bool(chosen.actions or chosen.where or chosen.fields)

    def mistakes(self, row: object) -> list[tuple[Loc, str]]:
        """Where a row weakens them, and a sentence about it; what is of a wrong type is for others to say."""
        settings = _mapping(row)
        return list(chain(self._in_protect(_mapping(settings.get("protect"))), self._in_filter(settings)))

    def _in_protect(self, protect: Mapping[str, Any]) -> Iterator[tuple[Loc, str]]:
        for name, how in _mapping(protect.get("columns")).items():
            settled = self._protected.get(self._column(name), how)
            if settled != how:
                yield ("protect", "columns", name), f"must be '{settled}': `defaults` say so, {_FIRM}"
        if "key" in protect and self._has_key:
            yield ("protect", "key"), f"must be left out: `defaults` have a key, {_FIRM}"
        if protect.get("secrets") is False and self._masks_secrets:
            yield ("protect", "secrets"), f"must be true: `defaults` mask secrets, {_FIRM}"

    def _in_filter(self, settings: Mapping[str, Any]) -> Iterator[tuple[Loc, str]]:
        if "filter" in settings and self._has_filter:
            yield ("filter",), f"must be left out: `defaults` have a filter, {_FIRM}"
            return
        chosen = _mapping(settings.get("filter"))
        ways = [(("where", name), name) for name in _mapping(chosen.get("where"))]
        for way, name in [(("actions",), "action"), *ways] if "actions" in chosen else ways:
            if self._column(name) in self._protected:
                sentence = (
                    f"goes by {shown(name)}, which `defaults` protect: what it lets through would tell it"
                )
                yield ("filter", *way), sentence

    def _column(self, name: str) -> str:
        return self._roles.get(name) or name


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
