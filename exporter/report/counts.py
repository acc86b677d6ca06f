"""What did not leave as it was: records that a filter left out, and values that were protected, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


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
    return f"{count:,} {word}" if count == 1 else f"{count:,} {word}s"
