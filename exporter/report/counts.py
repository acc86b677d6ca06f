"""Numbers of things in words, many names in few, and what did not leave as it was."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def withheld(filtered: int, protected: Mapping[str, int]) -> str:
    """Such as `12 records filtered out; 20 values protected: email pseudonymise 17, secrets 3`."""
    said = []
    if filtered:
        said.append(f"{number(filtered, 'record')} filtered out")
    if protected:
        each = ", ".join(f"{what} {count:,}" for what, count in sorted(protected.items()))
        said.append(f"{number(sum(protected.values()), 'value')} protected: {each}")
    return "; ".join(said)


def number(count: int, word: str) -> str:
    """A number of things."""
    return f"{count:,} {word}" if count == 1 else f"{count:,} {plural(word)}"


def plural(word: str) -> str:
    """More than one of a thing."""
    return f"{word.removesuffix('y')}ies" if word.endswith("y") else f"{word}s"


def listed(names: Sequence[str], most: int = 20) -> str:
    """The first of some names, and how many more there are."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
