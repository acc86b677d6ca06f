"""`check` of a collector sends its event where the format sends the records."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.kit.command_line import START, Vendor
from tests.kit.hec_server import hec_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.kit.hec_server import Hec

FORMAT = "about: One.\nenvelope: {envelope}\nfields: {{what: action}}\n"


@pytest.fixture
def hec() -> Iterator[Hec]:
    with hec_server() as hec:
        yield hec


def vendor_with(folder: Path, hec: Hec, *envelopes: str) -> Vendor:
    """An export of one account for each of these, to a token that may write to `main` and `audit`."""
    vendor = Vendor(folder)
    destination = {"type": "splunk_hec", "url": hec.url, "token": hec.new_token("main", "audit")}
    for number, envelope in enumerate(envelopes):
        (folder / f"f{number}.yaml").write_text(FORMAT.format(envelope=envelope))
        vendor.export("acme", name=f"e{number}", format=f"f{number}.yaml", destination=destination)
    vendor.insert("acme", START)
    vendor.start()
    return vendor


def test_an_index_of_the_format_that_the_token_may_not_write_to_is_found(tmp_path: Path, hec: Hec) -> None:
    """It would have said that all is well, and the run would have failed."""
    vendor = vendor_with(tmp_path, hec, "{index: =secure}")
    answer = vendor("check")
    assert answer.status == 10
    assert "Incorrect index" in answer.out


def test_each_format_has_its_own_event_and_its_own_place(tmp_path: Path, hec: Hec) -> None:
    """Two exports of one account to one collector, told apart by what their formats say."""
    vendor = vendor_with(tmp_path, hec, "{index: =audit, source: =one}", "{source: =two}")
    assert vendor("check").status == 0
    assert [(event.index, event.source) for event in hec.events("audit")] == [("audit", "one")]
    assert [event.source for event in hec.events("main")] == ["two"]
    assert vendor("run").status == 0
    assert [event.source for event in (*hec.events("audit"), *hec.events("main"))] == ["one"] * 2 + [
        "two"
    ] * 2


def test_an_index_that_each_record_names_is_said_to_be_unproved(tmp_path: Path, hec: Hec) -> None:
    vendor = vendor_with(tmp_path, hec, "{index: description}")
    answer = vendor("check")
    assert answer.status == 0
    assert "not proved" in answer.out.replace("\n", " ")
