"""A collector that is set up wrong, or hangs, and a person or a signal that does something about it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from tests.kit.command_line import DAY, START, Vendor
from tests.kit.hec_server import Hec, hec_server
from tests.kit.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RECORDS = 12


@pytest.fixture
def hec() -> Iterator[Hec]:
    with hec_server() as hec:
        yield hec


def vendor_of(folder: Path, hec: Hec, token: str, **settings: object) -> Vendor:
    """One account with records in two windows, whose events go out a few at a time."""
    made = Vendor(folder)
    made.export(
        "acme",
        destination={
            "type": "splunk_hec",
            "url": hec.url,
            "token": {"file": "token"},
            "index": "old",
            "batch": "1kB",
            **settings,
        },
    )
    (folder / "token").write_text(token, encoding="utf-8")
    for number in range(RECORDS):
        made.insert("acme", START + number * timedelta(hours=1))
    made.insert("acme", START + DAY)
    made.start()
    return made


def ids(hec: Hec, *indexes: str) -> list[int]:
    found = (json.loads(one.sent)["fields"]["event_id"] for index in indexes for one in hec.events(index))
    return [int(one) for one in found]


def test_an_index_that_goes_away_in_the_middle_is_corrected_and_resumed(tmp_path: Path, hec: Hec) -> None:
    """Nothing is lost, nothing comes twice, and the export goes on under the numbers that follow."""
    token = hec.new_token("old")
    vendor = vendor_of(tmp_path, hec, token)

    def remove(_request: object) -> None:
        if len(hec.requests()) == 3:
            hec.tokens[token].indexes = ("new",)

    hec.script = remove
    assert vendor("run").status == 10
    there = ids(hec, "old")
    assert 0 < len(there) < RECORDS
    assert "audit-exporter resume" in vendor.row("acme")["what_to_do"]

    vendor.settings["exports"][0]["destination"]["index"] = "new"
    assert vendor("run").status == 10  # what is planned stays as it was planned
    resumed = vendor("resume", "acme")
    assert "not in yet" in resumed.out
    assert vendor("run").status == 0, vendor.row("acme")
    assert ids(hec, "old") == there
    assert ids(hec, "old", "new") == list(range(1, RECORDS + 2))
    sequences = [json.loads(one.sent)["fields"]["sequence"] for one in hec.events("new")]
    assert set(sequences) == {2, 3}


@pytest.mark.slow
@pytest.mark.parametrize("words", [("run",), ("run", "--follow")], ids=" ".join)
def test_sigterm_ends_a_wait_for_acknowledgements(tmp_path: Path, hec: Hec, words: tuple[str, ...]) -> None:
    """Within seconds and not minutes; the next run sends what no indexer had."""
    vendor = vendor_of(tmp_path, hec, hec.new_token("old", acknowledged=True), acknowledge=True)
    hec.holding = True
    vendor.write()
    command = [sys.executable, "-m", "exporter", *words, "-c", str(vendor.config)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until("it asks for acknowledgements", lambda: bool(hec.requests("ack")))
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        assert time.monotonic() - began < 3
    finally:
        process.kill()
        process.wait()
    hec.holding = False
    hec.flush()
    assert vendor("run").status == 0
    assert set(ids(hec, "old")) == set(range(1, RECORDS + 2))
