"""`deploy/siem` holds what the program prints, so that it can be read and copied without the program."""

from __future__ import annotations

from exporter.siem.consumers import CONSUMERS
from tests.siem.deployed import FOLDER, files


def test_the_files_are_what_the_program_prints() -> None:
    """`python -m tests.siem.deployed` would change nothing."""
    for name, text in files().items():
        assert (FOLDER / name).read_text(encoding="utf-8") == text, name


def test_no_file_of_a_consumer_is_left_of_what_it_printed_once() -> None:
    """Nor a folder of one that is none: beside the folders there are files alone."""
    there = {path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*") if path.is_file()}
    assert {path for path in there if "/" in path} == set(files())


def test_the_readme_has_a_row_for_each_consumer() -> None:
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert [name for name in CONSUMERS if f"| [{name}]({name}/) |" not in text] == []
