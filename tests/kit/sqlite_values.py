"""What a column of SQLite may hold, whatever its declared type says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import strategies as st

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy


def values(texts: SearchStrategy[str]) -> SearchStrategy[object]:
    """NULL, these texts, integers to their limits, fractions, and blobs."""
    numbers = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    return st.none() | texts | numbers | st.binary(max_size=3)
