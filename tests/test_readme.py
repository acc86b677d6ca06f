"""The README says what the program says."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from exporter.formats.binding import Binder
from exporter.formats.conversions import CONVERSIONS
from exporter.formats.language import read_format
from tests.readme import README, written

if TYPE_CHECKING:
    from pathlib import Path


def test_the_generated_parts_of_the_readme_are_up_to_date() -> None:
    """`python -m tests.readme` would change nothing."""
    text = README.read_text(encoding="utf-8")
    assert written(text) == text


def test_the_readme_shows_what_the_program_printed() -> None:
    """No place in it still waits for output to be pasted."""
    text = README.read_text(encoding="utf-8")
    assert "DEMO_OUTPUT" not in text
    assert "TEST_OUTPUT" not in text


def test_the_format_in_the_readme_is_one_and_shows_all_of_the_language(tmp_path: Path) -> None:
    """Whoever copies it has a format, and has read of every conversion."""
    text = README.read_text(encoding="utf-8")
    (example,) = re.findall(r"```yaml\n(about:.*?)```", text, flags=re.DOTALL)
    file = tmp_path / "mine.yaml"
    file.write_text(example, encoding="utf-8")
    language = read_format(file)
    assert Binder({"time": "at"}, dict(language.parameters)).bound(language, None)["fields"]
    (listed,) = re.findall(r"^Conversions are (.*?)\.$", text, flags=re.MULTILINE | re.DOTALL)
    assert set(re.findall(r"`(\w+)`", listed)) == set(CONVERSIONS)
