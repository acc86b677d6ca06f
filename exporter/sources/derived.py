"""Columns that a source works out: whether a record is its user's first, the same at every reading.

**The rule.** Of an account's records with one of the actions, and a time, r is the first of its user in its
range (window, previous seal P, seal S) unless there is another such record q of the same user, visible at S,
with (time, id) before r's; or q is visible at P and dated before the window: then it has been delivered, or
lies before the begin. Without P, as in a backfill, the order of (time, id) alone decides.

**Why a user has one first at most**, over all that is delivered live: of two in one range, (time, id) tells.
Of two in different ranges, the one delivered earlier is visible at the later range's P, and dated before its
window. A record that comes late never takes the title from one that was delivered. Neither parts nor blocks
nor later commits are in the rule, so nothing of these changes the answer.

Values are compared by their bytes, whatever the collation. Records of other actions, without a user, or
without a readable time have null. It must not know a database: each driver puts the rule into its own SQL.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from exporter.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence


@dataclass(frozen=True, slots=True)
class FirstOf:
    """A column ``name``: true for the first record of each value of the column ``of``, false for others.

    Only records count whose column ``action`` is one of ``actions``.
    """

    name: str
    of: str
    action: str
    actions: tuple[str, ...]


def require_derived(derived: Sequence[FirstOf], columns: Collection[str]) -> None:
    """Raise SourceError for a derived column that cannot be one, among the source's own columns."""
    hint = f"it has the columns {', '.join(columns)}"
    for one in derived:
        key = f"source.derived.{one.name}"
        if one.name in columns:
            message = f"{key}: the source has a column {one.name!r} already"
            raise SourceError(message, hint="give the derived column another name")
        if one.of not in columns:
            raise SourceError(f"{key}.first_of: the source has no column {one.of!r}", hint=hint)
        if one.action not in columns:
            message = f"source.columns.action: the source has no column {one.action!r}, which {key} goes by"
            raise SourceError(message, hint=hint)
