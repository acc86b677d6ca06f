"""A Splunk collector as the place of a crash: what it was sent, request by request."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from contextlib import closing
from typing import TYPE_CHECKING, Final

from tests.crash.promises import BrokenPromiseError
from tests.crash.world import ACCOUNTS, BEGIN, UNREADABLE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.crash.world import World
    from tests.kit.hec_server import Hec

BATCH: Final = "1500B"
"""Two or three events of a story: most deliveries have several batches."""


DUE: Final = "SELECT account_id, CAST(id AS TEXT) FROM audit_log WHERE created_at >= ? OR created_at = ?"


class Collector:
    """One token of a collector, for both customers."""

    def __init__(self, hec: Hec) -> None:
        self.hec = hec
        self.settings: Mapping[str, object] = {
            "type": "splunk_hec",
            "url": hec.url,
            "token": hec.new_token("main"),
            "index": "main",
            "batch": BATCH,
        }

    def objects(self) -> dict[str, bytes]:
        """It has none."""
        return {}

    def reset(self, _objects: Mapping[str, bytes]) -> None:
        """Nothing came yet."""
        with self.hec.lock:
            self.hec.seen.clear()

    def batches(self) -> list[list[str]]:
        """The ids of the events of each request, those of a check left out."""
        return [
            [json.loads(line)["fields"]["event_id"] for line in request.body.splitlines()]
            for request in self.hec.requests()
        ]


def check(world: World, place: Collector, deaths: int = 1) -> None:
    """Every record since the begin came; what came twice is one batch of each customer for each death."""
    with closing(sqlite3.connect(world.source)) as connection:
        rows = connection.execute(DUE, (f"{BEGIN:%Y-%m-%dT%H:%M:%S}", UNREADABLE)).fetchall()
    for account in ACCOUNTS:
        own = {record for name, record in rows if name == account}
        batches = [batch for batch in place.batches() if own & set(batch)]
        times = Counter(record for batch in batches for record in batch)
        if lost := own - set(times):
            raise BrokenPromiseError(f"{account}: {sorted(lost)} never came: {batches}")
        if set(times) - own:
            raise BrokenPromiseError(f"{account}: a batch holds somebody else's records: {batches}")
        again = [set(batch) & _before(batches, index) for index, batch in enumerate(batches)]
        if sum(map(bool, again)) > deaths:
            raise BrokenPromiseError(f"{account}: more than {deaths} batches came twice: {batches}")


def _before(batches: list[list[str]], index: int) -> set[str]:
    return {record for batch in batches[:index] for record in batch}
