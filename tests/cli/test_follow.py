"""`run --follow` as it runs in a Deployment: a real process, windows of a second, signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.kit.command_line import Vendor, rfc3339

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PATIENCE_S = 30


@pytest.fixture
def prompt(tmp_path: Path) -> Vendor:
    """One account with windows of a second, and no record yet."""
    made = Vendor(tmp_path)
    made.settings["defaults"] |= {"every": "1s", "grace": "0s", "start": rfc3339(now())}
    made.export("acme")
    made.start()
    return made


def now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


class Following:
    """The process, and the log lines that it has written so far."""

    def __init__(self, vendor: Vendor, *options: str) -> None:
        self._log = vendor.folder / "follow.log"
        command = [sys.executable, "-m", "exporter", "run", "--follow", "-c", str(vendor.config), *options]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)

    def log(self) -> list[dict[str, Any]]:
        """Whole lines alone: the last one may still be being written."""
        lines = self._log.read_text(encoding="utf-8").splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def said(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.log() if line["event"] == event]

    def until(self, holds: Callable[[], bool], what: str) -> None:
        """Wait until something holds, as long as the process lives."""
        deadline = time.monotonic() + PATIENCE_S
        while not holds():
            assert self.process.poll() is None, self._log.read_text(encoding="utf-8")
            assert time.monotonic() < deadline, f"{what}: {self._log.read_text(encoding='utf-8')}"
            time.sleep(0.05)

    def end(self) -> tuple[int, float]:
        """Ask it to end; its exit status, and how long it took."""
        started = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_S), time.monotonic() - started


@contextmanager
def following(vendor: Vendor, *options: str) -> Iterator[Following]:
    one = Following(vendor, *options)
    try:
        yield one
    finally:
        one.process.kill()
        one.process.communicate()


def delivered(one: Following) -> int:
    return sum(line["records"] for line in one.said("delivered"))


@pytest.mark.slow
def test_records_are_delivered_as_soon_as_their_window_is_over(prompt: Vendor) -> None:
    """Each within a few seconds of its insert, one after the other, by one process."""
    with following(prompt) as one:
        for number in range(1, 4):
            prompt.insert("acme", now())
            inserted = time.monotonic()
            one.until(lambda number=number: delivered(one) == number, f"record {number}")  # type: ignore[misc]
            assert time.monotonic() - inserted < 15
        status, _ = one.end()
    assert status == 0
    assert len({line["object"] for line in one.said("delivered")}) == 3


@pytest.mark.slow
def test_it_ends_at_once_while_it_waits(prompt: Vendor) -> None:
    """SIGTERM wakes it: with windows of a day, the next one is hours away."""
    prompt.settings["defaults"] |= {"every": "24h", "start": rfc3339(now() - timedelta(days=1))}
    prompt.write()
    with following(prompt) as one:
        one.until(lambda: bool(one.said("waiting")), "the first round")
        status, took_s = one.end()
    assert status == 0
    assert took_s < 5


@pytest.mark.slow
def test_what_changes_in_the_configuration_counts_from_the_next_round_on(prompt: Vendor) -> None:
    """A mistake is said and survived, a further export delivered, without a restart."""
    with following(prompt) as one:
        one.until(lambda: bool(one.said("run started")), "the first round")
        text = prompt.config.read_text(encoding="utf-8")
        replaced(prompt.config, text.replace("exports", "exprots"))
        one.until(lambda: any("exprots" in line["error"] for line in one.said("stopped")), "the mistake")
        prompt.settings["defaults"]["start"] = rfc3339(now())
        prompt.export("globex")
        replaced(prompt.config, json.dumps(prompt.settings))
        prompt.insert("globex", now())
        one.until(lambda: {"globex"} <= {line["account"] for line in one.said("delivered")}, "globex")
        assert one.end()[0] == 0


@pytest.mark.slow
def test_a_source_that_is_away_for_a_while_ends_a_round_and_not_the_process(prompt: Vendor) -> None:
    with following(prompt) as one:
        one.until(lambda: bool(one.said("run started")), "the first round")
        away = prompt.database.rename(prompt.database.with_name("away.db"))
        one.until(lambda: bool(one.said("stopped")), "the missing source")
        away.rename(prompt.database)
        prompt.insert("acme", now())
        one.until(lambda: delivered(one) == 1, "the record")
        assert one.end()[0] == 0


@pytest.mark.slow
def test_an_export_in_trouble_is_tried_no_more_often_than_it_should_be(prompt: Vendor) -> None:
    """Nothing spins: an export that nothing keeps from trying again at once is left alone for a minute."""
    prompt.insert("acme", now() - timedelta(seconds=1))
    prompt.settings["defaults"]["start"] = rfc3339(now() - timedelta(seconds=5))
    prompt.settings["source"]["columns"]["description"] = "missing"
    prompt.write()
    with following(prompt) as one:
        one.until(lambda: bool(one.said("waiting")), "the end of the round")
        (waiting,) = one.said("waiting")
        until = datetime.fromisoformat(waiting["until"])
        assert until - datetime.now(UTC) > timedelta(seconds=30)
        assert len(one.said("failed")) == 1
        assert one.end()[0] == 0


def test_a_configuration_that_is_wrong_from_the_beginning_ends_it(prompt: Vendor) -> None:
    """Somebody has to mend it: a pod that starts over and over says so."""
    prompt.settings["legder"] = prompt.settings.pop("ledger")
    prompt.write()
    answer = prompt("run", "--follow")
    assert answer.status == 2
    assert "legder" in answer.err


@pytest.mark.parametrize("option", [("--dry-run",), ("--as-of", "2026-01-01")])
def test_what_does_not_go_with_time_is_refused(prompt: Vendor, option: tuple[str, ...]) -> None:
    answer = prompt("run", "--follow", *option)
    assert answer.status == 2
    assert f"--follow goes on with time, and {option[0]} does not" in answer.err


def replaced(path: Path, text: str) -> None:
    """In one step, as a ConfigMap is: a round never reads half of it."""
    new = path.with_name("new")
    new.write_text(text, encoding="utf-8")
    os.replace(new, path)  # noqa: PTH105 - this is what it has to be: atomic
