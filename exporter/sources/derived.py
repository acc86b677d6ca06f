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

**What `check` says.** A filter's patterns fit `Login` as well as `login`, and an action here is one or the
other: a spelling that is not the source's would leave every record null, and nobody would notice. So some of
the newest records are looked at for the actions, and for other spellings of them.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Final

from exporter.errors import SourceError
from exporter.model import Finding, Level

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

    Actions = Iterable[tuple[bytes | None, int]]
    """The actions of some records in UTF-8, and how many have each."""

NEWEST: Final = 1_000
"""So many of an account's records are looked at."""
ACTION_BYTES: Final = 1_000
"""So much of an action is looked at."""
PATIENCE_S: Final = 5.0
"""So long they are looked for, and a last statement besides."""
_ACCOUNTS: Final = 10
_TRIED: Final = 100
_SHOWN: Final = 5


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


def action_findings(
    derived: Collection[FirstOf], accounts: Sequence[str], newest: Callable[[str, str], Actions]
) -> Iterator[Finding]:
    """Derived columns whose actions no record has, as far as was looked, or has in another spelling.

    ``newest`` is given a column of actions and an account, and gives those of up to ``NEWEST`` records.
    """
    seen = {action: _seen(action, accounts, newest) for action in {one.action for one in derived}}
    for one in derived:
        yield from _spelling(one, *seen[one.action])


def _seen(
    action: str, accounts: Sequence[str], newest: Callable[[str, str], Actions]
) -> tuple[int, Counter[bytes | None]]:
    """How many accounts were found to have records, and the actions of these."""
    deadline = monotonic() + PATIENCE_S
    found: Counter[bytes | None] = Counter()
    having = 0
    for account in accounts[:_TRIED]:
        if having == _ACCOUNTS or monotonic() > deadline:
            break
        before = found.total()
        for one, count in newest(action, account):
            found[one and one[:ACTION_BYTES]] += count
        having += found.total() > before
    return having, found


def _spelling(first: FirstOf, accounts: int, seen: Counter[bytes | None]) -> Iterator[Finding]:
    """Nothing where there is no record: other findings say so."""
    there = {action for action in seen if action is not None}
    listed = {action.encode(errors="surrogateescape")[:ACTION_BYTES] for action in first.actions}
    alike = {_folded(action) for action in listed}
    others = sorted(action for action in there - listed if _folded(action) in alike)
    key = f"source.derived.{first.name}.actions"
    if seen and not listed & there:
        looked = f"the newest {seen.total():,} records ({accounts} account{'' if accounts == 1 else 's'})"
        message = f"{first.name}: none of {looked} has one of its actions, {_named(listed)}"
        hint = f"fine where these are rare, as no more was looked at; else write {key} as the source does"
        if others:
            message += f"; there is {_named(others)}"
            hint = f"write {key} exactly as the source does: they are compared byte by byte"
        yield Finding("derived", Level.WARNING, message, hint)
    elif others:
        message = f"{first.name} is null for {_named(others)}, which is not {_named(listed)} byte by byte"
        yield Finding("derived", Level.WARNING, message, f"if it is to count as well, add it to {key}")


def _folded(action: bytes) -> str:
    return action.decode(errors="replace").strip().casefold()


def _named(actions: Collection[bytes]) -> str:
    names = [repr(action.decode(errors="replace")) for action in sorted(actions)[:_SHOWN]]
    more = f" and {len(actions) - _SHOWN} more" if len(actions) > _SHOWN else ""
    return ", ".join(names) + more
