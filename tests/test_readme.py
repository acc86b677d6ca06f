"""The README says what the program says."""

from __future__ import annotations

from tests.readme import README, written


def test_the_generated_parts_of_the_readme_are_up_to_date() -> None:
    """`python -m tests.readme` would change nothing."""
    text = README.read_text(encoding="utf-8")
    assert written(text) == text
