"""The README says what the program says."""

from __future__ import annotations

from tests.readme import README, written


def test_the_generated_parts_of_the_readme_are_up_to_date() -> None:
    """`python -m tests.readme` would change nothing."""
    text = README.read_text(encoding="utf-8")
    assert written(text) == text


def test_the_readme_shows_what_the_program_printed() -> None:
    """No place in it still waits for output to be pasted."""
    text = README.read_text(encoding="utf-8")
    assert "DEMO_OUTPUT" not in text
    assert "TEST_OUTPUT" not in text
